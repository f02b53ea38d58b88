//! Masses and standard errors of a record, kept as f16.
//!
//! The networks measure in f32, and a step ends when the device has answered: what is made of the measurement then waits for
//! whoever looks first. Mostly that is the thread that writes records, beside the next step.

use std::sync::{Mutex, OnceLock, PoisonError};

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Both `[layers, heads, query frames, key frames]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Halves {
    pub mass: Vec<f16>,
    pub standard_error: Vec<f16>,
}

/// What the networks measured: mass and standard error, `[layers, heads, query frames, key frames, 2]`, some layers a vector.
#[derive(Debug, Default)]
struct Measured {
    parts: Vec<Vec<f32>>,
    /// Of a row.
    frames: usize,
}

/// Values that are converted when they are first asked for.
#[derive(Debug)]
pub(super) struct Values {
    halves: OnceLock<Halves>,
    /// Empty once it is converted.
    measured: Mutex<Measured>,
}

impl Values {
    /// Of finished values.
    pub fn of_halves(halves: Halves) -> Self {
        Self { halves: OnceLock::from(halves), measured: Mutex::default() }
    }

    /// Of a measurement, as [`Measured`]. Rows are brought to a sum of 1, from which rounding has moved them a little.
    pub fn of_measurement(parts: Vec<Vec<f32>>, frames: usize) -> Self {
        Self { halves: OnceLock::new(), measured: Mutex::new(Measured { parts, frames }) }
    }

    pub fn halves(&self) -> &Halves {
        self.halves.get_or_init(|| {
            let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *measured).into_halves()
        })
    }
}

impl Measured {
    fn into_halves(self) -> Halves {
        let values = self.parts.iter().map(Vec::len).sum::<usize>() / 2;
        let mut halves = Halves { mass: Vec::with_capacity(values), standard_error: Vec::with_capacity(values) };
        let (mut mass, mut standard_error) = (Vec::new(), Vec::new());
        for part in &self.parts {
            mass.clear();
            standard_error.clear();
            for row in part.chunks_exact(2 * self.frames) {
                let sum: f32 = row.iter().step_by(2).sum();
                mass.extend(row.iter().step_by(2).map(|value| value / sum));
                standard_error.extend(row.iter().skip(1).step_by(2));
            }
            append(&mut halves.mass, &mass);
            append(&mut halves.standard_error, &standard_error);
        }
        halves
    }
}

/// Appends `values`, rounded.
fn append(halves: &mut Vec<f16>, values: &[f32]) {
    let end = halves.len();
    halves.resize(end + values.len(), f16::ZERO);
    halves[end..].convert_from_f32_slice(values);
}

/// `values`, rounded.
pub(super) fn rounded(values: &[f32]) -> Vec<f16> {
    let mut halves = Vec::with_capacity(values.len());
    append(&mut halves, values);
    halves
}

impl Clone for Values {
    fn clone(&self) -> Self {
        Self::of_halves(self.halves().clone())
    }
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        self.halves() == other.halves()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_converted_once_and_to_rows_that_sum_to_one() {
        // Two layers of one head and two frames, in a vector each; rows that rounding has moved, even far.
        let parts = vec![vec![0.5, 0.1, 0.5, 0.2, 3.0, 0.3, 1.0, 0.4], vec![0.1, 0.0, 0.3, 1e-9, 0.0, 0.0, 2.0, 65_504.0]];
        let values = Values::of_measurement(parts, 2);
        let halves = |values: [f32; 8]| values.map(f16::from_f32).to_vec();
        let want = Halves {
            mass: halves([0.5, 0.5, 0.75, 0.25, 0.1 / 0.4, 0.3 / 0.4, 0.0, 1.0]),
            standard_error: halves([0.1, 0.2, 0.3, 0.4, 0.0, 1e-9, 0.0, 65_504.0]),
        };
        assert_eq!(*values.halves(), want);
        assert!(values.measured.lock().unwrap().parts.is_empty(), "the measurement is not kept");
        assert!(values.clone() == values && std::ptr::eq(values.halves(), values.halves()));
        assert_ne!(values, Values::of_halves(Halves::default()));
    }
}
