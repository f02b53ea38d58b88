//! A model as it is evaluated: many prompts at once, with the settings that it asks for.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::error::EvaluateError;
use crate::gpu::device::ComputeDevice;
use crate::mask::{KeyFrames, MaskPlan};
use crate::model::attention_time::AttentionShape;
use crate::model::dit::{TextContext, Transformer, TransformerConfig};
use crate::model::folder::ModelFolder;
use crate::model::latent::ClipSize;
use crate::model::sampler::{Sampler, SamplerKind};
use crate::model::sampling::{Sampling, SamplingError, StepMasks};
use crate::model::text::encoder::{TextEncoder, TextEncoderConfig};
use crate::model::text::{Tokenizer, prompt_text};
use crate::model::vae::{Vae, VaeConfig};
use crate::model::weights::Loader;

/// A clip that takes longer is not made again to measure its time.
const LONG_SECONDS: f64 = 5.0;

/// What may be other than the model's own settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    pub sampler: Option<SamplerKind>,
    pub steps: Option<usize>,
    pub guidance_scale: Option<f64>,
    pub masks: Masks,
    pub seed: u64,
}

/// Which tiles are computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Masks {
    /// Those that the model was made for.
    #[default]
    Own,
    /// One mask for all layers, by its name.
    Uniform(String),
    Plan(MaskPlan),
}

/// What one clip takes, alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipSeconds {
    /// All calls of the transformer, with the sampler between them.
    pub transformer: f64,
    /// From the prompt to pixels.
    pub whole: f64,
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
    pub plan: MaskPlan,
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
        let plan = match (overrides.masks, folder.mask_plan()?) {
            (Masks::Plan(plan), _) => plan,
            (Masks::Uniform(name), _) => MaskPlan::uniform(layers, frames, &name)?,
            (Masks::Own, Some(text)) => MaskPlan::from_json(&text)?,
            (Masks::Own, None) => MaskPlan::dense(layers, frames)?,
        };
        plan.check(layers, frames)?;
        let sampling = Sampling {
            sampler: overrides.sampler.unwrap_or(defaults.sampler),
            steps: overrides.steps.unwrap_or(defaults.steps),
            guidance_scale: overrides.guidance_scale.unwrap_or(defaults.guidance_scale),
            shape: size.latent_shape(transformer_config.in_channels),
            masks: StepMasks::of(&plan),
            seed: overrides.seed,
        };
        let (name, tokenizer) = (folder.location(), folder.tokenizer()?.tokenizer()?);
        let device = device.clone();
        Ok(Self { name, tokenizer, text_encoder, transformer, vae, size, sampling, plan, device, folder })
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
        let [text, empty] = self.texts(prompts)?;
        Ok(self.sampling.run(&self.transformer, &text, &empty, batch, &self.device.device)?)
    }

    /// What the transformer is told: the prompts, and as many times what stands for no words.
    fn texts(&self, prompts: &[String]) -> Result<[TextContext; 2], EvaluateError> {
        let defaults = &self.folder.facts().defaults;
        let empty = vec![defaults.negative_prompt.clone(); prompts.len()];
        Ok([self.encode(prompts, &defaults.prompt_template)?, self.encode(&empty, "{}")?])
    }

    /// Identifies the VAE: models with the same one have the same ceiling.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub fn vae_hash(&self) -> Result<String, EvaluateError> {
        Ok(self.folder.vae_hash()?)
    }

    /// All that its clips depend on besides prompts, their noise's number and rounding.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub fn identity(&self) -> Result<Value, EvaluateError> {
        let Sampling { sampler, steps, guidance_scale, seed, .. } = &self.sampling;
        let defaults = &self.folder.facts().defaults;
        Ok(json!({
            "files": self.folder.hash()?, "masks": self.plan.clone().with_notes(Map::new()).to_json()?,
            "sampler": sampler, "steps": steps, "guidance_scale": guidance_scale, "seed": seed,
            "prompt_template": defaults.prompt_template, "clean_caption": defaults.clean_caption,
            "negative_prompt": defaults.negative_prompt,
        }))
    }

    /// Milliseconds that the self-attention of one call takes for one clip, all layers together, measured. The mean over the calls
    /// of a clip, where masks are of ranges of steps.
    ///
    /// # Errors
    /// The device failed.
    pub fn attention_millis(&self) -> Result<f64, EvaluateError> {
        let config = self.transformer.config();
        let shape = AttentionShape {
            heads: config.num_attention_heads,
            head: config.attention_head_dim,
            frame_tokens: self.size.tokens_per_frame(),
        };
        let calls = Sampler::new(self.sampling.sampler, self.sampling.steps).map_err(SamplingError::from)?.calls();
        let of_calls: Vec<&[Arc<KeyFrames>]> = (0..calls).map(|call| self.sampling.masks.at(call, calls)).collect();
        // Layers with the same mask are measured once.
        let mut different: Vec<Arc<KeyFrames>> = Vec::new();
        for mask in of_calls.iter().copied().flatten() {
            if !different.contains(mask) {
                different.push(mask.clone());
            }
        }
        let millis = shape.millis(&different, &self.device).map_err(EvaluateError::Device)?;
        let of = |mask: &Arc<KeyFrames>| different.iter().position(|other| other == mask).map_or(0.0, |place| millis[place]);
        Ok(of_calls.iter().copied().flatten().map(of).sum::<f64>() / calls.max(1) as f64)
    }

    /// What one clip of a prompt takes, alone: the least of three clips, or one where that takes long.
    ///
    /// # Errors
    /// The device failed.
    pub fn clip_seconds(&self, prompt: &str) -> Result<ClipSeconds, EvaluateError> {
        // The first one alone may have kernels to compile that several prompts at once did not need.
        let mut least = self.seconds_of_one(prompt)?;
        for _ in 0..2 {
            if least.whole > LONG_SECONDS {
                break;
            }
            let again = self.seconds_of_one(prompt)?;
            least = ClipSeconds { transformer: least.transformer.min(again.transformer), whole: least.whole.min(again.whole) };
        }
        Ok(least)
    }

    fn seconds_of_one(&self, prompt: &str) -> Result<ClipSeconds, EvaluateError> {
        let device_failed = |error: &dyn std::fmt::Display| EvaluateError::Device(error.to_string());
        let started = Instant::now();
        let [text, empty] = self.texts(&[prompt.to_owned()])?;
        // Work is done when its values are asked for: those of the text here, those of the latent at the sampler's end.
        for text in [&text, &empty] {
            text.embedding.clone().try_into_data().map_err(|error| device_failed(&error))?;
        }
        let of_text = started.elapsed().as_secs_f64();
        let latent = self.sampling.run(&self.transformer, &text, &empty, 0, &self.device.device)?;
        let transformer = started.elapsed().as_secs_f64() - of_text;
        let video: Result<Vec<f32>, _> = self.decode(&latent).try_into_vec_as();
        video.map_err(|error| device_failed(&error))?;
        Ok(ClipSeconds { transformer, whole: started.elapsed().as_secs_f64() })
    }

    /// Values of one clip's latent.
    pub fn latent_values(&self) -> usize {
        self.sampling.shape.iter().product()
    }

    /// The videos of latents, one after the other: `[clips, frames, height, width, 3]` around [-1, 1].
    pub fn decode(&self, latents: &[f32]) -> Tensor<5> {
        let [channels, frames, height, width] = self.sampling.shape;
        let data = TensorData::new(latents.to_vec(), [latents.len() / self.latent_values(), channels, frames, height, width]);
        self.vae.decode_whole(Tensor::from_data(data, &self.device.device) / self.vae.scaling_factor())
    }
}

fn parse<T: DeserializeOwned>(folder: &ModelFolder, value: &Value) -> Result<T, EvaluateError> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| EvaluateError::Model { location: folder.location(), reason: error.to_string() })
}
