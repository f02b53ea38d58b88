//! Several devices from the command line: `--devices`, and `tilereel bench parallel`.

use tilereel::clip::read_frames;

use super::Workplace;

/// The largest step of a colour that the last bits of a sum may make.
const LARGEST_STEP: u8 = 2;

#[test]
fn clips_of_several_devices_are_those_of_one() {
    let place = Workplace::new();
    for guidance in ["1", "3"] {
        let of = |devices: &str, name: &str| {
            place
                .generate(&["a red ball", "--device", devices, "--frames", "9", "--guidance", guidance, "--out", name])
                .succeeds();
            read_frames(&place.path(name)).expect("a clip").rgb
        };
        let (one, two, three) = (of("cpu", "one.webp"), of("cpu,cpu", "two.webp"), of("cpu,cpu,cpu", "three.webp"));
        for several in [two, three] {
            assert_eq!(one.len(), several.len());
            let largest = one.iter().zip(&several).map(|(one, several)| one.abs_diff(*several)).max();
            assert!(largest.is_some_and(|largest| largest <= LARGEST_STEP), "guidance {guidance}: {largest:?}");
        }
    }
    place.run(&["show", "two.webp"]).succeeds().says(&["made on", "and CPU"]);
    let recorded = ["a red ball", "--device", "cpu,cpu", "--attention", "sampled", "--out", "recorded.webp"];
    let ran = place.generate(&recorded).succeeds();
    assert!(ran.stderr.contains("attention is not recorded where several devices share a step"), "{ran:?}");
}

#[test]
fn the_cost_of_several_devices_is_told_before_and_learned_behind() {
    let place = Workplace::new();
    let run = ["a red ball", "--frames", "9", "--size", "64x48", "--device", "cpu,cpu"];
    let before = [&run[..], &["--dry-run"]].concat();
    place.generate(&before).succeeds().says(&["a rough guess", "memory     about", " on CPU"]);
    let estimate = |arguments: &[&str]| place.generate(&[arguments, &["--json"]].concat()).succeeds().json()["estimate"].clone();
    let rough = estimate(&before);
    assert_eq!(rough["others_memory_bytes"].as_array().map(Vec::len), Some(1), "{rough}");
    assert_eq!(rough["basis"], "typical");
    place.generate(&[&run[..], &["--out", "one.webp"]].concat()).succeeds();
    assert_eq!(estimate(&before)["basis"]["measured"]["runs"], 1);
    // One device is another machine.
    let alone = estimate(&["a red ball", "--frames", "9", "--size", "64x48", "--device", "cpu", "--dry-run"]);
    assert_eq!((&alone["basis"], alone.get("others_memory_bytes")), (&serde_json::json!("typical"), None));
}

#[test]
fn several_devices_are_measured_and_reckoned() {
    let place = Workplace::new();
    let small =
        ["bench", "parallel", "--devices", "cpu,cpu", "--model", "small", "--size", "64x48", "--frames", "9", "--repeats", "1"];
    let measured = place.run(&[&small[..], &["--plan", "full,1:2", "--json"]].concat()).succeeds().json();
    let runs = measured["measured"]["runs"].as_array().expect("runs");
    assert_eq!(runs.iter().map(|run| run["ranks"].as_u64().expect("a number")).collect::<Vec<_>>(), [1, 2, 1, 2]);
    let sent = |run: usize| runs[run]["sent_bytes"].as_u64().expect("a number");
    // How much depends on the shares, and these on speeds that were just measured: on a busy machine nobody's are even.
    assert!(sent(0) == 0 && sent(1) > 0 && sent(2) == 0 && sent(3) > 0, "two send something, one nothing");
    place.run(&[&small[..], &["--ranks", "3"]].concat()).complains(1, &["--ranks 3 is more than there are devices"]);

    place.write(
        "times.json",
        r#"{ "device": "one", "heads": 24, "head": 96, "layers": 4, "latent_frames": 8, "tokens_per_frame": 3600, "rows": 1, "plans": [
            { "plan": "full", "median_millis": 200, "parts": [{ "kind": "attention", "millis": 130 }, { "kind": "linear", "millis": 70 }] },
            { "plan": "1:7", "median_millis": 120, "parts": [{ "kind": "attention", "millis": 50 }, { "kind": "linear", "millis": 70 }] }] }"#,
    );
    let arguments = ["bench", "parallel", "--simulate", "--measured", "times.json", "--bandwidth", "25,20", "--json"];
    let reckoned = place.run(&arguments).succeeds().json();
    let rows = reckoned["simulated"].as_array().expect("rows");
    assert!(rows.iter().any(|row| row["frames"] == 93 && row["plan"] == "3:21"), "{reckoned}");
    for row in rows {
        let speed_up = |key: &str| {
            row[key].as_array().expect("numbers").iter().map(|value| value.as_f64().expect("a number")).collect::<Vec<_>>()
        };
        let (with, free) = (speed_up("speed_up"), speed_up("with_free_links"));
        assert!(with.iter().zip(&free).all(|(with, free)| with < free), "bytes cost time: {row}");
        assert!(free.iter().zip([2.0, 4.0, 8.0]).all(|(free, ranks)| *free <= ranks + 1e-9), "{row}");
    }
}
