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

/// What an attention call reads; lengths are checked by [`tile_attention`].
#[derive(Clone, Copy)]
pub struct TileAttentionInput<'a> {
    pub query: &'a [f32],
    pub key: &'a [f32],
    pub value: &'a [f32],
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
    fn queries(&self) -> usize {
        self.query_frames * self.query_tokens
    }

    fn keys(&self) -> usize {
        self.key_frames * self.key_tokens
    }

    fn check(&self, input: &TileAttentionInput, out_len: usize) -> Result<(), TileAttentionError> {
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
            ("value", input.value.len(), rows * self.keys()),
            ("output", out_len, rows * self.queries()),
            ("list of offsets", input.kept.offsets.len(), self.query_frames + 1),
        ];
        lengths.extend(input.key_bias.map(|bias| ("key bias", bias.len(), self.batch * self.keys())));
        for (what, found, expected) in lengths {
            if found != expected {
                return Err(TileAttentionError::WrongLength { what, found, expected });
            }
        }
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

const TASKS_PER_THREAD: usize = 8;
/// Vectors of queries that share a pass over the keys: enough that keys may come from memory, few enough that their state
/// stays in the second-level cache.
const MAX_TASK_VECTORS: usize = 10;

/// `out = softmax(query * key^T * scale + key_bias) * value` over the kept tiles; `out` has the query's shape and is
/// overwritten. The queries of a frame that keeps no key frame get zeros.
///
/// Runs on the threads of rayon's current pool; the result does not depend on their number.
///
/// # Errors A size is 0 or too large, a length does not fit, or the kept frames are not a list of key frames; `out` is
/// not touched then.
pub fn tile_attention(
    set: InstructionSet,
    shape: &TileAttentionShape,
    input: &TileAttentionInput,
    out: &mut [f32],
) -> Result<AttentionWork, TileAttentionError> {
    shape.check(input, out.len())?;
    let vectors = shape.query_tokens.div_ceil(set.width());
    let all_vectors = shape.batch * shape.heads * shape.query_frames * vectors;
    let wanted = all_vectors.div_ceil(TASKS_PER_THREAD * rayon::current_num_threads());
    // Whole panels of two vectors.
    let most = wanted.next_multiple_of(2).clamp(2, MAX_TASK_VECTORS);
    let task_vectors = vectors.div_ceil(vectors.div_ceil(most)).next_multiple_of(2).min(MAX_TASK_VECTORS);
    let task_tokens = task_vectors * set.width();

    let frame_len = shape.query_tokens * shape.head_size;
    let mut tasks = Vec::new();
    for (at, frame) in out.chunks_mut(frame_len).enumerate() {
        let (head, frame_index) = (at / shape.query_frames, at % shape.query_frames);
        for (part, out) in frame.chunks_mut(task_tokens * shape.head_size).enumerate() {
            tasks.push(HeadTask { shape, input, head, frame: frame_index, first_token: part * task_tokens, out });
        }
    }
    let query_key_pairs = tasks.into_par_iter().map(|task| set.run(task)).sum();
    Ok(AttentionWork { query_key_pairs })
}

#[cfg(test)]
#[path = "tile_attention_tests.rs"]
mod tests;
