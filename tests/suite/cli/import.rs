//! `tilereel import` and `--resident`: where a model's weights are changes no clip.

use std::fs;
use std::path::Path;

use super::Workplace;

const MINI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/models/mini");
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

fn frames_of(place: &Workplace, more: &[&str]) -> String {
    let ran = place.generate(&[more, &["--json"]].concat()).succeeds();
    ran.json()["recipe"]["made"]["frames_sha256"].as_str().expect("a hash").to_owned()
}

#[test]
fn a_model_that_was_taken_over_makes_the_same_clip() {
    let place = Workplace::new();
    let want = frames_of(&place, &["a red ball", "--out", "a.png", "--model", &format!("{MINI}/fast")]);
    place.run(&["import", MINI, "--to", "taken", "--quiet"]).succeeds().says(&["transformer", "VAE", "text encoder", "taken"]);
    for file in ["fast/model.safetensors", "fast/mask_plan.json", "text_encoder/spiece.model", "vae/preview.json"] {
        assert!(place.path("taken").join(file).is_file(), "{file}");
    }
    assert!(place.listing().iter().all(|path| !path.to_string_lossy().contains(".part")), "nothing is left aside");
    assert_eq!(frames_of(&place, &["a red ball", "--out", "b.png", "--model", "./taken/fast"]), want);
}

#[test]
fn streamed_layers_make_the_same_clip() {
    let place = Workplace::new();
    let prompt = "a green cube";
    let want = frames_of(&place, &[prompt, "--out", "a.png", "--resident", "all"]);
    assert_eq!(frames_of(&place, &[prompt, "--out", "b.png", "--resident", "stream"]), want);
    place.run(&["doctor", "--resident", "both"]).complains(2, &["auto, all or stream"]);
}

/// As PyTorch publishes them: pickles, with what only training needs.
#[test]
fn pickles_lose_what_no_network_here_needs() {
    let place = Workplace::new();
    let folder = place.path("published");
    for (part, config, weights, name) in [
        ("vae", "vae_tiny_a", "pickle_tiny/checkpoint.ckpt", "checkpoint.ckpt"),
        ("mt5", "t5_tiny_a", "pickle_tiny/pytorch_model.bin", "pytorch_model.bin"),
    ] {
        fs::create_dir_all(folder.join(part)).expect("a folder");
        let from = Path::new(FIXTURES);
        fs::copy(from.join(config).join("config.json"), folder.join(part).join("config.json")).expect("a copy");
        fs::copy(from.join(weights), folder.join(part).join(name)).expect("a copy");
    }
    let mt5: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("mt5/config.json")).expect("a file")).expect("JSON");
    if mt5.get("model_type").is_none() {
        let mut mt5 = mt5;
        mt5["model_type"] = "mt5".into();
        fs::write(folder.join("mt5/config.json"), mt5.to_string()).expect("a file");
    }
    let vae: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("vae/config.json")).expect("a file")).expect("JSON");
    if vae.get("_class_name").is_none() {
        let mut vae = vae;
        vae["_class_name"] = "CausalVAEModel".into();
        fs::write(folder.join("vae/config.json"), vae.to_string()).expect("a file");
    }
    place.run(&["import", "published", "--to", "taken", "--type", "bf16", "--quiet"]).succeeds().says(&["VAE", "text encoder"]);
    let names = |file: &str| -> Vec<String> {
        let source = tilereel::model::weights::WeightSource::open(&place.path("taken").join(file)).expect("weights");
        source.tensors().map(|(name, _)| name.to_owned()).collect()
    };
    let mt5 = names("mt5/model.safetensors");
    assert!(mt5.iter().any(|name| name.starts_with("encoder.")), "{mt5:?}");
    assert!(mt5.iter().all(|name| !name.starts_with("decoder.") && !name.starts_with("lm_head.")), "{mt5:?}");
    assert!(names("vae/model.safetensors").iter().all(|name| !name.contains("loss")));
}

#[test]
fn what_cannot_be_taken_over_is_told() {
    let place = Workplace::new();
    fs::create_dir(place.path("empty")).expect("a folder");
    place.refuses(&["import", "empty", "--to", "x"], 1, &["holds no model"]);
    place.refuses(&["import", "nowhere", "--to", "x"], 1, &["nowhere"]);
    place.refuses(&["import", MINI, "--to", MINI], 1, &["--to"]);
}
