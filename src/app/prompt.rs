//! The prompt: its text, the words that the model understands, the negative prompt, and what was asked for before.

use std::sync::Arc;

use eframe::egui::{
    self, Align, Align2, Button, CornerRadius, FontId, Label, Layout, Popup, PopupCloseBehavior, RichText, Role, ScrollArea,
    Sense, TextEdit, Ui, WidgetInfo, vec2,
};

use super::controls;
use super::icons::{self, Icon, focus_ring, icon_button};
use super::mask_dial::notice;
use super::theme::{self, Palette};
use super::vocabulary::{self, Found};
use crate::model::folder::WordGroup;
use crate::studio::{Draft, ModelInfo, Studio};

const PROMPTS_SHOWN: usize = 200;
/// Of the column with the groups of words, and of each of them.
const TABS_WIDTH: f32 = 76.0;
const TAB_HEIGHT: f32 = 24.0;
const HISTORY_WIDTH: f32 = 380.0;
const HISTORY_HEIGHT: f32 = 340.0;

#[derive(Default)]
pub struct PromptBox {
    /// The group whose words are shown.
    group: usize,
    /// The vocabulary's words in the prompt, and the prompt and model they were looked up for.
    found: Vec<Found>,
    looked_up: Option<(String, Arc<ModelInfo>)>,
    negative_is_open: bool,
    /// Earlier prompts, while their menu is open.
    history: Option<Vec<String>>,
    search: String,
    /// Without the negative prompt.
    pub in_short: bool,
    /// The keyboard was given to the prompt at the start.
    has_begun: bool,
}

impl PromptBox {
    /// `tokens` are those of the prompt; `locked` says why it cannot be changed.
    pub fn show(&mut self, ui: &mut Ui, studio: &Studio, draft: &mut Draft, model: Option<&Arc<ModelInfo>>, tokens: usize) {
        let label = ui
            .horizontal(|ui| {
                let label = ui.label(theme::caption("Prompt"));
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| self.history(ui, studio, draft));
                label
            })
            .inner;
        let field = TextEdit::multiline(&mut draft.prompt)
            .id_salt("prompt")
            .desired_rows(4)
            .desired_width(f32::INFINITY)
            .margin(vec2(10.0, 8.0))
            .hint_text("What should the clip show?");
        let field = ui.add(field).labelled_by(label.id);
        if !std::mem::replace(&mut self.has_begun, true) {
            field.request_focus();
        }
        let Some(model) = model else { return };
        let facts = model.folder.facts();
        let most = facts.trained.max_tokens;
        if tokens > most {
            notice(
                ui,
                &format!("The prompt has {tokens} tokens and {} reads {most}: its end has no effect.", model.folder.name()),
            );
        }
        if !facts.vocabulary.is_empty() {
            self.words(ui, &mut draft.prompt, model);
        }
        if !self.in_short {
            self.negative(ui, draft, model);
        }
    }

    /// The words of the model, one group at a time.
    fn words(&mut self, ui: &mut Ui, prompt: &mut String, model: &Arc<ModelInfo>) {
        let groups = &model.folder.facts().vocabulary;
        let is_current = |(text, of): &(String, Arc<ModelInfo>)| text == prompt && Arc::ptr_eq(of, model);
        if !self.looked_up.as_ref().is_some_and(is_current) {
            self.found = vocabulary::find(prompt, groups);
            self.looked_up = Some((prompt.clone(), model.clone()));
        }
        self.group = self.group.min(groups.len() - 1);
        let palette = Palette::of(ui);
        egui::Frame::new()
            .fill(palette.raised)
            .stroke(egui::Stroke::new(1.0, palette.line))
            .corner_radius(CornerRadius::same(theme::RADIUS))
            .inner_margin(theme::SPACE_SMALL)
            .show(ui, |ui| {
                ui.set_width(ui.available_width());
                // All groups take the same room, so that nothing below moves when another one is looked at.
                ui.horizontal_top(|ui| {
                    ui.spacing_mut().item_spacing = vec2(theme::SPACE_SMALL, 0.0);
                    ui.vertical(|ui| {
                        ui.set_width(TABS_WIDTH);
                        for (index, group) in groups.iter().enumerate() {
                            self.tab(ui, index, group);
                        }
                    });
                    let height = groups.len() as f32 * TAB_HEIGHT;
                    ScrollArea::vertical().max_height(height).min_scrolled_height(height).auto_shrink(false).show(ui, |ui| {
                        ui.horizontal_wrapped(|ui| {
                            ui.spacing_mut().item_spacing = vec2(theme::SPACE_TINY, theme::SPACE_TINY);
                            for (word, ways) in groups[self.group].words.iter().enumerate() {
                                let said = self.found.iter().any(|found| (found.group, found.word) == (self.group, word));
                                if chip(ui, ways, said) {
                                    *prompt = vocabulary::put(prompt, groups, self.group, word);
                                }
                            }
                        });
                    });
                });
            });
    }

    fn tab(&mut self, ui: &mut Ui, index: usize, group: &WordGroup) {
        let palette = Palette::of(ui);
        let chosen = index == self.group;
        let used = self.found.iter().any(|found| found.group == index);
        let color = match (chosen, used) {
            (true, _) => palette.text_strong,
            (false, true) => palette.text,
            (false, false) => palette.text_dim,
        };
        let mut title = group.title.clone();
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let (rect, button) = ui.allocate_exact_size(vec2(TABS_WIDTH, TAB_HEIGHT), Sense::click());
        if chosen || button.hovered() {
            let fill = if chosen { palette.accent_tint } else { palette.control_hovered };
            ui.painter().rect_filled(rect, CornerRadius::same(theme::RADIUS_SMALL), fill);
        }
        if button.has_focus() {
            focus_ring(ui.painter(), rect, palette);
        }
        let font = if chosen { FontId::new(12.0, theme::strong_family()) } else { FontId::proportional(12.0) };
        ui.painter().text(rect.left_center() + vec2(8.0, 0.0), Align2::LEFT_CENTER, title, font, color);
        if used {
            ui.painter().circle_filled(rect.right_center() - vec2(8.0, 0.0), 2.0, palette.accent);
        }
        button.widget_info(|| WidgetInfo::selected(Role::Button, ui.is_enabled(), chosen, format!("Words: {}", group.title)));
        if button.on_hover_text(format!("Words for the {}", group.title)).clicked() {
            self.group = index;
        }
    }

    fn negative(&mut self, ui: &mut Ui, draft: &mut Draft, model: &ModelInfo) {
        let own = &model.folder.facts().defaults.negative_prompt;
        let used = !draft.negative_prompt.is_empty() && draft.negative_prompt != *own;
        let no_effect = draft.guidance_scale <= 1.0;
        let shown = self.negative_is_open || used;
        let title = if !shown && !draft.negative_prompt.is_empty() {
            "Negative prompt: the model's own"
        } else if shown {
            "Negative prompt"
        } else {
            "Add a negative prompt"
        };
        let color = Palette::of(ui).text_dim;
        let label = ui
            .horizontal(|ui| {
                ui.spacing_mut().item_spacing.x = 2.0;
                let (rect, _) = ui.allocate_exact_size(egui::Vec2::splat(14.0), Sense::hover());
                icons::paint(ui.painter(), rect, if shown { Icon::Down } else { Icon::Plus }, color);
                let button = Button::new(RichText::new(title).color(color)).frame(false);
                let button = ui.add(button).on_hover_text("What the clip should not show. It works with guidance above 1.");
                button.widget_info(|| WidgetInfo::selected(Role::Button, ui.is_enabled(), self.negative_is_open, title));
                if button.has_focus() {
                    focus_ring(ui.painter(), button.rect, Palette::of(ui));
                }
                if button.clicked() {
                    self.negative_is_open = !self.negative_is_open && !used;
                }
                if used && controls::small_reset(ui, "negative prompt", if own.is_empty() { "none" } else { own }) {
                    draft.negative_prompt.clone_from(own);
                    self.negative_is_open = false;
                }
                button
            })
            .inner;
        if shown {
            let field = TextEdit::multiline(&mut draft.negative_prompt)
                .id_salt("negative prompt")
                .desired_rows(2)
                .desired_width(f32::INFINITY)
                .margin(vec2(10.0, 6.0))
                .hint_text("What should it not show?");
            let field = ui.add(field).labelled_by(label.id);
            // Emptied, it stays until the person goes on.
            self.negative_is_open |= field.has_focus();
            if no_effect {
                notice(ui, "It has no effect: guidance is 1. Raise it above 1 to use it.");
            }
        }
    }

    /// The menu of earlier prompts, newest first.
    fn history(&mut self, ui: &mut Ui, studio: &Studio, draft: &mut Draft) {
        let button = icon_button(ui, Icon::Clock, "Earlier prompts", "Prompts that were used before, newest first");
        let shown = Popup::from_toggle_button_response(&button)
            .width(HISTORY_WIDTH)
            .close_behavior(PopupCloseBehavior::CloseOnClickOutside)
            .accessible_name("Earlier prompts")
            .show(|ui| {
                // Read when the menu opens; a database that cannot be read is told elsewhere.
                let prompts = self.history.get_or_insert_with(|| studio.database().prompts(PROMPTS_SHOWN).unwrap_or_default());
                let field = ui.add(TextEdit::singleline(&mut self.search).hint_text("Search").desired_width(f32::INFINITY));
                field.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Search earlier prompts"));
                let wanted = self.search.to_lowercase();
                ScrollArea::vertical().max_height(HISTORY_HEIGHT).show(ui, |ui| {
                    let fitting: Vec<&String> = prompts.iter().filter(|prompt| prompt.to_lowercase().contains(&wanted)).collect();
                    for prompt in &fitting {
                        let line = prompt.split_whitespace().collect::<Vec<_>>().join(" ");
                        if ui
                            .add(Button::new(line).frame_when_inactive(false).truncate())
                            .on_hover_text(prompt.as_str())
                            .clicked()
                        {
                            draft.prompt.clone_from(prompt);
                            ui.close();
                        }
                    }
                    if fitting.is_empty() {
                        let text = if prompts.is_empty() {
                            "Prompts that you use are kept here."
                        } else {
                            "No earlier prompt has these words."
                        };
                        ui.add(Label::new(RichText::new(text).color(Palette::of(ui).text_dim)).wrap());
                    }
                });
            });
        if shown.is_none() {
            self.history = None;
            self.search.clear();
        }
    }
}

/// A word to put into the prompt, or to take out of it; true if it was clicked.
fn chip(ui: &mut Ui, ways: &[String], said: bool) -> bool {
    let palette = Palette::of(ui);
    let Some(usual) = ways.first() else { return false };
    let (fill, color) = if said { (palette.accent_tint, palette.text_strong) } else { (palette.control, palette.text) };
    ui.spacing_mut().button_padding = vec2(8.0, 3.0);
    ui.spacing_mut().interact_size.y = 24.0;
    let button = Button::new(RichText::new(usual).size(12.0).color(color)).fill(fill).corner_radius(CornerRadius::same(12));
    let response = ui.add(button);
    response.widget_info(|| WidgetInfo::selected(Role::Button, ui.is_enabled(), said, usual));
    let does = if said { "Takes it out of the prompt." } else { "Puts it into the prompt." };
    let tip = if ways.len() > 1 { format!("{does} Also understood: {}.", ways[1..].join(", ")) } else { does.to_owned() };
    response.on_hover_text(tip).clicked()
}
