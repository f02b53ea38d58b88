//! The samplers that spend two model calls on a step: one to look ahead, one to go. Only the last step, down to no noise,
//! takes one, so n steps are 2n - 1 calls. Between the two calls the step's start is kept.
//!
//! The reference leaves both at the defaults of diffusers, whose betas are not those that the model was trained with; they
//! are reproduced as they are.

use super::euler::{Levels, denoised, down_and_up};
use super::schedule::NoiseSchedule;
use super::{Noise, Solver, Step, draw, weighted_sum};

/// Heun's method (Karras et al. 2022, algorithm 1): the average of the slopes at both ends of a step.
pub(super) struct Heun {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
}

impl Heun {
    pub fn new(steps: usize) -> Heun {
        let Levels { timesteps, sigmas } = Levels::new(steps, &NoiseSchedule::second_order_default());
        // Every level but the first is visited twice: by the look ahead and by the next step.
        let twice = |values: &[f32]| -> Vec<f32> {
            values[..1].iter().copied().chain(values[1..].iter().flat_map(|&value| [value, value])).collect()
        };
        Heun { sigmas: twice(&sigmas[..steps]).into_iter().chain([0.0]).collect(), timesteps: twice(&timesteps) }
    }
}

impl Solver for Heun {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    fn init_noise_sigma(&self) -> f32 {
        self.sigmas[0]
    }

    fn input_sigma(&self, call: usize) -> f32 {
        self.sigmas[call]
    }

    fn kept(&self, call: usize) -> usize {
        if call % 2 == 1 { 2 } else { 0 }
    }

    fn is_between_steps(&self, call: usize) -> bool {
        call.is_multiple_of(2)
    }

    fn step(&self, call: usize, epsilon: &[f32], x: &[f32], history: &mut Vec<Vec<f32>>, _: &mut Noise) -> Step {
        let denoised = denoised(self.sigmas[call], epsilon, x);
        if let [start, start_epsilon] = history.as_slice() {
            let half_way = (self.sigmas[call] - self.sigmas[call - 1]) / 2.0;
            let x = weighted_sum([(1.0, start), (half_way, start_epsilon), (half_way, epsilon)]);
            history.clear();
            return Step { x, denoised };
        }
        let way = self.sigmas[call + 1] - self.sigmas[call];
        if call + 1 < self.timesteps.len() {
            *history = vec![x.to_vec(), epsilon.to_vec()];
        }
        Step { x: weighted_sum([(1.0, x), (way, epsilon)]), denoised }
    }
}

/// DPM-Solver-2 with ancestral noise, after k-diffusion: the slope in the middle of the step (in log sigma).
pub(super) struct Kdpm2Ancestral {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    steps: Vec<AncestralStep>,
}

/// Noise levels of one step.
struct AncestralStep {
    start: f32,
    middle: f32,
    down: f32,
    up: f32,
}

impl Kdpm2Ancestral {
    pub fn new(steps: usize) -> Kdpm2Ancestral {
        let schedule = NoiseSchedule::second_order_default();
        let levels = Levels::new(steps, &schedule);
        let steps: Vec<AncestralStep> = levels
            .sigmas
            .windows(2)
            .map(|pair| {
                let (down, up) = down_and_up(pair[0], pair[1]);
                // Half way in the logarithm; 0 in the last step, which has no second call.
                AncestralStep { start: pair[0], middle: (pair[0] * down).sqrt(), down, up }
            })
            .collect();
        let last = steps.len() - 1;
        let timesteps = (0..2 * last + 1)
            .map(|call| match call % 2 {
                0 => levels.timesteps[call / 2],
                _ => schedule.timestep_of(steps[call / 2].middle),
            })
            .collect();
        let sigmas = levels.sigmas[..1]
            .iter()
            .copied()
            .chain(levels.sigmas[1..].iter().flat_map(|&sigma| [sigma, sigma]))
            .chain([0.0])
            .collect();
        Kdpm2Ancestral { timesteps, sigmas, steps }
    }
}

impl Solver for Kdpm2Ancestral {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    fn init_noise_sigma(&self) -> f32 {
        self.steps[0].start
    }

    fn input_sigma(&self, call: usize) -> f32 {
        let step = &self.steps[call / 2];
        if call.is_multiple_of(2) { step.start } else { step.middle }
    }

    fn kept(&self, call: usize) -> usize {
        call % 2
    }

    fn is_between_steps(&self, call: usize) -> bool {
        call.is_multiple_of(2)
    }

    fn step(&self, call: usize, epsilon: &[f32], x: &[f32], history: &mut Vec<Vec<f32>>, noise: &mut Noise) -> Step {
        let step = &self.steps[call / 2];
        let denoised = denoised(self.input_sigma(call), epsilon, x);
        // Drawn in both calls, used in the second, as in the reference.
        let drawn = draw(noise, x.len());
        let x = match history.pop() {
            Some(start) => weighted_sum([(1.0, &start), (step.down - step.start, epsilon), (step.up, &drawn)]),
            None => {
                if call + 1 < self.timesteps.len() {
                    history.push(x.to_vec());
                }
                weighted_sum([(1.0, x), (step.middle - step.start, epsilon)])
            }
        };
        Step { x, denoised }
    }
}
