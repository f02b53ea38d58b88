//! DPM-Solver++ of second order, midpoint form (Lu et al. 2022, arXiv 2211.01095): exact in the linear part of the
//! probability flow, so that only the clean latent's slow change along lambda = log(signal / noise) is approximated. The
//! multistep form takes that change from the step before, the singlestep form from pairs of steps.

use super::schedule::{NoiseSchedule, whole_even_timesteps};
use super::{Noise, Solver, Step, exp, ln, weighted_sum};

/// Whole timesteps and the noise level before and after each.
pub(super) struct Levels {
    pub timesteps: Vec<f32>,
    pub sigmas: Vec<f32>,
}

impl Levels {
    /// `last_sigma`: the level after the last step.
    pub fn new(steps: usize, schedule: &NoiseSchedule, last_sigma: f32) -> Levels {
        let timesteps: Vec<f32> = whole_even_timesteps(steps).into_iter().map(|timestep| timestep as f32).collect();
        let sigmas = timesteps.iter().map(|&timestep| schedule.sigma(timestep)).chain([last_sigma]).collect();
        Levels { timesteps, sigmas }
    }
}

/// Signal, noise and lambda of a noise level, where signal^2 + noise^2 = 1.
#[derive(Clone, Copy)]
pub(super) struct Point {
    pub signal: f32,
    pub noise: f32,
    pub lambda: f32,
}

impl Point {
    pub fn at(sigma: f32) -> Point {
        let signal = 1.0 / (sigma * sigma + 1.0).sqrt();
        let noise = sigma * signal;
        Point { signal, noise, lambda: ln(signal) - ln(noise) }
    }

    /// The clean latent if `epsilon` is the noise in `x`.
    pub fn denoised(self, epsilon: &[f32], x: &[f32]) -> Vec<f32> {
        weighted_sum([(1.0 / self.signal, x), (-self.noise / self.signal, epsilon)])
    }
}

/// From `start` to `end` with the clean latent held at `denoised`: the same as a DDIM step.
fn first_order(start: Point, end: Point, denoised: &[f32], x: &[f32]) -> Vec<f32> {
    let gain = -end.signal * (exp(start.lambda - end.lambda) - 1.0);
    weighted_sum([(end.noise / start.noise, x), (gain, denoised)])
}

/// From `start`, where the latent is `x`, to `end`, with the clean latent known at two points: `base` weighs in full,
/// and half of its change towards `end` is extrapolated from the difference `later - earlier`, `apart` in lambda.
fn second_order(start: Point, end: Point, x: &[f32], base: Base, earlier: &[f32], later: &[f32], apart: f32) -> Vec<f32> {
    let way = end.lambda - start.lambda;
    let gain = -end.signal * (exp(-way) - 1.0);
    let change = 0.5 * gain / (apart / way);
    let (to_earlier, to_later) = match base {
        Base::Earlier => (gain - change, change),
        Base::Later => (-change, gain + change),
    };
    weighted_sum([(end.noise / start.noise, x), (to_earlier, earlier), (to_later, later)])
}

/// Which of two clean latents the step starts with.
enum Base {
    Earlier,
    Later,
}

/// DPM-Solver++ 2M. Kept: the clean latent of the call before.
pub(super) struct Multistep(Levels);

impl Multistep {
    pub fn new(steps: usize) -> Multistep {
        Multistep(Levels::new(steps, &NoiseSchedule::trained(), 0.0))
    }
}

impl Solver for Multistep {
    fn timesteps(&self) -> &[f32] {
        &self.0.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.0.sigmas
    }

    fn kept(&self, call: usize) -> usize {
        call.min(1)
    }

    fn step(&self, call: usize, epsilon: &[f32], x: &[f32], history: &mut Vec<Vec<f32>>, _: &mut Noise) -> Step {
        let [start, end] = [call, call + 1].map(|level| Point::at(self.0.sigmas[level]));
        let denoised = start.denoised(epsilon, x);
        let last = call + 1 == self.0.timesteps.len();
        let x = match history.pop() {
            // The last step leads to sigma 0, where lambda is infinite.
            Some(earlier) if !last => {
                let before = Point::at(self.0.sigmas[call - 1]);
                let apart = start.lambda - before.lambda;
                // 1000 steps visit one timestep twice; then there is no difference to extrapolate.
                if apart == 0.0 || end.lambda == start.lambda {
                    first_order(start, end, &denoised, x)
                } else {
                    second_order(start, end, x, Base::Later, &earlier, &denoised, apart)
                }
            }
            _ => first_order(start, end, &denoised, x),
        };
        history.push(denoised.clone());
        Step { x, denoised }
    }
}

/// DPM-Solver++ 2S. Calls come in pairs: the first goes on in first order, the second repeats the way from the pair's
/// start in second order. Kept between the two: the pair's first latent and its clean latent.
pub(super) struct Singlestep(Levels);

impl Singlestep {
    pub fn new(steps: usize) -> Singlestep {
        Singlestep(Levels::new(steps, &NoiseSchedule::trained(), 0.0))
    }

    /// Whether a call is the second of a pair. An even number of steps ends with two single ones.
    fn closes_pair(&self, call: usize) -> bool {
        call % 2 == 1 && call + 1 < self.0.timesteps.len()
    }
}

impl Solver for Singlestep {
    fn timesteps(&self) -> &[f32] {
        &self.0.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.0.sigmas
    }

    fn kept(&self, call: usize) -> usize {
        if self.closes_pair(call) { 2 } else { 0 }
    }

    fn is_between_steps(&self, call: usize) -> bool {
        !self.closes_pair(call)
    }

    fn step(&self, call: usize, epsilon: &[f32], x: &[f32], history: &mut Vec<Vec<f32>>, _: &mut Noise) -> Step {
        let [start, end] = [call, call + 1].map(|level| Point::at(self.0.sigmas[level]));
        let denoised = start.denoised(epsilon, x);
        if let [first_x, first_denoised] = history.as_slice() {
            let first = Point::at(self.0.sigmas[call - 1]);
            let apart = start.lambda - first.lambda;
            let x = if apart == 0.0 {
                first_order(start, end, &denoised, x)
            } else {
                second_order(first, end, first_x, Base::Earlier, first_denoised, &denoised, apart)
            };
            history.clear();
            return Step { x, denoised };
        }
        if self.closes_pair(call + 1) {
            *history = vec![x.to_vec(), denoised.clone()];
        }
        Step { x: first_order(start, end, &denoised, x), denoised }
    }
}
