//! What stands in the player: a clip of the library, or the run that goes on; and how it becomes the player's source.

use super::player::source::{Source, Step};
use crate::studio::{ClipEntry, Live, Picture, Studio};

/// What is shown.
#[derive(Clone, Debug, Default)]
pub enum Stage {
    #[default]
    Empty,
    Clip(Box<StagedClip>),
    /// The run that goes on, whichever it is.
    Live,
    /// Two clips in step.
    Compare(Box<Comparing>),
}

#[derive(Clone, Debug)]
pub struct StagedClip {
    pub entry: ClipEntry,
    /// How many of its steps are kept.
    pub steps: usize,
    pub calls: usize,
}

#[derive(Clone, Debug)]
pub struct Comparing {
    pub a: StagedClip,
    pub b: StagedClip,
}

impl Stage {
    /// The clip on show; of two, the first.
    pub fn clip(&self) -> Option<&StagedClip> {
        match self {
            Self::Clip(clip) => Some(clip),
            Self::Compare(pair) => Some(&pair.a),
            Self::Empty | Self::Live => None,
        }
    }

    pub fn comparing(&self) -> Option<&Comparing> {
        match self {
            Self::Compare(pair) => Some(pair),
            Self::Empty | Self::Live | Self::Clip(_) => None,
        }
    }
}

/// A clip of the library. All pictures that the player may want are asked for at once: the shelf keeps them apart from those
/// that nobody looks at.
pub fn source_of_clip(studio: &Studio, staged: &StagedClip) -> Source {
    let StagedClip { entry, steps, calls } = staged;
    let recipe = &entry.recipe;
    let step = |step: usize| Step {
        projection: studio.picture(Picture::Projection(entry.id, step)).frames(),
        decoded: studio.picture(Picture::Decoded(entry.id, step)).frames(),
    };
    Source {
        // Even, so that no run has the same.
        id: entry.id.0 as u64 * 2,
        width: recipe.width,
        height: recipe.height,
        frames: recipe.frames,
        frames_per_second: f64::from(recipe.frames_per_second),
        calls: *calls,
        steps: (1..=*steps).map(step).collect(),
        complete: true,
        finished: studio.picture(Picture::Frames(entry.id)).frames(),
        generating: false,
    }
}

/// The run that goes on.
pub fn source_of_live(live: &Live) -> Source {
    let recipe = &live.recipe;
    let step = |call: usize| Step {
        projection: live.projections.get(call).cloned().flatten(),
        decoded: live.decoded.get(&call).cloned(),
    };
    Source {
        id: live.item.0 as u64 * 2 + 1,
        width: recipe.width,
        height: recipe.height,
        frames: recipe.frames,
        frames_per_second: f64::from(recipe.frames_per_second),
        calls: live.calls,
        steps: (0..live.calls_done).map(step).collect(),
        complete: false,
        finished: None,
        generating: true,
    }
}
