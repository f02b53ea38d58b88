//! The main states of the window as pictures, which are the screenshots of the README too. After a change that is meant,
//! `UPDATE_SNAPSHOTS=true cargo test --release --test suite window::states` makes them anew; look at them.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use eframe::egui::{Key, Theme, Vec2};
use egui_kittest::kittest::Queryable;
use egui_kittest::{Harness, SnapshotOptions, SnapshotResults};
use tilereel::app::Window;
use tilereel::app::action::Action;
use tilereel::app::inspector::Page;
use tilereel::app::settings::first_draft;
use tilereel::gpu::device::adapters;
use tilereel::studio::{NewItem, Studio};

use super::whole::{act, options, wait};
use crate::studio::Place;

pub const FOLDER: &str = "assets/screenshots";
const SIZE: Vec2 = Vec2::new(1440.0, 900.0);
/// The stored pictures have 128 colours, so a pixel may be off by a few levels; text on its ground is off by dozens.
pub const COLOUR_DISTANCE: f32 = 100.0;
/// Times, free memory and the number of threads are those of the machine.
pub const PIXELS_OF_NUMBERS: usize = 4000;
/// While a run goes on, how far it is depends on the machine.
const PIXELS_OF_PROGRESS: usize = 60_000;

const PROMPTS: [&str; 5] = [
    "a matte blue cube spins on a checkerboard at noon and the camera rises",
    "a glossy yellow ring rolls to the left on the sand at sunset, static camera",
    "a polished purple cylinder grows on a wooden floor at sunset while the camera orbits left",
    "a shiny green diamond floats up on the water at night while the camera orbits to the right",
    "a shiny red ball bounces on the snow at sunset while the camera zooms in",
];

/// Whether the adapter is there that the pictures were made on.
pub fn paints_in_software() -> bool {
    let there = adapters().iter().any(|adapter| adapter.software);
    if !there {
        println!("skipped: there is no software adapter");
        assert!(std::env::var_os("CI").is_none(), "CI installs one");
    }
    there
}

pub fn window(studio: &Arc<Studio>, place: &Place, theme: Theme) -> Harness<'static, Window> {
    let (studio, options) = (studio.clone(), options(place));
    let mut harness = Harness::builder()
        .with_size(SIZE)
        .with_theme(theme)
        .with_step_dt(1.0 / 24.0)
        .wgpu()
        .build_eframe(move |context| Window::new(context, studio, options));
    wait(&mut harness, "the device and the model", |window| window.is_ready());
    settle(&mut harness);
    harness
}

/// Waits for the pictures and stands still on one frame, without the text cursor.
pub fn settle(harness: &mut Harness<'_, Window>) {
    wait(harness, "pictures", |window| window.player().textures().bytes() > 0);
    // Thumbnails come one after the other.
    for _ in 0..40 {
        harness.step();
        std::thread::sleep(Duration::from_millis(10));
    }
    let player = harness.state_mut().player_mut();
    player.state.halt();
    player.state.go_to(14, 29);
    harness.ctx.memory_mut(|memory| memory.stop_text_input());
    harness.run_steps(4);
}

pub fn picture(harness: &mut Harness<'_, Window>, name: &str, most_failed_pixels: usize, results: &mut SnapshotResults) {
    let options = SnapshotOptions::new().output_path(FOLDER).threshold(COLOUR_DISTANCE).max_failed_pixels(most_failed_pixels);
    results.add(harness.try_snapshot_options(name, &options));
    make_smaller(name);
}

/// Has a picture that was made anew take a fifth of the space, for the repository's sake.
pub fn make_smaller(name: &str) {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        let path = format!("{FOLDER}/{name}.png");
        let smaller = Command::new("pngquant").args(["--force", "--nofs", "--strip", "--output", &path, "128", &path]).status();
        println!("{path}: {}", if smaller.is_ok_and(|status| status.success()) { "made smaller" } else { "pngquant is missing" });
    }
}

#[test]
fn the_main_states_look_as_they_should() {
    if !paints_in_software() {
        return;
    }
    let mut results = SnapshotResults::new();
    let place = Place::new();
    let studio = Arc::new(place.open());
    for theme in [Theme::Dark, Theme::Light] {
        let mut harness = window(&studio, &place, theme);
        picture(&mut harness, &format!("first-start-{}", name(theme)), PIXELS_OF_NUMBERS, &mut results);
    }

    // The hint is for the first start alone.
    studio.database().set_preference("window", &serde_json::json!({ "hint_seen": true })).expect("it is kept");

    // A library, and a run that goes on.
    let model = tilereel::studio::ModelInfo::open("fast").expect("mini");
    let recipe = |prompt: &str| {
        let mut draft = first_draft();
        (draft.prompt, draft.seed) = (prompt.to_owned(), 1);
        draft.recipe(&model, tilereel::gpu::device::Precision::F32).expect("a recipe")
    };
    let item = |prompt: &str| NewItem { recipe: recipe(prompt), model: "fast".into(), leaves: None, force: false };
    studio.enqueue(&PROMPTS.map(item)).expect("queued");
    crate::studio::wait(&studio, "the clips", |state| state.queue.is_empty().then_some(()));
    let clips = studio.clips(&Default::default()).expect("the clips");
    studio.set_favourite(clips[1].id, true).expect("a favourite");

    for theme in [Theme::Dark, Theme::Light] {
        let mut harness = window(&studio, &place, theme);
        harness.state_mut().player_mut().state.step = Some(3);
        harness.run_steps(6);
        picture(&mut harness, &format!("finished-{}", name(theme)), PIXELS_OF_NUMBERS, &mut results);
    }

    let mut harness = window(&studio, &place, Theme::Dark);
    act(&mut harness, Action::ShowPage(Page::Attention));
    wait(&mut harness, "the records", |window| window.attention_map().is_some());
    settle(&mut harness);
    picture(&mut harness, "attention-dark", PIXELS_OF_NUMBERS, &mut results);

    let mut harness = window(&studio, &place, Theme::Dark);
    act(&mut harness, Action::Export(clips[2].id));
    harness.run_steps(8);
    picture(&mut harness, "export-dark", PIXELS_OF_NUMBERS, &mut results);
    harness.key_press(Key::Escape);
    harness.run_steps(2);

    let mut huge = recipe("a shiny red ball bounces on the snow at sunset");
    (huge.frames, huge.width, huge.height) = (253, 4096, 2304);
    huge.set_mask(&model.folder, &"1:63".into()).expect("a mask");
    studio.enqueue(&[NewItem { recipe: huge, model: "fast".into(), leaves: None, force: false }]).expect("queued");
    wait(&mut harness, "the refusal", |window| window.studio().state().queue.iter().any(|item| item.report.is_some()));
    harness.get_by_label("Queue").click();
    settle(&mut harness);
    picture(&mut harness, "error-dark", PIXELS_OF_PROGRESS, &mut results);
    let failed = studio.state().queue[0].id;
    studio.remove(failed).expect("it goes");

    let mut slow = recipe(PROMPTS[4]);
    slow.steps = 16;
    studio.enqueue(&[NewItem { recipe: slow, model: "fast".into(), leaves: None, force: false }]).expect("queued");
    wait(&mut harness, "some steps", |window| window.studio().state().live.as_ref().is_some_and(|live| live.calls_done >= 6));
    harness.state_mut().player_mut().state.step = Some(5);
    settle(&mut harness);
    picture(&mut harness, "generating-dark", PIXELS_OF_PROGRESS, &mut results);
}

fn name(theme: Theme) -> &'static str {
    match theme {
        Theme::Dark => "dark",
        Theme::Light => "light",
    }
}
