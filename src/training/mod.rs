//! Training: the networks of a model learn here from the procedural world or from a folder of clips.
//!
//! Methods around the networks that generate clips, never second copies of them. This room owns the optimiser
//! ([`optimiser`]) on one vector of all parameters ([`parameters`]), the loop with its checkpoints, the numbers that every run
//! draws ([`random`]), several devices at once ([`replicas`]), the data ([`data`]), what is trained from nothing ([`pretrain`]), and what learns from a model that is
//! there ([`distill`]), with the search for its masks ([`search`]).

pub mod checkpoint;
pub mod curves;
pub mod data;
pub mod distill;
pub mod error;
pub mod folder;
pub mod kernels;
pub mod loss_scale;
pub mod optimiser;
pub mod parameters;
pub mod pretrain;
pub mod random;
pub mod replicas;
pub mod run;
pub mod schedule;
pub mod search;
pub mod setup;
pub mod sums;
pub mod template;
pub mod trainer;

pub use error::TrainError;
pub use kernels::check_kernels;
