//! All layers in small, one of which is painted.

use eframe::egui::{
    Color32, CornerRadius, FontId, Label, Rect, RichText, Role, ScrollArea, Sense, Stroke, StrokeKind, TextureHandle,
    TextureOptions, Ui, Vec2, WidgetInfo, pos2, vec2,
};

use super::painted::PaintedPlan;
use crate::app::mask_picture::{image, words};
use crate::app::theme::{self, Palette};

const PICTURE: f32 = 46.0;
const NAME_HEIGHT: f32 = 15.0;
const GAP: f32 = 8.0;
const COLUMNS: usize = 3;
/// Of the strip, with the bar beside it.
pub const WIDTH: f32 = COLUMNS as f32 * (PICTURE + GAP) + 12.0;

#[derive(Default)]
pub struct Strip {
    /// The layers' pictures below each other, with the revision that they show.
    texture: Option<(u64, bool, TextureHandle)>,
    /// The layer that was scrolled to last.
    scrolled_to: Option<usize>,
}

impl Strip {
    /// Shows the layers in a column of `height` points; `layer` is the one that is painted.
    pub fn show(&mut self, ui: &mut Ui, height: f32, painted: &PaintedPlan, layer: &mut usize) {
        let dark = ui.visuals().dark_mode;
        let now = (painted.revision(), dark);
        if self.texture.as_ref().is_none_or(|(revision, of_dark, _)| (*revision, *of_dark) != now) {
            let image = image(painted.plan(), Palette::of(ui));
            let texture = ui.ctx().load_texture("painted layers", image, TextureOptions::NEAREST);
            self.texture = Some((now.0, now.1, texture));
        }
        let scroll = ScrollArea::vertical().id_salt("layers").max_height(height).min_scrolled_height(height);
        scroll.auto_shrink([false, true]).show(ui, |ui| {
            ui.spacing_mut().item_spacing = Vec2::splat(GAP);
            let layers = painted.plan().layers().len();
            for row in (0..layers).step_by(COLUMNS) {
                ui.horizontal(|ui| {
                    for index in row..(row + COLUMNS).min(layers) {
                        self.layer(ui, painted, index, layer);
                    }
                });
            }
            crate::app::focus::follow(ui);
        });
        self.scrolled_to = Some(*layer);
    }

    fn layer(&self, ui: &mut Ui, painted: &PaintedPlan, index: usize, layer: &mut usize) {
        let palette = Palette::of(ui);
        let (layers, mask) = (painted.plan().layers().len() as f32, &painted.plan().layers()[index]);
        let (rect, tile) = ui.allocate_exact_size(vec2(PICTURE, PICTURE + NAME_HEIGHT), Sense::click());
        let is_shown = *layer == index;
        tile.widget_info(|| WidgetInfo::selected(Role::Button, ui.is_enabled(), is_shown, words(index, mask)));
        if ui.is_rect_visible(rect) {
            let picture = Rect::from_min_size(rect.min, Vec2::splat(PICTURE));
            let part = Rect::from_min_max(pos2(0.0, index as f32 / layers), pos2(1.0, (index + 1) as f32 / layers));
            if let Some((.., texture)) = &self.texture {
                ui.painter().image(texture.id(), picture.shrink(3.0), part, Color32::WHITE);
            }
            let stroke = match (is_shown, tile.hovered() || tile.has_focus()) {
                (true, _) => Stroke::new(2.0, palette.accent),
                (false, true) => Stroke::new(1.5, palette.line_strong),
                (false, false) => Stroke::NONE,
            };
            ui.painter().rect_stroke(picture, CornerRadius::same(theme::RADIUS_SMALL), stroke, StrokeKind::Inside);
            let color = if is_shown { palette.text_strong } else { palette.text_dim };
            let name = format!("{}  {}", index + 1, mask.name());
            let name = RichText::new(name).font(FontId::proportional(10.5)).color(color);
            let place = Rect::from_min_max(picture.left_bottom(), rect.max + vec2(GAP, 0.0));
            ui.place(place, Label::new(name).selectable(false).truncate());
        }
        if is_shown && self.scrolled_to.is_some_and(|before| before != index) && !ui.clip_rect().contains_rect(rect) {
            ui.scroll_to_rect(rect.expand(theme::SPACE_SMALL), None);
        }
        if tile.clicked() {
            *layer = index;
        }
        tile.on_hover_text(words(index, mask));
    }
}
