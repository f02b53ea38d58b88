//! Curves as a picture: one panel a curve, one above the other, with the range of both axes.

use crate::clip::Frames;
use crate::clip::drawing::{Colour, Drawing, text_width};

const WIDTH: usize = 720;
const PANEL: usize = 170;
/// Around the area of a panel: left, top, right, bottom.
const MARGINS: [usize; 4] = [14, 25, 14, 21];
/// Pixels of a letter's point.
const LETTER: usize = 2;
const CURVE_WIDTH: f64 = 2.0;

const PAPER: Colour = [255, 255, 255];
const INK: Colour = [40, 44, 52];
const FRAME: Colour = [205, 208, 214];
const CURVE: Colour = [38, 98, 196];

/// A curve over `steps` for every name. One that is positive and spans more than a factor of 20 is drawn by its logarithm.
pub fn plot(steps: &[f64], series: &[(&str, Vec<f64>)]) -> Frames {
    let height = PANEL * series.len().max(1);
    let mut picture = Drawing::new(WIDTH, height, PAPER);
    for (index, (name, values)) in series.iter().enumerate() {
        panel(&mut picture, index * PANEL, name, steps, values);
    }
    picture.into_frames()
}

fn panel(picture: &mut Drawing, top: usize, name: &str, steps: &[f64], values: &[f64]) {
    let [left, above, right, below] = MARGINS;
    let area = [left, top + above, WIDTH - right, top + PANEL - below];
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let is_logarithmic = low > 0.0 && high > 20.0 * low;
    let scale = |value: f64| if is_logarithmic { value.ln() } else { value };
    let last = values.iter().rev().find(|value| value.is_finite()).copied().unwrap_or(f64::NAN);
    let how = if is_logarithmic { " log" } else { "" };
    let title = format!("{name}{how}   {} to {}   now {}", number(low), number(high), number(last));
    picture.text([left, top + 5], &title, LETTER, INK);
    picture.outline(area, FRAME);
    let (Some(&first), Some(&end)) = (steps.first(), steps.last()) else { return };
    let last_step = number(end);
    picture.text([left, area[3] + 4], &number(first), LETTER, INK);
    let end_of_panel = area[2].saturating_sub(text_width(&last_step, LETTER));
    picture.text([end_of_panel, area[3] + 4], &last_step, LETTER, INK);
    if low > high {
        return;
    }
    let place = |step: f64, value: f64| {
        let across = (step - first) / (end - first).max(1e-12);
        let up = (scale(value) - scale(low)) / (scale(high) - scale(low)).max(1e-12);
        let x = area[0] as f64 + 1.0 + across * (area[2] - area[0] - 3) as f64;
        let y = area[3] as f64 - 2.0 - up * (area[3] - area[1] - 4) as f64;
        [x, y]
    };
    let points: Vec<[f64; 2]> =
        steps.iter().zip(values).filter(|(_, value)| value.is_finite()).map(|(&step, &value)| place(step, value)).collect();
    points.windows(2).for_each(|pair| picture.line(pair[0], pair[1], CURVE_WIDTH, CURVE));
}

/// Short, in letters that there are.
fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "none".into()
    } else if size != 0.0 && !(1e-3..1e6).contains(&size) {
        format!("{value:.2e}")
    } else if value.fract() == 0.0 || size >= 1000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_run_from_corner_to_corner() {
        let steps: Vec<f64> = (0..50).map(f64::from).collect();
        let picture = plot(&steps, &[("loss", steps.clone()), ("norm", vec![f64::NAN; 50])]);
        assert_eq!((picture.width, picture.height, picture.count()), (WIDTH, 2 * PANEL, 1));
        let is_curve = |x: usize, y: usize| picture.rgb[(y * WIDTH + x) * 3..][..3] == CURVE;
        let [left, above, right, below] = MARGINS;
        let near = |x: usize, y: usize| (x - 2..x + 3).any(|x| (y - 3..y + 4).any(|y| is_curve(x, y)));
        assert!(near(left + 2, PANEL - below - 3) && near(WIDTH - right - 3, above + 3));
        assert!(!near(left + 2, above + 3));
        // Numbers that are none draw nothing.
        assert!((PANEL..2 * PANEL).all(|y| (0..WIDTH).all(|x| !is_curve(x, y))));
    }
}
