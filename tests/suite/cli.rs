//! The program as a person meets it: the real binary in folders of its own, on the CPU, with clips small enough to be quick.

mod attention;
mod bad_files;
mod bad_models;
mod bad_settings;
mod clips;
mod commands;
mod compare;
mod devices;
mod distill;
mod export;
mod import;
mod library;
mod noise;
mod places;
mod queue;
mod reading;
mod reset_settings;
mod resume;
mod train;
#[cfg(feature = "gui")]
mod window;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A clip that takes a third of a second.
const SMALL: [&str; 11] = ["generate", "--device", "cpu", "--frames", "5", "--size", "64x48", "--steps", "2", "--seed", "3"];

/// A folder to run the program in. Its name holds a space and letters beyond ASCII, so every test is also one of that.
struct Workplace {
    root: tempfile::TempDir,
}

impl Workplace {
    fn new() -> Self {
        let root = tempfile::Builder::new().prefix("tilereel süd ").tempdir().expect("a temporary folder");
        for folder in ["place", "data", "home"] {
            fs::create_dir(root.path().join(folder)).expect("a folder in it");
        }
        Self { root }
    }

    /// A path in the folder that the program runs in.
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("place").join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("a file can be written");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The program, with nothing of this machine's own settings.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tilereel"));
        command.args(arguments).current_dir(self.path("")).stdin(Stdio::null());
        for variable in ["RUST_LOG", "RUST_BACKTRACE", "TILEREEL_MODELS", "TILEREEL_SELF_TEST"] {
            command.env_remove(variable);
        }
        command.env("TILEREEL_DATA", self.root.path().join("data"));
        for variable in ["HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"] {
            command.env(variable, self.root.path().join("home"));
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(arguments, self.command(arguments).output().expect("the program starts"))
    }

    /// [`SMALL`] and more; flags that are given go before those of [`SMALL`].
    fn generate(&self, more: &[&str]) -> Ran {
        let defaults = SMALL[1..].chunks(2).filter(|flag| !more.contains(&flag[0])).flatten().copied();
        let arguments: Vec<&str> = std::iter::once(SMALL[0]).chain(defaults).chain(more.iter().copied()).collect();
        self.run(&arguments)
    }

    /// The recipe that [`SMALL`] and more arguments would run.
    fn recipe(&self, more: &[&str]) -> Value {
        self.generate(&[&["--dry-run", "--json"], more].concat()).succeeds().json()["recipe"].take()
    }

    /// Everything in the folder that the program runs in, by path.
    fn listing(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).expect("a folder can be listed") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    walk(&path, found);
                }
                found.push(path);
            }
        }
        let mut found = Vec::new();
        walk(&self.path(""), &mut found);
        found.sort();
        found
    }

    /// Starts a run, presses Ctrl-C when `ready` says so, and waits for its end.
    #[cfg(unix)]
    fn interrupted(&self, arguments: &[&str], mut ready: impl FnMut() -> bool) -> Ran {
        use std::time::{Duration, Instant};
        /// The issue is a second; the rest is for machines that are busy with other tests.
        const AT_MOST: Duration = Duration::from_millis(1500);

        let child = self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let began = Instant::now();
        while !ready() {
            assert!(began.elapsed() < Duration::from_secs(60), "the run does not get that far");
            std::thread::sleep(Duration::from_millis(5));
        }
        let pressed = Instant::now();
        let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("the program kill");
        assert!(sent.success());
        let output = child.wait_with_output().expect("it ends");
        let took = pressed.elapsed();
        let ran = Ran::of(arguments, output);
        assert!(took < AT_MOST, "it took {took:?} to stop: {ran:?}");
        assert_eq!(ran.code, Some(130), "{ran:?}");
        assert!(!ran.stderr.contains("error"), "{ran:?}");
        ran
    }

    /// Runs a command that must fail with this exit code, say all these words, and leave nothing.
    fn refuses(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let before = self.listing();
        self.run(arguments).complains(code, words);
        assert_eq!(self.listing(), before, "{arguments:?} left something behind");
    }
}

/// A run of the program that has ended.
struct Ran {
    arguments: String,
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// As a terminal would show it.
impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n$ tilereel {}\n{}{}exit code {:?}", self.arguments, self.stdout, self.stderr, self.code)
    }
}

impl Ran {
    fn of(arguments: &[&str], output: Output) -> Self {
        // Long arguments would hide the message that a failed assertion is about.
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.chars().take(80).collect()).collect();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program prints UTF-8");
        Self {
            arguments: arguments.join(" "),
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert!(!self.stderr.contains("error"), "{self:?}");
        self
    }

    fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stdout.contains(word), "{word:?} is missing: {self:?}");
        }
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It failed with this code and one readable message with all these words.
    fn complains(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing: {self:?}");
        }
        let errors = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "not one error line: {self:?}");
        for bad in [
            "panicked",
            "RUST_BACKTRACE",
            "[WARN",
            "[ERROR",
            " { ",
            "Some(",
            "Err(",
            "Ok(",
            "::",
            "error: error",
            "..:",
            ".:",
            ";.",
            ":.",
        ] {
            assert!(!self.stderr.contains(bad), "{bad:?} in a message: {self:?}");
        }
        assert!(self.stderr.matches("(os error").count() <= 1, "a cause is told twice: {self:?}");
        assert!(self.stderr.trim_end().ends_with(['.', '?']), "no sentence: {self:?}");
        self
    }
}

/// A recipe's JSON with a value put in at a path such as "/model/name".
fn altered(recipe: &Value, pointer: &str, value: Value) -> String {
    let mut recipe = recipe.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    recipe.pointer_mut(parent).expect("the parent is there")[key] = value;
    recipe.to_string()
}
