//! The run that goes on now, as a front shows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::ItemId;
use crate::clip::Frames;
use crate::generate::attention_record::AttentionRecord;
use crate::generate::estimate::Estimate;
use crate::generate::observer::Phase;
use crate::generate::recipe::Recipe;
use crate::generate::timings::Timings;

#[derive(Clone, Debug)]
pub struct Live {
    pub item: ItemId,
    pub recipe: Recipe,
    pub estimate: Estimate,
    pub phase: Phase,
    pub started: Instant,
    pub phase_started: Instant,
    /// Calls that an earlier run has left.
    pub first_call: usize,
    /// Calls that are done, those included.
    pub calls_done: usize,
    pub calls: usize,
    /// Of this run's calls.
    pub step_millis: Vec<f64>,
    /// What the steps lead to by the linear projection: one entry a call, one pixel a latent.
    pub projections: Vec<Option<Arc<Frames>>>,
    /// The same through the decoder, where that was asked for.
    pub decoded: BTreeMap<usize, Arc<Frames>>,
    /// Where the steps looked, where that was recorded: one entry a call.
    pub attention: Vec<Option<Arc<AttentionRecord>>>,
    /// Where the time went until the last step.
    pub timings: Option<Arc<Timings>>,
    pub warnings: Vec<String>,
    /// The person has asked it to stop or to pause.
    pub is_stopping: bool,
    /// What previews have cost, on another thread than the engine's.
    pub preview_millis: f64,
}

impl Live {
    pub(crate) fn new(item: ItemId, recipe: Recipe, estimate: Estimate, first_call: usize) -> Self {
        let (now, calls) = (Instant::now(), estimate.model_calls);
        Self {
            item,
            recipe,
            estimate,
            phase: Phase::Load,
            started: now,
            phase_started: now,
            first_call,
            calls_done: first_call,
            calls,
            step_millis: Vec::new(),
            projections: vec![None; calls],
            decoded: BTreeMap::new(),
            attention: vec![None; calls],
            timings: None,
            warnings: Vec::new(),
            is_stopping: false,
            preview_millis: 0.0,
        }
    }

    /// Seconds until the end: of the phases to come as estimated, of steps as they were in this run.
    pub fn seconds_left(&self, now: Instant) -> f64 {
        let phases = &self.estimate.phases;
        let estimated_step = phases.sampling / self.calls.max(1) as f64;
        // The first step may compile shaders.
        let later = if self.step_millis.len() > 1 { &self.step_millis[1..] } else { &self.step_millis };
        let step = match later.len() {
            0 => estimated_step,
            count => later.iter().sum::<f64>() / 1000.0 / count as f64,
        };
        let sampling = step * (self.calls - self.calls_done) as f64;
        let whole = match self.phase {
            Phase::Load | Phase::Text => phases.text + sampling + phases.decoding,
            Phase::Sampling => sampling + phases.decoding,
            Phase::Decoding => phases.decoding,
            Phase::Keeping => 0.0,
        };
        // The current step's or phase's own time passes.
        let passing = match self.phase {
            Phase::Load | Phase::Keeping => 0.0,
            Phase::Text => phases.text,
            Phase::Sampling => step,
            Phase::Decoding => phases.decoding,
        };
        (whole - now.duration_since(self.phase_started).as_secs_f64().min(passing)).max(0.0)
    }

    /// How much of the run is done, 0 to 1, by time.
    pub fn share_done(&self, now: Instant) -> f64 {
        let (gone, left) = (now.duration_since(self.started).as_secs_f64(), self.seconds_left(now));
        if gone + left > 0.0 { gone / (gone + left) } else { 0.0 }
    }

    /// What happens now, in words.
    pub fn doing(&self) -> String {
        match self.phase {
            _ if self.is_stopping => "stopping".into(),
            Phase::Sampling => format!("step {} of {}", (self.calls_done + 1).min(self.calls), self.calls),
            phase => phase.doing().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::generate::estimate::{Basis, PhaseValues};
    use crate::studio::tests::recipe;

    #[test]
    fn the_rest_follows_from_measured_steps() {
        let phases = PhaseValues { text: 1.0, sampling: 8.0, decoding: 2.0 };
        let estimate = Estimate {
            seconds: 11.0,
            basis: Basis::Typical,
            phases,
            flops: phases,
            memory_bytes: 0,
            others_memory_bytes: Vec::new(),
            density: 1.0,
            model_calls: 8,
            longest_call_seconds: 0.0,
        };
        let mut live = Live::new(ItemId(1), recipe("a"), estimate, 2);
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-6, "{got} instead of {want}");
        near(live.seconds_left(live.started), 1.0 + 6.0 + 2.0);
        (live.phase, live.calls_done, live.step_millis) = (Phase::Sampling, 5, vec![9000.0, 2000.0, 3000.0]);
        near(live.seconds_left(live.phase_started), 3.0 * 2.5 + 2.0);
        near(live.seconds_left(live.phase_started + Duration::from_secs(1)), 2.0 * 2.5 + 1.5 + 2.0);
        // A step that takes longer than the others does not eat the rest.
        near(live.seconds_left(live.phase_started + Duration::from_secs(60)), 2.0 * 2.5 + 2.0);
        (live.phase, live.calls_done) = (Phase::Decoding, 8);
        near(live.seconds_left(live.phase_started), 2.0);
        near(live.share_done(live.started + Duration::from_secs(18)), 1.0);
    }
}
