//! A graphics device that goes away in the middle of the work.
//!
//! All adapters of a process are shared, so these tests run in a process of their own: one that kills devices beside others
//! that count on them would fail those.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tilereel::generate::GenerateError;
use tilereel::generate::observer::{Observer, Phase};
use tilereel::generate::pipeline::{LoadedModel, Outcome, RunOptions};
use tilereel::generate::recipe::Recipe;
use tilereel::gpu::device::{self, ComputeDevice, DeviceChoice, Precision};
use tilereel::studio::{DeviceWish, Draft, Engine, EngineError, Event, Feed, ModelInfo, NewItem, Studio, Ticket};

use super::studio::{Place, wait};

const ALONE: &str = "TILEREEL_TEST_ALONE";
const PATIENCE: Duration = Duration::from_secs(300);

/// An adapter, a software one if there is no other.
fn adapter() -> Option<ComputeDevice> {
    let adapters = device::adapters();
    let Some(adapter) = adapters.iter().find(|adapter| !adapter.software).or(adapters.first()) else {
        println!("skipped: there is no adapter that could be lost");
        assert!(std::env::var_os("CI").is_none(), "CI needs an adapter, a software one at least");
        return None;
    };
    Some(device::open(&DeviceChoice::Index(adapter.index), Some(Precision::F32)).expect("the adapter opens"))
}

/// Runs the test of this name in a process of its own; true in that process.
fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let program = std::env::current_exe().expect("this program");
    let name = format!("device_lost::{test}");
    let output = Command::new(program).args([&name, "--exact", "--nocapture"]).env(ALONE, "1").output().expect("it starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// As a driver's reset does it to all work at once.
fn lose(device: &ComputeDevice) {
    device.current().expect("a device").wgpu_device().expect("it is no CPU").destroy();
}

fn recipe(seed: u64) -> (ModelInfo, Recipe) {
    let model = ModelInfo::open("fast").expect("mini");
    let mut draft = Draft::of_model("fast", model.folder.facts());
    (draft.prompt, draft.seed, draft.steps) = ("a red ball".into(), seed, 5);
    (draft.frames, draft.width, draft.height) = (5, 64, 32);
    let recipe = draft.recipe(&model, Precision::F32).expect("a recipe");
    (model, recipe)
}

/// Passes a run's events on, and loses the device where it is told to.
struct Saboteur<'a> {
    feed: &'a mut Feed,
    device: &'a ComputeDevice,
    at: Moment,
    /// How many losses are to come.
    losses: &'a AtomicUsize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    Phase(Phase),
    /// Behind this call, counted from 0.
    Call(usize),
}

impl Saboteur<'_> {
    fn reached(&self, moment: Moment) {
        let once = |left: usize| left.checked_sub(1);
        if moment == self.at && self.losses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, once).is_ok() {
            lose(self.device);
        }
    }
}

impl Observer for Saboteur<'_> {
    fn phase(&mut self, phase: Phase) {
        self.feed.phase(phase);
        self.reached(Moment::Phase(phase));
    }

    fn step(&mut self, call: usize, calls: usize, millis: f64) {
        self.feed.step(call, calls, millis);
        self.reached(Moment::Call(call));
    }
}

/// A run on the engine whose device is lost so many times at a moment.
fn sabotaged(engine: &Engine, device: &ComputeDevice, at: Moment, losses: usize) -> Ticket<Outcome> {
    let (model, recipe) = recipe(1);
    let (device, losses) = (device.clone(), Arc::new(AtomicUsize::new(losses)));
    engine.submit(move |workshop, feed| {
        let work = |model: &mut LoadedModel, options: &RunOptions, feed: &mut Feed| {
            model.run(&recipe, options, &mut Saboteur { feed, device: &device, at, losses: &losses })
        };
        workshop.run(&model.folder, &device, RunOptions::default(), feed, work)
    })
}

fn result(ticket: &Ticket<Outcome>) -> Result<Outcome, EngineError> {
    ticket.result(PATIENCE).expect("the run ends by itself")
}

/// The calls that were made, in order, and what was said about losses.
fn events(ticket: &Ticket<Outcome>) -> (Vec<usize>, Vec<String>) {
    let (mut calls, mut said) = (Vec::new(), Vec::new());
    while let Some(event) = ticket.next_event(Duration::ZERO) {
        match event {
            Event::Step { call, .. } => calls.push(call),
            Event::Recovered(what) => said.push(what),
            Event::Phase(_) | Event::Warning(_) => {}
        }
    }
    (calls, said)
}

#[test]
fn a_run_goes_on_behind_its_last_step_to_the_same_bytes() {
    let Some(device) = adapter() else { return };
    if !is_alone("a_run_goes_on_behind_its_last_step_to_the_same_bytes") {
        return;
    }
    let engine = Engine::start().expect("a thread");
    let undisturbed = sabotaged(&engine, &device, Moment::Call(0), 0);
    let want = result(&undisturbed).expect("a clip").frames.sha256();
    assert_eq!(events(&undisturbed), ((0..5).collect(), Vec::new()));

    for (at, behind) in [
        (Moment::Phase(Phase::Text), "began anew"),
        (Moment::Phase(Phase::Sampling), "began anew"),
        (Moment::Call(2), "behind step 3"),
        (Moment::Phase(Phase::Decoding), "behind step 5"),
    ] {
        let run = sabotaged(&engine, &device, at, 1);
        let outcome = result(&run).unwrap_or_else(|error| panic!("lost at {at:?}: {error}"));
        let (calls, said) = events(&run);
        assert_eq!(calls, (0..5).collect::<Vec<_>>(), "lost at {at:?}: no step is made twice");
        assert!(said.len() == 1 && said[0].contains(behind), "lost at {at:?}: {said:?}");
        assert_eq!(outcome.frames.sha256(), want, "lost at {at:?}");
        assert!(outcome.earlier_devices.is_empty(), "it is the same adapter");
    }
}

#[test]
fn a_device_that_keeps_going_away_ends_the_run_with_a_reason() {
    let Some(device) = adapter() else { return };
    if !is_alone("a_device_that_keeps_going_away_ends_the_run_with_a_reason") {
        return;
    }
    let engine = Engine::start().expect("a thread");
    let run = sabotaged(&engine, &device, Moment::Phase(Phase::Sampling), usize::MAX);
    let error = result(&run).err().expect("it cannot end well");
    assert!(matches!(&error, EngineError::Generate(GenerateError::DeviceLost { .. })), "{error:?}");
    assert!(error.to_string().contains("again before another step"), "{error}");
    let (calls, said) = events(&run);
    assert_eq!((calls.len(), said.len()), (0, 1), "it was tried once more: {said:?}");
    let run = sabotaged(&engine, &device, Moment::Phase(Phase::Decoding), 1);
    assert!(result(&run).is_ok(), "the next job has a device that works");
}

#[test]
fn the_studio_keeps_the_clip_and_says_what_happened() {
    let Some(device) = adapter() else { return };
    if !is_alone("the_studio_keeps_the_clip_and_says_what_happened") {
        return;
    }
    let place = Place::new();
    let index = device.adapter.as_ref().expect("an adapter").index;
    let wish = DeviceWish { choice: DeviceChoice::Index(index), precision: Some(Precision::F32), residency: Default::default() };
    let studio = Studio::open(place.home.clone(), wish).expect("a studio");
    let make = |losses: usize| {
        let before = studio.state().newest;
        let recipe = recipe(1).1;
        studio.enqueue(&[NewItem { recipe, model: "fast".into(), leaves: None, force: false }]).expect("queued");
        for loss in 0..losses {
            wait(&studio, "a step", |state| state.live.as_ref().filter(|live| live.calls_done > loss).map(|_| ()));
            lose(&device);
            wait(&studio, "the warning", |state| state.live.as_ref().filter(|live| live.warnings.len() > loss).map(|_| ()));
        }
        let newest = wait(&studio, "a clip", |state| {
            assert!(state.queue.iter().all(|item| item.report.is_none()), "{:?}", state.queue);
            state.newest.filter(|newest| Some(*newest) != before)
        });
        studio.clip(newest).expect("the clip")
    };
    let (undisturbed, disturbed) = (make(0), make(1));
    let sha256 = |clip: &tilereel::studio::ClipEntry| clip.recipe.made.as_ref().expect("made").frames_sha256.clone();
    assert_eq!(sha256(&disturbed), sha256(&undisturbed));
    assert!(disturbed.badges.iter().any(|badge| badge.contains("was lost")), "{:?}", disturbed.badges);
    assert!(studio.state().notes.iter().any(|note| note.contains("was lost")), "{:?}", studio.state().notes);
    assert_eq!(studio.steps_of(disturbed.id), 5);

    // Lost while nothing runs: work beside the queue fails once, in words, and works again.
    lose(&device);
    let decode = || {
        let task = studio.decode_step(disturbed.id, 2).expect("a task");
        let start = std::time::Instant::now();
        loop {
            if let Some(result) = task.take_result() {
                return result.map_err(|error| error.to_string());
            }
            assert!(start.elapsed() < PATIENCE, "the task does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let first = decode().expect_err("its device is gone");
    assert!(first.contains("was lost while it worked"), "{first}");
    decode().expect("the new device works");
}
