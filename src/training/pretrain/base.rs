//! The transformer and the text encoder together: to predict the noise in a noisy latent, from its sentence.
//!
//! Source: the recipe of mini. Epsilon prediction with min-SNR weights (Hang et al. 2023, gamma 5), times spread evenly over a
//! batch, some sentences left out so that guidance has something to compare with. Steps may have clips of several lengths ([`Mix`]).

use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use serde_json::Value;

use super::initial;
use crate::gpu::device::{ComputeDevice, Precision};
use crate::mask::KeyFrames;
use crate::model::dit::{Probe, TextContext, Transformer, TransformerConfig};
use crate::model::sampler::schedule::{NoiseSchedule, TRAINING_TIMESTEPS};
use crate::model::text::encoder::TextEncoderConfig;
use crate::model::text::trainable::TrainableTextEncoder;
use crate::model::text::{TokenIds, Tokenizer};
use crate::model::weights::{
    Loader, PublishedParameters, WeightError, WeightSource, WriteError, WrittenTensor, WrittenType, write_safetensors,
    write_whole,
};
use crate::training::data::captions::{Captions, tokens_of, tokens_of_clip};
use crate::training::data::latents::Latents;
use crate::training::data::mix::{Mix, Portion};
use crate::training::data::scenes::{Scenes, clip_of_sample};
use crate::training::error::TrainError;
use crate::training::folder::RunFolder;
use crate::training::optimiser::OptimiserSettings;
use crate::training::parameters::Parameters;
use crate::training::random::{Random, Stream};
use crate::training::run::{Batches, Task};
use crate::training::schedule::Schedule;
use crate::training::sums::mean;
use crate::training::trainer::{Loss, Trainer};
use crate::world::grammar::Detail;
use crate::world::seeds;

/// The recipe for mini.
pub const OPTIMISER: OptimiserSettings = OptimiserSettings {
    learning_rate: 1e-3,
    muon_learning_rate: 0.01,
    betas: [0.9, 0.99],
    momentum: 0.95,
    weight_decay: 0.01,
    largest_norm: 1.0,
    average_decay: 0.999,
};
pub const SCHEDULE: Schedule = Schedule { warm_up_steps: 150, hold_share: 0.45 };
pub const BATCH: usize = 128;
/// Share of the samples that go without their sentence.
pub const DROPPED: f64 = 0.12;
/// The signal-to-noise ratio from which on samples weigh less.
const GAMMA: f64 = 5.0;
/// Different sentences about a clip.
pub const SENTENCES: usize = 16;

/// Names of the two networks' parts, and of their folders in a model.
pub const TRANSFORMER: &str = "base";
pub const TEXT_ENCODER: &str = "text_encoder";

/// The networks that learn together.
#[derive(Module, Debug)]
pub struct BaseNetworks {
    pub transformer: Transformer,
    pub text_encoder: TrainableTextEncoder,
}

/// The two configurations as they are published.
#[derive(Clone, Debug)]
pub struct BaseConfigs {
    pub transformer: TransformerConfig,
    pub transformer_json: Value,
    pub text_encoder: TextEncoderConfig,
    pub text_encoder_json: Value,
}

/// Muon's: matrices inside the blocks and of the caption's path.
pub fn is_hidden(name: &str) -> bool {
    let inside = ["transformer_blocks.", "encoder.block.", "caption_projection."];
    inside.iter().any(|place| name.starts_with(place))
}

/// With which share of Muon's rate a matrix learns. T5 does not divide the products of queries and keys by the root of a head's
/// width, but begins with queries that are as much smaller; so their steps are as much smaller too. With whole steps the products
/// of mini had a deviation of 27 to 60 after training: each token saw one other alone, chosen by its word and never by its place,
/// and sentences that only differ in which of two objects has which colour were the same to the transformer.
pub fn matrix_rate(name: &str, text_encoder: &TextEncoderConfig) -> Option<f64> {
    let is_query = name.starts_with("encoder.block.") && name.ends_with("SelfAttention.q.weight");
    is_hidden(name).then(|| if is_query { (text_encoder.d_kv as f64).powf(-0.5) } else { 1.0 })
}

/// What a sample at a time with this product of alphas counts, for the error of its noise (min-SNR).
pub fn signal_to_noise_weight(alpha_bar: f64) -> f64 {
    let ratio = alpha_bar / (1.0 - alpha_bar);
    ratio.min(GAMMA) / ratio
}

impl BaseConfigs {
    /// Writes a text encoder in its published form.
    pub(super) fn write_text_encoder(&self, folder: &RunFolder, tensors: &[WrittenTensor]) -> Result<(), WriteError> {
        write_network(&folder.network(TEXT_ENCODER), "model.safetensors", tensors, &self.text_encoder_json)
    }
}

/// The configuration last: it says that the network is there.
fn write_network(place: &Path, file: &str, tensors: &[WrittenTensor], config: &Value) -> Result<(), WriteError> {
    write_safetensors(&place.join(file), tensors, WrittenType::F16)?;
    write_whole(&place.join("config.json"), format!("{config:#}\n").as_bytes())
}

/// Files with the values that the networks begin with; a network without one begins from nothing, by the recipe.
#[derive(Default)]
pub struct Start<'a> {
    pub transformer: Option<&'a WeightSource>,
    pub text_encoder: Option<&'a WeightSource>,
}

/// A trainer of both networks.
///
/// # Errors
/// Weights do not fit the configurations.
pub fn trainer(
    configs: &BaseConfigs,
    start: &Start<'_>,
    settings: OptimiserSettings,
    seed: u64,
    device: &ComputeDevice,
) -> Result<Trainer<BaseNetworks>, WeightError> {
    let exact = ComputeDevice { precision: Precision::F32, ..device.clone() };
    let (of_transformer, of_encoder) = (PublishedParameters::default(), PublishedParameters::default());
    let initial = (initial::transformer(seed), initial::text_encoder(seed, &configs.text_encoder));
    let for_transformer = start.transformer.map_or_else(|| Loader::initial(&initial.0, &exact), |file| Loader::new(file, &exact));
    let for_encoder = start.text_encoder.map_or_else(|| Loader::initial(&initial.1, &exact), |file| Loader::new(file, &exact));
    let transformer = Transformer::load(for_transformer.noting(&of_transformer), &configs.transformer)?;
    let text_encoder = TrainableTextEncoder::load(for_encoder.noting(&of_encoder), &configs.text_encoder)?;
    let parts = [(TRANSFORMER, of_transformer), (TEXT_ENCODER, of_encoder)];
    let parameters = Parameters::of(&parts, &|_, parameter| matrix_rate(&parameter.name, &configs.text_encoder));
    Ok(Trainer::new(BaseNetworks { transformer, text_encoder }, parameters, settings, "base", seed, device))
}

/// A part of a batch, on the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseBatch {
    /// Clean latents and noise, `[samples, channels, frames, height, width]`.
    pub latents: Vec<f32>,
    pub noise: Vec<f32>,
    pub shape: [usize; 5],
    pub times: Vec<usize>,
    pub captions: Captions,
}

/// Makes batches of latents that were encoded before.
pub struct BaseData {
    pub mix: Mix<Latents>,
    pub tokenizer: Tokenizer,
    /// Tokens of a sentence.
    pub max_tokens: usize,
    /// Samples of a step with clips of the usual length.
    pub batch: usize,
    /// Of them, those whose gradients are made together.
    pub part: usize,
    pub random: Random,
    /// The sentence of a clip; without them those of the world.
    pub sentences: Option<Vec<String>>,
    /// Which of the world's clips come how often; without it all equally.
    pub scenes: Option<Scenes>,
}

impl BaseData {
    fn tokens(&self, step: u64, sample: u64, clip: usize) -> Result<TokenIds, TrainError> {
        if self.random.uniform(Stream::Dropped, step, sample) < DROPPED {
            return Ok(tokens_of(&self.tokenizer, "", self.max_tokens)?);
        }
        if let Some(sentences) = &self.sentences {
            return Ok(tokens_of(&self.tokenizer, &sentences[clip], self.max_tokens)?);
        }
        let variant = self.random.below(Stream::Sentence, step, sample, SENTENCES) as u64;
        let (tokenizer, length) = (&self.tokenizer, self.max_tokens);
        Ok(tokens_of_clip(tokenizer, seeds::TRANSFORMER, clip as u64, variant, Detail::Some, length)?)
    }
}

impl Batches for BaseData {
    type Batch = BaseBatch;

    fn make(&self, step: u64) -> Result<Vec<BaseBatch>, TrainError> {
        let Portion { clips: latents, samples: all, part } = self.mix.of_step(self.random, step, [self.batch, self.part]);
        let [channels, frames, height, width] = latents.of.shape;
        let values = latents.of.values_a_clip();
        let noise = self.random.normal(Stream::Noise, step, all * values);
        let samples: Vec<usize> = (0..all).collect();
        let parts = samples.chunks(part.max(1)).map(|samples| {
            let clip_of =
                |&sample: &usize| clip_of_sample(self.scenes.as_ref(), self.random, step, sample as u64, latents.of.clips);
            let clips: Vec<usize> = samples.iter().map(clip_of).collect();
            let mut batch = BaseBatch {
                latents: latents.clips(&clips),
                noise: noise[samples[0] * values..(samples[0] + samples.len()) * values].to_vec(),
                shape: [samples.len(), channels, frames, height, width],
                times: Vec::new(),
                captions: Captions::default(),
            };
            let sentences = samples.par_iter().zip(&clips).map(|(&sample, &clip)| self.tokens(step, sample as u64, clip));
            for tokens in sentences.collect::<Result<Vec<TokenIds>, TrainError>>()? {
                batch.captions.push(&tokens);
            }
            for &sample in samples {
                // One time in each of as many equal spans as there are samples. Their clips are drawn anyhow, so that the
                // spans need no order of their own.
                let within = self.random.uniform(Stream::Time, step, sample as u64);
                let time = (sample as f64 + within) / all as f64 * TRAINING_TIMESTEPS as f64;
                batch.times.push((time as usize).min(TRAINING_TIMESTEPS - 1));
            }
            Ok(batch)
        });
        parts.collect()
    }
}

/// Trains the transformer and the text encoder.
pub struct BaseTask {
    pub configs: BaseConfigs,
    /// Samples of a step in the mean.
    pub batch: usize,
    pub device: Device,
    schedule: NoiseSchedule,
    /// Draws samples with the networks as they are.
    pub sheet: Option<SheetOf>,
}

/// Draws a sheet of samples.
pub type SheetOf = Box<dyn Fn(&BaseNetworks, &Path) -> Result<(), TrainError>>;

impl BaseTask {
    /// `batch` are the samples of a step in the mean.
    pub fn new(configs: BaseConfigs, batch: usize, device: &ComputeDevice) -> Self {
        let (device, schedule) = (device.device.clone().autodiff(), NoiseSchedule::trained());
        Self { configs, batch, device, schedule, sheet: None }
    }
}

impl Task for BaseTask {
    type Network = BaseNetworks;
    type Batch = BaseBatch;

    fn numbers(&self) -> &'static [&'static str] {
        &["mean_square"]
    }

    fn samples_a_step(&self) -> usize {
        self.batch
    }

    fn loss(&self, network: &BaseNetworks, batch: BaseBatch) -> Loss {
        let BaseBatch { latents, noise, shape, times, captions } = batch;
        let samples = times.len();
        let alpha_bars: Vec<f64> = times.iter().map(|&time| f64::from(self.schedule.alphas_cumprod()[time])).collect();
        let a_sample = |of: &dyn Fn(f64) -> f64| -> Tensor<5> {
            let values: Vec<f32> = alpha_bars.iter().map(|&alpha_bar| of(alpha_bar) as f32).collect();
            Tensor::from_data(TensorData::new(values, [samples, 1, 1, 1, 1]), &self.device)
        };
        let noise = Tensor::<5>::from_data(TensorData::new(noise, shape), &self.device);
        let clean = Tensor::<5>::from_data(TensorData::new(latents, shape), &self.device);
        let noisy = clean * a_sample(&f64::sqrt) + noise.clone() * a_sample(&|alpha_bar| (1.0 - alpha_bar).sqrt());

        let embedding = network.text_encoder.forward(&captions.ids, &captions.mask, samples);
        let text = TextContext { embedding, mask: captions.mask };
        let timesteps: Vec<f32> = times.iter().map(|&time| time as f32).collect();
        // Every frame sees every frame, however many there are.
        let all_frames = Arc::new(KeyFrames::dense(shape[2]));
        let key_frames = vec![all_frames; network.transformer.layers()];
        let predicted = network.transformer.forward(noisy, &timesteps, &text, None, &key_frames, &mut Probe::default());
        let predicted = predicted.narrow(1, 0, shape[1]);
        let error = predicted - noise;
        let squared = error.clone() * error;
        let weight = a_sample(&signal_to_noise_weight);
        Loss { total: mean(squared.clone() * weight), numbers: vec![mean(squared)] }
    }

    fn sheet(&self, network: &BaseNetworks, path: &Path) -> Result<(), TrainError> {
        self.sheet.as_ref().map_or(Ok(()), |draw| draw(network, path))
    }

    fn publish(&self, trainer: &Trainer<BaseNetworks>, folder: &RunFolder) -> Result<(), TrainError> {
        let average = trainer.average()?;
        let of = |part: &str| trainer.parameters().published(part, &average);
        let place = folder.network(TRANSFORMER);
        let config = &self.configs.transformer_json;
        write_network(&place, "diffusion_pytorch_model.safetensors", &of(TRANSFORMER), config)?;
        self.configs.write_text_encoder(folder, &of(TEXT_ENCODER))?;
        Ok(())
    }
}
