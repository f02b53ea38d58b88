//! Places that take no file: absent folders, full disks, read-only ones.

use std::fs;

use super::{SMALL, Workplace};

#[test]
fn places_that_cannot_be_are_found_before_the_work() {
    let place = Workplace::new();
    place.write("file", "");
    fs::create_dir(place.path("folder.mp4")).expect("a folder");
    for (flags, words) in [
        (["--out", "absent/clip.mp4"], ["The folder absent does not exist", "--out"]),
        (["--out", "file/clip.mp4"], ["The folder file does not exist", "--out"]),
        (["--out", "folder.mp4"], ["folder.mp4 is a folder", "--out"]),
        (["--save-latent", "absent/latent.safetensors"], ["The folder absent does not exist", "--save-latent"]),
    ] {
        place.refuses(&[&SMALL[..], &["x"], &flags].concat(), 1, &words);
    }
}

#[test]
fn folders_may_have_any_names() {
    let place = Workplace::new();
    for folder in ["with space", "雪 ünï", "-dash", "dot.steps", "quote's"] {
        fs::create_dir(place.path(folder)).expect("a folder");
        let clip = format!("./{folder}/ein Ball – 1.mp4");
        place.generate(&["a red ball", "--steps", "1", "--out", &clip]).succeeds();
        place.run(&["show", &clip]).succeeds().says(&["a red ball"]);
    }
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_said_and_nothing_is_left() {
    use std::os::unix::fs::PermissionsExt;

    let place = Workplace::new();
    let folder = place.path("shut");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).expect("permissions");
    if fs::write(folder.join("probe"), "").is_ok() {
        println!("skipped: this user may write everywhere; see the mounted folders for the same check");
        return;
    }
    place.refuses(
        &[&SMALL[..], &["x", "--out", "shut/clip.mp4"]].concat(),
        1,
        &["could not be written to shut/", "permission denied", "another folder"],
    );
}

#[cfg(target_os = "linux")]
mod mounted {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    /// A small disk in memory, until it is dropped.
    struct Disk {
        folder: PathBuf,
    }

    impl Disk {
        /// None, with a word why, where only the administrator may mount; on a build server that is a failure.
        fn mount(folder: &Path, options: &str) -> Option<Self> {
            fs::create_dir(folder).expect("a folder");
            let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder).output();
            if mounted.is_ok_and(|output| output.status.success()) {
                return Some(Self { folder: folder.to_owned() });
            }
            let user = Command::new("id").arg("-u").output().map(|output| output.stdout).unwrap_or_default();
            assert!(std::env::var_os("CI").is_none() || user != b"0\n", "the administrator of a build server can mount a disk");
            println!("skipped: no disk can be mounted here");
            None
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(&self.folder).status();
        }
    }

    #[test]
    fn a_full_disk_is_said_and_no_half_file_is_left() {
        let place = Workplace::new();
        let Some(_tiny) = Disk::mount(&place.path("tiny"), "size=4k") else { return };
        let generate = |out: &'static str| [&SMALL[..], &["x", "--quiet", "--out", out]].concat();
        place.refuses(
            &generate("tiny/clip.mp4"),
            1,
            &["could not be written to tiny/clip.mp4.steps", "storage space", "Free some space"],
        );

        // Room for the records of two steps, but not for the clip of 20 kB.
        let Some(_small) = Disk::mount(&place.path("small"), "size=28k") else { return };
        let ran = place.run(&generate("small/clip.apng")).complains(1, &["The disk that holds small is full", "free some space"]);
        let words = "note: the sampled steps are kept; the clip can still be written with: tilereel generate --resume small/clip.apng.steps";
        assert!(ran.stderr.contains(words), "{ran:?}");
        let left: Vec<_> =
            fs::read_dir(place.path("small")).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(left, ["clip.apng.steps"]);
        let resume = ["generate", "--device", "cpu", "--resume", "small/clip.apng.steps", "--out", "elsewhere.apng"];
        place.run(&resume).succeeds();
        place.run(&generate("undisturbed.apng")).succeeds();
        assert!(place.read("elsewhere.apng") == place.read("undisturbed.apng"));
    }

    #[test]
    fn a_read_only_disk_is_said() {
        let place = Workplace::new();
        let Some(_disk) = Disk::mount(&place.path("shut"), "ro") else { return };
        let words = ["could not be written to shut/clip.mp4.steps", "read-only", "another folder"];
        place.refuses(&[&SMALL[..], &["x", "--out", "shut/clip.mp4"]].concat(), 1, &words);
    }
}
