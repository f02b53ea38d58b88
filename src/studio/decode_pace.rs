//! Which steps of a run are decoded while the person looks at them so.
//!
//! The device does one thing at a time: a run whose every step was decoded would wait for the pictures. So a decoding is followed
//! by as much sampling as it took time itself, and the steps that come before are left out, as if it went on beside the run. It
//! costs no more than the run's own time again. The last step needs none: its pictures are the clip.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DecodePace {
    /// When the last decoding ended, and what it took.
    last: Option<(Instant, Duration)>,
    begun: Option<Instant>,
}

impl DecodePace {
    /// Whether a step that is done at `now` should be decoded.
    pub fn allows(&self, now: Instant) -> bool {
        self.last.is_none_or(|(ended, took)| now.saturating_duration_since(ended) >= took)
    }

    /// A step is done, and may be decoded.
    pub fn step_is_done(&mut self, now: Instant) {
        self.begun = Some(now);
    }

    /// It was.
    pub fn decoded(&mut self, now: Instant) {
        if let Some(begun) = self.begun.take() {
            self.last = Some((now, now.saturating_duration_since(begun)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps of twelve that are decoded.
    fn decoded(step_seconds: u64, decode_seconds: u64) -> Vec<usize> {
        let mut pace = DecodePace::default();
        let mut now = Instant::now();
        let mut decoded = Vec::new();
        for call in 0..12 {
            now += Duration::from_secs(step_seconds);
            pace.step_is_done(now);
            if pace.allows(now) {
                now += Duration::from_secs(decode_seconds);
                pace.decoded(now);
                decoded.push(call);
            }
        }
        decoded
    }

    #[test]
    fn steps_are_left_out_where_decoding_takes_longer() {
        assert_eq!(decoded(3, 1), (0..12).collect::<Vec<_>>(), "none is left out that there is time for");
        assert_eq!(decoded(2, 2), (0..12).collect::<Vec<_>>());
        assert_eq!(decoded(2, 5), [0, 3, 6, 9]);
        assert_eq!(decoded(1, 10), [0, 10]);
    }
}
