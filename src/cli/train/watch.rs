//! A training on the terminal: one line that changes, and lines that stay.

use std::time::{Duration, Instant};

use crate::cli::progress::Bar;
use crate::studio::words::duration;
use crate::training::run::{Report, Watcher};

/// Shows reports, and stops at Ctrl-C.
pub struct Terminal {
    bar: Bar,
    quiet: bool,
    last_line: Option<Instant>,
}

/// Between lines where nobody sees a bar.
const LINE_EVERY: Duration = Duration::from_secs(20);

impl Terminal {
    pub fn new(quiet: bool) -> Self {
        Self { bar: Bar::new(quiet), quiet, last_line: None }
    }

    pub fn clear(&self) {
        self.bar.clear();
    }
}

impl Drop for Terminal {
    /// Whatever is printed next begins on a line of its own.
    fn drop(&mut self) {
        self.clear();
    }
}

impl Watcher for Terminal {
    fn report(&mut self, report: &Report) {
        if self.quiet {
            return;
        }
        let loss = report.numbers.first().map_or(f64::NAN, |(_, loss)| *loss);
        let rate = report.samples_per_second;
        let left = report.left.map_or_else(String::new, |left| format!(", {} left", duration(left.as_secs_f64())));
        let line = format!("step {}, loss {loss:.4}, {rate:.1} samples/s{left}", report.step);
        self.bar.training(line, report.share);
        // Logs keep a line now and then, with all numbers.
        if self.bar.is_hidden() && self.last_line.is_none_or(|last| last.elapsed() > LINE_EVERY) {
            let numbers: Vec<String> = report.numbers.iter().map(|(name, value)| format!("{name} {value:.4e}")).collect();
            eprintln!("step {}: {}", report.step, numbers.join(", "));
            self.last_line = Some(Instant::now());
        }
    }

    fn note(&mut self, text: &str) {
        if !self.quiet {
            self.bar.line(text);
        }
    }

    fn doing(&mut self, what: &str, share: f64) {
        self.bar.training(what.to_owned(), share);
    }

    fn stops(&self) -> bool {
        crate::cli::interrupted()
    }
}
