//! Log-sums of many launches in one record: where each writes, which query rows are sampled, and the operations that do it.

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType};
use burn::tensor::{DType, Tensor};

use super::{Gives, TileAttentionKernel, Tiles, check};
use crate::gpu::spans::{self, Kind};
use crate::gpu::tier::ShaderTier;

/// What an attention reads.
#[derive(ExtensionType)]
pub(crate) struct Seen<B: Backend> {
    pub query: FloatTensor<B>,
    pub key: FloatTensor<B>,
    pub value: FloatTensor<B>,
}

/// Where a launch writes into a record: from value `at` on its log-sums `[batch, heads, kept tiles, query tokens]`, and behind
/// them those of the sample.
#[derive(Clone, Debug)]
pub struct RecordPlace {
    pub at: usize,
    pub sample: Option<Sample>,
}

/// Query rows of the last clip whose log-sums over all frames are wanted, `[heads, key frames, rows]`.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Equally many of every frame, frame by frame, counted over all frames.
    pub rows: Arc<Vec<u32>>,
}

impl RecordPlace {
    /// The values that a launch of so many heads writes.
    pub fn length(&self, [batch, heads]: [usize; 2], key_frames: usize, tiles: &Tiles) -> usize {
        self.sample_at(batch * heads, tiles) - self.at + self.sample_length(heads, key_frames)
    }

    /// Where the log-sums of a clip's heads begin.
    pub fn of_clip(&self, [clip, heads]: [usize; 2], tiles: &Tiles) -> usize {
        self.at + clip * heads * tiles.key_frames.frames().len() * tiles.query_tokens
    }

    /// Where those of the sample begin, for the heads of all clips.
    pub fn sample_at(&self, batch_heads: usize, tiles: &Tiles) -> usize {
        self.at + batch_heads * tiles.key_frames.frames().len() * tiles.query_tokens
    }

    fn sample_length(&self, heads: usize, key_frames: usize) -> usize {
        self.sample.as_ref().map_or(0, |sample| heads * key_frames * sample.rows.len())
    }
}

/// [`tile_attention`] to the same bits; its log-sums are written into the record, which is given back.
pub fn tile_attention_recorded(
    [query, key, value]: [Tensor<4>; 3],
    key_bias: Option<Tensor<2>>,
    record: Tensor<1>,
    place: RecordPlace,
    tiles: Tiles,
) -> (Tensor<4>, Tensor<1>) {
    check(&query, &key, Some(&value), key_bias.as_ref(), &tiles);
    check_place(&query, &key, &record, &place, &tiles);
    let tier = ShaderTier::of(&value.device(), value.dtype());
    let (output, record) = spans::span(Kind::Attention, || {
        let seen = Seen { query: query.into_dispatch(), key: key.into_dispatch(), value: value.into_dispatch() };
        Dispatch::tile_attention_recorded(seen, key_bias.into(), record.into_dispatch(), place, tiles, tier)
    });
    (Tensor::from_dispatch(output), Tensor::from_dispatch(record))
}

/// The log-sums alone, for about half of the work; they are written into the record, which is given back. There is no sample.
pub fn tile_log_sums_recorded(
    query: Tensor<4>,
    key: Tensor<4>,
    key_bias: Option<Tensor<2>>,
    record: Tensor<1>,
    at: usize,
    tiles: Tiles,
) -> Tensor<1> {
    let place = RecordPlace { at, sample: None };
    check(&query, &key, None, key_bias.as_ref(), &tiles);
    check_place(&query, &key, &record, &place, &tiles);
    let tier = ShaderTier::of(&key.device(), key.dtype());
    let (query, key, record) = (query.into_dispatch(), key.into_dispatch(), record.into_dispatch());
    let record = spans::span(Kind::Attention, || {
        Dispatch::tile_log_sums_recorded(query, key, key_bias.into(), record, place, tiles, tier)
    });
    Tensor::from_dispatch(record)
}

/// [`tile_attention`] to the same bits, and the log-sums `[batch, heads, kept tiles, query tokens]` of the tiles.
pub fn tile_attention_and_log_sums(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    key_bias: Option<Tensor<2>>,
    tiles: Tiles,
) -> (Tensor<4>, Tensor<4>) {
    let shape = log_sums_shape(&query, &tiles);
    let record = Tensor::empty([shape.iter().product::<usize>()], (&query.device(), DType::F32));
    let place = RecordPlace { at: 0, sample: None };
    let (output, record) = tile_attention_recorded([query, key, value], key_bias, record, place, tiles);
    (output, record.reshape(shape))
}

/// The log-sums `[batch, heads, kept tiles, query tokens]` alone, for about half of the work.
pub fn tile_log_sums(query: Tensor<4>, key: Tensor<4>, key_bias: Option<Tensor<2>>, tiles: Tiles) -> Tensor<4> {
    let shape = log_sums_shape(&query, &tiles);
    let record = Tensor::empty([shape.iter().product::<usize>()], (&query.device(), DType::F32));
    tile_log_sums_recorded(query, key, key_bias, record, 0, tiles).reshape(shape)
}

fn log_sums_shape(query: &Tensor<4>, tiles: &Tiles) -> [usize; 4] {
    let [batch, heads, _, _] = query.dims();
    [batch, heads, tiles.key_frames.frames().len(), tiles.query_tokens]
}

fn check_place(query: &Tensor<4>, key: &Tensor<4>, record: &Tensor<1>, place: &RecordPlace, tiles: &Tiles) {
    let ([batch, heads, rows, _], [_, _, key_tokens, _], [length]) = (query.dims(), key.dims(), record.dims());
    let end = place.at + place.length([batch, heads], key_tokens / tiles.key_tokens, tiles);
    assert!(end <= length && u32::try_from(length).is_ok(), "the record is too short, or too long for its numbers");
    if let Some(sample) = &place.sample {
        assert!(!sample.rows.is_empty() && sample.rows.iter().all(|&row| (row as usize) < rows), "a sampled row does not exist");
    }
}

/// A record that a launch writes into, and where.
pub(super) struct Recorded<T> {
    pub record: T,
    pub place: RecordPlace,
}

impl<T> Recorded<T> {
    pub fn gives(&self) -> Gives {
        if self.place.sample.is_some() { Gives::AttentionAndSample } else { Gives::AttentionAndLogSums }
    }
}

/// What a launch writes into a record, as the words of `info` that both tiers have in common, but for where the rows are.
pub(super) fn record_words(place: Option<&RecordPlace>, [batch, heads]: [usize; 2]) -> [u32; 3] {
    let (at, rows) = place.map_or((0, 0), |place| (place.at, place.sample.as_ref().map_or(0, |sample| sample.rows.len())));
    [at, (batch - 1) * heads, rows].map(|word| word as u32)
}

pub(super) fn sampled_rows(place: Option<&RecordPlace>) -> &[u32] {
    place.and_then(|place| place.sample.as_ref()).map_or(&[], |sample| &sample.rows)
}
