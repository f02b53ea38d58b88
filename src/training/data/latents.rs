//! Clips that were encoded once: latents in f16, in memory and in one file with a checksum.
//!
//! The file says which VAE and which clips it is of. It is made anew where these are others.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::model::vae::is_of_encoder;
use crate::model::weights::{WeightError, WeightSource};
use crate::training::error::TrainError;

const MAGIC: &[u8; 16] = b"tilereel latents";
/// Of the header's text, so that a damaged length asks for no memory.
const LONGEST_HEADER: u64 = 1 << 16;

/// What latents are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentsOf {
    /// The digest of the VAE's encoder ([`encoder_digest`]).
    pub vae: String,
    /// Where the clips are from: the world's seed, or a folder's content.
    pub source: String,
    pub clips: usize,
    /// `[channels, frames, height, width]`.
    pub shape: [usize; 4],
}

impl LatentsOf {
    /// Values of one clip.
    pub fn values_a_clip(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Latents as the transformer sees them, clip after clip.
#[derive(Clone, Debug, PartialEq)]
pub struct Latents {
    pub of: LatentsOf,
    values: Vec<f16>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    of: LatentsOf,
    sha256: String,
}

impl Latents {
    /// # Panics
    /// There are not as many values as the clips have.
    pub fn new(of: LatentsOf, values: Vec<f16>) -> Self {
        assert_eq!(values.len(), of.clips * of.values_a_clip(), "every clip has its latent");
        Self { of, values }
    }

    /// The latent of a clip.
    ///
    /// # Panics
    /// There is no such clip.
    pub fn clip(&self, index: usize) -> &[f16] {
        let length = self.of.values_a_clip();
        &self.values[index * length..(index + 1) * length]
    }

    /// The latents of some clips in f32, one after the other.
    ///
    /// # Panics
    /// There is no such clip.
    pub fn clips(&self, indices: &[usize]) -> Vec<f32> {
        let length = self.of.values_a_clip();
        let mut values = vec![0.0; indices.len() * length];
        let clips = values.par_chunks_mut(length.max(1)).zip(indices);
        clips.for_each(|(values, &index)| self.clip(index).convert_to_f32_slice(values));
        values
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), TrainError> {
        let unfit = |reason: String| TrainError::Latents { path: path.to_owned(), reason };
        let bytes: Vec<u8> = self.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let header = Header { of: self.of.clone(), sha256: hexadecimal(&bytes) };
        let header = serde_json::to_vec(&header).map_err(|error| unfit(error.to_string()))?;
        let mut file = Vec::with_capacity(MAGIC.len() + 8 + header.len() + bytes.len());
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&(header.len() as u64).to_le_bytes());
        file.extend_from_slice(&header);
        file.extend_from_slice(&bytes);
        Ok(crate::model::weights::write_whole(path, &file)?)
    }

    /// Reads the file if it is there and is of what is wanted.
    ///
    /// # Errors
    /// It is there, but damaged or unreadable.
    pub fn read(path: &Path, wanted: &LatentsOf) -> Result<Option<Self>, TrainError> {
        Self::read_if(path, &|of| of == wanted)
    }

    /// As [`Self::read`], if what they are of is as `is_wanted` says.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_if(path: &Path, is_wanted: &dyn Fn(&LatentsOf) -> bool) -> Result<Option<Self>, TrainError> {
        let unfit = |reason: String| TrainError::Latents { path: path.to_owned(), reason };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unfit(error.kind().to_string())),
        };
        let mut take = |length: u64| {
            let mut bytes = Vec::new();
            let read = file.by_ref().take(length).read_to_end(&mut bytes);
            match read {
                Ok(read) if read as u64 == length => Ok(bytes),
                Ok(_) => Err(unfit("it ends too early".into())),
                Err(error) => Err(unfit(error.kind().to_string())),
            }
        };
        if take(MAGIC.len() as u64)? != MAGIC {
            return Err(unfit("it holds no latents".into()));
        }
        let length = take(8)?.as_chunks().0.first().map_or(0, |&eight| u64::from_le_bytes(eight));
        if length > LONGEST_HEADER {
            return Err(unfit("its header is damaged".into()));
        }
        let header: Header =
            serde_json::from_slice(&take(length)?).map_err(|error| unfit(format!("its header is damaged ({error})")))?;
        if !is_wanted(&header.of) {
            return Ok(None);
        }
        let values = [header.of.clips, size_of::<f16>()].into_iter().chain(header.of.shape);
        let length = values.map(|size| size as u64).try_fold(1u64, u64::checked_mul);
        let bytes = take(length.ok_or_else(|| unfit("its header is damaged (no file is so long)".into()))?)?;
        if hexadecimal(&bytes) != header.sha256 {
            return Err(unfit("its checksum is another".into()));
        }
        let values = bytes.as_chunks().0.iter().map(|&two| f16::from_le_bytes(two)).collect();
        Ok(Some(Self { of: header.of, values }))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A SHA-256 of a VAE's configuration and of the tensors that make latents. Those of the decoder do not count: a latent does
/// not depend on them, so that one that was encoded stays right while the decoder alone learns more
/// ([`crate::training::pretrain::vae::FrozenEncoder`]).
///
/// # Errors
/// A tensor cannot be read.
pub fn encoder_digest(config: &Value, weights: &WeightSource) -> Result<String, WeightError> {
    let mut hash = Sha256::new();
    hash.update(config.to_string());
    let mut names: Vec<&str> = weights.tensors().map(|(name, _)| name).filter(|name| is_of_encoder(name)).collect();
    names.sort_unstable();
    for name in names {
        let shape = weights.info(name).map(|info| &info.shape);
        hash.update(format!("\n{name} {shape:?}\n"));
        // The values, not the file's bytes: latents are the same whichever type keeps them.
        let bytes: Vec<u8> = weights.read_f32(name)?.iter().flat_map(|value| value.to_le_bytes()).collect();
        hash.update(bytes);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latents() -> Latents {
        let of = LatentsOf { vae: "v".into(), source: "world 1".into(), clips: 3, shape: [2, 1, 2, 3] };
        Latents::new(of, (0..36).map(|i| f16::from_f32(i as f32 / 8.0)).collect())
    }

    #[test]
    fn latents_come_back_if_they_are_the_wanted_ones() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/latents.bin");
        let latents = latents();
        assert_eq!(Latents::read(&path, &latents.of).expect("no error"), None);
        latents.write(&path).expect("written");
        assert_eq!(Latents::read(&path, &latents.of).expect("sound"), Some(latents.clone()));
        let other = LatentsOf { vae: "w".into(), ..latents.of.clone() };
        assert_eq!(Latents::read(&path, &other).expect("sound"), None);
        assert_eq!(latents.clip(1)[0], f16::from_f32(12.0 / 8.0));
    }

    #[test]
    fn damage_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("latents.bin");
        let latents = latents();
        latents.write(&path).expect("written");
        let whole = std::fs::read(&path).expect("there");
        let mut flipped = whole.clone();
        *flipped.last_mut().expect("bytes") ^= 1;
        for (bad, reason) in
            [(&flipped[..], "checksum"), (&whole[..whole.len() - 1], "too early"), (&b"something else...."[..], "no latents")]
        {
            std::fs::write(&path, bad).expect("written");
            let error = Latents::read(&path, &latents.of).expect_err("damaged").to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
