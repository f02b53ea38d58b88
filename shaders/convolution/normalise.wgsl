// `silu(x * scale + shift)` with one scale and shift a channel and clip: what the plain convolution does to its input on the
// way. A convolution on matrices would do it 27 times over, so there it is a pass of its own.
enable f16;

const CHANNELS4 = {{ channels }}u / 4u;

@group(0) @binding(0) var<storage, read_write> input: array<vec4<f16>>;    // [batch, pixels of all frames, channels]
@group(0) @binding(1) var<storage, read_write> affine: array<vec4<f32>>;   // [batch, scale or shift, channels]
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f16>>;   // as the input
@group(0) @binding(3) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order.
const COUNT4 = 0u;            // vec4s of one clip

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = (group.y * groups.x + group.x) * 256u + thread;
    if index < info[COUNT4] {
        let at = group.z * info[COUNT4] + index;
        let channel = group.z * 2u * CHANNELS4 + index % CHANNELS4;
        let x = vec4<f32>(input[at]) * affine[channel] + affine[channel + CHANNELS4];
        output[at] = vec4<f16>(x / (1.0 + exp(-x)));
    }
}
