//! The table as one picture: what prompts ask for and get against what it takes, and each attribute by itself.
//!
//! Above, every generated row is a point: the mean accuracy with its interval over the transformer's time for a clip, on a
//! logarithmic axis; real clips, which take none, are dashed lines. Below, each attribute has a column of its own with a point
//! and an interval for every row. Rows are told apart by colour, mark and number, which the list at the right names.

mod axis;
mod labels;
mod legend;

use axis::Axis;

use super::Evaluation;
use super::bootstrap::Estimate;
use crate::clip::Frames;
use crate::clip::drawing::{Colour, Drawing, Mark, text_height, text_width};

const WIDTH: usize = 1200;
/// With few rows.
const HEIGHT: usize = 800;
/// Rows beyond these make the picture taller, up to so many.
const FEW_ROWS: usize = 16;
const MOST_ROWS: usize = 48;

/// Pixels of a letter's point, in words and in the title.
const LETTER: usize = 2;
const TITLE: usize = 3;
const LINE: usize = 22;
/// From the list's left to its names.
const LIST_INDENT: usize = 62;

const PAPER: Colour = [255; 3];
const INK: Colour = [34, 38, 46];
const FAINT: Colour = [112, 118, 130];
const GRID: Colour = [228, 231, 236];
const FRAME: Colour = [176, 181, 190];
const BAND: Colour = [246, 247, 249];
const REAL: [Colour; 3] = [[70, 74, 82], [140, 146, 156], [184, 160, 120]];
/// Told apart by people who see red and green alike (Okabe and Ito 2008, without its yellow).
const COLOURS: [Colour; 8] =
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 95, 160], [86, 180, 233], [230, 159, 0], [126, 78, 52], [90, 70, 190]];
const MARKS: [Mark; 4] = [Mark::Disc, Mark::Square, Mark::Diamond, Mark::Triangle];

/// Where things are, by left, top, right and bottom.
#[derive(Clone, Copy)]
struct Layout {
    height: usize,
    /// The two panels.
    above: [usize; 4],
    below: [usize; 4],
    list: [usize; 4],
}

impl Layout {
    fn of(rows: usize) -> Self {
        let more = (rows.min(MOST_ROWS).saturating_sub(FEW_ROWS)) * LINE;
        Self {
            height: HEIGHT + more,
            above: [72, 98, 800, 414 + more],
            below: [72, 506 + more, 1184, 764 + more],
            list: [822, 98, 1190, 474 + more],
        }
    }
}

/// What the chart shows of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct ChartRow {
    pub name: String,
    pub mean: Estimate,
    pub attributes: Vec<(String, Estimate)>,
    /// Whether a model made the clips.
    pub is_generated: bool,
    pub transformer_seconds: Option<f64>,
}

/// How a row looks.
struct Look {
    colour: Colour,
    mark: Mark,
    /// Of generated rows, from 1.
    number: Option<usize>,
}

impl Evaluation {
    /// The table as a picture, 1200 pixels wide and as high as its rows need, 800 at least.
    pub fn to_chart(&self) -> Frames {
        let rows = self.rows.iter().map(|row| ChartRow {
            name: row.name.clone(),
            mean: row.mean,
            attributes: row.attributes.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect(),
            is_generated: row.made.is_some(),
            transformer_seconds: row.made.as_ref().and_then(|made| made.transformer_seconds),
        });
        let clips = self.rows.iter().find(|row| row.made.is_some()).map_or(0, |row| row.clips);
        chart(&rows.collect::<Vec<_>>(), &format!("{clips} clips a row, 95 % intervals, {}", self.device))
    }
}

/// Rows as a picture, with a line about all of them.
pub fn chart(rows: &[ChartRow], about: &str) -> Frames {
    let layout = Layout::of(rows.len());
    let mut drawing = Drawing::new(WIDTH, layout.height, PAPER);
    drawing.text([20, 14], "How much of what prompts ask for is in the clips, and what it takes", TITLE, INK);
    drawing.text([20, 42], &legend::cut(about, WIDTH - 40, LETTER), LETTER, FAINT);
    let looks = looks(rows);
    list(&mut drawing, layout.list, rows, &looks);
    means(&mut drawing, layout.above, rows, &looks);
    attributes(&mut drawing, layout.below, rows, &looks);
    drawing.into_frames()
}

fn looks(rows: &[ChartRow]) -> Vec<Look> {
    let (mut generated, mut real) = (0, 0);
    rows.iter()
        .map(|row| {
            if row.is_generated {
                let (colour, mark) =
                    (COLOURS[generated % COLOURS.len()], MARKS[(generated + generated / COLOURS.len()) % MARKS.len()]);
                generated += 1;
                Look { colour, mark, number: Some(generated) }
            } else {
                real += 1;
                Look { colour: REAL[(real - 1) % REAL.len()], mark: Mark::Bar, number: None }
            }
        })
        .collect()
}

/// The names at the right.
fn list(drawing: &mut Drawing, [left, top, right, bottom]: [usize; 4], rows: &[ChartRow], looks: &[Look]) {
    let room = (bottom - top) / LINE;
    let shown = if rows.len() > room { room.saturating_sub(1) } else { rows.len() };
    let names: Vec<String> = rows[..shown].iter().map(|row| row.name.clone()).collect();
    let mut y = top;
    for (lines, look) in legend::lines(&names, right - left - LIST_INDENT, LETTER, room).iter().zip(looks) {
        let middle = (y + text_height(LETTER) / 2) as f64;
        if let Some(number) = look.number {
            drawing.mark(look.mark, [(left + 10) as f64, middle], 7.0, look.colour);
            drawing.text([left + 27, y], &number.to_string(), LETTER, INK);
        } else {
            let [from, to] = [left, left + 48].map(|x| [x as f64, middle]);
            drawing.dashed(from, to, 2.5, 6.0, look.colour);
        }
        for line in lines {
            drawing.text([left + LIST_INDENT, y], line, LETTER, INK);
            y += LINE;
        }
    }
    if shown < rows.len() {
        drawing.text([left + LIST_INDENT, y], &format!("and {} more", rows.len() - shown), LETTER, FAINT);
    }
}

/// The grid of an axis of shares, with its names at the left.
fn grid(drawing: &mut Drawing, [left, top, right, bottom]: [usize; 4], axis: &Axis) {
    for (value, name) in axis.ticks() {
        let y = axis.place(value).round() as usize;
        drawing.fill([left, y, right, y + 1], GRID);
        let begin = (left - 8).saturating_sub(text_width(&name, LETTER));
        drawing.text([begin, y.saturating_sub(text_height(LETTER) / 2)], &name, LETTER, FAINT);
    }
    drawing.outline([left, top, right, bottom], FRAME);
}

/// Words above a panel.
fn heading(drawing: &mut Drawing, [left, top, ..]: [usize; 4], text: &str) {
    drawing.text([left, top - 20], text, LETTER, INK);
}

/// Words in the middle of a place, from `top` on.
fn centred(drawing: &mut Drawing, middle: f64, top: usize, text: &str, colour: Colour) {
    let left = (middle - text_width(text, LETTER) as f64 / 2.0).max(0.0) as usize;
    drawing.text([left, top], text, LETTER, colour);
}

/// A point with its interval.
fn point(drawing: &mut Drawing, x: f64, share: Estimate, axis: &Axis, look: &Look, radius: f64) {
    let [low, middle, high] = [share.low, share.mean, share.high].map(|value| axis.place(value));
    drawing.line([x, low], [x, high], 2.0, look.colour);
    drawing.mark(look.mark, [x, middle], radius + 1.5, PAPER);
    drawing.mark(look.mark, [x, middle], radius, look.colour);
}

/// Mean accuracy over the transformer's time.
fn means(drawing: &mut Drawing, panel: [usize; 4], rows: &[ChartRow], looks: &[Look]) {
    let [left, top, right, bottom] = panel;
    let shares = Axis::of_shares(rows.iter().flat_map(|row| [row.mean.low, row.mean.mean]), [bottom as f64, top as f64]);
    heading(drawing, panel, "mean accuracy of the attributes, %");
    grid(drawing, panel, &shares);
    let ends = [left as f64, right as f64];
    let times = Axis::of_times(rows.iter().filter_map(|row| row.transformer_seconds), ends);
    if let Some(times) = &times {
        let mut free_from = 0.0;
        for (value, name) in times.ticks() {
            let x = times.place(value);
            drawing.fill([x as usize, top + 1, x as usize + 1, bottom - 1], GRID);
            let half = text_width(&name, LETTER) as f64 / 2.0;
            if x - half > free_from {
                centred(drawing, x, bottom + 8, &name, FAINT);
                free_from = x + half + 8.0;
            }
        }
    }
    let what = if times.is_some() { "transformer time for a clip, logarithmic" } else { "rows in order: no times were measured" };
    centred(drawing, (left + right) as f64 / 2.0, bottom + 30, what, INK);
    let generated: Vec<(&ChartRow, &Look)> = rows.iter().zip(looks).filter(|(row, _)| row.is_generated).collect();
    for (row, look) in rows.iter().zip(looks).filter(|(row, _)| !row.is_generated && row.mean.mean.is_finite()) {
        let y = shares.place(row.mean.mean);
        drawing.dashed([left as f64 + 2.0, y], [right as f64 - 2.0, y], 2.0, 6.0, look.colour);
    }
    let width_of_one = (right - left) as f64 / generated.len().max(1) as f64;
    let in_order = |place: usize| left as f64 + (place as f64 + 0.5) * width_of_one;
    let across = |place: usize, row: &ChartRow| match &times {
        Some(times) => row.transformer_seconds.map(|seconds| times.place(seconds)),
        None => Some(in_order(place)),
    };
    let (mut points, mut sizes, mut obstacles, mut names) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (place, (row, look)) in generated.into_iter().enumerate() {
        let Some(x) = across(place, row).filter(|x| x.is_finite() && row.mean.mean.is_finite()) else { continue };
        point(drawing, x, row.mean, &shares, look, 7.0);
        let y = shares.place(row.mean.mean);
        let name = look.number.unwrap_or_default().to_string();
        points.push([x, y]);
        sizes.push([text_width(&name, LETTER) as f64 + 6.0, text_height(LETTER) as f64 + 4.0]);
        obstacles.extend([
            [x - 9.0, y - 9.0, x + 9.0, y + 9.0],
            [x - 2.0, shares.place(row.mean.high), x + 2.0, shares.place(row.mean.low)],
        ]);
        names.push(name);
    }
    let bounds = [left, top, right, bottom].map(|edge| edge as f64);
    for ((area, name), &[x, y]) in labels::place(&points, &sizes, &obstacles, bounds).into_iter().zip(names).zip(&points) {
        // Where the label is far from its point, a line leads to it.
        let [near_x, near_y] = [x.clamp(area[0], area[2]), y.clamp(area[1], area[3])];
        let away = (near_x - x).hypot(near_y - y);
        if away > 12.0 {
            let edge = [x + (near_x - x) * 9.0 / away, y + (near_y - y) * 9.0 / away];
            drawing.line(edge, [near_x, near_y], 1.0, FAINT);
        }
        drawing.text([area[0] as usize + 3, area[1] as usize + 2], &name, LETTER, INK);
    }
}

/// Every attribute by itself.
fn attributes(drawing: &mut Drawing, panel: [usize; 4], rows: &[ChartRow], looks: &[Look]) {
    let [left, top, right, bottom] = panel;
    let all = rows.iter().flat_map(|row| row.attributes.iter().flat_map(|(_, share)| [share.low, share.mean]));
    let shares = Axis::of_shares(all, [bottom as f64, top as f64]);
    heading(drawing, panel, "accuracy of each attribute, %");
    let names: Vec<&str> = rows.first().map_or(Vec::new(), |row| row.attributes.iter().map(|(name, _)| name.as_str()).collect());
    let width = (right - left) as f64 / names.len().max(1) as f64;
    for column in (0..names.len()).step_by(2) {
        let [begin, end] = [column, column + 1].map(|column| (left as f64 + column as f64 * width) as usize);
        drawing.fill([begin, top, end, bottom], BAND);
    }
    grid(drawing, panel, &shares);
    // Side by side, but not further apart than it takes to see that they belong together.
    let step = ((width - 20.0) / rows.len().max(1) as f64).min(24.0);
    let radius = (0.42 * step).clamp(2.5, 6.0);
    for (column, name) in names.iter().enumerate() {
        let middle = left as f64 + (column as f64 + 0.5) * width;
        centred(drawing, middle, bottom + 10, name, INK);
        for (place, (row, look)) in rows.iter().zip(looks).enumerate() {
            let Some((_, share)) = row.attributes.get(column).filter(|(_, share)| share.mean.is_finite()) else { continue };
            let x = middle + (place as f64 - (rows.len() - 1) as f64 / 2.0) * step;
            point(drawing, x, *share, &shares, look, radius);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(mean: f64) -> Estimate {
        Estimate { mean, low: mean - 0.03, high: (mean + 0.03).min(1.0) }
    }

    fn rows(generated: usize) -> Vec<ChartRow> {
        let attributes = |mean: f64| ["shape", "colour"].map(|name| (name.to_owned(), estimate(mean))).to_vec();
        let real = ChartRow {
            name: "real clips".into(),
            mean: estimate(0.97),
            attributes: attributes(0.96),
            is_generated: false,
            transformer_seconds: None,
        };
        let of_model = |place: usize| ChartRow {
            name: format!("model {place}"),
            mean: estimate(0.6 + 0.02 * place as f64),
            attributes: attributes(0.5 + 0.02 * place as f64),
            is_generated: true,
            transformer_seconds: Some(0.1 * 1.5f64.powi(place as i32)),
        };
        std::iter::once(real).chain((0..generated).map(of_model)).collect()
    }

    /// Pixels of a colour within an area.
    fn count(frames: &Frames, [left, top, right, bottom]: [usize; 4], colour: Colour) -> usize {
        let of_row = |y: usize| (left..right).filter(|x| frames.rgb[(y * WIDTH + x) * 3..][..3] == colour).count();
        (top..bottom).map(of_row).sum()
    }

    #[test]
    fn every_row_is_in_both_panels_and_in_the_list() {
        for generated in [1, 8] {
            let frames = chart(&rows(generated), "some clips");
            assert_eq!((frames.width, frames.height, frames.count()), (WIDTH, HEIGHT, 1));
            for colour in COLOURS[..generated].iter().chain(&REAL[..1]) {
                let Layout { above, below, list, .. } = Layout::of(generated + 1);
                assert!([above, below, list].iter().all(|&panel| count(&frames, panel, *colour) > 20), "{generated} {colour:?}");
            }
            let unused = COLOURS[generated..].iter().map(|&colour| count(&frames, [0, 0, WIDTH, HEIGHT], colour)).sum::<usize>();
            assert_eq!(unused, 0);
        }
    }

    /// Further right is slower, further up is better.
    #[test]
    fn points_lie_where_their_values_are() {
        let frames = chart(&rows(3), "");
        let middle = |colour: Colour| -> [f64; 2] {
            let [left, top, right, bottom] = Layout::of(4).above;
            let places = (top..bottom).flat_map(|y| (left..right).map(move |x| (x, y)));
            let own: Vec<(usize, usize)> = places.filter(|(x, y)| frames.rgb[(y * WIDTH + x) * 3..][..3] == colour).collect();
            let mean =
                |of: &dyn Fn(&(usize, usize)) -> usize| own.iter().map(|place| of(place) as f64).sum::<f64>() / own.len() as f64;
            [mean(&|place| place.0), mean(&|place| place.1)]
        };
        let [first, second, third] = [0, 1, 2].map(|row| middle(COLOURS[row]));
        assert!(first[0] < second[0] && second[0] < third[0] && first[1] > second[1] && second[1] > third[1]);
        assert!((second[0] - first[0] - (third[0] - second[0])).abs() < 2.0, "equal factors are equally far apart");
    }

    /// The last name of many is in the list, and none is left out.
    #[test]
    fn many_rows_make_the_picture_taller() {
        let all = rows(30);
        let frames = chart(&all, "");
        assert_eq!((frames.width, frames.height), (WIDTH, HEIGHT + (31 - FEW_ROWS) * LINE));
        let [left, top, right, _] = Layout::of(31).list;
        let line = |row: usize| [left + LIST_INDENT, top + row * LINE, right, top + (row + 1) * LINE];
        assert!((0..31).all(|row| count(&frames, line(row), INK) > 20), "every row has its name");
        assert_eq!(count(&frames, line(31), INK) + count(&frames, line(31), FAINT), 0, "and nothing is said of more");
    }

    #[test]
    fn odd_tables_are_drawn_too() {
        let mut odd = rows(30);
        odd[1].mean.mean = f64::NAN;
        odd[2].attributes.clear();
        odd[3].transformer_seconds = Some(0.0);
        odd[4].name = "x".repeat(300);
        odd.iter_mut().skip(9).for_each(|row| row.transformer_seconds = None);
        for rows in [&odd[..], &odd[9..], &[]] {
            assert_eq!(chart(rows, &"y".repeat(500)).rgb.len(), WIDTH * Layout::of(rows.len()).height * 3);
        }
    }
}
