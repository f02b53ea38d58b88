//! The judge of clips, on clips of the world whose attributes are known: most as they are rendered, some through the VAE, so
//! that its blur is nothing new.
//!
//! Source: the recipe of mini; cross-entropy with smoothed labels over seven attributes.

use std::path::Path;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::initial;
use crate::gpu::device::{ComputeDevice, Precision};
use crate::model::judge::{FRAME_STEP, Judge, JudgeConfig, Statistics};
use crate::model::latent::ClipSize;
use crate::model::weights::{Loader, PublishedParameters, WeightError, WrittenType, write_safetensors, write_whole};
use crate::training::error::TrainError;
use crate::training::folder::RunFolder;
use crate::training::optimiser::OptimiserSettings;
use crate::training::parameters::Parameters;
use crate::training::random::{Random, Stream};
use crate::training::run::{Batches, Task};
use crate::training::schedule::Schedule;
use crate::training::sums::{mean, sum};
use crate::training::trainer::{Loss, Trainer};
use crate::world::attributes::{Attributes, JUDGED};
use crate::world::renderer::{render, shots_of_every};
use crate::world::scene::Scene;
use crate::world::seeds;
use crate::world::shot::Shot;

/// The recipe for mini, with the averaging of the others.
pub const OPTIMISER: OptimiserSettings = OptimiserSettings {
    learning_rate: 2e-3,
    muon_learning_rate: 0.0,
    betas: [0.9, 0.999],
    momentum: 0.95,
    weight_decay: 0.02,
    largest_norm: 1.0,
    average_decay: 0.99,
};
pub const SCHEDULE: Schedule = Schedule { warm_up_steps: 50, hold_share: 0.3 };
pub const BATCH: usize = 32;
/// Of a batch, one in so many is a clip through the VAE.
const ONE_THROUGH_VAE_OF: usize = 4;
/// Probability that is spread over all values of an attribute.
const SMOOTHING: f64 = 0.02;
/// Deviation of the noise on pixels, at most.
const NOISE: f64 = 0.03;
/// Batches over which the fixed statistics of the norms are taken.
const STATISTICS_BATCHES: u64 = 24;

/// The network's part, and its folder in a model. Its configuration has a name of its own: it is no part of a pipeline.
pub const JUDGE: &str = "judge";
pub const CONFIG: &str = "judge.json";
pub const WEIGHTS: &str = "judge.safetensors";

/// The judge of clips of so many frames.
pub fn config(frames: usize) -> JudgeConfig {
    let names = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
    JudgeConfig {
        channels: [32, 64, 96, 128, 128],
        features: 128,
        frames: frames.div_ceil(FRAME_STEP),
        attributes: JUDGED.iter().map(|(attribute, values)| ((*attribute).to_owned(), names(values))).collect(),
    }
}

/// A trainer of a judge that begins at torch's values.
///
/// # Errors
/// The configuration asks for what cannot be.
pub fn trainer(
    config: &JudgeConfig,
    settings: OptimiserSettings,
    seed: u64,
    device: &ComputeDevice,
) -> Result<Trainer<Judge>, WeightError> {
    let exact = ComputeDevice { precision: Precision::F32, ..device.clone() };
    let (noted, initial) = (PublishedParameters::default(), initial::convolutions(seed));
    let judge = Judge::load(Loader::initial(&initial, &exact).noting(&noted), config)?;
    let parameters = Parameters::of(&[(JUDGE, noted)], &|_, _| None);
    Ok(Trainer::new(judge, parameters, settings, JUDGE, seed, device))
}

/// A batch, on the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeBatch {
    /// Of the rendered clips, `[clips * frames]`.
    pub shots: Vec<Shot>,
    /// Which clips of the pool follow them.
    pub pooled: Vec<usize>,
    /// Of all clips.
    pub classes: Vec<[usize; JUDGED.len()]>,
    /// The deviation of each clip's noise.
    pub noise: Vec<f32>,
    /// Of the device's generator.
    pub seed: u64,
}

/// Makes batches of fresh clips and of the pool's.
#[derive(Clone, Debug)]
pub struct JudgeData {
    pub batch: usize,
    /// Of a whole clip.
    pub frames: usize,
    /// Clips of the transformer's seed that went through the VAE.
    pub pool: usize,
    pub random: Random,
}

impl JudgeData {
    fn rendered(&self) -> usize {
        if self.pool == 0 { self.batch } else { self.batch - self.batch / ONE_THROUGH_VAE_OF }
    }

    fn batch_from(&self, seed: u64, step: u64) -> JudgeBatch {
        let rendered = self.rendered();
        let own = (0..rendered as u64).map(|sample| step * rendered as u64 + sample);
        let pooled: Vec<usize> =
            (rendered..self.batch).map(|sample| self.random.below(Stream::Clip, step, sample as u64, self.pool)).collect();
        let of_pool = pooled.iter().map(|&clip| Attributes::of_clip(seeds::TRANSFORMER, clip as u64));
        let attributes = own.clone().map(|clip| Attributes::of_clip(seed, clip)).chain(of_pool);
        JudgeBatch {
            shots: own.flat_map(|clip| shots_of_every(&Scene::of_clip(seed, clip), self.frames, FRAME_STEP)).collect(),
            classes: attributes.map(|attributes| attributes.classes()).collect(),
            pooled,
            noise: (0..self.batch as u64)
                .map(|sample| (NOISE * self.random.uniform(Stream::Noise, step, sample)) as f32)
                .collect(),
            seed: step,
        }
    }
}

impl Batches for JudgeData {
    type Batch = JudgeBatch;

    fn make(&self, step: u64) -> Result<Vec<JudgeBatch>, TrainError> {
        Ok(vec![self.batch_from(seeds::JUDGE, step)])
    }
}

/// Trains the judge.
pub struct JudgeTask {
    pub config: JudgeConfig,
    pub data: JudgeData,
    /// Of a whole clip.
    pub size: ClipSize,
    pub device: ComputeDevice,
    /// Clips through the VAE, `[clips, frames * height * width * 3]`, already reduced to the frames that a judge looks at.
    pub pool: Option<Tensor<2>>,
    tracked: Device,
}

impl JudgeTask {
    pub fn new(config: JudgeConfig, data: JudgeData, size: ClipSize, pool: Option<Tensor<2>>, device: &ComputeDevice) -> Self {
        Self { config, data, size, tracked: device.device.clone().autodiff(), device: device.clone(), pool }
    }

    /// The clips of a batch with their noise, `[clips, frames, height, width, 3]`.
    fn video(&self, batch: &JudgeBatch) -> Tensor<5> {
        let (ClipSize { width, height, .. }, frames) = (self.size, self.config.frames);
        let device = &self.device.device;
        let rendered: Tensor<5> =
            render(&batch.shots, width, height, device).reshape([batch.shots.len() / frames, frames, height, width, 3]);
        let video = match &self.pool {
            Some(pool) if !batch.pooled.is_empty() => {
                let places: Vec<i32> = batch.pooled.iter().map(|&clip| clip as i32).collect();
                let places = Tensor::<1, Int>::from_data(TensorData::new(places, [batch.pooled.len()]), device);
                let pooled = crate::model::layers::to_f32(pool.clone().select(0, places));
                Tensor::cat(vec![rendered, pooled.reshape([batch.pooled.len(), frames, height, width, 3])], 0)
            }
            _ => rendered,
        };
        let clips = batch.noise.len();
        let deviation = Tensor::<5>::from_data(TensorData::new(batch.noise.clone(), [clips, 1, 1, 1, 1]), device);
        // The device's own generator, begun anew in every step: noise on pixels is too much to be made elsewhere.
        device.seed(batch.seed);
        let noise = Tensor::random(video.dims(), burn::tensor::Distribution::Normal(0.0, 1.0), device);
        video + noise * deviation
    }

    /// Probabilities that the judge should give, `[clips, outputs]`.
    fn wanted(&self, batch: &JudgeBatch) -> Tensor<2> {
        let mut wanted = Vec::with_capacity(batch.classes.len() * self.config.outputs());
        for classes in &batch.classes {
            for ((_, values), &class) in self.config.attributes.iter().zip(classes) {
                let spread = SMOOTHING / values.len() as f64;
                wanted
                    .extend((0..values.len()).map(|value| (spread + if value == class { 1.0 - SMOOTHING } else { 0.0 }) as f32));
            }
        }
        Tensor::from_data(TensorData::new(wanted, [batch.classes.len(), self.config.outputs()]), &self.tracked)
    }

    /// Mean and variance of every layer's channels with the averaged network, over fresh batches.
    fn statistics(&self, network: &Judge) -> Result<Vec<[Vec<f32>; 2]>, TrainError> {
        let mut sums: Vec<[Tensor<1>; 2]> = Vec::new();
        for step in 0..STATISTICS_BATCHES {
            let mut seen = Vec::new();
            let batch = self.data.batch_from(seeds::STATISTICS, step);
            network.forward(self.video(&batch), Statistics::Batch(Some(&mut seen)));
            if sums.is_empty() {
                sums = seen;
            } else {
                for (sum, [mean, variance]) in sums.iter_mut().zip(seen) {
                    *sum = [sum[0].clone() + mean, sum[1].clone() + variance];
                }
            }
        }
        let read = |x: Tensor<1>| {
            let mean = x / STATISTICS_BATCHES as f64;
            mean.try_into_vec_as().map_err(|error| TrainError::DeviceFailed { step: 0, reason: error.to_string() })
        };
        sums.into_iter().map(|[mean, variance]| Ok([read(mean)?, read(variance)?])).collect()
    }
}

impl Task for JudgeTask {
    type Network = Judge;
    type Batch = JudgeBatch;

    fn numbers(&self) -> &'static [&'static str] {
        &["wrong"]
    }

    fn samples_a_step(&self) -> usize {
        self.data.batch
    }

    fn loss(&self, network: &Judge, batch: JudgeBatch) -> Loss {
        let reading = network.forward(self.video(&batch).autodiff(), Statistics::Batch(None));
        let (wanted, clips) = (self.wanted(&batch), batch.classes.len());
        let (mut at, mut wrong, mut logarithms) = (0, Vec::new(), Vec::new());
        for (_, values) in &self.config.attributes {
            let logits = reading.logits.clone().narrow(1, at, values.len());
            let target = wanted.clone().narrow(1, at, values.len());
            let missed = logits.clone().argmax(1).not_equal(target.argmax(1));
            wrong.push(missed.float());
            logarithms.push(log_softmax(logits, 1));
            at += values.len();
        }
        let total = -sum(Tensor::cat(logarithms, 1) * wanted) / clips as f64;
        Loss { total, numbers: vec![mean(Tensor::cat(wrong, 1))] }
    }

    fn sheet(&self, _: &Judge, _: &Path) -> Result<(), TrainError> {
        Ok(())
    }

    fn publish(&self, trainer: &Trainer<Judge>, folder: &RunFolder) -> Result<(), TrainError> {
        let mut tensors = trainer.parameters().published(JUDGE, &trainer.average()?);
        for (layer, statistics) in self.statistics(&trainer.averaged())?.into_iter().enumerate() {
            for (name, values) in Judge::statistics_names(layer).into_iter().zip(statistics) {
                tensors.iter_mut().filter(|tensor| tensor.name == name).for_each(|tensor| tensor.values.clone_from(&values));
            }
        }
        let place = folder.network(JUDGE);
        write_safetensors(&place.join(WEIGHTS), &tensors, WrittenType::F32)?;
        let text = serde_json::to_string_pretty(&self.config)
            .map_err(|error| TrainError::Unreadable { path: place.join(CONFIG), reason: error.to_string() })?;
        write_whole(&place.join(CONFIG), (text + "\n").as_bytes())?;
        Ok(())
    }
}
