//! `tilereel generate`: a prompt to a clip file.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::branch::Branch;
use super::progress::{Ended, Progress};
use super::settings::{ClipArguments, DeviceArguments, Prepared};
use super::{Status, UsageError};
use crate::clip::{self, ClipFormat, Frames, WriteOptions};
use crate::generate::GenerateError;
use crate::generate::attention_record::Recording;
use crate::generate::estimate::{Estimate, Speeds};
use crate::generate::networks::Timing;
use crate::generate::observer::{Observer, Phase};
use crate::generate::pipeline::{Outcome, RunOptions};
use crate::generate::preview::Projection;
use crate::generate::recipe::{Made, Recipe};
use crate::generate::step_record::StepRecord;
use crate::generate::tensor_file;
use crate::generate::timings::{Stopwatch, Timings};
use crate::gpu::device::ComputeDevice;
use crate::model::latent::Latent;
use crate::model::sampler::Sampler;
use crate::studio::words::{bytes, duration};
use crate::studio::{DEFAULT_RECORDING, Engine, EngineError, Feed, Shortage, file_stem, free_memory, read_recipe};

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
    /// Go on from a clip after one of its steps, with another prompt, seed, guidance or mask: the number of a clip of the
    /// library, or a clip file whose run is then made again up to that step
    #[arg(long, value_name = "CLIP:STEP", value_parser = super::branch::parse,
          conflicts_with_all = ["recipe", "resume", "noise", "sampler", "steps", "frames", "size"])]
    branch: Option<Branch>,
    /// Write what the steps lead to as an animated WebP after every N steps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    preview_every: Option<u32>,
    /// Keep the folder of step records when the clip is written
    #[arg(long)]
    keep_steps: bool,
    /// Record where every step looks, in its folder of step records, which is then kept
    /// [default: sampled with --keep-steps, else off]
    #[arg(long, value_enum)]
    attention: Option<AttentionWish>,
    /// Leave the recipe out of the file
    #[arg(long)]
    no_recipe: bool,
    /// Start noise from a safetensors file (tensor `noise`, [1, channels, frames, height, width]) instead of the seed
    #[arg(long, value_name = "FILE")]
    noise: Option<PathBuf>,
    /// Also write the latent as the sampler left it (safetensors, tensor `latent`)
    #[arg(long, value_name = "FILE")]
    save_latent: Option<PathBuf>,
    /// Time every layer and kind of work, and say where the time went; a little slower, with the same frames
    #[arg(long)]
    timings: bool,
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

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AttentionWish {
    Off,
    /// Skipped tiles are estimated from a sample of rows
    Sampled,
    /// All rows, which takes about as long as dense attention
    Exact,
}

/// A run that is settled, but not begun.
struct Plan {
    prepared: Prepared,
    device: ComputeDevice,
    estimate: Estimate,
    resume: Option<StepRecord>,
    /// The record of the step that a branch leaves, where it is kept.
    branch: Option<StepRecord>,
    out: PathBuf,
}

impl Plan {
    /// The CPU shares its memory with everything else, and a program that takes too much is ended without a word.
    fn memory_warning(&self) -> Option<String> {
        let short = Shortage::find(&self.estimate, &self.device, free_memory)?;
        let (needed, free) = (bytes(short.needed_bytes), bytes(short.free_bytes));
        Some(match short.is_helper {
            false => format!("this takes about {needed} of memory and {free} are free; fewer frames or a smaller size take less"),
            true => format!(
                "this takes about {needed} of memory on {} and it has {free}; fewer frames or a smaller size take less, or leave it out \
                 of --device",
                short.device
            ),
        })
    }
}

pub fn run(arguments: Arguments) -> anyhow::Result<Status> {
    let plan = arguments.plan()?;
    if !arguments.quiet {
        let unrecorded = (arguments.recording().is_some() && !plan.device.others.is_empty())
            .then(|| "attention is not recorded where several devices share a step; use one with --device".to_owned());
        for warning in plan.prepared.warnings.iter().chain(&plan.memory_warning()).chain(&unrecorded) {
            eprintln!("warning: {warning}");
        }
    }
    if arguments.dry_run {
        say!("{}", if arguments.json { dry_run_json(&plan) } else { dry_run_text(&plan) });
        return Ok(Status::Done);
    }
    super::catch_interrupts();
    let engine = Engine::start().context("The system gives no thread for the engine")?;
    for index in 0..arguments.count {
        let mut recipe = plan.prepared.recipe.clone();
        recipe.seed = recipe.seed.wrapping_add(u64::from(index));
        let out = if arguments.count == 1 { plan.out.clone() } else { numbered(&plan.out, index + 1) };
        let latent = arguments.save_latent.as_ref();
        let latent = latent.map(|path| if arguments.count == 1 { path.clone() } else { numbered(path, index + 1) });
        if arguments.one(&engine, &plan, recipe, &out, latent.as_deref())? == Status::Stopped {
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
        let (mut prepared, branch) = match &self.branch {
            Some(branch) => branch.prepare(self.prompt.as_deref(), &self.clip, &device)?,
            None => (self.clip.prepare(self.prompt.as_deref(), base, &device)?, None),
        };
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
        check_place(&out, "--out")?;
        if let Some(path) = &self.save_latent {
            check_place(path, "--save-latent")?;
        }
        let estimate = Estimate::of(&prepared.folder, &prepared.recipe, &device, &Speeds::load())?;
        Ok(Plan { prepared, device, estimate, resume, branch, out })
    }

    /// Makes one clip and writes it.
    fn one(&self, engine: &Engine, plan: &Plan, recipe: Recipe, out: &Path, latent: Option<&Path>) -> anyhow::Result<Status> {
        let started = Instant::now();
        let records = records_folder(out);
        if plan.resume.is_none() {
            // Those of an earlier run would be taken for this one's.
            remove_records(&records);
        }
        let options = RunOptions {
            noise: match &self.noise {
                Some(path) => Some(tensor_file::read_noise(path, &recipe, &plan.prepared.folder)?.0),
                None => None,
            },
            resume: plan.resume.clone(),
            branch: plan.branch.clone(),
            records: Some(records.clone()),
            expected_call_seconds: Some(plan.estimate.longest_call_seconds),
            ..RunOptions::default()
        };
        let (folder, device, job_recipe) = (plan.prepared.folder.clone(), plan.device.clone(), recipe.clone());
        let times_parts = self.timings;
        let every = self.preview_every.map(|every| every as usize);
        let (previews, previews_out) = channel();
        let recording = self.recording();
        let ticket = engine.submit(move |workshop, feed: &mut Feed| {
            feed.record_attention(recording);
            let mut watch = Stopwatch::start(&device, times_parts, feed);
            watch.phase(Phase::Load);
            let outcome = workshop.run(&folder, &device, options, &mut watch, |model, options, watch| {
                if model.is_cut(&job_recipe)? {
                    watch.inner.warn(format!(
                        "the prompt is longer than the {} tokens that the model reads; its end is ignored",
                        job_recipe.max_tokens
                    ));
                }
                let Some(every) = every else { return model.run(&job_recipe, options, watch) };
                let projection = model.projection()?.clone();
                let frames_per_second = f64::from(job_recipe.frames_per_second);
                let previews = previews.clone();
                model.run(&job_recipe, options, &mut Previewing { watch, projection, every, frames_per_second, previews })
            })?;
            Ok((outcome, watch.finish()))
        });
        let progress = Progress::new(self.quiet || self.json, plan.estimate.sampling_share());
        let ended = progress.follow(&ticket, || {
            for (step, frames) in previews_out.try_iter() {
                self.write_preview(step, &frames, out);
            }
        });
        match ended {
            Ended::Result(Ok(made)) => {
                let finished = self.finish(plan, recipe, out, latent, made, started);
                if finished.is_err() && StepRecord::last_of(&records).is_ok() {
                    eprintln!(
                        "note: the sampled steps are kept; the clip can still be written with: {}",
                        self.resume_command(&records)
                    );
                }
                finished.map(|()| Status::Done)
            }
            Ended::Result(Err(EngineError::Generate(GenerateError::Stopped))) | Ended::Interrupted => {
                self.say_stopped(&records);
                Ok(Status::Stopped)
            }
            Ended::Result(Err(error)) => {
                // Not with records in it, only if the first could not be written.
                let _ = std::fs::remove_dir(&records);
                Err(error.into())
            }
        }
    }

    fn recording(&self) -> Option<Recording> {
        match self.attention {
            Some(AttentionWish::Off) => None,
            Some(AttentionWish::Sampled) => Some(Recording::Sampled),
            Some(AttentionWish::Exact) => Some(Recording::Exact),
            None => DEFAULT_RECORDING.filter(|_| self.keep_steps),
        }
    }

    fn say_stopped(&self, records: &Path) {
        match StepRecord::last_of(records) {
            Ok(last) => {
                // Some samplers call the network more than once a step, and the progress line counts calls.
                let calls =
                    Sampler::new(last.recipe.sampler, last.recipe.steps).map_or(last.next_call, |sampler| sampler.calls());
                eprintln!("Stopped after step {} of {calls}. Go on with: {}", last.next_call, self.resume_command(records));
            }
            Err(_) => eprintln!("Stopped before the first step was done; nothing was written."),
        }
    }

    /// What to type to go on from a run's records: on the same device, and with the model where it was found.
    fn resume_command(&self, records: &Path) -> String {
        let mut command = format!("tilereel generate --resume {}", shell_word(&records.display().to_string()));
        if self.device.device != "auto" {
            command += &format!(" --device {}", shell_word(&self.device.device));
        }
        if let Some(precision) = self.device.precision {
            command += &format!(" --precision {precision}");
        }
        if let Some(wish) = self.attention.and_then(|wish| wish.to_possible_value()) {
            command += &format!(" --attention {}", wish.get_name());
        }
        if let Some(model) = &self.clip.model {
            command += &format!(" --model {}", shell_word(model));
        }
        command
    }

    fn write_preview(&self, step: usize, frames: &Frames, out: &Path) {
        let stem = out.file_stem().unwrap_or_default().to_string_lossy();
        let path = out.with_file_name(format!("{stem}-step-{step:03}.webp"));
        if let Err(error) = clip::write_clip(&path, frames, None, &WriteOptions::default())
            && !self.quiet
        {
            eprintln!("warning: the preview of step {step} was not written: {error}");
        }
    }

    fn finish(
        &self,
        plan: &Plan,
        mut recipe: Recipe,
        out: &Path,
        latent_path: Option<&Path>,
        (outcome, mut timings): (Outcome, Timings),
        started: Instant,
    ) -> anyhow::Result<()> {
        // Part of a run says nothing about the time of a whole one, nor does one that did more.
        let is_usual = plan.resume.is_none()
            && outcome.devices == 1 + plan.device.others.len()
            && recipe.branch.is_none()
            && self.recording() != Some(Recording::Exact);
        let Outcome { frames, latent, timing, earlier_devices, .. } = outcome;
        recipe.made = Some(Made { earlier_devices, ..Made::on(&plan.device, &frames) });
        if let Some(path) = latent_path {
            tensor_file::write_latent(path, &latent)?;
        }
        let text = (!self.no_recipe).then(|| recipe.to_json());
        let keeping = Instant::now();
        let written = clip::write_clip(out, &frames, text.as_deref(), &WriteOptions::default()).map_err(GenerateError::from)?;
        timings.add(Phase::Keeping, keeping.elapsed().as_secs_f64());
        if !self.keep_steps && self.recording().is_none() {
            remove_records(&records_folder(out));
        }
        if is_usual {
            Speeds::load().learn(&plan.device, &plan.estimate, &timing);
        }
        let seconds = started.elapsed().as_secs_f64();
        if self.json {
            let paths: Vec<String> = written.paths.iter().map(|path| path.display().to_string()).collect();
            let result = json!({
                "paths": paths, "bytes": written.bytes, "frames_per_second": written.frames_per_second, "seconds": seconds,
                "timing": timing_json(&timing), "timings": self.timings.then_some(&timings), "recipe": recipe, "note": written.note,
            });
            say!("{result:#}");
        } else if !self.quiet {
            let name = match written.paths.as_slice() {
                [one] => one.display().to_string(),
                [first, .., last] => format!("{} .. {}", first.display(), last.display()),
                [] => out.display().to_string(),
            };
            say!(
                "{name}: {} frames, {}x{}, {} in {} on {}, seed {}",
                frames.count(),
                frames.width,
                frames.height,
                bytes(written.bytes),
                duration(seconds),
                plan.device.name_with_others(),
                recipe.seed
            );
            if let Some(note) = &written.note {
                say!("note: {note}");
            }
            if self.timings {
                say!("");
                super::timings::print(&timings);
            }
        }
        Ok(())
    }
}

/// A word as a shell wants it.
fn shell_word(text: &str) -> String {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Passes a run's events on, and after every few steps frames of where they lead.
struct Previewing<'a> {
    watch: &'a mut dyn Observer,
    projection: Projection,
    every: usize,
    frames_per_second: f64,
    previews: Sender<(usize, Frames)>,
}

impl Observer for Previewing<'_> {
    fn phase(&mut self, phase: Phase) {
        self.watch.phase(phase);
    }

    fn step(&mut self, call: usize, calls: usize, millis: f64) {
        self.watch.step(call, calls, millis);
    }

    fn denoised(&mut self, call: usize, latent: &Latent) {
        if (call + 1).is_multiple_of(self.every) {
            // If nobody waits for it, the run has been given up.
            let _ = self.previews.send((call + 1, self.projection.frames(latent, self.frames_per_second)));
        }
    }

    fn wants_attention(&self) -> Option<Recording> {
        self.watch.wants_attention()
    }

    fn stop(&self) -> bool {
        self.watch.stop()
    }
}

/// That a file can be put there: better now than after an hour of sampling.
fn check_place(file: &Path, flag: &str) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    anyhow::ensure!(
        folder.is_dir(),
        "The folder {} does not exist. Make it first, or choose another one with {flag}.",
        folder.display()
    );
    anyhow::ensure!(!file.is_dir(), "{} is a folder. Give {flag} the name of a file.", file.display());
    Ok(())
}

/// The folder of a run's step records, beside its clip.
pub fn records_folder(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".steps");
    out.with_file_name(name)
}

/// Removes the records of a run and their folder, if nothing else is in it.
fn remove_records(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_record = |beginning: &str, ending: &str| name.starts_with(beginning) && name.ends_with(ending);
        if is_record("step-", ".safetensors") || is_record("attention-", ".png") {
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

pub fn timing_json(timing: &Timing) -> serde_json::Value {
    json!({ "text_millis": timing.text_millis, "step_millis": timing.step_millis, "decode_millis": timing.decode_millis })
}

fn dry_run_json(plan: &Plan) -> String {
    let value = json!({ "recipe": plan.prepared.recipe, "device": plan.device.name, "estimate": plan.estimate, "out": plan.out.display().to_string() });
    format!("{value:#}")
}

/// Of each device.
fn memory_text(plan: &Plan) -> String {
    let Estimate { memory_bytes, others_memory_bytes, .. } = &plan.estimate;
    let first = format!("about {}", bytes(*memory_bytes));
    if others_memory_bytes.is_empty() {
        return first;
    }
    let others = plan.device.others.iter().zip(others_memory_bytes);
    let others = others.map(|(device, needed)| format!(", {} on {}", bytes(*needed), device.name));
    format!("{first} on {}{}", plan.device.name, others.collect::<String>())
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
        format!("device     {}, {}", plan.device.name_with_others(), recipe.precision),
        format!("time       about {} ({})", duration(estimate.seconds), estimate.basis),
        format!("memory     {}", memory_text(plan)),
        format!("file       {}", plan.out.display()),
    ]
    .join("\n")
}
