//! Why a clip could not be made, in words for the person.

use std::path::PathBuf;

use super::recipe::{LARGEST_GUIDANCE, LONGEST_PROMPT_BYTES};
use crate::clip::ClipError;
use crate::gpu::device::DeviceError;
use crate::mask::MaskError;
use crate::model::folder::FolderError;
use crate::model::latent::SizeError;
use crate::model::sampler::SamplerError;
use crate::model::text::TextError;
use crate::model::weights::WeightError;

#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    #[error("The prompt is empty. Say what the clip should show, such as \"a shiny red ball bounces on the snow at sunset\".")]
    EmptyPrompt,
    #[error(
        "The {which} has {bytes} bytes. At most {LONGEST_PROMPT_BYTES} are accepted, and the model reads only its first {max_tokens} tokens: shorten it."
    )]
    LongPrompt { which: &'static str, bytes: usize, max_tokens: usize },
    #[error(transparent)]
    Size(#[from] SizeError),
    #[error(
        "The guidance scale is {scale}. Use a number from 0 to {LARGEST_GUIDANCE}; 1 means none, and most models want 2 to 8."
    )]
    Guidance { scale: f64 },
    #[error(
        "{frames_per_second} frames per second cannot be written. Use a whole number from 1 to 240; models were trained at 24."
    )]
    FrameRate { frames_per_second: u32 },
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    #[error(transparent)]
    Mask(#[from] MaskError),
    #[error("This is no recipe: {reason}. Take one from `tilereel show CLIP`, or a clip that holds one.")]
    NoRecipe { reason: String },
    #[error(
        "The recipe has format {format} and was written by {program}, which is newer than this program. Update Tilereel to use it."
    )]
    NewerRecipe { format: u64, program: String },
    #[error("{path} holds no recipe: it was made with --no-recipe, by another program, or a site has removed it.")]
    ClipWithoutRecipe { path: PathBuf },
    #[error(
        "The recipe wants the model {name} with the hash {wanted}.., but this {name} has {found}... Point --model or TILEREEL_MODELS at the other one."
    )]
    OtherModel { name: String, wanted: String, found: String },
    #[error("The recipe began from noise in a file, whose SHA-256 is {sha256}. Give that file with --noise.")]
    NoiseFileNeeded { sha256: String },
    #[error("The branch cannot be made: {reason}. Choose another step, or begin with a clip of its own.")]
    Branch { reason: String },
    #[error("The attention cannot be read: {reason}.")]
    Reading { reason: String },
    #[error("The noise file {path} does not fit: {reason}. It needs one tensor `noise` of the shape {expected:?}.")]
    Noise { path: PathBuf, reason: String, expected: Vec<usize> },
    #[error("{location} cannot be used: {reason}. This program runs the networks of Open-Sora-Plan v1.2.")]
    Unsupported { location: String, reason: String },
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Weights(#[from] WeightError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Clip(#[from] ClipError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(
        "The {part} gave values that are not numbers at step {step}. The device or its driver computes wrongly, or the weights are damaged: try `--precision f32` or `--device cpu`, and see `tilereel doctor`."
    )]
    NotFinite { part: &'static str, step: usize },
    #[error(
        "{device} computes wrongly: the kernel \"{kernel}\" failed its self-test ({reason}). Update its driver, try \
         `--precision f32`, or use `--device cpu`; `tilereel doctor` tests again and shows all tests."
    )]
    WrongKernel { device: String, kernel: String, reason: String },
    #[error(
        "The device failed while it {doing}: {reason}. Finished steps are kept; try again, with `--device cpu` if it happens twice."
    )]
    DeviceFailed { doing: &'static str, reason: String },
    #[error(
        "{name} cannot take a share of the work: {reason}. Leave it out of --device, or of the devices in the window's settings."
    )]
    NoShare { name: String, reason: String },
    #[error("{name} was lost {when} ({reason}). Finished steps are kept; try again, with `--device cpu` if it happens again.")]
    DeviceLost { name: String, when: &'static str, reason: String },
    #[error("The step record {path} cannot be used: {reason}. Start again without --resume.")]
    StepRecord { path: PathBuf, reason: String },
    #[error("The attention record {path} cannot be used: {reason}. Make the clip again to record it anew.")]
    AttentionRecord { path: PathBuf, reason: String },
    #[error(
        "The step record could not be written to {path}: {source}. Free some space or choose another folder; finished steps are kept."
    )]
    RecordNotWritten { path: PathBuf, source: std::io::Error },
    #[error("Stopped.")]
    Stopped,
}

impl GenerateError {
    /// Whether the person's own input is at fault, rather than a file or the device.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::EmptyPrompt
                | Self::LongPrompt { .. }
                | Self::Size(_)
                | Self::Guidance { .. }
                | Self::FrameRate { .. }
                | Self::Branch { .. }
                | Self::Reading { .. }
                | Self::Sampler(_)
                | Self::Mask(_)
                | Self::NoiseFileNeeded { .. }
                | Self::Device(DeviceError::EmptyChoice | DeviceError::NoSuchAdapter { .. } | DeviceError::NoHalfFloats { .. })
                | Self::Clip(ClipError::UnknownEnding { .. })
                | Self::Folder(FolderError::UnknownModel { .. })
        )
    }
}
