//! Clips of several lengths in one training: which length a step has, and how many samples of it.
//!
//! A batch has one shape, so all samples of a step are of one length. Which one is a function of the run's seed and the step
//! alone: a run that was stopped goes on with the lengths that it would have had.

use std::str::FromStr;

use crate::model::latent::{ClipSize, PIXELS_A_TOKEN};
use crate::training::error::TrainError;
use crate::training::random::{Random, Stream};

/// Other numbers of frames than the usual one, each with its share of the steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Also(pub Vec<(usize, f64)>);

impl Also {
    /// Beside clips of the world of so many frames: three times as long, and still pictures.
    pub fn of_world(frames: usize) -> Self {
        if frames == crate::world::scene::FRAMES { Self(vec![(93, 0.1), (1, 0.05)]) } else { Self::default() }
    }

    /// # Errors
    /// The usual number of frames is among them.
    pub fn check(&self, usual: usize) -> Result<(), TrainError> {
        if self.0.iter().any(|&(frames, _)| frames == usual) {
            return Err(TrainError::Settings(format!(
                "--also names {usual} frames, which most steps have anyhow. Name other lengths"
            )));
        }
        Ok(())
    }

    /// Every number of frames, ascending.
    pub fn with(&self, usual: usize) -> Vec<usize> {
        let mut frames: Vec<usize> = self.0.iter().map(|&(frames, _)| frames).chain([usual]).collect();
        frames.sort_unstable();
        frames
    }
}

impl FromStr for Also {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "none" {
            return Ok(Self::default());
        }
        let mut lengths = Vec::<(usize, f64)>::new();
        for piece in text.split(',') {
            let length = piece
                .split_once(':')
                .and_then(|(frames, share)| Some((frames.trim().parse::<usize>().ok()?, share.trim().parse::<f64>().ok()?)));
            let (frames, share) = length.ok_or("use FRAMES:SHARE, such as 93:0.1,1:0.05, or none")?;
            let any_side = PIXELS_A_TOKEN;
            ClipSize { frames, width: any_side, height: any_side }.check().map_err(|error| error.to_string())?;
            if share.is_nan() || share <= 0.0 {
                return Err(format!("the share of {frames} frames is above 0, such as 0.1"));
            }
            if lengths.iter().any(|&(other, _)| other == frames) {
                return Err(format!("{frames} frames are named twice"));
            }
            lengths.push((frames, share));
        }
        if lengths.iter().map(|(_, share)| share).sum::<f64>() >= 1.0 {
            return Err("the shares leave no steps for the usual length; their sum is below 1".into());
        }
        Ok(Self(lengths))
    }
}

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

    /// The clips of every length, the usual one first.
    pub fn clips(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.usual.clips).chain(self.others.iter().map(|(_, other)| &other.clips))
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

    #[test]
    fn other_lengths_are_read_with_their_shares() {
        assert_eq!("93:0.1, 1:0.05".parse(), Ok(Also::of_world(29)));
        assert_eq!("none".parse(), Ok(Also::of_world(17)));
        for (text, reason) in [
            ("", "FRAMES:SHARE"),
            ("93", "FRAMES:SHARE"),
            ("90:0.1", "The nearest are 89 and 93"),
            ("93:0", "above 0"),
            ("93:nan", "above 0"),
            ("93:0.1,93:0.2", "twice"),
            ("93:0.5,1:0.5", "below 1"),
        ] {
            let error = text.parse::<Also>().expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
        let also = Also::of_world(29);
        assert_eq!(also.with(29), [1, 29, 93]);
        also.check(29).expect("other lengths");
        assert!(also.check(93).expect_err("the usual one").to_string().contains("93 frames"));
    }
}
