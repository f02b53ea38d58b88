//! Everything that can go wrong between frames and files, in words that tell a person what to do.

use std::io;
use std::path::{Path, PathBuf};

use super::progress::Stopped;
use super::{ClipFormat, EditError};

/// Why a clip could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    /// The file name ends in nothing this program writes.
    #[error(
        "cannot tell the kind of clip from the name {}: end it with one of {}",
        path.display(),
        ClipFormat::known_endings()
    )]
    UnknownEnding { path: PathBuf },

    /// The frames themselves make no clip (no pixel, wrong buffer length, impossible rate, ..).
    #[error("these frames make no clip: {why}")]
    InvalidFrames { why: String },

    /// These frames cannot be edited so.
    #[error(transparent)]
    Edit(#[from] EditError),

    /// Whoever asked for the file wanted it no more.
    #[error("stopped: no file was written")]
    Stopped,

    /// The folder that should take the file does not exist.
    #[error("the folder {} does not exist: create it first or choose another one", folder.display())]
    MissingFolder { folder: PathBuf },

    /// The folder exists, but this user or this medium does not allow writing there.
    #[error("not allowed to write into {}: choose a folder that you may write to", folder.display())]
    NotWritable { folder: PathBuf },

    /// No room left; the unfinished file has been removed.
    #[error("the disk that holds {} is full: free some space; no half clip was left behind", folder.display())]
    DiskFull { folder: PathBuf },

    /// The file to read is not there.
    #[error("there is no file {}", path.display())]
    NoSuchFile { path: PathBuf },

    /// Any other trouble with the file system.
    #[error("could not {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },

    /// An encoder refused the frames.
    #[error("could not encode the frames as {format}: {why}")]
    Encode { format: ClipFormat, why: String },

    /// The contents are none of the kinds of files that hold clips.
    #[error("{} is not a clip: its contents are none of {}", path.display(), ClipFormat::known_endings())]
    NotAClip { path: PathBuf },

    /// The file starts like a clip, but is cut off or altered.
    #[error("{} is a damaged {format} file: {why}", path.display())]
    Damaged { path: PathBuf, format: ClipFormat, why: String },

    /// An intact file that uses something this program does not decode.
    #[error("{} is a {format} file that cannot be read here: {why}", path.display())]
    Unsupported { path: PathBuf, format: ClipFormat, why: String },

    /// Reading the file would take more memory than a clip is allowed to.
    #[error("{} is too large to read as a clip: {why}", path.display())]
    TooLarge { path: PathBuf, why: String },

    /// The program carries an encoder for this kind of file, but no decoder.
    #[error(
        "{} is a {format} file, and no decoder for it is bundled: its recipe can be read, its frames cannot",
        path.display()
    )]
    NoBundledDecoder { path: PathBuf, format: ClipFormat },
}

impl ClipError {
    /// Sorts an error of writing into `folder` by what the person can do about it.
    pub(super) fn from_writing(source: io::Error, folder: &Path, path: &Path) -> Self {
        let folder = folder.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ClipError::MissingFolder { folder },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ClipError::NotWritable { folder },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ClipError::DiskFull { folder },
            _ => ClipError::Io { doing: "write", path: path.to_path_buf(), source },
        }
    }
}

impl From<Stopped> for ClipError {
    fn from(Stopped: Stopped) -> Self {
        ClipError::Stopped
    }
}

/// Why an encoder came to no end, before the format is known to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfinished {
    Stopped,
    /// In the words of the encoder.
    Refused(String),
}

impl Unfinished {
    /// Adds which format it was.
    pub(super) fn of(self, format: ClipFormat) -> ClipError {
        match self {
            Unfinished::Stopped => ClipError::Stopped,
            Unfinished::Refused(why) => ClipError::Encode { format, why },
        }
    }
}

impl From<Stopped> for Unfinished {
    fn from(Stopped: Stopped) -> Self {
        Unfinished::Stopped
    }
}

impl From<String> for Unfinished {
    fn from(why: String) -> Self {
        Unfinished::Refused(why)
    }
}

impl From<&str> for Unfinished {
    fn from(why: &str) -> Self {
        Unfinished::Refused(why.to_owned())
    }
}

/// What a parser found wrong, before the name of the file is known to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Damaged(String),
    Unsupported(String),
    TooLarge(String),
}

impl Fault {
    pub(super) fn damaged(why: impl Into<String>) -> Self {
        Fault::Damaged(why.into())
    }

    pub(super) fn unsupported(why: impl Into<String>) -> Self {
        Fault::Unsupported(why.into())
    }

    pub(super) fn cut_off() -> Self {
        Fault::Damaged("it ends in the middle".to_owned())
    }

    /// Adds where it happened.
    pub(super) fn at(self, path: &Path, format: ClipFormat) -> ClipError {
        let path = path.to_path_buf();
        match self {
            Fault::Damaged(why) => ClipError::Damaged { path, format, why },
            Fault::Unsupported(why) => ClipError::Unsupported { path, format, why },
            Fault::TooLarge(why) => ClipError::TooLarge { path, why },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_errors_are_sorted_by_what_a_person_can_do() {
        let sort = |kind: io::ErrorKind| ClipError::from_writing(kind.into(), Path::new("out"), Path::new("out/a.mp4"));
        assert!(matches!(sort(io::ErrorKind::StorageFull), ClipError::DiskFull { .. }));
        assert!(matches!(sort(io::ErrorKind::ReadOnlyFilesystem), ClipError::NotWritable { .. }));
        assert!(matches!(sort(io::ErrorKind::PermissionDenied), ClipError::NotWritable { .. }));
        assert!(matches!(sort(io::ErrorKind::NotFound), ClipError::MissingFolder { .. }));
        assert!(matches!(sort(io::ErrorKind::TimedOut), ClipError::Io { .. }));
    }

    #[test]
    fn an_unknown_ending_lists_the_known_ones() {
        let text = ClipError::UnknownEnding { path: "a.avi".into() }.to_string();
        for ending in [".mp4", ".webm", ".gif", ".apng", ".webp", ".png"] {
            assert!(text.contains(ending), "{text}");
        }
    }
}
