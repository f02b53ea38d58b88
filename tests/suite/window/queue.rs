//! The queue's panel over a real queue.

use eframe::egui::{Key, Vec2, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use tilereel::app::action::Action;
use tilereel::app::queue_panel::QueuePanel;
use tilereel::studio::{ErrorReport, Fault, ItemId, ItemState, Remedy};

use super::panels::{Place, Stage, until, window};

const SIZE: Vec2 = vec2(520.0, 640.0);

fn panel(place: Place) -> Harness<'static, Stage<QueuePanel>> {
    let mut harness = window(SIZE, QueuePanel::default(), place, |ui, stage| {
        stage.panel.show(ui, &stage.place.studio.state(), &|_| Some(40.0), &mut stage.actions);
    });
    harness.run_steps(3);
    harness
}

/// A queue that rests, with these prompts.
fn resting(prompts: &[&str]) -> (Place, Vec<ItemId>) {
    let place = Place::new();
    place.studio.pause().expect("it is remembered");
    let items: Vec<_> = prompts.iter().map(|prompt| place.item(prompt)).collect();
    let ids = place.studio.enqueue(&items).expect("a queue");
    (place, ids)
}

/// What the panel said since the last look; what changes the queue is done.
fn said(harness: &mut Harness<'_, Stage<QueuePanel>>) -> Vec<Action> {
    let stage = harness.state_mut();
    let actions = std::mem::take(&mut stage.actions);
    let studio = &stage.place.studio;
    for action in &actions {
        match *action {
            Action::MoveTo { item, place } => studio.move_to(item, place).expect("an item"),
            Action::Remove(item) => studio.remove(item).expect("an item"),
            Action::Stop(item) => studio.stop(item).expect("an item"),
            Action::Resume { item, force } => studio.resume(item, force).expect("an item"),
            Action::Pause => studio.pause().expect("it is remembered"),
            Action::Unpause => studio.unpause().expect("it is remembered"),
            _ => {}
        }
    }
    harness.run_steps(3);
    actions
}

fn order(harness: &Harness<'_, Stage<QueuePanel>>) -> Vec<ItemId> {
    harness.state().place.studio.state().queue.iter().map(|item| item.id).collect()
}

fn click(harness: &mut Harness<'_, Stage<QueuePanel>>, label: &str, which: usize) {
    harness.get_all_by_label(label).nth(which).unwrap_or_else(|| panic!("no {label} {which}")).click();
    harness.run_steps(3);
}

#[test]
fn an_empty_queue_says_what_it_is_for() {
    let harness = panel(Place::new());
    harness.get_by_label_contains("Drop a clip here to get its settings back");
}

#[test]
fn items_are_moved_by_buttons_keys_and_drags() {
    let (place, ids) = resting(&["first", "second", "third"]);
    let mut harness = panel(place);
    click(&mut harness, "Later", 0);
    assert_eq!(said(&mut harness), [Action::MoveTo { item: ids[0], place: 1 }]);
    assert_eq!(order(&harness), [ids[1], ids[0], ids[2]]);
    click(&mut harness, "Sooner", 2);
    assert_eq!(said(&mut harness), [Action::MoveTo { item: ids[2], place: 1 }]);
    assert_eq!(order(&harness), [ids[1], ids[2], ids[0]]);
    click(&mut harness, "Sooner", 0);
    assert_eq!(said(&mut harness), [], "the first cannot come sooner");

    harness.get_by_label("Move: first").focus();
    harness.run_steps(3);
    for place in [1, 0] {
        harness.key_press(Key::ArrowUp);
        harness.run_steps(3);
        assert_eq!(said(&mut harness), [Action::MoveTo { item: ids[0], place }], "the focus stays with what is moved");
    }
    assert_eq!(order(&harness), [ids[0], ids[1], ids[2]]);

    let from = harness.get_by_label("Move: first").rect().center();
    let onto = harness.get_by_label("Move: third").rect().center();
    harness.hover_at(from);
    harness.step();
    harness.drag_at(from);
    harness.step();
    for share in [0.3, 0.7, 1.0] {
        harness.hover_at(from + (onto - from) * share + vec2(0.0, 12.0 * share));
        harness.step();
    }
    harness.drop_at(onto + vec2(0.0, 12.0));
    harness.run_steps(3);
    assert_eq!(said(&mut harness), [Action::MoveTo { item: ids[0], place: 2 }]);
    assert_eq!(order(&harness), [ids[1], ids[2], ids[0]]);
}

#[test]
fn waiting_items_say_when_they_are_ready_and_can_be_edited_and_removed() {
    let (place, ids) = resting(&["first", "second"]);
    let mut harness = panel(place);
    harness.get_by_label_contains("Paused. The model's memory is free");
    harness.get_by_label_contains("2 clips to make");
    harness.get_by_label_contains("Waits · takes about 40 s · ready in about 80 s");
    click(&mut harness, "Edit", 1);
    assert_eq!(said(&mut harness), [Action::Edit(ids[1])]);
    click(&mut harness, "Remove from the queue", 0);
    assert_eq!(said(&mut harness), [Action::Remove(ids[0])]);
    assert_eq!(order(&harness), [ids[1]]);

    harness.get_by_label_contains("Waits: second").click_secondary();
    harness.run_steps(3);
    harness.get_by_label("Set aside").click();
    harness.run_steps(3);
    assert_eq!(said(&mut harness), [Action::Stop(ids[1])]);
    harness.get_by_label_contains("Stopped · 0 of 8 steps done");
    click(&mut harness, "Run it", 0);
    assert_eq!(said(&mut harness), [Action::Resume { item: ids[1], force: false }]);
    harness.get_by_label_contains("Waits · takes about 40 s");
}

#[test]
fn a_run_is_followed_stopped_and_gone_on_with() {
    let (place, ids) = resting(&["a red ball"]);
    let mut harness = panel(place);
    click(&mut harness, "Go on", 0);
    assert_eq!(said(&mut harness), [Action::Unpause]);
    until(&mut harness, "the third step", |harness| {
        harness.state().place.studio.state().live.as_ref().is_some_and(|live| live.calls_done >= 2)
    });
    harness.get_by_label_contains(" left");
    let bar = harness.get_by_label("Progress: a red ball");
    let share = bar.accesskit_node().numeric_value().expect("a value");
    assert!(share > 0.0 && share < 1.0 || share > 1.0 && share < 100.0, "{share}");
    let delay = harness.output().viewport_output.values().map(|output| output.repaint_delay).min().expect("a window");
    assert!(delay.as_millis() <= 200, "progress is painted: {delay:?}");
    click(&mut harness, "Stop", 0);
    assert_eq!(said(&mut harness), [Action::Stop(ids[0])]);
    until(&mut harness, "the stop", |harness| harness.query_by_label_contains("Stopped · ").is_some());
    let done = harness.state().place.studio.state().queue[0].steps_done;
    assert!((1..8).contains(&done), "{done}");
    click(&mut harness, &format!("Go on at step {}", done + 1), 0);
    assert_eq!(said(&mut harness), [Action::Resume { item: ids[0], force: false }]);
    until(&mut harness, "the clip", |harness| harness.state().place.studio.state().queue.is_empty());
    harness.run_steps(3);
    harness.get_by_label("Nothing waits");
    assert_eq!(harness.state().place.clips()[0].recipe.prompt, "a red ball");
}

#[test]
fn what_the_programs_end_cut_off_is_offered_first() {
    let (place, ids) = resting(&["first", "second"]);
    let database = place.studio.database();
    database.set_item_progress(ids[1], 3, 2.0).expect("an item");
    database.set_item_state(ids[1], ItemState::Interrupted, None).expect("an item");
    place.studio.move_to(ids[1], 1).expect("an item");
    let mut harness = panel(place);
    let above = harness.get_by_label_contains("The program ended while this ran").rect();
    assert!(above.bottom() < harness.get_by_label("Move: first").rect().top());
    harness.get_by_label_contains("3 of 8 steps done · second");
    click(&mut harness, "Go on at step 4", 0);
    assert_eq!(said(&mut harness), [Action::Resume { item: ids[1], force: false }]);
}

#[test]
fn an_error_says_what_happened_and_mends_it() {
    let (place, ids) = resting(&["too large"]);
    let report = ErrorReport {
        fault: Fault::OutOfMemory,
        what: "This needs 13.1 GB, and 11.2 GB are free".into(),
        why: "It was not begun.".into(),
        remedies: vec![Remedy::Frames(29), Remedy::RunAnyway],
        details: "device: none".into(),
    };
    place.studio.database().set_item_state(ids[0], ItemState::Failed, Some(&report)).expect("an item");
    place.studio.move_to(ids[0], 0).expect("an item");
    let mut harness = panel(place);
    harness.get_by_label("This needs 13.1 GB, and 11.2 GB are free");
    harness.get_by_label("It was not begun.");
    assert!(harness.query_by_label("device: none").is_none(), "details are folded");
    click(&mut harness, "Details", 0);
    harness.run_steps(20);
    harness.get_by_label("device: none");
    click(&mut harness, "29 frames instead", 0);
    click(&mut harness, "Run anyway", 0);
    click(&mut harness, "Copy report", 0);
    let mend = |remedy| Action::Mend { item: ids[0], remedy };
    let all = [mend(Remedy::Frames(29)), mend(Remedy::RunAnyway), Action::CopyText(report.text())];
    assert_eq!(said(&mut harness), all);
}
