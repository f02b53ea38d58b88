//! A network with its optimiser: takes steps, goes into checkpoints and comes out of them.

use std::sync::Arc;
use std::time::Duration;

use burn::module::Module;
use burn::tensor::{Bytes, DType, Device, FloatDType, Tensor, TensorData};

use super::checkpoint::{Checkpoint, Identity, Progress, Vectors};
use super::error::TrainError;
use super::loss_scale::LossScale;
use super::optimiser::{Optimiser, OptimiserSettings, OptimiserState};
use super::parameters::Parameters;
use crate::gpu::device::{ComputeDevice, Precision};
use crate::gpu::upload::Uploader;

/// What a batch has lost, each number `[1]` and not yet read from the device.
pub struct Loss {
    /// What is made small.
    pub total: Tensor<1>,
    /// Further numbers for people, in the order in which the task names them.
    pub numbers: Vec<Tensor<1>>,
}

/// Parts of a batch that one device looks at.
pub struct Share<B> {
    pub parts: Vec<B>,
    /// The number of parts of the whole batch.
    pub of: usize,
}

impl<B> Share<B> {
    /// The whole batch.
    pub fn whole(parts: Vec<B>) -> Self {
        Self { of: parts.len(), parts }
    }
}

/// Adds up what the devices of a training have found.
pub trait Exchange {
    /// Whether there is any other device.
    fn is_needed(&self) -> bool;

    /// The sum of everybody's values in f32; nothing from a device that had no part.
    ///
    /// # Errors
    /// A device failed.
    fn add(&self, own: Option<Bytes>) -> Result<Option<Arc<Bytes>>, TrainError>;
}

/// One device alone.
pub struct Alone;

impl Exchange for Alone {
    fn is_needed(&self) -> bool {
        false
    }

    fn add(&self, own: Option<Bytes>) -> Result<Option<Arc<Bytes>>, TrainError> {
        Ok(own.map(Arc::new))
    }
}

/// Trains a network.
pub struct Trainer<M: Module> {
    parameters: Parameters,
    /// The network's structure; its values are those it began with.
    structure: M,
    optimiser: Optimiser,
    state: OptimiserState,
    device: Device,
    uploader: Uploader,
    storage: FloatDType,
    identity: Identity,
    pub progress: Progress,
}

/// Numbers of a step behind the loss and the task's own: norm and skipped.
pub const OWN_NUMBERS: usize = 2;

impl<M: Module> Trainer<M> {
    /// `structure` was loaded in f32 onto `device` without autodiff, with its parameters noted in `parameters`.
    pub fn new(
        structure: M,
        parameters: Parameters,
        settings: OptimiserSettings,
        kind: &str,
        seed: u64,
        device: &ComputeDevice,
    ) -> Self {
        let identity = Identity { kind: kind.to_owned(), fingerprint: parameters.fingerprint(), seed };
        let state = OptimiserState::new(parameters.gather(&structure), &parameters);
        let is_scaled = device.precision == Precision::F16;
        let progress = Progress { step: 0, trained_seconds: 0.0, loss_scale: LossScale::new(is_scaled) };
        Self {
            optimiser: Optimiser::new(settings, &parameters, &device.device),
            parameters,
            structure,
            state,
            device: device.device.clone(),
            uploader: Uploader::new(device),
            storage: device.precision.dtype(),
            identity,
            progress,
        }
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn trained(&self) -> Duration {
        Duration::try_from_secs_f64(self.progress.trained_seconds).unwrap_or_default()
    }

    /// One step on a batch, of which this device has a share. `factor` is what the schedule makes of the learning rates. Gives
    /// the step's numbers `[loss, the task's.., norm, skipped]`, which are not read yet.
    ///
    /// # Errors
    /// Another device of the training failed.
    pub fn step<B>(
        &mut self,
        share: Share<B>,
        factor: f64,
        loss_of: impl Fn(&M, B) -> Loss,
        exchange: &dyn Exchange,
    ) -> Result<Tensor<1>, TrainError> {
        let network = self.parameters.network(&self.structure, &self.state.master, self.storage, true);
        let (count, scale) = (share.of.max(1) as f64, self.progress.loss_scale.value());
        let mut found: Option<[Tensor<1>; 2]> = None;
        for part in share.parts {
            let Loss { total, numbers: shown } = loss_of(&network, part);
            let mut gradients = (total.clone() * (scale / count)).backward();
            let gradient = self.parameters.gather_gradients(&network, &mut gradients);
            let shown = std::iter::once(total).chain(shown).map(Tensor::without_autodiff).collect();
            let numbers = Tensor::cat(shown, 0) / count;
            found = Some(match found.take() {
                Some([gradients, sums]) => [gradients + gradient, sums + numbers],
                None => [gradient, numbers],
            });
        }
        if exchange.is_needed() {
            found = self.exchanged(found, exchange)?;
        }
        let zeros = |length: usize| Tensor::zeros([length], &self.device);
        let [gradient, numbers] = found.unwrap_or_else(|| [zeros(self.parameters.length()), zeros(1)]);
        let (state, own) = self.optimiser.step(&self.parameters, self.state.clone(), gradient, scale, factor, self.progress.step);
        self.state = state;
        self.progress.step += 1;
        Ok(Tensor::cat(vec![numbers, own.norm, own.skipped], 0))
    }

    /// Gradients and numbers of all devices' shares; none where nobody had a part.
    fn exchanged(&self, found: Option<[Tensor<1>; 2]>, exchange: &dyn Exchange) -> Result<Option<[Tensor<1>; 2]>, TrainError> {
        let own = found.map(|found| Tensor::cat(found.to_vec(), 0).try_into_data_as::<f32>());
        let own = own.transpose().map_err(|error| self.failed(&error))?.map(|data| data.into_parts().0);
        Ok(exchange.add(own)?.map(|sum| {
            let (all, length) = (sum.len() / size_of::<f32>(), self.parameters.length());
            let sum: Tensor<1> = self.uploader.upload(sum, [all], DType::F32);
            [sum.clone().narrow(0, 0, length), sum.narrow(0, length, all - length)]
        }))
    }

    /// The network with the average of its parameters, as it is used: without gradients, in the device's storage type.
    pub fn averaged(&self) -> M {
        self.parameters.network(&self.structure, &self.state.average, self.storage, false)
    }

    /// The averaged parameters, read from the device.
    ///
    /// # Errors
    /// The device failed.
    pub fn average(&self) -> Result<Vec<f32>, TrainError> {
        self.read(self.state.average.clone())
    }

    /// Everything that a run needs to go on.
    ///
    /// # Errors
    /// The device failed.
    pub fn checkpoint(&self) -> Result<Checkpoint, TrainError> {
        let state = &self.state;
        let vectors = Vectors {
            master: self.read(state.master.clone())?,
            first: self.read(state.first.clone())?,
            second: self.read(state.second.clone())?,
            average: self.read(state.average.clone())?,
        };
        Ok(Checkpoint { identity: self.identity.clone(), progress: self.progress.clone(), vectors })
    }

    /// Goes on from a checkpoint that [`Checkpoint::check`] let through.
    pub fn resume(&mut self, checkpoint: Checkpoint) {
        let tensor = |values: Vec<f32>| {
            let length = values.len();
            Tensor::from_data(TensorData::new(values, [length]), &self.device)
        };
        let Vectors { master, first, second, average } = checkpoint.vectors;
        self.state =
            OptimiserState { master: tensor(master), first: tensor(first), second: tensor(second), average: tensor(average) };
        // A run that goes on with another precision begins its scale anew.
        let is_scaled = self.storage == FloatDType::F16;
        let keeps = LossScale::new(is_scaled).is_dynamic() == checkpoint.progress.loss_scale.is_dynamic();
        let loss_scale = if keeps { checkpoint.progress.loss_scale } else { LossScale::new(is_scaled) };
        self.progress = Progress { loss_scale, ..checkpoint.progress };
    }

    fn read(&self, vector: Tensor<1>) -> Result<Vec<f32>, TrainError> {
        vector.try_into_vec_as().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &dyn std::error::Error) -> TrainError {
        TrainError::DeviceFailed { step: self.progress.step, reason: error.to_string() }
    }
}
