//! Who does what: frames by speed, and the two rows of a guided call.

use std::ops::Range;

/// Ranks that make the same rows of a call together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subgroup {
    /// Of the batch.
    pub rows: Range<usize>,
    /// Ascending ranks.
    pub members: Vec<usize>,
    /// The frames of each member, contiguous and in order.
    pub frames: Vec<Range<usize>>,
}

/// The whole team in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrangement {
    pub groups: Vec<Subgroup>,
}

/// Frames for ranks of these speeds, such that the slowest is done as early as whole frames allow. Everyone gets a frame; where
/// there are fewer frames than ranks, only the first ranks get one.
pub fn deal(frames: usize, speeds: &[f64]) -> Vec<Range<usize>> {
    let ranks = speeds.len().min(frames);
    let mut counts = vec![1; ranks];
    for _ in ranks..frames {
        let time = |rank: usize| (counts[rank] + 1) as f64 / speeds[rank];
        let next = (0..ranks).min_by(|&a, &b| time(a).total_cmp(&time(b))).unwrap_or_default();
        counts[next] += 1;
    }
    in_order(&counts)
}

/// Heads for ranks of these speeds, as [`deal`], but a rank may get none.
pub fn deal_heads(heads: usize, speeds: &[f64]) -> Vec<Range<usize>> {
    let mut counts = vec![0; speeds.len()];
    for _ in 0..heads {
        let time = |rank: usize| (counts[rank] + 1) as f64 / speeds[rank];
        let next = (0..counts.len()).min_by(|&a, &b| time(a).total_cmp(&time(b))).unwrap_or_default();
        counts[next] += 1;
    }
    in_order(&counts)
}

fn in_order(counts: &[usize]) -> Vec<Range<usize>> {
    let ends = counts.iter().scan(0, |end, count| {
        *end += count;
        Some(*end)
    });
    ends.zip(counts).map(|(end, count)| end - count..end).collect()
}

impl Subgroup {
    fn new(rows: Range<usize>, members: Vec<usize>, frames: usize, speeds: &[f64]) -> Self {
        let own: Vec<f64> = members.iter().map(|&rank| speeds[rank]).collect();
        let frames = deal(frames, &own);
        let members = members[..frames.len()].to_vec();
        Self { rows, members, frames }
    }

    /// What the slowest member takes, in frames at speed 1.
    fn time(&self, speeds: &[f64]) -> f64 {
        let times = self.members.iter().zip(&self.frames).map(|(&rank, frames)| frames.len() as f64 / speeds[rank]);
        self.rows.len() as f64 * times.fold(0.0, f64::max)
    }
}

impl Arrangement {
    /// For a call of so many latent frames and rows (2 with guidance). Speeds are relative, one a rank. Two rows go to two halves of
    /// the ranks, which then exchange half as much, unless the halves would be too unlike.
    pub fn new(frames: usize, rows: usize, speeds: &[f64]) -> Self {
        let together = Subgroup::new(0..rows, (0..speeds.len()).collect(), frames, speeds);
        if rows != 2 || speeds.len() < 2 {
            return Self { groups: vec![together] };
        }
        let mut order: Vec<usize> = (0..speeds.len()).collect();
        order.sort_by(|&a, &b| speeds[b].total_cmp(&speeds[a]).then(a.cmp(&b)));
        let mut halves = [(0.0, Vec::new()), (0.0, Vec::new())];
        for rank in order {
            let lighter = usize::from(halves[1].0 < halves[0].0);
            halves[lighter].0 += speeds[rank];
            halves[lighter].1.push(rank);
        }
        let groups = halves.map(|(_, mut members)| {
            members.sort_unstable();
            members
        });
        let apart: Vec<_> =
            groups.into_iter().enumerate().map(|(row, members)| Subgroup::new(row..row + 1, members, frames, speeds)).collect();
        let time = apart.iter().map(|group| group.time(speeds)).fold(0.0, f64::max);
        if time <= together.time(speeds) * (1.0 + 1e-9) { Self { groups: apart } } else { Self { groups: vec![together] } }
    }

    /// The group of a rank, and its place there; none if there is nothing for it to do.
    pub fn place(&self, rank: usize) -> Option<(usize, usize)> {
        let places = self.groups.iter().enumerate();
        places.filter_map(|(group, of)| Some((group, of.members.iter().position(|&member| member == rank)?))).next()
    }

    /// What the slowest rank takes, in frames at speed 1.
    pub fn time(&self, speeds: &[f64]) -> f64 {
        self.groups.iter().map(|group| group.time(speeds)).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_dealt_by_speed() {
        assert_eq!(deal(8, &[1.0, 1.0, 1.0]), [0..3, 3..6, 6..8]);
        assert_eq!(deal(9, &[2.0, 1.0]), [0..6, 6..9]);
        assert_eq!(deal(3, &[100.0, 1.0, 1.0]), [0..1, 1..2, 2..3]);
        assert_eq!(deal(2, &[1.0; 4]), [0..1, 1..2]);
        assert_eq!(deal(5, &[1.0]), vec![0..5; 1]);
        assert_eq!(deal_heads(4, &[1.0; 3]), [0..2, 2..3, 3..4]);
        assert_eq!(deal_heads(1, &[1.0, 1.0]), [0..1, 1..1]);
    }

    /// Against all ways to deal.
    #[test]
    fn no_way_to_deal_is_faster() {
        let speeds = [1.0, 2.3, 0.7];
        for frames in 3..14 {
            let slowest = |counts: [usize; 3]| (0..3).map(|rank| counts[rank] as f64 / speeds[rank]).fold(0.0, f64::max);
            let ways = (1..frames - 1).flat_map(|a| (1..frames - a).map(move |b| [a, b, frames - a - b]));
            let best = ways.map(slowest).fold(f64::INFINITY, f64::min);
            let dealt = deal(frames, &speeds);
            assert!(slowest([0, 1, 2].map(|rank: usize| dealt[rank].len())) <= best + 1e-12, "{frames}: {dealt:?}");
        }
    }

    #[test]
    fn guidance_splits_the_ranks_where_that_is_no_slower() {
        let two = Arrangement::new(8, 2, &[1.0; 2]);
        assert_eq!(two.groups.len(), 2);
        assert_eq!((two.groups[0].members.clone(), two.groups[1].members.clone()), (vec![0], vec![1]));
        let four = Arrangement::new(8, 2, &[1.0; 4]);
        assert!(four.groups.iter().all(|group| group.frames == [0..4, 4..8] && group.rows.len() == 1), "{four:?}");
        // Two rows on three devices: with 2 + 1 of them the single one would hold up the others.
        assert_eq!(Arrangement::new(24, 2, &[1.0; 3]).groups.len(), 1);
        // One that is as fast as the two others.
        let unlike = Arrangement::new(24, 2, &[1.0, 2.0, 1.0]);
        assert_eq!(unlike.groups.len(), 2);
        assert_eq!(unlike.groups[0].members, [1]);
        assert_eq!(unlike.place(2), Some((1, 1)));
        assert_eq!(Arrangement::new(2, 1, &[1.0; 4]).place(3), None);
        assert_eq!(Arrangement::new(1, 2, &[1.0; 2]).groups.len(), 2, "one frame, but two rows");
    }
}
