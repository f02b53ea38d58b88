//! How a mass becomes a colour.

/// Viridis by Nathaniel Smith and Stéfan van der Walt (matplotlib's default, in the public domain): every tenth of it. Equal
/// steps look equal, also without colours and to people who do not tell red from green.
const VIRIDIS: [[u8; 3]; 11] = [
    [0x44, 0x01, 0x54],
    [0x48, 0x24, 0x75],
    [0x41, 0x44, 0x87],
    [0x35, 0x5f, 0x8d],
    [0x2a, 0x78, 0x8e],
    [0x21, 0x91, 0x8c],
    [0x22, 0xa8, 0x84],
    [0x44, 0xbf, 0x70],
    [0x7a, 0xd1, 0x51],
    [0xbd, 0xdf, 0x26],
    [0xfd, 0xe7, 0x25],
];

/// The colour (sRGB) of a place between the least (0) and the most (1) of a scale.
pub fn viridis(place: f32) -> [u8; 3] {
    let place = if place > 0.0 { place.min(1.0) } else { 0.0 } * (VIRIDIS.len() - 1) as f32;
    let before = (place as usize).min(VIRIDIS.len() - 2);
    let share = place - before as f32;
    let between = |from: u8, to: u8| (f32::from(from) + (f32::from(to) - f32::from(from)) * share).round() as u8;
    std::array::from_fn(|part| between(VIRIDIS[before][part], VIRIDIS[before + 1][part]))
}

/// From a mass to a place of the colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// From 0 to `most`.
    Linear { most: f32 },
    /// From `least` to `most`, each factor as far as the same factor elsewhere; what is less looks as `least`.
    Logarithmic { least: f32, most: f32 },
}

/// Tiles below this share of the largest look alike on a logarithmic scale.
const LOGARITHMIC_REACH: f32 = 1e-3;

impl Scale {
    /// The linear scale up to the largest of some masses.
    pub fn linear(largest: f32) -> Self {
        Self::Linear { most: positive(largest) }
    }

    /// The logarithmic scale over three decades up to the largest of some masses.
    pub fn logarithmic(largest: f32) -> Self {
        Self::Logarithmic { least: positive(largest) * LOGARITHMIC_REACH, most: positive(largest) }
    }

    /// Where a mass lies, from 0 to 1.
    pub fn place(self, mass: f32) -> f32 {
        let place = match self {
            Self::Linear { most } => mass / most,
            Self::Logarithmic { least, most } => (mass.max(least) / least).ln() / (most / least).ln(),
        };
        if place > 0.0 { place.min(1.0) } else { 0.0 }
    }

    /// The mass at a place: the other way round.
    pub fn mass(self, place: f32) -> f32 {
        match self {
            Self::Linear { most } => most * place,
            Self::Logarithmic { least, most } => least * (most / least).powf(place),
        }
    }

    pub fn colour(self, mass: f32) -> [u8; 3] {
        viridis(self.place(mass))
    }
}

/// An all-zero map has a scale too.
fn positive(largest: f32) -> f32 {
    if largest > 0.0 { largest } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CIE L* of an sRGB colour.
    fn lightness([r, g, b]: [f64; 3]) -> f64 {
        let linear = |value: f64| {
            let value = value / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        let y = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
        if y > 216.0 / 24389.0 { 116.0 * y.cbrt() - 16.0 } else { y * 24389.0 / 27.0 }
    }

    /// Equal steps of mass are equal steps of lightness, which is what no kind of colour vision lacks.
    #[test]
    fn colours_grow_evenly_lighter() {
        let steps: Vec<f64> = (0..=20).map(|step| lightness(viridis(step as f32 / 20.0).map(f64::from))).collect();
        let growth: Vec<f64> = steps.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = (steps[20] - steps[0]) / 20.0;
        assert!(growth.iter().all(|growth| (growth / mean - 1.0).abs() < 0.35), "{growth:?}");
        assert!(steps[0] < 20.0 && steps[20] > 88.0, "{steps:?}");
        assert_eq!([viridis(-1.0), viridis(f32::NAN), viridis(2.0)], [VIRIDIS[0], VIRIDIS[0], VIRIDIS[10]]);
    }

    #[test]
    fn scales_go_both_ways() {
        for scale in [Scale::linear(0.5), Scale::logarithmic(0.5), Scale::linear(0.0)] {
            for place in [0.0, 0.25, 1.0] {
                assert!((scale.place(scale.mass(place)) - place).abs() < 1e-5, "{scale:?} {place}");
            }
            assert_eq!([scale.place(-1.0), scale.place(9.0)], [0.0, 1.0]);
        }
        assert_eq!(Scale::logarithmic(0.5).place(0.0), 0.0);
        // A tenth is a third of three decades away.
        assert!((Scale::logarithmic(0.5).place(0.05) - 2.0 / 3.0).abs() < 1e-5);
    }
}
