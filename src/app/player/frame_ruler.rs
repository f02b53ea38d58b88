//! The ruler of frames: time from left to right, the playhead, the marked part with its two handles, and which frames share a
//! latent frame.

use std::ops::Range;

use eframe::egui::{
    Align2, Color32, CornerRadius, CursorIcon, EventFilter, FontId, Key, Painter, Rangef, Rect, Role, Sense, Stroke, StrokeKind,
    Ui, WidgetInfo, pos2, vec2,
};

use super::Player;
use super::keys;
use super::ruler::{self, Cells};
use super::source::{Source, latent_frame};
use crate::app::icons;
use crate::app::theme::{self, Palette};
use crate::model::latent::frames_of_latent;

pub const HEIGHT: f32 = 52.0;
const TRACK: Rangef = Rangef { min: 18.0, max: 36.0 };
/// The strip of latent frames, within the track.
const LATENTS: Rangef = Rangef { min: 31.0, max: 34.0 };
const HANDLE_WIDTH: f32 = 7.0;
/// The least distance between two numbers, in points.
const LABEL_DISTANCE: f32 = 44.0;

impl Player {
    pub(super) fn frame_ruler(&mut self, ui: &mut Ui, source: &Source) {
        let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), HEIGHT), Sense::empty());
        let cells = Cells::of(rect, source.frames);
        let id = keys::frame_ruler_id(ui);
        let place = Rect::from_x_y_ranges(cells.left..=cells.right(), rect.top()..=rect.top() + TRACK.max);
        let response = ui.interact(place, id, Sense::click_and_drag());
        let filter = EventFilter { horizontal_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(id, filter));

        if response.drag_started() {
            self.begin_scrub(source.frames);
        }
        if (response.dragged() || response.clicked())
            && let Some(pointer) = response.interact_pointer_pos()
        {
            self.state.go_to(cells.at(pointer.x), source.frames);
        }
        if response.drag_stopped() {
            self.end_scrub();
        }
        let frame = self.state.frame(source.frames);
        if let Some(asked) = ruler::asked_value(ui, id, frame + 1) {
            self.state.playing = false;
            self.state.go_to(asked.saturating_sub(1), source.frames);
        }
        let frame = self.state.frame(source.frames);
        response.widget_info(|| WidgetInfo::slider(ui.is_enabled(), (frame + 1) as f64, "Frame"));
        let spoken = format!("Frame {} of {}, {:.2} seconds", frame + 1, source.frames, seconds(source, frame));
        ruler::describe(ui, id, frame + 1, 1, source.frames.max(1), &spoken);

        self.paint_frame_ruler(ui, rect, cells, source, frame);
        let hovered = response.hover_pos().map(|pointer| cells.at(pointer.x));
        let response = response.on_hover_cursor(CursorIcon::ResizeHorizontal);
        if let Some(hovered) = hovered {
            response.on_hover_text_at_pointer(frame_text(source, hovered));
        }
        if source.frames > 1 {
            self.handle(ui, rect, cells, source, true);
            self.handle(ui, rect, cells, source, false);
        }
    }

    fn paint_frame_ruler(&self, ui: &Ui, rect: Rect, cells: Cells, source: &Source, frame: usize) {
        let palette = Palette::of(ui);
        let painter = ui.painter();
        let y = |range: Rangef| Rangef::new(rect.top() + range.min, rect.top() + range.max);
        let track = Rect::from_x_y_ranges(cells.left..=cells.right(), y(TRACK));
        ruler::name(ui, rect, track.center().y, "Frames");
        let radius = CornerRadius::same(theme::RADIUS_SMALL);
        painter.rect_filled(track, radius, palette.control);
        if source.frames == 0 {
            return;
        }
        let range = self.state.range(source.frames);
        let marked = Rangef::new(cells.start(*range.start()), cells.start(*range.end() + 1));
        let fill = if self.state.has_range() { palette.accent_tint } else { palette.control_hovered };
        painter.rect_filled(Rect::from_x_y_ranges(marked, track.y_range()), radius, fill);

        let within = |cell: usize| range.contains(&cell);
        self.paint_numbers(painter, rect, cells, source, frame, palette);
        // A bar for each latent frame: the first holds one frame, the others four.
        let shown_latent = latent_frame(frame);
        let last_latent = latent_frame(source.frames - 1);
        for latent in 0..=last_latent {
            let Range { start: first, end } = frames_of_latent(latent);
            let end = end.min(source.frames);
            let x = Rangef::new(cells.start(first) + 1.0, cells.start(end) - 1.0);
            if x.span() < 1.0 {
                break;
            }
            let color = if latent == shown_latent {
                palette.accent
            } else if within(first) || within(end - 1) {
                palette.line_strong
            } else {
                palette.line
            };
            painter.rect_filled(Rect::from_x_y_ranges(x, y(LATENTS)), CornerRadius::same(1), color);
            if let Some([reads, is_read]) = self.highlight.filter(|highlight| highlight.contains(&latent)) {
                let place = Rect::from_x_y_ranges(x, track.y_range()).expand(1.0);
                let (first, second) = (palette.accent, palette.warning);
                let color = if latent == reads { first } else { second };
                painter.rect_filled(place, CornerRadius::same(2), color.gamma_multiply(0.35));
                painter.rect_stroke(place, CornerRadius::same(2), Stroke::new(2.0, color), StrokeKind::Inside);
                if reads == is_read {
                    painter.rect_stroke(place.shrink(2.0), CornerRadius::same(1), Stroke::new(2.0, second), StrokeKind::Inside);
                }
            }
        }
        if cells.width >= 5.0 {
            for cell in 1..source.frames {
                let tick = Rangef::new(track.top(), track.top() + 4.0);
                painter.vline(cells.start(cell), tick, Stroke::new(1.0, palette.text_dim.gamma_multiply(0.6)));
            }
        }
        self.paint_playhead(painter, rect, cells, frame, palette);
        if ui.memory(|memory| memory.has_focus(keys::frame_ruler_id(ui))) {
            icons::focus_ring(painter, track.expand(3.0), palette);
        }
    }

    /// Numbers of frames above the track, seconds below.
    fn paint_numbers(&self, painter: &Painter, rect: Rect, cells: Cells, source: &Source, frame: usize, palette: &Palette) {
        let font = FontId::proportional(10.5);
        // Every 1, 4, 8, 16, .. frames: these are the last frames of latent frames, and the last of the clip.
        let steps = [1, 4, 8, 16, 32, 64, 128];
        let every = steps.into_iter().find(|&every| cells.width * every as f32 >= LABEL_DISTANCE * 0.6).unwrap_or(256);
        for cell in (0..source.frames).step_by(every) {
            let x = cells.center(cell);
            if (x - cells.center(frame)).abs() >= 24.0 {
                let at = pos2(x, rect.top() + 8.0);
                painter.text(at, Align2::CENTER_CENTER, cell + 1, font.clone(), palette.text_dim);
            }
        }
        let second = cells.width * source.frames_per_second as f32;
        let steps = [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];
        let every = steps.into_iter().find(|&every| every * second >= LABEL_DISTANCE * 1.5).unwrap_or(300.0);
        let duration = source.frames as f32 / source.frames_per_second.max(1e-3) as f32;
        for mark in 0..=((duration / every) as usize).min(1000) {
            let x = cells.left + mark as f32 * every * second;
            let top = rect.top() + TRACK.max;
            painter.vline(x, Rangef::new(top + 1.0, top + 4.0), Stroke::new(1.0, palette.line_strong));
            let text = format!("{} s", (mark as f32 * every * 100.0).round() / 100.0);
            let align = if mark == 0 { Align2::LEFT_BOTTOM } else { Align2::CENTER_BOTTOM };
            if x + 12.0 <= rect.right() {
                painter.text(pos2(x, rect.bottom()), align, text, font.clone(), palette.text_dim);
            }
        }
    }

    fn paint_playhead(&self, painter: &Painter, rect: Rect, cells: Cells, frame: usize, palette: &Palette) {
        let x = cells.center(frame);
        let cell = Rangef::new(cells.start(frame), cells.start(frame + 1));
        let track = Rangef::new(rect.top() + TRACK.min, rect.top() + TRACK.max);
        let tint = palette.accent.gamma_multiply(0.25);
        painter.rect_filled(Rect::from_x_y_ranges(cell, track), CornerRadius::same(2), tint);
        painter.vline(x, Rangef::new(rect.top() + 14.0, track.max), Stroke::new(2.0, palette.accent));
        let font = FontId::new(10.5, theme::strong_family());
        let galley = painter.layout_no_wrap((frame + 1).to_string(), font, palette.on_accent);
        let head = Rect::from_center_size(pos2(x, rect.top() + 8.0), vec2(galley.size().x.max(14.0) + 8.0, 16.0));
        painter.rect_filled(head, CornerRadius::same(theme::RADIUS_SMALL), palette.accent_fill);
        painter.galley(head.center() - galley.size() / 2.0, galley, palette.on_accent);
    }

    /// One of the two ends of the marked part. It stands outside of the frame it marks, which stays free for the playhead.
    fn handle(&mut self, ui: &Ui, rect: Rect, cells: Cells, source: &Source, is_in: bool) {
        let palette = Palette::of(ui);
        let range = self.state.range(source.frames);
        let frame = if is_in { *range.start() } else { *range.end() };
        let x = if is_in { cells.start(frame) - HANDLE_WIDTH - 1.0 } else { cells.start(frame + 1) + 1.0 };
        let track = Rangef::new(rect.top() + TRACK.min, rect.top() + TRACK.max);
        let bar = Rect::from_x_y_ranges(x..=x + HANDLE_WIDTH, track);
        let (name, tip) = if is_in {
            ("In point", "First frame that plays and is exported. Drag it, or press I at a frame.")
        } else {
            ("Out point", "Last frame that plays and is exported. Drag it, or press O at a frame.")
        };
        let id = ui.scope_id().with(name);
        let response = ui.interact(bar.expand2(vec2(2.0, 2.0)), id, Sense::click_and_drag());
        let filter = EventFilter { horizontal_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(id, filter));

        let mut to = ruler::asked_value(ui, id, frame + 1).map(|asked| asked.saturating_sub(1));
        if response.dragged()
            && let Some(pointer) = response.interact_pointer_pos()
        {
            // The handle's inner edge follows the pointer.
            let inner = if is_in { pointer.x + HANDLE_WIDTH / 2.0 + cells.width / 2.0 } else { pointer.x - cells.width / 2.0 };
            to = Some(cells.at(inner));
        }
        if response.has_focus() {
            let by = ui.input_mut(|input| {
                let mut presses = |key| input.count_and_consume_key(Default::default(), key) as isize;
                presses(Key::ArrowRight) - presses(Key::ArrowLeft)
            });
            if by != 0 {
                to = Some(frame.saturating_add_signed(by));
            }
        }
        if response.double_clicked() {
            self.state.clear_range();
        } else if let Some(to) = to {
            let to = to.min(source.frames - 1);
            if is_in {
                self.state.set_in(to, source.frames);
            } else {
                self.state.set_out(to, source.frames);
            }
        }
        let range = self.state.range(source.frames);
        let frame = if is_in { *range.start() } else { *range.end() };
        response.widget_info(|| WidgetInfo::labeled(Role::Slider, ui.is_enabled(), name));
        ruler::describe(ui, id, frame + 1, 1, source.frames, &format!("{name} at frame {}", frame + 1));

        let radius =
            if is_in { CornerRadius { nw: 4, sw: 4, ne: 0, se: 0 } } else { CornerRadius { nw: 0, sw: 0, ne: 4, se: 4 } };
        let lit = response.hovered() || response.dragged() || self.state.has_range();
        let color: Color32 = if lit { palette.accent } else { palette.line_strong };
        ui.painter().rect_filled(bar, radius, color);
        if response.has_focus() {
            icons::focus_ring(ui.painter(), bar.expand(3.0), palette);
        }
        let _ = response
            .on_hover_cursor(CursorIcon::ResizeHorizontal)
            .on_hover_text(format!("{tip} Double-click for the whole clip."));
    }
}

/// When a frame is shown, from the start of the clip.
pub fn seconds(source: &Source, frame: usize) -> f64 {
    frame as f64 / source.frames_per_second.max(1e-3)
}

fn frame_text(source: &Source, frame: usize) -> String {
    let latent = latent_frame(frame);
    let (first, last) = if latent == 0 { (1, 1) } else { (latent * 4 - 2, (latent * 4 + 1).min(source.frames)) };
    let of_latent = if latent == 0 {
        "Latent frame 1 holds this frame alone.".to_owned()
    } else {
        format!("Latent frame {} holds frames {first} to {last}.", latent + 1)
    };
    format!("Frame {}, {:.2} s. {of_latent}", frame + 1, seconds(source, frame))
}
