//! What is trained from nothing: the VAE, then the transformer with its text encoder, and the judge of generated clips.

pub mod base;
pub mod initial;
pub mod judge;
pub mod samples;
pub mod vae;

#[cfg(test)]
mod binding;
