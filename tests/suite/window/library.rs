//! The film strip over a real library.

use std::time::Instant;

use eframe::egui::{Key, Vec2, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use tilereel::app::action::Action;
use tilereel::app::library_panel::LibraryPanel;
use tilereel::studio::{ClipId, Loaded, NewClip, Picture};

use super::panels::{Place, Stage, until, window};

const STRIP: Vec2 = vec2(1000.0, 220.0);

struct Strip {
    panel: LibraryPanel,
    shown: Option<ClipId>,
}

fn strip(place: Place, size: Vec2) -> Harness<'static, Stage<Strip>> {
    let panel = Strip { panel: LibraryPanel::default(), shown: None };
    let mut harness = window(size, panel, place, |ui, stage| {
        let Strip { panel, shown } = &mut stage.panel;
        panel.show(ui, &stage.place.studio, *shown, &mut stage.actions);
    });
    harness.run();
    harness
}

/// What the panel said since the last look; what changes the library is done.
fn said(harness: &mut Harness<'_, Stage<Strip>>) -> Vec<Action> {
    let stage = harness.state_mut();
    let actions = std::mem::take(&mut stage.actions);
    for action in &actions {
        match *action {
            Action::Favourite(clip, favourite) => stage.place.studio.set_favourite(clip, favourite),
            Action::Delete(clip) => stage.place.studio.delete(clip),
            Action::Restore(clip) => stage.place.studio.undelete(clip),
            _ => Ok(()),
        }
        .expect("the library");
    }
    harness.run();
    actions
}

fn listed(harness: &Harness<'_, Stage<Strip>>) -> Vec<String> {
    harness.state().panel.panel.clips().iter().map(|clip| clip.recipe.prompt.clone()).collect()
}

fn click(harness: &mut Harness<'_, Stage<Strip>>, label: &str) {
    harness.get_by_label(label).click();
    harness.run();
}

fn press(harness: &mut Harness<'_, Stage<Strip>>, key: Key) {
    harness.key_press(key);
    harness.run();
}

#[test]
fn clips_are_found_by_words_hearts_and_in_the_trash() {
    let place = Place::new();
    let ids = place.add_clips(&["A green CUBE spins", "a blue star rolls", "a green star falls"]);
    let mut harness = strip(place, vec2(1000.0, 400.0));
    assert_eq!(listed(&harness).len(), 4);
    assert_eq!(listed(&harness)[0], "a green star falls", "newest first");

    harness.get_by_label("Search the library").focus();
    harness.run();
    harness.get_by_label("Search the library").type_text("star GREEN");
    harness.run();
    assert_eq!(listed(&harness), ["a green star falls"]);
    harness.get_by_label("Search the library").type_text(" pyramid");
    harness.run();
    harness.get_by_label("Nothing found");
    harness.get_all_by_label("Clear the search").next().expect("a way back").click();
    harness.run();
    assert_eq!(listed(&harness).len(), 4);

    click(&mut harness, "Favourites");
    harness.get_by_label("No favourites yet");
    click(&mut harness, "Show all clips");
    harness.get_by_label("a blue star rolls").hover();
    harness.run_steps(3);
    harness.get_by_label("Favourite").click();
    harness.run_steps(3);
    assert_eq!(said(&mut harness), [Action::Favourite(ids[1], true)], "the heart is no click on the card");
    click(&mut harness, "Favourites");
    assert_eq!(listed(&harness), ["a blue star rolls"]);
    click(&mut harness, "Trash");
    harness.get_by_label("The trash is empty");
    click(&mut harness, "All");
    assert_eq!(listed(&harness).len(), 4);

    click(&mut harness, "Trash");
    harness.get_by_label("The trash is empty");
    click(&mut harness, "Back to the library");
    harness.get_by_label("A green CUBE spins").click_secondary();
    harness.run();
    harness.get_all_by_label("Delete").last().expect("in the menu").click();
    harness.run();
    assert_eq!(said(&mut harness), [Action::Delete(ids[0])]);
    assert!(!listed(&harness).contains(&"A green CUBE spins".to_owned()));
    click(&mut harness, "Trash");
    assert_eq!(listed(&harness), ["A green CUBE spins"]);
    click(&mut harness, "A green CUBE spins");
    assert_eq!(said(&mut harness), [], "what is in the trash is not played");
    click(&mut harness, "Bring back");
    assert_eq!(said(&mut harness), [Action::Restore(ids[0])]);
    harness.get_by_label("The trash is empty");
}

#[test]
fn an_empty_library_says_how_to_fill_it() {
    let place = Place::new();
    place.studio.delete(place.example().id).expect("the example");
    let harness = strip(place, STRIP);
    harness.get_by_label("Your clips gather here");
    assert!(harness.query_by_label("Delete").is_none(), "there is nothing to delete");
}

#[test]
fn buttons_are_for_the_selected_clip() {
    let place = Place::new();
    let ids = place.add_clips(&["a green cube", "a blue star"]);
    let clip = place.studio.clip(ids[0]).expect("a clip");
    let mut harness = strip(place, STRIP);
    assert!(harness.query_by_label("Export…").is_none(), "nothing is selected yet");
    click(&mut harness, "a green cube");
    assert_eq!(said(&mut harness), [Action::ShowClip(ids[0])]);
    let use_settings = Action::UseRecipe { recipe: Box::new(clip.recipe), model: clip.model };
    for (button, action) in [
        ("Export…", Action::Export(ids[0])),
        ("Run again", Action::RunAgain(ids[0])),
        ("Use its settings", use_settings),
        ("Copy recipe", Action::CopyRecipe(ids[0])),
        ("Open folder", Action::OpenFolder(ids[0])),
        ("Verify", Action::Verify(ids[0])),
    ] {
        click(&mut harness, button);
        assert_eq!(said(&mut harness), [action]);
    }
    click(&mut harness, "Delete");
    assert_eq!(said(&mut harness), [Action::Delete(ids[0])]);
    assert_eq!(harness.state().panel.panel.selected(), Some(harness.state().place.example().id), "the clip beside it");

    // In a narrow panel they are in a menu.
    harness.set_size(vec2(330.0, 400.0));
    harness.run();
    assert!(harness.query_by_label("Export…").is_none());
    click(&mut harness, "What to do with this clip");
    click(&mut harness, "Export…");
    assert_eq!(said(&mut harness), [Action::Export(harness.state().place.example().id)]);
}

#[test]
fn keys_walk_show_and_delete() {
    let place = Place::new();
    let ids = place.add_clips(&["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]);
    let newest_first: Vec<ClipId> = ids.iter().rev().copied().collect();
    let mut harness = strip(place, STRIP);
    click(&mut harness, "ten");
    said(&mut harness);
    let selected = |harness: &Harness<'_, Stage<Strip>>| harness.state().panel.panel.selected();
    (0..8).for_each(|_| press(&mut harness, Key::ArrowRight));
    assert_eq!(selected(&harness), Some(newest_first[8]));
    assert!(harness.get_by_label("two").is_focused(), "it was scrolled into view");
    assert_eq!(said(&mut harness), [], "walking shows nothing");
    press(&mut harness, Key::Enter);
    assert_eq!(said(&mut harness), [Action::ShowClip(newest_first[8])]);
    press(&mut harness, Key::Delete);
    assert_eq!(said(&mut harness), [Action::Delete(newest_first[8])]);
    press(&mut harness, Key::ArrowLeft);
    assert_eq!(selected(&harness), Some(newest_first[7]), "the focus went to the clip beside it");
    (0..20).for_each(|_| press(&mut harness, Key::ArrowRight));
    assert_eq!(selected(&harness), Some(harness.state().place.example().id), "the end is the end");

    // In a grid up and down are rows.
    harness.set_size(vec2(620.0, 700.0));
    harness.run();
    (0..20).for_each(|_| press(&mut harness, Key::ArrowLeft));
    press(&mut harness, Key::ArrowDown);
    assert_eq!(selected(&harness), Some(newest_first[3]));
}

#[test]
fn the_clip_in_the_player_is_selected_and_scrolled_to() {
    let place = Place::new();
    let ids = place.add_clips(&["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]);
    let mut harness = strip(place, STRIP);
    assert!(harness.query_by_label("one").is_none(), "it is out of view");
    harness.state_mut().panel.shown = Some(ids[0]);
    harness.run();
    assert_eq!(harness.state().panel.panel.selected(), Some(ids[0]));
    harness.get_by_label("one");
}

#[test]
fn a_picture_plays_under_the_pointer_and_is_uploaded_once() {
    let place = Place::new();
    let example = place.example().id;
    let mut harness = strip(place, STRIP);
    let thumbnail = |harness: &Harness<'_, Stage<Strip>>| harness.state().place.studio.picture(Picture::Thumbnail(example));
    until(&mut harness, "the thumbnail", |harness| matches!(thumbnail(harness), Loaded::Ready(_)));
    // The harness stills all motion by itself.
    harness.ctx.all_styles_mut(|style| style.animation_time = 0.1);
    harness.run();
    let uploads = |harness: &Harness<'_, Stage<Strip>>| harness.state().panel.panel.textures().uploads();
    assert_eq!(uploads(&harness), 1, "a still picture while nobody points at it");
    let frames = thumbnail(&harness).frames().expect("frames");
    assert!(frames.width == 192 && frames.count() <= 16, "{} frames of {}", frames.count(), frames.width);
    harness.get_by_label_contains("a shiny red ball").hover();
    for _ in 0..300 {
        harness.step();
    }
    assert_eq!(uploads(&harness), frames.count() as u64);
    let delay = |harness: &Harness<'_, Stage<Strip>>| {
        harness.output().viewport_output.values().map(|output| output.repaint_delay).min().expect("a window")
    };
    assert!(delay(&harness).as_secs_f64() <= 1.05 / frames.frames_per_second.max(1.0), "{:?}", delay(&harness));
    harness.remove_cursor();
    harness.run();
    assert!(delay(&harness).as_secs() > 3600, "nothing moves any more: {:?}", delay(&harness));
}

#[test]
fn thousands_of_clips_cost_no_more_than_those_in_view() {
    const CLIPS: usize = 3000;
    let place = Place::new();
    let example = place.example();
    let database = place.studio.database();
    for index in 0..CLIPS {
        let mut recipe = example.recipe.clone();
        recipe.prompt = format!("clip {index}");
        let new = NewClip { recipe: &recipe, model: "fast", seconds: 1.0, badges: &[] };
        database.add_clip(&new, |_| Ok(())).expect("a clip");
    }
    place.studio.set_favourite(example.id, false).expect("the example");
    let started = Instant::now();
    place.clips();
    let read = started.elapsed();
    let mut harness = strip(place, STRIP);
    assert_eq!(listed(&harness).len(), CLIPS + 1);
    let cards = |harness: &Harness<'_, Stage<Strip>>| harness.query_all_by_label_contains("clip ").count();
    assert!(cards(&harness) <= 10, "{}", cards(&harness));
    let started = Instant::now();
    harness.run_steps(50);
    let frame = started.elapsed() / 50;
    eprintln!("{CLIPS} clips: read in {read:?}, {frame:?} a frame");

    // Nothing is read again while nothing has changed, and what has is read beside the window.
    let stage = harness.state();
    let new = NewClip { recipe: &example.recipe, model: "fast", seconds: 1.0, badges: &[] };
    stage.place.studio.database().add_clip(&new, |_| Ok(())).expect("a clip");
    harness.run_steps(3);
    assert_eq!(listed(&harness).len(), CLIPS + 1);
    harness.state().place.studio.set_favourite(example.id, true).expect("the example");
    let started = Instant::now();
    harness.step();
    eprintln!("a frame with a change took {:?}", started.elapsed());
    assert_eq!(listed(&harness).len(), CLIPS + 1);
    until(&mut harness, "the new list", |harness| listed(harness).len() == CLIPS + 2);
    harness.get_by_label("Search the library").focus();
    harness.run();
    harness.get_by_label("Search the library").type_text("clip 2999");
    until(&mut harness, "the search", |harness| listed(harness) == ["clip 2999"]);
}
