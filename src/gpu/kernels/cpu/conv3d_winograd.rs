//! Winograd's minimal filtering for 3x3 kernels (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
//! 2015: F(2x2, 3x3)).
//!
//! A tile of 2x2 outputs reads 4x4 inputs. Transformed to 16 positions, inputs and kernels are multiplied position by
//! position, with 16 products a tile and pair of channels instead of 36, and the sums over channels and frames are
//! transformed back. The transforms are sums and differences only, so their rounding errors are as small as those of the
//! products.

use super::conv3d_block::{Block, Buffer, Strip, even_blocks};
use super::lanes::Lanes;
use super::microkernel::{self, LeftRows, MAX_PANEL, MAX_ROWS, PANEL_VECTORS};

/// Output pixels of a tile in height and width.
pub(super) const TILE: usize = 2;
/// Input pixels of a tile in height and width.
const REACH: usize = 4;
pub(super) const POSITIONS: usize = REACH * REACH;

/// The 16 positions of a kernel `[h, w]`: G g G^T.
pub(super) fn transform_kernel(kernel: [f32; 9]) -> [f32; POSITIONS] {
    let along = |[a, b, c]: [f64; 3]| [a, (a + b + c) / 2.0, (a - b + c) / 2.0, c];
    let kernel = kernel.map(f64::from);
    let columns: [[f64; REACH]; 3] = std::array::from_fn(|x| along([kernel[x], kernel[3 + x], kernel[6 + x]]));
    let rows: [[f64; REACH]; REACH] = std::array::from_fn(|y| along([columns[0][y], columns[1][y], columns[2][y]]));
    std::array::from_fn(|position| rows[position / REACH][position % REACH] as f32)
}

/// B^T d of four vectors.
#[inline(always)]
fn forward<L: Lanes>([a, b, c, d]: [L; REACH]) -> [L; REACH] {
    [a.sub(c), b.add(c), c.sub(b), b.sub(d)]
}

/// A^T m of four vectors.
#[inline(always)]
fn inverse<L: Lanes>([a, b, c, d]: [L; REACH]) -> [L; TILE] {
    [a.add(b).add(c), b.sub(c).sub(d)]
}

/// Transforms the pixels `[line, column, channel]` of a buffer to a frame of its ring, `[line of tiles, position, tile,
/// channel]`.
///
/// The channels must be a multiple of the lanes.
#[inline(always)]
pub(super) fn transform_pixels<L: Lanes>(pixels: &[f32], buffer: &Buffer, ring: &mut [f32]) {
    let &Buffer { columns, channels, .. } = buffer;
    let tiles = (columns - 2) / TILE;
    for (tile_row, ring) in ring.chunks_exact_mut(POSITIONS * tiles * channels).enumerate() {
        for tile in 0..tiles {
            let corner = (tile_row * TILE * columns + tile * TILE) * channels;
            for lane in (0..channels).step_by(L::WIDTH) {
                let mut values = [[L::zero(); REACH]; REACH];
                for x in 0..REACH {
                    let mut column = [L::zero(); REACH];
                    for (y, value) in column.iter_mut().enumerate() {
                        *value = L::load(&pixels[corner + (y * columns + x) * channels + lane..]);
                    }
                    let column = forward(column);
                    for y in 0..REACH {
                        values[y][x] = column[y];
                    }
                }
                for (y, values) in values.into_iter().enumerate() {
                    for (x, value) in forward(values).into_iter().enumerate() {
                        value.store(&mut ring[((y * REACH + x) * tiles + tile) * channels + lane..]);
                    }
                }
            }
        }
    }
}

/// Floats of one position of a block, and of one line of its output pixels.
const POSITION_FLOATS: usize = MAX_ROWS * MAX_PANEL;
const LINE_FLOATS: usize = TILE * POSITION_FLOATS;

impl Block<'_, '_> {
    /// All output channels of one frame's part of a strip, tile by tile.
    #[inline(always)]
    pub(super) fn multiply_tiles<L: Lanes>(&mut self, ring: &[f32], buffer: &Buffer, strip: &Strip, frame: usize, rows: usize) {
        let width = PANEL_VECTORS * L::WIDTH;
        let channels = buffer.channels;
        let tiles_of_line = (buffer.columns - 2) / TILE;
        let starts: Vec<usize> = self.frames_of_taps(buffer, frame).collect();
        let position_weights = starts.len() * channels * width;
        let mut sums = [0.0f32; POSITIONS * POSITION_FLOATS];
        let mut pixels = [0.0f32; TILE * LINE_FLOATS];
        for panel in 0..self.weight.panels() {
            let weights = self.weight.panel(strip.chunk, panel);
            let outputs = panel * width..((panel + 1) * width).min(self.shape.out_channels);
            for tile_row in 0..rows.div_ceil(TILE) {
                for tiles in even_blocks(tiles_of_line, L::ROWS) {
                    for (position, weights) in weights.chunks_exact(position_weights).enumerate() {
                        let first = ((tile_row * POSITIONS + position) * tiles_of_line + tiles.start) * channels;
                        let left = LeftRows { values: &ring[first..], starts: &starts, row_stride: channels, step_stride: 1 };
                        let sums = &mut sums[position * POSITION_FLOATS..][..POSITION_FLOATS];
                        microkernel::multiply::<L, PANEL_VECTORS, false>(tiles.len(), channels, left, weights, sums, width);
                    }
                    transform_sums::<L>(&sums, tiles.len(), &mut pixels);
                    let columns = tiles.start * TILE..(tiles.end * TILE).min(strip.columns.len());
                    for (line, pixels) in pixels.chunks_exact(LINE_FLOATS).enumerate() {
                        let row = tile_row * TILE + line;
                        if row < rows {
                            self.finish::<L>(strip, [frame, row], columns.clone(), outputs.clone(), pixels, width);
                        }
                    }
                }
            }
        }
    }
}

/// Transforms sums `[position, tile, column of the panel]` back to pixels `[line, column of pixels, column of the panel]`.
#[inline(always)]
fn transform_sums<L: Lanes>(sums: &[f32; POSITIONS * POSITION_FLOATS], tiles: usize, pixels: &mut [f32; TILE * LINE_FLOATS]) {
    let width = PANEL_VECTORS * L::WIDTH;
    for at in (0..tiles * width).step_by(L::WIDTH) {
        let (tile, lane) = (at / width, at % width);
        let mut lines = [[L::zero(); REACH]; TILE];
        for x in 0..REACH {
            let mut column = [L::zero(); REACH];
            for (y, value) in column.iter_mut().enumerate() {
                *value = L::load(&sums[(y * REACH + x) * POSITION_FLOATS + at..]);
            }
            let [first, second] = inverse(column);
            lines[0][x] = first;
            lines[1][x] = second;
        }
        for (y, line) in lines.into_iter().enumerate() {
            for (x, value) in inverse(line).into_iter().enumerate() {
                value.store(&mut pixels[y * LINE_FLOATS + (tile * TILE + x) * width + lane..]);
            }
        }
    }
}
