//! Five convolutions, a mean and a maximum of every moment, one vector of features, one linear layer for each attribute.
//!
//! Norms are over the batch while it learns, and by fixed statistics afterwards: norms over a clip alone would take out its
//! absolute colours, which are part of what it reads.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::silu;
use serde::{Deserialize, Serialize};

use crate::gpu::kernels::conv3d::{Geometry, conv3d};
use crate::gpu::kernels::group_norm::{EPSILON, channel_norm, channel_norm_affine};
use crate::model::layers::{Linear, cast_like, to_f32};
use crate::model::weights::{Loader, WeightError};

/// Every so many frames one is looked at.
pub const FRAME_STEP: usize = 2;

/// Sizes of a judge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeConfig {
    /// Channels behind each of the five convolutions.
    pub channels: [usize; 5],
    pub features: usize,
    /// Frames that it looks at.
    pub frames: usize,
    /// Attributes and the names of their values, in the order of the outputs.
    pub attributes: Vec<(String, Vec<String>)>,
}

impl JudgeConfig {
    /// Values of all attributes.
    pub fn outputs(&self) -> usize {
        self.attributes.iter().map(|(_, values)| values.len()).sum()
    }

    /// Why there can be no such judge, if there cannot.
    pub fn unsupported(&self) -> Option<String> {
        let sizes = self.channels.iter().chain([&self.features, &self.frames]);
        let absurd = sizes.copied().any(|size| !(1..=1 << 12).contains(&size));
        let empty = self.attributes.is_empty() || self.attributes.iter().any(|(_, values)| values.len() < 2);
        if absurd {
            Some("a size is 0 or absurdly large".into())
        } else if empty {
            Some("an attribute has fewer than two values".into())
        } else {
            None
        }
    }

    /// Moments that are left behind the convolutions.
    fn moments(&self) -> usize {
        LAYERS.iter().fold(self.frames, |frames, layer| layer.geometry().output([frames, 1 << 10, 1 << 10])[0])
    }
}

/// Kernel and steps of a convolution, along (t, h, w).
struct LayerKind {
    kernel: [usize; 3],
    stride: [usize; 3],
}

const LAYERS: [LayerKind; 5] = [
    LayerKind { kernel: [1, 3, 3], stride: [1, 2, 2] },
    LayerKind { kernel: [3, 3, 3], stride: [1, 2, 2] },
    LayerKind { kernel: [3, 3, 3], stride: [1, 2, 2] },
    LayerKind { kernel: [3, 3, 3], stride: [2, 2, 2] },
    LayerKind { kernel: [3, 3, 3], stride: [1, 1, 1] },
];

impl LayerKind {
    fn geometry(&self) -> Geometry {
        let [t, h, w] = self.kernel;
        let (y, x) = (h / 2, w / 2);
        Geometry { kernel: self.kernel, stride: self.stride, causal_frames: t - 1, top: y, bottom: y, left: x, right: x }
    }
}

#[derive(Module, Debug)]
struct Layer {
    weight: Param<Tensor<3>>,
    bias: Param<Tensor<1>>,
    norm_weight: Param<Tensor<1>>,
    norm_bias: Param<Tensor<1>>,
    /// Fixed; no gradient reaches them.
    running_mean: Param<Tensor<1>>,
    running_variance: Param<Tensor<1>>,
    #[module(skip)]
    geometry: Geometry,
}

/// What the norms go by.
pub enum Statistics<'a> {
    /// Those of this batch, which are also handed out if they are asked for: mean and variance of every layer, `[channels]`.
    Batch(Option<&'a mut Vec<[Tensor<1>; 2]>>),
    /// Those that were fixed.
    Running,
}

/// What a judge says of clips.
pub struct Reading {
    /// Of all values of all attributes, `[clips, outputs]`.
    pub logits: Tensor<2>,
    /// `[clips, features]`.
    pub features: Tensor<2>,
}

#[derive(Module, Debug)]
pub struct Judge {
    layers: Vec<Layer>,
    neck: Linear,
    heads: Linear,
    /// That the neck sees.
    #[module(skip)]
    moments: usize,
}

impl Judge {
    /// # Errors
    /// The weights do not fit the configuration.
    pub fn load(mut loader: Loader<'_>, config: &JudgeConfig) -> Result<Self, WeightError> {
        let mut inputs = 3;
        let mut layers = Vec::new();
        for (index, (kind, &outputs)) in LAYERS.iter().zip(&config.channels).enumerate() {
            let name = format!("body.{index}");
            let (weight, bias) = loader.convolution(&format!("{name}.conv"), inputs, outputs, &kind.kernel);
            let mut norm = |part: &str| loader.exact(&format!("{name}.norm.{part}"), [outputs]);
            let [norm_weight, norm_bias] = ["weight", "bias"].map(&mut norm);
            let [running_mean, running_variance] = ["running_mean", "running_variance"].map(&mut norm);
            let geometry = kind.geometry();
            layers.push(Layer { weight, bias, norm_weight, norm_bias, running_mean, running_variance, geometry });
            inputs = outputs;
        }
        let judge = Self {
            layers,
            neck: loader.exact_linear("neck", config.moments() * 2 * inputs, config.features, true),
            heads: loader.exact_linear("heads", config.features, config.outputs(), true),
            moments: config.moments(),
        };
        loader.finish(|_| false)?;
        Ok(judge)
    }

    /// Published names of the fixed statistics of a layer.
    pub fn statistics_names(layer: usize) -> [String; 2] {
        ["running_mean", "running_variance"].map(|part| format!("body.{layer}.norm.{part}"))
    }

    /// Reads clips `[clips, frames, height, width, 3]` in [-1, 1], already reduced to every [`FRAME_STEP`]th frame.
    pub fn forward(&self, video: Tensor<5>, statistics: Statistics<'_>) -> Reading {
        let features = self.features(self.pooled(video, statistics));
        let logits = self.heads.forward(silu(features.clone()));
        Reading { logits, features }
    }

    /// The features of pictures `[pictures, height, width, 3]` in [-1, 1], each for itself: those of a clip that shows nothing
    /// but the picture, `[pictures, features]`. By fixed statistics.
    ///
    /// The convolutions see copies of the first frame in front of it, so that all moments of such a clip are its first one.
    pub fn features_of_stills(&self, pictures: Tensor<4>) -> Tensor<2> {
        let [count, height, width, channels] = pictures.dims();
        let of_one_frame = self.pooled(pictures.reshape([count, 1, height, width, channels]), Statistics::Running);
        self.features(of_one_frame.repeat_dim(1, self.moments))
    }

    /// What the neck makes of all moments, `[clips, moments, values]`.
    fn features(&self, pooled: Tensor<3>) -> Tensor<2> {
        let [clips, moments, values] = pooled.dims();
        self.neck.forward(pooled.reshape([clips, moments * values]))
    }

    /// The mean and the maximum of every channel at every moment behind the convolutions, `[clips, moments, 2 * channels]`.
    fn pooled(&self, video: Tensor<5>, mut statistics: Statistics<'_>) -> Tensor<3> {
        let mut x = video;
        let mut affine: Option<Tensor<3>> = None;
        for layer in &self.layers {
            let weight = layer.weight.val();
            x = conv3d(cast_like(x, &weight), weight, layer.bias.val(), affine.take(), None, layer.geometry);
            match &mut statistics {
                Statistics::Batch(seen) => {
                    // A norm over all clips: they are one behind the other.
                    let [clips, frames, height, width, channels] = x.dims();
                    let all = x.reshape([1, clips * frames, height, width, channels]);
                    if let Some(seen) = seen {
                        seen.push(channel_statistics(all.clone().without_autodiff()));
                    }
                    x = channel_norm(all, layer.norm_weight.val(), layer.norm_bias.val(), true)
                        .reshape([clips, frames, height, width, channels]);
                }
                Statistics::Running => {
                    let scale = layer.norm_weight.val() * (layer.running_variance.val() + EPSILON).sqrt().recip();
                    let shift = layer.norm_bias.val() - layer.running_mean.val() * scale.clone();
                    let [clips, _, _, _, channels] = x.dims();
                    let rows: Tensor<2> = Tensor::stack(vec![scale, shift], 0);
                    // The next convolution normalises while it reads.
                    affine = Some(rows.unsqueeze::<3>().expand([clips, 2, channels]));
                }
            }
        }
        let [clips, frames, height, width, channels] = x.dims();
        let mut x = to_f32(x);
        if let Some(affine) = affine {
            let row = |index: usize| affine.clone().narrow(1, index, 1).reshape([clips, 1, 1, 1, channels]);
            x = silu(x * row(0) + row(1));
        }
        let pixels: Tensor<4> = x.reshape([clips, frames, height * width, channels]);
        let both = Tensor::cat(vec![pixels.clone().mean_dim(2), pixels.max_dim(2)], 3); // [clips, frames, 1, 2 * channels]
        both.reshape([clips, frames, 2 * channels])
    }
}

/// Mean and variance of every channel over frames and pixels of one clip.
fn channel_statistics(x: Tensor<5>) -> [Tensor<1>; 2] {
    let [_, _, _, _, channels] = x.dims();
    let (ones, zeros) = (Tensor::ones([channels], &x.device()), Tensor::zeros([channels], &x.device()));
    // As the scale and shift that would take them out: 1 / deviation and -mean / deviation.
    let affine = channel_norm_affine(x, ones, zeros);
    let row = |index: usize| -> Tensor<1> { affine.clone().narrow(1, index, 1).reshape([channels]) };
    let deviation = row(0).recip();
    [-row(1) * deviation.clone(), deviation.clone() * deviation - EPSILON]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{self, DeviceChoice};
    use crate::model::weights::InitialValues;
    use burn::tensor::TensorData;

    #[derive(Debug)]
    struct Waves;

    impl InitialValues for Waves {
        fn values(&self, name: &str, shape: &[usize]) -> Vec<f32> {
            let count: usize = shape.iter().product();
            let inputs = shape[1..].iter().product::<usize>() as f32;
            let phase = name.len() as f32;
            let norm = name.contains("running_variance") || name.ends_with("norm.weight");
            (0..count).map(|i| if norm { 1.0 } else { (i as f32 * 0.7 + phase).sin() / inputs.sqrt() }).collect()
        }
    }

    fn config() -> JudgeConfig {
        let values = |count: usize| (0..count).map(|value| value.to_string()).collect();
        JudgeConfig {
            channels: [32, 32, 32, 32, 32],
            features: 8,
            frames: 5,
            attributes: vec![("shape".into(), values(3)), ("colour".into(), values(2))],
        }
    }

    #[test]
    fn statistics_that_are_fixed_give_what_the_batch_gave() {
        let device = device::open(&DeviceChoice::Cpu, None).expect("the CPU");
        let judge = Judge::load(Loader::initial(&Waves, &device), &config()).expect("a judge");
        let count = 2 * 5 * 16 * 32 * 3;
        let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin()).collect();
        let video = Tensor::<5>::from_data(TensorData::new(values.clone(), [2, 5, 16, 32, 3]), &device.device);
        let mut seen = Vec::new();
        let of_batch = judge.forward(video.clone(), Statistics::Batch(Some(&mut seen)));
        assert_eq!((of_batch.logits.dims(), of_batch.features.dims()), ([2, 5], [2, 8]));
        let mut fixed = judge.clone();
        for (layer, [mean, variance]) in fixed.layers.iter_mut().zip(seen.clone()) {
            layer.running_mean = Param::from_tensor(mean);
            layer.running_variance = Param::from_tensor(variance);
        }
        let want: Vec<f32> = of_batch.logits.try_into_vec_as().expect("values");
        let got: Vec<f32> = fixed.forward(video, Statistics::Running).logits.try_into_vec_as().expect("values");
        assert!(want.iter().zip(&got).all(|(a, b)| (a - b).abs() < 1e-4), "{want:?} {got:?}");
    }

    #[test]
    fn features_of_a_picture_are_those_of_its_still_clip() {
        let device = device::open(&DeviceChoice::Cpu, None).expect("the CPU");
        let judge = Judge::load(Loader::initial(&Waves, &device), &config()).expect("a judge");
        let values: Vec<f32> = (0..2 * 16 * 32 * 3).map(|i| (i as f32 * 0.37).sin()).collect();
        let pictures = Tensor::<4>::from_data(TensorData::new(values, [2, 16, 32, 3]), &device.device);
        let still = pictures.clone().reshape([2, 1, 16, 32, 3]).repeat_dim(1, 5);
        let read = |x: Tensor<2>| -> Vec<f32> { x.try_into_vec_as().expect("values") };
        let (got, want) = (read(judge.features_of_stills(pictures)), read(judge.forward(still, Statistics::Running).features));
        assert!(got.len() == 16 && got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?} {want:?}");
        assert!(got[..8].iter().zip(&got[8..]).any(|(a, b)| (a - b).abs() > 1e-3), "the pictures differ: {got:?}");
    }

    #[test]
    fn channel_statistics_are_those_of_f64() {
        let device = device::open(&DeviceChoice::Cpu, None).expect("the CPU");
        let values: Vec<f32> = (0..2 * 3 * 4 * 5 * 2).map(|i| (i as f32 * 1.7).sin() + (i % 2) as f32).collect();
        let x = Tensor::<5>::from_data(TensorData::new(values.clone(), [1, 6, 4, 5, 2]), &device.device);
        let [mean, variance] = channel_statistics(x).map(|x| x.try_into_vec_as::<f32>().expect("values"));
        for channel in 0..2 {
            let of: Vec<f64> = values.iter().skip(channel).step_by(2).map(|&value| f64::from(value)).collect();
            let middle = of.iter().sum::<f64>() / of.len() as f64;
            let spread = of.iter().map(|value| (value - middle).powi(2)).sum::<f64>() / of.len() as f64;
            assert!((f64::from(mean[channel]) - middle).abs() < 1e-5);
            assert!((f64::from(variance[channel]) - spread).abs() < 1e-5);
        }
    }
}
