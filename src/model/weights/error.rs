//! What can be wrong with a weight file, in words for the person who chose it.

use std::io;

use thiserror::Error;

use super::ledger::Mismatch;
use super::stored_type::StoredType;

/// Why weights could not be read. `location` is the file's path, or its name inside the program.
#[derive(Debug, Error)]
pub enum WeightError {
    /// The operating system could not give the file.
    #[error("cannot read the weights {location}: {source}. Check that the file exists and that you may read it")]
    Unreadable { location: String, source: io::Error },

    /// Neither the ending nor the content is one of the kinds read here.
    #[error(
        "{location} is not a kind of weight file that can be read. Known are *.safetensors (also its \
         *.safetensors.index.json) and the PyTorch files *.ckpt, *.pt, *.pth and *.bin"
    )]
    UnknownKind { location: String },

    /// A safetensors file whose header is wrong or does not fit its length.
    #[error("{location} is not a sound safetensors file: {fault}. Fetch or export it again")]
    Header { location: String, fault: HeaderFault },

    /// A pickle that could not be understood. Nothing in it was executed.
    #[error(
        "{location} could not be read as a PyTorch checkpoint: {reason}. The file may be incomplete or of a kind that \
         is not supported; fetch it again, or convert it to safetensors"
    )]
    Pickle { location: String, reason: String },

    /// A file in order, but without a single tensor where weights are expected.
    #[error("{location} holds no tensors. Is it the right file?")]
    Empty { location: String },

    /// The index of a sharded checkpoint is wrong.
    #[error("the index {location} of a sharded checkpoint is wrong: {reason}. Fetch the index and all its parts again")]
    Index { location: String, reason: String },

    /// A tensor was asked for that the file does not have.
    #[error("{location} has no tensor named {name}")]
    UnknownTensor { location: String, name: String },

    /// An integer tensor where a weight is expected; quantised checkpoints look like this.
    #[error(
        "the tensor {name} of {location} is stored as {stored}, but weights are floating-point numbers (F32, F16, \
         BF16, F64). Quantised checkpoints are not supported; use the original one"
    )]
    NotFloat { location: String, name: String, stored: StoredType },

    /// One tensor does not fit in memory.
    #[error("there is not enough memory for the tensor {name} of {location} ({bytes} bytes)")]
    OutOfMemory { location: String, name: String, bytes: usize },

    /// The file's tensors are not those that the network needs; see [`super::WeightLedger::finish`].
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
}

/// What is wrong with the header of a safetensors file.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HeaderFault {
    #[error("it has only {bytes} bytes, which is too short for a header")]
    TooShort { bytes: u64 },

    #[error("its header claims {bytes} bytes, more than the {limit} that the format allows")]
    HeaderTooLarge { bytes: u64, limit: u64 },

    #[error(
        "it ends inside its header ({bytes} bytes of header are announced, the file has {file_bytes} in all): the file is incomplete"
    )]
    HeaderCut { bytes: u64, file_bytes: u64 },

    #[error("its header is not UTF-8 text")]
    NotUtf8,

    #[error("its header is not the expected JSON ({reason})")]
    NotJson { reason: String },

    #[error("it lists the tensor {name} twice")]
    Duplicate { name: String },

    #[error("the tensor {name} is stored as {stored}, which is not supported")]
    UnsupportedType { name: String, stored: String },

    #[error("the shape of the tensor {name} is larger than any memory")]
    ShapeOverflow { name: String },

    #[error("the tensor {name} begins at byte {begin}, after its end at byte {end}")]
    Reversed { name: String, begin: u64, end: u64 },

    #[error("the tensor {name} needs {needed} bytes by its shape and type, but {given} are given to it")]
    ByteLength { name: String, needed: u64, given: u64 },

    #[error("the tensor {name} ends at byte {end} of the data, but there are only {available}: the file is incomplete")]
    OutOfRange { name: String, end: u64, available: u64 },

    #[error("the tensors {first} and {second} overlap")]
    Overlap { first: String, second: String },

    #[error("{bytes} bytes before the tensor {name} belong to no tensor")]
    Gap { name: String, bytes: u64 },

    #[error("{bytes} bytes after the last tensor belong to no tensor")]
    TrailingBytes { bytes: u64 },
}

/// A tensor's name as it may be shown: names come from files, so they may be endless or hold control characters.
pub(super) fn shown(name: &str) -> String {
    const LONGEST: usize = 96;
    let mut text: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        text.push_str("...");
    }
    text
}
