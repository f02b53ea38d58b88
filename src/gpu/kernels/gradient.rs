//! What `linear` and `conv3d` owe to their inputs and parameters when they are trained.
//!
//! Owns the operations of the backward pass and their dispatch: [`weight_gradient`] (a product over all pixels), the way back
//! through a convolution ([`input_gradient`]) and [`column_sums`] (the gradient of a bias). Gradients of parameters are sums
//! over millions of pixels, so they leave in f32 whatever the storage type: under a scaled loss they would overflow f16.

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Shape, Tensor, TensorData};

use super::block_product::Block;
use super::conv3d::Geometry;
use super::cpu::conv3d_gradient::{conv3d_input_gradient, conv3d_weight_gradient};
use super::launch::{self, KernelError};
use super::values;
use crate::gpu::tier::ShaderTier;

pub mod blocks;
pub mod input;
pub mod matrix;
pub mod sums;
pub mod weight;

/// A convolution of single pixels: `linear` on all of them.
pub const POINT: Geometry =
    Geometry { kernel: [1, 1, 1], stride: [1, 1, 1], causal_frames: 0, top: 0, bottom: 0, left: 0, right: 0 };

#[backend_extension(Cube, Flex)]
pub(crate) trait GradientKernel: Backend {
    fn weight_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
        tier: ShaderTier,
    ) -> FloatTensor<Self>;

    fn input_gradient(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
        size: [usize; 3],
        tier: ShaderTier,
    ) -> FloatTensor<Self>;

    fn column_sums(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// `[taps, in, out]` in f32: the gradient of a convolution's weight from its input `[batch, frames, height, width, in]` and the
/// gradient of its output `[batch, frames, height, width, out]`.
pub fn weight_gradient(input: Tensor<5>, gradient: Tensor<5>, geometry: Geometry, tier: ShaderTier) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::weight_gradient(input.into_dispatch(), gradient.into_dispatch(), geometry, tier))
}

/// The gradient of a convolution's input, whose frames, height and width are `size`, from the gradient of its output
/// `[batch, frames, height, width, out]` and its weight `[taps, in, out]`.
pub fn input_gradient(
    gradient: Tensor<5>,
    weight: Tensor<3>,
    geometry: Geometry,
    size: [usize; 3],
    tier: ShaderTier,
) -> Tensor<5> {
    Tensor::from_dispatch(Dispatch::input_gradient(gradient.into_dispatch(), weight.into_dispatch(), geometry, size, tier))
}

/// Sums over all axes but the last, in f32.
pub fn column_sums<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::column_sums(x.into_dispatch()))
}

/// Sizes of a gradient of a weight.
#[derive(Clone, Copy, Debug)]
pub struct WeightGradient {
    /// `[batch, frames, height, width, in]`.
    pub input: [usize; 5],
    pub channels_out: usize,
    pub geometry: Geometry,
}

impl WeightGradient {
    /// The same product with all pixels in one row, where taps do not look at neighbours.
    fn flattened(self) -> Self {
        let [batch, frames, height, width, channels] = self.input;
        if self.geometry == POINT { Self { input: [1, 1, 1, batch * frames * height * width, channels], ..self } } else { self }
    }

    /// Frames, height and width of the output.
    fn output(&self) -> [usize; 3] {
        let [_, frames, height, width, _] = self.input;
        self.geometry.output([frames, height, width])
    }

    /// Values of the result.
    pub fn count(&self) -> usize {
        self.geometry.taps() * self.input[4] * self.channels_out
    }
}

impl GradientKernel for CubeBackend {
    fn weight_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
        tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let dtype = input.dtype;
        let [input, gradient] = [input, gradient].map(|tensor| launch::row_major(tensor, dtype));
        let [_, _, _, _, channels_out]: [usize; 5] = gradient.meta.shape().dims();
        let call = WeightGradient { input: input.meta.shape().dims(), channels_out, geometry };
        let (element, channels_in) = (launch::element(dtype), call.input[4]);
        let on_tier = match tier {
            ShaderTier::Matrix => {
                matrix::tile_for(channels_in, channels_out, &geometry).map(|tile| matrix::shader_call(&tile, &call))
            }
            ShaderTier::Subgroup => Block::takes(channels_in, channels_out).then(|| blocks::shader_call(element, &call)),
            ShaderTier::Plain | ShaderTier::SubgroupForward => None,
        };
        let (shader_call, parts) = on_tier.unwrap_or_else(|| weight::shader_call(element, &call));
        let output = launch::empty(&input, Shape::new([parts, call.count()]), DType::F32);
        launch::launch(shader_call, &[&input, &gradient], &[&output]);
        let shape = Shape::new([geometry.taps(), call.input[4], channels_out]);
        sums::reshaped(&sums::sum_of_parts(output), shape)
    }

    fn input_gradient(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
        size: [usize; 3],
        tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let dtype = gradient.dtype;
        let [gradient, weight] = [gradient, weight].map(|tensor| launch::row_major(tensor, dtype));
        let element = launch::element(dtype);
        let [batch, _, _, _, channels_out]: [usize; 5] = gradient.meta.shape().dims();
        let [_, channels_in, _]: [usize; 3] = weight.meta.shape().dims();
        let [frames, height, width] = size;
        let output = launch::empty(&gradient, Shape::new([batch, frames, height, width, channels_in]), dtype);
        let call = input::InputGradient { gradient: gradient.meta.shape().dims(), channels_in, size, geometry };
        for (frames, first) in call.launches() {
            let turned = input::turned_weight(&weight, &geometry, first);
            let shader_call = match tier {
                ShaderTier::Matrix => call.matrix_call(frames),
                ShaderTier::Subgroup if Block::takes(channels_out, channels_in) => call.block_call(element, frames),
                _ => call.plain_call(element, frames),
            };
            launch::launch(shader_call, &[&gradient, &turned], &[&output]);
        }
        output
    }

    fn column_sums(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = x.dtype;
        let x = launch::row_major(x, dtype);
        let shape = x.meta.shape();
        let columns = shape[shape.num_dims() - 1];
        let (call, parts) = sums::column_sums_call(launch::element(dtype), shape.num_elements() / columns, columns);
        let output = launch::empty(&x, Shape::new([parts, columns]), DType::F32);
        launch::launch(call, &[&x], &[&output]);
        sums::reshaped(&sums::sum_of_parts(output), Shape::new([columns]))
    }
}

impl GradientKernel for Flex {
    fn weight_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
        _tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let [input, gradient] = [input, gradient].map(|tensor| tensor.to_contiguous());
        let [_, _, _, _, channels_out]: [usize; 5] = gradient.layout().shape().dims();
        let call = WeightGradient { input: input.layout().shape().dims(), channels_out, geometry };
        let [_, _, _, _, channels_in] = call.input;
        let output = conv3d_weight_gradient(&call, values(&input), values(&gradient));
        FlexTensor::from_data(TensorData::new(output, [geometry.taps(), channels_in, channels_out]))
    }

    fn input_gradient(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
        size: [usize; 3],
        _tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let [gradient, weight] = [gradient, weight].map(|tensor| tensor.to_contiguous());
        let shape: [usize; 5] = gradient.layout().shape().dims();
        let [_, channels_in, _]: [usize; 3] = weight.layout().shape().dims();
        let [frames, height, width] = size;
        let call = input::InputGradient { gradient: shape, channels_in, size, geometry };
        match conv3d_input_gradient(&call, values(&gradient), values(&weight)) {
            Ok(output) => FlexTensor::from_data(TensorData::new(output, [shape[0], frames, height, width, channels_in])),
            Err(error) => std::panic::panic_any(KernelError { kernel: "conv3d", reason: error.to_string() }),
        }
    }

    fn column_sums(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = x.to_contiguous();
        let shape = x.layout().shape().clone();
        let columns = shape[shape.num_dims() - 1];
        let mut sums = vec![0.0f64; columns];
        for row in values(&x).chunks_exact(columns) {
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        FlexTensor::from_data(TensorData::new(sums.into_iter().map(|sum| sum as f32).collect::<Vec<_>>(), [columns]))
    }
}
