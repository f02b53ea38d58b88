//! Multi-step latent consistency distillation: a student that needs few calls for a clip.
//!
//! Times are parted into segments with milestones between them. From any time the student jumps to the milestone below it by
//! one DDIM step along its own prediction, and it is to arrive at the same place from a little further down, whereto one step
//! of the teacher leads, with guidance. So guidance is baked in, and the student takes the sentence alone.
//!
//! Source: MLCD (Xie et al. 2024, arXiv 2406.05768, section 4.1) on the multistep consistency models of Heek et al. (2024);
//! the target is the student itself without gradients. Data: clips with noise, or as the paper has it the teacher's own way
//! from noise down to the time (its algorithm 1).

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};

use super::data::DistillBatch;
use super::jump::{Segments, asked_at, ddim, noised};
use super::masks::Masks;
use super::student::{Description, SheetOfStudent, with_gradients, without_gradients};
use super::teacher::{Teacher, first_rows, predict};
use crate::gpu::device::ComputeDevice;
use crate::mask::MaskPlan;
use crate::model::dit::{Probe, TextContext, Transformer};
use crate::model::sampler::schedule::{NoiseSchedule, TRAINING_TIMESTEPS};
use crate::training::error::TrainError;
use crate::training::folder::RunFolder;
use crate::training::optimiser::OptimiserSettings;
use crate::training::run::Task;
use crate::training::schedule::Schedule;
use crate::training::sums::{mean, means_of_samples};
use crate::training::trainer::{Loss, Trainer};

/// The recipe for mini.
pub const OPTIMISER: OptimiserSettings = OptimiserSettings {
    learning_rate: 2e-4,
    muon_learning_rate: 0.0,
    betas: [0.9, 0.99],
    momentum: 0.0,
    weight_decay: 0.0,
    largest_norm: 1.0,
    average_decay: 0.99,
};
pub const SCHEDULE: Schedule = Schedule { warm_up_steps: 30, hold_share: 0.5 };
pub const BATCH: usize = 128;
pub const SEGMENTS: usize = 8;
pub const SKIP: usize = 20;
pub const GUIDANCE: f64 = 2.0;

/// The kind of the training, and the student's folder in the model.
pub const MLCD: &str = "mlcd";

/// Where a pseudo-Huber distance turns from a square into a line, in deviations of a latent.
const TURN: f64 = 1e-3;

/// What is made small: a function of the root of the mean squared difference d of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// d^2, as the paper.
    Squared,
    /// d^2 / 2c up to c, then d - c / 2, with c = 0.001.
    Huber,
    /// sqrt(d^2 + c^2) - c, with c = 0.001, as the authors' later runs and the recipe of mini.
    PseudoHuber,
}

impl Distance {
    /// Of each sample's mean squared difference, `[samples]`.
    pub fn of(self, squared: Tensor<1>) -> Tensor<1> {
        match self {
            Self::Squared => squared,
            Self::Huber => {
                let is_near = squared.clone().lower_equal_elem(TURN * TURN);
                // Not below the turn: the root's gradient at 0 is no number, and would stay none behind a mask.
                let far = squared.clone().clamp_min(TURN * TURN).sqrt() - TURN / 2.0;
                far.mask_where(is_near, squared / (2.0 * TURN))
            }
            Self::PseudoHuber => (squared + TURN * TURN).sqrt() - TURN,
        }
    }
}

/// Where noisy latents come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Clips with noise.
    Clips,
    /// The teacher's way down from noise.
    Noise,
}

/// What the distillation is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    pub segments: Segments,
    /// Times of one step of the teacher.
    pub skip: usize,
    /// Scale of the teacher's guidance; 1 is none.
    pub guidance: f64,
    pub distance: Distance,
    pub start: Start,
}

impl Settings {
    /// What a run of these settings is, so that it only goes on with them.
    pub fn kind(&self, teacher: &str) -> String {
        let Self { segments, skip, guidance, distance, start } = self;
        let segments = segments.count();
        format!("{MLCD} ({segments} segments, skip {skip}, guidance {guidance}, {distance:?} from {start:?}, teacher {teacher})")
    }
}

/// Trains the student.
pub struct MlcdTask {
    pub teacher: Teacher,
    pub settings: Settings,
    /// Of the student, which sees what its teacher sees, at the usual length of clips.
    pub plan: MaskPlan,
    /// And at every length that it learns from.
    pub masks: Masks,
    pub description: Description,
    /// Samples of a step in the mean.
    pub batch: usize,
    pub sheet: Option<SheetOfStudent>,
    device: Device,
    schedule: NoiseSchedule,
}

/// What the student is asked in a step, and what it is to answer.
#[derive(Debug)]
pub struct Lesson {
    /// `[samples, channels, frames, height, width]`, at `times`.
    pub noisy: Tensor<5>,
    pub times: Vec<i32>,
    pub milestones: Vec<i32>,
    pub text: TextContext,
    /// The latents at the milestones.
    pub target: Tensor<5>,
}

impl MlcdTask {
    pub fn new(
        teacher: Teacher,
        settings: Settings,
        plan: MaskPlan,
        description: Description,
        batch: usize,
        device: &ComputeDevice,
    ) -> Self {
        let (device, schedule) = (device.device.clone(), NoiseSchedule::trained());
        let masks = Masks::of_plan(&plan);
        Self { teacher, settings, plan, masks, description, batch, sheet: None, device, schedule }
    }

    /// The lesson of a batch; `student` has no gradients.
    pub fn lesson(&self, student: &Transformer, batch: DistillBatch) -> Lesson {
        let DistillBatch { latents, noise, shape, times, captions } = batch;
        let Settings { segments, skip, guidance, .. } = self.settings;
        let tensor = |values| Tensor::<5>::from_data(TensorData::new(values, shape), &self.device);
        let (text, noise) = (self.teacher.embed(captions), tensor(noise));
        let noisy = match (self.settings.start, latents) {
            (Start::Clips, Some(latents)) => noised(&self.schedule, tensor(latents), noise, &times),
            // Without clips there is one way only.
            (Start::Clips | Start::Noise, _) => self.way_down(noise, &times, &text),
        };
        let milestones: Vec<i32> = times.iter().map(|&time| segments.milestone(time)).collect();
        let earlier: Vec<i32> = times.iter().map(|&time| segments.earlier(time, skip)).collect();
        let guided = self.teacher.guided(noisy.clone(), &times, &text, guidance);
        let times: Vec<i32> = times.iter().map(|&time| time as i32).collect();
        let stepped = ddim(&self.schedule, noisy.clone(), guided, &times, &earlier);
        let masks = self.masks.of(shape[2]);
        let own = predict(student, stepped.clone(), &asked_at(&earlier), &text, masks, &mut Probe::default());
        // Where the teacher has reached the milestone, the jump is none and the latent stays.
        let target = ddim(&self.schedule, stepped, own, &earlier, &milestones);
        Lesson { noisy, times, milestones, text, target }
    }

    /// From pure noise to `times` in steps of the teacher, one for each segment on the way. Times must not fall from sample to
    /// sample: then the samples that need most steps come first, and the others wait behind them.
    fn way_down(&self, noise: Tensor<5>, times: &[usize], text: &TextContext) -> Tensor<5> {
        debug_assert!(times.is_sorted(), "samples come in the order of their times");
        let top = (TRAINING_TIMESTEPS - 1) as f64;
        let hops: Vec<usize> = times.iter().map(|&time| self.settings.segments.from_the_top(time)).collect();
        let place = |sample: usize, hop: usize| (top - (top - times[sample] as f64) * hop as f64 / hops[sample] as f64).round();
        let mut latents = noise;
        for hop in 0..hops.first().copied().unwrap_or(0) {
            let active = hops.iter().take_while(|&&hops| hops > hop).count();
            let [from, to] = [hop, hop + 1].map(|hop| (0..active).map(|sample| place(sample, hop) as i32).collect::<Vec<i32>>());
            let moving = latents.clone().narrow(0, 0, active);
            let guided = self.teacher.guided(moving.clone(), &asked_at(&from), &first_rows(text, active), self.settings.guidance);
            let moved = ddim(&self.schedule, moving, guided, &from, &to);
            let waiting = hops.len() - active;
            latents = if waiting == 0 { moved } else { Tensor::cat(vec![moved, latents.narrow(0, active, waiting)], 0) };
        }
        latents
    }

    /// What the student answers in a lesson.
    pub fn answer(&self, student: &Transformer, lesson: &Lesson) -> Tensor<5> {
        let (noisy, text) = (lesson.noisy.clone().autodiff(), with_gradients(&lesson.text));
        let [_, _, frames, ..] = noisy.dims();
        let masks = self.masks.of(frames);
        let own = predict(student, noisy.clone(), &asked_at(&lesson.times), &text, masks, &mut Probe::default());
        ddim(&self.schedule, noisy, own, &lesson.times, &lesson.milestones)
    }
}

impl Task for MlcdTask {
    type Network = Transformer;
    type Batch = DistillBatch;

    fn numbers(&self) -> &'static [&'static str] {
        &["squared_difference"]
    }

    fn samples_a_step(&self) -> usize {
        self.batch
    }

    fn loss(&self, network: &Transformer, batch: DistillBatch) -> Loss {
        let lesson = self.lesson(&without_gradients(network), batch);
        let difference = self.answer(network, &lesson) - lesson.target.autodiff();
        let squared = means_of_samples(difference.clone() * difference);
        Loss { total: mean(self.settings.distance.of(squared.clone())), numbers: vec![mean(squared)] }
    }

    fn sheet(&self, network: &Transformer, path: &Path) -> Result<(), TrainError> {
        self.sheet.as_ref().map_or(Ok(()), |draw| draw(network, &self.teacher, path))
    }

    fn publish(&self, trainer: &Trainer<Transformer>, folder: &RunFolder) -> Result<(), TrainError> {
        self.description.publish(trainer, folder)
    }
}
