//! One clip of the film strip: a picture that plays under the pointer, what it was made from, its heart and its badges.

use std::sync::Arc;

use eframe::egui::{
    Align2, CornerRadius, EventFilter, FontId, FontSelection, Id, Rect, Response, Role, Sense, Shape, Stroke, StrokeKind,
    TextWrapMode, Ui, Vec2, WidgetInfo, WidgetText, epaint::RectShape, pos2, vec2,
};

use super::icons::{self, Icon};
use super::player::source::Pictures;
use super::player::textures::Textures;
use super::theme::{self, Palette};
use crate::clip::Frames;
use crate::studio::{ClipEntry, ClipId, Loaded, words};

const INSET: f32 = 6.0;
const PICTURE: Vec2 = vec2(176.0, 99.0);
/// The two lines below the picture.
const LINES: f32 = 40.0;
pub const SIZE: Vec2 = vec2(PICTURE.x + 2.0 * INSET, PICTURE.y + 2.0 * INSET + LINES);
/// A smaller picture says too little: then it takes the place of the lines below it.
const LEAST_PICTURE: f32 = 54.0;
const SMALLEST_PICTURE: f32 = 36.0;

/// The size of a card in a row that is so high: its picture shrinks, so that nothing is cut off, and then the lines go.
pub fn size_within(height: f32) -> Vec2 {
    let lines = if height >= LEAST_PICTURE + 2.0 * INSET + LINES { LINES } else { 0.0 };
    let picture = (height - 2.0 * INSET - lines).clamp(SMALLEST_PICTURE, PICTURE.y);
    vec2((picture * PICTURE.x / PICTURE.y).round() + 2.0 * INSET, picture + 2.0 * INSET + lines)
}

fn has_lines(rect: Rect) -> bool {
    rect.height() >= (rect.width() - 2.0 * INSET) * PICTURE.y / PICTURE.x + 2.0 * INSET + LINES - 1.0
}

/// The widget of a clip's card, which has the focus while its clip is chosen by keys.
pub fn id(clip: ClipId) -> Id {
    Id::unique(("library clip", clip.0))
}

/// What is to be shown of a clip.
pub struct Card<'a> {
    pub clip: &'a ClipEntry,
    pub thumbnail: Loaded,
    pub is_selected: bool,
    /// It is the one in the player.
    pub is_shown: bool,
    /// Seconds for which it has played.
    pub playing: Option<f64>,
}

pub struct CardResponse {
    pub card: Response,
    pub heart_clicked: bool,
}

impl Card<'_> {
    pub fn show(&self, ui: &mut Ui, rect: Rect, textures: &mut Textures) -> CardResponse {
        let clip = self.clip;
        let card = ui.interact(rect, id(clip.id), Sense::click());
        card.widget_info(|| WidgetInfo::selected(Role::Button, ui.is_enabled(), self.is_selected, self.name()));
        if card.has_focus() {
            let arrows = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..EventFilter::default() };
            ui.memory_mut(|memory| memory.set_focus_lock_filter(card.id, arrows));
        }
        let palette = Palette::of(ui);
        let radius = CornerRadius::same(theme::RADIUS_LARGE);
        // The heart and the badges lie on the card.
        let is_near = card.container_contains_pointer();
        if self.is_selected || is_near {
            let fill = if self.is_selected { palette.accent_tint } else { palette.raised };
            ui.painter().rect_filled(rect, radius, fill);
        }
        let picture = Rect::from_min_size(
            rect.min + Vec2::splat(INSET),
            rect.size() - vec2(2.0 * INSET, 2.0 * INSET + if has_lines(rect) { LINES } else { 0.0 }),
        );
        self.picture(ui, picture, textures);
        if self.is_shown {
            let outline = Stroke::new(2.0, palette.accent);
            ui.painter().rect_stroke(picture, CornerRadius::same(theme::RADIUS), outline, StrokeKind::Outside);
        }
        if card.has_focus() {
            ui.painter().rect_stroke(rect, radius, Stroke::new(2.0, palette.accent), StrokeKind::Inside);
        }
        self.chips(ui, picture);
        let heart_clicked = self.heart(ui, picture, is_near || card.has_focus());

        let recipe = &clip.recipe;
        let facts = format!("{} · {}×{} · seed {}", recipe.model.name, recipe.width, recipe.height, recipe.seed);
        if !has_lines(rect) {
            let card = card.on_hover_text(format!("{}\n{facts}", single_line(&recipe.prompt)));
            return CardResponse { card, heart_clicked };
        }
        let lines = Rect::from_min_max(picture.left_bottom() + vec2(0.0, 5.0), rect.max - Vec2::splat(INSET));
        let prompt = theme::strong(single_line(&recipe.prompt)).color(palette.text_strong);
        self.line(ui, lines, prompt.into());
        let facts = eframe::egui::RichText::new(facts).small().color(palette.text_dim);
        self.line(ui, lines.translate(vec2(0.0, 19.0)), facts.into());
        CardResponse { card, heart_clicked }
    }

    /// What a screen reader says.
    fn name(&self) -> String {
        let mut name = single_line(&self.clip.recipe.prompt);
        if self.clip.favourite {
            name += ", favourite";
        }
        for badge in &self.clip.badges {
            name += &format!(", {badge}");
        }
        name
    }

    fn picture(&self, ui: &Ui, place: Rect, textures: &mut Textures) {
        let palette = Palette::of(ui);
        let radius = CornerRadius::same(theme::RADIUS);
        ui.painter().rect_filled(place, radius, palette.canvas);
        match &self.thumbnail {
            Loaded::Ready(frames) => self.frame(ui, place, frames, textures),
            Loaded::NotYet => icons::paint(ui.painter(), square(place, 20.0), Icon::Film, palette.line_strong),
            Loaded::Failed(_) => icons::paint(ui.painter(), square(place, 20.0), Icon::Warning, palette.warning),
        }
    }

    fn frame(&self, ui: &Ui, place: Rect, frames: &Arc<Frames>, textures: &mut Textures) {
        let count = frames.count();
        if count == 0 {
            return;
        }
        let rate = frames.frames_per_second.clamp(1.0, 60.0);
        let index = match self.playing {
            Some(seconds) if ui.style().animation_time > 0.0 => {
                if count > 1 {
                    ui.ctx().request_repaint_after_secs((1.0 / rate) as f32);
                }
                (seconds * rate) as usize % count
            }
            // At rest, or nothing is to move by itself.
            _ => 0,
        };
        let source = self.clip.id.0.cast_unsigned();
        let Some(texture) = textures.get(ui.ctx(), source, Pictures::Finished, index, frames) else { return };
        let scale = (place.width() / frames.width as f32).min(place.height() / frames.height as f32);
        let size = vec2(frames.width as f32, frames.height as f32) * scale;
        let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
        let fitted = Rect::from_center_size(place.center(), size);
        // Round corners only where the picture reaches those of its place.
        let radius = if (size - place.size()).length() < 2.0 { theme::RADIUS } else { 0 };
        let shape =
            RectShape::filled(fitted, CornerRadius::same(radius), eframe::egui::Color32::WHITE).with_texture(texture, whole);
        ui.painter().add(Shape::Rect(shape));
    }

    /// How long it plays, and what the person should know of how it was made.
    fn chips(&self, ui: &Ui, picture: Rect) {
        let recipe = &self.clip.recipe;
        let length = match recipe.frames {
            1 => "still".to_owned(),
            frames => words::duration(frames as f64 / f64::from(recipe.frames_per_second.max(1))),
        };
        chip(ui, picture.right_bottom() - Vec2::splat(5.0), Align2::RIGHT_BOTTOM, &length, picture.width());
        if let [first, others @ ..] = self.clip.badges.as_slice() {
            let more = if others.is_empty() { String::new() } else { format!(" +{}", others.len()) };
            let widest = picture.width() - 44.0;
            let place = chip(ui, picture.left_top() + Vec2::splat(5.0), Align2::LEFT_TOP, &format!("{first}{more}"), widest);
            let sensed = ui.interact(place, id(self.clip.id).with("badges"), Sense::hover());
            sensed.on_hover_ui(|ui| {
                for badge in &self.clip.badges {
                    ui.label(badge);
                }
            });
        }
    }

    fn heart(&self, ui: &Ui, picture: Rect, is_near: bool) -> bool {
        if self.clip.is_deleted || !(self.clip.favourite || is_near) {
            return false;
        }
        let place = Rect::from_min_size(picture.right_top() + vec2(-27.0, 5.0), Vec2::splat(22.0));
        // Not a stop for the tab key: the button above the strip does the same.
        let heart = ui.interact(place, id(self.clip.id).with("heart"), Sense::CLICK);
        let name = if self.clip.favourite { "No favourite any more" } else { "Favourite" };
        heart.widget_info(|| WidgetInfo::selected(Role::Button, ui.is_enabled(), self.clip.favourite, name));
        let palette = Palette::of(ui);
        ui.painter().rect_filled(place, CornerRadius::same(11), palette.badge);
        let (icon, colour) = match self.clip.favourite {
            true => (Icon::HeartFilled, theme::DARK.error),
            false => (Icon::Heart, palette.on_badge),
        };
        icons::paint(ui.painter(), square(place, 14.0), icon, colour);
        heart.on_hover_text(name).clicked()
    }

    fn line(&self, ui: &Ui, place: Rect, text: WidgetText) {
        let galley = text.into_galley(ui, Some(TextWrapMode::Truncate), place.width(), FontSelection::Default);
        ui.painter().galley(place.min, galley, Palette::of(ui).text);
    }
}

fn chip(ui: &Ui, at: eframe::egui::Pos2, anchor: Align2, text: &str, widest: f32) -> Rect {
    let palette = Palette::of(ui);
    let text: WidgetText = eframe::egui::RichText::new(text).font(FontId::proportional(11.0)).color(palette.on_badge).into();
    let galley = text.into_galley(ui, Some(TextWrapMode::Truncate), widest - 10.0, FontSelection::Default);
    let place = anchor.anchor_size(at, galley.size() + vec2(10.0, 4.0));
    ui.painter().rect_filled(place, CornerRadius::same(theme::RADIUS_SMALL), palette.badge);
    ui.painter().galley(place.min + vec2(5.0, 2.0), galley, palette.on_badge);
    place
}

fn square(place: Rect, side: f32) -> Rect {
    Rect::from_center_size(place.center(), Vec2::splat(side))
}

/// Prompts may have several lines.
pub fn single_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
