// Doubles height and width, and with `linear` time too: `nearest` repeats pixels, `linear` is that of `align_corners = false` (taps
// 3/4 and 1/4, ends clamped), where the first frame is doubled in space only and the others in time among themselves.
//
// With `gradient` it goes back: along an axis the input's place k receives from the output's places 2k - 1 to 2k + 2, clamped.
#if half
enable f16;
#end

const CHANNELS4 = {{ channels }}u / 4u;

@group(0) @binding(0) var<storage, read_write> source: array<vec4<{{ element }}>>;   // [batch, frames, height, width, channels]
@group(0) @binding(1) var<storage, read_write> output: array<vec4<{{ element }}>>;   // the same, doubled; or halved on the way back
@group(0) @binding(2) var<storage, read> info: array<u32>;

// Words of `info`, of the smaller video; the launcher writes them in this order.
const FRAMES = 0u;
const HEIGHT = 1u;
const WIDTH = 2u;

#if linear
#if gradient
const TAPS = 4u;

// The output's place of a tap, and its weight.
fn place(at: u32, tap: u32, length: u32) -> u32 {
    return u32(clamp(i32(2u * at + tap) - 1, 0, i32(2u * length) - 1));
}

fn weight(tap: u32) -> f32 {
    return select(0.25, 0.75, tap == 1u || tap == 2u);
}
#else
const TAPS = 2u;

fn place(at: u32, tap: u32, length: u32) -> u32 {
    let side = select(-1, 1, at % 2u == 1u) * i32(tap);
    return u32(clamp(i32(at / 2u) + side, 0, i32(length) - 1));
}

fn weight(tap: u32) -> f32 {
    return select(0.75, 0.25, tap == 1u);
}
#end
#end

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let frames = info[FRAMES];
    let height = info[HEIGHT];
    let width = info[WIDTH];
#if linear
    let more_frames = 2u * frames - 1u;
#else
    let more_frames = frames;
#end
    let small = vec3<u32>(frames, height, width);
    let large = vec3<u32>(more_frames, 2u * height, 2u * width);
#if gradient
    let size = small;
    let other = large;
#else
    let size = large;
    let other = small;
#end
    let index = (group.y * groups.x + group.x) * 256u + thread;
    if index >= size.x * size.y * size.z * CHANNELS4 {
        return;
    }
    let channel = index % CHANNELS4;
    let x = index / CHANNELS4 % size.z;
    let y = index / CHANNELS4 / size.z % size.y;
    let t = index / CHANNELS4 / size.z / size.y;
    let clip = group.z * other.x * other.y * other.z * CHANNELS4 + channel;
    var sum = vec4<f32>();
#if linear
    for (var tap_t = 0u; tap_t < TAPS; tap_t += 1u) {
        var from_t = 0u;
        var share = 1.0;
        if t > 0u {
            from_t = 1u + place(t - 1u, tap_t, frames - 1u);
            share = weight(tap_t);
        } else if tap_t > 0u {
            continue;
        }
        for (var tap_h = 0u; tap_h < TAPS; tap_h += 1u) {
            let row = (from_t * other.y + place(y, tap_h, height)) * other.z;
            for (var tap_w = 0u; tap_w < TAPS; tap_w += 1u) {
                let at = clip + (row + place(x, tap_w, width)) * CHANNELS4;
                sum += share * weight(tap_h) * weight(tap_w) * vec4<f32>(source[at]);
            }
        }
    }
#else
#if gradient
    for (var tap_h = 0u; tap_h < 2u; tap_h += 1u) {
        for (var tap_w = 0u; tap_w < 2u; tap_w += 1u) {
            let row = (t * other.y + 2u * y + tap_h) * other.z;
            sum += vec4<f32>(source[clip + (row + 2u * x + tap_w) * CHANNELS4]);
        }
    }
#else
    sum = vec4<f32>(source[clip + ((t * other.y + y / 2u) * other.z + x / 2u) * CHANNELS4]);
#end
#end
    output[group.z * size.x * size.y * size.z * CHANNELS4 + index] = vec4<{{ element }}>(sum);
}
