// Gradient of a weight in blocks of registers, subgroup tier: the product of the shifted input, transposed, with the gradient of
// the output; `linear` is a convolution of one tap. It needs nothing that an adapter may lack.
//
// The rows of the product are the input channels of all taps, one tap after the other, so that few channels still fill a
// workgroup; the inner axis is the output's pixels. One workgroup of THREADS threads owns as many rows and COLUMNS output
// channels, a thread 8 x 8 of the sums. It walks over a part of all segments, runs of DEPTH pixels in a row of the picture:
// segment n + 1 travels from storage into registers while segment n is multiplied. Both sides lie channel by channel, so neither
// is turned on the way. The parts are added by `sum_of_parts`. All sizes are words of `info`, as in `block_product`.
#if half
enable f16;
#end

const THREADS = {{ threads }}u;             // and rows of a workgroup
const COLUMNS = 64u;
const DEPTH = 16u;
const QUARTERS = THREADS / 4u;              // groups of four rows
const HALF = QUARTERS / 2u;
const RIGHT_LINE = COLUMNS / 4u;

@group(0) @binding(0) var<storage, read_write> input: array<vec4<{{ element }}>>;      // [batch, frames, height, width, in]
@group(0) @binding(1) var<storage, read_write> gradient: array<vec4<{{ element }}>>;   // of the output: [.., out]
@group(0) @binding(2) var<storage, read_write> parts: array<vec4<f32>>;                // [parts, taps, in, out]
@group(0) @binding(3) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order.
const FRAMES_IN = 0u;
const HEIGHT_IN = 1u;
const WIDTH_IN = 2u;
const INNER = 3u;             // channels of the input, in vectors
const FRAMES_OUT = 4u;
const HEIGHT_OUT = 5u;
const WIDTH_OUT = 6u;
const ALL_COLUMNS = 7u;       // channels of the output, in vectors
const KERNEL_T = 8u;
const KERNEL_H = 9u;
const KERNEL_W = 10u;
const STRIDE_T = 11u;
const STRIDE_H = 12u;
const STRIDE_W = 13u;
const CAUSAL = 14u;
const TOP = 15u;
const LEFT = 16u;
const SEGMENTS = 17u;         // of all clips
const SEGMENTS_A_PART = 18u;

var<workgroup> left_slice: array<vec4<f32>, DEPTH * QUARTERS>;      // [pixel][four rows]
var<workgroup> right_slice: array<vec4<f32>, DEPTH * RIGHT_LINE>;   // [pixel][column]

@compute @workgroup_size({{ threads }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let inner = info[INNER];
    let columns = info[ALL_COLUMNS];
    let plane = info[KERNEL_H] * info[KERNEL_W];
    let rows = info[KERNEL_T] * plane * inner;                              // in vectors
    let column_blocks = (columns + RIGHT_LINE - 1u) / RIGHT_LINE;
    let first_column = (group.x % column_blocks) * RIGHT_LINE;
    let first_row = (group.x / column_blocks) * QUARTERS;
    let begin = group.y * info[SEGMENTS_A_PART];
    let steps = min(info[SEGMENTS_A_PART], info[SEGMENTS] - begin);

    let across = thread % 8u;
    let down = thread / 8u;
#for h in 0..2
#for r in 0..4
#for c in 0..2
    var c_{{ h }}_{{ r }}_{{ c }} = vec4<f32>();
#end
#end
#end

    // What this thread brings in: four rows of every fourth pixel of a segment, always of the same tap, and some columns.
    let row = first_row + thread % QUARTERS;
    let left_pixel = thread / QUARTERS;
    let there = row < rows;
    let channel = row % inner;
    let tap = row / inner;
    let tap_t = tap / plane;
    let tap_h = tap / info[KERNEL_W] % info[KERNEL_H];
    let tap_w = tap % info[KERNEL_W];
#for r in 0..4
    var a_{{ r }}: vec4<{{ element }}>;
#end
#for j in 0..{{ right_loads }}
    let right_pixel_{{ j }} = (thread + {{ j }}u * THREADS) / RIGHT_LINE;
    let right_column_{{ j }} = first_column + (thread + {{ j }}u * THREADS) % RIGHT_LINE;
    var b_{{ j }}: vec4<{{ element }}>;
#end
    let height_in = info[HEIGHT_IN];
    let width_in = info[WIDTH_IN];
    let width_out = info[WIDTH_OUT];
    let segments_a_row = (width_out + DEPTH - 1u) / DEPTH;

    // Pass 0 brings the first segment in; pass 1 is the loop: step n multiplies segment n - 1 and brings segment n in. The last
    // step reads its own segment again and stores it where nobody looks.
#for pass in 0..2
#if pass_{{ pass }}_is_first
    {
        let segment = begin;
#else
    for (var step = 1u; step <= steps; step += 1u) {
        let segment = begin + min(step, steps - 1u);
#end
        {
            let line = segment / segments_a_row;
            let first_x = (segment % segments_a_row) * DEPTH;
            let frame = line / info[HEIGHT_OUT];
            let t = frame % info[FRAMES_OUT];
            let clip = frame / info[FRAMES_OUT];
            let t_in = u32(max(i32(t * info[STRIDE_T] + tap_t) - i32(info[CAUSAL]), 0));
            // Outside of the picture these wrap around and are too large.
            let y_in = line % info[HEIGHT_OUT] * info[STRIDE_H] + tap_h - info[TOP];
            let x_from = first_x * info[STRIDE_W] + tap_w - info[LEFT];
            let in_picture = there && y_in < height_in;
            let input_from = ((clip * info[FRAMES_IN] + t_in) * height_in + y_in) * width_in;
#for r in 0..4
            {
                let pixel = left_pixel + {{ r * 4 }}u;
                let x_in = x_from + pixel * info[STRIDE_W];
                let inside = in_picture && first_x + pixel < width_out && x_in < width_in;
                let at = select(0u, (input_from + x_in) * inner + channel, inside);
                a_{{ r }} = select(vec4<{{ element }}>(), input[at], inside);
            }
#end
#for j in 0..{{ right_loads }}
            {
                let x = first_x + right_pixel_{{ j }};
                let inside = x < width_out && right_column_{{ j }} < columns;
                let at = select(0u, (line * width_out + x) * columns + right_column_{{ j }}, inside);
                b_{{ j }} = select(vec4<{{ element }}>(), gradient[at], inside);
            }
#end
        }
#if pass_{{ pass }}_is_first
#else
        for (var k = 0u; k < DEPTH; k += 4u) {
#for i in 0..4
            {
                let left_at = (k + {{ i }}u) * QUARTERS + down;
                let right_at = (k + {{ i }}u) * RIGHT_LINE + across;
                let a0 = left_slice[left_at];
                let a1 = left_slice[left_at + HALF];
                let b0 = right_slice[right_at];
                let b1 = right_slice[right_at + 8u];
#for r in 0..4
#for h in 0..2
#for c in 0..2
                c_{{ h }}_{{ r }}_{{ c }} = fma(vec4<f32>(a{{ h }}[{{ r }}]), b{{ c }}, c_{{ h }}_{{ r }}_{{ c }});
#end
#end
#end
            }
#end
        }
        workgroupBarrier();
#end
#for r in 0..4
        left_slice[thread + {{ r }}u * THREADS] = vec4<f32>(a_{{ r }});
#end
#for j in 0..{{ right_loads }}
        right_slice[thread + {{ j }}u * THREADS] = vec4<f32>(b_{{ j }});
#end
        workgroupBarrier();
    }
#end

#for c in 0..2
    {
        let column = first_column + across + {{ c * 8 }}u;
        if column < columns {
#for h in 0..2
            {
                let four_rows = first_row + down + {{ h }}u * HALF;
                if four_rows < rows {
                    let at = (group.y * rows + four_rows) * 4u * columns + column;
#for r in 0..4
                    parts[at + {{ r }}u * columns] = c_{{ h }}_{{ r }}_{{ c }};
#end
                }
            }
#end
        }
    }
#end
}
