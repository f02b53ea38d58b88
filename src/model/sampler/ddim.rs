//! DDIM (Song et al. 2021, formula 12, eta 0): jump to the estimated clean latent and back up to the next noise level
//! along the same epsilon. Also `ddim-trailing`, the walk along the milestones of the few-step model.

use super::schedule::{NoiseSchedule, hop, leading_timesteps};
use super::{Noise, Solver, Step, weighted_sum};

pub(super) struct Ddim {
    timesteps: Vec<f32>,
    /// alpha-bar before and after each call.
    alpha_bars: Vec<(f32, f32)>,
}

impl Ddim {
    /// Timesteps (n - 1) hop, .., hop, 0, as the reference has them. The last call leads to the clean latent.
    pub fn leading(steps: usize) -> Ddim {
        Ddim::over(leading_timesteps(steps))
    }

    /// Timesteps 999, 999 - hop, ..: the first call is at the full noise that a run starts from. The last call leads to
    /// the clean latent, also where `steps` does not divide 1000 and the walk would otherwise stop short of it.
    pub fn trailing(steps: usize) -> Ddim {
        Ddim::over((0..steps).map(|step| 999 - step * hop(steps)).collect())
    }

    fn over(timesteps: Vec<usize>) -> Ddim {
        let schedule = NoiseSchedule::trained();
        let alpha_bar = |step: usize| timesteps.get(step).map_or(1.0, |&timestep| schedule.alphas_cumprod()[timestep]);
        Ddim {
            alpha_bars: (0..timesteps.len()).map(|step| (alpha_bar(step), alpha_bar(step + 1))).collect(),
            timesteps: timesteps.into_iter().map(|timestep| timestep as f32).collect(),
        }
    }
}

impl Solver for Ddim {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn step(&self, call: usize, epsilon: &[f32], x: &[f32], _: &mut Vec<Vec<f32>>, _: &mut Noise) -> Step {
        let (from, to) = self.alpha_bars[call];
        let denoised = denoised(from, epsilon, x);
        Step { x: weighted_sum([(to.sqrt(), &denoised), ((1.0 - to).sqrt(), epsilon)]), denoised }
    }
}

/// The clean latent if `epsilon` is the noise in `x`: (x - sqrt(1 - alpha-bar) epsilon) / sqrt(alpha-bar).
pub(super) fn denoised(alpha_bar: f32, epsilon: &[f32], x: &[f32]) -> Vec<f32> {
    let (signal, noise) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
    weighted_sum([(1.0 / signal, x), (-noise / signal, epsilon)])
}
