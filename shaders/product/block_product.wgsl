// Matrix product in blocks of registers, f16 or f32 with f32 sums: the subgroup tier of `linear` and, with its left side
// gathered on the way, of `conv3d`. It needs nothing that an adapter may lack. With `gradient` it carries the gradient of a
// convolution's output back to its input, as `matrix_product` does.
//
// One workgroup of THREADS threads owns as many rows (tokens, output pixels) and COLUMNS columns, a thread 8 x 8 of the sums. It
// walks over the inner axis (of every tap in turn) in slices of DEPTH: slice n + 1 travels from storage into registers while
// slice n is multiplied. All sizes are words of `info`, so that all layers of a network share a pipeline.
#if half
enable f16;
#end

const THREADS = {{ threads }}u;             // and rows of a workgroup
const COLUMNS = 64u;
const DEPTH = 16u;
const VECTORS = DEPTH / 4u;                 // of a row of the left slice
const QUARTERS = THREADS / 4u;              // groups of four rows
const HALF = QUARTERS / 2u;
// A line of the left slice; the odd length spreads the stores over the banks.
const LEFT_LINE = QUARTERS + 1u;
const RIGHT_LINE = COLUMNS / 4u;
const BAND = 8u;                            // row blocks that share the weights of a column block in the cache

#if convolution
@group(0) @binding(0) var<storage, read_write> input: array<vec4<{{ element }}>>;    // [batch, frames, height, width, inner]
@group(0) @binding(1) var<storage, read_write> weight: array<vec4<{{ element }}>>;   // [taps, inner, columns]
#else
@group(0) @binding(0) var<storage, read_write> input: array<vec4<{{ element }}>>;    // [rows, inner]
@group(0) @binding(1) var<storage, read_write> weight: array<vec4<{{ element }}>>;   // [inner, columns]
#end
#if bias
@group(0) @binding(2) var<storage, read_write> bias: array<vec4<{{ element }}>>;     // [columns]
#end
#if residual
@group(0) @binding({{ output_binding }}) var<storage, read_write> residual: array<vec4<{{ element }}>>;    // as the output
@group(0) @binding({{ output_binding + 1 }}) var<storage, read_write> output: array<vec4<{{ element }}>>;  // [batch, rows, columns]
@group(0) @binding({{ output_binding + 2 }}) var<storage, read> info: array<u32>;
#else
@group(0) @binding({{ output_binding }}) var<storage, read_write> output: array<vec4<{{ element }}>>;      // [batch, rows, columns]
@group(0) @binding({{ output_binding + 1 }}) var<storage, read> info: array<u32>;
#end

// Words of `info`; the launcher writes them in this order.
const ROWS = 0u;              // of one clip
const INNER = 1u;             // of one tap, in vectors
const ALL_COLUMNS = 2u;       // in vectors
#if convolution
const FRAMES_IN = 3u;
const HEIGHT_IN = 4u;
const WIDTH_IN = 5u;
const HEIGHT_OUT = 6u;
const WIDTH_OUT = 7u;
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
const FIRST_ROW = 17u;        // of this launch, in its clip
const CLIP_ROWS = 18u;
#end
#end

var<workgroup> left_slice: array<vec4<f32>, DEPTH * LEFT_LINE>;     // [inner][four rows]
var<workgroup> right_slice: array<vec4<f32>, DEPTH * RIGHT_LINE>;   // [inner][column]

#if convolution
#if gradient
// A place in steps of the stride, between which there are no pixels.
fn whole(place: u32, stride: u32) -> u32 {
#if strided
    return select(0xffffffffu, place / stride, place % stride == 0u);
#else
    return place;
#end
}

// Whether there is a pixel at a place; places before the first wrap around and are too large.
fn is_pixel(x: u32, y: u32, t: i32) -> bool {
    let in_row = whole(x, info[STRIDE_W]) < info[WIDTH_IN];
    return in_row && whole(y, info[STRIDE_H]) < info[HEIGHT_IN] && whole(u32(t), info[STRIDE_T]) < info[FRAMES_IN];
}

fn pixel_at(x: u32, y: u32, t: i32) -> u32 {
    let line = whole(u32(t), info[STRIDE_T]) * info[HEIGHT_IN] + whole(y, info[STRIDE_H]);
    return line * info[WIDTH_IN] + whole(x, info[STRIDE_W]);
}
#else
// Whether there is a pixel at a place; places left of and above the picture wrap around and are too large.
fn is_pixel(x: u32, y: u32, t: i32) -> bool {
    return x < info[WIDTH_IN] && y < info[HEIGHT_IN];
}

fn pixel_at(x: u32, y: u32, t: i32) -> u32 {
    return (u32(max(t, 0)) * info[HEIGHT_IN] + y) * info[WIDTH_IN] + x;
}
#end
#end

@compute @workgroup_size({{ threads }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) thread: u32) {
    let rows = info[ROWS];
    let inner = info[INNER];
    let columns = info[ALL_COLUMNS];
    let row_blocks = (rows + THREADS - 1u) / THREADS;
    let column_blocks = (columns + RIGHT_LINE - 1u) / RIGHT_LINE;
    let index = group.y * groups.x + group.x;
    if index >= row_blocks * column_blocks {
        return;
    }
    let band = index / (BAND * column_blocks);
    let in_band = index % (BAND * column_blocks);
    let band_height = min(BAND, row_blocks - band * BAND);
    let first_row = (band * BAND + in_band % band_height) * THREADS;
    let first_column = (in_band / band_height) * RIGHT_LINE;
#if gradient
    let rows_before = info[FIRST_ROW];
    let output_from = (group.z * info[CLIP_ROWS] + rows_before) * columns;
#else
    let output_from = group.z * rows * columns;
#end

    let across = thread % 8u;
    let down = thread / 8u;
#for h in 0..2
#for r in 0..4
#for c in 0..2
    var c_{{ h }}_{{ r }}_{{ c }} = vec4<f32>();
#end
#end
#end

    // What this thread brings in: one vector of each of four rows of the left side, and so many vectors of the right side.
    // Rows and columns past the end are copies of the last.
    let left_vector = thread % VECTORS;
    let left_quarter = thread / VECTORS;
#if convolution
    let input_from = group.z * info[FRAMES_IN] * info[HEIGHT_IN] * info[WIDTH_IN];
#end
#for r in 0..4
    let row_{{ r }} = min(first_row + left_quarter * 4u + {{ r }}u, rows - 1u);
#if convolution
#if gradient
    let pixel_{{ r }} = rows_before + row_{{ r }};
    let x_{{ r }} = pixel_{{ r }} % info[WIDTH_OUT] - info[LEFT];
    let y_{{ r }} = pixel_{{ r }} / info[WIDTH_OUT] % info[HEIGHT_OUT] - info[TOP];
    let t_{{ r }} = i32(pixel_{{ r }} / (info[WIDTH_OUT] * info[HEIGHT_OUT])) - i32(info[CAUSAL]);
#else
    let x_{{ r }} = (row_{{ r }} % info[WIDTH_OUT]) * info[STRIDE_W] - info[LEFT];
    let y_{{ r }} = ((row_{{ r }} / info[WIDTH_OUT]) % info[HEIGHT_OUT]) * info[STRIDE_H] - info[TOP];
    let t_{{ r }} = i32((row_{{ r }} / (info[WIDTH_OUT] * info[HEIGHT_OUT])) * info[STRIDE_T]) - i32(info[CAUSAL]);
#end
    var seen_{{ r }} = is_pixel(x_{{ r }}, y_{{ r }}, t_{{ r }});
    var from_{{ r }} = (input_from + pixel_at(x_{{ r }}, y_{{ r }}, t_{{ r }})) * inner + left_vector;
#else
    let from_{{ r }} = row_{{ r }} * inner + left_vector;
#end
    var a_{{ r }}: vec4<{{ element }}>;
#end
#for j in 0..{{ right_loads }}
    let right_row_{{ j }} = (thread + {{ j }}u * THREADS) / RIGHT_LINE;
    let right_column_{{ j }} = min(first_column + (thread + {{ j }}u * THREADS) % RIGHT_LINE, columns - 1u);
    var b_{{ j }}: vec4<{{ element }}>;
#end

    let slices = (inner + VECTORS - 1u) / VECTORS;
    var slice = 0u;               // that is loaded, in its tap
    var tap = 0u;
#if convolution
    let steps = slices * info[KERNEL_T] * info[KERNEL_H] * info[KERNEL_W];
    var tap_t = 0;
    var tap_h = 0u;
    var tap_w = 0u;
#else
    let steps = slices;
#end

    // Pass 0 brings the first slice in; pass 1 is the loop: step n multiplies slice n - 1 and brings slice n in. The last step
    // reads its own slice again and stores it where nobody looks.
#for pass in 0..2
#if pass_{{ pass }}_is_first
    {
#else
    for (var step = 1u; step <= steps; step += 1u) {
        if step < steps {
            slice += 1u;
#if convolution
            if slice == slices {
                // A new tap: other pixels.
                slice = 0u;
                tap += 1u;
                tap_w += 1u;
                if tap_w == info[KERNEL_W] {
                    tap_w = 0u;
                    tap_h += 1u;
                    if tap_h == info[KERNEL_H] {
                        tap_h = 0u;
                        tap_t += 1;
                    }
                }
#for r in 0..4
                seen_{{ r }} = is_pixel(x_{{ r }} + tap_w, y_{{ r }} + tap_h, t_{{ r }} + tap_t);
                from_{{ r }} = (input_from + pixel_at(x_{{ r }} + tap_w, y_{{ r }} + tap_h, t_{{ r }} + tap_t)) * inner + left_vector;
#end
            }
#end
        }
#end
        {
            let in_row = slice * VECTORS + left_vector < inner;
#for r in 0..4
#if convolution
            let inside_{{ r }} = in_row && seen_{{ r }};
#else
            let inside_{{ r }} = in_row;
#end
            a_{{ r }} = select(vec4<{{ element }}>(), input[select(0u, from_{{ r }} + slice * VECTORS, inside_{{ r }})], inside_{{ r }});
#end
#for j in 0..{{ right_loads }}
            let depth_{{ j }} = slice * DEPTH + right_row_{{ j }};
            let kept_{{ j }} = depth_{{ j }} < inner * 4u;
            let place_{{ j }} = (tap * inner * 4u + depth_{{ j }}) * columns + right_column_{{ j }};
            b_{{ j }} = select(vec4<{{ element }}>(), weight[select(0u, place_{{ j }}, kept_{{ j }})], kept_{{ j }});
#end
        }
#if pass_{{ pass }}_is_first
#else
        for (var k = 0u; k < DEPTH; k += 4u) {
#for i in 0..4
            {
                let left_at = (k + {{ i }}u) * LEFT_LINE + down;
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
#for i in 0..4
        left_slice[(left_vector * 4u + {{ i }}u) * LEFT_LINE + left_quarter] =
            vec4<f32>(vec4<{{ element }}>(a_0[{{ i }}], a_1[{{ i }}], a_2[{{ i }}], a_3[{{ i }}]));
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
#if bias
            let offset = vec4<f32>(bias[column]);
#end
#for h in 0..2
#for r in 0..4
            {
                let row = first_row + (down + {{ h }}u * HALF) * 4u + {{ r }}u;
                if row < rows {
                    let at = output_from + row * columns + column;
                    var v = c_{{ h }}_{{ r }}_{{ c }};
#if bias
                    v += offset;
#end
#if gelu_tanh
                    // 0.5 (1 + tanh(u)) = 1 - 1 / (exp(2u) + 1), kept finite.
                    let u = 0.7978845608028654 * (v + 0.044715 * v * v * v);
                    let e = exp(min(2.0 * u, vec4<f32>(80.0)));
                    v = v * (1.0 - 1.0 / (e + 1.0));
#end
#if residual
                    v += vec4<f32>(residual[at]);
#end
                    output[at] = vec4<{{ element }}>(v);
                }
            }
#end
#end
        }
    }
#end
}
