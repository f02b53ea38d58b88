//! The exact checkpoint: one safetensors file with four f32 vectors; what it belongs to stands in its header.

use std::collections::HashMap;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::{Checkpoint, FORMAT, Header, Vectors, sha256};
use crate::model::weights::{WrittenType, write_whole};
use crate::training::error::TrainError;

const HEADER: &str = "tilereel_checkpoint";
const CHECKSUM: &str = "sha256";
const NAMES: [&str; 4] = ["master", "first", "second", "average"];

/// Writes a checkpoint in the place of the one before.
///
/// # Errors
/// It cannot be written; the one before is kept.
pub fn write(path: &Path, checkpoint: &Checkpoint) -> Result<(), TrainError> {
    let unfit = |reason: String| TrainError::Checkpoint { path: path.to_owned(), reason };
    let Vectors { master, first, second, average } = &checkpoint.vectors;
    let bytes = [master, first, second, average].map(|values| WrittenType::F32.bytes(values));
    let header = serde_json::to_string(&checkpoint.header()).map_err(|error| unfit(error.to_string()))?;
    let checksum = sha256(&[header.as_bytes(), &bytes[0], &bytes[1], &bytes[2], &bytes[3]]);
    let facts = HashMap::from([(HEADER.to_owned(), header), (CHECKSUM.to_owned(), checksum)]);
    let views = NAMES
        .iter()
        .zip(&bytes)
        .map(|(name, bytes)| TensorView::new(Dtype::F32, vec![bytes.len() / size_of::<f32>()], bytes).map(|view| (*name, view)));
    let views = views.collect::<Result<Vec<_>, _>>().map_err(|error| unfit(error.to_string()))?;
    let file = safetensors::serialize(views, Some(facts)).map_err(|error| unfit(error.to_string()))?;
    Ok(write_whole(path, &file)?)
}

/// Reads a checkpoint and its checksum.
///
/// # Errors
/// There is none, or it is damaged or of another version.
pub fn read(path: &Path) -> Result<Checkpoint, TrainError> {
    let unfit = |reason: String| TrainError::Checkpoint { path: path.to_owned(), reason };
    let file = match std::fs::read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(TrainError::NoCheckpoint { path: path.parent().unwrap_or(path).to_owned() });
        }
        Err(error) => return Err(unfit(error.to_string())),
    };
    let damaged = |reason: String| unfit(format!("it is damaged ({reason})"));
    let (_, metadata) = SafeTensors::read_metadata(&file).map_err(|error| damaged(error.to_string()))?;
    let facts = metadata.metadata().clone().unwrap_or_default();
    let (Some(header_text), Some(checksum)) = (facts.get(HEADER), facts.get(CHECKSUM)) else {
        return Err(unfit("it is no checkpoint of a training".into()));
    };
    let tensors = SafeTensors::deserialize(&file).map_err(|error| damaged(error.to_string()))?;
    let bytes = |name: &str| tensors.tensor(name).map(|view| view.data().to_vec()).map_err(|error| damaged(error.to_string()));
    let bytes = NAMES.map(bytes);
    let [master, first, second, average] = bytes;
    let bytes = [master?, first?, second?, average?];
    if sha256(&[header_text.as_bytes(), &bytes[0], &bytes[1], &bytes[2], &bytes[3]]) != *checksum {
        return Err(damaged("its checksum is another".into()));
    }
    let header: Header = serde_json::from_str(header_text).map_err(|error| damaged(error.to_string()))?;
    if header.format != FORMAT {
        return Err(unfit(format!("its format is {}, and this program knows {FORMAT}", header.format)));
    }
    let values = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
    let [master, first, second, average] = bytes.each_ref().map(|bytes| values(bytes));
    let vectors = Vectors { master, first, second, average };
    Ok(Checkpoint { identity: header.identity, progress: header.progress, vectors })
}
