// Between tokens [batch, tokens, heads * HEAD] and heads [batch, heads, tokens, HEAD]: split, or back with `merge`. Values
// move as they are, or with `rotate` turned by the 3D rotary embedding on the way: forward when split, backward when merged,
// which is the gradient.
//
// The embedding divides a head into three runs (t, h, w), and turns the first half of a run against the second.
#if half
enable f16;
#end

const THREADS = 256u;
const HEADS = {{ heads }}u;
const ELEMENTS = {{ elements }}u;      // of a head: fours of values, or single ones
#if rotate
const HALF = ELEMENTS / 6u;            // half of a run
const ITEMS = ELEMENTS / 2u;           // of a head: each moves one element of a first half and its partner
#else
const ITEMS = ELEMENTS;
#end

@group(0) @binding(0) var<storage, read_write> input: array<{{ stored }}>;
#if rotate
@group(0) @binding(1) var<storage, read_write> table: array<{{ wide }}>;      // [tokens, cos or sin, HEAD / 2], f32
@group(0) @binding(2) var<storage, read_write> output: array<{{ stored }}>;
@group(0) @binding(3) var<storage, read> info: array<u32>;
#else
@group(0) @binding(1) var<storage, read_write> output: array<{{ stored }}>;
@group(0) @binding(2) var<storage, read> info: array<u32>;
#end

// Words of `info`; the launcher writes them in this order.
const TOKENS = 0u;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = (group.y * groups.x + group.x) * THREADS + thread;
    let tokens = info[TOKENS];
    if index >= tokens * HEADS * ITEMS {
        return;
    }
    let item = index % ITEMS;
    let head = index / ITEMS % HEADS;
    let token = index / (ITEMS * HEADS);
    let in_tokens = ((group.z * tokens + token) * HEADS + head) * ELEMENTS;
    let in_heads = ((group.z * HEADS + head) * tokens + token) * ELEMENTS;
#if merge
    let from_first = in_heads;
    let to_first = in_tokens;
#else
    let from_first = in_tokens;
    let to_first = in_heads;
#end
#if rotate
    let place = item / HALF * 2u * HALF + item % HALF;
    let first = {{ wide }}(input[from_first + place]);
    let second = {{ wide }}(input[from_first + place + HALF]);
    let cosine = table[token * 2u * ITEMS + item];
#if merge
    let sine = -table[token * 2u * ITEMS + ITEMS + item];
#else
    let sine = table[token * 2u * ITEMS + ITEMS + item];
#end
    output[to_first + place] = {{ stored }}(first * cosine - second * sine);
    output[to_first + place + HALF] = {{ stored }}(second * cosine + first * sine);
#else
    output[to_first + item] = input[from_first + item];
#end
}
