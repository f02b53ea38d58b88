//! Attention over the kept tiles of a frame-to-frame mask.
//!
//! Every query frame has a list of key frames; nothing is computed for the tiles that are not on it. Scores and sums are
//! f32, the softmax is online. Owns the shape, its checks and the division into tasks; `attention_panel` owns the
//! arithmetic.

use rayon::prelude::*;

use super::attention_panel::{HeadTask, MAX_HEAD_SIZE};
use super::lanes::InstructionSet;

/// Sizes of one attention call. Queries are `[batch, heads, query_frames * query_tokens, head_size]`, keys and values
/// `[batch, heads, key_frames * key_tokens, head_size]`, tokens in frame order.
///
/// Cross-attention with a text has one frame on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileAttentionShape {
    pub batch: usize,
    pub heads: usize,
    pub head_size: usize,
    pub query_frames: usize,
    /// Of one frame.
    pub query_tokens: usize,
    pub key_frames: usize,
    /// Of one frame.
    pub key_tokens: usize,
}

/// The kept key frames of every query frame: those of frame i are `frames[offsets[i]..offsets[i + 1]]`, in the order in
/// which they are summed.
#[derive(Clone, Copy, Debug)]
pub struct KeptFrames<'a> {
    /// One more than there are query frames.
    pub offsets: &'a [u32],
    pub frames: &'a [u32],
}

/// What an attention call writes; what is absent is not computed.
#[derive(Default)]
pub struct TileAttentionOutput<'a> {
    /// As the query.
    pub attention: Option<&'a mut [f32]>,
    /// `[batch, heads, kept frames of all query frames, query_tokens]`: the logarithm of the sum of exp(score) over a key frame.
    pub log_sums: Option<&'a mut [f32]>,
    /// `[batch, heads, queries]`: the logarithm of the sum of exp(score) over all kept keys. The backward pass needs it.
    pub row_log_sums: Option<&'a mut [f32]>,
}

/// What an attention call reads; lengths are checked by [`tile_attention`].
#[derive(Clone, Copy)]
pub struct TileAttentionInput<'a> {
    pub query: &'a [f32],
    pub key: &'a [f32],
    /// Without it there is no attention to give.
    pub value: Option<&'a [f32]>,
    pub kept: KeptFrames<'a>,
    /// `[batch, keys]`, added to the scores of all heads: 0 or -10000 for a masked text.
    pub key_bias: Option<&'a [f32]>,
    /// Of the scores, in general 1 / sqrt(head_size).
    pub scale: f32,
}

/// What an attention call computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttentionWork {
    /// Scores that were computed, over all heads and clips: counted where they are computed, not derived from the mask.
    pub query_key_pairs: u64,
}

impl AttentionWork {
    /// The tiles of one query frame and one key frame that the scores fill, over all heads and clips.
    pub fn tiles(&self, shape: &TileAttentionShape) -> u64 {
        self.query_key_pairs / (shape.query_tokens * shape.key_tokens) as u64
    }

    /// The share of the scores of dense attention.
    pub fn density(&self, shape: &TileAttentionShape) -> f64 {
        let dense = shape.batch * shape.heads * shape.queries() * shape.keys();
        self.query_key_pairs as f64 / dense as f64
    }
}

/// Why an attention call cannot be done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileAttentionError {
    #[error("Attention with {what} 0 does not exist; every size must be at least 1.")]
    Empty { what: &'static str },
    #[error("Heads of {found} channels are not supported; the largest have {MAX_HEAD_SIZE}.")]
    HeadTooLarge { found: usize },
    #[error("The {what} has {found} values where attention needs {expected}; check its shape.")]
    WrongLength { what: &'static str, found: usize, expected: usize },
    #[error("The offsets of the kept frames decrease or do not end at their number, {frames}; build the mask again.")]
    WrongOffsets { frames: usize },
    #[error("Key frame {frame} is kept, but there are only {frames}; build the mask for this number of frames.")]
    NoSuchFrame { frame: u32, frames: usize },
}

impl TileAttentionShape {
    pub(super) fn queries(&self) -> usize {
        self.query_frames * self.query_tokens
    }

    pub(super) fn keys(&self) -> usize {
        self.key_frames * self.key_tokens
    }

    pub(super) fn check(&self, input: &TileAttentionInput, output: &TileAttentionOutput) -> Result<(), TileAttentionError> {
        let sizes = [
            ("batch", self.batch),
            ("heads", self.heads),
            ("head size", self.head_size),
            ("query frames", self.query_frames),
            ("query tokens", self.query_tokens),
            ("key frames", self.key_frames),
            ("key tokens", self.key_tokens),
        ];
        if let Some((what, _)) = sizes.into_iter().find(|&(_, size)| size == 0) {
            return Err(TileAttentionError::Empty { what });
        }
        if self.head_size > MAX_HEAD_SIZE {
            return Err(TileAttentionError::HeadTooLarge { found: self.head_size });
        }
        let rows = self.batch * self.heads * self.head_size;
        let mut lengths = vec![
            ("query", input.query.len(), rows * self.queries()),
            ("key", input.key.len(), rows * self.keys()),
            ("list of offsets", input.kept.offsets.len(), self.query_frames + 1),
        ];
        if let Some(attention) = &output.attention {
            lengths.push(("value", input.value.map_or(0, <[f32]>::len), rows * self.keys()));
            lengths.push(("output", attention.len(), rows * self.queries()));
        }
        if let Some(log_sums) = &output.log_sums {
            let expected = self.batch * self.heads * input.kept.frames.len() * self.query_tokens;
            lengths.push(("list of log-sums", log_sums.len(), expected));
        }
        if let Some(row_log_sums) = &output.row_log_sums {
            lengths.push(("list of row log-sums", row_log_sums.len(), self.batch * self.heads * self.queries()));
        }
        lengths.extend(input.key_bias.map(|bias| ("key bias", bias.len(), self.batch * self.keys())));
        check_lengths(&lengths)?;
        let KeptFrames { offsets, frames } = input.kept;
        let last = offsets.last().copied().unwrap_or(0) as usize;
        if offsets[0] != 0 || !offsets.is_sorted() || last != frames.len() {
            return Err(TileAttentionError::WrongOffsets { frames: frames.len() });
        }
        match frames.iter().find(|&&frame| frame as usize >= self.key_frames) {
            Some(&frame) => Err(TileAttentionError::NoSuchFrame { frame, frames: self.key_frames }),
            None => Ok(()),
        }
    }
}

/// Each with its name, the length that it has and the one that it needs.
pub(super) fn check_lengths(lengths: &[(&'static str, usize, usize)]) -> Result<(), TileAttentionError> {
    match lengths.iter().find(|(_, found, expected)| found != expected) {
        Some(&(what, found, expected)) => Err(TileAttentionError::WrongLength { what, found, expected }),
        None => Ok(()),
    }
}

const TASKS_PER_THREAD: usize = 8;
/// Vectors of queries that share a pass over the keys: enough that keys may come from memory, few enough that their state
/// stays in the second-level cache.
const MAX_TASK_VECTORS: usize = 10;

/// `attention = softmax(query * key^T * scale + key_bias) * value` over the kept tiles, and the log-sums of these tiles. What
/// is given is overwritten. The queries of a frame that keeps no key frame get zeros.
///
/// Runs on the threads of rayon's current pool; the result does not depend on their number, nor on what else is given.
///
/// # Errors A size is 0 or too large, a length does not fit, or the kept frames are not a list of key frames; the output is
/// not touched then.
pub fn tile_attention(
    set: InstructionSet,
    shape: &TileAttentionShape,
    input: &TileAttentionInput,
    output: TileAttentionOutput,
) -> Result<AttentionWork, TileAttentionError> {
    shape.check(input, &output)?;
    let vectors = shape.query_tokens.div_ceil(set.width());
    let all_vectors = shape.batch * shape.heads * shape.query_frames * vectors;
    let wanted = all_vectors.div_ceil(TASKS_PER_THREAD * rayon::current_num_threads());
    // Whole panels of two vectors.
    let most = wanted.next_multiple_of(2).clamp(2, MAX_TASK_VECTORS);
    let task_vectors = vectors.div_ceil(vectors.div_ceil(most)).next_multiple_of(2).min(MAX_TASK_VECTORS);
    let task_tokens = task_vectors * set.width();

    let mut attention = output.attention.map(|out| out.chunks_mut(shape.query_tokens * shape.head_size));
    let mut log_sums = output.log_sums.map(|sums| sums.chunks_mut(shape.query_tokens));
    let mut row_log_sums = output.row_log_sums.map(|sums| sums.chunks_mut(shape.query_tokens));
    let mut tasks = Vec::new();
    for at in 0..shape.batch * shape.heads * shape.query_frames {
        let (head, frame) = (at / shape.query_frames, at % shape.query_frames);
        let tiles = (input.kept.offsets[frame + 1] - input.kept.offsets[frame]) as usize;
        let mut attention = attention.as_mut().and_then(Iterator::next).map(|out| out.chunks_mut(task_tokens * shape.head_size));
        let mut row_log_sums = row_log_sums.as_mut().and_then(Iterator::next).map(|sums| sums.chunks_mut(task_tokens));
        let tiles = log_sums.iter_mut().flat_map(|sums| sums.by_ref().take(tiles));
        let mut log_sums: Vec<_> = tiles.map(|tile| tile.chunks_mut(task_tokens)).collect();
        for first_token in (0..shape.query_tokens).step_by(task_tokens) {
            let queries = task_tokens.min(shape.query_tokens - first_token);
            let attention = attention.as_mut().and_then(Iterator::next);
            let log_sums = log_sums.iter_mut().filter_map(Iterator::next).collect();
            let row_log_sums = row_log_sums.as_mut().and_then(Iterator::next);
            tasks.push(HeadTask { shape, input, head, frame, first_token, queries, attention, log_sums, row_log_sums });
        }
    }
    let query_key_pairs = tasks.into_par_iter().map(|task| set.run(task)).sum();
    Ok(AttentionWork { query_key_pairs })
}

#[cfg(test)]
#[path = "tile_attention_tests.rs"]
mod tests;
