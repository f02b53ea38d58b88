//! What makes a clip: the one struct that flags, window and clip files all read and write.

use serde::{Deserialize, Serialize};

use super::GenerateError;
use crate::clip::Frames;
use crate::gpu::device::{ComputeDevice, Precision};
use crate::mask::{MaskPlan, Neighbours};
use crate::model::folder::ModelFolder;
use crate::model::latent::ClipSize;
use crate::model::sampler::{Sampler, SamplerKind};

/// Version of the recipe's form; files with a larger one come from a newer program.
pub const RECIPE_FORMAT: u32 = FORMAT_WITH_NEIGHBOURS;
/// The form of a recipe without a branch, which programs before branches read too.
const FORMAT_WITHOUT_BRANCH: u32 = 1;
const FORMAT_WITH_BRANCH: u32 = 2;
/// Of a recipe whose plan has other masks for later steps, which older programs would not see.
const FORMAT_WITH_STEP_RANGES: u32 = 3;
/// Of a recipe whose plan has a mask of neighbours, which older programs do not know.
const FORMAT_WITH_NEIGHBOURS: u32 = 4;
/// Fields of a plan that a recipe holds; what a search found says nothing about a clip.
const PLAN_FIELDS: [&str; 3] = ["latent_frames", "layers", LATER_STEPS];
const LATER_STEPS: &str = "later_steps";
/// Branches of branches of branches: each takes a run of its own to make again.
const MOST_BRANCHES: usize = 16;
/// Longest prompt that is accepted; models read far less of it.
pub const LONGEST_PROMPT_BYTES: usize = 16 * 1024;
pub const LARGEST_GUIDANCE: f64 = 100.0;

/// A run. The same recipe on the same device gives the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    pub format: u32,
    /// Name and version of the program that wrote the recipe.
    pub program: String,
    pub prompt: String,
    pub negative_prompt: String,
    /// What the prompt is put into, at `{}`.
    pub prompt_template: String,
    pub clean_caption: bool,
    pub max_tokens: usize,
    pub seed: u64,
    pub sampler: SamplerKind,
    pub steps: usize,
    pub guidance_scale: f64,
    pub frames: usize,
    pub width: usize,
    pub height: usize,
    pub frames_per_second: u32,
    pub model: ModelIdentity,
    /// Which tiles every layer computes, whole, so that no other file is needed.
    pub mask_plan: serde_json::Value,
    pub precision: Precision,
    /// SHA-256 of noise that came from a file instead of the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_sha256: Option<String>,
    /// The run that this one goes on from, instead of beginning with noise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<Box<Branch>>,
    /// How it was made; a recipe that was not run yet has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Made>,
}

/// Where a run left another one.
///
/// A prompt, guidance scale or mask of its own holds from there on. With another seed the estimate of the clean latent gets
/// new noise of the level that it had: a variation that is the closer to the original the later it leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Branch {
    /// The other run, whole, so that this one can be made from its own recipe alone.
    pub from: Recipe,
    /// How many of its transformer calls come before.
    pub call: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    pub name: String,
    /// SHA-256 over weights, configurations and tokenizer.
    pub sha256: String,
}

/// What only a run knows. It holds no times, so that equal runs give equal files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    pub device: String,
    pub driver: String,
    pub kernel_tier: String,
    /// Other devices that made steps of it, before a run that broke off there went on on this one. The same recipe on one device
    /// alone may give other bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_devices: Vec<String>,
    /// Of the raw RGB bytes of all frames.
    pub frames_sha256: String,
}

impl Made {
    pub fn on(device: &ComputeDevice, frames: &Frames) -> Self {
        Self {
            device: device.name_with_others(),
            driver: device.adapter.as_ref().map(|adapter| adapter.driver.clone()).unwrap_or_default(),
            kernel_tier: device.kernel_tier().to_owned(),
            earlier_devices: Vec::new(),
            frames_sha256: frames.sha256(),
        }
    }
}

impl Recipe {
    /// The model's own settings for a prompt.
    ///
    /// # Errors
    /// The model's files or its mask plan cannot be read.
    pub fn of_model(folder: &ModelFolder, prompt: &str, precision: Precision) -> Result<Self, GenerateError> {
        let mut recipe = Self::without_hash(folder, prompt, precision)?;
        recipe.model.sha256 = folder.hash()?;
        Ok(recipe)
    }

    /// As [`Recipe::of_model`], but the model's weights are not read for their hash, so that it comes at once. Good for
    /// looking at; it cannot be run.
    ///
    /// # Errors
    /// The model's mask plan cannot be read.
    pub fn without_hash(folder: &ModelFolder, prompt: &str, precision: Precision) -> Result<Self, GenerateError> {
        let facts = folder.facts();
        let defaults = &facts.defaults;
        let size = ClipSize { frames: defaults.frames, width: defaults.width, height: defaults.height };
        let mut recipe = Self {
            format: FORMAT_WITHOUT_BRANCH,
            program: Self::program().to_owned(),
            prompt: prompt.to_owned(),
            negative_prompt: defaults.negative_prompt.clone(),
            prompt_template: defaults.prompt_template.clone(),
            clean_caption: defaults.clean_caption,
            max_tokens: facts.trained.max_tokens,
            seed: 0,
            sampler: defaults.sampler,
            steps: defaults.steps,
            guidance_scale: defaults.guidance_scale,
            frames: size.frames,
            width: size.width,
            height: size.height,
            frames_per_second: defaults.frames_per_second,
            model: ModelIdentity { name: folder.name().to_owned(), sha256: String::new() },
            mask_plan: serde_json::Value::Null,
            precision,
            noise_sha256: None,
            branch: None,
            made: None,
        };
        recipe.set_mask(folder, &MaskChoice::Plan)?;
        Ok(recipe)
    }

    /// Name and version of this program.
    pub fn program() -> &'static str {
        concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"))
    }

    pub fn size(&self) -> ClipSize {
        ClipSize { frames: self.frames, width: self.width, height: self.height }
    }

    /// Reads a recipe from its JSON.
    ///
    /// # Errors
    /// It comes from a newer program, or is no recipe.
    pub fn from_json(text: &str) -> Result<Self, GenerateError> {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| GenerateError::NoRecipe { reason: error.to_string() })?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            None => return Err(GenerateError::NoRecipe { reason: "it has no \"format\"".into() }),
            Some(format) if format > u64::from(RECIPE_FORMAT) => {
                let program = value.get("program").and_then(|p| p.as_str()).unwrap_or("another program").to_owned();
                return Err(GenerateError::NewerRecipe { format, program });
            }
            Some(_) => {}
        }
        serde_json::from_value(value).map_err(|error| GenerateError::NoRecipe { reason: error.to_string() })
    }

    pub fn to_json(&self) -> String {
        // Strings, numbers and maps with string keys: there is nothing that JSON could not hold.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Makes this the recipe of a run that goes on behind so many calls of `from`. What cannot change on the way (sampler, steps,
    /// size, model) is taken from there.
    pub fn branch_from(&mut self, mut from: Recipe, call: usize) {
        from.made = None;
        (self.sampler, self.steps) = (from.sampler, from.steps);
        (self.frames, self.width, self.height) = (from.frames, from.width, from.height);
        (self.model, self.noise_sha256) = (from.model.clone(), None);
        from.set_precision(self.precision);
        self.branch = Some(Box::new(Branch { from, call }));
        self.format = self.least_format();
    }

    /// The form that every program can read which can make this run.
    fn least_format(&self) -> u32 {
        let own = match &self.mask_plan {
            plan if has_neighbours(plan) => FORMAT_WITH_NEIGHBOURS,
            plan if plan.get(LATER_STEPS).is_some() => FORMAT_WITH_STEP_RANGES,
            _ => FORMAT_WITHOUT_BRANCH,
        };
        let of_branch = self.branch.as_ref().map(|branch| branch.from.least_format().max(FORMAT_WITH_BRANCH));
        own.max(of_branch.unwrap_or(FORMAT_WITHOUT_BRANCH))
    }

    /// Of this run and of those that it comes from.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
        if let Some(branch) = &mut self.branch {
            branch.from.set_precision(precision);
        }
    }

    /// The mask plan for this clip's latent frames.
    ///
    /// # Errors
    /// The plan is damaged, or is one for another number of latent frames.
    pub fn plan(&self, layers: usize) -> Result<MaskPlan, GenerateError> {
        let plan = MaskPlan::from_json(&self.mask_plan.to_string())?;
        plan.check(layers, self.size().latent_frames())?;
        Ok(plan)
    }

    /// Puts the chosen plan into the recipe, for the recipe's own number of frames.
    ///
    /// # Errors
    /// The plan's file cannot be read, or no such plan exists for these frames.
    pub fn set_mask(&mut self, folder: &ModelFolder, choice: &MaskChoice) -> Result<(), GenerateError> {
        let layers = super::pipeline::transformer_config(folder)?.num_layers;
        let frames = self.size().latent_frames();
        let fitted = |plan: MaskPlan| if plan.frames() == frames { Ok(plan) } else { plan.adapted(frames) };
        let plan = match choice {
            MaskChoice::Plan => match folder.mask_plan()? {
                Some(text) => fitted(MaskPlan::from_json(&text).map_err(|error| GenerateError::Unsupported {
                    location: folder.location(),
                    reason: format!("its mask plan is damaged: {error}"),
                })?)?,
                None => MaskPlan::dense(layers, frames)?,
            },
            MaskChoice::Dense => MaskPlan::dense(layers, frames)?,
            MaskChoice::Uniform(name) => MaskPlan::uniform(layers, frames, name)?,
            MaskChoice::File(path) => fitted(MaskPlan::load(path)?)?,
            MaskChoice::Given(plan) => fitted(MaskPlan::from_json(&plan.to_string())?)?,
        };
        plan.check(layers, frames)?;
        let mut value: serde_json::Value =
            serde_json::from_str(&plan.to_json()?).map_err(|error| GenerateError::NoRecipe { reason: error.to_string() })?;
        // The search's losses say nothing about this clip.
        if let Some(map) = value.as_object_mut() {
            map.retain(|key, _| PLAN_FIELDS.contains(&key.as_str()));
        }
        self.mask_plan = value;
        self.format = self.least_format();
        Ok(())
    }

    /// What is wrong with these settings, whatever the model.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn check(&self) -> Result<(), GenerateError> {
        if self.prompt.trim().is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        let texts =
            [("prompt", &self.prompt), ("negative prompt", &self.negative_prompt), ("prompt template", &self.prompt_template)];
        for (which, text) in texts {
            if text.len() > LONGEST_PROMPT_BYTES {
                return Err(GenerateError::LongPrompt { which, bytes: text.len(), max_tokens: self.max_tokens });
            }
        }
        if self.prompt_template.matches("{}").count() != 1 {
            let reason = "its prompt_template must contain {} once, where the prompt goes".into();
            return Err(GenerateError::NoRecipe { reason });
        }
        self.size().check()?;
        if !(self.guidance_scale.is_finite() && (0.0..=LARGEST_GUIDANCE).contains(&self.guidance_scale)) {
            return Err(GenerateError::Guidance { scale: self.guidance_scale });
        }
        if !(1..=240).contains(&self.frames_per_second) {
            return Err(GenerateError::FrameRate { frames_per_second: self.frames_per_second });
        }
        if !(1..=4096).contains(&self.max_tokens) {
            return Err(GenerateError::NoRecipe { reason: format!("max_tokens is {}", self.max_tokens) });
        }
        Sampler::new(self.sampler, self.steps)?;
        self.check_branches()
    }

    fn check_branches(&self) -> Result<(), GenerateError> {
        let branches: Vec<&Branch> =
            std::iter::successors(self.branch.as_deref(), |branch| branch.from.branch.as_deref()).collect();
        if branches.len() > MOST_BRANCHES {
            return Err(GenerateError::Branch { reason: format!("it is one of {} branches in a row", branches.len()) });
        }
        let Some(Branch { from, call }) = self.branch.as_deref() else { return Ok(()) };
        let calls = Sampler::new(self.sampler, self.steps)?.calls();
        let fixed = |recipe: &Self| (recipe.sampler, recipe.steps, recipe.frames, recipe.width, recipe.height);
        if fixed(from) != fixed(self) || from.model.sha256 != self.model.sha256 {
            let reason = "sampler, steps, frames, size and model must be those of the run that it leaves".into();
            return Err(GenerateError::Branch { reason });
        }
        if !(1..calls).contains(call) {
            return Err(GenerateError::Branch {
                reason: format!("it leaves after step {call}, and only 1 to {} can be left", calls - 1),
            });
        }
        // Its prompt, guidance and branches; not endlessly, as the number of branches was looked at before.
        from.check()
    }
}

/// Whether a layer of a plan, in any of its steps, has a mask of neighbours.
fn has_neighbours(plan: &serde_json::Value) -> bool {
    let later = plan.get(LATER_STEPS).and_then(serde_json::Value::as_array).into_iter().flatten();
    let layers = std::iter::once(plan).chain(later).filter_map(|masks| masks.get("layers")?.as_array()).flatten();
    layers.filter_map(|layer| layer.get("mask")?.as_str()).any(|name| Neighbours::of_name(name).is_some())
}

/// What a person may choose as mask plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskChoice {
    /// The plan that the model was distilled for; dense where it has none.
    Plan,
    Dense,
    /// K:N or near:D in every layer.
    Uniform(String),
    File(std::path::PathBuf),
    /// The plan of another recipe.
    Given(serde_json::Value),
}

impl From<&str> for MaskChoice {
    fn from(text: &str) -> Self {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_uniform = text.split_once(':').is_some_and(|(k, n)| (k == "near" || is_number(k)) && is_number(n));
        match text {
            "plan" => Self::Plan,
            "dense" | "full" => Self::Dense,
            _ if is_uniform => Self::Uniform(text.to_owned()),
            _ => Self::File(text.into()),
        }
    }
}
