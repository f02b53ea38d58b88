//! What can go wrong in a training, in words for the person who started it.

use std::path::PathBuf;

use crate::clip::ClipError;
use crate::mask::MaskError;
use crate::model::folder::FolderError;
use crate::model::text::TextError;
use crate::model::weights::{WeightError, WriteError};

/// Why a training ended early, or did not begin. The last good checkpoint is on the disk whenever one was written.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(
        "The training diverged before step {step}: {what} is not a number any more. The checkpoint of an earlier step is kept; go on from it with a smaller learning rate (--learning-rate, --muon-learning-rate)"
    )]
    Diverged { step: u64, what: String },
    #[error("The device failed in step {step}: {reason}. If it has too little memory, use a smaller --batch or --part")]
    DeviceFailed { step: u64, reason: String },
    #[error(
        "{device} computes wrongly what a training needs, in the kernel \"{kernel}\": {reason}. Train with TILEREEL_KERNEL_TIER=plain or with --device cpu, and report this with the output of `tilereel doctor`"
    )]
    WrongKernel { device: String, kernel: String, reason: String },
    #[error("The checkpoint {} cannot be used: {reason}", path.display())]
    Checkpoint { path: PathBuf, reason: String },
    #[error("There is no checkpoint in {}. Leave --resume away to begin anew", path.display())]
    NoCheckpoint { path: PathBuf },
    #[error("There is a training in {} already, at step {step}. Go on with --resume, or choose another --out", path.display())]
    Occupied { path: PathBuf, step: u64 },
    #[error("The student would take the place of its teacher {}. Choose another --out", path.display())]
    TeachersPlace { path: PathBuf },
    #[error(
        "No plan keeps that limit: the sparsest computes {:.1} % of the tiles, and the fastest attention takes {least_millis:.3} ms a call here",
        100.0 * least_share
    )]
    NoPlan { least_share: f64, least_millis: f64 },
    #[error("The latents {} cannot be used: {reason}. Remove the file to have them made again", path.display())]
    Latents { path: PathBuf, reason: String },
    #[error("Cannot read {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("The model {location} cannot be trained: {reason}")]
    Unsupported { location: String, reason: String },
    #[error("{0}")]
    Settings(String),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Weights(#[from] WeightError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Clip(#[from] ClipError),
    #[error(transparent)]
    Mask(#[from] MaskError),
}

impl TrainError {
    /// Whether the person's own input is at fault, rather than a file or the device.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::TeachersPlace { .. } | Self::NoPlan { .. } | Self::Settings(_))
    }
}
