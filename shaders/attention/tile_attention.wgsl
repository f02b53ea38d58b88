// Attention over the kept tiles, plain tier: online softmax, f32 sums, any head size up to 128.
//
// One workgroup owns QUERY_BLOCK query tokens of one frame and one head, and walks through the key tokens of the key frames
// that its frame keeps; tiles that are not kept are never looked at. Each thread owns ROWS rows by a strided set of columns.
//
// Loops over channels and keys of a block have a fixed, small number of rounds, so that drivers unroll them. On lavapipe they
// have to: it ends all loops of a thread, without an error, after 65,535 rounds together.
#if half
enable f16;
#end

const HEAD_SIZE = {{ head_size }}u;
const HEAD_PADDED = {{ head_padded }}u;     // a multiple of LANES
const QUERY_BLOCK = 32u;
const KEY_BLOCK = {{ key_block }}u;         // a multiple of LANES
const LANES = 8u;                           // threads that share a row
const ROWS = 2u;                            // rows of one thread
const THREADS = 128u;                       // LANES * QUERY_BLOCK / ROWS
const LOWEST = -3.0e38;                     // never infinity: compilers may assume that there is none
#if log_sums
const LEAST_SUM = 1.0e-37;                  // so that no logarithm is infinite
#end

@group(0) @binding(0) var<storage, read_write> query: array<{{ element }}>;   // [batch * heads, query tokens, HEAD_SIZE]
@group(0) @binding(1) var<storage, read_write> key: array<{{ element }}>;     // [batch * heads, key tokens, HEAD_SIZE]
#if attend
@group(0) @binding(2) var<storage, read_write> value: array<{{ element }}>;
#end
#if key_bias
@group(0) @binding({{ place_of_bias }}) var<storage, read_write> key_bias: array<f32>;      // [batch, key tokens]
#end
#if attend
@group(0) @binding({{ place_of_output }}) var<storage, read_write> output: array<{{ element }}>;
#end
#if row_log_sums
@group(0) @binding({{ place_of_extra }}) var<storage, read_write> row_log_sums: array<f32>; // [batch * heads, query tokens]
#end
#if count_work
@group(0) @binding({{ place_of_extra }}) var<storage, read_write> work: array<f32>;         // tiles walked by each workgroup
#end
#if log_sums
@group(0) @binding({{ place_of_extra }}) var<storage, read_write> log_sums: array<f32>;     // [batch * heads, kept tiles, query tokens of a frame]
#end
@group(0) @binding({{ place_of_info }}) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order. After them: the offsets of each query frame, then the key frames.
const QUERY_TOKENS = 0u;      // of one frame
const KEY_TOKENS = 1u;        // of one frame
const QUERY_FRAMES = 2u;
const KEY_FRAMES = 3u;
const HEADS = 4u;
const SCALE_BITS = 5u;
const TABLE = 6u;

var<workgroup> query_block: array<f32, QUERY_BLOCK * HEAD_PADDED>;
var<workgroup> key_block: array<f32, KEY_BLOCK * HEAD_PADDED>;      // keys, then values
var<workgroup> weights: array<f32, QUERY_BLOCK * KEY_BLOCK>;        // scores, then exp(score - maximum)
var<workgroup> row_maximum: array<f32, QUERY_BLOCK>;
var<workgroup> row_sum: array<f32, QUERY_BLOCK>;
var<workgroup> row_rescale: array<f32, QUERY_BLOCK>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let query_tokens = info[QUERY_TOKENS];
    let key_tokens = info[KEY_TOKENS];
    let blocks = (query_tokens + QUERY_BLOCK - 1u) / QUERY_BLOCK;
    let frame = group.x / blocks;
    let first_row = (group.x % blocks) * QUERY_BLOCK;
    let head = group.y;                                                     // of batch * heads
    let query_base = (head * info[QUERY_FRAMES] + frame) * query_tokens + first_row;
    let scale = bitcast<f32>(info[SCALE_BITS]);

    for (var i = thread; i < QUERY_BLOCK * HEAD_PADDED; i += THREADS) {
        let row = i / HEAD_PADDED;
        let channel = i % HEAD_PADDED;
        var x = 0.0;
        if first_row + row < query_tokens && channel < HEAD_SIZE {
            x = f32(query[(query_base + row) * HEAD_SIZE + channel]) * scale;
        }
        query_block[i] = x;
    }
    if thread < QUERY_BLOCK {
        row_maximum[thread] = LOWEST;
        row_sum[thread] = 0.0;
    }

    let lane = thread % LANES;
    let top = (thread / LANES) * ROWS;
#if attend
    var sums: array<array<f32, HEAD_PADDED / LANES>, ROWS>;
#end
    var walked = 0u;

    let table_end = info[TABLE + frame + 1u];
    for (var entry = info[TABLE + frame]; entry < table_end; entry += 1u) {
        let key_frame = info[TABLE + info[QUERY_FRAMES] + 1u + entry];
        let key_base = (head * info[KEY_FRAMES] + key_frame) * key_tokens;
        walked += 1u;
#if log_sums
        var frame_sum = 0.0;                                                // of this frame's keys, for the thread's row
#end
        for (var first_key = 0u; first_key < key_tokens; first_key += KEY_BLOCK) {
            workgroupBarrier();
            for (var i = thread; i < KEY_BLOCK * HEAD_PADDED; i += THREADS) {
                let token = first_key + i / HEAD_PADDED;
                let channel = i % HEAD_PADDED;
                var x = 0.0;
                if token < key_tokens && channel < HEAD_SIZE {
                    x = f32(key[(key_base + token) * HEAD_SIZE + channel]);
                }
                key_block[i] = x;
            }
            workgroupBarrier();

            for (var column = lane; column < KEY_BLOCK; column += LANES) {
                let token = first_key + column;
                for (var r = 0u; r < ROWS; r += 1u) {
                    var score = LOWEST;
                    if token < key_tokens {
                        score = 0.0;
                        // A sum of sums rounds less than one long sum.
                        for (var channel = 0u; channel < HEAD_PADDED; channel += LANES) {
                            var part = 0.0;
                            for (var i = 0u; i < LANES; i += 1u) {
                                part += query_block[(top + r) * HEAD_PADDED + channel + i] * key_block[column * HEAD_PADDED + channel + i];
                            }
                            score += part;
                        }
#if key_bias
                        let batch = head / info[HEADS];
                        score += key_bias[(batch * info[KEY_FRAMES] + key_frame) * key_tokens + token];
#end
                    }
                    weights[(top + r) * KEY_BLOCK + column] = score;
                }
            }
            workgroupBarrier();

            // One thread a row for the softmax, while all bring the values in.
            if thread < QUERY_BLOCK {
                let old = row_maximum[thread];
                var maximum = old;
                for (var column = 0u; column < KEY_BLOCK; column += 1u) {
                    maximum = max(maximum, weights[thread * KEY_BLOCK + column]);
                }
                var sum = 0.0;
                for (var column = 0u; column < KEY_BLOCK; column += 1u) {
                    let weight = exp(weights[thread * KEY_BLOCK + column] - maximum);
                    weights[thread * KEY_BLOCK + column] = weight;
                    sum += weight;
                }
                let rescale = exp(old - maximum);
                row_rescale[thread] = rescale;
                row_sum[thread] = row_sum[thread] * rescale + sum;
                row_maximum[thread] = maximum;
#if log_sums
                frame_sum = frame_sum * rescale + sum;
#end
            }
#if attend
            for (var i = thread; i < KEY_BLOCK * HEAD_PADDED; i += THREADS) {
                let token = first_key + i / HEAD_PADDED;
                let channel = i % HEAD_PADDED;
                var x = 0.0;
                if token < key_tokens && channel < HEAD_SIZE {
                    x = f32(value[(key_base + token) * HEAD_SIZE + channel]);
                }
                key_block[i] = x;
            }
            workgroupBarrier();

            for (var r = 0u; r < ROWS; r += 1u) {
                let rescale = row_rescale[top + r];
                for (var c = 0u; c < HEAD_PADDED / LANES; c += 1u) {
                    var part = 0.0;
                    for (var column = 0u; column < KEY_BLOCK; column += 1u) {
                        part += weights[(top + r) * KEY_BLOCK + column] * key_block[column * HEAD_PADDED + lane + c * LANES];
                    }
                    sums[r][c] = sums[r][c] * rescale + part;
                }
            }
#end
        }
#if log_sums
        if thread < QUERY_BLOCK && first_row + thread < query_tokens {
            let tile = head * info[TABLE + info[QUERY_FRAMES]] + entry;
            log_sums[tile * query_tokens + first_row + thread] = row_maximum[thread] + log(max(frame_sum, LEAST_SUM));
        }
#end
    }

#if attend
    for (var r = 0u; r < ROWS; r += 1u) {
        let row = top + r;
        if first_row + row < query_tokens {
            let inverse = 1.0 / row_sum[row];
#if row_log_sums
            if lane == 0u {
                row_log_sums[query_base + row] = row_maximum[row] + log(row_sum[row]);
            }
#end
            for (var c = 0u; c < HEAD_PADDED / LANES; c += 1u) {
                let channel = lane + c * LANES;
                if channel < HEAD_SIZE {
                    output[(query_base + row) * HEAD_SIZE + channel] = {{ element }}(sums[r][c] * inverse);
                }
            }
        }
    }
#end
#if count_work
    if thread == 0u {
        work[group.y * groups.x + group.x] = f32(walked);
    }
#end
}
