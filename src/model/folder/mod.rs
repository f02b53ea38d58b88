//! Models as folders: finding one by name or path, and knowing its parts.
//!
//! A model has the published layout: a transformer's folder beside a VAE's and a text encoder's, each recognised by what its
//! `config.json` says, never by its name. The small model of this project has the same layout and needs no special case;
//! it may also be part of the program itself. This room owns the search path, the layout, the facts that a model states
//! about its use (`tilereel.json`) and the identity of its files. It opens weights but does not interpret configurations.

mod embedded;
mod error;
mod facts;
mod files;
mod hash;
mod kind;
mod parts;
mod search;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub use error::FolderError;
pub use facts::{ModelFacts, SamplingDefaults, TrainedFor, WordGroup};
pub use files::ModelFiles;
pub use parts::{PublishedPart, published_parts};
pub use search::{ListedModel, SearchPath, list};

use super::text::{SpecialTokens, TextError, Tokenizer};
use super::weights::WeightSource;
use kind::{FolderKind, kind_of};

/// A complete model: three folders with their configurations, weights and facts.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    name: String,
    transformer: Part,
    vae: Part,
    text_encoder: Part,
    facts: ModelFacts,
}

/// One network's folder.
#[derive(Debug, Clone)]
struct Part {
    files: ModelFiles,
    config: Value,
    /// The file to open, or the index of its parts.
    weights: String,
}

/// The tokenizer's files as bytes.
#[derive(Debug, Clone)]
pub struct TokenizerFiles {
    pub model: TokenizerModel,
    /// `tokenizer_config.json`
    pub config: Option<Vec<u8>>,
    /// `special_tokens_map.json`
    pub special_tokens: Option<Vec<u8>>,
}

/// What the tokenizer is made from.
#[derive(Debug, Clone)]
pub enum TokenizerModel {
    /// `spiece.model`, as mT5 is published. It wins over a `tokenizer.json` beside it, which depends on the version of the
    /// library that converted it.
    SentencePiece(Vec<u8>),
    /// `tokenizer.json`
    Json(Vec<u8>),
}

impl TokenizerFiles {
    /// The tokenizer that they describe.
    ///
    /// # Errors
    /// They are damaged.
    pub fn tokenizer(&self) -> Result<Tokenizer, TextError> {
        let special = SpecialTokens::from_json(self.config.as_deref(), self.special_tokens.as_deref())?;
        match &self.model {
            TokenizerModel::SentencePiece(bytes) => Tokenizer::from_sentencepiece(bytes, &special),
            TokenizerModel::Json(bytes) => Tokenizer::from_tokenizer_json(bytes, &special),
        }
    }

    /// The files under their published names.
    pub fn named(&self) -> Vec<(&'static str, &[u8])> {
        let model = match &self.model {
            TokenizerModel::SentencePiece(bytes) => (SENTENCE_PIECE, &bytes[..]),
            TokenizerModel::Json(bytes) => (TOKENIZER_JSON, &bytes[..]),
        };
        let config = self.config.as_deref().map(|bytes| (TOKENIZER_CONFIG, bytes));
        let special = self.special_tokens.as_deref().map(|bytes| (SPECIAL_TOKENS, bytes));
        std::iter::once(model).chain(config).chain(special).collect()
    }
}

const CONFIG: &str = "config.json";
const FACTS: &str = "tilereel.json";
const MASK_PLAN: &str = "mask_plan.json";
/// The projection from latents to colours, beside the VAE.
pub const PREVIEW: &str = "preview.json";
const SENTENCE_PIECE: &str = "spiece.model";
const TOKENIZER_JSON: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";

impl ModelFolder {
    /// Finds a model for `--model`: a plain name or ROOT/NAME in the search path, a transformer's folder on disk, or the
    /// folder above it.
    ///
    /// A plain name means the search path first and a folder in the current directory second; anything with a separator
    /// means the disk first.
    ///
    /// # Errors
    /// If there is no such model (the message says where was looked and what there is), a folder holds several, it is
    /// of another family, or a part of it is missing.
    pub fn resolve(name_or_path: &str, search: &SearchPath) -> Result<Self, FolderError> {
        search::resolve(name_or_path, search)
    }

    /// Opens the model whose transformer lies in `transformer`, with the VAE and the text encoder in the folders beside it.
    ///
    /// # Errors
    /// If the folder holds no transformer of this family, or a part is missing, doubled or damaged.
    pub fn open(transformer: ModelFiles) -> Result<Self, FolderError> {
        match kind_of(&transformer)? {
            Some(FolderKind::Transformer) => {}
            Some(FolderKind::Vae) => {
                return Err(FolderError::NotTransformer { location: transformer.location(""), what: "a VAE" });
            }
            Some(FolderKind::TextEncoder) => {
                return Err(FolderError::NotTransformer { location: transformer.location(""), what: "a text encoder" });
            }
            Some(FolderKind::Foreign(found)) => {
                return Err(FolderError::WrongFamily { location: transformer.location(""), found });
            }
            None => return Err(FolderError::NoModel { location: transformer.location("") }),
        }
        let beside = Siblings::of(&transformer);
        let vae = beside.only(&beside.vaes, "VAE", &transformer)?;
        let text_encoder = beside.only(&beside.text_encoders, "text encoder", &transformer)?;

        let location = transformer.location("");
        let mut missing = Vec::new();
        let transformer = Part::in_folder(transformer, "transformer", &mut missing)?;
        let vae = match vae {
            Some(files) => Part::in_folder(files, "VAE", &mut missing)?,
            None => {
                missing.push("the folder of the VAE, with a config.json of class CausalVAEModel".to_owned());
                None
            }
        };
        let text_encoder = match text_encoder {
            Some(files) => {
                if !files.exists(SENTENCE_PIECE) && !files.exists(TOKENIZER_JSON) {
                    let location = files.location("");
                    missing.push(format!("the tokenizer ({SENTENCE_PIECE} or {TOKENIZER_JSON}), in {location}"));
                }
                Part::in_folder(files, "text encoder", &mut missing)?
            }
            None => {
                missing.push("the folder of the text encoder, with a config.json of model_type mt5".to_owned());
                None
            }
        };
        match (transformer, vae, text_encoder) {
            (Some(transformer), Some(vae), Some(text_encoder)) if missing.is_empty() => {
                let name = transformer.files.name();
                let facts = facts::read(&transformer.files, &transformer.config)?;
                Ok(Self { name, transformer, vae, text_encoder, facts })
            }
            _ => Err(beside.explain(location, missing)),
        }
    }

    /// The name of the transformer's folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the transformer's folder is, for people.
    pub fn location(&self) -> String {
        self.transformer.files.location("")
    }

    /// The transformer's folder itself.
    pub fn files(&self) -> &ModelFiles {
        &self.transformer.files
    }

    /// Defaults and trained facts: from `tilereel.json`, or derived from the published configuration.
    pub fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    pub fn transformer_config(&self) -> &Value {
        &self.transformer.config
    }

    pub fn vae_config(&self) -> &Value {
        &self.vae.config
    }

    pub fn text_encoder_config(&self) -> &Value {
        &self.text_encoder.config
    }

    /// # Errors
    /// If the file cannot be read or is damaged; so for the two below.
    pub fn transformer_weights(&self) -> Result<WeightSource, FolderError> {
        self.transformer.open_weights()
    }

    pub fn vae_weights(&self) -> Result<WeightSource, FolderError> {
        self.vae.open_weights()
    }

    pub fn text_encoder_weights(&self) -> Result<WeightSource, FolderError> {
        self.text_encoder.open_weights()
    }

    /// The tokenizer's files.
    ///
    /// # Errors
    /// If one that exists cannot be read.
    pub fn tokenizer(&self) -> Result<TokenizerFiles, FolderError> {
        let files = &self.text_encoder.files;
        let model = if files.exists(SENTENCE_PIECE) {
            TokenizerModel::SentencePiece(files.read(SENTENCE_PIECE)?)
        } else {
            TokenizerModel::Json(files.read(TOKENIZER_JSON)?)
        };
        let config = files.read_if_exists(TOKENIZER_CONFIG)?;
        let special_tokens = files.read_if_exists(SPECIAL_TOKENS)?;
        Ok(TokenizerFiles { model, config, special_tokens })
    }

    /// The text of the model's mask plan, if it has one: the file that `tilereel.json` names, else `mask_plan.json`.
    ///
    /// # Errors
    /// If the file is named but not there, cannot be read, or is not text.
    pub fn mask_plan(&self) -> Result<Option<String>, FolderError> {
        match &self.facts.mask_plan {
            Some(name) => self.transformer.files.read_text(name).map(Some),
            None => self.transformer.files.read_text_if_exists(MASK_PLAN),
        }
    }

    /// The text of `preview.json` beside the VAE's configuration, the projection from latents to colours, if there.
    ///
    /// # Errors
    /// If it cannot be read or is not text.
    pub fn preview_projection(&self) -> Result<Option<String>, FolderError> {
        self.vae.files.read_text_if_exists(PREVIEW)
    }

    /// SHA-256, in hexadecimal, of all configurations, weights and tokenizer files: the identity of what a clip was made with.
    /// Folder names do not count, so the built-in model and its copy on disk are one.
    ///
    /// A file is read once a process, unless it changes.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn hash(&self) -> Result<String, FolderError> {
        hash::of_parts(&[("transformer", &self.transformer), ("vae", &self.vae), ("text_encoder", &self.text_encoder)])
    }

    /// SHA-256, in hexadecimal, of the text encoder's files alone.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn text_encoder_hash(&self) -> Result<String, FolderError> {
        hash::of_parts(&[("text_encoder", &self.text_encoder)])
    }

    /// SHA-256, in hexadecimal, of the VAE's files alone.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn vae_hash(&self) -> Result<String, FolderError> {
        hash::of_parts(&[("vae", &self.vae)])
    }
}

impl Part {
    /// The part in `files`; if it has no weights, that is noted in `missing`.
    fn in_folder(files: ModelFiles, what: &str, missing: &mut Vec<String>) -> Result<Option<Self>, FolderError> {
        let Some(weights) = files.weight_file()? else {
            missing.push(format!("the weights of the {what}, in {}", files.location("")));
            return Ok(None);
        };
        let config = files.read_json(CONFIG)?;
        Ok(Some(Self { files, config, weights }))
    }

    fn open_weights(&self) -> Result<WeightSource, FolderError> {
        Ok(self.files.open_weights(&self.weights)?)
    }
}

/// The folders beside a transformer's, by what they hold.
struct Siblings {
    vaes: Vec<ModelFiles>,
    text_encoders: Vec<ModelFiles>,
    /// What is there but not supported, in words.
    foreign: Vec<String>,
    /// The first folder whose configuration could not be read.
    damaged: Option<FolderError>,
}

impl Siblings {
    fn of(transformer: &ModelFiles) -> Self {
        let mut found = Self { vaes: Vec::new(), text_encoders: Vec::new(), foreign: Vec::new(), damaged: None };
        for folder in transformer.parent().iter().flat_map(ModelFiles::subfolders) {
            match kind_of(&folder) {
                Ok(Some(FolderKind::Vae)) => found.vaes.push(folder),
                Ok(Some(FolderKind::TextEncoder)) => found.text_encoders.push(folder),
                Ok(Some(FolderKind::Foreign(what))) => found.foreign.push(format!("{} is {what}", folder.name())),
                Ok(Some(FolderKind::Transformer) | None) => {}
                Err(error) => found.damaged = found.damaged.or(Some(error)),
            }
        }
        found
    }

    fn only(
        &self,
        folders: &[ModelFiles],
        part: &'static str,
        transformer: &ModelFiles,
    ) -> Result<Option<ModelFiles>, FolderError> {
        match folders {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            several => Err(FolderError::SeveralParts {
                location: transformer.location(""),
                part,
                folders: several.iter().map(ModelFiles::name).collect(),
            }),
        }
    }

    /// A part that seems missing because its configuration is damaged is better explained by the damage.
    fn explain(self, location: String, missing: Vec<String>) -> FolderError {
        match self.damaged {
            Some(damaged) if self.vaes.is_empty() || self.text_encoders.is_empty() => damaged,
            _ => FolderError::MissingParts { location, missing, foreign: self.foreign },
        }
    }
}
