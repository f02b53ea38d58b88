// Gradients of attention over the kept tiles, plain tier: f32 sums, any head size up to 128.
//
// Two variants of one text. A workgroup owns OWN_BLOCK tokens of one frame and one head and walks through the other frames that
// make a kept tile with it, OTHER_BLOCK tokens at a time:
//
//   of queries   own: query, gradient of the output   other: key, value                       gives the query's gradient
//   of keys      own: key, value                      other: query, gradient of the output    gives those of key and value
//
// With weight = exp(score - row log-sum) and slope = weight * (gradient . value - delta), the gradient of the score: the first
// of a pair gets sums of slope * other first, the second sums of weight * other second. Nothing is added by two workgroups, so
// results do not depend on any order. Loops are of fixed length for the reasons given in tile_attention.wgsl.
#if half
enable f16;
#end

const HEAD_SIZE = {{ head_size }}u;
const HEAD_PADDED = {{ head_padded }}u;     // a multiple of LANES
const OWN_BLOCK = {{ own_block }}u;
const OTHER_BLOCK = {{ other_block }}u;     // a multiple of LANES
const LANES = 8u;                           // threads that share an own token
const ROWS = OWN_BLOCK * LANES / THREADS;   // own tokens of one thread
const THREADS = 128u;

@group(0) @binding(0) var<storage, read_write> query: array<{{ element }}>;       // [batch * heads, query tokens, HEAD_SIZE]
@group(0) @binding(1) var<storage, read_write> key: array<{{ element }}>;         // [batch * heads, key tokens, HEAD_SIZE]
@group(0) @binding(2) var<storage, read_write> value: array<{{ element }}>;       // as the key
@group(0) @binding(3) var<storage, read_write> gradient: array<{{ element }}>;    // of the output; as the query
@group(0) @binding(4) var<storage, read_write> row_log_sums: array<f32>;          // [batch * heads, query tokens]
@group(0) @binding(5) var<storage, read_write> row_deltas: array<vec2<f32>>;      // as the log-sums; see row_deltas.wgsl
#if key_bias
@group(0) @binding(6) var<storage, read_write> key_bias: array<f32>;              // [batch, key tokens]
#end
@group(0) @binding({{ place_of_first }}) var<storage, read_write> first_gradient: array<{{ element }}>;     // as the own first
#if of_keys
@group(0) @binding({{ place_of_second }}) var<storage, read_write> second_gradient: array<{{ element }}>;   // as the own second
#end
#if count_work
@group(0) @binding({{ place_of_work }}) var<storage, read_write> work: array<f32>;        // tiles walked by each workgroup
#end
@group(0) @binding({{ place_of_info }}) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order. After them: the offsets of each own frame, then the other frames.
const OWN_TOKENS = 0u;        // of one frame
const OTHER_TOKENS = 1u;      // of one frame
const OWN_FRAMES = 2u;
const OTHER_FRAMES = 3u;
const HEADS = 4u;
const SCALE_BITS = 5u;
const TABLE = 6u;

var<workgroup> own_first: array<f32, OWN_BLOCK * HEAD_PADDED>;      // scaled
var<workgroup> own_second: array<f32, OWN_BLOCK * HEAD_PADDED>;
var<workgroup> other_first: array<f32, OTHER_BLOCK * HEAD_PADDED>;
var<workgroup> other_second: array<f32, OTHER_BLOCK * HEAD_PADDED>;
var<workgroup> slopes: array<f32, OWN_BLOCK * OTHER_BLOCK>;
#if of_keys
var<workgroup> weights: array<f32, OWN_BLOCK * OTHER_BLOCK>;
var<workgroup> log_sums: array<f32, OTHER_BLOCK>;                   // of the queries at hand
var<workgroup> deltas: array<f32, OTHER_BLOCK>;
#else
var<workgroup> log_sums: array<f32, OWN_BLOCK>;
var<workgroup> deltas: array<f32, OWN_BLOCK>;
#end

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let own_tokens = info[OWN_TOKENS];
    let other_tokens = info[OTHER_TOKENS];
    let blocks = (own_tokens + OWN_BLOCK - 1u) / OWN_BLOCK;
    let frame = group.x / blocks;
    let first_row = (group.x % blocks) * OWN_BLOCK;
    let head = group.y;                                                     // of batch * heads
    let own_base = (head * info[OWN_FRAMES] + frame) * own_tokens + first_row;
    let scale = bitcast<f32>(info[SCALE_BITS]);

    for (var i = thread; i < OWN_BLOCK * HEAD_PADDED; i += THREADS) {
        let row = i / HEAD_PADDED;
        let channel = i % HEAD_PADDED;
        var x = 0.0;
        var y = 0.0;
        if first_row + row < own_tokens && channel < HEAD_SIZE {
            x = f32({{ own_first }}[(own_base + row) * HEAD_SIZE + channel]) * scale;
            y = f32({{ own_second }}[(own_base + row) * HEAD_SIZE + channel]);
        }
        own_first[i] = x;
        own_second[i] = y;
    }
#if of_keys
#else
    if thread < OWN_BLOCK {
        let row = own_base + min(thread, own_tokens - 1u - first_row);
        log_sums[thread] = row_log_sums[row];
        deltas[thread] = row_deltas[row].x;
    }
#end

    let lane = thread % LANES;
    let top = (thread / LANES) * ROWS;
    var first_sums: array<array<f32, HEAD_PADDED / LANES>, ROWS>;
#if of_keys
    var second_sums: array<array<f32, HEAD_PADDED / LANES>, ROWS>;
#end
    var walked = 0u;

    let table_end = info[TABLE + frame + 1u];
    for (var entry = info[TABLE + frame]; entry < table_end; entry += 1u) {
        let other_frame = info[TABLE + info[OWN_FRAMES] + 1u + entry];
        let other_base = (head * info[OTHER_FRAMES] + other_frame) * other_tokens;
        walked += 1u;
        for (var first_other = 0u; first_other < other_tokens; first_other += OTHER_BLOCK) {
            workgroupBarrier();
            for (var i = thread; i < OTHER_BLOCK * HEAD_PADDED; i += THREADS) {
                let token = first_other + i / HEAD_PADDED;
                let channel = i % HEAD_PADDED;
                var x = 0.0;
                var y = 0.0;
                if token < other_tokens && channel < HEAD_SIZE {
                    x = f32({{ other_first }}[(other_base + token) * HEAD_SIZE + channel]);
                    y = f32({{ other_second }}[(other_base + token) * HEAD_SIZE + channel]);
                }
                other_first[i] = x;
                other_second[i] = y;
            }
#if of_keys
            if thread < OTHER_BLOCK {
                let row = other_base + min(first_other + thread, other_tokens - 1u);
                log_sums[thread] = row_log_sums[row];
                deltas[thread] = row_deltas[row].x;
            }
#end
            workgroupBarrier();

            for (var column = lane; column < OTHER_BLOCK; column += LANES) {
                let token = first_other + column;
                for (var r = 0u; r < ROWS; r += 1u) {
                    let row = top + r;
                    var weight = 0.0;
                    var slope = 0.0;
                    if token < other_tokens {
                        var score = 0.0;
                        // A sum of sums rounds less than one long sum.
                        for (var channel = 0u; channel < HEAD_PADDED; channel += LANES) {
                            var part = 0.0;
                            var slope_part = 0.0;
                            for (var i = 0u; i < LANES; i += 1u) {
                                let own_at = row * HEAD_PADDED + channel + i;
                                let other_at = column * HEAD_PADDED + channel + i;
                                part += own_first[own_at] * other_first[other_at];
                                slope_part += own_second[own_at] * other_second[other_at];
                            }
                            score += part;
                            slope += slope_part;
                        }
#if of_keys
                        let query_at = column;
#if key_bias
                        // A row past the end reads the last one's.
                        let key_at = frame * own_tokens + min(first_row + row, own_tokens - 1u);
                        score += key_bias[(head / info[HEADS]) * info[OWN_FRAMES] * own_tokens + key_at];
#end
#else
                        let query_at = row;
#if key_bias
                        let key_at = other_frame * other_tokens + token;
                        score += key_bias[(head / info[HEADS]) * info[OTHER_FRAMES] * other_tokens + key_at];
#end
#end
                        weight = exp(score - log_sums[query_at]);
                        slope = weight * (slope - deltas[query_at]);
                    }
                    slopes[row * OTHER_BLOCK + column] = slope;
#if of_keys
                    weights[row * OTHER_BLOCK + column] = weight;
#end
                }
            }
            workgroupBarrier();

            for (var r = 0u; r < ROWS; r += 1u) {
                for (var c = 0u; c < HEAD_PADDED / LANES; c += 1u) {
                    var part = 0.0;
                    for (var column = 0u; column < OTHER_BLOCK; column += 1u) {
                        part += slopes[(top + r) * OTHER_BLOCK + column] * other_first[column * HEAD_PADDED + lane + c * LANES];
                    }
                    first_sums[r][c] += part;
#if of_keys
                    part = 0.0;
                    for (var column = 0u; column < OTHER_BLOCK; column += 1u) {
                        part += weights[(top + r) * OTHER_BLOCK + column] * other_second[column * HEAD_PADDED + lane + c * LANES];
                    }
                    second_sums[r][c] += part;
#end
                }
            }
        }
    }

    for (var r = 0u; r < ROWS; r += 1u) {
        let row = top + r;
        if first_row + row < own_tokens {
            for (var c = 0u; c < HEAD_PADDED / LANES; c += 1u) {
                let channel = lane + c * LANES;
                if channel < HEAD_SIZE {
                    first_gradient[(own_base + row) * HEAD_SIZE + channel] = {{ element }}(first_sums[r][c] * scale);
#if of_keys
                    second_gradient[(own_base + row) * HEAD_SIZE + channel] = {{ element }}(second_sums[r][c]);
#end
                }
            }
        }
    }
#if count_work
    if thread == 0u {
        work[group.y * groups.x + group.x] = f32(walked);
    }
#end
}
