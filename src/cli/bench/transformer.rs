//! `tilereel bench transformer`: whole calls of the transformer at the published size, with random weights.
//!
//! Every plan is measured in turn: calls by the wall clock (each ends with a wait for the device), then one call with the
//! program's own timing of its parts, which is by the GPU's timestamps where it has any. With fewer layers than the published
//! model has, the time of all layers is extrapolated, and said so.

mod measure;
mod report;
mod torch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use self::measure::{Job, measure};
use self::torch::TorchFile;
use crate::cli::Status;
use crate::cli::settings::DeviceArguments;
use crate::generate::estimate::{transformer_activation_bytes, transformer_parameters};
use crate::gpu::device::{ComputeDevice, Precision, Residency};
use crate::mask::{MaskError, MaskPlan, paper};
use crate::model::dit::TransformerConfig;
use crate::model::latent::ClipSize;
use crate::studio::{Engine, words};

#[derive(Args)]
pub struct TransformerBench {
    #[command(flatten)]
    device: DeviceArguments,
    /// Frames of the clip: 1, 5, 9, .. (4k + 1)
    #[arg(long, default_value_t = 29)]
    frames: usize,
    /// Width and height of the clip in pixels
    #[arg(long, default_value = "1280x720", value_parser = parse_size)]
    size: [usize; 2],
    /// Masks of all layers: full, K:N, near:D, or a searched plan of the paper's Table 2 (r0.025, r0.05, r0.1, r0.2, r0.4); several
    /// with commas. Without it full and the masks of the paper's Table 1 for this length
    #[arg(long, value_delimiter = ',')]
    plan: Vec<String>,
    /// Layers that are made and measured
    #[arg(long, default_value_t = 32, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=256))]
    layers: usize,
    #[arg(long, default_value_t = 24, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=256))]
    heads: usize,
    /// Channels of a head, a multiple of 6
    #[arg(long, default_value_t = 96, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(6..=128))]
    head: usize,
    /// Channels of the text encoder
    #[arg(long, default_value_t = 4096, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=65536))]
    caption_channels: usize,
    /// Tokens of the text
    #[arg(long, default_value_t = 512, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=4096))]
    text_tokens: usize,
    /// Rows of the batch: 2 is a call with guidance
    #[arg(long, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=8))]
    rows: usize,
    /// Calls of each plan, after one that warms up; fewer if they take more than --seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// Seconds for each plan, but three calls at least
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Compares with the figures of tests/bench/torch_baseline.py, from the same machine
    #[arg(long, value_name = "FILE.json")]
    torch: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

pub(super) fn parse_size(text: &str) -> Result<[usize; 2], String> {
    let side = |text: &str| text.trim().parse().ok();
    let (width, height) = text.split_once('x').ok_or("use WIDTHxHEIGHT, such as 1280x720")?;
    match (side(width), side(height)) {
        (Some(width), Some(height)) => Ok([width, height]),
        _ => Err("use WIDTHxHEIGHT, such as 1280x720".to_owned()),
    }
}

pub(super) fn plan_named(name: &str, layers: usize, frames: usize) -> Result<MaskPlan, MaskError> {
    paper::searched_plan(name, layers, frames).unwrap_or_else(|| MaskPlan::uniform(layers, frames, name))
}

/// What a call is expected to take of the device's memory, in bytes.
#[derive(Clone, Copy, Debug)]
struct Forecast {
    weights: f64,
    activations: f64,
}

impl Forecast {
    fn of(config: &TransformerConfig, tokens: usize, rows: usize, device: &ComputeDevice) -> Self {
        let bytes = if device.precision == Precision::F16 { 2.0 } else { 4.0 };
        let all = transformer_parameters(config) * bytes;
        // Two layers, and the next on its way.
        let streamed = (3.0 * all / config.num_layers as f64).min(all);
        Self {
            weights: if device.residency == Residency::Stream { streamed } else { all },
            activations: transformer_activation_bytes(config, tokens, rows, bytes),
        }
    }

    fn total(&self) -> f64 {
        self.weights + self.activations
    }
}

impl TransformerBench {
    fn config(&self) -> TransformerConfig {
        TransformerConfig {
            num_attention_heads: self.heads,
            attention_head_dim: self.head,
            cross_attention_dim: self.heads * self.head,
            num_layers: self.layers,
            caption_channels: self.caption_channels,
            ..TransformerConfig::published()
        }
    }

    pub fn run(self) -> anyhow::Result<Status> {
        let config = self.config();
        if let Some(reason) = config.unsupported() {
            bail!("This transformer cannot run: {reason}. Choose other --heads, --head or --layers.");
        }
        let [width, height] = self.size;
        let size = ClipSize { frames: self.frames, width, height };
        size.check()?;
        let latent_frames = size.latent_frames();
        let names = if self.plan.is_empty() { paper::measured_masks(latent_frames) } else { self.plan.clone() };
        let plans = names.into_iter().map(|name| plan_named(&name, self.layers, latent_frames).map(|plan| (name, plan)));
        let plans = plans.collect::<Result<Vec<_>, MaskError>>()?;
        let torch = self.torch.as_deref().map(TorchFile::read).transpose()?;
        let device = self.device.open()?;
        let tokens = size.latent_frames() * size.tokens_per_frame();
        let forecast = Forecast::of(&config, tokens, self.rows, &device);
        if let Some(memory) = device.adapter.as_ref().and_then(|adapter| adapter.memory_bytes)
            && forecast.total() > memory as f64
        {
            bail!(
                "This call is expected to take {}, but {} has {}. Choose fewer --layers, --frames or --rows.",
                words::bytes(forecast.total() as u64),
                device.name,
                words::bytes(memory)
            );
        }
        if !self.json {
            say!(
                "transformer of {} x {}, {} layers, on {} in {}, {} kernels",
                self.heads,
                self.head,
                self.layers,
                device.name,
                device.precision,
                device.kernel_tier()
            );
            say!(
                "{} frames of {width}x{height}: {} x {} = {tokens} tokens, a text of {}, {}",
                self.frames,
                size.latent_frames(),
                size.tokens_per_frame(),
                self.text_tokens,
                words::count(self.rows, "row")
            );
            say!(
                "memory by formula: {} of weights and {} of values",
                words::bytes(forecast.weights as u64),
                words::bytes(forecast.activations as u64)
            );
        }
        let engine = Engine::start().context("The system gives no thread for the engine")?;
        let (job_device, job_config) = (device.clone(), config.clone());
        let job =
            Job { size, plans, text_tokens: self.text_tokens, rows: self.rows, repeats: self.repeats, seconds: self.seconds };
        let ticket = engine.submit(move |_, _| measure(&job, &job_config, &job_device));
        let measured = loop {
            if let Some(result) = ticket.result(Duration::from_secs(1)) {
                break result?;
            }
        };
        if self.json {
            say!("{:#}", report::json(&self, &device, forecast, &measured, torch.as_ref()));
        } else {
            report::print(&self, &measured, torch.as_ref());
        }
        Ok(Status::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_plans_read_as_written() {
        assert_eq!(parse_size("1280x720"), Ok([1280, 720]));
        for wrong in ["1280", "x", "1280x", "ax720", "-1x2"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(plan_named("2:6", 4, 8).unwrap().density(), 34.0 / 64.0);
        assert_eq!(plan_named("r0.4", 32, 8).unwrap().layers().len(), 32);
        assert!(plan_named("r7", 32, 8).is_err() && plan_named("2:7", 32, 8).is_err());
    }
}
