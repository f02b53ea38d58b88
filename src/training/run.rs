//! The loop: batches from a thread of their own, steps, and now and then a look, a sheet and a checkpoint.
//!
//! The device is never waited for in a step. Numbers of steps pile up on it and are read together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::tensor::Tensor;

use super::checkpoint::{file, packed};
use super::curves::{Curves, Row};
use super::error::TrainError;
use super::folder::RunFolder;
use super::loss_scale::BLOCK;
use super::replicas::{Others, Replicas};
use super::schedule::{Length, Schedule};
use super::trainer::{Loss, OWN_NUMBERS, Trainer};

/// What is trained, on the device's side.
pub trait Task {
    type Network: Module;
    type Batch: Send;

    /// Names of the numbers behind the loss.
    fn numbers(&self) -> &'static [&'static str];

    /// What the network loses on a part of a batch.
    fn loss(&self, network: &Self::Network, batch: Self::Batch) -> Loss;

    /// Samples of a step per batch, for people.
    fn samples_a_step(&self) -> usize;

    /// Draws what the averaged network can do into a file, if there is something to see.
    ///
    /// # Errors
    /// The device failed, or the file cannot be written.
    fn sheet(&self, network: &Self::Network, path: &Path) -> Result<(), TrainError>;

    /// Writes the averaged network in its published form.
    ///
    /// # Errors
    /// The device failed, or a file cannot be written.
    fn publish(&self, trainer: &Trainer<Self::Network>, folder: &RunFolder) -> Result<(), TrainError>;
}

/// Where a task's batches come from: a function of the step, on any thread.
pub trait Batches: Sync {
    type Batch: Send;

    /// The parts of a step's batch, whose gradients are averaged.
    ///
    /// # Errors
    /// The data cannot be read.
    fn make(&self, step: u64) -> Result<Vec<Self::Batch>, TrainError>;
}

/// When what happens.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub length: Length,
    pub schedule: Schedule,
    pub checkpoint_every: Duration,
    /// Between sample sheets; none are made without it.
    pub sheet_every: Option<Duration>,
}

/// A look at a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub step: u64,
    /// Of this session, 0 to 1.
    pub share: f64,
    pub samples_per_second: f64,
    /// Of this session.
    pub left: Option<Duration>,
    /// Means over the steps since the last report, by name.
    pub numbers: Vec<(&'static str, f64)>,
}

/// Who looks at a run and may end it.
pub trait Watcher {
    fn report(&mut self, report: &Report);

    /// Something worth a line.
    fn note(&mut self, text: &str);

    /// What goes on where that is no step of a training, and how much of it is done, 0 to 1.
    fn doing(&mut self, _what: &str, _share: f64) {}

    /// Whether to end after the current step, with a checkpoint.
    fn stops(&self) -> bool;
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The run, or the time of this session, is over.
    Done,
    /// The watcher stopped it.
    Stopped,
}

/// Batches that wait for the device.
const AHEAD: usize = 2;
/// Looks at slow devices, where a block of steps takes long.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const CURVES_EVERY: Duration = Duration::from_secs(20);
const LOSS: &str = "loss";
/// Behind the task's own numbers.
const COMMON: [&str; 4] = ["norm", "rate_factor", "samples_per_second", "loss_scale"];

/// Trains until the session is over, and keeps a checkpoint and the published network. With replicas the parts of a batch are
/// spread over their devices and the trainer's.
///
/// # Errors
/// The run diverged, the device failed, or a file cannot be written. The last good checkpoint is kept.
pub fn train<T: Task, B: Batches<Batch = T::Batch>>(
    task: &T,
    batches: &B,
    trainer: &mut Trainer<T::Network>,
    plan: &Plan,
    folder: &RunFolder,
    watcher: &mut dyn Watcher,
    replicas: Option<&Replicas<'_, T>>,
) -> Result<Ended, TrainError> {
    let first_step = trainer.progress.step;
    thread::scope(|scope| {
        let (send, receive) = sync_channel(AHEAD);
        scope.spawn(move || {
            for step in first_step.. {
                let batch = batches.make(step);
                let failed = batch.is_err();
                // Nobody listens any more when the session is over.
                if send.send(batch).is_err() || failed {
                    break;
                }
            }
        });
        let others = Others::begin(scope, replicas, || trainer.checkpoint())?;
        let mut session = Session::new(task, trainer, plan, folder, watcher, others);
        session.run(&receive)
    })
}

struct Session<'a, T: Task> {
    task: &'a T,
    trainer: &'a mut Trainer<T::Network>,
    plan: &'a Plan,
    folder: &'a RunFolder,
    watcher: &'a mut dyn Watcher,
    others: Others<T::Batch>,
    curves: Curves,
    names: Vec<&'static str>,
    first_step: u64,
    trained_before: Duration,
    started: Instant,
    /// Time in this session that is no training: sheets and checkpoints.
    paused: Duration,
    /// Numbers of the steps that were not read yet.
    pending: Vec<Tensor<1>>,
    last_look: Instant,
    last_curves: Instant,
    last_checkpoint: Instant,
    last_sheet: Instant,
    factor: f64,
}

impl<'a, T: Task> Session<'a, T> {
    fn new(
        task: &'a T,
        trainer: &'a mut Trainer<T::Network>,
        plan: &'a Plan,
        folder: &'a RunFolder,
        watcher: &'a mut dyn Watcher,
        others: Others<T::Batch>,
    ) -> Self {
        let names: Vec<&str> = std::iter::once(LOSS).chain(task.numbers().iter().copied()).chain(COMMON).collect();
        let now = Instant::now();
        Self {
            curves: Curves::new(&names).continued(&folder.curves_csv(), trainer.progress.step),
            first_step: trainer.progress.step,
            trained_before: trainer.trained(),
            started: now,
            paused: Duration::ZERO,
            pending: Vec::new(),
            last_look: now,
            last_curves: now,
            last_checkpoint: now,
            last_sheet: now,
            factor: 0.0,
            task,
            trainer,
            plan,
            folder,
            watcher,
            others,
            names,
        }
    }

    fn in_session(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.paused)
    }

    fn run(&mut self, batches: &Receiver<Result<Vec<T::Batch>, TrainError>>) -> Result<Ended, TrainError> {
        let ended = loop {
            let (step, in_session) = (self.trainer.progress.step, self.in_session());
            if self.plan.length.is_over(step, self.trained_before, in_session) {
                break Ended::Done;
            }
            if self.watcher.stops() {
                break Ended::Stopped;
            }
            let batch = batches.recv().map_err(|_| device_failed(step, "the thread that makes batches ended"))??;
            let share = self.plan.length.share(step, self.trained_before, in_session);
            self.factor = self.plan.schedule.factor(step, share);
            self.step(step, batch)?;
            let done = self.trainer.progress.step;
            if done.is_multiple_of(BLOCK) {
                self.look()?;
                if !self.trainer.progress.loss_scale.end_block() {
                    return Err(TrainError::Diverged { step: done, what: "every gradient of the last steps".into() });
                }
            } else if self.last_look.elapsed() > LOOK_EVERY {
                self.look()?;
            }
            self.now_and_then()?;
        };
        self.look()?;
        self.keep(true)?;
        Ok(ended)
    }

    fn step(&mut self, step: u64, batch: Vec<T::Batch>) -> Result<(), TrainError> {
        let (task, trainer, factor, others) = (self.task, &mut *self.trainer, self.factor, &self.others);
        let share = others.deal(batch, factor, &trainer.progress.loss_scale);
        let run = AssertUnwindSafe(|| trainer.step(share, factor, |network, part| task.loss(network, part), others));
        // burn's operations return no errors: a device that fails, or has no memory left, panics.
        let numbers = catch_unwind(run).map_err(|panic| device_failed(step, &words(panic.as_ref())))?;
        // Other devices do not always know the step in which they failed.
        let numbers = numbers.map_err(|error| match error {
            TrainError::DeviceFailed { reason, .. } => TrainError::DeviceFailed { step, reason },
            other => other,
        })?;
        self.pending.push(numbers);
        Ok(())
    }

    /// Reads the numbers of the steps since the last look.
    fn look(&mut self) -> Result<(), TrainError> {
        let steps = self.pending.len();
        if steps == 0 {
            return Ok(());
        }
        let step = self.trainer.progress.step;
        let pending = std::mem::take(&mut self.pending);
        let read = catch_unwind(AssertUnwindSafe(|| Tensor::cat(pending, 0).try_into_vec_as::<f32>()));
        let values = read.map_err(|panic| device_failed(step, &words(panic.as_ref())))?;
        let values = values.map_err(|error| device_failed(step, &error.to_string()))?;
        let columns = values.len() / steps;
        let mean = |column: usize| {
            let finite = values.iter().skip(column).step_by(columns).copied().filter(|value| value.is_finite());
            let (sum, count) = finite.fold((0.0, 0usize), |(sum, count), value| (sum + f64::from(value), count + 1));
            if count == 0 { f64::NAN } else { sum / count as f64 }
        };
        let skipped = values.iter().skip(columns - 1).step_by(columns).filter(|&&value| value > 0.0).count();
        self.trainer.progress.loss_scale.see(skipped as u64);
        let means: Vec<f64> = (0..columns - 1).map(mean).collect();
        let of_task = columns - OWN_NUMBERS;
        let is_scaled = self.trainer.progress.loss_scale.is_dynamic();
        if let Some(bad) = (0..of_task).find(|&column| {
            let mut losses = values.iter().skip(column).step_by(columns);
            if is_scaled { losses.all(|value| !value.is_finite()) } else { losses.any(|value| !value.is_finite()) }
        }) {
            return Err(TrainError::Diverged { step, what: format!("the number {}", self.names[bad]) });
        }
        self.trainer.progress.trained_seconds = (self.trained_before + self.in_session()).as_secs_f64();
        let seconds = self.last_look.elapsed().as_secs_f64();
        let samples_per_second = (steps * self.task.samples_a_step()) as f64 / seconds.max(1e-9);
        let mut numbers = means;
        numbers.extend([self.factor, samples_per_second, self.trainer.progress.loss_scale.value()]);
        let share = self.plan.length.session_share(self.first_step, step, self.trained_before, self.in_session());
        let left = (share > 0.01)
            .then(|| Duration::try_from_secs_f64(self.in_session().as_secs_f64() * (1.0 - share) / share).ok())
            .flatten();
        let named = self.names.iter().copied().zip(numbers.iter().copied()).collect();
        self.watcher.report(&Report { step, share, samples_per_second, left, numbers: named });
        let samples = step * self.task.samples_a_step() as u64;
        self.curves.push(Row { step, seconds: self.trainer.progress.trained_seconds, samples, numbers });
        self.last_look = Instant::now();
        Ok(())
    }

    /// Curves, sheets and checkpoints whose time has come.
    fn now_and_then(&mut self) -> Result<(), TrainError> {
        if self.plan.sheet_every.is_some_and(|every| self.last_sheet.elapsed() > every) {
            self.look()?;
            let begun = Instant::now();
            let (task, path, step) = (self.task, self.folder.sheet(self.trainer.progress.step), self.trainer.progress.step);
            let network = self.trainer.averaged();
            let drawn = catch_unwind(AssertUnwindSafe(|| task.sheet(&network, &path)));
            drawn.map_err(|panic| device_failed(step, &words(panic.as_ref())))??;
            self.last_sheet = Instant::now();
            self.pause_since(begun);
        }
        if self.last_checkpoint.elapsed() > self.plan.checkpoint_every {
            self.look()?;
            let begun = Instant::now();
            self.keep(false)?;
            self.pause_since(begun);
        } else if self.last_curves.elapsed() > CURVES_EVERY {
            self.write_curves()?;
        }
        Ok(())
    }

    fn pause_since(&mut self, begun: Instant) {
        self.paused += begun.elapsed();
        self.last_look = Instant::now();
    }

    fn write_curves(&mut self) -> Result<(), TrainError> {
        self.last_curves = Instant::now();
        self.curves.write(&self.folder.curves_csv(), &self.folder.curves_png())
    }

    /// Writes the checkpoint; at the end of a session also the packed one and the published network.
    fn keep(&mut self, is_end: bool) -> Result<(), TrainError> {
        let checkpoint = self.trainer.checkpoint()?;
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        if !finite(&checkpoint.vectors.master) {
            let step = self.trainer.progress.step;
            return Err(TrainError::Diverged { step, what: "a parameter".into() });
        }
        file::write(&self.folder.checkpoint(), &checkpoint)?;
        self.write_curves()?;
        if is_end {
            packed::write(&self.folder.packed(), &checkpoint)?;
            self.task.publish(self.trainer, self.folder)?;
        } else {
            self.others.set_state(checkpoint.clone());
        }
        self.last_checkpoint = Instant::now();
        self.watcher.note(&format!("checkpoint of step {} written", checkpoint.progress.step));
        Ok(())
    }
}

fn device_failed(step: u64, reason: &str) -> TrainError {
    TrainError::DeviceFailed { step, reason: reason.to_owned() }
}

/// What a panic says.
pub(super) fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let text = text.or_else(|| panic.downcast_ref::<crate::gpu::kernels::KernelError>().map(ToString::to_string));
    text.unwrap_or_else(|| "it gave no reason".into())
}
