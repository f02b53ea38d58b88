//! Distribution matching distillation: a student of few steps whose clips a teacher cannot tell from its own.
//!
//! The student makes clips on its own way. Noise is put on them, and two networks say what they see in it: the teacher, with
//! guidance, and a critic, which learns at the same time what the student's clips are like. Where they differ, the teacher's
//! answer less the critic's is the way in which clips become more probable for the teacher than they are for the student; the
//! student follows it. No clips are needed, only sentences, and the student may have masks.
//!
//! Source: DMD (Yin et al. 2024, formula 7 with its weight 8) and DMD2 (Yin et al. 2024): no regression to the teacher's own clips,
//! the student trained at each step of its own way. DMD2 lets the critic take five steps for each of the student's; here both
//! take one, and the critic has the optimiser of matrices, with which it is by far the quicker of the two. There is no
//! discriminator.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use super::data::{DistillBatch, DistillData};
use super::jump::{CLEAN, Segments, a_sample, asked_at, ddim, noised};
use super::masks::Masks;
use super::student::{Description, STUDENT, SheetOfStudent, with_gradients, without_gradients};
use super::teacher::{Teacher, predict};
use crate::gpu::device::{ComputeDevice, Precision};
use crate::mask::MaskPlan;
use crate::model::dit::{Probe, TextContext, Transformer, TransformerConfig};
use crate::model::sampler::schedule::{NoiseSchedule, TRAINING_TIMESTEPS};
use crate::model::weights::{Loader, PublishedParameter, PublishedParameters, WeightError, WeightSource};
use crate::training::error::TrainError;
use crate::training::folder::RunFolder;
use crate::training::optimiser::OptimiserSettings;
use crate::training::parameters::Parameters;
use crate::training::pretrain::base::{is_hidden, signal_to_noise_weight};
use crate::training::random::Stream;
use crate::training::run::{Batches, Task};
use crate::training::schedule::Schedule;
use crate::training::sums::{mean, means_of_samples};
use crate::training::trainer::{Loss, Trainer};

/// AdamW is the student's, Muon the critic's.
pub const OPTIMISER: OptimiserSettings = OptimiserSettings {
    learning_rate: 5e-5,
    muon_learning_rate: 2e-3,
    betas: [0.9, 0.99],
    momentum: 0.95,
    weight_decay: 0.0,
    largest_norm: 1.0,
    average_decay: 0.99,
};
pub const SCHEDULE: Schedule = Schedule { warm_up_steps: 30, hold_share: 0.5 };
pub const BATCH: usize = 128;
/// Steps of a clip.
pub const SEGMENTS: usize = 4;
pub const GUIDANCE: f64 = 2.0;

/// The kind of the training, and the student's folder in the model.
pub const DMD: &str = "dmd";
const CRITIC: &str = "critic";

/// Times at which teacher and critic look: at the ends there is nothing to see, or nothing left to say.
const LOOKED_AT: std::ops::RangeInclusive<usize> = 20..=980;

/// The networks that learn together.
#[derive(Module, Debug)]
pub struct Pair {
    pub student: Transformer,
    pub critic: Transformer,
}

/// What the distillation is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// One step of a clip each.
    pub segments: Segments,
    /// Scale of the teacher's guidance; 1 is none.
    pub guidance: f64,
}

impl Settings {
    /// What a run of these settings is, so that it only goes on with them.
    pub fn kind(&self, student: &str, teacher: &str) -> String {
        let Self { segments, guidance } = self;
        format!("{DMD} ({} steps, guidance {guidance}, student {student}, teacher {teacher})", segments.count())
    }
}

/// A trainer of a student that begins with the weights of a model, and of a critic that begins as the teacher.
///
/// # Errors
/// The weights do not fit the configuration.
pub fn trainer(
    [student, teacher]: [&WeightSource; 2],
    config: &TransformerConfig,
    kind: &str,
    settings: OptimiserSettings,
    seed: u64,
    device: &ComputeDevice,
) -> Result<Trainer<Pair>, WeightError> {
    let exact = ComputeDevice { precision: Precision::F32, ..device.clone() };
    let [of_student, of_critic] = [PublishedParameters::default(), PublishedParameters::default()];
    let student = Transformer::load(Loader::new(student, &exact).noting(&of_student), config)?;
    let critic = Transformer::load(Loader::new(teacher, &exact).noting(&of_critic), config)?;
    let matrix_rate = |part: &str, parameter: &PublishedParameter| (part == CRITIC && is_hidden(&parameter.name)).then_some(1.0);
    let parameters = Parameters::of(&[(STUDENT, of_student), (CRITIC, of_critic)], &matrix_rate);
    Ok(Trainer::new(Pair { student, critic }, parameters, settings, kind, seed, device))
}

/// A part of a batch, on the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct DmdBatch {
    /// The noise that clips are made from, their sentences, and the times at which teacher and critic look.
    pub clips: DistillBatch,
    /// Steps of its way that the student has behind it.
    pub hop: usize,
    /// What is put on the student's clips for the two to look at.
    pub noise: Vec<f32>,
    /// The same for the critic's lesson, and its times.
    pub critic_noise: Vec<f32>,
    pub critic_times: Vec<usize>,
}

/// Makes batches.
#[derive(Debug)]
pub struct DmdData {
    pub clips: DistillData,
    pub segments: Segments,
}

impl Batches for DmdData {
    type Batch = DmdBatch;

    fn make(&self, step: u64) -> Result<Vec<DmdBatch>, TrainError> {
        let parts = self.clips.make(step)?;
        let random = self.clips.random;
        let values: usize = parts.iter().map(|part| part.noise.len()).sum();
        let [noise, critic_noise] = [Stream::LookedAt, Stream::CriticNoise].map(|stream| random.normal(stream, step, values));
        // One for the whole step: devices that share it should have as much to do.
        let hop = random.below(Stream::Hop, step, 0, self.segments.count());
        let (mut first_value, mut first_sample) = (0, 0);
        let parts = parts.into_iter().map(|mut clips| {
            let range = first_value..first_value + clips.noise.len();
            let samples = first_sample..first_sample + clips.times.len() as u64;
            (first_value, first_sample) = (range.end, samples.end);
            clips.times.iter_mut().for_each(|time| *time = (*time).clamp(*LOOKED_AT.start(), *LOOKED_AT.end()));
            DmdBatch {
                clips,
                hop,
                noise: noise[range.clone()].to_vec(),
                critic_noise: critic_noise[range].to_vec(),
                critic_times: samples.map(|sample| random.below(Stream::CriticTime, step, sample, TRAINING_TIMESTEPS)).collect(),
            }
        });
        Ok(parts.collect())
    }
}

/// Trains the two.
pub struct DmdTask {
    pub teacher: Teacher,
    pub settings: Settings,
    /// Of the student, at every length that it learns from.
    pub masks: Masks,
    /// Of the critic, which sees what the teacher sees.
    pub critic_masks: Masks,
    pub description: Description,
    /// Samples of a step in the mean.
    pub batch: usize,
    pub sheet: Option<SheetOfStudent>,
    device: Device,
    schedule: NoiseSchedule,
}

impl DmdTask {
    /// The plans are the student's and the teacher's, at the usual length of clips.
    pub fn new(
        teacher: Teacher,
        settings: Settings,
        [student, critic]: [&MaskPlan; 2],
        description: Description,
        batch: usize,
        device: &ComputeDevice,
    ) -> Self {
        let (device, schedule) = (device.device.clone(), NoiseSchedule::trained());
        let [masks, critic_masks] = [student, critic].map(Masks::of_plan);
        Self { teacher, settings, masks, critic_masks, description, batch, sheet: None, device, schedule }
    }

    fn tensor(&self, values: Vec<f32>, shape: [usize; 5]) -> Tensor<5> {
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    /// The student's clip as it stands after so many of its steps, and the time of that; without gradients.
    fn way_down(&self, student: &Transformer, noise: Tensor<5>, hops: usize, text: &TextContext) -> (Tensor<5>, i32) {
        let [samples, _, frames, ..] = noise.dims();
        let mut latents = noise;
        let mut time = TRAINING_TIMESTEPS as i32 - 1;
        for _ in 0..hops {
            let (from, to) = (vec![time; samples], vec![self.settings.segments.milestone(time as usize); samples]);
            let own = predict(student, latents.clone(), &asked_at(&from), text, self.masks.of(frames), &mut Probe::default());
            latents = ddim(&self.schedule, latents, own, &from, &to);
            time = to[0];
        }
        (latents, time)
    }

    /// The student's clip, as one step leads to it from where its way is after so many hops, and the time of that. Gradients go
    /// through the last step alone.
    pub fn clip(&self, student: &Transformer, noise: Tensor<5>, hops: usize, text: &TextContext) -> (Tensor<5>, i32) {
        let (latents, time) = self.way_down(&without_gradients(student), noise, hops, text);
        let [samples, _, frames, ..] = latents.dims();
        let (latents, tracked) = (latents.autodiff(), with_gradients(text));
        let (from, to) = (vec![time; samples], vec![CLEAN; samples]);
        let masks = self.masks.of(frames);
        let own = predict(student, latents.clone(), &asked_at(&from), &tracked, masks, &mut Probe::default());
        (ddim(&self.schedule, latents, own, &from, &to), time)
    }

    /// Where clips `[samples, ..]` should go: the critic's idea of the clean clip less the teacher's, in mean distances of the clip
    /// from the teacher's idea; and the mean squared difference of the noise that the two see.
    pub fn direction(
        &self,
        critic: &Transformer,
        clips: Tensor<5>,
        noise: Tensor<5>,
        times: &[usize],
        text: &TextContext,
    ) -> [Tensor<5>; 2] {
        let [_, _, frames, ..] = clips.dims();
        let noisy = noised(&self.schedule, clips.clone(), noise, times);
        let real = self.teacher.guided(noisy.clone(), times, text, self.settings.guidance);
        let fake = predict(critic, noisy.clone(), times, text, self.critic_masks.of(frames), &mut Probe::default());
        let from: Vec<i32> = times.iter().map(|&time| time as i32).collect();
        let to = vec![CLEAN; times.len()];
        let [clean, of_critic] = [&real, &fake].map(|seen| ddim(&self.schedule, noisy.clone(), seen.clone(), &from, &to));
        let distance = means_of_samples((clips - clean.clone()).abs()).clamp_min(1e-6);
        let difference = fake - real;
        [(of_critic - clean) / distance.reshape([-1, 1, 1, 1, 1]), difference.clone() * difference]
    }
}

impl Task for DmdTask {
    type Network = Pair;
    type Batch = DmdBatch;

    fn numbers(&self) -> &'static [&'static str] {
        &["difference", "critic_mean_square"]
    }

    fn samples_a_step(&self) -> usize {
        self.batch
    }

    fn loss(&self, network: &Pair, batch: DmdBatch) -> Loss {
        let DmdBatch { clips: DistillBatch { noise: first, shape, times, captions, .. }, hop, noise, critic_noise, critic_times } =
            batch;
        let [_, _, frames, ..] = shape;
        let text = self.teacher.embed(captions);
        let (clean, time) = self.clip(&network.student, self.tensor(first, shape), hop, &text);
        let shown = clean.clone().without_autodiff();

        let critic = without_gradients(&network.critic);
        let [direction, difference] = self.direction(&critic, shown.clone(), self.tensor(noise, shape), &times, &text);
        let target = (shown.clone() - direction).autodiff();
        let away = clean - target;
        // Noise becomes a clean clip with the factor deviation / signal, which is 157 at the top: all steps should count alike.
        let alpha_bar = f64::from(self.schedule.alpha_bar(time));
        let matching = mean(away.clone() * away) * (0.5 * (alpha_bar / (1.0 - alpha_bar)).sqrt());

        let critic_noise = self.tensor(critic_noise, shape);
        let noisy = noised(&self.schedule, shown, critic_noise.clone(), &critic_times).autodiff();
        let masks = self.critic_masks.of(frames);
        let tracked = with_gradients(&text);
        let seen = predict(&network.critic, noisy, &critic_times, &tracked, masks, &mut Probe::default());
        let error = seen - critic_noise.autodiff();
        let squared = error.clone() * error;
        let alpha_bars: Vec<f64> = critic_times.iter().map(|&time| f64::from(self.schedule.alphas_cumprod()[time])).collect();
        let weight = a_sample(&alpha_bars, &|&alpha_bar| signal_to_noise_weight(alpha_bar), &squared);
        let learnt = mean(squared.clone() * weight);
        Loss { total: matching + learnt, numbers: vec![mean(difference.autodiff()), mean(squared)] }
    }

    fn sheet(&self, network: &Pair, path: &Path) -> Result<(), TrainError> {
        self.sheet.as_ref().map_or(Ok(()), |draw| draw(&network.student, &self.teacher, path))
    }

    fn publish(&self, trainer: &Trainer<Pair>, folder: &RunFolder) -> Result<(), TrainError> {
        self.description.publish(trainer, folder)
    }
}
