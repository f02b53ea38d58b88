//! The causal video VAE, on whole frames of fresh clips of the world.
//!
//! Source: the recipe of mini. Whole frames and not crops, because the norms take their statistics over a whole clip: a decoder
//! must be trained on what it will decode. The loss is L1 + 2 MSE + L1 of finite differences (space at two sizes, and time) +
//! a small KL term. With a [`FrozenEncoder`] the decoder learns alone, without that term.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

use super::initial;
use super::samples::write_sheet;
use crate::clip::{Frames, contact_sheet};
use crate::gpu::device::{ComputeDevice, Precision};
use crate::model::latent::ClipSize;
use crate::model::vae::{Posterior, Sites, Vae, VaeConfig, channels_first, is_of_encoder, to_rgb8};
use crate::model::weights::{
    Loader, PublishedParameters, WeightError, WeightSource, WrittenTensor, WrittenType, write_safetensors, write_whole,
};
use crate::training::data::latents::encoder_digest;
use crate::training::error::TrainError;
use crate::training::folder::RunFolder;
use crate::training::optimiser::OptimiserSettings;
use crate::training::parameters::Parameters;
use crate::training::random::{Random, Stream};
use crate::training::run::{Batches, Task};
use crate::training::schedule::Schedule;
use crate::training::sums::mean;
use crate::training::trainer::{Loss, Trainer};
use crate::world::renderer::{render, render_clips};
use crate::world::scene::{FRAMES_PER_SECOND, Moment, Scene};
use crate::world::seeds;
use crate::world::shot::Shot;

/// The recipe for mini.
pub const OPTIMISER: OptimiserSettings = OptimiserSettings {
    learning_rate: 1.5e-3,
    muon_learning_rate: 0.01,
    betas: [0.9, 0.99],
    momentum: 0.95,
    weight_decay: 0.0,
    largest_norm: 1.0,
    average_decay: 0.998,
};
pub const SCHEDULE: Schedule = Schedule { warm_up_steps: 100, hold_share: 0.4 };
pub const BATCH: usize = 6;
/// Consecutive frames of a sample.
pub const FRAMES: usize = 13;
/// Weights of the terms of the loss beside L1.
pub const SQUARES: f64 = 2.0;
const DIFFERENCES: f64 = 0.5;
const KL: f64 = 1e-4;
/// Fewer channels than these on one side are no matrix for Muon.
const FEWEST_CHANNELS: usize = 16;
/// Clips over which the statistics of latents are taken.
const STATISTICS_CLIPS: usize = 192;

/// The network's part, and its folder in a model.
pub const VAE: &str = "vae";

/// A trainer of a network that begins at the recipe's values, or at given weights.
///
/// # Errors
/// The configuration asks for what cannot be, or the weights do not fit it.
pub fn trainer(
    config: &VaeConfig,
    weights: Option<&WeightSource>,
    settings: OptimiserSettings,
    seed: u64,
    device: &ComputeDevice,
) -> Result<Trainer<Vae>, WeightError> {
    let exact = ComputeDevice { precision: Precision::F32, ..device.clone() };
    let (noted, initial) = (PublishedParameters::default(), initial::convolutions(seed));
    let loader = weights.map_or_else(|| Loader::initial(&initial, &exact), |weights| Loader::new(weights, &exact));
    let vae = Vae::load(loader.noting(&noted), config)?;
    Ok(Trainer::new(vae, laid_out(noted), settings, VAE, seed, device))
}

/// As [`trainer`], from given weights of which the decoder alone learns; its kind names the encoder that it decodes.
///
/// # Errors
/// The weights do not fit the configuration.
pub fn decoder_trainer(
    config: &VaeConfig,
    weights: &WeightSource,
    encoder: &FrozenEncoder,
    settings: OptimiserSettings,
    seed: u64,
    device: &ComputeDevice,
) -> Result<Trainer<Vae>, WeightError> {
    let exact = ComputeDevice { precision: Precision::F32, ..device.clone() };
    let noted = PublishedParameters::default();
    let vae = Vae::load(Loader::new(weights, &exact).noting(&noted), config)?;
    // What is not among a trainer's parameters gets no gradient and stays as it is.
    noted.borrow_mut().retain(|parameter| !is_of_encoder(&parameter.name));
    let digest: String = encoder.digest.chars().take(12).collect();
    let kind = format!("{VAE} (the decoder alone, of the encoder {digest})");
    Ok(Trainer::new(vae, laid_out(noted), settings, &kind, seed, device))
}

fn laid_out(noted: PublishedParameters) -> Parameters {
    Parameters::of(&[(VAE, noted)], &|_, parameter| {
        let is_hidden = parameter.shape.len() >= 4 && parameter.shape[..2].iter().all(|&channels| channels >= FEWEST_CHANNELS);
        is_hidden.then_some(1.0)
    })
}

/// An encoder that stays as it is while the decoder learns more, bit for bit in the published file: latents of clips that were
/// encoded with it stay right, so that the transformer can be trained on them at the same time.
#[derive(Debug)]
pub struct FrozenEncoder {
    /// As clips are encoded with for the transformer, in the device's own precision and without gradients. Its decoder is not
    /// used.
    vae: Vae,
    /// Of the encoder, as they are published.
    tensors: Vec<WrittenTensor>,
    digest: String,
}

impl FrozenEncoder {
    /// # Errors
    /// The weights do not fit the configuration, or cannot be read.
    pub fn load(config: &VaeConfig, json: &Value, weights: &WeightSource, device: &ComputeDevice) -> Result<Self, WeightError> {
        let names = weights.tensors().filter(|(name, _)| is_of_encoder(name));
        let tensors = names.map(|(name, info)| {
            Ok(WrittenTensor { name: name.to_owned(), shape: info.shape.clone(), values: weights.read_f32(name)? })
        });
        let tensors = tensors.collect::<Result<Vec<_>, WeightError>>()?;
        let vae = Vae::load(Loader::new(weights, device), config)?;
        Ok(Self { vae, tensors, digest: encoder_digest(json, weights)? })
    }
}

/// A part of a batch, on the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeBatch {
    /// `[samples * frames]`.
    pub shots: Vec<Shot>,
    /// For the latents, `[samples, channels, frames, height, width]`.
    pub noise: Vec<f32>,
    pub noise_shape: [usize; 5],
    /// Whether latents of half the height and width are decoded, to the video of half its height and width.
    pub is_halved: bool,
}

/// Makes batches of fresh clips.
#[derive(Clone, Debug)]
pub struct VaeData {
    pub batch: usize,
    /// Samples whose gradients are made together.
    pub part: usize,
    /// Of a sample.
    pub size: ClipSize,
    /// Of the clip that a sample is cut from.
    pub clip_frames: usize,
    pub latent_channels: usize,
    /// Share of the steps with halved latents. An encoder whose latents are to mean the same at half the size cannot hide
    /// details in single values, which a transformer would have to guess one by one (EQ-VAE, Kouzelis et al. 2025).
    pub halved_share: f64,
    pub random: Random,
}

impl Batches for VaeData {
    type Batch = VaeBatch;

    fn make(&self, step: u64) -> Result<Vec<VaeBatch>, TrainError> {
        let [channels, frames, height, width] = self.size.latent_shape(self.latent_channels);
        let values = channels * frames * height * width;
        let noise = self.random.normal(Stream::Noise, step, self.batch * values);
        let samples: Vec<u64> = (0..self.batch as u64).collect();
        let can_halve = height.is_multiple_of(2) && width.is_multiple_of(2);
        let is_halved = can_halve && self.random.uniform(Stream::Halved, step, 0) < self.halved_share;
        let parts = samples.chunks(self.part.max(1)).map(|samples| {
            let shots = samples.iter().flat_map(|&sample| {
                // Every clip is new: the world has no end.
                let scene = Scene::of_clip(seeds::VAE, step * self.batch as u64 + sample);
                let places = self.clip_frames.saturating_sub(self.size.frames) + 1;
                let first = self.random.below(Stream::FirstFrame, step, sample, places);
                (first..first + self.size.frames).map(move |frame| Shot::of(&scene, Moment::of(frame, self.clip_frames)))
            });
            let begin = samples[0] as usize * values;
            VaeBatch {
                shots: shots.collect(),
                noise: noise[begin..begin + samples.len() * values].to_vec(),
                noise_shape: [samples.len(), channels, frames, height, width],
                is_halved,
            }
        });
        Ok(parts.collect())
    }
}

/// Trains the VAE.
pub struct VaeTask {
    pub config: VaeConfig,
    pub config_json: Value,
    pub batch: usize,
    pub size: ClipSize,
    /// Of a whole clip, for statistics and sheets.
    pub clip: ClipSize,
    pub device: ComputeDevice,
    /// Clips over which statistics are taken.
    pub statistics_clips: usize,
    /// Weight of the mean square in the loss, beside L1.
    pub squares: f64,
    /// Deviation of further noise on the latents, in deviations of their channel: what is smaller than that is of no use to the
    /// decoder, which also learns to bear a transformer's errors.
    pub latent_noise: f64,
    /// Takes the place of the network's own encoder, if the decoder alone learns ([`decoder_trainer`]).
    pub frozen: Option<FrozenEncoder>,
    tracked: Device,
}

impl VaeTask {
    pub fn new(
        config: VaeConfig,
        config_json: Value,
        batch: usize,
        size: ClipSize,
        clip_frames: usize,
        device: &ComputeDevice,
    ) -> Self {
        Self {
            config,
            config_json,
            batch,
            size,
            clip: ClipSize { frames: clip_frames, ..size },
            tracked: device.device.clone().autodiff(),
            device: device.clone(),
            statistics_clips: STATISTICS_CLIPS,
            squares: SQUARES,
            latent_noise: 0.0,
            frozen: None,
        }
    }
}

impl Task for VaeTask {
    type Network = Vae;
    type Batch = VaeBatch;

    fn numbers(&self) -> &'static [&'static str] {
        // What the encoder alone could change is no news of a decoder's training.
        if self.frozen.is_some() { &["l1", "mean_square"] } else { &["l1", "mean_square", "kl"] }
    }

    fn samples_a_step(&self) -> usize {
        self.batch
    }

    fn loss(&self, network: &Vae, batch: VaeBatch) -> Loss {
        let ClipSize { frames, width, height } = self.size;
        let samples = batch.shots.len() / frames;
        let video = render(&batch.shots, width, height, &self.device.device);
        let video: Tensor<5> = video.reshape([samples, frames, height, width, 3]);
        let noise = TensorData::new(batch.noise, batch.noise_shape);
        let encode =
            |network: &Vae, video: &Tensor<5>| network.encode(channels_first(video.clone()), None, &mut Sites::default());
        let (mut latents, mut video, kl) = if let Some(frozen) = &self.frozen {
            let noise = Tensor::from_data(noise, &self.device.device);
            let latents = self.noisy(encode(&frozen.vae, &video).sample(noise.clone()), noise);
            (latents.autodiff(), video.autodiff(), None)
        } else {
            let (video, noise) = (video.autodiff(), Tensor::from_data(noise, &self.tracked));
            let posterior = encode(network, &video);
            (self.noisy(posterior.sample(noise.clone()), noise), video, Some(divergence(&posterior)))
        };
        if batch.is_halved {
            (latents, video) = (halved(latents, [3, 4]), halved(video, [2, 3]));
        }
        let error = network.decode_whole(latents) - video;
        let (l1, mean_square) = (mean(error.clone().abs()), mean(error.clone() * error.clone()));
        let mut total = l1.clone() + mean_square.clone() * self.squares + differences(error) * DIFFERENCES;
        if let Some(kl) = &kl {
            total = total + kl.clone() * KL;
        }
        Loss { total, numbers: [l1, mean_square].into_iter().chain(kl).collect() }
    }

    /// Pairs of rows: a held-out clip, and what comes out of the VAE.
    fn sheet(&self, network: &Vae, path: &Path) -> Result<(), TrainError> {
        let mut rows = Vec::new();
        for clip in 0..4 {
            let scene = Scene::of_clip(seeds::HELD_OUT, clip);
            let video = render_clips(&[scene], self.clip, &self.device.device);
            let encoder = self.frozen.as_ref().map_or(network, |frozen| &frozen.vae);
            let latents = encoder.encode(channels_first(video.clone()), None, &mut Sites::default()).mean;
            let decoded = network.decode_whole(latents);
            for video in [video, decoded] {
                rows.push(frames_of(video, self.clip)?);
            }
        }
        let sheet = contact_sheet(&rows.iter().collect::<Vec<_>>(), 5, self.clip.width.min(192))?;
        write_sheet(path, &sheet)
    }

    fn publish(&self, trainer: &Trainer<Vae>, folder: &RunFolder) -> Result<(), TrainError> {
        let mut tensors = trainer.parameters().published(VAE, &trainer.average()?);
        if let Some(frozen) = &self.frozen {
            // Folding statistics would change the latents.
            tensors.extend(frozen.tensors.iter().cloned());
            tensors.sort_by(|a, b| a.name.cmp(&b.name));
        } else {
            let statistics = self.statistics(&trainer.averaged())?;
            fold(&mut tensors, &statistics, self.config.scaling_factor);
        }
        let place = folder.network(VAE);
        write_safetensors(&place.join("diffusion_pytorch_model.safetensors"), &tensors, WrittenType::F16)?;
        write_whole(&place.join("config.json"), format!("{:#}\n", self.config_json).as_bytes())?;
        Ok(())
    }
}

impl VaeTask {
    /// Latents with further noise in the direction in which they were drawn.
    fn noisy(&self, latents: Tensor<5>, noise: Tensor<5>) -> Tensor<5> {
        if self.latent_noise <= 0.0 {
            return latents;
        }
        let [samples, channels, frames, height, width] = latents.dims();
        let by_channel: Tensor<2> =
            latents.clone().detach().swap_dims(0, 1).reshape([channels, samples * frames * height * width]);
        let centred = by_channel.clone() - by_channel.mean_dim(1);
        let deviations = (centred.clone() * centred).mean_dim(1).sqrt().reshape([1, channels, 1, 1, 1]);
        latents + noise * deviations * self.latent_noise
    }

    /// Mean and deviation of every channel of the latents of fresh clips.
    fn statistics(&self, network: &Vae) -> Result<Vec<[f64; 2]>, TrainError> {
        const CLIPS_A_CALL: usize = 4;
        let channels = self.config.embed_dim;
        let (mut sums, mut count) = (vec![[0.0f64; 2]; channels], 0usize);
        let random = Random::new(seeds::STATISTICS);
        for first in (0..self.statistics_clips).step_by(CLIPS_A_CALL) {
            let scenes: Vec<Scene> = (first..(first + CLIPS_A_CALL).min(self.statistics_clips))
                .map(|clip| Scene::of_clip(seeds::STATISTICS, clip as u64))
                .collect();
            let video = render_clips(&scenes, self.clip, &self.device.device);
            let posterior = network.encode(channels_first(video), None, &mut Sites::default());
            let shape = posterior.mean.dims();
            let noise = random.normal(Stream::Noise, first as u64, shape.iter().product());
            let noise = Tensor::from_data(TensorData::new(noise, shape), &self.device.device);
            let latents: Vec<f32> = read(posterior.sample(noise))?;
            let plane = shape[2] * shape[3] * shape[4];
            for (at, values) in latents.chunks_exact(plane).enumerate() {
                let sum = &mut sums[at % channels];
                values.iter().for_each(|&value| {
                    sum[0] += f64::from(value);
                    sum[1] += f64::from(value).powi(2);
                });
            }
            count += plane * scenes.len();
        }
        let of = |[sum, squares]: [f64; 2]| {
            let mean = sum / count.max(1) as f64;
            [mean, (squares / count.max(1) as f64 - mean * mean).max(1e-12).sqrt()]
        };
        Ok(sums.into_iter().map(of).collect())
    }
}

/// The frames of a video of one clip.
///
/// # Errors
/// The device failed.
pub fn frames_of(video: Tensor<5>, size: ClipSize) -> Result<Frames, TrainError> {
    let rgb = to_rgb8(&read(video)?);
    Ok(Frames { width: size.width, height: size.height, frames_per_second: FRAMES_PER_SECOND, rgb })
}

fn read(x: Tensor<5>) -> Result<Vec<f32>, TrainError> {
    x.try_into_vec_as().map_err(|error| TrainError::DeviceFailed { step: 0, reason: error.to_string() })
}

/// Mean over the latents' values of the divergence from a unit normal distribution.
fn divergence(posterior: &Posterior) -> Tensor<1> {
    let Posterior { mean: middle, log_variance } = posterior;
    let (squared, variance) = (middle.clone() * middle.clone(), log_variance.clone().exp());
    (mean(squared + variance - log_variance.clone()) - 1.0) * 0.5
}

/// Means over two by two values along two neighbouring axes, whose lengths are even.
fn halved(x: Tensor<5>, [rows, columns]: [usize; 2]) -> Tensor<5> {
    let half = |x: Tensor<5>, axis: usize| {
        let places = x.dims()[axis] / 2;
        let mut split = [0; 6];
        split[..axis].copy_from_slice(&x.dims()[..axis]);
        (split[axis], split[axis + 1]) = (places, 2);
        split[axis + 2..].copy_from_slice(&x.dims()[axis + 1..]);
        let mut shape = x.dims();
        shape[axis] = places;
        x.reshape::<6, _>(split).mean_dim(axis + 1).reshape(shape)
    };
    half(half(x, rows), columns)
}

/// L1 of the differences of neighbours `[batch, frames, height, width, 3]`: half that in space, at full and half size, and
/// half that in time.
fn differences(error: Tensor<5>) -> Tensor<1> {
    let step = |x: &Tensor<5>, axis: usize| {
        let length = x.dims()[axis];
        mean((x.clone().narrow(axis, 1, length - 1) - x.clone().narrow(axis, 0, length - 1)).abs())
    };
    let [batch, frames, height, width, channels] = error.dims();
    let half: Tensor<6> = error.clone().reshape([batch * frames, height / 2, 2, width / 2, 2, channels]);
    let half = half.mean_dim(4).mean_dim(2).reshape([batch, frames, height / 2, width / 2, channels]);
    let space = step(&error, 3) + step(&error, 2) + step(&half, 3) + step(&half, 2);
    let space = space * 0.5;
    if frames > 1 { space + step(&error, 1) * 0.5 } else { space }
}

/// Rewrites the two convolutions of single latents around the code such that latents times `factor` have mean 0 and deviation
/// 1 in every channel: exact, as nothing lies between them.
fn fold(tensors: &mut [WrittenTensor], statistics: &[[f64; 2]], factor: f64) {
    let channels = statistics.len();
    let gain: Vec<f64> = statistics.iter().map(|[_, deviation]| 1.0 / (deviation * factor)).collect();
    let mut change = |name: &str, of: &mut dyn FnMut(&mut [f32])| {
        tensors.iter_mut().filter(|tensor| tensor.name == name).for_each(|tensor| of(&mut tensor.values));
    };
    change("quant_conv.conv.weight", &mut |weight| {
        let inputs = weight.len() / (2 * channels);
        for (row, gain) in weight.chunks_exact_mut(inputs).zip(&gain) {
            row.iter_mut().for_each(|value| *value = (f64::from(*value) * gain) as f32);
        }
    });
    change("quant_conv.conv.bias", &mut |bias| {
        let (middle, log_variance) = bias.split_at_mut(channels);
        for channel in 0..channels {
            let shifted = f64::from(middle[channel]) - statistics[channel][0];
            middle[channel] = (shifted * gain[channel]) as f32;
            log_variance[channel] = (f64::from(log_variance[channel]) + 2.0 * gain[channel].ln()) as f32;
        }
    });
    let mut back = Vec::new();
    change("post_quant_conv.conv.weight", &mut |weight| {
        for row in weight.chunks_exact_mut(channels) {
            back.push(row.iter().zip(statistics).map(|(&value, [mean, _])| f64::from(value) * mean).sum::<f64>());
            row.iter_mut().zip(&gain).for_each(|(value, gain)| *value = (f64::from(*value) / gain) as f32);
        }
    });
    change("post_quant_conv.conv.bias", &mut |bias| {
        bias.iter_mut().zip(&back).for_each(|(value, shift)| *value = (f64::from(*value) + shift) as f32);
    });
}

/// The sampled and scaled latents of a video, as the transformer sees them.
pub fn scaled_latents(network: &Vae, video: Tensor<5>, noise: Tensor<5>) -> Tensor<5> {
    let posterior = network.encode(channels_first(video), None, &mut Sites::default());
    posterior.sample(noise) * network.scaling_factor()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_means_of_four() {
        let shape = [1, 2, 1, 4, 6];
        let values: Vec<f32> = (0..48).map(|i| (i * 29 % 17) as f32).collect();
        let x = Tensor::<5>::from_data(TensorData::new(values.clone(), shape), &Device::flex());
        let got: Vec<f32> = halved(x, [3, 4]).try_into_vec_as().expect("readable");
        let four =
            |c: usize, y: usize, x: usize| (0..4).map(|i| values[(c * 4 + 2 * y + i / 2) * 6 + 2 * x + i % 2]).sum::<f32>() / 4.0;
        let want: Vec<f32> = (0..12).map(|i| four(i / 6, i / 3 % 2, i % 3)).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn differences_are_those_of_their_definition() {
        let shape = [1, 2, 4, 4, 3];
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| ((i * 29 % 17) as f32 - 8.0) / 4.0).collect();
        let at = |f: usize, y: usize, x: usize, c: usize| f64::from(values[((f * 4 + y) * 4 + x) * 3 + c]);
        let half =
            |f: usize, y: usize, x: usize, c: usize| (0..4).map(|i| at(f, 2 * y + i / 2, 2 * x + i % 2, c)).sum::<f64>() / 4.0;
        let mean_of = |list: Vec<f64>| list.iter().sum::<f64>() / list.len() as f64;
        let each = |side: usize| {
            (0..2 * side * side * 3).map(move |i| (i / (side * side * 3), i / (side * 3) % side, i / 3 % side, i % 3))
        };
        let space = [
            mean_of(each(4).filter(|p| p.2 > 0).map(|(f, y, x, c)| (at(f, y, x, c) - at(f, y, x - 1, c)).abs()).collect()),
            mean_of(each(4).filter(|p| p.1 > 0).map(|(f, y, x, c)| (at(f, y, x, c) - at(f, y - 1, x, c)).abs()).collect()),
            mean_of(each(2).filter(|p| p.2 > 0).map(|(f, y, x, c)| (half(f, y, x, c) - half(f, y, x - 1, c)).abs()).collect()),
            mean_of(each(2).filter(|p| p.1 > 0).map(|(f, y, x, c)| (half(f, y, x, c) - half(f, y - 1, x, c)).abs()).collect()),
        ];
        let time = mean_of(each(4).filter(|p| p.0 > 0).map(|(f, y, x, c)| (at(f, y, x, c) - at(f - 1, y, x, c)).abs()).collect());
        let want = 0.5 * space.iter().sum::<f64>() + 0.5 * time;
        let error = Tensor::<5>::from_data(TensorData::new(values.clone(), shape), &Device::flex());
        let got: Vec<f32> = differences(error).try_into_vec_as().expect("readable");
        assert!((f64::from(got[0]) - want).abs() < 1e-5, "{got:?} {want}");
    }
}
