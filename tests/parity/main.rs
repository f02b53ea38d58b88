//! Parity with the reference implementation.
//!
//! Walks `tests/fixtures` and every folder named in `TILEREEL_FIXTURES` (separated by `:`), recognises the sets in them by
//! their files and contents, and prints one line a compared case. A set or a case that no check covers is a failure.
//! `TILEREEL_TEST_DEVICE` chooses the device: `cpu` (the default), `wgpu` (any adapter, software ones too), or what `--device`
//! takes; `TILEREEL_TEST_PRECISION=f16` compares the half-precision path with the tolerances of half precision.

mod device;
mod dit;
mod end_to_end;
mod pickle;
mod report;
mod rotary;
mod schedulers;
mod sparse_attention;
mod tensors;
mod text_encoder;
mod text_preprocessing;
mod tokenizer;
mod vae;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use device::TestDevice;
use report::Report;

type Recognise = fn(&Path) -> bool;

enum Check {
    /// Runs on the chosen device.
    OnDevice(fn(&Path, &TestDevice, &mut Report) -> Result<()>),
    /// Plain Rust code, the same whatever the device.
    Plain(fn(&Path, &mut Report) -> Result<()>),
}

const SETS: &[(Recognise, Check)] = &[
    (dit::recognises, Check::OnDevice(dit::check)),
    (vae::recognises, Check::OnDevice(vae::check)),
    (text_encoder::recognises, Check::OnDevice(text_encoder::check)),
    (sparse_attention::recognises, Check::OnDevice(sparse_attention::check)),
    (end_to_end::recognises, Check::OnDevice(end_to_end::check)),
    (rotary::recognises, Check::Plain(rotary::check)),
    (schedulers::recognises, Check::Plain(schedulers::check)),
    (tokenizer::recognises, Check::Plain(tokenizer::check)),
    (text_preprocessing::recognises, Check::Plain(text_preprocessing::check)),
    (pickle::recognises, Check::Plain(pickle::check)),
];

fn main() -> ExitCode {
    let device = match TestDevice::from_environment() {
        Ok(device) => device,
        Err(error) => {
            println!("FAIL  device: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let compute = &device.compute;
    println!("parity on {} in {}, {} kernels", compute.name, compute.precision, compute.kernel_tier());
    let mut report = Report::default();
    let mut roots = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"))];
    roots.extend(
        std::env::var_os("TILEREEL_FIXTURES").iter().flat_map(std::env::split_paths).filter(|p| !p.as_os_str().is_empty()),
    );
    for root in &roots {
        walk(root, &device, &mut report);
    }
    if report.passed == 0 {
        report.exact("parity", "all", "cases", false, "nothing was compared");
    }
    println!("\n{} passed, {} failed", report.passed, report.failed);
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
                let before = report.passed + report.failed;
                let started = Instant::now();
                let outcome = match check {
                    Check::OnDevice(check) => check(folder, device, report),
                    Check::Plain(check) => check(folder, report),
                };
                println!("      {name}: {:.1} s", started.elapsed().as_secs_f64());
                if let Err(error) = outcome {
                    report.exact(&name, "set", "check", false, format!("{error:#}"));
                }
                if report.passed + report.failed == before {
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
