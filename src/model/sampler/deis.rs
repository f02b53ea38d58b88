//! DEIS of second order in log rho (Zhang and Chen 2022): epsilon is extrapolated as a straight line in the logarithm of
//! rho (noise per signal) and integrated exactly.

use super::dpm_solver::{Levels, Point};
use super::schedule::NoiseSchedule;
use super::{Noise, Solver, Step, exp, ln, weighted_sum};

/// Below so many steps the last one is of first order, for stability.
const FULL_ORDER_STEPS: usize = 15;

/// Kept: the epsilon of the call before.
pub(super) struct Deis(Levels);

impl Deis {
    /// The walk ends at the noise of timestep 0, not at none.
    pub fn new(steps: usize) -> Deis {
        let schedule = NoiseSchedule::trained();
        Deis(Levels::new(steps, &schedule, schedule.sigma(0.0)))
    }
}

impl Solver for Deis {
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
        let steps = self.0.timesteps.len();
        let first_order = call + 1 == steps && steps < FULL_ORDER_STEPS;
        let x = match history.pop() {
            // 1000 steps visit one timestep twice; then there is no line through two points.
            Some(earlier) if !first_order && self.0.sigmas[call] != self.0.sigmas[call - 1] => {
                let before = Point::at(self.0.sigmas[call - 1]);
                let [rho, rho_start, rho_before] = [end, start, before].map(|point| point.noise / point.signal);
                let now = line_integral(rho, rho_start, rho_before) - line_integral(rho_start, rho_start, rho_before);
                let then = line_integral(rho, rho_before, rho_start) - line_integral(rho_start, rho_before, rho_start);
                weighted_sum([(end.signal / start.signal, x), (end.signal * now, epsilon), (end.signal * then, &earlier)])
            }
            _ => {
                let growth = exp(end.lambda - start.lambda) - 1.0;
                weighted_sum([(end.signal / start.signal, x), (-end.noise * growth, epsilon)])
            }
        };
        history.push(epsilon.to_vec());
        Step { x, denoised }
    }
}

/// The antiderivative, at `rho`, of the line in log rho that is 1 at `one` and 0 at `zero`.
///
/// A step takes the difference of two of these, which loses digits where steps are short. It is f32 because the reference
/// computes it in f32: at a hundred steps an exact difference would lie 2e-5 beside the reference's latents.
fn line_integral(rho: f32, one: f32, zero: f32) -> f32 {
    let [log_rho, log_one, log_zero] = [rho, one, zero].map(ln);
    rho * (log_rho - log_zero - 1.0) / (log_one - log_zero)
}
