//! The mask painter over the settings: what is painted is what the plan file holds, and what the settings then use.

use eframe::egui::accesskit::Role;
use eframe::egui::{Key, Modifiers, pos2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use tilereel::app::Window;
use tilereel::app::action::Action;
use tilereel::generate::recipe::MaskChoice;
use tilereel::mask::{LayerMask, MaskPlan};

use super::whole::{act, press, wait, window};
use crate::studio::Place;

fn open(place: &Place) -> Harness<'static, Window> {
    let mut harness = window(place, |_| {});
    act(&mut harness, Action::PaintMask);
    harness.run_steps(4);
    harness
}

fn plan<'a>(harness: &'a Harness<'_, Window>) -> &'a MaskPlan {
    harness.state().painter().expect("it is open").plan()
}

fn layer_name(harness: &Harness<'_, Window>, layer: usize) -> String {
    plan(harness).layers()[layer].name()
}

/// Clicks a control of the painter, which is found by how its name begins.
fn choose(harness: &mut Harness<'_, Window>, name: &str) {
    let begins = |label: Option<String>| label.is_some_and(|label| label.starts_with(name));
    let nodes = [Role::Button, Role::ComboBox].into_iter().flat_map(|role| harness.get_all_by_role(role));
    let node =
        { nodes }.find(|node| begins(node.accesskit_node().label())).unwrap_or_else(|| panic!("nothing begins with {name}"));
    node.click_accesskit();
    harness.run_steps(3);
}

/// The middle of a tile of 8 x 8 latent frames.
fn tile(harness: &Harness<'_, Window>, layer: usize, query: usize, key: usize) -> eframe::egui::Pos2 {
    let name = format!("Tiles of layer {}", layer + 1);
    let rect = harness.get_by_label(&name).rect();
    let cell = rect.width() / 8.0;
    pos2(rect.left() + (key as f32 + 0.5) * cell, rect.top() + (query as f32 + 0.5) * cell)
}

fn drag(harness: &mut Harness<'_, Window>, from: eframe::egui::Pos2, to: eframe::egui::Pos2) {
    harness.drag_at(from);
    harness.run_steps(2);
    harness.hover_at(to);
    harness.run_steps(2);
    harness.drop_at(to);
    harness.run_steps(2);
}

fn seconds_and_tiles(harness: &Harness<'_, Window>) -> [String; 2] {
    ["Time", "Tiles"].map(|name| {
        let figure = format!("{name} when painted so: ");
        let node = harness.get_by_label_contains(&figure);
        node.accesskit_node().label().or(node.value()).expect("a figure")
    })
}

#[test]
fn what_is_painted_is_saved_and_used() {
    let place = Place::new();
    let mut harness = open(&place);
    let model = harness.state().studio().catalog().get("fast").model().expect("mini").clone();
    let searched = model.searched_plan(8).expect("mini has a plan");
    assert_eq!(plan(&harness).layers(), searched.layers(), "it begins with the plan of the settings");

    // A preset for all layers, then a drag over three tiles of the first.
    choose(&mut harness, "All layers");
    choose(&mut harness, "Full");
    assert_eq!(plan(&harness).density(), 1.0);
    let dense = seconds_and_tiles(&harness);
    assert_eq!(dense[1], "Tiles when painted so: 100 %");
    let (from, to) = (tile(&harness, 0, 5, 1), tile(&harness, 0, 5, 3));
    drag(&mut harness, from, to);
    assert_eq!(plan(&harness).kept_tiles(), 12 * 64 - 3);
    let row: Vec<bool> = (0..8).map(|key| plan(&harness).layers()[0].mask().keeps(5, key)).collect();
    assert_eq!(row, [true, false, false, false, true, true, true, true]);

    // One step back for the drag, one for the preset, and forth again.
    press(&mut harness, Modifiers::COMMAND, Key::Z);
    assert_eq!(plan(&harness).density(), 1.0);
    press(&mut harness, Modifiers::COMMAND, Key::Z);
    assert_eq!(plan(&harness).layers(), searched.layers());
    press(&mut harness, Modifiers::COMMAND | Modifiers::SHIFT, Key::Z);
    press(&mut harness, Modifiers::COMMAND, Key::Y);
    assert_eq!(plan(&harness).kept_tiles(), 12 * 64 - 3);

    // The evenly spaced frames of the second layer, by the heads of the columns.
    choose(&mut harness, "This layer");
    press(&mut harness, Modifiers::NONE, Key::PageDown);
    choose(&mut harness, "Reference frames");
    choose(&mut harness, "1:7");
    assert_eq!(layer_name(&harness, 1), "1:7");
    choose(&mut harness, "Reference frame 5, column");
    assert_eq!(plan(&harness).layers()[1], LayerMask::named("2:6", 8).expect("it exists"));
    // Neighbours, by the preset, and tile by tile: the rule is found behind the tiles.
    let with_references = plan(&harness).clone();
    choose(&mut harness, "Neighbours");
    choose(&mut harness, "near:1");
    let near = LayerMask::named("near:1", 8).expect("it exists");
    assert_eq!(plan(&harness).layers()[1], near);
    for painted in ["painted", "near:1"] {
        let place = tile(&harness, 1, 5, 1);
        drag(&mut harness, place, place);
        assert_eq!(layer_name(&harness, 1), painted);
    }
    for _ in 0..3 {
        press(&mut harness, Modifiers::COMMAND, Key::Z);
    }
    assert_eq!(plan(&harness), &with_references);
    choose(&mut harness, "Apply to all");
    assert_eq!(plan(&harness), &MaskPlan::uniform(12, 8, "2:6").expect("it exists"));
    assert_ne!(seconds_and_tiles(&harness), dense, "the costs follow");

    choose(&mut harness, "Save and use");
    assert!(harness.state().painter().is_none());
    let path = place.home.masks_folder().join("painted.json");
    assert_eq!(harness.state().draft().mask, MaskChoice::File(path.clone()));
    assert_eq!(MaskPlan::load(&path).expect("it is written"), MaskPlan::uniform(12, 8, "2:6").expect("it exists"));
    wait(&mut harness, "the settings to take it", |window| window.is_ready());

    // Painted on again, it is the same file, and the costs are those of what it now holds.
    act(&mut harness, Action::PaintMask);
    harness.run_steps(3);
    choose(&mut harness, "Full");
    choose(&mut harness, "Save and use");
    harness.run_steps(3);
    let density = 1.0 / 12.0 + 34.0 / 64.0 * 11.0 / 12.0;
    assert!((MaskPlan::load(&path).expect("it is written").density() - density).abs() < 1e-9);
    harness.get_by_label("Tiles: 57 %");
}

#[test]
fn the_keyboard_paints_and_no_frame_is_left_blind() {
    let place = Place::new();
    let mut harness = open(&place);
    choose(&mut harness, "Reference frames");
    choose(&mut harness, "0:8");
    assert_eq!(layer_name(&harness, 0), "0:8");
    harness.get_by_label("Tiles of layer 1").focus();
    harness.run_steps(2);
    press(&mut harness, Modifiers::NONE, Key::ArrowDown);
    press(&mut harness, Modifiers::NONE, Key::ArrowRight);
    let said = |harness: &Harness<'_, Window>| harness.get_by_label("Tiles of layer 1").value().unwrap_or_default();
    assert_eq!(said(&harness), "Latent frame 2 looks at latent frame 2: computed");
    press(&mut harness, Modifiers::NONE, Key::Space);
    assert_eq!(layer_name(&harness, 0), "0:8", "its only tile stays");
    harness.get_by_label_contains("Latent frame 2 must look at one frame at least");
    press(&mut harness, Modifiers::NONE, Key::ArrowLeft);
    press(&mut harness, Modifiers::NONE, Key::Space);
    assert!(plan(&harness).layers()[0].mask().keeps(1, 0));
    assert!(harness.query_by_label_contains("must look at one frame").is_none(), "the hint goes");
    press(&mut harness, Modifiers::NONE, Key::R);
    assert_eq!(layer_name(&harness, 0), "1:7");

    // What was painted is not lost by Escape.
    let mask = harness.state().draft().mask.clone();
    press(&mut harness, Modifiers::NONE, Key::Escape);
    press(&mut harness, Modifiers::NONE, Key::Escape);
    harness.get_by_label_contains("What was painted is not saved");
    choose(&mut harness, "Leave it");
    assert!(harness.state().painter().is_none());
    assert_eq!(harness.state().draft().mask, mask);
    assert!(!place.home.masks_folder().exists());
}

#[test]
fn steps_are_painted_in_ranges() {
    let place = Place::new();
    let mut harness = open(&place);
    choose(&mut harness, "All layers");
    choose(&mut harness, "Full");
    assert_eq!(
        harness.get_by_label_contains("Painted steps: ").accesskit_node().label().as_deref(),
        Some("Painted steps: all 4 steps")
    );
    choose(&mut harness, "Split");
    harness.get_by_label("Painted steps: steps 3 to 4 of 4");
    choose(&mut harness, "Reference frames");
    choose(&mut harness, "1:7");
    let sparse = 22.0 / 64.0;
    assert!((plan(&harness).density() - (0.5 + 0.5 * sparse)).abs() < 1e-9);
    let names =
        |harness: &Harness<'_, Window>| -> Vec<String> { plan(harness).ranges().map(|(_, layers)| layers[3].name()).collect() };
    assert_eq!(names(&harness), ["full", "1:7"]);
    // A click on an early step paints the first range again, and the arrows go back.
    let bar = harness.get_by_label_contains("Painted steps: ").rect();
    let at = bar.left_center() + eframe::egui::vec2(bar.width() * 1.5 / 4.0, 0.0);
    // The first click closes the list of presets, which lies over the steps.
    for _ in 0..2 {
        harness.hover_at(at);
        harness.run_steps(2);
        harness.drag_at(at);
        harness.run_steps(1);
        harness.drop_at(at);
        harness.run_steps(3);
    }
    harness.get_by_label("Painted steps: steps 1 to 2 of 4").focus();
    harness.run_steps(2);
    press(&mut harness, Modifiers::NONE, Key::ArrowRight);
    harness.get_by_label("Painted steps: steps 3 to 4 of 4");
    choose(&mut harness, "Split");
    choose(&mut harness, "Reference frames");
    choose(&mut harness, "2:6");
    assert_eq!(names(&harness), ["full", "1:7", "2:6"]);
    choose(&mut harness, "Join");
    assert_eq!(names(&harness), ["full", "1:7"]);
    press(&mut harness, Modifiers::COMMAND, Key::Z);
    assert_eq!(names(&harness), ["full", "1:7", "2:6"]);
    press(&mut harness, Modifiers::COMMAND | Modifiers::SHIFT, Key::Z);

    choose(&mut harness, "Save and use");
    let path = place.home.masks_folder().join("painted.json");
    let saved = MaskPlan::load(&path).expect("it is written");
    assert!(saved.ranges().map(|(from, _)| from).eq([0.0, 0.5]));
    wait(&mut harness, "the settings to take it", |window| window.is_ready());
    harness.run_steps(2);
    harness.get_by_label("Tiles: 67 %");
    // Opened again it has its ranges.
    act(&mut harness, Action::PaintMask);
    harness.run_steps(3);
    assert_eq!(plan(&harness), &saved);
    harness.get_by_label("Painted steps: steps 1 to 2 of 4");
}
