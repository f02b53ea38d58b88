//! From settings to a running distillation: the teacher, the student's model around its transformer, the clips.

use std::path::{Path, PathBuf};

use super::data::{Clips, DistillData, Snap};
use super::jump::Segments;
use super::masks::{Masks, RangeTimes};
use super::student::{self, Description, SheetOfStudent};
use super::teacher::Teacher;
use super::{dmd, kd, mlcd};
use crate::gpu::device::ComputeDevice;
use crate::mask::MaskPlan;
use crate::model::dit::{TextContext, Transformer};
use crate::model::folder::{ModelFacts, SamplingDefaults};
use crate::model::latent::ClipSize;
use crate::model::sampler::{Sampler, SamplerKind};
use crate::model::sampling::StepMasks;
use crate::model::weights::Loader;
use crate::training::data::clip_folder::list;
use crate::training::data::latents::Latents;
use crate::training::data::mix::{Also, Mix};
use crate::training::data::scenes::Scenes;
use crate::training::error::TrainError;
use crate::training::folder::RunFolder;
use crate::training::optimiser::OptimiserSettings;
use crate::training::pretrain::{base, samples};
use crate::training::random::Random;
use crate::training::run::Plan;
use crate::training::setup::{Learnt, Outcome, Setup, Start, path_of_latents, source_of};
use crate::training::template::{Template, load_vae};
use crate::training::trainer::Trainer;
use crate::world::seeds;

/// Clips where none were encoded before.
const CLIPS: usize = 20_000;

/// What all distillations are told.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    pub clips: ClipsFrom,
    /// Other lengths beside the usual one; without them those that the teacher has learnt.
    pub also: Option<Also>,
    /// Share of the samples in which the world's clips have a second object, if not as many as the world has.
    pub second_objects: Option<f64>,
    /// Samples of a step, and of those whose gradients are made together.
    pub batch_and_part: [usize; 2],
    pub seed: u64,
    pub optimiser: OptimiserSettings,
    pub plan: Plan,
}

/// What a student learns from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClipsFrom {
    /// So many clips of the world; without a number those that were encoded for the model or its teacher, else 20,000.
    World(Option<usize>),
    /// A folder of clips, each with its sentence beside it.
    Folder(PathBuf),
}

/// What knowledge distillation is told.
#[derive(Clone, Debug)]
pub struct KdSettings {
    pub session: SessionSettings,
    /// The student's masks, which [`Template::check_plan`] let through.
    pub student_plan: MaskPlan,
    pub weights: kd::LossWeights,
    /// Share of the samples at the times at which the model's sampler asks.
    pub at_sampler: f64,
}

/// What consistency distillation is told.
#[derive(Clone, Debug)]
pub struct MlcdSettings {
    pub session: SessionSettings,
    pub student: mlcd::Settings,
}

/// What distribution matching is told.
#[derive(Clone, Debug)]
pub struct DmdSettings {
    pub session: SessionSettings,
    pub student: dmd::Settings,
}

/// Looks at the folder in which a distillation of this `kind` trains the network `student`.
///
/// # Errors
/// Those of [`Start::look`]; [`TrainError::TeachersPlace`] if the student would take its teacher's place.
pub fn look(
    template: Template,
    root: &Path,
    kind: &'static str,
    student: &'static str,
    resume: bool,
) -> Result<Start, TrainError> {
    let size = template.size();
    let start = Start::look(template, size, root, kind, resume)?;
    not_in_place(&start.template, &start.folder, student)?;
    Ok(start)
}

/// A student must not take the place of a model that it learns from.
fn not_in_place(teacher: &Template, folder: &RunFolder, student: &str) -> Result<(), TrainError> {
    let place = folder.network(student);
    match teacher.path() {
        Some(path) if is_same(path, &place) => Err(TrainError::TeachersPlace { path: place }),
        _ => Ok(()),
    }
}

/// Trains a student of few steps. None if it was stopped before the first step.
///
/// # Errors
/// The teacher, the clips or the folder cannot be used; those of a training.
pub fn mlcd(setup: &mut Setup<'_>, settings: &MlcdSettings) -> Result<Option<Outcome>, TrainError> {
    let MlcdSettings { session, student } = settings;
    let plan = setup.template.plan()?;
    let also = other_lengths(setup, session, &[&plan])?;
    lend(setup)?;
    let lessons = match student.start {
        mlcd::Start::Noise => described_clips(setup, &session.clips, &also)?,
        mlcd::Start::Clips => encoded_clips(setup, &session.clips, &also)?,
    };
    let Some(lessons) = lessons else { return Ok(None) };
    let data = data(&setup.template, lessons, session)?;
    let facts = trained_at(few_steps(setup.template.facts(), student.segments, "consistency distillation"), &also);
    let description = describe(&setup.template, mlcd::MLCD, facts, &plan);
    let kind = student.kind(&setup.template.short_hash()?);
    let masks = Masks::adapted(&plan, &data.mix.latent_frames())?;
    let (template, samples) = (setup.template.clone(), data.mix.samples_a_step(session.batch_and_part));
    let make = |device: &ComputeDevice| {
        let trainer = trainer(&template, &kind, session, device)?;
        let teacher = teacher(&template, masks.clone(), device)?;
        let mut task = mlcd::MlcdTask::new(teacher, *student, plan.clone(), description.clone(), samples, device);
        task.masks = masks.clone();
        Ok((task, trainer))
    };
    let (mut task, mut trainer) = make(&setup.device)?;
    if session.plan.sheet_every.is_some() {
        task.sheet = Some(sheet(setup, &task.description, &task.plan)?);
    }
    setup.run(&task, &data, &mut trainer, &session.plan, &make).map(Some)
}

/// Trains a student with the masks of a plan. None if it was stopped before the first step.
///
/// # Errors
/// As [`mlcd`].
pub fn kd(setup: &mut Setup<'_>, settings: &KdSettings) -> Result<Option<Outcome>, TrainError> {
    let KdSettings { session, student_plan: plan, weights, at_sampler } = settings;
    let of_teacher = setup.template.plan()?;
    let also = other_lengths(setup, session, &[plan, &of_teacher])?;
    lend(setup)?;
    let Some(lessons) = encoded_clips(setup, &session.clips, &also)? else { return Ok(None) };
    let defaults = &setup.template.facts().defaults;
    let sampler = sampler_of(defaults)?;
    let (range_times, snap) = (RangeTimes::of(plan, &sampler), Some(Snap { share: *at_sampler, times: sampler_times(&sampler) }));
    // A student that is used with guidance also has to know what to do without words.
    let dropped = if defaults.guidance_scale > 1.0 { base::DROPPED } else { 0.0 };
    let data = DistillData { snap, dropped, ..data(&setup.template, lessons, session)? };
    let card = format!(
        "Tile-sparse transformer, taught by {}: {:.0} % of the frame pairs are computed.",
        setup.template.name(),
        100.0 * plan.density()
    );
    let facts = trained_at(ModelFacts { card: Some(card), ..setup.template.facts().clone() }, &also);
    let description = describe(&setup.template, kd::FAST, facts, plan);
    let kind = weights.kind(plan, &setup.template.short_hash()?);
    let latent_frames = data.mix.latent_frames();
    let of_teacher = Masks::adapted(&of_teacher, &latent_frames)?;
    let (masks, samples) = (Masks::adapted(plan, &latent_frames)?, data.mix.samples_a_step(session.batch_and_part));
    let template = setup.template.clone();
    let make = |device: &ComputeDevice| {
        let trainer = trainer(&template, &kind, session, device)?;
        let teacher = teacher(&template, of_teacher.clone(), device)?;
        let mut task = kd::KdTask::new(teacher, *weights, plan.clone(), description.clone(), samples, device);
        (task.masks, task.range_times) = (masks.clone(), range_times.clone());
        Ok((task, trainer))
    };
    let (mut task, mut trainer) = make(&setup.device)?;
    if session.plan.sheet_every.is_some() {
        task.sheet = Some(sheet(setup, &task.description, &task.plan)?);
    }
    setup.run(&task, &data, &mut trainer, &session.plan, &make).map(Some)
}

/// Trains a student of few steps, which begins with the setup's model, until its clips are like those of a teacher. None if it was
/// stopped before the first step.
///
/// # Errors
/// As [`mlcd`]; also if the two models have different text encoders or VAEs.
pub fn dmd(setup: &mut Setup<'_>, of_teacher: &Template, settings: &DmdSettings) -> Result<Option<Outcome>, TrainError> {
    let DmdSettings { session, student } = settings;
    not_in_place(of_teacher, &setup.folder, dmd::DMD)?;
    let plans = [setup.template.plan()?, of_teacher.plan()?];
    let also = other_lengths(setup, session, &[&plans[0], &plans[1]])?;
    lend(setup)?;
    // The teacher's are there already, or it is refused.
    of_teacher.lend_surroundings(&setup.folder)?;
    let Some(lessons) = described_clips(setup, &session.clips, &also)? else { return Ok(None) };
    let clips = data(&setup.template, lessons, session)?;
    let facts = trained_at(few_steps(setup.template.facts(), student.segments, "distribution matching"), &also);
    let description = describe(&setup.template, dmd::DMD, facts, &plans[0]);
    let kind = student.kind(&setup.template.short_hash()?, &of_teacher.short_hash()?);
    let latent_frames = clips.mix.latent_frames();
    let masks = [Masks::adapted(&plans[0], &latent_frames)?, Masks::adapted(&plans[1], &latent_frames)?];
    let samples = clips.mix.samples_a_step(session.batch_and_part);
    let data = dmd::DmdData { clips, segments: student.segments };
    let template = setup.template.clone();
    let make = |device: &ComputeDevice| {
        let (config, weights) =
            (template.base_configs()?.transformer, [&template, of_teacher].map(Template::transformer_weights));
        let [own, of_critic] = weights;
        let trainer = dmd::trainer([&own?, &of_critic?], &config, &kind, session.optimiser, session.seed, device)?;
        let teacher = teacher(of_teacher, masks[1].clone(), device)?;
        let mut task = dmd::DmdTask::new(teacher, *student, plans.each_ref(), description.clone(), samples, device);
        [task.masks, task.critic_masks] = masks.clone();
        Ok((task, trainer))
    };
    let (mut task, mut trainer) = make(&setup.device)?;
    if session.plan.sheet_every.is_some() {
        task.sheet = Some(sheet(setup, &task.description, &plans[0])?);
    }
    setup.run(&task, &data, &mut trainer, &session.plan, &make).map(Some)
}

/// Makes the folder a model: with the teacher's VAE and text encoder, unless they are there.
fn lend(setup: &mut Setup<'_>) -> Result<(), TrainError> {
    if setup.template.lend_surroundings(&setup.folder)? {
        setup.watcher.note("the VAE or the text encoder is that of the teacher");
    }
    Ok(())
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

/// The other lengths that a student learns at: as wished, else those that its teacher has learnt, as far as all plans have rules
/// for them.
fn other_lengths(setup: &mut Setup<'_>, session: &SessionSettings, plans: &[&MaskPlan]) -> Result<Also, TrainError> {
    let size = setup.size;
    let adapts = |frames: usize| {
        let latent_frames = ClipSize { frames, ..size }.latent_frames();
        plans.iter().try_for_each(|plan| plan.adapted(latent_frames).map(drop))
    };
    if let Some(also) = &session.also {
        also.check(size.frames)?;
        for &(frames, _) in &also.0 {
            adapts(frames).map_err(|error| TrainError::Settings(format!("--also {frames}: {error}")))?;
        }
        return Ok(also.clone());
    }
    // A person's own clips may be too short for other lengths.
    let mut also = match session.clips {
        ClipsFrom::World(_) => Also::of_world(size.frames),
        ClipsFrom::Folder(_) => Also::default(),
    };
    let learnt = setup.template.facts().trained.frames.clone();
    also.0.retain(|&(frames, _)| {
        let adapted = adapts(frames);
        if let (true, Err(error)) = (learnt.contains(&frames), &adapted) {
            setup.watcher.note(&format!("no clips of {frames} frames: {error}"));
        }
        learnt.contains(&frames) && adapted.is_ok()
    });
    Ok(also)
}

/// The clips to learn from. None if it was stopped.
fn encoded_clips(setup: &mut Setup<'_>, from: &ClipsFrom, also: &Also) -> Result<Option<Lessons>, TrainError> {
    let folder = match from {
        ClipsFrom::Folder(folder) => folder,
        ClipsFrom::World(clips) => {
            let clips_of = |setup: &mut Setup<'_>, size| Ok(clips_of_world(setup, *clips, size)?.map(Clips::Encoded));
            return Ok(setup.mix(also, &clips_of)?.map(|mix| Lessons { mix, sentences: None }));
        }
    };
    let (own, identity) = list(folder)?;
    let learnt = Learnt::Own(&own, identity);
    let clips_of = |setup: &mut Setup<'_>, size| Ok(setup.latents(learnt.clone(), size)?.map(Clips::Encoded));
    let mix = setup.mix(also, &clips_of)?;
    let sentences = Some(own.iter().map(|clip| clip.sentence.clone()).collect());
    Ok(mix.map(|mix| Lessons { mix, sentences }))
}

/// Sentences alone, without clips. None if it was stopped.
fn described_clips(setup: &mut Setup<'_>, from: &ClipsFrom, also: &Also) -> Result<Option<Lessons>, TrainError> {
    let (clips, sentences) = match from {
        ClipsFrom::World(clips) => (clips.unwrap_or(CLIPS), None),
        ClipsFrom::Folder(folder) => {
            let (own, _) = list(folder)?;
            (own.len(), Some(own.into_iter().map(|clip| clip.sentence).collect()))
        }
    };
    let channels = setup.template.vae_config()?.0.embed_dim;
    let described = |_: &mut Setup<'_>, size: ClipSize| Ok(Some(Clips::Described { clips, shape: size.latent_shape(channels) }));
    Ok(setup.mix(also, &described)?.map(|mix| Lessons { mix, sentences }))
}

/// Clips of a size that were encoded for this model or its teacher, else new ones.
fn clips_of_world(setup: &mut Setup<'_>, clips: Option<usize>, size: ClipSize) -> Result<Option<Latents>, TrainError> {
    let usual = setup.size.frames;
    if let Some(clips) = clips {
        return setup.latents(Learnt::World(clips).at(size.frames, usual), size);
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
    setup.latents(Learnt::World(CLIPS).at(size.frames, usual), size)
}

fn data(template: &Template, Lessons { mix, sentences }: Lessons, session: &SessionSettings) -> Result<DistillData, TrainError> {
    let (tokenizer, max_tokens, random) = (template.tokenizer()?, template.max_tokens(), Random::new(session.seed));
    let [batch, part] = session.batch_and_part;
    let scenes = session.second_objects.map(|share| Scenes::of_world(seeds::TRANSFORMER, mix.usual().count(), share));
    if let Some(scenes) = &scenes {
        mix.clips().try_for_each(|clips| scenes.check(clips.count()))?;
    }
    Ok(DistillData { mix, tokenizer, max_tokens, batch, part, random, snap: None, dropped: 0.0, sentences, scenes })
}

fn trainer(
    template: &Template,
    kind: &str,
    session: &SessionSettings,
    device: &ComputeDevice,
) -> Result<Trainer<Transformer>, TrainError> {
    let config = template.base_configs()?.transformer;
    Ok(student::trainer(&template.transformer_weights()?, &config, kind, session.optimiser, session.seed, device)?)
}

fn teacher(template: &Template, masks: Masks, device: &ComputeDevice) -> Result<Teacher, TrainError> {
    let config = template.base_configs()?.transformer;
    let transformer = Transformer::load(Loader::new(&template.transformer_weights()?, device), &config)?;
    let encoder = template.text_encoder(device)?;
    Ok(Teacher::new(transformer, encoder, masks, &template.tokenizer()?, template.max_tokens())?)
}

/// What a few-step student says of itself.
fn few_steps(of_teacher: &ModelFacts, segments: Segments, by: &str) -> ModelFacts {
    let mut facts = of_teacher.clone();
    let defaults = &mut facts.defaults;
    (defaults.sampler, defaults.steps, defaults.guidance_scale) = (SamplerKind::DdimTrailing, segments.count(), 1.0);
    facts.trained.steps = segments.divisors();
    facts.card = Some(format!("Few-step transformer by {by}: {} steps without guidance.", segments.count()));
    facts
}

/// As it is said of a student that has learnt at its usual length and at others.
fn trained_at(mut facts: ModelFacts, also: &Also) -> ModelFacts {
    facts.trained.frames = also.with(facts.defaults.frames);
    facts
}

fn describe(template: &Template, name: &'static str, facts: ModelFacts, plan: &MaskPlan) -> Description {
    let is_dense = plan.ranges().all(|(_, layers)| layers.iter().all(|layer| layer.mask().is_full()));
    let plan = (!is_dense).then(|| plan.clone());
    Description { name, config: template.transformer_json().clone(), facts, plan }
}

fn sampler_of(defaults: &SamplingDefaults) -> Result<Sampler, TrainError> {
    Sampler::new(defaults.sampler, defaults.steps).map_err(|error| TrainError::Settings(error.to_string()))
}

/// The times at which a sampler asks, ascending.
fn sampler_times(sampler: &Sampler) -> Vec<usize> {
    let mut times: Vec<usize> = (0..sampler.calls()).map(|call| sampler.timestep(call).round() as usize).collect();
    times.sort_unstable();
    times.dedup();
    times
}

/// Sheets of a student, made as its own facts say.
fn sheet(setup: &Setup<'_>, description: &Description, plan: &MaskPlan) -> Result<SheetOfStudent, TrainError> {
    let (vae, ..) = load_vae(&setup.folder, &setup.device)?;
    let painter = samples::Painter { vae, size: setup.size, device: setup.device.clone() };
    let prompts = samples::prompts(&setup.template.tokenizer()?, setup.template.max_tokens())?;
    let (defaults, masks) = (description.facts.defaults.clone(), StepMasks::of(plan));
    Ok(Box::new(move |network: &Transformer, teacher: &Teacher, path: &Path| {
        let text: TextContext = teacher.embed(prompts.clone());
        let way = samples::Way {
            sampler: defaults.sampler,
            steps: defaults.steps,
            guidance_scale: defaults.guidance_scale,
            masks: masks.clone(),
        };
        painter.draw(network, [&text, &teacher.without_words(prompts.sentences)], way, path)
    }))
}
