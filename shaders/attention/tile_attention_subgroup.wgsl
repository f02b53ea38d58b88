// Attention over the kept tiles, subgroup tier: as the plain tier, but sums stay in registers.
//
// One workgroup owns QUERY_BLOCK query tokens of one frame and one head, and walks through the key tokens of the key frames
// that its frame keeps. Four neighbouring lanes of a subgroup (a quad) share ROWS rows: each lane has every fourth key of a
// round and every fourth vector of the channels. So a score never leaves its lane's registers but by a broadcast in the quad,
// and one load from workgroup memory serves ROWS rows. Every subgroup of at least four lanes has whole quads, whatever its size.
//
// With log_sums the sums of every tile go into a record. With sampled the groups past those of the queries own sampled rows of
// all frames and one key frame each, kept or not, and give their log-sums alone.
#if half
enable f16;
#end

const THREADS = {{ threads }}u;
const ROWS = {{ rows }}u;                   // of a quad
const QUADS = THREADS / 4u;
const QUERY_BLOCK = {{ threads / 4 * rows }}u;
const KEY_BLOCK = {{ keys }}u;              // a multiple of 4
const VECTORS = {{ head / 4 }}u;            // of four channels, in storage
const PADDED = {{ pieces * 4 }}u;           // the same up to a multiple of 4
// A row of keys or values in workgroup memory; the odd length keeps the keys of a quad in different banks.
const KEY_ROW = PADDED + 1u;
const LOWEST = -3.0e38;                     // never infinity: compilers may assume that there is none
#if log_sums
const LEAST_SUM = 1.0e-37;                  // so that no logarithm is infinite
#end

alias Rows = vec{{ rows }}<f32>;            // a number for each row of a quad

@group(0) @binding(0) var<storage, read_write> query: array<vec4<{{ element }}>>;   // [batch * heads, query tokens, head]
@group(0) @binding(1) var<storage, read_write> key: array<vec4<{{ element }}>>;     // [batch * heads, key tokens, head]
#if attend
@group(0) @binding(2) var<storage, read_write> value: array<vec4<{{ element }}>>;
#end
#if key_bias
@group(0) @binding({{ place_of_bias }}) var<storage, read_write> key_bias: array<f32>;      // [batch, key tokens]
#end
#if attend
@group(0) @binding({{ place_of_output }}) var<storage, read_write> output: array<vec4<{{ element }}>>;
#end
#if row_log_sums
@group(0) @binding({{ place_of_extra }}) var<storage, read_write> row_log_sums: array<f32>; // [batch * heads, query tokens]
#end
#if count_work
@group(0) @binding({{ place_of_extra }}) var<storage, read_write> work: array<f32>;         // tiles walked by each workgroup
#end
#if log_sums
@group(0) @binding({{ place_of_extra }}) var<storage, read_write> record: array<f32>;       // at RECORD_AT: [batch * heads, kept tiles, query tokens of a frame], the sample
#end
@group(0) @binding({{ place_of_info }}) var<storage, read> info: array<u32>;

// Words of `info`, as for the plain tier. After them: the offsets of each query frame, then the key frames.
const QUERY_TOKENS = 0u;      // of one frame
const KEY_TOKENS = 1u;        // of one frame
const QUERY_FRAMES = 2u;
const KEY_FRAMES = 3u;
const HEADS = 4u;
const SCALE_BITS = 5u;
const RECORD_AT = 6u;         // where this launch's log-sums begin
const FIRST_HEAD = 7u;        // of the clip that is sampled, among the heads of all clips
const SAMPLED_ROWS = 8u;      // of all frames together
const ROWS_AT = 9u;           // where in info they are listed
const TABLE = 10u;

var<workgroup> query_block: array<vec{{ rows }}<{{ element }}>, PADDED * 4u * QUADS>;   // [channel][quad], a number for each row
var<workgroup> key_block: array<vec4<f32>, KEY_BLOCK * KEY_ROW>;                        // keys, then values

// The sum over a quad's lanes, in all of them.
fn quad_sum(part: Rows) -> Rows {
    let pair = part + quadSwapX(part);
    return pair + quadSwapY(pair);
}

@compute @workgroup_size({{ threads }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_size) subgroup_size: u32,
        @builtin(subgroup_invocation_id) invocation: u32) {
    // Not the local index: nothing says that it follows the lanes.
    let thread = subgroup * subgroup_size + invocation;
    let query_tokens = info[QUERY_TOKENS];
    let key_tokens = info[KEY_TOKENS];
    let blocks = (query_tokens + QUERY_BLOCK - 1u) / QUERY_BLOCK;
    let head = group.y;                                                     // of batch * heads
#if sampled
    let is_sample = group.x >= info[QUERY_FRAMES] * blocks;
    if is_sample && head < info[FIRST_HEAD] {
        return;
    }
    let sample_blocks = (info[SAMPLED_ROWS] + QUERY_BLOCK - 1u) / QUERY_BLOCK;
    let sample = group.x - select(0u, info[QUERY_FRAMES] * blocks, is_sample);
    let sample_frame = sample / sample_blocks;
    let frame = select(group.x / blocks, 0u, is_sample);
    let first_row = select(group.x % blocks, sample % sample_blocks, is_sample) * QUERY_BLOCK;
    let rows = select(query_tokens, info[SAMPLED_ROWS], is_sample);
    let query_base = (head * info[QUERY_FRAMES] + frame) * query_tokens + select(first_row, 0u, is_sample);
#else
    let frame = group.x / blocks;
    let first_row = (group.x % blocks) * QUERY_BLOCK;
    let rows = query_tokens;
    let query_base = (head * info[QUERY_FRAMES] + frame) * query_tokens + first_row;
#end
    let scale = bitcast<f32>(info[SCALE_BITS]);

    // Channels of the padding are zeros, and so are rows past the end.
#for n in 0..{{ pieces }}
    {
        let vector = (thread + {{ n }}u * THREADS) % PADDED;
        let of_quad = (thread + {{ n }}u * THREADS) / PADDED;
#for r in 0..{{ rows }}
        var x{{ r }} = vec4<{{ element }}>();
        {
            let row = of_quad * ROWS + {{ r }}u;
            if first_row + row < rows && vector < VECTORS {
#if sampled
                let place = select(row, info[info[ROWS_AT] + min(first_row + row, info[SAMPLED_ROWS] - 1u)], is_sample);
#else
                let place = row;
#end
                x{{ r }} = query[(query_base + place) * VECTORS + vector];
            }
        }
#end
#for c in 0..4
#if four_rows
        query_block[(vector * 4u + {{ c }}u) * QUADS + of_quad] = vec4<{{ element }}>(x0[{{ c }}], x1[{{ c }}], x2[{{ c }}], x3[{{ c }}]);
#else
        query_block[(vector * 4u + {{ c }}u) * QUADS + of_quad] = vec2<{{ element }}>(x0[{{ c }}], x1[{{ c }}]);
#end
#end
    }
#end

    let quad = thread / 4u;
    let lane = thread % 4u;
    var maximum = Rows(LOWEST);
    var sum = Rows();                                                       // over this lane's keys
#if attend
#for r in 0..{{ rows }}
#for j in 0..{{ pieces }}
    var o_{{ r }}_{{ j }} = vec4<f32>();
#end
#end
#end
    var walked = 0u;

    let table_begin = info[TABLE + frame];
#if sampled
    let table_end = select(info[TABLE + frame + 1u], table_begin + 1u, is_sample);
#else
    let table_end = info[TABLE + frame + 1u];
#end
    for (var entry = table_begin; entry < table_end; entry += 1u) {
#if sampled
        let key_frame = select(info[TABLE + info[QUERY_FRAMES] + 1u + entry], sample_frame, is_sample);
#else
        let key_frame = info[TABLE + info[QUERY_FRAMES] + 1u + entry];
#end
        let key_base = (head * info[KEY_FRAMES] + key_frame) * key_tokens;
#if key_bias
        let bias_base = (head / info[HEADS] * info[KEY_FRAMES] + key_frame) * key_tokens;
#end
        walked += 1u;
#if log_sums
        var frame_sum = Rows();                                             // of this frame's keys that the lane has
#end
        for (var first_key = 0u; first_key < key_tokens; first_key += KEY_BLOCK) {
            workgroupBarrier();
#for n in 0..{{ keys * pieces * 4 / threads }}
            {
                let of_key = (thread + {{ n }}u * THREADS) / PADDED;
                let vector = (thread + {{ n }}u * THREADS) % PADDED;
                let inside = first_key + of_key < key_tokens && vector < VECTORS;
                let place = select(0u, (key_base + first_key + of_key) * VECTORS + vector, inside);
                key_block[of_key * KEY_ROW + vector] = select(vec4<f32>(), vec4<f32>(key[place]), inside);
            }
#end
            workgroupBarrier();

            // This lane's keys are lane, lane + 4, ..
#for i in 0..{{ keys / 4 }}
            var s_{{ i }} = Rows();
#end
            for (var vector = 0u; vector < VECTORS; vector += 1u) {
                let query_at = vector * 4u * QUADS + quad;
                let q0 = Rows(query_block[query_at]);
                let q1 = Rows(query_block[query_at + QUADS]);
                let q2 = Rows(query_block[query_at + 2u * QUADS]);
                let q3 = Rows(query_block[query_at + 3u * QUADS]);
                let key_at = lane * KEY_ROW + vector;
#for i in 0..{{ keys / 4 }}
                {
                    let k = key_block[key_at + {{ i * 4 }}u * KEY_ROW];
                    s_{{ i }} = fma(Rows(k.x), q0, s_{{ i }});
                    s_{{ i }} = fma(Rows(k.y), q1, s_{{ i }});
                    s_{{ i }} = fma(Rows(k.z), q2, s_{{ i }});
                    s_{{ i }} = fma(Rows(k.w), q3, s_{{ i }});
                }
#end
            }

            var highest = maximum;
#for i in 0..{{ keys / 4 }}
            {
                let token = first_key + lane + {{ i * 4 }}u;
#if key_bias
                s_{{ i }} = s_{{ i }} * scale + Rows(key_bias[bias_base + min(token, key_tokens - 1u)]);
#else
                s_{{ i }} = s_{{ i }} * scale;
#end
                s_{{ i }} = select(Rows(LOWEST), s_{{ i }}, token < key_tokens);
                highest = max(highest, s_{{ i }});
            }
#end
            highest = max(highest, quadSwapX(highest));
            highest = max(highest, quadSwapY(highest));
            let rescale = exp(maximum - highest);
            maximum = highest;
            var part = Rows();
#for i in 0..{{ keys / 4 }}
            s_{{ i }} = exp(s_{{ i }} - highest);
            part += s_{{ i }};
#end
            sum = sum * rescale + part;
#if log_sums
            frame_sum = frame_sum * rescale + part;
#end
#if attend

            workgroupBarrier();
#for n in 0..{{ keys * pieces * 4 / threads }}
            {
                let of_key = (thread + {{ n }}u * THREADS) / PADDED;
                let vector = (thread + {{ n }}u * THREADS) % PADDED;
                let inside = first_key + of_key < key_tokens && vector < VECTORS;
                let place = select(0u, (key_base + first_key + of_key) * VECTORS + vector, inside);
                key_block[of_key * KEY_ROW + vector] = select(vec4<f32>(), vec4<f32>(value[place]), inside);
            }
#end
            workgroupBarrier();

            // This lane's vectors of the channels are lane, lane + 4, ..
#for r in 0..{{ rows }}
#for j in 0..{{ pieces }}
            o_{{ r }}_{{ j }} *= rescale[{{ r }}];
#end
#end
#for i in 0..{{ keys / 4 }}
#for l in 0..4
            {
                let p = quadBroadcast(s_{{ i }}, {{ l }}u);
                let value_at = {{ i * 4 + l }}u * KEY_ROW + lane;
#for j in 0..{{ pieces }}
                let v{{ j }} = key_block[value_at + {{ j * 4 }}u];
#for r in 0..{{ rows }}
                o_{{ r }}_{{ j }} = fma(vec4<f32>(p[{{ r }}]), v{{ j }}, o_{{ r }}_{{ j }});
#end
#end
            }
#end
#end
#end
        }
#if log_sums
        let frame_total = quad_sum(frame_sum);
        if lane == 0u {
            let kept_tiles = info[TABLE + info[QUERY_FRAMES]];
            var at = (head * kept_tiles + entry) * query_tokens;
#if sampled
            let sample_at = groups.y * kept_tiles * query_tokens;
            at = select(at, sample_at + ((head - info[FIRST_HEAD]) * info[KEY_FRAMES] + sample_frame) * rows, is_sample);
#end
#for r in 0..{{ rows }}
            {
                let row = first_row + quad * ROWS + {{ r }}u;
                if row < rows {
                    record[info[RECORD_AT] + at + row] = maximum[{{ r }}] + log(max(frame_total[{{ r }}], LEAST_SUM));
                }
            }
#end
        }
#end
    }

#if attend
#if sampled
    if is_sample {
        return;
    }
#end
    let total = quad_sum(sum);
#for r in 0..{{ rows }}
    {
        let row = quad * ROWS + {{ r }}u;
        if first_row + row < rows {
            let inverse = 1.0 / total[{{ r }}];
#if row_log_sums
            if lane == 0u {
                row_log_sums[query_base + row] = maximum[{{ r }}] + log(total[{{ r }}]);
            }
#end
#for j in 0..{{ pieces }}
            if lane + {{ j * 4 }}u < VECTORS {
                output[(query_base + row) * VECTORS + lane + {{ j * 4 }}u] = vec4<{{ element }}>(o_{{ r }}_{{ j }} * inverse);
            }
#end
        }
    }
#end
#end
#if count_work
    if thread == 0u {
        work[group.y * groups.x + group.x] = f32(walked);
    }
#end
}
