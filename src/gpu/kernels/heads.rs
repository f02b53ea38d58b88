//! Between tokens and heads: the change of layout around attention, with the rotary embedding on the way.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Tensor, TensorData};

use super::cpu::heads::{Heads, merge as merge_on_cpu, split as split_on_cpu};
use super::launch::{self, Shader, ShaderCall, Vectors};
use super::values;
use crate::gpu::shader::Variant;

#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait HeadsKernel: Backend {
    fn split_heads(x: FloatTensor<Self>, heads: usize) -> FloatTensor<Self>;
    fn split_and_rotate_heads(x: FloatTensor<Self>, table: FloatTensor<Self>, heads: usize) -> FloatTensor<Self>;
    fn merge_heads(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// What the backward pass asks of a backend; it has no gradient itself.
pub(crate) trait RotationGradient: Backend {
    /// Turns back by the same angles, and merges.
    fn merge_and_turn_back(x: FloatTensor<Self>, table: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// `[batch, tokens, heads * head]` to `[batch, heads, tokens, head]`, in f16 or f32.
pub fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [_, _, width] = x.dims();
    assert!(width.is_multiple_of(heads), "{width} channels are not {heads} heads");
    Tensor::from_dispatch(Dispatch::split_heads(x.into_dispatch(), heads))
}

/// [`split_heads`] of queries or keys, turned by the 3D rotary embedding in f32.
///
/// A head is three runs of channels, for t, h and w. In each, channel i of the first half becomes `first cos - second sin`, and
/// channel i of the second half `second cos + first sin`. `table` `[tokens, 2, head / 2]` in f32 holds the cosines of a token's
/// three runs, then the sines.
pub fn split_and_rotate_heads(x: Tensor<3>, table: Tensor<3>, heads: usize) -> Tensor<4> {
    let [_, tokens, width] = x.dims();
    assert!(width.is_multiple_of(6 * heads), "{width} channels are not {heads} heads of three runs");
    assert_eq!(table.dims(), [tokens, 2, width / heads / 2], "the rotary table does not fit the tokens");
    Tensor::from_dispatch(Dispatch::split_and_rotate_heads(x.into_dispatch(), table.into_dispatch(), heads))
}

/// `[batch, heads, tokens, head]` to `[batch, tokens, heads * head]`, in f16 or f32.
pub fn merge_heads(x: Tensor<4>) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::merge_heads(x.into_dispatch()))
}

const WORKGROUP_SIZE: u32 = 256;

/// Values of a head that move alike, one after the other: half of a run where it is turned.
pub(super) fn neighbours(head: usize, rotate: bool) -> usize {
    if rotate { head / 6 } else { head }
}

/// The shader for heads that are merged or split; `vectors` must fit the head.
pub fn shader(vectors: Vectors, heads: usize, head: usize, merge: bool, rotate: bool) -> Shader {
    Shader {
        name: "heads",
        template: include_str!("../../../shaders/transformer/heads.wgsl"),
        variant: vectors
            .put_into(Variant::default())
            .switch("merge", merge)
            .switch("rotate", rotate)
            .value("heads", heads)
            .value("elements", head / vectors.length()),
        workgroup_size: WORKGROUP_SIZE,
        constants: &[("THREADS", WORKGROUP_SIZE as usize)],
    }
}

/// The launch for `[batch, heads, tokens, head]`.
pub fn shader_call(vectors: Vectors, [batch, heads, tokens, head]: [usize; 4], merge: bool, rotate: bool) -> ShaderCall {
    let items = tokens * heads * head / vectors.length() / if rotate { 2 } else { 1 };
    let [across, down] = launch::folded(items.div_ceil(WORKGROUP_SIZE as usize));
    let shader = shader(vectors, heads, head, merge, rotate);
    ShaderCall { shader, workgroups: [across, down, batch as u32], info: vec![tokens as u32] }
}

fn on_adapter(x: CubeTensor, table: Option<CubeTensor>, shape: [usize; 4], merge: bool) -> CubeTensor {
    let stored = x.dtype;
    let (x, table) = (launch::row_major(x, stored), table.map(|table| launch::row_major(table, DType::F32)));
    let [batch, heads, tokens, head] = shape;
    let output_shape = if merge { Shape::new([batch, tokens, heads * head]) } else { Shape::new(shape) };
    let output = launch::empty(&x, output_shape, stored);
    let vectors = Vectors::of(stored, neighbours(head, table.is_some()));
    let inputs: Vec<_> = [&x].into_iter().chain(&table).collect();
    launch::launch(shader_call(vectors, shape, merge, table.is_some()), &inputs, &[&output]);
    output
}

/// `[batch, heads, tokens, head]` of what is not yet split.
fn shape_of_heads(shape: &Shape, heads: usize) -> [usize; 4] {
    let [batch, tokens, width]: [usize; 3] = shape.dims();
    [batch, heads, tokens, width / heads]
}

impl HeadsKernel for CubeBackend {
    fn split_heads(x: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let shape = shape_of_heads(x.meta.shape(), heads);
        on_adapter(x, None, shape, false)
    }

    fn split_and_rotate_heads(x: FloatTensor<Self>, table: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let shape = shape_of_heads(x.meta.shape(), heads);
        on_adapter(x, Some(table), shape, false)
    }

    fn merge_heads(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = x.meta.shape().dims();
        on_adapter(x, None, shape, true)
    }
}

impl RotationGradient for CubeBackend {
    fn merge_and_turn_back(x: FloatTensor<Self>, table: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = x.meta.shape().dims();
        on_adapter(x, Some(table), shape, true)
    }
}

fn split_on_flex(x: FlexTensor, table: Option<FlexTensor>, heads: usize) -> FlexTensor {
    let [batch, heads, tokens, head] = shape_of_heads(x.layout().shape(), heads);
    let (x, table) = (x.to_contiguous(), table.map(|table| table.to_contiguous()));
    let output = split_on_cpu(&Heads { batch, heads, tokens, head }, values(&x), table.as_ref().map(values));
    FlexTensor::from_data(TensorData::new(output, [batch, heads, tokens, head]))
}

fn merge_on_flex(x: FlexTensor, table: Option<FlexTensor>) -> FlexTensor {
    let [batch, heads, tokens, head]: [usize; 4] = x.layout().shape().dims();
    let (x, table) = (x.to_contiguous(), table.map(|table| table.to_contiguous()));
    let output = merge_on_cpu(&Heads { batch, heads, tokens, head }, values(&x), table.as_ref().map(values));
    FlexTensor::from_data(TensorData::new(output, [batch, tokens, heads * head]))
}

impl HeadsKernel for Flex {
    fn split_heads(x: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        split_on_flex(x, None, heads)
    }

    fn split_and_rotate_heads(x: FloatTensor<Self>, table: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        split_on_flex(x, Some(table), heads)
    }

    fn merge_heads(x: FloatTensor<Self>) -> FloatTensor<Self> {
        merge_on_flex(x, None)
    }
}

impl RotationGradient for Flex {
    fn merge_and_turn_back(x: FloatTensor<Self>, table: FloatTensor<Self>) -> FloatTensor<Self> {
        merge_on_flex(x, Some(table))
    }
}

#[derive(Debug)]
struct SplitBackward;

impl<B: HeadsKernel> Backward<B, 1> for SplitBackward {
    type State = ();

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            gradients.register::<B>(parent.id, B::merge_heads(gradient));
        }
    }
}

#[derive(Debug)]
struct MergeBackward;

impl<B: HeadsKernel> Backward<B, 1> for MergeBackward {
    /// The number of heads.
    type State = usize;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            gradients.register::<B>(parent.id, B::split_heads(gradient, ops.state));
        }
    }
}

#[derive(Debug)]
struct RotateBackward;

impl<B: RotationGradient> Backward<B, 1> for RotateBackward {
    /// The table, which has no gradient.
    type State = NodeId;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let table: FloatTensor<B> = checkpointer.retrieve_node_output(ops.state);
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            gradients.register::<B>(parent.id, B::merge_and_turn_back(gradient, table));
        }
    }
}

impl<B: HeadsKernel + RotationGradient, C: CheckpointStrategy> HeadsKernel for Autodiff<B, C> {
    fn split_heads(x: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let preparation = SplitBackward.prepare::<C>([x.node()]).compute_bound();
        preparation.stateless(B::split_heads(x.into_primitive(), heads))
    }

    fn split_and_rotate_heads(x: FloatTensor<Self>, table: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        match RotateBackward.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut preparation) => {
                let state = preparation.checkpoint(&table);
                preparation.finish(state, B::split_and_rotate_heads(x.into_primitive(), table.into_primitive(), heads))
            }
            OpsKind::UnTracked(preparation) => {
                preparation.finish(B::split_and_rotate_heads(x.into_primitive(), table.into_primitive(), heads))
            }
        }
    }

    fn merge_heads(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let [_, heads, _, _]: [usize; 4] = x.shape().dims();
        match MergeBackward.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish(heads, B::merge_heads(x.into_primitive())),
            OpsKind::UnTracked(preparation) => preparation.finish(B::merge_heads(x.into_primitive())),
        }
    }
}
