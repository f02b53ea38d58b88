//! How long the self-attention of a mask takes on a device: measured, not reckoned.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};

use crate::gpu::device::ComputeDevice;
use crate::gpu::kernels::tile_attention::{Tiles, tile_attention};
use crate::mask::KeyFrames;

/// Of the fastest one counts: whatever else the machine does only makes them slower.
const SAMPLES: usize = 5;
/// What a sample's launches are to take together, in seconds: far more than the wait at their end.
const SAMPLE_SECONDS: f64 = 0.02;
const MOST_LAUNCHES: usize = 200;

/// The self-attention of one layer for one clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    pub heads: usize,
    /// Channels of a head.
    pub head: usize,
    pub frame_tokens: usize,
}

impl AttentionShape {
    /// Milliseconds of the kernel with these masks, one after the other, over random tokens.
    ///
    /// # Errors
    /// What the device says.
    pub fn millis(self, masks: &[Arc<KeyFrames>], device: &ComputeDevice) -> Result<Vec<f64>, String> {
        masks.iter().map(|mask| self.of(mask, device)).collect()
    }

    fn of(self, mask: &Arc<KeyFrames>, device: &ComputeDevice) -> Result<f64, String> {
        let Self { heads, head, frame_tokens } = self;
        let tokens = mask.query_frames() * frame_tokens;
        let random = || -> Tensor<4> {
            let options = (&device.device, device.precision.dtype().into());
            Tensor::random([1, heads, tokens, head], Distribution::Uniform(-1.0, 1.0), options)
        };
        let (query, key, value) = (random(), random(), random());
        let tiles = Tiles { key_frames: mask.clone(), query_tokens: frame_tokens, key_tokens: frame_tokens };
        let sample = |launches: usize| -> Result<f64, String> {
            let started = Instant::now();
            for _ in 0..launches {
                drop(tile_attention(query.clone(), key.clone(), value.clone(), None, tiles.clone()));
            }
            wait(&device.device)?;
            Ok(started.elapsed().as_secs_f64() / launches as f64)
        };
        wait(&device.device)?;
        // The first launch compiles.
        sample(1)?;
        let launches = ((SAMPLE_SECONDS / sample(1)?.max(1e-9)).ceil() as usize).clamp(1, MOST_LAUNCHES);
        let fastest = (0..SAMPLES).map(|_| sample(launches)).try_fold(f64::INFINITY, |best: f64, seconds| Ok(best.min(seconds?)));
        fastest.map(|seconds: f64| seconds * 1000.0)
    }
}

fn wait(device: &Device) -> Result<(), String> {
    device.sync().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{self, DeviceChoice};

    #[test]
    fn every_mask_gets_a_time() {
        let device = device::open(&DeviceChoice::Cpu, None).expect("the CPU");
        let masks = [Arc::new(KeyFrames::dense(2)), Arc::new(KeyFrames::dense(1))];
        let millis = AttentionShape { heads: 2, head: 8, frame_tokens: 6 }.millis(&masks, &device).expect("times");
        assert!(millis.len() == 2 && millis.iter().all(|millis| *millis > 0.0 && millis.is_finite()), "{millis:?}");
    }
}
