//! `tilereel words`: where a clip sees the words of its prompt.

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::reading::{Kind, SubjectArguments, nested, rows, stopped};
use super::{Status, UsageError};
use crate::generate::reading::{Fate, WordMaps, word_maps};
use crate::studio::heat::HeatMaps;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    subject: SubjectArguments,
    /// The layer whose cross-attention is read, counted from 1; the mean over all without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    layer: Option<u16>,
    /// One word of the prompt, upper and lower case alike; all without it
    #[arg(long)]
    word: Option<String>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let subject = arguments.subject.settle()?;
    let layer = arguments.layer.map(|layer| usize::from(layer) - 1);
    let Some(maps) = subject.read(move |model, call, feed| word_maps(model, call, layer, feed))? else {
        return Ok(stopped());
    };
    let chosen = arguments.chosen(&maps)?;
    let heat = |word: usize| HeatMaps::spread(maps.grid, maps.map(word).to_vec());
    match subject.kind {
        Kind::Picture => subject.write_sheet(&chosen.iter().map(|&word| heat(word)).collect::<Vec<_>>())?,
        Kind::Table => {
            let mut table = "word,text,latent_frame,y,x,share\n".to_owned();
            for &word in &chosen {
                let text = maps.words[word].text.replace('"', "\"\"");
                for (frame, y, x, share) in rows(&heat(word)) {
                    // Writing into a String cannot fail.
                    let _ = writeln!(table, "{word},\"{text}\",{frame},{y},{x},{share:e}");
                }
            }
            subject.write_text(&table)?;
        }
        Kind::Json => {
            let words: Vec<_> = chosen
                .iter()
                .map(|&index| {
                    let word = &maps.words[index];
                    let span = [word.span.start, word.span.end];
                    json!({
                        "word": index, "text": word.text, "bytes": span, "tokens": word.tokens, "mean": maps.mean(index),
                        "shares": nested(&heat(index)),
                    })
                })
                .collect();
            let value = json!({
                "step": subject.step(), "layer": arguments.layer, "prompt": subject.call.recipe().prompt,
                "mean_rest": maps.mean_rest(), "words": words,
            });
            subject.write_text(&format!("{value:#}\n"))?;
        }
    }
    let share = |&word: &usize| format!("{} {:.1} %", maps.words[word].text, maps.mean(word) * 100.0);
    let rows = chosen.iter().map(share).collect::<Vec<_>>().join(", ");
    Ok(subject.report(&format!("{rows}; beside the words {:.1} %", maps.mean_rest() * 100.0)))
}

impl Arguments {
    /// The words to write, of those that the model reads.
    fn chosen(&self, maps: &WordMaps) -> Result<Vec<usize>, UsageError> {
        let is_read = |&word: &usize| maps.words[word].fate == Fate::Read;
        let Some(wanted) = &self.word else { return Ok((0..maps.words.len()).filter(is_read).collect()) };
        let plain = |text: &str| text.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        let named: Vec<usize> = (0..maps.words.len()).filter(|&word| plain(&maps.words[word].text) == plain(wanted)).collect();
        let read: Vec<usize> = named.iter().copied().filter(is_read).collect();
        if read.is_empty() {
            let words = maps.words.iter().filter(|word| word.fate == Fate::Read).map(|word| word.text.as_str());
            let why = if named.is_empty() { "is no word of the prompt" } else { "is a word that the model does not read" };
            let words = words.collect::<Vec<_>>().join(" ");
            return Err(UsageError(format!("--word {wanted} {why}. It reads: {words}.")));
        }
        Ok(read)
    }
}
