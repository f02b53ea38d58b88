//! LayerNorm without affine followed by AdaLN's modulation, and its gradient.
//!
//! Sums run over [`LANES`] partial sums in a fixed order, whatever the vectors of the instruction set are, so the result
//! depends neither on the threads nor on the instruction set.

use rayon::prelude::*;

use super::lanes::{InstructionSet, Kernel, Lanes, MAX_WIDTH};

/// Sizes of one call.
#[derive(Clone, Copy, Debug)]
pub struct NormModulate {
    pub batch: usize,
    pub tokens: usize,
    pub width: usize,
    pub table_rows: usize,
    pub shift_row: usize,
    pub scale_row: usize,
    pub epsilon: f32,
}

/// Tokens that a thread takes at once. It orders the sums over tokens, so it must not depend on the machine.
pub(super) const TOKENS_A_BLOCK: usize = 32;
/// Partial sums of a row: a power of two, and a multiple of every vector's width.
const LANES: usize = 64;
/// Vectors of that many sums where vectors are the shortest.
const MOST_VECTORS: usize = 16;

impl NormModulate {
    /// Shift and scale of a clip.
    fn modulation<'a>(&self, table: &'a [f32], clip: usize) -> [&'a [f32]; 2] {
        [self.shift_row, self.scale_row].map(|row| &table[(clip * self.table_rows + row) * self.width..][..self.width])
    }
}

/// `out = (x - mean) / sqrt(variance + epsilon) * (1 + scale) + shift` for `x` and `out` `[batch, tokens, width]`.
pub fn norm_modulate(set: InstructionSet, call: &NormModulate, x: &[f32], table: &[f32], out: &mut [f32]) {
    assert!(x.len() == out.len() && x.len() == call.batch * call.tokens * call.width, "the sizes do not fit");
    if out.is_empty() {
        return;
    }
    let clip_values = call.tokens * call.width;
    let clips = out.par_chunks_mut(clip_values).zip(x.par_chunks(clip_values)).enumerate();
    clips.for_each(|(clip, (out, x))| {
        let [shift, scale] = call.modulation(table, clip);
        let block = TOKENS_A_BLOCK * call.width;
        let blocks = out.par_chunks_mut(block).zip(x.par_chunks(block));
        blocks.for_each(|(out, x)| set.run(Block { x, shift, scale, epsilon: call.epsilon, out }));
    });
}

/// The gradients of `x` `[batch, tokens, width]` and of the table `[batch, table rows, width]` from that of the output.
pub fn norm_modulate_gradient(
    set: InstructionSet,
    call: &NormModulate,
    x: &[f32],
    table: &[f32],
    gradient: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    assert!(x.len() == gradient.len() && x.len() == call.batch * call.tokens * call.width, "the sizes do not fit");
    let width = call.width;
    let mut x_gradient = vec![0.0; x.len()];
    let mut table_gradient = vec![0.0; call.batch * call.table_rows * width];
    for clip in 0..call.batch {
        let [_, scale] = call.modulation(table, clip);
        let of_clip = clip * call.tokens * width..(clip + 1) * call.tokens * width;
        let block = TOKENS_A_BLOCK * width;
        let blocks = x_gradient[of_clip.clone()]
            .par_chunks_mut(block)
            .zip(x[of_clip.clone()].par_chunks(block))
            .zip(gradient[of_clip].par_chunks(block));
        let sums: Vec<Vec<f32>> = blocks
            .map(|((x_gradient, x), gradient)| {
                let mut sums = vec![0.0; 2 * width];
                set.run(GradientBlock { x, gradient, scale, epsilon: call.epsilon, x_gradient, sums: &mut sums });
                sums
            })
            .collect();
        for (row, first) in [(call.shift_row, 0), (call.scale_row, width)] {
            let to = &mut table_gradient[(clip * call.table_rows + row) * width..][..width];
            for of_block in &sums {
                to.iter_mut().zip(&of_block[first..first + width]).for_each(|(to, sum)| *to += sum);
            }
        }
    }
    (x_gradient, table_gradient)
}

/// The sum of `value` over a row and another, in an order that depends on the length only. Of `padding` the value must be 0.
#[inline(always)]
pub(super) fn sum_over<L: Lanes>(left: &[f32], right: &[f32], padding: f32, value: impl Fn(L, L) -> L) -> f32 {
    let mut vectors = LANES / L::WIDTH;
    let mut sums = [L::zero(); MOST_VECTORS];
    let (left_blocks, right_blocks) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let (left_rest, right_rest) = (left_blocks.remainder(), right_blocks.remainder());
    for (left, right) in left_blocks.zip(right_blocks) {
        for (vector, sum) in sums[..vectors].iter_mut().enumerate() {
            let at = vector * L::WIDTH;
            *sum = sum.add(value(L::load(&left[at..]), L::load(&right[at..])));
        }
    }
    if !left_rest.is_empty() {
        let [mut left, mut right] = [[padding; LANES]; 2];
        left[..left_rest.len()].copy_from_slice(left_rest);
        right[..right_rest.len()].copy_from_slice(right_rest);
        for (vector, sum) in sums[..vectors].iter_mut().enumerate() {
            let at = vector * L::WIDTH;
            *sum = sum.add(value(L::load(&left[at..]), L::load(&right[at..])));
        }
    }
    // Halves are added to halves, first as vectors, then inside of one: the same tree for every width of vectors.
    while vectors > 1 {
        vectors /= 2;
        for vector in 0..vectors {
            sums[vector] = sums[vector].add(sums[vector + vectors]);
        }
    }
    let mut lanes = [0.0f32; MAX_WIDTH];
    sums[0].store(&mut lanes);
    let mut count = L::WIDTH;
    while count > 1 {
        count /= 2;
        for lane in 0..count {
            lanes[lane] += lanes[lane + count];
        }
    }
    lanes[0]
}

/// Mean, and 1 / sqrt(variance + epsilon) around it.
#[inline(always)]
fn statistics<L: Lanes>(row: &[f32], epsilon: f32) -> (f32, f32) {
    let mean = sum_over::<L>(row, row, 0.0, |value, _| value) / row.len() as f32;
    let means = L::splat(mean);
    let squares = sum_over::<L>(row, row, mean, |value, _| {
        let centred = value.sub(means);
        centred.mul(centred)
    });
    (mean, 1.0 / (squares / row.len() as f32 + epsilon).sqrt())
}

struct Block<'a, 'out> {
    x: &'a [f32],
    shift: &'a [f32],
    scale: &'a [f32],
    epsilon: f32,
    out: &'out mut [f32],
}

impl Kernel for Block<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.shift.len();
        for (out, x) in self.out.chunks_exact_mut(width).zip(self.x.chunks_exact(width)) {
            let (mean, inverse) = statistics::<L>(x, self.epsilon);
            for (((out, x), scale), shift) in out.iter_mut().zip(x).zip(self.scale).zip(self.shift) {
                *out = (x - mean) * inverse * (1.0 + scale) + shift;
            }
        }
    }
}

struct GradientBlock<'a, 'out> {
    x: &'a [f32],
    gradient: &'a [f32],
    scale: &'a [f32],
    epsilon: f32,
    x_gradient: &'out mut [f32],
    /// Of the gradients of shift and of scale.
    sums: &'out mut [f32],
}

impl Kernel for GradientBlock<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.scale.len();
        let (shift_sums, scale_sums) = self.sums.split_at_mut(width);
        let mut scaled = vec![0.0f32; width];
        let rows = self.x.chunks_exact(width).zip(self.gradient.chunks_exact(width));
        for (out, (x, gradient)) in self.x_gradient.chunks_exact_mut(width).zip(rows) {
            let (mean, inverse) = statistics::<L>(x, self.epsilon);
            // The normalised row lies in `out` until its gradient takes its place.
            out.iter_mut().zip(x).for_each(|(normal, x)| *normal = (x - mean) * inverse);
            for column in 0..width {
                shift_sums[column] += gradient[column];
                scale_sums[column] += gradient[column] * out[column];
                scaled[column] = gradient[column] * (1.0 + self.scale[column]);
            }
            let mean_scaled = sum_over::<L>(&scaled, &scaled, 0.0, |scaled, _| scaled) / width as f32;
            let mean_product = sum_over::<L>(&scaled, out, 0.0, L::mul) / width as f32;
            out.iter_mut().zip(&scaled).for_each(|(out, scaled)| *out = inverse * (scaled - mean_scaled - *out * mean_product));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::kernels::reference::seeded;

    #[test]
    fn results_do_not_depend_on_threads_or_instructions() {
        let call = NormModulate { batch: 2, tokens: 101, width: 75, table_rows: 3, shift_row: 2, scale_row: 0, epsilon: 1e-6 };
        let count = call.batch * call.tokens * call.width;
        let (x, gradient) = (seeded(1, count), seeded(2, count));
        let table = seeded(3, call.batch * call.table_rows * call.width);
        let mut results = Vec::new();
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for set in InstructionSet::available() {
                let mut out = vec![f32::NAN; count];
                pool.install(|| norm_modulate(set, &call, &x, &table, &mut out));
                results.push((out, pool.install(|| norm_modulate_gradient(set, &call, &x, &table, &gradient))));
            }
        }
        assert!(results.iter().all(|result| *result == results[0]));
    }
}
