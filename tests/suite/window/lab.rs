//! The lab page over a real studio, with a model at toy size on the CPU: a search, a student that is paused and goes on, what is
//! kept of them, and what cannot be.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use eframe::egui::{Theme, Vec2};
use egui_kittest::kittest::Queryable;
use egui_kittest::{Harness, SnapshotResults};
use tilereel::app::Window;
use tilereel::app::action::Action;
use tilereel::app::lab::LabAction;
use tilereel::app::layout::Pane;
use tilereel::generate::recipe::MaskChoice;
use tilereel::mask::MaskPlan;
use tilereel::studio::{
    Draft, ItemState, LabGoal, LabLength, LabRun, LabStage, LabWish, LabWork, ModelInfo, NewItem, Opened, Studio,
};

use super::feel::offered;
use super::states::{PIXELS_OF_NUMBERS, paints_in_software, picture};
use super::whole::{act, options, wait};
use crate::studio::Place;
use crate::training::toy;

/// A window with the lab in front, whose form is about the toy model.
fn lab(place: &Place, model: &Path, change: impl FnOnce(&mut LabWish)) -> Harness<'static, Window> {
    let studio = Arc::new(place.open());
    let options = options(place);
    let mut harness = Harness::builder()
        .with_size(Vec2::new(1440.0, 1100.0))
        .with_step_dt(1.0 / 24.0)
        .build_eframe(move |context| Window::new(context, studio, options));
    let wish = harness.state_mut().lab_mut().wish_mut();
    wish.model = model.display().to_string();
    wish.prompt = "a red ball".into();
    (wish.search.prompts, wish.search.times, wish.search.threshold) = (2, 2, 0.5);
    (wish.distil.length, wish.distil.clips, wish.distil.batch, wish.distil.part) = (LabLength::Steps, 5, 2, 2);
    change(wish);
    act(&mut harness, Action::Reveal(Pane::Lab));
    wait(&mut harness, "the device and the model", |window| window.is_ready());
    harness.run_steps(3);
    harness
}

fn run(window: &Window) -> Option<Arc<LabRun>> {
    window.studio().state().lab.clone()
}

fn is(window: &Window, stage: &LabStage) -> bool {
    run(window).is_some_and(|run| run.stage == *stage)
}

fn says(harness: &Harness<'_, Window>, words: &str) -> bool {
    harness.query_all_by_label_contains(words).next().is_some()
}

fn start(harness: &mut Harness<'_, Window>) {
    wait(harness, "what it costs", |window| window.lab().can_start(&window.studio().state()).is_ok());
    harness.run_steps(2);
    let button = harness.query_all_by_label_contains("Start: ").next().expect("the button");
    button.click_accesskit();
    harness.run_steps(2);
}

fn press(harness: &mut Harness<'_, Window>, name: &str) {
    harness.get_by_label(name).click_accesskit();
    harness.run_steps(3);
}

#[test]
fn a_mask_is_searched_and_a_student_taught_with_it() {
    let (place, folder) = (Place::new(), tempfile::tempdir().expect("a folder"));
    let model = toy::model(folder.path());
    let mut harness = lab(&place, &model, |_| {});
    // What it costs stands there before the start, and the command that does the same.
    wait(&mut harness, "what it costs", |window| window.lab().can_start(&window.studio().state()).is_ok());
    harness.run_steps(2);
    for cost in ["Time of the lab: ", "Memory of the lab: ", "Disk of the lab: ", "tilereel search --model"] {
        assert!(says(&harness, cost), "{cost} is not on the page");
    }
    assert!(offered(&mut harness).contains("Lab"), "the list of commands can start it");
    start(&mut harness);
    wait(&mut harness, "the plan", |window| is(window, &LabStage::Done));
    harness.run_steps(3);
    let searched = run(harness.state()).expect("a run");
    let trade = searched.trade.as_ref().expect("what plans cost");
    assert_eq!((trade.layers_measured, trade.layers), (toy::LAYERS, toy::LAYERS));
    let plan = MaskPlan::load(&harness.state().studio().lab_result(LabWork::Search)).expect("a plan");
    assert!((trade.chosen.expect("a plan").tiles - plan.density()).abs() < 1e-9, "the marked point is the plan");
    assert!(says(&harness, "Plans by error and cost; ") && says(&harness, "Chosen: "));
    let samples = searched.samples.as_ref().expect("two clips");
    assert_eq!(samples.each_ref().map(|clip| (clip.count(), clip.width)), [(13, 32); 2]);
    assert!(says(&harness, "Sample: With every tile") && says(&harness, "Sample: With the plan"));

    // The command that the page shows finds the same.
    run_command(folder.path(), &harness.state().studio().lab_command(&searched.wish));
    let by_command = MaskPlan::load(&folder.path().join("plan.json")).expect("a plan");
    assert_eq!(by_command.layers(), plan.layers());

    press(&mut harness, "Keep the plan");
    let kept = place.home.masks_folder().join("base-searched.json");
    assert_eq!(MaskPlan::load(&kept).expect("it is kept").layers(), plan.layers());
    assert_eq!(harness.state().draft().mask, MaskChoice::File(kept.clone()));
    assert_eq!(harness.state().draft().model, model.display().to_string());
    assert!(run(harness.state()).is_none() && !place.home.folder().join("lab").exists());

    // The plan is the student's at once.
    press(&mut harness, "Teach a student");
    assert_eq!(harness.state().lab().wish().distil.plan, Some(kept));
    let mut short = harness.state().lab().wish().clone();
    short.distil.steps = 1;
    run_command(folder.path(), &harness.state().studio().lab_command(&short));
    assert!(folder.path().join("my-model/fast/mask_plan.json").is_file(), "the command makes a student too");
    harness.state_mut().lab_mut().wish_mut().distil.steps = 120;
    start(&mut harness);
    wait(&mut harness, "a loss", |window| run(window).is_some_and(|run| !run.curves.is_empty()));
    harness.run_steps(2);
    assert!(says(&harness, "What the student loses; loss: "));
    // What is queued now waits, and is told so.
    let studio = harness.state().studio();
    let ids = studio.enqueue(&[clip_of(&model)]).expect("queued");
    harness.run_steps(3);
    assert!(says(&harness, "1 clip waits in the queue until the lab is paused or over"));
    press(&mut harness, "Pause");
    wait(&mut harness, "the pause", |window| is(window, &LabStage::Paused));
    let paused = run(harness.state()).expect("a run");
    assert!(paused.has_result, "a paused student can be kept");
    assert!(place.home.folder().join("lab/model/training/kd/checkpoint.safetensors").is_file());
    let step = paused.curves.last().expect("a look").step;
    assert!(step < 120, "it was paused on the way");
    wait(&mut harness, "the clip", |window| window.studio().state().queue.iter().all(|item| item.id != ids[0]));

    // It goes on after a restart.
    drop(harness);
    let mut harness = lab(&place, &model, |_| {});
    let again = run(harness.state()).expect("it is there again");
    assert_eq!((&again.stage, again.wish.work), (&LabStage::Paused, LabWork::Distil));
    assert_eq!(again.curves.last().map(|row| row.step), Some(step));
    press(&mut harness, "Go on");
    wait(&mut harness, "the student", |window| is(window, &LabStage::Done));
    let taught = run(harness.state()).expect("a run");
    assert_eq!(taught.curves.last().map(|row| row.step), Some(120));
    assert!(taught.curves.first().is_some_and(|row| row.step <= step), "the curves go on");
    assert!(taught.samples.is_some());
    harness.run_steps(3);
    press(&mut harness, "Keep the model");
    let kept = place.home.models_folder().join("base-sparse/base-sparse");
    assert_eq!(harness.state().draft().model, kept.display().to_string());
    let info = ModelInfo::open(&kept.display().to_string()).expect("a model");
    assert_eq!(info.searched_plan(toy::FRAMES).expect("its masks").layers(), plan.layers());
    wait(&mut harness, "the menu", |window| {
        let entries = window.studio().catalog().entries();
        entries.is_some_and(|entries| entries.iter().any(|entry| entry.location == kept.display().to_string()))
    });
    assert!(!place.home.folder().join("lab").exists());
}

fn run_command(folder: &Path, command: &str) {
    let words = command.strip_prefix("tilereel ").expect("a command of this program").split(' ');
    let mut program = Command::new(env!("CARGO_BIN_EXE_tilereel"));
    let ran = program.args(words).current_dir(folder).env("TILEREEL_DATA", folder.join("data")).output().expect("it starts");
    assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
}

fn clip_of(model: &Path) -> NewItem {
    let name = model.display().to_string();
    let info = ModelInfo::open(&name).expect("the toy model");
    let mut draft = Draft::of_model(&name, info.folder.facts());
    (draft.prompt, draft.steps) = ("a cube".into(), 2);
    let recipe = draft.recipe(&info, tilereel::gpu::device::Precision::F32).expect("a recipe");
    NewItem { recipe, model: name, leaves: None, force: false }
}

#[test]
fn a_stopped_lab_leaves_a_checkpoint_and_goes_when_it_is_discarded() {
    let (place, folder) = (Place::new(), tempfile::tempdir().expect("a folder"));
    let model = toy::model(folder.path());
    let plan = folder.path().join("plan.json");
    toy::sparse().save(&plan).expect("written");
    let mut harness = lab(&place, &model, |wish| {
        (wish.work, wish.distil.plan) = (LabWork::Distil, Some(plan));
        wish.distil.steps = 100_000;
    });
    start(&mut harness);
    wait(&mut harness, "a loss", |window| run(window).is_some_and(|run| !run.curves.is_empty()));
    // The window closes while the lab works.
    drop(harness);
    assert!(place.home.folder().join("lab/model/training/kd/checkpoint.safetensors").is_file());
    let mut harness = lab(&place, &model, |_| {});
    assert!(is(harness.state(), &LabStage::Paused));
    // A result is not thrown away by one click.
    press(&mut harness, "Discard");
    assert!(run(harness.state()).is_some());
    press(&mut harness, "Really discard");
    assert!(run(harness.state()).is_none() && !place.home.folder().join("lab").exists());
    assert!(harness.state().lab().can_start(&harness.state().studio().state()).is_ok() || says(&harness, "Start: "));
}

#[test]
fn what_goes_wrong_is_told_on_a_card() {
    let (place, folder) = (Place::new(), tempfile::tempdir().expect("a folder"));
    let model = toy::model(folder.path());
    std::fs::create_dir_all(place.home.folder()).expect("a folder");
    // No folder can be made where a file is.
    std::fs::write(place.home.folder().join("lab"), "in the way").expect("written");
    let mut harness = lab(&place, &model, |_| {});
    start(&mut harness);
    wait(&mut harness, "the failure", |window| run(window).is_some_and(|run| matches!(run.stage, LabStage::Failed(_))));
    harness.run_steps(2);
    assert!(says(&harness, "A file could not be written") && says(&harness, "Check that you may write there"));
    std::fs::remove_file(place.home.folder().join("lab")).expect("removed");
    press(&mut harness, "Try again");
    wait(&mut harness, "the plan", |window| is(window, &LabStage::Done));
    act(&mut harness, Action::Lab(LabAction::Discard));

    // A plan that no mask keeps.
    let wish = harness.state_mut().lab_mut().wish_mut();
    (wish.search.goal, wish.search.most_tiles) = (LabGoal::MostTiles, 0.01);
    start(&mut harness);
    wait(&mut harness, "the failure", |window| run(window).is_some_and(|run| matches!(run.stage, LabStage::Failed(_))));
    harness.run_steps(2);
    assert!(says(&harness, "These settings cannot be used") && says(&harness, "No plan keeps that limit"));
    press(&mut harness, "Change the settings");
    assert!(run(harness.state()).is_none());

    // A model that is none, and a student without masks, are told before the start.
    harness.state_mut().lab_mut().wish_mut().model = "/no/such/model".into();
    wait(&mut harness, "the answer", |window| matches!(window.studio().catalog().get("/no/such/model"), Opened::Failed(_)));
    harness.run_steps(3);
    let problem = harness.state().lab().can_start(&harness.state().studio().state()).expect_err("no model");
    assert!(problem.contains("cannot be used"), "{problem}");
    harness.state_mut().lab_mut().wish_mut().model = model.display().to_string();
    press(&mut harness, "Teach a student");
    assert!(says(&harness, "Choose the plan that the student is to have"));
}

#[test]
fn a_plan_of_another_model_is_refused() {
    let (place, folder) = (Place::new(), tempfile::tempdir().expect("a folder"));
    let model = toy::model(folder.path());
    let plan: PathBuf = folder.path().join("other.json");
    MaskPlan::uniform(5, toy::FRAMES, "1:3").expect("a plan").save(&plan).expect("written");
    let mut harness = lab(&place, &model, |wish| (wish.work, wish.distil.plan) = (LabWork::Distil, Some(plan)));
    wait(&mut harness, "the answer", |window| {
        let state = window.studio().state();
        window.lab().can_start(&state).is_err_and(|problem| problem.contains("5 layers"))
    });
    let nothing: &Studio = harness.state().studio();
    assert!(nothing.state().queue.iter().all(|item| item.state != ItemState::Running));
}

#[test]
fn it_looks_as_it_should() {
    if !paints_in_software() {
        return;
    }
    let mut results = SnapshotResults::new();
    let place = Place::new();
    let studio = Arc::new(place.open());
    studio.database().set_preference("window", &serde_json::json!({ "hint_seen": true })).expect("it is kept");
    let mut wish = LabWish { model: "fast".into(), ..LabWish::default() };
    // As few as give a chart.
    (wish.search.prompts, wish.search.times) = (1, 2);
    studio.remember_lab_wish(&wish).expect("it is kept");
    let options = options(&place);
    let builder = Harness::builder().with_size(Vec2::new(1440.0, 900.0)).with_theme(Theme::Dark).with_step_dt(1.0 / 24.0);
    let mut harness = builder.wgpu().build_eframe(move |context| Window::new(context, studio, options));
    act(&mut harness, Action::Reveal(Pane::Lab));
    wait(&mut harness, "the device and the model", |window| window.is_ready());
    // The samples stand still.
    act(&mut harness, Action::ReducedMotion(true));
    start(&mut harness);
    wait(&mut harness, "the search", |window| run(window).is_some_and(|run| run.has_result || !run.is_under_way()));
    wait(&mut harness, "the samples", |window| is(window, &LabStage::Done));
    assert!(run(harness.state()).is_some_and(|run| run.samples.is_some()));
    harness.ctx.memory_mut(|memory| memory.stop_text_input());
    harness.run_steps(4);
    picture(&mut harness, "lab-dark", PIXELS_OF_NUMBERS, &mut results);
}
