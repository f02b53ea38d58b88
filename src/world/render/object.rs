//! Objects: their distance functions, where a ray meets them, their shadows and patterns.
//!
//! Distances are in a frame of the object's own, in radii.

use super::vector::{Vec3, saturate, smoothstep, vec3};
use crate::world::attributes::Shape;
use crate::world::shot::Body;

/// A sphere of so many radii holds every object.
const BOUND: f32 = 1.45;
/// Steps along a ray before it counts as a hit: it is very near then.
const MARCH: usize = 48;
const NEAR: f32 = 0.002;
const SHADOW_MARCH: usize = 24;
/// The penumbra reaches so far out of the bound.
const SHADOW_REACH: f32 = 0.35;

/// Never larger than the true distance.
fn distance(shape: usize, p: Vec3) -> f32 {
    let flat = (p.x * p.x + p.z * p.z).sqrt();
    match Shape::ALL[shape] {
        Shape::Ball => p.dot(p).sqrt() - 1.0,
        Shape::Cube => {
            let d = vec3(p.x.abs() - 0.76, p.y.abs() - 0.76, p.z.abs() - 0.76);
            let outside = vec3(d.x.max(0.0), d.y.max(0.0), d.z.max(0.0));
            outside.dot(outside).sqrt() + d.x.max(d.y.max(d.z)).min(0.0) - 0.06
        }
        Shape::Cylinder => (flat - 0.68).max(p.y.abs() - 0.88),
        Shape::Cone => (0.8992 * flat + 0.4375 * (p.y - 0.95)).max(-p.y - 0.9),
        Shape::Ring => {
            let out = flat - 0.70;
            (out * out + p.y * p.y).sqrt() - 0.28
        }
        Shape::Diamond => (p.x.abs() + 0.8 * p.y.abs() + p.z.abs() - 0.86) * 0.6155,
    }
}

impl Body {
    fn shape(&self) -> usize {
        self.kind[0] as usize
    }

    fn lies(&self) -> bool {
        self.kind[1] > 0.5
    }

    pub fn is_shiny(&self) -> bool {
        self.colour[3] > 0.5
    }

    pub fn centre(&self) -> Vec3 {
        self.place.into()
    }

    pub fn radius(&self) -> f32 {
        self.place[3]
    }

    /// A direction of the world in the object's frame: the roll undone, then the yaw, then the axis stood up.
    fn local_direction(&self, w: Vec3) -> Vec3 {
        let [yaw_cosine, yaw_sine, roll_cosine, roll_sine] = self.turn;
        let a = vec3(roll_cosine * w.x + roll_sine * w.y, roll_cosine * w.y - roll_sine * w.x, w.z);
        let b = vec3(yaw_cosine * a.x - yaw_sine * a.z, a.y, yaw_sine * a.x + yaw_cosine * a.z);
        if self.lies() { vec3(b.x, b.z, -b.y) } else { b }
    }

    fn world_direction(&self, l: Vec3) -> Vec3 {
        let [yaw_cosine, yaw_sine, roll_cosine, roll_sine] = self.turn;
        let b = if self.lies() { vec3(l.x, -l.z, l.y) } else { l };
        let a = vec3(yaw_cosine * b.x + yaw_sine * b.z, b.y, yaw_cosine * b.z - yaw_sine * b.x);
        vec3(roll_cosine * a.x - roll_sine * a.y, roll_cosine * a.y + roll_sine * a.x, a.z)
    }

    /// A point of the world in the object's frame.
    pub fn local(&self, point: Vec3) -> Vec3 {
        self.local_direction((point - self.centre()) * (1.0 / self.radius()))
    }

    /// In radii.
    pub fn distance(&self, point: Vec3) -> f32 {
        distance(self.shape(), self.local(point))
    }

    /// The distance along the ray, or -1.
    pub fn hit(&self, origin: Vec3, direction: Vec3) -> f32 {
        let p = (origin - self.centre()) * (1.0 / self.radius());
        let along = p.dot(direction);
        let within = along * along - (p.dot(p) - BOUND * BOUND);
        if within < 0.0 {
            return -1.0;
        }
        let half = within.sqrt();
        let end = half - along;
        if end < 0.0 {
            return -1.0;
        }
        let mut t = (-along - half).max(0.0);
        let (start, way) = (self.local_direction(p), self.local_direction(direction));
        for _ in 0..MARCH {
            let d = distance(self.shape(), start + way * t);
            if d < NEAR {
                break;
            }
            t += d;
            if t > end {
                return -1.0;
            }
        }
        t * self.radius()
    }

    /// Outward at a point of the surface, by differences along the corners of a tetrahedron.
    pub fn normal(&self, point: Vec3) -> Vec3 {
        const E: f32 = 0.003;
        let l = self.local(point);
        let at = |x, y, z| distance(self.shape(), l + vec3(x, y, z));
        let (a, b, c, d) = (at(E, -E, -E), at(-E, -E, E), at(-E, E, -E), at(E, E, E));
        self.world_direction(vec3(a - b - c + d, -a - b + c + d, -a + b - c + d)).normalize()
    }

    /// How much of the light reaches a point past the object, 0 to 1.
    pub fn shadow(&self, point: Vec3, light: Vec3) -> f32 {
        let p = (point - self.centre()) * (1.0 / self.radius());
        let along = p.dot(light);
        let reach = BOUND + SHADOW_REACH;
        let within = along * along - p.dot(p) + reach * reach;
        if within < 0.0 {
            return 1.0;
        }
        let half = within.sqrt();
        let end = half - along;
        if end < 0.0 {
            return 1.0;
        }
        let (mut t, mut lit) = ((-along - half).max(0.04), 1.0_f32);
        let (start, way) = (self.local_direction(p), self.local_direction(light));
        for _ in 0..SHADOW_MARCH {
            let d = distance(self.shape(), start + way * t);
            // Half of the penumbra lies inside the outline.
            lit = lit.min(0.5 + 5.0 * d / (t + 0.6));
            if lit < 0.0 {
                return 0.0;
            }
            t += d.max(0.05);
            if t > end {
                break;
            }
        }
        smoothstep(0.0, 1.0, saturate(lit))
    }

    /// Two tones of the colour, so that turning can be seen: a frame around each face of a cube, six sectors of the others.
    pub fn pattern(&self, l: Vec3) -> Vec3 {
        let is_dark = if Shape::ALL[self.shape()] == Shape::Cube {
            let (a, b, c) = (l.x.abs(), l.y.abs(), l.z.abs());
            let (most, least) = (a.max(b.max(c)), a.min(b.min(c)));
            a + b + c - most - least > 0.56
        } else {
            let sector = ((l.z.atan2(l.x) / std::f32::consts::TAU + 0.5) * 6.0).floor();
            sector as i32 & 1 == 1
        };
        Vec3::from(self.colour) * if is_dark { 0.5 } else { 1.0 }
    }
}
