//! Where models are looked for, and which of them a name means.

use std::env;
use std::path::{Component, Path, PathBuf};

use super::ModelFolder;
use super::error::FolderError;
use super::files::ModelFiles;
use super::kind::{FolderKind, kind_of};

/// The variable with folders of models, separated as in PATH.
pub(super) const MODELS_VARIABLE: &str = "TILEREEL_MODELS";

/// The folders that names are looked up in, in order.
///
/// Each may be a transformer's folder, the root of a model (with transformers in it), or a folder of such roots.
#[derive(Debug, Clone, Default)]
pub struct SearchPath {
    pub folders: Vec<PathBuf>,
    /// Whether the model inside the program is looked at last.
    pub built_in: bool,
}

impl SearchPath {
    /// The folders of the variable TILEREEL_MODELS; the `assets/models` of the package that this program was built from and
    /// of the folder that it lies in; `models` in the user's data folder; the model inside the program.
    pub fn standard() -> Self {
        let mut folders: Vec<PathBuf> = env::var_os(MODELS_VARIABLE)
            .map(|value| env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).collect())
            .unwrap_or_default();
        let program = env::current_exe().ok();
        let beside_program = program.as_deref().and_then(Path::parent);
        for package in [Some(Path::new(env!("CARGO_MANIFEST_DIR"))), beside_program].into_iter().flatten() {
            let models = package.join("assets").join("models");
            if models.is_dir() && !folders.contains(&models) {
                folders.push(models);
            }
        }
        if let Some(user) = Self::user_folder() {
            folders.push(user);
        }
        Self { folders, built_in: true }
    }

    /// Where a user's own models go; none if the system has no place for user data.
    pub fn user_folder() -> Option<PathBuf> {
        directories::ProjectDirs::from("", "", "tilereel").map(|folders| folders.data_dir().join("models"))
    }

    fn described(&self) -> Vec<String> {
        let on_disk = self.folders.iter().map(|folder| {
            let absent = if folder.is_dir() { "" } else { " (no such folder)" };
            format!("{}{absent}", folder.display())
        });
        let built_in = ModelFiles::built_in().filter(|_| self.built_in).map(|_| "the model inside this program".to_owned());
        on_disk.chain(built_in).collect()
    }
}

/// A model that was found, whether or not it can be opened.
#[derive(Debug)]
pub struct ListedModel {
    /// ROOT/NAME, which [`ModelFolder::resolve`] understands.
    pub name: String,
    /// Where it is, for people.
    pub location: String,
    /// The opened folder, or why it cannot be used.
    pub folder: Result<ModelFolder, FolderError>,
}

/// All models of the search path, in its order. One that is hidden by another of the same ROOT/NAME is left out.
pub fn list(search: &SearchPath) -> Vec<ListedModel> {
    candidates(search)
        .into_iter()
        .map(|found| ListedModel {
            name: found.qualified(),
            location: found.files.location(""),
            folder: ModelFolder::open(found.files),
        })
        .collect()
}

pub(super) fn resolve(name_or_path: &str, search: &SearchPath) -> Result<ModelFolder, FolderError> {
    let path = Path::new(name_or_path);
    let is_plain = matches!(path.components().collect::<Vec<_>>()[..], [Component::Normal(_)])
        && !name_or_path.contains(std::path::is_separator);
    if !is_plain && path.is_dir() {
        return open_on_disk(path);
    }
    let found = candidates(search);
    let wanted = name_or_path.replace(std::path::MAIN_SEPARATOR, "/");
    if let Some(place) = found.iter().position(|one| one.name == wanted || one.qualified() == wanted) {
        return ModelFolder::open(found[place].files.clone());
    }
    let of_root: Vec<&Candidate> = found.iter().filter(|one| one.root == wanted).collect();
    match of_root[..] {
        [] => {}
        [one] => return ModelFolder::open(one.files.clone()),
        ref several => {
            let models = several.iter().map(|one| one.qualified()).collect();
            return Err(FolderError::SeveralModels { location: wanted, models });
        }
    }
    if path.is_dir() {
        return open_on_disk(path);
    }
    Err(FolderError::UnknownModel {
        name: name_or_path.to_owned(),
        looked: search.described(),
        available: found.iter().map(|one| format!("{}  ({})", one.qualified(), one.files.location(""))).collect(),
    })
}

/// Opens a transformer's folder, or the only transformer in a root.
fn open_on_disk(path: &Path) -> Result<ModelFolder, FolderError> {
    let folder = ModelFiles::Disk(rooted(path));
    if kind_of(&folder)?.is_some() {
        return ModelFolder::open(folder);
    }
    let mut transformers = Vec::new();
    let mut foreign = Vec::new();
    let mut damaged = None;
    for inside in folder.subfolders() {
        match kind_of(&inside) {
            Ok(Some(FolderKind::Transformer)) => transformers.push(inside),
            Ok(Some(FolderKind::Foreign(what))) => foreign.push(format!("{} is {what}", inside.name())),
            Ok(_) => {}
            Err(error) => damaged = damaged.or(Some(error)),
        }
    }
    match &transformers[..] {
        [one] => ModelFolder::open(one.clone()),
        [] => Err(damaged.unwrap_or_else(|| {
            let location = folder.location("");
            if foreign.is_empty() {
                FolderError::NoModel { location }
            } else {
                let found = format!("not a model that can be used: {}", foreign.join("; "));
                FolderError::WrongFamily { location, found }
            }
        })),
        several => {
            let models = several.iter().map(|one| one.location("")).collect();
            Err(FolderError::SeveralModels { location: folder.location(""), models })
        }
    }
}

/// The path from the root of the disk, so that the folder above it is known. Links stay as they are: the parts may lie
/// beside the link.
fn rooted(path: &Path) -> PathBuf {
    let goes_up = path.components().any(|component| component == Component::ParentDir);
    let rooted = if goes_up { path.canonicalize() } else { std::path::absolute(path) };
    rooted.unwrap_or_else(|_| path.to_owned())
}

/// A transformer's folder in the search path.
struct Candidate {
    root: String,
    name: String,
    files: ModelFiles,
}

impl Candidate {
    fn qualified(&self) -> String {
        format!("{}/{}", self.root, self.name)
    }
}

fn candidates(search: &SearchPath) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut add = |files: ModelFiles| {
        let root = files.parent().map(|parent| parent.name()).unwrap_or_default();
        let candidate = Candidate { root, name: files.name(), files };
        if found.iter().all(|earlier| earlier.qualified() != candidate.qualified()) {
            found.push(candidate);
        }
    };
    for folder in &search.folders {
        let folder = ModelFiles::Disk(rooted(folder));
        if may_be_transformer(&folder) {
            add(folder);
            continue;
        }
        for inside in folder.subfolders() {
            if may_be_transformer(&inside) {
                add(inside);
            } else {
                inside.subfolders().into_iter().filter(may_be_transformer).for_each(&mut add);
            }
        }
    }
    if let Some(built_in) = ModelFiles::built_in().filter(|_| search.built_in) {
        built_in.subfolders().into_iter().filter(may_be_transformer).for_each(&mut add);
    }
    found
}

/// True for transformers, and for folders whose configuration is damaged: passing those over in silence would make a
/// name mean another model further down the path.
fn may_be_transformer(files: &ModelFiles) -> bool {
    matches!(kind_of(files), Ok(Some(FolderKind::Transformer)) | Err(_))
}
