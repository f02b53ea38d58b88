//! A map of attention on its way into a file that the person chooses.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use eframe::egui::Context;

use super::super::file_dialog::{Answer, FileDialog};
use super::Place;
use super::scale::ScaleChoice;
use crate::generate::attention_record::AttentionRecord;
use crate::studio::{StudioError, save_attention};

/// What a map of attention is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttentionFile {
    Png,
    Csv,
}

impl AttentionFile {
    pub fn ending(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Csv => "csv",
        }
    }
}

/// A map, and what it is to become.
#[derive(Clone, Debug, PartialEq)]
pub struct MapFile {
    pub record: Arc<AttentionRecord>,
    pub place: Place,
    pub scale: ScaleChoice,
    pub kind: AttentionFile,
}

impl MapFile {
    /// What the dialog offers.
    fn name(&self) -> String {
        let head = self.place.head.map_or(String::new(), |head| format!("-head-{}", head + 1));
        format!("attention-step-{}-layer-{}{head}.{}", self.record.call + 1, self.place.layer + 1, self.kind.ending())
    }

    fn write(&self, path: &Path) -> Result<(), StudioError> {
        let Place { layer, head } = self.place;
        let largest = self.record.mass(layer, head).largest();
        save_attention(&self.record, layer, head, self.scale.up_to(largest), path)
    }
}

/// The dialog that asks where to.
pub struct SavingMap {
    map: MapFile,
    dialog: FileDialog,
}

impl SavingMap {
    pub fn ask(map: MapFile, context: &Context) -> Self {
        let dialog = rfd::AsyncFileDialog::new()
            .set_title("Save the map of attention")
            .set_file_name(map.name())
            .add_filter(map.kind.ending(), &[map.kind.ending()]);
        Self { map, dialog: FileDialog::save(dialog, context, None) }
    }

    /// The file that was written, once there is an answer; None where nothing was chosen.
    pub fn follow(&self) -> Option<Result<Option<PathBuf>, StudioError>> {
        match self.dialog.answer() {
            Answer::Open => None,
            Answer::Nothing => Some(Ok(None)),
            Answer::Chosen(path) => {
                let path = if path.extension().is_some() { path } else { path.with_extension(self.map.kind.ending()) };
                Some(self.map.write(&path).map(|()| Some(path)))
            }
        }
    }
}
