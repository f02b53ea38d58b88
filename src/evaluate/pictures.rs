//! What a clip's pixels tell without a judge: sharpness, flicker, smoothness of motion.
//!
//! Flicker and smoothness are in the form of VBench (Huang et al. 2024): a mean absolute difference d of 8-bit pixels counts as
//! `(255 - d) / 255`, and higher is better. VBench guesses every second frame with a network for its smoothness; here the guess
//! is the mean of the two neighbours, so numbers compare within a table, and with those of the real clips in it, alone.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Of one clip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PictureNumbers {
    /// Variance of the Laplacian of the luma (Pech-Pacheco et al. 2000), mean over frames; higher is sharper.
    pub sharpness: f64,
    /// From the difference of neighbouring frames, 0 to 1; 1 is a still picture.
    pub temporal_flicker: f64,
    /// From the difference of every second frame to the mean of its neighbours, 0 to 1.
    pub motion_smoothness: f64,
}

/// The numbers of a clip `[frames, height, width, 3]` in 8 bits. Where there are too few frames or pixels for a number it is
/// that of a still, blank picture.
pub fn picture_numbers(rgb: &[u8], [height, width]: [usize; 2]) -> PictureNumbers {
    let frames: Vec<&[u8]> = rgb.chunks_exact((height * width * 3).max(1)).collect();
    let sharpness: Vec<f64> = frames.par_iter().map(|frame| laplacian_variance(frame, [height, width])).collect();
    // Whole numbers: their sums are exact in any order.
    let between: u64 =
        frames.par_windows(2).map(|pair| pair[0].iter().zip(pair[1]).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum::<u64>()).sum();
    let thirds: Vec<&[&[u8]]> = frames.windows(3).step_by(2).collect();
    let twice_from_neighbours = |three: &&[&[u8]]| -> u64 {
        let values = three[1].iter().zip(three[0].iter().zip(three[2]));
        values.map(|(&middle, (&before, &after))| (2 * u64::from(middle)).abs_diff(u64::from(before) + u64::from(after))).sum()
    };
    let from_neighbours: u64 = thirds.par_iter().map(twice_from_neighbours).sum();
    let values = (height * width * 3) as f64;
    let score = |sum: f64, frames: usize| 1.0 - sum / (values * frames as f64).max(1.0) / 255.0;
    PictureNumbers {
        sharpness: mean(sharpness.into_iter()),
        temporal_flicker: score(between as f64, frames.len().saturating_sub(1)),
        motion_smoothness: score(from_neighbours as f64 / 2.0, thirds.len()),
    }
}

fn laplacian_variance(frame: &[u8], [height, width]: [usize; 2]) -> f64 {
    // BT.601, as the usual grey of a picture.
    let luma: Vec<f64> = frame
        .chunks_exact(3)
        .map(|pixel| 0.299 * f64::from(pixel[0]) + 0.587 * f64::from(pixel[1]) + 0.114 * f64::from(pixel[2]))
        .collect();
    let mut values = Vec::with_capacity(luma.len());
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            let at = y * width + x;
            values.push(luma[at - 1] + luma[at + 1] + luma[at - width] + luma[at + width] - 4.0 * luma[at]);
        }
    }
    let centre = mean(values.iter().copied());
    mean(values.iter().map(|value| (value - centre).powi(2)))
}

/// 0 of nothing.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    sum / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: [usize; 2] = [6, 5];

    fn clip(frames: usize, of: impl Fn(usize, usize, usize) -> u8) -> Vec<u8> {
        let [height, width] = SIZE;
        let pixels = (0..frames * height * width).map(|at| of(at / (height * width), at / width % height, at % width));
        pixels.flat_map(|value| [value; 3]).collect()
    }

    #[test]
    fn a_blank_clip_is_still_and_not_sharp() {
        let got = picture_numbers(&clip(3, |_, _, _| 90), SIZE);
        assert!(got.sharpness < 1e-12 && got.temporal_flicker == 1.0 && got.motion_smoothness == 1.0, "{got:?}");
        assert_eq!(picture_numbers(&[], SIZE).temporal_flicker, 1.0);
    }

    /// Columns 0 and 200 in turn have a Laplacian of 400 and -400 everywhere.
    #[test]
    fn stripes_are_sharp() {
        let got = picture_numbers(&clip(1, |_, _, x| if x % 2 == 0 { 0 } else { 200 }), SIZE);
        // 3 inner columns by 4 rows: two of three have one sign.
        let values = [400.0f64, -400.0, 400.0];
        let centre = values.iter().sum::<f64>() / 3.0;
        let want = values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / 3.0;
        assert!((got.sharpness - want).abs() < 1e-6 * want, "{} {want}", got.sharpness);
    }

    #[test]
    fn even_brightening_flickers_but_is_smooth() {
        let even = picture_numbers(&clip(5, |frame, _, _| 10 * frame as u8), SIZE);
        assert!((even.temporal_flicker - 245.0 / 255.0).abs() < 1e-12 && even.motion_smoothness == 1.0, "{even:?}");
        let jumps = picture_numbers(&clip(5, |frame, _, _| if frame % 2 == 0 { 0 } else { 51 }), SIZE);
        assert!((jumps.temporal_flicker - 0.8).abs() < 1e-12 && (jumps.motion_smoothness - 0.8).abs() < 1e-12, "{jumps:?}");
    }
}
