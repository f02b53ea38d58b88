//! The settings of a run while a person still changes them, and how they become recipes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::models::ModelInfo;
use super::{ClipEntry, ClipId, Home, NewItem, StudioError};
use crate::clip;
use crate::generate::GenerateError;
use crate::generate::recipe::{Branch, MaskChoice, Recipe};
use crate::generate::step_record::StepRecord;
use crate::gpu::device::Precision;
use crate::mask::Neighbours;
use crate::model::folder::{ModelFacts, ModelFolder, SearchPath};
use crate::model::latent::{ClipSize, FRAMES_A_LATENT, LARGEST_SIDE, MOST_FRAMES, PIXELS_A_TOKEN};
use crate::model::sampler::SamplerKind;

/// The model that is used when none is named: few steps and a sparse plan.
pub const DEFAULT_MODEL: &str = "fast";
pub const MOST_CLIPS_AT_ONCE: u32 = 64;
const LARGEST_RECIPE_BYTES: u64 = 16 << 20;

/// What the settings panel holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// Name or folder.
    pub model: String,
    pub prompt: String,
    pub negative_prompt: String,
    pub seed: u64,
    /// Keep the seed for the next run, instead of drawing another.
    pub seed_locked: bool,
    /// So many clips, with seeds that follow each other.
    pub clips: u32,
    pub sampler: SamplerKind,
    pub steps: usize,
    pub guidance_scale: f64,
    pub frames: usize,
    pub width: usize,
    pub height: usize,
    pub frames_per_second: u32,
    pub mask: MaskChoice,
}

impl Draft {
    /// What a person starts from who has set up nothing yet.
    pub fn first() -> Self {
        match ModelFolder::resolve(DEFAULT_MODEL, &SearchPath::standard()) {
            Ok(folder) => Self::of_model(DEFAULT_MODEL, folder.facts()),
            // The model's panel says why, and another model brings settings of its own.
            Err(_) => Self {
                model: DEFAULT_MODEL.to_owned(),
                prompt: String::new(),
                negative_prompt: String::new(),
                seed: random_seed(),
                seed_locked: false,
                clips: 1,
                sampler: SamplerKind::DdimTrailing,
                steps: 4,
                guidance_scale: 1.0,
                frames: 29,
                width: 256,
                height: 144,
                frames_per_second: 24,
                mask: MaskChoice::Plan,
            },
        }
    }

    /// The model's own settings.
    pub fn of_model(model: &str, facts: &ModelFacts) -> Self {
        let defaults = &facts.defaults;
        Self {
            model: model.to_owned(),
            prompt: String::new(),
            negative_prompt: defaults.negative_prompt.clone(),
            seed: random_seed(),
            seed_locked: false,
            clips: 1,
            sampler: defaults.sampler,
            steps: defaults.steps,
            guidance_scale: defaults.guidance_scale,
            frames: defaults.frames,
            width: defaults.width,
            height: defaults.height,
            frames_per_second: defaults.frames_per_second,
            mask: MaskChoice::Plan,
        }
    }

    /// The settings that a clip was made with.
    pub fn of_recipe(recipe: &Recipe, model: &str) -> Self {
        Self {
            model: model.to_owned(),
            prompt: recipe.prompt.clone(),
            negative_prompt: recipe.negative_prompt.clone(),
            seed: recipe.seed,
            seed_locked: true,
            clips: 1,
            sampler: recipe.sampler,
            steps: recipe.steps,
            guidance_scale: recipe.guidance_scale,
            frames: recipe.frames,
            width: recipe.width,
            height: recipe.height,
            frames_per_second: recipe.frames_per_second,
            mask: MaskChoice::Given(recipe.mask_plan.clone()),
        }
    }

    /// Takes another model with its own settings; the prompt, the seed and the number of clips stay.
    pub fn set_model(&mut self, model: &str, facts: &ModelFacts) {
        let before = std::mem::replace(self, Self::of_model(model, facts));
        (self.prompt, self.seed, self.seed_locked, self.clips) = (before.prompt, before.seed, before.seed_locked, before.clips);
    }

    /// The recipe of the first clip.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn recipe(&self, model: &ModelInfo, precision: Precision) -> Result<Recipe, GenerateError> {
        let mut recipe = self.sketch(model, None)?;
        recipe.precision = precision;
        recipe.model.sha256 = model.folder.hash()?;
        Ok(recipe)
    }

    /// What the run would be, or the branch that leaves `from`, without the model's hash: enough to know its cost and
    /// whether its settings can be used, and quick enough for every move of a slider.
    ///
    /// # Errors
    /// A setting cannot be used, or that step cannot be left.
    pub fn sketch(&self, model: &ModelInfo, from: Option<&Leaving>) -> Result<Recipe, GenerateError> {
        let mut recipe = model.recipe.clone();
        recipe.prompt.clone_from(&self.prompt);
        recipe.negative_prompt.clone_from(&self.negative_prompt);
        recipe.seed = self.seed;
        (recipe.sampler, recipe.steps, recipe.guidance_scale) = (self.sampler, self.steps, self.guidance_scale);
        (recipe.frames, recipe.width, recipe.height) = (self.frames, self.width, self.height);
        recipe.frames_per_second = self.frames_per_second;
        if let Some(Leaving { recipe: origin, call, .. }) = from {
            recipe.branch_from(origin.clone(), *call);
        }
        recipe.check()?;
        recipe.set_mask(&model.folder, &self.mask)?;
        Ok(recipe)
    }

    /// Changes the number of frames. A mask K:N keeps its K reference frames, as far as so many have room, and near:D its
    /// distance, as far as frames lie so far apart; an illegal number becomes the legal one next to it.
    pub fn set_frames(&mut self, frames: usize, model: &ModelInfo) {
        self.frames = snap_frames(frames);
        let MaskChoice::Uniform(name) = &self.mask else { return };
        // Of which kind it is, and the number that it keeps.
        let rule = |name: &str| match Neighbours::of_name(name) {
            Some(Neighbours { distance }) => Some((true, distance)),
            None => Some((false, name.split_once(':')?.0.parse::<usize>().ok()?)),
        };
        let (is_near, wanted) = rule(name).unwrap_or((false, 1));
        let fitting = model.mask_stops(self.size().latent_frames()).into_iter().filter_map(|stop| match stop.choice {
            MaskChoice::Uniform(name) => {
                let (_, number) = rule(&name).filter(|&(near, number)| near == is_near && number <= wanted)?;
                Some((number, name))
            }
            _ => None,
        });
        self.mask = fitting.max().map_or(MaskChoice::Plan, |(_, name)| MaskChoice::Uniform(name));
    }

    /// All clips as items for the queue.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn items(&self, model: &ModelInfo, precision: Precision) -> Result<Vec<NewItem>, GenerateError> {
        let first = self.recipe(model, precision)?;
        let item = |index: u32| NewItem {
            recipe: Recipe { seed: first.seed.wrapping_add(u64::from(index)), ..first.clone() },
            model: self.model.clone(),
            leaves: None,
            force: false,
        };
        Ok((0..self.clips.clamp(1, MOST_CLIPS_AT_ONCE)).map(item).collect())
    }

    /// The run that leaves `from` after so many calls and goes on with this prompt, guidance, seed and mask.
    ///
    /// # Errors
    /// A setting cannot be used, or that step cannot be left.
    pub fn branch(&self, model: &ModelInfo, precision: Precision, from: &Leaving) -> Result<NewItem, GenerateError> {
        let mut recipe = self.sketch(model, Some(from))?;
        recipe.set_precision(precision);
        Ok(NewItem { recipe, model: self.model.clone(), leaves: Some(from.clip), force: false })
    }

    pub fn size(&self) -> ClipSize {
        ClipSize { frames: self.frames, width: self.width, height: self.height }
    }

    /// What the person should know about these settings, though they can be used.
    pub fn warnings(&self, model: &ModelInfo) -> Vec<String> {
        match self.sketch(model, None) {
            Ok(recipe) => warnings(&recipe, model.folder.name(), model.folder.facts()),
            Err(_) => Vec::new(),
        }
    }
}

/// The step of a clip that a branch leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaving {
    pub clip: ClipId,
    pub recipe: Recipe,
    /// Finished calls that stay.
    pub call: usize,
}

/// A step of a clip of the library, to be left; steps count from 1.
///
/// # Errors
/// The step is not kept.
pub fn leaving(home: &Home, clip: &ClipEntry, step: usize) -> Result<Leaving, StudioError> {
    if !StepRecord::path_in(&home.steps_folder(clip.id), step).exists() {
        return Err(StudioError::NoSuchStep { step });
    }
    Ok(Leaving { clip: clip.id, recipe: run_of_step(&clip.recipe, step), call: step })
}

/// The run that a step of a clip belongs to: a branch has the steps before it from the run that it left.
pub fn run_of_step(recipe: &Recipe, step: usize) -> Recipe {
    let mut runs = std::iter::successors(Some(recipe), |recipe| recipe.branch.as_deref().map(|branch| &branch.from));
    let run = runs.find(|recipe| recipe.branch.as_ref().is_none_or(|branch| branch.call < step)).unwrap_or(recipe);
    Recipe { made: None, ..run.clone() }
}

/// The variations of a clip: it is left at a step, with so many other seeds.
///
/// # Errors
/// That step cannot be left.
pub fn variations(from: &Leaving, model: &str, count: u32) -> Result<Vec<NewItem>, GenerateError> {
    let one = |index: u32| {
        let mut recipe = from.recipe.clone();
        recipe.made = None;
        recipe.seed = recipe.seed.wrapping_add(1 + u64::from(index));
        recipe.branch_from(from.recipe.clone(), from.call);
        recipe.check()?;
        Ok(NewItem { recipe, model: model.to_owned(), leaves: Some(from.clip), force: false })
    };
    (0..count.min(MOST_CLIPS_AT_ONCE)).map(one).collect()
}

/// The numbers of frames that a clip may have, up to `most`.
pub fn legal_frames(most: usize) -> impl Iterator<Item = usize> {
    (1..=most.min(MOST_FRAMES)).step_by(FRAMES_A_LATENT)
}

/// The legal number of frames next to this one.
pub fn snap_frames(frames: usize) -> usize {
    let latents = (frames.clamp(1, MOST_FRAMES) - 1 + FRAMES_A_LATENT / 2) / FRAMES_A_LATENT;
    (latents * FRAMES_A_LATENT + 1).min(MOST_FRAMES)
}

/// The legal length of a side, in pixels, next to this one.
pub fn snap_side(pixels: usize) -> usize {
    let snapped = (pixels.min(LARGEST_SIDE) + PIXELS_A_TOKEN / 2) / PIXELS_A_TOKEN * PIXELS_A_TOKEN;
    snapped.clamp(PIXELS_A_TOKEN, LARGEST_SIDE)
}

/// What the person should know about a recipe, though it can be run.
pub fn warnings(recipe: &Recipe, name: &str, facts: &ModelFacts) -> Vec<String> {
    let trained = &facts.trained;
    let mut warnings = Vec::new();
    let ClipSize { frames, width, height } = recipe.size();
    if !trained.frames.is_empty() && !trained.frames.contains(&frames) {
        warnings.push(format!("{name} was trained on clips of {} frames; {frames} may look wrong", either(&trained.frames)));
    }
    if !trained.sizes.is_empty() && !trained.sizes.contains(&[width, height]) {
        let sizes: Vec<String> = trained.sizes.iter().map(|[w, h]| format!("{w}x{h}")).collect();
        warnings.push(format!("{name} was trained at {}; {width}x{height} may look wrong", either(&sizes)));
    }
    if !trained.steps.is_empty() && !trained.steps.contains(&recipe.steps) {
        let steps = either(&trained.steps);
        warnings.push(format!("{name} was distilled for {steps} steps; {} may look wrong", recipe.steps));
    }
    let defaults = &facts.defaults;
    if recipe.guidance_scale <= 1.0 && !recipe.negative_prompt.is_empty() && recipe.negative_prompt != defaults.negative_prompt {
        warnings.push("the negative prompt has no effect without guidance above 1".into());
    }
    if defaults.guidance_scale <= 1.0 && recipe.guidance_scale > 1.0 {
        warnings.push(format!("{name} has its guidance built in; a scale above 1 doubles the time and may look burnt"));
    }
    if let Some(Branch { from, .. }) = recipe.branch.as_deref()
        && from.seed == recipe.seed
        && (&from.prompt, &from.negative_prompt) == (&recipe.prompt, &recipe.negative_prompt)
        && (from.guidance_scale, &from.mask_plan) == (recipe.guidance_scale, &recipe.mask_plan)
    {
        warnings.push("nothing differs from the clip that it leaves, so it will end the same".into());
    }
    warnings
}

/// Values as a person lists them: 8, 16 or 32.
fn either<T: ToString>(values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(T::to_string).collect();
    match values.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        all => all.concat(),
    }
}

/// A recipe from a JSON file or from inside a clip.
///
/// # Errors
/// There is none, or it comes from a newer program.
pub fn read_recipe(path: &Path) -> Result<Recipe, GenerateError> {
    let at_path = |error: GenerateError| match error {
        GenerateError::NoRecipe { reason } => GenerateError::NoRecipe { reason: format!("{}: {reason}", path.display()) },
        other => other,
    };
    if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json")) {
        let unreadable = |reason: String| at_path(GenerateError::NoRecipe { reason });
        let bytes = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
        if bytes > LARGEST_RECIPE_BYTES {
            return Err(unreadable(format!("it has {bytes} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        return Recipe::from_json(&text).map_err(at_path);
    }
    match clip::read_recipe(path)? {
        Some(text) => Recipe::from_json(&text).map_err(at_path),
        None => Err(GenerateError::ClipWithoutRecipe { path: PathBuf::from(path) }),
    }
}

/// A seed that is easy to type again.
pub fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's hasher is seeded from the system's random numbers.
    std::collections::hash_map::RandomState::new().build_hasher().finish() % 1_000_000_000
}

/// The first words of a prompt, as a file name.
pub fn file_stem(prompt: &str) -> String {
    const LONGEST: usize = 48;
    let mut stem = String::new();
    for word in prompt.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if stem.len() + word.len() >= LONGEST {
            break;
        }
        if !stem.is_empty() {
            stem.push('-');
        }
        stem.push_str(&word.to_lowercase());
    }
    if stem.is_empty() { "clip".into() } else { stem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_snap_to_the_nearest_legal_ones() {
        for frames in 0..200 {
            let snapped = snap_frames(frames);
            let nearest = legal_frames(400).min_by_key(|legal| legal.abs_diff(frames)).unwrap();
            assert_eq!(snapped.abs_diff(frames), nearest.abs_diff(frames), "{frames}");
        }
        for side in [0, 1, 16, 23, 24, 100, 4095, 4096, 9999] {
            let snapped = snap_side(side);
            let size = ClipSize { frames: 1, width: snapped, height: 16 };
            assert_eq!(size.check(), Ok(()));
            let nearest = (16..=4096).step_by(16).min_by_key(|legal: &usize| legal.abs_diff(side)).unwrap();
            assert_eq!(snapped.abs_diff(side), nearest.abs_diff(side), "{side}");
        }
        assert_eq!(snap_frames(usize::MAX), MOST_FRAMES);
    }

    /// 29 frames are 8 latent ones, 93 are 24, 9 are 3, and 1 is 1.
    #[test]
    fn masks_keep_their_rule_when_the_length_changes() {
        let model = ModelInfo::find("fast").unwrap();
        let facts = model.folder.facts();
        let mut draft = Draft { prompt: "a red ball".to_owned(), ..Draft::of_model("fast", facts) };
        let mut through = |name: &str, frames: &[usize]| -> Vec<MaskChoice> {
            draft.set_frames(29, &model);
            draft.mask = name.into();
            let mut at = |&frames: &usize| {
                draft.set_frames(frames, &model);
                draft.sketch(&model, None).unwrap();
                draft.mask.clone()
            };
            frames.iter().map(&mut at).collect()
        };
        let uniform = |name: &str| MaskChoice::Uniform(name.to_owned());
        assert_eq!(through("2:6", &[93, 9, 29]), ["2:22", "2:1", "2:6"].map(uniform));
        // In three frames nothing is further away than two.
        assert_eq!(through("near:2", &[93, 29, 9, 29]), ["near:2", "near:2", "near:1", "near:1"].map(uniform));
        assert_eq!(through("near:1", &[93, 9, 1]), [uniform("near:1"), uniform("near:1"), MaskChoice::Plan]);
    }
}
