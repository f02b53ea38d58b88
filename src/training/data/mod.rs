//! What networks learn from: clips of the world, their sentences, and their latents.

pub mod captions;
pub mod clip_folder;
pub mod encoding;
pub mod latents;
pub mod mix;
pub mod scenes;
