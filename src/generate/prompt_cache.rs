//! Embeddings of prompts, kept on disk: a large text encoder takes seconds to minutes for a text that is often used again.
//!
//! A file's name is the hash of everything that its numbers depend on: the encoder's files, the tokens and their mask, and the
//! device with its precision and kernels, so that a cached text gives the same clip as a fresh one. Files are small (8 MB at the
//! published size) and the oldest go first.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};

use super::data_folder;
use crate::gpu::device::ComputeDevice;
use crate::model::weights::WeightSource;

const FOLDER: &str = "prompt-embeddings";
const EMBEDDING: &str = "embedding";
const ENDING: &str = "safetensors";
/// Of all files together.
const MOST_BYTES: u64 = 512 << 20;

/// The embeddings of one encoder on one device.
pub struct PromptCache {
    folder: PathBuf,
    /// Everything but the text.
    setting: String,
}

impl PromptCache {
    /// The user's own, in the data folder; none where the system knows no home. `encoder_hash` is that of the encoder's files.
    pub fn open(encoder_hash: &str, device: &ComputeDevice) -> Option<Self> {
        Some(Self::in_folder(&data_folder()?.join(FOLDER), encoder_hash, device))
    }

    pub fn in_folder(folder: &Path, encoder_hash: &str, device: &ComputeDevice) -> Self {
        let setting = format!("{encoder_hash} {} {} {}", device.name, device.precision, device.kernel_tier());
        Self { folder: folder.to_owned(), setting }
    }

    fn path(&self, ids: &[u32], mask: &[f32]) -> PathBuf {
        let mut hash = Sha256::new();
        hash.update((self.setting.len() as u64).to_le_bytes());
        hash.update(&self.setting);
        ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
        mask.iter().for_each(|seen| hash.update(seen.to_le_bytes()));
        let name: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(name).with_extension(ENDING)
    }

    /// The embedding `[tokens, width]` of a text, if it is kept. A damaged file is as good as none.
    pub fn read(&self, ids: &[u32], mask: &[f32], width: usize) -> Option<Vec<f32>> {
        let path = self.path(ids, mask);
        if !path.is_file() {
            return None;
        }
        let read = || {
            let source = WeightSource::open(&path)?;
            source.read_f32(EMBEDDING)
        };
        match read() {
            Ok(values) if values.len() == ids.len() * width && values.iter().all(|value| value.is_finite()) => {
                // The oldest by use go first.
                if let Ok(file) = fs::File::options().append(true).open(&path) {
                    let _ = file.set_modified(SystemTime::now());
                }
                Some(values)
            }
            Ok(_) => None,
            Err(error) => {
                log::info!("the embedding of this prompt is made anew: {error}");
                None
            }
        }
    }

    /// Keeps an embedding. That it cannot be written is no reason to fail: it is only logged.
    pub fn keep(&self, ids: &[u32], mask: &[f32], embedding: &[f32]) {
        let path = self.path(ids, mask);
        if let Err(error) = self.write(&path, ids.len(), embedding).and_then(|()| self.forget_oldest(MOST_BYTES)) {
            log::info!("the embedding of this prompt was not kept in {}: {error}", path.display());
        }
    }

    fn write(&self, path: &Path, tokens: usize, embedding: &[f32]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let bytes: Vec<u8> = embedding.iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![tokens, embedding.len() / tokens], &bytes).map_err(io::Error::other)?;
        let bytes = safetensors::serialize([(EMBEDDING, view)], None).map_err(io::Error::other)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&bytes)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    fn forget_oldest(&self, most_bytes: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let facts = entry.metadata()?;
            if facts.is_file() && entry.path().extension().is_some_and(|ending| ending == ENDING) {
                files.push((facts.modified()?, facts.len(), entry.path()));
            }
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, own, path) in files {
            if bytes <= most_bytes {
                break;
            }
            fs::remove_file(path)?;
            bytes -= own;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{DeviceChoice, open};

    #[test]
    fn what_was_kept_comes_back_for_the_same_text_only() {
        let folder = tempfile::tempdir().unwrap();
        let device = open(&DeviceChoice::Cpu, None).unwrap();
        let cache = PromptCache::in_folder(folder.path(), "aa", &device);
        let embedding = vec![0.5, -1.0, 2.0, 3.0];
        assert_eq!(cache.read(&[1, 2], &[1.0, 1.0], 2), None);
        cache.keep(&[1, 2], &[1.0, 1.0], &embedding);
        assert_eq!(cache.read(&[1, 2], &[1.0, 1.0], 2), Some(embedding));
        assert_eq!(cache.read(&[1, 3], &[1.0, 1.0], 2), None);
        assert_eq!(cache.read(&[1, 2], &[1.0, 0.0], 2), None);
        assert_eq!(cache.read(&[1, 2], &[1.0, 1.0], 3), None, "another width is another encoder");
        let other = PromptCache::in_folder(folder.path(), "bb", &device);
        assert_eq!(other.read(&[1, 2], &[1.0, 1.0], 2), None);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none_and_the_oldest_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let device = open(&DeviceChoice::Cpu, None).unwrap();
        let cache = PromptCache::in_folder(folder.path(), "aa", &device);
        for id in 0..3 {
            cache.keep(&[id], &[1.0], &[id as f32]);
            let file = fs::File::options().append(true).open(cache.path(&[id], &[1.0])).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(id))).unwrap();
        }
        let one = fs::metadata(cache.path(&[0], &[1.0])).unwrap().len();
        cache.forget_oldest(2 * one).unwrap();
        let kept: Vec<bool> = (0..3).map(|id| cache.read(&[id], &[1.0], 1).is_some()).collect();
        assert_eq!(kept, [false, true, true]);
        fs::write(cache.path(&[1], &[1.0]), b"junk").unwrap();
        assert_eq!(cache.read(&[1], &[1.0], 1), None);
    }
}
