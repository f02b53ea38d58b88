//! Work beside the queue that a person waits for, such as a verification: on a thread of its own, with progress and an end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::StudioError;

pub struct Task<T> {
    progress: Progress,
    result: Arc<Mutex<Option<Result<T, StudioError>>>>,
}

/// How far the work is; the work's end of a task.
#[derive(Clone, Default)]
pub struct Progress {
    share: Arc<AtomicU64>,
    cancelled: Arc<AtomicBool>,
}

impl Progress {
    /// 0 to 1.
    pub fn set(&self, share: f64) {
        self.share.store(share.to_bits(), Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl<T: Send + 'static> Task<T> {
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(
        work: impl FnOnce(&Progress) -> Result<T, StudioError> + Send + 'static,
        wake: impl FnOnce() + Send + 'static,
    ) -> Result<Self, StudioError> {
        let (progress, result) = (Progress::default(), Arc::new(Mutex::new(None)));
        let task = Self { progress: progress.clone(), result: result.clone() };
        let run = move || {
            let outcome = work(&progress);
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            wake();
        };
        thread::Builder::new().name("tilereel task".into()).spawn(run).map_err(StudioError::NoThread)?;
        Ok(task)
    }

    /// 0 to 1.
    pub fn progress(&self) -> f64 {
        f64::from_bits(self.progress.share.load(Ordering::Relaxed))
    }

    /// Asks the work to stop; its result is then an error, unless it was done before.
    pub fn cancel(&self) {
        self.progress.cancelled.store(true, Ordering::Relaxed);
    }

    /// The result, once, when there is one.
    pub fn take_result(&self) -> Option<Result<T, StudioError>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
