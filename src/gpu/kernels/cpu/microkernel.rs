//! The one inner loop of convolution and attention: a small block of rows times a packed panel of columns.
//!
//! The sums of a block stay in registers over runs of steps (input channels of a row of taps, head channels, keys). In
//! every step one value per row is broadcast and multiplied with the vectors of the panel. Callers make long sums of
//! several calls, each added to totals in memory: sums of two levels cost little and lose three times fewer digits.

use super::lanes::{Lanes, MAX_WIDTH};

/// Vectors of a panel: with [`Lanes::ROWS`] rows, the sums fill the registers.
pub const PANEL_VECTORS: usize = 2;

/// The most rows and columns of a block in any instruction set.
pub const MAX_ROWS: usize = 12;
pub const MAX_PANEL: usize = PANEL_VECTORS * MAX_WIDTH;

/// The left matrix, whose steps come in runs: element (row, step of a run) lies at
/// `start of the run + row * row_stride + step * step_stride`.
#[derive(Clone, Copy)]
pub struct LeftRows<'a> {
    pub values: &'a [f32],
    pub starts: &'a [usize],
    pub row_stride: usize,
    pub step_stride: usize,
}

impl LeftRows<'_> {
    fn assert_in_bounds(&self, rows: usize, steps: usize) {
        let last = (rows - 1) * self.row_stride + (steps - 1) * self.step_stride;
        assert!(self.starts.iter().all(|start| start + last < self.values.len()));
    }
}

/// `totals[row][column] (+)= sum over runs and steps of left[row][step] * panel[step][column]` for `rows` rows and the
/// columns of a panel; with `ADD` false the totals are overwritten.
///
/// `panel` is `[runs, steps, VECTORS * L::WIDTH]`, `totals` has rows of `totals_stride` floats.
///
/// # Panics
/// A slice is too short, or `rows` is 0 or above `L::ROWS`.
#[inline(always)]
pub fn multiply<L: Lanes, const VECTORS: usize, const ADD: bool>(
    rows: usize,
    steps: usize,
    left: LeftRows,
    panel: &[f32],
    totals: &mut [f32],
    totals_stride: usize,
) {
    let width = VECTORS * L::WIDTH;
    assert!(rows >= 1 && rows <= L::ROWS && steps >= 1);
    left.assert_in_bounds(rows, steps);
    assert!(panel.len() >= left.starts.len() * steps * width);
    assert!(totals_stride >= width && totals.len() >= (rows - 1) * totals_stride + width);
    macro_rules! block {
        ($rows:literal) => {
            // SAFETY: everything that the block reads and writes was checked to be in bounds above.
            unsafe { multiply_block::<L, $rows, VECTORS, ADD>(steps, left, panel.as_ptr(), totals.as_mut_ptr(), totals_stride) }
        };
    }
    match rows {
        1 => block!(1),
        2 => block!(2),
        3 => block!(3),
        4 => block!(4),
        5 => block!(5),
        6 => block!(6),
        7 if L::ROWS >= 7 => block!(7),
        8 if L::ROWS >= 8 => block!(8),
        9 if L::ROWS >= 9 => block!(9),
        10 if L::ROWS >= 10 => block!(10),
        11 if L::ROWS >= 11 => block!(11),
        12 if L::ROWS >= 12 => block!(12),
        _ => unreachable!("rows were checked above"),
    }
}

/// # Safety As checked by [`multiply`]: `ROWS` rows of every run of `left`, all rows of the panel, and `ROWS` rows of
/// totals must be in bounds.
#[inline(always)]
unsafe fn multiply_block<L: Lanes, const ROWS: usize, const VECTORS: usize, const ADD: bool>(
    steps: usize,
    left: LeftRows,
    panel: *const f32,
    totals: *mut f32,
    totals_stride: usize,
) {
    // Three moving pointers and small multiples of the stride address all rows: one pointer a row would not leave
    // enough registers.
    const GROUP: usize = 4;
    let row_stride = left.row_stride;
    let mut sums = [[L::zero(); VECTORS]; ROWS];
    let mut panel = panel;
    for &start in left.starts {
        // Pointers past the last row are made but never read.
        let first = left.values.as_ptr().wrapping_add(start);
        let mut groups: [*const f32; 3] = std::array::from_fn(|group| first.wrapping_add(group * GROUP * row_stride));
        for _ in 0..steps {
            // SAFETY: the caller promises all rows of the panel.
            let columns: [L; VECTORS] = std::array::from_fn(|vector| unsafe { L::load_at(panel.add(vector * L::WIDTH)) });
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the caller promises ROWS rows of `steps` elements.
                let value = L::splat(unsafe { *groups[row / GROUP].add(row % GROUP * row_stride) });
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = value.mul_add(column, *sum);
                }
            }
            groups = groups.map(|group| group.wrapping_add(left.step_stride));
            panel = panel.wrapping_add(VECTORS * L::WIDTH);
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        for (vector, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller promises ROWS rows of totals, each of a panel's width.
            unsafe {
                let at = totals.add(row * totals_stride + vector * L::WIDTH);
                let sum = if ADD { L::load_at(at).add(sum) } else { sum };
                sum.store_at(at);
            }
        }
    }
}

/// Partial sums of a dot product: as many in every instruction set, so that the results are the same.
pub const DOT_LANES: usize = 16;
/// Rows of a block of dot products, and the most columns.
pub const DOT_ROWS: usize = 4;
pub const MAX_DOTS: usize = 4;

/// Partial sums of `DOT_ROWS` rows times `MAX_DOTS` columns.
pub type DotTotals = [[[f32; DOT_LANES]; MAX_DOTS]; DOT_ROWS];

/// The partial sums of every row and column: `steps` neighbouring values of every run of the row, times those of the column.
///
/// `rows` rows of `left` are used, whose step stride is 1; `columns` holds `[runs, steps]` for every column.
///
/// # Panics
/// A slice is too short, or there are no or too many rows or columns.
#[inline(always)]
pub fn dot<L: Lanes>(rows: usize, steps: usize, left: LeftRows, columns: &[&[f32]]) -> DotTotals {
    assert!((1..=DOT_ROWS).contains(&rows) && steps >= 1 && left.step_stride == 1);
    left.assert_in_bounds(rows, steps);
    assert!(columns.iter().all(|column| column.len() >= left.starts.len() * steps));
    // SAFETY: everything that the blocks read was checked to be in bounds above.
    unsafe {
        match *columns {
            [a] => dot_block::<L, 1>(rows, steps, left, [a]),
            [a, b] => dot_block::<L, 2>(rows, steps, left, [a, b]),
            [a, b, c] => dot_block::<L, 3>(rows, steps, left, [a, b, c]),
            [a, b, c, d] => dot_block::<L, 4>(rows, steps, left, [a, b, c, d]),
            _ => panic!("1 to {MAX_DOTS} columns, not {}", columns.len()),
        }
    }
}

/// # Safety
/// As checked by [`dot`]: `rows` rows of every run of `left` and all columns must be in bounds.
#[inline(always)]
unsafe fn dot_block<L: Lanes, const COLUMNS: usize>(
    rows: usize,
    steps: usize,
    left: LeftRows,
    columns: [&[f32]; COLUMNS],
) -> DotTotals {
    let mut totals = DotTotals::default();
    let whole = steps / DOT_LANES * DOT_LANES;
    for lane in (0..DOT_LANES).step_by(L::WIDTH) {
        let mut sums = [[L::zero(); COLUMNS]; DOT_ROWS];
        for (run, start) in left.starts.iter().enumerate() {
            // Rows that are not there repeat the last one; nobody reads their sums.
            let rows: [*const f32; DOT_ROWS] =
                std::array::from_fn(|row| left.values.as_ptr().wrapping_add(start + row.min(rows - 1) * left.row_stride));
            let columns = columns.map(|column| column.as_ptr().wrapping_add(run * steps));
            for at in (lane..whole).step_by(DOT_LANES) {
                // SAFETY: `at + WIDTH` is at most `steps`, and the caller promises so many elements.
                let weights = columns.map(|column| unsafe { L::load_at(column.add(at)) });
                for (sums, row) in sums.iter_mut().zip(rows) {
                    // SAFETY: as above.
                    let value = unsafe { L::load_at(row.add(at)) };
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum = value.mul_add(weight, *sum);
                    }
                }
            }
            if whole < steps {
                // SAFETY: `whole..steps` is within the elements that the caller promises.
                let rest = |from: *const f32| unsafe {
                    let mut rest = [0.0f32; DOT_LANES];
                    rest[..steps - whole].copy_from_slice(std::slice::from_raw_parts(from.add(whole), steps - whole));
                    rest
                };
                let weights = columns.map(rest);
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let value = rest(row);
                    for (sum, weight) in sums.iter_mut().zip(&weights) {
                        *sum = L::load(&value[lane..]).mul_add(L::load(&weight[lane..]), *sum);
                    }
                }
            }
        }
        for (sums, totals) in sums.into_iter().zip(&mut totals) {
            for (sum, total) in sums.into_iter().zip(totals) {
                sum.store(&mut total[lane..]);
            }
        }
    }
    totals
}

/// The sum of the partial sums, in pairs.
#[inline(always)]
pub fn sum_of_lanes(mut lanes: [f32; DOT_LANES]) -> f32 {
    let mut half = DOT_LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}
