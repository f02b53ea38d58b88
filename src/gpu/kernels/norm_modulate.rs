//! LayerNorm without affine followed by AdaLN's modulation, and its gradient: one pass over memory each.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Shape, Tensor, TensorData};

use super::cpu::lanes::InstructionSet;
use super::cpu::norm_modulate::{NormModulate, norm_modulate as on_cpu, norm_modulate_gradient as gradient_on_cpu};
use super::launch::{self, Shader, ShaderCall};
use super::rows::{RowCut, WORKGROUP_SIZE, column_sums};
use super::values;
use crate::gpu::shader::Variant;

/// Rows of a table of modulations `[batch, rows, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShiftAndScale {
    pub shift: usize,
    pub scale: usize,
}

/// Where a norm stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// Nothing, or anything, else takes the norm's input.
    Anywhere,
    /// On a residual stream: the norm's input is also added to what is computed from the norm's result. So the input has its
    /// gradient from there before the norm gives it its own, and the norm's backward pass adds the two on the way. (burn would
    /// add them in a pass of its own.) A backward pass in which that sum has no part panics.
    Stream,
}

#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait NormModulateKernel: Backend {
    fn norm_modulate(
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        rows: ShiftAndScale,
        epsilon: f64,
        stored: DType,
        place: NormPlace,
    ) -> FloatTensor<Self>;
}

/// What the backward pass asks of a backend; it has no gradient itself.
pub(crate) trait NormModulateGradient: Backend {
    /// The gradients of `x` and of the table. `stream` is added to the former.
    fn norm_modulate_gradient(
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        stream: Option<FloatTensor<Self>>,
        rows: ShiftAndScale,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// `(x - mean) / sqrt(variance + epsilon) * (1 + scale) + shift` over the last axis of `x` `[batch, tokens, width]`; shift and
/// scale are rows of `table` `[batch, rows, width]`. Both are f32, and so is the arithmetic; the result is stored as `stored`,
/// f16 or f32. (The norms of a DiT block, Peebles and Xie 2023, figure 3.)
pub fn norm_modulate(
    x: Tensor<3>,
    table: Tensor<3>,
    rows: ShiftAndScale,
    epsilon: f64,
    stored: DType,
    place: NormPlace,
) -> Tensor<3> {
    let ([batch, _, width], [table_batch, table_rows, table_width]) = (x.dims(), table.dims());
    assert_eq!([batch, width], [table_batch, table_width], "the table does not fit the tokens");
    assert!(rows.shift < table_rows && rows.scale < table_rows && rows.shift != rows.scale, "the table has no such rows");
    Tensor::from_dispatch(Dispatch::norm_modulate(x.into_dispatch(), table.into_dispatch(), rows, epsilon, stored, place))
}

pub fn shader(cut: RowCut) -> Shader {
    Shader {
        name: "norm_modulate",
        template: include_str!("../../../shaders/transformer/norm_modulate.wgsl"),
        variant: cut.put_into(Variant::default()).switch("centred", true),
        workgroup_size: WORKGROUP_SIZE,
        constants: &[("THREADS", WORKGROUP_SIZE as usize)],
    }
}

/// The launch for `[batch, tokens]` rows and a table of so many.
pub fn shader_call(cut: RowCut, [batch, tokens]: [usize; 2], table_rows: usize, rows: ShiftAndScale, epsilon: f64) -> ShaderCall {
    let [across, down] = launch::folded((batch * tokens).div_ceil(cut.rows()));
    let sizes = [batch * tokens, tokens, table_rows, rows.shift, rows.scale].map(|size| size as u32);
    let info = sizes.into_iter().chain([(epsilon as f32).to_bits()]).collect();
    ShaderCall { shader: shader(cut), workgroups: [across, down, 1], info }
}

/// The shader of the gradient; `of_stream` for [`NormPlace::Stream`].
pub fn gradient_shader(cut: RowCut, of_stream: bool) -> Shader {
    Shader {
        name: "norm_modulate_gradient",
        template: include_str!("../../../shaders/transformer/norm_modulate_gradient.wgsl"),
        variant: cut
            .put_into(Variant::default())
            .switch("centred", true)
            .switch("quantity_0_is_shift", true)
            .switch("of_stream", of_stream)
            .value("quantities", 2),
        workgroup_size: WORKGROUP_SIZE,
        constants: &[("THREADS", WORKGROUP_SIZE as usize)],
    }
}

/// The launch for `[batch, tokens]` rows and a table of so many, with the number of chunks whose sums it gives.
pub fn gradient_shader_call(
    cut: RowCut,
    [batch, tokens]: [usize; 2],
    table_rows: usize,
    scale_row: usize,
    epsilon: f64,
    of_stream: bool,
) -> (ShaderCall, usize) {
    let chunks = cut.chunks(batch, tokens);
    let sizes = [tokens, chunks.rounds, table_rows, scale_row].map(|size| size as u32);
    let info = sizes.into_iter().chain([(epsilon as f32).to_bits()]).collect();
    let workgroups = [chunks.count as u32, batch as u32, 1];
    (ShaderCall { shader: gradient_shader(cut, of_stream), workgroups, info }, chunks.count)
}

impl NormModulateKernel for CubeBackend {
    fn norm_modulate(
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        rows: ShiftAndScale,
        epsilon: f64,
        stored: DType,
        _place: NormPlace,
    ) -> FloatTensor<Self> {
        let [x, table] = [x, table].map(|tensor| launch::row_major(tensor, DType::F32));
        let [batch, tokens, width]: [usize; 3] = x.meta.shape().dims();
        let output = launch::empty(&x, x.meta.shape().clone(), stored);
        let call = shader_call(RowCut::of(stored, width), [batch, tokens], table.meta.shape()[1], rows, epsilon);
        launch::launch(call, &[&x, &table], &[&output]);
        output
    }
}

impl NormModulateGradient for CubeBackend {
    fn norm_modulate_gradient(
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        stream: Option<FloatTensor<Self>>,
        rows: ShiftAndScale,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [x, table] = [x, table].map(|tensor| launch::row_major(tensor, DType::F32));
        let stored = gradient.dtype;
        let gradient = launch::row_major(gradient, stored);
        let stream = stream.map(|stream| launch::row_major(stream, DType::F32));
        let [batch, tokens, width]: [usize; 3] = x.meta.shape().dims();
        let table_rows = table.meta.shape()[1];
        let cut = RowCut::of(stored, width);
        let (call, chunks) = gradient_shader_call(cut, [batch, tokens], table_rows, rows.scale, epsilon, stream.is_some());
        let x_gradient = launch::empty(&x, x.meta.shape().clone(), DType::F32);
        let sums = launch::empty(&x, Shape::new([batch, chunks, 2, width]), DType::F32);
        let inputs: Vec<_> = [&x, &table, &gradient].into_iter().chain(&stream).collect();
        launch::launch(call, &inputs, &[&x_gradient, &sums]);
        (x_gradient, column_sums(&sums, table_rows, &[rows.shift, rows.scale]))
    }
}

/// Sizes for the CPU's kernel.
fn on_flex(x: &FlexTensor, table: &FlexTensor, rows: ShiftAndScale, epsilon: f64) -> NormModulate {
    let [batch, tokens, width]: [usize; 3] = x.layout().shape().dims();
    let [_, table_rows, _]: [usize; 3] = table.layout().shape().dims();
    NormModulate { batch, tokens, width, table_rows, shift_row: rows.shift, scale_row: rows.scale, epsilon: epsilon as f32 }
}

impl NormModulateKernel for Flex {
    fn norm_modulate(
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        rows: ShiftAndScale,
        epsilon: f64,
        _stored: DType,
        _place: NormPlace,
    ) -> FloatTensor<Self> {
        let call = on_flex(&x, &table, rows, epsilon);
        let shape = x.layout().shape().clone();
        let [x, table] = [x, table].map(|tensor| tensor.to_contiguous());
        let mut output = vec![0.0; shape.num_elements()];
        on_cpu(InstructionSet::best(), &call, values(&x), values(&table), &mut output);
        FlexTensor::from_data(TensorData::new(output, shape))
    }
}

impl NormModulateGradient for Flex {
    fn norm_modulate_gradient(
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        stream: Option<FloatTensor<Self>>,
        rows: ShiftAndScale,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let call = on_flex(&x, &table, rows, epsilon);
        let [x_shape, table_shape] = [&x, &table].map(|tensor| tensor.layout().shape().clone());
        let [x, table, gradient] = [x, table, gradient].map(|tensor| tensor.to_contiguous());
        let (x_gradient, table_gradient) =
            gradient_on_cpu(InstructionSet::best(), &call, values(&x), values(&table), values(&gradient));
        let tensor = |values, shape| FlexTensor::from_data(TensorData::new(values, shape));
        let x_gradient = tensor(x_gradient, x_shape);
        let x_gradient = match stream {
            Some(stream) => Self::float_add(stream, x_gradient),
            None => x_gradient,
        };
        (x_gradient, tensor(table_gradient, table_shape))
    }
}

#[derive(Debug)]
struct NormModulateBackward;

/// What the gradient is computed from.
#[derive(Clone, Debug)]
struct NormModulateState {
    x: NodeId,
    table: NodeId,
    rows: ShiftAndScale,
    epsilon: f64,
    place: NormPlace,
}

impl<B: NormModulateGradient> Backward<B, 2> for NormModulateBackward {
    type State = NormModulateState;

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let NormModulateState { x, table, rows, epsilon, place } = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
        let table: FloatTensor<B> = checkpointer.retrieve_node_output(table);
        // The gradient of what a caller asked for stays where it is, and burn adds to it.
        let own = ops.node.requirement;
        let stream = ops.parents[0].as_ref().filter(|parent| place == NormPlace::Stream && parent.requirement == own);
        let stream = stream.map(|parent| gradients.consume::<B>(parent));
        let (x_gradient, table_gradient) = B::norm_modulate_gradient(x, table, gradient, stream, rows, epsilon);
        for (parent, gradient) in ops.parents.into_iter().zip([x_gradient, table_gradient]) {
            if let Some(parent) = parent {
                gradients.register::<B>(parent.id, gradient);
            }
        }
    }
}

impl<B: NormModulateKernel + NormModulateGradient, C: CheckpointStrategy> NormModulateKernel for Autodiff<B, C> {
    fn norm_modulate(
        x: FloatTensor<Self>,
        table: FloatTensor<Self>,
        rows: ShiftAndScale,
        epsilon: f64,
        stored: DType,
        place: NormPlace,
    ) -> FloatTensor<Self> {
        match NormModulateBackward.prepare::<C>([x.node(), table.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut preparation) => {
                let (x_id, table_id) = (preparation.checkpoint(&x), preparation.checkpoint(&table));
                let output = B::norm_modulate(x.into_primitive(), table.into_primitive(), rows, epsilon, stored, place);
                preparation.finish(NormModulateState { x: x_id, table: table_id, rows, epsilon, place }, output)
            }
            OpsKind::UnTracked(preparation) => {
                preparation.finish(B::norm_modulate(x.into_primitive(), table.into_primitive(), rows, epsilon, stored, place))
            }
        }
    }
}
