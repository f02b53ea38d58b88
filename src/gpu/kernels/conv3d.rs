//! Causal 3D convolution on channels-last video, with an optional normalisation of its input and a residual on its output.
//!
//! Layouts: video `[batch, frames, height, width, channels]`, weight `[taps, in, out]` with taps in the order (t, h, w).
//! Gradients are those of [`super::gradient`]; where they are kept, the normalisation is an operation of its own.

use std::ops::Range;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::activation::silu;
use burn::tensor::{DType, FloatDType, Shape, Tensor, TensorData};

use super::block_product::{self, Block};
use super::cpu::conv3d::{
    Conv3dError, Conv3dInput, Conv3dShape, ConvPadding, PackedConv3dWeight, WeightLayout, conv3d as cpu_conv3d,
};
use super::cpu::group_norm::ChannelAffine;
use super::cpu::lanes::InstructionSet;
use super::gradient::GradientKernel;
use super::group_norm::shaders::normalise;
use super::launch::{self, KernelError, Shader, ShaderCall};
use super::{OptionalTensor, values};
use crate::gpu::shader::Variant;
use crate::gpu::tier::ShaderTier;

pub mod matrix;

/// Kernel size, steps and padding of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// (t, h, w), as the others.
    pub kernel: [usize; 3],
    pub stride: [usize; 3],
    /// Copies of the first frame in front of the clip.
    pub causal_frames: usize,
    /// Zeros around every frame.
    pub top: usize,
    pub bottom: usize,
    pub left: usize,
    pub right: usize,
}

impl Geometry {
    /// Output frames, height and width for an input of this size.
    pub fn output(&self, [frames, height, width]: [usize; 3]) -> [usize; 3] {
        let padded = [frames + self.causal_frames, height + self.top + self.bottom, width + self.left + self.right];
        std::array::from_fn(|axis| (padded[axis] - self.kernel[axis]) / self.stride[axis] + 1)
    }

    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }
}

#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait Conv3dKernel: Backend {
    fn conv3d_channels_last(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        #[extension_type] affine: OptionalTensor<Self>,
        #[extension_type] residual: OptionalTensor<Self>,
        geometry: Geometry,
        tier: ShaderTier,
    ) -> FloatTensor<Self>;
}

/// `conv(input) + bias + residual`. With `affine` `[batch, 2, in]` (scale, shift, in f32) the convolution reads
/// `silu(input * scale + shift)` instead of the input, while the zeros around it stay zeros. (Training normalises with
/// [`super::group_norm::group_norm`] instead: its gradient needs fewer passes.)
pub fn conv3d(
    input: Tensor<5>,
    weight: Tensor<3>,
    bias: Tensor<1>,
    affine: Option<Tensor<3>>,
    residual: Option<Tensor<5>>,
    geometry: Geometry,
) -> Tensor<5> {
    let [_, _, _, _, channels] = input.dims();
    let [taps, channels_in, _] = weight.dims();
    assert_eq!((taps, channels_in), (geometry.taps(), channels), "the weight does not fit the geometry or the input");
    let stored = input.dtype();
    let residual = residual.map(|residual| if residual.dtype() == stored { residual } else { residual.cast(stored) });
    let tier = ShaderTier::of(&input.device(), stored);
    let [channels_out] = bias.dims();
    let tracked = input.is_tracked() || affine.as_ref().is_some_and(Tensor::is_tracked);
    let parameters_tracked = weight.is_tracked() || bias.is_tracked();
    let residual_tracked = residual.as_ref().is_some_and(Tensor::is_tracked);
    let tracked = tracked || parameters_tracked || residual_tracked;
    let (input, affine) = match affine {
        Some(affine) if tracked => (normalised(input, affine), None),
        affine => (input, affine),
    };
    // The faster tiers load whole groups of four channels; a picture has three, which the plain tier takes as they are.
    if tier != ShaderTier::Plain && tracked && !channels.is_multiple_of(4) {
        let ([batch, frames, height, width, _], device) = (input.dims(), input.device());
        let extra = channels.next_multiple_of(4) - channels;
        let zeros = Tensor::zeros([batch, frames, height, width, extra], (&device, stored));
        let input = Tensor::cat(vec![input, zeros], 4);
        let weight = Tensor::cat(vec![weight, Tensor::zeros([taps, extra, channels_out], (&device, stored))], 1);
        return conv3d(input, weight, bias, affine, residual, geometry);
    }
    if tier != ShaderTier::Plain && matrix::takes(channels, channels_out.next_multiple_of(4)) {
        let extra = channels_out.next_multiple_of(4) - channels_out;
        if extra > 0 {
            let device = input.device();
            let weight = Tensor::cat(vec![weight, Tensor::zeros([taps, channels, extra], (&device, stored))], 2);
            let bias = Tensor::cat(vec![bias, Tensor::zeros([extra], (&device, stored))], 0);
            let residual = residual.map(|residual| {
                let [batch, frames, height, width, _] = residual.dims();
                Tensor::cat(vec![residual, Tensor::zeros([batch, frames, height, width, extra], (&device, stored))], 4)
            });
            return dispatch(input, weight, bias, affine, residual, geometry, tier).narrow(4, 0, channels_out);
        }
        return dispatch(input, weight, bias, affine, residual, geometry, tier);
    }
    dispatch(input, weight, bias, affine, residual, geometry, ShaderTier::Plain)
}

/// What the kernels do to their input on the way, from burn's operations.
fn normalised(input: Tensor<5>, affine: Tensor<3>) -> Tensor<5> {
    let stored = input.dtype();
    let [batch, _, channels] = affine.dims();
    let row = |index: usize| affine.clone().narrow(1, index, 1).reshape([batch, 1, 1, 1, channels]);
    silu(input.cast(FloatDType::F32) * row(0) + row(1)).cast(stored)
}

fn dispatch(
    input: Tensor<5>,
    weight: Tensor<3>,
    bias: Tensor<1>,
    affine: Option<Tensor<3>>,
    residual: Option<Tensor<5>>,
    geometry: Geometry,
    tier: ShaderTier,
) -> Tensor<5> {
    Tensor::from_dispatch(Dispatch::conv3d_channels_last(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        affine.into(),
        residual.into(),
        geometry,
        tier,
    ))
}

const WORKGROUP_SIZE: u32 = 256;
/// Output pixels and channels of one workgroup: PIXELS and CHANNELS of the shader.
const PIXELS: usize = 64;
const CHANNELS: usize = 64;
/// Workgroups in the first dimension before the pixel blocks go on in the second.
const FOLD: usize = 16_384;

/// The shader for a storage type, with the numbers of its bindings.
pub fn shader(element: &str, affine: bool, residual: bool) -> Shader {
    let (affine_at, residual_at) = (3, 3 + usize::from(affine));
    let output_at = residual_at + usize::from(residual);
    let variant = Variant::default()
        .switch("half", element == "f16")
        .switch("affine", affine)
        .switch("residual", residual)
        .value("element", element)
        .value("affine_binding", affine_at)
        .value("residual_binding", residual_at)
        .value("output_binding", output_at)
        .value("info_binding", output_at + 1);
    Shader {
        name: "conv3d",
        template: include_str!("../../../shaders/convolution/conv3d.wgsl"),
        variant,
        workgroup_size: WORKGROUP_SIZE,
        constants: &[("PIXELS", PIXELS), ("CHANNELS", CHANNELS)],
    }
}

/// The launch of `shader` for an input `[batch, frames, height, width, channels]`.
pub fn shader_call(shader: Shader, input: [usize; 5], channels_out: usize, geometry: &Geometry) -> ShaderCall {
    let [batch, frames, height, width, channels_in] = input;
    let [frames_out, height_out, width_out] = geometry.output([frames, height, width]);
    let info = [frames, height, width, channels_in, frames_out, height_out, width_out, channels_out]
        .into_iter()
        .chain(geometry.kernel)
        .chain(geometry.stride)
        .chain([geometry.causal_frames, geometry.top, geometry.left])
        .map(|word| word as u32)
        .collect();
    ShaderCall { shader, workgroups: workgroups(frames_out * height_out * width_out, channels_out, batch), info }
}

/// The shader of the way back: its input is the gradient of a convolution's output, its weight is turned.
pub fn gradient_shader(element: &str) -> Shader {
    let variant = Variant::default()
        .switch("half", element == "f16")
        .switch("gradient", true)
        .value("element", element)
        .value("output_binding", 2)
        .value("info_binding", 3);
    Shader { variant, ..shader(element, false, false) }
}

/// The launch of `gradient_shader` for a gradient `[batch, frames, height, width, out]` of the output and an input
/// `[frames, height, width, in]`, of whose pixels in each clip a range is written. `turned` has the padding of the gather.
pub fn gradient_call(
    shader: Shader,
    gradient: [usize; 5],
    [frames, height, width, channels]: [usize; 4],
    turned: &Geometry,
    pixels: Range<usize>,
) -> ShaderCall {
    let [batch, frames_out, height_out, width_out, channels_out] = gradient;
    let info = [frames_out, height_out, width_out, channels_out, frames, height, width, channels]
        .into_iter()
        .chain(turned.kernel)
        .chain(turned.stride)
        .chain([turned.causal_frames, turned.top, turned.left, pixels.start, pixels.end])
        .map(|word| word as u32)
        .collect();
    ShaderCall { shader, workgroups: workgroups(pixels.len(), channels, batch), info }
}

/// The shader of the subgroup tier, which reads an input that is normalised already.
pub fn block_shader(element: &str, block: Block, residual: bool) -> Shader {
    let options = block_product::Options { bias: true, residual, convolution: true, ..Default::default() };
    block_product::shader("conv3d", element, block, options)
}

/// The launch of the subgroup tier for channels that are multiples of 4.
pub fn block_call(element: &str, input: [usize; 5], channels_out: usize, residual: bool, geometry: &Geometry) -> ShaderCall {
    let [batch, frames, height, width, _] = input;
    let rows: usize = geometry.output([frames, height, width]).iter().product();
    let block = Block::of(batch * rows, channels_out);
    let shader = block_shader(element, block, residual);
    block_product::convolution_call(shader, block, input, channels_out, geometry)
}

/// Workgroups for so many pixels of each clip.
fn workgroups(pixels: usize, channels: usize, batch: usize) -> [u32; 3] {
    let channel_groups = channels.div_ceil(CHANNELS);
    let pixel_blocks = pixels.div_ceil(PIXELS);
    let across = pixel_blocks.min((FOLD / channel_groups).max(1));
    [(across * channel_groups) as u32, pixel_blocks.div_ceil(across) as u32, batch as u32]
}

impl Conv3dKernel for CubeBackend {
    fn conv3d_channels_last(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        affine: OptionalTensor<Self>,
        residual: OptionalTensor<Self>,
        geometry: Geometry,
        tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let dtype = input.dtype;
        let [input, weight, bias] = [input, weight, bias].map(|tensor| launch::row_major(tensor, dtype));
        let affine = affine.into_option().map(|tensor| launch::row_major(tensor, DType::F32));
        let residual = residual.into_option().map(|tensor| launch::row_major(tensor, dtype));
        let shape: [usize; 5] = input.meta.shape().dims();
        let [batch, frames, height, width, _] = shape;
        let channels_out = bias.meta.shape().num_elements();
        let [frames_out, height_out, width_out] = geometry.output([frames, height, width]);
        let output = launch::empty(&input, Shape::new([batch, frames_out, height_out, width_out, channels_out]), dtype);

        if tier != ShaderTier::Plain {
            let input = match &affine {
                Some(affine) => normalise(&input, affine, true),
                None => input,
            };
            let with_residual = residual.is_some();
            let call = match tier {
                ShaderTier::Matrix => matrix::shader_call(shape, channels_out, with_residual, &geometry),
                _ => block_call(launch::element(dtype), shape, channels_out, with_residual, &geometry),
            };
            let mut inputs = vec![&input, &weight, &bias];
            inputs.extend(residual.as_ref());
            launch::launch(call, &inputs, &[&output]);
            return output;
        }
        let shader = shader(launch::element(dtype), affine.is_some(), residual.is_some());
        let mut inputs = vec![&input, &weight, &bias];
        inputs.extend(affine.as_ref());
        inputs.extend(residual.as_ref());
        launch::launch(shader_call(shader, shape, channels_out, &geometry), &inputs, &[&output]);
        output
    }
}

impl Conv3dKernel for Flex {
    fn conv3d_channels_last(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        affine: OptionalTensor<Self>,
        residual: OptionalTensor<Self>,
        geometry: Geometry,
        _tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let [batch, frames, height, width, in_channels]: [usize; 5] = input.layout().shape().dims();
        let [_, _, out_channels]: [usize; 3] = weight.layout().shape().dims();
        let shape = Conv3dShape {
            batch,
            frames,
            height,
            width,
            in_channels,
            out_channels,
            kernel: geometry.kernel,
            stride: geometry.stride,
            padding: ConvPadding {
                causal_frames: geometry.causal_frames,
                top: geometry.top,
                bottom: geometry.bottom,
                left: geometry.left,
                right: geometry.right,
            },
        };
        let [input, weight, bias] = [input, weight, bias].map(|tensor| tensor.to_contiguous());
        let [affine, residual] = [affine, residual].map(|tensor| tensor.into_option().map(|tensor| tensor.to_contiguous()));
        let normalise = affine.as_ref().map(|affine| ChannelAffine { values: values(affine), frame_groups: 1, silu: true });
        let reads =
            Conv3dInput { values: values(&input), normalise, bias: Some(values(&bias)), residual: residual.as_ref().map(values) };
        let run = || {
            let set = InstructionSet::best();
            let packed = PackedConv3dWeight::for_shape(values(&weight), WeightLayout::Taps, &shape, set)?;
            let [out_frames, out_height, out_width] = shape.output()?;
            let mut output = vec![0.0f32; shape.output_len()?];
            cpu_conv3d(&shape, reads, &packed, &mut output)?;
            Ok::<_, Conv3dError>(TensorData::new(output, [batch, out_frames, out_height, out_width, out_channels]))
        };
        match run() {
            Ok(data) => FlexTensor::from_data(data),
            Err(error) => std::panic::panic_any(KernelError { kernel: "conv3d", reason: error.to_string() }),
        }
    }
}

impl<B: Backend + Conv3dKernel + GradientKernel, C: CheckpointStrategy> Conv3dKernel for Autodiff<B, C> {
    fn conv3d_channels_last(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        affine: OptionalTensor<Self>,
        residual: OptionalTensor<Self>,
        geometry: Geometry,
        tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let affine = affine.into_option();
        let normalises = affine.is_some();
        let affine = affine.map_or(OptionalTensor::Absent, |affine| OptionalTensor::Given(affine.into_primitive()));
        let nodes = [input.node(), weight.node(), bias.node()];
        let [input, weight, bias] = [input, weight, bias].map(|tensor| tensor.into_primitive());
        let state = (input.clone(), weight.clone(), geometry, tier);
        let forward = move |residual| B::conv3d_channels_last(input, weight, bias, affine, residual, geometry, tier);
        let not_kept = "where gradients are kept, the normalisation is an operation of its own";
        match residual.into_option() {
            Some(residual) => {
                let [input, weight, bias] = nodes;
                let nodes = [input, weight, bias, residual.node()];
                let output = forward(OptionalTensor::Given(residual.into_primitive()));
                match ConvolutionStep.prepare::<C>(nodes).compute_bound().stateful() {
                    OpsKind::Tracked(_) if normalises => unreachable!("{not_kept}"),
                    OpsKind::Tracked(prep) => prep.finish(state, output),
                    OpsKind::UnTracked(prep) => prep.finish(output),
                }
            }
            None => {
                let output = forward(OptionalTensor::Absent);
                match ConvolutionStep.prepare::<C>(nodes).compute_bound().stateful() {
                    OpsKind::Tracked(_) if normalises => unreachable!("{not_kept}"),
                    OpsKind::Tracked(prep) => prep.finish(state, output),
                    OpsKind::UnTracked(prep) => prep.finish(output),
                }
            }
        }
    }
}

/// The way back through a convolution: parents are the input, the weight, the bias and, as a fourth, the residual.
#[derive(Debug)]
struct ConvolutionStep;

impl<B: Backend + GradientKernel, const N: usize> Backward<B, N> for ConvolutionStep {
    /// Input and weight, and how they met.
    type State = (FloatTensor<B>, FloatTensor<B>, Geometry, ShaderTier);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let (input, weight, geometry, tier) = ops.state;
        let [_, frames, height, width, _]: [usize; 5] = input.shape().dims();
        if let Some(node) = &ops.parents[1] {
            grads.register::<B>(node.id, B::weight_gradient(input, gradient.clone(), geometry, tier));
        }
        if let Some(node) = &ops.parents[2] {
            grads.register::<B>(node.id, B::column_sums(gradient.clone()));
        }
        if let Some(node) = &ops.parents[0] {
            let back = B::input_gradient(gradient.clone(), weight, geometry, [frames, height, width], tier);
            grads.register::<B>(node.id, back);
        }
        if let Some(Some(node)) = ops.parents.get(3) {
            grads.register::<B>(node.id, gradient);
        }
    }
}
