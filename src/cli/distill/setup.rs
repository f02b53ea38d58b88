//! From flags to a running distillation: the teacher, the student's model around its transformer, the clips.

use std::path::Path;

use super::{KdArguments, MlcdArguments, TeacherArguments};
use crate::cli::UsageError;
use crate::cli::train::Also;
use crate::cli::train::setup::{Learnt, Setup, latents, mix, path_of_latents, source_of};
use crate::gpu::device::ComputeDevice;
use crate::mask::MaskPlan;
use crate::model::dit::{TextContext, Transformer};
use crate::model::folder::{ModelFacts, SamplingDefaults};
use crate::model::latent::ClipSize;
use crate::model::sampler::{Sampler, SamplerKind};
use crate::model::weights::Loader;
use crate::training::TrainError;
use crate::training::data::clip_folder::list;
use crate::training::data::latents::Latents;
use crate::training::data::mix::Mix;
use crate::training::distill::data::{Clips, DistillData, Snap};
use crate::training::distill::jump::Segments;
use crate::training::distill::masks::{Masks, key_frames};
use crate::training::distill::student::{self, Description, SheetOfStudent};
use crate::training::distill::teacher::Teacher;
use crate::training::distill::{kd, mlcd};
use crate::training::folder::RunFolder;
use crate::training::optimiser::OptimiserSettings;
use crate::training::pretrain::{base, samples};
use crate::training::random::Random;
use crate::training::run::{Ended, Watcher};
use crate::training::template::{Template, load_vae};
use crate::training::trainer::Trainer;

/// Clips where none were encoded before.
const CLIPS: usize = 20_000;

pub fn mlcd(arguments: &MlcdArguments) -> anyhow::Result<Ended> {
    let MlcdArguments { common, segments, skip, guidance, distance, data_free } = arguments;
    let segments = Segments::new(*segments).map_err(|error| UsageError(error.to_string()))?;
    if !guidance.is_finite() || *guidance < 1.0 {
        return Err(UsageError("The scale of the guidance is 1 (none) or more.".into()).into());
    }
    let session = &common.session;
    let schedule = session.plan(mlcd::SCHEDULE)?;
    let template = Template::open(&common.teacher)?;
    let plan = template.plan()?;
    let lengths = Lengths::of(common, &template, &[&plan])?;
    let mut setup = begin(common, template, mlcd::MLCD, mlcd::MLCD)?;
    let also = lengths.noted(&mut setup);
    let lessons = if *data_free {
        let channels = setup.template.vae_config()?.0.embed_dim;
        let clips = common.world_clips.map_or(CLIPS, |clips| clips as usize);
        let described = |_: &mut Setup, size: ClipSize| {
            let shape = size.latent_shape(channels);
            Ok(Some(Clips::Described { clips, shape }))
        };
        mix(&mut setup, &also, &described)?.map(|mix| Lessons { mix, sentences: None })
    } else {
        encoded_clips(&mut setup, common, &also)?
    };
    let Some(lessons) = lessons else { return Ok(Ended::Stopped) };
    let [batch, part] = session.batch_and_part(mlcd::BATCH);
    let data = data(&setup.template, lessons, [batch, part], session.seed)?;
    let settings = mlcd::Settings {
        segments,
        skip: *skip as usize,
        guidance: *guidance,
        distance: (*distance).into(),
        start: if *data_free { mlcd::Start::Noise } else { mlcd::Start::Clips },
    };
    let facts = trained_at(few_steps(setup.template.facts(), segments), &also);
    let description = describe(&setup.template, mlcd::MLCD, facts, &plan);
    let kind = settings.kind(&setup.template.short_hash()?);
    let masks = Masks::adapted(&plan, &data.mix.latent_frames())?;
    let samples = data.mix.samples_a_step([batch, part]);
    let (template, optimiser) = (setup.template.clone(), session.optimiser(mlcd::OPTIMISER));
    let make = |device: &ComputeDevice| {
        let trainer = trainer(&template, &kind, optimiser, session.seed, device)?;
        let teacher = teacher(&template, masks.clone(), device)?;
        let mut task = mlcd::MlcdTask::new(teacher, settings, plan.clone(), description.clone(), samples, device);
        task.masks = masks.clone();
        Ok((task, trainer))
    };
    let (mut task, mut trainer) = make(&setup.device)?;
    if schedule.sheet_every.is_some() {
        task.sheet = Some(sheet(&setup, &task.description, &task.plan)?);
    }
    setup.run(&task, &data, &mut trainer, &schedule, &make)
}

pub fn kd(arguments: &KdArguments) -> anyhow::Result<Ended> {
    let KdArguments { common, student_plan, output_weight, attention_weight, data_weight, at_sampler } = arguments;
    let session = &common.session;
    let schedule = session.plan(kd::SCHEDULE)?;
    let plan = MaskPlan::load(student_plan)?;
    let template = Template::open(&common.teacher)?;
    let (layers, frames) = (template.base_configs()?.transformer.num_layers, template.size().latent_frames());
    plan.check(layers, frames).map_err(|error| UsageError(format!("{}: {error}.", student_plan.display())))?;
    let of_teacher = template.plan()?;
    let lengths = Lengths::of(common, &template, &[&plan, &of_teacher])?;
    let mut setup = begin(common, template, kd::KD, kd::FAST)?;
    let also = lengths.noted(&mut setup);
    let Some(lessons) = encoded_clips(&mut setup, common, &also)? else { return Ok(Ended::Stopped) };
    let [batch, part] = session.batch_and_part(kd::BATCH);
    let defaults = &setup.template.facts().defaults;
    let snap = Some(Snap { share: *at_sampler, times: sampler_times(defaults)? });
    // A student that is used with guidance also has to know what to do without words.
    let dropped = if defaults.guidance_scale > 1.0 { base::DROPPED } else { 0.0 };
    let data = DistillData { snap, dropped, ..data(&setup.template, lessons, [batch, part], session.seed)? };
    let weights = kd::LossWeights { output: *output_weight, attention: *attention_weight, data: *data_weight };
    let card = format!(
        "Tile-sparse transformer, taught by {}: {:.0} % of the frame pairs are computed.",
        setup.template.name(),
        100.0 * plan.density()
    );
    let facts = trained_at(ModelFacts { card: Some(card), ..setup.template.facts().clone() }, &also);
    let description = describe(&setup.template, kd::FAST, facts, &plan);
    let kind = weights.kind(&plan, &setup.template.short_hash()?);
    let latent_frames = data.mix.latent_frames();
    let of_teacher = Masks::adapted(&of_teacher, &latent_frames)?;
    let (masks, samples) = (Masks::adapted(&plan, &latent_frames)?, data.mix.samples_a_step([batch, part]));
    let (template, optimiser) = (setup.template.clone(), session.optimiser(kd::OPTIMISER));
    let make = |device: &ComputeDevice| {
        let trainer = trainer(&template, &kind, optimiser, session.seed, device)?;
        let teacher = teacher(&template, of_teacher.clone(), device)?;
        let mut task = kd::KdTask::new(teacher, weights, plan.clone(), description.clone(), samples, device);
        task.masks = masks.clone();
        Ok((task, trainer))
    };
    let (mut task, mut trainer) = make(&setup.device)?;
    if schedule.sheet_every.is_some() {
        task.sheet = Some(sheet(&setup, &task.description, &task.plan)?);
    }
    setup.run(&task, &data, &mut trainer, &schedule, &make)
}

/// Makes the folder a model: with the teacher's VAE and text encoder, unless they are there.
fn begin(common: &TeacherArguments, template: Template, kind: &'static str, student: &'static str) -> anyhow::Result<Setup> {
    let size = template.size();
    let mut setup = Setup::begin(&common.session, template, size, kind)?;
    let place = setup.folder.network(student);
    if let Some(path) = setup.template.path()
        && is_same(path, &place)
    {
        let text = format!("The student would take the place of its teacher {}. Choose another --out.", place.display());
        return Err(UsageError(text).into());
    }
    if setup.template.lend_surroundings(&setup.folder)? {
        setup.watcher.note("the VAE or the text encoder is that of the teacher");
    }
    Ok(setup)
}

fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// What a student learns from.
struct Lessons {
    mix: Mix<Clips>,
    /// Of the clips, where they are not the world's.
    sentences: Option<Vec<String>>,
}

/// The other lengths that a student learns at.
struct Lengths {
    also: Also,
    /// Why one is not among them.
    missing: Option<String>,
}

impl Lengths {
    /// As wished, else those that the teacher has learnt, as far as all plans have rules for them.
    fn of(common: &TeacherArguments, template: &Template, plans: &[&MaskPlan]) -> Result<Self, UsageError> {
        let size = template.size();
        let adapts = |frames: usize| {
            let latent_frames = ClipSize { frames, ..size }.latent_frames();
            plans.iter().try_for_each(|plan| plan.adapted(latent_frames).map(drop))
        };
        if let Some(also) = &common.also {
            also.check(size.frames)?;
            for &(frames, _) in &also.0 {
                adapts(frames).map_err(|error| UsageError(format!("--also {frames}: {error}.")))?;
            }
            return Ok(Self { also: also.clone(), missing: None });
        }
        // A person's own clips may be too short for other lengths.
        let mut also = if common.clips.is_some() { Also::default() } else { Also::of_world(size.frames) };
        let learnt = &template.facts().trained.frames;
        let mut missing = None;
        also.0.retain(|&(frames, _)| {
            let is_learnt = learnt.contains(&frames);
            let adapted = adapts(frames);
            if let (true, Err(error)) = (is_learnt, &adapted) {
                missing = Some(format!("no clips of {frames} frames: {error}"));
            }
            is_learnt && adapted.is_ok()
        });
        Ok(Self { also, missing })
    }

    fn noted(self, setup: &mut Setup) -> Also {
        if let Some(missing) = &self.missing {
            setup.watcher.note(missing);
        }
        self.also
    }
}

/// The clips to learn from. None if it was stopped.
fn encoded_clips(setup: &mut Setup, common: &TeacherArguments, also: &Also) -> Result<Option<Lessons>, TrainError> {
    let Some(folder) = &common.clips else {
        let clips_of = |setup: &mut Setup, size| Ok(clips_of_world(setup, common, size)?.map(Clips::Encoded));
        return Ok(mix(setup, also, &clips_of)?.map(|mix| Lessons { mix, sentences: None }));
    };
    let (own, identity) = list(folder)?;
    let learnt = Learnt::Own(&own, identity);
    let clips_of = |setup: &mut Setup, size| Ok(latents(setup, learnt.clone(), size)?.map(Clips::Encoded));
    let mix = mix(setup, also, &clips_of)?;
    let sentences = Some(own.iter().map(|clip| clip.sentence.clone()).collect());
    Ok(mix.map(|mix| Lessons { mix, sentences }))
}

/// Clips of a size that were encoded for this model or its teacher, else new ones.
fn clips_of_world(setup: &mut Setup, common: &TeacherArguments, size: ClipSize) -> Result<Option<Latents>, TrainError> {
    let usual = setup.size.frames;
    if let Some(clips) = common.world_clips {
        return latents(setup, Learnt::World(clips as usize).at(size.frames, usual), size);
    }
    let (_, config, encoder) = load_vae(&setup.folder, &setup.device)?;
    let (shape, source) = (size.latent_shape(config.embed_dim), source_of(size));
    let of_teacher = setup.template.path().and_then(Path::parent).map(|root| RunFolder::new(root, mlcd::MLCD));
    let folders = std::iter::once(setup.folder.clone()).chain(of_teacher);
    for path in folders.map(|folder| path_of_latents(&folder, size.frames, usual)) {
        let found = Latents::read_if(&path, &|of| of.vae == encoder && of.shape == shape && of.source == source)?;
        if let Some(latents) = found {
            setup.watcher.note(&format!("{} encoded clips of {}", latents.of.clips, path.display()));
            return Ok(Some(latents));
        }
    }
    latents(setup, Learnt::World(CLIPS).at(size.frames, usual), size)
}

fn data(
    template: &Template,
    Lessons { mix, sentences }: Lessons,
    [batch, part]: [usize; 2],
    seed: u64,
) -> Result<DistillData, TrainError> {
    let (tokenizer, max_tokens, random) = (template.tokenizer()?, template.max_tokens(), Random::new(seed));
    Ok(DistillData { mix, tokenizer, max_tokens, batch, part, random, snap: None, dropped: 0.0, sentences })
}

fn trainer(
    template: &Template,
    kind: &str,
    settings: OptimiserSettings,
    seed: u64,
    device: &ComputeDevice,
) -> Result<Trainer<Transformer>, TrainError> {
    let config = template.base_configs()?.transformer;
    Ok(student::trainer(&template.transformer_weights()?, &config, kind, settings, seed, device)?)
}

fn teacher(template: &Template, masks: Masks, device: &ComputeDevice) -> Result<Teacher, TrainError> {
    let config = template.base_configs()?.transformer;
    let transformer = Transformer::load(Loader::new(&template.transformer_weights()?, device), &config)?;
    let encoder = template.text_encoder(device)?;
    Ok(Teacher::new(transformer, encoder, masks, &template.tokenizer()?, template.max_tokens())?)
}

/// What a few-step student says of itself.
fn few_steps(of_teacher: &ModelFacts, segments: Segments) -> ModelFacts {
    let mut facts = of_teacher.clone();
    let defaults = &mut facts.defaults;
    (defaults.sampler, defaults.steps, defaults.guidance_scale) = (SamplerKind::DdimTrailing, segments.count(), 1.0);
    facts.trained.steps = segments.divisors();
    facts.card = Some(format!("Few-step transformer by consistency distillation: {} steps without guidance.", segments.count()));
    facts
}

/// As it is said of a student that has learnt at its usual length and at others.
fn trained_at(mut facts: ModelFacts, also: &Also) -> ModelFacts {
    facts.trained.frames = also.with(facts.defaults.frames);
    facts
}

fn describe(template: &Template, name: &'static str, facts: ModelFacts, plan: &MaskPlan) -> Description {
    let is_dense = plan.layers().iter().all(|layer| layer.mask().is_full());
    let plan = (!is_dense).then(|| plan.clone());
    Description { name, config: template.transformer_json().clone(), facts, plan }
}

/// The times at which a model's sampler asks, ascending.
fn sampler_times(defaults: &SamplingDefaults) -> Result<Vec<usize>, UsageError> {
    let sampler = Sampler::new(defaults.sampler, defaults.steps).map_err(|error| UsageError(error.to_string()))?;
    let mut times: Vec<usize> = (0..sampler.calls()).map(|call| sampler.timestep(call).round() as usize).collect();
    times.sort_unstable();
    times.dedup();
    Ok(times)
}

/// Sheets of a student, made as its own facts say.
fn sheet(setup: &Setup, description: &Description, plan: &MaskPlan) -> anyhow::Result<SheetOfStudent> {
    let (vae, ..) = load_vae(&setup.folder, &setup.device)?;
    let painter = samples::Painter { vae, size: setup.size, device: setup.device.clone() };
    let prompts = samples::prompts(&setup.template.tokenizer()?, setup.template.max_tokens())?;
    let (defaults, masks) = (description.facts.defaults.clone(), key_frames(plan));
    Ok(Box::new(move |network: &Transformer, teacher: &Teacher, path: &Path| {
        let text: TextContext = teacher.embed(prompts.clone());
        let way = samples::Way {
            sampler: defaults.sampler,
            steps: defaults.steps,
            guidance_scale: defaults.guidance_scale,
            key_frames: masks.clone(),
        };
        painter.draw(network, [&text, &teacher.without_words(prompts.sentences)], way, path)
    }))
}
