// The weight with which a convolution carries its gradient back: taps in reverse, channels exchanged.
//
// The frames in front of a clip are copies of its first frame, so that frame collects what they receive: it gets a weight of its
// own, whose taps in time are sums of the taps that meet there. See `conv3d_input_gradient` for the formula.
#if half
enable f16;
#end

@group(0) @binding(0) var<storage, read_write> weight: array<{{ element }}>;   // [taps, in, out]
@group(0) @binding(1) var<storage, read_write> output: array<{{ element }}>;   // [taps, out, in]
@group(0) @binding(2) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order.
const CHANNELS_IN = 0u;
const CHANNELS_OUT = 1u;
const KERNEL_T = 2u;
const PLANE = 3u;             // taps of one depth
const CAUSAL = 4u;
const FIRST_FRAME = 5u;       // 1 for the weight of the first frame

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let channels_in = info[CHANNELS_IN];
    let channels_out = info[CHANNELS_OUT];
    let kernel_t = i32(info[KERNEL_T]);
    let plane = info[PLANE];
    let index = (group.y * groups.x + group.x) * 256u + thread;
    if index >= info[KERNEL_T] * plane * channels_in * channels_out {
        return;
    }
    let channel_in = index % channels_in;
    let channel_out = index / channels_in % channels_out;
    let tap = index / (channels_in * channels_out);
    let in_plane = plane - 1u - tap % plane;
    let turned = i32(tap / plane);
    var first = kernel_t - 1 - turned;
    var last = first;
    if info[FIRST_FRAME] == 1u {
        // Padded frames 0 to CAUSAL are the first frame; `meets` is the frame of the gradient (times the stride) of this tap.
        let meets = turned + i32(info[CAUSAL]) - (kernel_t - 1);
        first = max(-meets, 0);
        last = min(i32(info[CAUSAL]) - meets, kernel_t - 1);
    }
    var sum = 0.0;
    for (var t = first; t <= last; t += 1) {
        sum += f32(weight[((u32(t) * plane + in_plane) * channels_in + channel_in) * channels_out + channel_out]);
    }
    output[index] = {{ element }}(sum);
}
