//! `x W + b` with an optional GELU: in f16 on matrices, or on the subgroup tier in blocks of registers, with f32 sums. Elsewhere
//! it is burn's own matrix product.
//!
//! Its gradients are products as well: that of the input with the transposed weight, that of the weight over all rows. The
//! latter is never burn's on an adapter: its inner axis is long and its result small, which burn gives to a few workgroups;
//! [`super::gradient`] cuts the axis into parts.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};

use super::OptionalTensor;
use super::block_product::{self, Block};
use super::gelu::gelu_tanh;
use super::gradient::{GradientKernel, POINT};
use super::launch::{self, Shader, ShaderCall};
use super::product::{self, LARGE, Options, SMALL, SQUARE, Tile};
use crate::gpu::tier::ShaderTier;

/// What happens to the sums before they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    None,
    GeluTanh,
}

/// How a product is cut for one of the faster tiers.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// The matrix tier.
    Tile(Tile),
    /// The subgroup tier. Inner size and columns are multiples of 4.
    Block(Block),
}

impl Cut {
    /// The cut for `[rows, inner] x [inner, columns]` on a tier; None if burn's product takes these sizes. The way back of a cut
    /// runs on the cut's tier.
    fn of(tier: ShaderTier, [rows, inner, columns]: [usize; 3]) -> Option<Self> {
        match tier {
            ShaderTier::Matrix => tile_for(rows, inner, columns).copied().map(Self::Tile),
            ShaderTier::Subgroup => {
                let taken = rows >= FEWEST_ROWS && Block::takes(inner, columns);
                taken.then(|| Self::Block(Block::of(rows, columns)))
            }
            ShaderTier::Plain | ShaderTier::SubgroupForward => None,
        }
    }

    fn tier(self) -> ShaderTier {
        match self {
            Self::Tile(_) => ShaderTier::Matrix,
            Self::Block(_) => ShaderTier::Subgroup,
        }
    }
}

#[backend_extension(Cube, Autodiff)]
pub(crate) trait LinearKernel: Backend {
    fn linear_cut(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: OptionalTensor<Self>,
        activation: Activation,
        cut: Cut,
    ) -> FloatTensor<Self>;
}

#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait PlainLinearKernel: Backend {
    /// `x weight + bias` for `x` `[rows, in]`.
    fn plain_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: OptionalTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// What the backward pass asks of a backend; it has no gradient itself.
pub(crate) trait PlainLinearGradient: Backend {
    /// The gradient of the weight, from the input `[rows, in]` and the output's gradient `[rows, out]`.
    fn plain_weight_gradient(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of the bias.
    fn plain_bias_gradient(gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// Fewer rows are a product of a vector, which burn does as well.
const FEWEST_ROWS: usize = 16;
/// Values of the output from which on large tiles fill a card.
const LARGE_OUTPUT: usize = 1 << 22;

/// The tile for `[rows, inner] x [inner, columns]`; None if there is none for these sizes.
pub fn tile_for(rows: usize, inner: usize, columns: usize) -> Option<&'static Tile> {
    let tile = match rows * columns {
        ..LARGE_OUTPUT => &SMALL,
        _ if columns.is_multiple_of(SQUARE.columns) && !columns.is_multiple_of(LARGE.columns) => &SQUARE,
        _ => &LARGE,
    };
    (rows >= FEWEST_ROWS && tile.loads(inner, columns)).then_some(tile)
}

/// `activation(x weight + bias)` for `x` `[.., in]` and `weight` `[in, out]`, all in one storage type.
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>, activation: Activation) -> Tensor<D> {
    let [inner, columns] = weight.dims();
    let mut shape = x.dims();
    assert_eq!(shape[D - 1], inner, "the weight does not fit the input");
    shape[D - 1] = columns;
    let rows = shape[..D - 1].iter().product();
    let tier = match ShaderTier::of(&x.device(), x.dtype()) {
        ShaderTier::SubgroupForward if !is_tracked(&x, &weight, bias.as_ref()) => ShaderTier::Subgroup,
        tier => tier,
    };
    if let Some(cut) = Cut::of(tier, [rows, inner, columns]) {
        return linear_cut(x.reshape([rows, inner]), weight, bias, activation, cut).reshape(shape);
    }
    let product = if weight.is_tracked() {
        let [x, weight] = [x.reshape([rows, inner]), weight].map(Tensor::into_dispatch);
        Tensor::<2>::from_dispatch(Dispatch::plain_linear(x, weight, bias.into())).reshape(shape)
    } else {
        burn::tensor::module::linear(x, weight, bias)
    };
    match activation {
        Activation::None => product,
        Activation::GeluTanh => gelu_tanh(product),
    }
}

/// [`linear`] on the tier of a cut.
pub fn linear_cut(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, activation: Activation, cut: Cut) -> Tensor<2> {
    let tracked = is_tracked(&x, &weight, bias.as_ref());
    // The gradient of GELU needs what went into it.
    let fused = if tracked { Activation::None } else { activation };
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    let product = Tensor::from_dispatch(Dispatch::linear_cut(x, weight, bias.into(), fused, cut));
    if fused == activation { product } else { gelu_tanh(product) }
}

fn is_tracked<const D: usize>(x: &Tensor<D>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> bool {
    x.is_tracked() || weight.is_tracked() || bias.is_some_and(Tensor::is_tracked)
}

/// The shader of the subgroup tier.
pub fn block_shader(element: &str, block: Block, bias: bool, activation: Activation) -> Shader {
    let gelu_tanh = activation == Activation::GeluTanh;
    let options = block_product::Options { bias, gelu_tanh, ..Default::default() };
    block_product::shader("linear", element, block, options)
}

pub fn shader(tile: &Tile, inner: usize, columns: usize, bias: bool, activation: Activation) -> Shader {
    let gelu_tanh = activation == Activation::GeluTanh;
    product::shader("linear", tile, inner, columns, Options { bias, gelu_tanh, ..Options::default() })
}

pub fn shader_call(shader: Shader, tile: &Tile, rows: usize, columns: usize) -> ShaderCall {
    let [across, down] = tile.workgroups(rows, columns);
    ShaderCall { shader, workgroups: [across, down, 1], info: vec![rows as u32] }
}

impl LinearKernel for CubeBackend {
    fn linear_cut(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: OptionalTensor<Self>,
        activation: Activation,
        cut: Cut,
    ) -> FloatTensor<Self> {
        let dtype = x.dtype;
        let [x, weight] = [x, weight].map(|tensor| launch::row_major(tensor, dtype));
        let bias = bias.into_option().map(|bias| launch::row_major(bias, dtype));
        let [rows, inner]: [usize; 2] = x.meta.shape().dims();
        let [_, columns]: [usize; 2] = weight.meta.shape().dims();
        let output = launch::empty(&x, Shape::new([rows, columns]), dtype);
        let call = match cut {
            Cut::Tile(tile) => shader_call(shader(&tile, inner, columns, bias.is_some(), activation), &tile, rows, columns),
            Cut::Block(block) => {
                let shader = block_shader(launch::element(dtype), block, bias.is_some(), activation);
                block_product::shader_call(shader, block, [rows, inner, columns])
            }
        };
        let mut inputs = vec![&x, &weight];
        inputs.extend(bias.as_ref());
        launch::launch(call, &inputs, &[&output]);
        output
    }
}

impl<B: Backend + LinearKernel + GradientKernel, C: CheckpointStrategy> LinearKernel for Autodiff<B, C> {
    fn linear_cut(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: OptionalTensor<Self>,
        activation: Activation,
        cut: Cut,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let [x, weight] = [x, weight].map(|tensor| tensor.into_primitive());
        let forward = |bias| B::linear_cut(x.clone(), weight.clone(), bias, activation, cut);
        let state = (x.clone(), weight.clone(), cut);
        let [x_node, weight_node] = nodes;
        match bias.into_option() {
            Some(bias) => {
                let nodes = [x_node, weight_node, bias.node()];
                let output = forward(OptionalTensor::Given(bias.into_primitive()));
                match LinearStep.prepare::<C>(nodes).compute_bound().stateful() {
                    OpsKind::Tracked(prep) => prep.finish(state, output),
                    OpsKind::UnTracked(prep) => prep.finish(output),
                }
            }
            None => {
                let output = forward(OptionalTensor::Absent);
                match LinearStep.prepare::<C>([x_node, weight_node]).compute_bound().stateful() {
                    OpsKind::Tracked(prep) => prep.finish(state, output),
                    OpsKind::UnTracked(prep) => prep.finish(output),
                }
            }
        }
    }
}

impl PlainLinearKernel for CubeBackend {
    fn plain_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: OptionalTensor<Self>) -> FloatTensor<Self> {
        <Self as ModuleOps<Self>>::linear(x, weight, bias.into_option())
    }
}

impl PlainLinearGradient for CubeBackend {
    fn plain_weight_gradient(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        weight_gradient_of_rows::<Self>(x, gradient, ShaderTier::Plain)
    }

    fn plain_bias_gradient(gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::column_sums(gradient)
    }
}

impl PlainLinearKernel for Flex {
    fn plain_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: OptionalTensor<Self>) -> FloatTensor<Self> {
        <Self as ModuleOps<Self>>::linear(x, weight, bias.into_option())
    }
}

impl PlainLinearGradient for Flex {
    fn plain_weight_gradient(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::linear_weight_backward(x, gradient)
    }

    fn plain_bias_gradient(gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::linear_bias_backward(gradient)
    }
}

impl<B: PlainLinearKernel + PlainLinearGradient, C: CheckpointStrategy> PlainLinearKernel for Autodiff<B, C> {
    fn plain_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: OptionalTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let [x, weight] = [x, weight].map(|tensor| tensor.into_primitive());
        let forward = |bias| B::plain_linear(x.clone(), weight.clone(), bias);
        let state = (x.clone(), weight.clone());
        match bias.into_option() {
            Some(bias) => {
                let [x_node, weight_node] = nodes;
                let nodes = [x_node, weight_node, bias.node()];
                let output = forward(OptionalTensor::Given(bias.into_primitive()));
                match PlainLinearStep.prepare::<C>(nodes).compute_bound().stateful() {
                    OpsKind::Tracked(prep) => prep.finish(state, output),
                    OpsKind::UnTracked(prep) => prep.finish(output),
                }
            }
            None => {
                let output = forward(OptionalTensor::Absent);
                match PlainLinearStep.prepare::<C>(nodes).compute_bound().stateful() {
                    OpsKind::Tracked(prep) => prep.finish(state, output),
                    OpsKind::UnTracked(prep) => prep.finish(output),
                }
            }
        }
    }
}

/// [`GradientKernel::weight_gradient`] of `x` `[rows, in]` and the output's gradient `[rows, out]`, `[in, out]` in f32.
fn weight_gradient_of_rows<B: GradientKernel>(x: FloatTensor<B>, gradient: FloatTensor<B>, tier: ShaderTier) -> FloatTensor<B> {
    let [rows, inner]: [usize; 2] = x.shape().dims();
    let [_, columns]: [usize; 2] = gradient.shape().dims();
    let pixels = |tensor, channels| B::float_reshape(tensor, Shape::new([1, 1, 1, rows, channels]));
    let taps = B::weight_gradient(pixels(x, inner), pixels(gradient, columns), POINT, tier);
    B::float_reshape(taps, Shape::new([inner, columns]))
}

/// The way back through burn's product: parents as in [`LinearStep`].
#[derive(Debug)]
struct PlainLinearStep;

impl<B: PlainLinearGradient, const N: usize> Backward<B, N> for PlainLinearStep {
    /// Input and weight.
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let (x, weight) = ops.state;
        if let Some(Some(bias)) = ops.parents.get(2) {
            grads.register::<B>(bias.id, B::plain_bias_gradient(gradient.clone()));
        }
        if let Some(node) = &ops.parents[1] {
            grads.register::<B>(node.id, B::plain_weight_gradient(x, gradient.clone()));
        }
        if let Some(node) = &ops.parents[0] {
            grads.register::<B>(node.id, B::linear_x_backward(weight, gradient));
        }
    }
}

/// The way back through a product: parents are the input, the weight and, as a third, the bias.
#[derive(Debug)]
struct LinearStep;

impl<B: Backend + LinearKernel + GradientKernel, const N: usize> Backward<B, N> for LinearStep {
    /// Input, weight, and how the product was cut.
    type State = (FloatTensor<B>, FloatTensor<B>, Cut);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let (x, weight, cut) = ops.state;
        let [rows, inner]: [usize; 2] = x.shape().dims();
        let [_, columns]: [usize; 2] = gradient.shape().dims();
        if let Some(Some(bias)) = ops.parents.get(2) {
            grads.register::<B>(bias.id, B::column_sums(gradient.clone()));
        }
        if let Some(node) = &ops.parents[1] {
            grads.register::<B>(node.id, weight_gradient_of_rows::<B>(x, gradient.clone(), cut.tier()));
        }
        if let Some(node) = &ops.parents[0] {
            let transposed = B::float_transpose(weight);
            let cut = Cut::of(cut.tier(), [rows, columns, inner]).unwrap_or(cut);
            let back = B::linear_cut(gradient, transposed, OptionalTensor::Absent, Activation::None, cut);
            grads.register::<B>(node.id, back);
        }
    }
}
