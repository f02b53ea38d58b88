//! The device that the networks are compared on, and the tolerances that hold there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tilereel::gpu::device::{self, ComputeDevice, DeviceChoice, Precision};

use crate::report::Tolerance;

pub struct TestDevice {
    pub compute: ComputeDevice,
}

/// Tolerances of one set: (CPU f32, GPU f32, half precision).
pub struct Tolerances {
    pub cpu: Tolerance,
    pub gpu: f64,
    pub half: f64,
}

impl TestDevice {
    pub fn from_environment() -> Result<Self> {
        let choice = std::env::var("TILEREEL_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
        let precision = match std::env::var("TILEREEL_TEST_PRECISION").as_deref() {
            Ok("f16") => Precision::F16,
            _ => Precision::F32,
        };
        let choice = match choice.as_str() {
            "wgpu" => {
                let adapters = device::adapters();
                let adapter = adapters.iter().find(|a| !a.software).or(adapters.first()).context("there is no adapter at all")?;
                DeviceChoice::Index(adapter.index)
            }
            other => other.parse()?,
        };
        Ok(Self { compute: device::open(&choice, Some(precision))? })
    }

    pub fn tolerance(&self, of: &Tolerances) -> Tolerance {
        match (self.compute.precision, self.compute.is_cpu()) {
            (Precision::F16, _) => Tolerance::relative(of.half),
            (Precision::F32, true) => of.cpu,
            (Precision::F32, false) => Tolerance::relative(of.gpu),
        }
    }
}

/// The case files of a folder: every safetensors file but the weights.
pub fn cases(folder: &Path, weights: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors") && path != weights)
        .collect();
    files.sort();
    Ok(files)
}

/// The file of a folder whose tensors are weights: the one without inputs and outputs.
pub fn weights_file(folder: &Path) -> Result<PathBuf> {
    let files = cases(folder, Path::new(""))?;
    for file in files {
        let bytes = std::fs::read(&file)?;
        let tensors = safetensors::SafeTensors::deserialize(&bytes)?;
        if !tensors.names().iter().any(|name| name.starts_with("in.") || name.starts_with("out.")) {
            return Ok(file);
        }
    }
    anyhow::bail!("{} has no weights", folder.display())
}

/// `config.json` of a folder, if it has one.
pub fn config(folder: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(folder.join("config.json")).ok()?).ok()
}

pub fn set_name(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

pub fn case_name(file: &Path) -> String {
    file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
