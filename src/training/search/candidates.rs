//! The masks that a layer may have.

use crate::mask::{LayerMask, MaskError, Neighbours};

/// Numbers of reference frames in short clips: all that there are.
const SHORT: usize = 8;

/// Masks in the order of a search: sparsest first, the dense one last.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidates(Vec<LayerMask>);

impl Candidates {
    /// Those of the paper's Table 1 for 8 and for 24 latent frames, and the like for others: full, and in short clips every
    /// number of reference frames up to half of them, in longer ones a half, a third, a quarter, a sixth and an eighth. Beside them
    /// [`Neighbours::MEASURED`]. A mask with the tiles of another stands there once, by the paper's name if it has one.
    ///
    /// # Errors
    /// No mask covers so many frames.
    pub fn standard(frames: usize) -> Result<Self, MaskError> {
        let counts: Vec<usize> =
            if frames <= SHORT { (1..=frames / 2).collect() } else { [2, 3, 4, 6, 8].map(|part| frames / part).to_vec() };
        let masks = counts.into_iter().filter_map(|count| LayerMask::named(&format!("{count}:{}", frames - count), frames).ok());
        let neighbours = Neighbours::MEASURED.map(|neighbours| LayerMask::of_neighbours(neighbours, frames));
        let neighbours = neighbours.into_iter().collect::<Result<Vec<_>, _>>()?;
        Self::of(masks.chain(neighbours).collect(), frames)
    }

    /// Masks by their names, such as `full`, `2:6` and `near:1`; the dense one is always among them.
    ///
    /// # Errors
    /// One is no name of a mask over so many frames.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>, frames: usize) -> Result<Self, MaskError> {
        let masks: Result<Vec<LayerMask>, MaskError> = names.into_iter().map(|name| LayerMask::named(name, frames)).collect();
        Self::of(masks?, frames)
    }

    /// In their order, each once, of the same tiles the first that was named; behind them the dense one.
    fn of(masks: Vec<LayerMask>, frames: usize) -> Result<Self, MaskError> {
        let mut unlike: Vec<LayerMask> = Vec::new();
        for mask in masks {
            if !mask.mask().is_full() && unlike.iter().all(|other| other.mask() != mask.mask()) {
                unlike.push(mask);
            }
        }
        // Masks of equally many tiles stay as they were named.
        unlike.sort_by_key(|mask| mask.mask().kept_tiles());
        unlike.push(LayerMask::full(frames)?);
        Ok(Self(unlike))
    }

    /// All of them; the last is dense.
    pub fn all(&self) -> &[LayerMask] {
        &self.0
    }

    /// All but the dense one.
    pub fn sparse(&self) -> &[LayerMask] {
        &self.0[..self.0.len() - 1]
    }

    /// The place of the dense one.
    pub fn dense(&self) -> usize {
        self.0.len() - 1
    }

    /// Tiles that each computes, the dense one last.
    pub fn tiles(&self) -> Vec<f64> {
        self.0.iter().map(|mask| mask.mask().kept_tiles() as f64).collect()
    }

    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(LayerMask::name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_masks_are_those_of_the_paper_and_neighbours() {
        let names = |frames| Candidates::standard(frames).expect("masks").names();
        assert_eq!(names(8), ["1:7", "near:1", "2:6", "near:2", "3:5", "4:4", "full"]);
        assert_eq!(names(24), ["near:1", "near:2", "3:21", "4:20", "6:18", "8:16", "12:12", "full"]);
        assert_eq!(names(4), ["1:3", "near:1", "2:2", "near:2", "full"]);
        assert_eq!(names(3), ["1:2", "near:1", "full"]);
        // Of two frames each sees the other, whatever the rule.
        assert_eq!([names(2), names(1)], [["full"], ["full"]]);
        let named = Candidates::named(["4:4", "full", "1:7", "4:4"], 8).expect("masks");
        assert_eq!((named.names().join(" "), named.sparse().len(), named.dense()), ("1:7 4:4 full".into(), 2, 2));
        assert!(Candidates::named(["2:7"], 8).is_err());
    }

    /// Whatever the length: each has tiles of its own, counted as they are kept, and the last alone is dense.
    #[test]
    fn every_mask_stands_there_once_with_its_tiles() {
        for frames in 1..=40 {
            let candidates = Candidates::standard(frames).expect("masks");
            let (all, tiles) = (candidates.all(), candidates.tiles());
            for (place, mask) in all.iter().enumerate() {
                assert!(all[..place].iter().all(|other| other.mask() != mask.mask()), "{} of {frames} frames", mask.name());
                let kept = mask.mask().rows().flatten().filter(|&&kept| kept).count();
                assert_eq!(tiles[place], kept as f64);
                assert_eq!(mask.mask().is_full(), place == candidates.dense());
                assert_eq!(LayerMask::named(&mask.name(), frames).expect("its own name"), *mask);
            }
            assert!(tiles.is_sorted());
            assert_eq!(candidates.names().last().map(String::as_str), Some("full"));
        }
        // Equal ones that do not stand beside each other, and dense ones under other names.
        let names = ["near:1", "1:7", "near:1", "1:7", "near:7", "near:511", "8:0"];
        assert_eq!(Candidates::named(names, 8).expect("masks").names(), ["near:1", "1:7", "full"]);
        assert_eq!(Candidates::named(["0:8", "near:0"], 8).expect("masks").names(), ["0:8", "full"]);
    }
}
