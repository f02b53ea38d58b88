//! `tilereel` without a command: the studio's window.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::Status;
use super::settings::DeviceArguments;

#[derive(Args)]
pub struct Arguments {
    /// A clip, or a recipe's JSON file, whose settings are taken
    file: Option<PathBuf>,
    /// Put this into the prompt
    #[arg(long)]
    prompt: Option<String>,
    /// Export to this file, without asking for one
    #[arg(long, value_name = "FILE")]
    export_to: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArguments,
}

#[cfg(feature = "gui")]
pub fn run(arguments: &Arguments, started: Instant) -> anyhow::Result<Status> {
    if let Some(file) = &arguments.file
        && !file.exists()
    {
        return Err(neither(&file.display().to_string()).into());
    }
    crate::app::open(crate::app::WindowOptions {
        home: crate::studio::Home::standard()?,
        device: arguments.device.wish()?,
        open: arguments.file.clone(),
        prompt: arguments.prompt.clone(),
        export_to: arguments.export_to.clone(),
        started,
        bench: None,
    })?;
    Ok(Status::Done)
}

/// A mistyped command with something behind it, which clap takes for a file that no command may follow.
#[cfg(feature = "gui")]
pub fn mistyped(error: &clap::Error, first: Option<String>) -> Option<super::UsageError> {
    use clap::error::ErrorKind::{ArgumentConflict, UnknownArgument};
    let first = first.filter(|first| !first.starts_with('-') && !super::command_names().contains(first))?;
    let is_of_it = matches!(error.kind(), ArgumentConflict | UnknownArgument);
    (is_of_it && !std::path::Path::new(&first).exists()).then(|| neither(&first))
}

/// What is said of a word that is nothing here.
#[cfg(feature = "gui")]
fn neither(word: &str) -> super::UsageError {
    let begin: String = word.chars().take(3).collect();
    let command = super::command_names().into_iter().find(|name| name.starts_with(&begin));
    let hint = command.map(|name| format!(" Did you mean '{name}'?")).unwrap_or_default();
    super::UsageError(format!(
        "'{word}' is neither a command nor a file.{hint} `tilereel help` lists the commands; without one, the window opens."
    ))
}

#[cfg(not(feature = "gui"))]
pub fn run(_: &Arguments, _: Instant) -> anyhow::Result<Status> {
    anyhow::bail!("This Tilereel was built without its window. Write `tilereel help` for its commands.")
}
