// Gradient of a weight, plain tier: for every tap of a convolution the product of the shifted input, transposed, with the
// gradient of the output.
//
// One workgroup owns one tap, ROWS input channels and COLUMNS output channels; it walks over a part of the output's pixels of
// all clips in slices of DEPTH. Each thread sums a 4 x 4 block. The parts are added by `sum_of_parts`.
#if half
enable f16;
#end

const ROWS = 64u;
const COLUMNS = 64u;
const DEPTH = 16u;
const BLOCK = 4u;

@group(0) @binding(0) var<storage, read_write> input: array<{{ element }}>;      // [batch, frames, height, width, in]
@group(0) @binding(1) var<storage, read_write> gradient: array<{{ element }}>;   // [batch, frames, height, width, out], of the output
@group(0) @binding(2) var<storage, read_write> parts: array<f32>;                // [parts, taps, in, out]
@group(0) @binding(3) var<storage, read> info: array<u32>;

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
const PIXELS = 17u;           // of the output, in all clips
const PIXELS_A_PART = 18u;

var<workgroup> left_block: array<f32, DEPTH * ROWS>;
var<workgroup> right_block: array<f32, DEPTH * COLUMNS>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let channels_in = info[CHANNELS_IN];
    let channels_out = info[CHANNELS_OUT];
    let column_blocks = (channels_out + COLUMNS - 1u) / COLUMNS;
    let row_blocks = (channels_in + ROWS - 1u) / ROWS;
    let first_column = (group.x % column_blocks) * COLUMNS;
    let first_row = (group.x / column_blocks % row_blocks) * ROWS;
    let tap = group.x / (column_blocks * row_blocks);
    let tap_t = tap / (info[KERNEL_H] * info[KERNEL_W]);
    let tap_h = tap / info[KERNEL_W] % info[KERNEL_H];
    let tap_w = tap % info[KERNEL_W];
    let begin = group.y * info[PIXELS_A_PART];
    let to = min(begin + info[PIXELS_A_PART], info[PIXELS]);

    // The pixel of a slice and the four channels that this thread brings into both blocks.
    let load_pixel = thread / 16u;
    let load_channel = (thread % 16u) * 4u;
    let block_x = (thread % 16u) * BLOCK;
    let block_y = (thread / 16u) * BLOCK;
    var sums: array<vec4<f32>, BLOCK>;

    for (var first = begin; first < to; first += DEPTH) {
        let pixel = first + load_pixel;
        let there = pixel < to;
        let frame = pixel / (info[WIDTH_OUT] * info[HEIGHT_OUT]);
        let clip = frame / info[FRAMES_OUT];
        let t = u32(max(i32(frame % info[FRAMES_OUT] * info[STRIDE_T] + tap_t) - i32(info[CAUSAL]), 0));
        // Outside of the picture these wrap around and are too large.
        let y = pixel / info[WIDTH_OUT] % info[HEIGHT_OUT] * info[STRIDE_H] + tap_h - info[TOP];
        let x = pixel % info[WIDTH_OUT] * info[STRIDE_W] + tap_w - info[LEFT];
        let seen = there && y < info[HEIGHT_IN] && x < info[WIDTH_IN];
        let source = (((clip * info[FRAMES_IN] + t) * info[HEIGHT_IN] + y) * info[WIDTH_IN] + x) * channels_in;
        workgroupBarrier();
        for (var i = 0u; i < 4u; i += 1u) {
            let row = first_row + load_channel + i;
            var v = 0.0;
            if seen && row < channels_in {
                v = f32(input[source + row]);
            }
            left_block[load_pixel * ROWS + load_channel + i] = v;
            let column = first_column + load_channel + i;
            var g = 0.0;
            if there && column < channels_out {
                g = f32(gradient[pixel * channels_out + column]);
            }
            right_block[load_pixel * COLUMNS + load_channel + i] = g;
        }
        workgroupBarrier();
        for (var depth = 0u; depth < DEPTH; depth += 1u) {
            let r = depth * COLUMNS + block_x;
            let right = vec4<f32>(right_block[r], right_block[r + 1u], right_block[r + 2u], right_block[r + 3u]);
            for (var p = 0u; p < BLOCK; p += 1u) {
                sums[p] += left_block[depth * ROWS + block_y + p] * right;
            }
        }
    }

    let taps = info[KERNEL_T] * info[KERNEL_H] * info[KERNEL_W];
    for (var p = 0u; p < BLOCK; p += 1u) {
        let row = first_row + block_y + p;
        for (var c = 0u; c < BLOCK; c += 1u) {
            let column = first_column + block_x + c;
            if row < channels_in && column < channels_out {
                parts[((group.y * taps + tap) * channels_in + row) * channels_out + column] = sums[p][c];
            }
        }
    }
}
