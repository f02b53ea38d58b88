//! Numbers, masks and the parts of a run, as a person says them.

use crate::generate::observer::Phase;
use crate::generate::timings::Share;
use crate::gpu::spans::{Clock, Kind};
use crate::mask::MaskPlan;

/// Seconds as a person says them.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Bytes as a person says them.
pub fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        b if b < 1e3 => format!("{bytes} bytes"),
        b if b < 1e6 => format!("{:.0} kB", b / 1e3),
        b if b < 1e9 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.1} GB", b / 1e9),
    }
}

/// A prediction of seconds. Tenths of a second would promise too much.
pub fn about(seconds: f64) -> String {
    match seconds {
        s if s < 1.5 => "about 1 s".into(),
        s if s < 9.5 => format!("about {s:.0} s"),
        s => format!("about {}", duration(s)),
    }
}

/// `1 clip`, `2 clips`.
pub fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// How long ago something was.
pub fn ago(unix_millis: i64) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    seconds_ago(since.as_secs_f64() - unix_millis as f64 / 1000.0)
}

fn seconds_ago(seconds: f64) -> String {
    let some = |number: f64, one: &str| count(number as usize, one) + " ago";
    match seconds {
        s if s < 60.0 => "just now".into(),
        s if s < 3600.0 => some(s / 60.0, "minute"),
        s if s < 86_400.0 => some(s / 3600.0, "hour"),
        s => some(s / 86_400.0, "day"),
    }
}

/// A plan in a few words: its masks, and the share of tiles that are computed.
pub fn plan(plan: &MaskPlan) -> String {
    let density = format!("{:.1} % of the tiles", 100.0 * plan.density());
    let names: Vec<String> = plan.layers().iter().map(|layer| layer.name()).collect();
    let ranges = plan.ranges().count();
    match names.split_first() {
        _ if ranges > 1 => format!("{ranges} ranges of steps, {density}"),
        _ if plan.density() >= 1.0 => "dense".to_owned(),
        Some((first, others)) if others.iter().all(|name| name == first) => format!("{first}, {density}"),
        _ => format!("a mask a layer, {density}"),
    }
}

/// Where part of the time of a run went.
pub fn share(share: Share) -> &'static str {
    match share {
        Share::Load => "loading",
        Share::Text => "text",
        Share::Attention => "attention",
        Share::Linear => "linear",
        Share::Normalisation => "normalisation",
        Share::Vae => "VAE",
        Share::Copies => "copies",
        Share::Idle => "idle, other",
        Share::Keep => "keeping",
    }
}

/// What that part is.
pub fn about_share(share: Share) -> &'static str {
    match share {
        Share::Load => {
            "Reading the weights, and on a GPU its shaders and their self-test. Nothing, if the model was still there."
        }
        Share::Text => "The layers of the text encoder. Its weights, where they are loaded for a prompt, count as copies.",
        Share::Attention => "Attention in the transformer, to the frames and to the text: what a sparse mask saves on.",
        Share::Linear => "Matrix products of the transformer: queries, keys, values, outputs and the feed-forward layers.",
        Share::Normalisation => "Norms, modulation by the timestep, gates and the rotary embedding.",
        Share::Vae => "Convolutions, norms and attention of the decoder that makes frames of latents.",
        Share::Copies => "Between the program's memory, the device and the disk; the records of steps among them.",
        Share::Idle => "What no part accounts for: sums between the parts, the sampler, and waiting.",
        Share::Keep => "Writing the clip and its small picture.",
    }
}

pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Load => "loading",
        Phase::Text => "text",
        Phase::Sampling => "sampling",
        Phase::Decoding => "decoding",
        Phase::Keeping => "keeping",
    }
}

pub fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Attention => "attention",
        Kind::Linear => "linear",
        Kind::Normalisation => "normalisation",
        Kind::Convolution => "convolution",
        Kind::Resampling => "resampling",
        Kind::Copy => "copies",
    }
}

/// What times were taken with.
pub fn clock(clock: Option<Clock>) -> &'static str {
    match clock {
        Some(Clock::Timestamps) => "timestamps of the GPU",
        Some(Clock::Waits) => "the wall clock, with a wait for the GPU after every part",
        Some(Clock::Wall) | None => "the wall clock",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_said_at_the_precision_they_have() {
        assert_eq!([duration(0.04), duration(9.97), duration(120.0), duration(5400.0)], ["0.0 s", "10 s", "2 min", "1.5 h"]);
        let mixed = [MaskPlan::uniform(1, 8, "2:6"), MaskPlan::dense(1, 8)].map(|plan| plan.unwrap().layers()[0].clone());
        let plans = [MaskPlan::dense(3, 8), MaskPlan::uniform(3, 8, "2:6"), MaskPlan::of_layers(mixed.to_vec())];
        let said = ["dense", "2:6, 53.1 % of the tiles", "a mask a layer, 76.6 % of the tiles"];
        assert_eq!(plans.map(|one| plan(&one.unwrap())), said);
        assert_eq!([about(0.2), about(3.4), about(61.0)], ["about 1 s", "about 3 s", "about 61 s"]);
        assert_eq!([bytes(999), bytes(1_500_000), bytes(2_500_000_000)], ["999 bytes", "1.5 MB", "2.5 GB"]);
        assert_eq!([seconds_ago(-5.0), seconds_ago(119.0), seconds_ago(7200.0)], ["just now", "1 minute ago", "2 hours ago"]);
        assert_eq!([count(0, "clip"), count(1, "clip"), count(2, "clip")], ["0 clips", "1 clip", "2 clips"]);
    }
}
