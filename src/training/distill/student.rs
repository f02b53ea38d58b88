//! The network that learns: it begins as its teacher, and is published as a model of its own.

use std::path::Path;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use serde_json::Value;

use super::teacher::Teacher;
use crate::gpu::device::{ComputeDevice, Precision};
use crate::mask::MaskPlan;
use crate::model::dit::{TextContext, Transformer, TransformerConfig};
use crate::model::folder::ModelFacts;
use crate::model::weights::{
    Loader, PublishedParameters, WeightError, WeightSource, WrittenType, write_safetensors, write_whole,
};
use crate::training::error::TrainError;
use crate::training::folder::RunFolder;
use crate::training::optimiser::OptimiserSettings;
use crate::training::parameters::Parameters;
use crate::training::trainer::Trainer;

/// File names of the published layout.
const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
const CONFIG: &str = "config.json";
const FACTS: &str = "tilereel.json";
const PLAN: &str = "mask_plan.json";

/// The name of the student among the parameters.
pub(super) const STUDENT: &str = "student";

/// A trainer of a network that begins with the weights of a file; AdamW updates everything, which does not lead far away from
/// them as the optimiser of matrices would. A checkpoint goes on only in a run of the same `kind`, which therefore also says with
/// which settings and from which teacher.
///
/// # Errors
/// The weights do not fit the configuration.
pub fn trainer(
    weights: &WeightSource,
    config: &TransformerConfig,
    kind: &str,
    settings: OptimiserSettings,
    seed: u64,
    device: &ComputeDevice,
) -> Result<Trainer<Transformer>, WeightError> {
    let exact = ComputeDevice { precision: Precision::F32, ..device.clone() };
    let noted = PublishedParameters::default();
    let transformer = Transformer::load(Loader::new(weights, &exact).noting(&noted), config)?;
    let parameters = Parameters::of(&[(STUDENT, noted)], &|_, _| None);
    Ok(Trainer::new(transformer, parameters, settings, kind, seed, device))
}

/// The same network, whose calls leave no trace for gradients.
pub fn without_gradients(network: &Transformer) -> Transformer {
    struct Untracked;
    impl ModuleMapper for Untracked {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let value = param.val().without_autodiff();
            Param::initialized(param.id, value)
        }
    }
    network.clone().map(&mut Untracked)
}

/// A text for a network that is trained.
pub fn with_gradients(text: &TextContext) -> TextContext {
    TextContext { embedding: text.embedding.clone().autodiff(), mask: text.mask.clone() }
}

/// What stands beside a student's weights.
#[derive(Clone, Debug)]
pub struct Description {
    /// The student's folder in the run's model.
    pub name: &'static str,
    /// The transformer's configuration, as published.
    pub config: Value,
    pub facts: ModelFacts,
    /// The masks that it is trained with, unless it sees everything.
    pub plan: Option<MaskPlan>,
}

impl Description {
    /// Writes the average of the trained weights, and what is said about them.
    ///
    /// # Errors
    /// The device failed, or a file cannot be written.
    pub fn publish<M: Module>(&self, trainer: &Trainer<M>, folder: &RunFolder) -> Result<(), TrainError> {
        let place = folder.network(self.name);
        let tensors = trainer.parameters().published(STUDENT, &trainer.average()?);
        if let Some(plan) = &self.plan {
            write_whole(&place.join(PLAN), plan.to_json()?.as_bytes())?;
        }
        let facts = ModelFacts { mask_plan: self.plan.is_some().then(|| PLAN.to_owned()), ..self.facts.clone() };
        let facts = serde_json::to_value(&facts).map_err(|error| TrainError::Settings(error.to_string()))?;
        write_whole(&place.join(FACTS), format!("{facts:#}\n").as_bytes())?;
        write_safetensors(&place.join(WEIGHTS), &tensors, WrittenType::F16)?;
        write_whole(&place.join(CONFIG), format!("{:#}\n", self.config).as_bytes())?;
        Ok(())
    }
}

/// Draws a sheet of what a student can do.
pub type SheetOfStudent = Box<dyn Fn(&Transformer, &Teacher, &Path) -> Result<(), TrainError>>;
