//! Attention over frame-to-frame tiles: a query frame sees only the key frames that its mask keeps, and no work is done for
//! the others.
//!
//! Layouts: query, key, value `[batch, heads, frames * tokens, head]`, frame-major.
//!
//! The kernel can also give its *log-sums*: for every query row and every key frame that the row's frame keeps,
//! `log(sum of exp(score) over the key frame's tokens)`, which the online softmax passes on its way. They are
//! `[batch, heads, kept tiles, query tokens]` in f32, kept tiles in the order of [`KeyFrames::frames`]; the log-sum-exp of a
//! whole row is that of its tiles' log-sums. Several launches can write theirs into one record; such a launch can also
//! give the log-sums of some query rows over all frames, whatever the mask keeps.
//!
//! On a device that differentiates, the gradients of query, key and value are a kernel of the same kind ([`backward`]): it
//! walks the kept tiles only, so that its cost follows the density too. The key bias is a constant.

use std::sync::Arc;

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};

use super::OptionalTensor;
use super::launch::{self, Shader, ShaderCall};
use crate::gpu::shader::Variant;
use crate::gpu::spans::{self, Kind};
use crate::gpu::tier::ShaderTier;
use crate::mask::KeyFrames;

mod autodiff;
pub mod backward;
pub mod backward_matrix;
pub mod backward_subgroup;
mod flex;
pub mod matrix;
mod record;
pub mod subgroup;

pub(crate) use backward::Attended;
pub(crate) use record::Seen;
pub use record::{
    RecordPlace, Sample, tile_attention_and_log_sums, tile_attention_recorded, tile_log_sums, tile_log_sums_recorded,
};
use record::{Recorded, record_words, sampled_rows};

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

/// What a launch gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gives {
    Attention,
    /// The attention, and for each workgroup the tiles that it walked through.
    AttentionAndWork,
    /// The attention, and the log-sums of the tiles that it walked through.
    AttentionAndLogSums,
    /// As [`Self::AttentionAndLogSums`], and the log-sums of a sample of rows over all frames.
    AttentionAndSample,
    /// The attention, and the log-sum of every row over all its tiles, which the backward pass reads.
    AttentionAndRowLogSums,
    /// The log-sums alone; nothing is done with values.
    LogSums,
}

impl Gives {
    pub const ALL: [Self; 6] = [
        Self::Attention,
        Self::AttentionAndWork,
        Self::AttentionAndLogSums,
        Self::AttentionAndSample,
        Self::AttentionAndRowLogSums,
        Self::LogSums,
    ];

    fn attends(self) -> bool {
        self != Self::LogSums
    }

    fn counts_work(self) -> bool {
        self == Self::AttentionAndWork
    }

    fn gives_log_sums(self) -> bool {
        matches!(self, Self::AttentionAndLogSums | Self::AttentionAndSample | Self::LogSums)
    }

    fn gives_row_log_sums(self) -> bool {
        self == Self::AttentionAndRowLogSums
    }

    /// The switches of a shader of this kernel, and the places of its bindings.
    fn put_into(self, variant: Variant, key_bias: bool) -> Variant {
        let place_of_bias = if self.attends() { 3 } else { 2 };
        let place_of_output = place_of_bias + usize::from(key_bias);
        let place_of_extra = place_of_output + usize::from(self.attends());
        let place_of_info = place_of_extra + usize::from(self != Self::Attention);
        variant
            .switch("key_bias", key_bias)
            .switch("attend", self.attends())
            .switch("count_work", self.counts_work())
            .switch("log_sums", self.gives_log_sums())
            .switch("sampled", self == Self::AttentionAndSample)
            .switch("row_log_sums", self.gives_row_log_sums())
            .value("place_of_bias", place_of_bias)
            .value("place_of_output", place_of_output)
            .value("place_of_extra", place_of_extra)
            .value("place_of_info", place_of_info)
    }
}

#[backend_extension(Cube, Flex, Autodiff)]
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

    /// Runs the same kernel; gives the attention, and the record with the log-sums written into it.
    fn tile_attention_recorded(
        #[extension_type] seen: Seen<Self>,
        #[extension_type] key_bias: OptionalTensor<Self>,
        record: FloatTensor<Self>,
        place: RecordPlace,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Runs half of the kernel: gives the record with the log-sums written into it, without the attention.
    fn tile_log_sums_recorded(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        #[extension_type] key_bias: OptionalTensor<Self>,
        record: FloatTensor<Self>,
        place: RecordPlace,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> FloatTensor<Self>;

    /// Runs the same kernel; gives the attention and the row log-sums `[batch, heads, queries]`.
    fn tile_attention_and_row_log_sums(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        #[extension_type] key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of query, key and value.
    fn tile_attention_gradients(
        #[extension_type] attended: Attended<Self>,
        #[extension_type] key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Runs the kernels of the gradients; the result is one number for each of their blocks: the tiles that it walked through.
    fn tile_attention_gradients_work(
        #[extension_type] attended: Attended<Self>,
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
    check(&query, &key, Some(&value), key_bias.as_ref(), &tiles);
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
    check(&query, &key, Some(&value), key_bias.as_ref(), &tiles);
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

/// [`tile_attention`] to the same bits, and the row log-sums `[batch, heads, queries]` in f32: `log(sum of exp(score))` over all
/// keys that a row sees.
pub fn tile_attention_and_row_log_sums(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    key_bias: Option<Tensor<2>>,
    tiles: Tiles,
) -> (Tensor<4>, Tensor<3>) {
    check(&query, &key, Some(&value), key_bias.as_ref(), &tiles);
    let tier = ShaderTier::of(&value.device(), value.dtype());
    let (output, row_log_sums) = spans::span(Kind::Attention, || {
        Dispatch::tile_attention_and_row_log_sums(
            query.into_dispatch(),
            key.into_dispatch(),
            value.into_dispatch(),
            key_bias.into(),
            tiles,
            tier,
        )
    });
    (Tensor::from_dispatch(output), Tensor::from_dispatch(row_log_sums))
}

/// A forward pass that [`tile_attention_and_row_log_sums`] made, and the gradient of the loss with respect to its output.
#[derive(Clone, Debug)]
pub struct AttendedTensors {
    pub query: Tensor<4>,
    pub key: Tensor<4>,
    pub value: Tensor<4>,
    pub output: Tensor<4>,
    pub row_log_sums: Tensor<3>,
    pub output_gradient: Tensor<4>,
}

impl AttendedTensors {
    fn check(&self, key_bias: Option<&Tensor<2>>, tiles: &Tiles) {
        check(&self.query, &self.key, Some(&self.value), key_bias, tiles);
        let [batch, heads, queries, _] = self.query.dims();
        assert_eq!(self.output.dims(), self.query.dims(), "query and output differ in shape");
        assert_eq!(self.output_gradient.dims(), self.query.dims(), "query and gradient differ in shape");
        assert_eq!(self.row_log_sums.dims(), [batch, heads, queries], "one log-sum a row");
    }

    fn into_dispatch(self) -> Attended<Dispatch> {
        Attended {
            query: self.query.into_dispatch(),
            key: self.key.into_dispatch(),
            value: self.value.into_dispatch(),
            output: self.output.into_dispatch(),
            row_log_sums: self.row_log_sums.into_dispatch(),
            output_gradient: self.output_gradient.into_dispatch(),
        }
    }
}

/// The gradients of query, key and value, each as its operand. What [`tile_attention`] runs on its way back.
pub fn tile_attention_gradients(attended: AttendedTensors, key_bias: Option<Tensor<2>>, tiles: Tiles) -> [Tensor<4>; 3] {
    attended.check(key_bias.as_ref(), &tiles);
    let tier = ShaderTier::of(&attended.value.device(), attended.value.dtype());
    let (query, key, value) = spans::span(Kind::Attention, || {
        Dispatch::tile_attention_gradients(attended.into_dispatch(), key_bias.into(), tiles, tier)
    });
    [query, key, value].map(Tensor::from_dispatch)
}

/// Runs [`tile_attention_gradients`] and counts: for every block of queries, and then for every block of keys, how many tiles
/// the kernels walked through. Every tile is walked once from either side; the CPU's kernel walks it once for both, and gives
/// one number.
pub fn tile_attention_gradients_work(attended: AttendedTensors, key_bias: Option<Tensor<2>>, tiles: Tiles) -> Tensor<1> {
    attended.check(key_bias.as_ref(), &tiles);
    let tier = ShaderTier::of(&attended.value.device(), attended.value.dtype());
    let work = Dispatch::tile_attention_gradients_work(attended.into_dispatch(), key_bias.into(), tiles, tier);
    Tensor::from_dispatch(work)
}

fn check(query: &Tensor<4>, key: &Tensor<4>, value: Option<&Tensor<4>>, key_bias: Option<&Tensor<2>>, tiles: &Tiles) {
    let ([batch, heads, query_tokens, head], [_, _, key_tokens, _]) = (query.dims(), key.dims());
    assert_eq!(key.dims(), [batch, heads, key_tokens, head], "query and key differ in batch, heads or head size");
    assert!(value.is_none_or(|value| value.dims() == key.dims()), "key and value differ in shape");
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
pub fn shader(element: &str, head: usize, key_bias: bool, gives: Gives) -> Shader {
    let head_padded = head.next_multiple_of(LANES);
    let variant = gives
        .put_into(Variant::default(), key_bias)
        .switch("half", element == "f16")
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
pub fn shader_call(
    shader: Shader,
    sizes: [usize; 3],
    key_frames: usize,
    tiles: &Tiles,
    place: Option<&RecordPlace>,
) -> ShaderCall {
    call_in_blocks(shader, QUERY_BLOCK, sizes, key_frames, tiles, place)
}

/// The launch of a shader whose workgroups own so many query tokens.
fn call_in_blocks(
    shader: Shader,
    query_block: usize,
    [batch, heads, head]: [usize; 3],
    key_frames: usize,
    tiles: &Tiles,
    place: Option<&RecordPlace>,
) -> ShaderCall {
    /// Words of `info` in front of the table: TABLE of the shaders.
    const TABLE: usize = 10;
    let query_frames = tiles.key_frames.query_frames();
    let rows = sampled_rows(place);
    let blocks = query_frames * tiles.query_tokens.div_ceil(query_block) + key_frames * rows.len().div_ceil(query_block);
    let sizes = [tiles.query_tokens, tiles.key_tokens, query_frames, key_frames, heads].map(|size| size as u32);
    let table = || tiles.key_frames.offsets().iter().chain(tiles.key_frames.frames()).copied();
    let rows_at = (TABLE + table().count()) as u32;
    let words = sizes.into_iter().chain([scale(head).to_bits()]).chain(record_words(place, [batch, heads])).chain([rows_at]);
    let info = words.chain(table()).chain(rows.iter().copied()).collect();
    ShaderCall { shader, workgroups: [blocks as u32, (batch * heads) as u32, 1], info }
}

/// What a launch reads; without a value it can only give log-sums.
struct Operands<T> {
    query: T,
    key: T,
    value: Option<T>,
    key_bias: Option<T>,
}

/// The attention, and what it gives besides: as many as `gives` says, in its order.
fn launch_tiles(
    operands: Operands<CubeTensor>,
    recorded: Option<Recorded<CubeTensor>>,
    tiles: &Tiles,
    gives: Gives,
    tier: ShaderTier,
) -> Vec<CubeTensor> {
    let Operands { query, key, value, key_bias } = operands;
    let place = recorded.as_ref().map(|recorded| &recorded.place);
    let dtype = key.dtype;
    let [query, key] = [query, key].map(|tensor| launch::row_major(tensor, dtype));
    let value = value.map(|value| launch::row_major(value, dtype));
    let key_bias = key_bias.map(|bias| launch::row_major(bias, DType::F32));
    let [batch, heads, _, head]: [usize; 4] = query.meta.shape().dims();
    let [_, _, key_tokens, _]: [usize; 4] = key.meta.shape().dims();
    let (sizes, key_frames) = ([batch, heads, head], key_tokens / tiles.key_tokens);
    let query_frames = batch * heads * tiles.key_frames.query_frames();
    let (element, with_bias) = (launch::element(dtype), key_bias.is_some());
    let on_matrices = || {
        let cut = matrix::Cut::of(head, query_frames, tiles.query_tokens)?;
        Some(matrix::shader_call(matrix::shader_of(cut, tiles, with_bias, gives), cut, sizes, key_frames, tiles, place))
    };
    let on_subgroups = || {
        let cut = subgroup::Cut::of(element, head)?;
        Some(subgroup::shader_call(subgroup::shader(element, cut, with_bias, gives), cut, sizes, key_frames, tiles, place))
    };
    let call = match tier {
        ShaderTier::Matrix => on_matrices(),
        ShaderTier::Subgroup | ShaderTier::SubgroupForward => on_subgroups(),
        ShaderTier::Plain => None,
    };
    let call = call.unwrap_or_else(|| shader_call(shader(element, head, with_bias, gives), sizes, key_frames, tiles, place));
    let mut outputs = Vec::new();
    if gives.attends() {
        outputs.push(launch::empty(&query, query.meta.shape().clone(), dtype));
    }
    if gives.counts_work() {
        let workgroups = call.workgroups.iter().map(|&count| count as usize).product();
        outputs.push(launch::empty(&query, Shape::new([workgroups]), DType::F32));
    }
    // The record is in place: what other launches wrote into it stays.
    outputs.extend(recorded.map(|recorded| recorded.record));
    if gives.gives_row_log_sums() {
        outputs.push(launch::empty(&query, Shape::new([batch, heads, query.meta.shape()[2]]), DType::F32));
    }
    let inputs: Vec<_> = [&query, &key].into_iter().chain(&value).chain(&key_bias).collect();
    launch::launch(call, &inputs, &outputs.iter().collect::<Vec<_>>());
    outputs
}

/// The only two outputs of a launch.
fn pair<T>(outputs: Vec<T>) -> (T, T) {
    let mut outputs = outputs.into_iter();
    let (first, second) = (outputs.next(), outputs.next());
    first.zip(second).expect("the launch gives two tensors")
}

/// The last output of a launch.
fn last<T>(mut outputs: Vec<T>) -> T {
    outputs.pop().expect("every launch gives a tensor")
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
        let operands = Operands { query, key, value: Some(value), key_bias: key_bias.into_option() };
        last(launch_tiles(operands, None, &tiles, Gives::Attention, tier))
    }

    fn tile_attention_work(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let operands = Operands { query, key, value: Some(value), key_bias: key_bias.into_option() };
        last(launch_tiles(operands, None, &tiles, Gives::AttentionAndWork, tier))
    }

    fn tile_attention_recorded(
        seen: Seen<Self>,
        key_bias: OptionalTensor<Self>,
        record: FloatTensor<Self>,
        place: RecordPlace,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let Seen { query, key, value } = seen;
        let operands = Operands { query, key, value: Some(value), key_bias: key_bias.into_option() };
        let recorded = Recorded { record, place };
        let gives = recorded.gives();
        pair(launch_tiles(operands, Some(recorded), &tiles, gives, tier))
    }

    fn tile_log_sums_recorded(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        record: FloatTensor<Self>,
        place: RecordPlace,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let operands = Operands { query, key, value: None, key_bias: key_bias.into_option() };
        last(launch_tiles(operands, Some(Recorded { record, place }), &tiles, Gives::LogSums, tier))
    }

    fn tile_attention_and_row_log_sums(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let operands = Operands { query, key, value: Some(value), key_bias: key_bias.into_option() };
        pair(launch_tiles(operands, None, &tiles, Gives::AttentionAndRowLogSums, tier))
    }

    fn tile_attention_gradients(
        attended: Attended<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let ([query, key, value], _) = backward::launch_gradients(attended, key_bias.into_option(), &tiles, false, tier);
        (query, key, value)
    }

    fn tile_attention_gradients_work(
        attended: Attended<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let (_, counts) = backward::launch_gradients(attended, key_bias.into_option(), &tiles, true, tier);
        Self::float_cat(counts, 0)
    }
}
