//! The norm of T5, by the root mean square, and its gradient.

use rayon::prelude::*;

use super::lanes::{InstructionSet, Kernel, Lanes};
use super::norm_modulate::{TOKENS_A_BLOCK, sum_over};

/// `out = x / sqrt(mean of x^2 + epsilon) * weight` for rows of the weight's length.
pub fn rms_norm(set: InstructionSet, epsilon: f32, x: &[f32], weight: &[f32], out: &mut [f32]) {
    assert!(x.len() == out.len() && x.len().is_multiple_of(weight.len()), "the sizes do not fit");
    let block = TOKENS_A_BLOCK * weight.len();
    let blocks = out.par_chunks_mut(block).zip(x.par_chunks(block));
    blocks.for_each(|(out, x)| set.run(Block { x, weight, epsilon, out }));
}

/// The gradients of `x` and of the weight from that of the output.
pub fn rms_norm_gradient(set: InstructionSet, epsilon: f32, x: &[f32], weight: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
    assert!(x.len() == gradient.len() && x.len().is_multiple_of(weight.len()), "the sizes do not fit");
    let mut x_gradient = vec![0.0; x.len()];
    let block = TOKENS_A_BLOCK * weight.len();
    let blocks = x_gradient.par_chunks_mut(block).zip(x.par_chunks(block)).zip(gradient.par_chunks(block));
    let sums: Vec<Vec<f32>> = blocks
        .map(|((x_gradient, x), gradient)| {
            let mut sums = vec![0.0; weight.len()];
            set.run(GradientBlock { x, gradient, weight, epsilon, x_gradient, sums: &mut sums });
            sums
        })
        .collect();
    let mut weight_gradient = vec![0.0; weight.len()];
    for of_block in &sums {
        weight_gradient.iter_mut().zip(of_block).for_each(|(to, sum)| *to += sum);
    }
    (x_gradient, weight_gradient)
}

#[inline(always)]
fn inverse_root<L: Lanes>(row: &[f32], epsilon: f32) -> f32 {
    1.0 / (sum_over::<L>(row, row, 0.0, L::mul) / row.len() as f32 + epsilon).sqrt()
}

struct Block<'a, 'out> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    out: &'out mut [f32],
}

impl Kernel for Block<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.weight.len();
        for (out, x) in self.out.chunks_exact_mut(width).zip(self.x.chunks_exact(width)) {
            let inverse = inverse_root::<L>(x, self.epsilon);
            out.iter_mut().zip(x).zip(self.weight).for_each(|((out, x), weight)| *out = x * inverse * weight);
        }
    }
}

struct GradientBlock<'a, 'out> {
    x: &'a [f32],
    gradient: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    x_gradient: &'out mut [f32],
    sums: &'out mut [f32],
}

impl Kernel for GradientBlock<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.weight.len();
        let mut scaled = vec![0.0f32; width];
        let rows = self.x.chunks_exact(width).zip(self.gradient.chunks_exact(width));
        for (out, (x, gradient)) in self.x_gradient.chunks_exact_mut(width).zip(rows) {
            let inverse = inverse_root::<L>(x, self.epsilon);
            // The normalised row lies in `out` until its gradient takes its place.
            out.iter_mut().zip(x).for_each(|(normal, x)| *normal = x * inverse);
            for column in 0..width {
                self.sums[column] += gradient[column] * out[column];
                scaled[column] = gradient[column] * self.weight[column];
            }
            let mean_product = sum_over::<L>(&scaled, out, 0.0, L::mul) / width as f32;
            out.iter_mut().zip(&scaled).for_each(|(out, scaled)| *out = inverse * (scaled - *out * mean_product));
        }
    }
}
