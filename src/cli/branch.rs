//! `--branch CLIP:STEP`: a run that leaves a clip after one of its steps.

use std::path::Path;

use super::library;
use super::settings::{ClipArguments, Prepared};
use crate::generate::recipe::Recipe;
use crate::generate::step_record::StepRecord;
use crate::gpu::device::ComputeDevice;
use crate::studio::{ClipId, Home, leaving, read_recipe, run_of_step, warnings};

/// What is left, and after which step.
#[derive(Clone, Debug)]
pub struct Branch {
    clip: String,
    step: usize,
}

/// As it is typed: `12:3` for a clip of the library, `ball.mp4:3` for a file.
pub fn parse(text: &str) -> Result<Branch, String> {
    let parts = text.rsplit_once(':').and_then(|(clip, step)| Some((clip.to_owned(), step.parse().ok()?)));
    let (clip, step) =
        parts.filter(|(clip, _)| !clip.is_empty()).ok_or_else(|| "write CLIP:STEP, such as 12:3 or ball.mp4:3".to_owned())?;
    Ok(Branch { clip, step })
}

impl Branch {
    /// Settles the run that leaves; and the record of the step, where the library keeps it. Without one the run before the
    /// branch is made again, to the same latent.
    ///
    /// # Errors
    /// There is no such clip or step, or a setting cannot be used.
    pub fn prepare(
        &self,
        prompt: Option<&str>,
        flags: &ClipArguments,
        device: &ComputeDevice,
    ) -> anyhow::Result<(Prepared, Option<StepRecord>)> {
        let mut flags = flags.clone();
        let (own, from, folder) = match self.clip.parse() {
            Ok(id) => {
                let home = Home::standard()?;
                let clip = library::open(&home)?.clip(ClipId(id))?;
                let leaving = leaving(&home, &clip, self.step)?;
                // It may be found elsewhere than under the name in its recipe.
                flags.model = flags.model.or(Some(clip.model));
                (clip.recipe, leaving.recipe, Some(home.steps_folder(clip.id)))
            }
            Err(_) => {
                let own = read_recipe(Path::new(&self.clip))?;
                let from = run_of_step(&own, self.step);
                (own, from, None)
            }
        };
        let mut prepared = flags.prepare(prompt, Some(Recipe { branch: None, ..own }), device)?;
        let recipe = &mut prepared.recipe;
        recipe.branch_from(from, self.step);
        recipe.check()?;
        prepared.warnings = warnings(recipe, prepared.folder.name(), prepared.folder.facts());
        let record = folder.and_then(|folder| StepRecord::read(&StepRecord::path_in(&folder, self.step)).ok());
        let record = record.filter(|record| recipe.branch.as_ref().is_some_and(|branch| record.is_of(&branch.from)));
        Ok((prepared, record))
    }
}
