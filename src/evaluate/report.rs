//! The table as Markdown and as JSON.

use std::fmt::Write as _;

use super::bootstrap::Estimate;
use super::{Differences, Evaluation, Made, Pictures, Row, SpeedUp};
use crate::world::attributes::JUDGED;

impl Evaluation {
    /// For people.
    pub fn to_markdown(&self) -> String {
        let mut text = String::from(
            "Share of the clips in which the judge reads an attribute as asked, with its 95 % interval (prompts drawn anew).\n\n",
        );
        let names: Vec<&str> = JUDGED.iter().map(|(name, _)| *name).collect();
        // Writing into a String cannot fail.
        let _ = writeln!(text, "| clips | n | {} | mean | all seven | Frechet |", names.join(" | "));
        let _ = writeln!(text, "|---|---|{}---|---|---|", "---|".repeat(names.len()));
        for row in &self.rows {
            let _ = writeln!(text, "{}", line(row));
        }
        self.write_costs(&mut text);
        self.write_looks(&mut text);
        for vae in &self.vaes {
            let Estimate { mean, low, high } = vae.psnr;
            let _ = writeln!(
                text,
                "\nVAE of {}: {mean:.2} dB ({low:.2} to {high:.2}) on {} held-out clips decoded whole; worst {:.2}, best {:.2}.",
                vae.name, vae.clips, vae.worst, vae.best
            );
        }
        let _ = writeln!(text, "\nDevice: {}", self.device);
        let mut elsewhere: Vec<&str> =
            self.rows.iter().map(|row| row.device.as_str()).filter(|name| !self.device.contains(name)).collect();
        elsewhere.sort_unstable();
        elsewhere.dedup();
        if !elsewhere.is_empty() {
            let _ = writeln!(text, "Clips that were kept were made on: {}", elsewhere.join(", "));
        }
        text
    }

    /// How clips were made, and what that costs.
    fn write_costs(&self, text: &mut String) {
        if self.rows.iter().all(|row| row.made.is_none()) {
            return;
        }
        let _ = writeln!(
            text,
            "\nHow the clips were made, and what it takes on this device: attention of one call, all calls of the transformer for \
             one clip, and a whole clip from prompt to pixels, each with how many times faster that is than in the first.\n"
        );
        let titles = "| clips | sampler | steps | guidance | tiles | attention | transformer | | clip | |";
        let _ = writeln!(text, "{titles}\n|---|---|---|---|---|---|---|---|---|---|");
        for row in &self.rows {
            let Some(made) = &row.made else { continue };
            let _ = writeln!(text, "{}", cost_line(&row.name, made, row.speed_up));
        }
    }

    /// What clips look like, and how rows differ from the first.
    fn write_looks(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\nWhat clips look like, with 95 % intervals: variance of the Laplacian, and VBench's form of flicker, smoothness and \
             subject consistency, the last by the judge's features of each frame (higher is better).\n"
        );
        let titles = "sharpness | temporal flicker | motion smoothness | subject consistency";
        let _ = writeln!(text, "| clips | {titles} |\n|---|---|---|---|---|");
        for row in &self.rows {
            let Pictures { sharpness: Estimate { mean, low, high }, temporal_flicker, motion_smoothness } = row.pictures;
            let [flicker, smooth, consistent] = [temporal_flicker, motion_smoothness, row.subject_consistency].map(hundredths);
            let _ = writeln!(text, "| {} | {mean:.1} ({low:.1}-{high:.1}) | {flicker} | {smooth} | {consistent} |", row.name);
        }
        let Some(first) = self.rows.iter().find(|row| row.made.is_some()) else { return };
        if self.rows.iter().all(|row| row.against_first.is_none()) {
            return;
        }
        let _ = writeln!(text, "\nMinus {}, on the same prompts and noise, with paired 95 % intervals.\n", first.name);
        let titles =
            "mean, points | sharpness | temporal flicker, points | motion smoothness, points | subject consistency, points";
        let _ = writeln!(text, "| clips | {titles} |\n|---|---|---|---|---|---|");
        for row in &self.rows {
            let Some(Differences { mean, pictures, subject_consistency }) = &row.against_first else { continue };
            let Pictures { sharpness, temporal_flicker, motion_smoothness } = pictures;
            let mean = points(*mean, 1);
            let [flicker, smooth, consistent] =
                [temporal_flicker, motion_smoothness, subject_consistency].map(|difference| points(*difference, 2));
            let Estimate { mean: sharper, low, high } = sharpness;
            let sharpness = format!("{sharper:+.1} ({low:+.1} to {high:+.1})");
            let _ = writeln!(text, "| {} | {mean} | {sharpness} | {flicker} | {smooth} | {consistent} |", row.name);
        }
    }

    /// For programs.
    pub fn to_json(&self) -> String {
        // Plain numbers and strings: there is nothing that JSON could not hold.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

fn line(row: &Row) -> String {
    let attributes: Vec<String> = row.attributes.iter().map(|(_, share)| percent(*share)).collect();
    let frechet = row.frechet.map_or_else(|| "-".to_owned(), |distance| format!("{distance:.1}"));
    let (mean, all) = (percent(row.mean), percent(row.all));
    format!("| {} | {} | {} | {mean} | {all} | {frechet} |", row.name, row.clips, attributes.join(" | "))
}

fn percent(Estimate { mean, low, high }: Estimate) -> String {
    let of = |share: f64| share * 100.0;
    format!("{:.1} ({:.0}-{:.0})", of(mean), of(low), of(high))
}

/// With two digits, for shares that are all near to 100 %.
fn hundredths(Estimate { mean, low, high }: Estimate) -> String {
    let of = |share: f64| share * 100.0;
    format!("{:.2} ({:.2}-{:.2})", of(mean), of(low), of(high))
}

fn cost_line(name: &str, made: &Made, speed_up: Option<SpeedUp>) -> String {
    let Made { sampler, steps, guidance_scale, density, attention_millis, transformer_seconds, clip_seconds } = made;
    let attention = attention_millis.map_or_else(|| "-".to_owned(), |millis| format!("{millis:.3} ms"));
    let [transformer, clip] = [transformer_seconds, clip_seconds]
        .map(|seconds| seconds.map_or_else(|| "-".to_owned(), |value| format!("{value:.3} s")));
    let [faster_calls, faster_clip] = speed_up
        .map_or_else(Default::default, |SpeedUp { transformer, clip }| [transformer, clip].map(|times| format!("{times:.1} x")));
    let tiles = 100.0 * density;
    format!(
        "| {name} | {sampler} | {steps} | {guidance_scale} | {tiles:.1} % | {attention} | {transformer} | {faster_calls} | {clip} | \
         {faster_clip} |"
    )
}

/// A difference of shares in percentage points.
fn points(Estimate { mean, low, high }: Estimate, digits: usize) -> String {
    let of = |share: f64| share * 100.0;
    format!("{:+.digits$} ({:+.digits$} to {:+.digits$})", of(mean), of(low), of(high))
}
