//! All layers and steps at a glance: a cell for each, to choose from.

use std::sync::Arc;

use eframe::egui::{
    self, Align2, Color32, ColorImage, FontId, Key, Pos2, Rect, Response, Role, Sense, Stroke, StrokeKind, TextureHandle,
    TextureOptions, Ui, WidgetInfo, pos2, vec2,
};

use super::percent;
use crate::app::segments;
use crate::app::theme::Palette;
use crate::generate::attention_record::{AttentionRecord, viridis};

const LARGEST_CELL: f32 = 48.0;
const TALLEST_CELL: f32 = 16.0;
const LEAST_CELL: f32 = 2.0;
const MOST_HEIGHT: f32 = 240.0;
/// Room for the first and last number of layers on the left, and of steps below.
const MARGIN: f32 = 22.0;

/// What a cell's colour says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Measure {
    /// The mass on tiles that the plan skips.
    #[default]
    LeftOut,
    /// The mass on the diagonal: how much a frame looks at itself.
    OwnFrame,
}

impl Measure {
    const ALL: [(Self, &'static str, &'static str); 2] = [
        (Self::LeftOut, "Left out", "The share of the mass that lies on tiles which the plan skips"),
        (Self::OwnFrame, "Own frame", "The share of the mass that frames put on themselves"),
    ];

    fn words(self, value: f32) -> String {
        match self {
            Self::LeftOut => format!("{} of the mass lie on skipped tiles", percent(value)),
            Self::OwnFrame => format!("{} of the mass stay in the frame", percent(value)),
        }
    }
}

/// Both measures of every layer of a step, computed once.
struct Column {
    record: Arc<AttentionRecord>,
    values: Vec<[f32; 2]>,
}

#[derive(Default)]
pub struct Overview {
    measure: Measure,
    columns: Vec<Option<Column>>,
    /// With what it shows.
    texture: Option<(Measure, bool, TextureHandle)>,
}

impl Overview {
    /// `shown` is the layer and the step that are looked at; gives another choice.
    pub fn show(&mut self, ui: &mut Ui, records: &[Option<Arc<AttentionRecord>>], shown: [usize; 2]) -> Option<[usize; 2]> {
        self.follow(records);
        segments::show(ui, &mut self.measure, &Measure::ALL);
        let (layers, steps) = (records.iter().flatten().map(|record| record.layers()).max()?, records.len());
        let width = ui.available_width() - MARGIN;
        let size = vec2(
            (LARGEST_CELL * steps as f32).min(width),
            (MOST_HEIGHT / layers as f32).clamp(LEAST_CELL, TALLEST_CELL) * layers as f32,
        );
        let (all, response) = ui.allocate_exact_size(size + vec2(MARGIN, 16.0), Sense::click());
        let rect = Rect::from_min_size(all.min + vec2(MARGIN, 0.0), size);
        let cell = size / vec2(steps as f32, layers as f32);
        let at = |place: Pos2| {
            let within = (place - rect.min) / cell;
            rect.contains(place).then(|| [(within.y as usize).min(layers - 1), (within.x as usize).min(steps - 1)])
        };
        let is_there = |[_, step]: &[usize; 2]| records[*step].is_some();
        let mut chosen = response.clicked().then(|| response.interact_pointer_pos()).flatten().and_then(at).filter(is_there);
        if response.clicked() {
            response.request_focus();
        }
        chosen = chosen.or_else(|| by_keys(ui, &response, [layers, steps], shown).filter(is_there));
        response.widget_info(|| {
            let words = self.words(shown).unwrap_or_default();
            WidgetInfo::labeled(Role::Image, true, format!("Layers by steps. {words}"))
        });
        self.paint(ui, rect, layers);
        paint_numbers(ui, rect, [layers, steps]);
        let outline = |[layer, step]: [usize; 2], stroke: Stroke| {
            let min = rect.min + vec2(step as f32, layer as f32) * cell;
            ui.painter().rect_stroke(Rect::from_min_size(min, cell), 0.0, stroke, StrokeKind::Middle);
        };
        outline(shown, Stroke::new(3.0, Color32::from_black_alpha(140)));
        outline(shown, Stroke::new(1.5, Color32::WHITE));
        if response.has_focus() {
            let ring = Stroke::new(2.0, Palette::of(ui).accent);
            ui.painter().rect_stroke(rect.expand(1.0), 0.0, ring, StrokeKind::Outside);
        }
        if let Some(hovered) = response.hover_pos().and_then(at) {
            let words = self.words(hovered).unwrap_or_else(|| format!("Step {} has no record", hovered[1] + 1));
            response.on_hover_text_at_pointer(words);
        }
        chosen
    }

    /// Takes over records that are new.
    fn follow(&mut self, records: &[Option<Arc<AttentionRecord>>]) {
        let is_known = |(column, record): (&Option<Column>, &Option<Arc<AttentionRecord>>)| match (column, record) {
            (Some(column), Some(record)) => Arc::ptr_eq(&column.record, record),
            (None, None) => true,
            _ => false,
        };
        if self.columns.len() == records.len() && self.columns.iter().zip(records).all(is_known) {
            return;
        }
        self.texture = None;
        let mut before = std::mem::take(&mut self.columns);
        before.resize_with(records.len(), || None);
        let columns = records.iter().zip(before).map(|(record, before)| {
            let record = record.as_ref()?;
            let same = before.filter(|before| Arc::ptr_eq(&before.record, record));
            Some(same.unwrap_or_else(|| Column { record: record.clone(), values: measures(record) }))
        });
        self.columns = columns.collect();
    }

    fn value(&self, [layer, step]: [usize; 2]) -> Option<f32> {
        let values = self.columns.get(step)?.as_ref()?.values.get(layer)?;
        Some(values[self.measure as usize])
    }

    fn words(&self, place: [usize; 2]) -> Option<String> {
        let value = self.value(place)?;
        Some(format!("Layer {}, step {}: {}", place[0] + 1, place[1] + 1, self.measure.words(value)))
    }

    fn paint(&mut self, ui: &Ui, rect: Rect, layers: usize) {
        let dark = ui.visuals().dark_mode;
        if self.texture.as_ref().is_none_or(|(measure, of_dark, _)| (*measure, *of_dark) != (self.measure, dark)) {
            let image = self.image(layers, Palette::of(ui).control);
            let texture = ui.ctx().load_texture("attention overview", image, TextureOptions::NEAREST);
            self.texture = Some((self.measure, dark, texture));
        }
        if let Some((.., texture)) = &self.texture {
            ui.painter().image(texture.id(), rect, Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0)), Color32::WHITE);
        }
    }

    /// A pixel a cell, from 0 to the largest value of all.
    fn image(&self, layers: usize, absent: Color32) -> ColorImage {
        let steps = self.columns.len();
        let places = (0..layers).flat_map(|layer| (0..steps).map(move |step| [layer, step]));
        let values: Vec<Option<f32>> = places.map(|place| self.value(place)).collect();
        let largest = values.iter().flatten().copied().fold(f32::MIN_POSITIVE, f32::max);
        let colour = |value: &Option<f32>| {
            let [red, green, blue] = viridis((*value)? / largest);
            Some(Color32::from_rgb(red, green, blue))
        };
        ColorImage::new([steps, layers], values.iter().map(|value| colour(value).unwrap_or(absent)).collect())
    }
}

/// The first and the last layer and step.
fn paint_numbers(ui: &Ui, rect: Rect, [layers, steps]: [usize; 2]) {
    let (font, color) = (FontId::proportional(10.5), Palette::of(ui).text_dim);
    let text = |place: Pos2, align: Align2, text: String| ui.painter().text(place, align, text, font.clone(), color);
    text(rect.left_top() - vec2(5.0, 0.0), Align2::RIGHT_TOP, "1".into());
    if layers > 1 {
        text(rect.left_bottom() - vec2(5.0, 0.0), Align2::RIGHT_BOTTOM, layers.to_string());
    }
    text(rect.left_bottom() + vec2(0.0, 2.0), Align2::LEFT_TOP, "Step 1".into());
    if steps > 1 {
        text(rect.right_bottom() + vec2(0.0, 2.0), Align2::RIGHT_TOP, steps.to_string());
    }
}

/// Both measures of each layer, over all heads.
fn measures(record: &AttentionRecord) -> Vec<[f32; 2]> {
    let of_layer = |layer: usize| {
        let mass = record.mass(layer, None);
        let own = (0..mass.frames()).map(|frame| mass.at(frame, frame)).sum::<f32>() / mass.frames() as f32;
        [(1.0 - record.kept_share(layer, None)).max(0.0), own]
    };
    (0..record.layers()).map(of_layer).collect()
}

/// The arrow keys go to the next layer or step.
fn by_keys(ui: &Ui, response: &Response, [layers, steps]: [usize; 2], [layer, step]: [usize; 2]) -> Option<[usize; 2]> {
    if !response.has_focus() {
        return None;
    }
    let filter = egui::EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
    ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
    let pressed = |key| ui.input_mut(|input| input.consume_key(egui::Modifiers::NONE, key));
    if pressed(Key::ArrowUp) {
        return Some([layer.saturating_sub(1), step]);
    }
    if pressed(Key::ArrowDown) {
        return Some([(layer + 1).min(layers - 1), step]);
    }
    if pressed(Key::ArrowLeft) {
        return Some([layer, step.saturating_sub(1)]);
    }
    pressed(Key::ArrowRight).then_some([layer, (step + 1).min(steps - 1)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::attention_record::Recording;
    use crate::mask::MaskPlan;

    #[test]
    fn cells_show_their_layer_and_step() {
        // Frame 1 of 4 is skipped by frame 2, and gets a quarter from everyone.
        let plan = Arc::new(MaskPlan::uniform(2, 4, "1:3").unwrap());
        let record = AttentionRecord::new(0, Recording::Exact, plan.clone(), 1, &[0.25; 32], &[0.0; 32]);
        let skipped = 1.0 - plan.layers()[0].mask().density() as f32;
        let mut overview = Overview::default();
        overview.follow(&[None, Some(Arc::new(record))]);
        assert!((overview.value([1, 1]).unwrap() - skipped).abs() < 1e-6);
        assert_eq!(overview.value([1, 0]), None);
        assert!(overview.words([0, 1]).unwrap().starts_with("Layer 1, step 2: "));
        let image = overview.image(2, Color32::RED);
        assert_eq!((image.size, image.pixels[0]), ([2, 2], Color32::RED));
        overview.measure = Measure::OwnFrame;
        assert_eq!(overview.value([0, 1]), Some(0.25));
    }
}
