//! Recording where self-attention looks: the mass of every tile, measured beside the attention without changing it.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::gpu::kernels::tile_attention::{Tiles, tile_attention, tile_attention_and_log_sums, tile_log_sums};
use crate::gpu::kernels::tile_mass::tile_mass;
use crate::mask::KeyFrames;
use crate::model::noise::uniform;

/// Which query rows a recording looks at where a layer skips tiles. It never changes what the network gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recording {
    /// One row of every [`ROWS_A_SAMPLE`] for the tiles that are skipped; the estimate has a standard error.
    Sampled,
    /// Every row: the skipped tiles' scores are computed after all, which takes about as long as dense attention.
    Exact,
}

/// Neighbouring tokens of a frame of which one is in the sample.
pub const ROWS_A_SAMPLE: usize = 16;
/// The least rows of a frame in a sample, as far as there are so many: fewer tell nothing about their own error.
const LEAST_ROWS: usize = 8;
/// Every recording samples the same rows.
const SEED: u64 = 4;

/// The sampled tokens of a frame of so many, ascending: one at a random place of every run of [`ROWS_A_SAMPLE`]. At fixed
/// places they would be a column of a picture whose width is a multiple of that.
pub fn sampled_rows(tokens: usize) -> Vec<usize> {
    let rows = tokens.div_ceil(ROWS_A_SAMPLE).max(LEAST_ROWS.min(tokens));
    let place = |row: usize| {
        let (first, end) = (row * tokens / rows, (row + 1) * tokens / rows);
        first + (uniform(SEED, tokens as u64, row as u64) * (end - first) as f64) as usize
    };
    (0..rows).map(place).collect()
}

/// Takes the place of the attention kernel in every layer of one call, and keeps what it measures.
pub struct AttentionRecorder {
    recording: Recording,
    /// The rows of the sample, once a layer needs them; all layers of a call have equally many tokens.
    rows: Option<Tensor<1, Int>>,
    masses: Vec<Tensor<4>>,
}

impl AttentionRecorder {
    pub fn new(recording: Recording) -> Self {
        Self { recording, rows: None, masses: Vec::new() }
    }

    /// For each layer mass and standard error of every tile, `[heads, query frames, key frames, 2]` in f32, of the last clip
    /// of the batch.
    pub fn into_masses(self) -> Vec<Tensor<4>> {
        self.masses
    }

    /// Self-attention, to the same bits as without recording.
    pub(super) fn attend(
        &mut self,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        key_bias: Option<Tensor<2>>,
        tiles: Tiles,
    ) -> Tensor<4> {
        let frames = tiles.key_frames.query_frames();
        let is_dense = tiles.key_frames.frames().len() == frames * frames;
        if is_dense || self.recording == Recording::Sampled {
            let kept = tiles.key_frames.clone();
            let sample = (!is_dense).then(|| self.sampled_log_sums(&query, &key, key_bias.as_ref(), &tiles));
            let (output, log_sums) = tile_attention_and_log_sums(query, key, value, key_bias, tiles);
            self.masses.push(tile_mass(log_sums, sample, kept));
            output
        } else {
            let all = Arc::new(KeyFrames::dense(frames));
            let every_tile = Tiles { key_frames: all.clone(), ..tiles };
            let log_sums =
                tile_log_sums(last_clip(&query), last_clip(&key), key_bias.as_ref().map(last_clip_of_bias), every_tile);
            self.masses.push(tile_mass(log_sums, None, all));
            tile_attention(query, key, value, key_bias, tiles)
        }
    }

    /// The log-sums of some rows over all frames, `[1, heads, key frames, query frames * rows]`.
    fn sampled_log_sums(&mut self, query: &Tensor<4>, key: &Tensor<4>, key_bias: Option<&Tensor<2>>, tiles: &Tiles) -> Tensor<4> {
        let (query, key) = (last_clip(query), last_clip(key));
        let [_, heads, _, head] = query.dims();
        let frames = tiles.key_frames.query_frames();
        let rows = self.rows.get_or_insert_with(|| {
            let rows: Vec<i32> = sampled_rows(tiles.query_tokens).into_iter().map(|row| row as i32).collect();
            let count = rows.len();
            Tensor::from_data(TensorData::new(rows, [count]), &query.device())
        });
        let [count] = rows.dims();
        let query: Tensor<5> = query.reshape([1, heads, frames, tiles.query_tokens, head]);
        let query = query.select(3, rows.clone()).reshape([1, heads, frames * count, head]);
        // One block of queries that sees everything: a frame's rows alone would leave most of a workgroup empty.
        let key_frames = Arc::new(KeyFrames::of_one_query_frame(frames));
        let tiles = Tiles { key_frames, query_tokens: frames * count, key_tokens: tiles.key_tokens };
        tile_log_sums(query, key, key_bias.map(last_clip_of_bias), tiles)
    }
}

/// With guidance the prompt's clip is the last.
fn last_clip(x: &Tensor<4>) -> Tensor<4> {
    let [batch, ..] = x.dims();
    if batch == 1 { x.clone() } else { x.clone().narrow(0, batch - 1, 1) }
}

fn last_clip_of_bias(bias: &Tensor<2>) -> Tensor<2> {
    let [batch, _] = bias.dims();
    bias.clone().narrow(0, batch - 1, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_a_row_of_every_run() {
        for tokens in [1, 3, 8, 15, 16, 40, 144, 145, 1024, 3600] {
            let rows = sampled_rows(tokens);
            assert_eq!(rows.len(), tokens.div_ceil(16).max(tokens.min(8)), "{tokens}");
            assert!(rows.windows(2).all(|pair| pair[0] < pair[1]) && rows[rows.len() - 1] < tokens, "{tokens}: {rows:?}");
        }
        // Of a frame of 16 x 9 tokens not one column alone.
        let columns: std::collections::BTreeSet<usize> = sampled_rows(144).into_iter().map(|row| row % 16).collect();
        assert!(columns.len() > 4, "{columns:?}");
    }
}
