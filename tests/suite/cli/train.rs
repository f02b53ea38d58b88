//! Training and evaluation from the command line, with the networks of mini on clips of a few pixels.

use tilereel::model::weights::WeightSource;

use super::Workplace;

const TINY: [&str; 10] = ["--device", "cpu", "--size", "32x32", "--frames", "5", "--batch", "2", "--out", "model"];

fn train(place: &Workplace, what: &str, more: &[&str]) -> super::Ran {
    place.run(&[&["train", what], &TINY[..], more].concat())
}

#[test]
fn a_model_is_trained_evaluated_and_makes_clips() {
    let place = Workplace::new();
    train(&place, "vae", &["--steps", "2"]).succeeds().says(&["done at step 2"]);
    train(&place, "base", &["--steps", "2", "--world-clips", "4", "--sheet-every", "0"]).succeeds().says(&["done at step 2"]);
    train(&place, "judge", &["--steps", "2"]).succeeds().says(&["done at step 2"]);
    for file in ["vae/config.json", "base/tilereel.json", "text_encoder/spiece.model", "judge/judge.json"] {
        assert!(place.path("model").join(file).is_file(), "{file}");
    }
    for file in ["checkpoint.safetensors", "packed/packed.json", "curves.csv"] {
        assert!(place.path("model/training/base").join(file).is_file(), "{file}");
    }
    // What was trained is a model like any other.
    place
        .run(&["generate", "a red ball", "--model", "model/base", "--device", "cpu", "--steps", "2", "--out", "ball.webp"])
        .succeeds();
    let amounts = ["--prompts", "2", "--real", "3", "--decoded", "1", "--steps", "2", "--guidance", "1.5", "--device", "cpu"];
    let evaluate =
        [&["evaluate", "model/base", "--judge", "model/judge", "--keep", "kept", "--out", "table"], &amounts[..]].concat();
    let table = place.run(&evaluate);
    table.succeeds().says(&["| real clips | 3 |", "| model/base | 2 |", "dB"]);
    let json: serde_json::Value = serde_json::from_slice(&place.read("table.json")).expect("JSON");
    assert_eq!(json["rows"].as_array().map(Vec::len), Some(3));
    for (row, is_generated) in [(0, false), (1, false), (2, true)] {
        let row = &json["rows"][row];
        let [low, mean, high] = ["low", "mean", "high"].map(|key| row["subject_consistency"][key].as_f64().expect("a number"));
        assert!(0.0 < low && low <= mean && mean <= high && high <= 1.0, "{row}");
        let [transformer, clip] = ["transformer_seconds", "clip_seconds"].map(|key| row["made"][key].as_f64());
        assert_eq!(transformer.is_some_and(|seconds| seconds > 0.0) && transformer < clip, is_generated, "{row}");
    }
    let chart = tilereel::clip::read_frames(&place.path("table.png")).expect("a picture");
    assert_eq!((chart.width, chart.height, chart.count()), (1200, 800, 1));
    kept_rows_are_not_made_again(&place, &evaluate, &json);

    // A run goes on only if it is told to, and only as what it is.
    train(&place, "base", &["--steps", "3", "--world-clips", "4"]).complains(1, &["at step 2", "--resume"]);
    train(&place, "base", &["--steps", "3", "--world-clips", "4", "--sheet-every", "0", "--resume"]).succeeds().says(&["step 3"]);
    train(&place, "base", &["--steps", "9", "--world-clips", "4", "--resume", "--seed", "2"]).complains(1, &["seed 1, not 2"]);
}

/// After `evaluate` made the table `before`: one row is of real clips, one of clips through the VAE, one of the model's.
fn kept_rows_are_not_made_again(place: &Workplace, evaluate: &[&str], before: &serde_json::Value) {
    let files = || -> Vec<_> {
        std::fs::read_dir(place.path("kept")).expect("a folder").map(|file| file.expect("a file").path()).collect()
    };
    assert_eq!(files().len(), 3);
    // As if another device had made them: what a second table shows is what was kept.
    for file in files() {
        let text = std::fs::read_to_string(&file).expect("text");
        let mut entry: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        entry["device"] = "another device".into();
        std::fs::write(&file, entry.to_string()).expect("writes");
    }
    place.run(evaluate).succeeds().says(&["were made on: another device"]);
    let again: serde_json::Value = serde_json::from_slice(&place.read("table.json")).expect("JSON");
    for (row, of_before) in again["rows"].as_array().expect("rows").iter().zip(before["rows"].as_array().expect("rows")) {
        assert_eq!((&row["attributes"], &row["all"]), (&of_before["attributes"], &of_before["all"]));
        assert_eq!(row["device"], "another device");
    }
    // Other settings are another row, and a row with other noise is not this one.
    for (other, count) in [("again=model/base,steps=3", 4), ("again=model/base,plan=1:1", 5)] {
        place.run(&[evaluate, &["--row", other]].concat()).succeeds();
        assert_eq!(files().len(), count, "{other}");
        let json: serde_json::Value = serde_json::from_slice(&place.read("table.json")).expect("JSON");
        let seconds = |row: usize| json["rows"][row]["made"]["transformer_seconds"].as_f64().expect("seconds");
        let faster = json["rows"][3]["speed_up"]["transformer"].as_f64().expect("a ratio");
        assert!((faster * seconds(3) / seconds(2) - 1.0).abs() < 1e-9, "{faster}");
        assert!(json["rows"][2]["speed_up"].is_null(), "nothing is faster than itself");
    }
    place.run(&[evaluate, &["--seed", "5"]].concat()).succeeds();
    assert_eq!(files().len(), 6);
    for file in files() {
        std::fs::write(file, "{").expect("writes");
    }
    place.run(evaluate).complains(1, &["Cannot use what was kept", "Remove the file"]);
}

#[test]
fn what_cannot_be_trained_is_told() {
    let place = Workplace::new();
    train(&place, "vae", &[]).complains(2, &["--minutes", "--steps"]);
    train(&place, "vae", &["--steps", "1", "--resume"]).complains(1, &["no checkpoint", "--resume"]);
    place.run(&["train", "vae", "--out", "m", "--steps", "1", "--frames", "6", "--device", "cpu"]).complains(2, &["4k + 1"]);
    place.run(&["train", "vae", "--out", "m", "--steps", "1", "--like", "nothing", "--device", "cpu"]).complains(1, &["nothing"]);
    place.run(&["evaluate", "mini/base", "--judge", "nowhere", "--device", "cpu"]).complains(1, &["no judge", "train judge"]);
    place.write("clips.txt", "no folder");
    train(&place, "base", &["--steps", "1", "--clips", "clips.txt"]).complains(1, &["Cannot read", "clips.txt"]);
}

/// Fine-tuned from the built-in model.
#[test]
fn a_text_encoder_that_learnt_to_read_goes_on_beside_a_trained_transformer() {
    let place = Workplace::new();
    let run = |out: &str, more: &[&str]| {
        let all = ["train", "base", "--steps", "1", "--world-clips", "2", "--also", "none", "--sheet-every", "0", "--batch", "2"];
        let size = ["--size", "32x32", "--frames", "5", "--device", "cpu", "--out", out];
        place.run(&[&all[..], &size, more].concat())
    };
    place.run(&["train", "text", "--steps", "2", "--batch", "4", "--device", "cpu", "--out", "new"]).succeeds();
    let curves = String::from_utf8(place.read("new/training/text/curves.csv")).expect("text");
    assert!(curves.starts_with("step,seconds,samples,loss,wrong,wrong_of_second,"), "{curves}");
    let values = |file: &str, tensor: &str| {
        WeightSource::open(&place.path(file)).expect(file).read_f32(tensor).expect(tensor).into_iter().map(f64::from).collect()
    };
    let encoder = |model: &str| -> Vec<f64> {
        let file = format!("{model}/text_encoder/model.safetensors");
        values(&file, "encoder.block.0.layer.0.SelfAttention.v.weight")
    };
    let read = encoder("new");
    run("same", &["--fine-tune"]).succeeds();
    run("new", &["--fine-tune"]).succeeds();
    let distance = |a: &[f64], b: &[f64]| {
        let square = |difference: f64| difference * difference;
        let between: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
        (between / b.iter().copied().map(square).sum::<f64>()).sqrt()
    };
    assert!(distance(&encoder("new"), &read) < 0.05 && distance(&encoder("same"), &read) > 0.5, "one goes on from what it read");
    let transformer = |model: &str| -> Vec<f64> {
        let file = format!("{model}/base/diffusion_pytorch_model.safetensors");
        values(&file, "transformer_blocks.0.attn1.to_q.weight")
    };
    assert!(distance(&transformer("new"), &transformer("same")) < 0.05, "the transformer goes on in both");
}

/// The base learns from clips of three lengths while the decoder learns alone: latents that were encoded before stay right.
#[test]
fn a_base_learns_several_lengths_beside_a_decoder() {
    let place = Workplace::new();
    let base = ["--world-clips", "8", "--sheet-every", "0", "--also", "17:0.4,1:0.3"];
    let base = |more: &[&str]| train(&place, "base", &[&base[..], more].concat());
    base(&["--steps", "4"]).succeeds();
    let files = ["latents.bin", "latents-17.bin", "latents-1.bin"].map(|name| format!("model/training/{name}"));
    let changed = || files.clone().map(|file| std::fs::metadata(place.path(&file)).expect(&file).modified().expect("a time"));
    let (encoded, weights) = (changed(), place.read("model/vae/diffusion_pytorch_model.safetensors"));
    let facts: serde_json::Value = serde_json::from_slice(&place.read("model/base/tilereel.json")).expect("JSON");
    assert_eq!(facts["trained"]["frames"], serde_json::json!([1, 5, 17]));
    assert_eq!(facts["defaults"]["frames"], 5);

    train(&place, "vae", &["--steps", "1", "--freeze-encoder"]).complains(2, &["--fine-tune"]);
    train(&place, "vae", &["--steps", "1", "--sheet-every", "0", "--fine-tune", "--freeze-encoder"]).succeeds();
    assert_ne!(place.read("model/vae/diffusion_pytorch_model.safetensors"), weights);
    // Another kind of training does not go on from its checkpoint.
    train(&place, "vae", &["--steps", "2", "--fine-tune", "--resume"]).complains(1, &["the decoder alone"]);
    base(&["--steps", "6", "--resume"]).succeeds().says(&["done at step 6"]);
    assert_eq!(changed(), encoded, "nothing was encoded anew");

    for frames in ["1", "17"] {
        let clip = ["generate", "a red ball", "--model", "model/base", "--device", "cpu", "--steps", "2", "--frames", frames];
        place.run(&[&clip[..], &["--out", &format!("ball-{frames}.webp")]].concat()).succeeds();
    }
    train(&place, "base", &["--steps", "9", "--resume", "--also", "5:0.1"]).complains(2, &["5 frames"]);
    train(&place, "base", &["--steps", "9", "--resume", "--also", "18:0.1"]).complains(2, &["17 and 21"]);
}
