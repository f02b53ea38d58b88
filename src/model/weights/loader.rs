//! From weight files to parameters on a device.
//!
//! Networks ask for their tensors by published name and shape while they are built; what is missing, misshaped, not finite or
//! left over comes out as one error at the end ([`Loader::finish`]).

use burn::module::Param;
use burn::tensor::{Device, FloatDType, Shape, Tensor, TensorData};
use rayon::prelude::*;

use super::random::RandomWeights;
use super::{WeightError, WeightLedger, WeightSource};
use crate::gpu::device::ComputeDevice;
use crate::model::layers::{Linear, TwoLayers};

pub struct Loader<'a> {
    origin: Origin<'a>,
    device: &'a ComputeDevice,
}

/// Where parameters come from.
enum Origin<'a> {
    File(WeightLedger<'a>),
    /// Only looks whether they are there.
    Checked(WeightLedger<'a>),
    Random(RandomWeights),
}

impl<'a> Loader<'a> {
    pub fn new(source: &'a WeightSource, device: &'a ComputeDevice) -> Self {
        Self { origin: Origin::File(WeightLedger::new(source)), device }
    }

    /// Gives random parameters of every name and shape that is asked for; they are drawn on the device.
    pub fn random(device: &'a ComputeDevice, seed: u64) -> Self {
        Self { origin: Origin::Random(RandomWeights::new(device, seed)), device }
    }

    /// From now on only looks whether tensors are there in their shapes; what is made of them is a placeholder.
    pub fn only_check(&mut self) {
        let random = Origin::Random(RandomWeights::default());
        self.origin = match std::mem::replace(&mut self.origin, random) {
            Origin::File(ledger) => Origin::Checked(ledger),
            other => other,
        };
    }

    /// Looks whether a tensor that is published under several names is there in this shape, without reading it.
    pub fn expect_any(&mut self, names: &[&str], shape: &[usize]) {
        if let Origin::File(ledger) | Origin::Checked(ledger) = &mut self.origin {
            ledger.expect(names, shape);
        }
    }

    pub fn device(&self) -> &Device {
        &self.device.device
    }

    /// Values as they are, row-major; `shape` is the published one.
    pub fn values(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        self.values_of_any(&[name], shape)
    }

    /// As [`Self::values`] for a tensor that is published under several names.
    pub fn values_of_any(&mut self, names: &[&str], shape: &[usize]) -> Vec<f32> {
        match &mut self.origin {
            Origin::File(ledger) => ledger.take_any(names, shape),
            Origin::Checked(ledger) => {
                ledger.expect(names, shape);
                Vec::new()
            }
            Origin::Random(random) => random.values(shape),
        }
    }

    /// A parameter in f32: tables, norms, biases of norms.
    pub fn exact<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Param<Tensor<D>> {
        self.vector(name, shape, FloatDType::F32)
    }

    fn vector<const D: usize>(&mut self, name: &str, shape: [usize; D], dtype: FloatDType) -> Param<Tensor<D>> {
        if let Origin::Random(random) = &mut self.origin {
            return random.small(shape, dtype, &self.device.device);
        }
        let values = self.values(name, &shape);
        self.parameter(values, shape, dtype)
    }

    /// `[out, in]` as published becomes `[in, out]`; keys `NAME.weight` and, if `bias`, `NAME.bias`.
    pub fn linear(&mut self, name: &str, inputs: usize, outputs: usize, bias: bool) -> Linear {
        self.linear_as(name, inputs, outputs, bias, self.device.precision.dtype())
    }

    /// A linear layer whose weight stays in f32.
    pub fn exact_linear(&mut self, name: &str, inputs: usize, outputs: usize, bias: bool) -> Linear {
        self.linear_as(name, inputs, outputs, bias, FloatDType::F32)
    }

    fn linear_as(&mut self, name: &str, inputs: usize, outputs: usize, bias: bool, dtype: FloatDType) -> Linear {
        self.projection(name, &[outputs, inputs], bias, dtype)
    }

    /// A convolution of patches without overlap, `[out, channels, patch, patch]`, as the linear layer that it is.
    pub fn patch_projection(&mut self, name: &str, channels: usize, patch: usize, outputs: usize) -> Linear {
        self.projection(name, &[outputs, channels, patch, patch], true, self.device.precision.dtype())
    }

    /// `published` is `[out, in]`, the inputs over one axis or more.
    fn projection(&mut self, name: &str, published: &[usize], bias: bool, dtype: FloatDType) -> Linear {
        let (outputs, inputs) = (published[0], published[1..].iter().product());
        let weight = match &mut self.origin {
            Origin::Random(random) => random.weight([inputs, outputs], inputs, dtype, &self.device.device),
            Origin::File(ledger) => {
                let weight = ledger.take_as(&format!("{name}.weight"), published, dtype);
                self.turned(weight, outputs, inputs, dtype)
            }
            Origin::Checked(ledger) => {
                ledger.expect(&[&format!("{name}.weight")], published);
                self.turned(None, outputs, inputs, dtype)
            }
        };
        Linear { weight, bias: bias.then(|| self.vector(&format!("{name}.bias"), [outputs], dtype)) }
    }

    /// A matrix `[outputs, inputs]` as `[inputs, outputs]`, turned on the device: a large model is loaded at the disk's speed.
    fn turned(&self, weight: Option<TensorData>, outputs: usize, inputs: usize, dtype: FloatDType) -> Param<Tensor<2>> {
        let device = &self.device.device;
        let Some(data) = weight else { return Param::from_tensor(Tensor::zeros([1, 1], device)) };
        if self.device.is_cpu() {
            let turned = match data.as_slice::<f32>() {
                Ok(values) => transpose(values, outputs, inputs),
                Err(_) => transpose(&data.iter::<f32>().collect::<Vec<_>>(), outputs, inputs),
            };
            return self.parameter(turned, [inputs, outputs], dtype);
        }
        let weight: Tensor<2> = match data.shape().num_dims() {
            2 => Tensor::from_data(data, (device, dtype.into())),
            // A convolution of patches.
            _ => Tensor::<4>::from_data(data, (device, dtype.into())).reshape([outputs, inputs]),
        };
        // Through one axis, or it stays a view that every use would turn again.
        Param::from_tensor(weight.transpose().reshape([inputs * outputs]).reshape([inputs, outputs])) // [in, out]
    }

    /// `NAME.linear_1` and `NAME.linear_2`.
    pub fn two_layers(&mut self, name: &str, inputs: usize, outputs: usize) -> TwoLayers {
        TwoLayers {
            linear_1: self.linear(&format!("{name}.linear_1"), inputs, outputs, true),
            linear_2: self.linear(&format!("{name}.linear_2"), outputs, outputs, true),
        }
    }

    /// The weight `[out, in, taps..]` and bias of a convolution as the kernels read them: `[taps, in, out]` and `[out]`.
    pub fn convolution(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: usize,
        kernel: &[usize],
    ) -> (Param<Tensor<3>>, Param<Tensor<1>>) {
        let dtype = self.device.precision.dtype();
        let taps: usize = kernel.iter().product();
        if let Origin::Random(random) = &mut self.origin {
            let weight = random.weight([taps, inputs, outputs], taps * inputs, dtype, &self.device.device);
            return (weight, random.small([outputs], dtype, &self.device.device));
        }
        let published = [&[outputs, inputs], kernel].concat();
        let weight = self.values(&format!("{name}.weight"), &published);
        let weight = transpose(&weight, outputs, inputs * taps); // [in, taps, out]
        let mut reordered = Vec::with_capacity(weight.len());
        if !weight.is_empty() {
            for tap in 0..taps {
                for input in 0..inputs {
                    let row = (input * taps + tap) * outputs;
                    reordered.extend_from_slice(&weight[row..row + outputs]);
                }
            }
        }
        let bias = self.values(&format!("{name}.bias"), &[outputs]);
        (self.parameter(reordered, [taps, inputs, outputs], dtype), self.parameter(bias, [outputs], dtype))
    }

    /// The ledger answers a tensor that it does not have with no values; the placeholder only lives until [`Self::finish`].
    fn parameter<const D: usize>(&self, values: Vec<f32>, shape: [usize; D], dtype: FloatDType) -> Param<Tensor<D>> {
        let device = &self.device.device;
        let tensor = if values.len() == shape.iter().product::<usize>() {
            let data = TensorData::new(values, Shape::new(shape)).convert_dtype(dtype.into());
            Tensor::from_data(data, (device, dtype.into()))
        } else {
            Tensor::zeros([1; D], device)
        };
        Param::from_tensor(tensor)
    }

    /// # Errors
    /// Lists every missing, unexpected, misshaped and non-finite tensor, but for unexpected ones that `ignorable` names.
    pub fn finish(self, ignorable: impl Fn(&str) -> bool) -> Result<(), WeightError> {
        match self.origin {
            Origin::File(ledger) | Origin::Checked(ledger) => ledger.finish(ignorable),
            Origin::Random(_) => Ok(()),
        }
    }
}

/// Columns that a thread turns at a time, and rows within them: both sides stay in its cache.
const TURNED_AT_ONCE: usize = 32;

/// `[rows, columns]` to `[columns, rows]`; an empty placeholder stays empty.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
