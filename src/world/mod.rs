//! The procedural world that `mini` learns from: scenes, their pictures, and sentences about them.
//!
//! Everything is a pure function of (seed, clip), so any clip and any sentence can be made again.

pub mod attributes;
mod draws;
pub mod grammar;
pub mod render;
pub mod renderer;
pub mod scene;
pub mod seeds;
pub mod shot;
