//! A picture to draw charts into: areas, lines, marks with soft edges, and words.
//!
//! Everything is given in pixels from the top left, and what lies outside of the picture is left away.

mod glyphs;

use glyphs::{ROWS, columns, is_dark};

use super::Frames;

pub type Colour = [u8; 3];

/// A picture that is being drawn.
pub struct Drawing {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

/// What stands for a point of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Disc,
    Square,
    Diamond,
    Triangle,
    /// A flat bar.
    Bar,
}

impl Drawing {
    pub fn new(width: usize, height: usize, paper: Colour) -> Self {
        Self { width, height, rgb: paper.repeat(width * height) }
    }

    /// The picture as a clip of one frame.
    pub fn into_frames(self) -> Frames {
        Frames { width: self.width, height: self.height, frames_per_second: 1.0, rgb: self.rgb }
    }

    /// Fills an area from the left and top up to, and without, the right and bottom.
    pub fn fill(&mut self, [left, top, right, bottom]: [usize; 4], colour: Colour) {
        for y in top..bottom.min(self.height) {
            for x in left..right.min(self.width) {
                self.blend(x, y, colour, 1.0);
            }
        }
    }

    /// The outermost pixels of an area.
    pub fn outline(&mut self, [left, top, right, bottom]: [usize; 4], colour: Colour) {
        self.fill([left, top, right, top + 1], colour);
        self.fill([left, bottom.saturating_sub(1), right, bottom], colour);
        self.fill([left, top, left + 1, bottom], colour);
        self.fill([right.saturating_sub(1), top, right, bottom], colour);
    }

    /// A straight line of so many pixels in width, with round ends.
    pub fn line(&mut self, from: [f64; 2], to: [f64; 2], width: f64, colour: Colour) {
        let (along, length) = ([to[0] - from[0], to[1] - from[1]], (to[0] - from[0]).hypot(to[1] - from[1]));
        let least = |axis: usize| from[axis].min(to[axis]) - width;
        let most = |axis: usize| from[axis].max(to[axis]) + width;
        self.shape([least(0), least(1), most(0), most(1)], colour, |x, y| {
            let (x, y) = (x - from[0], y - from[1]);
            let share = ((x * along[0] + y * along[1]) / length.powi(2).max(1e-12)).clamp(0.0, 1.0);
            (x - share * along[0]).hypot(y - share * along[1]) - width / 2.0
        });
    }

    /// A line in pieces of `dash` pixels with as much between them.
    pub fn dashed(&mut self, from: [f64; 2], to: [f64; 2], width: f64, dash: f64, colour: Colour) {
        let length = (to[0] - from[0]).hypot(to[1] - from[1]);
        let at = |way: f64| [0, 1].map(|axis| from[axis] + (to[axis] - from[axis]) * way / length);
        let mut way = 0.0;
        while way < length {
            self.line(at(way), at((way + dash).min(length)), width, colour);
            way += 2.0 * dash;
        }
    }

    /// A mark around a place, of about the same area whatever it is.
    pub fn mark(&mut self, mark: Mark, [x, y]: [f64; 2], radius: f64, colour: Colour) {
        let reach = 1.6 * radius + 1.0;
        let area = [x - reach, y - reach, x + reach, y + reach];
        let to_middle = |px: f64, py: f64| (px - x, py - y);
        match mark {
            Mark::Disc => self.shape(area, colour, |px, py| (px - x).hypot(py - y) - radius),
            Mark::Square => self.shape(area, colour, |px, py| {
                let (dx, dy) = to_middle(px, py);
                dx.abs().max(dy.abs()) - 0.89 * radius
            }),
            Mark::Diamond => self.shape(area, colour, |px, py| {
                let (dx, dy) = to_middle(px, py);
                (dx.abs() + dy.abs()) / std::f64::consts::SQRT_2 - 0.89 * radius
            }),
            Mark::Triangle => self.shape(area, colour, |px, py| {
                let (dx, dy) = to_middle(px, py);
                // Upright, its middle a third of its height above the base.
                let slope = 3.0f64.sqrt() / 2.0;
                let base = dy - 0.78 * radius;
                base.max(slope * dx.abs() - 0.5 * dy - 0.78 * radius)
            }),
            Mark::Bar => self.shape(area, colour, |px, py| {
                let (dx, dy) = to_middle(px, py);
                (dx.abs() - 1.2 * radius).max(dy.abs() - 0.35 * radius)
            }),
        }
    }

    /// Words with their top left corner at a place, a letter's point being `scale` pixels wide.
    pub fn text(&mut self, [left, top]: [usize; 2], text: &str, scale: usize, colour: Colour) {
        let mut x = left;
        for letter in text.chars() {
            for &column in columns(letter) {
                for row in (0..ROWS).filter(|&row| is_dark(column, row)) {
                    let y = top + row * scale;
                    self.fill([x, y, x + scale, y + scale], colour);
                }
                x += scale;
            }
            x += scale;
        }
    }

    /// Colours the pixels of an area by the distance to the edge of a shape: negative inside.
    fn shape(&mut self, [left, top, right, bottom]: [f64; 4], colour: Colour, distance: impl Fn(f64, f64) -> f64) {
        if !(left + top + right + bottom).is_finite() {
            return;
        }
        // From floats to whole numbers within the picture: what is below 0 becomes 0.
        for y in top as usize..((bottom.ceil() + 1.0) as usize).min(self.height) {
            for x in left as usize..((right.ceil() + 1.0) as usize).min(self.width) {
                let inside = 0.5 - distance(x as f64 + 0.5, y as f64 + 0.5);
                if inside > 0.0 {
                    self.blend(x, y, colour, inside.min(1.0));
                }
            }
        }
    }

    /// Covers a share of a pixel of the picture.
    fn blend(&mut self, x: usize, y: usize, colour: Colour, share: f64) {
        if x >= self.width || y >= self.height {
            return;
        }
        let at = (y * self.width + x) * 3;
        for (value, new) in self.rgb[at..at + 3].iter_mut().zip(colour) {
            *value = (f64::from(*value) + share * (f64::from(new) - f64::from(*value))).round() as u8;
        }
    }
}

/// Pixels from the left of words to their right.
pub fn text_width(text: &str, scale: usize) -> usize {
    let points: usize = text.chars().map(|letter| columns(letter).len() + 1).sum();
    points.saturating_sub(1) * scale
}

/// Pixels from the top of words to the line that they stand on.
pub fn text_height(scale: usize) -> usize {
    (ROWS - 1) * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAPER: Colour = [255; 3];
    const INK: Colour = [0; 3];

    fn darkness(drawing: Drawing) -> f64 {
        drawing.into_frames().rgb.iter().map(|&value| f64::from(255 - value) / 255.0).sum::<f64>() / 3.0
    }

    #[test]
    fn marks_are_about_equally_large() {
        for mark in [Mark::Disc, Mark::Square, Mark::Diamond, Mark::Triangle] {
            let mut drawing = Drawing::new(40, 40, PAPER);
            drawing.mark(mark, [20.3, 19.6], 9.0, INK);
            let (got, disc) = (darkness(drawing), std::f64::consts::PI * 81.0);
            assert!((got / disc - 1.0).abs() < 0.25, "{mark:?} {got} {disc}");
        }
    }

    #[test]
    fn lines_cover_their_area() {
        let mut drawing = Drawing::new(60, 60, PAPER);
        drawing.line([10.0, 10.0], [40.0, 50.0], 3.0, INK);
        let want = 50.0 * 3.0 + std::f64::consts::PI * 1.5 * 1.5;
        let got = darkness(drawing);
        assert!((got / want - 1.0).abs() < 0.05, "{got} {want}");
        let mut drawing = Drawing::new(100, 9, PAPER);
        drawing.dashed([0.0, 4.5], [100.0, 4.5], 1.0, 5.0, INK);
        assert!((darkness(drawing) - 50.0).abs() < 10.0);
    }

    #[test]
    fn words_are_as_wide_as_they_say_and_nothing_is_drawn_outside() {
        let words = "Mean accuracy, 95 %";
        let mut drawing = Drawing::new(400, 20, PAPER);
        drawing.text([0, 0], words, 2, INK);
        let frames = drawing.into_frames();
        let dark = |x: usize| (0..20).any(|y| frames.rgb[(y * 400 + x) * 3] == 0);
        assert_eq!((0..400).rfind(|&x| dark(x)), Some(text_width(words, 2) - 1));
        let mut small = Drawing::new(4, 4, PAPER);
        small.text([2, 2], words, 3, INK);
        small.mark(Mark::Disc, [-3.0, 9.0], 2.0, INK);
        small.line([-5.0, f64::NAN], [9.0, 9.0], 1.0, INK);
        small.outline([1, 1, 90, 90], INK);
        assert_eq!(small.into_frames().rgb.len(), 48);
    }
}
