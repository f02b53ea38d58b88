//! Random numbers of the world: a clip is a pure function of a seed and an index.
//!
//! They are numbers of one splitmix64 stream for each (seed, clip), taken by position, so that another draw never moves the
//! ones that are there.

use crate::model::noise;

/// A uniform number in [0, 1) with 24 bits, so that it is the same in f32.
pub fn uniform(seed: u64, clip: u64, draw: u64) -> f64 {
    const UNIT: f64 = 1.0 / (1 << 24) as f64;
    (noise::bits(seed, clip.wrapping_add(1), draw) >> 40) as f64 * UNIT
}

/// Draws one after the other, for sentences.
#[derive(Clone, Debug)]
pub struct Draws {
    seed: u64,
    clip: u64,
    next: u64,
}

impl Draws {
    pub fn from(seed: u64, clip: u64, first: u64) -> Self {
        Self { seed, clip, next: first }
    }

    pub fn uniform(&mut self) -> f64 {
        self.next += 1;
        uniform(self.seed, self.clip, self.next - 1)
    }

    /// True with this probability.
    pub fn is_below(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// # Panics
    /// There is nothing to choose from.
    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[(self.uniform() * from.len() as f64) as usize]
    }
}
