//! The clip that is in the library before anything was made: with its recipe and all of its steps, so that everything in the
//! window has something to show at once.

use std::fs;

use super::database::Database;
use super::media::write_projection;
use super::{ClipId, Home, StudioError};
use crate::clip;
use crate::generate::preview::Projection;
use crate::generate::recipe::Recipe;
use crate::generate::step_record::StepRecord;

/// Set once the example was there, so that a deleted one does not come back.
const PREFERENCE: &str = "example_installed";
/// What making it took on two cores.
const SECONDS: f64 = 3.8;

const CLIP: &[u8] = include_bytes!("../../assets/example/clip.webp");
const PROJECTION: &str = include_str!("../../assets/models/mini/vae/preview.json");
const STEPS: [&[u8]; 8] = [
    include_bytes!("../../assets/example/steps/step-0001.safetensors"),
    include_bytes!("../../assets/example/steps/step-0002.safetensors"),
    include_bytes!("../../assets/example/steps/step-0003.safetensors"),
    include_bytes!("../../assets/example/steps/step-0004.safetensors"),
    include_bytes!("../../assets/example/steps/step-0005.safetensors"),
    include_bytes!("../../assets/example/steps/step-0006.safetensors"),
    include_bytes!("../../assets/example/steps/step-0007.safetensors"),
    include_bytes!("../../assets/example/steps/step-0008.safetensors"),
];

/// Puts the example into a library that never had it.
///
/// # Errors
/// Its files cannot be written.
pub(super) fn install(home: &Home, database: &Database) -> Result<Option<ClipId>, StudioError> {
    if database.preference::<bool>(PREFERENCE)?.is_some() {
        return Ok(None);
    }
    let staged = tempfile::Builder::new().prefix(".example-").tempdir_in(home.folder());
    let staged = staged.map_err(StudioError::files("made", home.folder()))?;
    let write = |path: std::path::PathBuf, bytes: &[u8]| fs::write(&path, bytes).map_err(StudioError::files("written", path));
    let steps = staged.path().join("steps");
    fs::create_dir(&steps).map_err(StudioError::files("made", &steps))?;
    write(staged.path().join("clip.webp"), CLIP)?;
    for (index, step) in STEPS.iter().enumerate() {
        write(StepRecord::path_in(&steps, index + 1), step)?;
    }
    if let Ok(projection) = Projection::from_json(PROJECTION) {
        write_projection(&steps, &projection)?;
    }
    let text = clip::read_recipe(&staged.path().join("clip.webp"))?.unwrap_or_default();
    let recipe = Recipe::from_json(&text)?;
    let id = database.add_clip(&recipe, &recipe.model.name, SECONDS, &["the bundled example".into()])?;
    let folder = home.clip_folder(id);
    let moved = fs::create_dir_all(folder.parent().unwrap_or(&folder)).and_then(|()| fs::rename(staged.path(), &folder));
    if let Err(error) = moved {
        database.forget_clip(id)?;
        return Err(StudioError::files("made", folder)(error));
    }
    database.set_preference(PREFERENCE, &true)?;
    Ok(Some(id))
}
