//! What more devices would give: the cost model with measured times of one device and measured bandwidths.

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::json;

use super::ParallelBench;
use super::measure::speed_up;
use crate::cli::Status;
use crate::cli::bench::transformer::plan_named;
use crate::gpu::device::ComputeDevice;
use crate::mask::{MaskPlan, paper};
use crate::model::latent::{ClipSize, PIXELS_A_TOKEN};
use crate::parallel::ExchangeSizes;
use crate::parallel::simulate::{self, DeviceTimes, Link};
use crate::parallel::staging::bandwidth;

/// Numbers of devices that are reckoned with.
const RANKS: [usize; 3] = [2, 4, 8];
/// Frames of the clips that the paper measures, at 720p.
const CLIPS: [usize; 2] = [29, 93];

/// What is read of `tilereel bench transformer --json`.
#[derive(Deserialize)]
struct TransformerFile {
    device: String,
    heads: usize,
    head: usize,
    layers: usize,
    latent_frames: usize,
    tokens_per_frame: usize,
    rows: usize,
    plans: Vec<PlanTimes>,
}

#[derive(Deserialize)]
struct PlanTimes {
    plan: String,
    median_millis: f64,
    parts: Vec<PartTimes>,
}

#[derive(Deserialize)]
struct PartTimes {
    kind: String,
    millis: f64,
}

impl TransformerFile {
    /// Of one row, for frames of so many tokens. Parts outside of layers are not told apart in the file, and count as within them.
    fn times(&self, frame_tokens: usize) -> anyhow::Result<DeviceTimes> {
        let mut measured = Vec::new();
        for times in &self.plans {
            let plan = plan_named(&times.plan, self.layers, self.latent_frames)?;
            let tiles: u64 = plan.layers().iter().map(|layer| layer.mask().kept_tiles()).sum();
            let all: f64 = times.parts.iter().map(|part| part.millis).sum();
            let attention: f64 = times.parts.iter().filter(|part| part.kind == "attention").map(|part| part.millis).sum();
            // Timed parts are a little slower than calls that are not timed.
            let scale = times.median_millis / all / 1000.0 / self.rows as f64;
            measured.push((tiles as f64, scale * attention, scale * (all - attention), 0.0));
        }
        if measured.is_empty() {
            bail!("The file holds no plans. Make it with `tilereel bench transformer --json`.");
        }
        let times = simulate::fit(&measured, self.layers, self.latent_frames);
        let larger = frame_tokens as f64 / self.tokens_per_frame as f64;
        Ok(DeviceTimes { tile: times.tile * larger * larger, frame: times.frame * larger, outside: times.outside * larger })
    }
}

fn measure_now(bench: &ParallelBench, device: &ComputeDevice) -> anyhow::Result<TransformerFile> {
    // The same measurement as that command's, for the shorter clip.
    let mut command = std::process::Command::new(std::env::current_exe().context("This program's own file is not known")?);
    command.args(["bench", "transformer", "--json", "--plan", "full,1:7", "--repeats", "3"]);
    command.args(["--device", &bench.device.device, "--precision", &device.precision.to_string()]);
    command.args(["--layers", &bench.layers.unwrap_or(4).to_string()]);
    let output = command.output().context("The measurement cannot be started")?;
    if !output.status.success() {
        bail!("The measurement failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("The measurement gave no figures")
}

pub(super) fn run(bench: &ParallelBench) -> anyhow::Result<Status> {
    let needs_device = bench.measured.is_none() || bench.bandwidth.is_none();
    let device = needs_device.then(|| bench.device.open()).transpose()?;
    let file = match (&bench.measured, &device) {
        (Some(path), _) => {
            let text = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
            serde_json::from_slice::<TransformerFile>(&text)
                .with_context(|| format!("{} is not of `tilereel bench transformer --json`", path.display()))?
        }
        (None, Some(device)) => measure_now(bench, device)?,
        (None, None) => bail!("There is neither a file of times nor a device."),
    };
    let link = match (bench.bandwidth, &device) {
        (Some([from, to]), _) => {
            Link { read_bytes_per_second: from * 1e9, write_bytes_per_second: to * 1e9, round_trip_seconds: 2e-4 }
        }
        (_, Some(device)) => {
            let found = bandwidth(device)?;
            Link {
                read_bytes_per_second: found.read,
                write_bytes_per_second: found.write,
                round_trip_seconds: found.round_trip_seconds,
            }
        }
        _ => bail!("There is neither a bandwidth nor a device."),
    };
    let [width, height] = bench.size;
    let frame_tokens = (width / PIXELS_A_TOKEN) * (height / PIXELS_A_TOKEN);
    let times = file.times(frame_tokens)?;
    let sizes = ExchangeSizes { heads: file.heads, head: file.head, frame_tokens, element_bytes: 2 };
    let layers = bench.layers.unwrap_or(bench.config().num_layers);
    let mut rows = Vec::new();
    for frames in CLIPS {
        let latent_frames = ClipSize { frames, width, height }.latent_frames();
        let mut names = paper::measured_masks(latent_frames);
        names.extend(["r0.1", "r0.4"].map(str::to_owned));
        if !bench.plan.is_empty() {
            // A plan of the other length has no place here.
            names = bench.plan.iter().filter(|name| plan_named(name, layers, latent_frames).is_ok()).cloned().collect();
        }
        for name in names {
            let plan = plan_named(&name, layers, latent_frames)?;
            rows.push((frames, name, plan));
        }
    }
    let of = |plan: &MaskPlan, link: &Link| RANKS.map(|ranks| speed_up(&times, link, plan, bench.rows, ranks, &sizes));
    let table: Vec<_> = rows.iter().map(|(frames, name, plan)| (frames, name, of(plan, &link), of(plan, &Link::FREE))).collect();
    if bench.json {
        let table: Vec<_> = table
            .iter()
            .map(|(frames, name, with, free)| {
                json!({ "frames": frames, "plan": name, "ranks": RANKS, "speed_up": with, "with_free_links": free })
            })
            .collect();
        let link = json!({ "read_bytes_per_second": link.read_bytes_per_second,
            "write_bytes_per_second": link.write_bytes_per_second, "round_trip_seconds": link.round_trip_seconds });
        say!(
            "{:#}",
            json!({ "device": file.device, "tile_seconds": times.tile, "frame_seconds": times.frame, "link": link,
                "simulated": table })
        );
        return Ok(Status::Done);
    }
    say!(
        "{}: {:.3} ms a tile, {:.3} ms a frame for the rest of a layer; {:.1} GB/s from a device, {:.1} GB/s to it, {:.2} ms a round trip",
        file.device,
        1000.0 * times.tile,
        1000.0 * times.frame,
        link.read_bytes_per_second / 1e9,
        link.write_bytes_per_second / 1e9,
        1000.0 * link.round_trip_seconds
    );
    say!("expected speed-up on {RANKS:?} devices like it, and what the shares alone would allow, {width}x{height}:");
    for (frames, name, with, free) in table {
        let cells = |values: [f64; 3]| values.map(|value| format!("{value:>5.2}")).join(" ");
        say!("{frames:>3} frames {name:<8} {}   ({})", cells(with), cells(free));
    }
    Ok(Status::Done)
}
