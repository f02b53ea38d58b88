// The gradient of norm_modulate: of x in whole, of shift and scale as sums over the tokens of one chunk; column_sums adds the
// chunks up.
//
// With n = (x - mean) / deviation, g the gradient of the output and s = g (1 + scale): the gradient of x is
// (s - mean(s) - n mean(s n)) / deviation, that of shift the sum of g, that of scale the sum of g n. Without `centred`
// there are neither mean nor shift: n = x / root mean square, s = g scale, and the gradient of x is
// (s - n mean(s n)) / root mean square. With `of_stream`, x goes on past the norm, and what it is owed there is added.
//
// One workgroup owns a chunk of ROUNDS * ROWS tokens of one clip. LANES threads share a row, and keep their columns from row
// to row, so that the sums over rows stay in registers.
#if half
enable f16;
#end

const THREADS = 256u;
const WIDTH = {{ width }}u;
const ELEMENTS = {{ elements }}u;      // of a row: fours of values, or single ones
const LANES = {{ lanes }}u;            // a power of two
const ROWS = {{ rows }}u;

@group(0) @binding(0) var<storage, read_write> x: array<{{ wide }}>;            // [batch, tokens, width], f32
@group(0) @binding(1) var<storage, read_write> table: array<{{ wide }}>;        // [batch, rows of the table, width], f32
@group(0) @binding(2) var<storage, read_write> gradient: array<{{ stored }}>;   // of the output; as x
#if of_stream
@group(0) @binding(3) var<storage, read_write> stream: array<{{ wide }}>;       // what x is owed elsewhere; as x
@group(0) @binding(4) var<storage, read_write> x_gradient: array<{{ wide }}>;   // as x
@group(0) @binding(5) var<storage, read_write> sums: array<{{ wide }}>;         // [batch, chunks, (shift,) scale, width], f32
@group(0) @binding(6) var<storage, read> info: array<u32>;
#else
@group(0) @binding(3) var<storage, read_write> x_gradient: array<{{ wide }}>;   // as x
@group(0) @binding(4) var<storage, read_write> sums: array<{{ wide }}>;         // [batch, chunks, (shift,) scale, width], f32
@group(0) @binding(5) var<storage, read> info: array<u32>;
#end

// Words of `info`; the launcher writes them in this order.
const TOKENS = 0u;
const ROUNDS = 1u;
const TABLE_ROWS = 2u;
const SCALE_ROW = 3u;
const EPSILON_BITS = 4u;

var<workgroup> parts: array<vec2<f32>, THREADS>;
#if several_rows
var<workgroup> columns: array<{{ wide }}, ROWS * ELEMENTS>;
#end

/// The sums over the lanes of a row.
fn total(thread: u32, lane: u32, part: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();
    parts[thread] = part;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            parts[thread] += parts[thread + half];
        }
        workgroupBarrier();
    }
    return parts[thread - lane];
}

fn across(part: {{ wide }}) -> f32 {
#if in_fours
    return (part.x + part.y) + (part.z + part.w);
#else
    return part;
#end
}

#if several_rows
/// Adds up what the rows of the workgroup have in `columns`, and stores it from `first` on.
fn store_columns(thread: u32, first: u32) {
    workgroupBarrier();
    for (var element = thread; element < ELEMENTS; element += THREADS) {
        var sum = columns[element];
        for (var row = 1u; row < ROWS; row += 1u) {
            sum += columns[row * ELEMENTS + element];
        }
        sums[first + element] = sum;
    }
    workgroupBarrier();
}
#end

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let lane = thread % LANES;
    let slot = thread / LANES;
    let tokens = info[TOKENS];
    let scale = (group.y * info[TABLE_ROWS] + info[SCALE_ROW]) * ELEMENTS + lane;
#for i in 0..{{ pieces }}
    var factor_{{ i }} = {{ wide }}();
    var scale_sum_{{ i }} = {{ wide }}();
#if centred
    var shift_sum_{{ i }} = {{ wide }}();
    if lane + {{ i }}u * LANES < ELEMENTS {
        factor_{{ i }} = 1.0 + table[scale + {{ i }}u * LANES];
    }
#else
    if lane + {{ i }}u * LANES < ELEMENTS {
        factor_{{ i }} = table[scale + {{ i }}u * LANES];
    }
#end
#end

    for (var round = 0u; round < info[ROUNDS]; round += 1u) {
        let token = (group.x * info[ROUNDS] + round) * ROWS + slot;
        // Tokens after the last go along with a gradient of zero, because all threads must meet at the barriers.
        let inside = token < tokens;
        let first = (group.y * tokens + min(token, tokens - 1u)) * ELEMENTS + lane;
        var part = {{ wide }}();
#for i in 0..{{ pieces }}
        var value_{{ i }} = {{ wide }}();
        var given_{{ i }} = {{ wide }}();
        if lane + {{ i }}u * LANES < ELEMENTS {
            value_{{ i }} = x[first + {{ i }}u * LANES];
#if centred
            part += value_{{ i }};
#else
            part += value_{{ i }} * value_{{ i }};
#end
            if inside {
                given_{{ i }} = {{ wide }}(gradient[first + {{ i }}u * LANES]);
            }
        }
#end
#if centred
        let mean = total(thread, lane, vec2<f32>(across(part), 0.0)).x / f32(WIDTH);
        part = {{ wide }}();
#for i in 0..{{ pieces }}
        if lane + {{ i }}u * LANES < ELEMENTS {
            value_{{ i }} = value_{{ i }} - mean;
            part += value_{{ i }} * value_{{ i }};
        }
#end
#end
        let variance = total(thread, lane, vec2<f32>(across(part), 0.0)).x / f32(WIDTH);
        let inverse = 1.0 / sqrt(variance + bitcast<f32>(info[EPSILON_BITS]));
        part = {{ wide }}();
        var part_with_normal = {{ wide }}();
#for i in 0..{{ pieces }}
        value_{{ i }} = value_{{ i }} * inverse;
#if centred
        shift_sum_{{ i }} += given_{{ i }};
#end
        scale_sum_{{ i }} += given_{{ i }} * value_{{ i }};
        given_{{ i }} = given_{{ i }} * factor_{{ i }};
        part += given_{{ i }};
        part_with_normal += given_{{ i }} * value_{{ i }};
#end
        let means = total(thread, lane, vec2<f32>(across(part), across(part_with_normal))) / f32(WIDTH);
        if inside {
#for i in 0..{{ pieces }}
            if lane + {{ i }}u * LANES < ELEMENTS {
#if centred
                let own = inverse * (given_{{ i }} - means.x - value_{{ i }} * means.y);
#else
                let own = inverse * (given_{{ i }} - value_{{ i }} * means.y);
#end
#if of_stream
                x_gradient[first + {{ i }}u * LANES] = stream[first + {{ i }}u * LANES] + own;
#else
                x_gradient[first + {{ i }}u * LANES] = own;
#end
            }
#end
        }
    }

    let first_sum = (group.y * groups.x + group.x) * {{ quantities }}u * ELEMENTS;
#for quantity in 0..{{ quantities }}
#for i in 0..{{ pieces }}
    if lane + {{ i }}u * LANES < ELEMENTS {
        let element = lane + {{ i }}u * LANES;
#if quantity_{{ quantity }}_is_shift
        let sum = shift_sum_{{ i }};
#else
        let sum = scale_sum_{{ i }};
#end
#if several_rows
        columns[slot * ELEMENTS + element] = sum;
#else
        sums[first_sum + {{ quantity }}u * ELEMENTS + element] = sum;
#end
    }
#end
#if several_rows
    store_columns(thread, first_sum + {{ quantity }}u * ELEMENTS);
#end
#end
}
