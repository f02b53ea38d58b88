//! GIF files: one palette for the clip, dithered; the recipe is a comment.

use std::num::NonZeroU64;

use ::gif::{
    ColorOutput, DecodeOptions, DecodingError, DisposalMethod, Encoder, EncodingError, Extension, Frame, MemoryLimit, Repeat,
};

use super::canvas::{Canvas, Disposal, Patch};
use super::edit::Loops;
use super::error::{Fault, Unfinished};
use super::frames::Frames;
use super::palette::Palette;
use super::progress::Meter;
use super::rate::{FrameRate, likely_frames_per_second, mean_frames_per_second};
use super::{MOST_FRAME_BYTES, MOST_RECIPE_BYTES};

/// What a comment starts with that holds a recipe; the rest is the recipe as it is.
const RECIPE_PREFIX: &[u8] = b"tilereel:recipe\n";
/// GIF counts in hundredths of a second.
const TICKS_PER_SECOND: u32 = 100;
/// Players take shorter delays for a mistake and show such frames for a tenth of a second.
const LEAST_TICKS: u32 = 2;
/// The share of the time that the palette takes.
const PALETTE_SHARE: f64 = 0.3;

/// A GIF file, its real rate, and a remark about the rate where it is not the one asked for.
///
/// # Errors
/// Words of the encoder; or it was stopped.
pub(super) fn encode(
    frames: &Frames,
    rate: FrameRate,
    recipe: Option<&str>,
    loops: Loops,
    meter: Meter<'_>,
) -> Result<(Vec<u8>, f64, Option<String>), Unfinished> {
    let mut delays = rate.delays(frames.count(), TICKS_PER_SECOND, LEAST_TICKS);
    for delay in &mut delays {
        *delay = (*delay).min(u32::from(u16::MAX));
    }
    let file = write(frames, &delays, recipe, loops, meter)?;
    let real_rate = mean_frames_per_second(&delays, TICKS_PER_SECOND);
    let asked = rate.frames_per_second();
    let note = ((real_rate - asked).abs() > 0.0005)
        .then(|| format!("GIF counts hundredths of a second: {real_rate:.3} frames per second instead of {asked:.3}"));
    Ok((file, real_rate, note))
}

fn write(
    frames: &Frames,
    delays: &[u32],
    recipe: Option<&str>,
    loops: Loops,
    mut meter: Meter<'_>,
) -> Result<Vec<u8>, Unfinished> {
    let mut palette = Palette::of(frames, meter.part(0.0, PALETTE_SHARE))?;
    let mut meter = meter.part(PALETTE_SHARE, 1.0);
    let (width, height) = (frames.width as u16, frames.height as u16);
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, width, height, &palette.bytes())?;
    encoder.set_repeat(match loops {
        Loops::Forever => Repeat::Infinite,
        // Browsers count the plays after the first here.
        Loops::Times(times) => Repeat::Finite(times.get() - 1),
    })?;
    if let Some(recipe) = recipe {
        let comment = [RECIPE_PREFIX, recipe.as_bytes()].concat();
        encoder.write_raw_extension(Extension::Comment.into(), &[&comment])?;
    }
    for (done, (rgb, &delay)) in frames.iter().zip(delays).enumerate() {
        meter.count(done, delays.len())?;
        encoder.write_frame(&Frame {
            delay: delay as u16,
            width,
            height,
            buffer: palette.index_frame(rgb, frames.width).into(),
            ..Default::default()
        })?;
    }
    drop(encoder);
    Ok(file)
}

impl From<EncodingError> for Unfinished {
    fn from(error: EncodingError) -> Self {
        Unfinished::Refused(error.to_string())
    }
}

/// The recipe among the comments.
pub(super) fn read_recipe(file: &[u8]) -> Result<Option<String>, Fault> {
    const EXTENSION: u8 = 0x21;
    const COMMENT: u8 = 0xFE;
    const IMAGE: u8 = 0x2C;
    const TRAILER: u8 = 0x3B;
    let mut blocks = Blocks { rest: file };
    let header = blocks.take(13)?;
    blocks.take(colour_table_bytes(header[10]))?;
    loop {
        match blocks.take(1)?[0] {
            EXTENSION => {
                let kind = blocks.take(1)?[0];
                let wanted = kind == COMMENT;
                let contents = blocks.sub_blocks(wanted)?;
                if let Some(recipe) = contents.strip_prefix(RECIPE_PREFIX) {
                    return String::from_utf8(recipe.to_vec()).map(Some).map_err(|_| Fault::damaged("its recipe is no text"));
                }
            }
            IMAGE => {
                let descriptor = blocks.take(9)?;
                blocks.take(colour_table_bytes(descriptor[8]))?;
                // The smallest code size of the picture.
                blocks.take(1)?;
                blocks.sub_blocks(false)?;
            }
            TRAILER => return Ok(None),
            other => return Err(Fault::damaged(format!("it holds a block of kind {other}"))),
        }
    }
}

/// Bytes of the colour table that the flags of a header announce.
fn colour_table_bytes(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

struct Blocks<'a> {
    rest: &'a [u8],
}

impl<'a> Blocks<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or_else(Fault::cut_off)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Goes past a chain of sub-blocks, collecting what they hold if it is `wanted`.
    fn sub_blocks(&mut self, wanted: bool) -> Result<Vec<u8>, Fault> {
        let mut contents = Vec::new();
        loop {
            let size = usize::from(self.take(1)?[0]);
            if size == 0 {
                return Ok(contents);
            }
            let block = self.take(size)?;
            if wanted {
                contents.extend_from_slice(block);
            }
            if contents.len() > MOST_RECIPE_BYTES {
                return Err(Fault::TooLarge("a comment of it fills megabytes".to_owned()));
            }
        }
    }
}

/// The frames as a viewer shows them.
pub(super) fn read_frames(file: &[u8]) -> Result<Frames, Fault> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    options.check_frame_consistency(true);
    if let Some(limit) = NonZeroU64::new(MOST_FRAME_BYTES as u64) {
        options.set_memory_limit(MemoryLimit::Bytes(limit));
    }
    let mut decoder = options.read_info(file).map_err(fault)?;
    let mut canvas = Canvas::new(usize::from(decoder.width()), usize::from(decoder.height()))?;
    let mut delays = Vec::new();
    while let Some(frame) = decoder.read_next_frame().map_err(fault)? {
        canvas.show(&Patch {
            left: usize::from(frame.left),
            top: usize::from(frame.top),
            width: usize::from(frame.width),
            height: usize::from(frame.height),
            rgba: &frame.buffer,
            blend: true,
            disposal: match frame.dispose {
                DisposalMethod::Background => Disposal::Clear,
                DisposalMethod::Previous => Disposal::Restore,
                DisposalMethod::Any | DisposalMethod::Keep => Disposal::Keep,
            },
        })?;
        delays.push(u32::from(frame.delay));
    }
    canvas.finish(likely_frames_per_second(&delays, TICKS_PER_SECOND))
}

fn fault(error: DecodingError) -> Fault {
    match error {
        DecodingError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Fault::cut_off(),
        DecodingError::MemoryLimit => Fault::TooLarge(error.to_string()),
        error => Fault::damaged(error.to_string()),
    }
}
