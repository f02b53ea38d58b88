//! The shader `block_product`, which `linear` and `conv3d` share on the subgroup tier: a product in blocks of registers.

use super::conv3d::Geometry;
use super::launch::{Shader, ShaderCall, folded};
use crate::gpu::shader::Variant;

/// Columns of a workgroup, and the inner axis of a slice: COLUMNS and DEPTH of the shader.
const COLUMNS: usize = 64;
const DEPTH: usize = 16;
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
}

pub fn shader(name: &'static str, element: &str, block: Block, options: Options) -> Shader {
    let variant = Variant::default()
        .switch("pass_0_is_first", true)
        .switch("half", element == "f16")
        .switch("bias", options.bias)
        .switch("gelu_tanh", options.gelu_tanh)
        .switch("residual", options.residual)
        .switch("convolution", options.convolution)
        .value("element", element)
        .value("threads", block.rows())
        .value("right_loads", COLUMNS / 4 * DEPTH / block.rows())
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
    let [batch, frames, height, width, channels] = input;
    let [frames_out, height_out, width_out] = geometry.output([frames, height, width]);
    let rows = frames_out * height_out * width_out;
    let ShaderCall { shader, workgroups: [across, down, _], info } = shader_call(shader, block, [rows, channels, columns]);
    let more = [frames, height, width, height_out, width_out].into_iter().chain(geometry.kernel).chain(geometry.stride);
    let more = more.chain([geometry.causal_frames, geometry.top, geometry.left]).map(|word| word as u32);
    ShaderCall { shader, workgroups: [across, down, batch as u32], info: info.into_iter().chain(more).collect() }
}
