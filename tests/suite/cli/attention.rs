//! `tilereel attention`: what a clip's steps looked at, from the flag that records it to tables, pictures and numbers.

use std::collections::BTreeMap;

use tilereel::clip::read_frames;
use tilereel::gpu::device::DeviceChoice;
use tilereel::studio::{DeviceWish, Home, Studio};

use super::Workplace;

#[test]
fn recorded_attention_can_be_shown_and_written() {
    let place = Workplace::new();
    place.generate(&["a red ball", "--out", "clip.webp", "--attention", "exact"]).succeeds();
    place.generate(&["a red ball", "--out", "plain.webp"]).succeeds();
    assert_eq!(place.read("clip.webp"), place.read("plain.webp"), "recording changes the clip");
    assert!(place.path("clip.webp.steps").exists() && !place.path("plain.webp.steps").exists());

    let shown = place.run(&["attention", "clip.webp"]).succeeds();
    shown.says(&["step 2, mean of all heads, measured on all rows", "mass kept", "density"]);
    place
        .run(&["attention", "clip.webp", "--layer", "3", "--head", "1", "--step", "1"])
        .succeeds()
        .says(&["step 1, head 1", "percent of a query frame's mass"]);
    // The folder of the steps is as good as the clip beside it.
    place.run(&["attention", "clip.webp.steps"]).succeeds().says(&["step 2"]);

    place.run(&["attention", "clip.webp", "--out", "all.csv"]).succeeds();
    let table = String::from_utf8(place.read("all.csv")).expect("text");
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("layer,head,query_frame,key_frame,mass,standard_error,state"));
    let mut sums: BTreeMap<(String, String), f64> = BTreeMap::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!((cells.len(), cells[1], cells[5]), (7, "mean", "0"), "{line}");
        assert!(["computed", "reference", "skipped"].contains(&cells[6]), "{line}");
        *sums.entry((cells[0].into(), cells[2].into())).or_default() += cells[4].parse::<f64>().expect("a number");
    }
    // 12 layers of two latent frames.
    assert_eq!(sums.len(), 12 * 2);
    assert!(sums.values().all(|sum| (sum - 1.0).abs() < 2e-3), "{sums:?}");

    place.run(&["attention", "clip.webp", "--layer", "3", "--out", "three.json"]).succeeds();
    let three: serde_json::Value = serde_json::from_slice(&place.read("three.json")).expect("JSON");
    assert_eq!((&three["step"], &three["recording"], &three["frames"]), (&2.into(), &"exact".into(), &2.into()));
    let tiles = three["tiles"].as_array().expect("tiles");
    assert_eq!(tiles.len(), 4);
    let mass = |tile: usize| tiles[tile]["mass"].as_f64().expect("a number") as f32;
    let cell = |tile: usize| format!("3,mean,{},{},{},0,", tile / 2, tile % 2, mass(tile));
    for tile in 0..4 {
        assert!(table.contains(&cell(tile)), "the table has no {}", cell(tile));
    }

    for (flags, name) in [(&["--layer", "1"][..], "one.png"), (&["--scale", "log"][..], "all.png")] {
        place.run(&[&["attention", "clip.webp", "--out", name], flags].concat()).succeeds();
        let picture = read_frames(&place.path(name)).expect("a picture");
        assert!(picture.count() == 1 && picture.width > 300 && picture.height > 300, "{} x {}", picture.width, picture.height);
    }
}

#[test]
fn what_was_not_recorded_is_said() {
    let place = Workplace::new();
    place.generate(&["a red ball", "--out", "clip.webp", "--keep-steps", "--attention", "off"]).succeeds();
    place.refuses(&["attention", "clip.webp"], 2, &["has no record of its attention", "--recipe clip.webp --attention sampled"]);
    place.generate(&["a red ball", "--out", "kept.webp", "--keep-steps"]).succeeds();
    place.run(&["attention", "kept.webp"]).succeeds().says(&["estimated from a sample of rows"]);
    place.refuses(&["attention", "kept.webp", "--layer", "13"], 2, &["no layer 13", "1 to 12"]);
    place.refuses(&["attention", "kept.webp", "--head", "99"], 2, &["no head 99"]);
    place.refuses(&["attention", "kept.webp", "--head", "0"], 2, &["number from 1 on or mean"]);
    place.refuses(&["attention", "kept.webp", "--step", "3"], 1, &["step 3 was not recorded"]);
    place.refuses(&["attention", "kept.webp", "--out", "x.txt"], 2, &[".png, .csv nor .json"]);
    place.refuses(&["attention", "kept.webp", "--out", "nowhere/x.csv"], 1, &["nowhere does not exist"]);
    let record = place.path("kept.webp.steps").join("attention-0002.png");
    std::fs::write(&record, b"no picture").expect("a file");
    place.refuses(&["attention", "kept.webp"], 1, &["attention-0002.png cannot be used"]);
}

/// The bundled example comes with all of it.
#[test]
fn clips_of_the_library_go_by_their_number() {
    let place = Workplace::new();
    let home = Home::in_folder(place.root.path().join("data"));
    drop(
        Studio::open(home, DeviceWish { choice: DeviceChoice::Cpu, precision: None, residency: Default::default() })
            .expect("a studio"),
    );
    place.run(&["attention", "1"]).succeeds().says(&["step 4", "measured on all rows", " 2:6 ", " 53.1 %"]);
    place.refuses(&["attention", "7"], 1, &["no clip 7"]);
}
