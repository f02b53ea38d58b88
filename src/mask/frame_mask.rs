//! One layer's mask: for every pair of latent frames, whether the first attends to the second.

use super::{MOST_FRAMES, MaskError};

/// F x F tiles of attention, query frame by key frame. Every query frame keeps at least one key frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameMask {
    frames: usize,
    /// Row-major, query frame first.
    kept: Vec<bool>,
}

impl FrameMask {
    /// A mask from its entries, row by row (query frame first).
    ///
    /// # Errors
    /// If the entries are not `frames` x `frames`, or a query frame keeps no key frame: its softmax would be over nothing.
    pub fn new(frames: usize, kept: Vec<bool>) -> Result<FrameMask, MaskError> {
        check_frames(frames)?;
        if kept.len() != frames * frames {
            return Err(MaskError::MatrixSize { frames, entries: kept.len() });
        }
        match kept.chunks(frames).position(|row| !row.contains(&true)) {
            Some(query) => Err(MaskError::BlindFrame(query)),
            None => Ok(FrameMask { frames, kept }),
        }
    }

    /// The mask that keeps every tile.
    pub fn full(frames: usize) -> Result<FrameMask, MaskError> {
        check_frames(frames)?;
        FrameMask::new(frames, vec![true; frames * frames])
    }

    /// Number of latent frames, F.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Whether frame `query` attends to frame `key`.
    ///
    /// # Panics
    /// If either is not below [`Self::frames`].
    pub fn keeps(&self, query: usize, key: usize) -> bool {
        assert!(key < self.frames, "frame {key} of {}", self.frames);
        self.kept[query * self.frames + key]
    }

    /// The entries of each query frame in turn.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[bool]> {
        self.kept.chunks(self.frames)
    }

    /// Tiles that are computed.
    pub fn kept_tiles(&self) -> u64 {
        self.kept.iter().filter(|&&kept| kept).count() as u64
    }

    /// Kept tiles of all tiles, in (0, 1]. All frames have equally many tokens, so this is the density of the attention
    /// matrix too, token by token.
    pub fn density(&self) -> f64 {
        self.kept_tiles() as f64 / self.kept.len() as f64
    }

    /// Whether nothing is left out.
    pub fn is_full(&self) -> bool {
        !self.kept.contains(&false)
    }

    /// The kept key frames of each query frame, as kernels read them.
    pub fn key_frames(&self) -> KeyFrames {
        let mut offsets = vec![0];
        let mut frames = Vec::new();
        for row in self.rows() {
            frames.extend((0..).zip(row).filter(|(_, kept)| **kept).map(|(key, _): (u32, _)| key));
            offsets.push(frames.len() as u32);
        }
        KeyFrames { offsets, frames }
    }
}

pub(super) fn check_frames(frames: usize) -> Result<(), MaskError> {
    if (1..=MOST_FRAMES).contains(&frames) { Ok(()) } else { Err(MaskError::Frames(frames)) }
}

/// The kept key frames of each query frame, in ascending order, one list after the other (compressed sparse rows).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyFrames {
    offsets: Vec<u32>,
    frames: Vec<u32>,
}

impl KeyFrames {
    /// Every one of `frames` frames sees all of them.
    pub fn dense(frames: usize) -> Self {
        let offsets = (0..=frames).map(|query| (query * frames) as u32).collect();
        Self { offsets, frames: (0..frames).flat_map(|_| 0..frames as u32).collect() }
    }

    /// The key frames of each query frame in turn, in any order.
    pub fn of_lists(lists: impl IntoIterator<Item = Vec<u32>>) -> Self {
        let (mut offsets, mut frames) = (vec![0], Vec::new());
        for mut list in lists {
            list.sort_unstable();
            frames.extend(list);
            offsets.push(frames.len() as u32);
        }
        Self { offsets, frames }
    }

    /// One query frame that sees all of `frames` key frames.
    pub fn of_one_query_frame(frames: usize) -> Self {
        Self { offsets: vec![0, frames as u32], frames: (0..frames as u32).collect() }
    }

    /// The lists of some query frames alone; the key frames keep their numbers.
    ///
    /// # Panics
    /// The range is not one of query frames.
    #[must_use]
    pub fn query_part(&self, queries: std::ops::Range<usize>) -> Self {
        let offsets = &self.offsets[queries.start..=queries.end];
        let (begin, end) = (offsets[0], offsets[offsets.len() - 1]);
        Self {
            offsets: offsets.iter().map(|offset| offset - begin).collect(),
            frames: self.frames[begin as usize..end as usize].to_vec(),
        }
    }

    /// How many query frames there are.
    pub fn query_frames(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Where each query frame's list begins in [`Self::frames`]; one entry more than there are frames, the last being the
    /// end.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// All lists, one after the other.
    pub fn frames(&self) -> &[u32] {
        &self.frames
    }

    /// The key frames of one query frame.
    pub fn of(&self, query: usize) -> &[u32] {
        &self.frames[self.offsets[query] as usize..self.offsets[query + 1] as usize]
    }

    /// The same tiles seen from the keys: for each of `key_frames` frames the query frames that keep it, in ascending order.
    /// A frame that nobody keeps has an empty list.
    ///
    /// # Panics
    /// If a kept frame is not below `key_frames`.
    #[must_use]
    pub fn transposed(&self, key_frames: usize) -> Self {
        let mut offsets = vec![0; key_frames + 1];
        for &key in &self.frames {
            offsets[key as usize + 1] += 1;
        }
        for key in 0..key_frames {
            offsets[key + 1] += offsets[key];
        }
        let mut next = offsets.clone();
        let mut frames = vec![0; self.frames.len()];
        for query in 0..self.query_frames() {
            for &key in self.of(query) {
                frames[next[key as usize] as usize] = query as u32;
                next[key as usize] += 1;
            }
        }
        Self { offsets, frames }
    }

    /// Whether a query frame sees all frames, so that its keys lie in one piece.
    pub fn is_dense(&self, query: usize) -> bool {
        self.of(query).len() + 1 == self.offsets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_masks_are_refused() {
        assert!(matches!(FrameMask::full(0), Err(MaskError::Frames(0))));
        assert!(matches!(FrameMask::full(usize::MAX), Err(MaskError::Frames(_))));
        assert!(matches!(FrameMask::new(2, vec![true; 3]), Err(MaskError::MatrixSize { frames: 2, entries: 3 })));
        assert!(matches!(FrameMask::new(2, vec![true, false, false, false]), Err(MaskError::BlindFrame(1))));
    }

    #[test]
    fn transposed_lists_are_the_same_tiles() {
        let mask = FrameMask::new(3, vec![true, false, true, true, true, true, true, false, false]).unwrap();
        let keys = mask.key_frames();
        let queries = keys.transposed(4);
        assert_eq!(queries.offsets(), [0, 3, 4, 6, 6]);
        assert_eq!(queries.frames(), [0, 1, 2, 1, 0, 1]);
        assert_eq!(queries.transposed(3), keys);
        assert_eq!(KeyFrames::of_one_query_frame(2).transposed(2).frames(), [0, 0]);
    }

    #[test]
    fn key_frames_list_the_kept_tiles() {
        let mask = FrameMask::new(3, vec![true, false, true, true, true, true, false, true, false]).unwrap();
        let keys = mask.key_frames();
        assert_eq!(keys.offsets(), [0, 2, 5, 6]);
        assert_eq!(keys.frames(), [0, 2, 0, 1, 2, 1]);
        assert_eq!(keys.of(1), [0, 1, 2]);
        assert_eq!([0, 1, 2].map(|query| keys.is_dense(query)), [false, true, false]);
        let part = keys.query_part(1..3);
        assert_eq!((part.query_frames(), part.offsets(), part.frames()), (2, &[0, 3, 4][..], &[0, 1, 2, 1][..]));
        for query in 0..3 {
            for key in 0..3 {
                assert_eq!(mask.keeps(query, key), keys.of(query).contains(&(key as u32)));
            }
        }
    }
}
