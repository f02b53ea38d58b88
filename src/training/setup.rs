//! What every training begins with: the model that it is like, its folder, where to go on, the device; and the encoded clips.
//!
//! Whoever starts a training, a command or the studio, says what it wants in settings and follows it as a
//! [`Watcher`](super::run::Watcher).

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::checkpoint::{Checkpoint, file, packed};
use super::data::clip_folder::OwnClip;
use super::data::encoding::{encode_clips, encode_world};
use super::data::latents::{Latents, LatentsOf};
use super::error::TrainError;
use super::folder::RunFolder;
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

    pub fn on<'a>(self, device: ComputeDevice, watcher: &'a mut (dyn Watcher + 'a)) -> Setup<'a> {
        let Self { template, folder, size, checkpoint } = self;
        Setup { device, template, folder, size, checkpoint, watcher }
    }
}

/// A training that begins.
pub struct Setup<'a> {
    pub device: ComputeDevice,
    pub template: Template,
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

/// What a transformer learns from.
pub enum Learnt<'a> {
    /// So many clips of the world.
    World(usize),
    /// A person's own, and what identifies them.
    Own(&'a [OwnClip], String),
}

/// Which clips latents of the world are of.
pub fn source_of(ClipSize { frames, width, height }: ClipSize) -> String {
    format!("world {} {frames}x{width}x{height}", seeds::TRANSFORMER)
}

impl Setup<'_> {
    /// Resumes if that is wanted, and trains.
    ///
    /// # Errors
    /// The checkpoint is of another training; those of [`train`].
    pub fn run<T: Task, B: Batches<Batch = T::Batch>>(
        &mut self,
        task: &T,
        batches: &B,
        trainer: &mut Trainer<T::Network>,
        plan: &Plan,
    ) -> Result<Outcome, TrainError> {
        if let Some((checkpoint, path)) = self.checkpoint.take() {
            checkpoint.check(trainer.identity(), &path)?;
            self.watcher.note(&format!("goes on from {}", path.display()));
            trainer.resume(checkpoint);
        }
        let begun = Instant::now();
        self.watcher.note(&format!("{} parameters, from step {}", trainer.parameters().count(), trainer.progress.step));
        let ended = train(task, batches, trainer, plan, &self.folder, self.watcher)?;
        Ok(Outcome { ended, step: trainer.progress.step, seconds: begun.elapsed().as_secs_f64() })
    }

    /// The encoded clips, from the run's folder if they are there. None if it was stopped.
    ///
    /// # Errors
    /// There is no VAE, a clip cannot be read, the device failed, or the file cannot be read or written.
    pub fn latents(&mut self, learnt: Learnt<'_>) -> Result<Option<Latents>, TrainError> {
        let (vae, config, hash) = load_vae(&self.folder, &self.device)?;
        let shape = self.size.latent_shape(config.embed_dim);
        let ClipSize { frames, width, height } = self.size;
        let (source, clips) = match &learnt {
            Learnt::World(clips) => (source_of(self.size), *clips),
            Learnt::Own(own, identity) => (format!("clips {identity} {frames}x{width}x{height}"), own.len()),
        };
        let of = LatentsOf { vae: hash, source, clips, shape };
        let path = self.folder.latents();
        if let Some(latents) = Latents::read(&path, &of)? {
            return Ok(Some(latents));
        }
        let made = match learnt {
            Learnt::World(_) => encode_world(&vae, of, seeds::TRANSFORMER, self.size, &self.device, self.watcher)?,
            Learnt::Own(own, _) => encode_clips(&vae, of, own, self.size, &self.device, self.watcher)?,
        };
        if let Some(latents) = &made {
            latents.write(&path)?;
        }
        Ok(made)
    }
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
