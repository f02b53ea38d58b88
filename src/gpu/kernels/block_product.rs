//! The shader `block_product`, which `linear` and `conv3d` and their ways back share on the subgroup tier: a product in blocks of
//! registers.

use std::ops::Range;

use super::conv3d::Geometry;
use super::launch::{Shader, ShaderCall, folded};
use crate::gpu::shader::Variant;

/// Columns of a workgroup, and the inner axis of a slice: COLUMNS and DEPTH of the shader.
pub(super) const COLUMNS: usize = 64;
pub(super) const DEPTH: usize = 16;
/// Values of the output from which on large blocks fill a card.
const LARGE_OUTPUT: usize = 1 << 21;

/// Rows of a workgroup, and its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    Large,
    Small,
}

impl Block {
    pub const ALL: [Self; 2] = [Self::Large, Self::Small];

    /// Whether storage is whole vectors of four values.
    pub fn takes(inner: usize, columns: usize) -> bool {
        inner.is_multiple_of(4) && columns.is_multiple_of(4)
    }

    /// The block for so many rows, of all clips, and columns.
    pub fn of(rows: usize, columns: usize) -> Self {
        if rows * columns < LARGE_OUTPUT { Self::Small } else { Self::Large }
    }

    pub fn rows(self) -> usize {
        match self {
            Self::Large => 128,
            Self::Small => 64,
        }
    }

    /// Loads of the right side that a thread makes for a slice.
    pub(super) fn right_loads(self) -> usize {
        COLUMNS / 4 * DEPTH / self.rows()
    }

    /// Workgroups for so many rows and columns; there may be more than are needed.
    fn workgroups(self, rows: usize, columns: usize) -> [u32; 2] {
        folded(rows.div_ceil(self.rows()) * columns.div_ceil(COLUMNS))
    }
}

/// What a product does besides multiplying.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub bias: bool,
    pub gelu_tanh: bool,
    pub residual: bool,
    /// Gathers the left side.
    pub convolution: bool,
    /// The convolution is the way back: places count steps of the stride.
    pub gradient: bool,
    /// Of the way back: some stride is longer than one pixel.
    pub strided: bool,
}

pub fn shader(name: &'static str, element: &str, block: Block, options: Options) -> Shader {
    let variant = Variant::default()
        .switch("pass_0_is_first", true)
        .switch("half", element == "f16")
        .switch("bias", options.bias)
        .switch("gelu_tanh", options.gelu_tanh)
        .switch("residual", options.residual)
        .switch("convolution", options.convolution)
        .switch("gradient", options.gradient)
        .switch("strided", options.strided)
        .value("element", element)
        .value("threads", block.rows())
        .value("right_loads", block.right_loads())
        .value("output_binding", 2 + usize::from(options.bias));
    Shader {
        name,
        template: include_str!("../../../shaders/product/block_product.wgsl"),
        variant,
        workgroup_size: block.rows() as u32,
        constants: &[("COLUMNS", COLUMNS), ("DEPTH", DEPTH)],
    }
}

/// The launch of a product `[rows, inner] x [inner, columns]`.
pub fn shader_call(shader: Shader, block: Block, [rows, inner, columns]: [usize; 3]) -> ShaderCall {
    let [across, down] = block.workgroups(rows, columns);
    let info = [rows, inner / 4, columns / 4].map(|word| word as u32).to_vec();
    ShaderCall { shader, workgroups: [across, down, 1], info }
}

/// The launch of a convolution of an input `[batch, frames, height, width, channels]`.
pub fn convolution_call(shader: Shader, block: Block, input: [usize; 5], columns: usize, geometry: &Geometry) -> ShaderCall {
    let [_, frames, height, width, _] = input;
    let output @ [frames_out, height_out, width_out] = geometry.output([frames, height, width]);
    gathered_call(shader, block, frames_out * height_out * width_out, input, output, columns, geometry)
}

/// The launch of the way back through a convolution: from the gradient `[batch, frames, height, width, out]` of its output to
/// some frames of its input, whose frames, height and width are `size`. `turned` has the padding of the gather.
pub fn gradient_call(
    shader: Shader,
    block: Block,
    gradient: [usize; 5],
    (size, frames): ([usize; 3], Range<usize>),
    columns: usize,
    turned: &Geometry,
) -> ShaderCall {
    let [all_frames, height, width] = size;
    let plane = height * width;
    let mut call = gathered_call(shader, block, frames.len() * plane, gradient, size, columns, turned);
    call.info.extend([frames.start * plane, all_frames * plane].map(|word| word as u32));
    call
}

/// The launch of a product of `rows` pixels of an output of this size, gathered from an input.
fn gathered_call(
    shader: Shader,
    block: Block,
    rows: usize,
    [batch, frames, height, width, channels]: [usize; 5],
    [_, height_out, width_out]: [usize; 3],
    columns: usize,
    geometry: &Geometry,
) -> ShaderCall {
    let ShaderCall { shader, workgroups: [across, down, _], info } = shader_call(shader, block, [rows, channels, columns]);
    let more = [frames, height, width, height_out, width_out].into_iter().chain(geometry.kernel).chain(geometry.stride);
    let more = more.chain([geometry.causal_frames, geometry.top, geometry.left]).map(|word| word as u32);
    ShaderCall { shader, workgroups: [across, down, batch as u32], info: info.into_iter().chain(more).collect() }
}
