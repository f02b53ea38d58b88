//! What keeps the house in order, as tests: imports point downward only, files stay short, the map is complete, and nothing
//! that would break the single portable binary creeps into the dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The rooms from top to bottom. An import may point to a later line only; rooms of one line do not know each other.
const LEVELS: &[&[&str]] = &[
    &["cli"],
    &["app"],
    &["studio"],
    &["generate"],
    &["parallel"],
    &["training", "evaluate"],
    &["world"],
    &["model"],
    &["clip"],
    &["gpu"],
    &["mask"],
];

const LONGEST_FILE: usize = 700;

/// Features of burn that break the portable binary: `vulkan` and `metal` compile other shaders than WGSL, `cuda` needs its
/// toolkit, `autotune` measures on the person's time and makes results depend on it.
const UNWANTED_FEATURES: [&str; 4] = ["vulkan", "metal", "cuda", "autotune"];

fn level(room: &str) -> Option<usize> {
    LEVELS.iter().position(|rooms| rooms.contains(&room))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(ROOT).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files with this ending under a folder of the project, by their path from its root.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path.strip_prefix(ROOT).expect("below the root").to_owned());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} has no .{ending} files");
    found
}

/// The public modules that lib.rs names.
fn rooms() -> BTreeSet<String> {
    let module = Regex::new(r"(?m)^pub mod (\w+);").expect("a pattern");
    module.captures_iter(&read("src/lib.rs")).map(|found| found[1].to_owned()).collect()
}

/// Source text without comments and without what stands in quotes.
fn code(text: &str) -> String {
    let outside = Regex::new(r#"(?m)"(?:\\.|[^"\\])*"|//.*$"#).expect("a pattern");
    outside.replace_all(text, "").into_owned()
}

#[test]
fn imports_point_downward() {
    let path_of = Regex::new(r"\bcrate::(\w+|\{)").expect("a pattern");
    let mut wrong = Vec::new();
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files("src", "rs") {
        let mut parts = file.components().skip(1).map(|part| part.as_os_str().to_string_lossy().into_owned());
        let room = parts.next().expect("a file under src").trim_end_matches(".rs").to_owned();
        if room == "lib" || room == "main" {
            continue;
        }
        let Some(from) = level(&room) else {
            wrong.push(format!("{}: the room {room} has no level in this test", file.display()));
            continue;
        };
        for found in path_of.captures_iter(&code(&read(&file))) {
            let to = &found[1];
            let allowed = to == room || level(to).is_some_and(|to| to > from);
            if !allowed {
                wrong.push(format!("{}: {room} imports {to}", file.display()));
            }
            arrows.entry(room.clone()).or_default().insert(to.to_owned());
        }
    }
    assert!(wrong.is_empty(), "imports that do not point downward:\n{}", wrong.join("\n"));
    assert!(arrows.len() > 2, "hardly any import was found: {arrows:?}");
}

#[test]
fn every_room_says_what_it_owns() {
    for room in rooms() {
        let text = read(format!("src/{room}/mod.rs"));
        assert!(text.starts_with("//! "), "src/{room}/mod.rs does not open with what the room is");
    }
}

#[test]
fn the_map_names_every_room() {
    let rooms = rooms();
    let map: String = read("src/lib.rs").lines().filter(|line| line.starts_with("//!")).collect();
    let folders = fs::read_dir(Path::new(ROOT).join("src")).expect("src").flatten().filter(|entry| entry.path().is_dir());
    for folder in folders {
        let room = folder.file_name().to_string_lossy().into_owned();
        assert!(rooms.contains(&room), "lib.rs has no module {room}");
        assert!(map.contains(&format!("`{room}`")), "the map in lib.rs does not name {room}");
    }
}

#[test]
fn files_stay_short() {
    let all = ["src", "tests/suite", "tests/parity"].into_iter().flat_map(|folder| files(folder, "rs"));
    let long: Vec<_> = all
        .chain(files("shaders", "wgsl"))
        .map(|file| (read(&file).lines().count(), file))
        .filter(|(lines, _)| *lines > LONGEST_FILE)
        .collect();
    assert!(long.is_empty(), "longer than {LONGEST_FILE} lines: {long:?}");
}

#[test]
fn there_is_one_wgpu() {
    let lock = read("Cargo.lock");
    assert_eq!(lock.matches("name = \"wgpu\"\n").count(), 1, "burn, the window and this program must share one wgpu");
}

#[test]
fn burn_has_no_unportable_features() {
    let manifest = read("Cargo.toml");
    let burn = Regex::new(r"(?s)\nburn = \{.*?\]").expect("a pattern");
    let burn = burn.find(&manifest).expect("Cargo.toml depends on burn").as_str();
    assert!(burn.contains("default-features = false"), "burn's default features bring back ends of their own");
    for feature in UNWANTED_FEATURES {
        assert!(!burn.contains(&format!("\"{feature}\"")), "burn has the feature {feature}");
    }
}

#[test]
fn without_default_features_there_is_no_window() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--no-default-features", "-e", "normal", "--prefix", "none"])
        .arg("--manifest-path")
        .arg(Path::new(ROOT).join("Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8_lossy(&tree.stdout);
    assert!(tree.contains("burn v"), "this is no list of dependencies: {tree}");
    for package in ["egui", "eframe", "winit"] {
        assert!(
            !tree.lines().any(|line| line.starts_with(&format!("{package} "))),
            "{package} comes in without the feature `gui`"
        );
    }
}
