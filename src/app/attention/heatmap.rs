//! The map of a layer's tiles: colours for masses, lines for what the plan leaves out, marks for its reference frames.

use std::sync::Arc;

use eframe::egui::{
    self, Align2, Color32, ColorImage, FontId, Key, Painter, Pos2, Rect, Response, Role, Sense, Shape, Stroke, StrokeKind,
    TextureHandle, TextureOptions, Ui, Vec2, WidgetInfo, pos2, vec2,
};

use super::scale::ScaleChoice;
use super::{Place, percent, words};
use crate::app::theme::{self, Palette};
use crate::generate::attention_record::{AttentionRecord, TileMap, TileState, viridis};
use crate::mask::Layout;

/// Room for the numbers of frames, left of and above the map.
const MARGIN: f32 = 22.0;
const LARGEST: f32 = 420.0;
const BAR_HEIGHT: f32 = 8.0;
/// Numbers of frames closer than this would run into each other.
const NUMBER_GAP: f32 = 15.0;

/// What the texture shows; another wish means another upload.
#[derive(Clone)]
struct Painted {
    record: Arc<AttentionRecord>,
    place: Place,
    scale: ScaleChoice,
}

#[derive(Default)]
pub struct Heatmap {
    painted: Option<(Painted, TextureHandle)>,
    bar: Option<TextureHandle>,
}

impl Heatmap {
    /// Gives the tile under the pointer; a click or the arrow keys choose one that stays.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        record: &Arc<AttentionRecord>,
        place: Place,
        scale: ScaleChoice,
        chosen: &mut Option<[usize; 2]>,
    ) -> Option<[usize; 2]> {
        let mass = record.mass(place.layer, place.head);
        let frames = mass.frames();
        let side = (ui.available_width() - MARGIN).min(LARGEST);
        let (all, response) = ui.allocate_exact_size(vec2(side + MARGIN, side + MARGIN), Sense::click());
        let map = Rect::from_min_size(all.min + Vec2::splat(MARGIN), Vec2::splat(side));
        let tile_at = |at: Pos2| {
            let within = (at - map.min) / side * frames as f32;
            map.contains(at).then(|| [within.y, within.x].map(|frame| (frame as usize).min(frames - 1)))
        };
        let hovered = response.hover_pos().and_then(tile_at);
        if response.clicked() {
            let clicked = response.interact_pointer_pos().and_then(tile_at);
            *chosen = if *chosen == clicked { None } else { clicked };
            response.request_focus();
        }
        by_keys(ui, &response, frames, chosen);
        response.widget_info(|| {
            let head = place.head.map_or(format!("mean of {} heads", record.heads()), |head| format!("head {}", head + 1));
            let what = format!("Attention of layer {}, {head}, {frames} by {frames} tiles", place.layer + 1);
            let tile = chosen.filter(|tile| tile.iter().all(|&frame| frame < frames));
            let tile = tile.map_or(String::new(), |tile| format!(". {}", words(record, place, tile)));
            WidgetInfo::labeled(Role::Image, true, what + &tile)
        });

        if ui.is_rect_visible(all) {
            let painter = ui.painter_at(all.expand(2.0));
            self.paint_map(ui, map, record, &mass, place, scale);
            paint_plan(&painter, map, record, place, &mass, scale);
            paint_numbers(ui, &painter, map, record, place);
            let outline = |tile: [usize; 2], color| {
                let cell = cell(map, frames, tile);
                painter.rect_stroke(cell, 0.0, Stroke::new(3.0, Color32::from_black_alpha(140)), StrokeKind::Middle);
                painter.rect_stroke(cell, 0.0, Stroke::new(1.5, color), StrokeKind::Middle);
            };
            chosen
                .filter(|tile| tile.iter().all(|&frame| frame < frames))
                .into_iter()
                .for_each(|tile| outline(tile, Color32::WHITE));
            hovered.into_iter().for_each(|tile| outline(tile, Color32::WHITE));
            if response.has_focus() {
                let ring = Stroke::new(2.0, Palette::of(ui).accent);
                painter.rect_stroke(map.expand(1.0), 0.0, ring, StrokeKind::Outside);
            }
        }
        self.legend(ui, side, &mass, scale);
        hovered
    }

    fn paint_map(&mut self, ui: &Ui, map: Rect, record: &Arc<AttentionRecord>, mass: &TileMap, place: Place, scale: ScaleChoice) {
        let is_painted = self
            .painted
            .as_ref()
            .is_some_and(|(painted, _)| Arc::ptr_eq(&painted.record, record) && painted.place == place && painted.scale == scale);
        if !is_painted {
            let texture = ui.ctx().load_texture("attention", image(mass, scale), TextureOptions::NEAREST);
            self.painted = Some((Painted { record: record.clone(), place, scale }, texture));
        }
        if let Some((_, texture)) = &self.painted {
            ui.painter().image(texture.id(), map, Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0)), Color32::WHITE);
        }
    }

    /// The colours with their numbers, and what the lines mean.
    fn legend(&mut self, ui: &mut Ui, side: f32, mass: &TileMap, scale: ScaleChoice) {
        let palette = Palette::of(ui);
        let bar = self.bar.get_or_insert_with(|| {
            let pixels = (0..256).map(|at| colour(at as f32 / 255.0)).collect();
            ui.ctx().load_texture("attention scale", ColorImage::new([256, 1], pixels), TextureOptions::LINEAR)
        });
        let (all, response) = ui.allocate_exact_size(vec2(side + MARGIN, BAR_HEIGHT + 16.0), Sense::hover());
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, "Scale of the colours"));
        let place = Rect::from_min_size(all.min + vec2(MARGIN, 0.0), vec2(side, BAR_HEIGHT));
        ui.painter().image(bar.id(), place, Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0)), Color32::WHITE);
        let marks = scale.marks();
        for (index, at) in marks.iter().enumerate() {
            let align = match index {
                0 => Align2::LEFT_TOP,
                last if last + 1 == marks.len() => Align2::RIGHT_TOP,
                _ => Align2::CENTER_TOP,
            };
            let foot = pos2(place.left() + at * place.width(), place.bottom() + 2.0);
            ui.painter().text(
                foot,
                align,
                percent(scale.up_to(mass.largest()).mass(*at)),
                FontId::proportional(10.5),
                palette.text_dim,
            );
        }
    }
}

fn colour(place: f32) -> Color32 {
    let [red, green, blue] = viridis(place);
    Color32::from_rgb(red, green, blue)
}

fn image(mass: &TileMap, scale: ScaleChoice) -> ColorImage {
    let scale = scale.up_to(mass.largest());
    let pixels = mass.values().iter().map(|&value| colour(scale.place(value))).collect();
    ColorImage::new([mass.frames(); 2], pixels)
}

fn cell(map: Rect, frames: usize, [query, key]: [usize; 2]) -> Rect {
    let side = map.width() / frames as f32;
    Rect::from_min_size(map.min + vec2(key as f32, query as f32) * side, Vec2::splat(side))
}

/// A stroke through every tile that the plan skips, light on dark colours and dark on light ones.
fn paint_plan(painter: &Painter, map: Rect, record: &AttentionRecord, place: Place, mass: &TileMap, scale: ScaleChoice) {
    let frames = record.frames();
    let scale = scale.up_to(mass.largest());
    let states = record.states(place.layer);
    let skipped = states.iter().zip(mass.values()).enumerate().filter(|(_, (state, _))| **state == TileState::Skipped);
    painter.extend(skipped.map(|(tile, (_, &mass))| {
        let is_light = scale.place(mass) > 0.6;
        let color = if is_light { Color32::from_black_alpha(170) } else { Color32::from_white_alpha(110) };
        let inner = cell(map, frames, [tile / frames, tile % frames]).shrink(map.width() / frames as f32 * 0.22);
        Shape::line_segment([inner.left_bottom(), inner.right_top()], Stroke::new(1.0, color))
    }));
}

/// Numbers of the frames: key frames above, query frames on the left; those of reference frames stand out.
fn paint_numbers(ui: &Ui, painter: &Painter, map: Rect, record: &AttentionRecord, place: Place) {
    let palette = Palette::of(ui);
    let frames = record.frames();
    let side = map.width() / frames as f32;
    let every = (NUMBER_GAP / side).ceil() as usize;
    let layer = record.layer(place.layer);
    let references = if *layer.layout() == Layout::Full { Vec::new() } else { layer.reference_frames() };
    for frame in 0..frames {
        let is_reference = references.contains(&frame);
        if !frame.is_multiple_of(every) && !is_reference {
            continue;
        }
        let color = if is_reference { palette.accent } else { palette.text_dim };
        let middle = (frame as f32 + 0.5) * side;
        let font = if is_reference { FontId::new(11.0, theme::strong_family()) } else { FontId::proportional(10.5) };
        let number = (frame + 1).to_string();
        painter.text(map.left_top() + vec2(middle, -3.0), Align2::CENTER_BOTTOM, &number, font.clone(), color);
        painter.text(map.left_top() + vec2(-5.0, middle), Align2::RIGHT_CENTER, &number, font, color);
    }
}

/// The arrow keys move the chosen tile.
fn by_keys(ui: &Ui, response: &Response, frames: usize, chosen: &mut Option<[usize; 2]>) {
    if !response.has_focus() {
        return;
    }
    let filter = egui::EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
    ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
    let moves = [(Key::ArrowUp, [-1, 0]), (Key::ArrowDown, [1, 0]), (Key::ArrowLeft, [0, -1]), (Key::ArrowRight, [0, 1])];
    for (key, by) in moves {
        let times = ui.input_mut(|input| input.count_and_consume_key(egui::Modifiers::NONE, key));
        if times == 0 {
            continue;
        }
        let from = chosen.unwrap_or([0, 0]);
        let step = |frame: usize, by: isize| frame.saturating_add_signed(by * times as isize).min(frames - 1);
        *chosen = Some([step(from[0], by[0]), step(from[1], by[1])]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_has_the_colour_of_its_mass() {
        let mass = TileMap::new(2, vec![0.0, 0.5, 0.25, 0.5]);
        let image = image(&mass, ScaleChoice::Linear);
        assert_eq!(image.size, [2, 2]);
        assert_eq!(image.pixels, [colour(0.0), colour(1.0), colour(0.5), colour(1.0)]);
    }

    #[test]
    fn rows_are_query_frames() {
        let map = Rect::from_min_size(pos2(10.0, 20.0), Vec2::splat(80.0));
        assert_eq!(cell(map, 8, [2, 5]).min, pos2(60.0, 40.0));
    }
}
