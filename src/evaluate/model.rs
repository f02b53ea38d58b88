//! A model as it is evaluated: many prompts at once, with the settings that it asks for.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use serde::de::DeserializeOwned;

use super::error::EvaluateError;
use crate::gpu::device::ComputeDevice;
use crate::mask::{KeyFrames, MaskPlan};
use crate::model::dit::{TextContext, Transformer, TransformerConfig};
use crate::model::folder::ModelFolder;
use crate::model::latent::ClipSize;
use crate::model::sampling::Sampling;
use crate::model::text::encoder::{TextEncoder, TextEncoderConfig};
use crate::model::text::{Tokenizer, prompt_text};
use crate::model::vae::{Vae, VaeConfig};
use crate::model::weights::Loader;

/// What may be other than the model's own settings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overrides {
    pub steps: Option<usize>,
    pub guidance_scale: Option<f64>,
    pub seed: u64,
}

/// A model on a device.
pub struct EvaluatedModel {
    pub name: String,
    folder: ModelFolder,
    tokenizer: Tokenizer,
    text_encoder: TextEncoder,
    transformer: Transformer,
    pub vae: Vae,
    pub size: ClipSize,
    pub sampling: Sampling,
    device: ComputeDevice,
}

impl EvaluatedModel {
    /// # Errors
    /// A part of the model is missing or damaged.
    pub fn load(folder: ModelFolder, overrides: Overrides, device: &ComputeDevice) -> Result<Self, EvaluateError> {
        let transformer_config: TransformerConfig = parse(&folder, folder.transformer_config())?;
        let vae_config: VaeConfig = parse(&folder, folder.vae_config())?;
        let encoder_config: TextEncoderConfig = parse(&folder, folder.text_encoder_config())?;
        let unsupported = transformer_config.unsupported();
        let unsupported = unsupported.or_else(|| vae_config.unsupported()).or_else(|| encoder_config.unsupported());
        if let Some(reason) = unsupported {
            return Err(EvaluateError::Model { location: folder.location(), reason });
        }
        let transformer = Transformer::load(Loader::new(&folder.transformer_weights()?, device), &transformer_config)?;
        let vae = Vae::load(Loader::new(&folder.vae_weights()?, device), &vae_config)?;
        let text_encoder = TextEncoder::load(Loader::new(&folder.text_encoder_weights()?, device), &encoder_config)?;
        let defaults = &folder.facts().defaults;
        let size = ClipSize { frames: defaults.frames, width: defaults.width, height: defaults.height };
        let (layers, frames) = (transformer.layers(), size.latent_frames());
        let plan = match folder.mask_plan()? {
            Some(text) => MaskPlan::from_json(&text)?,
            None => MaskPlan::dense(layers, frames)?,
        };
        plan.check(layers, frames)?;
        let key_frames: Vec<Arc<KeyFrames>> = plan.layers().iter().map(|layer| Arc::new(layer.mask().key_frames())).collect();
        let sampling = Sampling {
            sampler: defaults.sampler,
            steps: overrides.steps.unwrap_or(defaults.steps),
            guidance_scale: overrides.guidance_scale.unwrap_or(defaults.guidance_scale),
            shape: size.latent_shape(transformer_config.in_channels),
            key_frames,
            seed: overrides.seed,
        };
        let (name, tokenizer) = (folder.location(), folder.tokenizer()?.tokenizer()?);
        Ok(Self { name, tokenizer, text_encoder, transformer, vae, size, sampling, device: device.clone(), folder })
    }

    fn encode(&self, prompts: &[String], template: &str) -> Result<TextContext, EvaluateError> {
        let facts = self.folder.facts();
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for prompt in prompts {
            let text = prompt_text(prompt, template, facts.defaults.clean_caption);
            let tokens = self.tokenizer.encode(&text, facts.trained.max_tokens)?;
            ids.extend(tokens.ids);
            mask.extend(tokens.mask.iter().map(|&counts| f32::from(counts)));
        }
        let embedding = self.text_encoder.forward(&ids, &mask, prompts.len(), &mut |_, _| {});
        Ok(TextContext { embedding, mask })
    }

    /// The latents of prompts, one after the other; `batch` is their number among all prompts' batches.
    ///
    /// # Errors
    /// The device failed.
    pub fn sample(&self, prompts: &[String], batch: u64) -> Result<Vec<f32>, EvaluateError> {
        let defaults = &self.folder.facts().defaults;
        let text = self.encode(prompts, &defaults.prompt_template)?;
        let empty = self.encode(&vec![defaults.negative_prompt.clone(); prompts.len()], "{}")?;
        Ok(self.sampling.run(&self.transformer, &text, &empty, batch, &self.device.device)?)
    }

    /// The video of one latent, `[1, frames, height, width, 3]` around [-1, 1].
    pub fn decode(&self, latent: &[f32]) -> Tensor<5> {
        let [channels, frames, height, width] = self.sampling.shape;
        let data = TensorData::new(latent.to_vec(), [1, channels, frames, height, width]);
        self.vae.decode_whole(Tensor::from_data(data, &self.device.device) / self.vae.scaling_factor())
    }
}

fn parse<T: DeserializeOwned>(folder: &ModelFolder, value: &serde_json::Value) -> Result<T, EvaluateError> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| EvaluateError::Model { location: folder.location(), reason: error.to_string() })
}
