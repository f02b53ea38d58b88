// Sums over the pixels of a clip for GroupNorm, for every channel: each workgroup sums a part; `group_finish` adds the parts.
//
// Forward: the distances from the clip's first pixel and their squares, so that a variance does not cancel where values lie far
// from zero. With `gradient`: the gradient (behind SiLU, where the norm has it) and its product with the distance from the mean.
#if half
enable f16;
#end

const THREADS = 256u;
const CHANNELS4 = {{ channels }}u / 4u;
const ACROSS = min(CHANNELS4, THREADS);
const LANES = THREADS / ACROSS;

@group(0) @binding(0) var<storage, read_write> input: array<vec4<{{ element }}>>;      // [batch, pixels of all frames, channels]
#if gradient
@group(0) @binding(1) var<storage, read_write> gradient: array<vec4<{{ element }}>>;   // as the input
@group(0) @binding(2) var<storage, read_write> moments: array<vec4<f32>>;              // [batch, mean or inverse deviation, channels]
#if silu
@group(0) @binding(3) var<storage, read_write> affine: array<vec4<f32>>;               // [batch, scale or shift, channels]
#end
#end
@group(0) @binding({{ parts_binding }}) var<storage, read_write> parts: array<vec4<f32>>;   // [batch, parts, first or second sum, channels]
@group(0) @binding({{ parts_binding + 1 }}) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order.
const PIXELS = 0u;            // of a clip
const PIXELS_A_PART = 1u;
const PARTS = 2u;             // of a clip

var<workgroup> first_sums: array<vec4<f32>, THREADS>;
var<workgroup> second_sums: array<vec4<f32>, THREADS>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let lane = thread / ACROSS;
    let column = group.x * ACROSS + thread % ACROSS;
    let clip = group.z;
    let clip_start = clip * info[PIXELS] * CHANNELS4 + column;
    let start = group.y * info[PIXELS_A_PART];
    let end = min(start + info[PIXELS_A_PART], info[PIXELS]);
    let there = lane < LANES && column < CHANNELS4;
    var first = vec4<f32>();
    var second = vec4<f32>();
    if there {
#if gradient
        let centre = moments[clip * 2u * CHANNELS4 + column];
#if silu
        let scale = affine[clip * 2u * CHANNELS4 + column];
        let shift = affine[(clip * 2u + 1u) * CHANNELS4 + column];
#end
#else
        let centre = vec4<f32>(input[clip_start]);
#end
        for (var pixel = start + lane; pixel < end; pixel += LANES) {
            let at = clip_start + pixel * CHANNELS4;
            let x = vec4<f32>(input[at]);
#if gradient
            var back = vec4<f32>(gradient[at]);
#if silu
            let z = x * scale + shift;
            let share = 1.0 / (1.0 + exp(-z));
            back *= share * (1.0 + z * (1.0 - share));
#end
            first += back;
            second += back * (x - centre);
#else
            let distance = x - centre;
            first += distance;
            second += distance * distance;
#end
        }
    }
    first_sums[thread] = first;
    second_sums[thread] = second;
    workgroupBarrier();
    if lane == 0u && there {
        for (var other = 1u; other < LANES; other += 1u) {
            first += first_sums[other * ACROSS + thread];
            second += second_sums[other * ACROSS + thread];
        }
        let to = (clip * info[PARTS] + group.y) * 2u * CHANNELS4 + column;
        parts[to] = first;
        parts[to + CHANNELS4] = second;
    }
}
