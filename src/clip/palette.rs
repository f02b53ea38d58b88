//! 256 colours for a whole clip, and the dithering that hides that there are only so many.
//!
//! One palette for all frames keeps still areas still: palettes of their own would make every frame shimmer. The palette
//! comes from splitting the colours of the clip where they vary most (median cut by variance, after Wu, "Efficient
//! statistical computations for optimal color quantization", 1991) and is then settled by k-means; the error of every
//! pixel is diffused to its neighbours (Floyd and Steinberg, 1976), in rows that run forth and back.

use std::collections::{BTreeSet, HashMap};

use super::frames::Frames;
use super::progress::{Meter, Stopped};

const MOST_COLOURS: usize = 256;
/// Colours are counted in cells of this many bits a channel.
const CELL_BITS: u32 = 6;
const CELLS: usize = 1 << (3 * CELL_BITS);
const SETTLING_ROUNDS: usize = 4;

type Colour = [u8; 3];

/// Colours of one neighbourhood.
#[derive(Clone, Copy, Default)]
struct Cell {
    count: f64,
    sum: [f64; 3],
}

impl Cell {
    fn mean(&self) -> [f64; 3] {
        self.sum.map(|sum| sum / self.count.max(1.0))
    }
}

/// At most 256 colours, with a quick way to the nearest.
pub(super) struct Palette {
    colours: Vec<Colour>,
    /// The index of every colour where they are all there; then nothing needs dithering.
    exact: Option<HashMap<Colour, u8>>,
    /// The nearest colour to the middle of a cell, found when first asked for.
    nearest: Vec<Option<u8>>,
}

impl Palette {
    /// The palette of all pixels of a clip.
    ///
    /// # Errors
    /// It was stopped.
    pub(super) fn of(frames: &Frames, mut meter: Meter<'_>) -> Result<Self, Stopped> {
        if let Some(colours) = distinct_colours(frames, meter.part(0.0, 0.2))? {
            let exact = (0..=u8::MAX).zip(&colours).map(|(index, &colour)| (colour, index));
            return Ok(Palette { exact: Some(exact.collect()), colours, nearest: Vec::new() });
        }
        let cells = count_cells(frames, meter.part(0.2, 0.4))?;
        let mut centres = split(&cells);
        settle(&mut centres, &cells, meter.part(0.5, 1.0))?;
        let colours = centres.iter().map(|centre| centre.map(|channel| channel.round().clamp(0.0, 255.0) as u8)).collect();
        Ok(Palette { colours, exact: None, nearest: vec![None; CELLS] })
    }

    /// Red, green and blue of every colour, one after the other.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.colours.concat()
    }

    /// The palette index of every pixel of a frame.
    pub(super) fn index_frame(&mut self, rgb: &[u8], width: usize) -> Vec<u8> {
        if let Some(exact) = &self.exact {
            return rgb.as_chunks::<3>().0.iter().map(|pixel| exact.get(pixel).copied().unwrap_or(0)).collect();
        }
        self.dither(rgb, width)
    }

    fn dither(&mut self, rgb: &[u8], width: usize) -> Vec<u8> {
        // Errors are kept in sixteenths; a column of margin at both ends takes what falls off the edge.
        let mut error_here = vec![[0i32; 3]; width + 2];
        let mut error_below = error_here.clone();
        let mut indices = vec![0; rgb.len() / 3];
        for (row, pixels) in rgb.chunks_exact(width * 3).enumerate() {
            let forth = row % 2 == 0;
            for step in 0..width {
                let column = if forth { step } else { width - 1 - step };
                let pixel = &pixels[column * 3..column * 3 + 3];
                let mut wanted = [0; 3];
                for channel in 0..3 {
                    let error = (error_here[column + 1][channel] + 8) >> 4;
                    wanted[channel] = (i32::from(pixel[channel]) + error).clamp(0, 255);
                }
                let index = self.nearest(wanted.map(|channel| channel as u8));
                indices[row * width + column] = index;
                let colour = self.colours[usize::from(index)];
                let (ahead, behind) = if forth { (column + 2, column) } else { (column, column + 2) };
                for channel in 0..3 {
                    let error = wanted[channel] - i32::from(colour[channel]);
                    error_here[ahead][channel] += 7 * error;
                    error_below[behind][channel] += 3 * error;
                    error_below[column + 1][channel] += 5 * error;
                    error_below[ahead][channel] += error;
                }
            }
            std::mem::swap(&mut error_here, &mut error_below);
            error_below.fill([0; 3]);
        }
        indices
    }

    fn nearest(&mut self, colour: Colour) -> u8 {
        let cell = cell_of(colour);
        if let Some(index) = self.nearest[cell] {
            return index;
        }
        // The middle of the cell stands for all of it, whichever of its colours came first.
        let middle = colour.map(|channel| (channel >> (8 - CELL_BITS) << (8 - CELL_BITS)) + 2);
        let distance = |candidate: &Colour| -> i32 {
            (0..3)
                .map(|channel| i32::from(candidate[channel]) - i32::from(middle[channel]))
                .map(|difference| difference * difference)
                .sum()
        };
        let index =
            (0..=u8::MAX).zip(&self.colours).min_by_key(|(_, candidate)| distance(candidate)).map_or(0, |(index, _)| index);
        self.nearest[cell] = Some(index);
        index
    }
}

/// All colours in order, if a palette can hold them.
fn distinct_colours(frames: &Frames, mut meter: Meter<'_>) -> Result<Option<Vec<Colour>>, Stopped> {
    let mut colours = BTreeSet::new();
    for (done, frame) in frames.iter().enumerate() {
        meter.count(done, frames.count())?;
        for &pixel in frame.as_chunks::<3>().0 {
            colours.insert(pixel);
            if colours.len() > MOST_COLOURS {
                return Ok(None);
            }
        }
    }
    Ok(Some(colours.into_iter().collect()))
}

fn cell_of(colour: Colour) -> usize {
    colour.iter().fold(0, |cell, &channel| cell << CELL_BITS | usize::from(channel >> (8 - CELL_BITS)))
}

fn count_cells(frames: &Frames, mut meter: Meter<'_>) -> Result<Vec<Cell>, Stopped> {
    let mut cells = vec![Cell::default(); CELLS];
    for (done, frame) in frames.iter().enumerate() {
        meter.count(done, frames.count())?;
        for &pixel in frame.as_chunks::<3>().0 {
            let cell = &mut cells[cell_of(pixel)];
            cell.count += 1.0;
            for (sum, channel) in cell.sum.iter_mut().zip(pixel) {
                *sum += f64::from(channel);
            }
        }
    }
    cells.retain(|cell| cell.count > 0.0);
    Ok(cells)
}

/// A set of cells that becomes one colour.
struct Group {
    cells: Vec<Cell>,
    /// Squared distance of all pixels from the mean along the channel that varies most.
    variance: f64,
    channel: usize,
    mean: [f64; 3],
}

impl Group {
    fn new(cells: Vec<Cell>) -> Self {
        let mut total = Cell::default();
        for cell in &cells {
            total.count += cell.count;
            for channel in 0..3 {
                total.sum[channel] += cell.sum[channel];
            }
        }
        let mean = total.mean();
        let mut variances = [0.0; 3];
        for cell in &cells {
            for (channel, value) in cell.mean().into_iter().enumerate() {
                variances[channel] += cell.count * (value - mean[channel]).powi(2);
            }
        }
        let channel = (0..3).max_by(|&a, &b| variances[a].total_cmp(&variances[b])).unwrap_or(0);
        Group { cells, variance: variances[channel], channel, mean }
    }
}

/// Splits the group that varies most at its mean until there are enough.
fn split(cells: &[Cell]) -> Vec<[f64; 3]> {
    let mut groups = vec![Group::new(cells.to_vec())];
    while groups.len() < MOST_COLOURS {
        let widest = (0..groups.len()).max_by(|&a, &b| groups[a].variance.total_cmp(&groups[b].variance)).unwrap_or(0);
        if groups[widest].variance <= 0.0 {
            break;
        }
        let group = groups.swap_remove(widest);
        let (low, high): (Vec<Cell>, Vec<Cell>) =
            group.cells.into_iter().partition(|cell| cell.mean()[group.channel] <= group.mean[group.channel]);
        if low.is_empty() || high.is_empty() {
            // Only rounding made it look as if it varied.
            let mut whole = Group::new([low, high].concat());
            whole.variance = 0.0;
            groups.push(whole);
            continue;
        }
        groups.push(Group::new(low));
        groups.push(Group::new(high));
    }
    groups.into_iter().map(|group| group.mean).collect()
}

/// Moves every colour to the mean of the cells nearest to it, a few times.
fn settle(centres: &mut [[f64; 3]], cells: &[Cell], mut meter: Meter<'_>) -> Result<(), Stopped> {
    /// Cells between two looks at the meter: some milliseconds.
    const STRIDE: usize = 4096;
    for round in 0..SETTLING_ROUNDS {
        let mut nearest = vec![Cell::default(); centres.len()];
        for (index, cell) in cells.iter().enumerate() {
            if index % STRIDE == 0 {
                meter.count(round * cells.len() + index, SETTLING_ROUNDS * cells.len())?;
            }
            let mean = cell.mean();
            let distance = |centre: &[f64; 3]| -> f64 { (0..3).map(|channel| (centre[channel] - mean[channel]).powi(2)).sum() };
            let mut best = (f64::INFINITY, 0);
            for (index, centre) in centres.iter().enumerate() {
                let distance = distance(centre);
                if distance < best.0 {
                    best = (distance, index);
                }
            }
            let group = &mut nearest[best.1];
            group.count += cell.count;
            for channel in 0..3 {
                group.sum[channel] += cell.sum[channel];
            }
        }
        for (centre, group) in centres.iter_mut().zip(&nearest) {
            if group.count > 0.0 {
                *centre = group.mean();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::progress::unwatched;
    use super::*;

    fn palette_of(rgb: &[u8], width: usize) -> Palette {
        let frames = Frames { width, height: rgb.len() / width / 3, frames_per_second: 24.0, rgb: rgb.to_vec() };
        Palette::of(&frames, Meter::new(&mut unwatched)).unwrap()
    }

    #[test]
    fn few_colours_are_kept_exactly() {
        let rgb: Vec<u8> = (0..=255u8).flat_map(|value| [value, 255 - value, 7]).collect();
        let mut palette = palette_of(&rgb, 16);
        let bytes = palette.bytes();
        let indices = palette.index_frame(&rgb, 16);
        for (pixel, index) in rgb.chunks(3).zip(indices) {
            let at = usize::from(index) * 3;
            assert_eq!(pixel, &bytes[at..at + 3]);
        }
    }

    #[test]
    fn dithering_keeps_the_mean_of_a_ramp() {
        let (width, height) = (128, 128);
        let rgb: Vec<u8> = (0..width * height)
            .flat_map(|pixel| {
                let (column, row) = (pixel % width, pixel / width);
                [2 * column as u8, 2 * row as u8, (column + row) as u8]
            })
            .collect();
        let mut palette = palette_of(&rgb, width);
        assert_eq!(palette.bytes().len(), 768);
        let bytes = palette.bytes();
        let shown: Vec<u8> = palette
            .index_frame(&rgb, width)
            .into_iter()
            .flat_map(|index| bytes[usize::from(index) * 3..][..3].to_vec())
            .collect();
        // Blocks of 16x16 pixels: what an eye at a distance sees.
        for top in (0..height).step_by(16) {
            for left in (0..width).step_by(16) {
                for channel in 0..3 {
                    let mut difference = 0;
                    for row in top..top + 16 {
                        for column in left..left + 16 {
                            let at = (row * width + column) * 3 + channel;
                            difference += i32::from(rgb[at]) - i32::from(shown[at]);
                        }
                    }
                    let mean = f64::from(difference) / 256.0;
                    assert!(mean.abs() < 2.0, "{left},{top} channel {channel}: {mean}");
                }
            }
        }
    }
}
