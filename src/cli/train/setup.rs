//! From flags to a running training: opens the device and the model that it is like, prepares the data, resumes.

use std::cmp::Ordering;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Tensor;

use super::watch::Terminal;
use super::{Also, BaseArguments, RunArguments, SessionArguments, UsageError, VaeArguments};
use crate::gpu::device::ComputeDevice;
use crate::model::latent::ClipSize;
use crate::studio::words::duration;
use crate::training::checkpoint::{Checkpoint, file, packed};
use crate::training::data::clip_folder::{OwnClip, list};
use crate::training::data::encoding::{Encoder, encode_clips, encode_world, pool_through_vae};
use crate::training::data::latents::{Latents, LatentsOf};
use crate::training::data::mix::Mix;
use crate::training::folder::RunFolder;
use crate::training::pretrain::{base, judge, samples, vae};
use crate::training::random::Random;
use crate::training::replicas::{MakeReplica, Replicas};
use crate::training::run::{Batches, Ended, Plan, Task, Watcher, train};
use crate::training::template::{Template, load_vae};
use crate::training::trainer::Trainer;
use crate::training::{TrainError, check_kernels};
use crate::world::seeds;

/// Clips of the judge's pool for every sample of a batch; the pool lies in the device's memory.
const POOL_CLIPS_A_SAMPLE: usize = 6;

/// What every training begins with.
pub struct Setup {
    /// The device that leads.
    pub device: ComputeDevice,
    /// Those that share its work.
    pub others: Vec<ComputeDevice>,
    pub template: Arc<Template>,
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
        let (device, others) = session.open_devices()?;
        super::super::catch_interrupts();
        let mut watcher = Terminal::new(session.quiet);
        for device in std::iter::once(&device).chain(&others) {
            watcher.note(&format!("{}, {}, {} kernels", device.name, device.precision, device.tier.name()));
            check_kernels(device)?;
        }
        Ok(Self { device, others, template: Arc::new(template), folder, size, checkpoint, watcher })
    }

    /// Resumes if that is wanted, trains, and says what came of it. `make` is how the other devices get what this one has.
    pub fn run<T: Task, B: Batches<Batch = T::Batch>>(
        &mut self,
        task: &T,
        batches: &B,
        trainer: &mut Trainer<T::Network>,
        plan: &Plan,
        make: &MakeReplica<'_, T>,
    ) -> anyhow::Result<Ended> {
        if let Some((checkpoint, path)) = self.checkpoint.take() {
            checkpoint.check(trainer.identity(), &path)?;
            self.watcher.note(&format!("goes on from {}", path.display()));
            trainer.resume(checkpoint);
        }
        let begun = Instant::now();
        self.watcher.note(&format!("{} parameters, from step {}", trainer.parameters().count(), trainer.progress.step));
        let replicas = (!self.others.is_empty()).then(|| Replicas { devices: &self.others, make });
        let ended = train(task, batches, trainer, plan, &self.folder, &mut self.watcher, replicas.as_ref());
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
    let VaeArguments { run, squares, fine_tune, freeze_encoder } = arguments;
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
    let (settings, seed, clip_frames) = (run.optimiser(vae::OPTIMISER), session.seed, setup.size.frames);
    let make = |device: &ComputeDevice| {
        let (trainer, frozen) = match &weights {
            Some(weights) if *freeze_encoder => {
                let frozen = vae::FrozenEncoder::load(&config, &json, weights, device)?;
                (vae::decoder_trainer(&config, weights, &frozen, settings, seed, device), Some(frozen))
            }
            weights => (vae::trainer(&config, weights.as_ref(), settings, seed, device), None),
        };
        let mut task = vae::VaeTask::new(config.clone(), json.clone(), batch, size, clip_frames, device);
        (task.squares, task.frozen) = (*squares, frozen);
        Ok((task, trainer?))
    };
    let (task, mut trainer) = make(&setup.device)?;
    setup.run(&task, &data, &mut trainer, &plan, &make)
}

pub fn base(arguments: &BaseArguments) -> anyhow::Result<Ended> {
    let BaseArguments { run, world_clips, clips, fine_tune, also } = arguments;
    let session = &run.session;
    let plan = session.plan(base::SCHEDULE)?;
    let mut setup = Setup::new(run, base::TRANSFORMER)?;
    // A person's own clips may be too short for other lengths.
    let standard = if clips.is_some() { Also::default() } else { Also::of_world(setup.size.frames) };
    let also = also.clone().unwrap_or(standard);
    also.check(setup.size.frames)?;
    let configs = setup.template.base_configs()?;
    if setup.template.lend_vae(&setup.folder)? {
        setup.watcher.note("the VAE is that of the model that this one is like");
    }
    setup.template.write_texts(&setup.folder, setup.size, also.with(setup.size.frames))?;
    let (own, identity) = match clips {
        Some(folder) => list(folder)?,
        None => Default::default(),
    };
    let learnt = if own.is_empty() { Learnt::World(*world_clips as usize) } else { Learnt::Own(&own, identity) };
    let usual = setup.size.frames;
    let clips_of = |setup: &mut Setup, size: ClipSize| latents(setup, learnt.at(size.frames, usual), size);
    let Some(mix) = mix(&mut setup, &also, &clips_of)? else { return Ok(Ended::Stopped) };
    let [batch, part] = session.batch_and_part(base::BATCH);
    let data = base::BaseData {
        mix,
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
    let (seed, samples) = (session.seed, data.mix.samples_a_step([batch, part]));
    let make = |device: &ComputeDevice| {
        let trainer = base::trainer(&configs, &start, settings, seed, device)?;
        Ok((base::BaseTask::new(configs.clone(), samples, device), trainer))
    };
    let (mut task, mut trainer) = make(&setup.device)?;
    if plan.sheet_every.is_some() {
        let (vae, ..) = load_vae(&setup.folder, &setup.device)?;
        let (tokenizer, tokens) = (setup.template.tokenizer()?, setup.template.max_tokens());
        task.sheet = Some(samples::sheets(vae, tokenizer, tokens, setup.size, &setup.device));
    }
    setup.run(&task, &data, &mut trainer, &plan, &make)
}

/// What the transformer learns from.
#[derive(Clone)]
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

/// What there is to learn from at every length. None if it was stopped.
pub fn mix<T>(setup: &mut Setup, also: &Also, clips_of: ClipsOf<'_, T>) -> Result<Option<Mix<T>>, TrainError> {
    let usual = setup.size;
    let Some(clips) = clips_of(setup, usual)? else { return Ok(None) };
    let mut mix = Mix::of_one(usual.latent_frames(), clips);
    for &(frames, share) in &also.0 {
        let size = ClipSize { frames, ..usual };
        let Some(clips) = clips_of(setup, size)? else { return Ok(None) };
        mix.add(share, size.latent_frames(), clips);
    }
    Ok(Some(mix))
}

/// Gives what there is to learn from in clips of a size; None if it was stopped.
type ClipsOf<'a, T> = &'a dyn Fn(&mut Setup, ClipSize) -> Result<Option<T>, TrainError>;

/// Where encoded clips of a number of frames are kept.
pub fn path_of_latents(folder: &RunFolder, frames: usize, usual: usize) -> PathBuf {
    if frames == usual { folder.latents() } else { folder.latents_of_length(frames) }
}

/// The encoded clips of a size, from the run's folder if they are there. None if it was stopped.
pub fn latents(setup: &mut Setup, learnt: Learnt<'_>, size: ClipSize) -> Result<Option<Latents>, TrainError> {
    let (vae, config, encoder) = load_vae(&setup.folder, &setup.device)?;
    let shape = size.latent_shape(config.embed_dim);
    let ClipSize { frames, width, height } = size;
    let (source, clips) = match &learnt {
        Learnt::World(clips) => (source_of(size), *clips),
        Learnt::Own(own, identity) => (format!("clips {identity} {frames}x{width}x{height}"), own.len()),
    };
    let of = LatentsOf { vae: encoder, source, clips, shape };
    let path = path_of_latents(&setup.folder, frames, setup.size.frames);
    if let Some(latents) = Latents::read(&path, &of)? {
        return Ok(Some(latents));
    }
    let mut encoders = vec![Encoder { vae, device: setup.device.clone() }];
    for device in &setup.others {
        encoders.push(Encoder { vae: load_vae(&setup.folder, device)?.0, device: device.clone() });
    }
    let watcher = &mut setup.watcher;
    let made = match learnt {
        Learnt::World(_) => encode_world(&encoders, of, seeds::TRANSFORMER, size, watcher)?,
        Learnt::Own(own, _) => encode_clips(&encoders, of, own, size, watcher)?,
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
    if session.devices.len() > 1 {
        // It learns from statistics of the whole batch, which no device alone has.
        return Err(UsageError("The judge learns on one device. Use --device instead of --devices.".into()).into());
    }
    let [batch, _] = session.batch_and_part(judge::BATCH);
    let pool_clips = POOL_CLIPS_A_SAMPLE * batch;
    let has_vae = setup.folder.network(vae::VAE).is_dir();
    if !has_vae {
        setup.watcher.note("there is no VAE in the folder: the judge sees rendered clips alone");
    }
    let data = judge::JudgeData {
        batch,
        frames: setup.size.frames,
        pool: if has_vae { pool_clips } else { 0 },
        random: Random::new(session.seed),
    };
    let (settings, seed, size) = (arguments.optimiser(judge::OPTIMISER), session.seed, setup.size);
    let (folder, of_task) = (setup.folder.clone(), data.clone());
    let make = |device: &ComputeDevice| {
        let pool: Option<Tensor<2>> = if has_vae {
            let (vae, ..) = load_vae(&folder, device)?;
            Some(pool_through_vae(&vae, pool_clips, size, device))
        } else {
            None
        };
        let trainer = judge::trainer(&config, settings, seed, device)?;
        Ok((judge::JudgeTask::new(config.clone(), of_task.clone(), size, pool, device), trainer))
    };
    let (task, mut trainer) = make(&setup.device)?;
    setup.run(&task, &data, &mut trainer, &plan, &make)
}
