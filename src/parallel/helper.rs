//! A rank's thread, and what a rank does in a call.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::call::{Done, PredictJob, predict};
use super::decode::{DecodeJob, decode_tiles};
use super::group::RankError;
use crate::gpu::device::ComputeDevice;
use crate::gpu::kernels::KernelError;
use crate::gpu::upload::Uploader;
use crate::model::dit::Transformer;
use crate::model::vae::Vae;
use crate::model::weights::WeightError;

/// What the threads are named.
pub const THREAD_NAME: &str = "tilereel device";

/// How long a thread may take to give its networks back.
const LONGEST_END: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// The networks that a device shares the work of.
pub struct Loaded {
    pub transformer: Transformer,
    /// None if it decodes nothing.
    pub vae: Option<Vae>,
}

/// Makes the networks on a device, in the thread that will work on it. An error is in words for the person.
pub type Load = Arc<dyn Fn(&ComputeDevice) -> Result<Loaded, String> + Send + Sync>;

/// What a helper is asked to do.
pub(super) enum Job {
    Predict(PredictJob),
    Decode(DecodeJob),
}

pub(super) struct Helper {
    pub device: ComputeDevice,
    /// None once the thread is to end.
    jobs: Option<Sender<Job>>,
    done: Receiver<Result<Done, RankError>>,
    thread: Option<JoinHandle<()>>,
}

/// A helper, and word of whether its networks are there.
pub(super) type Started = (Helper, Receiver<Result<(), String>>);

impl Helper {
    /// Whether the thread is there to do it.
    pub fn ask(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok())
    }

    /// How the job ended; `asked` is whether it was taken.
    ///
    /// # Errors
    /// Those of the job; the thread ended, or has not answered `until` then. What it may still answer later is of no use to anybody.
    pub fn answer(&self, asked: bool, begun: Instant, until: Instant) -> Result<Done, RankError> {
        let ended = || Err(RankError::Device("its thread ended".into()));
        if !asked {
            return ended();
        }
        match self.done.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(RankError::Hung { waited: begun.elapsed() }),
            Err(RecvTimeoutError::Disconnected) => ended(),
        }
    }

    /// Lets the thread be, which hangs.
    pub fn abandon(mut self) {
        self.thread = None;
    }

    /// # Errors
    /// The system gives no thread.
    pub fn start(device: ComputeDevice, load: Load) -> io::Result<Started> {
        let (jobs, jobs_out) = channel::<Job>();
        let (done, done_out) = channel();
        let (ready, ready_out) = channel();
        let own_device = device.clone();
        let work = move || {
            let loaded = catch_unwind(AssertUnwindSafe(|| load(&own_device)));
            let networks = match loaded {
                Ok(Ok(networks)) => networks,
                Ok(Err(reason)) => return drop(ready.send(Err(reason))),
                Err(payload) => return drop(ready.send(Err(words_of(&*payload)))),
            };
            let _ = ready.send(Ok(()));
            let uploader = Uploader::new(&own_device);
            for job in jobs_out {
                let result = catch_unwind(AssertUnwindSafe(|| match job {
                    Job::Predict(job) => {
                        let stop = job.stop_flag();
                        predict(&networks.transformer, &own_device, &uploader, job, &stop)
                    }
                    Job::Decode(job) => match &networks.vae {
                        Some(vae) => decode_tiles(vae, &own_device, &job).map(|()| Done::default()),
                        None => Err(RankError::Device("it has no VAE".into())),
                    },
                }));
                let result = result.unwrap_or_else(|payload| Err(RankError::Device(words_of(&*payload))));
                if done.send(result).is_err() {
                    break;
                }
            }
            // Tensors of a lost device may fail once more.
            let _ = catch_unwind(AssertUnwindSafe(move || drop(networks)));
            let _ = catch_unwind(AssertUnwindSafe(|| own_device.device.memory_cleanup()));
        };
        let thread = thread::Builder::new().name(THREAD_NAME.into()).spawn(work)?;
        Ok((Self { device, jobs: Some(jobs), done: done_out, thread: Some(thread) }, ready_out))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.jobs = None;
        let Some(thread) = self.thread.take() else { return };
        let asked = Instant::now();
        while !thread.is_finished() {
            // A device that hangs must not hang who goes on without it.
            if asked.elapsed() > LONGEST_END {
                return;
            }
            thread::sleep(BETWEEN_LOOKS);
        }
        let _ = thread.join();
    }
}

/// The first line of what a panic says.
fn words_of(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .or_else(|| payload.downcast_ref::<KernelError>().map(ToString::to_string))
        .or_else(|| payload.downcast_ref::<WeightError>().map(ToString::to_string));
    let text = text.unwrap_or_else(|| "no reason was given".into());
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().trim_end_matches('.').to_owned()
}
