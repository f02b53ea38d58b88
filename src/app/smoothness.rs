//! How smooth the window is: the time between two painted frames while something moves.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Gaps between painted frames, as long as a run goes on.
#[derive(Debug, Default)]
pub struct Smoothness {
    last: Option<Instant>,
    gaps: Vec<Duration>,
}

/// What the gaps were.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gaps {
    pub frames: usize,
    pub longest_millis: f64,
    /// 99 of 100 gaps are no longer.
    pub percentile_99_millis: f64,
    pub median_millis: f64,
}

impl Smoothness {
    /// A frame is painted now; `is_running` tells whether a run goes on.
    pub fn frame(&mut self, now: Instant, is_running: bool) {
        if let (Some(last), true) = (self.last, is_running) {
            self.gaps.push(now.duration_since(last));
        }
        self.last = is_running.then_some(now);
    }

    pub fn gaps(&self) -> Option<Gaps> {
        let mut sorted = self.gaps.clone();
        sorted.sort_unstable();
        let longest = sorted.last()?;
        let millis = |gap: &Duration| gap.as_secs_f64() * 1000.0;
        let at = |share: f64| millis(&sorted[((sorted.len() - 1) as f64 * share) as usize]);
        Some(Gaps {
            frames: sorted.len(),
            longest_millis: millis(longest),
            percentile_99_millis: at(0.99),
            median_millis: at(0.5),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gaps_within_runs_count() {
        let (mut smoothness, start) = (Smoothness::default(), Instant::now());
        let mut at = |millis: u64, is_running: bool| smoothness.frame(start + Duration::from_millis(millis), is_running);
        at(0, false);
        at(500, true);
        at(520, true);
        at(560, true);
        at(570, false);
        at(9000, true);
        at(9010, true);
        let gaps = smoothness.gaps().unwrap();
        assert_eq!((gaps.frames, gaps.longest_millis, gaps.median_millis), (3, 40.0, 20.0));
        assert_eq!(Smoothness::default().gaps(), None);
    }
}
