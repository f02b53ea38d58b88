//! `tilereel export`: a clip file to another one, edited.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::progress::{Bar, PATIENCE};
use super::{Status, UsageError, library};
use crate::clip::{self, ClipError, ClipFormat, Edit, EditedSize, Frames, Loops, ScaleFilter, WriteOptions, Written};
use crate::generate::GenerateError;
use crate::studio::words::{bytes, duration};
use crate::studio::{Export, ExportRequest};

const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Args)]
pub struct Arguments {
    /// The clip to read: its number in the library, an mp4, gif, apng or webp, or the name that a PNG sequence was written under
    clip: String,
    /// The file to write; its ending chooses the kind: mp4, webm, gif, apng, webp, png
    #[arg(long, short)]
    out: PathBuf,
    /// Begin with this frame, counted from 0
    #[arg(long, value_name = "N")]
    first: Option<usize>,
    /// End with this frame
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// Frames per second: another speed with the same frames
    #[arg(long)]
    fps: Option<f64>,
    /// Make it so many times larger, 1 to 4
    #[arg(long, value_name = "N", default_value_t = 1)]
    scale: u32,
    /// Make it larger with sharp squares instead of smooth edges
    #[arg(long)]
    pixels: bool,
    /// Play forward, then backward
    #[arg(long)]
    ping_pong: bool,
    /// How often it plays: a number, or forever; in mp4 and webm the frames are repeated
    #[arg(long, value_name = "N", default_value = "forever")]
    loops: Loops,
    /// Write an animated WebP with losses, at a quality of 0 to 100
    #[arg(long, value_name = "Q")]
    webp_quality: Option<f32>,
    /// Leave the recipe out of the file
    #[arg(long)]
    no_recipe: bool,
    /// Write the recipe beside the file too, as NAME.recipe.json
    #[arg(long)]
    sidecar: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// No progress, only errors
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let started = Instant::now();
    let format = ClipFormat::from_path(&arguments.out).map_err(GenerateError::from)?;
    let clip = library::clip_file(&arguments.clip)?;
    if is_same_file(&clip, &arguments.out) {
        return Err(UsageError(format!("--out {} is the clip itself. Choose another name.", arguments.out.display())).into());
    }
    if arguments.webp_quality.is_some_and(|quality| !(0.0..=100.0).contains(&quality)) {
        return Err(UsageError("--webp-quality goes from 0 to 100.".to_owned()).into());
    }
    if arguments.webp_quality.is_some() && format != ClipFormat::Webp {
        return Err(UsageError("--webp-quality is for files that end in .webp.".to_owned()).into());
    }
    super::catch_interrupts();
    let bar = Bar::new(arguments.quiet || arguments.json);
    bar.doing("reading");
    let Some(read) = read(&clip)? else {
        bar.clear();
        return Ok(stopped());
    };
    let (frames, recipe) = read.map_err(GenerateError::from)?;
    if arguments.sidecar && recipe.is_none() {
        return Err(GenerateError::ClipWithoutRecipe { path: clip }.into());
    }
    let edit = arguments.edit(&frames);
    let size = edit.check(&frames).map_err(|error| UsageError(error.to_string()))?;
    let request = ExportRequest {
        frames: Arc::new(frames),
        edit,
        path: arguments.out.clone(),
        options: WriteOptions {
            webp_quality: arguments.webp_quality,
            sidecar: recipe.clone().filter(|_| arguments.sidecar),
            ..WriteOptions::default()
        },
        recipe: recipe.filter(|_| !arguments.no_recipe),
    };
    bar.doing(format!("writing {format}"));
    let export = Export::start(request, Box::new(|| {}));
    follow(&export, &bar);
    bar.clear();
    if matches!(export.result(), Some(Err(error)) if error.is_stopped()) {
        return Ok(stopped());
    }
    let written = export.finish()?;
    arguments.report(&written, size, started);
    Ok(Status::Done)
}

impl Arguments {
    fn edit(&self, frames: &Frames) -> Edit {
        let whole = Edit::whole(frames);
        Edit {
            first_frame: self.first.unwrap_or(whole.first_frame),
            last_frame: self.last.unwrap_or(whole.last_frame),
            frames_per_second: self.fps.unwrap_or(whole.frames_per_second),
            scale: self.scale,
            scale_filter: if self.pixels { ScaleFilter::Pixels } else { ScaleFilter::Smooth },
            ping_pong: self.ping_pong,
            loops: self.loops,
        }
    }

    fn report(&self, written: &Written, size: EditedSize, started: Instant) {
        let seconds = started.elapsed().as_secs_f64();
        let text = |path: &PathBuf| path.display().to_string();
        if self.json {
            let result = json!({
                "paths": written.paths.iter().map(text).collect::<Vec<_>>(), "sidecar": written.sidecar.as_ref().map(text),
                "bytes": written.bytes, "frames": size.frames, "width": size.width, "height": size.height,
                "frames_per_second": written.frames_per_second, "loops": self.loops, "seconds": seconds, "note": written.note,
            });
            say!("{result:#}");
            return;
        }
        if self.quiet {
            return;
        }
        let name = match written.paths.as_slice() {
            [first, .., last] => format!("{} .. {}", first.display(), last.display()),
            one => one.iter().map(text).collect(),
        };
        let times = match self.loops {
            Loops::Forever => String::new(),
            Loops::Times(times) => format!(", {times} times"),
        };
        let (frames, width, height) = (size.frames, size.width, size.height);
        say!("{name}: {frames} frames{times}, {width}x{height}, {} in {}", bytes(written.bytes), duration(seconds));
        if let Some(sidecar) = &written.sidecar {
            say!("{}: its recipe", sidecar.display());
        }
        if let Some(note) = &written.note {
            say!("note: {note}");
        }
    }
}

fn stopped() -> Status {
    eprintln!("Stopped; no file was written.");
    Status::Stopped
}

type Read = Result<(Frames, Option<String>), ClipError>;

/// The frames and the recipe of a clip; none when Ctrl-C came first.
fn read(path: &Path) -> anyhow::Result<Option<Read>> {
    let path = path.to_owned();
    let reader = thread::Builder::new()
        .name("tilereel reader".into())
        .spawn(move || clip::read_frames(&path).and_then(|frames| Ok((frames, clip::read_recipe(&path)?))))
        .context("The system gives no thread to read with")?;
    while !reader.is_finished() {
        if super::interrupted() {
            return Ok(None);
        }
        thread::sleep(LOOK_EVERY);
    }
    let read = reader.join().map_err(|_| anyhow::anyhow!("The clip cannot be decoded: its decoder gave up"))?;
    Ok(Some(read))
}

/// Shows an export until it has a result.
fn follow(export: &Export, bar: &Bar) {
    while export.result().is_none() {
        if super::interrupted() {
            export.cancel();
            // A frame that is being encoded is of no use any more, but what it leaves on the disk must go.
            export.wait(PATIENCE);
            return;
        }
        bar.place(export.progress());
        thread::sleep(LOOK_EVERY);
    }
}

/// Whether both names lead to one file.
fn is_same_file(clip: &Path, out: &Path) -> bool {
    clip == out || matches!((clip.canonicalize(), out.canonicalize()), (Ok(clip), Ok(out)) if clip == out)
}
