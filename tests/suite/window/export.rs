//! The export window: what is chosen in it is what stands in the file.

use std::fs;
use std::path::PathBuf;

use eframe::egui::{Role, Vec2, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use tilereel::app::action::Action;
use tilereel::app::export_dialog::ExportDialog;
use tilereel::clip::{self, Frames};
use tilereel::studio::Picture;

use super::panels::{Place, Stage, until, window};

const SIZE: Vec2 = vec2(900.0, 800.0);

struct Opened {
    dialog: Option<ExportDialog>,
}

fn dialog(file: &str, frames: std::ops::RangeInclusive<usize>) -> (Harness<'static, Stage<Opened>>, PathBuf) {
    let place = Place::new();
    let path = place.folder.path().join(file);
    let opened = Opened { dialog: Some(ExportDialog::new(&place.studio, place.example(), frames, Some(path.clone()))) };
    let mut harness = window(SIZE, opened, place, |ui, stage| {
        if let Some(dialog) = &mut stage.panel.dialog
            && dialog.show(ui.ctx(), None, &mut stage.actions).is_break()
        {
            stage.panel.dialog = None;
        }
    });
    until(&mut harness, "the frames", |harness| harness.query_by_label_contains(" of 256 × 144, ").is_some());
    (harness, path)
}

fn click(harness: &mut Harness<'_, Stage<Opened>>, label: &str) {
    harness.get_by_label(label).click();
    harness.run_steps(4);
}

fn export(harness: &mut Harness<'_, Stage<Opened>>) {
    harness.get_by_role_and_label(Role::Button, "Export").click();
    harness.run_steps(2);
    until(harness, "the export", |harness| harness.query_by_label("The clip is written").is_some());
    // The dialog takes its new size and place.
    harness.run_steps(4);
}

fn library_frames(harness: &Harness<'_, Stage<Opened>>) -> Frames {
    let place = &harness.state().place;
    let frames = place.studio.picture(Picture::Frames(place.example().id)).frames().expect("they are loaded");
    (*frames).clone()
}

#[test]
fn the_file_holds_what_was_chosen() {
    let (mut harness, path) = dialog("clip.apng", 3..=8);
    let radio = harness.get_by_label("APNG").accesskit_node().toggled();
    assert_eq!(radio, Some(eframe::egui::accesskit::Toggled::True), "the name's ending chooses");
    click(&mut harness, "There and back");
    harness.get_by_label_contains("10 frames of 256 × 144");
    export(&mut harness);
    let (written, whole) = (clip::read_frames(&path).expect("the file"), library_frames(&harness));
    let order = [3, 4, 5, 6, 7, 8, 7, 6, 5, 4];
    assert_eq!(written.count(), order.len());
    for (at, from) in order.into_iter().enumerate() {
        assert!(written.frame(at) == whole.frame(from), "frame {at} is not frame {from}");
    }
    let recipe = clip::read_recipe(&path).expect("the file").expect("a recipe inside");
    assert_eq!(recipe, harness.state().place.example().recipe.to_json());
    click(&mut harness, "Open folder");
    assert_eq!(harness.state().actions, [Action::ShowInFolder(path)]);
    click(&mut harness, "Done");
    assert!(harness.state().panel.dialog.is_none());
}

#[test]
fn the_recipe_can_be_left_out_or_put_beside() {
    let (mut harness, path) = dialog("clip.mp4", 0..=28);
    click(&mut harness, "WebP");
    let path = path.with_extension("webp");
    click(&mut harness, "Put the recipe into the file (prompt, seed, model …)");
    harness.get_by_label_contains("The file holds the pictures alone");
    click(&mut harness, "Also write it beside, as a .recipe.json file");
    click(&mut harness, "2×");
    click(&mut harness, "Squares");
    harness.get_by_label_contains("29 frames of 512 × 288");
    export(&mut harness);
    assert_eq!(clip::read_recipe(&path).expect("the file"), None);
    let beside = fs::read_to_string(path.with_extension("recipe.json")).expect("the recipe beside");
    assert_eq!(beside, harness.state().place.example().recipe.to_json());
    let (written, whole) = (clip::read_frames(&path).expect("the file"), library_frames(&harness));
    assert_eq!((written.width, written.height, written.count()), (512, 288, 29));
    let pixel = |frames: &Frames, x: usize, y: usize| frames.frame(7)[(y * frames.width + x) * 3..][..3].to_vec();
    assert!((0..512).all(|x| pixel(&written, x, 101) == pixel(&whole, x / 2, 50)), "squares of two by two");

    // The next export begins with these choices.
    let place = &harness.state().place;
    let again = ExportDialog::new(&place.studio, place.example(), 0..=28, None);
    assert!(!again.choices.recipe_inside && again.choices.recipe_beside);
    assert_eq!(again.choices.file().parent(), path.parent());
}

#[test]
fn a_stopped_export_leaves_nothing() {
    let (mut harness, path) = dialog("clip.webm", 0..=28);
    click(&mut harness, "4×");
    harness.get_by_role_and_label(Role::Button, "Export").click();
    until(&mut harness, "the beginning", |harness| harness.query_by_label("Progress of the export").is_some());
    harness.run_steps(4);
    click(&mut harness, "Stop");
    until(&mut harness, "the end", |harness| harness.query_by_label("File to write").is_some());
    let folder = path.parent().expect("a folder");
    until(&mut harness, "the folder", |_| {
        let names = fs::read_dir(folder).expect("the folder").flatten().map(|entry| entry.file_name());
        names.filter(|name| name != "home").count() == 0
    });
}

#[test]
fn places_that_cannot_be_written_are_said_before() {
    let (mut harness, path) = dialog("clip.gif", 0..=28);
    let export_is_on = |harness: &Harness<'_, Stage<Opened>>| {
        !harness.get_by_role_and_label(Role::Button, "Export").accesskit_node().is_disabled()
    };
    assert!(export_is_on(&harness));
    let name = |harness: &mut Harness<'_, Stage<Opened>>, path: String| {
        harness.state_mut().panel.dialog.as_mut().expect("it is open").choices.set_path(path);
        harness.run_steps(3);
    };
    name(&mut harness, path.with_file_name("none").join("clip.gif").display().to_string());
    harness.get_by_label_contains("does not exist");
    assert!(!export_is_on(&harness));
    name(&mut harness, String::new());
    harness.get_by_label("Give the file a name.");
    assert!(!export_is_on(&harness));
    fs::write(&path, "another file").expect("a file");
    click(&mut harness, "Choose…");
    harness.get_by_label("A file of this name is there, and will be replaced.");
    assert!(export_is_on(&harness));
    export(&mut harness);
    assert_eq!(clip::read_frames(&path).expect("the file").count(), 29);
    click(&mut harness, "Export another");
    click(&mut harness, "Cancel");
    assert!(harness.state().panel.dialog.is_none());
}
