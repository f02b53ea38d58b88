//! The distillations at toy size: their targets against plain sums in f64, what is learnt, runs that go on exactly, and
//! that clips can be made with what is published.

mod dmd;

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use half::f16;
use tilereel::gpu::device::ComputeDevice;
use tilereel::gpu::kernels::reference::seeded;
use tilereel::gpu::kernels::tile_attention::{Tiles, tile_attention};
use tilereel::mask::{FrameMask, KeyFrames, MaskPlan};
use tilereel::model::dit::{Probe, Site, TextContext, Transformer};
use tilereel::model::folder::{ModelFolder, SearchPath};
use tilereel::model::sampler::{Sampler, SamplerKind};
use tilereel::training::checkpoint::file;
use tilereel::training::data::latents::{Latents, LatentsOf};
use tilereel::training::data::scenes::Scenes;
use tilereel::training::distill::data::{Clips, DistillBatch, DistillData, Snap};
use tilereel::training::distill::jump::Segments;
use tilereel::training::distill::kd::{self, KdTask};
use tilereel::training::distill::masks::RangeTimes;
use tilereel::training::distill::mlcd::{self, Distance, MlcdTask, Settings, Start};
use tilereel::training::distill::teacher::predict;
use tilereel::training::folder::RunFolder;
use tilereel::training::optimiser::OptimiserSettings;
use tilereel::training::run::{Batches, Ended, Task, train};
use tilereel::training::trainer::{Alone, Share};
use tilereel::world::attributes::Attributes;
use tilereel::world::seeds;

use super::toy::{self, read};
use super::{Seen, cpu, plan};

fn settings() -> Settings {
    let segments = Segments::new(8).expect("equal parts");
    Settings { segments, skip: 20, guidance: 2.0, distance: Distance::PseudoHuber, start: Start::Clips }
}

/// Signal share of a time, from the definition of the schedule.
fn alpha_bar(time: i64) -> f64 {
    (0..=time).map(|step| 1.0 - (1e-4 + (0.02 - 1e-4) * step as f64 / 999.0)).product()
}

/// One DDIM step by its definition: to the clean latent, and back up along the same noise.
fn ddim(latent: &[f64], noise: &[f64], from: i64, to: i64) -> Vec<f64> {
    let (before, after) = (alpha_bar(from), alpha_bar(to));
    let step = |(x, e): (&f64, &f64)| {
        let clean = (x - (1.0 - before).sqrt() * e) / before.sqrt();
        after.sqrt() * clean + (1.0 - after).sqrt() * e
    };
    latent.iter().zip(noise).map(step).collect()
}

fn wide(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

/// Asks the network about one sample.
struct Oracle<'a> {
    network: &'a Transformer,
    device: &'a ComputeDevice,
}

impl Oracle<'_> {
    fn noise(&self, latent: &[f64], time: i64, text: &TextContext) -> Vec<f64> {
        self.noise_with(latent, time, text, &toy::masks(&toy::dense()))
    }

    fn noise_with(&self, latent: &[f64], time: i64, text: &TextContext, masks: &[Arc<KeyFrames>]) -> Vec<f64> {
        let values: Vec<f32> = latent.iter().map(|&value| value as f32).collect();
        let [channels, frames, height, width] = toy::SHAPE;
        let data = TensorData::new(values, [1, channels, frames, height, width]);
        let latent = Tensor::<5>::from_data(data, &self.device.device);
        wide(read(predict(self.network, latent, &[time.max(0) as usize], text, masks, &mut Probe::default())))
    }

    fn guided(&self, latent: &[f64], time: i64, text: &TextContext, empty: &TextContext, scale: f64) -> Vec<f64> {
        let (without, with) = (self.noise(latent, time, empty), self.noise(latent, time, text));
        without.iter().zip(with).map(|(without, with)| without + scale * (with - without)).collect()
    }
}

fn assert_near(got: &[f64], want: &[f64], limit: f64, what: &str) {
    let largest = want.iter().fold(1e-3f64, |largest, value| largest.max(value.abs()));
    for (place, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= limit * largest, "{what}, {place}: {got} {want} of {largest}");
    }
}

/// The lesson of every sample, its loss, and the way down from noise, against the definitions with the network as an oracle.
#[test]
fn the_students_target_is_that_of_the_definition() {
    let (device, folder) = (cpu(), tempfile::tempdir().expect("a folder"));
    let template = toy::template(&toy::model(folder.path()));
    let network = toy::transformer(&template.transformer_weights().expect("weights"), &toy::config(&template), &device);
    let oracle = Oracle { network: &network, device: &device };
    for start in [Start::Clips, Start::Noise] {
        let settings = Settings { start, ..settings() };
        let teacher = toy::teacher(&template, &toy::dense(), &device);
        let description = toy::description(&template, mlcd::MLCD, None);
        let task = MlcdTask::new(teacher, settings, toy::dense(), description, 4, &device);
        let data = toy::data(if start == Start::Clips { toy::clips() } else { Clips::Described { clips: 5, shape: toy::SHAPE } });
        let mut batch = data.make(3).expect("a batch").remove(0);
        // Also a time so near its milestone that the teacher's step ends there, and one that ends at the clean latent.
        batch.times = vec![11, 260, 590, 999];
        let text = task.teacher.embed(batch.captions.clone());
        let lesson = task.lesson(&network, batch.clone());
        let answer = wide(read(task.answer(&network, &lesson)));
        let values: usize = toy::SHAPE.iter().product();
        let (mut total, mut squares) = (0.0, 0.0);
        for (sample, &time) in batch.times.iter().enumerate() {
            let (text, empty) = (text.row(sample), task.teacher.without_words(1));
            let own = sample * values..(sample + 1) * values;
            let noise = wide(batch.noise[own.clone()].to_vec());
            let time = time as i64;
            let noisy = match &batch.latents {
                Some(latents) => {
                    let (signal, deviation) = (alpha_bar(time).sqrt(), (1.0 - alpha_bar(time)).sqrt());
                    let clean = wide(latents[own.clone()].to_vec());
                    clean.iter().zip(&noise).map(|(x, e)| signal * x + deviation * e).collect()
                }
                None => {
                    let hops = 8 - time / 125;
                    let at = |hop: i64| (999.0 - (999 - time) as f64 * hop as f64 / hops as f64).round() as i64;
                    (0..hops).fold(noise.clone(), |latent, hop| {
                        let noise = oracle.guided(&latent, at(hop), &text, &empty, 2.0);
                        ddim(&latent, &noise, at(hop), at(hop + 1))
                    })
                }
            };
            let milestone = time / 125 * 125 - 1;
            let earlier = (time - 20).max(milestone);
            let stepped = ddim(&noisy, &oracle.guided(&noisy, time, &text, &empty, 2.0), time, earlier);
            let target = if earlier == milestone {
                stepped
            } else {
                ddim(&stepped, &oracle.noise(&stepped, earlier, &text), earlier, milestone)
            };
            let want_answer = ddim(&noisy, &oracle.noise(&noisy, time, &text), time, milestone);
            let what = format!("{start:?}, time {time}");
            assert_near(&wide(read(lesson.noisy.clone()))[own.clone()], &noisy, 1e-3, &format!("{what}: noisy"));
            assert_near(&wide(read(lesson.target.clone()))[own.clone()], &target, 1e-3, &format!("{what}: target"));
            assert_near(&answer[own], &want_answer, 1e-3, &format!("{what}: answer"));
            let square = want_answer.iter().zip(&target).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / values as f64;
            squares += square / 4.0;
            total += ((square + 1e-6).sqrt() - 1e-3) / 4.0;
        }
        let trainer = toy::trainer(&template, mlcd::MLCD, mlcd::OPTIMISER, &device);
        let loss = task.loss(&trainer.averaged(), batch);
        let (got, got_squares) = (f64::from(read(loss.total)[0]), f64::from(read(loss.numbers[0].clone())[0]));
        assert!((got - total).abs() < 2e-3 * total && (got_squares - squares).abs() < 2e-3 * squares, "{got} {total}");
    }
}

/// The distances of a small and a large difference, by their definitions.
#[test]
fn distances_are_those_of_their_definitions() {
    let device = cpu().device;
    let squares = [0.0, 2.5e-7, 1e-6, 4e-4, 0.09];
    for distance in [Distance::Squared, Distance::Huber, Distance::PseudoHuber] {
        let x = Tensor::<1>::from_data(TensorData::new(squares.map(|square| square as f32).to_vec(), [5]), &device);
        let x = x.autodiff().require_grad();
        let y = distance.of(x.clone());
        let gradient = read(x.grad(&y.clone().sum().backward()).expect("a gradient"));
        let of = |square: f64| {
            let (d, c) = (square.sqrt(), 1e-3);
            match distance {
                Distance::Squared => square,
                Distance::Huber if d <= c => d * d / (2.0 * c),
                Distance::Huber => d - c / 2.0,
                Distance::PseudoHuber => (square + c * c).sqrt() - c,
            }
        };
        for ((&square, got), slope) in squares.iter().zip(read(y)).zip(gradient) {
            assert!((f64::from(got) - of(square)).abs() < 1e-6 + 1e-4 * of(square), "{distance:?} {square}: {got}");
            // Away from the turn of Huber's function both sides of the point have one slope.
            let step = 1e-4 * square.max(1e-9);
            let want = (of(square + step) - of((square - step).max(0.0))) / (square + step - (square - step).max(0.0));
            assert!((f64::from(slope) - want).abs() < 2e-2 * want.abs(), "{distance:?} {square}: slope {slope} {want}");
        }
    }
}

/// Makes the same batch in every step.
struct Same(DistillBatch);

impl Batches for Same {
    type Batch = DistillBatch;

    fn make(&self, _: u64) -> Result<Vec<DistillBatch>, tilereel::training::TrainError> {
        Ok(vec![self.0.clone()])
    }
}

fn quick(settings: OptimiserSettings) -> OptimiserSettings {
    OptimiserSettings { learning_rate: 3e-3, average_decay: 0.5, ..settings }
}

fn mlcd_task(template: &tilereel::training::template::Template, device: &ComputeDevice) -> MlcdTask {
    let teacher = toy::teacher(template, &toy::dense(), device);
    let description = toy::description(template, mlcd::MLCD, None);
    let mut task = MlcdTask::new(teacher, settings(), toy::dense(), description, 4, device);
    task.masks = toy::masks_at_all_lengths(&task.plan);
    task
}

fn kd_task(template: &tilereel::training::template::Template, device: &ComputeDevice) -> KdTask {
    let (teacher, plan) = (toy::teacher(template, &toy::dense(), device), toy::sparse());
    let description = toy::description(template, kd::FAST, Some(&plan));
    let mut task = KdTask::new(teacher, kd::LOSS_WEIGHTS, plan, description, 4, device);
    task.masks = toy::masks_at_all_lengths(&task.plan);
    task
}

/// Steps of a run by heart.
const STEPS: u64 = 40;

#[test]
fn the_few_step_student_learns_and_is_published() {
    let (device, folder) = (cpu(), tempfile::tempdir().expect("a folder"));
    let template = toy::template(&toy::model(folder.path()));
    let (task, run) = (mlcd_task(&template, &device), RunFolder::new(folder.path(), mlcd::MLCD));
    let batch = toy::data(toy::clips()).make(0).expect("a batch").remove(0);
    let mut trainer = toy::trainer(&template, mlcd::MLCD, quick(mlcd::OPTIMISER), &device);
    let one = |network: &Transformer| read(task.loss(network, batch.clone()).total)[0];
    let before = one(&trainer.averaged());
    // A small one: from the gradient alone, not from luck.
    trainer.step(Share::whole(vec![batch.clone()]), 0.03, |network, part| task.loss(network, part), &Alone).expect("a step");
    let after_one = one(&trainer.averaged());
    assert!(after_one < before, "one step makes the loss smaller: {before} {after_one}");
    let mut seen = Seen::default();
    train(&task, &Same(batch.clone()), &mut trainer, &plan(STEPS), &run, &mut seen, None).expect("a run");
    let after = one(&trainer.averaged());
    assert!(after < 0.7 * before, "{before} {after}");
    assert_published(folder.path(), mlcd::MLCD, &trainer.averaged(), &device);
}

#[test]
fn the_sparse_student_learns_and_is_published() {
    let (device, folder) = (cpu(), tempfile::tempdir().expect("a folder"));
    let template = toy::template(&toy::model(folder.path()));
    let (task, run) = (kd_task(&template, &device), RunFolder::new(folder.path(), kd::KD));
    let batch = toy::data(toy::clips()).make(0).expect("a batch").remove(0);
    let mut trainer = toy::trainer(&template, kd::KD, quick(kd::OPTIMISER), &device);
    let numbers = |network: &Transformer| {
        let loss = task.loss(network, batch.clone());
        std::iter::once(loss.total).chain(loss.numbers).map(|number| f64::from(read(number)[0])).collect::<Vec<f64>>()
    };
    let before = numbers(&trainer.averaged());
    let definition = kd_by_definition(&task, &trainer.averaged(), &|_| toy::sparse(), &batch, &device);
    assert_near(&before, &definition, 1e-4, "the loss");
    let mut seen = Seen::default();
    train(&task, &Same(batch.clone()), &mut trainer, &plan(STEPS), &run, &mut seen, None).expect("a run");
    let after = numbers(&trainer.averaged());
    let [total, output, attention] = [0, 1, 2].map(|number| after[number] / before[number]);
    assert!(total < 0.5 && output < 0.5 && attention < 0.9, "{before:?} {after:?}");
    let published = assert_published(folder.path(), kd::FAST, &trainer.averaged(), &device);
    let text = published.mask_plan().expect("readable").expect("a plan");
    assert_eq!(MaskPlan::from_json(&text).expect("a plan"), toy::sparse());
}

/// Each sample has the masks of its time, also where a part holds several ranges of steps, and at other lengths.
#[test]
fn the_sparse_student_has_the_masks_of_each_range_of_steps() {
    let (device, folder) = (cpu(), tempfile::tempdir().expect("a folder"));
    let template = toy::template(&toy::model(folder.path()));
    let of = |frames: usize, range: usize| match range {
        0 => toy::sparse_of(frames),
        1 => toy::dense_of(frames),
        _ => MaskPlan::uniform(toy::LAYERS, frames, &format!("1:{}", frames - 1)).expect("a plan"),
    };
    let starts = [0.0, 0.25, 0.75];
    let ranges = starts.into_iter().enumerate().map(|(range, from)| (from, of(toy::FRAMES, range)));
    let plan = MaskPlan::of_ranges(ranges.collect()).expect("a plan");
    // Its calls are at 999, 749, 499 and 249.
    let sampler = Sampler::new(SamplerKind::DdimTrailing, 4).expect("a sampler");
    let range_of = |time: usize| [749, 249].into_iter().filter(|&highest| time <= highest).count();
    let description = toy::description(&template, kd::FAST, Some(&plan));
    let teacher = toy::teacher(&template, &toy::dense(), &device);
    let mut task = KdTask::new(teacher, kd::LOSS_WEIGHTS, plan.clone(), description, 4, &device);
    (task.masks, task.range_times) = (toy::masks_at_all_lengths(&plan), RangeTimes::of(&plan, &sampler));
    let trainer = toy::trainer(&template, kd::KD, kd::OPTIMISER, &device);
    let student = trainer.averaged();
    let data = DistillData { mix: toy::mix(), ..toy::data(toy::clips()) };
    for frames in [toy::FRAMES, toy::OTHER_FRAMES[0]] {
        let mut batches = (0..40).map(|step| data.make(step).expect("a batch").remove(0));
        let batch = batches.find(|batch| batch.shape[2] == frames).expect("each length has its steps");
        let seen: std::collections::BTreeSet<usize> = batch.times.iter().map(|&time| range_of(time)).collect();
        assert!(frames > toy::FRAMES || seen.len() == 3, "all ranges are in the part: {:?}", batch.times);
        let loss = task.loss(&student, batch.clone());
        let got: Vec<f64> = std::iter::once(loss.total).chain(loss.numbers).map(|number| f64::from(read(number)[0])).collect();
        let want = kd_by_definition(&task, &student, &|time| of(frames, range_of(time)), &batch, &device);
        assert_near(&got, &want, 1e-4, &format!("{frames} latent frames"));
        let of_first = kd_by_definition(&task, &student, &|_| of(frames, 0), &batch, &device);
        assert!(frames > toy::FRAMES || (want[2] - of_first[2]).abs() > 0.01 * want[2], "the ranges differ: {want:?}");
    }
    // A run goes on with the masks of all ranges alone.
    let kind = |plan: &MaskPlan| kd::LOSS_WEIGHTS.kind(plan, "t");
    assert_ne!(kind(&plan), kind(&plan.of_range(0)));
}

/// Total, difference of the outputs, of the attentions, and the error, in f64 from the values of both networks; `plan_of` is the
/// student's at a time.
fn kd_by_definition(
    task: &KdTask,
    student: &Transformer,
    plan_of: &dyn Fn(usize) -> MaskPlan,
    batch: &DistillBatch,
    device: &ComputeDevice,
) -> Vec<f64> {
    let values: usize = batch.shape[1..].iter().product();
    let latents = batch.latents.as_ref().expect("clips");
    let noisy = (0..batch.noise.len()).map(|place| {
        let alpha_bar = alpha_bar(batch.times[place / values] as i64);
        (alpha_bar.sqrt() * f64::from(latents[place]) + (1.0 - alpha_bar).sqrt() * f64::from(batch.noise[place])) as f32
    });
    let noisy = Tensor::<5>::from_data(TensorData::new(noisy.collect::<Vec<f32>>(), batch.shape), &device.device);
    let text = task.teacher.embed(batch.captions.clone());
    // One sample after the other, each with the plan of its time.
    let run = |network: &Transformer, plan_of: &dyn Fn(usize) -> MaskPlan| {
        let (mut given, mut layers) = (Vec::new(), vec![Vec::new(); toy::LAYERS]);
        for (sample, &time) in batch.times.iter().enumerate() {
            let mut watch = |site, layer: usize, x: Tensor<3>| {
                if site == Site::SelfAttention {
                    layers[layer].extend(wide(read(x)));
                }
            };
            let masks = toy::masks(&plan_of(time));
            let noisy = noisy.clone().narrow(0, sample, 1);
            let text = text.row(sample);
            given.extend(wide(read(predict(network, noisy, &[time], &text, &masks, &mut Probe::new(&mut watch)))));
        }
        (given, layers)
    };
    let frames = batch.shape[2];
    let (wanted, of_teacher) = run(task.teacher.transformer(), &|_| toy::dense_of(frames));
    let (given, of_student) = run(student, plan_of);
    let squared = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / a.len() as f64;
    let relative = of_student.iter().zip(&of_teacher).map(|(a, b)| squared(a, b) / squared(b, &vec![0.0; b.len()]));
    let attention = relative.sum::<f64>() / toy::LAYERS as f64;
    let (output, data) = (squared(&given, &wanted), squared(&given, &wide(batch.noise.clone())));
    vec![output + 0.03 * attention, output, attention, data]
}

/// The student in the folder is a model, and computes what the trained network computes.
fn assert_published(root: &Path, name: &str, trained: &Transformer, device: &ComputeDevice) -> ModelFolder {
    let place = root.join(name).display().to_string();
    let folder = ModelFolder::resolve(&place, &SearchPath::standard()).expect("a whole model");
    let template = toy::template(&root.join(name));
    let published = toy::transformer(&folder.transformer_weights().expect("weights"), &toy::config(&template), device);
    let masks = toy::masks(&template.plan().expect("a plan"));
    let text = TextContext {
        embedding: Tensor::from_data(TensorData::new(seeded(5, toy::TOKENS * 32), [1, toy::TOKENS, 32]), &device.device),
        mask: vec![1.0; toy::TOKENS],
    };
    let [channels, frames, height, width] = toy::SHAPE;
    let latents = TensorData::new(seeded(6, toy::SHAPE.iter().product()), [1, channels, frames, height, width]);
    let latents = Tensor::<5>::from_data(latents, &device.device);
    let values =
        |network: &Transformer| wide(read(predict(network, latents.clone(), &[400], &text, &masks, &mut Probe::default())));
    // f16 in the file is all that differs.
    assert_near(&values(&published), &values(trained), 1e-2, name);
    folder
}

/// At other lengths the student has the rules of its plan, and the teacher sees everything.
#[test]
fn students_learn_at_the_lengths_that_clips_are_made_in() {
    let (device, folder) = (cpu(), tempfile::tempdir().expect("a folder"));
    let template = toy::template(&toy::model(folder.path()));
    let data = DistillData { mix: toy::mix(), ..toy::data(toy::clips()) };
    let (few_steps, sparse) = (mlcd_task(&template, &device), kd_task(&template, &device));
    let student = toy::trainer(&template, kd::KD, kd::OPTIMISER, &device).averaged();
    for frames in toy::OTHER_FRAMES {
        let mut batches = (0..40).map(|step| data.make(step).expect("a batch").remove(0));
        let batch = batches.find(|batch| batch.shape[2] == frames).expect("each length has its steps");
        assert_eq!(batch.times.len(), if frames > toy::FRAMES { 1 } else { 4 });
        let loss = sparse.loss(&student, batch.clone());
        let got: Vec<f64> = std::iter::once(loss.total).chain(loss.numbers).map(|number| f64::from(read(number)[0])).collect();
        let want = kd_by_definition(&sparse, &student, &|_| toy::sparse_of(frames), &batch, &device);
        assert_near(&got, &want, 1e-4, &format!("{frames} latent frames"));
        let total = read(few_steps.loss(&student, batch).total)[0];
        assert!(total.is_finite() && total > 0.0, "{frames} latent frames: {total}");
    }
}

/// With a share of clips with two objects, a batch has those clips.
#[test]
fn students_see_two_objects_as_often_as_asked() {
    const CLIPS: usize = 40;
    let Clips::Encoded(few) = toy::clips() else { panic!("clips were encoded") };
    // Each clip is its number.
    let of = LatentsOf { clips: CLIPS, ..few.of.clone() };
    let values = (0..CLIPS * of.values_a_clip()).map(|place| f16::from_f32((place / of.values_a_clip()) as f32)).collect();
    let latents = Latents::new(of, values);
    for (share, has_two) in [(0.0, false), (1.0, true)] {
        let scenes = Some(Scenes::of_world(seeds::TRANSFORMER, CLIPS, share));
        let data = DistillData { scenes, ..toy::data(Clips::Encoded(latents.clone())) };
        let seen = data.make(7).expect("a batch").remove(0).latents.expect("clips");
        for sample in seen.chunks_exact(latents.of.values_a_clip()) {
            let attributes = Attributes::of_clip(seeds::TRANSFORMER, sample[0] as u64);
            assert_eq!(attributes.second.is_some(), has_two, "clip {}", sample[0]);
        }
    }
}

/// A stopped run, resumed, has the bits of the undisturbed one; so for both distillations.
#[test]
fn a_distillation_that_was_stopped_is_the_undisturbed_one() {
    let (device, folder) = (cpu(), tempfile::tempdir().expect("a folder"));
    let template = toy::template(&toy::model(folder.path()));
    let data = || DistillData { part: 2, mix: toy::mix(), ..toy::data(toy::clips()) };
    let few_steps = mlcd_task(&template, &device);
    assert_resumes(
        &few_steps,
        &data(),
        &|| toy::trainer(&template, mlcd::MLCD, mlcd::OPTIMISER, &device),
        folder.path(),
        mlcd::MLCD,
    );
    let sparse = kd_task(&template, &device);
    let snap = Some(Snap { share: 0.7, times: vec![249, 499, 749, 999] });
    let data = DistillData { snap, ..data() };
    assert_resumes(&sparse, &data, &|| toy::trainer(&template, kd::KD, kd::OPTIMISER, &device), folder.path(), kd::KD);
}

fn assert_resumes<T: Task>(
    task: &T,
    data: &impl Batches<Batch = T::Batch>,
    fresh: &dyn Fn() -> tilereel::training::trainer::Trainer<T::Network>,
    root: &Path,
    kind: &'static str,
) {
    let [whole, stopped] = ["whole", "stopped"].map(|name| RunFolder::new(&root.join(name), kind));
    let run = |folder: &RunFolder, trainer: &mut _, seen: &mut Seen| {
        train(task, data, trainer, &plan(6), folder, seen, None).expect("a run")
    };
    assert_eq!(run(&whole, &mut fresh(), &mut Seen::default()), Ended::Done);
    assert_eq!(run(&stopped, &mut fresh(), &mut Seen::stopping_after(3)), Ended::Stopped);
    let checkpoint = file::read(&stopped.checkpoint()).expect("a checkpoint");
    let mut resumed = fresh();
    checkpoint.check(resumed.identity(), root).expect("it is of this run");
    resumed.resume(checkpoint);
    assert_eq!(run(&stopped, &mut resumed, &mut Seen::default()), Ended::Done);
    let read = |folder: &RunFolder| file::read(&folder.checkpoint()).expect("a checkpoint");
    assert!(read(&whole).vectors == read(&stopped).vectors, "{kind}: bit for bit");
}

/// Frames that nobody else sees hold no numbers; a way around over all tiles would carry that into every gradient.
#[test]
fn gradients_touch_the_kept_tiles_alone() {
    let device = cpu().device;
    let (frames, tokens, heads, head) = (4usize, 6, 2, 8);
    // Three frames see each other; the last sees itself alone.
    let kept = (0..16).map(|tile| (tile / 4 == 3) == (tile % 4 == 3)).collect();
    let key_frames = Arc::new(FrameMask::new(frames, kept).expect("a mask").key_frames());
    let tiles = Tiles { key_frames, query_tokens: tokens, key_tokens: tokens };
    let shape = [1, heads, frames * tokens, head];
    let operand = |seed| {
        let mut values = seeded(seed, shape.iter().product());
        for (place, value) in values.iter_mut().enumerate() {
            if place / head % (frames * tokens) >= 3 * tokens {
                *value = f32::NAN;
            }
        }
        Tensor::<4>::from_data(TensorData::new(values, shape), &device).autodiff().require_grad()
    };
    let operands = [operand(1), operand(2), operand(3)];
    let [query, key, value] = operands.clone();
    let output = tile_attention(query, key, value, None, tiles).narrow(2, 0, 3 * tokens);
    let mut gradients = (output.clone() * output).sum().backward();
    for operand in operands {
        let gradient = operand.grad_remove(&mut gradients).expect("a gradient").narrow(2, 0, 3 * tokens);
        let gradient = read(gradient);
        assert!(gradient.iter().all(|value| value.is_finite()) && gradient.iter().any(|&value| value != 0.0), "{gradient:?}");
    }
}

/// The sampler's calls of any divisor of the segments begin where jumps end.
#[test]
fn a_student_takes_the_steps_of_its_segments() {
    let segments = Segments::new(4).expect("equal parts");
    for steps in segments.divisors() {
        let sampler = Sampler::new(SamplerKind::DdimTrailing, steps).expect("a sampler");
        let times: Vec<i32> = (0..sampler.calls()).map(|call| sampler.timestep(call) as i32).collect();
        // Every call begins at the top of a segment, which is where the jump from the one above ends.
        assert!(times.iter().all(|&time| time == 999 || (0..1000).any(|other| segments.milestone(other) == time)), "{times:?}");
    }
}
