//! The model that a training is like: its configurations, its tokenizer, the size of its clips.

use std::path::Path;

use half::f16;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::data::latents::encoder_digest;
use super::error::TrainError;
use super::folder::RunFolder;
use super::pretrain::base::{BaseConfigs, TEXT_ENCODER, TRANSFORMER};
use super::pretrain::vae::VAE;
use crate::gpu::device::ComputeDevice;
use crate::mask::MaskPlan;
use crate::model::folder::{ModelFacts, ModelFiles, ModelFolder, PREVIEW, SearchPath};
use crate::model::latent::ClipSize;
use crate::model::text::Tokenizer;
use crate::model::text::encoder::TextEncoder;
use crate::model::vae::{Vae, VaeConfig};
use crate::model::weights::{Loader, WeightSource, WrittenTensor, WrittenType, write_safetensors, write_whole};

/// File names of the published layout.
const VAE_WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
const CONFIG: &str = "config.json";
const FACTS: &str = "tilereel.json";
const TEXT_ENCODER_WEIGHTS: &str = "model.safetensors";

/// A model that a training is like: its sizes, and for a distillation also its weights.
pub struct Template {
    folder: ModelFolder,
}

impl Template {
    /// # Errors
    /// There is no such model.
    pub fn open(name_or_path: &str) -> Result<Self, TrainError> {
        Ok(Self { folder: ModelFolder::resolve(name_or_path, &SearchPath::standard())? })
    }

    fn parse<T: DeserializeOwned>(&self, value: &Value, what: &str) -> Result<T, TrainError> {
        serde_path_to_error::deserialize(value).map_err(|error| self.unsupported(format!("{what}: {error}")))
    }

    fn unsupported(&self, reason: String) -> TrainError {
        TrainError::Unsupported { location: self.folder.location(), reason }
    }

    /// # Errors
    /// A configuration is damaged, or of a network that this program does not run.
    pub fn base_configs(&self) -> Result<BaseConfigs, TrainError> {
        let configs = BaseConfigs {
            transformer: self.parse(self.folder.transformer_config(), "the transformer")?,
            transformer_json: self.folder.transformer_config().clone(),
            text_encoder: self.parse(self.folder.text_encoder_config(), "the text encoder")?,
            text_encoder_json: self.folder.text_encoder_config().clone(),
        };
        match configs.transformer.unsupported().or_else(|| configs.text_encoder.unsupported()) {
            Some(reason) => Err(self.unsupported(reason)),
            None => Ok(configs),
        }
    }

    /// Weights of the transformer and of the text encoder, to learn more from.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn base_weights(&self) -> Result<[WeightSource; 2], TrainError> {
        Ok([self.folder.transformer_weights()?, self.folder.text_encoder_weights()?])
    }

    /// Weights of the VAE, to learn more from.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn vae_weights(&self) -> Result<WeightSource, TrainError> {
        Ok(self.folder.vae_weights()?)
    }

    /// # Errors
    /// As [`Self::base_configs`].
    pub fn vae_config(&self) -> Result<(VaeConfig, Value), TrainError> {
        let json = self.folder.vae_config().clone();
        let config: VaeConfig = self.parse(&json, "the VAE")?;
        match config.unsupported() {
            Some(reason) => Err(self.unsupported(reason)),
            None => Ok((config, json)),
        }
    }

    /// # Errors
    /// Its files are damaged.
    pub fn tokenizer(&self) -> Result<Tokenizer, TrainError> {
        Ok(self.folder.tokenizer()?.tokenizer()?)
    }

    /// The size of its clips.
    pub fn size(&self) -> ClipSize {
        let defaults = &self.folder.facts().defaults;
        ClipSize { frames: defaults.frames, width: defaults.width, height: defaults.height }
    }

    /// Tokens of a sentence.
    pub fn max_tokens(&self) -> usize {
        self.folder.facts().trained.max_tokens
    }

    /// Puts the tokenizer's files and what the model says about its use into the run's model, which makes clips of `size` and
    /// learns from clips of all of `trained_frames`.
    ///
    /// # Errors
    /// They cannot be read or written.
    pub fn write_texts(&self, run: &RunFolder, size: ClipSize, trained_frames: Vec<usize>) -> Result<(), TrainError> {
        self.write_tokenizer(run)?;
        let mut facts = self.folder.facts().clone();
        let ClipSize { frames, width, height } = size;
        (facts.defaults.frames, facts.defaults.width, facts.defaults.height) = (frames, width, height);
        (facts.trained.frames, facts.trained.sizes) = (trained_frames, vec![[width, height]]);
        // Every frame sees every frame, until a plan is searched for.
        facts.mask_plan = None;
        let text = serde_json::to_string_pretty(&facts).map_err(|error| self.unsupported(error.to_string()))?;
        write_whole(&run.network(TRANSFORMER).join(FACTS), (text + "\n").as_bytes())?;
        Ok(())
    }

    /// Puts the tokenizer's files into the run's model.
    ///
    /// # Errors
    /// They cannot be read or written.
    pub fn write_tokenizer(&self, run: &RunFolder) -> Result<(), TrainError> {
        for (name, bytes) in self.folder.tokenizer()?.named() {
            write_whole(&run.network(TEXT_ENCODER).join(name), bytes)?;
        }
        Ok(())
    }

    /// The text encoder that the run's model has already, trained by itself.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn text_encoder_of(run: &RunFolder) -> Result<Option<WeightSource>, TrainError> {
        let place = run.network(TEXT_ENCODER);
        let is_there = place.join(CONFIG).exists();
        Ok(is_there.then(|| WeightSource::open(&place.join(TEXT_ENCODER_WEIGHTS))).transpose()?)
    }

    /// Puts this model's VAE into the run's model, if there is none yet. True if it did.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn lend_vae(&self, run: &RunFolder) -> Result<bool, TrainError> {
        let place = run.network(VAE);
        if place.join(CONFIG).exists() {
            return Ok(false);
        }
        lend(&self.folder.vae_weights()?, self.folder.vae_config(), &place, VAE_WEIGHTS)?;
        if let Some(preview) = self.folder.preview_projection()? {
            write_whole(&place.join(PREVIEW), preview.as_bytes())?;
        }
        Ok(true)
    }

    /// Makes sure that a student of this model, in the run's model, finds the VAE and the text encoder that it has learnt with.
    /// True if they were put there.
    ///
    /// # Errors
    /// They cannot be read or written, or the run's model has others.
    pub fn lend_surroundings(&self, run: &RunFolder) -> Result<bool, TrainError> {
        let lent = self.lend_vae(run)? | self.lend_text_encoder(run)?;
        let is_home = self.path().and_then(Path::parent).is_some_and(|root| is_same_place(root, run.root()));
        if !is_home {
            check_lent(&self.folder.vae_weights()?, &run.network(VAE).join(VAE_WEIGHTS), "VAE")?;
            let encoder = run.network(TEXT_ENCODER).join(TEXT_ENCODER_WEIGHTS);
            check_lent(&self.folder.text_encoder_weights()?, &encoder, "text encoder")?;
        }
        Ok(lent)
    }

    /// Puts this model's text encoder and tokenizer into the run's model, if there are none yet. True if it did.
    ///
    /// # Errors
    /// They cannot be read or written.
    fn lend_text_encoder(&self, run: &RunFolder) -> Result<bool, TrainError> {
        let place = run.network(TEXT_ENCODER);
        if place.join(CONFIG).exists() {
            return Ok(false);
        }
        self.write_tokenizer(run)?;
        lend(&self.folder.text_encoder_weights()?, self.folder.text_encoder_config(), &place, TEXT_ENCODER_WEIGHTS)?;
        Ok(true)
    }

    /// The weights of its transformer.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn transformer_weights(&self) -> Result<WeightSource, TrainError> {
        Ok(self.folder.transformer_weights()?)
    }

    /// Its text encoder, ready to be used.
    ///
    /// # Errors
    /// It is damaged, or of a kind that this program does not run.
    pub fn text_encoder(&self, device: &ComputeDevice) -> Result<TextEncoder, TrainError> {
        let config = self.base_configs()?.text_encoder;
        Ok(TextEncoder::load(Loader::new(&self.folder.text_encoder_weights()?, device), &config)?)
    }

    /// The masks that it was made for; dense if it names none.
    ///
    /// # Errors
    /// The plan is damaged, or of another model.
    pub fn plan(&self) -> Result<MaskPlan, TrainError> {
        let plan = match self.folder.mask_plan()? {
            Some(text) => MaskPlan::from_json(&text)?,
            None => MaskPlan::dense(self.base_configs()?.transformer.num_layers, self.size().latent_frames())?,
        };
        self.check_plan(&plan)?;
        plan.check_for_all_steps()?;
        Ok(plan)
    }

    /// # Errors
    /// [`TrainError::Mask`] if the plan is of another model or of clips of another length.
    pub fn check_plan(&self, plan: &MaskPlan) -> Result<(), TrainError> {
        Ok(plan.check(self.base_configs()?.transformer.num_layers, self.size().latent_frames())?)
    }

    /// The SHA-256 of its files.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn hash(&self) -> Result<String, TrainError> {
        Ok(self.folder.hash()?)
    }

    /// The first digits of the hash of its files, enough to tell it from another.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn short_hash(&self) -> Result<String, TrainError> {
        Ok(self.hash()?.chars().take(12).collect())
    }

    /// What it says about its use.
    pub fn facts(&self) -> &ModelFacts {
        self.folder.facts()
    }

    /// Its name in a list of models.
    pub fn name(&self) -> &str {
        self.folder.name()
    }

    /// The configuration of its transformer, as published.
    pub fn transformer_json(&self) -> &Value {
        self.folder.transformer_config()
    }

    /// The folder of its transformer, unless it is built in.
    pub fn path(&self) -> Option<&Path> {
        match self.folder.files() {
            ModelFiles::Disk(path) => Some(path),
            ModelFiles::Embedded(_) => None,
        }
    }
}

fn is_same_place(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Fails unless a lent network in the run's model is still that of the teacher.
fn check_lent(source: &WeightSource, lent: &Path, what: &str) -> Result<(), TrainError> {
    let other = WeightSource::open(lent)?;
    for (name, info) in source.tensors() {
        let is_same = other.info(name).is_some_and(|other| other.shape == info.shape) && {
            let (own, lent) = (source.read_f32(name)?, other.read_f32(name)?);
            // As they are written.
            own.iter().zip(&lent).all(|(&own, &lent)| f16::from_f32(own) == f16::from_f32(lent))
        };
        if !is_same {
            let reason = format!(
                "{} is another {what} than that of the teacher. Choose another --out, or the folder of the teacher's own model",
                lent.display()
            );
            return Err(TrainError::Settings(reason));
        }
    }
    Ok(())
}

/// Writes a network of one model into another's folder; the configuration last, because it says that the network is there.
fn lend(source: &WeightSource, config: &Value, place: &Path, weights: &str) -> Result<(), TrainError> {
    let tensors = source.tensors().map(|(name, info)| {
        Ok(WrittenTensor { name: name.to_owned(), shape: info.shape.clone(), values: source.read_f32(name)? })
    });
    let tensors = tensors.collect::<Result<Vec<_>, TrainError>>()?;
    write_safetensors(&place.join(weights), &tensors, WrittenType::F16)?;
    Ok(write_whole(&place.join(CONFIG), format!("{config:#}\n").as_bytes())?)
}

/// The VAE of a run's model, and a digest of its encoder.
///
/// # Errors
/// There is none, or it is damaged.
pub fn load_vae(run: &RunFolder, device: &ComputeDevice) -> Result<(Vae, VaeConfig, String), TrainError> {
    let place = run.network(VAE);
    let (config_path, weights_path) = (place.join(CONFIG), place.join(VAE_WEIGHTS));
    let unreadable = |reason: String| TrainError::Unreadable { path: config_path.clone(), reason };
    let text = std::fs::read_to_string(&config_path).map_err(|error| unreadable(error.kind().to_string()))?;
    let json: Value = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    let config = VaeConfig::deserialize(&json).map_err(|error| unreadable(error.to_string()))?;
    if let Some(reason) = config.unsupported() {
        return Err(unreadable(reason));
    }
    let source = WeightSource::open(&weights_path)?;
    let vae = Vae::load(Loader::new(&source, device), &config)?;
    let digest = encoder_digest(&json, &source)?;
    Ok((vae, config, digest))
}
