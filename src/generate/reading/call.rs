//! A call of the transformer that a run has made, and its repetition.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;

use crate::generate::GenerateError;
use crate::generate::networks::Timing;
use crate::generate::observer::{Observer, Phase};
use crate::generate::pipeline::{LoadedModel, RunOptions, Start};
use crate::generate::recipe::Recipe;
use crate::generate::step_record::StepRecord;
use crate::mask::MaskPlan;
use crate::model::dit::{Probe, Site, TextContext};
use crate::model::latent::Latent;
use crate::model::sampler::Sampler;

/// One call of a run. Calls count from 0: call k makes step k + 1.
#[derive(Clone, Debug)]
pub struct PastCall {
    recipe: Recipe,
    call: usize,
    before: Option<StepRecord>,
}

/// What the transformer got in a call.
pub(super) struct Input {
    /// Scaled for the model.
    pub latent: Latent,
    pub timestep: f32,
}

impl PastCall {
    /// The call that led to the record `after`; `before` is the record of the step before it, none for the first step. Of a branch
    /// they can be of two runs.
    pub fn of_records(after: &StepRecord, before: Option<StepRecord>) -> Self {
        Self { recipe: after.recipe.clone(), call: after.next_call.saturating_sub(1), before }
    }

    /// The call that made a step (from 1) of a run whose records lie in `folder`.
    ///
    /// # Errors
    /// The record of the step, or the one before it, is not there or damaged.
    pub fn of_step(folder: &Path, step: usize) -> Result<Self, GenerateError> {
        let record = |step: usize| StepRecord::read(&StepRecord::path_in(folder, step));
        let before = if step > 1 { Some(record(step - 1)?) } else { None };
        Ok(Self::of_records(&record(step)?, before))
    }

    /// A call of a run that left no records: the calls before it are made again.
    pub fn of_run(recipe: Recipe, call: usize) -> Self {
        Self { recipe: Recipe { made: None, ..recipe }, call, before: None }
    }

    /// The run that made the call.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// # Errors
    /// As [`PastCall::run`].
    pub(super) fn input(&self, model: &mut LoadedModel, observer: &mut dyn Observer) -> Result<Input, GenerateError> {
        let recipe = &self.recipe;
        recipe.check()?;
        model.is_of(recipe)?;
        let mut timing = Timing::default();
        let mut options = RunOptions::default();
        let leaves_here = recipe.branch.as_ref().is_some_and(|branch| branch.call == self.call);
        match &self.before {
            Some(record) if record.is_of(recipe) => options.resume = Some(record.clone()),
            Some(record) => options.branch = Some(record.clone()),
            None if self.call == 0 || leaves_here => {}
            None => options.resume = Some(model.walk(recipe, &RunOptions::default(), Some(self.call), &mut timing, observer)?),
        }
        let Start { first_call: call, latent, sampler, .. } = model.start(recipe, &options, &mut timing, observer)?;
        if call != self.call || call >= sampler.calls() {
            let reason = format!("step {} does not follow the records that are at hand", self.call + 1);
            return Err(GenerateError::Reading { reason });
        }
        let values = sampler.scale_model_input(call, &latent.values);
        Ok(Input { latent: Latent { shape: latent.shape, values }, timestep: sampler.timestep(call) })
    }

    /// Makes the call again for the prompt's row alone, as far as `last_layer` and no further; `watch` sees what a [`Probe`] sees.
    /// Returns the plan and the text that it ran with.
    ///
    /// # Errors
    /// The run's model is another one, its records do not fit, the device failed, or the observer asked to stop.
    pub(super) fn run(
        &self,
        model: &mut LoadedModel,
        last_layer: usize,
        observer: &mut dyn Observer,
        watch: &mut dyn FnMut(Site, usize, Tensor<3>),
    ) -> Result<(MaskPlan, TextContext), GenerateError> {
        let layers = model.networks().transformer.layers();
        if last_layer >= layers {
            let reason = format!("there is no layer {}, this model has {layers}", last_layer + 1);
            return Err(GenerateError::Reading { reason });
        }
        if observer.stop() {
            return Err(GenerateError::Stopped);
        }
        let calls = Sampler::new(self.recipe.sampler, self.recipe.steps)?.calls();
        let plan = self.recipe.plan(layers)?.at(self.call, calls);
        let input = self.input(model, observer)?;
        observer.phase(Phase::Text);
        let text = model.encode_prompt(&self.recipe)?;
        observer.phase(Phase::Sampling);

        let key_frames: Vec<_> = plan.layers().iter().map(|layer| Arc::new(layer.mask().key_frames())).collect();
        let done = Cell::new(false);
        let mut watch = |site: Site, layer: usize, values: Tensor<3>| {
            done.set(done.get() || (layer, site) == (last_layer, Site::Block));
            watch(site, layer, values);
        };
        let stop = || done.get() || observer.stop();
        let networks = model.networks();
        let latents = input.latent.to_tensor(1, &networks.device.device);
        let mut probe = Probe::until(&mut watch, &stop);
        // What comes behind the layer is worth nothing.
        let _ = networks.transformer.forward(latents, &[input.timestep], &text, None, &key_frames, &mut probe);
        if observer.stop() {
            return Err(GenerateError::Stopped);
        }
        Ok((plan, text))
    }
}
