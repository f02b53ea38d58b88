//! `tilereel bench parallel`: calls of the transformer on one, two and more devices, with random weights, and what a model of their
//! cost says.
//!
//! Every plan is measured on the first device alone, and then on the first 2, 3, .. of the given devices. Beside that stand the
//! bytes that a layer moves, and how fast bytes move between each device and the program's memory. `--simulate` reckons what
//! more devices would give, from measured times of one device.

mod measure;
mod reckon;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use self::measure::{Job, Measured, measure};
use super::transformer::{parse_size, plan_named};
use crate::cli::Status;
use crate::cli::settings::DeviceArguments;
use crate::mask::{MaskError, paper};
use crate::model::dit::TransformerConfig;
use crate::model::latent::ClipSize;
use crate::studio::Engine;

#[derive(Args)]
pub struct ParallelBench {
    #[command(flatten)]
    device: DeviceArguments,
    /// Frames of the clip: 1, 5, 9, .. (4k + 1)
    #[arg(long, default_value_t = 29)]
    frames: usize,
    /// Width and height of the clip in pixels
    #[arg(long, default_value = "1280x720", value_parser = parse_size)]
    size: [usize; 2],
    /// Masks of all layers: full, K:N, near:D, or a searched plan of the paper's Table 2 (r0.025, .. r0.4); several with commas. Without it
    /// full, and the sparsest mask of the paper's Table 1 for this length
    #[arg(long, value_delimiter = ',')]
    plan: Vec<String>,
    /// The published transformer, or a small one to try the command with
    #[arg(long, default_value = "full-size", value_parser = ["full-size", "small"])]
    model: String,
    /// Layers that are made and measured; without it all of the model
    #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=256))]
    layers: Option<usize>,
    /// Tokens of the text
    #[arg(long, default_value_t = 512, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=4096))]
    text_tokens: usize,
    /// Rows of the batch: 2 is a call with guidance
    #[arg(long, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=2))]
    rows: usize,
    /// Calls of each plan, after two that warm up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// Only these numbers of devices, with commas; without it 1, 2, .. all
    #[arg(long, value_delimiter = ',')]
    ranks: Vec<usize>,
    /// Also time the parts of a call on the first of several devices
    #[arg(long)]
    parts: bool,
    /// Reckon the speed-up on 2, 4 and 8 devices like the first one
    #[arg(long)]
    simulate: bool,
    /// Times of one device, as `tilereel bench transformer --json` gives them; without it they are measured now
    #[arg(long, value_name = "FILE.json", requires = "simulate")]
    measured: Option<PathBuf>,
    /// GB/s from a device and to it, both at once, for --simulate; without it they are measured now
    #[arg(long, value_name = "FROM,TO", value_parser = parse_bandwidth, requires = "simulate")]
    bandwidth: Option<[f64; 2]>,
    #[arg(long)]
    json: bool,
}

fn parse_bandwidth(text: &str) -> Result<[f64; 2], String> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    let both = text.split_once(',').and_then(|(from, to)| Some([number(from)?, number(to)?]));
    both.ok_or_else(|| "use two numbers with a comma, such as 25,20".to_owned())
}

impl ParallelBench {
    fn config(&self) -> TransformerConfig {
        let published = TransformerConfig::published();
        let model = match self.model.as_str() {
            "small" => TransformerConfig {
                num_attention_heads: 4,
                attention_head_dim: 48,
                cross_attention_dim: 4 * 48,
                num_layers: 4,
                caption_channels: 192,
                ..published
            },
            _ => published,
        };
        TransformerConfig { num_layers: self.layers.unwrap_or(model.num_layers), ..model }
    }

    fn clip_size(&self) -> ClipSize {
        let [width, height] = self.size;
        ClipSize { frames: self.frames, width, height }
    }

    pub fn run(self) -> anyhow::Result<Status> {
        let size = self.clip_size();
        size.check()?;
        if self.simulate {
            return reckon::run(&self);
        }
        let config = self.config();
        let latent_frames = size.latent_frames();
        let names = match self.plan.is_empty() {
            true => paper::measured_masks(latent_frames).into_iter().take(2).collect(),
            false => self.plan.clone(),
        };
        let plans = names.into_iter().map(|name| plan_named(&name, config.num_layers, latent_frames).map(|plan| (name, plan)));
        let plans = plans.collect::<Result<Vec<_>, MaskError>>()?;
        let device = self.device.open()?;
        let devices = 1 + device.others.len();
        let ranks: Vec<usize> = if self.ranks.is_empty() { (1..=devices).collect() } else { self.ranks.clone() };
        if let Some(wrong) = ranks.iter().find(|&&ranks| ranks == 0 || ranks > devices) {
            bail!("--ranks {wrong} is more than there are devices: name them with --devices, such as --devices 0,1.");
        }
        let job = Job {
            size,
            plans,
            text_tokens: self.text_tokens,
            rows: self.rows,
            repeats: self.repeats,
            ranks,
            times_parts: self.parts,
            says_progress: !self.json,
        };
        if !self.json {
            say!(
                "transformer of {} x {}, {} layers, on {} in {}, {} kernels",
                config.num_attention_heads,
                config.attention_head_dim,
                config.num_layers,
                device.name_with_others(),
                device.precision,
                device.kernel_tier()
            );
            say!("{} x {} tokens, {} row(s)", latent_frames, size.tokens_per_frame(), self.rows);
        }
        let engine = Engine::start().context("The system gives no thread for the engine")?;
        let (job_device, job_config) = (device.clone(), config.clone());
        let ticket = engine.submit(move |_, _| measure(&job, &job_config, &job_device));
        let measured = loop {
            if let Some(result) = ticket.result(Duration::from_secs(1)) {
                break result?;
            }
        };
        if self.json {
            say!(
                "{:#}",
                json!({ "device": device.name_with_others(), "precision": device.precision, "layers": config.num_layers,
                    "latent_frames": latent_frames, "tokens_per_frame": size.tokens_per_frame(), "rows": self.rows,
                    "measured": measured })
            );
        } else {
            print(&measured);
        }
        Ok(Status::Done)
    }
}

fn print(measured: &Measured) {
    say!();
    for staging in &measured.staging {
        say!(
            "{}: {:.1} GB/s from it, {:.1} GB/s to it, {:.2} ms for the smallest copy",
            staging.device,
            staging.read_bytes_per_second / 1e9,
            staging.write_bytes_per_second / 1e9,
            1000.0 * staging.round_trip_seconds
        );
    }
    say!();
    say!(
        "{:<8} {:>5} {:>12} {:>9} {:>9} {:>9} {:>14} {:>14}  {}",
        "plan",
        "ranks",
        "a call",
        "spread",
        "speed-up",
        "expected",
        "read a layer",
        "written",
        "frames"
    );
    for run in &measured.runs {
        let layers = run.layers.max(1) as f64;
        say!(
            "{:<8} {:>5} {:>9.1} ms {:>7.1} % {:>7.2} x {:>7.2} x {:>11.1} MB {:>11.1} MB  {:?}",
            run.plan,
            run.ranks,
            run.median_millis,
            100.0 * (run.slowest_millis - run.fastest_millis) / run.median_millis,
            run.speed_up,
            run.expected_speed_up,
            run.read_bytes as f64 / layers / 1e6,
            run.sent_bytes as f64 / layers / 1e6,
            run.frames
        );
        for part in &run.parts {
            say!("         {:<16} {:>9.1} ms", part.what, part.millis);
        }
    }
}
