//! Which scale of colours a map has.

use crate::generate::attention_record::Scale;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ScaleChoice {
    #[default]
    Linear,
    Logarithmic,
}

impl ScaleChoice {
    pub const ALL: [(Self, &'static str, &'static str); 2] = [
        (Self::Linear, "Linear", "Colours from 0 to the largest tile of this map"),
        (Self::Logarithmic, "Log", "Colours over a factor of 1000 up to the largest tile of this map: shows what is small"),
    ];

    pub fn up_to(self, largest: f32) -> Scale {
        match self {
            Self::Linear => Scale::linear(largest),
            Self::Logarithmic => Scale::logarithmic(largest),
        }
    }

    /// The places of the scale that are marked with their masses.
    pub fn marks(self) -> &'static [f32] {
        match self {
            Self::Linear => &[0.0, 0.5, 1.0],
            Self::Logarithmic => &[0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0],
        }
    }
}
