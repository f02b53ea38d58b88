//! Times as pieces of one bar, and what the colours mean.

use eframe::egui::{Color32, CornerRadius, Rangef, Rect, RichText, Role, Sense, Ui, Vec2, WidgetInfo, vec2};

use super::theme::{self, Palette};

const LEAST_GAP: f32 = 1.0;
const SWATCH: f32 = 10.0;

pub struct Piece {
    pub seconds: f64,
    pub color: Color32,
    pub name: String,
    pub about: String,
}

/// A bar as wide as there is room, which stands for `whole` seconds. The piece under the pointer says what it is.
pub fn show(ui: &mut Ui, name: &str, height: f32, pieces: &[Piece], whole: f64) {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width().max(1.0), height), Sense::hover());
    let words: Vec<String> = pieces.iter().map(|piece| format!("{} {:.4} s", piece.name, piece.seconds)).collect();
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, format!("{name}: {}", words.join(", "))));
    let palette = Palette::of(ui);
    let radius = CornerRadius::same(3);
    ui.painter().rect_filled(rect, radius, palette.control);
    let scale = f64::from(rect.width()) / whole.max(f64::MIN_POSITIVE);
    let mut left = rect.left();
    let mut hovered = None;
    for piece in pieces {
        let right = (left + (piece.seconds * scale) as f32).min(rect.right());
        let place = Rect::from_x_y_ranges(Rangef::new(left, right), rect.y_range());
        let gap = if place.width() > 3.0 * LEAST_GAP { LEAST_GAP } else { 0.0 };
        let filled = place.with_max_x(right - gap);
        let at_start = if left <= rect.left() { 3 } else { 0 };
        let at_end = if right >= rect.right() - 0.5 { 3 } else { 0 };
        let corners = CornerRadius { nw: at_start, sw: at_start, ne: at_end, se: at_end };
        ui.painter().rect_filled(filled, corners, piece.color);
        if response.hover_pos().is_some_and(|pointer| place.x_range().contains(pointer.x)) {
            hovered = Some(piece);
        }
        left = right;
    }
    if let Some(piece) = hovered {
        response.on_hover_ui_at_pointer(|ui| {
            ui.label(theme::strong(format!("{}: {:.4} s", piece.name, piece.seconds)));
            if !piece.about.is_empty() {
                ui.label(&piece.about);
            }
        });
    }
}

/// A row a piece: its colour, its name, its seconds, and its share of `whole`.
pub fn legend(ui: &mut Ui, pieces: &[Piece], whole: f64) {
    let palette = Palette::of(ui);
    ui.spacing_mut().item_spacing.y = 2.0;
    ui.spacing_mut().interact_size.y = 17.0;
    for piece in pieces {
        let row = ui.horizontal(|ui| {
            let (rect, _) = ui.allocate_exact_size(Vec2::splat(SWATCH), Sense::hover());
            ui.painter().rect_filled(rect, CornerRadius::same(2), piece.color);
            ui.label(RichText::new(&piece.name).color(palette.text));
            ui.with_layout(eframe::egui::Layout::right_to_left(eframe::egui::Align::Center), |ui| {
                let share = 100.0 * piece.seconds / whole.max(f64::MIN_POSITIVE);
                let (rect, _) = ui.allocate_exact_size(vec2(46.0, 16.0), Sense::empty());
                let font = eframe::egui::FontId::proportional(13.0);
                let align = eframe::egui::Align2::RIGHT_CENTER;
                ui.painter().text(rect.right_center(), align, format!("{share:.1} %"), font, palette.text_dim);
                ui.label(RichText::new(format!("{:.2} s", piece.seconds)).color(palette.text_strong));
            });
        });
        if !piece.about.is_empty() {
            row.response.on_hover_text(&piece.about);
        }
    }
}
