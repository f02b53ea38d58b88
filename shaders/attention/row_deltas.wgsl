// What the backward pass of tile_attention needs of every query row before it walks through tiles: the sum over channels of
// output * gradient of the output (D of FlashAttention-2, algorithm 2), and the length of that gradient, by which the matrix
// kernels scale what they hold in f16. LANES threads share a row.
#if half
enable f16;
#end

const HEAD_SIZE = {{ head_size }}u;
const LANES = 8u;
const ROWS = 16u;             // of a workgroup
const THREADS = 128u;         // LANES * ROWS

@group(0) @binding(0) var<storage, read_write> output: array<{{ element }}>;      // [rows, HEAD_SIZE]
@group(0) @binding(1) var<storage, read_write> gradient: array<{{ element }}>;    // as the output
@group(0) @binding(2) var<storage, read_write> row_deltas: array<vec2<f32>>;      // [rows]: delta, length of the gradient
@group(0) @binding(3) var<storage, read> info: array<u32>;

const ALL_ROWS = 0u;          // word of `info`

var<workgroup> parts: array<vec2<f32>, THREADS>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first_row = (group.y * groups.x + group.x) * ROWS;
    let row = first_row + thread / LANES;
    var part = vec2<f32>();
    if row < info[ALL_ROWS] {
        for (var channel = thread % LANES; channel < HEAD_SIZE; channel += LANES) {
            let g = f32(gradient[row * HEAD_SIZE + channel]);
            part += g * vec2<f32>(f32(output[row * HEAD_SIZE + channel]), g);
        }
    }
    parts[thread] = part;
    workgroupBarrier();
    if thread < ROWS && first_row + thread < info[ALL_ROWS] {
        var sum = vec2<f32>();
        for (var lane = 0u; lane < LANES; lane += 1u) {
            sum += parts[thread * LANES + lane];
        }
        row_deltas[first_row + thread] = vec2<f32>(sum.x, sqrt(sum.y));
    }
}
