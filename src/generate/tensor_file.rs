//! Noise and latents in safetensors files, for comparing a run with another implementation.

use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use super::GenerateError;
use super::pipeline::transformer_config;
use super::recipe::Recipe;
use crate::clip::ClipError;
use crate::model::folder::ModelFolder;
use crate::model::latent::Latent;
use crate::model::weights::WeightSource;

const NOISE: &str = "noise";
const LATENT: &str = "latent";

/// Unit normal start noise for this recipe, tensor `noise` `[1, channels, frames, height, width]`, and its SHA-256.
///
/// # Errors
/// The file cannot be read, or its tensor is not of this recipe's shape.
pub fn read_noise(path: &Path, recipe: &Recipe, folder: &ModelFolder) -> Result<(Latent, String), GenerateError> {
    let shape = recipe.size().latent_shape(transformer_config(folder)?.in_channels);
    let expected: Vec<usize> = std::iter::once(1).chain(shape).collect();
    let unfit = |reason: String| GenerateError::Noise { path: path.to_owned(), reason, expected: expected.clone() };
    let source = WeightSource::open(path)?;
    let found = source.info(NOISE).ok_or_else(|| unfit("it has no such tensor".into()))?.shape.clone();
    if found != expected {
        return Err(unfit(format!("its shape is {found:?}")));
    }
    let latent = Latent { shape, values: source.read_f32(NOISE)? };
    if !latent.is_finite() {
        return Err(unfit("some values are not finite".into()));
    }
    let sum = Sha256::digest(bytes_of(&latent.values));
    Ok((latent, sum.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// Writes the latent as the sampler left it, before the division by the VAE's scaling factor: tensor `latent`
/// `[1, channels, frames, height, width]`.
///
/// # Errors
/// The folder cannot be written; no half file is left.
pub fn write_latent(path: &Path, latent: &Latent) -> Result<(), GenerateError> {
    // The kind alone: the whole error would name the temporary file.
    let failed = |source: std::io::Error| ClipError::Io {
        doing: "write the latent to",
        path: path.to_owned(),
        source: source.kind().into(),
    };
    let other = |error: safetensors::SafeTensorError| failed(std::io::Error::other(error));
    let shape: Vec<usize> = std::iter::once(1).chain(latent.shape).collect();
    let bytes = bytes_of(&latent.values);
    let view = TensorView::new(Dtype::F32, shape, &bytes).map_err(other)?;
    let bytes = safetensors::serialize([(LATENT, view)], None).map_err(other)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
