//! Which set of kernels runs: vectors of the CPU, plain shaders, or shaders on matrices.
//!
//! A device gets the matrix tier when it is opened in f16 and reports what the shaders need; the numeric self-test then runs
//! on that tier, and if one line fails, the tier is left out and the reason is kept. Only the kernels that clips are made with
//! decide; those of training are tested when a training begins. [`VARIABLE`] set to `plain` leaves the tier out too.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock};

use burn::tensor::{DType, Device};

use super::device::{AdapterReport, ComputeDevice, Precision};
use super::kernels::cpu::lanes::InstructionSet;
use super::self_test::{self, Part};

/// The environment variable that keeps the matrix tier off with the value `plain`.
pub const VARIABLE: &str = "TILEREEL_KERNEL_TIER";
/// What the shaders of the matrix tier take at most: all that NVIDIA's driver gives a workgroup.
pub const MATRIX_WORKGROUP_BYTES: u32 = 49_152;
/// Lanes of a subgroup that the shaders count on.
const SUBGROUP: u32 = 32;
/// Invocations of the largest workgroup.
const MATRIX_INVOCATIONS: u32 = 512;
/// The one size of matrices that the shaders are written for, as adapters are described.
const MATRIX: &str = "16x16x16 F16 -> F32";

/// What runs on a device, and why nothing faster does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelTier {
    Cpu,
    Plain { reason: Box<str> },
    Matrix,
}

impl KernelTier {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cpu => InstructionSet::best().name(),
            Self::Plain { .. } => "plain",
            Self::Matrix => "matrix",
        }
    }

    /// Why this tier, in words for the person.
    pub fn reason(&self) -> &str {
        match self {
            Self::Cpu => "the widest vectors of this processor",
            Self::Plain { reason } => reason,
            Self::Matrix => {
                "the adapter multiplies 16x16 matrices of f16 with f32 sums, and computed the self-test rightly with them"
            }
        }
    }
}

/// The shaders that one operation runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShaderTier {
    Plain,
    Matrix,
}

/// Devices on which the matrix tier runs.
static MATRIX_DEVICES: RwLock<Vec<Device>> = RwLock::new(Vec::new());

impl ShaderTier {
    /// The tier for tensors of a type on a device.
    pub fn of(device: &Device, dtype: DType) -> Self {
        let devices = || MATRIX_DEVICES.read().unwrap_or_else(PoisonError::into_inner);
        if dtype == DType::F16 && devices().contains(device) { Self::Matrix } else { Self::Plain }
    }
}

/// What an adapter lacks for the matrix tier.
fn lacking(adapter: &AdapterReport) -> Option<String> {
    if !adapter.half_floats {
        return Some("the adapter has no 16-bit floats, which matrices need".into());
    }
    if !adapter.cooperative_matrices.iter().any(|size| size == MATRIX) {
        return Some("the adapter's driver offers no 16x16 matrices of f16 with f32 sums".into());
    }
    if adapter.subgroup_sizes != [SUBGROUP; 2] {
        let [least, most] = adapter.subgroup_sizes;
        return Some(format!(
            "the adapter's subgroups have {least} to {most} lanes, and the matrix kernels are written for {SUBGROUP}"
        ));
    }
    if adapter.workgroup_memory_bytes < MATRIX_WORKGROUP_BYTES || adapter.workgroup_invocations < MATRIX_INVOCATIONS {
        return Some(format!(
            "the adapter gives a workgroup less than {MATRIX_WORKGROUP_BYTES} bytes or {MATRIX_INVOCATIONS} invocations"
        ));
    }
    None
}

/// The tier of a device that was just opened; runs the self-test where there is a choice. Decided once a process for an adapter.
pub(super) fn decide(device: &ComputeDevice) -> KernelTier {
    static DECIDED: Mutex<Option<HashMap<usize, KernelTier>>> = Mutex::new(None);
    let Some(adapter) = &device.adapter else { return KernelTier::Cpu };
    if device.precision == Precision::F32 {
        return KernelTier::Plain { reason: "matrices multiply f16, and the precision is f32".into() };
    }
    let mut decided = DECIDED.lock().unwrap_or_else(PoisonError::into_inner);
    let decided = decided.get_or_insert_default();
    if let Some(tier) = decided.get(&adapter.index) {
        let mut devices = MATRIX_DEVICES.write().unwrap_or_else(PoisonError::into_inner);
        if *tier == KernelTier::Matrix && !devices.contains(&device.device) {
            // The adapter's device was lost, and this is its next one.
            devices.push(device.device.clone());
        }
        return tier.clone();
    }
    match try_matrices(device, adapter) {
        Some(tier) => decided.entry(adapter.index).insert_entry(tier).get().clone(),
        None => KernelTier::Plain { reason: "the device was lost in the matrix kernels' self-test".into() },
    }
}

/// None if the device was lost meanwhile, which says nothing about its kernels.
fn try_matrices(device: &ComputeDevice, adapter: &AdapterReport) -> Option<KernelTier> {
    if std::env::var(VARIABLE).is_ok_and(|tier| tier == "plain") {
        return Some(KernelTier::Plain { reason: format!("{VARIABLE} is plain").into() });
    }
    if let Some(reason) = lacking(adapter) {
        return Some(KernelTier::Plain { reason: reason.into() });
    }
    let devices = || MATRIX_DEVICES.write().unwrap_or_else(PoisonError::into_inner);
    devices().push(device.device.clone());
    let result = self_test::run(&ComputeDevice { tier: KernelTier::Matrix, ..device.clone() }, Part::Forward);
    let Some(line) = result.failed() else { return Some(KernelTier::Matrix) };
    devices().retain(|known| *known != device.device);
    if device.loss().is_some() {
        return None;
    }
    let reason = format!("the matrix kernels failed their self-test ({}: {})", line.kernel, line.fault());
    Some(KernelTier::Plain { reason: reason.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capable() -> AdapterReport {
        AdapterReport {
            index: 0,
            name: "a card".into(),
            backend: "Vulkan".into(),
            driver: "a driver".into(),
            kind: "DiscreteGpu".into(),
            software: false,
            half_floats: true,
            subgroups: true,
            subgroup_sizes: [32, 32],
            timestamps: true,
            cooperative_matrices: vec!["8x8x8 F16 -> F32".into(), MATRIX.into()],
            largest_binding_bytes: 1 << 31,
            workgroup_memory_bytes: 49_152,
            workgroup_invocations: 1024,
            memory_bytes: None,
        }
    }

    #[test]
    fn everything_that_the_shaders_need_is_asked_for() {
        assert_eq!(lacking(&capable()), None);
        let without: [fn(&mut AdapterReport); 6] = [
            |adapter| adapter.half_floats = false,
            |adapter| adapter.cooperative_matrices.truncate(1),
            |adapter| adapter.subgroup_sizes = [8, 32],
            |adapter| adapter.subgroup_sizes = [32, 64],
            |adapter| adapter.workgroup_memory_bytes = 32_768,
            |adapter| adapter.workgroup_invocations = 256,
        ];
        for take in without {
            let mut adapter = capable();
            take(&mut adapter);
            assert!(lacking(&adapter).is_some(), "{adapter:?}");
        }
    }
}
