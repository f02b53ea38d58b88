//! Training at toy size on the CPU device: networks that learn one batch by heart, runs that go on as if nothing had been, and
//! what a person is told when something is wrong.

mod distill;
mod networks;
mod runs;
mod search;
pub mod toy;

use std::cell::Cell;
use std::time::Duration;

use tilereel::gpu::device::{self, ComputeDevice, DeviceChoice};
use tilereel::training::run::{Plan, Report, Watcher};
use tilereel::training::schedule::{Length, Schedule};

fn cpu() -> ComputeDevice {
    device::open(&DeviceChoice::Cpu, None).expect("the CPU")
}

fn plan(steps: u64) -> Plan {
    Plan {
        length: Length { steps: Some(steps), ..Length::default() },
        schedule: Schedule { warm_up_steps: 3, hold_share: 0.5 },
        checkpoint_every: Duration::from_secs(3600),
        sheet_every: None,
    }
}

/// Keeps what it is told, and stops after a number of steps.
struct Seen {
    reports: Vec<Report>,
    notes: Vec<String>,
    steps_left: Cell<u64>,
}

impl Default for Seen {
    fn default() -> Self {
        Self::stopping_after(u64::MAX)
    }
}

impl Seen {
    fn stopping_after(steps: u64) -> Self {
        Self { reports: Vec::new(), notes: Vec::new(), steps_left: Cell::new(steps) }
    }
}

impl Watcher for Seen {
    fn report(&mut self, report: &Report) {
        self.reports.push(report.clone());
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    /// The loop asks once a step.
    fn stops(&self) -> bool {
        let left = self.steps_left.get();
        self.steps_left.set(left.saturating_sub(1));
        left == 0
    }
}
