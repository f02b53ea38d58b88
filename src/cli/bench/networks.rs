//! `tilereel bench text-encoder | decoder`: the two other networks at the published size, with the memory that they take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use burn::tensor::{Distribution, Tensor};
use clap::Args;
use serde_json::{Value, json};

use super::super::Status;
use super::super::settings::DeviceArguments;
use super::{peak_memory_bytes, stand_in};
use crate::generate::estimate::{text_encoder_activation_bytes, text_encoder_flops};
use crate::generate::{GenerateError, set_pace};
use crate::gpu::device::ComputeDevice;
use crate::model::latent::ClipSize;
use crate::model::text::encoder::{TextEncoder, TextEncoderConfig};
use crate::model::vae::{Sites, Tiling, Vae, VaeConfig};
use crate::model::weights::{Loader, WeightSource};
use crate::studio::{Engine, words};

#[derive(Args)]
pub struct TextEncoderBench {
    #[command(flatten)]
    device: DeviceArguments,
    /// Texts that are encoded together: a prompt and its negative are two
    #[arg(long, default_value_t = 2, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=16))]
    texts: usize,
    /// Tokens of a text
    #[arg(long, default_value_t = 512, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    tokens: usize,
    /// Layers of the encoder; the published one has 24
    #[arg(long, default_value_t = 24, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=24))]
    layers: usize,
    /// Runs, after one that warms up
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: u32,
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct DecoderBench {
    #[command(flatten)]
    device: DeviceArguments,
    /// Frames of the clip: 1, 5, 9, .. (4k + 1)
    #[arg(long, default_value_t = 29)]
    frames: usize,
    /// Width and height of the clip in pixels
    #[arg(long, default_value = "1280x720", value_parser = super::transformer::parse_size)]
    size: [usize; 2],
    /// Runs, after one that warms up
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: u32,
    #[arg(long)]
    json: bool,
}

/// Runs of one network.
struct Runs {
    seconds: Vec<f64>,
    /// What the device's allocator holds after the runs: it keeps what they needed. None on the CPU.
    reserved_bytes: Option<u64>,
}

fn runs(device: &ComputeDevice, repeats: u32, mut run: impl FnMut() -> Result<(), GenerateError>) -> Result<Runs, GenerateError> {
    let mut seconds = Vec::new();
    for number in 0..=repeats {
        let started = Instant::now();
        run()?;
        let failed = |error: String| GenerateError::DeviceFailed { doing: "measured", reason: error };
        device.device.sync().map_err(|error| failed(error.to_string()))?;
        if number > 0 {
            seconds.push(started.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(Runs { seconds, reserved_bytes: device.device.memory_pool_usage().map(|usage| usage.bytes_reserved) })
}

impl Runs {
    fn median(&self) -> f64 {
        self.seconds[self.seconds.len() / 2]
    }

    fn print(&self, what: &str, device: &ComputeDevice, flops: f64, predicted_bytes: f64) {
        say!("{what}, on {} in {}, {} kernels", device.name, device.precision, device.kernel_tier());
        let spread = 100.0 * (self.seconds[self.seconds.len() - 1] - self.seconds[0]) / self.median();
        say!(
            "{} (spread {spread:.1} %), {:.1} TFLOP, {:.2} TFLOP/s",
            words::duration(self.median()),
            flops / 1e12,
            flops / self.median() / 1e12
        );
        let predicted = words::bytes(predicted_bytes as u64);
        match self.reserved_bytes {
            Some(bytes) => say!("memory of the device: {}, {predicted} by formula", words::bytes(bytes)),
            None => {
                let peak = peak_memory_bytes().map_or_else(|| "unknown".to_owned(), words::bytes);
                say!("memory of the process: {peak}, {predicted} by formula");
            }
        }
    }

    fn json(&self, device: &ComputeDevice, flops: f64, predicted_bytes: f64) -> Value {
        json!({ "device": device.name, "precision": device.precision, "kernel_tier": device.kernel_tier(),
            "median_seconds": self.median(), "seconds": self.seconds, "flops": flops,
            "reserved_bytes": self.reserved_bytes, "peak_process_bytes": peak_memory_bytes(),
            "predicted_bytes": predicted_bytes })
    }
}

/// On the engine's thread.
fn on_engine<T: Send + 'static>(job: impl FnOnce() -> Result<T, GenerateError> + Send + 'static) -> anyhow::Result<T> {
    let engine = Engine::start().context("The system gives no thread for the engine")?;
    let ticket = engine.submit(move |_, _| job());
    loop {
        if let Some(result) = ticket.result(Duration::from_secs(1)) {
            return Ok(result?);
        }
    }
}

impl TextEncoderBench {
    pub fn run(self) -> anyhow::Result<Status> {
        let device = self.device.open()?;
        let config = TextEncoderConfig { num_layers: self.layers, ..TextEncoderConfig::published() };
        let folder = tempfile::tempdir().context("Cannot make a temporary folder")?;
        let path = stand_in::write(folder.path(), stand_in::text_encoder(&config)).context("Cannot write a file of zeros")?;
        let source = Arc::new(WeightSource::open(&path)?);
        let (texts, tokens) = (self.texts, self.tokens);
        let flops = texts as f64 * text_encoder_flops(&config, tokens);
        let layer = ((config.d_model * (4 * config.num_heads * config.d_kv + 2 * config.d_ff)) * device.precision.bytes()
            + 4 * config.d_model * config.d_ff) as f64;
        let predicted = layer + text_encoder_activation_bytes(&config, tokens, 1);
        let (job_device, job_config) = (device.clone(), config.clone());
        let measured = on_engine(move || {
            set_pace(&job_device);
            let encoder = TextEncoder::load_streamed(&source, &job_device, &job_config)?;
            let ids: Vec<u32> = (0..texts * tokens).map(|place| (place * 7919 % job_config.vocab_size) as u32).collect();
            let mask = vec![1.0; texts * tokens];
            runs(&job_device, self.repeats, || {
                drop(encoder.forward(&ids, &mask, texts, &mut |_, _| {}));
                Ok(())
            })
        })?;
        if self.json {
            say!("{:#}", measured.json(&device, flops, predicted));
        } else {
            let what =
                format!("text encoder of {} layers, streamed from a file of zeros, {texts} x {tokens} tokens", self.layers);
            measured.print(&what, &device, flops, predicted);
        }
        Ok(Status::Done)
    }
}

impl DecoderBench {
    pub fn run(self) -> anyhow::Result<Status> {
        let device = self.device.open()?;
        let [width, height] = self.size;
        let size = ClipSize { frames: self.frames, width, height };
        size.check()?;
        let config = VaeConfig::published();
        let [channels, frames, latent_height, latent_width] = size.latent_shape(config.embed_dim);
        let cost = Tiling::of(&config).decoding_cost(&config, [frames, latent_height, latent_width]);
        let flops = cost.convolution_flops + cost.attention_flops;
        let values = device.precision.bytes() as f64;
        // Weights, values of a tile, and the clip in f32: its tiles and the whole.
        let clip = 2.0 * 4.0 * 3.0 * (self.frames * width * height) as f64;
        let predicted = cost.largest_activations * values + clip;
        let (job_device, job_config) = (device.clone(), config.clone());
        let (parameters, measured) = on_engine(move || {
            let vae = Vae::load(Loader::random(&job_device, 1), &job_config)?;
            let shape = [1, channels, frames, latent_height, latent_width];
            let latents: Tensor<5> = Tensor::random(shape, Distribution::Normal(0.0, 1.0), &job_device.device);
            let measured = runs(&job_device, self.repeats, || {
                vae.decode(latents.clone(), Some(vae.tiling()), &mut Sites::default())
                    .map(drop)
                    .map_err(|_| GenerateError::Stopped)
            })?;
            Ok((burn::module::Module::num_params(&vae), measured))
        })?;
        let predicted = predicted + parameters as f64 * values;
        if self.json {
            say!("{:#}", measured.json(&device, flops, predicted));
        } else {
            let tile = Tiling::of(&config).sample_size;
            let what = format!("decoder, {} frames of {width}x{height} in tiles of {tile}x{tile}", self.frames);
            measured.print(&what, &device, flops, predicted);
        }
        Ok(Status::Done)
    }
}
