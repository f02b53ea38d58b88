//! Samplers: from noise to a clean latent in a number of model calls.
//!
//! A [`Sampler`] says at which timestep the model is asked next and what its answer (epsilon, the predicted noise) does to
//! the latent. It follows the samplers of Open-Sora-Plan v1.2, that is of diffusers 0.28.0, plus the few-step one of the
//! distilled model. All of it is plain arithmetic on slices on the CPU: a latent is small, and so a recipe means the same
//! on every device.
//!
//! The noise schedule owns the tables, each family of samplers has one file with its formulas, and this file owns the
//! walk through the calls: [`Sampler::step`] is used with calls 0, 1, 2, .. in turn, and what a multistep method keeps
//! between calls can be taken out and put back, so that a run can be stopped after any call and go on bit-equal.

mod ddim;
mod ddpm;
mod deis;
mod dpm_solver;
mod euler;
pub mod guidance;
mod kind;
mod pndm;
pub mod schedule;
mod second_order;

pub use kind::SamplerKind;

use schedule::{NoiseSchedule, TRAINING_TIMESTEPS};

/// What can be wrong with a sampler that somebody asks for or a stopped run that goes on.
#[derive(Debug, thiserror::Error)]
pub enum SamplerError {
    /// Text that names no sampler.
    #[error("there is no sampler {0:?}; known are {known}", known = SamplerKind::ALL.map(SamplerKind::name).join(", "))]
    UnknownKind(String),
    /// A number of steps that the sampler cannot walk.
    #[error("{kind} takes {least} to {most} steps, not {steps}", most = TRAINING_TIMESTEPS)]
    Steps { kind: SamplerKind, steps: usize, least: usize },
    /// A call that a run of so many steps does not have.
    #[error("call {call} lies beyond the end: {kind} makes {calls} model calls here")]
    NoSuchCall { kind: SamplerKind, call: usize, calls: usize },
    /// Kept latents of another sampler, another call or another size.
    #[error(
        "the kept latents do not fit: before call {call}, {kind} keeps {wanted} of one length, given are {given:?} elements; \
         they come from another run"
    )]
    History { kind: SamplerKind, call: usize, wanted: usize, given: Vec<usize> },
}

/// What one call did.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The latent that the next call starts from; after the last call, the result.
    pub x: Vec<f32>,
    /// The clean latent as the model sees it from here: what a preview shows.
    pub denoised: Vec<f32>,
}

/// Fills a slice with standard normal noise.
pub type Noise<'a> = dyn FnMut(&mut [f32]) + 'a;

/// A family's formulas. Everything but the history is fixed by the number of steps.
trait Solver: Send + Sync {
    /// Timestep of each model call.
    fn timesteps(&self) -> &[f32];

    /// The noise levels as the reference lists them; empty for methods that work on alpha-bar.
    fn sigmas(&self) -> &[f32] {
        &[]
    }

    /// Deviation of the noise that the run starts from.
    fn init_noise_sigma(&self) -> f32 {
        1.0
    }

    /// The noise level by which the model's input is scaled at a call: x / sqrt(sigma^2 + 1).
    fn input_sigma(&self, _call: usize) -> f32 {
        0.0
    }

    /// How many latents are kept before a call.
    fn kept(&self, _call: usize) -> usize {
        0
    }

    /// Whether the latent before a call lies at one noise level, and not half-way through a step.
    fn is_between_steps(&self, _call: usize) -> bool {
        true
    }

    /// One call. `history` holds [`Self::kept`] latents on entry, and as many as the next call wants on return.
    fn step(&self, call: usize, epsilon: &[f32], x: &[f32], history: &mut Vec<Vec<f32>>, noise: &mut Noise) -> Step;
}

/// A walk from noise to a clean latent.
pub struct Sampler {
    kind: SamplerKind,
    solver: Box<dyn Solver>,
    next_call: usize,
    history: Vec<Vec<f32>>,
}

impl Sampler {
    /// A sampler at its first call.
    ///
    /// With one step only, the kinds over evenly spaced timesteps (the Euler and second-order ones) begin and end at
    /// timestep 0, as in the reference; the DDIM and DPM-Solver kinds are the ones for very few steps.
    ///
    /// # Errors
    /// If `steps` is 0 or more than 1000; `pndm` needs 4 for its Runge-Kutta start.
    pub fn new(kind: SamplerKind, steps: usize) -> Result<Sampler, SamplerError> {
        let least = if kind == SamplerKind::Pndm { pndm::LEAST_STEPS } else { 1 };
        if !(least..=TRAINING_TIMESTEPS).contains(&steps) {
            return Err(SamplerError::Steps { kind, steps, least });
        }
        let solver: Box<dyn Solver> = match kind {
            SamplerKind::Ddim => Box::new(ddim::Ddim::leading(steps)),
            SamplerKind::DdimTrailing => Box::new(ddim::Ddim::trailing(steps)),
            SamplerKind::Euler => Box::new(euler::Euler::new(steps)),
            SamplerKind::EulerAncestral => Box::new(euler::EulerAncestral::new(steps)),
            SamplerKind::Ddpm => Box::new(ddpm::Ddpm::new(steps)),
            SamplerKind::DpmSolverMultistep => Box::new(dpm_solver::Multistep::new(steps)),
            SamplerKind::DpmSolverSinglestep => Box::new(dpm_solver::Singlestep::new(steps)),
            SamplerKind::Pndm => Box::new(pndm::Pndm::new(steps)),
            SamplerKind::Heun => Box::new(second_order::Heun::new(steps)),
            SamplerKind::Deis => Box::new(deis::Deis::new(steps)),
            SamplerKind::Kdpm2Ancestral => Box::new(second_order::Kdpm2Ancestral::new(steps)),
        };
        Ok(Sampler { kind, solver, next_call: 0, history: Vec::new() })
    }

    /// Which sampler this is.
    pub fn kind(&self) -> SamplerKind {
        self.kind
    }

    /// Model calls of a whole run: the number of steps, n + 9 for `pndm`, 2n - 1 for `heun` and `kdpm2-ancestral`.
    pub fn calls(&self) -> usize {
        self.solver.timesteps().len()
    }

    /// The call that [`Self::step`] expects; equal to [`Self::calls`] when the run is over.
    pub fn next_call(&self) -> usize {
        self.next_call
    }

    /// The timestep at which the model is asked in a call, in 0..1000; the sigma-based kinds have fractions.
    pub fn timestep(&self, call: usize) -> f32 {
        self.solver.timesteps()[call]
    }

    /// Noise levels as the reference tabulates them (repeated for the two calls of a second-order step, with the final
    /// level at the end); empty for the kinds that work on alpha-bar.
    pub fn sigmas(&self) -> &[f32] {
        self.solver.sigmas()
    }

    /// By what standard normal noise is multiplied to make the first latent.
    pub fn init_noise_sigma(&self) -> f32 {
        self.solver.init_noise_sigma()
    }

    /// The latent as the model wants to see it at a call.
    pub fn scale_model_input(&self, call: usize, x: &[f32]) -> Vec<f32> {
        let sigma = self.solver.input_sigma(call);
        let scale = (sigma * sigma + 1.0).sqrt();
        x.iter().map(|value| value / scale).collect()
    }

    /// The clean latent `denoised` with `noise` (unit normal) at the level that the latent before `call` has: another latent
    /// from which the run can go on. None half-way through a step of several calls.
    pub fn renoise(&self, call: usize, denoised: &[f32], noise: &[f32]) -> Option<Vec<f32>> {
        if call >= self.calls() || !self.solver.is_between_steps(call) {
            return None;
        }
        let sigma = self.solver.input_sigma(call);
        let (signal, deviation) = if sigma > 0.0 {
            (1.0, sigma)
        } else {
            let alpha_bar = NoiseSchedule::trained().alpha_bar(self.timestep(call) as i32);
            (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt())
        };
        Some(weighted_sum([(signal, denoised), (deviation, noise)]))
    }

    /// Takes the model's answer to call `call` into account.
    ///
    /// `x` is the latent before scaling, `epsilon` the predicted noise. `noise` fills a slice with standard normal noise
    /// and is asked at most once a call, also where the reference draws noise without using it.
    ///
    /// # Panics
    /// If `call` is not [`Self::next_call`], or `x`, `epsilon` and the history differ in length.
    pub fn step(&mut self, call: usize, epsilon: &[f32], x: &[f32], noise: &mut Noise) -> Step {
        assert_eq!(call, self.next_call, "a sampler's calls come in turn");
        assert!(call < self.calls(), "the run is over");
        assert_eq!(epsilon.len(), x.len(), "epsilon has the latent's shape");
        assert!(self.history.iter().all(|kept| kept.len() == x.len()), "kept latents have the latent's shape");
        let step = self.solver.step(call, epsilon, x, &mut self.history, noise);
        self.next_call += 1;
        debug_assert!(self.next_call == self.calls() || self.history.len() == self.solver.kept(self.next_call));
        step
    }

    /// The latents that the method keeps for the next call: with the latent itself, all that a stopped run needs.
    pub fn history(&self) -> Vec<Vec<f32>> {
        self.history.clone()
    }

    /// Goes to just before call `call` of a run that was stopped there, with the history that it had.
    ///
    /// # Errors
    /// If there is no such call, or if the history is not one of this kind at this call. Whether the kept latents are as
    /// long as the latent itself is for the caller to check, who has it.
    pub fn restore(&mut self, call: usize, history: Vec<Vec<f32>>) -> Result<(), SamplerError> {
        let (kind, calls) = (self.kind, self.calls());
        if call > calls {
            return Err(SamplerError::NoSuchCall { kind, call, calls });
        }
        // After the last call nothing is wanted any more, so whatever was kept is welcome and dropped.
        if call == calls {
            self.history.clear();
            self.next_call = call;
            return Ok(());
        }
        let wanted = self.solver.kept(call);
        let given: Vec<usize> = history.iter().map(Vec::len).collect();
        if given.len() != wanted || given.iter().any(|&length| length != given[0]) {
            return Err(SamplerError::History { kind, call, wanted, given });
        }
        self.history = history;
        self.next_call = call;
        Ok(())
    }
}

/// The sum of weighted latents. Every step of every sampler is one: only the weights tell the methods apart. Products and
/// sums are f64 and rounded once at the end, so a step loses no more than its result has to.
fn weighted_sum<const TERMS: usize>(terms: [(f32, &[f32]); TERMS]) -> Vec<f32> {
    (0..terms[0].1.len())
        .map(|element| terms.iter().map(|(weight, latent)| f64::from(*weight) * f64::from(latent[element])).sum::<f64>() as f32)
        .collect()
}

/// Natural logarithm, rounded once. Not the standard library's, which differs between platforms.
fn ln(x: f32) -> f32 {
    libm::log(f64::from(x)) as f32
}

/// Exponential function, rounded once.
fn exp(x: f32) -> f32 {
    libm::exp(f64::from(x)) as f32
}

/// Asks for one latent of noise.
fn draw(noise: &mut Noise, len: usize) -> Vec<f32> {
    let mut drawn = vec![0.0; len];
    noise(&mut drawn);
    drawn
}

#[cfg(test)]
mod tests;
