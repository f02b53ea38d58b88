//! A finished run becomes a clip of the library: frames, thumbnail and steps on disk, then the row that lists it.

use std::fs;
use std::sync::Arc;

use super::media::{Picture, write_thumbnail};
use super::shared::Shared;
use super::{ClipId, QueueItem, StudioError};
use crate::clip::{self, Frames, WriteOptions};
use crate::generate::recipe::{self, Recipe};
use crate::gpu::device::ComputeDevice;

/// What came of an item.
pub(super) struct Made {
    pub item: QueueItem,
    pub frames: Arc<Frames>,
    pub seconds: f64,
    pub badges: Vec<String>,
}

pub(super) fn keep_clip(shared: &Shared, made: Made, device: &ComputeDevice) -> Result<(), StudioError> {
    let Made { item, frames, seconds, badges } = made;
    let recipe = Recipe { made: Some(recipe::Made::on(device, &frames)), ..item.recipe };
    // The row comes first, for its number; it goes again if the files cannot be written.
    let id = shared.database.add_clip(&recipe, &item.model, seconds, &badges)?;
    if let Err(error) = write_files(shared, id, &recipe, &frames) {
        let _ = fs::remove_dir_all(shared.home.clip_folder(id));
        shared.database.forget_clip(id)?;
        return Err(error);
    }
    let (steps, kept) = (shared.home.run_folder(item.id), shared.home.steps_folder(id));
    if steps.exists()
        && let Err(error) = fs::rename(&steps, &kept)
    {
        // The clip is there all the same; it has no steps to scrub through.
        shared.note(&StudioError::files("moved", steps)(error));
    }
    shared.media.put(Picture::Frames(id), frames);
    shared.change(|state| {
        state.newest = Some(id);
        state.library_revision += 1;
    });
    Ok(())
}

fn write_files(shared: &Shared, id: ClipId, recipe: &Recipe, frames: &Frames) -> Result<(), StudioError> {
    let folder = shared.home.clip_folder(id);
    fs::create_dir_all(&folder).map_err(StudioError::files("made", &folder))?;
    clip::write_clip(&shared.home.clip_file(id), frames, Some(&recipe.to_json()), &WriteOptions::default())?;
    write_thumbnail(&shared.home.thumbnail_file(id), frames)
}
