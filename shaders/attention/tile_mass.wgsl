// The mass of every tile of every layer from a record of tile_attention's log-sums, one workgroup a tile. What the tiles of a
// row have in common comes from tile_mass_rows.
//
// A layer's log-sums are of all query rows, over the tiles that are kept. With a sample some rows' log-sums over all frames are
// there too: from them follow the mass of skipped tiles, the share of a row's mass that is kept, and how far the estimates may
// be off.

const THREADS = 64u;
const LEAST_SUM = 1.0e-37;    // so that nothing is divided by zero
const ROW_VALUES = 2u;
const SAMPLED_ROW_VALUES = 3u;

@group(0) @binding(0) var<storage, read_write> record: array<f32>;
@group(0) @binding(1) var<storage, read_write> rows: array<f32>;          // of tile_mass_rows
@group(0) @binding(2) var<storage, read_write> mass: array<vec2<f32>>;    // [layers, heads, query frames, key frames]: mass, standard error
@group(0) @binding(3) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order.
const FRAMES = 0u;
const QUERY_TOKENS = 1u;      // of one frame
const HEADS = 2u;
const MOST_SAMPLED_ROWS = 3u; // of one frame, of all layers
const LAYERS = 4u;            // the layers, one after the other
const LAYER_WORDS = 4u;
// Words of a layer.
const LOG_SUMS_AT = 0u;       // in the record: [heads, kept tiles, query tokens of a frame]
const SAMPLE_AT = 1u;         // in the record: [heads, key frames, query frames * sampled rows]
const SAMPLED_ROWS = 2u;      // of one frame; 0 without a sample
const TABLE = 3u;             // where in info: the offsets of each query frame, then the key frames

var<workgroup> parts: array<vec3<f32>, THREADS>;
var<workgroup> kept_tile: u32;

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

/// Of a sampled row, whose log-sum on the tile and whose sums are at these places: the tile's mass, the kept tiles' mass, and the
/// tile's share of that (0 for a skipped tile).
fn of_row(log_sum_at: u32, sums_at: u32, is_kept: bool) -> vec3<f32> {
    let own = exp(record[log_sum_at] - rows[sums_at]);
    let all = rows[sums_at + 1u];
    let kept = rows[sums_at + 2u];
    return vec3<f32>(own / all, kept / all, select(0.0, own, is_kept) / max(kept, LEAST_SUM));
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
    if thread == 0u {
        kept_tile = end;
    }
    workgroupBarrier();
    for (var entry = first + thread; entry < end; entry += THREADS) {
        if info[table + frames + 1u + entry] == key_frame {
            kept_tile = entry;
        }
    }
    workgroupBarrier();
    let tile = kept_tile;
    let all_rows = frames * query_tokens;
    let of_head = (group.z * info[HEADS] + head) * (ROW_VALUES * all_rows + SAMPLED_ROW_VALUES * frames * info[MOST_SAMPLED_ROWS]);

    // The tile's share among those that are kept, on all rows.
    var share = 0.0;
    if tile < end {
        let base = info[layer + LOG_SUMS_AT] + (head * info[table + frames] + tile) * query_tokens;
        let sums_at = of_head + ROW_VALUES * query_frame * query_tokens;
        for (var row = thread; row < query_tokens; row += THREADS) {
            share += exp(record[base + row] - rows[sums_at + ROW_VALUES * row]) / rows[sums_at + ROW_VALUES * row + 1u];
        }
    }
    share = total(thread, vec3<f32>(share, 0.0, 0.0)).x / f32(query_tokens);
    var result = vec2<f32>(share, 0.0);
    let sampled_rows = info[layer + SAMPLED_ROWS];
    if sampled_rows > 0u {
        let base = info[layer + SAMPLE_AT] + ((head * frames + key_frame) * frames + query_frame) * sampled_rows;
        let sums_at = of_head + ROW_VALUES * all_rows + SAMPLED_ROW_VALUES * query_frame * sampled_rows;
        var part = vec3<f32>();
        for (var row = thread; row < sampled_rows; row += THREADS) {
            part += of_row(base + row, sums_at + SAMPLED_ROW_VALUES * row, tile < end);
        }
        let mean = total(thread, part) / f32(sampled_rows);
        var squares = 0.0;
        for (var row = thread; row < sampled_rows; row += THREADS) {
            let own = of_row(base + row, sums_at + SAMPLED_ROW_VALUES * row, tile < end);
            let residual = (own.x - mean.x) - mean.y * (own.z - mean.z);
            squares += residual * residual;
        }
        let variance = total(thread, vec3<f32>(squares, 0.0, 0.0)).x / max(f32(sampled_rows) - 1.0, 1.0);
        // A quotient may be off by a little, and there is no root of less than nothing.
        let left_out = max(1.0 - f32(sampled_rows) / f32(query_tokens), 0.0);
        result = vec2<f32>(max(mean.x + mean.y * (share - mean.z), 0.0), sqrt(variance * left_out / f32(sampled_rows)));
    }
    if thread == 0u {
        mass[((group.z * info[HEADS] + head) * frames + query_frame) * frames + key_frame] = result;
    }
}
