//! Clips through the VAE's encoder, once for a whole training.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use half::f16;

use super::clip_folder::{OwnClip, decode};
use super::latents::{Latents, LatentsOf};
use crate::gpu::device::ComputeDevice;
use crate::model::judge::FRAME_STEP;
use crate::model::latent::ClipSize;
use crate::model::vae::Vae;
use crate::training::error::TrainError;
use crate::training::pretrain::vae::scaled_latents;
use crate::training::random::{Random, Stream};
use crate::training::run::{Report, Watcher};
use crate::world::renderer::render_clips;
use crate::world::scene::Scene;
use crate::world::seeds;

/// Calls that wait to be read.
const CALLS_AHEAD: usize = 1;
/// A device with its VAE.
pub struct Encoder {
    pub vae: Vae,
    pub device: ComputeDevice,
}

/// Encodes clips `0..of.clips` of the world's seed, each encoder every so many. None if the watcher stopped it.
///
/// # Errors
/// A device failed.
pub fn encode_world(
    encoders: &[Encoder],
    of: LatentsOf,
    seed: u64,
    size: ClipSize,
    watcher: &mut dyn Watcher,
) -> Result<Option<Latents>, TrainError> {
    let video_of = |first: usize, count: usize, device: &ComputeDevice| {
        let scenes: Vec<Scene> = (first..first + count).map(|clip| Scene::of_clip(seed, clip as u64)).collect();
        Ok(render_clips(&scenes, size, &device.device))
    };
    Encoding { encoders, of, clips_a_call: Vae::clips_a_call(size), seed, video_of: &video_of }.run(watcher)
}

/// Encodes a person's own clips, which are all long enough. None if the watcher stopped it.
///
/// # Errors
/// A device failed, or a clip cannot be decoded.
pub fn encode_clips(
    encoders: &[Encoder],
    of: LatentsOf,
    clips: &[OwnClip],
    size: ClipSize,
    watcher: &mut dyn Watcher,
) -> Result<Option<Latents>, TrainError> {
    let video_of = |first: usize, count: usize, device: &ComputeDevice| {
        let mut values = Vec::new();
        for clip in &clips[first..first + count] {
            let decoded = decode(&clip.path, size)?;
            values.extend(decoded.ok_or_else(|| TrainError::Unreadable {
                path: clip.path.clone(),
                reason: format!("it has fewer than {} frames at 24 a second; remove it, or use a smaller --frames", size.frames),
            })?);
        }
        let shape = [count, size.frames, size.height, size.width, 3];
        Ok(Tensor::from_data(TensorData::new(values, shape), &device.device))
    };
    Encoding { encoders, of, clips_a_call: Vae::clips_a_call(size), seed: 0, video_of: &video_of }.run(watcher)
}

/// Gives the video of some neighbouring clips, by the first and their number, on a device.
type VideoOf<'a> = &'a (dyn Fn(usize, usize, &ComputeDevice) -> Result<Tensor<5>, TrainError> + Sync);

/// What is encoded, and with what.
struct Encoding<'a> {
    encoders: &'a [Encoder],
    of: LatentsOf,
    clips_a_call: usize,
    /// Of the latents' noise.
    seed: u64,
    video_of: VideoOf<'a>,
}

impl Encoding<'_> {
    /// Calls go round the encoders.
    fn run(self, watcher: &mut dyn Watcher) -> Result<Option<Latents>, TrainError> {
        let stopped = AtomicBool::new(false);
        let encoded = thread::scope(|scope| {
            let others: Vec<_> = (1..self.encoders.len())
                .map(|place| {
                    scope.spawn({
                        let (this, stopped) = (&self, &stopped);
                        move || this.calls_of(place, &mut Unwatched(stopped))
                    })
                })
                .collect();
            let own = self.calls_of(0, watcher);
            if !matches!(own, Ok(Some(_))) {
                stopped.store(true, Relaxed);
            }
            let others = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            std::iter::once(own).chain(others).collect::<Result<Option<Vec<_>>, TrainError>>()
        })?;
        let Some(mut encoded) = encoded else { return Ok(None) };
        let mut values = Vec::with_capacity(self.of.clips * self.of.values_a_clip());
        for call in 0..self.of.clips.div_ceil(self.clips_a_call) {
            let encoders = encoded.len();
            values.append(&mut encoded[call % encoders][call / encoders]);
        }
        Ok(Some(Latents::new(self.of, values)))
    }

    /// The latents of each call of one encoder. A call is read on a thread of its own while the next ones are launched: else the
    /// device would wait for every reading, and for the host's work on the next clips.
    fn calls_of(&self, place: usize, watcher: &mut dyn Watcher) -> Result<Option<Vec<Vec<f16>>>, TrainError> {
        thread::scope(|scope| {
            let (send, receive) = sync_channel(CALLS_AHEAD);
            let reader = scope.spawn(move || read_all(&receive));
            let launched = self.launch(place, watcher, &send);
            drop(send);
            let values = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
            launched.and_then(|is_whole| Ok(if is_whole { Some(values?) } else { None }))
        })
    }

    /// Launches every call, and hands it on to be read. False if the watcher stopped it.
    fn launch(&self, place: usize, watcher: &mut dyn Watcher, reader: &SyncSender<Tensor<5>>) -> Result<bool, TrainError> {
        let random = Random::new(self.seed);
        let Encoder { vae, device } = &self.encoders[place];
        let [channels, frames, height, width] = self.of.shape;
        let (all, a_round) = (self.of.clips, self.clips_a_call * self.encoders.len());
        let begun = Instant::now();
        let mut told = 0;
        for first in (place * self.clips_a_call..all).step_by(a_round) {
            if watcher.stops() {
                return Ok(false);
            }
            let count = self.clips_a_call.min(all - first);
            let shape = [count, channels, frames, height, width];
            let noise = random.normal(Stream::Noise, first as u64, shape.iter().product());
            let noise = Tensor::from_data(TensorData::new(noise, shape), &device.device);
            if reader.send(scaled_latents(vae, (self.video_of)(first, count, device)?, noise)).is_err() {
                // It ended with an error of its own.
                return Ok(true);
            }
            // The others are about as far.
            let done = (first + a_round).min(all);
            let tenth = 10 * done / all;
            if tenth > told {
                told = tenth;
                let rate = done as f64 / begun.elapsed().as_secs_f64().max(1e-9);
                watcher.note(&format!("{done} of {all} clips of {frames} latent frames encoded, {rate:.0} a second"));
            }
        }
        Ok(true)
    }
}

/// Of the encoders beside the first.
struct Unwatched<'a>(&'a AtomicBool);

impl Watcher for Unwatched<'_> {
    fn report(&mut self, _: &Report) {}

    fn note(&mut self, _: &str) {}

    fn stops(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// The latents of each call.
fn read_all(calls: &Receiver<Tensor<5>>) -> Result<Vec<Vec<f16>>, TrainError> {
    let mut values = Vec::new();
    for latents in calls {
        let latents: Vec<f32> = latents
            .try_into_vec_as()
            .map_err(|error| TrainError::DeviceFailed { step: 0, reason: format!("while clips were encoded: {error}") })?;
        if latents.iter().any(|value| !value.is_finite()) {
            return Err(TrainError::Diverged { step: 0, what: "a latent of the VAE".into() });
        }
        values.push(latents.into_iter().map(f16::from_f32).collect());
    }
    Ok(values)
}

/// The first clips of the transformer's seed on their way through the VAE, as a judge looks at them:
/// `[clips, frames * height * width * 3]` around [-1, 1], in the storage type of the device.
pub fn pool_through_vae(vae: &Vae, clips: usize, size: ClipSize, device: &ComputeDevice) -> Tensor<2> {
    let stored = device.precision.dtype();
    let rows = (0..clips as u64).map(|clip| {
        let video = render_clips(&[Scene::of_clip(seeds::TRANSFORMER, clip)], size, &device.device);
        let decoded = vae.reconstruct(video).clamp(-1.0, 1.0);
        let [_, frames, height, width, channels] = decoded.dims();
        let seen = frames.div_ceil(FRAME_STEP);
        let seen_frames = (0..seen).map(|frame| decoded.clone().narrow(1, frame * FRAME_STEP, 1));
        let row = Tensor::cat(seen_frames.collect(), 1);
        row.reshape([1, seen * height * width * channels]).cast(stored)
    });
    Tensor::cat(rows.collect(), 0)
}
