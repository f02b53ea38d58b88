//! From weight files to parameters on a device.
//!
//! Networks ask for their tensors by published name and shape while they are built; what is missing, misshaped, not finite or
//! left over comes out as one error at the end ([`Loader::finish`]).

use burn::module::Param;
use burn::tensor::{Device, FloatDType, Shape, Tensor, TensorData};

use super::published::{InitialValues, Layout, PublishedParameter, PublishedParameters, transpose};
use super::random::RandomWeights;
use super::{WeightError, WeightLedger, WeightSource};
use crate::gpu::device::ComputeDevice;
use crate::model::layers::{Linear, TwoLayers};

pub struct Loader<'a> {
    origin: Origin<'a>,
    device: &'a ComputeDevice,
    parameters: Option<&'a PublishedParameters>,
}

/// Where parameters come from.
enum Origin<'a> {
    File(WeightLedger<'a>),
    /// Only looks whether they are there.
    Checked(WeightLedger<'a>),
    Random(RandomWeights),
    Initial(&'a dyn InitialValues),
}

impl<'a> Loader<'a> {
    pub fn new(source: &'a WeightSource, device: &'a ComputeDevice) -> Self {
        Self::of(Origin::File(WeightLedger::new(source)), device)
    }

    /// Gives random parameters of every name and shape that is asked for; they are drawn on the device.
    pub fn random(device: &'a ComputeDevice, seed: u64) -> Self {
        Self::of(Origin::Random(RandomWeights::new(device, seed)), device)
    }

    /// Values that a training begins from take the place of a file.
    pub fn initial(values: &'a dyn InitialValues, device: &'a ComputeDevice) -> Self {
        Self::of(Origin::Initial(values), device)
    }

    fn of(origin: Origin<'a>, device: &'a ComputeDevice) -> Self {
        Self { origin, device, parameters: None }
    }

    /// Also notes every parameter, so that it can be trained and written.
    #[must_use]
    pub fn noting(self, parameters: &'a PublishedParameters) -> Self {
        Self { parameters: Some(parameters), ..self }
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
            Origin::Initial(initial) => initial.values(names[0], shape),
        }
    }

    /// A parameter in f32: tables, norms, biases of norms.
    pub fn exact<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Param<Tensor<D>> {
        self.exact_of_any(&[name], shape)
    }

    /// As [`Self::exact`] for a tensor that is published under several names; it is written under the first.
    pub fn exact_of_any<const D: usize>(&mut self, names: &[&str], shape: [usize; D]) -> Param<Tensor<D>> {
        self.small(names, shape, Kept::Exact)
    }

    fn small<const D: usize>(&mut self, names: &[&str], shape: [usize; D], kept: Kept) -> Param<Tensor<D>> {
        let parameter = match &mut self.origin {
            Origin::Random(random) => random.small(shape, kept.dtype(self.device), &self.device.device),
            _ => {
                let values = self.values_of_any(names, &shape);
                self.parameter(values, shape, kept)
            }
        };
        self.noted(parameter, names[0], &shape, Layout::AsPublished, kept)
    }

    /// `[out, in]` as published becomes `[in, out]`; keys `NAME.weight` and, if `bias`, `NAME.bias`.
    pub fn linear(&mut self, name: &str, inputs: usize, outputs: usize, bias: bool) -> Linear {
        self.projection(name, &[outputs, inputs], bias, Kept::AsDevice)
    }

    /// A linear layer whose weight stays in f32.
    pub fn exact_linear(&mut self, name: &str, inputs: usize, outputs: usize, bias: bool) -> Linear {
        self.projection(name, &[outputs, inputs], bias, Kept::Exact)
    }

    /// A convolution of patches without overlap, `[out, channels, patch, patch]`, as the linear layer that it is.
    pub fn patch_projection(&mut self, name: &str, channels: usize, patch: usize, outputs: usize) -> Linear {
        self.projection(name, &[outputs, channels, patch, patch], true, Kept::AsDevice)
    }

    /// `published` is `[out, in]`, the inputs over one axis or more.
    fn projection(&mut self, name: &str, published: &[usize], bias: bool, kept: Kept) -> Linear {
        let (outputs, inputs) = (published[0], published[1..].iter().product());
        let (key, dtype) = (format!("{name}.weight"), kept.dtype(self.device));
        let layout = Layout::Linear { outputs, inputs };
        let weight = match &mut self.origin {
            Origin::Random(random) => random.weight([inputs, outputs], inputs, dtype, &self.device.device),
            Origin::File(ledger) => {
                let weight = ledger.take_as(&key, published, dtype);
                self.turned(weight, outputs, inputs, kept)
            }
            Origin::Checked(ledger) => {
                ledger.expect(&[&key], published);
                self.turned(None, outputs, inputs, kept)
            }
            Origin::Initial(initial) => {
                let values = layout.for_device(initial.values(&key, published));
                self.parameter(values, [inputs, outputs], kept)
            }
        };
        let weight = self.noted(weight, &key, published, layout, kept);
        Linear { weight, bias: bias.then(|| self.small(&[&format!("{name}.bias")], [outputs], kept)) }
    }

    /// A matrix `[outputs, inputs]` as `[inputs, outputs]`, turned on the device: a large model is loaded at the disk's speed.
    fn turned(&self, weight: Option<TensorData>, outputs: usize, inputs: usize, kept: Kept) -> Param<Tensor<2>> {
        let (device, dtype) = (&self.device.device, kept.dtype(self.device));
        let Some(data) = weight else { return Param::from_tensor(Tensor::zeros([1, 1], device)) };
        if self.device.is_cpu() {
            let turned = match data.as_slice::<f32>() {
                Ok(values) => transpose(values, outputs, inputs),
                Err(_) => transpose(&data.iter::<f32>().collect::<Vec<_>>(), outputs, inputs),
            };
            return self.parameter(turned, [inputs, outputs], kept);
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
        let taps: usize = kernel.iter().product();
        let key = format!("{name}.weight");
        let published = [&[outputs, inputs], kernel].concat();
        let layout = Layout::Convolution { outputs, inputs, taps };
        let weight = match &mut self.origin {
            Origin::Random(random) => {
                let dtype = self.device.precision.dtype();
                random.weight([taps, inputs, outputs], taps * inputs, dtype, &self.device.device)
            }
            _ => {
                let values = layout.for_device(self.values(&key, &published));
                self.parameter(values, [taps, inputs, outputs], Kept::AsDevice)
            }
        };
        let weight = self.noted(weight, &key, &published, layout, Kept::AsDevice);
        (weight, self.small(&[&format!("{name}.bias")], [outputs], Kept::AsDevice))
    }

    /// The ledger answers a tensor that it does not have with no values; the placeholder only lives until [`Self::finish`].
    fn parameter<const D: usize>(&self, values: Vec<f32>, shape: [usize; D], kept: Kept) -> Param<Tensor<D>> {
        let (device, dtype) = (&self.device.device, kept.dtype(self.device));
        let tensor = if values.len() == shape.iter().product::<usize>() {
            let data = TensorData::new(values, Shape::new(shape)).convert_dtype(dtype.into());
            Tensor::from_data(data, (device, dtype.into()))
        } else {
            Tensor::zeros([1; D], device)
        };
        Param::from_tensor(tensor)
    }

    /// The parameter, of which a note is made if notes are wanted.
    fn noted<const D: usize>(
        &self,
        parameter: Param<Tensor<D>>,
        name: &str,
        shape: &[usize],
        layout: Layout,
        kept: Kept,
    ) -> Param<Tensor<D>> {
        if let Some(parameters) = self.parameters {
            parameters.borrow_mut().push(PublishedParameter {
                id: parameter.id,
                name: name.to_owned(),
                shape: shape.to_vec(),
                layout,
                follows_storage: kept == Kept::AsDevice,
            });
        }
        parameter
    }

    /// # Errors
    /// Lists every missing, unexpected, misshaped and non-finite tensor, but for unexpected ones that `ignorable` names.
    pub fn finish(self, ignorable: impl Fn(&str) -> bool) -> Result<(), WeightError> {
        match self.origin {
            Origin::File(ledger) | Origin::Checked(ledger) => ledger.finish(ignorable),
            Origin::Random(_) | Origin::Initial(_) => Ok(()),
        }
    }
}

/// In which type a parameter is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// In the storage type of the device.
    AsDevice,
    /// In f32.
    Exact,
}

impl Kept {
    fn dtype(self, device: &ComputeDevice) -> FloatDType {
        match self {
            Self::AsDevice => device.precision.dtype(),
            Self::Exact => FloatDType::F32,
        }
    }
}
