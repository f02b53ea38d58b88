//! A plan that is being painted: what can be done to its layers, and the way back. Plain data, without a window.

use crate::mask::{FrameMask, LayerMask, MaskError, MaskPlan};

const MOST_STEPS: usize = 200;

/// Layers, counted from 0, with masks to put in or that were taken out.
type Step = Vec<(usize, LayerMask)>;

/// Why a stroke is not done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("Latent frame {} must look at one frame at least: compute another tile of its row first.", frame + 1)]
    Blind { frame: usize },
    #[error("All frames are reference frames here. Begin with fewer, such as 0:{frames}, and add frames to them.")]
    AllReferences { frames: usize },
    #[error(transparent)]
    Mask(#[from] MaskError),
}

/// The plan with its history.
pub struct PaintedPlan {
    plan: MaskPlan,
    /// As it was opened or saved last.
    kept: MaskPlan,
    earlier: Vec<Step>,
    later: Vec<Step>,
    /// The layer that is painted on, as it was before the stroke.
    stroke: Option<(usize, LayerMask)>,
    revision: u64,
}

impl PaintedPlan {
    /// Begins with a plan. What its file notes of a search does not hold for another one, and is left out.
    ///
    /// # Errors
    /// Never for a plan that was checked.
    pub fn new(plan: &MaskPlan) -> Result<Self, MaskError> {
        let plan = MaskPlan::of_layers(plan.layers().to_vec())?;
        Ok(Self { kept: plan.clone(), plan, earlier: Vec::new(), later: Vec::new(), stroke: None, revision: 0 })
    }

    pub fn plan(&self) -> &MaskPlan {
        &self.plan
    }

    /// Grows with every change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn is_changed(&self) -> bool {
        self.plan != self.kept
    }

    pub fn can_undo(&self) -> bool {
        !self.earlier.is_empty()
    }

    pub fn can_redo(&self) -> bool {
        !self.later.is_empty()
    }

    fn mask(&self, layer: usize) -> &FrameMask {
        self.plan.layers()[layer].mask()
    }

    /// Whether a frame sees all frames and is seen by all, in a layer.
    pub fn is_reference(&self, layer: usize, frame: usize) -> bool {
        let mask = self.mask(layer);
        (0..mask.frames()).all(|other| mask.keeps(frame, other) && mask.keeps(other, frame))
    }

    /// What follows until [`Self::end_stroke`] is one step back.
    pub fn begin_stroke(&mut self, layer: usize) {
        self.end_stroke();
        self.stroke = Some((layer, self.plan.layers()[layer].clone()));
    }

    pub fn end_stroke(&mut self) {
        if let Some((layer, before)) = self.stroke.take()
            && before != self.plan.layers()[layer]
        {
            self.remember(vec![(layer, before)]);
        }
    }

    /// Has a tile of a layer computed or skipped.
    ///
    /// # Errors
    /// The query frame would see no frame at all; nothing is changed then.
    pub fn set_tile(&mut self, layer: usize, query: usize, key: usize, kept: bool) -> Result<(), Refusal> {
        let frames = self.plan.frames();
        let mut tiles = self.tiles(layer);
        tiles[query * frames + key] = kept;
        self.set_tiles(layer, tiles)
    }

    /// Makes a frame of a layer a reference frame, or one like the others, which then sees itself and the reference frames.
    ///
    /// # Errors
    /// All frames are reference frames, so that this one cannot be told from the others.
    pub fn toggle_reference(&mut self, layer: usize, frame: usize) -> Result<(), Refusal> {
        let frames = self.plan.frames();
        let was_reference = self.is_reference(layer, frame);
        if was_reference && self.mask(layer).is_full() {
            return Err(Refusal::AllReferences { frames });
        }
        let mut tiles = self.tiles(layer);
        for other in 0..frames {
            let kept = !was_reference || other == frame || self.is_reference(layer, other);
            tiles[frame * frames + other] = kept;
            tiles[other * frames + frame] = kept;
        }
        self.set_tiles(layer, tiles)
    }

    /// Gives layers other masks, as one step.
    ///
    /// # Errors
    /// A mask is for another number of frames.
    pub fn set_layers(&mut self, masks: Vec<(usize, LayerMask)>) -> Result<(), MaskError> {
        self.end_stroke();
        let before = self.put(masks)?;
        if !before.is_empty() {
            self.remember(before);
        }
        Ok(())
    }

    /// # Errors
    /// Never for steps that were remembered.
    pub fn undo(&mut self) -> Result<(), MaskError> {
        self.end_stroke();
        if let Some(step) = self.earlier.pop() {
            let after = self.put(step)?;
            self.later.push(after);
        }
        Ok(())
    }

    /// # Errors
    /// Never for steps that were remembered.
    pub fn redo(&mut self) -> Result<(), MaskError> {
        self.end_stroke();
        if let Some(step) = self.later.pop() {
            let before = self.put(step)?;
            self.earlier.push(before);
        }
        Ok(())
    }

    fn tiles(&self, layer: usize) -> Vec<bool> {
        self.mask(layer).rows().flatten().copied().collect()
    }

    fn set_tiles(&mut self, layer: usize, tiles: Vec<bool>) -> Result<(), Refusal> {
        let mask = FrameMask::new(self.plan.frames(), tiles).map_err(|error| match error {
            MaskError::BlindFrame(frame) => Refusal::Blind { frame },
            other => Refusal::Mask(other),
        })?;
        if mask == *self.mask(layer) {
            return Ok(());
        }
        let before = self.put(vec![(layer, LayerMask::recognised(mask))])?;
        if self.stroke.is_none() {
            self.remember(before);
        }
        Ok(())
    }

    /// Puts masks in, and gives those that were there; what would not change is left out.
    fn put(&mut self, masks: Step) -> Result<Step, MaskError> {
        let mut layers = self.plan.layers().to_vec();
        let masks = masks.into_iter().filter(|(layer, mask)| *mask != self.plan.layers()[*layer]);
        let before: Step = masks.map(|(layer, mask)| (layer, std::mem::replace(&mut layers[layer], mask))).collect();
        if !before.is_empty() {
            self.plan = MaskPlan::of_layers(layers)?;
            self.revision += 1;
        }
        Ok(before)
    }

    fn remember(&mut self, before: Step) {
        self.earlier.push(before);
        if self.earlier.len() > MOST_STEPS {
            self.earlier.remove(0);
        }
        self.later.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painted(names: &[&str]) -> PaintedPlan {
        let layers = names.iter().map(|name| LayerMask::named(name, 8).unwrap()).collect();
        PaintedPlan::new(&MaskPlan::of_layers(layers).unwrap()).unwrap()
    }

    fn names(painted: &PaintedPlan) -> Vec<String> {
        painted.plan().layers().iter().map(LayerMask::name).collect()
    }

    #[test]
    fn a_stroke_is_one_step_back_and_forth() {
        let mut painted = painted(&["full", "2:6"]);
        painted.begin_stroke(1);
        for key in [1, 2, 3] {
            painted.set_tile(1, 5, key, true).unwrap();
        }
        painted.end_stroke();
        painted.set_tile(0, 0, 7, false).unwrap();
        assert_eq!((names(&painted), painted.plan().kept_tiles()), (vec!["painted".into(), "painted".into()], 63 + 34 + 3));
        painted.undo().unwrap();
        painted.undo().unwrap();
        assert_eq!(
            (names(&painted), painted.can_undo(), painted.is_changed()),
            (vec!["full".into(), "2:6".into()], false, false)
        );
        painted.redo().unwrap();
        assert_eq!((names(&painted), painted.can_redo()), (vec!["full".into(), "painted".into()], true));
        // A stroke back over its own tiles is none.
        painted.begin_stroke(0);
        painted.set_tile(0, 0, 7, false).unwrap();
        painted.set_tile(0, 0, 7, true).unwrap();
        painted.end_stroke();
        assert!(painted.can_redo());
        // Another change ends the way forward.
        painted.set_tile(0, 0, 7, false).unwrap();
        assert!(!painted.can_redo());
    }

    #[test]
    fn reference_frames_come_and_go_with_their_row_and_column() {
        let mut painted = painted(&["0:8"]);
        for frame in [4, 0] {
            painted.toggle_reference(0, frame).unwrap();
        }
        assert_eq!(painted.plan(), &MaskPlan::uniform(1, 8, "2:6").unwrap(), "the paper's rule is found behind the tiles");
        painted.toggle_reference(0, 4).unwrap();
        assert_eq!(painted.plan(), &MaskPlan::uniform(1, 8, "1:7").unwrap());
        assert!(painted.is_reference(0, 0) && !painted.is_reference(0, 4));
        painted.set_layers(vec![(0, LayerMask::full(8).unwrap())]).unwrap();
        assert!(matches!(painted.toggle_reference(0, 3), Err(Refusal::AllReferences { frames: 8 })));
    }

    #[test]
    fn no_frame_is_left_blind() {
        let mut painted = painted(&["0:8"]);
        let refusal = painted.set_tile(0, 3, 3, false).unwrap_err();
        assert!(refusal.to_string().starts_with("Latent frame 4 must look at one frame"), "{refusal}");
        assert!(!painted.is_changed() && !painted.can_undo());
        painted.set_tile(0, 3, 0, true).unwrap();
        painted.set_tile(0, 3, 3, false).unwrap();
        assert!(!painted.plan().layers()[0].mask().keeps(3, 3));
    }

    #[test]
    fn layers_that_stay_as_they_are_make_no_step() {
        let mut painted = painted(&["2:6", "full", "2:6"]);
        let two = LayerMask::named("2:6", 8).unwrap();
        painted.set_layers(vec![(0, two.clone()), (2, two.clone())]).unwrap();
        assert!(!painted.can_undo());
        painted.set_layers((0..3).map(|layer| (layer, two.clone())).collect()).unwrap();
        assert_eq!(names(&painted), ["2:6"; 3]);
        painted.undo().unwrap();
        assert_eq!(names(&painted), ["2:6", "full", "2:6"]);
    }
}
