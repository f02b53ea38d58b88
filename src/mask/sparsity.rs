//! What a mask saves, in whole numbers: live blocks of a block-sparse kernel.

use super::{FrameMask, MaskPlan};

/// Blocks of an attention matrix, as a block-sparse kernel sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blocks {
    /// Blocks with at least one kept element: those that are computed.
    pub live: u64,
    /// All blocks, partial ones at the end included.
    pub total: u64,
}

impl Blocks {
    /// The share of blocks that is left out, in [0, 1).
    pub fn sparsity(self) -> f64 {
        (self.total - self.live) as f64 / self.total as f64
    }
}

impl FrameMask {
    /// Live blocks of `block` x `block` tokens, with `tokens_per_frame` tokens a latent frame, counted as FlexAttention's
    /// `BlockMask` does: a block is live if any of its elements is. A frame of 3600 tokens is no multiple of 128, so blocks
    /// straddle frames and this sparsity lies below that of the tokens, which is 1 - [`FrameMask::density`].
    ///
    /// # Panics
    /// If `tokens_per_frame` or `block` is 0.
    pub fn blocks(&self, tokens_per_frame: usize, block: usize) -> Blocks {
        assert!(tokens_per_frame > 0 && block > 0, "frames and blocks hold tokens");
        let tokens = self.frames() * tokens_per_frame;
        // Blocks that touch the same frames share their fate: (first frame, last frame, how many such blocks).
        let mut groups: Vec<(usize, usize, u64)> = Vec::new();
        for start in (0..tokens).step_by(block) {
            let first = start / tokens_per_frame;
            let last = ((start + block).min(tokens) - 1) / tokens_per_frame;
            match groups.last_mut() {
                Some(group) if (group.0, group.1) == (first, last) => group.2 += 1,
                _ => groups.push((first, last, 1)),
            }
        }
        let mut blocks = Blocks { live: 0, total: 0 };
        for &(first_query, last_query, queries) in &groups {
            for &(first_key, last_key, keys) in &groups {
                let live = (first_query..=last_query).any(|query| (first_key..=last_key).any(|key| self.keeps(query, key)));
                blocks.total += queries * keys;
                blocks.live += if live { queries * keys } else { 0 };
            }
        }
        blocks
    }
}

impl MaskPlan {
    /// The blocks of all layers together; see [`FrameMask::blocks`].
    pub fn blocks(&self, tokens_per_frame: usize, block: usize) -> Blocks {
        self.layers().iter().map(|layer| layer.mask().blocks(tokens_per_frame, block)).fold(
            Blocks { live: 0, total: 0 },
            |sum, blocks| Blocks { live: sum.live + blocks.live, total: sum.total + blocks.total },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::{LayerMask, MaskFamily, Mode, Placement};

    /// Tokens of a latent frame at 720 x 1280.
    const TOKENS: usize = 45 * 80;

    /// Table 1 of the paper: frames, references, sparsity at blocks of 128, sparsity of the tokens; in percent.
    const TABLE_1: [(usize, usize, f64, f64); 9] = [
        (8, 4, 17.60, 18.75),
        (8, 3, 29.88, 31.25),
        (8, 2, 45.47, 46.88),
        (8, 1, 64.38, 65.63),
        (24, 12, 21.51, 22.92),
        (24, 8, 40.30, 41.67),
        (24, 6, 51.88, 53.13),
        (24, 4, 64.98, 65.97),
        (24, 3, 72.05, 72.92),
    ];

    #[test]
    fn all_sparsities_of_the_paper_are_reproduced() {
        for (frames, references, block_percent, token_percent) in TABLE_1 {
            let mask = MaskFamily::paper(references).frame_mask(frames).unwrap();
            let percent = 100.0 * mask.blocks(TOKENS, 128).sparsity();
            assert!((percent - block_percent).abs() < 0.01, "{references}:{}: {percent}", frames - references);
            let percent = 100.0 * (1.0 - mask.density());
            assert!((percent - token_percent).abs() < 0.01, "{references}:{}: {percent}", frames - references);
        }
    }

    /// The other placements do not fit the paper, so the test above can tell them apart.
    #[test]
    fn other_placements_miss_the_paper() {
        let percent = |placement, mode| {
            let mask = MaskFamily { placement, mode }.frame_mask(8).unwrap();
            100.0 * mask.blocks(TOKENS, 128).sparsity()
        };
        assert!((percent(Placement::First(4), Mode::Symmetric) - 18.25).abs() < 0.01);
        assert!((percent(Placement::First(2), Mode::Symmetric) - 45.91).abs() < 0.01);
        assert!((percent(Placement::SpacedFloor(3), Mode::Symmetric) - 29.87).abs() < 0.01);
        assert!(percent(Placement::StrideCeil(2), Mode::KvOnly) > 60.0);
    }

    /// Rows of the paper's Table 2, as layer counts (full, 4:4, 2:6, 1:7) that were solved for from its numbers.
    #[test]
    fn sparsities_of_whole_plans_are_reproduced() {
        for (counts, want) in [
            ([3, 21, 7, 1], 23.508),
            ([2, 11, 11, 8], 37.774),
            ([2, 6, 11, 13], 45.084),
            ([2, 4, 5, 21], 51.553),
            ([2, 2, 4, 24], 55.068),
        ] {
            let masks = [LayerMask::full(8), layer(4), layer(2), layer(1)];
            let layers = masks.into_iter().zip(counts).flat_map(|(mask, count)| vec![mask.unwrap(); count]);
            let plan = MaskPlan::of_layers(layers.collect()).unwrap();
            let percent = 100.0 * plan.blocks(TOKENS, 128).sparsity();
            assert!((percent - want).abs() < 0.001, "{percent} instead of {want}");
        }
        fn layer(references: usize) -> Result<LayerMask, crate::mask::MaskError> {
            LayerMask::of_family(&MaskFamily::paper(references), 8)
        }
    }

    /// Against the definition, element by element, on sizes that straddle in every way.
    #[test]
    fn blocks_are_live_if_any_element_is() {
        for (frames, references, tokens, block) in [(5, 2, 7, 4), (4, 1, 3, 5), (3, 0, 1, 2), (6, 2, 8, 8), (2, 1, 5, 64)] {
            let mask = MaskFamily::paper(references).frame_mask(frames).unwrap();
            let side = (frames * tokens).div_ceil(block);
            let mut live = vec![false; side * side];
            for query in 0..frames * tokens {
                for key in 0..frames * tokens {
                    live[query / block * side + key / block] |= mask.keeps(query / tokens, key / tokens);
                }
            }
            let want = Blocks { live: live.iter().filter(|&&live| live).count() as u64, total: (side * side) as u64 };
            assert_eq!(mask.blocks(tokens, block), want, "{frames} frames of {tokens}, blocks of {block}");
        }
    }
}
