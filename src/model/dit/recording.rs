//! Recording where self-attention looks: the mass of every tile, measured beside the attention without changing it.

use std::sync::Arc;

use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::gpu::kernels::tile_attention::{
    RecordPlace, Sample, Tiles, tile_attention, tile_attention_recorded, tile_log_sums_recorded,
};
use crate::gpu::kernels::tile_mass::{RecordSizes, RecordedLayer, RecordedSample, tile_mass};
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

/// The values of a record, unless one layer alone has more: 64 MiB.
const RECORD_VALUES: usize = 1 << 24;

/// Takes the place of the attention kernel in every layer of one call, and keeps what it measures.
///
/// Layers write their log-sums into one record as long as there is room, so that the masses of many layers are one launch.
pub struct AttentionRecorder {
    recording: Recording,
    layers_left: usize,
    /// The rows of the sample, once a layer needs them; all layers of a call have equally many tokens.
    rows: Option<Arc<Vec<u32>>>,
    record: Option<Record>,
    masses: Vec<Tensor<5>>,
}

/// A record that fills.
struct Record {
    values: Tensor<1>,
    used: usize,
    layers: Vec<RecordedLayer>,
    sizes: RecordSizes,
}

impl AttentionRecorder {
    /// For a call of a network with so many layers.
    pub fn new(recording: Recording, layers: usize) -> Self {
        Self { recording, layers_left: layers, rows: None, record: None, masses: Vec::new() }
    }

    /// Mass and standard error of every tile of all layers, `[layers, heads, query frames, key frames, 2]` in f32, of the last
    /// clip of the batch; some layers a tensor.
    pub fn into_masses(mut self) -> Vec<Tensor<5>> {
        self.finish_record();
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
        let [batch, heads, _, _] = query.dims();
        let key_frames = tiles.key_frames.clone();
        let frames = key_frames.query_frames();
        let is_dense = key_frames.frames().len() == frames * frames;
        if is_dense || self.recording == Recording::Sampled {
            let sample = (!is_dense).then(|| Sample { rows: self.sampled_rows(&tiles) });
            let rows = sample.as_ref().map(|sample| sample.rows.len() / frames);
            let mut place = RecordPlace { at: 0, sample };
            let mut record = self.record_for(&query, place.length([batch, heads], frames, &tiles), &tiles);
            place.at = record.used;
            record.used += place.length([batch, heads], frames, &tiles);
            let sample = rows.map(|rows| RecordedSample { at: place.sample_at(batch * heads, &tiles), rows });
            let log_sums_at = place.of_clip([batch - 1, heads], &tiles);
            record.layers.push(RecordedLayer { log_sums_at, sample, key_frames });
            let (output, values) = tile_attention_recorded([query, key, value], key_bias, record.values, place, tiles);
            self.record = Some(Record { values, ..record });
            output
        } else {
            let all = Arc::new(KeyFrames::dense(frames));
            let every_tile = Tiles { key_frames: all.clone(), ..tiles };
            let length = RecordPlace { at: 0, sample: None }.length([1, heads], frames, &every_tile);
            let mut record = self.record_for(&query, length, &every_tile);
            let at = record.used;
            record.used += length;
            record.layers.push(RecordedLayer { log_sums_at: at, sample: None, key_frames: all });
            let bias = key_bias.as_ref().map(last_clip_of_bias);
            let values = tile_log_sums_recorded(last_clip(&query), last_clip(&key), bias, record.values, at, every_tile);
            self.record = Some(Record { values, ..record });
            tile_attention(query, key, value, key_bias, tiles)
        }
    }

    /// The record with room for so many values more.
    fn record_for(&mut self, query: &Tensor<4>, length: usize, tiles: &Tiles) -> Record {
        let layers_left = self.layers_left;
        self.layers_left -= 1;
        let has_room = |record: &Record| record.used + length <= record.values.dims()[0];
        if !self.record.as_ref().is_some_and(has_room) {
            self.finish_record();
        }
        self.record.take().unwrap_or_else(|| {
            let [batch, heads, _, _] = query.dims();
            let frames = tiles.key_frames.query_frames();
            // No layer has more than a dense one, or a sample of all rows.
            let largest = (batch + 1) * heads * frames * frames * tiles.query_tokens;
            let room = length.max(RECORD_VALUES.min(layers_left * largest));
            let values = Tensor::empty([room], (&query.device(), DType::F32));
            let sizes = RecordSizes { heads, query_tokens: tiles.query_tokens, frames };
            Record { values, used: 0, layers: Vec::new(), sizes }
        })
    }

    fn finish_record(&mut self) {
        if let Some(Record { values, layers, sizes, .. }) = self.record.take() {
            self.masses.push(tile_mass(values, layers, sizes));
        }
    }

    /// The sampled rows of all frames.
    fn sampled_rows(&mut self, tiles: &Tiles) -> Arc<Vec<u32>> {
        let (frames, tokens) = (tiles.key_frames.query_frames(), tiles.query_tokens);
        let rows = self.rows.get_or_insert_with(|| {
            let of_frame = sampled_rows(tokens);
            let rows = (0..frames).flat_map(|frame| of_frame.iter().map(move |row| (frame * tokens + row) as u32));
            Arc::new(rows.collect())
        });
        rows.clone()
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
