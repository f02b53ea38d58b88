//! Sharded checkpoints: an index (`*.index.json`) that says which file holds which tensor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::error::{WeightError, shown};
use super::source::{TensorInfo, WeightSource};

/// Largest index accepted; that of a model with ten thousand tensors is about 1 MB.
const INDEX_LIMIT: u64 = 64 << 20;

/// The open parts of a sharded checkpoint.
#[derive(Debug)]
pub(super) struct ShardedFiles {
    shards: Vec<WeightSource>,
    shard_of: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl ShardedFiles {
    /// Opens an index and every part that it names, which lie in the index's folder.
    pub(super) fn open(path: &Path, location: &str) -> Result<(Self, BTreeMap<String, TensorInfo>), WeightError> {
        let wrong = |reason| WeightError::Index { location: location.to_owned(), reason };
        let index = read_index(path, location)?;
        let mut shards: Vec<WeightSource> = Vec::new();
        let mut place_of: BTreeMap<&str, usize> = BTreeMap::new();
        let mut shard_of = BTreeMap::new();
        let mut tensors = BTreeMap::new();
        for (name, file_name) in &index.weight_map {
            let place = match place_of.get(file_name.as_str()) {
                Some(place) => *place,
                None => {
                    if !is_plain_file_name(file_name) || file_name.ends_with(".index.json") {
                        return Err(wrong(format!("{} is not the name of a weight file beside it", shown(file_name))));
                    }
                    shards.push(WeightSource::open(&path.with_file_name(file_name))?);
                    place_of.insert(file_name, shards.len() - 1);
                    shards.len() - 1
                }
            };
            let Some(info) = shards[place].info(name) else {
                return Err(wrong(format!("{} is said to be in {}, but is not", shown(name), shown(file_name))));
            };
            shard_of.insert(name.clone(), place);
            tensors.insert(name.clone(), info.clone());
        }
        Ok((Self { shards, shard_of }, tensors))
    }

    /// The part that holds the tensor `name`.
    pub(super) fn part(&self, name: &str, location: &str) -> Result<&WeightSource, WeightError> {
        match self.shard_of.get(name) {
            Some(place) => Ok(&self.shards[*place]),
            None => Err(WeightError::UnknownTensor { location: location.to_owned(), name: shown(name) }),
        }
    }

    /// Whether something is true of every part.
    pub(super) fn are_all(&self, is: impl Fn(&WeightSource) -> bool) -> bool {
        self.shards.iter().all(is)
    }

    /// The parts' files.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().flat_map(WeightSource::files)
    }
}

fn read_index(path: &Path, location: &str) -> Result<Index, WeightError> {
    let unreadable = |source| WeightError::Unreadable { location: location.to_owned(), source };
    let wrong = |reason| WeightError::Index { location: location.to_owned(), reason };
    let file = File::open(path).map_err(unreadable)?;
    let mut text = Vec::new();
    file.take(INDEX_LIMIT + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > INDEX_LIMIT {
        return Err(wrong(format!("it is larger than {INDEX_LIMIT} bytes")));
    }
    serde_json::from_slice(&text).map_err(|error| wrong(shown(&error.to_string())))
}

/// An index comes from outside: it may name files beside it, and nothing elsewhere on the machine.
fn is_plain_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}
