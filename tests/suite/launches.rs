//! How many kernels a call of the transformer launches. A launch costs microseconds however little it does, so on a fast GPU the
//! time of a small network is the number of its launches.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use burn::cubecl::logging::{LaunchObservation, LaunchObserver};
use burn::tensor::{FloatDType, Tensor, TensorData};
use tilereel::gpu::device::{self, ComputeDevice, DeviceChoice, Precision};
use tilereel::gpu::kernels::reference::seeded;
use tilereel::mask::KeyFrames;
use tilereel::model::dit::{Probe, TextContext, Transformer, TransformerConfig};
use tilereel::model::weights::{Loader, WeightSource};

/// Layers of the network of the fixtures.
const LAYERS: usize = 3;
/// Of a layer where products are burn's, which launches the bias on its own: two norms, three sums with the residual stream, six
/// splits into heads and two merges, two attentions and a GELU are 16; then come the sum of the modulations, a cast of the
/// stream, and ten products with their biases. On matrices bias and GELU are part of the product.
const MOST_OF_A_LAYER: usize = 38;
/// Of patches, timestep, caption, key bias and the last layer.
const MOST_OUTSIDE_OF_LAYERS: usize = 45;

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

fn transformer(device: &ComputeDevice) -> Transformer {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/dit_tiny_a"));
    let config = std::fs::read(folder.join("config.json")).expect("a file");
    let config: TransformerConfig = serde_json::from_slice(&config).expect("a configuration");
    let source = WeightSource::open(&folder.join("diffusion_pytorch_model.safetensors")).expect("weights");
    Transformer::load(Loader::new(&source, device), &config).expect("a network")
}

#[test]
fn a_layer_takes_few_launches() {
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
        let output = transformer.forward(latents, &[500.0], &text, None, &key_frames, &mut Probe::default());
        drop(observation);
        let values: Vec<f32> = output.cast(FloatDType::F32).try_into_vec_as().expect("the device gives its values");
        assert!(values.iter().all(|value| value.is_finite()));
        let launches = count.launches.lock().expect("no panic before");
        let all: usize = launches.values().sum();
        for (kernel, count) in launches.iter() {
            println!("{precision}: {count:4} {kernel}");
        }
        println!("{precision}: {all} launches in all");
        assert!(all > 20 * LAYERS, "the observer was not told");
        let most = MOST_OUTSIDE_OF_LAYERS + LAYERS * MOST_OF_A_LAYER;
        assert!(all <= most, "{precision}: {all} launches are more than {most}");
    }
}
