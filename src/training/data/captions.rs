//! Sentences as the text encoder reads them.

use crate::model::text::{TextError, TokenIds, Tokenizer, lower_and_strip};
use crate::world::attributes::Attributes;
use crate::world::grammar::{Detail, caption};

/// Ids and mask of several sentences, all of one length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Captions {
    /// `[sentences * tokens]`.
    pub ids: Vec<u32>,
    /// 1 for what counts, 0 for padding.
    pub mask: Vec<f32>,
    pub sentences: usize,
}

impl Captions {
    pub fn push(&mut self, tokens: &TokenIds) {
        self.ids.extend(&tokens.ids);
        self.mask.extend(tokens.mask.iter().map(|&counts| f32::from(counts)));
        self.sentences += 1;
    }
}

/// The tokens of any text, padded or cut to `length`.
///
/// # Errors
/// The tokenizer refuses it.
pub fn tokens_of(tokenizer: &Tokenizer, text: &str, length: usize) -> Result<TokenIds, TextError> {
    tokenizer.encode(&lower_and_strip(text), length)
}

/// Sentence number `variant` about a clip of the world.
///
/// # Errors
/// As [`tokens_of`].
pub fn tokens_of_clip(
    tokenizer: &Tokenizer,
    seed: u64,
    clip: u64,
    variant: u64,
    detail: Detail,
    length: usize,
) -> Result<TokenIds, TextError> {
    let sentence = caption(&Attributes::of_clip(seed, clip), seed, clip, variant, detail);
    tokens_of(tokenizer, &sentence, length)
}
