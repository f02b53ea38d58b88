//! Files that are not what they should be: recipes, clips, mask plans, noise, step records.

use std::fs;

use serde_json::{Value, json};

use super::{SMALL, Workplace, altered};

const FROM_RECIPE: [&str; 4] = ["generate", "--device", "cpu", "--recipe"];

#[test]
fn recipes_that_cannot_be_used_are_explained() {
    let place = Workplace::new();
    let recipe = place.recipe(&["a red ball"]);
    let with = |pointer: &str, value: Value| altered(&recipe, pointer, value);
    let mut without_seed = recipe.clone();
    without_seed.as_object_mut().expect("an object").remove("seed");
    let rows = [
        ("{".to_owned(), 1, vec!["This is no recipe: bad.json: EOF", "tilereel show CLIP"]),
        ("[]".to_owned(), 1, vec!["This is no recipe", "format"]),
        ("{}".to_owned(), 1, vec!["This is no recipe", "it has no \"format\""]),
        (without_seed.to_string(), 1, vec!["This is no recipe", "missing field `seed`"]),
        (with("/format", json!(5)), 1, vec!["The recipe has format 5", "newer than this program", "Update"]),
        (json!({ "format": 99, "program": "tilereel 7.0.0" }).to_string(), 1, vec!["format 99", "tilereel 7.0.0", "Update"]),
        (with("/prompt", json!(" ")), 2, vec!["The prompt is empty"]),
        (with("/steps", json!(1_000_000_000_000_u64)), 2, vec!["1 to 1000 steps"]),
        (with("/steps", json!(-1)), 1, vec!["This is no recipe", "-1"]),
        (with("/frames", json!(u64::MAX)), 2, vec!["1021"]),
        (with("/width", json!(1_000_000)), 2, vec!["The nearest is 4096x48"]),
        (with("/frames_per_second", json!(0)), 2, vec!["0 frames per second"]),
        (with("/guidance_scale", json!(1e300)), 2, vec!["guidance scale", "from 0 to 100"]),
        (with("/max_tokens", json!(1_000_000_000)), 1, vec!["max_tokens is 1000000000"]),
        (with("/sampler", json!("plms")), 1, vec!["This is no recipe", "plms"]),
        (with("/prompt_template", json!("{}".repeat(8000))), 1, vec!["prompt_template must contain {} once"]),
        (with("/mask_plan", Value::Null), 2, vec!["no mask plan"]),
        (with("/mask_plan/latent_frames", json!(3)), 2, vec!["2 latent frames", "3"]),
        (with("/mask_plan/latent_frames", json!(1_000_000_000)), 2, vec!["1 to 512 latent frames"]),
        (with("/model/name", json!("omega")), 2, vec!["no model omega", "Models found:"]),
        (
            with("/model/sha256", json!("0123456789abcdef")),
            1,
            vec!["wants the model fast", "0123456789ab", "--model or TILEREEL_MODELS"],
        ),
        (with("/noise_sha256", json!("0123456789abcdef")), 2, vec!["noise in a file", "0123456789abcdef", "--noise"]),
    ];
    for (text, code, words) in rows {
        place.write("bad.json", text);
        place.refuses(&[&FROM_RECIPE[..], &["bad.json"]].concat(), code, &words);
    }
    place.write("bad.json", [0xff, 0xfe, 0x00]);
    place.refuses(&[&FROM_RECIPE[..], &["bad.json"]].concat(), 1, &["bad.json", "UTF-8"]);
    place.refuses(&[&FROM_RECIPE[..], &["absent.json"]].concat(), 1, &["absent.json", "No such file"]);
}

#[test]
fn clips_that_cannot_be_read_are_explained() {
    let place = Workplace::new();
    place.generate(&["a red ball", "--out", "whole.mp4"]).succeeds();
    place.generate(&["a red ball", "--out", "silent.webp", "--no-recipe"]).succeeds();
    let whole = place.read("whole.mp4");
    place.write("cut.mp4", &whole[..whole.len() / 3]);
    place.write("empty.mp4", "");
    place.write("text.mp4", "Not a clip, but a letter to whom it may concern.");
    fs::create_dir(place.path("folder.mp4")).expect("a folder");
    for (clip, words) in [
        ("cut.mp4", vec!["cut.mp4", "damaged mp4", "ends in the middle"]),
        ("empty.mp4", vec!["empty.mp4", "not a clip"]),
        ("text.mp4", vec!["text.mp4 is not a clip", ".mp4, .webm"]),
        ("folder.mp4", vec!["folder.mp4"]),
        ("absent.mp4", vec!["no file absent.mp4"]),
        ("silent.webp", vec!["silent.webp holds no recipe", "--no-recipe"]),
    ] {
        place.refuses(&["show", clip], 1, &words);
        place.refuses(&["verify", clip], 1, &words);
        place.refuses(&[&FROM_RECIPE[..], &[clip]].concat(), 1, &words);
    }
    place.write("plan.json", place.recipe(&["x"]).to_string());
    place.refuses(&["verify", "plan.json"], 1, &["does not say which frames", "not run yet"]);
}

#[test]
fn mask_plans_that_do_not_fit_are_explained() {
    let place = Workplace::new();
    let layers =
        |count: usize, mask: &str| json!({ "latent_frames": 2, "layers": vec![json!({ "mask": mask }); count] }).to_string();
    for (text, words) in [
        ("no plan".to_owned(), vec!["plan.json", "no mask plan"]),
        ("{}".to_owned(), vec!["plan.json", "no mask plan", "latent_frames"]),
        (layers(3, "1:1"), vec!["3 layers and the model 12", "another model"]),
        (layers(12, "7:7"), vec!["plan.json", "layer 0", "14 latent frames"]),
        (layers(12, "some"), vec!["plan.json", "layer 0", "\"some\" is no mask name"]),
        (layers(0, "1:1"), vec!["1 to 256 layers, not 0"]),
        (json!({ "latent_frames": 1_000_000_000, "layers": [] }).to_string(), vec!["plan.json", "1 to"]),
        (
            json!({ "latent_frames": 2, "layers": vec![json!({ "mask": "painted", "matrix": ["10", "00"] }); 12] }).to_string(),
            vec!["query frame 1 sees no frame"],
        ),
        (
            json!({ "latent_frames": 3, "layers": vec![json!({ "mask": "painted", "matrix": ["100", "110", "101"] }); 12] })
                .to_string(),
            vec!["painted", "3 latent frames", "no rule"],
        ),
    ] {
        place.write("plan.json", text);
        place.refuses(&[&SMALL[..], &["x", "--mask", "plan.json"]].concat(), 2, &words);
    }
    place.write("plan.json", [0xff; 9]);
    place.refuses(&[&SMALL[..], &["x", "--mask", "plan.json"]].concat(), 2, &["plan.json", "UTF-8"]);
}

#[test]
fn folders_of_step_records_that_cannot_be_used_are_explained() {
    let place = Workplace::new();
    let refuses = |folder: &str, more: &[&str], code: i32, words: &[&str]| {
        place.refuses(&[&["generate", "--device", "cpu", "--resume", folder], more].concat(), code, words);
    };
    refuses("absent.steps", &[], 1, &["absent.steps cannot be used", "No such file", "without --resume"]);
    fs::create_dir(place.path("empty.mp4.steps")).expect("a folder");
    refuses("empty.mp4.steps", &[], 1, &["empty.mp4.steps cannot be used", "step-NNNN.safetensors", "without --resume"]);

    place.generate(&["a red ball", "--out", "clip.mp4", "--keep-steps"]).succeeds();
    for (flags, words) in [
        (["--steps", "4"], "flags that change the clip"),
        (["--seed", "4"], "flags that change the clip"),
        (["--guidance", "2"], "flags that change the clip"),
        (["--mask", "dense"], "flags that change the clip"),
        (["--model", "base"], "flags that change the clip"),
        (["--frames", "30"], "29 and 33"),
    ] {
        refuses("clip.mp4.steps", &flags, 2, &[words]);
    }
    refuses("clip.mp4.steps", &["--recipe", "clip.mp4"], 2, &["cannot be used with"]);
    refuses("clip.mp4.steps", &["--count", "2"], 2, &["cannot be used with"]);
    refuses("clip.mp4.steps", &["--out", "clip.avi"], 2, &["clip.avi", ".mp4"]);

    // Damaged in its values, so that only the checksum can tell; and cut off.
    for record in ["clip.mp4.steps/step-0001.safetensors", "clip.mp4.steps/step-0002.safetensors"] {
        let mut bytes = place.read(record);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        place.write(record, bytes);
    }
    refuses("clip.mp4.steps", &[], 1, &["passed over", "clip.mp4.steps cannot be used", "checksum is wrong", "without --resume"]);
    for record in ["clip.mp4.steps/step-0001.safetensors", "clip.mp4.steps/step-0002.safetensors"] {
        place.write(record, &place.read(record)[..100]);
    }
    refuses("clip.mp4.steps", &[], 1, &["clip.mp4.steps cannot be used", "without --resume"]);
}
