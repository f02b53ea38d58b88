//! Which machine part runs the model: the only place where a device is made or adopted.
//!
//! There are two kinds. A hardware adapter runs on wgpu: this module makes the wgpu device with an explicit feature list and
//! the adapter's own limits, and burn adopts it, once a process. Without such an adapter the model runs on `flex`, burn's pure
//! Rust backend, which is 6 to 16 times faster than a software adapter; so a software adapter is taken only when it is named.
//!
//! burn never gives up a device that it has adopted. One that was lost (a driver's reset, an adapter that was unplugged) is left
//! behind, and the same adapter gets a new one under another identity: [`reopen`].

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use burn::tensor::wgpu::{WgpuSetup, wgpu};
use burn::tensor::{Device, FloatDType};
use serde::{Deserialize, Serialize};

use super::tier::{self, KernelTier};

/// What the person asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best hardware adapter, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// An adapter by its number in `tilereel doctor`.
    Index(usize),
    /// An adapter whose name contains this text, upper and lower case alike.
    Name(String),
    /// Numbers, or the CPU, that share the work; the first one does what is not shared.
    Several(Vec<DeviceChoice>),
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        Ok(match text.trim() {
            "" => return Err(DeviceError::EmptyChoice),
            "auto" => Self::Auto,
            other => Self::simple(other).unwrap_or_else(|| {
                // A name may have commas of its own.
                let several: Option<Vec<_>> = other.split(',').map(|part| Self::simple(part.trim())).collect();
                several.map_or_else(|| Self::Name(other.to_owned()), Self::Several)
            }),
        })
    }
}

impl DeviceChoice {
    /// The CPU, or an adapter's number.
    fn simple(text: &str) -> Option<Self> {
        if text == "cpu" { Some(Self::Cpu) } else { text.parse().ok().map(Self::Index) }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Index(index) => write!(f, "{index}"),
            Self::Name(name) => f.write_str(name),
            Self::Several(choices) => {
                let words: Vec<_> = choices.iter().map(ToString::to_string).collect();
                f.write_str(&words.join(","))
            }
        }
    }
}

/// How weights and matrix operands are stored. Sums, norms and the residual stream are f32 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    F32,
    F16,
}

impl Precision {
    /// Of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::F16 => FloatDType::F16,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        })
    }
}

/// Where a network's weights are while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residency {
    /// On the device if they fit there with room to spare.
    #[default]
    Auto,
    /// On the device.
    All,
    /// On disk; a layer at a time passes through the device.
    Stream,
}

/// What one adapter reports of itself.
#[derive(Clone, Debug)]
pub struct AdapterReport {
    pub index: usize,
    pub name: String,
    pub backend: String,
    pub driver: String,
    pub kind: String,
    /// A rasteriser on the CPU, such as lavapipe or WARP.
    pub software: bool,
    pub half_floats: bool,
    pub subgroups: bool,
    /// The fewest and the most lanes that a subgroup may have.
    pub subgroup_sizes: [u32; 2],
    pub timestamps: bool,
    pub cooperative_matrices: Vec<String>,
    pub largest_binding_bytes: u64,
    pub workgroup_memory_bytes: u32,
    pub workgroup_invocations: u32,
    /// The device's own memory, where its interface tells it.
    pub memory_bytes: Option<u64>,
}

#[cfg(test)]
impl AdapterReport {
    /// A GPU that is not there, for tests of what follows from a report.
    pub fn stand_in(index: usize, name: &str) -> Self {
        Self {
            index,
            name: name.to_owned(),
            backend: "Vulkan".to_owned(),
            driver: String::new(),
            kind: "DiscreteGpu".to_owned(),
            software: false,
            half_floats: true,
            subgroups: true,
            subgroup_sizes: [32, 32],
            timestamps: true,
            cooperative_matrices: Vec::new(),
            largest_binding_bytes: 1 << 31,
            workgroup_memory_bytes: 48 << 10,
            workgroup_invocations: 1024,
            memory_bytes: Some(24 << 30),
        }
    }
}

/// A device that is ready to run the model.
#[derive(Clone, Debug)]
pub struct ComputeDevice {
    pub device: Device,
    pub name: String,
    /// None on the CPU.
    pub adapter: Option<Box<AdapterReport>>,
    pub precision: Precision,
    /// Why this device was taken, in words for the person.
    pub reason: String,
    pub tier: KernelTier,
    /// Where weights of large networks are to be; it changes no result.
    pub residency: Residency,
    /// Which of several devices of the same adapter it is, counted from 0.
    pub instance: usize,
    /// Devices that take a share of the transformer's work.
    pub others: Vec<ComputeDevice>,
}

impl ComputeDevice {
    #[must_use]
    pub fn with_residency(self, residency: Residency) -> Self {
        let others = self.others.into_iter().map(|other| other.with_residency(residency)).collect();
        Self { residency, others, ..self }
    }

    /// The same adapters, and the devices that stand for them now, with numbers stored alike.
    pub fn is_like(&self, other: &Self) -> bool {
        let same = self.device == other.device && self.precision == other.precision && self.residency == other.residency;
        let others = self.others.iter().map(|device| &device.device).eq(other.others.iter().map(|device| &device.device));
        same && others
    }

    /// Its name, and how many others share the work.
    pub fn name_with_others(&self) -> String {
        match self.others.len() {
            0 => self.name.clone(),
            1 => format!("{} and {}", self.name, self.others[0].name),
            count if self.others.iter().all(|other| other.name == self.name) => format!("{} and {count} more", self.name),
            count => format!("{} and {count} others", self.name),
        }
    }

    pub fn is_cpu(&self) -> bool {
        self.adapter.is_none()
    }

    /// The name of the kernel tier that runs.
    pub fn kernel_tier(&self) -> &'static str {
        self.tier.name()
    }

    /// Why that tier, in words for the person.
    pub fn tier_reason(&self) -> &str {
        self.tier.reason()
    }

    /// The same adapter with the device that stands for it now, which is another one after a loss.
    ///
    /// # Errors
    /// The adapter gives no device any more.
    pub fn current(&self) -> Result<Self, DeviceError> {
        // Another device that is gone is no reason to stop this one.
        let others = self.others.iter().filter_map(|other| other.current().ok()).collect();
        let unchanged = Self { others, ..self.clone() };
        let Some(report) = &self.adapter else { return Ok(unchanged) };
        let Some((adapter, _)) = adapters_once().list.get(report.index) else { return Ok(unchanged) };
        let device = adopt(adapter, report, self.instance)?;
        if device == self.device {
            return Ok(unchanged);
        }
        let mut current = Self { device, ..unchanged };
        current.tier = tier::decide(&current);
        Ok(current)
    }

    /// The number of its adapter; None on the CPU.
    pub fn place(&self) -> Option<usize> {
        self.adapter.as_ref().map(|adapter| adapter.index)
    }

    /// Its place among the adopted devices; None on the CPU.
    fn adopted_place(&self) -> Option<Place> {
        Some((self.place()?, self.instance))
    }

    /// The wgpu device behind it, as long as that was not given up; None on the CPU.
    pub fn wgpu_device(&self) -> Option<wgpu::Device> {
        Some(self.wgpu_queue()?.0)
    }

    /// [`Self::wgpu_device`] with the queue that all its work goes through.
    pub fn wgpu_queue(&self) -> Option<(wgpu::Device, wgpu::Queue)> {
        let place = self.adopted_place()?;
        let adopted = adopted();
        let own = adopted.get(&place).filter(|adopted| adopted.device == self.device)?;
        Some((own.wgpu.clone(), own.queue.clone()))
    }

    /// Why the device is lost, if it is. It waits for all work on the device.
    pub fn loss(&self) -> Option<String> {
        self.adapter.as_ref()?;
        let (device, wgpu) = (self.device.clone(), self.wgpu_device());
        let (send, answer) = channel();
        // A driver that hangs must not hang who asks.
        let asking = thread::Builder::new().name("tilereel device check".into()).spawn(move || {
            let reason = (0..LOOKS).find_map(|look| {
                if look > 0 {
                    // wgpu tells a loss behind the end of the work that was lost with it.
                    thread::sleep(BETWEEN_LOOKS);
                }
                if let Some(wgpu) = &wgpu {
                    let _ = wgpu.poll(wgpu::PollType::Poll);
                }
                let synced = catch_unwind(AssertUnwindSafe(|| device.sync()));
                synced.ok()?.err().filter(|error| error.is_device_poisoned()).map(|error| one_line(error.reason()))
            });
            let _ = send.send(reason);
        });
        match asking {
            Ok(_) => answer.recv_timeout(ANSWERS_WITHIN).unwrap_or_else(|_| Some("it does not answer".into())),
            Err(_) => None,
        }
    }
}

/// How often, and how far apart, a device is asked whether it was lost.
const LOOKS: usize = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// A driver that resets its adapter needs a moment.
const OPENINGS: usize = 4;
const BETWEEN_OPENINGS: Duration = Duration::from_millis(700);

/// A driver's words without what a list of causes puts around them.
fn one_line(reason: &str) -> String {
    let line = reason.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    line.trim_end_matches([':', '.', ' ']).to_owned()
}

/// Everything that can go wrong while a device is chosen and opened.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("The device is empty. Use auto, cpu, an adapter's number or a part of its name; `tilereel doctor` lists them.")]
    EmptyChoice,
    #[error("There is no adapter {wanted}. Found: {found}. Use `--device cpu`, or a number or name from that list.")]
    NoSuchAdapter { wanted: String, found: String },
    #[error("The adapter {name} refused to open a device: {reason}. Update its driver, or use `--device cpu`.")]
    Refused { name: String, reason: String },
    #[error("{name}: there are no 16-bit floats on this device. Use `--precision f32`.")]
    NoHalfFloats { name: String },
}

struct Adapters {
    instance: wgpu::Instance,
    list: Vec<(wgpu::Adapter, AdapterReport)>,
}

fn adapters_once() -> &'static Adapters {
    static ADAPTERS: OnceLock<Adapters> = OnceLock::new();
    ADAPTERS.get_or_init(|| {
        let backends = wgpu::Backends::PRIMARY;
        let instance =
            wgpu::Instance::new(wgpu::InstanceDescriptor { backends, ..wgpu::InstanceDescriptor::new_without_display_handle() });
        let list = pollster::block_on(instance.enumerate_adapters(backends))
            .into_iter()
            .enumerate()
            .map(|(index, adapter)| {
                let report = describe(index, &adapter);
                (adapter, report)
            })
            .collect();
        Adapters { instance, list }
    })
}

/// The size of the device's own memory. wgpu does not tell it; Vulkan does.
#[cfg(not(target_vendor = "apple"))]
fn device_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    // SAFETY: the adapter behind is only read, and lives as long as `adapter`.
    let vulkan = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = vulkan.shared_instance().raw_instance();
    // SAFETY: the physical device is one of this instance, which wgpu keeps alive.
    let properties = unsafe { instance.get_physical_device_memory_properties(vulkan.raw_physical_device()) };
    let types = &properties.memory_types[..properties.memory_type_count as usize];
    let is_local = |heap: u32| types.iter().any(|kind| kind.heap_index == heap && kind.property_flags.as_raw() & 1 != 0);
    (0..properties.memory_heap_count).filter(|&heap| is_local(heap)).map(|heap| properties.memory_heaps[heap as usize].size).max()
}

#[cfg(target_vendor = "apple")]
fn device_memory(_: &wgpu::Adapter) -> Option<u64> {
    None
}

fn describe(index: usize, adapter: &wgpu::Adapter) -> AdapterReport {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    let has_matrices = features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
    let matrices = adapter
        .cooperative_matrix_properties()
        .iter()
        .filter(|_| has_matrices)
        .map(|p| format!("{}x{}x{} {:?} -> {:?}", p.m_size, p.n_size, p.k_size, p.ab_type, p.cr_type))
        .collect();
    AdapterReport {
        index,
        name: info.name,
        backend: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        kind: format!("{:?}", info.device_type),
        software: info.device_type == wgpu::DeviceType::Cpu,
        half_floats: features.contains(wgpu::Features::SHADER_F16),
        subgroups: features.contains(wgpu::Features::SUBGROUP),
        subgroup_sizes: [info.subgroup_min_size, info.subgroup_max_size],
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        cooperative_matrices: matrices,
        largest_binding_bytes: limits.max_storage_buffer_binding_size,
        workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
        workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        memory_bytes: device_memory(adapter),
    }
}

/// All adapters of this machine, software ones too, in the order of their numbers.
pub fn adapters() -> Vec<AdapterReport> {
    adapters_once().list.iter().map(|(_, report)| report.clone()).collect()
}

/// Opens the device that `choice` names. `precision` None takes f16 on adapters that have it and f32 elsewhere.
///
/// # Errors
/// The adapter does not exist, refuses a device, or lacks 16-bit floats that were asked for.
pub fn open(choice: &DeviceChoice, precision: Option<Precision>) -> Result<ComputeDevice, DeviceError> {
    match choice {
        DeviceChoice::Several(choices) => open_together(choices, precision),
        one => open_instance(one, precision, 0),
    }
}

/// Opens the devices that `choices` name as one, the first of which has the others beside it. A choice that stands there twice is
/// two devices of one adapter. They all store numbers alike: in f16 if all can and `precision` does not say otherwise.
///
/// # Errors
/// As [`open`]; and there are no choices.
fn open_together(choices: &[DeviceChoice], precision: Option<Precision>) -> Result<ComputeDevice, DeviceError> {
    let open_all = |precision| -> Result<Vec<ComputeDevice>, DeviceError> {
        let mut devices: Vec<ComputeDevice> = Vec::new();
        for choice in choices {
            let first = open_instance(choice, precision, 0)?;
            let index = |device: &ComputeDevice| device.adapter.as_ref().map(|adapter| adapter.index);
            let instance = devices.iter().filter(|device| index(device) == index(&first)).count();
            devices.push(if instance == 0 { first } else { open_instance(choice, precision, instance)? });
        }
        Ok(devices)
    };
    let mut devices = open_all(precision)?;
    let differ = devices.iter().any(|device| device.precision != devices[0].precision);
    if differ {
        devices = open_all(Some(Precision::F32))?;
    }
    if devices.is_empty() {
        return Err(DeviceError::EmptyChoice);
    }
    let first = devices.remove(0);
    Ok(ComputeDevice { others: devices, ..first })
}

fn open_instance(choice: &DeviceChoice, precision: Option<Precision>, instance: usize) -> Result<ComputeDevice, DeviceError> {
    if *choice == DeviceChoice::Cpu {
        return Ok(cpu("the CPU was asked for".into()));
    }
    let all = &adapters_once().list;
    let wanted = match choice {
        DeviceChoice::Cpu | DeviceChoice::Auto => {
            let rank = |report: &AdapterReport| match report.kind.as_str() {
                "DiscreteGpu" => 0,
                "IntegratedGpu" => 1,
                _ => 2,
            };
            all.iter().filter(|(_, r)| !r.software).min_by_key(|(_, r)| (rank(r), r.index))
        }
        DeviceChoice::Index(index) => all.get(*index),
        DeviceChoice::Several(choices) => return open_together(choices, precision),
        DeviceChoice::Name(name) => {
            let name = name.to_lowercase();
            all.iter().find(|(_, r)| r.name.to_lowercase().contains(&name))
        }
    };
    let Some((adapter, report)) = wanted else {
        if *choice == DeviceChoice::Auto {
            let software = if all.is_empty() { "no graphics adapter was found" } else { "the only adapters are software ones" };
            return Ok(cpu(format!("{software}, and the CPU kernels are faster than those")));
        }
        return Err(DeviceError::NoSuchAdapter { wanted: choice.to_string(), found: names(all) });
    };
    let precision = match precision {
        Some(Precision::F16) if !report.half_floats => {
            return Err(DeviceError::NoHalfFloats { name: report.name.clone() });
        }
        Some(precision) => precision,
        None if report.half_floats => Precision::F16,
        None => Precision::F32,
    };
    let reason = match choice {
        DeviceChoice::Auto => "the first hardware adapter, discrete ones before integrated ones".to_owned(),
        _ => "it was asked for".to_owned(),
    };
    let mut device = ComputeDevice {
        device: adopt(adapter, report, instance)?,
        name: format!("{} ({})", report.name, report.backend),
        adapter: Some(Box::new(report.clone())),
        precision,
        reason,
        tier: KernelTier::Plain { reason: "".into() },
        residency: Residency::Auto,
        instance,
        others: Vec::new(),
    };
    device.tier = tier::decide(&device);
    Ok(device)
}

fn cpu(reason: String) -> ComputeDevice {
    let name = format!("CPU, {} threads", rayon::current_num_threads());
    ComputeDevice {
        device: Device::flex(),
        name,
        adapter: None,
        precision: Precision::F32,
        reason,
        tier: KernelTier::Cpu,
        residency: Residency::Auto,
        instance: 0,
        others: Vec::new(),
    }
}

fn names(all: &[(wgpu::Adapter, AdapterReport)]) -> String {
    match all {
        [] => "none".to_owned(),
        all => all.iter().map(|(_, r)| format!("{} = {}", r.index, r.name)).collect::<Vec<_>>().join(", "),
    }
}

/// A device that burn has adopted, and the wgpu device in it.
struct Adopted {
    device: Device,
    wgpu: wgpu::Device,
    queue: wgpu::Queue,
}

/// The adapter's number, and which of its devices.
type Place = (usize, usize);

/// By place. burn cannot see that the same handles are registered twice, so this map remembers.
fn adopted() -> MutexGuard<'static, HashMap<Place, Adopted>> {
    static ADOPTED: OnceLock<Mutex<HashMap<Place, Adopted>>> = OnceLock::new();
    ADOPTED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the adapter of a lost device a new one, which [`ComputeDevice::current`] finds. Tensors on the old one are lost too.
///
/// # Errors
/// The adapter gives no other device.
pub fn reopen(lost: &ComputeDevice) -> Result<(), DeviceError> {
    let Some(place) = lost.adopted_place() else { return Ok(()) };
    {
        let mut adopted = adopted();
        if adopted.get(&place).is_some_and(|adopted| adopted.device == lost.device) {
            adopted.remove(&place);
        }
    }
    let mut opening = 1;
    loop {
        match lost.current() {
            Ok(_) => return Ok(()),
            Err(error) if opening == OPENINGS => return Err(error),
            Err(error) => log::info!("{error}"),
        }
        opening += 1;
        thread::sleep(BETWEEN_OPENINGS);
    }
}

/// The burn device of an adapter.
fn adopt(adapter: &wgpu::Adapter, report: &AdapterReport, instance: usize) -> Result<Device, DeviceError> {
    let mut adopted = adopted();
    let place = (report.index, instance);
    if let Some(known) = adopted.get(&place) {
        return Ok(known.device.clone());
    }
    let refused = |reason: String| DeviceError::Refused { name: report.name.clone(), reason };
    // SAFETY: experimental features (cooperative matrices) may be incomplete in wgpu, not unsound to enable; a kernel uses them
    // only after its numeric self-test has passed on this adapter.
    let experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("tilereel engine"),
        // burn reads the adapter's features, not the device's, so the device must have them all; mappable primary buffers
        // are slow on discrete GPUs.
        required_features: adapter.features().difference(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS),
        required_limits: adapter.limits(),
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        trace: wgpu::Trace::Off,
        experimental_features,
    }))
    .map_err(|error| refused(error.to_string()))?;
    let instance = adapters_once().instance.clone();
    let backend = adapter.get_info().backend;
    let (wgpu, own_queue) = (device.clone(), queue.clone());
    let setup = WgpuSetup { instance, adapter: adapter.clone(), device, queue, backend };
    let device = Device::wgpu_options().setup(setup).init().map_err(|error| refused(error.to_string()))?;
    adopted.insert(place, Adopted { device: device.clone(), wgpu, queue: own_queue });
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_read_as_written() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("1", DeviceChoice::Index(1)),
            ("radeon", DeviceChoice::Name("radeon".into())),
            ("0,1", DeviceChoice::Several(vec![DeviceChoice::Index(0), DeviceChoice::Index(1)])),
            ("cpu,cpu", DeviceChoice::Several(vec![DeviceChoice::Cpu; 2])),
            ("llvmpipe (LLVM 15, 256 bits)", DeviceChoice::Name("llvmpipe (LLVM 15, 256 bits)".into())),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
            assert_eq!(choice.to_string(), text);
        }
        assert!(" ".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn auto_never_takes_a_software_adapter() {
        let device = open(&DeviceChoice::Auto, None).unwrap();
        assert!(device.adapter.is_none_or(|adapter| !adapter.software));
    }

    #[test]
    fn an_unknown_adapter_lists_the_known() {
        let error = open(&DeviceChoice::Name("no such adapter".into()), None).unwrap_err();
        assert!(error.to_string().contains("Found:"), "{error}");
    }
}
