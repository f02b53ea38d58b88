//! One weight file of any kind, seen as named tensors.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{WeightError, shown};
use super::pickle::PickleFile;
use super::safetensors::SafetensorsFile;
use super::sharded::ShardedFiles;
use super::stored_type::StoredType;

/// Shape and element type of a stored tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    pub stored: StoredType,
}

impl TensorInfo {
    /// Number of elements. Sources check at opening that the bytes of a tensor can be counted, so this cannot overflow.
    pub fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Number of stored bytes.
    pub fn byte_length(&self) -> usize {
        self.element_count() * self.stored.byte_width()
    }
}

/// The tensors of a weight file, listed at opening and read one at a time.
#[derive(Debug)]
pub struct WeightSource {
    location: String,
    path: Option<PathBuf>,
    tensors: BTreeMap<String, TensorInfo>,
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    Safetensors(SafetensorsFile),
    Pickle(PickleFile),
    Sharded(ShardedFiles),
}

impl WeightSource {
    /// Opens `*.safetensors`, `*.ckpt`, `*.pt`, `*.pth`, `*.bin`, or the `*.index.json` of a sharded checkpoint.
    ///
    /// Of a pickle, the weights are chosen as the reference VAE loader does: `ema_state_dict` if there are any (without
    /// `module.`), else `state_dict.gen_model`, else `state_dict`, else the file itself.
    ///
    /// # Errors
    /// If the file is missing, of no known kind, damaged, or holds no tensors.
    pub fn open(path: &Path) -> Result<Self, WeightError> {
        let location = path.display().to_string();
        let unreadable = |source| WeightError::Unreadable { location: location.clone(), source };
        // A pipe or a device would block or never end.
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(unreadable(io::Error::other("it is not a file")));
        }
        let (reader, tensors) = match kind_of(path) {
            Some(Kind::Safetensors) => {
                let (file, tensors) = SafetensorsFile::open(path, &location)?;
                (Reader::Safetensors(file), tensors)
            }
            Some(Kind::Pickle) => {
                let (file, tensors) = PickleFile::open(path, &location)?;
                (Reader::Pickle(file), tensors)
            }
            Some(Kind::Index) => {
                let (files, tensors) = ShardedFiles::open(path, &location)?;
                (Reader::Sharded(files), tensors)
            }
            None => return Err(WeightError::UnknownKind { location }),
        };
        Self::checked(location, Some(path.to_owned()), tensors, reader)
    }

    /// Opens a safetensors file that is part of the program; `location` names it in messages.
    ///
    /// # Errors
    /// If the bytes are not a sound safetensors file with at least one tensor.
    pub fn embedded(location: &str, bytes: &'static [u8]) -> Result<Self, WeightError> {
        let (file, tensors) = SafetensorsFile::embedded(bytes, location)?;
        Self::checked(location.to_owned(), None, tensors, Reader::Safetensors(file))
    }

    fn checked(
        location: String,
        path: Option<PathBuf>,
        tensors: BTreeMap<String, TensorInfo>,
        reader: Reader,
    ) -> Result<Self, WeightError> {
        if tensors.is_empty() {
            return Err(WeightError::Empty { location });
        }
        Ok(Self { location, path, tensors, reader })
    }

    /// The file's path, or its name inside the program.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// All files on disk that belong to this source: one, or an index and its parts; none if it is embedded.
    pub fn files(&self) -> Vec<&Path> {
        let mut files: Vec<&Path> = self.path.iter().map(PathBuf::as_path).collect();
        if let Reader::Sharded(shards) = &self.reader {
            files.extend(shards.files());
        }
        files
    }

    /// Names, shapes and types, in the order of the names.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// Shape and type of one tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// Reads one tensor, row-major. F32, F16 and BF16 are exact; F64 is rounded.
    ///
    /// # Errors
    /// If there is no such tensor, it is not floating-point, or the file cannot be read (any more).
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, WeightError> {
        let Some(info) = self.tensors.get(name) else {
            return Err(WeightError::UnknownTensor { location: self.location.clone(), name: shown(name) });
        };
        if !info.stored.is_float() {
            let (location, name, stored) = (self.location.clone(), shown(name), info.stored);
            return Err(WeightError::NotFloat { location, name, stored });
        }
        match &self.reader {
            Reader::Safetensors(file) => file.read_f32(name, info, &self.location),
            Reader::Pickle(file) => file.read_f32(name, info, &self.location),
            Reader::Sharded(files) => files.read_f32(name, &self.location),
        }
    }
}

enum Kind {
    Safetensors,
    Pickle,
    Index,
}

fn kind_of(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    if name.ends_with(".index.json") {
        return Some(Kind::Index);
    }
    match name.rsplit_once('.')?.1 {
        "safetensors" => Some(Kind::Safetensors),
        "ckpt" | "pt" | "pth" | "bin" => Some(Kind::Pickle),
        _ => None,
    }
}
