//! The kinds of files: chosen by the ending of the name when writing, by the contents when reading.

use std::fmt;
use std::path::Path;

use super::ClipError;

/// A kind of clip file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClipFormat {
    /// H.264 in an MP4 file: plays everywhere.
    Mp4,
    /// AV1 in a WebM file: smaller, free of patents, slower to write.
    Webm,
    /// 256 dithered colours and a coarse clock, but every chat window plays it.
    Gif,
    /// Animated PNG: lossless.
    Apng,
    /// Animated WebP: lossless unless a quality is asked for.
    Webp,
    /// One PNG file a frame.
    Png,
}

impl ClipFormat {
    /// Every kind, the most useful first.
    pub const ALL: [ClipFormat; 6] =
        [ClipFormat::Mp4, ClipFormat::Webm, ClipFormat::Gif, ClipFormat::Apng, ClipFormat::Webp, ClipFormat::Png];

    /// The ending of the file name, without the dot.
    pub const fn ending(self) -> &'static str {
        match self {
            ClipFormat::Mp4 => "mp4",
            ClipFormat::Webm => "webm",
            ClipFormat::Gif => "gif",
            ClipFormat::Apng => "apng",
            ClipFormat::Webp => "webp",
            ClipFormat::Png => "png",
        }
    }

    /// All endings for messages: `.mp4, .webm, ..`.
    pub fn known_endings() -> String {
        ClipFormat::ALL.map(|format| format!(".{}", format.ending())).join(", ")
    }

    /// The kind that a file name asks for; upper and lower case are the same.
    ///
    /// # Errors
    /// [`ClipError::UnknownEnding`] with a list of what is known.
    pub fn from_path(path: &Path) -> Result<Self, ClipError> {
        let ending = path.extension().and_then(|ending| ending.to_str());
        ending
            .and_then(|ending| ClipFormat::ALL.into_iter().find(|format| format.ending().eq_ignore_ascii_case(ending)))
            .ok_or_else(|| ClipError::UnknownEnding { path: path.to_path_buf() })
    }

    /// The kind that the first bytes of a file tell. Still and animated PNG look alike here and are both
    /// reported as [`ClipFormat::Png`].
    pub(super) fn from_contents(bytes: &[u8]) -> Option<Self> {
        const EBML: [u8; 4] = [0x1A, 0x45, 0xDF, 0xA3];
        if bytes.get(4..8) == Some(b"ftyp") {
            Some(ClipFormat::Mp4)
        } else if bytes.starts_with(&EBML) {
            Some(ClipFormat::Webm)
        } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
            Some(ClipFormat::Gif)
        } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(ClipFormat::Png)
        } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            Some(ClipFormat::Webp)
        } else {
            None
        }
    }
}

impl fmt::Display for ClipFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.ending())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_decides_in_any_case() {
        let format = |name: &str| ClipFormat::from_path(Path::new(name)).ok();
        assert_eq!(format("a b/ü.MP4"), Some(ClipFormat::Mp4));
        assert_eq!(format("x.tar.webm"), Some(ClipFormat::Webm));
        assert_eq!(format("x.avi"), None);
        assert_eq!(format("mp4"), None);
        assert_eq!(format(""), None);
    }
}
