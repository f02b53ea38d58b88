//! The packed checkpoint: 16 bits a number, in parts small enough to be kept beside a program's text.
//!
//! Parameters and their average are kept in f16, as they are published: that is eight times finer than bf16. Moments, which
//! span many orders of magnitude, are kept in bf16. The manifest is written last: parts that it does not name mean nothing.

use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::{Checkpoint, FORMAT, Header, Vectors, sha256};
use crate::model::weights::{WrittenType, write_whole};
use crate::training::error::TrainError;

/// Of the largest part.
pub const PART_BYTES: usize = 15 << 20;
const MANIFEST: &str = "packed.json";

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    header: Header,
    /// Elements of master, first, second and average, in the order of the bytes.
    elements: [usize; 4],
    parts: Vec<Part>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Part {
    name: String,
    bytes: usize,
    sha256: String,
}

/// How each of the four vectors is kept.
const STORED: [WrittenType; 4] = [WrittenType::F16, WrittenType::Bf16, WrittenType::Bf16, WrittenType::F16];

/// Writes the parts and then the manifest into `folder`, and removes the parts of the one before. Gives all bytes.
///
/// # Errors
/// The folder cannot be written, or a parameter is too large for 16 bits; the one before is kept.
pub fn write(folder: &Path, checkpoint: &Checkpoint) -> Result<u64, TrainError> {
    let unfit = |reason: String| TrainError::Checkpoint { path: folder.to_owned(), reason };
    let Vectors { master, first, second, average } = &checkpoint.vectors;
    let vectors = [master, first, second, average];
    if [master, average].into_iter().flatten().any(|&value| !f16::from_f32(value).is_finite()) {
        return Err(unfit("a parameter is too large for 16 bits".into()));
    }
    let blob: Vec<u8> = vectors.iter().zip(STORED).flat_map(|(values, stored)| stored.bytes(values)).collect();
    let mut parts = Vec::new();
    for (index, bytes) in blob.chunks(PART_BYTES).enumerate() {
        let name = format!("step-{}-part-{index:02}.bin", checkpoint.progress.step);
        write_whole(&folder.join(&name), bytes)?;
        parts.push(Part { name, bytes: bytes.len(), sha256: sha256(&[bytes]) });
    }
    let manifest = Manifest { header: checkpoint.header(), elements: vectors.map(Vec::len), parts };
    let text = serde_json::to_string_pretty(&manifest).map_err(|error| unfit(error.to_string()))?;
    write_whole(&folder.join(MANIFEST), text.as_bytes())?;
    remove_others(folder, &manifest);
    Ok(blob.len() as u64 + text.len() as u64)
}

/// Parts that the manifest does not name are only in the way.
fn remove_others(folder: &Path, manifest: &Manifest) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_part = name.starts_with("step-") && name.ends_with(".bin");
        if is_part
            && !manifest.parts.iter().any(|part| part.name == name)
            && let Err(error) = fs::remove_file(&path)
        {
            log::debug!("could not remove {}: {error}", path.display());
        }
    }
}

/// Whether `folder` holds a packed checkpoint.
pub fn is_there(folder: &Path) -> bool {
    folder.join(MANIFEST).is_file()
}

/// Reads a packed checkpoint.
///
/// # Errors
/// There is none, a part is missing or damaged, or it is of another version.
pub fn read(folder: &Path) -> Result<Checkpoint, TrainError> {
    let unfit = |path: PathBuf, reason: String| TrainError::Checkpoint { path, reason };
    let path = folder.join(MANIFEST);
    if !path.is_file() {
        return Err(TrainError::NoCheckpoint { path: folder.to_owned() });
    }
    let text = fs::read_to_string(&path).map_err(|error| unfit(path.clone(), error.to_string()))?;
    let manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| unfit(path.clone(), format!("it is damaged ({error})")))?;
    if manifest.header.format != FORMAT {
        return Err(unfit(path, format!("its format is {}, and this program knows {FORMAT}", manifest.header.format)));
    }
    let mut blob = Vec::new();
    for part in &manifest.parts {
        if part.name.contains(['/', '\\', ':', '\0']) {
            return Err(unfit(path, "it names a part elsewhere".into()));
        }
        let place = folder.join(&part.name);
        let bytes = fs::read(&place).map_err(|error| unfit(place.clone(), error.to_string()))?;
        if sha256(&[&bytes]) != part.sha256 {
            return Err(unfit(place, "it is damaged (its checksum is another)".into()));
        }
        blob.extend(bytes);
    }
    let [master, first, second, average] = manifest.elements;
    let bytes = manifest.elements.iter().try_fold(0usize, |sum, elements| sum.checked_add(elements.checked_mul(2)?));
    if bytes != Some(blob.len()) {
        return Err(unfit(path, "its parts are not as long as it says".into()));
    }
    let mut halves = blob.as_chunks().0.iter().copied();
    let mut take = |elements: usize, stored: WrittenType| -> Vec<f32> {
        let value = |two: [u8; 2]| match stored {
            WrittenType::Bf16 => bf16::from_le_bytes(two).to_f32(),
            WrittenType::F16 | WrittenType::F32 => f16::from_le_bytes(two).to_f32(),
        };
        halves.by_ref().take(elements).map(value).collect()
    };
    let vectors = Vectors {
        master: take(master, STORED[0]),
        first: take(first, STORED[1]),
        second: take(second, STORED[2]),
        average: take(average, STORED[3]),
    };
    Ok(Checkpoint { identity: manifest.header.identity, progress: manifest.header.progress, vectors })
}
