//! What every training begins with: the model that it is like, its folder, where to go on, the device; and the encoded clips.
//!
//! Whoever starts a training, a command or the studio, says what it wants in settings and follows it as a
//! [`Watcher`](super::run::Watcher).

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::checkpoint::{Checkpoint, file, packed};
use super::data::clip_folder::OwnClip;
use super::data::encoding::{Encoder, encode_clips, encode_world};
use super::data::latents::{Latents, LatentsOf};
use super::data::mix::{Also, Mix};
use super::error::TrainError;
use super::folder::RunFolder;
use super::kernels::check_kernels;
use super::replicas::{MakeReplica, Replicas};
use super::run::{Batches, Ended, Plan, Task, Watcher, train};
use super::template::{Template, load_vae};
use super::trainer::Trainer;
use crate::gpu::device::ComputeDevice;
use crate::model::latent::ClipSize;
use crate::world::seeds;

/// A training that was looked at, and of which nothing was made or changed yet.
pub struct Start {
    pub template: Template,
    pub folder: RunFolder,
    /// Of a clip.
    pub size: ClipSize,
    /// Where to go on, and the file or folder that it was in.
    checkpoint: Option<(Checkpoint, PathBuf)>,
}

impl Start {
    /// Looks for a checkpoint of a training of this `kind` in the folder of a model.
    ///
    /// # Errors
    /// There is none although the training is to go on (`resume`), or one although it is not, or it is damaged.
    pub fn look(template: Template, size: ClipSize, root: &Path, kind: &'static str, resume: bool) -> Result<Self, TrainError> {
        let folder = RunFolder::new(root, kind);
        let checkpoint = found(&folder, resume)?;
        Ok(Self { template, folder, size, checkpoint })
    }

    /// Tests the kernels of training on the devices; the first of them leads, the others share its work.
    ///
    /// # Errors
    /// A kernel computes wrongly on one.
    pub fn on<'a>(
        self,
        device: ComputeDevice,
        others: Vec<ComputeDevice>,
        watcher: &'a mut (dyn Watcher + 'a),
    ) -> Result<Setup<'a>, TrainError> {
        let Self { template, folder, size, checkpoint } = self;
        for device in std::iter::once(&device).chain(&others) {
            check_kernels(device)?;
        }
        Ok(Setup { device, others, template: Arc::new(template), folder, size, checkpoint, watcher })
    }
}

/// A training that begins.
pub struct Setup<'a> {
    /// The device that leads.
    pub device: ComputeDevice,
    /// Those that share its work.
    pub others: Vec<ComputeDevice>,
    pub template: Arc<Template>,
    pub folder: RunFolder,
    /// Of a clip.
    pub size: ClipSize,
    checkpoint: Option<(Checkpoint, PathBuf)>,
    pub watcher: &'a mut (dyn Watcher + 'a),
}

/// What came of a session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    pub ended: Ended,
    /// Steps of all sessions.
    pub step: u64,
    /// Of this session.
    pub seconds: f64,
}

/// What the transformer learns from.
#[derive(Clone)]
pub enum Learnt<'a> {
    /// So many clips of the world.
    World(usize),
    /// A person's own, and what identifies them.
    Own(&'a [OwnClip], String),
}

/// Of the world's clips, so many times fewer are encoded at another length: few steps learn from them. Longer ones take longer
/// and more memory, shorter ones less.
const FEWER_LONGER: usize = 8;
const FEWER_SHORTER: usize = 4;

impl Learnt<'_> {
    /// What is learnt from at a length.
    pub fn at(&self, frames: usize, usual: usize) -> Self {
        let fewer = match frames.cmp(&usual) {
            Ordering::Less => FEWER_SHORTER,
            Ordering::Equal => 1,
            Ordering::Greater => FEWER_LONGER,
        };
        match self {
            Self::World(clips) => Self::World((clips / fewer).max(1)),
            own @ Self::Own(..) => own.clone(),
        }
    }
}

/// Which clips latents of the world are of.
pub fn source_of(ClipSize { frames, width, height }: ClipSize) -> String {
    format!("world {} {frames}x{width}x{height}", seeds::TRANSFORMER)
}

impl Setup<'_> {
    /// Resumes if that is wanted, and trains. `make` is how the other devices get what this one has.
    ///
    /// # Errors
    /// The checkpoint is of another training; those of [`train`].
    pub fn run<T: Task, B: Batches<Batch = T::Batch>>(
        &mut self,
        task: &T,
        batches: &B,
        trainer: &mut Trainer<T::Network>,
        plan: &Plan,
        make: &MakeReplica<'_, T>,
    ) -> Result<Outcome, TrainError> {
        if let Some((checkpoint, path)) = self.checkpoint.take() {
            checkpoint.check(trainer.identity(), &path)?;
            self.watcher.note(&format!("goes on from {}", path.display()));
            trainer.resume(checkpoint);
        }
        let begun = Instant::now();
        self.watcher.note(&format!("{} parameters, from step {}", trainer.parameters().count(), trainer.progress.step));
        let replicas = (!self.others.is_empty()).then(|| Replicas { devices: &self.others, make });
        let ended = train(task, batches, trainer, plan, &self.folder, self.watcher, replicas.as_ref())?;
        Ok(Outcome { ended, step: trainer.progress.step, seconds: begun.elapsed().as_secs_f64() })
    }

    /// The encoded clips of a size, from the run's folder if they are there. None if it was stopped.
    pub fn latents(&mut self, learnt: Learnt<'_>, size: ClipSize) -> Result<Option<Latents>, TrainError> {
        let (vae, config, encoder) = load_vae(&self.folder, &self.device)?;
        let shape = size.latent_shape(config.embed_dim);
        let ClipSize { frames, width, height } = size;
        let (source, clips) = match &learnt {
            Learnt::World(clips) => (source_of(size), *clips),
            Learnt::Own(own, identity) => (format!("clips {identity} {frames}x{width}x{height}"), own.len()),
        };
        let of = LatentsOf { vae: encoder, source, clips, shape };
        let path = path_of_latents(&self.folder, frames, self.size.frames);
        if let Some(latents) = Latents::read(&path, &of)? {
            return Ok(Some(latents));
        }
        let mut encoders = vec![Encoder { vae, device: self.device.clone() }];
        for device in &self.others {
            encoders.push(Encoder { vae: load_vae(&self.folder, device)?.0, device: device.clone() });
        }
        let made = match learnt {
            Learnt::World(_) => encode_world(&encoders, of, seeds::TRANSFORMER, size, self.watcher)?,
            Learnt::Own(own, _) => encode_clips(&encoders, of, own, size, self.watcher)?,
        };
        if let Some(latents) = &made {
            latents.write(&path)?;
        }
        Ok(made)
    }

    /// What there is to learn from at every length. None if it was stopped.
    pub fn mix<T>(&mut self, also: &Also, clips_of: ClipsOf<'_, T>) -> Result<Option<Mix<T>>, TrainError> {
        let usual = self.size;
        let Some(clips) = clips_of(self, usual)? else { return Ok(None) };
        let mut mix = Mix::of_one(usual.latent_frames(), clips);
        for &(frames, share) in &also.0 {
            let size = ClipSize { frames, ..usual };
            let Some(clips) = clips_of(self, size)? else { return Ok(None) };
            mix.add(share, size.latent_frames(), clips);
        }
        Ok(Some(mix))
    }
}

/// Gives what there is to learn from in clips of a size; None if it was stopped.
pub type ClipsOf<'a, T> = &'a dyn Fn(&mut Setup<'_>, ClipSize) -> Result<Option<T>, TrainError>;

/// Where encoded clips of a number of frames are kept.
pub fn path_of_latents(folder: &RunFolder, frames: usize, usual: usize) -> PathBuf {
    if frames == usual { folder.latents() } else { folder.latents_of_length(frames) }
}

/// The exact checkpoint, else the packed one, if a run is to go on.
fn found(folder: &RunFolder, wanted: bool) -> Result<Option<(Checkpoint, PathBuf)>, TrainError> {
    let (exact, small) = (folder.checkpoint(), folder.packed());
    let (checkpoint, path) = if exact.is_file() {
        (file::read(&exact), exact)
    } else if packed::is_there(&small) {
        (packed::read(&small), small)
    } else if wanted {
        return Err(TrainError::NoCheckpoint { path: folder.root().to_owned() });
    } else {
        return Ok(None);
    };
    let checkpoint = checkpoint?;
    if wanted {
        Ok(Some((checkpoint, path)))
    } else {
        Err(TrainError::Occupied { path: folder.root().to_owned(), step: checkpoint.progress.step })
    }
}
