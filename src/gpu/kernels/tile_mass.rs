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
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Shape, Tensor, TensorData};

use super::cpu::tile_mass::{TileMassInput, tile_mass as cpu_tile_mass};
use super::launch::{self, Shader, ShaderCall};
use super::values;
use crate::gpu::shader::Variant;
use crate::mask::KeyFrames;

/// What a layer's launches wrote into a record, for one clip.
#[derive(Clone, Debug)]
pub struct RecordedLayer {
    /// Where its log-sums `[heads, kept tiles, query tokens of a frame]` begin.
    pub log_sums_at: usize,
    /// Without it all masses are shares among the kept tiles, without errors.
    pub sample: Option<RecordedSample>,
    pub key_frames: Arc<KeyFrames>,
}

/// The log-sums `[heads, key frames, query frames * rows]` of some rows of every query frame, over all frames.
#[derive(Clone, Copy, Debug)]
pub struct RecordedSample {
    pub at: usize,
    /// Of one frame.
    pub rows: usize,
}

/// What all layers of a record have in common.
#[derive(Clone, Copy, Debug)]
pub struct RecordSizes {
    pub heads: usize,
    /// Of one frame.
    pub query_tokens: usize,
    pub frames: usize,
}

#[backend_extension(Cube, Flex)]
pub(crate) trait TileMassKernel: Backend {
    fn tile_mass(record: FloatTensor<Self>, layers: Vec<RecordedLayer>, sizes: RecordSizes) -> FloatTensor<Self>;
}

/// Mass and standard error of every tile of every layer, `[layers, heads, query frames, key frames, 2]` in f32, from a record
/// that [`tile_attention_recorded`](super::tile_attention::tile_attention_recorded) filled.
pub fn tile_mass(record: Tensor<1>, layers: Vec<RecordedLayer>, sizes: RecordSizes) -> Tensor<5> {
    let RecordSizes { heads, query_tokens, frames } = sizes;
    let [length] = record.dims();
    for RecordedLayer { log_sums_at, sample, key_frames } in &layers {
        assert_eq!(key_frames.query_frames(), frames, "all layers see the same frames");
        let end = log_sums_at + heads * key_frames.frames().len() * query_tokens;
        let sample_end = sample.map_or(0, |sample| sample.at + heads * frames * frames * sample.rows);
        assert!(end.max(sample_end) <= length, "the record does not hold its layers");
    }
    Tensor::from_dispatch(Dispatch::tile_mass(record.into_dispatch(), layers, sizes))
}

const WORKGROUP_SIZE: u32 = 64;
/// Words of `info` in front of the layers, and those of a layer: LAYERS and LAYER_WORDS of the shaders.
const LAYERS: usize = 4;
const LAYER_WORDS: usize = 4;
/// What the shader of the rows gives for a row, and for a sampled one.
const ROW_VALUES: usize = 2;
const SAMPLED_ROW_VALUES: usize = 3;
const CONSTANTS: [(&str, usize); 5] = [
    ("THREADS", WORKGROUP_SIZE as usize),
    ("LAYERS", LAYERS),
    ("LAYER_WORDS", LAYER_WORDS),
    ("ROW_VALUES", ROW_VALUES),
    ("SAMPLED_ROW_VALUES", SAMPLED_ROW_VALUES),
];

/// The shader of what the tiles of a row have in common: found once for all of them.
pub fn rows_shader() -> Shader {
    Shader {
        name: "tile_mass_rows",
        template: include_str!("../../../shaders/attention/tile_mass_rows.wgsl"),
        variant: Variant::default(),
        workgroup_size: WORKGROUP_SIZE,
        constants: &CONSTANTS,
    }
}

pub fn shader() -> Shader {
    Shader { name: "tile_mass", template: include_str!("../../../shaders/attention/tile_mass.wgsl"), ..rows_shader() }
}

fn most_sampled_rows(layers: &[RecordedLayer]) -> usize {
    layers.iter().filter_map(|layer| layer.sample).map(|sample| sample.rows).max().unwrap_or_default()
}

/// The values that the rows of all layers have in common.
pub fn row_values(layers: &[RecordedLayer], sizes: RecordSizes) -> usize {
    let of_frame = ROW_VALUES * sizes.query_tokens + SAMPLED_ROW_VALUES * most_sampled_rows(layers);
    layers.len() * sizes.heads * sizes.frames * of_frame
}

/// The launches for a record of such layers: that of the rows, and that of the tiles, which reads the former's result.
pub fn shader_calls(layers: &[RecordedLayer], sizes: RecordSizes) -> [ShaderCall; 2] {
    let RecordSizes { heads, query_tokens, frames } = sizes;
    let most_sampled_rows = most_sampled_rows(layers);
    let mut info: Vec<u32> = [frames, query_tokens, heads, most_sampled_rows].map(|size| size as u32).to_vec();
    let mut table = LAYERS + LAYER_WORDS * layers.len();
    for RecordedLayer { log_sums_at, sample, key_frames } in layers {
        let (sample_at, rows) = sample.map_or((0, 0), |sample| (sample.at, sample.rows));
        info.extend([*log_sums_at, sample_at, rows, table].map(|word| word as u32));
        table += key_frames.offsets().len() + key_frames.frames().len();
    }
    for RecordedLayer { key_frames, .. } in layers {
        info.extend(key_frames.offsets().iter().chain(key_frames.frames()));
    }
    let rows = (frames * (query_tokens + most_sampled_rows)).div_ceil(WORKGROUP_SIZE as usize);
    let call = |shader, across: usize, info| {
        let workgroups = [across as u32, heads as u32, layers.len() as u32];
        ShaderCall { shader, workgroups, info }
    };
    [call(rows_shader(), rows, info.clone()), call(shader(), frames * frames, info)]
}

impl TileMassKernel for CubeBackend {
    fn tile_mass(record: FloatTensor<Self>, layers: Vec<RecordedLayer>, sizes: RecordSizes) -> FloatTensor<Self> {
        let record = launch::row_major(record, DType::F32);
        let RecordSizes { heads, frames, .. } = sizes;
        let rows = launch::empty(&record, Shape::new([row_values(&layers, sizes)]), DType::F32);
        let output = launch::empty(&record, Shape::new([layers.len(), heads, frames, frames, 2]), DType::F32);
        let [of_rows, of_tiles] = shader_calls(&layers, sizes);
        launch::launch(of_rows, &[&record], &[&rows]);
        launch::launch(of_tiles, &[&record, &rows], &[&output]);
        output
    }
}

impl TileMassKernel for Flex {
    fn tile_mass(record: FloatTensor<Self>, layers: Vec<RecordedLayer>, sizes: RecordSizes) -> FloatTensor<Self> {
        let RecordSizes { heads, query_tokens, frames } = sizes;
        let record = record.to_contiguous();
        let all = values(&record);
        let of_layer = |RecordedLayer { log_sums_at, sample, key_frames }: &RecordedLayer| {
            let input = TileMassInput {
                heads,
                query_tokens,
                log_sums: &all[*log_sums_at..][..heads * key_frames.frames().len() * query_tokens],
                sample: sample.map(|sample| &all[sample.at..][..heads * frames * frames * sample.rows]),
                key_frames,
            };
            cpu_tile_mass(&input)
        };
        let masses: Vec<f32> = layers.iter().flat_map(of_layer).collect();
        FlexTensor::from_data(TensorData::new(masses, [layers.len(), heads, frames, frames, 2]))
    }
}
