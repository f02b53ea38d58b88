//! The way back through a convolution: the output's gradient, gathered by a convolution with the turned weight.
//!
//! With a kernel `K`, stride `s`, `C` copies of the first frame in front and `top` zeros above, the input's gradient is
//! `dx[f, y] = sum over j, i of dy[(f + j - (K - 1 - C)) / s, (y + i - (K - 1 - top)) / s] W[K - 1 - j, K - 1 - i]^T`, where places
//! that are no multiples of the stride count nothing (columns as rows). The first frame also receives what its copies do: for
//! it the sum over the copies is one over the weight's taps in time, which [`turned_weight`] takes in advance.

use std::ops::Range;

use burn::backend::wgpu::CubeTensor;
use burn::tensor::Shape;

use super::super::block_product::{self, Block};
use super::super::conv3d::{self, Geometry};
use super::super::launch::{self, Shader, ShaderCall};
use super::super::product;
use crate::gpu::shader::Variant;

const THREADS: usize = 256;
/// The most workgroups in the first dimension before they go on in the second.
const FOLD: usize = 65_535;

/// Sizes of the gradient of a convolution's input.
#[derive(Clone, Copy, Debug)]
pub struct InputGradient {
    /// Of the output: `[batch, frames, height, width, out]`.
    pub gradient: [usize; 5],
    pub channels_in: usize,
    /// Frames, height and width of the input.
    pub size: [usize; 3],
    pub geometry: Geometry,
}

impl InputGradient {
    /// The frames of each launch, and whether they take the weight of the first frame.
    pub fn launches(&self) -> Vec<(Range<usize>, bool)> {
        let frames = self.size[0];
        let split = if self.geometry.causal_frames == 0 { 0 } else { 1 };
        [(0..split, true), (split..frames, false)].into_iter().filter(|(frames, _)| !frames.is_empty()).collect()
    }

    /// Padding of the gather. What lies behind its end is outside all the same.
    pub fn turned(&self) -> Geometry {
        let Geometry { kernel: [t, h, w], causal_frames, top, left, .. } = self.geometry;
        assert!(
            causal_frames < t && top < h && left < w,
            "a convolution that is padded by more than its kernel has no gradient here"
        );
        Geometry { causal_frames: t - 1 - causal_frames, top: h - 1 - top, left: w - 1 - left, ..self.geometry }
    }

    pub fn matrix_call(&self, frames: Range<usize>) -> ShaderCall {
        let [batch, frames_out, height_out, width_out, channels_out] = self.gradient;
        let [all_frames, height, width] = self.size;
        let tile = conv3d::matrix::tile_for(channels_out, self.channels_in);
        let rows = frames.len() * height * width;
        let [across, down] = tile.workgroups(rows, self.channels_in);
        let (first_row, clip_rows) = (frames.start * height * width, all_frames * height * width);
        ShaderCall {
            shader: matrix_shader(tile, self.channels_in, channels_out, &self.turned()),
            workgroups: [across, down, batch as u32],
            info: [rows, frames_out, height_out, width_out, height, width, first_row, clip_rows].map(|word| word as u32).to_vec(),
        }
    }

    /// The launch of the subgroup tier, for channels that are multiples of 4.
    pub fn block_call(&self, element: &str, frames: Range<usize>) -> ShaderCall {
        let [batch, _, _, _, _] = self.gradient;
        let [_, height, width] = self.size;
        let turned = self.turned();
        let block = Block::of(batch * frames.len() * height * width, self.channels_in);
        let shader = block_shader(element, block, turned.stride != [1, 1, 1]);
        block_product::gradient_call(shader, block, self.gradient, (self.size, frames), self.channels_in, &turned)
    }

    pub fn plain_call(&self, element: &str, frames: Range<usize>) -> ShaderCall {
        let [all_frames, height, width] = self.size;
        conv3d::gradient_call(
            conv3d::gradient_shader(element),
            self.gradient,
            [all_frames, height, width, self.channels_in],
            &self.turned(),
            frames.start * height * width..frames.end * height * width,
        )
    }
}

/// `turned` is the padding of the gather, as [`InputGradient`] makes it.
pub fn matrix_shader(tile: &product::Tile, channels_in: usize, channels_out: usize, turned: &Geometry) -> Shader {
    let options = product::Options { convolution: Some(turned), gradient: true, ..product::Options::default() };
    product::shader("conv3d_input_gradient", tile, channels_out, channels_in, options)
}

/// The shader of the subgroup tier.
pub fn block_shader(element: &str, block: Block, strided: bool) -> Shader {
    let options = block_product::Options { convolution: true, gradient: true, strided, ..Default::default() };
    block_product::shader("conv3d_input_gradient", element, block, options)
}

pub fn turned_weight_shader(element: &str) -> Shader {
    Shader {
        name: "turned_weight",
        template: include_str!("../../../../shaders/gradient/turned_weight.wgsl"),
        variant: Variant::default().switch("half", element == "f16").value("element", element),
        workgroup_size: THREADS as u32,
        constants: &[],
    }
}

pub fn turned_weight_call(
    element: &str,
    [channels_in, channels_out]: [usize; 2],
    geometry: &Geometry,
    first: bool,
) -> ShaderCall {
    let [kernel_t, kernel_h, kernel_w] = geometry.kernel;
    let groups = (geometry.taps() * channels_in * channels_out).div_ceil(THREADS);
    let down = groups.div_ceil(FOLD).max(1);
    ShaderCall {
        shader: turned_weight_shader(element),
        workgroups: [groups.div_ceil(down) as u32, down as u32, 1],
        info: [channels_in, channels_out, kernel_t, kernel_h * kernel_w, geometry.causal_frames, usize::from(first)]
            .map(|word| word as u32)
            .to_vec(),
    }
}

/// `[taps, out, in]`, the weight of the way back; `first` for the first frame of a clip with copies in front.
pub(super) fn turned_weight(weight: &CubeTensor, geometry: &Geometry, first: bool) -> CubeTensor {
    let [taps, channels_in, channels_out]: [usize; 3] = weight.meta.shape().dims();
    let output = launch::empty(weight, Shape::new([taps, channels_out, channels_in]), weight.dtype);
    let call = turned_weight_call(launch::element(weight.dtype), [channels_in, channels_out], geometry, first);
    launch::launch(call, &[weight], &[&output]);
    output
}
