//! The whole VAE with its two directions.

use std::convert::Infallible;

use burn::module::Module;
use burn::tensor::Tensor;

use super::config::{ConvKind, VaeConfig};
use super::decoder::Decoder;
use super::encoder::Encoder;
use super::layers::Conv;
use super::site::{Sites, Stopped};
use super::tiling::{Place, Tiling};
use crate::gpu::spans;
use crate::model::latent::ClipSize;
use crate::model::layers::to_f32;
use crate::model::weights::{Loader, WeightError, is_ignorable_vae_key};

/// Pixels that go through at once, four clips of mini: in f32 a tensor of more would pass the 2 GiB of a binding.
const PIXELS_A_CALL: usize = 4 * 29 * 256 * 144;
/// Clips that go through at once, however small they are.
const MOST_CLIPS_A_CALL: usize = 32;

/// Mean and log-variance of the latents of a video, `[batch, channels, frames, height, width]`, before the scaling factor.
#[derive(Clone, Debug)]
pub struct Posterior {
    pub mean: Tensor<5>,
    pub log_variance: Tensor<5>,
}

impl Posterior {
    /// A latent of this posterior for unit noise of its shape.
    pub fn sample(&self, noise: Tensor<5>) -> Tensor<5> {
        self.mean.clone() + (self.log_variance.clone() * 0.5).exp() * noise
    }
}

#[derive(Module, Debug)]
pub struct Vae {
    encoder: Encoder,
    decoder: Decoder,
    quant_conv: Conv,
    post_quant_conv: Conv,
    embed_dim: usize,
    scaling_factor: f64,
    #[module(skip)]
    tiling: Tiling,
}

/// Whether a tensor's published name is of what makes latents, and not of what makes frames of them.
pub fn is_of_encoder(name: &str) -> bool {
    name.starts_with("encoder.") || name.starts_with("quant_conv.")
}

impl Vae {
    /// # Errors
    /// The weights do not fit the configuration.
    pub fn load(mut loader: Loader<'_>, config: &VaeConfig) -> Result<Self, WeightError> {
        let (z, embed) = (config.z_channels, config.embed_dim);
        let vae = Self {
            encoder: Encoder::load(&mut loader, config),
            decoder: Decoder::load(&mut loader, config),
            quant_conv: Conv::pointwise(&mut loader, "quant_conv", ConvKind::CausalConv3d, 2 * z, 2 * embed),
            post_quant_conv: Conv::pointwise(&mut loader, "post_quant_conv", ConvKind::CausalConv3d, embed, z),
            embed_dim: embed,
            scaling_factor: config.scaling_factor,
            tiling: Tiling::of(config),
        };
        loader.finish(is_ignorable_vae_key)?;
        Ok(vae)
    }

    pub fn scaling_factor(&self) -> f64 {
        self.scaling_factor
    }

    /// The tiles that its size asks for.
    pub fn tiling(&self) -> Tiling {
        self.tiling
    }

    /// Video `[batch, 3, frames, height, width]` in [-1, 1] to the posterior of its latents; tiled where an axis is larger
    /// than `tiling` says.
    pub fn encode(&self, video: Tensor<5>, tiling: Option<Tiling>, sites: &mut Sites<'_>) -> Posterior {
        let pass = tiling.map(Tiling::encoding);
        let mut network = |x| -> Result<_, Infallible> {
            let moments = self.quant_conv.forward(self.encoder.forward(x, sites));
            sites.see(|| "quant_conv".into(), &moments);
            Ok(to_f32(moments))
        };
        let x = channels_last(video);
        let Ok(moments) = match pass {
            Some(pass) => pass.run(x, &mut network),
            None => network(x),
        };
        let moments = channels_first(moments);
        Posterior {
            mean: moments.clone().narrow(1, 0, self.embed_dim),
            log_variance: moments.narrow(1, self.embed_dim, self.embed_dim).clamp(-30.0, 20.0),
        }
    }

    /// Latents `[batch, channels, frames, height, width]`, already divided by the scaling factor, to video
    /// `[batch, frames, height, width, 3]` around [-1, 1] in f32; tiled where an axis is larger than `tiling` says.
    ///
    /// # Errors
    /// `sites` stopped it.
    pub fn decode(&self, latents: Tensor<5>, tiling: Option<Tiling>, sites: &mut Sites<'_>) -> Result<Tensor<5>, Stopped> {
        let pass = tiling.map(Tiling::decoding);
        let mut network = |x| self.decode_alone(x, sites);
        let x = channels_last(latents);
        match pass {
            Some(pass) => pass.run(x, &mut network),
            None => network(x),
        }
    }

    fn decode_alone(&self, x: Tensor<5>, sites: &mut Sites<'_>) -> Result<Tensor<5>, Stopped> {
        let z = spans::layer(|| "decoder.conv_in".into(), || self.post_quant_conv.forward(x));
        sites.see(|| "post_quant_conv".into(), &z);
        self.decoder.forward(z, sites).map(to_f32)
    }

    /// The tiles that [`Self::decode`] sees of latents of so many frames, rows and columns, one after the other.
    pub fn decoding_tiles(&self, size: [usize; 3]) -> Vec<Place> {
        self.tiling.decoding().places(size)
    }

    /// One of [`Self::decoding_tiles`] of `latents` as in [`Self::decode`]: `[batch, frames, height, width, 3]`, not yet blended.
    ///
    /// # Errors
    /// `sites` stopped it.
    pub fn decode_tile(
        &self,
        latents: Tensor<5>,
        [frames, rows, columns]: &Place,
        sites: &mut Sites<'_>,
    ) -> Result<Tensor<5>, Stopped> {
        let tile = [(2, frames), (3, rows), (4, columns)]
            .into_iter()
            .fold(latents, |latents, (axis, range)| latents.narrow(axis, range.start, range.len()));
        self.decode_alone(channels_last(tile), sites)
    }

    /// [`Self::decode`] from its tiles, which `tile` gives by their number.
    ///
    /// # Errors
    /// The first of `tile`.
    pub fn assemble<E>(&self, latents: Tensor<5>, tile: &mut dyn FnMut(usize) -> Result<Tensor<5>, E>) -> Result<Tensor<5>, E> {
        let mut next = 0..;
        self.tiling.decoding().run(channels_last(latents), &mut |_| tile(next.next().unwrap_or_default()))
    }
}

impl Vae {
    /// What becomes of a video `[batch, frames, height, width, 3]` in [-1, 1] on its way through latents at the middle of
    /// their posterior, without tiles.
    pub fn reconstruct(&self, video: Tensor<5>) -> Tensor<5> {
        let latents = self.encode(channels_first(video), None, &mut Sites::default()).mean;
        self.decode_whole(latents)
    }

    /// How many clips of a size should go through at once.
    pub fn clips_a_call(size: ClipSize) -> usize {
        (PIXELS_A_CALL / (size.frames * size.width * size.height).max(1)).clamp(1, MOST_CLIPS_A_CALL)
    }

    /// As [`Self::decode`], without tiles.
    pub fn decode_whole(&self, latents: Tensor<5>) -> Tensor<5> {
        match self.decode(latents, None, &mut Sites::default()) {
            Ok(video) => video,
            Err(Stopped) => unreachable!("nobody asks it to stop"),
        }
    }
}

pub fn channels_last(x: Tensor<5>) -> Tensor<5> {
    x.permute([0, 2, 3, 4, 1])
}

pub fn channels_first(x: Tensor<5>) -> Tensor<5> {
    x.permute([0, 4, 1, 2, 3])
}

/// Decoded values around [-1, 1] to 8 bits, truncated and not rounded, as the reference.
pub fn to_rgb8(video: &[f32]) -> Vec<u8> {
    video.iter().map(|v| ((v / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0) as u8).collect()
}
