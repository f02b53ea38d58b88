//! Clips through the VAE's encoder, once for a whole training.

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
use crate::training::run::Watcher;
use crate::world::renderer::render_clips;
use crate::world::scene::Scene;
use crate::world::seeds;

/// Pixels of one call of the encoder, four clips of mini: in f32 a tensor of more would pass the 2 GiB of a binding.
const PIXELS_A_CALL: usize = 4 * 29 * 256 * 144;
/// Clips of one call, however small they are.
const MOST_CLIPS_A_CALL: usize = 32;

fn clips_a_call(size: ClipSize) -> usize {
    (PIXELS_A_CALL / (size.frames * size.width * size.height).max(1)).clamp(1, MOST_CLIPS_A_CALL)
}

/// Encodes clips `0..of.clips` of the world's seed. None if the watcher stopped it.
///
/// # Errors
/// The device failed.
pub fn encode_world(
    vae: &Vae,
    of: LatentsOf,
    seed: u64,
    size: ClipSize,
    device: &ComputeDevice,
    watcher: &mut dyn Watcher,
) -> Result<Option<Latents>, TrainError> {
    encode(vae, of, clips_a_call(size), seed, device, watcher, &|first, count| {
        let scenes: Vec<Scene> = (first..first + count).map(|clip| Scene::of_clip(seed, clip as u64)).collect();
        Ok(render_clips(&scenes, size, &device.device))
    })
}

/// Encodes a person's own clips, which are all long enough. None if the watcher stopped it.
///
/// # Errors
/// The device failed, or a clip cannot be decoded.
pub fn encode_clips(
    vae: &Vae,
    of: LatentsOf,
    clips: &[OwnClip],
    size: ClipSize,
    device: &ComputeDevice,
    watcher: &mut dyn Watcher,
) -> Result<Option<Latents>, TrainError> {
    encode(vae, of, clips_a_call(size), 0, device, watcher, &|first, count| {
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
    })
}

/// Gives the video of some neighbouring clips, by the first and their number.
type VideoOf<'a> = &'a dyn Fn(usize, usize) -> Result<Tensor<5>, TrainError>;

fn encode(
    vae: &Vae,
    of: LatentsOf,
    clips_a_call: usize,
    seed: u64,
    device: &ComputeDevice,
    watcher: &mut dyn Watcher,
    video_of: VideoOf<'_>,
) -> Result<Option<Latents>, TrainError> {
    let random = Random::new(seed);
    let [channels, frames, height, width] = of.shape;
    let mut values = Vec::with_capacity(of.clips * of.values_a_clip());
    let begun = Instant::now();
    let mut told = 0;
    // One call is always on its way while the one before it is read, so that the device does not wait.
    let mut pending: Option<Tensor<5>> = None;
    for first in (0..of.clips).step_by(clips_a_call) {
        if watcher.stops() {
            return Ok(None);
        }
        let count = clips_a_call.min(of.clips - first);
        let shape = [count, channels, frames, height, width];
        let noise = random.normal(Stream::Noise, first as u64, shape.iter().product());
        let noise = Tensor::from_data(TensorData::new(noise, shape), &device.device);
        let launched = scaled_latents(vae, video_of(first, count)?, noise);
        if let Some(before) = pending.replace(launched) {
            read_into(&mut values, before)?;
        }
        // Those of the call on its way do not count yet.
        let tenth = 10 * first / of.clips;
        if tenth > told {
            told = tenth;
            let rate = first as f64 / begun.elapsed().as_secs_f64().max(1e-9);
            watcher.note(&format!("{first} of {} clips of {frames} latent frames encoded, {rate:.0} a second", of.clips));
        }
    }
    if let Some(last) = pending {
        read_into(&mut values, last)?;
    }
    Ok(Some(Latents::new(of, values)))
}

/// Reads the latents of a call from the device.
fn read_into(values: &mut Vec<f16>, latents: Tensor<5>) -> Result<(), TrainError> {
    let latents: Vec<f32> = latents
        .try_into_vec_as()
        .map_err(|error| TrainError::DeviceFailed { step: 0, reason: format!("while clips were encoded: {error}") })?;
    if latents.iter().any(|value| !value.is_finite()) {
        return Err(TrainError::Diverged { step: 0, what: "a latent of the VAE".into() });
    }
    values.extend(latents.into_iter().map(f16::from_f32));
    Ok(())
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
