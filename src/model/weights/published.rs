//! How parameters on a device and published tensors correspond, in both directions.
//!
//! While a network is built, its loader can note for every parameter under which name and in which layout it is published.
//! With these notes the optimiser finds the parameters, and trained values are written back as a file that anybody can load.

use std::cell::RefCell;
use std::fmt;

use burn::module::ParamId;
use rayon::prelude::*;

/// Values for parameters that no file holds yet: where a training begins.
pub trait InitialValues: fmt::Debug {
    /// The values of the tensor with this published name and shape, row-major.
    fn values(&self, name: &str, shape: &[usize]) -> Vec<f32>;
}

/// The parameters of a network, in the order in which it asked for them.
pub type PublishedParameters = RefCell<Vec<PublishedParameter>>;

/// One parameter, as it is on the device and as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedParameter {
    pub id: ParamId,
    /// The published name.
    pub name: String,
    /// The published shape.
    pub shape: Vec<usize>,
    pub layout: Layout,
    /// Whether it is kept in the storage type of the device (f16 on most adapters); otherwise it is f32 everywhere.
    pub follows_storage: bool,
}

impl PublishedParameter {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// How the values of a published tensor lie on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    AsPublished,
    /// `[outputs, inputs]` is kept as `[inputs, outputs]`.
    Linear {
        outputs: usize,
        inputs: usize,
    },
    /// `[outputs, inputs, taps..]` is kept as `[taps, inputs, outputs]`.
    Convolution {
        outputs: usize,
        inputs: usize,
        taps: usize,
    },
}

impl Layout {
    /// Published values as the device keeps them. An empty placeholder stays empty.
    pub fn for_device(self, values: Vec<f32>) -> Vec<f32> {
        match self {
            Self::AsPublished => values,
            Self::Linear { outputs, inputs } => transpose(&values, outputs, inputs),
            Self::Convolution { outputs, inputs, taps } => {
                let weight = transpose(&values, outputs, inputs * taps); // [in, taps, out]
                swap_outer(&weight, inputs, taps, outputs)
            }
        }
    }

    /// The device's values as they are published.
    pub fn for_file(self, values: Vec<f32>) -> Vec<f32> {
        match self {
            Self::AsPublished => values,
            Self::Linear { outputs, inputs } => transpose(&values, inputs, outputs),
            Self::Convolution { outputs, inputs, taps } => {
                let weight = swap_outer(&values, taps, inputs, outputs); // [in, taps, out]
                transpose(&weight, inputs * taps, outputs)
            }
        }
    }

    /// Rows (inputs) and columns (outputs) of the matrix that the parameter is for an optimiser; none for what is no matrix.
    pub fn matrix(self) -> Option<[usize; 2]> {
        match self {
            Self::AsPublished => None,
            Self::Linear { outputs, inputs } => Some([inputs, outputs]),
            Self::Convolution { outputs, inputs, taps } => Some([taps * inputs, outputs]),
        }
    }
}

/// Columns that a thread turns at a time, and rows within them: both sides stay in its cache.
const TURNED_AT_ONCE: usize = 32;

/// `[rows, columns]` to `[columns, rows]`; an empty placeholder stays empty.
pub(super) fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    if values.len() != rows * columns || values.is_empty() {
        return Vec::new();
    }
    let mut transposed = vec![0.0; values.len()];
    transposed.par_chunks_mut(TURNED_AT_ONCE * rows).enumerate().for_each(|(block, transposed)| {
        let first = block * TURNED_AT_ONCE;
        for start in (0..rows).step_by(TURNED_AT_ONCE) {
            let lines = start..(start + TURNED_AT_ONCE).min(rows);
            for (column, turned) in transposed.chunks_exact_mut(rows).enumerate() {
                for row in lines.clone() {
                    turned[row] = values[row * columns + first + column];
                }
            }
        }
    });
    transposed
}

/// `[outer, middle, inner]` to `[middle, outer, inner]`; an empty placeholder stays empty.
fn swap_outer(values: &[f32], outer: usize, middle: usize, inner: usize) -> Vec<f32> {
    if values.len() != outer * middle * inner {
        return Vec::new();
    }
    let mut swapped = Vec::with_capacity(values.len());
    for second in 0..middle {
        for first in 0..outer {
            let row = (first * middle + second) * inner;
            swapped.extend_from_slice(&values[row..row + inner]);
        }
    }
    swapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_those_of_their_definition_and_go_back() {
        let (outputs, inputs, taps) = (3, 2, 4);
        let published: Vec<f32> = (0..outputs * inputs * taps).map(|i| i as f32).collect();
        let layout = Layout::Convolution { outputs, inputs, taps };
        let kept = layout.for_device(published.clone());
        for output in 0..outputs {
            for input in 0..inputs {
                for tap in 0..taps {
                    let value = published[(output * inputs + input) * taps + tap];
                    assert_eq!(kept[(tap * inputs + input) * outputs + output], value);
                }
            }
        }
        assert_eq!(layout.for_file(kept), published);
        let layout = Layout::Linear { outputs: 6, inputs: 4 };
        let kept = layout.for_device(published.clone());
        assert_eq!(kept[2 * 6 + 5], published[5 * 4 + 2]);
        assert_eq!(layout.for_file(kept), published);
    }

    #[test]
    fn placeholders_stay_empty() {
        assert!(Layout::Linear { outputs: 2, inputs: 2 }.for_device(Vec::new()).is_empty());
        assert!(Layout::Convolution { outputs: 2, inputs: 2, taps: 1 }.for_device(Vec::new()).is_empty());
    }

    #[test]
    fn every_value_finds_its_place() {
        for (rows, columns) in [(1, 1), (3, 5), (32, 32), (33, 64), (70, 31), (1, 100), (100, 1)] {
            let values: Vec<f32> = (0..rows * columns).map(|place| place as f32).collect();
            let turned = transpose(&values, rows, columns);
            for row in 0..rows {
                for column in 0..columns {
                    assert_eq!(turned[column * rows + row], values[row * columns + column], "{rows} x {columns}");
                }
            }
        }
        assert!(transpose(&[], 2, 3).is_empty());
    }
}
