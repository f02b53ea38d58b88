//! Networks whose layers pass through the device one after the other give the same bits as those that stay there, and work that
//! is cut for a slow device the same values.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use tilereel::gpu::device::{self, ComputeDevice, DeviceChoice, Precision};
use tilereel::gpu::kernels::reference::{relative_l2, seeded};
use tilereel::gpu::pace::{self, Pace, Work};
use tilereel::mask::KeyFrames;
use tilereel::model::dit::{Probe, TextContext, Transformer, TransformerConfig};
use tilereel::model::text::encoder::{TextEncoder, TextEncoderConfig};
use tilereel::model::weights::{Loader, WeightError, WeightSource};

/// The CPU, and the first adapter in both precisions.
fn devices() -> Vec<ComputeDevice> {
    let cpu = device::open(&DeviceChoice::Cpu, None).expect("the CPU is always there");
    let adapters = device::adapters();
    let adapter = adapters.first().map(|adapter| {
        let precisions = [Some(Precision::F32), adapter.half_floats.then_some(Precision::F16)];
        let choice = DeviceChoice::Index(adapter.index);
        precisions.into_iter().flatten().map(move |precision| device::open(&choice, Some(precision)).expect("the adapter opens"))
    });
    [cpu].into_iter().chain(adapter.into_iter().flatten()).collect()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

fn config<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(fixture(name).join("config.json")).expect("a file")).expect("a configuration")
}

fn source(path: &Path) -> Arc<WeightSource> {
    Arc::new(WeightSource::open(path).expect("weights"))
}

fn noise(transformer: &Transformer, config: &TransformerConfig, device: &ComputeDevice, stop: &dyn Fn() -> bool) -> Vec<f32> {
    let shape = [2, config.in_channels, 3, 6, 4];
    let latents = Tensor::<5>::from_data(TensorData::new(seeded(1, shape.iter().product()), shape), &device.device);
    let embedding = TensorData::new(seeded(2, 2 * 7 * config.caption_channels), [2, 7, config.caption_channels]);
    let text = TextContext { embedding: Tensor::from_data(embedding, &device.device), mask: vec![1.0; 14] };
    let dense = Arc::new(KeyFrames::dense(3));
    let key_frames = vec![dense; transformer.layers()];
    let output = transformer.forward(latents, &[10.0, 900.0], &text, None, &key_frames, &mut Probe::stopping(stop));
    output.try_into_vec_as().expect("readable")
}

#[test]
fn a_streamed_transformer_gives_the_same_bits() {
    // One is stored in f32, the other in bf16.
    for name in ["dit_tiny_a", "dit_tiny_c"] {
        let config: TransformerConfig = config(name);
        let source = source(&fixture(name).join("diffusion_pytorch_model.safetensors"));
        for device in devices() {
            let resident = Transformer::load(Loader::new(&source, &device), &config).expect("a network");
            let streamed = Transformer::load_streamed(&source, &device, &config).expect("a network");
            assert!(streamed.is_streamed() && !resident.is_streamed());
            assert_eq!(streamed.layers(), resident.layers());
            let want = noise(&resident, &config, &device, &|| false);
            assert!(want.iter().all(|value| value.is_finite()) && want.iter().any(|value| *value != 0.0));
            for call in 0..2 {
                assert_eq!(noise(&streamed, &config, &device, &|| false), want, "call {call} of {name} on {}", device.name);
            }
            // Stopped before the first block: nothing hangs, and the next call is whole.
            noise(&streamed, &config, &device, &|| true);
            assert_eq!(noise(&streamed, &config, &device, &|| false), want, "{name} on {} after a stop", device.name);
        }
    }
}

#[test]
fn a_streamed_text_encoder_gives_the_same_bits() {
    let config: TextEncoderConfig = config("t5_tiny_a");
    let source = source(&fixture("t5_tiny_a").join("model.safetensors"));
    let ids: Vec<u32> = (0..18).map(|place| (place * 37 + 5) % config.vocab_size as u32).collect();
    let mask: Vec<f32> = (0..18).map(|place| if place % 9 < 6 { 1.0 } else { 0.0 }).collect();
    for device in devices() {
        let resident = TextEncoder::load(Loader::new(&source, &device), &config).expect("a network");
        let streamed = TextEncoder::load_streamed(&source, &device, &config).expect("a network");
        assert!(streamed.is_streamed() && streamed.parameters() < resident.parameters() / 10);
        // One text after the other, as the streamed one does.
        let one = |text: usize| -> Vec<f32> {
            let places = 9 * text..9 * (text + 1);
            let output = resident.forward(&ids[places.clone()], &mask[places], 1, &mut |_, _| {});
            output.try_into_vec_as().expect("readable")
        };
        let want = [one(0), one(1)].concat();
        let mut seen = 0;
        let got: Vec<f32> = streamed.forward(&ids, &mask, 2, &mut |_, _| seen += 1).try_into_vec_as().expect("readable");
        assert_eq!(seen, config.num_layers);
        assert_eq!(got, want, "on {}", device.name);
    }
}

/// Every product and attention is cut: heads, query frames, rows of layers.
#[test]
fn work_that_is_cut_gives_the_same_values() {
    let config: TransformerConfig = config("dit_tiny_a");
    let source = source(&fixture("dit_tiny_a").join("diffusion_pytorch_model.safetensors"));
    for device in devices() {
        let transformer = Transformer::load(Loader::new(&source, &device), &config).expect("a network");
        let whole = noise(&transformer, &config, &device, &|| false);
        for flops_per_second in [1e5, 2e6] {
            pace::set(&device.device, Some(Pace { linear: flops_per_second, attention: flops_per_second }));
            assert!(pace::parts(&device.device, Work::Attention, 1e6) > 8);
            let cut = noise(&transformer, &config, &device, &|| false);
            pace::set(&device.device, None);
            let limit = if device.precision == Precision::F16 { 2e-3 } else { 1e-6 };
            let want: Vec<f64> = whole.iter().map(|value| f64::from(*value)).collect();
            let error = relative_l2(&cut, &want);
            assert!(error <= limit, "{error} at {flops_per_second} on {}", device.name);
        }
    }
}

/// The weights of the small transformer with one value of one tensor replaced.
fn with_value(folder: &Path, tensor: &str, value: f32) -> PathBuf {
    let mut bytes = std::fs::read(fixture("dit_tiny_a").join("diffusion_pytorch_model.safetensors")).expect("a file");
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).expect("a header");
    let begin = 8 + header_bytes + header[tensor]["data_offsets"][0].as_u64().expect("an offset") as usize;
    bytes[begin..begin + 4].copy_from_slice(&value.to_le_bytes());
    let path = folder.join("model.safetensors");
    std::fs::write(&path, bytes).expect("a temporary folder");
    path
}

#[test]
fn a_fault_of_the_file_is_told_in_the_call_that_meets_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config: TransformerConfig = config("dit_tiny_a");
    let device = device::open(&DeviceChoice::Cpu, None).expect("the CPU is always there");
    let name = "transformer_blocks.1.ff.net.2.weight";
    let streamed = |path: &Path| Transformer::load_streamed(&source(path), &device, &config);

    let transformer = streamed(&with_value(folder.path(), name, f32::NAN)).expect("names and shapes are right");
    let caught = catch_unwind(AssertUnwindSafe(|| noise(&transformer, &config, &device, &|| false)));
    let error = caught.expect_err("the second block has no number").downcast::<WeightError>().expect("a reason");
    assert!(error.to_string().contains(name) && error.to_string().contains("not finite"), "{error}");

    // What is missing shows before the first call.
    let wider = TransformerConfig { num_layers: config.num_layers + 1, ..config.clone() };
    let whole = source(&fixture("dit_tiny_a").join("diffusion_pytorch_model.safetensors"));
    let error = Transformer::load_streamed(&whole, &device, &wider).expect_err("a block is missing").to_string();
    assert!(error.contains("missing") && error.contains(&format!("transformer_blocks.{}.", config.num_layers)), "{error}");
}
