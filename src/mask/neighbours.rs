//! Neighbours: each frame sees the frames around it, and no frame is a reference.
//!
//! Not of the paper: what they bring beside its family is measured in docs/mask-search.md. A mask of distance D computes as many
//! tiles as the paper's family with D reference frames, F(2D+1) - D(D+1), and like it needs no other kernel.

use super::frame_mask::check_frames;
use super::{FrameMask, MOST_FRAMES, MaskError};

/// What the name of such a mask begins with.
const PREFIX: &str = "near:";

/// The rule that gives such a mask for any number of latent frames. All frames are alike: the first has no place of its own, as it
/// has none among the paper's reference frames either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbours {
    /// A frame sees those that lie at most so many latent frames before or behind it.
    pub distance: usize,
}

impl Neighbours {
    /// Those that were measured beside the paper's masks, at 8 latent frames, where they cost what 1:7 and 2:6 do. As the distance
    /// is one in time, they are the same for all lengths.
    pub const MEASURED: [Neighbours; 2] = [Neighbours { distance: 1 }, Neighbours { distance: 2 }];

    /// The mask over `frames` latent frames; full where none lies further away than the distance.
    ///
    /// # Errors
    /// If `frames` is 0 or absurd.
    pub fn frame_mask(&self, frames: usize) -> Result<FrameMask, MaskError> {
        check_frames(frames)?;
        let kept = (0..frames * frames).map(|tile| (tile / frames).abs_diff(tile % frames) <= self.distance);
        FrameMask::new(frames, kept.collect())
    }

    /// The name `near:D` for the distance D; valid for any number of latent frames.
    pub fn name(&self) -> String {
        format!("{PREFIX}{}", self.distance)
    }

    /// The rule of a name; none if the name is none of neighbours.
    pub fn of_name(name: &str) -> Option<Neighbours> {
        let digits = name.strip_prefix(PREFIX)?;
        // No more than digits, so that a mask has one name alone: neither `near:+1` nor `near:01`.
        let neighbours = Neighbours { distance: digits.parse().ok().filter(|&distance: &usize| distance < MOST_FRAMES)? };
        (neighbours.name() == name).then_some(neighbours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::MaskFamily;

    /// Tile by tile against the definition: from a frame, distance times one step to a frame beside it, and no further.
    #[test]
    fn a_frame_sees_what_it_reaches_in_so_many_steps() {
        for frames in 1..=24 {
            for distance in 0..=frames {
                let mask = Neighbours { distance }.frame_mask(frames).unwrap();
                assert_eq!(mask.frames(), frames);
                for query in 0..frames {
                    let mut reached = vec![false; frames];
                    reached[query] = true;
                    for _ in 0..distance {
                        let before = reached.clone();
                        for (from, _) in before.iter().enumerate().filter(|(_, reached)| **reached) {
                            for to in [from.checked_sub(1), Some(from + 1)].into_iter().flatten().filter(|&to| to < frames) {
                                reached[to] = true;
                            }
                        }
                    }
                    let row: Vec<bool> = (0..frames).map(|key| mask.keeps(query, key)).collect();
                    assert_eq!(row, reached, "frame {query} of {frames}, distance {distance}");
                }
            }
        }
    }

    /// At distances that exist they cost what as many reference frames do, and none reaches further than the last frame.
    #[test]
    fn tiles_are_those_of_the_closed_form() {
        let tiles = |distance, frames| Neighbours { distance }.frame_mask(frames).unwrap().kept_tiles();
        assert_eq!([tiles(1, 8), tiles(2, 8), tiles(1, 24), tiles(2, 24)], [22, 34, 70, 114]);
        for frames in 1..=24 {
            for distance in 0..frames {
                assert_eq!(tiles(distance, frames), (frames * (2 * distance + 1) - distance * (distance + 1)) as u64);
            }
            assert_eq!(tiles(frames - 1, frames), (frames * frames) as u64);
            assert_eq!(tiles(MOST_FRAMES - 1, frames), (frames * frames) as u64);
        }
        for count in [1, 2, 4] {
            assert_eq!(tiles(count, 8), MaskFamily::paper(count).frame_mask(8).unwrap().kept_tiles());
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for distance in [0, 1, 2, 10, MOST_FRAMES - 1] {
            let neighbours = Neighbours { distance };
            assert_eq!(Neighbours::of_name(&neighbours.name()), Some(neighbours));
        }
        assert_eq!(Neighbours { distance: 2 }.name(), "near:2");
        for name in ["near:", "near", "near:x", "near:-1", "near:+1", "near:01", "near: 1", "near:1:7", "near:512", "Near:1", "1"]
        {
            assert_eq!(Neighbours::of_name(name), None, "{name}");
        }
        assert_eq!(Neighbours::of_name("near:99999999999999999999"), None);
    }

    #[test]
    fn no_mask_covers_impossible_frames() {
        for frames in [0, MOST_FRAMES + 1, usize::MAX] {
            assert!(matches!(Neighbours { distance: 1 }.frame_mask(frames), Err(MaskError::Frames(_))));
        }
    }
}
