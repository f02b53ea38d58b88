// The gradient of gate_residual: of x in whole, of the gate as sums over the tokens of one chunk; column_sums adds the chunks
// up. (That of the residual stream is the gradient of the output itself.)
//
// One workgroup owns a chunk of ROUNDS * ROWS tokens of one clip. LANES threads share a row, and keep their columns from row
// to row, so that the sums over rows stay in registers.
#if half
enable f16;
#end

const THREADS = 256u;
const ELEMENTS = {{ elements }}u;      // of a row: fours of values, or single ones
const LANES = {{ lanes }}u;
const ROWS = {{ rows }}u;

@group(0) @binding(0) var<storage, read_write> x: array<{{ stored }}>;            // [batch, tokens, width]
@group(0) @binding(1) var<storage, read_write> table: array<{{ wide }}>;          // [batch, rows of the table, width], f32
@group(0) @binding(2) var<storage, read_write> gradient: array<{{ wide }}>;       // of the output; as x, f32
@group(0) @binding(3) var<storage, read_write> x_gradient: array<{{ stored }}>;   // as x
@group(0) @binding(4) var<storage, read_write> sums: array<{{ wide }}>;           // [batch, chunks, width], f32
@group(0) @binding(5) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order.
const TOKENS = 0u;
const ROUNDS = 1u;
const TABLE_ROWS = 2u;
const GATE_ROW = 3u;

#if several_rows
var<workgroup> columns: array<{{ wide }}, ROWS * ELEMENTS>;
#end

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let lane = thread % LANES;
    let slot = thread / LANES;
    let gate = (group.y * info[TABLE_ROWS] + info[GATE_ROW]) * ELEMENTS + lane;
#for i in 0..{{ pieces }}
    var gate_{{ i }} = {{ wide }}();
    var sum_{{ i }} = {{ wide }}();
    if lane + {{ i }}u * LANES < ELEMENTS {
        gate_{{ i }} = table[gate + {{ i }}u * LANES];
    }
#end
    for (var round = 0u; round < info[ROUNDS]; round += 1u) {
        let token = (group.x * info[ROUNDS] + round) * ROWS + slot;
        if token < info[TOKENS] {
            let first = (group.y * info[TOKENS] + token) * ELEMENTS + lane;
#for i in 0..{{ pieces }}
            if lane + {{ i }}u * LANES < ELEMENTS {
                let given_{{ i }} = gradient[first + {{ i }}u * LANES];
                sum_{{ i }} += given_{{ i }} * {{ wide }}(x[first + {{ i }}u * LANES]);
                x_gradient[first + {{ i }}u * LANES] = {{ stored }}(given_{{ i }} * gate_{{ i }});
            }
#end
        }
    }

    let first_sum = (group.y * groups.x + group.x) * ELEMENTS;
#for i in 0..{{ pieces }}
    if lane + {{ i }}u * LANES < ELEMENTS {
#if several_rows
        columns[slot * ELEMENTS + lane + {{ i }}u * LANES] = sum_{{ i }};
#else
        sums[first_sum + lane + {{ i }}u * LANES] = sum_{{ i }};
#end
    }
#end
#if several_rows
    workgroupBarrier();
    for (var element = thread; element < ELEMENTS; element += THREADS) {
        var sum = columns[element];
        for (var row = 1u; row < ROWS; row += 1u) {
            sum += columns[row * ELEMENTS + element];
        }
        sums[first_sum + element] = sum;
    }
#end
}
