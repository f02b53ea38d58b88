//! Distribution matching distillation: a student of few steps whose way a teacher cannot tell from its own.
//!
//! The student takes one of its steps. More noise is put on where that leads to, and two networks say what they see in it: the
//! teacher, with guidance, and a critic, which learns at the same time what the student's way is like. Where they differ, the
//! critic's answer less the teacher's is the way in which latents become more probable for the teacher than they are for the
//! student; the student follows it. No clips are needed, only sentences, and the student may have masks.
//!
//! Source: DMD (Yin et al. 2024) and DMD2 (Yin et al. 2024) in the form of trajectory distribution matching (Luo et al. 2025): what is
//! matched is where each step of the way ends, with as much noise as it has there, not the clean clip that the step points at.
//! From pure noise a clean clip is 157 times the error of the predicted noise here (deviation over signal), so that the smallest
//! steps of an optimiser tear it apart: a student that was trained on clean clips left its teacher within 25 steps. Each step is
//! looked at within its own times, so that the critic has one distribution at a time. DMD2 lets the critic take five steps for
//! each of the student's; here both take one, and the critic has the optimiser of matrices, with which it is by far the quicker of
//! the two. There is no discriminator.

use std::ops::RangeInclusive;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use super::data::{DistillBatch, DistillData};
use super::jump::{Segments, a_sample, asked_at, ddim, further, noised_further, weights};
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
use crate::training::sums::mean;
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

/// Teacher and critic look at least so many times above where a step ends: nearer there is nothing to see.
const LOOKED_ABOVE: usize = 20;
/// And not above this, where there is nothing left to say.
const LAST_LOOKED_AT: usize = 980;

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
    /// What is put on where the student's next step ends, for the two to look at.
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

impl DmdData {
    /// The times at which the step behind so many others is looked at: those of its own segment.
    fn looked_at(&self, hop: usize) -> RangeInclusive<usize> {
        let span = TRAINING_TIMESTEPS / self.segments.count();
        let first = (self.segments.count() - 1 - hop) * span;
        first + LOOKED_ABOVE.min(span - 1)..=(first + span - 1).min(LAST_LOOKED_AT)
    }
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
            let looked_at = self.looked_at(hop);
            let span = looked_at.end() - looked_at.start() + 1;
            clips.times.iter_mut().for_each(|time| *time = looked_at.start() + *time * span / TRAINING_TIMESTEPS);
            DmdBatch {
                clips,
                hop,
                noise: noise[range.clone()].to_vec(),
                critic_noise: critic_noise[range].to_vec(),
                critic_times: samples
                    .map(|sample| looked_at.start() + random.below(Stream::CriticTime, step, sample, span))
                    .collect(),
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

    /// Where the student's way is one step after so many hops, and the times before and after that step. Gradients go through it
    /// alone.
    pub fn way(&self, student: &Transformer, noise: Tensor<5>, hops: usize, text: &TextContext) -> (Tensor<5>, [i32; 2]) {
        let (latents, time) = self.way_down(&without_gradients(student), noise, hops, text);
        let [samples, _, frames, ..] = latents.dims();
        let (latents, tracked) = (latents.autodiff(), with_gradients(text));
        let end = self.settings.segments.milestone(time as usize);
        let (from, to) = (vec![time; samples], vec![end; samples]);
        let masks = self.masks.of(frames);
        let own = predict(student, latents.clone(), &asked_at(&from), &tracked, masks, &mut Probe::default());
        (ddim(&self.schedule, latents, own, &from, &to), [time, end])
    }

    /// Where latents `[samples, ..]` at the time `from` should go: the noise that the teacher sees in them less what the critic
    /// sees, once there is so much more of it; and its square.
    pub fn direction(
        &self,
        critic: &Transformer,
        (latents, from): (Tensor<5>, i32),
        noise: Tensor<5>,
        times: &[usize],
        text: &TextContext,
    ) -> [Tensor<5>; 2] {
        let [_, _, frames, ..] = latents.dims();
        let noisy = noised_further(&self.schedule, latents, from, noise, times);
        let real = self.teacher.guided(noisy.clone(), times, text, self.settings.guidance);
        let fake = predict(critic, noisy, times, text, self.critic_masks.of(frames), &mut Probe::default());
        let difference = real - fake;
        [difference.clone(), difference.clone() * difference]
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
        let (reached, [time, end]) = self.way(&network.student, self.tensor(first, shape), hop, &text);
        let shown = reached.clone().without_autodiff();

        let critic = without_gradients(&network.critic);
        let [direction, difference] = self.direction(&critic, (shown.clone(), end), self.tensor(noise, shape), &times, &text);
        let target = (shown.clone() - direction).autodiff();
        let away = reached - target;
        // What the student says of the noise moves the end of its step by this factor, 8 times for the first of four: all steps
        // should count alike.
        let [_, of_noise] = weights(&self.schedule, time, end);
        let matching = mean(away.clone() * away) * (0.5 / of_noise.abs());

        let critic_noise = self.tensor(critic_noise, shape);
        let noisy = noised_further(&self.schedule, shown, end, critic_noise.clone(), &critic_times).autodiff();
        let masks = self.critic_masks.of(frames);
        let tracked = with_gradients(&text);
        let seen = predict(&network.critic, noisy, &critic_times, &tracked, masks, &mut Probe::default());
        // Of all the noise that it sees, the share of what was put on just now.
        let added = |time: &usize| {
            let alpha_bar = f64::from(self.schedule.alphas_cumprod()[*time]);
            ((1.0 - further(&self.schedule, end, *time)) / (1.0 - alpha_bar)).sqrt()
        };
        let added = a_sample(&critic_times, &added, &seen);
        let error = seen * added - critic_noise.autodiff();
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
