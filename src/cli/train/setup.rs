//! From flags to a running training: opens the device and the model that it is like, prepares the data.

use burn::tensor::Tensor;

use super::watch::Terminal;
use super::{BaseArguments, RunArguments, SessionArguments, UsageError, VaeArguments, told};
use crate::gpu::device::ComputeDevice;
use crate::model::latent::ClipSize;
use crate::training::data::clip_folder::list;
use crate::training::data::encoding::pool_through_vae;
use crate::training::data::mix::Also;
use crate::training::data::scenes::Scenes;
use crate::training::pretrain::{base, judge, samples, text, vae};
use crate::training::random::Random;
use crate::training::run::{Ended, Watcher};
use crate::training::setup::{Learnt, Setup, Start};
use crate::training::template::{Template, load_vae};
use crate::world::seeds;

/// Clips of the judge's pool for every sample of a batch; the pool lies in the device's memory.
const POOL_CLIPS_A_SAMPLE: usize = 6;

fn begin<'a>(arguments: &RunArguments, kind: &'static str, terminal: &'a mut Terminal) -> anyhow::Result<Setup<'a>> {
    let template = Template::open(&arguments.like)?;
    let mut size = template.size();
    if let Some(frames) = arguments.frames {
        size.frames = frames;
    }
    if let Some(text) = &arguments.size {
        let sides = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
        (size.width, size.height) =
            sides.ok_or_else(|| UsageError(format!("The size {text} is not understood. Use WIDTHxHEIGHT, such as 256x144.")))?;
    }
    size.check().map_err(|error| UsageError(error.to_string()))?;
    let session = &arguments.session;
    // Before anything is made or changed.
    let start = Start::look(template, size, &session.out, kind, session.resume)?;
    begin_session(session, start, terminal)
}

/// Opens the device; from here on Ctrl-C ends the training with a checkpoint.
pub fn begin_session<'a>(session: &SessionArguments, start: Start, terminal: &'a mut Terminal) -> anyhow::Result<Setup<'a>> {
    let (device, others) = session.device.open_each()?;
    super::super::catch_interrupts();
    for device in std::iter::once(&device).chain(&others) {
        terminal.note(&format!("{}, {}, {} kernels", device.name, device.precision, device.tier.name()));
    }
    Ok(start.on(device, others, terminal)?)
}

pub fn vae(arguments: &VaeArguments) -> anyhow::Result<Ended> {
    let VaeArguments { run, squares, halved, latent_noise, fine_tune, freeze_encoder } = arguments;
    let session = &run.session;
    let plan = session.plan(vae::SCHEDULE)?;
    let mut terminal = Terminal::new(session.quiet);
    let mut setup = begin(run, vae::VAE, &mut terminal)?;
    let (config, json) = setup.template.vae_config()?;
    let [batch, part] = session.batch_and_part(vae::BATCH);
    let size = ClipSize { frames: vae::FRAMES.min(setup.size.frames), ..setup.size };
    let data = vae::VaeData {
        batch,
        part,
        size,
        clip_frames: setup.size.frames,
        latent_channels: config.embed_dim,
        halved_share: *halved,
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
        (task.squares, task.latent_noise, task.frozen) = (*squares, *latent_noise, frozen);
        Ok((task, trainer?))
    };
    let (task, mut trainer) = make(&setup.device)?;
    let outcome = setup.run(&task, &data, &mut trainer, &plan, &make);
    told(&session.out, terminal, Some(outcome?))
}

pub fn text(arguments: &RunArguments) -> anyhow::Result<Ended> {
    let session = &arguments.session;
    let plan = session.plan(text::SCHEDULE)?;
    let mut terminal = Terminal::new(session.quiet);
    let mut setup = begin(arguments, text::KIND, &mut terminal)?;
    let configs = setup.template.base_configs()?;
    setup.template.write_tokenizer(&setup.folder)?;
    let [batch, part] = session.batch_and_part(text::BATCH);
    let data = text::TextData {
        tokenizer: setup.template.tokenizer()?,
        max_tokens: setup.template.max_tokens(),
        batch,
        part,
        random: Random::new(session.seed),
    };
    let (settings, seed) = (arguments.optimiser(text::OPTIMISER), session.seed);
    let make = |device: &ComputeDevice| {
        let trainer = text::trainer(&configs, settings, seed, device)?;
        Ok((text::TextTask::new(configs.clone(), batch, device), trainer))
    };
    let (task, mut trainer) = make(&setup.device)?;
    let outcome = setup.run(&task, &data, &mut trainer, &plan, &make);
    told(&session.out, terminal, Some(outcome?))
}

pub fn base(arguments: &BaseArguments) -> anyhow::Result<Ended> {
    let BaseArguments { run, world_clips, clips, second_objects, fine_tune, also } = arguments;
    let session = &run.session;
    let plan = session.plan(base::SCHEDULE)?;
    let mut terminal = Terminal::new(session.quiet);
    let mut setup = begin(run, base::TRANSFORMER, &mut terminal)?;
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
    let world_clips = *world_clips as usize;
    let scenes = second_objects.map(|share| Scenes::of_world(seeds::TRANSFORMER, world_clips, share));
    let learnt = if own.is_empty() { Learnt::World(world_clips) } else { Learnt::Own(&own, identity) };
    let usual = setup.size.frames;
    for frames in also.with(usual) {
        if let (Some(scenes), Learnt::World(clips)) = (&scenes, learnt.at(frames, usual)) {
            scenes.check(clips)?;
        }
    }
    let clips_of = |setup: &mut Setup<'_>, size: ClipSize| setup.latents(learnt.at(size.frames, usual), size);
    let Some(mix) = setup.mix(&also, &clips_of)? else { return told(&session.out, terminal, None) };
    let [batch, part] = session.batch_and_part(base::BATCH);
    let data = base::BaseData {
        mix,
        tokenizer: setup.template.tokenizer()?,
        max_tokens: setup.template.max_tokens(),
        batch,
        part,
        random: Random::new(session.seed),
        scenes,
        sentences: (!own.is_empty()).then(|| own.into_iter().map(|clip| clip.sentence).collect()),
    };
    let weights = if *fine_tune { Some(setup.template.base_weights()?) } else { None };
    // One that was trained by itself before.
    let text_encoder = Template::text_encoder_of(&setup.folder)?;
    if text_encoder.is_some() && !session.resume {
        setup.watcher.note("the text encoder goes on from the one in the folder");
    }
    let start = base::Start {
        transformer: weights.as_ref().map(|[transformer, _]| transformer),
        text_encoder: text_encoder.as_ref().or(weights.as_ref().map(|[_, text_encoder]| text_encoder)),
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
    let outcome = setup.run(&task, &data, &mut trainer, &plan, &make);
    told(&session.out, terminal, Some(outcome?))
}

pub fn judge(arguments: &RunArguments) -> anyhow::Result<Ended> {
    let session = &arguments.session;
    let plan = session.plan(judge::SCHEDULE)?;
    let mut terminal = Terminal::new(session.quiet);
    let mut setup = begin(arguments, judge::JUDGE, &mut terminal)?;
    let config = judge::config(setup.size.frames);
    if session.device.count() > 1 {
        // It learns from statistics of the whole batch, which no device alone has.
        return Err(UsageError("The judge learns on one device. Name one.".into()).into());
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
    let outcome = setup.run(&task, &data, &mut trainer, &plan, &make);
    told(&session.out, terminal, Some(outcome?))
}
