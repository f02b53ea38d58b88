// LayerNorm without affine, then AdaLN's `* (1 + scale) + shift`, on rows that stay in registers. Without `centred` it
// is T5's norm instead: no mean, no shift, and the row of the table is the whole factor.
//
// LANES threads share a row, ROWS rows a workgroup. The variance is taken around the mean, so that nothing cancels.
#if half
enable f16;
#end

const THREADS = 256u;
const WIDTH = {{ width }}u;
const ELEMENTS = {{ elements }}u;      // of a row: fours of values, or single ones
const LANES = {{ lanes }}u;            // a power of two
const ROWS = {{ rows }}u;

@group(0) @binding(0) var<storage, read_write> x: array<{{ wide }}>;           // [batch, tokens, width], f32
@group(0) @binding(1) var<storage, read_write> table: array<{{ wide }}>;       // [batch, rows of the table, width], f32
@group(0) @binding(2) var<storage, read_write> output: array<{{ stored }}>;    // as x
@group(0) @binding(3) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order.
const COUNT = 0u;             // batch * tokens
const TOKENS = 1u;
const TABLE_ROWS = 2u;
const SHIFT_ROW = 3u;
const SCALE_ROW = 4u;
const EPSILON_BITS = 5u;

var<workgroup> sums: array<f32, THREADS>;

/// The sum over the lanes of a row.
fn total(thread: u32, lane: u32, part: f32) -> f32 {
    workgroupBarrier();
    sums[thread] = part;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            sums[thread] += sums[thread + half];
        }
        workgroupBarrier();
    }
    return sums[thread - lane];
}

fn across(part: {{ wide }}) -> f32 {
#if in_fours
    return (part.x + part.y) + (part.z + part.w);
#else
    return part;
#end
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let lane = thread % LANES;
    let row = (group.y * groups.x + group.x) * ROWS + thread / LANES;
    // Rows after the last go along, because all threads must meet at the barriers.
    let first = min(row, info[COUNT] - 1u) * ELEMENTS + lane;

    var part = {{ wide }}();
#for i in 0..{{ pieces }}
    var value_{{ i }} = {{ wide }}();
    if lane + {{ i }}u * LANES < ELEMENTS {
        value_{{ i }} = x[first + {{ i }}u * LANES];
#if centred
        part += value_{{ i }};
#else
        part += value_{{ i }} * value_{{ i }};
#end
    }
#end
#if centred
    let mean = total(thread, lane, across(part)) / f32(WIDTH);
    part = {{ wide }}();
#for i in 0..{{ pieces }}
    if lane + {{ i }}u * LANES < ELEMENTS {
        value_{{ i }} = value_{{ i }} - mean;
        part += value_{{ i }} * value_{{ i }};
    }
#end
#end
    let variance = total(thread, lane, across(part)) / f32(WIDTH);
    let inverse = 1.0 / sqrt(variance + bitcast<f32>(info[EPSILON_BITS]));
    if row >= info[COUNT] {
        return;
    }
    let rows_before = row / info[TOKENS] * info[TABLE_ROWS];
#if centred
    let shift = (rows_before + info[SHIFT_ROW]) * ELEMENTS + lane;
#end
    let scale = (rows_before + info[SCALE_ROW]) * ELEMENTS + lane;
#for i in 0..{{ pieces }}
    if lane + {{ i }}u * LANES < ELEMENTS {
        let at = {{ i }}u * LANES;
#if centred
        output[first + at] = {{ stored }}(value_{{ i }} * inverse * (1.0 + table[scale + at]) + table[shift + at]);
#else
        output[first + at] = {{ stored }}(value_{{ i }} * inverse * table[scale + at]);
#end
    }
#end
}
