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
                say!(
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
                    say!("{:14} {card}", "");
                }
                for group in &facts.vocabulary {
                    let words: Vec<&str> = group.words.iter().filter_map(|ways| ways.first()).map(String::as_str).collect();
                    say!("{:14} {:<9} {}", "", group.title, words.join(", "));
                }
            }
            Err(error) => say!("{:<14} cannot be used: {error}", model.name),
        }
    }
    if models.is_empty() {
        say!("No models were found.");
    }
    say!("\nLooked in:");
    for folder in &search.folders {
        say!("  {}", folder.display());
    }
    if search.built_in {
        say!("  the program itself");
    }
    Ok(Status::Done)
}
