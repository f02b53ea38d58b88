//! Looking into a clip: points and words, with readings that are made up first, and with those of the bundled example then.

use std::sync::Arc;

use eframe::egui::accesskit::Toggled;
use eframe::egui::{Key, Pos2, Theme, Vec2, pos2};
use egui_kittest::kittest::{NodeT, Queryable};
use egui_kittest::{Harness, SnapshotOptions, SnapshotResults, try_image_snapshot_options};
use tilereel::app::player::Player;
use tilereel::app::player::inspect::{Answer, Answers, Point, Question};
use tilereel::app::player::source::{Source, Step};
use tilereel::app::player::state::PlayerState;
use tilereel::app::{Window, theme};
use tilereel::clip::Frames;
use tilereel::generate::reading::WordMaps;
use tilereel::model::latent::TokenPlace;

use super::states::{COLOUR_DISTANCE, FOLDER, make_smaller, paints_in_software, settle};
use super::whole::{wait, window};
use crate::studio::Place;

const FRAMES: usize = 29;

struct Stage {
    player: Player,
    source: Source,
    question: Question,
}

fn source() -> Source {
    let pictures = |count: usize| {
        let rgb = (0..count).flat_map(|frame| vec![(frame * 8) as u8; 64 * 32 * 3]).collect();
        Some(Arc::new(Frames { width: 64, height: 32, frames_per_second: 24.0, rgb }))
    };
    Source {
        id: 1,
        width: 64,
        height: 32,
        frames: FRAMES,
        frames_per_second: 24.0,
        calls: 4,
        steps: (0..4).map(|_| Step { projection: pictures(8), decoded: None }).collect(),
        complete: true,
        finished: pictures(FRAMES),
        generating: false,
    }
}

fn answers() -> Answers {
    let masks = ["full", "2:6", "1:7"].map(str::to_owned).to_vec();
    Answers { prompt: "a red ball, bouncing".into(), masks: masks.into(), ..Answers::default() }
}

fn stage() -> Harness<'static, Stage> {
    let mut state = PlayerState::default();
    state.halt();
    let mut player = Player::new(state);
    player.inspect.answers = answers();
    let stage = Stage { player, source: source(), question: Question::default() };
    let mut harness = Harness::builder().with_size(Vec2::new(900.0, 700.0)).with_context_setup(theme::install).build_ui_state(
        |ui, stage: &mut Stage| {
            stage.player.show(ui, &stage.source, |_| {});
            stage.question = stage.player.question(&stage.source);
        },
        stage,
    );
    harness.run();
    // The first frame of a clip forgets what was known of another.
    harness.state_mut().player.inspect.answers = answers();
    harness.run();
    harness
}

fn on_picture(harness: &Harness<'_, Stage>, x: f32, y: f32) -> Pos2 {
    // The picture is as large as its place allows, in the middle of it.
    let place = harness.get_by_label_contains("Picture: ").rect();
    let scale = (place.width() / 64.0).min(place.height() / 32.0);
    place.center() + Vec2::new((x - 0.5) * 64.0, (y - 0.5) * 32.0) * scale
}

fn click_at(harness: &mut Harness<'_, Stage>, at: Pos2) {
    harness.hover_at(at);
    harness.step();
    harness.drag_at(at);
    harness.step();
    harness.drop_at(at);
    harness.run_steps(3);
}

#[test]
fn clicks_play_until_the_clip_is_looked_into() {
    let mut harness = stage();
    let toggle = harness.get_by_label("Look into the clip");
    assert_eq!(toggle.accesskit_node().toggled(), Some(Toggled::False));
    assert!(harness.query_by_label("Word: red").is_none(), "words are shown only then");
    let at = on_picture(&harness, 0.3, 0.3);
    click_at(&mut harness, at);
    assert!(harness.state().player.state.playing && harness.state().question == Question::default());
    harness.state_mut().player.state.halt();
    harness.state_mut().player.state.go_to(0, FRAMES);

    harness.key_press(Key::A);
    harness.run();
    assert!(harness.state().player.inspect.on);
    let at = on_picture(&harness, 0.3, 0.8);
    click_at(&mut harness, at);
    assert!(!harness.state().player.state.playing);
    let asked = harness.state().question.point.expect("a question");
    assert_eq!((asked.step, asked.layer), (4, 0));
    // 4 x 2 tokens of 16 pixels in frame 0: the second of the lower row.
    assert_eq!(asked.place, TokenPlace { frame: 0, y: 1, x: 1 });
    assert_eq!(harness.state().question.words, None, "nobody has looked at a word");

    // A point of a later frame, at an earlier step.
    harness.state_mut().player.state.go_to(6, FRAMES);
    harness.key_press(Key::OpenBracket);
    harness.run();
    harness.key_press(Key::OpenBracket);
    harness.run();
    let at = on_picture(&harness, 0.9, 0.1);
    click_at(&mut harness, at);
    let asked = harness.state().question.point.expect("a question");
    assert_eq!((asked.step, asked.place), (3, TokenPlace { frame: 2, y: 0, x: 3 }));

    harness.get_by_label("Look into the clip").click();
    harness.run();
    assert_eq!(harness.state().question, Question::default());
    harness.get_by_label_contains("Picture: ").click();
    harness.step();
    assert!(harness.state().player.state.playing, "a click plays again");
}

#[test]
fn a_point_is_chosen_and_moved_by_keys() {
    let mut harness = stage();
    harness.state_mut().player.inspect.on = true;
    harness.run();
    harness.get_by_label_contains("Picture: ").focus();
    harness.run();
    harness.key_press(Key::Enter);
    harness.run();
    let place = |harness: &Harness<'_, Stage>| harness.state().question.point.map(|asked| asked.place);
    assert_eq!(place(&harness), Some(TokenPlace { frame: 0, y: 1, x: 2 }), "the middle");
    for (key, y, x) in [(Key::ArrowRight, 1, 3), (Key::ArrowRight, 1, 3), (Key::ArrowUp, 0, 3), (Key::ArrowLeft, 0, 2)] {
        harness.key_press(key);
        harness.run();
        assert_eq!(place(&harness), Some(TokenPlace { frame: 0, y, x }), "after {key:?}");
    }
    assert_eq!(harness.state().player.state.frame(FRAMES), 0, "the frames stay");
}

#[test]
fn words_are_asked_for_when_they_are_looked_at() {
    let mut harness = stage();
    harness.state_mut().player.inspect.on = true;
    harness.run();
    assert_eq!(harness.state().question, Question::default());
    harness.get_by_label("Word: ball,").hover();
    harness.run();
    assert_eq!(harness.state().player.inspect.shown_word(), Some(2));
    let asked = harness.state().question.words.expect("a question");
    assert_eq!((asked.step, asked.layer), (4, None));
    harness.hover_at(pos2(5.0, 690.0));
    harness.run();
    assert_eq!(harness.state().player.inspect.shown_word(), None, "the pointer has gone");
    harness.get_by_label("Word: red").focus();
    harness.run();
    assert_eq!(harness.state().player.inspect.shown_word(), Some(1), "the focus looks too");
    harness.key_press(Key::Enter);
    harness.run();
    assert_eq!(harness.get_by_label("Word: red").accesskit_node().toggled(), Some(Toggled::True));
    harness.state_mut().player.inspect.answers.words = Answer::Waiting;
    harness.run();
    harness.get_by_label("Waits for the run that goes on");
    harness.state_mut().player.inspect.answers.words = Answer::<WordMaps>::Failed("The disk is gone.".into());
    harness.run();
    harness.get_by_label("The disk is gone.");
}

#[test]
fn what_cannot_be_looked_into_says_why() {
    let mut harness = stage();
    harness.state_mut().player.inspect.on = true;
    harness.state_mut().player.inspect.point = Some(Point { frame: 0, x: 0.5, y: 0.5 });
    harness.state_mut().player.inspect.answers.unavailable = Some("Not yet.");
    harness.run();
    harness.get_by_label("Not yet.");
    assert_eq!(harness.state().question, Question::default());
    for source in [Source::default(), Source { steps: Vec::new(), ..source() }] {
        harness.state_mut().source = source;
        harness.run();
        assert_eq!(harness.state().question, Question::default());
    }
}

#[test]
fn two_frames_can_stand_out() {
    let mut harness = stage();
    harness.state_mut().player.inspect.on = true;
    harness.run();
    let before = harness.output().shapes.len();
    harness.state_mut().player.highlight = Some([0, 4]);
    harness.run();
    let both = harness.output().shapes.len();
    // A ring and a ground for each in the frame ruler, a ring for each in the strip; a ring and a badge over the picture.
    assert!(both >= before + 8, "{before} shapes without, {both} with two frames that stand out");
    harness.state_mut().player.state.go_to(8, FRAMES);
    harness.run();
    let elsewhere = harness.output().shapes.len();
    assert!(elsewhere < both, "latent frame 2 is neither: {both} and {elsewhere} shapes");
    harness.state_mut().player.highlight = None;
    harness.run();
    assert!(harness.output().shapes.len() < elsewhere);
}

/// The example, looked into at a point of its 11th frame.
fn with_a_point(harness: &mut Harness<'_, Window>) {
    let player = harness.state_mut().player_mut();
    player.state.halt();
    player.state.go_to(10, FRAMES);
    player.inspect.on = true;
    player.inspect.layer = 4;
    player.inspect.point = Some(Point { frame: 10, x: 0.53, y: 0.42 });
    wait(harness, "what the point reads", |window| matches!(window.player().inspect.answers.point, Answer::Ready(_)));
    harness.run_steps(3);
}

#[test]
fn the_example_is_looked_into() {
    let place = Place::new();
    let mut harness = window(&place, |_| {});
    with_a_point(&mut harness);
    let Answer::Ready(reads) = harness.state().player().inspect.answers.point.clone() else { unreachable!() };
    assert_eq!((reads.grid, reads.mask.as_str()), ([8, 9, 16], "near:1"));
    assert_eq!(reads.place, TokenPlace { frame: 3, y: 3, x: 8 });
    assert_eq!(reads.kept.iter().filter(|&&kept| kept).count(), 3, "itself and its two neighbours");
    let heat = harness.state().player().inspect.heat().expect("heat").clone();
    assert!((heat.values.iter().sum::<f32>() - 1.0).abs() < 1e-4);
    let shares = harness.get_all_by_label_contains("% of what the point reads").count();
    assert_eq!(shares, reads.kept.iter().filter(|&&kept| kept).count());
    assert_eq!(harness.get_all_by_label_contains("skipped by the plan").count(), 8 - shares);

    // The same in all frames at once, without another reading.
    harness.get_by_label("All frames").click();
    harness.run_steps(3);
    let dense = harness.state().player().inspect.heat().expect("heat").clone();
    assert_ne!(dense, heat);

    // A word takes the place of the point's heat, as long as it is looked at.
    harness.get_by_label("Word: ball").hover();
    wait(&mut harness, "the words", |window| matches!(window.player().inspect.answers.words, Answer::Ready(_)));
    harness.run_steps(3);
    let word = harness.state().player().inspect.heat().expect("heat").clone();
    let Answer::Ready(maps) = harness.state().player().inspect.answers.words.clone() else { unreachable!() };
    assert_eq!(word.values, maps.map(maps.words.iter().position(|word| word.text == "ball").expect("a ball")));
    harness.get_by_label("Word: snow").hover();
    harness.run_steps(3);
    assert_ne!(harness.state().player().inspect.heat().expect("heat").values, word.values, "at once, from the same maps");
    harness.hover_at(pos2(2.0, 2.0));
    harness.run_steps(3);
    assert_eq!(**harness.state().player().inspect.heat().expect("heat"), *dense);
}

/// The player alone: the rest of the window is in other pictures.
fn player_picture(harness: &mut Harness<'_, Window>, name: &str, results: &mut SnapshotResults) {
    const LEFT: u32 = 348;
    const SIZE: [u32; 2] = [774, 622];
    let whole = harness.render().expect("a picture");
    let image = image::imageops::crop_imm(&whole, LEFT, 0, SIZE[0], SIZE[1]).to_image();
    let options = SnapshotOptions::new().output_path(FOLDER).threshold(COLOUR_DISTANCE).max_failed_pixels(2000);
    results.add(try_image_snapshot_options(&image, name, &options));
    make_smaller(name);
}

#[test]
fn it_looks_as_it_should() {
    if !paints_in_software() {
        return;
    }
    let place = Place::new();
    let studio = Arc::new(place.open());
    let mut harness = super::states::window(&studio, &place, Theme::Dark);
    settle(&mut harness);
    with_a_point(&mut harness);
    let mut results = SnapshotResults::new();
    player_picture(&mut harness, "point-dark", &mut results);
    harness.get_by_label("Word: ball").click();
    wait(&mut harness, "the words", |window| matches!(window.player().inspect.answers.words, Answer::Ready(_)));
    harness.hover_at(pos2(2.0, 2.0));
    harness.run_steps(6);
    player_picture(&mut harness, "words-dark", &mut results);
}
