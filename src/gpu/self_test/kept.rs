//! Results of the self-test on disk, so that a start does not compile pipelines only to test them.
//!
//! A result counts for one adapter and driver, one precision and tier, and for the shaders and the program that it was found
//! with. Failures are kept too, with their reason. [`VARIABLE`] set to `again`, and `tilereel doctor`, test anew and write what
//! they find; a file that is damaged is as good as none.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Part, SelfTest, SelfTestLine};
use crate::gpu::device::ComputeDevice;
use crate::gpu::kernels::variants;

/// The environment variable that has everything tested again with the value `again`.
pub const VARIABLE: &str = "TILEREEL_SELF_TEST";
const FILE_NAME: &str = "self_test.json";

static FOLDER: Mutex<Option<PathBuf>> = Mutex::new(None);
static ANEW: AtomicBool = AtomicBool::new(false);

/// Has results kept in a folder from now on. Without one they live as long as the process.
pub fn keep_in(folder: Option<PathBuf>) {
    *FOLDER.lock().unwrap_or_else(PoisonError::into_inner) = folder;
}

/// Has this process test what it uses, whatever is kept.
pub fn test_anew() {
    ANEW.store(true, Ordering::Relaxed);
}

/// What was found with a device and its tier before.
pub(super) fn read(device: &ComputeDevice, part: Part) -> Option<SelfTest> {
    let anew = ANEW.load(Ordering::Relaxed) || std::env::var(VARIABLE).is_ok_and(|value| value == "again");
    let path = path().filter(|_| !anew)?;
    let result = Results::read(&path).of.remove(&key(device, part)?)?;
    result.into_self_test()
}

/// Keeps what was found. A folder that cannot be written costs the next start a test, and nothing else.
pub(super) fn write(device: &ComputeDevice, part: Part, result: &SelfTest) {
    let (Some(path), Some(key)) = (path(), key(device, part)) else { return };
    let mut results = Results::read(&path);
    results.of.insert(key, KeptResult::of(result));
    if let Err(error) = results.write(&path) {
        log::info!("the self-test of {} was not kept in {}: {error}", device.name, path.display());
    }
}

fn path() -> Option<PathBuf> {
    FOLDER.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|folder| folder.join(FILE_NAME))
}

/// None on the CPU, whose kernels are tested with the program.
fn key(device: &ComputeDevice, part: Part) -> Option<String> {
    let driver = &device.adapter.as_ref()?.driver;
    Some(format!("{}, {driver}, {}, {}, {part:?}", device.name, device.precision, device.kernel_tier()))
}

/// By [`key`].
#[derive(Default, Serialize, Deserialize)]
struct Results {
    of: BTreeMap<String, KeptResult>,
}

impl Results {
    fn read(path: &Path) -> Self {
        fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct KeptResult {
    program: String,
    /// Of all shaders and their variants.
    shaders: String,
    lines: Vec<KeptLine>,
}

#[derive(Serialize, Deserialize)]
struct KeptLine {
    kernel: String,
    /// None for an infinite one, which JSON does not have.
    error: Option<f64>,
    limit: f64,
    ok: bool,
    failure: Option<String>,
}

impl KeptResult {
    fn of(result: &SelfTest) -> Self {
        let line = |line: &SelfTestLine| KeptLine {
            kernel: line.kernel.clone().into_owned(),
            error: Some(line.error).filter(|error| error.is_finite()),
            limit: line.limit,
            ok: line.ok,
            failure: line.failure.clone(),
        };
        let lines = result.lines.iter().map(line).collect();
        Self { program: env!("CARGO_PKG_VERSION").to_owned(), shaders: SHADERS.clone(), lines }
    }

    /// None if other shaders or another program were tested, or nothing was.
    fn into_self_test(self) -> Option<SelfTest> {
        if self.program != env!("CARGO_PKG_VERSION") || self.shaders != *SHADERS || self.lines.is_empty() {
            return None;
        }
        let line = |line: KeptLine| SelfTestLine {
            kernel: Cow::Owned(line.kernel),
            error: line.error.unwrap_or(f64::INFINITY),
            limit: line.limit,
            ok: line.ok,
            failure: line.failure,
        };
        Some(SelfTest::of(self.lines.into_iter().map(line).collect()))
    }
}

/// SHA-256 of every text, once, and of every variant's settings.
static SHADERS: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = Sha256::new();
    let mut texts = HashSet::new();
    for (name, shader) in variants::all() {
        hasher.update(format!("{name} {} {:?}\n", shader.workgroup_size, shader.variant));
        if texts.insert(shader.template) {
            hasher.update(shader.template);
        }
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ok: bool) -> SelfTestLine {
        SelfTestLine {
            kernel: "attention".into(),
            error: if ok { 1e-4 } else { f64::INFINITY },
            limit: 2e-3,
            ok,
            failure: (!ok).then(|| "the driver said no".into()),
        }
    }

    fn read_back(path: &Path) -> Option<SelfTest> {
        Results::read(path).of.remove("a card").and_then(KeptResult::into_self_test)
    }

    #[test]
    fn passes_and_failures_come_back_until_something_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join(FILE_NAME);
        assert!(read_back(&path).is_none());
        for ok in [true, false] {
            let result = SelfTest::of(vec![line(true), line(ok)]);
            let mut results = Results::read(&path);
            results.of.insert("a card".into(), KeptResult::of(&result));
            results.write(&path).unwrap();
            let back = read_back(&path).unwrap();
            assert_eq!(back.passed, ok);
            assert_eq!(back.failed().map(SelfTestLine::fault), (!ok).then(|| "the driver said no".into()));
            assert_eq!(back.lines[1].error, line(ok).error);
        }
        let text = fs::read_to_string(&path).unwrap();
        for (from, to) in [(SHADERS.as_str(), "other shaders"), (env!("CARGO_PKG_VERSION"), "0.0.0"), ("{", "")] {
            assert!(text.contains(from));
            fs::write(&path, text.replace(from, to)).unwrap();
            assert!(read_back(&path).is_none(), "{to}");
        }
    }

    #[test]
    fn the_cpu_keeps_nothing() {
        let cpu = crate::gpu::device::open(&crate::gpu::device::DeviceChoice::Cpu, None).unwrap();
        assert_eq!(key(&cpu, Part::Forward), None);
    }
}
