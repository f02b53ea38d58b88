//! The list of everything that can be done: type a few letters, press Enter.

use std::ops::ControlFlow;

use eframe::egui::{
    Align, Align2, Context, Frame, Id, Key, Label, Layout, Margin, Modal, Modifiers, Rect, Response, RichText, Role, ScrollArea,
    Sense, TextEdit, Ui, UiBuilder, Vec2, WidgetInfo, vec2,
};

use super::action::Action;
use super::commands::{self, Entry, Situation};
use super::fuzzy;
use super::icons::{self, Icon};
use super::theme::{self, Palette as Colours};
use crate::studio::{ClipFilter, Studio};

const WIDTH: f32 = 600.0;
const LIST_HEIGHT: f32 = 400.0;
const ROW_HEIGHT: f32 = 40.0;
const TOP: f32 = 90.0;
/// Of clips, in the library and in the trash.
const MOST_CLIPS: usize = 200;
/// What a command counts that was used lately.
const RECENT: i32 = 6;
/// Words in the sentence behind a name count less than those in the name.
const ASIDE: i32 = 20;

pub struct CommandPalette {
    query: String,
    /// The row that Enter presses.
    at: usize,
    /// Everything, as it was when the palette was opened.
    entries: Vec<Entry>,
    has_begun: bool,
}

impl CommandPalette {
    pub fn open(context: &Context, studio: &Studio, situation: &Situation<'_>) -> Self {
        let list = |deleted| {
            let mut clips = studio.clips(&ClipFilter { deleted, ..ClipFilter::default() }).unwrap_or_default();
            clips.truncate(MOST_CLIPS);
            clips
        };
        Self {
            query: String::new(),
            at: 0,
            entries: commands::entries(context, situation, &list(false), &list(true)),
            has_begun: false,
        }
    }

    /// Everything that it offers, whatever was typed.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Breaks when it is done; `used` is called with what was chosen.
    pub fn show(
        &mut self,
        context: &Context,
        recent: &[String],
        actions: &mut Vec<Action>,
        mut used: impl FnMut(&str),
    ) -> ControlFlow<()> {
        let found = self.found(recent);
        let mut chosen = None;
        let moved = self.keys(context, &found, &mut chosen);
        let area = Modal::default_area(Id::unique("commands")).anchor(Align2::CENTER_TOP, vec2(0.0, TOP));
        let frame = Frame::popup(&context.global_style()).inner_margin(Margin::same(8));
        let modal = Modal::new(Id::unique("commands")).area(area).frame(frame).show(context, |ui| {
            ui.set_width(WIDTH.min(context.content_rect().width() - 40.0));
            ui.spacing_mut().item_spacing.y = theme::SPACE_TINY;
            self.field(ui);
            let height = LIST_HEIGHT.min(context.content_rect().height() - TOP - 120.0);
            let mut list = ScrollArea::vertical().max_height(height).auto_shrink([false, true]);
            if moved {
                // Some rows of the way are seen.
                list = list.vertical_scroll_offset((self.at as f32 * ROW_HEIGHT - height / 2.0).max(0.0));
            }
            list.show_rows(ui, ROW_HEIGHT - ui.spacing().item_spacing.y, found.len(), |ui, rows| {
                for row in rows {
                    if let Some(entry) = found.get(row).and_then(|&index| self.entries.get(index))
                        && line(ui, entry, row == self.at).clicked()
                        && entry.action.is_ok()
                    {
                        chosen = Some(row);
                    }
                }
            });
            if found.is_empty() {
                let text = "Nothing is called so. Try a word of what it does, such as “step”, “larger” or “trash”.";
                ui.add_space(theme::SPACE_SMALL);
                ui.label(RichText::new(text).color(Colours::of(ui).text_dim));
                ui.add_space(theme::SPACE_SMALL);
            }
        });
        let chosen = chosen.and_then(|row| self.entries.get(*found.get(row)?));
        if let Some(Entry { id, action: Ok(action), .. }) = chosen {
            used(id);
            actions.push(action.clone());
            return ControlFlow::Break(());
        }
        if modal.should_close() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// The entries that fit what was typed, the best first.
    fn found(&self, recent: &[String]) -> Vec<usize> {
        let query = self.query.trim();
        let lately = |entry: &Entry| recent.iter().position(|id| *id == entry.id);
        let mut found: Vec<(i32, usize)> = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let Some(score) = fuzzy::score(query, &entry.name)
                .max(fuzzy::score(query, &format!("{} {}", entry.name, entry.does)).map(|score| score - ASIDE))
            else {
                continue;
            };
            let place = lately(entry).map_or(0, |place| if query.is_empty() { 100 - place as i32 } else { RECENT });
            let possible = if entry.action.is_ok() { 1 } else { 0 };
            found.push((score + place + possible, index));
        }
        // What is equally good stays in the order of the table.
        found.sort_by_key(|&(score, index)| (std::cmp::Reverse(score), index));
        found.into_iter().map(|(_, index)| index).collect()
    }

    /// Takes the keys that move and choose, before the text field sees them; true if the chosen row has moved.
    fn keys(&mut self, context: &Context, found: &[usize], chosen: &mut Option<usize>) -> bool {
        let before = self.at;
        let last = found.len().saturating_sub(1);
        context.input_mut(|input| {
            let mut presses = |key: Key| input.count_and_consume_key(Modifiers::NONE, key);
            self.at = (self.at + presses(Key::ArrowDown) + 8 * presses(Key::PageDown)).min(last);
            self.at = self.at.saturating_sub(presses(Key::ArrowUp) + 8 * presses(Key::PageUp));
            if presses(Key::Enter) > 0 {
                *chosen = Some(self.at);
            }
        });
        self.at != before
    }

    fn field(&mut self, ui: &mut Ui) {
        let palette = Colours::of(ui);
        ui.horizontal(|ui| {
            let (place, _) = ui.allocate_exact_size(Vec2::splat(theme::CONTROL_HEIGHT), Sense::hover());
            icons::paint(
                ui.painter(),
                Rect::from_center_size(place.center(), Vec2::splat(icons::SIZE)),
                Icon::Search,
                palette.text_dim,
            );
            let field = TextEdit::singleline(&mut self.query)
                .frame(Frame::NONE)
                .font(eframe::egui::FontId::proportional(16.0))
                .desired_width(f32::INFINITY)
                .min_size(vec2(0.0, theme::CONTROL_HEIGHT))
                .align(Align2::LEFT_CENTER)
                .hint_text("What do you want to do?");
            let field = ui.add(field);
            field.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Find a command"));
            if !std::mem::replace(&mut self.has_begun, true) {
                field.request_focus();
            }
            if field.changed() {
                self.at = 0;
            }
        });
        ui.add(eframe::egui::Separator::default().spacing(2.0));
    }
}

/// One line of the list.
fn line(ui: &mut Ui, entry: &Entry, is_at: bool) -> Response {
    let palette = Colours::of(ui);
    let size = vec2(ui.available_width(), ROW_HEIGHT - theme::SPACE_TINY);
    let (rect, response) = ui.allocate_exact_size(size, Sense::click());
    let possible = entry.action.is_ok();
    response.widget_info(|| WidgetInfo::selected(Role::Button, possible, is_at, format!("{}: {}", entry.name, entry.does)));
    if is_at {
        ui.painter().rect_filled(rect, theme::RADIUS, palette.accent_tint);
    } else if response.hovered() && possible {
        ui.painter().rect_filled(rect, theme::RADIUS, palette.control_hovered);
    }
    let inner = rect.shrink2(vec2(10.0, 0.0));
    let builder = UiBuilder::new().max_rect(inner).layout(Layout::right_to_left(Align::Center));
    let mut ui = ui.new_child(builder);
    if !entry.keys.is_empty() {
        ui.label(RichText::new(&entry.keys).small().color(palette.text_dim));
    }
    ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
        let name = theme::strong(&entry.name).color(if possible { palette.text_strong } else { palette.text_dim });
        ui.label(name);
        let aside = match &entry.action {
            Ok(_) => &entry.does,
            Err(why) => why,
        };
        ui.add(Label::new(RichText::new(aside).small().color(palette.text_dim)).truncate());
    });
    response
}
