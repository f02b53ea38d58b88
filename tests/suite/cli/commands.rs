//! The commands that make no clip.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use super::Workplace;

#[test]
fn help_names_every_command() {
    let place = Workplace::new();
    let commands = [
        "generate",
        "show",
        "attention",
        "export",
        "verify",
        "compare",
        "reads",
        "words",
        "library",
        "queue",
        "timings",
        "doctor",
        "import",
        "models",
        "sheet",
        "world",
        "reset-settings",
        "bench",
    ];
    place.run(&["--help"]).succeeds().says(&commands);
    for command in commands {
        place.run(&[command, "--help"]).succeeds().says(&["Usage: tilereel", command]);
    }
    place.run(&["generate", "--help"]).succeeds().says(&[
        "--seed",
        "--resume",
        "--recipe",
        "--dry-run",
        "--preview-every",
        "--mask",
    ]);
    place.run(&["--version"]).succeeds().says(&[concat!("tilereel ", env!("CARGO_PKG_VERSION"))]);
    place.run(&["generat"]).complains(2, &["'generat'", "'generate'"]);
    place.run(&["genrate", "a ball"]).complains(2, &["'genrate' is neither a command nor a file", "'generate'"]);
    place.run(&["genrate", "a ball", "--steps", "4"]).complains(2, &["'genrate' is neither", "'generate'"]);
}

#[test]
fn doctor_checks_the_device() {
    let ran = Workplace::new().run(&["doctor", "--device", "cpu"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = ran.says(&[
        "memory ",
        "adapters",
        "chosen     CPU",
        "because",
        "precision  f32",
        "kernels ",
        "self-test of what making clips needs: passed",
        "self-test of what training needs: passed",
        "tile attention",
    ]);
    assert!(!ran.stdout.contains("FAILED"), "{ran:?}");
}

#[test]
fn doctor_and_models_say_the_same_as_json() {
    let place = Workplace::new();
    let said = place.run(&["doctor", "--device", "cpu", "--json"]).succeeds().json();
    assert!(said["device"].as_str().is_some_and(|name| name.starts_with("CPU")) && said["precision"] == "f32", "{said}");
    assert_eq!(said["adapters"].as_array().map(Vec::len), Some(tilereel::gpu::device::adapters().len()));
    assert!(said["free_memory_bytes"].as_u64() <= said["memory_bytes"].as_u64(), "{said}");
    let tests = said["self_tests"].as_array().expect("tests");
    assert_eq!(tests.iter().map(|test| test["of"].as_str()).collect::<Vec<_>>(), [Some("making clips"), Some("training")]);
    for test in tests {
        assert_eq!((&test["passed"], &test["advice"]), (&true.into(), &Value::Null), "{test}");
        for kernel in test["kernels"].as_array().expect("kernels") {
            assert!(kernel["error"].as_f64() <= kernel["limit"].as_f64() && kernel["passed"] == true, "{kernel}");
        }
        assert_ne!(test["kernels"][0], Value::Null, "{test}");
    }

    let broken = place.path("models/broken");
    fs::create_dir_all(&broken).expect("a folder");
    fs::write(broken.join("config.json"), r#"{"_class_name": "OpenSoraT2V"}"#).expect("a file");
    let mut command = place.command(&["models", "--json"]);
    let output = command.env("TILEREEL_MODELS", place.path("models")).output().expect("the program starts");
    let said: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let of = |name: &str| said["models"].as_array().expect("models").iter().find(|model| model["name"] == name).cloned();
    let fast = of("mini/fast").expect("the model in the program");
    assert_eq!((&fast["defaults"]["sampler"], &fast["defaults"]["steps"]), (&"ddim-trailing".into(), &4.into()), "{fast}");
    assert!(fast["failure"].is_null() && fast["vocabulary"].as_array().is_some_and(|groups| !groups.is_empty()), "{fast}");
    assert_eq!(said["folders"][0].as_str(), place.path("models").to_str(), "{said}");
    let broken = said["models"].as_array().expect("models").iter().find(|model| !model["failure"].is_null());
    assert!(broken.is_some_and(|model| model["defaults"].is_null()), "{said}");
}

/// The next start believes it, tells another tier to run where one failed, and tests again where nothing can be read.
#[test]
fn what_the_self_test_found_is_kept() {
    if tilereel::gpu::device::adapters().is_empty() {
        return;
    }
    let place = Workplace::new();
    let clip = ["generate", "--device", "0", "--frames", "1", "--size", "64x48", "--steps", "1", "--seed", "3", "--quiet"];
    let clip = [&clip[..], &["--out", "clip.png", "a red ball"]].concat();
    let kernels = || {
        place.run(&clip).succeeds();
        let shown = place.run(&["show", "clip.png"]).succeeds();
        let line = shown.stdout.lines().find(|line| line.starts_with("made on")).expect("a line").to_owned();
        line.rsplit(", ").next().expect("the kernels").trim_end_matches(" kernels").to_owned()
    };
    let file = place.root.path().join("data").join("self_test.json");
    let fastest = kernels();
    let mut kept: Value = serde_json::from_slice(&fs::read(&file).expect("the file is written")).expect("it is JSON");
    let results = kept["of"].as_object_mut().expect("results");
    let (_, result) = results.iter_mut().find(|(key, _)| key.ends_with(&format!(", {fastest}, Forward"))).expect("its result");
    assert_eq!(result["lines"][0]["ok"], true);
    result["lines"][0]["ok"] = false.into();
    result["lines"][0]["failure"] = "the driver said no".into();
    fs::write(&file, kept.to_string()).expect("the file can be written");
    if fastest == "plain" {
        place.run(&clip).complains(1, &["the driver said no", "tilereel doctor"]);
    } else {
        assert_ne!(kernels(), fastest, "a tier that failed runs");
    }
    fs::write(&file, "junk").expect("the file can be written");
    assert_eq!(kernels(), fastest);
}

#[test]
fn models_are_listed_with_the_places() {
    let ran = Workplace::new().run(&["models"]).succeeds();
    ran.says(&[
        "mini/base",
        "mini/fast",
        "ddim-trailing with 4 steps",
        "colour",
        "cyan, blue",
        "Looked in:",
        "the program itself",
    ]);
}

#[test]
fn the_benchmark_tells_every_phase() {
    let place = Workplace::new();
    let flags = ["bench", "clip", "--runs", "1", "--frames", "5", "--size", "64x48", "--steps", "1", "--device", "cpu"];
    place.run(&flags).succeeds().says(&["load", "text", "sampling", "decoding", "mp4", "total", "on CPU", "in f32"]);
    let result = place.run(&[&flags[..], &["--json"]].concat()).succeeds().json();
    assert_eq!(result["runs"].as_array().map(Vec::len), Some(1));
    assert!(result["runs"][0]["total_millis"].as_f64().is_some_and(|millis| millis > 0.0));
    assert!(place.listing().is_empty());
}

#[test]
fn bench_world_measures_the_renderer() {
    let place = Workplace::new();
    let flags = ["bench", "world", "--device", "cpu", "--frames", "5", "--size", "32x18", "--clips", "2"];
    let flags = [&flags[..], &["--calls", "2", "--repeats", "3"]].concat();
    place.run(&flags).succeeds().says(&["clips a second", "the processor's cores", "2 clips a call"]);
    let figures = place.run(&[&flags[..], &["--json"]].concat()).succeeds().json();
    assert_eq!(figures["millis_a_clip"].as_array().map(Vec::len), Some(3));
    for key in ["clips_per_second", "median_millis_a_clip", "shots_millis_a_clip", "processor_millis_a_clip"] {
        assert!(figures[key].as_f64().is_some_and(|figure| figure > 0.0), "{key}: {figures}");
    }
    place.run(&["bench", "world", "--size", "99999x99999", "--device", "cpu"]).complains(2, &["--clips", "--size"]);
}

/// `tilereel models | head -1`
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Workplace::new();
    let mut child = place.command(&["models"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn bench_transformer_measures_a_small_one() {
    let ran = Workplace::new().run(&[
        "bench",
        "transformer",
        "--device",
        "cpu",
        "--frames",
        "9",
        "--size",
        "64x48",
        "--layers",
        "2",
        "--heads",
        "2",
        "--head",
        "24",
        "--caption-channels",
        "32",
        "--text-tokens",
        "8",
        "--plan",
        "full,1:2",
        "--repeats",
        "3",
        "--json",
    ]);
    let figures = ran.succeeds().json();
    assert_eq!(figures["latent_frames"], 3);
    assert_eq!(figures["tokens_per_frame"], 12);
    let plans = figures["plans"].as_array().expect("a list");
    assert_eq!(plans.len(), 2);
    for plan in plans {
        assert!(plan["median_millis"].as_f64().expect("a time") > 0.0);
        assert!(plan["extrapolated_millis_of_all_layers"].as_f64().expect("fewer layers") > 0.0);
        let kinds: Vec<&str> =
            plan["parts"].as_array().expect("a list").iter().filter_map(|part| part["kind"].as_str()).collect();
        assert!(["attention", "linear", "normalisation"].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    }
    assert_eq!(plans[1]["density"], 7.0 / 9.0);
    // By hand: two blocks of width 48 and what is around them, in f32.
    assert_eq!(figures["predicted_weight_bytes"].as_f64(), figures["parameters"].as_f64().map(|count| 4.0 * count));
}
