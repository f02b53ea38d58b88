//! What `tilereel reads` and `tilereel words` share: which clip and step is read, on which device, and where the result goes.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::library;
use super::progress::{Ended, Progress};
use super::settings::DeviceArguments;
use super::{Status, UsageError};
use crate::clip::{self, Frames, WriteOptions, contact_sheet};
use crate::generate::GenerateError;
use crate::generate::observer::{Observer, Phase};
use crate::generate::pipeline::LoadedModel;
use crate::generate::reading::PastCall;
use crate::model::folder::{ModelFolder, SearchPath};
use crate::model::sampler::Sampler;
use crate::studio::heat::HeatMaps;
use crate::studio::{ClipId, Engine, Feed, Home, past_call, read_recipe, run_of_step};

/// Width of a frame on the sheet in pixels, where as many have room.
const TILE_WIDTH: usize = 192;
/// How strong heat lies over the frames.
const OPACITY: f32 = 0.75;
/// Where reading begins and ends, as a share of the time.
const READING_SHARE: (f64, f64) = (0.3, 0.9);

#[derive(Args)]
pub struct SubjectArguments {
    /// A clip of the library by its number, or a clip file with its recipe inside, of which the steps before are made again
    clip: String,
    /// The step that is read, counted from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    step: u16,
    #[command(flatten)]
    device: DeviceArguments,
    /// The model, if it is not found under the recipe's name
    #[arg(long)]
    model: Option<String>,
    /// The file to write; its ending chooses the kind: png (heat over the frames), csv, json
    #[arg(long, short)]
    out: PathBuf,
    /// No progress, only errors
    #[arg(long, short)]
    quiet: bool,
}

/// The kind of the file to write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Picture,
    Table,
    Json,
}

/// A call of a clip that is to be read.
pub struct Subject<'a> {
    arguments: &'a SubjectArguments,
    pub kind: Kind,
    pub call: PastCall,
    clip_file: PathBuf,
    model: String,
}

impl SubjectArguments {
    /// Finds the clip and its step.
    ///
    /// # Errors
    /// There is no such clip or step, or no such kind of file.
    pub fn settle(&self) -> anyhow::Result<Subject<'_>> {
        let kind = match self.out.extension().map(|ending| ending.to_ascii_lowercase()) {
            Some(ending) if ending == "png" => Kind::Picture,
            Some(ending) if ending == "csv" => Kind::Table,
            Some(ending) if ending == "json" => Kind::Json,
            _ => {
                let out = self.out.display();
                return Err(UsageError(format!("--out {out} has no ending that is known. Use .png, .csv or .json.")).into());
            }
        };
        let step = usize::from(self.step);
        let (call, clip_file, model) = match self.clip.parse() {
            Ok(id) => {
                let home = Home::standard()?;
                let entry = library::open(&home)?.clip(ClipId(id))?;
                (past_call(&home, entry.id, step)?, home.clip_file(entry.id), entry.model)
            }
            Err(_) => {
                let path = Path::new(&self.clip);
                let recipe = run_of_step(&read_recipe(path)?, step);
                let calls = Sampler::new(recipe.sampler, recipe.steps).map_err(GenerateError::from)?.calls();
                if step > calls {
                    return Err(UsageError(format!("--step {step} is not one of the clip's {calls} steps.")).into());
                }
                let model = recipe.model.name.clone();
                (PastCall::of_run(recipe, step - 1), path.to_owned(), model)
            }
        };
        Ok(Subject { arguments: self, kind, call, clip_file, model: self.model.clone().unwrap_or(model) })
    }
}

impl Subject<'_> {
    /// Reads with the clip's model; none when Ctrl-C came first.
    ///
    /// # Errors
    /// The model is not found or another one, or the device failed.
    pub fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut LoadedModel, &PastCall, &mut Feed) -> Result<T, GenerateError> + Send + 'static,
    ) -> anyhow::Result<Option<T>> {
        let folder = ModelFolder::resolve(&self.model, &SearchPath::standard()).map_err(GenerateError::from)?;
        let device = self.arguments.device.open()?;
        super::catch_interrupts();
        let engine = Engine::start().context("The system gives no thread for the engine")?;
        let call = self.call.clone();
        let ticket = engine.submit(move |workshop, feed| {
            feed.phase(Phase::Load);
            work(workshop.model(folder, &device)?, &call, feed)
        });
        match Progress::new(self.arguments.quiet, READING_SHARE).follow(&ticket, || {}) {
            Ended::Result(result) => Ok(Some(result?)),
            Ended::Interrupted => Ok(None),
        }
    }

    /// Writes a sheet with a row for each map: heat over one frame of the clip for each latent frame.
    ///
    /// # Errors
    /// The clip has other frames than its recipe says, or the file cannot be written.
    pub fn write_sheet(&self, maps: &[HeatMaps]) -> anyhow::Result<()> {
        let frames = clip::read_frames(&self.clip_file).map_err(GenerateError::from)?;
        let size = self.call.recipe().size();
        if (frames.count(), frames.width, frames.height) != (size.frames, size.width, size.height) {
            let reason = format!(
                "{} was cut or scaled, so its frames are not those that its recipe makes; use --out with .csv or .json",
                self.clip_file.display()
            );
            return Err(GenerateError::Reading { reason }.into());
        }
        let rows: Vec<Frames> = maps.iter().map(|maps| maps.over(&frames, OPACITY)).collect();
        let columns = size.latent_frames();
        let tile_width = TILE_WIDTH.min(clip::LARGEST_SIDE / columns).max(1);
        let sheet = contact_sheet(&rows.iter().collect::<Vec<_>>(), columns, tile_width).map_err(GenerateError::from)?;
        clip::write_clip(&self.arguments.out, &sheet, None, &WriteOptions::default()).map_err(GenerateError::from)?;
        Ok(())
    }

    /// Writes a text whole.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_text(&self, text: &str) -> anyhow::Result<()> {
        Ok(clip::write_whole(&self.arguments.out, text.as_bytes()).map_err(GenerateError::from)?)
    }

    pub fn step(&self) -> u16 {
        self.arguments.step
    }

    /// Says what was written.
    pub fn report(&self, text: &str) -> Status {
        if !self.arguments.quiet {
            say!("{}: {text}", self.arguments.out.display());
        }
        Status::Done
    }
}

/// A command that Ctrl-C has ended.
pub fn stopped() -> Status {
    eprintln!("Stopped; no file was written.");
    Status::Stopped
}

/// The lines of a table: one a token, with its latent frame, its place and its value.
pub fn rows(maps: &HeatMaps) -> impl Iterator<Item = (usize, usize, usize, f32)> {
    let [_, height, width] = maps.grid;
    maps.values
        .iter()
        .enumerate()
        .map(move |(token, &value)| (token / (height * width), token / width % height, token % width, value))
}

/// Values frame by frame, row by row.
pub fn nested(maps: &HeatMaps) -> Vec<Vec<&[f32]>> {
    let [_, height, width] = maps.grid;
    maps.values.chunks(height * width).map(|frame| frame.chunks(width).collect()).collect()
}
