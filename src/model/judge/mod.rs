//! The judge: a small network that reads from a clip what is in it.
//!
//! It is trained on clips of the world, where every attribute is known, and then says of generated clips whether they show what
//! their prompts asked for. Its features measure how far two sets of clips are apart.

mod network;

pub use network::{FRAME_STEP, Judge, JudgeConfig, Reading, Statistics};
