//! Plain references of the kernels: loops in f64 that say what a kernel means. Tests and the self-test compare with them.

use super::conv3d::Geometry;
use crate::mask::KeyFrames;

pub mod transformer;

/// Sizes of one call of tile attention.
#[derive(Clone, Copy)]
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

impl<'a> TileAttention<'a> {
    /// The sizes of some rows of the last clip, which see `all` key frames.
    pub fn of_rows(&self, rows: usize, all: &'a KeyFrames) -> Self {
        Self { batch: 1, query_tokens: rows, key_frames: all, ..*self }
    }
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

/// The log-sums `[batch, heads, kept tiles, query tokens]`: `log(sum over a key frame of exp(query key^T * scale + key_bias))`.
pub fn log_sums(call: &TileAttention<'_>, query: &[f32], key: &[f32], key_bias: Option<&[f32]>) -> Vec<f64> {
    let (queries, keys) = (call.key_frames.query_frames() * call.query_tokens, call.key_frames_total * call.key_tokens);
    let mut log_sums = Vec::new();
    for batch_head in 0..call.batch * call.heads {
        for frame in 0..call.key_frames.query_frames() {
            for &key_frame in call.key_frames.of(frame) {
                for index in frame * call.query_tokens..(frame + 1) * call.query_tokens {
                    let query_row = &query[(batch_head * queries + index) * call.head..][..call.head];
                    let scores = (0..call.key_tokens).map(|token| key_frame as usize * call.key_tokens + token).map(|at| {
                        let key_row = &key[(batch_head * keys + at) * call.head..][..call.head];
                        let product: f64 = query_row.iter().zip(key_row).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                        let bias = key_bias.map_or(0.0, |bias| f64::from(bias[batch_head / call.heads * keys + at]));
                        product * f64::from(call.scale) + bias
                    });
                    let scores: Vec<f64> = scores.collect();
                    let maximum = scores.iter().copied().fold(f64::MIN, f64::max);
                    log_sums.push(maximum + scores.iter().map(|score| (score - maximum).exp()).sum::<f64>().ln());
                }
            }
        }
    }
    log_sums
}

/// The log-sums of some query rows of the last clip over all key frames, `[heads, key frames, rows]`.
pub fn sampled_log_sums(
    call: &TileAttention<'_>,
    query: &[f32],
    key: &[f32],
    key_bias: Option<&[f32]>,
    rows: &[u32],
) -> Vec<f64> {
    let (queries, keys) = (call.key_frames.query_frames() * call.query_tokens, call.key_frames_total * call.key_tokens);
    let clip = (call.batch - 1) * call.heads;
    let row = |head: usize, row: u32| &query[((clip + head) * queries + row as usize) * call.head..][..call.head];
    let query: Vec<f32> = (0..call.heads).flat_map(|head| rows.iter().flat_map(move |&at| row(head, at))).copied().collect();
    let all = KeyFrames::of_one_query_frame(call.key_frames_total);
    let key_bias = key_bias.map(|bias| &bias[(call.batch - 1) * keys..]);
    log_sums(&call.of_rows(rows.len(), &all), &query, &key[clip * keys * call.head..], key_bias)
}

/// The row log-sums `[batch, heads, queries]`: `log(sum over all kept keys of exp(query key^T * scale + key_bias))`.
pub fn row_log_sums(call: &TileAttention<'_>, query: &[f32], key: &[f32], key_bias: Option<&[f32]>) -> Vec<f64> {
    let of_tiles = log_sums(call, query, key, key_bias);
    let (tiles, rows) = (call.key_frames.frames().len(), call.query_tokens);
    let mut log_sums = Vec::new();
    for batch_head in 0..call.batch * call.heads {
        for frame in 0..call.key_frames.query_frames() {
            let first = call.key_frames.offsets()[frame] as usize;
            for row in 0..rows {
                let of_row = (first..first + call.key_frames.of(frame).len())
                    .map(|tile| of_tiles[(batch_head * tiles + tile) * rows + row]);
                let largest = of_row.clone().fold(f64::MIN, f64::max);
                log_sums.push(largest + of_row.map(|log_sum| (log_sum - largest).exp()).sum::<f64>().ln());
            }
        }
    }
    log_sums
}

/// The gradients with respect to query, key and value of `sum(output_gradient * tile_attention(..))`, through the Jacobian of
/// the softmax: `dscore_j = P_j (dP_j - sum over i of P_i dP_i)` with `dP_j = output_gradient . value_j`.
pub fn tile_attention_gradients(
    call: &TileAttention<'_>,
    [query, key, value]: [&[f32]; 3],
    key_bias: Option<&[f32]>,
    output_gradient: &[f32],
) -> [Vec<f64>; 3] {
    let (queries, keys) = (call.key_frames.query_frames() * call.query_tokens, call.key_frames_total * call.key_tokens);
    let mut gradients = [query.len(), key.len(), value.len()].map(|count| vec![0.0; count]);
    let [of_query, of_key, of_value] = &mut gradients;
    let scale = f64::from(call.scale);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    for row in 0..call.batch * call.heads * queries {
        let (batch_head, frame) = (row / queries, row % queries / call.query_tokens);
        let query_at = row * call.head..(row + 1) * call.head;
        let (query_row, gradient_row) = (&query[query_at.clone()], &output_gradient[query_at.clone()]);
        let kept = call.key_frames.of(frame).iter();
        let seen = kept.flat_map(|&frame| (0..call.key_tokens).map(move |token| frame as usize * call.key_tokens + token));
        let seen: Vec<usize> = seen.collect();
        let at = |key: usize| (batch_head * keys + key) * call.head..(batch_head * keys + key + 1) * call.head;
        let scores = seen.iter().map(|&index| {
            let bias = key_bias.map_or(0.0, |bias| f64::from(bias[batch_head / call.heads * keys + index]));
            dot(query_row, &key[at(index)]) * scale + bias
        });
        let scores: Vec<f64> = scores.collect();
        let maximum = scores.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - maximum).exp()).sum();
        let weights: Vec<f64> = scores.iter().map(|score| (score - maximum).exp() / sum).collect();
        let of_weights: Vec<f64> = seen.iter().map(|&index| dot(gradient_row, &value[at(index)])).collect();
        let mean: f64 = weights.iter().zip(&of_weights).map(|(weight, of_weight)| weight * of_weight).sum();
        for ((weight, of_weight), &index) in weights.iter().zip(&of_weights).zip(&seen) {
            let of_score = weight * (of_weight - mean) * scale;
            for channel in 0..call.head {
                let (in_query, in_key) = (query_at.start + channel, at(index).start + channel);
                of_query[in_query] += of_score * f64::from(key[in_key]);
                of_key[in_key] += of_score * f64::from(query[in_query]);
                of_value[in_key] += weight * f64::from(output_gradient[in_query]);
            }
        }
    }
    gradients
}

/// How wrong log-sums are: the largest error of a tile's share of its row's weight. (Tiles far below a row's largest score have
/// no share that f32 could hold, so their logarithms may be anything that is as small.) Infinite for what is no number.
pub fn log_sums_error(call: &TileAttention<'_>, got: &[f32], want: &[f64]) -> f64 {
    let (tiles, rows) = (call.key_frames.frames().len(), call.query_tokens);
    if got.len() != want.len() || got.iter().any(|value| !value.is_finite()) {
        return f64::INFINITY;
    }
    let mut worst: f64 = 0.0;
    for batch_head in 0..call.batch * call.heads {
        for frame in 0..call.key_frames.query_frames() {
            let first = call.key_frames.offsets()[frame] as usize;
            for row in 0..rows {
                let of_row =
                    (first..first + call.key_frames.of(frame).len()).map(|tile| (batch_head * tiles + tile) * rows + row);
                let largest = of_row.clone().map(|at| want[at]).fold(f64::MIN, f64::max);
                let sum: f64 = of_row.clone().map(|at| (want[at] - largest).exp()).sum();
                let share = |log_sum: f64| (log_sum - largest).exp() / sum;
                worst = of_row.map(|at| (share(f64::from(got[at])) - share(want[at])).abs()).fold(worst, f64::max);
            }
        }
    }
    worst
}

/// Mass and standard error of every tile from log-sums; layouts and formulas as the kernel's.
pub fn tile_mass(
    [batch, heads, query_tokens]: [usize; 3],
    log_sums: &[f32],
    sample: Option<&[f32]>,
    key_frames: &KeyFrames,
) -> Vec<f64> {
    let (frames, kept_tiles) = (key_frames.query_frames(), key_frames.frames().len());
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mut masses = Vec::new();
    for tile in 0..heads * frames * frames {
        let (head, frame, key_frame) = (tile / (frames * frames), tile / frames % frames, (tile % frames) as u32);
        let kept = key_frames.of(frame);
        let place = kept.iter().position(|&kept| kept == key_frame);
        let share_of_row = |row: usize, place: usize| {
            let first = ((batch - 1) * heads + head) * kept_tiles + key_frames.offsets()[frame] as usize;
            let at = |place: usize| f64::from(log_sums[(first + place) * query_tokens + row]);
            1.0 / (0..kept.len()).map(|other| (at(other) - at(place)).exp()).sum::<f64>()
        };
        let shares: Vec<f64> = (0..query_tokens).map(|row| place.map_or(0.0, |place| share_of_row(row, place))).collect();
        let Some(sample) = sample else {
            masses.extend([mean(&shares), 0.0]);
            continue;
        };
        let all_rows = sample.len() / (heads * frames);
        let rows = all_rows / frames;
        let (mut mass, mut of_kept, mut share) = (Vec::new(), Vec::new(), Vec::new());
        for row in frame * rows..(frame + 1) * rows {
            let at = |key_frame: u32| f64::from(sample[(head * frames + key_frame as usize) * all_rows + row]);
            let all: f64 = (0..frames as u32).map(|other| (at(other) - at(key_frame)).exp()).sum();
            let all_kept: f64 = kept.iter().map(|&other| (at(other) - at(key_frame)).exp()).sum();
            mass.push(1.0 / all);
            of_kept.push(all_kept / all);
            share.push(if place.is_some() { 1.0 / all_kept } else { 0.0 });
        }
        let slope = mean(&of_kept);
        let residuals: Vec<f64> = mass.iter().zip(&share).map(|(mass, share)| mass - slope * share).collect();
        let squares = residuals.iter().map(|residual| (residual - mean(&residuals)).powi(2)).sum::<f64>();
        let left_out = 1.0 - rows as f64 / query_tokens as f64;
        let error = (squares / (rows as f64 - 1.0).max(1.0) * left_out / rows as f64).sqrt();
        masses.extend([(mean(&mass) + slope * (mean(&shares) - mean(&share))).max(0.0), error]);
    }
    masses
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
        output.iter_mut().for_each(|value| *value = self::gelu_tanh(*value));
    }
    output
}

/// So many Newton-Schulz steps from `X` to `a X + (b G + c G G) X` with `G = X X^T`, for matrices of so many rows and columns.
pub fn newton_schulz([rows, columns]: [usize; 2], x: &[f32], [a, b, c]: [f64; 3], steps: usize) -> Vec<f64> {
    let product = |left: &[f64], inner: usize, right: &dyn Fn(usize, usize) -> f64, columns: usize| -> Vec<f64> {
        let of_row = |row: &[f64], column| row.iter().enumerate().map(|(at, value)| value * right(at, column)).sum::<f64>();
        left.chunks_exact(inner).flat_map(|row| (0..columns).map(move |column| of_row(row, column))).collect()
    };
    let mut output = Vec::with_capacity(x.len());
    for matrix in x.chunks_exact(rows * columns) {
        let mut x: Vec<f64> = matrix.iter().map(|&value| f64::from(value)).collect();
        for _ in 0..steps {
            let gram = product(&x, columns, &|at, column| x[column * columns + at], rows);
            let square = product(&gram, rows, &|at, column| gram[at * rows + column], rows);
            let polynomial: Vec<f64> = gram.iter().zip(&square).map(|(gram, square)| b * gram + c * square).collect();
            let more = product(&polynomial, rows, &|at, column| x[at * columns + column], columns);
            x.iter_mut().zip(more).for_each(|(x, more)| *x = a * *x + more);
        }
        output.extend(x);
    }
    output
}

/// GELU in its tanh form.
pub fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
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

/// Gradients of [`conv3d`] without normalisation: of the input and of the weight, from that of the output. Every product of the
/// forward sum gives one term to each.
pub fn conv3d_gradients(call: &Conv3d, input: &[f32], weight: &[f32], gradient: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let [batch, frames, height, width, channels] = call.input;
    let geometry = &call.geometry;
    let [_, kernel_h, kernel_w] = geometry.kernel;
    let [frames_out, height_out, width_out] = geometry.output([frames, height, width]);
    let (mut of_input, mut of_weight) = (vec![0.0; input.len()], vec![0.0; weight.len()]);
    for (place, &back) in gradient.iter().enumerate() {
        let (pixel, to) = (place / call.channels_out, place % call.channels_out);
        let (x, y, t) = (pixel % width_out, pixel / width_out % height_out, pixel / (width_out * height_out) % frames_out);
        let clip = pixel / (width_out * height_out * frames_out);
        debug_assert!(clip < batch);
        for tap in 0..geometry.taps() {
            let t = (t * geometry.stride[0] + tap / (kernel_h * kernel_w)).saturating_sub(geometry.causal_frames);
            let y = (y * geometry.stride[1] + tap / kernel_w % kernel_h).wrapping_sub(geometry.top);
            let x = (x * geometry.stride[2] + tap % kernel_w).wrapping_sub(geometry.left);
            if y >= height || x >= width {
                continue;
            }
            for channel in 0..channels {
                let from = (((clip * frames + t) * height + y) * width + x) * channels + channel;
                let by = (tap * channels + channel) * call.channels_out + to;
                of_input[from] += f64::from(weight[by]) * f64::from(back);
                of_weight[by] += f64::from(input[from]) * f64::from(back);
            }
        }
    }
    (of_input, of_weight)
}

/// Sums of the columns of `[.., columns]`.
pub fn column_sums(columns: usize, x: &[f32]) -> Vec<f64> {
    let mut sums = vec![0.0; columns];
    for row in x.chunks_exact(columns) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sums
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

/// `silu(GroupNorm(x))` for `x` `[batch, pixels of all frames, channels]`, and its gradient with respect to `x` from that of the result.
pub fn group_norm_silu(
    [batch, pixels, channels]: [usize; 3],
    groups: usize,
    epsilon: f64,
    [x, weight, bias, gradient]: [&[f32]; 4],
) -> (Vec<f64>, Vec<f64>) {
    let affine = group_norm_affine([batch, pixels, channels], groups, epsilon, x, weight, bias);
    let (mut y, mut before_norm) = (Vec::with_capacity(x.len()), Vec::with_capacity(x.len()));
    for (at, (&x, &gradient)) in x.iter().zip(gradient).enumerate() {
        let row = at / (pixels * channels) * 2 * channels + at % channels;
        let z = f64::from(x) * affine[row] + affine[row + channels];
        let share = 1.0 / (1.0 + (-z).exp());
        y.push(z * share);
        before_norm.push(f64::from(gradient) * share * (1.0 + z * (1.0 - share)));
    }
    let members = channels / groups;
    let mut back = vec![0.0; x.len()];
    for group in 0..batch * groups {
        let (clip, first) = (group / groups, group % groups * members);
        let places: Vec<usize> =
            (0..pixels * members).map(|at| (clip * pixels + at / members) * channels + first + at % members).collect();
        let mean_of = |value: &dyn Fn(usize) -> f64| places.iter().map(|&at| value(at)).sum::<f64>() / places.len() as f64;
        let mean = mean_of(&|at| f64::from(x[at]));
        let inverse = 1.0 / (mean_of(&|at| (f64::from(x[at]) - mean).powi(2)) + epsilon).sqrt();
        let normal = |at: usize| (f64::from(x[at]) - mean) * inverse;
        let weighted = |at: usize| before_norm[at] * f64::from(weight[at % channels]);
        let (level, slope) = (mean_of(&weighted), mean_of(&|at| weighted(at) * normal(at)));
        for &at in &places {
            back[at] = inverse * (weighted(at) - level - normal(at) * slope);
        }
    }
    (y, back)
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
