//! Choosing a point in the picture, and what lies over the picture for it.

use eframe::egui::{
    Color32, CornerRadius, EventFilter, Key, Modifiers, Painter, Pos2, Rect, Response, Stroke, StrokeKind, Ui, pos2, vec2,
};

use super::Player;
use super::inspect::{Point, pixel_of, token_of};
use super::source::{Source, latent_frame};
use crate::app::icons;
use crate::app::theme::Palette;
use crate::model::latent::{PIXELS_A_TOKEN, TokenPlace};

impl Player {
    /// Heat, the chosen point, and the one under the pointer.
    pub(super) fn look_into(&mut self, ui: &Ui, painter: &Painter, image: Rect, response: &Response, source: &Source) {
        let frame = self.state.frame(source.frames);
        let share = |at: Pos2| vec2((at.x - image.left()) / image.width(), (at.y - image.top()) / image.height());
        let point_at = |at: Pos2| {
            let share = share(at);
            image.contains(at).then_some(Point { frame, x: share.x, y: share.y })
        };
        if response.clicked() && source.frames > 0 {
            let middle = Point { frame, x: 0.5, y: 0.5 };
            // A key has no place: it takes the point to the shown frame.
            let by_key = || Some(self.inspect.point.map_or(middle, |point| Point { frame, ..point }));
            let point = response.interact_pointer_pos().map_or_else(by_key, point_at);
            if point.is_some() {
                (self.inspect.point, self.inspect.kept_word) = (point, None);
            }
        }
        if response.has_focus() {
            self.move_point(ui, response, source, frame);
        }

        let latent = latent_frame(frame);
        self.inspect.heat.paint(painter, image, latent, self.inspect.opacity);
        let hovered = response.hover_pos().and_then(point_at);
        if let Some(token) = hovered.and_then(|point| token_of(source, point)) {
            let place = token_rect(image, source, token);
            painter.rect_stroke(place, CornerRadius::ZERO, Stroke::new(1.0, Color32::from_white_alpha(180)), StrokeKind::Outside);
        }
        if let Some(token) = self.inspect.point.and_then(|point| token_of(source, point)) {
            mark(painter, token_rect(image, source, token), token.frame == latent);
        }
        if response.has_focus() {
            icons::focus_ring(painter, image, Palette::of(ui));
        }
        if let (Some(point), Some(maps)) = (hovered, self.inspect.heat()) {
            let value = token_of(source, point).and_then(|token| maps.at(token)).unwrap_or_default();
            let (x, y) = pixel_of(source, point);
            let text = format!("{} %, in frame {} at {x}, {y}", percent(f64::from(value)), frame + 1);
            response.clone().on_hover_text_at_pointer(text);
        }
    }

    /// Arrows walk from token to token.
    fn move_point(&mut self, ui: &Ui, response: &Response, source: &Source, frame: usize) {
        let filter = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
        let (right, down) = ui.input_mut(|input| {
            let mut presses = |key| input.count_and_consume_key(Modifiers::NONE, key) as f32;
            (presses(Key::ArrowRight) - presses(Key::ArrowLeft), presses(Key::ArrowDown) - presses(Key::ArrowUp))
        });
        if (right, down) == (0.0, 0.0) || source.frames == 0 {
            return;
        }
        let before = self.inspect.point.unwrap_or(Point { frame, x: 0.5, y: 0.5 });
        let step = |pixels: usize| PIXELS_A_TOKEN as f32 / pixels.max(PIXELS_A_TOKEN) as f32;
        let moved = |share: f32, by: f32, pixels: usize| {
            let half = step(pixels) / 2.0;
            (share + by * step(pixels)).clamp(half, 1.0 - half)
        };
        let point = Point { frame, x: moved(before.x, right, source.width), y: moved(before.y, down, source.height) };
        self.inspect.point = Some(point);
    }
}

/// Where a token lies in the picture.
fn token_rect(image: Rect, source: &Source, token: TokenPlace) -> Rect {
    let pixel = vec2(image.width() / source.width.max(1) as f32, image.height() / source.height.max(1) as f32);
    let side = PIXELS_A_TOKEN as f32;
    let corner = image.min + vec2(token.x as f32, token.y as f32) * side * pixel;
    Rect::from_min_size(corner, pixel * side)
}

/// The chosen token: seen on any picture, and paler where another frame is shown than the one that it was chosen in.
fn mark(painter: &Painter, place: Rect, in_its_frame: bool) {
    let strength = if in_its_frame { 1.0 } else { 0.45 };
    let (dark, light) = (Color32::from_black_alpha(200), Color32::WHITE);
    let outline = |rect: Rect, width: f32, color: Color32| {
        painter.rect_stroke(rect, CornerRadius::same(2), Stroke::new(width, color.gamma_multiply(strength)), StrokeKind::Outside);
    };
    outline(place.expand(2.0), 1.5, dark);
    outline(place, 2.0, light);
    let center = place.center();
    for (from, to) in [
        (vec2(-9.0, 0.0), vec2(-4.0, 0.0)),
        (vec2(4.0, 0.0), vec2(9.0, 0.0)),
        (vec2(0.0, -9.0), vec2(0.0, -4.0)),
        (vec2(0.0, 4.0), vec2(0.0, 9.0)),
    ] {
        let reach = place.size() / 2.0;
        let line = [from, to].map(|at| {
            pos2(
                center.x + at.x + reach.x * at.x.signum() * f32::from(u8::from(at.x != 0.0)),
                center.y + at.y + reach.y * at.y.signum() * f32::from(u8::from(at.y != 0.0)),
            )
        });
        painter.line_segment(line, Stroke::new(2.0, light.gamma_multiply(strength)));
    }
}

/// A share as a person reads it, with the digits that tell.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        _ if percent >= 10.0 => format!("{percent:.1}"),
        _ if percent >= 0.095 => format!("{percent:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{percent:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_keep_the_digits_that_tell() {
        let text: Vec<String> = [1.0, 0.1234, 0.0567, 0.00095, 0.000_012, 0.0].into_iter().map(percent).collect();
        assert_eq!(text, ["100.0", "12.3", "5.67", "0.10", "0.0012", "0"]);
    }
}
