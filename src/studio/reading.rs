//! What the clips of the library attended to, read anew from the records of their steps.

use std::path::PathBuf;

use super::{ClipId, Feed, Home, Studio, StudioError, Task};
use crate::generate::pipeline::LoadedModel;
use crate::generate::reading::{self, PastCall, PointReads, WordMaps};
use crate::generate::step_record::StepRecord;
use crate::model::latent::TokenPlace;

/// The call that made a step of a clip of the library; steps count from 1.
///
/// # Errors
/// The records of the step, or of the one before it, are not kept or damaged.
pub fn past_call(home: &Home, clip: ClipId, step: usize) -> Result<PastCall, StudioError> {
    Ok(PastCall::of_step(&folder_with(home, clip, step)?, step)?)
}

/// The folder with the records of a clip's step and of the one before it.
fn folder_with(home: &Home, clip: ClipId, step: usize) -> Result<PathBuf, StudioError> {
    let folder = home.steps_folder(clip);
    let first = step.saturating_sub(1).max(1);
    match (first..=step.max(1)).find(|&step| !StepRecord::path_in(&folder, step).exists()) {
        _ if step == 0 => Err(StudioError::NoSuchStep { step }),
        Some(missing) => Err(StudioError::NoSuchStep { step: missing }),
        None => Ok(folder),
    }
}

impl Studio {
    /// How much a token reads from every other in a layer (from 0), at a step (from 1) of a clip. It waits for the run that goes on.
    ///
    /// # Errors
    /// There is no such clip or step, or no device.
    pub fn point_reads(
        &self,
        clip: ClipId,
        step: usize,
        layer: usize,
        place: TokenPlace,
    ) -> Result<Task<PointReads>, StudioError> {
        let (entry, folder) = (self.clip(clip)?, folder_with(self.home(), clip, step)?);
        let work = move |model: &mut LoadedModel, feed: &mut Feed| {
            reading::point_reads(model, &PastCall::of_step(&folder, step)?, layer, place, feed)
        };
        self.with_model(entry.model, work, |reads, _| reads)
    }

    /// How much every token reads from each word of the prompt, in a layer (from 0) or on average, at a step (from 1) of a clip. It waits
    /// for the run that goes on.
    ///
    /// # Errors
    /// There is no such clip or step, or no device.
    pub fn word_maps(&self, clip: ClipId, step: usize, layer: Option<usize>) -> Result<Task<WordMaps>, StudioError> {
        let (entry, folder) = (self.clip(clip)?, folder_with(self.home(), clip, step)?);
        let work = move |model: &mut LoadedModel, feed: &mut Feed| {
            reading::word_maps(model, &PastCall::of_step(&folder, step)?, layer, feed)
        };
        self.with_model(entry.model, work, |maps, _| maps)
    }
}
