//! A run of the lab with the engine: the queue's thread hands it over, follows it, and puts down what came of it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::cost::{cost_of, dense_recipe, learn_pace};
use super::folder::LabFolder;
use super::{LabJob, LabRun, LabStage, LabWish, LabWork, Trade};
use crate::generate::pipeline::{LoadedModel, RunOptions};
use crate::generate::recipe::{MaskChoice, Recipe};
use crate::generate::{GenerateError, set_pace};
use crate::gpu::device::ComputeDevice;
use crate::mask::MaskPlan;
use crate::model::folder::ModelFolder;
use crate::studio::shared::Shared;
use crate::studio::{EngineError, ErrorReport, Event, Fault, Feed, ModelInfo, StudioError, Ticket, Workshop};
use crate::training::TrainError;
use crate::training::curves::Row;
use crate::training::distill::{kd, session};
use crate::training::run::{Ended, Report, Watcher};
use crate::training::setup::Outcome;
use crate::training::template::Template;

/// How long news is waited for before the wishes of the person are looked at.
const BEAT: Duration = Duration::from_millis(20);
/// When the program ends, a run has so long for its checkpoint; later the one before counts.
const LAST_PATIENCE: Duration = Duration::from_secs(20);

/// What the engine tells of a run.
enum News {
    Report(Report),
    Note(String),
    Doing(String, f64),
    Measured(Trade),
}

/// What came of a job.
enum Worked {
    Searched(Option<f64>),
    Distilled(Option<Outcome>),
}

/// A clip that is to be made.
struct Sample {
    folder: ModelFolder,
    recipe: Recipe,
}

/// Makes a run, and puts down what came of it.
pub(crate) fn work_off(shared: &Arc<Shared>, job: LabJob, device: &ComputeDevice) {
    let Some(run) = shared.state().lab.as_deref().cloned() else { return };
    let folder = LabFolder::of(&shared.home);
    let was_done = shared.wishes(|wishes| wishes.lab_was_done);
    let mut following =
        Following { shared, folder, device, run: LabRun { stage: LabStage::Running, started: Instant::now(), ..run } };
    following.show();
    let ended = following.folder.make().and_then(|()| following.folder.keep(&following.run)).and_then(|()| following.follow(job));
    let run = &mut following.run;
    (run.left, run.doing, run.share) = (None, String::new(), 0.0);
    run.has_result = following.folder.has_result(run.wish.work);
    run.stage = match ended {
        Ok(Some(stage)) => stage,
        // The two clips were not wanted any more; the result is as it was.
        Ok(None) if was_done => LabStage::Done,
        Ok(None) | Err(StudioError::Engine(EngineError::Generate(GenerateError::Stopped))) => LabStage::Paused,
        Err(error) => {
            let report = ErrorReport::of_lab(&error, &run.wish, device);
            if report.fault == Fault::DeviceLost {
                shared.wish(|wishes| wishes.reopen_device = true);
            }
            LabStage::Failed(report)
        }
    };
    if let Err(error) = following.folder.keep(&following.run) {
        // Of a disk that is full the run itself has told.
        log::warn!("{error}");
    }
    following.show();
}

struct Following<'a> {
    shared: &'a Arc<Shared>,
    folder: LabFolder,
    device: &'a ComputeDevice,
    run: LabRun,
}

impl Following<'_> {
    /// The stage that the run has come to; none if it was stopped before it came to one.
    fn follow(&mut self, job: LabJob) -> Result<Option<LabStage>, StudioError> {
        let wish = self.run.wish.clone();
        if job == LabJob::Samples {
            return self.sample(&wish).map(|()| Some(self.after_samples()));
        }
        self.folder.forget_samples();
        self.run.samples = None;
        // A search that goes on says nothing about the time of a whole one.
        let is_whole = self.run.trade.is_none();
        match self.work(&wish)? {
            Worked::Searched(Some(seconds)) => {
                if is_whole {
                    self.learn(&wish, seconds);
                }
            }
            Worked::Distilled(Some(Outcome { ended, .. })) => {
                self.learn_step(&wish);
                if ended == Ended::Stopped {
                    return Ok(None);
                }
            }
            Worked::Searched(None) | Worked::Distilled(None) => return Ok(None),
        }
        self.run.has_result = self.folder.has_result(wish.work);
        self.show();
        // The result is there, whatever becomes of the samples.
        self.run.stage = LabStage::Done;
        self.folder.keep(&self.run)?;
        self.run.stage = LabStage::Running;
        if let Err(error) = self.sample(&wish) {
            self.run.notes.push(format!("The samples were not made: {error}"));
        }
        Ok(Some(LabStage::Done))
    }

    fn after_samples(&self) -> LabStage {
        if self.shared.wishes(|wishes| wishes.lab_was_done) { LabStage::Done } else { LabStage::Paused }
    }

    fn work(&mut self, wish: &LabWish) -> Result<Worked, StudioError> {
        let (send, news) = channel();
        let (wish, device, folder) = (wish.clone(), self.device.clone(), self.folder.clone());
        let resume = folder.checkpoint().is_file();
        let ticket = self.shared.engine.submit_any(move |workshop: &mut Workshop, feed: &mut Feed| {
            // What the networks of clips take belongs to the lab now.
            workshop.forget_model();
            let device = workshop.device(&device)?;
            // The window stays smooth.
            set_pace(&device);
            let worked = match wish.work {
                LabWork::Search => search(&wish, &folder, &device, feed, &send),
                LabWork::Distil => distil(&wish, &folder, resume, &device, feed, &send),
            };
            device.device.memory_cleanup();
            Ok(worked?)
        });
        self.wait(&ticket, &news)
    }

    fn sample(&mut self, wish: &LabWish) -> Result<(), StudioError> {
        let [dense, sparse] = self.samples(wish)?;
        // Its engine tells by events.
        let (_quiet, news) = channel();
        let device = self.device.clone();
        self.run.doing = "makes the samples".into();
        self.show();
        let ticket = self.shared.engine.submit(move |workshop, feed| {
            let mut make = |Sample { folder, recipe }: &Sample| {
                workshop.run(folder, &device, RunOptions::default(), feed, |model: &mut LoadedModel, options, feed| {
                    Ok(model.run(recipe, options, feed)?.frames)
                })
            };
            Ok([make(&dense)?, make(&sparse)?])
        });
        match self.wait(&ticket, &news) {
            Ok([dense, sparse]) => {
                self.folder.keep_samples([&dense, &sparse])?;
                self.run.samples = Some([Arc::new(dense), Arc::new(sparse)]);
                Ok(())
            }
            // Nobody waits for them any more.
            Err(StudioError::Engine(EngineError::Generate(GenerateError::Stopped))) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The clip that the model makes with every tile, and that of the result.
    fn samples(&self, wish: &LabWish) -> Result<[Sample; 2], StudioError> {
        let model = ModelInfo::open(&wish.model)?;
        let mut recipe = dense_recipe(&model)?;
        (recipe.prompt, recipe.seed) = (wish.prompt.clone(), wish.seed);
        recipe.set_precision(self.device.precision);
        let (of_result, choice) = match wish.work {
            LabWork::Search => (model.folder.clone(), MaskChoice::File(self.folder.plan())),
            LabWork::Distil => (ModelInfo::open(&self.folder.student().display().to_string())?.folder, MaskChoice::Plan),
        };
        let of = |folder: ModelFolder, mask: &MaskChoice| -> Result<Sample, StudioError> {
            let mut recipe = recipe.clone();
            folder.name().clone_into(&mut recipe.model.name);
            recipe.model.sha256 = folder.hash().map_err(GenerateError::from)?;
            recipe.set_mask(&folder, mask)?;
            recipe.check()?;
            Ok(Sample { folder, recipe })
        };
        Ok([of(model.folder, &MaskChoice::Dense)?, of(of_result, &choice)?])
    }

    /// Follows a job until it ends.
    fn wait<T>(&mut self, ticket: &Ticket<T>, news: &Receiver<News>) -> Result<T, StudioError> {
        let mut quits: Option<Instant> = None;
        let mut stops = false;
        loop {
            let mut any = match news.recv_timeout(BEAT) {
                Ok(one) => self.take(one),
                // The job does not tell anything, or has ended.
                Err(_) => {
                    std::thread::sleep(BEAT / 4);
                    false
                }
            };
            for one in news.try_iter() {
                any |= self.take(one);
            }
            while let Some(event) = ticket.next_event(Duration::ZERO) {
                any |= self.take_event(&event);
            }
            let (pause, quit) = self.shared.wishes(|wishes| (wishes.pause_lab, wishes.quit));
            if (pause || quit) && !stops {
                stops = true;
                ticket.stop();
                self.run.stage = LabStage::Pausing;
                any = true;
            }
            if any {
                self.show();
            }
            if let Some(result) = ticket.result(Duration::ZERO) {
                for one in news.try_iter() {
                    self.take(one);
                }
                return Ok(result?);
            }
            if quit && quits.get_or_insert_with(Instant::now).elapsed() > LAST_PATIENCE {
                return Err(StudioError::Engine(EngineError::Generate(GenerateError::Stopped)));
            }
        }
    }

    /// True if there is something new to be seen.
    fn take(&mut self, news: News) -> bool {
        let run = &mut self.run;
        match news {
            News::Report(Report { step, share, samples_per_second: _, left, numbers }) => {
                run.names = numbers.iter().map(|(name, _)| (*name).to_owned()).collect();
                let values = numbers.iter().map(|(_, value)| *value).collect();
                // What a program that ended too early has shown and not kept is made again.
                run.curves.retain(|row| row.step < step);
                run.curves.push(Row { step, seconds: 0.0, samples: 0, numbers: values });
                run.thin_out();
                (run.left, run.share, run.doing) = (left, share, format!("step {step}"));
            }
            News::Note(note) => run.notes.push(note),
            News::Doing(what, share) => (run.doing, run.share, run.left) = (what, share, None),
            News::Measured(trade) => run.trade = Some(trade),
        }
        true
    }

    fn take_event(&mut self, event: &Event) -> bool {
        match event {
            Event::Step { call, calls, .. } => self.run.share = (call + 1) as f64 / *calls as f64,
            Event::Phase(phase) => self.run.doing = format!("makes the samples: {}", phase.doing()),
            Event::Warning(what) | Event::Recovered(what) => self.run.notes.push(what.clone()),
        }
        true
    }

    fn show(&self) {
        self.shared.change(|state| state.lab = Some(Arc::new(self.run.clone())));
    }

    fn learn(&self, wish: &LabWish, seconds: f64) {
        if let Some(reckoned) = self.reckoned(wish) {
            learn_pace(&self.shared.database, self.device, wish.work, seconds / reckoned.seconds);
        }
    }

    /// From the last look, as the first steps compile.
    fn learn_step(&self, wish: &LabWish) {
        let rate = self.run.curves.last().and_then(|row| {
            let place = self.run.names.iter().position(|name| name == "samples_per_second")?;
            row.numbers.get(place).copied()
        });
        if let (Some(reckoned), Some(rate)) = (self.reckoned(wish).and_then(|cost| cost.step_seconds), rate) {
            learn_pace(&self.shared.database, self.device, wish.work, f64::from(wish.distil.batch) / rate / reckoned);
        }
    }

    /// By the formulas alone.
    fn reckoned(&self, wish: &LabWish) -> Option<crate::generate::estimate::LearningEstimate> {
        let model = ModelInfo::find(&wish.model).ok()?;
        cost_of(&model, wish, self.device, &self.shared.home.speeds(), None).ok()
    }
}

/// Hands what a training says on.
struct Teller<'a> {
    feed: &'a Feed,
    send: &'a Sender<News>,
}

impl Teller<'_> {
    fn tell(&self, news: News) {
        // Who no longer listens has left the run behind.
        let _ = self.send.send(news);
    }
}

impl Watcher for Teller<'_> {
    fn report(&mut self, report: &Report) {
        self.tell(News::Report(report.clone()));
    }

    fn note(&mut self, text: &str) {
        self.tell(News::Note(text.to_owned()));
    }

    fn doing(&mut self, what: &str, share: f64) {
        self.tell(News::Doing(what.to_owned(), share));
    }

    fn stops(&self) -> bool {
        self.feed.is_stopped()
    }
}

/// Seconds that a whole search took; none if it was stopped.
fn search(
    wish: &LabWish,
    folder: &LabFolder,
    device: &ComputeDevice,
    feed: &Feed,
    send: &Sender<News>,
) -> Result<Worked, TrainError> {
    let (search, started) = (wish.search()?, Instant::now());
    let layers = search.template.base_configs()?.transformer.num_layers;
    let (candidates, goal) = (search.candidates.clone(), search.goal);
    let mut measured = |rows: &[crate::training::search::measure::Row], millis: &[f64]| {
        let trade = Trade::of(rows, layers, &candidates, millis, goal);
        let _ = send.send(News::Measured(trade));
    };
    let outcome = search.run(&folder.plan(), device, &mut Teller { feed, send }, &mut measured)?;
    Ok(Worked::Searched(outcome.map(|_| started.elapsed().as_secs_f64())))
}

fn distil(
    wish: &LabWish,
    folder: &LabFolder,
    resume: bool,
    device: &ComputeDevice,
    feed: &Feed,
    send: &Sender<News>,
) -> Result<Worked, TrainError> {
    let template = Template::open(&wish.model)?;
    let plan = MaskPlan::load(wish.distil.plan.as_deref().unwrap_or(std::path::Path::new("")))?;
    template.check_plan(&plan)?;
    let start = session::look(template, &folder.model(), kd::KD, kd::FAST, resume)?;
    let mut teller = Teller { feed, send };
    let mut setup = start.on(device.clone(), Vec::new(), &mut teller)?;
    session::kd(&mut setup, &wish.settings(plan)).map(Worked::Distilled)
}
