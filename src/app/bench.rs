//! The window measures itself: how soon it is there, how smooth it stays, what previews cost, how fast a run stops, and how
//! right its predictions are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::smoothness::{Gaps, Smoothness};
use crate::generate::observer::Phase;
use crate::studio::{ItemId, Live, State};

/// Runs before the one whose prediction counts.
const LEARNING_RUNS: usize = 2;
/// The step at which the last run is stopped.
const STOP_AFTER_STEPS: usize = 2;

#[derive(Clone, Debug, Default, Serialize)]
pub struct WindowFigures {
    /// From the start of the process to the first painted frame.
    pub first_frame_millis: f64,
    /// Between two painted frames while runs went on.
    pub gaps: Option<Gaps>,
    /// The time that previews take, as a share of the steps'.
    pub preview_share: f64,
    /// From the wish to the end of the run.
    pub stop_millis: f64,
    pub predicted_seconds: Vec<f64>,
    pub measured_seconds: Vec<f64>,
    /// Of the last whole run, after two that it learned from.
    pub prediction_error: f64,
}

/// Where the figures go, for those who opened the window.
pub type Report = Arc<Mutex<WindowFigures>>;

/// What the window is to do next for the measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    Wait,
    Generate,
    Stop(ItemId),
    Close,
}

pub struct Bench {
    started: Instant,
    smoothness: Smoothness,
    report: Option<Report>,
    run: Option<Running>,
    runs_done: usize,
    stop_asked: Option<Instant>,
    queued: bool,
}

struct Running {
    item: ItemId,
    predicted_seconds: f64,
    /// When the model was there and the text began.
    began: Option<Instant>,
    /// When the frames were there.
    ended: Option<Instant>,
    preview_millis: f64,
    step_millis: f64,
}

impl Bench {
    /// Without a report nothing is done but counting.
    pub fn new(started: Instant, report: Option<Report>) -> Self {
        Self { started, smoothness: Smoothness::default(), report, run: None, runs_done: 0, stop_asked: None, queued: false }
    }

    /// A frame of the window is painted now.
    pub fn frame(&mut self, state: &State) {
        let now = Instant::now();
        self.smoothness.frame(now, state.live.is_some());
        if let Some(report) = &self.report {
            let mut figures = report.lock().unwrap_or_else(PoisonError::into_inner);
            if figures.first_frame_millis == 0.0 {
                figures.first_frame_millis = millis(now.duration_since(self.started));
            }
        }
    }

    /// Follows the runs; says what comes next.
    pub fn next(&mut self, state: &State, ready: bool) -> Next {
        let Some(report) = self.report.clone() else { return Next::Wait };
        let mut figures = report.lock().unwrap_or_else(PoisonError::into_inner);
        match (&state.live, &mut self.run) {
            (Some(live), Some(run)) if live.item == run.item => run.follow(live),
            (Some(live), run) => *run = Some(Running::new(live)),
            (None, _) => {}
        }
        if let (None, Some(run)) = (&state.live, self.run.take_if(|_| state.live.is_none())) {
            self.queued = false;
            if let Some(asked) = self.stop_asked {
                figures.stop_millis = millis(asked.elapsed());
                figures.gaps = self.smoothness.gaps();
                return Next::Close;
            }
            self.runs_done += 1;
            let measured = match (run.began, run.ended) {
                (Some(began), Some(ended)) => ended.duration_since(began).as_secs_f64(),
                _ => f64::NAN,
            };
            figures.predicted_seconds.push(run.predicted_seconds);
            figures.measured_seconds.push(measured);
            figures.preview_share = run.preview_millis / run.step_millis.max(1e-9);
            figures.prediction_error = run.predicted_seconds / measured - 1.0;
        }
        match &self.run {
            None if ready && !self.queued => {
                self.queued = true;
                Next::Generate
            }
            Some(run) if self.runs_done > LEARNING_RUNS && self.stop_asked.is_none() => {
                let steps = state.live.as_ref().map_or(0, |live| live.calls_done);
                if steps < STOP_AFTER_STEPS {
                    return Next::Wait;
                }
                self.stop_asked = Some(Instant::now());
                Next::Stop(run.item)
            }
            _ => Next::Wait,
        }
    }
}

impl Running {
    fn new(live: &Live) -> Self {
        Self {
            item: live.item,
            predicted_seconds: live.estimate.seconds,
            began: None,
            ended: None,
            preview_millis: 0.0,
            step_millis: 0.0,
        }
    }

    fn follow(&mut self, live: &Live) {
        if live.phase != Phase::Load && self.began.is_none() {
            self.began = Some(live.phase_started);
        }
        if live.phase == Phase::Keeping && self.ended.is_none() {
            self.ended = Some(live.phase_started);
        }
        self.preview_millis = live.preview_millis;
        self.step_millis = live.step_millis.iter().sum();
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
