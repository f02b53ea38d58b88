//! How long a run takes, and the learning rate along the way.

use std::time::Duration;

/// When a session ends, and what the learning rate's fall is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Length {
    /// Steps of the whole run, all sessions together. The learning rate then depends on the step alone, so that a run that
    /// was stopped and resumed is the undisturbed one.
    pub steps: Option<u64>,
    /// Time of this session.
    pub session: Option<Duration>,
    /// Time of the whole run, all sessions together; without it, and without steps, the fall ends with this session.
    pub whole: Option<Duration>,
}

impl Length {
    /// The share of the run that is done, 0 to 1.
    pub fn share(&self, step: u64, trained_before: Duration, in_session: Duration) -> f64 {
        let of = |done: f64, all: f64| if all > 0.0 { (done / all).min(1.0) } else { 1.0 };
        match (self.steps, self.whole, self.session) {
            (Some(steps), _, _) => of(step as f64, steps as f64),
            (None, Some(whole), _) => of((trained_before + in_session).as_secs_f64(), whole.as_secs_f64()),
            (None, None, Some(session)) => of(in_session.as_secs_f64(), session.as_secs_f64()),
            (None, None, None) => 0.0,
        }
    }

    /// Whether the session ends before this step.
    pub fn is_over(&self, step: u64, trained_before: Duration, in_session: Duration) -> bool {
        self.share(step, trained_before, in_session) >= 1.0 || self.session.is_some_and(|session| in_session >= session)
    }

    /// The share of this session that is done, for a progress bar: the largest of what may end it.
    pub fn session_share(&self, first_step: u64, step: u64, trained_before: Duration, in_session: Duration) -> f64 {
        let by_steps = self.steps.map(|steps| (step - first_step) as f64 / steps.saturating_sub(first_step).max(1) as f64);
        let by_time = self.session.map(|session| in_session.as_secs_f64() / session.as_secs_f64().max(1e-9));
        let left = self.whole.map(|whole| whole.saturating_sub(trained_before));
        let by_whole = left.filter(|_| self.steps.is_none()).map(|left| in_session.as_secs_f64() / left.as_secs_f64().max(1e-9));
        [by_steps, by_time, by_whole].into_iter().flatten().fold(0.0, f64::max).min(1.0)
    }
}

/// The learning rate rises over `warm_up_steps`, stays for `hold_share` of the run, and falls in a straight line to 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    pub warm_up_steps: u64,
    /// 1 means that it never falls.
    pub hold_share: f64,
}

impl Schedule {
    /// What learning rates are multiplied with in step `step`, when `share` of the run is done.
    pub fn factor(&self, step: u64, share: f64) -> f64 {
        let rise = ((step + 1) as f64 / self.warm_up_steps.max(1) as f64).min(1.0);
        let fall = if self.hold_share >= 1.0 { 1.0 } else { ((1.0 - share) / (1.0 - self.hold_share)).clamp(0.0, 1.0) };
        rise * fall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_rate_rises_holds_and_falls() {
        let schedule = Schedule { warm_up_steps: 100, hold_share: 0.4 };
        for (step, share, want) in
            [(0, 0.0, 0.01), (49, 0.0, 0.5), (99, 0.1, 1.0), (500, 0.4, 1.0), (700, 0.7, 0.5), (1000, 1.0, 0.0)]
        {
            assert!((schedule.factor(step, share) - want).abs() < 1e-12, "{step} {share}");
        }
        assert_eq!(Schedule { warm_up_steps: 0, hold_share: 1.0 }.factor(0, 0.99), 1.0);
    }

    #[test]
    fn steps_alone_decide_where_they_are_given() {
        let length = Length { steps: Some(200), session: Some(MINUTE), whole: None };
        assert_eq!(length.share(50, MINUTE * 9, MINUTE), 0.25);
        assert!(length.is_over(200, Duration::ZERO, Duration::ZERO));
        assert!(length.is_over(50, Duration::ZERO, MINUTE), "a session may be shorter than the run");
        assert!(!length.is_over(50, MINUTE * 9, MINUTE / 2));
        assert_eq!(length.session_share(100, 150, MINUTE, Duration::ZERO), 0.5);
    }

    #[test]
    fn time_counts_over_sessions_or_for_one() {
        let whole = Length { whole: Some(MINUTE * 10), session: Some(MINUTE * 2), ..Length::default() };
        assert_eq!(whole.share(7, MINUTE * 4, MINUTE), 0.5);
        assert!(whole.is_over(7, MINUTE * 4, MINUTE * 2) && whole.is_over(7, MINUTE * 9, MINUTE));
        let one = Length { session: Some(MINUTE * 4), ..Length::default() };
        assert_eq!(one.share(7, MINUTE * 100, MINUTE), 0.25);
        assert_eq!(one.session_share(0, 7, MINUTE * 100, MINUTE), 0.25);
    }
}
