//! From weight files to parameters on a device.
//!
//! Networks ask for their tensors by published name and shape while they are built; what is missing, misshaped, not finite or
//! left over comes out as one error at the end ([`Loader::finish`]).

use burn::module::Param;
use burn::tensor::{Device, FloatDType, Shape, Tensor, TensorData};

use super::published::{Layout, PublishedParameter, PublishedParameters};
use super::{InitialValues, WeightError, WeightLedger, WeightSource};
use crate::gpu::device::ComputeDevice;
use crate::model::layers::{Linear, TwoLayers};

pub struct Loader<'a> {
    ledger: WeightLedger<'a>,
    device: &'a ComputeDevice,
    parameters: Option<&'a PublishedParameters>,
}

impl<'a> Loader<'a> {
    pub fn new(source: &'a WeightSource, device: &'a ComputeDevice) -> Self {
        Self { ledger: WeightLedger::new(source), device, parameters: None }
    }

    /// Values that a training begins from take the place of a file.
    pub fn initial(values: &'a dyn InitialValues, device: &'a ComputeDevice) -> Self {
        Self { ledger: WeightLedger::initial(values), device, parameters: None }
    }

    /// Also notes every parameter, so that it can be trained and written.
    #[must_use]
    pub fn noting(self, parameters: &'a PublishedParameters) -> Self {
        Self { parameters: Some(parameters), ..self }
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
        self.exact_of_any(&[name], shape)
    }

    /// As [`Self::exact`] for a tensor that is published under several names; it is written under the first.
    pub fn exact_of_any<const D: usize>(&mut self, names: &[&str], shape: [usize; D]) -> Param<Tensor<D>> {
        let values = self.values_of_any(names, &shape);
        let published = Published { name: names[0].to_owned(), shape: shape.to_vec(), layout: Layout::AsPublished };
        self.parameter(published, values, shape, false)
    }

    /// `[out, in]` as published becomes `[in, out]`; keys `NAME.weight` and, if `bias`, `NAME.bias`.
    pub fn linear(&mut self, name: &str, inputs: usize, outputs: usize, bias: bool) -> Linear {
        self.projection(name, &[outputs, inputs], bias, true)
    }

    /// A linear layer whose weight stays in f32.
    pub fn exact_linear(&mut self, name: &str, inputs: usize, outputs: usize, bias: bool) -> Linear {
        self.projection(name, &[outputs, inputs], bias, false)
    }

    /// A convolution of patches without overlap, `[out, channels, patch, patch]`, as the linear layer that it is.
    pub fn patch_projection(&mut self, name: &str, channels: usize, patch: usize, outputs: usize) -> Linear {
        self.projection(name, &[outputs, channels, patch, patch], true, true)
    }

    /// `shape` is the published one, with the outputs first.
    fn projection(&mut self, name: &str, shape: &[usize], bias: bool, follows_storage: bool) -> Linear {
        let (outputs, inputs) = (shape[0], shape[1..].iter().product());
        let layout = Layout::Linear { outputs, inputs };
        let published = Published { name: format!("{name}.weight"), shape: shape.to_vec(), layout };
        let weight = self.values(&published.name, shape);
        let bias = bias.then(|| self.bias(name, outputs, follows_storage));
        Linear { weight: self.parameter(published, layout.for_device(weight), [inputs, outputs], follows_storage), bias }
    }

    fn bias(&mut self, name: &str, outputs: usize, follows_storage: bool) -> Param<Tensor<1>> {
        let name = format!("{name}.bias");
        let values = self.values(&name, &[outputs]);
        let published = Published { name, shape: vec![outputs], layout: Layout::AsPublished };
        self.parameter(published, values, [outputs], follows_storage)
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
        let layout = Layout::Convolution { outputs, inputs, taps };
        let shape = [&[outputs, inputs], kernel].concat();
        let published = Published { name: format!("{name}.weight"), shape, layout };
        let weight = layout.for_device(self.values(&published.name, &published.shape));
        let weight = self.parameter(published, weight, [taps, inputs, outputs], true);
        (weight, self.bias(name, outputs, true))
    }

    /// The ledger answers a tensor that it does not have with no values; the placeholder only lives until [`Self::finish`].
    fn parameter<const D: usize>(
        &self,
        published: Published,
        values: Vec<f32>,
        shape: [usize; D],
        follows_storage: bool,
    ) -> Param<Tensor<D>> {
        let device = &self.device.device;
        let dtype = if follows_storage { self.device.precision.dtype() } else { FloatDType::F32 };
        let tensor = if values.len() == shape.iter().product::<usize>() {
            let data = TensorData::new(values, Shape::new(shape)).convert_dtype(dtype.into());
            Tensor::from_data(data, (device, dtype.into()))
        } else {
            Tensor::zeros([1; D], device)
        };
        let parameter = Param::from_tensor(tensor);
        if let Some(parameters) = self.parameters {
            let Published { name, shape, layout } = published;
            parameters.borrow_mut().push(PublishedParameter { id: parameter.id, name, shape, layout, follows_storage });
        }
        parameter
    }

    /// # Errors
    /// Lists every missing, unexpected, misshaped and non-finite tensor, but for unexpected ones that `ignorable` names.
    pub fn finish(self, ignorable: impl Fn(&str) -> bool) -> Result<(), WeightError> {
        self.ledger.finish(ignorable)
    }
}

/// What a parameter is in a file.
struct Published {
    name: String,
    shape: Vec<usize>,
    layout: Layout,
}
