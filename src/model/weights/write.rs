//! Weight files that are written: safetensors under published names, whole or not at all.

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};

use crate::clip::ClipError;

/// How the numbers of a written file are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenType {
    F32,
    F16,
    Bf16,
}

impl WrittenType {
    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    /// Rounded to nearest, little-endian.
    pub fn bytes(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
        }
    }
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct WrittenTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// A file could not be written; the one that was there before, if any, still is.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("cannot write {}: the tensor {tensor} holds {value}, which the file cannot keep. The training diverged; use an earlier checkpoint", path.display())]
    Value { path: PathBuf, tensor: String, value: f32 },
    #[error("cannot write {}: {reason}", path.display())]
    Refused { path: PathBuf, reason: String },
    #[error("cannot make the folder {}: {reason}. Choose another one", path.display())]
    Folder { path: PathBuf, reason: String },
    #[error(transparent)]
    File(#[from] ClipError),
}

/// Writes tensors as a safetensors file.
///
/// # Errors
/// The folder cannot be written, the disk is full, or a value does not fit the type: no file may hold what no network can use.
pub fn write_safetensors(path: &Path, tensors: &[WrittenTensor], stored: WrittenType) -> Result<(), WriteError> {
    let refused = |reason: String| WriteError::Refused { path: path.to_owned(), reason };
    let mut bytes = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let lost = |value: &&f32| !value.is_finite() || (stored == WrittenType::F16 && !f16::from_f32(**value).is_finite());
        if let Some(value) = tensor.values.iter().find(lost) {
            return Err(WriteError::Value { path: path.to_owned(), tensor: tensor.name.clone(), value: *value });
        }
        bytes.push(stored.bytes(&tensor.values));
    }
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|(tensor, bytes)| Ok((tensor.name.as_str(), TensorView::new(stored.dtype(), tensor.shape.clone(), bytes)?)));
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>().map_err(|error| refused(error.to_string()))?;
    let file = safetensors::serialize(views, None).map_err(|error| refused(error.to_string()))?;
    write_whole(path, &file)
}

/// Writes a file whole or not at all, in a folder that is made if it is not there.
///
/// # Errors
/// The folder cannot be made or written, or the disk is full.
pub fn write_whole(path: &Path, contents: &[u8]) -> Result<(), WriteError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .map_err(|error| WriteError::Folder { path: folder.to_owned(), reason: error.kind().to_string() })?;
    Ok(crate::clip::write_whole(path, contents)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::weights::WeightSource;

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let values = vec![0.5, -2.0, 3.25, 65504.0, 0.0, 1.0];
        for stored in [WrittenType::F32, WrittenType::F16] {
            let path = folder.path().join("deep").join("w.safetensors");
            let tensor = WrittenTensor { name: "a.weight".into(), shape: vec![2, 3], values: values.clone() };
            write_safetensors(&path, &[tensor], stored).expect("written");
            let source = WeightSource::open(&path).expect("sound");
            assert_eq!(source.info("a.weight").map(|info| info.shape.clone()), Some(vec![2, 3]));
            assert_eq!(source.read_f32("a.weight").expect("values"), values);
        }
    }

    #[test]
    fn what_no_network_can_use_is_not_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("w.safetensors");
        for value in [f32::NAN, f32::INFINITY, 70_000.0] {
            let tensor = WrittenTensor { name: "a".into(), shape: vec![1], values: vec![value] };
            let error = write_safetensors(&path, &[tensor], WrittenType::F16).expect_err("refused");
            assert!(error.to_string().contains("cannot keep"), "{error}");
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "x").expect("written");
        let error = write_whole(&file.join("below"), b"y").expect_err("a file is no folder");
        assert!(error.to_string().starts_with("cannot make the folder"), "{error}");
        assert_eq!(std::fs::read(&file).expect("kept"), b"x");
    }
}
