//! What was seen of a row's clips, kept on disk: a row is made once, however many tables show it, and an evaluation that was
//! stopped goes on.

use std::io::ErrorKind;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::EvaluateError;
use super::seeing::Seen;
use crate::model::weights::write_whole;

/// A folder for what was seen, or none.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub folder: Option<PathBuf>,
}

/// One file.
#[derive(Debug, Deserialize, Serialize)]
struct Entry {
    /// Everything that the clips depend on, but for rounding.
    of: Value,
    device: String,
    seen: Seen,
}

impl Kept {
    /// What was kept of the clips that `of` describes in full, with the device that they were made on. If there is nothing it is
    /// made, on `device`, and kept.
    ///
    /// # Errors
    /// Those of `make`, or the folder cannot be read or written.
    pub fn or_make(
        &self,
        of: Value,
        device: &str,
        make: impl FnOnce() -> Result<Seen, EvaluateError>,
    ) -> Result<(Seen, String), EvaluateError> {
        let Some(folder) = &self.folder else { return Ok((make()?, device.to_owned())) };
        let hash: String = Sha256::digest(of.to_string()).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join(format!("{hash}.json"));
        match std::fs::read(&path) {
            Ok(bytes) => {
                let unfit = |reason: String| EvaluateError::Kept { path: path.clone(), reason };
                let entry: Entry = serde_json::from_slice(&bytes).map_err(|error| unfit(error.to_string()))?;
                if entry.of != of {
                    return Err(unfit("it is of other clips than its name says".into()));
                }
                Ok((entry.seen, entry.device))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let entry = Entry { of, device: device.to_owned(), seen: make()? };
                // Plain numbers and strings: there is nothing that JSON could not hold.
                write_whole(&path, serde_json::to_string(&entry).unwrap_or_default().as_bytes())?;
                Ok((entry.seen, entry.device))
            }
            Err(error) => Err(EvaluateError::Kept { path, reason: error.kind().to_string() }),
        }
    }
}
