//! A whole model at toy size on the disk: the networks of the fixtures, which have random weights, with mini's tokenizer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Tensor;
use half::f16;
use serde_json::json;
use tilereel::gpu::device::ComputeDevice;
use tilereel::mask::{LayerMask, MaskPlan};
use tilereel::model::dit::{Transformer, TransformerConfig};
use tilereel::model::folder::{ModelFolder, SearchPath};
use tilereel::model::text::Tokenizer;
use tilereel::model::weights::{Loader, WeightSource};
use tilereel::training::data::latents::{Latents, LatentsOf};
use tilereel::training::data::mix::Mix;
use tilereel::training::distill::data::{Clips, DistillData};
use tilereel::training::distill::masks::{Masks, key_frames};
use tilereel::training::distill::student::{self, Description};
use tilereel::training::distill::teacher::Teacher;
use tilereel::training::optimiser::OptimiserSettings;
use tilereel::training::random::{Random, Stream};
use tilereel::training::template::Template;
use tilereel::training::trainer::Trainer;

/// Of a latent: `[channels, frames, height, width]`.
pub const SHAPE: [usize; 4] = [4, 4, 4, 4];
pub const FRAMES: usize = SHAPE[1];
/// Of the fixture's transformer.
pub const LAYERS: usize = 3;
pub const TOKENS: usize = 16;

pub fn tokenizer() -> Tokenizer {
    let mini = ModelFolder::resolve("mini/base", &SearchPath::standard()).expect("mini");
    mini.tokenizer().expect("files").tokenizer().expect("a tokenizer")
}

/// Writes the model; gives the folder of its transformer.
pub fn model(root: &Path) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let parts = [
        ("dit_tiny_a", "base", "diffusion_pytorch_model.safetensors"),
        ("t5_tiny_a", "text_encoder", "model.safetensors"),
        ("vae_tiny_a", "vae", "diffusion_pytorch_model.safetensors"),
    ];
    for (fixture, part, weights) in parts {
        let place = root.join(part);
        std::fs::create_dir_all(&place).expect("a folder");
        for name in ["config.json", weights] {
            std::fs::copy(fixtures.join(fixture).join(name), place.join(name)).expect("a fixture");
        }
    }
    let mini = ModelFolder::resolve("mini/base", &SearchPath::standard()).expect("mini");
    for (name, bytes) in mini.tokenizer().expect("files").named() {
        std::fs::write(root.join("text_encoder").join(name), bytes).expect("written");
    }
    let facts = json!({
        "defaults": { "sampler": "ddim", "steps": 4, "guidance_scale": 2.0, "frames": 4 * FRAMES - 3, "width": 32, "height": 32,
            "prompt_template": "{}", "negative_prompt": "" },
        "trained": { "frames": [4 * FRAMES - 3], "sizes": [[32, 32]], "max_tokens": TOKENS, "steps": [] },
    });
    let place = root.join("base");
    std::fs::write(place.join("tilereel.json"), facts.to_string()).expect("written");
    place
}

pub fn template(transformer: &Path) -> Template {
    Template::open(&transformer.display().to_string()).expect("the toy model")
}

pub fn teacher(template: &Template, plan: &MaskPlan, device: &ComputeDevice) -> Teacher {
    let transformer = transformer(&template.transformer_weights().expect("weights"), &config(template), device);
    let encoder = template.text_encoder(device).expect("a text encoder");
    Teacher::new(transformer, encoder, masks_at_all_lengths(plan), &tokenizer(), TOKENS).expect("a teacher")
}

pub fn config(template: &Template) -> TransformerConfig {
    template.base_configs().expect("configurations").transformer
}

pub fn transformer(weights: &WeightSource, config: &TransformerConfig, device: &ComputeDevice) -> Transformer {
    Transformer::load(Loader::new(weights, device), config).expect("it fits")
}

pub fn trainer(
    template: &Template,
    kind: &'static str,
    settings: OptimiserSettings,
    device: &ComputeDevice,
) -> Trainer<Transformer> {
    let weights = template.transformer_weights().expect("weights");
    student::trainer(&weights, &config(template), kind, settings, 1, device).expect("a trainer")
}

pub fn description(template: &Template, name: &'static str, plan: Option<&MaskPlan>) -> Description {
    let facts = template.facts().clone();
    Description { name, config: template.transformer_json().clone(), facts, plan: plan.cloned() }
}

pub fn dense() -> MaskPlan {
    dense_of(FRAMES)
}

pub fn dense_of(frames: usize) -> MaskPlan {
    MaskPlan::dense(LAYERS, frames).expect("a plan")
}

pub fn sparse() -> MaskPlan {
    sparse_of(FRAMES)
}

/// One reference frame, two if there are so many, and all.
pub fn sparse_of(frames: usize) -> MaskPlan {
    let paper = |references: usize| format!("{references}:{}", frames - references);
    let layers = [paper(1), paper(2.min(frames)), "full".to_owned()];
    MaskPlan::of_layers(layers.map(|name| LayerMask::named(&name, frames).expect("a mask")).to_vec()).expect("a plan")
}

pub fn clips() -> Clips {
    clips_of(FRAMES)
}

pub fn clips_of(frames: usize) -> Clips {
    let [channels, _, height, width] = SHAPE;
    let of = LatentsOf { vae: "none".into(), source: "noise".into(), clips: 5, shape: [channels, frames, height, width] };
    let values = Random::new(3).normal(Stream::Order, 0, of.clips * of.values_a_clip());
    Clips::Encoded(Latents::new(of, values.into_iter().map(f16::from_f32).collect()))
}

/// Most steps of the usual length, some of the others.
pub fn mix() -> Mix<Clips> {
    let mut mix = Mix::of_one(FRAMES, clips());
    OTHER_FRAMES.iter().for_each(|&frames| mix.add(0.3, frames, clips_of(frames)));
    mix
}

/// Batches of four.
pub fn data(clips: Clips) -> DistillData {
    DistillData {
        mix: Mix::of_one(FRAMES, clips),
        tokenizer: tokenizer(),
        max_tokens: TOKENS,
        batch: 4,
        part: 4,
        random: Random::new(1),
        snap: None,
        dropped: 0.0,
        sentences: None,
        scenes: None,
    }
}

pub fn read<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.try_into_vec_as().expect("readable")
}

/// A long clip and a still beside the usual.
pub const OTHER_FRAMES: [usize; 2] = [3 * FRAMES, 1];

pub fn masks_at_all_lengths(plan: &MaskPlan) -> Masks {
    Masks::adapted(plan, &OTHER_FRAMES).expect("a plan of rules")
}

/// The masks as the network takes them.
pub fn masks(plan: &MaskPlan) -> Vec<Arc<tilereel::mask::KeyFrames>> {
    key_frames(plan)
}
