//! Where the time of a run went: its phases by the wall clock, and, where that was asked for, its parts by layer and kind.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::attention_record::{self, AttentionRecord};
use super::observer::{Observer, Phase};
use crate::clip::Frames;
use crate::gpu::device::ComputeDevice;
use crate::gpu::spans::{Clock, Kind, Part, Recording};
use crate::model::latent::Latent;

/// The times of a run. A run that was stopped and went on has those since then.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    pub device: String,
    /// What the parts were taken with; None where only phases and steps were timed.
    pub clock: Option<Clock>,
    /// From the first phase to the end of the last.
    pub seconds: f64,
    /// One entry a call of the transformer.
    pub step_seconds: Vec<f64>,
    /// In the order in which they began.
    pub phases: Vec<PhaseTime>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    pub phase: Phase,
    /// By the wall clock.
    pub seconds: f64,
    #[serde(default)]
    pub parts: Vec<Part>,
}

/// What the time of a whole run is divided into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    Load,
    Text,
    Attention,
    Linear,
    Normalisation,
    Vae,
    Copies,
    /// What no part accounts for: sums between the parts, the sampler, and waiting.
    Idle,
    Keep,
}

impl Share {
    pub const ALL: [Self; 9] = [
        Self::Load,
        Self::Text,
        Self::Attention,
        Self::Linear,
        Self::Normalisation,
        Self::Vae,
        Self::Copies,
        Self::Idle,
        Self::Keep,
    ];

    fn of(phase: Phase, part: &Part) -> Self {
        match (phase, part.kind) {
            (_, Kind::Copy) => Self::Copies,
            (Phase::Text, _) => Self::Text,
            (Phase::Decoding, _) | (_, Kind::Convolution | Kind::Resampling) => Self::Vae,
            // A step that was decoded to be looked at.
            _ if part.layer.starts_with("decoder") => Self::Vae,
            (_, Kind::Attention) => Self::Attention,
            (_, Kind::Linear) => Self::Linear,
            (_, Kind::Normalisation) => Self::Normalisation,
        }
    }
}

impl PhaseTime {
    /// Every layer in the order in which it came, with the seconds of each of [`Kind::ALL`].
    pub fn layers(&self) -> Vec<(&str, [f64; Kind::ALL.len()])> {
        let mut layers: Vec<(&str, [f64; Kind::ALL.len()])> = Vec::new();
        for part in &self.parts {
            let place = layers.iter().position(|(name, _)| *name == part.layer).unwrap_or_else(|| {
                layers.push((&part.layer, [0.0; Kind::ALL.len()]));
                layers.len() - 1
            });
            layers[place].1[part.kind as usize] += part.seconds;
        }
        layers
    }

    /// What the parts do not account for.
    pub fn idle_seconds(&self) -> f64 {
        (self.seconds - self.parts.iter().map(|part| part.seconds).sum::<f64>()).max(0.0)
    }
}

impl Timings {
    /// Of phases that are timed as a whole, such as loading, the whole; none where the parts were not timed.
    pub fn shares(&self) -> Vec<(Share, f64)> {
        if self.clock.is_none() {
            return Vec::new();
        }
        let mut sums = [0.0; Share::ALL.len()];
        let mut add = |share: Share, seconds: f64| sums[share as usize] += seconds;
        for phase in &self.phases {
            match phase.phase {
                Phase::Load => add(Share::Load, phase.seconds),
                Phase::Keeping => add(Share::Keep, phase.seconds),
                Phase::Text | Phase::Sampling | Phase::Decoding => {
                    phase.parts.iter().for_each(|part| add(Share::of(phase.phase, part), part.seconds));
                    add(Share::Idle, phase.idle_seconds());
                }
            }
        }
        Share::ALL.into_iter().zip(sums).filter(|(_, seconds)| *seconds > 0.0).collect()
    }

    /// What all shares, or else all phases, come to. It is within a few percent of [`Self::seconds`]; if it is not, clocks
    /// disagree.
    pub fn sum_seconds(&self) -> f64 {
        match self.clock {
            Some(_) => self.shares().iter().map(|(_, seconds)| seconds).sum(),
            None => self.phases.iter().map(|phase| phase.seconds).sum(),
        }
    }

    pub fn phase(&self, phase: Phase) -> Option<&PhaseTime> {
        self.phases.iter().find(|time| time.phase == phase)
    }

    /// A step as it is when everything is warm: the median, without the first where there are more.
    pub fn typical_step_seconds(&self) -> Option<f64> {
        let mut steps = match self.step_seconds.as_slice() {
            [] => return None,
            [only] => vec![*only],
            [_, later @ ..] => later.to_vec(),
        };
        steps.sort_by(f64::total_cmp);
        Some((steps[(steps.len() - 1) / 2] + steps[steps.len() / 2]) / 2.0)
    }

    /// Adds a phase that something else has timed.
    pub fn add(&mut self, phase: Phase, seconds: f64) {
        self.seconds += seconds;
        self.charge(phase, seconds, Vec::new());
    }

    /// Adds to the sum of a phase.
    fn charge(&mut self, phase: Phase, seconds: f64, parts: Vec<Part>) {
        let Some(sum) = self.phases.iter_mut().find(|time| time.phase == phase) else {
            self.phases.push(PhaseTime { phase, seconds, parts });
            return;
        };
        sum.seconds += seconds;
        for part in parts {
            match sum.parts.iter_mut().find(|other| other.layer == part.layer && other.kind == part.kind) {
                Some(other) => {
                    other.seconds += part.seconds;
                    other.spans += part.spans;
                }
                None => sum.parts.push(part),
            }
        }
    }

    /// # Errors
    /// The file is damaged.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    pub fn to_json(&self) -> String {
        // Numbers and names always have a text.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads the times that were kept in a file. None if there are none.
    pub fn read(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        Self::from_json(&text).inspect_err(|error| log::warn!("{} is not understood: {error}", path.display())).ok()
    }
}

/// Takes the time of a run while it passes what happens on.
pub struct Stopwatch<O> {
    pub inner: O,
    timings: Timings,
    recording: Option<Recording>,
    /// The phase that goes on, and when its time that is not yet added began.
    now: Option<(Phase, Instant)>,
    started: Instant,
}

impl<O: Observer> Stopwatch<O> {
    /// Times phases and steps; `parts` also layers and kinds of work, which makes the run a little slower. It changes no
    /// result. The calling thread is the one that has the work done.
    pub fn start(device: &ComputeDevice, parts: bool, inner: O) -> Self {
        let recording = parts.then(|| Recording::start(device));
        let clock = recording.as_ref().map(Recording::clock);
        let timings = Timings { device: device.name.clone(), clock, ..Timings::default() };
        Self { inner, timings, recording, now: None, started: Instant::now() }
    }

    /// Ends the phase that goes on.
    pub fn finish(mut self) -> Timings {
        self.settle();
        self.timings
    }

    /// Adds the time since the last look to the phase that goes on.
    fn settle(&mut self) {
        let parts = self.recording.as_mut().map(Recording::take).unwrap_or_default();
        let now = Instant::now();
        if let Some((phase, since)) = &mut self.now {
            self.timings.charge(*phase, (now - *since).as_secs_f64(), parts);
            *since = now;
        }
        self.timings.seconds = (now - self.started).as_secs_f64();
    }
}

impl<O: Observer> Observer for Stopwatch<O> {
    fn phase(&mut self, phase: Phase) {
        self.settle();
        self.now = Some((phase, Instant::now()));
        self.inner.phase(phase);
    }

    fn step(&mut self, call: usize, calls: usize, millis: f64) {
        self.settle();
        self.timings.step_seconds.push(millis / 1000.0);
        self.inner.timings(&self.timings);
        self.inner.step(call, calls, millis);
    }

    fn denoised(&mut self, call: usize, latent: &Latent) {
        self.inner.denoised(call, latent);
    }

    fn wants_decoded(&self) -> bool {
        self.inner.wants_decoded()
    }

    fn decoded(&mut self, call: usize, frames: Frames) {
        self.inner.decoded(call, frames);
    }

    fn recovered(&mut self, what: String) {
        self.inner.recovered(what);
    }

    fn wants_attention(&self) -> Option<attention_record::Recording> {
        self.inner.wants_attention()
    }

    fn attention(&mut self, record: &Arc<AttentionRecord>) {
        self.inner.attention(record);
    }

    fn stop(&self) -> bool {
        self.inner.stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::observer::Unobserved;
    use crate::gpu::device::{DeviceChoice, open};
    use crate::gpu::spans::span;

    fn part(layer: &str, kind: Kind, seconds: f64) -> Part {
        Part { layer: layer.into(), kind, seconds, spans: 1 }
    }

    #[test]
    fn shares_come_to_the_whole() {
        let phase = |phase, seconds, parts| PhaseTime { phase, seconds, parts };
        let timings = Timings {
            clock: Some(Clock::Wall),
            seconds: 20.0,
            phases: vec![
                phase(Phase::Load, 1.0, vec![]),
                phase(Phase::Text, 2.0, vec![part("text layer 1", Kind::Linear, 0.5), part("", Kind::Copy, 0.5)]),
                phase(
                    Phase::Sampling,
                    10.0,
                    vec![
                        part("layer 1", Kind::Attention, 3.0),
                        part("layer 1", Kind::Linear, 2.0),
                        part("layer 2", Kind::Attention, 1.0),
                        part("layer 2", Kind::Normalisation, 0.5),
                        part("decoder.mid", Kind::Attention, 0.25),
                        part("decoder.mid", Kind::Convolution, 0.75),
                        part("", Kind::Copy, 0.5),
                    ],
                ),
                phase(Phase::Decoding, 6.0, vec![part("decoder.mid", Kind::Attention, 1.0), part("", Kind::Resampling, 4.0)]),
                phase(Phase::Keeping, 1.0, vec![]),
            ],
            ..Timings::default()
        };
        let want = [
            (Share::Load, 1.0),
            (Share::Text, 0.5),
            (Share::Attention, 4.0),
            (Share::Linear, 2.0),
            (Share::Normalisation, 0.5),
            (Share::Vae, 6.0),
            (Share::Copies, 1.0),
            (Share::Idle, 1.0 + 2.0 + 1.0),
            (Share::Keep, 1.0),
        ];
        assert_eq!(timings.shares(), want);
        assert_eq!(timings.sum_seconds(), timings.seconds);
        assert_eq!(Timings::from_json(&timings.to_json()).unwrap(), timings);
    }

    #[test]
    fn a_typical_step_is_a_warm_one() {
        let typical =
            |step_seconds: &[f64]| Timings { step_seconds: step_seconds.to_vec(), ..Timings::default() }.typical_step_seconds();
        assert_eq!(typical(&[]), None);
        assert_eq!(typical(&[9.0]), Some(9.0));
        assert_eq!(typical(&[9.0, 1.0, 2.0, 4.0]), Some(2.0));
        assert_eq!(typical(&[9.0, 1.0, 2.0]), Some(1.5));
    }

    #[test]
    fn phases_that_come_again_are_added_up() {
        let device = open(&DeviceChoice::Cpu, None).unwrap();
        let started = Instant::now();
        let mut watch = Stopwatch::start(&device, true, Unobserved);
        for phase in [Phase::Text, Phase::Sampling, Phase::Text, Phase::Sampling] {
            watch.phase(phase);
            span(Kind::Linear, || std::thread::sleep(std::time::Duration::from_millis(5)));
            watch.step(0, 1, 5.0);
        }
        let timings = watch.finish();
        let wall = started.elapsed().as_secs_f64();
        let phases: Vec<_> = timings.phases.iter().map(|time| (time.phase, time.parts.len(), time.parts[0].spans)).collect();
        assert_eq!(phases, [(Phase::Text, 1, 2), (Phase::Sampling, 1, 2)]);
        assert_eq!(timings.step_seconds.len(), 4);
        assert!((timings.sum_seconds() / wall - 1.0).abs() < 0.05, "{} of {wall}", timings.sum_seconds());
    }
}
