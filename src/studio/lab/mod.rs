//! The lab: a search for masks, or a student that learns with them, on the person's own device.
//!
//! One run at a time, on the engine's thread, between the items of the queue: while it goes on the queue waits. It is paused
//! with a checkpoint and goes on from there, after a restart too; what comes of it is kept as a plan of the mask dial or as a
//! model of the menu, or discarded.

mod cost;
mod folder;
mod job;
mod trade;
mod wish;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use cost::LabCost;
pub use trade::{PlanPoint, Trade};
pub use wish::{DistilWish, LabGoal, LabLength, LabWish, LabWork, SearchWish};

use self::folder::LabFolder;
use super::{ErrorReport, Home, ModelInfo, Studio, StudioError};
use crate::clip::Frames;
use crate::training::curves::{Curves, Row};

pub(super) use job::work_off;

/// The preference with what was wished last.
const PREFERENCE: &str = "lab";
/// Loss curves have at most so many points on screen.
const MOST_POINTS: usize = 2000;

/// How far a run is.
#[derive(Clone, Debug, PartialEq)]
pub enum LabStage {
    /// For the device, or for the clip that is being made.
    Waiting,
    Running,
    /// It ends behind the current step, with a checkpoint.
    Pausing,
    Paused,
    Done,
    Failed(ErrorReport),
}

/// What the engine is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LabJob {
    Work,
    /// One clip with every tile, and one with the result.
    Samples,
}

/// A run of the lab, as a front shows it.
#[derive(Clone, Debug)]
pub struct LabRun {
    pub wish: LabWish,
    pub stage: LabStage,
    /// What happens now, in words, and how much of that is done, 0 to 1.
    pub doing: String,
    pub share: f64,
    /// Of training, as it says itself.
    pub left: Option<Duration>,
    pub started: Instant,
    /// Names of the curves' numbers.
    pub names: Vec<String>,
    pub curves: Vec<Row>,
    pub trade: Option<Trade>,
    /// What was noteworthy, in its order.
    pub notes: Vec<String>,
    /// There is a plan or a student that can be kept.
    pub has_result: bool,
    /// The same prompt and seed with every tile, and with the result.
    pub samples: Option<[Arc<Frames>; 2]>,
}

/// Where what was kept is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabKept {
    Plan(PathBuf),
    /// The folder of the student's transformer.
    Model(PathBuf),
}

impl LabRun {
    pub(super) fn new(wish: LabWish) -> Self {
        Self {
            wish,
            stage: LabStage::Waiting,
            doing: String::new(),
            share: 0.0,
            left: None,
            started: Instant::now(),
            names: Vec::new(),
            curves: Vec::new(),
            trade: None,
            notes: Vec::new(),
            has_result: false,
            samples: None,
        }
    }

    /// Whether the device is its own now, or will be as soon as it is free.
    pub fn is_under_way(&self) -> bool {
        matches!(self.stage, LabStage::Waiting | LabStage::Running | LabStage::Pausing)
    }

    /// Whether it can go on where it was.
    pub fn can_go_on(&self) -> bool {
        matches!(self.stage, LabStage::Paused | LabStage::Failed(_))
    }

    fn take_curves(&mut self, curves: &Curves) {
        self.names = curves.names().to_vec();
        self.curves = curves.rows().to_vec();
        self.thin_out();
    }

    /// Keeps every other of the older points when there are too many to see.
    fn thin_out(&mut self) {
        if self.curves.len() > MOST_POINTS {
            let mut place = 0;
            self.curves.retain(|_| {
                place += 1;
                place % 2 == 0
            });
        }
    }
}

/// The run that an earlier start has left.
pub(super) fn left_over(home: &Home) -> Option<LabRun> {
    LabFolder::of(home).read()
}

impl Studio {
    /// What was wished last.
    pub fn lab_wish(&self) -> LabWish {
        self.database().preference(PREFERENCE).ok().flatten().unwrap_or_default()
    }

    /// # Errors
    /// The database cannot be written.
    pub fn remember_lab_wish(&self, wish: &LabWish) -> Result<(), StudioError> {
        self.database().set_preference(PREFERENCE, wish)
    }

    /// Where the result of this work is as long as it is not kept.
    pub fn lab_result(&self, work: LabWork) -> PathBuf {
        LabFolder::of(self.home()).result(work)
    }

    /// The command that does the same as a wish.
    pub fn lab_command(&self, wish: &LabWish) -> String {
        let out = match wish.work {
            LabWork::Search => "plan.json",
            LabWork::Distil => "my-model",
        };
        wish.command(out.as_ref(), self.device().as_ref())
    }

    /// What the wish will cost on the device that is open.
    ///
    /// # Errors
    /// In words: it cannot be done as it is.
    pub fn lab_cost(&self, wish: &LabWish, model: &ModelInfo) -> Result<LabCost, String> {
        cost::cost(self, wish, model)
    }

    /// Begins a run; what stops it is shown as its failure.
    ///
    /// # Errors
    /// There is one already.
    pub fn start_lab(&self, wish: &LabWish) -> Result<(), StudioError> {
        if self.state().lab.is_some() {
            return Err(StudioError::Lab("The lab has a run already. Keep or discard it first.".into()));
        }
        self.remember_lab_wish(wish)?;
        self.set_lab(LabRun::new(wish.clone()), Some(LabJob::Work));
        Ok(())
    }

    /// Ends the run behind its current step; it can go on from there.
    pub fn pause_lab(&self) {
        let mut waited = false;
        self.shared().wish(|wishes| {
            waited = wishes.lab.take().is_some();
            wishes.pause_lab = !waited;
        });
        self.change_lab(|run| match run.stage {
            LabStage::Waiting if waited => run.stage = LabStage::Paused,
            LabStage::Running => run.stage = LabStage::Pausing,
            _ => {}
        });
    }

    /// Lets a run go on that was paused or that failed.
    ///
    /// # Errors
    /// There is none.
    pub fn resume_lab(&self) -> Result<(), StudioError> {
        let run = self.lab_run(LabRun::can_go_on)?;
        self.set_lab(LabRun { stage: LabStage::Waiting, ..run }, Some(LabJob::Work));
        Ok(())
    }

    /// Has the result compared with the model as it was: two clips of the wish's prompt and seed.
    ///
    /// # Errors
    /// There is no result, or the lab works.
    pub fn sample_lab(&self) -> Result<(), StudioError> {
        let run = self.lab_run(|run| run.has_result && !run.is_under_way())?;
        let is_done = run.stage == LabStage::Done;
        self.set_lab(LabRun { stage: LabStage::Waiting, ..run }, Some(LabJob::Samples));
        self.shared().wish(|wishes| wishes.lab_was_done = is_done);
        Ok(())
    }

    /// Moves the result to the studio's plans or models, and ends the run.
    ///
    /// # Errors
    /// There is no result, the lab works, or the disk refuses.
    pub fn keep_lab(&self, name: &str) -> Result<LabKept, StudioError> {
        let run = self.lab_run(|run| run.has_result && !run.is_under_way())?;
        let folder = LabFolder::of(self.home());
        let kept = match run.wish.work {
            LabWork::Search => LabKept::Plan(folder.keep_plan(self.home(), name)?),
            LabWork::Distil => LabKept::Model(folder.keep_model(self.home(), name)?),
        };
        self.discard_lab()?;
        Ok(kept)
    }

    /// Ends the run, and removes all that it has left.
    ///
    /// # Errors
    /// The lab works, or the disk refuses.
    pub fn discard_lab(&self) -> Result<(), StudioError> {
        self.lab_run(|run| !run.is_under_way())?;
        LabFolder::of(self.home()).remove()?;
        self.shared().change(|state| state.lab = None);
        Ok(())
    }

    fn lab_run(&self, fits: impl Fn(&LabRun) -> bool) -> Result<LabRun, StudioError> {
        let run = self.state().lab.as_deref().cloned();
        let nothing = || StudioError::Lab("The lab has nothing for that now. Look at its page.".into());
        run.filter(fits).ok_or_else(nothing)
    }

    fn set_lab(&self, run: LabRun, job: Option<LabJob>) {
        self.shared().change(|state| state.lab = Some(Arc::new(run)));
        self.shared().wish(|wishes| (wishes.lab, wishes.pause_lab, wishes.lab_was_done) = (job, false, false));
    }

    fn change_lab(&self, change: impl FnOnce(&mut LabRun)) {
        self.shared().change(|state| {
            if let Some(run) = &mut state.lab {
                change(Arc::make_mut(run));
            }
        });
    }
}
