//! Halving and doubling of space and time.

use burn::module::Module;
use burn::tensor::Tensor;

use super::config::{ConvKind, DownsampleKind, UpsampleKind};
use super::layers::{Conv, Step};
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
        let x = spans::span(Kind::Resampling, || if self.time { linear_2x_after_first_frame(x) } else { nearest_2x(x) });
        self.conv.forward(x)
    }
}

/// Every pixel four times.
fn nearest_2x(x: Tensor<5>) -> Tensor<5> {
    let [batch, frames, height, width, channels] = x.dims();
    let x: Tensor<6> = x.reshape([batch * frames, height, 1, width, 1, channels]);
    let x = x.expand([batch * frames, height, 2, width, 2, channels]);
    x.reshape([batch, frames, 2 * height, 2 * width, channels])
}

/// The first frame alone is doubled in space only; the others among themselves in time too.
fn linear_2x_after_first_frame(x: Tensor<5>) -> Tensor<5> {
    let [_, frames, _, _, _] = x.dims();
    let x = if frames > 1 {
        let first = x.clone().narrow(1, 0, 1);
        Tensor::cat(vec![first, linear_2x(x.narrow(1, 1, frames - 1), 1)], 1)
    } else {
        x
    };
    linear_2x(linear_2x(x, 2), 3)
}

/// Linear doubling of one axis as `align_corners = false` defines it: taps 3/4 and 1/4, edges clamped.
fn linear_2x(x: Tensor<5>, axis: usize) -> Tensor<5> {
    let length = x.dims()[axis];
    let (first, last) = (x.clone().narrow(axis, 0, 1), x.clone().narrow(axis, length - 1, 1));
    let (before, after) = if length > 1 {
        let all_but = |start: usize| x.clone().narrow(axis, start, length - 1);
        (Tensor::cat(vec![first, all_but(0)], axis), Tensor::cat(vec![all_but(1), last], axis))
    } else {
        (first, last)
    };
    let near = x * 0.75;
    let pair: Tensor<6> = Tensor::stack(vec![near.clone() + before * 0.25, near + after * 0.25], axis + 1);
    let mut shape: [usize; 5] = std::array::from_fn(|i| pair.dims()[if i > axis { i + 1 } else { i }]);
    shape[axis] = 2 * length;
    pair.reshape(shape)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// The definition: source position max((i + 0.5) / 2 - 0.5, 0), clamped at the end.
    #[test]
    fn linear_doubling_is_that_of_its_definition() {
        let values = [1.0f32, -2.0, 4.0, 0.5, 3.0];
        let x = Tensor::<1>::from_floats(values, &Device::flex()).reshape([1, 5, 1, 1, 1]);
        let doubled = linear_2x(x, 1).try_into_vec_as::<f32>().expect("readable");
        for (i, got) in doubled.iter().enumerate() {
            let position = ((i as f64 + 0.5) / 2.0 - 0.5).max(0.0);
            let low = position.floor() as usize;
            let high = (low + 1).min(values.len() - 1);
            let weight = position - low as f64;
            let want = f64::from(values[low]) * (1.0 - weight) + f64::from(values[high]) * weight;
            assert!((f64::from(*got) - want).abs() < 1e-6, "{i}: {got} {want}");
        }
    }
}
