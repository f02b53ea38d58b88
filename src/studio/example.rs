//! The clip that is in the library before anything was made: with its recipe and all of its steps, so that everything in the
//! window has something to show at once.

use std::fs;
use std::path::PathBuf;

use super::database::Database;
use super::home::{CLIP_FILE, STEPS_FOLDER};
use super::library::NewClip;
use super::media::write_projection;
use super::{ClipId, Home, StudioError};
use crate::clip;
use crate::generate::attention_record::AttentionRecord;
use crate::generate::preview::Projection;
use crate::generate::recipe::Recipe;
use crate::generate::step_record::StepRecord;

/// Set once the example was there, so that a deleted one does not come back.
const PREFERENCE: &str = "example_installed";
/// What making it took on two cores.
const SECONDS: f64 = 8.1;

const CLIP: &[u8] = include_bytes!("../../assets/example/clip.webp");
const PROJECTION: &str = include_str!("../../assets/models/mini/vae/preview.json");
const STEPS: [&[u8]; 4] = [
    include_bytes!("../../assets/example/steps/step-0001.safetensors"),
    include_bytes!("../../assets/example/steps/step-0002.safetensors"),
    include_bytes!("../../assets/example/steps/step-0003.safetensors"),
    include_bytes!("../../assets/example/steps/step-0004.safetensors"),
];

/// Made by `tilereel generate --recipe clip.webp --attention exact`.
const ATTENTION: [&[u8]; 4] = [
    include_bytes!("../../assets/example/steps/attention-0001.png"),
    include_bytes!("../../assets/example/steps/attention-0002.png"),
    include_bytes!("../../assets/example/steps/attention-0003.png"),
    include_bytes!("../../assets/example/steps/attention-0004.png"),
];

/// Puts the example into a library that never had it.
///
/// # Errors
/// Its files cannot be written.
pub(super) fn install(home: &Home, database: &Database) -> Result<Option<ClipId>, StudioError> {
    if database.preference::<bool>(PREFERENCE)?.is_some() {
        return Ok(None);
    }
    let clips = home.clips_folder();
    fs::create_dir_all(&clips).map_err(StudioError::files("made", &clips))?;
    let staged = tempfile::Builder::new().prefix(".example-").tempdir_in(&clips).map_err(StudioError::files("made", &clips))?;
    let write = |path: PathBuf, bytes: &[u8]| fs::write(&path, bytes).map_err(StudioError::files("written", path));
    let (clip_file, steps) = (staged.path().join(CLIP_FILE), staged.path().join(STEPS_FOLDER));
    fs::create_dir(&steps).map_err(StudioError::files("made", &steps))?;
    write(clip_file.clone(), CLIP)?;
    for (index, (step, attention)) in STEPS.iter().zip(ATTENTION).enumerate() {
        write(StepRecord::path_in(&steps, index + 1), step)?;
        write(AttentionRecord::path_in(&steps, index + 1), attention)?;
    }
    if let Ok(projection) = Projection::from_json(PROJECTION) {
        write_projection(&steps, &projection)?;
    }
    let recipe = Recipe::from_json(&clip::read_recipe(&clip_file)?.unwrap_or_default())?;
    let new = NewClip { recipe: &recipe, model: &recipe.model.name, seconds: SECONDS, badges: &["the bundled example".into()] };
    let id = database.add_clip(&new, |id| {
        let folder = home.clip_folder(id);
        fs::rename(staged.path(), &folder).map_err(StudioError::files("made", folder))
    })?;
    database.set_preference(PREFERENCE, &true)?;
    Ok(Some(id))
}
