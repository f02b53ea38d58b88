//! Between tokens and heads, with the rotary embedding on the way.

use rayon::prelude::*;

/// Sizes of one call: tokens `[batch, tokens, heads * head]`, heads `[batch, heads, tokens, head]`.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    pub batch: usize,
    pub heads: usize,
    pub tokens: usize,
    pub head: usize,
}

/// Tokens of a head that a thread takes at once.
const TOKENS_A_BLOCK: usize = 64;

impl Heads {
    fn len(&self) -> usize {
        self.batch * self.heads * self.tokens * self.head
    }
}

/// Tokens to heads, turned by the angles of `table` `[tokens, cos or sin, head / 2]` if there is one.
pub fn split(call: &Heads, x: &[f32], table: Option<&[f32]>) -> Vec<f32> {
    let &Heads { heads, tokens, head, .. } = call;
    assert_eq!(x.len(), call.len(), "the sizes do not fit");
    let mut out = vec![0.0; x.len()];
    if out.is_empty() {
        return out;
    }
    out.par_chunks_mut(tokens * head).enumerate().for_each(|(batch_head, out)| {
        let (clip, place) = (batch_head / heads, batch_head % heads);
        out.par_chunks_mut(TOKENS_A_BLOCK * head).enumerate().for_each(|(block, out)| {
            for (token, out) in (block * TOKENS_A_BLOCK..).zip(out.chunks_exact_mut(head)) {
                let x = &x[((clip * tokens + token) * heads + place) * head..][..head];
                turn(x, table.map(|table| &table[token * head..][..head]), 1.0, out);
            }
        });
    });
    out
}

/// Heads to tokens, turned back by the angles of `table` if there is one.
pub fn merge(call: &Heads, x: &[f32], table: Option<&[f32]>) -> Vec<f32> {
    let &Heads { heads, tokens, head, .. } = call;
    assert_eq!(x.len(), call.len(), "the sizes do not fit");
    let mut out = vec![0.0; x.len()];
    if out.is_empty() {
        return out;
    }
    out.par_chunks_mut(tokens * heads * head).enumerate().for_each(|(clip, out)| {
        out.par_chunks_mut(TOKENS_A_BLOCK * heads * head).enumerate().for_each(|(block, out)| {
            for (token, out) in (block * TOKENS_A_BLOCK..).zip(out.chunks_exact_mut(heads * head)) {
                for (place, out) in out.chunks_exact_mut(head).enumerate() {
                    let x = &x[((clip * heads + place) * tokens + token) * head..][..head];
                    turn(x, table.map(|table| &table[token * head..][..head]), -1.0, out);
                }
            }
        });
    });
    out
}

/// One head of one token; its `angles` are the cosines, then the sines, which are taken times `direction`.
fn turn(x: &[f32], angles: Option<&[f32]>, direction: f32, out: &mut [f32]) {
    let Some(angles) = angles else { return out.copy_from_slice(x) };
    let (cosines, sines) = angles.split_at(x.len() / 2);
    let half = x.len() / 6;
    let runs = x.chunks_exact(2 * half).zip(cosines.chunks_exact(half).zip(sines.chunks_exact(half)));
    for (out, (x, (cosines, sines))) in out.chunks_exact_mut(2 * half).zip(runs) {
        let ((first, second), (out_first, out_second)) = (x.split_at(half), out.split_at_mut(half));
        for channel in 0..half {
            let (cosine, sine) = (cosines[channel], direction * sines[channel]);
            out_first[channel] = first[channel] * cosine - second[channel] * sine;
            out_second[channel] = second[channel] * cosine + first[channel] * sine;
        }
    }
}
