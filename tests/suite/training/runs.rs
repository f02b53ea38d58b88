//! The loop with one linear layer: resuming, stopping, and what goes wrong.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use tilereel::gpu::device::ComputeDevice;
use tilereel::model::layers::Linear;
use tilereel::model::noise::normal;
use tilereel::model::weights::{InitialValues, Loader, PublishedParameters, WrittenType, write_safetensors};
use tilereel::training::TrainError;
use tilereel::training::checkpoint::{file, packed};
use tilereel::training::folder::RunFolder;
use tilereel::training::optimiser::OptimiserSettings;
use tilereel::training::parameters::Parameters;
use tilereel::training::random::{Random, Stream};
use tilereel::training::replicas::Replicas;
use tilereel::training::run::{Batches, Ended, Task, train};
use tilereel::training::sums::mean;
use tilereel::training::trainer::{Loss, Trainer};

use super::{Seen, cpu, plan};

const INPUTS: usize = 6;
const OUTPUTS: usize = 4;
const ROWS: usize = 16;

const SETTINGS: OptimiserSettings = OptimiserSettings {
    learning_rate: 1e-2,
    muon_learning_rate: 2e-2,
    betas: [0.9, 0.99],
    momentum: 0.95,
    weight_decay: 0.01,
    largest_norm: 1.0,
    average_decay: 0.9,
};

#[derive(Debug)]
struct Small;

impl InitialValues for Small {
    fn values(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        (0..shape.iter().product::<usize>()).map(|i| 0.1 * normal(1, name.len() as u64, i as u64)).collect()
    }
}

fn trainer(device: &ComputeDevice, seed: u64) -> Trainer<Linear> {
    let noted = PublishedParameters::default();
    let mut loader = Loader::initial(&Small, device).noting(&noted);
    let layer = loader.linear("layer", INPUTS, OUTPUTS, true);
    loader.finish(|_| false).expect("initial values fit");
    let parameters = Parameters::of(&[("layer", noted)], &|_, _| Some(1.0));
    Trainer::new(layer, parameters, SETTINGS, "layer", seed, device)
}

/// Learns a linear map from noise.
struct LinearTask {
    device: ComputeDevice,
}

struct LinearData {
    random: Random,
    /// The step in which the data is no number.
    bad_step: Option<u64>,
}

impl Batches for LinearData {
    type Batch = Vec<f32>;

    fn make(&self, step: u64) -> Result<Vec<Vec<f32>>, TrainError> {
        let mut values = self.random.normal(Stream::Noise, step, ROWS * INPUTS);
        if self.bad_step == Some(step) {
            values[3] = f32::NAN;
        }
        // In two parts.
        let half = values.split_off(ROWS / 2 * INPUTS);
        Ok(vec![values, half])
    }
}

impl Task for LinearTask {
    type Network = Linear;
    type Batch = Vec<f32>;

    fn numbers(&self) -> &'static [&'static str] {
        &["squared_error"]
    }

    fn samples_a_step(&self) -> usize {
        ROWS
    }

    fn loss(&self, network: &Linear, batch: Vec<f32>) -> Loss {
        let device = self.device.device.clone().autodiff();
        let rows = batch.len() / INPUTS;
        let wanted: Vec<f32> = batch
            .chunks_exact(INPUTS)
            .flat_map(|row| (0..OUTPUTS).map(|output| row[output] * 2.0 - row[output + 1] + 0.5).collect::<Vec<_>>())
            .collect();
        let x = Tensor::<2>::from_data(TensorData::new(batch, [rows, INPUTS]), &device);
        let wanted = Tensor::<2>::from_data(TensorData::new(wanted, [rows, OUTPUTS]), &device);
        let error = network.forward(x) - wanted;
        let squared = mean(error.clone() * error);
        Loss { total: squared.clone(), numbers: vec![squared] }
    }

    fn sheet(&self, _: &Linear, _: &Path) -> Result<(), TrainError> {
        Ok(())
    }

    fn publish(&self, trainer: &Trainer<Linear>, folder: &RunFolder) -> Result<(), TrainError> {
        let tensors = trainer.parameters().published("layer", &trainer.average()?);
        Ok(write_safetensors(&folder.network("layer").join("layer.safetensors"), &tensors, WrittenType::F32)?)
    }
}

struct Bench {
    task: LinearTask,
    data: LinearData,
    trainer: Trainer<Linear>,
    folder: RunFolder,
}

/// Of the whole run.
const STEPS: u64 = 60;

impl Bench {
    fn new(root: &Path) -> Self {
        let device = cpu();
        Self {
            trainer: trainer(&device, 5),
            task: LinearTask { device },
            data: LinearData { random: Random::new(5), bad_step: None },
            folder: RunFolder::new(root, "layer"),
        }
    }

    fn train(&mut self, seen: &mut Seen) -> Result<Ended, TrainError> {
        train(&self.task, &self.data, &mut self.trainer, &plan(STEPS), &self.folder, seen, None)
    }
}

#[test]
fn a_run_that_was_stopped_is_the_undisturbed_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut whole = Bench::new(&folder.path().join("whole"));
    let mut seen = Seen::default();
    assert_eq!(whole.train(&mut seen).expect("a run"), Ended::Done);
    let losses = |seen: &Seen| seen.reports.iter().map(|report| report.numbers[0].1).collect::<Vec<f64>>();
    let losses = losses(&seen);
    assert!(losses.len() >= 3 && losses[losses.len() - 1] < 0.7 * losses[0], "it learns: {losses:?}");

    let root = folder.path().join("stopped");
    let mut first = Bench::new(&root);
    assert_eq!(first.train(&mut Seen::stopping_after(23)).expect("a session"), Ended::Stopped);
    assert_eq!(first.trainer.progress.step, 23);
    let mut second = Bench::new(&root);
    let checkpoint = file::read(&second.folder.checkpoint()).expect("a checkpoint");
    checkpoint.check(second.trainer.identity(), &root).expect("it is of this run");
    second.trainer.resume(checkpoint);
    assert_eq!(second.train(&mut Seen::default()).expect("a session"), Ended::Done);

    let read = |bench: &Bench| file::read(&bench.folder.checkpoint()).expect("a checkpoint");
    let (undisturbed, resumed) = (read(&whole), read(&second));
    assert_eq!(undisturbed.vectors, resumed.vectors, "bit for bit");
    assert_eq!(undisturbed.progress.step, resumed.progress.step);
    let published = |bench: &Bench| std::fs::read(bench.folder.network("layer").join("layer.safetensors")).expect("a file");
    assert_eq!(published(&whole), published(&second));
    let table = std::fs::read_to_string(second.folder.curves_csv()).expect("a table");
    assert!(table.lines().count() >= 4 && second.folder.curves_png().is_file(), "{table}");
}

#[test]
fn a_packed_checkpoint_goes_on_near_the_exact_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = Bench::new(folder.path());
    first.train(&mut Seen::stopping_after(30)).expect("a session");
    let finish = |resumed: tilereel::training::checkpoint::Checkpoint| {
        let mut bench = Bench::new(&folder.path().join("further"));
        bench.trainer.resume(resumed);
        let mut seen = Seen::default();
        bench.train(&mut seen).expect("a session");
        seen.reports.last().expect("a report").numbers[0].1
    };
    let exact = finish(file::read(&first.folder.checkpoint()).expect("a checkpoint"));
    let small = finish(packed::read(&first.folder.packed()).expect("a checkpoint"));
    assert!((exact - small).abs() < 0.02 * exact, "{exact} {small}");
}

#[test]
fn numbers_that_are_none_end_the_run_and_keep_the_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = Bench::new(folder.path());
    first.train(&mut Seen::stopping_after(10)).expect("a session");
    let kept = std::fs::read(first.folder.checkpoint()).expect("a checkpoint");
    first.data.bad_step = Some(25);
    let error = first.train(&mut Seen::default()).expect_err("it diverged").to_string();
    assert!(error.contains("diverged") && error.contains("checkpoint") && error.contains("--learning-rate"), "{error}");
    assert_eq!(std::fs::read(first.folder.checkpoint()).expect("kept"), kept);
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").expect("written");
    let error = Bench::new(&file).train(&mut Seen::stopping_after(2)).expect_err("it is no folder").to_string();
    assert!(error.contains("cannot make the folder") && error.contains("Choose another"), "{error}");
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = Bench::new(folder.path());
    first.train(&mut Seen::stopping_after(2)).expect("a session");
    let checkpoint = file::read(&first.folder.checkpoint()).expect("a checkpoint");
    let other = trainer(&cpu(), 6);
    let error = checkpoint.check(other.identity(), &first.folder.checkpoint()).expect_err("another seed").to_string();
    assert!(error.contains("seed 5, not 6"), "{error}");
}

/// Two parts over one, two and three devices: the third of those has none.
#[test]
fn devices_that_share_a_batch_take_the_steps_of_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |others: usize| {
        let mut bench = Bench::new(&folder.path().join(others.to_string()));
        // They begin elsewhere: the leader's state is what counts.
        let make = |device: &ComputeDevice| Ok((LinearTask { device: device.clone() }, trainer(device, 77)));
        let devices = vec![cpu(); others];
        let replicas = Replicas { devices: &devices, make: &make };
        let (Bench { task, data, trainer, folder }, mut seen) = (&mut bench, Seen::default());
        let ended = train(task, data, trainer, &plan(STEPS), folder, &mut seen, Some(&replicas)).expect("a run");
        assert_eq!(ended, Ended::Done);
        let losses: Vec<f64> = seen.reports.iter().map(|report| report.numbers[0].1).collect();
        (file::read(&bench.folder.checkpoint()).expect("a checkpoint").vectors, losses)
    };
    let (alone, losses) = run(0);
    for others in [1, 2] {
        let (together, their_losses) = run(others);
        let largest = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest(&alone.master, &together.master) < 1e-5, "{others} others");
        assert!(largest(&alone.average, &together.average) < 1e-5, "{others} others");
        assert!(losses.iter().zip(&their_losses).all(|(a, b)| (a - b).abs() < 1e-5 * a), "{losses:?} {their_losses:?}");
    }
}

#[test]
fn a_device_that_fails_ends_the_run_with_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bench = Bench::new(folder.path());
    let make = |device: &ComputeDevice| -> Result<(LinearTask, Trainer<Linear>), TrainError> {
        Err(TrainError::DeviceFailed { step: 0, reason: format!("{}: no memory", device.name) })
    };
    let devices = [ComputeDevice { name: "the second".into(), ..cpu() }];
    let replicas = Replicas { devices: &devices, make: &make };
    let Bench { task, data, trainer, folder } = &mut bench;
    let ended = train(task, data, trainer, &plan(STEPS), folder, &mut Seen::default(), Some(&replicas));
    let error = ended.expect_err("it failed").to_string();
    assert!(error.contains("the second: no memory"), "{error}");
}
