//! The window at its least size: nothing is cut off or painted over.

use eframe::egui::{Event, Modifiers, MouseWheelSource, MouseWheelUnit, TouchPhase, Vec2, pos2, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use tilereel::app::Window;
use tilereel::app::action::Action;

use super::whole::{act, wait, window};
use crate::studio::Place;

const LEAST: Vec2 = Vec2::new(900.0, 600.0);

fn least(place: &Place) -> Harness<'static, Window> {
    let mut harness = window(place, |_| {});
    harness.set_size(LEAST);
    harness.run_steps(6);
    harness
}

#[test]
fn all_settings_are_within_their_panel() {
    let place = Place::new();
    let harness = least(&place);
    let edge = harness.get_by_label("Player").rect().left();
    for name in ["Height in pixels", "Sizes", "Keep the seed", "Draw another seed", "File…", "Paint the mask"] {
        let right = harness.get_by_label(name).rect().right();
        assert!(right < edge, "{name} ends at {right}, the panel at {edge}");
    }
    for name in ["Mask: ", "Memory: ", "Work: "] {
        let right = harness.get_by_label_contains(name).rect().right();
        assert!(right < edge, "{name} ends at {right}, the panel at {edge}");
    }
}

#[test]
fn the_hint_scrolls_with_the_settings() {
    let place = Place::new();
    let mut harness = least(&place);
    let top = |harness: &Harness<'_, Window>| harness.get_by_label("Three things to try").rect().top();
    let before = top(&harness);
    harness.hover_at(pos2(100.0, 300.0));
    harness.run_steps(2);
    let (unit, delta) = (MouseWheelUnit::Point, vec2(0.0, -200.0));
    let (phase, source, modifiers) = (TouchPhase::Move, MouseWheelSource::Unknown, Modifiers::NONE);
    harness.event(Event::MouseWheel { unit, delta, phase, source, modifiers });
    harness.run_steps(20);
    assert!(top(&harness) < before - 100.0, "it leaves room for the settings");
}

#[test]
fn what_goes_on_is_not_painted_over_the_device() {
    let place = Place::new();
    let mut harness = least(&place);
    act(&mut harness, Action::Generate);
    wait(&mut harness, "a step", |window| window.studio().state().live.as_ref().is_some_and(|live| live.calls_done > 0));
    harness.run_steps(2);
    let memory = harness.get_by_label_contains(" free").rect();
    let live = harness.state().studio().state().live.clone().expect("a run");
    // The queue names it too, above.
    let words = live.doing();
    let doing = harness.query_all_by_label_contains(&words).map(|node| node.rect());
    let doing = doing.max_by(|a, b| a.top().total_cmp(&b.top())).expect("what is done");
    assert!(memory.right() <= doing.left() && doing.right() <= LEAST.x, "{memory:?} and {doing:?}");
    harness.state().studio().pause().expect("it is remembered");
}

#[test]
fn a_branch_begins_at_its_prompt() {
    let place = Place::new();
    let mut harness = least(&place);
    harness.hover_at(pos2(100.0, 300.0));
    harness.run_steps(2);
    let (unit, delta) = (MouseWheelUnit::Point, vec2(0.0, -600.0));
    let (phase, source, modifiers) = (TouchPhase::Move, MouseWheelSource::Unknown, Modifiers::NONE);
    harness.event(Event::MouseWheel { unit, delta, phase, source, modifiers });
    harness.run_steps(20);
    let top = |harness: &Harness<'_, Window>| harness.get_by_label("Three things to try").rect().top();
    assert!(top(&harness) < 0.0, "the settings are scrolled down");
    let clip = harness.state().stage().clip().expect("the example").entry.id;
    act(&mut harness, Action::Branch { clip, step: 4 });
    harness.run_steps(6);
    assert!(top(&harness) > 0.0, "another prompt can be typed at once");
}

#[test]
fn a_clip_that_is_asked_for_comes_before_the_lab() {
    let place = Place::new();
    let mut harness = least(&place);
    let is_played = |harness: &Harness<'_, Window>| harness.query_by_label("Branch from here").is_some();
    assert!(is_played(&harness));
    harness.get_by_label("Lab").click();
    harness.run_steps(3);
    assert!(!is_played(&harness), "the lab hides the player");
    let clip = harness.state().stage().clip().expect("the example").entry.id;
    act(&mut harness, Action::ShowClip(clip));
    harness.run_steps(3);
    assert!(is_played(&harness));
}

#[test]
fn the_painter_is_as_wide_as_its_rows() {
    let place = Place::new();
    let mut harness = least(&place);
    act(&mut harness, Action::PaintMask);
    harness.run_steps(6);
    let [close, save] = ["Close", "Save and use"].map(|name| harness.get_by_label(name).rect());
    assert!((close.right() - save.right()).abs() < 12.0, "{close:?} stands above {save:?}");
    assert!(close.top() >= 0.0 && save.bottom() <= LEAST.y);
}
