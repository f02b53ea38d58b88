//! The ruler of steps: denoising from left to right, one cell a step, and the finished clip as the last.

use eframe::egui::{
    Align2, Color32, CornerRadius, CursorIcon, EventFilter, FontId, Painter, Rangef, Rect, Role, Sense, Stroke, StrokeKind, Ui,
    WidgetInfo, lerp, pos2, vec2,
};

use super::ruler::{self, Cells};
use super::source::{Pictures, Source};
use super::state::Look;
use super::{Player, PlayerEvent, keys};
use crate::app::icons;
use crate::app::theme::{self, Palette};

const GAP: f32 = 3.0;
/// From this width on a cell has a picture, and room for its number.
const LEAST_PICTURE_WIDTH: f32 = 44.0;
const TALL: f32 = 52.0;
const LOW: f32 = 28.0;

/// The height of the ruler, for a player of this width.
pub fn height(source: &Source, width: f32) -> f32 {
    let cell = (width - ruler::NAME_WIDTH - ruler::END_WIDTH) / (source.calls + 1) as f32;
    if cell >= LEAST_PICTURE_WIDTH { TALL } else { LOW }
}

impl Player {
    pub(super) fn step_ruler(&mut self, ui: &mut Ui, height: f32, source: &Source, events: &mut Vec<PlayerEvent>) {
        let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::empty());
        let cells = Cells::of(rect, source.calls + 1);
        let id = keys::step_ruler_id(ui);
        let place = Rect::from_x_y_ranges(cells.left..=cells.right(), rect.y_range());
        let response = ui.interact(place, id, Sense::click_and_drag());
        let filter = EventFilter { horizontal_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(id, filter));

        let newest = source.newest_cell();
        if (response.dragged() || response.clicked())
            && let Some(pointer) = response.interact_pointer_pos()
        {
            self.state.show_step(cells.at(pointer.x), newest);
        }
        let shown = self.state.step.map_or(newest, |step| step.min(newest));
        if let Some(asked) = ruler::asked_value(ui, id, shown + 1) {
            self.state.show_step(asked.saturating_sub(1), newest);
        }
        let shown = self.state.step.map_or(newest, |step| step.min(newest));
        response.widget_info(|| WidgetInfo::labeled(Role::Slider, ui.is_enabled(), "Step of denoising"));
        ruler::describe(ui, id, shown + 1, 1, newest + 1, &cell_name(source, shown));

        ruler::name(ui, rect, rect.center().y, "Steps");
        for cell in 0..cells.count {
            self.paint_cell(ui, rect, cells, cell, shown, source, events);
        }
        if response.has_focus() {
            icons::focus_ring(ui.painter(), place.expand(2.0), Palette::of(ui));
        }
        let hovered = response.hover_pos().map(|pointer| cells.at(pointer.x));
        let response = response.on_hover_cursor(CursorIcon::ResizeHorizontal);
        if self.shown_step(source).is_some() || !source.steps.is_empty() {
            response.context_menu(|ui| branch_menu(ui, self.shown_step(source), events));
        }
        if let Some(hovered) = hovered {
            response.on_hover_text_at_pointer(cell_text(source, hovered));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a painting of one cell, called once")]
    fn paint_cell(
        &mut self,
        ui: &Ui,
        rect: Rect,
        cells: Cells,
        cell: usize,
        shown: usize,
        source: &Source,
        events: &mut Vec<PlayerEvent>,
    ) {
        let palette = Palette::of(ui);
        let painter = ui.painter();
        let gap = GAP.min(cells.width / 4.0);
        let x = Rangef::new(cells.start(cell) + gap / 2.0, cells.start(cell + 1) - gap / 2.0);
        let with_picture = rect.height() >= TALL;
        let selected = cell == shown && (source.complete || !source.steps.is_empty());
        // Low cells leave room for the one that stands out.
        let margin = if with_picture || selected { 0.0 } else { 3.0 };
        let place = Rect::from_x_y_ranges(x, rect.y_range().shrink(margin));
        let is_clip = cell == source.calls;
        let done = if is_clip { source.complete } else { cell < source.steps.len() };
        let radius = CornerRadius::same(if x.span() > 8.0 { theme::RADIUS_SMALL } else { 1 });

        painter.rect_filled(place, radius, if done { palette.control_hovered } else { palette.control });
        if done && with_picture {
            self.paint_thumbnail(ui, place, cell, source, events);
        } else if done {
            let color = if selected { palette.accent } else { tone(palette, cell, source.calls) };
            painter.rect_filled(place, radius, color);
        }
        if with_picture {
            let text = if is_clip { "Clip".to_owned() } else { (cell + 1).to_string() };
            number(painter, place, &text, done, palette);
        }
        if selected && with_picture {
            painter.rect_stroke(place, radius, Stroke::new(2.0, palette.accent), StrokeKind::Outside);
        } else if source.generating && cell == source.steps.len() {
            // The step in work.
            painter.rect_stroke(place, radius, Stroke::new(1.0, palette.line_strong), StrokeKind::Inside);
        }
    }

    /// The middle of the clip as it was after this step, which stays the same while the clip plays.
    fn paint_thumbnail(&mut self, ui: &Ui, place: Rect, cell: usize, source: &Source, events: &mut Vec<PlayerEvent>) {
        let pictures = if cell == source.calls { Pictures::Finished } else { Pictures::Step(cell, Look::Projection) };
        let Some(frames) = source.pictures(pictures) else {
            events.push(PlayerEvent::Want(pictures));
            return;
        };
        let picture = source.picture_at(pictures, source.frames / 2);
        let Some(texture) = self.textures.get(ui.ctx(), source.id, pictures, picture, frames) else { return };
        // The middle part that has the shape of the cell.
        let shape = vec2(place.width() / source.width.max(1) as f32, place.height() / source.height.max(1) as f32);
        let part = shape / shape.max_elem();
        let uv = Rect::from_center_size(pos2(0.5, 0.5), part);
        let image = eframe::egui::epaint::RectShape::filled(place, CornerRadius::same(theme::RADIUS_SMALL), Color32::WHITE);
        ui.painter().add(image.with_texture(texture, uv));
    }
}

fn branch_menu(ui: &mut Ui, step: Option<usize>, events: &mut Vec<PlayerEvent>) {
    let text = step.map_or("Branch from a step".to_owned(), |step| format!("Branch from step {}", step + 1));
    let tip = "Go on from here with another prompt, seed or mask";
    let none = "Choose a step before the clip first";
    if ui.add_enabled(step.is_some(), eframe::egui::Button::new(text)).on_hover_text(tip).on_disabled_hover_text(none).clicked() {
        events.extend(step.map(PlayerEvent::BranchFrom));
        ui.close();
    }
}

/// A cell without a picture: from the grey of noise to the accent.
fn tone(palette: &Palette, cell: usize, calls: usize) -> Color32 {
    let share = (cell + 1) as f32 / (calls + 1) as f32;
    palette.line_strong.lerp_to_gamma(palette.accent_fill, lerp(0.0..=1.0, share))
}

/// The number of a cell in its corner.
fn number(painter: &Painter, place: Rect, text: &str, done: bool, palette: &Palette) {
    let font = FontId::new(10.5, theme::strong_family());
    if done {
        let galley = painter.layout_no_wrap(text.to_owned(), font, palette.on_badge);
        let size = galley.size() + vec2(8.0, 2.0);
        let ground = Align2::LEFT_BOTTOM.anchor_size(place.left_bottom() + vec2(3.0, -3.0), size);
        painter.rect_filled(ground, CornerRadius::same(3), palette.badge);
        painter.galley(ground.min + vec2(4.0, 1.0), galley, palette.on_badge);
    } else {
        painter.text(place.center(), Align2::CENTER_CENTER, text, font, palette.text_dim);
    }
}

fn cell_name(source: &Source, cell: usize) -> String {
    if cell == source.calls { "Finished clip".to_owned() } else { format!("Step {} of {}", cell + 1, source.calls) }
}

fn cell_text(source: &Source, cell: usize) -> String {
    let name = cell_name(source, cell);
    if cell == source.calls {
        return if source.complete { name } else { format!("{name}: after the last step") };
    }
    let done = cell < source.steps.len();
    if done {
        format!("{name}: the clip as the model expected it then. Drag here, or press [ and ].")
    } else {
        format!("{name}: still to come")
    }
}
