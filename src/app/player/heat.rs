//! Heat over the shown frame: values of the clip's tokens as colours, in step with the playing.

use std::sync::Arc;

use eframe::egui::{Color32, ColorImage, Context, Painter, Pos2, Rect, TextureHandle, TextureId, TextureOptions, pos2};

use crate::studio::heat::HeatMaps;

/// Pixels of a heat picture along a side, at most: the card makes the rest of the way.
const MOST_PIXELS: usize = 256;
/// Pixels of a token along a side, at most.
const MOST_PIXELS_A_TOKEN: usize = 8;
const WHOLE: Rect = Rect { min: Pos2::ZERO, max: pos2(1.0, 1.0) };

/// What is laid over the frames, with its pictures on the graphics card: each is uploaded once, when it is first shown.
#[derive(Default)]
pub struct Heat {
    maps: Option<Arc<HeatMaps>>,
    textures: Vec<Option<TextureHandle>>,
}

impl Heat {
    /// Lays these values over the frames, or none.
    pub fn set(&mut self, maps: Option<Arc<HeatMaps>>) {
        let same = match (&self.maps, &maps) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        if !same {
            self.textures = vec![None; maps.as_ref().map_or(0, |maps| maps.grid[0])];
            self.maps = maps;
        }
    }

    pub fn maps(&self) -> Option<&Arc<HeatMaps>> {
        self.maps.as_ref()
    }

    /// Paints the heat of a latent frame over the place of a picture.
    pub fn paint(&mut self, painter: &Painter, place: Rect, latent: usize, opacity: f32) {
        if let Some(texture) = self.texture(painter.ctx(), latent) {
            painter.image(texture, place, WHOLE, Color32::WHITE.gamma_multiply(opacity));
        }
    }

    fn texture(&mut self, context: &Context, latent: usize) -> Option<TextureId> {
        let maps = self.maps.as_ref()?;
        let slot = self.textures.get_mut(latent)?;
        let texture = slot.get_or_insert_with(|| {
            let [_, rows, columns] = maps.grid;
            let pixels = (MOST_PIXELS / rows.max(columns).max(1)).clamp(1, MOST_PIXELS_A_TOKEN);
            let size = [columns * pixels, rows * pixels];
            let rgba = maps.picture(latent, size[0], size[1]).into_iter().flatten().collect::<Vec<u8>>();
            context.load_texture("heat", ColorImage::from_rgba_unmultiplied(size, &rgba), TextureOptions::LINEAR)
        });
        Some(texture.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_is_uploaded_once_and_dropped_with_its_maps() {
        let context = Context::default();
        let before = context.tex_manager().read().num_allocated();
        let maps = |values: Vec<f32>| Some(Arc::new(HeatMaps::new([3, 1, 2], values)));
        let held = || context.tex_manager().read().num_allocated() - before;
        let mut heat = Heat::default();
        assert_eq!(heat.texture(&context, 0), None);
        let first = maps(vec![0.1; 6]);
        heat.set(first.clone());
        let ids = [0, 1, 0, 1].map(|latent| heat.texture(&context, latent).unwrap());
        assert_eq!((ids[0], ids[1]), (ids[2], ids[3]));
        assert_eq!(held(), 2);
        heat.set(first);
        assert_eq!(heat.texture(&context, 1), Some(ids[1]), "the same maps again");
        assert_eq!(heat.texture(&context, 3), None, "no such frame");
        heat.set(maps(vec![0.2; 6]));
        assert_eq!(held(), 0);
        assert_ne!(heat.texture(&context, 1), Some(ids[1]));
        heat.set(None);
        assert_eq!(held(), 0);
    }
}
