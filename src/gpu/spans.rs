//! Where the time of a run goes: spans of work by kind and layer, recorded on the thread that has the work done.
//!
//! While nobody records, a span costs one look at a flag. A recording changes no result: it only waits and looks at clocks.
//! On a GPU a span is a window of the device's own timestamps; where the adapter has none, burn waits for the device at both
//! ends and takes the wall clock. Copies are always taken by the wall clock, after the work before them is done.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use burn::backend::{Backend, Dispatch};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::device::ComputeDevice;

/// What a span of work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Scores, softmax and their product with the values.
    Attention,
    /// Matrix products with weights: projections and feed-forward.
    Linear,
    /// Norms, modulation, gates, the rotary embedding, and the change of layout between tokens and heads.
    Normalisation,
    Convolution,
    /// Doubling of space and time in the decoder.
    Resampling,
    /// Between the program's memory, the device and the disk.
    Copy,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Attention, Self::Linear, Self::Normalisation, Self::Convolution, Self::Resampling, Self::Copy];
}

/// What the times were taken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// The wall clock, on the CPU, where a part is done when its call returns.
    Wall,
    /// Timestamps that the GPU writes; copies by the wall clock.
    Timestamps,
    /// The wall clock, with a wait for the GPU before and after every part.
    Waits,
}

/// The time of one kind of work in one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Empty outside of layers.
    pub layer: String,
    pub kind: Kind,
    pub seconds: f64,
    /// How many spans this is the sum of.
    pub spans: u64,
}

/// Runs `work`, and counts its time as `kind`, less that of spans within it.
pub fn span<T>(kind: Kind, work: impl FnOnce() -> T) -> T {
    if !IS_RECORDING.get() {
        return work();
    }
    with_recorder(|recorder| recorder.open(kind));
    let result = work();
    with_recorder(Recorder::close);
    result
}

/// Whether this thread's spans are recorded.
pub fn is_recording() -> bool {
    IS_RECORDING.get()
}

/// Runs `work`, whose spans belong to the layer of this name.
pub fn layer<T>(name: impl FnOnce() -> String, work: impl FnOnce() -> T) -> T {
    if !IS_RECORDING.get() {
        return work();
    }
    with_recorder(|recorder| recorder.enter(name()));
    let result = work();
    with_recorder(|recorder| {
        recorder.within.pop();
    });
    result
}

/// Records the spans of this thread as long as it lives.
pub struct Recording {
    clock: Clock,
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Recording {
    /// Begins to record work that `device` does. A recording that this thread already has ends.
    pub fn start(device: &ComputeDevice) -> Self {
        let gpu = (!device.is_cpu()).then(|| device.device.clone());
        let clock = match &gpu {
            None => Clock::Wall,
            Some(gpu) if has_timestamps(gpu) => Clock::Timestamps,
            Some(_) => Clock::Waits,
        };
        RECORDER.set(Some(Recorder { gpu, layers: Vec::new(), within: Vec::new(), open: Vec::new(), spans: Vec::new() }));
        IS_RECORDING.set(true);
        Self { clock, _thread: PhantomData }
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// What was spent since the start, or since this was asked last. Waits for the device.
    pub fn take(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        with_recorder(|recorder| parts = recorder.take());
        parts
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        IS_RECORDING.set(false);
        let Some(mut recorder) = RECORDER.take() else { return };
        // Left open by a panic.
        while !recorder.open.is_empty() {
            recorder.close();
        }
    }
}

thread_local! {
    static IS_RECORDING: Cell<bool> = const { Cell::new(false) };
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

fn with_recorder(work: impl FnOnce(&mut Recorder)) {
    RECORDER.with_borrow_mut(|recorder| {
        if let Some(recorder) = recorder {
            work(recorder);
        }
    });
}

/// Whether a window of the device is measured by its own clock.
fn has_timestamps(gpu: &Device) -> bool {
    let window = Dispatch::profile_start(gpu.as_dispatch()).ok().flatten();
    let duration = window.and_then(|window| Dispatch::profile_end(gpu.as_dispatch(), window, Default::default()).ok());
    duration.is_some_and(|duration| duration.timing_method().to_string() == "device")
}

struct Recorder {
    /// None where calls return when the work is done.
    gpu: Option<Device>,
    layers: Vec<String>,
    /// The layers that this thread is in.
    within: Vec<usize>,
    open: Vec<(usize, Ending)>,
    spans: Vec<Span>,
}

struct Span {
    layer: Option<usize>,
    kind: Kind,
    /// The span around this one.
    parent: Option<usize>,
    length: Length,
}

enum Length {
    Unknown,
    Wall(Duration),
    /// Answers when the device has come so far.
    OnDevice(Box<dyn FnOnce() -> Option<Duration>>),
}

/// Closes a span.
type Ending = Box<dyn FnOnce() -> Length>;

impl Recorder {
    fn enter(&mut self, name: String) {
        let place = self.layers.iter().position(|layer| *layer == name).unwrap_or_else(|| {
            self.layers.push(name);
            self.layers.len() - 1
        });
        self.within.push(place);
    }

    fn open(&mut self, kind: Kind) {
        let parent = self.open.last().map(|(span, _)| *span);
        let ending: Ending = match &self.gpu {
            Some(gpu) if kind != Kind::Copy => on_device(gpu),
            gpu => {
                if let Some(gpu) = gpu {
                    // What the device still does is no copy. A device that fails here fails its next read as well.
                    let _ = gpu.sync();
                }
                let started = Instant::now();
                Box::new(move || Length::Wall(started.elapsed()))
            }
        };
        self.open.push((self.spans.len(), ending));
        self.spans.push(Span { layer: self.within.last().copied(), kind, parent, length: Length::Unknown });
    }

    fn close(&mut self) {
        if let Some((span, ending)) = self.open.pop() {
            self.spans[span].length = ending();
        }
    }

    /// Spans that are still open are left out, with what they would have been charged for.
    fn take(&mut self) -> Vec<Part> {
        let spans = std::mem::take(&mut self.spans);
        self.open.clear();
        let mut own: Vec<f64> = Vec::with_capacity(spans.len());
        let mut sums: Vec<Part> = Vec::new();
        let mut labels = Vec::with_capacity(spans.len());
        for span in spans {
            let seconds = match span.length {
                Length::Wall(duration) => duration.as_secs_f64(),
                Length::OnDevice(answer) => answer().unwrap_or_default().as_secs_f64(),
                Length::Unknown => 0.0,
            };
            own.push(seconds);
            if let Some(parent) = span.parent {
                own[parent] -= seconds;
            }
            labels.push((span.layer, span.kind));
        }
        // By layer in the order in which they came, then by kind.
        let mut order: Vec<usize> = (0..own.len()).collect();
        order.sort_by_key(|&span| labels[span]);
        for span in order {
            let (layer, kind) = labels[span];
            let layer = layer.map_or("", |layer| self.layers[layer].as_str());
            let seconds = own[span].max(0.0);
            match sums.last_mut() {
                Some(last) if last.kind == kind && last.layer == layer => {
                    last.seconds += seconds;
                    last.spans += 1;
                }
                _ => sums.push(Part { layer: layer.to_owned(), kind, seconds, spans: 1 }),
            }
        }
        sums
    }
}

/// A window of the device from now on. One that cannot be opened or closed reads as no time.
fn on_device(gpu: &Device) -> Ending {
    let gpu = gpu.clone();
    match Dispatch::profile_start(gpu.as_dispatch()) {
        Ok(Some(window)) => Box::new(move || match Dispatch::profile_end(gpu.as_dispatch(), window, Default::default()) {
            Ok(duration) => {
                Length::OnDevice(Box::new(move || pollster::block_on(duration.resolve()).map(|ticks| ticks.duration())))
            }
            Err(error) => {
                log::debug!("a part could not be timed: {error}");
                Length::Unknown
            }
        }),
        Ok(None) | Err(_) => Box::new(|| Length::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{DeviceChoice, open};

    fn sleep(millis: u64) {
        std::thread::sleep(Duration::from_millis(millis));
    }

    #[test]
    fn spans_nest_and_are_charged_once() {
        let device = open(&DeviceChoice::Cpu, None).unwrap();
        let mut recording = Recording::start(&device);
        assert_eq!(recording.clock(), Clock::Wall);
        let started = Instant::now();
        span(Kind::Linear, || {
            sleep(20);
            layer(|| "one".into(), || span(Kind::Attention, || sleep(30)));
            span(Kind::Linear, || sleep(10));
        });
        layer(
            || "two".into(),
            || {
                layer(|| "one".into(), || span(Kind::Attention, || sleep(5)));
                span(Kind::Copy, || sleep(5));
            },
        );
        let wall = started.elapsed().as_secs_f64();
        let parts = recording.take();
        let names: Vec<_> = parts.iter().map(|part| (part.layer.as_str(), part.kind, part.spans)).collect();
        assert_eq!(names, [("", Kind::Linear, 2), ("one", Kind::Attention, 2), ("two", Kind::Copy, 1)]);
        for (part, least) in parts.iter().zip([0.030, 0.035, 0.005]) {
            assert!(part.seconds >= least, "{part:?} is shorter than its sleep");
        }
        let sum: f64 = parts.iter().map(|part| part.seconds).sum();
        assert!(sum <= wall, "what is within another span is charged to it too: {sum} of {wall}");
        assert!(recording.take().is_empty(), "what was taken is not taken again");
    }

    #[test]
    fn nothing_is_recorded_without_a_recording_and_after_a_panic() {
        let device = open(&DeviceChoice::Cpu, None).unwrap();
        assert_eq!(span(Kind::Linear, || layer(|| panic!("a name that nobody needs"), || 7)), 7);
        let failed = std::panic::catch_unwind(|| {
            let _recording = Recording::start(&device);
            span(Kind::Linear, || std::panic::resume_unwind(Box::new(())))
        });
        assert!(failed.is_err() && !IS_RECORDING.get());
        let mut recording = Recording::start(&device);
        span(Kind::Copy, || ());
        assert_eq!(recording.take().len(), 1);
    }
}
