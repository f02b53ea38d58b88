//! Many prompts at once from noise to latents, for sample sheets and evaluations.
//!
//! The same samplers as for one clip: what they do to a latent is done to each value alone, so a batch is one long latent.

use std::ops::ControlFlow;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::dit::{Probe, TextContext, Transformer};
use super::noise::fill_normal;
use super::sampler::{Sampler, SamplerError, SamplerKind, guidance};
use crate::mask::{KeyFrames, LayerMask, MaskPlan};

/// How samples are made.
#[derive(Clone, Debug)]
pub struct Sampling {
    pub sampler: SamplerKind,
    pub steps: usize,
    /// 1 means without guidance.
    pub guidance_scale: f64,
    /// `[channels, frames, height, width]` of a latent.
    pub shape: [usize; 4],
    pub masks: StepMasks,
    pub seed: u64,
}

/// The masks of all layers, for every call of a sampler.
#[derive(Clone, Debug, PartialEq)]
pub struct StepMasks {
    plan: MaskPlan,
    /// Of each range of the plan, one entry a layer.
    ranges: Vec<Vec<Arc<KeyFrames>>>,
}

impl StepMasks {
    pub fn of(plan: &MaskPlan) -> Self {
        let of_layers =
            |(_, layers): (f64, &[LayerMask])| layers.iter().map(|layer| Arc::new(layer.mask().key_frames())).collect();
        Self { plan: plan.clone(), ranges: plan.ranges().map(of_layers).collect() }
    }

    /// Of one call of so many, one entry a layer.
    pub fn at(&self, call: usize, calls: usize) -> &[Arc<KeyFrames>] {
        &self.ranges[self.plan.range_of(call, calls)]
    }

    pub fn plan(&self) -> &MaskPlan {
        &self.plan
    }
}

/// Sees the number of a call, its timestep and what the network is given for the prompts, and says whether to go on.
pub type SeeCall<'a> = &'a mut dyn FnMut(usize, f32, &[f32]) -> ControlFlow<()>;

/// Why samples could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SamplingError {
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    #[error("the device failed while it sampled: {0}")]
    Device(String),
    #[error("the transformer gave values that are not numbers")]
    NotFinite,
    #[error("stopped")]
    Stopped,
}

impl Sampling {
    /// Latents of `prompts`, one after the other, as the sampler leaves them: before the division by the VAE's scaling factor.
    /// `empty` is the text without words, as many times as there are prompts; it is read only with guidance. `batch` is the
    /// number of the batch, which decides about the noise.
    ///
    /// # Errors
    /// The sampler cannot take so many steps, or the device failed.
    pub fn run(
        &self,
        transformer: &Transformer,
        prompts: &TextContext,
        empty: &TextContext,
        batch: u64,
        device: &Device,
    ) -> Result<Vec<f32>, SamplingError> {
        self.run_seen(transformer, [prompts, empty], batch, device, &mut |_, _, _| ControlFlow::Continue(()))
    }

    /// As [`Self::run`]; `see` is asked before every call.
    ///
    /// # Errors
    /// As [`Self::run`], or `see` stopped it.
    pub fn run_seen(
        &self,
        transformer: &Transformer,
        [prompts, empty]: [&TextContext; 2],
        batch: u64,
        device: &Device,
        see: SeeCall<'_>,
    ) -> Result<Vec<f32>, SamplingError> {
        let [count, _, _] = prompts.embedding.dims();
        let [channels, frames, height, width] = self.shape;
        let length = count * self.shape.iter().product::<usize>();
        let mut sampler = Sampler::new(self.sampler, self.steps)?;
        // Draws of a batch: the start, then one for every call.
        let first_draw = batch * (sampler.calls() as u64 + 1);
        let mut latents = vec![0.0; length];
        fill_normal(self.seed, first_draw, &mut latents);
        let sigma = sampler.init_noise_sigma();
        latents.iter_mut().for_each(|value| *value *= sigma);
        let is_guided = self.guidance_scale > 1.0;
        let text = if is_guided {
            let embedding = Tensor::cat(vec![empty.embedding.clone(), prompts.embedding.clone()], 0);
            TextContext { embedding, mask: [&empty.mask[..], &prompts.mask[..]].concat() }
        } else {
            prompts.clone()
        };
        let caption = transformer.caption(&text);
        for call in 0..sampler.calls() {
            let mut input = sampler.scale_model_input(call, &latents);
            if see(call, sampler.timestep(call), &input).is_break() {
                return Err(SamplingError::Stopped);
            }
            let copies = if is_guided { 2 } else { 1 };
            if is_guided {
                input.extend_from_within(..);
            }
            let data = TensorData::new(input, [copies * count, channels, frames, height, width]);
            let timesteps = vec![sampler.timestep(call); copies * count];
            let input = Tensor::<5>::from_data(data, device);
            let masks = self.masks.at(call, sampler.calls());
            let output = transformer.forward_to(input, &timesteps, &caption, None, masks, &mut Probe::default());
            let values: Vec<f32> =
                output.narrow(1, 0, channels).try_into_vec_as().map_err(|error| SamplingError::Device(error.to_string()))?;
            if values.iter().any(|value| !value.is_finite()) {
                return Err(SamplingError::NotFinite);
            }
            let epsilon = if is_guided {
                let (unconditional, conditional) = values.split_at(length);
                guidance::combine(unconditional, conditional, self.guidance_scale as f32)
            } else {
                values
            };
            let draw = first_draw + 1 + call as u64;
            latents = sampler.step(call, &epsilon, &latents, &mut |noise| fill_normal(self.seed, draw, noise)).x;
        }
        Ok(latents)
    }
}
