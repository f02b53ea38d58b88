//! Attention over some keys and attention over others, put together exactly: each weighs what its keys add to the row's sum.

use burn::tensor::{FloatDType, Tensor};

/// The attention `[batch, heads, rows, head]` over all keys, from its parts over sets of keys that have none in common, each with
/// the log-sum `[batch, heads, rows]` of its rows (f32). Computed in f32, and given in the type of the parts.
///
/// With `l_i = log(sum of exp(score))` of part i, the softmax over all keys gives part i the weight `exp(l_i) / sum_j exp(l_j)`.
///
/// # Panics
/// There are no parts.
pub fn merge(parts: Vec<(Tensor<4>, Tensor<3>)>) -> Tensor<4> {
    let mut parts = parts.into_iter();
    let (first, first_log_sums) = parts.next().expect("a row sees some keys");
    let others: Vec<_> = parts.collect();
    if others.is_empty() {
        return first;
    }
    let stored = first.dtype();
    let largest = others.iter().fold(first_log_sums.clone(), |largest, (_, log_sums)| largest.max_pair(log_sums.clone()));
    let share = |log_sums: Tensor<3>| (log_sums - largest.clone()).exp();
    let weighed = |output: Tensor<4>, weight: &Tensor<3>| output.cast(FloatDType::F32) * weight.clone().unsqueeze_dim(3);
    let mut total = share(first_log_sums);
    let mut sum = weighed(first, &total);
    for (output, log_sums) in others {
        let weight = share(log_sums);
        sum = sum + weighed(output, &weight);
        total = total + weight;
    }
    let output: Tensor<4> = sum / total.unsqueeze_dim(3);
    output.cast(stored)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::gpu::kernels::reference::{relative_l2, seeded};
    use crate::gpu::kernels::tile_attention::{Tiles, tile_attention, tile_attention_and_row_log_sums};
    use crate::mask::KeyFrames;

    /// Scores far apart, so that a part's weight may vanish, against the attention over all keys at once.
    #[test]
    fn parts_merge_to_the_whole() {
        let tensor = |seed, tokens: usize, scale: f32| {
            let values: Vec<f32> = seeded(seed, 2 * 2 * tokens * 6).into_iter().map(|value| scale * value).collect();
            Tensor::<4>::from_data(TensorData::new(values, [2, 2, tokens, 6]), &Device::flex())
        };
        for scale in [1.0, 30.0] {
            let (query, key, value) = (tensor(1, 5, scale), tensor(2, 12, scale), tensor(3, 12, 1.0));
            let tiles = |frames: usize| Tiles {
                key_frames: Arc::new(KeyFrames::of_one_query_frame(frames)),
                query_tokens: 5,
                key_tokens: 2,
            };
            let whole: Vec<f32> =
                tile_attention(query.clone(), key.clone(), value.clone(), None, tiles(6)).try_into_vec_as().unwrap();
            let part = |from: usize, frames: usize| {
                let of = |x: &Tensor<4>| x.clone().narrow(2, 2 * from, 2 * frames);
                tile_attention_and_row_log_sums(query.clone(), of(&key), of(&value), None, tiles(frames))
            };
            let merged: Vec<f32> = merge(vec![part(0, 3), part(3, 1), part(4, 2)]).try_into_vec_as().unwrap();
            let whole: Vec<f64> = whole.into_iter().map(f64::from).collect();
            assert!(relative_l2(&merged, &whole) < 1e-6, "scale {scale}");
        }
    }
}
