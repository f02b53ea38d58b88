//! From the words of a prompt to what the diffusion transformer attends to: caption cleaning,
//! tokenization, and the mT5 encoder.

mod caption_cleaning;
mod charsmap;
pub mod encoder;
mod error;
mod html_entities;
mod html_text;
mod python_text;
mod sentencepiece;
mod special_tokens;
mod text_repair;
mod tokenizer;
mod tokenizer_json;
pub mod trainable;

pub use caption_cleaning::{clean_caption, lower_and_strip, prompt_text};
pub use error::TextError;
pub use special_tokens::SpecialTokens;
pub use tokenizer::{TokenIds, TokenSpan, Tokenizer};
