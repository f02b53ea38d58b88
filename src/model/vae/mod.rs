//! The causal video VAE of Open-Sora-Plan v1.2 (4x in time, 8x in space): video to latents and back.
//!
//! GroupNorm's statistics run over the whole tile, so a latent frame depends on its neighbours in both directions.

mod autoencoder;
mod config;
mod decoder;
mod encoder;
mod layers;
mod resample;
mod site;
mod tiling;

pub use autoencoder::{Posterior, Vae, channels_first, channels_last, is_of_encoder, to_rgb8};
pub use config::VaeConfig;
pub use site::{Sites, Stopped};
pub use tiling::{Place, Tiling};
