//! Knowledge distillation: a sparse student imitates its dense teacher, in what it predicts and layer by layer in what its
//! self-attention gives.
//!
//! Source: stage 3 of Efficient-vDiT; the paper's text is not at hand, so the loss is that of the authors' next work (STA):
//! `alpha L_data + beta L_final + gamma L_attention`. The recipe of mini makes each layer's part relative to what the teacher
//! gives, since layers differ in size by orders of magnitude, and spends most samples at the times at which the sampler asks.

use std::ops::Range;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};

use super::data::DistillBatch;
use super::jump::noised;
use super::masks::{Masks, RangeTimes};
use super::student::{Description, SheetOfStudent, with_gradients};
use super::teacher::{Teacher, predict};
use crate::gpu::device::ComputeDevice;
use crate::mask::{LayerMask, MaskPlan};
use crate::model::dit::{Probe, Site, TextContext, Transformer};
use crate::model::layers::to_f32;
use crate::model::sampler::schedule::NoiseSchedule;
use crate::training::error::TrainError;
use crate::training::folder::RunFolder;
use crate::training::optimiser::OptimiserSettings;
use crate::training::run::Task;
use crate::training::schedule::Schedule;
use crate::training::sums::mean;
use crate::training::trainer::{Loss, Trainer};

/// The recipe for mini.
pub const OPTIMISER: OptimiserSettings = OptimiserSettings {
    learning_rate: 3e-4,
    muon_learning_rate: 0.0,
    betas: [0.9, 0.99],
    momentum: 0.0,
    weight_decay: 0.0,
    largest_norm: 1.0,
    average_decay: 0.99,
};
pub const SCHEDULE: Schedule = Schedule { warm_up_steps: 30, hold_share: 0.5 };
pub const BATCH: usize = 128;
/// Share of the samples at the sampler's times.
pub const SNAPPED: f64 = 0.7;

/// The kind of the training.
pub const KD: &str = "kd";
/// The student's folder in the model.
pub const FAST: &str = "fast";

/// What each part of the loss counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossWeights {
    /// Of the mean squared difference of the two predictions.
    pub output: f64,
    /// Of the mean over layers of `mean((student - teacher)^2) / mean(teacher^2)` of what self-attention gives.
    pub attention: f64,
    /// Of the mean squared error of the student's prediction, as in a training from nothing.
    pub data: f64,
}

impl LossWeights {
    /// What a run with these weights is, so that it only goes on with them and the student's masks.
    pub fn kind(&self, plan: &MaskPlan, teacher: &str) -> String {
        let Self { output, attention, data } = self;
        let names = |layers: &[LayerMask]| layers.iter().map(LayerMask::name).collect::<Vec<String>>().join(" ");
        let later = plan.ranges().skip(1).map(|(from, layers)| format!(", from {from} of the steps {}", names(layers)));
        let masks = names(plan.layers()) + &later.collect::<String>();
        format!("{KD} (weights {output}, {attention}, {data}, masks {masks}, teacher {teacher})")
    }
}

/// The recipe for mini.
pub const LOSS_WEIGHTS: LossWeights = LossWeights { output: 1.0, attention: 0.03, data: 0.0 };

/// Trains the student.
pub struct KdTask {
    pub teacher: Teacher,
    pub weights: LossWeights,
    /// The student's masks at the usual length of clips.
    pub plan: MaskPlan,
    /// And at every length that it learns from.
    pub masks: Masks,
    /// Which of them a time has, if they are others for later steps.
    pub range_times: RangeTimes,
    pub description: Description,
    /// Samples of a step in the mean.
    pub batch: usize,
    pub sheet: Option<SheetOfStudent>,
    device: Device,
    schedule: NoiseSchedule,
}

impl KdTask {
    pub fn new(
        teacher: Teacher,
        weights: LossWeights,
        plan: MaskPlan,
        description: Description,
        batch: usize,
        device: &ComputeDevice,
    ) -> Self {
        let (device, schedule) = (device.device.clone(), NoiseSchedule::trained());
        let masks = Masks::of_plan(&plan);
        let range_times = RangeTimes::default();
        Self { teacher, weights, plan, masks, range_times, description, batch, sheet: None, device, schedule }
    }

    /// What the student predicts for `noisy` `[samples, channels, frames, height, width]`, and what its self-attention gives: each
    /// sample with the masks of its time.
    fn student(
        &self,
        network: &Transformer,
        noisy: Tensor<5>,
        times: &[usize],
        text: &TextContext,
    ) -> (Tensor<5>, Vec<Tensor<3>>) {
        let [samples, _, frames, ..] = noisy.dims();
        let masks = self.masks.ranges(frames);
        let of_run = |(range, run): (usize, Range<usize>)| {
            let (noisy, text) = match run.len() == samples {
                true => (noisy.clone(), text.clone()),
                false => (noisy.clone().narrow(0, run.start, run.len()), text.rows(run.clone())),
            };
            watched(|probe| predict(network, noisy, &times[run], &text, &masks[range], probe))
        };
        let (predicted, layers): (Vec<_>, Vec<_>) = self.range_times.runs(times).into_iter().map(of_run).unzip();
        let layers = (0..network.layers()).map(|layer| join(layers.iter().map(|of_run: &Vec<Tensor<3>>| of_run[layer].clone())));
        (join(predicted.into_iter()), layers.collect())
    }
}

impl Task for KdTask {
    type Network = Transformer;
    type Batch = DistillBatch;

    fn numbers(&self) -> &'static [&'static str] {
        &["output_difference", "attention_difference", "noise_difference"]
    }

    fn samples_a_step(&self) -> usize {
        self.batch
    }

    fn loss(&self, network: &Transformer, batch: DistillBatch) -> Loss {
        let DistillBatch { latents, noise, shape, times, captions } = batch;
        let tensor = |values| Tensor::<5>::from_data(TensorData::new(values, shape), &self.device);
        let (text, noise) = (self.teacher.embed(captions), tensor(noise));
        // Without clips only pure noise could be predicted, which is no lesson; the command never makes such batches.
        let clean = latents.map_or_else(|| noise.zeros_like(), tensor);
        let noisy = noised(&self.schedule, clean, noise.clone(), &times);

        let (wanted, of_teacher) = watched(|probe| self.teacher.predict(noisy.clone(), &times, &text, probe));
        let (given, of_student) = self.student(network, noisy.autodiff(), &times, &with_gradients(&text));

        let layers = of_teacher.len().max(1) as f64;
        let a_layer = of_student.into_iter().zip(of_teacher).map(|(student, teacher)| {
            let (size, difference) = (mean(teacher.clone() * teacher.clone()), student - teacher.autodiff());
            mean(difference.clone() * difference) / size.autodiff()
        });
        let attention = a_layer.reduce(|sum, layer| sum + layer).unwrap_or_else(|| Tensor::zeros([1], &given.device())) / layers;
        let squared = |difference: Tensor<5>| mean(difference.clone() * difference);
        let output = squared(given.clone() - wanted.autodiff());
        let data = squared(given - noise.autodiff());
        let weights = self.weights;
        let mut total = output.clone() * weights.output + attention.clone() * weights.attention;
        if weights.data != 0.0 {
            total = total + data.clone() * weights.data;
        }
        Loss { total, numbers: vec![output, attention, data] }
    }

    fn sheet(&self, network: &Transformer, path: &Path) -> Result<(), TrainError> {
        self.sheet.as_ref().map_or(Ok(()), |draw| draw(network, &self.teacher, path))
    }

    fn publish(&self, trainer: &Trainer<Transformer>, folder: &RunFolder) -> Result<(), TrainError> {
        self.description.publish(trainer, folder)
    }
}

/// Samples one behind the other.
fn join<const D: usize>(parts: impl ExactSizeIterator<Item = Tensor<D>>) -> Tensor<D> {
    let mut parts = parts;
    match parts.len() {
        1 => parts.next().expect("there is one"),
        _ => Tensor::cat(parts.collect(), 0),
    }
}

/// A prediction, and what the self-attention of every layer gave on the way to it, in f32.
fn watched(predict: impl FnOnce(&mut Probe<'_>) -> Tensor<5>) -> (Tensor<5>, Vec<Tensor<3>>) {
    let mut layers = Vec::new();
    let mut watch = |site, _: usize, values: Tensor<3>| {
        if site == Site::SelfAttention {
            layers.push(to_f32(values));
        }
    };
    let predicted = predict(&mut Probe::new(&mut watch));
    (predicted, layers)
}
