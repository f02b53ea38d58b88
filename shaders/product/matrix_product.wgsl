// Matrix product on cooperative matrices, f16 with f32 sums: the matrix tier of `linear` and, with its left side gathered on
// the way, of `conv3d`. With `gradient` it carries the gradient of a convolution's output back to its input: the left side is
// then the output's gradient, gathered where it was summed from, and the weight is turned.
//
// With `stacked` both sides are stacks of matrices, and the sums may be scaled and added to a scaled third stack (`residual`);
// `turned` reads the right side as [columns, inner], so that a stack can be multiplied with its own transpose.
//
// One workgroup owns BM rows (tokens, output pixels) and BN columns; it walks over the inner axis (of every tap in turn) in
// slices of BK. Slice n + 1 travels from storage into registers while slice n is multiplied. A subgroup of 32 owns WM x WN of
// the sums. One slice is in workgroup memory at a time: a second one saves a barrier, but then the compiler no longer sees that
// stores and loads do not meet, and that costs far more. The loop has no condition around its loads, places only grow, and what the model fixes is a constant of the text;
// shaders/NOTES.md says what each of these brought.
enable f16;
enable wgpu_cooperative_matrix;
// naga takes every local variable for non-uniform and refuses matrices behind such a condition; this is its only switch.
diagnostic(off, derivative_uniformity);

const BM = {{ bm }}u;
const BN = {{ bn }}u;
const BK = {{ bk }}u;
const WM = {{ wm }}u;
const WN = {{ wn }}u;
const THREADS = {{ threads }}u;
const WIDE = {{ wide }}u;             // neighbouring vec4s that a thread loads
const A_ROW = BK / 4u / WIDE;         // loads of a row
#if turned
const B_ROW = A_ROW;
#else
const B_ROW = BN / 4u / WIDE;
#end
// Rows of the tiles in vec4s; eight values of padding keep the rows of a matrix in different banks.
const LDA = BK / 4u + 2u;
#if turned
const LDB = LDA;
const B_SIZE = BN * LDB;
#else
const LDB = BN / 4u + 2u;
const B_SIZE = BK * LDB;
#end
const A_SIZE = BM * LDA;
const LDC = {{ scratch }}u;
const C_SIZE = 16u * LDC;
const BAND = 8u;                      // row blocks that share the weights of a column block in the cache
const INNER = {{ inner }}u;           // of one tap
const INNER4 = INNER / 4u;
const COLUMNS4 = {{ columns }}u / 4u;

#if convolution
@group(0) @binding(0) var<storage, read_write> input: array<vec4<f16>>;    // [batch, frames, height, width, inner]
@group(0) @binding(1) var<storage, read_write> weight: array<vec4<f16>>;   // [taps, inner, columns]
#else
@group(0) @binding(0) var<storage, read_write> input: array<vec4<f16>>;    // [stack, rows, inner]
@group(0) @binding(1) var<storage, read_write> weight: array<vec4<f16>>;   // [stack, inner, columns]; turned [stack, columns, inner]
#end
#if bias
@group(0) @binding(2) var<storage, read_write> bias: array<vec4<f16>>;     // [columns]
#end
#if residual
@group(0) @binding({{ output_binding }}) var<storage, read_write> residual: array<vec4<f16>>;    // as the output
@group(0) @binding({{ output_binding + 1 }}) var<storage, read_write> output: array<vec4<f16>>;  // [batch, rows, columns]
@group(0) @binding({{ output_binding + 2 }}) var<storage, read> info: array<u32>;
#else
@group(0) @binding({{ output_binding }}) var<storage, read_write> output: array<vec4<f16>>;      // [batch, rows, columns]
@group(0) @binding({{ output_binding + 1 }}) var<storage, read> info: array<u32>;
#end

// Words of `info`; the launcher writes them in this order.
const ROWS = 0u;              // of one clip, of one matrix of a stack
#if scaled
const SUM_SCALE = 1u;         // bits of an f32
const RESIDUAL_SCALE = 2u;
#end
#if convolution
const FRAMES_IN = 1u;
const HEIGHT_IN = 2u;
const WIDTH_IN = 3u;
const HEIGHT_OUT = 4u;
const WIDTH_OUT = 5u;
#if gradient
const FIRST_ROW = 6u;         // of this launch, in its clip
const CLIP_ROWS = 7u;
#end

const KERNEL_T = {{ kernel_t }}u;
const KERNEL_H = {{ kernel_h }}u;
const KERNEL_W = {{ kernel_w }}u;
#end

var<workgroup> tile_a: array<vec4<f16>, A_SIZE>;    // [row][inner]
var<workgroup> tile_b: array<vec4<f16>, B_SIZE>;    // [inner][column]; turned [column][inner]
var<workgroup> scratch: array<vec4<f32>, THREADS / 32u * C_SIZE>;

#if gradient
fn is_pixel(x: u32, y: u32, t: u32, width: u32, height: u32, frames: u32) -> bool {
    let whole = x % {{ stride_w }}u == 0u && y % {{ stride_h }}u == 0u && t % {{ stride_t }}u == 0u;
    return whole && x / {{ stride_w }}u < width && y / {{ stride_h }}u < height && t / {{ stride_t }}u < frames;
}
#end

fn finish(row: u32, rows: u32, first: u32, column4: u32, sum: vec4<f32>, offset: vec4<f32>, more: vec4<f32>) {
    if row < rows && column4 < COLUMNS4 {
#if scaled
        var v = sum * bitcast<f32>(info[SUM_SCALE]) + offset;
#else
        var v = sum + offset;
#end
#if gelu_tanh
        // 0.5 (1 + tanh(u)) = 1 - 1 / (exp(2u) + 1), kept finite.
        let u = 0.7978845608028654 * (v + 0.044715 * v * v * v);
        let e = exp(min(2.0 * u, vec4<f32>(80.0)));
        v = v * (1.0 - 1.0 / (e + 1.0));
#end
#if scaled
        v += more * bitcast<f32>(info[RESIDUAL_SCALE]);
#else
        v += more;
#end
        output[first + row * COLUMNS4 + column4] = vec4<f16>(v);
    }
}

@compute @workgroup_size({{ threads }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32,
        @builtin(local_invocation_index) thread: u32) {
    let rows = info[ROWS];
    let row_blocks = (rows + BM - 1u) / BM;
    let column_blocks = (COLUMNS4 * 4u + BN - 1u) / BN;
    let index = group.y * groups.x + group.x;
    if index >= row_blocks * column_blocks {
        return;
    }
    let band = index / (BAND * column_blocks);
    let in_band = index % (BAND * column_blocks);
    let band_height = min(BAND, row_blocks - band * BAND);
    let first_row = (band * BAND + in_band % band_height) * BM;
    let first_column = (in_band / band_height) * BN;
    let warp_row = (subgroup / (BN / WN)) * WM;
    let warp_column = (subgroup % (BN / WN)) * WN;
#if gradient
    let rows_before = info[FIRST_ROW];
    let output_from = (group.z * info[CLIP_ROWS] + rows_before) * COLUMNS4;
#else
    let output_from = group.z * rows * COLUMNS4;
#end
#for m in 0..{{ wm / 16 }}
#for n in 0..{{ wn / 16 }}
    var c_{{ m }}_{{ n }} = coop_mat16x16<f32, C>();
#end
#end

    // What this thread brings in: places in the tiles and in storage. Rows and columns past the end are copies of the last.
    let slices = (INNER + BK - 1u) / BK;
#if convolution
    let height_in = info[HEIGHT_IN];
    let width_in = info[WIDTH_IN];
    let input_from = group.z * info[FRAMES_IN] * height_in * width_in * INNER4;
#else
    let input_from = group.z * rows * INNER4;
#end
#for j in 0..{{ bm * bk / 4 / threads / wide }}
    let a_row_{{ j }} = (thread + {{ j }}u * THREADS) / A_ROW;
    let a_column_{{ j }} = (thread + {{ j }}u * THREADS) % A_ROW * WIDE;
    let a_to_{{ j }} = a_row_{{ j }} * LDA + a_column_{{ j }};
#if convolution
#if gradient
    // Places times the stride: only multiples are pixels of the output. What is negative wraps around and is too large.
    let pixel_{{ j }} = rows_before + min(first_row + a_row_{{ j }}, rows - 1u);
    let x_{{ j }} = (pixel_{{ j }} % info[WIDTH_OUT]) - {{ left }}u;
    let y_{{ j }} = ((pixel_{{ j }} / info[WIDTH_OUT]) % info[HEIGHT_OUT]) - {{ top }}u;
    let t_{{ j }} = pixel_{{ j }} / (info[WIDTH_OUT] * info[HEIGHT_OUT]) - {{ causal }}u;
    var inside_{{ j }} = is_pixel(x_{{ j }}, y_{{ j }}, t_{{ j }}, width_in, height_in, info[FRAMES_IN]);
    var a_from_{{ j }} = select(0u, input_from + ((t_{{ j }} / {{ stride_t }}u * height_in + y_{{ j }} / {{ stride_h }}u) * width_in + x_{{ j }} / {{ stride_w }}u) * INNER4 + a_column_{{ j }}, inside_{{ j }});
#else
    let pixel_{{ j }} = min(first_row + a_row_{{ j }}, rows - 1u);
    let x_{{ j }} = (pixel_{{ j }} % info[WIDTH_OUT]) * {{ stride_w }}u - {{ left }}u;
    let y_{{ j }} = ((pixel_{{ j }} / info[WIDTH_OUT]) % info[HEIGHT_OUT]) * {{ stride_h }}u - {{ top }}u;
    let t_{{ j }} = i32((pixel_{{ j }} / (info[WIDTH_OUT] * info[HEIGHT_OUT])) * {{ stride_t }}u) - {{ causal }};
    var inside_{{ j }} = x_{{ j }} < width_in && y_{{ j }} < height_in;
    var a_from_{{ j }} = select(0u, input_from + ((u32(max(t_{{ j }}, 0)) * height_in + y_{{ j }}) * width_in + x_{{ j }}) * INNER4 + a_column_{{ j }}, inside_{{ j }});
#end
#else
    var a_from_{{ j }} = input_from + min(first_row + a_row_{{ j }}, rows - 1u) * INNER4 + a_column_{{ j }};
#end
#for w in 0..{{ wide }}
    var a_{{ j }}_{{ w }}: vec4<f16>;
#end
#end
#if stacked
    let weight_from = group.z * INNER * COLUMNS4;
#else
    let weight_from = 0u;
#end
#for j in 0..{{ bk * bn / 4 / threads / wide }}
    let b_row_{{ j }} = (thread + {{ j }}u * THREADS) / B_ROW;
    let b_column_{{ j }} = (thread + {{ j }}u * THREADS) % B_ROW * WIDE;
    let b_to_{{ j }} = b_row_{{ j }} * LDB + b_column_{{ j }};
#if turned
    var b_from_{{ j }} = weight_from + min(first_column + b_row_{{ j }}, COLUMNS4 * 4u - 1u) * INNER4 + b_column_{{ j }};
#else
    var b_from_{{ j }} = weight_from + b_row_{{ j }} * COLUMNS4 + min(first_column / 4u + b_column_{{ j }}, COLUMNS4 - WIDE);
#end
#for w in 0..{{ wide }}
    var b_{{ j }}_{{ w }}: vec4<f16>;
#end
#end
    var depth = 0u;               // of the slice that is loaded, in its tap
#if convolution
    let steps = slices * KERNEL_T * KERNEL_H * KERNEL_W;
    var slice = 0u;
    var tap_t = 0u;
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
#if convolution
        if step < steps {
            slice += 1u;
            depth += BK;
            let next_tap = slice == slices;
            if next_tap {
                // A new tap: other pixels.
                slice = 0u;
                tap_w += 1u;
                if tap_w == KERNEL_W {
                    tap_w = 0u;
                    tap_h += 1u;
                    if tap_h == KERNEL_H {
                        tap_h = 0u;
                        tap_t += 1u;
                    }
                }
                depth = 0u;
#for j in 0..{{ bm * bk / 4 / threads / wide }}
                {
                    let x = x_{{ j }} + tap_w;
                    let y = y_{{ j }} + tap_h;
#if gradient
                    let t = t_{{ j }} + tap_t;
                    inside_{{ j }} = is_pixel(x, y, t, width_in, height_in, info[FRAMES_IN]);
                    a_from_{{ j }} = select(0u, input_from + ((t / {{ stride_t }}u * height_in + y / {{ stride_h }}u) * width_in + x / {{ stride_w }}u) * INNER4 + a_column_{{ j }}, inside_{{ j }});
#else
                    let t = u32(max(t_{{ j }} + i32(tap_t), 0));
                    inside_{{ j }} = x < width_in && y < height_in;
                    a_from_{{ j }} = select(0u, input_from + ((t * height_in + y) * width_in + x) * INNER4 + a_column_{{ j }}, inside_{{ j }});
#end
                }
#end
            } else {
#for j in 0..{{ bm * bk / 4 / threads / wide }}
                a_from_{{ j }} += BK / 4u;
#end
            }
            // The rows of the weights go on from tap to tap; a last slice that is not full goes back.
#if masked
            let rows_on = select(BK, INNER - (slices - 1u) * BK, next_tap);
#else
            let rows_on = BK;
#end
#for j in 0..{{ bk * bn / 4 / threads / wide }}
            b_from_{{ j }} += rows_on * COLUMNS4;
#end
        }
#else
        let on = select(0u, 1u, step < steps);
        depth += on * BK;
#for j in 0..{{ bm * bk / 4 / threads / wide }}
        a_from_{{ j }} += on * (BK / 4u);
#end
#for j in 0..{{ bk * bn / 4 / threads / wide }}
#if turned
        b_from_{{ j }} += on * (BK / 4u);
#else
        b_from_{{ j }} += on * (BK * COLUMNS4);
#end
#end
#end
#end
#for j in 0..{{ bm * bk / 4 / threads / wide }}
#for w in 0..{{ wide }}
#if masked
        {
#if convolution
            let inside = inside_{{ j }} && depth / 4u + a_column_{{ j }} + {{ w }}u < INNER4;
#else
            let inside = depth / 4u + a_column_{{ j }} + {{ w }}u < INNER4;
#end
            a_{{ j }}_{{ w }} = select(vec4<f16>(), input[select(0u, a_from_{{ j }} + {{ w }}u, inside)], inside);
        }
#else
#if convolution
        a_{{ j }}_{{ w }} = select(vec4<f16>(), input[a_from_{{ j }} + {{ w }}u], inside_{{ j }});
#else
        a_{{ j }}_{{ w }} = input[a_from_{{ j }} + {{ w }}u];
#end
#end
#end
#end
#for j in 0..{{ bk * bn / 4 / threads / wide }}
#for w in 0..{{ wide }}
#if masked
        {
#if turned
            let inside = depth / 4u + b_column_{{ j }} + {{ w }}u < INNER4;
#else
            let inside = depth + b_row_{{ j }} < INNER;
#end
            b_{{ j }}_{{ w }} = select(vec4<f16>(), weight[select(0u, b_from_{{ j }} + {{ w }}u, inside)], inside);
        }
#else
        b_{{ j }}_{{ w }} = weight[b_from_{{ j }} + {{ w }}u];
#end
#end
#end
#if pass_{{ pass }}_is_first
#else
        let a_at = warp_row * LDA;
#if turned
        let b_at = warp_column * LDB;
#else
        let b_at = warp_column / 4u;
#end
#for k in 0..{{ bk / 16 }}
        {
#for m in 0..{{ wm / 16 }}
            let a{{ m }} = coopLoadT<coop_mat16x16<f16, A>>(&tile_a[a_at + {{ m }}u * 16u * LDA + {{ k }}u * 4u], LDA);
#end
#for n in 0..{{ wn / 16 }}
#if turned
            let b{{ n }} = coopLoad<coop_mat16x16<f16, B>>(&tile_b[b_at + {{ n }}u * 16u * LDB + {{ k }}u * 4u], LDB);
#else
            let b{{ n }} = coopLoadT<coop_mat16x16<f16, B>>(&tile_b[b_at + {{ k }}u * 16u * LDB + {{ n }}u * 4u], LDB);
#end
#for m in 0..{{ wm / 16 }}
            c_{{ m }}_{{ n }} = coopMultiplyAdd(a{{ m }}, b{{ n }}, c_{{ m }}_{{ n }});
#end
#end
        }
#end
        workgroupBarrier();
#end
#for j in 0..{{ bm * bk / 4 / threads / wide }}
#for w in 0..{{ wide }}
        tile_a[a_to_{{ j }} + {{ w }}u] = a_{{ j }}_{{ w }};
#end
#end
#for j in 0..{{ bk * bn / 4 / threads / wide }}
#for w in 0..{{ wide }}
        tile_b[b_to_{{ j }} + {{ w }}u] = b_{{ j }}_{{ w }};
#end
#end
        workgroupBarrier();
    }
#end

    // No element of a matrix can be touched in registers: each block goes through a scratch of its subgroup.
    let scratch_at = subgroup * C_SIZE;
    let my_row = first_row + warp_row + lane / 4u;
    let my_column4 = (first_column + warp_column) / 4u + lane % 4u;
#for n in 0..{{ wn / 16 }}
#if bias
    let bias_{{ n }} = vec4<f32>(bias[min(my_column4 + {{ n }}u * 4u, COLUMNS4 - 1u)]);
#else
    let bias_{{ n }} = vec4<f32>();
#end
#end
#for m in 0..{{ wm / 16 }}
#for n in 0..{{ wn / 16 }}
    {
#if residual
        // On its way while the block passes through the scratch.
        let column4 = min(my_column4 + {{ n }}u * 4u, COLUMNS4 - 1u);
        let more0 = vec4<f32>(residual[output_from + min(my_row + {{ m }}u * 16u, rows - 1u) * COLUMNS4 + column4]);
        let more1 = vec4<f32>(residual[output_from + min(my_row + {{ m }}u * 16u + 8u, rows - 1u) * COLUMNS4 + column4]);
#else
        let more0 = vec4<f32>();
        let more1 = vec4<f32>();
#end
        coopStoreT(c_{{ m }}_{{ n }}, &scratch[scratch_at], LDC);
        subgroupBarrier();
        let sum0 = scratch[scratch_at + (lane / 4u) * LDC + lane % 4u];
        let sum1 = scratch[scratch_at + (8u + lane / 4u) * LDC + lane % 4u];
        subgroupBarrier();
        finish(my_row + {{ m }}u * 16u, rows, output_from, my_column4 + {{ n }}u * 4u, sum0, bias_{{ n }}, more0);
        finish(my_row + {{ m }}u * 16u + 8u, rows, output_from, my_column4 + {{ n }}u * 4u, sum1, bias_{{ n }}, more1);
    }
#end
#end
}
