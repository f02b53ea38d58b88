//! Stopped runs go on to the same bytes.

use std::fs;

use tilereel::model::sampler::SamplerKind;

use super::Workplace;

const RESUME: [&str; 4] = ["generate", "--device", "cpu", "--resume"];

/// All files of a folder.
fn files(place: &Workplace, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(place.path(folder)).into_iter().flatten().map(|entry| entry.expect("an entry"));
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The records from which a run can go on.
fn records(place: &Workplace, folder: &str) -> Vec<String> {
    files(place, folder).into_iter().filter(|name| !name.starts_with("attention-")).collect()
}

/// A folder as a run leaves it that was stopped after `kept` records.
fn stop_after(place: &Workplace, kept: usize, from: &str, to: &str) {
    fs::create_dir(place.path(to)).expect("a folder");
    for name in records(place, from).iter().take(kept) {
        fs::copy(place.path(from).join(name), place.path(to).join(name)).expect("a copy");
    }
}

#[test]
fn every_sampler_goes_on_to_the_same_file() {
    let place = Workplace::new();
    for (index, sampler) in SamplerKind::ALL.map(SamplerKind::name).into_iter().enumerate() {
        let whole = format!("{sampler}.apng");
        let flags = ["a red ball", "--model", "base", "--steps", "6", "--sampler", sampler, "--keep-steps", "--out", &whole];
        place.generate(&flags).succeeds();
        let calls = records(&place, &format!("{whole}.steps")).len();
        assert!(calls >= 6, "{sampler}: a record a call");
        // Another place for each, the first and the last call among them.
        let kept = 1 + index % (calls - 1);
        let cut = format!("{sampler}-cut.apng");
        stop_after(&place, kept, &format!("{whole}.steps"), &format!("{cut}.steps"));
        place.run(&[&RESUME[..], &[&format!("{cut}.steps")]].concat()).succeeds();
        assert!(place.read(&whole) == place.read(&cut), "{sampler} stopped after call {kept} of {calls}");
        assert!(!place.path(&format!("{cut}.steps")).exists(), "the records of a finished run are removed");
    }
}

#[test]
fn a_damaged_record_is_passed_over() {
    let place = Workplace::new();
    place.generate(&["a red ball", "--steps", "3", "--keep-steps", "--out", "whole.apng"]).succeeds();
    stop_after(&place, 2, "whole.apng.steps", "cut.apng.steps");
    let damaged = "cut.apng.steps/step-0002.safetensors";
    place.write(damaged, &place.read(damaged)[..500]);
    let ran = place.run(&[&RESUME[..], &["cut.apng.steps"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("warning: the step record") && ran.stderr.contains("is passed over"), "{ran:?}");
    assert!(place.read("whole.apng") == place.read("cut.apng"));
}

#[test]
fn an_earlier_runs_records_do_not_mix_with_a_new_ones() {
    let place = Workplace::new();
    place.generate(&["a red ball", "--steps", "6", "--seed", "9", "--keep-steps", "--out", "clip.apng"]).succeeds();
    place.generate(&["a red ball", "--steps", "2", "--keep-steps", "--out", "clip.apng"]).succeeds();
    let whole = place.read("clip.apng");
    assert_eq!(
        files(&place, "clip.apng.steps"),
        ["attention-0001.png", "attention-0002.png", "step-0001.safetensors", "step-0002.safetensors"]
    );
    place.run(&[&RESUME[..], &["clip.apng.steps"]].concat()).succeeds();
    assert!(whole == place.read("clip.apng"));
}

#[cfg(unix)]
mod interrupts {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn ctrl_c_leaves_whole_records_to_go_on_from() {
        let place = Workplace::new();
        let run = |out: &'static str| {
            let flags = ["generate", "a red ball", "--device", "cpu", "--frames", "5", "--size", "64x48", "--model", "base"];
            [&flags[..], &["--sampler", "euler-ancestral", "--steps", "80", "--seed", "3", "--out", out]].concat()
        };
        let folder = "my clip.apng.steps";
        let reached = place.path(folder).join("step-0005.safetensors");
        let ran = place.interrupted(&run("my clip.apng"), || reached.exists());
        let kept = records(&place, folder);
        assert!(kept.iter().enumerate().all(|(index, name)| *name == format!("step-{:04}.safetensors", index + 1)), "{kept:?}");
        assert!((5..80).contains(&kept.len()), "{kept:?}");
        assert!(!place.path("my clip.apng").exists());

        // What it says to type is typed as it stands, by a shell.
        let line = ran.stderr.lines().last().expect("a last line");
        let (stopped, typed) = line.split_once(" Go on with: tilereel ").unwrap_or_else(|| panic!("no command: {ran:?}"));
        assert_eq!(stopped, format!("Stopped after step {} of 80.", kept.len()));
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("'{}' {typed}", env!("CARGO_BIN_EXE_tilereel"))]).current_dir(place.path(""));
        assert!(
            shell.env("TILEREEL_DATA", place.path("../data")).stdin(Stdio::null()).output().expect("a shell").status.success()
        );
        assert!(records(&place, folder).is_empty());

        place.run(&run("undisturbed.apng")).succeeds();
        assert!(place.read("my clip.apng") == place.read("undisturbed.apng"));
    }

    #[test]
    fn ctrl_c_does_not_wait_for_a_long_step() {
        let place = Workplace::new();
        let began = Instant::now();
        let arguments = ["generate", "a red ball", "--device", "cpu", "--seed", "3", "--size", "512x288", "--out", "clip.mp4"];
        let ran = place.interrupted(&arguments, || began.elapsed() > Duration::from_millis(800));
        assert!(ran.stderr.contains("Stopped "), "{ran:?}");
        assert!(!place.path("clip.mp4").exists());
    }
}
