//! `tilereel verify`: makes a clip again from its own recipe.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::progress::{Ended, Progress};
use super::settings::{ClipArguments, DeviceArguments};
use super::{Status, library};
use crate::clip;
use crate::generate::GenerateError;
use crate::generate::estimate::{Estimate, Speeds};
use crate::generate::observer::{Observer, Phase};
use crate::generate::pipeline::RunOptions;
use crate::generate::tensor_file;
use crate::studio::{Engine, Verdict, read_recipe};

#[derive(Args)]
pub struct Arguments {
    /// The number of a clip of the library, or a file with its recipe inside
    clip: String,
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
    let clip_file = library::clip_file(&arguments.clip)?;
    let recipe = read_recipe(&clip_file)?;
    anyhow::ensure!(recipe.made.is_some(), "The recipe does not say which frames it gave: it is one that was not run yet.");
    let recipe_of_clip = recipe.clone();
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
    let name =
        if clip_file.to_str() == Some(&*arguments.clip) { arguments.clip.clone() } else { format!("clip {}", arguments.clip) };
    let verdict = Verdict::of(&recipe_of_clip, &outcome.frames, &device, || clip::read_frames(&clip_file));
    say!("{name}: {}", verdict.sentence());
    if let Verdict::Different { psnr, .. } = &verdict {
        if let Ok(psnr) = psnr {
            say!("PSNR per frame: {}", psnr.iter().map(|db| format!("{db:.1}")).collect::<Vec<_>>().join(" "));
        }
        return Ok(Status::Differs);
    }
    Ok(Status::Done)
}
