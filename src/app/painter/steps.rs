//! The steps of sampling as a row of cells in ranges, one of which is painted: chosen, split, moved and joined.

use eframe::egui::{
    Align2, CornerRadius, DragValue, EventFilter, FontId, Key, Modifiers, Rect, RichText, Role, Sense, Stroke, StrokeKind, Ui,
    WidgetInfo, pos2, vec2,
};

use super::painted::PaintedPlan;
use crate::app::theme::{self, Palette};
use crate::mask::MaskError;

const HEIGHT: f32 = 26.0;
/// Cells have a gap to the next where they are so wide at least.
const LEAST_GAP_WIDTH: f32 = 7.0;

/// Shows the ranges of so many calls; gives what went wrong, if something was changed.
pub fn show(ui: &mut Ui, painted: &mut PaintedPlan, calls: usize) -> Option<Result<(), MaskError>> {
    let mut changed = None;
    ui.horizontal(|ui| {
        let shown = painted.shown();
        ui.label(RichText::new("Steps").color(Palette::of(ui).text_dim));
        let tip = "Splits the shown steps in two; both halves begin with the same masks";
        if ui.add_enabled(painted.can_split(calls), eframe::egui::Button::new("Split")).on_hover_text(tip).clicked() {
            changed = Some(painted.split(calls));
        }
        let is_one = painted.whole().is_for_all_steps();
        let join = ui.add_enabled(!is_one, eframe::egui::Button::new("Join"));
        let tip = "Gives the shown steps to the range before them, or behind them where they are the first";
        if join.on_hover_text(tip).on_disabled_hover_text("All steps have the same masks").clicked() {
            changed = Some(painted.join());
        }
        if shown > 0 && painted.shown() == shown {
            let mut begin = painted.calls_of(shown, calls).start + 1;
            let field = DragValue::new(&mut begin).range(2..=calls).prefix("from step ").update_while_editing(false);
            let response = ui.add(field).on_hover_text("Where the shown steps begin");
            response.widget_info(|| WidgetInfo::labeled(Role::SpinButton, ui.is_enabled(), "First step of the range"));
            if response.changed() {
                changed = Some(painted.begin_at(begin.saturating_sub(1), calls));
            }
        }
    });
    bar(ui, painted, calls);
    changed
}

/// The ranges next to each other, as long as they hold; the fuller, the more tiles they compute.
fn bar(ui: &mut Ui, painted: &mut PaintedPlan, calls: usize) {
    let palette = Palette::of(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), HEIGHT), Sense::click());
    let cell = rect.width() / calls.max(1) as f32;
    let place = |from: usize, to: usize| {
        let (left, right) = (rect.left() + from as f32 * cell, rect.left() + to as f32 * cell);
        Rect::from_min_max(pos2(left, rect.top()), pos2(right, rect.bottom()))
    };
    let count = painted.whole().ranges().count();
    for range in 0..count {
        let steps = painted.calls_of(range, calls);
        if steps.is_empty() {
            continue;
        }
        let density = painted.whole().of_range(range).density();
        let fill = palette.control.lerp_to_gamma(palette.accent_fill, density as f32);
        let gap = if cell >= LEAST_GAP_WIDTH { 1.0 } else { 0.0 };
        for step in steps.clone() {
            let cell = place(step, step + 1).shrink2(vec2(gap, 3.0));
            ui.painter().rect_filled(cell, CornerRadius::same(2), fill);
        }
        let whole = place(steps.start, steps.end);
        let stroke = match range == painted.shown() {
            true => Stroke::new(2.0, palette.accent),
            false => Stroke::new(1.0, palette.line_strong),
        };
        ui.painter().rect_stroke(whole.shrink(0.5), CornerRadius::same(theme::RADIUS_SMALL), stroke, StrokeKind::Inside);
        let text = format!("{:.0} %", 100.0 * density);
        let text = ui.painter().layout_no_wrap(text, FontId::proportional(10.5), palette.text_strong);
        if text.size().x + 8.0 < whole.width() {
            let ground = Align2::CENTER_CENTER.anchor_size(whole.center(), text.size()).expand2(vec2(4.0, 1.0));
            ui.painter().rect_filled(ground, CornerRadius::same(theme::RADIUS_SMALL), palette.raised);
            ui.painter().galley(whole.center() - text.size() / 2.0, text, palette.text_strong);
        }
    }
    if response.clicked()
        && let Some(pointer) = response.interact_pointer_pos()
    {
        let step = (((pointer.x - rect.left()) / cell).max(0.0) as usize).min(calls.saturating_sub(1));
        painted.show(painted.whole().range_of(step, calls));
    }
    if response.has_focus() {
        crate::app::icons::focus_ring(ui.painter(), rect, palette);
        let filter = EventFilter { horizontal_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
        let by = ui.input_mut(|input| {
            let mut presses = |key| input.count_and_consume_key(Modifiers::NONE, key) as isize;
            presses(Key::ArrowRight) - presses(Key::ArrowLeft)
        });
        if by != 0 {
            painted.show(painted.shown().saturating_add_signed(by));
        }
    }
    let said = words(painted, painted.shown(), calls);
    response.widget_info(|| WidgetInfo::labeled(Role::Slider, ui.is_enabled(), format!("Painted steps: {said}")));
    response.on_hover_text("A click, or the arrows, choose the steps whose masks are painted");
}

/// Which steps a range holds for.
pub fn words(painted: &PaintedPlan, range: usize, calls: usize) -> String {
    let steps = painted.calls_of(range, calls);
    match steps.len() {
        _ if painted.whole().is_for_all_steps() => format!("all {calls} steps"),
        0 => "no step".to_owned(),
        1 => format!("step {} of {calls}", steps.end),
        _ => format!("steps {} to {} of {calls}", steps.start + 1, steps.end),
    }
}
