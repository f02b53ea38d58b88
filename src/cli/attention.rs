//! `tilereel attention`: where a clip's steps looked, as a table, a picture or a file of numbers.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::generate::records_folder;
use super::{Status, UsageError, library};
use crate::clip::{self, WriteOptions};
use crate::generate::GenerateError;
use crate::generate::attention_record::{AttentionRecord, Heatmap, Recording, Scale, TileRow, TileState, draw, to_csv};
use crate::studio::{ClipId, Home, StudioError};

#[derive(Args)]
pub struct Arguments {
    /// The number of a clip of the library, a clip file beside its folder of step records (`--keep-steps`), or such a folder
    clip: String,
    /// The step, counted from 1 [default: the last that was recorded]
    #[arg(long)]
    step: Option<usize>,
    /// The layer, counted from 1, or `all`
    #[arg(long, default_value = "all", value_parser = number_or("all"))]
    layer: NumberOr,
    /// The head, counted from 1, or `mean`
    #[arg(long, default_value = "mean", value_parser = number_or("mean"))]
    head: NumberOr,
    /// A picture (.png), every tile in a line (.csv), or both records and lines as JSON (.json) [default: print a table]
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// Colours of the picture
    #[arg(long, value_enum, default_value_t = Colours::Linear)]
    scale: Colours,
}

#[derive(Clone, Copy, ValueEnum)]
enum Colours {
    Linear,
    /// Three decades up to the largest
    Log,
}

/// From 0, though people count from 1; None is the word that stands for all. (By another name than `Option`, which would make
/// the flag one that may be left out.)
type NumberOr = Option<usize>;

fn number_or(word: &'static str) -> impl Fn(&str) -> Result<NumberOr, String> + Clone {
    move |text| match text.parse::<usize>().ok().and_then(|number| number.checked_sub(1)) {
        Some(index) => Ok(Some(index)),
        None if text == word => Ok(None),
        None => Err(format!("write a number from 1 on or {word}")),
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let record = arguments.record()?;
    let exists = |what: &str, index: NumberOr, count: usize| match index.filter(|&index| index >= count) {
        Some(index) => Err(UsageError(format!("There is no {what} {}; they are numbered from 1 to {count}.", index + 1))),
        None => Ok(()),
    };
    exists("layer", arguments.layer, record.layers())?;
    exists("head", arguments.head, record.heads())?;
    let layers: Vec<usize> = arguments.layer.map_or_else(|| (0..record.layers()).collect(), |layer| vec![layer]);
    match &arguments.out {
        Some(out) => arguments.write(out, &record, &layers)?,
        None => print(&record, &layers, arguments.head),
    }
    Ok(Status::Done)
}

impl Arguments {
    fn record(&self) -> anyhow::Result<AttentionRecord> {
        let folder = match self.clip.parse() {
            Ok(id) => {
                let home = Home::standard()?;
                home.steps_folder(library::open(&home)?.clip(ClipId(id))?.id)
            }
            Err(_) if Path::new(&self.clip).is_dir() => PathBuf::from(&self.clip),
            Err(_) => records_folder(Path::new(&self.clip)),
        };
        let path = match self.step {
            Some(step) => AttentionRecord::path_in(&folder, step),
            None => last_record(&folder).unwrap_or_else(|| AttentionRecord::path_in(&folder, 1)),
        };
        if path.exists() {
            return Ok(AttentionRecord::read(&path)?);
        }
        match self.step {
            Some(step) if last_record(&folder).is_some() => Err(StudioError::NoAttention { step }.into()),
            _ => Err(UsageError(format!(
                "{} has no record of its attention. Make it again with `tilereel generate --recipe {} --attention sampled`, \
                 or in the window with recording on.",
                self.clip, self.clip
            ))
            .into()),
        }
    }

    fn write(&self, out: &Path, record: &AttentionRecord, layers: &[usize]) -> anyhow::Result<()> {
        let rows = || layers.iter().flat_map(|&layer| record.rows(layer, self.head)).collect::<Vec<TileRow>>();
        let ending = out.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let text = match ending.as_str() {
            "png" => {
                let heatmaps: Vec<Heatmap> = layers.iter().map(|&layer| record.heatmap(layer, self.head)).collect();
                let largest = heatmaps.iter().map(|heatmap| heatmap.map.largest()).fold(0.0, f32::max);
                let scale = match self.scale {
                    Colours::Linear => Scale::linear(largest),
                    Colours::Log => Scale::logarithmic(largest),
                };
                clip::write_clip(out, &draw(&heatmaps, scale), None, &WriteOptions::default()).map_err(GenerateError::from)?;
                return Ok(());
            }
            "csv" => to_csv(&rows()),
            "json" => format!("{:#}\n", to_json(record, layers, self.head, &rows())),
            _ => return Err(UsageError(format!("{} ends in neither .png, .csv nor .json.", out.display())).into()),
        };
        Ok(clip::write_whole(out, text.as_bytes()).map_err(GenerateError::from)?)
    }
}

/// The last step of a folder whose attention was recorded.
fn last_record(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_record = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("attention-") && name.ends_with(".png")
    };
    names.filter(is_record).max()
}

fn to_json(record: &AttentionRecord, layers: &[usize], head: NumberOr, tiles: &[TileRow]) -> serde_json::Value {
    let layers: Vec<_> = layers
        .iter()
        .map(|&layer| {
            json!({ "layer": layer + 1, "plan": record.layer(layer).name(), "density": record.density(layer),
                "kept_share": record.kept_share(layer, head) })
        })
        .collect();
    json!({ "step": record.call + 1, "recording": record.recording, "frames": record.frames(), "heads": record.heads(),
        "layers": layers, "tiles": tiles })
}

fn print(record: &AttentionRecord, layers: &[usize], head: NumberOr) {
    let how = match record.recording {
        Recording::Sampled => "skipped tiles estimated from a sample of rows",
        Recording::Exact => "measured on all rows",
    };
    let of_head = head.map_or_else(|| "mean of all heads".to_owned(), |head| format!("head {}", head + 1));
    say!("step {}, {of_head}, {how}", record.call + 1);
    say!("{:>5}  {:<8} {:>8} {:>10}   largest skipped tile", "layer", "plan", "density", "mass kept");
    for &layer in layers {
        let rows = record.rows(layer, head);
        let skipped = rows.iter().filter(|row| row.state == TileState::Skipped);
        let largest = skipped.max_by(|a, b| a.mass.total_cmp(&b.mass)).map_or_else(String::new, |row| {
            let error = match record.recording {
                Recording::Sampled => format!(" +- {:.2}", 100.0 * row.standard_error),
                Recording::Exact => String::new(),
            };
            format!("{:.2} %{error} (frame {} of frame {})", 100.0 * row.mass, row.key_frame, row.query_frame)
        });
        say!(
            "{:>5}  {:<8} {:>6.1} % {:>8.2} %   {largest}",
            layer + 1,
            record.layer(layer).name(),
            100.0 * record.density(layer),
            100.0 * record.kept_share(layer, head)
        );
    }
    if let [layer] = layers {
        print_tiles(record, *layer, head);
    }
}

/// The map itself, where a terminal has room for it.
fn print_tiles(record: &AttentionRecord, layer: usize, head: NumberOr) {
    const MOST_FRAMES: usize = 16;
    if record.frames() > MOST_FRAMES {
        return;
    }
    say!();
    say!("percent of a query frame's mass (a line) on each key frame; (skipped) by the plan");
    let (mass, states) = (record.mass(layer, head), record.states(layer));
    for (query, row) in mass.rows().enumerate() {
        let cells = row.iter().enumerate().map(|(key, mass)| match states[query * record.frames() + key] {
            TileState::Skipped => format!("({:.1})", 100.0 * mass),
            TileState::Computed | TileState::Reference => format!("{:.1} ", 100.0 * mass),
        });
        say!("{query:>5}  {}", cells.map(|cell| format!("{cell:>8}")).collect::<String>());
    }
}
