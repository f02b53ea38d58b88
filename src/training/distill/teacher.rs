//! The model that a student learns from: it only predicts, with its own weights and its own text encoder.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::masks::Masks;
use crate::mask::KeyFrames;
use crate::model::dit::{Probe, TextContext, Transformer};
use crate::model::text::encoder::TextEncoder;
use crate::model::text::{TextError, Tokenizer};
use crate::training::data::captions::{Captions, tokens_of};

/// A teacher on a device.
pub struct Teacher {
    transformer: Transformer,
    text_encoder: TextEncoder,
    masks: Masks,
    /// The text without words, one row.
    empty: TextContext,
}

impl Teacher {
    /// `tokens` are those of a sentence.
    ///
    /// # Errors
    /// The tokenizer refuses a text without words.
    pub fn new(
        transformer: Transformer,
        text_encoder: TextEncoder,
        masks: Masks,
        tokenizer: &Tokenizer,
        tokens: usize,
    ) -> Result<Self, TextError> {
        let mut captions = Captions::default();
        captions.push(&tokens_of(tokenizer, "", tokens)?);
        let empty = encoded(&text_encoder, captions);
        Ok(Self { transformer, text_encoder, masks, empty })
    }

    pub fn transformer(&self) -> &Transformer {
        &self.transformer
    }

    pub fn embed(&self, captions: Captions) -> TextContext {
        encoded(&self.text_encoder, captions)
    }

    /// The text without words, as many times as there are samples.
    pub fn without_words(&self, samples: usize) -> TextContext {
        let embedding = self.empty.embedding.clone().repeat_dim(0, samples);
        TextContext { embedding, mask: self.empty.mask.repeat(samples) }
    }

    /// The noise in `latents` at `times`, as the sentences let expect.
    pub fn predict(&self, latents: Tensor<5>, times: &[usize], text: &TextContext, probe: &mut Probe<'_>) -> Tensor<5> {
        let [_, _, frames, ..] = latents.dims();
        predict(&self.transformer, latents, times, text, self.masks.of(frames), probe)
    }

    /// As [`Self::predict`] with guidance, both predictions in one call: `eps(without) + scale (eps(with) - eps(without))`.
    /// A scale of 1 is the prediction with the sentences alone.
    pub fn guided(&self, latents: Tensor<5>, times: &[usize], text: &TextContext, scale: f64) -> Tensor<5> {
        if scale == 1.0 {
            return self.predict(latents, times, text, &mut Probe::default());
        }
        let [samples, ..] = latents.dims();
        let both = TextContext {
            embedding: Tensor::cat(vec![self.without_words(samples).embedding, text.embedding.clone()], 0),
            mask: [&self.empty.mask.repeat(samples)[..], &text.mask[..]].concat(),
        };
        let times = [times, times].concat();
        let noise = self.predict(Tensor::cat(vec![latents.clone(), latents], 0), &times, &both, &mut Probe::default());
        let (without, with) = (noise.clone().narrow(0, 0, samples), noise.narrow(0, samples, samples));
        without.clone() + (with - without) * scale
    }
}

/// Sentences as the transformer takes them.
pub fn encoded(encoder: &TextEncoder, captions: Captions) -> TextContext {
    let embedding = encoder.forward(&captions.ids, &captions.mask, captions.sentences, &mut |_, _| {});
    TextContext { embedding, mask: captions.mask }
}

/// The noise that a transformer sees in `latents` `[samples, channels, ..]`, of their shape.
pub fn predict(
    transformer: &Transformer,
    latents: Tensor<5>,
    times: &[usize],
    text: &TextContext,
    key_frames: &[Arc<KeyFrames>],
    probe: &mut Probe<'_>,
) -> Tensor<5> {
    let [_, channels, ..] = latents.dims();
    let timesteps: Vec<f32> = times.iter().map(|&time| time as f32).collect();
    // A network that also predicts a variance has more channels.
    transformer.forward(latents, &timesteps, text, None, key_frames, probe).narrow(1, 0, channels)
}

/// The first rows of a text.
pub fn first_rows(text: &TextContext, rows: usize) -> TextContext {
    let [_, tokens, _] = text.embedding.dims();
    TextContext { embedding: text.embedding.clone().narrow(0, 0, rows), mask: text.mask[..rows * tokens].to_vec() }
}
