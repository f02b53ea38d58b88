//! Launches that are recorded once and played back: what a launch costs the host, its pipeline, its bindings and its words of
//! information, is then settled, and a small network on a fast GPU is no longer as slow as its launches.
//!
//! burn records on adapters (cubecl's graphs, which on wgpu are prepared dispatches). A recording reads and writes the very
//! buffers that it was made with, so inputs are rewritten in place ([`rewrite`]). `TILEREEL_REPLAY` is `off`, or
//! `always` for work that takes longer than its launches too.

use std::fmt;

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Bytes, DType, Graph, Tensor, TensorData, capture};

use super::device::ComputeDevice;

const SWITCH: &str = "TILEREEL_REPLAY";

/// Work that takes longer is not bound by its launches, and what is played back is one submit, which must not be long
/// ([`super::pace`]).
const LONGEST_SECONDS: f64 = 0.04;

/// How long the work may take that is recorded.
pub fn longest_seconds() -> f64 {
    match std::env::var(SWITCH).as_deref() {
        Ok("off") => 0.0,
        Ok("always") => f64::INFINITY,
        _ => LONGEST_SECONDS,
    }
}

type Work = Box<dyn FnMut() -> Tensor<5>>;

/// Recorded launches, and what they leave.
pub struct Replay {
    graph: Graph<Tensor<5>, Work>,
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").finish_non_exhaustive()
    }
}

impl Replay {
    /// Runs `work` some times, and records its launches. It must own every tensor that it reads, and may not send or read values.
    /// None where the device does not record.
    pub fn record(device: &ComputeDevice, work: impl FnMut() -> Tensor<5> + 'static) -> Option<Self> {
        if device.is_cpu() {
            return None;
        }
        let graph = capture(&device.device, Box::new(work) as Work);
        graph.is_hardware().then_some(Self { graph })
    }

    /// Plays the launches back; what they leave is overwritten by the next time. To be called on the thread that recorded.
    pub fn run(&mut self) -> Tensor<5> {
        // SAFETY: the work is owned by the graph and owns what it reads, so that every buffer lives as long as the graph does; the
        // engine has one thread for a device, on whose stream inputs are rewritten and results are read.
        unsafe { self.graph.replay() }.clone()
    }
}

/// Values for a tensor that is there already.
#[derive(Clone, Debug)]
pub(crate) struct Values(Vec<f32>);

#[backend_extension(Cube, Flex)]
pub(crate) trait RewriteKernel: Backend {
    fn rewrite(tensor: FloatTensor<Self>, values: Values) -> FloatTensor<Self>;
}

/// Writes other values into the memory of an f32 tensor, which all that hold it see.
pub fn rewrite<const D: usize>(tensor: &Tensor<D>, values: Vec<f32>) {
    assert_eq!(tensor.dtype(), DType::F32, "values are rewritten as they lie in memory");
    assert_eq!(tensor.dims().iter().product::<usize>(), values.len(), "as many values as the tensor has");
    drop(Tensor::<D>::from_dispatch(Dispatch::rewrite(tensor.clone().into_dispatch(), Values(values))));
}

impl RewriteKernel for CubeBackend {
    fn rewrite(tensor: FloatTensor<Self>, values: Values) -> FloatTensor<Self> {
        tensor.client.write(&tensor.handle, Bytes::from_elems(values.0));
        tensor
    }
}

impl RewriteKernel for Flex {
    fn rewrite(tensor: FloatTensor<Self>, values: Values) -> FloatTensor<Self> {
        // Nothing is recorded there, so nobody holds the other one.
        FlexTensor::from_data(TensorData::new(values.0, tensor.shape()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{DeviceChoice, adapters, open};
    use crate::gpu::kernels::reference::seeded;

    #[test]
    fn what_is_played_back_reads_what_was_rewritten() {
        let cpu = open(&DeviceChoice::Cpu, None).unwrap();
        let ones = Tensor::<5>::ones([1, 2, 3, 4, 5], &cpu.device);
        assert!(Replay::record(&cpu, move || ones.clone()).is_none(), "the CPU has no launches");

        let Some(adapter) = adapters().into_iter().next() else { return };
        let device = open(&DeviceChoice::Index(adapter.index), None).unwrap();
        let input = Tensor::<5>::ones([1, 2, 3, 4, 5], &device.device);
        let own = input.clone();
        let mut replay = Replay::record(&device, move || (own.clone() * 2.0 + 1.0) * own.clone()).expect("a recording");
        for seed in 0..3 {
            let values = seeded(seed, 120);
            rewrite(&input, values.clone());
            // Memory that the recording's own values could have been given up to.
            let other = Tensor::<5>::ones([1, 2, 3, 4, 5], &device.device) * 7.0;
            let got: Vec<f32> = replay.run().try_into_vec_as().unwrap();
            let want: Vec<f32> = values.iter().map(|value| (value * 2.0 + 1.0) * value).collect();
            assert_eq!(got, want);
            let other: Vec<f32> = other.try_into_vec_as().unwrap();
            assert!(other.iter().all(|&value| value == 7.0), "a recording keeps to its own memory");
        }
    }
}
