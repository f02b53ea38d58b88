//! The trade-off of a search as a chart shows it: what plans cost, and what they change.

use serde::{Deserialize, Serialize};

use crate::training::search::candidates::Candidates;
use crate::training::search::choose::{Goal, choose, frontier};
use crate::training::search::measure::Row;

/// Points of a chart; more could not be told apart.
const MOST_POINTS: usize = 96;

/// A plan's place in the chart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanPoint {
    /// Mean error over all layers of the model.
    pub loss: f64,
    /// Share of all tiles that are computed, 0 to 1.
    pub tiles: f64,
    /// Of the attention of all layers for one call of one clip.
    pub millis: f64,
}

/// What is known so far; layers that were not measured yet count as dense.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    pub layers_measured: usize,
    pub layers: usize,
    /// The plans that none beats in error and tiles, cheapest first.
    pub by_tiles: Vec<(f64, f64)>,
    /// The same in error and milliseconds.
    pub by_millis: Vec<(f64, f64)>,
    /// All measured layers with the same mask, by its name.
    pub uniform: Vec<(String, PlanPoint)>,
    /// The plan that the goal would choose now.
    pub chosen: Option<PlanPoint>,
    pub dense_millis: f64,
}

impl Trade {
    /// Of the layers that were measured; `millis` is what each candidate takes in one layer, the dense one last.
    pub(super) fn of(rows: &[Row], layers: usize, candidates: &Candidates, millis: &[f64], goal: Goal) -> Self {
        let tiles = candidates.tiles();
        let losses: Vec<Vec<f64>> = rows.iter().map(|row| row.losses.clone()).collect();
        let (dense, measured, all) = (candidates.dense(), rows.len(), layers.max(1) as f64);
        let unmeasured = (layers - measured.min(layers)) as f64;
        let (dense_tiles, dense_millis) = (tiles[dense], millis[dense]);
        let point = |masks: &[usize]| PlanPoint {
            loss: masks.iter().zip(rows).map(|(&mask, row)| row.losses.get(mask).copied().unwrap_or(0.0)).sum::<f64>() / all,
            tiles: (masks.iter().map(|&mask| tiles[mask]).sum::<f64>() + unmeasured * dense_tiles) / (all * dense_tiles),
            millis: masks.iter().map(|&mask| millis[mask]).sum::<f64>() + unmeasured * dense_millis,
        };
        let scale = measured as f64 / all;
        let line = |costs: &[f64], dense_cost: f64, unit: f64| -> Vec<(f64, f64)> {
            let points = frontier(&losses, costs);
            let step = points.len().div_ceil(MOST_POINTS).max(1);
            let last = points.len().saturating_sub(1);
            let kept = points.iter().enumerate().filter(|(place, _)| place % step == 0 || *place == last);
            kept.map(|(_, point)| ((point.cost + unmeasured * dense_cost) / unit, point.loss * scale)).collect()
        };
        let costs = if goal.counts_tiles() { &tiles[..] } else { millis };
        // A limit holds for the whole plan, so there is no choice before all layers are known.
        let is_final = measured == layers || matches!(goal, Goal::Threshold(_));
        let chosen = is_final.then(|| choose(&losses, costs, goal)).flatten();
        Self {
            layers_measured: measured,
            layers,
            by_tiles: line(&tiles, dense_tiles, all * dense_tiles),
            by_millis: line(millis, dense_millis, 1.0),
            uniform: candidates
                .names()
                .into_iter()
                .enumerate()
                .map(|(mask, name)| (name, point(&vec![mask; measured])))
                .collect(),
            chosen: chosen.filter(|chosen| !chosen.is_empty()).map(|chosen| point(&chosen)),
            dense_millis: all * dense_millis,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_to_come_count_as_dense() {
        let candidates = Candidates::named(["1:3", "2:2"], 4).expect("masks");
        let rows = vec![Row { losses: vec![0.4, 0.1], fed_through: 1 }];
        let trade = Trade::of(&rows, 2, &candidates, &[1.0, 2.0, 3.0], Goal::Threshold(0.2));
        let chosen = trade.chosen.expect("2:2 is below");
        assert_eq!((chosen.loss, chosen.millis), (0.05, 5.0));
        // 2:2 of 4 frames keeps 12 + 2 of 16 tiles, 1:3 keeps 7 + 3.
        assert!((chosen.tiles - (14.0 + 16.0) / 32.0).abs() < 1e-12);
        assert_eq!(trade.by_millis, [(4.0, 0.2), (5.0, 0.05), (6.0, 0.0)]);
        assert_eq!(trade.uniform[0].1.tiles, (10.0 + 16.0) / 32.0);
        let limited = Trade::of(&rows, 2, &candidates, &[1.0, 2.0, 3.0], Goal::MostMillis(4.0));
        assert_eq!(limited.chosen, None, "not before both layers are measured");
    }
}
