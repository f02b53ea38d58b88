//! What is typed wrongly is refused at once, with what was wrong and what would be right.

use serde_json::json;

use super::{SMALL, Workplace, altered};

#[test]
fn settings_that_cannot_be_used_are_explained() {
    let place = Workplace::new();
    let rows: &[(&[&str], &[&str])] = &[
        (&[""], &["The prompt is empty", "Say what the clip should show"]),
        (&[" \t "], &["The prompt is empty"]),
        (&[], &["Say what the clip should show", "tilereel generate \""]),
        (&["x", "--frames", "30"], &["30 frames cannot be made", "4k + 1", "29 and 33"]),
        (&["x", "--frames", "0"], &["0 frames cannot be made", "1 and 5"]),
        (&["x", "--frames", "999999999999"], &["999999999999 frames", "1021"]),
        (&["x", "--frames", "99999999999999999999999999"], &["--frames", "whole number", "too large"]),
        (&["x", "--frames", "-5"], &["'-5'", "--frames", "whole number"]),
        (&["x", "--size", "65x48"], &["65x48 cannot be made", "multiples of 16", "64x48"]),
        (&["x", "--size", "250x140"], &["The nearest is 256x144"]),
        (&["x", "--size", "0x0"], &["The nearest is 16x16"]),
        (&["x", "--size", "100000x48"], &["The nearest is 4096x48"]),
        (&["x", "--size", "-64x48"], &["--size -64x48 is not understood", "WIDTHxHEIGHT"]),
        (&["x", "--size", "wide"], &["--size wide is not understood", "256x144"]),
        (&["x", "--size", "256x"], &["is not understood"]),
        (&["x", "--sampler", "plms"], &["no sampler \"plms\"", "ddim-trailing", "euler-ancestral", "pndm", "kdpm2-ancestral"]),
        (&["x", "--steps", "0"], &["1 to 1000 steps, not 0"]),
        (&["x", "--steps", "100000"], &["1 to 1000 steps, not 100000"]),
        (&["x", "--guidance", "NaN"], &["guidance scale is NaN", "from 0 to 100"]),
        (&["x", "--guidance", "inf"], &["guidance scale is inf", "from 0 to 100"]),
        (&["x", "--guidance", "-1"], &["guidance scale is -1", "from 0 to 100"]),
        (&["x", "--guidance", "1e9"], &["guidance scale is 1000000000", "from 0 to 100"]),
        (&["x", "--guidance", "much"], &["'much'", "--guidance", "use a number"]),
        (&["x", "--seed", "-1"], &["'-1'", "--seed", "whole number"]),
        (&["x", "--fps", "0"], &["0 frames per second", "1 to 240"]),
        (&["x", "--fps", "1000"], &["1000 frames per second", "1 to 240"]),
        (&["x", "--count", "0"], &["--count", "1..=10000"]),
        (&["x", "--mask", "5:3"], &["5:3 does not exist", "room for", "write"]),
        (&["x", "--mask", "3:9"], &["3:9", "12 latent frames", "there are 8", "K + N = 8"]),
        (&["x", "--mask", "1:2:3"], &["--mask 1:2:3", "plan, dense, K:N"]),
        (&["x", "--mask", "near:x"], &["--mask near:x", "near:D"]),
        (&["x", "--mask", "near:512"], &["near:512", "no mask name", "near:D"]),
        (&["x", "--mask", "absent.json"], &["--mask absent.json", "no such file"]),
        (&["x", "--out", "clip.avi"], &["clip.avi", ".mp4, .webm, .gif, .apng, .webp, .png"]),
        (&["x", "--out", "clip"], &["Cannot tell the kind", "clip", ".mp4"]),
        (&["x", "--precision", "f64"], &["'f64'", "--precision", "f16 or f32"]),
        (&["x", "--precision", "f16"], &["CPU", "16-bit floats", "--precision f32"]),
        (
            &["x", "--model", "omega"],
            &["no model omega", "Looked in:", "Models found:", "mini/base", "mini/fast", "TILEREEL_MODELS"],
        ),
        (&["x", "--no-such-flag"], &["--no-such-flag", "--help"]),
        (&["x", "--resume", "folder"], &["--resume", "cannot be used with"]),
    ];
    for (typed, words) in rows {
        // 29 frames, the default, unless the row says other: masks are then over 8 latent frames.
        let arguments = [&["generate", "--device", "cpu"], *typed].concat();
        place.refuses(&arguments, 2, words);
    }
}

#[test]
fn unknown_devices_list_those_that_there_are() {
    let place = Workplace::new();
    for (device, words) in [
        ("voodoo", ["no adapter voodoo", "Found:", "--device cpu"]),
        ("77", ["no adapter 77", "Found:", "--device cpu"]),
        (" ", ["The device is empty", "auto, cpu", "tilereel doctor"]),
    ] {
        for command in [vec!["generate", "x"], vec!["doctor"], vec!["bench", "clip"]] {
            let ran = place.run(&[&command[..], &["--device", device]].concat());
            ran.complains(2, &words);
        }
    }
    assert!(place.listing().is_empty());
}

#[test]
fn endless_prompts_are_refused() {
    let place = Workplace::new();
    // A single argument has at most 128 KiB on Linux.
    let words = ["The prompt has 100000 bytes", "At most 16384", "shorten it"];
    place.refuses(&[&SMALL[..], &[&"ball ".repeat(20_000)]].concat(), 2, &words);
    let recipe = place.recipe(&["x"]);
    place.write("long.json", altered(&recipe, "/prompt", json!("é".repeat(1 << 19))));
    place.refuses(&["generate", "--device", "cpu", "--recipe", "long.json"], 2, &["The prompt has 1048576 bytes", "shorten it"]);
    place.write("long.json", altered(&recipe, "/negative_prompt", json!("x".repeat(1 << 20))));
    place.refuses(&["generate", "--device", "cpu", "--recipe", "long.json"], 2, &["The negative prompt has 1048576 bytes"]);
}

#[test]
fn odd_prompts_are_no_error() {
    let place = Workplace::new();
    for prompt in ["😀 ünïcödé 雪", "\u{1}\u{202e}", "<script>alert(1)</script>", "a\nb\tc", "--", "\"quoted\" 'twice'"] {
        place.generate(&["--steps", "1", "--out", "odd.png", "--frames", "1", "--", prompt]).succeeds();
    }
    let long = "a red ball rolls over the grass ".repeat(50);
    let ran = place.generate(&["--steps", "1", "--out", "long.mp4", &long]);
    assert!(ran.stderr.contains("warning: the prompt is longer than the 48 tokens that the model reads"), "{ran:?}");
    assert_eq!(ran.code, Some(0));
}

#[test]
fn more_memory_than_there_is_is_said_before() {
    let ran = Workplace::new().run(&["generate", "x", "--device", "cpu", "--frames", "1021", "--size", "4096x4096", "--dry-run"]);
    assert!(ran.stderr.contains("warning: this takes about") && ran.stderr.contains("of memory"), "{ran:?}");
    ran.succeeds();
}
