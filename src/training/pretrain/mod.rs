//! What is trained from nothing: the VAE, then the text encoder, the transformer together with it, and the judge of generated clips.

pub mod base;
pub mod initial;
pub mod judge;
pub mod samples;
pub mod text;
pub mod vae;
