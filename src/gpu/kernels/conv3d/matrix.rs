//! The matrix tier of the convolution: the input is normalised in a pass of its own, then gathered as the left side of the
//! shader `matrix_product`.

use super::super::launch::{Shader, ShaderCall};
use super::super::product::{self, COLUMNS_16, COLUMNS_32, COLUMNS_64, LARGE, Options, SHALLOW, TALL, Tile};
use super::Geometry;

/// Whether there is a shader for these channels.
pub fn takes(channels_in: usize, channels_out: usize) -> bool {
    channels_in.is_multiple_of(4) && channels_out.is_multiple_of(4)
}

/// The tile for a convolution between so many channels.
pub fn tile_for(channels_in: usize, channels_out: usize) -> &'static Tile {
    let wide = LARGE.loads(channels_in, channels_out);
    match channels_out {
        ..=16 => &COLUMNS_16,
        ..=64 if channels_in <= SHALLOW.depth => &SHALLOW,
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
