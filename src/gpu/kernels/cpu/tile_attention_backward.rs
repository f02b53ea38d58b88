//! The gradients of attention over the kept tiles.
//!
//! With the weights `P = exp(score - row log-sum)`, the output O and its gradient dO (FlashAttention-2, arXiv 2307.08691,
//! algorithm 2): `dV = P^T dO`, `dS = P (dO V^T - rowsum(dO O))`, `dQ = dS K scale`, `dK = dS^T Q scale`. Weights are computed
//! again from the row log-sums, tile by tile, so that nothing of the size of the scores is kept.
//!
//! One task owns a head of a clip and walks its kept tiles by key frames, a block of keys against blocks of queries. Queries
//! are lanes, as in the forward pass. Blocks have fixed sizes, so that all instruction sets sum in the same order.

use rayon::prelude::*;

use super::lanes::{InstructionSet, Kernel, Lanes};
use super::microkernel::{LeftRows, MAX_PANEL, PANEL_VECTORS, multiply};
use super::tile_attention::{
    AttentionWork, TileAttentionError, TileAttentionInput, TileAttentionOutput, TileAttentionShape, check_lengths,
};

/// What the backward pass reads; the lengths are checked by [`tile_attention_backward`].
#[derive(Clone, Copy)]
pub struct TileAttentionBackwardInput<'a> {
    /// What the forward pass read, values included.
    pub forward: TileAttentionInput<'a>,
    /// The attention and the row log-sums that the forward pass gave.
    pub output: &'a [f32],
    pub row_log_sums: &'a [f32],
    /// Of the loss with respect to the attention; as the output.
    pub output_gradient: &'a [f32],
}

/// What the backward pass overwrites: gradients of the loss with respect to each operand, as long as it is.
pub struct TileAttentionGradients<'a> {
    pub query: &'a mut [f32],
    pub key: &'a mut [f32],
    pub value: &'a mut [f32],
}

/// Queries of a block: whole panels in every instruction set.
const QUERY_BLOCK: usize = MAX_PANEL;
/// The most keys of a block.
const KEY_BLOCK: usize = 96;
/// Blocks of keys are multiples of the microkernel's rows in all instruction sets.
const BLOCK_STEP: usize = 12;

/// The gradients of [`tile_attention`](super::tile_attention::tile_attention), and the work that was done for them.
///
/// Keys that no frame keeps get zeros. Runs on the threads of rayon's current pool; the result does not depend on their number.
///
/// # Errors
/// As the forward pass, and if there are no values, or one of the further lengths does not fit.
pub fn tile_attention_backward(
    set: InstructionSet,
    shape: &TileAttentionShape,
    input: &TileAttentionBackwardInput,
    gradients: TileAttentionGradients,
) -> Result<AttentionWork, TileAttentionError> {
    let TileAttentionGradients { query, key, value } = gradients;
    shape.check(&input.forward, &TileAttentionOutput { attention: Some(&mut *query), ..Default::default() })?;
    let (queries, keys) = (input.forward.query.len(), input.forward.key.len());
    check_lengths(&[
        ("output", input.output.len(), queries),
        ("list of row log-sums", input.row_log_sums.len(), shape.batch * shape.heads * shape.queries()),
        ("gradient of the output", input.output_gradient.len(), queries),
        ("gradient of the key", key.len(), keys),
        ("gradient of the value", value.len(), keys),
    ])?;
    let of_head = shape.head_size * shape.keys();
    let query_key_pairs = query
        .par_chunks_mut(shape.head_size * shape.queries())
        .zip(key.par_chunks_mut(of_head).zip(value.par_chunks_mut(of_head)))
        .enumerate()
        .map(|(head, (query, (key, value)))| {
            set.run(HeadTask { shape, input, head, gradients: TileAttentionGradients { query, key, value } })
        })
        .sum();
    Ok(AttentionWork { query_key_pairs })
}

/// One head of one clip.
struct HeadTask<'a, 'out> {
    shape: &'a TileAttentionShape,
    input: &'a TileAttentionBackwardInput<'a>,
    /// Counted over the whole batch.
    head: usize,
    gradients: TileAttentionGradients<'out>,
}

impl Kernel for HeadTask<'_, '_> {
    /// Scores that were computed.
    type Output = u64;

    #[inline(always)]
    fn run<L: Lanes>(self) -> u64 {
        let &TileAttentionShape { heads, head_size, query_tokens, key_frames, key_tokens, .. } = self.shape;
        let TileAttentionInput { query, key, value, kept, key_bias, scale } = self.input.forward;
        let (queries, keys) = (self.shape.queries(), self.shape.keys());
        let query_rows = self.head * queries * head_size..(self.head + 1) * queries * head_size;
        let key_rows = self.head * keys * head_size..(self.head + 1) * keys * head_size;
        let (key, value) = (&key[key_rows.clone()], &value.unwrap_or_default()[key_rows]);
        let bias = key_bias.map(|bias| &bias[self.head / heads * keys..][..keys]);
        let blocks_a_frame = query_tokens.div_ceil(QUERY_BLOCK);
        let blocks = QueryBlock::all::<L>(
            self.shape,
            &query[query_rows.clone()],
            &self.input.output[query_rows.clone()],
            &self.input.output_gradient[query_rows],
            &self.input.row_log_sums[self.head * queries..][..queries],
            scale,
        );
        let packed_key = Packed::new::<L>(key, head_size, 1.0, keys);

        let padded = head_size.next_multiple_of(L::WIDTH);
        let mut query_gradient = vec![0.0; blocks.len() * QUERY_BLOCK * padded];
        let mut key_gradient = vec![0.0; keys * padded];
        let mut value_gradient = vec![0.0; keys * padded];
        let (mut weights, mut slopes) = ([0.0f32; KEY_BLOCK * QUERY_BLOCK], [0.0f32; KEY_BLOCK * QUERY_BLOCK]);
        let steps = key_tokens.div_ceil(key_tokens.div_ceil(KEY_BLOCK)).next_multiple_of(BLOCK_STEP).min(KEY_BLOCK);
        let mut pairs = 0;
        for key_frame in 0..key_frames {
            for start in (0..key_tokens).step_by(steps) {
                let first_key = key_frame * key_tokens + start;
                let count = steps.min(key_tokens - start);
                let rows = first_key * head_size..(first_key + count) * head_size;
                let sums = first_key * padded..(first_key + count) * padded;
                for frame in 0..self.shape.query_frames {
                    let of_frame = kept.offsets[frame] as usize..kept.offsets[frame + 1] as usize;
                    if !kept.frames[of_frame].contains(&(key_frame as u32)) {
                        continue;
                    }
                    pairs += (count * query_tokens) as u64;
                    for at in frame * blocks_a_frame..(frame + 1) * blocks_a_frame {
                        let block = &blocks[at];
                        let (weights, slopes) = (&mut weights[..count * QUERY_BLOCK], &mut slopes[..count * QUERY_BLOCK]);
                        block.query.dot_rows::<L>(&key[rows.clone()], head_size, weights);
                        block.gradient.dot_rows::<L>(&value[rows.clone()], head_size, slopes);
                        block.weigh::<L>(weights, slopes, bias.map(|bias| &bias[first_key..first_key + count]));
                        let of_queries = |values| LeftRows { values, starts: &[], row_stride: QUERY_BLOCK, step_stride: 1 };
                        let value_sums = &mut value_gradient[sums.clone()];
                        block.gradient.rows.add_product::<L>(count, QUERY_BLOCK, of_queries(weights), 0, value_sums);
                        let key_sums = &mut key_gradient[sums.clone()];
                        block.query.rows.add_product::<L>(count, QUERY_BLOCK, of_queries(slopes), 0, key_sums);
                        let of_keys = LeftRows { values: slopes, starts: &[], row_stride: 1, step_stride: QUERY_BLOCK };
                        let query_sums = &mut query_gradient[at * QUERY_BLOCK * padded..][..QUERY_BLOCK * padded];
                        packed_key.add_product::<L>(QUERY_BLOCK, count, of_keys, first_key, query_sums);
                    }
                }
            }
        }

        for (frame, out) in self.gradients.query.chunks_exact_mut(query_tokens * head_size).enumerate() {
            let sums = query_gradient[frame * blocks_a_frame * QUERY_BLOCK * padded..].chunks_exact(padded);
            for (out, sums) in out.chunks_exact_mut(head_size).zip(sums) {
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * scale);
            }
        }
        for (out, sums) in [(self.gradients.key, &key_gradient), (self.gradients.value, &value_gradient)] {
            for (out, sums) in out.chunks_exact_mut(head_size).zip(sums.chunks_exact(padded)) {
                out.copy_from_slice(&sums[..head_size]);
            }
        }
        pairs
    }
}

/// Consecutive queries of one frame with what belongs to them; the last block of a frame is filled up with zeros, which add
/// nothing.
struct QueryBlock {
    /// Scaled.
    query: TwoWays,
    /// Of the output.
    gradient: TwoWays,
    log_sums: [f32; QUERY_BLOCK],
    /// Of every query the sum over channels of output * gradient.
    deltas: [f32; QUERY_BLOCK],
}

impl QueryBlock {
    /// All blocks of a head, frame by frame.
    #[inline(always)]
    fn all<L: Lanes>(
        shape: &TileAttentionShape,
        query: &[f32],
        output: &[f32],
        gradient: &[f32],
        log_sums: &[f32],
        scale: f32,
    ) -> Vec<Self> {
        let head_size = shape.head_size;
        let mut blocks = Vec::new();
        for frame in 0..shape.query_frames {
            for token in (0..shape.query_tokens).step_by(QUERY_BLOCK) {
                let count = QUERY_BLOCK.min(shape.query_tokens - token);
                let first = frame * shape.query_tokens + token;
                let rows = first * head_size..(first + count) * head_size;
                let mut block = Self {
                    query: TwoWays::new::<L>(&query[rows.clone()], head_size, scale),
                    gradient: TwoWays::new::<L>(&gradient[rows.clone()], head_size, 1.0),
                    log_sums: [0.0; QUERY_BLOCK],
                    deltas: [0.0; QUERY_BLOCK],
                };
                block.log_sums[..count].copy_from_slice(&log_sums[first..first + count]);
                let pairs = output[rows.clone()].chunks_exact(head_size).zip(gradient[rows].chunks_exact(head_size));
                for (delta, (output, gradient)) in block.deltas.iter_mut().zip(pairs) {
                    // Differences to it are what counts, so it must not be coarser than they are.
                    *delta = output.iter().zip(gradient).map(|(&o, &g)| f64::from(o) * f64::from(g)).sum::<f64>() as f32;
                }
                blocks.push(block);
            }
        }
        blocks
    }

    /// `weights`, `[keys, queries]`, come in as scores; `slopes` as products of values and gradients, and go out as gradients of
    /// the scores.
    #[inline(always)]
    fn weigh<L: Lanes>(&self, weights: &mut [f32], slopes: &mut [f32], bias: Option<&[f32]>) {
        for (key, (weights, slopes)) in
            weights.chunks_exact_mut(QUERY_BLOCK).zip(slopes.chunks_exact_mut(QUERY_BLOCK)).enumerate()
        {
            let bias = L::splat(bias.map_or(0.0, |bias| bias[key]));
            for lane in (0..QUERY_BLOCK).step_by(L::WIDTH) {
                let (weights, slopes) = (&mut weights[lane..], &mut slopes[lane..]);
                let weight = L::load(weights).add(bias).sub(L::load(&self.log_sums[lane..])).exp();
                weight.store(weights);
                weight.mul(L::load(slopes).sub(L::load(&self.deltas[lane..]))).store(slopes);
            }
        }
    }
}

/// A block of queries (or of gradients) as both products want it.
struct TwoWays {
    /// `[panels, head_size, queries of a panel]`.
    transposed: Vec<f32>,
    rows: Packed,
}

impl TwoWays {
    #[inline(always)]
    fn new<L: Lanes>(rows: &[f32], head_size: usize, factor: f32) -> Self {
        let width = PANEL_VECTORS * L::WIDTH;
        let mut transposed = vec![0.0; QUERY_BLOCK * head_size];
        for (row, values) in rows.chunks_exact(head_size).enumerate() {
            let panel = &mut transposed[row / width * width * head_size..];
            for (channel, value) in values.iter().enumerate() {
                panel[channel * width + row % width] = value * factor;
            }
        }
        Self { transposed, rows: Packed::new::<L>(rows, head_size, factor, QUERY_BLOCK) }
    }

    /// `out[row][query] = left row . query` for `left` `[rows, head_size]`.
    #[inline(always)]
    fn dot_rows<L: Lanes>(&self, left: &[f32], head_size: usize, out: &mut [f32]) {
        let (width, rows) = (PANEL_VECTORS * L::WIDTH, left.len() / head_size);
        for (index, panel) in self.transposed.chunks_exact(width * head_size).enumerate() {
            for first in (0..rows).step_by(L::ROWS) {
                let count = L::ROWS.min(rows - first);
                let left = LeftRows { values: left, starts: &[first * head_size], row_stride: head_size, step_stride: 1 };
                let out = &mut out[first * QUERY_BLOCK + index * width..];
                multiply::<L, PANEL_VECTORS, false>(count, head_size, left, panel, out, QUERY_BLOCK);
            }
        }
    }
}

/// Rows of channels, cut into the columns of panels: `[panels, rows, channels of a panel]`. The last panel may be half as wide,
/// and is filled up with zeros.
struct Packed {
    values: Vec<f32>,
    rows: usize,
    /// Channels with those that fill up.
    padded: usize,
}

impl Packed {
    /// `rows` may be more than there are; the others are zeros.
    #[inline(always)]
    fn new<L: Lanes>(source: &[f32], head_size: usize, factor: f32, rows: usize) -> Self {
        let padded = head_size.next_multiple_of(L::WIDTH);
        let mut values = vec![0.0; rows * padded];
        for first in (0..head_size).step_by(PANEL_VECTORS * L::WIDTH) {
            let width = (PANEL_VECTORS * L::WIDTH).min(padded - first);
            let panel = values[rows * first..].chunks_exact_mut(width);
            for (to, from) in panel.zip(source.chunks_exact(head_size)) {
                let from = &from[first..(first + width).min(head_size)];
                to.iter_mut().zip(from).for_each(|(to, from)| *to = from * factor);
            }
        }
        Self { values, rows, padded }
    }

    /// `sums[row][channel] += sum over steps of left[row][step] * self[first_step + step][channel]`; the sums have padded rows.
    #[inline(always)]
    fn add_product<L: Lanes>(&self, rows: usize, steps: usize, left: LeftRows, first_step: usize, sums: &mut [f32]) {
        for first in (0..self.padded).step_by(PANEL_VECTORS * L::WIDTH) {
            let width = (PANEL_VECTORS * L::WIDTH).min(self.padded - first);
            let panel = &self.values[self.rows * first + first_step * width..];
            for row in (0..rows).step_by(L::ROWS) {
                let count = L::ROWS.min(rows - row);
                let left = LeftRows { starts: &[row * left.row_stride], ..left };
                let sums = &mut sums[row * self.padded + first..];
                match width / L::WIDTH {
                    1 => multiply::<L, 1, true>(count, steps, left, panel, sums, self.padded),
                    _ => multiply::<L, PANEL_VECTORS, true>(count, steps, left, panel, sums, self.padded),
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "tile_attention_backward_tests.rs"]
mod tests;
