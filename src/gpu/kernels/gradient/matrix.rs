//! The matrix tier of the gradient of a weight: how it is cut into workgroups.

use super::super::conv3d::Geometry;
use super::super::launch::{Shader, ShaderCall};
use super::WeightGradient;
use crate::gpu::shader::Variant;
use crate::gpu::tier::MATRIX_WORKGROUP_BYTES;

/// Pixels of the output that a workgroup multiplies at once.
const SEGMENT: usize = 32;
/// Sums of all workgroups together: two of the largest workgroups for each of the 132 multiprocessors of an H100. Every part is
/// written and read once more, so more of them would cost what they bring.
const SUMS: usize = 264 * 192 * 192;
/// Segments that are worth a part of their own.
const FEWEST_SEGMENTS: usize = 4;
const LANES: usize = 32;
/// Subgroups of the largest workgroup.
const MOST_SUBGROUPS: usize = 16;
/// Bytes of the scratch of a subgroup.
const SCRATCH_BYTES: usize = 16 * 5 * 16;

/// What one workgroup and one of its subgroups own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GradientTile {
    /// Input and output channels of a workgroup.
    pub rows: usize,
    pub columns: usize,
    /// Of a subgroup, of one tap.
    pub subgroup: [usize; 2],
    /// All taps of one depth in time are one workgroup's.
    pub taps: usize,
}

/// For channels that are multiples of 192, as the mini model's.
pub const SQUARE: GradientTile = GradientTile { rows: 192, columns: 192, subgroup: [48, 64], taps: 1 };
pub const LARGE: GradientTile = GradientTile { rows: 128, columns: 128, subgroup: [64, 32], taps: 1 };
pub const SMALL: GradientTile = GradientTile { rows: 64, columns: 64, subgroup: [32, 32], taps: 1 };

/// The tile for a convolution between so many channels; None if there is none.
pub fn tile_for(channels_in: usize, channels_out: usize, geometry: &Geometry) -> Option<GradientTile> {
    if !channels_in.is_multiple_of(4) || !channels_out.is_multiple_of(4) {
        return None;
    }
    let taps = geometry.kernel[1] * geometry.kernel[2];
    if taps == 1 {
        let square = [channels_in, channels_out].iter().all(|channels| channels.is_multiple_of(SQUARE.rows));
        return Some(match channels_in.min(channels_out) {
            _ if square => SQUARE,
            ..=64 => SMALL,
            _ => LARGE,
        });
    }
    let side = |channels: usize| match channels {
        ..=16 => 16,
        17..=32 => 32,
        _ => 64,
    };
    let (rows, columns) = (side(channels_in), side(channels_out));
    let tile = GradientTile { rows, columns, subgroup: [rows, columns], taps };
    let bytes = tile.workgroup_bytes(geometry, tile.wide(channels_in, channels_out));
    (taps <= MOST_SUBGROUPS && bytes <= MATRIX_WORKGROUP_BYTES as usize).then_some(tile)
}

impl GradientTile {
    fn subgroups(&self) -> usize {
        let [rows, columns] = self.subgroup;
        self.taps * (self.rows / rows) * (self.columns / columns)
    }

    fn threads(&self) -> usize {
        self.subgroups() * LANES
    }

    /// Neighbouring groups of four values that a thread loads at once.
    fn wide(&self, channels_in: usize, channels_out: usize) -> usize {
        if channels_in.is_multiple_of(8) && channels_out.is_multiple_of(8) { 2 } else { 1 }
    }

    /// Loads of a thread for so many pixels of so many channels, and the pixels that this makes room for.
    fn loads(&self, pixels: usize, channels: usize, wide: usize) -> (usize, usize) {
        let a_pixel = channels / 4 / wide;
        let loads = (pixels * a_pixel).div_ceil(self.threads());
        (loads, (loads * self.threads()).div_ceil(a_pixel))
    }

    /// Pixels of the input under a segment, in one row and in all.
    fn pixels_in(geometry: &Geometry) -> (usize, usize) {
        let [_, kernel_h, kernel_w] = geometry.kernel;
        let row = (SEGMENT - 1) * geometry.stride[2] + kernel_w;
        (row, row * kernel_h)
    }

    fn workgroup_bytes(&self, geometry: &Geometry, wide: usize) -> usize {
        let (_, pixels_in) = Self::pixels_in(geometry);
        let tile = |pixels: usize, channels: usize| self.loads(pixels, channels, wide).1 * (channels + 8) * 2;
        tile(pixels_in, self.rows) + tile(SEGMENT, self.columns) + self.subgroups() * SCRATCH_BYTES
    }

    pub fn name(&self) -> String {
        format!("{}x{}", self.rows, self.columns)
    }
}

pub fn shader(tile: &GradientTile, channels_in: usize, channels_out: usize, geometry: &Geometry) -> Shader {
    let wide = tile.wide(channels_in, channels_out);
    let (pixels_in, all_pixels_in) = GradientTile::pixels_in(geometry);
    let (a_loads, a_pixels) = tile.loads(all_pixels_in, tile.rows, wide);
    let (b_loads, b_pixels) = tile.loads(SEGMENT, tile.columns, wide);
    let ([kernel_t, kernel_h, kernel_w], [stride_t, stride_h, stride_w]) = (geometry.kernel, geometry.stride);
    let variant = Variant::default()
        .switch("pass_0_is_first", true)
        .value("bm", tile.rows)
        .value("bn", tile.columns)
        .value("wm", tile.subgroup[0])
        .value("wn", tile.subgroup[1])
        .value("threads", tile.threads())
        .value("wide", wide)
        .value("segment", SEGMENT)
        .value("pixels_in", pixels_in)
        .value("a_loads", a_loads)
        .value("a_pixels", a_pixels)
        .value("b_loads", b_loads)
        .value("b_pixels", b_pixels)
        .value("inner", channels_in)
        .value("columns", channels_out)
        .value("kernel_t", kernel_t)
        .value("kernel_h", kernel_h)
        .value("kernel_w", kernel_w)
        .value("stride_t", stride_t)
        .value("stride_h", stride_h)
        .value("stride_w", stride_w)
        .value("causal", geometry.causal_frames)
        .value("top", geometry.top)
        .value("left", geometry.left);
    Shader {
        name: "weight_gradient_matrix",
        template: include_str!("../../../../shaders/gradient/weight_gradient_matrix.wgsl"),
        variant,
        workgroup_size: tile.threads() as u32,
        constants: &[],
    }
}

/// The launch, and in how many parts it leaves the sums.
pub fn shader_call(tile: &GradientTile, call: &WeightGradient) -> (ShaderCall, usize) {
    let call = call.flattened();
    let [batch, frames, height, width, channels_in] = call.input;
    let [frames_out, height_out, width_out] = call.output();
    let segments = batch * frames_out * height_out * width_out.div_ceil(SEGMENT);
    let blocks = call.geometry.kernel[0] * channels_in.div_ceil(tile.rows) * call.channels_out.div_ceil(tile.columns);
    let workgroups = SUMS / (tile.taps * tile.rows * tile.columns);
    let wanted = (workgroups / blocks).clamp(1, segments.div_ceil(FEWEST_SEGMENTS));
    let segments_a_part = segments.div_ceil(wanted);
    let parts = segments.div_ceil(segments_a_part);
    let shader_call = ShaderCall {
        shader: shader(tile, channels_in, call.channels_out, &call.geometry),
        workgroups: [blocks as u32, parts as u32, 1],
        info: [frames, height, width, frames_out, height_out, width_out, segments, segments_a_part]
            .map(|word| word as u32)
            .to_vec(),
    };
    (shader_call, parts)
}
