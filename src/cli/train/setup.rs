//! From flags to a running training: opens the device and the model that it is like, prepares the data, resumes.

use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Tensor;

use super::watch::Terminal;
use super::{BaseArguments, RunArguments, SessionArguments, UsageError};
use crate::gpu::device::ComputeDevice;
use crate::model::latent::ClipSize;
use crate::studio::words::duration;
use crate::training::TrainError;
use crate::training::checkpoint::{file, packed};
use crate::training::data::encoding::{encode_world, pool_through_vae};
use crate::training::data::latents::{Latents, LatentsOf};
use crate::training::folder::RunFolder;
use crate::training::pretrain::{base, judge, samples, vae};
use crate::training::random::Random;
use crate::training::run::{Batches, Ended, Plan, Task, Watcher, train};
use crate::training::template::{Template, load_vae};
use crate::training::trainer::Trainer;
use crate::world::seeds;

/// Clips of the judge's pool, which lies in the device's memory.
const POOL_CLIPS: usize = 192;

/// What every training begins with.
pub struct Setup {
    pub device: ComputeDevice,
    pub template: Template,
    pub folder: RunFolder,
    /// Of a clip.
    pub size: ClipSize,
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

    /// Opens the device; from here on Ctrl-C ends the training with a checkpoint.
    pub fn begin(session: &SessionArguments, template: Template, size: ClipSize, kind: &'static str) -> anyhow::Result<Self> {
        let device = session.device.open()?;
        super::super::catch_interrupts();
        let mut watcher = Terminal::new(session.quiet);
        watcher.note(&format!("{}, {}, {} kernels", device.name, device.precision, device.tier.name()));
        Ok(Self { device, template, folder: RunFolder::new(&session.out, kind), size, watcher })
    }

    /// Resumes if that is wanted, trains, and says what came of it.
    pub fn run<T: Task, B: Batches<Batch = T::Batch>>(
        &mut self,
        session: &SessionArguments,
        task: &T,
        batches: &B,
        trainer: &mut Trainer<T::Network>,
        plan: &Plan,
    ) -> anyhow::Result<Ended> {
        resume(session.resume, trainer, &self.folder, &mut self.watcher)?;
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

/// Goes on from the exact checkpoint, else from the packed one.
fn resume<M: Module>(
    wanted: bool,
    trainer: &mut Trainer<M>,
    folder: &RunFolder,
    watcher: &mut dyn Watcher,
) -> Result<(), TrainError> {
    let (exact, small) = (folder.checkpoint(), folder.packed());
    let from: Option<&Path> = if exact.is_file() {
        Some(&exact)
    } else if packed::is_there(&small) {
        Some(&small)
    } else {
        None
    };
    let Some(path) = from else {
        return if wanted { Err(TrainError::NoCheckpoint { path: folder.root().to_owned() }) } else { Ok(()) };
    };
    let checkpoint = if path == exact { file::read(path)? } else { packed::read(path)? };
    if !wanted {
        return Err(TrainError::Occupied { path: folder.root().to_owned(), step: checkpoint.progress.step });
    }
    checkpoint.check(trainer.identity(), path)?;
    watcher.note(&format!("goes on from {}", path.display()));
    trainer.resume(checkpoint);
    Ok(())
}

pub fn vae(arguments: &RunArguments) -> anyhow::Result<Ended> {
    let session = &arguments.session;
    let plan = session.plan(vae::SCHEDULE)?;
    let mut setup = Setup::new(arguments, vae::VAE)?;
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
    let mut trainer =
        vae::trainer(&config, arguments.optimiser(vae::OPTIMISER), session.seed, &setup.device).map_err(TrainError::from)?;
    let task = vae::VaeTask::new(config, json, batch, size, setup.size.frames, &setup.device);
    setup.run(session, &task, &data, &mut trainer, &plan)
}

pub fn base(arguments: &BaseArguments) -> anyhow::Result<Ended> {
    let BaseArguments { run, clips } = arguments;
    let session = &run.session;
    let plan = session.plan(base::SCHEDULE)?;
    let mut setup = Setup::new(run, base::TRANSFORMER)?;
    let configs = setup.template.base_configs()?;
    if setup.template.lend_vae(&setup.folder)? {
        setup.watcher.note("the VAE is that of the model that this one is like");
    }
    setup.template.write_texts(&setup.folder)?;
    let Some(latents) = latents(&mut setup, *clips as usize)? else { return Ok(Ended::Stopped) };
    let [batch, part] = session.batch_and_part(base::BATCH);
    let data = base::BaseData {
        latents,
        tokenizer: setup.template.tokenizer()?,
        max_tokens: setup.template.max_tokens(),
        batch,
        part,
        random: Random::new(session.seed),
        sentences: None,
    };
    let mut trainer =
        base::trainer(&configs, run.optimiser(base::OPTIMISER), session.seed, &setup.device).map_err(TrainError::from)?;
    let mut task = base::BaseTask::new(configs, batch, setup.size.latent_frames(), &setup.device);
    if plan.sheet_every.is_some() {
        let (vae, ..) = load_vae(&setup.folder, &setup.device)?;
        let (tokenizer, tokens) = (setup.template.tokenizer()?, setup.template.max_tokens());
        task.sheet = Some(samples::sheets(vae, tokenizer, tokens, setup.size, &setup.device));
    }
    setup.run(session, &task, &data, &mut trainer, &plan)
}

/// Which clips latents of the world are of.
pub fn source_of(ClipSize { frames, width, height }: ClipSize) -> String {
    format!("world {} {frames}x{width}x{height}", seeds::TRANSFORMER)
}

/// The encoded clips, from the run's folder if they are there. None if it was stopped.
pub fn latents(setup: &mut Setup, clips: usize) -> Result<Option<Latents>, TrainError> {
    let (vae, config, hash) = load_vae(&setup.folder, &setup.device)?;
    let shape = setup.size.latent_shape(config.embed_dim);
    let of = LatentsOf { vae: hash, source: source_of(setup.size), clips, shape };
    let path = setup.folder.latents();
    if let Some(latents) = Latents::read(&path, &of)? {
        return Ok(Some(latents));
    }
    let made = encode_world(&vae, of, seeds::TRANSFORMER, setup.size, &setup.device, &mut setup.watcher)?;
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
    let pool: Option<Tensor<2>> = if setup.folder.network(vae::VAE).is_dir() {
        let (vae, ..) = load_vae(&setup.folder, &setup.device)?;
        Some(pool_through_vae(&vae, POOL_CLIPS, setup.size, &setup.device))
    } else {
        setup.watcher.note("there is no VAE in the folder: the judge sees rendered clips alone");
        None
    };
    let data = judge::JudgeData {
        batch: session.batch_and_part(judge::BATCH)[0],
        frames: setup.size.frames,
        pool: if pool.is_some() { POOL_CLIPS } else { 0 },
        random: Random::new(session.seed),
    };
    let mut trainer =
        judge::trainer(&config, arguments.optimiser(judge::OPTIMISER), session.seed, &setup.device).map_err(TrainError::from)?;
    let task = judge::JudgeTask::new(config, data.clone(), setup.size, pool, &setup.device);
    setup.run(session, &task, &data, &mut trainer, &plan)
}
