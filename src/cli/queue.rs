//! `tilereel queue`: the runs that wait. They are worked off by the window, or by `tilereel queue run`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::json;

use super::library::{enqueue, one_line, open, queued};
use super::progress::Bar;
use super::settings::{ClipArguments, DeviceArguments};
use super::{Status, UsageError};
use crate::studio::words::{count, duration};
use crate::studio::{
    ClipFilter, ClipId, DEFAULT_MODEL, Database, DeviceState, Home, ItemId, ItemState, MOST_CLIPS_AT_ONCE, NewItem, QueueItem,
    Studio, StudioError, lasting_name, read_recipe,
};

const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Subcommand)]
pub enum Command {
    /// List what runs and waits, in its order.
    List {
        #[arg(long)]
        json: bool,
    },
    /// Put a run behind all others.
    Add(Box<Add>),
    /// Take an item out, with its finished steps.
    Remove { id: i64 },
    /// Put an item at another place; 1 is the front.
    Move { id: i64, place: usize },
    /// Let an item wait again that was stopped, interrupted or failed; it goes on behind its last finished step.
    Resume {
        id: i64,
        /// Run it though the estimate says that the memory is not enough
        #[arg(long)]
        force: bool,
    },
    /// Work the queue off here, without a window. Ctrl-C keeps the finished steps.
    Run(Run),
}

#[derive(Args)]
pub struct Add {
    /// What the clip should show
    prompt: Option<String>,
    #[command(flatten)]
    clip: ClipArguments,
    /// The device that will run it, which the precision of its numbers follows
    #[command(flatten)]
    device: DeviceArguments,
    /// How many clips, with seeds that follow each other
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_CLIPS_AT_ONCE)))]
    count: u32,
    /// Begin with the recipe of a clip or of a JSON file; other flags change it
    #[arg(long, value_name = "FILE|CLIP")]
    recipe: Option<PathBuf>,
}

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    device: DeviceArguments,
    /// Time every layer and kind of work; `tilereel timings` says where the time went
    #[arg(long)]
    timings: bool,
    /// Go on with what was interrupted too
    #[arg(long)]
    resume: bool,
    /// No progress
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(command: Command) -> anyhow::Result<Status> {
    let home = Home::standard()?;
    if let Command::Run(run) = command {
        return run.work_off(home);
    }
    let database = open(&home)?;
    database.settle(&home)?;
    match command {
        Command::List { json } => list(&database, json)?,
        Command::Add(add) => queued(&add.enqueue(&database)?),
        Command::Remove { id } => {
            let item = database.item(ItemId(id))?;
            if item.state == ItemState::Running {
                return Err(StudioError::ItemRuns { id }.into());
            }
            database.remove_item(item.id)?;
            // What stays behind is only space.
            let _ = std::fs::remove_dir_all(home.run_folder(item.id));
        }
        Command::Move { id, place } => {
            if place == 0 {
                return Err(UsageError("Places are counted from 1, which is the front.".into()).into());
            }
            database.move_item(ItemId(id), place - 1)?;
        }
        Command::Resume { id, force } => {
            if database.item(ItemId(id))?.state == ItemState::Running {
                return Err(StudioError::ItemRuns { id }.into());
            }
            database.requeue_item(ItemId(id), force)?;
        }
        // Done before.
        Command::Run(_) => {}
    }
    Ok(Status::Done)
}

fn list(database: &Database, as_json: bool) -> anyhow::Result<()> {
    let items = database.items()?;
    if as_json {
        let item = |item: &QueueItem| {
            json!({
                "id": item.id, "state": item.state, "steps_done": item.steps_done, "steps": item.calls(),
                "seconds": item.seconds, "model": item.model, "recipe": item.recipe, "report": item.report,
            })
        };
        say!("{:#}", serde_json::Value::from(items.iter().map(item).collect::<Vec<_>>()));
        return Ok(());
    }
    for (place, item) in items.iter().enumerate() {
        let steps = format!("{}/{} steps", item.steps_done, item.calls());
        let prompt = one_line(&item.recipe.prompt);
        say!("{:>3}. item {:<5} {:<12} {steps:<12} {prompt}", place + 1, item.id.0, state_word(item.state));
        if let Some(report) = &item.report {
            say!("     {}. {}", report.what, report.why);
        }
    }
    if items.is_empty() {
        say!("The queue is empty.");
    }
    if database.queue_is_paused()? {
        say!("It is paused. The window has a button to go on, and `tilereel queue run` goes on too.");
    }
    Ok(())
}

fn state_word(state: ItemState) -> &'static str {
    match state {
        ItemState::Waiting => "waits",
        ItemState::Running => "runs",
        ItemState::Stopped => "stopped",
        ItemState::Interrupted => "interrupted",
        ItemState::Failed => "failed",
    }
}

impl Add {
    fn enqueue(&self, database: &Database) -> anyhow::Result<Vec<ItemId>> {
        let device = self.device.open()?;
        let base = self.recipe.as_deref().map(read_recipe).transpose()?;
        let name = self.clip.model.clone().or_else(|| base.as_ref().map(|recipe| recipe.model.name.clone()));
        let model = lasting_name(&name.unwrap_or_else(|| DEFAULT_MODEL.to_owned()));
        let prepared = self.clip.prepare(self.prompt.as_deref(), base, &device)?;
        for warning in &prepared.warnings {
            eprintln!("warning: {warning}");
        }
        let item = |index: u32| {
            let mut recipe = prepared.recipe.clone();
            recipe.seed = recipe.seed.wrapping_add(u64::from(index));
            NewItem { recipe, model: model.clone(), leaves: None, force: false }
        };
        enqueue(database, &(0..self.count).map(item).collect::<Vec<_>>())
    }
}

/// What was seen while the queue is worked off.
struct Watch {
    /// The newest clip that was told.
    clip: ClipId,
    failed: BTreeSet<ItemId>,
    revision: Option<u64>,
    bar: Option<(ItemId, Bar)>,
    quiet: bool,
}

impl Run {
    fn work_off(&self, home: Home) -> anyhow::Result<Status> {
        super::catch_interrupts();
        let wish = self.device.wish()?;
        let studio = Studio::open_timing(home, wish, self.timings)?;
        let items = studio.database().items()?;
        for item in items.iter().filter(|item| item.state == ItemState::Interrupted) {
            if self.resume {
                studio.resume(item.id, false)?;
            } else if !self.quiet {
                eprintln!("note: item {} was interrupted; go on with it: tilereel queue resume {}", item.id.0, item.id.0);
            }
        }
        if studio.state().is_paused {
            // Who asks for this wants it worked off.
            studio.unpause()?;
            if !self.quiet {
                eprintln!("note: the queue was paused; it goes on now.");
            }
        }
        let failed_before = |item: &&QueueItem| item.state == ItemState::Failed;
        let mut watch = Watch {
            clip: studio.clips(&ClipFilter::default())?.first().map_or(ClipId(0), |clip| clip.id),
            failed: items.iter().filter(failed_before).map(|item| item.id).collect(),
            revision: None,
            bar: None,
            quiet: self.quiet,
        };
        let already_failed = watch.failed.len();
        loop {
            let state = studio.state();
            if let DeviceState::Failed(reason) = &state.device {
                anyhow::bail!("{reason}");
            }
            watch.look(&studio)?;
            if super::interrupted() {
                watch.bar = None;
                // The run that goes on is kept with its finished steps.
                drop(studio);
                if !self.quiet {
                    eprintln!("Stopped. Finished steps are kept; go on with: tilereel queue run --resume");
                }
                return Ok(Status::Stopped);
            }
            let is_busy = |item: &QueueItem| matches!(item.state, ItemState::Waiting | ItemState::Running);
            if state.live.is_none() && !studio.database().items()?.iter().any(is_busy) {
                break;
            }
            thread::sleep(LOOK_EVERY);
        }
        watch.look(&studio)?;
        let failed = watch.failed.len() - already_failed;
        if failed > 0 {
            anyhow::bail!(
                "{} failed. `tilereel queue list` shows why, `tilereel queue resume ID` tries again",
                count(failed, "item")
            );
        }
        Ok(Status::Done)
    }
}

impl Watch {
    /// Tells what is new.
    fn look(&mut self, studio: &Studio) -> anyhow::Result<()> {
        let state = studio.state();
        match &state.live {
            Some(live) => {
                if self.bar.as_ref().is_none_or(|(item, _)| *item != live.item) {
                    self.clear();
                    self.bar = Some((live.item, Bar::new(self.quiet)));
                }
                if let Some((item, bar)) = &self.bar {
                    bar.doing(format!("item {}: {}", item.0, live.doing()));
                    bar.place(live.share_done(Instant::now()));
                }
            }
            None => self.clear(),
        }
        if self.revision != Some(state.library_revision) {
            self.revision = Some(state.library_revision);
            let clips = studio.clips(&ClipFilter::default())?;
            let known = self.clip;
            for clip in clips.iter().rev().filter(|clip| clip.id > known) {
                self.clip = clip.id;
                self.clear();
                if !self.quiet {
                    let file = studio.home().clip_file(clip.id);
                    let prompt = one_line(&clip.recipe.prompt);
                    say!("clip {}: {prompt}, in {} ({})", clip.id.0, duration(clip.seconds), file.display());
                }
            }
        }
        for item in state.queue.iter().filter(|item| item.state == ItemState::Failed) {
            if self.failed.insert(item.id)
                && let Some(report) = &item.report
            {
                self.clear();
                eprintln!("item {}: {}. {}", item.id.0, report.what, report.why);
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.clear();
        }
    }
}
