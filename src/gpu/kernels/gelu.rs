//! GELU in its tanh form, the activation between the layers of the transformer.
//!
//! On adapters it is burn's own, in f32: the cube in it would overflow f16. On the CPU burn's takes a fifth of a run.

use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{FloatDType, Tensor, TensorData};

use super::cpu::gelu::gelu_tanh as on_cpu;
use super::cpu::lanes::InstructionSet;

#[backend_extension(Cube, Flex)]
pub(crate) trait GeluKernel: Backend {
    fn gelu_tanh(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))` in the storage type of `x`.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::gelu_tanh(x.into_dispatch()))
}

impl GeluKernel for CubeBackend {
    fn gelu_tanh(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = x.dtype;
        // An element-wise operation does not see the rank; the primitive keeps its own.
        let x = Self::float_cast(x, FloatDType::F32);
        let cubed = Self::float_mul(Self::float_mul(x.clone(), x.clone()), x.clone());
        let inner = Self::float_add(x.clone(), Self::float_mul_scalar(cubed, 0.044715.into()));
        let tanh = Self::float_tanh(Self::float_mul_scalar(inner, (2.0 / std::f64::consts::PI).sqrt().into()));
        let y = Self::float_mul(Self::float_mul_scalar(x, 0.5.into()), Self::float_add_scalar(tanh, 1.0.into()));
        Self::float_cast(y, dtype.into())
    }
}

impl GeluKernel for Flex {
    fn gelu_tanh(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = x.layout().shape().clone();
        let x = x.to_contiguous();
        let input = super::values(&x);
        let mut output = vec![0.0; input.len()];
        on_cpu(InstructionSet::best(), input, &mut output);
        FlexTensor::from_data(TensorData::new(output, shape))
    }
}
