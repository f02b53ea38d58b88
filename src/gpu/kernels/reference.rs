//! Plain references of the kernels: loops in f64 that say what a kernel means. Tests and the self-test compare with them.

use super::conv3d::Geometry;
use crate::mask::KeyFrames;

/// Sizes of one call of tile attention.
pub struct TileAttention<'a> {
    pub batch: usize,
    pub heads: usize,
    pub head: usize,
    /// Of one frame.
    pub query_tokens: usize,
    /// Of one frame.
    pub key_tokens: usize,
    pub key_frames_total: usize,
    pub key_frames: &'a KeyFrames,
    pub scale: f32,
}

/// `softmax(query key^T * scale + key_bias) value` over the kept tiles; layouts as the kernel's.
pub fn tile_attention(call: &TileAttention<'_>, query: &[f32], key: &[f32], value: &[f32], key_bias: Option<&[f32]>) -> Vec<f64> {
    let (queries, keys) = (call.key_frames.query_frames() * call.query_tokens, call.key_frames_total * call.key_tokens);
    let mut output = Vec::with_capacity(call.batch * call.heads * queries * call.head);
    for batch_head in 0..call.batch * call.heads {
        let row = |values: &'_ [f32], rows: usize, index: usize| {
            let start = (batch_head * rows + index) * call.head;
            values[start..start + call.head].iter().map(|&x| f64::from(x)).collect::<Vec<_>>()
        };
        let key_rows: Vec<_> = (0..keys).map(|index| row(key, keys, index)).collect();
        let value_rows: Vec<_> = (0..keys).map(|index| row(value, keys, index)).collect();
        for index in 0..queries {
            let query_row = row(query, queries, index);
            let kept = call.key_frames.of(index / call.query_tokens);
            let seen: Vec<usize> = kept
                .iter()
                .flat_map(|&frame| (0..call.key_tokens).map(move |token| frame as usize * call.key_tokens + token))
                .collect();
            let scores: Vec<f64> = seen
                .iter()
                .map(|&at| {
                    let bias = key_bias.map_or(0.0, |bias| f64::from(bias[batch_head / call.heads * keys + at]));
                    query_row.iter().zip(&key_rows[at]).map(|(q, k)| q * k).sum::<f64>() * f64::from(call.scale) + bias
                })
                .collect();
            let maximum = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - maximum).exp()).collect();
            let sum: f64 = weights.iter().sum();
            output.extend((0..call.head).map(|channel| {
                weights.iter().zip(&seen).map(|(weight, &at)| weight * value_rows[at][channel]).sum::<f64>() / sum
            }));
        }
    }
    output
}

/// `x weight + bias` for `x` `[.., in]` and `weight` `[in, out]`, then GELU in its tanh form if `gelu_tanh`.
pub fn linear([inner, columns]: [usize; 2], x: &[f32], weight: &[f32], bias: Option<&[f32]>, gelu_tanh: bool) -> Vec<f64> {
    let mut output = Vec::with_capacity(x.len() / inner * columns);
    for row in x.chunks_exact(inner) {
        let mut sums: Vec<f64> = (0..columns).map(|column| bias.map_or(0.0, |bias| f64::from(bias[column]))).collect();
        for (&value, line) in row.iter().zip(weight.chunks_exact(columns)) {
            sums.iter_mut().zip(line).for_each(|(sum, &weight)| *sum += f64::from(value) * f64::from(weight));
        }
        output.extend(sums);
    }
    if gelu_tanh {
        let factor = (2.0 / std::f64::consts::PI).sqrt();
        output.iter_mut().for_each(|v| *v = 0.5 * *v * (1.0 + (factor * (*v + 0.044715 * v.powi(3))).tanh()));
    }
    output
}

/// Sizes of one convolution.
pub struct Conv3d {
    /// `[batch, frames, height, width, channels]`.
    pub input: [usize; 5],
    pub channels_out: usize,
    pub geometry: Geometry,
}

/// `conv(silu(input * scale + shift)) + bias + residual`, without the parts that are not given; layouts as the kernel's.
pub fn conv3d(
    call: &Conv3d,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    affine: Option<&[f32]>,
    residual: Option<&[f32]>,
) -> Vec<f64> {
    let [batch, frames, height, width, channels] = call.input;
    let geometry = &call.geometry;
    let [kernel_t, kernel_h, kernel_w] = geometry.kernel;
    let [frames_out, height_out, width_out] = geometry.output([frames, height, width]);
    let read = |clip: usize, t: usize, y: usize, x: usize, channel: usize| {
        let value = f64::from(input[(((clip * frames + t) * height + y) * width + x) * channels + channel]);
        let Some(affine) = affine else { return value };
        let part = |part: usize| f64::from(affine[(clip * 2 + part) * channels + channel]);
        let value = value * part(0) + part(1);
        value / (1.0 + (-value).exp())
    };
    let mut output = Vec::with_capacity(batch * frames_out * height_out * width_out * call.channels_out);
    for place in 0..batch * frames_out * height_out * width_out {
        let (clip, t) = (place / (frames_out * height_out * width_out), place / (height_out * width_out) % frames_out);
        let (y, x) = (place / width_out % height_out, place % width_out);
        let mut sums: Vec<f64> = bias.iter().map(|&bias| f64::from(bias)).collect();
        for tap in 0..kernel_t * kernel_h * kernel_w {
            let t = (t * geometry.stride[0] + tap / (kernel_h * kernel_w)).saturating_sub(geometry.causal_frames);
            let y = (y * geometry.stride[1] + tap / kernel_w % kernel_h).wrapping_sub(geometry.top);
            let x = (x * geometry.stride[2] + tap % kernel_w).wrapping_sub(geometry.left);
            if y >= height || x >= width {
                continue;
            }
            for channel in 0..channels {
                let value = read(clip, t, y, x, channel);
                let row = &weight[(tap * channels + channel) * call.channels_out..][..call.channels_out];
                sums.iter_mut().zip(row).for_each(|(sum, &weight)| *sum += value * f64::from(weight));
            }
        }
        output.extend(sums);
    }
    if let Some(residual) = residual {
        output.iter_mut().zip(residual).for_each(|(sum, &residual)| *sum += f64::from(residual));
    }
    output
}

/// Scale and shift `[batch, 2, channels]` of GroupNorm over `x` `[batch, pixels of all frames, channels]`.
pub fn group_norm_affine(
    [batch, pixels, channels]: [usize; 3],
    groups: usize,
    epsilon: f64,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
) -> Vec<f64> {
    let members = channels / groups;
    let mut affine = vec![0.0; batch * 2 * channels];
    for clip in 0..batch {
        for group in 0..groups {
            let of_group = (0..pixels).flat_map(|pixel| (0..members).map(move |member| (pixel, group * members + member)));
            let values: Vec<f64> =
                of_group.map(|(pixel, channel)| f64::from(x[(clip * pixels + pixel) * channels + channel])).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
            for channel in group * members..(group + 1) * members {
                let scale = f64::from(weight[channel]) / (variance + epsilon).sqrt();
                affine[clip * 2 * channels + channel] = scale;
                affine[(clip * 2 + 1) * channels + channel] = f64::from(bias[channel]) - mean * scale;
            }
        }
    }
    affine
}

/// Repeatable numbers in [-1, 1), for tests.
pub fn seeded(seed: u64, count: usize) -> Vec<f32> {
    let number = |index: u64| {
        let mut z = (seed << 32).wrapping_add(index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 * 2f32.powi(-23) - 1.0
    };
    (0..count as u64).map(number).collect()
}

/// ||got - want|| / ||want||; infinite if the lengths differ, a value is not finite, or all are zero.
pub fn relative_l2(got: &[f32], want: &[f64]) -> f64 {
    if got.len() != want.len() || got.iter().any(|value| !value.is_finite()) || got.iter().all(|&value| value == 0.0) {
        return f64::INFINITY;
    }
    let difference: f64 = got.iter().zip(want).map(|(&got, want)| (f64::from(got) - want).powi(2)).sum();
    (difference / want.iter().map(|want| want * want).sum::<f64>()).sqrt()
}
