//! How fast devices have been: what earlier runs took, kept in one small file of the user's data folder.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Estimate, PhaseValues};
use crate::generate::data_folder;
use crate::generate::networks::Timing;
use crate::gpu::device::ComputeDevice;
use crate::gpu::tier::KernelTier;

const FILE_NAME: &str = "speeds.json";
const FORMAT: u32 = 1;
/// A file of a hundred devices has 200 kB.
const LARGEST_FILE: u64 = 4 << 20;

/// So many runs are kept of a device, and so many of them speak for its speed.
const RUNS_KEPT: usize = 20;
const RUNS_ASKED: usize = 5;
/// Runs up to so many times smaller or larger than the one in question are like it: small work does not fill a device.
const ALIKE: f64 = 8.0;

/// What earlier runs have shown of this machine's devices.
#[derive(Debug, Default)]
pub struct Speeds {
    path: Option<PathBuf>,
    table: Table,
}

#[derive(Debug, Serialize, Deserialize)]
struct Table {
    format: u32,
    devices: BTreeMap<String, PhaseValues<Vec<Measurement>>>,
}

/// One phase of one run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Measurement {
    /// Of the phase; of one call when sampling.
    flops: f64,
    /// For these `flops`.
    seconds: f64,
    /// What the first call took longer than the others: shaders are compiled in it.
    start_seconds: f64,
}

/// A speed that was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Speed {
    pub flops_per_second: f64,
    /// Once, at the beginning.
    pub start_seconds: f64,
    /// The runs behind it that were about as large; 0 if it comes from others.
    pub runs_alike: usize,
}

impl Speeds {
    /// The user's own: `speeds.json` in the data folder.
    pub fn load() -> Self {
        data_folder().map_or_else(Self::default, |folder| Self::in_folder(&folder))
    }

    /// Takes a finished run into account, and keeps that in the file. That it cannot be written is no reason to fail: it is only
    /// logged.
    pub fn learn(&mut self, device: &ComputeDevice, estimate: &Estimate, timing: &Timing) {
        // Loaded anew: another process may have learned since.
        if let Some(path) = &self.path {
            self.table = Table::read(path);
        }
        self.add(device, estimate, timing);
        self.keep();
        warm().insert(key(device));
    }

    fn keep(&self) {
        if let Some(path) = &self.path
            && let Err(error) = self.table.write(path)
        {
            log::info!("the speed of this run was not kept in {}: {error}", path.display());
        }
    }

    /// Those of a folder. A file that is damaged is as good as none.
    pub fn in_folder(folder: &Path) -> Self {
        let path = folder.join(FILE_NAME);
        Self { table: Table::read(&path), path: Some(path) }
    }

    pub(super) fn add(&mut self, device: &ComputeDevice, estimate: &Estimate, timing: &Timing) {
        let phase = |flops: f64, millis: f64| Measurement { flops, seconds: millis / 1000.0, start_seconds: 0.0 };
        let run = PhaseValues {
            text: phase(estimate.flops.text, timing.text_millis),
            sampling: Measurement::of_calls(estimate.flops.sampling / estimate.model_calls as f64, &timing.step_millis),
            decoding: phase(estimate.flops.decoding, timing.decode_millis),
        };
        let kept = self.table.devices.entry(key(device)).or_default();
        for (kept, measurement) in
            [(&mut kept.text, run.text), (&mut kept.sampling, run.sampling), (&mut kept.decoding, run.decoding)]
        {
            if measurement.is_sound() {
                kept.push(measurement);
                kept.drain(..kept.len().saturating_sub(RUNS_KEPT));
            }
        }
    }

    /// The speeds for work of so many operations (of one call when sampling): the median of the last runs that were about as
    /// large, else of the last runs at all. None for a phase that never ran on this device.
    pub(super) fn of(&self, device: &ComputeDevice, flops: &PhaseValues<f64>) -> PhaseValues<Option<Speed>> {
        let Some(kept) = self.table.devices.get(&key(device)) else { return PhaseValues::default() };
        let is_warm = warm().contains(&key(device));
        PhaseValues {
            text: speed(&kept.text, flops.text, is_warm),
            sampling: speed(&kept.sampling, flops.sampling, is_warm),
            decoding: speed(&kept.decoding, flops.decoding, is_warm),
        }
    }
}

/// Devices that share a run are a machine of their own.
fn key(device: &ComputeDevice) -> String {
    let all: Vec<String> = std::iter::once(device).chain(&device.others).map(key_alone).collect();
    all.join(" + ")
}

fn key_alone(device: &ComputeDevice) -> String {
    // A faster tier is another machine.
    let tier = match device.tier {
        KernelTier::Matrix => ", matrix kernels",
        KernelTier::Subgroup { .. } => ", subgroup kernels",
        KernelTier::Plain { .. } | KernelTier::Cpu => "",
    };
    format!("{}, {}{tier}", device.name, device.precision)
}

/// The devices that this process has made a run on: their shaders are compiled.
fn warm() -> MutexGuard<'static, HashSet<String>> {
    static WARM: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
    WARM.lock().unwrap_or_else(PoisonError::into_inner)
}

fn speed(kept: &[Measurement], flops: f64, is_warm: bool) -> Option<Speed> {
    let is_alike = |other: &&Measurement| (flops / ALIKE..=flops * ALIKE).contains(&other.flops);
    let alike: Vec<&Measurement> = kept.iter().rev().filter(is_alike).take(RUNS_ASKED).collect();
    let runs_alike = alike.len();
    let asked = if alike.is_empty() { kept.iter().rev().take(RUNS_ASKED).collect() } else { alike };
    Some(Speed {
        flops_per_second: median(asked.iter().map(|run| run.flops / run.seconds))?,
        start_seconds: asked.iter().map(|run| run.start_seconds).reduce(|a, b| if is_warm { a.min(b) } else { a.max(b) })?,
        runs_alike,
    })
}

/// None of no values; the larger of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl Measurement {
    /// `flops` of one call, and the time of each.
    fn of_calls(flops: f64, step_millis: &[f64]) -> Self {
        let (first, others) = match step_millis {
            [first, others @ ..] if !others.is_empty() => (*first, others),
            one_or_none => (0.0, one_or_none),
        };
        let mean_millis = others.iter().sum::<f64>() / others.len() as f64;
        Self { flops, seconds: mean_millis / 1000.0, start_seconds: (first - mean_millis).max(0.0) / 1000.0 }
    }

    fn is_sound(&self) -> bool {
        let is_positive =
            [self.flops, self.seconds, self.flops / self.seconds].iter().all(|value| value.is_finite() && *value > 0.0);
        is_positive && self.start_seconds.is_finite() && self.start_seconds >= 0.0
    }
}

impl Default for Table {
    fn default() -> Self {
        Self { format: FORMAT, devices: BTreeMap::new() }
    }
}

impl Table {
    fn read(path: &Path) -> Self {
        match Self::try_read(path) {
            Ok(table) => table,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => {
                log::warn!("what earlier runs took is forgotten: {} cannot be used: {error}", path.display());
                Self::default()
            }
        }
    }

    fn try_read(path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        std::fs::File::open(path)?.take(LARGEST_FILE).read_to_string(&mut text)?;
        let table: Self = serde_json::from_str(&text)?;
        if table.format != FORMAT {
            return Err(io::Error::other(format!("its format is {}, not {FORMAT}", table.format)));
        }
        let phases = table.devices.values().flat_map(|kept| [&kept.text, &kept.sampling, &kept.decoding]);
        if !phases.flatten().all(Measurement::is_sound) {
            return Err(io::Error::other("it holds a measurement that none can be"));
        }
        Ok(table)
    }

    /// Whole or not at all.
    fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().ok_or_else(|| io::Error::other("it has no folder"))?;
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::estimate::Basis;
    use crate::gpu::device::{self, DeviceChoice};

    fn cpu() -> ComputeDevice {
        device::open(&DeviceChoice::Cpu, None).unwrap()
    }

    /// A run of 8 calls, with so many operations in each phase.
    fn estimate(flops: f64) -> Estimate {
        let values = PhaseValues { text: flops, sampling: flops, decoding: flops };
        Estimate {
            seconds: 0.0,
            basis: Basis::Typical,
            phases: values,
            flops: values,
            memory_bytes: 0,
            others_memory_bytes: Vec::new(),
            density: 1.0,
            model_calls: 8,
            longest_call_seconds: 0.0,
        }
    }

    fn timing(seconds: f64) -> Timing {
        Timing { text_millis: seconds * 1e3, step_millis: vec![seconds * 1e3 / 8.0; 8], decode_millis: seconds * 1e3 }
    }

    fn learn(folder: &Path, estimate: &Estimate, timing: &Timing) {
        Speeds::in_folder(folder).learn(&cpu(), estimate, timing);
    }

    fn of(speeds: &Speeds, flops: f64) -> Option<Speed> {
        let speeds = speeds.of(&cpu(), &PhaseValues { text: flops, sampling: flops / 8.0, decoding: flops });
        assert_eq!(speeds.text, speeds.decoding);
        assert_eq!(speeds.text.map(|s| s.runs_alike), speeds.sampling.map(|s| s.runs_alike));
        assert!(
            speeds.text.zip(speeds.sampling).is_none_or(|(a, b)| (a.flops_per_second / b.flops_per_second - 1.0).abs() < 1e-9)
        );
        speeds.text
    }

    #[test]
    fn the_median_of_the_last_runs_speaks_and_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(of(&Speeds::in_folder(folder.path()), 1e9), None);
        // The first two are forgotten behind five later ones; one outlier does not move the median.
        for seconds in [100.0, 100.0, 2.0, 1.0, 50.0, 4.0, 2.5] {
            learn(folder.path(), &estimate(1e9), &timing(seconds));
        }
        let speed = of(&Speeds::in_folder(folder.path()), 1e9).unwrap();
        assert_eq!(speed.runs_alike, 5);
        assert!((speed.flops_per_second - 1e9 / 2.5).abs() < 1.0, "{speed:?}");
        for _ in 0..50 {
            learn(folder.path(), &estimate(1e9), &timing(1.0));
        }
        assert_eq!(Speeds::in_folder(folder.path()).table.devices.values().next().unwrap().decoding.len(), RUNS_KEPT);
    }

    #[test]
    fn runs_of_another_size_speak_only_when_nobody_else_does() {
        let mut speeds = Speeds::default();
        speeds.add(&cpu(), &estimate(1e9), &timing(1.0));
        assert_eq!(of(&speeds, 1e15), Some(Speed { flops_per_second: 1e9, start_seconds: 0.0, runs_alike: 0 }));
        speeds.add(&cpu(), &estimate(2e15), &timing(10.0));
        assert_eq!(of(&speeds, 1e15), Some(Speed { flops_per_second: 2e14, start_seconds: 0.0, runs_alike: 1 }));
        assert_eq!(of(&speeds, 1e9), Some(Speed { flops_per_second: 1e9, start_seconds: 0.0, runs_alike: 1 }));
    }

    #[test]
    fn a_slow_first_call_is_told_from_the_speed() {
        let of = |step_millis: &[f64]| {
            let Measurement { seconds, start_seconds, .. } = Measurement::of_calls(1e9, step_millis);
            (seconds, start_seconds)
        };
        assert_eq!(of(&[4500.0, 300.0, 340.0]), (0.32, 4.18));
        assert_eq!(of(&[200.0, 300.0]), (0.3, 0.0));
        assert_eq!(of(&[500.0]), (0.5, 0.0));
        assert!(!Measurement::of_calls(1e9, &[]).is_sound());
    }

    #[test]
    fn shaders_are_compiled_once_a_process() {
        let runs = [4.0, 0.1].map(|start_seconds| Measurement { flops: 1e9, seconds: 1.0, start_seconds });
        let start = |is_warm: bool| speed(&runs, 1e9, is_warm).unwrap().start_seconds;
        assert_eq!((start(false), start(true)), (4.0, 0.1));
    }

    #[test]
    fn an_empty_or_absurd_run_teaches_nothing() {
        let mut speeds = Speeds::default();
        speeds.add(&cpu(), &estimate(1e9), &Timing::default());
        speeds.add(&cpu(), &estimate(f64::INFINITY), &timing(1.0));
        assert_eq!(of(&speeds, 1e9), None);
    }

    #[test]
    fn a_damaged_file_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let sound = |seconds: &str| {
            let runs = format!(r#"[{{"flops": 1e9, "seconds": {seconds}, "start_seconds": 0}}]"#);
            format!(
                r#"{{"format": 1, "devices": {{"{}": {{"text": {runs}, "sampling": [], "decoding": {runs}}}}}}}"#,
                key(&cpu())
            )
        };
        std::fs::write(&path, sound("2")).unwrap();
        let flops = PhaseValues { text: 1e9, sampling: 1e9, decoding: 1e9 };
        assert!(Speeds::in_folder(folder.path()).of(&cpu(), &flops).text.is_some());
        let damaged = ["", "[", "{}", r#"{"format": 2, "devices": {}}"#, &sound("0"), &sound("-1"), &sound("1e999"), "\0\0\0"];
        for text in damaged {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Speeds::in_folder(folder.path()).of(&cpu(), &flops).text, None, "{text}");
            learn(folder.path(), &estimate(1e9), &timing(1.0));
            assert!(of(&Speeds::in_folder(folder.path()), 1e9).is_some(), "{text}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_does_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "not a folder").unwrap();
        learn(&file, &estimate(1e9), &timing(1.0));
        assert_eq!(std::fs::read(&file).unwrap(), b"not a folder");
    }
}
