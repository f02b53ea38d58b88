//! The T5 tokenizer: from a prompt to the ids that the text encoder reads.
//!
//! The reference uses the tokenizer that transformers makes of `spiece.model` on the fly, which is not quite SentencePiece: it
//! normalizes with the model's table, drops white space at the end, joins runs of spaces, splits at spaces, finds the most probable
//! pieces of each word, and never falls back to bytes: what the vocabulary lacks becomes `<unk>`, even where the model has byte pieces.

use std::borrow::Cow;
use std::ops::Range;

use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{NormalizerWrapper, Precompiled, Replace, Sequence, Strip};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{AddedToken, Encoding};

use super::TextError;
use super::sentencepiece::SentencePieceModel;
use super::special_tokens::SpecialTokens;
use super::tokenizer_json;

/// How much of a text is looked at first when only so many tokens are wanted.
const FIRST_WINDOW_BYTES: usize = 16 * 1024;
/// A cut inside a word can change the last few tokens before it; with this many to spare, none of those is used.
const TOKENS_TO_SPARE: usize = 64;

/// Token ids as the text encoder takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIds {
    /// Ids in the vocabulary.
    pub ids: Vec<u32>,
    /// 1 for the tokens of the text and its end, 0 for padding.
    pub mask: Vec<u8>,
}

/// Where a token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSpan {
    /// The bytes of the text that the token stands for, without white space before them; empty for the end of the text.
    pub bytes: Range<usize>,
    /// Counts the words of the text; none for the end of the text. Tokens of one word are neighbours.
    pub word: Option<usize>,
}

/// A tokenizer with its special tokens.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The text of every id.
    pieces: Vec<String>,
    pad_id: u32,
    end_id: u32,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tokenizer").field("vocabulary_size", &self.pieces.len()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Builds the tokenizer of the contents of `spiece.model`, as transformers 4.40 does for T5.
    ///
    /// # Errors
    /// [`TextError::SentencePiece`] if the file is damaged, [`TextError::NoSuchToken`] if it lacks a special token.
    pub fn from_sentencepiece(bytes: &[u8], special_tokens: &SpecialTokens) -> Result<Self, TextError> {
        let damaged = |error: tokenizers::Error| TextError::SentencePiece { reason: error.to_string() };
        let model = SentencePieceModel::parse(bytes)?;
        let pieces = model.pieces.iter().map(|(piece, _)| piece.clone()).collect();
        let unigram = Unigram::from(model.pieces, Some(model.unknown_id), false).map_err(damaged)?;
        let mut normalizers = Vec::new();
        if !model.charsmap.is_empty() {
            let table = Precompiled::from(&model.charsmap).map_err(|error| damaged(Box::new(error)))?;
            normalizers.push(NormalizerWrapper::Precompiled(table));
        }
        normalizers.push(NormalizerWrapper::StripNormalizer(Strip::new(false, true)));
        let spaces = Replace::new(ReplacePattern::Regex(" {2,}".to_owned()), "▁").map_err(damaged)?;
        normalizers.push(NormalizerWrapper::Replace(spaces));
        let mut inner = tokenizers::Tokenizer::new(unigram);
        inner.with_normalizer(Some(Sequence::new(normalizers))).map_err(damaged)?;
        inner.with_pre_tokenizer(Some(Metaspace::new('▁', PrependScheme::Always, true)));
        // Special tokens written out in a prompt count as such.
        for token in [&special_tokens.pad, &special_tokens.end, &special_tokens.unknown] {
            if inner.token_to_id(token).is_some() {
                inner.add_special_tokens([AddedToken::from(token.as_str(), true)]).map_err(damaged)?;
            }
        }
        Self::with_special_tokens(inner, pieces, special_tokens)
    }

    /// Builds a tokenizer from the contents of a `tokenizer.json` with a unigram model.
    ///
    /// # Errors
    /// [`TextError::TokenizerJson`] if the file is damaged or of another kind, [`TextError::NoSuchToken`] if it lacks a special token.
    pub fn from_tokenizer_json(bytes: &[u8], special_tokens: &SpecialTokens) -> Result<Self, TextError> {
        let (inner, pieces) = tokenizer_json::parse(bytes).map_err(|reason| TextError::TokenizerJson { reason })?;
        Self::with_special_tokens(inner, pieces, special_tokens)
    }

    fn with_special_tokens(
        inner: tokenizers::Tokenizer,
        pieces: Vec<String>,
        special_tokens: &SpecialTokens,
    ) -> Result<Self, TextError> {
        let find =
            |role, token: &String| inner.token_to_id(token).ok_or_else(|| TextError::NoSuchToken { role, token: token.clone() });
        let pad_id = find("padding", &special_tokens.pad)?;
        let end_id = find("end-of-text", &special_tokens.end)?;
        Ok(Self { inner, pieces, pad_id, end_id })
    }

    /// The number of ids; every id of a text is below it.
    pub fn vocabulary_size(&self) -> usize {
        self.pieces.len()
    }

    /// The text of an id, with `▁` for the space before a word.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.pieces.get(id as usize).map(String::as_str)
    }

    /// The id that fills up short texts.
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// The id that ends every text.
    pub fn end_id(&self) -> u32 {
        self.end_id
    }

    /// Encodes a text into exactly `max_tokens` ids: a long text loses its last tokens but keeps its end token, a short one is padded on
    /// the right.
    ///
    /// # Errors
    /// [`TextError::NoRoom`] if `max_tokens` is 0, [`TextError::Encode`] if the tokenizer fails.
    pub fn encode(&self, text: &str, max_tokens: usize) -> Result<TokenIds, TextError> {
        let room = max_tokens.checked_sub(1).ok_or(TextError::NoRoom)?;
        let encoding = self.first_tokens(text, room)?;
        let mut ids: Vec<u32> = encoding.get_ids().iter().copied().take(room).collect();
        ids.push(self.end_id);
        let mut mask = vec![1; ids.len()];
        ids.resize(max_tokens, self.pad_id);
        mask.resize(max_tokens, 0);
        Ok(TokenIds { ids, mask })
    }

    /// Encodes a whole text, with its end token and without padding.
    ///
    /// # Errors
    /// [`TextError::Encode`] if the tokenizer fails.
    pub fn encode_unpadded(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut ids = self.tokens(text)?.get_ids().to_vec();
        ids.push(self.end_id);
        Ok(ids)
    }

    /// Says for each token of [`Self::encode`] before the padding where in `text` it comes from.
    ///
    /// # Errors
    /// Those of [`Self::encode`].
    pub fn spans(&self, text: &str, max_tokens: usize) -> Result<Vec<TokenSpan>, TextError> {
        let room = max_tokens.checked_sub(1).ok_or(TextError::NoRoom)?;
        let encoding = self.first_tokens(text, room)?;
        let mut spans = Vec::with_capacity(room.min(encoding.len()) + 1);
        let mut word = None;
        let mut last_word_id = None;
        for (&(start, end), &word_id) in encoding.get_offsets().iter().zip(encoding.get_word_ids()).take(room) {
            if word.is_none() || word_id != last_word_id {
                word = Some(word.map_or(0, |word| word + 1));
                last_word_id = word_id;
            }
            // Normalization can map several tokens to parts of one character.
            let end = text.ceil_char_boundary(end.min(text.len()));
            let start = text.floor_char_boundary(start.min(end));
            let blank = text[start..end].len() - text[start..end].trim_start().len();
            spans.push(TokenSpan { bytes: start + blank..end, word });
        }
        spans.push(TokenSpan { bytes: text.len()..text.len(), word: None });
        Ok(spans)
    }

    /// The tokens of a beginning of the text that has at least `wanted` of them, if the text has.
    ///
    /// A pasted book must not make anyone wait: only as much of it is tokenized as the ids can show. Words are tokenized one by one, so
    /// a beginning that ends between two words has the same tokens as the text has there.
    fn first_tokens(&self, text: &str, wanted: usize) -> Result<Encoding, TextError> {
        let mut window = FIRST_WINDOW_BYTES;
        loop {
            if window >= text.len() {
                return self.tokens(text);
            }
            let beginning = &text[..text.floor_char_boundary(window)];
            let beginning = beginning.rfind(' ').map_or(beginning, |space| &beginning[..space]);
            let encoding = self.tokens(beginning)?;
            if encoding.len() >= wanted.saturating_add(TOKENS_TO_SPARE) {
                return Ok(encoding);
            }
            window = window.saturating_mul(4);
        }
    }

    fn tokens(&self, text: &str) -> Result<Encoding, TextError> {
        self.inner.encode(Cow::Borrowed(text), false).map_err(|error| TextError::Encode { reason: error.to_string() })
    }
}

#[cfg(test)]
mod tests;
