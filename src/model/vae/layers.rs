//! What encoder and decoder are made of. All video inside the VAE is channels-last: `[batch, frames, height, width, channels]`.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

use super::config::{ConvKind, ResnetKind};
use crate::gpu::kernels::conv3d::{Geometry, conv3d};
use crate::gpu::kernels::group_norm::{group_norm, group_norm_affine};
use crate::gpu::spans::{self, Kind};
use crate::model::layers::{cast_like, to_f32};
use crate::model::weights::Loader;

/// A convolution with the first frame repeated in front of the clip, or one on every frame alone (`kernel[0] == 1`).
#[derive(Module, Debug)]
pub struct Conv {
    weight: Param<Tensor<3>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    geometry: Geometry,
}

/// Steps and padding that are not those of a "same" convolution.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Same,
    /// Stride 2 in space with one row and column of zeros at the bottom and right; in time too if the kernel has a depth.
    Half,
}

impl Conv {
    pub fn load(
        loader: &mut Loader<'_>,
        name: &str,
        kind: ConvKind,
        inputs: usize,
        outputs: usize,
        kernel: [usize; 3],
        step: Step,
    ) -> Self {
        let ([t, h, w], side) = (kernel, kernel[1] / 2);
        let (stride, [top, bottom, left, right]) = match step {
            Step::Same => ([1, 1, 1], [side; 4]),
            Step::Half => ([if t > 1 { 2 } else { 1 }, 2, 2], [0, 1, 0, 1]),
        };
        let (weight, bias) = match kind {
            ConvKind::Conv2d => loader.convolution(name, inputs, outputs, &[h, w]),
            ConvKind::CausalConv3d => loader.convolution(&format!("{name}.conv"), inputs, outputs, &[t, h, w]),
        };
        let geometry = Geometry { kernel, stride, causal_frames: t - 1, top, bottom, left, right };
        Self { weight, bias, geometry }
    }

    /// A 3x3(x3) convolution that keeps the size.
    pub fn same3(loader: &mut Loader<'_>, name: &str, kind: ConvKind, inputs: usize, outputs: usize) -> Self {
        let depth = if kind == ConvKind::Conv2d { 1 } else { 3 };
        Self::load(loader, name, kind, inputs, outputs, [depth, 3, 3], Step::Same)
    }

    /// A convolution of single pixels.
    pub fn pointwise(loader: &mut Loader<'_>, name: &str, kind: ConvKind, inputs: usize, outputs: usize) -> Self {
        Self::load(loader, name, kind, inputs, outputs, [1, 1, 1], Step::Same)
    }

    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        self.run(x, None, None)
    }

    /// `conv(silu(norm(x))) + residual`.
    pub fn forward_normalised(&self, x: Tensor<5>, norm: &GroupNorm, residual: Option<Tensor<5>>) -> Tensor<5> {
        if x.device().is_autodiff() {
            // A normalisation on the way would be done again for the gradient of the weight.
            return self.run(norm.normalise(x, true), None, residual);
        }
        let affine = norm.affine(&x);
        self.run(x, Some(affine), residual)
    }

    fn run(&self, x: Tensor<5>, affine: Option<Tensor<3>>, residual: Option<Tensor<5>>) -> Tensor<5> {
        let weight = self.weight.val();
        spans::span(Kind::Convolution, || conv3d(cast_like(x, &weight), weight, self.bias.val(), affine, residual, self.geometry))
    }
}

/// GroupNorm with statistics over (channels of the group, frames, height, width).
#[derive(Module, Debug)]
pub struct GroupNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
}

impl GroupNorm {
    pub fn load(loader: &mut Loader<'_>, name: &str, channels: usize) -> Self {
        Self {
            weight: loader.exact(&format!("{name}.weight"), [channels]),
            bias: loader.exact(&format!("{name}.bias"), [channels]),
        }
    }

    /// Scale and shift `[batch, 2, channels]` that normalise `x`.
    fn affine(&self, x: &Tensor<5>) -> Tensor<3> {
        spans::span(Kind::Normalisation, || group_norm_affine(x.clone(), self.weight.val(), self.bias.val()))
    }

    /// The normalised video, in its storage type.
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        self.normalise(x, false)
    }

    fn normalise(&self, x: Tensor<5>, with_silu: bool) -> Tensor<5> {
        spans::span(Kind::Normalisation, || group_norm(x, self.weight.val(), self.bias.val(), with_silu))
    }
}

/// Norm, SiLU, convolution, twice, around a shortcut.
#[derive(Module, Debug)]
pub struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv,
    norm2: GroupNorm,
    conv2: Conv,
    nin_shortcut: Option<Conv>,
    per_frame: bool,
}

impl ResnetBlock {
    pub fn load(loader: &mut Loader<'_>, name: &str, kind: ResnetKind, inputs: usize, outputs: usize) -> Self {
        let conv = match kind {
            ResnetKind::ResnetBlock2D => ConvKind::Conv2d,
            ResnetKind::ResnetBlock3D => ConvKind::CausalConv3d,
        };
        let part = |part: &str| format!("{name}.{part}");
        Self {
            norm1: GroupNorm::load(loader, &part("norm1"), inputs),
            conv1: Conv::same3(loader, &part("conv1"), conv, inputs, outputs),
            norm2: GroupNorm::load(loader, &part("norm2"), outputs),
            conv2: Conv::same3(loader, &part("conv2"), conv, outputs, outputs),
            nin_shortcut: (inputs != outputs).then(|| Conv::pointwise(loader, &part("nin_shortcut"), conv, inputs, outputs)),
            per_frame: kind == ResnetKind::ResnetBlock2D,
        }
    }

    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let [batch, frames, height, width, _] = x.dims();
        // The norms of a 2D block see one frame each: frames become clips of one frame.
        let x = if self.per_frame { frames_as_clips(x) } else { x };
        let hidden = self.conv1.forward_normalised(x.clone(), &self.norm1, None);
        let shortcut = match &self.nin_shortcut {
            Some(conv) => conv.forward(x),
            None => x,
        };
        let y = self.conv2.forward_normalised(hidden, &self.norm2, Some(shortcut));
        let [_, _, _, _, channels] = y.dims();
        if self.per_frame { y.reshape([batch, frames, height, width, channels]) } else { y }
    }
}

fn frames_as_clips(x: Tensor<5>) -> Tensor<5> {
    let [batch, frames, height, width, channels] = x.dims();
    x.reshape([batch * frames, 1, height, width, channels])
}

/// Scores that are alive at once in the attention: 64 MiB in f32.
const MOST_SCORES: usize = 1 << 24;

/// Attention with one head among the pixels of each frame (the reference's AttnBlock3DFix).
#[derive(Module, Debug)]
pub struct FrameAttention {
    norm: GroupNorm,
    q: Conv,
    k: Conv,
    v: Conv,
    proj_out: Conv,
}

impl FrameAttention {
    pub fn load(loader: &mut Loader<'_>, name: &str, channels: usize) -> Self {
        let mut pointwise =
            |part: &str| Conv::pointwise(loader, &format!("{name}.{part}"), ConvKind::CausalConv3d, channels, channels);
        let [q, k, v, proj_out] = ["q", "k", "v", "proj_out"].map(&mut pointwise);
        Self { norm: GroupNorm::load(loader, &format!("{name}.norm"), channels), q, k, v, proj_out }
    }

    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let [batch, frames, height, width, channels] = x.dims();
        let normalised = self.norm.forward(x.clone());
        let pixels = |conv: &Conv| -> Tensor<3> {
            to_f32(conv.forward(normalised.clone())).reshape([batch * frames, height * width, channels])
        };
        let (query, key, value) = (pixels(&self.q), pixels(&self.k), pixels(&self.v));
        let query = query * (channels as f64).powf(-0.5);
        // So many frames at once that their scores stay small.
        let together = (MOST_SCORES / (height * width).pow(2)).clamp(1, batch * frames);
        let attended = (0..batch * frames).step_by(together).map(|first| {
            let of = |x: &Tensor<3>| x.clone().narrow(0, first, together.min(batch * frames - first));
            softmax(of(&query).matmul(of(&key).transpose()), 2).matmul(of(&value))
        });
        let attended = spans::span(Kind::Attention, || Tensor::cat(attended.collect(), 0));
        let attended = attended.reshape([batch, frames, height, width, channels]);
        to_f32(x) + to_f32(self.proj_out.forward(attended))
    }
}

/// The lowest level: block, attention, block.
#[derive(Module, Debug)]
pub struct MiddleBlock {
    pub block_1: ResnetBlock,
    pub attn_1: FrameAttention,
    pub block_2: ResnetBlock,
}

impl MiddleBlock {
    pub fn load(loader: &mut Loader<'_>, name: &str, kind: ResnetKind, channels: usize) -> Self {
        Self {
            block_1: ResnetBlock::load(loader, &format!("{name}.block_1"), kind, channels, channels),
            attn_1: FrameAttention::load(loader, &format!("{name}.attn_1"), channels),
            block_2: ResnetBlock::load(loader, &format!("{name}.block_2"), kind, channels, channels),
        }
    }
}
