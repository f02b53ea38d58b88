//! The whole window over a real studio: what a person does in their first minutes, and what stays of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eframe::egui::{Key, Modifiers, Vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use tilereel::app::action::Action;
use tilereel::app::stage::Stage;
use tilereel::app::{Window, WindowOptions};
use tilereel::clip::read_frames;
use tilereel::gpu::device::DeviceChoice;
use tilereel::studio::{ClipId, DeviceWish, Draft, ItemState, Studio};

use crate::studio::Place;

const PATIENCE: Duration = Duration::from_secs(120);
/// Until the device, the model and the first pictures are there.
const SETTLED_FRAMES: usize = 3;

pub fn options(place: &Place) -> WindowOptions {
    WindowOptions {
        home: place.home.clone(),
        device: DeviceWish { choice: DeviceChoice::Cpu, precision: None, residency: Default::default() },
        open: None,
        prompt: None,
        export_to: None,
        started: Instant::now(),
        bench: None,
    }
}

/// The window as it is a moment after its start.
pub fn window(place: &Place, change: impl FnOnce(&mut WindowOptions)) -> Harness<'static, Window> {
    let mut options = options(place);
    change(&mut options);
    let studio = Arc::new(place.open());
    let mut harness = Harness::builder()
        .with_size(Vec2::new(1440.0, 900.0))
        .with_step_dt(1.0 / 24.0)
        .build_eframe(move |context| Window::new(context, studio, options));
    wait(&mut harness, "the device and the model", |window| window.is_ready());
    harness.run_steps(SETTLED_FRAMES);
    harness
}

/// Paints until `done`.
pub fn wait(harness: &mut Harness<'_, Window>, what: &str, done: impl Fn(&Window) -> bool) {
    let start = Instant::now();
    while !done(harness.state()) {
        harness.step();
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn click(harness: &mut Harness<'_, Window>, name: &str) {
    harness.get_by_label(name).click();
    harness.run_steps(2);
}

pub fn press(harness: &mut Harness<'_, Window>, modifiers: Modifiers, key: Key) {
    harness.key_press_modifiers(modifiers, key);
    harness.run_steps(2);
}

pub fn act(harness: &mut Harness<'_, Window>, action: Action) {
    let context = harness.ctx.clone();
    harness.state_mut().act(&context, action);
}

fn studio<'a>(harness: &'a Harness<'_, Window>) -> &'a Studio {
    harness.state().studio()
}

fn shown(window: &Window) -> Option<ClipId> {
    window.stage().clip().map(|clip| clip.entry.id)
}

fn clips(window: &Window) -> usize {
    window.studio().clips(&Default::default()).expect("the clips").len()
}

/// Settings for a clip that takes a moment.
fn small(place: &Place, change: impl FnOnce(&mut Draft)) {
    let studio = place.open();
    let mut draft = tilereel::app::settings::first_draft();
    (draft.frames, draft.width, draft.height, draft.steps) = (5, 64, 32, 6);
    change(&mut draft);
    studio.database().set_preference("draft", &draft).expect("it is kept");
}

#[test]
fn the_first_clip_takes_one_click() {
    let place = Place::new();
    small(&place, |_| {});
    let mut harness = window(&place, |_| {});
    let example = shown(harness.state()).expect("the bundled example is on show");
    wait(&mut harness, "the example's frames", |window| window.player().textures().bytes() > 0);
    assert!(harness.state().player().state.playing, "it plays by itself");

    harness.get_by_label_contains("Make my first clip").click();
    harness.step();
    wait(&mut harness, "the run", |window| matches!(window.stage(), Stage::Live) || shown(window) != Some(example));
    wait(&mut harness, "the clip", |window| shown(window).is_some_and(|clip| clip != example));
    let made = studio(&harness).clip(shown(harness.state()).expect("a clip")).expect("its row");
    assert_eq!((made.recipe.frames, made.recipe.width, made.recipe.steps), (5, 64, 6));
    assert!(harness.query_by_label_contains("Make my first clip").is_none(), "it is no longer the first");
}

#[test]
fn a_step_is_scrubbed_to_and_left_with_another_prompt() {
    let place = Place::new();
    small(&place, |_| {});
    let mut harness = window(&place, |_| {});
    press(&mut harness, Modifiers::COMMAND, Key::Enter);
    wait(&mut harness, "a clip", |window| clips(window) == 2);
    wait(&mut harness, "it to be shown", |window| shown(window).is_some() && shown(window) == window.studio().state().newest);
    let original = shown(harness.state()).expect("the clip");
    // The prompt has the keyboard, whose brackets are letters there.
    harness.ctx.memory_mut(|memory| memory.stop_text_input());
    harness.step();
    for _ in 0..3 {
        press(&mut harness, Modifiers::NONE, Key::OpenBracket);
    }
    click(&mut harness, "Branch from here");
    assert!(harness.query_by_label_contains("Goes on from step").is_some(), "the panel says what it will do");
    harness.state_mut().draft_mut().prompt = "a blue cube spins on the sand at night".into();
    harness.run_steps(2);
    press(&mut harness, Modifiers::COMMAND, Key::Enter);
    wait(&mut harness, "the branch", |window| clips(window) == 3);
    let clips = studio(&harness).clips(&Default::default()).expect("the clips");
    let branch = clips[0].recipe.branch.as_ref().expect("it is a branch");
    assert_eq!(branch.call, 4);
    assert_eq!(branch.from.prompt, studio(&harness).clip(original).expect("the clip").recipe.prompt);
    assert_eq!(clips[0].recipe.prompt, "a blue cube spins on the sand at night");
}

#[test]
fn a_queue_that_was_left_paused_says_so_with_a_button_to_go_on() {
    let place = Place::new();
    small(&place, |_| {});
    place.open().pause().expect("it is remembered");
    let mut harness = window(&place, |_| {});
    press(&mut harness, Modifiers::COMMAND, Key::Enter);
    wait(&mut harness, "an item", |window| !window.studio().state().queue.is_empty());
    harness.run_steps(20);
    assert!(studio(&harness).state().live.is_none(), "it rests");
    harness.get_by_label("The queue is paused, 1 waiting");
    click(&mut harness, "Go on with the queue");
    wait(&mut harness, "a clip", |window| clips(window) == 2);
    assert!(harness.query_by_label_contains("The queue is paused").is_none());
}

#[test]
fn a_run_is_stopped_within_a_second_and_goes_on() {
    let place = Place::new();
    small(&place, |draft| (draft.width, draft.height, draft.steps) = (256, 144, 40));
    let mut harness = window(&place, |_| {});
    press(&mut harness, Modifiers::COMMAND, Key::Enter);
    wait(&mut harness, "some steps", |window| window.studio().state().live.as_ref().is_some_and(|live| live.calls_done >= 2));
    harness.run_steps(2);
    let asked = Instant::now();
    click(&mut harness, "Stop this run");
    wait(&mut harness, "the end of the run", |window| window.studio().state().live.is_none());
    assert!(asked.elapsed() < Duration::from_secs(1), "it took {:?}", asked.elapsed());
    let state = studio(&harness).state();
    assert_eq!(state.queue[0].state, ItemState::Stopped);
    let kept = state.queue[0].steps_done;
    assert!(kept >= 2);
    click(&mut harness, "Queue");
    harness.get_by_label_contains("Go on at step").click();
    harness.step();
    wait(&mut harness, "the run", |window| window.studio().state().live.as_ref().is_some_and(|live| live.first_call == kept));
    wait(&mut harness, "the clip", |window| clips(window) == 2);
}

#[test]
fn a_clip_is_exported_where_the_flag_says() {
    let place = Place::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("example.apng");
    let mut harness = window(&place, |options| options.export_to = Some(path.clone()));
    let clip = shown(harness.state()).expect("the example");
    press(&mut harness, Modifiers::COMMAND, Key::E);
    wait(&mut harness, "the frames", |window| window.player().textures().bytes() > 0);
    harness.run_steps(2);
    press(&mut harness, Modifiers::NONE, Key::Enter);
    let written = path.clone();
    wait(&mut harness, "the file", move |_| written.exists());
    let frames = read_frames(&path).expect("the file's frames");
    assert_eq!(frames.sha256(), read_frames(&place.home.clip_file(clip)).expect("the library's").sha256());
}

#[test]
fn a_dropped_clip_gives_its_settings_back() {
    let place = Place::new();
    let mut harness = window(&place, |_| {});
    let example = studio(&harness).clip(shown(harness.state()).expect("the example")).expect("its row");
    harness.state_mut().draft_mut().prompt = "something else".into();
    harness.state_mut().draft_mut().steps = 3;
    let file = place.home.clip_file(example.id);
    act(&mut harness, Action::OpenFile(file));
    harness.run_steps(2);
    let draft = harness.state().draft();
    assert_eq!((draft.prompt.as_str(), draft.steps, draft.seed), (example.recipe.prompt.as_str(), 4, example.recipe.seed));
    assert!(draft.seed_locked, "the seed is the clip's");
    let unreadable = place.home.folder().join("studio.db");
    act(&mut harness, Action::OpenFile(unreadable));
    harness.run_steps(2);
    assert!(harness.query_by_label_contains("studio.db").is_some(), "a file that is none is named");
}

#[test]
fn a_deleted_clip_comes_back() {
    let place = Place::new();
    let mut harness = window(&place, |_| {});
    let example = shown(harness.state()).expect("the example");
    act(&mut harness, Action::Delete(example));
    harness.run_steps(2);
    assert_eq!((clips(harness.state()), shown(harness.state())), (0, None));
    harness.run_steps(4);
    click(&mut harness, "Undo");
    assert_eq!((clips(harness.state()), shown(harness.state())), (1, Some(example)));
}

#[test]
fn what_is_set_up_is_there_at_the_next_start() {
    let place = Place::new();
    let mut harness = window(&place, |_| {});
    harness.state_mut().draft_mut().prompt = "a green ring at noon".into();
    harness.state_mut().draft_mut().frames = 17;
    harness.run_steps(2);
    harness.state().remember();
    drop(harness);
    let harness = window(&place, |_| {});
    assert_eq!((harness.state().draft().prompt.as_str(), harness.state().draft().frames), ("a green ring at noon", 17));
}

#[test]
fn every_control_has_a_name() {
    use egui_kittest::kittest::NodeT;
    let place = Place::new();
    let harness = window(&place, |_| {});
    let (mut controls, mut nameless) = (0, Vec::new());
    let mut open = vec![harness.root()];
    while let Some(node) = open.pop() {
        let accessible = node.accesskit_node();
        let role = format!("{:?}", accessible.role());
        if ["Button", "CheckBox", "RadioButton", "Slider", "SpinButton", "ComboBox", "TextInput", "MultilineTextInput", "Switch"]
            .contains(&role.as_str())
        {
            controls += 1;
            let labelled = accessible.label().is_some_and(|label| !label.trim().is_empty())
                || accessible.labelled_by().next().is_some()
                || accessible.placeholder().is_some();
            if !labelled {
                nameless.push(format!("{role} at {:?}", node.rect()));
            }
        }
        open.extend(node.children());
    }
    assert!(controls > 30, "only {controls} controls were found");
    assert!(nameless.is_empty(), "without a name: {nameless:#?}");
}

/// What a software adapter shades: nearly all of its time goes there.
#[test]
fn little_is_painted_over() {
    let place = Place::new();
    let mut harness = window(&place, |_| {});
    wait(&mut harness, "the example's frames", |window| window.player().textures().bytes() > 0);
    // As at every start but the first.
    act(&mut harness, Action::Hint(false));
    harness.run_steps(10);
    let (context, shapes) = (harness.ctx.clone(), harness.output().shapes.clone());
    let mut area = 0.0;
    for primitive in context.tessellate(shapes, 1.0) {
        let eframe::egui::epaint::Primitive::Mesh(mesh) = primitive.primitive else { continue };
        let clip = primitive.clip_rect;
        for triangle in mesh.indices.chunks_exact(3) {
            let [a, b, c] = [0, 1, 2].map(|i| clip.clamp(mesh.vertices[triangle[i] as usize].pos));
            area += ((b - a).x * (c - a).y - (b - a).y * (c - a).x).abs() / 2.0;
        }
    }
    let windows = area / (1440.0 * 900.0);
    println!("{windows:.2} windows are painted");
    // The harness has no surface that is cleared in the panels' colour, so they fill the window once.
    assert!(windows < 1.6, "{windows:.2} windows are painted");
}
