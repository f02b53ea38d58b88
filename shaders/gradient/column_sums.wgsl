// Sums over the rows of a matrix, the gradient of a bias: each workgroup sums a part of the rows; `sum_of_parts` adds the parts.
//
// Neighbouring threads hold neighbouring columns; where there are fewer than threads, several rows are read at once. A thread
// has four loads under way, so that none waits for the one before.
#if half
enable f16;
#end

const THREADS = 256u;

#if by_four
@group(0) @binding(0) var<storage, read_write> input: array<vec4<{{ element }}>>;   // [rows, columns], in fours
@group(0) @binding(1) var<storage, read_write> parts: array<vec4<f32>>;            // [parts, columns]
#else
@group(0) @binding(0) var<storage, read_write> input: array<{{ element }}>;         // [rows, columns]
@group(0) @binding(1) var<storage, read_write> parts: array<f32>;                   // [parts, columns]
#end
@group(0) @binding(2) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order.
const ROWS = 0u;
const COLUMNS = 1u;           // in fours where they are read so
const ROWS_A_PART = 2u;

#if by_four
alias Sum = vec4<f32>;
#else
alias Sum = f32;
#end

var<workgroup> sums: array<Sum, THREADS>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let columns = info[COLUMNS];
    let across = min(columns, THREADS);
    let lanes = THREADS / across;
    let lane = thread / across;
    let column = group.x * across + thread % across;
    let begin = group.y * info[ROWS_A_PART];
    let to = min(begin + info[ROWS_A_PART], info[ROWS]);
    var sum = Sum();
    if lane < lanes && column < columns {
        var row = begin + lane;
        for (; row + 3u * lanes < to; row += 4u * lanes) {
            let first = Sum(input[row * columns + column]);
            let second = Sum(input[(row + lanes) * columns + column]);
            let third = Sum(input[(row + 2u * lanes) * columns + column]);
            let fourth = Sum(input[(row + 3u * lanes) * columns + column]);
            sum += (first + second) + (third + fourth);
        }
        for (; row < to; row += lanes) {
            sum += Sum(input[row * columns + column]);
        }
    }
    sums[thread] = sum;
    workgroupBarrier();
    if lane == 0u && column < columns {
        for (var other = 1u; other < lanes; other += 1u) {
            sum += sums[other * across + thread];
        }
        parts[group.y * columns + column] = sum;
    }
}
