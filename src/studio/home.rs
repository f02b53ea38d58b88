//! The studio's folder: the database, the clips, the runs that are not finished.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::{ClipId, ItemId, StudioError};
use crate::generate::data_folder;
use crate::generate::estimate::Speeds;

/// The name of a clip's frames in its folder: lossless, so that they are the very frames that were made.
pub(super) const CLIP_FILE: &str = "clip.webp";
pub(super) const THUMBNAIL_FILE: &str = "thumbnail.webp";
pub(super) const TIMINGS_FILE: &str = "timings.json";
pub(super) const STEPS_FOLDER: &str = "steps";

#[derive(Clone, Debug)]
pub struct Home {
    folder: PathBuf,
}

/// While it lives, no other process works on the queue of this home.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

impl Home {
    /// The user's own.
    ///
    /// # Errors
    /// The system names no home folder.
    pub fn standard() -> Result<Self, StudioError> {
        Ok(Self::in_folder(data_folder().ok_or(StudioError::NoHome)?))
    }

    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn database(&self) -> PathBuf {
        self.folder.join("studio.db")
    }

    /// Where the window's place, theme and open menus are kept.
    pub fn window_file(&self) -> PathBuf {
        self.folder.join("window.ron")
    }

    pub fn clips_folder(&self) -> PathBuf {
        self.folder.join("clips")
    }

    pub fn clip_folder(&self, clip: ClipId) -> PathBuf {
        self.clips_folder().join(clip.0.to_string())
    }

    pub fn clip_file(&self, clip: ClipId) -> PathBuf {
        self.clip_folder(clip).join(CLIP_FILE)
    }

    pub fn thumbnail_file(&self, clip: ClipId) -> PathBuf {
        self.clip_folder(clip).join(THUMBNAIL_FILE)
    }

    /// The records of a clip's steps.
    pub fn steps_folder(&self, clip: ClipId) -> PathBuf {
        self.clip_folder(clip).join(STEPS_FOLDER)
    }

    /// Where the time of making a clip went.
    pub fn timings_file(&self, clip: ClipId) -> PathBuf {
        self.clip_folder(clip).join(TIMINGS_FILE)
    }

    /// The records of an unfinished run's steps.
    pub fn run_folder(&self, item: ItemId) -> PathBuf {
        self.folder.join("runs").join(item.0.to_string())
    }

    /// Where mask plans are kept that the person painted.
    pub fn masks_folder(&self) -> PathBuf {
        self.folder.join("masks")
    }

    /// Where models are kept that the lab made.
    pub fn models_folder(&self) -> PathBuf {
        self.folder.join("models")
    }

    pub fn speeds(&self) -> Speeds {
        Speeds::in_folder(&self.folder)
    }

    /// Takes the queue for this process, until the lock is dropped or the process ends, however it ends.
    ///
    /// # Errors
    /// Another process has it, or the folder cannot be made.
    pub fn lock(&self) -> Result<HomeLock, StudioError> {
        self.make()?;
        let path = self.folder.join("studio.lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(StudioError::files("opened", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(HomeLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StudioError::AlreadyOpen { folder: self.folder.clone() }),
            Err(TryLockError::Error(error)) => Err(StudioError::files("locked", path)(error)),
        }
    }

    /// # Errors
    /// The folder cannot be made.
    pub fn make(&self) -> Result<(), StudioError> {
        std::fs::create_dir_all(&self.folder).map_err(StudioError::files("made", &self.folder))
    }
}
/// The name in a folder, or the first with a number behind it that nothing has.
pub fn first_free(folder: &Path, name: &str, ending: &str) -> PathBuf {
    let numbered = (2..).map(|number: usize| format!("{name}-{number}{ending}"));
    let mut paths = std::iter::once(format!("{name}{ending}")).chain(numbered).map(|name| folder.join(name));
    // The numbers do not end before a folder is full.
    paths.find(|path| !path.exists()).unwrap_or_else(|| folder.join(name))
}
