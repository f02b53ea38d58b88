//! The words of the prompt above the picture: each shows where it is seen, while the pointer or the focus is on it.

use std::sync::Arc;

use eframe::egui::{
    Align, Align2, ComboBox, CornerRadius, FontId, Galley, Label, Layout, Rect, Response, RichText, Role, ScrollArea, Sense,
    Stroke, Ui, Vec2, WidgetInfo, pos2, vec2,
};

use super::Player;
use super::inspect::Answer;
use super::ruler;
use crate::app::icons::{self, drop_down};
use crate::app::theme::{self, Palette};
use crate::generate::reading::{Fate, WordMaps, words_in};
use crate::studio::words::count;

const CHIP_HEIGHT: f32 = 24.0;
/// Room below a word for the bar of its share.
const BAR_HEIGHT: f32 = 3.0;
const GAP: f32 = 4.0;
/// More rows of words are scrolled to.
const MOST_ROWS: f32 = 3.0;
const CHOICE_WIDTH: f32 = 104.0;

impl Player {
    pub(super) fn word_row(&mut self, ui: &mut Ui) {
        self.inspect.word = None;
        ui.horizontal_top(|ui| {
            let (rect, _) =
                ui.allocate_exact_size(vec2(ruler::NAME_WIDTH - ui.spacing().item_spacing.x, CHIP_HEIGHT), Sense::empty());
            ruler::name(ui, rect, rect.center().y, "Words");
            let room = (ui.available_width() - CHOICE_WIDTH - ui.spacing().item_spacing.x).max(80.0);
            ui.allocate_ui_with_layout(vec2(room, CHIP_HEIGHT), Layout::top_down(Align::Min), |ui| {
                ui.set_width(room);
                let most = MOST_ROWS * (CHIP_HEIGHT + GAP);
                ScrollArea::vertical().id_salt("words").max_height(most).show(ui, |ui| self.chips(ui));
            });
            self.word_layer_choice(ui);
        });
    }

    fn chips(&mut self, ui: &mut Ui) {
        let inspect = &mut self.inspect;
        let palette = Palette::of(ui);
        if let Some(reason) = inspect.answers.unavailable {
            ui.label(RichText::new(reason).color(palette.text_dim));
            return;
        }
        let prompt = inspect.answers.prompt.clone();
        let maps = match &inspect.answers.words {
            Answer::Ready(maps) => Some(maps.clone()),
            _ => None,
        };
        let most = maps.as_ref().map_or(0.0, |maps| (0..maps.words.len()).map(|word| maps.mean(word)).fold(0.0, f64::max));
        ui.spacing_mut().item_spacing = Vec2::splat(GAP);
        ui.horizontal_wrapped(|ui| {
            for (index, span) in words_in(&prompt).into_iter().enumerate() {
                let kept = inspect.kept_word == Some(index);
                let chip = Chip { text: &prompt[span], index, kept, maps: maps.as_deref(), most };
                let response = chip.show(ui);
                if response.hovered() || response.has_focus() {
                    inspect.word = Some(index);
                    inspect.reads_words = true;
                }
                if response.clicked() {
                    inspect.kept_word = (!kept).then_some(index);
                    inspect.reads_words = true;
                }
            }
            let note = match &inspect.answers.words {
                Answer::Computing => Some(("Reading the words".to_owned(), palette.text_dim)),
                Answer::Waiting => Some(("Waits for the run that goes on".to_owned(), palette.text_dim)),
                Answer::Failed(reason) => Some((reason.to_string(), palette.error)),
                Answer::Ready(maps) => {
                    let rest = maps.mean_rest() * 100.0;
                    Some((format!("{rest:.0} % beside the words"), palette.text_dim))
                }
                Answer::None => None,
            };
            if let Some((note, color)) = note {
                let label = Label::new(RichText::new(note).small().color(color));
                ui.add(label).on_hover_text(
                    "What every token reads from the text makes 100 %. Beside the words of the prompt stand those of the model's template and the mark that ends the text.",
                );
            }
        });
    }

    fn word_layer_choice(&mut self, ui: &mut Ui) {
        let inspect = &mut self.inspect;
        let layers = inspect.answers.masks.len();
        let name = |layer: Option<usize>| layer.map_or("All layers".to_owned(), |layer| format!("Layer {}", layer + 1));
        ComboBox::from_id_salt("layer of words")
            .width(CHOICE_WIDTH)
            .icon(drop_down)
            .selected_text(name(inspect.word_layer.filter(|&layer| layer < layers)))
            .show_ui(ui, |ui| {
                for layer in std::iter::once(None).chain((0..layers).map(Some)) {
                    ui.selectable_value(&mut inspect.word_layer, layer, name(layer));
                }
            })
            .response
            .accessible_name("Layer of the words")
            .on_hover_text("Whose cross-attention the words show: that of one layer, or the mean over all");
    }
}

struct Chip<'a> {
    text: &'a str,
    index: usize,
    kept: bool,
    maps: Option<&'a WordMaps>,
    /// The largest mean share of all words.
    most: f64,
}

impl Chip<'_> {
    fn show(&self, ui: &mut Ui) -> Response {
        let palette = Palette::of(ui);
        let word = self.maps.and_then(|maps| maps.words.get(self.index));
        let is_read = word.is_none_or(|word| word.fate == Fate::Read);
        let color = if is_read { palette.text } else { palette.text_dim };
        let galley = ui.painter().layout_no_wrap(self.text.to_owned(), FontId::proportional(13.0), color);
        let size = vec2((galley.size().x + 14.0).min(ui.max_rect().width()), CHIP_HEIGHT);
        let (rect, response) = ui.allocate_exact_size(size, Sense::click());
        response.widget_info(|| WidgetInfo::selected(Role::Button, ui.is_enabled(), self.kept, format!("Word: {}", self.text)));
        if ui.is_rect_visible(rect) {
            self.paint(ui, rect, galley, &response, is_read);
        }
        response.on_hover_ui(|ui| {
            ui.label(theme::strong(self.text));
            ui.label(self.tip());
        })
    }

    fn paint(&self, ui: &Ui, rect: Rect, galley: Arc<Galley>, response: &Response, is_read: bool) {
        let palette = Palette::of(ui);
        let painter = ui.painter().with_clip_rect(rect.intersect(ui.clip_rect()));
        let fill = if self.kept {
            palette.accent_tint
        } else if response.hovered() || response.has_focus() {
            palette.control_hovered
        } else {
            palette.control
        };
        painter.rect_filled(rect, CornerRadius::same(theme::RADIUS_SMALL), fill);
        let middle = rect.center() - vec2(0.0, BAR_HEIGHT / 2.0);
        let text = Align2::CENTER_CENTER.anchor_size(middle, galley.size());
        painter.galley(text.min, galley, palette.text);
        if !is_read {
            painter.hline(text.x_range(), middle.y + 1.0, Stroke::new(1.0, palette.text_dim));
        }
        if let Some(maps) = self.maps.filter(|maps| self.most > 0.0 && self.index < maps.words.len()) {
            let share = (maps.mean(self.index) / self.most) as f32;
            let track = rect.shrink2(vec2(7.0, 0.0));
            let bar = Rect::from_min_size(
                pos2(track.left(), rect.bottom() - BAR_HEIGHT - 1.5),
                vec2(track.width() * share, BAR_HEIGHT),
            );
            painter.rect_filled(bar, CornerRadius::same(1), palette.accent);
        }
        if response.has_focus() {
            icons::focus_ring(&painter, rect, palette);
        }
    }

    /// What the pointer is told about the word.
    fn tip(&self) -> String {
        let Some((maps, word)) = self.maps.and_then(|maps| Some((maps, maps.words.get(self.index)?))) else {
            return "Where the clip sees this word. Click to keep it.".to_owned();
        };
        match word.fate {
            Fate::Cut => "The model does not read as far as this word.".to_owned(),
            Fate::Cleaned => {
                "It is taken out when the caption is cleaned, as it was in training: the model never sees it.".to_owned()
            }
            Fate::Read => {
                let share = maps.mean(self.index) * 100.0;
                let tokens = count(word.tokens.len(), "token");
                format!("{share:.2} % of what the clip reads from the text, in {tokens}. Click to keep it.")
            }
        }
    }
}
