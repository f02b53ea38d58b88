//! The identity of a model's files: SHA-256, each file read once a process unless it changes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::error::FolderError;
use super::{CONFIG, Part, SENTENCE_PIECE, SPECIAL_TOKENS, TOKENIZER_CONFIG, TOKENIZER_JSON};

type FileDigest = [u8; 32];

/// What a cached digest stands for: a training run writes new weights into the same place.
type FileState = (PathBuf, u64, Option<SystemTime>);

static KNOWN: LazyLock<Mutex<HashMap<FileState, FileDigest>>> = LazyLock::new(Mutex::default);

/// The hash over all files of the parts that decide what a clip looks like, under the parts' roles.
pub(super) fn of_parts(parts: &[(&str, &Part)]) -> Result<String, FolderError> {
    let mut whole = Sha256::new();
    for (role, part) in parts {
        let mut add = |name: &str, digest: FileDigest| {
            // A length in front of each text, so that no two lists of files read alike.
            for text in [role.as_bytes(), name.as_bytes(), &digest] {
                whole.update((text.len() as u64).to_le_bytes());
                whole.update(text);
            }
        };
        let small = [CONFIG, SENTENCE_PIECE, TOKENIZER_JSON, TOKENIZER_CONFIG, SPECIAL_TOKENS];
        for name in small.into_iter().filter(|name| part.files.exists(name)) {
            add(name, Sha256::digest(part.files.read(name)?).into());
        }
        if let Some(bytes) = part.files.embedded_bytes(&part.weights) {
            add(&part.weights, of_embedded(part.files.location(&part.weights), bytes));
        } else {
            for path in part.open_weights()?.files() {
                let digest =
                    of_file(path).map_err(|source| FolderError::Unreadable { location: path.display().to_string(), source })?;
                add(&path.file_name().unwrap_or_default().to_string_lossy(), digest);
            }
        }
    }
    Ok(whole.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn of_embedded(location: String, bytes: &[u8]) -> FileDigest {
    let state = (PathBuf::from(location), bytes.len() as u64, None);
    if let Some(digest) = known().get(&state) {
        return *digest;
    }
    let digest = Sha256::digest(bytes).into();
    known().insert(state, digest);
    digest
}

fn of_file(path: &Path) -> io::Result<FileDigest> {
    let facts = fs::metadata(path)?;
    let state = (path.to_owned(), facts.len(), facts.modified().ok());
    if let Some(digest) = known().get(&state) {
        return Ok(*digest);
    }
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let length = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&chunk[..length]);
    }
    let digest = hash.finalize().into();
    known().insert(state, digest);
    Ok(digest)
}

fn known() -> std::sync::MutexGuard<'static, HashMap<FileState, FileDigest>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}
