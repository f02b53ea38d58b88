//! What there is in a clip of the world: the attributes that prompts name and judges read back.

use super::draws::uniform;

/// An attribute with its values, in the order of the judges' classes.
macro_rules! attribute {
    ($(#[$doc:meta])* $name:ident { $($value:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($value),+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$value),+];
            /// The values' names.
            pub const NAMES: &[&str] = &[$($word),+];

            pub fn name(self) -> &'static str {
                Self::NAMES[self.class()]
            }

            /// The place in [`Self::ALL`].
            pub fn class(self) -> usize {
                self as usize
            }
        }
    };
}

attribute!(Shape { Ball = "ball", Cube = "cube", Cylinder = "cylinder", Cone = "cone", Ring = "ring", Diamond = "diamond" });
attribute!(Colour {
    Red = "red",
    Orange = "orange",
    Yellow = "yellow",
    Green = "green",
    Cyan = "cyan",
    Blue = "blue",
    Purple = "purple",
    Pink = "pink",
    White = "white",
});
attribute!(Material { Matte = "matte", Shiny = "shiny" });
attribute!(
    /// Only balls, cylinders and rings roll.
    Motion {
        Bounces = "bounces",
        Spins = "spins",
        RollsLeft = "rolls left",
        RollsRight = "rolls right",
        SlidesLeft = "slides left",
        SlidesRight = "slides right",
        CirclesAround = "circles around",
        Grows = "grows",
        Shrinks = "shrinks",
        FloatsUp = "floats up",
        Swings = "swings",
        StaysStill = "stays still",
    }
);
attribute!(Camera {
    Static = "static",
    ZoomsIn = "zooms in",
    OrbitsLeft = "orbits left",
    OrbitsRight = "orbits right",
    Rises = "rises",
});
attribute!(Ground {
    Grass = "grass",
    Sand = "sand",
    Snow = "snow",
    Checkerboard = "checkerboard",
    Water = "water",
    Wood = "wood",
});
attribute!(Light { Noon = "noon", Sunset = "sunset", Night = "night" });

/// A second, smaller object that stands beside the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Second {
    pub shape: Shape,
    /// Never that of the first object.
    pub colour: Colour,
    pub material: Material,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    pub shape: Shape,
    pub colour: Colour,
    pub material: Material,
    pub motion: Motion,
    pub camera: Camera,
    pub ground: Ground,
    pub light: Light,
    pub second: Option<Second>,
}

/// Share of the clips that have a second object.
const SECOND: f64 = 0.25;

impl Attributes {
    /// Those of a clip of the world.
    pub fn of_clip(seed: u64, clip: u64) -> Self {
        let draw = |draw| uniform(seed, clip, draw);
        let class = |number, classes: usize| ((draw(number) * classes as f64) as usize).min(classes - 1);
        let shape = Shape::ALL[class(0, Shape::ALL.len())];
        let colour = Colour::ALL[class(1, Colour::ALL.len())];
        let other_colour = class(9, Colour::ALL.len() - 1);
        let second = Second {
            shape: Shape::ALL[class(8, Shape::ALL.len())],
            colour: Colour::ALL[other_colour + usize::from(other_colour >= colour.class())],
            material: Material::ALL[class(10, Material::ALL.len())],
        };
        Self {
            shape,
            colour,
            material: Material::ALL[class(2, Material::ALL.len())],
            motion: Motion::ALL[class(3, Motion::ALL.len())].possible_for(shape),
            camera: Camera::ALL[class(4, Camera::ALL.len())],
            ground: Ground::ALL[class(5, Ground::ALL.len())],
            light: Light::ALL[class(6, Light::ALL.len())],
            second: (draw(7) < SECOND).then_some(second),
        }
    }
}

/// The attributes of a clip that prompts ask for and judges read, with the names of their values.
pub const JUDGED: [(&str, &[&str]); 7] = [
    ("shape", Shape::NAMES),
    ("colour", Colour::NAMES),
    ("material", Material::NAMES),
    ("motion", Motion::NAMES),
    ("camera", Camera::NAMES),
    ("ground", Ground::NAMES),
    ("light", Light::NAMES),
];

impl Attributes {
    /// The classes of the first object and its surroundings, in the order of [`JUDGED`].
    pub fn classes(&self) -> [usize; JUDGED.len()] {
        let Self { shape, colour, material, motion, camera, ground, light, .. } = self;
        [shape.class(), colour.class(), material.class(), motion.class(), camera.class(), ground.class(), light.class()]
    }
}

impl Motion {
    /// What does not roll slides.
    pub fn possible_for(self, shape: Shape) -> Self {
        let rolls = matches!(shape, Shape::Ball | Shape::Cylinder | Shape::Ring);
        match self {
            Self::RollsLeft if !rolls => Self::SlidesLeft,
            Self::RollsRight if !rolls => Self::SlidesRight,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_up_about_as_often_as_it_should() {
        let clips: Vec<Attributes> = (0..6000).map(|clip| Attributes::of_clip(11, clip)).collect();
        let even = |name: &str, counts: Vec<usize>| {
            let mean = clips.len() as f64 / counts.len() as f64;
            // Six standard deviations of a binomial count.
            let most = 6.0 * mean.sqrt();
            assert!(counts.iter().all(|&count| (count as f64 - mean).abs() < most), "{name}: {counts:?}");
        };
        let count = |found: &dyn Fn(&Attributes) -> usize, classes: usize| {
            let mut counts = vec![0; classes];
            clips.iter().for_each(|clip| counts[found(clip)] += 1);
            counts
        };
        even("shape", count(&|clip| clip.shape.class(), 6));
        even("colour", count(&|clip| clip.colour.class(), 9));
        even("material", count(&|clip| clip.material.class(), 2));
        even("camera", count(&|clip| clip.camera.class(), 5));
        even("ground", count(&|clip| clip.ground.class(), 6));
        even("light", count(&|clip| clip.light.class(), 3));
        let seconds = clips.iter().filter_map(|clip| Some((clip, clip.second?)));
        assert!(seconds.clone().all(|(clip, second)| second.colour != clip.colour));
        assert!((1300..1700).contains(&seconds.count()));
        let rolling = |motion| matches!(motion, Motion::RollsLeft | Motion::RollsRight);
        assert!(
            clips.iter().all(|clip| !rolling(clip.motion) || !matches!(clip.shape, Shape::Cube | Shape::Cone | Shape::Diamond))
        );
    }
}
