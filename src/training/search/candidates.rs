//! The masks that a layer may have.

use crate::mask::{LayerMask, MaskError};

/// Numbers of reference frames in short clips: all that there are.
const SHORT: usize = 8;

/// Masks in the order of a search: sparsest first, the dense one last.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidates(Vec<LayerMask>);

impl Candidates {
    /// Those of the paper's Table 1 for 8 and for 24 latent frames, and the like for others: full, and in short clips every
    /// number of reference frames up to half of them, in longer ones a half, a third, a quarter, a sixth and an eighth.
    ///
    /// # Errors
    /// No mask covers so many frames.
    pub fn standard(frames: usize) -> Result<Self, MaskError> {
        let counts: Vec<usize> =
            if frames <= SHORT { (1..=frames / 2).collect() } else { [2, 3, 4, 6, 8].map(|part| frames / part).to_vec() };
        let masks = counts.into_iter().filter_map(|count| LayerMask::named(&format!("{count}:{}", frames - count), frames).ok());
        Self::of(masks.chain([LayerMask::full(frames)?]).collect())
    }

    /// Masks by their names, such as `full` and `2:6`; the dense one is always among them.
    ///
    /// # Errors
    /// One is no name of a mask over so many frames.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>, frames: usize) -> Result<Self, MaskError> {
        let masks: Result<Vec<LayerMask>, MaskError> = names.into_iter().map(|name| LayerMask::named(name, frames)).collect();
        let mut masks = masks?;
        masks.push(LayerMask::full(frames)?);
        Self::of(masks)
    }

    fn of(mut masks: Vec<LayerMask>) -> Result<Self, MaskError> {
        masks.sort_by_key(|mask| (mask.mask().kept_tiles(), mask.mask().is_full()));
        masks.dedup_by(|a, b| a.mask() == b.mask());
        Ok(Self(masks))
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
    fn the_standard_masks_are_those_of_the_paper() {
        let names = |frames| Candidates::standard(frames).expect("masks").names();
        assert_eq!(names(8), ["1:7", "2:6", "3:5", "4:4", "full"]);
        assert_eq!(names(24), ["3:21", "4:20", "6:18", "8:16", "12:12", "full"]);
        assert_eq!(names(4), ["1:3", "2:2", "full"]);
        assert_eq!(names(1), ["full"]);
        let named = Candidates::named(["4:4", "full", "1:7", "4:4"], 8).expect("masks");
        assert_eq!((named.names().join(" "), named.sparse().len(), named.dense()), ("1:7 4:4 full".into(), 2, 2));
        assert!(Candidates::named(["2:7"], 8).is_err());
    }
}
