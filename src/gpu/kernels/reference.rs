//! Plain references of the kernels: loops in f64 that say what a kernel means. Tests and the self-test compare with them.

use crate::mask::KeyFrames;

/// Sizes of one call of tile attention.
pub struct TileAttention<'a> {
    pub batch: usize,
    pub heads: usize,
    pub head: usize,
    /// Of one frame.
    pub query_tokens: usize,
    /// Of one frame.
    pub key_tokens: usize,
    pub key_frames_total: usize,
    pub key_frames: &'a KeyFrames,
    pub scale: f32,
}

/// `softmax(query key^T * scale + key_bias) value` over the kept tiles; layouts as the kernel's.
pub fn tile_attention(call: &TileAttention<'_>, query: &[f32], key: &[f32], value: &[f32], key_bias: Option<&[f32]>) -> Vec<f64> {
    let (queries, keys) = (call.key_frames.query_frames() * call.query_tokens, call.key_frames_total * call.key_tokens);
    let mut output = Vec::with_capacity(call.batch * call.heads * queries * call.head);
    for batch_head in 0..call.batch * call.heads {
        let row = |values: &'_ [f32], rows: usize, index: usize| {
            let start = (batch_head * rows + index) * call.head;
            values[start..start + call.head].iter().map(|&x| f64::from(x)).collect::<Vec<_>>()
        };
        let key_rows: Vec<_> = (0..keys).map(|index| row(key, keys, index)).collect();
        let value_rows: Vec<_> = (0..keys).map(|index| row(value, keys, index)).collect();
        for index in 0..queries {
            let query_row = row(query, queries, index);
            let kept = call.key_frames.of(index / call.query_tokens);
            let seen: Vec<usize> =
                kept.iter().flat_map(|&frame| (0..call.key_tokens).map(move |token| frame as usize * call.key_tokens + token)).collect();
            let scores: Vec<f64> = seen
                .iter()
                .map(|&at| {
                    let bias = key_bias.map_or(0.0, |bias| f64::from(bias[batch_head / call.heads * keys + at]));
                    query_row.iter().zip(&key_rows[at]).map(|(q, k)| q * k).sum::<f64>() * f64::from(call.scale) + bias
                })
                .collect();
            let maximum = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - maximum).exp()).collect();
            let sum: f64 = weights.iter().sum();
            output.extend((0..call.head).map(|channel| {
                weights.iter().zip(&seen).map(|(weight, &at)| weight * value_rows[at][channel]).sum::<f64>() / sum
            }));
        }
    }
    output
}
