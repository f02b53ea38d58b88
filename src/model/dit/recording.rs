//! How a step's attention is recorded.

use serde::{Deserialize, Serialize};

/// Which query rows a recording looks at where a layer skips tiles. It never changes what the network gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recording {
    /// One row of every [`ROWS_A_SAMPLE`] for the tiles that are skipped; the estimate has a standard error.
    Sampled,
    /// Every row: the skipped tiles' scores are computed after all, which takes about as long as dense attention.
    Exact,
}

/// Neighbouring tokens of a frame of which one is in the sample.
pub const ROWS_A_SAMPLE: usize = 16;
