//! A network with its optimiser: takes steps, goes into checkpoints and comes out of them.

use std::time::Duration;

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::checkpoint::{Checkpoint, Identity, Progress, Vectors};
use super::error::TrainError;
use super::loss_scale::LossScale;
use super::optimiser::{Optimiser, OptimiserSettings, OptimiserState};
use super::parameters::Parameters;
use crate::gpu::device::{ComputeDevice, Precision};

/// What a batch has lost, each number `[1]` and not yet read from the device.
pub struct Loss {
    /// What is made small.
    pub total: Tensor<1>,
    /// Further numbers for people, in the order in which the task names them.
    pub numbers: Vec<Tensor<1>>,
}

/// Trains a network.
pub struct Trainer<M: Module> {
    parameters: Parameters,
    /// The network's structure; its values are those it began with.
    structure: M,
    optimiser: Optimiser,
    state: OptimiserState,
    device: Device,
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

    /// One step on the parts of a batch. `factor` is what the schedule makes of the learning rates. Gives the step's numbers
    /// `[loss, the task's.., norm, skipped]`, which are not read yet.
    pub fn step<B>(&mut self, parts: Vec<B>, factor: f64, loss_of: impl Fn(&M, B) -> Loss) -> Tensor<1> {
        let network = self.parameters.network(&self.structure, &self.state.master, self.storage, true);
        let (count, scale) = (parts.len().max(1) as f64, self.progress.loss_scale.value());
        let mut gradient: Option<Tensor<1>> = None;
        let mut numbers: Option<Tensor<1>> = None;
        let add = |sum: &mut Option<Tensor<1>>, x: Tensor<1>| {
            *sum = Some(match sum.take() {
                Some(sum) => sum + x,
                None => x,
            });
        };
        for part in parts {
            let Loss { total, numbers: shown } = loss_of(&network, part);
            let mut gradients = (total.clone() * (scale / count)).backward();
            add(&mut gradient, self.parameters.gather_gradients(&network, &mut gradients));
            let shown = std::iter::once(total).chain(shown).map(Tensor::without_autodiff).collect();
            add(&mut numbers, Tensor::cat(shown, 0) / count);
        }
        let zero = || Tensor::zeros([1], &self.device);
        let gradient = gradient.unwrap_or_else(|| Tensor::zeros([self.parameters.length()], &self.device));
        let (state, own) = self.optimiser.step(&self.parameters, self.state.clone(), gradient, scale, factor, self.progress.step);
        self.state = state;
        self.progress.step += 1;
        Tensor::cat(vec![numbers.unwrap_or_else(zero), own.norm, own.skipped], 0)
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
        vector.try_into_vec_as().map_err(|error| TrainError::DeviceFailed { step: self.progress.step, reason: error.to_string() })
    }
}
