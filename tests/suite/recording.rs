//! Recorded attention against what it means: a softmax over all frames by brute force, from the queries and keys that the
//! network itself shows.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{FloatDType, Tensor, TensorData};
use tilereel::generate::attention_record::{AttentionRecord, Recording};
use tilereel::generate::observer::Observer;
use tilereel::generate::pipeline::{LoadedModel, RunOptions};
use tilereel::generate::recipe::Recipe;
use tilereel::generate::step_record::StepRecord;
use tilereel::gpu::device::{self, ComputeDevice, DeviceChoice, Precision};
use tilereel::gpu::kernels::reference::seeded;
use tilereel::mask::{FrameMask, MaskFamily, MaskPlan, Mode, Neighbours, Placement};
use tilereel::model::dit::{AttentionRecorder, Probe, Site, TextContext, Transformer, TransformerConfig};
use tilereel::model::folder::{ModelFolder, SearchPath};
use tilereel::model::weights::{Loader, WeightSource};

/// The CPU and the first adapter, both in f32.
fn devices() -> Vec<ComputeDevice> {
    let cpu = device::open(&DeviceChoice::Cpu, None).expect("the CPU is always there");
    let adapter = device::adapters().first().map(|adapter| DeviceChoice::Index(adapter.index));
    let adapter = adapter.map(|choice| device::open(&choice, Some(Precision::F32)).expect("the adapter opens"));
    [cpu].into_iter().chain(adapter).collect()
}

/// The small network of the fixtures: three layers of two heads.
fn transformer(device: &ComputeDevice) -> Transformer {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/dit_tiny_a"));
    let config: TransformerConfig =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).expect("a file")).expect("a configuration");
    let source = WeightSource::open(&folder.join("diffusion_pytorch_model.safetensors")).expect("weights");
    Transformer::load(Loader::new(&source, device), &config).expect("a network")
}

const FRAMES: usize = 5;
const LAYERS: usize = 3;
const HEADS: usize = 2;

/// One call of the network on two clips at once; a frame has `side` x `side` tokens.
struct Call<'a> {
    device: &'a ComputeDevice,
    transformer: &'a Transformer,
    side: usize,
    masks: Vec<FrameMask>,
}

/// What the network gave, its queries and keys (of each layer `[batch, heads * tokens, head]`), and the masses.
struct Seen {
    output: Vec<f32>,
    queries: Vec<Vec<f32>>,
    keys: Vec<Vec<f32>>,
    masses: Vec<Vec<f32>>,
}

impl Call<'_> {
    fn tokens(&self) -> usize {
        self.side * self.side
    }

    fn run(&self, recording: Option<Recording>) -> Seen {
        let shape = [2, 4, FRAMES, 2 * self.side, 2 * self.side];
        let tensor = |seed, shape: [usize; 5], scale: f32| {
            let values: Vec<f32> = seeded(seed, shape.iter().product()).into_iter().map(|value| value * scale).collect();
            Tensor::<5>::from_data(TensorData::new(values, shape), &self.device.device)
        };
        // Large latents, so that the softmax is far from even.
        let latents = tensor(1, shape, 4.0);
        let channels = 32;
        let embedding = tensor(2, [1, 1, 2, 7, channels], 1.0).reshape([2, 7, channels]);
        let text = TextContext { embedding, mask: vec![1.0; 14] };
        let key_frames: Vec<_> = self.masks.iter().map(|mask| Arc::new(mask.key_frames())).collect();
        let mut recorder = recording.map(|recording| AttentionRecorder::new(recording, LAYERS));
        let (mut queries, mut keys) = (Vec::new(), Vec::new());
        let mut watch = |site: Site, _: usize, values: Tensor<3>| {
            let values = || values.cast(FloatDType::F32).try_into_vec_as().expect("readable");
            match site {
                Site::RotatedQuery => queries.push(values()),
                Site::RotatedKey => keys.push(values()),
                _ => {}
            }
        };
        let mut probe = Probe::new(&mut watch).recording(recorder.as_mut());
        let output = self.transformer.forward(latents, &[500.0, 500.0], &text, None, &key_frames, &mut probe);
        let masses = recorder.map_or_else(Vec::new, AttentionRecorder::into_masses);
        let masses: Vec<f32> = masses.into_iter().flat_map(|mass| mass.try_into_vec_as::<f32>().expect("readable")).collect();
        let masses = masses.chunks(2 * HEADS * FRAMES * FRAMES).map(<[f32]>::to_vec).collect();
        Seen { output: output.try_into_vec_as().expect("readable"), queries, keys, masses }
    }

    /// The mass of every tile of a layer, `[heads, query frames, key frames]`, of the second clip.
    fn brute_force(&self, seen: &Seen, layer: usize) -> Vec<f64> {
        let all = FRAMES * self.tokens();
        let head_size = seen.queries[layer].len() / (2 * HEADS * all);
        let row = |values: &[f32], head: usize, index: usize| -> Vec<f64> {
            let first = ((HEADS + head) * all + index) * head_size;
            values[first..first + head_size].iter().map(|&value| f64::from(value)).collect()
        };
        let mut mass = vec![0.0; HEADS * FRAMES * FRAMES];
        for head in 0..HEADS {
            let keys: Vec<_> = (0..all).map(|key| row(&seen.keys[layer], head, key)).collect();
            for query in 0..all {
                let query_row = row(&seen.queries[layer], head, query);
                let score = |key: &Vec<f64>| query_row.iter().zip(key).map(|(q, k)| q * k).sum::<f64>();
                let weights: Vec<f64> = keys.iter().map(|key| (score(key) / (head_size as f64).sqrt()).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for (key, weight) in weights.iter().enumerate() {
                    let tile = (head * FRAMES + query / self.tokens()) * FRAMES + key / self.tokens();
                    mass[tile] += weight / sum / self.tokens() as f64;
                }
            }
        }
        mass
    }
}

/// Every family in both modes, dense, painted.
fn masks() -> Vec<(String, FrameMask)> {
    let placements = [
        Placement::StrideCeil(0),
        Placement::StrideCeil(2),
        Placement::SpacedFloor(2),
        Placement::First(1),
        Placement::Linspace(3),
        Placement::Listed(vec![1, 4]),
    ];
    let modes = [Mode::Symmetric, Mode::KvOnly];
    let families = placements.iter().flat_map(|placement| modes.map(|mode| MaskFamily { placement: placement.clone(), mode }));
    let mut masks: Vec<_> = families.map(|family| (format!("{family:?}"), family.frame_mask(FRAMES).expect("a mask"))).collect();
    masks.extend(Neighbours::MEASURED.map(|near| (near.name(), near.frame_mask(FRAMES).expect("a mask"))));
    masks.push(("full".into(), FrameMask::full(FRAMES).expect("a mask")));
    let painted = (0..FRAMES * FRAMES).map(|cell| cell % 3 == 0 || cell / FRAMES == 2).collect();
    masks.push(("painted".into(), FrameMask::new(FRAMES, painted).expect("a mask")));
    masks
}

/// Exact masses are those of brute force, whatever the plan skips; and recording changes no bit of what the network gives.
#[test]
fn exact_masses_are_those_of_brute_force() {
    for device in devices() {
        let transformer = transformer(&device);
        for (name, mask) in masks() {
            let full = FrameMask::full(FRAMES).expect("a mask");
            let call = Call { device: &device, transformer: &transformer, side: 5, masks: vec![mask.clone(), full, mask] };
            let without = call.run(None);
            let exact = call.run(Some(Recording::Exact));
            assert!(exact.output == without.output, "{}, {name}: exact recording changes the output", device.name);
            let sampled = call.run(Some(Recording::Sampled));
            assert!(sampled.output == without.output, "{}, {name}: sampled recording changes the output", device.name);
            assert_eq!([exact.masses.len(), sampled.masses.len(), without.masses.len()], [LAYERS, LAYERS, 0]);
            for layer in 0..LAYERS {
                let want = call.brute_force(&exact, layer);
                let got = &exact.masses[layer];
                assert_eq!(got.len(), 2 * want.len());
                let worst = got.iter().step_by(2).zip(&want).map(|(&got, want)| (f64::from(got) - want).abs());
                let worst = worst.fold(0.0, f64::max);
                assert!(worst < 2e-5, "{}, {name}, layer {layer}: a mass is off by {worst:.1e}", device.name);
                assert!(got.iter().skip(1).step_by(2).all(|&error| error == 0.0), "exact masses have no error");
                // A dense layer needs no sample.
                if layer == 1 {
                    assert!(sampled.masses[layer] == *got, "{}, {name}: a dense layer is not exact", device.name);
                }
            }
        }
    }
}

/// Estimates lie around the exact masses as far as their standard errors say, and not much nearer.
#[test]
fn sampled_masses_are_as_good_as_they_say() {
    for device in devices() {
        let transformer = transformer(&device);
        for (name, references) in [("0:5", 0), ("1:4", 1), ("2:3", 2)] {
            let mask = MaskFamily::paper(references).frame_mask(FRAMES).expect("a mask");
            let call = Call { device: &device, transformer: &transformer, side: 14, masks: vec![mask.clone(); LAYERS] };
            let [exact, sampled] = [Recording::Exact, Recording::Sampled].map(|recording| call.run(Some(recording)).masses);
            let (mut squares, mut count, mut worst): (f64, f64, f64) = (0.0, 0.0, 0.0);
            for (exact, sampled) in exact.concat().chunks_exact(2 * FRAMES).zip(sampled.concat().chunks_exact(2 * FRAMES)) {
                let sum: f32 = sampled.iter().step_by(2).sum();
                assert!((sum - 1.0).abs() < 1e-4, "{name}: a row sums to {sum}");
                for (exact, sampled) in exact.chunks_exact(2).zip(sampled.chunks_exact(2)) {
                    let difference = f64::from(sampled[0]) - f64::from(exact[0]);
                    if sampled[1] < 1e-6 {
                        assert!(difference.abs() < 1e-4, "{name}: without an error it is off by {difference:.1e}");
                        continue;
                    }
                    let deviation = difference / f64::from(sampled[1]);
                    squares += deviation * deviation;
                    count += 1.0;
                    worst = worst.max(deviation.abs());
                }
            }
            let typical = (squares / count).sqrt();
            println!("{}, {name}: {count} estimates, {typical:.2} standard errors off, at most {worst:.1}", device.name);
            assert!(count > 30.0, "{name}: only {count} masses were estimated");
            assert!((0.4..1.6).contains(&typical) && worst < 6.0, "{}, {name}: {typical:.2}, {worst:.1}", device.name);
        }
    }
}

/// Follows a run, recording as it is told.
#[derive(Default)]
struct Recorded {
    wish: Option<Recording>,
    records: Vec<Arc<AttentionRecord>>,
}

impl Observer for Recorded {
    fn wants_attention(&self) -> Option<Recording> {
        self.wish
    }

    fn attention(&mut self, record: &Arc<AttentionRecord>) {
        self.records.push(record.clone());
    }
}

fn mini() -> ModelFolder {
    let search = SearchPath { folders: vec![concat!(env!("CARGO_MANIFEST_DIR"), "/assets/models").into()], built_in: false };
    ModelFolder::resolve("fast", &search).expect("mini")
}

/// The same clip with and without recording, guided or not; and what lies beside the step records.
#[test]
fn runs_are_the_same_and_leave_their_records() {
    let cpu = device::open(&DeviceChoice::Cpu, None).expect("the CPU is always there");
    let mut model = LoadedModel::load(mini(), &cpu).expect("mini");
    let layers = model.networks().transformer.layers();
    for guidance_scale in [1.0, 3.0] {
        let mut recipe = Recipe::of_model(&mini(), "a red ball", Precision::F32).expect("a recipe");
        (recipe.frames, recipe.width, recipe.height, recipe.steps) = (9, 96, 64, 2);
        recipe.guidance_scale = guidance_scale;
        recipe.mask_plan =
            serde_json::from_str(&MaskPlan::uniform(layers, 3, "1:2").expect("a plan").to_json().expect("text")).expect("JSON");
        let folder = tempfile::tempdir().expect("a folder");
        let options = RunOptions { records: Some(folder.path().to_owned()), ..RunOptions::default() };
        let mut run = |wish| {
            let mut observer = Recorded { wish, ..Recorded::default() };
            let outcome = model.run(&recipe, &options, &mut observer).expect("a clip");
            (outcome.latent, observer.records)
        };
        let (without, none) = run(None);
        assert!(none.is_empty() && !AttentionRecord::path_in(folder.path(), 1).exists());
        for recording in [Recording::Sampled, Recording::Exact] {
            let (latent, records) = run(Some(recording));
            assert!(latent == without, "guidance {guidance_scale}: {recording:?} recording changes the clip");
            assert_eq!(records.len(), 2);
            for (call, record) in records.iter().enumerate() {
                let kept = AttentionRecord::read(&AttentionRecord::path_in(folder.path(), call + 1)).expect("a record");
                assert_eq!(kept, **record);
                assert_eq!((kept.call, kept.recording, kept.layers(), kept.frames()), (call, recording, layers, 3));
                for layer in 0..layers {
                    for head in [None, Some(0), Some(kept.heads() - 1)] {
                        let mass = kept.mass(layer, head);
                        assert!(mass.rows().all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 2e-3), "layer {layer}");
                        let share = kept.kept_share(layer, head);
                        assert!(share > 0.0 && share <= 1.0, "layer {layer}: {share}");
                        assert!(kept.standard_error(layer, head).values().iter().all(|error| *error >= 0.0));
                    }
                }
            }
        }
        // The step's own records are what they were, and a run without recording takes the others away.
        assert_eq!(StepRecord::last_of(folder.path()).expect("a record").next_call, 2);
        run(None);
        assert!(!AttentionRecord::path_in(folder.path(), 1).exists());
    }
}
