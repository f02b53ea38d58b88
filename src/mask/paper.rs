//! The plans that Efficient-vDiT (arXiv 2502.06155) measured: those of its Table 2, which its search found for Open-Sora-Plan
//! v1.2 at 29 frames.
//!
//! The paper prints each plan's sparsity and time, not its layers. How many layers have which mask follows from both (the only
//! monotone solution over 32 layers); which layer has which is not published, so here they are spread evenly.

use super::{LayerMask, MaskError, MaskPlan};

/// Layers of the published transformer.
const LAYERS: usize = 32;

/// Reference frames of the masks of [`COUNTS`]; none is full attention.
const REFERENCES: [Option<usize>; 4] = [None, Some(4), Some(2), Some(1)];

/// The search's threshold r, and how many layers have each mask of [`REFERENCES`].
const COUNTS: [(&str, [usize; 4]); 5] = [
    ("r0.025", [3, 21, 7, 1]),
    ("r0.050", [2, 11, 11, 8]),
    ("r0.100", [2, 6, 11, 13]),
    ("r0.200", [2, 4, 5, 21]),
    ("r0.400", [2, 2, 4, 24]),
];

/// The masks whose kernels Table 1 times at so many latent frames, full attention first; for other lengths than those of 29 and
/// 93 frames, full attention and one reference frame.
pub fn measured_masks(frames: usize) -> Vec<String> {
    let references: &[usize] = match frames {
        8 => &[1, 2, 3, 4],
        24 => &[3, 4, 6, 8, 12],
        0 | 1 => &[],
        _ => &[1],
    };
    let names = references.iter().map(|references| format!("{references}:{}", frames - references));
    std::iter::once("full".to_owned()).chain(names).collect()
}

/// The searched plan of this name (`r0.025`, also `r0.05`) for `layers` layers and `frames` latent frames; none if there is no
/// such plan. With another number of layers than the paper's 32, the masks have the same shares of them as nearly as whole
/// layers allow; with another number of frames, the same numbers of reference frames.
///
/// # Errors
/// There are no frames or layers, or too many.
pub fn searched_plan(name: &str, layers: usize, frames: usize) -> Option<Result<MaskPlan, MaskError>> {
    let threshold = |name: &str| name.strip_prefix('r')?.parse::<f64>().ok();
    let wanted = threshold(name)?;
    let (_, counts) = COUNTS.iter().find(|(name, _)| threshold(name) == Some(wanted))?;
    let spread = spread(&apportioned(counts, layers));
    let mask = |layer: usize| match REFERENCES[spread[layer]] {
        Some(references) if references < frames => LayerMask::of_family(&super::MaskFamily::paper(references), frames),
        _ => LayerMask::full(frames),
    };
    Some((0..layers).map(mask).collect::<Result<Vec<_>, _>>().and_then(MaskPlan::of_layers))
}

/// The counts of 32 layers for another number of them: the largest remainders are rounded up.
fn apportioned(counts: &[usize; 4], layers: usize) -> [usize; 4] {
    let mut shares = counts.map(|count| count * layers / LAYERS);
    let mut order = [0, 1, 2, 3];
    order.sort_by_key(|&mask| std::cmp::Reverse(counts[mask] * layers % LAYERS));
    let left = layers - shares.iter().sum::<usize>();
    order.iter().take(left).for_each(|&mask| shares[mask] += 1);
    shares
}

/// Which mask each layer has: every mask's layers at even distances, the sparsest masks in between.
fn spread(counts: &[usize; 4]) -> Vec<usize> {
    let mut places: Vec<(f64, usize)> = Vec::new();
    for (mask, &count) in counts.iter().enumerate() {
        places.extend((0..count).map(|index| ((index as f64 + 0.5) / count as f64, mask)));
    }
    places.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    places.into_iter().map(|(_, mask)| mask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sparsities of Table 2, which counts blocks of 128 tokens.
    #[test]
    fn the_plans_have_the_papers_sparsities() {
        for (name, sparsity) in [("r0.025", 23.51), ("r0.05", 37.78), ("r0.1", 45.08), ("r0.2", 51.55), ("r0.4", 55.07)] {
            let plan = searched_plan(name, 32, 8).unwrap().unwrap();
            let mean = plan.blocks(3600, 128).sparsity();
            assert!((100.0 * mean - sparsity).abs() < 0.011, "{name}: {mean}");
        }
    }

    /// Sparsities of Table 1.
    #[test]
    fn the_measured_masks_have_the_papers_sparsities() {
        let sparsities = |frames: usize| -> Vec<f64> {
            let plans = measured_masks(frames).into_iter().map(|name| MaskPlan::uniform(1, frames, &name).unwrap());
            plans.map(|plan| 100.0 * plan.blocks(3600, 128).sparsity()).collect()
        };
        for (frames, want) in [(8, vec![0.0, 64.38, 45.47, 29.88, 17.60]), (24, vec![0.0, 72.05, 64.98, 51.88, 40.30, 21.51])] {
            let got = sparsities(frames);
            assert_eq!(got.len(), want.len());
            assert!(got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 0.006), "{got:?} {want:?}");
        }
        assert_eq!(measured_masks(1), ["full"]);
    }

    #[test]
    fn fewer_layers_and_more_frames_keep_the_mixture() {
        let plan = searched_plan("r0.4", 8, 24).unwrap().unwrap();
        assert_eq!((plan.layers().len(), plan.frames()), (8, 24));
        // 24 of 32 layers have one reference frame, 4 have two.
        let with = |plan: &MaskPlan, references: usize| {
            plan.layers().iter().filter(|layer| layer.reference_frames().len() == references).count()
        };
        assert_eq!((with(&plan, 1), with(&plan, 2)), (6, 1));
        for layers in [1, 3, 12, 31, 33, 64] {
            let plan = searched_plan("r0.4", layers, 8).unwrap().unwrap();
            assert_eq!(plan.layers().len(), layers);
            assert!((with(&plan, 1) as f64 - 0.75 * layers as f64).abs() < 1.0, "{layers} layers");
        }
        assert!(searched_plan("r0.3", 32, 8).is_none() && searched_plan("full", 32, 8).is_none());
        assert!(searched_plan("r0.4", 32, 0).unwrap().is_err());
        assert!(searched_plan("r0.4", 0, 8).unwrap().is_err());
    }
}
