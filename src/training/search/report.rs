//! The files of a search: what is done so far, for going on, and the plan with what was found.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::calibration::range_starts;
use super::candidates::Candidates;
use super::choose::Goal;
use super::measure::{Order, Row};
use crate::mask::{MaskError, MaskPlan};
use crate::model::weights::write_whole;
use crate::training::error::TrainError;

/// What a search is of: rows of another one mean nothing to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchOf {
    /// The model's name, and the SHA-256 of its files.
    pub model: String,
    pub model_sha256: String,
    pub candidates: Vec<String>,
    pub latent_frames: usize,
    pub tokens_per_frame: usize,
    /// Of the greedy order.
    pub threshold: Option<f64>,
    pub prompts: Vec<String>,
    /// Calls of the sampler that are looked at.
    pub times: usize,
    /// Equally long ranges of steps with masks of their own.
    #[serde(default = "one")]
    pub step_ranges: usize,
    /// Prompts that are sampled together, which decides about their noise.
    pub batch: usize,
    pub seed: u64,
    pub device: String,
    pub precision: String,
}

/// Searches of earlier versions knew no ranges.
fn one() -> usize {
    1
}

#[derive(Serialize, Deserialize)]
struct Progress {
    of: SearchOf,
    rows: Vec<Row>,
}

/// The file beside the plan that holds what is done.
pub fn progress_path(plan: &Path) -> PathBuf {
    let mut name = plan.file_name().unwrap_or_default().to_owned();
    name.push(".progress");
    plan.with_file_name(name)
}

/// Keeps the rows so far.
///
/// # Errors
/// The file cannot be written.
pub fn keep(path: &Path, of: &SearchOf, rows: &[Row]) -> Result<(), TrainError> {
    let progress = Progress { of: of.clone(), rows: rows.to_vec() };
    let text = serde_json::to_string(&progress).map_err(|error| TrainError::Settings(error.to_string()))?;
    Ok(write_whole(path, text.as_bytes())?)
}

/// The rows of a search that was stopped, if it was this one; a file that is none counts as not there.
pub fn kept(path: &Path, of: &SearchOf) -> Vec<Row> {
    let Ok(text) = std::fs::read_to_string(path) else { return Vec::new() };
    match serde_json::from_str::<Progress>(&text) {
        Ok(progress) if progress.of == *of => {
            let fits = |row: &Row| row.losses.len() + 1 == of.candidates.len();
            progress.rows.into_iter().take_while(fits).collect()
        }
        _ => Vec::new(),
    }
}

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    pub of: &'a SearchOf,
    pub candidates: &'a Candidates,
    /// Of all layers in the first range of steps, then of all in the second, and so on.
    pub rows: &'a [Row],
    pub order: Order,
    pub goal: Goal,
    /// Of each candidate in one layer for one clip, the dense one last.
    pub millis: &'a [f64],
    /// The place of each row's mask.
    pub chosen: &'a [usize],
}

impl Found<'_> {
    /// Mean error of the layers with their masks, over all ranges of steps.
    pub fn mean_loss(&self) -> f64 {
        let loss = |(row, &mask): (&Row, &usize)| row.losses.get(mask).copied().unwrap_or(0.0);
        self.rows.iter().zip(self.chosen).map(loss).sum::<f64>() / self.rows.len().max(1) as f64
    }

    /// Attention of all layers of one call for one clip; the mean over the ranges of steps.
    pub fn total_millis(&self) -> f64 {
        self.chosen.iter().filter_map(|&mask| self.millis.get(mask)).sum::<f64>() / self.of.step_ranges as f64
    }

    /// Layers of the model.
    pub fn layers(&self) -> usize {
        self.rows.len() / self.of.step_ranges
    }

    /// The plan, with everything that was found in its file. Ranges of steps that follow each other with the same masks are one.
    ///
    /// # Errors
    /// There are no layers.
    pub fn plan(&self) -> Result<MaskPlan, MaskError> {
        let starts = range_starts(self.of.step_ranges).into_iter();
        let mut ranges: Vec<(f64, &[usize])> = starts.zip(self.chosen.chunks(self.layers().max(1))).collect();
        ranges.dedup_by(|later, earlier| later.1 == earlier.1);
        let plan_of = |(from, masks): (f64, &[usize])| {
            let layers = masks.iter().map(|&mask| self.candidates.all()[mask].clone()).collect();
            Ok((from, MaskPlan::of_layers(layers)?))
        };
        let plan = MaskPlan::of_ranges(ranges.into_iter().map(plan_of).collect::<Result<_, MaskError>>()?)?;
        let notes = self.notes(plan.density());
        Ok(plan.with_notes(notes))
    }

    fn notes(&self, density: f64) -> Map<String, Value> {
        let of = self.of;
        let losses: Vec<&Vec<f64>> = self.rows.iter().map(|row| &row.losses).collect();
        // A list a layer, or with ranges of steps such a list a range.
        let losses = match of.step_ranges {
            1 => json!(losses),
            _ => json!(losses.chunks(self.layers().max(1)).collect::<Vec<_>>()),
        };
        let goal = match self.goal {
            Goal::Threshold(threshold) => json!({ "threshold": threshold }),
            Goal::MostLoss(most) => json!({ "most_mean_loss": most }),
            Goal::MostMillis(most) => json!({ "most_attention_millis": most }),
            Goal::MostTiles(share) => json!({ "most_share_of_tiles": share }),
        };
        let order = match self.order {
            Order::Independent => "independent",
            Order::Greedy(_) => "greedy",
        };
        let notes = json!({
            "tokens_per_frame": of.tokens_per_frame,
            "candidates": of.candidates,
            "search": order,
            "goal": goal,
            "metric": "mean over samples of |masked - full|^2 / |full|^2 of the block's output",
            "losses": losses,
            "mean_loss": self.mean_loss(),
            "mean_sparsity": 1.0 - density,
            "attention_millis": { "of_a_layer": self.millis, "of_the_plan": self.total_millis() },
            "made": {
                "by": format!("tilereel {}", env!("CARGO_PKG_VERSION")),
                "model": of.model,
                "model_sha256": of.model_sha256,
                "prompts": of.prompts,
                "times": of.times,
                "step_ranges": of.step_ranges,
                "batch": of.batch,
                "seed": of.seed,
                "device": of.device,
                "precision": of.precision,
            },
        });
        match notes {
            Value::Object(notes) => notes,
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of() -> SearchOf {
        SearchOf {
            model: "toy".into(),
            model_sha256: "0".into(),
            candidates: ["1:3", "2:2", "full"].map(str::to_owned).to_vec(),
            latent_frames: 4,
            tokens_per_frame: 6,
            threshold: Some(0.1),
            prompts: vec!["a red ball".into()],
            times: 2,
            step_ranges: 1,
            batch: 1,
            seed: 4,
            device: "CPU".into(),
            precision: "f32".into(),
        }
    }

    fn rows() -> Vec<Row> {
        vec![Row { losses: vec![0.3, 0.05], fed_through: 1 }, Row { losses: vec![0.02, 0.01], fed_through: 0 }]
    }

    #[test]
    fn rows_are_kept_for_the_same_search_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = progress_path(&folder.path().join("plan.json"));
        assert_eq!(kept(&path, &of()), []);
        keep(&path, &of(), &rows()).expect("written");
        assert_eq!(kept(&path, &of()), rows());
        assert_eq!(kept(&path, &SearchOf { seed: 5, ..of() }), []);
        std::fs::write(&path, "{").expect("written");
        assert_eq!(kept(&path, &of()), []);
    }

    #[test]
    fn a_plan_tells_where_it_is_from() {
        let candidates = Candidates::named(["1:3", "2:2"], 4).expect("masks");
        let (of, rows) = (of(), rows());
        let found = Found {
            of: &of,
            candidates: &candidates,
            rows: &rows,
            order: Order::Greedy(0.1),
            goal: Goal::Threshold(0.1),
            millis: &[1.0, 1.5, 2.0],
            chosen: &[1, 0],
        };
        let plan = found.plan().expect("a plan");
        let text = plan.to_json().expect("JSON");
        assert_eq!(MaskPlan::from_json(&text).expect("a plan"), plan);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["layers"][0]["mask"], "2:2");
        assert_eq!(value["goal"]["threshold"], 0.1);
        assert_eq!(value["losses"][0][1], 0.05);
        assert_eq!(value["attention_millis"]["of_the_plan"], 2.5);
        assert!((value["mean_loss"].as_f64().expect("a number") - 0.035).abs() < 1e-12);
    }
    #[test]
    fn ranges_of_steps_become_those_of_the_plan() {
        let candidates = Candidates::named(["1:3", "2:2"], 4).expect("masks");
        let of = SearchOf { step_ranges: 3, ..of() };
        let rows = [rows(), rows(), rows()].concat();
        let found = |chosen: &[usize]| {
            let (order, goal, millis) = (Order::Independent, Goal::MostMillis(3.0), &[1.0, 1.5, 2.0]);
            let found = Found { of: &of, candidates: &candidates, rows: &rows, order, goal, millis, chosen };
            assert_eq!(found.layers(), 2);
            (found.plan().expect("a plan"), found.total_millis(), found.mean_loss())
        };
        let (plan, millis, loss) = found(&[2, 2, 2, 2, 1, 0]);
        let names: Vec<(f64, Vec<String>)> =
            plan.ranges().map(|(from, layers)| (from, layers.iter().map(crate::mask::LayerMask::name).collect())).collect();
        // The first two of the three are alike.
        let want = [(0.0, vec!["full".to_owned(), "full".into()]), (2.0 / 3.0, vec!["2:2".into(), "1:3".into()])];
        assert_eq!(names, want);
        assert!(
            (millis - (4.0 + 4.0 + 2.5) / 3.0).abs() < 1e-12 && (loss - (0.05 + 0.02) / 6.0).abs() < 1e-12,
            "{millis} {loss}"
        );
        let text = plan.to_json().expect("JSON");
        assert_eq!(MaskPlan::from_json(&text).expect("a plan"), plan);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&value["losses"][2][1][0], &value["made"]["step_ranges"]), (&0.02.into(), &3.into()));
        assert!(found(&[1, 0, 1, 0, 1, 0]).0.is_for_all_steps());
    }

    /// What an earlier version has kept.
    #[test]
    fn a_search_without_ranges_is_one_of_a_single_range() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("plan.json.progress");
        keep(&path, &of(), &rows()).expect("written");
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(text.contains("\"step_ranges\":1,"));
        std::fs::write(&path, text.replace("\"step_ranges\":1,", "")).expect("written");
        assert_eq!(kept(&path, &of()), rows());
        assert_eq!(kept(&path, &SearchOf { step_ranges: 2, ..of() }), []);
    }
}
