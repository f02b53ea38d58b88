//! The same prompt and seed twice, side by side and in step: with every tile, and with what the lab has made.

use std::sync::Arc;
use std::time::Duration;

use eframe::egui::{Color32, CornerRadius, Rect, RichText, Role, Sense, Ui, WidgetInfo, pos2, vec2};

use crate::app::player::source::Pictures;
use crate::app::player::textures::Textures;
use crate::app::theme::{self, Palette};
use crate::clip::Frames;

/// The largest height of a picture, in points.
const MOST_HEIGHT: f32 = 200.0;

#[derive(Default)]
pub struct Samples {
    textures: Textures,
    /// Which clips the textures are of.
    shown: Option<[Arc<Frames>; 2]>,
    revision: u64,
    /// The frame at which they stand still.
    halted: Option<usize>,
}

impl Samples {
    /// `names` are those of the two clips; `still` keeps them from playing by themselves.
    pub fn show(&mut self, ui: &mut Ui, clips: &[Arc<Frames>; 2], names: [&str; 2], still: bool) {
        let is_same = |shown: &[Arc<Frames>; 2]| shown.iter().zip(clips).all(|(a, b)| Arc::ptr_eq(a, b));
        let [a, _] = clips;
        if !self.shown.as_ref().is_some_and(is_same) {
            (self.shown, self.halted) = (Some(clips.clone()), still.then_some(a.count() / 2));
            self.revision += 2;
        }
        let (count, rate) = (a.count().max(1), a.frames_per_second.max(1.0));
        let frame = self.halted.unwrap_or_else(|| (ui.input(|input| input.time) * rate) as usize % count);
        let gap = theme::SPACE_SMALL;
        let width = ((ui.available_width() - gap) / 2.0).min(MOST_HEIGHT * a.width as f32 / a.height.max(1) as f32);
        let size = vec2(width, width * a.height as f32 / a.width.max(1) as f32);
        let palette = Palette::of(ui);
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = gap;
            for (place, (clip, name)) in clips.iter().zip(names).enumerate() {
                ui.vertical(|ui| {
                    ui.spacing_mut().item_spacing.y = theme::SPACE_TINY;
                    ui.label(RichText::new(name).color(palette.text_strong));
                    let (rect, response) = ui.allocate_exact_size(size, Sense::click());
                    let at = frame.min(clip.count().saturating_sub(1));
                    let source = self.revision + place as u64;
                    match self.textures.get(ui.ctx(), source, Pictures::Finished, at, clip) {
                        Some(texture) => {
                            let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
                            ui.painter().image(texture, rect, whole, Color32::WHITE);
                        }
                        None => {
                            ui.painter().rect_filled(rect, CornerRadius::same(theme::RADIUS_SMALL), palette.control);
                        }
                    }
                    if response.has_focus() {
                        crate::app::icons::focus_ring(ui.painter(), rect, palette);
                    }
                    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Sample: {name}")));
                    let tip = if self.halted.is_some() { "Plays both" } else { "Halts both" };
                    if response.on_hover_text(tip).clicked() {
                        self.halted = if self.halted.is_some() { None } else { Some(frame) };
                    }
                });
            }
        });
        if self.halted.is_none() {
            ui.ctx().request_repaint_after(Duration::from_secs_f64(1.0 / rate));
        }
    }
}
