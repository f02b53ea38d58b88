//! The renderer in plain Rust: the twin of `shaders/world/render.wgsl`, for machines without an adapter and for its tests.
//!
//! A ray a sample: objects by sphere tracing inside a bounding sphere, the ground plane, soft shadows, contact shade, one
//! mirror bounce on shiny things and water, fog. Colours are linear light until the last line.

mod object;
mod surroundings;
mod vector;

use rayon::prelude::*;

use self::vector::{Vec3, mix, saturate, smoothstep, vec3};
use super::attributes::Ground;
use super::shot::{Body, Shot};

/// Samples of a pixel along each side.
pub const SAMPLES: usize = 3;
/// Half of the picture's height, at a distance of 1.
const FIELD: f32 = 0.70;

impl Shot {
    /// The picture: RGB bytes, row by row.
    pub fn render(&self, width: usize, height: usize) -> Vec<u8> {
        let mut rgb = vec![0; width * height * 3];
        rgb.par_chunks_mut(width * 3).enumerate().for_each(|(row, pixels)| {
            for (column, pixel) in pixels.chunks_exact_mut(3).enumerate() {
                pixel.copy_from_slice(&self.pixel(column, row, width, height));
            }
        });
        rgb
    }

    fn pixel(&self, column: usize, row: usize, width: usize, height: usize) -> [u8; 3] {
        let (eye, right, up, back) = (self.eye.into(), Vec3::from(self.right), Vec3::from(self.up), Vec3::from(self.back));
        let (width, height) = (width as f32, height as f32);
        let mut sum = Vec3::default();
        for sample in 0..SAMPLES * SAMPLES {
            let offset = |at: usize| (at as f32 + 0.5) / SAMPLES as f32;
            let x = (column as f32 + offset(sample % SAMPLES)) / height - 0.5 * width / height;
            let y = 0.5 - (row as f32 + offset(sample / SAMPLES)) / height;
            let direction = (right * (x * FIELD) + up * (y * FIELD) - back).normalize();
            // Each sample alone is no brighter than white, so that edges of highlights are smooth.
            sum = sum + self.trace(eye, direction).min(1.0);
        }
        let mean = sum * (1.0 / (SAMPLES * SAMPLES) as f32);
        [mean.x, mean.y, mean.z].map(|light| (255.0 * saturate(light).powf(1.0 / 2.2) + 0.5) as u8)
    }

    fn trace(&self, origin: Vec3, direction: Vec3) -> Vec3 {
        let to_first = self.first.hit(origin, direction);
        let to_second = if self.has_second() { self.second.hit(origin, direction) } else { -1.0 };
        let to_ground = if direction.y < -1e-4 { -origin.y / direction.y } else { -1.0 };
        let is_nearer = |this: f32, other: f32| this > 0.0 && (other < 0.0 || this < other);
        if is_nearer(to_first, to_second) && is_nearer(to_first, to_ground) {
            let other = self.has_second().then_some(&self.second);
            return self.shade(&self.first, other, origin + direction * to_first, direction);
        }
        if is_nearer(to_second, to_ground) {
            return self.shade(&self.second, Some(&self.first), origin + direction * to_second, direction);
        }
        if to_ground < 0.0 {
            return self.sky(direction);
        }
        self.shade_ground(origin + direction * to_ground, direction, to_ground)
    }

    fn shade_ground(&self, point: Vec3, direction: Vec3, distance: f32) -> Vec3 {
        let light = Vec3::from(self.light);
        let mut lit = self.first.shadow(point, light);
        let mut open = contact(&self.first, point);
        if self.has_second() {
            lit = lit.min(self.second.shadow(point, light));
            open *= contact(&self.second, point);
        }
        let direct = self.light_colour() * (0.62 * light.y * lit + 0.10 * lit);
        let mut colour = self.ground_colour(point.x, point.z, distance) * (direct + self.ambient() * open);
        if self.ground_kind() == Ground::Water {
            let (mirrored, share) = self.mirror(point, direction, distance);
            colour = colour.mix(mirrored, share);
        }
        let fog = 1.0 - (-0.0125 * (distance - 6.0).max(0.0)).exp();
        colour.mix(self.horizon() * 0.92, fog)
    }

    /// What small waves reflect, and how much of it is seen.
    fn mirror(&self, point: Vec3, direction: Vec3, distance: f32) -> (Vec3, f32) {
        let calm = 1.0 / (1.0 + 0.02 * distance * distance);
        let (x, z, phase) = (point.x + self.ground[1], point.z + self.ground[2], self.sky[1]);
        let slope_x = 0.030 * calm * (2.1 * x + 1.3 * z + phase).sin();
        let slope_z = 0.045 * calm * (3.3 * z - 1.1 * x + 1.2 * phase).sin();
        let normal = vec3(slope_x, 1.0, slope_z).normalize();
        let mut way = direction.reflect(normal);
        way.y = way.y.max(0.01);
        let graze = 1.0 - (-direction.dot(normal)).max(0.0);
        let to_first = self.first.hit(point, way);
        let to_second = if self.has_second() { self.second.hit(point, way) } else { -1.0 };
        let seen = if to_first > 0.0 && (to_second < 0.0 || to_first < to_second) {
            self.shade(&self.first, None, point + way * to_first, way)
        } else if to_second > 0.0 {
            self.shade(&self.second, None, point + way * to_second, way)
        } else {
            self.sky(way)
        };
        (seen, saturate(0.12 + 0.75 * graze * graze * graze))
    }

    /// The colour of an object at a point of its surface; `other` may stand in its light.
    fn shade(&self, body: &Body, other: Option<&Body>, point: Vec3, direction: Vec3) -> Vec3 {
        let light = Vec3::from(self.light);
        let normal = body.normal(point);
        let mut lit = normal.dot(light).max(0.0);
        if let Some(other) = other.filter(|_| lit > 0.0) {
            lit *= other.shadow(point + normal * 0.02, light);
        }
        let centre = body.centre();
        let from_ground = self.ground_colour(centre.x, centre.z, 30.0) * self.light_colour() * 0.18;
        let received =
            self.light_colour() * (0.62 * lit) + self.ambient() * (0.62 + 0.38 * normal.y) + from_ground * (0.5 - 0.5 * normal.y);
        // Darker near the ground.
        let open = mix(0.55, 1.0, smoothstep(0.0, 0.9, point.y / body.radius() + 0.15));
        let colour = body.pattern(body.local(point)) * received * open;
        if !body.is_shiny() {
            return colour;
        }
        let way = direction.reflect(normal);
        let graze = 1.0 + direction.dot(normal);
        let around = if way.y > 0.0 {
            self.sky(way)
        } else {
            self.ground_colour(point.x, point.z, 30.0) * (self.light_colour() * 0.45 + self.ambient() * 0.6)
        };
        let mirrored = colour.mix(around, saturate(0.20 + 0.70 * graze * graze * graze * graze));
        let mut highlight = way.dot(light).max(0.0);
        // To the power of 16.
        for _ in 0..4 {
            highlight *= highlight;
        }
        mirrored + self.light_colour() * (0.40 * highlight + 1.6 * highlight * highlight * highlight)
    }
}

/// How open the ground is at a point near an object.
fn contact(body: &Body, point: Vec3) -> f32 {
    0.45 + 0.55 * smoothstep(-0.1, 0.9, body.distance(point))
}
