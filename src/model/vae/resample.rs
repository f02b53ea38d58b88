//! Halving and doubling of space and time.

use burn::module::Module;
use burn::tensor::Tensor;

use super::config::{ConvKind, DownsampleKind, UpsampleKind};
use super::layers::{Conv, Step};
use crate::gpu::kernels::doubling::{Doubling, double};
use crate::gpu::spans::{self, Kind};
use crate::model::weights::Loader;

/// The convolution with stride 2 at the end of an encoder level, if it has one.
pub fn load_downsample(loader: &mut Loader<'_>, name: &str, kind: DownsampleKind, channels: usize) -> Option<Conv> {
    let name = format!("{name}.conv");
    match kind {
        DownsampleKind::None => None,
        DownsampleKind::Downsample => {
            Some(Conv::load(loader, &name, ConvKind::Conv2d, channels, channels, [1, 3, 3], Step::Half))
        }
        DownsampleKind::Spatial2xTime2x3DDownsample => {
            Some(Conv::load(loader, &name, ConvKind::CausalConv3d, channels, channels, [3, 3, 3], Step::Half))
        }
    }
}

/// Doubles height and width, and `frames` to `2 * frames - 1` where time is doubled too, then convolves.
#[derive(Module, Debug)]
pub struct Upsample {
    conv: Conv,
    time: bool,
}

impl Upsample {
    pub fn load(loader: &mut Loader<'_>, name: &str, kind: UpsampleKind, channels: usize) -> Option<Self> {
        let (kernel, time) = match kind {
            UpsampleKind::None => return None,
            UpsampleKind::SpatialUpsample2x => ([1, 3, 3], false),
            UpsampleKind::Spatial2xTime2x3DUpsample => ([3, 3, 3], true),
        };
        let conv = Conv::load(loader, &format!("{name}.conv"), ConvKind::CausalConv3d, channels, channels, kernel, Step::Same);
        Some(Self { conv, time })
    }

    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let doubling = if self.time { Doubling::LinearAfterFirstFrame } else { Doubling::Nearest };
        let x = spans::span(Kind::Resampling, || double(x, doubling));
        self.conv.forward(x)
    }
}
