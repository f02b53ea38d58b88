//! How many kernels a call of the transformer launches. A launch costs microseconds however little it does, so on a fast GPU the
//! time of a small network is the number of its launches.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use burn::cubecl::logging::{LaunchObservation, LaunchObserver};
use burn::tensor::{FloatDType, Tensor, TensorData};
use tilereel::gpu::device::{self, ComputeDevice, DeviceChoice, Precision};
use tilereel::gpu::kernels::reference::seeded;
use tilereel::mask::KeyFrames;
use tilereel::model::dit::{Probe, TextContext, Transformer, TransformerConfig};
use tilereel::model::weights::{Loader, WeightSource};
use tilereel::training::data::captions::Captions;
use tilereel::training::pretrain::base;
use tilereel::training::run::Task;
use tilereel::training::trainer::{Alone, Share};

/// Layers of the network of the fixtures.
const LAYERS: usize = 3;
/// Of a layer where products are burn's, which launches the bias on its own: two norms, three sums with the residual stream, six
/// splits into heads and two merges, two attentions and a GELU are 16; then come the sum of the modulations, a cast of the
/// stream, and ten products with their biases. On matrices bias and GELU are part of the product.
const MOST_OF_A_LAYER: usize = 38;
/// Of patches, timestep, caption, key bias and the last layer.
const MOST_OUTSIDE_OF_LAYERS: usize = 45;

/// There is one observer at a time.
static OBSERVING: Mutex<()> = Mutex::new(());

/// Counts the launches of one thread: other tests run at the same time.
struct Count {
    thread: ThreadId,
    launches: Mutex<BTreeMap<&'static str, usize>>,
}

impl LaunchObserver for Count {
    fn launched(&self, kernel: &'static str) {
        if thread::current().id() == self.thread {
            *self.launches.lock().expect("no panic before").entry(kernel).or_default() += 1;
        }
    }
}

/// Counts of kernels by name, the most frequent first.
fn counted(precision: Precision, launches: &BTreeMap<&'static str, usize>) -> usize {
    let mut sorted: Vec<_> = launches.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (kernel, count) in sorted {
        println!("{precision}: {count:4} {kernel}");
    }
    let all = launches.values().sum();
    println!("{precision}: {all} launches in all");
    all
}

fn transformer(device: &ComputeDevice) -> Transformer {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/dit_tiny_a"));
    let config = std::fs::read(folder.join("config.json")).expect("a file");
    let config: TransformerConfig = serde_json::from_slice(&config).expect("a configuration");
    let source = WeightSource::open(&folder.join("diffusion_pytorch_model.safetensors")).expect("weights");
    Transformer::load(Loader::new(&source, device), &config).expect("a network")
}

#[test]
fn a_layer_takes_few_launches() {
    let _alone = OBSERVING.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(adapter) = device::adapters().into_iter().next() else { return };
    for precision in [Precision::F32, Precision::F16] {
        if precision == Precision::F16 && !adapter.half_floats {
            continue;
        }
        let device = device::open(&DeviceChoice::Index(adapter.index), Some(precision)).expect("the adapter opens");
        let transformer = transformer(&device);
        assert_eq!(transformer.layers(), LAYERS);
        let tensor =
            |shape: [usize; 3]| Tensor::<3>::from_data(TensorData::new(seeded(1, shape.iter().product()), shape), &device.device);
        let latents = tensor([4, 3, 8 * 8]).reshape([1, 4, 3, 8, 8]);
        let text = TextContext { embedding: tensor([1, 7, 32]), mask: vec![1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0] };
        let dense = Arc::new(KeyFrames::dense(3));
        let key_frames = vec![dense; LAYERS];
        let count = Arc::new(Count { thread: thread::current().id(), launches: Mutex::default() });
        let observation = LaunchObservation::new(count.clone());
        let caption = transformer.caption(&text);
        let call = || transformer.forward_to(latents.clone(), &[500.0], &caption, None, &key_frames, &mut Probe::default());
        let output = call();
        drop(observation);
        let later = Arc::new(Count { thread: thread::current().id(), launches: Mutex::default() });
        let observation = LaunchObservation::new(later.clone());
        let again = call();
        drop(observation);
        let [values, again]: [Vec<f32>; 2] =
            [output, again].map(|output| output.cast(FloatDType::F32).try_into_vec_as().expect("the device gives its values"));
        assert_eq!(values, again, "what is kept of a text changes nothing");
        assert!(values.iter().all(|value| value.is_finite()));
        let launches = count.launches.lock().expect("no panic before");
        let all = counted(precision, &launches);
        assert!(all > 20 * LAYERS, "the observer was not told");
        let most = MOST_OUTSIDE_OF_LAYERS + LAYERS * MOST_OF_A_LAYER;
        assert!(all <= most, "{precision}: {all} launches are more than {most}");
        // Of each layer two products, their biases where those are launches, and two splits into heads.
        let later = counted(precision, &later.launches.lock().expect("no panic before"));
        assert!(later + 4 * LAYERS <= all, "{precision}: {later} launches of a later call are nearly the {all} of the first");
    }
}

/// Of the two networks of the fixtures and the optimiser, off the matrix tier. A third of them are Muon's products.
const MOST_OF_A_TRAINING_STEP: usize = 1350;

/// A training step of the transformer and the text encoder.
#[test]
fn a_training_step_takes_few_launches() {
    let _alone = OBSERVING.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(adapter) = device::adapters().into_iter().next() else { return };
    for precision in [Precision::F32, Precision::F16] {
        if precision == Precision::F16 && !adapter.half_floats {
            continue;
        }
        let device = device::open(&DeviceChoice::Index(adapter.index), Some(precision)).expect("the adapter opens");
        let configs = configs_of_training();
        let shape = [2, configs.transformer.in_channels, 2, 4, 4];
        let (texts, tokens) = (shape[0], 12);
        let ids = (0..texts * tokens).map(|place| (place * 7 % configs.text_encoder.vocab_size) as u32).collect();
        let batch = base::BaseBatch {
            latents: seeded(2, shape.iter().product()),
            noise: seeded(3, shape.iter().product()),
            shape,
            times: vec![100, 700],
            captions: Captions { ids, mask: vec![1.0; texts * tokens], sentences: texts },
        };
        let mut trainer = base::trainer(&configs, &base::Start::default(), base::OPTIMISER, 1, &device).expect("a trainer");
        let task = base::BaseTask::new(configs, texts, &device);
        let count = Arc::new(Count { thread: thread::current().id(), launches: Mutex::default() });
        let observation = LaunchObservation::new(count.clone());
        let numbers =
            trainer.step(Share::whole(vec![batch]), 1.0, |network, batch| task.loss(network, batch), &Alone).expect("a step");
        drop(observation);
        let numbers: Vec<f32> = numbers.try_into_vec_as().expect("the device gives its values");
        assert!(numbers.iter().all(|value| value.is_finite()));
        let launches = count.launches.lock().expect("no panic before");
        let all = counted(precision, &launches);
        assert!(all <= MOST_OF_A_TRAINING_STEP, "{precision}: {all} launches are more than {MOST_OF_A_TRAINING_STEP}");
    }
}

/// Of networks that fit each other, from the fixtures.
fn configs_of_training() -> base::BaseConfigs {
    let config = |name: &str| -> serde_json::Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join("config.json");
        serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("a configuration")
    };
    let (mut transformer_json, text_encoder_json) = (config("dit_tiny_a"), config("t5_tiny_a"));
    transformer_json["caption_channels"] = text_encoder_json["d_model"].clone();
    base::BaseConfigs {
        transformer: serde_json::from_value(transformer_json.clone()).expect("a configuration"),
        text_encoder: serde_json::from_value(text_encoder_json.clone()).expect("a configuration"),
        transformer_json,
        text_encoder_json,
    }
}
