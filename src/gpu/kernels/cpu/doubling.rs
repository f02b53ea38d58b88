//! Doubling of video, and its gradient: each axis has a list of taps, and one gather takes them all.

use rayon::prelude::*;

use super::super::doubling::Doubling;

/// Where a place of the result reads along one axis, and with what weight.
type Taps = Vec<Vec<(usize, f32)>>;

/// The taps of doubling along time, height and width.
pub fn taps([frames, height, width]: [usize; 3], doubling: Doubling) -> [Taps; 3] {
    match doubling {
        Doubling::Nearest => [
            (0..frames).map(|frame| vec![(frame, 1.0)]).collect(),
            (0..2 * height).map(|row| vec![(row / 2, 1.0)]).collect(),
            (0..2 * width).map(|column| vec![(column / 2, 1.0)]).collect(),
        ],
        Doubling::LinearAfterFirstFrame => {
            let after = linear(frames - 1).into_iter();
            let after = after.map(|taps| taps.into_iter().map(|(frame, weight)| (frame + 1, weight)).collect());
            let time = [vec![(0, 1.0)]].into_iter().chain(after).collect();
            [time, linear(height), linear(width)]
        }
    }
}

/// Source position (i + 0.5) / 2 - 0.5: three quarters of the nearest place, a quarter of the next, ends clamped.
fn linear(length: usize) -> Taps {
    let taps = |at: usize| {
        let nearest = at / 2;
        let next = if at.is_multiple_of(2) { nearest.saturating_sub(1) } else { (nearest + 1).min(length - 1) };
        vec![(nearest, 0.75), (next, 0.25)]
    };
    (0..2 * length).map(taps).collect()
}

/// The taps of the way back, to a video of `size`.
pub fn turned(taps: &[Taps; 3], size: [usize; 3]) -> [Taps; 3] {
    std::array::from_fn(|axis| {
        let mut turned = vec![Vec::new(); size[axis]];
        for (to, taps) in taps[axis].iter().enumerate() {
            for &(from, weight) in taps {
                turned[from].push((to, weight));
            }
        }
        turned
    })
}

/// Sums the taps of all axes for every place of the result; `source` is `[batch, frames, height, width, channels]` of `size`.
pub fn gather(
    source: &[f32],
    batch: usize,
    channels: usize,
    [frames, height, width]: [usize; 3],
    [time, rows, columns]: &[Taps; 3],
) -> Vec<f32> {
    let row_length = columns.len() * channels;
    let mut output = vec![0.0; batch * time.len() * rows.len() * row_length];
    output.par_chunks_exact_mut(row_length).enumerate().for_each(|(index, output)| {
        let (clip, t, y) = (index / rows.len() / time.len(), index / rows.len() % time.len(), index % rows.len());
        for &(from_t, share_t) in &time[t] {
            for &(from_y, share_y) in &rows[y] {
                let row = ((clip * frames + from_t) * height + from_y) * width;
                for (pixel, taps) in output.chunks_exact_mut(channels).zip(columns) {
                    for &(from_x, share_x) in taps {
                        let share = share_t * share_y * share_x;
                        let from = &source[(row + from_x) * channels..][..channels];
                        pixel.iter_mut().zip(from).for_each(|(sum, &value)| *sum += share * value);
                    }
                }
            }
        }
    });
    output
}
