//! RGB to the 4:2:0 planes that video codecs take, and back: BT.709, limited range, chroma sited as in MPEG-2.
//!
//! The conversion is here because the codecs either convert with the constants of BT.601 or not at all, and a player
//! that trusts the BT.709 tag would then show wrong colours. All sums are integers, so every machine writes the same
//! planes.

/// Bits behind the point of the fixed-point constants.
const POINT: u32 = 16;
const HALF: i32 = 1 << (POINT - 1);

/// Rows of the BT.709 matrix for limited range (luma 16..=235, chroma 16..=240), times 2^16.
const LUMA: [i32; 3] = [11_966, 40_254, 4_064];
/// The chroma rows sum to zero, so that grey has no colour at all.
const BLUE_DIFFERENCE: [i32; 3] = [-6_596, -22_188, 28_784];
const RED_DIFFERENCE: [i32; 3] = [28_784, -26_145, -2_639];

/// The inverse, times 2^16.
const FROM_LUMA: i32 = 76_309;
const RED_FROM_RED: i32 = 117_489;
const GREEN_FROM_BLUE: i32 = -13_975;
const GREEN_FROM_RED: i32 = -34_925;
const BLUE_FROM_BLUE: i32 = 138_438;

/// One frame in planes. Chroma planes have half the sides, rounded up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planes {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) luma: Vec<u8>,
    pub(super) blue_difference: Vec<u8>,
    pub(super) red_difference: Vec<u8>,
}

/// A plane to read from: rows of `stride` bytes.
#[derive(Clone, Copy)]
pub(super) struct Plane<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) stride: usize,
}

impl Planes {
    /// Converts `rgb` (`source_width` x `source_height` pixels) to planes of `width` x `height`, which may be larger by
    /// repeating the last column and row.
    ///
    /// Chroma is filtered to sit on the even luma columns, between two rows (MPEG-2, "left"), which is what decoders
    /// assume where a stream says nothing: weights 1 2 1 over columns, 1 1 over rows.
    pub(super) fn from_rgb(rgb: &[u8], (source_width, source_height): (usize, usize), (width, height): (usize, usize)) -> Self {
        let pixel = |column: usize, row: usize| {
            let at = 3 * (row.min(source_height - 1) * source_width + column.min(source_width - 1));
            [i32::from(rgb[at]), i32::from(rgb[at + 1]), i32::from(rgb[at + 2])]
        };
        let mut luma = Vec::with_capacity(width * height);
        for row in 0..height {
            for column in 0..width {
                let sum = dot(LUMA, pixel(column, row));
                luma.push(((sum + HALF) >> POINT) as u8 + 16);
            }
        }
        let chroma_samples = width.div_ceil(2) * height.div_ceil(2);
        let mut blue_difference = Vec::with_capacity(chroma_samples);
        let mut red_difference = Vec::with_capacity(chroma_samples);
        for row in (0..height).step_by(2) {
            for column in (0..width).step_by(2) {
                let mut sum = [0; 3];
                for row in [row, row + 1] {
                    for (column, weight) in [(column.saturating_sub(1), 1), (column, 2), (column + 1, 1)] {
                        let pixel = pixel(column, row);
                        for channel in 0..3 {
                            sum[channel] += weight * pixel[channel];
                        }
                    }
                }
                blue_difference.push(chroma(dot(BLUE_DIFFERENCE, sum)));
                red_difference.push(chroma(dot(RED_DIFFERENCE, sum)));
            }
        }
        Planes { width, height, luma, blue_difference, red_difference }
    }
}

/// A chroma sum of eight pixels to its byte.
fn chroma(sum_of_eight: i32) -> u8 {
    const EIGHTH: u32 = POINT + 3;
    (((sum_of_eight + (1 << (EIGHTH - 1))) >> EIGHTH) + 128).clamp(0, 255) as u8
}

fn dot(row: [i32; 3], pixel: [i32; 3]) -> i32 {
    row[0] * pixel[0] + row[1] * pixel[1] + row[2] * pixel[2]
}

/// Appends the RGB pixels of a frame in planes to `rgb`. Chroma is interpolated between its MPEG-2 sites.
///
/// Returns `None` where a plane is too short for `width` x `height` at its stride.
pub(super) fn append_rgb(
    rgb: &mut Vec<u8>,
    (width, height): (usize, usize),
    luma: Plane<'_>,
    blue_difference: Plane<'_>,
    red_difference: Plane<'_>,
) -> Option<()> {
    let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
    let luma_rows = rows(luma, width, height)?;
    let blue_rows = rows(blue_difference, chroma_width, chroma_height)?;
    let red_rows = rows(red_difference, chroma_width, chroma_height)?;
    rgb.reserve(width * height * 3);
    for (row, luma_row) in luma_rows.into_iter().enumerate() {
        // Chroma rows lie between two luma rows: three quarters of the near one, a quarter of the next.
        let near = row / 2;
        let far = if row % 2 == 0 { near.saturating_sub(1) } else { (near + 1).min(chroma_height - 1) };
        for (column, &luma) in luma_row.iter().enumerate() {
            let left = column / 2;
            let right = (left + column % 2).min(chroma_width - 1);
            let eight_times = |rows: &[&[u8]]| {
                let vertical = |column: usize| 3 * i32::from(rows[near][column]) + i32::from(rows[far][column]);
                vertical(left) + vertical(right) - 8 * 128
            };
            rgb.extend(pixel_from(luma, eight_times(&blue_rows), eight_times(&red_rows)));
        }
    }
    Some(())
}

fn rows<'a>(plane: Plane<'a>, width: usize, height: usize) -> Option<Vec<&'a [u8]>> {
    (0..height)
        .map(|row| {
            let start = row.checked_mul(plane.stride)?;
            plane.bytes.get(start..start.checked_add(width)?)
        })
        .collect()
}

/// One pixel from its luma byte and eight times its chroma (around zero).
fn pixel_from(luma: u8, blue_difference: i32, red_difference: i32) -> [u8; 3] {
    let base = i64::from(FROM_LUMA) * (i64::from(luma) - 16) * 8;
    let channel = |from_blue: i32, from_red: i32| {
        let sum = base + i64::from(from_blue) * i64::from(blue_difference) + i64::from(from_red) * i64::from(red_difference);
        ((sum + (1 << (POINT + 2))) >> (POINT + 3)).clamp(0, 255) as u8
    };
    [channel(0, RED_FROM_RED), channel(GREEN_FROM_BLUE, GREEN_FROM_RED), channel(BLUE_FROM_BLUE, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(pixel: [u8; 3], width: usize, height: usize) -> Planes {
        Planes::from_rgb(&pixel.repeat(width * height), (width, height), (width, height))
    }

    /// ITU-R BT.709, section 3 and 4, in floating point.
    fn reference(pixel: [u8; 3]) -> [f64; 3] {
        let [red, green, blue] = pixel.map(|channel| f64::from(channel) / 255.0);
        let luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
        [16.0 + 219.0 * luma, 128.0 + 224.0 * (blue - luma) / 1.8556, 128.0 + 224.0 * (red - luma) / 1.5748]
    }

    #[test]
    fn the_primaries_have_their_broadcast_values() {
        // The 100 % colour bars of BT.709 as every test generator gives them.
        for (pixel, expected) in [
            ([255, 255, 255], [235, 128, 128]),
            ([255, 255, 0], [219, 16, 138]),
            ([0, 255, 255], [188, 154, 16]),
            ([0, 255, 0], [173, 42, 26]),
            ([255, 0, 255], [78, 214, 230]),
            ([255, 0, 0], [63, 102, 240]),
            ([0, 0, 255], [32, 240, 118]),
            ([0, 0, 0], [16, 128, 128]),
        ] {
            let planes = flat(pixel, 2, 2);
            assert_eq!([planes.luma[0], planes.blue_difference[0], planes.red_difference[0]], expected, "{pixel:?}");
        }
    }

    #[test]
    fn every_colour_is_within_rounding_of_the_standard_and_comes_back() {
        for red in (0..=255u8).step_by(15) {
            for green in (0..=255u8).step_by(15) {
                for blue in (0..=255u8).step_by(15) {
                    let pixel = [red, green, blue];
                    let planes = flat(pixel, 2, 2);
                    let got = [planes.luma[0], planes.blue_difference[0], planes.red_difference[0]];
                    for (got, expected) in got.into_iter().zip(reference(pixel)) {
                        assert!((f64::from(got) - expected).abs() < 0.51, "{pixel:?}: {got} for {expected}");
                    }
                    let mut rgb = Vec::new();
                    let plane = |bytes, stride| Plane { bytes, stride };
                    append_rgb(
                        &mut rgb,
                        (2, 2),
                        plane(&planes.luma, 2),
                        plane(&planes.blue_difference, 1),
                        plane(&planes.red_difference, 1),
                    )
                    .unwrap();
                    for (got, expected) in rgb.iter().zip(pixel.repeat(4)) {
                        assert!(got.abs_diff(expected) <= 2, "{pixel:?} came back as {rgb:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn chroma_sits_on_the_even_columns() {
        // Red left of column 4, blue from there on: the sample at column 4 sees one part red, three parts blue.
        let row: Vec<u8> = (0..8).flat_map(|column| if column < 4 { [255, 0, 0] } else { [0, 0, 255] }).collect();
        let planes = Planes::from_rgb(&row.repeat(2), (8, 2), (8, 2));
        let [_, red_only, _] = reference([255, 0, 0]);
        let [_, blue_only, _] = reference([0, 0, 255]);
        let mixed = red_only / 4.0 + blue_only * 3.0 / 4.0;
        assert_eq!(f64::from(planes.blue_difference[1]), red_only.round());
        assert!((f64::from(planes.blue_difference[2]) - mixed).abs() < 0.51);
        assert_eq!(f64::from(planes.blue_difference[3]), blue_only.round());
    }

    #[test]
    fn odd_sides_repeat_the_edge() {
        let rgb: Vec<u8> = [[0, 0, 0], [255, 255, 255], [0, 0, 0]].concat();
        let planes = Planes::from_rgb(&rgb, (1, 3), (2, 4));
        assert_eq!(planes.luma, [16, 16, 235, 235, 16, 16, 16, 16]);
        assert_eq!(planes.blue_difference.len(), 2);
    }

    #[test]
    fn short_planes_are_refused() {
        let plane = Plane { bytes: &[0; 3], stride: 2 };
        assert!(append_rgb(&mut Vec::new(), (2, 2), plane, plane, plane).is_none());
    }
}
