//! How far the loss is scaled up so that its gradients do not vanish in 16-bit floats.
//!
//! The device leaves a step out whose gradient is not finite; how many those were is read now and then, and the scale follows.

use serde::{Deserialize, Serialize};

/// Steps that are looked at together.
pub const BLOCK: u64 = 20;
/// Steps without an overflow after which twice the scale is tried.
const PATIENCE: u64 = 400;
const FIRST: f64 = 65_536.0;
const LARGEST: f64 = 16_777_216.0;
/// Below this small gradients are lost. Steps that do not even fit here have numbers in the network itself that are too large,
/// which no scale mends: they are left out one by one, and the scale stays.
const SMALLEST: f64 = 1024.0;

/// The scale, a power of 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    value: f64,
    /// Without it the scale is 1 for ever: f32 needs none.
    dynamic: bool,
    good_steps: u64,
    /// In the block that is not over.
    skipped: u64,
}

impl LossScale {
    pub fn new(dynamic: bool) -> Self {
        Self { value: if dynamic { FIRST } else { 1.0 }, dynamic, good_steps: 0, skipped: 0 }
    }

    pub fn value(&self) -> f64 {
        self.value
    }

    /// Whether it follows overflows, as with 16-bit floats.
    pub fn is_dynamic(&self) -> bool {
        self.dynamic
    }

    /// Takes in how many of the steps since the last call were left out.
    pub fn see(&mut self, skipped: u64) {
        self.skipped += skipped;
    }

    /// A block of [`BLOCK`] steps is over. False if nothing was learnt in all of it although the scale cannot fall further.
    pub fn end_block(&mut self) -> bool {
        let skipped = std::mem::take(&mut self.skipped);
        if skipped == 0 {
            self.good_steps += BLOCK;
            if self.dynamic && self.good_steps >= PATIENCE {
                self.value = (self.value * 2.0).min(LARGEST);
                self.good_steps = 0;
            }
            return true;
        }
        self.good_steps = 0;
        let could_fall = self.dynamic && self.value > SMALLEST;
        if could_fall {
            // A block in which nothing fitted is far from what fits.
            self.value = (self.value / if skipped == BLOCK { 64.0 } else { 4.0 }).max(SMALLEST);
        }
        could_fall || skipped < BLOCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_follows_overflows() {
        let mut scale = LossScale::new(true);
        scale.see(1);
        assert!(scale.end_block());
        assert_eq!(scale.value(), FIRST / 4.0);
        for _ in 0..PATIENCE / BLOCK {
            assert!(scale.end_block());
        }
        assert_eq!(scale.value(), FIRST / 2.0);
        scale.see(BLOCK);
        assert!(scale.end_block());
        assert_eq!(scale.value(), SMALLEST);
        // Single steps that fit no scale are left out for ever.
        for _ in 0..100 {
            scale.see(1);
            assert!(scale.end_block());
        }
        assert_eq!(scale.value(), SMALLEST);
        scale.see(BLOCK);
        assert!(!scale.end_block(), "nothing is learnt any more");
    }

    #[test]
    fn without_16_bits_it_is_one() {
        let mut scale = LossScale::new(false);
        for _ in 0..100 {
            assert!(scale.end_block());
        }
        assert_eq!(scale.value(), 1.0);
        scale.see(BLOCK);
        assert!(!scale.end_block());
    }
}
