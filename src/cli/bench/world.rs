//! `tilereel bench world`: the renderer of the procedural world alone, on the device and on the processor's cores.

use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::super::settings::DeviceArguments;
use super::super::{Status, UsageError};
use crate::generate::GenerateError;
use crate::gpu::device::ComputeDevice;
use crate::model::latent::ClipSize;
use crate::world::renderer::{render_clips, shots_of};
use crate::world::scene::{FRAMES, Scene};
use crate::world::seeds;

/// Bytes of a call's pictures: a device binds no more at once.
const MOST_BYTES: usize = 1 << 31;

#[derive(Args)]
pub struct WorldBench {
    #[command(flatten)]
    device: DeviceArguments,
    /// Frames of a clip
    #[arg(long, default_value_t = FRAMES, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    frames: usize,
    /// Width and height of a clip in pixels
    #[arg(long, default_value = "256x144", value_parser = super::transformer::parse_size)]
    size: [usize; 2],
    /// Clips that are rendered together
    #[arg(long, default_value_t = 8, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=64))]
    clips: usize,
    /// Calls of one sample, with one wait for the device at their end
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    calls: u32,
    /// Samples, after one call that warms up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: u32,
    #[arg(long)]
    json: bool,
}

impl WorldBench {
    pub fn run(self) -> anyhow::Result<Status> {
        let ([width, height], frames) = (self.size, self.frames);
        let size = ClipSize { frames, width, height };
        let bytes = [self.clips, frames, width, height, 3, size_of::<f32>()].into_iter().try_fold(1usize, usize::checked_mul);
        if width == 0 || height == 0 || bytes.is_none_or(|bytes| bytes > MOST_BYTES) {
            let reason = format!("{} clips of {frames} frames of {width}x{height} are no call.", self.clips);
            return Err(UsageError(format!("{reason} Use fewer --clips or a smaller --size.")).into());
        }
        let device = self.device.open()?;
        let millis_a_clip = self.on(&device, size)?;
        let (shots_millis, processor_millis) = on_processor(size);
        if self.json {
            say!(
                "{:#}",
                json!({ "device": device.name, "precision": device.precision, "kernel_tier": device.kernel_tier(),
                    "frames": frames, "width": width, "height": height, "clips_a_call": self.clips,
                    "calls_a_sample": self.calls, "median_millis_a_clip": median(&millis_a_clip),
                    "clips_per_second": 1000.0 / median(&millis_a_clip), "millis_a_clip": millis_a_clip,
                    "shots_millis_a_clip": shots_millis, "processor_millis_a_clip": processor_millis })
            );
            return Ok(Status::Done);
        }
        say!("{frames} frames of {width}x{height}, {} clips a call, on {}", self.clips, device.name);
        say!("{:<34} {:>11} {:>14}", "", "a clip", "clips a second");
        let row = |what: &str, millis: f64| {
            say!("{what:<34} {millis:>8.3} ms {:>14.1}", 1000.0 / millis);
        };
        row("the device, with the shots", median(&millis_a_clip));
        row("its shots alone, on one core", shots_millis);
        row("the processor's cores", processor_millis);
        let spread = 100.0 * (millis_a_clip[millis_a_clip.len() - 1] - millis_a_clip[0]) / median(&millis_a_clip);
        say!("the device's samples spread by {spread:.1} %");
        Ok(Status::Done)
    }

    /// Milliseconds a clip of every sample, ascending. The device is waited for once a sample.
    fn on(&self, device: &ComputeDevice, size: ClipSize) -> Result<Vec<f64>, GenerateError> {
        let clips = self.clips as u64;
        let sample = |first: u64, calls: u64| {
            let started = Instant::now();
            for call in 0..calls {
                let from = first + call * clips;
                let scenes: Vec<Scene> = (from..from + clips).map(|clip| Scene::of_clip(seeds::TRANSFORMER, clip)).collect();
                drop(render_clips(&scenes, size, &device.device));
            }
            let failed = |reason: String| GenerateError::DeviceFailed { doing: "measured", reason };
            device.device.sync().map_err(|error| failed(error.to_string()))?;
            Ok(1000.0 * started.elapsed().as_secs_f64() / (calls * clips) as f64)
        };
        sample(0, 1)?;
        let calls = u64::from(self.calls);
        let mut millis = (0..u64::from(self.repeats))
            .map(|number| sample((1 + number * calls) * clips, calls))
            .collect::<Result<Vec<f64>, GenerateError>>()?;
        millis.sort_by(f64::total_cmp);
        Ok(millis)
    }
}

/// Milliseconds of a clip on the processor: for its scene and shots, and for the pictures by the renderer's twin.
fn on_processor(size: ClipSize) -> (f64, f64) {
    let clip_of = |clip: u64| shots_of(&Scene::of_clip(seeds::TRANSFORMER, clip), size.frames);
    let millis_since = |started: Instant| 1000.0 * started.elapsed().as_secs_f64();
    // One alone is over too soon for the clock.
    const CLIPS: u64 = 32;
    let started = Instant::now();
    (0..CLIPS).for_each(|clip| drop(std::hint::black_box(clip_of(clip))));
    let shots_millis = millis_since(started) / CLIPS as f64;
    let (shots, started) = (clip_of(0), Instant::now());
    shots.iter().for_each(|shot| drop(std::hint::black_box(shot.render(size.width, size.height))));
    (shots_millis, millis_since(started))
}

/// Of at least one value, ascending.
fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
