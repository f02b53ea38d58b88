//! The picture: the frame at its size, with a badge in the corner that says what it is.

use std::borrow::Cow;

use eframe::egui::{
    Align2, Color32, Context, CornerRadius, CursorIcon, FontId, Painter, PointerButton, Pos2, Rect, Role, Sense, Stroke,
    StrokeKind, TextureId, Ui, Vec2, WidgetInfo, pos2, vec2,
};

use super::source::{Pictures, Source, latent_frame};
use super::state::{Look, Zoom};
use super::versus::{Places, Versus};
use super::{Player, PlayerEvent};
use crate::app::icons::{self, Icon};
use crate::app::theme::{self, Palette};

pub const LEAST_HEIGHT: f32 = 96.0;
const BADGE_HEIGHT: f32 = 24.0;
const WHOLE: Rect = Rect { min: Pos2::ZERO, max: pos2(1.0, 1.0) };

impl Player {
    pub(super) fn picture(
        &mut self,
        ui: &mut Ui,
        size: Vec2,
        source: &Source,
        other: Option<&Versus<'_>>,
        events: &mut Vec<PlayerEvent>,
    ) {
        // Space plays from anywhere, so the picture needs no focus of its own.
        // To choose a point by keys it needs one.
        let focusable = if self.inspect.on { Sense::FOCUSABLE } else { Sense::empty() };
        let (place, response) = ui.allocate_exact_size(size, Sense::CLICK | Sense::DRAG | focusable);
        let palette = Palette::of(ui);
        let frame = self.state.frame(source.frames);
        let wanted = source.wanted(self.state.step, self.state.look);
        let found = source.nearest(wanted);
        if found != Some(wanted) && source.frames > 0 {
            events.push(PlayerEvent::Want(wanted));
        }

        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, spoken(source, frame, found)));
        if response.double_clicked() && !self.inspect.on {
            self.state.zoom = if self.state.zoom == Zoom::Fit { Zoom::Full } else { Zoom::Fit };
        }
        if response.clicked() && !self.inspect.on {
            self.state.toggle(source.frames);
        }
        if response.drag_started_by(PointerButton::Primary) {
            self.begin_scrub(source.frames);
        }
        if let (Some(scrub), Some(moved)) = (self.scrub, response.total_drag_delta())
            && response.dragged_by(PointerButton::Primary)
        {
            // The whole clip lies in the width of the picture.
            let by = (moved.x / size.x.max(1.0) * source.frames as f32).round() as isize;
            self.state.go_to(scrub.frame.saturating_add_signed(by), source.frames);
        }
        if response.drag_stopped_by(PointerButton::Primary) {
            self.end_scrub();
        }

        let painter = ui.painter().with_clip_rect(place.intersect(ui.clip_rect()));
        let own_place = if other.is_some() { self.view.place_of_first(place) } else { place };
        let image_size = self.image_size(ui, own_place, source);
        let room = ((image_size - own_place.size()) / 2.0).max(Vec2::ZERO);
        if room != Vec2::ZERO && response.hovered() {
            self.pan += ui.input(|input| input.smooth_scroll_delta);
            if response.dragged_by(PointerButton::Middle) {
                self.pan += response.drag_delta();
            }
        }
        self.pan = self.pan.clamp(-room, room);
        let image = Rect::from_center_size(own_place.center() + self.pan, image_size);
        match other {
            Some(other) => self.pair(ui, Places { whole: place, first: own_place, image }, source, other, events),
            None => {
                around(&painter, place, image, palette);
                let texture = self.texture(ui.ctx(), source, found, frame);
                paint(&painter, image, texture, palette);
            }
        }
        if self.inspect.on {
            self.look_into(ui, &painter, image, &response, source);
        }
        self.paint_highlight(&painter, image.intersect(place), frame, palette);

        let text = badge_text(source, wanted, found);
        if !text.is_empty() {
            let live = source.generating && self.state.step.is_none();
            let corner = image.intersect(place).left_bottom() + vec2(theme::SPACE_SMALL, -theme::SPACE_SMALL);
            badge(&painter, corner, &text, live.then_some(theme::DARK.good), palette);
        }
        if source.generating && self.state.step.is_some() {
            self.follow_button(ui, image.intersect(place), palette);
        }
        let cursor = match source.frames {
            _ if self.inspect.on => CursorIcon::Crosshair,
            0 | 1 => CursorIcon::Default,
            _ => CursorIcon::ResizeHorizontal,
        };
        let _ = response.on_hover_cursor(cursor);
    }

    /// Says so where the shown frame belongs to one of the two that stand out.
    fn paint_highlight(&self, painter: &Painter, image: Rect, frame: usize, palette: &Palette) {
        let Some([reads, is_read]) = self.highlight else { return };
        let latent = latent_frame(frame);
        let text = match (latent == reads, latent == is_read) {
            (true, true) => "Reads, and is read",
            (true, false) => "Reads",
            (false, true) => "Is read",
            (false, false) => return,
        };
        let color = if latent == reads { palette.accent } else { palette.warning };
        painter.rect_stroke(image, CornerRadius::ZERO, Stroke::new(3.0, color), StrokeKind::Inside);
        let corner = image.left_top() + vec2(theme::SPACE_SMALL, theme::SPACE_SMALL + BADGE_HEIGHT);
        badge(painter, corner, &format!("Frame {} · {text}", latent + 1), Some(color), palette);
    }

    /// A frame's picture of a set, on the graphics card.
    pub(super) fn texture(
        &mut self,
        context: &Context,
        source: &Source,
        found: Option<Pictures>,
        frame: usize,
    ) -> Option<TextureId> {
        let frames = source.pictures(found?)?;
        let picture = source.picture_at(found?, frame);
        self.textures.get(context, source.id, found?, picture, frames)
    }

    /// The size on the screen, in points.
    fn image_size(&self, ui: &Ui, place: Rect, source: &Source) -> Vec2 {
        let pixels = vec2(source.width.max(1) as f32, source.height.max(1) as f32);
        match self.state.zoom {
            Zoom::Fit => pixels * (place.width() / pixels.x).min(place.height() / pixels.y),
            Zoom::Full => pixels / ui.pixels_per_point(),
            Zoom::Double => pixels * 2.0 / ui.pixels_per_point(),
        }
    }

    /// Back to the newest step, for who looks at an older one while new ones come.
    fn follow_button(&mut self, ui: &Ui, image: Rect, palette: &Palette) {
        let size = vec2(118.0, 24.0);
        let rect = Align2::RIGHT_BOTTOM.anchor_size(image.right_bottom() - Vec2::splat(theme::SPACE_SMALL), size);
        let response = ui.interact(rect, ui.scope_id().with("follow"), Sense::click());
        response.widget_info(|| WidgetInfo::labeled(Role::Button, true, "Follow the newest step"));
        let fill = if response.hovered() { palette.accent_fill } else { palette.badge };
        ui.painter().rect_filled(rect, CornerRadius::same(theme::RADIUS), fill);
        if response.has_focus() {
            icons::focus_ring(ui.painter(), rect, palette);
        }
        let icon = Rect::from_center_size(rect.left_center() + vec2(14.0, 0.0), Vec2::splat(12.0));
        icons::paint(ui.painter(), icon, Icon::ToEnd, palette.on_badge);
        let font = FontId::proportional(12.0);
        ui.painter().text(rect.left_center() + vec2(26.0, 0.0), Align2::LEFT_CENTER, "Follow newest", font, palette.on_badge);
        if response.on_hover_text("Show each step as it comes").clicked() {
            self.state.step = None;
        }
    }
}

/// The canvas beside the picture. Under it nothing is painted: where the processor paints, every pixel counts.
pub(super) fn around(painter: &Painter, place: Rect, image: Rect, palette: &Palette) {
    let image = image.intersect(place);
    let (above, below) = (
        Rect::from_x_y_ranges(place.x_range(), place.top()..=image.top()),
        Rect::from_x_y_ranges(place.x_range(), image.bottom()..=place.bottom()),
    );
    let (left, right) = (
        Rect::from_x_y_ranges(place.left()..=image.left(), image.y_range()),
        Rect::from_x_y_ranges(image.right()..=place.right(), image.y_range()),
    );
    for side in [above, below, left, right] {
        if side.is_positive() {
            painter.rect_filled(side, CornerRadius::ZERO, palette.canvas);
        }
    }
}

/// The picture, or what stands where it will be.
pub(super) fn paint(painter: &Painter, image: Rect, texture: Option<TextureId>, palette: &Palette) {
    match texture {
        Some(texture) => {
            painter.image(texture, image, WHOLE, Color32::WHITE);
        }
        None => placeholder(painter, image, palette),
    }
}

/// What stands where the first picture will be.
fn placeholder(painter: &Painter, image: Rect, palette: &Palette) {
    painter.rect_filled(image, CornerRadius::same(theme::RADIUS_SMALL), palette.panel);
    let outline = Stroke::new(1.0, palette.line);
    painter.rect_stroke(image, CornerRadius::same(theme::RADIUS_SMALL), outline, StrokeKind::Inside);
    let icon = Rect::from_center_size(image.center(), Vec2::splat(40.0));
    icons::paint(painter, icon, Icon::Film, palette.line_strong);
}

/// A line of text on a dark ground, readable on any picture. `dot` is a mark before the text.
fn badge(painter: &Painter, left_bottom: Pos2, text: &str, dot: Option<Color32>, palette: &Palette) {
    let galley = painter.layout_no_wrap(text.to_owned(), FontId::proportional(12.0), palette.on_badge);
    let mark = if dot.is_some() { 14.0 } else { 0.0 };
    let size = galley.size() + vec2(16.0 + mark, 8.0);
    let rect = Align2::LEFT_BOTTOM.anchor_size(left_bottom, size);
    painter.rect_filled(rect, CornerRadius::same(theme::RADIUS_SMALL), palette.badge);
    if let Some(color) = dot {
        painter.circle_filled(rect.left_center() + vec2(12.0, 0.0), 3.5, color);
    }
    painter.galley(rect.min + vec2(8.0 + mark, 4.0), galley, palette.on_badge);
}

/// What the badge says: nothing over a finished clip.
fn badge_text(source: &Source, wanted: Pictures, found: Option<Pictures>) -> Cow<'static, str> {
    let loading = found != Some(wanted);
    match (found, wanted) {
        _ if source.frames == 0 => "".into(),
        (None, _) if source.steps.is_empty() && !source.complete => {
            if source.generating {
                "The first picture comes with step 1".into()
            } else {
                "".into()
            }
        }
        (None, _) => "Loading".into(),
        (Some(_), Pictures::Step(step, look)) => {
            let name = match look {
                Look::Projection => "projection",
                Look::Decoder => "decoder",
            };
            let state = if loading { ", loading" } else { "" };
            format!("Step {} of {} · {name}{state}", step + 1, source.calls).into()
        }
        (Some(_), Pictures::Finished) if loading => "Clip, loading".into(),
        (Some(_), Pictures::Finished) => "".into(),
    }
}

/// What a screen reader says for the picture.
fn spoken(source: &Source, frame: usize, found: Option<Pictures>) -> String {
    let of_what = match found {
        None => return "No picture yet".to_owned(),
        Some(Pictures::Finished) => "the clip".to_owned(),
        Some(Pictures::Step(step, _)) => format!("step {} of {}", step + 1, source.calls),
    };
    format!("Picture: frame {} of {} of {of_what}", frame + 1, source.frames)
}
