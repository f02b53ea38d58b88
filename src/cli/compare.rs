//! `tilereel compare`: two clips frame by frame, and what they cost.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Status, UsageError, library};
use crate::clip::{self, Comparison, Frames, WriteOptions, contact_sheet, difference};
use crate::generate::GenerateError;
use crate::generate::recipe::Recipe;
use crate::generate::timings::Timings;
use crate::mask::MaskPlan;
use crate::studio::words::{duration, plan};
use crate::studio::{ClipId, Cost, Home, read_recipe};

/// Frames of each clip on a sheet.
const COLUMNS: usize = 8;
const WIDEST_TILE: usize = 512;

#[derive(Args)]
pub struct Arguments {
    /// The number of a clip of the library, or a file
    a: String,
    /// Another one, of the same size
    b: String,
    /// Write the figures (.csv, .json), or a sheet of both clips and their difference (.png)
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// How strongly the sheet shows differences
    #[arg(long, default_value_t = 4.0)]
    gain: f32,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// A clip, wherever it was found.
struct Side {
    name: String,
    frames: Frames,
    recipe: Option<Recipe>,
    cost: Cost,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let ending = arguments.out.as_deref().and_then(Path::extension).map(|ending| ending.to_string_lossy().to_lowercase());
    if let Some(out) = &arguments.out
        && !matches!(ending.as_deref(), Some("png" | "csv" | "json"))
    {
        return Err(UsageError(format!("--out {} ends in none of .png, .csv and .json.", out.display())).into());
    }
    if !(arguments.gain > 0.0 && arguments.gain.is_finite()) {
        return Err(UsageError("--gain is a number above 0.".into()).into());
    }
    let sides = [Side::read(&arguments.a)?, Side::read(&arguments.b)?];
    let [a, b] = &sides;
    let comparison = Comparison::of(&a.frames, &b.frames).map_err(GenerateError::from)?;
    let json = figures_json(&sides, &comparison);
    if let Some(out) = &arguments.out {
        match ending.as_deref() {
            Some("png") => write_sheet(out, &sides, arguments.gain)?,
            Some("csv") => write(out, &figures_csv(&comparison))?,
            _ => write(out, &format!("{json:#}\n"))?,
        }
    }
    if arguments.json {
        say!("{json:#}");
    } else {
        print(&sides, &comparison);
    }
    Ok(Status::Done)
}

impl Side {
    fn read(name: &str) -> anyhow::Result<Self> {
        if let Ok(id) = name.parse() {
            let home = Home::standard()?;
            let clip = library::open(&home)?.clip(ClipId(id))?;
            let timings = Timings::read(&home.timings_file(clip.id));
            return Ok(Self {
                name: format!("clip {id}"),
                frames: clip::read_frames(&home.clip_file(clip.id)).map_err(GenerateError::from)?,
                cost: Cost::of(Some(clip.seconds), timings.as_ref()),
                recipe: Some(clip.recipe),
            });
        }
        let path = Path::new(name);
        let frames = clip::read_frames(path).map_err(GenerateError::from)?;
        // A file without a recipe can be compared all the same.
        Ok(Self { name: name.to_owned(), frames, recipe: read_recipe(path).ok(), cost: Cost::default() })
    }

    fn plan(&self) -> Option<MaskPlan> {
        MaskPlan::from_json(&self.recipe.as_ref()?.mask_plan.to_string()).ok()
    }

    fn line(&self) -> String {
        let mut line = self.name.clone();
        if let Some(recipe) = &self.recipe {
            line += &format!(", {}", recipe.model.name);
        }
        if let Some(found) = self.plan() {
            line += &format!(", {}", plan(&found));
        }
        if let Some(seconds) = self.cost.seconds {
            line += &format!(", took {}", duration(seconds));
        }
        if let Some(seconds) = self.cost.step_seconds {
            line += &format!(", {seconds:.3} s a step");
        }
        line
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "name": self.name, "frames": self.frames.count(), "model": self.recipe.as_ref().map(|recipe| &recipe.model.name),
            "density": self.plan().map(|plan| plan.density()), "seconds": self.cost.seconds,
            "step_seconds": self.cost.step_seconds,
        })
    }
}

fn print([a, b]: &[Side; 2], comparison: &Comparison) {
    say!("A  {}", a.line());
    say!("B  {}", b.line());
    if let Some((ratio, by)) = b.cost.speed_up_over(a.cost) {
        say!("B is {ratio:.2} times as fast as A, by {by}");
    }
    if a.frames.count() != b.frames.count() {
        say!("A has {} frames and B {}; the first {} are compared", a.frames.count(), b.frames.count(), comparison.frames());
    }
    say!("\nframe   PSNR (dB)     SSIM");
    let ssim_text = |ssim: Option<f64>| ssim.map_or("-".to_owned(), |ssim| format!("{ssim:.5}"));
    for (frame, psnr) in comparison.psnr.iter().enumerate() {
        say!("{:>5} {:>11} {:>8}", frame + 1, decibels(*psnr), ssim_text(ssim_of(comparison, frame)));
    }
    say!(" mean {:>11} {:>8}", decibels(comparison.mean_psnr), ssim_text(comparison.mean_ssim));
}

fn ssim_of(comparison: &Comparison, frame: usize) -> Option<f64> {
    comparison.ssim.as_ref().map(|ssim| ssim[frame])
}

fn decibels(psnr: f64) -> String {
    if psnr.is_finite() { format!("{psnr:.3}") } else { "equal".to_owned() }
}

fn figures_json(sides: &[Side; 2], comparison: &Comparison) -> serde_json::Value {
    let [a, b] = sides;
    json!({
        "a": a.json(), "b": b.json(), "speed_up": b.cost.speed_up_over(a.cost).map(|(ratio, _)| ratio),
        // Equal frames have no finite PSNR, and are null.
        "mean_psnr": comparison.mean_psnr, "mean_ssim": comparison.mean_ssim, "psnr": comparison.psnr, "ssim": comparison.ssim,
    })
}

fn figures_csv(comparison: &Comparison) -> String {
    let mut text = "frame,psnr_decibels,ssim\n".to_owned();
    for (frame, psnr) in comparison.psnr.iter().enumerate() {
        let psnr = if psnr.is_finite() { format!("{psnr:.6}") } else { "inf".to_owned() };
        let ssim = ssim_of(comparison, frame).map(|ssim| format!("{ssim:.8}")).unwrap_or_default();
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{},{psnr},{ssim}", frame + 1);
    }
    text
}

/// The first clip, the second, and what differs.
fn write_sheet(out: &Path, [a, b]: &[Side; 2], gain: f32) -> anyhow::Result<()> {
    let both = a.frames.count().min(b.frames.count());
    let first = |frames: &Frames| Frames { rgb: frames.rgb[..both * frames.frame_bytes()].to_vec(), ..frames.clone() };
    let (a, b) = (first(&a.frames), first(&b.frames));
    let differing = Frames { rgb: difference(&a.rgb, &b.rgb, gain), ..a.clone() };
    let sheet = contact_sheet(&[&a, &b, &differing], COLUMNS.min(both), a.width.min(WIDEST_TILE)).map_err(GenerateError::from)?;
    clip::write_clip(out, &sheet, None, &WriteOptions::default()).map_err(GenerateError::from)?;
    Ok(())
}

fn write(out: &Path, text: &str) -> anyhow::Result<()> {
    Ok(clip::write_whole(out, text.as_bytes()).map_err(GenerateError::from)?)
}
