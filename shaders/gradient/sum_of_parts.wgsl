// Adds partial sums in a fixed order: `output[i]` is the sum of `parts[s][i]` over all s.
//
// SLICES threads share a value where there are too few values to fill a card; each takes every SLICES-th part, several at once
// so that their loads do not wait for each other, and the first of them adds up what they found.

const THREADS = 256u;

@group(0) @binding(0) var<storage, read_write> parts: array<f32>;    // [parts, count]
@group(0) @binding(1) var<storage, read_write> output: array<f32>;   // [count]
@group(0) @binding(2) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order.
const COUNT = 0u;
const PARTS = 1u;
const SLICES = 2u;            // a power of two

var<workgroup> sums: array<f32, THREADS>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let count = info[COUNT];
    let all = info[PARTS];
    let slices = info[SLICES];
    let values = THREADS / slices;
    let slice = thread / values;
    let index = (group.y * groups.x + group.x) * values + thread % values;
    var sum = 0.0;
    if index < count {
        var part = slice;
        for (; part + 3u * slices < all; part += 4u * slices) {
            let first = parts[part * count + index];
            let second = parts[(part + slices) * count + index];
            let third = parts[(part + 2u * slices) * count + index];
            let fourth = parts[(part + 3u * slices) * count + index];
            sum += (first + second) + (third + fourth);
        }
        for (; part < all; part += slices) {
            sum += parts[part * count + index];
        }
    }
    sums[thread] = sum;
    workgroupBarrier();
    if slice == 0u && index < count {
        for (var other = 1u; other < slices; other += 1u) {
            sum += sums[other * values + thread];
        }
        output[index] = sum;
    }
}
