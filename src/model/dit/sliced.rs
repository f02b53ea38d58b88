//! Attention in launches that the device's pace allows: heads first, then query frames. Every row is computed as in one launch.

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::gpu::kernels::tile_attention::{Tiles, tile_attention, tile_attention_and_row_log_sums};
use crate::gpu::pace::{self, Work};

/// [`tile_attention`], cut where it would take too long.
pub fn attend(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, key_bias: Option<Tensor<2>>, tiles: &Tiles) -> Tensor<4> {
    let launch = |query, key, value, tiles| tile_attention(query, key, value, key_bias.clone(), tiles);
    cut(query, key, value, tiles, &launch, &|parts, axis| join(parts, axis))
}

/// [`tile_attention_and_row_log_sums`] without a bias, cut where it would take too long.
pub fn attend_with_row_log_sums(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, tiles: &Tiles) -> (Tensor<4>, Tensor<3>) {
    let launch = |query, key, value, tiles| tile_attention_and_row_log_sums(query, key, value, None, tiles);
    cut(query, key, value, tiles, &launch, &|parts: Vec<(Tensor<4>, Tensor<3>)>, axis| {
        let (outputs, log_sums) = parts.into_iter().unzip();
        (join(outputs, axis), join(log_sums, axis))
    })
}

/// Launches for the heads, and then the query frames, that the device's pace allows at once; `join` puts their results together
/// along an axis.
fn cut<T>(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    tiles: &Tiles,
    launch: &dyn Fn(Tensor<4>, Tensor<4>, Tensor<4>, Tiles) -> T,
    join: &dyn Fn(Vec<T>, usize) -> T,
) -> T {
    let device = query.device();
    let [batch, heads, _, head] = query.dims();
    let flops_a_tile = 4.0 * (batch * head * tiles.query_tokens * tiles.key_tokens) as f64;
    let flops_a_head = flops_a_tile * tiles.key_frames.frames().len() as f64;
    let parts = pace::parts(&device, Work::Attention, flops_a_head * heads as f64);
    let heads_at_once = heads.div_ceil(parts.min(heads));
    // What is left to cut when a head alone takes too long.
    let frames = tiles.key_frames.query_frames();
    let frames_at_once = frames.div_ceil(parts.div_ceil(heads).min(frames));

    let slices = (0..heads).step_by(heads_at_once).map(|first| {
        let count = heads_at_once.min(heads - first);
        let of = |x: &Tensor<4>| if count == heads { x.clone() } else { x.clone().narrow(1, first, count) };
        let (query, key, value) = (of(&query), of(&key), of(&value));
        let rows = (0..frames).step_by(frames_at_once).map(|start| {
            let end = (start + frames_at_once).min(frames);
            let tiles = match end - start == frames {
                true => tiles.clone(),
                false => Tiles { key_frames: Arc::new(tiles.key_frames.query_part(start..end)), ..tiles.clone() },
            };
            let query = match end - start == frames {
                true => query.clone(),
                false => query.clone().narrow(2, start * tiles.query_tokens, (end - start) * tiles.query_tokens),
            };
            let flops = flops_a_tile * (count * tiles.key_frames.frames().len()) as f64;
            pace::launch(&device, Work::Attention, flops, || launch(query, key.clone(), value.clone(), tiles))
        });
        join(rows.collect(), 2)
    });
    join(slices.collect(), 1)
}

fn join<const D: usize>(mut parts: Vec<Tensor<D>>, axis: usize) -> Tensor<D> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, axis) }
}
