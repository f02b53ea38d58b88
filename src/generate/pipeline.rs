//! From a recipe to frames: text, noise, sampler and transformer, VAE.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};

use super::networks::{Networks, Timing, Walk, millis, read};
use super::observer::{Observer, Phase};
use super::preview::Projection;
use super::prompt_cache::PromptCache;
use super::recipe::Recipe;
use super::record_writer::RecordWriter;
use super::residency;
use super::step_record::{LastRecord, StepRecord};
use super::{GenerateError, set_pace};
use crate::clip::Frames;
use crate::gpu::device::ComputeDevice;
use crate::gpu::self_test::{self, Part};
use crate::gpu::spans::{self, Kind};
use crate::model::dit::{TextContext, Transformer, TransformerConfig};
use crate::model::folder::ModelFolder;
use crate::model::latent::Latent;
use crate::model::noise::fill_normal;
use crate::model::sampler::Sampler;
use crate::model::text::encoder::{TextEncoder, TextEncoderConfig};
use crate::model::text::{TokenIds, Tokenizer, prompt_text};
use crate::model::vae::{Vae, VaeConfig};
use crate::model::weights::{Loader, WeightError, WeightSource};
use crate::parallel::{Load, Loaded, Team, TeamError};

/// What a run may begin from or leave behind, besides its recipe.
#[derive(Default)]
pub struct RunOptions {
    /// Replaces the seed's start noise (unit normal).
    pub noise: Option<Latent>,
    /// Goes on behind a finished step.
    pub resume: Option<StepRecord>,
    /// The step that the recipe's branch leaves; without it the run before the branch is made again.
    pub branch: Option<StepRecord>,
    /// Gets a record after every step.
    pub records: Option<std::path::PathBuf>,
    /// Holds the latest of these records.
    pub last: LastRecord,
    /// What a call of the transformer takes by an estimate, on the slowest device alone: how long several wait for each other follows
    /// from it.
    pub expected_call_seconds: Option<f64>,
}

/// What a run gives.
pub struct Outcome {
    pub frames: Frames,
    /// As the sampler left it, before the division by the VAE's scaling factor.
    pub latent: Latent,
    pub timing: Timing,
    /// The devices that made steps before the one that ended the run: with those the numbers may differ from a run on one.
    pub earlier_devices: Vec<String>,
    /// How many took part to the end.
    pub devices: usize,
}

/// A model whose networks are on a device.
pub struct LoadedModel {
    folder: ModelFolder,
    tokenizer: Tokenizer,
    text_encoder: Option<TextEncoder>,
    networks: Networks,
    projection: Option<Projection>,
}

/// Where a run begins.
pub(super) struct Start {
    pub first_call: usize,
    /// Before that call.
    pub latent: Latent,
    /// Ready for that call.
    pub sampler: Sampler,
    /// Those that made the steps before.
    devices: Vec<String>,
}

/// The transformer's configuration, checked.
///
/// # Errors
/// It is damaged, or of a network that this program does not run.
pub fn transformer_config(folder: &ModelFolder) -> Result<TransformerConfig, GenerateError> {
    let config: TransformerConfig = parse(folder.transformer_config(), folder, "the transformer's config.json")?;
    supported(config.unsupported(), folder, "the transformer")?;
    Ok(config)
}

/// The VAE's configuration, checked.
///
/// # Errors
/// As [`transformer_config`].
pub fn vae_config(folder: &ModelFolder) -> Result<VaeConfig, GenerateError> {
    let config: VaeConfig = parse(folder.vae_config(), folder, "the VAE's config.json")?;
    supported(config.unsupported(), folder, "the VAE")?;
    Ok(config)
}

/// The text encoder's configuration, checked.
///
/// # Errors
/// As [`transformer_config`].
pub fn text_encoder_config(folder: &ModelFolder) -> Result<TextEncoderConfig, GenerateError> {
    let config: TextEncoderConfig = parse(folder.text_encoder_config(), folder, "the text encoder's config.json")?;
    supported(config.unsupported(), folder, "the text encoder")?;
    Ok(config)
}

fn parse<T: serde::de::DeserializeOwned>(
    value: &serde_json::Value,
    folder: &ModelFolder,
    what: &str,
) -> Result<T, GenerateError> {
    serde_path_to_error::deserialize(value).map_err(|error| GenerateError::Unsupported {
        location: folder.location(),
        reason: format!("{what} is not understood at {}: {}", error.path(), error.inner()),
    })
}

fn supported(reason: Option<String>, folder: &ModelFolder, what: &str) -> Result<(), GenerateError> {
    match reason {
        Some(reason) => Err(GenerateError::Unsupported { location: folder.location(), reason: format!("{what}: {reason}") }),
        None => Ok(()),
    }
}

impl LoadedModel {
    /// # Errors
    /// A part of the model is missing, damaged or of another family.
    pub fn load(folder: ModelFolder, device: &ComputeDevice) -> Result<Self, GenerateError> {
        // The CPU's kernels are tested with the program; an adapter's depend on its driver.
        if !device.is_cpu() {
            passes_self_test(device)?;
            set_pace(device);
        }
        let config = transformer_config(&folder)?;
        let vae_config = vae_config(&folder)?;
        let encoder_config = text_encoder_config(&folder)?;
        if config.in_channels != vae_config.embed_dim || config.caption_channels != encoder_config.d_model {
            let reason = format!(
                "its parts do not belong together: the transformer takes {} latent channels and captions of {}, the VAE gives {} and the text encoder {}",
                config.in_channels, config.caption_channels, vae_config.embed_dim, encoder_config.d_model
            );
            return Err(GenerateError::Unsupported { location: folder.location(), reason });
        }
        let tokenizer = load_tokenizer(&folder)?;
        if tokenizer.vocabulary_size() > encoder_config.vocab_size {
            let reason = format!(
                "the tokenizer knows {} pieces, the text encoder {}",
                tokenizer.vocabulary_size(),
                encoder_config.vocab_size
            );
            return Err(GenerateError::Unsupported { location: folder.location(), reason });
        }
        let source = Arc::new(folder.transformer_weights()?);
        let transformer = load_transformer(&source, &config, device)?;
        let team = match device.others.as_slice() {
            [] => None,
            others => Some(RefCell::new(team(others, &source, &config, &folder, &vae_config)?)),
        };
        let source = folder.vae_weights()?;
        let vae = Vae::load(Loader::new(&source, device), &vae_config)?;
        let projection = match folder.preview_projection()? {
            Some(text) => Some(
                Projection::from_json(&text)
                    .map_err(|reason| GenerateError::Unsupported { location: folder.location(), reason })?,
            ),
            None => None,
        };
        let projection = projection.filter(|projection| projection.channels() == config.in_channels);
        let networks = Networks {
            transformer,
            vae,
            channels: config.in_channels,
            device: device.clone(),
            team,
            recorded: RefCell::default(),
        };
        Ok(Self { folder, tokenizer, text_encoder: None, networks, projection })
    }

    pub fn folder(&self) -> &ModelFolder {
        &self.folder
    }

    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    pub(super) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// # Errors
    /// The recipe was made with another model.
    pub(super) fn is_of(&self, recipe: &Recipe) -> Result<(), GenerateError> {
        let found = self.folder.hash()?;
        if found == recipe.model.sha256 {
            return Ok(());
        }
        let short = |hash: &str| hash.chars().take(12).collect();
        Err(GenerateError::OtherModel {
            name: recipe.model.name.clone(),
            wanted: short(&recipe.model.sha256),
            found: short(&found),
        })
    }

    /// The linear projection for previews: the model's own, else one that is fitted now.
    ///
    /// # Errors
    /// The device failed.
    pub fn projection(&mut self) -> Result<&Projection, GenerateError> {
        let projection = match self.projection.take() {
            Some(projection) => projection,
            None => Projection::fit_to_noise(&self.networks)?,
        };
        Ok(self.projection.insert(projection))
    }

    /// Makes the clip of `recipe`.
    ///
    /// # Errors
    /// The recipe does not fit the model, the device failed, or the observer asked to stop ([`GenerateError::Stopped`]).
    pub fn run(&mut self, recipe: &Recipe, options: &RunOptions, observer: &mut dyn Observer) -> Result<Outcome, GenerateError> {
        recipe.check()?;
        self.is_of(recipe)?;
        let mut timing = Timing::default();
        let StepRecord { latent, devices, .. } = self.walk(recipe, options, None, &mut timing, observer)?;
        observer.phase(Phase::Decoding);
        let started = Instant::now();
        let stop = || observer.stop();
        let frames = self.networks.decode(&latent, recipe.size(), f64::from(recipe.frames_per_second), &stop)?;
        timing.decode_millis = millis(started.elapsed());
        let last = self.networks.device.name_with_others();
        let earlier_devices = devices.into_iter().filter(|name| *name != last).collect();
        let devices = self.networks.team.as_ref().map_or(1, |team| team.borrow().ranks());
        Ok(Outcome { frames, latent, timing, earlier_devices, devices })
    }

    /// The frames that a latent stands for, such as a step's estimate.
    ///
    /// # Errors
    /// The device failed, or `stop` said so.
    pub fn decode(&self, latent: &Latent, recipe: &Recipe, stop: &dyn Fn() -> bool) -> Result<Frames, GenerateError> {
        self.networks.decode(latent, recipe.size(), f64::from(recipe.frames_per_second), stop)
    }

    /// Samples from where the recipe begins: up to call `end`, else to the end.
    pub(super) fn walk(
        &mut self,
        recipe: &Recipe,
        options: &RunOptions,
        end: Option<usize>,
        timing: &mut Timing,
        observer: &mut dyn Observer,
    ) -> Result<StepRecord, GenerateError> {
        let plan = recipe.plan(self.networks.transformer.layers())?;
        if let (Some(team), Some(seconds)) = (&self.networks.team, options.expected_call_seconds) {
            team.borrow_mut().expect_call(seconds);
        }
        // The walks before a branch come first, with texts of their own.
        let Start { first_call, latent: start, sampler, mut devices } = self.start(recipe, options, timing, observer)?;
        let name = self.networks.device.name_with_others();
        if devices.last() != Some(&name) && first_call < end.unwrap_or(sampler.calls()) {
            devices.push(name);
        }

        observer.phase(Phase::Text);
        let started = Instant::now();
        let text = self.encode_prompts(recipe)?;
        timing.text_millis += millis(started.elapsed());

        observer.phase(Phase::Sampling);
        let end = end.unwrap_or(sampler.calls());
        let mut last = None;
        let mut writer = options.records.as_deref().map(RecordWriter::start).transpose()?;
        let mut walk = Walk {
            sampler,
            calls: first_call..end,
            size: recipe.size(),
            frames_per_second: f64::from(recipe.frames_per_second),
            guidance_scale: recipe.guidance_scale,
            text: &text,
            plan: &plan,
            // Draw 0 is the start noise.
            noise: &mut |call, noise| fill_normal(recipe.seed, call as u64 + 1, noise),
            after_step: &mut |sampler, call, latent, denoised, attention| {
                let record = StepRecord::of_step(recipe, sampler, call, latent, denoised).made_on(&devices);
                options.last.put(&record);
                if let Some(writer) = &mut writer {
                    writer.write(call, record.clone(), attention.cloned())?;
                }
                last = Some(record);
                Ok(())
            },
        };
        let latent = self.networks.sample(start, &mut walk, timing, observer)?;
        if let Some(writer) = &mut writer {
            writer.finish()?;
        }
        if observer.stop() {
            return Err(GenerateError::Stopped);
        }
        // A run that goes on behind its last call has no step left.
        Ok(last.unwrap_or_else(|| StepRecord::at_end(recipe, end, latent).made_on(&devices)))
    }

    /// Where the run begins.
    pub(super) fn start(
        &mut self,
        recipe: &Recipe,
        options: &RunOptions,
        timing: &mut Timing,
        observer: &mut dyn Observer,
    ) -> Result<Start, GenerateError> {
        let mut sampler = Sampler::new(recipe.sampler, recipe.steps)?;
        let shape = recipe.size().latent_shape(self.networks.channels);
        if let Some(record) = &options.resume {
            let (call, latent) = record.restore(recipe, &mut sampler, shape)?;
            return Ok(Start { first_call: call, latent, sampler, devices: record.devices.clone() });
        }
        if let Some(branch) = &recipe.branch {
            let record = match &options.branch {
                Some(record) => record.clone(),
                None => {
                    let options = RunOptions {
                        noise: options.noise.clone(),
                        expected_call_seconds: options.expected_call_seconds,
                        ..RunOptions::default()
                    };
                    self.walk(&branch.from, &options, Some(branch.call), timing, observer)?
                }
            };
            let (call, mut latent) = record.restore(&branch.from, &mut sampler, shape)?;
            if call != branch.call {
                return Err(GenerateError::Branch { reason: format!("the record is of step {call}, not {}", branch.call) });
            }
            if recipe.seed != branch.from.seed {
                let mut noise = vec![0.0; latent.values.len()];
                fill_normal(recipe.seed, 0, &mut noise);
                let renoised = sampler.renoise(call, &record.denoised.values, &noise);
                latent.values = renoised.ok_or_else(|| GenerateError::Branch {
                    reason: format!("another seed cannot begin in the middle of a step of {}", recipe.sampler),
                })?;
            }
            return Ok(Start { first_call: call, latent, sampler, devices: record.devices });
        }
        let mut values = match (&options.noise, &recipe.noise_sha256) {
            (Some(noise), _) => noise.values.clone(),
            (None, Some(sha256)) => return Err(GenerateError::NoiseFileNeeded { sha256: sha256.clone() }),
            (None, None) => {
                let mut values = vec![0.0; shape.iter().product()];
                fill_normal(recipe.seed, 0, &mut values);
                values
            }
        };
        let sigma = sampler.init_noise_sigma();
        values.iter_mut().for_each(|value| *value *= sigma);
        Ok(Start { first_call: 0, latent: Latent { shape, values }, sampler, devices: Vec::new() })
    }

    /// Whether the prompt is longer than what the model reads.
    pub fn is_cut(&self, recipe: &Recipe) -> Result<bool, GenerateError> {
        let caption = prompt_text(&recipe.prompt, &recipe.prompt_template, recipe.clean_caption);
        Ok(self.tokenizer.encode_unpadded(&caption)?.len() > recipe.max_tokens)
    }

    /// One row for the prompt; with guidance, the negative prompt's row before it.
    pub(super) fn encode_prompts(&mut self, recipe: &Recipe) -> Result<TextContext, GenerateError> {
        let mut rows = Vec::new();
        if recipe.guidance_scale > 1.0 {
            rows.push(self.tokens(&recipe.negative_prompt, "{}", recipe)?);
        }
        rows.push(self.tokens(&recipe.prompt, &recipe.prompt_template, recipe)?);
        self.encode(&rows)
    }

    /// The prompt's row alone.
    pub(super) fn encode_prompt(&mut self, recipe: &Recipe) -> Result<TextContext, GenerateError> {
        let row = self.tokens(&recipe.prompt, &recipe.prompt_template, recipe)?;
        self.encode(&[row])
    }

    fn encode(&mut self, rows: &[TokenIds]) -> Result<TextContext, GenerateError> {
        let config = text_encoder_config(&self.folder)?;
        let (device, width) = (self.networks.device.clone(), config.d_model);
        let texts: Vec<(Vec<u32>, Vec<f32>)> =
            rows.iter().map(|row| (row.ids.clone(), row.mask.iter().map(|&m| f32::from(m)).collect())).collect();
        let mask: Vec<f32> = texts.iter().flat_map(|(_, mask)| mask.iter().copied()).collect();
        if !residency::is_large(&config) {
            let embedding = self.run_text_encoder(&texts, &config)?;
            return Ok(TextContext { embedding, mask });
        }
        let cache = PromptCache::open(&self.folder.text_encoder_hash()?, &device);
        let kept = |(ids, mask): &(Vec<u32>, Vec<f32>)| cache.as_ref()?.read(ids, mask, width);
        let mut embeddings: Vec<Option<Vec<f32>>> = texts.iter().map(kept).collect();
        let missing: Vec<usize> = (0..texts.len()).filter(|&text| embeddings[text].is_none()).collect();
        if !missing.is_empty() {
            let wanted: Vec<_> = missing.iter().map(|&text| texts[text].clone()).collect();
            let made = read(self.run_text_encoder(&wanted, &config)?, "read the prompt")?;
            if !made.iter().all(|value| value.is_finite()) {
                return Err(GenerateError::NotFinite { part: "text encoder", step: 0 });
            }
            for (text, embedding) in missing.into_iter().zip(made.chunks(made.len() / wanted.len())) {
                let (ids, mask) = &texts[text];
                cache.iter().for_each(|cache| cache.keep(ids, mask, embedding));
                embeddings[text] = Some(embedding.to_vec());
            }
        }
        let values: Vec<f32> = embeddings.into_iter().flatten().flatten().collect();
        let shape = [texts.len(), values.len() / texts.len() / width, width];
        let embedding = spans::span(Kind::Copy, || Tensor::from_data(TensorData::new(values, shape), &device.device));
        Ok(TextContext { embedding, mask })
    }

    /// Ids and masks of equal length to embeddings `[texts, tokens, width]`. A large encoder is dropped at once.
    fn run_text_encoder(
        &mut self,
        texts: &[(Vec<u32>, Vec<f32>)],
        config: &TextEncoderConfig,
    ) -> Result<Tensor<3>, GenerateError> {
        let device = &self.networks.device;
        let encoder = match self.text_encoder.take() {
            Some(encoder) => encoder,
            None => {
                let source = Arc::new(self.folder.text_encoder_weights()?);
                spans::span(Kind::Copy, || {
                    if residency::streams_text_encoder(device, config) {
                        TextEncoder::load_streamed(&source, device, config)
                    } else {
                        TextEncoder::load(Loader::new(&source, device), config)
                    }
                })?
            }
        };
        let ids: Vec<u32> = texts.iter().flat_map(|(ids, _)| ids.iter().copied()).collect();
        let mask: Vec<f32> = texts.iter().flat_map(|(_, mask)| mask.iter().copied()).collect();
        let embedding = encoder.forward(&ids, &mask, texts.len(), &mut |_, _| {});
        if residency::is_large(config) {
            drop(encoder);
            device.device.memory_cleanup();
        } else {
            self.text_encoder = Some(encoder);
        }
        Ok(embedding)
    }

    fn tokens(&self, text: &str, template: &str, recipe: &Recipe) -> Result<TokenIds, GenerateError> {
        Ok(self.tokenizer.encode(&prompt_text(text, template, recipe.clean_caption), recipe.max_tokens)?)
    }
}

fn parameters_of(source: &WeightSource) -> usize {
    source.tensors().map(|(_, info)| info.element_count()).sum()
}

/// The transformer on a device, or streamed through it.
fn load_transformer(
    source: &Arc<WeightSource>,
    config: &TransformerConfig,
    device: &ComputeDevice,
) -> Result<Transformer, WeightError> {
    if residency::streams_transformer(device, parameters_of(source)) {
        Transformer::load_streamed(source, device, config)
    } else {
        Transformer::load(Loader::new(source, device), config)
    }
}

/// The other devices, each with all of the transformer and the VAE.
///
/// # Errors
/// One of them has no room for these, or cannot take part.
fn team(
    others: &[ComputeDevice],
    source: &Arc<WeightSource>,
    config: &TransformerConfig,
    folder: &ModelFolder,
    vae_config: &VaeConfig,
) -> Result<Team, GenerateError> {
    let parameters = parameters_of(source) + parameters_of(&folder.vae_weights()?);
    for device in others {
        if let Some(reason) = residency::lacks_room(device, parameters) {
            return Err(GenerateError::NoShare { name: device.name.clone(), reason });
        }
    }
    let (source, config) = (source.clone(), config.clone());
    let (folder, vae_config) = (folder.clone(), vae_config.clone());
    let load: Load = Arc::new(move |device| {
        let made = || -> Result<Loaded, GenerateError> {
            if !device.is_cpu() {
                passes_self_test(device)?;
                set_pace(device);
            }
            let transformer = load_transformer(&source, &config, device)?;
            let vae = Vae::load(Loader::new(&folder.vae_weights()?, device), &vae_config)?;
            Ok(Loaded { transformer, vae: Some(vae) })
        };
        made().map_err(|error| error.to_string())
    });
    Team::start(others, &load).map_err(|error| match error {
        TeamError::NoStart { name, reason } => GenerateError::NoShare { name, reason },
        other => GenerateError::DeviceFailed { doing: "loaded the transformer", reason: other.to_string() },
    })
}

fn passes_self_test(device: &ComputeDevice) -> Result<(), GenerateError> {
    match self_test::run(device, Part::Forward).failed() {
        None => Ok(()),
        Some(line) => {
            Err(GenerateError::WrongKernel { device: device.name.clone(), kernel: line.kernel.to_string(), reason: line.fault() })
        }
    }
}

/// The model's tokenizer, without its networks.
///
/// # Errors
/// Its files are damaged.
pub fn load_tokenizer(folder: &ModelFolder) -> Result<Tokenizer, GenerateError> {
    Ok(folder.tokenizer()?.tokenizer()?)
}
