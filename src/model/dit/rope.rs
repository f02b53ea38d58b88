//! The 3D rotary embedding.
//!
//! The head is split into three runs of `head_dim / 3` channels for t, h and w. In each, position `index / scale` turns the
//! first half of the run against the second half.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};
use half::bf16;
use serde::Deserialize;

use crate::gpu::kernels::heads::split_and_rotate_heads;

/// Whether angles are rounded before their cosine is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AngleRounding {
    /// f32 angles: mathematically right.
    #[default]
    Exact,
    /// The reference rounds to the tokens' type first, so its bf16 samples carry errors up to 0.06 in these tables.
    Bf16,
}

/// cos and sin `[positions, run / 2]` of one axis, row-major.
pub fn axis_table(positions: usize, run: usize, scale: f64, rounding: AngleRounding) -> (Vec<f32>, Vec<f32>) {
    let half = run / 2;
    let frequencies: Vec<f32> = (0..half).map(|k| (1.0 / 10_000f64.powf(2.0 * k as f64 / run as f64)) as f32).collect();
    let round = |value: f32| match rounding {
        AngleRounding::Exact => value,
        AngleRounding::Bf16 => bf16::from_f32(value).to_f32(),
    };
    let angles = (0..positions).flat_map(|index| {
        let position = index as f32 / scale as f32;
        frequencies.iter().map(move |&frequency| position * frequency).collect::<Vec<_>>()
    });
    angles.map(|angle| f64::from(round(angle))).map(|angle| (round(angle.cos() as f32), round(angle.sin() as f32))).unzip()
}

/// The tables of the last few grids: every call of a clip has the same, and those of 93 frames of 720p are 33 MB that the host
/// would reckon and send before each call.
#[derive(Debug, Default)]
pub struct RotaryCache {
    /// The last used at the end.
    kept: Mutex<Vec<(RotaryGrid, Device, RotaryTables)>>,
}

/// Trainings go to and fro between clips of three lengths.
const KEPT_GRIDS: usize = 3;

/// What tables are for: a grid (t, h, w) that begins at a frame of its video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotaryGrid {
    pub grid: [usize; 3],
    pub first_frame: usize,
}

impl RotaryCache {
    /// The tables that were kept, else those that `make` gives.
    pub fn tables(&self, of: RotaryGrid, device: &Device, make: impl FnOnce() -> RotaryTables) -> RotaryTables {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Devices are equal with gradients and without, their tensors are not.
        let is_same = |on: &Device| on == device && on.is_autodiff() == device.is_autodiff();
        let place = kept.iter().position(|(grid, on, _)| *grid == of && is_same(on));
        let entry = place.map_or_else(|| (of, device.clone(), make()), |place| kept.remove(place));
        let tables = entry.2.clone();
        kept.push(entry);
        let surplus = kept.len().saturating_sub(KEPT_GRIDS);
        kept.drain(..surplus);
        tables
    }
}

/// Cosines and sines for a grid of tokens.
#[derive(Clone, Debug)]
pub struct RotaryTables {
    /// `[tokens, cos or sin, head_dim / 2]` in f32; each row holds the first halves of the three runs.
    table: Tensor<3>,
}

impl RotaryTables {
    /// `scales` are (t, h, w), as the grid; tokens are ordered with w fastest.
    pub fn new(
        RotaryGrid { grid, first_frame }: RotaryGrid,
        head_dim: usize,
        scales: [f64; 3],
        rounding: AngleRounding,
        device: &Device,
    ) -> Self {
        let run = head_dim / 3;
        let half = run / 2;
        let positions = [first_frame + grid[0], grid[1], grid[2]];
        let axes: Vec<_> = (0..3).map(|axis| axis_table(positions[axis], run, scales[axis], rounding)).collect();
        let tokens = grid.iter().product::<usize>();
        let mut values = Vec::with_capacity(tokens * 2 * 3 * half);
        for token in 0..tokens {
            let place = [first_frame + token / (grid[1] * grid[2]), token / grid[2] % grid[1], token % grid[2]];
            let row = |axis: usize| place[axis] * half..(place[axis] + 1) * half;
            (0..3).for_each(|axis| values.extend_from_slice(&axes[axis].0[row(axis)]));
            (0..3).for_each(|axis| values.extend_from_slice(&axes[axis].1[row(axis)]));
        }
        Self { table: Tensor::from_data(TensorData::new(values, [tokens, 2, 3 * half]), device) }
    }

    /// The tables of some tokens alone, one range of rows after the other.
    #[must_use]
    pub fn rows(&self, ranges: &[Range<usize>]) -> Self {
        let parts = ranges.iter().map(|range| self.table.clone().narrow(0, range.start, range.len()));
        Self { table: Tensor::cat(parts.collect(), 0) }
    }

    /// Queries or keys `[batch, tokens, heads * head_dim]` as heads `[batch, heads, tokens, head_dim]`, turned in f32 and stored
    /// as they came.
    pub fn split_and_turn(&self, x: Tensor<3>, heads: usize) -> Tensor<4> {
        split_and_rotate_heads(x, self.table.clone(), heads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_made_once_for_each_of_the_last_grids() {
        let (cache, device) = (RotaryCache::default(), Device::flex());
        let mut made = Vec::new();
        let mut ask = |frames: usize, first_frame: usize, device: &Device| {
            let of = RotaryGrid { grid: [frames, 2, 3], first_frame };
            let tables = cache.tables(of, device, || {
                made.push((frames, first_frame));
                RotaryTables::new(of, 12, [1.0; 3], AngleRounding::Exact, device)
            });
            let [tokens, ..] = tables.table.dims();
            assert_eq!(tokens, frames * 6);
            assert_eq!(tables.table.is_autodiff(), device.is_autodiff());
        };
        for frames in [1, 2, 1, 3, 2, 1] {
            ask(frames, 0, &device);
        }
        // The fourth puts out the one that was not asked for the longest, which is the third.
        ask(4, 0, &device);
        ask(2, 0, &device);
        ask(3, 0, &device);
        ask(3, 5, &device);
        ask(3, 5, &device.clone().autodiff());
        assert_eq!(made, [(1, 0), (2, 0), (3, 0), (4, 0), (3, 0), (3, 5), (3, 5)]);
    }
}
