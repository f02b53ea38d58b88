//! `tilereel generate`: a prompt to a clip file.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::progress::{Ended, Progress, bytes, duration};
use super::settings::{ClipArguments, DeviceArguments, Prepared, read_recipe};
use super::{Status, UsageError};
use crate::clip::{self, ClipFormat, WriteOptions};
use crate::generate::GenerateError;
use crate::generate::estimate::{Estimate, Speeds};
use crate::generate::networks::Timing;
use crate::generate::observer::{Observer, Phase};
use crate::generate::pipeline::{Outcome, RunOptions};
use crate::generate::preview::Projection;
use crate::generate::recipe::{Made, Recipe};
use crate::generate::step_record::StepRecord;
use crate::generate::tensor_file;
use crate::gpu::device::ComputeDevice;
use crate::studio::{Engine, EngineError, Feed, Ticket};

#[derive(Args)]
pub struct Arguments {
    /// What the clip should show
    prompt: Option<String>,
    #[command(flatten)]
    clip: ClipArguments,
    #[command(flatten)]
    device: DeviceArguments,
    /// How many clips, with seeds that follow each other
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// The file to write; its ending chooses the kind: mp4, webm, gif, apng, webp, png [default: named after the prompt, .mp4]
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// Begin with the recipe of a clip or of a JSON file; other flags change it
    #[arg(long, value_name = "FILE|CLIP")]
    recipe: Option<PathBuf>,
    /// Go on with a stopped run, from its folder of step records
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["recipe", "prompt", "count"])]
    resume: Option<PathBuf>,
    /// Write what the steps lead to as an animated WebP after every N steps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    preview_every: Option<u32>,
    /// Keep the folder of step records when the clip is written
    #[arg(long)]
    keep_steps: bool,
    /// Leave the recipe out of the file
    #[arg(long)]
    no_recipe: bool,
    /// Start noise from a safetensors file (tensor `noise`, [1, channels, frames, height, width]) instead of the seed
    #[arg(long, value_name = "FILE")]
    noise: Option<PathBuf>,
    /// Also write the latent as the sampler left it (safetensors, tensor `latent`)
    #[arg(long, value_name = "FILE")]
    save_latent: Option<PathBuf>,
    /// Only say what it would cost
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// No progress, no warnings
    #[arg(long, short)]
    quiet: bool,
}

/// A run that is settled, but not begun.
struct Plan {
    prepared: Prepared,
    device: ComputeDevice,
    estimate: Estimate,
    resume: Option<StepRecord>,
    out: PathBuf,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let plan = arguments.plan()?;
    if !arguments.quiet {
        for warning in &plan.prepared.warnings {
            eprintln!("warning: {warning}");
        }
    }
    if arguments.dry_run {
        println!("{}", if arguments.json { dry_run_json(&plan) } else { dry_run_text(&plan) });
        return Ok(Status::Done);
    }
    super::catch_interrupts();
    let engine = Engine::start().context("The system gives no thread for the engine")?;
    for index in 0..arguments.count {
        let mut recipe = plan.prepared.recipe.clone();
        recipe.seed = recipe.seed.wrapping_add(u64::from(index));
        let out = if arguments.count == 1 { plan.out.clone() } else { numbered(&plan.out, index + 1) };
        if arguments.one(&engine, &plan, recipe, &out)? == Status::Stopped {
            return Ok(Status::Stopped);
        }
    }
    Ok(Status::Done)
}

impl Arguments {
    fn plan(&self) -> anyhow::Result<Plan> {
        let device = self.device.open()?;
        let resume = self.resume.as_deref().map(StepRecord::last_of).transpose()?;
        let base = match (&resume, &self.recipe) {
            (Some(record), _) => Some(record.recipe.clone()),
            (None, Some(path)) => Some(read_recipe(path)?),
            (None, None) => None,
        };
        let mut prepared = self.clip.prepare(self.prompt.as_deref(), base, &device)?;
        if let Some(record) = &resume
            && record.recipe != prepared.recipe
        {
            let what = if record.recipe.precision == prepared.recipe.precision {
                "flags that change the clip"
            } else {
                "a device with another precision"
            };
            return Err(UsageError(format!(
                "A stopped run cannot go on with {what}. Give --resume with the flags and device of before."
            ))
            .into());
        }
        if let Some(path) = &self.noise {
            prepared.recipe.noise_sha256 = Some(tensor_file::read_noise(path, &prepared.recipe, &prepared.folder)?.1);
        }
        let out = match (&self.out, &self.resume) {
            (Some(out), _) => out.clone(),
            (None, Some(folder)) => folder.with_extension(""),
            (None, None) => PathBuf::from(format!("{}-{}.mp4", file_stem(&prepared.recipe.prompt), prepared.recipe.seed)),
        };
        ClipFormat::from_path(&out).map_err(GenerateError::from)?;
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        anyhow::ensure!(
            folder.is_dir(),
            "The folder {} does not exist. Make it first, or choose another one with --out.",
            folder.display()
        );
        let estimate = Estimate::of(&prepared.folder, &prepared.recipe, &device, &Speeds::load())?;
        Ok(Plan { prepared, device, estimate, resume, out })
    }

    /// Makes one clip and writes it.
    fn one(&self, engine: &Engine, plan: &Plan, recipe: Recipe, out: &Path) -> anyhow::Result<Status> {
        let started = Instant::now();
        let records = records_folder(out);
        let options = RunOptions {
            noise: match &self.noise {
                Some(path) => Some(tensor_file::read_noise(path, &recipe, &plan.prepared.folder)?.0),
                None => None,
            },
            resume: plan.resume.clone(),
            records: Some(records.clone()),
        };
        let (folder, device, job_recipe) = (plan.prepared.folder.clone(), plan.device.clone(), recipe.clone());
        let previews = self.preview_every.is_some();
        let projection_slot = std::sync::Arc::new(std::sync::Mutex::new(None::<Projection>));
        let slot = projection_slot.clone();
        let ticket = engine.submit(move |workshop, feed: &mut Feed| {
            feed.phase(Phase::Load);
            let model = workshop.model(folder, &device)?;
            if model.is_cut(&job_recipe)? {
                feed.warn(format!(
                    "the prompt is longer than the {} tokens that the model reads; its end is ignored",
                    job_recipe.max_tokens
                ));
            }
            if previews {
                *slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(model.projection()?.clone());
            }
            model.run(&job_recipe, &options, feed)
        });
        let progress = Progress::new(self.quiet || self.json, plan.estimate.sampling_share());
        let ended = progress.follow(&ticket, |ticket| {
            let projection = projection_slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            if let (Some(every), Some(projection)) = (self.preview_every, projection) {
                write_preview(ticket, &projection, every as usize, &recipe, out);
            }
        });
        let outcome = match ended {
            Ended::Result(Ok(outcome)) => outcome,
            Ended::Result(Err(EngineError::Generate(GenerateError::Stopped))) | Ended::Interrupted { .. } => {
                say_stopped(&ended, &records, recipe.steps);
                return Ok(Status::Stopped);
            }
            Ended::Result(Err(error)) => return Err(error.into()),
        };
        self.finish(plan, recipe, out, &records, outcome, started)
    }

    fn finish(
        &self,
        plan: &Plan,
        mut recipe: Recipe,
        out: &Path,
        records: &Path,
        outcome: Outcome,
        started: Instant,
    ) -> anyhow::Result<Status> {
        let resumed = plan.resume.is_some();
        let Outcome { frames, latent, timing } = outcome;
        recipe.made = Some(made(&plan.device, frames.sha256()));
        if let Some(path) = &self.save_latent {
            tensor_file::write_latent(path, &latent)?;
        }
        let text = (!self.no_recipe).then(|| recipe.to_json());
        let written = clip::write_clip(out, &frames, text.as_deref(), &WriteOptions::default()).map_err(GenerateError::from)?;
        if !self.keep_steps {
            remove_records(records);
        }
        if !resumed {
            Speeds::learn(&plan.device, &plan.estimate, &timing);
        }
        let seconds = started.elapsed().as_secs_f64();
        if self.json {
            let paths: Vec<String> = written.paths.iter().map(|path| path.display().to_string()).collect();
            let result = json!({
                "paths": paths, "bytes": written.bytes, "frames_per_second": written.frames_per_second, "seconds": seconds,
                "timing": timing_json(&timing), "recipe": recipe, "note": written.note,
            });
            println!("{result:#}");
        } else if !self.quiet {
            let name = match written.paths.as_slice() {
                [one] => one.display().to_string(),
                [first, .., last] => format!("{} .. {}", first.display(), last.display()),
                [] => out.display().to_string(),
            };
            println!(
                "{name}: {} frames, {}x{}, {} in {} on {}, seed {}",
                frames.count(),
                frames.width,
                frames.height,
                bytes(written.bytes),
                duration(seconds),
                plan.device.name,
                recipe.seed
            );
            if let Some(note) = &written.note {
                println!("note: {note}");
            }
        }
        Ok(Status::Done)
    }
}

/// What is said of the device that made a clip.
pub fn made(device: &ComputeDevice, frames_sha256: String) -> Made {
    Made {
        device: device.name.clone(),
        driver: device.adapter.as_ref().map(|adapter| adapter.driver.clone()).unwrap_or_default(),
        kernel_tier: device.kernel_tier().to_owned(),
        frames_sha256,
    }
}

fn say_stopped<T>(ended: &Ended<T>, records: &Path, steps: usize) {
    let done = match ended {
        Ended::Interrupted { steps_done } => *steps_done,
        Ended::Result(_) => 0,
    };
    if StepRecord::last_of(records).is_ok() {
        eprintln!(
            "Stopped after step {done} of {steps}. Go on with: tilereel generate --resume {}",
            shell_word(&records.display().to_string())
        );
    } else {
        eprintln!("Stopped before the first step was done; nothing was written.");
    }
}

/// A word as a shell wants it.
fn shell_word(text: &str) -> String {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

fn write_preview(ticket: &Ticket<Outcome>, projection: &Projection, every: usize, recipe: &Recipe, out: &Path) {
    let Some((call, latent)) = ticket.take_denoised() else { return };
    if (call + 1) % every != 0 {
        return;
    }
    let frames = projection.frames(&latent, f64::from(recipe.frames_per_second));
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    let path = out.with_file_name(format!("{stem}-step-{:03}.webp", call + 1));
    if let Err(error) = clip::write_clip(&path, &frames, None, &WriteOptions::default()) {
        log::warn!("the preview was not written: {error}");
    }
}

/// The folder of a run's step records, beside its clip.
fn records_folder(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".steps");
    out.with_file_name(name)
}

/// Removes the records of a run and their folder, if nothing else is in it.
fn remove_records(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("step-") && name.ends_with(".safetensors") {
            let _ = std::fs::remove_file(path);
        }
    }
    let _ = std::fs::remove_dir(folder);
}

fn numbered(out: &Path, number: u32) -> PathBuf {
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    let ending = out.extension().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{stem}-{number}.{ending}"))
}

/// The first words of the prompt, as a file name.
fn file_stem(prompt: &str) -> String {
    const LONGEST: usize = 48;
    let mut stem = String::new();
    for word in prompt.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if stem.len() + word.len() >= LONGEST {
            break;
        }
        if !stem.is_empty() {
            stem.push('-');
        }
        stem.push_str(&word.to_lowercase());
    }
    if stem.is_empty() { "clip".into() } else { stem }
}

pub fn timing_json(timing: &Timing) -> serde_json::Value {
    json!({ "text_millis": timing.text_millis, "step_millis": timing.step_millis, "decode_millis": timing.decode_millis })
}

fn dry_run_json(plan: &Plan) -> String {
    let value = json!({ "recipe": plan.prepared.recipe, "device": plan.device.name, "estimate": plan.estimate, "out": plan.out.display().to_string() });
    format!("{value:#}")
}

fn dry_run_text(plan: &Plan) -> String {
    let (recipe, estimate) = (&plan.prepared.recipe, &plan.estimate);
    [
        format!("prompt     {}", recipe.prompt),
        format!("model      {} ({})", recipe.model.name, plan.prepared.folder.location()),
        format!("clip       {} frames, {}x{}, {} fps", recipe.frames, recipe.width, recipe.height, recipe.frames_per_second),
        format!(
            "sampling   {} with {} steps, guidance {}, seed {}",
            recipe.sampler, recipe.steps, recipe.guidance_scale, recipe.seed
        ),
        format!("attention  {:.1} % of the tiles", 100.0 * estimate.density),
        format!("device     {}, {}", plan.device.name, recipe.precision),
        format!("time       about {} ({})", duration(estimate.seconds), estimate.basis),
        format!("memory     about {}", bytes(estimate.memory_bytes)),
        format!("file       {}", plan.out.display()),
    ]
    .join("\n")
}
