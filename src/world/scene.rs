//! A clip of the world as numbers: its attributes and everything about it that no word says.

use super::attributes::{Attributes, Colour, Light};
use super::draws::uniform;

/// Frames of a clip, at [`FRAMES_PER_SECOND`].
pub const FRAMES: usize = 29;
pub const FRAMES_PER_SECOND: f64 = 24.0;

/// One clip. Lengths are in radii of an object, about; angles in radians; x points to the right of the screen, y up, and the
/// camera stands at positive z.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scene {
    pub attributes: Attributes,
    pub size: f32,
    pub place: [f32; 2],
    pub yaw: f32,
    /// Where in its motion the first object begins, 0 to 1.
    pub phase: f32,
    /// Of its motion, around 1.
    pub amplitude: f32,
    pub second_size: f32,
    pub second_place: [f32; 2],
    pub second_yaw: f32,
    pub camera_azimuth: f32,
    pub camera_distance: f32,
    pub camera_elevation: f32,
    /// Of the camera's motion, around 1.
    pub camera_amplitude: f32,
    pub ground_offset: [f32; 2],
    /// Towards the sun or the moon, of length 1.
    pub light_direction: [f32; 3],
    /// Where the hills begin.
    pub hills: f32,
}

impl Scene {
    /// That of a clip of the world.
    pub fn of_clip(seed: u64, clip: u64) -> Self {
        Self::with_attributes(seed, clip, Attributes::of_clip(seed, clip))
    }

    /// As a clip of the world, but with these attributes.
    #[expect(clippy::approx_constant, reason = "the recipe's hills begin anywhere below 6.28, not below a full turn")]
    pub fn with_attributes(seed: u64, clip: u64, attributes: Attributes) -> Self {
        let within = |draw, low: f64, high: f64| low + (high - low) * uniform(seed, clip, draw);
        let side = |draw| if uniform(seed, clip, draw) < 0.5 { -1.0 } else { 1.0 };
        let azimuth = side(37) * within(38, 0.55, 0.95);
        let elevation = match attributes.light {
            Light::Noon => within(39, 0.80, 1.0),
            Light::Sunset => within(39, 0.38, 0.48),
            Light::Night => within(39, 0.65, 0.85),
        };
        let ((sine, cosine), (height, flat)) = (libm::sincos(azimuth), libm::sincos(elevation));
        let pair = |x: f64, z: f64| [x as f32, z as f32];
        Self {
            attributes,
            size: within(20, 0.78, 0.95) as f32,
            place: pair(within(21, -0.15, 0.15), within(22, -0.1, 0.2)),
            yaw: within(23, 0.2, 0.9) as f32,
            phase: within(24, 0.0, 1.0) as f32,
            amplitude: within(25, 0.9, 1.1) as f32,
            second_size: within(26, 0.62, 0.72) as f32,
            second_place: pair(side(30) * within(27, 1.5, 1.9), within(28, -2.4, -2.0)),
            second_yaw: within(29, 0.0, 1.0) as f32,
            camera_azimuth: within(31, -0.15, 0.15) as f32,
            camera_distance: within(32, 6.7, 7.3) as f32,
            camera_elevation: within(33, 0.10, 0.15) as f32,
            camera_amplitude: within(34, 0.9, 1.1) as f32,
            ground_offset: pair(within(35, -20.0, 20.0), within(36, -20.0, 20.0)),
            light_direction: [sine * flat, height, cosine * flat].map(|x| x as f32),
            hills: within(40, 0.0, 6.28) as f32,
        }
    }
}

impl Colour {
    /// In linear light.
    pub fn linear_rgb(self) -> [f32; 3] {
        match self {
            Self::Red => [0.80, 0.04, 0.03],
            Self::Orange => [0.90, 0.30, 0.02],
            Self::Yellow => [0.88, 0.70, 0.04],
            Self::Green => [0.06, 0.45, 0.07],
            Self::Cyan => [0.04, 0.62, 0.66],
            Self::Blue => [0.04, 0.12, 0.75],
            Self::Purple => [0.30, 0.06, 0.58],
            Self::Pink => [0.88, 0.25, 0.50],
            Self::White => [0.85, 0.85, 0.85],
        }
    }
}

/// When a frame of a clip is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// From 0 at the first frame to 1 at the last: ways, growth and the camera take the whole clip, however long it is.
    pub progress: f64,
    /// What comes again, such as a bounce, keeps its pace: 1 at frame 28.
    pub cycles: f64,
}

impl Moment {
    /// Frame `frame` of a clip of `frames`; a still picture shows the middle.
    pub fn of(frame: usize, frames: usize) -> Self {
        let last = frames.saturating_sub(1);
        let progress = if last == 0 { 0.5 } else { frame as f64 / last as f64 };
        Self { progress, cycles: frame as f64 / (FRAMES - 1) as f64 }
    }
}
