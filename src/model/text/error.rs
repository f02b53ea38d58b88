//! What can go wrong between a prompt and its token ids.

use thiserror::Error;

/// An error of the text room. Every message says what happened, why, and what helps.
#[derive(Debug, Error)]
pub enum TextError {
    /// `spiece.model` is no SentencePiece model, or not a whole one.
    #[error(
        "the SentencePiece model cannot be read: {reason}; the file is damaged or was not downloaded completely, so download spiece.model again"
    )]
    SentencePiece {
        /// What is wrong with the file.
        reason: String,
    },
    /// `tokenizer.json` is not a tokenizer that this program can use.
    #[error("tokenizer.json cannot be used: {reason}; download it again, or remove it to use spiece.model instead")]
    TokenizerJson {
        /// What is wrong with the file.
        reason: String,
    },
    /// `tokenizer_config.json` or `special_tokens_map.json` is malformed.
    #[error("{file} cannot be read: {reason}; download it again, or remove it to use the special tokens of mT5")]
    SpecialTokens {
        /// The name of the file.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A special token is not in the vocabulary.
    #[error(
        "the vocabulary has no {role} token {token:?}, which the text encoder needs; the tokenizer files do not belong together, so take all of \
         them from the folder of the text encoder"
    )]
    NoSuchToken {
        /// What the token is for.
        role: &'static str,
        /// Its text.
        token: String,
    },
    /// Not even the end of the text fits.
    #[error("a text cannot be encoded into 0 tokens, because its end takes one; allow at least 1 token")]
    NoRoom,
    /// The tokenizer gave up on a text.
    #[error("this text cannot be tokenized: {reason}; shorten it or remove unusual characters")]
    Encode {
        /// What the tokenizer reported.
        reason: String,
    },
}
