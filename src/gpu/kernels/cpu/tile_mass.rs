//! The mass of tiles from log-sums.

use rayon::prelude::*;

use crate::mask::KeyFrames;

/// What is known of one clip; the launcher checks lengths.
pub struct TileMassInput<'a> {
    pub heads: usize,
    /// Of one frame.
    pub query_tokens: usize,
    /// `[heads, kept tiles, query tokens]`.
    pub log_sums: &'a [f32],
    /// `[heads, key frames, query frames * sampled rows]`.
    pub sample: Option<&'a [f32]>,
    pub key_frames: &'a KeyFrames,
}

/// Mass and standard error, `[heads, query frames, key frames, 2]`.
pub fn tile_mass(input: &TileMassInput<'_>) -> Vec<f32> {
    let frames = input.key_frames.query_frames();
    let mut masses = vec![0.0; input.heads * frames * frames * 2];
    masses.par_chunks_mut(frames * 2).enumerate().for_each(|(index, masses)| {
        let (head, frame) = (index / frames, index % frames);
        let shares = input.shares(head, frame);
        for (mass, &share) in masses.chunks_exact_mut(2).zip(&shares) {
            mass[0] = share;
        }
        if let Some(sample) = input.sample {
            input.correct(sample, head, frame, masses);
        }
    });
    masses
}

impl TileMassInput<'_> {
    /// For each key frame the share of a query frame's kept mass, on all rows.
    fn shares(&self, head: usize, frame: usize) -> Vec<f32> {
        let kept = self.key_frames.of(frame);
        let first = head * self.key_frames.frames().len() + self.key_frames.offsets()[frame] as usize;
        let tiles: Vec<&[f32]> = self.log_sums.chunks_exact(self.query_tokens).skip(first).take(kept.len()).collect();
        let mut shares = vec![0.0; self.key_frames.query_frames()];
        let mut weights = vec![0.0; kept.len()];
        for row in 0..self.query_tokens {
            weights.iter_mut().zip(&tiles).for_each(|(weight, tile)| *weight = tile[row]);
            let sum = exponentials(&mut weights);
            for (weight, &key_frame) in weights.iter().zip(kept) {
                shares[key_frame as usize] += weight / sum;
            }
        }
        shares.iter_mut().for_each(|share| *share /= self.query_tokens as f32);
        shares
    }

    /// Turns the shares in `masses` into estimates with errors.
    fn correct(&self, sample: &[f32], head: usize, frame: usize, masses: &mut [f32]) {
        let frames = self.key_frames.query_frames();
        let all_rows = sample.len() / (self.heads * frames);
        let rows = all_rows / frames;
        let kept = self.key_frames.of(frame);
        let of_rows: Vec<RowMasses> = (0..rows)
            .map(|row| {
                let at = |key_frame: usize| sample[(head * frames + key_frame) * all_rows + frame * rows + row];
                let mut of_tiles: Vec<f32> = (0..frames).map(at).collect();
                let sum = exponentials(&mut of_tiles);
                of_tiles.iter_mut().for_each(|weight| *weight /= sum);
                let of_kept = kept.iter().map(|&key_frame| of_tiles[key_frame as usize]).sum();
                RowMasses { of_tiles, of_kept }
            })
            .collect();
        let mean = |value: &dyn Fn(&RowMasses) -> f32| of_rows.iter().map(value).sum::<f32>() / rows as f32;
        let mean_of_kept = mean(&|row| row.of_kept);
        for (key_frame, mass) in masses.chunks_exact_mut(2).enumerate() {
            let is_kept = kept.contains(&(key_frame as u32));
            let share_of = |row: &RowMasses| if is_kept { row.of_tiles[key_frame] / row.of_kept.max(LEAST_SUM) } else { 0.0 };
            let (mean_mass, mean_share) = (mean(&|row| row.of_tiles[key_frame]), mean(&share_of));
            let squares =
                |row: &RowMasses| ((row.of_tiles[key_frame] - mean_mass) - mean_of_kept * (share_of(row) - mean_share)).powi(2);
            let variance = of_rows.iter().map(squares).sum::<f32>() / (rows as f32 - 1.0).max(1.0);
            let left_out = 1.0 - rows as f32 / self.query_tokens as f32;
            mass[0] = (mean_mass + mean_of_kept * (mass[0] - mean_share)).max(0.0);
            mass[1] = (variance * left_out / rows as f32).sqrt();
        }
    }
}

/// What a sampled row puts on every tile, and on all that are kept.
struct RowMasses {
    of_tiles: Vec<f32>,
    of_kept: f32,
}

/// So that nothing is divided by zero.
const LEAST_SUM: f32 = 1e-37;

/// Turns logarithms into weights relative to the largest, and gives their sum.
fn exponentials(values: &mut [f32]) -> f32 {
    let largest = values.iter().copied().fold(f32::MIN, f32::max);
    values.iter_mut().for_each(|value| *value = (*value - largest).exp());
    values.iter().sum()
}
