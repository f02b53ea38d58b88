//! `tilereel models`: what can be named with `--model`.

use super::Status;
use crate::model::folder::{SearchPath, list};

pub fn run() -> anyhow::Result<Status> {
    let search = SearchPath::standard();
    let models = list(&search);
    for model in &models {
        match &model.folder {
            Ok(folder) => {
                let facts = folder.facts();
                let defaults = &facts.defaults;
                println!(
                    "{:<14} {} frames of {}x{}, {} with {} steps, guidance {}  ({})",
                    model.name,
                    defaults.frames,
                    defaults.width,
                    defaults.height,
                    defaults.sampler,
                    defaults.steps,
                    defaults.guidance_scale,
                    model.location
                );
                if let Some(card) = &facts.card {
                    println!("{:14} {card}", "");
                }
            }
            Err(error) => println!("{:<14} cannot be used: {error}", model.name),
        }
    }
    if models.is_empty() {
        println!("No models were found.");
    }
    println!("\nLooked in:");
    for folder in &search.folders {
        println!("  {}", folder.display());
    }
    if search.built_in {
        println!("  the program itself");
    }
    Ok(Status::Done)
}
