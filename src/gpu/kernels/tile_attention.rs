//! Attention over frame-to-frame tiles: a query frame sees only the key frames that its mask keeps, and no work is done for
//! the others.
//!
//! Layouts: query, key, value `[batch, heads, frames * tokens, head]`, frame-major.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Shape, Tensor, TensorData};

use super::cpu::lanes::InstructionSet;
use super::cpu::tile_attention::{KeptFrames, TileAttentionInput, TileAttentionShape, tile_attention as cpu_tile_attention};
use super::launch::{self, KernelError, Shader, ShaderCall};
use super::{OptionalTensor, values};
use crate::gpu::shader::Variant;
use crate::gpu::spans::{self, Kind};
use crate::gpu::tier::ShaderTier;
use crate::mask::KeyFrames;

pub mod matrix;

/// Which tiles there are and how large they are.
#[derive(Clone, Debug)]
pub struct Tiles {
    /// For each query frame the key frames that it keeps.
    pub key_frames: Arc<KeyFrames>,
    /// Query tokens of one frame.
    pub query_tokens: usize,
    /// Key tokens of one frame.
    pub key_tokens: usize,
}

/// The largest head that the kernels take.
pub const LARGEST_HEAD: usize = 128;

#[backend_extension(Cube, Flex)]
pub(crate) trait TileAttentionKernel: Backend {
    fn tile_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        #[extension_type] key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> FloatTensor<Self>;

    /// Runs the same kernel; its result is one number for each block of queries: the tiles that it walked through.
    fn tile_attention_work(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        #[extension_type] key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> FloatTensor<Self>;
}

/// `softmax(query key^T / sqrt(head) + key_bias) value` over the kept tiles, in the storage type of its operands.
///
/// `query` is `[batch, heads, query frames * query tokens, head]`, `key` and `value` `[batch, heads, key frames * key tokens,
/// head]`, `key_bias` `[batch, key frames * key tokens]` in f32; heads have at most [`LARGEST_HEAD`] channels.
pub fn tile_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    key_bias: Option<Tensor<2>>,
    tiles: Tiles,
) -> Tensor<4> {
    check(&query, &key, &value, key_bias.as_ref(), &tiles);
    let tier = ShaderTier::of(&value.device(), value.dtype());
    spans::span(Kind::Attention, || {
        Tensor::from_dispatch(Dispatch::tile_attention(
            query.into_dispatch(),
            key.into_dispatch(),
            value.into_dispatch(),
            key_bias.into(),
            tiles,
            tier,
        ))
    })
}

/// Runs [`tile_attention`] and counts: for every block of queries how many tiles the kernel walked through.
pub fn tile_attention_work(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    key_bias: Option<Tensor<2>>,
    tiles: Tiles,
) -> Tensor<1> {
    check(&query, &key, &value, key_bias.as_ref(), &tiles);
    let tier = ShaderTier::of(&value.device(), value.dtype());
    Tensor::from_dispatch(Dispatch::tile_attention_work(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        key_bias.into(),
        tiles,
        tier,
    ))
}

fn check(query: &Tensor<4>, key: &Tensor<4>, value: &Tensor<4>, key_bias: Option<&Tensor<2>>, tiles: &Tiles) {
    let ([batch, heads, query_tokens, head], [_, _, key_tokens, _]) = (query.dims(), key.dims());
    assert_eq!(key.dims(), [batch, heads, key_tokens, head], "query and key differ in batch, heads or head size");
    assert_eq!(value.dims(), key.dims(), "key and value differ in shape");
    assert_eq!(query_tokens, tiles.key_frames.query_frames() * tiles.query_tokens, "the query is not that of its frames");
    assert!(key_tokens.is_multiple_of(tiles.key_tokens), "the key is not one of whole frames");
    let key_frames = key_tokens / tiles.key_tokens;
    assert!(tiles.key_frames.frames().iter().all(|&frame| (frame as usize) < key_frames), "a kept frame has no keys");
    assert!(head <= LARGEST_HEAD, "a head has at most {LARGEST_HEAD} channels");
    if let Some(bias) = key_bias {
        assert_eq!(bias.dims(), [batch, key_tokens], "one bias a key");
    }
}

fn scale(head: usize) -> f32 {
    (head as f64).powf(-0.5) as f32
}

const WORKGROUP_SIZE: u32 = 128;
/// Threads that share a row, and query rows of a workgroup: LANES and QUERY_BLOCK of the shader.
const LANES: usize = 8;
const QUERY_BLOCK: usize = 32;

/// The shader for a storage type and a head size. Its workgroup memory stays under the 32 KiB that DX12 has.
pub fn shader(element: &str, head: usize, key_bias: bool, count_work: bool) -> Shader {
    let head_padded = head.next_multiple_of(LANES);
    let variant = Variant::default()
        .switch("half", element == "f16")
        .switch("key_bias", key_bias)
        .switch("count_work", count_work)
        .value("element", element)
        .value("head_size", head)
        .value("head_padded", head_padded)
        .value("key_block", if head_padded > 96 { 16 } else { 32 });
    Shader {
        name: "tile_attention",
        template: include_str!("../../../shaders/attention/tile_attention.wgsl"),
        variant,
        workgroup_size: WORKGROUP_SIZE,
        constants: &[("LANES", LANES), ("QUERY_BLOCK", QUERY_BLOCK), ("THREADS", WORKGROUP_SIZE as usize)],
    }
}

/// The launch of `shader` for queries `[batch, heads, _, head]` and so many key frames.
pub fn shader_call(shader: Shader, [batch, heads, head]: [usize; 3], key_frames: usize, tiles: &Tiles) -> ShaderCall {
    let query_frames = tiles.key_frames.query_frames();
    let blocks = query_frames * tiles.query_tokens.div_ceil(QUERY_BLOCK);
    let sizes = [tiles.query_tokens, tiles.key_tokens, query_frames, key_frames, heads].map(|size| size as u32);
    let table = tiles.key_frames.offsets().iter().chain(tiles.key_frames.frames()).copied();
    let info = sizes.into_iter().chain([scale(head).to_bits()]).chain(table).collect();
    ShaderCall { shader, workgroups: [blocks as u32, (batch * heads) as u32, 1], info }
}

/// The attention, and the count of tiles if `count_work`.
fn launch_tiles(
    query: CubeTensor,
    key: CubeTensor,
    value: CubeTensor,
    key_bias: Option<CubeTensor>,
    tiles: &Tiles,
    count_work: bool,
    tier: ShaderTier,
) -> (CubeTensor, Option<CubeTensor>) {
    let dtype = value.dtype;
    let [query, key, value] = [query, key, value].map(|tensor| launch::row_major(tensor, dtype));
    let key_bias = key_bias.map(|bias| launch::row_major(bias, DType::F32));
    let [batch, heads, _, head]: [usize; 4] = query.meta.shape().dims();
    let [_, _, key_tokens, _]: [usize; 4] = key.meta.shape().dims();
    let (sizes, key_frames) = ([batch, heads, head], key_tokens / tiles.key_tokens);
    let cut = matrix::Cut::of_head(head).filter(|_| tier == ShaderTier::Matrix);
    let call = match cut {
        Some(cut) => matrix::shader_call(cut, sizes, key_frames, tiles, key_bias.is_some(), count_work),
        None => shader_call(shader(launch::element(dtype), head, key_bias.is_some(), count_work), sizes, key_frames, tiles),
    };
    let output = launch::empty(&query, query.meta.shape().clone(), dtype);
    let workgroups = call.workgroups.iter().map(|&count| count as usize).product();
    let work = count_work.then(|| launch::empty(&query, Shape::new([workgroups]), DType::F32));

    let mut inputs = vec![&query, &key, &value];
    inputs.extend(key_bias.as_ref());
    let mut outputs = vec![&output];
    outputs.extend(work.as_ref());
    launch::launch(call, &inputs, &outputs);
    (output, work)
}

impl TileAttentionKernel for CubeBackend {
    fn tile_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> FloatTensor<Self> {
        launch_tiles(query, key, value, key_bias.into_option(), &tiles, false, tier).0
    }

    fn tile_attention_work(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let (output, work) = launch_tiles(query, key, value, key_bias.into_option(), &tiles, true, tier);
        work.unwrap_or(output)
    }
}

impl TileAttentionKernel for Flex {
    fn tile_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let shape = query.layout().shape().clone();
        let (output, _) = run_on_cpu(&query, &key, &value, key_bias.into_option().as_ref(), &tiles);
        FlexTensor::from_data(TensorData::new(output, shape))
    }

    fn tile_attention_work(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let (_, work) = run_on_cpu(&query, &key, &value, key_bias.into_option().as_ref(), &tiles);
        FlexTensor::from_data(TensorData::new(vec![work as f32], [1]))
    }
}

/// The attention's values and the tiles that were computed, over all heads and clips.
fn run_on_cpu(
    query: &FlexTensor,
    key: &FlexTensor,
    value: &FlexTensor,
    key_bias: Option<&FlexTensor>,
    tiles: &Tiles,
) -> (Vec<f32>, u64) {
    let [batch, heads, _, head_size]: [usize; 4] = query.layout().shape().dims();
    let shape = TileAttentionShape {
        batch,
        heads,
        head_size,
        query_frames: tiles.key_frames.query_frames(),
        query_tokens: tiles.query_tokens,
        key_frames: key.layout().shape()[2] / tiles.key_tokens,
        key_tokens: tiles.key_tokens,
    };
    let [query, key, value] = [query, key, value].map(FlexTensor::to_contiguous);
    let key_bias = key_bias.map(FlexTensor::to_contiguous);
    let input = TileAttentionInput {
        query: values(&query),
        key: values(&key),
        value: values(&value),
        kept: KeptFrames { offsets: tiles.key_frames.offsets(), frames: tiles.key_frames.frames() },
        key_bias: key_bias.as_ref().map(values),
        scale: scale(head_size),
    };
    let mut output = vec![0.0; query.layout().shape().num_elements()];
    match cpu_tile_attention(InstructionSet::best(), &shape, &input, &mut output) {
        Ok(work) => (output, work.tiles(&shape)),
        Err(error) => std::panic::panic_any(KernelError { kernel: "tile_attention", reason: error.to_string() }),
    }
}
