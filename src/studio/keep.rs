//! A finished run becomes a clip of the library: frames, thumbnail and steps on disk, and the row that lists it.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use super::home::{CLIP_FILE, THUMBNAIL_FILE, TIMINGS_FILE};
use super::library::NewClip;
use super::media::{Picture, write_thumbnail};
use super::shared::Shared;
use super::{QueueItem, StudioError};
use crate::clip::{self, Frames, WriteOptions};
use crate::generate::observer::Phase;
use crate::generate::recipe::{self, Recipe};
use crate::generate::timings::Timings;
use crate::gpu::device::ComputeDevice;

/// What came of an item.
pub(super) struct Made {
    pub item: QueueItem,
    pub frames: Arc<Frames>,
    pub seconds: f64,
    pub badges: Vec<String>,
    pub timings: Timings,
    pub earlier_devices: Vec<String>,
}

pub(super) fn keep_clip(shared: &Shared, made: Made, device: &ComputeDevice) -> Result<(), StudioError> {
    let Made { item, frames, seconds, badges, mut timings, earlier_devices } = made;
    let started = Instant::now();
    let made = recipe::Made { earlier_devices, ..recipe::Made::on(device, &frames) };
    let recipe = Recipe { made: Some(made), ..item.recipe };
    // The files come first, under a name that no clip has, so that whoever lists the clip finds them.
    let clips = shared.home.clips_folder();
    fs::create_dir_all(&clips).map_err(StudioError::files("made", &clips))?;
    let staged = tempfile::Builder::new().prefix(".new-").tempdir_in(&clips).map_err(StudioError::files("made", &clips))?;
    clip::write_clip(&staged.path().join(CLIP_FILE), &frames, Some(&recipe.to_json()), &WriteOptions::default())?;
    write_thumbnail(&staged.path().join(THUMBNAIL_FILE), &frames)?;
    timings.add(Phase::Keeping, started.elapsed().as_secs_f64());
    let timings_file = staged.path().join(TIMINGS_FILE);
    fs::write(&timings_file, timings.to_json()).map_err(StudioError::files("written", timings_file))?;
    let new = NewClip { recipe: &recipe, model: &item.model, seconds, badges: &badges };
    let id = shared.database.add_clip(&new, |id| {
        let folder = shared.home.clip_folder(id);
        fs::rename(staged.path(), &folder).map_err(StudioError::files("made", &folder))?;
        let (steps, kept) = (shared.home.run_folder(item.id), shared.home.steps_folder(id));
        if steps.exists()
            && let Err(error) = fs::rename(&steps, &kept)
        {
            // The clip is there all the same; it has no steps to scrub through.
            shared.note(&StudioError::files("moved", steps)(error));
        }
        Ok(())
    })?;
    shared.media.put(Picture::Frames(id), frames);
    shared.change(|state| {
        state.newest = Some(id);
        state.library_revision += 1;
    });
    Ok(())
}
