//! `tilereel import`: a published folder, once, into 16-bit safetensors that open at once and stream from disk.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use super::Status;
use super::progress::Bar;
use crate::model::folder::{PublishedPart, SearchPath, published_parts};
use crate::model::weights::{ConvertError, HalfType, convert};
use crate::studio::words;

#[derive(Args)]
pub struct Arguments {
    /// A published model: a folder with the folders of its transformer, VAE and text encoder, or one of these
    folder: PathBuf,
    /// Where it goes; without it a folder of the same name among your models
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
    /// How large tensors are kept
    #[arg(long, value_enum, default_value = "f16")]
    r#type: Type,
    /// No progress
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Type {
    F16,
    Bf16,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let folder = arguments
        .folder
        .canonicalize()
        .with_context(|| format!("Cannot find {}. Give the folder that was published.", arguments.folder.display()))?;
    let target = match &arguments.to {
        Some(target) => target.clone(),
        None => {
            let name = folder.file_name().context("This folder has no name. Say with --to where the model goes.")?;
            SearchPath::user_folder().context("The system names no place for your files. Use --to.")?.join(name)
        }
    };
    let parts = published_parts(&folder)?;
    if target.canonicalize().is_ok_and(|target| target.starts_with(&folder)) {
        bail!("The model would go into the folder that it comes from. Choose another one with --to.");
    }
    super::catch_interrupts();
    let half = match arguments.r#type {
        Type::F16 => HalfType::F16,
        Type::Bf16 => HalfType::BF16,
    };
    for part in &parts {
        if let Status::Stopped = import(part, &target.join(part.name()), half, arguments.quiet)? {
            return Ok(Status::Stopped);
        }
    }
    say!("{}", target.display());
    Ok(Status::Done)
}

fn import(part: &PublishedPart, folder: &Path, half: HalfType, quiet: bool) -> anyhow::Result<Status> {
    let (started, bar) = (Instant::now(), Bar::new(quiet));
    bar.doing(format!("reading the {}", part.what()));
    let source = part.open_weights()?;
    part.copy_small_files(folder)?;
    bar.doing(format!("writing the {}", part.what()));
    let target = PublishedPart::weights_in(folder);
    let mut progress = |done: u64, all: u64| {
        bar.place(done as f64 / all as f64);
        !super::interrupted()
    };
    let converted = convert(&source, |name| part.needs(name), half, &target, &mut progress);
    bar.clear();
    match converted {
        Ok(converted) => {
            let resumed = match converted.resumed_tensors {
                0 => String::new(),
                tensors => format!(", {} of them from before", words::count(tensors, "tensor")),
            };
            say!(
                "{:<13} {}, {}{resumed}, in {}",
                part.what(),
                words::count(converted.tensors, "tensor"),
                words::bytes(converted.bytes),
                words::duration(started.elapsed().as_secs_f64())
            );
            Ok(Status::Done)
        }
        Err(ConvertError::Stopped) => {
            eprintln!("{}", ConvertError::Stopped);
            Ok(Status::Stopped)
        }
        Err(error) => Err(error.into()),
    }
}
