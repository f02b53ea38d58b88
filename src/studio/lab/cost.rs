//! What a run of the lab will cost, and whether this machine can do it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::folder::LabFolder;
use super::{LabLength, LabWish, LabWork};
use crate::generate::GenerateError;
use crate::generate::estimate::{DistilLength, DistilWork, LearningEstimate, SearchWork, Speeds};
use crate::generate::recipe::{MaskChoice, Recipe};
use crate::gpu::device::ComputeDevice;
use crate::mask::{LayerMask, MaskPlan};
use crate::model::weights::free_disk_bytes;
use crate::studio::{Database, ModelInfo, Studio, StudioError, free_memory, words};
use crate::training::search::candidates::Candidates;
use crate::training::search::measure::Order;

/// The preference with what sessions took over what was reckoned, by device and kind of work.
const PACES: &str = "lab_paces";

#[derive(Clone, Debug, PartialEq)]
pub struct LabCost {
    pub estimate: LearningEstimate,
    /// Of the two clips that are made at the end.
    pub sample_seconds: f64,
    pub free_memory: Option<u64>,
    pub free_disk: Option<u64>,
}

impl LabCost {
    /// Why it is not possible here, if it is not.
    pub fn problem(&self) -> Option<String> {
        let short = |needed: u64, free: Option<u64>| free.filter(|&free| needed > free);
        if let Some(free) = short(self.estimate.disk_bytes, self.free_disk) {
            let needed = words::bytes(self.estimate.disk_bytes);
            return Some(format!(
                "This needs {needed} on the disk, and {} are free. Use fewer clips, or free some space.",
                words::bytes(free)
            ));
        }
        short(self.estimate.memory_bytes, self.free_memory).map(|free| {
            let needed = words::bytes(self.estimate.memory_bytes);
            format!(
                "This needs {needed} of memory, and {} are free. Fewer samples at once, fewer prompts or clips need less.",
                words::bytes(free)
            )
        })
    }
}

/// The model's own way to a clip, with every tile.
pub(super) fn dense_recipe(model: &ModelInfo) -> Result<Recipe, GenerateError> {
    let mut recipe = model.recipe.clone();
    recipe.set_mask(&model.folder, &MaskChoice::Dense)?;
    Ok(recipe)
}

pub(super) fn cost(studio: &Studio, wish: &LabWish, model: &ModelInfo) -> Result<LabCost, String> {
    if let Some(problem) = wish.problem() {
        return Err(problem.to_owned());
    }
    let device = studio.device().ok_or_else(|| StudioError::NoDevice.to_string())?;
    let (speeds, pace) = (studio.home().speeds(), pace(studio.database(), &device, wish.work));
    let estimate = cost_of(model, wish, &device, &speeds, pace)?;
    let said = |error: GenerateError| error.to_string();
    let mut recipe = dense_recipe(model).map_err(said)?;
    recipe.set_precision(device.precision);
    let dense = model.estimate(&recipe, &device, &speeds).map_err(said)?.seconds;
    Ok(LabCost {
        estimate,
        // That of the result is no slower.
        sample_seconds: 2.0 * dense,
        free_memory: free_memory(&device),
        free_disk: free_disk_bytes(LabFolder::of(studio.home()).place_on_disk()),
    })
}

/// What the work itself costs.
pub(super) fn cost_of(
    model: &ModelInfo,
    wish: &LabWish,
    device: &ComputeDevice,
    speeds: &Speeds,
    pace: Option<f64>,
) -> Result<LearningEstimate, String> {
    let said = |error: GenerateError| error.to_string();
    let mut recipe = dense_recipe(model).map_err(said)?;
    recipe.set_precision(device.precision);
    let frames = recipe.size().latent_frames();
    match wish.work {
        LabWork::Search => {
            let candidates = Candidates::standard(frames).map_err(|error| error.to_string())?;
            let uniform = |mask: &LayerMask| MaskPlan::of_layers(vec![mask.clone(); model.layers]);
            let sparse = candidates.sparse().iter().map(uniform).collect::<Result<Vec<_>, _>>();
            let work = SearchWork {
                sparse: sparse.map_err(|error| error.to_string())?,
                prompts: wish.search.prompts as usize,
                times: wish.search.times as usize,
                is_greedy: matches!(wish.search.goal_and_order().1, Order::Greedy(_)),
            };
            model.costs.search(&recipe, &work, device, speeds, pace).map_err(said)
        }
        LabWork::Distil => {
            let distil = &wish.distil;
            let path = distil.plan.as_deref().unwrap_or(Path::new(""));
            let plan = MaskPlan::load(path).map_err(|error| format!("The plan cannot be used: {error}."))?;
            plan.check(model.layers, frames).map_err(|error| format!("The plan does not fit: {error}."))?;
            let work = DistilWork {
                plan,
                clips: distil.folder.as_deref().map_or(distil.clips as usize, sentences_in),
                length: match distil.length {
                    LabLength::Minutes => DistilLength::Seconds(distil.minutes * 60.0),
                    LabLength::Steps => DistilLength::Steps(distil.steps),
                },
                batch_and_part: [distil.batch as usize, distil.part.min(distil.batch) as usize],
            };
            model.costs.distil(&recipe, &work, device, speeds, pace).map_err(said)
        }
    }
}

/// Clips that have their sentence beside them.
fn sentences_in(folder: &Path) -> usize {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    names.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "txt")).count()
}

fn key(device: &ComputeDevice, work: LabWork) -> String {
    format!("{}, {}, {work:?}", device.name, device.precision)
}

fn pace(database: &Database, device: &ComputeDevice, work: LabWork) -> Option<f64> {
    let paces: BTreeMap<String, f64> = database.preference(PACES).ok().flatten()?;
    paces.get(&key(device, work)).copied().filter(|pace| pace.is_finite() && *pace > 0.0)
}

/// Learns from a session what the next will take.
pub(super) fn learn_pace(database: &Database, device: &ComputeDevice, work: LabWork, taken_over_reckoned: f64) {
    if !(taken_over_reckoned.is_finite() && taken_over_reckoned > 0.0) {
        return;
    }
    let mut paces: BTreeMap<String, f64> = database.preference(PACES).ok().flatten().unwrap_or_default();
    paces.insert(key(device, work), taken_over_reckoned);
    if let Err(error) = database.set_preference(PACES, &paces) {
        log::info!("the pace of the lab is not kept: {error}");
    }
}
