//! Launches of the backward pass: row deltas, the gradient of the query, the gradients of key and value.
//!
//! No launch adds to what another one wrote, so a gradient is summed in one order. The gradient of the query walks the key
//! frames of every query frame; those of key and value walk the same tiles from the other side, [`KeyFrames::transposed`].

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Backend, ExtensionType, Flex};
use burn::tensor::{DType, Shape, TensorData};

use super::super::cpu::lanes::InstructionSet;
use super::super::cpu::tile_attention_backward::{
    TileAttentionBackwardInput, TileAttentionGradients, tile_attention_backward as cpu_tile_attention_backward,
};
use super::super::launch::{self, KernelError, Shader, ShaderCall};
use super::super::values;
use super::flex::{cpu_input, cpu_shape};
use super::{LANES, Tiles, backward_matrix, backward_subgroup, scale};
use crate::gpu::shader::Variant;
use crate::gpu::tier::ShaderTier;
use crate::mask::KeyFrames;

/// A forward pass and the gradient that came back to it.
#[derive(ExtensionType)]
pub(crate) struct Attended<B: Backend> {
    pub query: FloatTensor<B>,
    pub key: FloatTensor<B>,
    pub value: FloatTensor<B>,
    /// The attention, as the query.
    pub output: FloatTensor<B>,
    /// `[batch, heads, queries]` in f32.
    pub row_log_sums: FloatTensor<B>,
    /// Of the loss with respect to the output.
    pub output_gradient: FloatTensor<B>,
}

/// Which gradients a launch gives; the rows that a workgroup owns are those of their operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Queries,
    /// And values.
    Keys,
}

impl Of {
    pub const ALL: [Self; 2] = [Self::Queries, Self::Keys];

    /// Names and places of the bindings that differ between the two.
    pub(super) fn put_into(self, variant: Variant, key_bias: bool, count_work: bool) -> Variant {
        let place_of_first = 6 + usize::from(key_bias);
        let place_of_work = place_of_first + if self == Self::Keys { 2 } else { 1 };
        let (queries, keys) = (["query", "gradient"], ["key", "value"]);
        let (own, other) = if self == Self::Keys { (keys, queries) } else { (queries, keys) };
        variant
            .switch("of_keys", self == Self::Keys)
            .switch("key_bias", key_bias)
            .switch("count_work", count_work)
            .value("own_first", own[0])
            .value("own_second", own[1])
            .value("other_first", other[0])
            .value("other_second", other[1])
            .value("place_of_first", place_of_first)
            .value("place_of_second", place_of_first + 1)
            .value("place_of_work", place_of_work)
            .value("place_of_info", place_of_work + usize::from(count_work))
    }
}

/// The tiles from the side of what a workgroup owns.
pub(super) struct Side {
    /// Of one frame.
    pub own_tokens: usize,
    pub other_tokens: usize,
    pub other_frames: usize,
    /// For each own frame the other frames that make a kept tile with it.
    pub frames: KeyFrames,
}

impl Side {
    pub fn new(of: Of, tiles: &Tiles, key_frames: usize) -> Self {
        let &Tiles { query_tokens, key_tokens, .. } = tiles;
        match of {
            Of::Queries => Self {
                own_tokens: query_tokens,
                other_tokens: key_tokens,
                other_frames: key_frames,
                frames: KeyFrames::clone(&tiles.key_frames),
            },
            Of::Keys => Self {
                own_tokens: key_tokens,
                other_tokens: query_tokens,
                other_frames: tiles.key_frames.query_frames(),
                frames: tiles.key_frames.transposed(key_frames),
            },
        }
    }
}

const WORKGROUP_SIZE: u32 = 128;
/// Rows of a workgroup of the row deltas: ROWS of the shader.
const DELTA_ROWS: usize = 16;
/// The most workgroups in the first dimension before they go on in the second.
const FOLD: usize = 65_535;

/// The shader of the row deltas; both tiers use it.
pub fn row_deltas_shader(element: &str, head: usize) -> Shader {
    Shader {
        name: "row_deltas",
        template: include_str!("../../../../shaders/attention/row_deltas.wgsl"),
        variant: Variant::default().switch("half", element == "f16").value("element", element).value("head_size", head),
        workgroup_size: WORKGROUP_SIZE,
        constants: &[("ROWS", DELTA_ROWS), ("THREADS", WORKGROUP_SIZE as usize)],
    }
}

/// The launch for so many query rows of all heads and clips.
pub fn row_deltas_call(shader: Shader, rows: usize) -> ShaderCall {
    let count = rows.div_ceil(DELTA_ROWS);
    let down = count.div_ceil(FOLD).max(1);
    ShaderCall { shader, workgroups: [count.div_ceil(down) as u32, down as u32, 1], info: vec![rows as u32] }
}

/// Own and other tokens of a block: OWN_BLOCK and OTHER_BLOCK of the shader. With them its workgroup memory stays under the
/// 32 KiB that DX12 has.
fn blocks(head_padded: usize) -> (usize, usize) {
    match head_padded {
        ..=64 => (32, 16),
        65..=96 => (16, 16),
        _ => (16, 8),
    }
}

/// The shader for a storage type and a head size.
pub fn shader(element: &str, head: usize, key_bias: bool, of: Of, count_work: bool) -> Shader {
    let head_padded = head.next_multiple_of(LANES);
    let (own_block, other_block) = blocks(head_padded);
    let variant = of
        .put_into(Variant::default(), key_bias, count_work)
        .switch("half", element == "f16")
        .value("element", element)
        .value("head_size", head)
        .value("head_padded", head_padded)
        .value("own_block", own_block)
        .value("other_block", other_block);
    Shader {
        name: "tile_attention_backward",
        template: include_str!("../../../../shaders/attention/tile_attention_backward.wgsl"),
        variant,
        workgroup_size: WORKGROUP_SIZE,
        constants: &[("LANES", LANES), ("THREADS", WORKGROUP_SIZE as usize)],
    }
}

/// The launch of `shader` for operands `[batch, heads, _, head]` and so many key frames.
pub fn shader_call(shader: Shader, sizes: [usize; 3], key_frames: usize, tiles: &Tiles, of: Of) -> ShaderCall {
    let [_, _, head] = sizes;
    let (own_block, _) = blocks(head.next_multiple_of(LANES));
    call_in_blocks(shader, own_block, sizes, key_frames, tiles, of)
}

/// The launch of a shader whose workgroups own so many tokens.
pub(super) fn call_in_blocks(
    shader: Shader,
    own_block: usize,
    [batch, heads, head]: [usize; 3],
    key_frames: usize,
    tiles: &Tiles,
    of: Of,
) -> ShaderCall {
    let Side { own_tokens, other_tokens, other_frames, frames } = Side::new(of, tiles, key_frames);
    let own_frames = frames.query_frames();
    let count = own_frames * own_tokens.div_ceil(own_block);
    let sizes = [own_tokens, other_tokens, own_frames, other_frames, heads].map(|size| size as u32);
    let table = frames.offsets().iter().chain(frames.frames()).copied();
    let info = sizes.into_iter().chain([scale(head).to_bits()]).chain(table).collect();
    ShaderCall { shader, workgroups: [count as u32, (batch * heads) as u32, 1], info }
}

/// The gradients of query, key and value, and if wanted, for each workgroup the tiles that it walked through.
pub(super) fn launch_gradients(
    attended: Attended<CubeBackend>,
    key_bias: Option<CubeTensor>,
    tiles: &Tiles,
    count_work: bool,
    tier: ShaderTier,
) -> ([CubeTensor; 3], Vec<CubeTensor>) {
    let Attended { query, key, value, output, row_log_sums, output_gradient } = attended;
    let dtype = key.dtype;
    let [query, key, value, output, gradient] =
        [query, key, value, output, output_gradient].map(|tensor| launch::row_major(tensor, dtype));
    let row_log_sums = launch::row_major(row_log_sums, DType::F32);
    let key_bias = key_bias.map(|bias| launch::row_major(bias, DType::F32));
    let [batch, heads, queries, head]: [usize; 4] = query.meta.shape().dims();
    let [_, _, keys, _]: [usize; 4] = key.meta.shape().dims();
    let key_frames = keys / tiles.key_tokens;

    let row_deltas = launch::empty(&query, Shape::new([batch, heads, queries, 2]), DType::F32);
    let call = row_deltas_call(row_deltas_shader(launch::element(dtype), head), batch * heads * queries);
    launch::launch(call, &[&output, &gradient], &[&row_deltas]);

    let gradients = [&query, &key, &value].map(|operand| launch::empty(&query, operand.meta.shape().clone(), dtype));
    let mut work = Vec::new();
    for of in Of::ALL {
        let sizes = [batch, heads, head];
        let (element, with_bias) = (launch::element(dtype), key_bias.is_some());
        let on_tier = match tier {
            ShaderTier::Matrix => backward_matrix::shader_call(sizes, key_frames, tiles, with_bias, of, count_work),
            ShaderTier::Subgroup => backward_subgroup::Cut::of(head, of).map(|cut| {
                let shader = backward_subgroup::shader(element, cut, with_bias, of, count_work);
                backward_subgroup::shader_call(shader, cut, sizes, key_frames, tiles, of)
            }),
            ShaderTier::Plain | ShaderTier::SubgroupForward => None,
        };
        let call = on_tier.unwrap_or_else(|| {
            let shader = shader(element, head, with_bias, of, count_work);
            shader_call(shader, sizes, key_frames, tiles, of)
        });
        let operands = [&query, &key, &value, &gradient, &row_log_sums, &row_deltas];
        let inputs: Vec<_> = operands.into_iter().chain(&key_bias).collect();
        let mut outputs: Vec<_> = match of {
            Of::Queries => vec![&gradients[0]],
            Of::Keys => vec![&gradients[1], &gradients[2]],
        };
        let counts = count_work.then(|| {
            let workgroups = call.workgroups.iter().map(|&count| count as usize).product();
            launch::empty(&query, Shape::new([workgroups]), DType::F32)
        });
        outputs.extend(&counts);
        launch::launch(call, &inputs, &outputs);
        work.extend(counts);
    }
    (gradients, work)
}

/// The gradients of query, key and value, and the tiles that were computed, over all heads and clips.
pub(super) fn run_gradients_on_cpu(
    attended: Attended<Flex>,
    key_bias: Option<FlexTensor>,
    tiles: &Tiles,
) -> ([FlexTensor; 3], u64) {
    let Attended { query, key, value, output, row_log_sums, output_gradient } = attended;
    let [query, key, value, output, row_log_sums, output_gradient] =
        [query, key, value, output, row_log_sums, output_gradient].map(|tensor| tensor.to_contiguous());
    let key_bias = key_bias.map(|bias| bias.to_contiguous());
    let shape = cpu_shape(&query, &key, tiles);
    let input = TileAttentionBackwardInput {
        forward: cpu_input(&query, &key, Some(&value), key_bias.as_ref(), tiles),
        output: values(&output),
        row_log_sums: values(&row_log_sums),
        output_gradient: values(&output_gradient),
    };
    let operands = [&query, &key, &value];
    let mut gradients = operands.map(|operand| vec![0.0; operand.layout().shape().num_elements()]);
    let [of_query, of_key, of_value] = &mut gradients;
    let outputs = TileAttentionGradients { query: of_query, key: of_key, value: of_value };
    match cpu_tile_attention_backward(InstructionSet::best(), &shape, &input, outputs) {
        Ok(work) => {
            let mut shapes = operands.into_iter().map(|operand| operand.layout().shape().clone());
            let tensors = gradients.map(|values| {
                let shape = shapes.next().expect("an operand for each gradient");
                FlexTensor::from_data(TensorData::new(values, shape))
            });
            (tensors, work.tiles(&shape))
        }
        Err(error) => std::panic::panic_any(KernelError { kernel: "tile_attention_backward", reason: error.to_string() }),
    }
}
