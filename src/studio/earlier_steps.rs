//! Pictures of the steps that an earlier run has left, for the run that goes on behind them.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

use super::media::projected_step;
use crate::clip::Frames;
use crate::generate::preview::Projection;

/// Records on their way to pictures, on a thread of their own: those of many large steps take a while to read.
pub(super) struct EarlierSteps {
    pictures: Receiver<(usize, Frames)>,
    thread: Option<JoinHandle<()>>,
}

impl EarlierSteps {
    /// Projects the first so many steps of a run's folder, the last of them first.
    pub fn start(folder: PathBuf, steps: usize, projection: Projection) -> Self {
        let (send, pictures) = channel();
        let work = move || {
            for call in (0..steps).rev() {
                match projected_step(&folder, call + 1, &projection) {
                    Ok(frames) => {
                        if send.send((call, frames)).is_err() {
                            return;
                        }
                    }
                    Err(error) => log::warn!("step {} has no picture: {error}", call + 1),
                }
            }
        };
        let thread = thread::Builder::new().name("tilereel earlier steps".into()).spawn(work);
        // Without a thread the steps stay without pictures; nothing else needs them.
        let thread = thread.inspect_err(|error| log::warn!("earlier steps have no pictures: {error}")).ok();
        Self { pictures, thread }
    }

    /// What has come since the last call: the call, counted from 0, and one pixel a latent.
    pub fn take(&self) -> impl Iterator<Item = (usize, Frames)> {
        self.pictures.try_iter()
    }

    /// Ends the reading, behind the record that is read now: a folder with an open file cannot be moved on every system.
    pub fn end(self) {
        drop(self.pictures);
        if let Some(thread) = self.thread
            && thread.join().is_err()
        {
            log::warn!("the pictures of earlier steps ended early");
        }
    }
}
