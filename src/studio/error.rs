//! Why the studio could not do what was asked.

use std::path::PathBuf;

use super::EngineError;
use crate::clip::ClipError;
use crate::generate::GenerateError;

#[derive(Debug, thiserror::Error)]
pub enum StudioError {
    #[error("There is no folder for the library: the system names no home. Set TILEREEL_DATA to a folder of your own.")]
    NoHome,
    #[error("{path} cannot be {doing}: {source}. Check that you may write there and that the disk has space.")]
    Files { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("The library {path} cannot be used: {reason}. Put the file aside to begin a new one; the clips beside it stay.")]
    Database { path: PathBuf, reason: String },
    #[error("The library {path} was written by a newer Tilereel. Update this one, or set TILEREEL_DATA to another folder.")]
    NewerDatabase { path: PathBuf },
    #[error("Another Tilereel works on {folder}. Use its window, or set TILEREEL_DATA to another folder for this one.")]
    AlreadyOpen { folder: PathBuf },
    #[error("No device is ready to run a model. Look at the status bar, or choose another one.")]
    NoDevice,
    #[error("The model {name} is still being opened. Try again in a moment.")]
    ModelIsOpening { name: String },
    #[error("The model cannot be used: {reason}")]
    ModelUnusable { reason: String },
    #[error("The library has no clip {id}. `tilereel library list` shows those that it has.")]
    NoSuchClip { id: i64 },
    #[error("The queue has no item {id}. `tilereel queue list` shows those that it has.")]
    NoSuchItem { id: i64 },
    #[error("Item {id} of the queue is running now. Stop it first.")]
    ItemRuns { id: i64 },
    #[error("Step {step} of this clip is not kept. Choose one of those that are, or make the clip again.")]
    NoSuchStep { step: usize },
    #[error(
        "The attention of step {step} was not recorded. Make the clip again with recording on: `tilereel generate --recipe CLIP --attention sampled`."
    )]
    NoAttention { step: usize },
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Clip(#[from] ClipError),
    /// What the lab cannot do now.
    #[error("{0}")]
    Lab(String),
    #[error("The lab works on the device. Pause it first, or wait for its end.")]
    LabWorks,
    #[error("The system gives no thread: {0}. Close other programs and try again.")]
    NoThread(std::io::Error),
}

impl StudioError {
    pub(super) fn files(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Files { doing, path, source }
    }
}
