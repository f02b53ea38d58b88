//! The mask family k:(F-k): each frame sees itself and k reference frames.
//!
//! The paper (arXiv 2502.06155, section on attention tiles) keeps the main diagonal and the tiles "against k global
//! reference latent frames", evenly spaced. Which frames those are it does not print; `StrideCeil` in symmetric mode is
//! the choice that reproduces all nine sparsities of its Table 1 (see the tests of the sparsity module).

use serde::{Deserialize, Serialize};

use super::frame_mask::check_frames;
use super::{FrameMask, MaskError};

/// Where the reference frames lie. The numbered rules hold for any number of latent frames F.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Placement {
    /// 0, s, 2s, .. below F, with the stride s = ceil(F / k); sometimes fewer than k of them. The paper's.
    StrideCeil(usize),
    /// floor(i F / k) for i in 0..k.
    SpacedFloor(usize),
    /// The first k frames.
    First(usize),
    /// From the first to the last frame at even distances, rounded (to even).
    Linspace(usize),
    /// Hand-picked frames.
    Listed(Vec<usize>),
}

/// Who sees whom through the reference frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Reference frames see all frames and are seen by all.
    #[default]
    Symmetric,
    /// Reference frames are seen by all, but see only themselves and each other.
    KvOnly,
}

/// A rule that gives a mask for any number of latent frames.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MaskFamily {
    pub placement: Placement,
    pub mode: Mode,
}

impl MaskFamily {
    /// The paper's family k:(F-k).
    pub fn paper(references: usize) -> MaskFamily {
        MaskFamily { placement: Placement::StrideCeil(references), mode: Mode::Symmetric }
    }

    /// The reference frames among `frames` latent frames, ascending. More references than frames are all frames.
    ///
    /// # Errors
    /// If a hand-picked frame does not exist or is listed twice.
    pub fn reference_frames(&self, frames: usize) -> Result<Vec<usize>, MaskError> {
        self.placement.reference_frames(frames)
    }

    /// The mask over `frames` latent frames.
    ///
    /// # Errors
    /// As [`Self::reference_frames`], and if `frames` is 0 or absurd.
    pub fn frame_mask(&self, frames: usize) -> Result<FrameMask, MaskError> {
        check_frames(frames)?;
        let mut kept = vec![false; frames * frames];
        for frame in 0..frames {
            kept[frame * frames + frame] = true;
        }
        for reference in self.reference_frames(frames)? {
            for other in 0..frames {
                kept[other * frames + reference] = true;
                if self.mode == Mode::Symmetric {
                    kept[reference * frames + other] = true;
                }
            }
        }
        FrameMask::new(frames, kept)
    }

    /// The same mask named by the references that there really are: `StrideCeil(5)` over 8 frames places four, so it is
    /// `StrideCeil(4)`. What a plan holds is always settled, so that its file says all there is to say.
    pub(super) fn settled(&self, frames: usize) -> Result<MaskFamily, MaskError> {
        let placed = self.reference_frames(frames)?;
        let placement = match self.placement {
            Placement::StrideCeil(_) => Placement::StrideCeil(placed.len()),
            Placement::SpacedFloor(_) => Placement::SpacedFloor(placed.len()),
            Placement::First(_) => Placement::First(placed.len()),
            Placement::Linspace(_) => Placement::Linspace(placed.len()),
            Placement::Listed(_) => Placement::Listed(placed),
        };
        Ok(MaskFamily { placement, mode: self.mode })
    }
}

impl Placement {
    /// The rule behind a list of reference frames, the paper's first; hand-picked if none fits.
    pub(super) fn behind(references: &[usize], frames: usize) -> Placement {
        let count = references.len();
        [Placement::StrideCeil(count), Placement::SpacedFloor(count), Placement::First(count), Placement::Linspace(count)]
            .into_iter()
            .find(|rule| rule.reference_frames(frames).is_ok_and(|placed| placed == references))
            .unwrap_or_else(|| Placement::Listed(references.to_vec()))
    }

    fn reference_frames(&self, frames: usize) -> Result<Vec<usize>, MaskError> {
        let fitting = |count: usize| count.min(frames);
        Ok(match self {
            Placement::StrideCeil(0) => Vec::new(),
            Placement::StrideCeil(count) => (0..frames).step_by(frames.div_ceil(*count).max(1)).collect(),
            Placement::SpacedFloor(count) => (0..fitting(*count)).map(|i| i * frames / fitting(*count)).collect(),
            Placement::First(count) => (0..fitting(*count)).collect(),
            Placement::Linspace(count) => {
                let distance = (frames.max(1) - 1) as f64 / (fitting(*count).max(2) - 1) as f64;
                (0..fitting(*count)).map(|i| (i as f64 * distance).round_ties_even() as usize).collect()
            }
            Placement::Listed(list) => {
                let mut list = list.clone();
                list.sort_unstable();
                if let Some(pair) = list.windows(2).find(|pair| pair[0] == pair[1]) {
                    return Err(MaskError::ReferenceTwice(pair[0]));
                }
                match list.last() {
                    Some(&frame) if frame >= frames => return Err(MaskError::ReferenceOutOfRange { frame, frames }),
                    _ => list,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames_of(placement: Placement, frames: usize) -> Vec<usize> {
        placement.reference_frames(frames).unwrap()
    }

    #[test]
    fn placements_are_those_of_the_literature() {
        for (count, want) in [(1, vec![0]), (2, vec![0, 4]), (3, vec![0, 3, 6]), (4, vec![0, 2, 4, 6])] {
            assert_eq!(frames_of(Placement::StrideCeil(count), 8), want);
        }
        assert_eq!(frames_of(Placement::StrideCeil(2), 5), [0, 3]);
        assert_eq!(frames_of(Placement::SpacedFloor(3), 8), [0, 2, 5]);
        assert_eq!(frames_of(Placement::First(2), 8), [0, 1]);
        assert_eq!(frames_of(Placement::Linspace(2), 8), [0, 7]);
        assert_eq!(frames_of(Placement::Linspace(1), 8), [0]);
        assert_eq!(frames_of(Placement::StrideCeil(99), 3), [0, 1, 2]);
        assert_eq!(frames_of(Placement::Listed(vec![5, 1]), 8), [1, 5]);
    }

    /// Kept tiles by counting against the closed form F(2k+1) - k(k+1), for every rule, F and k.
    #[test]
    fn symmetric_masks_keep_the_tiles_of_the_closed_form() {
        for frames in 1..=24 {
            for count in 0..=frames {
                for placement in [Placement::SpacedFloor(count), Placement::First(count), Placement::Linspace(count)] {
                    let family = MaskFamily { placement, mode: Mode::Symmetric };
                    assert_eq!(family.reference_frames(frames).unwrap().len(), count, "{family:?} of {frames}");
                    let want = frames * (2 * count + 1) - count * (count + 1);
                    assert_eq!(family.frame_mask(frames).unwrap().kept_tiles(), want as u64);
                }
                let placed = MaskFamily::paper(count).reference_frames(frames).unwrap().len();
                let want = frames * (2 * placed + 1) - placed * (placed + 1);
                assert_eq!(MaskFamily::paper(count).frame_mask(frames).unwrap().kept_tiles(), want as u64);
            }
        }
    }

    /// For a constant number of references the cost grows by the same number of tiles with every frame.
    #[test]
    fn cost_is_linear_in_the_frames() {
        for count in 0..4 {
            let tiles = |frames| {
                let family = MaskFamily { placement: Placement::First(count), mode: Mode::Symmetric };
                family.frame_mask(frames).unwrap().kept_tiles()
            };
            for frames in 8..64 {
                assert_eq!(tiles(frames + 1) - tiles(frames), 2 * count as u64 + 1);
            }
        }
    }

    #[test]
    fn settling_changes_the_name_and_never_the_mask() {
        for frames in 1..=24 {
            for count in 0..=30 {
                let family = MaskFamily::paper(count);
                let settled = family.settled(frames).unwrap();
                assert_eq!(settled.frame_mask(frames).unwrap(), family.frame_mask(frames).unwrap());
                assert_eq!(settled.settled(frames).unwrap(), settled);
            }
        }
        assert_eq!(MaskFamily::paper(5).settled(8).unwrap(), MaskFamily::paper(4));
    }

    #[test]
    fn hand_picked_frames_must_exist_once() {
        let listed = |list: &[usize]| Placement::Listed(list.to_vec()).reference_frames(4);
        assert!(matches!(listed(&[0, 4]), Err(MaskError::ReferenceOutOfRange { frame: 4, frames: 4 })));
        assert!(matches!(listed(&[3, 1, 3]), Err(MaskError::ReferenceTwice(3))));
    }

    /// The frame masks of the reference's sparse attention.
    #[test]
    fn masks_are_those_of_the_reference() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sparse_attention");
        let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(format!("{folder}/cases.json")).unwrap()).unwrap();
        let bytes = std::fs::read(format!("{folder}/cases.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut masks = 0;
        for case in cases["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let frames = case["F"].as_u64().unwrap() as usize;
            let count = case["k"].as_u64().unwrap() as usize;
            let placement = match case["variant"].as_str().unwrap() {
                "stride_ceil" => Placement::StrideCeil(count),
                "spaced_floor" => Placement::SpacedFloor(count),
                "first" => Placement::First(count),
                "linspace" => Placement::Linspace(count),
                other => panic!("{name}: unknown placement {other}"),
            };
            let mode: Mode = serde_json::from_value(case["mode"].clone()).unwrap();
            let family = MaskFamily { placement, mode };
            let references: Vec<usize> = serde_json::from_value(case["refs"].clone()).unwrap();
            assert_eq!(family.reference_frames(frames).unwrap(), references, "{name}");
            let mask = family.frame_mask(frames).unwrap();
            assert_eq!(mask.kept_tiles(), case["allowed_frame_pairs"].as_u64().unwrap(), "{name}");
            assert!((mask.density() - case["frame_density"].as_f64().unwrap()).abs() < 1e-12, "{name}");
            if let Ok(tensor) = tensors.tensor(&format!("{name}.frame_mask")) {
                let want: Vec<bool> = tensor.data().iter().map(|&byte| byte != 0).collect();
                assert_eq!(mask, FrameMask::new(frames, want).unwrap(), "{name}");
                masks += 1;
            }
        }
        assert!(masks > 0, "no mask was compared");
    }
}
