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

/// Clips of one call of the encoder: in f32 and at full size a tensor of more would pass the 2 GiB of a binding.
const CLIPS_A_CALL: usize = 4;

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
    encode(vae, of, seed, device, watcher, &|first, count| {
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
    encode(vae, of, 0, device, watcher, &|first, count| {
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
    for first in (0..of.clips).step_by(CLIPS_A_CALL) {
        if watcher.stops() {
            return Ok(None);
        }
        watcher.doing(&format!("encodes {} clips", of.clips), first as f64 / of.clips as f64);
        let count = CLIPS_A_CALL.min(of.clips - first);
        let shape = [count, channels, frames, height, width];
        let noise = random.normal(Stream::Noise, first as u64, shape.iter().product());
        let noise = Tensor::from_data(TensorData::new(noise, shape), &device.device);
        let latents = scaled_latents(vae, video_of(first, count)?, noise);
        let latents: Vec<f32> = latents
            .try_into_vec_as()
            .map_err(|error| TrainError::DeviceFailed { step: 0, reason: format!("while clips were encoded: {error}") })?;
        if latents.iter().any(|value| !value.is_finite()) {
            return Err(TrainError::Diverged { step: 0, what: "a latent of the VAE".into() });
        }
        values.extend(latents.into_iter().map(f16::from_f32));
        let tenth = 10 * (first + count) / of.clips;
        if tenth > told {
            told = tenth;
            let rate = (first + count) as f64 / begun.elapsed().as_secs_f64().max(1e-9);
            watcher.note(&format!("{} of {} clips encoded, {rate:.0} a second", first + count, of.clips));
        }
    }
    Ok(Some(Latents::new(of, values)))
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
