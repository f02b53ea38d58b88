//! Clips are seen: what the judge reads in them, and what their pixels tell.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::error::EvaluateError;
use super::judging::{Bench, OnDevice, Readings};
use super::pictures::{PictureNumbers, picture_numbers};
use crate::model::latent::ClipSize;
use crate::model::vae::to_rgb8;

/// Calls that wait to be read.
const CALLS_AHEAD: usize = 2;

/// What is known of clips once they were seen, one entry a clip.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub readings: Readings,
    pub pictures: Vec<PictureNumbers>,
    /// How near they are to their originals, of those that have one.
    pub decibels: Vec<f64>,
}

/// Clips on their way to the reader.
struct Launched {
    judged: OnDevice,
    /// `[clips, frames, height, width, 3]` in [-1, 1].
    videos: Tensor<5>,
    /// What the first of the clips should be.
    originals: Option<Tensor<5>>,
}

/// Takes clips to be seen.
pub struct Onlooker<'a> {
    bench: &'a Bench,
    send: SyncSender<Launched>,
}

impl Onlooker<'_> {
    /// Takes clips `[clips, frames, height, width, 3]` in [-1, 1], and what the first of them should be.
    ///
    /// # Errors
    /// Clips before them could not be read; [`see`] tells why.
    pub fn take(&self, videos: Tensor<5>, originals: Option<Tensor<5>>) -> Result<(), EvaluateError> {
        let judged = self.bench.launch(videos.clone());
        self.send.send(Launched { judged, videos, originals }).map_err(|_| EvaluateError::Stopped)
    }
}

/// Sees the clips of one size that `make` gives to the onlooker. Each is read on another thread while the next are launched: else
/// the device would wait for every reading, and for the host's numbers.
///
/// # Errors
/// Those of `make`, or the device failed.
pub fn see(
    bench: &Bench,
    size: ClipSize,
    make: impl FnOnce(&Onlooker<'_>) -> Result<(), EvaluateError>,
) -> Result<Seen, EvaluateError> {
    thread::scope(|scope| {
        let (send, receive) = sync_channel(CALLS_AHEAD);
        let reader = scope.spawn(move || read_all(&receive, size));
        let made = make(&Onlooker { bench, send });
        // A reader that failed stopped the maker.
        let seen = reader.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        made.map(|()| seen)
    })
}

fn read_all(calls: &Receiver<Launched>, size: ClipSize) -> Result<Seen, EvaluateError> {
    let values_a_clip = size.frames * size.height * size.width * 3;
    let mut seen = Seen::default();
    for Launched { judged, videos, originals } in calls {
        seen.readings.extend(judged.read()?);
        let pixels = to_rgb8(&values(videos)?);
        let clips = pixels.chunks_exact(values_a_clip);
        seen.pictures.extend(clips.clone().map(|clip| picture_numbers(clip, [size.height, size.width])));
        if let Some(originals) = originals {
            let originals = to_rgb8(&values(originals)?);
            seen.decibels.extend(originals.chunks_exact(values_a_clip).zip(clips).map(|(original, clip)| psnr(original, clip)));
        }
    }
    Ok(seen)
}

fn values(x: Tensor<5>) -> Result<Vec<f32>, EvaluateError> {
    x.try_into_vec_as().map_err(|error| EvaluateError::Device(error.to_string()))
}

/// Of two videos in 8 bits.
fn psnr(a: &[u8], b: &[u8]) -> f64 {
    let squared: u64 = a.iter().zip(b).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum();
    10.0 * (255.0f64.powi(2) * a.len() as f64 / squared.max(1) as f64).log10()
}
