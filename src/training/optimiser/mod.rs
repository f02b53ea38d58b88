//! The optimiser: Muon for hidden matrices, AdamW for everything else, a moving average of the result.
//!
//! One step is a few operations on vectors ([`super::parameters`]). Nothing is read from the device: a step whose gradient is
//! not finite (the loss was scaled too far for 16-bit floats) changes nothing, which the device itself sees to.

mod muon;

use burn::tensor::{Device, Tensor, TensorData};

use super::parameters::Parameters;
use super::sums::sum;
use crate::gpu::kernels::join::join;
pub use muon::orthogonalise;

/// What an optimiser is told once.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OptimiserSettings {
    /// Of AdamW.
    pub learning_rate: f64,
    /// Of Muon.
    pub muon_learning_rate: f64,
    /// Decay of AdamW's two moments.
    pub betas: [f64; 2],
    /// Decay of Muon's momentum.
    pub momentum: f64,
    /// A step takes this times the learning rate off every weight.
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm over all parameters.
    pub largest_norm: f64,
    /// Decay of the moving average.
    pub average_decay: f64,
}

/// Added to the root of the second moment, as torch.
const EPSILON: f64 = 1e-8;

/// Everything that an optimiser keeps, as vectors in f32.
#[derive(Clone, Debug)]
pub struct OptimiserState {
    /// The parameters themselves.
    pub master: Tensor<1>,
    /// Muon's momentum, then AdamW's first moment.
    pub first: Tensor<1>,
    /// AdamW's second moment, of what is in no stack.
    pub second: Tensor<1>,
    /// The moving average of the parameters.
    pub average: Tensor<1>,
}

impl OptimiserState {
    /// That of untrained parameters.
    pub fn new(master: Tensor<1>, parameters: &Parameters) -> Self {
        let device: Device = master.device();
        let zeros = |length: usize| Tensor::zeros([length], (&device, burn::tensor::DType::F32));
        Self {
            first: zeros(parameters.length()),
            second: zeros(parameters.length() - parameters.rest()),
            average: master.clone(),
            master,
        }
    }
}

/// Updates an [`OptimiserState`].
#[derive(Debug)]
pub struct Optimiser {
    settings: OptimiserSettings,
    /// Of AdamW's part.
    decay_mask: Tensor<1>,
    /// The matrices' shares of the learning rate, `[matrices, 1, 1]` of each stack.
    rates: Vec<Tensor<3>>,
}

/// What a step has found out, each `[1]`; not yet read from the device.
#[derive(Clone, Debug)]
pub struct StepNumbers {
    /// Of the gradient, before it was scaled down.
    pub norm: Tensor<1>,
    /// 1 if the gradient was not finite, so that nothing was changed.
    pub skipped: Tensor<1>,
}

impl Optimiser {
    pub fn new(settings: OptimiserSettings, parameters: &Parameters, device: &Device) -> Self {
        let rates = parameters.stacks().iter().map(|stack| {
            let rates: Vec<f32> = stack.rates.iter().map(|&rate| rate as f32).collect();
            Tensor::from_data(TensorData::new(rates, [stack.matrices(), 1, 1]), device)
        });
        Self { settings, decay_mask: parameters.decay_mask(device), rates: rates.collect() }
    }

    /// Takes one step. `gradient` is that of the loss times `loss_scale`; learning rates are multiplied with `factor`; `step`
    /// counts from 0.
    pub fn step(
        &self,
        parameters: &Parameters,
        state: OptimiserState,
        gradient: Tensor<1>,
        loss_scale: f64,
        factor: f64,
        step: u64,
    ) -> (OptimiserState, StepNumbers) {
        let settings = &self.settings;
        // Scaled first: squares of scaled gradients may be too large even for f32.
        let gradient = gradient / loss_scale;
        let norm = sum(gradient.clone() * gradient.clone()).sqrt();
        let is_finite = norm.clone().is_finite();
        let clipped = (norm.clone() + 1e-6).recip() * settings.largest_norm;
        let gradient = gradient * clipped.clamp_max(1.0);

        let (mut master, mut first) = (Vec::new(), Vec::new());
        let mut end = 0;
        let piece = |x: &Tensor<1>, start: usize, length: usize| x.clone().narrow(0, start, length);
        for (stack, rates) in parameters.stacks().iter().zip(&self.rates) {
            if stack.start > end {
                // A gap holds zeros and keeps them.
                master.push(piece(&state.master, end, stack.start - end));
                first.push(piece(&state.first, end, stack.start - end));
            }
            let of = |x: &Tensor<1>| -> Tensor<3> {
                piece(x, stack.start, stack.elements()).reshape([stack.matrices(), stack.rows, stack.columns])
            };
            let (weight, momentum) = muon::step(of(&state.master), of(&gradient), of(&state.first), rates, settings, factor);
            master.push(weight.reshape([stack.elements()]));
            first.push(momentum.reshape([stack.elements()]));
            end = stack.start + stack.elements();
        }
        let rest = parameters.rest();
        if rest > end {
            master.push(piece(&state.master, end, rest - end));
            first.push(piece(&state.first, end, rest - end));
        }
        let length = parameters.length() - rest;
        let of = |x: &Tensor<1>| piece(x, rest, length);
        let (weight, first_moment, second) =
            self.adam(of(&state.master), of(&gradient), of(&state.first), state.second.clone(), factor, step);
        master.push(weight);
        first.push(first_moment);

        let keep = |new: Tensor<1>, old: Tensor<1>| {
            let all = new.dims();
            old.mask_where(is_finite.clone().expand(all), new)
        };
        let master = keep(join(master), state.master);
        // The first steps' average forgets faster: what they began from means nothing.
        let decay = settings.average_decay.min((step + 1) as f64 / (step + 11) as f64);
        let average = state.average * decay + master.clone() * (1.0 - decay);
        let state = OptimiserState { first: keep(join(first), state.first), second: keep(second, state.second), average, master };
        let skipped = is_finite.bool_not().float();
        // A norm that is no number would hide those of the steps around it.
        let norm = norm.clone().mask_fill(norm.is_finite().bool_not(), 0.0);
        (state, StepNumbers { norm, skipped })
    }

    fn adam(
        &self,
        weight: Tensor<1>,
        gradient: Tensor<1>,
        first: Tensor<1>,
        second: Tensor<1>,
        factor: f64,
        step: u64,
    ) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
        let settings = &self.settings;
        let [beta_1, beta_2] = settings.betas;
        let rate = settings.learning_rate * factor;
        let first = first * beta_1 + gradient.clone() * (1.0 - beta_1);
        let second = second * beta_2 + gradient.clone() * gradient * (1.0 - beta_2);
        let steps = (step + 1) as f64;
        let corrected_root = (second.clone() / (1.0 - beta_2.powf(steps))).sqrt();
        let update = first.clone() / (corrected_root + EPSILON) / (1.0 - beta_1.powf(steps));
        let decayed = weight.clone() - weight * self.decay_mask.clone() * (rate * settings.weight_decay);
        (decayed - update * rate, first, second)
    }
}

#[cfg(test)]
mod tests;
