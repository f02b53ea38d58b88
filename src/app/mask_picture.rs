//! A mask plan in small: a picture for each layer, which frame looks at which, and how much of it is computed.

use eframe::egui::{
    Color32, ColorImage, CornerRadius, Label, Rect, RichText, Role, Sense, TextureHandle, TextureOptions, Ui, Vec2, WidgetInfo,
    pos2, vec2,
};

use super::theme::{self, Palette};
use crate::mask::{LayerMask, Layout, MaskPlan};
use crate::studio::words::count;

const TILE: f32 = 38.0;

/// A plan with its picture, which is uploaded once for each theme and range of steps.
pub struct MaskPicture {
    whole: MaskPlan,
    /// Of the range that is shown.
    plan: MaskPlan,
    range: usize,
    texture: Option<(bool, TextureHandle)>,
}

impl MaskPicture {
    pub fn new(plan: MaskPlan) -> Self {
        Self { plan: plan.of_range(0), whole: plan, range: 0, texture: None }
    }

    /// Shows the masks of the step that is in the player, counted from 0, of so many.
    pub fn show(&mut self, ui: &mut Ui, call: usize, calls: usize) {
        let palette = Palette::of(ui);
        let range = self.whole.range_of(call, calls);
        if range != self.range {
            (self.plan, self.range, self.texture) = (self.whole.of_range(range), range, None);
        }
        let dark = ui.visuals().dark_mode;
        if self.texture.as_ref().is_none_or(|(of_dark, _)| *of_dark != dark) {
            let image = image(&self.plan, palette);
            self.texture = Some((dark, ui.ctx().load_texture("mask plan", image, TextureOptions::NEAREST)));
        }
        let density = format!("{:.1} % of the tiles in {} layers", 100.0 * self.whole.density(), self.plan.layers().len());
        ui.add(Label::new(density).wrap().selectable(true));
        if !self.whole.is_for_all_steps() {
            let begins: Vec<usize> = self.whole.ranges().map(|(from, _)| MaskPlan::first_call(from, calls)).collect();
            let end = begins.get(range + 1).copied().unwrap_or(calls);
            let own = 100.0 * self.plan.density();
            let steps = format!("Steps {} to {end} of {calls}, with step {}: {own:.1} %", begins[range] + 1, call + 1);
            ui.add(Label::new(RichText::new(steps).color(palette.text_dim)).wrap().selectable(true));
        }
        let Some((_, texture)) = &self.texture else { return };
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing = vec2(6.0, 6.0);
            let layers = self.plan.layers().len() as f32;
            for (layer, mask) in self.plan.layers().iter().enumerate() {
                let (rect, tile) = ui.allocate_exact_size(vec2(TILE, TILE + 15.0), Sense::hover());
                let words = words(layer, mask);
                tile.widget_info(|| WidgetInfo::labeled(Role::Image, true, &words));
                if ui.is_rect_visible(rect) {
                    let picture = Rect::from_min_size(rect.min, Vec2::splat(TILE));
                    let part = Rect::from_min_max(pos2(0.0, layer as f32 / layers), pos2(1.0, (layer + 1) as f32 / layers));
                    let shape =
                        eframe::egui::epaint::RectShape::filled(picture, CornerRadius::same(theme::RADIUS_SMALL), Color32::WHITE);
                    ui.painter().add(shape.with_texture(texture.id(), part));
                    let name = RichText::new(mask.name()).font(eframe::egui::FontId::proportional(10.5)).color(palette.text_dim);
                    let place = Rect::from_min_max(picture.left_bottom() + vec2(0.0, 1.0), rect.max);
                    ui.place(place, Label::new(name).selectable(false));
                }
                tile.on_hover_text(words);
            }
        });
    }
}

/// A layer, counted from 0, with its mask in words.
pub(super) fn words(layer: usize, mask: &LayerMask) -> String {
    let density = 100.0 * mask.mask().density();
    let mut words = format!("Layer {}: {}, {density:.1} % of the tiles", layer + 1, mask.name());
    let references = mask.reference_frames();
    if !mask.mask().is_full() && !references.is_empty() {
        let frames: Vec<String> = references.iter().map(|frame| (frame + 1).to_string()).collect();
        words += &format!("; all look at latent frames {}", frames.join(", "));
    }
    if let Layout::Neighbours(neighbours) = mask.layout()
        && !mask.mask().is_full()
    {
        words += &format!("; each looks at those up to {} away", count(neighbours.distance, "latent frame"));
    }
    words
}

/// The layers' masks on top of each other, a pixel a tile: rows look, columns are looked at.
pub(super) fn image(plan: &MaskPlan, palette: &Palette) -> ColorImage {
    let kept = plan.layers().iter().flat_map(|layer| layer.mask().rows().flatten().copied());
    let pixels: Vec<Color32> = kept.map(|kept| if kept { palette.accent_fill } else { palette.control }).collect();
    ColorImage::new([plan.frames(), plan.frames() * plan.layers().len()], pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_shows_each_layer_of_the_plan() {
        let plan = MaskPlan::uniform(3, 8, "2:6").unwrap();
        let image = image(&plan, &theme::DARK);
        assert_eq!(image.size, [8, 24]);
        let lit = image.pixels.iter().filter(|&&pixel| pixel == theme::DARK.accent_fill).count();
        assert_eq!(lit as u64, plan.kept_tiles());
        // The diagonal of the last layer.
        assert!((0..8).all(|frame| image.pixels[(16 + frame) * 8 + frame] == theme::DARK.accent_fill));
        assert_eq!(words(2, &plan.layers()[2]).split(';').next(), Some("Layer 3: 2:6, 53.1 % of the tiles"));
        let near = ["near:1", "near:2", "near:7"].map(|name| words(0, &LayerMask::named(name, 8).unwrap()));
        assert_eq!(
            near,
            [
                "Layer 1: near:1, 34.4 % of the tiles; each looks at those up to 1 latent frame away",
                "Layer 1: near:2, 53.1 % of the tiles; each looks at those up to 2 latent frames away",
                "Layer 1: near:7, 100.0 % of the tiles",
            ]
        );
    }
}
