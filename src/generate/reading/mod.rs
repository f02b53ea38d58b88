//! What a finished run attended to: one call of its transformer, made again from the step records as far as the layer that is
//! asked for, and its queries and keys turned into numbers.
//!
//! [`point_reads`] is self-attention: how much one token reads from every other. [`word_maps`] is cross-attention: how much every
//! token reads from a word of the prompt. Under guidance both are of the prompt's own row, not of the negative prompt's.

mod alignment;
mod call;
mod point;
mod word_maps;
mod words;

pub use call::PastCall;
pub use point::{PointReads, Seen, point_reads};
pub use word_maps::{WordMaps, word_maps};
pub use words::{Fate, Word, words_in};

#[cfg(test)]
mod tests;
