//! Captions cleaned by the reference against ours.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use tilereel::model::text::{clean_caption, lower_and_strip};

use crate::report::Report;

#[derive(Deserialize)]
struct Case {
    text: String,
    clean_caption_true: String,
    clean_caption_false: String,
}

/// The JSON files of the folder that are lists of such cases.
fn case_files(folder: &Path) -> Vec<(PathBuf, Vec<Case>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter_map(|path| {
            let cases: Vec<Case> = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            (!cases.is_empty()).then_some((path, cases))
        })
        .collect();
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    files
}

pub fn recognises(folder: &Path) -> bool {
    !case_files(folder).is_empty()
}

pub fn check(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let set = folder.file_name().context("the set has no name")?.to_string_lossy();
    for (path, cases) in case_files(folder) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        for (index, case) in cases.iter().enumerate() {
            let name = format!("{stem}[{index}]");
            let cleaned = clean_caption(&case.text);
            let matches = cleaned == case.clean_caption_true;
            report.exact(&set, &name, "cleaned", matches, format_args!("got {cleaned:?}, want {:?}", case.clean_caption_true));
            let stripped = lower_and_strip(&case.text);
            let matches = stripped == case.clean_caption_false;
            report.exact(
                &set,
                &name,
                "not cleaned",
                matches,
                format_args!("got {stripped:?}, want {:?}", case.clean_caption_false),
            );
        }
    }
    Ok(())
}
