//! `tilereel bench recording`: what recording the attention costs a step.
//!
//! Steps without recording, with a sample and with all rows follow each other in turn within the same run, so that what else
//! happens on the machine meets all three alike. A step is whole: the network, the sampler, and the files that it leaves.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::super::Status;
use super::super::settings::{ClipArguments, DeviceArguments};
use crate::generate::GenerateError;
use crate::generate::attention_record::{AttentionRecord, Recording};
use crate::generate::observer::Observer;
use crate::generate::pipeline::RunOptions;
use crate::studio::{Engine, words};

#[derive(Args)]
pub struct RecordingBench {
    #[command(flatten)]
    clip: ClipArguments,
    #[command(flatten)]
    device: DeviceArguments,
    /// Steps of each kind, after one that warms up
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeats: u16,
    #[arg(long)]
    json: bool,
}

const KINDS: [(&str, Option<Recording>); 3] =
    [("off", None), ("sampled", Some(Recording::Sampled)), ("exact", Some(Recording::Exact))];

/// Takes the kinds in turn, and ends the run when it has seen enough.
struct Turns {
    taken: usize,
    wanted: usize,
    /// Of each kind.
    millis: [Vec<f64>; 3],
}

impl Observer for Turns {
    fn wants_attention(&self) -> Option<Recording> {
        KINDS[self.taken % 3].1
    }

    fn step(&mut self, _call: usize, _calls: usize, millis: f64) {
        // The first of each kind may compile shaders.
        if self.taken >= 3 {
            self.millis[self.taken % 3].push(millis);
        }
        self.taken += 1;
    }

    fn stop(&self) -> bool {
        self.taken >= self.wanted
    }
}

impl RecordingBench {
    pub fn run(mut self) -> anyhow::Result<Status> {
        self.clip.seed.get_or_insert(1);
        let device = self.device.open()?;
        let prepared = self.clip.prepare(Some("a shiny red ball bounces on the snow at sunset"), None, &device)?;
        let engine = Engine::start().context("The system gives no thread for the engine")?;
        let records = tempfile::tempdir().context("Cannot make a temporary folder")?;
        let options = RunOptions { records: Some(records.path().to_owned()), ..RunOptions::default() };
        let mut turns = Turns { taken: 0, wanted: 3 * (usize::from(self.repeats) + 1), millis: Default::default() };
        let (folder, recipe, job_device) = (prepared.folder.clone(), prepared.recipe.clone(), device.clone());
        let ticket = engine.submit(move |workshop, _| {
            let model = workshop.model(folder, &job_device)?;
            while !turns.stop() {
                match model.run(&recipe, &options, &mut turns) {
                    Ok(_) | Err(GenerateError::Stopped) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok::<_, GenerateError>(turns.millis)
        });
        let millis = loop {
            if let Some(result) = ticket.result(Duration::from_secs(1)) {
                break result?;
            }
        };
        let largest_record = (1..=prepared.recipe.steps)
            .filter_map(|step| Some(std::fs::metadata(AttentionRecord::path_in(records.path(), step)).ok()?.len()))
            .max()
            .unwrap_or_default();
        let figures: Vec<(&str, f64, f64)> = KINDS
            .iter()
            .zip(&millis)
            .map(|((name, _), own)| {
                let ratios = own.iter().zip(&millis[0]).map(|(own, off)| own / off);
                (*name, median(own.clone()), median(ratios.collect()))
            })
            .collect();
        let plan = prepared.recipe.plan(crate::generate::pipeline::transformer_config(&prepared.folder)?.num_layers)?;
        if self.json {
            let kinds: Vec<_> = figures
                .iter()
                .zip(millis)
                .map(|((name, step, ratio), all)| {
                    json!({ "recording": name, "step_millis": step, "ratio": ratio, "all_step_millis": all })
                })
                .collect();
            say!(
                "{:#}",
                json!({ "device": device.name, "precision": device.precision, "kernel_tier": device.kernel_tier(),
                    "recipe": prepared.recipe, "density": plan.density(), "kinds": kinds, "largest_record_bytes": largest_record })
            );
            return Ok(Status::Done);
        }
        let recipe = &prepared.recipe;
        say!(
            "{}, {} frames of {}x{}, {:.1} % of the tiles, on {} in {}, {} kernels",
            recipe.model.name,
            recipe.frames,
            recipe.width,
            recipe.height,
            100.0 * plan.density(),
            device.name,
            device.precision,
            device.kernel_tier()
        );
        for (name, step, ratio) in figures {
            say!("{name:<8} {step:>9.1} ms a step, {ratio:.3} of a step without",);
        }
        say!("a step's record takes up to {}", words::bytes(largest_record));
        Ok(Status::Done)
    }
}

/// Of at least one value.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
