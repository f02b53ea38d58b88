//! The attention page: where a layer looked at a step, tile by tile, with what its plan computed.
//!
//! It shows records that others made; which step it shows is the player's choice, and both follow each other.

mod heatmap;
mod overview;
mod save;
mod scale;
mod table;

use std::sync::Arc;

use eframe::egui::{ComboBox, DragValue, Grid, Label, RichText, Ui};

use self::heatmap::Heatmap;
use self::overview::Overview;
pub use self::save::{AttentionFile, MapFile, SavingMap};
use self::scale::ScaleChoice;
use super::action::Action;
use super::empty_state;
use super::icons::{self, Icon, icon_toggle};
use super::segments;
use super::theme::{self, Palette};
use crate::generate::attention_record::{AttentionRecord, Recording, TileState};
use crate::mask::Layout;

/// Both choices are short enough for half of the page.
const LAYER_WIDTH: f32 = 54.0;

/// What the page is shown for.
#[derive(Default)]
pub struct Subject {
    /// One entry a step, where there is a record.
    pub records: Vec<Option<Arc<AttentionRecord>>>,
    /// The step that the player shows, counted from 0.
    pub step: Option<usize>,
    /// More records come.
    pub is_live: bool,
    /// What the next runs record.
    pub recording: Option<Recording>,
}

/// What the person pointed at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pointed {
    /// Query and key frame of a tile.
    pub tile: Option<[usize; 2]>,
    /// A step to be shown.
    pub step: Option<usize>,
}

/// A layer, and a head or the mean of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    pub layer: usize,
    pub head: Option<usize>,
}

#[derive(Default)]
pub struct AttentionPage {
    pub place: Place,
    scale: ScaleChoice,
    as_table: bool,
    /// The tile whose numbers stay when the pointer goes.
    chosen: Option<[usize; 2]>,
    heatmap: Heatmap,
    overview: Overview,
    /// The record that is on show.
    record: Option<Arc<AttentionRecord>>,
}

const RECORDINGS: [(Option<Recording>, &str, &str); 3] = [
    (None, "Off", "The next clips are made without a record of their attention"),
    (
        Some(Recording::Sampled),
        "Sampled",
        "What a plan computes is recorded whole, what it skips is estimated from every 16th token of a frame, with the error shown",
    ),
    (Some(Recording::Exact), "Exact", "Every row of every tile is measured, also where the plan computes nothing: much slower"),
];

impl AttentionPage {
    pub fn show(&mut self, ui: &mut Ui, subject: &Subject, actions: &mut Vec<Action>) -> Pointed {
        let mut pointed = Pointed::default();
        let shown = subject.step.and_then(|step| subject.records.get(step).cloned().flatten());
        // The step on show may have none, as the one that is being made.
        self.record = shown.or_else(|| subject.records.iter().rev().flatten().next().cloned());
        let Some(record) = self.record.clone() else {
            self.nothing(ui, subject, actions);
            return pointed;
        };
        self.place.layer = self.place.layer.min(record.layers() - 1);
        self.place.head = self.place.head.filter(|&head| head < record.heads());
        self.choose(ui, &record);

        pointed.tile = if self.as_table {
            table::show(ui, &record, self.place);
            None
        } else {
            self.heatmap.show(ui, &record, self.place, self.scale, &mut self.chosen)
        };
        let tile = pointed.tile.or(self.chosen).filter(|tile| tile.iter().all(|&frame| frame < record.frames()));
        pointed.tile = tile;
        self.numbers(ui, &record, tile);
        facts(ui, &record, self.place);
        self.files(ui, actions);

        ui.add_space(theme::SPACE_SMALL);
        caption(ui, "Layers and steps");
        if let Some(chosen) = self.overview.show(ui, &subject.records, [self.place.layer, record.call]) {
            self.place.layer = chosen[0];
            pointed.step = Some(chosen[1]);
        }
        recording(ui, subject.recording, actions);
        pointed
    }

    /// The map that is on show, to be written.
    pub fn map(&self, kind: AttentionFile) -> Option<MapFile> {
        Some(MapFile { record: self.record.clone()?, place: self.place, scale: self.scale, kind })
    }

    fn nothing(&self, ui: &mut Ui, subject: &Subject, actions: &mut Vec<Action>) {
        recording(ui, subject.recording, actions);
        let (title, text) = match (subject.is_live, subject.recording) {
            (true, None) => {
                ("This run is not recorded", "Choose Sampled above, and the next run shows here where each layer looks.")
            }
            (true, _) => ("The first step is on its way", "With it comes a map of every layer: which frame looks at which."),
            (false, None) => {
                ("No attention is recorded", "Choose Sampled above and make the clip again: the same frames, with a record.")
            }
            (false, _) => ("No attention is recorded", "This clip was made without a record. Made again, it gets one."),
        };
        empty_state::show(ui, Icon::Mask, title, text, None);
    }

    /// Layer, head, and how they are shown.
    fn choose(&mut self, ui: &mut Ui, record: &AttentionRecord) {
        let palette = Palette::of(ui);
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = theme::SPACE_TINY;
            let name = ui.label(RichText::new("Layer").color(palette.text_dim));
            // Shown counted from 1.
            let mut layer = self.place.layer + 1;
            let drag = DragValue::new(&mut layer).range(1..=record.layers()).speed(0.08);
            let of = format!("of {}", record.layers());
            ui.add_sized([LAYER_WIDTH, theme::CONTROL_HEIGHT], drag)
                .labelled_by(name.id)
                .on_hover_text(format!("{of}; drag or type"));
            self.place.layer = layer - 1;
            ui.add_space(theme::SPACE_SMALL);
            let words = |head: Option<usize>| match head {
                None => format!("Mean of {}", record.heads()),
                Some(head) => format!("Head {}", head + 1),
            };
            let combo = ComboBox::from_id_salt("head").width(112.0).icon(icons::drop_down).selected_text(words(self.place.head));
            let response = combo.show_ui(ui, |ui| {
                for head in [None].into_iter().chain((0..record.heads()).map(Some)) {
                    ui.selectable_value(&mut self.place.head, head, words(head));
                }
            });
            response.response.on_hover_text("One head of the layer, or all together");
        });
        ui.horizontal(|ui| {
            segments::inline(ui, &mut self.scale, &ScaleChoice::ALL);
            let table = icon_toggle(ui, Icon::Queue, "Table", "The numbers of all tiles, to read and to copy", self.as_table);
            if table.clicked() {
                self.as_table = !self.as_table;
            }
        });
    }

    /// Those of one tile, in words.
    fn numbers(&self, ui: &mut Ui, record: &AttentionRecord, tile: Option<[usize; 2]>) {
        let palette = Palette::of(ui);
        let text = match tile {
            None => RichText::new("Point at a tile: its two frames light up in the player.").color(palette.text_dim),
            Some(tile) => RichText::new(words(record, self.place, tile)).color(palette.text_strong),
        };
        // Of one height, so that nothing moves.
        ui.allocate_ui(eframe::egui::vec2(ui.available_width(), 34.0), |ui| {
            ui.set_min_height(34.0);
            ui.add(Label::new(text).wrap().selectable(true));
        });
    }

    fn files(&self, ui: &mut Ui, actions: &mut Vec<Action>) {
        ui.horizontal(|ui| {
            for (kind, name, tip) in [
                (AttentionFile::Png, "Save PNG", "The map with its scale, as a picture"),
                (AttentionFile::Csv, "Save CSV", "A line for each tile: frames, mass, standard error, what the plan does"),
            ] {
                if ui.button(name).on_hover_text(tip).clicked() {
                    actions.extend(self.map(kind).map(Action::SaveAttention));
                }
            }
        });
    }
}

/// One tile as a sentence. Frames are latent frames, counted from 1.
fn words(record: &AttentionRecord, place: Place, [query, key]: [usize; 2]) -> String {
    let mass = record.mass(place.layer, place.head).at(query, key);
    let error = record.standard_error(place.layer, place.head).at(query, key);
    let state = match record.state(place.layer, query, key) {
        TileState::Computed => "computed",
        TileState::Reference => "computed, with a reference frame",
        TileState::Skipped => "skipped by the plan",
    };
    let error = if error > 0.0 { format!(" ± {}", percent(error)) } else { String::new() };
    format!("Frame {} reads {}{error} from frame {}: {state}.", query + 1, percent(mass), key + 1)
}

/// A share with three figures.
fn percent(share: f32) -> String {
    let percent = 100.0 * share;
    let decimals = match percent {
        percent if percent >= 10.0 => 1,
        percent if percent >= 0.1 || percent == 0.0 => 2,
        _ => 3,
    };
    format!("{percent:.decimals$} %")
}

fn facts(ui: &mut Ui, record: &AttentionRecord, place: Place) {
    let palette = Palette::of(ui);
    let layer = record.layer(place.layer);
    let kept = record.kept_share(place.layer, place.head);
    let density = record.density(place.layer);
    let rule = if *layer.layout() == Layout::Full { "dense".to_owned() } else { layer.name().to_string() };
    let how = match (record.recording, density < 1.0) {
        (Recording::Exact, _) => "All rows of all tiles were measured.",
        (_, false) => "All rows were measured by the attention itself.",
        (_, true) => "Computed tiles are measured on all rows; skipped ones are estimated from every 16th.",
    };
    let rows = [
        ("Mass kept", percent(kept), "The share of the softmax weight that lies on tiles which the plan computes"),
        ("Tiles", format!("{} of them: {rule}", percent(density)), "The share of the tiles that the plan computes in this layer"),
    ];
    Grid::new("attention facts").num_columns(2).spacing([theme::SPACE, theme::SPACE_TINY]).min_row_height(16.0).show(ui, |ui| {
        ui.spacing_mut().interact_size.y = 16.0;
        for (name, value, tip) in rows {
            let label = ui.label(RichText::new(name).color(palette.text_dim));
            ui.label(RichText::new(value).color(palette.text)).labelled_by(label.id).on_hover_text(format!("{tip}. {how}"));
            ui.end_row();
        }
    });
    ui.add(Label::new(RichText::new(how).color(palette.text_dim).size(11.5)).wrap());
}

fn recording(ui: &mut Ui, now: Option<Recording>, actions: &mut Vec<Action>) {
    ui.add_space(theme::SPACE_SMALL);
    caption(ui, "Record the next clips");
    let mut chosen = now;
    if segments::show(ui, &mut chosen, &RECORDINGS) {
        actions.push(Action::RecordAttention(chosen));
    }
}

fn caption(ui: &mut Ui, text: &str) {
    ui.label(theme::caption(text).color(Palette::of(ui).text_dim));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::MaskPlan;

    #[test]
    fn a_tile_is_said_with_its_numbers() {
        let plan = Arc::new(MaskPlan::uniform(1, 2, "1:1").unwrap());
        let record =
            AttentionRecord::new(0, Recording::Sampled, plan, 1, &[0.75, 0.25, 0.0005, 0.9995], &[0.0, 0.0, 0.0625, 0.0]);
        let words = |tile| words(&record, Place::default(), tile);
        assert_eq!(words([0, 1]), "Frame 1 reads 25.0 % from frame 2: computed, with a reference frame.");
        assert_eq!(words([1, 0]), "Frame 2 reads 0.050 % ± 6.25 % from frame 1: computed, with a reference frame.");
        assert_eq!([percent(0.0), percent(1.0), percent(0.0123)], ["0.00 %", "100.0 %", "1.23 %"]);
    }
}
