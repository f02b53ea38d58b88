//! From flags to a running training: opens the device and the model that it is like, prepares the data, resumes.

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::Tensor;

use super::watch::Terminal;
use super::{BaseArguments, RunArguments, SessionArguments, UsageError, VaeArguments};
use crate::gpu::device::ComputeDevice;
use crate::model::latent::ClipSize;
use crate::studio::words::duration;
use crate::training::checkpoint::{Checkpoint, file, packed};
use crate::training::data::clip_folder::{OwnClip, list};
use crate::training::data::encoding::{encode_clips, encode_world, pool_through_vae};
use crate::training::data::latents::{Latents, LatentsOf};
use crate::training::folder::RunFolder;
use crate::training::pretrain::{base, judge, samples, vae};
use crate::training::random::Random;
use crate::training::run::{Batches, Ended, Plan, Task, Watcher, train};
use crate::training::template::{Template, load_vae};
use crate::training::trainer::Trainer;
use crate::training::{TrainError, check_kernels};
use crate::world::seeds;

/// Clips of the judge's pool for every sample of a batch; the pool lies in the device's memory.
const POOL_CLIPS_A_SAMPLE: usize = 6;

/// What every training begins with.
pub struct Setup {
    pub device: ComputeDevice,
    pub template: Template,
    pub folder: RunFolder,
    /// Of a clip.
    pub size: ClipSize,
    /// Where to go on, and the file or folder that it was in.
    checkpoint: Option<(Checkpoint, PathBuf)>,
    pub watcher: Terminal,
}

impl Setup {
    fn new(arguments: &RunArguments, kind: &'static str) -> anyhow::Result<Self> {
        let template = Template::open(&arguments.like)?;
        let mut size = template.size();
        if let Some(frames) = arguments.frames {
            size.frames = frames;
        }
        if let Some(text) = &arguments.size {
            let sides = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
            (size.width, size.height) = sides
                .ok_or_else(|| UsageError(format!("The size {text} is not understood. Use WIDTHxHEIGHT, such as 256x144.")))?;
        }
        size.check().map_err(|error| UsageError(error.to_string()))?;
        Self::begin(&arguments.session, template, size, kind)
    }

    /// Looks for a checkpoint and opens the device; from here on Ctrl-C ends the training with a checkpoint.
    pub fn begin(session: &SessionArguments, template: Template, size: ClipSize, kind: &'static str) -> anyhow::Result<Self> {
        let folder = RunFolder::new(&session.out, kind);
        // Before anything is made or changed.
        let checkpoint = found(&folder, session.resume)?;
        let device = session.device.open()?;
        super::super::catch_interrupts();
        let mut watcher = Terminal::new(session.quiet);
        watcher.note(&format!("{}, {}, {} kernels", device.name, device.precision, device.tier.name()));
        check_kernels(&device)?;
        Ok(Self { device, template, folder, size, checkpoint, watcher })
    }

    /// Resumes if that is wanted, trains, and says what came of it.
    pub fn run<T: Task, B: Batches<Batch = T::Batch>>(
        &mut self,
        task: &T,
        batches: &B,
        trainer: &mut Trainer<T::Network>,
        plan: &Plan,
    ) -> anyhow::Result<Ended> {
        if let Some((checkpoint, path)) = self.checkpoint.take() {
            checkpoint.check(trainer.identity(), &path)?;
            self.watcher.note(&format!("goes on from {}", path.display()));
            trainer.resume(checkpoint);
        }
        let begun = Instant::now();
        self.watcher.note(&format!("{} parameters, from step {}", trainer.parameters().count(), trainer.progress.step));
        let ended = train(task, batches, trainer, plan, &self.folder, &mut self.watcher);
        self.watcher.clear();
        let ended = ended?;
        let how = if ended == Ended::Stopped { "stopped" } else { "done" };
        let (step, seconds) = (trainer.progress.step, begun.elapsed().as_secs_f64());
        say!("{}: {how} at step {step} after {}", self.folder.root().display(), duration(seconds));
        Ok(ended)
    }
}

/// The exact checkpoint, else the packed one, if a run is to go on.
///
/// # Errors
/// There is none although it is wanted, or one although it is not, or it is damaged.
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

pub fn vae(arguments: &VaeArguments) -> anyhow::Result<Ended> {
    let VaeArguments { run, squares, fine_tune } = arguments;
    let session = &run.session;
    let plan = session.plan(vae::SCHEDULE)?;
    let mut setup = Setup::new(run, vae::VAE)?;
    let (config, json) = setup.template.vae_config()?;
    let [batch, part] = session.batch_and_part(vae::BATCH);
    let size = ClipSize { frames: vae::FRAMES.min(setup.size.frames), ..setup.size };
    let data = vae::VaeData {
        batch,
        part,
        size,
        clip_frames: setup.size.frames,
        latent_channels: config.embed_dim,
        random: Random::new(session.seed),
    };
    let weights = if *fine_tune { Some(setup.template.vae_weights()?) } else { None };
    let settings = run.optimiser(vae::OPTIMISER);
    let mut trainer = vae::trainer(&config, weights.as_ref(), settings, session.seed, &setup.device).map_err(TrainError::from)?;
    let mut task = vae::VaeTask::new(config, json, batch, size, setup.size.frames, &setup.device);
    task.squares = *squares;
    setup.run(&task, &data, &mut trainer, &plan)
}

pub fn base(arguments: &BaseArguments) -> anyhow::Result<Ended> {
    let BaseArguments { run, world_clips, clips, fine_tune } = arguments;
    let session = &run.session;
    let plan = session.plan(base::SCHEDULE)?;
    let mut setup = Setup::new(run, base::TRANSFORMER)?;
    let configs = setup.template.base_configs()?;
    if setup.template.lend_vae(&setup.folder)? {
        setup.watcher.note("the VAE is that of the model that this one is like");
    }
    setup.template.write_texts(&setup.folder, setup.size)?;
    let (own, identity) = match clips {
        Some(folder) => list(folder)?,
        None => Default::default(),
    };
    let learnt = if own.is_empty() { Learnt::World(*world_clips as usize) } else { Learnt::Own(&own, identity) };
    let Some(latents) = latents(&mut setup, learnt)? else { return Ok(Ended::Stopped) };
    let [batch, part] = session.batch_and_part(base::BATCH);
    let data = base::BaseData {
        latents,
        tokenizer: setup.template.tokenizer()?,
        max_tokens: setup.template.max_tokens(),
        batch,
        part,
        random: Random::new(session.seed),
        sentences: (!own.is_empty()).then(|| own.into_iter().map(|clip| clip.sentence).collect()),
    };
    let weights = if *fine_tune { Some(setup.template.base_weights()?) } else { None };
    let start = match &weights {
        Some([transformer, text_encoder]) => base::Start::Weights { transformer, text_encoder },
        None => base::Start::Recipe,
    };
    let settings = run.optimiser(base::OPTIMISER);
    let mut trainer = base::trainer(&configs, &start, settings, session.seed, &setup.device).map_err(TrainError::from)?;
    let mut task = base::BaseTask::new(configs, batch, setup.size.latent_frames(), &setup.device);
    if plan.sheet_every.is_some() {
        let (vae, ..) = load_vae(&setup.folder, &setup.device)?;
        let (tokenizer, tokens) = (setup.template.tokenizer()?, setup.template.max_tokens());
        task.sheet = Some(samples::sheets(vae, tokenizer, tokens, setup.size, &setup.device));
    }
    setup.run(&task, &data, &mut trainer, &plan)
}

/// What the transformer learns from.
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

/// The encoded clips, from the run's folder if they are there. None if it was stopped.
pub fn latents(setup: &mut Setup, learnt: Learnt<'_>) -> Result<Option<Latents>, TrainError> {
    let (vae, config, hash) = load_vae(&setup.folder, &setup.device)?;
    let shape = setup.size.latent_shape(config.embed_dim);
    let ClipSize { frames, width, height } = setup.size;
    let (source, clips) = match &learnt {
        Learnt::World(clips) => (source_of(setup.size), *clips),
        Learnt::Own(own, identity) => (format!("clips {identity} {frames}x{width}x{height}"), own.len()),
    };
    let of = LatentsOf { vae: hash, source, clips, shape };
    let path = setup.folder.latents();
    if let Some(latents) = Latents::read(&path, &of)? {
        return Ok(Some(latents));
    }
    let (size, device, watcher) = (setup.size, &setup.device, &mut setup.watcher);
    let made = match learnt {
        Learnt::World(_) => encode_world(&vae, of, seeds::TRANSFORMER, size, device, watcher)?,
        Learnt::Own(own, _) => encode_clips(&vae, of, own, size, device, watcher)?,
    };
    if let Some(latents) = &made {
        latents.write(&path)?;
    }
    Ok(made)
}

pub fn judge(arguments: &RunArguments) -> anyhow::Result<Ended> {
    let session = &arguments.session;
    let plan = session.plan(judge::SCHEDULE)?;
    let mut setup = Setup::new(arguments, judge::JUDGE)?;
    let config = judge::config(setup.size.frames);
    let [batch, _] = session.batch_and_part(judge::BATCH);
    let pool_clips = POOL_CLIPS_A_SAMPLE * batch;
    let pool: Option<Tensor<2>> = if setup.folder.network(vae::VAE).is_dir() {
        let (vae, ..) = load_vae(&setup.folder, &setup.device)?;
        Some(pool_through_vae(&vae, pool_clips, setup.size, &setup.device))
    } else {
        setup.watcher.note("there is no VAE in the folder: the judge sees rendered clips alone");
        None
    };
    let data = judge::JudgeData {
        batch,
        frames: setup.size.frames,
        pool: if pool.is_some() { pool_clips } else { 0 },
        random: Random::new(session.seed),
    };
    let mut trainer =
        judge::trainer(&config, arguments.optimiser(judge::OPTIMISER), session.seed, &setup.device).map_err(TrainError::from)?;
    let task = judge::JudgeTask::new(config, data.clone(), setup.size, pool, &setup.device);
    setup.run(&task, &data, &mut trainer, &plan)
}
