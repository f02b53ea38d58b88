//! The files of the small model `mini` inside the program, so that a copied binary works alone (feature `embedded-mini`).

/// Name of the folder that these files come from.
pub(super) const ROOT_NAME: &str = "mini";

/// Path from the model's root, and content.
#[cfg(feature = "embedded-mini")]
pub(super) const FILES: &[(&str, &[u8])] = mini_files![
    "base/config.json",
    "base/diffusion_pytorch_model.safetensors",
    "base/tilereel.json",
    "fast/config.json",
    "fast/diffusion_pytorch_model.safetensors",
    "fast/mask_plan.json",
    "fast/tilereel.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/special_tokens_map.json",
    "text_encoder/spiece.model",
    "text_encoder/tokenizer_config.json",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "vae/preview.json",
];

#[cfg(not(feature = "embedded-mini"))]
pub(super) const FILES: &[(&str, &[u8])] = &[];

#[cfg(feature = "embedded-mini")]
macro_rules! mini_files {
    ($($path:literal),* $(,)?) => {
        &[$((
            $path,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/models/mini/", $path)),
        )),*]
    };
}
#[cfg(feature = "embedded-mini")]
use mini_files;
