//! How fast bytes move between a device and the program's memory.

use std::time::{Duration, Instant};

use burn::tensor::{Distribution, FloatDType, Tensor};

use super::group::{Group, RankError};
use super::transport::in_process;
use crate::gpu::device::ComputeDevice;
use crate::gpu::upload::Uploader;

/// Bytes a second, the fastest of some copies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bandwidth {
    pub read: f64,
    pub write: f64,
    /// Of the smallest copy from the device.
    pub round_trip_seconds: f64,
}

const SAMPLES: usize = 8;
/// About what a layer sends at 720p.
const VALUES: usize = 16 << 20;

/// Measures a device as a group uses it.
///
/// # Errors
/// The device failed.
pub fn bandwidth(device: &ComputeDevice) -> Result<Bandwidth, RankError> {
    let ends = in_process(1);
    let uploader = Uploader::new(device);
    let group = Group::new(&*ends[0], &[0], 0, Duration::ZERO, device, &uploader);
    let failed = |error: burn::tensor::ExecutionError| RankError::Device(error.to_string());
    let random = |values: usize| -> Tensor<1> {
        let options = (&device.device, FloatDType::F32.into());
        Tensor::random([values], Distribution::Uniform(-1.0, 1.0), options)
    };
    let (values, one) = (random(VALUES), random(1));
    let bytes = (VALUES * size_of::<f32>()) as f64;
    let mut fastest = [f64::INFINITY; 3];
    for _ in 0..SAMPLES {
        device.device.sync().map_err(failed)?;
        let started = Instant::now();
        let mut read = group.start_reading([values.clone()]).wait()?;
        let read_seconds = started.elapsed().as_secs_f64();
        let Some(read) = read.pop() else { return Err(RankError::Device("nothing was read".into())) };
        let started = Instant::now();
        let written: Tensor<1> = group.upload(read, [VALUES], values.dtype())?;
        device.device.sync().map_err(failed)?;
        let write_seconds = started.elapsed().as_secs_f64();
        drop(written);
        let started = Instant::now();
        group.start_reading([one.clone()]).wait()?;
        let times = [read_seconds, write_seconds, started.elapsed().as_secs_f64()];
        fastest.iter_mut().zip(times).for_each(|(fastest, seconds)| *fastest = fastest.min(seconds));
    }
    let [read, write, round_trip_seconds] = fastest;
    Ok(Bandwidth { read: bytes / read, write: bytes / write, round_trip_seconds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{DeviceChoice, open};

    #[test]
    fn copies_take_time() {
        let found = bandwidth(&open(&DeviceChoice::Cpu, None).unwrap()).unwrap();
        assert!(found.write > 0.0 && found.round_trip_seconds >= 0.0, "{found:?}");
    }
}
