//! The player with pictures that nobody generated.

use std::sync::Arc;

use eframe::egui::accesskit::Role;
use eframe::egui::{Event, Key, Modifiers, PointerButton, Pos2, TextEdit, Vec2, pos2};
use egui_kittest::kittest::{NodeT, Queryable};
use egui_kittest::{Harness, Node};
use tilereel::app::player::source::{Pictures, Source, Step};
use tilereel::app::player::state::{Look, PlayerState, Repeat};
use tilereel::app::player::{Player, PlayerEvent};
use tilereel::app::theme;
use tilereel::clip::Frames;

const FRAMES: usize = 29;
const LATENT_FRAMES: usize = 8;
const CALLS: usize = 8;

struct Stage {
    player: Player,
    source: Source,
    events: Vec<PlayerEvent>,
    text: String,
}

fn pictures(count: usize, side: usize) -> Arc<Frames> {
    let rgb = (0..count).flat_map(|frame| vec![(frame * 8) as u8; side * side * 3]).collect();
    Arc::new(Frames { width: side, height: side, frames_per_second: 24.0, rgb })
}

fn finished() -> Source {
    let step = || Step { projection: Some(pictures(LATENT_FRAMES, 8)), decoded: None };
    Source {
        id: 1,
        width: 64,
        height: 64,
        frames: FRAMES,
        frames_per_second: 24.0,
        calls: CALLS,
        steps: (0..CALLS).map(|_| step()).collect(),
        complete: true,
        finished: Some(pictures(FRAMES, 64)),
        generating: false,
    }
}

fn paused() -> PlayerState {
    let mut state = PlayerState::default();
    state.halt();
    state
}

fn stage(state: PlayerState, source: Source) -> Harness<'static, Stage> {
    let stage = Stage { player: Player::new(state), source, events: Vec::new(), text: String::new() };
    let mut harness = Harness::builder().with_size(Vec2::new(1000.0, 640.0)).with_context_setup(theme::install).build_ui_state(
        |ui, stage: &mut Stage| {
            let prompt = ui.label("Prompt").id;
            ui.add(TextEdit::singleline(&mut stage.text)).labelled_by(prompt);
            stage.events = stage.player.show(ui, &stage.source, |ui| {
                let _ = ui.button("Export");
            });
        },
        stage,
    );
    harness.run();
    harness
}

fn frame(harness: &Harness<'_, Stage>) -> usize {
    harness.state().player.state.frame(FRAMES)
}

fn press(harness: &mut Harness<'_, Stage>, key: Key) {
    harness.key_press(key);
    harness.step();
}

fn value(node: &Node<'_>) -> f64 {
    node.accesskit_node().numeric_value().expect("a slider has a value")
}

/// A point of a slider, in shares of its width.
fn along(harness: &Harness<'_, Stage>, slider: &str, share: f32) -> Pos2 {
    let rect = harness.get_by_role_and_label(Role::Slider, slider).rect();
    pos2(rect.left() + rect.width() * share, rect.center().y)
}

fn drag(harness: &mut Harness<'_, Stage>, from: Pos2, to: Pos2) {
    harness.hover_at(from);
    harness.step();
    harness.drag_at(from);
    harness.step();
    for share in [0.3, 0.6, 1.0] {
        harness.hover_at(from + (to - from) * share);
        harness.step();
    }
    harness.drop_at(to);
    harness.step();
}

#[test]
fn buttons_move_through_the_frames() {
    let mut harness = stage(paused(), finished());
    for (button, at) in [("Frame forward", 1), ("Frame forward", 2), ("Frame back", 1), ("To the end", 28), ("To the start", 0)] {
        harness.get_by_label(button).click();
        harness.run();
        assert_eq!(frame(&harness), at, "after {button}");
    }
    harness.get_by_label("Play").click();
    harness.run_steps(2);
    assert!(harness.state().player.state.playing);
    harness.get_by_label("Pause").click();
    harness.step();
    assert!(!harness.state().player.state.playing);
    for (name, next) in
        [("Repeat: loop", Repeat::PingPong), ("Repeat: there and back", Repeat::Once), ("Repeat: play once", Repeat::Loop)]
    {
        harness.get_by_label(name).click();
        harness.run();
        assert_eq!(harness.state().player.state.repeat, next);
    }
}

#[test]
fn the_time_is_shortened_before_it_is_covered() {
    let mut harness = stage(paused(), finished());
    let mut texts = Vec::new();
    for width in [1000.0, 700.0, 500.0, 440.0, 420.0, 400.0] {
        harness.set_size(Vec2::new(width, 640.0));
        harness.run();
        let (speed, zoom) = (harness.get_by_label("Speed").rect(), harness.get_by_label("Zoom").rect());
        let Some(counter) = harness.query_by_label_contains("/ 29") else { continue };
        let rect = counter.rect();
        assert!(speed.right() <= rect.left() && rect.right() <= zoom.left(), "{width}: {speed:?}, {rect:?}, {zoom:?}");
        texts.push(counter.accesskit_node().value().or(counter.accesskit_node().label()).expect("a text"));
    }
    assert!(texts[0].ends_with(" s"), "{texts:?}");
    assert!(texts.iter().any(|text| text == "/ 29"), "the seconds go first: {texts:?}");
}

#[test]
fn keys_do_what_a_cutter_expects() {
    let mut harness = stage(paused(), finished());
    let presses = [
        (Key::ArrowRight, 1),
        (Key::Period, 2),
        (Key::Comma, 1),
        (Key::ArrowLeft, 0),
        (Key::ArrowLeft, 0),
        (Key::End, 28),
        (Key::ArrowRight, 28),
        (Key::Home, 0),
    ];
    for (key, at) in presses {
        press(&mut harness, key);
        assert_eq!(frame(&harness), at, "after {key:?}");
    }
    press(&mut harness, Key::Space);
    assert!(harness.state().player.state.playing);
    press(&mut harness, Key::L);
    assert_eq!(harness.state().player.state.speed, 2.0);
    press(&mut harness, Key::J);
    assert_eq!(harness.state().player.state.speed, -1.0);
    press(&mut harness, Key::K);
    assert!(!harness.state().player.state.playing);

    press(&mut harness, Key::Home);
    (0..4).for_each(|_| press(&mut harness, Key::ArrowRight));
    press(&mut harness, Key::I);
    (0..6).for_each(|_| press(&mut harness, Key::ArrowRight));
    press(&mut harness, Key::O);
    assert_eq!(harness.state().player.state.range(FRAMES), 4..=10);
    press(&mut harness, Key::Home);
    assert_eq!(frame(&harness), 4, "the start of what plays");

    // Steps, with the modifiers that come along where brackets are under AltGr.
    press(&mut harness, Key::OpenBracket);
    assert_eq!(harness.state().player.state.step, Some(7));
    harness.key_press_modifiers(Modifiers::CTRL | Modifiers::ALT, Key::OpenBracket);
    harness.step();
    assert_eq!(harness.state().player.state.step, Some(6));
    (0..3).for_each(|_| press(&mut harness, Key::CloseBracket));
    assert_eq!(harness.state().player.state.step, None, "the finished clip");
}

#[test]
fn keys_are_left_to_who_types() {
    let mut harness = stage(paused(), finished());
    harness.get_by_label("Prompt").focus();
    harness.run();
    for key in [Key::Space, Key::L, Key::ArrowRight, Key::OpenBracket, Key::I, Key::End] {
        press(&mut harness, key);
    }
    let state = &harness.state().player.state;
    assert!(!state.playing && state.step.is_none() && !state.has_range() && frame(&harness) == 0);
    // Space on a button presses that button, and nothing else.
    harness.get_by_label("To the end").focus();
    harness.run();
    press(&mut harness, Key::Space);
    assert_eq!((frame(&harness), harness.state().player.state.playing), (28, false));
}

#[test]
fn the_frame_ruler_is_dragged_and_spoken() {
    let mut harness = stage(paused(), finished());
    let (from, to) = (along(&harness, "Frame", 0.02), along(&harness, "Frame", 0.51));
    drag(&mut harness, from, to);
    assert_eq!(frame(&harness), 14);
    let node = harness.get_by_role_and_label(Role::Slider, "Frame");
    assert_eq!(value(&node), 15.0);
    assert_eq!(node.value().as_deref(), Some("Frame 15 of 29, 0.58 seconds"));
    node.increment_accesskit();
    harness.run();
    assert_eq!(frame(&harness), 15);
    harness.get_by_role_and_label(Role::Slider, "Frame").set_value_accesskit(3.0);
    harness.run();
    assert_eq!(frame(&harness), 2);
}

#[test]
fn a_drag_holds_the_clip_and_lets_it_go_again() {
    let mut harness = stage(PlayerState::default(), finished());
    let (from, to) = (along(&harness, "Frame", 0.2), along(&harness, "Frame", 0.75));
    harness.hover_at(from);
    harness.step();
    harness.drag_at(from);
    harness.step();
    harness.hover_at(to);
    harness.run_steps(20);
    assert_eq!(frame(&harness), 21, "it stands still under the pointer");
    harness.drop_at(to);
    harness.step();
    assert!(harness.state().player.state.playing);
}

#[test]
fn dragging_the_picture_scrubs_and_a_click_plays() {
    let mut harness = stage(paused(), finished());
    let picture = harness.get_by_label_contains("Picture: frame 1 of 29 of the clip").rect();
    let from = picture.center();
    drag(&mut harness, from, from + Vec2::new(picture.width() / 2.0, 0.0));
    assert!((14..=15).contains(&frame(&harness)), "half of the width is half of the clip: {}", frame(&harness));
    assert!(!harness.state().player.state.playing);
    harness.get_by_label_contains("Picture: ").click();
    harness.step();
    assert!(harness.state().player.state.playing);
}

#[test]
fn the_ends_are_dragged() {
    let mut harness = stage(paused(), finished());
    let start = harness.get_by_role_and_label(Role::Slider, "In point").rect().center();
    let to = along(&harness, "Frame", 5.0 / FRAMES as f32);
    drag(&mut harness, start, pos2(to.x - 4.0, start.y));
    assert_eq!(*harness.state().player.state.range(FRAMES).start(), 5);
    let end = harness.get_by_role_and_label(Role::Slider, "Out point").rect().center();
    let to = along(&harness, "Frame", 20.0 / FRAMES as f32);
    drag(&mut harness, end, pos2(to.x + 4.0, end.y));
    assert_eq!(harness.state().player.state.range(FRAMES), 5..=19);
    assert_eq!(value(&harness.get_by_role_and_label(Role::Slider, "Out point")), 20.0);
    harness.get_by_role_and_label(Role::Slider, "In point").focus();
    harness.run();
    press(&mut harness, Key::ArrowRight);
    assert_eq!(harness.state().player.state.range(FRAMES), 6..=19);
    assert_eq!(frame(&harness), 0, "the playhead did not move along");
}

#[test]
fn the_step_ruler_is_dragged_and_spoken() {
    let mut harness = stage(paused(), finished());
    let node = harness.get_by_role_and_label(Role::Slider, "Step of denoising");
    assert_eq!((value(&node), node.value().as_deref().map(str::to_owned)), (9.0, Some("Finished clip".to_owned())));
    let (from, to) = (along(&harness, "Step of denoising", 0.95), along(&harness, "Step of denoising", 2.5 / 9.0));
    drag(&mut harness, from, to);
    assert_eq!(harness.state().player.state.step, Some(2));
    let node = harness.get_by_role_and_label(Role::Slider, "Step of denoising");
    assert_eq!(node.value().as_deref(), Some("Step 3 of 8"));
    harness.get_by_label_contains("of step 3 of 8");
    // With the focus, arrows walk the steps and leave the frames alone.
    node.focus();
    harness.run();
    press(&mut harness, Key::ArrowLeft);
    assert_eq!((harness.state().player.state.step, frame(&harness)), (Some(1), 0));
    let (from, to) = (along(&harness, "Step of denoising", 0.3), along(&harness, "Step of denoising", 0.99));
    drag(&mut harness, from, to);
    assert_eq!(harness.state().player.state.step, None);
}

#[test]
fn generating_is_followed_until_the_person_looks_back() {
    let mut source = finished();
    let steps = std::mem::take(&mut source.steps);
    (source.complete, source.finished, source.generating) = (false, None, true);
    let mut harness = stage(paused(), source);
    harness.get_by_label("No picture yet");
    for (done, step) in steps.into_iter().enumerate() {
        if done == 4 {
            // Back to step 2, which stays while more come.
            (0..2).for_each(|_| press(&mut harness, Key::OpenBracket));
            assert_eq!(harness.state().player.state.step, Some(1));
        }
        harness.state_mut().source.steps.push(step);
        harness.run();
        let shown = harness.state().player.shown_step(&harness.state().source);
        assert_eq!(shown, Some(if done < 4 { done } else { 1 }));
    }
    // A step that is still to come cannot be dragged to; the newest means to follow again.
    harness.get_by_label("Follow the newest step").click();
    harness.run();
    assert_eq!(harness.state().player.state.step, None);
    assert_eq!(harness.state().player.shown_step(&harness.state().source), Some(7));
    harness.state_mut().source.complete = true;
    harness.state_mut().source.generating = false;
    harness.state_mut().source.finished = Some(pictures(FRAMES, 64));
    harness.run();
    assert_eq!(harness.state().player.shown_step(&harness.state().source), None);
    harness.get_by_label_contains("of the clip");
}

#[test]
fn missing_pictures_are_asked_for_while_the_nearest_is_shown() {
    let mut harness = stage(paused(), finished());
    harness.state_mut().player.state.step = Some(3);
    harness.get_by_label("Decoder").click();
    harness.step();
    assert!(harness.state().events.contains(&PlayerEvent::LookChanged(Look::Decoder)));
    harness.step();
    assert_eq!(harness.state().events, [PlayerEvent::Want(Pictures::Step(3, Look::Decoder))]);
    harness.get_by_label_contains("of step 4 of 8");
    harness.state_mut().source.steps[3].decoded = Some(pictures(FRAMES, 64));
    harness.step();
    assert_eq!(harness.state().events, []);

    harness.state_mut().source.steps[5].projection = None;
    harness.step();
    assert_eq!(harness.state().events, [PlayerEvent::Want(Pictures::Step(5, Look::Projection))], "for its small picture");
}

#[test]
fn branching_is_offered_for_a_step() {
    let mut harness = stage(paused(), finished());
    let at = along(&harness, "Step of denoising", 4.5 / 9.0);
    harness.hover_at(at);
    harness.step();
    for button in [PointerButton::Primary, PointerButton::Secondary] {
        for pressed in [true, false] {
            harness.event(Event::PointerButton { pos: at, button, pressed, modifiers: Modifiers::NONE });
            harness.step();
        }
    }
    harness.run();
    harness.get_by_label("Branch from step 5").click();
    harness.step();
    assert!(harness.state().events.contains(&PlayerEvent::BranchFrom(4)), "{:?}", harness.state().events);
}

#[test]
fn another_clip_begins_at_its_start() {
    let mut harness = stage(paused(), finished());
    for key in [Key::ArrowRight, Key::I, Key::OpenBracket] {
        press(&mut harness, key);
    }
    harness.state_mut().source.id = 2;
    harness.run();
    let state = &harness.state().player.state;
    assert_eq!((state.frame(FRAMES), state.step, state.has_range()), (0, None, false));
}

#[test]
fn a_round_of_the_clip_uploads_each_picture_once_and_repaints_once_a_frame() {
    let mut harness = stage(PlayerState::default(), finished());
    let mut seen = vec![0; FRAMES];
    let mut last = usize::MAX;
    for _ in 0..400 {
        harness.step();
        let now = frame(&harness);
        if now != last {
            seen[now] += 1;
            last = now;
        }
        let delay = harness.output().viewport_output.values().map(|output| output.repaint_delay).min().expect("a window");
        assert!(delay.as_secs_f64() <= 1.05 / 24.0, "the next frame would come late: {delay:?}");
    }
    assert!(seen.iter().all(|&count| count >= 1), "{seen:?}");
    // The clip's frames, and a small picture for each step; the clip's own small picture is its middle frame.
    assert_eq!(harness.state().player.textures().uploads(), (FRAMES + CALLS) as u64);

    harness.get_by_label("Pause").click();
    harness.run();
    let delay = harness.output().viewport_output.values().map(|output| output.repaint_delay).min().expect("a window");
    assert!(delay.as_secs() > 3600, "a paused player repaints: {delay:?}");
}

#[test]
fn nothing_to_show_is_shown_quietly() {
    for source in [Source::default(), Source { calls: 0, complete: true, finished: None, frames: 1, ..finished() }] {
        let mut harness = stage(PlayerState::default(), source);
        for key in [Key::Space, Key::ArrowRight, Key::L, Key::I, Key::O, Key::OpenBracket, Key::End] {
            press(&mut harness, key);
        }
        harness.get_by_label_contains("icture");
    }
}
