//! One task of tile attention: some queries of one frame and one head, against all keys that the frame keeps.
//!
//! Queries are lanes: a panel holds one or two vectors of queries, transposed, so that scores are `[key, query]`.
//! Maximum, exponential and sum of the softmax are then plain vector operations, and both products broadcast keys and
//! values as they lie in memory.

use super::lanes::{Kernel, Lanes};
use super::microkernel::{self, LeftRows, MAX_PANEL, PANEL_VECTORS};
use super::tile_attention::{TileAttentionInput, TileAttentionShape};

pub(super) const MAX_HEAD_SIZE: usize = 128;
/// The most keys whose scores are computed at once: with a panel's queries and sums they fit a first-level cache.
const KEY_BLOCK: usize = 96;

/// Scores above this are too coarse in f32: from here on a unit in the last place is worth 4e-6 in the exponent.
const LARGE_SCORE: f32 = 32.0;
/// How far below the largest score a key's weight no longer shows in f32.
const NEGLIGIBLE: f32 = 20.0;
/// In place of a sum that underflowed, so that no logarithm is infinite.
const LEAST_SUM: f32 = 1e-37;

/// Some consecutive queries of one frame and head.
pub(super) struct HeadTask<'a, 'out> {
    pub shape: &'a TileAttentionShape,
    pub input: &'a TileAttentionInput<'a>,
    /// Counted over the whole batch.
    pub head: usize,
    pub frame: usize,
    pub first_token: usize,
    pub queries: usize,
    /// `[queries, head_size]`.
    pub attention: Option<&'out mut [f32]>,
    /// For each kept frame one of every query; empty if nobody wants them.
    pub log_sums: Vec<&'out mut [f32]>,
    /// One of every query.
    pub row_log_sums: Option<&'out mut [f32]>,
}

/// The state of one panel of queries.
struct Panel<'a> {
    vectors: usize,
    /// `[queries, head_size]`, as given.
    source: &'a [f32],
    scale: f32,
    /// `[head_size, queries of the panel]`, scaled.
    query: Vec<f32>,
    /// `[head_size, queries of the panel]`: the weighted sum of the values so far; empty if it is not wanted.
    sums: Vec<f32>,
    largest: [f32; MAX_PANEL],
    total_weight: [f32; MAX_PANEL],
    /// As the total, of the keys of one frame.
    frame_weight: [f32; MAX_PANEL],
}

/// Consecutive keys of one head.
struct KeyBlock<'a> {
    count: usize,
    /// `[count, head_size]`, as the values.
    keys: &'a [f32],
    values: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
}

impl Kernel for HeadTask<'_, '_> {
    /// Scores that were computed.
    type Output = u64;

    #[inline(always)]
    fn run<L: Lanes>(mut self) -> u64 {
        let &TileAttentionShape { heads, head_size, query_frames, query_tokens, key_frames, key_tokens, .. } = self.shape;
        let (queries, attends) = (self.queries, self.attention.is_some());
        let first_query = (self.head * query_frames + self.frame) * query_tokens + self.first_token;
        let panel_queries = PANEL_VECTORS * L::WIDTH;
        let mut panels = Vec::with_capacity(queries.div_ceil(panel_queries));
        for query in self.input.query[first_query * head_size..][..queries * head_size].chunks(panel_queries * head_size) {
            panels.push(Panel::new::<L>(query, head_size, self.input.scale, attends));
        }

        let offsets = &self.input.kept.offsets[self.frame..];
        let kept = &self.input.kept.frames[offsets[0] as usize..offsets[1] as usize];
        let mut scores = [0.0f32; KEY_BLOCK * MAX_PANEL];
        for (tile, &key_frame) in kept.iter().enumerate() {
            panels.iter_mut().for_each(|panel| panel.frame_weight.fill(0.0));
            let first_key = key_frame as usize * key_tokens;
            let blocks = key_tokens.div_ceil(KEY_BLOCK);
            let step = key_tokens.div_ceil(blocks).next_multiple_of(BLOCK_STEP).min(KEY_BLOCK);
            for start in (0..key_tokens).step_by(step) {
                let count = step.min(key_tokens - start);
                let at = self.head * key_frames * key_tokens + first_key + start;
                let bias_at = self.head / heads * key_frames * key_tokens + first_key + start;
                let block = KeyBlock {
                    count,
                    keys: &self.input.key[at * head_size..][..count * head_size],
                    values: self.input.value.filter(|_| attends).map(|value| &value[at * head_size..][..count * head_size]),
                    bias: self.input.key_bias.map(|bias| &bias[bias_at..bias_at + count]),
                };
                for panel in &mut panels {
                    match panel.vectors {
                        1 => panel.add::<L, 1>(&block, head_size, &mut scores),
                        _ => panel.add::<L, PANEL_VECTORS>(&block, head_size, &mut scores),
                    }
                }
            }
            if let Some(log_sums) = self.log_sums.get_mut(tile) {
                for (panel, log_sums) in panels.iter().zip(log_sums.chunks_mut(panel_queries)) {
                    panel.write_log_sums(&panel.frame_weight, log_sums);
                }
            }
        }
        if let Some(log_sums) = self.row_log_sums {
            for (panel, log_sums) in panels.iter().zip(log_sums.chunks_mut(panel_queries)) {
                panel.write_log_sums(&panel.total_weight, log_sums);
            }
        }
        if let Some(attention) = self.attention {
            for (panel, out) in panels.iter().zip(attention.chunks_mut(panel_queries * head_size)) {
                panel.finish::<L>(head_size, out);
            }
        }
        (queries * kept.len() * key_tokens) as u64
    }
}

/// Blocks of keys are multiples of the microkernel's rows in all instruction sets.
const BLOCK_STEP: usize = 12;

impl<'a> Panel<'a> {
    /// Transposes and scales `query`, `[queries, head_size]`. Queries that are not there are zeros, whose results nobody
    /// reads.
    #[inline(always)]
    fn new<L: Lanes>(query: &'a [f32], head_size: usize, scale: f32, attends: bool) -> Self {
        let vectors = (query.len() / head_size).div_ceil(L::WIDTH);
        let width = vectors * L::WIDTH;
        let mut transposed = vec![0.0; head_size * width];
        for (lane, query) in query.chunks_exact(head_size).enumerate() {
            for (channel, value) in query.iter().enumerate() {
                transposed[channel * width + lane] = value * scale;
            }
        }
        Self {
            vectors,
            source: query,
            scale,
            query: transposed,
            sums: vec![0.0; if attends { head_size * width } else { 0 }],
            largest: [f32::MIN; MAX_PANEL],
            total_weight: [0.0; MAX_PANEL],
            frame_weight: [0.0; MAX_PANEL],
        }
    }

    /// Adds a block of keys to the online softmax.
    #[inline(always)]
    fn add<L: Lanes, const VECTORS: usize>(&mut self, block: &KeyBlock, head_size: usize, scores: &mut [f32]) {
        let width = VECTORS * L::WIDTH;
        let scores = &mut scores[..block.count * width];
        for first in (0..block.count).step_by(L::ROWS) {
            let rows = L::ROWS.min(block.count - first);
            let left = LeftRows { values: block.keys, starts: &[first * head_size], row_stride: head_size, step_stride: 1 };
            microkernel::multiply::<L, VECTORS, false>(rows, head_size, left, &self.query, &mut scores[first * width..], width);
        }
        if let Some(bias) = block.bias {
            for (scores, &bias) in scores.chunks_exact_mut(L::WIDTH * VECTORS).zip(bias) {
                for scores in scores.chunks_exact_mut(L::WIDTH) {
                    L::load(scores).add(L::splat(bias)).store(scores);
                }
            }
        }
        self.exponentials::<L, VECTORS>(scores, block, head_size);
        let Some(values) = block.values else { return };
        for first in (0..head_size).step_by(L::ROWS) {
            let rows = L::ROWS.min(head_size - first);
            let left = LeftRows { values, starts: &[first], row_stride: 1, step_stride: head_size };
            let sums = &mut self.sums[first * width..];
            microkernel::multiply::<L, VECTORS, true>(rows, block.count, left, scores, sums, width);
        }
    }

    /// Turns scores into weights relative to the largest score so far, and what was summed before to the same measure.
    #[inline(always)]
    fn exponentials<L: Lanes, const VECTORS: usize>(&mut self, scores: &mut [f32], block: &KeyBlock, head_size: usize) {
        let width = VECTORS * L::WIDTH;
        for lane in (0..width).step_by(L::WIDTH) {
            let before = L::load(&self.largest[lane..]);
            // Four chains, since a maximum has to wait for the one before it.
            let mut largest = [before; 4];
            for (key, scores) in scores.chunks_exact(width).enumerate() {
                largest[key % 4] = largest[key % 4].max(L::load(&scores[lane..]));
            }
            let largest = largest[0].max(largest[1]).max(largest[2].max(largest[3]));
            let minus_largest = largest.mul(L::splat(-1.0));
            largest.store(&mut self.largest[lane..]);
            for scores in scores.chunks_exact_mut(width) {
                let scores = &mut scores[lane..];
                L::load(scores).add(minus_largest).store(scores);
            }
            for query in lane..(lane + L::WIDTH).min(self.source.len() / head_size) {
                if self.largest[query].abs() > LARGE_SCORE {
                    self.sharpen(query, scores, width, block, head_size);
                }
            }
            let mut weight = L::zero();
            for scores in scores.chunks_exact_mut(width) {
                let scores = &mut scores[lane..];
                let one = L::load(scores).exp();
                weight = weight.add(one);
                one.store(scores);
            }
            let rescale = before.add(minus_largest).exp();
            for weights in [&mut self.total_weight, &mut self.frame_weight] {
                L::load(&weights[lane..]).mul_add(rescale, weight).store(&mut weights[lane..]);
            }
            for sums in self.sums.chunks_exact_mut(width) {
                L::load(&sums[lane..]).mul(rescale).store(&mut sums[lane..]);
            }
        }
    }

    /// Computes the differences of one query's scores to its largest score again in f64, where they show.
    #[cold]
    fn sharpen(&self, query: usize, differences: &mut [f32], width: usize, block: &KeyBlock, head_size: usize) {
        let row = &self.source[query * head_size..][..head_size];
        for (index, key) in block.keys.chunks_exact(head_size).enumerate() {
            let difference = &mut differences[index * width + query];
            if *difference > -NEGLIGIBLE {
                let product: f64 = row.iter().zip(key).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                let bias = block.bias.map_or(0.0, |bias| f64::from(bias[index]));
                *difference = (product * f64::from(self.scale) + bias - f64::from(self.largest[query])) as f32;
            }
        }
    }

    /// Writes one log-sum a query, of one frame or of all.
    #[inline(always)]
    fn write_log_sums(&self, weights: &[f32; MAX_PANEL], log_sums: &mut [f32]) {
        for (lane, log_sum) in log_sums.iter_mut().enumerate() {
            *log_sum = self.largest[lane] + weights[lane].max(LEAST_SUM).ln();
        }
    }

    /// Writes the weighted means, `[queries, head_size]`.
    #[inline(always)]
    fn finish<L: Lanes>(&self, head_size: usize, out: &mut [f32]) {
        let width = self.vectors * L::WIDTH;
        for (lane, out) in out.chunks_exact_mut(head_size).enumerate() {
            let weight = self.total_weight[lane];
            // Without any key there is no weight.
            let share = if weight == 0.0 { 0.0 } else { weight.recip() };
            for (channel, out) in out.iter_mut().enumerate() {
                *out = self.sums[channel * width + lane] * share;
            }
        }
    }
}
