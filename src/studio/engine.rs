//! The one thread that works on a device.
//!
//! Queues of the GPU belong to the thread that fills them, so all model work of the program happens here, one job after the
//! other. Facts travel to the front in one ordered stream with a bound; pictures go into a slot that holds the latest only;
//! a stop flag is looked at between steps. A panic of the device's library ends the job, not the program.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::export;
use crate::generate::GenerateError;
use crate::generate::attention_record::Recording;
use crate::generate::observer::{Observer, Phase};
use crate::generate::pipeline::LoadedModel;
use crate::generate::timings::Timings;
use crate::gpu::device::ComputeDevice;
use crate::gpu::kernels::KernelError;
use crate::model::folder::ModelFolder;
use crate::model::latent::Latent;
use crate::model::weights::WeightError;
use crate::parallel;
use crate::training::TrainError;

mod recovery;

const THREAD_NAME: &str = "tilereel engine";
/// Events that may wait for a front before the engine waits too.
const EVENTS_WAITING: usize = 1024;

/// Something happened in a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Phase(Phase),
    /// A step is done; `call` counts from 0.
    Step {
        call: usize,
        calls: usize,
        step_millis: f64,
    },
    /// Something that the person should know, though the job goes on.
    Warning(String),
    /// The device was lost, and the job goes on with a new one.
    Recovered(String),
}

/// Why a job gave no result.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A search or a distillation.
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Kernel(KernelError),
    #[error(
        "The device's library gave up: {message}. Try again; if it happens twice, use `--device cpu` and report it with the output of `tilereel doctor`."
    )]
    Panicked { message: String },
    #[error("The engine's thread has ended. Start the program again.")]
    Gone,
}

/// What the engine keeps between jobs: the model that was used last.
#[derive(Default)]
pub struct Workshop {
    model: Option<LoadedModel>,
    /// The one that the last job asked for.
    device: Option<ComputeDevice>,
}

impl Workshop {
    /// Gives the memory of the model back.
    pub fn forget_model(&mut self) {
        if let Some(model) = self.model.take() {
            let device = model.networks().device.device.clone();
            drop(model);
            device.memory_cleanup();
        }
    }

    /// The device, or the one that has replaced it after a loss.
    ///
    /// # Errors
    /// It is gone.
    pub fn device(&mut self, device: &ComputeDevice) -> Result<ComputeDevice, GenerateError> {
        Ok(self.device.insert(device.current()?).clone())
    }

    /// The networks of a model on a device, or on the one that has replaced it after a loss; loaded only if they are not those of
    /// the last job.
    ///
    /// # Errors
    /// A part of the model is missing, damaged or of another family, or the device is gone.
    pub fn model(&mut self, folder: ModelFolder, device: &ComputeDevice) -> Result<&mut LoadedModel, GenerateError> {
        let device = &self.device(device)?;
        let hash = folder.hash()?;
        let loaded = match self.model.take() {
            Some(model) if model.networks().device.is_like(device) && model.folder().hash()? == hash => model,
            _ => LoadedModel::load(folder, device)?,
        };
        Ok(self.model.insert(loaded))
    }
}

/// A job's line to its front.
pub struct Feed {
    warnings: Vec<String>,
    events: SyncSender<Event>,
    denoised: Arc<Mutex<Option<(usize, Latent)>>>,
    timings: Arc<Mutex<Option<Timings>>>,
    stop: Arc<AtomicBool>,
    recording: Option<Recording>,
}

impl Feed {
    /// Has the attention of a run's steps recorded, from the next one on; off unless it is wished.
    pub fn record_attention(&mut self, recording: Option<Recording>) {
        self.recording = recording;
    }

    /// Each warning is sent once.
    pub fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning.clone());
            self.send(Event::Warning(warning));
        }
    }

    /// Whether the front has asked the job to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn send(&mut self, event: Event) {
        // A front that no longer listens is no reason to stop.
        let _ = self.events.send(event);
    }
}

impl Observer for Feed {
    fn phase(&mut self, phase: Phase) {
        self.send(Event::Phase(phase));
    }

    fn recovered(&mut self, what: String) {
        self.send(Event::Recovered(what));
    }

    fn step(&mut self, call: usize, calls: usize, step_millis: f64) {
        self.send(Event::Step { call, calls, step_millis });
    }

    fn timings(&mut self, timings: &Timings) {
        *self.timings.lock().unwrap_or_else(PoisonError::into_inner) = Some(timings.clone());
    }

    fn denoised(&mut self, call: usize, latent: &Latent) {
        *self.denoised.lock().unwrap_or_else(PoisonError::into_inner) = Some((call, latent.clone()));
    }

    fn wants_attention(&self) -> Option<Recording> {
        self.recording
    }

    fn stop(&self) -> bool {
        self.is_stopped()
    }
}

/// A front's end of a job.
pub struct Ticket<T> {
    events: Receiver<Event>,
    result: Receiver<Result<T, EngineError>>,
    denoised: Arc<Mutex<Option<(usize, Latent)>>>,
    timings: Arc<Mutex<Option<Timings>>>,
    stop: Arc<AtomicBool>,
}

impl<T> Ticket<T> {
    /// The next event; None if there was none in this time.
    pub fn next_event(&self, within: Duration) -> Option<Event> {
        self.events.recv_timeout(within).ok()
    }

    /// The latest estimate of the clean latent that nobody took yet, with the call that it comes from.
    pub fn take_denoised(&self) -> Option<(usize, Latent)> {
        self.denoised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The latest times of a run that is timed, if nobody took them yet.
    pub fn take_timings(&self) -> Option<Timings> {
        self.timings.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Asks the job to stop at the next chance.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The result, if the job has ended within this time.
    pub fn result(&self, within: Duration) -> Option<Result<T, EngineError>> {
        match self.result.recv_timeout(within) {
            Ok(result) => Some(result),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(EngineError::Gone)),
        }
    }
}

type Job = Box<dyn FnOnce(&mut Workshop) + Send>;

pub struct Engine {
    jobs: Sender<Job>,
}

impl Engine {
    /// Starts the engine's thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start() -> std::io::Result<Self> {
        Self::start_with(|| {})
    }

    /// As [`Self::start`], for a program with a window: the engine's thread and those that compute for it step back where
    /// others want the processor, so that the window stays smooth.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start_behind_window() -> std::io::Result<Self> {
        // A second engine of the process finds them as they should be.
        let _ = rayon::ThreadPoolBuilder::new().start_handler(|_| step_back()).build_global();
        Self::start_with(step_back)
    }

    fn start_with(begin: fn()) -> std::io::Result<Self> {
        let (jobs, waiting) = channel::<Job>();
        thread::Builder::new().name(THREAD_NAME.into()).spawn(move || {
            begin();
            let mut workshop = Workshop::default();
            for job in waiting {
                job(&mut workshop);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Queues a job.
    pub fn submit<T, J>(&self, job: J) -> Ticket<T>
    where
        T: Send + 'static,
        J: FnOnce(&mut Workshop, &mut Feed) -> Result<T, GenerateError> + Send + 'static,
    {
        self.submit_any(|workshop, feed| job(workshop, feed).map_err(EngineError::from))
    }

    /// As [`Self::submit`], for jobs that fail in other ways too.
    pub fn submit_any<T, J>(&self, job: J) -> Ticket<T>
    where
        T: Send + 'static,
        J: FnOnce(&mut Workshop, &mut Feed) -> Result<T, EngineError> + Send + 'static,
    {
        let (events, events_out) = sync_channel(EVENTS_WAITING);
        let (result, result_out) = sync_channel(1);
        let (denoised, timings) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
        let stop = Arc::new(AtomicBool::new(false));
        let mut feed = Feed {
            warnings: Vec::new(),
            events,
            denoised: denoised.clone(),
            timings: timings.clone(),
            stop: stop.clone(),
            recording: None,
        };
        let run: Job = Box::new(move |workshop| {
            let outcome = catch_unwind(AssertUnwindSafe(|| job(workshop, &mut feed)));
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(payload) => {
                    // Tensors of a failed device must not serve another job.
                    let _ = catch_unwind(AssertUnwindSafe(|| workshop.model = None));
                    Err(describe_panic(payload))
                }
            };
            let _ = result.send(outcome.map_err(|error| workshop.after_failure(error)));
        });
        // Without a thread the result's channel is closed, which reads as `EngineError::Gone`.
        let _ = self.jobs.send(run);
        Ticket { events: events_out, result: result_out, denoised, timings, stop }
    }
}

/// Gives the calling thread a lower priority.
#[cfg(target_os = "linux")]
fn step_back() {
    const NICENESS: libc::c_int = 5;
    // SAFETY: it takes and changes nothing but numbers; 0 is the calling thread, whose niceness is its own on Linux.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) } != 0 {
        log::info!("the engine keeps its priority: {}", std::io::Error::last_os_error());
    }
}

#[cfg(not(target_os = "linux"))]
fn step_back() {}

fn describe_panic(payload: Box<dyn Any + Send>) -> EngineError {
    let payload = match payload.downcast::<KernelError>() {
        Ok(error) => return EngineError::Kernel(*error),
        Err(payload) => payload,
    };
    // Of a network that is streamed: its layers are read where there is no way for an error.
    match payload.downcast::<WeightError>() {
        Ok(error) => EngineError::Generate(GenerateError::Weights(*error)),
        Err(payload) => EngineError::Panicked { message: panic_message(&*payload) },
    }
}

/// The first line of what a panic says.
pub(super) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let message = match (payload.downcast_ref::<String>(), payload.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (None, Some(text)) => (*text).to_owned(),
        (None, None) => "no reason was given".to_owned(),
    };
    let first_line = message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    first_line.trim_end_matches('.').to_owned()
}

/// Keeps panics of the engine's and of export threads out of the terminal: they come back as errors. Others are shown as ever.
pub fn quiet_engine_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if matches!(thread::current().name(), Some(THREAD_NAME | export::THREAD_NAME | parallel::THREAD_NAME)) {
            log::debug!("{info}");
        } else {
            default(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait<T>(ticket: &Ticket<T>) -> Result<T, EngineError> {
        ticket.result(Duration::from_secs(10)).expect("the job ends")
    }

    #[test]
    fn jobs_run_in_order_and_panics_become_errors() {
        let engine = Engine::start().expect("a thread");
        let first = engine.submit(|_, feed| {
            feed.phase(Phase::Text);
            Ok(1)
        });
        let second = engine.submit(|_, _| -> Result<(), GenerateError> {
            std::panic::panic_any(KernelError { kernel: "k", reason: "r".into() })
        });
        let third = engine.submit(|_, _| -> Result<(), GenerateError> { panic!("\n  boom.\nmore") });
        let fourth = engine.submit(|_, _| Ok(4));
        assert_eq!(wait(&first).unwrap(), 1);
        assert_eq!(first.next_event(Duration::ZERO), Some(Event::Phase(Phase::Text)));
        assert!(matches!(wait(&second), Err(EngineError::Kernel(KernelError { kernel: "k", .. }))));
        assert!(matches!(wait(&third), Err(EngineError::Panicked { message }) if message == "boom"));
        assert_eq!(wait(&fourth).unwrap(), 4);
    }

    #[test]
    fn a_stop_reaches_the_job() {
        let engine = Engine::start().expect("a thread");
        let ticket = engine.submit(|_, feed| -> Result<(), GenerateError> {
            while !feed.stop() {
                thread::sleep(Duration::from_millis(1));
            }
            Err(GenerateError::Stopped)
        });
        ticket.stop();
        assert!(matches!(wait(&ticket), Err(EngineError::Generate(GenerateError::Stopped))));
    }
}
