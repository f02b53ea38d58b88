//! References of the transformer's kernels between its products, on f64, so that finite differences of them are gradients.

use std::ops::Range;

/// The values of one row of a table `[batch, rows, width]`.
fn table_row(table: &[f64], [rows, width]: [usize; 2], clip: usize, row: usize) -> &[f64] {
    &table[(clip * rows + row) * width..][..width]
}

/// LayerNorm without affine of `x` `[batch, tokens, width]`, times 1 + one row of the table `[batch, rows, width]`, plus another.
pub fn norm_modulate(
    [tokens, width, rows]: [usize; 3],
    [shift_row, scale_row]: [usize; 2],
    epsilon: f64,
    x: &[f64],
    table: &[f64],
) -> Vec<f64> {
    let mut output = Vec::with_capacity(x.len());
    for (token, x) in x.chunks_exact(width).enumerate() {
        let [shift, scale] = [shift_row, scale_row].map(|row| table_row(table, [rows, width], token / tokens, row));
        let mean = x.iter().sum::<f64>() / width as f64;
        let variance = x.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / width as f64;
        let normal = x.iter().map(|value| (value - mean) / (variance + epsilon).sqrt());
        output.extend(normal.zip(scale).zip(shift).map(|((normal, scale), shift)| normal * (1.0 + scale) + shift));
    }
    output
}

/// `x / sqrt(mean of x^2 + epsilon) * weight` over rows of the weight's length.
pub fn rms_norm(epsilon: f64, x: &[f64], weight: &[f64]) -> Vec<f64> {
    let rows = x.chunks_exact(weight.len()).flat_map(|x| {
        let mean_square = x.iter().map(|value| value * value).sum::<f64>() / x.len() as f64;
        x.iter().zip(weight).map(move |(value, weight)| value / (mean_square + epsilon).sqrt() * weight)
    });
    rows.collect()
}

/// `stream + x * gate` for `[batch, tokens, width]`; the gate is a row of the table `[batch, rows, width]`, or 1.
pub fn gate_residual([tokens, width, rows]: [usize; 3], gate: Option<(&[f64], usize)>, stream: &[f64], x: &[f64]) -> Vec<f64> {
    let gated = |at: usize| match gate {
        Some((table, row)) => x[at] * table_row(table, [rows, width], at / (tokens * width), row)[at % width],
        None => x[at],
    };
    stream.iter().enumerate().map(|(at, stream)| stream + gated(at)).collect()
}

/// Heads `[batch, heads, tokens, head]` of `x` `[batch, tokens, heads * head]`; with a `table` of angles
/// `[tokens, three runs of head / 6]` as complex numbers (cos, sin), each pair of a run's halves is multiplied by its own.
pub fn split_heads([heads, tokens, head]: [usize; 3], table: Option<&[(f64, f64)]>, x: &[f64]) -> Vec<f64> {
    let mut output = Vec::with_capacity(x.len());
    for clip in x.chunks_exact(tokens * heads * head) {
        for place in 0..heads {
            for (token, x) in clip.chunks_exact(heads * head).enumerate() {
                let x = &x[place * head..][..head];
                let Some(table) = table else {
                    output.extend(x);
                    continue;
                };
                let half = head / 6;
                output.extend((0..head).map(|channel| {
                    let (run, in_run) = (channel / (2 * half), channel % (2 * half));
                    let (cosine, sine) = table[token * 3 * half + run * half + in_run % half];
                    let (real, imaginary) = (x[run * 2 * half + in_run % half], x[run * 2 * half + in_run % half + half]);
                    if in_run < half { real * cosine - imaginary * sine } else { real * sine + imaginary * cosine }
                }));
            }
        }
    }
    output
}

/// Central differences of `sum(weights * function(x))` by each value of `x` in `range`.
pub fn finite_differences(x: &[f64], range: Range<usize>, weights: &[f64], function: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut moved = x.to_vec();
    let mut value = |at: usize, step: f64| {
        moved[at] = x[at] + step;
        let sum: f64 = function(&moved).iter().zip(weights).map(|(value, weight)| value * weight).sum();
        moved[at] = x[at];
        sum
    };
    range.map(|at| (value(at, STEP) - value(at, -STEP)) / (2.0 * STEP)).collect()
}
