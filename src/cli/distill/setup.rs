//! From flags to a running distillation: the teacher, the student's model around its transformer, the clips.

use std::path::{Path, PathBuf};

use super::{KdArguments, MlcdArguments, TeacherArguments};
use crate::cli::UsageError;
use crate::cli::train::setup::{Learnt, Setup, latents, source_of};
use crate::gpu::device::ComputeDevice;
use crate::mask::MaskPlan;
use crate::model::dit::{TextContext, Transformer};
use crate::model::folder::{ModelFacts, SamplingDefaults};
use crate::model::sampler::{Sampler, SamplerKind};
use crate::model::weights::Loader;
use crate::training::TrainError;
use crate::training::data::clip_folder::list;
use crate::training::data::latents::Latents;
use crate::training::distill::data::{Clips, DistillData, Snap};
use crate::training::distill::jump::Segments;
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
    let mut setup = begin(common, Template::open(&common.teacher)?, mlcd::MLCD, mlcd::MLCD)?;
    let plan = setup.template.plan()?;
    let lessons = if *data_free {
        let channels = setup.template.vae_config()?.0.embed_dim;
        let clips = common.world_clips.map_or(CLIPS, |clips| clips as usize);
        Lessons { clips: Clips::Described { clips, shape: setup.size.latent_shape(channels) }, sentences: None }
    } else {
        let Some(lessons) = encoded_clips(&mut setup, common)? else { return Ok(Ended::Stopped) };
        lessons
    };
    let [batch, part] = session.batch_and_part(mlcd::BATCH);
    let data = data(&setup.template, lessons, [batch, part], session.seed)?;
    let settings = mlcd::Settings {
        segments,
        skip: *skip as usize,
        guidance: *guidance,
        distance: (*distance).into(),
        start: if *data_free { mlcd::Start::Noise } else { mlcd::Start::Clips },
    };
    let facts = few_steps(setup.template.facts(), segments);
    let description = describe(&setup.template, mlcd::MLCD, facts, &plan);
    let kind = settings.kind(&setup.template.short_hash()?);
    let (template, optimiser) = (setup.template.clone(), session.optimiser(mlcd::OPTIMISER));
    let make = |device: &ComputeDevice| {
        let trainer = trainer(&template, &kind, optimiser, session.seed, device)?;
        let teacher = teacher(&template, &plan, device)?;
        let task = mlcd::MlcdTask::new(teacher, settings, plan.clone(), description.clone(), batch, device);
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
    let mut setup = begin(common, template, kd::KD, kd::FAST)?;
    let Some(lessons) = encoded_clips(&mut setup, common)? else { return Ok(Ended::Stopped) };
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
    let facts = ModelFacts { card: Some(card), ..setup.template.facts().clone() };
    let description = describe(&setup.template, kd::FAST, facts, &plan);
    let kind = weights.kind(&plan, &setup.template.short_hash()?);
    let of_teacher = setup.template.plan()?;
    let (template, optimiser) = (setup.template.clone(), session.optimiser(kd::OPTIMISER));
    let make = |device: &ComputeDevice| {
        let trainer = trainer(&template, &kind, optimiser, session.seed, device)?;
        let teacher = teacher(&template, &of_teacher, device)?;
        let task = kd::KdTask::new(teacher, weights, plan.clone(), description.clone(), batch, device);
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
    clips: Clips,
    /// Of the clips, where they are not the world's.
    sentences: Option<Vec<String>>,
}

/// The clips to learn from. None if it was stopped.
fn encoded_clips(setup: &mut Setup, common: &TeacherArguments) -> Result<Option<Lessons>, TrainError> {
    let Some(folder) = &common.clips else {
        let latents = clips_of_world(setup, common)?;
        return Ok(latents.map(|latents| Lessons { clips: Clips::Encoded(latents), sentences: None }));
    };
    let (own, identity) = list(folder)?;
    let latents = latents(setup, Learnt::Own(&own, identity))?;
    let sentences = Some(own.into_iter().map(|clip| clip.sentence).collect());
    Ok(latents.map(|latents| Lessons { clips: Clips::Encoded(latents), sentences }))
}

/// Clips that were encoded for this model or its teacher, else new ones.
fn clips_of_world(setup: &mut Setup, common: &TeacherArguments) -> Result<Option<Latents>, TrainError> {
    if let Some(clips) = common.world_clips {
        return latents(setup, Learnt::World(clips as usize));
    }
    let (_, config, hash) = load_vae(&setup.folder, &setup.device)?;
    let (shape, source) = (setup.size.latent_shape(config.embed_dim), source_of(setup.size));
    let of_teacher = setup.template.path().and_then(Path::parent).map(|root| RunFolder::new(root, mlcd::MLCD).latents());
    let places: Vec<PathBuf> = std::iter::once(setup.folder.latents()).chain(of_teacher).collect();
    for path in places {
        let found = Latents::read_if(&path, &|of| of.vae == hash && of.shape == shape && of.source == source)?;
        if let Some(latents) = found {
            setup.watcher.note(&format!("{} encoded clips of {}", latents.of.clips, path.display()));
            return Ok(Some(latents));
        }
    }
    latents(setup, Learnt::World(CLIPS))
}

fn data(
    template: &Template,
    Lessons { clips, sentences }: Lessons,
    [batch, part]: [usize; 2],
    seed: u64,
) -> Result<DistillData, TrainError> {
    let (tokenizer, max_tokens, random) = (template.tokenizer()?, template.max_tokens(), Random::new(seed));
    Ok(DistillData { clips, tokenizer, max_tokens, batch, part, random, snap: None, dropped: 0.0, sentences })
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

fn teacher(template: &Template, plan: &MaskPlan, device: &ComputeDevice) -> Result<Teacher, TrainError> {
    let config = template.base_configs()?.transformer;
    let transformer = Transformer::load(Loader::new(&template.transformer_weights()?, device), &config)?;
    let (encoder, masks) = (template.text_encoder(device)?, student::key_frames(plan));
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
    let (defaults, masks) = (description.facts.defaults.clone(), student::key_frames(plan));
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
