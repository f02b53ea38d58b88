//! Tables of the rotary embedding at real sizes, exact and with the reference's bf16 rounding.
//!
//! Tensors are called `AXIS.cos.f32`, `AXIS.sin.bf16` and so on; the note in the file names each axis' scale.

use std::path::Path;

use anyhow::{Context, Result};
use tilereel::model::dit::rope::{AngleRounding, axis_table};

use crate::device::{case_name, cases, set_name};
use crate::report::{Report, Tolerance};
use crate::tensors::FixtureFile;

pub fn recognises(folder: &Path) -> bool {
    let Ok(files) = cases(folder, Path::new("")) else { return false };
    !files.is_empty()
        && files.iter().all(|file| FixtureFile::read(file).is_ok_and(|f| f.tensors.keys().all(|name| parts(name).is_some())))
}

/// (axis, cos or sin, precision).
fn parts(name: &str) -> Option<(&str, &str, AngleRounding)> {
    let mut words = name.split('.');
    let (axis, function, precision) = (words.next()?, words.next()?, words.next()?);
    let rounding = match precision {
        "f32" => AngleRounding::Exact,
        "bf16" => AngleRounding::Bf16,
        _ => return None,
    };
    (["cos", "sin"].contains(&function) && words.next().is_none()).then_some((axis, function, rounding))
}

pub fn check(folder: &Path, report: &mut Report) -> Result<()> {
    for file in cases(folder, Path::new(""))? {
        let case = FixtureFile::read(&file)?;
        let note = case.metadata.values().cloned().collect::<Vec<_>>().join(" ");
        for (name, want) in &case.tensors {
            let (axis, function, rounding) = parts(name).context("name")?;
            let scale = scale_of(&note, axis).with_context(|| format!("no scale for axis {axis} in: {note}"))?;
            let (cos, sin) = axis_table(want.shape[0], 2 * want.shape[1], scale, rounding);
            let got = if function == "cos" { cos } else { sin };
            // bf16 values may fall on the other side of a rounding boundary: one step of 2^-8.
            let tolerance = match rounding {
                AngleRounding::Exact => Tolerance { relative_l2: 1e-6, max_abs: 1e-5 },
                AngleRounding::Bf16 => Tolerance { relative_l2: 1e-3, max_abs: 0.008 },
            };
            report.close(&set_name(folder), &case_name(&file), name, &got, &want.values, tolerance);
        }
    }
    Ok(())
}

/// From a note like "t n=24 scale 1.0, h n=45 scale 1.5".
fn scale_of(note: &str, axis: &str) -> Option<f64> {
    let words: Vec<&str> = note.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let start = words.windows(2).position(|pair| pair[0] == axis && pair[1].starts_with("n="))?;
    let scale = words[start..].iter().position(|word| *word == "scale")?;
    words.get(start + scale + 1)?.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}
