// The last stage of sums over tokens: adds up the chunks' sums, and puts each quantity into its row of the table's gradient.
// Rows of the table without a quantity get zeros.
//
// One workgroup owns COLUMNS columns of one row of one clip; SLICES threads share a column.

const THREADS = 256u;
const COLUMNS = 32u;
const SLICES = 8u;            // THREADS / COLUMNS

@group(0) @binding(0) var<storage, read_write> sums: array<f32>;       // [batch, chunks, quantities, width]
@group(0) @binding(1) var<storage, read_write> output: array<f32>;     // [batch, rows of the table, width]
@group(0) @binding(2) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order. After them: the row of each quantity.
const WIDTH = 0u;
const CHUNKS = 1u;
const TABLE_ROWS = 2u;
const QUANTITIES = 3u;
const ROW_OF_QUANTITY = 4u;

var<workgroup> parts: array<f32, THREADS>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let column = group.x * COLUMNS + thread % COLUMNS;
    let quantities = info[QUANTITIES];
    let inside = column < info[WIDTH];
    var part = 0.0;
    for (var quantity = 0u; quantity < quantities; quantity += 1u) {
        if inside && info[ROW_OF_QUANTITY + quantity] == group.y {
            for (var chunk = thread / COLUMNS; chunk < info[CHUNKS]; chunk += SLICES) {
                part += sums[((group.z * info[CHUNKS] + chunk) * quantities + quantity) * info[WIDTH] + column];
            }
        }
    }
    parts[thread] = part;
    workgroupBarrier();
    if thread < COLUMNS && inside {
        for (var slice = 1u; slice < SLICES; slice += 1u) {
            part += parts[slice * COLUMNS + thread];
        }
        output[(group.z * info[TABLE_ROWS] + group.y) * info[WIDTH] + column] = part;
    }
}
