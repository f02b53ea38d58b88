//! The masks of a network for every length of clips that it learns from.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::mask::{KeyFrames, MaskError, MaskPlan};

/// One entry a layer, for each of some numbers of latent frames.
#[derive(Clone, Debug)]
pub struct Masks {
    by_latent_frames: BTreeMap<usize, Vec<Arc<KeyFrames>>>,
}

impl Masks {
    /// Of a plan, for its own number of latent frames.
    pub fn of_plan(plan: &MaskPlan) -> Self {
        Self { by_latent_frames: BTreeMap::from([(plan.frames(), key_frames(plan))]) }
    }

    /// Of a plan, for its own number of latent frames and for others, to which its rules apply anew as where clips are made
    /// ([`MaskPlan::adapted`]).
    ///
    /// # Errors
    /// A layer's mask follows no rule for another number.
    pub fn adapted(plan: &MaskPlan, latent_frames: &[usize]) -> Result<Self, MaskError> {
        let mut masks = Self::of_plan(plan);
        for &frames in latent_frames {
            masks.by_latent_frames.insert(frames, key_frames(&plan.adapted(frames)?));
        }
        Ok(masks)
    }

    /// # Panics
    /// The masks were not made for this number of latent frames.
    pub fn of(&self, latent_frames: usize) -> &[Arc<KeyFrames>] {
        self.by_latent_frames
            .get(&latent_frames)
            .unwrap_or_else(|| panic!("there are no masks for {latent_frames} latent frames"))
    }
}

/// The masks of a plan as the network takes them.
pub fn key_frames(plan: &MaskPlan) -> Vec<Arc<KeyFrames>> {
    plan.layers().iter().map(|layer| Arc::new(layer.mask().key_frames())).collect()
}
