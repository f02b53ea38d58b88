//! `tilereel train`: networks learn from the procedural world.

pub(super) mod setup;
pub(super) mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use self::watch::Terminal;
use super::settings::DeviceArguments;
use super::{Status, UsageError};
use crate::studio::words::duration;
use crate::training::data::mix::Also;
use crate::training::optimiser::OptimiserSettings;
use crate::training::run::{Ended, Plan};
use crate::training::schedule::{Length, Schedule};
use crate::training::setup::Outcome;

#[derive(Subcommand)]
pub enum Command {
    /// The VAE: clips to latents and back.
    Vae(Box<VaeArguments>),
    /// The text encoder by itself, to read what the world's sentences say: a beginning for `tilereel train base`.
    Text(Box<RunArguments>),
    /// The transformer and the text encoder together; the VAE is that of the folder, else that of --like, and the text encoder goes on
    /// from that of the folder, if there is one.
    Base(Box<BaseArguments>),
    /// The judge that reads from clips what they show, for `tilereel evaluate`.
    Judge(Box<RunArguments>),
}

/// What all trainings from nothing are told.
#[derive(Args)]
pub struct RunArguments {
    #[command(flatten)]
    session: SessionArguments,
    /// The model whose sizes and tokenizer are taken
    #[arg(long, default_value = "mini/base", value_name = "MODEL")]
    like: String,
    /// Learning rate of Muon, which updates the hidden matrices
    #[arg(long, value_parser = positive)]
    muon_learning_rate: Option<f64>,
    /// Frames of a clip, if not those of --like
    #[arg(long)]
    frames: Option<usize>,
    /// WIDTHxHEIGHT of a clip, if not that of --like
    #[arg(long)]
    size: Option<String>,
}

/// What every training is told.
#[derive(Args)]
pub struct SessionArguments {
    /// The model's folder; it is made if it is not there
    #[arg(long, short)]
    pub out: PathBuf,
    /// Go on from the checkpoint in the folder (the exact one, else the packed one)
    #[arg(long)]
    pub resume: bool,
    /// End this session after so many minutes
    #[arg(long, value_parser = minutes)]
    minutes: Option<Duration>,
    /// Minutes of all sessions together, for the learning rate's fall; without it the fall ends with this session
    #[arg(long, value_parser = minutes, value_name = "MINUTES")]
    total_minutes: Option<Duration>,
    /// End after so many steps of all sessions together; the learning rate then depends on the step alone
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Samples of a step
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Option<u32>,
    /// Samples whose gradients are made together: fewer need less memory
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    part: Option<u32>,
    /// Number that everything random is made from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Learning rate of AdamW
    #[arg(long, value_parser = positive)]
    learning_rate: Option<f64>,
    /// Decay of the moving average of the weights, which is what is published
    #[arg(long, value_parser = share)]
    average: Option<f64>,
    /// Steps over which the learning rate rises
    #[arg(long)]
    warm_up: Option<u64>,
    /// Share of the run for which the learning rate stays before it falls; 1 means that it never falls
    #[arg(long, value_parser = share)]
    hold: Option<f64>,
    /// Minutes between checkpoints
    #[arg(long, value_parser = minutes, default_value = "5", value_name = "MINUTES")]
    checkpoint_every: Duration,
    /// Minutes between sample sheets; 0 makes none
    #[arg(long, value_parser = minutes, default_value = "5", value_name = "MINUTES")]
    sheet_every: Duration,
    /// Print no progress
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub device: DeviceArguments,
}

#[derive(Args)]
pub struct VaeArguments {
    #[command(flatten)]
    run: RunArguments,
    /// Weight of the mean square in the loss, beside the mean error: more of it for more decibels
    #[arg(long, value_parser = positive, default_value_t = crate::training::pretrain::vae::SQUARES)]
    squares: f64,
    /// Share of the steps in which latents of half the height and width are decoded: latents that are smoother, and easier for a
    /// transformer, for fewer decibels
    #[arg(long, value_parser = share, default_value_t = 0.0)]
    halved: f64,
    /// Deviation of noise on the latents, in deviations of their channel; for the same
    #[arg(long, value_parser = share, default_value_t = 0.0)]
    latent_noise: f64,
    /// Begin with the weights of the VAE of --like instead of from nothing
    #[arg(long)]
    fine_tune: bool,
    /// Train the decoder alone: clips that were encoded for a transformer stay right
    #[arg(long, requires = "fine_tune")]
    freeze_encoder: bool,
}

#[derive(Args)]
pub struct BaseArguments {
    #[command(flatten)]
    run: RunArguments,
    /// Clips of the world to learn from; they are encoded once and kept in the model's folder (of a length that --also names an
    /// eighth if it is longer, a quarter if it is shorter)
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    world_clips: u32,
    /// Learn from a folder of clips instead, each with its sentence beside it (ball.mp4 and ball.txt); needs ffmpeg
    #[arg(long, value_name = "FOLDER")]
    clips: Option<PathBuf>,
    /// Share of the samples in which the world's clips have a second object, if not as many as the world has
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "clips")]
    second_objects: Option<f64>,
    /// Begin with the weights of --like instead of from nothing
    #[arg(long)]
    fine_tune: bool,
    /// Clips of other numbers of frames, each with its share of the steps, or none [default: 93:0.1,1:0.05 for the world's
    /// clips of 29 frames]
    #[arg(long, value_name = "FRAMES:SHARE,..")]
    also: Option<Also>,
}

pub(super) fn minutes(text: &str) -> Result<Duration, String> {
    let number: f64 = text.trim().parse().map_err(|_| "use a number of minutes, such as 2.5")?;
    Duration::try_from_secs_f64(number * 60.0).map_err(|_| "use a number of minutes that is not negative".into())
}

pub(super) fn positive(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("use a number above 0, such as 1e-3".into()),
    }
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("use a number from 0 to 1".into()),
    }
}

impl SessionArguments {
    pub fn plan(&self, standard: Schedule) -> Result<Plan, UsageError> {
        let length = Length { steps: self.steps, session: self.minutes, whole: self.total_minutes };
        if length == Length::default() {
            return Err(UsageError("Say how long to train: --minutes, --total-minutes or --steps.".into()));
        }
        Ok(Plan {
            length,
            schedule: Schedule {
                warm_up_steps: self.warm_up.unwrap_or(standard.warm_up_steps),
                hold_share: self.hold.unwrap_or(standard.hold_share),
            },
            checkpoint_every: self.checkpoint_every,
            sheet_every: (!self.sheet_every.is_zero()).then_some(self.sheet_every),
        })
    }

    pub fn optimiser(&self, standard: OptimiserSettings) -> OptimiserSettings {
        OptimiserSettings {
            learning_rate: self.learning_rate.unwrap_or(standard.learning_rate),
            average_decay: self.average.unwrap_or(standard.average_decay),
            ..standard
        }
    }

    /// Samples of a step, and of those whose gradients are made together; without a wish every device has one such part.
    pub fn batch_and_part(&self, standard: usize) -> [usize; 2] {
        let batch = self.batch.map_or(standard, |batch| batch as usize);
        let of_a_device = batch.div_ceil(self.device.count());
        [batch, self.part.map_or(of_a_device, |part| part as usize)]
    }
}

impl RunArguments {
    fn optimiser(&self, standard: OptimiserSettings) -> OptimiserSettings {
        let muon_learning_rate = self.muon_learning_rate.unwrap_or(standard.muon_learning_rate);
        OptimiserSettings { muon_learning_rate, ..self.session.optimiser(standard) }
    }
}

pub fn run(command: Command) -> anyhow::Result<Status> {
    let ended = match command {
        Command::Vae(arguments) => setup::vae(&arguments)?,
        Command::Text(arguments) => setup::text(&arguments)?,
        Command::Base(arguments) => setup::base(&arguments)?,
        Command::Judge(arguments) => setup::judge(&arguments)?,
    };
    Ok(status(ended))
}

pub(super) fn status(ended: Ended) -> Status {
    match ended {
        Ended::Done => Status::Done,
        Ended::Stopped => Status::Stopped,
    }
}

/// Says what came of a training; `outcome` is none if it was stopped before its first step.
pub(super) fn told(folder: &Path, terminal: Terminal, outcome: Option<Outcome>) -> anyhow::Result<Ended> {
    drop(terminal);
    let Some(Outcome { ended, step, seconds }) = outcome else { return Ok(Ended::Stopped) };
    let how = if ended == Ended::Stopped { "stopped" } else { "done" };
    say!("{}: {how} at step {step} after {}", folder.display(), duration(seconds));
    Ok(ended)
}
