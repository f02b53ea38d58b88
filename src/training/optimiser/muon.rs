//! Muon: momentum whose update is made orthogonal by five Newton-Schulz steps, for stacks of equal matrices at once.
//!
//! Source: K. Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024). Matrices are `[inputs, outputs]` here;
//! the rule for tall ones is that of `[outputs, inputs]`.

use burn::tensor::Tensor;

use super::OptimiserSettings;
use crate::gpu::kernels::newton_schulz::{STEEP, newton_schulz};

const ITERATIONS: usize = 5;

/// New weights and momentum of matrices `[matrices, inputs, outputs]`, each with its share of the learning rate
/// `[matrices, 1, 1]`.
pub(super) fn step(
    weight: Tensor<3>,
    gradient: Tensor<3>,
    momentum: Tensor<3>,
    rates: &Tensor<3>,
    settings: &OptimiserSettings,
    factor: f64,
) -> (Tensor<3>, Tensor<3>) {
    let [_, inputs, outputs] = weight.dims();
    let (mu, rate) = (settings.momentum, settings.muon_learning_rate * factor);
    let gradient = gradient * (1.0 - mu);
    let momentum = momentum * mu + gradient.clone();
    let update = orthogonalise(gradient + momentum.clone() * mu);
    let size = (outputs as f64 / inputs as f64).max(1.0).sqrt();
    let weight = weight * (1.0 - rate * settings.weight_decay) - update * (rates.clone() * (rate * size));
    (weight, momentum)
}

/// Each matrix of the stack with all its singular values near 1.
pub fn orthogonalise(x: Tensor<3>) -> Tensor<3> {
    let [count, rows, columns] = x.dims();
    let is_tall = rows > columns;
    let x = if is_tall { x.swap_dims(1, 2) } else { x };
    // Along one axis after the other: a reduction has one thread a result.
    let norm = (x.clone() * x.clone()).sum_dim(1).sum_dim(2).sqrt().reshape([count, 1, 1]);
    let x = newton_schulz(x / (norm + 1e-7), STEEP, ITERATIONS);
    if is_tall { x.swap_dims(1, 2) } else { x }
}
