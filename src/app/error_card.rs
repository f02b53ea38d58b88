//! An error as a person reads it: what happened, why, the buttons that mend it, the details folded, all of it for the clipboard.

use std::fmt::Debug;
use std::hash::Hash;

use eframe::egui::{CollapsingHeader, Frame, Label, Margin, RichText, ScrollArea, Sense, Stroke, Ui, Vec2};

use super::action::Action;
use super::icons::{self, Icon, icon_button};
use super::theme::{self, Palette};
use crate::studio::{ErrorReport, Fault, ItemId, Remedy};

/// Shows why an item failed.
pub fn show(ui: &mut Ui, item: ItemId, report: &ErrorReport, actions: &mut Vec<Action>) {
    show_report(ui, item.0, report, |remedy| Action::Mend { item, remedy: remedy.clone() }, actions);
}

/// Shows what went wrong with `of`; `mend` is what a remedy's button does.
pub fn show_report(
    ui: &mut Ui,
    of: impl Hash + Debug + Copy,
    report: &ErrorReport,
    mend: impl Fn(&Remedy) -> Action,
    actions: &mut Vec<Action>,
) {
    let palette = Palette::of(ui);
    card(ui, palette.error, |ui| {
        headline(ui, icon_of(report.fault), palette.error, &report.what, |ui| {
            if icon_button(ui, Icon::Copy, "Copy report", "All of this as text, to ask for help with").clicked() {
                actions.push(Action::CopyText(report.text()));
            }
        });
        ui.add(Label::new(&report.why).wrap().selectable(true));
        if !report.remedies.is_empty() {
            ui.horizontal_wrapped(|ui| {
                for (index, remedy) in report.remedies.iter().enumerate() {
                    let (name, tip) = words(remedy);
                    let button = if index == 0 { ui.add(theme::primary_button(ui, &name)) } else { ui.button(&name) };
                    if button.on_hover_text(tip).clicked() {
                        actions.push(mend(remedy));
                    }
                }
            });
        }
        CollapsingHeader::new("Details").id_salt(("error details", of)).show(ui, |ui| {
            ScrollArea::horizontal().id_salt(("error text", of)).show(ui, |ui| {
                ui.add(Label::new(RichText::new(&report.details).monospace().color(palette.text_dim)).extend().selectable(true));
            });
        });
    });
}

/// Shows what went wrong beside the runs, such as a full disk.
pub fn show_note(ui: &mut Ui, note: &str, actions: &mut Vec<Action>) {
    let palette = Palette::of(ui);
    // The first sentence says what happened, the others what to do.
    let (what, why) = match note.split_once(": ") {
        Some((what, why)) if what.len() <= 90 => (what, why),
        _ => note.split_once(". ").unwrap_or((note, "")),
    };
    card(ui, palette.warning, |ui| {
        headline(ui, Icon::Warning, palette.warning, what, |ui| {
            if icon_button(ui, Icon::Close, "Dismiss", "Takes this away").clicked() {
                actions.push(Action::DismissNote(note.to_owned()));
            }
            if icon_button(ui, Icon::Copy, "Copy", "This text for the clipboard").clicked() {
                actions.push(Action::CopyText(note.to_owned()));
            }
        });
        if !why.is_empty() {
            ui.add(Label::new(capitalised(why)).wrap().selectable(true));
        }
    });
}

fn card(ui: &mut Ui, colour: eframe::egui::Color32, content: impl FnOnce(&mut Ui)) {
    let frame = Frame::new()
        .fill(Palette::of(ui).raised)
        .stroke(Stroke::new(1.0, colour.gamma_multiply(0.6)))
        .corner_radius(theme::RADIUS)
        .inner_margin(Margin::same(theme::SPACE_SMALL as i8 + 2));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        content(ui);
    });
}

fn headline(ui: &mut Ui, icon: Icon, colour: eframe::egui::Color32, what: &str, buttons: impl FnOnce(&mut Ui)) {
    eframe::egui::Sides::new().shrink_left().show(
        ui,
        |ui| {
            let (rect, _) = ui.allocate_exact_size(Vec2::splat(icons::SIZE), Sense::hover());
            icons::paint(ui.painter(), rect, icon, colour);
            ui.add(Label::new(theme::strong(what).color(Palette::of(ui).text_strong)).wrap().selectable(true));
        },
        |ui| {
            ui.spacing_mut().item_spacing.x = 2.0;
            buttons(ui);
        },
    );
}

fn icon_of(fault: Fault) -> Icon {
    match fault {
        Fault::OutOfMemory | Fault::DeviceLost | Fault::DriverTimeout | Fault::WrongNumbers => Icon::Chip,
        Fault::BadFile | Fault::Disk => Icon::Folder,
        Fault::Settings => Icon::Settings,
        Fault::Other => Icon::Warning,
    }
}

/// What a remedy's button says, and what it does.
fn words(remedy: &Remedy) -> (String, &'static str) {
    match remedy {
        Remedy::Retry => ("Try again".into(), "Goes on from the last finished step"),
        Remedy::UseCpu => ("Use the CPU".into(), "Slower, but with the machine's own memory and without its graphics driver"),
        Remedy::Frames(1) => ("1 frame instead".into(), "The same as a still picture"),
        Remedy::Frames(frames) => (format!("{frames} frames instead"), "The same clip, shorter"),
        Remedy::Size(width, height) => (format!("{width}×{height} instead"), "The same clip, smaller"),
        Remedy::RunAnyway => ("Run anyway".into(), "The system may end the program if the memory runs out"),
        Remedy::ChooseModel => ("Choose a model".into(), "Opens a folder in the published layout"),
        Remedy::EditSettings => ("Change the settings".into(), "Puts them back into the panel on the left"),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_remedy_has_its_own_words() {
        let all = [
            Remedy::Retry,
            Remedy::UseCpu,
            Remedy::Frames(1),
            Remedy::Frames(29),
            Remedy::Size(128, 64),
            Remedy::RunAnyway,
            Remedy::ChooseModel,
            Remedy::EditSettings,
        ];
        let names: std::collections::BTreeSet<String> = all.iter().map(|remedy| words(remedy).0).collect();
        assert_eq!(names.len(), all.len());
        assert!(names.contains("29 frames instead") && names.contains("128×64 instead"));
    }

    #[test]
    fn sentences_begin_with_a_capital_in_any_script() {
        assert_eq!([capitalised("élan"), capitalised(""), capitalised("Disk")], ["Élan", "", "Disk"]);
    }
}
