//! Values over the tokens of a clip as heat over its frames.

use super::colour_map::colour;
use crate::clip::Frames;
use crate::model::latent::{TokenPlace, frames_of_latent};

/// A value a token, to be shown as heat.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMaps {
    /// Latent frames, height and width in tokens.
    pub grid: [usize; 3],
    /// `[frames][height][width]`, at least 0.
    pub values: Vec<f32>,
    /// The value of the coldest colour, in every frame.
    pub low: f32,
    /// The largest value, which has the hottest colour in every frame.
    pub peak: f32,
}

/// How opaque the coldest colour is, next to the hottest: the picture stays to be seen where nothing is read.
const COLDEST_ALPHA: f32 = 0.35;

impl HeatMaps {
    /// Heat from 0 to the largest value.
    pub fn new(grid: [usize; 3], values: Vec<f32>) -> Self {
        let peak = values.iter().copied().fold(0.0, f32::max);
        Self { grid, values, low: 0.0, peak }
    }

    /// Heat from the least to the largest value: for values that differ little everywhere.
    pub fn spread(grid: [usize; 3], values: Vec<f32>) -> Self {
        let maps = Self::new(grid, values);
        Self { low: maps.values.iter().copied().fold(maps.peak, f32::min), ..maps }
    }

    /// The value of a token; none outside of the grid.
    pub fn at(&self, place: TokenPlace) -> Option<f32> {
        self.values.get(place.index(self.grid)?).copied()
    }

    /// A latent frame at `width` x `height` pixels, row by row: red, green, blue and opacity. The middle of a token has its value;
    /// between them it goes over evenly in both directions.
    pub fn picture(&self, frame: usize, width: usize, height: usize) -> Vec<[u8; 4]> {
        let [_, rows, columns] = self.grid;
        let values = &self.values[frame * rows * columns..(frame + 1) * rows * columns];
        let (down, across) = (taps(height, rows), taps(width, columns));
        let scale = if self.peak > self.low { (self.peak - self.low).recip() } else { 0.0 };
        let mut pixels = Vec::with_capacity(width * height);
        for &(top, bottom, low) in &down {
            for &(left, right, far) in &across {
                let row = |row: usize| values[row * columns + left] * (1.0 - far) + values[row * columns + right] * far;
                let heat = (row(top) * (1.0 - low) + row(bottom) * low - self.low) * scale;
                let [r, g, b] = colour(heat);
                let alpha = COLDEST_ALPHA + (1.0 - COLDEST_ALPHA) * heat.clamp(0.0, 1.0);
                pixels.push([r, g, b, (alpha * 255.0).round() as u8]);
            }
        }
        pixels
    }

    /// One picture for each latent frame: the middle one of its frames of the clip, under heat of this opacity (0 to 1).
    pub fn over(&self, clip: &Frames, opacity: f32) -> Frames {
        let shown = |latent: usize| middle_frame(latent).min(clip.count().saturating_sub(1));
        let rgb = (0..self.grid[0]).flat_map(|latent| {
            let heat = self.picture(latent, clip.width, clip.height);
            let pixels = clip.frame(shown(latent)).chunks_exact(3).zip(heat);
            let blended = pixels.flat_map(|(pixel, heat)| {
                let share = f32::from(heat[3]) / 255.0 * opacity;
                [0, 1, 2].map(|c| (f32::from(pixel[c]) * (1.0 - share) + f32::from(heat[c]) * share).round() as u8)
            });
            blended.collect::<Vec<u8>>()
        });
        Frames { rgb: rgb.collect(), ..*clip }
    }
}

/// The frame of the clip that stands for a latent frame.
pub fn middle_frame(latent: usize) -> usize {
    let frames = frames_of_latent(latent);
    (frames.start + frames.end) / 2
}

/// For each of `full` pixels the two of `small` values between which it lies, and how far it is to the second.
fn taps(full: usize, small: usize) -> Vec<(usize, usize, f32)> {
    let tap = |pixel: usize| {
        let position = ((pixel as f32 + 0.5) * small as f32 / full as f32 - 0.5).clamp(0.0, (small - 1) as f32);
        let low = position as usize;
        (low, (low + 1).min(small - 1), position - low as f32)
    };
    (0..full).map(tap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_their_colour_and_blend_into_their_neighbours() {
        let maps = HeatMaps::new([2, 1, 2], vec![0.0, 0.2, 0.4, 0.1]);
        assert_eq!(maps.peak, 0.4);
        assert_eq!(maps.at(TokenPlace { frame: 1, y: 0, x: 1 }), Some(0.1));
        assert_eq!(maps.at(TokenPlace { frame: 2, y: 0, x: 0 }), None);
        // At three pixels a token, the middle one of each has its value, and the edge lies halfway.
        let first = maps.picture(0, 6, 3);
        let of = |heat: f32| colour(heat);
        let rgb = |pixel: [u8; 4]| [pixel[0], pixel[1], pixel[2]];
        assert_eq!(rgb(first[6 + 1]), of(0.0));
        assert_eq!(rgb(first[6 + 4]), of(0.5));
        assert_eq!(rgb(first[6 + 2]), of(0.5 / 3.0));
        assert_eq!((rgb(first[6]), rgb(first[6 + 5])), (of(0.0), of(0.5)), "the edges go on as they are");
        assert_eq!(maps.picture(1, 2, 1)[0], [252, 255, 164, 255]);
        assert!(first[7][3] < first[10][3], "cold is less opaque");
        assert_eq!(HeatMaps::new([1, 1, 1], vec![0.0]).picture(0, 1, 1)[0][..3], [0, 0, 4]);
        let spread = HeatMaps::spread([1, 1, 3], vec![0.05, 0.06, 0.07]);
        assert_eq!((spread.low, spread.peak), (0.05, 0.07));
        let row = spread.picture(0, 3, 1);
        assert_eq!((rgb(row[0]), rgb(row[2])), (of(0.0), of(1.0)));
        assert!(rgb(row[1]).iter().zip(of(0.5)).all(|(got, want)| got.abs_diff(want) <= 1));
    }

    #[test]
    fn heat_lies_over_the_middle_frame_of_each_latent_frame() {
        let rgb = (0..9u8).flat_map(|frame| [frame * 20; 3]).collect();
        let clip = Frames { width: 1, height: 1, frames_per_second: 24.0, rgb };
        let none = HeatMaps::new([3, 1, 1], vec![0.0, 1.0, 0.5]).over(&clip, 0.0);
        assert_eq!(none.rgb.chunks(3).map(|pixel| pixel[0]).collect::<Vec<_>>(), [0, 60, 140]);
        let hot = HeatMaps::new([3, 1, 1], vec![0.0, 1.0, 0.5]).over(&clip, 1.0);
        assert_eq!(hot.frame(1), [252, 255, 164]);
        assert_eq!([0, 1, 2].map(middle_frame), [0, 3, 7]);
    }
}
