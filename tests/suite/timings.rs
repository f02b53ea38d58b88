//! Where the time of a run goes: the parts come to the whole, and change nothing.

use std::time::Instant;

use burn::tensor::Tensor;
use tilereel::generate::observer::{Observer, Phase, Unobserved};
use tilereel::generate::pipeline::{LoadedModel, RunOptions};
use tilereel::generate::recipe::Recipe;
use tilereel::generate::timings::{Share, Stopwatch, Timings};
use tilereel::gpu::device::{DeviceChoice, Precision, adapters, open};
use tilereel::gpu::spans::{self, Clock, Kind, Recording};
use tilereel::model::folder::{ModelFolder, SearchPath};
use tilereel::studio::ModelInfo;

#[test]
fn the_parts_of_a_run_come_to_its_wall_time() {
    let device = open(&DeviceChoice::Cpu, None).expect("a device");
    let folder = ModelFolder::resolve("fast", &SearchPath::standard()).expect("the model");
    let mut recipe = Recipe::of_model(&folder, "a red ball", Precision::F32).expect("a recipe");
    (recipe.frames, recipe.width, recipe.height, recipe.steps) = (9, 128, 64, 3);
    recipe.set_mask(&folder, &"dense".into()).expect("a mask");
    let run = |parts: bool| {
        let started = Instant::now();
        let mut watch = Stopwatch::start(&device, parts, Unobserved);
        watch.phase(Phase::Load);
        let mut model = LoadedModel::load(folder.clone(), &device).expect("a model");
        let outcome = model.run(&recipe, &RunOptions::default(), &mut watch).expect("a clip");
        (outcome, watch.finish(), started.elapsed().as_secs_f64())
    };
    let (outcome, timings, wall) = run(true);
    assert_eq!(timings.clock, Some(Clock::Wall));
    let off = |seconds: f64| (seconds / wall - 1.0).abs();
    assert!(off(timings.sum_seconds()) < 0.05 && off(timings.seconds) < 0.05, "{timings:?} of {wall} s");
    let shares = timings.shares();
    let share = |wanted: Share| shares.iter().find(|(share, _)| *share == wanted).map_or(0.0, |(_, seconds)| *seconds);
    for wanted in [Share::Text, Share::Attention, Share::Linear, Share::Normalisation, Share::Vae, Share::Copies] {
        assert!(share(wanted) > 0.0, "{wanted:?} took no time");
    }
    let network = timings.phases.iter().filter(|time| !time.parts.is_empty());
    let (inside, idle) = network.fold((0.0, 0.0), |(all, idle), time| (all + time.seconds, idle + time.idle_seconds()));
    println!("{:.1} % of {inside:.3} s are in no part", 100.0 * idle / inside);
    assert!(idle < 0.3 * inside, "{idle} of {inside} s are in no part");
    // Every layer is there, with all that it does.
    let sampling = timings.phase(Phase::Sampling).expect("sampling");
    let layers = sampling.layers();
    let blocks: Vec<_> = layers.iter().filter(|(name, _)| name.starts_with("layer ")).collect();
    assert_eq!(blocks.len(), ModelInfo::open("fast").expect("the model").layers);
    for (name, seconds) in blocks {
        for kind in [Kind::Attention, Kind::Linear, Kind::Normalisation] {
            assert!(seconds[kind as usize] > 0.0, "{name} has no {kind:?}");
        }
    }
    let steps: f64 = timings.step_seconds.iter().sum();
    assert!(timings.step_seconds.len() == 3 && steps <= sampling.seconds, "{steps} of {} s", sampling.seconds);

    let (plain, untimed, _) = run(false);
    assert_eq!(plain.frames.sha256(), outcome.frames.sha256());
    assert_eq!(plain.latent, outcome.latent);
    assert_eq!((untimed.clock, untimed.shares()), (None, Vec::new()));
    let again = Timings::from_json(&timings.to_json()).expect("it is read again");
    assert!((again.sum_seconds() - timings.sum_seconds()).abs() < 1e-9 && again.clock == timings.clock);
}

#[test]
fn on_an_adapter_parts_are_timed_by_its_own_clock() {
    let Some(adapter) = adapters().into_iter().find(|adapter| adapter.software) else {
        println!("skipped: there is no software adapter");
        assert!(std::env::var_os("CI").is_none(), "CI installs one");
        return;
    };
    let device = open(&DeviceChoice::Index(adapter.index), Some(Precision::F32)).expect("a device");
    let ones = Tensor::<2>::ones([256, 256], &device.device);
    let products = |times: usize| (0..times).fold(ones.clone(), |product, _| product.matmul(ones.clone()) * (1.0 / 256.0));
    let values = |tensor: Tensor<2>| tensor.try_into_vec_as::<f32>().expect("readable");
    // Shaders are compiled before.
    let plain = values(products(12));
    let mut recording = Recording::start(&device);
    assert_eq!(recording.clock(), if adapter.timestamps { Clock::Timestamps } else { Clock::Waits });
    let started = Instant::now();
    let few = spans::layer(|| "few".into(), || spans::span(Kind::Linear, || products(4)));
    let many = spans::layer(|| "many".into(), || spans::span(Kind::Linear, || products(12)));
    let timed = spans::span(Kind::Copy, || values(many));
    drop(few);
    let parts = recording.take();
    let wall = started.elapsed().as_secs_f64();
    assert_eq!(timed, plain, "what is timed is computed as ever");
    let names: Vec<_> = parts.iter().map(|part| (part.layer.as_str(), part.kind)).collect();
    assert_eq!(names, [("", Kind::Copy), ("few", Kind::Linear), ("many", Kind::Linear)]);
    let sum: f64 = parts.iter().map(|part| part.seconds).sum();
    println!("{:?}: {sum:.4} of {wall:.4} s", recording.clock());
    assert!(parts.iter().all(|part| part.seconds > 0.0), "{parts:?}");
    assert!(sum <= 1.05 * wall, "{sum} of {wall} s: windows overlap");
}
