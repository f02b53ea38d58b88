//! The operations that burn does not have, each on both kinds of device.
//!
//! A kernel is three things of one name: a shader in `shaders/`, a launcher here, and a plain reference in [`mod@reference`]; on
//! the CPU device a Rust kernel under [`cpu`] takes the shader's place. [`variants`] lists every variant that can be launched.

pub mod block_product;
pub mod conv3d;
pub mod cpu;
pub mod doubling;
pub mod gate_residual;
pub mod gelu;
pub mod gradient;
pub mod group_norm;
pub mod heads;
pub mod join;
mod launch;
pub mod linear;
pub mod newton_schulz;
pub mod norm_modulate;
pub mod product;
pub mod reference;
pub mod rms_norm;
pub mod rows;
pub mod tile_attention;
pub mod tile_mass;
pub mod variants;

pub use launch::{KernelError, Shader, ShaderCall, Vectors};
pub(crate) use launch::{empty, launch};

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType};
use burn::tensor::Tensor;

/// The row-major f32 values of a tensor that was made contiguous; it may be a view into a larger buffer.
pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("the CPU device holds f32, and the tensor is contiguous")
}

/// A tensor argument that an operation may go without.
#[derive(ExtensionType)]
pub(crate) enum OptionalTensor<B: Backend> {
    Given(FloatTensor<B>),
    Absent,
}

impl<B: Backend> OptionalTensor<B> {
    fn of(tensor: Option<FloatTensor<B>>) -> Self {
        tensor.map_or(Self::Absent, Self::Given)
    }

    fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Given(tensor) => Some(tensor),
            Self::Absent => None,
        }
    }
}

impl<const D: usize> From<Option<Tensor<D>>> for OptionalTensor<burn::backend::Dispatch> {
    fn from(tensor: Option<Tensor<D>>) -> Self {
        tensor.map_or(Self::Absent, |tensor| Self::Given(tensor.into_dispatch()))
    }
}
