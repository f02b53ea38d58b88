//! The queue from the command line: two processes at once, and runs that are cut off.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Ran, Workplace};

const PATIENCE: Duration = Duration::from_secs(60);
const ADD: [&str; 11] = ["queue", "add", "--device", "cpu", "--frames", "5", "--size", "64x32", "--steps", "8", "--seed"];
const RUN: [&str; 4] = ["queue", "run", "--device", "cpu"];
/// Many steps, so that there is time to cut it off.
const LONG: [&str; 6] = ["--model", "base", "--steps", "60", "--sampler", "euler-ancestral"];

impl Workplace {
    fn add(&self, prompt: &str, more: &[&str]) -> Ran {
        let defaults = ADD[2..10].chunks(2).filter(|flag| !more.contains(&flag[0])).flatten().copied();
        let arguments: Vec<&str> =
            ["queue", "add", prompt, "--seed", "3"].into_iter().chain(defaults).chain(more.iter().copied()).collect();
        self.run(&arguments).succeeds()
    }

    pub fn queue(&self) -> Vec<Value> {
        let list = self.run(&["queue", "list", "--json"]).succeeds().json();
        list.as_array().expect("a list").clone()
    }

    pub fn library(&self, more: &[&str]) -> Vec<Value> {
        let list = self.run(&[&["library", "list", "--json"], more].concat()).succeeds().json();
        list.as_array().expect("a list").clone()
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
    }

    /// The step records of an item that has not ended.
    fn steps(&self, item: u32) -> usize {
        let folder: PathBuf = self.root.path().join("data/runs").join(item.to_string());
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        files.filter(|file| file.path().extension().is_some_and(|ending| ending == "safetensors")).count()
    }

    /// The hash of the frames that a recipe with these flags gives when nothing disturbs it.
    fn undisturbed(&self, prompt: &str) -> String {
        let flags = ["--frames", "5", "--size", "64x32", "--seed", "3", "--device", "cpu", "--json", "--out", "undisturbed.apng"];
        let made = self.run(&[&["generate", prompt][..], &flags, &LONG].concat()).succeeds().json();
        made["recipe"]["made"]["frames_sha256"].as_str().expect("a hash").to_owned()
    }
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what} takes too long");
        sleep(Duration::from_millis(5));
    }
}

pub fn frames_hash(clip: &Value) -> &str {
    clip["recipe"]["made"]["frames_sha256"].as_str().expect("a hash")
}

#[test]
fn what_is_added_is_moved_removed_and_worked_off() {
    let place = Workplace::new();
    place.run(&["queue", "list"]).succeeds().says(&["The queue is empty."]);
    place.add("a red ball", &["--count", "2"]).says(&["Items 1, 2 in the queue"]);
    place.add("a blue star", &[]);
    place.run(&["queue", "move", "3", "1"]).succeeds();
    place.run(&["queue", "remove", "2"]).succeeds();
    place.run(&["queue", "list"]).succeeds().says(&["  1. item 3", "  2. item 1", "waits", "0/8 steps", "a blue star"]);
    let ran = place.run(&RUN).succeeds();
    let (star, ball) = (ran.stdout.find("a blue star"), ran.stdout.find("a red ball"));
    assert!(star.is_some() && star < ball, "in the order of the queue: {ran:?}");
    assert!(place.queue().is_empty());
    let clips = place.library(&[]);
    assert_eq!(clips.len(), 3, "with the bundled example");
    assert_eq!(clips[0]["recipe"]["prompt"], "a red ball");
    // The library's clip is that which `generate` makes.
    let flags = ["generate", "a red ball", "--device", "cpu", "--frames", "5", "--size", "64x32", "--steps", "8", "--seed", "3"];
    let made = place.run(&[&flags[..], &["--json"]].concat()).succeeds().json();
    assert_eq!(frames_hash(&made), frames_hash(&clips[0]));
}

#[test]
fn wrong_items_are_named() {
    let place = Workplace::new();
    for command in [&["remove", "7"][..], &["move", "7", "1"], &["resume", "7"]] {
        place.refuses(&[&["queue"], command].concat(), 1, &["no item 7", "queue list"]);
    }
    place.refuses(&["queue", "move", "7", "0"], 2, &["counted from 1"]);
    place.refuses(&["queue", "add", "--device", "cpu"], 2, &["Say what the clip should show"]);
    place.refuses(&["queue", "add", "x", "--frames", "6", "--device", "cpu"], 2, &["6"]);
}

#[test]
fn two_processes_share_a_library_but_one_works() {
    let place = Workplace::new();
    place.add("a red ball", &LONG);
    let first = place.start(&RUN);
    wait("the first step", || place.steps(1) > 0);
    place.refuses(&RUN, 1, &["Another Tilereel works on"]);
    place.refuses(&["queue", "remove", "1"], 1, &["running now"]);
    assert_eq!(place.queue()[0]["state"], "running");
    // Both write meanwhile; the one that works takes what comes.
    place.run(&["library", "favourite", "1"]).succeeds();
    place.add("a blue star", &[]);
    let output = first.wait_with_output().expect("it ends");
    let ran = Ran::of(&RUN, output).succeeds();
    assert!(ran.stdout.contains("a red ball") && ran.stdout.contains("a blue star"), "{ran:?}");
    let clips = place.library(&[]);
    assert_eq!(clips.len(), 3);
    assert_eq!(clips[2]["favourite"], true);
}

#[test]
fn an_item_that_cannot_run_says_why_and_can_be_tried_again() {
    let place = Workplace::new();
    place
        .run(&["generate", "x", "--device", "cpu", "--frames", "1", "--size", "64x32", "--steps", "1", "--out", "x.png"])
        .succeeds();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/models/mini");
    copy_folder(model.as_ref(), &place.path("mine"));
    place.add("a red ball", &["--model", "mine/fast"]);
    fs::rename(place.path("mine"), place.path("hidden")).expect("a folder can be renamed");
    let ran = place.run(&RUN);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("1 item failed") && ran.stderr.contains("mine"), "{ran:?}");
    let items = place.queue();
    assert_eq!((items[0]["state"].as_str(), items[0]["report"]["fault"].as_str()), (Some("failed"), Some("bad_file")));
    place.run(&["queue", "list"]).succeeds().says(&["failed", "mine"]);
    fs::rename(place.path("hidden"), place.path("mine")).expect("a folder can be renamed");
    place.run(&["queue", "resume", "1"]).succeeds();
    place.run(&RUN).succeeds();
    assert!(place.queue().is_empty());
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[test]
fn a_killed_run_goes_on_to_the_same_frames() {
    let place = Workplace::new();
    let hash = place.undisturbed("a red ball");
    place.add("a red ball", &LONG);
    let mut child = place.start(&RUN);
    wait("the fourth step", || place.steps(1) >= 4);
    // As `kill -9` does.
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    let done = place.steps(1);
    assert!((4..60).contains(&done), "{done} steps");
    let items = place.queue();
    assert_eq!(items[0]["state"], "interrupted");
    let ran = place.run(&RUN).succeeds();
    assert!(ran.stderr.contains("tilereel queue resume 1"), "it waits for the person: {ran:?}");
    place.run(&["queue", "resume", "1"]).succeeds();
    place.run(&RUN).succeeds();
    let clips = place.library(&[]);
    assert_eq!(frames_hash(&clips[0]), hash);
    assert_eq!(clips[0]["badges"], serde_json::json!([]), "nothing was begun anew");
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_the_steps_and_the_next_run_goes_on() {
    let place = Workplace::new();
    let hash = place.undisturbed("a red ball");
    place.add("a red ball", &LONG);
    let child = place.start(&RUN);
    wait("the fourth step", || place.steps(1) >= 4);
    let pressed = Instant::now();
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("the program kill");
    assert!(sent.success());
    let ran = Ran::of(&RUN, child.wait_with_output().expect("it ends"));
    // The issue is a second; the rest is for machines that are busy with other tests.
    assert!(pressed.elapsed() < Duration::from_millis(1500), "{:?}", pressed.elapsed());
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.stderr.contains("queue run --resume"), "{ran:?}");
    assert_eq!(place.queue()[0]["state"], "interrupted");
    place.run(&[&RUN[..], &["--resume"]].concat()).succeeds();
    assert_eq!(frames_hash(&place.library(&[])[0]), hash);
}
