//! The library from the command line, and runs that leave its clips.

use super::Workplace;
use super::queue::frames_hash;

const SMALL: [&str; 10] = ["--device", "cpu", "--frames", "5", "--size", "64x32", "--steps", "8", "--seed", "3"];

/// A library with the bundled example as clip 1 and a small clip as clip 2.
pub fn with_a_clip() -> Workplace {
    let place = Workplace::new();
    place.run(&[&["queue", "add", "a red ball"], &SMALL[..]].concat()).succeeds();
    place.run(&["queue", "run", "--device", "cpu"]).succeeds();
    place
}

#[test]
fn clips_are_listed_shown_marked_and_deleted() {
    let place = Workplace::new();
    place.run(&["library", "list"]).succeeds().says(&["The library is empty."]);
    let place = with_a_clip();
    let ids =
        |more: &[&str]| -> Vec<i64> { place.library(more).iter().map(|clip| clip["id"].as_i64().expect("a number")).collect() };
    assert_eq!(ids(&[]), [2, 1]);
    assert_eq!(ids(&["SNOW", "shiny"]), [1]);
    assert!(ids(&["pyramid"]).is_empty());
    place.run(&["library", "list", "pyramid"]).succeeds().says(&["No such clip."]);
    place.run(&["library", "favourite", "2"]).succeeds();
    assert_eq!(ids(&["--favourites"]), [2]);
    place.run(&["library", "list"]).succeeds().says(&["2 ♥", "5 frames 64x32, seed 3", "a red ball"]);
    place.run(&["library", "favourite", "2", "--off"]).succeeds();
    assert!(ids(&["--favourites"]).is_empty());

    place.run(&["library", "delete", "2"]).succeeds();
    assert_eq!((ids(&[]), ids(&["--deleted"])), (vec![1], vec![2]));
    place.run(&["library", "show", "2"]).succeeds().says(&["library restore 2"]);
    place.run(&["library", "restore", "2"]).succeeds();
    assert_eq!(ids(&[]), [2, 1]);

    place.run(&["library", "show", "1"]).succeeds().says(&["shiny red ball", "SHA-256", "note       the bundled example"]);
    place.run(&["show", "2"]).succeeds().says(&["a red ball", "5 frames, 64x32"]);
    place.run(&["show", "9"]).complains(1, &["no clip 9"]);
    place.run(&["export", "2", "--out", "two.gif"]).succeeds().says(&["two.gif"]);
    let path = place.run(&["library", "path", "2"]).succeeds().stdout.trim().to_owned();
    let inside = place.run(&["show", &path, "--json"]).succeeds().json();
    assert_eq!(inside, place.run(&["library", "show", "2", "--json"]).succeeds().json());
    place.run(&["verify", &path, "--device", "cpu"]).succeeds().says(&["identical"]);
    for command in ["show", "path", "favourite", "delete", "restore", "rerun"] {
        place.refuses(&["library", command, "9"], 1, &["no clip 9", "library list"]);
    }
}

#[test]
fn a_clip_is_run_again_and_varied() {
    let place = with_a_clip();
    place.run(&["library", "rerun", "2"]).succeeds();
    place.run(&["library", "vary", "2", "--step", "4", "--count", "2"]).succeeds().says(&["Items 3, 4"]);
    place.refuses(&["library", "vary", "2", "--step", "9"], 1, &["Step 9"]);
    place.run(&["queue", "run", "--device", "cpu"]).succeeds();
    let clips = place.library(&[]);
    let [second, first, again, original] = [0, 1, 2, 3].map(|at| &clips[at]);
    assert_eq!(frames_hash(again), frames_hash(original));
    assert_eq!((&first["recipe"]["seed"], &second["recipe"]["seed"]), (&4.into(), &5.into()));
    assert_eq!(first["recipe"]["branch"]["call"], 4);
    assert!(frames_hash(first) != frames_hash(original) && frames_hash(first) != frames_hash(second));
}

#[test]
fn a_branch_is_the_same_from_the_library_and_from_a_file() {
    let place = with_a_clip();
    let generate = |more: &[&str]| place.run(&[&["generate", "--device", "cpu", "--json"], more].concat());
    let original = frames_hash(&place.library(&[])[0]).to_owned();
    place.run(&[&["generate", "a red ball", "--out", "ball.apng"], &SMALL[..]].concat()).succeeds();

    // Going on with nothing changed ends where the clip has ended.
    let same = generate(&["--branch", "2:3", "--out", "same.apng"]);
    assert!(same.stderr.contains("nothing differs"), "{same:?}");
    assert_eq!(frames_hash(&same.succeeds().json()), original);

    let flags = |clip: &'static str, out: &'static str| ["a blue ball", "--mask", "dense", "--branch", clip, "--out", out];
    let from_library = generate(&flags("2:3", "library.apng")).succeeds().json();
    let from_file = generate(&flags("ball.apng:3", "file.apng")).succeeds().json();
    assert_eq!(frames_hash(&from_library), frames_hash(&from_file));
    assert_ne!(frames_hash(&from_library), original);
    assert_eq!(from_library["timing"]["step_millis"].as_array().map(Vec::len), Some(5), "the kept steps are not made again");
    assert!(place.read("library.apng") == place.read("file.apng"));
    place.run(&["verify", "file.apng", "--device", "cpu"]).succeeds().says(&["identical"]);

    // A step before the branch is one of the run that was left.
    let deeper = generate(&["a green ball", "--branch", "file.apng:2", "--out", "deeper.apng"]).succeeds().json();
    assert_eq!(deeper["recipe"]["branch"]["from"]["prompt"], "a red ball");
}

#[test]
fn branches_that_cannot_be_are_refused() {
    let place = with_a_clip();
    let refuses = |more: &[&str], code: i32, words: &[&str]| {
        place.refuses(&[&["generate", "x", "--device", "cpu", "--out", "x.apng"], more].concat(), code, words);
    };
    refuses(&["--branch", "9:3"], 1, &["no clip 9"]);
    refuses(&["--branch", "2:9"], 1, &["Step 9"]);
    refuses(&["--branch", "2:8"], 2, &["leaves after step 8", "1 to 7"]);
    refuses(&["--branch", "none.mp4:3"], 1, &["none.mp4"]);
    for wrong in [
        &["--branch", "2"][..],
        &["--branch", ":3"],
        &["--branch", "2:3", "--steps", "5"],
        &["--branch", "2:3", "--size", "64x64"],
    ] {
        let ran = place.run(&[&["generate", "x", "--device", "cpu", "--out", "x.apng"], wrong].concat());
        assert_eq!(ran.code, Some(2), "{ran:?}");
    }
}
