//! The one generator of random numbers of a training.
//!
//! Every number is a function of the run's seed, what it is for, the step and a place, so that there is no state: a run that
//! was stopped goes on with the numbers that it would have had.

use rayon::prelude::*;

use crate::model::noise;

/// What numbers are drawn for. The order is part of every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Initial values of a network.
    Initial,
    /// Which clip a sample is of.
    Clip,
    /// Which frame it begins with.
    FirstFrame,
    /// Which sentence goes with it.
    Sentence,
    /// Whether it goes without a sentence.
    Dropped,
    /// The time of diffusion.
    Time,
    /// Unit normal noise.
    Noise,
    /// The order of things.
    Order,
    /// Whether a time is one of a sampler's.
    Snapped,
    /// How long the clips of a step are.
    Length,
    /// Whether latents are halved before they are decoded.
    Halved,
    /// Steps that a student has behind it.
    Hop,
    /// Noise on a student's clips that others look at.
    LookedAt,
    /// The same in a critic's lesson, and its time.
    CriticNoise,
    CriticTime,
    /// Whether a sample is of a clip with a second object.
    SecondObject,
}

/// The generator of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    seed: u64,
}

/// Normal numbers made by one task of a processor's thread; even, because they come in pairs.
const CHUNK: usize = 1 << 14;

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed of a stream: far from those of the others and of neighbouring runs.
    fn stream(self, stream: Stream) -> u64 {
        noise::bits(self.seed, 0x7261_696E, stream as u64)
    }

    /// In [0, 1).
    pub fn uniform(self, stream: Stream, step: u64, place: u64) -> f64 {
        noise::uniform(self.stream(stream), step, place)
    }

    /// A whole number below `count`.
    pub fn below(self, stream: Stream, step: u64, place: u64, count: usize) -> usize {
        ((self.uniform(stream, step, place) * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// Standard normal noise.
    pub fn normal(self, stream: Stream, step: u64, count: usize) -> Vec<f32> {
        let seed = self.stream(stream);
        let mut values = vec![0.0; count];
        values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
            noise::fill_normal_from(seed, step, (chunk * CHUNK) as u64, values);
        });
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_steps_are_apart_and_repeat() {
        let random = Random::new(3);
        let draw = |stream, step| random.normal(stream, step, 3 * CHUNK + 5);
        let base = draw(Stream::Noise, 7);
        assert_eq!(base, draw(Stream::Noise, 7));
        // Threads and chunks make no difference.
        assert_eq!(base[..40_000], random.normal(Stream::Noise, 7, 40_000)[..]);
        for other in [draw(Stream::Noise, 8), draw(Stream::Initial, 7), Random::new(4).normal(Stream::Noise, 7, base.len())] {
            let product: f64 = base.iter().zip(&other).map(|(a, b)| f64::from(a * b)).sum();
            assert!((product / base.len() as f64).abs() < 5.0 / (base.len() as f64).sqrt());
        }
    }

    #[test]
    fn whole_numbers_stay_below() {
        let random = Random::new(1);
        let mut seen = [0; 5];
        (0..5000).for_each(|place| seen[random.below(Stream::Clip, 0, place, 5)] += 1);
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
    }
}
