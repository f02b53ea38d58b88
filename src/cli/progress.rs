//! The progress line: phase, steps, time left.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::generate::observer::Phase;
use crate::studio::words::duration;
use crate::studio::{EngineError, Event, Ticket};

/// How long a job may take to stop by itself after Ctrl-C. Records are whole at any time, so after that the program just ends.
pub const PATIENCE: Duration = Duration::from_millis(700);

/// A line on the terminal with what is being done, how much of it is done, and the time left.
pub struct Bar {
    bar: ProgressBar,
    started: Instant,
}

impl Bar {
    pub fn new(quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(
            Some(1000),
            if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() },
        );
        // The template is a constant of this program.
        if let Ok(style) = ProgressStyle::with_template("{msg:<34} [{bar:30}] {percent:>3} %  {prefix}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, started: Instant::now() }
    }

    /// Says what is being done.
    pub fn doing(&self, what: impl Into<Cow<'static, str>>) {
        self.bar.set_message(what);
    }

    /// Sets the bar, and the time that is left at this pace.
    pub fn place(&self, share: f64) {
        self.bar.set_position((share * 1000.0) as u64);
        let elapsed = self.started.elapsed().as_secs_f64();
        if share > 0.02 && elapsed > 0.2 {
            self.bar.set_prefix(format!("about {} left", duration(elapsed * (1.0 - share) / share)));
        }
    }

    /// Says how a training goes; what is left stands in the text, because a session's end is known to the training alone.
    pub fn training(&self, text: String, share: f64) {
        self.bar.set_message(text);
        self.bar.set_position((share * 1000.0) as u64);
    }

    /// Prints a line above the bar.
    pub fn line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Whether nobody sees it, as where the terminal is a file.
    pub fn is_hidden(&self) -> bool {
        self.bar.is_hidden()
    }

    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Follows a job on the terminal until it ends.
pub struct Progress {
    bar: Bar,
    /// Shares of the whole run by the estimate, in percent: where sampling begins and ends.
    sampling: (f64, f64),
    quiet: bool,
}

/// How a followed job ended.
pub enum Ended<T> {
    Result(Result<T, EngineError>),
    /// Ctrl-C; the job may still be running.
    Interrupted,
}

impl Progress {
    /// `sampling` is the part of the time in which the sampler runs, 0 to 1.
    pub fn new(quiet: bool, sampling: (f64, f64)) -> Self {
        Self { bar: Bar::new(quiet), sampling, quiet }
    }

    /// Shows a job's events until its result is there. `after_step` is called after every step.
    pub fn follow<T>(&self, ticket: &Ticket<T>, mut after_step: impl FnMut()) -> Ended<T> {
        let mut show = |event: Event| {
            if let Event::Step { .. } = event {
                after_step();
            }
            self.show(event);
        };
        loop {
            if let Some(event) = ticket.next_event(Duration::from_millis(50)) {
                show(event);
            }
            if let Some(result) = ticket.result(Duration::ZERO) {
                while let Some(event) = ticket.next_event(Duration::ZERO) {
                    show(event);
                }
                self.bar.clear();
                return Ended::Result(result);
            }
            if super::interrupted() {
                ticket.stop();
                let result = ticket.result(PATIENCE);
                while let Some(event) = ticket.next_event(Duration::ZERO) {
                    show(event);
                }
                self.bar.clear();
                return match result {
                    Some(Ok(value)) => Ended::Result(Ok(value)),
                    _ => Ended::Interrupted,
                };
            }
        }
    }

    fn show(&self, event: Event) {
        let (from, to) = self.sampling;
        match event {
            Event::Phase(phase) => {
                self.bar.doing(phase.doing());
                match phase {
                    Phase::Load | Phase::Text => self.bar.place(0.0),
                    Phase::Sampling => self.bar.place(from),
                    Phase::Decoding => self.bar.place(to),
                    Phase::Keeping => self.bar.place(1.0),
                }
            }
            Event::Step { call, calls, .. } => {
                let done = (call + 1) as f64 / calls as f64;
                self.bar.doing(format!("{}, step {} of {calls}", Phase::Sampling.doing(), call + 1));
                self.bar.place(from + (to - from) * done);
            }
            Event::Warning(warning) | Event::Recovered(warning) => {
                if self.quiet {
                    return;
                }
                self.bar.bar.suspend(|| eprintln!("warning: {warning}"));
            }
        }
    }
}
