// Gradients of attention over the kept tiles, subgroup tier: as the plain tier, but what a workgroup owns stays in registers.
//
// Two variants of one text, of queries and of keys, as in the plain tier. Four neighbouring lanes of a subgroup (a quad) share
// ROWS own tokens: each lane has every fourth vector of their channels, and of their sums. Other tokens come into workgroup
// memory OTHER_BLOCK at a time, are read once by every lane, and serve both the score and the sums. A score is a sum over the
// quad, so no number but the operands passes through workgroup memory. Every subgroup of at least four lanes has whole quads,
// whatever its size, so the bits do not depend on it.
#if half
enable f16;
#end

const THREADS = {{ threads }}u;
const ROWS = {{ rows }}u;                   // own tokens of a quad
const OWN_BLOCK = {{ threads / 4 * rows }}u;
const OTHER_BLOCK = {{ others }}u;
const VECTORS = {{ head / 4 }}u;            // of four channels, in storage
const PADDED = {{ pieces * 4 }}u;           // the same up to a multiple of 4

@group(0) @binding(0) var<storage, read_write> query: array<vec4<{{ element }}>>;       // [batch * heads, query tokens, head]
@group(0) @binding(1) var<storage, read_write> key: array<vec4<{{ element }}>>;         // [batch * heads, key tokens, head]
@group(0) @binding(2) var<storage, read_write> value: array<vec4<{{ element }}>>;       // as the key
@group(0) @binding(3) var<storage, read_write> gradient: array<vec4<{{ element }}>>;    // of the output; as the query
@group(0) @binding(4) var<storage, read_write> row_log_sums: array<f32>;                // [batch * heads, query tokens]
@group(0) @binding(5) var<storage, read_write> row_deltas: array<vec2<f32>>;            // as the log-sums; see row_deltas.wgsl
#if key_bias
@group(0) @binding(6) var<storage, read_write> key_bias: array<f32>;                    // [batch, key tokens]
#end
@group(0) @binding({{ place_of_first }}) var<storage, read_write> first_gradient: array<vec4<{{ element }}>>;     // as the own first
#if of_keys
@group(0) @binding({{ place_of_second }}) var<storage, read_write> second_gradient: array<vec4<{{ element }}>>;   // as the own second
#end
#if count_work
@group(0) @binding({{ place_of_work }}) var<storage, read_write> work: array<f32>;      // tiles walked by each workgroup
#end
@group(0) @binding({{ place_of_info }}) var<storage, read> info: array<u32>;

// Words of `info`, as for the plain tier. After them: the offsets of each own frame, then the other frames.
const OWN_TOKENS = 0u;        // of one frame
const OTHER_TOKENS = 1u;      // of one frame
const OWN_FRAMES = 2u;
const OTHER_FRAMES = 3u;
const HEADS = 4u;
const SCALE_BITS = 5u;
const TABLE = 6u;

var<workgroup> other_first: array<vec4<f32>, OTHER_BLOCK * PADDED>;     // [token][vector]
var<workgroup> other_second: array<vec4<f32>, OTHER_BLOCK * PADDED>;
#if of_keys
var<workgroup> of_queries: array<vec2<f32>, OTHER_BLOCK>;               // log-sum and delta of the queries at hand
#end

// The sum over a quad's lanes, in all of them.
fn quad_sum(part: vec2<f32>) -> vec2<f32> {
    let pair = part + quadSwapX(part);
    return pair + quadSwapY(pair);
}

fn across(x: vec4<f32>) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}

@compute @workgroup_size({{ threads }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_size) subgroup_size: u32,
        @builtin(subgroup_invocation_id) invocation: u32) {
    // Not the local index: nothing says that it follows the lanes.
    let thread = subgroup * subgroup_size + invocation;
    let own_tokens = info[OWN_TOKENS];
    let other_tokens = info[OTHER_TOKENS];
    let blocks = (own_tokens + OWN_BLOCK - 1u) / OWN_BLOCK;
    let frame = group.x / blocks;
    let first_row = (group.x % blocks) * OWN_BLOCK + thread / 4u * ROWS;    // of the quad
    let lane = thread % 4u;
    let head = group.y;                                                     // of batch * heads
    let own_base = (head * info[OWN_FRAMES] + frame) * own_tokens;
    let scale = bitcast<f32>(info[SCALE_BITS]);

    // Channels of the padding are zeros; rows past the end are copies of the last, which nobody stores.
#for r in 0..{{ rows }}
    let row_{{ r }} = min(first_row + {{ r }}u, own_tokens - 1u);
#for j in 0..{{ pieces }}
    var x_{{ r }}_{{ j }} = vec4<f32>();                                    // scaled
    var y_{{ r }}_{{ j }} = vec4<f32>();
    var first_{{ r }}_{{ j }} = vec4<f32>();
#if of_keys
    var second_{{ r }}_{{ j }} = vec4<f32>();
#end
    if lane + {{ j * 4 }}u < VECTORS {
        let place = (own_base + row_{{ r }}) * VECTORS + lane + {{ j * 4 }}u;
        x_{{ r }}_{{ j }} = vec4<f32>({{ own_first }}[place]) * scale;
        y_{{ r }}_{{ j }} = vec4<f32>({{ own_second }}[place]);
    }
#end
#if of_keys
#if key_bias
    let bias_{{ r }} = key_bias[(head / info[HEADS] * info[OWN_FRAMES] + frame) * own_tokens + row_{{ r }}];
#else
    let bias_{{ r }} = 0.0;
#end
#else
    let log_sum_{{ r }} = row_log_sums[own_base + row_{{ r }}];
    let delta_{{ r }} = row_deltas[own_base + row_{{ r }}].x;
#end
#end
    var walked = 0u;

    let table_end = info[TABLE + frame + 1u];
    for (var entry = info[TABLE + frame]; entry < table_end; entry += 1u) {
        let other_frame = info[TABLE + info[OWN_FRAMES] + 1u + entry];
        let other_base = (head * info[OTHER_FRAMES] + other_frame) * other_tokens;
#if of_keys
#else
#if key_bias
        let bias_base = (head / info[HEADS] * info[OTHER_FRAMES] + other_frame) * other_tokens;
#end
#end
        walked += 1u;
        for (var first_other = 0u; first_other < other_tokens; first_other += OTHER_BLOCK) {
            workgroupBarrier();
#for n in 0..{{ others * pieces * 4 / threads }}
            {
                let at = thread + {{ n }}u * THREADS;
                let token = first_other + at / PADDED;
                let vector = at % PADDED;
                let inside = token < other_tokens && vector < VECTORS;
                let place = select(0u, (other_base + token) * VECTORS + vector, inside);
                other_first[at] = select(vec4<f32>(), vec4<f32>({{ other_first }}[place]), inside);
                other_second[at] = select(vec4<f32>(), vec4<f32>({{ other_second }}[place]), inside);
            }
#end
#if of_keys
            if thread < OTHER_BLOCK {
                let row = other_base + min(first_other + thread, other_tokens - 1u);
                of_queries[thread] = vec2<f32>(row_log_sums[row], row_deltas[row].x);
            }
#end
            workgroupBarrier();

            for (var column = 0u; column < OTHER_BLOCK; column += 1u) {
                let at = column * PADDED + lane;
#for j in 0..{{ pieces }}
                let u_{{ j }} = other_first[at + {{ j * 4 }}u];
                let v_{{ j }} = other_second[at + {{ j * 4 }}u];
#end
                let inside = first_other + column < other_tokens;
#if of_keys
                let of_query = of_queries[column];
#else
#if key_bias
                let bias = key_bias[bias_base + min(first_other + column, other_tokens - 1u)];
#else
                let bias = 0.0;
#end
#end
#for r in 0..{{ rows }}
                {
                    var score_part = x_{{ r }}_0 * u_0;
                    var slope_part = y_{{ r }}_0 * v_0;
#for j in 1..{{ pieces }}
                    score_part = fma(x_{{ r }}_{{ j }}, u_{{ j }}, score_part);
                    slope_part = fma(y_{{ r }}_{{ j }}, v_{{ j }}, slope_part);
#end
                    let both = quad_sum(vec2<f32>(across(score_part), across(slope_part)));
#if of_keys
                    let weight = select(0.0, exp(both.x + bias_{{ r }} - of_query.x), inside);
                    let slope = weight * (both.y - of_query.y);
#else
                    let weight = select(0.0, exp(both.x + bias - log_sum_{{ r }}), inside);
                    let slope = weight * (both.y - delta_{{ r }});
#end
#for j in 0..{{ pieces }}
                    first_{{ r }}_{{ j }} = fma(vec4<f32>(slope), u_{{ j }}, first_{{ r }}_{{ j }});
#if of_keys
                    second_{{ r }}_{{ j }} = fma(vec4<f32>(weight), v_{{ j }}, second_{{ r }}_{{ j }});
#end
#end
                }
#end
            }
        }
    }

#for r in 0..{{ rows }}
    if first_row + {{ r }}u < own_tokens {
#for j in 0..{{ pieces }}
        if lane + {{ j * 4 }}u < VECTORS {
            let place = (own_base + row_{{ r }}) * VECTORS + lane + {{ j * 4 }}u;
            first_gradient[place] = vec4<{{ element }}>(first_{{ r }}_{{ j }} * scale);
#if of_keys
            second_gradient[place] = vec4<{{ element }}>(second_{{ r }}_{{ j }});
#end
        }
#end
    }
#end
#if count_work
    if thread == 0u {
        work[group.y * groups.x + group.x] = f32(walked);
    }
#end
}
