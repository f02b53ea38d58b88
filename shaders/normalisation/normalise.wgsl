// `x * scale + shift` with one scale and shift a channel and clip, then SiLU where asked for: GroupNorm once its statistics are
// known. A convolution on matrices would do it 27 times over, so there it is a pass of its own.
//
// With `gradient` it is the way back of the whole GroupNorm: the gradient of the input from that of the output, where
// `group_finish` has left what all pixels of a group owe to its mean and its variance.
#if half
enable f16;
#end

const CHANNELS4 = {{ channels }}u / 4u;

@group(0) @binding(0) var<storage, read_write> input: array<vec4<{{ element }}>>;    // [batch, pixels of all frames, channels]
@group(0) @binding(1) var<storage, read_write> affine: array<vec4<f32>>;             // [batch, scale or shift, channels]
#if gradient
@group(0) @binding(2) var<storage, read_write> gradient: array<vec4<{{ element }}>>; // as the input
@group(0) @binding(3) var<storage, read_write> moments: array<vec4<f32>>;            // [batch, mean or inverse deviation, channels]
@group(0) @binding(4) var<storage, read_write> owed: array<vec4<f32>>;               // [batch, to variance or mean, channels]
@group(0) @binding(5) var<storage, read_write> output: array<vec4<{{ element }}>>;   // as the input
@group(0) @binding(6) var<storage, read> info: array<u32>;
#else
@group(0) @binding(2) var<storage, read_write> output: array<vec4<{{ element }}>>;   // as the input
@group(0) @binding(3) var<storage, read> info: array<u32>;
#end

// Words of `info`; the launcher writes them in this order.
const COUNT4 = 0u;            // vec4s of one clip

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = (group.y * groups.x + group.x) * 256u + thread;
    if index < info[COUNT4] {
        let at = group.z * info[COUNT4] + index;
        let channel = group.z * 2u * CHANNELS4 + index % CHANNELS4;
        let x = vec4<f32>(input[at]);
        let scale = affine[channel];
#if gradient
        var back = vec4<f32>(gradient[at]);
#if silu
        let z = x * scale + affine[channel + CHANNELS4];
        let share = 1.0 / (1.0 + exp(-z));
        back *= share * (1.0 + z * (1.0 - share));
#end
        let centred = x - moments[channel];
        output[at] = vec4<{{ element }}>(back * scale + centred * owed[channel] + owed[channel + CHANNELS4]);
#else
        let y = x * scale + affine[channel + CHANNELS4];
#if silu
        output[at] = vec4<{{ element }}>(y / (1.0 + exp(-y)));
#else
        output[at] = vec4<{{ element }}>(y);
#end
#end
    }
}
