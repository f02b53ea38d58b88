//! Everything that a run needs to go on exactly: vectors of the optimiser, the step, the loss scale.
//!
//! [`file`] keeps all bits, for going on where the run was; [`packed`] keeps fewer, in small files, for taking a run along.
//! Both are written aside first, carry a checksum, and say which network and settings they belong to.

pub mod file;
pub mod packed;

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::TrainError;

/// The version of the files; another one is refused.
const FORMAT: u32 = 1;

/// Where a run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps that were taken.
    pub step: u64,
    /// Time in steps over all sessions.
    pub trained_seconds: f64,
    pub loss_scale: super::loss_scale::LossScale,
}

/// What a checkpoint belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// What is trained, such as `base`.
    pub kind: String,
    /// [`super::parameters::Parameters::fingerprint`].
    pub fingerprint: String,
    /// Of the run.
    pub seed: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    format: u32,
    identity: Identity,
    progress: Progress,
}

/// The vectors of an optimiser, on the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    pub master: Vec<f32>,
    pub first: Vec<f32>,
    pub second: Vec<f32>,
    pub average: Vec<f32>,
}

/// A checkpoint in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub identity: Identity,
    pub progress: Progress,
    pub vectors: Vectors,
}

impl Checkpoint {
    fn header(&self) -> Header {
        Header { format: FORMAT, identity: self.identity.clone(), progress: self.progress.clone() }
    }

    /// # Errors
    /// It belongs to another network, to another training, or to a run with another seed.
    pub fn check(&self, wanted: &Identity, path: &Path) -> Result<(), TrainError> {
        let refuse = |reason: String| Err(TrainError::Checkpoint { path: path.to_owned(), reason });
        if self.identity.kind != wanted.kind {
            return refuse(format!("it is of a training of {}, not of {}", self.identity.kind, wanted.kind));
        }
        if self.identity.fingerprint != wanted.fingerprint {
            return refuse("it is of a network of another size or layout".into());
        }
        if self.identity.seed != wanted.seed {
            return refuse(format!("its run has the seed {}, not {}", self.identity.seed, wanted.seed));
        }
        Ok(())
    }
}

fn hexadecimal(digest: impl IntoIterator<Item = u8>) -> String {
    digest.into_iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(pieces: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    pieces.iter().for_each(|piece| hash.update(piece));
    hexadecimal(hash.finalize())
}

#[cfg(test)]
mod tests;
