//! Where a run keeps what it makes: the model's folders at the top, its own files below `training`.

use std::path::{Path, PathBuf};

/// The folder of a model that is trained, and of one of its trainings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    root: PathBuf,
    kind: &'static str,
}

impl RunFolder {
    /// `kind` is what is trained, such as `base`.
    pub fn new(root: &Path, kind: &'static str) -> Self {
        Self { root: root.to_owned(), kind }
    }

    /// The model's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A network's folder in the model.
    pub fn network(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn own(&self) -> PathBuf {
        self.root.join("training").join(self.kind)
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.own().join("checkpoint.safetensors")
    }

    /// The packed checkpoint's folder.
    pub fn packed(&self) -> PathBuf {
        self.own().join("packed")
    }

    pub fn curves_csv(&self) -> PathBuf {
        self.own().join("curves.csv")
    }

    pub fn curves_png(&self) -> PathBuf {
        self.own().join("curves.png")
    }

    /// The sample sheet of a step.
    pub fn sheet(&self, step: u64) -> PathBuf {
        self.own().join("sheets").join(format!("step-{step:07}.png"))
    }

    /// Encoded clips, made once for all runs of this model.
    pub fn latents(&self) -> PathBuf {
        self.root.join("training").join("latents.bin")
    }

    /// Encoded clips of another number of frames than the model's own.
    pub fn latents_of_length(&self, frames: usize) -> PathBuf {
        self.root.join("training").join(format!("latents-{frames}.bin"))
    }
}
