//! Where a step's self-attention looked: for every layer and head the share of it that each latent frame gave to each other.
//!
//! Self-attention falls into F x F tiles, query frame by key frame. A tile's *mass* is the softmax weight that the query
//! frame's rows put on the key frame, averaged over those rows; the softmax is that of dense attention, over all frames, also
//! where the layer's plan computes some tiles only. So a row of a map sums to 1, and what lies on skipped tiles is what the plan
//! leaves out.

mod colours;
mod file;
mod heatmap;
mod table;
mod tile_map;
mod values;

use std::sync::Arc;

use half::f16;
use serde::Serialize;

pub use crate::model::dit::Recording;
pub use colours::{Scale, viridis};
pub use heatmap::{Heatmap, draw};
pub use table::{TileRow, to_csv};
pub use tile_map::TileMap;

use crate::mask::{LayerMask, Layout, MaskPlan};
use values::{Halves, Values};

/// The attention of one step, which is one call of the transformer. Of a guided step it is the prompt's row of the batch, not
/// the negative prompt's.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionRecord {
    /// The call, counted from 0.
    pub call: usize,
    pub recording: Recording,
    plan: Arc<MaskPlan>,
    heads: usize,
    values: Values,
}

/// What the layer's plan does with a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TileState {
    /// Computed, and neither frame is a reference frame: the diagonal, or a painted tile.
    Computed,
    /// Computed because one of its frames is a reference frame of the layer.
    Reference,
    /// Left out of the sum; its mass was measured beside it.
    Skipped,
}

impl TileState {
    /// As tables and files name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Computed => "computed",
            Self::Reference => "reference",
            Self::Skipped => "skipped",
        }
    }
}

impl AttentionRecord {
    /// A record from its values, both `[layers, heads, query frames, key frames]`; they are kept as f16.
    ///
    /// # Panics
    /// The values are not as many as the plan's layers and frames ask for.
    pub fn new(
        call: usize,
        recording: Recording,
        plan: Arc<MaskPlan>,
        heads: usize,
        mass: &[f32],
        standard_error: &[f32],
    ) -> Self {
        let values = plan.layers().len() * heads * plan.frames() * plan.frames();
        assert!(heads > 0 && mass.len() == values && standard_error.len() == values, "one value a layer, head and tile");
        let halves = Halves { mass: values::rounded(mass), standard_error: values::rounded(standard_error) };
        Self { call, recording, plan, heads, values: Values::of_halves(halves) }
    }

    /// A record from what the networks measured: mass and standard error, `[layers, heads, query frames, key frames, 2]`, some
    /// layers a vector. It is cheap: values are brought into shape when they are first asked for.
    pub(super) fn of_masses(call: usize, recording: Recording, plan: Arc<MaskPlan>, masses: Vec<Vec<f32>>) -> Self {
        let frames = plan.frames();
        let heads = masses.iter().map(Vec::len).sum::<usize>() / (plan.layers().len() * 2 * frames * frames);
        Self { call, recording, plan, heads, values: Values::of_measurement(masses, frames) }
    }

    pub fn layers(&self) -> usize {
        self.plan.layers().len()
    }

    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Latent frames, F.
    pub fn frames(&self) -> usize {
        self.plan.frames()
    }

    /// The plan that the step obeyed.
    pub fn plan(&self) -> &MaskPlan {
        &self.plan
    }

    /// The mask of a layer and the rule behind it.
    ///
    /// # Panics
    /// There is no such layer, as in all that follow.
    pub fn layer(&self, layer: usize) -> &LayerMask {
        &self.plan.layers()[layer]
    }

    /// The mass of every tile of a layer, of one head or as the mean of all; each row sums to 1.
    pub fn mass(&self, layer: usize, head: Option<usize>) -> TileMap {
        self.map_of(&self.values.halves().mass, layer, head)
    }

    /// How far the mass of each tile may be off (one standard error); 0 where it was measured on all rows. That of the mean is
    /// an upper bound, because the heads share their sample.
    pub fn standard_error(&self, layer: usize, head: Option<usize>) -> TileMap {
        self.map_of(&self.values.halves().standard_error, layer, head)
    }

    /// What the plan does with a tile.
    pub fn state(&self, layer: usize, query_frame: usize, key_frame: usize) -> TileState {
        self.states(layer)[query_frame * self.frames() + key_frame]
    }

    /// What the plan does with each tile of a layer, row-major as its mass.
    pub fn states(&self, layer: usize) -> Vec<TileState> {
        let (layer, frames) = (self.layer(layer), self.frames());
        let mut is_reference = vec![false; frames];
        if *layer.layout() != Layout::Full {
            layer.reference_frames().into_iter().for_each(|frame| is_reference[frame] = true);
        }
        let state = |tile: usize| {
            let (query_frame, key_frame) = (tile / frames, tile % frames);
            match layer.mask().keeps(query_frame, key_frame) {
                false => TileState::Skipped,
                true if is_reference[query_frame] || is_reference[key_frame] => TileState::Reference,
                true => TileState::Computed,
            }
        };
        (0..frames * frames).map(state).collect()
    }

    /// The share of the mass that lies on tiles that the plan keeps, in (0, 1].
    pub fn kept_share(&self, layer: usize, head: Option<usize>) -> f32 {
        let mass = self.mass(layer, head);
        let mask = self.layer(layer).mask();
        let (mut kept, mut all) = (0.0, 0.0);
        for (values, keeps) in mass.rows().zip(mask.rows()) {
            all += values.iter().sum::<f32>();
            kept += values.iter().zip(keeps).filter(|(_, keeps)| **keeps).map(|(value, _)| value).sum::<f32>();
        }
        kept / all
    }

    /// The share of tiles that the layer computes, in (0, 1].
    pub fn density(&self, layer: usize) -> f32 {
        self.layer(layer).mask().density() as f32
    }

    fn map_of(&self, values: &[f16], layer: usize, head: Option<usize>) -> TileMap {
        let tiles = self.frames() * self.frames();
        let of_layer = &values[layer * self.heads * tiles..][..self.heads * tiles];
        let of_head = |head: usize| of_layer[head * tiles..][..tiles].iter().map(|value| value.to_f32());
        let values = match head {
            Some(head) => of_head(head).collect(),
            None => {
                let mut mean = vec![0.0; tiles];
                for head in 0..self.heads {
                    mean.iter_mut().zip(of_head(head)).for_each(|(sum, value)| *sum += value);
                }
                mean.iter_mut().for_each(|sum| *sum /= self.heads as f32);
                mean
            }
        };
        TileMap::new(self.frames(), values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::{FrameMask, LayerMask};

    /// Two layers (frame 0 is the reference; all tiles but one), two heads, two frames.
    fn record() -> AttentionRecord {
        let painted = LayerMask::painted(FrameMask::new(2, vec![true, true, false, true]).unwrap());
        let plan = MaskPlan::of_layers(vec![LayerMask::named("1:1", 2).unwrap(), painted]).unwrap();
        let mass = [
            [0.75, 0.25, 0.5, 0.5],
            [0.25, 0.75, 1.0, 0.0], // layer 0
            [0.5, 0.5, 0.25, 0.75],
            [1.0, 0.0, 0.75, 0.25], // layer 1
        ];
        let mut errors = [0.0; 16];
        errors[10..12].fill(0.125);
        errors[14..16].fill(0.375);
        AttentionRecord::new(3, Recording::Sampled, Arc::new(plan), 2, &mass.concat(), &errors)
    }

    #[test]
    fn maps_are_of_a_head_or_of_all() {
        let record = record();
        assert_eq!([record.layers(), record.heads(), record.frames()], [2, 2, 2]);
        assert_eq!(record.mass(0, Some(1)).values(), [0.25, 0.75, 1.0, 0.0]);
        assert_eq!(record.mass(0, None).values(), [0.5, 0.5, 0.75, 0.25]);
        assert_eq!(record.mass(1, Some(0)).at(1, 0), 0.25);
        assert_eq!(record.standard_error(1, None).values(), [0.0, 0.0, 0.25, 0.25]);
        for layer in 0..2 {
            for head in [None, Some(0), Some(1)] {
                assert!(record.mass(layer, head).rows().all(|row| row.iter().sum::<f32>() == 1.0));
            }
        }
    }

    #[test]
    fn what_the_plan_keeps() {
        let record = record();
        assert_eq!(record.state(0, 0, 0), TileState::Reference);
        assert_eq!(record.state(0, 1, 1), TileState::Computed);
        assert_eq!(
            [(0, 0), (0, 1), (1, 0)].map(|(q, k)| record.state(1, q, k)).map(TileState::name),
            ["computed", "computed", "skipped"]
        );
        assert_eq!(record.kept_share(0, None), 1.0);
        assert_eq!(record.kept_share(1, Some(0)), 1.75 / 2.0);
        assert_eq!(record.kept_share(1, None), (1.0 + 0.5) / 2.0);
        assert_eq!([record.density(0), record.density(1)], [1.0, 0.75]);
    }

    /// No frame of a dense layer stands out.
    #[test]
    fn a_full_layer_has_no_reference_frames() {
        let plan = Arc::new(MaskPlan::dense(1, 2).unwrap());
        let record = AttentionRecord::new(0, Recording::Exact, plan, 1, &[0.5; 4], &[0.0; 4]);
        assert_eq!(record.state(0, 1, 0), TileState::Computed);
    }
}
