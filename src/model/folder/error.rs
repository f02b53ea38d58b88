//! What can be wrong with a model's folder, in words for the person who named it.

use std::io;

use thiserror::Error;

use crate::model::weights::WeightError;

/// The layout that a model must have, for messages.
const LAYOUT: &str = "\
Expected layout:
  ROOT/
    NAME/          the transformer: config.json (_class_name OpenSoraT2V), diffusion_pytorch_model.safetensors
    a VAE/         config.json (_class_name CausalVAEModel), *.safetensors or *.ckpt
    an encoder/    config.json (model_type mt5), spiece.model or tokenizer.json, *.safetensors or pytorch_model.bin
The folders may have any names. Give ROOT/NAME, or ROOT if it holds one transformer.";

/// What is supported, for messages.
const SUPPORTED: &str = "the text-to-video transformer of Open-Sora-Plan 1.2 (_class_name OpenSoraT2V) with its VAE \
                         (CausalVAEModel) and an mT5 text encoder";

/// Why a model could not be found or opened.
#[derive(Debug, Error)]
pub enum FolderError {
    #[error("cannot read {location}: {source}. Check that it exists and that you may read it")]
    Unreadable { location: String, source: io::Error },

    #[error("{location} is larger than {limit} bytes, which no such file should be. Fetch it again")]
    TooLarge { location: String, limit: u64 },

    #[error("{location} is not text (UTF-8). Fetch it again")]
    NotText { location: String },

    #[error("{location} is not the expected JSON: {reason}. Fetch it again, or correct it")]
    NotJson { location: String, reason: String },

    /// A value of `tilereel.json` or `config.json` that cannot be meant.
    #[error("{location}: {reason}")]
    Fact { location: String, reason: String },

    #[error(
        "there is no model {name}.\nLooked in:\n{}\nModels found:\n{}\nGive one of these names, the folder of a model, \
         or put folders with models into the variable {variable}",
        indented(looked, "nowhere"),
        indented(available, "none"),
        variable = super::search::MODELS_VARIABLE
    )]
    UnknownModel { name: String, looked: Vec<String>, available: Vec<String> },

    #[error("{location} holds several transformers, so it does not say which is meant. Give one of:\n{}", indented(models, ""))]
    SeveralModels { location: String, models: Vec<String> },

    #[error("{location} is {found}. Supported is {SUPPORTED}")]
    WrongFamily { location: String, found: String },

    #[error("{location} is {what}, a part of a model. Give the folder of the transformer beside it, or the folder above both")]
    NotTransformer { location: String, what: &'static str },

    #[error("{location} holds no model: neither it nor a folder in it has a transformer's config.json.\n{LAYOUT}")]
    NoModel { location: String },

    #[error(
        "the model {location} is not complete. Missing:\n{}{}\n{LAYOUT}",
        indented(missing, ""),
        if foreign.is_empty() { String::new() } else { format!("\nNot usable beside it:\n{}", indented(foreign, "")) }
    )]
    MissingParts { location: String, missing: Vec<String>, foreign: Vec<String> },

    #[error(
        "beside the transformer {location} there are several folders with a {part}: {}. Keep one of them there",
        folders.join(", ")
    )]
    SeveralParts { location: String, part: &'static str, folders: Vec<String> },

    #[error(
        "{location} has several weight files: {}. Keep one; if these are the parts of one checkpoint, its *.index.json \
         is missing",
        files.join(", ")
    )]
    SeveralWeights { location: String, files: Vec<String> },

    #[error(transparent)]
    Weights(#[from] WeightError),
}

fn indented(lines: &[String], none: &str) -> String {
    if lines.is_empty() {
        return format!("  {none}");
    }
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
