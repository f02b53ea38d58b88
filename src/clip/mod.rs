//! Frames to files and back, with the recipe inside.
//!
//! A [`Frames`] becomes a file of the kind that its name asks for ([`ClipFormat`]); the recipe, a text that this module
//! never looks into, travels inside of the file in the place that the format has for such things, and
//! [`read_recipe`] gets it out again. Files appear whole or not at all, and equal frames with equal recipes make equal
//! bytes: no date, no random identifier, one encoder thread.

mod av1;
mod canvas;
mod compare;
pub mod drawing;
mod edit;
mod error;
mod files;
mod format;
mod frames;
mod gif;
mod h264;
mod mp4;
mod palette;
mod png;
mod progress;
mod rate;
mod scale;
mod sheet;
mod webm;
mod webp;
mod xmp;
mod yuv;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub use compare::{Comparison, difference};
pub use edit::{Edit, EditError, EditedSize, Loops, MOST_LOOPS, SCALES};
pub use error::ClipError;
pub use format::ClipFormat;
pub use frames::Frames;
pub use rate::FRAMES_PER_SECOND;
pub use scale::ScaleFilter;
pub use sheet::{contact_sheet, thumbnail};

use error::Unfinished;
use files::StagedFiles;
use progress::{Meter, unwatched};
use rate::FrameRate;

/// What the files say about who wrote them.
const SOFTWARE: &str = concat!("Tilereel ", env!("CARGO_PKG_VERSION"));
/// The least limit that the formats have for the pixels of a side.
pub const LARGEST_SIDE: usize = 16383;
/// The most that is read from a file.
const MOST_FILE_BYTES: u64 = 1 << 30;
/// The most that decoded frames may take: eight minutes at 256x144, a hundred frames at 2560x1440.
const MOST_FRAME_BYTES: usize = 1 << 30;
/// The most that a recipe may take when it unpacks.
const MOST_RECIPE_BYTES: usize = 16 << 20;
/// The most pixels of one frame that are read.
const MOST_PIXELS: usize = 1 << 26;

/// The share of the time after which only the disk has something to do.
const ENCODING_SHARE: f64 = 0.98;

/// Choices about the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WriteOptions {
    /// Animated WebP with losses, at a quality of 0 (small) to 100; `None` keeps every pixel.
    pub webp_quality: Option<f32>,
    /// How often the file plays.
    pub loops: Loops,
    /// A recipe to write beside the clip, into `NAME.recipe.json`.
    pub sidecar: Option<String>,
}

/// What has been written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The files in order: one, or one a frame for a PNG sequence.
    pub paths: Vec<PathBuf>,
    /// The file with the recipe beside them.
    pub sidecar: Option<PathBuf>,
    /// The size of all files of the clip together.
    pub bytes: u64,
    /// The rate that players will show, which coarse clocks make differ from the one asked for.
    pub frames_per_second: f64,
    /// What the person should know about the file, if anything.
    pub note: Option<String>,
}

/// Writes `frames` to `path`, in the format that the ending of the name asks for, with `recipe` inside.
///
/// A `.png` with several frames becomes `NAME-0000.png`, `NAME-0001.png`, .. next to each other. Existing files are
/// replaced. On any error nothing is left behind.
///
/// # Errors
/// [`ClipError`] for an unknown ending, frames that make no clip, and everything that a folder can refuse.
pub fn write_clip(path: &Path, frames: &Frames, recipe: Option<&str>, options: &WriteOptions) -> Result<Written, ClipError> {
    write_clip_watched(path, frames, recipe, options, &mut unwatched)
}

/// Writes a file that is no clip, such as a table, in the same way: whole or not at all.
///
/// # Errors
/// Everything that a folder can refuse.
pub fn write_whole(path: &Path, contents: &[u8]) -> Result<(), ClipError> {
    let mut staged = StagedFiles::default();
    staged.stage(path, contents)?;
    staged.commit()?;
    Ok(())
}

/// As [`write_clip`], for callers who look and may stop it.
///
/// `progress` gets the share that is done, which never falls: 0 before anything else, then at least once a frame, and 1 when
/// the files are complete and only wait for their names. When it breaks, at the 1 at last, nothing is left behind and files
/// of these names are as they were; after the 1 the clip is there.
///
/// # Errors
/// Also [`ClipError::Stopped`] when `progress` breaks.
pub fn write_clip_watched(
    path: &Path,
    frames: &Frames,
    recipe: Option<&str>,
    options: &WriteOptions,
    progress: &mut dyn FnMut(f64) -> ControlFlow<()>,
) -> Result<Written, ClipError> {
    let format = ClipFormat::from_path(path)?;
    frames.check()?;
    let rate = FrameRate::new(frames.frames_per_second)?;
    let encode_error = |unfinished: Unfinished| unfinished.of(format);
    let loops = options.loops;
    let mut meter = Meter::new(progress);
    meter.at(0.0)?;
    let mut encoding = meter.part(0.0, ENCODING_SHARE);

    let mut staged = StagedFiles::default();
    let mut note = None;
    let mut frames_per_second = rate.frames_per_second();
    match format {
        ClipFormat::Mp4 => {
            let (file, remark) = mp4::encode(frames, rate, recipe, loops.copies(), encoding).map_err(encode_error)?;
            staged.stage(path, &file)?;
            note = remark;
        }
        ClipFormat::Apng => {
            let (file, real_rate) = png::encode_animated(frames, rate, recipe, loops, encoding).map_err(encode_error)?;
            staged.stage(path, &file)?;
            frames_per_second = real_rate;
        }
        ClipFormat::Png if frames.count() == 1 => {
            let file = png::encode_still(frames, 0, recipe).map_err(encode_error)?;
            staged.stage(path, &file)?;
        }
        ClipFormat::Png => {
            for index in 0..frames.count() {
                encoding.count(index, frames.count())?;
                let file = png::encode_still(frames, index, recipe).map_err(encode_error)?;
                staged.stage(&png::path_in_sequence(path, index), &file)?;
            }
            let older = png::path_in_sequence(path, frames.count());
            note = older.is_file().then(|| {
                format!("an older sequence of this name was longer: {} and those after it are not of this clip", older.display())
            });
        }
        ClipFormat::Webm => {
            let file = webm::encode(frames, rate, recipe, loops.copies(), encoding).map_err(encode_error)?;
            staged.stage(path, &file)?;
        }
        ClipFormat::Gif => {
            let (file, real_rate, remark) = gif::encode(frames, rate, recipe, loops, encoding).map_err(encode_error)?;
            staged.stage(path, &file)?;
            frames_per_second = real_rate;
            note = remark;
        }
        ClipFormat::Webp => {
            let quality = options.webp_quality;
            let (file, real_rate) = webp::encode(frames, rate, recipe, quality, loops, encoding).map_err(encode_error)?;
            staged.stage(path, &file)?;
            frames_per_second = real_rate;
        }
    }
    let bytes = staged.bytes();
    let sidecar = options.sidecar.as_ref().map(|text| (sidecar_path(path), text));
    if let Some((path, text)) = &sidecar {
        staged.stage(path, text.as_bytes())?;
    }
    meter.at(1.0)?;
    let mut paths = staged.commit()?;
    // It was staged last.
    let sidecar = sidecar.and_then(|_| paths.pop());
    Ok(Written { paths, sidecar, bytes, frames_per_second, note })
}

/// Where the recipe of the clip `path` lies if it lies beside it.
fn sidecar_path(path: &Path) -> PathBuf {
    path.with_extension("recipe.json")
}

/// The recipe inside a clip, `None` if it carries none. The contents decide what kind of file it is. For a PNG sequence
/// `path` may be the name it was written under.
///
/// # Errors
/// [`ClipError`] if the file cannot be read, is no clip, or is damaged.
pub fn read_recipe(path: &Path) -> Result<Option<String>, ClipError> {
    let path = first_file(path);
    let (file, format) = open(&path)?;
    match format {
        ClipFormat::Mp4 => mp4::read_recipe(&file),
        ClipFormat::Webm => webm::read_recipe(&file),
        ClipFormat::Gif => gif::read_recipe(&file),
        ClipFormat::Webp => webp::read_recipe(&file),
        ClipFormat::Png | ClipFormat::Apng => png::read_recipe(&file),
    }
    .map_err(|fault| fault.at(&path, format))
}

/// Decodes the frames of a clip. For a PNG sequence `path` is the name it was written under.
///
/// # Errors
/// [`ClipError::NoBundledDecoder`] for WebM; [`ClipError`] if the file cannot be read, is no clip, or is damaged.
pub fn read_frames(path: &Path) -> Result<Frames, ClipError> {
    let first = first_file(path);
    let mut frames = read_file(&first)?;
    if first != path {
        for index in 1.. {
            let next = png::path_in_sequence(path, index);
            if !next.is_file() {
                break;
            }
            let more = read_file(&next)?;
            let fault = if (more.width, more.height) != (frames.width, frames.height) {
                error::Fault::damaged("its size is not that of the first of the sequence")
            } else if frames.rgb.len() + more.rgb.len() > MOST_FRAME_BYTES {
                error::Fault::TooLarge("the sequence fills gigabytes".to_owned())
            } else {
                frames.rgb.extend_from_slice(&more.rgb);
                continue;
            };
            return Err(fault.at(&next, ClipFormat::Png));
        }
    }
    Ok(frames)
}

fn read_file(path: &Path) -> Result<Frames, ClipError> {
    let (file, format) = open(path)?;
    match format {
        ClipFormat::Mp4 => mp4::read_frames(&file),
        ClipFormat::Webm => {
            return Err(ClipError::NoBundledDecoder { path: path.to_path_buf(), format });
        }
        ClipFormat::Gif => gif::read_frames(&file),
        ClipFormat::Webp => webp::read_frames(&file),
        ClipFormat::Png | ClipFormat::Apng => png::read_frames(&file),
    }
    .map_err(|fault| fault.at(path, format))
}

/// `path`, or the first file of the PNG sequence that was written under this name.
fn first_file(path: &Path) -> PathBuf {
    let first = png::path_in_sequence(path, 0);
    if !path.exists() && first.is_file() { first } else { path.to_path_buf() }
}

fn open(path: &Path) -> Result<(Vec<u8>, ClipFormat), ClipError> {
    let file = files::read_bounded(path, MOST_FILE_BYTES)?;
    let format = ClipFormat::from_contents(&file).ok_or_else(|| ClipError::NotAClip { path: path.to_path_buf() })?;
    Ok((file, format))
}
