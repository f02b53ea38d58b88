//! The colours of heatmaps: viridis, which is even to the eye, rises in lightness, and reads the same to the colour-blind.

/// Viridis (Smith and van der Walt, matplotlib, CC0) at 0, 1/16, .. 1.
const VIRIDIS: [[u8; 3]; 17] = [
    [68, 1, 84],
    [72, 24, 106],
    [71, 45, 123],
    [66, 64, 134],
    [59, 82, 139],
    [51, 99, 141],
    [44, 114, 142],
    [38, 130, 142],
    [33, 145, 140],
    [31, 160, 136],
    [40, 174, 128],
    [63, 188, 115],
    [94, 201, 98],
    [132, 212, 75],
    [173, 220, 48],
    [216, 226, 25],
    [253, 231, 37],
];

/// The sRGB colour of a place on the scale, 0 to 1.
pub fn viridis(place: f32) -> [u8; 3] {
    let last = VIRIDIS.len() - 1;
    let at = place.clamp(0.0, 1.0) * last as f32;
    let below = (at as usize).min(last - 1);
    let share = at - below as f32;
    let mix = |channel: usize| {
        let [from, to] = [VIRIDIS[below][channel], VIRIDIS[below + 1][channel]].map(f32::from);
        (from + (to - from) * share).round() as u8
    };
    [mix(0), mix(1), mix(2)]
}
