//! The menu of models: what there is, what it is for, where it lies, and whether it suits this machine.

use std::path::PathBuf;
use std::sync::Arc;

use eframe::egui::{
    self, Align, Button, CollapsingHeader, Color32, CornerRadius, Frame, Id, Label, Layout, Margin, Popup, PopupCloseBehavior,
    Response, RichText, Role, ScrollArea, Sense, TextEdit, Ui, UiBuilder, WidgetInfo,
};

use super::action::Action;
use super::forecast::Forecast;
use super::icons::{Icon, icon_button};
use super::theme::{self, Palette};
use crate::generate::estimate::Estimate;
use crate::studio::{CatalogEntry, DEFAULT_MODEL, Draft, Fit, Opened, Studio, words};

const MENU_WIDTH: f32 = 400.0;
const MENU_HEIGHT: f32 = 420.0;

#[derive(Default)]
pub struct ModelsMenu {
    /// A folder that is being typed.
    path: String,
    /// Models are to be looked for anew.
    pub look_again: bool,
}

impl ModelsMenu {
    /// The chosen model, with the menu behind it.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        studio: &Studio,
        draft: &mut Draft,
        forecast: &mut Forecast,
        locked: Option<&str>,
        actions: &mut Vec<Action>,
    ) {
        let (fit, free) = (forecast.fit(), forecast.free_memory());
        let size = egui::vec2(ui.available_width(), theme::CONTROL_HEIGHT);
        let button = ui
            .allocate_ui_with_layout(size, Layout::right_to_left(Align::Center), |ui| {
                if let (Some(fit), Some(estimate)) = (fit, &forecast.last().estimate) {
                    fit_pill(ui, fit).on_hover_text(numbers(estimate, free));
                }
                let text = theme::strong(short_name(&draft.model));
                let width = ui.available_width();
                let button = Button::new(text).right_text("").truncate().min_size(egui::vec2(width, theme::CONTROL_HEIGHT));
                let response = ui.add_enabled(locked.is_none(), button);
                response.widget_info(|| WidgetInfo::labeled(Role::Button, locked.is_none(), format!("Model: {}", draft.model)));
                let arrow =
                    egui::Rect::from_center_size(response.rect.right_center() - egui::vec2(16.0, 0.0), egui::Vec2::splat(12.0));
                super::icons::paint(ui.painter(), arrow, Icon::Down, Palette::of(ui).text_dim);
                response
            })
            .inner;
        let button = match locked {
            Some(reason) => button.on_disabled_hover_text(reason),
            None => button,
        };
        Popup::from_toggle_button_response(&button)
            .width(MENU_WIDTH)
            .close_behavior(PopupCloseBehavior::CloseOnClickOutside)
            .accessible_name("Models")
            .show(|ui| self.menu(ui, studio, draft, forecast, actions));
        self.state_of_chosen(ui, studio, draft, actions);
    }

    /// What there is to say about the chosen model.
    fn state_of_chosen(&self, ui: &mut Ui, studio: &Studio, draft: &mut Draft, actions: &mut Vec<Action>) {
        let palette = Palette::of(ui);
        let opened = studio.catalog().get(&draft.model);
        match &opened {
            Opened::Ready(model) | Opened::Hashing(model) => {
                if let Some(card) = &model.folder.facts().card {
                    ui.add(Label::new(RichText::new(card).small().color(palette.text_dim)).wrap());
                }
                if matches!(opened, Opened::Hashing(_)) {
                    ui.label(RichText::new("Its files are being read for their identity…").small().color(palette.text_dim));
                }
            }
            Opened::Opening => {
                ui.label(RichText::new("The model is being opened…").small().color(palette.text_dim));
            }
            Opened::Failed(reason) => {
                let (what, details) = told(reason);
                ui.add(Label::new(RichText::new(what).color(palette.error)).wrap());
                ui.horizontal_wrapped(|ui| {
                    let usual = studio.catalog().get(DEFAULT_MODEL);
                    if let Some(model) = usual.model().filter(|_| draft.model != DEFAULT_MODEL) {
                        let button = theme::primary_button(ui, &format!("Use {DEFAULT_MODEL}"));
                        if ui.add(button).on_hover_text("The model inside this program").clicked() {
                            draft.set_model(DEFAULT_MODEL, model.folder.facts());
                        }
                    }
                    if ui.button("Try again").clicked() {
                        studio.catalog().reopen(&draft.model);
                    }
                    if ui.button("Open a folder…").clicked() {
                        actions.push(Action::ChooseModel);
                    }
                });
                if !details.is_empty() {
                    CollapsingHeader::new("Details").id_salt("why no model").show(ui, |ui| {
                        ui.add(Label::new(RichText::new(details).small().color(palette.text_dim)).wrap());
                    });
                }
            }
        }
    }

    fn menu(&mut self, ui: &mut Ui, studio: &Studio, draft: &mut Draft, forecast: &mut Forecast, actions: &mut Vec<Action>) {
        ui.spacing_mut().item_spacing.y = theme::SPACE_TINY;
        let entries = studio.catalog().entries();
        ScrollArea::vertical().max_height(MENU_HEIGHT).show(ui, |ui| match entries {
            Some(entries) if entries.is_empty() => {
                ui.label("No models were found.");
            }
            Some(entries) => {
                for entry in in_order(&entries) {
                    let chosen = entry.is_named(&draft.model);
                    let suits = entry.model.as_ref().ok().and_then(|model| {
                        // What would be made after choosing it: the settings as they are, or its own.
                        if chosen { forecast.fit().zip(forecast.last().estimate.clone()) } else { forecast.of_model(model) }
                    });
                    if card(ui, entry, chosen, suits, forecast.free_memory()).clicked()
                        && let Ok(model) = &entry.model
                    {
                        if !chosen {
                            draft.set_model(&entry.name, model.folder.facts());
                        }
                        ui.close();
                    }
                }
            }
            None => {
                ui.label("Looking for models…");
            }
        });
        ui.separator();
        ui.horizontal(|ui| {
            if ui
                .button("Open a folder…")
                .on_hover_text("A transformer in the published layout of Open-Sora-Plan v1.2, beside its VAE and text encoder")
                .clicked()
            {
                actions.push(Action::ChooseModel);
                ui.close();
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if icon_button(ui, Icon::Refresh, "Look again", "Look again for models in all folders").clicked() {
                    self.look_again = true;
                }
                let field = TextEdit::singleline(&mut self.path).hint_text("or type its path").desired_width(f32::INFINITY);
                let field = ui.add(field);
                field.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Path of a model's folder"));
                if field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter)) && !self.path.trim().is_empty() {
                    actions.push(Action::OpenModel(PathBuf::from(self.path.trim())));
                    self.path.clear();
                    ui.close();
                }
            });
        });
    }
}

/// A reason as its first sentence, and what else is known.
pub fn told(reason: &str) -> (String, &str) {
    let (what, details) = reason.split_once('\n').unwrap_or((reason, ""));
    let mut letters = what.trim_end_matches('.').chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    (format!("{first}{}.", letters.as_str()), details)
}

/// The built-in pair first, `base` before `fast`; then as they were found.
fn in_order(entries: &Arc<Vec<CatalogEntry>>) -> impl Iterator<Item = &CatalogEntry> {
    let is_own = |entry: &&CatalogEntry| ["base", "fast"].contains(&entry.name.as_str());
    entries.iter().filter(is_own).chain(entries.iter().filter(move |entry| !is_own(entry)))
}

/// One model: its name and pill, what it is, where it lies.
fn card(ui: &mut Ui, entry: &CatalogEntry, chosen: bool, suits: Option<(Fit, Estimate)>, free: Option<u64>) -> Response {
    let palette = Palette::of(ui);
    let id = Id::unique(("model", &entry.location));
    let builder = UiBuilder::new().scope_id(id).sense(if entry.model.is_ok() { Sense::click() } else { Sense::hover() });
    let response = ui
        .scope_builder(builder, |ui| {
            let response = ui.response();
            let fill = match (chosen, response.hovered() && entry.model.is_ok()) {
                (true, _) => palette.accent_tint,
                (false, true) => palette.control_hovered,
                (false, false) => Color32::TRANSPARENT,
            };
            let margin = Margin::symmetric(theme::SPACE_SMALL as i8, 6);
            Frame::new().fill(fill).corner_radius(CornerRadius::same(theme::RADIUS)).inner_margin(margin).show(ui, |ui| {
                ui.set_width(ui.available_width());
                ui.spacing_mut().item_spacing.y = 2.0;
                ui.horizontal(|ui| {
                    ui.spacing_mut().interact_size.y = 20.0;
                    ui.label(theme::strong(&entry.name).color(palette.text_strong));
                    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                        if let Some((fit, estimate)) = &suits {
                            fit_pill(ui, *fit).on_hover_text(numbers(estimate, free));
                            ui.label(RichText::new(words::duration(estimate.seconds)).small().color(palette.text_dim));
                        }
                    });
                });
                match &entry.model {
                    Ok(model) => {
                        let facts = model.folder.facts();
                        let defaults = &facts.defaults;
                        let described = facts.card.clone().unwrap_or_else(|| {
                            format!(
                                "{} frames of {}x{}, {} steps",
                                defaults.frames, defaults.width, defaults.height, defaults.steps
                            )
                        });
                        ui.add(Label::new(RichText::new(described).small().color(palette.text)).wrap());
                    }
                    Err(reason) => {
                        ui.add(
                            Label::new(RichText::new(format!("Cannot be used: {reason}")).small().color(palette.error)).wrap(),
                        );
                    }
                }
                ui.add(Label::new(RichText::new(&entry.location).small().color(palette.text_dim)).truncate());
            });
        })
        .response;
    if response.has_focus() {
        super::icons::focus_ring(ui.painter(), response.rect, palette);
    }
    response.widget_info(|| {
        let fit = suits.as_ref().map_or(String::new(), |(fit, _)| format!(", {}", fit.words()));
        WidgetInfo::selected(Role::Button, entry.model.is_ok(), chosen, format!("Model {}{fit}", entry.name))
    });
    response
}

/// Fits, Slow or Won't fit, in its colour.
pub fn fit_pill(ui: &mut Ui, fit: Fit) -> Response {
    let palette = Palette::of(ui);
    let color = match fit {
        Fit::Fits => palette.good,
        Fit::Slow => palette.warning,
        Fit::WontFit => palette.error,
    };
    let font = egui::FontId::new(11.5, theme::strong_family());
    let text = ui.painter().layout_no_wrap(fit.words().to_owned(), font, color);
    let (rect, response) = ui.allocate_exact_size(egui::vec2(text.size().x + 16.0, 20.0), Sense::hover());
    let radius = CornerRadius::same(10);
    ui.painter().rect(rect, radius, palette.raised, egui::Stroke::new(1.0, color.gamma_multiply(0.6)), egui::StrokeKind::Inside);
    ui.painter().galley(rect.center() - text.size() / 2.0, text, color);
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, fit.words()));
    response
}

fn numbers(estimate: &Estimate, free: Option<u64>) -> String {
    let free = free.map_or(String::new(), |free| format!(" of {} that are free", words::bytes(free)));
    format!(
        "{} ({}), {}{free} of memory (calculated)",
        words::duration(estimate.seconds),
        estimate.basis,
        words::bytes(estimate.memory_bytes)
    )
}

/// The name of a folder instead of its path.
fn short_name(model: &str) -> String {
    let path = std::path::Path::new(model);
    if path.is_absolute() { path.file_name().unwrap_or_default().to_string_lossy().into_owned() } else { model.to_owned() }
}
