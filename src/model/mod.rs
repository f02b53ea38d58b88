//! The networks under their published names, and what they need: weights, samplers, text.

pub mod dit;
pub mod folder;
pub mod latent;
pub mod layers;
pub mod noise;
pub mod sampler;
pub mod text;
pub mod vae;
pub mod weights;
