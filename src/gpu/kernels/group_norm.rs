//! GroupNorm of the VAE, on channels-last video.
//!
//! [`group_norm_affine`] gives the statistics as one scale and shift a channel, so that the next convolution can normalise while
//! it reads; [`group_norm`] is the whole operation, with SiLU if asked for, and has a gradient of three passes: sums, what they
//! say about a group, and the input's gradient (the division into passes follows the recipe's `fused_norm.py`).

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Tensor, TensorData};

use super::cpu::group_norm as on_cpu;
use super::cpu::group_norm::{ChannelAffine, GroupNormError, GroupNormShape, Statistics};
use super::cpu::lanes::InstructionSet;
use super::launch::{self, KernelError};
use super::values;

pub mod shaders;

/// Groups of every norm of the VAE, fixed by the reference.
pub const GROUPS: usize = 32;
/// Added to the variance, as the reference.
pub const EPSILON: f64 = 1e-6;

#[backend_extension(Cube, Flex)]
pub(crate) trait GroupNormStatistics: Backend {
    fn group_norm_affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
    ) -> FloatTensor<Self>;
}

#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait GroupNormKernel: Backend {
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
        with_silu: bool,
    ) -> FloatTensor<Self>;
}

/// What the operation and its gradient are made of.
pub(crate) trait GroupNormParts: Backend {
    /// Scale and shift, and mean and inverse deviation, `[batch, 2, channels]` each.
    fn statistics(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
    ) -> [FloatTensor<Self>; 2];
    fn normalise(x: FloatTensor<Self>, affine: FloatTensor<Self>, with_silu: bool) -> FloatTensor<Self>;
    /// The gradients of the input, the weight and the bias.
    fn gradients(state: Forward<Self>, gradient: FloatTensor<Self>) -> [FloatTensor<Self>; 3];
}

/// What the way back needs from the way there.
#[derive(Clone, Debug)]
pub(crate) struct Forward<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    affine: FloatTensor<B>,
    moments: FloatTensor<B>,
    groups: usize,
    with_silu: bool,
}

/// Scale and shift `[batch, 2, channels]` in f32 such that `x * scale + shift` is the GroupNorm of `x`
/// `[batch, frames, height, width, channels]` with the affine `weight` and `bias` (f32); statistics run over frames too. It has
/// no gradient: [`group_norm`] has.
pub fn group_norm_affine(x: Tensor<5>, weight: Tensor<1>, bias: Tensor<1>) -> Tensor<3> {
    affine(x, weight, bias, GROUPS)
}

/// As [`group_norm_affine`] with a group for every channel.
pub fn channel_norm_affine(x: Tensor<5>, weight: Tensor<1>, bias: Tensor<1>) -> Tensor<3> {
    let [_, _, _, _, channels] = x.dims();
    affine(x, weight, bias, channels)
}

fn affine(x: Tensor<5>, weight: Tensor<1>, bias: Tensor<1>, groups: usize) -> Tensor<3> {
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::group_norm_affine(x, weight, bias, groups))
}

/// The GroupNorm of `x` `[batch, frames, height, width, channels]` in its storage type, with the affine `weight` and `bias`
/// (f32), and then SiLU if `with_silu`; statistics run over frames too.
pub fn group_norm(x: Tensor<5>, weight: Tensor<1>, bias: Tensor<1>, with_silu: bool) -> Tensor<5> {
    normalised(x, weight, bias, GROUPS, with_silu)
}

/// As [`group_norm`] with a group for every channel; over clips that are laid one behind the other it is a norm of the batch.
pub fn channel_norm(x: Tensor<5>, weight: Tensor<1>, bias: Tensor<1>, with_silu: bool) -> Tensor<5> {
    let [_, _, _, _, channels] = x.dims();
    normalised(x, weight, bias, channels, with_silu)
}

fn normalised(x: Tensor<5>, weight: Tensor<1>, bias: Tensor<1>, groups: usize, with_silu: bool) -> Tensor<5> {
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::group_norm(x, weight, bias, groups, with_silu))
}

impl GroupNormStatistics for CubeBackend {
    fn group_norm_affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
    ) -> FloatTensor<Self> {
        let [affine, _] = Self::statistics(x, weight, bias, groups);
        affine
    }
}

impl GroupNormStatistics for Flex {
    fn group_norm_affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
    ) -> FloatTensor<Self> {
        let shape = shape_of(&x, groups);
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        let (set, over) = (InstructionSet::best(), Statistics::Clip);
        let affine = done(on_cpu::group_norm(set, &shape, over, values(&x), values(&weight), values(&bias), EPSILON));
        FlexTensor::from_data(TensorData::new(affine, [shape.batch, 2, shape.channels]))
    }
}

impl GroupNormParts for CubeBackend {
    fn statistics(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
    ) -> [FloatTensor<Self>; 2] {
        let dtype = x.dtype;
        let x = launch::row_major(x, dtype);
        let [weight, bias] = [weight, bias].map(|tensor| launch::row_major(tensor, DType::F32));
        shaders::statistics(&x, &weight, &bias, groups)
    }

    fn normalise(x: FloatTensor<Self>, affine: FloatTensor<Self>, with_silu: bool) -> FloatTensor<Self> {
        let dtype = x.dtype;
        shaders::normalise(&launch::row_major(x, dtype), &affine, with_silu)
    }

    fn gradients(state: Forward<Self>, gradient: FloatTensor<Self>) -> [FloatTensor<Self>; 3] {
        let Forward { x, weight, affine, moments, groups, with_silu } = state;
        let dtype = x.dtype;
        let [x, gradient] = [x, gradient].map(|tensor| launch::row_major(tensor, dtype));
        let weight = launch::row_major(weight, DType::F32);
        shaders::gradients([&x, &gradient, &weight], [&affine, &moments], groups, with_silu)
    }
}

impl GroupNormParts for Flex {
    fn statistics(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
    ) -> [FloatTensor<Self>; 2] {
        let shape = shape_of(&x, groups);
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        let (affine, moments) = done(on_cpu::statistics(&shape, values(&x), values(&weight), values(&bias), EPSILON));
        [affine, moments].map(|rows| FlexTensor::from_data(TensorData::new(rows, [shape.batch, 2, shape.channels])))
    }

    fn normalise(x: FloatTensor<Self>, affine: FloatTensor<Self>, with_silu: bool) -> FloatTensor<Self> {
        let (shape, dims) = (shape_of(&x, GROUPS), x.layout().shape().clone());
        let (x, affine) = (x.to_contiguous(), affine.to_contiguous());
        let affine = ChannelAffine { values: values(&affine), frame_groups: 1, silu: with_silu };
        let mut output = vec![0.0; shape.len()];
        done(on_cpu::apply(InstructionSet::best(), &shape, values(&x), &affine, &mut output));
        FlexTensor::from_data(TensorData::new(output, dims))
    }

    fn gradients(state: Forward<Self>, gradient: FloatTensor<Self>) -> [FloatTensor<Self>; 3] {
        let Forward { x, weight, affine, moments, groups, with_silu } = state;
        let (shape, dims) = (shape_of(&x, groups), x.layout().shape().clone());
        let [x, weight, affine, moments, gradient] = [x, weight, affine, moments, gradient].map(|tensor| tensor.to_contiguous());
        let forward = on_cpu::Normalised {
            input: values(&x),
            weight: values(&weight),
            affine: ChannelAffine { values: values(&affine), frame_groups: 1, silu: with_silu },
            moments: values(&moments),
        };
        let (back, of_weight, of_bias) = on_cpu::gradients(&shape, &forward, values(&gradient));
        let parameter = |values: Vec<f32>| FlexTensor::from_data(TensorData::new(values, [shape.channels]));
        [FlexTensor::from_data(TensorData::new(back, dims)), parameter(of_weight), parameter(of_bias)]
    }
}

fn shape_of(x: &FlexTensor, groups: usize) -> GroupNormShape {
    let [batch, frames, height, width, channels]: [usize; 5] = x.layout().shape().dims();
    GroupNormShape { batch, frames, pixels: height * width, channels, groups }
}

fn done<T>(result: Result<T, GroupNormError>) -> T {
    result.unwrap_or_else(|error| {
        std::panic::panic_any(KernelError { kernel: "group_norm", reason: error.to_string() });
    })
}

fn forward<B: GroupNormParts>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    groups: usize,
    with_silu: bool,
) -> (FloatTensor<B>, Forward<B>) {
    let [affine, moments] = B::statistics(x.clone(), weight.clone(), bias, groups);
    let y = B::normalise(x.clone(), affine.clone(), with_silu);
    (y, Forward { x, weight, affine, moments, groups, with_silu })
}

impl GroupNormKernel for CubeBackend {
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
        with_silu: bool,
    ) -> FloatTensor<Self> {
        forward::<Self>(x, weight, bias, groups, with_silu).0
    }
}

impl GroupNormKernel for Flex {
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
        with_silu: bool,
    ) -> FloatTensor<Self> {
        forward::<Self>(x, weight, bias, groups, with_silu).0
    }
}

impl<B: Backend + GroupNormKernel + GroupNormParts, C: CheckpointStrategy> GroupNormKernel for Autodiff<B, C> {
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
        with_silu: bool,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.into_primitive());
        match GroupNormStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (y, state) = forward::<B>(x, weight, bias, groups, with_silu);
                prep.finish(state, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::group_norm(x, weight, bias, groups, with_silu)),
        }
    }
}

/// The way back through GroupNorm and SiLU: parents are the input, the weight and the bias.
#[derive(Debug)]
struct GroupNormStep;

impl<B: GroupNormParts> Backward<B, 3> for GroupNormStep {
    type State = Forward<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let gradients = B::gradients(ops.state, gradient);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
