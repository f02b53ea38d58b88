//! What a list shows while there is nothing in it: an icon, what will be here, and how to get it.

use eframe::egui::{Align, Layout, Rect, RichText, Sense, Ui, UiBuilder, Vec2, vec2};

use super::icons::{self, Icon};
use super::theme::{self, Palette};

const WIDTH: f32 = 380.0;
const ICON: f32 = 28.0;

/// Fills the place that is left; true when the button was pressed.
pub fn show(ui: &mut Ui, icon: Icon, title: &str, text: &str, button: Option<&str>) -> bool {
    let palette = Palette::of(ui);
    let place = ui.available_rect_before_wrap();
    let roomy = place.height() >= 150.0;
    let content = if roomy { 96.0 } else { 52.0 } + if button.is_some() { theme::CONTROL_HEIGHT + theme::SPACE } else { 0.0 };
    let width = WIDTH.min(place.width());
    let top = place.top() + ((place.height() - content) / 2.0).max(0.0);
    let rect = Rect::from_min_size(place.center_top() - vec2(width / 2.0, 0.0), vec2(width, content))
        .translate(vec2(0.0, top - place.top()));
    let mut pressed = false;
    ui.scope_builder(UiBuilder::new().max_rect(rect).layout(Layout::top_down(Align::Center)), |ui| {
        ui.spacing_mut().item_spacing.y = theme::SPACE_TINY;
        if roomy {
            let (rect, _) = ui.allocate_exact_size(Vec2::splat(ICON), Sense::hover());
            icons::paint(ui.painter(), rect, icon, palette.text_dim);
            ui.add_space(theme::SPACE_TINY);
        }
        ui.label(theme::strong(title).color(palette.text_strong));
        ui.label(RichText::new(text).color(palette.text_dim));
        if let Some(button) = button {
            ui.add_space(theme::SPACE_SMALL);
            pressed = ui.button(button).clicked();
        }
    });
    ui.allocate_rect(place, Sense::hover());
    pressed
}
