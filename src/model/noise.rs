//! Standard normal noise as a pure function of (seed, draw, element).
//!
//! There is no generator state: element `i` of draw `d` under seed `s` is always the same number, so a run that stops and
//! goes on, or that computes only a part of a tensor, needs nothing but these three integers. A draw is one tensor of
//! noise; who uses which draw number is the caller's business (draw 0 for the first latent, draw `call + 1` for the noise
//! of a sampler's call).
//!
//! A recipe must mean the same clip on every machine, so only operations that IEEE 754 or this program define are used:
//! integers, `+ - * /`, square roots, and the logarithm, sine and cosine of the `libm` crate. Those of the standard
//! library call the platform's C library, which differs in the last bit between systems; `libm` is one and the same
//! Rust source everywhere.
//!
//! This room owns the counter-based stream (a splitmix64) and the Box-Muller transform on top of it.

use std::f64::consts::TAU;

/// Separates the streams of one seed.
const DRAW_MULTIPLIER: u64 = 0xD1B5_4A32_D192_ED03;
/// The increment of splitmix64.
const INCREMENT: u64 = 0x9E37_79B9_7F4A_7C15;

/// The 64 random bits of counter `index` in stream `draw` of `seed`: splitmix64, entered at any place.
pub fn bits(seed: u64, draw: u64, index: u64) -> u64 {
    let stream = seed ^ draw.wrapping_mul(DRAW_MULTIPLIER);
    let mut z = stream.wrapping_add(index.wrapping_add(1).wrapping_mul(INCREMENT));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A uniform number in [0, 1) with 53 random bits.
pub fn uniform(seed: u64, draw: u64, index: u64) -> f64 {
    (bits(seed, draw, index) >> 11) as f64 / (1_u64 << 53) as f64
}

/// One element of a draw of standard normal noise.
pub fn normal(seed: u64, draw: u64, element: u64) -> f32 {
    let (even, odd) = normal_pair(seed, draw, element / 2);
    if element.is_multiple_of(2) { even } else { odd }
}

/// Fills `out` with elements `0..out.len()` of a draw of standard normal noise.
pub fn fill_normal(seed: u64, draw: u64, out: &mut [f32]) {
    fill_normal_from(seed, draw, 0, out);
}

/// Fills `out` with elements `first..first + out.len()` of a draw of standard normal noise; `first` is even, because elements
/// come in pairs.
pub fn fill_normal_from(seed: u64, draw: u64, first: u64, out: &mut [f32]) {
    debug_assert!(first.is_multiple_of(2), "elements come in pairs");
    for (pair, elements) in out.chunks_mut(2).enumerate() {
        let (even, odd) = normal_pair(seed, draw, first / 2 + pair as u64);
        elements[0] = even;
        if let Some(last) = elements.get_mut(1) {
            *last = odd;
        }
    }
}

/// Box-Muller: elements `2 * pair` and `2 * pair + 1`, from the two counters of the same numbers.
fn normal_pair(seed: u64, draw: u64, pair: u64) -> (f32, f32) {
    let index = pair.wrapping_mul(2);
    // 1 - u lies in (0, 1], where the logarithm is finite: no element exceeds sqrt(2 * 53 * ln 2) = 8.6.
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - uniform(seed, draw, index)));
    let (sine, cosine) = libm::sincos(TAU * uniform(seed, draw, index.wrapping_add(1)));
    ((radius * cosine) as f32, (radius * sine) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(seed: u64, draw: u64, len: usize) -> Vec<f32> {
        let mut out = vec![0.0; len];
        fill_normal(seed, draw, &mut out);
        out
    }

    /// The published check value of this family of generators: `(z >> 40) * 2^-23 - 1` for seed 1, stream 1.
    #[test]
    fn bits_are_those_of_the_published_family() {
        let want = [-0.43550384044647217, 0.0436558723449707, -0.40277254581451416, -0.6096572875976562];
        for (index, want) in want.into_iter().enumerate() {
            let got = (bits(1, 1, index as u64) >> 40) as f64 / (1 << 23) as f64 - 1.0;
            assert_eq!(got, want);
        }
    }

    /// Any change here changes every clip that anybody has made: recipes would no longer reproduce.
    #[test]
    fn first_numbers_are_pinned() {
        assert_eq!(draw(0, 0, 4), [-1.8839084, 0.86450684, 0.22760794, -0.042112686]);
        assert_eq!(draw(42, 7, 4), [1.7631105, 1.5828797, 0.26887915, -1.1066759]);
    }

    #[test]
    fn an_element_does_not_depend_on_how_many_are_asked_for() {
        let long = draw(5, 3, 1001);
        assert_eq!(draw(5, 3, 77), long[..77]);
        for element in [0, 1, 2, 499, 1000] {
            assert_eq!(normal(5, 3, element as u64), long[element]);
        }
        // The far end of the counter is reachable and finite.
        assert!(normal(u64::MAX, u64::MAX, u64::MAX).is_finite());
    }

    /// Mean, variance, skewness and kurtosis of a million values, each within five standard errors.
    #[test]
    fn moments_are_those_of_a_standard_normal() {
        let len = 1 << 20;
        let values = draw(11, 0, len);
        let moment = |power: i32| values.iter().map(|&v| f64::from(v).powi(power)).sum::<f64>() / len as f64;
        let error = |variance: f64| 5.0 * (variance / len as f64).sqrt();
        assert!(moment(1).abs() < error(1.0), "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < error(2.0), "variance {}", moment(2));
        assert!(moment(3).abs() < error(15.0), "third moment {}", moment(3));
        assert!((moment(4) - 3.0).abs() < error(96.0), "fourth moment {}", moment(4));
    }

    /// Kolmogorov-Smirnov: the largest gap between the empirical and the true distribution function, against the bound
    /// that one good generator in a thousand exceeds (1.95 / sqrt(n)). The seed is fixed, so the test does not flicker.
    #[test]
    fn distribution_is_normal() {
        let len = 200_000;
        for number in 0..4 {
            let mut values = draw(2024, number, len);
            values.sort_by(f32::total_cmp);
            let gap = values
                .iter()
                .enumerate()
                .map(|(rank, &value)| {
                    let below = 0.5 * libm::erfc(-f64::from(value) / std::f64::consts::SQRT_2);
                    let (low, high) = (rank as f64 / len as f64, (rank + 1) as f64 / len as f64);
                    (below - low).abs().max((high - below).abs())
                })
                .fold(0.0, f64::max);
            assert!(gap < 1.95 / (len as f64).sqrt(), "draw {number}: gap {gap}");
        }
    }

    /// Correlation between draws, between seeds, between neighbours and between a pair's two halves.
    #[test]
    fn draws_are_independent() {
        let len = 100_000;
        let correlation = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() / a.len().min(b.len()) as f64
        };
        let bound = 5.0 / (len as f64).sqrt();
        let base = draw(1, 0, len);
        for other in 1..40 {
            assert!(correlation(&base, &draw(1, other, len)).abs() < bound, "draw {other}");
            assert!(correlation(&base, &draw(1 + other, 0, len)).abs() < bound, "seed {other}");
        }
        for lag in 1..40 {
            assert!(correlation(&base, &base[lag..]).abs() < bound, "lag {lag}");
        }
        // Squares: a pair shares its radius, which must not tie the sizes of its two halves.
        let squares: Vec<f32> = base.iter().map(|v| v * v - 1.0).collect();
        assert!(correlation(&squares, &squares[1..]).abs() < 2.0 * bound);
    }
}
