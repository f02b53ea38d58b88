//! A scene at one time, as the renderers read it: poses and the camera, with all angles turned into sines and cosines.
//!
//! Adapters may compute a sine with an error of a few thousandths; here everything that moves is computed once a frame, with
//! the same functions on all systems.

use super::attributes::{Camera, Material, Motion, Shape};
use super::scene::{Moment, Scene};

/// The floats of a frame. The fields are those of the shader's `Shot`, of four floats each, which a test checks.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shot {
    /// The place of the camera.
    pub eye: [f32; 4],
    /// The camera's axes, of length 1; `back` points away from what it looks at.
    pub right: [f32; 4],
    pub up: [f32; 4],
    pub back: [f32; 4],
    pub first: Body,
    pub second: Body,
    /// Kind, offset along x and z, and 1 if there is a second body.
    pub ground: [f32; 4],
    /// Direction of the light, and its kind.
    pub light: [f32; 4],
    /// Where the hills begin, and the phase of the waves.
    pub sky: [f32; 4],
}

/// An object in its pose.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Body {
    /// Centre, and the length of a radius.
    pub place: [f32; 4],
    /// Cosine and sine of the yaw about y, cosine and sine of the roll about z that follows.
    pub turn: [f32; 4],
    /// Linear colour, and 1 if it is shiny.
    pub colour: [f32; 4],
    /// Shape, and 1 if its axis lies along z.
    pub kind: [f32; 4],
}

/// Floats of a shot.
pub const SHOT_FLOATS: usize = size_of::<Shot>() / size_of::<f32>();

const TAU: f64 = std::f64::consts::TAU;

impl Shot {
    pub fn of(scene: &Scene, moment: Moment) -> Self {
        let [eye, right, up, back] = camera(scene, moment.progress);
        let attributes = &scene.attributes;
        let second = attributes.second.map(|second| {
            let pose = Pose { place: scene.second_place.map(f64::from), yaw: scene.second_yaw.into(), ..Pose::default() };
            body(second.shape, second.colour.linear_rgb(), second.material, pose.sized(scene.second_size.into()))
        });
        let [x, z] = scene.ground_offset;
        let [light_x, light_y, light_z] = scene.light_direction;
        Self {
            eye,
            right,
            up,
            back,
            first: body(attributes.shape, attributes.colour.linear_rgb(), attributes.material, pose(scene, moment)),
            second: second.unwrap_or_default(),
            ground: [attributes.ground.class() as f32, x, z, f32::from(u8::from(second.is_some()))],
            light: [light_x, light_y, light_z, attributes.light.class() as f32],
            sky: [scene.hills, (TAU * moment.cycles) as f32, 0.0, 0.0],
        }
    }

    pub fn floats(&self) -> [f32; SHOT_FLOATS] {
        let mut floats = [0.0; SHOT_FLOATS];
        let Self { eye, right, up, back, first, second, ground, light, sky } = self;
        let bodies = [first, second].map(|Body { place, turn, colour, kind }| [place, turn, colour, kind]);
        let all = [eye, right, up, back].into_iter().chain(bodies.into_iter().flatten()).chain([ground, light, sky]);
        floats.chunks_exact_mut(4).zip(all).for_each(|(to, from)| to.copy_from_slice(from));
        floats
    }

    pub fn from_floats(floats: &[f32; SHOT_FLOATS]) -> Self {
        let mut fours = floats.chunks_exact(4).map(|four| [four[0], four[1], four[2], four[3]]);
        // The count is that of the fields, as `floats` and the test of the layout hold.
        let mut next = || fours.next().unwrap_or_default();
        let [eye, right, up, back] = [next(), next(), next(), next()];
        let [first, second] = [(); 2].map(|()| Body { place: next(), turn: next(), colour: next(), kind: next() });
        Self { eye, right, up, back, first, second, ground: next(), light: next(), sky: next() }
    }
}

/// Where an object is and how it is turned, before its shape is known to it.
#[derive(Clone, Copy, Debug, Default)]
struct Pose {
    place: [f64; 2],
    /// Above the ground that it rests on.
    height: f64,
    yaw: f64,
    roll: f64,
    size: f64,
    /// Its axis lies, as that of a ring always does.
    lies: bool,
}

impl Pose {
    fn sized(self, size: f64) -> Self {
        Self { size, ..self }
    }
}

/// The pose of the first object.
fn pose(scene: &Scene, Moment { progress, cycles }: Moment) -> Pose {
    let (phase, amplitude) = (f64::from(scene.phase), f64::from(scene.amplitude));
    let mut pose = Pose { place: scene.place.map(f64::from), yaw: scene.yaw.into(), ..Pose::default() }.sized(scene.size.into());
    // From the right to the left.
    let travel = (1.0 - 2.0 * progress) * 1.45 * amplitude;
    match scene.attributes.motion {
        Motion::Bounces => pose.height = libm::sin(TAU / 2.0 * (2.0 * cycles + phase)).abs() * 1.25 * amplitude,
        Motion::Spins => pose.yaw += TAU * cycles * amplitude,
        Motion::SlidesLeft => pose.place[0] += travel,
        Motion::SlidesRight => pose.place[0] -= travel,
        Motion::RollsLeft | Motion::RollsRight => {
            let way = if scene.attributes.motion == Motion::RollsLeft { travel } else { -travel };
            pose.lies = scene.attributes.shape == Shape::Cylinder;
            pose.place[0] += way;
            pose.yaw = 0.0;
            pose.roll = TAU * phase - way / (pose.size * rest_height(scene.attributes.shape, pose.lies));
        }
        Motion::CirclesAround => {
            let (sine, cosine) = libm::sincos(TAU * (phase + 0.85 * cycles));
            pose.place[0] += amplitude * cosine;
            pose.place[1] += 0.95 * amplitude * sine;
        }
        Motion::Grows => pose.size *= 0.5 + 0.85 * progress,
        Motion::Shrinks => pose.size *= 1.35 - 0.85 * progress,
        Motion::FloatsUp => pose.height = 1.5 * progress * amplitude,
        Motion::Swings => {
            const LENGTH: f64 = 3.0;
            let angle = 0.42 * amplitude * libm::sin(TAU * (1.15 * cycles + phase));
            let (sine, cosine) = libm::sincos(angle);
            pose.place[0] += LENGTH * sine;
            pose.height = 0.2 + LENGTH * (1.0 - cosine);
            pose.roll = angle;
        }
        Motion::StaysStill => {}
    }
    pose
}

/// How high the centre of a resting object is, in radii.
fn rest_height(shape: Shape, lies: bool) -> f64 {
    match shape {
        Shape::Ball => 1.0,
        Shape::Cube => 0.82,
        Shape::Cylinder if lies => 0.68,
        Shape::Cylinder => 0.88,
        Shape::Cone => 0.9,
        Shape::Ring => 0.98,
        Shape::Diamond => 1.075,
    }
}

fn body(shape: Shape, [red, green, blue]: [f32; 3], material: Material, pose: Pose) -> Body {
    let lies = pose.lies || shape == Shape::Ring;
    let ((yaw_sine, yaw_cosine), (roll_sine, roll_cosine)) = (libm::sincos(pose.yaw), libm::sincos(pose.roll));
    let [x, z] = pose.place;
    let y = pose.height + rest_height(shape, lies) * pose.size;
    Body {
        place: [x, y, z, pose.size].map(|x| x as f32),
        turn: [yaw_cosine, yaw_sine, roll_cosine, roll_sine].map(|x| x as f32),
        colour: [red, green, blue, f32::from(u8::from(material == Material::Shiny))],
        kind: [shape.class() as f32, f32::from(u8::from(lies)), 0.0, 0.0],
    }
}

/// Eye, right, up and back.
fn camera(scene: &Scene, progress: f64) -> [[f32; 4]; 4] {
    const TARGET_HEIGHT: f64 = 1.25;
    let amplitude = f64::from(scene.camera_amplitude);
    let (mut azimuth, mut distance, mut elevation) =
        (f64::from(scene.camera_azimuth), f64::from(scene.camera_distance), f64::from(scene.camera_elevation));
    match scene.attributes.camera {
        Camera::Static => {}
        Camera::ZoomsIn => distance *= 1.20 - 0.42 * amplitude * progress,
        Camera::OrbitsLeft => azimuth -= 0.62 * amplitude * (progress - 0.5),
        Camera::OrbitsRight => azimuth += 0.62 * amplitude * (progress - 0.5),
        Camera::Rises => elevation += 0.42 * amplitude * progress - 0.03,
    }
    let ((sine, cosine), (height, flat)) = (libm::sincos(azimuth), libm::sincos(elevation));
    let back = [sine * flat, height, cosine * flat];
    let eye = [back[0] * distance, TARGET_HEIGHT + back[1] * distance, back[2] * distance];
    // Level with the ground; the azimuth alone turns it.
    let right = [cosine, 0.0, -sine];
    let up = [back[1] * right[2], back[2] * right[0] - back[0] * right[2], -back[1] * right[0]];
    [eye, right, up, back].map(|[x, y, z]| [x as f32, y as f32, z as f32, 0.0])
}
