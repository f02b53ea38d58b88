//! The numbers of all tiles of a layer, to read and to copy.

use eframe::egui::{Grid, Label, RichText, ScrollArea, TextWrapMode, Ui};

use super::Place;
use crate::app::theme::{self, Palette};
use crate::generate::attention_record::{AttentionRecord, TileState};

/// In percent; what the plan skips stands in brackets.
pub fn show(ui: &mut Ui, record: &AttentionRecord, place: Place) {
    let palette = Palette::of(ui);
    let mass = record.mass(place.layer, place.head);
    let (frames, states) = (record.frames(), record.states(place.layer));
    ScrollArea::horizontal().id_salt("attention table").show(ui, |ui| {
        ui.style_mut().wrap_mode = Some(TextWrapMode::Extend);
        Grid::new("attention tiles").striped(true).spacing([theme::SPACE_SMALL, 3.0]).show(ui, |ui| {
            let head = |ui: &mut Ui, text: String| {
                ui.add(Label::new(RichText::new(text).color(palette.text_dim).size(11.0)));
            };
            head(ui, "%".into());
            (1..=frames).for_each(|key| head(ui, key.to_string()));
            ui.end_row();
            for query in 0..frames {
                head(ui, (query + 1).to_string());
                for key in 0..frames {
                    let value = format!("{:.1}", 100.0 * mass.at(query, key));
                    let (text, color) = match states[query * frames + key] {
                        TileState::Skipped => (format!("({value})"), palette.text_dim),
                        TileState::Reference => (value, palette.accent),
                        TileState::Computed => (value, palette.text),
                    };
                    ui.add(Label::new(RichText::new(text).color(color).size(11.0)).selectable(true));
                }
                ui.end_row();
            }
        });
    });
    let words = "Rows: frames that look. Columns: frames that are looked at. In brackets: skipped by the plan.";
    ui.add(Label::new(RichText::new(words).color(palette.text_dim).size(11.5)).wrap());
}
