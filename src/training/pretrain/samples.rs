//! Sheets of what a transformer makes of eight prompts while it learns.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};

use super::base::{BaseNetworks, SheetOf};
use super::vae::frames_of;
use crate::clip::{self, Frames, WriteOptions, contact_sheet};
use crate::gpu::device::ComputeDevice;
use crate::mask::MaskPlan;
use crate::model::dit::{TextContext, Transformer};
use crate::model::latent::ClipSize;
use crate::model::sampler::SamplerKind;
use crate::model::sampling::{Sampling, StepMasks};
use crate::model::text::Tokenizer;
use crate::model::vae::Vae;
use crate::training::data::captions::{Captions, tokens_of};
use crate::training::error::TrainError;

/// What every sheet shows, in the words of a person.
const PROMPTS: [&str; 8] = [
    "a shiny red ball bounces on the snow at sunset while the camera zooms in",
    "a matte blue cube spins on a checkerboard at noon and the camera rises",
    "a glossy yellow ring rolls to the left on the sand at sunset, static camera",
    "a shiny green diamond floats up on the water at night while the camera orbits to the right",
    "a matte orange cone slides to the right on the grass at noon, fixed camera",
    "a polished purple cylinder grows on a wooden floor at sunset while the camera orbits left",
    "a shiny white ball next to a red cube circles around on the grass in the moonlight, static camera",
    "a dull pink cube swings on the snow on a sunny day while the camera stays still",
];
const STEPS: usize = 30;
const GUIDANCE: f64 = 3.0;
const SEED: u64 = 11;
const COLUMNS: usize = 5;
const TILE: usize = 192;

/// Draws sheets with this VAE and tokenizer, in clips of this size.
pub fn sheets(vae: Vae, tokenizer: Tokenizer, max_tokens: usize, size: ClipSize, device: &ComputeDevice) -> SheetOf {
    let painter = Painter { vae, size, device: device.clone() };
    Box::new(move |network: &BaseNetworks, path: &Path| {
        let encoded = |captions: Captions| {
            let embedding = network.text_encoder.forward(&captions.ids, &captions.mask, captions.sentences);
            TextContext { embedding, mask: captions.mask }
        };
        let prompts = encoded(captions_of(&PROMPTS, &tokenizer, max_tokens)?);
        let empty = encoded(captions_of(&[""; PROMPTS.len()], &tokenizer, max_tokens)?);
        let masks = StepMasks::of(&MaskPlan::dense(network.transformer.layers(), size.latent_frames())?);
        let way = Way { sampler: SamplerKind::Ddim, steps: STEPS, guidance_scale: GUIDANCE, masks };
        painter.draw(&network.transformer, [&prompts, &empty], way, path)
    })
}

fn captions_of(texts: &[&str], tokenizer: &Tokenizer, tokens: usize) -> Result<Captions, TrainError> {
    let mut captions = Captions::default();
    for text in texts {
        captions.push(&tokens_of(tokenizer, text, tokens)?);
    }
    Ok(captions)
}

/// The sentences of a sheet.
///
/// # Errors
/// The tokenizer refuses one.
pub fn prompts(tokenizer: &Tokenizer, tokens: usize) -> Result<Captions, TrainError> {
    captions_of(&PROMPTS, tokenizer, tokens)
}

/// How the samples of a sheet are made.
pub struct Way {
    pub sampler: SamplerKind,
    pub steps: usize,
    pub guidance_scale: f64,
    pub masks: StepMasks,
}

/// Makes sheets of clips of one size.
pub struct Painter {
    pub vae: Vae,
    pub size: ClipSize,
    pub device: ComputeDevice,
}

impl Painter {
    /// A clip for each of the sheet's sentences; the second text has as many rows without words.
    ///
    /// # Errors
    /// The device failed, or the file cannot be written.
    pub fn draw(
        &self,
        transformer: &Transformer,
        [prompts, empty]: [&TextContext; 2],
        way: Way,
        path: &Path,
    ) -> Result<(), TrainError> {
        let failed = |reason: String| TrainError::DeviceFailed { step: 0, reason };
        let (size, device) = (self.size, &self.device.device);
        let shape = size.latent_shape(transformer.latent_channels());
        let Way { sampler, steps, guidance_scale, masks } = way;
        let sampling = Sampling { sampler, steps, guidance_scale, shape, masks, seed: SEED };
        let latents = sampling.run(transformer, prompts, empty, 0, device);
        let latents = latents.map_err(|error| failed(error.to_string()))?;
        let [channels, frames, height, width] = shape;
        let clips = latents.chunks_exact(shape.iter().product()).map(|latent| {
            let latent = TensorData::new(latent.to_vec(), [1, channels, frames, height, width]);
            frames_of(self.vae.decode_whole(Tensor::from_data(latent, device) / self.vae.scaling_factor()), size)
        });
        let clips = clips.collect::<Result<Vec<Frames>, TrainError>>()?;
        let sheet = contact_sheet(&clips.iter().collect::<Vec<_>>(), COLUMNS, TILE.min(size.width))?;
        write_sheet(path, &sheet)
    }
}

/// Writes a sheet into a folder that is made if it is not there.
///
/// # Errors
/// It cannot be written.
pub fn write_sheet(path: &Path, sheet: &Frames) -> Result<(), TrainError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| TrainError::Unreadable { path: folder.to_owned(), reason: error.kind().to_string() })?;
    }
    clip::write_clip(path, sheet, None, &WriteOptions::default())?;
    Ok(())
}
