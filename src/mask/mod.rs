//! Which frame sees which: the attention tiles of Efficient-vDiT as plain integers, without tensors.
//!
//! Self-attention over a video falls into tiles, one a pair of latent frames (query frame, key frame). A [`FrameMask`]
//! says for one layer which tiles are computed; a [`MaskFamily`] (a few reference frames that every frame sees) or
//! [`Neighbours`] (the frames around each) is the rule behind it, valid for any number of frames; a [`MaskPlan`] holds one
//! mask a layer and is what a search finds, a file stores and a kernel obeys. This room owns them all, their files, and the
//! numbers that follow from a mask alone: densities, block sparsities and FLOPs.

mod family;
mod frame_mask;
mod neighbours;
pub mod paper;
mod plan;
mod plan_file;
mod sparsity;

pub use family::{MaskFamily, Mode, Placement};
pub use frame_mask::{FrameMask, KeyFrames};
pub use neighbours::Neighbours;
pub use plan::{LayerMask, Layout, MOST_RANGES, MaskPlan};
pub use sparsity::Blocks;

use std::io;
use std::path::PathBuf;

/// Most latent frames of a mask: 85 seconds of video. A hostile file must not ask for memory without end.
pub const MOST_FRAMES: usize = 512;
/// Most layers of a plan, eight times those of the published model.
pub const MOST_LAYERS: usize = 256;

/// What can be wrong with a mask, a plan or its file.
#[derive(Debug, thiserror::Error)]
pub enum MaskError {
    #[error("a mask covers 1 to {MOST_FRAMES} latent frames, not {0}")]
    Frames(usize),
    #[error("a plan has 1 to {MOST_LAYERS} layers, not {0}")]
    Layers(usize),
    #[error("a plan has masks for 1 to {MOST_RANGES} ranges of steps, not {0}")]
    Ranges(usize),
    #[error("a range of steps cannot begin at {from}: they begin one after the other, the first at 0, all before 1")]
    RangeStart { from: f64 },
    #[error("range {range} of its steps: {source}")]
    InRange { range: usize, source: Box<MaskError> },
    #[error("the plan has other masks for later steps, and this needs one that holds for all steps")]
    ForSomeSteps,
    #[error("reference frame {frame} does not exist: the {frames} latent frames are numbered from 0")]
    ReferenceOutOfRange { frame: usize, frames: usize },
    #[error("reference frame {0} is listed twice")]
    ReferenceTwice(usize),
    #[error("a mask over {frames} latent frames has {frames} x {frames} entries, not {entries}")]
    MatrixSize { frames: usize, entries: usize },
    #[error("query frame {0} sees no frame at all; keep at least its own")]
    BlindFrame(usize),
    #[error(
        "{0:?} is no mask name; write K:N with K reference frames and N others (such as 2:6), near:D for frames that see those at a \
         distance of up to D (such as near:1), or full"
    )]
    Name(String),
    #[error("{name} is a mask for {named} latent frames, but there are {frames}; write K:N with K + N = {frames}")]
    NameFrames { name: String, named: usize, frames: usize },
    #[error(
        "{name} does not exist: evenly spaced over {frames} latent frames there is room for {fitting} reference frames; \
         write {fitting}:{others}", others = frames - fitting
    )]
    NoRoom { name: String, frames: usize, fitting: usize },
    #[error("layer {layer}: {source}")]
    InLayer { layer: usize, source: Box<MaskError> },
    #[error("the mask covers {frames} latent frames, those before it {others}")]
    UnlikeOthers { frames: usize, others: usize },
    #[error("the plan has {plan} layers and the model {model}; it was made for another model")]
    LayerCount { plan: usize, model: usize },
    #[error("the plan covers {plan} latent frames and the video has {video}; adapt the plan or choose another length")]
    FrameCount { plan: usize, video: usize },
    #[error(
        "its mask is painted (or its reference frames are hand-picked) for {0} latent frames and follows no rule for another number"
    )]
    NotAdaptable(usize),
    #[error("this is no mask plan: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Contradiction(String),
    #[error("cannot {doing} the mask plan {}: {source}", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    InFile { path: PathBuf, source: Box<MaskError> },
}
