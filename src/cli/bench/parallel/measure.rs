//! Runs on the engine's thread: makes the network on every device, and measures calls on some of them.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Distribution, Tensor};
use serde::Serialize;

use crate::generate::{GenerateError, set_pace};
use crate::gpu::device::ComputeDevice;
use crate::gpu::spans::{self, Kind};
use crate::mask::MaskPlan;
use crate::model::dit::{Probe, TextContext, Transformer, TransformerConfig};
use crate::model::latent::{ClipSize, Latent};
use crate::model::noise::fill_normal;
use crate::model::weights::Loader;
use crate::parallel::simulate::{self, DeviceTimes, Link};
use crate::parallel::staging::bandwidth;
use crate::parallel::team::exchanges;
use crate::parallel::{Arrangement, ExchangeSizes, Input, Load, Loaded, Team, Text};
use crate::studio::words;

/// What is to be measured.
pub(super) struct Job {
    pub size: ClipSize,
    pub plans: Vec<(String, MaskPlan)>,
    pub text_tokens: usize,
    pub rows: usize,
    pub repeats: u32,
    pub ranks: Vec<usize>,
    pub times_parts: bool,
    pub says_progress: bool,
}

#[derive(Serialize)]
pub(super) struct Measured {
    pub staging: Vec<Staging>,
    pub runs: Vec<Run>,
}

#[derive(Serialize)]
pub(super) struct Staging {
    pub device: String,
    pub read_bytes_per_second: f64,
    pub write_bytes_per_second: f64,
    pub round_trip_seconds: f64,
}

/// Calls of one plan on some ranks.
#[derive(Serialize)]
pub(super) struct Run {
    pub plan: String,
    pub ranks: usize,
    pub layers: usize,
    pub median_millis: f64,
    pub fastest_millis: f64,
    pub slowest_millis: f64,
    /// Against the first device alone.
    pub speed_up: f64,
    /// What the cost model says of it, from the one device's times and the measured bandwidths.
    pub expected_speed_up: f64,
    /// Of all layers and ranks.
    pub sent_bytes: u64,
    pub read_bytes: u64,
    /// By rank.
    pub frames: Vec<usize>,
    /// On the first device, of one more call.
    pub parts: Vec<PartTime>,
}

#[derive(Serialize)]
pub(super) struct PartTime {
    pub what: String,
    pub millis: f64,
}

/// Calls before times count: shaders are compiled, and the speeds of the devices are measured.
const WARM_UP: usize = 2;

pub(super) fn measure(job: &Job, config: &TransformerConfig, device: &ComputeDevice) -> Result<Measured, GenerateError> {
    set_pace(device);
    let say = |line: String| {
        if job.says_progress {
            eprintln!("{line}");
        }
    };
    let own = Transformer::load(Loader::random(device, 1), config)?;
    let made_of = config.clone();
    let load: Load = Arc::new(move |device| {
        set_pace(device);
        let transformer = Transformer::load(Loader::random(device, 1), &made_of).map_err(|error| error.to_string())?;
        Ok(Loaded { transformer, vae: None })
    });
    let failed = |reason: String| GenerateError::DeviceFailed { doing: "measured", reason };
    let mut team = Team::start(&device.others, &load).map_err(|error| failed(error.to_string()))?;
    say(format!("the network is on {}", words::count(1 + device.others.len(), "device")));
    let mut staging = Vec::new();
    for device in std::iter::once(device).chain(&device.others) {
        let found = bandwidth(device).map_err(|error| failed(error.to_string()))?;
        staging.push(Staging {
            device: device.name.clone(),
            read_bytes_per_second: found.read,
            write_bytes_per_second: found.write,
            round_trip_seconds: found.round_trip_seconds,
        });
    }
    let link = Link {
        read_bytes_per_second: staging[0].read_bytes_per_second,
        write_bytes_per_second: staging[0].write_bytes_per_second,
        round_trip_seconds: staging[0].round_trip_seconds,
    };

    let shape = job.size.latent_shape(config.in_channels);
    let mut latent = Latent { shape, values: vec![0.0; shape.iter().product()] };
    fill_normal(1, 0, &mut latent.values);
    let text_shape = [job.rows, job.text_tokens, config.caption_channels];
    let embedding = Tensor::random(text_shape, Distribution::Normal(0.0, 1.0), &device.device);
    // A prompt fills a part of its places; the rest is hidden.
    let places = 0..job.rows * job.text_tokens;
    let mask = places.map(|place| if place % job.text_tokens <= job.text_tokens / 4 { 1.0 } else { 0.0 }).collect();
    let context = TextContext { embedding, mask };
    let text = Arc::new(Text::of(&context).map_err(failed)?);

    let mut runs = Vec::new();
    for (name, plan) in &job.plans {
        let key_frames: Vec<_> = plan.layers().iter().map(|layer| Arc::new(layer.mask().key_frames())).collect();
        let input = Input { latent: latent.clone(), timestep: 500.0, text: text.clone(), key_frames: key_frames.clone() };
        let input = Arc::new(input);
        let alone = || -> Result<(), GenerateError> {
            for row in 0..job.rows {
                let latents = latent.to_tensor(1, &device.device);
                let output = own.forward(latents, &[500.0], &context.row(row), None, &key_frames, &mut Probe::default());
                drop(output.try_into_vec_as::<f32>().map_err(|error| failed(error.to_string()))?);
            }
            Ok(())
        };
        let mut times = None;
        let mut one_millis = None;
        for &ranks in &job.ranks {
            team.use_ranks(ranks);
            let mut sent = Vec::new();
            let mut frames = vec![latent.frames()];
            let mut call = |sent: &mut Vec<(u64, u64)>, frames: &mut Vec<usize>| -> Result<f64, GenerateError> {
                let started = Instant::now();
                if ranks == 1 {
                    alone()?;
                } else {
                    let made = team.predict(&own, device, &input, &|| false).map_err(|error| failed(error.to_string()))?;
                    *sent = made.traffic.iter().map(|layer| (layer.sent, layer.read)).collect();
                    *frames = made.arrangement.groups.iter().flat_map(|group| group.frames.iter().map(|own| own.len())).collect();
                }
                Ok(started.elapsed().as_secs_f64() * 1000.0)
            };
            for _ in 0..WARM_UP {
                call(&mut sent, &mut frames)?;
            }
            let mut millis = (0..job.repeats).map(|_| call(&mut sent, &mut frames)).collect::<Result<Vec<_>, _>>()?;
            millis.sort_by(f64::total_cmp);
            let median_millis = millis[millis.len() / 2];
            let mut parts = Vec::new();
            if job.times_parts || ranks == 1 {
                let mut recording = spans::Recording::start(device);
                call(&mut sent, &mut frames)?;
                let spent = recording.take();
                drop(recording);
                if ranks == 1 {
                    times = Some(times_of(&spent, plan, job.rows, median_millis));
                }
                if job.times_parts {
                    parts = Kind::ALL
                        .into_iter()
                        .map(|kind| PartTime {
                            what: words::kind(kind).to_owned(),
                            millis: 1000.0 * spent.iter().filter(|part| part.kind == kind).map(|part| part.seconds).sum::<f64>(),
                        })
                        .filter(|part| part.millis > 0.0)
                        .collect();
                }
            }
            if ranks == 1 {
                one_millis = Some(median_millis);
            }
            if let Some(what) = team.take_lost().first() {
                return Err(failed(what.clone()));
            }
            let expected = times.as_ref().map(|times| {
                let sizes = ExchangeSizes {
                    heads: config.num_attention_heads,
                    head: config.attention_head_dim,
                    frame_tokens: job.size.tokens_per_frame(),
                    element_bytes: device.precision.bytes(),
                };
                speed_up(times, &link, plan, job.rows, ranks, &sizes)
            });
            let run = Run {
                plan: name.clone(),
                ranks,
                layers: plan.layers().len(),
                median_millis,
                fastest_millis: millis[0],
                slowest_millis: millis[millis.len() - 1],
                speed_up: one_millis.map_or(f64::NAN, |one| one / median_millis),
                expected_speed_up: expected.unwrap_or(f64::NAN),
                sent_bytes: sent.iter().map(|(sent, _)| sent).sum(),
                read_bytes: sent.iter().map(|(_, read)| read).sum(),
                frames,
                parts,
            };
            say(format!("{name} on {}: {:.1} ms", words::count(ranks, "device"), run.median_millis));
            runs.push(run);
        }
    }
    Ok(Measured { staging, runs })
}

/// One device's times from the parts of a call, scaled to what a call takes without being timed.
fn times_of(parts: &[spans::Part], plan: &MaskPlan, rows: usize, call_millis: f64) -> DeviceTimes {
    let all: f64 = parts.iter().map(|part| part.seconds).sum();
    let scale = call_millis / 1000.0 / all.max(1e-12) / rows as f64;
    let seconds = |is_in: &dyn Fn(&spans::Part) -> bool| -> f64 {
        scale * parts.iter().filter(|part| is_in(part)).map(|part| part.seconds).sum::<f64>()
    };
    let attention = seconds(&|part| part.kind == Kind::Attention);
    let in_layers = seconds(&|part| part.kind != Kind::Attention && !part.layer.is_empty());
    let outside = seconds(&|part| part.kind != Kind::Attention && part.layer.is_empty());
    let tiles: u64 = plan.layers().iter().map(|layer| layer.mask().kept_tiles()).sum();
    simulate::fit(&[(tiles as f64, attention, in_layers, outside)], plan.layers().len(), plan.frames())
}

/// What the cost model says of a plan on so many equal devices.
pub(super) fn speed_up(
    times: &DeviceTimes,
    link: &Link,
    plan: &MaskPlan,
    rows: usize,
    ranks: usize,
    sizes: &ExchangeSizes,
) -> f64 {
    let key_frames: Vec<_> = plan.layers().iter().map(|layer| Arc::new(layer.mask().key_frames())).collect();
    let seconds = |ranks: usize| {
        let speeds = vec![1.0; ranks];
        let arrangement = Arrangement::new(plan.frames(), rows, &speeds);
        let exchanges = exchanges(&arrangement, &key_frames, sizes.heads, &speeds);
        simulate::call_seconds(times, link, &arrangement, &exchanges, sizes)
    };
    seconds(1) / seconds(ranks)
}
