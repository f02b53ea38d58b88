//! The studio as its fronts see it: one value that holds the queue, the library, the engine and their threads.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::database::{Database, now_unix_millis};
use super::home::HomeLock;
use super::media::{Loaded, Media, Picture, step_of};
use super::models::ModelInfo;
use super::shared::{DeviceState, DeviceWish, Shared, State, StopWish};
use super::task::Task;
use super::verify::Verdict;
use super::{
    Catalog, ClipEntry, ClipFilter, ClipId, ItemId, ItemState, Leaving, NewItem, StudioError, example, lab, read_recipe, runner,
};
use crate::clip;
use crate::generate::GenerateError;
use crate::generate::attention_record::{AttentionRecord, Recording};
use crate::generate::observer::{Observer, Phase};
use crate::generate::pipeline::RunOptions;
use crate::generate::recipe::Recipe;
use crate::generate::timings::Timings;
use crate::gpu::device::ComputeDevice;

/// Deleted clips are kept so long.
const TRASH_MILLIS: i64 = 7 * 24 * 3600 * 1000;
/// How often a waiting thread looks up.
const BEAT: Duration = Duration::from_millis(50);

pub struct Studio {
    shared: Arc<Shared>,
    runner: Option<JoinHandle<()>>,
    catalog: Catalog,
    _lock: HomeLock,
}

impl Studio {
    /// Opens the home, and begins to work off its queue.
    ///
    /// # Errors
    /// Another process works on it, or its files cannot be used.
    pub fn open(home: super::Home, device: DeviceWish) -> Result<Self, StudioError> {
        Self::open_timing(home, device, false)
    }

    /// As [`Self::open`]; `parts` is what [`Self::time_parts`] sets, from the first run on.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_timing(home: super::Home, device: DeviceWish, parts: bool) -> Result<Self, StudioError> {
        let lock = home.lock()?;
        let database = Database::open(&home.database())?;
        database.interrupt_running_items()?;
        for clip in database.forget_clips_deleted_before(now_unix_millis() - TRASH_MILLIS)? {
            // What cannot be removed now is only space.
            let _ = std::fs::remove_dir_all(home.clip_folder(clip));
        }
        let newest = match example::install(&home, &database) {
            Ok(example) => example,
            Err(error) => {
                log::warn!("the example clip is missing: {error}");
                None
            }
        };
        let shared = Arc::new(Shared::new(home, database, device)?);
        shared.wishes(|wishes| wishes.time_parts = parts);
        let lab = lab::left_over(&shared.home).map(Arc::new);
        let is_paused = shared.wishes(|wishes| wishes.paused);
        shared.change(|state| (state.newest, state.lab, state.is_paused) = (newest, lab, is_paused));
        shared.queue_changed();
        let waking = Arc::downgrade(&shared);
        let catalog = Catalog::start(move || {
            if let Some(shared) = waking.upgrade() {
                shared.wake();
            }
        })?;
        let working = shared.clone();
        let runner = thread::Builder::new().name("tilereel queue".into()).spawn(move || runner::run(&working));
        Ok(Self { shared, runner: Some(runner.map_err(StudioError::NoThread)?), catalog, _lock: lock })
    }

    /// `wake` is called from other threads whenever something new is to be seen.
    pub fn set_wake(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.shared.set_wake(Box::new(wake));
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What is to be shown now.
    pub fn state(&self) -> Arc<State> {
        self.shared.state()
    }

    pub fn home(&self) -> &super::Home {
        &self.shared.home
    }

    pub fn database(&self) -> &Database {
        &self.shared.database
    }

    /// The models that can be chosen.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub fn media(&self) -> &Media {
        &self.shared.media
    }

    /// Takes a note away that the person has read.
    pub fn dismiss_note(&self, note: &str) {
        self.shared.change(|state| state.notes.retain(|other| other != note));
    }

    // The device.

    pub fn device(&self) -> Option<ComputeDevice> {
        match &self.state().device {
            DeviceState::Ready(device) => Some(ComputeDevice::clone(device)),
            DeviceState::Opening | DeviceState::Failed(_) => None,
        }
    }

    // The queue.

    /// Puts runs behind all others, and remembers their prompt.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn enqueue(&self, items: &[NewItem]) -> Result<Vec<ItemId>, StudioError> {
        if let Some(first) = items.first() {
            self.database().remember_prompt(&first.recipe.prompt)?;
        }
        let ids = self.database().add_items(items)?;
        self.shared.queue_changed();
        Ok(ids)
    }

    /// Ends a run; its finished steps stay with it in the queue. An item that only waits is put aside in the same way.
    ///
    /// # Errors
    /// There is no such item.
    pub fn stop(&self, item: ItemId) -> Result<(), StudioError> {
        if runner::is_running(&self.shared, item) {
            self.shared.wish(|wishes| wishes.stop = Some((item, StopWish::Cancel)));
            return Ok(());
        }
        self.database().set_item_state(item, ItemState::Stopped, None)?;
        self.shared.queue_changed();
        Ok(())
    }

    /// Lets an item that was stopped, interrupted or failed wait again; it goes on behind its last finished step.
    ///
    /// # Errors
    /// There is no such item.
    pub fn resume(&self, item: ItemId, force: bool) -> Result<(), StudioError> {
        self.database().requeue_item(item, force)?;
        self.shared.queue_changed();
        Ok(())
    }

    /// Takes an item that does not run out of the queue, with its steps.
    ///
    /// # Errors
    /// There is no such item, or it runs.
    pub fn remove(&self, item: ItemId) -> Result<(), StudioError> {
        if self.database().item(item)?.state == ItemState::Running {
            return Err(StudioError::ItemRuns { id: item.0 });
        }
        self.database().remove_item(item)?;
        let _ = std::fs::remove_dir_all(self.home().run_folder(item));
        self.shared.queue_changed();
        Ok(())
    }

    /// Puts an item at a place of the queue, counted from 0.
    ///
    /// # Errors
    /// There is no such item.
    pub fn move_to(&self, item: ItemId, place: usize) -> Result<(), StudioError> {
        self.database().move_item(item, place)?;
        self.shared.queue_changed();
        Ok(())
    }

    /// Gives an item that does not run other settings; it begins anew.
    ///
    /// # Errors
    /// There is no such item, or it runs.
    pub fn replace(&self, item: ItemId, new: &NewItem) -> Result<(), StudioError> {
        self.database().replace_item(item, new)?;
        let _ = std::fs::remove_dir_all(self.home().run_folder(item));
        self.shared.queue_changed();
        Ok(())
    }

    /// Lets the queue rest, now and after later starts, until [`Self::unpause`]: the run that goes on stops behind its last
    /// finished step, and the model's memory is given back.
    ///
    /// # Errors
    /// It cannot be remembered; it rests all the same.
    pub fn pause(&self) -> Result<(), StudioError> {
        let running = self.state().live.as_ref().map(|live| live.item);
        self.shared.wish(|wishes| {
            wishes.paused = true;
            if let Some(item) = running {
                wishes.stop = Some((item, StopWish::Pause));
            }
        });
        // Behind the run in the engine's order.
        drop(self.shared.engine.submit(|workshop, _| -> Result<(), GenerateError> {
            workshop.forget_model();
            Ok(())
        }));
        self.shared.change(|state| state.is_paused = true);
        self.database().set_queue_paused(true)
    }

    /// Goes on with the queue, where it was.
    ///
    /// # Errors
    /// It cannot be remembered; it goes on all the same.
    pub fn unpause(&self) -> Result<(), StudioError> {
        self.shared.wish(|wishes| wishes.paused = false);
        self.shared.change(|state| state.is_paused = false);
        self.database().set_queue_paused(false)
    }

    /// Whether steps of runs are decoded as they come, instead of projected only. It takes time, so that those are left out that
    /// come while the last decoding would still go on, went it on beside the run.
    pub fn decode_previews(&self, decode: bool) {
        self.shared.wish(|wishes| wishes.decode_previews = decode);
    }

    /// Whether and how the attention of runs is recorded, from the next step on; remembered for later starts.
    ///
    /// # Errors
    /// It cannot be remembered; it holds all the same.
    pub fn record_attention(&self, recording: Option<Recording>) -> Result<(), StudioError> {
        self.shared.wish(|wishes| wishes.record_attention = recording);
        self.database().set_preference(super::attention::PREFERENCE, &recording)
    }

    /// How the attention of runs is recorded.
    pub fn recording(&self) -> Option<Recording> {
        self.shared.wishes(|wishes| wishes.record_attention)
    }

    /// Whether the next runs have their parts timed, layer by layer. It makes them a little slower, and changes no result.
    pub fn time_parts(&self, time: bool) {
        self.shared.wish(|wishes| wishes.time_parts = time);
    }

    pub fn times_parts(&self) -> bool {
        self.shared.wishes(|wishes| wishes.time_parts)
    }

    // The library.

    /// # Errors
    /// The database cannot be read.
    pub fn clips(&self, filter: &ClipFilter) -> Result<Vec<ClipEntry>, StudioError> {
        self.database().clips(filter)
    }

    /// # Errors
    /// There is no such clip.
    pub fn clip(&self, clip: ClipId) -> Result<ClipEntry, StudioError> {
        self.database().clip(clip)
    }

    /// # Errors
    /// There is no such clip.
    pub fn set_favourite(&self, clip: ClipId, favourite: bool) -> Result<(), StudioError> {
        self.database().set_favourite(clip, favourite)?;
        self.shared.library_changed();
        Ok(())
    }

    /// Puts a clip into the trash, from where it can be brought back for a week.
    ///
    /// # Errors
    /// There is no such clip.
    pub fn delete(&self, clip: ClipId) -> Result<(), StudioError> {
        self.database().delete_clip(clip)?;
        self.shared.media.forget(clip);
        self.shared.attention.forget(clip);
        self.shared.library_changed();
        Ok(())
    }

    /// # Errors
    /// There is no such clip.
    pub fn undelete(&self, clip: ClipId) -> Result<(), StudioError> {
        self.database().restore_clip(clip)?;
        self.shared.library_changed();
        Ok(())
    }

    /// How many steps of a clip are kept, so that they can be scrubbed and left.
    pub fn steps_of(&self, clip: ClipId) -> usize {
        let folder = self.home().steps_folder(clip);
        (1..).take_while(|&step| crate::generate::step_record::StepRecord::path_in(&folder, step).exists()).count()
    }

    /// Where the time of making a clip went; None for one that was made before this was kept.
    pub fn timings(&self, clip: ClipId) -> Option<Timings> {
        Timings::read(&self.home().timings_file(clip))
    }

    pub fn picture(&self, picture: Picture) -> Loaded {
        self.shared.media.get(picture)
    }

    /// The attention of a clip's step, if it is at hand; else it is read, and there when the studio wakes. Steps count from 1.
    pub fn attention(&self, clip: ClipId, step: usize) -> Loaded<AttentionRecord> {
        self.shared.attention.get(clip, step)
    }

    /// The clip's step that a branch is to leave; steps count from 1.
    ///
    /// # Errors
    /// There is no such clip, or the step is not kept.
    pub fn leaving(&self, clip: ClipId, step: usize) -> Result<Leaving, StudioError> {
        super::leaving(self.home(), &self.clip(clip)?, step)
    }

    // Work beside the queue.

    /// Has a step of a clip decoded; the picture is on the shelf when the task is done.
    ///
    /// # Errors
    /// There is no such clip or step, or no device.
    pub fn decode_step(&self, clip: ClipId, step: usize) -> Result<Task<()>, StudioError> {
        let entry = self.clip(clip)?;
        let record = step_of(self.home(), clip, step)?;
        self.with_model(entry.model, move |model, feed| model.decode(&record.denoised, &record.recipe, &|| feed.stop()), {
            let shared = self.shared.clone();
            move |frames, _| {
                shared.media.put(Picture::Decoded(clip, step), Arc::new(frames));
                shared.wake();
            }
        })
    }

    /// Makes a clip of the library again, and compares.
    ///
    /// # Errors
    /// There is no such clip, or no device.
    pub fn verify_clip(&self, clip: ClipId) -> Result<Task<Verdict>, StudioError> {
        let entry = self.clip(clip)?;
        self.verify(entry.recipe, entry.model, &self.home().clip_file(clip))
    }

    /// Makes the clip of a file again, and compares.
    ///
    /// # Errors
    /// The file holds no recipe, or there is no device.
    pub fn verify_file(&self, path: &Path) -> Result<Task<Verdict>, StudioError> {
        let recipe = read_recipe(path)?;
        let model = recipe.model.name.clone();
        self.verify(recipe, model, path)
    }

    fn verify(&self, recipe: Recipe, model: String, path: &Path) -> Result<Task<Verdict>, StudioError> {
        let (path, again) = (path.to_owned(), recipe.clone());
        self.with_model(
            model,
            move |model, feed| {
                let device = &model.networks().device;
                let mut recipe = Recipe { made: None, ..again };
                recipe.set_precision(device.precision);
                Ok(model.run(&recipe, &RunOptions::default(), feed)?.frames)
            },
            move |frames, device| Verdict::of(&recipe, &frames, device, || clip::read_frames(&path)),
        )
    }

    /// Runs `work`, which needs no device, on a thread of its own.
    pub(super) fn task<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StudioError> + Send + 'static,
    ) -> Result<Task<T>, StudioError> {
        let shared = self.shared.clone();
        Task::start(move |_| work(), move || shared.wake())
    }

    /// Runs `work` on the engine with a model, between the items of the queue, and `after` on a thread of its own.
    pub(super) fn with_model<T: Send + 'static, U: Send + 'static>(
        &self,
        name: String,
        work: impl FnOnce(&mut crate::generate::pipeline::LoadedModel, &mut super::Feed) -> Result<T, GenerateError> + Send + 'static,
        after: impl FnOnce(T, &ComputeDevice) -> U + Send + 'static,
    ) -> Result<Task<U>, StudioError> {
        if self.state().lab.as_ref().is_some_and(|run| run.is_under_way()) {
            return Err(StudioError::LabWorks);
        }
        let device = self.device().ok_or(StudioError::NoDevice)?;
        let (shared, job_device) = (self.shared.clone(), device.clone());
        Task::start(
            move |progress| {
                let folder = ModelInfo::open(&name)?.folder;
                let ticket = shared.engine.submit(move |workshop, feed| {
                    feed.phase(Phase::Load);
                    work(workshop.model(folder, &job_device)?, feed)
                });
                let result = loop {
                    if let Some(super::Event::Step { call, calls, .. }) = ticket.next_event(BEAT) {
                        progress.set((call + 1) as f64 / (calls + 1) as f64);
                        shared.wake();
                    }
                    if progress.is_cancelled() {
                        ticket.stop();
                    }
                    if let Some(result) = ticket.result(Duration::ZERO) {
                        break result?;
                    }
                };
                let after = after(result, &device);
                Ok(after)
            },
            {
                let shared = self.shared.clone();
                move || shared.wake()
            },
        )
    }
}

impl Drop for Studio {
    /// The run that goes on is kept with its finished steps, and offered again at the next start.
    fn drop(&mut self) {
        let running = self.state().live.as_ref().map(|live| live.item);
        self.shared.wish(|wishes| {
            wishes.quit = true;
            if let Some(item) = running {
                wishes.stop = Some((item, StopWish::Quit));
            }
        });
        if let Some(runner) = self.runner.take() {
            // It has ended, or will not.
            let _ = runner.join();
        }
    }
}
