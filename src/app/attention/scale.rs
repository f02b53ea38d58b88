//! How masses become colours.

/// Below this share the logarithmic scale shows no difference.
const FLOOR: f32 = 1e-3;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scale {
    /// From 0 to the largest mass of the map.
    #[default]
    Linear,
    /// From a thousandth to all.
    Logarithmic,
}

impl Scale {
    pub const ALL: [(Self, &'static str, &'static str); 2] = [
        (Self::Linear, "Linear", "Colours from 0 to the largest tile of this map"),
        (Self::Logarithmic, "Log", "Colours from 0.1 % to 100 %, a factor of ten as far as the next: shows what is small"),
    ];

    /// The place of a mass on the scale, 0 to 1.
    pub fn place(self, mass: f32, largest: f32) -> f32 {
        match self {
            Self::Linear => mass / largest.max(f32::MIN_POSITIVE),
            Self::Logarithmic => 1.0 - mass.max(FLOOR).log10() / FLOOR.log10(),
        }
        .clamp(0.0, 1.0)
    }

    /// Places on the scale with the masses that stand there.
    pub fn marks(self, largest: f32) -> Vec<(f32, f32)> {
        match self {
            Self::Linear => [0.0, 0.5, 1.0].map(|place| (place, place * largest)).to_vec(),
            Self::Logarithmic => [0.001, 0.01, 0.1, 1.0].map(|mass| (self.place(mass, largest), mass)).to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_stand_where_their_masses_are() {
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let marks = scale.marks(0.4);
            assert!(marks.iter().all(|&(place, mass)| (scale.place(mass, 0.4) - place).abs() < 1e-6));
            assert_eq!((marks[0].0, marks[marks.len() - 1].0), (0.0, 1.0));
        }
        assert!((Scale::Logarithmic.place(0.01, 0.4) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(Scale::Logarithmic.place(0.0, 0.4), 0.0);
        assert_eq!(Scale::Linear.place(0.0, 0.0), 0.0);
    }
}
