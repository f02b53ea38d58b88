//! Animated WebP files: every frame coded by libwebp, the container written here.
//!
//! libwebp's own animation encoder leaves the last frame a guessed length, and its animation decoder (as the binding
//! drives it) never returns from a damaged frame; both are avoided by handling the container, which is simple, here.

use ::webp::{BitstreamFeatures, Decoder, Encoder, PixelLayout, WebPConfig};

use super::canvas::{Canvas, Disposal, Patch};
use super::edit::Loops;
use super::error::{Fault, Unfinished};
use super::frames::Frames;
use super::progress::Meter;
use super::rate::{FrameRate, likely_frames_per_second, mean_frames_per_second};
use super::{MOST_RECIPE_BYTES, xmp};

const TICKS_PER_SECOND: u32 = 1000;
/// Frame lengths have 24 bits.
const MOST_TICKS: u32 = (1 << 24) - 1;
const HAS_XMP: u8 = 1 << 2;
const IS_ANIMATED: u8 = 1 << 1;
/// Frame flags.
const REPLACE: u8 = 1 << 1;
const CLEAR_AFTER: u8 = 1;
const FRAME_HEADER_BYTES: usize = 16;
const CHUNK_HEADER_BYTES: usize = 8;

/// A WebP file and its real rate.
///
/// # Errors
/// Words of the encoder; or it was stopped.
pub(super) fn encode(
    frames: &Frames,
    rate: FrameRate,
    recipe: Option<&str>,
    quality: Option<f32>,
    loops: Loops,
    mut meter: Meter<'_>,
) -> Result<(Vec<u8>, f64), Unfinished> {
    let settings = settings(quality)?;
    let (width, height) = (frames.width as u32, frames.height as u32);
    let delays = rate.delays(frames.count(), TICKS_PER_SECOND, 1);

    let mut body = b"WEBP".to_vec();
    let flags = IS_ANIMATED | if recipe.is_some() { HAS_XMP } else { 0 };
    let mut features = vec![flags, 0, 0, 0];
    features.extend(three_bytes(width - 1));
    features.extend(three_bytes(height - 1));
    append_chunk(&mut body, b"VP8X", &features)?;
    let mut animation = [0; 6];
    // After the background colour, which nothing here shows, the number of plays.
    animation[4..].copy_from_slice(&loops.number().to_le_bytes());
    append_chunk(&mut body, b"ANIM", &animation)?;
    let mut shown = Vec::with_capacity(delays.len());
    for (rgb, &delay) in frames.iter().zip(&delays) {
        meter.count(shown.len(), delays.len())?;
        let delay = delay.min(MOST_TICKS);
        let still = Encoder::from_rgb(rgb, width, height).encode_advanced(&settings).map_err(|error| format!("{error:?}"))?;
        let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + still.len());
        for value in [0, 0, width - 1, height - 1, delay] {
            frame.extend(three_bytes(value));
        }
        frame.push(REPLACE);
        // The still file without its container: the coded picture is its only chunk.
        frame.extend_from_slice(still.get(12..).ok_or("libwebp wrote no picture")?);
        append_chunk(&mut body, b"ANMF", &frame)?;
        shown.push(delay);
    }
    if let Some(recipe) = recipe {
        append_chunk(&mut body, b"XMP ", xmp::packet(recipe).as_bytes())?;
    }
    let mut file = Vec::with_capacity(CHUNK_HEADER_BYTES + body.len());
    append_chunk(&mut file, b"RIFF", &body)?;
    Ok((file, mean_frames_per_second(&shown, TICKS_PER_SECOND)))
}

fn settings(quality: Option<f32>) -> Result<WebPConfig, String> {
    let mut settings = WebPConfig::new().map_err(|()| "libwebp has another version".to_owned())?;
    match quality {
        Some(quality) if (0.0..=100.0).contains(&quality) => {
            settings.quality = quality;
            settings.use_sharp_yuv = 1;
        }
        Some(quality) => return Err(format!("a quality of {quality} is not between 0 and 100")),
        None => {
            // Here these two say how hard to try. More takes several times as long for a few percent.
            settings.lossless = 1;
            settings.quality = 40.0;
            settings.method = 3;
        }
    }
    Ok(settings)
}

fn three_bytes(value: u32) -> [u8; 3] {
    let [a, b, c, _] = value.to_le_bytes();
    [a, b, c]
}

/// A RIFF chunk: kind, size, contents, and a byte of padding after an odd size.
fn append_chunk(to: &mut Vec<u8>, kind: &[u8; 4], contents: &[u8]) -> Result<(), String> {
    let size = u32::try_from(contents.len()).map_err(|_| "WebP files end at 4 GiB".to_owned())?;
    to.extend_from_slice(kind);
    to.extend_from_slice(&size.to_le_bytes());
    to.extend_from_slice(contents);
    if !contents.len().is_multiple_of(2) {
        to.push(0);
    }
    Ok(())
}

/// The recipe in the XMP packet.
pub(super) fn read_recipe(file: &[u8]) -> Result<Option<String>, Fault> {
    for chunk in chunks(contents(file)?) {
        let (kind, packet) = chunk?;
        if kind != b"XMP " {
            continue;
        }
        if packet.len() > 2 * MOST_RECIPE_BYTES {
            return Err(Fault::TooLarge("its metadata fill megabytes".to_owned()));
        }
        let packet = str::from_utf8(packet).map_err(|_| Fault::damaged("its metadata are no text"))?;
        return xmp::text(packet).map_err(|()| Fault::damaged("its recipe is no valid text"));
    }
    Ok(None)
}

/// The frames as a viewer shows them: one for a still picture.
pub(super) fn read_frames(file: &[u8]) -> Result<Frames, Fault> {
    let chunks: Vec<_> = chunks(contents(file)?).collect::<Result<_, _>>()?;
    let animated = chunks.iter().any(|(kind, _)| *kind == b"ANMF");
    if !animated {
        let features = BitstreamFeatures::new(file).ok_or_else(|| Fault::damaged("its picture has no readable header"))?;
        let (width, height) = (features.width() as usize, features.height() as usize);
        let mut canvas = Canvas::new(width, height)?;
        show(&mut canvas, file, (0, 0, width, height), 0)?;
        return canvas.finish(1.0);
    }
    let features = chunks
        .iter()
        .find(|(kind, _)| *kind == b"VP8X")
        .and_then(|(_, features)| features.get(4..10))
        .ok_or_else(|| Fault::damaged("its size is missing"))?;
    let mut canvas = Canvas::new(number(&features[..3]) + 1, number(&features[3..]) + 1)?;
    let mut delays = Vec::new();
    for (_, frame) in chunks.iter().filter(|(kind, _)| *kind == b"ANMF") {
        let (header, picture) = frame.split_at_checked(FRAME_HEADER_BYTES).ok_or_else(Fault::cut_off)?;
        let field = |index: usize| number(&header[3 * index..3 * index + 3]);
        let area = (2 * field(0), 2 * field(1), field(2) + 1, field(3) + 1);
        let still = still_file(picture, area)?;
        show(&mut canvas, &still, area, header[15])?;
        delays.push(field(4) as u32);
    }
    canvas.finish(likely_frames_per_second(&delays, TICKS_PER_SECOND))
}

/// A still file of the coded picture of a frame, with the extended header that transparency needs.
fn still_file(picture: &[u8], (_, _, width, height): (usize, usize, usize, usize)) -> Result<Vec<u8>, Fault> {
    const HAS_ALPHA: u8 = 1 << 4;
    let too_long = |_| Fault::damaged("a frame of it is too long");
    let mut body = b"WEBP".to_vec();
    if picture.starts_with(b"ALPH") {
        let mut features = vec![HAS_ALPHA, 0, 0, 0];
        features.extend(three_bytes(width as u32 - 1));
        features.extend(three_bytes(height as u32 - 1));
        append_chunk(&mut body, b"VP8X", &features).map_err(too_long)?;
    }
    body.extend_from_slice(picture);
    let mut file = Vec::with_capacity(CHUNK_HEADER_BYTES + body.len());
    append_chunk(&mut file, b"RIFF", &body).map_err(too_long)?;
    Ok(file)
}

fn show(
    canvas: &mut Canvas,
    still: &[u8],
    (left, top, width, height): (usize, usize, usize, usize),
    flags: u8,
) -> Result<(), Fault> {
    // The size that the coded picture claims decides about memory: check it against the container before decoding.
    let claimed = BitstreamFeatures::new(still).ok_or_else(|| Fault::damaged("a frame has no readable header"))?;
    if (claimed.width() as usize, claimed.height() as usize) != (width, height) || !canvas.contains(left, top, width, height) {
        return Err(Fault::damaged("a frame has not the size it claims"));
    }
    let picture = Decoder::new(still).decode().ok_or_else(|| Fault::damaged("a frame of it does not decode"))?;
    let rgba: Vec<u8> = match picture.layout() {
        PixelLayout::Rgba => picture.to_vec(),
        PixelLayout::Rgb => picture.as_chunks::<3>().0.iter().flat_map(|&[red, green, blue]| [red, green, blue, 255]).collect(),
    };
    canvas.show(&Patch {
        left,
        top,
        width,
        height,
        rgba: &rgba,
        blend: flags & REPLACE == 0,
        disposal: if flags & CLEAR_AFTER == 0 { Disposal::Keep } else { Disposal::Clear },
    })
}

/// The chunks of the file, without its header.
fn contents(file: &[u8]) -> Result<&[u8], Fault> {
    let claimed = file.get(4..8).map(number).ok_or_else(Fault::cut_off)?;
    let end = claimed.checked_add(CHUNK_HEADER_BYTES).ok_or_else(Fault::cut_off)?;
    file.get(12..end).ok_or_else(Fault::cut_off)
}

fn chunks(mut rest: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), Fault>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let chunk = rest
            .split_at_checked(CHUNK_HEADER_BYTES)
            .and_then(|(header, after)| {
                let (kind, size) = header.split_at(4);
                let (contents, after) = after.split_at_checked(number(size))?;
                // Some writers leave out the padding at the very end.
                rest = if contents.len().is_multiple_of(2) { after } else { after.get(1..).unwrap_or_default() };
                Some((kind, contents))
            })
            .ok_or_else(Fault::cut_off);
        if chunk.is_err() {
            rest = &[];
        }
        Some(chunk)
    })
}

/// A little-endian number of up to four bytes.
fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte))
}
