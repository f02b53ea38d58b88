//! Group normalisation on channels-last video.
//!
//! [`group_norm`] reads a clip once and returns what is left to do as a scale and a shift per channel; a convolution
//! applies them while it reads its input, and [`apply`] does where no convolution follows. Sums are f64 over fixed blocks
//! of pixels in a fixed order, so the result depends neither on the threads nor on the instruction set.

use rayon::prelude::*;

use super::lanes::{InstructionSet, Kernel, Lanes, MAX_WIDTH};

/// Sizes of a clip `[batch, frames, pixels, channels]`, whose statistics are taken over groups of neighbouring channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupNormShape {
    pub batch: usize,
    pub frames: usize,
    /// Of one frame.
    pub pixels: usize,
    pub channels: usize,
    /// 32 in the published model; divides the channels.
    pub groups: usize,
}

/// Over what the statistics are taken, besides the pixels of a frame and the channels of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// All frames of a clip.
    Clip,
    /// Every frame for itself.
    Frame,
}

/// Why a normalisation cannot be done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupNormError {
    #[error("A normalisation with {what} 0 does not exist; every size must be at least 1.")]
    Empty { what: &'static str },
    #[error("{channels} channels cannot be divided into {groups} groups; the number of channels must be a multiple.")]
    UnevenGroups { channels: usize, groups: usize },
    #[error("The {what} has {found} values where the normalisation needs {expected}; check its shape.")]
    WrongLength { what: &'static str, found: usize, expected: usize },
    #[error("The normalisation has {found} groups of frames for {frames} frames; it needs 1 or one per frame.")]
    WrongFrameGroups { found: usize, frames: usize },
}

/// A scale and a shift per channel, then optionally SiLU: what is left of a group normalisation once its statistics are
/// known.
#[derive(Clone, Copy, Debug)]
pub struct ChannelAffine<'a> {
    /// `[batch, frame_groups, 2, channels]`: the scales, then the shifts.
    pub values: &'a [f32],
    /// 1, or the number of frames if every frame has its own statistics.
    pub frame_groups: usize,
    pub silu: bool,
}

impl<'a> ChannelAffine<'a> {
    /// Scales and shifts of one frame.
    #[inline(always)]
    pub(super) fn of(&self, batch: usize, frame: usize, channels: usize) -> (&'a [f32], &'a [f32]) {
        let group = if self.frame_groups == 1 { 0 } else { frame };
        let at = (batch * self.frame_groups + group) * 2 * channels;
        self.values[at..at + 2 * channels].split_at(channels)
    }
}

impl GroupNormShape {
    fn check(&self, lengths: &[(&'static str, usize, usize)]) -> Result<(), GroupNormError> {
        let sizes = [
            ("batch", self.batch),
            ("frames", self.frames),
            ("pixels", self.pixels),
            ("channels", self.channels),
            ("groups", self.groups),
        ];
        if let Some((what, _)) = sizes.into_iter().find(|&(_, size)| size == 0) {
            return Err(GroupNormError::Empty { what });
        }
        if !self.channels.is_multiple_of(self.groups) {
            return Err(GroupNormError::UnevenGroups { channels: self.channels, groups: self.groups });
        }
        match lengths.iter().find(|(_, found, expected)| found != expected) {
            Some(&(what, found, expected)) => Err(GroupNormError::WrongLength { what, found, expected }),
            None => Ok(()),
        }
    }

    /// Values of the clip.
    pub fn len(&self) -> usize {
        self.batch * self.frames * self.pixels * self.channels
    }

    /// True if any size is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Pixels that are summed at once. It orders the sums, so it must not depend on the machine.
const BLOCK_PIXELS: usize = 1024;

/// The scale and shift of every channel, `[batch, 1 or frames, 2, channels]`, with which
/// `input * scale + shift = (input - mean) / sqrt(variance + epsilon) * weight + bias`.
///
/// # Errors
/// A size is 0, the groups do not divide the channels, or a length does not fit.
pub fn group_norm(
    set: InstructionSet,
    shape: &GroupNormShape,
    statistics: Statistics,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    epsilon: f64,
) -> Result<Vec<f32>, GroupNormError> {
    let &GroupNormShape { frames, pixels, channels, groups, .. } = shape;
    shape.check(&[("input", input.len(), shape.len()), ("weight", weight.len(), channels), ("bias", bias.len(), channels)])?;
    let region_pixels = match statistics {
        Statistics::Clip => frames * pixels,
        Statistics::Frame => pixels,
    };
    let affines = input.par_chunks(region_pixels * channels).flat_map_iter(|region| {
        let blocks: Vec<Sums> =
            region.par_chunks(BLOCK_PIXELS * channels).map(|values| set.run(SumBlock { values, channels })).collect();
        let mut scales_and_shifts = vec![0.0f32; 2 * channels];
        let size = channels / groups;
        for group in 0..groups {
            let range = group * size..(group + 1) * size;
            let [mut sum, mut squares] = [0.0f64; 2];
            for block in &blocks {
                sum += block.values[range.clone()].iter().sum::<f64>();
                squares += block.squares[range.clone()].iter().sum::<f64>();
            }
            let count = (region_pixels * size) as f64;
            let mean = sum / count;
            let variance = (squares / count - mean * mean).max(0.0);
            for channel in range {
                let scale = f64::from(weight[channel]) / (variance + epsilon).sqrt();
                scales_and_shifts[channel] = scale as f32;
                scales_and_shifts[channels + channel] = (f64::from(bias[channel]) - mean * scale) as f32;
            }
        }
        scales_and_shifts
    });
    Ok(affines.collect())
}

/// Sums per channel over a block of pixels.
struct Sums {
    values: Vec<f64>,
    squares: Vec<f64>,
}

struct SumBlock<'a> {
    values: &'a [f32],
    channels: usize,
}

impl Kernel for SumBlock<'_> {
    type Output = Sums;

    #[inline(always)]
    fn run<L: Lanes>(self) -> Sums {
        let mut sums = Sums { values: vec![0.0; self.channels], squares: vec![0.0; self.channels] };
        for pixel in self.values.chunks_exact(self.channels) {
            for ((&value, sum), squares) in pixel.iter().zip(&mut sums.values).zip(&mut sums.squares) {
                let value = f64::from(value);
                *sum += value;
                // The square of an f32 is exact in f64, so it does not matter whether this is fused.
                *squares += value * value;
            }
        }
        sums
    }
}

/// `out = input * scale + shift`, then SiLU where asked for: the normalisation as a pass of its own.
///
/// # Errors
/// A size is 0 or a length does not fit; `out` is not touched then.
pub fn apply(
    set: InstructionSet,
    shape: &GroupNormShape,
    input: &[f32],
    affine: &ChannelAffine,
    out: &mut [f32],
) -> Result<(), GroupNormError> {
    let &GroupNormShape { batch, frames, pixels, channels, .. } = shape;
    if affine.frame_groups != 1 && affine.frame_groups != frames {
        return Err(GroupNormError::WrongFrameGroups { found: affine.frame_groups, frames });
    }
    shape.check(&[
        ("input", input.len(), shape.len()),
        ("output", out.len(), shape.len()),
        ("normalisation", affine.values.len(), batch * affine.frame_groups * 2 * channels),
    ])?;
    let frame_len = pixels * channels;
    let block_len = BLOCK_PIXELS * channels;
    out.par_chunks_mut(frame_len).zip(input.par_chunks(frame_len)).enumerate().for_each(|(frame, (out, input))| {
        let (scale, shift) = affine.of(frame / frames, frame % frames, channels);
        out.par_chunks_mut(block_len).zip(input.par_chunks(block_len)).for_each(|(out, input)| {
            set.run(ApplyBlock { input, scale, shift, silu: affine.silu, out });
        });
    });
    Ok(())
}

struct ApplyBlock<'a, 'out> {
    input: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    silu: bool,
    out: &'out mut [f32],
}

impl Kernel for ApplyBlock<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let channels = self.scale.len();
        for (to, from) in self.out.chunks_exact_mut(channels).zip(self.input.chunks_exact(channels)) {
            affine_pixel::<L>(from, self.scale, self.shift, self.silu, to);
        }
    }
}

/// `to = from * scale + shift`, then SiLU where asked for, for the channels of one pixel.
#[inline(always)]
pub(super) fn affine_pixel<L: Lanes>(from: &[f32], scale: &[f32], shift: &[f32], silu: bool, to: &mut [f32]) {
    let whole = to.len() / L::WIDTH * L::WIDTH;
    for at in (0..whole).step_by(L::WIDTH) {
        let range = at..at + L::WIDTH;
        affine_vector::<L>(&from[range.clone()], &scale[range.clone()], &shift[range.clone()], silu, &mut to[range]);
    }
    let rest = to.len() - whole;
    if rest > 0 {
        let [mut from_rest, mut scale_rest, mut shift_rest, mut result] = [[0.0f32; MAX_WIDTH]; 4];
        from_rest[..rest].copy_from_slice(&from[whole..]);
        scale_rest[..rest].copy_from_slice(&scale[whole..]);
        shift_rest[..rest].copy_from_slice(&shift[whole..]);
        affine_vector::<L>(&from_rest, &scale_rest, &shift_rest, silu, &mut result);
        to[whole..].copy_from_slice(&result[..rest]);
    }
}

#[inline(always)]
fn affine_vector<L: Lanes>(from: &[f32], scale: &[f32], shift: &[f32], silu: bool, to: &mut [f32]) {
    let value = L::load(from).mul_add(L::load(scale), L::load(shift));
    if silu { value.silu().store(to) } else { value.store(to) }
}

/// `[batch, 2, channels]` twice: scale and shift as [`group_norm`] gives them for whole clips, and what they are made of, the mean
/// and the inverse of the deviation of every channel's group.
///
/// # Errors
/// As [`group_norm`].
pub fn statistics(
    shape: &GroupNormShape,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    epsilon: f64,
) -> Result<(Vec<f32>, Vec<f32>), GroupNormError> {
    let channels = shape.channels;
    shape.check(&[("weight", weight.len(), channels), ("bias", bias.len(), channels)])?;
    let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
    // With neither weight nor bias the scale is the inverse deviation, and the shift the mean in its units.
    let mut moments = group_norm(InstructionSet::best(), shape, Statistics::Clip, input, &ones, &zeros, epsilon)?;
    let mut affine = Vec::with_capacity(moments.len());
    for clip in moments.chunks_exact_mut(2 * channels) {
        let (inverse, shift) = clip.split_at_mut(channels);
        affine.extend(inverse.iter().zip(weight).map(|(inverse, weight)| inverse * weight));
        let shifts = shift.iter().zip(weight.iter().zip(bias));
        affine.extend(shifts.map(|(shift, (weight, bias))| shift.mul_add(*weight, *bias)));
        shift.iter_mut().zip(&*inverse).for_each(|(shift, inverse)| *shift = -*shift / inverse);
        inverse.swap_with_slice(shift);
    }
    Ok((affine, moments))
}

/// What [`gradients`] reads besides the gradient of the output.
pub struct Normalised<'a> {
    pub input: &'a [f32],
    /// `[channels]`.
    pub weight: &'a [f32],
    pub affine: ChannelAffine<'a>,
    /// `[batch, mean or inverse deviation, channels]`.
    pub moments: &'a [f32],
}

/// The gradients of the input, the weight and the bias from that of the output; statistics are of whole clips.
///
/// For `y = xhat w + b` with `xhat = (x - mean) r`: `dx = r (dy w - mean(dy w) - xhat mean(dy w xhat))`, means over the group.
pub fn gradients(shape: &GroupNormShape, forward: &Normalised<'_>, gradient: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let &GroupNormShape { batch, frames, pixels, channels, groups } = shape;
    let (members, clip_pixels) = (channels / groups, frames * pixels);
    let mut back = vec![0.0f32; shape.len()];
    let (mut of_weight, mut of_bias) = (vec![0.0f64; channels], vec![0.0f64; channels]);
    for clip in 0..batch {
        let of_clip = clip * clip_pixels * channels..(clip + 1) * clip_pixels * channels;
        let (input, gradient) = (&forward.input[of_clip.clone()], &gradient[of_clip.clone()]);
        let (scale, shift) = forward.affine.of(clip, 0, channels);
        let (mean, inverse) = forward.moments[clip * 2 * channels..][..2 * channels].split_at(channels);
        // Behind SiLU, whose derivative is s (1 + z (1 - s)) with s = sigmoid(z).
        let behind = |at: usize, channel: usize| {
            if !forward.affine.silu {
                return gradient[at];
            }
            let z = input[at].mul_add(scale[channel], shift[channel]);
            let share = 1.0 / (1.0 + (-z).exp());
            gradient[at] * share * (1.0 + z * (1.0 - share))
        };
        let blocks: Vec<_> = (0..clip_pixels.div_ceil(BLOCK_PIXELS))
            .into_par_iter()
            .map(|block| {
                let mut sums = vec![[0.0f64; 2]; channels];
                for pixel in block * BLOCK_PIXELS..((block + 1) * BLOCK_PIXELS).min(clip_pixels) {
                    for (channel, [level, slope]) in sums.iter_mut().enumerate() {
                        let at = pixel * channels + channel;
                        let value = f64::from(behind(at, channel));
                        *level += value;
                        *slope += value * f64::from((input[at] - mean[channel]) * inverse[channel]);
                    }
                }
                sums
            })
            .collect();
        let sums: Vec<[f64; 2]> = (0..channels)
            .map(|channel| std::array::from_fn(|which| blocks.iter().map(|sums| sums[channel][which]).sum()))
            .collect();
        for (channel, [level, slope]) in sums.iter().enumerate() {
            of_weight[channel] += slope;
            of_bias[channel] += level;
        }
        let count = (members * clip_pixels) as f64;
        let owed: Vec<[f32; 2]> = (0..channels)
            .map(|channel| {
                let group = channel / members * members..(channel / members + 1) * members;
                std::array::from_fn(|which| {
                    let sum: f64 = group.clone().map(|member| sums[member][which] * f64::from(forward.weight[member])).sum();
                    (sum / count) as f32
                })
            })
            .collect();
        back[of_clip].par_chunks_mut(BLOCK_PIXELS * channels).enumerate().for_each(|(block, back)| {
            for (place, back) in back.iter_mut().enumerate() {
                let (at, channel) = (block * BLOCK_PIXELS * channels + place, place % channels);
                let normal = (input[at] - mean[channel]) * inverse[channel];
                let [level, slope] = owed[channel];
                *back = inverse[channel] * (behind(at, channel) * forward.weight[channel] - level - normal * slope);
            }
        });
    }
    let single = |sums: Vec<f64>| sums.into_iter().map(|sum| sum as f32).collect();
    (back, single(of_weight), single(of_bias))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, offset: f32) -> Vec<f32> {
        (0..count).map(|at| ((at * 7919 + at / 13) % 1009) as f32 / 500.0 - 1.0 + offset).collect()
    }

    /// Mean first, then deviations from it, in f64.
    fn two_passes(shape: &GroupNormShape, statistics: Statistics, input: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f64> {
        let &GroupNormShape { pixels, frames, channels, groups, .. } = shape;
        let region = if statistics == Statistics::Clip { frames * pixels } else { pixels } * channels;
        let mut out = vec![0.0; input.len()];
        for start in (0..input.len()).step_by(region) {
            for group in 0..groups {
                let members: Vec<usize> =
                    (start..start + region).filter(|at| at % channels / (channels / groups) == group).collect();
                let count = members.len() as f64;
                let mean = members.iter().map(|&at| f64::from(input[at])).sum::<f64>() / count;
                let variance = members.iter().map(|&at| (f64::from(input[at]) - mean).powi(2)).sum::<f64>() / count;
                for at in members {
                    let normal = (f64::from(input[at]) - mean) / (variance + 1e-6).sqrt();
                    let value = normal * f64::from(weight[at % channels]) + f64::from(bias[at % channels]);
                    out[at] = value / (1.0 + (-value).exp());
                }
            }
        }
        out
    }

    #[test]
    fn close_to_two_passes_in_f64() {
        for (channels, groups) in [(64, 32), (32, 32), (6, 2), (33, 3)] {
            for statistics in [Statistics::Clip, Statistics::Frame] {
                let shape = GroupNormShape { batch: 2, frames: 3, pixels: 1500, channels, groups };
                let (input, weight, bias) = (values(shape.len(), 0.5), values(channels, 1.5), values(channels, 0.0));
                let want = two_passes(&shape, statistics, &input, &weight, &bias);
                for set in InstructionSet::available() {
                    let affine = group_norm(set, &shape, statistics, &input, &weight, &bias, 1e-6).unwrap();
                    let frame_groups = if statistics == Statistics::Clip { 1 } else { shape.frames };
                    let affine = ChannelAffine { values: &affine, frame_groups, silu: true };
                    let mut out = vec![0.0; input.len()];
                    apply(set, &shape, &input, &affine, &mut out).unwrap();
                    let worst = out.iter().zip(&want).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
                    assert!(worst < 2e-6, "{set:?} {channels} {statistics:?}: {worst:e}");
                }
            }
        }
    }

    #[test]
    fn constant_input_becomes_the_bias() {
        let shape = GroupNormShape { batch: 1, frames: 2, pixels: 9, channels: 4, groups: 2 };
        let input = vec![1000.25; shape.len()];
        let set = InstructionSet::best();
        let affine = group_norm(set, &shape, Statistics::Clip, &input, &[1.0; 4], &[0.5; 4], 1e-6).unwrap();
        let mut out = vec![0.0; shape.len()];
        let affine = ChannelAffine { values: &affine, frame_groups: 1, silu: false };
        apply(set, &shape, &input, &affine, &mut out).unwrap();
        // 1000.25 * 1000 + shift in f32: the price of folding the mean into the shift.
        assert!(out.iter().all(|value| (value - 0.5).abs() < 0.07), "{out:?}");
    }

    #[test]
    fn statistics_do_not_depend_on_threads_or_instructions() {
        let shape = GroupNormShape { batch: 1, frames: 5, pixels: 4000, channels: 64, groups: 32 };
        let (input, weight, bias) = (values(shape.len(), 0.1), values(64, 1.5), values(64, 0.0));
        let mut results = Vec::new();
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for set in InstructionSet::available() {
                let run = || group_norm(set, &shape, Statistics::Clip, &input, &weight, &bias, 1e-6).unwrap();
                results.push(pool.install(run));
            }
        }
        assert!(results.iter().all(|result| *result == results[0]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let shape = GroupNormShape { batch: 1, frames: 2, pixels: 9, channels: 6, groups: 4 };
        let input = vec![0.0; shape.len()];
        let run = |shape: &GroupNormShape, weight: &[f32]| {
            group_norm(InstructionSet::best(), shape, Statistics::Clip, &input, weight, &[0.0; 6], 1e-6).unwrap_err()
        };
        assert_eq!(run(&shape, &[0.0; 6]), GroupNormError::UnevenGroups { channels: 6, groups: 4 });
        let shape = GroupNormShape { groups: 3, ..shape };
        assert_eq!(run(&shape, &[0.0; 5]), GroupNormError::WrongLength { what: "weight", found: 5, expected: 6 });
        assert_eq!(run(&GroupNormShape { pixels: 0, ..shape }, &[0.0; 6]), GroupNormError::Empty { what: "pixels" });
    }
}
