// The mass of every tile of every layer from a record of tile_attention's log-sums, one workgroup a tile.
//
// A layer's log-sums are of all query rows, over the tiles that are kept. With a sample some rows' log-sums over all frames are
// there too: from them follow the mass of skipped tiles, the share of a row's mass that is kept, and how far the estimates may
// be off.

const THREADS = 64u;
const LEAST_SUM = 1.0e-37;    // so that nothing is divided by zero
const LOWEST = -3.0e38;

@group(0) @binding(0) var<storage, read_write> record: array<f32>;
@group(0) @binding(1) var<storage, read_write> mass: array<vec2<f32>>;    // [layers, heads, query frames, key frames]: mass, standard error
@group(0) @binding(2) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order.
const FRAMES = 0u;
const QUERY_TOKENS = 1u;      // of one frame
const HEADS = 2u;
const LAYERS = 3u;            // the layers, one after the other
const LAYER_WORDS = 4u;
// Words of a layer.
const LOG_SUMS_AT = 0u;       // in the record: [heads, kept tiles, query tokens of a frame]
const SAMPLE_AT = 1u;         // in the record: [heads, key frames, query frames * sampled rows]
const SAMPLED_ROWS = 2u;      // of one frame; 0 without a sample
const TABLE = 3u;             // where in info: the offsets of each query frame, then the key frames

var<workgroup> parts: array<vec3<f32>, THREADS>;

/// The sum over all threads.
fn total(thread: u32, part: vec3<f32>) -> vec3<f32> {
    workgroupBarrier();
    parts[thread] = part;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            parts[thread] += parts[thread + half];
        }
        workgroupBarrier();
    }
    return parts[0];
}

/// Of a sampled row: the tile's mass, the kept tiles' mass, and the tile's share of that (0 for a skipped tile).
fn of_row(layer: u32, row: u32, head: u32, query_frame: u32, key_frame: u32) -> vec3<f32> {
    let frames = info[FRAMES];
    let rows = frames * info[layer + SAMPLED_ROWS];
    let table = info[layer + TABLE];
    let first = info[layer + SAMPLE_AT] + head * frames * rows + query_frame * info[layer + SAMPLED_ROWS] + row;
    var largest = LOWEST;
    for (var frame = 0u; frame < frames; frame += 1u) {
        largest = max(largest, record[first + frame * rows]);
    }
    var entry = info[table + query_frame];
    let end = info[table + query_frame + 1u];
    var all = 0.0;
    var kept = 0.0;
    var own = 0.0;
    var own_kept = 0.0;
    for (var frame = 0u; frame < frames; frame += 1u) {
        let weight = exp(record[first + frame * rows] - largest);
        all += weight;
        if frame == key_frame {
            own = weight;
        }
        // Kept frames are in ascending order.
        if entry < end && info[table + frames + 1u + min(entry, end - 1u)] == frame {
            entry += 1u;
            kept += weight;
            if frame == key_frame {
                own_kept = weight;
            }
        }
    }
    return vec3<f32>(own / all, kept / all, own_kept / max(kept, LEAST_SUM));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let frames = info[FRAMES];
    let query_tokens = info[QUERY_TOKENS];
    let query_frame = group.x / frames;
    let key_frame = group.x % frames;
    let head = group.y;
    let layer = LAYERS + group.z * LAYER_WORDS;
    let table = info[layer + TABLE];
    let first = info[table + query_frame];
    let end = info[table + query_frame + 1u];
    var tile = end;
    for (var entry = first; entry < end; entry += 1u) {
        if info[table + frames + 1u + entry] == key_frame {
            tile = entry;
        }
    }

    // The tile's share among those that are kept, on all rows.
    var share = 0.0;
    if tile < end {
        let base = info[layer + LOG_SUMS_AT] + head * info[table + frames] * query_tokens;
        for (var row = thread; row < query_tokens; row += THREADS) {
            var largest = LOWEST;
            for (var entry = first; entry < end; entry += 1u) {
                largest = max(largest, record[base + entry * query_tokens + row]);
            }
            var sum = 0.0;
            for (var entry = first; entry < end; entry += 1u) {
                sum += exp(record[base + entry * query_tokens + row] - largest);
            }
            share += exp(record[base + tile * query_tokens + row] - largest) / sum;
        }
    }
    share = total(thread, vec3<f32>(share, 0.0, 0.0)).x / f32(query_tokens);
    var result = vec2<f32>(share, 0.0);
    let rows = info[layer + SAMPLED_ROWS];
    if rows > 0u {
        var part = vec3<f32>();
        for (var row = thread; row < rows; row += THREADS) {
            part += of_row(layer, row, head, query_frame, key_frame);
        }
        let mean = total(thread, part) / f32(rows);
        var squares = 0.0;
        for (var row = thread; row < rows; row += THREADS) {
            let own = of_row(layer, row, head, query_frame, key_frame);
            let residual = (own.x - mean.x) - mean.y * (own.z - mean.z);
            squares += residual * residual;
        }
        let variance = total(thread, vec3<f32>(squares, 0.0, 0.0)).x / max(f32(rows) - 1.0, 1.0);
        // A quotient may be off by a little, and there is no root of less than nothing.
        let left_out = max(1.0 - f32(rows) / f32(query_tokens), 0.0);
        result = vec2<f32>(max(mean.x + mean.y * (share - mean.z), 0.0), sqrt(variance * left_out / f32(rows)));
    }
    if thread == 0u {
        mass[((group.z * info[HEADS] + head) * frames + query_frame) * frames + key_frame] = result;
    }
}
