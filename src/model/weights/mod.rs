//! Weight files: what tensors a file holds, and their values as f32.
//!
//! This room owns the reading of `*.safetensors` (whole or sharded) and of torch pickles (`*.ckpt`, `*.pt`, `*.pth`,
//! `*.bin`), the writing of `*.safetensors`, and the ledger that tells a person everything that is wrong with a file in one
//! message. Networks ask a [`Loader`] for their parameters under the published names.
//!
//! Files are read lazily, one tensor at a time: a published transformer is 11 GB, a text encoder up to 52 GB.

mod convert;
mod disk;
mod error;
mod ledger;
mod loader;
mod pickle;
mod published;
mod random;
mod safetensors;
mod sharded;
mod source;
mod stored_type;
mod stream;
#[cfg(test)]
mod tests;
mod values;
mod write;

pub use convert::{ConvertError, Converted, HalfType, convert};
pub use disk::free_disk_bytes;
pub use error::{HeaderFault, WeightError};
pub use ledger::{Mismatch, Misshaped, NonFinite, WeightLedger};
pub use loader::Loader;
pub use published::{InitialValues, Layout, PublishedParameter, PublishedParameters};
pub use source::{TensorInfo, WeightSource};
pub use stored_type::StoredType;
pub use stream::{Ahead, LayerStream};
pub use values::TensorValues;
pub use write::{WriteError, WrittenTensor, WrittenType, write_safetensors, write_whole};

/// True for keys of a published VAE checkpoint that its decoder and encoder do not use: the reference loader accepts
/// unexpected keys only if they contain "loss" (the discriminator's and the perceptual loss's parameters).
pub fn is_ignorable_vae_key(name: &str) -> bool {
    name.contains("loss")
}

/// True for keys of a whole mT5 checkpoint that its encoder does not use: the decoder and the language-model head.
pub fn is_ignorable_text_encoder_key(name: &str) -> bool {
    name.starts_with("decoder.") || name.starts_with("lm_head.")
}

/// The two names of mT5's token embedding. They are one tensor; a file may keep either or both, and the first wins.
pub const TOKEN_EMBEDDING_KEYS: [&str; 2] = ["shared.weight", "encoder.embed_tokens.weight"];
