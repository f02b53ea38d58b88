//! From measured errors to one mask a layer, or a layer and range of steps.

use super::bound::{Bound, Problem};

/// What a plan is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Every layer takes its sparsest mask whose error is below this; of equally sparse ones that of the least error.
    Threshold(f64),
    /// The fastest plan whose layers' mean error is at most this.
    MostLoss(f64),
    /// The plan of the least error whose attention takes at most so many milliseconds a call.
    MostMillis(f64),
    /// The plan of the least error that computes at most this share of all tiles.
    MostTiles(f64),
}

impl Goal {
    /// Whether masks cost what they compute, and not the time that it takes.
    pub fn counts_tiles(self) -> bool {
        matches!(self, Goal::Threshold(_) | Goal::MostTiles(_))
    }
}

/// The place of the sparsest mask below a threshold, and of equally sparse ones of that with the least error. `losses` are of the
/// masks before the dense one, sparsest first, and `tiles` how many each of them computes.
pub fn below(threshold: f64, losses: &[f64], tiles: &[f64]) -> usize {
    let Some(first) = losses.iter().position(|&loss| loss < threshold) else { return losses.len() };
    let as_sparse = (first..losses.len()).take_while(|&mask| tiles[mask] == tiles[first]);
    as_sparse.min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap_or(first)
}

/// Parts of a millisecond (or tile) that costs are counted in.
const UNITS: f64 = 1e6;

/// A way through the layers so far.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// In parts of [`UNITS`]: sums of whole numbers do not depend on their order.
    cost: u64,
    loss: f64,
    candidate: usize,
    /// The place of the way that it goes on from, among those of the layer before.
    before: usize,
}

/// What a plan costs, and what it changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TradeOff {
    /// Of all layers, in the unit of the candidates' costs.
    pub cost: f64,
    /// Mean over the layers.
    pub loss: f64,
}

/// The plans that are not both dearer and worse than another, cheapest first, as for [`choose`].
pub fn frontier(losses: &[Vec<f64>], costs: &[f64]) -> Vec<TradeOff> {
    let layers = ways(losses, &in_units(costs), None);
    let of = |way: &Way| TradeOff { cost: way.cost as f64 / UNITS, loss: way.loss / losses.len() as f64 };
    layers.last().map_or(Vec::new(), |ways| ways.iter().map(of).collect())
}

/// The mask of each layer, by its place among the candidates; none if no plan keeps the goal. `losses[layer]` has one entry
/// for each candidate but the dense one, whose error is 0; `costs` is what each candidate costs in any layer, the dense one last:
/// milliseconds, or tiles where the goal is a threshold or a share of them. Errors of layers count as independent of each other.
///
/// Only ways that are not both dearer and worse than another, and that may still lead to the best plan, are followed, so the
/// answer is exact.
pub fn choose(losses: &[Vec<f64>], costs: &[f64], goal: Goal) -> Option<Vec<usize>> {
    choose_of_ranges(losses, costs, goal, 1)
}

/// As [`choose`] for a mask of each layer in each of several equally long ranges of steps, which lie one behind the other in
/// `losses` and in the answer. A limit of error or cost is one of the mean over the ranges.
pub fn choose_of_ranges(losses: &[Vec<f64>], costs: &[f64], goal: Goal, ranges: usize) -> Option<Vec<usize>> {
    let most_cost = match goal {
        Goal::Threshold(threshold) => return Some(losses.iter().map(|losses| below(threshold, losses, costs)).collect()),
        Goal::MostLoss(_) => None,
        Goal::MostMillis(most) => Some(most * ranges as f64 * UNITS),
        Goal::MostTiles(share) => Some(share * losses.len() as f64 * costs.last().copied().unwrap_or(0.0) * UNITS),
    };
    let most_loss = if let Goal::MostLoss(most) = goal { most * losses.len() as f64 } else { 0.0 };
    let costs = in_units(costs);
    // One of the two is limited, the other is to be the least.
    let problem = Problem { losses, costs: &costs, limit: most_cost.unwrap_or(most_loss), is_cost_limited: most_cost.is_some() };
    let bound = Bound::of(&problem)?;
    let layers = ways(losses, &costs, Some(&bound));
    // Rising in cost and falling in error: the first that is good enough is the fastest, the last within the limit the best.
    let last = layers.last()?;
    let mut place = match most_cost {
        None => last.iter().position(|way| way.loss <= most_loss)?,
        Some(most) => last.iter().rposition(|way| way.cost as f64 <= most)?,
    };
    let mut chosen: Vec<usize> = Vec::with_capacity(layers.len());
    for ways in layers.iter().rev() {
        chosen.push(ways[place].candidate);
        place = ways[place].before;
    }
    chosen.reverse();
    Some(chosen)
}

fn in_units(costs: &[f64]) -> Vec<u64> {
    costs.iter().map(|cost| (cost * UNITS).round() as u64).collect()
}

/// Of each layer the ways up to it that are not both dearer and worse than another, cheapest first; with a bound those alone
/// that may lead to the best plan.
fn ways(losses: &[Vec<f64>], costs: &[u64], bound: Option<&Bound>) -> Vec<Vec<Way>> {
    let mut layers: Vec<Vec<Way>> = Vec::with_capacity(losses.len());
    for (layer, of_layer) in losses.iter().enumerate() {
        let start = [Way { cost: 0, loss: 0.0, candidate: 0, before: 0 }];
        let before = layers.last().map_or(&start[..], Vec::as_slice);
        let of = |candidate: usize| of_layer.get(candidate).copied().unwrap_or(0.0);
        let mut ways: Vec<Way> = Vec::with_capacity(before.len() * costs.len());
        for (place, way) in before.iter().enumerate() {
            let steps = costs.iter().enumerate().map(|(candidate, cost)| Way {
                cost: way.cost + cost,
                loss: way.loss + of(candidate),
                candidate,
                before: place,
            });
            ways.extend(steps.filter(|way| bound.is_none_or(|bound| bound.may_lead_to_best(layer, way.cost, way.loss))));
        }
        ways.sort_by(|a, b| a.cost.cmp(&b.cost).then(a.loss.total_cmp(&b.loss)));
        let mut least = f64::INFINITY;
        ways.retain(|way| {
            let is_better = way.loss < least;
            least = least.min(way.loss);
            is_better
        });
        layers.push(ways);
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::noise::uniform;

    /// All plans of a few layers, by force.
    fn all_plans(layers: usize, candidates: usize) -> impl Iterator<Item = Vec<usize>> {
        (0..candidates.pow(layers as u32))
            .map(move |number| (0..layers).map(|layer| number / candidates.pow(layer as u32) % candidates).collect())
    }

    #[test]
    fn the_choice_is_that_of_trying_every_plan() {
        let (layers, candidates) = (5, 4);
        for seed in 0..20 {
            let losses: Vec<Vec<f64>> = (0..layers as u64)
                .map(|layer| {
                    (0..3).map(|candidate| uniform(seed, layer, candidate) * [4.0, 2.0, 1.0][candidate as usize]).collect()
                })
                .collect();
            // The second candidate is slower than the third on some devices.
            let millis = [1.0, 2.0 + uniform(seed, 9, 0), 2.5, 4.0];
            let loss = |plan: &[usize]| {
                plan.iter().zip(&losses).map(|(&candidate, losses)| losses.get(candidate).copied().unwrap_or(0.0)).sum::<f64>()
            };
            let time = |plan: &[usize]| plan.iter().map(|&candidate| millis[candidate]).sum::<f64>();
            for share in [0.0, 0.1, 0.4, 0.8, 1.0] {
                let most = share * 4.0;
                let chosen = choose(&losses, &millis, Goal::MostLoss(most)).expect("the dense plan has no error");
                let fastest = all_plans(layers, candidates).filter(|plan| loss(plan) <= most * layers as f64);
                let fastest = fastest.map(|plan| time(&plan)).fold(f64::INFINITY, f64::min);
                assert!(loss(&chosen) <= most * layers as f64 && (time(&chosen) - fastest).abs() < 1e-5, "{seed} {most}");

                let most = 5.0 + share * 15.0;
                let chosen = choose(&losses, &millis, Goal::MostMillis(most)).expect("all sparse is 5 ms");
                let best = all_plans(layers, candidates).filter(|plan| time(plan) <= most + 1e-9);
                let best = best.map(|plan| loss(&plan)).fold(f64::INFINITY, f64::min);
                assert!(time(&chosen) <= most + 1e-5 && (loss(&chosen) - best).abs() < 1e-9, "{seed} {most}");
            }
            assert_eq!(choose(&losses, &millis, Goal::MostMillis(4.9)), None);
            // The frontier is what no other plan beats in both.
            let frontier = frontier(&losses, &millis);
            for plan in all_plans(layers, candidates) {
                let (time, loss) = (time(&plan), loss(&plan) / layers as f64);
                assert!(frontier.iter().any(|point| point.cost <= time + 1e-5 && point.loss <= loss + 1e-9), "{plan:?}");
            }
            let falls = |pair: &[TradeOff]| pair[0].cost < pair[1].cost && pair[0].loss > pair[1].loss;
            assert!(frontier.windows(2).all(falls) && frontier.last().is_some_and(|dense| dense.loss == 0.0));
            // As costs of tiles: half of all is as much as 10 of 5 * 4.
            let half = choose(&losses, &millis, Goal::MostTiles(0.5));
            assert_eq!(half, choose(&losses, &millis, Goal::MostMillis(10.0)));
        }
    }

    #[test]
    fn a_threshold_takes_the_sparsest_below_it() {
        let losses = vec![vec![0.9, 0.2, 0.05], vec![0.1, 0.3, 0.01], vec![0.9, 0.8, 0.7]];
        assert_eq!(choose(&losses, &[1.0, 2.0, 3.0, 4.0], Goal::Threshold(0.25)), Some(vec![1, 0, 3]));
        // The first two are equally sparse, and so are the next two: the better of them is taken, if both are below.
        let losses = [[0.9, 0.1, 0.02, 0.05], [0.2, 0.1, 0.0, 0.0], [0.1, 0.2, 0.0, 0.0], [0.3, 0.3, 0.24, 0.01], [0.9; 4]];
        let losses = losses.map(Vec::from);
        assert_eq!(choose(&losses, &[1.0, 1.0, 2.0, 2.0, 4.0], Goal::Threshold(0.25)), Some(vec![1, 1, 0, 3, 4]));
    }

    /// The published model has 32 layers: every number of layers of each mask is a way of its own.
    #[test]
    fn many_layers_are_chosen_in_time() {
        let losses: Vec<Vec<f64>> =
            (0..32).map(|layer| (0..6).map(|mask| uniform(1, layer, mask) / (1.0 + mask as f64)).collect()).collect();
        // As many reference frames and as far neighbours take nearly the same time.
        let millis = [20.65, 20.71, 31.35, 31.42, 40.08, 46.52, 58.36];
        let chosen = choose(&losses, &millis, Goal::MostMillis(1000.0)).expect("a plan");
        assert!(chosen.iter().map(|&mask| millis[mask]).sum::<f64>() <= 1000.0);
        // In eight ranges of steps, with eight times the ways to choose.
        let losses: Vec<Vec<f64>> =
            (0..8 * 32).map(|layer| losses[layer % 32].iter().map(|loss| loss / (1 + layer / 32) as f64).collect()).collect();
        let chosen = choose_of_ranges(&losses, &millis, Goal::MostMillis(1000.0), 8).expect("a plan");
        assert!(chosen.iter().map(|&mask| millis[mask]).sum::<f64>() / 8.0 <= 1000.0);
        assert!(choose_of_ranges(&losses, &millis, Goal::MostLoss(0.05), 8).is_some());
    }

    /// Two layers in two ranges of steps, by trying all plans: a limit is one of the mean over the ranges.
    #[test]
    fn the_choice_of_ranges_is_that_of_trying_every_plan() {
        let (layers, ranges, millis) = (2, 2, [1.0, 1.7, 3.0]);
        for seed in 0..20 {
            let losses: Vec<Vec<f64>> = (0..(layers * ranges) as u64)
                .map(|place| (0..2).map(|mask| uniform(seed, place, mask) / (1.0 + mask as f64)).collect())
                .collect();
            let loss = |plan: &[usize]| -> f64 {
                let of = |(&mask, losses): (&usize, &Vec<f64>)| losses.get(mask).copied().unwrap_or(0.0);
                plan.iter().zip(&losses).map(of).sum::<f64>() / (layers * ranges) as f64
            };
            // Of a call, on average.
            let time = |plan: &[usize]| plan.iter().map(|&mask| millis[mask]).sum::<f64>() / ranges as f64;
            let plans = || all_plans(layers * ranges, millis.len());
            for most in [2.0, 2.6, 3.9, 6.0] {
                let got = choose_of_ranges(&losses, &millis, Goal::MostMillis(most), ranges).expect("all sparse is 2 ms");
                let best = plans().filter(|plan| time(plan) <= most + 1e-9).map(|plan| loss(&plan)).fold(f64::INFINITY, f64::min);
                assert!(time(&got) <= most + 1e-6 && (loss(&got) - best).abs() < 1e-12, "{seed} {most}");
                let got = choose_of_ranges(&losses, &millis, Goal::MostLoss(most / 20.0), ranges).expect("dense has no error");
                let fastest =
                    plans().filter(|plan| loss(plan) <= most / 20.0).map(|plan| time(&plan)).fold(f64::INFINITY, f64::min);
                assert!(loss(&got) <= most / 20.0 && (time(&got) - fastest).abs() < 1e-6, "{seed} {most}");
                let got = choose_of_ranges(&losses, &millis, Goal::MostTiles(most / 6.0), ranges).expect("a third is enough");
                let got_of_millis = choose_of_ranges(&losses, &millis, Goal::MostMillis(most), ranges);
                assert_eq!(Some(got), got_of_millis, "as costs of tiles the dense plan has 6 a call");
            }
            assert_eq!(choose_of_ranges(&losses, &millis, Goal::MostMillis(1.9), ranges), None);
            let by_threshold = choose_of_ranges(&losses, &millis, Goal::Threshold(0.4), ranges).expect("a threshold can be kept");
            let by_hand: Vec<usize> = losses.iter().map(|of| (0..2).find(|&mask| of[mask] < 0.4).unwrap_or(2)).collect();
            assert_eq!(by_threshold, by_hand);
        }
    }
}
