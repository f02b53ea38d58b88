//! One weight file of any kind, seen as named tensors.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use burn::tensor::FloatDType;
use half::f16;

use super::error::{WeightError, shown};
use super::pickle::PickleFile;
use super::safetensors::SafetensorsFile;
use super::sharded::ShardedFiles;
use super::stored_type::StoredType;
use super::values::{Collector, TensorValues};

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
    Memory(Fetched),
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
        let info = self.float_info(name)?;
        let mut values = Vec::new();
        values.try_reserve_exact(info.element_count()).map_err(|_| self.out_of_memory(name, info, size_of::<f32>()))?;
        if let Reader::Memory(tensors) = &self.reader {
            let own = taken(tensors, name).ok_or_else(|| self.unknown(name))?;
            values.extend(own.data.iter::<f32>());
            return Ok(values);
        }
        self.read_bytes(name, 0, info.byte_length(), &mut |bytes| {
            info.stored.append_as_f32(bytes, &mut values);
        })?;
        Ok(values)
    }

    /// Reads one tensor in the type that a device keeps, f32 or f16.
    ///
    /// # Errors
    /// As [`Self::read_f32`].
    pub fn read_as(&self, name: &str, dtype: FloatDType) -> Result<TensorValues, WeightError> {
        let info = self.float_info(name)?;
        if let Reader::Memory(tensors) = &self.reader {
            let own = taken(tensors, name).ok_or_else(|| self.unknown(name))?;
            return Ok(TensorValues { data: own.data.convert_dtype(dtype.into()), not_finite: own.not_finite });
        }
        let element = if dtype == FloatDType::F16 { size_of::<f16>() } else { size_of::<f32>() };
        let mut collector = Collector::new(dtype, info.element_count()).map_err(|_| self.out_of_memory(name, info, element))?;
        self.read_bytes(name, 0, info.byte_length(), &mut |bytes| collector.append(info.stored, bytes))?;
        Ok(collector.finish(&info.shape))
    }

    /// Reads some rows of a matrix `[rows, columns]`, one after the other, as f32.
    ///
    /// # Errors
    /// As [`Self::read_f32`].
    ///
    /// # Panics
    /// A row is not below the matrix's, or the tensor is no matrix.
    pub fn read_rows(&self, name: &str, rows: &[u32]) -> Result<Vec<f32>, WeightError> {
        let info = self.float_info(name)?;
        let &[height, width] = info.shape.as_slice() else { panic!("{name} is no matrix but {:?}", info.shape) };
        let row_bytes = width * info.stored.byte_width();
        let mut values = Vec::with_capacity(rows.len() * width);
        for &row in rows {
            let row = row as usize;
            assert!(row < height, "{name} has no row {row}");
            self.read_bytes(name, row * row_bytes, row_bytes, &mut |bytes| {
                info.stored.append_as_f32(bytes, &mut values);
            })?;
        }
        Ok(values)
    }

    /// Whether rows of a tensor can be read without the rest of it.
    pub fn reads_rows(&self) -> bool {
        match &self.reader {
            Reader::Safetensors(_) => true,
            Reader::Sharded(files) => files.are_all(Self::reads_rows),
            Reader::Pickle(_) | Reader::Memory(_) => false,
        }
    }

    /// Hands `take` a stretch of a tensor's stored bytes, in pieces of whole elements.
    ///
    /// # Errors
    /// If there is no such tensor, or the file cannot be read (any more).
    pub fn read_bytes(&self, name: &str, skip: usize, length: usize, take: &mut dyn FnMut(&[u8])) -> Result<(), WeightError> {
        match &self.reader {
            Reader::Safetensors(file) => file.read(name, skip, length, &self.location, take),
            // It gives a tensor only as a whole.
            Reader::Pickle(file) => {
                file.read(name, &self.location, &mut |bytes| take(&bytes[skip..(skip + length).min(bytes.len())]))
            }
            Reader::Sharded(files) => files.part(name, &self.location)?.read_bytes(name, skip, length, take),
            Reader::Memory(_) => Err(self.unknown(name)),
        }
    }

    /// Those of `names` that it has, read as `dtype` says and kept in memory: a source of its own, whose tensors can be taken
    /// once each.
    ///
    /// # Errors
    /// As [`Self::read_as`].
    pub fn fetched<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        dtype: impl Fn(&str) -> FloatDType,
    ) -> Result<Self, WeightError> {
        let mut tensors = BTreeMap::new();
        let mut values = BTreeMap::new();
        for name in names {
            let Some(info) = self.tensors.get(name) else { continue };
            tensors.insert(name.to_owned(), info.clone());
            values.insert(name.to_owned(), Mutex::new(Some(self.read_as(name, dtype(name))?)));
        }
        Ok(Self { location: self.location.clone(), path: None, tensors, reader: Reader::Memory(values) })
    }

    fn float_info(&self, name: &str) -> Result<&TensorInfo, WeightError> {
        let info = self.tensors.get(name).ok_or_else(|| self.unknown(name))?;
        if info.stored.is_float() {
            return Ok(info);
        }
        let (location, name, stored) = (self.location.clone(), shown(name), info.stored);
        Err(WeightError::NotFloat { location, name, stored })
    }

    fn unknown(&self, name: &str) -> WeightError {
        WeightError::UnknownTensor { location: self.location.clone(), name: shown(name) }
    }

    fn out_of_memory(&self, name: &str, info: &TensorInfo, element_bytes: usize) -> WeightError {
        let bytes = info.element_count().saturating_mul(element_bytes);
        WeightError::OutOfMemory { location: self.location.clone(), name: shown(name), bytes }
    }
}

/// Tensors that were read ahead.
type Fetched = BTreeMap<String, Mutex<Option<TensorValues>>>;

fn taken(tensors: &Fetched, name: &str) -> Option<TensorValues> {
    tensors.get(name)?.lock().unwrap_or_else(PoisonError::into_inner).take()
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
