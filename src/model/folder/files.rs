//! A folder of a model, on disk or inside the program, seen alike.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::embedded;
use super::error::FolderError;
use crate::model::weights::{WeightError, WeightSource};

/// Largest file that is read whole; the tokenizer of a large vocabulary has 16 MB.
const FILE_LIMIT: u64 = 64 << 20;

/// Largest JSON configuration; published ones have a few kB.
const JSON_LIMIT: u64 = 1 << 20;

/// A folder that belongs to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelFiles {
    Disk(PathBuf),
    /// A folder of the built-in model; "" is its root.
    Embedded(String),
}

impl ModelFiles {
    /// The root of the model that is part of the program, if one is.
    pub fn built_in() -> Option<Self> {
        (!embedded::FILES.is_empty()).then(|| Self::Embedded(String::new()))
    }

    /// The folder's own name.
    pub fn name(&self) -> String {
        match self {
            Self::Disk(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            Self::Embedded(folder) if folder.is_empty() => embedded::ROOT_NAME.to_owned(),
            Self::Embedded(folder) => folder.rsplit('/').next().unwrap_or(folder).to_owned(),
        }
    }

    /// A path for people, of a file in the folder or, with "", of the folder.
    pub fn location(&self, relative: &str) -> String {
        match self {
            Self::Disk(path) if relative.is_empty() => path.display().to_string(),
            Self::Disk(path) => path.join(relative).display().to_string(),
            Self::Embedded(folder) => {
                let parts = [embedded::ROOT_NAME, folder, relative];
                let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                format!("built-in {}", parts.join("/"))
            }
        }
    }

    /// The folder above; none above the root of the built-in model or of a disk.
    pub fn parent(&self) -> Option<Self> {
        match self {
            Self::Disk(path) => path.parent().map(|parent| Self::Disk(parent.to_owned())),
            Self::Embedded(folder) if folder.is_empty() => None,
            Self::Embedded(folder) => Some(Self::Embedded(folder.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned())),
        }
    }

    /// The folders inside, in the order of their names. A folder that cannot be listed has none.
    pub fn subfolders(&self) -> Vec<Self> {
        match self {
            Self::Disk(path) => entries(path).into_iter().filter(|path| path.is_dir()).map(Self::Disk).collect(),
            Self::Embedded(folder) => {
                let mut names: Vec<&str> =
                    embedded_inside(folder).filter_map(|(rest, _)| Some(rest.split_once('/')?.0)).collect();
                names.sort_unstable();
                names.dedup();
                names.into_iter().map(|name| Self::Embedded(joined(folder, name))).collect()
            }
        }
    }

    /// The names of the files inside, in order.
    pub fn file_names(&self) -> Vec<String> {
        match self {
            Self::Disk(path) => entries(path)
                .into_iter()
                .filter(|path| path.is_file())
                .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
                .collect(),
            Self::Embedded(folder) => {
                let mut names: Vec<String> =
                    embedded_inside(folder).filter(|(rest, _)| !rest.contains('/')).map(|(rest, _)| rest.to_owned()).collect();
                names.sort_unstable();
                names
            }
        }
    }

    /// True if there is a file of this name.
    pub fn exists(&self, relative: &str) -> bool {
        match self {
            Self::Disk(path) => path.join(relative).is_file(),
            Self::Embedded(folder) => embedded_file(folder, relative).is_some(),
        }
    }

    /// The bytes of a small file.
    ///
    /// # Errors
    /// If it is not there, not a file, not readable, or larger than 64 MiB.
    pub fn read(&self, relative: &str) -> Result<Vec<u8>, FolderError> {
        self.read_up_to(relative, FILE_LIMIT)
    }

    pub(super) fn read_if_exists(&self, relative: &str) -> Result<Option<Vec<u8>>, FolderError> {
        self.exists(relative).then(|| self.read(relative)).transpose()
    }

    pub(super) fn read_text(&self, relative: &str) -> Result<String, FolderError> {
        String::from_utf8(self.read(relative)?).map_err(|_| FolderError::NotText { location: self.location(relative) })
    }

    pub(super) fn read_text_if_exists(&self, relative: &str) -> Result<Option<String>, FolderError> {
        self.exists(relative).then(|| self.read_text(relative)).transpose()
    }

    /// A JSON object of at most 1 MiB.
    pub(super) fn read_json(&self, relative: &str) -> Result<Value, FolderError> {
        let not_json = |reason| FolderError::NotJson { location: self.location(relative), reason };
        let bytes = self.read_up_to(relative, JSON_LIMIT)?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| not_json(error.to_string()))?;
        if value.is_object() { Ok(value) } else { Err(not_json("it is not an object {..}".to_owned())) }
    }

    fn read_up_to(&self, relative: &str, limit: u64) -> Result<Vec<u8>, FolderError> {
        let unreadable = |source| FolderError::Unreadable { location: self.location(relative), source };
        let too_large = || FolderError::TooLarge { location: self.location(relative), limit };
        match self {
            Self::Disk(path) => {
                let path = path.join(relative);
                // A pipe or a device would block or never end.
                if !fs::metadata(&path).map_err(unreadable)?.is_file() {
                    return Err(unreadable(io::Error::other("it is not a file")));
                }
                let mut bytes = Vec::new();
                let file = File::open(&path).map_err(unreadable)?;
                file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
                if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
            }
            Self::Embedded(folder) => {
                embedded_file(folder, relative).map(<[u8]>::to_vec).ok_or_else(|| unreadable(io::ErrorKind::NotFound.into()))
            }
        }
    }

    /// The weight file to open in this folder, if there is one: the published names first, then safetensors before pickles.
    ///
    /// # Errors
    /// If several files are equally good.
    pub(super) fn weight_file(&self) -> Result<Option<String>, FolderError> {
        const PUBLISHED: [&str; 4] = [
            "diffusion_pytorch_model.safetensors",
            "model.safetensors",
            "diffusion_pytorch_model.safetensors.index.json",
            "model.safetensors.index.json",
        ];
        /// Accelerate and the trainers leave other `.bin` files beside these.
        const PUBLISHED_PICKLES: [&str; 2] = ["pytorch_model.bin", "diffusion_pytorch_model.bin"];
        const ENDINGS: [&[&str]; 7] = [
            &[".safetensors.index.json"],
            &[".safetensors"],
            &[".ckpt"],
            &[".pt", ".pth"],
            &[".bin.index.json"],
            &PUBLISHED_PICKLES,
            &[".bin"],
        ];
        let names = self.file_names();
        if let Some(name) = PUBLISHED.iter().find(|name| names.iter().any(|found| found == *name)) {
            return Ok(Some((*name).to_owned()));
        }
        for endings in ENDINGS {
            let fits = |name: &&String| endings.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending));
            let found: Vec<&String> = names.iter().filter(fits).collect();
            match found[..] {
                [] => {}
                [one] => return Ok(Some(one.clone())),
                ref several => {
                    return Err(FolderError::SeveralWeights {
                        location: self.location(""),
                        files: several.iter().map(|name| (*name).clone()).collect(),
                    });
                }
            }
        }
        Ok(None)
    }

    pub(super) fn open_weights(&self, relative: &str) -> Result<WeightSource, WeightError> {
        match self {
            Self::Disk(path) => WeightSource::open(&path.join(relative)),
            Self::Embedded(folder) => {
                let location = self.location(relative);
                let bytes = embedded_file(folder, relative).ok_or_else(|| WeightError::Unreadable {
                    location: location.clone(),
                    source: io::ErrorKind::NotFound.into(),
                })?;
                WeightSource::embedded(&location, bytes)
            }
        }
    }

    /// The bytes of a built-in file, without a copy; none if the folder is on disk.
    pub(super) fn embedded_bytes(&self, relative: &str) -> Option<&'static [u8]> {
        match self {
            Self::Disk(_) => None,
            Self::Embedded(folder) => embedded_file(folder, relative),
        }
    }
}

/// What lies in a folder on disk, in order. One that cannot be listed counts as empty: it is one of many looked into.
fn entries(folder: &Path) -> Vec<PathBuf> {
    match fs::read_dir(folder) {
        Ok(listing) => {
            let mut paths: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            paths
        }
        Err(error) => {
            log::debug!("cannot list {}: {error}", folder.display());
            Vec::new()
        }
    }
}

/// The built-in files below a folder, by their path from there.
fn embedded_inside(folder: &str) -> impl Iterator<Item = (&'static str, &'static [u8])> {
    embedded::FILES.iter().filter_map(move |&(path, bytes)| {
        let rest = if folder.is_empty() { path } else { path.strip_prefix(folder)?.strip_prefix('/')? };
        Some((rest, bytes))
    })
}

fn embedded_file(folder: &str, relative: &str) -> Option<&'static [u8]> {
    let wanted = joined(folder, relative);
    embedded::FILES.iter().find(|(path, _)| *path == wanted).map(|&(_, bytes)| bytes)
}

fn joined(folder: &str, relative: &str) -> String {
    if folder.is_empty() { relative.to_owned() } else { format!("{folder}/{relative}") }
}
