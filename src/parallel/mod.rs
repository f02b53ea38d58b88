//! Several devices for one transformer: each has all weights and a share of the clip's frames.
//!
//! Everything in a block is local to tokens but self-attention, and a mask says how little of that crosses frames. So a layer's
//! exchange follows from its mask ([`exchange`]): keys and values of the frames that others look at, queries of the frames that
//! look everywhere, whose attention every device computes over its own frames and whose parts are merged exactly by their
//! log-sums ([`merge`]); or, where nothing is left out, the all-to-all over heads of DeepSpeed-Ulysses. With guidance, half of
//! the devices may do the unconditional call ([`shares`]).
//!
//! Bytes travel over a [`transport`], which knows no tensors; a [`group`] moves tensors over it. A [`team`] is the threads, one a
//! device, that make a call together.

mod call;
mod decode;
pub mod exchange;
mod forward;
pub mod group;
mod helper;
pub mod merge;
mod patience;
mod pieces;
pub mod shares;
pub mod simulate;
pub mod staging;
pub mod team;
pub mod transport;

pub use call::{Input, Text};
pub use exchange::{ExchangeSizes, LayerExchange, Scheme, Traffic};
pub use helper::{Load, Loaded, THREAD_NAME};
pub use patience::Patience;
pub use shares::{Arrangement, Subgroup};
pub use team::{Prediction, Team, TeamError};
pub use transport::{Message, Tag, Transport, TransportError};
