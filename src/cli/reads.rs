//! `tilereel reads`: what a point of a clip reads from every frame.

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::reading::{Kind, SubjectArguments, nested, rows, stopped};
use super::{Status, UsageError};
use crate::generate::reading::{Seen, point_reads};
use crate::studio::heat::HeatMaps;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    subject: SubjectArguments,
    /// The layer whose self-attention is read, counted from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    layer: u16,
    /// One head of it, counted from 1; the mean over all without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    head: Option<u16>,
    /// The point: a frame of the clip and a pixel in it, all counted from 0
    #[arg(long, value_name = "FRAME:X:Y", value_parser = parse_point)]
    at: [usize; 3],
    /// As if the layer were dense: also over the frames that its plan skips
    #[arg(long)]
    all_frames: bool,
}

fn parse_point(text: &str) -> Result<[usize; 3], String> {
    let parts: Option<Vec<usize>> = text.split(':').map(|part| part.trim().parse().ok()).collect();
    parts.and_then(|parts| parts.try_into().ok()).ok_or_else(|| "write FRAME:X:Y, such as 8:128:72".to_owned())
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let subject = arguments.subject.settle()?;
    let size = subject.call.recipe().size();
    let [frame, x, y] = arguments.at;
    let Some(place) = size.token_at(frame, x, y) else {
        let (frames, width, height) = (size.frames, size.width, size.height);
        let text =
            format!("--at {frame}:{x}:{y} lies outside of the clip, which has {frames} frames of {width}x{height} pixels.");
        return Err(UsageError(text).into());
    };
    let layer = usize::from(arguments.layer) - 1;
    let Some(reads) = subject.read(move |model, call, feed| point_reads(model, call, layer, place, feed))? else {
        return Ok(stopped());
    };
    let head = arguments.head.map(|head| usize::from(head) - 1);
    if head.is_some_and(|head| head >= reads.heads) {
        return Err(UsageError(format!("--head goes from 1 to {} in this model.", reads.heads)).into());
    }
    let seen = if arguments.all_frames { Seen::AllFrames } else { Seen::Plan };
    let weights = reads.weights(head, seen);
    let sums = reads.frame_sums(&weights);
    let maps = HeatMaps::new(reads.grid, weights);
    match subject.kind {
        Kind::Picture => subject.write_sheet(std::slice::from_ref(&maps))?,
        Kind::Table => {
            let mut table = "latent_frame,y,x,weight\n".to_owned();
            for (frame, y, x, weight) in rows(&maps) {
                // Writing into a String cannot fail.
                let _ = writeln!(table, "{frame},{y},{x},{weight:e}");
            }
            subject.write_text(&table)?;
        }
        Kind::Json => {
            let value = json!({
                "step": subject.step(), "layer": arguments.layer, "head": arguments.head, "mask": reads.mask,
                "at": { "frame": frame, "x": x, "y": y },
                "token": { "latent_frame": place.frame, "y": place.y, "x": place.x },
                "softmax_over": if arguments.all_frames { "all frames" } else { "kept frames" },
                "kept_frames": (0..reads.kept.len()).filter(|&frame| reads.kept[frame]).collect::<Vec<_>>(),
                "frame_sums": sums, "weights": nested(&maps),
            });
            subject.write_text(&format!("{value:#}\n"))?;
        }
    }
    let shares = sums.iter().map(|sum| format!("{:.1} %", sum * 100.0)).collect::<Vec<_>>();
    Ok(subject.report(&format!("reads {} from latent frames 0 to {}", shares.join(", "), sums.len() - 1)))
}
