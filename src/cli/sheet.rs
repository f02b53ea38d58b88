//! `tilereel sheet`: many prompts on one picture, for looking at a model as a whole.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::progress::{Ended, Progress};
use super::settings::{ClipArguments, DeviceArguments};
use super::{Status, UsageError};
use crate::clip::{self, Frames, WriteOptions, contact_sheet};
use crate::generate::GenerateError;
use crate::generate::observer::{Observer, Phase};
use crate::generate::pipeline::{Outcome, RunOptions};
use crate::generate::preview::Projection;
use crate::studio::Engine;
use crate::studio::words::duration;

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
    /// Also fit the linear preview of the model's VAE to these clips and write it (preview.json)
    #[arg(long, value_name = "FILE")]
    fit_preview: Option<PathBuf>,
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
    let mut clips: Vec<Outcome> = Vec::new();
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
        match Progress::new(false, (0.05, 0.7)).follow(&ticket, || {}) {
            Ended::Result(outcome) => clips.push(outcome?),
            Ended::Interrupted => {
                eprintln!("Stopped; no sheet was written.");
                return Ok(Status::Stopped);
            }
        }
        eprintln!("{} of {}: {prompt}", index + 1, prompts.len());
    }
    if let Some(path) = &arguments.fit_preview {
        let in_range = |rgb: &[u8]| rgb.iter().map(|&v| f32::from(v) / 127.5 - 1.0).collect();
        let videos: Vec<Vec<f32>> = clips.iter().map(|clip| in_range(&clip.frames.rgb)).collect();
        let pairs = clips.iter().zip(&videos).map(|(clip, video)| (&clip.latent, video.as_slice()));
        let projection = Projection::fit(pairs, &format!("fitted to {} decoded clips", clips.len()));
        std::fs::write(path, projection.to_json()).with_context(|| format!("Cannot write {}", path.display()))?;
    }
    let frames: Vec<&Frames> = clips.iter().map(|clip| &clip.frames).collect();
    let sheet =
        contact_sheet(&frames, usize::from(arguments.columns), usize::from(arguments.tile_width)).map_err(GenerateError::from)?;
    clip::write_clip(&arguments.out, &sheet, None, &WriteOptions::default()).map_err(GenerateError::from)?;
    say!("{}: {} prompts in {}", arguments.out.display(), prompts.len(), duration(started.elapsed().as_secs_f64()));
    Ok(Status::Done)
}
