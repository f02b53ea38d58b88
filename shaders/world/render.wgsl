// The world's renderer: one thread renders one pixel of one frame. src/world/render is its twin in plain Rust, function by
// function.

struct Body {
    place: vec4<f32>,
    turn: vec4<f32>,
    colour: vec4<f32>,
    kind: vec4<f32>,
}

struct Shot {
    eye: vec4<f32>,
    right: vec4<f32>,
    up: vec4<f32>,
    back: vec4<f32>,
    first: Body,
    second: Body,
    ground: vec4<f32>,
    light: vec4<f32>,
    sky: vec4<f32>,
}

@group(0) @binding(0) var<storage, read_write> shots: array<Shot>;
// RGB in [-1, 1], in steps of 8 bits: [shots, height, width, 3].
@group(0) @binding(1) var<storage, read_write> pixels: array<f32>;
// Width, height, shots.
@group(0) @binding(2) var<storage, read> info: array<u32>;

const WORKGROUP = 64u;
const SAMPLES = {{ samples }}u;
const FIELD = 0.70;

const BALL = 0;
const CUBE = 1;
const CYLINDER = 2;
const CONE = 3;
const RING = 4;

const GRASS = 0;
const SAND = 1;
const SNOW = 2;
const CHECKERBOARD = 3;
const WATER = 4;

const NOON = 0;
const SUNSET = 1;

const BOUND = 1.45;
const MARCH = 48u;
const NEAR = 0.002;
const SHADOW_MARCH = 24u;
const SHADOW_REACH = 0.35;
const TAU = 6.2831853;

var<private> shot: Shot;

fn hash(x: i32, y: i32) -> f32 {
    var bits = (bitcast<u32>(x) * 0x9E3779B1u) ^ (bitcast<u32>(y) * 0x85EBCA77u);
    bits = (bits ^ (bits >> 15u)) * 0x2C1B3C6Du;
    bits = (bits ^ (bits >> 12u)) * 0x297A2D39u;
    bits = bits ^ (bits >> 15u);
    return f32(bits >> 8u) * (1.0 / 16777216.0);
}

fn noise(x: f32, y: f32) -> f32 {
    let cell = floor(vec2<f32>(x, y));
    let at = vec2<i32>(cell);
    var share = vec2<f32>(x, y) - cell;
    share = share * share * (3.0 - 2.0 * share);
    let near = mix(hash(at.x, at.y), hash(at.x + 1, at.y), share.x);
    let far = mix(hash(at.x, at.y + 1), hash(at.x + 1, at.y + 1), share.x);
    return mix(near, far, share.y);
}

// Objects.

fn distance_to(shape: i32, p: vec3<f32>) -> f32 {
    let flat_distance = length(p.xz);
    switch shape {
        case BALL: {
            return length(p) - 1.0;
        }
        case CUBE: {
            let d = abs(p) - vec3<f32>(0.76);
            return length(max(d, vec3<f32>(0.0))) + min(max(d.x, max(d.y, d.z)), 0.0) - 0.06;
        }
        case CYLINDER: {
            return max(flat_distance - 0.68, abs(p.y) - 0.88);
        }
        case CONE: {
            return max(0.8992 * flat_distance + 0.4375 * (p.y - 0.95), -p.y - 0.9);
        }
        case RING: {
            return length(vec2<f32>(flat_distance - 0.70, p.y)) - 0.28;
        }
        default: {
            return (abs(p.x) + 0.8 * abs(p.y) + abs(p.z) - 0.86) * 0.6155;
        }
    }
}

fn shape_of(body: Body) -> i32 {
    return i32(body.kind.x);
}

fn local_direction(body: Body, w: vec3<f32>) -> vec3<f32> {
    let turn = body.turn;
    let a = vec3<f32>(turn.z * w.x + turn.w * w.y, turn.z * w.y - turn.w * w.x, w.z);
    let b = vec3<f32>(turn.x * a.x - turn.y * a.z, a.y, turn.y * a.x + turn.x * a.z);
    return select(b, vec3<f32>(b.x, b.z, -b.y), body.kind.y > 0.5);
}

fn world_direction(body: Body, l: vec3<f32>) -> vec3<f32> {
    let turn = body.turn;
    let b = select(l, vec3<f32>(l.x, -l.z, l.y), body.kind.y > 0.5);
    let a = vec3<f32>(turn.x * b.x + turn.y * b.z, b.y, turn.x * b.z - turn.y * b.x);
    return vec3<f32>(turn.z * a.x - turn.w * a.y, turn.z * a.y + turn.w * a.x, a.z);
}

fn local(body: Body, point: vec3<f32>) -> vec3<f32> {
    return local_direction(body, (point - body.place.xyz) * (1.0 / body.place.w));
}

fn hit(body: Body, origin: vec3<f32>, direction: vec3<f32>) -> f32 {
    let p = (origin - body.place.xyz) * (1.0 / body.place.w);
    let along = dot(p, direction);
    let within = along * along - (dot(p, p) - BOUND * BOUND);
    if within < 0.0 {
        return -1.0;
    }
    let half_way = sqrt(within);
    let end = half_way - along;
    if end < 0.0 {
        return -1.0;
    }
    var t = max(-along - half_way, 0.0);
    let start = local_direction(body, p);
    let way = local_direction(body, direction);
    let shape = shape_of(body);
    for (var i = 0u; i < MARCH; i++) {
        let d = distance_to(shape, start + way * t);
        if d < NEAR {
            break;
        }
        t += d;
        if t > end {
            return -1.0;
        }
    }
    return t * body.place.w;
}

fn normal_of(body: Body, point: vec3<f32>) -> vec3<f32> {
    let l = local(body, point);
    let shape = shape_of(body);
    let e = vec2<f32>(0.003, -0.003);
    let a = distance_to(shape, l + e.xyy);
    let b = distance_to(shape, l + e.yyx);
    let c = distance_to(shape, l + e.yxy);
    let d = distance_to(shape, l + e.xxx);
    return normalized(world_direction(body, vec3<f32>(a - b - c + d, -a - b + c + d, -a + b - c + d)));
}

fn normalized(a: vec3<f32>) -> vec3<f32> {
    return a * (1.0 / sqrt(dot(a, a) + 1e-20));
}

fn shadow_of(body: Body, point: vec3<f32>, light: vec3<f32>) -> f32 {
    let p = (point - body.place.xyz) * (1.0 / body.place.w);
    let along = dot(p, light);
    let reach = BOUND + SHADOW_REACH;
    let within = along * along - dot(p, p) + reach * reach;
    if within < 0.0 {
        return 1.0;
    }
    let half_way = sqrt(within);
    let end = half_way - along;
    if end < 0.0 {
        return 1.0;
    }
    var t = max(-along - half_way, 0.04);
    var lit = 1.0;
    let start = local_direction(body, p);
    let way = local_direction(body, light);
    let shape = shape_of(body);
    for (var i = 0u; i < SHADOW_MARCH; i++) {
        let d = distance_to(shape, start + way * t);
        lit = min(lit, 0.5 + 5.0 * d / (t + 0.6));
        if lit < 0.0 {
            return 0.0;
        }
        t += max(d, 0.05);
        if t > end {
            break;
        }
    }
    return smoothstep(0.0, 1.0, lit);
}

fn pattern(body: Body, l: vec3<f32>) -> vec3<f32> {
    var is_dark = false;
    if shape_of(body) == CUBE {
        let a = abs(l);
        let most = max(a.x, max(a.y, a.z));
        let least = min(a.x, min(a.y, a.z));
        is_dark = a.x + a.y + a.z - most - least > 0.56;
    } else {
        let sector = floor((atan2(l.z, l.x) / TAU + 0.5) * 6.0);
        is_dark = (i32(sector) & 1) == 1;
    }
    return body.colour.xyz * select(1.0, 0.5, is_dark);
}

// Surroundings.

fn light_kind() -> i32 {
    return i32(shot.light.w);
}

fn ground_kind() -> i32 {
    return i32(shot.ground.x);
}

fn has_second() -> bool {
    return shot.ground.w > 0.5;
}

fn by_light(noon: vec3<f32>, sunset: vec3<f32>, night: vec3<f32>) -> vec3<f32> {
    let kind = light_kind();
    return select(select(night, sunset, kind == SUNSET), noon, kind == NOON);
}

fn light_colour() -> vec3<f32> {
    return by_light(vec3<f32>(1.45, 1.36, 1.20), vec3<f32>(1.50, 0.98, 0.58), vec3<f32>(0.44, 0.53, 0.74));
}

fn ambient() -> vec3<f32> {
    return by_light(vec3<f32>(0.38, 0.44, 0.53), vec3<f32>(0.40, 0.32, 0.38), vec3<f32>(0.17, 0.20, 0.30));
}

fn horizon() -> vec3<f32> {
    return by_light(vec3<f32>(0.66, 0.80, 0.93), vec3<f32>(1.00, 0.50, 0.20), vec3<f32>(0.050, 0.075, 0.16));
}

fn sky(d: vec3<f32>) -> vec3<f32> {
    let height = max(d.y, 0.0);
    var air = vec3<f32>(0.0);
    switch light_kind() {
        case NOON: {
            air = mix(horizon(), vec3<f32>(0.13, 0.36, 0.80), smoothstep(0.0, 0.45, height));
        }
        case SUNSET: {
            let low = mix(horizon(), vec3<f32>(0.80, 0.28, 0.27), smoothstep(0.0, 0.16, height));
            air = mix(low, vec3<f32>(0.17, 0.12, 0.34), smoothstep(0.10, 0.42, height));
        }
        default: {
            air = mix(horizon(), vec3<f32>(0.008, 0.012, 0.045), smoothstep(0.0, 0.40, height));
        }
    }
    air = clouds(air, d);
    if light_kind() > SUNSET {
        let moon = normalized(vec3<f32>(select(0.38, -0.38, shot.light.x > 0.0), 0.160, -1.0));
        let near = dot(d, moon);
        let disc = vec3<f32>(0.85, 0.88, 0.80) * smoothstep(0.99915, 0.99945, near);
        air += disc + vec3<f32>(0.10, 0.12, 0.16) * smoothstep(0.975, 1.0, near);
    }
    let azimuth = atan2(d.x, -d.z) + shot.sky.x;
    let far_hills = 0.052 + 0.022 * sin(5.0 * azimuth) + 0.014 * sin(11.0 * azimuth + 1.7);
    let near_hills = 0.026 + 0.014 * sin(8.0 * azimuth + 4.0) + 0.010 * sin(17.0 * azimuth);
    let far = by_light(vec3<f32>(0.32, 0.46, 0.62), vec3<f32>(0.42, 0.18, 0.22), vec3<f32>(0.020, 0.030, 0.075));
    let near = by_light(vec3<f32>(0.20, 0.34, 0.36), vec3<f32>(0.22, 0.09, 0.15), vec3<f32>(0.010, 0.016, 0.040));
    air = mix(air, far, 1.0 - smoothstep(far_hills - 0.003, far_hills + 0.003, d.y));
    return mix(air, near, 1.0 - smoothstep(near_hills - 0.003, near_hills + 0.003, d.y));
}

fn clouds(air: vec3<f32>, d: vec3<f32>) -> vec3<f32> {
    let spread = 1.0 / (max(d.y, 0.0) + 0.14);
    let x = d.x * spread + 3.0 * shot.sky.x;
    let z = d.z * spread;
    let amount = 0.62 * noise(1.1 * x, 1.1 * z) + 0.38 * noise(2.7 * x + 5.0, 2.7 * z);
    let colour = by_light(vec3<f32>(0.97, 0.98, 1.0), vec3<f32>(1.0, 0.62, 0.46), vec3<f32>(0.09, 0.11, 0.18));
    let most = select(0.55, 0.85, light_kind() == NOON);
    return mix(air, colour, most * smoothstep(0.48, 0.78, amount) * smoothstep(0.03, 0.14, d.y));
}

fn ground_colour(at_x: f32, at_z: f32, distance: f32) -> vec3<f32> {
    let x = at_x + shot.ground.y;
    let z = at_z + shot.ground.z;
    let fade = 1.0 / (1.0 + distance * distance * 0.006);
    switch ground_kind() {
        case GRASS: {
            let blades = 0.34 * (noise(x * 2.6, z * 1.9) - 0.5) * fade;
            return vec3<f32>(0.13, 0.33, 0.05) * (0.70 + 0.55 * noise(x * 0.9, z * 0.9) + blades);
        }
        case SAND: {
            let ripples = 0.11 * fade * sin(3.2 * z + 4.0 * noise(x * 0.6, z * 0.6));
            return vec3<f32>(0.70, 0.52, 0.29) * (0.95 + ripples + 0.16 * (noise(x * 0.5 + 9.0, z * 0.5) - 0.5));
        }
        case SNOW: {
            return vec3<f32>(0.80, 0.84, 0.90) * (0.93 + 0.16 * (noise(x * 0.7, z * 0.7) - 0.5));
        }
        case CHECKERBOARD: {
            let is_dark = ((i32(floor(x * 0.6)) + i32(floor(z * 0.6))) & 1) == 1;
            let tile = select(vec3<f32>(0.66, 0.64, 0.60), vec3<f32>(0.13, 0.14, 0.17), is_dark);
            return mix(tile, vec3<f32>(0.39, 0.39, 0.38), smoothstep(12.0, 30.0, distance));
        }
        case WATER: {
            return vec3<f32>(0.015, 0.10, 0.15);
        }
        default: {
            let row = floor(z * 1.1);
            let across = z * 1.1 - row;
            let grain = 0.16 * (noise(x * 0.5 + row * 5.0, z * 5.0) - 0.5) * fade;
            let tone = 0.72 + 0.45 * hash(i32(row), 7) + grain;
            // The edges of smoothstep must rise.
            let gap = smoothstep(0.0, 0.06, across) * (1.0 - smoothstep(0.94, 1.0, across));
            return vec3<f32>(0.40, 0.21, 0.09) * (tone * mix(1.0, 0.45 + 0.55 * gap, fade));
        }
    }
}

// Light on things.

fn contact(body: Body, point: vec3<f32>) -> f32 {
    return 0.45 + 0.55 * smoothstep(-0.1, 0.9, distance_to(shape_of(body), local(body, point)));
}

// `shaded` is 1 where `other` may stand in the light.
fn shade(body: Body, other: Body, shaded: bool, point: vec3<f32>, direction: vec3<f32>) -> vec3<f32> {
    let light = shot.light.xyz;
    let normal = normal_of(body, point);
    var lit = max(dot(normal, light), 0.0);
    if shaded && lit > 0.0 {
        lit *= shadow_of(other, point + normal * 0.02, light);
    }
    let from_ground = ground_colour(body.place.x, body.place.z, 30.0) * light_colour() * 0.18;
    let received = light_colour() * (0.62 * lit) + ambient() * (0.62 + 0.38 * normal.y) + from_ground * (0.5 - 0.5 * normal.y);
    let open = mix(0.55, 1.0, smoothstep(0.0, 0.9, point.y / body.place.w + 0.15));
    let colour = pattern(body, local(body, point)) * received * open;
    if body.colour.w < 0.5 {
        return colour;
    }
    let way = reflect(direction, normal);
    let graze = 1.0 + dot(direction, normal);
    var around = vec3<f32>(0.0);
    if way.y > 0.0 {
        around = sky(way);
    } else {
        around = ground_colour(point.x, point.z, 30.0) * (light_colour() * 0.45 + ambient() * 0.6);
    }
    let mirrored = mix(colour, around, saturate(0.20 + 0.70 * graze * graze * graze * graze));
    var highlight = max(dot(way, light), 0.0);
    highlight *= highlight;
    highlight *= highlight;
    highlight *= highlight;
    highlight *= highlight;
    return mirrored + light_colour() * (0.40 * highlight + 1.6 * highlight * highlight * highlight);
}

fn mirror(point: vec3<f32>, direction: vec3<f32>, distance: f32) -> vec4<f32> {
    let calm = 1.0 / (1.0 + 0.02 * distance * distance);
    let x = point.x + shot.ground.y;
    let z = point.z + shot.ground.z;
    let phase = shot.sky.y;
    let slope_x = 0.030 * calm * sin(2.1 * x + 1.3 * z + phase);
    let slope_z = 0.045 * calm * sin(3.3 * z - 1.1 * x + 1.2 * phase);
    let normal = normalized(vec3<f32>(slope_x, 1.0, slope_z));
    var way = reflect(direction, normal);
    way.y = max(way.y, 0.01);
    let graze = 1.0 - max(-dot(direction, normal), 0.0);
    let to_first = hit(shot.first, point, way);
    var to_second = -1.0;
    if has_second() {
        to_second = hit(shot.second, point, way);
    }
    var seen = vec3<f32>(0.0);
    if to_first > 0.0 && (to_second < 0.0 || to_first < to_second) {
        seen = shade(shot.first, shot.second, false, point + way * to_first, way);
    } else if to_second > 0.0 {
        seen = shade(shot.second, shot.first, false, point + way * to_second, way);
    } else {
        seen = sky(way);
    }
    return vec4<f32>(seen, saturate(0.12 + 0.75 * graze * graze * graze));
}

fn shade_ground(point: vec3<f32>, direction: vec3<f32>, distance: f32) -> vec3<f32> {
    let light = shot.light.xyz;
    var lit = shadow_of(shot.first, point, light);
    var open = contact(shot.first, point);
    if has_second() {
        lit = min(lit, shadow_of(shot.second, point, light));
        open *= contact(shot.second, point);
    }
    let direct = light_colour() * (0.62 * light.y * lit + 0.10 * lit);
    var colour = ground_colour(point.x, point.z, distance) * (direct + ambient() * open);
    if ground_kind() == WATER {
        let mirrored = mirror(point, direction, distance);
        colour = mix(colour, mirrored.xyz, mirrored.w);
    }
    let fog = 1.0 - exp(-0.0125 * max(distance - 6.0, 0.0));
    return mix(colour, horizon() * 0.92, fog);
}

fn is_nearer(one: f32, other: f32) -> bool {
    return one > 0.0 && (other < 0.0 || one < other);
}

fn trace(origin: vec3<f32>, direction: vec3<f32>) -> vec3<f32> {
    let to_first = hit(shot.first, origin, direction);
    var to_second = -1.0;
    if has_second() {
        to_second = hit(shot.second, origin, direction);
    }
    var to_ground = -1.0;
    if direction.y < -1e-4 {
        to_ground = -origin.y / direction.y;
    }
    if is_nearer(to_first, to_second) && is_nearer(to_first, to_ground) {
        return shade(shot.first, shot.second, has_second(), origin + direction * to_first, direction);
    }
    if is_nearer(to_second, to_ground) {
        return shade(shot.second, shot.first, true, origin + direction * to_second, direction);
    }
    if to_ground < 0.0 {
        return sky(direction);
    }
    return shade_ground(origin + direction * to_ground, direction, to_ground);
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let width = info[0];
    let height = info[1];
    let pixel = group.x * WORKGROUP + thread;
    let frame = group.y;
    if pixel >= width * height || frame >= info[2] {
        return;
    }
    shot = shots[frame];
    let place = vec2<f32>(f32(pixel % width), f32(pixel / width));
    let size = vec2<f32>(f32(width), f32(height));
    var sum = vec3<f32>(0.0);
    for (var sample = 0u; sample < SAMPLES * SAMPLES; sample++) {
        let offset = (vec2<f32>(f32(sample % SAMPLES), f32(sample / SAMPLES)) + 0.5) / f32(SAMPLES);
        let x = (place.x + offset.x) / size.y - 0.5 * size.x / size.y;
        let y = 0.5 - (place.y + offset.y) / size.y;
        let direction = normalized(shot.right.xyz * (x * FIELD) + shot.up.xyz * (y * FIELD) - shot.back.xyz);
        sum += min(trace(shot.eye.xyz, direction), vec3<f32>(1.0));
    }
    let mean = sum / f32(SAMPLES * SAMPLES);
    let bytes = floor(255.0 * pow(saturate(mean), vec3<f32>(1.0 / 2.2)) + 0.5);
    let colour = bytes * (2.0 / 255.0) - 1.0;
    let at = 3u * ((frame * height * width) + pixel);
    pixels[at] = colour.x;
    pixels[at + 1u] = colour.y;
    pixels[at + 2u] = colour.z;
}
