//! A weight file of any kind as one safetensors file with matrices of 16 bits.
//!
//! The new file is written aside, tensor by tensor, and renamed at the end. A journal beside it says how far it came, so that a
//! conversion of 52 GB that was stopped goes on where it was; it starts anew if the source, the choice of tensors or the type
//! has changed. Large tensors are rounded to the nearest 16-bit value; small ones (tables, norms, biases) stay as they are
//! stored, as they cost nothing and carry much.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::disk::free_disk_bytes;
use super::error::{WeightError, shown};
use super::source::{TensorInfo, WeightSource};
use super::stored_type::StoredType;

/// Tensors of at most so many elements keep their type.
const SMALL: usize = 1 << 16;
/// After so many bytes the file is made safe on the disk, and the journal notes it.
const SAFE_EVERY_BYTES: u64 = 256 << 20;

/// The 16-bit types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfType {
    /// Eleven bits of precision, up to 65,504: what GPUs compute with.
    F16,
    /// Eight bits of precision, the range of f32.
    BF16,
}

/// Why a file could not be converted.
#[derive(Debug, Error)]
pub enum ConvertError {
    #[error(transparent)]
    Weights(#[from] WeightError),
    #[error("cannot {doing} {}: {source}. Check that you may write there and that the disk has space", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the disk of {} has {free} bytes free, and {needed} are needed. Free some space, or choose another folder", folder.display()
    )]
    NoRoom { folder: PathBuf, free: u64, needed: u64 },
    #[error(
        "{count} values of the tensor {name} of {location} are NaN, infinite, or too large for this type. If the file is \
         sound, convert it to bf16"
    )]
    NotFinite { location: String, name: String, count: usize },
    #[error("stopped; what is done is kept, and the same command goes on from there")]
    Stopped,
}

/// What a conversion gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converted {
    pub tensors: usize,
    pub bytes: u64,
    /// Tensors that an earlier, stopped conversion had already written.
    pub resumed_tensors: usize,
}

/// What the journal says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Journal {
    /// Of the source's files and the new header.
    fingerprint: String,
    tensors_done: usize,
}

/// One tensor on its way.
struct Entry<'a> {
    name: &'a str,
    info: &'a TensorInfo,
    stored: StoredType,
    /// From the beginning of the data.
    start: u64,
}

/// Writes the tensors of `source` that `wanted` names to the safetensors file `target`. `progress` is told the bytes written
/// and all bytes, and says whether to go on.
///
/// # Errors
/// A tensor cannot be read or does not fit the type, the disk is full or not writable, or `progress` said stop; then what is
/// done is kept aside.
pub fn convert(
    source: &WeightSource,
    wanted: impl Fn(&str) -> bool,
    half: HalfType,
    target: &Path,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Converted, ConvertError> {
    let (entries, data_bytes) = plan(source, wanted, half);
    if entries.is_empty() {
        return Err(WeightError::Empty { location: source.location().to_owned() }.into());
    }
    let header = header(&entries);
    let fingerprint = fingerprint(source, &header)?;
    let (part, journal) = (beside(target, "part"), beside(target, "part.json"));
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| ConvertError::File { doing, path, source }
    };
    let done = resumable(&part, &journal, &fingerprint, header.len() as u64 + data_bytes).min(entries.len());

    let all_bytes = header.len() as u64 + data_bytes;
    if done == 0 {
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // A file of an earlier try with another source is overwritten.
        let _ = fs::remove_file(&part);
        if let Some(free) = free_disk_bytes(folder).filter(|&free| free < all_bytes) {
            return Err(ConvertError::NoRoom { folder: folder.to_owned(), free, needed: all_bytes });
        }
    }
    let mut file = File::options().create(true).truncate(false).write(true).open(&part).map_err(failed("write", &part))?;
    file.set_len(all_bytes).map_err(failed("make room for", &part))?;
    file.write_all(&header).map_err(failed("write", &part))?;

    let mut unsafe_bytes = 0;
    for (index, entry) in entries.iter().enumerate().skip(done) {
        if !progress(header.len() as u64 + entry.start, all_bytes) {
            save(&file, &journal, &fingerprint, index).map_err(failed("write", &journal))?;
            return Err(ConvertError::Stopped);
        }
        file.seek(SeekFrom::Start(header.len() as u64 + entry.start)).map_err(failed("write", &part))?;
        write_tensor(source, entry, &mut file).map_err(|error| match error {
            Fault::Weights(error) => ConvertError::Weights(error),
            Fault::Disk(source) => ConvertError::File { doing: "write", path: part.clone(), source },
            Fault::NotFinite(count) => {
                let (location, name) = (source.location().to_owned(), shown(entry.name));
                ConvertError::NotFinite { location, name, count }
            }
        })?;
        unsafe_bytes += bytes_of(entry.info, entry.stored);
        if unsafe_bytes >= SAFE_EVERY_BYTES {
            save(&file, &journal, &fingerprint, index + 1).map_err(failed("write", &journal))?;
            unsafe_bytes = 0;
        }
    }
    progress(all_bytes, all_bytes);
    file.sync_all().map_err(failed("write", &part))?;
    drop(file);
    // Read as any other file before it takes the name.
    rename_checked(&part, target)?;
    let _ = fs::remove_file(&journal);
    Ok(Converted { tensors: entries.len(), bytes: all_bytes, resumed_tensors: done })
}

fn rename_checked(part: &Path, target: &Path) -> Result<(), ConvertError> {
    let failed = |source| ConvertError::File { doing: "rename", path: target.to_owned(), source };
    let named = part.with_extension("part.safetensors");
    fs::rename(part, &named).map_err(failed)?;
    WeightSource::open(&named)?;
    fs::rename(&named, target).map_err(failed)
}

/// The tensors in the order of their names with their places, and the bytes of all of them.
fn plan(source: &WeightSource, wanted: impl Fn(&str) -> bool, half: HalfType) -> (Vec<Entry<'_>>, u64) {
    let mut start = 0;
    let mut entries = Vec::new();
    for (name, info) in source.tensors().filter(|(name, _)| wanted(name)) {
        let stored = match half {
            _ if !info.stored.is_float() || info.element_count() <= SMALL => info.stored,
            HalfType::F16 => StoredType::F16,
            HalfType::BF16 => StoredType::BF16,
        };
        entries.push(Entry { name, info, stored, start });
        start += bytes_of(info, stored);
    }
    (entries, start)
}

fn bytes_of(info: &TensorInfo, stored: StoredType) -> u64 {
    (info.element_count() * stored.byte_width()) as u64
}

/// The length of the header and the header itself.
fn header(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tensors = Map::new();
    tensors.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    for Entry { name, info, stored, start } in entries {
        let offsets = [*start, start + bytes_of(info, *stored)];
        let about = json!({ "dtype": stored.safetensors_name(), "shape": info.shape, "data_offsets": offsets });
        tensors.insert((*name).to_owned(), about);
    }
    let mut text = serde_json::Value::Object(tensors).to_string();
    // Tensors begin at multiples of eight bytes, as the published writer does it.
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn fingerprint(source: &WeightSource, header: &[u8]) -> Result<String, WeightError> {
    let mut hash = Sha256::new();
    hash.update(header);
    for path in source.files() {
        let unreadable = |error| WeightError::Unreadable { location: path.display().to_string(), source: error };
        let facts = fs::metadata(path).map_err(unreadable)?;
        let modified = facts.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update(facts.len().to_le_bytes());
        hash.update(modified.unwrap_or_default().as_nanos().to_le_bytes());
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// How many tensors an earlier conversion of the same has written.
fn resumable(part: &Path, journal: &Path, fingerprint: &str, all_bytes: u64) -> usize {
    let is_whole = fs::metadata(part).is_ok_and(|facts| facts.len() == all_bytes);
    let journal = fs::read(journal).ok().and_then(|text| serde_json::from_slice::<Journal>(&text).ok());
    journal.filter(|journal| is_whole && journal.fingerprint == fingerprint).map_or(0, |journal| journal.tensors_done)
}

fn save(file: &File, journal: &Path, fingerprint: &str, tensors_done: usize) -> io::Result<()> {
    file.sync_data()?;
    let folder = journal.parent().unwrap_or(Path::new("."));
    let mut aside = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut aside, &Journal { fingerprint: fingerprint.to_owned(), tensors_done })?;
    aside.persist(journal).map_err(|error| error.error)?;
    Ok(())
}

enum Fault {
    Weights(WeightError),
    Disk(io::Error),
    NotFinite(usize),
}

fn write_tensor(source: &WeightSource, entry: &Entry<'_>, file: &mut File) -> Result<(), Fault> {
    let (from, to) = (entry.info.stored, entry.stored);
    let (mut outcome, mut not_finite) = (Ok(()), 0);
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    source
        .read_bytes(entry.name, 0, entry.info.byte_length(), &mut |piece| {
            if outcome.is_err() {
                return;
            }
            if from == to {
                outcome = file.write_all(piece);
                return;
            }
            // A pickle gives a tensor in one piece.
            for piece in piece.chunks(1 << 20) {
                values.clear();
                from.append_as_f32(piece, &mut values);
                bytes.clear();
                not_finite += append_half(to, &values, &mut bytes);
                outcome = file.write_all(&bytes);
                if outcome.is_err() {
                    return;
                }
            }
        })
        .map_err(Fault::Weights)?;
    outcome.map_err(Fault::Disk)?;
    if not_finite > 0 { Err(Fault::NotFinite(not_finite)) } else { Ok(()) }
}

/// Appends the values in a 16-bit type; gives how many are not finite in it.
fn append_half(to: StoredType, values: &[f32], bytes: &mut Vec<u8>) -> usize {
    if to == StoredType::F16 {
        let mut halves = vec![f16::ZERO; values.len()];
        halves.convert_from_f32_slice(values);
        bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
        halves.iter().filter(|half| !half.is_finite()).count()
    } else {
        let mut halves = vec![bf16::ZERO; values.len()];
        halves.convert_from_f32_slice(values);
        bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
        halves.iter().filter(|half| !half.is_finite()).count()
    }
}

fn beside(target: &Path, ending: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

    fn pickle() -> WeightSource {
        WeightSource::open(&Path::new(FIXTURES).join("pickle_tiny/pytorch_model.bin")).unwrap()
    }

    /// Bit for bit by f16's own rounding, which `half` does without the slices' instructions.
    #[test]
    fn a_pickle_becomes_the_nearest_halves_and_small_tensors_stay() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model.safetensors");
        let source = pickle();
        let seen = std::cell::Cell::new(0);
        let converted = convert(&source, |_| true, HalfType::F16, &target, &mut |done, all| {
            assert!(done >= seen.get() && done <= all);
            seen.set(done);
            true
        })
        .unwrap();
        assert_eq!(converted.tensors, source.tensors().len());
        assert_eq!(fs::metadata(&target).unwrap().len(), converted.bytes);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left aside");
        let written = WeightSource::open(&target).unwrap();
        for (name, info) in source.tensors() {
            let (want, got) = (source.read_f32(name).unwrap(), written.read_f32(name).unwrap());
            let is_small = info.element_count() <= SMALL;
            assert_eq!(written.info(name).unwrap().shape, info.shape);
            assert_eq!(written.info(name).unwrap().stored, if is_small { info.stored } else { StoredType::F16 });
            for (want, got) in want.into_iter().zip(got) {
                let want = if is_small { want } else { f16::from_f32(want).to_f32() };
                assert_eq!(want.to_bits(), got.to_bits(), "{name}");
            }
        }
    }

    /// Three tensors, of which the second is large, in f32.
    fn large(folder: &Path, value: f32) -> WeightSource {
        let path = folder.join("source.safetensors");
        let tensors = [("a", 2usize), ("b", 300 * 300), ("c", 3)];
        let mut tensor_map = Map::new();
        let mut data = Vec::new();
        for (name, count) in tensors {
            let start = data.len();
            (0..count).for_each(|place| data.extend((value * (place % 7) as f32).to_le_bytes()));
            let shape = if count > 10 { vec![300, 300] } else { vec![count] };
            tensor_map.insert(name.into(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] }));
        }
        let text = serde_json::Value::Object(tensor_map).to_string();
        fs::write(&path, [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &data].concat()).unwrap();
        WeightSource::open(&path).unwrap()
    }

    #[test]
    fn a_stopped_conversion_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model.safetensors");
        let source = large(folder.path(), 0.1);
        let mut calls = 0;
        let stopped = convert(&source, |_| true, HalfType::BF16, &target, &mut |_, _| {
            calls += 1;
            calls < 3
        });
        assert!(matches!(stopped, Err(ConvertError::Stopped)) && !target.exists());
        let converted = convert(&source, |_| true, HalfType::BF16, &target, &mut |_, _| true).unwrap();
        assert_eq!((converted.tensors, converted.resumed_tensors), (3, 2));
        let written = WeightSource::open(&target).unwrap();
        for name in ["a", "b", "c"] {
            let round = |value: f32| if name == "b" { bf16::from_f32(value).to_f32() } else { value };
            let want: Vec<f32> = source.read_f32(name).unwrap().into_iter().map(round).collect();
            assert_eq!(written.read_f32(name).unwrap(), want, "{name}");
        }
        // Another choice of tensors is another file.
        let mut calls = 0;
        let stop_late = &mut |_, _| {
            calls += 1;
            calls < 3
        };
        assert!(convert(&source, |_| true, HalfType::F16, &target, stop_late).is_err());
        let fewer = convert(&source, |name| name != "a", HalfType::F16, &target, &mut |_, _| true).unwrap();
        assert_eq!((fewer.tensors, fewer.resumed_tensors), (2, 0));
    }

    #[test]
    fn values_that_do_not_fit_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model.safetensors");
        let source = large(folder.path(), 20_000.0);
        let error = convert(&source, |_| true, HalfType::F16, &target, &mut |_, _| true).unwrap_err();
        assert!(error.to_string().contains("tensor b") && error.to_string().contains("bf16"), "{error}");
        assert!(!target.exists());
        convert(&source, |_| true, HalfType::BF16, &target, &mut |_, _| true).unwrap();
        let none = convert(&source, |_| false, HalfType::F16, &target, &mut |_, _| true);
        assert!(matches!(none, Err(ConvertError::Weights(WeightError::Empty { .. }))));
    }
}
