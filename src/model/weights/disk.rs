//! How much room a disk has.

use std::path::Path;

/// Bytes that the disk of a folder, which is there, has for this user; none where the system does not say.
#[cfg(target_os = "linux")]
pub fn free_disk_bytes(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: a structure of plain numbers, for which all bits zero are values.
    let mut facts: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero, and the structure outlives the call that fills it.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut facts) } != 0 {
        return None;
    }
    Some(facts.f_bavail * facts.f_frsize)
}

/// Elsewhere the writing shows whether there is room.
#[cfg(not(target_os = "linux"))]
pub fn free_disk_bytes(_: &Path) -> Option<u64> {
    None
}
