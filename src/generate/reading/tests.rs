//! Readings against a brute force in f64 over the queries and keys of the whole call, as the run made it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{FloatDType, Tensor};

use super::*;
use crate::generate::observer::{Observer, Unobserved};
use crate::generate::pipeline::{LoadedModel, RunOptions};
use crate::generate::recipe::{MaskChoice, Recipe};
use crate::generate::step_record::StepRecord;
use crate::gpu::device::{self, DeviceChoice, Precision};
use crate::mask::{FrameMask, LayerMask, MaskPlan};
use crate::model::dit::{Probe, Site};
use crate::model::folder::{ModelFolder, SearchPath};
use crate::model::latent::{Latent, TokenPlace};
use crate::model::noise::fill_normal;
use crate::model::sampler::{Sampler, guidance};
use crate::model::text::prompt_text;

const FRAMES: usize = 3;
const LAYERS: usize = 12;

fn folder() -> ModelFolder {
    let search = SearchPath { folders: vec![concat!(env!("CARGO_MANIFEST_DIR"), "/assets/models").into()], built_in: false };
    ModelFolder::resolve("fast", &search).unwrap()
}

fn model() -> LoadedModel {
    LoadedModel::load(folder(), &device::open(&DeviceChoice::Cpu, Some(Precision::F32)).unwrap()).unwrap()
}

/// 3 latent frames of 3 x 4 tokens.
fn recipe(prompt: &str) -> Recipe {
    let mut recipe = Recipe::of_model(&folder(), prompt, Precision::F32).unwrap();
    (recipe.frames, recipe.width, recipe.height, recipe.steps, recipe.seed) = (9, 64, 48, 4, 5);
    recipe.set_mask(&folder(), &MaskChoice::Plan).unwrap();
    recipe
}

/// A layer of every kind: dense, one and two reference frames, painted.
fn mixed_plan() -> serde_json::Value {
    let painted = FrameMask::new(FRAMES, [1, 0, 1, 0, 1, 0, 1, 1, 0].map(|kept| kept == 1).to_vec()).unwrap();
    let kinds = ["full", "1:2", "2:1"].map(|name| LayerMask::named(name, FRAMES).unwrap());
    let kinds: Vec<LayerMask> = kinds.into_iter().chain([LayerMask::painted(painted)]).collect();
    let layers = (0..LAYERS).map(|layer| kinds[layer % kinds.len()].clone()).collect();
    serde_json::from_str(&MaskPlan::of_layers(layers).unwrap().to_json().unwrap()).unwrap()
}

fn records(folder: &Path, step: usize) -> (StepRecord, Option<StepRecord>) {
    let read = |step: usize| StepRecord::read(&StepRecord::path_in(folder, step)).unwrap();
    (read(step), (step > 1).then(|| read(step - 1)))
}

fn run(model: &mut LoadedModel, recipe: &Recipe, folder: &Path, branch: Option<StepRecord>) {
    let options = RunOptions { records: Some(folder.to_owned()), branch, ..RunOptions::default() };
    model.run(recipe, &options, &mut Unobserved).unwrap();
}

/// What the probe saw of the prompt's row, by site and layer: values, and channels of a head.
type Values = HashMap<(Site, usize), (Vec<f32>, usize)>;

/// The whole call, guided as in the run; checks that it leads to the latent of the record behind it, bit by bit.
fn whole_call(model: &mut LoadedModel, latent: &Latent, history: Vec<Vec<f32>>, after: &StepRecord) -> Values {
    let recipe = &after.recipe;
    let call = after.next_call - 1;
    let mut sampler = Sampler::new(recipe.sampler, recipe.steps).unwrap();
    sampler.restore(call, history).unwrap();
    let text = model.encode_prompts(recipe).unwrap();
    let plan = recipe.plan(LAYERS).unwrap();
    let key_frames: Vec<_> = plan.layers().iter().map(|layer| Arc::new(layer.mask().key_frames())).collect();
    let rows = if recipe.guidance_scale > 1.0 { 2 } else { 1 };
    let mut values = Values::new();
    let mut watch = |site: Site, layer: usize, seen: Tensor<3>| {
        if matches!(site, Site::RotatedQuery | Site::RotatedKey | Site::CrossQuery | Site::CrossKey) {
            let head = seen.dims()[2];
            let row = seen.narrow(0, rows - 1, 1).cast(FloatDType::F32);
            values.insert((site, layer), (row.try_into_vec_as().unwrap(), head));
        }
    };
    let input = Latent { shape: latent.shape, values: sampler.scale_model_input(call, &latent.values) };
    let networks = model.networks();
    let output = networks.transformer.forward(
        input.to_tensor(rows, &networks.device.device),
        &vec![sampler.timestep(call); rows],
        &text,
        None,
        &key_frames,
        &mut Probe::new(&mut watch),
    );
    let output: Vec<f32> = output.try_into_vec_as().unwrap();
    let epsilon = match output.split_at(output.len() / rows) {
        (only, []) => only.to_vec(),
        (unconditional, conditional) => guidance::combine(unconditional, conditional, recipe.guidance_scale as f32),
    };
    let step = sampler.step(call, &epsilon, &latent.values, &mut |noise| fill_normal(recipe.seed, call as u64 + 1, noise));
    assert_eq!(step.x, after.latent.values, "the repeated call is not that of the run");
    values
}

/// The latent before the first step.
fn start_noise(recipe: &Recipe) -> Latent {
    let shape = recipe.size().latent_shape(4);
    let mut values = vec![0.0; shape.iter().product()];
    fill_normal(recipe.seed, 0, &mut values);
    let sigma = Sampler::new(recipe.sampler, recipe.steps).unwrap().init_noise_sigma();
    values.iter_mut().for_each(|value| *value *= sigma);
    Latent { shape, values }
}

/// `softmax(q k^T / sqrt(head))` of one row in f64, over the keys that `sees` names.
fn softmax_row(query: &[f32], keys: &[f32], head: usize, sees: impl Fn(usize) -> bool) -> Vec<f64> {
    let dot = |key: &[f32]| query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
    let exponentials: Vec<f64> = keys
        .chunks(head)
        .enumerate()
        .map(|(key, values)| if sees(key) { (dot(values) / (head as f64).sqrt()).exp() } else { 0.0 })
        .collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|value| value / sum).collect()
}

fn assert_close(got: &[f32], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let error = got.iter().zip(want).map(|(got, want)| (f64::from(*got) - want).abs()).fold(0.0, f64::max);
    let largest = want.iter().copied().fold(0.0, f64::max);
    assert!(error < 2e-5 * largest, "{what}: off by {error:.2e} of {largest:.2e}");
}

fn check_point(model: &mut LoadedModel, call: &PastCall, values: &Values, layer: usize, place: TokenPlace) {
    let recipe = call.recipe();
    let grid = recipe.size().token_grid();
    let [frames, height, width] = grid;
    let (tokens, frame_tokens) = (frames * height * width, height * width);
    let reads = point_reads(model, call, layer, place, &mut Unobserved).unwrap();
    let ((query, head), (key, _)) = (&values[&(Site::RotatedQuery, layer)], &values[&(Site::RotatedKey, layer)]);
    let token = (place.frame * height + place.y) * width + place.x;
    let plan = recipe.plan(LAYERS).unwrap();
    let mask = plan.layers()[layer].mask();
    assert_eq!(reads.kept, (0..frames).map(|frame| mask.keeps(place.frame, frame)).collect::<Vec<_>>());
    assert_eq!((reads.grid, reads.mask.as_str()), (grid, plan.layers()[layer].name().as_str()));
    for seen in [Seen::Plan, Seen::AllFrames] {
        let mut mean = vec![0.0; tokens];
        for of_head in 0..reads.heads {
            let row = &query[(of_head * tokens + token) * head..][..*head];
            let keys = &key[of_head * tokens * head..(of_head + 1) * tokens * head];
            let sees = |key: usize| seen == Seen::AllFrames || mask.keeps(place.frame, key / frame_tokens);
            let want = softmax_row(row, keys, *head, sees);
            mean.iter_mut().zip(&want).for_each(|(mean, want)| *mean += want / reads.heads as f64);
            assert_close(&reads.weights(Some(of_head), seen), &want, &format!("layer {layer}, head {of_head}, {seen:?}"));
        }
        let weights = reads.weights(None, seen);
        assert_close(&weights, &mean, &format!("layer {layer}, mean, {seen:?}"));
        let sums = reads.frame_sums(&weights);
        for (frame, sum) in sums.iter().enumerate() {
            let want: f64 = mean[frame * frame_tokens..(frame + 1) * frame_tokens].iter().sum();
            assert!((sum - want).abs() < 1e-6, "frame {frame} of layer {layer}");
            assert!(seen == Seen::AllFrames || reads.kept[frame] || *sum == 0.0);
        }
    }
}

fn check_words(model: &mut LoadedModel, call: &PastCall, values: &Values, layer: Option<usize>) -> WordMaps {
    let recipe = call.recipe();
    let tokens: usize = recipe.size().token_grid().iter().product();
    let maps = word_maps(model, call, layer, &mut Unobserved).unwrap();
    let cleaned = prompt_text(&recipe.prompt, &recipe.prompt_template, recipe.clean_caption);
    let text_tokens = model.tokenizer().encode_unpadded(&cleaned).unwrap().len().min(recipe.max_tokens);
    // The direct average over heads and layers, of every token of the text.
    let layers: Vec<usize> = layer.map_or((0..LAYERS).collect(), |layer| vec![layer]);
    let mut mean = vec![vec![0.0; text_tokens]; tokens];
    for layer in &layers {
        let ((query, head), (key, _)) = (&values[&(Site::CrossQuery, *layer)], &values[&(Site::CrossKey, *layer)]);
        let heads = query.len() / head / tokens;
        for of_head in 0..heads {
            let keys = &key[of_head * recipe.max_tokens * head..][..text_tokens * head];
            for (token, mean) in mean.iter_mut().enumerate() {
                let row = softmax_row(&query[(of_head * tokens + token) * head..][..*head], keys, *head, |_| true);
                mean.iter_mut().zip(row).for_each(|(mean, share)| *mean += share / (heads * layers.len()) as f64);
            }
        }
    }
    let mut rest = vec![1.0; tokens];
    for (index, word) in maps.words.iter().enumerate() {
        let want: Vec<f64> = mean.iter().map(|shares| word.tokens.iter().map(|&token| shares[token]).sum()).collect();
        rest.iter_mut().zip(&want).for_each(|(rest, share)| *rest -= share);
        if word.fate == Fate::Read {
            assert_close(maps.map(index), &want, &format!("{} in {layer:?}", word.text));
        } else {
            assert!(word.tokens.is_empty() && maps.map(index).iter().all(|&share| share == 0.0), "{}", word.text);
        }
    }
    assert_close(maps.rest(), &rest, "the rest");
    maps
}

const PLACES: [TokenPlace; 3] =
    [TokenPlace { frame: 0, y: 0, x: 0 }, TokenPlace { frame: 1, y: 2, x: 1 }, TokenPlace { frame: 2, y: 1, x: 3 }];

#[test]
fn readings_are_those_of_the_run_under_every_mask() {
    let (mut model, folder) = (model(), tempfile::tempdir().unwrap());
    let mut recipe = recipe("a shiny red ball bounces on the snow");
    recipe.mask_plan = mixed_plan();
    run(&mut model, &recipe, folder.path(), None);
    for step in [1, 3] {
        let (after, before) = records(folder.path(), step);
        let latent = before.as_ref().map_or_else(|| start_noise(&recipe), |record| record.latent.clone());
        let history = before.as_ref().map_or_else(Vec::new, |record| record.history.clone());
        let values = whole_call(&mut model, &latent, history, &after);
        let call = PastCall::of_records(&after, before);
        for (layer, place) in (0..4).flat_map(|layer| PLACES.map(|place| (layer, place))).chain([(11, PLACES[1])]) {
            check_point(&mut model, &call, &values, layer, place);
        }
        for layer in [Some(0), Some(7), None] {
            check_words(&mut model, &call, &values, layer);
        }
        // Without records, the calls before are made again.
        let unaided = PastCall::of_run(after.recipe.clone(), step - 1);
        check_point(&mut model, &unaided, &values, 1, PLACES[2]);
    }
}

#[test]
fn under_guidance_the_prompts_row_is_read() {
    let (mut model, folder) = (model(), tempfile::tempdir().unwrap());
    let mut recipe = recipe("a matte blue cube spins at night");
    (recipe.guidance_scale, recipe.negative_prompt) = (3.0, "blurry and dark and noisy".into());
    // One with a history, and fractions of timesteps.
    recipe.sampler = "pndm".parse().unwrap();
    run(&mut model, &recipe, folder.path(), None);
    for step in [1, 2, 6] {
        let (after, before) = records(folder.path(), step);
        let latent = before.as_ref().map_or_else(|| start_noise(&recipe), |record| record.latent.clone());
        let history = before.as_ref().map_or_else(Vec::new, |record| record.history.clone());
        let values = whole_call(&mut model, &latent, history, &after);
        let call = PastCall::of_records(&after, before);
        check_point(&mut model, &call, &values, 5, PLACES[1]);
        check_words(&mut model, &call, &values, None);
    }
}

#[test]
fn a_branch_is_read_with_what_it_had_at_each_step() {
    let (mut model, folder) = (model(), tempfile::tempdir().unwrap());
    let original = recipe("a shiny red ball bounces");
    run(&mut model, &original, folder.path(), None);
    let (left, _) = records(folder.path(), 2);
    let mut branch = recipe("a green cone at night");
    branch.seed = 9;
    branch.branch_from(original, 2);
    run(&mut model, &branch, folder.path(), Some(left.clone()));

    for step in [2, 3, 4] {
        let (after, before) = records(folder.path(), step);
        let before = before.unwrap();
        let mut latent = before.latent.clone();
        if step == 3 {
            // Its first step: another seed begins with other noise.
            let mut noise = vec![0.0; latent.values.len()];
            fill_normal(9, 0, &mut noise);
            let sampler = Sampler::new(branch.sampler, branch.steps).unwrap();
            latent.values = sampler.renoise(2, &left.denoised.values, &noise).unwrap();
        }
        let values = whole_call(&mut model, &latent, before.history.clone(), &after);
        let call = PastCall::of_records(&after, Some(before));
        check_point(&mut model, &call, &values, 3, PLACES[2]);
        let maps = check_words(&mut model, &call, &values, Some(2));
        assert_eq!(maps.words[1].text, if step == 2 { "shiny" } else { "green" });
        let unaided = PastCall::of_run(after.recipe.clone(), step - 1);
        check_point(&mut model, &unaided, &values, 3, PLACES[0]);
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let (mut model, folder) = (model(), tempfile::tempdir().unwrap());
    let recipe = recipe("a red ball");
    run(&mut model, &recipe, folder.path(), None);
    let (after, before) = records(folder.path(), 3);
    let call = PastCall::of_records(&after, before);
    let mut point = |call: &PastCall, layer, place| point_reads(&mut model, call, layer, place, &mut Unobserved);
    let message = |result: Result<PointReads, crate::generate::GenerateError>| result.unwrap_err().to_string();
    assert!(message(point(&call, 12, PLACES[0])).contains("there is no layer 13, this model has 12"));
    assert!(message(point(&call, 0, TokenPlace { frame: 3, y: 0, x: 0 })).contains("outside of the clip"));
    // A record of another step before it.
    let wrong = PastCall::of_records(&after, None);
    assert!(point(&wrong, 0, PLACES[0]).is_ok(), "without a record the calls are made again");
    let (first, _) = records(folder.path(), 1);
    let wrong = PastCall::of_records(&after, Some(first));
    assert!(message(point(&wrong, 0, PLACES[0])).contains("step 3 does not follow"));
    let mut other = recipe.clone();
    other.model.sha256 = "0".repeat(64);
    assert!(message(point(&PastCall::of_run(other, 0), 0, PLACES[0])).contains("wants the model"));
    struct Stop;
    impl Observer for Stop {
        fn stop(&self) -> bool {
            true
        }
    }
    let stopped = word_maps(&mut model, &call, None, &mut Stop);
    assert!(matches!(stopped, Err(crate::generate::GenerateError::Stopped)));
}
