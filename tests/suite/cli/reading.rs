//! What clips attended to, from the command line.

use serde_json::Value;
use tilereel::clip::read_frames;

use super::library::with_a_clip;

const CPU: [&str; 2] = ["--device", "cpu"];

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().expect("a number")],
    }
}

#[test]
fn a_point_is_read_into_every_kind_of_file() {
    let place = with_a_clip();
    let reads =
        |more: &[&str]| place.run(&[&["reads", "2", "--step", "3", "--layer", "2", "--at", "4:40:10"], &CPU[..], more].concat());
    reads(&["--out", "reads.json"]).succeeds().says(&["reads.json: reads", "latent frames 0 to 1"]);
    let json: Value = serde_json::from_slice(&place.read("reads.json")).expect("JSON");
    // The second frame of 4 x 2 tokens; the third one of its first row.
    assert_eq!(json["token"], serde_json::json!({ "latent_frame": 1, "y": 0, "x": 2 }));
    let weights = numbers(&json["weights"]);
    assert_eq!(weights.len(), 2 * 2 * 4);
    assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-5);
    let sums = numbers(&json["frame_sums"]);
    assert!((sums[0] - weights[..8].iter().sum::<f64>()).abs() < 1e-6);

    reads(&["--out", "reads.csv", "--quiet"]).succeeds();
    let table = String::from_utf8(place.read("reads.csv")).expect("text");
    let rows: Vec<f64> = table.lines().skip(1).map(|row| row.rsplit(',').next().unwrap().parse().unwrap()).collect();
    assert!(table.starts_with("latent_frame,y,x,weight\n0,0,0,") && table.contains("\n1,0,2,"));
    assert!(rows.iter().zip(&weights).all(|(row, weight)| (row - weight).abs() < 1e-6) && rows.len() == 16);

    // One head is not the mean.
    reads(&["--out", "head.json", "--head", "1"]).succeeds();
    let head: Value = serde_json::from_slice(&place.read("head.json")).expect("JSON");
    assert_ne!(head["weights"], json["weights"]);

    reads(&["--out", "reads.png"]).succeeds();
    let sheet = read_frames(&place.path("reads.png")).expect("a picture");
    assert_eq!((sheet.width, sheet.height, sheet.count()), (2 * 192, 96, 1));
}

#[test]
fn words_are_read_into_every_kind_of_file() {
    let place = with_a_clip();
    let words = |more: &[&str]| place.run(&[&["words", "2", "--step", "8"], &CPU[..], more].concat());
    words(&["--out", "words.png"]).succeeds().says(&["a ", "red ", "ball ", "beside the words"]);
    let sheet = read_frames(&place.path("words.png")).expect("a picture");
    assert_eq!((sheet.width, sheet.height), (2 * 192, 3 * 96), "a row a word");
    words(&["--out", "words.json"]).succeeds();
    let json: Value = serde_json::from_slice(&place.read("words.json")).expect("JSON");
    let texts: Vec<&str> = json["words"].as_array().expect("words").iter().map(|word| word["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["a", "red", "ball"]);
    let means: f64 = json["words"].as_array().unwrap().iter().map(|word| word["mean"].as_f64().unwrap()).sum();
    assert!((means + json["mean_rest"].as_f64().unwrap() - 1.0).abs() < 1e-4);
    words(&["--out", "red.csv", "--word", "RED", "--layer", "12"]).succeeds();
    let table = String::from_utf8(place.read("red.csv")).expect("text");
    assert_eq!(table.lines().count(), 1 + 16);
    assert!(table.lines().skip(1).all(|row| row.starts_with("1,\"red\",")));
}

#[test]
fn a_file_is_read_as_the_library_is() {
    let place = with_a_clip();
    let path = place.run(&["library", "path", "2"]).succeeds().stdout.trim().to_owned();
    let json = |clip: &str, out: &str| -> Value {
        let at = ["--step", "4", "--layer", "3", "--at", "1:0:0", "--out", out];
        place.run(&[&["reads", clip], &at[..], &CPU[..]].concat()).succeeds();
        serde_json::from_slice(&place.read(out)).expect("JSON")
    };
    // Without records the steps before are made again, to the same bytes.
    assert_eq!(json("2", "library.json"), json(&path, "file.json"));
}

#[test]
fn what_cannot_be_read_is_refused() {
    let place = with_a_clip();
    let good = ["reads", "2", "--step", "3", "--layer", "2", "--at", "4:40:10", "--out", "reads.json", "--device", "cpu"];
    let with = |flag: &str, value: &'static str| {
        let at = good.iter().position(|&argument| argument == flag).expect("a flag");
        let mut arguments = good;
        arguments[at + 1] = value;
        arguments
    };
    place.refuses(&with("--step", "9"), 1, &["Step 9 of this clip is not kept"]);
    place.refuses(&with("--step", "0"), 2, &["--step"]);
    place.refuses(&with("--layer", "13"), 2, &["no layer 13", "12"]);
    place.refuses(&with("--at", "5:0:0"), 2, &["outside of the clip", "5 frames of 64x32"]);
    place.refuses(&with("--at", "5:0"), 2, &["FRAME:X:Y"]);
    place.refuses(&with("--out", "reads.gif"), 2, &[".png, .csv or .json"]);
    place.refuses(&with("reads", "9"), 1, &["no clip 9"]);
    place.refuses(&[&good[..], &["--head", "5"]].concat(), 2, &["--head goes from 1 to 4"]);
    let words = ["words", "2", "--step", "1", "--out", "words.csv", "--device", "cpu", "--word", "cube"];
    place.refuses(&words, 2, &["no word of the prompt", "a red ball"]);
    place.refuses(&["words", "no.mp4", "--step", "1", "--out", "words.csv"], 1, &["no.mp4"]);
}
