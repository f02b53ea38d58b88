//! What the person wants of the lab: which model, a search or a distillation, with which numbers; and the command that does
//! the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::gpu::device::{ComputeDevice, Precision};
use crate::mask::MaskPlan;
use crate::training::TrainError;
use crate::training::distill::kd;
use crate::training::distill::session::{ClipsFrom, KdSettings, SessionSettings};
use crate::training::run::Plan;
use crate::training::schedule::Length;
use crate::training::search::candidates::Candidates;
use crate::training::search::choose::Goal;
use crate::training::search::measure::Order;
use crate::training::search::session::{SEED, Search, THRESHOLD, prompts_of_world};
use crate::training::template::Template;

/// Prompts of a search that are sampled together, as the command does it.
const TOGETHER: u32 = 32;
/// Between checkpoints of a distillation.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5 * 60);
const SEED_OF_DISTILLATION: u64 = 1;

/// What the lab can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabWork {
    #[default]
    Search,
    Distil,
}

/// What a searched plan is to keep; each has its own number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabGoal {
    #[default]
    Threshold,
    MostLoss,
    MostMillis,
    MostTiles,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchWish {
    pub goal: LabGoal,
    pub threshold: f64,
    pub most_loss: f64,
    /// Of the attention of a call, in milliseconds.
    pub most_millis: f64,
    /// Of all tiles, 0 to 1.
    pub most_tiles: f64,
    /// Clips of the world's prompts that are looked at.
    pub prompts: u32,
    /// Calls of the sampler that are looked at.
    pub times: u32,
}

/// What ends a distillation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabLength {
    #[default]
    Minutes,
    Steps,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DistilWish {
    /// The student's masks; none as long as no plan was chosen.
    pub plan: Option<PathBuf>,
    pub length: LabLength,
    /// Of training, all sessions together.
    pub minutes: f64,
    pub steps: u64,
    /// Of the world, to learn from.
    pub clips: u32,
    /// A folder of clips to learn from instead, each with its sentence beside it.
    pub folder: Option<PathBuf>,
    /// Samples of a step.
    pub batch: u32,
    /// Samples whose gradients are made together.
    pub part: u32,
}

/// All of it. What is not chosen is remembered too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabWish {
    /// The name or folder of the model.
    pub model: String,
    pub work: LabWork,
    pub search: SearchWish,
    pub distil: DistilWish,
    /// Of the clip that is made before and after.
    pub prompt: String,
    pub seed: u64,
}

impl Default for SearchWish {
    fn default() -> Self {
        Self {
            goal: LabGoal::default(),
            threshold: THRESHOLD,
            most_loss: THRESHOLD,
            most_millis: 10.0,
            most_tiles: 0.5,
            prompts: 8,
            times: 8,
        }
    }
}

impl Default for DistilWish {
    fn default() -> Self {
        Self {
            plan: None,
            length: LabLength::default(),
            minutes: 20.0,
            steps: 200,
            clips: 400,
            folder: None,
            batch: 16,
            part: 16,
        }
    }
}

impl Default for LabWish {
    fn default() -> Self {
        Self {
            model: "base".into(),
            work: LabWork::default(),
            search: SearchWish::default(),
            distil: DistilWish::default(),
            prompt: "a shiny red ball bounces on the snow at sunset".into(),
            seed: 1,
        }
    }
}

impl SearchWish {
    /// The number of the chosen goal.
    pub fn value(&mut self) -> &mut f64 {
        match self.goal {
            LabGoal::Threshold => &mut self.threshold,
            LabGoal::MostLoss => &mut self.most_loss,
            LabGoal::MostMillis => &mut self.most_millis,
            LabGoal::MostTiles => &mut self.most_tiles,
        }
    }

    pub(super) fn goal_and_order(&self) -> (Goal, Order) {
        match self.goal {
            LabGoal::Threshold => (Goal::Threshold(self.threshold), Order::Greedy(self.threshold)),
            LabGoal::MostLoss => (Goal::MostLoss(self.most_loss), Order::Independent),
            LabGoal::MostMillis => (Goal::MostMillis(self.most_millis), Order::Independent),
            LabGoal::MostTiles => (Goal::MostTiles(self.most_tiles), Order::Independent),
        }
    }
}

impl LabWish {
    /// Why it cannot be started as it is.
    pub fn problem(&self) -> Option<&'static str> {
        match self.work {
            LabWork::Search => None,
            LabWork::Distil if self.distil.plan.is_none() => {
                Some("Choose the plan that the student is to have: search one first.")
            }
            LabWork::Distil if self.distil.folder.as_ref().is_some_and(|folder| !folder.is_dir()) => {
                Some("The folder of clips is not there. Choose another one, or clips of the world.")
            }
            LabWork::Distil => None,
        }
    }

    /// The command that does the same; `out` is the file or folder of the result.
    pub fn command(&self, out: &Path, device: Option<&ComputeDevice>) -> String {
        let mut words: Vec<String> = vec!["tilereel".into()];
        let mut say =
            |flag: &str, value: String| words.extend([flag.to_owned(), quoted(&value)].into_iter().filter(|w| !w.is_empty()));
        match self.work {
            LabWork::Search => {
                let SearchWish { goal, threshold, most_loss, most_millis, most_tiles, prompts, times } = &self.search;
                say("search", String::new());
                say("--model", self.model.clone());
                match goal {
                    LabGoal::Threshold => say("--threshold", threshold.to_string()),
                    LabGoal::MostLoss => say("--most-loss", most_loss.to_string()),
                    LabGoal::MostMillis => say("--most-millis", most_millis.to_string()),
                    LabGoal::MostTiles => say("--most-tiles", most_tiles.to_string()),
                }
                say("--prompts", prompts.to_string());
                say("--times", times.to_string());
            }
            LabWork::Distil => {
                let DistilWish { plan, length, minutes, steps, clips, folder, batch, part } = &self.distil;
                say("distill", String::new());
                say("kd", String::new());
                say("--teacher", self.model.clone());
                say("--student-plan", plan.as_deref().unwrap_or(Path::new("PLAN")).display().to_string());
                match folder {
                    Some(folder) => say("--clips", folder.display().to_string()),
                    None => say("--world-clips", clips.to_string()),
                }
                match length {
                    LabLength::Minutes => say("--total-minutes", minutes.to_string()),
                    LabLength::Steps => say("--steps", steps.to_string()),
                }
                say("--batch", batch.to_string());
                say("--part", part.to_string());
                say("--sheet-every", "0".to_owned());
            }
        }
        say("--out", out.display().to_string());
        if let Some(device) = device {
            match &device.adapter {
                None => say("--device", "cpu".to_owned()),
                Some(adapter) => say("--device", adapter.index.to_string()),
            }
            if device.precision == Precision::F32 && !device.is_cpu() {
                say("--precision", "f32".to_owned());
            }
        }
        words.join(" ")
    }

    pub(super) fn search(&self) -> Result<Search, TrainError> {
        let SearchWish { prompts, times, .. } = &self.search;
        let template = Template::open(&self.model)?;
        let size = template.size();
        let (goal, order) = self.search.goal_and_order();
        Ok(Search {
            candidates: Candidates::standard(size.latent_frames())?,
            template,
            size,
            goal,
            order,
            prompts: prompts_of_world(*prompts as usize),
            times: *times as usize,
            step_ranges: 1,
            batch: TOGETHER as usize,
            seed: SEED,
        })
    }

    pub(super) fn settings(&self, student_plan: MaskPlan) -> KdSettings {
        let DistilWish { length, minutes, steps, clips, folder, batch, part, .. } = &self.distil;
        let length = match length {
            // All sessions together, so that a pause changes nothing.
            LabLength::Minutes => {
                let whole = Duration::try_from_secs_f64(minutes * 60.0).unwrap_or_default();
                Length { whole: Some(whole), ..Length::default() }
            }
            LabLength::Steps => Length { steps: Some(*steps), ..Length::default() },
        };
        KdSettings {
            session: SessionSettings {
                clips: match folder {
                    Some(folder) => ClipsFrom::Folder(folder.clone()),
                    None => ClipsFrom::World(Some(*clips as usize)),
                },
                also: None,
                second_objects: None,
                batch_and_part: [*batch as usize, *part as usize],
                seed: SEED_OF_DISTILLATION,
                optimiser: kd::OPTIMISER,
                plan: Plan { length, schedule: kd::SCHEDULE, checkpoint_every: CHECKPOINT_EVERY, sheet_every: None },
            },
            student_plan,
            weights: kd::LOSS_WEIGHTS,
            at_sampler: kd::SNAPPED,
        }
    }
}

/// A word as shells take it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:,=+@~".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_says_what_is_wished() {
        let mut wish = LabWish::default();
        let command = wish.command(Path::new("my plan.json"), None);
        assert_eq!(command, "tilereel search --model base --threshold 0.004 --prompts 8 --times 8 --out 'my plan.json'");
        (wish.work, wish.distil.plan, wish.distil.length) = (LabWork::Distil, Some("p.json".into()), LabLength::Steps);
        let command = wish.command(Path::new("out"), None);
        let want = "tilereel distill kd --teacher base --student-plan p.json --world-clips 400 --steps 200 --batch 16 --part 16 --sheet-every 0 --out out";
        assert_eq!(command, want);
    }

    #[test]
    fn a_student_needs_a_plan() {
        let mut wish = LabWish::default();
        assert_eq!(wish.problem(), None);
        wish.work = LabWork::Distil;
        assert!(wish.problem().is_some());
        wish.distil.plan = Some("p.json".into());
        assert_eq!(wish.problem(), None);
        wish.distil.folder = Some("/no/such/folder".into());
        assert!(wish.problem().is_some());
    }
}
