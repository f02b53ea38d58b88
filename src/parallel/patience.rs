//! How long a rank waits for another one before it counts as hung.
//!
//! A device that is lost ends its thread, which everybody notices at once. One that hangs says nothing. So every wait has a limit
//! in proportion to what a call takes: as the last one took, or, before the first, as it was estimated to take.

use std::time::Duration;

use super::call::Input;

/// The limits of a team's waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A message is waited for so many times as long as a whole call should take.
    pub calls: u32,
    /// No wait is given up before.
    pub least: Duration,
    /// The same where a call is the first of its kind: shaders may be compiled in it.
    pub least_first: Duration,
    /// No wait takes longer. A layer at full size takes a second on a GPU; on a CPU it may take minutes.
    pub most: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { calls: 20, least: Duration::from_secs(30), least_first: Duration::from_secs(300), most: Duration::from_secs(1800) }
    }
}

impl Patience {
    /// The longest wait in a call that should take so many seconds; None where nothing is known.
    pub fn limit(&self, call_seconds: Option<f64>, is_first: bool) -> Duration {
        let least = if is_first { self.least_first.max(self.least) } else { self.least };
        let seconds = call_seconds.map(|seconds| f64::from(self.calls) * seconds);
        let proportional = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or(self.most);
        proportional.clamp(least, self.most.max(least))
    }

    /// How much longer to wait for word from everybody once somebody was given up: whoever is alive comes to its next message
    /// within a part of a call.
    pub fn grace(limit: Duration) -> Duration {
        limit / 3
    }
}

/// What a call costs, in units of no meaning of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CallSize {
    /// Of all rows.
    tokens: f64,
    /// Pairs of tokens that attend to each other, of all layers and rows.
    pairs: f64,
}

impl CallSize {
    pub fn of(input: &Input) -> Self {
        let [_, _, height, width] = input.latent.shape;
        let (rows, picture) = (input.text.rows() as f64, (height * width) as f64);
        let tiles: usize = input.key_frames.iter().map(|layer| layer.frames().len()).sum();
        Self { tokens: rows * picture * input.latent.frames() as f64, pairs: rows * tiles as f64 * picture * picture }
    }

    /// How many times longer than `other` it may take at most: the time of a call is a sum of what grows with the tokens and what
    /// grows with the pairs.
    pub fn times(self, other: Self) -> f64 {
        f64::max(self.tokens / other.tokens, self.pairs / other.pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_proportional_to_calls_and_have_ends() {
        let patience = Patience::default();
        let seconds = |call, is_first| patience.limit(call, is_first).as_secs_f64();
        assert_eq!(seconds(Some(4.0), false), 80.0);
        assert_eq!(seconds(Some(0.1), false), 30.0);
        assert_eq!(seconds(Some(0.1), true), 300.0);
        assert_eq!(seconds(Some(1e6), false), 1800.0);
        for unknown in [None, Some(f64::INFINITY), Some(f64::NAN), Some(-1.0)] {
            assert_eq!(seconds(unknown, false), 1800.0, "{unknown:?}");
        }
        let short = Patience { most: Duration::from_millis(5), ..patience };
        assert_eq!(short.limit(None, false), patience.least, "limits that contradict each other end nothing early");
    }

    #[test]
    fn a_larger_call_may_take_as_much_longer_as_its_larger_part() {
        let size = |tokens, pairs| CallSize { tokens, pairs };
        assert_eq!(size(20.0, 400.0).times(size(10.0, 100.0)), 4.0);
        assert_eq!(size(20.0, 100.0).times(size(10.0, 100.0)), 2.0);
        assert_eq!(size(5.0, 25.0).times(size(10.0, 100.0)), 0.5);
    }
}
