//! `tilereel bench attention | linear | conv`: single kernels at the sizes of the published model.
//!
//! The clock is the wall's, around a few launches and one wait for the device: samples are long enough that the wait does not
//! count.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use burn::tensor::{Device, Distribution, Tensor};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::Status;
use crate::cli::settings::DeviceArguments;
use crate::generate::GenerateError;
use crate::gpu::device::ComputeDevice;
use crate::gpu::kernels::conv3d::{Geometry, conv3d};
use crate::gpu::kernels::doubling::{Doubling, double};
use crate::gpu::kernels::gradient::{POINT, column_sums, input_gradient, weight_gradient};
use crate::gpu::kernels::group_norm::group_norm;
use crate::gpu::kernels::linear::{Activation, linear};
use crate::gpu::kernels::tile_attention::{
    AttendedTensors, Tiles, tile_attention, tile_attention_and_row_log_sums, tile_attention_gradients,
};
use crate::gpu::tier::ShaderTier;
use crate::mask::{FrameMask, KeyFrames, MaskFamily, Neighbours};
use crate::studio::Engine;

/// What all three take.
#[derive(Args, Clone)]
struct Common {
    #[command(flatten)]
    device: DeviceArguments,
    /// Samples of each case; fewer if they take more than --seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// Seconds for each case, but three samples at least
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct AttentionBench {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 24)]
    heads: usize,
    /// Channels of a head
    #[arg(long, default_value_t = 96, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=128))]
    head: usize,
    /// Latent frames
    #[arg(long, default_value_t = 8, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=512))]
    frames: usize,
    /// Tokens of a frame
    #[arg(long, default_value_t = 3600)]
    tokens: usize,
    /// Reference frames of the masks beside full attention
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3, 4])]
    references: Vec<usize>,
    /// Distances of masks near:D to measure too, such as 1,2: each frame sees those up to so many frames away
    #[arg(long, value_delimiter = ',')]
    near: Vec<usize>,
    /// Tokens of the text of the cross-attention
    #[arg(long, default_value_t = 512)]
    text_tokens: usize,
    /// Clips at once
    #[arg(long, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=4096))]
    batch: usize,
    /// Measure the gradients of each case too, counted as five products where the attention has two
    #[arg(long)]
    backward: bool,
}

#[derive(Args)]
pub struct LinearBench {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 28_800)]
    rows: usize,
    /// Width of the model; the layers are those of a block
    #[arg(long, default_value_t = 2304)]
    width: usize,
    /// Measure the gradients too: of the input, of the weight and of the bias
    #[arg(long)]
    backward: bool,
}

#[derive(Args)]
pub struct ConvBench {
    #[command(flatten)]
    common: Common,
    /// Measure what a training step of the mini model's VAE runs instead: convolutions, norms and doublings, there and back
    #[arg(long)]
    backward: bool,
    /// Clips of a training step
    #[arg(long, default_value_t = 6)]
    batch: usize,
}

/// One thing to measure.
struct Case {
    name: String,
    flops: f64,
    /// Launches it once, on tensors that are already there.
    launch: Box<dyn Fn()>,
}

/// Milliseconds of one launch.
struct Measured {
    name: String,
    flops: f64,
    millis: Vec<f64>,
    launches: u32,
}

/// The shortest sample: a wait for the device costs some tens of microseconds.
const SAMPLE_MILLIS: f64 = 20.0;

fn measure(case: Case, common: &Common, device: &Device) -> Measured {
    let sample = |launches: u32| {
        let started = Instant::now();
        (0..launches).for_each(|_| (case.launch)());
        device.sync().expect("the device answers");
        started.elapsed().as_secs_f64() * 1000.0 / f64::from(launches)
    };
    sample(1);
    let launches = (SAMPLE_MILLIS / sample(2)).ceil().clamp(1.0, 1000.0) as u32;
    let (started, mut millis) = (Instant::now(), Vec::new());
    while millis.len() < common.repeats as usize && (millis.len() < 3 || started.elapsed().as_secs_f64() < common.seconds) {
        millis.push(sample(launches));
    }
    millis.sort_by(f64::total_cmp);
    Measured { name: case.name, flops: case.flops, millis, launches }
}

impl Measured {
    fn at(&self, share: f64) -> f64 {
        self.millis[((self.millis.len() - 1) as f64 * share).round() as usize]
    }

    fn tflops(&self) -> f64 {
        self.flops / self.at(0.5) / 1e9
    }

    fn row(&self) -> Value {
        json!({ "case": self.name, "tflop": self.flops / 1e12, "median_millis": self.at(0.5), "tenth_millis": self.at(0.1),
            "ninetieth_millis": self.at(0.9), "samples": self.millis.len(), "launches_a_sample": self.launches,
            "tflop_per_second": self.tflops() })
    }
}

/// Measures on the engine's thread, one case after the other: `cases` makes a list of closures, so that only one case's
/// tensors are there at a time.
fn run(
    common: Common,
    kernel: &str,
    cases: impl FnOnce(&ComputeDevice) -> Vec<MakeCase> + Send + 'static,
) -> anyhow::Result<Status> {
    let device = common.device.open()?;
    let engine = Engine::start().context("The system gives no thread for the engine")?;
    let (settings, job_device) = (common.clone(), device.clone());
    let ticket = engine.submit(move |_, _| {
        let cases = cases(&job_device);
        Ok::<_, GenerateError>(cases.into_iter().map(|make| measure(make(), &settings, &job_device.device)).collect::<Vec<_>>())
    });
    let measured = loop {
        if let Some(result) = ticket.result(Duration::from_secs(1)) {
            break result?;
        }
    };
    if common.json {
        let rows: Vec<Value> = measured.iter().map(Measured::row).collect();
        let clock = "wall, around the launches and one wait for the device";
        say!(
            "{:#}",
            json!({ "kernel": kernel, "device": device.name, "driver": device.adapter.as_ref().map(|adapter| &adapter.driver),
                "precision": device.precision, "kernel_tier": device.kernel_tier(), "clock": clock, "cases": rows })
        );
        return Ok(Status::Done);
    }
    say!("{kernel} on {} in {}, {} kernels", device.name, device.precision, device.kernel_tier());
    say!("{:<58} {:>11} {:>9} {:>10}", "case", "median", "spread", "TFLOP/s");
    for case in &measured {
        let spread = 100.0 * (case.at(0.9) - case.at(0.1)) / case.at(0.5);
        say!("{:<58} {:>8.3} ms {spread:>7.1} % {:>10.1}", case.name, case.at(0.5), case.tflops());
    }
    Ok(Status::Done)
}

type MakeCase = Box<dyn FnOnce() -> Case + Send>;

fn random<const D: usize>(device: &ComputeDevice, shape: [usize; D]) -> Tensor<D> {
    let dtype = device.precision.dtype();
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), (&device.device, dtype.into()))
}

impl AttentionBench {
    pub fn run(self) -> anyhow::Result<Status> {
        let mut masks = vec![("full attention".to_owned(), FrameMask::full(self.frames)?)];
        for &references in &self.references {
            let mask = MaskFamily::paper(references).frame_mask(self.frames)?;
            let name = format!("{references}:{}, {:.1} % kept", self.frames.saturating_sub(references), 100.0 * mask.density());
            masks.push((name, mask));
        }
        for &distance in &self.near {
            let neighbours = Neighbours { distance };
            let mask = neighbours.frame_mask(self.frames)?;
            masks.push((format!("{}, {:.1} % kept", neighbours.name(), 100.0 * mask.density()), mask));
        }
        let Self { common, heads, head, frames, tokens, text_tokens, batch, backward, .. } = self;
        run(common, "tile_attention", move |device| {
            let to_itself = masks.into_iter().map(|(name, mask)| {
                let tiles = Tiles { key_frames: Arc::new(mask.key_frames()), query_tokens: tokens, key_tokens: tokens };
                (format!("{heads} x {head}, {frames} x {tokens} tokens, {name}"), frames, tiles)
            });
            let all_tokens = frames * tokens;
            let tiles = Tiles { key_frames: Arc::new(KeyFrames::dense(1)), query_tokens: all_tokens, key_tokens: text_tokens };
            let to_text = (format!("{heads} x {head}, {all_tokens} tokens to a text of {text_tokens}"), 1, tiles);
            let passes: &[bool] = if backward { &[false, true] } else { &[false] };
            to_itself
                .chain([to_text])
                .flat_map(|case| passes.iter().map(move |&backward| (case.clone(), backward)))
                .map(|((name, key_frames, tiles), backward)| {
                    let device = device.clone();
                    Box::new(move || {
                        let queries = tiles.key_frames.query_frames() * tiles.query_tokens;
                        let query = random(&device, [batch, heads, queries, head]);
                        let [key, value] = [0; 2].map(|_| random(&device, [batch, heads, key_frames * tiles.key_tokens, head]));
                        let kept = (tiles.key_frames.frames().len() * tiles.query_tokens * tiles.key_tokens) as f64;
                        let product = 2.0 * (batch * heads * head) as f64 * kept;
                        if !backward {
                            let launch =
                                move || drop(tile_attention(query.clone(), key.clone(), value.clone(), None, tiles.clone()));
                            return Case { name, flops: 2.0 * product, launch: Box::new(launch) };
                        }
                        let (output, row_log_sums) =
                            tile_attention_and_row_log_sums(query.clone(), key.clone(), value.clone(), None, tiles.clone());
                        let output_gradient = random(&device, [batch, heads, queries, head]);
                        let attended = AttendedTensors { query, key, value, output, row_log_sums, output_gradient };
                        let launch = move || drop(tile_attention_gradients(attended.clone(), None, tiles.clone()));
                        Case { name: format!("{name}, backward"), flops: 5.0 * product, launch: Box::new(launch) }
                    }) as MakeCase
                })
                .collect()
        })
    }
}

impl LinearBench {
    pub fn run(self) -> anyhow::Result<Status> {
        let Self { common, rows, width, backward } = self;
        run(common, "linear", move |device| {
            let layers = [
                (width, 4 * width, Activation::GeluTanh),
                (width, 4 * width, Activation::None),
                (4 * width, width, Activation::None),
                (width, width, Activation::None),
            ];
            layers.into_iter().flat_map(|layer| layer_cases(device, rows, layer, backward)).collect()
        })
    }
}

/// A layer, and if asked for what its gradient is made of.
fn layer_cases(
    device: &ComputeDevice,
    rows: usize,
    (inner, columns, activation): (usize, usize, Activation),
    backward: bool,
) -> Vec<MakeCase> {
    let size = format!("{rows} x {inner} x {columns}");
    let flops = 2.0 * rows as f64 * inner as f64 * columns as f64;
    let mut cases: Vec<MakeCase> = Vec::new();
    let (name, of_device) = (size.clone(), device.clone());
    cases.push(Box::new(move || {
        let (x, weight) = (random(&of_device, [rows, inner]), random(&of_device, [inner, columns]));
        let bias = random(&of_device, [columns]);
        let with = if activation == Activation::GeluTanh { "bias and GELU" } else { "bias" };
        let launch = move || drop(linear(x.clone(), weight.clone(), Some(bias.clone()), activation));
        Case { name: format!("{name}, {with}"), flops, launch: Box::new(launch) }
    }));
    if !backward || activation != Activation::None {
        return cases;
    }
    let (name, of_device) = (size.clone(), device.clone());
    cases.push(Box::new(move || {
        let (back, weight) = (random(&of_device, [rows, columns]), random(&of_device, [inner, columns]));
        let launch = move || drop(linear(back.clone(), weight.clone().transpose(), None, Activation::None));
        Case { name: format!("{name}, gradient of the input"), flops, launch: Box::new(launch) }
    }));
    let (name, of_device) = (size.clone(), device.clone());
    cases.push(Box::new(move || {
        let x = random(&of_device, [1, 1, 1, rows, inner]);
        let back = random(&of_device, [1, 1, 1, rows, columns]);
        let tier = ShaderTier::of(&of_device.device, x.dtype());
        let launch = move || drop(weight_gradient(x.clone(), back.clone(), POINT, tier));
        Case { name: format!("{name}, gradient of the weight"), flops, launch: Box::new(launch) }
    }));
    let of_device = device.clone();
    cases.push(Box::new(move || {
        let back = random(&of_device, [rows, columns]);
        let launch = move || drop(column_sums(back.clone()));
        Case { name: format!("{size}, gradient of the bias"), flops: (rows * columns) as f64, launch: Box::new(launch) }
    }));
    cases
}

/// Convolutions of the published decoder for one tile of a clip of 29 frames, the last level in an eighth of its frames, and
/// one of the mini model: frames, height, width, channels in and out, whether normalised and with a residual.
const DECODER: [([usize; 5], bool); 8] = [
    ([8, 64, 64, 4, 512], false),
    ([8, 64, 64, 512, 512], true),
    ([15, 128, 128, 512, 512], true),
    ([29, 256, 256, 256, 256], false),
    ([29, 256, 256, 256, 256], true),
    ([4, 512, 512, 128, 128], true),
    ([4, 512, 512, 128, 3], true),
    ([29, 144, 256, 64, 64], true),
];
const SAME: Geometry = Geometry { kernel: [3, 3, 3], stride: [1, 1, 1], causal_frames: 2, top: 1, bottom: 1, left: 1, right: 1 };

impl ConvBench {
    pub fn run(self) -> anyhow::Result<Status> {
        if self.backward {
            let batch = self.batch;
            return run(self.common, "training of the VAE", move |device| training_cases(device, batch));
        }
        run(self.common, "conv3d", |device| {
            DECODER
                .into_iter()
                .map(|([frames, height, width, inputs, outputs], fused)| {
                    let device = device.clone();
                    Box::new(move || {
                        let x = random(&device, [1, frames, height, width, inputs]);
                        let weight = random(&device, [SAME.taps(), inputs, outputs]);
                        let bias = random(&device, [outputs]);
                        let affine =
                            fused.then(|| Tensor::random([1, 2, inputs], Distribution::Uniform(-1.0, 1.0), &device.device));
                        let residual = fused.then(|| random(&device, [1, frames, height, width, outputs]));
                        let launch = move || {
                            drop(conv3d(x.clone(), weight.clone(), bias.clone(), affine.clone(), residual.clone(), SAME));
                        };
                        let flops = 2.0 * (frames * height * width) as f64 * (SAME.taps() * inputs * outputs) as f64;
                        let with = if fused { ", normalised, residual" } else { "" };
                        let name = format!("{frames}x{height}x{width}, {inputs} to {outputs}{with}");
                        Case { name, flops, launch: Box::new(launch) }
                    }) as MakeCase
                })
                .collect()
        })
    }
}

/// Convolutions of the mini model's VAE in training, on 13 frames of 256x144: the picture in, the largest levels of the decoder,
/// the picture out, and a halving of the encoder.
const TRAINING: [(&str, Geometry, [usize; 5]); 5] = [
    ("in", FRAME, [13, 144, 256, 4, 64]),
    ("3x3x3", SAME, [13, 144, 256, 64, 64]),
    ("3x3x3", SAME, [13, 72, 128, 64, 64]),
    ("out", SAME, [13, 144, 256, 64, 4]),
    ("halving", HALVING, [13, 72, 128, 64, 64]),
];
const FRAME: Geometry = Geometry { kernel: [1, 3, 3], causal_frames: 0, ..SAME };
const HALVING: Geometry = Geometry { stride: [2, 2, 2], top: 0, bottom: 1, left: 0, right: 1, ..SAME };

fn training_cases(device: &ComputeDevice, batch: usize) -> Vec<MakeCase> {
    let mut cases: Vec<MakeCase> = Vec::new();
    for (kind, geometry, [frames, height, width, inputs, outputs]) in TRAINING {
        let size = [frames, height, width];
        let [frames_out, height_out, width_out] = geometry.output(size);
        let pixels = (batch * frames_out * height_out * width_out) as f64;
        let flops = 2.0 * pixels * (geometry.taps() * inputs * outputs) as f64;
        let name = format!("{batch} x {frames}x{height}x{width}, {inputs} to {outputs}, {kind}");
        let (input, output) = ([batch, frames, height, width, inputs], [batch, frames_out, height_out, width_out, outputs]);
        let weights = [geometry.taps(), inputs, outputs];
        let (label, of_device) = (name.clone(), device.clone());
        cases.push(Box::new(move || {
            let (x, weight, bias) = (random(&of_device, input), random(&of_device, weights), random(&of_device, [outputs]));
            let launch = move || drop(conv3d(x.clone(), weight.clone(), bias.clone(), None, None, geometry));
            Case { name: label, flops, launch: Box::new(launch) }
        }));
        let (label, of_device) = (format!("{name}: gradient of the input"), device.clone());
        cases.push(Box::new(move || {
            let (back, weight) = (random(&of_device, output), random(&of_device, weights));
            let tier = ShaderTier::of(&of_device.device, back.dtype());
            let launch = move || drop(input_gradient(back.clone(), weight.clone(), geometry, size, tier));
            Case { name: label, flops, launch: Box::new(launch) }
        }));
        let (label, of_device) = (format!("{name}: gradient of the weight"), device.clone());
        cases.push(Box::new(move || {
            let (x, back) = (random(&of_device, input), random(&of_device, output));
            let tier = ShaderTier::of(&of_device.device, back.dtype());
            let launch = move || drop(weight_gradient(x.clone(), back.clone(), geometry, tier));
            Case { name: label, flops, launch: Box::new(launch) }
        }));
    }
    let video = [batch, 13, 144, 256, 64];
    let values = video.iter().product::<usize>() as f64;
    let of_device = device.clone();
    cases.push(Box::new(move || {
        let back = random(&of_device, video);
        let launch = move || drop(column_sums(back.clone()));
        Case { name: "full size, 64 channels: gradient of a bias".into(), flops: values, launch: Box::new(launch) }
    }));
    for backward in [false, true] {
        let of_device = device.clone();
        cases.push(Box::new(move || {
            let x = random(&of_device, video);
            let parameter = || Tensor::<1>::ones([64], &of_device.device);
            let (weight, bias) = (parameter(), parameter());
            let launch = move || {
                let x = x.clone();
                if backward {
                    let x = x.autodiff().require_grad();
                    drop(group_norm(x, weight.clone().autodiff(), bias.clone().autodiff(), true).backward());
                } else {
                    drop(group_norm(x, weight.clone(), bias.clone(), true));
                }
            };
            let what = if backward { "group norm and SiLU, there and back" } else { "group norm and SiLU" };
            Case { name: format!("full size, 64 channels: {what}"), flops: values, launch: Box::new(launch) }
        }));
        let of_device = device.clone();
        cases.push(Box::new(move || {
            let x = random(&of_device, [batch, 7, 72, 128, 64]);
            let launch = move || {
                let x = x.clone();
                if backward {
                    drop(double(x.autodiff().require_grad(), Doubling::LinearAfterFirstFrame).backward());
                } else {
                    drop(double(x, Doubling::LinearAfterFirstFrame));
                }
            };
            let what = if backward { "doubling of space and time, there and back" } else { "doubling of space and time" };
            Case { name: format!("to full size, 64 channels: {what}"), flops: values, launch: Box::new(launch) }
        }));
    }
    cases
}
