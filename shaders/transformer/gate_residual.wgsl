// The residual stream plus what a layer gave, times a gate where there is one; every value for itself.
#if half
enable f16;
#end

const THREADS = 256u;
const ELEMENTS = {{ elements }}u;      // of a row: fours of values, or single ones

@group(0) @binding(0) var<storage, read_write> tokens: array<{{ wide }}>;     // [batch, tokens, width], f32
@group(0) @binding(1) var<storage, read_write> x: array<{{ stored }}>;        // as the tokens
#if gated
@group(0) @binding(2) var<storage, read_write> table: array<{{ wide }}>;      // [batch, rows of the table, width], f32
@group(0) @binding(3) var<storage, read_write> output: array<{{ wide }}>;     // as the tokens
@group(0) @binding(4) var<storage, read> info: array<u32>;
#else
@group(0) @binding(2) var<storage, read_write> output: array<{{ wide }}>;     // as the tokens
@group(0) @binding(3) var<storage, read> info: array<u32>;
#end

// Words of `info`; the launcher writes them in this order.
const COUNT = 0u;             // elements of a clip
#if gated
const TABLE_ROWS = 1u;
const GATE_ROW = 2u;
#end

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let element = (group.y * groups.x + group.x) * THREADS + thread;
    if element >= info[COUNT] {
        return;
    }
    let at = group.z * info[COUNT] + element;
#if gated
    let gate = table[(group.z * info[TABLE_ROWS] + info[GATE_ROW]) * ELEMENTS + element % ELEMENTS];
    output[at] = tokens[at] + {{ wide }}(x[at]) * gate;
#else
    output[at] = tokens[at] + {{ wide }}(x[at]);
#end
}
