//! Exports: an edited clip becomes a file, on a thread of its own beside the engine's.
//!
//! A front starts an [`Export`], looks at its progress whenever it paints, and may cancel it. Whether a cancelled export still
//! made its file is decided at one moment, the one before the file gets its name; so a cancel is final at once, even while an
//! encoder is in the middle of a large frame.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::engine::panic_message;
use crate::clip::{ClipError, ClipFormat, Edit, Frames, WriteOptions, Written, write_clip_watched};

pub(super) const THREAD_NAME: &str = "tilereel export";
/// The share of the time in which frames are edited, if they are made larger.
const SCALING_SHARE: f64 = 0.05;

/// What becomes which file.
#[derive(Clone, Debug)]
pub struct ExportRequest {
    pub frames: Arc<Frames>,
    pub edit: Edit,
    /// The ending of its name chooses the kind of file.
    pub path: PathBuf,
    /// The text to put inside of the file.
    pub recipe: Option<String>,
    /// Other choices; the number of loops is that of the edit.
    pub options: WriteOptions,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Clip(#[from] ClipError),
    #[error("the encoder gave up: {message}; try another format, and report this with the clip")]
    Panicked { message: String },
    #[error("the system gives no thread to export with: {0}; close other programs and try again")]
    NoThread(std::io::Error),
}

impl ExportError {
    /// Whether it only ended because someone wanted it to.
    pub fn is_stopped(&self) -> bool {
        matches!(self, ExportError::Clip(ClipError::Stopped))
    }
}

/// Exports on the thread of the caller.
///
/// `progress` gets the share that is done, as [`write_clip_watched`] tells it: at 1 the file is complete and waits for its
/// name, and a break there still leaves nothing.
///
/// # Errors
/// [`ExportError::Clip`] if the edit or the file is not possible, or `progress` broke; [`ExportError::Panicked`].
pub fn run(request: &ExportRequest, progress: &mut dyn FnMut(f64) -> ControlFlow<()>) -> Result<Written, ExportError> {
    let written = catch_unwind(AssertUnwindSafe(|| edit_and_write(request, progress)));
    Ok(written.map_err(|payload: Box<dyn Any + Send>| ExportError::Panicked { message: panic_message(&*payload) })??)
}

fn edit_and_write(request: &ExportRequest, progress: &mut dyn FnMut(f64) -> ControlFlow<()>) -> Result<Written, ClipError> {
    // Better now than after all frames were made larger.
    ClipFormat::from_path(&request.path)?;
    let begin = if request.edit.scale > 1 { SCALING_SHARE } else { 0.0 };
    let frames = request.edit.apply_watched(&request.frames, &mut |share| progress(begin * share))?;
    let options = WriteOptions { loops: request.edit.loops, ..request.options.clone() };
    let recipe = request.recipe.as_deref();
    // Exactly 1 where the share is.
    write_clip_watched(&request.path, &frames, recipe, &options, &mut |share| progress(begin * (1.0 - share) + share))
}

/// An export on its own thread. Dropping it lets the export go on.
#[derive(Debug)]
pub struct Export {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// One of the states below.
    state: AtomicU8,
    /// The bits of an f64 of 0 to 1.
    progress: AtomicU64,
    result: OnceLock<Result<Written, ExportError>>,
}

const RUNNING: u8 = 0;
const CANCELLED: u8 = 1;
/// The file gets its name: too late to cancel.
const NAMING: u8 = 2;

impl Shared {
    fn change(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn step(&self, share: f64) -> ControlFlow<()> {
        self.progress.store(share.to_bits(), Ordering::Relaxed);
        let goes_on = if share < 1.0 { self.state.load(Ordering::Acquire) != CANCELLED } else { self.change(RUNNING, NAMING) };
        if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn finish(&self, result: Result<Written, ExportError>) {
        // A cancelled export has its result already.
        let _ = self.result.set(result);
    }
}

impl Export {
    /// Starts an export. `wake` is called from its thread when there is progress to show, and after the result is there.
    pub fn start(request: ExportRequest, wake: Box<dyn Fn() + Send>) -> Self {
        let shared = Arc::new(Shared::default());
        let worker = shared.clone();
        let spawned = thread::Builder::new().name(THREAD_NAME.into()).spawn(move || {
            let result = run(&request, &mut |share| {
                let step = worker.step(share);
                wake();
                step
            });
            worker.finish(result);
            wake();
        });
        let thread = match spawned {
            Ok(thread) => Some(thread),
            Err(error) => {
                shared.finish(Err(ExportError::NoThread(error)));
                None
            }
        };
        Export { shared, thread }
    }

    /// The share that is done, 0 to 1.
    pub fn progress(&self) -> f64 {
        f64::from_bits(self.shared.progress.load(Ordering::Relaxed))
    }

    /// Gives the export up: from now on its result is [`ClipError::Stopped`] and no file appears. Does nothing when the file
    /// is there or about to get its name.
    pub fn cancel(&self) {
        if self.shared.change(RUNNING, CANCELLED) {
            self.shared.finish(Err(ClipError::Stopped.into()));
        }
    }

    /// The result, when there is one.
    pub fn result(&self) -> Option<&Result<Written, ExportError>> {
        self.shared.result.get()
    }

    /// Waits for the end of the export and gives its result away.
    pub fn finish(mut self) -> Result<Written, ExportError> {
        if let Some(thread) = self.thread.take() {
            // What happens on it, a panic too, is in the result.
            let _ = thread.join();
        }
        let result = Arc::into_inner(self.shared).and_then(|shared| shared.result.into_inner());
        result.unwrap_or_else(|| Err(ExportError::Panicked { message: "its thread left no result".to_owned() }))
    }

    /// Waits until the thread has ended, which after a cancel is when its temporary files are gone too.
    pub fn wait(&self, within: Duration) -> bool {
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        let until = Instant::now() + within;
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(LOOK_EVERY);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::clip::read_frames;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn request(path: &Path, count: u8) -> ExportRequest {
        let frames = Frames {
            width: 32,
            height: 16,
            frames_per_second: 24.0,
            rgb: (0..count).flat_map(|frame| vec![frame; 32 * 16 * 3]).collect(),
        };
        let edit = Edit { scale: 2, ping_pong: true, ..Edit::whole(&frames) };
        ExportRequest { frames: Arc::new(frames), edit, path: path.to_owned(), recipe: None, options: WriteOptions::default() }
    }

    #[test]
    fn an_export_wakes_its_front_and_tells_its_result() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.apng");
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = wakes.clone();
        let mut request = request(&path, 5);
        request.options.sidecar = Some("{}".to_owned());
        let export = Export::start(
            request,
            Box::new(move || {
                counted.fetch_add(1, Ordering::Relaxed);
            }),
        );
        assert!(export.wait(PATIENCE));
        let written = export.result().unwrap().as_ref().unwrap();
        assert_eq!(written.paths, std::slice::from_ref(&path));
        assert_eq!(written.sidecar.as_ref(), Some(&folder.path().join("clip.recipe.json")));
        assert_eq!(export.progress(), 1.0);
        assert!(wakes.load(Ordering::Relaxed) > 8);
        let frames = read_frames(&path).unwrap();
        assert_eq!((frames.width, frames.height, frames.count()), (64, 32, 8));
        // Too late: the file stays.
        export.cancel();
        assert!(export.result().unwrap().is_ok());
        assert_eq!(export.finish().unwrap().paths, std::slice::from_ref(&path));
        assert!(path.is_file());
    }

    #[test]
    fn a_cancel_is_final_at_once_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.webm");
        fs::write(&path, "the old file").unwrap();
        let export = Export::start(request(&path, 200), Box::new(|| {}));
        while export.progress() < 0.05 {
            assert!(export.result().is_none());
            thread::yield_now();
        }
        export.cancel();
        assert!(export.result().unwrap().as_ref().is_err_and(ExportError::is_stopped));
        assert!(export.wait(PATIENCE));
        assert!(export.result().unwrap().as_ref().is_err_and(ExportError::is_stopped));
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(files.len(), 1);
        assert_eq!(fs::read(&path).unwrap(), b"the old file");
    }

    #[test]
    fn errors_and_panics_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut impossible = request(&folder.path().join("clip.gif"), 5);
        impossible.edit.last_frame = 5;
        let error = run(&impossible, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, ExportError::Clip(ClipError::Edit(_))), "{error}");
        let unknown = request(&folder.path().join("clip.avi"), 5);
        let export = Export::start(unknown, Box::new(|| {}));
        assert!(export.wait(PATIENCE));
        assert!(matches!(export.result(), Some(Err(ExportError::Clip(ClipError::UnknownEnding { .. })))));
        let error = run(&request(&folder.path().join("clip.gif"), 5), &mut |_| panic!("boom")).unwrap_err();
        assert!(matches!(error, ExportError::Panicked { message } if message == "boom"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
