//! PNDM (Liu et al. 2022): the classical Runge-Kutta method for the first three steps, four model calls each, then the
//! linear multistep method of Adams and Bashforth on the last four epsilons; all with the paper's transfer function
//! (formula 9) instead of a straight line.
//!
//! Kept between calls: the epsilons of the last steps, oldest first; inside a Runge-Kutta step also its first latent and
//! the epsilons of its calls so far.

use super::ddim::denoised;
use super::schedule::{NoiseSchedule, hop, leading_timesteps};
use super::{Noise, Solver, Step, weighted_sum};

/// Three Runge-Kutta steps need the four first timesteps.
pub(super) const LEAST_STEPS: usize = 4;

const RUNGE_KUTTA_STEPS: usize = 3;
/// Model calls of one Runge-Kutta step.
const STAGES: usize = 4;
const RUNGE_KUTTA_CALLS: usize = RUNGE_KUTTA_STEPS * STAGES;

pub(super) struct Pndm {
    timesteps: Vec<f32>,
    /// Where each call's transfer begins and ends, as timesteps.
    transfers: Vec<(i32, i32)>,
    schedule: NoiseSchedule,
}

impl Pndm {
    pub fn new(steps: usize) -> Pndm {
        let whole = hop(steps) as i32;
        let half = whole / 2;
        let leading: Vec<i32> = leading_timesteps(steps).into_iter().map(|timestep| timestep as i32).collect();
        let mut timesteps = Vec::with_capacity(steps + 9);
        let mut transfers = Vec::with_capacity(steps + 9);
        for pair in leading.windows(2).take(RUNGE_KUTTA_STEPS) {
            let (start, end) = (pair[0], pair[1]);
            // Twice to the middle, then to the end, then the whole step with the mean slope.
            timesteps.extend([start, end + half, end + half, end]);
            transfers.extend([(start, start - half), (start, end + half), (start, end), (start, end)]);
        }
        for &timestep in &leading[RUNGE_KUTTA_STEPS..] {
            timesteps.push(timestep);
            transfers.push((timestep, timestep - whole));
        }
        let timesteps = timesteps.into_iter().map(|timestep| timestep as f32).collect();
        Pndm { timesteps, transfers, schedule: NoiseSchedule::trained() }
    }

    /// Formula 9: moves `x` along `epsilon` as call `call` does.
    fn transfer(&self, call: usize, epsilon: &[f32], x: &[f32]) -> Vec<f32> {
        let (from, to) = self.transfers[call];
        let from = self.schedule.alpha_bar(from);
        // The walk ends at the first training timestep, not at the clean latent (`set_alpha_to_one` is off).
        let to = self.schedule.alpha_bar(to.max(0));
        let denominator = from * (1.0 - to).sqrt() + (from * (1.0 - from) * to).sqrt();
        weighted_sum([((to / from).sqrt(), x), (-(to - from) / denominator, epsilon)])
    }
}

impl Solver for Pndm {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn kept(&self, call: usize) -> usize {
        if call >= RUNGE_KUTTA_CALLS {
            return RUNGE_KUTTA_STEPS;
        }
        let (step, stage) = (call / STAGES, call % STAGES);
        // The first epsilon of this step already counts as an epsilon of the steps.
        if stage == 0 { step } else { step + 1 + stage }
    }

    fn step(&self, call: usize, epsilon: &[f32], x: &[f32], history: &mut Vec<Vec<f32>>, _: &mut Noise) -> Step {
        let denoised = denoised(self.schedule.alpha_bar(self.timesteps[call] as i32), epsilon, x);
        let x = if call >= RUNGE_KUTTA_CALLS {
            let [third, second, first] = history.as_slice() else { unreachable!("three epsilons are kept from here on") };
            let slope =
                weighted_sum([(55.0 / 24.0, epsilon), (-59.0 / 24.0, first), (37.0 / 24.0, second), (-9.0 / 24.0, third)]);
            let x = self.transfer(call, &slope, x);
            history.remove(0);
            history.push(epsilon.to_vec());
            x
        } else if call.is_multiple_of(STAGES) {
            history.extend([epsilon.to_vec(), x.to_vec()]);
            self.transfer(call, epsilon, x)
        } else if call % STAGES < STAGES - 1 {
            history.push(epsilon.to_vec());
            let start = &history[call / STAGES + 1];
            self.transfer(call, epsilon, start)
        } else {
            let stages = history.split_off(call / STAGES);
            let [first, start, second, third] = stages.as_slice() else { unreachable!("a step keeps its start and stages") };
            let slope = weighted_sum([(1.0 / 6.0, first), (1.0 / 3.0, second), (1.0 / 3.0, third), (1.0 / 6.0, epsilon)]);
            let x = self.transfer(call, &slope, start);
            history.push(first.clone());
            x
        };
        Step { x, denoised }
    }
}
