//! What the chosen point reads from every latent frame: a small picture with its heat, a bar and a number for each.

use eframe::egui::{
    Align, Align2, Color32, ColorImage, ComboBox, CornerRadius, FontId, Label, Layout, Painter, Rect, RichText, Role, Sense,
    Slider, Stroke, StrokeKind, TextureHandle, TextureOptions, Ui, WidgetInfo, epaint::RectShape, pos2, vec2,
};

use super::Player;
use super::inspect::{Answer, pixel_of};
use super::point::percent;
use super::ruler::{self, Cells};
use super::source::{Source, latent_frame};
use crate::app::icons::drop_down;
use crate::app::theme::{self, Palette};
use crate::generate::reading::Seen;
use crate::model::latent::frames_of_latent;
use crate::studio::colour_map::colour;
use crate::studio::heat::middle_frame;

const MOST_PICTURE_HEIGHT: f32 = 48.0;
const BAR_HEIGHT: f32 = 6.0;
const NUMBER_HEIGHT: f32 = 14.0;
const GAP: f32 = 3.0;
const LEAST_WIDTH_OF_NUMBER: f32 = 40.0;
const LEGEND_WIDTH: f32 = 56.0;
/// Room for the number at an end of the legend.
const END_WIDTH: f32 = 40.0;
const LEGEND_COLOURS: usize = 64;

/// The height of the strip and its controls, with the room below, for a player of this width.
pub fn height(source: &Source, width: f32) -> f32 {
    theme::CONTROL_HEIGHT + theme::SPACE_SMALL + cells_height(source, width) + theme::SPACE_SMALL
}

fn latent_frames(source: &Source) -> usize {
    latent_frame(source.frames.saturating_sub(1)) + 1
}

fn picture_height(source: &Source, width: f32) -> f32 {
    let cell = (width - ruler::NAME_WIDTH - ruler::END_WIDTH) / latent_frames(source) as f32 - GAP;
    (cell * source.height as f32 / source.width.max(1) as f32).clamp(8.0, MOST_PICTURE_HEIGHT)
}

fn cells_height(source: &Source, width: f32) -> f32 {
    picture_height(source, width) + GAP + BAR_HEIGHT + NUMBER_HEIGHT
}

impl Player {
    pub(super) fn reads_strip(&mut self, ui: &mut Ui, source: &Source) {
        let width = ui.available_width();
        self.reads_controls(ui, source);
        let (rect, _) = ui.allocate_exact_size(vec2(width, cells_height(source, width)), Sense::empty());
        let cells = Cells::of(rect, latent_frames(source));
        let picture = picture_height(source, width);
        ruler::name(ui, rect, rect.top() + picture / 2.0, "Reads");
        if source.frames == 0 {
            return;
        }
        for latent in 0..cells.count {
            self.reads_cell(ui, rect, cells, latent, picture, source);
        }
    }

    fn reads_controls(&mut self, ui: &mut Ui, source: &Source) {
        let row = vec2(ui.available_width(), theme::CONTROL_HEIGHT);
        ui.allocate_ui_with_layout(row, Layout::right_to_left(Align::Center), |ui| {
            self.legend(ui);
            let slider = Slider::new(&mut self.inspect.opacity, 0.0..=1.0).show_value(false);
            ui.spacing_mut().slider_width = 52.0;
            ui.add(slider).accessible_name("Strength of the heat").on_hover_text("How strong the heat lies over the picture");
            self.layer_choices(ui);
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| self.point_text(ui, source));
        });
    }

    /// From right to left.
    fn layer_choices(&mut self, ui: &mut Ui) {
        let inspect = &mut self.inspect;
        let layers = inspect.answers.masks.len();
        let heads = match &inspect.answers.point {
            Answer::Ready(reads) => reads.heads,
            _ => inspect.head.map_or(0, |head| head + 1),
        };
        let mut all = inspect.seen == Seen::AllFrames;
        let tip = "As if the layer were dense: with the queries and keys of the run, also over the frames that its plan skips";
        if ui.checkbox(&mut all, "All frames").on_hover_text(tip).changed() {
            inspect.seen = if all { Seen::AllFrames } else { Seen::Plan };
        }
        let head_name = |head: Option<usize>| head.map_or("All heads".to_owned(), |head| format!("Head {}", head + 1));
        ComboBox::from_id_salt("head")
            .width(86.0)
            .icon(drop_down)
            .selected_text(head_name(inspect.head.filter(|&head| head < heads)))
            .show_ui(ui, |ui| {
                for head in std::iter::once(None).chain((0..heads).map(Some)) {
                    ui.selectable_value(&mut inspect.head, head, head_name(head));
                }
            })
            .response
            .accessible_name("Head")
            .on_hover_text("One head of the layer, or the mean over all");
        let layer = inspect.layer.min(layers.saturating_sub(1));
        ComboBox::from_id_salt("layer of the point")
            .width(86.0)
            .icon(drop_down)
            .selected_text(format!("Layer {}", layer + 1))
            .show_ui(ui, |ui| {
                for (layer, mask) in inspect.answers.masks.iter().enumerate() {
                    ui.selectable_value(&mut inspect.layer, layer, format!("Layer {} · {mask}", layer + 1));
                }
            })
            .response
            .accessible_name("Layer of the point")
            .on_hover_text("Whose self-attention the point shows, and the mask that its plan gives it");
    }

    /// What is chosen, and how far its answer is.
    fn point_text(&self, ui: &mut Ui, source: &Source) {
        let (inspect, palette) = (&self.inspect, Palette::of(ui));
        if inspect.answers.unavailable.is_some() {
            return;
        }
        let dim = |text: String| RichText::new(text).color(palette.text_dim);
        let Some(point) = inspect.point else {
            ui.label(dim("Click a point of the picture: what does it read?".to_owned()));
            return;
        };
        let frame = point.frame + 1;
        let (x, y) = pixel_of(source, point);
        let whole = format!(
            "The token at {x}, {y} of frame {frame}. The softmax of its row goes over the frames that the layer's plan keeps."
        );
        let text = match &inspect.answers.point {
            Answer::Ready(reads) => {
                let kept = reads.kept.iter().filter(|&&kept| kept).count();
                let frames = reads.kept.len();
                let over = match inspect.seen {
                    Seen::Plan if kept < frames => format!("{kept} of {frames} frames"),
                    _ => format!("all {frames} frames"),
                };
                dim(format!("Frame {frame} reads {over}"))
            }
            Answer::Computing | Answer::None => dim(format!("Reading frame {frame}")),
            Answer::Waiting => dim("Waits for the run that goes on".to_owned()),
            Answer::Failed(reason) => RichText::new(&**reason).color(palette.error),
        };
        ui.add(Label::new(text).truncate()).on_hover_text(whole);
    }

    /// The colours with their ends, where there is heat.
    fn legend(&mut self, ui: &mut Ui) {
        let palette = Palette::of(ui);
        let ends = self.inspect.heat().map(|maps| [maps.low, maps.peak].map(|end| format!("{} %", percent(f64::from(end)))));
        let [low, peak] = ends.unwrap_or_default();
        let end = |ui: &mut Ui, text: String, align: Align| {
            let text = RichText::new(text).small().color(palette.text_dim);
            ui.allocate_ui_with_layout(vec2(END_WIDTH, theme::CONTROL_HEIGHT), Layout::left_to_right(Align::Center), |ui| {
                ui.add_sized(vec2(END_WIDTH, theme::CONTROL_HEIGHT), Label::new(text).halign(align));
            });
        };
        end(ui, peak, Align::Min);
        let (rect, response) = ui.allocate_exact_size(vec2(LEGEND_WIDTH, 8.0), Sense::hover());
        let texture = legend_texture(ui);
        let uv = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
        ui.painter().add(RectShape::filled(rect, CornerRadius::same(2), Color32::WHITE).with_texture(texture.id(), uv));
        end(ui, low, Align::Max);
        response.on_hover_text(
            "The colours of the heat with its ends, the same in all frames: from nothing to the most for a point, from the least to the most for a word",
        );
    }

    fn reads_cell(&mut self, ui: &mut Ui, rect: Rect, cells: Cells, latent: usize, picture_height: f32, source: &Source) {
        let palette = Palette::of(ui);
        let gap = GAP.min(cells.width / 4.0);
        let x = (cells.start(latent) + gap / 2.0)..=(cells.start(latent + 1) - gap / 2.0);
        let place = Rect::from_x_y_ranges(x.clone(), rect.top()..=rect.top() + picture_height);
        let whole = Rect::from_x_y_ranges(x, rect.y_range());
        let response = ui.interact(whole, ui.scope_id().with(("reads", latent)), Sense::click());
        let sum = self.inspect.sums.get(latent).copied();
        let is_skipped = match &self.inspect.answers.point {
            Answer::Ready(reads) => self.inspect.seen == Seen::Plan && reads.kept.get(latent) == Some(&false),
            _ => false,
        };
        let frames = frames_of_latent(latent);
        let name = match sum {
            Some(_) if is_skipped => format!("Latent frame {}: skipped by the plan", latent + 1),
            Some(sum) => format!("Latent frame {}: {} % of what the point reads", latent + 1, percent(sum)),
            None => format!("Latent frame {}", latent + 1),
        };
        response.widget_info(|| WidgetInfo::labeled(Role::Button, ui.is_enabled(), &name));
        if response.clicked() {
            self.state.playing = false;
            self.state.go_to(frames.start, source.frames);
        }

        let painter = ui.painter();
        self.cell_picture(ui, place, latent, source);
        // The plan skips nothing of a word.
        if is_skipped && self.inspect.shown_word().is_none() {
            hatch(painter, place, palette);
        }
        if latent == latent_frame(self.state.frame(source.frames)) {
            painter.rect_stroke(place, CornerRadius::same(2), Stroke::new(2.0, palette.accent), StrokeKind::Outside);
        }
        if let Some(highlight) = self.highlight.filter(|highlight| highlight.contains(&latent)) {
            let color = if highlight[0] == latent { palette.accent } else { palette.warning };
            painter.rect_stroke(place.expand(2.0), CornerRadius::same(3), Stroke::new(2.0, color), StrokeKind::Outside);
        }
        let track = Rect::from_min_size(pos2(place.left(), place.bottom() + GAP), vec2(place.width(), BAR_HEIGHT));
        painter.rect_filled(track, CornerRadius::same(2), palette.control);
        if let Some(sum) = sum {
            let largest = self.inspect.sums.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
            let bar = Rect::from_min_size(track.min, vec2(track.width() * (sum / largest) as f32, BAR_HEIGHT));
            painter.rect_filled(bar, CornerRadius::same(2), palette.accent);
            if cells.width >= LEAST_WIDTH_OF_NUMBER {
                let text = if is_skipped { "skipped".to_owned() } else { format!("{} %", percent(sum)) };
                let color = if is_skipped { palette.text_dim } else { palette.text };
                let at = pos2(track.center().x, track.bottom() + NUMBER_HEIGHT / 2.0 + 1.0);
                painter.text(at, Align2::CENTER_CENTER, text, FontId::proportional(11.0), color);
            }
        }
        if response.has_focus() {
            crate::app::icons::focus_ring(painter, whole.expand(1.0), palette);
        }
        let of = if frames.len() == 1 { "frame 1".to_owned() } else { format!("frames {} to {}", frames.start + 1, frames.end) };
        response.on_hover_text(format!("{name}. It holds {of} of the clip; click to go there."));
    }

    /// The frame with its heat, as the picture above has it.
    fn cell_picture(&mut self, ui: &Ui, place: Rect, latent: usize, source: &Source) {
        let palette = Palette::of(ui);
        ui.painter().rect_filled(place, CornerRadius::same(2), palette.control);
        let wanted = source.wanted(self.state.step, self.state.look);
        let Some(pictures) = source.nearest(wanted) else { return };
        let Some(frames) = source.pictures(pictures) else { return };
        let picture = source.picture_at(pictures, middle_frame(latent).min(source.frames - 1));
        if let Some(texture) = self.textures.get(ui.ctx(), source.id, pictures, picture, frames) {
            let uv = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
            ui.painter().image(texture, place, uv, Color32::WHITE);
        }
        self.inspect.heat.paint(ui.painter(), place, latent, self.inspect.opacity);
    }
}

/// Lines over what the plan skips.
fn hatch(painter: &Painter, place: Rect, palette: &Palette) {
    let painter = painter.with_clip_rect(place.intersect(painter.clip_rect()));
    painter.rect_filled(place, CornerRadius::same(2), palette.badge);
    let mut x = place.left() - place.height();
    while x < place.right() {
        painter.line_segment(
            [pos2(x, place.bottom()), pos2(x + place.height(), place.top())],
            Stroke::new(1.0, Color32::from_white_alpha(50)),
        );
        x += 8.0;
    }
}

/// The colours from cold to hot, uploaded once.
fn legend_texture(ui: &Ui) -> TextureHandle {
    let id = eframe::egui::Id::unique("legend of heat");
    if let Some(texture) = ui.data(|data| data.get_temp::<TextureHandle>(id)) {
        return texture;
    }
    let rgb: Vec<u8> = (0..LEGEND_COLOURS).flat_map(|at| colour(at as f32 / (LEGEND_COLOURS - 1) as f32)).collect();
    let image = ColorImage::from_rgb([LEGEND_COLOURS, 1], &rgb);
    let texture = ui.ctx().load_texture("legend of heat", image, TextureOptions::LINEAR);
    ui.data_mut(|data| data.insert_temp(id, texture.clone()));
    texture
}
