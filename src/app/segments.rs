//! A few choices side by side, of which one holds.

use eframe::egui::{Align, Button, Layout, Rect, Shape, TextStyle, TextWrapMode, Ui, WidgetText, vec2};

use super::theme::{self, Palette};

/// Beside the names, where a row is narrow.
const LEAST_PADDING: f32 = 3.0;

/// Shows `choices` (value, name, what it means) in a row; true if another one was chosen.
pub fn show<T: Copy + PartialEq>(ui: &mut Ui, value: &mut T, choices: &[(T, &str, &str)]) -> bool {
    let row = vec2(ui.available_width(), theme::CONTROL_HEIGHT);
    ui.allocate_ui_with_layout(row, Layout::left_to_right(Align::Center), |ui| {
        let names: f32 = choices.iter().map(|(_, name, _)| text_width(ui, name)).sum();
        let room = (ui.available_width() - names) / (2 * choices.len().max(1)) as f32;
        let padding = &mut ui.spacing_mut().button_padding.x;
        *padding = padding.min(room.floor()).max(LEAST_PADDING);
        inline(ui, value, choices)
    })
    .inner
}

/// Of a text as buttons have it, in points.
pub fn text_width(ui: &Ui, text: &str) -> f32 {
    WidgetText::from(text).into_galley(ui, Some(TextWrapMode::Extend), f32::INFINITY, TextStyle::Button).size().x
}

/// As [`show`], within a row.
pub fn inline<T: Copy + PartialEq>(ui: &mut Ui, value: &mut T, choices: &[(T, &str, &str)]) -> bool {
    let before = *value;
    let gap = std::mem::replace(&mut ui.spacing_mut().item_spacing.x, 0.0);
    let ground = ui.painter().add(Shape::Noop);
    let mut place = Rect::NOTHING;
    let mut choice = |ui: &mut Ui, (own, name, tip): (T, &str, &str)| {
        let button = Button::selectable(*value == own, name).min_size(vec2(0.0, theme::CONTROL_HEIGHT));
        let response = ui.add(button).on_hover_text(tip);
        place = place.union(response.rect);
        if response.clicked() {
            *value = own;
        }
    };
    if ui.layout().prefer_right_to_left() {
        choices.iter().rev().for_each(|&one| choice(ui, one));
    } else {
        choices.iter().for_each(|&one| choice(ui, one));
    }
    ui.painter().set(ground, Shape::rect_filled(place, theme::RADIUS, Palette::of(ui).control));
    ui.spacing_mut().item_spacing.x = gap;
    ui.add_space(gap);
    *value != before
}
