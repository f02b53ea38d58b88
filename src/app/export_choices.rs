//! What can be chosen for an export, apart from the widgets: kinds of files in words, names, and what is remembered.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clip::{ClipFormat, Edit, Loops, ScaleFilter, WriteOptions};
use crate::generate::recipe::Recipe;
use crate::studio::file_stem;

/// The choices for one clip.
#[derive(Clone, Debug, PartialEq)]
pub struct Choices {
    pub format: ClipFormat,
    pub first_frame: usize,
    pub last_frame: usize,
    pub frames_per_second: f64,
    pub ping_pong: bool,
    pub loops: Loops,
    pub scale: u32,
    pub scale_filter: ScaleFilter,
    /// Of a WebP with losses.
    pub webp_quality: Option<f32>,
    pub recipe_inside: bool,
    pub recipe_beside: bool,
    /// As the person types it.
    pub path: String,
}

/// What the next export begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    ending: String,
    folder: PathBuf,
    webp_quality: Option<f32>,
    recipe_inside: bool,
    recipe_beside: bool,
}

impl Default for Remembered {
    fn default() -> Self {
        let folders = directories::UserDirs::new();
        let videos = folders.as_ref().and_then(|folders| folders.video_dir()).filter(|folder| folder.is_dir());
        let folder = videos.or(folders.as_ref().map(|folders| folders.home_dir())).unwrap_or(Path::new("."));
        let ending = ClipFormat::Mp4.ending().to_owned();
        Self { ending, folder: folder.to_owned(), webp_quality: None, recipe_inside: true, recipe_beside: false }
    }
}

impl Choices {
    pub fn new(recipe: &Recipe, frames: std::ops::RangeInclusive<usize>, remembered: &Remembered) -> Self {
        let format = ClipFormat::ALL.into_iter().find(|format| format.ending() == remembered.ending).unwrap_or(ClipFormat::Mp4);
        let name = format!("{}-{}.{}", file_stem(&recipe.prompt), recipe.seed, format.ending());
        Self {
            format,
            first_frame: *frames.start(),
            last_frame: *frames.end(),
            frames_per_second: f64::from(recipe.frames_per_second),
            ping_pong: false,
            loops: Loops::default(),
            scale: 1,
            scale_filter: ScaleFilter::default(),
            webp_quality: remembered.webp_quality,
            recipe_inside: remembered.recipe_inside,
            recipe_beside: remembered.recipe_beside,
            path: remembered.folder.join(name).display().to_string(),
        }
    }

    pub fn remembered(&self) -> Remembered {
        Remembered {
            ending: self.format.ending().into(),
            folder: self.file().parent().map(Path::to_owned).unwrap_or_default(),
            webp_quality: self.webp_quality,
            recipe_inside: self.recipe_inside,
            recipe_beside: self.recipe_beside,
        }
    }

    pub fn edit(&self) -> Edit {
        Edit {
            first_frame: self.first_frame,
            last_frame: self.last_frame,
            frames_per_second: self.frames_per_second,
            scale: self.scale,
            scale_filter: self.scale_filter,
            ping_pong: self.ping_pong,
            loops: self.loops,
        }
    }

    pub fn options(&self, recipe: &str) -> WriteOptions {
        WriteOptions {
            webp_quality: self.webp_quality.filter(|_| self.format == ClipFormat::Webp),
            sidecar: self.recipe_beside.then(|| recipe.to_owned()),
            ..WriteOptions::default()
        }
    }

    /// The file that is written: absolute, with the ending of the format.
    pub fn file(&self) -> PathBuf {
        let text = self.path.trim();
        let path = match text.strip_prefix("~/").zip(directories::UserDirs::new()) {
            Some((inside, folders)) => folders.home_dir().join(inside),
            None => PathBuf::from(text),
        };
        let path = std::path::absolute(&path).unwrap_or(path);
        if ClipFormat::from_path(&path).is_ok_and(|format| format == self.format) {
            return path;
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(self.format.ending());
        path.with_file_name(name)
    }

    /// Takes another kind of file; the name follows.
    pub fn set_format(&mut self, format: ClipFormat) {
        let path = Path::new(self.path.trim());
        if ClipFormat::from_path(path).is_ok() {
            self.path = path.with_extension(format.ending()).display().to_string();
        }
        self.format = format;
    }

    /// Takes another name; the kind of file follows.
    pub fn set_path(&mut self, path: String) {
        if let Ok(format) = ClipFormat::from_path(Path::new(path.trim())) {
            self.format = format;
        }
        self.path = path;
    }

    /// Why these cannot be written where they should, or what will happen to a file that is there.
    pub fn look_at_place(&self) -> Place {
        let file = self.file();
        let Some(folder) = file.parent().filter(|_| !self.path.trim().is_empty()) else { return Place::NoName };
        if !folder.is_dir() {
            Place::NoFolder(folder.to_owned())
        } else if file.is_dir() {
            Place::IsFolder
        } else if file.exists() {
            Place::Replaces
        } else {
            Place::Free
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Free,
    Replaces,
    NoName,
    NoFolder(PathBuf),
    IsFolder,
}

/// A kind of file in a few words, and in a sentence.
pub fn words(format: ClipFormat) -> (&'static str, &'static str) {
    match format {
        ClipFormat::Mp4 => ("MP4", "Plays everywhere and is small. H.264, slightly lossy."),
        ClipFormat::Webm => ("WebM", "Smaller still and free of patents. AV1, takes longer to write."),
        ClipFormat::Gif => ("GIF", "Plays in every chat and mail. 256 colours, large."),
        ClipFormat::Apng => ("APNG", "Keeps every pixel and plays in browsers. Large."),
        ClipFormat::Webp => ("WebP", "Keeps every pixel, smaller than APNG; plays in browsers."),
        ClipFormat::Png => ("PNG pictures", "One file for each frame, for editing programs."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::studio::tests::recipe;

    fn choices(folder: &Path) -> Choices {
        Choices::new(&recipe("A red ball!"), 2..=8, &Remembered { folder: folder.to_owned(), ..Remembered::default() })
    }

    #[test]
    fn name_and_kind_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut choices = choices(folder.path());
        assert_eq!(choices.file(), folder.path().join("a-red-ball-0.mp4"));
        choices.set_format(ClipFormat::Gif);
        assert_eq!(choices.file(), folder.path().join("a-red-ball-0.gif"));
        choices.set_path(folder.path().join("b.WEBM").display().to_string());
        assert_eq!((choices.format, choices.file()), (ClipFormat::Webm, folder.path().join("b.WEBM")));
        // A name without an ending of a clip gets one.
        choices.set_path(folder.path().join("v1.2").display().to_string());
        assert_eq!(choices.file(), folder.path().join("v1.2.webm"));
    }

    #[test]
    fn the_place_is_looked_at_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut choices = choices(folder.path());
        assert_eq!(choices.look_at_place(), Place::Free);
        std::fs::write(choices.file(), "x").unwrap();
        assert_eq!(choices.look_at_place(), Place::Replaces);
        choices.set_path(folder.path().join("no/x.mp4").display().to_string());
        assert_eq!(choices.look_at_place(), Place::NoFolder(folder.path().join("no")));
        choices.set_path("  ".into());
        assert_eq!(choices.look_at_place(), Place::NoName);
    }

    #[test]
    fn what_is_remembered_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut choices = choices(folder.path());
        choices.set_format(ClipFormat::Webp);
        (choices.webp_quality, choices.recipe_inside, choices.recipe_beside) = (Some(80.0), false, true);
        let text = serde_json::to_string(&choices.remembered()).unwrap();
        let again = Choices::new(&recipe("x"), 0..=4, &serde_json::from_str(&text).unwrap());
        assert_eq!(
            (again.format, again.webp_quality, again.recipe_inside, again.recipe_beside),
            (ClipFormat::Webp, Some(80.0), false, true)
        );
        assert_eq!(again.file(), folder.path().join("x-0.webp"));
    }
}
