// Causal 3D convolution on channels-last video, plain tier: a tiled matrix product whose left side is gathered on the way.
//
// One workgroup owns PIXELS output pixels of one clip and CHANNELS output channels; it walks over the taps and over the input
// channels in slices of DEPTH. Each thread sums a 4 x 4 block. Frames before the first are copies of the first, pixels
// outside the picture are zero. Where the input is normalised on the way, the zeros stay zeros. With `gradient` it carries the
// gradient of a convolution's output back to its input, as `matrix_product` does.
#if half
enable f16;
#end

const PIXELS = 64u;
const CHANNELS = 64u;
const DEPTH = 16u;
const BLOCK = 4u;

@group(0) @binding(0) var<storage, read_write> input: array<{{ element }}>;    // [batch, frames, height, width, in]
@group(0) @binding(1) var<storage, read_write> weight: array<{{ element }}>;   // [taps, in, out]
#if gradient
#else
@group(0) @binding(2) var<storage, read_write> bias: array<{{ element }}>;     // [out]
#end
#if affine
@group(0) @binding({{ affine_binding }}) var<storage, read_write> affine: array<f32>;   // [batch, scale or shift, in]
#end
#if residual
@group(0) @binding({{ residual_binding }}) var<storage, read_write> residual: array<{{ element }}>;   // as the output
#end
@group(0) @binding({{ output_binding }}) var<storage, read_write> output: array<{{ element }}>;   // [batch, frames, height, width, out]
@group(0) @binding({{ info_binding }}) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order.
const FRAMES_IN = 0u;
const HEIGHT_IN = 1u;
const WIDTH_IN = 2u;
const CHANNELS_IN = 3u;
const FRAMES_OUT = 4u;
const HEIGHT_OUT = 5u;
const WIDTH_OUT = 6u;
const CHANNELS_OUT = 7u;
const KERNEL_T = 8u;
const KERNEL_H = 9u;
const KERNEL_W = 10u;
const STRIDE_T = 11u;
const STRIDE_H = 12u;
const STRIDE_W = 13u;
const CAUSAL = 14u;
const TOP = 15u;
const LEFT = 16u;
#if gradient
const FIRST_PIXEL = 17u;      // of this launch, in its clip
const END_PIXEL = 18u;
#end

var<workgroup> left_block: array<f32, DEPTH * PIXELS>;
var<workgroup> right_block: array<f32, DEPTH * CHANNELS>;

#if gradient
// The pixel at a place, which counts steps of the stride; -1 between pixels and before the first.
fn place(at: i32, stride: u32) -> i32 {
    return select(-1, at / i32(stride), at >= 0 && at % i32(stride) == 0);
}
#end

#if affine
fn silu(x: f32) -> f32 {
    return x / (1.0 + exp(-x));
}
#end

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let channels_in = info[CHANNELS_IN];
    let channels_out = info[CHANNELS_OUT];
    let width_out = info[WIDTH_OUT];
    let height_out = info[HEIGHT_OUT];
    let pixels_out = info[FRAMES_OUT] * height_out * width_out;
    let batch = group.z;
    let channel_groups = (channels_out + CHANNELS - 1u) / CHANNELS;
    // The pixel blocks are folded over x and y.
    let block = group.y * (groups.x / channel_groups) + group.x / channel_groups;
#if gradient
    let first_pixel = info[FIRST_PIXEL] + block * PIXELS;
    let end_pixel = info[END_PIXEL];
#else
    let first_pixel = block * PIXELS;
    let end_pixel = pixels_out;
#end
    let first_channel = (group.x % channel_groups) * CHANNELS;

    // The pixel and the four input channels that this thread brings into the left block.
    let load_pixel = thread / 4u;
    let load_depth = (thread % 4u) * 4u;
    let pixel = first_pixel + load_pixel;
    let inside = pixel < end_pixel;
#if gradient
    // Places times the stride: only multiples are pixels of the output.
    let x0 = i32(pixel % width_out) - i32(info[LEFT]);
    let y0 = i32((pixel / width_out) % height_out) - i32(info[TOP]);
    let t0 = i32(pixel / (width_out * height_out)) - i32(info[CAUSAL]);
#else
    let x0 = i32((pixel % width_out) * info[STRIDE_W]) - i32(info[LEFT]);
    let y0 = i32(((pixel / width_out) % height_out) * info[STRIDE_H]) - i32(info[TOP]);
    let t0 = i32((pixel / (width_out * height_out)) * info[STRIDE_T]) - i32(info[CAUSAL]);
#end

    let block_x = (thread % 16u) * BLOCK;
    let block_y = (thread / 16u) * BLOCK;
    var sums: array<vec4<f32>, BLOCK>;

    for (var tap_t = 0u; tap_t < info[KERNEL_T]; tap_t += 1u) {
#if gradient
        let t = place(t0 + i32(tap_t), info[STRIDE_T]);
        let kept = inside && t < i32(info[FRAMES_IN]);
#else
        let t = max(t0 + i32(tap_t), 0);
        let kept = inside;
#end
        for (var tap_h = 0u; tap_h < info[KERNEL_H]; tap_h += 1u) {
#if gradient
            let y = place(y0 + i32(tap_h), info[STRIDE_H]);
#else
            let y = y0 + i32(tap_h);
#end
            for (var tap_w = 0u; tap_w < info[KERNEL_W]; tap_w += 1u) {
#if gradient
                let x = place(x0 + i32(tap_w), info[STRIDE_W]);
#else
                let x = x0 + i32(tap_w);
#end
                let seen = kept && t >= 0 && y >= 0 && y < i32(info[HEIGHT_IN]) && x >= 0 && x < i32(info[WIDTH_IN]);
                let source = (((batch * info[FRAMES_IN] + u32(max(t, 0))) * info[HEIGHT_IN] + u32(max(y, 0))) * info[WIDTH_IN] + u32(max(x, 0))) * channels_in;
                let tap = (tap_t * info[KERNEL_H] + tap_h) * info[KERNEL_W] + tap_w;
                for (var first_depth = 0u; first_depth < channels_in; first_depth += DEPTH) {
                    workgroupBarrier();
                    for (var i = 0u; i < 4u; i += 1u) {
                        let depth = first_depth + load_depth + i;
                        var v = 0.0;
                        if seen && depth < channels_in {
                            v = f32(input[source + depth]);
#if affine
                            let scale_at = batch * 2u * channels_in + depth;
                            v = silu(v * affine[scale_at] + affine[scale_at + channels_in]);
#end
                        }
                        left_block[(load_depth + i) * PIXELS + load_pixel] = v;
                    }
                    for (var i = thread; i < DEPTH * CHANNELS; i += 256u) {
                        let depth = first_depth + i / CHANNELS;
                        let channel = first_channel + i % CHANNELS;
                        var w = 0.0;
                        if depth < channels_in && channel < channels_out {
                            w = f32(weight[(tap * channels_in + depth) * channels_out + channel]);
                        }
                        right_block[i] = w;
                    }
                    workgroupBarrier();
                    for (var depth = 0u; depth < DEPTH; depth += 1u) {
                        let r = depth * CHANNELS + block_x;
                        let right = vec4<f32>(right_block[r], right_block[r + 1u], right_block[r + 2u], right_block[r + 3u]);
                        for (var p = 0u; p < BLOCK; p += 1u) {
                            sums[p] += left_block[depth * PIXELS + block_y + p] * right;
                        }
                    }
                }
            }
        }
    }

    for (var p = 0u; p < BLOCK; p += 1u) {
        let at = first_pixel + block_y + p;
        if at < end_pixel {
            for (var c = 0u; c < BLOCK; c += 1u) {
                let channel = first_channel + block_x + c;
                if channel < channels_out {
                    let target_index = (batch * pixels_out + at) * channels_out + channel;
#if gradient
                    var v = sums[p][c];
#else
                    var v = sums[p][c] + f32(bias[channel]);
#end
#if residual
                    v += f32(residual[target_index]);
#end
                    output[target_index] = {{ element }}(v);
                }
            }
        }
    }
}
