//! GELU in its tanh form, the activation between the layers of the transformer, and its gradient.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};

use super::cpu::gelu::{gelu_tanh as on_cpu, gelu_tanh_gradient as gradient_on_cpu};
use super::cpu::lanes::InstructionSet;
use super::launch::{self, Shader, ShaderCall, Vectors};
use super::values;
use crate::gpu::shader::Variant;

#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait GeluKernel: Backend {
    fn gelu_tanh(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// What the backward pass asks of a backend; it has no gradient itself.
pub(crate) trait GeluGradient: Backend {
    /// `gradient * gelu_tanh'(x)`.
    fn gelu_tanh_gradient(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))` in the storage type of `x`.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::gelu_tanh(x.into_dispatch()))
}

const WORKGROUP_SIZE: u32 = 256;

pub fn shader(vectors: Vectors, gradient: bool) -> Shader {
    Shader {
        name: "gelu",
        template: include_str!("../../../shaders/transformer/gelu.wgsl"),
        variant: vectors.put_into(Variant::default()).switch("gradient", gradient),
        workgroup_size: WORKGROUP_SIZE,
        constants: &[("THREADS", WORKGROUP_SIZE as usize)],
    }
}

/// The launch for so many values.
pub fn shader_call(shader: Shader, vectors: Vectors, values: usize) -> ShaderCall {
    let elements = values / vectors.length();
    let [across, down] = launch::folded(elements.div_ceil(WORKGROUP_SIZE as usize));
    ShaderCall { shader, workgroups: [across, down, 1], info: vec![elements as u32] }
}

fn on_adapter(x: CubeTensor, gradient: Option<CubeTensor>) -> CubeTensor {
    let dtype = x.dtype;
    let x = launch::row_major(x, dtype);
    let gradient = gradient.map(|gradient| launch::row_major(gradient, dtype));
    let output = launch::empty(&x, x.meta.shape().clone(), dtype);
    let count = x.meta.shape().num_elements();
    let vectors = Vectors::of(dtype, count);
    let call = shader_call(shader(vectors, gradient.is_some()), vectors, count);
    let inputs: Vec<_> = [&x].into_iter().chain(&gradient).collect();
    launch::launch(call, &inputs, &[&output]);
    output
}

impl GeluKernel for CubeBackend {
    fn gelu_tanh(x: FloatTensor<Self>) -> FloatTensor<Self> {
        on_adapter(x, None)
    }
}

impl GeluGradient for CubeBackend {
    fn gelu_tanh_gradient(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        on_adapter(x, Some(gradient))
    }
}

impl GeluKernel for Flex {
    fn gelu_tanh(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = x.layout().shape().clone();
        let x = x.to_contiguous();
        let input = values(&x);
        let mut output = vec![0.0; input.len()];
        on_cpu(InstructionSet::best(), input, &mut output);
        FlexTensor::from_data(TensorData::new(output, shape))
    }
}

impl GeluGradient for Flex {
    fn gelu_tanh_gradient(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = x.layout().shape().clone();
        let [x, gradient] = [x, gradient].map(|tensor| tensor.to_contiguous());
        let mut output = vec![0.0; shape.num_elements()];
        gradient_on_cpu(InstructionSet::best(), values(&x), values(&gradient), &mut output);
        FlexTensor::from_data(TensorData::new(output, shape))
    }
}

#[derive(Debug)]
struct GeluBackward;

impl<B: GeluGradient> Backward<B, 1> for GeluBackward {
    /// The input.
    type State = NodeId;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(ops.state);
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            gradients.register::<B>(parent.id, B::gelu_tanh_gradient(x, gradient));
        }
    }
}

impl<B: GeluKernel + GeluGradient, C: CheckpointStrategy> GeluKernel for Autodiff<B, C> {
    fn gelu_tanh(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match GeluBackward.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut preparation) => {
                let state = preparation.checkpoint(&x);
                preparation.finish(state, B::gelu_tanh(x.into_primitive()))
            }
            OpsKind::UnTracked(preparation) => preparation.finish(B::gelu_tanh(x.into_primitive())),
        }
    }
}
