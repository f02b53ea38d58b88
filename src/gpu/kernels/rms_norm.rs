//! The norm of T5, by the root mean square, and its gradient. It shares the shaders of
//! [`norm_modulate`](super::norm_modulate): its weight is a table of one row for a batch of one clip.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Shape, Tensor, TensorData};

use super::cpu::lanes::InstructionSet;
use super::cpu::rms_norm::{rms_norm as on_cpu, rms_norm_gradient as gradient_on_cpu};
use super::launch::{self, Shader, ShaderCall};
use super::norm_modulate::{self, ShiftAndScale};
use super::rows::{RowCut, column_sums};
use super::values;
use crate::gpu::shader::Variant;

#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait RmsNormKernel: Backend {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64, stored: DType) -> FloatTensor<Self>;
}

/// What the backward pass asks of a backend; it has no gradient itself.
pub(crate) trait RmsNormGradient: Backend {
    /// The gradients of `x` and of the weight.
    fn rms_norm_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// `x / sqrt(mean of x^2 + epsilon) * weight` over the last axis of `x` `[batch, tokens, width]`. Both are f32, and so is the
/// arithmetic; the result is stored as `stored`, f16 or f32. (`T5LayerNorm` of the reference.)
pub fn rms_norm(x: Tensor<3>, weight: Tensor<1>, epsilon: f64, stored: DType) -> Tensor<3> {
    assert_eq!(x.dims()[2], weight.dims()[0], "the weight does not fit the tokens");
    Tensor::from_dispatch(Dispatch::rms_norm(x.into_dispatch(), weight.into_dispatch(), epsilon, stored))
}

pub fn shader(cut: RowCut) -> Shader {
    let variant = cut.put_into(Variant::default());
    Shader { name: "rms_norm", variant, ..norm_modulate::shader(cut) }
}

pub fn gradient_shader(cut: RowCut) -> Shader {
    let variant = cut.put_into(Variant::default()).value("quantities", 1);
    Shader { name: "rms_norm_gradient", variant, ..norm_modulate::gradient_shader(cut, false) }
}

/// The one row of the weight as a table.
const WEIGHT: ShiftAndScale = ShiftAndScale { shift: 0, scale: 0 };

impl RmsNormKernel for CubeBackend {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64, stored: DType) -> FloatTensor<Self> {
        let [x, weight] = [x, weight].map(|tensor| launch::row_major(tensor, DType::F32));
        let [batch, tokens, width]: [usize; 3] = x.meta.shape().dims();
        let output = launch::empty(&x, x.meta.shape().clone(), stored);
        let cut = RowCut::of(stored, width);
        let call = norm_modulate::shader_call(cut, [1, batch * tokens], 1, WEIGHT, epsilon);
        launch::launch(ShaderCall { shader: shader(cut), ..call }, &[&x, &weight], &[&output]);
        output
    }
}

impl RmsNormGradient for CubeBackend {
    fn rms_norm_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [x, weight] = [x, weight].map(|tensor| launch::row_major(tensor, DType::F32));
        let stored = gradient.dtype;
        let gradient = launch::row_major(gradient, stored);
        let [batch, tokens, width]: [usize; 3] = x.meta.shape().dims();
        let cut = RowCut::of(stored, width);
        let (call, chunks) = norm_modulate::gradient_shader_call(cut, [1, batch * tokens], 1, WEIGHT.scale, epsilon, false);
        let x_gradient = launch::empty(&x, x.meta.shape().clone(), DType::F32);
        let sums = launch::empty(&x, Shape::new([1, chunks, 1, width]), DType::F32);
        let call = ShaderCall { shader: gradient_shader(cut), ..call };
        launch::launch(call, &[&x, &weight, &gradient], &[&x_gradient, &sums]);
        let weight_gradient = column_sums(&sums, 1, &[WEIGHT.scale]);
        (x_gradient, Self::float_reshape(weight_gradient, Shape::new([width])))
    }
}

impl RmsNormKernel for Flex {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64, _stored: DType) -> FloatTensor<Self> {
        let shape = x.layout().shape().clone();
        let [x, weight] = [x, weight].map(|tensor| tensor.to_contiguous());
        let mut output = vec![0.0; shape.num_elements()];
        on_cpu(InstructionSet::best(), epsilon as f32, values(&x), values(&weight), &mut output);
        FlexTensor::from_data(TensorData::new(output, shape))
    }
}

impl RmsNormGradient for Flex {
    fn rms_norm_gradient(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [x_shape, weight_shape] = [&x, &weight].map(|tensor| tensor.layout().shape().clone());
        let [x, weight, gradient] = [x, weight, gradient].map(|tensor| tensor.to_contiguous());
        let (x_gradient, weight_gradient) =
            gradient_on_cpu(InstructionSet::best(), epsilon as f32, values(&x), values(&weight), values(&gradient));
        let tensor = |values, shape| FlexTensor::from_data(TensorData::new(values, shape));
        (tensor(x_gradient, x_shape), tensor(weight_gradient, weight_shape))
    }
}

#[derive(Debug)]
struct RmsNormBackward;

impl<B: RmsNormGradient> Backward<B, 2> for RmsNormBackward {
    /// `x`, the weight, and epsilon.
    type State = (NodeId, NodeId, f64);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (x, weight, epsilon) = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
        let weight: FloatTensor<B> = checkpointer.retrieve_node_output(weight);
        let (x_gradient, weight_gradient) = B::rms_norm_gradient(x, weight, gradient, epsilon);
        for (parent, gradient) in ops.parents.into_iter().zip([x_gradient, weight_gradient]) {
            if let Some(parent) = parent {
                gradients.register::<B>(parent.id, gradient);
            }
        }
    }
}

impl<B: RmsNormKernel + RmsNormGradient, C: CheckpointStrategy> RmsNormKernel for Autodiff<B, C> {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64, stored: DType) -> FloatTensor<Self> {
        match RmsNormBackward.prepare::<C>([x.node(), weight.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut preparation) => {
                let state = (preparation.checkpoint(&x), preparation.checkpoint(&weight), epsilon);
                let output = B::rms_norm(x.into_primitive(), weight.into_primitive(), epsilon, stored);
                preparation.finish(state, output)
            }
            OpsKind::UnTracked(preparation) => {
                preparation.finish(B::rms_norm(x.into_primitive(), weight.into_primitive(), epsilon, stored))
            }
        }
    }
}
