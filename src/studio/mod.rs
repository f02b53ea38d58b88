//! What both fronts talk to: the queue, the library, the engine's thread and the events that it sends.
//!
//! The fronts hold no model code. They change a [`Draft`], put what it makes into the [`Studio`]'s queue, and show its
//! [`State`] and [`Media`]. A command that makes one clip and ends needs only the [`Engine`] and its [`Ticket`].

mod attention;
mod catalog;
pub mod colour_map;
mod database;
mod decode_pace;
mod devices;
mod draft;
mod earlier_steps;
mod engine;
mod error;
mod example;
pub mod export;
pub mod heat;
mod home;
mod keep;
mod lab;
mod library;
mod live;
mod media;
mod memory;
mod models;
mod queue;
mod reading;
mod report;
mod runner;
mod shared;
#[expect(clippy::module_inception, reason = "the room's one value has the room's name")]
mod studio;
mod task;
mod twin;
mod verify;
pub mod words;

pub use attention::{DEFAULT_RECORDING, attention_of, save_attention};
pub use catalog::{Catalog, CatalogEntry, Opened};
pub use database::Database;
pub use devices::ChosenDevice;
pub use draft::{
    DEFAULT_MODEL, Draft, Leaving, MOST_CLIPS_AT_ONCE, file_stem, leaving, legal_frames, random_seed, read_recipe, run_of_step,
    snap_frames, snap_side, variations, warnings,
};
pub use engine::{Engine, EngineError, Event, Feed, Ticket, Workshop, quiet_engine_panics};
pub use error::StudioError;
pub use export::{Export, ExportError, ExportRequest};
pub use home::{Home, first_free};
pub use lab::{
    DistilWish, LabCost, LabGoal, LabKept, LabLength, LabRun, LabStage, LabWish, LabWork, PlanPoint, SearchWish, Trade,
};
pub use library::{ClipEntry, ClipFilter, NewClip};
pub use live::Live;
pub use media::{Loaded, Media, Picture};
pub use models::{Fit, MaskStop, ModelInfo, Shortage, free_memory, lasting_name, listed};
pub use queue::{ItemState, NewItem, QueueItem};
pub use reading::past_call;
pub use report::{ErrorReport, Fault, Remedy};
pub use shared::{DeviceState, DeviceWish, State};
pub use studio::Studio;
pub use task::Task;
pub use twin::{Cost, ask_for_the_same, twin};
pub use verify::Verdict;

use serde::{Deserialize, Serialize};

/// A clip of the library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClipId(pub i64);

/// An item of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemId(pub i64);

#[cfg(test)]
pub(crate) mod tests {
    use crate::generate::recipe::Recipe;
    use crate::gpu::device::Precision;
    use crate::model::folder::{ModelFolder, SearchPath};

    /// A recipe of mini with this prompt.
    pub fn recipe(prompt: &str) -> Recipe {
        let search = SearchPath { folders: vec![concat!(env!("CARGO_MANIFEST_DIR"), "/assets/models").into()], built_in: false };
        Recipe::of_model(&ModelFolder::resolve("fast", &search).unwrap(), prompt, Precision::F32).unwrap()
    }
}
