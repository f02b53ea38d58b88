//! The matrix tier of the convolution: the input is normalised in a pass of its own, then gathered as the left side of the
//! shader `matrix_product`.

use burn::backend::wgpu::CubeTensor;

use super::super::launch::{self, Shader, ShaderCall};
use super::super::product::{self, COLUMNS_16, COLUMNS_32, COLUMNS_64, LARGE, Options, TALL, Tile};
use super::Geometry;
use crate::gpu::shader::Variant;

/// Whether there is a shader for these channels.
pub fn takes(channels_in: usize, channels_out: usize) -> bool {
    channels_in.is_multiple_of(4) && channels_out.is_multiple_of(4)
}

/// The tile for a convolution between so many channels.
pub fn tile_for(channels_in: usize, channels_out: usize) -> &'static Tile {
    let wide = LARGE.loads(channels_in, channels_out);
    match channels_out {
        ..=16 => &COLUMNS_16,
        ..=32 if wide => &COLUMNS_32,
        ..=64 if wide => &COLUMNS_64,
        256.. if wide => &LARGE,
        _ => &TALL,
    }
}

pub fn shader(tile: &Tile, channels_in: usize, channels_out: usize, residual: bool, geometry: &Geometry) -> Shader {
    let options = Options { bias: true, residual, convolution: Some(geometry), ..Options::default() };
    product::shader("conv3d", tile, channels_in, channels_out, options)
}

/// The launch for an input `[batch, frames, height, width, channels]`.
pub fn shader_call(input: [usize; 5], channels_out: usize, residual: bool, geometry: &Geometry) -> ShaderCall {
    let [batch, frames, height, width, channels_in] = input;
    let [frames_out, height_out, width_out] = geometry.output([frames, height, width]);
    let rows = frames_out * height_out * width_out;
    let tile = tile_for(channels_in, channels_out);
    let [across, down] = tile.workgroups(rows, channels_out);
    ShaderCall {
        shader: shader(tile, channels_in, channels_out, residual, geometry),
        workgroups: [across, down, batch as u32],
        info: [rows, frames, height, width, height_out, width_out].map(|word| word as u32).to_vec(),
    }
}

const NORMALISE_THREADS: usize = 256;
/// The most workgroups in the first dimension before they go on in the second.
const FOLD: usize = 65_535;

/// The pass in front of a convolution that normalises its input.
pub fn normalise_shader(channels: usize) -> Shader {
    Shader {
        name: "normalise",
        template: include_str!("../../../../shaders/convolution/normalise.wgsl"),
        variant: Variant::default().value("channels", channels),
        workgroup_size: NORMALISE_THREADS as u32,
        constants: &[],
    }
}

/// `silu(input * scale + shift)` for `affine` `[batch, 2, channels]`.
pub(super) fn normalise(input: &CubeTensor, affine: &CubeTensor) -> CubeTensor {
    let [batch, frames, height, width, channels]: [usize; 5] = input.meta.shape().dims();
    let output = launch::empty(input, input.meta.shape().clone(), input.dtype);
    let count4 = frames * height * width * channels / 4;
    let groups = count4.div_ceil(NORMALISE_THREADS);
    let down = groups.div_ceil(FOLD).max(1);
    let call = ShaderCall {
        shader: normalise_shader(channels),
        workgroups: [groups.div_ceil(down) as u32, down as u32, batch as u32],
        info: vec![count4 as u32],
    };
    launch::launch(call, &[input, affine], &[&output]);
    output
}
