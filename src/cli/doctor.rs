//! `tilereel doctor`: the devices, the one that runs the model and why, and whether it computes rightly.

use clap::Args;
use serde_json::json;

use super::Status;
use super::settings::DeviceArguments;
use crate::generate::GenerateError;
use crate::gpu::device::{self, AdapterReport, ComputeDevice};
use crate::gpu::self_test::{self, Part, SelfTest, SelfTestLine};
use crate::gpu::tier::KernelTier;
use crate::studio::Engine;
use crate::studio::words::bytes;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    device: DeviceArguments,
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let (memory, adapters) = (memory(), device::adapters());
    if !arguments.json {
        print_machine(memory, &adapters);
    }
    self_test::test_anew();
    let device = arguments.device.open()?;
    if !arguments.json {
        print_device(&device);
    }
    let engine = Engine::start()?;
    let mut tests = Vec::new();
    for (part, what, advice) in PARTS {
        let on_subgroups = matches!(device.tier, KernelTier::Subgroup { .. });
        let advice = if part == Part::Training && on_subgroups { ON_SUBGROUPS } else { advice };
        let device = device.clone();
        let ticket = engine.submit(move |_, _| Ok::<_, GenerateError>(self_test::run(&device, part)));
        let result = loop {
            if let Some(result) = ticket.result(std::time::Duration::from_secs(1)) {
                break result?;
            }
        };
        if !arguments.json {
            print_test(&result, what, advice);
        }
        tests.push((what, advice, result));
    }
    if arguments.json {
        say!("{:#}", report_json(memory, &adapters, &device, &tests));
    }
    Ok(if tests.iter().all(|(.., result)| result.passed) { Status::Done } else { Status::Differs })
}

fn print_machine(memory: Option<(u64, u64)>, adapters: &[AdapterReport]) {
    say!("{} {}, {} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    match memory {
        Some((free, total)) => {
            say!("memory     {} free of {}", bytes(free), bytes(total))
        }
        None => say!("memory     this system does not say how much there is"),
    }
    say!("adapters");
    adapters.iter().for_each(print_adapter);
    if adapters.is_empty() {
        say!("  none");
    }
}

fn print_device(device: &ComputeDevice) {
    say!("chosen     {}, because {}", device.name, device.reason);
    say!("precision  {}: weights and matrix operands; sums, norms and softmax are f32", device.precision);
    say!("kernels    {} tier: {}", device.kernel_tier(), device.tier_reason());
}

fn print_test(result: &SelfTest, what: &str, advice: &str) {
    let verdict = if result.passed { "passed".to_owned() } else { format!("FAILED: {advice}") };
    say!("self-test of what {what} needs: {verdict}");
    result.lines.iter().for_each(print_line);
}

/// All of it at once. `tests` are what each was for, what to do if it failed, and what came of it.
fn report_json(
    memory: Option<(u64, u64)>,
    adapters: &[AdapterReport],
    device: &ComputeDevice,
    tests: &[(&str, &str, SelfTest)],
) -> serde_json::Value {
    // An error that is not finite becomes null: the kernel did not run, or gave no numbers.
    let line = |line: &SelfTestLine| {
        json!({
            "kernel": line.kernel, "passed": line.ok, "error": line.error, "limit": line.limit, "failure": line.failure,
        })
    };
    let test = |(what, advice, result): &(&str, &str, SelfTest)| {
        json!({
            "of": what, "passed": result.passed, "advice": (!result.passed).then_some(advice),
            "kernels": result.lines.iter().map(line).collect::<Vec<_>>(),
        })
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"), "system": std::env::consts::OS, "architecture": std::env::consts::ARCH,
        "memory_bytes": memory.map(|(_, total)| total), "free_memory_bytes": memory.map(|(free, _)| free),
        "adapters": adapters.iter().map(adapter_json).collect::<Vec<_>>(),
        "device": device.name, "reason": device.reason, "precision": device.precision,
        "kernel_tier": device.kernel_tier(), "tier_reason": device.tier_reason(),
        "self_tests": tests.iter().map(test).collect::<Vec<_>>(),
    })
}

fn adapter_json(adapter: &AdapterReport) -> serde_json::Value {
    json!({
        "index": adapter.index, "name": adapter.name, "backend": adapter.backend, "driver": adapter.driver, "kind": adapter.kind,
        "software": adapter.software, "half_floats": adapter.half_floats, "subgroups": adapter.subgroups,
        "subgroup_sizes": adapter.subgroup_sizes, "timestamps": adapter.timestamps,
        "cooperative_matrices": adapter.cooperative_matrices, "largest_binding_bytes": adapter.largest_binding_bytes,
        "workgroup_memory_bytes": adapter.workgroup_memory_bytes, "workgroup_invocations": adapter.workgroup_invocations,
        "memory_bytes": adapter.memory_bytes,
    })
}

/// With what each is for, and what to do where it fails.
const PARTS: [(Part, &str, &str); 2] = [
    (Part::Forward, "making clips", "do not trust clips from this device"),
    (Part::Training, "training", "clips are right, but do not train on this device with these kernels"),
];

/// What a training does by itself where its part fails on subgroups.
const ON_SUBGROUPS: &str = "clips are right, and a training takes the plain tier's gradients if those are right";

fn print_line(line: &SelfTestLine) {
    let verdict = if line.ok { "ok" } else { "FAILED" };
    match &line.failure {
        Some(failure) => say!("  {:<54} {verdict}: {failure}", line.kernel),
        None => say!("  {:<54} {verdict}, error {:.1e} of at most {:.1e}", line.kernel, line.error, line.limit),
    }
}

/// Free and whole memory of the machine in bytes.
fn memory() -> Option<(u64, u64)> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    Some((system.available_memory(), system.total_memory()))
}

fn print_adapter(adapter: &AdapterReport) {
    let software = if adapter.software { ", software: used only when named" } else { "" };
    say!("  {} = {} ({}, {}){software}", adapter.index, adapter.name, adapter.backend, adapter.kind);
    say!("      driver {}", adapter.driver);
    if let Some(memory) = adapter.memory_bytes {
        say!("      memory {}", bytes(memory));
    }
    let yes = |has: bool| if has { "yes" } else { "no" };
    say!(
        "      f16 {}, subgroups {}, timestamps {}, cooperative matrices {}",
        yes(adapter.half_floats),
        yes(adapter.subgroups),
        yes(adapter.timestamps),
        if adapter.cooperative_matrices.is_empty() { "no".to_owned() } else { adapter.cooperative_matrices.join(", ") }
    );
    say!(
        "      largest binding {}, workgroup memory {} bytes, {} invocations a workgroup",
        bytes(adapter.largest_binding_bytes),
        adapter.workgroup_memory_bytes,
        adapter.workgroup_invocations
    );
}
