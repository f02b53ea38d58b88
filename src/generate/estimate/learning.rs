//! The cost of a mask search and of knowledge distillation before they start.
//!
//! By the same formulas as for a clip, at the speeds that clips were made with one by one on this device: large batches go
//! faster on a GPU, so the times are upper limits there. What a session really took corrects the next estimate.

use super::work::{text_encoder_flops, transformer_activation_bytes, transformer_flops};
use super::{Basis, ModelCosts, PhaseValues, Speeds, typical_speeds, value_bytes};
use crate::generate::GenerateError;
use crate::generate::recipe::Recipe;
use crate::gpu::device::ComputeDevice;
use crate::mask::MaskPlan;
use crate::model::sampler::Sampler;
use crate::model::vae::Tiling;

/// An update needs the gradient of every product's both factors: two products for each of the call.
const BACKWARD: f64 = 2.0;
/// Values that the backward pass needs of a token, channel and layer; measured with mini on the CPU.
const VALUES_KEPT: f64 = 24.0;
/// f32 values of the optimiser for a parameter: itself, two moments, the average, the gradient.
const OPTIMISER_VALUES: f64 = 5.0;
/// Bytes of a parameter on the disk: the exact checkpoint and the one that takes its place, the packed one, the student.
const CHECKPOINT_BYTES: f64 = 16.0 + 16.0 + 8.0 + 2.0;
/// Encoding and rendering a clip, over decoding one; measured with mini on the CPU.
const ENCODING: f64 = 0.25;
/// Clips that are encoded together.
const ENCODED_TOGETHER: f64 = 4.0;
/// Tensors of a call's size that a search holds of every sample: what the model began with, what a layer gets and gives.
const SEARCH_TENSORS: f64 = 3.0;

/// What a search or a distillation will cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningEstimate {
    /// Loading excluded.
    pub seconds: f64,
    pub basis: Basis,
    /// The most that the device holds at once.
    pub memory_bytes: u64,
    /// The most that lies on the disk at once.
    pub disk_bytes: u64,
    /// Steps of a distillation that fit into its time, or that it was told.
    pub steps: Option<u64>,
    /// Of one of them.
    pub step_seconds: Option<f64>,
}

/// What a search looks at.
#[derive(Clone, Debug)]
pub struct SearchWork {
    /// A plan for each candidate, all layers alike, without the dense one.
    pub sparse: Vec<MaskPlan>,
    pub prompts: usize,
    /// Calls of the sampler, at most.
    pub times: usize,
    /// Whether every layer is fed by the layers before it with their masks.
    pub is_greedy: bool,
}

/// How long a distillation goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DistilLength {
    Steps(u64),
    Seconds(f64),
}

/// What a distillation works through.
#[derive(Clone, Debug)]
pub struct DistilWork {
    pub plan: MaskPlan,
    /// That are encoded first.
    pub clips: usize,
    pub length: DistilLength,
    /// Samples of a step, and of those whose gradients are made together.
    pub batch_and_part: [usize; 2],
}

/// What both need to know of the model as its own recipe uses it.
struct Facts {
    plan: MaskPlan,
    /// Of a clip, and of a frame.
    tokens: usize,
    tokens_per_frame: usize,
    calls: usize,
    rows: usize,
    latent_values: usize,
    flops_per_second: PhaseValues<f64>,
    basis: Basis,
}

impl ModelCosts {
    /// The cost of a search on the model's own way from noise to clips, as the dense `recipe` goes it. `pace` is what earlier
    /// sessions took over their estimates.
    ///
    /// # Errors
    /// The recipe is not one for this model.
    pub fn search(
        &self,
        recipe: &Recipe,
        work: &SearchWork,
        device: &ComputeDevice,
        speeds: &Speeds,
        pace: Option<f64>,
    ) -> Result<LearningEstimate, GenerateError> {
        let facts = self.facts(recipe, device, speeds)?;
        let (prompts, times) = (work.prompts as f64, work.times.min(facts.calls) as f64);
        let of = |plan: &MaskPlan| transformer_flops(&self.transformer, plan, facts.tokens_per_frame, recipe.max_tokens);
        let dense = of(&facts.plan);
        let sampling = prompts * (facts.calls * facts.rows) as f64 * dense;
        let again = if work.is_greedy { dense } else { 0.0 };
        let measuring = prompts * times * (dense + again + work.sparse.iter().map(of).sum::<f64>());
        let text = prompts * facts.rows as f64 * text_encoder_flops(&self.text_encoder, recipe.max_tokens);
        let seconds = (sampling + measuring) / facts.flops_per_second.sampling + text / facts.flops_per_second.text;

        let weights = self.weight_bytes(device);
        let sample = (facts.tokens * self.transformer.width()) as f64 * 4.0;
        let samples = prompts * times * SEARCH_TENSORS * sample;
        let at_once = transformer_activation_bytes(&self.transformer, facts.tokens, work.prompts, value_bytes(device));
        Ok(LearningEstimate {
            seconds: seconds * pace.unwrap_or(1.0),
            basis: based(facts.basis, pace),
            memory_bytes: (weights.sampling + weights.text + samples + at_once) as u64,
            disk_bytes: 1 << 20,
            steps: None,
            step_seconds: None,
        })
    }

    /// The cost of teaching a sparse student of the model, whose own `recipe` the teacher uses.
    ///
    /// # Errors
    /// As [`Self::search`].
    pub fn distil(
        &self,
        recipe: &Recipe,
        work: &DistilWork,
        device: &ComputeDevice,
        speeds: &Speeds,
        pace: Option<f64>,
    ) -> Result<LearningEstimate, GenerateError> {
        let facts = self.facts(recipe, device, speeds)?;
        let [batch, part] = work.batch_and_part;
        let of = |plan: &MaskPlan| transformer_flops(&self.transformer, plan, facts.tokens_per_frame, recipe.max_tokens);
        // Times are drawn evenly, so that ranges of steps with masks of their own cost what a call costs in the mean.
        let student = (0..facts.calls).map(|call| of(&work.plan.at(call, facts.calls))).sum::<f64>() / facts.calls as f64;
        let step = batch as f64 * (of(&facts.plan) + (1.0 + BACKWARD) * student) / facts.flops_per_second.sampling;
        let text = batch as f64 * text_encoder_flops(&self.text_encoder, recipe.max_tokens) / facts.flops_per_second.text;
        let step_seconds = (step + text) * pace.unwrap_or(1.0);
        let (training, steps) = match work.length {
            DistilLength::Steps(steps) => (step_seconds * steps as f64, steps),
            DistilLength::Seconds(seconds) => (seconds, (seconds / step_seconds) as u64),
        };
        let decoding = self.estimate(recipe, device, speeds)?.phases.decoding;
        let encoding = work.clips as f64 * ENCODING * decoding;

        let bytes = value_bytes(device);
        let parameters = self.parameters.sampling;
        let weights = self.weight_bytes(device);
        let kept = (self.transformer.num_layers * facts.tokens * self.transformer.width()) as f64 * VALUES_KEPT * bytes;
        let of_part = part as f64 * kept + transformer_activation_bytes(&self.transformer, facts.tokens, part, bytes);
        let learning = parameters * (OPTIMISER_VALUES * 4.0 + bytes) + of_part;
        let latents = (work.clips * facts.latent_values) as f64 * 2.0;
        // On the CPU the clips lie beside the networks; a GPU has its own memory.
        let of_clips = if device.is_cpu() { latents } else { 0.0 };
        // The clips are encoded before anything is learnt.
        let shape = recipe.size().latent_shape(self.transformer.in_channels);
        let decoding = Tiling::of(&self.vae).decoding_cost(&self.vae, [shape[1], shape[2], shape[3]]);
        let encoding_bytes = ENCODED_TOGETHER * decoding.largest_activations * bytes;
        let lent = 2.0 * (self.parameters.decoding + self.parameters.text);
        Ok(LearningEstimate {
            seconds: training + encoding,
            basis: based(facts.basis, pace),
            memory_bytes: (weights.sampling + weights.text + of_clips + learning).max(weights.decoding + encoding_bytes) as u64,
            disk_bytes: (latents + parameters * CHECKPOINT_BYTES + lent) as u64,
            steps: Some(steps),
            step_seconds: Some(step_seconds),
        })
    }

    fn facts(&self, recipe: &Recipe, device: &ComputeDevice, speeds: &Speeds) -> Result<Facts, GenerateError> {
        let plan = recipe.plan(self.transformer.num_layers)?;
        let calls = Sampler::new(recipe.sampler, recipe.steps)?.calls();
        let rows = if recipe.guidance_scale > 1.0 { 2 } else { 1 };
        let shape = recipe.size().latent_shape(self.transformer.in_channels);
        let [_, frames, height, width] = shape;
        let tokens_per_frame = (height / self.transformer.patch_size) * (width / self.transformer.patch_size);
        let flops = PhaseValues {
            text: rows as f64 * text_encoder_flops(&self.text_encoder, recipe.max_tokens),
            sampling: rows as f64 * transformer_flops(&self.transformer, &plan, tokens_per_frame, recipe.max_tokens),
            decoding: 0.0,
        };
        let (measured, typical) = (speeds.of(device, &flops), typical_speeds(device));
        let of = |speed: Option<super::speeds::Speed>, typical: f64| speed.map_or(typical, |speed| speed.flops_per_second);
        let basis = match measured.sampling.map_or(0, |speed| speed.runs_alike) {
            0 => Basis::Typical,
            runs => Basis::Measured { runs },
        };
        Ok(Facts {
            plan,
            tokens: frames * tokens_per_frame,
            tokens_per_frame,
            calls,
            rows,
            latent_values: shape.into_iter().product(),
            flops_per_second: PhaseValues {
                text: of(measured.text, typical.text),
                sampling: of(measured.sampling, typical.sampling),
                decoding: of(measured.decoding, typical.decoding),
            },
            basis,
        })
    }
}

/// An earlier session is as good as a run.
fn based(basis: Basis, pace: Option<f64>) -> Basis {
    if pace.is_some() { Basis::Measured { runs: 1 } } else { basis }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::recipe::MaskChoice;
    use crate::gpu::device::{self, DeviceChoice, Precision};
    use crate::model::folder::{ModelFolder, SearchPath};

    fn mini() -> (ModelCosts, Recipe, ComputeDevice) {
        let search = SearchPath { folders: vec![concat!(env!("CARGO_MANIFEST_DIR"), "/assets/models").into()], built_in: false };
        let folder = ModelFolder::resolve("mini/base", &search).unwrap();
        let mut recipe = Recipe::without_hash(&folder, "a red ball", Precision::F32).unwrap();
        recipe.set_mask(&folder, &MaskChoice::Dense).unwrap();
        (ModelCosts::of(&folder).unwrap(), recipe, device::open(&DeviceChoice::Cpu, None).unwrap())
    }

    #[test]
    fn a_search_costs_its_calls() {
        let (costs, recipe, device) = mini();
        let work = |prompts, sparse: Vec<MaskPlan>, is_greedy| SearchWork { sparse, prompts, times: 8, is_greedy };
        let cost = |work: &SearchWork| costs.search(&recipe, work, &device, &Speeds::default(), None).unwrap();
        // 50 calls of two rows and, of 8 of them, one dense row again: 27.3 GFLOP each.
        let bare = cost(&work(1, Vec::new(), false));
        let rate = typical_speeds(&device).sampling;
        assert!((bare.seconds * rate / (27.3e9 * 108.0) - 1.0).abs() < 0.01, "{bare:?}");
        assert_eq!(bare.basis, Basis::Typical);
        let one = MaskPlan::uniform(12, 8, "1:7").unwrap();
        let more = cost(&work(2, vec![one.clone(), one], true));
        assert!(more.seconds > 2.0 * bare.seconds && more.memory_bytes > bare.memory_bytes);
        let twice = costs.search(&recipe, &work(1, Vec::new(), false), &device, &Speeds::default(), Some(2.0)).unwrap();
        assert_eq!((twice.seconds, twice.basis), (2.0 * bare.seconds, Basis::Measured { runs: 1 }));
    }

    #[test]
    fn a_distillation_costs_its_steps() {
        let (costs, recipe, device) = mini();
        let work = |length, clips| DistilWork { plan: MaskPlan::dense(12, 8).unwrap(), clips, length, batch_and_part: [4, 2] };
        let cost = |work: &DistilWork| costs.distil(&recipe, work, &device, &Speeds::default(), None).unwrap();
        let ten = cost(&work(DistilLength::Steps(10), 0));
        let rate = typical_speeds(&device).sampling;
        assert!((ten.seconds * rate / (27.3e9 * 4.0 * 4.0 * 10.0) - 1.0).abs() < 0.05, "{ten:?}");
        // As many steps as fit into that time.
        let timed = cost(&work(DistilLength::Seconds(ten.seconds * 1.01), 0));
        assert_eq!(timed.steps, Some(10));
        let with_clips = cost(&work(DistilLength::Steps(10), 100));
        assert!(with_clips.seconds > ten.seconds && with_clips.disk_bytes > ten.disk_bytes);
        // 100 latents of 4 x 8 x 18 x 32 in f16.
        assert_eq!(with_clips.disk_bytes - ten.disk_bytes, 100 * 4 * 8 * 18 * 32 * 2);
        // Ranges of steps cost as long as they last.
        let seconds = |plan: MaskPlan| cost(&DistilWork { plan, ..work(DistilLength::Steps(10), 0) }).seconds;
        let uniform = |name: &str| MaskPlan::uniform(12, 8, name).unwrap();
        let ranges = MaskPlan::of_ranges(vec![(0.0, uniform("1:7")), (0.75, uniform("full"))]).unwrap();
        let (sparse, dense) = (seconds(uniform("1:7")), seconds(uniform("full")));
        // 50 calls, of which 38 come before.
        let want = (38.0 * sparse + 12.0 * dense) / 50.0;
        assert!(sparse < dense && (seconds(ranges) / want - 1.0).abs() < 1e-9, "{sparse} {dense} {want}");
    }
}
