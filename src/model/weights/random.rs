//! Random parameters, made where they are used: a network of the published size without its file of many gigabytes.
//!
//! Measurements need weights of the right shapes and of sane sizes, not of a meaning. On an adapter they are drawn on the
//! adapter, so that 2.8 billion parameters take a second and no memory of the program.

use burn::module::Param;
use burn::tensor::{Device, Distribution, FloatDType, Tensor};

use crate::gpu::device::ComputeDevice;

/// Half of the range of biases, tables and scales of norms.
const SMALL: f64 = 0.1;

/// Draws parameters in the order in which a network asks for them.
#[derive(Debug, Default)]
pub(super) struct RandomWeights {
    parameters: usize,
}

impl RandomWeights {
    /// The same `seed` gives the same parameters on the same kind of device.
    pub(super) fn new(device: &ComputeDevice, seed: u64) -> Self {
        device.device.seed(seed);
        Self { parameters: 0 }
    }

    /// The weight of a layer that sums over `fan_in` values: such that unit inputs give unit outputs.
    pub(super) fn weight<const D: usize>(
        &mut self,
        shape: [usize; D],
        fan_in: usize,
        dtype: FloatDType,
        device: &Device,
    ) -> Param<Tensor<D>> {
        self.uniform(shape, (3.0 / fan_in as f64).sqrt(), dtype, device)
    }

    /// A bias, a table, or the scale of a norm.
    pub(super) fn small<const D: usize>(&mut self, shape: [usize; D], dtype: FloatDType, device: &Device) -> Param<Tensor<D>> {
        self.uniform(shape, SMALL, dtype, device)
    }

    /// Values that stay in the program's memory.
    pub(super) fn values(&mut self, shape: &[usize]) -> Vec<f32> {
        let count = shape.iter().product::<usize>();
        self.parameters += count;
        // SplitMix64, as the noise of a clip.
        let mut state = self.parameters as u64;
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0 // [-1, 1)
        };
        (0..count).map(|_| SMALL as f32 * next()).collect()
    }

    fn uniform<const D: usize>(&mut self, shape: [usize; D], bound: f64, dtype: FloatDType, device: &Device) -> Param<Tensor<D>> {
        self.parameters += shape.iter().product::<usize>();
        Param::from_tensor(Tensor::random(shape, Distribution::Uniform(-bound, bound), (device, dtype.into())))
    }
}
