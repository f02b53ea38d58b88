//! What a layer gave, added to the residual stream, with AdaLN's gate or without; and the gradients.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Tensor, TensorData};

use super::cpu::gate_residual::{Gate, gate_gradient as gradient_on_cpu, gate_residual as on_cpu};
use super::cpu::lanes::InstructionSet;
use super::launch::{self, Shader, ShaderCall, Vectors};
use super::rows::{RowCut, WORKGROUP_SIZE, column_sums};
use super::values;
use crate::gpu::shader::Variant;

#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait GateResidualKernel: Backend {
    fn gate_residual(
        tokens: FloatTensor<Self>,
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        gate_row: usize,
    ) -> FloatTensor<Self>;

    fn add_residual(tokens: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self>;

    fn stream_as(tokens: FloatTensor<Self>, stored: DType) -> FloatTensor<Self>;
}

/// What the backward pass asks of a backend; it has no gradient itself.
pub(crate) trait GateGradient: Backend {
    /// The gradients of `x` and of the table.
    fn gate_gradient(
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        gate_row: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// `tokens + x * gate` in f32, for tokens `[batch, tokens, width]` in f32 and `x` of that shape in f16 or f32. The gate is a
/// row of `table` `[batch, rows, width]`, in f32.
pub fn gate_residual(tokens: Tensor<3>, x: Tensor<3>, table: Tensor<3>, gate_row: usize) -> Tensor<3> {
    let ([batch, _, width], [table_batch, table_rows, table_width]) = (tokens.dims(), table.dims());
    assert_eq!(tokens.dims(), x.dims(), "the layer's output does not fit the tokens");
    assert_eq!([batch, width], [table_batch, table_width], "the table does not fit the tokens");
    assert!(gate_row < table_rows, "the table has no such row");
    let [tokens, x, table] = [tokens, x, table].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::gate_residual(tokens, x, table, gate_row))
}

/// `tokens + x` in f32, for tokens `[batch, tokens, width]` in f32 and `x` of that shape in f16 or f32.
pub fn add_residual(tokens: Tensor<3>, x: Tensor<3>) -> Tensor<3> {
    assert_eq!(tokens.dims(), x.dims(), "the layer's output does not fit the tokens");
    Tensor::from_dispatch(Dispatch::add_residual(tokens.into_dispatch(), x.into_dispatch()))
}

/// The residual stream `tokens` in the type in which a layer takes it, f16 or f32, where the tokens are also added to what is
/// computed from the result. So they have their gradient from there before the layer gives them its own, and the backward pass
/// converts and adds in one go. A backward pass in which that sum has no part panics.
pub fn stream_as(tokens: Tensor<3>, stored: DType) -> Tensor<3> {
    if tokens.dtype() == stored {
        return tokens;
    }
    Tensor::from_dispatch(Dispatch::stream_as(tokens.into_dispatch(), stored))
}

pub fn shader(vectors: Vectors, width: usize, gated: bool) -> Shader {
    Shader {
        name: "gate_residual",
        template: include_str!("../../../shaders/transformer/gate_residual.wgsl"),
        // Without a gate rows do not matter, and one text is enough.
        variant: vectors
            .put_into(Variant::default())
            .switch("gated", gated)
            .value("elements", if gated { width / vectors.length() } else { 1 }),
        workgroup_size: WORKGROUP_SIZE,
        constants: &[("THREADS", WORKGROUP_SIZE as usize)],
    }
}

/// The launch for tokens of that shape; with a gate, the number of rows of the table and the gate's.
pub fn shader_call(vectors: Vectors, [batch, tokens, width]: [usize; 3], gate: Option<[usize; 2]>) -> ShaderCall {
    let elements = tokens * width / vectors.length();
    let [across, down] = launch::folded(elements.div_ceil(WORKGROUP_SIZE as usize));
    let info = [elements].into_iter().chain(gate.into_iter().flatten()).map(|size| size as u32).collect();
    ShaderCall { shader: shader(vectors, width, gate.is_some()), workgroups: [across, down, batch as u32], info }
}

pub fn gradient_shader(cut: RowCut) -> Shader {
    Shader {
        name: "gate_gradient",
        template: include_str!("../../../shaders/transformer/gate_gradient.wgsl"),
        variant: cut.put_into(Variant::default()),
        workgroup_size: WORKGROUP_SIZE,
        constants: &[("THREADS", WORKGROUP_SIZE as usize)],
    }
}

/// The launch for `[batch, tokens]` rows and a table of so many, with the number of chunks whose sums it gives.
pub fn gradient_shader_call(cut: RowCut, [batch, tokens]: [usize; 2], table_rows: usize, gate_row: usize) -> (ShaderCall, usize) {
    let chunks = cut.chunks(batch, tokens);
    let info = [tokens, chunks.rounds, table_rows, gate_row].map(|size| size as u32).to_vec();
    let workgroups = [chunks.count as u32, batch as u32, 1];
    (ShaderCall { shader: gradient_shader(cut), workgroups, info }, chunks.count)
}

fn on_adapter(tokens: CubeTensor, x: CubeTensor, gate: Option<(CubeTensor, usize)>) -> CubeTensor {
    let stored = x.dtype;
    let (tokens, x) = (launch::row_major(tokens, DType::F32), launch::row_major(x, stored));
    let gate = gate.map(|(table, row)| (launch::row_major(table, DType::F32), row));
    let shape: [usize; 3] = tokens.meta.shape().dims();
    let output = launch::empty(&tokens, tokens.meta.shape().clone(), DType::F32);
    let rows = gate.as_ref().map(|(table, row)| [table.meta.shape()[1], *row]);
    let call = shader_call(Vectors::of(stored, shape[2]), shape, rows);
    let inputs: Vec<_> = [&tokens, &x].into_iter().chain(gate.as_ref().map(|(table, _)| table)).collect();
    launch::launch(call, &inputs, &[&output]);
    output
}

impl GateResidualKernel for CubeBackend {
    fn gate_residual(
        tokens: FloatTensor<Self>,
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        gate_row: usize,
    ) -> FloatTensor<Self> {
        on_adapter(tokens, x, Some((table, gate_row)))
    }

    fn add_residual(tokens: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        on_adapter(tokens, x, None)
    }

    fn stream_as(tokens: FloatTensor<Self>, stored: DType) -> FloatTensor<Self> {
        Self::float_cast(tokens, stored.into())
    }
}

impl GateGradient for CubeBackend {
    fn gate_gradient(
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        gate_row: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let stored = x.dtype;
        let x = launch::row_major(x, stored);
        let [table, gradient] = [table, gradient].map(|tensor| launch::row_major(tensor, DType::F32));
        let [batch, tokens, width]: [usize; 3] = x.meta.shape().dims();
        let table_rows = table.meta.shape()[1];
        let (call, chunks) = gradient_shader_call(RowCut::of(stored, width), [batch, tokens], table_rows, gate_row);
        let x_gradient = launch::empty(&x, x.meta.shape().clone(), stored);
        let sums = launch::empty(&x, Shape::new([batch, chunks, 1, width]), DType::F32);
        launch::launch(call, &[&x, &table, &gradient], &[&x_gradient, &sums]);
        (x_gradient, column_sums(&sums, table_rows, &[gate_row]))
    }
}

/// Sizes for the CPU's kernel.
fn on_flex(x: &FlexTensor, table: &FlexTensor, gate_row: usize) -> Gate {
    let [batch, tokens, width]: [usize; 3] = x.layout().shape().dims();
    let [_, table_rows, _]: [usize; 3] = table.layout().shape().dims();
    Gate { batch, tokens, width, table_rows, gate_row }
}

impl GateResidualKernel for Flex {
    fn gate_residual(
        tokens: FloatTensor<Self>,
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        gate_row: usize,
    ) -> FloatTensor<Self> {
        let call = on_flex(&x, &table, gate_row);
        let shape = x.layout().shape().clone();
        let [tokens, x, table] = [tokens, x, table].map(|tensor| tensor.to_contiguous());
        let mut output = vec![0.0; shape.num_elements()];
        on_cpu(InstructionSet::best(), &call, values(&tokens), values(&x), values(&table), &mut output);
        FlexTensor::from_data(TensorData::new(output, shape))
    }

    fn add_residual(tokens: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_add(tokens, x)
    }

    fn stream_as(tokens: FloatTensor<Self>, stored: DType) -> FloatTensor<Self> {
        Self::float_cast(tokens, stored.into())
    }
}

impl GateGradient for Flex {
    fn gate_gradient(
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        gate_row: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let call = on_flex(&x, &table, gate_row);
        let [x_shape, table_shape] = [&x, &table].map(|tensor| tensor.layout().shape().clone());
        let [x, table, gradient] = [x, table, gradient].map(|tensor| tensor.to_contiguous());
        let (x_gradient, table_gradient) =
            gradient_on_cpu(InstructionSet::best(), &call, values(&x), values(&table), values(&gradient));
        let tensor = |values, shape| FlexTensor::from_data(TensorData::new(values, shape));
        (tensor(x_gradient, x_shape), tensor(table_gradient, table_shape))
    }
}

#[derive(Debug)]
struct GateBackward;

impl<B: GateGradient> Backward<B, 3> for GateBackward {
    /// `x`, the table, and the gate's row.
    type State = (NodeId, NodeId, usize);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (x, table, gate_row) = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
        let table: FloatTensor<B> = checkpointer.retrieve_node_output(table);
        let [tokens_parent, x_parent, table_parent] = ops.parents;
        if x_parent.is_some() || table_parent.is_some() {
            let (x_gradient, table_gradient) = B::gate_gradient(x, table, gradient.clone(), gate_row);
            for (parent, gradient) in [(x_parent, x_gradient), (table_parent, table_gradient)] {
                if let Some(parent) = parent {
                    gradients.register::<B>(parent.id, gradient);
                }
            }
        }
        if let Some(parent) = tokens_parent {
            gradients.register::<B>(parent.id, gradient);
        }
    }
}

#[derive(Debug)]
struct AddBackward;

impl<B: Backend> Backward<B, 2> for AddBackward {
    /// The storage type of `x`.
    type State = DType;

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [tokens_parent, x_parent] = ops.parents;
        if let Some(parent) = x_parent {
            let same = gradient.dtype() == ops.state;
            let gradient = if same { gradient.clone() } else { B::float_cast(gradient.clone(), ops.state.into()) };
            gradients.register::<B>(parent.id, gradient);
        }
        if let Some(parent) = tokens_parent {
            gradients.register::<B>(parent.id, gradient);
        }
    }
}

#[derive(Debug)]
struct StreamBackward;

impl<B: GateResidualKernel> Backward<B, 1> for StreamBackward {
    type State = ();

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        let Some(parent) = parent else { return };
        // The gradient of what a caller asked for stays where it is, and burn adds to it.
        let sum = if parent.requirement == ops.node.requirement {
            let stream = gradients.consume::<B>(&parent);
            B::add_residual(stream, gradient)
        } else {
            B::float_cast(gradient, DType::F32.into())
        };
        gradients.register::<B>(parent.id, sum);
    }
}

impl<B: GateResidualKernel + GateGradient, C: CheckpointStrategy> GateResidualKernel for Autodiff<B, C> {
    fn gate_residual(
        tokens: FloatTensor<Self>,
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        gate_row: usize,
    ) -> FloatTensor<Self> {
        match GateBackward.prepare::<C>([tokens.node(), x.node(), table.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut preparation) => {
                let state = (preparation.checkpoint(&x), preparation.checkpoint(&table), gate_row);
                let [tokens, x, table] = [tokens, x, table].map(|tensor| tensor.into_primitive());
                preparation.finish(state, B::gate_residual(tokens, x, table, gate_row))
            }
            OpsKind::UnTracked(preparation) => {
                let [tokens, x, table] = [tokens, x, table].map(|tensor| tensor.into_primitive());
                preparation.finish(B::gate_residual(tokens, x, table, gate_row))
            }
        }
    }

    fn add_residual(tokens: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        let stored = x.dtype();
        match AddBackward.prepare::<C>([tokens.node(), x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => {
                preparation.finish(stored, B::add_residual(tokens.into_primitive(), x.into_primitive()))
            }
            OpsKind::UnTracked(preparation) => preparation.finish(B::add_residual(tokens.into_primitive(), x.into_primitive())),
        }
    }
    fn stream_as(tokens: FloatTensor<Self>, stored: DType) -> FloatTensor<Self> {
        let preparation = StreamBackward.prepare::<C>([tokens.node()]).compute_bound();
        preparation.stateless(B::stream_as(tokens.into_primitive(), stored))
    }
}
