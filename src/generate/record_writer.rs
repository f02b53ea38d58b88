//! Step records go to disk beside the steps, on a thread of their own: a disk that takes its time to say that a file is safe
//! does not hold up the device.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::GenerateError;
use super::attention_record::AttentionRecord;
use super::step_record::StepRecord;

/// Steps that may wait for the disk before the run waits for it too: all of a small model's, whose steps are shorter than
/// a write, and of the published one some hundred megabytes at most.
const WAITING_STEPS: usize = 8;

/// Writes the records of one run. Dropped, it ends when all that it was given is written.
pub(super) struct RecordWriter {
    folder: PathBuf,
    steps: Option<SyncSender<Step>>,
    thread: Option<JoinHandle<Result<(), GenerateError>>>,
}

struct Step {
    call: usize,
    record: StepRecord,
    attention: Option<Arc<AttentionRecord>>,
}

impl RecordWriter {
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(folder: &Path) -> Result<Self, GenerateError> {
        let (steps, waiting) = sync_channel(WAITING_STEPS);
        let of_thread = folder.to_owned();
        let thread = Builder::new().name("records".into()).spawn(move || write_all(&of_thread, &waiting));
        let thread = thread.map_err(|source| GenerateError::RecordNotWritten { path: folder.to_owned(), source })?;
        Ok(Self { folder: folder.to_owned(), steps: Some(steps), thread: Some(thread) })
    }

    /// Hands over what a call left.
    ///
    /// # Errors
    /// This or an earlier record could not be written.
    pub(super) fn write(
        &mut self,
        call: usize,
        record: StepRecord,
        attention: Option<Arc<AttentionRecord>>,
    ) -> Result<(), GenerateError> {
        let step = Step { call, record, attention };
        // The thread ends early only with an error.
        if self.steps.as_ref().is_some_and(|steps| steps.send(step).is_ok()) { Ok(()) } else { self.finish() }
    }

    /// Waits until everything is on disk.
    ///
    /// # Errors
    /// A record could not be written; it is told once.
    pub(super) fn finish(&mut self) -> Result<(), GenerateError> {
        self.steps = None;
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(_)) => {
                let source = std::io::Error::other("the thread that writes records broke off");
                Err(GenerateError::RecordNotWritten { path: self.folder.clone(), source })
            }
        }
    }
}

impl Drop for RecordWriter {
    fn drop(&mut self) {
        // A run that fails has an error of its own to tell.
        if let Err(error) = self.finish() {
            log::warn!("{error}");
        }
    }
}

fn write_all(folder: &Path, steps: &Receiver<Step>) -> Result<(), GenerateError> {
    for Step { call, record, attention } in steps {
        // The step comes last: once it is there, what belongs to it is there too.
        AttentionRecord::write_or_remove(attention.as_deref(), folder, call)?;
        record.write(folder)?;
    }
    Ok(())
}
