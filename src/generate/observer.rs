//! Following a run while it goes on.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::attention_record::{AttentionRecord, Recording};
use super::timings::Timings;
use crate::clip::Frames;
use crate::model::latent::Latent;

/// The parts of a run, as a person sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Load,
    Text,
    Sampling,
    Decoding,
    /// After the run: the clip goes into the library or a file.
    Keeping,
}

impl Phase {
    /// What happens, as a progress line says it.
    pub fn doing(self) -> &'static str {
        match self {
            Self::Load => "loading the model",
            Self::Text => "reading the prompt",
            Self::Sampling => "sampling",
            Self::Decoding => "decoding the frames",
            Self::Keeping => "keeping the clip",
        }
    }
}

/// Who follows a run. All calls come from the engine's thread, in order.
pub trait Observer {
    fn phase(&mut self, _phase: Phase) {}
    /// A call of the transformer and its sampler step is done; `call` counts from 0.
    fn step(&mut self, _call: usize, _calls: usize, _millis: f64) {}
    /// Where the time went so far, before every [`Self::step`] of a run that is timed.
    fn timings(&mut self, _timings: &Timings) {}
    /// The current estimate of the clean latent after a step.
    fn denoised(&mut self, _call: usize, _latent: &Latent) {}
    /// The device was lost, and the run goes on with another; in words.
    fn recovered(&mut self, _what: String) {}
    /// Whether and how the next step's attention should be recorded, which changes nothing else.
    fn wants_attention(&self) -> Option<Recording> {
        None
    }
    /// The attention of a step.
    fn attention(&mut self, _record: &Arc<AttentionRecord>) {}
    /// True when the next step's estimate should also be decoded, which takes as long as the end of the run.
    fn wants_decoded(&self) -> bool {
        false
    }
    /// The frames of that estimate.
    fn decoded(&mut self, _call: usize, _frames: Frames) {}
    /// True when the run should stop at the next chance.
    fn stop(&self) -> bool {
        false
    }
}

impl<O: Observer + ?Sized> Observer for &mut O {
    fn phase(&mut self, phase: Phase) {
        (**self).phase(phase);
    }

    fn step(&mut self, call: usize, calls: usize, millis: f64) {
        (**self).step(call, calls, millis);
    }

    fn timings(&mut self, timings: &Timings) {
        (**self).timings(timings);
    }

    fn denoised(&mut self, call: usize, latent: &Latent) {
        (**self).denoised(call, latent);
    }

    fn wants_decoded(&self) -> bool {
        (**self).wants_decoded()
    }

    fn decoded(&mut self, call: usize, frames: Frames) {
        (**self).decoded(call, frames);
    }

    fn recovered(&mut self, what: String) {
        (**self).recovered(what);
    }

    fn wants_attention(&self) -> Option<Recording> {
        (**self).wants_attention()
    }

    fn attention(&mut self, record: &Arc<AttentionRecord>) {
        (**self).attention(record);
    }

    fn stop(&self) -> bool {
        (**self).stop()
    }
}

/// An observer that looks away.
pub struct Unobserved;
impl Observer for Unobserved {}
