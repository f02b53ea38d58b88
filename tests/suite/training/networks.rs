//! Real networks at toy size: each learns one batch by heart, and what it published computes the same through the way on which
//! clips are made.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use half::f16;
use serde_json::{Value, json};
use tilereel::gpu::device::{self, DeviceChoice, Precision};
use tilereel::mask::FrameMask;
use tilereel::model::dit::{Probe, TextContext, Transformer};
use tilereel::model::folder::{ModelFolder, SearchPath};
use tilereel::model::judge::{Judge, Statistics};
use tilereel::model::latent::ClipSize;
use tilereel::model::text::encoder::TextEncoder;
use tilereel::model::vae::Vae;
use tilereel::model::weights::{Loader, WeightSource, WrittenType, write_safetensors};
use tilereel::training::checkpoint::file;
use tilereel::training::data::encoding::{Encoder, encode_world};
use tilereel::training::data::latents::{Latents, LatentsOf, encoder_digest};
use tilereel::training::data::mix::Mix;
use tilereel::training::folder::RunFolder;
use tilereel::training::optimiser::OptimiserSettings;
use tilereel::training::pretrain::{base, judge, text, vae};
use tilereel::training::random::{Random, Stream};
use tilereel::training::run::{Batches, Plan, Task, train};
use tilereel::training::schedule::Schedule;
use tilereel::training::template::{Template, load_vae};
use tilereel::training::trainer::{Alone, Share, Trainer};
use tilereel::world::renderer::render_every;
use tilereel::world::scene::Scene;

use super::{Seen, cpu, plan};

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join("config.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("a fixture")).expect("JSON")
}

/// Makes the same batch in every step.
struct Same<B>(B);

impl<B: Clone + Send + Sync> Batches for Same<B> {
    type Batch = B;

    fn make(&self, _: u64) -> Result<Vec<B>, tilereel::training::TrainError> {
        Ok(vec![self.0.clone()])
    }
}

/// Trains on one batch; gives the losses of the reports.
fn by_heart<T: Task>(task: &T, batch: T::Batch, trainer: &mut Trainer<T::Network>, steps: u64, folder: &RunFolder) -> Vec<f64>
where
    T::Batch: Clone + Sync,
{
    let mut seen = Seen::default();
    train(task, &Same(batch), trainer, &plan(steps), folder, &mut seen, None).expect("a run");
    seen.reports.iter().map(|report| report.numbers[0].1).collect()
}

fn fast(settings: OptimiserSettings) -> OptimiserSettings {
    OptimiserSettings { average_decay: 0.5, ..settings }
}

fn base_configs() -> base::BaseConfigs {
    let mut transformer = fixture("dit_tiny_a");
    let text_encoder = fixture("t5_tiny_a");
    transformer["caption_channels"] = text_encoder["d_model"].clone();
    base::BaseConfigs {
        transformer: serde_json::from_value(transformer.clone()).expect("a configuration"),
        transformer_json: transformer,
        text_encoder: serde_json::from_value(text_encoder.clone()).expect("a configuration"),
        text_encoder_json: text_encoder,
    }
}

fn base_data(configs: &base::BaseConfigs) -> base::BaseData {
    let mini = ModelFolder::resolve("mini/base", &SearchPath::standard()).expect("mini");
    let shape = [configs.transformer.in_channels, 2, 4, 4];
    let of = LatentsOf { vae: "none".into(), source: "noise".into(), clips: 5, shape };
    let values = Random::new(3).normal(Stream::Order, 0, of.clips * of.values_a_clip());
    base::BaseData {
        mix: Mix::of_one(2, Latents::new(of, values.into_iter().map(f16::from_f32).collect())),
        tokenizer: mini.tokenizer().expect("files").tokenizer().expect("a tokenizer"),
        max_tokens: 12,
        batch: 4,
        part: 4,
        random: Random::new(1),
        sentences: None,
        scenes: None,
    }
}

/// The tiny encoder knows fewer words than mini's tokenizer.
fn within_vocabulary(batch: &mut base::BaseBatch, configs: &base::BaseConfigs) {
    batch.captions.ids.iter_mut().for_each(|id| *id %= configs.text_encoder.vocab_size as u32);
}

#[test]
fn transformer_and_text_encoder_learn_and_are_published() {
    let (device, folder, configs) = (cpu(), tempfile::tempdir().expect("a folder"), base_configs());
    let data = base_data(&configs);
    let mut batch = data.make(0).expect("a batch").remove(0);
    within_vocabulary(&mut batch, &configs);
    let mut trainer = base::trainer(&configs, &base::Start::default(), fast(base::OPTIMISER), 1, &device).expect("a trainer");
    let task = base::BaseTask::new(configs.clone(), data.batch, &device);
    let run = RunFolder::new(folder.path(), "base");
    let losses = by_heart(&task, batch.clone(), &mut trainer, 60, &run);
    assert!(losses[losses.len() - 1] < 0.4 * losses[0], "{losses:?}");

    // The published files, on the way that clips are made: f16 in the files is all that differs.
    let network = trainer.averaged();
    let source = WeightSource::open(&folder.path().join("base/diffusion_pytorch_model.safetensors")).expect("a file");
    let transformer = Transformer::load(Loader::new(&source, &device), &configs.transformer).expect("it fits");
    let source = WeightSource::open(&folder.path().join("text_encoder/model.safetensors")).expect("a file");
    let encoder = TextEncoder::load(Loader::new(&source, &device), &configs.text_encoder).expect("it fits");
    let (ids, mask) = (&batch.captions.ids, &batch.captions.mask);
    let trained = network.text_encoder.forward(ids, mask, 4);
    let published = encoder.forward(ids, mask, 4, &mut |_, _| {});
    assert_near(&read(trained.clone()), &read(published.clone()), 1e-2);
    let all_frames = std::sync::Arc::new(tilereel::mask::KeyFrames::dense(2));
    let key_frames = vec![all_frames; transformer.layers()];
    let predict = |transformer: &Transformer, embedding: Tensor<3>| {
        let latents = Tensor::<5>::from_data(TensorData::new(batch.latents.clone(), batch.shape), &device.device);
        let text = TextContext { embedding, mask: mask.clone() };
        read(transformer.forward(latents, &[3.0, 400.0, 700.0, 999.0], &text, None, &key_frames, &mut Probe::default()))
    };
    assert_near(&predict(&network.transformer, trained), &predict(&transformer, published), 1e-2);
}

/// The encoder of mini, from nothing. With whole steps for its queries and T5's own first table of positions it ends here with 10 %
/// of all answers wrong, and 15 % of those about the second object.
#[test]
fn a_text_encoder_learns_which_word_belongs_to_which() {
    const STEPS: u64 = 150;
    let (device, folder) = (cpu(), tempfile::tempdir().expect("a folder"));
    let mini = Template::open("mini/base").expect("mini");
    let configs = mini.base_configs().expect("configurations");
    let tokenizer = mini.tokenizer().expect("a tokenizer");
    let data = text::TextData { tokenizer, max_tokens: mini.max_tokens(), batch: 32, part: 32, random: Random::new(1) };
    let seconds = data.make(0).expect("a batch").remove(0).answers.iter().filter(|answers| answers[8] < 9).count();
    assert!((8..24).contains(&seconds), "{seconds} of 32 sentences name the colour of a second object");
    let mut trainer = text::trainer(&configs, fast(text::OPTIMISER), 1, &device).expect("a trainer");
    let task = text::TextTask::new(configs, data.batch, &device);
    let (mut seen, steady) = (Seen::default(), Plan { schedule: Schedule { hold_share: 1.0, ..text::SCHEDULE }, ..plan(STEPS) });
    train(&task, &data, &mut trainer, &steady, &RunFolder::new(folder.path(), text::KIND), &mut seen, None).expect("a run");
    let last = seen.reports.last().expect("a report");
    let number = |name: &str| last.numbers.iter().find(|(own, _)| *own == name).expect(name).1;
    assert!(number("wrong") < 0.02 && number("wrong_of_second") < 0.05, "{:?}", last.numbers);
}

#[test]
fn the_parts_of_a_batch_add_up_to_the_whole() {
    let (device, configs) = (cpu(), base_configs());
    let whole = base_data(&configs);
    let halves = base::BaseData { part: 2, ..base_data(&configs) };
    let step = |data: &base::BaseData| {
        let mut parts = data.make(7).expect("a batch");
        parts.iter_mut().for_each(|part| within_vocabulary(part, &configs));
        let mut trainer = base::trainer(&configs, &base::Start::default(), base::OPTIMISER, 1, &device).expect("a trainer");
        let task = base::BaseTask::new(configs.clone(), 4, &device);
        let numbers = trainer.step(Share::whole(parts), 1.0, |network, part| task.loss(network, part), &Alone);
        read(numbers.expect("a step"))
    };
    assert_near(&step(&whole), &step(&halves), 1e-4);
}

#[test]
fn batches_repeat_and_differ_from_step_to_step() {
    let data = base_data(&base_configs());
    let make = |step| data.make(step).expect("a batch").remove(0);
    assert_eq!(make(3), make(3));
    assert_ne!(make(3).latents, make(4).latents);
    assert_ne!(make(3).noise, make(4).noise);
    // Times are spread over the whole range.
    let times = make(5).times;
    assert!(times.iter().enumerate().all(|(span, time)| (span * 250..(span + 1) * 250).contains(time)), "{times:?}");
}

/// Clips of three lengths by turns: a stopped run goes on as the undisturbed one, and the gradient is that of its own length.
#[test]
fn a_training_on_several_lengths_that_was_stopped_is_the_undisturbed_one() {
    let (device, folder, configs) = (cpu(), tempfile::tempdir().expect("a folder"), base_configs());
    let channels = configs.transformer.in_channels;
    let clips = |frames: usize| {
        let of = LatentsOf { vae: "none".into(), source: "noise".into(), clips: 5, shape: [channels, frames, 4, 4] };
        let values = Random::new(frames as u64).normal(Stream::Order, 0, of.clips * of.values_a_clip());
        Latents::new(of, values.into_iter().map(f16::from_f32).collect())
    };
    let mut mix = Mix::of_one(2, clips(2));
    mix.add(0.3, 6, clips(6));
    mix.add(0.3, 1, clips(1));
    let data = InVocabulary(base::BaseData { mix, part: 2, ..base_data(&configs) }, configs.clone());
    let shapes: Vec<[usize; 2]> = (0..8)
        .flat_map(|step| data.make(step).expect("a batch"))
        .map(|part| {
            let [samples, _, frames, ..] = part.shape;
            assert_eq!((part.times.len(), part.captions.sentences), (samples, samples));
            [frames, samples]
        })
        .collect();
    for shape in [[2, 2], [6, 1], [1, 2]] {
        assert!(shapes.contains(&shape), "{shape:?} in {shapes:?}");
    }
    assert!(shapes.iter().all(|shape| [[2, 2], [6, 1], [1, 2]].contains(shape)), "{shapes:?}");

    let task = base::BaseTask::new(configs.clone(), data.0.batch, &device);
    let fresh = || base::trainer(&configs, &base::Start::default(), base::OPTIMISER, 1, &device).expect("a trainer");
    let [whole, stopped] = ["whole", "stopped"].map(|name| RunFolder::new(&folder.path().join(name), "base"));
    let run = |folder: &RunFolder, trainer: &mut _, seen: &mut Seen| {
        train(&task, &data, trainer, &plan(8), folder, seen, None).expect("a run");
    };
    run(&whole, &mut fresh(), &mut Seen::default());
    run(&stopped, &mut fresh(), &mut Seen::stopping_after(3));
    let mut resumed = fresh();
    resumed.resume(file::read(&stopped.checkpoint()).expect("a checkpoint"));
    run(&stopped, &mut resumed, &mut Seen::default());
    let vectors = |folder: &RunFolder| file::read(&folder.checkpoint()).expect("a checkpoint").vectors;
    assert!(vectors(&whole) == vectors(&stopped), "bit for bit");

    // The loss of a long clip, from what the network says of it with every frame in sight.
    let network = resumed.averaged();
    let batch = (0..8).flat_map(|step| data.make(step).expect("a batch")).find(|part| part.shape[2] == 6).expect("a long one");
    let got = read(task.loss(&network, batch.clone()).numbers.remove(0))[0];
    let alpha_bar = |time: usize| (0..=time).map(|t| 1.0 - (1e-4 + (0.02 - 1e-4) * t as f64 / 999.0)).product::<f64>();
    let signal = alpha_bar(batch.times[0]);
    let noisy = batch.latents.iter().zip(&batch.noise);
    let noisy = noisy.map(|(x, e)| (signal.sqrt() * f64::from(*x) + (1.0 - signal).sqrt() * f64::from(*e)) as f32);
    let noisy = Tensor::<5>::from_data(TensorData::new(noisy.collect::<Vec<f32>>(), batch.shape), &device.device);
    let all = std::sync::Arc::new(FrameMask::full(6).expect("a mask").key_frames());
    let embedding = network.text_encoder.forward(&batch.captions.ids, &batch.captions.mask, 1);
    let text = TextContext { embedding, mask: batch.captions.mask };
    let masks = vec![all; network.transformer.layers()];
    let times = [batch.times[0] as f32];
    let predicted = read(network.transformer.forward(noisy, &times, &text, None, &masks, &mut Probe::default()));
    let squares = predicted.iter().zip(&batch.noise).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    assert_near(&[got], &[(squares / predicted.len() as f64) as f32], 1e-4);
}

/// Batches whose words the tiny encoder knows.
struct InVocabulary(base::BaseData, base::BaseConfigs);

impl Batches for InVocabulary {
    type Batch = base::BaseBatch;

    fn make(&self, step: u64) -> Result<Vec<base::BaseBatch>, tilereel::training::TrainError> {
        let mut parts = self.0.make(step)?;
        parts.iter_mut().for_each(|part| within_vocabulary(part, &self.1));
        Ok(parts)
    }
}

const TINY: ClipSize = ClipSize { frames: 5, width: 32, height: 32 };

fn vae_json() -> Value {
    let mut config = fixture("vae_tiny_a");
    config["hidden_size"] = json!(32);
    config["hidden_size_mult"] = json!([1, 1, 1, 1]);
    config["num_res_blocks"] = json!(0);
    config
}

#[test]
fn the_vae_learns_and_its_latents_are_normal_when_published() {
    let (device, folder) = (cpu(), tempfile::tempdir().expect("a folder"));
    let config: tilereel::model::vae::VaeConfig = serde_json::from_value(vae_json()).expect("a configuration");
    let data = vae::VaeData {
        batch: 2,
        part: 2,
        size: TINY,
        clip_frames: 9,
        latent_channels: config.embed_dim,
        halved_share: 0.0,
        random: Random::new(1),
    };
    let batch = data.make(0).expect("a batch").remove(0);
    let mut trainer = vae::trainer(&config, None, fast(vae::OPTIMISER), 1, &device).expect("a trainer");
    let mut task = vae::VaeTask::new(config.clone(), vae_json(), 2, TINY, TINY.frames, &device);
    task.statistics_clips = 6;
    let run = RunFolder::new(folder.path(), "vae");
    let losses = by_heart(&task, batch, &mut trainer, 40, &run);
    assert!(losses[losses.len() - 1] < 0.75 * losses[0], "{losses:?}");
    task.sheet(&trainer.averaged(), &run.sheet(3)).expect("a sheet");
    assert!(run.sheet(3).is_file());
    // Half of the height and width, noise on the latents: another loss, which is learnt as well.
    let halving = vae::VaeData { halved_share: 1.0, ..data.clone() };
    let batch = halving.make(0).expect("a batch").remove(0);
    assert!(batch.is_halved && !data.make(0).expect("a batch")[0].is_halved);
    task.latent_noise = 0.1;
    let mut other = vae::trainer(&config, None, fast(vae::OPTIMISER), 1, &device).expect("a trainer");
    let losses = by_heart(&task, batch, &mut other, 40, &RunFolder::new(&folder.path().join("halved"), "vae"));
    assert!(losses[losses.len() - 1] < 0.9 * losses[0], "{losses:?}");
    task.latent_noise = 0.0;

    let source = WeightSource::open(&folder.path().join("vae/diffusion_pytorch_model.safetensors")).expect("a file");
    let published = Vae::load(Loader::new(&source, &device), &config).expect("it fits");
    // Folding changes nothing that is decoded ..
    let scene = Scene::of_clip(9, 0);
    let video = render_every(&[scene], TINY, 1, &device.device);
    assert_near(&read(trainer.averaged().reconstruct(video.clone())), &read(published.reconstruct(video)), 3e-2);
    // .. a training that goes on from the file begins where this one ended ..
    let further = vae::trainer(&config, Some(&source), fast(vae::OPTIMISER), 1, &device).expect("a trainer").averaged();
    let scene = Scene::of_clip(9, 0);
    let again = render_every(&[scene], TINY, 1, &device.device);
    assert_near(&read(further.reconstruct(again.clone())), &read(published.reconstruct(again)), 1e-4);
    // .. and its latents are what the transformer can learn.
    let clips: Vec<Scene> = (0..6).map(|clip| Scene::of_clip(tilereel::world::seeds::STATISTICS, clip)).collect();
    let video = render_every(&clips, TINY, 1, &device.device);
    let shape = [6, config.embed_dim, 2, 4, 4];
    let noise = Random::new(7).normal(Stream::Noise, 0, shape.iter().product());
    let noise = Tensor::from_data(TensorData::new(noise, shape), &device.device);
    let latents = read(vae::scaled_latents(&published, video, noise));
    let mean = latents.iter().sum::<f32>() / latents.len() as f32;
    let deviation = (latents.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / latents.len() as f32).sqrt();
    assert!(mean.abs() < 0.15 && (0.85..1.15).contains(&deviation), "{mean} {deviation}");
}

/// Latents of several calls, in the order of their clips, on the CPU and on an adapter.
#[test]
fn clips_are_encoded_in_order() {
    let config: tilereel::model::vae::VaeConfig = serde_json::from_value(vae_json()).expect("a configuration");
    let trainer = vae::trainer(&config, None, vae::OPTIMISER, 1, &cpu()).expect("a trainer");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("vae.safetensors");
    let tensors = trainer.parameters().published("vae", &trainer.average().expect("values"));
    write_safetensors(&path, &tensors, WrittenType::F32).expect("written");
    let source = WeightSource::open(&path).expect("sound");
    let size = ClipSize { frames: 1, ..TINY };
    // More than two calls of 32.
    let of = LatentsOf { vae: "none".into(), source: "world".into(), clips: 70, shape: size.latent_shape(config.embed_dim) };

    let adapter = device::adapters().first().map(|adapter| DeviceChoice::Index(adapter.index));
    let adapter = adapter.map(|choice| device::open(&choice, Some(Precision::F32)).expect("the adapter opens"));
    for device in [Some(cpu()), adapter].into_iter().flatten() {
        let network = || Vae::load(Loader::new(&source, &device), &config).expect("it fits");
        let encoders = [Encoder { vae: network(), device: device.clone() }];
        let encode = |seen: &mut Seen| encode_world(&encoders, of.clone(), 1, size, seen).expect("no error");
        let network = network();
        let latents = encode(&mut Seen::default()).expect("whole");
        assert_eq!(encode(&mut Seen::stopping_after(2)), None);
        for clip in [0, 31, 32, 69] {
            let video = render_every(&[Scene::of_clip(1, clip as u64)], size, 1, &device.device);
            let (first, values) = (clip / 32 * 32, of.values_a_clip());
            let noise = Random::new(1).normal(Stream::Noise, first as u64, (clip - first + 1) * values);
            let noise = TensorData::new(noise[(clip - first) * values..].to_vec(), [1, config.embed_dim, 1, 4, 4]);
            let alone = read(vae::scaled_latents(&network, video, Tensor::from_data(noise, &device.device)));
            assert_near(&latents.clips(&[clip]), &alone, 2e-3);
        }
    }
}

#[test]
fn a_decoder_that_learns_alone_keeps_its_encoder_bit_for_bit() {
    let (device, folder) = (cpu(), tempfile::tempdir().expect("a folder"));
    let config: tilereel::model::vae::VaeConfig = serde_json::from_value(vae_json()).expect("a configuration");
    let published =
        |run: &RunFolder| WeightSource::open(&run.network("vae").join("diffusion_pytorch_model.safetensors")).expect("a file");
    let task = || {
        let mut task = vae::VaeTask::new(config.clone(), vae_json(), 2, TINY, TINY.frames, &device);
        task.statistics_clips = 2;
        task
    };
    let data = vae::VaeData {
        batch: 2,
        part: 2,
        size: TINY,
        clip_frames: 9,
        latent_channels: config.embed_dim,
        halved_share: 0.0,
        random: Random::new(1),
    };
    let batch = || data.make(0).expect("a batch").remove(0);
    let first = RunFolder::new(&folder.path().join("first"), "vae");
    by_heart(&task(), batch(), &mut vae::trainer(&config, None, vae::OPTIMISER, 1, &device).expect("a trainer"), 2, &first);
    let given = published(&first);
    let digest = |source: &WeightSource| encoder_digest(&vae_json(), source).expect("readable");

    let frozen = vae::FrozenEncoder::load(&config, &vae_json(), &given, &device).expect("it fits");
    let settings = fast(vae::OPTIMISER);
    let mut trainer = vae::decoder_trainer(&config, &given, &frozen, settings, 1, &device).expect("a trainer");
    assert!(trainer.identity().kind.contains(&digest(&given)[..12]), "{}", trainer.identity().kind);
    assert!(trainer.parameters().slots().iter().all(|slot| !slot.published.name.contains("encoder.")));
    let mut decoder_task = task();
    decoder_task.frozen = Some(frozen);
    let second = RunFolder::new(&folder.path().join("second"), "vae");
    let losses = by_heart(&decoder_task, batch(), &mut trainer, 30, &second);
    assert!(losses[losses.len() - 1] < 0.85 * losses[0], "{losses:?}");
    decoder_task.sheet(&trainer.averaged(), &second.sheet(3)).expect("a sheet");

    let learnt = published(&second);
    assert_eq!(given.tensors().count(), learnt.tensors().count());
    let bits = |source: &WeightSource, name: &str| {
        source.read_f32(name).expect("values").into_iter().map(f32::to_bits).collect::<Vec<u32>>()
    };
    for (name, info) in given.tensors() {
        let is_same = bits(&given, name) == bits(&learnt, name);
        let is_of_encoder = name.starts_with("encoder.") || name.starts_with("quant_conv.");
        assert!(is_same || !is_of_encoder, "{name} has changed");
        assert_eq!(learnt.info(name).map(|other| &other.shape), Some(&info.shape), "{name}");
    }
    let changes = ["decoder.conv_in.conv.weight", "decoder.conv_out.conv.weight", "post_quant_conv.conv.weight"];
    assert!(changes.iter().all(|name| bits(&given, name) != bits(&learnt, name)));
    // So latents of the old file are those of the new one, and of no other.
    assert_eq!(digest(&given), digest(&learnt));
    let third = RunFolder::new(&folder.path().join("third"), "vae");
    let mut whole = vae::trainer(&config, Some(&given), settings, 1, &device).expect("a trainer");
    by_heart(&task(), batch(), &mut whole, 2, &third);
    assert_ne!(digest(&given), digest(&published(&third)));
    let mut other = vae_json();
    other["scaling_factor"] = json!(0.5);
    assert_ne!(digest(&given), encoder_digest(&other, &given).expect("readable"));
}

#[test]
fn the_judge_learns_and_reads_the_same_when_published() {
    let (device, folder) = (cpu(), tempfile::tempdir().expect("a folder"));
    let mut config = judge::config(TINY.frames);
    config.channels = [32; 5];
    config.features = 16;
    let data = judge::JudgeData { batch: 6, frames: TINY.frames, pool: 0, random: Random::new(1) };
    let batch = data.make(0).expect("a batch").remove(0);
    let mut trainer = judge::trainer(&config, fast(judge::OPTIMISER), 1, &device).expect("a trainer");
    let task = judge::JudgeTask::new(config.clone(), data, TINY, None, &device);
    let run = RunFolder::new(folder.path(), "judge");
    let losses = by_heart(&task, batch, &mut trainer, 40, &run);
    assert!(losses[losses.len() - 1] < 0.6 * losses[0], "{losses:?}");
    let source = WeightSource::open(&folder.path().join("judge/judge.safetensors")).expect("a file");
    let published = Judge::load(Loader::new(&source, &device), &config).expect("it fits");
    let video = render_every(&[Scene::of_clip(4, 1)], TINY, 2, &device.device);
    let logits = read(published.forward(video, Statistics::Running).logits);
    assert!(logits.len() == config.outputs() && logits.iter().all(|value| value.is_finite()));
}

fn read<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.try_into_vec_as().expect("readable")
}

/// Within a share of the largest.
fn assert_near(got: &[f32], want: &[f32], share: f32) {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    for (place, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= share * largest, "{place}: {got} {want} of {largest}");
    }
}

/// Clips go round the devices, and come back in their order; the last call is not full.
#[test]
fn clips_that_several_devices_encode_are_those_of_one() {
    let (device, folder) = (cpu(), tempfile::tempdir().expect("a folder"));
    super::toy::model(folder.path());
    let run = RunFolder::new(folder.path(), "base");
    let size = ClipSize { frames: 5, width: 32, height: 16 };
    let encoders = |count: usize| -> Vec<Encoder> {
        let encoder = |_| Encoder { vae: load_vae(&run, &device).expect("a VAE").0, device: device.clone() };
        (0..count).map(encoder).collect()
    };
    let channels = load_vae(&run, &device).expect("a VAE").1.embed_dim;
    // Of 32 clips a call.
    let of = LatentsOf { vae: "toy".into(), source: "world".into(), clips: 75, shape: size.latent_shape(channels) };
    let encode = |count: usize| {
        encode_world(&encoders(count), of.clone(), 3, size, &mut Seen::default()).expect("encoded").expect("not stopped")
    };
    let alone = encode(1);
    for count in [2, 3, 4] {
        assert!(encode(count) == alone, "{count} devices");
    }
    let stopped = encode_world(&encoders(2), of.clone(), 3, size, &mut Seen::stopping_after(1)).expect("no error");
    assert!(stopped.is_none());
}
