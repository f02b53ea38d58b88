//! `tilereel distill`: a model that makes clips in fewer calls, or with fewer attention tiles, learns from one that is there.

mod setup;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Status;
use super::train::{SessionArguments, share, status};
use crate::training::data::mix::Also;
use crate::training::distill::mlcd::Distance;

#[derive(Subcommand)]
pub enum Command {
    /// Few steps without guidance: multi-step latent consistency distillation.
    Mlcd(Box<MlcdArguments>),
    /// Better clips in few steps: a student of few steps, with or without masks, learns to make clips that are as probable as its
    /// teacher's (distribution matching).
    Dmd(Box<DmdArguments>),
    /// Few tiles: a student with the masks of a plan imitates its teacher.
    Kd(Box<KdArguments>),
}

/// What all distillations are told.
#[derive(Args)]
pub struct TeacherArguments {
    /// The model to learn from, by name or folder; the student begins with its weights unless it is named itself
    #[arg(long, value_name = "MODEL")]
    teacher: String,
    /// Clips of the world to learn from, if none were encoded yet [default: those in training/latents.bin of the model's
    /// folder or of the teacher's, else 20000; dmd and --data-free take their sentences alone]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    world_clips: Option<u32>,
    /// Learn from a folder of clips instead, each with its sentence beside it (ball.mp4 and ball.txt); needs ffmpeg, unless
    /// sentences alone are taken
    #[arg(long, value_name = "FOLDER", conflicts_with = "world_clips")]
    clips: Option<PathBuf>,
    /// Share of the samples in which the world's clips have a second object, if not as many as the world has
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "clips")]
    second_objects: Option<f64>,
    /// Clips of other numbers of frames, each with its share of the steps, or none [default: of 93:0.1,1:0.05 what the teacher
    /// has learnt, for the world's clips of 29 frames]
    #[arg(long, value_name = "FRAMES:SHARE,..")]
    also: Option<Also>,
    #[command(flatten)]
    session: SessionArguments,
}

#[derive(Args)]
pub struct MlcdArguments {
    #[command(flatten)]
    common: TeacherArguments,
    /// Segments that the times are parted into, which is the number of steps of a clip: 8 or 4
    #[arg(long, default_value_t = crate::training::distill::mlcd::SEGMENTS)]
    segments: usize,
    /// Times, of 1000, that one step of the teacher takes
    #[arg(long, default_value_t = crate::training::distill::mlcd::SKIP as u32, value_parser = clap::value_parser!(u32).range(1..=999))]
    skip: u32,
    /// Scale of the teacher's guidance, which the student has built in afterwards; 1 is none
    #[arg(long, default_value_t = crate::training::distill::mlcd::GUIDANCE)]
    guidance: f64,
    /// What is made small: the squared difference, or a Huber function of its root
    #[arg(long, value_enum, default_value_t = DistanceName::PseudoHuber)]
    distance: DistanceName,
    /// Take no clips: noisy latents come from the teacher's own way down from noise, as in the paper (about five times slower)
    #[arg(long)]
    data_free: bool,
}

#[derive(Args)]
pub struct DmdArguments {
    #[command(flatten)]
    common: TeacherArguments,
    /// The model that the student begins as, by name or folder: one of few steps, such as from `distill mlcd` or `distill kd`
    #[arg(long, value_name = "MODEL")]
    student: String,
    /// Steps of a clip; 1000 is a multiple of them
    #[arg(long, default_value_t = crate::training::distill::dmd::SEGMENTS)]
    segments: usize,
    /// Scale of the teacher's guidance, which the student has built in afterwards; 1 is none
    #[arg(long, default_value_t = crate::training::distill::dmd::GUIDANCE)]
    guidance: f64,
    /// Learning rate of the critic, which learns what the student's clips are like
    #[arg(long, default_value_t = crate::training::distill::dmd::OPTIMISER.muon_learning_rate, value_parser = weight)]
    critic_learning_rate: f64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DistanceName {
    L2,
    Huber,
    PseudoHuber,
}

impl From<DistanceName> for Distance {
    fn from(name: DistanceName) -> Self {
        match name {
            DistanceName::L2 => Self::Squared,
            DistanceName::Huber => Self::Huber,
            DistanceName::PseudoHuber => Self::PseudoHuber,
        }
    }
}

#[derive(Args)]
pub struct KdArguments {
    #[command(flatten)]
    common: TeacherArguments,
    /// The student's masks: the file of a plan, from `tilereel search`
    #[arg(long, value_name = "PLAN")]
    student_plan: PathBuf,
    /// Weight of the difference of the predictions
    #[arg(long, default_value_t = crate::training::distill::kd::LOSS_WEIGHTS.output, value_parser = weight)]
    output_weight: f64,
    /// Weight of the relative difference of what the layers' self-attention gives
    #[arg(long, default_value_t = crate::training::distill::kd::LOSS_WEIGHTS.attention, value_parser = weight)]
    attention_weight: f64,
    /// Weight of the error of the student's own prediction
    #[arg(long, default_value_t = crate::training::distill::kd::LOSS_WEIGHTS.data, value_parser = weight)]
    data_weight: f64,
    /// Share of the samples at the times at which the model's sampler asks
    #[arg(long, default_value_t = crate::training::distill::kd::SNAPPED, value_parser = share)]
    at_sampler: f64,
}

fn weight(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(number),
        _ => Err("use a number that is not negative, such as 0.03".into()),
    }
}

pub fn run(command: Command) -> anyhow::Result<Status> {
    Ok(status(match command {
        Command::Mlcd(arguments) => setup::mlcd(&arguments)?,
        Command::Dmd(arguments) => setup::dmd(&arguments)?,
        Command::Kd(arguments) => setup::kd(&arguments)?,
    }))
}
