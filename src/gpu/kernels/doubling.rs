//! Doubling of space, and of space and time, as the decoder does it between its levels: one pass, and one pass back.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor, TensorData};

use super::cpu::doubling as on_cpu;
use super::launch::{self, Shader, ShaderCall};
use super::values;
use crate::gpu::shader::Variant;

/// How pixels become more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubling {
    /// Height and width; every pixel four times.
    Nearest,
    /// Height and width, and `frames` to `2 * frames - 1`: linear as `align_corners = false` defines it. The first frame alone is
    /// doubled in space only, the others in time too, among themselves.
    LinearAfterFirstFrame,
}

impl Doubling {
    /// Frames, height and width of a doubled video.
    pub fn output(self, [frames, height, width]: [usize; 3]) -> [usize; 3] {
        let frames = match self {
            Self::Nearest => frames,
            Self::LinearAfterFirstFrame => 2 * frames - 1,
        };
        [frames, 2 * height, 2 * width]
    }
}

#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait DoublingKernel: Backend {
    fn double(x: FloatTensor<Self>, doubling: Doubling) -> FloatTensor<Self>;
}

/// The way back of [`DoublingKernel`].
pub(crate) trait DoublingGradient: Backend {
    /// The gradient of a video of `size` (frames, height, width) from that of the doubled one.
    fn double_gradient(gradient: FloatTensor<Self>, size: [usize; 3], doubling: Doubling) -> FloatTensor<Self>;
}

/// The video `[batch, frames, height, width, channels]`, doubled; channels are whole fours.
pub fn double(x: Tensor<5>, doubling: Doubling) -> Tensor<5> {
    Tensor::from_dispatch(Dispatch::double(x.into_dispatch(), doubling))
}

const THREADS: usize = 256;
/// The most workgroups in the first dimension before they go on in the second.
const FOLD: usize = 65_535;

pub fn shader(element: &str, channels: usize, doubling: Doubling, gradient: bool) -> Shader {
    let variant = Variant::default()
        .switch("half", element == "f16")
        .switch("linear", doubling == Doubling::LinearAfterFirstFrame)
        .switch("gradient", gradient)
        .value("element", element)
        .value("channels", channels);
    Shader {
        name: "doubling",
        template: include_str!("../../../shaders/resampling/doubling.wgsl"),
        variant,
        workgroup_size: THREADS as u32,
        constants: &[],
    }
}

/// Writes `output` `[batch, frames, height, width, channels]`; `small` are frames, height and width of the smaller video.
fn run(source: &CubeTensor, output: [usize; 5], small: [usize; 3], doubling: Doubling, gradient: bool) -> CubeTensor {
    let [batch, frames, height, width, channels] = output;
    assert!(channels.is_multiple_of(4), "channels of a doubled video are whole fours");
    let result = launch::empty(source, Shape::new(output), source.dtype);
    let groups = (frames * height * width * channels / 4).div_ceil(THREADS);
    let down = groups.div_ceil(FOLD).max(1);
    let call = ShaderCall {
        shader: shader(launch::element(source.dtype), channels, doubling, gradient),
        workgroups: [groups.div_ceil(down) as u32, down as u32, batch as u32],
        info: small.map(|length| length as u32).to_vec(),
    };
    launch::launch(call, &[source], &[&result]);
    result
}

impl DoublingKernel for CubeBackend {
    fn double(x: FloatTensor<Self>, doubling: Doubling) -> FloatTensor<Self> {
        let dtype = x.dtype;
        let x = launch::row_major(x, dtype);
        let [batch, frames, height, width, channels]: [usize; 5] = x.meta.shape().dims();
        let small = [frames, height, width];
        let [frames, height, width] = doubling.output(small);
        run(&x, [batch, frames, height, width, channels], small, doubling, false)
    }
}

impl DoublingGradient for CubeBackend {
    fn double_gradient(gradient: FloatTensor<Self>, size: [usize; 3], doubling: Doubling) -> FloatTensor<Self> {
        let dtype = gradient.dtype;
        let gradient = launch::row_major(gradient, dtype);
        let [batch, _, _, _, channels]: [usize; 5] = gradient.meta.shape().dims();
        let [frames, height, width] = size;
        run(&gradient, [batch, frames, height, width, channels], size, doubling, true)
    }
}

impl DoublingKernel for Flex {
    fn double(x: FloatTensor<Self>, doubling: Doubling) -> FloatTensor<Self> {
        let x = x.to_contiguous();
        let [batch, frames, height, width, channels]: [usize; 5] = x.layout().shape().dims();
        let size = [frames, height, width];
        let taps = on_cpu::taps(size, doubling);
        let [frames, height, width] = doubling.output(size);
        let output = on_cpu::gather(values(&x), batch, channels, size, &taps);
        FlexTensor::from_data(TensorData::new(output, [batch, frames, height, width, channels]))
    }
}

impl DoublingGradient for Flex {
    fn double_gradient(gradient: FloatTensor<Self>, size: [usize; 3], doubling: Doubling) -> FloatTensor<Self> {
        let gradient = gradient.to_contiguous();
        let [batch, frames_out, height_out, width_out, channels]: [usize; 5] = gradient.layout().shape().dims();
        let taps = on_cpu::turned(&on_cpu::taps(size, doubling), size);
        let [frames, height, width] = size;
        let output = on_cpu::gather(values(&gradient), batch, channels, [frames_out, height_out, width_out], &taps);
        FlexTensor::from_data(TensorData::new(output, [batch, frames, height, width, channels]))
    }
}

impl<B: Backend + DoublingKernel + DoublingGradient, C: CheckpointStrategy> DoublingKernel for Autodiff<B, C> {
    fn double(x: FloatTensor<Self>, doubling: Doubling) -> FloatTensor<Self> {
        let node = x.node();
        let x = x.into_primitive();
        let [_, frames, height, width, _]: [usize; 5] = x.shape().dims();
        let output = B::double(x, doubling);
        match DoublingStep.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(([frames, height, width], doubling), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct DoublingStep;

impl<B: DoublingGradient> Backward<B, 1> for DoublingStep {
    /// Frames, height and width of the smaller video.
    type State = ([usize; 3], Doubling);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let (size, doubling) = ops.state;
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::double_gradient(gradient, size, doubling));
        }
    }
}
