//! The colours of heat: Inferno of matplotlib (CC0), black over purple and orange to light yellow. Its lightness rises evenly with the
//! value, so it reads the same in grey and under every kind of colour blindness.

/// Every eighth of the 256 published colours, and the last; between them colours are mixed. That is within 2 of 255 of the published
/// ones everywhere.
const POINTS: [[u8; 3]; 33] = [
    [0, 0, 4],
    [4, 3, 18],
    [11, 7, 36],
    [21, 11, 55],
    [33, 12, 74],
    [46, 10, 90],
    [60, 9, 101],
    [74, 12, 107],
    [87, 16, 109],
    [99, 20, 110],
    [112, 25, 110],
    [125, 30, 109],
    [137, 34, 106],
    [150, 39, 102],
    [163, 43, 97],
    [175, 49, 92],
    [187, 55, 85],
    [198, 62, 77],
    [209, 70, 68],
    [219, 79, 59],
    [227, 89, 50],
    [235, 101, 40],
    [241, 113, 30],
    [246, 127, 20],
    [249, 141, 10],
    [251, 156, 6],
    [252, 171, 15],
    [251, 186, 31],
    [249, 202, 50],
    [245, 217, 73],
    [242, 232, 101],
    [243, 245, 134],
    [252, 255, 164],
];

/// The colour of a value from 0 to 1; what lies outside is taken for the end that it is next to.
pub fn colour(value: f32) -> [u8; 3] {
    // What is no number is cold too.
    let value = if value > 0.0 { value.min(1.0) } else { 0.0 };
    let place = value * (POINTS.len() - 1) as f32;
    let point = (place as usize).min(POINTS.len() - 2);
    let share = place - point as f32;
    let mix = |channel: usize| f32::from(POINTS[point][channel]) * (1.0 - share) + f32::from(POINTS[point + 1][channel]) * share;
    [0, 1, 2].map(|channel| mix(channel).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colours_are_the_published_ones() {
        // Taken from matplotlib's table, by their place among its 256.
        let published = [
            (0, [0, 0, 4]),
            (1, [1, 0, 5]),
            (37, [41, 11, 85]),
            (64, [87, 16, 110]),
            (100, [144, 37, 104]),
            (128, [188, 55, 84]),
            (200, [251, 157, 7]),
            (254, [250, 253, 161]),
            (255, [252, 255, 164]),
        ];
        for (place, want) in published {
            let got = colour(place as f32 / 255.0);
            assert!(got.iter().zip(want).all(|(got, want)| got.abs_diff(want) <= 2), "{place}: {got:?}, not {want:?}");
        }
        assert_eq!((colour(-1.0), colour(f32::NAN), colour(7.0)), (POINTS[0], POINTS[0], POINTS[32]));
    }

    #[test]
    fn lightness_rises_evenly() {
        // CIE 1976 lightness of sRGB.
        let lightness = |[r, g, b]: [u8; 3]| {
            let linear = |channel: u8| {
                let value = f64::from(channel) / 255.0;
                if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            };
            let y = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
            if y > 216.0 / 24389.0 { 116.0 * y.cbrt() - 16.0 } else { y * 24389.0 / 27.0 }
        };
        let levels: Vec<f64> = (0..=10).map(|tenth| lightness(colour(tenth as f32 / 10.0))).collect();
        let steps: Vec<f64> = levels.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(steps.iter().all(|step| (6.0..13.0).contains(step)), "{steps:?}");
    }
}
