//! GELU in its tanh form, and its gradient.

use rayon::prelude::*;

use super::lanes::{InstructionSet, Kernel, Lanes, MAX_WIDTH};

/// Values that a thread takes at once; a multiple of every vector's width.
const BLOCK: usize = 4096;

/// `out = gelu_tanh(input)`, both of one length.
pub fn gelu_tanh(set: InstructionSet, input: &[f32], out: &mut [f32]) {
    assert_eq!(input.len(), out.len(), "input and output have one length");
    out.par_chunks_mut(BLOCK).zip(input.par_chunks(BLOCK)).for_each(|(out, input)| set.run(Block { input, out }));
}

/// `out = gradient * gelu_tanh'(input)`, all of one length.
pub fn gelu_tanh_gradient(set: InstructionSet, input: &[f32], gradient: &[f32], out: &mut [f32]) {
    assert!(input.len() == out.len() && gradient.len() == out.len(), "inputs and output have one length");
    let blocks = out.par_chunks_mut(BLOCK).zip(input.par_chunks(BLOCK)).zip(gradient.par_chunks(BLOCK));
    blocks.for_each(|((out, input), gradient)| set.run(GradientBlock { input, gradient, out }));
}

struct GradientBlock<'a, 'out> {
    input: &'a [f32],
    gradient: &'a [f32],
    out: &'out mut [f32],
}

impl Kernel for GradientBlock<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let whole = self.input.len() / L::WIDTH * L::WIDTH;
        for at in (0..whole).step_by(L::WIDTH) {
            let slope = L::load(&self.input[at..]).gelu_tanh_slope();
            L::load(&self.gradient[at..]).mul(slope).store(&mut self.out[at..]);
        }
        let [mut padded, mut slopes] = [[0.0f32; MAX_WIDTH]; 2];
        padded[..self.input.len() - whole].copy_from_slice(&self.input[whole..]);
        L::load(&padded).gelu_tanh_slope().store(&mut slopes);
        let rest = self.out[whole..].iter_mut().zip(&self.gradient[whole..]).zip(slopes);
        rest.for_each(|((out, gradient), slope)| *out = gradient * slope);
    }
}

struct Block<'a, 'out> {
    input: &'a [f32],
    out: &'out mut [f32],
}

impl Kernel for Block<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let whole = self.input.len() / L::WIDTH * L::WIDTH;
        for (out, input) in self.out.chunks_exact_mut(L::WIDTH).zip(self.input.chunks_exact(L::WIDTH)) {
            L::load(input).gelu_tanh().store(out);
        }
        let (input, out) = (&self.input[whole..], &mut self.out[whole..]);
        let [mut padded, mut result] = [[0.0f32; MAX_WIDTH]; 2];
        padded[..input.len()].copy_from_slice(input);
        L::load(&padded).gelu_tanh().store(&mut result);
        out.copy_from_slice(&result[..out.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in f64.
    fn reference(x: f64) -> f64 {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
    }

    #[test]
    fn equals_its_definition_on_every_instruction_set() {
        let input: Vec<f32> = (0..10_007).map(|i| (i as f32 - 5_000.0) * 0.01).chain([0.0, -0.0, 1e10, -1e10, 1e30]).collect();
        for set in InstructionSet::available() {
            let mut out = vec![f32::NAN; input.len()];
            gelu_tanh(set, &input, &mut out);
            for (&x, &got) in input.iter().zip(&out) {
                let want = reference(f64::from(x));
                assert!((f64::from(got) - want).abs() <= 2e-6 * want.abs() + 1e-7, "{set:?} {x}: {got} {want}");
            }
        }
    }

    #[test]
    fn gradient_is_the_slope_on_every_instruction_set() {
        let input: Vec<f32> = (0..10_007).map(|i| (i as f32 - 5_000.0) * 0.01).chain([0.0, -0.0, 1e10, -1e10, 1e30]).collect();
        let gradient: Vec<f32> = (0..input.len()).map(|i| (i % 7) as f32 - 3.0).collect();
        for set in InstructionSet::available() {
            let mut out = vec![f32::NAN; input.len()];
            gelu_tanh_gradient(set, &input, &gradient, &mut out);
            for ((&x, &gradient), &got) in input.iter().zip(&gradient).zip(&out) {
                let (x, step) = (f64::from(x), 1e-5);
                let slope =
                    if x.abs() > 100.0 { (x > 0.0).into() } else { (reference(x + step) - reference(x - step)) / (2.0 * step) };
                let want = f64::from(gradient) * slope;
                // The slope is good to 2e-6 of itself, and so is its product with a gradient of up to 3.
                let limit = 2e-6 * gradient.abs().max(1.0) + 4e-6;
                assert!((f64::from(got) - want).abs() <= f64::from(limit), "{set:?} {x}: {got} {want}");
            }
        }
    }
}
