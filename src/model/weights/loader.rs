//! From weight files to parameters on a device.
//!
//! Networks ask for their tensors by published name and shape while they are built; what is missing, misshaped, not finite or
//! left over comes out as one error at the end ([`Loader::finish`]).

use burn::module::Param;
use burn::tensor::{Device, FloatDType, Shape, Tensor, TensorData};

use super::{WeightError, WeightLedger, WeightSource};
use crate::gpu::device::ComputeDevice;
use crate::model::layers::{Linear, TwoLayers};

pub struct Loader<'a> {
    ledger: WeightLedger<'a>,
    device: &'a ComputeDevice,
}

impl<'a> Loader<'a> {
    pub fn new(source: &'a WeightSource, device: &'a ComputeDevice) -> Self {
        Self { ledger: WeightLedger::new(source), device }
    }

    pub fn device(&self) -> &Device {
        &self.device.device
    }

    /// Values as they are, row-major; `shape` is the published one.
    pub fn values(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        self.ledger.take(name, shape)
    }

    /// As [`Self::values`] for a tensor that is published under several names.
    pub fn values_of_any(&mut self, names: &[&str], shape: &[usize]) -> Vec<f32> {
        self.ledger.take_any(names, shape)
    }

    /// A parameter in f32: tables, norms, biases of norms.
    pub fn exact<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Param<Tensor<D>> {
        let values = self.values(name, &shape);
        self.parameter(values, shape, FloatDType::F32)
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
        let weight = self.values(&format!("{name}.weight"), &[outputs, inputs]);
        self.projection(name, weight, inputs, outputs, bias, dtype)
    }

    /// A convolution of patches without overlap, `[out, channels, patch, patch]`, as the linear layer that it is.
    pub fn patch_projection(&mut self, name: &str, channels: usize, patch: usize, outputs: usize) -> Linear {
        let weight = self.values(&format!("{name}.weight"), &[outputs, channels, patch, patch]);
        self.projection(name, weight, channels * patch * patch, outputs, true, self.device.precision.dtype())
    }

    fn projection(
        &mut self,
        name: &str,
        weight: Vec<f32>,
        inputs: usize,
        outputs: usize,
        bias: bool,
        dtype: FloatDType,
    ) -> Linear {
        let bias = bias.then(|| {
            let values = self.values(&format!("{name}.bias"), &[outputs]);
            self.parameter(values, [outputs], dtype)
        });
        Linear { weight: self.parameter(transpose(&weight, outputs, inputs), [inputs, outputs], dtype), bias }
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
        self.ledger.finish(ignorable)
    }
}

/// `[rows, columns]` to `[columns, rows]`; an empty placeholder stays empty.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    if values.len() != rows * columns {
        return Vec::new();
    }
    let mut transposed = vec![0.0; values.len()];
    for (row, line) in values.chunks_exact(columns).enumerate() {
        for (column, &value) in line.iter().enumerate() {
            transposed[column * rows + row] = value;
        }
    }
    transposed
}
