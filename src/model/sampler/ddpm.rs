//! DDPM (Ho et al. 2020, formulas 6, 7 and 15) with the smaller of its two fixed variances.

use super::ddim::denoised;
use super::schedule::{NoiseSchedule, hop, leading_timesteps};
use super::{Noise, Solver, Step, draw, weighted_sum};

pub(super) struct Ddpm {
    timesteps: Vec<f32>,
    /// alpha-bar before and after each call.
    alpha_bars: Vec<(f32, f32)>,
}

impl Ddpm {
    pub fn new(steps: usize) -> Ddpm {
        let schedule = NoiseSchedule::trained();
        let timesteps = leading_timesteps(steps);
        let alpha_bar = |timestep: i32| schedule.alpha_bar(timestep);
        Ddpm {
            alpha_bars: timesteps
                .iter()
                .map(|&timestep| (alpha_bar(timestep as i32), alpha_bar(timestep as i32 - hop(steps) as i32)))
                .collect(),
            timesteps: timesteps.into_iter().map(|timestep| timestep as f32).collect(),
        }
    }
}

impl Solver for Ddpm {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn step(&self, call: usize, epsilon: &[f32], x: &[f32], _: &mut Vec<Vec<f32>>, noise: &mut Noise) -> Step {
        let (from, to) = self.alpha_bars[call];
        let denoised = denoised(from, epsilon, x);
        // 1 - from / to loses digits in f32 when two levels are close; it does so in the reference too.
        let alpha = from / to;
        let beta = 1.0 - alpha;
        let to_denoised = to.sqrt() * beta / (1.0 - from);
        let to_x = alpha.sqrt() * (1.0 - to) / (1.0 - from);
        let mean = weighted_sum([(to_denoised, &denoised), (to_x, x)]);
        if self.timesteps[call] == 0.0 {
            return Step { x: mean, denoised };
        }
        let variance = ((1.0 - to) / (1.0 - from) * beta).max(1e-20);
        let drawn = draw(noise, x.len());
        Step { x: weighted_sum([(1.0, &mean), (variance.sqrt(), &drawn)]), denoised }
    }
}
