//! Batches of a distillation: noise, times and sentences, and latents where the student learns from clips.

use rayon::prelude::*;

use crate::model::sampler::schedule::TRAINING_TIMESTEPS;
use crate::model::text::{TokenIds, Tokenizer};
use crate::training::data::captions::{Captions, tokens_of, tokens_of_clip};
use crate::training::data::latents::Latents;
use crate::training::data::mix::{Mix, Portion};
use crate::training::data::scenes::{Scenes, clip_of_sample};
use crate::training::error::TrainError;
use crate::training::pretrain::base::SENTENCES;
use crate::training::random::{Random, Stream};
use crate::training::run::Batches;
use crate::world::grammar::Detail;
use crate::world::seeds;

/// A part of a batch, on the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct DistillBatch {
    /// Clean latents `[samples, channels, frames, height, width]`, if there are clips.
    pub latents: Option<Vec<f32>>,
    /// Unit normal, of the same shape.
    pub noise: Vec<f32>,
    pub shape: [usize; 5],
    /// One a sample; they rise.
    pub times: Vec<usize>,
    pub captions: Captions,
}

/// Where a batch's latents are from.
#[derive(Debug)]
pub enum Clips {
    Encoded(Latents),
    /// Sentences alone, about so many clips of the world.
    Described {
        clips: usize,
        shape: [usize; 4],
    },
}

impl Clips {
    pub fn count(&self) -> usize {
        match self {
            Self::Encoded(latents) => latents.of.clips,
            Self::Described { clips, .. } => *clips,
        }
    }

    /// `[channels, frames, height, width]` of a latent.
    pub fn shape(&self) -> [usize; 4] {
        match self {
            Self::Encoded(latents) => latents.of.shape,
            Self::Described { shape, .. } => *shape,
        }
    }
}

/// Moves a share of the times to those at which a sampler asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Snap {
    /// Of the samples, 0 to 1.
    pub share: f64,
    /// The sampler's, ascending; there is at least one.
    pub times: Vec<usize>,
}

impl Snap {
    /// The sampler's next time from `time` upwards, or its last.
    fn of(&self, time: usize) -> usize {
        let next = self.times.partition_point(|&of_sampler| of_sampler < time);
        self.times[next.min(self.times.len() - 1)]
    }
}

/// Makes batches.
#[derive(Debug)]
pub struct DistillData {
    pub mix: Mix<Clips>,
    pub tokenizer: Tokenizer,
    /// Tokens of a sentence.
    pub max_tokens: usize,
    /// Samples of a step with clips of the usual length.
    pub batch: usize,
    /// Of them, those whose gradients are made together.
    pub part: usize,
    pub random: Random,
    pub snap: Option<Snap>,
    /// Share of the samples that go without their sentence, 0 to 1.
    pub dropped: f64,
    /// The sentence of a clip; without them those of the world.
    pub sentences: Option<Vec<String>>,
    /// Which of the world's clips come how often; without it all equally.
    pub scenes: Option<Scenes>,
}

impl DistillData {
    /// One time in each of as many equal spans as there are samples, then moved to the sampler's or not.
    fn time(&self, step: u64, sample: usize, samples: usize) -> usize {
        let within = self.random.uniform(Stream::Time, step, sample as u64);
        let time = (sample as f64 + within) / samples as f64 * TRAINING_TIMESTEPS as f64;
        let time = (time as usize).min(TRAINING_TIMESTEPS - 1);
        match &self.snap {
            Some(snap) if self.random.uniform(Stream::Snapped, step, sample as u64) < snap.share => snap.of(time),
            _ => time,
        }
    }

    fn tokens(&self, step: u64, place: u64, clip: usize) -> Result<TokenIds, TrainError> {
        let (tokenizer, length) = (&self.tokenizer, self.max_tokens);
        if self.random.uniform(Stream::Dropped, step, place) < self.dropped {
            return Ok(tokens_of(tokenizer, "", length)?);
        }
        if let Some(sentences) = &self.sentences {
            return Ok(tokens_of(tokenizer, &sentences[clip], length)?);
        }
        let variant = self.random.below(Stream::Sentence, step, place, SENTENCES) as u64;
        Ok(tokens_of_clip(tokenizer, seeds::TRANSFORMER, clip as u64, variant, Detail::Some, length)?)
    }
}

impl Batches for DistillData {
    type Batch = DistillBatch;

    fn make(&self, step: u64) -> Result<Vec<DistillBatch>, TrainError> {
        let Portion { clips, samples: all, part } = self.mix.of_step(self.random, step, [self.batch, self.part]);
        let [channels, frames, height, width] = clips.shape();
        let values = channels * frames * height * width;
        let noise = self.random.normal(Stream::Noise, step, all * values);
        let mut times: Vec<usize> = (0..all).map(|sample| self.time(step, sample, all)).collect();
        times.sort_unstable();
        let samples: Vec<usize> = (0..all).collect();
        let parts = samples.chunks(part.max(1)).map(|samples| {
            let range = samples[0]..samples[0] + samples.len();
            let clip_of = |&sample: &usize| clip_of_sample(self.scenes.as_ref(), self.random, step, sample as u64, clips.count());
            let chosen: Vec<usize> = samples.iter().map(clip_of).collect();
            let mut batch = DistillBatch {
                latents: match clips {
                    Clips::Encoded(latents) => Some(latents.clips(&chosen)),
                    Clips::Described { .. } => None,
                },
                noise: noise[range.start * values..range.end * values].to_vec(),
                shape: [samples.len(), channels, frames, height, width],
                times: times[range].to_vec(),
                captions: Captions::default(),
            };
            let sentences = samples.par_iter().zip(&chosen).map(|(&sample, &clip)| self.tokens(step, sample as u64, clip));
            for tokens in sentences.collect::<Result<Vec<TokenIds>, TrainError>>()? {
                batch.captions.push(&tokens);
            }
            Ok(batch)
        });
        parts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_moved_up_to_the_samplers() {
        let snap = Snap { share: 1.0, times: vec![124, 249, 999] };
        assert_eq!([0, 124, 125, 250, 999].map(|time| snap.of(time)), [124, 124, 249, 999, 999]);
        let leading = Snap { share: 1.0, times: vec![0, 500] };
        assert_eq!([0, 1, 501].map(|time| leading.of(time)), [0, 500, 500]);
    }
}
