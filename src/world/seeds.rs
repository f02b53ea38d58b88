//! Seeds of the world for each purpose, so that no clip is both learnt from and judged by.

/// The transformer's clips.
pub const TRANSFORMER: u64 = 1;
/// Clips that nothing learns from.
pub const HELD_OUT: u64 = 2;
/// Prompts of evaluations.
pub const PROMPTS: u64 = 3;
/// The VAE's clips.
pub const VAE: u64 = 5;
/// Clips over which statistics are taken.
pub const STATISTICS: u64 = 6;
/// The judge's clips.
pub const JUDGE: u64 = 8;
