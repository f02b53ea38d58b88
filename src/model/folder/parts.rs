//! The parts of a published folder as files, whether or not they make a whole model: for taking them over.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::FolderError;
use super::files::ModelFiles;
use super::kind::{FolderKind, kind_of};
use super::{CONFIG, FACTS, MASK_PLAN, PREVIEW, SENTENCE_PIECE, SPECIAL_TOKENS, TOKENIZER_CONFIG, TOKENIZER_JSON};
use crate::model::weights::{WeightSource, is_ignorable_text_encoder_key, is_ignorable_vae_key};

/// A transformer, a VAE or a text encoder in a folder on disk.
#[derive(Debug)]
pub struct PublishedPart {
    kind: FolderKind,
    path: PathBuf,
    weights: String,
}

/// The name of a part's weights after they were taken over, which a folder is searched for first.
const WEIGHTS: &str = "model.safetensors";

/// The parts in `root` and in the folders in it, in the order of their names.
///
/// # Errors
/// There is none, or the weights of one are not clear.
pub fn published_parts(root: &Path) -> Result<Vec<PublishedPart>, FolderError> {
    let unreadable = |source| FolderError::Unreadable { location: root.display().to_string(), source };
    if !fs::metadata(root).map_err(unreadable)?.is_dir() {
        return Err(unreadable(io::Error::other("it is not a folder")));
    }
    let own = ModelFiles::Disk(root.to_owned());
    let mut parts = Vec::new();
    for files in [own.clone()].into_iter().chain(own.subfolders()) {
        let (Some(kind), ModelFiles::Disk(path)) = (kind_of(&files)?, &files) else { continue };
        if matches!(kind, FolderKind::Foreign(_)) {
            continue;
        }
        if let Some(weights) = files.weight_file()? {
            parts.push(PublishedPart { kind, path: path.clone(), weights });
        }
    }
    if parts.is_empty() { Err(FolderError::NoModel { location: root.display().to_string() }) } else { Ok(parts) }
}

impl PublishedPart {
    /// What it is, for people.
    pub fn what(&self) -> &'static str {
        match self.kind {
            FolderKind::Transformer => "transformer",
            FolderKind::Vae => "VAE",
            FolderKind::TextEncoder | FolderKind::Foreign(_) => "text encoder",
        }
    }

    /// Its folder's own name.
    pub fn name(&self) -> String {
        ModelFiles::Disk(self.path.clone()).name()
    }

    /// # Errors
    /// The weights cannot be read or are damaged.
    pub fn open_weights(&self) -> Result<WeightSource, FolderError> {
        Ok(WeightSource::open(&self.path.join(&self.weights))?)
    }

    /// Whether its network needs a tensor of this name.
    pub fn needs(&self, tensor: &str) -> bool {
        match self.kind {
            FolderKind::Transformer => true,
            FolderKind::Vae => !is_ignorable_vae_key(tensor),
            FolderKind::TextEncoder | FolderKind::Foreign(_) => !is_ignorable_text_encoder_key(tensor),
        }
    }

    /// Where its weights go in a folder of its own.
    pub fn weights_in(folder: &Path) -> PathBuf {
        folder.join(WEIGHTS)
    }

    /// Copies what lies beside its weights and counts: configurations, the tokenizer, plans.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn copy_small_files(&self, folder: &Path) -> Result<(), FolderError> {
        let unreadable = |path: &Path| {
            let location = path.display().to_string();
            move |source| FolderError::Unreadable { location, source }
        };
        fs::create_dir_all(folder).map_err(unreadable(folder))?;
        let names = [CONFIG, FACTS, MASK_PLAN, PREVIEW, SENTENCE_PIECE, TOKENIZER_JSON, TOKENIZER_CONFIG, SPECIAL_TOKENS];
        for name in names {
            let from = self.path.join(name);
            if !from.is_file() {
                continue;
            }
            let mut aside = tempfile::NamedTempFile::new_in(folder).map_err(unreadable(folder))?;
            let mut source = fs::File::open(&from).map_err(unreadable(&from))?;
            io::copy(&mut source, &mut aside).map_err(unreadable(&from))?;
            let to = folder.join(name);
            aside.persist(&to).map_err(|error| error.error).map_err(unreadable(&to))?;
        }
        Ok(())
    }
}
