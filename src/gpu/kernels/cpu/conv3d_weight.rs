//! Convolution weights in the order in which the inner loop reads them. Packed once, when a model is loaded.

use std::fmt;

use rayon::prelude::*;

use super::conv3d::{Conv3dError, Conv3dShape};
use super::conv3d_winograd::{self, POSITIONS};
use super::lanes::InstructionSet;
use super::microkernel::{DOT_LANES, MAX_DOTS, MAX_PANEL, PANEL_VECTORS};

/// The most floats that one panel of a chunk should have: it is read again for every block of pixels, from the
/// second-level cache.
const PANEL_FLOATS: usize = 128 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// `[chunk, panel of output channels, t, h, w, channel of the chunk, column of the panel]`, padded with zero columns.
    Panels,
    /// `[chunk, output channel, t, h, w, channel of the chunk]`, for so few output channels that lanes stand for input
    /// channels.
    Rows,
    /// `[chunk, panel of output channels, position, t, channel of the chunk, column of the panel]`: the 3x3 kernels as
    /// Winograd transforms of 16 positions.
    Winograd,
}

/// How a weight lies in memory before it is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightLayout {
    /// `[out, in, t, h, w]`.
    Published,
    /// `[taps, in, out]`, taps in the order (t, h, w).
    Taps,
}

/// Fewer output pixels than these do not repay the transform of the weight where it is packed anew for every call.
const WINOGRAD_PIXELS: usize = 1024;

/// The weight of one convolution, packed for one instruction set.
#[derive(Clone)]
pub struct PackedConv3dWeight {
    set: InstructionSet,
    in_channels: usize,
    out_channels: usize,
    kernel: [usize; 3],
    /// Input channels that are summed before the next ones are begun. The last chunk may have fewer.
    chunk_channels: usize,
    order: Order,
    values: Vec<f32>,
}

impl PackedConv3dWeight {
    /// Packs a weight for convolutions of this shape in the order that is fastest for it: 3x3 kernels without stride in
    /// height and width get Winograd's algorithm, which needs 2.25 times fewer products and keeps the error below 1e-6 of
    /// the output (relative L2).
    ///
    /// The packed weight fits every shape that differs in batch, frames, height, width and padding only.
    ///
    /// # Errors
    /// A size is 0 or the length is not their product.
    pub fn for_shape(
        weight: &[f32],
        layout: WeightLayout,
        shape: &Conv3dShape,
        set: InstructionSet,
    ) -> Result<Self, Conv3dError> {
        let [frames, height, width] = shape.output()?;
        let &Conv3dShape { in_channels, out_channels, kernel, stride, .. } = shape;
        let winograd = kernel[1..] == [3, 3]
            && stride[1..] == [1, 1]
            && in_channels.is_multiple_of(DOT_LANES)
            && out_channels > MAX_DOTS
            && shape.batch * frames * height * width >= WINOGRAD_PIXELS;
        Self::pack(weight, layout, out_channels, in_channels, kernel, winograd, set)
    }

    /// Packs a weight as published, `[out, in, t, h, w]`, for any stride.
    ///
    /// # Errors
    /// As [`Self::for_shape`].
    pub fn from_published(
        weight: &[f32],
        out_channels: usize,
        in_channels: usize,
        kernel: [usize; 3],
        set: InstructionSet,
    ) -> Result<Self, Conv3dError> {
        Self::pack(weight, WeightLayout::Published, out_channels, in_channels, kernel, false, set)
    }

    /// Packs a weight `[taps, in, out]`, taps in the order (t, h, w), for any stride.
    ///
    /// # Errors
    /// As [`Self::for_shape`].
    pub fn from_taps(
        weight: &[f32],
        out_channels: usize,
        in_channels: usize,
        kernel: [usize; 3],
        set: InstructionSet,
    ) -> Result<Self, Conv3dError> {
        Self::pack(weight, WeightLayout::Taps, out_channels, in_channels, kernel, false, set)
    }

    /// For convolutions whose stride Winograd's algorithm allows, with it where `winograd` is set.
    pub(super) fn pack(
        weight: &[f32],
        layout: WeightLayout,
        out_channels: usize,
        in_channels: usize,
        kernel: [usize; 3],
        winograd: bool,
        set: InstructionSet,
    ) -> Result<Self, Conv3dError> {
        let taps: usize = kernel.iter().product();
        let expected = taps * in_channels * out_channels;
        if expected == 0 {
            return Err(Conv3dError::Empty { what: "weight size" });
        }
        if weight.len() != expected {
            return Err(Conv3dError::WrongLength { what: "weight", found: weight.len(), expected });
        }
        let order = if winograd { Order::Winograd } else { Order::Panels };
        let mut packed = Self { set, in_channels, out_channels, kernel, chunk_channels: in_channels, order, values: Vec::new() };
        // Chunks order the sums, so they are counted alike for all instruction sets.
        let chunks = (packed.packed_taps() * in_channels * MAX_PANEL).div_ceil(PANEL_FLOATS);
        packed.chunk_channels = in_channels.div_ceil(chunks).next_multiple_of(DOT_LANES).min(in_channels);
        if !winograd && out_channels <= MAX_DOTS && kernel[2] * packed.chunk_channels >= DOT_LANES {
            packed.order = Order::Rows;
        }
        let at = |tap: usize, input: usize, output: usize| match layout {
            WeightLayout::Published => weight[(output * in_channels + input) * taps + tap],
            WeightLayout::Taps => weight[(tap * in_channels + input) * out_channels + output],
        };
        let panels: Vec<Vec<f32>> = (0..packed.chunks() * packed.panels())
            .into_par_iter()
            .map(|place| packed.pack_panel(place / packed.panels(), place % packed.panels(), at))
            .collect();
        packed.values = panels.concat();
        Ok(packed)
    }

    fn pack_panel(&self, chunk: usize, panel: usize, at: impl Fn(usize, usize, usize) -> f32) -> Vec<f32> {
        let (first, count) = self.channels_of(chunk);
        let columns = self.columns();
        let outputs = panel * columns..((panel + 1) * columns).min(self.out_channels);
        let taps = self.packed_taps();
        let mut values = vec![0.0; taps * count * columns];
        for input in 0..count {
            for (column, output) in outputs.clone().enumerate() {
                let mut put = |tap: usize, value: f32| values[(tap * count + input) * columns + column] = value;
                if self.order != Order::Winograd {
                    (0..taps).for_each(|tap| put(tap, at(tap, first + input, output)));
                    continue;
                }
                let frames = self.kernel[0];
                for time in 0..frames {
                    let kernel = std::array::from_fn(|tap| at(time * 9 + tap, first + input, output));
                    for (position, value) in conv3d_winograd::transform_kernel(kernel).into_iter().enumerate() {
                        put(position * frames + time, value);
                    }
                }
            }
        }
        values
    }

    /// Taps of the packed weight: positions take the place of the 3x3 taps.
    fn packed_taps(&self) -> usize {
        match self.order {
            Order::Winograd => POSITIONS * self.kernel[0],
            Order::Panels | Order::Rows => self.kernel.iter().product(),
        }
    }

    pub(super) fn order(&self) -> Order {
        self.order
    }

    pub(super) fn instruction_set(&self) -> InstructionSet {
        self.set
    }

    pub(super) fn is_for(&self, shape: &Conv3dShape) -> bool {
        let same = (self.in_channels, self.out_channels, self.kernel) == (shape.in_channels, shape.out_channels, shape.kernel);
        same && (self.order != Order::Winograd || shape.stride[1..] == [1, 1])
    }

    /// Channels of the largest chunk.
    pub(super) fn chunk_channels(&self) -> usize {
        self.chunk_channels
    }

    pub(super) fn chunks(&self) -> usize {
        self.in_channels.div_ceil(self.chunk_channels)
    }

    /// First channel and number of channels of a chunk.
    pub(super) fn channels_of(&self, chunk: usize) -> (usize, usize) {
        let first = chunk * self.chunk_channels;
        (first, self.chunk_channels.min(self.in_channels - first))
    }

    /// Output channels of a panel.
    pub(super) fn columns(&self) -> usize {
        match self.order {
            Order::Panels | Order::Winograd => PANEL_VECTORS * self.set.width(),
            Order::Rows => 1,
        }
    }

    pub(super) fn panels(&self) -> usize {
        self.out_channels.div_ceil(self.columns())
    }

    /// The weights of one panel and chunk: `[taps or positions, channels of the chunk, columns]`.
    pub(super) fn panel(&self, chunk: usize, panel: usize) -> &[f32] {
        let taps = self.packed_taps();
        let (first, count) = self.channels_of(chunk);
        let len = taps * count * self.columns();
        let start = taps * first * self.columns() * self.panels() + panel * len;
        &self.values[start..start + len]
    }
}

impl fmt::Display for PackedConv3dWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} channels with kernel {:?}", self.in_channels, self.out_channels, self.kernel)?;
        if self.order == Order::Winograd { f.write_str(" and stride 1 in height and width") } else { Ok(()) }
    }
}
