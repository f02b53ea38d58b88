//! What is to be done, and what it will cost: the left half of the lab page.

use std::path::{Path, PathBuf};

use eframe::egui::{Align, Button, ComboBox, DragValue, Grid, Label, Layout, RichText, Role, TextEdit, Ui, WidgetInfo, vec2};

use super::{Cost, LabAction, LabPage, Wanted, card, dim, shown_wish, work_name};
use crate::app::action::Action;
use crate::app::controls::row;
use crate::app::file_dialog::{self, FileDialog};
use crate::app::icons::{self, Icon, icon_button};
use crate::app::mask_dial::notice;
use crate::app::models_menu::fit_pill;
use crate::app::segments;
use crate::app::theme::{self, Palette};
use crate::studio::words::{about, bytes};
use crate::studio::{DistilWish, Fit, LabCost, LabGoal, LabLength, LabWish, LabWork, SearchWish, State, Studio};

const GOALS: [(LabGoal, &str, &str); 4] = [
    (LabGoal::Threshold, "Error of a layer", "Every layer takes the sparsest mask that changes its output less than this"),
    (LabGoal::MostLoss, "Most mean error", "The fastest plan whose layers' mean error is at most this"),
    (LabGoal::MostMillis, "Most time", "The plan of the least error whose attention takes at most so long a call on this device"),
    (LabGoal::MostTiles, "Most tiles", "The plan of the least error that computes at most this share of all tiles"),
];
const WORKS: [(LabWork, &str, &str); 2] = [
    (LabWork::Search, "Search a mask", "Finds for each layer of a model the mask that changes it least"),
    (
        LabWork::Distil,
        "Teach a student",
        "Knowledge distillation: a copy of the model with a plan's masks learns to do what the model does",
    ),
];
const LENGTHS: [(LabLength, &str, &str); 2] = [
    (LabLength::Minutes, "Minutes", "Of training, all sessions together"),
    (LabLength::Steps, "Steps", "Updates of the student, all sessions together"),
];
/// More does not help, and a slow run from here on counts as slow.
const SLOW_SECONDS: f64 = 3600.0;

impl LabPage {
    pub(super) fn form(&mut self, ui: &mut Ui, studio: &Studio, state: &State, actions: &mut Vec<Action>) {
        ui.label(theme::title("Lab").color(Palette::of(ui).text_strong));
        dim(ui, "Makes a model faster on this device: finds masks for it, and teaches it to live with them.");
        let run = state.lab.clone();
        let mut wish = shown_wish(&self.wish, run.as_deref()).clone();
        ui.add_enabled_ui(run.is_none(), |ui| {
            ui.spacing_mut().item_spacing.y = theme::SPACE_SMALL;
            segments::show(ui, &mut wish.work, &WORKS);
            model(ui, studio, &mut wish);
            match wish.work {
                LabWork::Search => search(ui, &mut wish.search),
                LabWork::Distil => self.distil(ui, studio, &mut wish.distil),
            }
            sample(ui, &mut wish);
        });
        match &run {
            None => {
                let changed = wish != self.wish;
                self.wish = wish;
                if changed {
                    // The button below is about what was chosen just now.
                    self.look_at_cost(studio);
                }
                cost(ui, self.cost.as_ref());
                command(ui, &studio.lab_command(&self.wish), actions);
                self.start(ui, state, actions);
            }
            Some(_) => command(ui, &studio.lab_command(&wish), actions),
        }
    }

    fn distil(&mut self, ui: &mut Ui, studio: &Studio, wish: &mut DistilWish) {
        let tip = "The plan that says which tiles each layer of the student computes: one that was searched or painted";
        row(ui, "Masks", tip, None, None, |ui| {
            let name = wish.plan.as_deref().map_or("Choose a plan".to_owned(), file_name);
            let width = ui.available_width();
            let menu = ComboBox::from_id_salt("student plan").width(width).icon(icons::drop_down).truncate().selected_text(name);
            let shown = menu.show_ui(ui, |ui| {
                for plan in &self.plans {
                    let is_chosen = wish.plan.as_ref() == Some(plan);
                    if ui.selectable_label(is_chosen, file_name(plan)).on_hover_text(plan.display().to_string()).clicked() {
                        wish.plan = Some(plan.clone());
                    }
                }
                if self.plans.is_empty() {
                    ui.label(RichText::new("No plan was searched or painted yet").color(Palette::of(ui).text_dim));
                }
                if ui.button("From a file…").clicked() && self.dialog.is_none() {
                    self.dialog = Some((Wanted::Plan, FileDialog::open(file_dialog::Wanted::MaskPlan, ui.ctx())));
                }
            });
            if shown.response.clicked() {
                self.plans = plans_in(&studio.home().masks_folder());
            }
            shown.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Masks of the student"));
            shown.response
        });
        row(ui, "Length", "When the training ends. A pause does not count.", None, None, |ui| {
            segments::inline(ui, &mut wish.length, &LENGTHS);
            match wish.length {
                LabLength::Minutes => {
                    number(ui, DragValue::new(&mut wish.minutes).range(0.01..=100_000.0).speed(0.2), "Minutes of training")
                }
                LabLength::Steps => number(ui, DragValue::new(&mut wish.steps).range(1..=10_000_000u64), "Steps of training"),
            }
        });
        let mut from_folder = wish.folder.is_some();
        let froms = [
            (false, "The world", "Clips of the procedural world that mini learns from; encoded once"),
            (true, "A folder", "Your own clips, each with its sentence beside it (ball.mp4 and ball.txt); needs ffmpeg"),
        ];
        row(ui, "Clips", "What the student learns from", None, None, |ui| {
            if segments::inline(ui, &mut from_folder, &froms) {
                wish.folder = from_folder.then(PathBuf::new);
            }
            match &wish.folder {
                Some(folder) => {
                    let name = if folder.as_os_str().is_empty() { "Choose…".to_owned() } else { file_name(folder) };
                    let button = ui.add(Button::new(name).truncate());
                    if button.clicked() && self.dialog.is_none() {
                        self.dialog = Some((Wanted::Clips, FileDialog::clips(ui.ctx())));
                    }
                    button.widget_info(|| WidgetInfo::labeled(Role::Button, true, "Folder of clips"));
                    button
                }
                None => number(ui, DragValue::new(&mut wish.clips).range(1..=1_000_000u32), "Clips of the world"),
            }
        });
        let tip = "Samples of a step, and how many of them the device holds at once: fewer need less memory, and take longer";
        row(ui, "Batch", tip, None, None, |ui| {
            let response = number(ui, DragValue::new(&mut wish.batch).range(1..=4096u32), "Samples of a step");
            ui.label(RichText::new("at once").color(Palette::of(ui).text_dim));
            number(ui, DragValue::new(&mut wish.part).range(1..=wish.batch), "Samples at once");
            response
        });
        wish.part = wish.part.min(wish.batch);
    }

    fn start(&mut self, ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
        let can = self.can_start(state);
        if let Err(problem) = &can {
            ui.add(Label::new(RichText::new(problem).small().color(Palette::of(ui).error)).wrap());
        } else if state.live.is_some() {
            notice(ui, "A clip is being made; the lab begins after it.");
        } else {
            dim(ui, "While the lab works, the queue waits.");
        }
        let text = format!("Start: {}", work_name(self.wish.work).to_lowercase());
        let button = theme::primary_button(ui, &text);
        let size = vec2(ui.available_width(), 36.0);
        let response = ui.add_enabled_ui(can.is_ok(), |ui| ui.add_sized(size, button)).inner;
        if response.clicked() {
            actions.push(Action::Lab(LabAction::Start));
        }
    }
}

fn number(ui: &mut Ui, value: DragValue<'_>, name: &str) -> eframe::egui::Response {
    let response = ui.add_sized(vec2(72.0, theme::CONTROL_HEIGHT), value.update_while_editing(false));
    response.widget_info(|| WidgetInfo::labeled(Role::SpinButton, ui.is_enabled(), name));
    response
}

/// Models that have no masks of their own come first: they are what the lab is for.
fn model(ui: &mut Ui, studio: &Studio, wish: &mut LabWish) {
    let tip = "The dense model: it is searched with every frame seeing every frame, or it is the teacher";
    row(ui, "Model", tip, None, None, |ui| {
        let entries = studio.catalog().entries();
        let width = ui.available_width();
        let menu = ComboBox::from_id_salt("lab model").width(width).icon(icons::drop_down).truncate();
        let shown = menu.selected_text(file_name(Path::new(&wish.model))).show_ui(ui, |ui| {
            let usable = entries.iter().flat_map(|entries| entries.iter()).filter_map(|entry| {
                let model = entry.model.as_ref().ok()?;
                Some((model.folder.facts().mask_plan.is_some(), entry))
            });
            let mut usable: Vec<_> = usable.collect();
            usable.sort_by_key(|(is_sparse, _)| *is_sparse);
            for (is_sparse, entry) in usable {
                let about = if is_sparse { "has masks" } else { "dense" };
                let about = RichText::new(about).color(Palette::of(ui).text_dim);
                let button = Button::selectable(entry.is_named(&wish.model), &entry.name).right_text(about);
                if ui.add(button).on_hover_text(&entry.location).clicked() {
                    wish.model.clone_from(&entry.name);
                }
            }
        });
        shown.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Model of the lab"));
        shown.response
    });
}

fn search(ui: &mut Ui, wish: &mut SearchWish) {
    let chosen = GOALS.iter().find(|(goal, ..)| *goal == wish.goal).unwrap_or(&GOALS[0]);
    let goal = wish.goal;
    row(ui, "Goal", chosen.2, None, None, |ui| {
        let width = ui.available_width() - 80.0;
        let menu = ComboBox::from_id_salt("lab goal").width(width).icon(icons::drop_down).selected_text(chosen.1);
        let shown = menu.show_ui(ui, |ui| {
            for (goal, name, tip) in GOALS {
                ui.selectable_value(&mut wish.goal, goal, name).on_hover_text(tip);
            }
        });
        shown.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Goal of the search"));
        match goal {
            LabGoal::Threshold | LabGoal::MostLoss => {
                number(ui, DragValue::new(wish.value()).range(1e-6..=1.0).speed(0.0002).max_decimals(6), "Most error")
            }
            LabGoal::MostMillis => {
                let value = DragValue::new(wish.value()).range(0.001..=1e7).speed(0.1).suffix(" ms");
                number(ui, value, "Most milliseconds of attention a call")
            }
            LabGoal::MostTiles => {
                let mut percent = 100.0 * *wish.value();
                let response = number(ui, DragValue::new(&mut percent).range(1.0..=100.0).speed(0.2).suffix(" %"), "Most tiles");
                if response.changed() {
                    *wish.value() = percent / 100.0;
                }
                response
            }
        }
    });
    let tip =
        "How many prompts of the world are looked at, and at how many of the sampler's calls: more takes longer, and is surer";
    row(ui, "Prompts", tip, None, None, |ui| {
        let response = number(ui, DragValue::new(&mut wish.prompts).range(1..=4096u32), "Prompts that are looked at");
        ui.label(RichText::new("at").color(Palette::of(ui).text_dim));
        number(ui, DragValue::new(&mut wish.times).range(1..=1000u32), "Calls that are looked at");
        ui.label(RichText::new("calls").color(Palette::of(ui).text_dim));
        response
    });
}

/// The clip that is made before and after.
fn sample(ui: &mut Ui, wish: &mut LabWish) {
    let tip = "The prompt of the two clips that show at the end what has changed, and their seed";
    row(ui, "Sample", tip, None, None, |ui| {
        let width = ui.available_width() - 80.0;
        let field = TextEdit::singleline(&mut wish.prompt).id_salt("lab prompt").desired_width(width).margin(vec2(8.0, 5.0));
        let response = ui.add(field);
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Prompt of the samples"));
        number(ui, DragValue::new(&mut wish.seed), "Seed of the samples");
        response
    });
}

fn cost(ui: &mut Ui, known: Option<&Cost>) {
    let Some(Cost { cost: Ok(cost), .. }) = known else { return };
    let LabCost { estimate, sample_seconds, free_memory, free_disk } = cost;
    let fit = match cost.problem() {
        Some(_) => Fit::WontFit,
        None if estimate.seconds > SLOW_SECONDS => Fit::Slow,
        None => Fit::Fits,
    };
    card(ui, |ui| {
        ui.horizontal(|ui| {
            ui.label(theme::strong("What it costs").color(Palette::of(ui).text_strong));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| fit_pill(ui, fit));
        });
        let of = |free: &Option<u64>| free.map_or(String::new(), |free| format!(" of {} free", bytes(free)));
        let mut time = about(estimate.seconds);
        if let Some(steps) = estimate.steps {
            time = format!("{time}, {steps} steps");
        }
        let rows = [
            (
                "Time",
                time,
                format!("{}. Clips one by one are what this is reckoned from, so a GPU may be faster.", estimate.basis),
            ),
            ("Samples", about(*sample_seconds), "Two clips at the end: the model as it was, and what came of it".into()),
            ("Memory", format!("{}{}", bytes(estimate.memory_bytes), of(free_memory)), "The most at once; calculated".into()),
            ("Disk", format!("{}{}", bytes(estimate.disk_bytes), of(free_disk)), "The most at once; calculated".into()),
        ];
        ui.spacing_mut().interact_size.y = 18.0;
        Grid::new("lab cost").num_columns(2).spacing([12.0, 2.0]).show(ui, |ui| {
            for (name, value, tip) in rows {
                ui.label(RichText::new(name).color(Palette::of(ui).text_dim));
                let label = ui.label(RichText::new(&value).color(Palette::of(ui).text_strong));
                label.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{name} of the lab: {value}")));
                label.on_hover_text(tip);
                ui.end_row();
            }
        });
    });
}

/// The command that does the same.
fn command(ui: &mut Ui, command: &str, actions: &mut Vec<Action>) {
    ui.horizontal_top(|ui| {
        ui.with_layout(Layout::right_to_left(Align::Min), |ui| {
            if icon_button(ui, Icon::Copy, "Copy the command", "This command does the same without the window").clicked() {
                actions.push(Action::CopyText(command.to_owned()));
            }
            ui.with_layout(Layout::left_to_right(Align::Min), |ui| {
                let text = RichText::new(command).monospace().size(10.5).color(Palette::of(ui).text_dim);
                ui.add(Label::new(text).wrap().selectable(true));
            });
        });
    });
}

fn plans_in(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut plans: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect();
    plans.sort();
    plans
}

/// The last part of a path, without the ending of a plan.
pub(super) fn file_name(path: &Path) -> String {
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    name.strip_suffix(".json").map_or(name.clone(), str::to_owned)
}
