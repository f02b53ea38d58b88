//! PNG files: one for every frame, or one animated file. Lossless; the recipe is an international text chunk.

use std::borrow::Cow;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use ::png::text_metadata::ITXtChunk;
use ::png::{
    BitDepth, BlendOp, ColorType, DecodeOptions, Decoder, DecodingError, DisposeOp, Encoder, EncodingError, Info, Limits, Reader,
    SrgbRenderingIntent, Transformations,
};

use super::canvas::{Canvas, Disposal, Patch};
use super::edit::Loops;
use super::error::{Fault, Unfinished};
use super::frames::Frames;
use super::progress::Meter;
use super::rate::FrameRate;
use super::{MOST_FRAME_BYTES, MOST_RECIPE_BYTES};

const RECIPE_KEYWORD: &str = "tilereel:recipe";
/// Still files do not know how fast to show them; this text does.
const RATE_KEYWORD: &str = "tilereel:frames_per_second";
/// A longer recipe is compressed, for it is repeated in every file of a sequence.
const LONGEST_PLAIN_RECIPE: usize = 1024;

/// The file of one frame of a sequence: `NAME-0007.png` next to `NAME.png`.
pub(super) fn path_in_sequence(path: &Path, index: usize) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!("-{index:04}."));
    name.push(path.extension().unwrap_or("png".as_ref()));
    path.with_file_name(name)
}

/// One frame as a PNG file.
pub(super) fn encode_still(frames: &Frames, index: usize, recipe: Option<&str>) -> Result<Vec<u8>, Unfinished> {
    let mut file = Vec::new();
    still(&mut file, frames, index, recipe)?;
    Ok(file)
}

fn still(file: &mut Vec<u8>, frames: &Frames, index: usize, recipe: Option<&str>) -> Result<(), EncodingError> {
    let mut encoder = encoder(file, frames, recipe)?;
    encoder.add_text_chunk(RATE_KEYWORD.to_owned(), frames.frames_per_second.to_string())?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(frames.frame(index))?;
    writer.finish()
}

/// All frames as one animated PNG, and its rate.
///
/// # Errors
/// Words of the encoder; or it was stopped.
pub(super) fn encode_animated(
    frames: &Frames,
    rate: FrameRate,
    recipe: Option<&str>,
    loops: Loops,
    mut meter: Meter<'_>,
) -> Result<(Vec<u8>, f64), Unfinished> {
    let mut file = Vec::new();
    let (frame_ticks, second_ticks) = rate.delay_fraction();
    let mut encoder = encoder(&mut file, frames, recipe)?;
    encoder.set_animated(frames.count() as u32, u32::from(loops.number()))?;
    encoder.set_frame_delay(frame_ticks, second_ticks)?;
    let mut writer = encoder.write_header()?;
    for (done, frame) in frames.iter().enumerate() {
        meter.count(done, frames.count())?;
        writer.write_image_data(frame)?;
    }
    writer.finish()?;
    Ok((file, f64::from(second_ticks) / f64::from(frame_ticks)))
}

impl From<EncodingError> for Unfinished {
    fn from(error: EncodingError) -> Self {
        Unfinished::Refused(error.to_string())
    }
}

fn encoder<'a>(
    file: &'a mut Vec<u8>,
    frames: &Frames,
    recipe: Option<&str>,
) -> Result<Encoder<'static, &'a mut Vec<u8>>, EncodingError> {
    let mut info = Info::with_size(frames.width as u32, frames.height as u32);
    info.color_type = ColorType::Rgb;
    info.bit_depth = BitDepth::Eight;
    if let Some(recipe) = recipe {
        let mut chunk = ITXtChunk::new(RECIPE_KEYWORD, recipe);
        if recipe.len() > LONGEST_PLAIN_RECIPE {
            chunk.compressed = true;
        }
        info.utf8_text.push(chunk);
    }
    let mut encoder = Encoder::with_info(file, info)?;
    encoder.set_source_srgb(SrgbRenderingIntent::Perceptual);
    Ok(encoder)
}

/// The recipe among the texts before the picture.
pub(super) fn read_recipe(file: &[u8]) -> Result<Option<String>, Fault> {
    let reader = reader(file)?;
    let mut recipe = reader.info().utf8_text.iter().find(|chunk| chunk.keyword == RECIPE_KEYWORD).cloned();
    let Some(chunk) = &mut recipe else {
        return Ok(None);
    };
    chunk.decompress_text_with_limit(MOST_RECIPE_BYTES).map_err(fault)?;
    Ok(Some(chunk.get_text().map_err(fault)?))
}

/// The frames of a still (one) or an animated PNG.
pub(super) fn read_frames(file: &[u8]) -> Result<Frames, Fault> {
    let mut reader = reader(file)?;
    let info = reader.info();
    let (width, height) = (info.width as usize, info.height as usize);
    let stored = info.animation_control.map_or(1, |control| control.num_frames);
    // A first picture that is no part of the animation is for viewers that know no animation.
    let has_cover = info.animation_control.is_some() && info.frame_control.is_none();
    let mut frames_per_second = info
        .uncompressed_latin1_text
        .iter()
        .find(|chunk| chunk.keyword == RATE_KEYWORD)
        .and_then(|chunk| chunk.text.parse().ok())
        .filter(|&rate| FrameRate::new(rate).is_ok())
        .unwrap_or(1.0);

    let mut canvas = Canvas::new(width, height)?;
    let bytes = reader
        .output_buffer_size()
        .filter(|&bytes| bytes <= MOST_FRAME_BYTES)
        .ok_or_else(|| Fault::TooLarge("a frame of it fills gigabytes".to_owned()))?;
    let mut buffer = vec![0; bytes];
    if has_cover {
        reader.next_frame(&mut buffer).map_err(fault)?;
    }
    let mut delays = Vec::new();
    for _ in 0..stored {
        let output = reader.next_frame(&mut buffer).map_err(fault)?;
        let control = reader.info().frame_control;
        let rgba = to_rgba(&buffer[..output.buffer_size()], output.color_type)?;
        canvas.show(&Patch {
            left: control.map_or(0, |control| control.x_offset as usize),
            top: control.map_or(0, |control| control.y_offset as usize),
            width: output.width as usize,
            height: output.height as usize,
            rgba: &rgba,
            blend: control.is_some_and(|control| control.blend_op == BlendOp::Over),
            disposal: match control.map(|control| control.dispose_op) {
                Some(DisposeOp::Background) => Disposal::Clear,
                Some(DisposeOp::Previous) => Disposal::Restore,
                Some(DisposeOp::None) | None => Disposal::Keep,
            },
        })?;
        if let Some(control) = control {
            // A denominator of zero means hundredths.
            let denominator = if control.delay_den == 0 { 100 } else { control.delay_den };
            delays.push((f64::from(control.delay_num), f64::from(denominator)));
        }
    }
    let seconds: f64 = delays.iter().map(|(numerator, denominator)| numerator / denominator).sum();
    if seconds > 0.0 {
        frames_per_second = match delays.as_slice() {
            // Free of the rounding that a sum brings.
            [first, rest @ ..] if rest.iter().all(|delay| delay == first) => first.1 / first.0,
            _ => f64::from(stored) / seconds,
        };
    }
    canvas.finish(frames_per_second)
}

fn reader(file: &[u8]) -> Result<Reader<Cursor<&[u8]>>, Fault> {
    let mut options = DecodeOptions::default();
    // A recipe with a broken checksum must be an error, not a clip without recipe.
    options.set_skip_ancillary_crc_failures(false);
    let mut decoder = Decoder::new_with_options(Cursor::new(file), options);
    decoder.set_limits(Limits { bytes: MOST_FRAME_BYTES });
    decoder.set_transformations(Transformations::normalize_to_color8());
    decoder.read_info().map_err(fault)
}

fn to_rgba(bytes: &[u8], color_type: ColorType) -> Result<Cow<'_, [u8]>, Fault> {
    Ok(match color_type {
        ColorType::Rgba => Cow::Borrowed(bytes),
        ColorType::Rgb => bytes.chunks_exact(3).flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]).collect(),
        ColorType::Grayscale => bytes.iter().flat_map(|&grey| [grey, grey, grey, 255]).collect(),
        ColorType::GrayscaleAlpha => bytes.chunks_exact(2).flat_map(|pixel| [pixel[0], pixel[0], pixel[0], pixel[1]]).collect(),
        ColorType::Indexed => return Err(Fault::unsupported("its palette was not expanded")),
    })
}

fn fault(error: DecodingError) -> Fault {
    match error {
        DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Fault::cut_off(),
        DecodingError::LimitsExceeded => Fault::TooLarge(error.to_string()),
        error => Fault::damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_lies_next_to_its_name() {
        assert_eq!(path_in_sequence(Path::new("a b/clip.PNG"), 7), Path::new("a b/clip-0007.PNG"));
        assert_eq!(path_in_sequence(Path::new("x.y.png"), 12345), Path::new("x.y-12345.png"));
    }
}
