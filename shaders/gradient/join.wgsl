// Vectors end to end in one: a launch moves all of them, each by workgroups of its own.
#if half
enable f16;
#end

const THREADS = 256u;
const BLOCK = 1024u;          // values of a workgroup

#for i in 0..{{ pieces }}
@group(0) @binding({{ i }}) var<storage, read_write> piece_{{ i }}: array<{{ element }}>;
#end
@group(0) @binding({{ pieces }}) var<storage, read_write> output: array<{{ element }}>;
@group(0) @binding({{ pieces + 1 }}) var<storage, read> info: array<u32>;   // of each piece: its length, where it goes

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let block = (group.z * groups.x + group.x) * BLOCK;
    let length = info[2u * group.y];
    let start = info[2u * group.y + 1u];
    let to = min(block + BLOCK, length);
#for i in 0..{{ pieces }}
    if group.y == {{ i }}u {
        for (var at = block + thread; at < to; at += THREADS) {
            output[start + at] = piece_{{ i }}[at];
        }
    }
#end
}
