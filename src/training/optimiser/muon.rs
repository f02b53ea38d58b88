//! Muon: momentum whose update is made orthogonal by five Newton-Schulz steps, for stacks of equal matrices at once.
//!
//! Source: K. Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024). Matrices are `[inputs, outputs]` here;
//! the rule for tall ones is that of `[outputs, inputs]`.

use burn::tensor::Tensor;

use super::OptimiserSettings;

/// Of the polynomial whose steepness at 0 is greatest.
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];
const ITERATIONS: usize = 5;

/// New weights and momentum of matrices `[matrices, inputs, outputs]`.
pub(super) fn step(
    weight: Tensor<3>,
    gradient: Tensor<3>,
    momentum: Tensor<3>,
    settings: &OptimiserSettings,
    factor: f64,
) -> (Tensor<3>, Tensor<3>) {
    let [_, inputs, outputs] = weight.dims();
    let (mu, rate) = (settings.momentum, settings.muon_learning_rate * factor);
    let gradient = gradient * (1.0 - mu);
    let momentum = momentum * mu + gradient.clone();
    let update = orthogonalise(gradient + momentum.clone() * mu);
    let size = (outputs as f64 / inputs as f64).max(1.0).sqrt();
    let weight = weight * (1.0 - rate * settings.weight_decay) - update * (rate * size);
    (weight, momentum)
}

/// Each matrix of the stack with all its singular values near 1.
pub fn orthogonalise(x: Tensor<3>) -> Tensor<3> {
    let [count, rows, columns] = x.dims();
    let is_tall = rows > columns;
    let x = if is_tall { x.swap_dims(1, 2) } else { x };
    // Along one axis after the other: a reduction has one thread a result.
    let norm = (x.clone() * x.clone()).sum_dim(1).sum_dim(2).sqrt().reshape([count, 1, 1]);
    let mut x = x / (norm + 1e-7);
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..ITERATIONS {
        let gram = x.clone().matmul(x.clone().swap_dims(1, 2));
        let polynomial = gram.clone() * b + gram.clone().matmul(gram) * c;
        x = x.clone() * a + polynomial.matmul(x);
    }
    if is_tall { x.swap_dims(1, 2) } else { x }
}
