//! Where a painted plan goes: a path that is typed or chosen, what lies there, and the writing.

use std::fs;
use std::path::{Path, PathBuf, absolute};

use eframe::egui::{Button, Label, Margin, RichText, Sides, TextEdit, Ui, vec2};

use crate::app::file_dialog::{Answer, FileDialog};
use crate::app::theme::{self, Palette};
use crate::mask::MaskPlan;
use crate::studio::{Home, first_free};

const FIRST_NAME: &str = "painted";

/// What lies at the path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Free,
    NoName,
    NoFolder(PathBuf),
    IsFolder,
    /// A file of another plan.
    Replaces,
}

pub struct Saving {
    path: String,
    /// The folder of the studio's own plans, which is made when the first is saved.
    own_folder: PathBuf,
    /// The file that is painted on, which may be replaced.
    opened: Option<PathBuf>,
    /// With the path that was looked at.
    place: (String, Place),
    dialog: Option<FileDialog>,
}

impl Saving {
    /// Into the file that was `opened`, or a new one in the studio's folder.
    pub fn new(home: &Home, opened: Option<&Path>) -> Self {
        let own_folder = home.masks_folder();
        let path = opened.map_or_else(|| first_free(&own_folder, FIRST_NAME, ".json"), Path::to_owned).display().to_string();
        let mut saving =
            Self { place: (String::new(), Place::NoName), path, own_folder, opened: opened.map(Path::to_owned), dialog: None };
        saving.place = (saving.path.clone(), saving.look());
        saving
    }

    /// The whole path, which ends in `json` where it was given no ending.
    fn file(&self) -> PathBuf {
        let path = PathBuf::from(self.path.trim());
        let path = if path.extension().is_none() { path.with_extension("json") } else { path };
        absolute(&path).unwrap_or(path)
    }

    /// Whether the plan can be written there, as far as is seen.
    pub fn can_save(&self) -> bool {
        matches!(self.place.1, Place::Free | Place::Replaces)
    }

    /// Writes the plan, whole or not at all, and gives its file.
    ///
    /// # Errors
    /// In words: it cannot be written there.
    pub fn save(&self, plan: &MaskPlan) -> Result<PathBuf, String> {
        let file = self.file();
        if file.parent() == Some(&self.own_folder) {
            let failed = |error| format!("The folder {} cannot be made: {error}.", self.own_folder.display());
            fs::create_dir_all(&self.own_folder).map_err(failed)?;
        }
        plan.save(&file).map_err(|error| format!("The plan is not saved: {error}. Choose another place."))?;
        Ok(file)
    }

    /// The path, and what is to be known of it. `parent` is the window that the system's dialog belongs to.
    pub fn show(&mut self, ui: &mut Ui, parent: Option<&eframe::Frame>) {
        match self.dialog.as_ref().map(FileDialog::answer) {
            None | Some(Answer::Open) => {}
            Some(Answer::Chosen(path)) => (self.path, self.dialog) = (path.display().to_string(), None),
            Some(Answer::Nothing) => self.dialog = None,
        }
        let palette = Palette::of(ui);
        let (is_open, mut chooses) = (self.dialog.is_some(), false);
        Sides::new().shrink_left().show(
            ui,
            |ui| {
                ui.label(RichText::new("File").color(palette.text_dim));
                let field = TextEdit::singleline(&mut self.path).desired_width(ui.available_width());
                ui.add(field.margin(Margin::symmetric(8, 5))).accessible_name("File of the mask plan");
            },
            |ui| {
                let button = Button::new("Choose…").min_size(vec2(78.0, theme::CONTROL_HEIGHT));
                chooses = ui.add_enabled(!is_open, button).on_hover_text("Opens the system's dialog").clicked();
            },
        );
        if chooses {
            let file = self.file();
            let dialog = rfd::AsyncFileDialog::new()
                .set_title("Save the mask plan")
                .set_file_name(file.file_name().unwrap_or_default().to_string_lossy())
                .set_directory(file.parent().unwrap_or(&self.own_folder))
                .add_filter("Mask plan", &["json"]);
            self.dialog = Some(FileDialog::save(dialog, ui.ctx(), parent));
        }
        if self.place.0 != self.path {
            self.place = (self.path.clone(), self.look());
        }
        let (words, colour) = match &self.place.1 {
            Place::Free => return,
            Place::NoName => ("Give the file a name.".to_owned(), palette.warning),
            Place::NoFolder(folder) => (format!("The folder {} does not exist.", folder.display()), palette.error),
            Place::IsFolder => ("That is a folder. Give the file a name in it.".to_owned(), palette.error),
            Place::Replaces => ("A file of this name is there, and will be replaced.".to_owned(), palette.warning),
        };
        ui.add(Label::new(RichText::new(words).color(colour)).wrap());
    }

    fn look(&self) -> Place {
        if self.path.trim().is_empty() {
            return Place::NoName;
        }
        let file = self.file();
        match file.parent() {
            // Before an ending is put to the name of a folder.
            _ if file.is_dir() || Path::new(self.path.trim()).is_dir() => Place::IsFolder,
            Some(folder) if folder != self.own_folder && !folder.is_dir() => Place::NoFolder(folder.to_owned()),
            _ if file.exists() && self.opened.as_ref() != Some(&file) => Place::Replaces,
            _ => Place::Free,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_gets_a_name_of_its_own_and_is_told_what_it_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::in_folder(folder.path());
        let plan = MaskPlan::uniform(2, 8, "2:6").unwrap();
        let first = Saving::new(&home, None).save(&plan).unwrap();
        assert_eq!(first, home.masks_folder().join("painted.json"));
        let mut second = Saving::new(&home, None);
        assert_eq!((second.file(), second.look()), (home.masks_folder().join("painted-2.json"), Place::Free));
        second.path = home.masks_folder().join("painted").display().to_string();
        assert_eq!((second.file(), second.look()), (first.clone(), Place::Replaces));
        second.path = folder.path().display().to_string();
        assert_eq!(second.look(), Place::IsFolder);
        second.path = folder.path().join("none/plan.json").display().to_string();
        assert!(matches!(second.look(), Place::NoFolder(_)));
        assert!(second.save(&plan).unwrap_err().starts_with("The plan is not saved: "));
        second.path = " ".into();
        assert_eq!(second.look(), Place::NoName);
        let again = Saving::new(&home, Some(&first));
        assert_eq!((again.file(), again.look()), (first, Place::Free));
    }
}
