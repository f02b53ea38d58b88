//! Going on after the device was lost: the adapter gets a new device, the networks are loaded again, and the run continues
//! behind its last finished step. On the same adapter that gives the same bytes as a run that nothing disturbed.
//!
//! A lost device shows in many ways: an error of a read, a panic of the device's library, a failed self-test, none of which says
//! so by its kind. Hence whatever failed, the device itself is asked.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{EngineError, Workshop};
use crate::generate::GenerateError;
use crate::generate::observer::{Observer, Phase};
use crate::generate::pipeline::{LoadedModel, RunOptions};
use crate::gpu::device::{self, ComputeDevice};
use crate::model::folder::ModelFolder;

impl Workshop {
    /// Has `work` run a model, and again from the last finished step if the device is lost on the way.
    ///
    /// # Errors
    /// Those of `work`. [`GenerateError::DeviceLost`] if the device was lost twice without a step between, or gives no other.
    pub fn run<T, O: Observer>(
        &mut self,
        folder: &ModelFolder,
        device: &ComputeDevice,
        mut options: RunOptions,
        observer: &mut O,
        mut work: impl FnMut(&mut LoadedModel, &RunOptions, &mut O) -> Result<T, GenerateError>,
    ) -> Result<T, GenerateError> {
        let mut lost_behind = None;
        let mut device = device.clone();
        loop {
            let attempt = catch_unwind(AssertUnwindSafe(|| work(self.model(folder.clone(), &device)?, &options, observer)));
            let may_be_loss =
                !matches!(&attempt, Ok(Ok(_))) && !matches!(&attempt, Ok(Err(error)) if is_no_fault_of_device(error));
            let Some(reason) = may_be_loss.then(|| self.loss()).flatten() else {
                return attempt.unwrap_or_else(|payload| resume_unwind(payload));
            };
            // Its tensors are lost too, and dropping them may fail once more.
            let _ = catch_unwind(AssertUnwindSafe(|| self.model = None));
            let lost = |when, reason| GenerateError::DeviceLost { name: device.name.clone(), when, reason };
            // A run goes on from its own records alone.
            let last = options.last.take();
            if let Some(record) = last.filter(|last| options.resume.as_ref().is_none_or(|resume| resume.recipe == last.recipe)) {
                options.resume = Some(record);
            }
            let behind = options.resume.as_ref().map_or(0, |record| record.next_call);
            if lost_behind == Some(behind) {
                return Err(lost("again before another step was done", reason));
            }
            lost_behind = Some(behind);
            let place = if behind == 0 { "began anew".to_owned() } else { format!("went on behind step {behind}") };
            match (self.reopen(), device.others.split_first()) {
                (Ok(()), _) => {
                    observer.recovered(format!("{} was lost ({reason}); it was opened again, and the run {place}", device.name));
                }
                (Err(error), None) => return Err(lost("and does not come back", error.to_string())),
                (Err(error), Some((next, others))) => {
                    let what = format!("{} was lost ({reason}; {error})", device.name);
                    observer.recovered(format!("{what}; the run {place} on the rest, with {} first", next.name));
                    device = ComputeDevice { others: others.to_vec(), ..next.clone() };
                }
            }
            observer.phase(Phase::Load);
        }
    }

    /// What a job's error means, and a device for the next job if this one's is lost.
    pub(super) fn after_failure(&mut self, error: EngineError) -> EngineError {
        if matches!(&error, EngineError::Generate(error) if is_no_fault_of_device(error)) {
            return error;
        }
        let Some(reason) = self.loss() else { return error };
        let _ = catch_unwind(AssertUnwindSafe(|| self.model = None));
        if let Err(error) = self.reopen() {
            log::warn!("{error}");
        }
        match (error, &self.device) {
            (error @ EngineError::Generate(GenerateError::DeviceLost { .. }), _) | (error, None) => error,
            (_, Some(device)) => {
                let (name, when) = (device.name.clone(), "while it worked");
                EngineError::Generate(GenerateError::DeviceLost { name, when, reason })
            }
        }
    }

    fn loss(&self) -> Option<String> {
        self.device.as_ref()?.loss()
    }

    fn reopen(&self) -> Result<(), device::DeviceError> {
        self.device.as_ref().map_or(Ok(()), device::reopen)
    }
}

/// Errors that come about on any device.
fn is_no_fault_of_device(error: &GenerateError) -> bool {
    matches!(error, GenerateError::Stopped | GenerateError::RecordNotWritten { .. } | GenerateError::Folder(_))
        || error.is_usage()
}
