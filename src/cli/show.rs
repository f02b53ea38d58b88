//! `tilereel show`: the recipe inside a clip.

use clap::Args;

use super::{Status, library};
use crate::generate::recipe::Recipe;
use crate::mask::{LayerMask, MaskPlan};
use crate::model::sampler::Sampler;
use crate::studio::read_recipe;

#[derive(Args)]
pub struct Arguments {
    /// The number of a clip of the library, a file, or a recipe's JSON file
    clip: String,
    /// Print the recipe as JSON, as it is stored
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let recipe = read_recipe(&library::clip_file(&arguments.clip)?)?;
    if arguments.json {
        say!("{}", recipe.to_json());
        return Ok(Status::Done);
    }
    print(&recipe);
    Ok(Status::Done)
}

/// Prints a recipe, a fact a line.
pub fn print(recipe: &Recipe) {
    say!("prompt     {}", recipe.prompt);
    if !recipe.negative_prompt.is_empty() {
        say!("negative   {}", recipe.negative_prompt);
    }
    say!("seed       {}", recipe.seed);
    say!("sampling   {} with {} steps, guidance {}", recipe.sampler, recipe.steps, recipe.guidance_scale);
    say!("clip       {} frames, {}x{}, {} fps", recipe.frames, recipe.width, recipe.height, recipe.frames_per_second);
    say!("model      {} ({}..)", recipe.model.name, recipe.model.sha256.chars().take(12).collect::<String>());
    if let Ok(plan) = MaskPlan::from_json(&recipe.mask_plan.to_string()) {
        let names = |layers: &[LayerMask]| layers.iter().map(LayerMask::name).collect::<Vec<_>>().join(" ");
        say!("attention  {:.1} % of the tiles: {}", 100.0 * plan.density(), names(plan.layers()));
        let calls = Sampler::new(recipe.sampler, recipe.steps).map_or(recipe.steps, |sampler| sampler.calls());
        for (from, layers) in plan.ranges().skip(1) {
            say!("           from step {}: {}", MaskPlan::first_call(from, calls) + 1, names(layers));
        }
    }
    if let Some(made) = &recipe.made {
        let driver = if made.driver.is_empty() { String::new() } else { format!(", {}", made.driver) };
        say!("made on    {}{driver}, {}, {} kernels", made.device, recipe.precision, made.kernel_tier);
        say!("frames     SHA-256 {}", made.frames_sha256);
    }
    say!("program    {}", recipe.program);
}
