//! Large videos in tiles: chunks of time that share one frame, and overlapping tiles of space that are blended.
//!
//! The reference's rules, including their order: rows are blended with the tile above and then columns with the tile on the
//! left, both of which were blended before. Norms see one tile at a time, so tiling changes results a little.

mod cost;

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};

use super::config::VaeConfig;

/// 2 GiB in f16.
const LARGEST_TENSOR_ELEMENTS: f64 = (1u64 << 30) as f64;

/// Sizes from which on a video is tiled. Space in pixels and latents, time in frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tiling {
    pub sample_size: usize,
    pub sample_frames: usize,
    pub latent_size: usize,
    pub latent_frames: usize,
    /// Share of a tile that overlaps with its neighbour.
    pub overlap: f64,
}

impl Tiling {
    /// What the reference's scripts use.
    pub const STANDARD: Self = Self { sample_size: 512, sample_frames: 29, latent_size: 64, latent_frames: 8, overlap: 0.125 };

    /// What the reference uses to save memory (`--save_memory`): tiles of a quarter of the area.
    pub const SAVING: Self = Self { sample_size: 256, latent_size: 32, ..Self::STANDARD };

    /// The tiles for a VAE: the reference's standard ones, or its saving ones where a tensor of a standard tile would reach the
    /// 2 GiB that adapters take in one binding. That is so for the published VAE, whose widest tensor of a standard tile has
    /// 3.9 GB in f16. It depends on the network alone, so that a clip is the same on every device.
    pub fn of(config: &VaeConfig) -> Self {
        let tile = [Self::STANDARD.latent_frames, Self::STANDARD.latent_size, Self::STANDARD.latent_size];
        let elements = Self::STANDARD.decoding_cost(config, tile).largest_tensor;
        if elements >= LARGEST_TENSOR_ELEMENTS { Self::SAVING } else { Self::STANDARD }
    }

    /// The encoder's direction.
    pub(super) fn encoding(self) -> Pass {
        Pass { tile: self.sample_size, tile_frames: self.sample_frames, output_tile: self.latent_size, overlap: self.overlap }
    }

    /// The decoder's direction.
    pub(super) fn decoding(self) -> Pass {
        Pass { tile: self.latent_size, tile_frames: self.latent_frames, output_tile: self.sample_size, overlap: self.overlap }
    }
}

/// Where a tile lies along frames, height and width.
pub type Place = [Range<usize>; 3];

/// One direction of the VAE in tiles.
pub(super) struct Pass {
    /// Of the input.
    pub tile: usize,
    pub tile_frames: usize,
    /// Of the output.
    pub output_tile: usize,
    pub overlap: f64,
}

/// A network that sees one tile at a time.
type Network<'a, E> = dyn FnMut(Tensor<5>) -> Result<Tensor<5>, E> + 'a;

impl Pass {
    fn step(&self) -> usize {
        ((self.tile as f64 * (1.0 - self.overlap)) as usize).max(1)
    }

    fn blend(&self) -> usize {
        (self.output_tile as f64 * self.overlap) as usize
    }

    /// Starts and ends of the tiles along height and width. A video that is larger than a tile along one of them is cut along
    /// both.
    fn spans(&self, height: usize, width: usize) -> [Vec<(usize, usize)>; 2] {
        let whole = height <= self.tile && width <= self.tile;
        [height, width].map(|length| {
            let step = if whole { length.max(1) } else { self.step() };
            (0..length).step_by(step).map(|start| (start, (start + self.tile).min(length))).collect()
        })
    }

    /// `[frames, height, width]` of every part of a video of that size that the network sees, in the order in which it does.
    pub fn parts(&self, size: [usize; 3]) -> Vec<[usize; 3]> {
        self.places(size).iter().map(|place| [0, 1, 2].map(|axis| place[axis].len())).collect()
    }

    /// Where these parts lie along frames, height and width.
    pub fn places(&self, [frames, height, width]: [usize; 3]) -> Vec<Place> {
        let [rows, columns] = self.spans(height, width);
        let range = |&(start, end): &(usize, usize)| start..end;
        let mut places = Vec::new();
        for chunk in chunks(frames, self.tile_frames) {
            for row in &rows {
                places.extend(columns.iter().map(|column| [range(&chunk), range(row), range(column)]));
            }
        }
        places
    }

    /// Runs `network` over all chunks and tiles of `x` `[batch, frames, height, width, channels]`.
    ///
    /// # Errors
    /// The network's first.
    pub fn run<E>(&self, x: Tensor<5>, network: &mut Network<'_, E>) -> Result<Tensor<5>, E> {
        let [_, frames, _, _, _] = x.dims();
        let mut parts = Vec::new();
        for (start, end) in chunks(frames, self.tile_frames) {
            let part = self.run_chunk(x.clone().narrow(1, start, end - start), network)?;
            let [_, part_frames, _, _, _] = part.dims();
            parts.push(if start > 0 { part.narrow(1, 1, part_frames - 1) } else { part });
        }
        Ok(Tensor::cat(parts, 1))
    }

    fn run_chunk<E>(&self, x: Tensor<5>, network: &mut Network<'_, E>) -> Result<Tensor<5>, E> {
        let [_, _, height, width, _] = x.dims();
        let [rows_of_tiles, columns_of_tiles] = self.spans(height, width);
        if rows_of_tiles.len() * columns_of_tiles.len() == 1 {
            return network(x);
        }
        let (keep, blend) = (self.output_tile - self.blend(), self.blend());
        let mut rows = Vec::new();
        let mut above: Vec<Tensor<5>> = Vec::new();
        for (top, bottom) in rows_of_tiles {
            let mut row: Vec<Tensor<5>> = Vec::new();
            for (column, &(left, right)) in columns_of_tiles.iter().enumerate() {
                let tile = x.clone().narrow(2, top, bottom - top).narrow(3, left, right - left);
                let mut tile = network(tile)?;
                if let Some(above) = above.get(column) {
                    tile = blend_onto(above.clone(), tile, 2, blend);
                }
                if let Some(left) = row.last() {
                    tile = blend_onto(left.clone(), tile, 3, blend);
                }
                row.push(tile);
            }
            let kept = row.iter().map(|tile| first(first(tile.clone(), 2, keep), 3, keep)).collect();
            rows.push(Tensor::cat(kept, 3));
            above = row;
        }
        Ok(Tensor::cat(rows, 2))
    }
}

fn first(x: Tensor<5>, axis: usize, length: usize) -> Tensor<5> {
    let length = length.min(x.dims()[axis]);
    x.narrow(axis, 0, length)
}

/// Starts and ends of the chunks of time: each begins with the last frame of the one before; a last one takes what remains.
fn chunks(frames: usize, length: usize) -> Vec<(usize, usize)> {
    if frames <= length {
        return vec![(0, frames)];
    }
    let mut chunks: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    while start + 1 < frames {
        chunks.push((start, (start + length).min(frames)));
        start += length - 1;
    }
    chunks
}

/// `b` with its first `extent` rows or columns faded in over the last ones of `a`.
fn blend_onto(a: Tensor<5>, b: Tensor<5>, axis: usize, extent: usize) -> Tensor<5> {
    let (length_a, length_b) = (a.dims()[axis], b.dims()[axis]);
    let extent = extent.min(length_a).min(length_b);
    if extent == 0 {
        return b;
    }
    let mut shape = [1; 5];
    shape[axis] = extent;
    let ramp: Vec<f32> = (0..extent).map(|y| y as f32 / extent as f32).collect();
    let ramp = Tensor::<5>::from_data(TensorData::new(ramp, shape), &b.device()).cast(b.dtype());
    let faded = a.narrow(axis, length_a - extent, extent) * (-ramp.clone() + 1.0) + b.clone().narrow(axis, 0, extent) * ramp;
    if extent == length_b { faded } else { Tensor::cat(vec![faded, b.narrow(axis, extent, length_b - extent)], axis) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_share_one_frame() {
        assert_eq!(chunks(24, 8), [(0, 8), (7, 15), (14, 22), (21, 24)]);
        assert_eq!(chunks(8, 8), [(0, 8)]);
        assert_eq!(chunks(15, 8), [(0, 8), (7, 15)]);
        assert_eq!(chunks(1, 8), [(0, 1)]);
    }
}
