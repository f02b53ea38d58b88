// Attention over frame-to-frame tiles, matrix tier: f16 in cooperative matrices with f32 sums.
//
// One workgroup owns SUBGROUPS * ROWS query tokens of one frame and one head, and walks through the ranges of keys that its
// frame keeps (neighbouring kept frames may be one range), KEYS at a time; tiles that are not kept are never looked at. Keys and
// values of the next round travel into registers while this round is computed. No element of a matrix can be touched in
// registers, so scores cross to the lanes through workgroup memory, PART keys at a time, and come back as f16 weights. The sums
// are rescaled only when a maximum grew by more than a factor of 2^SLACK. With log_sums every range is a tile, and what it
// adds to a row's sum is written into a record at its end. With sampled the groups past those of the queries own sampled rows of
// all frames and one key frame each, kept or not, and give their log-sums alone.
enable f16;
enable wgpu_cooperative_matrix;
// naga takes every local variable for non-uniform and refuses matrices behind such a condition; this is its only switch.
diagnostic(off, derivative_uniformity);

const HEAD = {{ head }}u;
const HEAD4 = HEAD / 4u;
const SUBGROUPS = {{ subgroups }}u;
const THREADS = SUBGROUPS * 32u;
const ROWS = {{ rows }}u;                 // query rows of a subgroup: 16 or 32
const LANES = 32u / ROWS;                 // lanes that share a row
const KEYS = {{ keys }}u;                 // keys of one round
const PART = {{ part }}u;                 // keys whose scores are exchanged at a time
// Rows in vec4s, padded so that lanes meet in different banks.
const LDK = HEAD4 + 2u;
const LDP = PART / 4u + 2u;
const LDS = PART / 4u + {{ score_padding }}u;
const S_SIZE = ROWS * LDS;
const P_SIZE = ROWS * LDP;
const K_SIZE = KEYS * LDK;
const SLACK = 8.0;                        // weights stay below 2^8, far from the limit of f16
const LOWEST = -3.0e38;                   // never infinity: compilers may assume that there is none
#if log_sums
const LEAST_SUM = 1.0e-37;                // so that no logarithm is infinite
#end

@group(0) @binding(0) var<storage, read_write> query: array<vec4<f16>>;   // [batch * heads, query tokens, HEAD]
@group(0) @binding(1) var<storage, read_write> key: array<vec4<f16>>;     // [batch * heads, key tokens, HEAD]
#if attend
@group(0) @binding(2) var<storage, read_write> value: array<vec4<f16>>;
#end
#if key_bias
@group(0) @binding({{ place_of_bias }}) var<storage, read_write> key_bias: array<f32>;      // [batch, key tokens]
#end
#if attend
@group(0) @binding({{ place_of_output }}) var<storage, read_write> output: array<vec4<f16>>;  // as the query
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

// Words of `info`; the launcher writes them in this order.
const QUERY_TOKENS = 0u;      // of one frame
const KEY_TOKENS = 1u;        // of one frame
const QUERY_FRAMES = 2u;
const KEY_FRAMES = 3u;
const HEADS = 4u;             // of one clip
const SCALE_BITS = 5u;
const BATCH_HEADS = 6u;
const KEPT_TILES = 7u;        // of a head
const RECORD_AT = 8u;         // where this launch's log-sums begin
const FIRST_HEAD = 9u;        // of the clip that is sampled, among the heads of all clips
const SAMPLED_ROWS = 10u;     // of all frames together
const ROWS_AT = 11u;          // where in info they are listed
const LONG_FRAMES = 12u;      // query frames that see more than the least
const TABLE = 13u;            // per query frame, long ones first: frame, place of its ranges, their number; a range: first key, end

var<workgroup> key_tile: array<vec4<f16>, K_SIZE>;
#if attend
var<workgroup> value_tile: array<vec4<f16>, K_SIZE>;
#end
var<workgroup> scores: array<vec4<f32>, SUBGROUPS * S_SIZE>;      // [row][key]; also the way out of the sums
var<workgroup> weights: array<vec4<f16>, SUBGROUPS * P_SIZE>;     // [row][key]

@compute @workgroup_size({{ subgroups * 32 }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32,
        @builtin(local_invocation_index) thread: u32) {
    let query_tokens = info[QUERY_TOKENS];
    let blocks = (query_tokens + SUBGROUPS * ROWS - 1u) / (SUBGROUPS * ROWS);
    let index = group.y * groups.x + group.x;
    let own_groups = info[BATCH_HEADS] * info[QUERY_FRAMES] * blocks;
#if sampled
    let is_sample = index >= own_groups;
    let sample = index - select(0u, own_groups, is_sample);
    let sample_blocks = (info[SAMPLED_ROWS] + SUBGROUPS * ROWS - 1u) / (SUBGROUPS * ROWS);
    let all_groups = own_groups + (info[BATCH_HEADS] - info[FIRST_HEAD]) * info[KEY_FRAMES] * sample_blocks;
#else
    let all_groups = own_groups;
#end
    if index >= all_groups {
#if count_work
        if thread == 0u {
            work[index] = 0.0;
        }
#end
        return;
    }
    // The long frames of all heads go before the others, so that the card is busy to the end; a head's stay together for the cache.
    let long_groups = info[BATCH_HEADS] * info[LONG_FRAMES] * blocks;
    let is_short = index >= long_groups;
    let turn = index - select(0u, long_groups, is_short);
    let turn_frames = select(info[LONG_FRAMES], info[QUERY_FRAMES] - info[LONG_FRAMES], is_short);
    let entry = TABLE + (select(0u, info[LONG_FRAMES], is_short) + turn / blocks % turn_frames) * 3u;
    var range = info[entry + 1u];
#if sampled
    let sample_head = info[FIRST_HEAD] + sample / (info[KEY_FRAMES] * sample_blocks);
    let sample_frame = sample / sample_blocks % info[KEY_FRAMES];
    let head = select(turn / (turn_frames * blocks), sample_head, is_sample);       // of all clips
    let first_row = select(turn % blocks, sample % sample_blocks, is_sample) * SUBGROUPS * ROWS + subgroup * ROWS;
    let rows = select(query_tokens, info[SAMPLED_ROWS], is_sample);
    let range_end = range + select(info[entry + 2u], 1u, is_sample) * 2u;
    let query_base = (head * info[QUERY_FRAMES] + select(info[entry], 0u, is_sample)) * query_tokens;
#else
    let head = turn / (turn_frames * blocks);                     // of all clips
    let first_row = (turn % blocks) * SUBGROUPS * ROWS + subgroup * ROWS;  // in its frame
    let rows = query_tokens;
    let range_end = range + info[entry + 2u] * 2u;
    let query_base = (head * info[QUERY_FRAMES] + info[entry]) * query_tokens;
#end
    let keys_of_head = info[KEY_FRAMES] * info[KEY_TOKENS];
    let key_base = head * keys_of_head;
    let scale = bitcast<f32>(info[SCALE_BITS]) * 1.4426950408889634;      // exponents are powers of two

    let score_at = subgroup * S_SIZE;
    let weight_at = subgroup * P_SIZE;
    let row = lane / LANES;
    let share = lane % LANES;             // of the vec4s of a row: share, share + LANES, ..
    let my_score = score_at + row * LDS + share;
    let my_weight = weight_at + row * LDP + share;

    // The query block, 16 channels at a time, through the scratch of the weights. Rows past the end are copies.
#for h in 0..{{ head / 16 }}
    for (var i = lane; i < ROWS * 4u; i += 32u) {
        let row_in = min(first_row + i / 4u, rows - 1u);
#if sampled
        let token = select(row_in, info[info[ROWS_AT] + min(row_in, info[SAMPLED_ROWS] - 1u)], is_sample);
#else
        let token = row_in;
#end
        weights[weight_at + (i / 4u) * LDP + i % 4u] = query[(query_base + token) * HEAD4 + {{ h }}u * 4u + i % 4u];
    }
    subgroupBarrier();
#for m in 0..{{ rows / 16 }}
    let q_{{ m }}_{{ h }} = coopLoadT<coop_mat16x16<f16, A>>(&weights[weight_at + {{ m }}u * 16u * LDP], LDP);
#end
    subgroupBarrier();
#end

#if attend
#for m in 0..{{ rows / 16 }}
#for h in 0..{{ head / 16 }}
    var o_{{ m }}_{{ h }} = coop_mat16x16<f32, C>();
#end
#end
    var sum = 0.0;                // of this lane's share of the row
    var started = false;
#end
#if log_sums
    var frame_sum = 0.0;          // as the sum, of this range's keys
#end
    var reference = LOWEST;       // the maximum in use, times scale

    // What this thread brings in.
#for j in 0..{{ loads }}
    let to_{{ j }} = (thread + {{ j }}u * THREADS) / HEAD4 * LDK + (thread + {{ j }}u * THREADS) % HEAD4;
    var k_{{ j }}: vec4<f16>;
#if attend
    var v_{{ j }}: vec4<f16>;
#end
#end
    var key_token = info[range];
    var key_end = info[range + 1u];
#if sampled
    if is_sample {
        key_token = sample_frame * info[KEY_TOKENS];
        key_end = key_token + info[KEY_TOKENS];
    }
#end
    {
        let last4 = (key_end - key_token) * HEAD4 - 1u;
        let from_ = (key_base + key_token) * HEAD4;
#for j in 0..{{ loads }}
        k_{{ j }} = key[from_ + min(thread + {{ j }}u * THREADS, last4)];
#if attend
        v_{{ j }} = value[from_ + min(thread + {{ j }}u * THREADS, last4)];
#end
#end
    }

#if count_work
    var walked = 0u;              // keys
#end
    while range < range_end {
        let keys_left = key_end - key_token;
#if count_work
        walked += min(keys_left, KEYS);
#end
#if key_bias
        let bias_at = (head / info[HEADS]) * keys_of_head + key_token;
#end
        workgroupBarrier();
#for j in 0..{{ loads }}
#if load_guard
        if thread + {{ j }}u * THREADS < KEYS * HEAD4 {
#end
        key_tile[to_{{ j }}] = k_{{ j }};
#if attend
        value_tile[to_{{ j }}] = v_{{ j }};
#end
#if load_guard
        }
#end
#end
        workgroupBarrier();
#if log_sums
        let tile = (range - TABLE - 3u * info[QUERY_FRAMES]) / 2u;
#end
        // The next round; after the last one this is read again.
        if keys_left > KEYS {
            key_token += KEYS;
        } else {
            range += 2u;
            if range < range_end {
                key_token = info[range];
                key_end = info[range + 1u];
            }
        }
        {
            let from_ = (key_base + key_token) * HEAD4;
#if ragged
            let last4 = (key_end - key_token) * HEAD4 - 1u;
#for j in 0..{{ loads }}
            k_{{ j }} = key[from_ + min(thread + {{ j }}u * THREADS, last4)];
#if attend
            v_{{ j }} = value[from_ + min(thread + {{ j }}u * THREADS, last4)];
#end
#end
#else
#for j in 0..{{ loads }}
#if load_guard
            k_{{ j }} = key[from_ + min(thread + {{ j }}u * THREADS, KEYS * HEAD4 - 1u)];
#if attend
            v_{{ j }} = value[from_ + min(thread + {{ j }}u * THREADS, KEYS * HEAD4 - 1u)];
#end
#else
            k_{{ j }} = key[from_ + thread + {{ j }}u * THREADS];
#if attend
            v_{{ j }} = value[from_ + thread + {{ j }}u * THREADS];
#end
#end
#end
#end
        }

        // Scores: keys are the columns.
#for n in 0..{{ keys / 16 }}
#for m in 0..{{ rows / 16 }}
        var s_{{ m }}_{{ n }} = coop_mat16x16<f32, C>();
#end
#end
#for h in 0..{{ head / 16 }}
#for n in 0..{{ keys / 16 }}
        {
            let k = coopLoad<coop_mat16x16<f16, B>>(&key_tile[{{ n }}u * 16u * LDK + {{ h }}u * 4u], LDK);
#for m in 0..{{ rows / 16 }}
            s_{{ m }}_{{ n }} = coopMultiplyAdd(q_{{ m }}_{{ h }}, k, s_{{ m }}_{{ n }});
#end
        }
#end
#end
        // To the lanes: one or two of them hold a row.
#for p in 0..{{ keys / part }}
#for q in 0..{{ part / 16 }}
#for m in 0..{{ rows / 16 }}
        coopStoreT(s_{{ m }}_{{ p * part / 16 + q }}, &scores[score_at + {{ m }}u * 16u * LDS + {{ q }}u * 4u], LDS);
#end
#end
        subgroupBarrier();
#for i in 0..{{ part * rows / 128 }}
        var x_{{ p }}_{{ i }} = scores[my_score + {{ i }}u * LANES]{{ at_once }};
#end
        subgroupBarrier();
#end
#if key_bias
#for p in 0..{{ keys / part }}
#for i in 0..{{ part * rows / 128 }}
        {
            let k = {{ p }}u * PART + (share + {{ i }}u * LANES) * 4u;
            x_{{ p }}_{{ i }} += vec4<f32>(key_bias[bias_at + min(k, keys_left - 1u)], key_bias[bias_at + min(k + 1u, keys_left - 1u)],
                key_bias[bias_at + min(k + 2u, keys_left - 1u)], key_bias[bias_at + min(k + 3u, keys_left - 1u)]) * 1.4426950408889634;
        }
#end
#end
#end
#if ragged
        if keys_left < KEYS {
#for p in 0..{{ keys / part }}
#for i in 0..{{ part * rows / 128 }}
            {
                let k = {{ p }}u * PART + (share + {{ i }}u * LANES) * 4u + vec4<u32>(0u, 1u, 2u, 3u);
                x_{{ p }}_{{ i }} = select(vec4<f32>(LOWEST), x_{{ p }}_{{ i }}, k < vec4<u32>(keys_left));
            }
#end
#end
        }
#end
#if key_bias
        let multiply = 1.0;
#else
        let multiply = scale;
#end
        var top4 = x_0_0;
#for p in 0..{{ keys / part }}
#for i in 0..{{ part * rows / 128 }}
        top4 = max(top4, x_{{ p }}_{{ i }});
#end
#end
        var top = max(max(top4.x, top4.y), max(top4.z, top4.w));
#if two_lanes_a_row
        top = max(top, subgroupShuffleXor(top, 1u));
#end
        top *= multiply;
        let grown = top > reference + SLACK;
        if subgroupAny(grown) {
            let factor = select(1.0, exp2(max(reference - top, -200.0)), grown);
            reference = select(reference, top, grown);
#if log_sums
            frame_sum *= factor;
#end
#if attend
            sum *= factor;
            if started {
#for h in 0..{{ head / 16 }}
#for m in 0..{{ rows / 16 }}
                coopStoreT(o_{{ m }}_{{ h }}, &scores[score_at + {{ m }}u * 16u * LDS], LDS);
#end
                subgroupBarrier();
                for (var i = 0u; i < 4u; i += LANES) {
                    scores[my_score + i] *= factor;
                }
                subgroupBarrier();
#for m in 0..{{ rows / 16 }}
                o_{{ m }}_{{ h }} = coopLoadT<coop_mat16x16<f32, C>>(&scores[score_at + {{ m }}u * 16u * LDS], LDS);
#end
                subgroupBarrier();
#end
            }
#end
        }
#if attend
        started = true;
#end
        var sums = vec4<f32>();
#for p in 0..{{ keys / part }}
#for i in 0..{{ part * rows / 128 }}
        {
            let y = fma(x_{{ p }}_{{ i }}, vec4<f32>(multiply), vec4<f32>(-reference));
            let w = exp2(y);
            sums += w;
#if attend
            weights[my_weight + {{ i }}u * LANES] = vec4<f16>(w);
#end
        }
#end
#if attend
        subgroupBarrier();
#for q in 0..{{ part / 16 }}
        {
#for m in 0..{{ rows / 16 }}
            let p{{ m }} = coopLoadT<coop_mat16x16<f16, A>>(&weights[weight_at + {{ m }}u * 16u * LDP + {{ q }}u * 4u], LDP);
#end
#for h in 0..{{ head / 16 }}
            let v{{ h }} = coopLoadT<coop_mat16x16<f16, B>>(&value_tile[({{ p * part / 16 + q }}u) * 16u * LDK + {{ h }}u * 4u], LDK);
#for m in 0..{{ rows / 16 }}
            o_{{ m }}_{{ h }} = coopMultiplyAdd(p{{ m }}, v{{ h }}, o_{{ m }}_{{ h }});
#end
#end
        }
#end
        subgroupBarrier();
#end
#end
#if attend
        sum += (sums.x + sums.y) + (sums.z + sums.w);
#end
#if log_sums
        frame_sum += (sums.x + sums.y) + (sums.z + sums.w);
#if two_lanes_a_row
        let row_sum = frame_sum + subgroupShuffleXor(frame_sum, 1u);
#else
        let row_sum = frame_sum;
#end
        if keys_left <= KEYS {
            if share == 0u && first_row + row < rows {
                var at = (head * info[KEPT_TILES] + tile) * query_tokens;
#if sampled
                let sample_at = info[BATCH_HEADS] * info[KEPT_TILES] * query_tokens;
                at = select(at, sample_at + ((head - info[FIRST_HEAD]) * info[KEY_FRAMES] + sample_frame) * rows, is_sample);
#end
                record[info[RECORD_AT] + at + first_row + row] = (reference + log2(max(row_sum, LEAST_SUM))) * 0.6931471805599453;
            }
            frame_sum = 0.0;
        }
#end
    }

#if attend
#if two_lanes_a_row
    sum += subgroupShuffleXor(sum, 1u);
#end
    let inverse = 1.0 / sum;
#if row_log_sums
    if share == 0u && first_row + row < query_tokens {
        row_log_sums[query_base + first_row + row] = (reference + log2(sum)) * 0.6931471805599453;
    }
#end
#for h in 0..{{ head / 16 }}
#for m in 0..{{ rows / 16 }}
    coopStoreT(o_{{ m }}_{{ h }}, &scores[score_at + {{ m }}u * 16u * LDS], LDS);
#end
    subgroupBarrier();
    for (var i = lane; i < ROWS * 4u; i += 32u) {
        let r = i / 4u;
        let factor = subgroupShuffle(inverse, r * LANES);
        let o = scores[score_at + r * LDS + i % 4u] * factor;
#if sampled
        if first_row + r < rows && !is_sample {
#else
        if first_row + r < rows {
#end
            output[(query_base + first_row + r) * HEAD4 + {{ h }}u * 4u + i % 4u] = vec4<f16>(o);
        }
    }
    subgroupBarrier();
#end
#end
#if count_work
    if thread == 0u {
        work[index] = f32(walked) / f32(info[KEY_TOKENS]);
    }
#end
}
