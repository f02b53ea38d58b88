//! Runs on the engine's thread: makes the network, measures calls of every plan, and what the device can do at best.

use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};

use super::super::stand_in;
use crate::generate::estimate::{CallWork, Work, transformer_parameters, transformer_work};
use crate::generate::{GenerateError, set_pace};
use crate::gpu::device::{ComputeDevice, Precision, Residency};
use crate::gpu::kernels::linear::{Activation, linear};
use crate::gpu::spans::{self, Clock, Kind, Part};
use crate::mask::{KeyFrames, MaskPlan};
use crate::model::dit::{Probe, TextContext, Transformer, TransformerConfig};
use crate::model::latent::ClipSize;
use crate::model::weights::{Loader, WeightError, WeightSource};

/// What is to be measured.
pub(super) struct Job {
    pub size: ClipSize,
    pub plans: Vec<(String, MaskPlan)>,
    pub text_tokens: usize,
    pub rows: usize,
    pub repeats: u32,
    pub seconds: f64,
}

/// What was found.
pub(super) struct Measured {
    pub parameters: usize,
    /// Making the network on the device.
    pub load_seconds: f64,
    pub ceiling: Ceiling,
    pub clock: Clock,
    pub plans: Vec<MeasuredPlan>,
}

/// What the device does at best in this program.
pub(super) struct Ceiling {
    /// The fastest of the block's matrix products, alone.
    pub flops_per_second: f64,
    pub product: String,
    /// A sum of two large tensors: two are read, one is written.
    pub bytes_per_second: f64,
}

pub(super) struct MeasuredPlan {
    pub name: String,
    pub plan: MaskPlan,
    /// All rows together.
    pub work: CallWork,
    /// Of calls, ascending.
    pub millis: Vec<f64>,
    pub first_millis: f64,
    /// Of one more call.
    pub parts: Vec<Part>,
    pub parts_call_millis: f64,
    /// What the device's allocator holds after the calls: it keeps what they needed. None on the CPU.
    pub reserved_bytes: Option<u64>,
    /// Weights and what the outputs still hold.
    pub in_use_bytes: Option<u64>,
}

impl MeasuredPlan {
    pub fn at(&self, share: f64) -> f64 {
        self.millis[((self.millis.len() - 1) as f64 * share).round() as usize]
    }

    pub fn median_millis(&self) -> f64 {
        self.at(0.5)
    }

    /// Of one kind, inside of layers or outside of them.
    pub fn kind_millis(&self, kind: Kind, in_layers: bool) -> f64 {
        let own = self.parts.iter().filter(|part| part.kind == kind && part.layer.is_empty() != in_layers);
        1000.0 * own.map(|part| part.seconds).sum::<f64>()
    }

    /// What does not grow with the layers.
    pub fn outside_millis(&self) -> f64 {
        Kind::ALL.into_iter().map(|kind| self.kind_millis(kind, false)).sum()
    }
}

pub(super) fn measure(job: &Job, config: &TransformerConfig, device: &ComputeDevice) -> Result<Measured, GenerateError> {
    // As before a clip.
    set_pace(device);
    let started = Instant::now();
    let folder = tempfile::tempdir().map_err(no_file)?;
    let transformer = if device.residency == Residency::Stream {
        let path = stand_in::write(folder.path(), stand_in::transformer(config)).map_err(no_file)?;
        Transformer::load_streamed(&Arc::new(WeightSource::open(&path)?), device, config)?
    } else {
        Transformer::load(Loader::random(device, 1), config)?
    };
    wait(&device.device)?;
    let load_seconds = started.elapsed().as_secs_f64();

    let [channels, frames, height, width] = job.size.latent_shape(config.in_channels);
    let latents: Tensor<5> =
        Tensor::random([job.rows, channels, frames, height, width], Distribution::Normal(0.0, 1.0), &device.device);
    let embedding =
        Tensor::random([job.rows, job.text_tokens, config.caption_channels], Distribution::Normal(0.0, 1.0), &device.device);
    // A prompt fills a part of its places; the rest is hidden.
    let places = 0..job.rows * job.text_tokens;
    let mask = places.map(|place| if place % job.text_tokens <= job.text_tokens / 4 { 1.0 } else { 0.0 }).collect();
    let text = TextContext { embedding, mask };
    let timesteps = vec![500.0; job.rows];
    let call = |plan: &[Arc<KeyFrames>]| -> Result<f64, GenerateError> {
        let started = Instant::now();
        let output = transformer.forward(latents.clone(), &timesteps, &text, None, plan, &mut Probe::default());
        wait(&device.device)?;
        drop(output);
        Ok(started.elapsed().as_secs_f64() * 1000.0)
    };

    let mut recording_clock = Clock::Wall;
    let mut plans = Vec::new();
    for (name, plan) in &job.plans {
        let key_frames: Vec<_> = plan.layers().iter().map(|layer| Arc::new(layer.mask().key_frames())).collect();
        let first_millis = call(&key_frames)?;
        let (started, mut millis) = (Instant::now(), Vec::new());
        while millis.len() < job.repeats as usize && (millis.len() < 3 || started.elapsed().as_secs_f64() < job.seconds) {
            millis.push(call(&key_frames)?);
        }
        millis.sort_by(f64::total_cmp);
        let usage = device.device.memory_pool_usage();
        let mut recording = spans::Recording::start(device);
        recording_clock = recording.clock();
        let parts_call_millis = call(&key_frames)?;
        let parts = recording.take();
        drop(recording);
        let bytes = if device.precision == Precision::F16 { 2.0 } else { 4.0 };
        let of_a_row = transformer_work(config, plan, job.size.tokens_per_frame(), job.text_tokens, bytes);
        plans.push(MeasuredPlan {
            name: name.clone(),
            plan: plan.clone(),
            work: of_rows(of_a_row, job.rows),
            millis,
            first_millis,
            parts,
            parts_call_millis,
            reserved_bytes: usage.as_ref().map(|usage| usage.bytes_reserved),
            in_use_bytes: usage.as_ref().map(|usage| usage.bytes_in_use),
        });
    }
    // Streamed layers are not counted by the module.
    let parameters = if transformer.is_streamed() { transformer_parameters(config) as usize } else { transformer.num_params() };
    drop(transformer);
    let tokens = job.size.latent_frames() * job.size.tokens_per_frame();
    let ceiling = ceiling(tokens * job.rows, config.width(), device)?;
    Ok(Measured { parameters, load_seconds, ceiling, clock: recording_clock, plans })
}

fn no_file(source: std::io::Error) -> GenerateError {
    WeightError::Unreadable { location: "a temporary file of zeros".into(), source }.into()
}

fn wait(device: &Device) -> Result<(), GenerateError> {
    device.sync().map_err(|error| GenerateError::DeviceFailed { doing: "measured", reason: error.to_string() })
}

fn of_rows(work: CallWork, rows: usize) -> CallWork {
    let times = |work: Work| Work { flops: work.flops * rows as f64, bytes: work.bytes * rows as f64 };
    CallWork { linear: times(work.linear), attention: times(work.attention), normalisation: times(work.normalisation) }
}

/// The most tokens of a ceiling's tensors: more do not make a device faster.
const MOST_TOKENS: usize = 28_800;

fn ceiling(tokens: usize, width: usize, device: &ComputeDevice) -> Result<Ceiling, GenerateError> {
    let rows = tokens.min(MOST_TOKENS);
    let dtype = device.precision.dtype();
    let random = |shape: [usize; 2]| -> Tensor<2> {
        Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), (&device.device, dtype.into()))
    };
    let mut best = Ceiling { flops_per_second: 0.0, product: String::new(), bytes_per_second: 0.0 };
    for (inner, columns) in [(width, 4 * width), (4 * width, width), (width, width)] {
        let (x, weight) = (random([rows, inner]), random([inner, columns]));
        let seconds = fastest(&device.device, || drop(linear(x.clone(), weight.clone(), None, Activation::None)))?;
        let flops_per_second = 2.0 * (rows * inner * columns) as f64 / seconds;
        if flops_per_second > best.flops_per_second {
            best.flops_per_second = flops_per_second;
            best.product = format!("{rows} x {inner} x {columns}");
        }
    }
    let x = Tensor::<2>::random([rows, width], Distribution::Uniform(-1.0, 1.0), &device.device);
    let y = x.clone() * 2.0;
    let seconds = fastest(&device.device, || drop(x.clone() + y.clone()))?;
    best.bytes_per_second = 3.0 * 4.0 * (rows * width) as f64 / seconds;
    Ok(best)
}

/// Seconds of one launch, the fastest of some samples of several launches.
fn fastest(device: &Device, launch: impl Fn()) -> Result<f64, GenerateError> {
    let sample = |launches: u32| -> Result<f64, GenerateError> {
        let started = Instant::now();
        (0..launches).for_each(|_| launch());
        wait(device)?;
        Ok(started.elapsed().as_secs_f64() / f64::from(launches))
    };
    sample(1)?;
    let launches = (0.05 / sample(1)?).ceil().clamp(1.0, 100.0) as u32;
    (0..5).map(|_| sample(launches)).try_fold(f64::INFINITY, |best: f64, seconds| Ok(best.min(seconds?)))
}
