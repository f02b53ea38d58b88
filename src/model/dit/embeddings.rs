//! From latents, timesteps and captions to what the blocks work on, and back.

use burn::module::{Module, Param};
use burn::tensor::activation::silu;
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::config::TransformerConfig;
use crate::gpu::kernels::gelu::gelu_tanh;
use crate::gpu::kernels::norm_modulate::{NormPlace, ShiftAndScale};
use crate::model::layers::{Linear, TwoLayers, modulated_layer_norm, to_f32};
use crate::model::weights::Loader;

/// Channels of the sinusoidal embedding of a timestep.
const TIME_CHANNELS: usize = 256;

/// Every frame alone is cut into patches, and each patch becomes a token.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    proj: Linear,
    patch_size: usize,
}

impl PatchEmbed {
    pub fn load(loader: &mut Loader<'_>, config: &TransformerConfig) -> Self {
        let proj = loader.patch_projection("pos_embed.proj", config.in_channels, config.patch_size, config.width());
        Self { proj, patch_size: config.patch_size }
    }

    /// Channels of the latents.
    pub fn channels(&self) -> usize {
        let [inputs, _] = self.proj.weight.dims();
        inputs / (self.patch_size * self.patch_size)
    }

    /// The storage type of the network's weights.
    pub fn storage_type(&self) -> DType {
        self.proj.storage_type()
    }

    /// Latents `[batch, channels, frames, height, width]` to tokens `[batch, frames * h * w, width]`, w fastest.
    pub fn forward(&self, latents: Tensor<5>) -> Tensor<3> {
        let [batch, channels, frames, height, width] = latents.dims();
        let p = self.patch_size;
        let (h, w) = (height / p, width / p);
        let patches: Tensor<7> = latents.reshape([batch, channels, frames, h, p, w, p]);
        let patches = patches.permute([0, 2, 3, 5, 1, 4, 6]).reshape([batch, frames * h * w, channels * p * p]);
        to_f32(self.proj.forward(patches))
    }
}

/// The timestep's vector and the six modulations of all blocks (AdaLN-single).
#[derive(Module, Debug)]
pub struct AdaLayerNormSingle {
    timestep_embedder: TwoLayers,
    linear: Linear,
}

impl AdaLayerNormSingle {
    pub fn load(loader: &mut Loader<'_>, config: &TransformerConfig) -> Self {
        let width = config.width();
        Self {
            timestep_embedder: loader.two_layers("adaln_single.emb.timestep_embedder", TIME_CHANNELS, width),
            linear: loader.linear("adaln_single.linear", width, 6 * width, true),
        }
    }

    /// [`sinusoids`] to their embedding `[batch, width]` and the modulations `[batch, 6 * width]`, both f32.
    pub fn forward(&self, sinusoids: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let embedded = to_f32(self.timestep_embedder.forward(sinusoids, silu));
        let modulations = to_f32(self.linear.forward(silu(embedded.clone())));
        (embedded, modulations)
    }
}

/// [`sinusoid`] on a device, `[timesteps, channels]`.
pub fn sinusoids(timesteps: &[f32], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(sinusoid(timesteps), [timesteps.len(), TIME_CHANNELS]), device)
}

/// `[cos(t f), sin(t f)]` with `f_j = 10000^(-j / 128)`: cosines first, and fractions of a timestep count.
pub fn sinusoid(timesteps: &[f32]) -> Vec<f32> {
    let half = TIME_CHANNELS / 2;
    let frequency = |j: usize| (-(10_000f64.ln() as f32) * j as f32 / half as f32).exp();
    let mut values = Vec::with_capacity(timesteps.len() * TIME_CHANNELS);
    for &t in timesteps {
        values.extend((0..half).map(|j| (t * frequency(j)).cos()));
        values.extend((0..half).map(|j| (t * frequency(j)).sin()));
    }
    values
}

/// The text encoder's output in the width of the transformer.
#[derive(Module, Debug)]
pub struct CaptionProjection {
    layers: TwoLayers,
}

impl CaptionProjection {
    pub fn load(loader: &mut Loader<'_>, config: &TransformerConfig) -> Self {
        Self { layers: loader.two_layers("caption_projection", config.caption_channels, config.width()) }
    }

    /// `[batch, tokens, caption channels]` to `[batch, tokens, width]`.
    pub fn forward(&self, text: Tensor<3>) -> Tensor<3> {
        self.layers.forward(text, gelu_tanh)
    }
}

/// The last norm with its own modulation, and the projection back to patches.
#[derive(Module, Debug)]
pub struct FinalLayer {
    scale_shift_table: Param<Tensor<2>>,
    proj_out: Linear,
    patch_size: usize,
    epsilon: f64,
}

impl FinalLayer {
    pub fn load(loader: &mut Loader<'_>, config: &TransformerConfig) -> Self {
        let outputs = config.out_channels * config.patch_size * config.patch_size;
        Self {
            scale_shift_table: loader.exact("scale_shift_table", [2, config.width()]),
            proj_out: loader.linear("proj_out", config.width(), outputs, true),
            patch_size: config.patch_size,
            epsilon: config.norm_eps,
        }
    }

    /// Tokens to `[batch, channels, frames, height, width]`; `grid` is (t, h, w) in tokens.
    pub fn forward(&self, tokens: Tensor<3>, embedded_timestep: Tensor<2>, grid: [usize; 3]) -> Tensor<5> {
        let table = self.scale_shift_table.val().unsqueeze::<3>() + embedded_timestep.unsqueeze_dim(1); // [batch, 2, width]
        let rows = ShiftAndScale { shift: 0, scale: 1 };
        let tokens = modulated_layer_norm(tokens, table, rows, self.epsilon, &self.proj_out, NormPlace::Anywhere);
        let patches = to_f32(self.proj_out.forward(tokens));
        let [batch, _, values] = patches.dims();
        let ([t, h, w], p) = (grid, self.patch_size);
        let channels = values / (p * p);
        let patches: Tensor<7> = patches.reshape([batch, t, h, w, p, p, channels]); // the channel is fastest
        patches.permute([0, 6, 1, 2, 4, 3, 5]).reshape([batch, channels, t, h * p, w * p])
    }
}
