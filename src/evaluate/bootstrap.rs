//! Intervals of means by drawing the samples again and again.

use crate::model::noise::uniform;

/// Draws of the samples.
const DRAWS: usize = 2000;
const SEED: u64 = 17;

/// A mean with the interval that holds it with 95 %.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Estimate {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

/// The mean of `values` with its interval by the percentile bootstrap.
pub fn estimate(values: &[f64]) -> Estimate {
    statistic(values.len(), &|places| mean(places.map(|place| values[place])))
}

/// The difference of two means over the same samples, drawn in pairs: `a - b`.
///
/// # Panics
/// There are not as many of one as of the other.
pub fn paired_difference(a: &[f64], b: &[f64]) -> Estimate {
    assert_eq!(a.len(), b.len(), "pairs are of the same samples");
    statistic(a.len(), &|places| mean(places.map(|place| a[place] - b[place])))
}

/// Any statistic of samples that are given by their places.
pub fn statistic(samples: usize, of: &dyn Fn(&mut dyn Iterator<Item = usize>) -> f64) -> Estimate {
    let whole = of(&mut (0..samples));
    let mut drawn: Vec<f64> = (0..DRAWS as u64)
        .map(|draw| {
            let place = |sample: u64| ((uniform(SEED, draw, sample) * samples as f64) as usize).min(samples.saturating_sub(1));
            of(&mut (0..samples as u64).map(place))
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    Estimate { mean: whole, low: percentile(&drawn, 0.025), high: percentile(&drawn, 0.975) }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    sum / count.max(1) as f64
}

/// On the straight line between the neighbours, of numbers in order.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of three values all 27 draws can be listed.
    #[test]
    fn the_interval_is_that_of_all_draws() {
        let values = [0.0, 1.0, 5.0];
        let mut all: Vec<f64> = (0..27).map(|i| (values[i % 3] + values[i / 3 % 3] + values[i / 9]) / 3.0).collect();
        all.sort_by(f64::total_cmp);
        let got = estimate(&values);
        assert!((got.mean - 2.0).abs() < 1e-12);
        // The outermost of 27 draws have 1/27 of the probability, which is more than 2.5 %.
        assert_eq!((got.low, got.high), (all[0], all[26]));
    }

    /// Of a mean of many values the interval is about two standard errors to both sides.
    #[test]
    fn many_values_have_the_normal_interval() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(crate::model::noise::normal(3, 0, i))).collect();
        let got = estimate(&values);
        let spread = values.iter().map(|value| (value - got.mean).powi(2)).sum::<f64>() / 400.0;
        let error = (spread / 400.0).sqrt();
        assert!(((got.high - got.mean) / error - 1.96).abs() < 0.2, "{got:?} {error}");
        assert!(((got.mean - got.low) / error - 1.96).abs() < 0.2, "{got:?} {error}");
    }

    /// What both share does not widen the interval of their difference.
    #[test]
    fn pairs_are_drawn_together() {
        let common: Vec<f64> = (0..200).map(|i| 10.0 * f64::from(crate::model::noise::normal(4, 0, i))).collect();
        let better: Vec<f64> = common.iter().map(|value| value + 0.5).collect();
        let got = paired_difference(&better, &common);
        assert!((got.low - 0.5).abs() < 1e-9 && (got.high - 0.5).abs() < 1e-9, "{got:?}");
    }
}
