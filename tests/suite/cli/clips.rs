//! Clips: the same recipe gives the same bytes, and a file can tell and prove how it was made.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use tilereel::clip::{WriteOptions, read_frames, read_recipe, write_clip};

use super::{SMALL, Workplace, altered};

#[test]
fn equal_recipes_give_equal_files_of_every_kind() {
    let place = Workplace::new();
    for kind in ["mp4", "webm", "gif", "apng", "webp", "png"] {
        let files = |out: &str, seed: &str| -> BTreeMap<String, Vec<u8>> {
            let folder = place.path(out);
            fs::create_dir(&folder).expect("a folder");
            place.generate(&["a red ball", "--seed", seed, "--out", &format!("{out}/clip.{kind}")]).succeeds();
            let entries = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry"));
            entries.map(|entry| (entry.file_name().to_string_lossy().into(), fs::read(entry.path()).expect("a file"))).collect()
        };
        let [first, again, other] =
            [("first", "3"), ("again", "3"), ("other", "4")].map(|(name, seed)| files(&format!("{kind}-{name}"), seed));
        assert_eq!(first.len(), if kind == "png" { 5 } else { 1 }, "{kind}: {:?}", first.keys());
        assert!(first == again, "{kind} files of one recipe differ");
        assert!(
            first.keys().eq(other.keys()) && first.iter().all(|(name, bytes)| other[name] != *bytes),
            "{kind}: the seed counts"
        );
    }
}

#[test]
fn a_clip_tells_its_recipe_and_can_be_made_again() {
    let place = Workplace::new();
    place.generate(&["a red ball", "--out", "clip.webm", "--fps", "12", "--sampler", "ddim"]).succeeds();
    let shown = place.run(&["show", "clip.webm"]).succeeds();
    shown.says(&[
        "prompt     a red ball",
        "seed       3",
        "ddim with 2 steps",
        "5 frames, 64x48, 12 fps",
        "fast (",
        "SHA-256 ",
        "tilereel ",
    ]);
    let recipe = place.run(&["show", "--json", "clip.webm"]).succeeds().json();
    assert_eq!(recipe["prompt"], "a red ball");
    assert_eq!((&recipe["seed"], &recipe["frames"], &recipe["width"]), (&json!(3), &json!(5), &json!(64)));
    let stored: Value =
        serde_json::from_str(&read_recipe(&place.path("clip.webm")).expect("a clip").expect("a recipe")).expect("JSON");
    assert_eq!(recipe, stored);

    place.run(&["generate", "--device", "cpu", "--recipe", "clip.webm", "--out", "again.webm"]).succeeds();
    assert_eq!(place.read("clip.webm"), place.read("again.webm"));
    place.write("recipe.json", recipe.to_string());
    place.run(&["generate", "--device", "cpu", "--recipe", "recipe.json", "--out", "json.webm"]).succeeds();
    assert_eq!(place.read("clip.webm"), place.read("json.webm"));
    place.run(&["generate", "--device", "cpu", "--recipe", "clip.webm", "--seed", "4", "--out", "other.webm"]).succeeds();
    assert_ne!(place.read("clip.webm"), place.read("other.webm"));

    place.generate(&["a red ball", "--out", "silent.webm", "--no-recipe"]).succeeds();
    assert_eq!(read_recipe(&place.path("silent.webm")).expect("a clip"), None);
}

#[test]
fn verify_finds_equal_and_other_frames() {
    let place = Workplace::new();
    place.generate(&["a red ball", "--out", "clip.apng"]).succeeds();
    place.run(&["verify", "clip.apng", "--device", "cpu"]).succeeds().says(&["clip.apng: identical (SHA-256 "]);

    let recipe = place.run(&["show", "--json", "clip.apng"]).succeeds().json();
    let frames = read_frames(&place.path("clip.apng")).expect("frames");
    let store = |name: &str, recipe: &str| {
        write_clip(&place.path(name), &frames, Some(recipe), &WriteOptions::default()).expect("a clip");
    };
    let worst = |name: &str| -> f64 {
        let ran = place.run(&["verify", name, "--device", "cpu"]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let ran = ran.says(&[&format!("{name}: not identical: for no reason that is known"), "PSNR per frame: "]);
        let line = ran.stdout.lines().last().and_then(|line| line.strip_prefix("PSNR per frame: ")).expect("the values");
        let values: Vec<f64> = line.split(' ').map(|db| db.parse().expect("a number of decibels")).collect();
        assert_eq!(values.len(), 5);
        values.into_iter().fold(f64::INFINITY, f64::min)
    };
    store("hash.apng", &altered(&recipe, "/made/frames_sha256", json!("0".repeat(64))));
    assert_eq!(worst("hash.apng"), f64::INFINITY, "only the hash was altered");
    store("seed.apng", &altered(&recipe, "/seed", json!(4)));
    assert!(worst("seed.apng") < 30.0, "another seed shows");
    store("model.apng", &altered(&recipe, "/model/sha256", json!("0".repeat(64))));
    place.run(&["verify", "model.apng", "--device", "cpu"]).complains(1, &["wants the model fast", "000000000000"]);
}

#[test]
fn results_as_json_name_the_files() {
    let place = Workplace::new();
    for (out, names) in [
        ("clip.gif", vec!["clip.gif"]),
        ("clip.png", vec!["clip-0000.png", "clip-0001.png", "clip-0002.png", "clip-0003.png", "clip-0004.png"]),
    ] {
        let result = place.generate(&["a red ball", "--out", out, "--json"]).succeeds().json();
        assert_eq!(result["paths"], json!(names));
        let bytes: u64 = names.iter().map(|name| place.read(name).len() as u64).sum();
        assert_eq!(result["bytes"], json!(bytes));
        assert_eq!(result["recipe"]["seed"], 3);
        assert_eq!(result["timing"]["step_millis"].as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn a_dry_run_writes_nothing() {
    let place = Workplace::new();
    let ran = place.generate(&["A red ball!", "--dry-run"]).succeeds();
    ran.says(&["prompt     A red ball!", "time       about ", "memory     about ", "file       a-red-ball-3.mp4"]);
    let plan = place.generate(&["A red ball!", "--dry-run", "--json"]).succeeds().json();
    assert_eq!(plan["out"], "a-red-ball-3.mp4");
    assert!(plan["estimate"]["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    assert!(place.listing().is_empty());
}

#[test]
fn many_clips_have_numbers_and_seeds_that_follow() {
    let place = Workplace::new();
    place.generate(&["a red ball", "--count", "2", "--out", "clip.mp4", "--save-latent", "latent.safetensors"]).succeeds();
    let names: Vec<_> = place.listing().iter().map(|path| path.file_name().expect("a name").to_owned()).collect();
    assert_eq!(names, ["clip-1.mp4", "clip-2.mp4", "latent-1.safetensors", "latent-2.safetensors"]);
    for (name, seed) in [("clip-1.mp4", "3"), ("clip-2.mp4", "4")] {
        place.generate(&["a red ball", "--seed", seed, "--out", "single.mp4"]).succeeds();
        assert_eq!(place.read(name), place.read("single.mp4"));
    }
}

#[test]
fn quiet_means_quiet() {
    let place = Workplace::new();
    let ran = place.generate(&["a red ball", "--quiet", "--out", "clip.gif"]).succeeds();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    assert!(place.path("clip.gif").is_file());
}

#[test]
fn without_a_name_the_prompt_gives_one() {
    let place = Workplace::new();
    place.generate(&["A red ball, rolling.", "--frames", "1"]).succeeds().says(&["a-red-ball-rolling-3.mp4: 1 frames"]);
    assert!(place.path("a-red-ball-rolling-3.mp4").is_file());
}

#[test]
fn previews_follow_the_steps() {
    let place = Workplace::new();
    place.generate(&["a red ball", "--steps", "4", "--preview-every", "1", "--out", "clip.mp4"]).succeeds();
    place.generate(&["a red ball", "--steps", "4", "--preview-every", "2", "--out", "every-other.mp4"]).succeeds();
    let preview = |name: &str| read_frames(&place.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let all: Vec<_> = (1..=4).map(|step| preview(&format!("clip-step-{step:03}.webp"))).collect();
    for frames in &all {
        assert!(frames.count() >= 2 && frames.frames_per_second > 0.0, "a preview is animated: {} frames", frames.count());
    }
    assert!(all.windows(2).all(|pair| pair[0].rgb != pair[1].rgb), "every step shows something else");
    assert_eq!(preview("every-other-step-002.webp").rgb, all[1].rgb);
    assert_eq!(preview("every-other-step-004.webp").rgb, all[3].rgb);
    assert_eq!(place.listing().len(), 4 + 2 + 2, "{:?}", place.listing());
}

#[test]
fn a_sheet_shows_every_prompt() {
    let place = Workplace::new();
    place.write("prompts.txt", "a red ball\n\n  a blue cube  \n");
    let flags = &SMALL[1..SMALL.len() - 2];
    let sheet = |prompts: &'static str| [&["sheet", prompts, "--columns", "3", "--tile-width", "64"], flags].concat();
    place.run(&sheet("prompts.txt")).succeeds().says(&["sheet.png: 2 prompts"]);
    let picture = read_frames(&place.path("sheet.png")).expect("a picture");
    assert!(picture.width >= 3 * 64 && picture.height >= 2 * 48, "{}x{}", picture.width, picture.height);
    place.write("prompts.txt", "\n");
    place.refuses(&sheet("prompts.txt"), 2, &["prompts.txt has no prompts", "one a line"]);
    place.refuses(&sheet("absent.txt"), 1, &["absent.txt", "No such file"]);
}
