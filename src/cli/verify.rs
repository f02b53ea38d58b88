//! `tilereel verify`: makes a clip again from its own recipe.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::Status;
use super::progress::{Ended, Progress};
use super::settings::{ClipArguments, DeviceArguments, read_recipe};
use crate::clip::{self, Frames};
use crate::generate::GenerateError;
use crate::generate::estimate::{Estimate, Speeds};
use crate::generate::observer::{Observer, Phase};
use crate::generate::pipeline::RunOptions;
use crate::generate::tensor_file;
use crate::gpu::device::Precision;
use crate::studio::Engine;

#[derive(Args)]
pub struct Arguments {
    /// A clip with its recipe inside
    clip: PathBuf,
    #[command(flatten)]
    device: DeviceArguments,
    /// The model, if it is not found under the recipe's name
    #[arg(long)]
    model: Option<String>,
    /// The noise file that the clip began from, if it did
    #[arg(long)]
    noise: Option<PathBuf>,
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let recipe = read_recipe(&arguments.clip)?;
    let made = recipe.made.clone().context("The recipe does not say which frames it gave: it is one that was not run yet.")?;
    let mut device_arguments = arguments.device.clone();
    // The recipe's own precision, where this device has it.
    if device_arguments.precision.is_none() {
        device_arguments.precision = Some(recipe.precision);
    }
    let device = match device_arguments.open() {
        Ok(device) => device,
        Err(_) if arguments.device.precision.is_none() => arguments.device.open()?,
        Err(error) => return Err(error.into()),
    };
    let sha256 = recipe.model.sha256.clone();
    let noise_sha256 = recipe.noise_sha256.clone();
    let flags = ClipArguments { model: arguments.model.clone(), mask: None, ..ClipArguments::default() };
    let mask_plan = recipe.mask_plan.clone();
    let mut prepared = flags.prepare(None, Some(recipe), &device)?;
    // Another name for the model is fine, another model is not.
    prepared.recipe.model.sha256 = sha256;
    prepared.recipe.mask_plan = mask_plan;

    let noise = match &arguments.noise {
        Some(path) => {
            let (noise, found) = tensor_file::read_noise(path, &prepared.recipe, &prepared.folder)?;
            if noise_sha256.as_ref().is_some_and(|wanted| *wanted != found) {
                return Err(GenerateError::NoiseFileNeeded { sha256: noise_sha256.unwrap_or_default() }.into());
            }
            Some(noise)
        }
        None => None,
    };
    let estimate = Estimate::of(&prepared.folder, &prepared.recipe, &device, &Speeds::load())?;
    super::catch_interrupts();
    let engine = Engine::start().context("The system gives no thread for the engine")?;
    let (folder, recipe, job_device) = (prepared.folder, prepared.recipe, device.clone());
    let ticket = engine.submit(move |workshop, feed| {
        feed.phase(Phase::Load);
        workshop.model(folder, &job_device)?.run(&recipe, &RunOptions { noise, ..RunOptions::default() }, feed)
    });
    let ended = Progress::new(arguments.quiet, estimate.sampling_share()).follow(&ticket, || {});
    let outcome = match ended {
        Ended::Result(result) => result?,
        Ended::Interrupted => {
            eprintln!("Stopped.");
            return Ok(Status::Stopped);
        }
    };
    let name = arguments.clip.display();
    let stored = clip::read_frames(&arguments.clip);
    let edited = stored.as_ref().ok().and_then(|stored| edited(stored, &outcome.frames));
    if outcome.frames.sha256() == made.frames_sha256 {
        say!("{name}: identical (SHA-256 {})", made.frames_sha256);
        if let Some(edited) = edited {
            say!("That is about the frames as they were made: {edited}.");
        }
        return Ok(Status::Done);
    }
    let here = format!("{}, {}", device.name, if device.precision == Precision::F16 { "f16" } else { "f32" });
    say!("{name}: not identical. It was made on {}; this is {here}.", made.device);
    match (stored, edited) {
        (_, Some(edited)) => say!("The file's frames cannot be compared: {edited}."),
        (Ok(stored), None) => {
            let psnr = stored.psnr(&outcome.frames);
            let worst = psnr.iter().copied().fold(f64::INFINITY, f64::min);
            say!("PSNR per frame against the file (its compression included), worst {worst:.1} dB:");
            say!("{}", psnr.iter().map(|db| format!("{db:.1}")).collect::<Vec<_>>().join(" "));
        }
        (Err(error), None) => say!("The file's frames cannot be compared: {error}"),
    }
    Ok(Status::Differs)
}

/// What shows that a file was edited after its frames were made, if anything does. H.264 adds a column or row to odd sides.
fn edited(stored: &Frames, made: &Frames) -> Option<String> {
    let even = |side: usize| side.next_multiple_of(2);
    let same_size = (even(stored.width), even(stored.height)) == (even(made.width), even(made.height));
    let text = |frames: &Frames| format!("{} frames of {}x{}", frames.count(), frames.width, frames.height);
    (!same_size || stored.count() != made.count())
        .then(|| format!("the file was edited since, and has {} instead of {}", text(stored), text(made)))
}
