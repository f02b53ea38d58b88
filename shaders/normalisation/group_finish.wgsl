// What the sums of `group_sums` say about one group of channels of one clip; a workgroup each.
//
// Forward: scale and shift of every channel, and what they were made of. With `gradient`: what every pixel owes to the group's
// variance and mean, and the clip's share of the gradients of weight and bias. For a norm `y = xhat w + b`,
// `xhat = (x - mean) r`: `dx = r (dy w - mean(dy w) - xhat mean(dy w xhat))`, means over the group.
#if half
enable f16;
#end

const THREADS = 64u;
const MOST_MEMBERS = 64u;
const CHANNELS = {{ channels }}u;
const GROUPS = {{ groups }}u;
const MEMBERS = CHANNELS / GROUPS;

@group(0) @binding(0) var<storage, read_write> parts: array<f32>;             // [batch, parts, first or second sum, channels]
@group(0) @binding(1) var<storage, read_write> weight: array<f32>;            // [channels]
#if gradient
@group(0) @binding(2) var<storage, read_write> moments: array<f32>;           // [batch, mean or inverse deviation, channels]
@group(0) @binding(3) var<storage, read_write> owed: array<f32>;              // [batch, to variance or mean, channels]
@group(0) @binding(4) var<storage, read_write> weight_parts: array<f32>;      // [batch, channels]
@group(0) @binding(5) var<storage, read_write> bias_parts: array<f32>;        // [batch, channels]
@group(0) @binding(6) var<storage, read> info: array<u32>;
#else
@group(0) @binding(2) var<storage, read_write> bias: array<f32>;              // [channels]
@group(0) @binding(3) var<storage, read_write> input: array<{{ element }}>;   // [batch, pixels of all frames, channels]
@group(0) @binding(4) var<storage, read_write> affine: array<f32>;            // [batch, scale or shift, channels]
@group(0) @binding(5) var<storage, read_write> moments: array<f32>;           // [batch, mean or inverse deviation, channels]
@group(0) @binding(6) var<storage, read> info: array<u32>;
#end

// Words of `info`; the launcher writes them in this order.
const PIXELS = 0u;            // of a clip
const PARTS = 1u;             // of a clip
const EPSILON = 2u;           // the bits of an f32

var<workgroup> first_sums: array<f32, THREADS>;
var<workgroup> second_sums: array<f32, THREADS>;
var<workgroup> firsts: array<f32, MOST_MEMBERS>;
var<workgroup> seconds: array<f32, MOST_MEMBERS>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let clip = group.y;
    let first_channel = group.x * MEMBERS;
    let count = f32(info[PIXELS]);
    for (var member = 0u; member < MEMBERS; member += 1u) {
        var first = 0.0;
        var second = 0.0;
        for (var part = thread; part < info[PARTS]; part += THREADS) {
            let at = (clip * info[PARTS] + part) * 2u * CHANNELS + first_channel + member;
            first += parts[at];
            second += parts[at + CHANNELS];
        }
        first_sums[thread] = first;
        second_sums[thread] = second;
        workgroupBarrier();
        for (var half_way = THREADS / 2u; half_way > 0u; half_way /= 2u) {
            if thread < half_way {
                first_sums[thread] += first_sums[thread + half_way];
                second_sums[thread] += second_sums[thread + half_way];
            }
            workgroupBarrier();
        }
        if thread == 0u {
            firsts[member] = first_sums[0];
            seconds[member] = second_sums[0];
        }
        workgroupBarrier();
    }

    let members = f32(MEMBERS);
    let row = clip * 2u * CHANNELS;
#if gradient
    // Means over the group of `dy w` and of `dy w xhat`.
    let inverse = moments[row + CHANNELS + first_channel];
    var level = 0.0;
    var slope = 0.0;
    for (var member = 0u; member < MEMBERS; member += 1u) {
        let w = weight[first_channel + member];
        level += firsts[member] * w;
        slope += seconds[member] * inverse * w;
    }
    level /= count * members;
    slope /= count * members;
    for (var member = thread; member < MEMBERS; member += THREADS) {
        let channel = first_channel + member;
        owed[row + channel] = -inverse * inverse * slope;
        owed[row + CHANNELS + channel] = -inverse * level;
        weight_parts[clip * CHANNELS + channel] = seconds[member] * inverse;
        bias_parts[clip * CHANNELS + channel] = firsts[member];
    }
#else
    // Each channel around its own mean, then the channels' means around that of the group.
    let pixel_start = clip * info[PIXELS] * CHANNELS + first_channel;
    var mean = 0.0;
    for (var member = 0u; member < MEMBERS; member += 1u) {
        mean += f32(input[pixel_start + member]) + firsts[member] / count;
    }
    mean /= members;
    var variance = 0.0;
    for (var member = 0u; member < MEMBERS; member += 1u) {
        let own = firsts[member] / count;
        let distance = f32(input[pixel_start + member]) + own - mean;
        variance += seconds[member] / count - own * own + distance * distance;
    }
    variance = max(variance / members, 0.0);
    let inverse = 1.0 / sqrt(variance + bitcast<f32>(info[EPSILON]));
    for (var member = thread; member < MEMBERS; member += THREADS) {
        let channel = first_channel + member;
        let scale = inverse * weight[channel];
        affine[row + channel] = scale;
        affine[row + CHANNELS + channel] = bias[channel] - mean * scale;
        moments[row + channel] = mean;
        moments[row + CHANNELS + channel] = inverse;
    }
#end
}
