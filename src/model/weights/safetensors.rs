//! Safetensors files: an 8-byte header length, a JSON header, then the tensors' bytes end to end.
//!
//! The header is checked completely when the file is opened: afterwards every tensor is known to lie inside the file and
//! to have the bytes that its shape needs, so that reading one cannot fail for a reason inside the file. The published
//! crate wants the whole file in memory, or a memory map; here only the tensor asked for is read.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::error::{HeaderFault, WeightError, shown};
use super::source::TensorInfo;
use super::stored_type::StoredType;

/// Largest header that the format allows.
const HEADER_LIMIT: u64 = 100_000_000;

/// Bytes of the little-endian header length that a file starts with.
const PREFIX_BYTES: u64 = 8;

/// Bytes read and converted at a time: an F16 tensor is never held twice in full. A multiple of every element's width.
const CHUNK_BYTES: usize = 1 << 20;

/// An open safetensors file with a checked header.
#[derive(Debug)]
pub(super) struct SafetensorsFile {
    bytes: Bytes,
    /// Where each tensor starts, from the beginning of the file.
    starts: BTreeMap<String, u64>,
}

#[derive(Debug)]
enum Bytes {
    Disk(Mutex<File>),
    Embedded(&'static [u8]),
}

impl SafetensorsFile {
    /// Opens a file on disk. `location` names it in errors.
    pub(super) fn open(path: &Path, location: &str) -> Result<(Self, BTreeMap<String, TensorInfo>), WeightError> {
        let unreadable = |source| WeightError::Unreadable { location: location.to_owned(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let header = read_header(&mut file, length, location)?;
        Ok(Self::new(Bytes::Disk(Mutex::new(file)), header))
    }

    /// Opens a file that is part of the program.
    pub(super) fn embedded(bytes: &'static [u8], location: &str) -> Result<(Self, BTreeMap<String, TensorInfo>), WeightError> {
        let header = read_header(&mut &*bytes, bytes.len() as u64, location)?;
        Ok(Self::new(Bytes::Embedded(bytes), header))
    }

    fn new(bytes: Bytes, header: Vec<Entry>) -> (Self, BTreeMap<String, TensorInfo>) {
        let starts = header.iter().map(|entry| (entry.name.clone(), entry.start)).collect();
        let tensors = header.into_iter().map(|entry| (entry.name, entry.info)).collect();
        (Self { bytes, starts }, tensors)
    }

    /// Hands `take` the bytes of the tensor `name`, from byte `skip` of it on and `length` in all, piece by piece; pieces are
    /// whole elements.
    pub(super) fn read(
        &self,
        name: &str,
        skip: usize,
        length: usize,
        location: &str,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), WeightError> {
        let start = *self
            .starts
            .get(name)
            .ok_or_else(|| WeightError::UnknownTensor { location: location.to_owned(), name: shown(name) })?;
        let start = start + skip as u64;
        match &self.bytes {
            Bytes::Embedded(bytes) => {
                // In range: `read_header` has checked every tensor against this very slice.
                let start = start as usize;
                take(&bytes[start..start + length]);
                Ok(())
            }
            Bytes::Disk(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                read_in_chunks(&mut file, start, length, take)
                    .map_err(|source| WeightError::Unreadable { location: location.to_owned(), source })
            }
        }
    }
}

fn read_in_chunks(file: &mut File, start: u64, byte_length: usize, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    file.seek(SeekFrom::Start(start))?;
    let mut chunk = vec![0; byte_length.min(CHUNK_BYTES)];
    let mut left = byte_length;
    while left > 0 {
        let part = &mut chunk[..left.min(CHUNK_BYTES)];
        file.read_exact(part)?;
        take(part);
        left -= part.len();
    }
    Ok(())
}

/// One checked line of the header.
#[derive(Debug)]
struct Entry {
    name: String,
    info: TensorInfo,
    /// From the beginning of the file.
    start: u64,
}

fn read_header(file: &mut impl Read, file_bytes: u64, location: &str) -> Result<Vec<Entry>, WeightError> {
    let fault = |fault| WeightError::Header { location: location.to_owned(), fault };
    let unreadable = |source| WeightError::Unreadable { location: location.to_owned(), source };
    if file_bytes < PREFIX_BYTES {
        return Err(fault(HeaderFault::TooShort { bytes: file_bytes }));
    }
    let mut prefix = [0; PREFIX_BYTES as usize];
    file.read_exact(&mut prefix).map_err(unreadable)?;
    let header_bytes = u64::from_le_bytes(prefix);
    if header_bytes > HEADER_LIMIT {
        return Err(fault(HeaderFault::HeaderTooLarge { bytes: header_bytes, limit: HEADER_LIMIT }));
    }
    if header_bytes > file_bytes - PREFIX_BYTES {
        return Err(fault(HeaderFault::HeaderCut { bytes: header_bytes, file_bytes }));
    }
    let mut header = vec![0; header_bytes as usize];
    file.read_exact(&mut header).map_err(unreadable)?;
    let data_start = PREFIX_BYTES + header_bytes;
    parse_header(&header, data_start, file_bytes - data_start).map_err(fault)
}

/// Checks a header against the `data_bytes` that follow it.
fn parse_header(header: &[u8], data_start: u64, data_bytes: u64) -> Result<Vec<Entry>, HeaderFault> {
    let text = std::str::from_utf8(header).map_err(|_| HeaderFault::NotUtf8)?;
    let RawHeader(raw) =
        serde_json::from_str(text).map_err(|error| HeaderFault::NotJson { reason: shown(&error.to_string()) })?;

    let mut entries = Vec::with_capacity(raw.len());
    for (name, tensor) in raw {
        entries.push(check_tensor(name, tensor, data_bytes)?);
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(HeaderFault::Duplicate { name: shown(&pair[0].name) });
    }

    // The format asks for tensors end to end; anything else is a damaged header or something hidden in the file.
    entries.sort_by_key(|entry| (entry.start, entry.info.byte_length()));
    let mut end = 0;
    for (place, entry) in entries.iter().enumerate() {
        if entry.start > end {
            return Err(HeaderFault::Gap { name: shown(&entry.name), bytes: entry.start - end });
        }
        if entry.start < end {
            let first = shown(&entries[place - 1].name);
            return Err(HeaderFault::Overlap { first, second: shown(&entry.name) });
        }
        end = entry.start + entry.info.byte_length() as u64;
    }
    if end < data_bytes {
        return Err(HeaderFault::TrailingBytes { bytes: data_bytes - end });
    }
    for entry in &mut entries {
        entry.start += data_start;
    }
    Ok(entries)
}

/// Checks one tensor for itself; the entry's start is still counted from the beginning of the data.
fn check_tensor(name: String, tensor: RawTensor, data_bytes: u64) -> Result<Entry, HeaderFault> {
    let Some(stored) = StoredType::from_safetensors_name(&tensor.dtype) else {
        return Err(HeaderFault::UnsupportedType { name: shown(&name), stored: shown(&tensor.dtype) });
    };
    let needed = tensor.shape.iter().try_fold(stored.byte_width() as u64, |bytes, extent| bytes.checked_mul(*extent));
    let shape: Option<Vec<usize>> = tensor.shape.iter().map(|extent| usize::try_from(*extent).ok()).collect();
    let (Some(needed), Some(shape)) = (needed, shape) else {
        return Err(HeaderFault::ShapeOverflow { name: shown(&name) });
    };
    let [begin, end] = tensor.data_offsets;
    if begin > end {
        return Err(HeaderFault::Reversed { name: shown(&name), begin, end });
    }
    if end - begin != needed {
        return Err(HeaderFault::ByteLength { name: shown(&name), needed, given: end - begin });
    }
    if end > data_bytes {
        return Err(HeaderFault::OutOfRange { name: shown(&name), end, available: data_bytes });
    }
    if usize::try_from(end).is_err() {
        return Err(HeaderFault::ShapeOverflow { name: shown(&name) });
    }
    Ok(Entry { name, info: TensorInfo { shape, stored }, start: begin })
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The header's entries in file order. A map would silently keep the last of two entries with one name.
struct RawHeader(Vec<(String, RawTensor)>);

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<RawHeader, M::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(RawHeader(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of(header: &str, data_bytes: u64) -> HeaderFault {
        parse_header(header.as_bytes(), 0, data_bytes).expect_err("this header is wrong")
    }

    #[test]
    fn each_fault_of_a_header_is_named() {
        let name = || "a".to_owned();
        let tensor = |dtype: &str, shape: &str, begin: u64, end: u64| {
            format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
        };
        let one = |dtype: &str, shape: &str, begin, end| format!(r#"{{"a":{}}}"#, tensor(dtype, shape, begin, end));
        let two = |second_name: &str, begin, end| {
            format!(r#"{{"a":{},"{second_name}":{}}}"#, tensor("F32", "[2]", 0, 8), tensor("F32", "[2]", begin, end))
        };
        assert_eq!(fault_of(&two("a", 8, 16), 16), HeaderFault::Duplicate { name: name() });
        assert_eq!(fault_of(&two("b", 4, 12), 12), HeaderFault::Overlap { first: name(), second: "b".to_owned() });
        assert_eq!(fault_of(&two("b", 12, 20), 20), HeaderFault::Gap { name: "b".to_owned(), bytes: 4 });
        assert_eq!(fault_of(&two("b", 8, 16), 20), HeaderFault::TrailingBytes { bytes: 4 });
        assert_eq!(fault_of(&two("b", 8, 16), 15), HeaderFault::OutOfRange { name: "b".to_owned(), end: 16, available: 15 });
        assert_eq!(fault_of(&one("F32", "[3]", 0, 8), 8), HeaderFault::ByteLength { name: name(), needed: 12, given: 8 });
        assert_eq!(fault_of(&one("F32", "[2]", 8, 0), 8), HeaderFault::Reversed { name: name(), begin: 8, end: 0 });
        assert_eq!(fault_of(&one("F32", "[4294967296,4294967296,4]", 0, 8), 8), HeaderFault::ShapeOverflow { name: name() });
        assert_eq!(
            fault_of(&one("F8_E4M3", "[8]", 0, 8), 8),
            HeaderFault::UnsupportedType { name: name(), stored: "F8_E4M3".to_owned() }
        );
        for not_json in ["", "[]", "{", r#"{"a":1}"#, &one("F32", "[-1]", 0, 8), &one("F32", "[1.5]", 0, 8)] {
            assert!(matches!(fault_of(not_json, 8), HeaderFault::NotJson { .. }), "{not_json}");
        }
        assert!(matches!(fault_of(&"[".repeat(100_000), 8), HeaderFault::NotJson { .. }));
        assert_eq!(parse_header(b"{\"\xff\":1}", 0, 8).err(), Some(HeaderFault::NotUtf8));
    }

    #[test]
    fn empty_and_scalar_tensors_are_sound() {
        let header = r#"{"__metadata__":{"format":"pt"},
            "none":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]},
            "one":{"dtype":"F16","shape":[],"data_offsets":[0,2]}}"#;
        let entries = parse_header(header.as_bytes(), 100, 2).expect("a sound header");
        assert_eq!(entries.len(), 2);
        assert!(entries.iter().all(|entry| entry.start == 100));
    }
}
