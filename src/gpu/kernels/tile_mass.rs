//! How much of its attention each frame gives to each other: the mass of every tile, from the log-sums of
//! [`tile_attention`](super::tile_attention).
//!
//! Where all tiles are kept, a tile's mass is the mean over its query rows of `exp(log-sum of the tile - log-sum-exp of the row)`.
//! Where tiles are skipped this is only the share P among the kept ones. The mass then comes from a sample of query rows, whose
//! log-sums over all frames are known: with a row's mass m on the tile, its mass r on all kept tiles and its share p = m / r
//! (0 for a skipped tile), and bars for means over the sample, it is `m̄ + r̄ (P - p̄)`. That is the sample's mean, corrected by
//! what is known of all rows (a regression estimator, Cochran's Sampling Techniques, chapter 7, with the slope r̄), and over a
//! query frame it sums to 1. Its standard error is that of the residual `m - r̄ p` in a sample without replacement.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Shape, Tensor, TensorData};

use super::cpu::tile_mass::{TileMassInput, tile_mass as cpu_tile_mass};
use super::launch::{self, Shader, ShaderCall};
use super::{OptionalTensor, values};
use crate::gpu::shader::Variant;
use crate::mask::KeyFrames;

#[backend_extension(Cube, Flex)]
pub(crate) trait TileMassKernel: Backend {
    fn tile_mass(
        log_sums: FloatTensor<Self>,
        #[extension_type] sample: OptionalTensor<Self>,
        key_frames: Arc<KeyFrames>,
    ) -> FloatTensor<Self>;
}

/// Mass and standard error of every tile, `[heads, query frames, key frames, 2]` in f32, of the last clip of the batch.
///
/// `log_sums` is `[batch, heads, kept tiles, query tokens of a frame]`, as `tile_attention` gives them for `key_frames`.
/// `sample` is `[1, heads, key frames, query frames * sampled rows]`: the log-sums of some rows of every query frame, over all
/// frames. Without it all masses are shares among the kept tiles, without errors.
pub fn tile_mass(log_sums: Tensor<4>, sample: Option<Tensor<4>>, key_frames: Arc<KeyFrames>) -> Tensor<4> {
    let [_, heads, tiles, _] = log_sums.dims();
    let frames = key_frames.query_frames();
    assert_eq!(tiles, key_frames.frames().len(), "one log-sum a kept tile");
    if let Some(sample) = &sample {
        let [batch, sample_heads, key_frames, rows] = sample.dims();
        assert_eq!(
            [batch, sample_heads, key_frames, rows % frames],
            [1, heads, frames, 0],
            "rows of every frame, over all frames"
        );
    }
    Tensor::from_dispatch(Dispatch::tile_mass(log_sums.into_dispatch(), sample.into(), key_frames))
}

const WORKGROUP_SIZE: u32 = 64;

pub fn shader(sampled: bool) -> Shader {
    Shader {
        name: "tile_mass",
        template: include_str!("../../../shaders/attention/tile_mass.wgsl"),
        variant: Variant::default().switch("sampled", sampled),
        workgroup_size: WORKGROUP_SIZE,
        constants: &[("THREADS", WORKGROUP_SIZE as usize)],
    }
}

/// The launch for log-sums `[batch, heads, _, query tokens]` and so many sampled rows of a frame.
pub fn shader_call([batch, heads, query_tokens]: [usize; 3], sampled_rows: Option<usize>, key_frames: &KeyFrames) -> ShaderCall {
    let frames = key_frames.query_frames();
    let sizes = [frames, query_tokens, sampled_rows.unwrap_or(0), (batch - 1) * heads].map(|size| size as u32);
    let info = sizes.into_iter().chain(key_frames.offsets().iter().chain(key_frames.frames()).copied()).collect();
    ShaderCall { shader: shader(sampled_rows.is_some()), workgroups: [(frames * frames) as u32, heads as u32, 1], info }
}

impl TileMassKernel for CubeBackend {
    fn tile_mass(log_sums: FloatTensor<Self>, sample: OptionalTensor<Self>, key_frames: Arc<KeyFrames>) -> FloatTensor<Self> {
        let row_major = |tensor: CubeTensor| launch::row_major(tensor, DType::F32);
        let (log_sums, sample) = (row_major(log_sums), sample.into_option().map(row_major));
        let [batch, heads, _, query_tokens]: [usize; 4] = log_sums.meta.shape().dims();
        let frames = key_frames.query_frames();
        let sampled_rows = sample.as_ref().map(|sample| sample.meta.shape()[3] / frames);
        let call = shader_call([batch, heads, query_tokens], sampled_rows, &key_frames);
        let output = launch::empty(&log_sums, Shape::new([heads, frames, frames, 2]), DType::F32);
        let inputs: Vec<_> = [&log_sums].into_iter().chain(&sample).collect();
        launch::launch(call, &inputs, &[&output]);
        output
    }
}

impl TileMassKernel for Flex {
    fn tile_mass(log_sums: FloatTensor<Self>, sample: OptionalTensor<Self>, key_frames: Arc<KeyFrames>) -> FloatTensor<Self> {
        let [_, heads, _, query_tokens]: [usize; 4] = log_sums.layout().shape().dims();
        let frames = key_frames.query_frames();
        let log_sums = log_sums.to_contiguous();
        let sample = sample.into_option().map(|sample| sample.to_contiguous());
        let all = values(&log_sums);
        let clip = heads * key_frames.frames().len() * query_tokens;
        let input = TileMassInput {
            heads,
            query_tokens,
            log_sums: &all[all.len() - clip..],
            sample: sample.as_ref().map(values),
            key_frames: &key_frames,
        };
        FlexTensor::from_data(TensorData::new(cpu_tile_mass(&input), [heads, frames, frames, 2]))
    }
}
