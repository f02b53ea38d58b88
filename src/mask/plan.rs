//! A plan: one mask for each layer of the model.
//!
//! The paper searches the number of reference frames layer by layer, because layers differ in how much they look across
//! frames. All heads of a layer share its mask.

use serde_json::{Map, Value};

use super::{FrameMask, MOST_LAYERS, MaskError, MaskFamily, Mode, Neighbours, Placement};

/// The rule behind a layer's mask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Every frame sees every frame.
    Full,
    /// Reference frames.
    Family(MaskFamily),
    /// The frames around each.
    Neighbours(Neighbours),
    /// No rule: tiles chosen one by one.
    Painted,
}

/// One layer's mask and the rule behind it.
#[derive(Clone, PartialEq, Debug)]
pub struct LayerMask {
    layout: Layout,
    mask: FrameMask,
    /// Fields of its entry in a plan file that mean nothing here.
    pub(super) notes: Map<String, Value>,
}

impl LayerMask {
    /// Dense attention.
    pub fn full(frames: usize) -> Result<LayerMask, MaskError> {
        Ok(LayerMask { layout: Layout::Full, mask: FrameMask::full(frames)?, notes: Map::new() })
    }

    /// A member of a mask family.
    ///
    /// # Errors
    /// If its hand-picked reference frames do not exist.
    pub fn of_family(family: &MaskFamily, frames: usize) -> Result<LayerMask, MaskError> {
        let mask = family.frame_mask(frames)?;
        Ok(LayerMask { layout: Layout::Family(family.settled(frames)?), mask, notes: Map::new() })
    }

    /// A mask in which each frame sees those around it.
    ///
    /// # Errors
    /// As [`Neighbours::frame_mask`].
    pub fn of_neighbours(neighbours: Neighbours, frames: usize) -> Result<LayerMask, MaskError> {
        let mask = neighbours.frame_mask(frames)?;
        Ok(LayerMask { layout: Layout::Neighbours(neighbours), mask, notes: Map::new() })
    }

    /// Any mask.
    pub fn painted(mask: FrameMask) -> LayerMask {
        LayerMask { layout: Layout::Painted, mask, notes: Map::new() }
    }

    /// A mask with the rule that is behind it: full, or reference frames at distances that a rule has, or picked by hand, or
    /// neighbours. Painted where no rule gives these tiles.
    pub fn recognised(mask: FrameMask) -> LayerMask {
        let frames = mask.frames();
        if mask.is_full() {
            return LayerMask { layout: Layout::Full, mask, notes: Map::new() };
        }
        let seen_by_all: Vec<usize> = (0..frames).filter(|&key| mask.rows().all(|row| row[key])).collect();
        for mode in [Mode::Symmetric, Mode::KvOnly] {
            let family = MaskFamily { placement: Placement::behind(&seen_by_all, frames), mode };
            if family.frame_mask(frames).is_ok_and(|ruled| ruled == mask) {
                return LayerMask { layout: Layout::Family(family), mask, notes: Map::new() };
            }
        }
        // Those that the first frame sees, itself not among them.
        let neighbours =
            Neighbours { distance: mask.rows().next().map_or(0, |row| row.iter().skip(1).filter(|&&kept| kept).count()) };
        match neighbours.frame_mask(frames) {
            Ok(ruled) if ruled == mask => LayerMask { layout: Layout::Neighbours(neighbours), mask, notes: Map::new() },
            _ => LayerMask::painted(mask),
        }
    }

    /// The mask that a name stands for: `full`, `K:N` for the paper's family with K reference frames of K + N, or `near:D` for
    /// [`Neighbours`] at a distance of up to D.
    ///
    /// # Errors
    /// If the name is none, is for another number of frames, or asks for more evenly spaced frames than there is room for.
    pub fn named(name: &str, frames: usize) -> Result<LayerMask, MaskError> {
        if name == "full" {
            return LayerMask::full(frames);
        }
        if let Some(neighbours) = Neighbours::of_name(name) {
            return LayerMask::of_neighbours(neighbours, frames);
        }
        let references = references_of_name(name, frames)?;
        let layer = LayerMask::of_family(&MaskFamily::paper(references), frames)?;
        let fitting = MaskFamily::paper(references).reference_frames(frames)?.len();
        if fitting != references {
            return Err(MaskError::NoRoom { name: name.to_owned(), frames, fitting });
        }
        Ok(layer)
    }

    /// The paper's name k:(F-k), `near:D`, `full` or `painted`.
    pub fn name(&self) -> String {
        match &self.layout {
            Layout::Full => "full".to_owned(),
            Layout::Family(_) => {
                let references = self.reference_frames().len();
                format!("{references}:{}", self.mask.frames() - references)
            }
            Layout::Neighbours(neighbours) => neighbours.name(),
            Layout::Painted => "painted".to_owned(),
        }
    }

    /// The rule behind the mask.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Which frame sees which.
    pub fn mask(&self) -> &FrameMask {
        &self.mask
    }

    /// The reference frames, ascending: all frames of a full mask, none of neighbours and of a painted one.
    pub fn reference_frames(&self) -> Vec<usize> {
        match &self.layout {
            Layout::Full => (0..self.mask.frames()).collect(),
            // Cannot fail: the family was settled for this number of frames.
            Layout::Family(family) => family.reference_frames(self.mask.frames()).unwrap_or_default(),
            Layout::Neighbours(_) | Layout::Painted => Vec::new(),
        }
    }

    fn adapted(&self, frames: usize) -> Result<LayerMask, MaskError> {
        match &self.layout {
            _ if frames == self.mask.frames() => Ok(self.clone()),
            Layout::Full => LayerMask::full(frames),
            Layout::Family(MaskFamily { placement: Placement::Listed(_), .. }) | Layout::Painted => {
                Err(MaskError::NotAdaptable(self.mask.frames()))
            }
            Layout::Family(family) => LayerMask::of_family(family, frames),
            Layout::Neighbours(neighbours) => LayerMask::of_neighbours(*neighbours, frames),
        }
    }
}

/// K of a name K:N with K + N = `frames`.
pub(super) fn references_of_name(name: &str, frames: usize) -> Result<usize, MaskError> {
    let number = |text: &str| text.parse::<u16>().ok().map(usize::from);
    let (references, others) = name
        .split_once(':')
        .and_then(|(references, others)| Some((number(references)?, number(others)?)))
        .ok_or_else(|| MaskError::Name(name.to_owned()))?;
    if references + others != frames {
        return Err(MaskError::NameFrames { name: name.to_owned(), named: references + others, frames });
    }
    Ok(references)
}

/// Masks that hold from a step on.
#[derive(Clone, PartialEq, Debug)]
pub struct LaterMasks {
    /// Share of the sampler's calls that come before, between 0 and 1.
    from: f64,
    layers: Vec<LayerMask>,
}

/// Ranges of steps that a plan may have.
pub const MOST_RANGES: usize = 64;

/// The masks of all layers of a model, for one number of latent frames. They hold for every step, or for ranges of steps: the
/// first range begins with the first step, and a later one where the one before it ends. Ranges are shares of the steps, so that
/// a plan means the same for any number of them.
#[derive(Clone, PartialEq, Debug)]
pub struct MaskPlan {
    /// Of the first range.
    layers: Vec<LayerMask>,
    /// Of the others, as they come.
    later: Vec<LaterMasks>,
    /// Fields of its file that mean nothing here, such as losses of the search.
    pub(super) notes: Map<String, Value>,
}

impl MaskPlan {
    /// Dense attention in every layer.
    pub fn dense(layers: usize, frames: usize) -> Result<MaskPlan, MaskError> {
        MaskPlan::uniform(layers, frames, "full")
    }

    /// One mask for every layer, by its name: `full`, `K:N` or `near:D`.
    ///
    /// # Errors
    /// As [`LayerMask::named`], and if there are no layers.
    pub fn uniform(layers: usize, frames: usize, name: &str) -> Result<MaskPlan, MaskError> {
        check_layers(layers)?;
        MaskPlan::of_layers(vec![LayerMask::named(name, frames)?; layers])
    }

    /// A plan from the masks of its layers.
    ///
    /// # Errors
    /// If there are none, or they cover different numbers of frames.
    pub fn of_layers(layers: Vec<LayerMask>) -> Result<MaskPlan, MaskError> {
        check_layers(layers.len())?;
        let others = layers[0].mask.frames();
        for (layer, frames) in layers.iter().map(|layer| layer.mask.frames()).enumerate() {
            if frames != others {
                return Err(MaskError::UnlikeOthers { frames, others }.in_layer(layer));
            }
        }
        Ok(MaskPlan { layers, later: Vec::new(), notes: Map::new() })
    }

    /// A plan of ranges: where each begins, as a share of the steps, and its masks for all steps. The first begins at 0.
    ///
    /// # Errors
    /// If there are none or too many, they do not begin one after the other within 0 to 1, or are of different models or videos.
    pub fn of_ranges(ranges: Vec<(f64, MaskPlan)>) -> Result<MaskPlan, MaskError> {
        let disorder = |from: f64| Err(MaskError::RangeStart { from });
        if ranges.len() > MOST_RANGES {
            return Err(MaskError::Ranges(ranges.len()));
        }
        let mut ranges = ranges.into_iter();
        let Some((begin, first)) = ranges.next() else { return Err(MaskError::Ranges(0)) };
        if begin != 0.0 {
            return disorder(begin);
        }
        let mut plan = MaskPlan { layers: first.layers, later: Vec::new(), notes: first.notes };
        for (from, masks) in ranges {
            let before = plan.later.last().map_or(0.0, |range| range.from);
            // Also not a number.
            if !(from > before && from < 1.0) {
                return disorder(from);
            }
            masks.check(plan.layers.len(), plan.frames())?;
            plan.later.push(LaterMasks { from, layers: masks.layers });
        }
        Ok(plan)
    }

    /// Where each range begins, as a share of the steps, and its masks.
    pub fn ranges(&self) -> impl Iterator<Item = (f64, &[LayerMask])> {
        let later = self.later.iter().map(|range| (range.from, range.layers.as_slice()));
        std::iter::once((0.0, self.layers.as_slice())).chain(later)
    }

    /// Whether all steps have the same masks.
    pub fn is_for_all_steps(&self) -> bool {
        self.later.is_empty()
    }

    /// Fails unless all steps have the same masks.
    pub fn check_for_all_steps(&self) -> Result<(), MaskError> {
        if self.is_for_all_steps() { Ok(()) } else { Err(MaskError::ForSomeSteps) }
    }

    /// The call, of so many, that a range begins with.
    pub fn first_call(from: f64, calls: usize) -> usize {
        (from * calls as f64).round() as usize
    }

    /// The number of the range that a call, of so many, belongs to.
    pub fn range_of(&self, call: usize, calls: usize) -> usize {
        let begun = self.later.iter().filter(|range| MaskPlan::first_call(range.from, calls) <= call);
        begun.count()
    }

    /// The masks of one range, as a plan for all steps; the last of those that there are.
    #[must_use]
    pub fn of_range(&self, range: usize) -> MaskPlan {
        let later = range.checked_sub(1).and_then(|place| self.later.get(place).or(self.later.last()));
        let layers = later.map_or(&self.layers, |later| &later.layers).clone();
        MaskPlan { layers, later: Vec::new(), notes: Map::new() }
    }

    /// The plan that a call, of so many, obeys.
    #[must_use]
    pub fn at(&self, call: usize, calls: usize) -> MaskPlan {
        self.of_range(self.range_of(call, calls))
    }

    /// The plan with fields for its file that mean nothing to it, such as what a search has found.
    #[must_use]
    pub fn with_notes(self, notes: Map<String, Value>) -> MaskPlan {
        MaskPlan { notes, ..self }
    }

    /// The masks of the first steps, first layer first; of all steps, unless there are ranges.
    pub fn layers(&self) -> &[LayerMask] {
        &self.layers
    }

    /// Number of latent frames, F.
    pub fn frames(&self) -> usize {
        self.layers[0].mask.frames()
    }

    /// Fails unless the plan is for a model of so many layers and a video of so many latent frames.
    pub fn check(&self, layers: usize, frames: usize) -> Result<(), MaskError> {
        if self.layers.len() != layers {
            return Err(MaskError::LayerCount { plan: self.layers.len(), model: layers });
        }
        if self.frames() != frames {
            return Err(MaskError::FrameCount { plan: self.frames(), video: frames });
        }
        Ok(())
    }

    /// The plan for another number of latent frames: each layer's rule, applied anew. A layer keeps its number k of
    /// reference frames (as far as there are so many frames, and at a stride as far as they fit) or its neighbours'
    /// distance, so that the cost stays linear in the length; a full layer stays full. What the file noted about the search does not carry over.
    ///
    /// # Errors
    /// If a layer's mask follows no rule: it was painted, or its reference frames were picked by hand.
    pub fn adapted(&self, frames: usize) -> Result<MaskPlan, MaskError> {
        if frames == self.frames() {
            return Ok(self.clone());
        }
        let adapted = |layers: &[LayerMask]| -> Result<MaskPlan, MaskError> {
            let layers = layers.iter().enumerate().map(|(layer, mask)| mask.adapted(frames).map_err(|e| e.in_layer(layer)));
            MaskPlan::of_layers(layers.collect::<Result<_, _>>()?)
        };
        let ranges = self.ranges().map(|(from, layers)| Ok((from, adapted(layers)?)));
        MaskPlan::of_ranges(ranges.collect::<Result<_, MaskError>>()?)
    }

    /// Tiles that are computed in one of the first steps, all layers together.
    pub fn kept_tiles(&self) -> u64 {
        kept_tiles(&self.layers)
    }

    /// Kept tiles of all tiles, in (0, 1]: the mean of the layers' densities, over all steps.
    pub fn density(&self) -> f64 {
        let ends = self.ranges().skip(1).map(|(from, _)| from).chain([1.0]);
        let kept: f64 = self.ranges().zip(ends).map(|((from, layers), end)| (end - from) * kept_tiles(layers) as f64).sum();
        kept / (self.layers.len() * self.frames().pow(2)) as f64
    }

    /// The share of layers and steps in which a tile is computed, 0 to 1.
    pub fn tile_share(&self, query: usize, key: usize) -> f64 {
        let ends = self.ranges().skip(1).map(|(from, _)| from).chain([1.0]);
        let kept = |layers: &[LayerMask]| layers.iter().filter(|layer| layer.mask.keeps(query, key)).count() as f64;
        self.ranges().zip(ends).map(|((from, layers), end)| (end - from) * kept(layers)).sum::<f64>() / self.layers.len() as f64
    }

    /// Floating-point operations of the self-attention products (queries by keys, weights by values) of one forward pass
    /// in the first steps at batch 1, a multiplication and an addition counted as two: 4 n^2 `width` a tile, with n tokens a latent frame and
    /// `width` = heads x head size. Softmax and projections are not in it.
    pub fn attention_flops(&self, tokens_per_frame: usize, width: usize) -> u128 {
        4 * (tokens_per_frame as u128).pow(2) * u128::from(self.kept_tiles()) * width as u128
    }
}

fn kept_tiles(layers: &[LayerMask]) -> u64 {
    layers.iter().map(|layer| layer.mask.kept_tiles()).sum()
}

fn check_layers(layers: usize) -> Result<(), MaskError> {
    if (1..=MOST_LAYERS).contains(&layers) { Ok(()) } else { Err(MaskError::Layers(layers)) }
}

impl MaskError {
    pub(super) fn in_layer(self, layer: usize) -> MaskError {
        MaskError::InLayer { layer, source: Box::new(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// TFLOP of the published model (32 layers of 24 x 96) at 720 x 1280, from an independent calculation.
    #[test]
    fn flops_are_those_of_the_published_model() {
        let tera = |frames, name: &str| MaskPlan::uniform(32, frames, name).unwrap().attention_flops(3600, 24 * 96) as f64 / 1e12;
        assert!((tera(8, "full") - 244.6).abs() < 0.05);
        assert!((tera(24, "full") - 2201.5).abs() < 0.05);
        for (name, share) in [("1:7", 0.344), ("2:6", 0.531), ("3:5", 0.688), ("4:4", 0.813)] {
            assert!((tera(8, name) / tera(8, "full") - share).abs() < 6e-4, "{name}");
        }
        for (name, share) in [("1:23", 0.122), ("2:22", 0.198), ("3:21", 0.271), ("4:20", 0.340)] {
            assert!((tera(24, name) / tera(24, "full") - share).abs() < 6e-4, "{name}");
        }
    }

    #[test]
    fn names_are_checked_against_the_frames() {
        let message = |name: &str| MaskPlan::uniform(12, 8, name).unwrap_err().to_string();
        assert!(message("2:7").contains("K + N = 8"), "{}", message("2:7"));
        assert!(message("5:3").contains("4:4"), "{}", message("5:3"));
        let near = ["near", "near:", "near:x", "near:-1", "near:01", "near:512", "near:1:7", "Near:1"];
        for name in ["", ":", "2", "2:6:1", "a:b", "-1:9", "2: 6", "99999999999999999999:1", "painted"].into_iter().chain(near) {
            assert!(message(name).contains("no mask name"), "{name}: {}", message(name));
        }
        assert!(message("near:x").contains("near:D"), "{}", message("near:x"));
        assert!(matches!(MaskPlan::dense(0, 8), Err(MaskError::Layers(0))));
        assert!(matches!(MaskPlan::dense(12, 0), Err(MaskError::Frames(0))));
        let diagonal = MaskPlan::uniform(2, 8, "0:8").unwrap();
        assert_eq!(diagonal.kept_tiles(), 16);
        assert_eq!(MaskPlan::uniform(2, 8, "8:0").unwrap().density(), 1.0);
    }

    #[test]
    fn a_plan_fits_its_model_and_video_only() {
        let plan = MaskPlan::uniform(12, 8, "2:6").unwrap();
        plan.check(12, 8).unwrap();
        assert!(matches!(plan.check(32, 8), Err(MaskError::LayerCount { plan: 12, model: 32 })));
        assert!(matches!(plan.check(12, 24), Err(MaskError::FrameCount { plan: 8, video: 24 })));
        let mixed = MaskPlan::of_layers(vec![LayerMask::full(8).unwrap(), LayerMask::full(7).unwrap()]);
        assert!(mixed.unwrap_err().to_string().starts_with("layer 1"));
    }

    #[test]
    fn the_rule_behind_a_mask_is_recognised() {
        for frames in [3, 8, 13] {
            for placement in [Placement::StrideCeil(2), Placement::First(2), Placement::Listed(vec![1]), Placement::First(0)] {
                for mode in [Mode::Symmetric, Mode::KvOnly] {
                    let layer = LayerMask::of_family(&MaskFamily { placement: placement.clone(), mode }, frames).unwrap();
                    let found = LayerMask::recognised(layer.mask().clone());
                    assert_eq!(found.mask(), layer.mask());
                    let is_full = layer.mask().is_full();
                    let references: Vec<usize> = if is_full { (0..frames).collect() } else { layer.reference_frames() };
                    assert_eq!((found.reference_frames(), matches!(found.layout(), Layout::Full)), (references, is_full));
                    // What is recognised is written and read as it is.
                    let plan = MaskPlan::of_layers(vec![found]).unwrap();
                    assert_eq!(MaskPlan::from_json(&plan.to_json().unwrap()).unwrap(), plan);
                }
            }
        }
        // Neighbours, where no reference frames give the same tiles: in three frames the middle one is such a frame.
        for (frames, distance) in [(4, 1), (5, 1), (5, 2), (8, 1), (8, 2), (8, 5), (24, 7)] {
            let layer = LayerMask::of_neighbours(Neighbours { distance }, frames).unwrap();
            assert_eq!(LayerMask::recognised(layer.mask().clone()), layer, "{frames} frames");
        }
        let middle = LayerMask::recognised(Neighbours { distance: 1 }.frame_mask(3).unwrap());
        assert_eq!(middle.reference_frames(), [1]);
        // One tile more than the diagonal is no rule's.
        let tiles = vec![true, true, false, false, true, false, false, false, true];
        let painted = LayerMask::recognised(FrameMask::new(3, tiles).unwrap());
        assert_eq!((painted.layout(), painted.name().as_str()), (&Layout::Painted, "painted"));
        // Neither is one tile more or less than those of neighbours.
        for place in 0..64 {
            let mut tiles: Vec<bool> = Neighbours { distance: 2 }.frame_mask(8).unwrap().rows().flatten().copied().collect();
            tiles[place] = !tiles[place];
            let painted = LayerMask::recognised(FrameMask::new(8, tiles).unwrap());
            assert_eq!(painted.layout(), &Layout::Painted, "tile {place}");
        }
    }

    /// The same distance at every length, against the definition tile by tile; back again it is the mask that it was.
    #[test]
    fn neighbours_are_adapted_to_any_length() {
        for name in ["near:1", "near:2", "near:6"] {
            let distance: usize = name[5..].parse().unwrap();
            let plan = MaskPlan::uniform(2, 8, name).unwrap();
            assert_eq!(plan.layers()[0].layout(), &Layout::Neighbours(Neighbours { distance }));
            for frames in [1, 2, 3, 5, 8, 24, 47] {
                let adapted = plan.adapted(frames).unwrap();
                adapted.check(2, frames).unwrap();
                let layer = &adapted.layers()[1];
                assert_eq!((layer.name().as_str(), layer.reference_frames()), (name, Vec::new()));
                for query in 0..frames {
                    for key in 0..frames {
                        let is_near = key <= query + distance && query <= key + distance;
                        assert_eq!(layer.mask().keeps(query, key), is_near, "{name}: {query} to {key} of {frames}");
                    }
                }
                assert_eq!(adapted, MaskPlan::uniform(2, frames, name).unwrap());
                assert_eq!(adapted.adapted(8).unwrap(), plan);
                assert_eq!(MaskPlan::from_json(&adapted.to_json().unwrap()).unwrap(), adapted);
            }
        }
        // In a plan of ranges too, beside other rules.
        let ranges = vec![(0.0, MaskPlan::uniform(1, 8, "2:6").unwrap()), (0.5, MaskPlan::uniform(1, 8, "near:1").unwrap())];
        let longer = MaskPlan::of_ranges(ranges).unwrap().adapted(24).unwrap();
        let names: Vec<String> = longer.ranges().map(|(_, layers)| layers[0].name()).collect();
        assert_eq!(names, ["2:22", "near:1"]);
        assert_eq!(longer.of_range(1).kept_tiles(), 70);
    }

    #[test]
    fn ranges_of_steps_follow_each_other() {
        let uniform = |name: &str| MaskPlan::uniform(2, 8, name).unwrap();
        let plan = MaskPlan::of_ranges(vec![(0.0, uniform("full")), (0.25, uniform("2:6")), (0.5, uniform("1:7"))]).unwrap();
        let names = |calls: usize| -> Vec<String> { (0..calls).map(|call| plan.at(call, calls).layers()[1].name()).collect() };
        assert_eq!(names(8), ["full", "full", "2:6", "2:6", "1:7", "1:7", "1:7", "1:7"]);
        assert_eq!(names(4), ["full", "2:6", "1:7", "1:7"]);
        // With fewer steps than ranges the later one holds.
        assert_eq!(names(1), ["2:6"]);
        assert_eq!(names(2), ["full", "1:7"]);
        assert!((plan.density() - (0.25 + 0.25 * 34.0 / 64.0 + 0.5 * 22.0 / 64.0)).abs() < 1e-12);
        assert_eq!((plan.tile_share(0, 5), plan.tile_share(5, 4)), (1.0, 0.5));
        assert_eq!(plan.of_range(1), uniform("2:6"));
        assert_eq!(MaskPlan::of_ranges(vec![(0.0, uniform("2:6"))]).unwrap(), uniform("2:6"));
        let longer = plan.adapted(24).unwrap();
        assert_eq!(longer.of_range(2), MaskPlan::uniform(2, 24, "1:23").unwrap());
        assert!(longer.ranges().map(|(from, _)| from).eq([0.0, 0.25, 0.5]));

        let refused = |ranges: Vec<(f64, MaskPlan)>| MaskPlan::of_ranges(ranges).unwrap_err().to_string();
        for from in [0.0, -0.5, 1.0, f64::NAN] {
            assert!(refused(vec![(0.0, uniform("full")), (from, uniform("2:6"))]).contains("begin"), "{from}");
        }
        assert!(refused(vec![(0.5, uniform("full"))]).contains("begin"));
        assert!(refused(Vec::new()).contains("1 to 64"));
        let other = MaskPlan::uniform(3, 8, "full").unwrap();
        assert!(matches!(
            MaskPlan::of_ranges(vec![(0.0, uniform("full")), (0.5, other)]),
            Err(MaskError::LayerCount { plan: 3, model: 2 })
        ));
    }

    #[test]
    fn adapting_applies_the_rules_anew() {
        let layers = ["full", "2:6", "4:4"].map(|name| LayerMask::named(name, 8).unwrap());
        let plan = MaskPlan::of_layers(layers.to_vec()).unwrap();
        let names = |frames| -> Vec<String> { plan.adapted(frames).unwrap().layers().iter().map(LayerMask::name).collect() };
        assert_eq!(names(24), ["full", "2:22", "4:20"]);
        assert_eq!(names(3), ["full", "2:1", "3:0"]);
        assert_eq!(names(1), ["full", "1:0", "1:0"]);
        assert_eq!(plan.adapted(24).unwrap().layers()[2].reference_frames(), [0, 6, 12, 18]);
        assert_eq!(plan.adapted(8).unwrap(), plan);

        let picked = MaskFamily { placement: Placement::Listed(vec![1, 2]), mode: Mode::Symmetric };
        for layer in [LayerMask::of_family(&picked, 8).unwrap(), LayerMask::painted(FrameMask::full(8).unwrap())] {
            let plan = MaskPlan::of_layers(vec![layer]).unwrap();
            assert!(plan.adapted(24).unwrap_err().to_string().starts_with("layer 0"));
            assert_eq!(plan.adapted(8).unwrap(), plan);
        }
    }
}
