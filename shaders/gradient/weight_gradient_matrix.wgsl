// Gradient of a weight on cooperative matrices, f16 with f32 sums: for every tap of a convolution the product of the shifted
// input, transposed, with the gradient of the output; `linear` is a convolution of one tap.
//
// The inner axis is the output's pixels. One workgroup owns BM input channels, BN output channels and all taps of one kernel
// plane (the same depth in time); it walks over a part of all segments, runs of SEGMENT pixels in a row of the picture. A
// segment's pixels of the input lie in workgroup memory once, with the rows and columns around them, and each tap reads them
// at its own offset. A subgroup owns WM x WN of the sums of one tap. As in `matrix_product`, segment n + 1 travels from storage
// into registers while segment n is multiplied, and the loop has no condition around its loads. The parts are added by
// `sum_of_parts`.
enable f16;
enable wgpu_cooperative_matrix;
// naga takes every local variable for non-uniform and refuses matrices behind such a condition; this is its only switch.
diagnostic(off, derivative_uniformity);

const BM = {{ bm }}u;
const BN = {{ bn }}u;
const WM = {{ wm }}u;
const WN = {{ wn }}u;
const THREADS = {{ threads }}u;
const WIDE = {{ wide }}u;             // neighbouring vec4s that a thread loads
const SEGMENT = {{ segment }}u;
const PIXELS_IN = {{ pixels_in }}u;   // of a segment in one row of the input
const A_ROW = BM / 4u / WIDE;         // loads of a pixel
const B_ROW = BN / 4u / WIDE;
// Rows of the tiles in vec4s; eight values of padding keep the pixels of a matrix in different banks.
const LDA = BM / 4u + 2u;
const LDB = BN / 4u + 2u;
const A_SIZE = {{ a_pixels }}u * LDA; // a whole number of loads for each thread: some more pixels than there are
const B_SIZE = {{ b_pixels }}u * LDB;
const LDC = 5u;
const C_SIZE = 16u * LDC;
const INNER4 = {{ inner }}u / 4u;
const COLUMNS4 = {{ columns }}u / 4u;
const KERNEL_T = {{ kernel_t }}u;
const KERNEL_H = {{ kernel_h }}u;
const KERNEL_W = {{ kernel_w }}u;

@group(0) @binding(0) var<storage, read_write> input: array<vec4<f16>>;      // [batch, frames, height, width, inner]
@group(0) @binding(1) var<storage, read_write> gradient: array<vec4<f16>>;   // of the output: [.., columns]
@group(0) @binding(2) var<storage, read_write> parts: array<vec4<f32>>;      // [parts, taps, inner, columns]
@group(0) @binding(3) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order.
const FRAMES_IN = 0u;
const HEIGHT_IN = 1u;
const WIDTH_IN = 2u;
const FRAMES_OUT = 3u;
const HEIGHT_OUT = 4u;
const WIDTH_OUT = 5u;
const SEGMENTS = 6u;          // of all clips
const SEGMENTS_A_PART = 7u;

var<workgroup> tile_a: array<vec4<f16>, A_SIZE>;    // [kernel row][pixel][input channel]
var<workgroup> tile_b: array<vec4<f16>, B_SIZE>;    // [pixel][output channel]
var<workgroup> scratch: array<vec4<f32>, THREADS / 32u * C_SIZE>;

@compute @workgroup_size({{ threads }})
fn main(@builtin(workgroup_id) group: vec3<u32>,
        @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32,
        @builtin(local_invocation_index) thread: u32) {
    let column_blocks = (COLUMNS4 * 4u + BN - 1u) / BN;
    let row_blocks = (INNER4 * 4u + BM - 1u) / BM;
    let first_column = (group.x % column_blocks) * BN;
    let first_row = (group.x / column_blocks % row_blocks) * BM;
    let tap_t = group.x / (column_blocks * row_blocks);
    let begin = group.y * info[SEGMENTS_A_PART];
    let steps = min(info[SEGMENTS_A_PART], info[SEGMENTS] - begin);

    let subgroup_blocks = (BM / WM) * (BN / WN);
    let tap = subgroup / subgroup_blocks;
    let warp_row = (subgroup % subgroup_blocks / (BN / WN)) * WM;
    let warp_column = (subgroup % (BN / WN)) * WN;
#for m in 0..{{ wm / 16 }}
#for n in 0..{{ wn / 16 }}
    var c_{{ m }}_{{ n }} = coop_mat16x16<f32, C>();
#end
#end

    let height_in = info[HEIGHT_IN];
    let width_in = info[WIDTH_IN];
    let width_out = info[WIDTH_OUT];
    let segments_a_row = (width_out + SEGMENT - 1u) / SEGMENT;
    // What this thread brings in: places in the tiles and in a segment.
#for j in 0..{{ a_loads }}
    let a_pixel_{{ j }} = (thread + {{ j }}u * THREADS) / A_ROW;
    let a_column_{{ j }} = (thread + {{ j }}u * THREADS) % A_ROW * WIDE;
    let a_to_{{ j }} = a_pixel_{{ j }} * LDA + a_column_{{ j }};
    let a_y_{{ j }} = a_pixel_{{ j }} / PIXELS_IN;
    let a_x_{{ j }} = a_pixel_{{ j }} % PIXELS_IN;
    let a_channel_{{ j }} = first_row / 4u + a_column_{{ j }};
    let a_there_{{ j }} = a_y_{{ j }} < KERNEL_H && a_channel_{{ j }} < INNER4;
#for w in 0..{{ wide }}
    var a_{{ j }}_{{ w }}: vec4<f16>;
#end
#end
#for j in 0..{{ b_loads }}
    let b_pixel_{{ j }} = (thread + {{ j }}u * THREADS) / B_ROW;
    let b_column_{{ j }} = (thread + {{ j }}u * THREADS) % B_ROW * WIDE;
    let b_to_{{ j }} = b_pixel_{{ j }} * LDB + b_column_{{ j }};
    let b_channel_{{ j }} = first_column / 4u + b_column_{{ j }};
    let b_there_{{ j }} = b_pixel_{{ j }} < SEGMENT && b_channel_{{ j }} < COLUMNS4;
#for w in 0..{{ wide }}
    var b_{{ j }}_{{ w }}: vec4<f16>;
#end
#end

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
        let row = segment / segments_a_row;
        let first_x = (segment % segments_a_row) * SEGMENT;
        let y = row % info[HEIGHT_OUT];
        let frame = row / info[HEIGHT_OUT];
        let t = frame % info[FRAMES_OUT];
        let clip = frame / info[FRAMES_OUT];
        let t_in = u32(max(i32(t * {{ stride_t }}u + tap_t) - {{ causal }}, 0));
        let y_from = y * {{ stride_h }}u - {{ top }}u;
        let x_from = first_x * {{ stride_w }}u - {{ left }}u;
        let input_from = (clip * info[FRAMES_IN] + t_in) * height_in;
        let gradient_from = row * width_out + first_x;
#for j in 0..{{ a_loads }}
        {
            let y_in = y_from + a_y_{{ j }};
            let x_in = x_from + a_x_{{ j }};
            let inside = a_there_{{ j }} && y_in < height_in && x_in < width_in;
            let at = select(0u, ((input_from + y_in) * width_in + x_in) * INNER4 + a_channel_{{ j }}, inside);
#for w in 0..{{ wide }}
            a_{{ j }}_{{ w }} = select(vec4<f16>(), input[at + {{ w }}u], inside);
#end
        }
#end
#for j in 0..{{ b_loads }}
        {
            let inside = b_there_{{ j }} && first_x + b_pixel_{{ j }} < width_out;
            let at = select(0u, (gradient_from + b_pixel_{{ j }}) * COLUMNS4 + b_channel_{{ j }}, inside);
#for w in 0..{{ wide }}
            b_{{ j }}_{{ w }} = select(vec4<f16>(), gradient[at + {{ w }}u], inside);
#end
        }
#end
#if pass_{{ pass }}_is_first
#else
        // The input lies pixel by pixel, so its transpose is read: a matrix in columns.
        let a_at = (tap / KERNEL_W * PIXELS_IN + tap % KERNEL_W) * LDA + warp_row / 4u;
        let b_at = warp_column / 4u;
#for k in 0..{{ segment / 16 }}
        {
#for m in 0..{{ wm / 16 }}
            let a{{ m }} = coopLoad<coop_mat16x16<f16, A>>(&tile_a[a_at + {{ k * 16 * stride_w }}u * LDA + {{ m }}u * 4u], LDA * {{ stride_w }}u);
#end
#for n in 0..{{ wn / 16 }}
            let b{{ n }} = coopLoadT<coop_mat16x16<f16, B>>(&tile_b[b_at + {{ k }}u * 16u * LDB + {{ n }}u * 4u], LDB);
#for m in 0..{{ wm / 16 }}
            c_{{ m }}_{{ n }} = coopMultiplyAdd(a{{ m }}, b{{ n }}, c_{{ m }}_{{ n }});
#end
#end
        }
#end
        workgroupBarrier();
#end
#for j in 0..{{ a_loads }}
#for w in 0..{{ wide }}
        tile_a[a_to_{{ j }} + {{ w }}u] = a_{{ j }}_{{ w }};
#end
#end
#for j in 0..{{ b_loads }}
#for w in 0..{{ wide }}
        tile_b[b_to_{{ j }} + {{ w }}u] = b_{{ j }}_{{ w }};
#end
#end
        workgroupBarrier();
    }
#end

    // No element of a matrix can be touched in registers: each block goes through a scratch of its subgroup.
    let scratch_at = subgroup * C_SIZE;
    let whole_tap = (group.y * KERNEL_T + tap_t) * (KERNEL_H * KERNEL_W) + tap;
    let my_row = first_row + warp_row + lane / 4u;
    let my_column4 = (first_column + warp_column) / 4u + lane % 4u;
#for m in 0..{{ wm / 16 }}
#for n in 0..{{ wn / 16 }}
    {
        coopStoreT(c_{{ m }}_{{ n }}, &scratch[scratch_at], LDC);
        subgroupBarrier();
        let sum0 = scratch[scratch_at + (lane / 4u) * LDC + lane % 4u];
        let sum1 = scratch[scratch_at + (8u + lane / 4u) * LDC + lane % 4u];
        subgroupBarrier();
        let row = my_row + {{ m }}u * 16u;
        let column4 = my_column4 + {{ n }}u * 4u;
        if column4 < COLUMNS4 {
            let to = (whole_tap * INNER4 * 4u + row) * COLUMNS4 + column4;
            if row < INNER4 * 4u {
                parts[to] = sum0;
            }
            if row + 8u < INNER4 * 4u {
                parts[to + 8u * COLUMNS4] = sum1;
            }
        }
    }
#end
#end
}
