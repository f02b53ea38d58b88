//! Clips of several lengths in one training: which length a step has, and how many samples of it.
//!
//! A batch has one shape, so all samples of a step are of one length. Which one is a function of the run's seed and the step
//! alone: a run that was stopped goes on with the lengths that it would have had.

use crate::training::random::{Random, Stream};

/// The clips of each length. Most steps have the first, each of the others has a share of them.
#[derive(Clone, Debug)]
pub struct Mix<T> {
    usual: Length<T>,
    others: Vec<(f64, Length<T>)>,
}

#[derive(Clone, Debug)]
struct Length<T> {
    latent_frames: usize,
    clips: T,
}

/// What a step learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion<'a, T> {
    pub clips: &'a T,
    /// Of the step.
    pub samples: usize,
    /// Samples whose gradients are made together.
    pub part: usize,
}

impl<T> Mix<T> {
    /// Clips of one length.
    pub fn of_one(latent_frames: usize, clips: T) -> Self {
        Self { usual: Length { latent_frames, clips }, others: Vec::new() }
    }

    /// Gives a share of the steps, 0 to 1, to clips of another length.
    pub fn add(&mut self, share: f64, latent_frames: usize, clips: T) {
        self.others.push((share, Length { latent_frames, clips }));
    }

    /// The clips that most steps have.
    pub fn usual(&self) -> &T {
        &self.usual.clips
    }

    /// The latent frames of every length, the usual one first.
    pub fn latent_frames(&self) -> Vec<usize> {
        std::iter::once(self.usual.latent_frames).chain(self.others.iter().map(|(_, other)| other.latent_frames)).collect()
    }

    /// What a step has, if one of the usual length has `batch` samples in parts of `part`.
    pub fn of_step(&self, random: Random, step: u64, [batch, part]: [usize; 2]) -> Portion<'_, T> {
        let mut drawn = random.uniform(Stream::Length, step, 0);
        for (share, other) in &self.others {
            if drawn < *share {
                return self.portion(other, [batch, part]);
            }
            drawn -= share;
        }
        Portion { clips: &self.usual.clips, samples: batch, part }
    }

    /// Attention makes a long clip dearer than its frames alone say: three times as long goes with a quarter of the samples.
    /// They come in as many parts as those of a step of the usual length, so that devices that share parts stay equally busy.
    fn portion<'a>(&self, length: &'a Length<T>, [batch, part]: [usize; 2]) -> Portion<'a, T> {
        let times_as_long = length.latent_frames.div_ceil(self.usual.latent_frames).next_power_of_two();
        if times_as_long == 1 {
            return Portion { clips: &length.clips, samples: batch, part };
        }
        let parts = batch.div_ceil(part.max(1));
        let samples = (batch / times_as_long).max(parts);
        Portion { clips: &length.clips, samples, part: samples.div_ceil(parts.max(1)) }
    }

    /// Samples of a step in the mean.
    pub fn samples_a_step(&self, [batch, part]: [usize; 2]) -> usize {
        let fewer = |(share, other): &(f64, Length<T>)| share * (batch - self.portion(other, [batch, part]).samples) as f64;
        (batch as f64 - self.others.iter().map(fewer).sum::<f64>()).round() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix() -> Mix<&'static str> {
        let mut mix = Mix::of_one(8, "usual");
        mix.add(0.1, 24, "long");
        mix.add(0.05, 1, "still");
        mix
    }

    #[test]
    fn every_length_has_its_share_of_the_steps() {
        let (mix, random) = (mix(), Random::new(4));
        let steps = 20_000;
        let lengths: Vec<&str> = (0..steps).map(|step| *mix.of_step(random, step, [128, 16]).clips).collect();
        for (name, share) in [("usual", 0.85), ("long", 0.1), ("still", 0.05)] {
            let found = lengths.iter().filter(|&&length| length == name).count() as f64 / steps as f64;
            // Four deviations of a count.
            let limit = 4.0 * (share * (1.0 - share) / steps as f64).sqrt();
            assert!((found - share).abs() < limit, "{name}: {found}");
        }
        let again: Vec<&str> = (0..steps).map(|step| *mix.of_step(random, step, [64, 64]).clips).collect();
        assert_eq!(lengths, again, "the length is a function of the seed and the step alone");
        assert_ne!(lengths[..200], (0..200).map(|step| *mix.of_step(Random::new(5), step, [1, 1]).clips).collect::<Vec<_>>());
    }

    #[test]
    fn long_clips_come_in_as_many_parts_with_fewer_samples() {
        let mix = mix();
        let of = |name: &str, sizes| {
            let portions = (0..1000).map(|step| mix.of_step(Random::new(4), step, sizes));
            let found = portions.into_iter().find(|portion| *portion.clips == name).expect("there is one");
            [found.samples, found.part]
        };
        assert_eq!(of("usual", [128, 16]), [128, 16]);
        assert_eq!(of("still", [128, 16]), [128, 16]);
        assert_eq!(of("long", [128, 16]), [32, 4]);
        assert_eq!(of("long", [128, 128]), [32, 32]);
        // At least one a part.
        assert_eq!(of("long", [6, 2]), [3, 1]);
        assert_eq!(of("long", [2, 2]), [1, 1]);
        assert_eq!(mix.samples_a_step([128, 16]), 118);
        assert_eq!(Mix::of_one(8, ()).samples_a_step([128, 16]), 128);
        assert_eq!(mix.latent_frames(), [8, 24, 1]);
    }
}
