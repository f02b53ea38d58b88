//! How far the writing of a clip has come, and the wish to stop it.

use std::ops::ControlFlow;

/// The caller wants no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

/// Tells a caller which share of a piece of work is done. Work in parts gives each part a meter of its own.
pub(super) struct Meter<'a> {
    report: &'a mut (dyn FnMut(f64) -> ControlFlow<()> + 'a),
    from: f64,
    to: f64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(report: &'a mut (dyn FnMut(f64) -> ControlFlow<()> + 'a)) -> Self {
        Meter { report, from: 0.0, to: 1.0 }
    }

    /// The meter of a part that begins and ends at these shares of this one.
    pub(super) fn part(&mut self, from: f64, to: f64) -> Meter<'_> {
        let (from, to) = (self.place(from), self.place(to));
        Meter { report: &mut *self.report, from, to }
    }

    /// `share` of 0 to 1 is done.
    ///
    /// # Errors
    /// [`Stopped`] when the caller wants no more.
    pub(super) fn at(&mut self, share: f64) -> Result<(), Stopped> {
        let place = self.place(share);
        match (self.report)(place) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Stopped),
        }
    }

    /// `done` pieces of `all` are done.
    ///
    /// # Errors
    /// [`Stopped`] when the caller wants no more.
    pub(super) fn count(&mut self, done: usize, all: usize) -> Result<(), Stopped> {
        self.at(done as f64 / all.max(1) as f64)
    }

    /// Exact at both ends.
    fn place(&self, share: f64) -> f64 {
        let share = share.clamp(0.0, 1.0);
        self.from * (1.0 - share) + self.to * share
    }
}

/// For callers who neither look nor stop.
pub(super) fn unwatched(_share: f64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_inside_of_the_whole() {
        let mut seen = Vec::new();
        let mut report = |share: f64| {
            seen.push(share);
            if seen.len() < 4 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let mut meter = Meter::new(&mut report);
        let mut part = meter.part(0.5, 1.0);
        part.at(0.0).unwrap();
        part.part(0.0, 0.5).count(1, 2).unwrap();
        part.count(3, 3).unwrap();
        assert_eq!(meter.at(1.0), Err(Stopped));
        assert_eq!(seen, [0.5, 0.625, 1.0, 1.0]);
    }
}
