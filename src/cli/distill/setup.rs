//! From flags to a running distillation.

use super::{DmdArguments, KdArguments, MlcdArguments, TeacherArguments};
use crate::cli::UsageError;
use crate::cli::train::setup::begin_session;
use crate::cli::train::told;
use crate::cli::train::watch::Terminal;
use crate::mask::MaskPlan;
use crate::training::TrainError;
use crate::training::distill::jump::Segments;
use crate::training::distill::session::{self, ClipsFrom, DmdSettings, KdSettings, MlcdSettings, SessionSettings};
use crate::training::distill::{dmd, kd, mlcd};
use crate::training::optimiser::OptimiserSettings;
use crate::training::run::{Ended, Plan};
use crate::training::setup::Setup;
use crate::training::template::Template;

pub fn mlcd(arguments: &MlcdArguments) -> anyhow::Result<Ended> {
    let MlcdArguments { common, segments, skip, guidance, distance, data_free } = arguments;
    let segments = steps_and_guidance(*segments, *guidance)?;
    let plan = common.session.plan(mlcd::SCHEDULE)?;
    let settings = MlcdSettings {
        session: session(common, mlcd::BATCH, mlcd::OPTIMISER, plan),
        student: mlcd::Settings {
            segments,
            skip: *skip as usize,
            guidance: *guidance,
            distance: (*distance).into(),
            start: if *data_free { mlcd::Start::Noise } else { mlcd::Start::Clips },
        },
    };
    let mut terminal = Terminal::new(common.session.quiet);
    let mut setup = begin(common, Template::open(&common.teacher)?, mlcd::MLCD, mlcd::MLCD, &mut terminal)?;
    let outcome = session::mlcd(&mut setup, &settings)?;
    told(&common.session.out, terminal, outcome)
}

pub fn dmd(arguments: &DmdArguments) -> anyhow::Result<Ended> {
    let DmdArguments { common, student, segments, guidance, critic_learning_rate } = arguments;
    let segments = steps_and_guidance(*segments, *guidance)?;
    let plan = common.session.plan(dmd::SCHEDULE)?;
    let optimiser = OptimiserSettings { muon_learning_rate: *critic_learning_rate, ..dmd::OPTIMISER };
    let settings = DmdSettings {
        session: session(common, dmd::BATCH, optimiser, plan),
        student: dmd::Settings { segments, guidance: *guidance },
    };
    let mut terminal = Terminal::new(common.session.quiet);
    let teacher = Template::open(&common.teacher)?;
    let mut setup = begin(common, Template::open(student)?, dmd::DMD, dmd::DMD, &mut terminal)?;
    let outcome = session::dmd(&mut setup, &teacher, &settings)?;
    told(&common.session.out, terminal, outcome)
}

fn steps_and_guidance(segments: usize, guidance: f64) -> Result<Segments, UsageError> {
    if !guidance.is_finite() || guidance < 1.0 {
        return Err(UsageError("The scale of the guidance is 1 (none) or more.".into()));
    }
    Segments::new(segments).map_err(|error| UsageError(error.to_string()))
}

pub fn kd(arguments: &KdArguments) -> anyhow::Result<Ended> {
    let KdArguments { common, student_plan, output_weight, attention_weight, data_weight, at_sampler } = arguments;
    let run = common.session.plan(kd::SCHEDULE)?;
    let plan = MaskPlan::load(student_plan)?;
    let template = Template::open(&common.teacher)?;
    template.check_plan(&plan).map_err(|error| match error {
        TrainError::Mask(error) => UsageError(format!("{}: {error}.", student_plan.display())).into(),
        error => anyhow::Error::from(error),
    })?;
    let settings = KdSettings {
        session: session(common, kd::BATCH, kd::OPTIMISER, run),
        student_plan: plan,
        weights: kd::LossWeights { output: *output_weight, attention: *attention_weight, data: *data_weight },
        at_sampler: *at_sampler,
    };
    let mut terminal = Terminal::new(common.session.quiet);
    let mut setup = begin(common, template, kd::KD, kd::FAST, &mut terminal)?;
    let outcome = session::kd(&mut setup, &settings)?;
    told(&common.session.out, terminal, outcome)
}

fn begin<'a>(
    common: &TeacherArguments,
    template: Template,
    kind: &'static str,
    student: &'static str,
    terminal: &'a mut Terminal,
) -> anyhow::Result<Setup<'a>> {
    let session = &common.session;
    let start = session::look(template, &session.out, kind, student, session.resume)?;
    begin_session(session, start, terminal)
}

fn session(common: &TeacherArguments, batch: usize, optimiser: OptimiserSettings, plan: Plan) -> SessionSettings {
    let TeacherArguments { world_clips, clips, second_objects, also, session, .. } = common;
    SessionSettings {
        clips: match clips {
            Some(folder) => ClipsFrom::Folder(folder.clone()),
            None => ClipsFrom::World(world_clips.map(|clips| clips as usize)),
        },
        also: also.clone(),
        second_objects: *second_objects,
        batch_and_part: session.batch_and_part(batch),
        seed: session.seed,
        optimiser: session.optimiser(optimiser),
        plan,
    }
}
