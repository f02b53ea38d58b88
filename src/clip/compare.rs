//! Two clips frame by frame: peak signal-to-noise ratio, structural similarity, and the picture of their difference.
//!
//! Both measures are those of ffmpeg's filters `psnr` and `ssim` on planar RGB, so that figures can be compared with what
//! others publish.

use rayon::prelude::*;

use super::{ClipError, Frames};

/// How alike two clips are.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Of every frame that both have, in decibels over all three channels; infinite where they are equal.
    pub psnr: Vec<f64>,
    /// Of every frame, the mean of the three channels: 1 where they are equal, around 0 where they have nothing in common. None
    /// for frames smaller than one window.
    pub ssim: Option<Vec<f64>>,
    /// From the mean squared error of all frames, as ffmpeg's `average`.
    pub mean_psnr: f64,
    pub mean_ssim: Option<f64>,
}

impl Comparison {
    /// Compares the frames that both have.
    ///
    /// # Errors
    /// [`ClipError::InvalidFrames`] for clips of different sizes, or without frames.
    pub fn of(a: &Frames, b: &Frames) -> Result<Self, ClipError> {
        a.check()?;
        b.check()?;
        if (a.width, a.height) != (b.width, b.height) {
            let why = format!(
                "only clips of one size can be compared pixel by pixel, and these are {}x{} and {}x{}",
                a.width, a.height, b.width, b.height
            );
            return Err(ClipError::InvalidFrames { why });
        }
        let errors = a.mean_squared_errors(b);
        let mean_error = errors.iter().sum::<f64>() / errors.len() as f64;
        let frames: Vec<_> = a.iter().zip(b.iter()).collect();
        let (width, height) = (a.width, a.height);
        let ssim: Option<Vec<f64>> = frames.par_iter().map(|(a, b)| ssim(a, b, width, height)).collect();
        let mean_ssim = ssim.as_ref().map(|ssim| ssim.iter().sum::<f64>() / ssim.len() as f64);
        Ok(Self { psnr: a.psnr(b), ssim, mean_psnr: decibels(mean_error), mean_ssim })
    }

    pub fn frames(&self) -> usize {
        self.psnr.len()
    }
}

/// PSNR for a mean squared error of 8-bit values.
pub(super) fn decibels(mean_squared_error: f64) -> f64 {
    10.0 * (255.0 * 255.0 / mean_squared_error).log10()
}

/// The difference of two frames of one size: |a - b| times `gain`, cut at white.
pub fn difference(a: &[u8], b: &[u8], gain: f32) -> Vec<u8> {
    a.iter().zip(b).map(|(&a, &b)| (f32::from(a.abs_diff(b)) * gain).min(255.0) as u8).collect()
}

/// The side of the blocks whose sums are shared by the windows over them; a window is 2 x 2 blocks.
const BLOCK: usize = 4;
/// Pixels of a window.
const WINDOW: i64 = 64;
/// (0.01 * 255)^2 / 64 and (0.03 * 255)^2 for sums over a window, rounded; the paper has no 64, ffmpeg does.
const C1: i64 = 416; // 0.01^2 * 255^2 * 64 + 0.5
const C2: i64 = 235_963; // 0.03^2 * 255^2 * 64 * 63 + 0.5

/// Mean over the channels of the mean over all windows of 8 x 8 pixels at every fourth row and column.
fn ssim(a: &[u8], b: &[u8], width: usize, height: usize) -> Option<f64> {
    let (columns, rows) = (width / BLOCK, height / BLOCK);
    if columns < 2 || rows < 2 {
        return None;
    }
    let mut sum = 0.0;
    for channel in 0..3 {
        let row_of_blocks = |row: usize| -> Vec<Sums> {
            (0..columns).map(|column| Sums::of_block(a, b, (row * BLOCK * width + column * BLOCK) * 3 + channel, width)).collect()
        };
        let mut above = row_of_blocks(0);
        for row in 1..rows {
            let below = row_of_blocks(row);
            for (above, below) in above.windows(2).zip(below.windows(2)) {
                sum += (above[0] + above[1] + below[0] + below[1]).index();
            }
            above = below;
        }
    }
    Some(sum / (3 * (columns - 1) * (rows - 1)) as f64)
}

/// Sums over pixels of both pictures.
#[derive(Clone, Copy, Default)]
struct Sums {
    a: i64,
    b: i64,
    squares: i64,
    products: i64,
}

impl Sums {
    /// Over the block whose first value is at `start` of interleaved RGB.
    fn of_block(a: &[u8], b: &[u8], start: usize, width: usize) -> Self {
        let mut sums = Self::default();
        for row in 0..BLOCK {
            for column in 0..BLOCK {
                let at = start + (row * width + column) * 3;
                let (a, b) = (i64::from(a[at]), i64::from(b[at]));
                sums = sums + Self { a, b, squares: a * a + b * b, products: a * b };
            }
        }
        sums
    }

    /// The structural similarity index of a window.
    fn index(self) -> f64 {
        let Self { a, b, squares, products } = self;
        let variances = squares * WINDOW - a * a - b * b;
        let covariance = products * WINDOW - a * b;
        let above = (2 * a * b + C1) as f64 * (2 * covariance + C2) as f64;
        above / ((a * a + b * b + C1) as f64 * (variances + C2) as f64)
    }
}

impl std::ops::Add for Sums {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            a: self.a + other.a,
            b: self.b + other.b,
            squares: self.squares + other.squares,
            products: self.products + other.products,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(width: usize, height: usize, value: impl Fn(usize) -> u8) -> Frames {
        let rgb = (0..width * height * 3).map(value).collect();
        Frames { width, height, frames_per_second: 24.0, rgb }
    }

    #[test]
    fn constants_are_those_of_the_definition() {
        assert_eq!((0.01f64 * 0.01 * 255.0 * 255.0 * 64.0 + 0.5) as i64, C1);
        assert_eq!((0.03f64 * 0.03 * 255.0 * 255.0 * 64.0 * 63.0 + 0.5) as i64, C2);
    }

    /// The definition over each window, in f64 and without shared sums.
    #[test]
    fn similarity_is_that_of_the_definition() {
        let (width, height) = (21, 14);
        let a = frames(width, height, |i| (i * 37 % 251) as u8);
        let b = frames(width, height, |i| (i * 37 % 251) as u8 / 2 + (i % 13) as u8);
        let mut all = Vec::new();
        for channel in 0..3 {
            for top in (0..=height - 8).step_by(4) {
                for left in (0..=width - 8).step_by(4) {
                    let window = |frames: &Frames| -> Vec<f64> {
                        let pixel = |i: usize| ((top + i / 8) * width + left + i % 8) * 3 + channel;
                        (0..64).map(|i| f64::from(frames.rgb[pixel(i)])).collect()
                    };
                    let (a, b) = (window(&a), window(&b));
                    let mean = |x: &[f64]| x.iter().sum::<f64>() / 64.0;
                    let (mean_a, mean_b) = (mean(&a), mean(&b));
                    let cross = |x: &[f64], y: &[f64], of: [f64; 2]| {
                        x.iter().zip(y).map(|(x, y)| (x - of[0]) * (y - of[1])).sum::<f64>() / 63.0
                    };
                    let (c1, c2) = ((0.01f64 * 255.0).powi(2) / 64.0, (0.03f64 * 255.0).powi(2));
                    let variances = cross(&a, &a, [mean_a; 2]) + cross(&b, &b, [mean_b; 2]);
                    let covariance = cross(&a, &b, [mean_a, mean_b]);
                    all.push(
                        (2.0 * mean_a * mean_b + c1) * (2.0 * covariance + c2)
                            / ((mean_a.powi(2) + mean_b.powi(2) + c1) * (variances + c2)),
                    );
                }
            }
        }
        let want = all.iter().sum::<f64>() / all.len() as f64;
        let got = Comparison::of(&a, &b).unwrap();
        let got = got.ssim.unwrap()[0];
        // ffmpeg keeps its constants as whole numbers, and its first is a 64th of the paper's.
        assert!((got - want).abs() < 1e-5 && want < 0.9, "{got} instead of {want}");
    }

    #[test]
    fn equal_frames_are_equal_and_others_are_refused() {
        let a = frames(16, 16, |i| i as u8);
        let same = Comparison::of(&a, &a).unwrap();
        assert_eq!((same.psnr[0], same.mean_psnr), (f64::INFINITY, f64::INFINITY));
        assert_eq!((same.ssim, same.mean_ssim), (Some(vec![1.0]), Some(1.0)));
        assert!(Comparison::of(&a, &frames(16, 8, |_| 0)).is_err());
        assert!(Comparison::of(&a, &frames(16, 16, |_| 0)).unwrap().mean_psnr < 20.0);
        assert_eq!(Comparison::of(&frames(7, 9, |_| 0), &frames(7, 9, |_| 1)).unwrap().ssim, None);
        assert_eq!(difference(&[10, 200, 5], &[12, 100, 5], 4.0), [8, 255, 0]);
    }

    #[test]
    fn the_mean_is_that_of_the_errors() {
        let two = |second: u8| Frames {
            width: 8,
            height: 8,
            frames_per_second: 24.0,
            rgb: [vec![10; 192], vec![second; 192]].concat(),
        };
        let comparison = Comparison::of(&two(10), &two(14)).unwrap();
        assert_eq!(comparison.frames(), 2);
        assert_eq!(comparison.psnr[0], f64::INFINITY);
        // A mean squared error of (0 + 16) / 2.
        assert!((comparison.mean_psnr - 39.0999).abs() < 1e-3, "{}", comparison.mean_psnr);
    }
}
