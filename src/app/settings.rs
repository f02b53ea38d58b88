//! The panel on the left: prompt, model, mask, and all that a clip can be made with; below, the button that makes it.

use std::path::PathBuf;
use std::sync::Arc;

use eframe::egui::{self, Align, Context, Label, Layout, RichText, Role, ScrollArea, Ui, WidgetInfo, vec2};

use super::action::Action;
use super::controls;
use super::devices_row;
use super::file_dialog::{Answer, FileDialog, Wanted};
use super::forecast::Forecast;
use super::hint;
use super::history::differences;
use super::icons::{self, Icon, icon_button};
use super::mask_dial::{MaskDial, Opens, notice};
use super::models_menu::{ModelsMenu, told};
use super::preferences::Level;
use super::prompt::PromptBox;
use super::theme::{self, Palette};
use crate::generate::recipe::MaskChoice;
use crate::studio::{
    ClipId, DeviceState, Draft, ItemId, Leaving, ModelInfo, Opened, QueueItem, State, Studio, StudioError, words,
};

/// What the first prompt is, until the person types another.
const FIRST_PROMPT: &str = "a shiny red ball bounces on the snow at sunset";
/// The preference with the folders that the person opened as models.
const FOLDERS: &str = "model_folders";
const GENERATE_HEIGHT: f32 = 40.0;
/// What of a prompt is told in the banner of a branch.
const TOLD_LETTERS: usize = 48;

/// The settings that a person finds who has made none.
pub fn first_draft() -> Draft {
    Draft { prompt: FIRST_PROMPT.to_owned(), ..Draft::first() }
}

/// What the settings are of: the step that a branch leaves, and the item that is edited.
type Origin = (Option<(ClipId, usize)>, Option<ItemId>);

#[derive(Default)]
pub struct SettingsPanel {
    prompt: PromptBox,
    models: ModelsMenu,
    dial: MaskDial,
    controls: controls::Controls,
    forecast: Forecast,
    dialog: Option<(Wanted, FileDialog)>,
    /// Folders that the person opened; None until they were read.
    folders: Option<Vec<String>>,
    /// Nothing was made yet, as of this many finished runs and items of the queue.
    first_start: Option<((u64, usize), bool)>,
    footer_height: f32,
    /// As of the last frame; None before the first.
    shown_of: Option<Origin>,
    is_ready: bool,
    /// How much is shown.
    pub level: Level,
    /// The keys that generate, in words.
    pub keys: String,
    /// What to look at first is said above all, with these keys for the list of commands.
    pub hint: Option<String>,
}

impl SettingsPanel {
    /// `leaving` is the step that the run goes on from, `editing` the item of the queue that it replaces.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        studio: &Studio,
        draft: &mut Draft,
        leaving: Option<&Leaving>,
        editing: Option<ItemId>,
        actions: &mut Vec<Action>,
    ) {
        let state = studio.state();
        self.follow(studio, &state, draft, actions);
        let opened = studio.catalog().get(&draft.model);
        let model = opened.model().cloned();
        match &model {
            Some(model) => {
                self.forecast.of(draft, model, leaving);
            }
            None => self.forecast.forget(),
        }

        self.banner(ui, leaving, editing, actions);
        let height = ui.available_height() - self.footer_height - theme::SPACE_SMALL;
        let mut scroll = ScrollArea::vertical().max_height(height.max(80.0)).auto_shrink([false, false]);
        // Whose settings came into the panel is seen by the prompt. So it is at the start: egui remembers how far the last
        // window was scrolled.
        let of = Some((leaving.map(|from| (from.clip, from.call)), editing));
        if of != self.shown_of {
            self.shown_of = of;
            scroll = scroll.vertical_scroll_offset(0.0);
        }
        scroll.show(ui, |ui| {
            // Room for the bar, which lies over the content.
            egui::Frame::new().inner_margin(egui::Margin { right: 8, ..Default::default() }).show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = theme::SPACE_SMALL;
                if let Some(keys) = &self.hint {
                    hint::show(ui, keys, actions);
                }
                self.prompt.in_short = self.level == Level::Simple;
                self.prompt.show(ui, studio, draft, model.as_ref(), self.forecast.last().tokens);
                section(ui, "Model");
                let locked = leaving.map(|_| "A branch keeps the model of the clip that it leaves.");
                self.models.show(ui, studio, draft, &mut self.forecast, locked, actions);
                if let (Some(model), Level::Simple) = (&model, self.level) {
                    section(ui, "Clip");
                    self.controls.clip_in_short(ui, draft, model, leaving);
                    self.controls.steps(ui, draft, model, leaving, "Quality");
                    section(ui, "Seed");
                    self.controls.seed(ui, draft);
                    hidden(ui, draft, model, actions);
                }
                if let (Some(model), Level::Lab) = (&model, self.level) {
                    section(ui, "Attention mask");
                    self.mask(ui, draft, actions);
                    section(ui, "Clip");
                    self.controls.clip(ui, draft, model, leaving);
                    section(ui, "Sampling");
                    self.controls.sampling(ui, draft, model, leaving);
                    section(ui, "Seed");
                    self.controls.seed_and_clips(ui, draft, leaving.is_some() || editing.is_some());
                    if devices_row::is_needed(&state.adapters, &state.chosen) {
                        section(ui, "Devices");
                        let device = match &state.device {
                            DeviceState::Ready(device) => Some(&**device),
                            DeviceState::Opening | DeviceState::Failed(_) => None,
                        };
                        devices_row::show(ui, &state.adapters, &state.chosen, device, actions);
                    }
                }
                ui.add_space(theme::SPACE_SMALL);
                super::focus::follow(ui);
            });
        });
        if std::mem::take(&mut self.models.look_again) {
            studio.catalog().list(self.folders.as_deref().unwrap_or_default());
        }
        // What was changed in this frame is what the button below is about.
        if let Some(model) = &model {
            self.forecast.of(draft, model, leaving);
        }
        let problem = self.problem(&state, &opened);
        self.is_ready = problem.is_none();
        let footer = ui.scope(|ui| self.footer(ui, draft, problem, leaving, editing, actions)).response;
        if (self.footer_height - footer.rect.height()).abs() > 0.5 {
            self.footer_height = footer.rect.height();
            ui.ctx().request_discard("the height of the panel's foot has changed");
        }
    }

    /// Whether a run could be queued when the panel was shown last.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Seconds that are left of an item of the queue, as far as its model is known.
    pub fn item_seconds(&self, item: &QueueItem) -> Option<f64> {
        self.forecast.item_seconds(item.id)
    }

    /// What the settings will cost.
    pub fn forecast(&self) -> &Forecast {
        &self.forecast
    }

    /// Looks at the settings anew, though they are the same: a file that they name was written.
    pub fn look_again(&mut self) {
        self.forecast.look_again();
    }

    /// The model of this name, whose files were read.
    ///
    /// # Errors
    /// It is still being opened, or cannot be used.
    pub fn model(&self, studio: &Studio, name: &str) -> Result<Arc<ModelInfo>, StudioError> {
        match studio.catalog().get(name) {
            Opened::Ready(model) => Ok(model),
            Opened::Opening | Opened::Hashing(_) => Err(StudioError::ModelIsOpening { name: name.to_owned() }),
            Opened::Failed(reason) => Err(StudioError::ModelUnusable { reason }),
        }
    }

    /// Takes a folder into the list of models, for later starts too.
    ///
    /// # Errors
    /// The preferences cannot be written.
    pub fn add_model(&mut self, studio: &Studio, name: &str) -> Result<(), StudioError> {
        let folders = self.folders.get_or_insert_with(|| remembered_folders(studio));
        if !folders.iter().any(|folder| folder == name) {
            folders.push(name.to_owned());
        }
        studio.catalog().list(folders);
        studio.database().set_preference(FOLDERS, folders)
    }

    /// Asks for a folder; the answer comes as [`Action::OpenModel`].
    pub fn choose_model(&mut self, context: &Context) {
        self.dialog = Some((Wanted::ModelFolder, FileDialog::open(Wanted::ModelFolder, context)));
    }

    fn follow(&mut self, studio: &Studio, state: &State, draft: &mut Draft, actions: &mut Vec<Action>) {
        if self.folders.is_none() {
            let folders = remembered_folders(studio);
            studio.catalog().list(&folders);
            self.folders = Some(folders);
        }
        let device = match &state.device {
            DeviceState::Ready(device) => Some(&**device),
            DeviceState::Opening | DeviceState::Failed(_) => None,
        };
        self.forecast.follow(studio, state, device);
        self.forecast.follow_queue(&state.queue, |name| studio.catalog().get(name).model().cloned());
        let made = (state.library_revision, state.queue.len());
        if self.first_start.is_none_or(|(of, _)| of != made) {
            let is_first = studio.database().prompts(1).is_ok_and(|prompts| prompts.is_empty());
            self.first_start = Some((made, is_first));
        }
        if let Some((wanted, dialog)) = &self.dialog {
            match dialog.answer() {
                Answer::Open => return,
                Answer::Chosen(path) => chosen(*wanted, path, draft, actions),
                Answer::Nothing => {}
            }
            self.dialog = None;
        }
    }

    fn banner(&self, ui: &mut Ui, leaving: Option<&Leaving>, editing: Option<ItemId>, actions: &mut Vec<Action>) {
        let (icon, text, leave, tip, action) = match (leaving, editing) {
            (Some(from), _) => {
                let text = format!("Goes on from step {} of “{}”", from.call, shortened(&from.recipe.prompt));
                (Icon::Branch, text, "Leave the branch", "Make a clip of its own again", Action::LeaveBranch)
            }
            (None, Some(item)) => {
                let text = format!("Changes item {} of the queue", item.0);
                (Icon::Edit, text, "Leave the item", "Leave the item as it is", Action::LeaveEdit)
            }
            (None, None) => return,
        };
        let palette = Palette::of(ui);
        let frame = egui::Frame::new().fill(palette.accent_tint).corner_radius(theme::RADIUS).inner_margin(theme::SPACE_SMALL);
        frame.show(ui, |ui| {
            ui.horizontal(|ui| {
                let (rect, _) = ui.allocate_exact_size(egui::Vec2::splat(icons::SIZE), egui::Sense::hover());
                icons::paint(ui.painter(), rect, icon, palette.accent);
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    if icon_button(ui, Icon::Close, leave, tip).clicked() {
                        actions.push(action);
                    }
                    ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                        ui.add(Label::new(RichText::new(text).color(palette.text_strong)).wrap());
                    });
                });
            });
        });
    }

    fn mask(&mut self, ui: &mut Ui, draft: &mut Draft, actions: &mut Vec<Action>) {
        let fit = self.forecast.fit().map(|fit| (fit, self.forecast.free_memory()));
        match self.dial.show(ui, &mut draft.mask, self.forecast.last(), fit) {
            Some(Opens::File) if self.dialog.is_none() => {
                self.dialog = Some((Wanted::MaskPlan, FileDialog::open(Wanted::MaskPlan, ui.ctx())));
            }
            Some(Opens::Painter) => actions.push(Action::PaintMask),
            Some(Opens::File) | None => {}
        }
    }

    /// Why nothing can be queued now.
    fn problem(&self, state: &State, opened: &Opened) -> Option<String> {
        match (opened, &state.device) {
            (Opened::Failed(reason), _) => {
                return Some(format!("The model cannot be used. {}", told(reason).0));
            }
            (Opened::Opening, _) => return Some("The model is being opened.".into()),
            (_, DeviceState::Failed(reason)) => return Some(reason.clone()),
            (_, DeviceState::Opening) => return Some("The device is being opened.".into()),
            (Opened::Hashing(_) | Opened::Ready(_), DeviceState::Ready(_)) => {}
        }
        let of_settings = self.forecast.last().problem.clone();
        let hashing = matches!(opened, Opened::Hashing(_)).then(|| "The model's files are still being read.".to_owned());
        of_settings.or(hashing)
    }

    fn footer(
        &mut self,
        ui: &mut Ui,
        draft: &Draft,
        problem: Option<String>,
        leaving: Option<&Leaving>,
        editing: Option<ItemId>,
        actions: &mut Vec<Action>,
    ) {
        ui.spacing_mut().item_spacing.y = 6.0;
        ui.add(egui::Separator::default().spacing(2.0));
        let palette = Palette::of(ui);
        match &problem {
            Some(problem) => {
                ui.add(Label::new(RichText::new(problem).small().color(palette.error)).wrap());
            }
            None => {
                for warning in &self.forecast.last().warnings {
                    notice(ui, &sentence(warning));
                }
            }
        }
        if let (Some(crate::studio::Fit::WontFit), Some(short)) = (self.forecast.fit(), self.forecast.shortage()) {
            let (needed, free) = (words::bytes(short.needed_bytes), words::bytes(short.free_bytes));
            let text = match short.is_helper {
                false => format!("This needs {needed} of memory, and {free} are free. Fewer frames or a smaller size need less."),
                true => format!(
                    "This needs {needed} of memory on {}, which has {free}. Fewer frames or a smaller size need less, or leave that \
                     device out.",
                    short.device
                ),
            };
            notice(ui, &text);
        }
        let clips = if leaving.is_some() || editing.is_some() { 1 } else { draft.clips };
        let is_first = self.first_start.is_some_and(|(_, is_first)| is_first);
        let does = match (leaving, editing, clips) {
            (Some(_), ..) => "Generate the branch".to_owned(),
            (_, Some(_), _) => "Change the item".to_owned(),
            (_, _, 1) if is_first => "Make my first clip".to_owned(),
            (_, _, 1) => "Generate".to_owned(),
            (_, _, clips) => format!("Generate {clips} clips"),
        };
        let estimate = self.forecast.last().estimate.as_ref();
        let text = match estimate {
            Some(estimate) if problem.is_none() => format!("{does}  –  {}", about(estimate.seconds * f64::from(clips))),
            _ => does.clone(),
        };
        // Settings that need more room than a narrow panel has go on behind its edge; the button does not.
        let visible = ui.clip_rect().right() - ui.cursor().left();
        let width = ui.available_width().min(visible - theme::SPACE_TINY);
        // There the time is left to the tooltip, for half of it would be worse than none.
        let shown = if theme::primary_button_width(ui, &text) <= width { &text } else { &does };
        let button = theme::primary_button(ui, shown);
        let size = vec2(width, GENERATE_HEIGHT);
        let response = ui.add_enabled_ui(problem.is_none(), |ui| ui.add_sized(size, button)).inner;
        response.widget_info(|| WidgetInfo::labeled(Role::Button, problem.is_none(), text.replace("  –  ", ", ")));
        let keys = self.keys.clone();
        let tip = match estimate {
            Some(estimate) => {
                let time = about(estimate.seconds * f64::from(clips));
                format!("{keys}\nIt takes {time}: {}. That is for the clip alone, without loading the model.", estimate.basis)
            }
            None => keys,
        };
        let clicked = response.clicked();
        let response = response.on_hover_text(tip);
        if let Some(problem) = problem {
            response.on_disabled_hover_text(problem);
        }
        if clicked {
            actions.push(Action::Generate);
        }
    }
}

fn remembered_folders(studio: &Studio) -> Vec<String> {
    studio.database().preference(FOLDERS).ok().flatten().unwrap_or_default()
}

fn chosen(wanted: Wanted, path: PathBuf, draft: &mut Draft, actions: &mut Vec<Action>) {
    match wanted {
        Wanted::ModelFolder => actions.push(Action::OpenModel(path)),
        Wanted::MaskPlan => draft.mask = MaskChoice::File(path),
    }
}

/// What the simple settings do not show, and that it is not as the model has it.
fn hidden(ui: &mut Ui, draft: &Draft, model: &ModelInfo, actions: &mut Vec<Action>) {
    let names = hidden_differences(draft, model);
    let text = match names.len() {
        0 => return,
        1 => "1 more setting differs from the model's own".to_owned(),
        count => format!("{count} more settings differ from the model's own"),
    };
    ui.add_space(theme::SPACE_TINY);
    let link = ui.link(RichText::new(text).small());
    if link.on_hover_text(format!("{}. They stand; a click shows all settings.", names.join(", "))).clicked() {
        actions.push(Action::Level(Level::Lab));
    }
}

/// The settings that are only among all of them that are not the model's own.
fn hidden_differences(draft: &Draft, model: &ModelInfo) -> Vec<&'static str> {
    let own = Draft::of_model(&draft.model, model.folder.facts());
    let shown = ["model", "prompt", "frames", "size", "steps", "seed"];
    differences(draft, &own).into_iter().filter(|name| !shown.contains(name)).collect()
}

/// The name of a group of settings.
fn section(ui: &mut Ui, name: &str) {
    ui.add_space(theme::SPACE_TINY);
    let color = Palette::of(ui).text_strong;
    ui.label(theme::caption(name).color(color));
}

/// Seconds, rounded as far as a prediction deserves.
fn about(seconds: f64) -> String {
    match seconds {
        s if s < 0.95 => "less than a second".into(),
        s if s < 90.0 => format!("about {s:.0} s"),
        s if s < 5400.0 => format!("about {:.0} min", s / 60.0),
        s if s < 36.0 * 3600.0 => format!("about {:.1} h", s / 3600.0),
        s => format!("about {:.0} days", s / 86400.0),
    }
}

fn shortened(prompt: &str) -> String {
    let line = prompt.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= TOLD_LETTERS { line } else { line.chars().take(TOLD_LETTERS).chain(['…']).collect() }
}

/// A warning as a sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    // A model's name stays as it is written.
    if text.starts_with("the ") || text.starts_with("nothing ") {
        format!("{first}{}.", letters.as_str())
    } else {
        format!("{text}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_is_said_as_roughly_as_it_is() {
        let said = [0.3, 4.2, 89.0, 95.0, 7200.0, 3e5].map(about);
        assert_eq!(said, ["less than a second", "about 4 s", "about 89 s", "about 2 min", "about 2.0 h", "about 3 days"]);
    }
}
