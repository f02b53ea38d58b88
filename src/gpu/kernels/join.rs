//! Vectors end to end. burn's own `cat` is a launch a piece; hundreds of parameters take a launch for six of them here.

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Backend, Dispatch, ExtensionType, Flex, backend_extension};
use burn::tensor::{Shape, Tensor};

use super::OptionalTensor;
use super::launch::{self, Shader, ShaderCall};
use crate::gpu::shader::Variant;

const THREADS: usize = 256;
/// Values of a workgroup.
const BLOCK: usize = 1024;
/// The most pieces of a launch: with the result and the words of information they are the eight bindings that every adapter has.
pub const MOST_PIECES: usize = 6;

/// Two to six vectors of one storage type.
#[derive(ExtensionType)]
pub(crate) struct Pieces<B: Backend> {
    first: FloatTensor<B>,
    second: FloatTensor<B>,
    #[extension_type]
    third: OptionalTensor<B>,
    #[extension_type]
    fourth: OptionalTensor<B>,
    #[extension_type]
    fifth: OptionalTensor<B>,
    #[extension_type]
    sixth: OptionalTensor<B>,
}

impl<B: Backend> Pieces<B> {
    fn into_vec(self) -> Vec<FloatTensor<B>> {
        let Self { first, second, third, fourth, fifth, sixth } = self;
        let others = [third, fourth, fifth, sixth].into_iter().filter_map(OptionalTensor::into_option);
        [first, second].into_iter().chain(others).collect()
    }
}

#[backend_extension(Cube, Flex)]
pub(crate) trait JoinKernel: Backend {
    fn join(#[extension_type] pieces: Pieces<Self>) -> FloatTensor<Self>;
}

/// `pieces` end to end, all in one storage type and without a gradient.
///
/// # Panics
/// There are none.
pub fn join(mut pieces: Vec<Tensor<1>>) -> Tensor<1> {
    assert!(!pieces.is_empty(), "nothing to join");
    while pieces.len() > 1 {
        let mut joined = Vec::with_capacity(pieces.len().div_ceil(MOST_PIECES));
        let mut rest = pieces.into_iter();
        while let Some(first) = rest.next() {
            let Some(second) = rest.next() else {
                joined.push(first);
                break;
            };
            let mut next = || OptionalTensor::from(rest.next());
            let (third, fourth, fifth, sixth) = (next(), next(), next(), next());
            let (first, second) = (first.into_dispatch(), second.into_dispatch());
            joined.push(Tensor::from_dispatch(Dispatch::join(Pieces { first, second, third, fourth, fifth, sixth })));
        }
        pieces = joined;
    }
    pieces.swap_remove(0)
}

pub fn shader(element: &str, pieces: usize) -> Shader {
    Shader {
        name: "join",
        template: include_str!("../../../shaders/gradient/join.wgsl"),
        variant: Variant::default().switch("half", element == "f16").value("element", element).value("pieces", pieces),
        workgroup_size: THREADS as u32,
        constants: &[("THREADS", THREADS), ("BLOCK", BLOCK)],
    }
}

/// The launch for pieces of these lengths.
pub fn shader_call(element: &str, lengths: &[usize]) -> ShaderCall {
    let longest = lengths.iter().copied().max().unwrap_or_default();
    let [across, deep] = launch::folded(longest.div_ceil(BLOCK));
    let mut start = 0;
    let places = lengths.iter().flat_map(|&length| {
        start += length;
        [length, start - length]
    });
    ShaderCall {
        shader: shader(element, lengths.len()),
        info: places.map(|word| word as u32).collect(),
        workgroups: [across, lengths.len() as u32, deep],
    }
}

impl JoinKernel for CubeBackend {
    fn join(pieces: Pieces<Self>) -> FloatTensor<Self> {
        let pieces = pieces.into_vec();
        let dtype = pieces[0].dtype;
        let pieces: Vec<CubeTensor> = pieces.into_iter().map(|piece| launch::row_major(piece, dtype)).collect();
        let lengths: Vec<usize> = pieces.iter().map(|piece| piece.meta.shape().num_elements()).collect();
        let output = launch::empty(&pieces[0], Shape::new([lengths.iter().sum()]), dtype);
        let inputs: Vec<&CubeTensor> = pieces.iter().collect();
        launch::launch(shader_call(launch::element(dtype), &lengths), &inputs, &[&output]);
        output
    }
}

impl JoinKernel for Flex {
    fn join(pieces: Pieces<Self>) -> FloatTensor<Self> {
        Self::float_cat(pieces.into_vec(), 0)
    }
}
