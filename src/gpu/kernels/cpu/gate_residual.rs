//! What a layer gave, times its gate, added to the residual stream; and the gradient.

use rayon::prelude::*;

use super::lanes::{InstructionSet, Kernel, Lanes};

/// Sizes of one call.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    pub batch: usize,
    pub tokens: usize,
    pub width: usize,
    pub table_rows: usize,
    pub gate_row: usize,
}

/// Tokens that a thread takes at once. It orders the sums over tokens, so it must not depend on the machine.
const TOKENS_A_BLOCK: usize = 32;

impl Gate {
    fn of<'a>(&self, table: &'a [f32], clip: usize) -> &'a [f32] {
        &table[(clip * self.table_rows + self.gate_row) * self.width..][..self.width]
    }
}

/// `out = tokens + x * gate`, all but the table `[batch, tokens, width]`.
pub fn gate_residual(set: InstructionSet, call: &Gate, tokens: &[f32], x: &[f32], table: &[f32], out: &mut [f32]) {
    let count = call.batch * call.tokens * call.width;
    assert!(x.len() == count && tokens.len() == count && out.len() == count, "the sizes do not fit");
    if count == 0 {
        return;
    }
    let clip_values = call.tokens * call.width;
    let clips = out.par_chunks_mut(clip_values).zip(tokens.par_chunks(clip_values)).zip(x.par_chunks(clip_values)).enumerate();
    clips.for_each(|(clip, ((out, tokens), x))| {
        let (gate, block) = (call.of(table, clip), TOKENS_A_BLOCK * call.width);
        let blocks = out.par_chunks_mut(block).zip(tokens.par_chunks(block)).zip(x.par_chunks(block));
        blocks.for_each(|((out, tokens), x)| set.run(Block { tokens, x, gate, out }));
    });
}

/// The gradients of `x` `[batch, tokens, width]` and of the table `[batch, table rows, width]` from that of the output.
pub fn gate_gradient(set: InstructionSet, call: &Gate, x: &[f32], table: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let width = call.width;
    assert!(x.len() == gradient.len() && x.len() == call.batch * call.tokens * width, "the sizes do not fit");
    let mut x_gradient = vec![0.0; x.len()];
    let mut table_gradient = vec![0.0; call.batch * call.table_rows * width];
    for clip in 0..call.batch {
        let of_clip = clip * call.tokens * width..(clip + 1) * call.tokens * width;
        let (gate, block) = (call.of(table, clip), TOKENS_A_BLOCK * width);
        let blocks = x_gradient[of_clip.clone()]
            .par_chunks_mut(block)
            .zip(x[of_clip.clone()].par_chunks(block))
            .zip(gradient[of_clip].par_chunks(block));
        let sums: Vec<Vec<f32>> = blocks
            .map(|((x_gradient, x), gradient)| {
                let mut sums = vec![0.0; width];
                set.run(GradientBlock { x, gradient, gate, x_gradient, sums: &mut sums });
                sums
            })
            .collect();
        let to = &mut table_gradient[(clip * call.table_rows + call.gate_row) * width..][..width];
        for of_block in &sums {
            to.iter_mut().zip(of_block).for_each(|(to, sum)| *to += sum);
        }
    }
    (x_gradient, table_gradient)
}

struct Block<'a, 'out> {
    tokens: &'a [f32],
    x: &'a [f32],
    gate: &'a [f32],
    out: &'out mut [f32],
}

impl Kernel for Block<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.gate.len();
        let rows = self.tokens.chunks_exact(width).zip(self.x.chunks_exact(width));
        for (out, (tokens, x)) in self.out.chunks_exact_mut(width).zip(rows) {
            for (((out, tokens), x), gate) in out.iter_mut().zip(tokens).zip(x).zip(self.gate) {
                *out = tokens + x * gate;
            }
        }
    }
}

struct GradientBlock<'a, 'out> {
    x: &'a [f32],
    gradient: &'a [f32],
    gate: &'a [f32],
    x_gradient: &'out mut [f32],
    sums: &'out mut [f32],
}

impl Kernel for GradientBlock<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.gate.len();
        let rows = self.x.chunks_exact(width).zip(self.gradient.chunks_exact(width));
        for (out, (x, gradient)) in self.x_gradient.chunks_exact_mut(width).zip(rows) {
            for column in 0..width {
                out[column] = gradient[column] * self.gate[column];
                self.sums[column] += gradient[column] * x[column];
            }
        }
    }
}
