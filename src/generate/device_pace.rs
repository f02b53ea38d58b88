//! The pace of a device: measured once, and kept in a small file of the user's data folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::data_folder;
use crate::gpu::device::ComputeDevice;
use crate::gpu::pace::{self, Pace};

const FILE_NAME: &str = "pace.json";

type Paces = BTreeMap<String, Pace>;

/// Has the work of a device cut as its pace allows: as it was measured before, or now.
pub fn set_pace(device: &ComputeDevice) {
    if device.is_cpu() {
        return;
    }
    let path = data_folder().map(|folder| folder.join(FILE_NAME));
    let kept = path.as_deref().map(read).unwrap_or_default();
    if let Some(pace) = kept.get(&key(device)) {
        pace::set(&device.device, Some(*pace));
        return;
    }
    let measured = pace::measure(device);
    pace::set(&device.device, measured);
    if let (Some(path), Some(measured)) = (path, measured)
        && let Err(error) = keep(&path, kept, key(device), measured)
    {
        log::info!("the pace of {} was not kept in {}: {error}", device.name, path.display());
    }
}

/// A new driver or another tier is measured anew.
fn key(device: &ComputeDevice) -> String {
    let driver = device.adapter.as_ref().map_or("", |adapter| adapter.driver.as_str());
    format!("{}, {driver}, {}, {}", device.name, device.precision, device.kernel_tier())
}

/// A file that is damaged is as good as none.
fn read(path: &Path) -> Paces {
    fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn keep(path: &PathBuf, mut paces: Paces, key: String, pace: Pace) -> io::Result<()> {
    paces.insert(key, pace);
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec_pretty(&paces)?)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{DeviceChoice, open};

    #[test]
    fn a_pace_is_kept_for_its_device() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join(FILE_NAME);
        let device = open(&DeviceChoice::Cpu, None).unwrap();
        let pace = Pace { linear: 1e12, attention: 2e12 };
        assert!(read(&path).is_empty());
        keep(&path, read(&path), key(&device), pace).unwrap();
        keep(&path, read(&path), "another".into(), Pace { linear: 3e12, ..pace }).unwrap();
        assert_eq!(read(&path).get(&key(&device)), Some(&pace));
        assert_eq!(read(&path).len(), 2);
        fs::write(&path, "junk").unwrap();
        assert!(read(&path).is_empty());
    }
}
