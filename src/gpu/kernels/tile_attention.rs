//! Attention over frame-to-frame tiles: a query frame sees only the key frames that its mask keeps, and no work is done for
//! the others.
//!
//! Layouts: query, key, value `[batch, heads, frames * tokens, head]`, frame-major.
//!
//! The kernel can also give its *log-sums*: for every query row and every key frame that the row's frame keeps,
//! `log(sum of exp(score) over the key frame's tokens)`, which the online softmax passes on its way. They are
//! `[batch, heads, kept tiles, query tokens]` in f32, kept tiles in the order of [`KeyFrames::frames`]; the log-sum-exp of a
//! whole row is that of its tiles' log-sums. Several launches can write theirs into one [`Record`]; such a launch can also
//! give the log-sums of some query rows over all frames, whatever the mask keeps.
//!
//! On a device that differentiates, the gradients of query, key and value are a kernel of the same kind ([`backward`]): it
//! walks the kept tiles only, so that its cost follows the density too. The key bias is a constant.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Backend, Dispatch, ExtensionType, Flex, backend_extension};
use burn::tensor::{DType, Shape, Tensor, TensorData};

use super::cpu::lanes::InstructionSet;
use super::cpu::tile_attention::{
    KeptFrames, TileAttentionError, TileAttentionInput, TileAttentionOutput, TileAttentionShape,
    tile_attention as cpu_tile_attention,
};
use super::launch::{self, KernelError, Shader, ShaderCall};
use super::{OptionalTensor, values};
use crate::gpu::shader::Variant;
use crate::gpu::spans::{self, Kind};
use crate::gpu::tier::ShaderTier;
use crate::mask::KeyFrames;

mod autodiff;
pub mod backward;
pub mod backward_matrix;
pub mod matrix;

pub(crate) use backward::Attended;

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

/// What an attention reads.
#[derive(ExtensionType)]
pub(crate) struct Seen<B: Backend> {
    pub query: FloatTensor<B>,
    pub key: FloatTensor<B>,
    pub value: FloatTensor<B>,
}

/// Where a launch writes into a record: from value `at` on its log-sums `[batch, heads, kept tiles, query tokens]`, and behind
/// them those of the sample.
#[derive(Clone, Debug)]
pub struct RecordPlace {
    pub at: usize,
    pub sample: Option<Sample>,
}

/// Query rows of the last clip whose log-sums over all frames are wanted, `[heads, key frames, rows]`.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Equally many of every frame, frame by frame, counted over all frames.
    pub rows: Arc<Vec<u32>>,
}

impl RecordPlace {
    /// The values that a launch of so many heads writes.
    pub fn length(&self, [batch, heads]: [usize; 2], key_frames: usize, tiles: &Tiles) -> usize {
        self.sample_at(batch * heads, tiles) - self.at + self.sample_length(heads, key_frames)
    }

    /// Where the log-sums of a clip's heads begin.
    pub fn of_clip(&self, [clip, heads]: [usize; 2], tiles: &Tiles) -> usize {
        self.at + clip * heads * tiles.key_frames.frames().len() * tiles.query_tokens
    }

    /// Where those of the sample begin, for the heads of all clips.
    pub fn sample_at(&self, batch_heads: usize, tiles: &Tiles) -> usize {
        self.at + batch_heads * tiles.key_frames.frames().len() * tiles.query_tokens
    }

    fn sample_length(&self, heads: usize, key_frames: usize) -> usize {
        self.sample.as_ref().map_or(0, |sample| heads * key_frames * sample.rows.len())
    }
}

/// [`tile_attention`] to the same bits; its log-sums are written into the record, which is given back.
pub fn tile_attention_recorded(
    [query, key, value]: [Tensor<4>; 3],
    key_bias: Option<Tensor<2>>,
    record: Tensor<1>,
    place: RecordPlace,
    tiles: Tiles,
) -> (Tensor<4>, Tensor<1>) {
    check(&query, &key, Some(&value), key_bias.as_ref(), &tiles);
    check_place(&query, &key, &record, &place, &tiles);
    let tier = ShaderTier::of(&value.device(), value.dtype());
    let (output, record) = spans::span(Kind::Attention, || {
        let seen = Seen { query: query.into_dispatch(), key: key.into_dispatch(), value: value.into_dispatch() };
        Dispatch::tile_attention_recorded(seen, key_bias.into(), record.into_dispatch(), place, tiles, tier)
    });
    (Tensor::from_dispatch(output), Tensor::from_dispatch(record))
}

/// The log-sums alone, for about half of the work; they are written into the record, which is given back. There is no sample.
pub fn tile_log_sums_recorded(
    query: Tensor<4>,
    key: Tensor<4>,
    key_bias: Option<Tensor<2>>,
    record: Tensor<1>,
    at: usize,
    tiles: Tiles,
) -> Tensor<1> {
    let place = RecordPlace { at, sample: None };
    check(&query, &key, None, key_bias.as_ref(), &tiles);
    check_place(&query, &key, &record, &place, &tiles);
    let tier = ShaderTier::of(&key.device(), key.dtype());
    let (query, key, record) = (query.into_dispatch(), key.into_dispatch(), record.into_dispatch());
    let record = spans::span(Kind::Attention, || {
        Dispatch::tile_log_sums_recorded(query, key, key_bias.into(), record, place, tiles, tier)
    });
    Tensor::from_dispatch(record)
}

/// [`tile_attention`] to the same bits, and the log-sums `[batch, heads, kept tiles, query tokens]` of the tiles.
pub fn tile_attention_and_log_sums(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    key_bias: Option<Tensor<2>>,
    tiles: Tiles,
) -> (Tensor<4>, Tensor<4>) {
    let shape = log_sums_shape(&query, &tiles);
    let record = Tensor::empty([shape.iter().product::<usize>()], (&query.device(), DType::F32));
    let place = RecordPlace { at: 0, sample: None };
    let (output, record) = tile_attention_recorded([query, key, value], key_bias, record, place, tiles);
    (output, record.reshape(shape))
}

/// The log-sums `[batch, heads, kept tiles, query tokens]` alone, for about half of the work.
pub fn tile_log_sums(query: Tensor<4>, key: Tensor<4>, key_bias: Option<Tensor<2>>, tiles: Tiles) -> Tensor<4> {
    let shape = log_sums_shape(&query, &tiles);
    let record = Tensor::empty([shape.iter().product::<usize>()], (&query.device(), DType::F32));
    tile_log_sums_recorded(query, key, key_bias, record, 0, tiles).reshape(shape)
}

fn log_sums_shape(query: &Tensor<4>, tiles: &Tiles) -> [usize; 4] {
    let [batch, heads, _, _] = query.dims();
    [batch, heads, tiles.key_frames.frames().len(), tiles.query_tokens]
}

fn check_place(query: &Tensor<4>, key: &Tensor<4>, record: &Tensor<1>, place: &RecordPlace, tiles: &Tiles) {
    let ([batch, heads, rows, _], [_, _, key_tokens, _], [length]) = (query.dims(), key.dims(), record.dims());
    let end = place.at + place.length([batch, heads], key_tokens / tiles.key_tokens, tiles);
    assert!(end <= length && u32::try_from(length).is_ok(), "the record is too short, or too long for its numbers");
    if let Some(sample) = &place.sample {
        assert!(!sample.rows.is_empty() && sample.rows.iter().all(|&row| (row as usize) < rows), "a sampled row does not exist");
    }
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

/// What a launch writes into a record, as the words of `info` that both tiers have in common, but for where the rows are.
fn record_words(place: Option<&RecordPlace>, [batch, heads]: [usize; 2]) -> [u32; 3] {
    let (at, rows) = place.map_or((0, 0), |place| (place.at, place.sample.as_ref().map_or(0, |sample| sample.rows.len())));
    [at, (batch - 1) * heads, rows].map(|word| word as u32)
}

fn sampled_rows(place: Option<&RecordPlace>) -> &[u32] {
    place.and_then(|place| place.sample.as_ref()).map_or(&[], |sample| &sample.rows)
}

/// The launch of `shader` for queries `[batch, heads, _, head]` and so many key frames.
pub fn shader_call(
    shader: Shader,
    [batch, heads, head]: [usize; 3],
    key_frames: usize,
    tiles: &Tiles,
    place: Option<&RecordPlace>,
) -> ShaderCall {
    /// Words of `info` in front of the table: TABLE of the shader.
    const TABLE: usize = 10;
    let query_frames = tiles.key_frames.query_frames();
    let rows = sampled_rows(place);
    let blocks = query_frames * tiles.query_tokens.div_ceil(QUERY_BLOCK) + key_frames * rows.len().div_ceil(QUERY_BLOCK);
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

/// A record that a launch writes into, and where.
struct Recorded<T> {
    record: T,
    place: RecordPlace,
}

impl<T> Recorded<T> {
    fn gives(&self) -> Gives {
        if self.place.sample.is_some() { Gives::AttentionAndSample } else { Gives::AttentionAndLogSums }
    }
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
    let cut = matrix::Cut::of_head(head).filter(|_| tier == ShaderTier::Matrix);
    let call = match cut {
        Some(cut) => {
            matrix::shader_call(matrix::shader_of(cut, tiles, key_bias.is_some(), gives), cut, sizes, key_frames, tiles, place)
        }
        None => shader_call(shader(launch::element(dtype), head, key_bias.is_some(), gives), sizes, key_frames, tiles, place),
    };
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

impl TileAttentionKernel for Flex {
    fn tile_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let operands = Operands { query, key, value: Some(value), key_bias: key_bias.into_option() };
        last(run_on_cpu(operands, None, &tiles, Gives::Attention).0)
    }

    fn tile_attention_work(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let operands = Operands { query, key, value: Some(value), key_bias: key_bias.into_option() };
        let (_, work) = run_on_cpu(operands, None, &tiles, Gives::AttentionAndWork);
        FlexTensor::from_data(TensorData::new(vec![work as f32], [1]))
    }

    fn tile_attention_recorded(
        seen: Seen<Self>,
        key_bias: OptionalTensor<Self>,
        record: FloatTensor<Self>,
        place: RecordPlace,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let Seen { query, key, value } = seen;
        let operands = Operands { query, key, value: Some(value), key_bias: key_bias.into_option() };
        let mut recorded = Recorded { record, place };
        let gives = recorded.gives();
        let output = last(run_on_cpu(operands, Some(&mut recorded), &tiles, gives).0);
        (output, recorded.record)
    }

    fn tile_log_sums_recorded(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        record: FloatTensor<Self>,
        place: RecordPlace,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let operands = Operands { query, key, value: None, key_bias: key_bias.into_option() };
        let mut recorded = Recorded { record, place };
        run_on_cpu(operands, Some(&mut recorded), &tiles, Gives::LogSums);
        recorded.record
    }

    fn tile_attention_and_row_log_sums(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let operands = Operands { query, key, value: Some(value), key_bias: key_bias.into_option() };
        pair(run_on_cpu(operands, None, &tiles, Gives::AttentionAndRowLogSums).0)
    }

    fn tile_attention_gradients(
        attended: Attended<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let ([query, key, value], _) = backward::run_gradients_on_cpu(attended, key_bias.into_option(), &tiles);
        (query, key, value)
    }

    fn tile_attention_gradients_work(
        attended: Attended<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let (_, work) = backward::run_gradients_on_cpu(attended, key_bias.into_option(), &tiles);
        FlexTensor::from_data(TensorData::new(vec![work as f32], [1]))
    }
}

/// The sizes of a call on the CPU.
fn cpu_shape(query: &FlexTensor, key: &FlexTensor, tiles: &Tiles) -> TileAttentionShape {
    let [batch, heads, _, head_size]: [usize; 4] = query.layout().shape().dims();
    TileAttentionShape {
        batch,
        heads,
        head_size,
        query_frames: tiles.key_frames.query_frames(),
        query_tokens: tiles.query_tokens,
        key_frames: key.layout().shape()[2] / tiles.key_tokens,
        key_tokens: tiles.key_tokens,
    }
}

/// What a call on the CPU reads; the tensors are contiguous.
fn cpu_input<'a>(
    query: &'a FlexTensor,
    key: &'a FlexTensor,
    value: Option<&'a FlexTensor>,
    key_bias: Option<&'a FlexTensor>,
    tiles: &'a Tiles,
) -> TileAttentionInput<'a> {
    TileAttentionInput {
        query: values(query),
        key: values(key),
        value: value.map(values),
        kept: KeptFrames { offsets: tiles.key_frames.offsets(), frames: tiles.key_frames.frames() },
        key_bias: key_bias.map(values),
        scale: scale(query.layout().shape()[3]),
    }
}

/// The attention and the row log-sums, as far as `gives` says, and the tiles that were computed, over all heads and clips. The
/// log-sums go into the record.
fn run_on_cpu(
    operands: Operands<FlexTensor>,
    recorded: Option<&mut Recorded<FlexTensor>>,
    tiles: &Tiles,
    gives: Gives,
) -> (Vec<FlexTensor>, u64) {
    let Operands { query, key, value, key_bias } = operands;
    let [query, key] = [query, key].map(|tensor| tensor.to_contiguous());
    let [value, key_bias] = [value, key_bias].map(|tensor| tensor.map(|tensor| tensor.to_contiguous()));
    let shape = cpu_shape(&query, &key, tiles);
    let input = cpu_input(&query, &key, value.as_ref(), key_bias.as_ref(), tiles);
    let batch_heads = shape.batch * shape.heads;
    let query_shape = query.layout().shape().clone();
    let row_shape = Shape::new([shape.batch, shape.heads, query_shape[2]]);
    let mut attention = gives.attends().then(|| vec![0.0; query_shape.num_elements()]);
    let mut row_log_sums = gives.gives_row_log_sums().then(|| vec![0.0; row_shape.num_elements()]);
    let (log_sums, sample) = match recorded {
        None => (None, None),
        Some(Recorded { record, place }) => {
            let (sample_at, length) =
                (place.sample_at(batch_heads, tiles), place.length([shape.batch, shape.heads], shape.key_frames, tiles));
            let part = &mut record.storage_mut::<f32>()[place.at..place.at + length];
            let (log_sums, of_sample) = part.split_at_mut(sample_at - place.at);
            (Some(log_sums), place.sample.as_ref().map(|sample| (sample, of_sample)))
        }
    };
    let output = TileAttentionOutput { attention: attention.as_deref_mut(), log_sums, row_log_sums: row_log_sums.as_deref_mut() };
    let set = InstructionSet::best();
    let work = cpu_tile_attention(set, &shape, &input, output).and_then(|work| {
        if let Some((sample, log_sums)) = sample {
            sampled_log_sums_on_cpu(set, &shape, &input, sample, log_sums)?;
        }
        Ok(work)
    });
    match work {
        Ok(work) => {
            let outputs = [(attention, query_shape), (row_log_sums, row_shape)];
            let tensor =
                |(values, shape): (Option<Vec<f32>>, Shape)| Some(FlexTensor::from_data(TensorData::new(values?, shape)));
            (outputs.into_iter().filter_map(tensor).collect(), work.tiles(&shape))
        }
        Err(error) => std::panic::panic_any(KernelError { kernel: "tile_attention", reason: error.to_string() }),
    }
}

/// The log-sums of sampled rows of the last clip over all frames, `[heads, key frames, rows]`.
fn sampled_log_sums_on_cpu(
    set: InstructionSet,
    shape: &TileAttentionShape,
    input: &TileAttentionInput<'_>,
    sample: &Sample,
    log_sums: &mut [f32],
) -> Result<(), TileAttentionError> {
    let last_clip = (shape.batch - 1) * shape.heads;
    let (queries, keys) = (shape.query_frames * shape.query_tokens, shape.key_frames * shape.key_tokens);
    let places =
        (0..shape.heads).flat_map(|head| sample.rows.iter().map(move |&row| (last_clip + head) * queries + row as usize));
    let query: Vec<f32> = places.flat_map(|place| &input.query[place * shape.head_size..][..shape.head_size]).copied().collect();
    let all = KeyFrames::of_one_query_frame(shape.key_frames);
    let sampled = TileAttentionShape { batch: 1, query_frames: 1, query_tokens: sample.rows.len(), ..*shape };
    let input = TileAttentionInput {
        query: &query,
        key: &input.key[last_clip * keys * shape.head_size..],
        value: None,
        kept: KeptFrames { offsets: all.offsets(), frames: all.frames() },
        key_bias: input.key_bias.map(|bias| &bias[(shape.batch - 1) * keys..]),
        scale: input.scale,
    };
    let output = TileAttentionOutput { log_sums: Some(log_sums), ..TileAttentionOutput::default() };
    cpu_tile_attention(set, &sampled, &input, output).map(|_| ())
}
