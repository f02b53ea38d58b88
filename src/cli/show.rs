//! `tilereel show`: the recipe inside a clip.

use std::path::PathBuf;

use clap::Args;

use super::Status;
use crate::generate::recipe::Recipe;
use crate::mask::MaskPlan;
use crate::studio::read_recipe;

#[derive(Args)]
pub struct Arguments {
    /// A clip, or a recipe's JSON file
    clip: PathBuf,
    /// Print the recipe as JSON, as it is stored
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let recipe = read_recipe(&arguments.clip)?;
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
        let layers: Vec<String> = plan.layers().iter().map(|layer| layer.name()).collect();
        say!("attention  {:.1} % of the tiles: {}", 100.0 * plan.density(), layers.join(" "));
    }
    if let Some(made) = &recipe.made {
        let driver = if made.driver.is_empty() { String::new() } else { format!(", {}", made.driver) };
        say!("made on    {}{driver}, {}, {} kernels", made.device, recipe.precision, made.kernel_tier);
        say!("frames     SHA-256 {}", made.frames_sha256);
    }
    say!("program    {}", recipe.program);
}
