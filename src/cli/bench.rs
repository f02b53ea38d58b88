//! `tilereel bench`: how long things take on this machine.

mod kernels;
mod networks;
mod parallel;
mod recording;
mod stand_in;
mod transformer;
mod world;

use std::time::Instant;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use super::Status;
use super::generate::timing_json;
use super::settings::{ClipArguments, DeviceArguments};
use crate::clip::{self, WriteOptions};
use crate::generate::GenerateError;
use crate::generate::observer::Unobserved;
use crate::generate::pipeline::RunOptions;
use crate::studio::Engine;
use crate::studio::words::duration;

#[derive(Subcommand)]
pub enum Command {
    /// The phases of a whole clip: loading, text, steps, decoding, writing.
    Clip(Box<ClipBench>),
    /// The attention at the published model's size: full, with the paper's masks, and to a text
    Attention(kernels::AttentionBench),
    /// The linear layers of a block of the published transformer
    Linear(kernels::LinearBench),
    /// Convolutions of the published decoder
    Conv(kernels::ConvBench),
    /// Whole calls of the transformer at the published size with random weights, dense and sparse
    Transformer(Box<transformer::TransformerBench>),
    /// Calls of the transformer on several devices, and what a model of their cost says of more
    Parallel(Box<parallel::ParallelBench>),
    /// The text encoder at the published size, streamed from disk
    TextEncoder(networks::TextEncoderBench),
    /// The VAE's decoder at the published size with random weights
    Decoder(networks::DecoderBench),
    /// The renderer of the procedural world: clips a second on the device, and a clip on the processor
    World(world::WorldBench),
    /// What recording the attention costs a step: off, sampled and exact in turn.
    Recording(Box<recording::RecordingBench>),
    /// The window: how soon it is there, how smooth it stays while clips are made, what previews cost, how fast a run stops,
    /// how right its predictions are. It opens, makes four clips in a library of its own, and closes.
    #[cfg(feature = "gui")]
    Window(WindowBench),
}

#[cfg(feature = "gui")]
#[derive(Args)]
pub struct WindowBench {
    #[command(flatten)]
    device: DeviceArguments,
}

#[derive(Args)]
pub struct ClipBench {
    #[arg(default_value = "a shiny red ball bounces on the snow at sunset")]
    prompt: String,
    #[command(flatten)]
    clip: ClipArguments,
    #[command(flatten)]
    device: DeviceArguments,
    /// Runs; the first is cold (shaders are compiled), the others warm
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    #[arg(long)]
    json: bool,
}

/// `started` is when the process was.
pub fn run(
    command: Command,
    #[cfg_attr(not(feature = "gui"), expect(unused_variables, reason = "for the window"))] started: Instant,
) -> anyhow::Result<Status> {
    match command {
        Command::Clip(bench) => bench.run(),
        Command::Attention(bench) => bench.run(),
        Command::Linear(bench) => bench.run(),
        Command::Conv(bench) => bench.run(),
        Command::Transformer(bench) => bench.run(),
        Command::Parallel(bench) => bench.run(),
        Command::TextEncoder(bench) => bench.run(),
        Command::Decoder(bench) => bench.run(),
        Command::World(bench) => bench.run(),
        Command::Recording(bench) => bench.run(),
        #[cfg(feature = "gui")]
        Command::Window(bench) => bench.run(started),
    }
}

impl ClipBench {
    fn run(mut self) -> anyhow::Result<Status> {
        self.clip.seed.get_or_insert(1);
        let device = self.device.open()?;
        let prepared = self.clip.prepare(Some(&self.prompt), None, &device)?;
        let engine = Engine::start().context("The system gives no thread for the engine")?;
        let folder = tempfile::tempdir().context("Cannot make a temporary folder")?;
        let mut rows = Vec::new();
        if !self.json {
            say!(
                "{} with {}, {} frames of {}x{}, {} steps, on {} in {}, {} kernels",
                prepared.recipe.model.name,
                prepared.recipe.sampler,
                prepared.recipe.frames,
                prepared.recipe.width,
                prepared.recipe.height,
                prepared.recipe.steps,
                device.name,
                device.precision,
                device.kernel_tier()
            );
            say!(
                "{:>4} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}   frames",
                "run",
                "load",
                "text",
                "sampling",
                "decoding",
                "mp4",
                "total"
            );
        }
        for run in 0..self.runs {
            let started = Instant::now();
            let (model_folder, recipe, job_device) = (prepared.folder.clone(), prepared.recipe.clone(), device.clone());
            let ticket = engine.submit(move |workshop, _| {
                let started = Instant::now();
                let model = workshop.model(model_folder, &job_device)?;
                let load_millis = started.elapsed().as_secs_f64() * 1000.0;
                Ok::<_, GenerateError>((load_millis, model.run(&recipe, &RunOptions::default(), &mut Unobserved)?))
            });
            let (load_millis, outcome) = loop {
                if let Some(result) = ticket.result(std::time::Duration::from_secs(1)) {
                    break result?;
                }
            };
            let writing = Instant::now();
            let path = folder.path().join("clip.mp4");
            clip::write_clip(&path, &outcome.frames, Some(&prepared.recipe.to_json()), &WriteOptions::default())
                .map_err(GenerateError::from)?;
            let write_millis = writing.elapsed().as_secs_f64() * 1000.0;
            let total_millis = started.elapsed().as_secs_f64() * 1000.0;
            let timing = &outcome.timing;
            let sampling_millis: f64 = timing.step_millis.iter().sum();
            if !self.json {
                let cell = |millis: f64| duration_cell(millis);
                say!(
                    "{:>4} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}   {}",
                    run + 1,
                    cell(load_millis),
                    cell(timing.text_millis),
                    cell(sampling_millis),
                    cell(timing.decode_millis),
                    cell(write_millis),
                    cell(total_millis),
                    &outcome.frames.sha256()[..12]
                );
            }
            rows.push(json!({ "load_millis": load_millis, "timing": timing_json(timing), "write_millis": write_millis,
                "total_millis": total_millis, "frames_sha256": outcome.frames.sha256() }));
        }
        if self.json {
            say!(
                "{:#}",
                json!({ "device": device.name, "precision": device.precision, "kernel_tier": device.kernel_tier(), "recipe": prepared.recipe, "runs": rows })
            );
        } else if let Some(peak) = peak_memory_bytes() {
            say!("peak memory of the process: {}", crate::studio::words::bytes(peak));
        }
        Ok(Status::Done)
    }
}

#[cfg(feature = "gui")]
impl WindowBench {
    fn run(&self, started: Instant) -> anyhow::Result<Status> {
        use crate::app::{Report, WindowOptions};
        let folder = tempfile::tempdir().context("Cannot make a temporary folder")?;
        let report = Report::default();
        crate::app::open(WindowOptions {
            home: crate::studio::Home::in_folder(folder.path()),
            device: self.device.wish()?,
            open: None,
            prompt: None,
            export_to: None,
            started,
            bench: Some(report.clone()),
        })?;
        let figures = report.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        say!("{:#}", json!(*figures));
        Ok(Status::Done)
    }
}

fn duration_cell(millis: f64) -> String {
    if millis < 1000.0 { format!("{millis:.0} ms") } else { duration(millis / 1000.0) }
}

/// The most memory that this process had resident; known on Linux only.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
