//! Two clips compared, and where the time of a run went.

use tilereel::clip::read_frames;

use super::Workplace;

/// Clip 2 is sparse and clip 3 its dense twin; the parts of both were timed.
fn with_twins() -> Workplace {
    let place = Workplace::new();
    for mask in ["1:2", "dense"] {
        let settings = ["--device", "cpu", "--frames", "9", "--size", "64x32", "--steps", "3", "--seed", "3", "--mask", mask];
        place.run(&[&["queue", "add", "a red ball"], &settings[..]].concat()).succeeds();
    }
    place.run(&["queue", "run", "--device", "cpu", "--timings"]).succeeds();
    place
}

#[test]
fn clips_are_compared_and_their_times_told() {
    let place = with_twins();
    place.run(&["compare", "2", "3"]).succeeds().says(&[
        "A  clip 2, fast, 1:2, 77.8 % of the tiles",
        "B  clip 3, fast, dense",
        "times as fast",
        "mean",
    ]);
    let figures = place.run(&["compare", "2", "3", "--json", "--out", "both.csv"]).succeeds().json();
    assert_eq!(figures["psnr"].as_array().map(Vec::len), Some(9));
    assert_eq!([&figures["a"], &figures["b"]].map(|side| side["density"].as_f64()), [Some(7.0 / 9.0), Some(1.0)]);
    assert!(figures["mean_psnr"].as_f64().is_some_and(|psnr| psnr < 60.0), "the masks differ: {figures}");
    let csv = String::from_utf8(place.read("both.csv")).expect("text");
    assert_eq!((csv.lines().count(), csv.lines().next()), (10, Some("frame,psnr_decibels,ssim")));

    // A file, and the clip that it was.
    let path = place.run(&["library", "path", "2"]).succeeds().stdout.trim().to_owned();
    let same = place.run(&["compare", &path, "2", "--json", "--out", "sheet.png"]).succeeds().json();
    assert!(same["mean_psnr"].is_null() && same["mean_ssim"] == 1.0, "{same}");
    let sheet = read_frames(&place.path("sheet.png")).expect("a picture");
    assert_eq!((sheet.width, sheet.height), (8 * 64, 3 * 32));
    assert!(sheet.rgb[2 * 32 * sheet.width * 3..].iter().all(|&value| value == 0), "nothing differs");

    place.refuses(&["compare", "1", "2"], 1, &["one size", "256x144", "64x32"]);
    place.refuses(&["compare", "2", "9"], 1, &["no clip 9"]);
    place.refuses(&["compare", "2", "3", "--out", "both.mp4"], 2, &["both.mp4", ".csv"]);
    place.refuses(&["compare", "2", "3", "--gain", "0"], 2, &["--gain"]);
}

#[test]
fn the_parts_of_a_run_come_to_its_time() {
    let place = with_twins();
    let timings = place.run(&["timings", "2", "--json"]).succeeds().json();
    let seconds = |value: &serde_json::Value| value["seconds"].as_f64().expect("seconds");
    let phases = timings["phases"].as_array().expect("phases");
    let names: Vec<_> = phases.iter().map(|phase| phase["phase"].as_str().expect("a name")).collect();
    assert_eq!(names, ["load", "text", "sampling", "decoding", "keeping"]);
    let sum: f64 = phases.iter().map(seconds).sum();
    assert!((sum / seconds(&timings) - 1.0).abs() < 0.05, "{sum} of {}", seconds(&timings));
    let layers: std::collections::BTreeSet<_> =
        phases[2]["parts"].as_array().expect("parts").iter().map(|part| part["layer"].as_str().expect("a name")).collect();
    let recipe = place.run(&["library", "show", "2", "--json"]).succeeds().json();
    let blocks = recipe["mask_plan"]["layers"].as_array().map(Vec::len);
    assert_eq!(Some(layers.iter().filter(|name| name.starts_with("layer ")).count()), blocks, "{layers:?}");
    place.run(&["timings", "2"]).succeeds().says(&["the wall clock", "attention", "layer 12", "decoder.mid", "idle"]);

    // Another run of it has the same frames, timed or not.
    place.refuses(&["timings", "1"], 1, &["before they were kept", "library rerun 1"]);
    place.generate(&["a red ball", "--out", "timed.apng", "--timings"]).succeeds().says(&["sum of the parts", "layer 1"]);
    place.generate(&["a red ball", "--out", "plain.apng"]).succeeds();
    let frames = |name: &str| read_frames(&place.path(name)).expect("a clip").sha256();
    assert_eq!(frames("timed.apng"), frames("plain.apng"));
}
