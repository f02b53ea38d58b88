//! The table as Markdown and as JSON.

use std::fmt::Write as _;

use super::bootstrap::Estimate;
use super::{Differences, Evaluation, Pictures, Row};
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
        for vae in &self.vaes {
            let Estimate { mean, low, high } = vae.psnr;
            let _ = writeln!(
                text,
                "\nVAE of {}: {mean:.2} dB ({low:.2} to {high:.2}) on {} held-out clips decoded whole; worst {:.2}, best {:.2}.",
                vae.name, vae.clips, vae.worst, vae.best
            );
        }
        let _ = writeln!(text, "\nDevice: {}", self.device);
        text
    }

    /// How clips were made, what that costs, and what their pixels tell.
    fn write_costs(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\nHow the clips were made, attention of one call and a whole clip on this device, and what the pixels tell: variance of \
             the Laplacian, and VBench's form of flicker and smoothness (higher is better).\n"
        );
        let titles = "| clips | sampler | steps | guidance | tiles | attention | clip | sharpness | temporal flicker | motion smoothness |";
        let _ = writeln!(text, "{titles}\n|---|---|---|---|---|---|---|---|---|---|");
        for row in &self.rows {
            let _ = writeln!(text, "{}", cost_line(row));
        }
        let Some(first) = self.rows.iter().find(|row| row.made.is_some()) else { return };
        if self.rows.iter().all(|row| row.against_first.is_none()) {
            return;
        }
        let _ = writeln!(text, "\nMinus {}, on the same prompts and noise, with paired 95 % intervals.\n", first.name);
        let _ = writeln!(text, "| clips | mean, points | sharpness | temporal flicker, points | motion smoothness, points |");
        let _ = writeln!(text, "|---|---|---|---|---|");
        for row in &self.rows {
            let Some(Differences { mean, pictures }) = &row.against_first else { continue };
            let Pictures { sharpness, temporal_flicker, motion_smoothness } = pictures;
            let (mean, flicker, smooth) = (points(*mean, 1), points(*temporal_flicker, 2), points(*motion_smoothness, 2));
            let Estimate { mean: sharper, low, high } = sharpness;
            let sharpness = format!("{sharper:+.1} ({low:+.1} to {high:+.1})");
            let _ = writeln!(text, "| {} | {mean} | {sharpness} | {flicker} | {smooth} |", row.name);
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

fn cost_line(row: &Row) -> String {
    let Pictures { sharpness, temporal_flicker, motion_smoothness } = row.pictures;
    let [flicker, smooth] = [temporal_flicker, motion_smoothness].map(|share| format!("{:.2}", 100.0 * share.mean));
    let how = row.made.as_ref().map_or_else(
        || "- | - | - | - | - | -".to_owned(),
        |made| {
            let attention = made.attention_millis.map_or_else(|| "-".to_owned(), |millis| format!("{millis:.3} ms"));
            let clip = made.clip_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.3} s"));
            let (tiles, guidance) = (100.0 * made.density, made.guidance_scale);
            format!("{} | {} | {guidance} | {tiles:.1} % | {attention} | {clip}", made.sampler, made.steps)
        },
    );
    format!("| {} | {how} | {:.1} | {flicker} | {smooth} |", row.name, sharpness.mean)
}

/// A difference of shares in percentage points.
fn points(Estimate { mean, low, high }: Estimate, digits: usize) -> String {
    let of = |share: f64| share * 100.0;
    format!("{:+.digits$} ({:+.digits$} to {:+.digits$})", of(mean), of(low), of(high))
}
