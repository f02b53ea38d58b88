//! Tiles of a decoding, for whoever is free.
//!
//! A tile is decoded alone anyway, so that sharing them changes nothing: the device that puts them together only blends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use burn::tensor::{Bytes, Tensor};

use super::group::RankError;
use crate::gpu::device::ComputeDevice;
use crate::model::latent::Latent;
use crate::model::vae::{Place, Sites, Vae};

/// A decoding that a helper takes part in.
#[derive(Clone)]
pub(super) struct DecodeJob {
    /// Divided by the scaling factor.
    pub latents: Arc<Latent>,
    pub places: Arc<Vec<Place>>,
    /// The next tile that nobody has begun.
    pub next: Arc<AtomicUsize>,
    pub tiles: Sender<(usize, Tile)>,
    /// Set when the run is to stop.
    pub stop: Arc<AtomicBool>,
}

/// A decoded tile `[1, frames, height, width, 3]` in f32.
pub(super) enum Tile {
    Here(Box<Tensor<5>>),
    /// From another device.
    Bytes {
        bytes: Bytes,
        shape: [usize; 5],
    },
}

impl DecodeJob {
    /// Decodes tiles until all are begun; they stay on the device.
    ///
    /// # Errors
    /// It was stopped.
    pub fn work(&self, vae: &Vae, device: &ComputeDevice, stop: &dyn Fn() -> bool) -> Result<Vec<(usize, Tile)>, RankError> {
        let latents = self.latents.to_tensor(1, &device.device);
        let mut tiles = Vec::new();
        while let Some((number, place)) = self.begin() {
            tiles.push((number, Tile::Here(Box::new(decode_tile(vae, latents.clone(), place, stop)?))));
            // Whoever only queues its work would take all tiles at once.
            device.device.sync().map_err(|error| RankError::Device(error.to_string()))?;
        }
        Ok(tiles)
    }

    fn begin(&self) -> Option<(usize, &Place)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Some((number, self.places.get(number)?))
    }
}

/// Decodes one tile.
///
/// # Errors
/// It was stopped.
pub(super) fn decode_tile(vae: &Vae, latents: Tensor<5>, place: &Place, stop: &dyn Fn() -> bool) -> Result<Tensor<5>, RankError> {
    vae.decode_tile(latents, place, &mut Sites::stopping(stop)).map_err(|_| RankError::Stopped)
}

/// A helper's part: tiles go back as bytes.
pub(super) fn decode_tiles(vae: &Vae, device: &ComputeDevice, job: &DecodeJob) -> Result<(), RankError> {
    let latents = job.latents.to_tensor(1, &device.device);
    let stop = || job.stop.load(Ordering::Relaxed);
    while let Some((number, place)) = job.begin() {
        let tile = decode_tile(vae, latents.clone(), place, &stop)?;
        let shape = tile.dims();
        let values: Vec<f32> = tile.try_into_vec_as().map_err(|error| RankError::Device(error.to_string()))?;
        // Nobody waits for it once the run was stopped.
        let _ = job.tiles.send((number, Tile::Bytes { bytes: Bytes::from_elems(values), shape }));
    }
    Ok(())
}
