//! Clips that differ in their mask or model alone, and what the two cost: for comparing them.

use super::{ClipEntry, ClipFilter, ClipId, ModelInfo, NewItem, Studio, StudioError, Task};
use crate::clip::{self, Comparison};
use crate::generate::GenerateError;
use crate::generate::recipe::{MaskChoice, ModelIdentity, Recipe};
use crate::generate::timings::Timings;
use crate::gpu::device::Precision;
use crate::mask::{FrameMask, MaskPlan};

/// The run of a clip's recipe with another mask, and with `model`, which `found_as` names.
///
/// # Errors
/// The mask or the recipe does not fit the model.
pub fn twin(
    clip: &ClipEntry,
    model: &ModelInfo,
    found_as: &str,
    mask: &MaskChoice,
    precision: Precision,
) -> Result<NewItem, GenerateError> {
    let mut recipe = Recipe { made: None, program: Recipe::program().to_owned(), ..clip.recipe.clone() };
    recipe.set_precision(precision);
    let sha256 = model.folder.hash()?;
    if sha256 != recipe.model.sha256 {
        recipe.model = ModelIdentity { name: model.recipe.model.name.clone(), sha256 };
        // How a prompt is put belongs to the model.
        recipe.prompt_template.clone_from(&model.recipe.prompt_template);
        (recipe.clean_caption, recipe.max_tokens) = (model.recipe.clean_caption, model.recipe.max_tokens);
    }
    recipe.set_mask(&model.folder, mask)?;
    recipe.check()?;
    Ok(NewItem { recipe, model: found_as.to_owned(), leaves: None, force: false })
}

/// Whether both recipes ask for the same clip, however their masks are written, and whatever program and device made it.
pub fn ask_for_the_same(a: &Recipe, b: &Recipe) -> bool {
    let settings = |recipe: &Recipe| {
        let mut recipe = Recipe { made: None, program: String::new(), mask_plan: serde_json::Value::Null, ..recipe.clone() };
        recipe.model.name.clear();
        recipe
    };
    let plan = |recipe: &Recipe| MaskPlan::from_json(&recipe.mask_plan.to_string());
    let same_plan = match (plan(a), plan(b)) {
        (Ok(a), Ok(b)) => {
            let tiles = |plan: &MaskPlan| -> Vec<(f64, Vec<FrameMask>)> {
                plan.ranges().map(|(from, layers)| (from, layers.iter().map(|layer| layer.mask().clone()).collect())).collect()
            };
            tiles(&a) == tiles(&b)
        }
        _ => a.mask_plan == b.mask_plan,
    };
    same_plan && settings(a) == settings(b)
}

/// What making a clip cost, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// The whole run, loading included.
    pub seconds: Option<f64>,
    /// A step of the transformer when everything is warm.
    pub step_seconds: Option<f64>,
}

impl Cost {
    pub fn of(seconds: Option<f64>, timings: Option<&Timings>) -> Self {
        Self { seconds, step_seconds: timings.and_then(Timings::typical_step_seconds) }
    }

    /// How many times as fast as `other` this is, and by what: by the steps where both are known, else by the whole runs.
    pub fn speed_up_over(self, other: Self) -> Option<(f64, &'static str)> {
        let ratio = |of: fn(Self) -> Option<f64>| Some(of(other)? / of(self).filter(|&seconds| seconds > 0.0)?);
        let by_steps = ratio(|cost| cost.step_seconds).map(|ratio| (ratio, "a step"));
        by_steps.or_else(|| ratio(|cost| cost.seconds).map(|ratio| (ratio, "the whole run")))
    }
}

impl Studio {
    /// A clip of the library that this recipe would give.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn find(&self, recipe: &Recipe) -> Result<Option<ClipId>, StudioError> {
        let clips = self.clips(&ClipFilter::default())?;
        Ok(clips.iter().find(|clip| ask_for_the_same(&clip.recipe, recipe)).map(|clip| clip.id))
    }

    /// What making a clip cost.
    pub fn cost(&self, clip: &ClipEntry) -> Cost {
        Cost::of(Some(clip.seconds), self.timings(clip.id).as_ref())
    }

    /// Compares the frames of two clips.
    ///
    /// # Errors
    /// The system gives no thread; the task's own are clips of different sizes, or files that cannot be read.
    pub fn compare(&self, a: ClipId, b: ClipId) -> Result<Task<Comparison>, StudioError> {
        let [a, b] = [a, b].map(|clip| self.home().clip_file(clip));
        self.task(move || Ok(Comparison::of(&clip::read_frames(&a)?, &clip::read_frames(&b)?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::studio::tests::recipe;

    fn fast() -> ModelInfo {
        ModelInfo::open("fast").unwrap()
    }

    fn clip(recipe: Recipe) -> ClipEntry {
        let (id, badges) = (ClipId(1), Vec::new());
        let model = "fast".to_owned();
        ClipEntry { id, made_unix_millis: 0, recipe, model, seconds: 1.0, badges, favourite: false, is_deleted: false }
    }

    #[test]
    fn a_twin_differs_in_its_mask_alone() {
        let mut sparse = recipe("a red ball");
        sparse.set_mask(&fast().folder, &"2:6".into()).unwrap();
        let twin = twin(&clip(sparse.clone()), &fast(), "fast", &"dense".into(), sparse.precision).unwrap();
        let plan = MaskPlan::from_json(&twin.recipe.mask_plan.to_string()).unwrap();
        assert_eq!(plan.density(), 1.0);
        assert!(!ask_for_the_same(&twin.recipe, &sparse));
        let back = Recipe { mask_plan: sparse.mask_plan.clone(), ..twin.recipe.clone() };
        assert_eq!(back, sparse);
    }

    #[test]
    fn recipes_are_the_same_however_their_masks_are_written() {
        let model = fast();
        let mut named = recipe("a red ball");
        named.set_mask(&model.folder, &"2:6".into()).unwrap();
        // The same tiles, painted.
        let plan = MaskPlan::from_json(&named.mask_plan.to_string()).unwrap();
        let painted = plan.layers().iter().map(|layer| crate::mask::LayerMask::painted(layer.mask().clone())).collect();
        let painted = MaskPlan::of_layers(painted).unwrap();
        let other = Recipe {
            mask_plan: serde_json::from_str(&painted.to_json().unwrap()).unwrap(),
            program: "another".into(),
            ..named.clone()
        };
        assert_ne!(other.mask_plan, named.mask_plan);
        assert!(ask_for_the_same(&named, &other));
        assert!(!ask_for_the_same(&named, &Recipe { seed: named.seed + 1, ..other.clone() }));
    }

    #[test]
    fn steps_say_more_than_whole_runs() {
        let cost = |seconds, step_seconds| Cost { seconds, step_seconds };
        let dense = cost(Some(10.0), Some(1.0));
        assert_eq!(cost(Some(9.0), Some(0.5)).speed_up_over(dense), Some((2.0, "a step")));
        assert_eq!(cost(Some(5.0), None).speed_up_over(dense), Some((2.0, "the whole run")));
        assert_eq!(cost(None, Some(0.0)).speed_up_over(dense), None);
    }
}
