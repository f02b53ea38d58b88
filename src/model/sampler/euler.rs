//! Euler's method on the probability flow ODE in terms of sigma, noise per signal (Karras et al. 2022, algorithm 2
//! without churn), and its ancestral form after k-diffusion.
//!
//! In these terms a latent is x = clean + sigma * noise, so its derivative by sigma is epsilon itself.

use super::schedule::{NoiseSchedule, even_timesteps};
use super::{Noise, Solver, Step, draw, weighted_sum};

/// Evenly spaced timesteps, fractions included, and their noise levels with a final 0.
pub(super) struct Levels {
    pub timesteps: Vec<f32>,
    pub sigmas: Vec<f32>,
}

impl Levels {
    pub fn new(steps: usize, schedule: &NoiseSchedule) -> Levels {
        let timesteps = even_timesteps(steps);
        let sigmas = timesteps.iter().map(|&timestep| schedule.sigma(timestep)).chain([0.0]).collect();
        Levels { timesteps, sigmas }
    }
}

pub(super) struct Euler(Levels);

impl Euler {
    pub fn new(steps: usize) -> Euler {
        Euler(Levels::new(steps, &NoiseSchedule::trained()))
    }
}

impl Solver for Euler {
    fn timesteps(&self) -> &[f32] {
        &self.0.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.0.sigmas
    }

    fn init_noise_sigma(&self) -> f32 {
        self.0.sigmas[0]
    }

    fn input_sigma(&self, call: usize) -> f32 {
        self.0.sigmas[call]
    }

    fn step(&self, call: usize, epsilon: &[f32], x: &[f32], _: &mut Vec<Vec<f32>>, noise: &mut Noise) -> Step {
        let (sigma, next) = (self.0.sigmas[call], self.0.sigmas[call + 1]);
        // The reference draws noise for its churn, which is zero. Drawing it too keeps the draws of a run countable.
        draw(noise, x.len());
        Step { x: weighted_sum([(1.0, x), (next - sigma, epsilon)]), denoised: denoised(sigma, epsilon, x) }
    }
}

pub(super) struct EulerAncestral(Levels);

impl EulerAncestral {
    pub fn new(steps: usize) -> EulerAncestral {
        EulerAncestral(Levels::new(steps, &NoiseSchedule::trained()))
    }
}

impl Solver for EulerAncestral {
    fn timesteps(&self) -> &[f32] {
        &self.0.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.0.sigmas
    }

    fn init_noise_sigma(&self) -> f32 {
        self.0.sigmas[0]
    }

    fn input_sigma(&self, call: usize) -> f32 {
        self.0.sigmas[call]
    }

    fn step(&self, call: usize, epsilon: &[f32], x: &[f32], _: &mut Vec<Vec<f32>>, noise: &mut Noise) -> Step {
        let (sigma, next) = (self.0.sigmas[call], self.0.sigmas[call + 1]);
        let (down, up) = down_and_up(sigma, next);
        let drawn = draw(noise, x.len());
        Step { x: weighted_sum([(1.0, x), (down - sigma, epsilon), (up, &drawn)]), denoised: denoised(sigma, epsilon, x) }
    }
}

/// How far an ancestral step goes down, and how much fresh noise lifts it up to level `next`: down^2 + up^2 = next^2.
pub(super) fn down_and_up(sigma: f32, next: f32) -> (f32, f32) {
    let up = (next * next * (sigma * sigma - next * next) / (sigma * sigma)).sqrt();
    ((next * next - up * up).sqrt(), up)
}

/// The clean latent if `epsilon` is the noise in `x`: x - sigma * epsilon.
pub(super) fn denoised(sigma: f32, epsilon: &[f32], x: &[f32]) -> Vec<f32> {
    weighted_sum([(1.0, x), (-sigma, epsilon)])
}
