//! What a model says about its own use: the settings to start from, and what it was trained for.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::FolderError;
use super::files::ModelFiles;
use super::{CONFIG, FACTS};
use crate::model::sampler::SamplerKind;

/// Defaults and trained facts of a model. `tilereel.json` beside the transformer's `config.json` states any of them; the
/// rest is that of the published checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFacts {
    pub defaults: SamplingDefaults,
    pub trained: TrainedFor,
    /// File with the mask plan that the model was distilled for, beside the transformer's `config.json`.
    pub mask_plan: Option<String>,
    /// One sentence about the model, for lists.
    pub card: Option<String>,
    /// What it can be asked for, in the order of a sentence; empty where that is anything.
    #[serde(default)]
    pub vocabulary: Vec<WordGroup>,
}

/// Words of one kind, such as colours, as the captions of the training had them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WordGroup {
    pub title: String,
    /// For each meaning the ways to say it, the usual one first.
    pub words: Vec<Vec<String>>,
    /// Whether its words want an article where none of their noun phrase stands before them.
    #[serde(default)]
    pub article: bool,
    /// What ties its words to the sentence before them, such as `while`.
    #[serde(default)]
    pub joined_by: Option<String>,
}

/// The settings that a recipe starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingDefaults {
    pub sampler: SamplerKind,
    pub steps: usize,
    /// 1 means: without guidance, one call of the transformer a step.
    pub guidance_scale: f64,
    /// Frames of the clip, 4k + 1.
    pub frames: usize,
    /// Pixels, a multiple of 16; so is the height.
    pub width: usize,
    pub height: usize,
    pub frames_per_second: u32,
    /// What the prompt is put into, at `{}`.
    pub prompt_template: String,
    pub negative_prompt: String,
    /// Whether prompts go through the reference's caption cleaning.
    pub clean_caption: bool,
}

/// What the weights have seen, so that a front can warn about anything else. An empty list means: not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedFor {
    pub frames: Vec<usize>,
    /// Width and height in pixels.
    pub sizes: Vec<[usize; 2]>,
    /// Tokens that a prompt is padded or cut to.
    pub max_tokens: usize,
    pub steps: Vec<usize>,
}

/// Prompt and negative prompt that the reference's sampling script adds for the published weights.
const REFERENCE_TEMPLATE: &str = "(masterpiece), (best quality), (ultra-detailed), {}.";
const REFERENCE_NEGATIVE: &str = "nsfw, lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, \
                                  fewer digits, cropped, worst quality, low quality, normal quality, jpeg artifacts, \
                                  signature, watermark, username, blurry.";

/// Pixels a latent, along one side.
const PIXELS_A_LATENT: usize = 8;
/// Frames a latent frame, after the first.
const FRAMES_A_LATENT: usize = 4;
/// Pixels a token, along one side: sizes are multiples of it.
const PIXELS_A_TOKEN: usize = 16;

const LONGEST_SIDE: usize = 8192;
const MOST_FRAMES: usize = 4097;
const MOST_TOKENS: usize = 4096;
const MOST_STEPS: usize = 1000;
/// The window looks for each in the prompt.
const MOST_PHRASES: usize = 4096;

/// The facts of the transformer in `files`: stated in `tilereel.json`, else derived from its configuration.
pub(super) fn read(files: &ModelFiles, config: &Value) -> Result<ModelFacts, FolderError> {
    let derived = of_published(config).map_err(|reason| FolderError::Fact { location: files.location(CONFIG), reason })?;
    if !files.exists(FACTS) {
        return Ok(derived);
    }
    let location = files.location(FACTS);
    let not_json = |reason: serde_json::Error| FolderError::NotJson { location: location.clone(), reason: reason.to_string() };
    let mut merged = serde_json::to_value(&derived).map_err(not_json)?;
    overlay(&mut merged, files.read_json(FACTS)?);
    let facts: ModelFacts = serde_json::from_value(merged).map_err(not_json)?;
    facts.check().map_err(|reason| FolderError::Fact { location, reason })?;
    Ok(facts)
}

/// The facts of a published folder, which has none but its `config.json`: its latent sizes, and the settings of the
/// reference's sampling scripts.
fn of_published(config: &Value) -> Result<ModelFacts, String> {
    let [latent_height, latent_width] = one_or_two(config, "sample_size")?;
    let [latent_frames, _] = one_or_two(config, "sample_size_t")?;
    let side = |latents: usize| {
        let pixels = latents.saturating_mul(PIXELS_A_LATENT);
        (pixels - pixels % PIXELS_A_TOKEN).max(PIXELS_A_TOKEN)
    };
    let (width, height) = (side(latent_width), side(latent_height));
    let frames = latent_frames.saturating_sub(1).saturating_mul(FRAMES_A_LATENT).saturating_add(1);
    let facts = ModelFacts {
        defaults: SamplingDefaults {
            sampler: SamplerKind::EulerAncestral,
            steps: 100,
            guidance_scale: 7.5,
            frames,
            width,
            height,
            frames_per_second: 24,
            prompt_template: REFERENCE_TEMPLATE.to_owned(),
            negative_prompt: REFERENCE_NEGATIVE.to_owned(),
            clean_caption: true,
        },
        trained: TrainedFor { frames: vec![frames], sizes: vec![[width, height]], max_tokens: 512, steps: Vec::new() },
        mask_plan: None,
        card: None,
        vocabulary: Vec::new(),
    };
    facts.check()?;
    Ok(facts)
}

/// A size of the published configuration: one number, or a list of one or two.
fn one_or_two(config: &Value, key: &str) -> Result<[usize; 2], String> {
    let number = |value: &Value| value.as_u64().filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
    let wrong = || format!("{key} must be a positive whole number or a list of one or two");
    let value = config.get(key).ok_or_else(|| format!("{key} is missing"))?;
    let numbers: Option<Vec<usize>> = match value {
        Value::Array(values) => values.iter().map(number).collect(),
        value => number(value).map(|n| vec![n]),
    };
    match numbers.ok_or_else(wrong)?[..] {
        [one] => Ok([one, one]),
        [first, second] => Ok([first, second]),
        _ => Err(wrong()),
    }
}

/// Lays the values that are stated over those that are derived, object by object.
fn overlay(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                overlay(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

impl ModelFacts {
    /// Numbers that no model can mean would otherwise surface much later, as an absurd allocation or an empty clip.
    fn check(&self) -> Result<(), String> {
        let within = |what: &str, value: usize, most: usize| {
            if (1..=most).contains(&value) { Ok(()) } else { Err(format!("{what} is {value}, not 1 to {most}")) }
        };
        let SamplingDefaults { frames, width, height, .. } = self.defaults;
        for frames in self.trained.frames.iter().copied().chain([frames]) {
            within("a number of frames", frames, MOST_FRAMES)?;
            if frames % FRAMES_A_LATENT != 1 {
                return Err(format!("{frames} frames are not of the form 4k + 1"));
            }
        }
        for side in self.trained.sizes.iter().flatten().copied().chain([width, height]) {
            within("a side in pixels", side, LONGEST_SIDE)?;
            if side % PIXELS_A_TOKEN != 0 {
                return Err(format!("a side of {side} pixels is not a multiple of {PIXELS_A_TOKEN}"));
            }
        }
        for steps in self.trained.steps.iter().copied().chain([self.defaults.steps]) {
            within("a number of steps", steps, MOST_STEPS)?;
        }
        within("max_tokens", self.trained.max_tokens, MOST_TOKENS)?;
        within("frames_per_second", self.defaults.frames_per_second as usize, 240)?;
        if !(0.0..=100.0).contains(&self.defaults.guidance_scale) {
            return Err(format!("guidance_scale is {}, not 0 to 100", self.defaults.guidance_scale));
        }
        if self.defaults.prompt_template.matches("{}").count() != 1 {
            return Err("prompt_template must contain {} once, where the prompt goes".to_owned());
        }
        if let Some(name) = &self.mask_plan
            && (name.is_empty() || name.contains(['/', '\\', ':', '\0']) || name.starts_with('.'))
        {
            return Err("mask_plan must be the name of a file beside it".to_owned());
        }
        let phrases = self.vocabulary.iter().flat_map(|group| &group.words);
        if let Some(title) = self.vocabulary.iter().find(|group| group.words.is_empty()).map(|group| &group.title) {
            return Err(format!("the vocabulary's group {title:?} has no words"));
        }
        if phrases.clone().any(|ways| ways.is_empty() || ways.iter().any(|phrase| phrase.trim().is_empty())) {
            return Err("a word of the vocabulary is empty".to_owned());
        }
        if phrases.flatten().count() > MOST_PHRASES {
            return Err(format!("the vocabulary has more than {MOST_PHRASES} phrases"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn published_sizes_become_pixels_and_frames() {
        for (sample_size, sample_size_t, size, frames) in [
            (json!([90, 160]), json!(8), [1280, 720], 29),
            (json!([60, 80]), json!(24), [640, 480], 93),
            (json!([60, 80]), json!([1]), [640, 480], 1),
            (json!(64), json!(8), [512, 512], 29),
        ] {
            let facts = of_published(&json!({"sample_size": sample_size, "sample_size_t": sample_size_t})).unwrap();
            assert_eq!([facts.defaults.width, facts.defaults.height], size);
            assert_eq!(facts.trained.sizes, [size]);
            assert_eq!(facts.defaults.frames, frames);
            assert_eq!(facts.defaults.sampler, SamplerKind::EulerAncestral);
            assert_eq!((facts.defaults.steps, facts.defaults.guidance_scale), (100, 7.5));
            assert_eq!(facts.trained.max_tokens, 512);
        }
    }

    #[test]
    fn absurd_sizes_are_told() {
        for (config, reason) in [
            (json!({}), "sample_size is missing"),
            (json!({"sample_size": "big", "sample_size_t": 8}), "sample_size must be"),
            (json!({"sample_size": [1, 2, 3], "sample_size_t": 8}), "sample_size must be"),
            (json!({"sample_size": [-1, 2], "sample_size_t": 8}), "sample_size must be"),
            (json!({"sample_size": 64, "sample_size_t": 0}), "sample_size_t must be"),
            (json!({"sample_size": u64::MAX, "sample_size_t": 8}), "a side in pixels"),
            (json!({"sample_size": 64, "sample_size_t": u64::MAX}), "a number of frames"),
        ] {
            let got = of_published(&config).unwrap_err();
            assert!(got.contains(reason), "{config}: {got}");
        }
    }
}
