//! Distribution matching: the loss of both networks against its definition, and that each learns its own part of it.

use tilereel::training::distill::dmd::{self, DmdBatch, DmdData, DmdTask, Pair};
use tilereel::training::template::Template;
use tilereel::training::trainer::Trainer;

use super::*;

const STEPS_OF_A_CLIP: usize = 4;

fn task(template: &Template, device: &ComputeDevice) -> DmdTask {
    let segments = Segments::new(STEPS_OF_A_CLIP).expect("equal parts");
    let settings = dmd::Settings { segments, guidance: 2.0 };
    let (teacher, dense, sparse) = (toy::teacher(template, &toy::dense(), device), toy::dense(), toy::sparse());
    let description = toy::description(template, dmd::DMD, Some(&sparse));
    let mut task = DmdTask::new(teacher, settings, [&sparse, &dense], description, 4, device);
    [task.masks, task.critic_masks] = [&sparse, &dense].map(toy::masks_at_all_lengths);
    task
}

fn trainer(template: &Template, settings: OptimiserSettings, device: &ComputeDevice) -> Trainer<Pair> {
    let weights = template.transformer_weights().expect("weights");
    dmd::trainer([&weights, &weights], &toy::config(template), dmd::DMD, settings, 1, device).expect("a trainer")
}

fn data() -> DmdData {
    let clips = toy::data(Clips::Described { clips: 5, shape: toy::SHAPE });
    DmdData { clips, segments: Segments::new(STEPS_OF_A_CLIP).expect("equal parts") }
}

/// A batch in which the student has so many of its steps behind it.
fn batch_at(hop: usize) -> DmdBatch {
    let mut batches = (0..60).map(|step| data().make(step).expect("a batch").remove(0));
    batches.find(|batch| batch.hop == hop).expect("each step has its turn")
}

fn step(trainer: &mut Trainer<Pair>, task: &DmdTask, batch: &DmdBatch, factor: f64) {
    let share = Share::whole(vec![batch.clone()]);
    trainer.step(share, factor, |network, part| task.loss(network, part), &Alone).expect("a step");
}

/// Total, difference of the two, and what the critic misses, in f64 from what the three networks say.
fn by_definition(task: &DmdTask, networks: &Pair, batch: &DmdBatch, device: &ComputeDevice) -> Vec<f64> {
    let values: usize = batch.clips.shape[1..].iter().product();
    let text = task.teacher.embed(batch.clips.captions.clone());
    let dense = |network| Oracle { network, device };
    let (teacher, critic) = (dense(task.teacher.transformer()), dense(&networks.critic));
    let (mut matching, mut learnt, mut difference, mut missed) = (0.0, 0.0, 0.0, 0.0);
    for (sample, (&time, &critic_time)) in batch.clips.times.iter().zip(&batch.critic_times).enumerate() {
        let own = sample * values..(sample + 1) * values;
        let (text, empty) = (text.row(sample), task.teacher.without_words(1));
        let of_student = |latent: &[f64], time: i64| {
            let masks = toy::masks(&toy::sparse());
            Oracle { network: &networks.student, device }.noise_with(latent, time, &text, &masks)
        };
        let top = wide(batch.clips.noise[own.clone()].to_vec());
        let place = |hop: i64| 999 - 250 * hop;
        let latent = (0..batch.hop as i64)
            .fold(top, |latent, hop| ddim(&latent, &of_student(&latent, place(hop)), place(hop), place(hop + 1)));
        let (from, end) = (place(batch.hop as i64), place(batch.hop as i64 + 1));
        let reached = ddim(&latent, &of_student(&latent, from), from, end);
        // What is kept of a latent from the end of the step to a later time.
        let kept = |time: i64| alpha_bar(time) / alpha_bar(end);
        let noised = |noise: &[f32], time: i64| -> Vec<f64> {
            let (signal, deviation) = (kept(time).sqrt(), (1.0 - kept(time)).sqrt());
            reached.iter().zip(noise).map(|(x, &e)| signal * x + deviation * f64::from(e)).collect()
        };

        let time = time as i64;
        assert!(end + 20 < time && time <= from, "it is looked at within the step: {end} {time} {from}");
        let noisy = noised(&batch.noise[own.clone()], time);
        let (real, fake) = (teacher.guided(&noisy, time, &text, &empty, 2.0), critic.noise(&noisy, time, &text));
        let square: f64 = real.iter().zip(&fake).map(|(a, b)| (a - b).powi(2)).sum();
        let moved = (1.0 - alpha_bar(end)).sqrt() - (alpha_bar(end) / alpha_bar(from)).sqrt() * (1.0 - alpha_bar(from)).sqrt();
        matching += 0.5 / moved.abs() * square;
        difference += square;

        let (time, noise) = (critic_time as i64, &batch.critic_noise[own]);
        assert!(end + 20 < time && time <= from, "the critic learns within the step: {end} {time} {from}");
        let noisy = noised(noise, time);
        let added = ((1.0 - kept(time)) / (1.0 - alpha_bar(time))).sqrt();
        let errors = critic.noise(&noisy, time, &text).into_iter().zip(noise);
        let error: f64 = errors.map(|(seen, &added_noise)| (seen * added - f64::from(added_noise)).powi(2)).sum();
        let ratio = alpha_bar(time) / (1.0 - alpha_bar(time));
        missed += error;
        learnt += error * ratio.min(5.0) / ratio;
    }
    let count = batch.clips.noise.len() as f64;
    [matching + learnt, difference, missed].map(|sum| sum / count).to_vec()
}

#[test]
fn the_loss_is_that_of_the_definition() {
    let (device, folder) = (cpu(), tempfile::tempdir().expect("a folder"));
    let template = toy::template(&toy::model(folder.path()));
    let task = task(&template, &device);
    let mut trainer = trainer(&template, quick(dmd::OPTIMISER), &device);
    for hop in [0, 2, 3] {
        let batch = batch_at(hop);
        // Both networks leave the teacher, each in its own direction.
        (0..3).for_each(|_| step(&mut trainer, &task, &batch, 1.0));
        let networks = trainer.averaged();
        let loss = task.loss(&networks, batch.clone());
        let got: Vec<f64> = std::iter::once(loss.total).chain(loss.numbers).map(|number| f64::from(read(number)[0])).collect();
        for (got, want) in got.iter().zip(by_definition(&task, &networks, &batch, &device)) {
            assert!((got - want).abs() < 5e-3 * want, "{hop} steps behind it: {got} {want}");
        }
    }
}

#[test]
fn the_student_goes_in_the_direction_and_the_critic_learns_its_clips() {
    let (device, folder) = (cpu(), tempfile::tempdir().expect("a folder"));
    let template = toy::template(&toy::model(folder.path()));
    let task = task(&template, &device);
    let batch = batch_at(1);
    let tensor = |values: &[f32]| Tensor::<5>::from_data(TensorData::new(values.to_vec(), batch.clips.shape), &device.device);
    let text = task.teacher.embed(batch.clips.captions.clone());

    let mut of_student = trainer(&template, OptimiserSettings { muon_learning_rate: 0.0, ..quick(dmd::OPTIMISER) }, &device);
    let networks = of_student.averaged();
    // From one place on the student's way: what it did before must not count here.
    let clip = |student: &Transformer| wide(read(task.way(student, tensor(&batch.clips.noise), 0, &text).0));
    let batch_at_top = batch_at(0);
    let batch_at_top =
        DmdBatch { clips: DistillBatch { noise: batch.clips.noise.clone(), ..batch_at_top.clips.clone() }, ..batch_at_top };
    let text = task.teacher.embed(batch_at_top.clips.captions.clone());
    let before = clip(&networks.student);
    let (shown, [_, end]) = task.way(&networks.student, tensor(&batch.clips.noise), 0, &text);
    let (noise, times) = (tensor(&batch_at_top.noise), &batch_at_top.clips.times);
    let [direction, _] = task.direction(&networks.critic, (shown.without_autodiff(), end), noise, times, &text);
    step(&mut of_student, &task, &batch_at_top, 0.01);
    let after = clip(&of_student.averaged().student);
    let along: f64 = before.iter().zip(&after).zip(wide(read(direction))).map(|((a, b), way)| (a - b) * way).sum();
    assert!(along > 0.0, "clips move against the difference: {along}");

    let still = OptimiserSettings { learning_rate: 0.0, muon_learning_rate: 0.02, average_decay: 0.5, ..dmd::OPTIMISER };
    let mut of_critic = trainer(&template, still, &device);
    let missed = |networks: &Pair| read(task.loss(networks, batch.clone()).numbers.remove(1))[0];
    let (student, before) = (clip(&networks.student), missed(&networks));
    (0..60).for_each(|_| step(&mut of_critic, &task, &batch, 1.0));
    let networks = of_critic.averaged();
    assert!(missed(&networks) < 0.9 * before, "{before} {}", missed(&networks));
    // But for the rounding of an average of equal values.
    assert_near(&clip(&networks.student), &student, 1e-4, "the student has a rate of its own");
}

#[test]
fn a_run_that_was_stopped_goes_on_and_the_student_is_published() {
    let (device, folder) = (cpu(), tempfile::tempdir().expect("a folder"));
    let template = toy::template(&toy::model(folder.path()));
    let (task, data) = (task(&template, &device), DmdData { clips: DistillData { part: 2, ..data().clips }, ..data() });
    let fresh = || trainer(&template, dmd::OPTIMISER, &device);
    assert_resumes(&task, &data, &fresh, folder.path(), dmd::DMD);
    let mut trainer = fresh();
    let run = RunFolder::new(folder.path(), dmd::DMD);
    train(&task, &data, &mut trainer, &plan(2), &run, &mut Seen::default(), None).expect("a run");
    assert_published(folder.path(), dmd::DMD, &trainer.averaged().student, &device);
}
