//! Torch pickles against the tensors that the reference loader takes from them.
//!
//! A folder holds pickles and, as safetensors, the tensors expected of each. Nothing says which belong together: a pickle
//! must equal one of the expected files in all names, shapes and bits, and every expected file must be met by a pickle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use safetensors::{Dtype, SafeTensors};
use tilereel::model::weights::WeightSource;

use crate::report::Report;

/// A tensor's shape and the bits of its f32 values.
type Bits = (Vec<usize>, Vec<u32>);
type Tensors = BTreeMap<String, Bits>;

/// True if this folder holds pickles beside safetensors files and is no model's folder.
pub fn recognises(folder: &Path) -> bool {
    !folder.join("config.json").exists()
        && files_ending_in(folder, &["ckpt", "pt", "pth", "bin"]).is_ok_and(|found| !found.is_empty())
        && files_ending_in(folder, &["safetensors"]).is_ok_and(|found| !found.is_empty())
}

/// Compares every pickle of the folder; one report line per pickle and per expected file.
pub fn check(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let set = file_name(folder);
    let mut expected = BTreeMap::new();
    for path in files_ending_in(folder, &["safetensors"])? {
        expected.insert(file_name(&path), expected_tensors(&path)?);
    }
    let mut met: BTreeSet<&str> = BTreeSet::new();
    for path in files_ending_in(folder, &["ckpt", "pt", "pth", "bin"])? {
        let case = file_name(&path);
        let got = match pickle_tensors(&path) {
            Ok(got) => got,
            Err(error) => {
                report.exact(&set, &case, "tensors", false, format!("{error:#}"));
                continue;
            }
        };
        let equal = expected.iter().find(|(_, want)| **want == got);
        if let Some((name, want)) = equal {
            met.insert(name);
            report.exact(&set, &case, "tensors", true, format!("all {} equal those of {name}", want.len()));
        } else {
            let nearest = expected.iter().map(|(name, want)| (differences(&got, want), name));
            let detail = nearest
                .min_by_key(|(found, _)| found.len())
                .map(|(found, name)| format!("nearest is {name}, but: {}", found.join("; ")))
                .unwrap_or_default();
            report.exact(&set, &case, "tensors", false, detail);
        }
    }
    for name in expected.keys() {
        let used = met.contains(name.as_str());
        let detail = if used { "met by a pickle" } else { "no pickle yields these tensors" };
        report.exact(&set, name, "expected file", used, detail);
    }
    Ok(())
}

fn pickle_tensors(path: &Path) -> anyhow::Result<Tensors> {
    let source = WeightSource::open(path)?;
    let mut tensors = Tensors::new();
    for (name, info) in source.tensors() {
        let values = source.read_f32(name)?;
        tensors.insert(name.to_owned(), (info.shape.clone(), bits(values)));
    }
    Ok(tensors)
}

/// Read with the published crate, so that the program's own safetensors reader is no part of the comparison.
fn expected_tensors(path: &Path) -> anyhow::Result<Tensors> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes).with_context(|| format!("reading {}", path.display()))?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        let data = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F16 => data.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::BF16 => data.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            other => bail!("{} keeps {name} as {other:?}", path.display()),
        };
        tensors.insert(name.to_string(), (view.shape().to_vec(), bits(values)));
    }
    Ok(tensors)
}

fn bits(values: Vec<f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

fn differences(got: &Tensors, want: &Tensors) -> Vec<String> {
    let names: BTreeSet<&String> = got.keys().chain(want.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| match (got.get(name), want.get(name)) {
            (Some(_), None) => Some(format!("{name} is not expected")),
            (None, Some(_)) => Some(format!("{name} is missing")),
            (Some((got, _)), Some((want, _))) if got != want => Some(format!("{name} has shape {got:?}, not {want:?}")),
            (Some((_, got)), Some((_, want))) if got != want => {
                let wrong = got.iter().zip(want).filter(|(got, want)| got != want).count();
                Some(format!("{wrong} of {} values of {name} differ", want.len()))
            }
            _ => None,
        })
        .collect()
}

/// The folder's files of these kinds, in the order of their names.
fn files_ending_in(folder: &Path, endings: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.is_file() && path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
