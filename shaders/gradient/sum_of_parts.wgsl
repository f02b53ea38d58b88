// Adds partial sums in a fixed order: `output[g][i]` is the sum of `parts[s][i]` over PARTS_A_GROUP neighbouring s.
@group(0) @binding(0) var<storage, read_write> parts: array<f32>;    // [parts, count]
@group(0) @binding(1) var<storage, read_write> output: array<f32>;   // [groups, count]
@group(0) @binding(2) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order.
const COUNT = 0u;
const PARTS = 1u;
const PARTS_A_GROUP = 2u;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let count = info[COUNT];
    let index = (group.z * groups.x + group.x) * 256u + thread;
    if index >= count {
        return;
    }
    let begin = group.y * info[PARTS_A_GROUP];
    let to = min(begin + info[PARTS_A_GROUP], info[PARTS]);
    var sum = 0.0;
    for (var part = begin; part < to; part += 1u) {
        sum += parts[part * count + index];
    }
    output[group.y * count + index] = sum;
}
