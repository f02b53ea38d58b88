//! The whole way at toy size: few steps, a plan, a sparse student, and a table of all of them.

use std::path::Path;

use serde_json::Value;
use tilereel::mask::MaskPlan;

use super::Workplace;
use crate::training::toy;

const CPU: [&str; 2] = ["--device", "cpu"];

fn json(place: &Workplace, name: &str) -> Value {
    serde_json::from_slice(&place.read(name)).expect("JSON")
}

#[test]
fn a_model_becomes_fast_and_is_compared() {
    let place = Workplace::new();
    toy::model(&place.path("toy"));
    let session = ["--steps", "2", "--batch", "2", "--sheet-every", "0", "--out", "toy"];
    let with =
        |command: &[&str]| -> Vec<String> { [command, &session, &CPU].concat().iter().map(|&word| word.to_owned()).collect() };
    let run = |arguments: &[String]| place.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());

    // Five clips are encoded once, and found again by the later run.
    run(&with(&["distill", "mlcd", "--teacher", "toy/base", "--world-clips", "5", "--segments", "4"]))
        .succeeds()
        .says(&["done at step 2"]);
    let facts = json(&place, "toy/mlcd/tilereel.json");
    assert_eq!((&facts["defaults"]["sampler"], &facts["defaults"]["steps"]), (&"ddim-trailing".into(), &4.into()));
    assert_eq!((&facts["defaults"]["guidance_scale"], &facts["trained"]["steps"]), (&1.0.into(), &serde_json::json!([1, 2, 4])));

    let search = ["search", "--model", "toy/mlcd", "--out", "plan.json", "--prompts", "2", "--times", "2", "--threshold", "0.5"];
    place
        .run(&[&search[..], &CPU].concat())
        .succeeds()
        .says(&["| layer | 1:3 | near:1 | 2:2 | near:2 | mask |", "% of the tiles"]);
    assert!(!place.path("plan.json.progress").exists());
    let plan = json(&place, "plan.json");
    assert_eq!((plan["latent_frames"].as_u64(), plan["layers"].as_array().map(Vec::len)), (Some(4), Some(toy::LAYERS)));
    assert_eq!((&plan["search"], &plan["goal"]["threshold"]), (&"greedy".into(), &0.5.into()));
    let dense_millis = plan["attention_millis"]["of_a_layer"][4].as_f64().expect("a time") * toy::LAYERS as f64;
    let most = format!("{}", 10.0 * dense_millis);
    let search =
        ["search", "--model", "toy/mlcd", "--out", "best.json", "--prompts", "2", "--times", "2", "--most-millis", &most];
    place.run(&[&search[..], &CPU].concat()).succeeds();
    assert_eq!(json(&place, "best.json")["mean_sparsity"].as_f64(), Some(0.0), "with so much time nothing is left out");

    let taught = ["distill", "kd", "--teacher", "toy/mlcd", "--student-plan", "plan.json"];
    let ran = run(&with(&taught)).succeeds();
    assert!(ran.stderr.contains("5 encoded clips"), "{ran:?}");
    assert_eq!(json(&place, "toy/fast/mask_plan.json")["layers"], plan["layers"]);
    run(&with(&taught)).complains(1, &["already", "--resume"]);
    let other_weights =
        ["distill", "kd", "--teacher", "toy/mlcd", "--student-plan", "plan.json", "--data-weight", "1", "--resume"];
    run(&with(&other_weights)).complains(1, &["weights 1, 0.03, 0", "not of kd (weights 1, 0.03, 1"]);
    let half = ["search", "--model", "toy/mlcd", "--out", "half.json", "--prompts", "2", "--times", "1", "--most-tiles", "0.7"];
    place.run(&[&half[..], &CPU].concat()).succeeds();
    assert!(json(&place, "half.json")["mean_sparsity"].as_f64().expect("a share") >= 0.3);
    // With masks of their own for the two halves of the steps, which the table below makes clips with.
    let halves =
        ["search", "--model", "toy/mlcd", "--out", "ranges.json", "--prompts", "2", "--times", "4", "--step-ranges", "2"];
    let by_limit = [&halves[..], &["--most-tiles", "0.7"], &CPU].concat();
    place.run(&by_limit).succeeds().says(&[
        "| range of steps | layer | 1:3 | near:1 | 2:2 | near:2 | mask |",
        "| 2 of 2 | 3 |",
        "% of the tiles",
    ]);
    let plan_of_ranges = json(&place, "ranges.json");
    assert_eq!(
        (&plan_of_ranges["made"]["step_ranges"], plan_of_ranges["losses"][1].as_array().map(Vec::len)),
        (&2.into(), Some(toy::LAYERS))
    );
    assert!(plan_of_ranges["mean_sparsity"].as_f64().expect("a share") >= 0.3);
    let too_many = ["search", "--model", "toy/mlcd", "--out", "many.json", "--prompts", "2", "--step-ranges", "5"];
    place.refuses(&[&too_many[..], &CPU].concat(), 2, &["4 calls", "1 to 4 ranges"]);
    // The other order: the sparse model becomes one of few steps. Its own place is taken by the first.
    let sparse_first = ["distill", "mlcd", "--teacher", "toy/fast", "--segments", "2", "--data-free", "--distance", "l2"];
    let sparse_first =
        [&sparse_first[..], &["--steps", "1", "--batch", "2", "--sheet-every", "0", "--out", "other"], &CPU].concat();
    let preview = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/models/mini/vae/preview.json");
    std::fs::copy(preview, place.path("toy/vae/preview.json")).expect("copies");
    place.run(&sparse_first).succeeds();
    assert_eq!(json(&place, "other/mlcd/mask_plan.json")["layers"], plan["layers"]);
    assert_eq!(place.read("other/vae/preview.json"), place.read("toy/vae/preview.json"), "a student has its teacher's previews");

    // Better clips of the sparse student: its masks stay.
    let dmd = ["distill", "dmd", "--teacher", "toy/base", "--student", "toy/fast", "--segments", "2", "--second-objects", "0.5"];
    run(&with(&dmd)).succeeds();
    assert_eq!(json(&place, "toy/dmd/mask_plan.json")["layers"], plan["layers"]);
    assert_eq!(json(&place, "toy/dmd/tilereel.json")["defaults"]["steps"], 2);
    run(&with(&["distill", "dmd", "--teacher", "toy/dmd", "--student", "toy/fast"])).complains(1, &["already", "--resume"]);

    let clip = ["generate", "a red ball", "--model", "toy/dmd", "--seed", "1", "--out", "clip.apng"];
    place.run(&[&clip[..], &CPU].concat()).succeeds();

    let judge = ["train", "judge", "--like", "toy/base", "--steps", "1", "--batch", "2", "--sheet-every", "0", "--out", "toy"];
    place.run(&[&judge[..], &CPU].concat()).succeeds();
    let table = ["evaluate", "--judge", "toy/judge", "--prompts", "2", "--real", "2", "--decoded", "1", "--out", "table"];
    let rows = [
        "--row",
        "few steps=toy/mlcd",
        "--row",
        "sparse, two steps=toy/fast,steps=2",
        "--row",
        "dense again=toy/fast,plan=dense",
        "--row",
        "halves=toy/mlcd,plan=halves.json",
    ];
    let layers = |count: usize| MaskPlan::uniform(toy::LAYERS, toy::FRAMES, ["full", "1:3"][count]).expect("a plan");
    let halves = MaskPlan::of_ranges(vec![(0.0, layers(0)), (0.5, layers(1))]).expect("a plan");
    place.write("halves.json", halves.to_json().expect("JSON"));
    place
        .run(&[&table[..], &rows, &CPU].concat())
        .succeeds()
        .says(&["| sparse, two steps | ddim-trailing | 2 | 1 |", "Minus few steps"]);
    // The table is the same whoever makes its rows; here also with two clips of every prompt.
    let made_by = |devices: &str| {
        let more = ["--clips-a-prompt", "2", "--no-times", "--device", devices];
        let other = table.iter().map(|&word| if word == "table" { "shared" } else { word }).collect::<Vec<_>>();
        place.run(&[&other[..], &rows, &more].concat()).succeeds();
        json(&place, "shared.json")["rows"].clone()
    };
    let alone = made_by("cpu");
    assert_eq!(alone[2]["clips"].as_u64(), Some(4));
    assert_eq!(alone, made_by("cpu,cpu"));
    let table = json(&place, "table.json");
    let rows = table["rows"].as_array().expect("rows");
    // Real clips, the one VAE, and four models.
    assert_eq!(rows.len(), 6, "{table}");
    let density = |row: usize| rows[row]["made"]["density"].as_f64().expect("a share");
    assert!(density(2) == 1.0 && density(3) < 1.0 && density(4) == 1.0 && (density(5) - halves.density()).abs() < 1e-12);
    // The second half of the steps makes other clips than the dense model does.
    assert_ne!(rows[5]["pictures"], rows[2]["pictures"]);
    assert!(place.path("table.png").is_file());
    assert!(rows[3]["made"]["attention_millis"].as_f64().expect("a time") > 0.0);
    assert!(rows[2]["against_first"].is_null() && rows[3]["against_first"]["mean"]["low"].is_number());
}

/// Students that learn at other lengths too, with the rules of their plans.
#[test]
fn students_learn_at_several_lengths() {
    let place = Workplace::new();
    toy::model(&place.path("toy"));
    let session = ["--steps", "3", "--batch", "2", "--sheet-every", "0", "--out", "toy", "--also", "37:0.4,1:0.3"];
    let few_steps = ["distill", "mlcd", "--teacher", "toy/base", "--world-clips", "16", "--segments", "4"];
    place.run(&[&few_steps[..], &session, &CPU].concat()).succeeds();
    place.write("plan.json", toy::sparse().to_json().expect("JSON"));
    let sparse = ["distill", "kd", "--teacher", "toy/mlcd", "--student-plan", "plan.json"];
    let ran = place.run(&[&sparse[..], &session, &CPU].concat()).succeeds();
    for found in ["16 encoded clips", "2 encoded clips", "4 encoded clips", "latents-37.bin", "latents-1.bin"] {
        assert!(ran.stderr.contains(found), "{found}: {ran:?}");
    }
    for model in ["mlcd", "fast"] {
        let frames = &json(&place, &format!("toy/{model}/tilereel.json"))["trained"]["frames"];
        assert_eq!(frames, &serde_json::json!([1, 13, 37]), "{model}");
    }
    for frames in ["1", "37"] {
        let clip = ["generate", "a red ball", "--model", "toy/fast", "--seed", "1", "--frames", frames, "--out"];
        place.run(&[&clip[..], &[&format!("clip-{frames}.apng")], &CPU].concat()).succeeds();
    }
    // Painted tiles are for one length.
    let painted = r#"{"latent_frames": 4, "layers": [LAYER, LAYER, LAYER]}"#
        .replace("LAYER", r#"{"mask": "painted", "matrix": ["1100", "1100", "0011", "0011"]}"#);
    place.write("painted.json", painted);
    let taught = ["distill", "kd", "--teacher", "toy/mlcd", "--student-plan", "painted.json"];
    let other = session.map(|word| if word == "toy" { "other" } else { word });
    place.refuses(&[&taught[..], &other, &CPU].concat(), 2, &["--also 37", "layer 0"]);
}

#[test]
fn what_cannot_be_is_told() {
    let place = Workplace::new();
    toy::model(&place.path("toy"));
    let teacher = ["--teacher", "toy/base", "--out", "toy", "--device", "cpu"];
    let steps = ["--steps", "1"];
    place.refuses(&[&["distill", "mlcd", "--segments", "7"], &teacher[..], &steps].concat(), 2, &["7 equal segments", "8 or 4"]);
    place.refuses(&[&["distill", "mlcd", "--guidance", "0.5"], &teacher[..], &steps].concat(), 2, &["guidance"]);
    place.refuses(&[&["distill", "mlcd"], &teacher[..]].concat(), 2, &["--minutes"]);
    let two = ["distill", "mlcd", "--second-objects", "0.5"];
    place.refuses(&[&two[..], &["--clips", "."], &teacher, &steps].concat(), 2, &["--second-objects", "--clips"]);
    // The clip that was encoded by then is found again.
    let one = [&two[..], &["--world-clips", "1"], &teacher, &steps].concat();
    place.run(&one).complains(2, &["--second-objects", "Take more clips"]);
    place.refuses(&[&["distill", "kd", "--student-plan", "none.json"], &teacher[..], &steps].concat(), 1, &["none.json"]);
    place.write("plan.json", r#"{"latent_frames": 4, "layers": [{"mask": "full"}]}"#);
    place.refuses(
        &[&["distill", "kd", "--student-plan", "plan.json"], &teacher[..], &steps].concat(),
        2,
        &["1 layers and the model 3"],
    );
    let search = ["search", "--model", "toy/base", "--out", "plan.json", "--device", "cpu"];
    place.refuses(&[&search[..], &["--candidates", "full,2:6"]].concat(), 2, &["--candidates", "K + N = 4"]);
    place.refuses(&[&search[..], &["--most-loss", "0.1", "--order", "greedy"]].concat(), 2, &["--threshold"]);
    place.refuses(&["evaluate", "--judge", "j", "--row", "mini/base", "--device", "cpu"], 2, &["NAME=MODEL"]);
}
