//! The operations that burn does not have, each on both kinds of device.
//!
//! A kernel is three things of one name: a shader in `shaders/`, a launcher here, and a plain reference in its tests; on the CPU
//! device a Rust kernel under [`cpu`] takes the shader's place.

pub mod conv3d;
pub mod cpu;
pub mod group_norm;
mod launch;
pub mod reference;
pub mod tile_attention;
pub mod variants;

pub use launch::{KernelError, Shader, ShaderCall};

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType};
use burn::tensor::Tensor;

/// A tensor argument that an operation may go without.
#[derive(ExtensionType)]
pub(crate) enum OptionalTensor<B: Backend> {
    Given(FloatTensor<B>),
    Absent,
}

impl<B: Backend> OptionalTensor<B> {
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
