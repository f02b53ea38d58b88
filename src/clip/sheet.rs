//! Contact sheets: several clips in one picture, a row a clip, evenly spaced frames as columns.

use super::{ClipError, Frames, LARGEST_SIDE};

/// Lays out `columns` evenly spaced frames of every clip (the first and the last among them), one clip a row, each
/// frame scaled to `tile_width` pixels by averaging the pixels that fall together.
///
/// All clips take the row height of the first at that width; a clip with other proportions is stretched. The result is
/// one frame, which `write_clip` writes as a PNG.
///
/// # Errors
/// [`ClipError::InvalidFrames`] without clips, columns or width, for a clip without frames, or for a sheet larger than
/// a picture may be.
pub fn contact_sheet(clips: &[&Frames], columns: usize, tile_width: usize) -> Result<Frames, ClipError> {
    for clip in clips {
        clip.check()?;
    }
    let (Some(first), true) = (clips.first(), columns > 0 && tile_width > 0) else {
        return Err(ClipError::InvalidFrames { why: "a contact sheet needs a clip, a column and a width".to_owned() });
    };
    let tile_height = (tile_width * first.height).div_ceil(first.width).max(1);
    let (width, height) = (columns.saturating_mul(tile_width), clips.len().saturating_mul(tile_height));
    if width > LARGEST_SIDE || height > LARGEST_SIDE {
        return Err(ClipError::InvalidFrames { why: format!("a contact sheet of {width}x{height} pixels is too large") });
    }
    let mut rgb = vec![0; width * height * 3];
    for (row, clip) in clips.iter().enumerate() {
        for column in 0..columns {
            let index = match columns {
                1 => clip.count() / 2,
                _ => (column * (clip.count() - 1) + (columns - 1) / 2) / (columns - 1),
            };
            let tile = scaled(clip, index, tile_width, tile_height);
            for (line, pixels) in tile.chunks_exact(tile_width * 3).enumerate() {
                let at = ((row * tile_height + line) * width + column * tile_width) * 3;
                rgb[at..at + pixels.len()].copy_from_slice(pixels);
            }
        }
    }
    Ok(Frames { width, height, frames_per_second: first.frames_per_second, rgb })
}

/// A clip at a smaller width, with at most so many of its frames, evenly spaced; it lasts as long.
///
/// # Errors
/// [`ClipError::InvalidFrames`] for frames that make no clip, or a width of 0.
pub fn thumbnail(clip: &Frames, width: usize, most_frames: usize) -> Result<Frames, ClipError> {
    clip.check()?;
    if width == 0 || most_frames == 0 {
        return Err(ClipError::InvalidFrames { why: "a thumbnail needs a width and a frame".to_owned() });
    }
    let width = width.min(clip.width);
    let height = (width * clip.height).div_ceil(clip.width).max(1);
    let count = clip.count().min(most_frames);
    let rgb = (0..count).flat_map(|index| scaled(clip, index * clip.count() / count, width, height)).collect();
    let frames_per_second = clip.frames_per_second * count as f64 / clip.count() as f64;
    Ok(Frames { width, height, frames_per_second, rgb })
}

/// A frame at another size. Every new pixel is the mean of the old ones under it, by area; at the same or a larger
/// size that is the nearest one with soft edges.
fn scaled(clip: &Frames, index: usize, width: usize, height: usize) -> Vec<u8> {
    let source = clip.frame(index);
    let columns = weights(clip.width, width);
    let rows = weights(clip.height, height);
    let mut rgb = Vec::with_capacity(width * height * 3);
    for row in &rows {
        for column in &columns {
            let mut sum = [0.0; 3];
            for &(y, row_weight) in row {
                for &(x, column_weight) in column {
                    let at = (y * clip.width + x) * 3;
                    for channel in 0..3 {
                        sum[channel] += f64::from(source[at + channel]) * row_weight * column_weight;
                    }
                }
            }
            rgb.extend(sum.map(|value| value.round() as u8));
        }
    }
    rgb
}

/// For every new position the old ones under it with their shares, which sum to one.
fn weights(from: usize, to: usize) -> Vec<Vec<(usize, f64)>> {
    let step = from as f64 / to as f64;
    (0..to)
        .map(|position| {
            let (start, end) = (position as f64 * step, (position + 1) as f64 * step);
            let last = (end.ceil() as usize).min(from);
            (start as usize..last)
                .map(|old| {
                    let overlap = end.min(old as f64 + 1.0) - start.max(old as f64);
                    (old, overlap.max(0.0) / step)
                })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(values: &[u8], width: usize, height: usize) -> Frames {
        Frames { width, height, frames_per_second: 24.0, rgb: values.iter().flat_map(|&value| [value; 3]).collect() }
    }

    #[test]
    fn rows_are_clips_and_columns_are_spread_frames() {
        let a = grey(&[0, 10, 20, 30, 40], 1, 1);
        let b = grey(&[100, 200], 1, 1);
        let sheet = contact_sheet(&[&a, &b], 3, 1).unwrap();
        assert_eq!((sheet.width, sheet.height, sheet.count()), (3, 2, 1));
        let values: Vec<u8> = sheet.rgb.chunks(3).map(|pixel| pixel[0]).collect();
        assert_eq!(values[..3], [0, 20, 40]);
        assert_eq!((values[3], values[5]), (100, 200));
    }

    #[test]
    fn scaling_down_averages_and_the_same_size_changes_nothing() {
        let clip = grey(&[0, 100, 200, 100], 2, 2);
        assert_eq!(contact_sheet(&[&clip], 1, 1).unwrap().rgb, [100, 100, 100]);
        assert_eq!(contact_sheet(&[&clip], 1, 2).unwrap().rgb, clip.rgb);
        let row = grey(&[0, 60, 240], 3, 1);
        let sheet = contact_sheet(&[&row], 1, 2).unwrap();
        assert_eq!([sheet.rgb[0], sheet.rgb[3]], [20, 180]);
    }

    #[test]
    fn impossible_sheets_are_refused() {
        let clip = grey(&[0], 1, 1);
        assert!(contact_sheet(&[], 1, 1).is_err());
        assert!(contact_sheet(&[&clip], 0, 1).is_err());
        assert!(contact_sheet(&[&clip], usize::MAX, 2).is_err());
        assert!(contact_sheet(&[&grey(&[], 1, 1)], 1, 1).is_err());
    }
}
