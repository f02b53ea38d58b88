//! What the settings will cost on this device, and whether they can be used: computed when they change, not when they are
//! painted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::generate::estimate::{Estimate, Speeds};
use crate::generate::recipe::{MaskChoice, Recipe};
use crate::gpu::device::{ComputeDevice, Precision};
use crate::mask::MaskPlan;
use crate::studio::{
    Draft, Fit, ItemId, Leaving, MaskStop, ModelInfo, QueueItem, Shortage, State, Studio, free_memory, warnings,
};

/// How long a look at the free memory holds.
const MEMORY_HOLDS: Duration = Duration::from_secs(1);
/// Costs do not depend on the prompt, and without one a recipe is refused.
const ANY_PROMPT: &str = "-";

#[derive(Default)]
pub struct Forecast {
    speeds: Speeds,
    /// The library's revision when the speeds were read; every finished run adds to both.
    revision: Option<u64>,
    device: Option<ComputeDevice>,
    memory: Option<(Instant, Option<u64>)>,
    shortage: Option<Shortage>,
    asked: Option<Asked>,
    costs_asked: Option<Asked>,
    outlook: Outlook,
    models: Vec<(Arc<ModelInfo>, Option<Estimate>)>,
    items: HashMap<ItemId, (Recipe, Option<f64>)>,
    computed: usize,
}

/// What an outlook is for.
#[derive(Clone)]
struct Asked {
    draft: Draft,
    model: Arc<ModelInfo>,
    from: Option<Leaving>,
}

/// All that follows from the settings.
#[derive(Default)]
pub struct Outlook {
    /// Why the settings cannot be used.
    pub problem: Option<String>,
    /// What should be known though they can.
    pub warnings: Vec<String>,
    /// Of the prompt, as the model reads it.
    pub tokens: usize,
    /// None without a device, or where no such run is possible.
    pub estimate: Option<Estimate>,
    pub mask: MaskOutlook,
}

/// Which tiles the run computes.
#[derive(Default)]
pub struct MaskOutlook {
    /// The positions of the dial, densest first.
    pub stops: Vec<MaskStop>,
    /// The one whose plan this is; none for a plan of its own.
    pub position: Option<usize>,
    /// None if no plan fits.
    pub plan: Option<MaskPlan>,
    /// What was done to make the plan fit, or why it does not.
    pub note: Option<String>,
    /// Grows when the plan changes.
    pub revision: u64,
}

impl Forecast {
    /// Takes the studio's device, and what its runs have taught.
    pub fn follow(&mut self, studio: &Studio, state: &State, device: Option<&ComputeDevice>) {
        let identity = |device: Option<&ComputeDevice>| {
            let one = |device: &ComputeDevice| (device.name.clone(), device.precision, device.instance);
            device.map(|device| (one(device), device.others.iter().map(one).collect::<Vec<_>>()))
        };
        let other_device = identity(device) != identity(self.device.as_ref());
        if self.revision == Some(state.library_revision) && !other_device {
            return;
        }
        self.revision = Some(state.library_revision);
        self.speeds = studio.home().speeds();
        if other_device {
            self.device = device.cloned();
            self.memory = None;
        }
        self.costs_asked = None;
        self.asked = None;
        self.models.clear();
        self.items.clear();
    }

    /// What follows from these settings.
    pub fn of(&mut self, draft: &Draft, model: &Arc<ModelInfo>, from: Option<&Leaving>) -> &Outlook {
        let is_same = |asked: &Asked| asked.draft == *draft && Arc::ptr_eq(&asked.model, model) && asked.from.as_ref() == from;
        if !self.asked.as_ref().is_some_and(is_same) {
            self.look(Asked { draft: draft.clone(), model: model.clone(), from: from.cloned() });
        }
        &self.outlook
    }

    /// What the run would cost with another mask, at once; None without a device, or where no such run is possible.
    pub fn with_plan(&self, draft: &Draft, model: &ModelInfo, from: Option<&Leaving>, plan: &MaskPlan) -> Option<Estimate> {
        let device = self.device.as_ref()?;
        let value = plan.to_json().ok().and_then(|text| serde_json::from_str(&text).ok())?;
        let draft = Draft { prompt: ANY_PROMPT.to_owned(), mask: MaskChoice::Given(value), ..draft.clone() };
        let recipe = draft.sketch(model, from).ok()?;
        let estimate = model.estimate(&recipe, device, &self.speeds).ok()?;
        Some(without_calls(estimate, from.map_or(0, |from| from.call)))
    }

    /// Looks anew at the next question: a file that the settings name has changed.
    pub fn look_again(&mut self) {
        (self.asked, self.costs_asked) = (None, None);
    }

    /// There is no model to look at.
    pub fn forget(&mut self) {
        self.look_again();
        self.outlook =
            Outlook { mask: MaskOutlook { revision: self.outlook.mask.revision, ..Default::default() }, ..Default::default() };
    }

    /// What was found last.
    pub fn last(&self) -> &Outlook {
        &self.outlook
    }

    /// How often costs were computed, for tests.
    pub fn computed(&self) -> usize {
        self.computed
    }

    fn look(&mut self, asked: Asked) {
        let Asked { draft, model, from } = &asked;
        let before = self.asked.as_ref().filter(|before| Arc::ptr_eq(&before.model, model));
        if before.is_none_or(|before| before.draft.prompt != draft.prompt) {
            self.outlook.tokens = model.prompt_tokens(&draft.prompt);
        }
        (self.outlook.problem, self.outlook.warnings) = match draft.sketch(model, from.as_ref()) {
            Ok(recipe) => (None, warnings(&recipe, model.folder.name(), model.folder.facts())),
            Err(error) => (Some(error.to_string()), Vec::new()),
        };
        let bare = Draft {
            prompt: ANY_PROMPT.to_owned(),
            negative_prompt: String::new(),
            seed: 0,
            seed_locked: false,
            clips: 1,
            frames_per_second: 24,
            ..draft.clone()
        };
        let bare = Asked { draft: bare, model: model.clone(), from: from.clone() };
        let is_same =
            |asked: &Asked| asked.draft == bare.draft && Arc::ptr_eq(&asked.model, &bare.model) && asked.from == bare.from;
        if !self.costs_asked.as_ref().is_some_and(is_same) {
            self.look_at_costs(&bare);
            self.costs_asked = Some(bare);
        }
        self.asked = Some(asked);
    }

    fn look_at_costs(&mut self, asked: &Asked) {
        self.computed += 1;
        let Asked { draft, model, from } = asked;
        let recipe = draft.sketch(model, from.as_ref());
        self.outlook.estimate = match (&recipe, &self.device) {
            (Ok(recipe), Some(device)) => model.estimate(recipe, device, &self.speeds).ok().map(|estimate| {
                let done = from.as_ref().map_or(0, |from| from.call);
                without_calls(estimate, done)
            }),
            _ => None,
        };
        let size = from.as_ref().map_or(draft.size(), |from| from.recipe.size());
        self.outlook.mask = MaskOutlook {
            revision: self.outlook.mask.revision + 1,
            ..MaskOutlook::of(draft, model, size.latent_frames(), recipe.ok().as_ref())
        };
    }

    /// Whether the run suits this machine now.
    pub fn fit(&mut self) -> Option<Fit> {
        let free = self.free_memory();
        let device = self.device.as_ref()?;
        let estimate = self.outlook.estimate.as_ref()?;
        self.shortage = shortage(estimate, device, free);
        Some(Fit::of(estimate, self.shortage.as_ref()))
    }

    /// What [`Self::fit`] found missing.
    pub fn shortage(&self) -> Option<&Shortage> {
        self.shortage.as_ref()
    }

    /// Memory that a run may take, looked at once a second.
    pub fn free_memory(&mut self) -> Option<u64> {
        let device = self.device.as_ref()?;
        match self.memory {
            Some((looked, free)) if looked.elapsed() < MEMORY_HOLDS => free,
            _ => {
                let free = free_memory(device);
                self.memory = Some((Instant::now(), free));
                free
            }
        }
    }

    /// The cost of a model with its own settings.
    pub fn of_model(&mut self, model: &Arc<ModelInfo>) -> Option<(Fit, Estimate)> {
        let device = self.device.as_ref()?;
        let known = self.models.iter().find(|(known, _)| Arc::ptr_eq(known, model)).map(|(_, estimate)| estimate.clone());
        let estimate = known.unwrap_or_else(|| {
            let draft = Draft { prompt: ANY_PROMPT.to_owned(), ..Draft::of_model(&model.name, model.folder.facts()) };
            let estimate = draft.sketch(model, None).and_then(|recipe| model.estimate(&recipe, device, &self.speeds)).ok();
            self.models.push((model.clone(), estimate.clone()));
            estimate
        });
        let estimate = estimate?;
        let free = self.free_memory();
        let short = shortage(&estimate, self.device.as_ref()?, free);
        Some((Fit::of(&estimate, short.as_ref()), estimate))
    }

    /// Looks at items of the queue that are new or have other settings.
    pub fn follow_queue(&mut self, queue: &[QueueItem], model: impl Fn(&str) -> Option<Arc<ModelInfo>>) {
        let Some(device) = &self.device else { return };
        self.items.retain(|id, _| queue.iter().any(|item| item.id == *id));
        for item in queue {
            let known = self.items.get(&item.id);
            if known.is_some_and(|(recipe, seconds)| *recipe == item.recipe && seconds.is_some()) {
                continue;
            }
            let Some(model) = model(&item.model) else { continue };
            let estimate = model.estimate(&item.recipe, device, &self.speeds).ok();
            let done = item.recipe.branch.as_ref().map_or(0, |branch| branch.call) + item.steps_done;
            let seconds = estimate.map(|estimate| without_calls(estimate, done).seconds);
            self.items.insert(item.id, (item.recipe.clone(), seconds));
        }
    }

    /// Seconds that are left of an item.
    pub fn item_seconds(&self, item: ItemId) -> Option<f64> {
        self.items.get(&item)?.1
    }

    pub fn precision(&self) -> Option<Precision> {
        self.device.as_ref().map(|device| device.precision)
    }
}

/// `free` is that of the first device, which was looked at a moment ago; the memory of another adapter is known without a look.
fn shortage(estimate: &Estimate, device: &ComputeDevice, free: Option<u64>) -> Option<Shortage> {
    Shortage::find(
        estimate,
        device,
        |other| if other.is_cpu() == device.is_cpu() && other.is_cpu() { free } else { free_memory(other) },
    )
}

/// The rest of a run of which so many calls are done.
fn without_calls(mut estimate: Estimate, done: usize) -> Estimate {
    let left = estimate.model_calls.saturating_sub(done);
    let share = left as f64 / estimate.model_calls.max(1) as f64;
    estimate.phases.sampling *= share;
    estimate.flops.sampling *= share;
    estimate.seconds = estimate.phases.total();
    estimate.model_calls = left;
    estimate
}

impl MaskOutlook {
    fn of(draft: &Draft, model: &ModelInfo, latent_frames: usize, recipe: Option<&Recipe>) -> Self {
        let stops = model.mask_stops(latent_frames);
        let plan = recipe.and_then(|recipe| recipe.plan(model.layers).ok());
        let by_choice = stops.iter().position(|stop| stop.choice == draft.mask);
        let position = by_choice.or_else(|| {
            // A plan that came with a clip or a file may be one of the dial's.
            let plan = &recipe?.mask_plan;
            let mut other = recipe?.clone();
            stops.iter().position(|stop| other.set_mask(&model.folder, &stop.choice).is_ok() && other.mask_plan == *plan)
        });
        let own = match &draft.mask {
            MaskChoice::Plan => model.folder.mask_plan().ok().flatten().map(|text| MaskPlan::from_json(&text)),
            MaskChoice::Given(value) => Some(MaskPlan::from_json(&value.to_string())),
            MaskChoice::File(path) => Some(MaskPlan::load(path)),
            MaskChoice::Dense | MaskChoice::Uniform(_) => None,
        };
        let note = match own {
            Some(Ok(own)) => match own.adapted(latent_frames) {
                Ok(_) if own.frames() != latent_frames => Some(format!(
                    "The plan was made for {} latent frames. For these {latent_frames}, the rule of each layer is applied anew.",
                    own.frames()
                )),
                Ok(adapted) => {
                    adapted.check(model.layers, latent_frames).err().map(|error| format!("The plan does not fit: {error}."))
                }
                Err(error) => Some(format!("The plan does not fit: {error}.")),
            },
            Some(Err(error)) => Some(format!("The plan cannot be used: {error}.")),
            None if position.is_none() && plan.is_none() => {
                Some(format!("There is no such mask for {latent_frames} latent frames."))
            }
            None => None,
        };
        Self { stops, position, plan, note, revision: 0 }
    }
}
