//! The thread that works the queue off: takes the first item that waits, has the engine make it, keeps the steps, the previews
//! and the clip, and tells the front.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::decode_pace::DecodePace;
use super::earlier_steps::EarlierSteps;
use super::keep::{Made as MadeClip, keep_clip};
use super::lab;
use super::live::Live;
use super::media::{read_projection, step_of, write_projection};
use super::models::{ModelInfo, Shortage, free_memory};
use super::shared::{DeviceState, Shared, StopWish};
use super::{EngineError, ErrorReport, Event, Feed, ItemId, ItemState, QueueItem, StudioError, Ticket, Workshop};
use crate::clip::Frames;
use crate::generate::GenerateError;
use crate::generate::attention_record::{AttentionRecord, Recording};
use crate::generate::observer::{Observer, Phase};
use crate::generate::pipeline::{Outcome, RunOptions};
use crate::generate::preview::Projection;
use crate::generate::step_record::StepRecord;
use crate::generate::timings::{Stopwatch, Timings};
use crate::gpu::device::ComputeDevice;
use crate::model::latent::Latent;

/// How long an event is waited for before the wishes of the person are looked at.
const BEAT: Duration = Duration::from_millis(15);
/// How long the queue is left alone when nothing waits.
const IDLE: Duration = Duration::from_millis(500);
/// A job that does not stop in this time is left behind; the engine ends it when it can.
const PATIENCE: Duration = Duration::from_secs(2);

/// Works until the studio is dropped.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut foreign_changes = 0;
    loop {
        if shared.wishes(|wishes| wishes.quit) {
            return;
        }
        shared.open_device_if_wished();
        let changes = shared.database.foreign_changes().unwrap_or(foreign_changes);
        if changes != foreign_changes {
            foreign_changes = changes;
            shared.queue_changed();
            shared.library_changed();
        }
        if let Some((job, device)) = lab_job(shared) {
            lab::work_off(shared, job, &device);
            continue;
        }
        match next_item(shared) {
            Some((item, device)) => work_off(shared, item, &device),
            None => shared.rest(IDLE),
        }
    }
}

/// What the lab is to do, as soon as there is a device. It comes before the queue, for the person has just asked for it.
fn lab_job(shared: &Shared) -> Option<(lab::LabJob, ComputeDevice)> {
    let DeviceState::Ready(device) = shared.state().device.clone() else { return None };
    let job = shared.wishes(|wishes| wishes.lab.take())?;
    Some((job, *device))
}

fn next_item(shared: &Shared) -> Option<(QueueItem, ComputeDevice)> {
    if shared.wishes(|wishes| wishes.paused) {
        return None;
    }
    let DeviceState::Ready(device) = shared.state().device.clone() else { return None };
    match shared.database.take_waiting_item() {
        Ok(item) => item.map(|item| (item, *device)),
        Err(error) => {
            shared.note(&error);
            None
        }
    }
}

/// Makes one item, and puts down what came of it.
fn work_off(shared: &Arc<Shared>, item: QueueItem, device: &ComputeDevice) {
    let id = item.id;
    shared.wishes(|wishes| wishes.stop = None);
    shared.queue_changed();
    let ended = Run::begin(shared, item, device).and_then(|run| run.follow());
    let (state, report) = match ended {
        Ok(End::Kept) => (None, None),
        Ok(End::Stopped(StopWish::Cancel)) => (Some(ItemState::Stopped), None),
        Ok(End::Stopped(StopWish::Pause)) => (Some(ItemState::Waiting), None),
        Ok(End::Stopped(StopWish::Quit)) => (Some(ItemState::Interrupted), None),
        Err(report) => {
            if report.fault == super::Fault::DeviceLost {
                shared.wish(|wishes| wishes.reopen_device = true);
            }
            (Some(ItemState::Failed), Some(report))
        }
    };
    let put_down = match state {
        Some(state) => shared.database.set_item_state(id, state, report.as_ref()),
        None => shared.database.remove_item(id),
    };
    if let Err(error) = put_down {
        shared.note(&error);
    }
    shared.change(|state| state.live = None);
    shared.queue_changed();
}

enum End {
    /// The clip is in the library.
    Kept,
    Stopped(StopWish),
}

/// An item with the engine.
struct Run<'a> {
    shared: &'a Arc<Shared>,
    item: QueueItem,
    device: ComputeDevice,
    live: Live,
    badges: Vec<String>,
    ticket: Ticket<(Outcome, Timings)>,
    projections: std::sync::mpsc::Receiver<Projection>,
    projection: Option<Projection>,
    /// Pictures of the steps before this run's first, once it is known how to project them.
    earlier: Option<EarlierSteps>,
    decoded: std::sync::mpsc::Receiver<(usize, Frames)>,
    attention: std::sync::mpsc::Receiver<Arc<AttentionRecord>>,
    begun_with_steps: bool,
}

impl<'a> Run<'a> {
    fn begin(shared: &'a Arc<Shared>, mut item: QueueItem, device: &ComputeDevice) -> Result<Self, ErrorReport> {
        let failed = |error: StudioError, item: &QueueItem| ErrorReport::of_run(&error, &item.recipe, Some(device));
        let mut badges = Vec::new();
        if item.recipe.precision != device.precision {
            badges.push(format!(
                "asked for in {}, made in {}, which is what {} has",
                item.recipe.precision, device.precision, device.name
            ));
            item.recipe.set_precision(device.precision);
        }
        let model = ModelInfo::open(&item.model).map_err(|error| failed(error.into(), &item))?;
        item.recipe.check().map_err(|error| failed(error.into(), &item))?;
        let estimate =
            model.estimate(&item.recipe, device, &shared.home.speeds()).map_err(|error| failed(error.into(), &item))?;
        if let (false, Some(shortage)) = (item.force, Shortage::find(&estimate, device, free_memory)) {
            return Err(ErrorReport::of_memory(&estimate, &shortage, &item.recipe, device));
        }
        let records = shared.home.run_folder(item.id);
        let resume = StepRecord::last_of(&records).ok().filter(|record| record.recipe == item.recipe);
        if resume.is_none() && item.steps_done > 0 {
            badges.push("begun anew, as the steps that were kept could not be used".into());
        }
        let branch = match (&item.recipe.branch, item.leaves) {
            // Without the record the run before the branch is made again, to the same result.
            (Some(branch), Some(clip)) => {
                step_of(&shared.home, clip, branch.call).ok().filter(|record| record.is_of(&branch.from))
            }
            _ => None,
        };
        let first_call = resume.as_ref().or(branch.as_ref()).map_or(0, |record| record.next_call);
        let begun_with_steps = first_call > 0 || item.recipe.branch.is_some();
        if let (Some(record), None) = (&branch, &resume) {
            // The steps before the branch belong to this clip too.
            let clip = item.leaves.unwrap_or_default();
            copy_steps(&shared.home.steps_folder(clip), &records, record.next_call).map_err(|error| failed(error, &item))?;
        }
        let mut live = Live::new(item.id, item.recipe.clone(), estimate, first_call);
        for (call, record) in live.attention.iter_mut().enumerate().take(first_call) {
            // Not every step was recorded.
            *record = AttentionRecord::read(&AttentionRecord::path_in(&records, call + 1)).ok().map(Arc::new);
        }
        shared.change(|state| state.live = Some(live.clone()));

        let folder = &records;
        let earlier = (first_call > 0).then(|| read_projection(folder).ok()).flatten();
        let earlier = earlier.map(|projection| EarlierSteps::start(folder.clone(), first_call, projection));
        let expected_call_seconds = Some(live.estimate.longest_call_seconds);
        let options = RunOptions { resume, branch, records: Some(records), expected_call_seconds, ..RunOptions::default() };
        let (send_projection, projections) = channel();
        let (send_decoded, decoded) = channel();
        let (send_attention, attention) = channel();
        let (folder, job_device, recipe, wishes) = (model.folder, device.clone(), item.recipe.clone(), shared.clone());
        let times_parts = shared.wishes(|wishes| wishes.time_parts);
        let ticket = shared.engine.submit(move |workshop: &mut Workshop, feed: &mut Feed| {
            let pace = DecodePace::default();
            let following = Following { feed, wishes, pace, decoded: send_decoded, attention: send_attention };
            let mut watch = Stopwatch::start(&job_device, times_parts, following);
            watch.phase(Phase::Load);
            let outcome = workshop.run(&folder, &job_device, options, &mut watch, |model, options, watch| {
                if model.is_cut(&recipe)? {
                    watch.inner.feed.warn(format!(
                        "the prompt is longer than the {} tokens that the model reads; its end is ignored",
                        recipe.max_tokens
                    ));
                }
                // If nobody waits for it, the run was left behind.
                let _ = send_projection.send(model.projection()?.clone());
                model.run(&recipe, options, watch)
            })?;
            Ok((outcome, watch.finish()))
        });
        let device = device.clone();
        Ok(Self {
            shared,
            item,
            device,
            live,
            badges,
            ticket,
            projections,
            projection: None,
            earlier,
            decoded,
            attention,
            begun_with_steps,
        })
    }

    fn follow(mut self) -> Result<End, ErrorReport> {
        let mut asked_to_stop: Option<(StopWish, Instant)> = None;
        let result = loop {
            if let Some(event) = self.ticket.next_event(BEAT) {
                self.take(event);
            }
            self.take_pictures();
            let wish = self.shared.wishes(|wishes| wishes.stop.filter(|(item, _)| *item == self.item.id));
            if let (Some((_, wish)), None) = (wish, asked_to_stop) {
                self.ticket.stop();
                asked_to_stop = Some((wish, Instant::now()));
                self.live.is_stopping = true;
                self.show();
            }
            if let Some(result) = self.ticket.result(Duration::ZERO) {
                break Some(result);
            }
            if asked_to_stop.is_some_and(|(_, since)| since.elapsed() > PATIENCE) {
                break None;
            }
        };
        while let Some(event) = self.ticket.next_event(Duration::ZERO) {
            self.take(event);
        }
        if let Some(earlier) = self.earlier.take() {
            earlier.end();
        }
        let stopped = |wish: Option<(StopWish, Instant)>| End::Stopped(wish.map_or(StopWish::Cancel, |(wish, _)| wish));
        match result {
            None | Some(Err(EngineError::Generate(GenerateError::Stopped))) => Ok(stopped(asked_to_stop)),
            Some(Ok((outcome, timings))) => self.keep(outcome, timings).map(|()| End::Kept),
            Some(Err(error)) => Err(self.report(error.into())),
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Phase(phase) => (self.live.phase, self.live.phase_started) = (phase, Instant::now()),
            Event::Step { call, calls, step_millis } => {
                self.live.calls_done = call + 1;
                self.live.calls = calls;
                self.live.step_millis.push(step_millis);
                self.live.phase_started = Instant::now();
                self.live.timings = self.ticket.take_timings().map(Arc::new).or(self.live.timings.take());
                self.take_preview();
                let seconds = self.item.seconds + self.live.started.elapsed().as_secs_f64();
                if let Err(error) = self.shared.database.set_item_progress(self.item.id, call + 1, seconds) {
                    self.shared.note(&error);
                }
            }
            Event::Warning(warning) => {
                self.badges.push(warning.clone());
                self.live.warnings.push(warning);
            }
            Event::Recovered(what) => {
                // Its times say nothing about those of a whole run.
                self.begun_with_steps = true;
                self.shared.note(&what);
                self.badges.push(what.clone());
                self.live.warnings.push(what);
            }
        }
        self.show();
    }

    /// Projects the latest estimate, while the engine is already at the next step.
    fn take_preview(&mut self) {
        let Some((call, latent)) = self.ticket.take_denoised() else { return };
        self.take_projection();
        let Some(projection) = &self.projection else { return };
        let started = Instant::now();
        let frames = projection.small_frames(&latent, f64::from(self.item.recipe.frames_per_second));
        self.live.preview_millis += started.elapsed().as_secs_f64() * 1000.0;
        if let Some(place) = self.live.projections.get_mut(call) {
            *place = Some(Arc::new(frames));
        }
    }

    /// Takes the model's projection as soon as it is there, and keeps it beside the steps.
    fn take_projection(&mut self) {
        if self.projection.is_some() {
            return;
        }
        let Ok(projection) = self.projections.try_recv() else { return };
        let folder = self.shared.home.run_folder(self.item.id);
        if let Err(error) = write_projection(&folder, &projection) {
            self.shared.note(&error);
        }
        if self.earlier.is_none() && self.live.first_call > 0 {
            self.earlier = Some(EarlierSteps::start(folder, self.live.first_call, projection.clone()));
        }
        self.projection = Some(projection);
    }

    fn take_pictures(&mut self) {
        self.take_projection();
        let mut any = false;
        for (call, frames) in self.earlier.iter().flat_map(EarlierSteps::take) {
            if let Some(place) = self.live.projections.get_mut(call) {
                *place = Some(Arc::new(frames));
                any = true;
            }
        }
        for (call, frames) in self.decoded.try_iter() {
            self.live.decoded.insert(call, Arc::new(frames));
            any = true;
        }
        for record in self.attention.try_iter() {
            if let Some(place) = self.live.attention.get_mut(record.call) {
                *place = Some(record);
                any = true;
            }
        }
        if any {
            self.show();
        }
    }

    fn show(&self) {
        self.shared.change(|state| state.live = Some(self.live.clone()));
    }

    fn keep(&mut self, outcome: Outcome, timings: Timings) -> Result<(), ErrorReport> {
        (self.live.phase, self.live.phase_started) = (Phase::Keeping, Instant::now());
        self.show();
        let is_exact = self.live.attention.iter().flatten().any(|record| record.recording == Recording::Exact);
        // What else a run did says nothing about the time of another.
        let all_took_part = outcome.devices == 1 + self.device.others.len();
        let is_usual = !self.begun_with_steps && all_took_part && self.live.decoded.is_empty() && !is_exact;
        if is_usual {
            self.shared.home.speeds().learn(&self.device, &self.live.estimate, &outcome.timing);
        }
        let made = MadeClip {
            item: self.item.clone(),
            frames: Arc::new(outcome.frames),
            earlier_devices: outcome.earlier_devices,
            seconds: self.item.seconds + self.live.started.elapsed().as_secs_f64(),
            badges: std::mem::take(&mut self.badges),
            timings,
        };
        keep_clip(self.shared, made, &self.device).map_err(|error| self.report(error))
    }

    fn report(&self, error: StudioError) -> ErrorReport {
        ErrorReport::of_run(&error, &self.item.recipe, Some(&self.device))
    }
}

/// Copies the records of a clip's first steps.
fn copy_steps(from: &std::path::Path, to: &std::path::Path, steps: usize) -> Result<(), StudioError> {
    std::fs::create_dir_all(to).map_err(StudioError::files("made", to))?;
    for step in 1..=steps {
        for path_in in [StepRecord::path_in, AttentionRecord::path_in] {
            let (source, copy) = (path_in(from, step), path_in(to, step));
            if source.exists() {
                std::fs::copy(&source, &copy).map_err(StudioError::files("written", &copy))?;
            }
        }
    }
    Ok(())
}

/// Passes a run's events on, and has its steps decoded while the person looks at them so.
struct Following<'a> {
    feed: &'a mut Feed,
    wishes: Arc<Shared>,
    pace: DecodePace,
    decoded: std::sync::mpsc::Sender<(usize, Frames)>,
    attention: std::sync::mpsc::Sender<Arc<AttentionRecord>>,
}

impl Observer for Following<'_> {
    fn phase(&mut self, phase: Phase) {
        self.feed.phase(phase);
    }

    fn step(&mut self, call: usize, calls: usize, millis: f64) {
        self.feed.step(call, calls, millis);
    }

    fn timings(&mut self, timings: &Timings) {
        self.feed.timings(timings);
    }

    fn denoised(&mut self, call: usize, latent: &Latent) {
        self.feed.denoised(call, latent);
        self.pace.step_is_done(Instant::now());
    }

    fn wants_decoded(&self) -> bool {
        self.wishes.wishes(|wishes| wishes.decode_previews) && self.pace.allows(Instant::now())
    }

    fn decoded(&mut self, call: usize, frames: Frames) {
        self.pace.decoded(Instant::now());
        let _ = self.decoded.send((call, frames));
    }

    fn recovered(&mut self, what: String) {
        self.feed.recovered(what);
    }

    fn wants_attention(&self) -> Option<Recording> {
        self.wishes.wishes(|wishes| wishes.record_attention)
    }

    fn attention(&mut self, record: &Arc<AttentionRecord>) {
        let _ = self.attention.send(record.clone());
    }

    fn stop(&self) -> bool {
        self.feed.stop()
    }
}

/// Whether the item is the one that runs.
pub(super) fn is_running(shared: &Shared, item: ItemId) -> bool {
    shared.state().live.as_ref().is_some_and(|live| live.item == item)
}
