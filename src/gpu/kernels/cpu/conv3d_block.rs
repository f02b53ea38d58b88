//! One task of a convolution: the same rows of some consecutive output frames.
//!
//! The task goes along the rows in strips. For a strip it keeps the prepared input of as many frames as the kernel has in
//! a ring, so that going on by one frame prepares one frame. Padding, stride and normalisation happen when the input is
//! prepared: the inner loop has no branches.

use std::cell::Cell;
use std::ops::Range;

use super::conv3d::{Conv3dInput, Conv3dShape};
use super::conv3d_weight::{Order, PackedConv3dWeight};
use super::conv3d_winograd::{POSITIONS, TILE, transform_pixels};
use super::group_norm;
use super::lanes::{Kernel, Lanes};
use super::microkernel::{self, DOT_ROWS, LeftRows, MAX_DOTS, MAX_PANEL, MAX_ROWS, PANEL_VECTORS, sum_of_lanes};

/// The steps that are summed in one go before they are added to the total, at least one run.
const STEPS_OF_SUM: usize = 256;

thread_local! {
    /// The ring of the last task of this thread, kept to be used again; below 1 MiB for all but extreme kernels.
    static RING: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// The work of one task.
pub(super) struct Block<'a, 'out> {
    pub shape: &'a Conv3dShape,
    pub input: &'a Conv3dInput<'a>,
    pub weight: &'a PackedConv3dWeight,
    pub out_size: [usize; 3],
    /// Output pixels of a strip.
    pub strip: usize,
    pub batch: usize,
    pub first_frame: usize,
    pub first_row: usize,
    /// The rows of this task in every one of its frames.
    pub out: Vec<&'out mut [f32]>,
}

/// The prepared input of one strip: a ring of frames, each `[line, column, channel of the chunk]`.
///
/// With Winograd's algorithm the frames of the ring are `[line of tiles, position, tile, channel of the chunk]`, and a
/// frame of pixels that is transformed next lies behind them.
#[derive(Clone, Copy)]
pub(super) struct Buffer {
    /// Of input pixels.
    pub lines: usize,
    pub columns: usize,
    pub channels: usize,
    /// Frames of the ring, and floats of one.
    pub frames: usize,
    pub frame_floats: usize,
    /// Floats of the pixels behind the ring.
    pixel_floats: usize,
}

impl Buffer {
    /// The buffer for a strip of this many output rows and columns.
    #[inline(always)]
    pub fn of(shape: &Conv3dShape, weight: &PackedConv3dWeight, channels: usize, [rows, strip]: [usize; 2]) -> Self {
        let [frames, kernel_height, kernel_width] = shape.kernel;
        if weight.order() == Order::Winograd {
            let (tile_rows, tiles) = (rows.div_ceil(TILE), strip.div_ceil(TILE));
            let (lines, columns) = (tile_rows * TILE + 2, tiles * TILE + 2);
            let frame_floats = tile_rows * POSITIONS * tiles * channels;
            return Self { lines, columns, channels, frames, frame_floats, pixel_floats: lines * columns * channels };
        }
        let lines = (rows - 1) * shape.stride[1] + kernel_height;
        let columns = (strip - 1) * shape.stride[2] + kernel_width;
        Self { lines, columns, channels, frames, frame_floats: lines * columns * channels, pixel_floats: 0 }
    }

    pub fn floats(&self) -> usize {
        self.frames * self.frame_floats + self.pixel_floats
    }

    /// The place of a frame in the ring.
    #[inline(always)]
    pub fn frame(&self, padded_frame: usize) -> Range<usize> {
        let start = padded_frame % self.frames * self.frame_floats;
        start..start + self.frame_floats
    }
}

/// Where a strip lies: output columns, and input channels of the chunk.
#[derive(Clone)]
pub(super) struct Strip {
    pub columns: Range<usize>,
    pub chunk: usize,
    first_channel: usize,
}

impl Kernel for Block<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let kernel_frames = self.shape.kernel[0];
        let out_width = self.out_size[2];
        let rows = self.out[0].len() / (out_width * self.shape.out_channels);
        let mut values = RING.take();
        for chunk in 0..self.weight.chunks() {
            let (first_channel, channels) = self.weight.channels_of(chunk);
            for start in (0..out_width).step_by(self.strip) {
                let strip = Strip { columns: start..out_width.min(start + self.strip), chunk, first_channel };
                let buffer = Buffer::of(self.shape, self.weight, channels, [rows, strip.columns.len()]);
                values.resize(buffer.floats(), 0.0);
                let mut prepared = 0;
                for frame in 0..self.out.len() {
                    // Frames are counted with the causal copies in front.
                    let first = (self.first_frame + frame) * self.shape.stride[0];
                    for padded in prepared.max(first)..first + kernel_frames {
                        if self.weight.order() == Order::Winograd {
                            let (ring, pixels) = values.split_at_mut(buffer.frames * buffer.frame_floats);
                            self.prepare::<L>(pixels, &buffer, &strip, padded);
                            transform_pixels::<L>(pixels, &buffer, &mut ring[buffer.frame(padded)]);
                        } else {
                            self.prepare::<L>(&mut values[buffer.frame(padded)], &buffer, &strip, padded);
                        }
                    }
                    prepared = first + kernel_frames;
                    match self.weight.order() {
                        Order::Panels => self.multiply_panels::<L>(&values, &buffer, &strip, frame, rows),
                        Order::Rows => self.multiply_rows::<L>(&values, &buffer, &strip, frame, rows),
                        Order::Winograd => self.multiply_tiles::<L>(&values, &buffer, &strip, frame, rows),
                    }
                }
            }
        }
        RING.set(values);
    }
}

impl Block<'_, '_> {
    /// Writes one frame's part of the padded and normalised input to `to`, `[line, column, channel of the chunk]`.
    #[inline(always)]
    fn prepare<L: Lanes>(&self, to: &mut [f32], buffer: &Buffer, strip: &Strip, padded_frame: usize) {
        let &Conv3dShape { frames, height, width, in_channels, stride, padding, .. } = self.shape;
        let &Buffer { columns, channels, .. } = buffer;
        let frame = padded_frame.saturating_sub(padding.causal_frames);
        let of_chunk = strip.first_channel..strip.first_channel + channels;
        let scale_and_shift = self.input.normalise.map(|affine| {
            let (scale, shift) = affine.of(self.batch, frame, in_channels);
            (&scale[of_chunk.clone()], &shift[of_chunk.clone()], affine.silu)
        });
        // The columns that lie in the frame; the others are zeros.
        let first_padded = strip.columns.start * stride[2];
        let inside_start = padding.left.saturating_sub(first_padded).min(columns);
        let inside_end = (padding.left + width).saturating_sub(first_padded).clamp(inside_start, columns);
        for (line, to) in to.chunks_exact_mut(columns * channels).enumerate() {
            let row = (self.first_row * stride[1] + line).wrapping_sub(padding.top);
            if row >= height || inside_start == inside_end {
                to.fill(0.0);
                continue;
            }
            let (zeros, rest) = to.split_at_mut(inside_start * channels);
            let (inside, more_zeros) = rest.split_at_mut((inside_end - inside_start) * channels);
            zeros.fill(0.0);
            more_zeros.fill(0.0);
            let column = first_padded + inside_start - padding.left;
            let pixel = ((self.batch * frames + frame) * height + row) * width + column;
            let from = &self.input.values[pixel * in_channels..];
            match scale_and_shift {
                Some((scale, shift, silu)) => {
                    for (to, from) in inside.chunks_exact_mut(channels).zip(from.chunks(in_channels)) {
                        group_norm::affine_pixel::<L>(&from[of_chunk.clone()], scale, shift, silu, to);
                    }
                }
                None if channels == in_channels => inside.copy_from_slice(&from[..inside.len()]),
                None => {
                    for (to, from) in inside.chunks_exact_mut(channels).zip(from.chunks(in_channels)) {
                        to.copy_from_slice(&from[of_chunk.clone()]);
                    }
                }
            }
        }
    }

    /// All output channels of one frame's part of a strip, lanes being output channels.
    #[inline(always)]
    fn multiply_panels<L: Lanes>(&mut self, ring: &[f32], buffer: &Buffer, strip: &Strip, frame: usize, rows: usize) {
        let width = PANEL_VECTORS * L::WIDTH;
        let steps = self.shape.kernel[2] * buffer.channels;
        let pixel_stride = self.shape.stride[2] * buffer.channels;
        let line_stride = self.shape.stride[1] * buffer.columns * buffer.channels;
        let runs = self.runs_of_taps(buffer, frame);
        let runs_of_sum = (STEPS_OF_SUM / steps).max(1);
        let mut totals = [0.0f32; MAX_ROWS * MAX_PANEL];
        for panel in 0..self.weight.panels() {
            let weights = self.weight.panel(strip.chunk, panel);
            let channels = panel * width..((panel + 1) * width).min(self.shape.out_channels);
            for row in 0..rows {
                for pixels in even_blocks(strip.columns.len(), L::ROWS) {
                    let values = &ring[row * line_stride + pixels.start * pixel_stride..];
                    let sums = runs.chunks(runs_of_sum).zip(weights.chunks(runs_of_sum * steps * width));
                    for (at, (starts, weights)) in sums.enumerate() {
                        let left = LeftRows { values, starts, row_stride: pixel_stride, step_stride: 1 };
                        let count = pixels.len();
                        if at == 0 {
                            microkernel::multiply::<L, PANEL_VECTORS, false>(count, steps, left, weights, &mut totals, width);
                        } else {
                            microkernel::multiply::<L, PANEL_VECTORS, true>(count, steps, left, weights, &mut totals, width);
                        }
                    }
                    self.finish::<L>(strip, [frame, row], pixels, channels.clone(), &totals, width);
                }
            }
        }
    }

    /// The same for few output channels, lanes being input channels.
    #[inline(always)]
    fn multiply_rows<L: Lanes>(&mut self, ring: &[f32], buffer: &Buffer, strip: &Strip, frame: usize, rows: usize) {
        let steps = self.shape.kernel[2] * buffer.channels;
        let pixel_stride = self.shape.stride[2] * buffer.channels;
        let line_stride = self.shape.stride[1] * buffer.columns * buffer.channels;
        let runs = self.runs_of_taps(buffer, frame);
        let outputs = self.shape.out_channels;
        let mut columns = [&[] as &[f32]; MAX_DOTS];
        for (output, column) in columns[..outputs].iter_mut().enumerate() {
            *column = self.weight.panel(strip.chunk, output);
        }
        for row in 0..rows {
            for pixels in even_blocks(strip.columns.len(), DOT_ROWS) {
                let values = &ring[row * line_stride + pixels.start * pixel_stride..];
                let left = LeftRows { values, starts: &runs, row_stride: pixel_stride, step_stride: 1 };
                let lanes = microkernel::dot::<L>(pixels.len(), steps, left, &columns[..outputs]);
                let mut totals = [0.0f32; DOT_ROWS * MAX_DOTS];
                for (totals, lanes) in totals.chunks_exact_mut(MAX_DOTS).zip(&lanes).take(pixels.len()) {
                    for (total, lanes) in totals.iter_mut().zip(lanes).take(outputs) {
                        *total = sum_of_lanes(*lanes);
                    }
                }
                self.finish::<L>(strip, [frame, row], pixels, 0..outputs, &totals, MAX_DOTS);
            }
        }
    }

    /// Where the first line of output pixels reads the ring: one place for every row of taps, `[t, h]`.
    #[inline(always)]
    fn runs_of_taps(&self, buffer: &Buffer, frame: usize) -> Vec<usize> {
        let lines = (0..self.shape.kernel[1]).map(|line| line * buffer.columns * buffer.channels);
        self.frames_of_taps(buffer, frame).flat_map(|start| lines.clone().map(move |line| start + line)).collect()
    }

    /// Where the frames of the ring lie that an output frame reads.
    #[inline(always)]
    pub(super) fn frames_of_taps(&self, buffer: &Buffer, frame: usize) -> impl Iterator<Item = usize> {
        let first = (self.first_frame + frame) * self.shape.stride[0];
        let buffer = *buffer;
        (first..first + buffer.frames).map(move |padded_frame| buffer.frame(padded_frame).start)
    }

    /// Writes the first chunk's sums of some pixels with bias and residual, and adds those of the other chunks.
    ///
    /// `totals` has rows of `totals_stride` floats, one for every pixel.
    #[inline(always)]
    pub(super) fn finish<L: Lanes>(
        &mut self,
        strip: &Strip,
        [frame, row]: [usize; 2],
        pixels: Range<usize>,
        channels: Range<usize>,
        totals: &[f32],
        totals_stride: usize,
    ) {
        let [out_frames, out_height, out_width] = self.out_size;
        let out_channels = self.shape.out_channels;
        let clip_frame = self.batch * out_frames + self.first_frame + frame;
        let task_start = (clip_frame * out_height + self.first_row) * out_width * out_channels;
        let first_chunk = strip.chunk == 0;
        let bias = self.input.bias.filter(|_| first_chunk).map(|bias| &bias[channels.clone()]);
        let residual = self.input.residual.filter(|_| first_chunk).map(|residual| &residual[task_start..]);
        let first = (row * out_width + strip.columns.start + pixels.start) * out_channels;
        for (pixel, totals) in totals.chunks_exact(totals_stride).take(pixels.len()).enumerate() {
            let at = first + pixel * out_channels + channels.start..first + pixel * out_channels + channels.end;
            let residual = residual.map(|residual| &residual[at.clone()]);
            let out = &mut self.out[frame][at];
            let whole = out.len() / L::WIDTH * L::WIDTH;
            for lane in (0..whole).step_by(L::WIDTH) {
                let mut sum = L::load(&totals[lane..]);
                if !first_chunk {
                    sum = L::load(&out[lane..]).add(sum);
                }
                if let Some(bias) = bias {
                    sum = sum.add(L::load(&bias[lane..]));
                }
                if let Some(residual) = residual {
                    sum = sum.add(L::load(&residual[lane..]));
                }
                sum.store(&mut out[lane..]);
            }
            for lane in whole..out.len() {
                let mut sum = totals[lane];
                if !first_chunk {
                    sum += out[lane];
                }
                sum = bias.map_or(sum, |bias| sum + bias[lane]);
                out[lane] = residual.map_or(sum, |residual| sum + residual[lane]);
            }
        }
    }
}

/// 0..count in as few blocks of at most `most` as possible, which differ by one at most.
#[inline(always)]
pub(super) fn even_blocks(count: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let blocks = count.div_ceil(most);
    (0..blocks).map(move |block| block * count / blocks..(block + 1) * count / blocks)
}
