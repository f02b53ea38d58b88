//! Cheap pictures of a latent: a linear projection from latent channels to RGB, one pixel a latent.
//!
//! It shows the estimate of the clean clip after every step without running the decoder. The projection is stored with the VAE
//! (`preview.json`), fitted by least squares; where a VAE has none, it is fitted to a little decoded noise.

use serde::{Deserialize, Serialize};

use super::GenerateError;
use super::networks::Networks;
use crate::clip::Frames;
use crate::model::latent::{ClipSize, FRAMES_A_LATENT, Latent, PIXELS_A_LATENT, PIXELS_A_TOKEN};
use crate::model::noise::fill_normal;

/// `rgb = weight latent + bias`, with latents as the transformer sees them and RGB in [-1, 1].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    /// One row each for red, green and blue; one entry a latent channel.
    weight: [Vec<f32>; 3],
    bias: [f32; 3],
    /// Where it comes from, for readers of the file.
    #[serde(default)]
    note: String,
}

impl Projection {
    /// # Errors
    /// What is wrong with the text.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let projection: Self = serde_json::from_str(text).map_err(|error| format!("preview.json: {error}"))?;
        let channels = projection.channels();
        let numbers = projection.weight.iter().flatten().chain(&projection.bias);
        if channels == 0 || projection.weight.iter().any(|row| row.len() != channels) || numbers.clone().any(|x| !x.is_finite()) {
            return Err("preview.json: it needs three rows of one finite weight a latent channel".into());
        }
        Ok(projection)
    }

    pub fn to_json(&self) -> String {
        // Plain numbers and a string: there is nothing that JSON could not hold.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    pub fn channels(&self) -> usize {
        self.weight[0].len()
    }

    /// The colours of all latents, 0 to 255, frame by frame.
    fn colours(&self, latent: &Latent) -> Vec<[f32; 3]> {
        let [channels, count, height, width] = latent.shape;
        let plane = count * height * width;
        let rgb_of = |at: usize| -> [f32; 3] {
            std::array::from_fn(|c| {
                let sum: f32 = (0..channels).map(|channel| self.weight[c][channel] * latent.values[channel * plane + at]).sum();
                ((sum + self.bias[c]) / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0
            })
        };
        (0..plane).map(rgb_of).collect()
    }

    /// All latent frames as a clip with one pixel a latent, at a quarter of the clip's rate, so that it lasts as long.
    pub fn small_frames(&self, latent: &Latent, frames_per_second: f64) -> Frames {
        let [_, _, height, width] = latent.shape;
        let rgb = self.colours(latent).into_iter().flat_map(|colour| colour.map(|value| value as u8)).collect();
        Frames { width, height, frames_per_second: frames_per_second / FRAMES_A_LATENT as f64, rgb }
    }

    /// As [`Self::small_frames`], with every latent a block of 8 x 8 pixels that blends into its neighbours.
    pub fn frames(&self, latent: &Latent, frames_per_second: f64) -> Frames {
        let [_, count, height, width] = latent.shape;
        let small = self.colours(latent);
        let (full_height, full_width) = (height * PIXELS_A_LATENT, width * PIXELS_A_LATENT);
        let (rows, columns) = (taps(full_height, height), taps(full_width, width));
        let mut rgb = Vec::with_capacity(count * full_height * full_width * 3);
        for frame in small.chunks_exact(height * width) {
            for &(top, bottom, down) in &rows {
                for &(left, right, across) in &columns {
                    let corner = |y: usize, x: usize| frame[y * width + x];
                    let upper = mix(corner(top, left), corner(top, right), across);
                    let lower = mix(corner(bottom, left), corner(bottom, right), across);
                    rgb.extend(mix(upper, lower, down).map(|value| value as u8));
                }
            }
        }
        Frames { width: full_width, height: full_height, frames_per_second: frames_per_second / FRAMES_A_LATENT as f64, rgb }
    }

    /// Fits to pairs of latents and their decoded videos `[frames, height, width, 3]` around [-1, 1]; each latent is compared
    /// with the mean of the pixels and frames that it stands for.
    pub fn fit<'a>(pairs: impl Iterator<Item = (&'a Latent, &'a [f32])>, note: &str) -> Self {
        let mut normal: Vec<Vec<f64>> = Vec::new();
        let mut right: [Vec<f64>; 3] = Default::default();
        for (latent, video) in pairs {
            let [channels, count, height, width] = latent.shape;
            let size = channels + 1; // and the bias
            normal.resize(size, vec![0.0; size]);
            right.iter_mut().for_each(|row| row.resize(size, 0.0));
            for at in 0..count * height * width {
                let mut row: Vec<f64> =
                    (0..channels).map(|c| f64::from(latent.values[c * count * height * width + at])).collect();
                row.push(1.0);
                let target = mean_rgb(video, [height, width], at);
                for i in 0..size {
                    for j in 0..size {
                        normal[i][j] += row[i] * row[j];
                    }
                    for c in 0..3 {
                        right[c][i] += row[i] * target[c];
                    }
                }
            }
        }
        let solved = right.map(|right| solve(normal.clone(), right));
        Self {
            weight: std::array::from_fn(|c| solved[c].iter().rev().skip(1).rev().map(|&x| x as f32).collect()),
            bias: std::array::from_fn(|c| solved[c].last().copied().unwrap_or(0.0) as f32),
            note: note.to_owned(),
        }
    }

    /// Fits to one decoded frame of noise: rough, but with no clip at hand.
    pub(super) fn fit_to_noise(networks: &Networks) -> Result<Self, GenerateError> {
        const SIDE: usize = 16 * PIXELS_A_TOKEN;
        let size = ClipSize { frames: 1, width: SIDE, height: SIDE };
        let shape = size.latent_shape(networks.channels);
        let mut values = vec![0.0; shape.iter().product()];
        fill_normal(0, 0, &mut values);
        let latent = Latent { shape, values };
        let video = networks.decode_values(&latent, size, &|| false)?;
        Ok(Self::fit(std::iter::once((&latent, video.as_slice())), "fitted to one decoded frame of noise"))
    }
}

/// Mean colour of the pixels behind a latent: 8 x 8 of the first frame, or of the four frames of a later latent frame.
fn mean_rgb(video: &[f32], [height, width]: [usize; 2], at: usize) -> [f64; 3] {
    let (frame, y, x) = (at / (height * width), at / width % height, at % width);
    let frames = if frame == 0 { 0..1 } else { FRAMES_A_LATENT * frame - 3..FRAMES_A_LATENT * frame + 1 };
    let row_pixels = width * PIXELS_A_LATENT;
    let (mut sum, mut count) = ([0.0; 3], 0.0);
    for frame in frames {
        for row in y * PIXELS_A_LATENT..(y + 1) * PIXELS_A_LATENT {
            for column in x * PIXELS_A_LATENT..(x + 1) * PIXELS_A_LATENT {
                let pixel = ((frame * height * PIXELS_A_LATENT + row) * row_pixels + column) * 3;
                for (channel, sum) in sum.iter_mut().enumerate() {
                    *sum += f64::from(video[pixel + channel]);
                }
                count += 1.0;
            }
        }
    }
    sum.map(|sum| sum / count)
}

fn mix(a: [f32; 3], b: [f32; 3], share: f32) -> [f32; 3] {
    std::array::from_fn(|channel| a[channel] * (1.0 - share) + b[channel] * share)
}

/// For each of `full` pixels the two of `small` between which it lies, and how far it is to the second.
fn taps(full: usize, small: usize) -> Vec<(usize, usize, f32)> {
    let tap = |pixel: usize| {
        let position = ((pixel as f32 + 0.5) * small as f32 / full as f32 - 0.5).clamp(0.0, (small - 1) as f32);
        let low = position as usize;
        (low, (low + 1).min(small - 1), position - low as f32)
    };
    (0..full).map(tap).collect()
}

/// Solves `matrix x = right` by elimination with pivoting; a direction that the data does not fix stays 0.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for column in 0..size {
        let pivot = (column..size).max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs())).unwrap_or(column);
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        if matrix[column][column].abs() < 1e-9 {
            continue;
        }
        for row in 0..size {
            if row != column {
                let factor = matrix[row][column] / matrix[column][column];
                let above = matrix[column].clone();
                for (value, above) in matrix[row].iter_mut().zip(&above).skip(column) {
                    *value -= factor * above;
                }
                right[row] -= factor * right[column];
            }
        }
    }
    (0..size).map(|i| if matrix[i][i].abs() < 1e-9 { 0.0 } else { right[i] / matrix[i][i] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_decoder_is_found_again() {
        let size = ClipSize { frames: 5, width: 32, height: 16 };
        let shape = size.latent_shape(2);
        let mut values = vec![0.0; shape.iter().product()];
        fill_normal(7, 0, &mut values);
        let latent = Latent { shape, values };
        let [_, count, height, width] = shape;
        // red = 0.5 a - 0.2 b + 0.1, green = b, blue = -0.3, constant over each latent's pixels.
        let mut video = vec![0.0; size.frames * size.height * size.width * 3];
        for frame in 0..size.frames {
            for y in 0..size.height {
                for x in 0..size.width {
                    let at = (frame.div_ceil(FRAMES_A_LATENT) * height + y / PIXELS_A_LATENT) * width + x / PIXELS_A_LATENT;
                    let (a, b) = (latent.values[at], latent.values[count * height * width + at]);
                    let pixel = ((frame * size.height + y) * size.width + x) * 3;
                    video[pixel..pixel + 3].copy_from_slice(&[0.5 * a - 0.2 * b + 0.1, b, -0.3]);
                }
            }
        }
        let projection = Projection::fit(std::iter::once((&latent, video.as_slice())), "");
        let want = [[0.5, -0.2, 0.1], [0.0, 1.0, 0.0], [0.0, 0.0, -0.3]];
        for (c, row) in want.iter().enumerate() {
            let got = [projection.weight[c][0], projection.weight[c][1], projection.bias[c]];
            assert!(got.iter().zip(row).all(|(g, w): (&f32, &f32)| (g - w).abs() < 1e-5), "{got:?} {row:?}");
        }
        assert_eq!(Projection::from_json(&projection.to_json()), Ok(projection.clone()));
        let frames = projection.frames(&latent, 24.0);
        assert_eq!((frames.count(), frames.width, frames.height), (2, 32, 16));
        assert_eq!(frames.rgb[2], ((-0.3f32 / 2.0 + 0.5) * 255.0) as u8);
    }
}
