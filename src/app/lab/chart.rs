//! A chart of lines and points over two axes, with what lies under the pointer.

use eframe::egui::{Align2, Color32, CornerRadius, FontId, Pos2, Rect, Role, Sense, Shape, Stroke, Ui, WidgetInfo, pos2, vec2};

use crate::app::theme::{self, Palette};

const SCALE_WIDTH: f32 = 52.0;
const FOOT_HEIGHT: f32 = 32.0;
const HEAD_HEIGHT: f32 = 20.0;
const SMALL: f32 = 10.5;
/// A point is under the pointer up to so far away.
const NEAR: f32 = 14.0;
const NOTHING_YET: &str = "What is measured comes here.";
/// On a logarithmic axis more than so many powers of ten below the highest value say nothing.
const MOST_DECADES: f64 = 5.0;

/// One direction of the chart.
pub struct Axis {
    pub name: String,
    /// Values below 0 or at 0 lie at the lower end.
    pub is_logarithmic: bool,
    pub text: fn(f64) -> String,
}

pub struct Line<'a> {
    pub name: &'a str,
    pub points: Vec<(f64, f64)>,
    pub color: Color32,
}

/// A point with a name.
pub struct Mark {
    pub name: String,
    pub at: (f64, f64),
    pub color: Color32,
    /// Drawn larger and full: the one that matters.
    pub is_chosen: bool,
}

pub struct Chart<'a> {
    /// For those who read it aloud.
    pub name: &'a str,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line<'a>>,
    pub marks: Vec<Mark>,
}

/// An axis with the span that is on show.
struct Span {
    low: f64,
    high: f64,
    is_logarithmic: bool,
}

impl Span {
    fn of(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let values = values.filter(|value| value.is_finite() && (!axis.is_logarithmic || *value > 0.0));
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return Self { low: 0.1, high: 1.0, is_logarithmic: axis.is_logarithmic };
        }
        if axis.is_logarithmic {
            let low = low.max(high / 10f64.powf(MOST_DECADES));
            let room = ((high / low).log10() * 0.08).max(0.06);
            return Self { low: low / 10f64.powf(room), high: high * 10f64.powf(room), is_logarithmic: true };
        }
        let room = ((high - low) * 0.05).max(high.abs() * 1e-3).max(1e-9);
        Self { low: low - room, high: high + room, is_logarithmic: false }
    }

    /// 0 at the low end, 1 at the high one.
    fn share(&self, value: f64) -> f32 {
        let share = match self.is_logarithmic {
            true if value <= 0.0 => 0.0,
            true => (value / self.low).log10() / (self.high / self.low).log10(),
            false => (value - self.low) / (self.high - self.low),
        };
        share.clamp(0.0, 1.0) as f32
    }

    /// Round values within, at most about `most`.
    fn ticks(&self, most: usize) -> Vec<f64> {
        if self.is_logarithmic {
            let decades = (self.high / self.low).log10();
            let parts: &[f64] = if decades < 1.2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let from = self.low.log10().floor() as i32;
            let all =
                (from..=self.high.log10().ceil() as i32).flat_map(|power| parts.iter().map(move |part| part * 10f64.powi(power)));
            return all.filter(|tick| (self.low..=self.high).contains(tick)).collect();
        }
        let rough = (self.high - self.low) / most.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|part| part * power).find(|step| *step >= rough).unwrap_or(10.0 * power);
        let first = (self.low / step).ceil() as i64;
        (first..).map(|tick| tick as f64 * step).take_while(|tick| *tick <= self.high).collect()
    }
}

impl Chart<'_> {
    /// Takes the width that is left.
    pub fn show(&self, ui: &mut Ui, height: f32) {
        let palette = Palette::of(ui);
        let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::hover());
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, self.in_words()));
        let place =
            Rect::from_min_max(rect.min + vec2(SCALE_WIDTH, HEAD_HEIGHT), rect.max - vec2(theme::SPACE_TINY, FOOT_HEIGHT));
        let all = || {
            let lines = self.lines.iter().flat_map(|line| line.points.iter().copied());
            lines.chain(self.marks.iter().map(|mark| mark.at))
        };
        let (x, y) = (Span::of(&self.x, all().map(|point| point.0)), Span::of(&self.y, all().map(|point| point.1)));
        let at = |(of_x, of_y): (f64, f64)| {
            pos2(place.left() + x.share(of_x) * place.width(), place.bottom() - y.share(of_y) * place.height())
        };
        ui.painter().rect_filled(place, CornerRadius::same(theme::RADIUS_SMALL), palette.raised);
        // Scales without a value would be made up.
        if all().next().is_none() {
            let font = FontId::proportional(12.0);
            ui.painter().text(place.center(), Align2::CENTER_CENTER, NOTHING_YET, font, palette.text_dim);
            return;
        }
        self.scales(ui, rect, place, (&x, &y));
        let painter = ui.painter_at(place.expand(4.0));
        for line in &self.lines {
            let points: Vec<Pos2> = line.points.iter().filter(|point| point.1.is_finite()).map(|&point| at(point)).collect();
            painter.add(Shape::line(points, Stroke::new(1.8, line.color)));
        }
        // Names, and the disc that would cover them.
        let chosen = self.marks.iter().filter(|mark| mark.is_chosen);
        let mut taken: Vec<Rect> = chosen.map(|mark| Rect::from_center_size(at(mark.at), vec2(16.0, 16.0))).collect();
        for mark in self.marks.iter().filter(|mark| !mark.is_chosen).chain(self.marks.iter().filter(|mark| mark.is_chosen)) {
            let center = at(mark.at);
            match mark.is_chosen {
                true => painter.circle(center, 6.5, mark.color, Stroke::new(2.0, palette.raised)),
                false => painter.circle(center, 4.0, palette.raised, Stroke::new(1.6, mark.color)),
            };
            // The names stay within the chart, and where it is free beside the mark.
            let is_left = center.x > place.center().x;
            let (anchor, away) = if is_left { (Align2::RIGHT_CENTER, -9.0) } else { (Align2::LEFT_CENTER, 9.0) };
            let font = if mark.is_chosen { FontId::new(12.0, theme::strong_family()) } else { FontId::proportional(SMALL) };
            let color = if mark.is_chosen { palette.text_strong } else { palette.text_dim };
            let down = if mark.is_chosen { 9.0 } else { -8.0 };
            let words = painter.layout_no_wrap(mark.name.clone(), font, color);
            let rect_at = |down: f32| anchor.anchor_size(center + vec2(away, down), words.size());
            let is_free = |rect: &Rect| taken.iter().all(|taken| !taken.intersects(*rect));
            let own = [down, -down, 2.5 * down, -2.5 * down].into_iter().map(rect_at).find(is_free).unwrap_or(rect_at(down));
            painter.galley(own.min, words, color);
            taken.push(own);
        }
        self.legend(ui, rect);
        if let Some(pointer) = response.hover_pos()
            && let Some((name, point)) = self.nearest(pointer, &at)
        {
            ui.painter().circle_stroke(at(point), 5.0, Stroke::new(1.5, palette.text_strong));
            let (x, y) = (&self.x, &self.y);
            let text = format!("{name}\n{}: {}\n{}: {}", x.name, (x.text)(point.0), y.name, (y.text)(point.1));
            response.on_hover_text_at_pointer(text);
        }
    }

    fn scales(&self, ui: &Ui, rect: Rect, place: Rect, (x, y): (&Span, &Span)) {
        let (palette, font) = (Palette::of(ui), FontId::proportional(SMALL));
        let painter = ui.painter();
        for tick in y.ticks(5) {
            let line = place.bottom() - y.share(tick) * place.height();
            painter.hline(place.x_range(), line, Stroke::new(1.0, palette.line));
            let text = (self.y.text)(tick);
            painter.text(pos2(place.left() - 5.0, line), Align2::RIGHT_CENTER, text, font.clone(), palette.text_dim);
        }
        for tick in x.ticks(6) {
            let line = place.left() + x.share(tick) * place.width();
            painter.vline(line, place.y_range(), Stroke::new(1.0, palette.line));
            let text = (self.x.text)(tick);
            painter.text(pos2(line, place.bottom() + 4.0), Align2::CENTER_TOP, text, font.clone(), palette.text_dim);
        }
        painter.text(pos2(rect.left(), rect.top()), Align2::LEFT_TOP, &self.y.name, font.clone(), palette.text_dim);
        painter.text(rect.right_bottom(), Align2::RIGHT_BOTTOM, &self.x.name, font, palette.text_dim);
    }

    /// Names of the lines, from the right.
    fn legend(&self, ui: &Ui, rect: Rect) {
        let palette = Palette::of(ui);
        let mut right = rect.right() - theme::SPACE_TINY;
        for line in self.lines.iter().rev() {
            let text = ui.painter().layout_no_wrap(line.name.to_owned(), FontId::proportional(SMALL), palette.text);
            let width = text.size().x;
            ui.painter().galley(pos2(right - width, rect.top()), text, palette.text);
            let dash = [pos2(right - width - 16.0, rect.top() + 7.0), pos2(right - width - 5.0, rect.top() + 7.0)];
            ui.painter().line_segment(dash, Stroke::new(2.5, line.color));
            right -= width + 28.0;
        }
    }

    fn nearest(&self, pointer: Pos2, at: &dyn Fn((f64, f64)) -> Pos2) -> Option<(&str, (f64, f64))> {
        let marks = self.marks.iter().map(|mark| (mark.name.as_str(), mark.at));
        let lines = self.lines.iter().flat_map(|line| line.points.iter().map(|&point| (line.name, point)));
        let distance = |(_, point): &(&str, (f64, f64))| at(*point).distance(pointer);
        let near = marks.chain(lines).filter(|one| distance(one) < NEAR);
        near.min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }

    fn in_words(&self) -> String {
        let marks = self.marks.iter().map(|mark| {
            format!("{}: {} {}, {} {}", mark.name, self.x.name, (self.x.text)(mark.at.0), self.y.name, (self.y.text)(mark.at.1))
        });
        let lines = self.lines.iter().filter_map(|line| {
            let last = line.points.last()?;
            Some(format!("{}: {} at {} {}", line.name, (self.y.text)(last.1), self.x.name, (self.x.text)(last.0)))
        });
        std::iter::once(self.name.to_owned()).chain(marks).chain(lines).collect::<Vec<_>>().join("; ")
    }
}

/// A number with as many digits as say something.
pub fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if v < 1e-3 => format!("{value:.0e}"),
        v if v < 0.1 => format!("{value:.3}").trim_end_matches('0').to_owned(),
        v if v < 1.0 => format!("{value:.2}").trim_end_matches('0').to_owned(),
        v if v < 10.0 => format!("{value:.1}").trim_end_matches(".0").to_owned(),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(low: f64, high: f64, is_logarithmic: bool) -> Span {
        Span { low, high, is_logarithmic }
    }

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(span(0.3, 1.02, false).ticks(6), [0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(span(0.0009, 0.02, true).ticks(6), [0.001, 0.01]);
        assert_eq!(span(0.3, 3.0, true).ticks(6), [0.5, 1.0, 2.0]);
        assert!(span(0.3, 1.02, false).ticks(6).len() <= 8);
    }

    #[test]
    fn places_follow_the_scale() {
        assert_eq!(span(0.01, 1.0, true).share(0.1), 0.5);
        assert_eq!(span(0.01, 1.0, true).share(0.0), 0.0, "no error lies at the lower end");
        assert_eq!(span(2.0, 4.0, false).share(3.0), 0.5);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 0.0004, 0.05, 0.25, 2.0, 2.5, 140.2].map(short), ["0", "4e-4", "0.05", "0.25", "2", "2.5", "140"]);
    }
}
