//! The real window on a screen of its own (Xvfb), worked by real keys, on the CPU.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tilereel::clip::{Frames, read_frames};
use tilereel::studio::{ClipEntry, ClipFilter, Database, Home};

use super::Workplace;
use crate::judges::{decoded_by_ffmpeg, have};

const PATIENCE: Duration = Duration::from_secs(120);
const PROMPT: &str = "a matte blue cube spins on the sand at noon";

/// A screen that nobody sees, which goes with the test.
struct Screen {
    server: Child,
    display: String,
}

impl Screen {
    fn new() -> Self {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1440x900x24", "-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb starts");
        let mut number = String::new();
        BufReader::new(server.stdout.take().expect("its output")).read_line(&mut number).expect("the number of its display");
        Self { server, display: format!(":{}", number.trim()) }
    }

    fn xdotool(&self, arguments: &[&str]) {
        let done = Command::new("xdotool").args(arguments).env("DISPLAY", &self.display).output().expect("xdotool starts");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The program, ended with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait<T>(program: &mut Program, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        let ended = program.0.try_wait().expect("the program can be asked");
        assert!(ended.is_none(), "the program ended ({ended:?}) while waited for {what}");
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_prompt_is_typed_a_clip_is_made_and_exported() {
    if !have("Xvfb") || !have("xdotool") || !have("ffmpeg") {
        return;
    }
    let (place, screen) = (Workplace::new(), Screen::new());
    let exported = place.path("exported.mp4");
    let export_to = exported.display().to_string();
    let started = Instant::now();
    let mut command = place.command(&["--device", "cpu", "--export-to", &export_to]);
    command.env("DISPLAY", &screen.display).env_remove("WAYLAND_DISPLAY").stderr(Stdio::inherit());
    let mut program = Program(command.spawn().expect("the program starts"));

    let home = Home::in_folder(place.root.path().join("data"));
    screen.xdotool(&["search", "--sync", "--onlyvisible", "--name", "Tilereel", "windowfocus", "--sync"]);
    println!("the window is there after {:?}", started.elapsed());
    let database = wait(&mut program, "the library", || Database::open(&home.database()).ok());
    let clips = || -> Vec<ClipEntry> { database.clips(&ClipFilter::default()).unwrap_or_default() };
    wait(&mut program, "the example", || (clips().len() == 1).then_some(()));

    // The prompt has the keyboard from the start; what is in it is typed over.
    std::thread::sleep(Duration::from_secs(2));
    screen.xdotool(&["key", "ctrl+a"]);
    screen.xdotool(&["type", "--delay", "12", PROMPT]);
    screen.xdotool(&["key", "ctrl+Return"]);
    let made = wait(&mut program, "the clip", || clips().into_iter().find(|clip| clip.recipe.prompt == PROMPT));
    let frames = read_frames(&home.clip_file(made.id)).expect("the library's frames");
    assert_eq!(frames.sha256(), made.recipe.made.as_ref().expect("a made clip").frames_sha256);

    // The finished clip comes into the player by itself, and the export's path is given by the flag.
    std::thread::sleep(Duration::from_secs(2));
    screen.xdotool(&["key", "ctrl+e"]);
    std::thread::sleep(Duration::from_secs(1));
    screen.xdotool(&["key", "Return"]);
    wait(&mut program, "the exported file", || exported.exists().then_some(()));
    let judged: Frames = decoded_by_ffmpeg(&exported, &frames);
    assert_eq!(judged.count(), frames.count());
    let psnr = judged.psnr(&frames);
    let worst = psnr.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(worst > 35.0, "H.264 loses little, but {psnr:?}");
}

#[test]
fn a_machine_without_a_screen_is_told_what_works() {
    let place = Workplace::new();
    let mut command = place.command(&["--device", "cpu"]);
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    let ran = super::Ran::of(&[], command.output().expect("the program starts"));
    assert!(!ran.stderr.contains(".rs:"), "no place in a source: {ran:?}");
    ran.complains(1, &["The window cannot be opened", "tilereel generate"]);
}
