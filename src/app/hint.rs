//! What to look at in this window, said once.

use eframe::egui::{self, Label, RichText, Ui};

use super::action::Action;
use super::icons::{self, Icon, icon_button};
use super::theme::{self, Palette};

/// `palette_keys` are those of the list of commands.
pub fn show(ui: &mut Ui, palette_keys: &str, actions: &mut Vec<Action>) {
    let palette = Palette::of(ui);
    let frame = egui::Frame::new().fill(palette.accent_tint).corner_radius(theme::RADIUS).inner_margin(theme::SPACE_SMALL);
    frame.show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = theme::SPACE_TINY;
        ui.horizontal(|ui| {
            ui.label(theme::strong("Three things to try").color(palette.text_strong));
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                if icon_button(ui, Icon::Close, "Take the hint away", "It does not come back by itself").clicked() {
                    actions.push(Action::Hint(false));
                }
            });
        });
        let keys = if palette_keys.is_empty() { "The gear below".to_owned() } else { palette_keys.to_owned() };
        let lines = [
            (Icon::Film, "Drag along the rulers below the picture: frames of the clip, and the steps it was made in.".to_owned()),
            (
                Icon::Mask,
                "Turn the attention mask down: fewer tiles, less time, and a picture that says what is left out.".to_owned(),
            ),
            (Icon::Search, format!("{keys} finds everything that can be done here.")),
        ];
        for (icon, text) in lines {
            ui.horizontal(|ui| {
                let (rect, _) = ui.allocate_exact_size(egui::Vec2::splat(icons::SIZE), egui::Sense::hover());
                icons::paint(ui.painter(), rect, icon, palette.accent);
                ui.add(Label::new(RichText::new(text).color(palette.text_strong)).wrap());
            });
        }
    });
}
