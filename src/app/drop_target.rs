//! A file over the window: says what dropping it does, and does it.

use eframe::egui::{Align2, Area, Context, Frame, Id, Order, RichText};

use super::action::Action;
use super::theme;

pub fn show(context: &Context, actions: &mut Vec<Action>) {
    let (hovers, dropped) = context.input(|input| (!input.raw.hovered_files.is_empty(), input.raw.dropped_files.clone()));
    for path in dropped.into_iter().map(|file| file.path().to_owned()) {
        actions.push(if path.is_dir() { Action::OpenModel(path) } else { Action::OpenFile(path) });
    }
    if hovers {
        let area = Area::new(Id::unique("drop target")).order(Order::Foreground).anchor(Align2::CENTER_CENTER, [0.0, 0.0]);
        area.show(context, |ui| {
            Frame::popup(ui.style()).inner_margin(theme::SPACE_HUGE).show(ui, |ui| {
                ui.vertical_centered(|ui| {
                    ui.label(theme::title("Drop it here"));
                    ui.label(RichText::new("A clip or recipe gives its settings back; a folder is opened as a model."));
                });
            });
        });
    }
}
