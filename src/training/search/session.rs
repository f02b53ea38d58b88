//! From settings to a running search: the model, its calibration, the measuring, the choice, the plan's file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::calibration::{Calibration, State};
use super::candidates::Candidates;
use super::choose::{Goal, choose_of_ranges};
use super::measure::{Order, Row, measure_ranges};
use super::report::{Found, SearchOf, keep, kept, progress_path};
use crate::gpu::device::ComputeDevice;
use crate::mask::{KeyFrames, MOST_RANGES, MaskPlan};
use crate::model::attention_time::AttentionShape;
use crate::model::dit::Transformer;
use crate::model::latent::ClipSize;
use crate::model::sampler::Sampler;
use crate::model::sampling::{Sampling, StepMasks};
use crate::model::weights::Loader;
use crate::training::data::captions::{Captions, tokens_of};
use crate::training::distill::teacher::encoded;
use crate::training::error::TrainError;
use crate::training::run::Watcher;
use crate::training::template::Template;
use crate::world::attributes::Attributes;
use crate::world::grammar::{Detail, caption};
use crate::world::seeds;

/// The threshold of mini's recipe, which leaves about half of the tiles.
pub const THRESHOLD: f64 = 0.004;
/// What a search draws its noise from where nobody says otherwise.
pub const SEED: u64 = 4;

/// Sentences of the world that no model has learnt from.
pub fn prompts_of_world(count: usize) -> Vec<String> {
    let sentence = |clip| caption(&Attributes::of_clip(seeds::STATISTICS, clip), seeds::STATISTICS, clip, 0, Detail::All);
    (0..count as u64).map(sentence).collect()
}

/// A search that is to be made.
pub struct Search {
    pub template: Template,
    pub size: ClipSize,
    pub candidates: Candidates,
    pub goal: Goal,
    pub order: Order,
    /// Whose clips are looked at.
    pub prompts: Vec<String>,
    /// Calls of the sampler that are looked at, evenly over its steps.
    pub times: usize,
    /// Equally long ranges of the sampler's steps, each with masks of its own; 1 is masks that hold for all steps.
    pub step_ranges: usize,
    /// Prompts that are sampled together.
    pub batch: usize,
    pub seed: u64,
}

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub plan: MaskPlan,
    pub of: SearchOf,
    pub candidates: Candidates,
    pub rows: Vec<Row>,
    pub order: Order,
    pub goal: Goal,
    /// Of each candidate in one layer for one clip, the dense one last.
    pub millis: Vec<f64>,
    /// The place of each row's mask.
    pub chosen: Vec<usize>,
}

impl Outcome {
    pub fn found(&self) -> Found<'_> {
        let Self { of, candidates, rows, order, goal, millis, chosen, .. } = self;
        Found { of, candidates, rows, order: *order, goal: *goal, millis, chosen }
    }
}

/// Sees the rows so far, and what the attention of each candidate takes in one layer.
pub type Measured<'a> = &'a mut dyn FnMut(&[Row], &[f64]);

impl Search {
    /// Writes the plan into the file `out`. A search that was stopped goes on from the file beside it. None if it was stopped.
    ///
    /// # Errors
    /// [`TrainError::NoPlan`] if the goal cannot be kept; the model cannot be used, the device failed, or a file cannot be
    /// written.
    pub fn run(
        &self,
        out: &Path,
        device: &ComputeDevice,
        watcher: &mut dyn Watcher,
        measured: Measured<'_>,
    ) -> Result<Option<Outcome>, TrainError> {
        let Self { template, candidates, order, goal, .. } = self;
        self.check_ranges()?;
        let config = template.base_configs()?.transformer;
        let of = self.of(device)?;
        let progress = progress_path(out);
        let known = kept(&progress, &of);
        if !known.is_empty() {
            let layers = config.num_layers * self.step_ranges;
            watcher.note(&format!("goes on behind {} of {layers} layers{}", known.len(), self.of_ranges()));
        }
        watcher.doing("measures the attention of each mask", 0.0);
        let shape = AttentionShape {
            heads: config.num_attention_heads,
            head: config.attention_head_dim,
            frame_tokens: of.tokens_per_frame,
        };
        let masks: Vec<Arc<KeyFrames>> = candidates.all().iter().map(|mask| Arc::new(mask.mask().key_frames())).collect();
        let millis = shape.millis(&masks, device).map_err(|reason| TrainError::DeviceFailed { step: 0, reason })?;
        measured(&known, &millis);
        let transformer = Transformer::load(Loader::new(&template.transformer_weights()?, device), &config)?;
        let Some(states) = self.states(&transformer, device, watcher)? else { return Ok(None) };
        let layers = transformer.layers() * self.step_ranges;
        let mut seen = |rows: &[Row]| -> Result<bool, TrainError> {
            keep(&progress, &of, rows)?;
            measured(rows, &millis);
            let what = format!("layer {} of {layers}{}", rows.len(), self.of_ranges());
            watcher.doing(&what, rows.len() as f64 / layers as f64);
            Ok(!watcher.stops() || rows.len() == layers)
        };
        let Some(rows) = measure_ranges(&transformer, states, candidates, *order, &known, &mut seen)? else {
            return Ok(None);
        };
        let chosen = self.choose(&rows, &millis)?;
        let (candidates, order, goal) = (candidates.clone(), *order, *goal);
        let found = Found { of: &of, candidates: &candidates, rows: &rows, order, goal, millis: &millis, chosen: &chosen };
        let plan = found.plan()?;
        plan.save(out)?;
        remove(&progress);
        Ok(Some(Outcome { plan, of, candidates, rows, order, goal, millis, chosen }))
    }

    fn of(&self, device: &ComputeDevice) -> Result<SearchOf, TrainError> {
        Ok(SearchOf {
            model: self.template.name().to_owned(),
            model_sha256: self.template.hash()?,
            candidates: self.candidates.names(),
            latent_frames: self.size.latent_frames(),
            tokens_per_frame: self.size.tokens_per_frame(),
            threshold: if let Order::Greedy(threshold) = self.order { Some(threshold) } else { None },
            prompts: self.prompts.clone(),
            times: self.times,
            step_ranges: self.step_ranges,
            batch: self.batch,
            seed: self.seed,
            device: device.name.clone(),
            precision: device.precision.to_string(),
        })
    }

    fn choose(&self, rows: &[Row], millis: &[f64]) -> Result<Vec<usize>, TrainError> {
        let losses: Vec<Vec<f64>> = rows.iter().map(|row| row.losses.clone()).collect();
        let tiles = self.candidates.tiles();
        let costs = if self.goal.counts_tiles() { &tiles[..] } else { millis };
        choose_of_ranges(&losses, costs, self.goal, self.step_ranges).ok_or_else(|| TrainError::NoPlan {
            least_share: tiles.first().zip(tiles.last()).map_or(1.0, |(sparsest, dense)| sparsest / dense),
            least_millis: (rows.len() / self.step_ranges) as f64 * millis.iter().copied().fold(f64::INFINITY, f64::min),
        })
    }

    /// Said behind a number of layers, where each range of steps has all of them.
    fn of_ranges(&self) -> String {
        if self.step_ranges > 1 { format!(" in {} ranges of steps", self.step_ranges) } else { String::new() }
    }

    /// Fails where a range would be without a call.
    fn check_ranges(&self) -> Result<(), TrainError> {
        let defaults = &self.template.facts().defaults;
        let calls =
            Sampler::new(defaults.sampler, defaults.steps).map_err(|error| TrainError::Settings(error.to_string()))?.calls();
        if (1..=calls.min(MOST_RANGES)).contains(&self.step_ranges) {
            return Ok(());
        }
        Err(TrainError::Settings(format!(
            "{} samples in {calls} calls, which cannot be split into {} ranges of steps. Use 1 to {} ranges",
            self.template.name(),
            self.step_ranges,
            calls.min(MOST_RANGES)
        )))
    }

    /// The model's own way from noise to clips, with every frame seeing every frame: for each range of steps the calls that are
    /// looked at. None if it was stopped.
    fn states(
        &self,
        transformer: &Transformer,
        device: &ComputeDevice,
        watcher: &mut dyn Watcher,
    ) -> Result<Option<Vec<Vec<State>>>, TrainError> {
        let Self { template, size, .. } = self;
        let (tokenizer, encoder, tokens) = (template.tokenizer()?, template.text_encoder(device)?, template.max_tokens());
        let defaults = &template.facts().defaults;
        let dense = MaskPlan::dense(transformer.layers(), size.latent_frames())?;
        let sampling = Sampling {
            sampler: defaults.sampler,
            steps: defaults.steps,
            guidance_scale: defaults.guidance_scale,
            shape: size.latent_shape(transformer.latent_channels()),
            masks: StepMasks::of(&dense),
            seed: self.seed,
        };
        let (times, ranges) = (self.times, self.step_ranges);
        let calibration = Calibration { transformer, sampling: &sampling, device: &device.device, times, ranges };
        let text = |texts: &[String]| -> Result<_, TrainError> {
            let mut captions = Captions::default();
            for text in texts {
                captions.push(&tokens_of(&tokenizer, text, tokens)?);
            }
            Ok(encoded(&encoder, captions))
        };
        let mut states: Vec<Vec<State>> = std::iter::repeat_with(Vec::new).take(ranges).collect();
        for (batch, prompts) in self.prompts.chunks(self.batch.max(1)).enumerate() {
            let (empty, prompts) = (text(&vec![String::new(); prompts.len()])?, text(prompts)?);
            // A call of many prompts takes a CPU seconds, a batch of them minutes.
            let mut goes_on = |share: f64| {
                let done = (batch as f64 + share) * self.batch as f64 / self.prompts.len() as f64;
                watcher.doing(&format!("samples {} prompts", self.prompts.len()), done.min(1.0));
                !watcher.stops()
            };
            let Some(of_batch) = calibration.states([&prompts, &empty], batch as u64, &mut goes_on)? else { return Ok(None) };
            states.iter_mut().zip(of_batch).for_each(|(all, more)| all.extend(more));
        }
        Ok(Some(states))
    }
}

/// The file beside a plan that a stopped search goes on from, if there is one.
pub fn progress_of(plan: &Path) -> Option<PathBuf> {
    Some(progress_path(plan)).filter(|path| path.is_file())
}

/// The plan is there; what led to it is of no use any more, and no harm if it stays.
fn remove(progress: &Path) {
    if let Err(error) = std::fs::remove_file(progress) {
        log::debug!("could not remove {}: {error}", progress.display());
    }
}
