//! Which set of kernels runs: vectors of the CPU, plain shaders, shaders on subgroups, or shaders on matrices.
//!
//! A device that is opened gets the fastest tier that it reports what is needed for, and whose numeric self-test it passes:
//! matrices (in f16), else subgroups, else plain. The reasons against the faster ones are kept. Only the kernels that clips are
//! made with decide; those of training are tested when a training begins, and gradients of the subgroup tier that fail leave
//! theirs to the plain tier ([`take_plain_gradients`]). [`VARIABLE`] leaves tiers out.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock};

use burn::tensor::{DType, Device};

use super::device::{AdapterReport, ComputeDevice, Precision};
use super::kernels::cpu::lanes::InstructionSet;
use super::self_test::{self, Part};

/// The environment variable that names the fastest tier that may run: `plain`, `subgroup` or `matrix`.
pub const VARIABLE: &str = "TILEREEL_KERNEL_TIER";
/// What the shaders of the matrix tier take at most: all that NVIDIA's driver gives a workgroup.
pub const MATRIX_WORKGROUP_BYTES: u32 = 49_152;
/// What the shaders of the other tiers take at most: what DX12 and Metal guarantee.
pub const WORKGROUP_BYTES: u32 = 32_768;
/// Lanes of a subgroup that the shaders on matrices count on.
const MATRIX_SUBGROUP: u32 = 32;
/// The fewest lanes of a subgroup that the shaders on subgroups count on: a quad.
const FEWEST_LANES: u32 = 4;
/// Invocations of the largest workgroup.
const MATRIX_INVOCATIONS: u32 = 512;
const SUBGROUP_INVOCATIONS: u32 = 256;
/// The one size of matrices that the shaders are written for, as adapters are described.
const MATRIX: &str = "16x16x16 F16 -> F32";

/// What runs on a device, and why nothing faster does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelTier {
    Cpu,
    Plain { reason: Box<str> },
    Subgroup { reason: Box<str> },
    Matrix,
}

impl KernelTier {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cpu => InstructionSet::best().name(),
            Self::Plain { .. } => "plain",
            Self::Subgroup { .. } => "subgroup",
            Self::Matrix => "matrix",
        }
    }

    /// Why this tier, in words for the person.
    pub fn reason(&self) -> &str {
        match self {
            Self::Cpu => "the widest vectors of this processor",
            Self::Plain { reason } | Self::Subgroup { reason } => reason,
            Self::Matrix => {
                "the adapter multiplies 16x16 matrices of f16 with f32 sums, and computed the self-test rightly with them"
            }
        }
    }

    /// None on the CPU, which has no shaders.
    pub fn shaders(&self) -> Option<ShaderTier> {
        match self {
            Self::Cpu => None,
            Self::Plain { .. } => Some(ShaderTier::Plain),
            Self::Subgroup { .. } => Some(ShaderTier::Subgroup),
            Self::Matrix => Some(ShaderTier::Matrix),
        }
    }
}

/// The shaders that one operation runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShaderTier {
    Plain,
    /// The subgroup tier with the gradients of the plain one, because its own failed their self-test.
    SubgroupForward,
    /// Quads of a subgroup, and sums in registers.
    Subgroup,
    Matrix,
}

/// Devices on which a faster tier than the plain one runs, each with the type of the tensors that it runs for.
static FASTER: RwLock<Vec<(Device, DType, ShaderTier)>> = RwLock::new(Vec::new());

thread_local! {
    static FORCED: Cell<Option<(ShaderTier, DType)>> = const { Cell::new(None) };
}

impl ShaderTier {
    /// The tier for tensors of a type on a device.
    pub fn of(device: &Device, dtype: DType) -> Self {
        if let Some((tier, forced)) = FORCED.get() {
            return if dtype == forced { tier } else { Self::Plain };
        }
        let faster = FASTER.read().unwrap_or_else(PoisonError::into_inner);
        let found = faster.iter().find(|(known, of, _)| *of == dtype && known == device);
        found.map_or(Self::Plain, |(_, _, tier)| *tier)
    }
}

/// Has all that `run` launches from this thread on adapters run on the tier of `device`, whichever was chosen when it was opened:
/// a self-test tries a tier so, and tests look at slower ones.
pub fn on_tier_of<T>(device: &ComputeDevice, run: impl FnOnce() -> T) -> T {
    /// Also after a panic.
    struct Back(Option<(ShaderTier, DType)>);
    impl Drop for Back {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let Some(tier) = device.tier.shaders() else { return run() };
    let _back = Back(FORCED.replace(Some((tier, device.precision.dtype().into()))));
    run()
}

/// What an adapter lacks for the matrix tier.
fn lacking_for_matrices(adapter: &AdapterReport) -> Option<String> {
    if !adapter.half_floats {
        return Some("the adapter has no 16-bit floats, which matrices need".into());
    }
    if !adapter.cooperative_matrices.iter().any(|size| size == MATRIX) {
        return Some("the adapter's driver offers no 16x16 matrices of f16 with f32 sums".into());
    }
    if adapter.subgroup_sizes != [MATRIX_SUBGROUP; 2] {
        let [least, most] = adapter.subgroup_sizes;
        return Some(format!(
            "the adapter's subgroups have {least} to {most} lanes, and the matrix kernels are written for {MATRIX_SUBGROUP}"
        ));
    }
    if adapter.workgroup_memory_bytes < MATRIX_WORKGROUP_BYTES || adapter.workgroup_invocations < MATRIX_INVOCATIONS {
        return Some(format!(
            "the adapter gives a workgroup less than {MATRIX_WORKGROUP_BYTES} bytes or {MATRIX_INVOCATIONS} invocations"
        ));
    }
    None
}

/// What an adapter lacks for the subgroup tier.
fn lacking_for_subgroups(adapter: &AdapterReport) -> Option<String> {
    let [least, _] = adapter.subgroup_sizes;
    if !adapter.subgroups {
        return Some("the adapter's driver offers no subgroups".into());
    }
    if least < FEWEST_LANES {
        return Some(format!("the adapter's subgroups have {least} lanes, and the kernels need {FEWEST_LANES}"));
    }
    if adapter.workgroup_memory_bytes < WORKGROUP_BYTES || adapter.workgroup_invocations < SUBGROUP_INVOCATIONS {
        return Some(format!(
            "the adapter gives a workgroup less than {WORKGROUP_BYTES} bytes or {SUBGROUP_INVOCATIONS} invocations"
        ));
    }
    None
}

/// The tier of a device that was just opened; runs the self-test where there is a choice. Decided once a process for an adapter
/// and a precision.
pub(super) fn decide(device: &ComputeDevice) -> KernelTier {
    static DECIDED: Mutex<Option<HashMap<(usize, Precision), KernelTier>>> = Mutex::new(None);
    let Some(adapter) = &device.adapter else { return KernelTier::Cpu };
    let mut decided = DECIDED.lock().unwrap_or_else(PoisonError::into_inner);
    let decided = decided.get_or_insert_default();
    let key = (adapter.index, device.precision);
    let tier = match decided.get(&key) {
        Some(tier) => tier.clone(),
        None => match choose(device, adapter) {
            Some(tier) => decided.entry(key).insert_entry(tier).get().clone(),
            None => return KernelTier::Plain { reason: "the device was lost in the kernels' self-test".into() },
        },
    };
    if let Some(shaders @ (ShaderTier::Subgroup | ShaderTier::Matrix)) = tier.shaders() {
        let entry = (device.device.clone(), device.precision.dtype().into(), shaders);
        let mut faster = FASTER.write().unwrap_or_else(PoisonError::into_inner);
        // An adapter whose device was lost comes again with its next one.
        if !faster.iter().any(|(known, of, _)| (known, of) == (&entry.0, &entry.1)) {
            faster.push(entry);
        }
    }
    tier
}

/// Has gradients on a device of the subgroup tier run on the plain one, from now on in this process.
pub fn take_plain_gradients(device: &ComputeDevice) {
    let dtype: DType = device.precision.dtype().into();
    let mut faster = FASTER.write().unwrap_or_else(PoisonError::into_inner);
    let of_device = faster.iter_mut().filter(|(known, of, _)| *of == dtype && *known == device.device);
    for (_, _, tier) in of_device.filter(|(_, _, tier)| *tier == ShaderTier::Subgroup) {
        *tier = ShaderTier::SubgroupForward;
    }
}

/// None if the device was lost meanwhile, which says nothing about its kernels.
fn choose(device: &ComputeDevice, adapter: &AdapterReport) -> Option<KernelTier> {
    let wish = std::env::var(VARIABLE).unwrap_or_default();
    if !["", "plain", "subgroup", "matrix"].contains(&wish.as_str()) {
        log::warn!("{VARIABLE} is {wish}, which is no tier: use plain, subgroup or matrix");
    }
    if wish == "plain" {
        return Some(KernelTier::Plain { reason: format!("{VARIABLE} is plain").into() });
    }
    let against_matrices = if wish == "subgroup" {
        format!("{VARIABLE} is subgroup")
    } else if device.precision == Precision::F32 {
        "matrices multiply f16, and the precision is f32".into()
    } else if let Some(reason) = lacking_for_matrices(adapter) {
        reason
    } else {
        match failure(device, KernelTier::Matrix)? {
            None => return Some(KernelTier::Matrix),
            Some(failure) => format!("the matrix kernels failed their self-test ({failure}; `tilereel doctor` tests again)"),
        }
    };
    let against_subgroups = match lacking_for_subgroups(adapter) {
        Some(reason) => reason,
        None => match failure(device, KernelTier::Subgroup { reason: "it is tried".into() })? {
            None => {
                let reason = format!(
                    "the adapter computed the self-test rightly on subgroups; not on matrices, because {against_matrices}"
                );
                return Some(KernelTier::Subgroup { reason: reason.into() });
            }
            Some(failure) => format!("the subgroup kernels failed their self-test ({failure}; `tilereel doctor` tests again)"),
        },
    };
    Some(KernelTier::Plain { reason: format!("{against_matrices}, and {against_subgroups}").into() })
}

/// What fails on a tier, if something does. None if the device was lost meanwhile.
fn failure(device: &ComputeDevice, tier: KernelTier) -> Option<Option<String>> {
    let result = self_test::run(&ComputeDevice { tier, ..device.clone() }, Part::Forward);
    let Some(line) = result.failed() else { return Some(None) };
    device.loss().is_none().then(|| Some(format!("{}: {}", line.kernel, line.fault())))
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
        assert_eq!(lacking_for_matrices(&capable()), None);
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
            assert!(lacking_for_matrices(&adapter).is_some(), "{adapter:?}");
        }
    }

    #[test]
    fn subgroups_need_whole_quads_and_little_memory() {
        let modest = AdapterReport {
            half_floats: false,
            subgroup_sizes: [4, 128],
            cooperative_matrices: Vec::new(),
            workgroup_memory_bytes: WORKGROUP_BYTES,
            workgroup_invocations: 256,
            ..capable()
        };
        assert_eq!(lacking_for_subgroups(&modest), None);
        let without: [fn(&mut AdapterReport); 4] = [
            |adapter| adapter.subgroups = false,
            |adapter| adapter.subgroup_sizes = [1, 32],
            |adapter| adapter.workgroup_memory_bytes = 16_384,
            |adapter| adapter.workgroup_invocations = 128,
        ];
        for take in without {
            let mut adapter = modest.clone();
            take(&mut adapter);
            assert!(lacking_for_subgroups(&adapter).is_some(), "{adapter:?}");
        }
    }

    #[test]
    fn gradients_of_one_device_and_type_become_plain() {
        let cpu = crate::gpu::device::open(&crate::gpu::device::DeviceChoice::Cpu, None).unwrap();
        // The CPU stores f32, so nothing else asks for its tier in f16.
        let device = ComputeDevice { precision: Precision::F16, ..cpu.clone() };
        let of = |dtype| ShaderTier::of(&cpu.device, dtype);
        FASTER.write().unwrap().push((cpu.device.clone(), DType::F16, ShaderTier::Subgroup));
        assert_eq!(of(DType::F16), ShaderTier::Subgroup);
        take_plain_gradients(&cpu);
        assert_eq!([DType::F16, DType::F32].map(of), [ShaderTier::Subgroup, ShaderTier::Plain]);
        take_plain_gradients(&device);
        assert_eq!([DType::F16, DType::F32].map(of), [ShaderTier::SubgroupForward, ShaderTier::Plain]);
        FASTER.write().unwrap().retain(|(known, _, _)| *known != cpu.device);
    }

    #[test]
    fn a_tier_is_forced_for_its_type_and_not_after_a_panic() {
        let cpu = crate::gpu::device::open(&crate::gpu::device::DeviceChoice::Cpu, None).unwrap();
        let device = ComputeDevice { tier: KernelTier::Subgroup { reason: "it is tried".into() }, ..cpu.clone() };
        let of = |dtype| ShaderTier::of(&cpu.device, dtype);
        let forced = on_tier_of(&device, || [DType::F32, DType::F16].map(of));
        assert_eq!(forced, [ShaderTier::Subgroup, ShaderTier::Plain]);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| on_tier_of(&device, || panic!("it fails")))).is_err());
        assert_eq!(of(DType::F32), ShaderTier::Plain);
        assert_eq!(on_tier_of(&cpu, || of(DType::F32)), ShaderTier::Plain);
    }
}
