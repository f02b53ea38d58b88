//! How much work a device gets in one piece.
//!
//! A GPU that also draws the screen cannot do so while one submit runs, and systems reset a device that seems to hang (after two
//! seconds on Windows). So large products and attentions are cut into launches, and launches are submitted, such that none takes
//! longer than about [`LONGEST_SUBMIT_SECONDS`]. How much that is was measured on the device ([`measure`]); a device of which
//! nothing is known gets its work uncut, and so does the CPU. Cutting changes no result.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use serde::{Deserialize, Serialize};

use super::device::ComputeDevice;
use super::kernels::linear::{Activation, linear};
use super::kernels::tile_attention::{Tiles, tile_attention};
use crate::mask::KeyFrames;

/// The longest that a submit should take.
pub const LONGEST_SUBMIT_SECONDS: f64 = 0.05;
/// The share of it that is planned with: norms, gates and copies are not counted, and speeds vary.
const PLANNED_SHARE: f64 = 0.8;

/// What a device does in a second, in floating-point operations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    pub linear: f64,
    pub attention: f64,
}

/// What a piece of work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Linear,
    Attention,
}

impl Pace {
    fn seconds(self, work: Work, flops: f64) -> f64 {
        flops
            / match work {
                Work::Linear => self.linear,
                Work::Attention => self.attention,
            }
    }
}

thread_local! {
    /// Of the devices that this thread launches on: one thread of the program has a device's work done.
    static KNOWN: RefCell<Vec<(Device, Pace)>> = const { RefCell::new(Vec::new()) };
}

fn of(device: &Device) -> Option<Pace> {
    KNOWN.with_borrow(|known| known.iter().find(|(known, _)| known == device).map(|(_, pace)| *pace))
}

/// Has what this thread launches on a device cut by its pace from now on; None takes it uncut again.
pub fn set(device: &Device, pace: Option<Pace>) {
    KNOWN.with_borrow_mut(|known| {
        known.retain(|(other, _)| other != device);
        known.extend(pace.map(|pace| (device.clone(), pace)));
    });
}

/// Into how many launches so many operations should be cut.
pub fn parts(device: &Device, work: Work, flops: f64) -> usize {
    of(device).map_or(1, |pace| (pace.seconds(work, flops) / (PLANNED_SHARE * LONGEST_SUBMIT_SECONDS)).ceil().max(1.0) as usize)
}

thread_local! {
    /// The device that this thread launches on, and the seconds of what was not submitted by this module.
    static WAITING: RefCell<Option<(Device, f64)>> = const { RefCell::new(None) };
}

/// Runs a launch of so many operations; submits what waits before it if both together would take too long.
pub fn launch<T>(device: &Device, work: Work, flops: f64, launch: impl FnOnce() -> T) -> T {
    let Some(pace) = of(device) else { return launch() };
    let own = pace.seconds(work, flops);
    WAITING.with_borrow_mut(|waiting| {
        let before = match waiting {
            Some((other, seconds)) if other == device => *seconds,
            _ => 0.0,
        };
        let is_too_long = before > 0.0 && before + own > PLANNED_SHARE * LONGEST_SUBMIT_SECONDS;
        if is_too_long {
            // A device that fails here fails its next read as well.
            let _ = device.flush();
        }
        *waiting = Some((device.clone(), if is_too_long { own } else { before + own }));
    });
    launch()
}

/// Samples of this length are long against a launch's own cost.
const ENOUGH_SECONDS: f64 = 0.004;

/// Measures a device, in less than a second. None on the CPU and on software adapters, which draw no screen, and if the device
/// fails.
pub fn measure(device: &ComputeDevice) -> Option<Pace> {
    if device.adapter.as_ref().is_none_or(|adapter| adapter.software) {
        return None;
    }
    let dtype = device.precision.dtype();
    let random = |shape: [usize; 2]| -> Tensor<2> {
        Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), (&device.device, dtype.into()))
    };
    const WIDTH: usize = 1152;
    const HEAD: usize = 96;
    let weight = random([WIDTH, WIDTH]);
    let linear = fastest(device, (256..=1 << 17).step_by_doubling(), |rows| {
        let (x, weight) = (random([rows, WIDTH]), weight.clone());
        let flops = 2.0 * (rows * WIDTH * WIDTH) as f64;
        (flops, Box::new(move || drop(linear(x.clone(), weight.clone(), None, Activation::None))))
    })?;
    let attention = fastest(device, (128..=1 << 13).step_by_doubling(), |tokens| {
        let heads = WIDTH / HEAD;
        let operand = || random([heads * tokens, HEAD]).reshape([1, heads, tokens, HEAD]);
        let (query, key, value) = (operand(), operand(), operand());
        let tiles = Tiles { key_frames: Arc::new(KeyFrames::dense(1)), query_tokens: tokens, key_tokens: tokens };
        let flops = 4.0 * (tokens * tokens * WIDTH) as f64;
        (flops, Box::new(move || drop(tile_attention(query.clone(), key.clone(), value.clone(), None, tiles.clone()))))
    })?;
    Some(Pace { linear, attention })
}

type Launch = Box<dyn Fn()>;

/// Operations a second of the first size that takes long enough.
fn fastest(device: &ComputeDevice, sizes: impl Iterator<Item = usize>, case: impl Fn(usize) -> (f64, Launch)) -> Option<f64> {
    let mut speed = None;
    for size in sizes {
        let (flops, launch) = case(size);
        let seconds = || {
            let started = Instant::now();
            launch();
            device.device.sync().ok()?;
            Some(started.elapsed().as_secs_f64())
        };
        // The first compiles the shader.
        seconds()?;
        let best = seconds()?.min(seconds()?);
        speed = Some(flops / best);
        if best >= ENOUGH_SECONDS {
            break;
        }
    }
    speed.filter(|speed| speed.is_finite() && *speed > 0.0)
}

trait Doubling {
    /// From the start to the end, each twice the one before.
    fn step_by_doubling(self) -> impl Iterator<Item = usize>;
}

impl Doubling for std::ops::RangeInclusive<usize> {
    fn step_by_doubling(self) -> impl Iterator<Item = usize> {
        let end = *self.end();
        std::iter::successors(Some(*self.start()), |size| Some(size * 2)).take_while(move |size| *size <= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_cut_by_what_the_device_does_in_a_second() {
        let device = Device::flex();
        assert_eq!(parts(&device, Work::Linear, 1e30), 1, "nothing is known of it");
        set(&device, Some(Pace { linear: 4e12, attention: 2e12 }));
        // 40 ms are 0.16 TFLOP of products, and half of that of attention.
        assert_eq!(parts(&device, Work::Linear, 1e10), 1);
        assert_eq!(parts(&device, Work::Linear, 0.35e12), 3);
        assert_eq!(parts(&device, Work::Attention, 0.35e12), 5);
        assert_eq!(launch(&device, Work::Linear, 1e12, || 7), 7);
        set(&device, None);
        assert_eq!(parts(&device, Work::Linear, 1e30), 1);
    }
}
