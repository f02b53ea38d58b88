//! How the window feels: the list of all commands, keys that can be changed, undo, levels, sizes, and a keyboard that reaches
//! everything.

use std::collections::BTreeSet;
use std::sync::Arc;

use eframe::egui::{Color32, Event, Key, Modifiers, Rect, Theme, Vec2, ViewportCommand};
use egui_kittest::kittest::{NodeT, Queryable};
use egui_kittest::{Harness, SnapshotResults};
use tilereel::app::Window;
use tilereel::app::action::Action;
use tilereel::app::graphics::Loss;
use tilereel::app::inspector::Page;
use tilereel::app::preferences::Level;
use tilereel::app::theme::{DARK, LIGHT};
use tilereel::studio::{ErrorReport, Fault, ItemState, NewItem, Remedy, Studio};

use super::states::{PIXELS_OF_NUMBERS, paints_in_software, picture, settle};
use super::whole::{act, click, options, press, wait, window};
use crate::studio::Place;

/// Actions about a file of this system, which a dialog or a drop names.
const OF_FILES: [&str; 4] = ["OpenFile", "OpenModel", "VerifyFile", "ShowInFolder"];

/// Frames are gone to with the keys of the player, or by a click on what is drawn over them.
const OF_FRAMES: [&str; 1] = ["GoToFrame"];

/// The name of an action without what it is about.
fn kind(action: &Action) -> String {
    format!("{action:?}").chars().take_while(|letter| letter.is_alphanumeric()).collect()
}

/// All kinds of actions, as the source has them.
fn kinds() -> BTreeSet<String> {
    let source = include_str!("../../../src/app/action.rs");
    let variant = |line: &str| {
        let name = line.strip_prefix("    ").filter(|rest| rest.starts_with(|letter: char| letter.is_ascii_uppercase()))?;
        Some(name.chars().take_while(|letter| letter.is_alphanumeric()).collect())
    };
    let kinds: BTreeSet<String> = source.lines().filter_map(variant).collect();
    assert!(kinds.len() > 40 && kinds.contains("Generate") && kinds.contains("ResetLayout"), "{kinds:?}");
    kinds
}

/// The kinds that the list of commands offers now.
pub fn offered(harness: &mut Harness<'_, Window>) -> BTreeSet<String> {
    act(harness, Action::Palette);
    harness.run_steps(2);
    let palette = harness.state().palette().expect("it is open");
    let kinds = palette.entries().iter().filter_map(|entry| entry.action.as_ref().ok()).map(kind).collect();
    press(harness, Modifiers::NONE, Key::Escape);
    assert!(harness.state().palette().is_none(), "Escape closes it");
    kinds
}

#[test]
fn a_tooltip_ends_where_a_dialog_begins() {
    let place = Place::new();
    let mut harness = window(&place, |_| {});
    let tip = |harness: &Harness<'_, Window>| harness.query_all_by_label_contains("twice is faster").count();
    let button = harness.get_by_label("To the end").rect();
    harness.hover_at(button.center() - Vec2::new(button.width() + 2.0, 0.0) * 2.0);
    harness.run_steps(40);
    assert_eq!(tip(&harness), 1, "it is there");
    act(&mut harness, Action::Palette);
    harness.run_steps(4);
    assert_eq!(tip(&harness), 0, "it stays over the commands");
    press(&mut harness, Modifiers::NONE, Key::Escape);
}

/// Presses what may be outside of what is scrolled to.
fn choose(harness: &mut Harness<'_, Window>, name: &str) {
    harness.get_by_label(name).click_accesskit();
    harness.run_steps(3);
}

fn studio<'a>(harness: &'a Harness<'_, Window>) -> &'a Studio {
    harness.state().studio()
}

#[test]
fn every_action_is_in_the_list_of_commands() {
    let place = Place::new();
    let mut harness = window(&place, |_| {});
    let example = harness.state().stage().clip().expect("the example").entry.clone();
    let item = NewItem { recipe: example.recipe.clone(), model: example.model.clone(), leaves: None, force: false };
    act(&mut harness, Action::Pause);
    let ids = studio(&harness).enqueue(&vec![item; 3]).expect("queued");
    let report = ErrorReport {
        fault: Fault::DeviceLost,
        what: "The graphics device went away".into(),
        why: "It was unplugged.".into(),
        remedies: vec![Remedy::Retry, Remedy::UseCpu],
        details: "none".into(),
    };
    studio(&harness).database().set_item_state(ids[2], ItemState::Failed, Some(&report)).expect("it is kept");
    studio(&harness).move_to(ids[0], 0).expect("the queue is read anew");
    harness.state_mut().draft_mut().steps += 1;
    harness.run_steps(2);

    let mut all = offered(&mut harness);
    for action in [
        Action::Branch { clip: example.id, step: 2 },
        Action::Edit(ids[1]),
        Action::Hint(false),
        Action::Undo,
        Action::Delete(example.id),
    ] {
        act(&mut harness, action);
        harness.run_steps(2);
        all.extend(offered(&mut harness));
    }
    act(&mut harness, Action::UndoDelete);
    act(&mut harness, Action::Unpause);
    wait(&mut harness, "the run", |window| window.studio().state().live.is_some());
    act(&mut harness, Action::ShowClip(example.id));
    act(&mut harness, Action::Verify(example.id));
    all.extend(offered(&mut harness));
    act(&mut harness, Action::StopVerifying);
    act(&mut harness, Action::ShowPage(Page::Attention));
    wait(&mut harness, "the record", |window| window.attention_map().is_some());
    all.extend(offered(&mut harness));
    wait(&mut harness, "a clip", |window| window.studio().state().newest.is_some_and(|newest| newest != example.id));
    studio(&harness).pause().expect("it is remembered");
    let newest = studio(&harness).state().newest.expect("a clip");
    act(&mut harness, Action::Compare { a: example.id, b: newest });
    all.extend(offered(&mut harness));

    let missing: Vec<String> = kinds()
        .into_iter()
        .filter(|kind| !all.contains(kind) && !OF_FILES.contains(&kind.as_str()) && !OF_FRAMES.contains(&kind.as_str()))
        .collect();
    // A note comes when something goes wrong beside the runs.
    assert_eq!(missing, ["DismissNote"], "no command does these");
}

#[test]
fn a_command_is_found_by_its_letters_and_remembered() {
    let place = Place::new();
    let mut harness = window(&place, |_| {});
    press(&mut harness, Modifiers::COMMAND, Key::K);
    harness.run_steps(3);
    harness.event(Event::Text("evry lrgr".into()));
    harness.run_steps(2);
    press(&mut harness, Modifiers::NONE, Key::Enter);
    assert!(harness.state().palette().is_none());
    assert_eq!(harness.state().preferences().scale_percent, 110);
    harness.run_steps(2);
    assert_eq!(harness.ctx.zoom_factor(), 1.1);
    // What was used last comes first.
    press(&mut harness, Modifiers::COMMAND, Key::K);
    harness.run_steps(3);
    press(&mut harness, Modifiers::NONE, Key::Enter);
    assert_eq!(harness.state().preferences().scale_percent, 125);
    press(&mut harness, Modifiers::COMMAND, Key::Num0);
    assert_eq!(harness.state().preferences().scale_percent, 100);
    drop(harness);
    let harness = window(&place, |_| {});
    assert_eq!(harness.state().preferences().recent_commands, ["larger"]);
}

#[test]
fn keys_are_changed_swapped_and_kept() {
    let place = Place::new();
    let mut harness = window(&place, |_| {});
    act(&mut harness, Action::Keys);
    harness.run_steps(4);
    choose(&mut harness, "Keys of Export the clip…: Ctrl+E");
    press(&mut harness, Modifiers::COMMAND, Key::Enter);
    assert!(harness.query_by_label_contains("belongs to “Generate”").is_some(), "the conflict is named");
    choose(&mut harness, "Swap them");
    harness.run_steps(2);
    assert!(harness.query_by_label("Keys of Generate: Ctrl+E").is_some());
    assert!(studio(&harness).state().queue.is_empty(), "nothing is generated while keys are chosen");
    choose(&mut harness, "Done");
    press(&mut harness, Modifiers::COMMAND, Key::Enter);
    harness.run_steps(4);
    assert!(harness.query_by_label("Cancel").is_some(), "the export is open");
    drop(harness);

    let mut harness = window(&place, |_| {});
    act(&mut harness, Action::Keys);
    harness.run_steps(4);
    assert!(harness.query_by_label("Keys of Generate: Ctrl+E").is_some(), "they are kept");
    choose(&mut harness, "Reset all");
    harness.run_steps(2);
    assert!(harness.query_by_label("Keys of Export the clip…: Ctrl+E").is_some());
    // A key that is taken away does nothing.
    choose(&mut harness, "Keys of Export the clip…: Ctrl+E");
    press(&mut harness, Modifiers::NONE, Key::Backspace);
    choose(&mut harness, "Done");
    press(&mut harness, Modifiers::COMMAND, Key::E);
    harness.run_steps(4);
    assert!(harness.query_by_label("Cancel").is_none());
}

#[test]
fn settings_are_taken_back_where_nobody_types() {
    let place = Place::new();
    let mut harness = window(&place, |_| {});
    let before = harness.state().draft().steps;
    for steps in [before + 1, before + 2, before + 3] {
        harness.state_mut().draft_mut().steps = steps;
        harness.step();
    }
    // The prompt has the keyboard at the start: its own undo is meant.
    press(&mut harness, Modifiers::COMMAND, Key::Z);
    assert_eq!(harness.state().draft().steps, before + 3);
    harness.ctx.memory_mut(|memory| memory.stop_text_input());
    harness.step();
    press(&mut harness, Modifiers::COMMAND, Key::Z);
    assert_eq!(harness.state().draft().steps, before, "a run of changes is one step");
    press(&mut harness, Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::Z);
    assert_eq!(harness.state().draft().steps, before + 3);
    press(&mut harness, Modifiers::COMMAND, Key::Z);
    press(&mut harness, Modifiers::COMMAND, Key::Y);
    assert_eq!(harness.state().draft().steps, before + 3);
}

#[test]
fn the_simple_level_hides_settings_and_says_that_they_stand() {
    let place = Place::new();
    let mut harness = window(&place, |_| {});
    harness.state_mut().draft_mut().guidance_scale = 4.5;
    harness.state_mut().draft_mut().clips = 3;
    // The clip's own facts have such names too.
    let count = |harness: &Harness<'_, Window>, name: &str| harness.query_all_by_label(name).count();
    let hidden = ["Guidance", "Sampler", "Attention mask"];
    let in_lab = hidden.map(|name| count(&harness, name));
    act(&mut harness, Action::Level(Level::Simple));
    harness.run_steps(3);
    for shown in ["Quality", "Frames", "Size", "Seed"] {
        assert!(harness.query_all_by_label(shown).next().is_some(), "{shown}");
    }
    for (hidden, before) in hidden.into_iter().zip(in_lab) {
        assert!(count(&harness, hidden) < before, "{hidden}");
    }
    assert_eq!((harness.state().draft().guidance_scale, harness.state().draft().clips), (4.5, 3), "they stand");
    drop(harness);
    let mut harness = window(&place, |_| {});
    assert_eq!(harness.state().preferences().level, Level::Simple, "it is remembered");
    harness.state_mut().draft_mut().guidance_scale = 4.5;
    harness.state_mut().draft_mut().clips = 3;
    harness.run_steps(2);
    choose(&mut harness, "2 more settings differ from the model's own");
    harness.run_steps(3);
    assert_eq!(harness.state().preferences().level, Level::Lab, "the line leads to them");
}

#[test]
fn the_hint_is_shown_once_and_motion_can_be_taken_away() {
    let place = Place::new();
    let mut harness = window(&place, |_| {});
    assert!(harness.query_by_label_contains("Three things to try").is_some());
    click(&mut harness, "Take the hint away");
    assert!(harness.query_by_label_contains("Three things to try").is_none());
    assert!(harness.state().player().state.playing);
    act(&mut harness, Action::ReducedMotion(true));
    harness.run_steps(2);
    assert_eq!(harness.ctx.global_style().animation_time, 0.0);
    drop(harness);
    let harness = window(&place, |_| {});
    assert!(harness.query_by_label_contains("Three things to try").is_none(), "it does not come back");
    assert!(!harness.state().player().state.playing, "nothing plays by itself");
}

/// A widget that can be acted on.
struct Control {
    id: String,
    name: String,
    rect: Rect,
    is_focused: bool,
}

/// Those that take part in the keyboard's way.
fn controls(harness: &Harness<'_, Window>) -> Vec<Control> {
    const ROLES: [&str; 10] = [
        "Button",
        "CheckBox",
        "RadioButton",
        "Slider",
        "SpinButton",
        "ComboBox",
        "TextInput",
        "MultilineTextInput",
        "Link",
        "Switch",
    ];
    let mut controls = Vec::new();
    let mut open = vec![harness.root()];
    while let Some(node) = open.pop() {
        let accessible = node.accesskit_node();
        let role = format!("{:?}", accessible.role());
        if ROLES.contains(&role.as_str()) && !accessible.is_disabled() {
            let name = format!("{role} “{}”", accessible.label().unwrap_or_default());
            let id = format!("{:?}", accessible.id());
            controls.push(Control { id, name, rect: node.rect(), is_focused: node.is_focused() });
        }
        open.extend(node.children());
    }
    controls
}

/// How many corners of what is painted around a place have this colour.
fn corners(harness: &Harness<'_, Window>, place: Rect, color: Color32) -> usize {
    let shapes = harness.output().shapes.clone();
    let mut corners = 0;
    for primitive in harness.ctx.tessellate(shapes, 1.0) {
        let eframe::egui::epaint::Primitive::Mesh(mesh) = primitive.primitive else { continue };
        let seen = place.expand(5.0).intersect(primitive.clip_rect);
        corners += mesh.vertices.iter().filter(|vertex| vertex.color == color && seen.contains(vertex.pos)).count();
    }
    corners
}

#[test]
fn the_keyboard_reaches_everything_and_shows_where_it_is() {
    for (theme, accent) in [(Theme::Dark, DARK.accent), (Theme::Light, LIGHT.accent)] {
        let place = Place::new();
        let mut harness = window(&place, |_| {});
        act(&mut harness, Action::Theme(theme.into()));
        act(&mut harness, Action::ReducedMotion(true));
        harness.run_steps(3);
        harness.ctx.memory_mut(|memory| memory.stop_text_input());
        harness.run_steps(2);
        let all: Vec<Control> = controls(&harness);
        assert!(all.len() > 40, "only {} controls were found", all.len());

        let (mut reached, mut unseen) = (BTreeSet::new(), Vec::new());
        for _ in 0..2 * all.len() {
            press(&mut harness, Modifiers::NONE, Key::Tab);
            // It is scrolled to.
            harness.run_steps(2);
            let Some(focused) = controls(&harness).into_iter().find(|control| control.is_focused) else { continue };
            if !reached.insert(focused.id) {
                continue;
            }
            let with = corners(&harness, focused.rect, accent);
            let id = harness.ctx.memory(|memory| memory.focused()).expect("it has the focus");
            harness.ctx.memory_mut(|memory| memory.surrender_focus(id));
            harness.run_steps(2);
            let without = corners(&harness, focused.rect, accent);
            harness.ctx.memory_mut(|memory| memory.request_focus(id));
            harness.run_steps(2);
            if with <= without {
                unseen.push(focused.name);
            }
        }
        let missed: Vec<&str> =
            all.iter().filter(|control| !reached.contains(&control.id)).map(|control| control.name.as_str()).collect();
        assert!(missed.is_empty(), "{theme:?}: Tab does not reach {missed:#?}");
        assert!(unseen.is_empty(), "{theme:?}: the focus is not seen on {unseen:#?}");
    }
}

/// The window has a device of its own, which the adapter's driver may take away like any other.
#[test]
fn a_window_whose_graphics_are_lost_makes_room_for_another() {
    if tilereel::gpu::device::adapters().is_empty() {
        println!("skipped: there is no adapter");
        assert!(std::env::var_os("CI").is_none(), "CI installs one");
        return;
    }
    let place = Place::new();
    let (studio, options, loss) = (Arc::new(place.open()), options(&place), Loss::default());
    let (watching, mut device) = (loss.clone(), None);
    let mut harness = Harness::builder().with_step_dt(1.0 / 24.0).wgpu().build_eframe(|context| {
        let mut window = Window::new(context, studio.clone(), options.clone());
        let painted_by = context.wgpu_render_state.as_ref().expect("wgpu paints");
        watching.watch(painted_by, &context.egui_ctx);
        window.reopened(watching.clone(), None);
        device = Some(painted_by.device.clone());
        window
    });
    wait(&mut harness, "the device and the model", |window| window.is_ready());
    let closes = |harness: &Harness<'_, Window>| {
        let commands = harness.output().viewport_output.values().flat_map(|viewport| &viewport.commands);
        commands.into_iter().any(|command| *command == ViewportCommand::Close)
    };
    assert!(!closes(&harness));
    let device = device.expect("it was made");
    device.destroy();
    let _ = device.poll(wgpu::PollType::wait_indefinitely());
    harness.step();
    assert!(loss.reason().is_some_and(|reason| !reason.is_empty()), "{:?}", loss.reason());
    assert!(closes(&harness), "it closes, and the program opens another");
    drop(harness);
    assert!(studio.device().is_some(), "the engine does not mind");
}

#[test]
fn the_dialogs_look_as_they_should() {
    if !paints_in_software() {
        return;
    }
    let mut results = SnapshotResults::new();
    let place = Place::new();
    let studio = Arc::new(place.open());
    for (name, theme, action) in [("palette-dark", Theme::Dark, Action::Palette), ("keys-light", Theme::Light, Action::Keys)] {
        let (studio, options) = (studio.clone(), options(&place));
        let mut harness = Harness::builder()
            .with_size(Vec2::new(900.0, 640.0))
            .with_theme(theme)
            .with_step_dt(1.0 / 24.0)
            .wgpu()
            .build_eframe(move |context| Window::new(context, studio, options));
        wait(&mut harness, "the device and the model", |window| window.is_ready());
        settle(&mut harness);
        act(&mut harness, Action::ReducedMotion(true));
        act(&mut harness, action);
        harness.run_steps(12);
        picture(&mut harness, name, PIXELS_OF_NUMBERS, &mut results);
    }
}
