//! What the studio's threads and its fronts share: the state that is shown, and the wishes of the person.

use std::fmt::Display;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::attention::{AttentionShelf, DEFAULT_RECORDING};
use super::database::Database;
use super::devices::ChosenDevice;
use super::lab::{LabJob, LabRun};
use super::live::Live;
use super::media::Media;
use super::{ClipId, Engine, Home, ItemId, QueueItem, StudioError};
use crate::generate::attention_record::Recording;
use crate::gpu::device::{self, AdapterReport, ComputeDevice, DeviceChoice, Precision, Residency};

/// All that a front shows which changes by itself. Cheap to clone.
#[derive(Clone, Default)]
pub struct State {
    pub device: DeviceState,
    /// The adapters of this machine, software ones too.
    pub adapters: Vec<AdapterReport>,
    /// The devices that the person chose, whether they are there or not; empty where the choice is the program's, or was made on
    /// the command line.
    pub chosen: Vec<ChosenDevice>,
    pub queue: Vec<QueueItem>,
    pub live: Option<Live>,
    /// The run of the lab, which the queue waits for while it is under way.
    pub lab: Option<Arc<LabRun>>,
    /// The queue rests, and the model's memory is given back.
    pub is_paused: bool,
    /// Grows when the library has changed.
    pub library_revision: u64,
    /// The clip that was finished last.
    pub newest: Option<ClipId>,
    /// What went wrong beside the runs, such as a full disk; the person takes them away.
    pub notes: Vec<String>,
}

#[derive(Clone, Default)]
pub enum DeviceState {
    #[default]
    Opening,
    Ready(Box<ComputeDevice>),
    /// Why there is none.
    Failed(String),
}

/// How a run is to end before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopWish {
    /// It stays in the queue with its finished steps.
    Cancel,
    /// It waits, to go on where it was.
    Pause,
    /// The program ends; the run is offered again at the next start.
    Quit,
}

/// The device that the engine should use.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceWish {
    pub choice: DeviceChoice,
    pub precision: Option<Precision>,
    pub residency: Residency,
}

#[derive(Debug)]
pub(super) struct Wishes {
    pub quit: bool,
    pub paused: bool,
    pub stop: Option<(ItemId, StopWish)>,
    pub decode_previews: bool,
    pub record_attention: Option<Recording>,
    pub time_parts: bool,
    pub device: DeviceWish,
    /// What counts where `device` says no more than auto.
    pub chosen: Vec<ChosenDevice>,
    /// What was told of the devices and need not be told again.
    pub told: Vec<String>,
    pub reopen_device: bool,
    /// What the lab is to do next.
    pub lab: Option<LabJob>,
    pub pause_lab: bool,
    /// Before its samples were asked for.
    pub lab_was_done: bool,
    /// Something has changed that the runner should look at.
    pub bell_rang: bool,
}

/// Called when something new is to be seen.
pub(super) type Wake = Box<dyn Fn() + Send + Sync>;

pub(super) struct Shared {
    pub home: Home,
    pub database: Database,
    pub engine: Engine,
    state: Mutex<Arc<State>>,
    /// Held while the queue is read and shown, so that of two threads the later one shows the later queue.
    showing_queue: Mutex<()>,
    wishes: Mutex<Wishes>,
    bell: Condvar,
    wake: Arc<Mutex<Wake>>,
    pub media: Media,
    pub attention: AttentionShelf,
}

impl Shared {
    pub fn new(home: Home, database: Database, device: DeviceWish) -> Result<Self, StudioError> {
        let wake: Arc<Mutex<Wake>> = Arc::new(Mutex::new(Box::new(|| {})));
        let (media_wake, attention_wake) = (wake.clone(), wake.clone());
        let wishes = Wishes {
            quit: false,
            paused: database.queue_is_paused()?,
            stop: None,
            decode_previews: false,
            record_attention: database.preference(super::attention::PREFERENCE)?.unwrap_or(DEFAULT_RECORDING),
            time_parts: false,
            device,
            chosen: database.preference(super::devices::PREFERENCE)?.unwrap_or_default(),
            told: Vec::new(),
            reopen_device: true,
            lab: None,
            pause_lab: false,
            lab_was_done: false,
            bell_rang: false,
        };
        Ok(Self {
            engine: Engine::start_behind_window().map_err(StudioError::NoThread)?,
            media: Media::start(home.clone(), move || lock(&media_wake)())?,
            attention: AttentionShelf::start(home.clone(), move || lock(&attention_wake)())?,
            home,
            database,
            state: Mutex::default(),
            showing_queue: Mutex::default(),
            wishes: Mutex::new(wishes),
            bell: Condvar::new(),
            wake,
        })
    }

    pub fn state(&self) -> Arc<State> {
        lock(&self.state).clone()
    }

    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(Arc::make_mut(&mut lock(&self.state)));
        self.wake();
    }

    pub fn wake(&self) {
        lock(&self.wake)();
    }

    pub fn set_wake(&self, wake: Wake) {
        *lock(&self.wake) = wake;
    }

    pub fn wishes<T>(&self, look: impl FnOnce(&mut Wishes) -> T) -> T {
        look(&mut lock(&self.wishes))
    }

    /// Changes the wishes, and has the runner look at them.
    pub fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        self.wishes(|wishes| {
            change(wishes);
            wishes.bell_rang = true;
        });
        self.bell.notify_all();
    }

    /// Waits until somebody wishes something, or so long.
    pub fn rest(&self, most: Duration) {
        let waited = self.bell.wait_timeout_while(lock(&self.wishes), most, |wishes| !wishes.bell_rang);
        waited.unwrap_or_else(PoisonError::into_inner).0.bell_rang = false;
    }

    /// Reads the queue anew.
    pub fn queue_changed(&self) {
        let showing = lock(&self.showing_queue);
        match self.database.items() {
            Ok(queue) => self.change(|state| state.queue = queue),
            Err(error) => self.note(&error),
        }
        drop(showing);
        self.wish(|_| {});
    }

    pub fn library_changed(&self) {
        self.change(|state| state.library_revision += 1);
    }

    pub fn note(&self, what: &dyn Display) {
        let note = what.to_string();
        log::warn!("{note}");
        self.change(|state| {
            if !state.notes.contains(&note) {
                state.notes.push(note);
            }
        });
    }

    pub fn open_device_if_wished(&self) {
        let wish = self.wishes(|wishes| std::mem::take(&mut wishes.reopen_device).then(|| wishes.device.clone()));
        let Some(wish) = wish else { return };
        self.change(|state| state.device = DeviceState::Opening);
        let device = match self.open_device(&wish) {
            Ok(device) => DeviceState::Ready(Box::new(device.with_residency(wish.residency))),
            Err(error) => DeviceState::Failed(error.to_string()),
        };
        self.change(|state| state.device = device);
        // The model may run before this list is there.
        let adapters = device::adapters();
        self.change(|state| state.adapters = adapters);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
