//! Why something could not be evaluated.

use std::path::PathBuf;

use crate::clip::ClipError;
use crate::mask::MaskError;
use crate::model::folder::FolderError;
use crate::model::sampling::SamplingError;
use crate::model::text::TextError;
use crate::model::weights::{WeightError, WriteError};

#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    #[error("There is no judge in {}: {reason}. Make one with `tilereel train judge`, and name its folder with --judge", path.display())]
    NoJudge { path: PathBuf, reason: String },
    #[error("The judge in {} does not fit: {reason}", path.display())]
    Judge { path: PathBuf, reason: String },
    #[error("The model {location} cannot be evaluated: {reason}")]
    Model { location: String, reason: String },
    #[error("Cannot use what was kept in {}: {reason}. Remove the file, and its clips are made again", path.display())]
    Kept { path: PathBuf, reason: String },
    #[error("The device failed: {0}. If it has too little memory, use a smaller --batch")]
    Device(String),
    #[error("stopped")]
    Stopped,
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    #[error(transparent)]
    Mask(#[from] MaskError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Weights(#[from] WeightError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Clip(#[from] ClipError),
}
