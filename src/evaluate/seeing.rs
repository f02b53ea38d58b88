//! Clips are seen: what the judge reads in them, and what their pixels tell.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::error::EvaluateError;
use super::judging::{Bench, Launched, Readings};
use super::pictures::{PictureNumbers, picture_numbers};
use crate::model::latent::ClipSize;
use crate::model::vae::to_rgb8;

/// Clips that wait to be read.
const CLIPS_AHEAD: usize = 2;

/// What is known of clips once they were seen, one entry a clip.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub readings: Readings,
    pub pictures: Vec<PictureNumbers>,
    /// How near they are to their originals, of those that have one.
    pub decibels: Vec<f64>,
}

/// A clip `[1, frames, height, width, 3]` in [-1, 1], perhaps with what it should be.
pub struct SeenClip {
    pub video: Tensor<5>,
    pub original: Option<Tensor<5>>,
}

/// Takes clips to be seen.
pub struct Onlooker<'a> {
    bench: &'a Bench,
    send: SyncSender<(Launched, SeenClip)>,
}

impl Onlooker<'_> {
    /// # Errors
    /// A clip before it could not be read; [`see`] tells why.
    pub fn take(&self, clip: SeenClip) -> Result<(), EvaluateError> {
        self.send.send((self.bench.launch(clip.video.clone()), clip)).map_err(|_| EvaluateError::Stopped)
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
        let (send, receive) = sync_channel(CLIPS_AHEAD);
        let reader = scope.spawn(move || read_all(&receive, size));
        let made = make(&Onlooker { bench, send });
        // A reader that failed stopped the maker.
        let seen = reader.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        made.map(|()| seen)
    })
}

fn read_all(clips: &Receiver<(Launched, SeenClip)>, size: ClipSize) -> Result<Seen, EvaluateError> {
    let mut seen = Seen::default();
    for (judged, SeenClip { video, original }) in clips {
        seen.readings.extend(judged.read()?);
        let pixels = to_rgb8(&values(video)?);
        seen.pictures.push(picture_numbers(&pixels, [size.height, size.width]));
        if let Some(original) = original {
            seen.decibels.push(psnr(&to_rgb8(&values(original)?), &pixels));
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
