//! Light, sky, hills and ground.

use super::vector::{Vec3, hash, mix, noise, smoothstep, vec3};
use crate::world::attributes::{Ground, Light};
use crate::world::shot::Shot;

impl Shot {
    pub fn light_kind(&self) -> Light {
        Light::ALL[self.light[3] as usize]
    }

    pub fn ground_kind(&self) -> Ground {
        Ground::ALL[self.ground[0] as usize]
    }

    pub fn has_second(&self) -> bool {
        self.ground[3] > 0.5
    }

    /// Of the sun or the moon.
    pub fn light_colour(&self) -> Vec3 {
        match self.light_kind() {
            Light::Noon => vec3(1.45, 1.36, 1.20),
            Light::Sunset => vec3(1.50, 0.98, 0.58),
            Light::Night => vec3(0.44, 0.53, 0.74),
        }
    }

    pub fn ambient(&self) -> Vec3 {
        match self.light_kind() {
            Light::Noon => vec3(0.38, 0.44, 0.53),
            Light::Sunset => vec3(0.40, 0.32, 0.38),
            Light::Night => vec3(0.17, 0.20, 0.30),
        }
    }

    pub fn horizon(&self) -> Vec3 {
        match self.light_kind() {
            Light::Noon => vec3(0.66, 0.80, 0.93),
            Light::Sunset => vec3(1.00, 0.50, 0.20),
            Light::Night => vec3(0.050, 0.075, 0.16),
        }
    }

    /// The sky in a direction of length 1, with two rows of hills that show a camera which turns.
    pub fn sky(&self, d: Vec3) -> Vec3 {
        let height = d.y.max(0.0);
        let horizon = self.horizon();
        let air = match self.light_kind() {
            Light::Noon => horizon.mix(vec3(0.13, 0.36, 0.80), smoothstep(0.0, 0.45, height)),
            Light::Sunset => {
                let low = horizon.mix(vec3(0.80, 0.28, 0.27), smoothstep(0.0, 0.16, height));
                low.mix(vec3(0.17, 0.12, 0.34), smoothstep(0.10, 0.42, height))
            }
            Light::Night => horizon.mix(vec3(0.008, 0.012, 0.045), smoothstep(0.0, 0.40, height)),
        };
        let mut air = self.clouds(air, d);
        if self.light_kind() == Light::Night {
            // The moon, on the side that its light does not come from: it is seen, not right.
            let moon = vec3(if self.light[0] > 0.0 { -0.38 } else { 0.38 }, 0.160, -1.0).normalize();
            let near = d.dot(moon);
            let disc = vec3(0.85, 0.88, 0.80) * smoothstep(0.99915, 0.99945, near);
            air = air + disc + vec3(0.10, 0.12, 0.16) * smoothstep(0.975, 1.0, near);
        }
        let azimuth = d.x.atan2(-d.z) + self.sky[0];
        let far_hills = 0.052 + 0.022 * (5.0 * azimuth).sin() + 0.014 * (11.0 * azimuth + 1.7).sin();
        let near_hills = 0.026 + 0.014 * (8.0 * azimuth + 4.0).sin() + 0.010 * (17.0 * azimuth).sin();
        let (far, near) = match self.light_kind() {
            Light::Noon => (vec3(0.32, 0.46, 0.62), vec3(0.20, 0.34, 0.36)),
            Light::Sunset => (vec3(0.42, 0.18, 0.22), vec3(0.22, 0.09, 0.15)),
            Light::Night => (vec3(0.020, 0.030, 0.075), vec3(0.010, 0.016, 0.040)),
        };
        let edge = |hills: f32| 1.0 - smoothstep(hills - 0.003, hills + 0.003, d.y);
        air.mix(far, edge(far_hills)).mix(near, edge(near_hills))
    }

    /// Soft clouds on a plane high above.
    fn clouds(&self, air: Vec3, d: Vec3) -> Vec3 {
        let spread = 1.0 / (d.y.max(0.0) + 0.14);
        let (x, z) = (d.x * spread + 3.0 * self.sky[0], d.z * spread);
        let amount = 0.62 * noise(1.1 * x, 1.1 * z) + 0.38 * noise(2.7 * x + 5.0, 2.7 * z);
        let (colour, most) = match self.light_kind() {
            Light::Noon => (vec3(0.97, 0.98, 1.0), 0.85),
            Light::Sunset => (vec3(1.0, 0.62, 0.46), 0.55),
            Light::Night => (vec3(0.09, 0.11, 0.18), 0.55),
        };
        air.mix(colour, most * smoothstep(0.48, 0.78, amount) * smoothstep(0.03, 0.14, d.y))
    }

    /// The colour of the ground; `distance` fades what is too fine to be seen from there.
    pub fn ground_colour(&self, x: f32, z: f32, distance: f32) -> Vec3 {
        let (x, z) = (x + self.ground[1], z + self.ground[2]);
        let fade = 1.0 / (1.0 + distance * distance * 0.006);
        match self.ground_kind() {
            Ground::Grass => {
                let blades = 0.34 * (noise(x * 2.6, z * 1.9) - 0.5) * fade;
                vec3(0.13, 0.33, 0.05) * (0.70 + 0.55 * noise(x * 0.9, z * 0.9) + blades)
            }
            Ground::Sand => {
                let ripples = 0.11 * fade * (3.2 * z + 4.0 * noise(x * 0.6, z * 0.6)).sin();
                vec3(0.70, 0.52, 0.29) * (0.95 + ripples + 0.16 * (noise(x * 0.5 + 9.0, z * 0.5) - 0.5))
            }
            Ground::Snow => vec3(0.80, 0.84, 0.90) * (0.93 + 0.16 * (noise(x * 0.7, z * 0.7) - 0.5)),
            Ground::Checkerboard => {
                let is_dark = ((x * 0.6).floor() as i32 + (z * 0.6).floor() as i32) & 1 == 1;
                let tile = if is_dark { vec3(0.13, 0.14, 0.17) } else { vec3(0.66, 0.64, 0.60) };
                tile.mix(vec3(0.39, 0.39, 0.38), smoothstep(12.0, 30.0, distance))
            }
            Ground::Water => vec3(0.015, 0.10, 0.15),
            Ground::Wood => {
                // Planks along x.
                let row = (z * 1.1).floor();
                let across = z * 1.1 - row;
                let grain = 0.16 * (noise(x * 0.5 + row * 5.0, z * 5.0) - 0.5) * fade;
                let tone = 0.72 + 0.45 * hash(row as i32, 7) + grain;
                let gap = smoothstep(0.0, 0.06, across) * smoothstep(1.0, 0.94, across);
                vec3(0.40, 0.21, 0.09) * (tone * mix(1.0, 0.45 + 0.55 * gap, fade))
            }
        }
    }
}
