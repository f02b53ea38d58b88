//! `tilereel world`: clips of the world that mini learns from, with their sentences.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;

use super::Status;
use super::settings::DeviceArguments;
use crate::clip::{self, ClipFormat, Frames, WriteOptions, contact_sheet};
use crate::generate::GenerateError;
use crate::studio::words::duration;
use crate::world::attributes::Attributes;
use crate::world::grammar::{Detail, caption, read};
use crate::world::renderer::render_clip;
use crate::world::scene::{FRAMES, Scene};

/// Most rows of a contact sheet.
const SHEET_ROWS: usize = 32;

#[derive(Args)]
pub struct Arguments {
    /// The world's seed; a clip is a function of seed and number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many clips
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// The number of the first clip
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Make the clips from this sentence, as far as the world knows its words
    #[arg(long, value_name = "PROMPT")]
    prompt: Option<String>,
    /// The folder to write into; it is made if it is not there
    #[arg(long, short, default_value = "world")]
    out: PathBuf,
    /// The kind of the clips: mp4, webm, gif, apng, webp
    #[arg(long, default_value = "webp")]
    format: String,
    /// Write the contact sheet and the sentences, but no clips
    #[arg(long)]
    sheet_only: bool,
    /// Frames of a clip
    #[arg(long, default_value_t = FRAMES, value_parser = frames_of)]
    frames: usize,
    /// Pixels in a row; the height is 9/16 of it
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(32..=4096))]
    width: u32,
    #[command(flatten)]
    device: DeviceArguments,
}

fn frames_of(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(frames @ 1..=1000) => Ok(frames),
        _ => Err("a clip has 1 to 1000 frames".into()),
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let ending = format!("clip.{}", arguments.format);
    ClipFormat::from_path(ending.as_ref()).map_err(GenerateError::from)?;
    let device = arguments.device.open()?;
    super::catch_interrupts();
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("Cannot make the folder {}", arguments.out.display()))?;
    let (width, height) = (arguments.width as usize, (arguments.width as usize * 9 / 16).next_multiple_of(2));

    let started = Instant::now();
    let (mut shown, mut sentences) = (Vec::<Frames>::new(), String::new());
    for clip in (arguments.first..).take(arguments.count as usize) {
        if super::interrupted() {
            eprintln!("Stopped before clip {clip}; what was written stays.");
            return Ok(Status::Stopped);
        }
        let attributes = attributes(arguments, clip);
        let scene = Scene::with_attributes(arguments.seed, clip, attributes);
        let frames = render_clip(&scene, arguments.frames, width, height, &device.device)
            .map_err(|reason| GenerateError::DeviceFailed { doing: "rendered", reason })?;
        let sentence = match &arguments.prompt {
            Some(prompt) => prompt.clone(),
            None => caption(&attributes, arguments.seed, clip, 0, Detail::All),
        };
        sentences += &format!("{clip}\t{sentence}\n");
        if !arguments.sheet_only {
            let path = arguments.out.join(format!("{}-{clip:06}.{}", arguments.seed, arguments.format));
            clip::write_clip(&path, &frames, None, &WriteOptions::default()).map_err(GenerateError::from)?;
        }
        if shown.len() < SHEET_ROWS {
            shown.push(frames);
        }
    }
    let sheet = contact_sheet(&shown.iter().collect::<Vec<_>>(), 5, 256).map_err(GenerateError::from)?;
    let path = arguments.out.join("sheet.png");
    clip::write_clip(&path, &sheet, None, &WriteOptions::default()).map_err(GenerateError::from)?;
    let list = arguments.out.join("prompts.txt");
    std::fs::write(&list, sentences).with_context(|| format!("Cannot write {}", list.display()))?;
    let seconds = started.elapsed().as_secs_f64();
    say!("{}: {} clips in {}, with sheet.png and prompts.txt", arguments.out.display(), arguments.count, duration(seconds));
    Ok(Status::Done)
}

/// Those of the clip, with what the prompt says put over them.
fn attributes(arguments: &Arguments, clip: u64) -> Attributes {
    let own = Attributes::of_clip(arguments.seed, clip);
    arguments.prompt.as_ref().map_or(own, |prompt| read(prompt).over(own))
}
