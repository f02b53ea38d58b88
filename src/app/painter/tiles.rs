//! One layer in large: a tile for each pair of latent frames, painted with the pointer or by keys, and a head for each frame.

use eframe::egui::{
    Align2, Color32, ColorImage, CornerRadius, EventFilter, FontId, Key, Modifiers, Pos2, Rect, Response, Role, Sense, Stroke,
    StrokeKind, TextureHandle, TextureOptions, Ui, Vec2, WidgetInfo, pos2, vec2,
};

use super::painted::{PaintedPlan, Refusal};
use crate::app::icons;
use crate::app::theme::{self, Palette};

/// Room for the numbers of the frames, above and on the left.
const HEAD: f32 = 24.0;
/// A name takes this much beside them.
const NAME: f32 = 16.0;
/// Up to so many latent frames each tile has a gap to the next.
const MOST_FRAMES_WITH_GAPS: usize = 48;
/// Numbers stand at least this far apart.
const LEAST_NUMBER_DISTANCE: f32 = 17.0;

/// Query frame and key frame, counted from 0.
type Tile = [usize; 2];

#[derive(Default)]
pub struct Tiles {
    /// Where the keys are.
    cursor: Tile,
    /// What the pointer paints, and the tile that it was on last.
    stroke: Option<(bool, Tile)>,
    /// With the revision and the layer that it shows.
    texture: Option<(u64, usize, bool, TextureHandle)>,
}

impl Tiles {
    /// Paints one layer into a square of `side` points and changes it; tells what was refused, or nothing if something was done.
    pub fn show(&mut self, ui: &mut Ui, side: f32, painted: &mut PaintedPlan, layer: usize) -> Option<Result<(), Refusal>> {
        let frames = painted.plan().frames();
        let (all, _) = ui.allocate_exact_size(Vec2::splat(side), Sense::hover());
        let rect = Rect::from_min_max(all.min + Vec2::splat(HEAD + NAME), all.max);
        let response = ui.interact(rect, ui.scope_id().with("tiles"), Sense::click_and_drag());
        let cell = rect.width() / frames as f32;
        let tile_at = |place: Pos2| -> Tile {
            let within = (place - rect.min) / cell;
            [within.y, within.x].map(|at| (at.max(0.0) as usize).min(frames - 1))
        };
        self.cursor = self.cursor.map(|at| at.min(frames - 1));

        let mut done = self.by_pointer(ui, &response, tile_at, painted, layer);
        done = self.by_keys(ui, &response, painted, layer).or(done);
        done = heads(ui, rect, painted, layer).or(done);

        let words = |[query, key]: Tile| {
            let does = if painted.plan().layers()[layer].mask().keeps(query, key) { "computed" } else { "skipped" };
            format!("Latent frame {} looks at latent frame {}: {does}", query + 1, key + 1)
        };
        response.widget_info(|| WidgetInfo::labeled(Role::Image, ui.is_enabled(), format!("Tiles of layer {}", layer + 1)));
        let value = words(self.cursor);
        ui.ctx().accesskit_node_builder(response.id, |node| node.set_value(value));

        self.paint(ui, rect, painted, layer);
        names(ui, all, rect);
        let outline = |[query, key]: Tile, stroke: Stroke| {
            let corner = rect.min + vec2(key as f32, query as f32) * cell;
            ui.painter().rect_stroke(Rect::from_min_size(corner, Vec2::splat(cell)), 1.0, stroke, StrokeKind::Inside);
        };
        let palette = Palette::of(ui);
        if response.has_focus() {
            icons::focus_ring(ui.painter(), rect.expand(3.0), palette);
            outline(self.cursor, Stroke::new(2.0, palette.text_strong));
        }
        if let Some(place) = response.hover_pos().filter(|place| rect.contains(*place)) {
            let hovered = tile_at(place);
            outline(hovered, Stroke::new(1.5, palette.text_strong));
            if self.stroke.is_none() {
                response.on_hover_text_at_pointer(words(hovered));
            }
        }
        done
    }

    /// A click or a drag: the first tile says whether tiles are skipped or computed.
    fn by_pointer(
        &mut self,
        ui: &Ui,
        response: &Response,
        tile_at: impl Fn(Pos2) -> Tile,
        painted: &mut PaintedPlan,
        layer: usize,
    ) -> Option<Result<(), Refusal>> {
        let holds = response.is_pointer_button_down_on();
        let Some(place) = response.interact_pointer_pos().filter(|_| holds) else {
            if self.stroke.take().is_some() {
                painted.end_stroke();
            }
            return None;
        };
        let here = tile_at(place);
        let (kept, from) = match self.stroke {
            Some(stroke) => stroke,
            None => {
                response.request_focus();
                // Where it was pressed: the pointer may have moved on since.
                let origin = ui.input(|input| input.pointer.press_origin()).map_or(here, &tile_at);
                painted.begin_stroke();
                (!painted.plan().layers()[layer].mask().keeps(origin[0], origin[1]), origin)
            }
        };
        let is_first = self.stroke.is_none();
        self.stroke = Some((kept, here));
        self.cursor = here;
        if !is_first && from == here {
            return None;
        }
        // A tile that is refused must not hide that the others were done, nor be hidden by them.
        line(from, here).into_iter().map(|[query, key]| painted.set_tile(layer, query, key, kept)).reduce(Result::and)
    }

    /// Arrows move the cursor, Space changes its tile, R makes its key frame a reference frame or another one.
    fn by_keys(&mut self, ui: &Ui, response: &Response, painted: &mut PaintedPlan, layer: usize) -> Option<Result<(), Refusal>> {
        if !response.has_focus() {
            return None;
        }
        let arrows = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, arrows));
        let last = painted.plan().frames() - 1;
        let pressed = |key| ui.input_mut(|input| input.consume_key(Modifiers::NONE, key));
        let moves = [(Key::ArrowUp, 0, -1), (Key::ArrowDown, 0, 1), (Key::ArrowLeft, 1, -1), (Key::ArrowRight, 1, 1)];
        for (arrow, side, by) in moves {
            if pressed(arrow) {
                self.cursor[side] = self.cursor[side].saturating_add_signed(by).min(last);
            }
        }
        let [query, key] = self.cursor;
        if pressed(Key::Space) || pressed(Key::Enter) {
            let kept = painted.plan().layers()[layer].mask().keeps(query, key);
            return Some(painted.set_tile(layer, query, key, !kept));
        }
        pressed(Key::R).then(|| painted.toggle_reference(layer, key))
    }

    fn paint(&mut self, ui: &Ui, rect: Rect, painted: &PaintedPlan, layer: usize) {
        let (palette, dark) = (Palette::of(ui), ui.visuals().dark_mode);
        let frames = painted.plan().frames();
        let now = (painted.revision(), layer, dark);
        if self.texture.as_ref().is_none_or(|(revision, of, of_dark, _)| (*revision, *of, *of_dark) != now) {
            let tiles = painted.plan().layers()[layer].mask().rows().flatten();
            let pixels = tiles.map(|&kept| if kept { palette.accent_fill } else { palette.control }).collect();
            let image = ColorImage::new([frames, frames], pixels);
            let texture = ui.ctx().load_texture("painted layer", image, TextureOptions::NEAREST);
            self.texture = Some((now.0, now.1, now.2, texture));
        }
        if let Some((.., texture)) = &self.texture {
            let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
            ui.painter().image(texture.id(), rect, whole, Color32::WHITE);
        }
        if frames <= MOST_FRAMES_WITH_GAPS {
            let gap = Stroke::new(if frames <= 16 { 2.0 } else { 1.0 }, palette.raised);
            for line in 1..frames {
                let along = rect.width() * line as f32 / frames as f32;
                ui.painter().vline(rect.left() + along, rect.y_range(), gap);
                ui.painter().hline(rect.x_range(), rect.top() + along, gap);
            }
        }
    }
}

/// The heads of columns and rows; a click makes a frame a reference frame, or one like the others.
fn heads(ui: &Ui, rect: Rect, painted: &mut PaintedPlan, layer: usize) -> Option<Result<(), Refusal>> {
    let palette = Palette::of(ui);
    let frames = painted.plan().frames();
    let cell = rect.width() / frames as f32;
    let every = (LEAST_NUMBER_DISTANCE / cell).ceil().max(1.0) as usize;
    let is_full = painted.plan().layers()[layer].mask().is_full();
    let mut toggled = None;
    for frame in 0..frames {
        let is_reference = painted.is_reference(layer, frame);
        let from = frame as f32 * cell;
        let column = Rect::from_min_size(pos2(rect.left() + from, rect.top() - HEAD), vec2(cell, HEAD - 2.0));
        let row = Rect::from_min_size(pos2(rect.left() - HEAD, rect.top() + from), vec2(HEAD - 2.0, cell));
        for (place, of) in [(column, "column"), (row, "row")] {
            // Tab would stop at every frame; the tiles have a key for this.
            let head = ui.interact(place, ui.scope_id().with((of, frame)), Sense::CLICK);
            let name = format!("Reference frame {}, {of}", frame + 1);
            head.widget_info(|| WidgetInfo::selected(Role::Button, ui.is_enabled(), is_reference, &name));
            let (fill, color) = match (head.hovered(), is_reference && !is_full) {
                (true, _) => (palette.control_hovered, palette.text_strong),
                (false, true) => (palette.accent_tint, palette.accent),
                (false, false) => (Color32::TRANSPARENT, palette.text_dim),
            };
            ui.painter().rect_filled(place.shrink(1.0), CornerRadius::same(theme::RADIUS_SMALL), fill);
            if frame % every == 0 {
                let (number, font) = ((frame + 1).to_string(), FontId::proportional(11.5));
                ui.painter().text(place.center(), Align2::CENTER_CENTER, number, font, color);
            }
            if head.clicked() {
                toggled = Some(frame);
            }
            let tip = if is_reference { "sees all frames and is seen by all" } else { "is no reference frame" };
            head.on_hover_text(format!("Latent frame {} {tip}; a click changes that (R)", frame + 1));
        }
    }
    toggled.map(|frame| painted.toggle_reference(layer, frame))
}

/// What rows and columns are.
fn names(ui: &Ui, all: Rect, rect: Rect) {
    let (painter, color) = (ui.painter(), Palette::of(ui).text_dim);
    let font = FontId::proportional(11.5);
    painter.text(pos2(rect.left(), all.top()), Align2::LEFT_TOP, "is looked at", font.clone(), color);
    let galley = painter.layout_no_wrap("looks".to_owned(), font, color);
    // Upwards, beginning at the foot of its place.
    let place = pos2(all.left(), rect.top() + galley.size().x);
    let text = eframe::egui::epaint::TextShape::new(place, galley, color).with_angle(-std::f32::consts::FRAC_PI_2);
    painter.add(text);
}

/// The tiles from one to the other, both included, as a fast pointer leaves some out.
fn line(from: Tile, to: Tile) -> Vec<Tile> {
    let steps = from[0].abs_diff(to[0]).max(from[1].abs_diff(to[1]));
    let between = |step: usize, side: usize| {
        let share = step as f32 / steps.max(1) as f32;
        (from[side] as f32 + share * (to[side] as f32 - from[side] as f32)).round() as usize
    };
    (0..=steps).map(|step| [between(step, 0), between(step, 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_pointer_leaves_no_tile_out() {
        assert_eq!(line([2, 2], [2, 2]), [[2, 2]]);
        assert_eq!(line([0, 3], [0, 0]), [[0, 3], [0, 2], [0, 1], [0, 0]]);
        assert_eq!(line([1, 1], [3, 5]), [[1, 1], [2, 2], [2, 3], [3, 4], [3, 5]]);
    }
}
