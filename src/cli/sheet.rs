//! `tilereel sheet`: many prompts on one picture, for looking at a model as a whole.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::progress::{Ended, Progress, duration};
use super::settings::{ClipArguments, DeviceArguments};
use super::{Status, UsageError};
use crate::clip::{self, Frames, WriteOptions, contact_sheet};
use crate::generate::GenerateError;
use crate::generate::observer::{Observer, Phase};
use crate::generate::pipeline::RunOptions;
use crate::studio::Engine;

#[derive(Args)]
pub struct Arguments {
    /// A text file with one prompt a line
    prompts: PathBuf,
    #[command(flatten)]
    clip: ClipArguments,
    #[command(flatten)]
    device: DeviceArguments,
    /// The picture to write
    #[arg(long, short, default_value = "sheet.png")]
    out: PathBuf,
    /// Frames of every clip
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    columns: u16,
    /// Width of a frame on the sheet in pixels
    #[arg(long, default_value_t = 192, value_parser = clap::value_parser!(u16).range(16..=2048))]
    tile_width: u16,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let text =
        std::fs::read_to_string(&arguments.prompts).with_context(|| format!("Cannot read {}", arguments.prompts.display()))?;
    let prompts: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if prompts.is_empty() {
        return Err(UsageError(format!("{} has no prompts. Write one a line.", arguments.prompts.display())).into());
    }
    clip::ClipFormat::from_path(&arguments.out).map_err(GenerateError::from)?;
    let device = arguments.device.open()?;
    super::catch_interrupts();
    let engine = Engine::start().context("The system gives no thread for the engine")?;
    let started = std::time::Instant::now();
    let mut clips: Vec<Frames> = Vec::new();
    let first_seed = arguments.clip.seed.unwrap_or(1);
    for (index, prompt) in prompts.iter().enumerate() {
        let mut flags = arguments.clip.clone();
        flags.seed = Some(first_seed.wrapping_add(index as u64));
        let prepared = flags.prepare(Some(prompt), None, &device)?;
        let (folder, recipe, job_device) = (prepared.folder, prepared.recipe, device.clone());
        let ticket = engine.submit(move |workshop, feed| {
            feed.phase(Phase::Load);
            workshop.model(folder, &job_device)?.run(&recipe, &RunOptions::default(), feed)
        });
        match Progress::new(false, (0.05, 0.7)).follow(&ticket, |_| {}) {
            Ended::Result(outcome) => clips.push(outcome?.frames),
            Ended::Interrupted { .. } => {
                eprintln!("Stopped; no sheet was written.");
                return Ok(Status::Stopped);
            }
        }
        eprintln!("{} of {}: {prompt}", index + 1, prompts.len());
    }
    let clips: Vec<&Frames> = clips.iter().collect();
    let sheet =
        contact_sheet(&clips, usize::from(arguments.columns), usize::from(arguments.tile_width)).map_err(GenerateError::from)?;
    clip::write_clip(&arguments.out, &sheet, None, &WriteOptions::default()).map_err(GenerateError::from)?;
    println!("{}: {} prompts in {}", arguments.out.display(), prompts.len(), duration(started.elapsed().as_secs_f64()));
    Ok(Status::Done)
}
