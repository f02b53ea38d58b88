//! Causal 3D convolution on channels-last video.
//!
//! There is no im2col: a task prepares the padded, optionally normalised input of a few output rows in a buffer that
//! stays in the second-level cache, and the microkernel walks through it. In channels-last order the values under one row
//! of taps lie one after the other, so a 3x3x3 kernel is nine long runs of steps. Owns the shape, its checks and the
//! division into tasks; `conv3d_block` owns the work of one task, `conv3d_weight` the order of the weights.

use rayon::prelude::*;

use super::conv3d_block::{Block, Buffer};
use super::conv3d_weight::Order;
use super::conv3d_winograd::TILE;
use super::group_norm::ChannelAffine;

pub use super::conv3d_weight::{PackedConv3dWeight, WeightLayout};

/// What surrounds the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConvPadding {
    /// Copies of the first frame in front of the clip.
    pub causal_frames: usize,
    /// Zeros around every frame, in pixels.
    pub top: usize,
    pub bottom: usize,
    pub left: usize,
    pub right: usize,
}

/// Sizes of one convolution. Input `[batch, frames, height, width, in_channels]`; kernel and stride as (t, h, w).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv3dShape {
    pub batch: usize,
    pub frames: usize,
    pub height: usize,
    pub width: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub kernel: [usize; 3],
    pub stride: [usize; 3],
    pub padding: ConvPadding,
}

/// Why a convolution cannot be done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conv3dError {
    #[error("A convolution with {what} 0 does not exist; every size must be at least 1.")]
    Empty { what: &'static str },
    #[error("The padded input is {padded} long in {axis}, shorter than the kernel, which needs {kernel}; give a larger input.")]
    InputTooSmall { axis: &'static str, padded: usize, kernel: usize },
    #[error("The {what} has {found} values where the convolution needs {expected}; check its shape.")]
    WrongLength { what: &'static str, found: usize, expected: usize },
    #[error("The packed weight is for {packed}, the convolution is {wanted}; pack the weight of this layer.")]
    WrongWeight { packed: String, wanted: String },
    #[error("The normalisation has {found} groups of frames for {frames} frames; it needs 1 or one per frame.")]
    WrongFrameGroups { found: usize, frames: usize },
}

impl Conv3dShape {
    fn padded(&self) -> [usize; 3] {
        let pad = &self.padding;
        [self.frames + pad.causal_frames, self.height + pad.top + pad.bottom, self.width + pad.left + pad.right]
    }

    /// Output frames, height and width.
    ///
    /// # Errors
    /// A size is 0, or the kernel is larger than the padded input.
    pub fn output(&self) -> Result<[usize; 3], Conv3dError> {
        let sizes = [self.batch, self.frames, self.height, self.width, self.in_channels, self.out_channels];
        let names = ["batch", "frames", "height", "width", "input channels", "output channels"];
        let empty = |what| Err(Conv3dError::Empty { what });
        if let Some(at) = sizes.iter().position(|&size| size == 0) {
            return empty(names[at]);
        }
        if self.kernel.contains(&0) {
            return empty("kernel size");
        }
        if self.stride.contains(&0) {
            return empty("stride");
        }
        let padded = self.padded();
        for (at, axis) in ["time", "height", "width"].into_iter().enumerate() {
            if padded[at] < self.kernel[at] {
                return Err(Conv3dError::InputTooSmall { axis, padded: padded[at], kernel: self.kernel[at] });
            }
        }
        Ok(std::array::from_fn(|axis| (padded[axis] - self.kernel[axis]) / self.stride[axis] + 1))
    }

    /// Values of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.frames * self.height * self.width * self.in_channels
    }

    /// Values of the output and of the residual.
    ///
    /// # Errors
    /// As [`Self::output`].
    pub fn output_len(&self) -> Result<usize, Conv3dError> {
        Ok(self.output()?.iter().product::<usize>() * self.batch * self.out_channels)
    }
}

/// What a convolution reads; lengths are checked by [`conv3d`].
#[derive(Clone, Copy)]
pub struct Conv3dInput<'a> {
    /// `[batch, frames, height, width, in_channels]`.
    pub values: &'a [f32],
    /// Applied to the values before the convolution reads them; the zeros around the frames stay zeros.
    pub normalise: Option<ChannelAffine<'a>>,
    /// `[out_channels]`.
    pub bias: Option<&'a [f32]>,
    /// Added to the output, whose shape it has.
    pub residual: Option<&'a [f32]>,
}

/// `out = conv(normalise(input)) + bias + residual`; `out` is `[batch, frames, height, width, out_channels]` of the
/// output sizes and is overwritten.
///
/// Runs on the threads of rayon's current pool; the result does not depend on their number.
///
/// # Errors
/// A size is 0, a length does not fit, or the weight was packed for another layer; `out` is not touched then.
pub fn conv3d(shape: &Conv3dShape, input: Conv3dInput, weight: &PackedConv3dWeight, out: &mut [f32]) -> Result<(), Conv3dError> {
    let [out_frames, out_height, out_width] = check(shape, &input, weight, out.len())?;
    let layout = Tasks::plan(shape, [out_frames, out_height, out_width], weight, rayon::current_num_threads());
    let row_len = out_width * shape.out_channels;
    let task_len = layout.rows * row_len;

    // A task owns the same rows of consecutive frames: these slices of `out`.
    let mut tasks = Vec::new();
    for (batch, clip) in out.chunks_mut(out_frames * out_height * row_len).enumerate() {
        for (part, frames) in clip.chunks_mut(layout.frames * out_height * row_len).enumerate() {
            let mut bands: Vec<Vec<&mut [f32]>> = Vec::new();
            for frame in frames.chunks_mut(out_height * row_len) {
                for (band, rows) in frame.chunks_mut(task_len).enumerate() {
                    if bands.len() == band {
                        bands.push(Vec::with_capacity(layout.frames));
                    }
                    bands[band].push(rows);
                }
            }
            for (band, rows) in bands.into_iter().enumerate() {
                tasks.push((batch, part * layout.frames, band * layout.rows, rows));
            }
        }
    }
    tasks.into_par_iter().for_each(|(batch, first_frame, first_row, out)| {
        let block = Block {
            shape,
            input: &input,
            weight,
            out_size: [out_frames, out_height, out_width],
            strip: layout.strip,
            batch,
            first_frame,
            first_row,
            out,
        };
        weight.instruction_set().run(block);
    });
    Ok(())
}

fn check(
    shape: &Conv3dShape,
    input: &Conv3dInput,
    weight: &PackedConv3dWeight,
    out_len: usize,
) -> Result<[usize; 3], Conv3dError> {
    let output = shape.output()?;
    let expected_out = shape.output_len()?;
    let mut lengths = vec![("input", input.values.len(), shape.input_len()), ("output", out_len, expected_out)];
    lengths.extend(input.bias.map(|bias| ("bias", bias.len(), shape.out_channels)));
    lengths.extend(input.residual.map(|residual| ("residual", residual.len(), expected_out)));
    if let Some(affine) = &input.normalise {
        if affine.frame_groups != 1 && affine.frame_groups != shape.frames {
            return Err(Conv3dError::WrongFrameGroups { found: affine.frame_groups, frames: shape.frames });
        }
        let expected = shape.batch * affine.frame_groups * 2 * shape.in_channels;
        lengths.push(("normalisation", affine.values.len(), expected));
    }
    for (what, found, expected) in lengths {
        if found != expected {
            return Err(Conv3dError::WrongLength { what, found, expected });
        }
    }
    if !weight.is_for(shape) {
        let &Conv3dShape { in_channels, out_channels, kernel, stride, .. } = shape;
        let wanted = format!("{in_channels} to {out_channels} channels with kernel {kernel:?} and stride {stride:?}");
        return Err(Conv3dError::WrongWeight { packed: weight.to_string(), wanted });
    }
    Ok(output)
}

/// Floats of a task's buffer: with the weights of a panel it must fit a second-level cache.
const BUFFER_FLOATS: usize = 192 * 1024;
/// The widths that a strip may have at most: multiples of the microkernel's rows, in pixels and in tiles of 2x2 pixels.
const STRIP_STEP: usize = 24;
const MAX_STRIP: usize = 96;
/// Fewer frames than this in a task would prepare too many input frames twice.
const FEW_FRAMES: usize = 4;
const FEW_ROWS: usize = 4;
const TASKS_PER_THREAD: usize = 16;

/// How the output is divided. Changes the speed only, never a result.
struct Tasks {
    /// Output frames and rows of a task.
    frames: usize,
    rows: usize,
    /// Output pixels that are prepared and computed at once in a row.
    strip: usize,
}

impl Tasks {
    fn plan(shape: &Conv3dShape, output: [usize; 3], weight: &PackedConv3dWeight, threads: usize) -> Self {
        let [out_frames, out_height, out_width] = output;
        // Tiles must not depend on the division.
        let step = if weight.order() == Order::Winograd { TILE } else { 1 };
        let even_part = |whole: usize, most: usize| whole.div_ceil(whole.div_ceil(most)).next_multiple_of(step);

        // The strip and the number of rows that prepare the fewest input pixels for an output pixel.
        let mut best = (f64::INFINITY, 1, 1);
        for most in (STRIP_STEP..=MAX_STRIP).step_by(STRIP_STEP) {
            let strip = even_part(out_width, most);
            let buffer = |rows: usize| Buffer::of(shape, weight, weight.chunk_channels(), [rows, strip]);
            let fits = |rows: &usize| buffer(*rows).floats() <= BUFFER_FLOATS;
            let rows = (1..=out_height.div_ceil(step)).map(|rows| rows * step).take_while(fits).last().unwrap_or(step);
            let cost = (buffer(rows).lines * buffer(rows).columns) as f64 / (rows * strip) as f64;
            if cost < best.0 {
                best = (cost, rows, strip);
            }
        }
        let (_, mut rows, strip) = best;

        let mut frames = out_frames;
        let count = |frames: usize, rows: usize| shape.batch * out_frames.div_ceil(frames) * out_height.div_ceil(rows);
        while threads > 1 && count(frames, rows) < TASKS_PER_THREAD * threads {
            if frames > FEW_FRAMES {
                frames = frames.div_ceil(2);
            } else if rows > FEW_ROWS {
                rows = rows.div_ceil(2);
            } else {
                break;
            }
        }
        Self { frames: out_frames.div_ceil(out_frames.div_ceil(frames)), rows: even_part(out_height, rows), strip }
    }
}

#[cfg(test)]
#[path = "conv3d_tests.rs"]
mod tests;
