//! `tilereel reset-settings`: the window as at its first start. Clips, queue and prompts stay.

use std::fs;
use std::io::ErrorKind;

use super::Status;
use crate::studio::words::count;
use crate::studio::{Database, Home, StudioError};

pub fn run() -> anyhow::Result<Status> {
    let home = Home::standard()?;
    let _lock = match home.lock() {
        Err(StudioError::AlreadyOpen { folder }) => {
            anyhow::bail!("Another Tilereel works on {}, and would write its settings again. Close it first.", folder.display())
        }
        lock => lock?,
    };
    let database = Database::open(&home.database())?;
    let removed = database.reset_preferences()?;
    let window = home.window_file();
    let had_window = match fs::remove_file(&window) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => anyhow::bail!("{} cannot be removed: {error}. Check that you may write there.", window.display()),
    };
    if removed.is_empty() && !had_window {
        say!("There are no stored settings in {}; nothing was removed.", home.folder().display());
        return Ok(Status::Done);
    }
    for name in &removed {
        say!("removed: {}", what(name));
    }
    if had_window {
        say!("removed: the place and size of the window, its theme, and what was opened in it");
    }
    let (clips, queue) = (database.clips(&Default::default())?.len(), database.items()?.len());
    say!("kept: {} in the library, {} in the queue, and the prompts that were used", count(clips, "clip"), count(queue, "item"));
    Ok(Status::Done)
}

/// A stored setting in words.
fn what(name: &str) -> String {
    match name {
        "draft" => "the settings of the next clip".into(),
        "layout" => "the places of the panels".into(),
        "player" => "how the player plays".into(),
        "window" => "level, size, motion, messages, keys and recent commands".into(),
        "model_folders" => "the list of opened model folders (the folders stay)".into(),
        other => other.into(),
    }
}
