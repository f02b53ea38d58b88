//! Files that appear whole or not at all: written under a temporary name in the same folder, synced, then renamed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::ClipError;

/// Files that wait, complete, for their names. Dropping it removes them.
#[derive(Default)]
pub(super) struct StagedFiles {
    files: Vec<(NamedTempFile, PathBuf)>,
    bytes: u64,
}

impl StagedFiles {
    /// Writes the contents of the file `path` next to it and waits until they are on the disk.
    pub(super) fn stage(&mut self, path: &Path, contents: &[u8]) -> Result<(), ClipError> {
        let folder = folder_of(path);
        if path.is_dir() {
            return Err(ClipError::Io {
                doing: "write over the folder",
                path: path.to_path_buf(),
                source: std::io::ErrorKind::IsADirectory.into(),
            });
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".tilereel-").suffix(".part");
        // A temporary file is private by default; a clip is an ordinary file that the umask decides about.
        #[cfg(unix)]
        let permissions = {
            use std::os::unix::fs::PermissionsExt;
            fs::Permissions::from_mode(0o666)
        };
        #[cfg(unix)]
        builder.permissions(permissions);
        builder
            .tempfile_in(folder)
            .and_then(|mut file| {
                file.write_all(contents)?;
                file.as_file().sync_all()?;
                Ok(file)
            })
            .map(|file| {
                self.files.push((file, path.to_path_buf()));
                self.bytes += contents.len() as u64;
            })
            .map_err(|source| ClipError::from_writing(source, folder, path))
    }

    /// The size of all files so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives every file its name, replacing files that have it. When one name cannot be given, the files that already
    /// got theirs are removed again.
    ///
    /// Returns the names.
    pub(super) fn commit(self) -> Result<Vec<PathBuf>, ClipError> {
        let mut named: Vec<PathBuf> = Vec::with_capacity(self.files.len());
        for (file, path) in self.files {
            if let Err(error) = file.persist(&path) {
                for done in &named {
                    // The first error is the one worth telling.
                    let _ = fs::remove_file(done);
                }
                return Err(ClipError::from_writing(error.error, folder_of(&path), &path));
            }
            named.push(path);
        }
        #[cfg(unix)]
        if let Some(path) = named.first()
            && let Err(error) = fs::File::open(folder_of(path)).and_then(|folder| folder.sync_all())
        {
            // The file is there and complete; some file systems cannot sync a folder.
            log::debug!("could not sync {}: {error}", folder_of(path).display());
        }
        Ok(named)
    }
}

/// The folder of a path; `.` for a bare file name.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A file of at most `limit` bytes.
pub(super) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ClipError> {
    let io_error = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => ClipError::NoSuchFile { path: path.to_path_buf() },
        _ => ClipError::Io { doing: "read", path: path.to_path_buf(), source },
    };
    let length = fs::metadata(path).map_err(io_error)?.len();
    if length > limit {
        return Err(ClipError::TooLarge {
            path: path.to_path_buf(),
            why: format!("it has {length} bytes, and {limit} is the most"),
        });
    }
    fs::read(path).map_err(io_error)
}
