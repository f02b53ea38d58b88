//! The lab's folder: what was wished and how far it is, the result, and the samples; there is one at a time.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{LabRun, LabStage, LabWish, LabWork, Trade};
use crate::clip::{self, Frames, WriteOptions};
use crate::model::weights::write_whole;
use crate::studio::{ErrorReport, Home, StudioError, first_free};
use crate::training::curves::Curves;
use crate::training::distill::kd;
use crate::training::folder::RunFolder;

const STATE_FILE: &str = "run.json";
const SAMPLE_FILES: [&str; 2] = ["dense.webp", "sparse.webp"];
/// Folders of a model that make clips; what was left for going on stays behind.
const NETWORKS: [&str; 3] = [kd::FAST, "vae", "text_encoder"];

/// Where a run of the lab lies.
#[derive(Clone, Debug)]
pub struct LabFolder {
    root: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    wish: LabWish,
    stage: KeptStage,
    trade: Option<Trade>,
    notes: Vec<String>,
    report: Option<ErrorReport>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptStage {
    Running,
    Paused,
    Done,
    Failed,
}

impl LabFolder {
    pub fn of(home: &Home) -> Self {
        Self { root: home.folder().join("lab") }
    }

    /// The plan of a search.
    pub fn plan(&self) -> PathBuf {
        self.root.join("plan.json")
    }

    /// The root of the model that a distillation makes.
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    /// The student's transformer, which is a model with what lies beside it.
    pub fn student(&self) -> PathBuf {
        self.model().join(kd::FAST)
    }

    /// What this work leaves.
    pub fn result(&self, work: LabWork) -> PathBuf {
        match work {
            LabWork::Search => self.plan(),
            LabWork::Distil => self.student(),
        }
    }

    pub fn has_result(&self, work: LabWork) -> bool {
        match work {
            LabWork::Search => self.plan().is_file(),
            // Its configuration is written last.
            LabWork::Distil => self.student().join("config.json").is_file(),
        }
    }

    /// # Errors
    /// It cannot be made.
    pub fn make(&self) -> Result<(), StudioError> {
        fs::create_dir_all(&self.root).map_err(StudioError::files("made", &self.root))
    }

    /// Where the folder is, or will be: a place on the same disk that is there.
    pub fn place_on_disk(&self) -> &Path {
        let mut place = self.root.as_path();
        while !place.exists() {
            let Some(above) = place.parent() else { break };
            place = above;
        }
        place
    }

    /// Writes down how far a run is.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&self, run: &LabRun) -> Result<(), StudioError> {
        let (stage, report) = match &run.stage {
            LabStage::Waiting | LabStage::Running | LabStage::Pausing => (KeptStage::Running, None),
            LabStage::Paused => (KeptStage::Paused, None),
            LabStage::Done => (KeptStage::Done, None),
            LabStage::Failed(report) => (KeptStage::Failed, Some(report.clone())),
        };
        let kept = Kept { wish: run.wish.clone(), stage, trade: run.trade.clone(), notes: run.notes.clone(), report };
        let path = self.root.join(STATE_FILE);
        let text = serde_json::json!(kept).to_string();
        write_whole(&path, text.as_bytes()).map_err(|error| StudioError::Lab(error.to_string()))
    }

    /// The run that an earlier start has left; what was under way when that ended is paused.
    pub fn read(&self) -> Option<LabRun> {
        let text = fs::read_to_string(self.root.join(STATE_FILE)).ok()?;
        let kept: Kept =
            serde_json::from_str(&text).inspect_err(|error| log::warn!("the lab's last run cannot be read: {error}")).ok()?;
        let mut run = LabRun::new(kept.wish);
        run.stage = match (kept.stage, kept.report) {
            (KeptStage::Done, _) => LabStage::Done,
            (KeptStage::Failed, Some(report)) => LabStage::Failed(report),
            _ => LabStage::Paused,
        };
        (run.trade, run.notes) = (kept.trade, kept.notes);
        run.has_result = self.has_result(run.wish.work);
        if let Some(curves) = Curves::read(&self.curves()) {
            run.take_curves(&curves);
        }
        run.samples = self.samples();
        Some(run)
    }

    pub fn curves(&self) -> PathBuf {
        RunFolder::new(&self.model(), kd::KD).curves_csv()
    }

    pub fn checkpoint(&self) -> PathBuf {
        RunFolder::new(&self.model(), kd::KD).checkpoint()
    }

    /// # Errors
    /// They cannot be written.
    pub fn keep_samples(&self, samples: [&Frames; 2]) -> Result<(), StudioError> {
        for (name, frames) in SAMPLE_FILES.into_iter().zip(samples) {
            clip::write_clip(&self.root.join(name), frames, None, &WriteOptions::default())?;
        }
        Ok(())
    }

    fn samples(&self) -> Option<[std::sync::Arc<Frames>; 2]> {
        let read = |name: &str| clip::read_frames(&self.root.join(name)).ok().map(std::sync::Arc::new);
        let [dense, sparse] = SAMPLE_FILES.map(read);
        Some([dense?, sparse?])
    }

    /// They are of another result.
    pub fn forget_samples(&self) {
        for name in SAMPLE_FILES {
            // Those that are not there are forgotten.
            let _ = fs::remove_file(self.root.join(name));
        }
    }

    /// Moves the plan to the studio's own.
    ///
    /// # Errors
    /// There is none, or it cannot be moved.
    pub fn keep_plan(&self, home: &Home, name: &str) -> Result<PathBuf, StudioError> {
        let folder = home.masks_folder();
        fs::create_dir_all(&folder).map_err(StudioError::files("made", &folder))?;
        let target = free_path(&folder, name, ".json");
        fs::rename(self.plan(), &target).map_err(StudioError::files("moved", self.plan()))?;
        Ok(target)
    }

    /// Moves the student with what it needs to the studio's own models, and gives its folder. What was there for going on stays
    /// behind.
    ///
    /// # Errors
    /// There is none, or it cannot be moved.
    pub fn keep_model(&self, home: &Home, name: &str) -> Result<PathBuf, StudioError> {
        let folder = home.models_folder();
        let target = free_path(&folder, name, "");
        let own_name = target.file_name().unwrap_or_default().to_owned();
        fs::create_dir_all(&target).map_err(StudioError::files("made", &target))?;
        for network in NETWORKS {
            let from = self.model().join(network);
            // A model is known by the name of its transformer's folder.
            let to = if network == kd::FAST { target.join(&own_name) } else { target.join(network) };
            fs::rename(&from, to).map_err(StudioError::files("moved", from))?;
        }
        Ok(target.join(own_name))
    }

    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self) -> Result<(), StudioError> {
        match fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StudioError::files("removed", &self.root)(error)),
            _ => Ok(()),
        }
    }
}

/// The name, or the first with a number behind it that nothing has.
fn free_path(folder: &Path, name: &str, ending: &str) -> PathBuf {
    let name: String = name.trim().chars().map(|c| if c.is_alphanumeric() || "-_. ".contains(c) { c } else { '-' }).collect();
    let name = name.trim_start_matches('.').trim_end_matches(".json");
    let name = if name.is_empty() { "from-the-lab" } else { name };
    first_free(folder, name, ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_back_as_paused() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = LabFolder::of(&Home::in_folder(place.path()));
        assert!(folder.read().is_none());
        folder.make().expect("made");
        let mut run = LabRun::new(LabWish { prompt: "a cone".into(), ..LabWish::default() });
        run.stage = LabStage::Running;
        run.notes.push("something".into());
        folder.keep(&run).expect("written");
        let read = folder.read().expect("a run");
        assert_eq!((read.stage, read.wish, read.notes), (LabStage::Paused, run.wish, run.notes));
        folder.remove().expect("removed");
        folder.remove().expect("nothing is there any more");
        assert!(folder.read().is_none());
    }

    #[test]
    fn results_get_names_of_their_own() {
        let place = tempfile::tempdir().expect("a folder");
        let free = |name: &str, ending: &str| {
            let path = free_path(place.path(), name, ending);
            path.file_name().expect("a name").to_string_lossy().into_owned()
        };
        assert_eq!([free("a/b.json", ".json"), free(" .. ", ""), free("mine", "")], ["a-b.json", "from-the-lab", "mine"]);
        fs::create_dir(place.path().join("mine")).expect("made");
        assert_eq!(free("mine", ""), "mine-2");
    }
}
