//! Parity with the reference implementation.
//!
//! Walks `tests/fixtures` and every folder named in `TILEREEL_FIXTURES` (separated by `:`), recognises the sets in them by
//! their files and contents, and prints one line a compared case. A set or a case that no check covers is a failure.
//! `TILEREEL_TEST_DEVICE` chooses the device: `cpu` (the default), `wgpu` (any adapter, software ones too), or what `--device`
//! takes; `TILEREEL_TEST_PRECISION=f16` compares the half-precision path with the tolerances of half precision.

mod device;
mod dit;
mod report;
mod rotary;
mod tensors;
mod text_encoder;
mod vae;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use device::TestDevice;
use report::Report;

type Recognise = fn(&Path) -> bool;
type Check = fn(&Path, &TestDevice, &mut Report) -> anyhow::Result<()>;

/// Checks of networks run on the chosen device; the others are of plain Rust code and run with the CPU's only.
const SETS: &[(Recognise, Check)] = &[
    (dit::recognises, dit::check),
    (vae::recognises, vae::check),
    (text_encoder::recognises, text_encoder::check),
    (rotary::recognises, rotary::check),
];

fn main() -> ExitCode {
    let device = match TestDevice::from_environment() {
        Ok(device) => device,
        Err(error) => {
            println!("FAIL  device: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    println!("parity on {} in {}", device.compute.name, device.compute.precision);
    let mut report = Report::default();
    let mut roots = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"))];
    roots.extend(std::env::var_os("TILEREEL_FIXTURES").iter().flat_map(std::env::split_paths).filter(|p| !p.as_os_str().is_empty()));
    for root in &roots {
        walk(root, &device, &mut report);
    }
    if report.passed == 0 {
        report.exact("parity", "all", "cases", false, "nothing was compared");
    }
    println!("\n{} passed, {} failed, {} skipped", report.passed, report.failed, report.skipped);
    if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Checks the sets in `folder` and below it.
fn walk(folder: &Path, device: &TestDevice, report: &mut Report) {
    let name = folder.file_name().map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned());
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return report.exact(&name, "folder", "read", false, format!("{}: {error}", folder.display())),
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let (folders, files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
    let holds_data = files.iter().any(|file| {
        let ending = file.extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
        ["safetensors", "json", "ckpt", "bin", "model"].contains(&ending.as_str())
    });
    if holds_data {
        let checks: Vec<_> = SETS.iter().filter(|(recognises, _)| recognises(folder)).collect();
        match checks.as_slice() {
            [(_, check)] => {
                let before = report.passed + report.failed + report.skipped;
                if let Err(error) = check(folder, device, report) {
                    report.exact(&name, "set", "check", false, format!("{error:#}"));
                }
                if report.passed + report.failed + report.skipped == before {
                    report.exact(&name, "set", "check", false, "no case of this set was compared");
                }
            }
            [] => report.exact(&name, "set", "recognise", false, format!("no check knows the set in {}", folder.display())),
            _ => report.exact(&name, "set", "recognise", false, "several checks claim this set"),
        }
    }
    for folder in folders {
        walk(&folder, device, report);
    }
}
