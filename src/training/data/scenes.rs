//! Which of the world's clips a sample is of, where clips with a second object should come more often than the world has them.
//!
//! A sentence with two objects is the hardest that `mini` is asked: it must give each its own shape and colour.

use crate::training::error::TrainError;
use crate::training::random::{Random, Stream};
use crate::world::attributes::Attributes;

/// The world's clips from the first on, parted by whether they have a second object.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenes {
    /// Of the samples, with a second object; 0 to 1.
    share: f64,
    /// Numbers of clips, ascending: with one object, and with two.
    of_one: Vec<usize>,
    of_two: Vec<usize>,
}

impl Scenes {
    /// Among so many clips of a seed.
    pub fn of_world(seed: u64, clips: usize, share: f64) -> Self {
        let (of_two, of_one): (Vec<usize>, Vec<usize>) =
            (0..clips).partition(|&clip| Attributes::of_clip(seed, clip as u64).second.is_some());
        Self { share, of_one, of_two }
    }

    /// Whether there are clips of every kind that is asked for among the first ones.
    ///
    /// # Errors
    /// There is none.
    pub fn check(&self, clips: usize) -> Result<(), TrainError> {
        let is_missing = |of: &[usize], share: f64| share > 0.0 && first(of, clips).is_empty();
        if is_missing(&self.of_two, self.share) || is_missing(&self.of_one, 1.0 - self.share) {
            return Err(TrainError::Settings(format!(
                "of {clips} clips of the world none is of a kind that --second-objects asks for. Take more clips, or another share"
            )));
        }
        Ok(())
    }

    /// The clip of a sample, among the first `clips`, which [`Self::check`] let through.
    fn clip(&self, random: Random, step: u64, sample: u64, clips: usize) -> usize {
        let has_two = random.uniform(Stream::SecondObject, step, sample) < self.share;
        let of = first(if has_two { &self.of_two } else { &self.of_one }, clips);
        of[random.below(Stream::Clip, step, sample, of.len())]
    }
}

/// The clip of a sample, among the first `clips`: as often as `scenes` say, else all equally.
pub fn clip_of_sample(scenes: Option<&Scenes>, random: Random, step: u64, sample: u64, clips: usize) -> usize {
    match scenes {
        Some(scenes) => scenes.clip(random, step, sample, clips),
        None => random.below(Stream::Clip, step, sample, clips),
    }
}

/// Those below a number.
fn first(ascending: &[usize], clips: usize) -> &[usize] {
    &ascending[..ascending.partition_point(|&clip| clip < clips)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::scene::Scene;
    use crate::world::seeds;

    #[test]
    fn samples_have_two_objects_as_often_as_asked() {
        const CLIPS: usize = 400;
        let random = Random::new(5);
        for (share, clips) in [(0.6, CLIPS), (0.6, 40), (0.0, CLIPS), (1.0, CLIPS)] {
            let scenes = Scenes::of_world(seeds::TRANSFORMER, CLIPS, share);
            scenes.check(clips).unwrap();
            let chosen: Vec<usize> = (0..4000).map(|sample| scenes.clip(random, 3, sample, clips)).collect();
            let has_two = |&&clip: &&usize| Scene::of_clip(seeds::TRANSFORMER, clip as u64).attributes.second.is_some();
            let found = chosen.iter().filter(has_two).count() as f64 / 4000.0;
            assert!((found - share).abs() < 0.03, "{found} instead of {share}");
            assert!(chosen.iter().all(|&clip| clip < clips));
            let different: std::collections::BTreeSet<usize> = chosen.into_iter().collect();
            assert!(different.len() > clips / 6, "{} clips of {clips}", different.len());
        }
    }

    #[test]
    fn kinds_that_are_missing_are_told() {
        let has_two = |clip: &u64| Attributes::of_clip(seeds::TRANSFORMER, *clip).second.is_some();
        let first_of_two = (0..).find(has_two).unwrap() as usize;
        let scenes = Scenes::of_world(seeds::TRANSFORMER, first_of_two + 1, 0.5);
        let error = scenes.check(first_of_two).unwrap_err().to_string();
        assert!(error.contains("--second-objects"), "{error}");
        assert!(scenes.check(first_of_two + 1).is_ok());
    }
}
