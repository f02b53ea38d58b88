//! Tile maps as a picture: cells in colours with what the plan does over them, frame numbers, and the scale.

use super::colours::{Scale, viridis};
use super::{AttentionRecord, TileMap, TileState};
use crate::clip::Frames;

/// One map with its layer's plan.
#[derive(Clone, Debug)]
pub struct Heatmap {
    pub map: TileMap,
    /// Of every tile, as the map.
    pub states: Vec<TileState>,
}

impl AttentionRecord {
    /// The map of a layer, of one head or as the mean of all.
    pub fn heatmap(&self, layer: usize, head: Option<usize>) -> Heatmap {
        Heatmap { map: self.mass(layer, head), states: self.states(layer) }
    }
}

const PAPER: [u8; 3] = [255; 3];
const INK: [u8; 3] = [40, 44, 52];
/// Pixels of a map's side, as near as whole cells come.
const LARGE_MAP: usize = 448;
const SMALL_MAP: usize = 144;
/// Room around maps, and pixels of the scale.
const MARGIN: usize = 24;
const SCALE_WIDTH: usize = 18;
const LABEL_WIDTH: usize = 52;
/// Numbers are drawn as so many pixels for one of a letter.
const LETTER_SIZE: usize = 2;
const LETTER_WIDTH: usize = 4 * LETTER_SIZE;
const LETTER_HEIGHT: usize = 5 * LETTER_SIZE;

/// Maps in reading order with one scale: numbers on the left are query frames, those above key frames. A skipped tile is
/// hatched, one that is computed for a reference frame's sake has a frame in it.
///
/// # Panics
/// There is no map.
pub fn draw(heatmaps: &[Heatmap], scale: Scale) -> Frames {
    let frames = heatmaps[0].map.frames();
    let columns = (heatmaps.len() as f64).sqrt().ceil() as usize;
    let rows = heatmaps.len().div_ceil(columns);
    let cell = (if heatmaps.len() == 1 { LARGE_MAP } else { SMALL_MAP } / frames).max(4);
    let place = cell * frames + MARGIN;
    let (maps_width, maps_height) = (MARGIN + columns * place, MARGIN + rows * place);
    let mut paper = Paper::new(maps_width + SCALE_WIDTH + LABEL_WIDTH + MARGIN, maps_height.max(8 * LETTER_HEIGHT));
    for (index, heatmap) in heatmaps.iter().enumerate() {
        let (left, top) = (MARGIN + index % columns * place, MARGIN + index / columns * place);
        for (tile, (&mass, &state)) in heatmap.map.values().iter().zip(&heatmap.states).enumerate() {
            let corner = [left + tile % frames * cell, top + tile / frames * cell];
            paper.cell(corner, cell, scale.colour(mass), state);
        }
        // Every so many frames have a number, so that none touches the next.
        let every = (3 * LETTER_WIDTH).div_ceil(cell).max(1);
        for frame in (0..frames).step_by(every) {
            let text = frame.to_string();
            let (width, middle) = (text.len() * LETTER_WIDTH, frame * cell + cell / 2);
            paper.text([(left + middle).saturating_sub(width / 2), top - LETTER_HEIGHT - 3], &text);
            paper.text([left - width - 1, (top + middle).saturating_sub(LETTER_HEIGHT / 2)], &text);
        }
    }
    paper.scale([maps_width, MARGIN], maps_height - 2 * MARGIN, scale);
    Frames { width: paper.width, height: paper.height, frames_per_second: 1.0, rgb: paper.rgb }
}

struct Paper {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Paper {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, rgb: PAPER.repeat(width * height) }
    }

    fn dot(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        if x < self.width && y < self.height {
            self.rgb[3 * (y * self.width + x)..][..3].copy_from_slice(&colour);
        }
    }

    /// One tile; a pixel of paper stays between it and its neighbours.
    fn cell(&mut self, [left, top]: [usize; 2], size: usize, colour: [u8; 3], state: TileState) {
        let (side, inset) = (size - 1, size / 10 + 1);
        let is_light = colour.iter().map(|&part| u32::from(part)).sum::<u32>() > 384;
        let line = if is_light { INK } else { PAPER };
        for (x, y) in (0..side * side).map(|at| (at % side, at / side)) {
            let to_edge = x.min(y).min(side - 1 - x).min(side - 1 - y);
            let colour = match state {
                TileState::Skipped if (x + y).is_multiple_of((size / 4).max(4)) => mixed(line, colour),
                TileState::Reference if to_edge == inset => line,
                _ => colour,
            };
            self.dot(left + x, top + y, colour);
        }
    }

    /// The colours from the most (above) to the least, with five numbers.
    fn scale(&mut self, [left, top]: [usize; 2], height: usize, scale: Scale) {
        for y in 0..height {
            let colour = viridis(1.0 - y as f32 / (height - 1) as f32);
            (0..SCALE_WIDTH).for_each(|x| self.dot(left + x, top + y, colour));
        }
        for tick in 0..=4 {
            let y = top + tick * (height - 1) / 4;
            (0..4).for_each(|x| self.dot(left + SCALE_WIDTH + x, y, INK));
            let text = number(scale.mass(1.0 - tick as f32 / 4.0));
            self.text([left + SCALE_WIDTH + 7, y.saturating_sub(LETTER_HEIGHT / 2)], &text);
        }
    }

    /// Digits, points and percent signs.
    fn text(&mut self, [left, top]: [usize; 2], text: &str) {
        for (index, letter) in text.chars().enumerate() {
            let Some((_, rows)) = LETTERS.iter().find(|(known, _)| *known == letter) else { continue };
            for (at, _) in (0..15).map(|at| (at, rows[at / 3] >> (2 - at % 3) & 1)).filter(|(_, on)| *on == 1) {
                for (x, y) in (0..LETTER_SIZE * LETTER_SIZE).map(|dot| (dot % LETTER_SIZE, dot / LETTER_SIZE)) {
                    let column = left + index * LETTER_WIDTH + at % 3 * LETTER_SIZE + x;
                    self.dot(column, top + at / 3 * LETTER_SIZE + y, INK);
                }
            }
        }
    }
}

fn mixed(a: [u8; 3], b: [u8; 3]) -> [u8; 3] {
    std::array::from_fn(|part| ((u16::from(a[part]) + u16::from(b[part])) / 2) as u8)
}

/// A mass in percent, with as many digits as its size is worth.
fn number(mass: f32) -> String {
    let percent = mass * 100.0;
    let digits = if percent == 0.0 || percent >= 10.0 {
        0
    } else if percent >= 0.1 {
        1
    } else {
        3
    };
    format!("{percent:.digits$}%")
}

/// Three dots wide, five high; a row is a number of three bits.
const LETTERS: [(char, [u8; 5]); 12] = [
    ('0', [7, 5, 5, 5, 7]),
    ('1', [2, 6, 2, 2, 7]),
    ('2', [7, 1, 7, 4, 7]),
    ('3', [7, 1, 7, 1, 7]),
    ('4', [5, 5, 7, 1, 1]),
    ('5', [7, 4, 7, 1, 7]),
    ('6', [7, 4, 7, 5, 7]),
    ('7', [7, 1, 1, 2, 2]),
    ('8', [7, 5, 7, 5, 7]),
    ('9', [7, 5, 7, 1, 7]),
    ('.', [0, 0, 0, 0, 2]),
    ('%', [5, 1, 2, 4, 5]),
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Recording;
    use super::*;
    use crate::mask::MaskPlan;

    fn record(layers: usize, frames: usize) -> AttentionRecord {
        let plan = Arc::new(MaskPlan::uniform(layers, frames, &format!("1:{}", frames - 1)).unwrap());
        let mass: Vec<f32> = (0..layers * frames * frames).map(|tile| (tile % frames) as f32 / 100.0).collect();
        let errors = vec![0.0; mass.len()];
        AttentionRecord::new(0, Recording::Exact, plan, 1, &mass, &errors)
    }

    /// The middle of a cell has the colour of its mass; a skipped one has lines in it, a computed one has not.
    #[test]
    fn cells_show_mass_and_state() {
        let record = record(1, 8);
        let heatmap = record.heatmap(0, None);
        let scale = Scale::linear(heatmap.map.largest());
        let picture = draw(std::slice::from_ref(&heatmap), scale);
        assert_eq!(picture.rgb.len(), 3 * picture.width * picture.height);
        let cell = LARGE_MAP / 8;
        let pixels = |tile: usize| {
            let (left, top) = (MARGIN + tile % 8 * cell, MARGIN + tile / 8 * cell);
            let inside = (5..cell - 6).flat_map(move |y| (5..cell - 6).map(move |x| (left + x, top + y)));
            inside.map(|(x, y)| picture.rgb[3 * (y * picture.width + x)..][..3].to_vec()).collect::<Vec<_>>()
        };
        for (tile, state) in heatmap.states.iter().enumerate() {
            let colour = scale.colour(heatmap.map.values()[tile]);
            let pixels = pixels(tile);
            let own = pixels.iter().filter(|pixel| **pixel == colour).count();
            assert_eq!(own == pixels.len(), *state == TileState::Computed, "tile {tile}");
            assert!(own > pixels.len() / 2, "tile {tile}");
        }
        assert!(heatmap.states.contains(&TileState::Skipped) && heatmap.states.contains(&TileState::Computed));
    }

    #[test]
    fn many_layers_and_many_frames_fit() {
        for (layers, frames) in [(12, 8), (32, 24), (2, 1), (1, 300)] {
            let record = record(layers, frames);
            let maps: Vec<Heatmap> = (0..layers).map(|layer| record.heatmap(layer, None)).collect();
            let picture = draw(&maps, Scale::logarithmic(0.5));
            assert_eq!(picture.rgb.len(), 3 * picture.width * picture.height);
            assert!(picture.width < 2600, "{layers} x {frames}: {}", picture.width);
        }
        assert_eq!([0.0, 0.125, 0.05, 0.0004].map(number), ["0%", "12%", "5.0%", "0.040%"]);
    }
}
