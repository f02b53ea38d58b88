//! The picture that an animated GIF, PNG or WebP builds up: frames may cover a part of it, be transparent, and be wiped
//! after they were shown.

use super::error::Fault;
use super::frames::Frames;
use super::{MOST_FRAME_BYTES, MOST_PIXELS};

/// What happens to the area of a frame after it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposal {
    Keep,
    Clear,
    Restore,
}

/// A frame as the file stores it.
pub(super) struct Patch<'a> {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) width: usize,
    pub(super) height: usize,
    /// `[row][column][red, green, blue, alpha]`, alpha not multiplied in.
    pub(super) rgba: &'a [u8],
    /// Whether transparent pixels let the picture below through; otherwise they replace it.
    pub(super) blend: bool,
    pub(super) disposal: Disposal,
}

/// Collects frames. Where nothing was ever painted the result is black.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    rgba: Vec<u8>,
    rgb: Vec<u8>,
}

impl Canvas {
    pub(super) fn new(width: usize, height: usize) -> Result<Self, Fault> {
        let pixels = width.saturating_mul(height);
        if pixels == 0 {
            return Err(Fault::damaged("it claims to have no pixel"));
        }
        if pixels > MOST_PIXELS {
            return Err(Fault::TooLarge(format!("it claims {width}x{height} pixels")));
        }
        Ok(Canvas { width, height, rgba: vec![0; width * height * 4], rgb: Vec::new() })
    }

    /// Whether an area lies inside of the picture.
    pub(super) fn contains(&self, left: usize, top: usize, width: usize, height: usize) -> bool {
        left.saturating_add(width) <= self.width && top.saturating_add(height) <= self.height
    }

    /// Paints one frame and takes the picture.
    pub(super) fn show(&mut self, patch: &Patch<'_>) -> Result<(), Fault> {
        let bottom = patch.top.saturating_add(patch.height);
        if !self.contains(patch.left, patch.top, patch.width, patch.height) || patch.rgba.len() != patch.width * patch.height * 4
        {
            return Err(Fault::damaged("a frame lies outside of the picture"));
        }
        if self.rgb.len() + self.width * self.height * 3 > MOST_FRAME_BYTES {
            return Err(Fault::TooLarge("its frames fill gigabytes".to_owned()));
        }
        let before = (patch.disposal == Disposal::Restore).then(|| self.rgba.clone());
        let area = |row: usize| {
            let start = (row * self.width + patch.left) * 4;
            start..start + patch.width * 4
        };
        let source_rows = patch.rgba.chunks_exact((patch.width * 4).max(1));
        for (row, source) in (patch.top..bottom).zip(source_rows) {
            let target = &mut self.rgba[area(row)];
            if patch.blend {
                for (below, above) in target.chunks_exact_mut(4).zip(source.chunks_exact(4)) {
                    paint_over(below, above);
                }
            } else {
                target.copy_from_slice(source);
            }
        }
        self.rgb.extend(self.rgba.chunks_exact(4).flat_map(|pixel| {
            let alpha = u32::from(pixel[3]);
            [pixel[0], pixel[1], pixel[2]].map(|channel| ((u32::from(channel) * alpha + 127) / 255) as u8)
        }));
        match patch.disposal {
            Disposal::Keep => {}
            Disposal::Clear => {
                for row in patch.top..bottom {
                    self.rgba[area(row)].fill(0);
                }
            }
            Disposal::Restore => {
                if let Some(before) = before {
                    self.rgba = before;
                }
            }
        }
        Ok(())
    }

    pub(super) fn finish(self, frames_per_second: f64) -> Result<Frames, Fault> {
        if self.rgb.is_empty() {
            return Err(Fault::damaged("it holds no frame"));
        }
        Ok(Frames { width: self.width, height: self.height, frames_per_second, rgb: self.rgb })
    }
}

/// `above` over `below`, both with plain alpha.
fn paint_over(below: &mut [u8], above: &[u8]) {
    match above[3] {
        255 => below.copy_from_slice(above),
        0 => {}
        _ => {
            let above_alpha = u32::from(above[3]) * 255;
            let below_alpha = u32::from(below[3]) * (255 - u32::from(above[3]));
            let alpha = above_alpha + below_alpha;
            for channel in 0..3 {
                let sum = u32::from(above[channel]) * above_alpha + u32::from(below[channel]) * below_alpha;
                below[channel] = ((sum + alpha / 2) / alpha) as u8;
            }
            below[3] = ((alpha + 127) / 255) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(left: usize, rgba: [u8; 4], disposal: Disposal) -> (usize, [u8; 4], Disposal) {
        (left, rgba, disposal)
    }

    #[test]
    fn frames_blend_and_are_wiped() {
        let mut canvas = Canvas::new(2, 1).unwrap();
        for (left, rgba, disposal) in [
            dot(0, [200, 0, 0, 255], Disposal::Keep),
            dot(1, [0, 200, 0, 255], Disposal::Restore),
            dot(0, [0, 0, 0, 0], Disposal::Clear),
            dot(1, [0, 0, 200, 255], Disposal::Keep),
        ] {
            canvas.show(&Patch { left, top: 0, width: 1, height: 1, rgba: &rgba, blend: true, disposal }).unwrap();
        }
        let frames = canvas.finish(24.0).unwrap();
        assert_eq!(frames.frame(0), [200, 0, 0, 0, 0, 0]);
        assert_eq!(frames.frame(1), [200, 0, 0, 0, 200, 0]);
        assert_eq!(frames.frame(2), [200, 0, 0, 0, 0, 0]);
        assert_eq!(frames.frame(3), [0, 0, 0, 0, 0, 200]);
    }

    #[test]
    fn half_transparent_red_over_blue_is_purple() {
        let mut below = [0, 0, 255, 255];
        paint_over(&mut below, &[255, 0, 0, 128]);
        assert_eq!(below, [128, 0, 127, 255]);
    }

    #[test]
    fn frames_outside_of_the_picture_are_refused() {
        let mut canvas = Canvas::new(2, 1).unwrap();
        let patch = Patch { left: 2, top: 0, width: 1, height: 1, rgba: &[0; 4], blend: true, disposal: Disposal::Keep };
        assert!(canvas.show(&patch).is_err());
        assert!(Canvas::new(0, 1).is_err());
        assert!(Canvas::new(1 << 40, 1).is_err());
    }
}
