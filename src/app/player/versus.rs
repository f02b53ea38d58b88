//! Two clips in one picture, frame by frame and step by step: under a wipe, side by side, or what differs between them.

use eframe::egui::{
    Align2, Color32, CornerRadius, CursorIcon, EventFilter, FontId, Key, Painter, Pos2, Rect, Role, Sense, Stroke, Ui,
    WidgetInfo, pos2, vec2,
};

use super::picture::{around, paint};
use super::source::{Pictures, Source};
use super::{Player, PlayerEvent, ruler};
use crate::app::icons;
use crate::app::theme::{self, Palette};
use crate::clip::{Frames, difference};

/// Half of the width in which the wipe is caught.
const GRIP: f32 = 9.0;
const KNOB: f32 = 11.0;
/// What an arrow key moves the wipe by.
const KEY_STEP: f32 = 0.02;
/// Between two pictures side by side.
const GAP: f32 = 4.0;
/// How much stronger than it is a difference can be shown.
pub const GAINS: [u32; 5] = [1, 2, 4, 8, 16];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Wipe,
    SideBySide,
    Difference,
}

/// How two clips are shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    pub mode: Mode,
    /// Where the second clip begins, as a share of the picture's width.
    pub wipe: f32,
    pub gain: u32,
}

impl Default for View {
    fn default() -> Self {
        Self { mode: Mode::Wipe, wipe: 0.5, gain: 4 }
    }
}

impl View {
    /// The part of the player's place in which the first clip is fitted.
    pub(super) fn place_of_first(&self, place: Rect) -> Rect {
        match self.mode {
            Mode::SideBySide => place.with_max_x(place.center().x - GAP / 2.0),
            Mode::Wipe | Mode::Difference => place,
        }
    }
}

/// The clip that the player's own is compared with.
pub struct Versus<'a> {
    pub source: &'a Source,
    /// What stands on the two pictures.
    pub names: [String; 2],
}

/// Where things are.
pub(super) struct Places {
    pub whole: Rect,
    /// In which the first clip is fitted.
    pub first: Rect,
    /// The first clip's picture.
    pub image: Rect,
}

impl Player {
    pub(super) fn pair(
        &mut self,
        ui: &mut Ui,
        places: Places,
        source: &Source,
        other: &Versus<'_>,
        events: &mut Vec<PlayerEvent>,
    ) {
        let Places { whole, first, image } = places;
        let palette = Palette::of(ui);
        let painter = ui.painter().with_clip_rect(whole.intersect(ui.clip_rect()));
        let frame = self.state.frame(source.frames);
        let found = source.nearest(source.wanted(self.state.step, self.state.look));
        let step = self.state.step.map(|step| other_step(step, source, other.source));
        let wanted = other.source.wanted(step, self.state.look);
        let other_found = other.source.nearest(wanted);
        if other_found != Some(wanted) && other.source.frames > 0 {
            events.push(PlayerEvent::WantOther(wanted));
        }
        let [first_name, second_name] = &other.names;
        let inset = theme::SPACE_SMALL;
        match self.view.mode {
            Mode::Wipe => {
                around(&painter, whole, image, palette);
                let seen = image.intersect(whole);
                let x = seen.left() + self.view.wipe.clamp(0.0, 1.0) * seen.width();
                let textures = [(source, found), (other.source, other_found)];
                let [a, b] = textures.map(|(source, found)| self.texture(ui.ctx(), source, found, frame));
                paint(&painter.with_clip_rect(seen.with_max_x(x)), image, a, palette);
                paint(&painter.with_clip_rect(seen.with_min_x(x)), image, b, palette);
                let widest = seen.width() / 2.0 - 2.0 * inset;
                label(&painter, seen.left_top() + vec2(inset, inset), Align2::LEFT_TOP, first_name, widest, palette);
                label(&painter, seen.right_top() + vec2(-inset, inset), Align2::RIGHT_TOP, second_name, widest, palette);
                self.wipe_handle(ui, &painter, seen, palette);
            }
            Mode::SideBySide => {
                let by = vec2(first.width() + GAP, 0.0);
                let sides =
                    [(source, found, first, image), (other.source, other_found, first.translate(by), image.translate(by))];
                painter.rect_filled(
                    Rect::from_x_y_ranges(first.right()..=first.right() + GAP, whole.y_range()),
                    0,
                    palette.canvas,
                );
                for ((source, found, place, image), name) in sides.into_iter().zip(&other.names) {
                    let painter = painter.with_clip_rect(place.intersect(ui.clip_rect()));
                    around(&painter, place, image, palette);
                    let texture = self.texture(ui.ctx(), source, found, frame);
                    paint(&painter, image, texture, palette);
                    let seen = image.intersect(place);
                    let widest = seen.width() - 2.0 * inset;
                    label(&painter, seen.left_top() + vec2(inset, inset), Align2::LEFT_TOP, name, widest, palette);
                }
            }
            Mode::Difference => {
                around(&painter, whole, image, palette);
                let gain = self.view.gain;
                let texture = found.zip(other_found).and_then(|(a, b)| {
                    let make = || differing([(source, a), (other.source, b)], frame, gain).map(|frames| (frames, 0));
                    // Above all numbers of clips and runs.
                    let id = 1 << 63
                        | (source.id & 0xFFFF_FFFF) << 31
                        | (other.source.id & 0x03FF_FFFF) << 5
                        | u64::from(gain.min(31));
                    self.textures.get_made(ui.ctx(), id, a, frame, make)
                });
                paint(&painter, image, texture, palette);
                let seen = image.intersect(whole);
                let text = match texture {
                    Some(_) => format!("Difference × {gain}"),
                    None => "These two pictures have different sizes".to_owned(),
                };
                label(&painter, seen.left_top() + vec2(inset, inset), Align2::LEFT_TOP, &text, seen.width(), palette);
            }
        }
    }

    /// The line between the two, which the pointer and the arrow keys move.
    fn wipe_handle(&mut self, ui: &Ui, painter: &Painter, image: Rect, palette: &Palette) {
        let id = ui.scope_id().with("wipe");
        let x = image.left() + self.view.wipe * image.width();
        let place = Rect::from_x_y_ranges(x - GRIP..=x + GRIP, image.y_range());
        let response = ui.interact(place, id, Sense::click_and_drag());
        let filter = EventFilter { horizontal_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(id, filter));
        if response.clicked() || response.drag_started() {
            response.request_focus();
        }
        if response.dragged()
            && let Some(pointer) = response.interact_pointer_pos()
        {
            self.view.wipe = (pointer.x - image.left()) / image.width().max(1.0);
        }
        if response.has_focus() {
            let by = ui.input_mut(|input| {
                let mut presses = |key| input.count_and_consume_key(Default::default(), key) as f32;
                presses(Key::ArrowRight) - presses(Key::ArrowLeft)
            });
            self.view.wipe += by * KEY_STEP;
        }
        let percent = (self.view.wipe * 100.0).round() as usize;
        if let Some(asked) = ruler::asked_value(ui, id, percent) {
            self.view.wipe = asked as f32 / 100.0;
        }
        if response.double_clicked() {
            self.view.wipe = 0.5;
        }
        self.view.wipe = self.view.wipe.clamp(0.0, 1.0);
        response.widget_info(|| WidgetInfo::labeled(Role::Slider, ui.is_enabled(), "Wipe position"));
        let percent = (self.view.wipe * 100.0).round() as usize;
        ruler::describe(ui, id, percent, 0, 100, &format!("The first clip takes {percent} % of the width"));

        let x = image.left() + self.view.wipe * image.width();
        let lit = response.hovered() || response.dragged() || response.has_focus();
        let line = if lit { palette.accent } else { Color32::WHITE };
        painter.vline(x, image.y_range(), Stroke::new(4.0, Color32::from_black_alpha(110)));
        painter.vline(x, image.y_range(), Stroke::new(2.0, line));
        let center = pos2(x, image.center().y);
        painter.circle(center, KNOB, Color32::from_black_alpha(200), Stroke::new(2.0, line));
        let arrow = |direction: f32| {
            let tip = center + vec2(direction * 6.5, 0.0);
            let back = center.x + direction * 3.0;
            painter.line(vec![pos2(back, center.y - 3.5), tip, pos2(back, center.y + 3.5)], Stroke::new(1.5, Color32::WHITE));
        };
        arrow(-1.0);
        arrow(1.0);
        if response.has_focus() {
            icons::focus_ring(painter, Rect::from_center_size(center, vec2(KNOB, KNOB) * 2.0 + vec2(8.0, 8.0)), palette);
        }
        let tip = "Drag it, or move it with the arrow keys. Double-click for the middle.";
        let _ = response.on_hover_cursor(CursorIcon::ResizeHorizontal).on_hover_text(tip);
    }
}

/// The other clip's step at the same share of the way from noise.
fn other_step(step: usize, source: &Source, other: &Source) -> usize {
    ((step + 1) * other.calls).div_ceil(source.calls.max(1)).saturating_sub(1)
}

/// The difference of two pictures, if they have one size.
fn differing([a, b]: [(&Source, Pictures); 2], frame: usize, gain: u32) -> Option<Frames> {
    let picture = |(source, pictures): (&Source, Pictures)| {
        let frames = source.pictures(pictures)?.clone();
        let at = source.picture_at(pictures, frame);
        Some((frames, at))
    };
    let ((a, at_a), (b, at_b)) = (picture(a)?, picture(b)?);
    if (a.width, a.height) != (b.width, b.height) {
        return None;
    }
    let rgb = difference(a.frame(at_a), b.frame(at_b), gain as f32);
    Some(Frames { width: a.width, height: a.height, frames_per_second: a.frames_per_second, rgb })
}

/// A clip's name on its picture.
fn label(painter: &Painter, at: Pos2, anchor: Align2, text: &str, widest: f32, palette: &Palette) {
    let font = FontId::new(12.0, theme::strong_family());
    let mut job = eframe::egui::text::LayoutJob::simple_singleline(text.to_owned(), font, palette.on_badge);
    job.wrap = eframe::egui::text::TextWrapping::truncate_at_width((widest - 16.0).max(24.0));
    let galley = painter.layout_job(job);
    let rect = anchor.anchor_size(at, galley.size() + vec2(16.0, 8.0));
    painter.rect_filled(rect, CornerRadius::same(theme::RADIUS_SMALL), palette.badge);
    painter.galley(rect.min + vec2(8.0, 4.0), galley, palette.on_badge);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn source(calls: usize, side: usize, value: u8) -> Source {
        let frames = Frames { width: side, height: side, frames_per_second: 24.0, rgb: vec![value; side * side * 3 * 2] };
        Source { calls, frames: 2, complete: true, finished: Some(Arc::new(frames)), ..Source::default() }
    }

    #[test]
    fn steps_go_along_at_the_same_share() {
        let (eight, four) = (source(8, 1, 0), source(4, 1, 0));
        assert_eq!((0..8).map(|step| other_step(step, &eight, &eight)).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((0..8).map(|step| other_step(step, &eight, &four)).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!((0..4).map(|step| other_step(step, &four, &eight)).collect::<Vec<_>>(), [1, 3, 5, 7]);
    }

    #[test]
    fn a_difference_is_of_two_pictures_of_one_size() {
        let at = |source: &Source, other: &Source| differing([(source, Pictures::Finished), (other, Pictures::Finished)], 1, 8);
        let differing = at(&source(1, 4, 10), &source(1, 4, 13)).unwrap();
        assert_eq!((differing.count(), differing.rgb), (1, vec![24; 48]));
        assert_eq!(at(&source(1, 4, 10), &source(1, 2, 10)), None);
    }
}
