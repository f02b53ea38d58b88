//! The noise schedule: how much of a latent at a timestep is still signal.
//!
//! The model was trained with 1000 timesteps and betas that rise in a straight line. Everything here is float32 in the
//! reference's order of operations where it computes in float32, because 1 - beta and the products of a thousand such
//! factors show the rounding; the samplers' formulas inherit their last digits from these tables.

/// Timesteps of training: a timestep lies in `0..TRAINING_TIMESTEPS`.
pub const TRAINING_TIMESTEPS: usize = 1000;

/// Signal and noise shares of the training timesteps.
#[derive(Clone, Debug)]
pub struct NoiseSchedule {
    alphas_cumprod: Vec<f32>,
    /// sqrt((1 - alpha-bar) / alpha-bar): noise per signal, rising with the timestep.
    sigmas: Vec<f32>,
}

impl NoiseSchedule {
    /// The schedule that Open-Sora-Plan v1.2 was trained with: betas from 0.0001 to 0.02.
    pub fn trained() -> NoiseSchedule {
        NoiseSchedule::linear(0.0001, 0.02)
    }

    /// The default schedule of the second-order samplers in diffusers, which the reference's command line uses for them
    /// although the model was trained with another one.
    pub fn second_order_default() -> NoiseSchedule {
        NoiseSchedule::linear(0.00085, 0.012)
    }

    fn linear(beta_start: f64, beta_end: f64) -> NoiseSchedule {
        let (start, end) = (beta_start as f32, beta_end as f32);
        let step = (end - start) / (TRAINING_TIMESTEPS - 1) as f32;
        let mut product = 1.0_f64;
        let alphas_cumprod: Vec<f32> = (0..TRAINING_TIMESTEPS)
            .map(|timestep| {
                // Counted from the nearer end and rounded once, as torch.linspace does.
                let beta = if timestep < TRAINING_TIMESTEPS / 2 {
                    libm::fmaf(step, timestep as f32, start)
                } else {
                    libm::fmaf(-step, (TRAINING_TIMESTEPS - 1 - timestep) as f32, end)
                };
                product *= f64::from(1.0 - beta);
                product as f32
            })
            .collect();
        let sigmas = alphas_cumprod.iter().map(|alpha_bar| ((1.0 - alpha_bar) / alpha_bar).sqrt()).collect();
        NoiseSchedule { alphas_cumprod, sigmas }
    }

    /// Cumulated products of 1 - beta, one a training timestep: alpha-bar in the papers.
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// alpha-bar at a timestep; 1, a clean latent, before timestep 0.
    ///
    /// # Panics
    /// If `timestep` is not below [`TRAINING_TIMESTEPS`].
    pub fn alpha_bar(&self, timestep: i32) -> f32 {
        usize::try_from(timestep).map_or(1.0, |timestep| self.alphas_cumprod[timestep])
    }

    /// Noise per signal at a timestep, which may lie between two training timesteps: on the straight line between them.
    pub(super) fn sigma(&self, timestep: f32) -> f32 {
        let below = (timestep as usize).min(TRAINING_TIMESTEPS - 2);
        let (low, high) = (f64::from(self.sigmas[below]), f64::from(self.sigmas[below + 1]));
        ((high - low) * (f64::from(timestep) - below as f64) + low) as f32
    }

    /// The timestep of a noise level: between two training timesteps straight in the logarithm.
    pub(super) fn timestep_of(&self, sigma: f32) -> f32 {
        let below = self.sigmas.partition_point(|&other| other <= sigma).saturating_sub(1).min(TRAINING_TIMESTEPS - 2);
        let log = |sigma: f32| libm::log(f64::from(sigma));
        let (low, high) = (log(self.sigmas[below]), log(self.sigmas[below + 1]));
        (below as f64 + ((log(sigma) - low) / (high - low)).clamp(0.0, 1.0)) as f32
    }
}

/// `count` numbers from 999 down to 0 at even distances. One number alone is 0, as numpy has it.
pub(super) fn even_timesteps(count: usize) -> Vec<f32> {
    let last = (TRAINING_TIMESTEPS - 1) as f64;
    (0..count)
        .rev()
        .map(|index| match index {
            0 => 0.0,
            index if index == count - 1 => last as f32,
            index => (index as f64 * (last / (count - 1) as f64)) as f32,
        })
        .collect()
}

/// The whole timesteps of the multistep solvers: 999 down to 0 in `steps` even hops, without the 0.
pub(super) fn whole_even_timesteps(steps: usize) -> Vec<usize> {
    let last = (TRAINING_TIMESTEPS - 1) as f64;
    (1..=steps).rev().map(|index| (index as f64 * (last / steps as f64)).round_ties_even() as usize).collect()
}

/// "Leading" timesteps: multiples of `1000 / steps` rounded down, ending at 0.
pub(super) fn leading_timesteps(steps: usize) -> Vec<usize> {
    (0..steps).rev().map(|index| index * hop(steps)).collect()
}

/// Training timesteps between two of `steps` sampling steps.
pub(super) fn hop(steps: usize) -> usize {
    TRAINING_TIMESTEPS / steps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the same recurrence in f64 and against three values of the reference.
    #[test]
    fn alpha_bar_follows_the_trained_betas() {
        let schedule = NoiseSchedule::trained();
        let mut product = 1.0_f64;
        for timestep in 0..TRAINING_TIMESTEPS {
            product *= 1.0 - (0.0001 + (0.02 - 0.0001) * timestep as f64 / 999.0);
            let relative = f64::from(schedule.alpha_bar(timestep as i32)) / product - 1.0;
            assert!(relative.abs() < 2e-5, "timestep {timestep}: off by {relative:e}");
        }
        assert_eq!(schedule.alpha_bar(-1), 1.0);
        assert_eq!(schedule.alpha_bar(0), 0.9999);
        assert_eq!(schedule.alpha_bar(999), 4.035_830_4e-5);
    }

    #[test]
    fn timesteps_and_sigmas_are_inverse_at_the_training_timesteps() {
        let schedule = NoiseSchedule::trained();
        for timestep in [0.0, 1.0, 17.0, 500.0, 998.0, 999.0] {
            assert!((schedule.timestep_of(schedule.sigma(timestep)) - timestep).abs() < 1e-3);
        }
        assert_eq!(schedule.timestep_of(0.0), 0.0);
        assert_eq!(schedule.timestep_of(1e6), 999.0);
    }

    #[test]
    fn timesteps_cover_the_range() {
        assert_eq!(even_timesteps(4), [999.0, 666.0, 333.0, 0.0]);
        assert_eq!(even_timesteps(1), [0.0]);
        assert_eq!(whole_even_timesteps(4), [999, 749, 500, 250]);
        assert_eq!(leading_timesteps(3), [666, 333, 0]);
    }
}
