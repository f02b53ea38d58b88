//! The page about two clips: how alike they are, frame by frame, what they cost, and how much of the attention was computed.

use eframe::egui::{
    Align2, Color32, CornerRadius, CursorIcon, EventFilter, FontId, Grid, Key, Label, Rangef, Rect, RichText, Role, Sense, Shape,
    Stroke, Ui, WidgetInfo, pos2, vec2,
};

use super::action::Action;
use super::icons;
use super::recipe_page::section;
use super::stage::Comparing;
use super::theme::{self, Palette};
use crate::clip::Comparison;
use crate::mask::MaskPlan;
use crate::studio::words::{self, duration};
use crate::studio::{ClipEntry, ClipId, Cost, Studio, Task};

const PLOT_HEIGHT: f32 = 92.0;
const SCALE_WIDTH: f32 = 38.0;

/// What is found out once for two clips.
struct Found {
    of: [ClipId; 2],
    costs: [Cost; 2],
    figures: Figures,
}

enum Figures {
    Counting(Task<Comparison>),
    Counted(Comparison),
    /// Why there are none.
    None(String),
}

#[derive(Default)]
pub struct ComparePage {
    found: Option<Found>,
}

impl ComparePage {
    /// `frame` is the one in the player.
    pub fn show(&mut self, ui: &mut Ui, studio: &Studio, pair: &Comparing, frame: usize, actions: &mut Vec<Action>) {
        let Comparing { a, b } = pair;
        let (a, b) = (&a.entry, &b.entry);
        let found = self.find(studio, a, b);
        sides(ui, [a, b], found.costs);
        match &found.figures {
            Figures::Counting(_) => {
                ui.add_space(theme::SPACE_SMALL);
                ui.horizontal(|ui| {
                    ui.spinner();
                    ui.label(RichText::new("Comparing the frames").color(Palette::of(ui).text_dim));
                });
            }
            Figures::Counted(comparison) => figures(ui, comparison, frame, actions),
            Figures::None(reason) => {
                ui.add_space(theme::SPACE_SMALL);
                ui.add(Label::new(RichText::new(reason).color(Palette::of(ui).text_dim)).wrap());
            }
        }
    }

    fn find(&mut self, studio: &Studio, a: &ClipEntry, b: &ClipEntry) -> &Found {
        let of = [a.id, b.id];
        let mut found = self.found.take().filter(|found| found.of == of).unwrap_or_else(|| Found {
            of,
            costs: [a, b].map(|clip| studio.cost(clip)),
            figures: studio.compare(a.id, b.id).map_or_else(|error| Figures::None(error.to_string()), Figures::Counting),
        });
        if let Figures::Counting(task) = &found.figures
            && let Some(result) = task.take_result()
        {
            found.figures = result.map_or_else(|error| Figures::None(error.to_string()), Figures::Counted);
        }
        self.found.insert(found)
    }
}

/// What both are, next to each other.
fn sides(ui: &mut Ui, clips: [&ClipEntry; 2], costs: [Cost; 2]) {
    let palette = Palette::of(ui);
    let plans = clips.map(|clip| MaskPlan::from_json(&clip.recipe.mask_plan.to_string()).ok());
    let density =
        |plan: &Option<MaskPlan>| plan.as_ref().map_or("unknown".into(), |plan| format!("{:.1} %", 100.0 * plan.density()));
    let seconds = |seconds: Option<f64>| seconds.map_or("not kept".to_owned(), short_duration);
    let rows: [(&str, &str, [String; 2]); 6] = [
        ("Clip", "Its number in the library", clips.map(|clip| clip.id.0.to_string())),
        ("Mask", "The layers' masks", [0, 1].map(|at| mask_name(plans[at].as_ref()))),
        ("Density", "Share of the tiles that attention computes; counted", [0, 1].map(|at| density(&plans[at]))),
        ("Model", "The model's name", clips.map(|clip| clip.recipe.model.name.clone())),
        ("A step", "Median of the steps without the first; measured", costs.map(|cost| seconds(cost.step_seconds))),
        (
            "Whole run",
            "From the start to the clip in the library, loading included; measured",
            costs.map(|cost| seconds(cost.seconds)),
        ),
    ];
    ui.spacing_mut().interact_size.y = 18.0;
    Grid::new("compared").num_columns(3).spacing([12.0, 4.0]).show(ui, |ui| {
        ui.label("");
        for (name, color) in [("A", palette.accent), ("B", series_color(palette))] {
            ui.label(theme::strong(name).color(color));
        }
        ui.end_row();
        for (name, about, values) in rows {
            ui.label(RichText::new(name).color(palette.text_dim)).on_hover_text(about);
            for value in values {
                ui.add(Label::new(RichText::new(value).color(palette.text_strong)).selectable(true));
            }
            ui.end_row();
        }
    });
    if let Some((ratio, by)) = costs[1].speed_up_over(costs[0]) {
        let text = if ratio >= 1.0 {
            format!("B is {ratio:.2} × as fast as A")
        } else {
            format!("A is {:.2} × as fast as B", 1.0 / ratio)
        };
        ui.add_space(theme::SPACE_TINY);
        ui.horizontal_wrapped(|ui| {
            ui.label(theme::strong(text).color(palette.text_strong));
            ui.label(RichText::new(format!("by {by}")).color(palette.text_dim));
        });
    }
}

fn mask_name(plan: Option<&MaskPlan>) -> String {
    let Some(plan) = plan else { return "unknown".to_owned() };
    let name = words::plan(plan);
    name.split(',').next().unwrap_or_default().to_owned()
}

fn short_duration(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { duration(seconds) }
}

fn figures(ui: &mut Ui, comparison: &Comparison, frame: usize, actions: &mut Vec<Action>) {
    let palette = Palette::of(ui);
    let mean = if comparison.mean_psnr.is_finite() {
        format!("mean {:.2} dB", comparison.mean_psnr)
    } else {
        "every pixel is the same".to_owned()
    };
    section(ui, "PSNR, frame by frame", |ui| {
        ui.label(RichText::new(mean).color(palette.text_strong))
            .on_hover_text("Of the mean squared error of all frames, as ffmpeg");
        let series = Series { name: "PSNR", unit: " dB", digits: 2, values: &comparison.psnr, color: palette.accent };
        plot(ui, &series, frame, actions);
    });
    let Some(ssim) = &comparison.ssim else { return };
    section(ui, "SSIM, frame by frame", |ui| {
        if let Some(mean) = comparison.mean_ssim {
            ui.label(RichText::new(format!("mean {mean:.4}")).color(palette.text_strong)).on_hover_text("1 is equal");
        }
        let series = Series { name: "SSIM", unit: "", digits: 4, values: ssim, color: series_color(palette) };
        plot(ui, &series, frame, actions);
    });
    let about = "A click goes to a frame. Both are those of ffmpeg's filters on RGB; they say how far two clips differ, not which is better.";
    ui.add(Label::new(RichText::new(about).small().color(palette.text_dim)).wrap());
}

/// Apart from the accent for every eye.
fn series_color(palette: &Palette) -> Color32 {
    palette.warning
}

struct Series<'a> {
    name: &'static str,
    unit: &'static str,
    digits: usize,
    values: &'a [f64],
    color: Color32,
}

impl Series<'_> {
    fn text(&self, value: f64) -> String {
        if value.is_finite() { format!("{value:.*}{}", self.digits, self.unit) } else { "equal".to_owned() }
    }

    /// Lowest and highest of the finite values, with room around them.
    fn range(&self) -> (f64, f64) {
        let finite = self.values.iter().copied().filter(|value| value.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return (0.0, 1.0);
        }
        let room = ((high - low) * 0.12).max(high.abs() * 1e-4).max(1e-6);
        (low - room, high + room)
    }
}

/// One value a frame, with the player's frame marked. Frames that are equal have their point at the upper edge.
fn plot(ui: &mut Ui, series: &Series<'_>, frame: usize, actions: &mut Vec<Action>) {
    let palette = Palette::of(ui);
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), PLOT_HEIGHT), Sense::empty());
    let place = rect.with_min_x(rect.left() + SCALE_WIDTH);
    let id = ui.scope_id().with(series.name);
    let response = ui.interact(place, id, Sense::click_and_drag());
    let filter = EventFilter { horizontal_arrows: true, ..EventFilter::default() };
    ui.memory_mut(|memory| memory.set_focus_lock_filter(id, filter));
    let count = series.values.len();
    let frame = frame.min(count.saturating_sub(1));
    let cell = place.width() / count.max(1) as f32;
    let at = |x: f32| (((x - place.left()) / cell).max(0.0) as usize).min(count.saturating_sub(1));
    let (low, high) = series.range();
    let y = |value: f64| {
        let share = if value.is_finite() { ((value - low) / (high - low)) as f32 } else { 1.0 };
        place.bottom() - 3.0 - share * (place.height() - 6.0)
    };
    let point = |frame: usize| pos2(place.left() + (frame as f32 + 0.5) * cell, y(series.values[frame]));

    let painter = ui.painter();
    painter.rect_filled(place, CornerRadius::same(theme::RADIUS_SMALL), palette.raised);
    let font = FontId::proportional(10.5);
    for share in [0.0, 0.5, 1.0] {
        let value = low + (high - low) * share;
        let line = y(value);
        painter.hline(place.x_range(), line, Stroke::new(1.0, palette.line));
        let text = if series.digits > 2 { format!("{value:.3}") } else { format!("{value:.1}") };
        painter.text(pos2(place.left() - 5.0, line), Align2::RIGHT_CENTER, text, font.clone(), palette.text_dim);
    }
    let shown = Rect::from_x_y_ranges(
        Rangef::new(place.left() + frame as f32 * cell, place.left() + (frame + 1) as f32 * cell),
        place.y_range(),
    );
    painter.rect_filled(shown, CornerRadius::same(2), palette.accent.gamma_multiply(0.22));
    if count > 0 {
        painter.add(Shape::line((0..count).map(point).collect(), Stroke::new(2.0, series.color)));
        painter.circle(point(frame), 4.0, series.color, Stroke::new(1.5, palette.raised));
    }
    if response.has_focus() {
        icons::focus_ring(painter, place, palette);
    }

    let said = series.values.get(frame).map_or(String::new(), |&value| series.text(value));
    let name = format!("{} of frame {} of {count}: {said}", series.name, frame + 1);
    response.widget_info(|| WidgetInfo::labeled(Role::Slider, ui.is_enabled(), &name));
    if (response.clicked() || response.dragged())
        && let Some(pointer) = response.interact_pointer_pos()
    {
        actions.push(Action::GoToFrame(at(pointer.x)));
    }
    if response.has_focus() {
        let by = ui.input_mut(|input| {
            let mut presses = |key| input.count_and_consume_key(Default::default(), key) as isize;
            presses(Key::ArrowRight) - presses(Key::ArrowLeft)
        });
        if by != 0 {
            actions.push(Action::GoToFrame(frame.saturating_add_signed(by).min(count.saturating_sub(1))));
        }
    }
    let hovered = response.hover_pos().map(|pointer| at(pointer.x)).filter(|&frame| frame < count);
    let response = response.on_hover_cursor(CursorIcon::PointingHand);
    if let Some(frame) = hovered {
        response.on_hover_text_at_pointer(format!("Frame {}: {}", frame + 1, series.text(series.values[frame])));
    }
}
