//! Small icons, painted as lines and areas on a grid of 16 x 16, so that they look the same on every system.

use std::f32::consts::{PI, TAU};

use eframe::egui::style::WidgetVisuals;
use eframe::egui::{
    Color32, CornerRadius, Painter, Pos2, Rect, Response, Role, Sense, Shape, Stroke, StrokeKind, Ui, Vec2, WidgetInfo, vec2,
};

use super::theme::{self, Palette};

macro_rules! icons {
    ($($name:ident)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Icon { $($name),* }

        /// All of them, for tests and specimens.
        pub const ALL: &[Icon] = &[$(Icon::$name),*];
    };
}

icons! {
    Play Pause Stop ToStart ToEnd FrameBack FrameForward PlayOnce Loop PingPong
    Step Branch Generate Dice Locked Unlocked Mask Queue Recipe Film Verify
    Heart HeartFilled Bin Undo Redo Refresh Folder Copy Export Import Edit Search Settings
    Inspect Clock Chip Info Warning Check Close Plus Minus Up Down Left Right More Sun Moon
}

/// The side of an icon in a button, in points.
pub const SIZE: f32 = 16.0;

/// A square button with an icon. `name` is what a screen reader says, and stands above `tip` under the pointer.
pub fn icon_button(ui: &mut Ui, icon: Icon, name: &str, tip: &str) -> Response {
    paint_button(ui, icon, name, tip, None, false)
}

/// As [`icon_button`], with a ground of its own: the most used of a row.
pub fn raised_icon_button(ui: &mut Ui, icon: Icon, name: &str, tip: &str) -> Response {
    paint_button(ui, icon, name, tip, None, true)
}

/// As [`icon_button`], for a state that is on or off.
pub fn icon_toggle(ui: &mut Ui, icon: Icon, name: &str, tip: &str, on: bool) -> Response {
    paint_button(ui, icon, name, tip, Some(on), false)
}

fn paint_button(ui: &mut Ui, icon: Icon, name: &str, tip: &str, on: Option<bool>, raised: bool) -> Response {
    let (rect, response) = ui.allocate_exact_size(Vec2::splat(theme::CONTROL_HEIGHT), Sense::click());
    let enabled = ui.is_enabled();
    response.widget_info(|| match on {
        Some(on) => WidgetInfo::selected(Role::Button, enabled, on, name),
        None => WidgetInfo::labeled(Role::Button, enabled, name),
    });
    if ui.is_rect_visible(rect) {
        let palette = Palette::of(ui);
        let (fill, color) = if response.is_pointer_button_down_on() {
            (palette.control_pressed, palette.text_strong)
        } else if on == Some(true) {
            (palette.accent_tint, palette.accent)
        } else if response.hovered() {
            (palette.control_hovered, palette.text_strong)
        } else if raised {
            (palette.control, palette.text_strong)
        } else {
            (Color32::TRANSPARENT, palette.text)
        };
        ui.painter().rect_filled(rect, CornerRadius::same(theme::RADIUS), fill);
        if response.has_focus() {
            focus_ring(ui.painter(), rect, palette);
        }
        let color = if enabled { color } else { ui.visuals().disable(color) };
        paint(ui.painter(), Rect::from_center_size(rect.center(), Vec2::splat(SIZE)), icon, color);
    }
    response.on_hover_ui(|ui| hover_text(ui, name, tip)).on_disabled_hover_text(tip)
}

/// The mark of a drop-down list, for `ComboBox::icon`.
pub fn drop_down(ui: &Ui, rect: Rect, visuals: &WidgetVisuals, _open: bool) {
    let place = Rect::from_center_size(rect.center(), Vec2::splat(12.0));
    paint(ui.painter(), place, Icon::Down, visuals.text_color());
}

fn hover_text(ui: &mut Ui, name: &str, tip: &str) {
    if tip != name {
        ui.label(theme::strong(name));
    }
    ui.label(tip);
}

/// The outline of what has the keyboard's focus.
pub fn focus_ring(painter: &Painter, rect: Rect, palette: &Palette) {
    let stroke = Stroke::new(2.0, palette.accent);
    painter.rect_stroke(rect.shrink(1.0), CornerRadius::same(theme::RADIUS), stroke, StrokeKind::Inside);
}

/// Paints an icon into a square.
pub fn paint(painter: &Painter, rect: Rect, icon: Icon, color: Color32) {
    let scale = rect.width().min(rect.height()) / 16.0;
    let pen = Pen { painter, origin: rect.min, scale, stroke: Stroke::new(1.5 * scale, color) };
    pen.icon(icon);
}

/// Draws in the units of the grid.
struct Pen<'a> {
    painter: &'a Painter,
    origin: Pos2,
    scale: f32,
    stroke: Stroke,
}

type Point = (f32, f32);

impl Pen<'_> {
    fn at(&self, (x, y): Point) -> Pos2 {
        self.origin + vec2(x, y) * self.scale
    }

    fn points(&self, points: &[Point]) -> Vec<Pos2> {
        points.iter().map(|&point| self.at(point)).collect()
    }

    fn line(&self, points: &[Point]) {
        self.painter.add(Shape::line(self.points(points), self.stroke));
    }

    fn closed(&self, points: &[Point]) {
        self.painter.add(Shape::closed_line(self.points(points), self.stroke));
    }

    /// A convex area.
    fn area(&self, points: &[Point]) {
        self.painter.add(Shape::convex_polygon(self.points(points), self.stroke.color, Stroke::NONE));
    }

    fn circle(&self, center: Point, radius: f32) {
        self.painter.circle_stroke(self.at(center), radius * self.scale, self.stroke);
    }

    fn dot(&self, center: Point, radius: f32) {
        self.painter.circle_filled(self.at(center), radius * self.scale, self.stroke.color);
    }

    /// Part of a circle; angles in turns, clockwise from the right.
    fn arc(&self, (x, y): Point, radius: f32, from: f32, to: f32) {
        let pieces = 16;
        let point = |piece: usize| {
            let angle = (from + (to - from) * piece as f32 / pieces as f32) * TAU;
            self.at((x + radius * angle.cos(), y + radius * angle.sin()))
        };
        self.painter.add(Shape::line((0..=pieces).map(point).collect(), self.stroke));
    }

    fn grid_rect(&self, (left, top): Point, (right, bottom): Point) -> Rect {
        Rect::from_min_max(self.at((left, top)), self.at((right, bottom)))
    }

    fn frame(&self, top_left: Point, bottom_right: Point, radius: f32) {
        let rect = self.grid_rect(top_left, bottom_right);
        self.painter.rect_stroke(rect, radius * self.scale, self.stroke, StrokeKind::Middle);
    }

    fn block(&self, top_left: Point, bottom_right: Point, radius: f32) {
        self.painter.rect_filled(self.grid_rect(top_left, bottom_right), radius * self.scale, self.stroke.color);
    }

    fn icon(&self, icon: Icon) {
        match icon {
            Icon::Play => self.area(&[(4.5, 2.5), (13.5, 8.0), (4.5, 13.5)]),
            Icon::Pause => {
                self.block((4.0, 3.0), (6.75, 13.0), 0.75);
                self.block((9.25, 3.0), (12.0, 13.0), 0.75);
            }
            Icon::Stop => self.block((3.5, 3.5), (12.5, 12.5), 1.5),
            Icon::ToStart => {
                self.line(&[(3.5, 3.5), (3.5, 12.5)]);
                self.area(&[(12.5, 3.25), (12.5, 12.75), (5.0, 8.0)]);
            }
            Icon::ToEnd => {
                self.line(&[(12.5, 3.5), (12.5, 12.5)]);
                self.area(&[(3.5, 3.25), (11.0, 8.0), (3.5, 12.75)]);
            }
            Icon::FrameBack => {
                self.line(&[(12.5, 3.5), (12.5, 12.5)]);
                self.line(&[(8.5, 4.0), (4.5, 8.0), (8.5, 12.0)]);
            }
            Icon::FrameForward => {
                self.line(&[(3.5, 3.5), (3.5, 12.5)]);
                self.line(&[(7.5, 4.0), (11.5, 8.0), (7.5, 12.0)]);
            }
            Icon::PlayOnce => {
                self.line(&[(2.0, 8.0), (11.0, 8.0)]);
                self.line(&[(7.75, 4.75), (11.0, 8.0), (7.75, 11.25)]);
                self.line(&[(13.75, 4.0), (13.75, 12.0)]);
            }
            Icon::Loop => {
                self.line(&[(2.5, 7.5), (2.5, 6.5), (3.5, 4.75), (5.0, 4.5), (13.0, 4.5)]);
                self.line(&[(10.75, 2.0), (13.25, 4.5), (10.75, 7.0)]);
                self.line(&[(13.5, 8.5), (13.5, 9.5), (12.5, 11.25), (11.0, 11.5), (3.0, 11.5)]);
                self.line(&[(5.25, 9.0), (2.75, 11.5), (5.25, 14.0)]);
            }
            Icon::PingPong => {
                self.line(&[(2.5, 8.0), (13.5, 8.0)]);
                self.line(&[(5.25, 5.0), (2.25, 8.0), (5.25, 11.0)]);
                self.line(&[(10.75, 5.0), (13.75, 8.0), (10.75, 11.0)]);
            }
            Icon::Step => {
                for (index, radius) in [0.9, 1.5, 2.3].into_iter().enumerate() {
                    self.dot((2.75 + 4.75 * index as f32, 8.0), radius);
                }
            }
            Icon::Branch => {
                self.circle((4.0, 3.75), 1.75);
                self.circle((4.0, 12.25), 1.75);
                self.circle((12.0, 6.0), 1.75);
                self.line(&[(4.0, 5.5), (4.0, 10.5)]);
                self.line(&[(4.0, 10.0), (5.0, 9.0), (10.75, 8.5), (12.0, 7.75)]);
            }
            Icon::Generate => {
                self.star((6.75, 9.0), 5.5, 1.5);
                self.star((12.5, 3.75), 2.75, 0.8);
            }
            Icon::Dice => {
                self.frame((2.5, 2.5), (13.5, 13.5), 2.5);
                for center in [(5.75, 5.75), (10.25, 10.25), (10.25, 5.75), (5.75, 10.25), (8.0, 8.0)] {
                    self.dot(center, 0.95);
                }
            }
            Icon::Locked | Icon::Unlocked => {
                self.frame((3.5, 7.25), (12.5, 13.5), 1.5);
                let center = (8.0, 5.25);
                self.arc(center, 2.75, 0.5, if icon == Icon::Locked { 1.0 } else { 0.93 });
                self.line(&[(5.25, 5.25), (5.25, 7.0)]);
                if icon == Icon::Locked {
                    self.line(&[(10.75, 5.25), (10.75, 7.0)]);
                }
                self.dot((8.0, 10.4), 1.0);
            }
            Icon::Heart => self.closed(&heart()),
            Icon::HeartFilled => {
                self.dot((5.0, 6.0), 3.3);
                self.dot((11.0, 6.0), 3.3);
                self.area(&[(2.55, 8.2), (8.0, 4.6), (13.45, 8.2), (8.0, 13.75)]);
            }
            Icon::Bin => {
                self.line(&[(2.5, 4.25), (13.5, 4.25)]);
                self.line(&[(6.0, 4.0), (6.25, 2.25), (9.75, 2.25), (10.0, 4.0)]);
                self.line(&[(3.75, 4.25), (4.5, 13.75), (11.5, 13.75), (12.25, 4.25)]);
                self.line(&[(6.75, 7.0), (6.75, 11.25)]);
                self.line(&[(9.25, 7.0), (9.25, 11.25)]);
            }
            Icon::Undo => {
                self.line(&[(3.0, 6.0), (9.5, 6.0)]);
                self.arc((9.5, 9.25), 3.25, -0.25, 0.25);
                self.line(&[(9.5, 12.5), (5.5, 12.5)]);
                self.line(&[(6.0, 3.0), (3.0, 6.0), (6.0, 9.0)]);
            }
            Icon::Redo => {
                self.line(&[(13.0, 6.0), (6.5, 6.0)]);
                self.arc((6.5, 9.25), 3.25, 0.75, 0.25);
                self.line(&[(6.5, 12.5), (10.5, 12.5)]);
                self.line(&[(10.0, 3.0), (13.0, 6.0), (10.0, 9.0)]);
            }
            Icon::Refresh => {
                self.arc((8.0, 8.0), 5.25, 0.02, 0.8);
                self.line(&[(10.2, 6.0), (13.6, 6.0), (13.6, 2.6)]);
                self.line(&[(9.6, 2.95), (13.2, 5.8)]);
            }
            Icon::Folder => {
                self.closed(&[(2.0, 12.75), (2.0, 3.5), (6.25, 3.5), (8.0, 5.25), (14.0, 5.25), (14.0, 12.75)]);
            }
            Icon::Copy => {
                self.frame((5.75, 5.75), (13.5, 13.5), 1.5);
                self.line(&[(10.25, 3.25), (10.25, 2.5), (2.5, 2.5), (2.5, 10.25), (3.25, 10.25)]);
            }
            Icon::Export => {
                self.line(&[(8.0, 10.0), (8.0, 2.5)]);
                self.line(&[(5.0, 5.25), (8.0, 2.25), (11.0, 5.25)]);
                self.tray();
            }
            Icon::Import => {
                self.line(&[(8.0, 2.25), (8.0, 9.75)]);
                self.line(&[(5.0, 7.0), (8.0, 10.0), (11.0, 7.0)]);
                self.tray();
            }
            Icon::Queue => {
                for y in [3.75, 8.0, 12.25] {
                    self.line(&[(6.25, y), (13.75, y)]);
                    self.dot((3.0, y), 1.15);
                }
            }
            Icon::Mask => {
                // The pattern of the tiles: the diagonal and a reference row.
                for (column, row) in [(0, 0), (1, 1), (2, 2), (1, 0), (2, 0)] {
                    let (x, y) = (2.25 + 4.0 * column as f32, 2.25 + 4.0 * row as f32);
                    self.block((x, y), (x + 3.4, y + 3.4), 0.8);
                }
                for (column, row) in [(0, 1), (0, 2), (1, 2), (2, 1)] {
                    self.dot((3.95 + 4.0 * column as f32, 3.95 + 4.0 * row as f32), 0.75);
                }
            }
            Icon::Recipe => {
                self.closed(&[(3.25, 2.25), (9.5, 2.25), (12.75, 5.5), (12.75, 13.75), (3.25, 13.75)]);
                self.line(&[(5.75, 7.75), (10.25, 7.75)]);
                self.line(&[(5.75, 10.75), (10.25, 10.75)]);
            }
            Icon::Film => {
                self.frame((2.25, 2.75), (13.75, 13.25), 1.5);
                for y in [5.5, 8.0, 10.5] {
                    self.dot((4.6, y), 0.8);
                    self.dot((11.4, y), 0.8);
                }
                self.area(&[(6.9, 5.75), (10.0, 8.0), (6.9, 10.25)]);
            }
            Icon::Clock => {
                self.circle((8.0, 8.0), 5.75);
                self.line(&[(8.0, 4.75), (8.0, 8.0), (10.25, 9.5)]);
            }
            Icon::Chip => {
                self.frame((4.25, 4.25), (11.75, 11.75), 1.0);
                for offset in [6.25, 9.75] {
                    self.line(&[(offset, 1.75), (offset, 4.0)]);
                    self.line(&[(offset, 12.0), (offset, 14.25)]);
                    self.line(&[(1.75, offset), (4.0, offset)]);
                    self.line(&[(12.0, offset), (14.25, offset)]);
                }
            }
            Icon::Inspect => {
                self.circle((8.0, 8.0), 4.5);
                self.dot((8.0, 8.0), 1.25);
                for (from, to) in
                    [((8.0, 1.0), (8.0, 3.5)), ((8.0, 12.5), (8.0, 15.0)), ((1.0, 8.0), (3.5, 8.0)), ((12.5, 8.0), (15.0, 8.0))]
                {
                    self.line(&[from, to]);
                }
            }
            Icon::Search => {
                self.circle((7.0, 7.0), 4.25);
                self.line(&[(10.1, 10.1), (13.75, 13.75)]);
            }
            Icon::Settings => {
                for (y, knob) in [(4.0, 10.25), (8.0, 5.25), (12.0, 9.0)] {
                    self.line(&[(2.25, y), (13.75, y)]);
                    self.dot((knob, y), 1.9);
                }
            }
            Icon::Edit => {
                self.closed(&[(2.5, 13.5), (3.25, 10.25), (10.75, 2.75), (13.25, 5.25), (5.75, 12.75)]);
                self.line(&[(9.0, 4.5), (11.5, 7.0)]);
            }
            Icon::Verify => {
                let shield = [(8.0, 1.75), (13.25, 3.75), (13.0, 8.5), (11.25, 11.75), (8.0, 14.25)];
                let mirrored = shield.iter().rev().skip(1).rev().skip(1).rev().map(|&(x, y)| (16.0 - x, y));
                let outline: Vec<Point> = shield.iter().copied().chain(mirrored).collect();
                self.closed(&outline);
                self.line(&[(5.5, 7.75), (7.25, 9.5), (10.5, 6.25)]);
            }
            Icon::Info => {
                self.circle((8.0, 8.0), 5.75);
                self.line(&[(8.0, 7.5), (8.0, 11.0)]);
                self.dot((8.0, 5.1), 1.0);
            }
            Icon::Warning => {
                self.closed(&[(8.0, 2.25), (14.25, 13.25), (1.75, 13.25)]);
                self.line(&[(8.0, 6.25), (8.0, 9.25)]);
                self.dot((8.0, 11.25), 0.9);
            }
            Icon::Check => self.line(&[(3.0, 8.5), (6.5, 12.0), (13.0, 4.5)]),
            Icon::Close => {
                self.line(&[(4.0, 4.0), (12.0, 12.0)]);
                self.line(&[(12.0, 4.0), (4.0, 12.0)]);
            }
            Icon::Plus => {
                self.line(&[(8.0, 3.0), (8.0, 13.0)]);
                self.line(&[(3.0, 8.0), (13.0, 8.0)]);
            }
            Icon::Minus => self.line(&[(3.0, 8.0), (13.0, 8.0)]),
            Icon::Up => self.line(&[(3.75, 10.0), (8.0, 5.75), (12.25, 10.0)]),
            Icon::Down => self.line(&[(3.75, 6.0), (8.0, 10.25), (12.25, 6.0)]),
            Icon::Left => self.line(&[(10.0, 3.75), (5.75, 8.0), (10.0, 12.25)]),
            Icon::Right => self.line(&[(6.0, 3.75), (10.25, 8.0), (6.0, 12.25)]),
            Icon::More => {
                for x in [3.5, 8.0, 12.5] {
                    self.dot((x, 8.0), 1.3);
                }
            }
            Icon::Sun => {
                self.circle((8.0, 8.0), 2.75);
                for ray in 0..8 {
                    let (sin, cos) = (ray as f32 * PI / 4.0).sin_cos();
                    self.line(&[(8.0 + 4.75 * cos, 8.0 + 4.75 * sin), (8.0 + 6.25 * cos, 8.0 + 6.25 * sin)]);
                }
            }
            Icon::Moon => {
                // Two circles of radius 5.5, 3.5 apart along the diagonal: the outer arc and the bite.
                self.arc((7.25, 8.75), 5.5, 0.0, 0.75);
                self.arc((11.14, 4.86), 3.89, 0.25, 0.5);
                self.line(&[(12.75, 8.75), (11.14, 8.75)]);
                self.line(&[(7.25, 3.25), (7.25, 4.86)]);
            }
        }
    }

    fn tray(&self) {
        self.line(&[(2.5, 10.0), (2.5, 13.5), (13.5, 13.5), (13.5, 10.0)]);
    }

    /// Four points around a center, as two thin rhombs.
    fn star(&self, (x, y): Point, long: f32, short: f32) {
        self.area(&[(x, y - long), (x + short, y), (x, y + long), (x - short, y)]);
        self.area(&[(x - long, y), (x, y - short), (x + long, y), (x, y + short)]);
    }
}

/// Two lobes and a tip, clockwise from the notch.
fn heart() -> Vec<Point> {
    let lobe = |center: f32, from: f32, to: f32| {
        (0..=8).map(move |piece| {
            let (sin, cos) = ((from + (to - from) * piece as f32 / 8.0) * PI).sin_cos();
            (center + 2.9 * cos, 6.0 + 2.9 * sin)
        })
    };
    let mut points: Vec<Point> = lobe(10.75, 1.12, 2.22).collect();
    points.push((8.0, 13.25));
    points.extend(lobe(5.25, 0.78, 1.88));
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use eframe::egui::{Context, RawInput, pos2};

    /// What an icon paints, without the rest of the screen.
    fn shapes(icon: Icon, rect: Rect) -> Vec<Shape> {
        let mut found = Vec::new();
        Context::default()
            .run_ui(RawInput::default(), |ui| {
                let before = std::cell::Cell::new(0);
                ui.painter().for_each_shape(|_| before.set(before.get() + 1));
                paint(ui.painter(), rect, icon, Color32::WHITE);
                ui.painter().for_each_shape(|shape| found.push(shape.shape.clone()));
                found.drain(..before.get());
            })
            .drop_without_applying_deltas();
        found
    }

    #[test]
    fn every_icon_paints_something_of_its_own_and_stays_inside() {
        let rect = Rect::from_min_size(pos2(20.0, 30.0), vec2(32.0, 32.0));
        let mut seen: Vec<(Icon, String)> = Vec::new();
        for &icon in ALL {
            let shapes = shapes(icon, rect);
            assert!(!shapes.is_empty(), "{icon:?} paints nothing");
            for shape in &shapes {
                let around = shape.visual_bounding_rect();
                assert!(rect.expand(0.01).contains_rect(around), "{icon:?} leaves its square: {around:?}");
            }
            let text = format!("{shapes:?}");
            if let Some((twin, _)) = seen.iter().find(|(_, other)| *other == text) {
                panic!("{icon:?} looks like {twin:?}");
            }
            seen.push((icon, text));
        }
    }
}
