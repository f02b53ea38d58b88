//! `tilereel models`: what can be named with `--model`.

use clap::Args;
use serde_json::json;

use super::Status;
use crate::model::folder::{ListedModel, SearchPath, list};

#[derive(Args)]
pub struct Arguments {
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let search = SearchPath::standard();
    let models = list(&search);
    if arguments.json {
        let folders: Vec<String> = search.folders.iter().map(|folder| folder.display().to_string()).collect();
        let models: Vec<_> = models.iter().map(model_json).collect();
        say!("{:#}", json!({ "models": models, "folders": folders, "built_in": search.built_in }));
        return Ok(Status::Done);
    }
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

/// As the model's own `tilereel.json` says it, or why it cannot be used.
fn model_json(model: &ListedModel) -> serde_json::Value {
    let (facts, failure) = match &model.folder {
        Ok(folder) => (Some(folder.facts()), None),
        Err(error) => (None, Some(error.to_string())),
    };
    json!({
        "name": model.name, "path": model.location, "failure": failure,
        "card": facts.and_then(|facts| facts.card.as_ref()), "defaults": facts.map(|facts| &facts.defaults),
        "trained": facts.map(|facts| &facts.trained), "vocabulary": facts.map(|facts| &facts.vocabulary),
    })
}
