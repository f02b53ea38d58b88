//! Gradients of the causal 3D convolution on channels-last video.
//!
//! The way back to the input is a convolution of its own, with the turned weight over the output's gradient with zeros between
//! and around its pixels. The gradient of the weight is one product for each tap, summed in f32 over short runs of pixels and in
//! f64 over these; runs depend on the shape only.

use rayon::prelude::*;

use super::super::gradient::WeightGradient;
use super::super::gradient::input::InputGradient;
use super::conv3d::{Conv3dError, Conv3dInput, Conv3dShape, ConvPadding, PackedConv3dWeight, WeightLayout, conv3d};
use super::lanes::{InstructionSet, Kernel, Lanes};

/// Pixels of the output that are summed in f32.
const RUN: usize = 2048;
/// Parts of all pixels that threads take at once, for each tap.
const PARTS: usize = 16;
/// Pixels that pass through the sums together.
const TOGETHER: usize = 4;

/// The gradient of the input `[batch, frames, height, width, in]` from that of the output and the weight `[taps, in, out]`.
///
/// # Errors
/// As [`conv3d`].
pub fn conv3d_input_gradient(call: &InputGradient, gradient: &[f32], weight: &[f32]) -> Result<Vec<f32>, Conv3dError> {
    let geometry = &call.geometry;
    let [batch, frames_out, height_out, width_out, channels_out] = call.gradient;
    let ([frames, height, width], channels_in) = (call.size, call.channels_in);
    let ([kernel_t, kernel_h, kernel_w], [stride_t, stride_h, stride_w]) = (geometry.kernel, geometry.stride);
    let (all_frames, causal) = (frames + geometry.causal_frames, geometry.causal_frames);
    // The output's pixels at their places among those of the padded input, with as many around as the kernel reaches.
    let spread = [all_frames + kernel_t - 1, height + kernel_h - 1, width + kernel_w - 1];
    let mut places = vec![0.0; batch * spread.iter().product::<usize>() * channels_out];
    for (at, pixel) in gradient.chunks_exact(channels_out).enumerate() {
        let (clip, t) = (at / (width_out * height_out * frames_out), at / (width_out * height_out) % frames_out);
        let t = t * stride_t + kernel_t - 1;
        let y = at / width_out % height_out * stride_h + kernel_h - 1 - geometry.top;
        let x = at % width_out * stride_w + kernel_w - 1 - geometry.left;
        if t < spread[0] && y < spread[1] && x < spread[2] {
            let to = (((clip * spread[0] + t) * spread[1] + y) * spread[2] + x) * channels_out;
            places[to..to + channels_out].copy_from_slice(pixel);
        }
    }
    let taps = geometry.taps();
    let mut turned = vec![0.0; weight.len()];
    for (at, &value) in weight.iter().enumerate() {
        let (tap, from, to) = (at / (channels_in * channels_out), at / channels_out % channels_in, at % channels_out);
        turned[((taps - 1 - tap) * channels_out + to) * channels_in + from] = value;
    }
    let shape = Conv3dShape {
        batch,
        frames: spread[0],
        height: spread[1],
        width: spread[2],
        in_channels: channels_out,
        out_channels: channels_in,
        kernel: geometry.kernel,
        stride: [1; 3],
        padding: ConvPadding::default(),
    };
    let packed = PackedConv3dWeight::for_shape(&turned, WeightLayout::Taps, &shape, InstructionSet::best())?;
    let mut padded = vec![0.0; shape.output_len()?];
    let input = Conv3dInput { values: &places, normalise: None, bias: None, residual: None };
    conv3d(&shape, input, &packed, &mut padded)?;
    // What the copies in front received belongs to the first frame.
    let frame = height * width * channels_in;
    let mut output = Vec::with_capacity(batch * frames * frame);
    for clip in padded.chunks_exact(all_frames * frame) {
        let (copies, own) = clip.split_at(causal * frame);
        let first = output.len();
        output.extend_from_slice(own);
        for copy in copies.chunks_exact(frame) {
            output[first..first + frame].iter_mut().zip(copy).for_each(|(sum, &value)| *sum += value);
        }
    }
    Ok(output)
}

/// The gradient of the weight `[taps, in, out]` from the input and the gradient of the output.
pub fn conv3d_weight_gradient(call: &WeightGradient, input: &[f32], gradient: &[f32]) -> Vec<f32> {
    let [batch, frames, height, width, channels_in] = call.input;
    let [frames_out, height_out, width_out] = call.geometry.output([frames, height, width]);
    let (geometry, channels_out) = (&call.geometry, call.channels_out);
    let [_, kernel_h, kernel_w] = geometry.kernel;
    let (pixels, size) = (batch * frames_out * height_out * width_out, channels_in * channels_out);
    let parts = pixels.div_ceil(RUN).min(PARTS);
    let a_part = pixels.div_ceil(parts);
    let set = InstructionSet::best();
    // The input's pixel under a tap; None in the zeros around.
    let source = |tap: usize, pixel: usize| -> Option<usize> {
        let (clip, t) = (pixel / (width_out * height_out * frames_out), pixel / (width_out * height_out) % frames_out);
        let t = (t * geometry.stride[0] + tap / (kernel_h * kernel_w)).saturating_sub(geometry.causal_frames);
        let y = (pixel / width_out % height_out * geometry.stride[1] + tap / kernel_w % kernel_h).checked_sub(geometry.top)?;
        let x = (pixel % width_out * geometry.stride[2] + tap % kernel_w).checked_sub(geometry.left)?;
        (y < height && x < width).then_some((((clip * frames + t) * height + y) * width + x) * channels_in)
    };
    let sums: Vec<Vec<f64>> = (0..geometry.taps() * parts)
        .into_par_iter()
        .map(|task| {
            let (tap, part) = (task / parts, task % parts);
            let mut total = vec![0.0f64; size];
            let mut sums = vec![0.0f32; size];
            let end = ((part + 1) * a_part).min(pixels);
            for first in (part * a_part..end).step_by(RUN) {
                sums.fill(0.0);
                let run = first..(first + RUN).min(end);
                let pairs: Vec<_> = run.filter_map(|pixel| Some((source(tap, pixel)?, pixel * channels_out))).collect();
                set.run(Products { pairs: &pairs, input, gradient, channels: [channels_in, channels_out], sums: &mut sums });
                total.iter_mut().zip(&sums).for_each(|(total, &sum)| *total += f64::from(sum));
            }
            total
        })
        .collect();
    sums.chunks_exact(parts)
        .flat_map(|parts| (0..size).map(move |at| parts.iter().map(|part| part[at]).sum::<f64>() as f32))
        .collect()
}

/// `sums[i][o] += input[i] * gradient[o]` for pairs of pixels.
struct Products<'a, 'sums> {
    /// Where the pixels of the input and of the gradient begin.
    pairs: &'a [(usize, usize)],
    input: &'a [f32],
    gradient: &'a [f32],
    channels: [usize; 2],
    sums: &'sums mut [f32],
}

impl Kernel for Products<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let [channels_in, channels_out] = self.channels;
        let together = self.pairs.chunks_exact(TOGETHER);
        let rest = together.remainder();
        for pairs in together {
            let x: [&[f32]; TOGETHER] = std::array::from_fn(|at| &self.input[pairs[at].0..][..channels_in]);
            let g: [&[f32]; TOGETHER] = std::array::from_fn(|at| &self.gradient[pairs[at].1..][..channels_out]);
            for (channel, sums) in self.sums.chunks_exact_mut(channels_out).enumerate() {
                let x: [f32; TOGETHER] = std::array::from_fn(|at| x[at][channel]);
                for (at, sum) in sums.iter_mut().enumerate() {
                    *sum += x[0] * g[0][at] + x[1] * g[1][at] + (x[2] * g[2][at] + x[3] * g[3][at]);
                }
            }
        }
        for &(x, g) in rest {
            let (x, g) = (&self.input[x..][..channels_in], &self.gradient[g..][..channels_out]);
            for (&x, sums) in x.iter().zip(self.sums.chunks_exact_mut(channels_out)) {
                sums.iter_mut().zip(g).for_each(|(sum, &g)| *sum += x * g);
            }
        }
    }
}
