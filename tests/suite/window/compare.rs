//! Two clips compared in the window, and the page that says where the time went.

use std::sync::Arc;
use std::time::Duration;

use eframe::egui::{Key, Modifiers, Role, Theme, Vec2, vec2};
use egui_kittest::kittest::{NodeT, Queryable};
use egui_kittest::{Harness, SnapshotResults};
use tilereel::app::Window;
use tilereel::app::action::Action;
use tilereel::app::player::versus::Mode;
use tilereel::app::settings::first_draft;
use tilereel::clip::{Comparison, read_frames};
use tilereel::generate::recipe::MaskChoice;
use tilereel::studio::{ClipId, ModelInfo, NewItem, Studio};

use super::states::{paints_in_software, picture};
use super::whole::{act, options, wait};
use crate::studio::Place;

const SIZE: Vec2 = vec2(1200.0, 720.0);
/// Times, and what follows from them: how long bars are.
const PIXELS_OF_TIMES: usize = 30_000;

/// A studio with one small clip of a sparse mask, whose parts were timed.
fn sparse_clip(place: &Place, size: [usize; 3]) -> (Arc<Studio>, ClipId) {
    let studio = Arc::new(place.open());
    studio.time_parts(true);
    let model = ModelInfo::open("fast").expect("mini");
    let mut draft = first_draft();
    (draft.prompt, draft.seed) = ("a shiny red ball bounces on the snow at sunset".into(), 1);
    [draft.frames, draft.width, draft.height] = size;
    draft.mask = MaskChoice::from(if draft.frames == 29 { "1:7" } else { "1:1" });
    let recipe = draft.recipe(&model, tilereel::gpu::device::Precision::F32).expect("a recipe");
    studio.enqueue(&[NewItem { recipe, model: "fast".into(), leaves: None, force: false }]).expect("queued");
    crate::studio::wait(&studio, "the clip", |state| state.queue.is_empty().then_some(()));
    let clip = studio.clips(&Default::default()).expect("the clips")[0].id;
    (studio, clip)
}

fn window(studio: &Arc<Studio>, place: &Place, theme: Theme, painted: bool) -> Harness<'static, Window> {
    let (studio, options) = (studio.clone(), options(place));
    let builder = Harness::builder().with_size(SIZE).with_theme(theme).with_step_dt(1.0 / 24.0);
    let builder = if painted { builder.wgpu() } else { builder };
    let mut harness = builder.build_eframe(move |context| Window::new(context, studio, options));
    wait(&mut harness, "the device and the model", |window| window.is_ready());
    harness.ctx.memory_mut(|memory| memory.stop_text_input());
    harness.run_steps(3);
    harness
}

fn compared(window: &Window) -> Option<[ClipId; 2]> {
    window.stage().comparing().map(|pair| [pair.a.entry.id, pair.b.entry.id])
}

fn press(harness: &mut Harness<'_, Window>, key: Key) {
    harness.key_press_modifiers(Modifiers::NONE, key);
    harness.run_steps(2);
}

#[test]
fn a_clip_is_compared_with_its_dense_twin() {
    let place = Place::new();
    let (studio, sparse) = sparse_clip(&place, [29, 64, 48]);
    let mut harness = window(&studio, &place, Theme::Dark, false);
    act(&mut harness, Action::CompareWithDense(sparse));
    wait(&mut harness, "the twin", |window| compared(window).is_some());
    let [a, dense] = compared(harness.state()).expect("two clips");
    assert_eq!(a, sparse);
    let clips = studio.clips(&Default::default()).expect("the clips");
    assert_eq!((clips[0].id, clips[0].recipe.seed), (dense, clips[1].recipe.seed));

    // The figures are those of the files.
    let [one, other] = [a, dense].map(|clip| read_frames(&studio.home().clip_file(clip)).expect("a clip"));
    let want = Comparison::of(&one, &other).expect("one size");
    let mean = format!("mean {:.2} dB", want.mean_psnr);
    let started = std::time::Instant::now();
    while harness.query_by_label(&mean).is_none() {
        harness.step();
        assert!(started.elapsed() < Duration::from_secs(60), "{mean} is not shown");
        std::thread::sleep(Duration::from_millis(5));
    }
    harness.get_by_label(&format!("mean {:.4}", want.mean_ssim.expect("windows")));
    for fact in ["dense", "1:7", "100.0 %"] {
        assert!(harness.query_all_by_label(fact).next().is_some(), "{fact} is not on the page");
    }

    // A click in the plot goes to its frame.
    harness.state_mut().player_mut().state.halt();
    harness.run_steps(2);
    let plot = harness.get_by_label_contains("PSNR of frame").rect();
    harness.drag_at(plot.left_center() + vec2(plot.width() * 20.5 / 29.0, 0.0));
    harness.drop_at(plot.left_center() + vec2(plot.width() * 20.5 / 29.0, 0.0));
    harness.run_steps(3);
    assert_eq!(harness.state().player().state.frame(29), 20);
    harness.get_by_label(&format!("PSNR of frame 21 of 29: {:.2} dB", want.psnr[20]));

    // The wipe by the mouse, by keys, and what else there is to see.
    let view = |harness: &Harness<'_, Window>| harness.state().player().view;
    let wipe = harness.get_by_label("Wipe position").rect();
    harness.drag_at(wipe.center());
    harness.run_steps(1);
    harness.hover_at(wipe.center() - vec2(60.0, 0.0));
    harness.run_steps(1);
    harness.drop_at(wipe.center() - vec2(60.0, 0.0));
    harness.run_steps(2);
    let dragged = view(&harness).wipe;
    assert!(dragged < 0.45, "{dragged}");
    assert_eq!(harness.state().player().state.frame(29), 20, "the clip stands still under it");
    press(&mut harness, Key::ArrowRight);
    assert!((view(&harness).wipe - dragged - 0.02).abs() < 1e-3);
    harness.get_by_label("Difference").click();
    harness.run_steps(2);
    assert_eq!(view(&harness).mode, Mode::Difference);
    harness.get_by_label("Side by side").click();
    harness.run_steps(2);
    assert_eq!(view(&harness).mode, Mode::SideBySide);
    harness.get_by_label("Swap").click();
    harness.run_steps(2);
    assert_eq!(compared(harness.state()), Some([dense, sparse]));

    press(&mut harness, Key::Escape);
    assert_eq!(harness.state().stage().clip().map(|clip| clip.entry.id), Some(dense));
    assert_eq!(compared(harness.state()), None);
    // The second time the twin is there.
    act(&mut harness, Action::CompareWithDense(sparse));
    assert_eq!(compared(harness.state()), Some([sparse, dense]));
    assert!(studio.state().queue.is_empty());
    // A clip is no twin of its own, and one that goes ends the comparison.
    act(&mut harness, Action::LeaveCompare);
    act(&mut harness, Action::CompareWithDense(dense));
    assert_eq!(compared(harness.state()), None);
    act(&mut harness, Action::Compare { a: sparse, b: dense });
    act(&mut harness, Action::Delete(dense));
    assert_eq!(harness.state().stage().clip().map(|clip| clip.entry.id), Some(sparse));
}

#[test]
fn the_time_of_a_run_is_told_by_layer() {
    let place = Place::new();
    let (studio, clip) = sparse_clip(&place, [5, 64, 32]);
    let mut harness = window(&studio, &place, Theme::Dark, false);
    harness.get_by_role_and_label(Role::Button, "Time").click();
    harness.run_steps(3);
    let timings = studio.timings(clip).expect("its times");
    harness.get_by_label_contains("timed by the wall clock");
    let layers = harness.query_all_by_label_contains("layer ");
    let bars: Vec<String> = layers
        .filter_map(|node| node.accesskit_node().label())
        .filter(|label| label.starts_with("layer ") && label.contains("attention"))
        .collect();
    assert_eq!(bars.len(), ModelInfo::open("fast").expect("mini").layers, "{bars:?}");
    for (share, seconds) in timings.shares() {
        let words = tilereel::studio::words::share(share);
        assert!(harness.query_all_by_label_contains(&format!("{words} {seconds:.4} s")).next().is_some(), "{words} {seconds}");
    }
    // The switch holds in the studio and for the next start.
    assert!(!studio.times_parts(), "the window goes by its own switch");
    harness.get_by_label("Time the parts of the next runs").click();
    harness.run_steps(2);
    assert!(studio.times_parts());
    drop(harness);
    studio.time_parts(false);
    let mut harness = window(&studio, &place, Theme::Dark, false);
    assert!(studio.times_parts());

    // The example came without times.
    let example = studio.clips(&Default::default()).expect("the clips").last().expect("the example").id;
    act(&mut harness, Action::ShowClip(example));
    harness.get_by_role_and_label(Role::Button, "Time").click();
    harness.run_steps(3);
    harness.get_by_label_contains("before times were kept");
    harness.get_by_label("Run again and time it");
}

#[test]
fn both_look_as_they_should() {
    if !paints_in_software() {
        return;
    }
    let mut results = SnapshotResults::new();
    let place = Place::new();
    let (studio, sparse) = sparse_clip(&place, [29, 256, 144]);
    let mut harness = window(&studio, &place, Theme::Dark, true);
    act(&mut harness, Action::CompareWithDense(sparse));
    wait(&mut harness, "the twin", |window| compared(window).is_some());
    harness.state_mut().player_mut().state.halt();
    for _ in 0..60 {
        harness.step();
        std::thread::sleep(Duration::from_millis(10));
    }
    harness.state_mut().player_mut().state.go_to(17, 29);
    harness.run_steps(4);
    picture(&mut harness, "compare-dark", PIXELS_OF_TIMES, &mut results);
    act(&mut harness, Action::LeaveCompare);
    harness.get_by_role_and_label(Role::Button, "Time").click();
    harness.run_steps(6);
    picture(&mut harness, "time-dark", PIXELS_OF_TIMES, &mut results);
}
