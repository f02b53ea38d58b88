// What all tiles of a query row have in common, for tile_mass: the sums that its masses are divided by. One thread a row.
//
// A row of all has its largest log-sum and the sum of the exponentials above it, over the tiles that are kept. A sampled row,
// whose log-sums over all frames are known, has these sums over all frames and over the kept ones.

const THREADS = 64u;
const LOWEST = -3.0e38;
const ROW_VALUES = 2u;
const SAMPLED_ROW_VALUES = 3u;

@group(0) @binding(0) var<storage, read_write> record: array<f32>;
// [layers, heads]: of all rows (largest, sum), frame by frame; then of the sampled rows (largest, sum of all, sum of kept).
@group(0) @binding(1) var<storage, read_write> rows: array<f32>;
@group(0) @binding(2) var<storage, read> info: array<u32>;

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

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let frames = info[FRAMES];
    let query_tokens = info[QUERY_TOKENS];
    let head = group.y;
    let layer = LAYERS + group.z * LAYER_WORDS;
    let table = info[layer + TABLE];
    let all_rows = frames * query_tokens;
    let of_head = (group.z * info[HEADS] + head) * (ROW_VALUES * all_rows + SAMPLED_ROW_VALUES * frames * info[MOST_SAMPLED_ROWS]);
    let item = group.x * THREADS + thread;
    if item < all_rows {
        let query_frame = item / query_tokens;
        let first = info[table + query_frame];
        let end = info[table + query_frame + 1u];
        let base = info[layer + LOG_SUMS_AT] + head * info[table + frames] * query_tokens + item % query_tokens;
        var largest = LOWEST;
        for (var entry = first; entry < end; entry += 1u) {
            largest = max(largest, record[base + entry * query_tokens]);
        }
        var sum = 0.0;
        for (var entry = first; entry < end; entry += 1u) {
            sum += exp(record[base + entry * query_tokens] - largest);
        }
        let to = of_head + ROW_VALUES * item;
        rows[to] = largest;
        rows[to + 1u] = sum;
        return;
    }
    let row = item - all_rows;
    let sampled_rows = frames * info[layer + SAMPLED_ROWS];
    if row >= sampled_rows {
        return;
    }
    let query_frame = row / info[layer + SAMPLED_ROWS];
    let first = info[layer + SAMPLE_AT] + head * frames * sampled_rows + row;
    var largest = LOWEST;
    for (var frame = 0u; frame < frames; frame += 1u) {
        largest = max(largest, record[first + frame * sampled_rows]);
    }
    var entry = info[table + query_frame];
    let end = info[table + query_frame + 1u];
    var all = 0.0;
    var kept = 0.0;
    for (var frame = 0u; frame < frames; frame += 1u) {
        let weight = exp(record[first + frame * sampled_rows] - largest);
        all += weight;
        // Kept frames are in ascending order.
        if entry < end && info[table + frames + 1u + min(entry, end - 1u)] == frame {
            entry += 1u;
            kept += weight;
        }
    }
    let to = of_head + ROW_VALUES * all_rows + SAMPLED_ROW_VALUES * row;
    rows[to] = largest;
    rows[to + 1u] = all;
    rows[to + 2u] = kept;
}
