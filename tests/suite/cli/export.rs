//! `tilereel export`: clips become other files; bad wishes get one readable error and no file.

use std::fs;

use serde_json::json;
use tilereel::clip::{Frames, WriteOptions, read_frames, read_recipe, write_clip};

use super::super::judges::noisy_clip;
use super::Workplace;

const RECIPE: &str = "{\"format\":1,\"prompt\":\"a \\\"red\\\" ball\"}";

impl Workplace {
    /// A clip in the folder that the program runs in.
    fn with_clip(self, name: &str, frames: &Frames, recipe: Option<&str>) -> Self {
        write_clip(&self.path(name), frames, recipe, &WriteOptions::default()).expect("a clip");
        self
    }
}

#[test]
fn every_readable_kind_becomes_an_edited_file() {
    let clip = noisy_clip(32, 24, 7, 24.0);
    for ending in ["mp4", "gif", "apng", "webp", "png"] {
        let name = format!("my clip.{ending}");
        let place = Workplace::new().with_clip(&name, &clip, Some(RECIPE));
        let source = read_frames(&place.path(&name)).expect("frames");
        let flags = ["--first", "1", "--last", "4", "--fps", "12", "--scale", "2", "--pixels", "--ping-pong", "--loops", "2"];
        let ran = place.run(&[&["export", &name, "--out", "new.apng"], &flags[..]].concat()).succeeds();
        ran.says(&["new.apng: 6 frames, 2 times, 64x48, "]);
        let frames = read_frames(&place.path("new.apng")).expect("frames");
        assert_eq!((frames.width, frames.height, frames.count(), frames.frames_per_second), (64, 48, 6, 12.0));
        for (shown, of) in [1, 2, 3, 4, 3, 2].into_iter().enumerate() {
            for (index, pixel) in frames.frame(shown).chunks(3).enumerate() {
                let at = (index / 64 / 2 * 32 + index % 64 / 2) * 3;
                assert_eq!(pixel, &source.frame(of)[at..at + 3], "{ending}: frame {shown}, pixel {index}");
            }
        }
        assert_eq!(read_recipe(&place.path("new.apng")).expect("a clip").as_deref(), Some(RECIPE));
    }
}

#[test]
fn without_flags_the_clip_is_the_same() {
    let clip = noisy_clip(32, 24, 5, 24.0);
    let place = Workplace::new().with_clip("clip.webp", &clip, None);
    place
        .run(&["export", "clip.webp", "--out", "sequence.png"])
        .succeeds()
        .says(&["sequence-0000.png .. sequence-0004.png: 5 frames"]);
    place.run(&["export", "sequence.png", "--out", "back.webp", "--quiet"]).succeeds();
    assert_eq!(read_frames(&place.path("back.webp")).expect("frames"), read_frames(&place.path("clip.webp")).expect("frames"));
    assert!(place.read("back.webp") == place.read("clip.webp"), "equal frames at an equal rate make equal files");
}

#[test]
fn the_recipe_stays_inside_beside_or_away() {
    let place = Workplace::new().with_clip("clip.apng", &noisy_clip(16, 16, 3, 24.0), Some(RECIPE));
    place.run(&["export", "clip.apng", "--out", "none.gif", "--no-recipe"]).succeeds();
    assert_eq!(read_recipe(&place.path("none.gif")).expect("a clip"), None);
    assert!(!String::from_utf8_lossy(&place.read("none.gif")).contains("red"));
    assert!(!place.path("none.recipe.json").exists());

    let result =
        place.run(&["export", "clip.apng", "--out", "beside.gif", "--no-recipe", "--sidecar", "--json"]).succeeds().json();
    assert_eq!((&result["paths"], &result["sidecar"]), (&json!(["beside.gif"]), &json!("beside.recipe.json")));
    assert_eq!((&result["frames"], &result["loops"], &result["width"]), (&json!(3), &json!("forever"), &json!(16)));
    assert_eq!(place.read("beside.recipe.json"), RECIPE.as_bytes());
    assert_eq!(read_recipe(&place.path("beside.gif")).expect("a clip"), None);

    place.run(&["export", "clip.apng", "--out", "both.mp4", "--sidecar"]).succeeds().says(&["both.recipe.json: its recipe"]);
    assert_eq!(read_recipe(&place.path("both.mp4")).expect("a clip").as_deref(), Some(RECIPE));
    assert_eq!(place.read("both.recipe.json"), RECIPE.as_bytes());

    place.refuses(&["export", "none.gif", "--out", "new.gif", "--sidecar"], 1, &["none.gif holds no recipe"]);
}

#[test]
fn bad_wishes_name_what_is_possible() {
    let place = Workplace::new().with_clip("clip.gif", &noisy_clip(16, 16, 5, 24.0), None);
    place.write("text.mp4", "not a clip");
    place.refuses(&["export", "clip.gif"], 2, &["--out"]);
    let refuses = |flags: &[&str], words: &[&str]| {
        place.refuses(&[&["export", "clip.gif", "--out", "new.webp"], flags].concat(), 2, words);
    };
    refuses(&["--last", "5"], &["0 to 5", "this clip's frames 0 to 4"]);
    refuses(&["--first", "3", "--last", "1"], &["3 to 1", "frames 0 to 4"]);
    refuses(&["--fps", "0"], &["0 frames per second", "0.001 to 1000"]);
    refuses(&["--fps", "NaN"], &["0.001 to 1000"]);
    refuses(&["--scale", "5"], &["scale of 5", "from 1 to 4"]);
    refuses(&["--loops", "0"], &["1 to 1000, or forever"]);
    refuses(&["--webp-quality", "101"], &["0 to 100"]);
    place.refuses(&["export", "clip.gif", "--out", "new.gif", "--webp-quality", "50"], 2, &[".webp"]);
    place.refuses(&["export", "clip.gif", "--out", "new.avi"], 2, &["new.avi", ".webm"]);
    place.refuses(&["export", "clip.gif", "--out", "clip.gif"], 2, &["the clip itself"]);
    place.refuses(&["export", "clip.gif", "--out", "../place/clip.gif"], 2, &["the clip itself"]);
    place.refuses(&["export", "absent.gif", "--out", "new.gif"], 1, &["There is no file absent.gif"]);
    place.refuses(&["export", "text.mp4", "--out", "new.gif"], 1, &["text.mp4 is not a clip"]);
    place.refuses(&["export", "clip.gif", "--out", "absent/new.gif"], 1, &["absent does not exist"]);
    fs::create_dir(place.path("folder.gif")).expect("a folder");
    place.refuses(&["export", "clip.gif", "--out", "folder.gif"], 1, &["folder.gif"]);
    let place = place.with_clip("clip.webm", &noisy_clip(16, 16, 2, 24.0), None);
    place.refuses(&["export", "clip.webm", "--out", "new.gif"], 1, &["no decoder", "its frames cannot"]);
}

#[test]
fn verify_tells_made_frames_from_an_edited_file() {
    let place = Workplace::new();
    place.generate(&["a red ball", "--out", "clip.apng"]).succeeds();
    place.run(&["export", "clip.apng", "--out", "edited.gif", "--last", "2", "--scale", "2"]).succeeds();
    let ran = place.run(&["verify", "edited.gif", "--device", "cpu"]).succeeds();
    ran.says(&[
        "edited.gif: identical (SHA-256 ",
        "the frames as they were made: the file was edited since, and has 3 frames of 128x96 instead of 5 frames of 64x48",
    ]);
    let ran = place.run(&["verify", "clip.apng", "--device", "cpu"]).succeeds();
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");

    // Other frames than those that the recipe gives, and edited: there is nothing to compare.
    let recipe = place.run(&["show", "--json", "clip.apng"]).succeeds().json();
    let frames = read_frames(&place.path("edited.gif")).expect("frames");
    let place = place.with_clip("other.apng", &frames, Some(&super::altered(&recipe, "/seed", json!(4))));
    let ran = place.run(&["verify", "other.apng", "--device", "cpu"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(!ran.stdout.contains("PSNR"), "{ran:?}");
    ran.says(&["other.apng: not identical", "cannot be compared: the file was edited since"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_nothing() {
    use std::time::{Duration, Instant};

    let place = Workplace::new().with_clip("clip.apng", &noisy_clip(256, 144, 100, 24.0), Some(RECIPE));
    place.write("new.webm", "the old file");
    let before = place.listing();
    // A single file is on the disk only when it is complete: press while it is encoded.
    let began = Instant::now();
    place.interrupted(&["export", "clip.apng", "--out", "new.webm", "--scale", "3"], || began.elapsed() > Duration::from_secs(2));
    assert_eq!(place.listing(), before);
    assert_eq!(place.read("new.webm"), b"the old file");
    // A sequence has many unfinished files there.
    place.interrupted(&["export", "clip.apng", "--out", "new.png", "--scale", "4"], || place.listing().len() > before.len() + 3);
    assert_eq!(place.listing(), before);
}
