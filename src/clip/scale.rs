//! Frames made a whole number of times larger.
//!
//! Smooth scaling interpolates with Lanczos windows of three lobes, rows and columns one after the other, on the stored sRGB
//! values as video players do; at the edge the outermost pixel goes on for ever.

use serde::{Deserialize, Serialize};

/// How the new pixels come about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScaleFilter {
    /// Lanczos with three lobes: soft edges stay soft and fine lines stay fine.
    #[default]
    Smooth,
    /// Every pixel becomes a square.
    Pixels,
}

const LOBES: usize = 3;
const TAPS: usize = 2 * LOBES;

/// What one new position takes: where the taps start, counted from [`LOBES`] before the old position, and their weights.
#[derive(Clone, Copy)]
struct Phase {
    start: usize,
    weights: [f32; TAPS],
}

/// Makes frames of one size `factor` times as wide and high.
pub(super) struct Scaler {
    width: usize,
    height: usize,
    factor: usize,
    filter: ScaleFilter,
    phases: Vec<Phase>,
    /// All rows of a frame at their new width.
    wide: Vec<f32>,
}

impl Scaler {
    pub(super) fn new((width, height): (usize, usize), factor: usize, filter: ScaleFilter) -> Self {
        Scaler {
            width,
            height,
            factor,
            filter,
            phases: (0..factor).map(|phase| phase_at(phase, factor)).collect(),
            wide: Vec::new(),
        }
    }

    /// Appends the scaled frame.
    pub(super) fn append(&mut self, frame: &[u8], rgb: &mut Vec<u8>) {
        match self.filter {
            _ if self.factor == 1 => rgb.extend_from_slice(frame),
            ScaleFilter::Smooth => self.append_smooth(frame, rgb),
            ScaleFilter::Pixels => {
                for row in frame.chunks_exact(self.width * 3) {
                    let start = rgb.len();
                    for pixel in row.as_chunks::<3>().0 {
                        rgb.extend(std::iter::repeat_n(pixel, self.factor).flatten());
                    }
                    let end = rgb.len();
                    for _ in 1..self.factor {
                        rgb.extend_from_within(start..end);
                    }
                }
            }
        }
    }

    fn append_smooth(&mut self, frame: &[u8], rgb: &mut Vec<u8>) {
        self.wide.clear();
        let mut padded = Vec::with_capacity(self.width + 2 * LOBES);
        for row in frame.chunks_exact(self.width * 3) {
            let pixels = row.as_chunks::<3>().0;
            padded.clear();
            padded.extend((0..self.width + 2 * LOBES).map(|at| {
                let column = at.saturating_sub(LOBES).min(self.width - 1);
                pixels[column].map(f32::from)
            }));
            for column in 0..self.width {
                for phase in &self.phases {
                    let taps = &padded[column + phase.start..][..TAPS];
                    let mut sum = [0.0; 3];
                    for (tap, weight) in taps.iter().zip(phase.weights) {
                        for channel in 0..3 {
                            sum[channel] += tap[channel] * weight;
                        }
                    }
                    self.wide.extend(sum);
                }
            }
        }
        let row_values = self.width * self.factor * 3;
        let mut sums = vec![0.0f32; row_values];
        for row in 0..self.height {
            for phase in &self.phases {
                sums.fill(0.0);
                for (tap, weight) in phase.weights.into_iter().enumerate() {
                    let source = (row + phase.start + tap).saturating_sub(LOBES).min(self.height - 1);
                    let values = &self.wide[source * row_values..][..row_values];
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += value * weight;
                    }
                }
                // The cast stops at 0 and 255, where the lobes reach beyond.
                rgb.extend(sums.iter().map(|sum| (sum + 0.5) as u8));
            }
        }
    }
}

/// The taps of the new pixel `phase` of the `factor` that an old one becomes. Pixels are areas: new centres lie evenly around
/// the old one.
fn phase_at(phase: usize, factor: usize) -> Phase {
    let centre = (phase as f64 + 0.5) / factor as f64 - 0.5;
    let first = centre.floor() as isize - (LOBES as isize - 1);
    let weights: [f64; TAPS] = std::array::from_fn(|tap| lanczos(centre - (first + tap as isize) as f64));
    let sum: f64 = weights.iter().sum();
    Phase { start: (first + LOBES as isize) as usize, weights: weights.map(|weight| (weight / sum) as f32) }
}

fn lanczos(distance: f64) -> f64 {
    let sinc = |x: f64| {
        let x = std::f64::consts::PI * x;
        if x == 0.0 { 1.0 } else { x.sin() / x }
    };
    let lobes = LOBES as f64;
    if distance.abs() < lobes { sinc(distance) * sinc(distance / lobes) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 9u32;
        let next = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            // A third of the values at the ends of the range, where clamping counts.
            match state % 3 {
                0 => [0, 255][(state >> 8) as usize % 2],
                _ => (state >> 16) as u8,
            }
        });
        next.take(bytes).collect()
    }

    fn scaled(frame: &[u8], sides: (usize, usize), factor: usize, filter: ScaleFilter) -> Vec<u8> {
        let mut rgb = Vec::new();
        Scaler::new(sides, factor, filter).append(frame, &mut rgb);
        rgb
    }

    /// One new value by the definition: the sum over a plane that goes on for ever, both directions at once, in f64.
    fn by_definition(
        frame: &[u8],
        (width, height): (usize, usize),
        factor: usize,
        (x, y): (usize, usize),
        channel: usize,
    ) -> f64 {
        let window = |t: f64| match t.abs() {
            0.0 => 1.0,
            d if d >= 3.0 => 0.0,
            d => {
                let p = std::f64::consts::PI * d;
                3.0 * p.sin() * (p / 3.0).sin() / (p * p)
            }
        };
        let at = |position: usize| (position as f64 + 0.5) / factor as f64 - 0.5;
        let (mut sum, mut total) = (0.0, 0.0);
        for row in -6..height as isize + 6 {
            for column in -6..width as isize + 6 {
                let weight = window(at(x) - column as f64) * window(at(y) - row as f64);
                let inside = |value: isize, size: usize| value.clamp(0, size as isize - 1) as usize;
                let pixel = inside(row, height) * width + inside(column, width);
                sum += weight * f64::from(frame[pixel * 3 + channel]);
                total += weight;
            }
        }
        (sum / total).clamp(0.0, 255.0)
    }

    #[test]
    fn smooth_scaling_is_the_lanczos_sum() {
        for sides in [(7, 5), (1, 1), (2, 9), (16, 1)] {
            let frame = noise(sides.0 * sides.1 * 3);
            for factor in 2..=4 {
                let got = scaled(&frame, sides, factor, ScaleFilter::Smooth);
                let (width, height) = (sides.0 * factor, sides.1 * factor);
                assert_eq!(got.len(), width * height * 3);
                for (index, &value) in got.iter().enumerate() {
                    let (pixel, channel) = (index / 3, index % 3);
                    let want = by_definition(&frame, sides, factor, (pixel % width, pixel / width), channel);
                    // Half a unit of rounding, and what f32 loses.
                    assert!((f64::from(value) - want).abs() < 0.5005, "{sides:?} x{factor} at {index}: {value} for {want}");
                }
            }
        }
    }

    #[test]
    fn a_flat_frame_stays_flat_and_once_is_the_same() {
        let flat = [3, 200, 255].repeat(12);
        for filter in [ScaleFilter::Smooth, ScaleFilter::Pixels] {
            assert_eq!(scaled(&flat, (4, 3), 3, filter), [3, 200, 255].repeat(108));
            let frame = noise(36);
            assert_eq!(scaled(&frame, (4, 3), 1, filter), frame);
        }
    }

    #[test]
    fn pixels_become_squares() {
        let frame = noise(5 * 4 * 3);
        let got = scaled(&frame, (5, 4), 3, ScaleFilter::Pixels);
        for (index, &value) in got.iter().enumerate() {
            let (pixel, channel) = (index / 3, index % 3);
            let (column, row) = (pixel % 15, pixel / 15);
            assert_eq!(value, frame[(row / 3 * 5 + column / 3) * 3 + channel]);
        }
    }
}
