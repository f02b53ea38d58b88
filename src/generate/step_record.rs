//! What is kept of every finished step, so that a stopped run can go on to the same bytes.
//!
//! One safetensors file a step in a folder of the run: the latent after the step, the estimate of the clean latent, the
//! sampler's history; in its metadata the recipe and a SHA-256 over all of it. Files are written under a temporary name and
//! renamed, so a record is whole or absent.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};

use super::GenerateError;
use super::recipe::Recipe;
use crate::model::latent::Latent;
use crate::model::sampler::Sampler;

const CHECKSUM: &str = "sha256";
const RECIPE: &str = "recipe";
const CALL: &str = "next_call";
const DEVICES: &str = "devices";

/// The state of a run after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    pub recipe: Recipe,
    /// The call of the transformer that comes next.
    pub next_call: usize,
    pub latent: Latent,
    pub denoised: Latent,
    pub history: Vec<Vec<f32>>,
    /// The devices that made the steps up to here, in order, each once in a row. Older records do not know them.
    pub devices: Vec<String>,
    path: PathBuf,
}

/// The last record of a run, for whoever goes on from it if the run breaks off.
#[derive(Clone, Debug, Default)]
pub struct LastRecord(Arc<Mutex<Option<StepRecord>>>);

impl LastRecord {
    pub(super) fn put(&self, record: &StepRecord) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(record.clone());
    }

    pub fn take(&self) -> Option<StepRecord> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl StepRecord {
    pub fn of_step(recipe: &Recipe, sampler: &Sampler, call: usize, latent: &Latent, denoised: &Latent) -> Self {
        Self {
            devices: Vec::new(),
            recipe: recipe.clone(),
            next_call: call + 1,
            latent: latent.clone(),
            denoised: denoised.clone(),
            history: sampler.history(),
            path: PathBuf::new(),
        }
    }

    /// The end of a run that has no step left to make.
    pub(super) fn at_end(recipe: &Recipe, next_call: usize, latent: Latent) -> Self {
        let denoised = latent.clone();
        Self {
            recipe: recipe.clone(),
            next_call,
            latent,
            denoised,
            history: Vec::new(),
            devices: Vec::new(),
            path: PathBuf::new(),
        }
    }

    pub(super) fn made_on(self, devices: &[String]) -> Self {
        Self { devices: devices.to_vec(), ..self }
    }

    /// Where a run's folder has the record of its first so many calls.
    pub fn path_in(folder: &Path, next_call: usize) -> PathBuf {
        folder.join(format!("step-{next_call:04}.safetensors"))
    }

    /// Writes the record into the run's folder, which is made if it is not there.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), GenerateError> {
        let path = Self::path_in(folder, self.next_call);
        // The kind alone: the whole error would name the temporary file.
        let failed =
            |source: std::io::Error| GenerateError::RecordNotWritten { path: path.clone(), source: source.kind().into() };
        fs::create_dir_all(folder).map_err(failed)?;
        let bytes = self.to_bytes().map_err(|error| failed(std::io::Error::other(error)))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn to_bytes(&self) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let shape = self.latent.shape.to_vec();
        let mut tensors = vec![("latent".to_owned(), shape.clone(), bytes_of(&self.latent.values))];
        tensors.push(("denoised".to_owned(), shape, bytes_of(&self.denoised.values)));
        for (index, values) in self.history.iter().enumerate() {
            tensors.push((format!("history.{index}"), vec![values.len()], bytes_of(values)));
        }
        let (recipe, call) = (self.recipe.to_json(), self.next_call.to_string());
        let sum = checksum(&recipe, &call, tensors.iter().map(|(name, _, bytes)| (name.as_str(), bytes.as_slice())));
        let devices = serde_json::json!(self.devices).to_string();
        let metadata = [(RECIPE, recipe), (CALL, call), (DEVICES, devices), (CHECKSUM, sum)];
        let metadata = HashMap::from(metadata.map(|(key, value)| (key.to_owned(), value)));
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        safetensors::serialize(views, Some(metadata))
    }

    /// The last whole record of a run's folder. Damaged ones are passed over.
    ///
    /// # Errors
    /// The folder holds no record that can be used.
    pub fn last_of(folder: &Path) -> Result<Self, GenerateError> {
        let unusable = |reason: String| GenerateError::StepRecord { path: folder.to_owned(), reason };
        let entries = fs::read_dir(folder).map_err(|error| unusable(error.to_string()))?;
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|ending| ending == "safetensors"))
            .collect();
        paths.sort();
        let mut last_fault = "it holds no step-NNNN.safetensors".to_owned();
        for path in paths.into_iter().rev() {
            match Self::read(&path) {
                Ok(record) => return Ok(record),
                Err(error @ GenerateError::NewerRecipe { .. }) => return Err(error),
                Err(error) => {
                    let reason = match error {
                        GenerateError::StepRecord { reason, .. } => reason,
                        other => other.to_string(),
                    };
                    log::warn!("the step record {} is passed over: {reason}", path.display());
                    last_fault = format!("{}: {reason}", path.file_name().unwrap_or_default().display());
                }
            }
        }
        Err(unusable(last_fault))
    }

    /// # Errors
    /// The file is not a whole record.
    pub fn read(path: &Path) -> Result<Self, GenerateError> {
        let unusable = |reason: String| GenerateError::StepRecord { path: path.to_owned(), reason };
        let bytes = fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| unusable(error.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| unusable(error.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let entry = |key: &str| metadata.get(key).cloned().ok_or_else(|| unusable(format!("it has no {key}")));
        let (recipe, call) = (entry(RECIPE)?, entry(CALL)?);

        let history = (0..).map(|index| format!("history.{index}")).take_while(|name| file.tensor(name).is_ok());
        let names: Vec<String> = ["latent".to_owned(), "denoised".to_owned()].into_iter().chain(history).collect();
        let mut tensors = Vec::new();
        for name in &names {
            let view = file.tensor(name).map_err(|error| unusable(error.to_string()))?;
            if view.dtype() != Dtype::F32 {
                return Err(unusable(format!("{name} is not of f32")));
            }
            tensors.push((name.as_str(), view));
        }
        let sum = checksum(&recipe, &call, tensors.iter().map(|(name, view)| (*name, view.data())));
        if sum != entry(CHECKSUM)? {
            return Err(unusable("its checksum is wrong: the file is damaged".into()));
        }
        let latent = |index: usize| -> Result<Latent, GenerateError> {
            let view = &tensors[index].1;
            let shape = <[usize; 4]>::try_from(view.shape()).map_err(|_| unusable("its latent has not four axes".into()))?;
            Ok(Latent { shape, values: values_of(view.data()) })
        };
        Ok(Self {
            recipe: Recipe::from_json(&recipe)?,
            next_call: call.parse().map_err(|_| unusable("its step is no number".into()))?,
            latent: latent(0)?,
            denoised: latent(1)?,
            devices: metadata.get(DEVICES).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
            history: tensors[2..].iter().map(|(_, view)| values_of(view.data())).collect(),
            path: path.to_owned(),
        })
    }

    /// Whether it is a step of this run.
    pub fn is_of(&self, recipe: &Recipe) -> bool {
        self.recipe == *recipe
    }

    /// Puts the sampler behind this record's step; gives the next call and the latent before it.
    pub(super) fn restore(
        &self,
        recipe: &Recipe,
        sampler: &mut Sampler,
        shape: [usize; 4],
    ) -> Result<(usize, Latent), GenerateError> {
        let unusable = |reason: String| GenerateError::StepRecord { path: self.path.clone(), reason };
        if self.recipe != *recipe {
            return Err(unusable("it is of another recipe".into()));
        }
        if self.latent.shape != shape || self.history.iter().any(|kept| kept.len() != self.latent.values.len()) {
            return Err(unusable(format!("its latent has the shape {:?}, not {shape:?}", self.latent.shape)));
        }
        sampler.restore(self.next_call, self.history.clone())?;
        Ok((self.next_call, self.latent.clone()))
    }
}

fn checksum<'a>(recipe: &str, call: &str, tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut sum = Sha256::new();
    for text in [recipe, call] {
        sum.update((text.len() as u64).to_le_bytes());
        sum.update(text);
    }
    for (name, bytes) in tensors {
        sum.update(name);
        sum.update((bytes.len() as u64).to_le_bytes());
        sum.update(bytes);
    }
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn values_of(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
