//! The export window: what becomes of the clip as a file, where it goes, how far it is.

use std::num::NonZeroU16;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eframe::egui::{
    Align, Button, ComboBox, Context, DragValue, Frame, Id, Label, Layout, Margin, Modal, ProgressBar, RichText, ScrollArea,
    Sense, Sides, TextEdit, Ui, Vec2, vec2,
};

use super::action::Action;
use super::export_choices::{Choices, Place, Remembered, words};
use super::file_dialog::{Answer, FileDialog};
use super::icons::{self, Icon, icon_button};
use super::theme::{self, Palette};
use crate::clip::{ClipFormat, FRAMES_PER_SECOND, Frames, Loops, MOST_LOOPS, SCALES, ScaleFilter, Written};
use crate::studio::words::{bytes, count, duration};
use crate::studio::{ClipEntry, Export, ExportRequest, Loaded, Picture, Studio};

const WIDTH: f32 = 520.0;
/// What is always in view: title, file and buttons, with the space around them.
const HEIGHT_AROUND_CHOICES: f32 = 240.0;
const NAME_WIDTH: f32 = 84.0;
const PREFERENCE: &str = "export";
const DEFAULT_WEBP_QUALITY: f32 = 80.0;

pub struct ExportDialog {
    studio: Arc<Studio>,
    clip: ClipEntry,
    pub choices: Choices,
    /// What lies at the path that was typed last.
    place: (PathBuf, Place),
    /// Taken instead of asking the system's dialog for one.
    path_from: Option<PathBuf>,
    state: Doing,
    /// The keyboard was given to its button.
    has_begun: bool,
}

enum Doing {
    Choosing { dialog: Option<FileDialog>, hint: Option<&'static str> },
    Writing(Export),
    Done(Result<Written, String>),
}

impl ExportDialog {
    /// Exports `frames` of a clip, if not others are chosen. Where `path_from` is given no dialog of the system opens.
    pub fn new(studio: &Arc<Studio>, clip: ClipEntry, frames: RangeInclusive<usize>, path_from: Option<PathBuf>) -> Self {
        let remembered = studio.database().preference::<Remembered>(PREFERENCE).ok().flatten();
        let mut choices = Choices::new(&clip.recipe, frames, &remembered.unwrap_or_default());
        if let Some(path) = &path_from {
            choices.set_path(path.display().to_string());
        }
        let place = (choices.file(), choices.look_at_place());
        let state = Doing::Choosing { dialog: None, hint: None };
        Self { studio: studio.clone(), clip, choices, place, path_from, state, has_begun: false }
    }

    /// `parent` is the window that the system's dialog belongs to. Breaks when the window is to be closed.
    pub fn show(&mut self, context: &Context, parent: Option<&eframe::Frame>, actions: &mut Vec<Action>) -> ControlFlow<()> {
        let frame = Frame::popup(&context.global_style()).inner_margin(Margin::same(theme::SPACE_LARGE as i8));
        let modal = Modal::new(Id::unique("export")).frame(frame).show(context, |ui| {
            ui.set_width(WIDTH.min(context.content_rect().width() - 48.0));
            let closed = self.title(ui);
            match self.state {
                Doing::Choosing { .. } => closed | self.choosing(ui, parent),
                Doing::Writing(_) => closed | self.writing(ui),
                Doing::Done(_) => closed | self.done(ui, actions),
            }
        });
        let is_writing = matches!(self.state, Doing::Writing(_));
        // A click beside it must not end an export.
        let left = if is_writing { modal.inner } else { modal.inner | modal.should_close() };
        if left {
            if let Doing::Writing(export) = &self.state {
                export.cancel();
            }
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn title(&self, ui: &mut Ui) -> bool {
        let mut closed = false;
        Sides::new().shrink_left().show(
            ui,
            |ui| ui.label(theme::title("Export").color(Palette::of(ui).text_strong)),
            |ui| closed = icon_button(ui, Icon::Close, "Close", "Esc").clicked(),
        );
        closed
    }

    fn choosing(&mut self, ui: &mut Ui, parent: Option<&eframe::Frame>) -> bool {
        self.take_chosen_path();
        let frames = self.studio.picture(Picture::Frames(self.clip.id));
        ui.add_space(theme::SPACE_TINY);
        let most = ui.ctx().content_rect().height() - HEIGHT_AROUND_CHOICES;
        let choices = ScrollArea::vertical().id_salt("export choices").max_height(most).auto_shrink([false, true]);
        choices.show(ui, |ui| {
            self.formats(ui);
            ui.add_space(theme::SPACE_TINY);
            self.edits(ui);
            ui.add_space(theme::SPACE_TINY);
            self.recipe(ui);
        });
        self.path(ui, parent);
        let ready = self.summary(ui, &frames);
        ui.add_space(theme::SPACE_SMALL);
        let mut cancelled = false;
        button_row(ui, |ui| {
            let export = ui.add_enabled(ready.is_some(), theme::primary_button(ui, "Export").min_size(vec2(96.0, 32.0)));
            if ready.is_some() && !std::mem::replace(&mut self.has_begun, true) {
                export.request_focus();
            }
            if let (true, Some(frames)) = (export.clicked(), ready) {
                self.start(ui.ctx(), frames);
            }
            cancelled = ui.add(Button::new("Cancel").min_size(vec2(80.0, 32.0))).clicked();
        });
        cancelled
    }

    fn take_chosen_path(&mut self) {
        let Doing::Choosing { dialog, hint } = &mut self.state else { return };
        match dialog.as_ref().map(FileDialog::answer) {
            None | Some(Answer::Open) => {}
            Some(Answer::Chosen(path)) => {
                (*dialog, *hint) = (None, None);
                self.choices.set_path(path.display().to_string());
            }
            Some(Answer::Nothing) => {
                *dialog = None;
                *hint = Some("Nothing was chosen. Where no dialog opens, type the file's name here.");
            }
        }
    }

    fn formats(&mut self, ui: &mut Ui) {
        let palette = Palette::of(ui);
        let spacing = ui.spacing().clone();
        (ui.spacing_mut().item_spacing.y, ui.spacing_mut().interact_size.y) = (2.0, 22.0);
        for format in ClipFormat::ALL {
            let (name, sentence) = words(format);
            let chosen = self.choices.format == format;
            let row = ui.horizontal(|ui| {
                ui.set_width(ui.available_width());
                let chosen = ui.allocate_ui_with_layout(vec2(122.0, 22.0), Layout::left_to_right(Align::Center), |ui| {
                    ui.set_width(122.0);
                    ui.radio(chosen, theme::strong(name).color(palette.text_strong)).clicked()
                });
                ui.add(Label::new(RichText::new(sentence).color(palette.text_dim)).truncate());
                chosen.inner
            });
            // The sentence belongs to the button.
            let sentence_clicked = row.response.interact(Sense::CLICK).clicked();
            if row.inner || sentence_clicked {
                self.choices.set_format(format);
            }
        }
        *ui.spacing_mut() = spacing;
    }

    fn edits(&mut self, ui: &mut Ui) {
        ui.spacing_mut().item_spacing.y = theme::SPACE_TINY;
        let count = self.clip.recipe.frames.max(1);
        let choices = &mut self.choices;
        row(ui, "Frames", |ui| {
            // Counted from 1, as in the player.
            let (mut first, mut last) = (choices.first_frame + 1, choices.last_frame + 1);
            ui.add(DragValue::new(&mut first).range(1..=last).speed(0.1)).accessible_name("First frame");
            ui.label("to");
            ui.add(DragValue::new(&mut last).range(first..=count).speed(0.1)).accessible_name("Last frame");
            ui.label(RichText::new(format!("of {count}")).color(Palette::of(ui).text_dim));
            (choices.first_frame, choices.last_frame) = (first - 1, last - 1);
            if (first, last) != (1, count) && ui.button("All").on_hover_text("The whole clip").clicked() {
                (choices.first_frame, choices.last_frame) = (0, count - 1);
            }
        });
        row(ui, "Speed", |ui| {
            let speed = DragValue::new(&mut choices.frames_per_second).range(1.0..=*FRAMES_PER_SECOND.end()).max_decimals(3);
            ui.add(speed.speed(0.1)).accessible_name("Frames a second");
            ui.label("frames a second");
        });
        row(ui, "Plays", |ui| {
            let text = |loops: Loops| match loops {
                Loops::Forever => "over and over".to_owned(),
                Loops::Times(times) if times.get() == 1 => "once".to_owned(),
                Loops::Times(times) => format!("{times} times"),
            };
            let combo = ComboBox::from_id_salt("loops").width(116.0).icon(icons::drop_down).selected_text(text(choices.loops));
            let combo = combo.show_ui(ui, |ui| {
                ui.selectable_value(&mut choices.loops, Loops::Forever, text(Loops::Forever));
                for times in [1, 2, 3, 5, 10].into_iter().filter_map(NonZeroU16::new) {
                    ui.selectable_value(&mut choices.loops, Loops::Times(times), text(Loops::Times(times)));
                }
            });
            combo
                .response
                .accessible_name("How often it plays")
                .on_hover_text("Videos hold the frames so often; whether they play over and over is up to the player");
            if let Loops::Times(times) = choices.loops {
                let mut number = times.get();
                ui.add(DragValue::new(&mut number).range(1..=MOST_LOOPS).speed(0.1)).accessible_name("Number of plays");
                choices.loops = NonZeroU16::new(number).map_or(Loops::Forever, Loops::Times);
            }
            ui.checkbox(&mut choices.ping_pong, "There and back").on_hover_text("Forwards, then backwards");
        });
        row(ui, "Size", |ui| {
            ui.spacing_mut().item_spacing.x = 2.0;
            for scale in SCALES {
                let button =
                    Button::selectable(choices.scale == scale, format!("{scale}×")).min_size(vec2(34.0, theme::CONTROL_HEIGHT));
                if ui
                    .add(button)
                    .on_hover_text(format!(
                        "{} × {} pixels",
                        self.clip.recipe.width * scale as usize,
                        self.clip.recipe.height * scale as usize
                    ))
                    .clicked()
                {
                    choices.scale = scale;
                }
            }
            if choices.scale > 1 {
                ui.add_space(theme::SPACE_SMALL);
                for (filter, name, tip) in [
                    (ScaleFilter::Smooth, "Smooth", "Lanczos: soft edges stay soft"),
                    (ScaleFilter::Pixels, "Squares", "Every pixel becomes a square"),
                ] {
                    if ui
                        .add(Button::selectable(choices.scale_filter == filter, name).min_size(vec2(0.0, theme::CONTROL_HEIGHT)))
                        .on_hover_text(tip)
                        .clicked()
                    {
                        choices.scale_filter = filter;
                    }
                }
            }
        });
        if choices.format == ClipFormat::Webp {
            row(ui, "Quality", |ui| {
                let mut lossy = choices.webp_quality.is_some();
                if ui.checkbox(&mut lossy, "Smaller, with losses").clicked() {
                    choices.webp_quality = lossy.then_some(DEFAULT_WEBP_QUALITY);
                }
                if let Some(quality) = &mut choices.webp_quality {
                    ui.add(DragValue::new(quality).range(0.0..=100.0).max_decimals(0).suffix(" %")).accessible_name("Quality");
                }
            });
        }
    }

    fn recipe(&mut self, ui: &mut Ui) {
        let palette = Palette::of(ui);
        Frame::new().fill(palette.panel).corner_radius(theme::RADIUS).inner_margin(Margin::symmetric(10, 8)).show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.spacing_mut().item_spacing.y = 4.0;
            ui.checkbox(&mut self.choices.recipe_inside, "Put the recipe into the file (prompt, seed, model …)");
            let words = match self.choices.recipe_inside {
                true => "Who has the file can read it, and make the clip again. Drop the file here to get the settings back.",
                false => "The file holds the pictures alone: no prompt, no settings, no name of a device.",
            };
            ui.indent("recipe words", |ui| ui.label(RichText::new(words).small().color(palette.text_dim)));
            ui.checkbox(&mut self.choices.recipe_beside, "Also write it beside, as a .recipe.json file");
        });
    }

    fn path(&mut self, ui: &mut Ui, parent: Option<&eframe::Frame>) {
        let palette = Palette::of(ui);
        row(ui, "File", |ui| {
            let mut path = self.choices.path.clone();
            let field =
                TextEdit::singleline(&mut path).desired_width(ui.available_width() - 92.0).margin(Margin::symmetric(8, 5));
            if ui.add(field).accessible_name("File to write").changed() {
                self.choices.set_path(path);
            }
            let is_open = matches!(&self.state, Doing::Choosing { dialog: Some(_), .. });
            let choose = ui.add_enabled(!is_open, Button::new("Choose…").min_size(vec2(78.0, theme::CONTROL_HEIGHT)));
            if choose.on_hover_text("Opens the system's dialog").clicked() {
                self.choose(ui.ctx(), parent);
            }
        });
        let file = self.choices.file();
        if self.place.0 != file {
            self.place = (file, self.choices.look_at_place());
        }
        let hint = match &self.state {
            Doing::Choosing { hint, .. } => *hint,
            _ => None,
        };
        let (words, colour) = match &self.place.1 {
            Place::NoName => ("Give the file a name.".to_owned(), palette.warning),
            Place::NoFolder(folder) => (format!("The folder {} does not exist.", folder.display()), palette.error),
            Place::IsFolder => ("That is a folder. Give the file a name in it.".into(), palette.error),
            Place::Replaces => ("A file of this name is there, and will be replaced.".into(), palette.warning),
            Place::Free => (hint.unwrap_or_default().into(), palette.text_dim),
        };
        if !words.is_empty() {
            row(ui, "", |ui| ui.add(Label::new(RichText::new(words).color(colour)).wrap()));
        }
    }

    fn choose(&mut self, context: &Context, parent: Option<&eframe::Frame>) {
        if let Some(path) = &self.path_from {
            self.choices.set_path(path.display().to_string());
            return;
        }
        let file = self.choices.file();
        let (name, _) = words(self.choices.format);
        let mut dialog = rfd::AsyncFileDialog::new()
            .set_title("Export")
            .set_file_name(file.file_name().unwrap_or_default().to_string_lossy())
            .add_filter(name, &[self.choices.format.ending()]);
        if let Some(folder) = file.parent().filter(|_| !matches!(self.place.1, Place::NoFolder(_))) {
            dialog = dialog.set_directory(folder);
        }
        self.state = Doing::Choosing { dialog: Some(FileDialog::save(dialog, context, parent)), hint: None };
    }

    /// What will come out; the frames, if it can be written.
    fn summary(&self, ui: &mut Ui, loaded: &Loaded) -> Option<Arc<Frames>> {
        let palette = Palette::of(ui);
        let (words, colour, frames) = match loaded {
            Loaded::NotYet => ("The frames are loading.".to_owned(), palette.text_dim, None),
            Loaded::Failed(reason) => (reason.to_string(), palette.error, None),
            Loaded::Ready(frames) => match self.choices.edit().check(frames) {
                Err(error) => (format!("{error}."), palette.error, None),
                Ok(size) => {
                    let number = count(size.frames, "frame");
                    let words = format!("{number} of {} × {}, {} long", size.width, size.height, duration(size.seconds));
                    (words, palette.text_dim, Some(frames.clone()))
                }
            },
        };
        row(ui, "", |ui| ui.add(Label::new(RichText::new(words).color(colour)).wrap()));
        frames.filter(|_| matches!(self.place.1, Place::Free | Place::Replaces))
    }

    fn start(&mut self, context: &Context, frames: Arc<Frames>) {
        if let Err(error) = self.studio.database().set_preference(PREFERENCE, &self.choices.remembered()) {
            log::warn!("{error}");
        }
        let recipe = self.clip.recipe.to_json();
        let request = ExportRequest {
            frames,
            edit: self.choices.edit(),
            path: self.choices.file(),
            options: self.choices.options(&recipe),
            recipe: self.choices.recipe_inside.then_some(recipe),
        };
        let waking = context.clone();
        self.state = Doing::Writing(Export::start(request, Box::new(move || waking.request_repaint())));
    }

    fn writing(&mut self, ui: &mut Ui) -> bool {
        let Doing::Writing(export) = &self.state else { return false };
        let palette = Palette::of(ui);
        let file = self.choices.file();
        ui.add_space(theme::SPACE_SMALL);
        ui.add(Label::new(format!("Writing {}", name_of(&file))).truncate());
        let progress = export.progress() as f32;
        let bar = ProgressBar::new(progress).desired_height(8.0).corner_radius(4.0).fill(palette.accent_fill);
        ui.add(bar.desired_width(ui.available_width())).accessible_name("Progress of the export");
        let mut stopped = false;
        button_row(ui, |ui| {
            stopped = ui.add(Button::new("Stop").min_size(vec2(80.0, 32.0))).on_hover_text("No file is left behind").clicked();
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                ui.label(RichText::new(format!("{:.0} %", 100.0 * progress)).color(palette.text_dim));
            });
        });
        if stopped {
            export.cancel();
        }
        let ended = match export.result() {
            Some(Ok(written)) => Some(Doing::Done(Ok(written.clone()))),
            Some(Err(error)) if error.is_stopped() => Some(Doing::Choosing { dialog: None, hint: None }),
            Some(Err(error)) => Some(Doing::Done(Err(error.to_string()))),
            None => None,
        };
        if let Some(ended) = ended {
            self.state = ended;
            self.place = (self.choices.file(), self.choices.look_at_place());
            ui.ctx().request_repaint();
        }
        false
    }

    fn done(&mut self, ui: &mut Ui, actions: &mut Vec<Action>) -> bool {
        let Doing::Done(result) = &self.state else { return false };
        let palette = Palette::of(ui);
        ui.add_space(theme::SPACE_SMALL);
        let (icon, colour, title) = match result {
            Ok(_) => (Icon::Check, palette.good, "The clip is written"),
            Err(_) => (Icon::Warning, palette.error, "The clip was not written"),
        };
        ui.horizontal(|ui| {
            let (rect, _) = ui.allocate_exact_size(Vec2::splat(20.0), Sense::hover());
            icons::paint(ui.painter(), rect, icon, colour);
            ui.label(theme::strong(title).color(palette.text_strong));
        });
        match result {
            Ok(written) => {
                let name = match written.paths.as_slice() {
                    [first, .., last] => format!("{} … {}", name_of(first), name_of(last)),
                    one => one.iter().map(|path| name_of(path)).collect(),
                };
                ui.add(Label::new(format!("{name}, {}", bytes(written.bytes))).wrap().selectable(true));
                if let Some(sidecar) = &written.sidecar {
                    ui.label(format!("{} beside it", name_of(sidecar)));
                }
                let is_off = (written.frames_per_second - self.choices.frames_per_second).abs() > 0.01;
                if is_off && written.note.is_none() {
                    let words = format!(
                        "Players will show {:.2} frames a second: this kind of file has a coarse clock.",
                        written.frames_per_second
                    );
                    ui.add(Label::new(RichText::new(words).color(palette.text_dim)).wrap());
                }
                if let Some(note) = &written.note {
                    ui.add(Label::new(RichText::new(note).color(palette.text_dim)).wrap());
                }
            }
            Err(error) => {
                ui.add(Label::new(error).wrap().selectable(true));
            }
        }
        let shown = result.as_ref().ok().and_then(|written| written.paths.first().cloned());
        let (mut closed, mut again) = (false, false);
        ui.add_space(theme::SPACE_SMALL);
        button_row(ui, |ui| {
            let size = vec2(80.0, 32.0);
            closed = ui.add(theme::primary_button(ui, if shown.is_some() { "Done" } else { "Close" }).min_size(size)).clicked();
            if let Some(path) = shown
                && ui.add(Button::new("Open folder").min_size(size)).clicked()
            {
                actions.push(Action::ShowInFolder(path));
            }
            let name = if result.is_ok() { "Export another" } else { "Change it" };
            again = ui.add(Button::new(name).min_size(size)).clicked();
        });
        if again {
            self.state = Doing::Choosing { dialog: None, hint: None };
        }
        closed
    }
}

/// The buttons at the end, from right to left. Its height is its own: the dialog would stay as high as it ever was.
fn button_row(ui: &mut Ui, content: impl FnOnce(&mut Ui)) {
    let size = vec2(ui.available_width(), 32.0);
    ui.allocate_ui_with_layout(size, Layout::right_to_left(Align::Center), content);
}

/// A named line of the dialog.
fn row<R>(ui: &mut Ui, name: &str, content: impl FnOnce(&mut Ui) -> R) {
    ui.horizontal(|ui| {
        let size = vec2(NAME_WIDTH, theme::CONTROL_HEIGHT);
        ui.allocate_ui_with_layout(size, Layout::left_to_right(Align::Center), |ui| {
            ui.set_width(NAME_WIDTH);
            ui.label(RichText::new(name).color(Palette::of(ui).text_dim));
        });
        content(ui);
    });
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
