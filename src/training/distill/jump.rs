//! Jumps along the noise schedule: from a time to an earlier one by one DDIM step, each sample of a batch at its own times.
//!
//! Times are those of training, 0 to 999; [`CLEAN`] comes before them and means the latent without noise.

use burn::tensor::{Tensor, TensorData};

use crate::model::sampler::schedule::{NoiseSchedule, TRAINING_TIMESTEPS};
use crate::training::error::TrainError;

/// The time of a clean latent.
pub const CLEAN: i32 = -1;

/// The times of training in equal parts. Each ends at a milestone below it: `count` of the few steps that a student takes
/// lead from milestone to milestone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    count: usize,
}

impl Segments {
    /// # Errors
    /// The times cannot be parted so.
    pub fn new(count: usize) -> Result<Self, TrainError> {
        if count == 0 || !TRAINING_TIMESTEPS.is_multiple_of(count) {
            let reason =
                format!("{TRAINING_TIMESTEPS} times cannot be parted into {count} equal segments; use 8 or 4, for example");
            return Err(TrainError::Settings(reason));
        }
        Ok(Self { count })
    }

    pub fn count(self) -> usize {
        self.count
    }

    /// Times of a segment.
    fn span(self) -> usize {
        TRAINING_TIMESTEPS / self.count
    }

    /// The milestone below a time: where the jump of a student ends.
    pub fn milestone(self, time: usize) -> i32 {
        (time / self.span() * self.span()) as i32 - 1
    }

    /// `skip` times further down, but not beyond the milestone: where the teacher's step ends.
    pub fn earlier(self, time: usize, skip: usize) -> i32 {
        (time as i32 - skip as i32).max(self.milestone(time))
    }

    /// Segments from the highest down to that of a time, itself included.
    pub fn from_the_top(self, time: usize) -> usize {
        self.count - time / self.span()
    }

    /// Numbers of equal steps along milestones, ascending.
    pub fn divisors(self) -> Vec<usize> {
        (1..=self.count).filter(|&steps| self.count.is_multiple_of(steps)).collect()
    }
}

/// The times at which a network is asked about latents at `times`; a clean latent counts as one at the first.
pub fn asked_at(times: &[i32]) -> Vec<usize> {
    times.iter().map(|&time| usize::try_from(time).unwrap_or(0)).collect()
}

/// What a DDIM step without new noise (Song et al. 2021, formula 12, eta 0) multiplies latent and predicted noise with.
pub fn weights(schedule: &NoiseSchedule, from: i32, to: i32) -> [f64; 2] {
    let [before, after] = [from, to].map(|time| f64::from(schedule.alpha_bar(time)));
    let of_latent = (after / before).sqrt();
    [of_latent, (1.0 - after).sqrt() - of_latent * (1.0 - before).sqrt()]
}

/// `latents` `[samples, ..]` at the times `from`, moved to the times `to` along the predicted `noise`.
pub fn ddim(schedule: &NoiseSchedule, latents: Tensor<5>, noise: Tensor<5>, from: &[i32], to: &[i32]) -> Tensor<5> {
    let weights: Vec<[f64; 2]> = from.iter().zip(to).map(|(&from, &to)| weights(schedule, from, to)).collect();
    let [of_latent, of_noise] = [0, 1].map(|which| a_sample(&weights, &|weights| weights[which], &latents));
    latents * of_latent + noise * of_noise
}

/// `clean` `[samples, ..]` with `noise` at the level of each sample's time.
pub fn noised(schedule: &NoiseSchedule, clean: Tensor<5>, noise: Tensor<5>, times: &[usize]) -> Tensor<5> {
    let alpha_bars: Vec<f64> = times.iter().map(|&time| f64::from(schedule.alphas_cumprod()[time])).collect();
    let signal = a_sample(&alpha_bars, &|alpha_bar| alpha_bar.sqrt(), &clean);
    let deviation = a_sample(&alpha_bars, &|alpha_bar| (1.0 - alpha_bar).sqrt(), &clean);
    clean * signal + noise * deviation
}

/// `latents` `[samples, ..]` that are at the time `from`, with so much `noise` more that they are at the level of each sample's time,
/// which is later.
pub fn noised_further(schedule: &NoiseSchedule, latents: Tensor<5>, from: i32, noise: Tensor<5>, times: &[usize]) -> Tensor<5> {
    let ratios: Vec<f64> = times.iter().map(|&time| further(schedule, from, time)).collect();
    let signal = a_sample(&ratios, &|ratio| ratio.sqrt(), &latents);
    let deviation = a_sample(&ratios, &|ratio| (1.0 - ratio).sqrt(), &latents);
    latents * signal + noise * deviation
}

/// The product of alphas from one time to a later one.
pub fn further(schedule: &NoiseSchedule, from: i32, time: usize) -> f64 {
    f64::from(schedule.alphas_cumprod()[time]) / f64::from(schedule.alpha_bar(from))
}

/// One number a sample, `[samples, 1, 1, 1, 1]` where `beside` is.
pub(super) fn a_sample<T>(of: &[T], number: &dyn Fn(&T) -> f64, beside: &Tensor<5>) -> Tensor<5> {
    let values: Vec<f32> = of.iter().map(|of| number(of) as f32).collect();
    Tensor::from_data(TensorData::new(values, [of.len(), 1, 1, 1, 1]), &beside.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The milestones of the published code for 8 segments: 874, 749, .., 124, and the clean latent.
    #[test]
    fn milestones_lie_between_the_samplers_steps() {
        let eight = Segments::new(8).expect("equal parts");
        let below: Vec<i32> = [999, 875, 874, 125, 124, 0].map(|time| eight.milestone(time)).to_vec();
        assert_eq!(below, [874, 874, 749, 124, CLEAN, CLEAN]);
        assert_eq!((eight.earlier(999, 20), eight.earlier(880, 20), eight.earlier(5, 20)), (979, 874, CLEAN));
        assert_eq!((eight.from_the_top(999), eight.from_the_top(875), eight.from_the_top(0)), (1, 1, 8));
        assert_eq!(eight.divisors(), [1, 2, 4, 8]);
        for count in [0, 3, 7, 1001] {
            let error = Segments::new(count).expect_err("unequal").to_string();
            assert!(error.contains(&count.to_string()) && error.contains("8 or 4"), "{error}");
        }
    }

    /// The noise that is there and the noise that comes are independent: their squares add up to those of the level.
    #[test]
    fn noise_upon_noise_is_noise() {
        let schedule = NoiseSchedule::trained();
        for (from, time) in [(249, 400), (499, 980), (CLEAN, 20)] {
            let ratio = further(&schedule, from, time);
            let (before, after) = (f64::from(schedule.alpha_bar(from)), f64::from(schedule.alphas_cumprod()[time]));
            assert!((before.sqrt() * ratio.sqrt() - after.sqrt()).abs() < 1e-6, "the clean latent's share");
            let variance = (1.0 - before) * ratio + (1.0 - ratio);
            assert!((variance - (1.0 - after)).abs() < 1e-6, "{from} {time}: {variance}");
        }
    }

    /// Noise that is known exactly leads to the same clean latent with the same noise at any time.
    #[test]
    fn a_jump_along_the_true_noise_stays_on_its_line() {
        let schedule = NoiseSchedule::trained();
        let device = burn::tensor::Device::flex();
        let shape = [3, 2, 1, 2, 2];
        let tensor = |draw| {
            let values: Vec<f32> = (0..24).map(|i| crate::model::noise::normal(3, draw, i)).collect();
            Tensor::<5>::from_data(TensorData::new(values, shape), &device)
        };
        let (clean, noise) = (tensor(0), tensor(1));
        let noisy = noised(&schedule, clean.clone(), noise.clone(), &[999, 400, 7]);
        let moved = ddim(&schedule, noisy, noise.clone(), &[999, 400, 7], &[874, 400, CLEAN]);
        let upper = noised(&schedule, clean.clone(), noise, &[874, 400, 7]).narrow(0, 0, 2);
        let want = Tensor::cat(vec![upper, clean.narrow(0, 2, 1)], 0);
        let values = |x: Tensor<5>| x.try_into_vec_as::<f32>().expect("readable");
        for (got, want) in values(moved).into_iter().zip(values(want)) {
            assert!((got - want).abs() < 2e-4, "{got} {want}");
        }
    }
}
