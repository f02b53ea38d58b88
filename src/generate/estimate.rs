//! The cost of a run before it starts.
//!
//! Operations and memory follow from the model's configurations and the recipe by formula; how many operations a device does
//! in a second is learned from the runs before ([`Speeds`]), and until there are any, taken from typical figures and said so. Several
//! devices learn together; before they have, what each does alone goes into the cost model of the parallel room.

mod learning;
mod speeds;
mod together;
mod work;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use learning::{DistilLength, DistilWork, LearningEstimate, SearchWork};
pub use speeds::Speeds;
pub use work::{
    CallWork, Work, text_encoder_activation_bytes, text_encoder_flops, transformer_activation_bytes, transformer_parameters,
    transformer_work,
};

use super::GenerateError;
use super::pipeline::{text_encoder_config, transformer_config, vae_config};
use super::recipe::Recipe;
use super::residency;
use crate::gpu::device::{ComputeDevice, Precision};
use crate::mask::MaskPlan;
use crate::model::dit::TransformerConfig;
use crate::model::folder::ModelFolder;
use crate::model::sampler::Sampler;
use crate::model::text::encoder::TextEncoderConfig;
use crate::model::vae::{Tiling, VaeConfig};
use crate::model::weights::{TOKEN_EMBEDDING_KEYS, WeightSource, is_ignorable_text_encoder_key, is_ignorable_vae_key};

/// One value for each phase that takes time in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseValues<T> {
    /// Reading the prompt, the loading of the text encoder included.
    pub text: T,
    /// All calls of the transformer.
    pub sampling: T,
    /// The VAE, all tiles.
    pub decoding: T,
}

impl PhaseValues<f64> {
    pub fn total(&self) -> f64 {
        self.text + self.sampling + self.decoding
    }
}

/// Where the seconds of an estimate come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// So many runs of about this size on this device, in the phase that fewest were measured of.
    Measured { runs: usize },
    /// Runs of about this size on each of so many devices alone.
    Reckoned { devices: usize },
    /// Figures of other machines, or of runs of a very different size.
    Typical,
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measured { runs: 1 } => f.write_str("measured in one run like it"),
            Self::Measured { runs } => write!(f, "measured in {runs} runs like it"),
            Self::Reckoned { devices } => write!(f, "reckoned from what each of the {devices} devices takes alone"),
            Self::Typical => f.write_str("a rough guess, as nothing like it has run on this device yet"),
        }
    }
}

/// What a run will cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Of all phases; loading the transformer and the VAE and writing the clip come on top.
    pub seconds: f64,
    pub basis: Basis,
    /// Seconds.
    pub phases: PhaseValues<f64>,
    /// Floating-point operations, a multiplication and an addition counted as two.
    pub flops: PhaseValues<f64>,
    /// The most that weights and activations take on the device at once; of several on the first.
    pub memory_bytes: u64,
    /// The same of each device beside the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others_memory_bytes: Vec<u64>,
    /// Share of the attention tiles that the plan computes, in (0, 1].
    pub density: f64,
    /// Calls of the transformer; with guidance each is one of two rows.
    pub model_calls: usize,
    /// Of one call, made by the slowest of the devices alone.
    #[serde(skip)]
    pub longest_call_seconds: f64,
}

impl Estimate {
    /// The cost of `recipe` with the model in `folder`, whose weights are listed but not read.
    ///
    /// # Errors
    /// The recipe cannot be run, or a configuration or weight file of the model cannot be read.
    pub fn of(folder: &ModelFolder, recipe: &Recipe, device: &ComputeDevice, speeds: &Speeds) -> Result<Self, GenerateError> {
        recipe.check()?;
        ModelCosts::of(folder)?.estimate(recipe, device, speeds)
    }

    /// Where in the run sampling begins and ends, from 0 to 1: for a progress bar.
    pub fn sampling_share(&self) -> (f64, f64) {
        let PhaseValues { text, sampling, .. } = self.phases;
        (text / self.seconds, (text + sampling) / self.seconds)
    }
}

/// Bytes of a weight and of a value between layers.
fn value_bytes(device: &ComputeDevice) -> f64 {
    match device.precision {
        Precision::F32 => 4.0,
        Precision::F16 => 2.0,
    }
}

/// The decoded video in f32: its tiles, and the whole that they are joined to.
fn decoded_bytes(recipe: &Recipe) -> f64 {
    2.0 * 4.0 * 3.0 * (recipe.frames * recipe.width * recipe.height) as f64
}

/// What a model's files say about the cost of its runs: read once, asked for every move of a slider.
#[derive(Clone, Debug)]
pub struct ModelCosts {
    transformer: TransformerConfig,
    vae: VaeConfig,
    text_encoder: TextEncoderConfig,
    /// Numbers in the weight files, as far as a device holds them.
    parameters: PhaseValues<f64>,
}

impl ModelCosts {
    /// Lists the weights, but does not read them.
    ///
    /// # Errors
    /// A configuration or weight file of the model cannot be read.
    pub fn of(folder: &ModelFolder) -> Result<Self, GenerateError> {
        let count = |source: &WeightSource, ignorable: fn(&str) -> bool| -> f64 {
            source.tensors().filter(|(name, _)| !ignorable(name)).map(|(_, info)| info.element_count() as f64).sum()
        };
        // The token table is counted apart; a file may hold it twice.
        let is_not_in_blocks = |name: &str| is_ignorable_text_encoder_key(name) || TOKEN_EMBEDDING_KEYS.contains(&name);
        let parameters = PhaseValues {
            text: count(&folder.text_encoder_weights()?, is_not_in_blocks),
            sampling: count(&folder.transformer_weights()?, |_| false),
            decoding: count(&folder.vae_weights()?, is_ignorable_vae_key),
        };
        Ok(Self {
            transformer: transformer_config(folder)?,
            vae: vae_config(folder)?,
            text_encoder: text_encoder_config(folder)?,
            parameters,
        })
    }

    /// The cost of a recipe that was checked.
    ///
    /// # Errors
    /// Its mask plan is not one for this model and size.
    pub fn estimate(&self, recipe: &Recipe, device: &ComputeDevice, speeds: &Speeds) -> Result<Estimate, GenerateError> {
        let Self { transformer, vae, text_encoder, .. } = self;
        let plan = recipe.plan(transformer.num_layers)?;
        let model_calls = Sampler::new(recipe.sampler, recipe.steps)?.calls();
        let rows = if recipe.guidance_scale > 1.0 { 2 } else { 1 };
        let [_, frames, height, width] = recipe.size().latent_shape(transformer.in_channels);
        let tokens_per_frame = (height / transformer.patch_size) * (width / transformer.patch_size);

        // Ranges of steps with masks of their own cost what they cost; the mean call stands for them.
        let plans: Vec<MaskPlan> = (0..plan.ranges().count()).map(|range| plan.of_range(range)).collect();
        let of_range: Vec<f64> = plans
            .iter()
            .map(|plan| rows as f64 * work::transformer_flops(transformer, plan, tokens_per_frame, recipe.max_tokens))
            .collect();
        let sampling_flops: f64 = (0..model_calls).map(|call| of_range[plan.range_of(call, model_calls)]).sum();
        let call_flops = sampling_flops / model_calls as f64;
        let text_flops = rows as f64 * text_encoder_flops(text_encoder, recipe.max_tokens);
        let decoding = Tiling::of(vae).decoding_cost(vae, [frames, height, width]);
        let decoding_flops = decoding.convolution_flops + decoding.attention_flops;
        let flops = PhaseValues { text: text_flops, sampling: sampling_flops, decoding: decoding_flops };

        let of_one_call = PhaseValues { sampling: call_flops, ..flops };
        let devices = || std::iter::once(device).chain(&device.others);
        let alone: Vec<Alone> = devices()
            .map(|device| {
                let sharing = devices().filter(|other| other.place() == device.place()).count();
                Alone::of(ComputeDevice { others: Vec::new(), ..device.clone() }, sharing, &of_one_call, speeds)
            })
            .collect();
        let calls: Vec<together::Call<'_>> = plans
            .iter()
            .map(|plan| together::Call { config: transformer, plan, tokens_per_frame, text_tokens: recipe.max_tokens, rows })
            .collect();
        let call_speeds: Vec<f64> = alone.iter().map(|alone| alone.flops_per_second().sampling).collect();
        let (phases, basis) = match alone.as_slice() {
            [one] => (one.seconds(&flops), one.basis()),
            several => {
                let together = speeds.of(device, &of_one_call);
                let is_known = together.sampling.is_some_and(|speed| speed.runs_alike > 0);
                if is_known {
                    let typical = several[0].flops_per_second();
                    let together = Alone { measured: together, typical, device: device.clone(), sharing: 1 };
                    (together.seconds(&flops), together.basis())
                } else {
                    let of_range: Vec<f64> = calls.iter().map(|call| call.seconds(&call_speeds, device)).collect();
                    let first = several[0].seconds(&flops);
                    let start = several.iter().map(|alone| alone.start_seconds()).fold(0.0, f64::max);
                    let calls: f64 = (0..model_calls).map(|call| of_range[plan.range_of(call, model_calls)]).sum();
                    let decodings: Vec<f64> = several.iter().map(|alone| alone.seconds(&flops).decoding).collect();
                    let tiles = Tiling::of(vae).decoding_tiles([frames, height, width]);
                    let decoding = together::decoding_seconds(&decodings, tiles);
                    let are_known = several.iter().all(|alone| matches!(alone.basis(), Basis::Measured { .. }));
                    let basis = if are_known { Basis::Reckoned { devices: several.len() } } else { Basis::Typical };
                    (PhaseValues { text: first.text, sampling: start + calls, decoding }, basis)
                }
            }
        };

        let bytes = value_bytes(device);
        let texts_at_once = if residency::streams_text_encoder(device, text_encoder) { 1 } else { rows };
        let activations = match alone.as_slice() {
            [_] => vec![transformer_activation_bytes(transformer, frames * tokens_per_frame, rows, bytes)],
            _ => {
                let of_range = calls.iter().map(|call| call.activation_bytes(&call_speeds, device));
                let largest = |a: Vec<f64>, b: Vec<f64>| a.into_iter().zip(b).map(|(a, b)| f64::max(a, b)).collect();
                of_range.reduce(largest).unwrap_or_default()
            }
        };
        let of_device = |alone: &Alone, sampling: f64, is_first: bool| {
            let weights = self.weight_bytes(&alone.device);
            let of_tile = decoding.largest_activations * bytes;
            // The text encoder goes when the prompt is read, unless it is small. It, and the whole video, are on the first device.
            let text = weights.text + text_encoder_activation_bytes(text_encoder, recipe.max_tokens, texts_at_once);
            let on_top = if is_first { [text, sampling, of_tile + decoded_bytes(recipe)] } else { [0.0, sampling, of_tile] };
            (weights.sampling + weights.decoding + on_top.into_iter().fold(0.0, f64::max)) as u64
        };
        let memory = alone.iter().zip(activations).enumerate();
        let mut memory = memory.map(|(rank, (alone, sampling))| of_device(alone, sampling, rank == 0));
        let memory_bytes = memory.next().unwrap_or_default();
        let others_memory_bytes = memory.collect();

        Ok(Estimate {
            seconds: phases.total(),
            basis,
            phases,
            flops,
            memory_bytes,
            others_memory_bytes,
            density: plan.density(),
            model_calls,
            longest_call_seconds: call_speeds.iter().map(|speed| call_flops / speed).fold(0.0, f64::max),
        })
    }

    /// Bytes that the networks' parameters take on the device: text encoder, transformer, VAE. Of streamed networks only the
    /// layers count that are there at once.
    fn weight_bytes(&self, device: &ComputeDevice) -> PhaseValues<f64> {
        let PhaseValues { text, sampling, decoding } = self.parameters;
        let bytes = value_bytes(device);
        // The token table stays in f32 in the computer's memory, and so does `wo` on the device.
        let TextEncoderConfig { num_layers, d_ff, d_model, vocab_size, .. } = self.text_encoder;
        let wo = (num_layers * d_ff * d_model) as f64;
        let is_streamed = residency::streams_text_encoder(device, &self.text_encoder);
        let table = if device.is_cpu() && !is_streamed { (vocab_size * d_model) as f64 } else { 0.0 };
        let text = (text - wo) * bytes + wo * 4.0;
        let text = if is_streamed { text / num_layers as f64 } else { text };
        let sampling = match residency::streams_transformer(device, sampling as usize) {
            // Two layers, and the next on its way.
            true => 3.0 * sampling * bytes / self.transformer.num_layers as f64,
            false => sampling * bytes,
        };
        PhaseValues { text: text + table * 4.0, sampling, decoding: decoding * bytes }
    }
}

/// What is known of one device, or of several that have run together.
struct Alone {
    device: ComputeDevice,
    measured: PhaseValues<Option<speeds::Speed>>,
    /// Operations a second where nothing was measured.
    typical: PhaseValues<f64>,
    /// So many devices of the run are on the same adapter, or the CPU, and get a part of its speed.
    sharing: usize,
}

impl Alone {
    /// `of_one_call` is the work of each phase, of one call when sampling.
    fn of(device: ComputeDevice, sharing: usize, of_one_call: &PhaseValues<f64>, speeds: &Speeds) -> Self {
        let (measured, typical) = (speeds.of(&device, of_one_call), typical_speeds(&device));
        Self { device, measured, typical, sharing }
    }

    fn flops_per_second(&self) -> PhaseValues<f64> {
        let speed = |measured: Option<speeds::Speed>, typical: f64| {
            measured.map_or(typical, |speed| speed.flops_per_second) / self.sharing as f64
        };
        PhaseValues {
            text: speed(self.measured.text, self.typical.text),
            sampling: speed(self.measured.sampling, self.typical.sampling),
            decoding: speed(self.measured.decoding, self.typical.decoding),
        }
    }

    /// What the first call takes longer than the others.
    fn start_seconds(&self) -> f64 {
        self.measured.sampling.map_or(0.0, |speed| speed.start_seconds)
    }

    /// The seconds of all phases.
    fn seconds(&self, flops: &PhaseValues<f64>) -> PhaseValues<f64> {
        let start = |measured: Option<speeds::Speed>| measured.map_or(0.0, |speed| speed.start_seconds);
        let speeds = self.flops_per_second();
        PhaseValues {
            text: start(self.measured.text) + flops.text / speeds.text,
            sampling: start(self.measured.sampling) + flops.sampling / speeds.sampling,
            decoding: start(self.measured.decoding) + flops.decoding / speeds.decoding,
        }
    }

    fn basis(&self) -> Basis {
        let PhaseValues { text, sampling, decoding } = self.measured;
        match [text, sampling, decoding].map(|speed| speed.map_or(0, |speed| speed.runs_alike)).into_iter().min() {
            Some(runs) if runs > 0 => Basis::Measured { runs },
            _ => Basis::Typical,
        }
    }
}

/// Operations a second before anything was measured, low rather than high.
fn typical_speeds(device: &ComputeDevice) -> PhaseValues<f64> {
    const GIGA: f64 = 1e9;
    match &device.adapter {
        // Measured on two threads with AVX-512.
        None => {
            let pairs = rayon::current_num_threads() as f64 / 2.0;
            PhaseValues { text: 60.0 * GIGA * pairs, sampling: 60.0 * GIGA * pairs, decoding: 150.0 * GIGA * pairs }
        }
        Some(adapter) if adapter.software => PhaseValues { text: 2.0 * GIGA, sampling: 2.0 * GIGA, decoding: 2.0 * GIGA },
        Some(adapter) if adapter.kind == "DiscreteGpu" => {
            PhaseValues { text: 500.0 * GIGA, sampling: 2000.0 * GIGA, decoding: 2000.0 * GIGA }
        }
        Some(_) => PhaseValues { text: 100.0 * GIGA, sampling: 300.0 * GIGA, decoding: 300.0 * GIGA },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::networks::Timing;
    use crate::gpu::device::{self, AdapterReport, DeviceChoice};
    use crate::mask::MaskPlan;
    use crate::model::folder::SearchPath;

    fn mini(name: &str) -> (ModelFolder, Recipe, ComputeDevice) {
        let search = SearchPath { folders: vec![concat!(env!("CARGO_MANIFEST_DIR"), "/assets/models").into()], built_in: false };
        let folder = ModelFolder::resolve(name, &search).unwrap();
        let recipe = Recipe::of_model(&folder, "a red ball", Precision::F32).unwrap();
        (folder, recipe, device::open(&DeviceChoice::Cpu, None).unwrap())
    }

    fn assert_near(got: f64, want: f64) {
        assert!((got / want - 1.0).abs() < 0.01, "{got:e} instead of {want:e}");
    }

    /// The figures of the recipe that `mini` was trained by: 27.3 GFLOP a call, 0.770 TFLOP a decode.
    #[test]
    fn the_small_model_costs_what_its_recipe_says() {
        let (folder, mut recipe, device) = mini("mini/base");
        recipe.set_mask(&folder, &crate::generate::recipe::MaskChoice::Dense).unwrap();
        recipe.guidance_scale = 1.0;
        let estimate = Estimate::of(&folder, &recipe, &device, &Speeds::default()).unwrap();
        assert_near(estimate.flops.sampling / estimate.model_calls as f64, 27.3e9);
        assert_near(estimate.flops.decoding, 0.770e12);
        assert_eq!(estimate.density, 1.0);
        assert_eq!(estimate.basis, Basis::Typical);
        assert_near(estimate.phases.total(), estimate.seconds);
        let (begin, end) = estimate.sampling_share();
        assert_near((end - begin) * estimate.seconds, estimate.phases.sampling);

        recipe.guidance_scale = 2.0;
        let guided = Estimate::of(&folder, &recipe, &device, &Speeds::default()).unwrap();
        assert_near(guided.flops.sampling, 2.0 * estimate.flops.sampling);
        assert_eq!(guided.flops.decoding, estimate.flops.decoding);
    }

    #[test]
    fn the_plan_saves_attention_only() {
        let (folder, mut recipe, device) = mini("mini/fast");
        let sparse = Estimate::of(&folder, &recipe, &device, &Speeds::default()).unwrap();
        recipe.set_mask(&folder, &crate::generate::recipe::MaskChoice::Dense).unwrap();
        let dense = Estimate::of(&folder, &recipe, &device, &Speeds::default()).unwrap();
        assert_eq!(sparse.model_calls, 4);
        // A layer with 2:6, two with 3:5, eight with near:1 and one with near:2.
        assert_near(sparse.density, f64::from(34 + 2 * 44 + 8 * 22 + 34) / (12.0 * 64.0));
        // Four operations a pair of tokens and channel, of 1152 x 1152 tokens, 192 channels and 12 layers in 4 calls.
        let attention = 4.0 * 1152.0 * 1152.0 * 192.0 * 12.0 * 4.0;
        assert_near(dense.flops.sampling - sparse.flops.sampling, (1.0 - sparse.density) * attention);
        assert!(sparse.seconds < dense.seconds);
        assert_eq!(sparse.flops.decoding, dense.flops.decoding);
    }

    #[test]
    fn ranges_of_steps_cost_what_they_compute() {
        let (folder, mut recipe, device) = mini("mini/fast");
        let mut with = |plan: MaskPlan| {
            let plan = serde_json::from_str(&plan.to_json().unwrap()).unwrap();
            recipe.set_mask(&folder, &crate::generate::recipe::MaskChoice::Given(plan)).unwrap();
            (recipe.format, Estimate::of(&folder, &recipe, &device, &Speeds::default()).unwrap())
        };
        let uniform = |name: &str| MaskPlan::uniform(12, 8, name).unwrap();
        let [(_, dense), (_, sparse)] = ["full", "1:7"].map(|name| with(uniform(name)));
        // A quarter of the steps dense.
        let (format, mixed) = with(MaskPlan::of_ranges(vec![(0.0, uniform("full")), (0.25, uniform("1:7"))]).unwrap());
        assert_near(mixed.flops.sampling, 0.25 * dense.flops.sampling + 0.75 * sparse.flops.sampling);
        assert_near(mixed.density, 0.25 + 0.75 * 22.0 / 64.0);
        assert_eq!((format, with(uniform("full")).0), (3, 1), "older programs would not see the later masks");
        // Neighbours cost what as many reference frames do, and no older program knows them, wherever they stand in a plan.
        let (format, near) = with(uniform("near:1"));
        assert_near(near.flops.sampling, sparse.flops.sampling);
        assert_eq!((format, with(uniform("2:6")).0), (4, 1));
        let later = MaskPlan::of_ranges(vec![(0.0, uniform("full")), (0.5, uniform("near:2"))]).unwrap();
        assert_eq!(with(later).0, 4);
    }

    #[test]
    fn a_learned_run_is_estimated_at_what_it_took() {
        let (folder, mut recipe, device) = mini("mini/fast");
        recipe.steps = 8;
        let mut speeds = Speeds::default();
        let first = Estimate::of(&folder, &recipe, &device, &speeds).unwrap();
        let timing = Timing { text_millis: 30.0, step_millis: [vec![700.0], vec![200.0; 7]].concat(), decode_millis: 5000.0 };
        speeds.add(&device, &first, &timing);
        let second = Estimate::of(&folder, &recipe, &device, &speeds).unwrap();
        assert_eq!(second.basis, Basis::Measured { runs: 1 });
        assert_near(second.phases.text, 0.03);
        assert_near(second.phases.sampling, 2.1);
        assert_near(second.phases.decoding, 5.0);

        let mut longer = recipe.clone();
        longer.steps = 16;
        // The first call's delay comes once.
        assert_near(Estimate::of(&folder, &longer, &device, &speeds).unwrap().phases.sampling, 3.7);
    }

    #[test]
    fn several_devices_have_shares_of_the_cost() {
        let (folder, mut recipe, cpu) = mini("mini/fast");
        // Far above what launches and round trips cost.
        (recipe.width, recipe.height, recipe.frames) = (1280, 720, 93);
        recipe.set_mask(&folder, &crate::generate::recipe::MaskChoice::Uniform("2:22".into())).unwrap();
        let on = |index| ComputeDevice { adapter: Some(Box::new(AdapterReport::stand_in(index, "G"))), ..cpu.clone() };
        let with = |first: &ComputeDevice, others: Vec<ComputeDevice>| ComputeDevice { others, ..first.clone() };
        let of = |device: &ComputeDevice, speeds: &Speeds| Estimate::of(&folder, &recipe, device, speeds).unwrap();
        let mut speeds = Speeds::default();
        let (one, two) = (on(0), with(&on(0), vec![on(1)]));
        let (alone, shared) = (of(&one, &speeds), of(&two, &speeds));
        assert_eq!((alone.others_memory_bytes.len(), shared.others_memory_bytes.len()), (0, 1));
        let gain = alone.phases.sampling / shared.phases.sampling;
        assert!(gain > 1.2 && gain < 2.0, "{gain}");
        assert!(shared.phases.decoding < 0.7 * alone.phases.decoding);
        assert_eq!(shared.phases.text, alone.phases.text);
        assert!(shared.memory_bytes <= alone.memory_bytes && shared.others_memory_bytes[0] <= shared.memory_bytes);
        assert_eq!(shared.longest_call_seconds, alone.longest_call_seconds);
        assert_eq!(shared.basis, Basis::Typical);

        // The same adapter twice is no faster, and two copies of the weights are there.
        let twice = of(&with(&one, vec![one.clone()]), &speeds);
        assert!(twice.phases.sampling >= alone.phases.sampling * 0.99, "{} {}", twice.phases.sampling, alone.phases.sampling);

        // What each does alone counts until they have run together.
        let timing = |estimate: &Estimate, call_seconds: f64| Timing {
            text_millis: 100.0,
            step_millis: vec![1000.0 * call_seconds; estimate.model_calls],
            decode_millis: 2000.0,
        };
        speeds.add(&one, &alone, &timing(&alone, 3.0));
        let reckoned = of(&two, &speeds);
        assert_eq!(reckoned.basis, Basis::Reckoned { devices: 2 });
        assert!(reckoned.phases.sampling > 1.5 * alone.model_calls as f64, "no more than twice as fast");
        speeds.add(&two, &shared, &timing(&shared, 2.0));
        let measured = of(&two, &speeds);
        assert_eq!(measured.basis, Basis::Measured { runs: 1 });
        assert_near(measured.phases.sampling, 2.0 * alone.model_calls as f64);
        assert_near(of(&one, &speeds).phases.sampling, 3.0 * alone.model_calls as f64);
    }

    #[test]
    fn a_recipe_that_cannot_run_has_no_estimate() {
        let (folder, mut recipe, device) = mini("mini/fast");
        recipe.frames = 30;
        assert!(matches!(Estimate::of(&folder, &recipe, &device, &Speeds::default()), Err(GenerateError::Size(_))));
    }
}
