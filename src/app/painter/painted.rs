//! A plan that is being painted: what can be done to its layers, and the way back. Plain data, without a window.

use std::ops::Range;

use crate::mask::{FrameMask, LayerMask, MOST_RANGES, MaskError, MaskPlan};

const MOST_STEPS: usize = 200;

/// The ranges of steps, and the one that is painted.
#[derive(Clone, PartialEq)]
struct Picture {
    /// Where each begins, as a share of the steps, and its masks.
    ranges: Vec<(f64, MaskPlan)>,
    shown: usize,
}

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
    now: Picture,
    whole: MaskPlan,
    /// As it was opened.
    kept: MaskPlan,
    earlier: Vec<Picture>,
    later: Vec<Picture>,
    /// As it was before the stroke.
    stroke: Option<Picture>,
    revision: u64,
}

impl PaintedPlan {
    /// Begins with a plan. What its file notes of a search does not hold for another one, and is left out.
    ///
    /// # Errors
    /// Never for a plan that was checked.
    pub fn new(plan: &MaskPlan) -> Result<Self, MaskError> {
        let ranges: Vec<(f64, MaskPlan)> =
            plan.ranges().enumerate().map(|(range, (from, _))| (from, plan.of_range(range))).collect();
        let whole = MaskPlan::of_ranges(ranges.clone())?;
        Ok(Self {
            now: Picture { ranges, shown: 0 },
            kept: whole.clone(),
            whole,
            earlier: Vec::new(),
            later: Vec::new(),
            stroke: None,
            revision: 0,
        })
    }

    /// The masks of the range that is painted.
    pub fn plan(&self) -> &MaskPlan {
        &self.now.ranges[self.now.shown].1
    }

    /// All ranges.
    pub fn whole(&self) -> &MaskPlan {
        &self.whole
    }

    /// The number of the range that is painted.
    pub fn shown(&self) -> usize {
        self.now.shown
    }

    /// Paints another range.
    pub fn show(&mut self, range: usize) {
        self.end_stroke();
        let range = range.min(self.now.ranges.len() - 1);
        if range != self.now.shown {
            self.now.shown = range;
            self.revision += 1;
        }
    }

    /// The calls, of so many, that a range holds for.
    pub fn calls_of(&self, range: usize, calls: usize) -> Range<usize> {
        let at = |place: usize| self.now.ranges.get(place).map_or(calls, |(from, _)| MaskPlan::first_call(*from, calls));
        at(range)..at(range + 1).max(at(range))
    }

    /// Whether the shown range can be split, of so many calls.
    pub fn can_split(&self, calls: usize) -> bool {
        self.calls_of(self.now.shown, calls).len() >= 2 && self.now.ranges.len() < MOST_RANGES
    }

    /// Splits the shown range in its middle; both halves begin with its masks, and the later one is shown.
    ///
    /// # Errors
    /// Never for a range that can be split.
    pub fn split(&mut self, calls: usize) -> Result<(), MaskError> {
        if !self.can_split(calls) {
            return Ok(());
        }
        let range = self.calls_of(self.now.shown, calls);
        let middle = (range.start + range.end) as f64 / 2.0;
        let mut next = self.now.clone();
        let masks = self.plan().clone();
        next.shown += 1;
        next.ranges.insert(next.shown, (middle.floor() / calls as f64, masks));
        self.change(next)
    }

    /// Gives the steps of the shown range to its neighbour: the one before it, or the next if it is the first.
    ///
    /// # Errors
    /// Never.
    pub fn join(&mut self) -> Result<(), MaskError> {
        if self.now.ranges.len() < 2 {
            return Ok(());
        }
        let mut next = self.now.clone();
        next.ranges.remove(next.shown);
        next.ranges[0].0 = 0.0;
        next.shown = next.shown.saturating_sub(1);
        self.change(next)
    }

    /// Has the shown range, which is not the first, begin with another call of so many; as far as its neighbours let it.
    ///
    /// # Errors
    /// Never.
    pub fn begin_at(&mut self, call: usize, calls: usize) -> Result<(), MaskError> {
        let shown = self.now.shown;
        if shown == 0 {
            return Ok(());
        }
        let (least, most) = (self.calls_of(shown - 1, calls).start + 1, self.calls_of(shown, calls).end.saturating_sub(1));
        let mut next = self.now.clone();
        next.ranges[shown].0 = call.clamp(least, most.max(least)) as f64 / calls as f64;
        self.change(next)
    }

    /// Grows with every change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn is_changed(&self) -> bool {
        self.whole != self.kept
    }

    pub fn can_undo(&self) -> bool {
        !self.earlier.is_empty()
    }

    pub fn can_redo(&self) -> bool {
        !self.later.is_empty()
    }

    fn mask(&self, layer: usize) -> &FrameMask {
        self.plan().layers()[layer].mask()
    }

    /// Whether a frame sees all frames and is seen by all, in a layer.
    pub fn is_reference(&self, layer: usize, frame: usize) -> bool {
        let mask = self.mask(layer);
        (0..mask.frames()).all(|other| mask.keeps(frame, other) && mask.keeps(other, frame))
    }

    /// What follows until [`Self::end_stroke`] is one step back.
    pub fn begin_stroke(&mut self) {
        self.end_stroke();
        self.stroke = Some(self.now.clone());
    }

    pub fn end_stroke(&mut self) {
        if let Some(before) = self.stroke.take()
            && before != self.now
        {
            self.remember(before);
        }
    }

    /// Has a tile of a layer computed or skipped.
    ///
    /// # Errors
    /// The query frame would see no frame at all; nothing is changed then.
    pub fn set_tile(&mut self, layer: usize, query: usize, key: usize, kept: bool) -> Result<(), Refusal> {
        let frames = self.plan().frames();
        let mut tiles = self.tiles(layer);
        tiles[query * frames + key] = kept;
        self.set_tiles(layer, tiles)
    }

    /// Makes a frame of a layer a reference frame, or one like the others, which then sees itself and the reference frames.
    ///
    /// # Errors
    /// All frames are reference frames, so that this one cannot be told from the others.
    pub fn toggle_reference(&mut self, layer: usize, frame: usize) -> Result<(), Refusal> {
        let frames = self.plan().frames();
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
        let next = self.with_layers(masks)?;
        self.change(next)
    }

    /// # Errors
    /// Never for steps that were remembered.
    pub fn undo(&mut self) -> Result<(), MaskError> {
        self.end_stroke();
        if let Some(before) = self.earlier.pop() {
            let after = self.put(before)?;
            self.later.push(after);
        }
        Ok(())
    }

    /// # Errors
    /// Never for steps that were remembered.
    pub fn redo(&mut self) -> Result<(), MaskError> {
        self.end_stroke();
        if let Some(after) = self.later.pop() {
            let before = self.put(after)?;
            self.earlier.push(before);
        }
        Ok(())
    }

    fn tiles(&self, layer: usize) -> Vec<bool> {
        self.mask(layer).rows().flatten().copied().collect()
    }

    fn set_tiles(&mut self, layer: usize, tiles: Vec<bool>) -> Result<(), Refusal> {
        let mask = FrameMask::new(self.plan().frames(), tiles).map_err(|error| match error {
            MaskError::BlindFrame(frame) => Refusal::Blind { frame },
            other => Refusal::Mask(other),
        })?;
        if mask == *self.mask(layer) {
            return Ok(());
        }
        let next = self.with_layers(vec![(layer, LayerMask::recognised(mask))])?;
        let before = self.put(next)?;
        if self.stroke.is_none() {
            self.remember(before);
        }
        Ok(())
    }

    /// The picture with other masks in the shown range.
    fn with_layers(&self, masks: Vec<(usize, LayerMask)>) -> Result<Picture, MaskError> {
        let mut layers = self.plan().layers().to_vec();
        for (layer, mask) in masks {
            layers[layer] = mask;
        }
        let mut next = self.now.clone();
        next.ranges[next.shown].1 = MaskPlan::of_layers(layers)?;
        Ok(next)
    }

    /// One step, unless nothing changes.
    fn change(&mut self, next: Picture) -> Result<(), MaskError> {
        self.end_stroke();
        if next != self.now {
            let before = self.put(next)?;
            self.remember(before);
        }
        Ok(())
    }

    /// Puts a picture in, and gives the one that was there.
    fn put(&mut self, next: Picture) -> Result<Picture, MaskError> {
        self.whole = MaskPlan::of_ranges(next.ranges.clone())?;
        self.revision += 1;
        Ok(std::mem::replace(&mut self.now, next))
    }

    fn remember(&mut self, before: Picture) {
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
        painted.begin_stroke();
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
        painted.begin_stroke();
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

    #[test]
    fn ranges_are_split_moved_and_joined() {
        let mut painted = painted(&["2:6"]);
        let from = |painted: &PaintedPlan| -> Vec<f64> { painted.whole().ranges().map(|(from, _)| from).collect() };
        painted.split(8).unwrap();
        assert_eq!((from(&painted), painted.shown()), (vec![0.0, 0.5], 1));
        painted.set_layers(vec![(0, LayerMask::full(8).unwrap())]).unwrap();
        assert_eq!([0, 1].map(|range| painted.whole().of_range(range).layers()[0].name()), ["2:6", "full"]);
        painted.begin_at(6, 8).unwrap();
        assert_eq!((painted.calls_of(0, 8), painted.calls_of(1, 8)), (0..6, 6..8));
        // A range keeps a step at least.
        painted.begin_at(0, 8).unwrap();
        assert_eq!(from(&painted), [0.0, 0.125]);
        painted.begin_at(99, 8).unwrap();
        assert_eq!(from(&painted), [0.0, 0.875]);
        assert!(!painted.can_split(8), "one step cannot be split");
        painted.show(0);
        painted.begin_at(3, 8).unwrap();
        assert_eq!(from(&painted), [0.0, 0.875], "the first begins at the first step");
        painted.join().unwrap();
        assert_eq!((from(&painted), painted.whole().layers()[0].name()), (vec![0.0], "full".into()));
        for _ in 0..6 {
            painted.undo().unwrap();
        }
        assert!(!painted.is_changed() && !painted.can_undo());
        painted.redo().unwrap();
        assert_eq!(from(&painted), [0.0, 0.5]);
    }
}
