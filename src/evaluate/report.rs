//! The table as Markdown and as JSON.

use std::fmt::Write as _;

use super::bootstrap::Estimate;
use super::{Evaluation, Row};
use crate::world::attributes::JUDGED;

impl Evaluation {
    /// For people.
    pub fn to_markdown(&self) -> String {
        let mut text =
            String::from("Share of the clips in which the judge reads an attribute as asked, with its 95 % interval.\n\n");
        let names: Vec<&str> = JUDGED.iter().map(|(name, _)| *name).collect();
        // Writing into a String cannot fail.
        let _ = writeln!(text, "| clips | n | {} | mean | all seven | Frechet |", names.join(" | "));
        let _ = writeln!(text, "|---|---|{}---|---|---|", "---|".repeat(names.len()));
        for row in &self.rows {
            let _ = writeln!(text, "{}", line(row));
        }
        if let Some(difference) = self.difference {
            let _ = writeln!(
                text,
                "\nMean of the first model minus that of the second, on the same prompts and noise: {}.",
                signed(difference)
            );
        }
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

fn signed(Estimate { mean, low, high }: Estimate) -> String {
    let of = |share: f64| share * 100.0;
    format!("{:+.1} points ({:+.1} to {:+.1})", of(mean), of(low), of(high))
}
