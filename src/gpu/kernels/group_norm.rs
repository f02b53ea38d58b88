//! The statistics of GroupNorm as one scale and shift a channel, so that the next convolution can normalise while it reads.

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{FloatDType, Tensor, TensorData};

use super::cpu::group_norm::{GroupNormShape, Statistics, group_norm};
use super::cpu::lanes::InstructionSet;
use super::launch::KernelError;
use super::values;

/// Groups of every norm of the VAE, fixed by the reference.
pub const GROUPS: usize = 32;
/// Added to the variance, as the reference.
pub const EPSILON: f64 = 1e-6;

#[backend_extension(Cube, Flex)]
pub(crate) trait GroupNormKernel: Backend {
    fn group_norm_affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// Scale and shift `[batch, 2, channels]` in f32 such that `x * scale + shift` is the GroupNorm of `x`
/// `[batch, frames, height, width, channels]` with the affine `weight` and `bias`; statistics run over frames too.
pub fn group_norm_affine(x: Tensor<5>, weight: Tensor<1>, bias: Tensor<1>) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::group_norm_affine(x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()))
}

/// From burn's own operations, for adapters.
fn composed(x: Tensor<5>, weight: Tensor<1>, bias: Tensor<1>) -> Tensor<3> {
    let [batch, _, _, _, channels] = x.dims();
    let members = channels / GROUPS;
    let x = x.cast(FloatDType::F32);
    // Mean of the pixels, then of the group's channels; the variance around that mean, so that nothing cancels. One axis after
    // the other: a reduction has one thread a result, and over all pixels at once it would have only as many as channels.
    let over_group = |x: Tensor<5>| -> Tensor<3> {
        let groups: Tensor<4> = x.mean_dim(3).mean_dim(2).mean_dim(1).reshape([batch, 1, GROUPS, members]);
        groups.mean_dim(3).expand([batch, 1, GROUPS, members]).reshape([batch, 1, channels])
    };
    let mean = over_group(x.clone());
    let centred = x - mean.clone().reshape([batch, 1, 1, 1, channels]);
    let variance = over_group(centred.clone() * centred);
    let scale = (variance + EPSILON).sqrt().recip() * weight.reshape([1, 1, channels]);
    let shift = -mean * scale.clone() + bias.reshape([1, 1, channels]);
    Tensor::cat(vec![scale, shift], 1)
}

impl GroupNormKernel for CubeBackend {
    fn group_norm_affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let affine = composed(
            Tensor::from_primitive::<Self>(x),
            Tensor::from_primitive::<Self>(weight),
            Tensor::from_primitive::<Self>(bias),
        );
        affine.try_into_primitive::<Self>().expect("a tensor stays on its backend")
    }
}

impl GroupNormKernel for Flex {
    fn group_norm_affine(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let [batch, frames, height, width, channels]: [usize; 5] = x.layout().shape().dims();
        let shape = GroupNormShape { batch, frames, pixels: height * width, channels, groups: GROUPS };
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        let (set, over) = (InstructionSet::best(), Statistics::Clip);
        match group_norm(set, &shape, over, values(&x), values(&weight), values(&bias), EPSILON) {
            Ok(affine) => FlexTensor::from_data(TensorData::new(affine, [batch, 2, channels])),
            Err(error) => std::panic::panic_any(KernelError { kernel: "group_norm", reason: error.to_string() }),
        }
    }
}
