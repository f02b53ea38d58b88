// Gradients of attention over the kept tiles, matrix tier: f16 in cooperative matrices with f32 sums.
//
// Two variants of one text, as in tile_attention_backward.wgsl. A workgroup owns SUBGROUPS * 16 tokens of one frame and one head
// and walks through the other frames that make a kept tile with it, OTHERS tokens at a time:
//
//   of queries   own: query, gradient of the output   other: key, value                       gives the query's gradient
//   of keys      own: key, value                      other: query, gradient of the output    gives those of key and value
//
// The tokens of the next round travel into registers while this round is computed. Scores and products of gradient and value
// cross to the lanes through workgroup memory, PART tokens at a time, and come back as f16 weights and slopes, the gradients of
// the scores. Both are far from 1 where there are many keys or the loss is small, so they are held in better reach of f16: times
// 2^SHIFT, and slopes divided by the length of the output's gradient, that of the row or the longest of the head.
enable f16;
enable wgpu_cooperative_matrix;
// naga takes every local variable for non-uniform and refuses matrices behind such a condition; this is its only switch.
diagnostic(off, derivative_uniformity);

const HEAD = {{ head }}u;
const HEAD4 = HEAD / 4u;
const SUBGROUPS = {{ subgroups }}u;
const THREADS = SUBGROUPS * 32u;
const OTHERS = {{ others }}u;             // tokens of one round
const PART = {{ part }}u;                 // tokens whose scores are exchanged at a time
// Rows in vec4s, padded so that lanes meet in different banks.
const LDT = HEAD4 + 2u;
const LDS = PART / 4u + 2u;
const S_SIZE = 16u * LDS;
const SHIFT = 6.0;                        // slopes of values as long as 500 still fit f16
const LOG2_E = 1.4426950408889634;
const LEAST_LENGTH = 1.0e-30;             // so that nothing is divided by zero

@group(0) @binding(0) var<storage, read_write> query: array<vec4<f16>>;           // [batch * heads, query tokens, HEAD]
@group(0) @binding(1) var<storage, read_write> key: array<vec4<f16>>;             // [batch * heads, key tokens, HEAD]
@group(0) @binding(2) var<storage, read_write> value: array<vec4<f16>>;           // as the key
@group(0) @binding(3) var<storage, read_write> gradient: array<vec4<f16>>;        // of the output; as the query
@group(0) @binding(4) var<storage, read_write> row_log_sums: array<f32>;          // [batch * heads, query tokens]
@group(0) @binding(5) var<storage, read_write> row_deltas: array<vec2<f32>>;      // as the log-sums; see row_deltas.wgsl
#if key_bias
@group(0) @binding(6) var<storage, read_write> key_bias: array<f32>;              // [batch, key tokens]
#end
@group(0) @binding({{ place_of_first }}) var<storage, read_write> first_gradient: array<vec4<f16>>;     // as the own first
#if of_keys
@group(0) @binding({{ place_of_second }}) var<storage, read_write> second_gradient: array<vec4<f16>>;   // as the own second
#end
#if count_work
@group(0) @binding({{ place_of_work }}) var<storage, read_write> work: array<f32>;        // tiles walked by each workgroup
#end
@group(0) @binding({{ place_of_info }}) var<storage, read> info: array<u32>;

// Words of `info`; the launcher writes them in this order.
const OWN_TOKENS = 0u;        // of one frame
const OTHER_TOKENS = 1u;      // of one frame
const OWN_FRAMES = 2u;
const OTHER_FRAMES = 3u;
const HEADS = 4u;             // of one clip
const SCALE_BITS = 5u;
const BATCH_HEADS = 6u;
const TABLE = 7u;             // per own frame, long ones first: frame, place of its other frames, their number; then those

var<workgroup> first_tile: array<vec4<f16>, OTHERS * LDT>;
var<workgroup> second_tile: array<vec4<f16>, OTHERS * LDT>;
var<workgroup> scores: array<vec4<f32>, SUBGROUPS * S_SIZE>;      // [own][other]; also the way out of the sums
var<workgroup> slopes: array<vec4<f16>, SUBGROUPS * S_SIZE>;      // [own][other]; also the way in of what is owned
#if of_keys
var<workgroup> weights: array<vec4<f16>, SUBGROUPS * S_SIZE>;     // [own][other]
var<workgroup> column_log_sums: array<vec4<f32>, OTHERS / 4u>;    // in powers of two, less SHIFT
var<workgroup> column_deltas: array<vec4<f32>, OTHERS / 4u>;      // divided by the longest gradient
#else
#if key_bias
var<workgroup> column_bias: array<vec4<f32>, OTHERS / 4u>;        // in powers of two
#end
#end

@compute @workgroup_size({{ subgroups * 32 }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32,
        @builtin(local_invocation_index) thread: u32) {
    let own_tokens = info[OWN_TOKENS];
    let other_tokens = info[OTHER_TOKENS];
    let blocks = (own_tokens + SUBGROUPS * 16u - 1u) / (SUBGROUPS * 16u);
    let index = group.y * groups.x + group.x;
    if index >= info[BATCH_HEADS] * info[OWN_FRAMES] * blocks {
#if count_work
        if thread == 0u {
            work[index] = 0.0;
        }
#end
        return;
    }
    let head = index / (info[OWN_FRAMES] * blocks);                       // of all clips
    let list = TABLE + (index / blocks) % info[OWN_FRAMES] * 3u;
    let first_row = (index % blocks) * SUBGROUPS * 16u + subgroup * 16u;  // in its frame
    let own_base = (head * info[OWN_FRAMES] + info[list]) * own_tokens;
    let other_base = head * info[OTHER_FRAMES] * other_tokens;
    let scale = bitcast<f32>(info[SCALE_BITS]);

    let score_at = subgroup * S_SIZE;
    let row = lane / 2u;                  // two lanes share a row
    let share = lane % 2u;                // of its vec4s: share, share + 2, ..
    let mine = score_at + row * LDS + share;

    // What is owned, 16 channels at a time, through the scratch of the slopes. Rows past the end are copies.
#for h in 0..{{ head / 16 }}
#for side in 0..2
    for (var i = lane; i < 64u; i += 32u) {
        let token = min(first_row + i / 4u, own_tokens - 1u);
#if side_is_{{ side }}
        slopes[score_at + (i / 4u) * LDS + i % 4u] = {{ own_first }}[(own_base + token) * HEAD4 + {{ h }}u * 4u + i % 4u];
#else
        slopes[score_at + (i / 4u) * LDS + i % 4u] = {{ own_second }}[(own_base + token) * HEAD4 + {{ h }}u * 4u + i % 4u];
#end
    }
    subgroupBarrier();
    let own_{{ side }}_{{ h }} = coopLoadT<coop_mat16x16<f16, A>>(&slopes[score_at], LDS);
    subgroupBarrier();
#end
#end
    let own_row = min(first_row + row, own_tokens - 1u);
#if of_keys
    // The longest gradient of the head.
    var longest = LEAST_LENGTH;
    for (var i = thread; i < info[OTHER_FRAMES] * other_tokens; i += THREADS) {
        longest = max(longest, row_deltas[other_base + i].y);
    }
    longest = max(longest, subgroupShuffleXor(longest, 16u));
    longest = max(longest, subgroupShuffleXor(longest, 8u));
    longest = max(longest, subgroupShuffleXor(longest, 4u));
    longest = max(longest, subgroupShuffleXor(longest, 2u));
    longest = max(longest, subgroupShuffleXor(longest, 1u));
    if lane == 0u {
        scores[subgroup] = vec4<f32>(longest);
    }
    workgroupBarrier();
    for (var i = 0u; i < SUBGROUPS; i += 1u) {
        longest = max(longest, scores[i].x);
    }
    workgroupBarrier();
    let per_length = 1.0 / longest;
#if key_bias
    let bias = key_bias[(head / info[HEADS]) * info[OWN_FRAMES] * own_tokens + info[list] * own_tokens + own_row] * LOG2_E;
#end
#else
    let own_length = max(row_deltas[own_base + own_row].y, LEAST_LENGTH);
    let per_length = 1.0 / own_length;
    let delta = row_deltas[own_base + own_row].x * per_length;
    let log_sum = row_log_sums[own_base + own_row] * LOG2_E - SHIFT;
#if key_bias
    let bias_base = (head / info[HEADS]) * info[OTHER_FRAMES] * other_tokens;
#end
#end
    let multiply = scale * LOG2_E;        // exponents are powers of two

#for h in 0..{{ head / 16 }}
    var first_{{ h }} = coop_mat16x16<f32, C>();
#if of_keys
    var second_{{ h }} = coop_mat16x16<f32, C>();
#end
#end

    // What this thread brings in.
#for j in 0..{{ loads }}
    let to_{{ j }} = (thread + {{ j }}u * THREADS) / HEAD4 * LDT + (thread + {{ j }}u * THREADS) % HEAD4;
    var x_{{ j }}: vec4<f16>;
    var y_{{ j }}: vec4<f16>;
#end
    var entry = info[list + 1u];
    let entry_end = entry + info[list + 2u];
    // A frame that nobody keeps has an empty list: then this is read, but not used.
    var token = info[entry] * other_tokens;
    var end = token + other_tokens;
    {
        let last4 = (end - token) * HEAD4 - 1u;
        let from_ = (other_base + token) * HEAD4;
#for j in 0..{{ loads }}
        x_{{ j }} = {{ other_first }}[from_ + min(thread + {{ j }}u * THREADS, last4)];
        y_{{ j }} = {{ other_second }}[from_ + min(thread + {{ j }}u * THREADS, last4)];
#end
    }
#if of_keys
    var next_log_sum = row_log_sums[other_base + min(token + thread, end - 1u)];
    var next_delta = row_deltas[other_base + min(token + thread, end - 1u)].x;
#else
#if key_bias
    var next_bias = key_bias[bias_base + min(token + thread, end - 1u)];
#end
#end

#if count_work
    var walked = 0u;              // tokens
#end
    while entry < entry_end {
        let left = end - token;
#if count_work
        walked += min(left, OTHERS);
#end
        workgroupBarrier();
#for j in 0..{{ loads }}
#if load_guard
        if thread + {{ j }}u * THREADS < OTHERS * HEAD4 {
#end
        first_tile[to_{{ j }}] = x_{{ j }};
        second_tile[to_{{ j }}] = y_{{ j }};
#if load_guard
        }
#end
#end
#if of_keys
        if thread < OTHERS {
            column_log_sums[thread / 4u][thread % 4u] = next_log_sum * LOG2_E - SHIFT;
            column_deltas[thread / 4u][thread % 4u] = next_delta * per_length;
        }
#else
#if key_bias
        if thread < OTHERS {
            column_bias[thread / 4u][thread % 4u] = next_bias * LOG2_E;
        }
#end
#end
        workgroupBarrier();
        // The next round; after the last one this is read again.
        if left > OTHERS {
            token += OTHERS;
        } else {
            entry += 1u;
            if entry < entry_end {
                token = info[entry] * other_tokens;
                end = token + other_tokens;
            }
        }
        {
            let from_ = (other_base + token) * HEAD4;
#if ragged
            let last4 = (end - token) * HEAD4 - 1u;
#for j in 0..{{ loads }}
            x_{{ j }} = {{ other_first }}[from_ + min(thread + {{ j }}u * THREADS, last4)];
            y_{{ j }} = {{ other_second }}[from_ + min(thread + {{ j }}u * THREADS, last4)];
#end
#else
#for j in 0..{{ loads }}
#if load_guard
            x_{{ j }} = {{ other_first }}[from_ + min(thread + {{ j }}u * THREADS, OTHERS * HEAD4 - 1u)];
            y_{{ j }} = {{ other_second }}[from_ + min(thread + {{ j }}u * THREADS, OTHERS * HEAD4 - 1u)];
#else
            x_{{ j }} = {{ other_first }}[from_ + thread + {{ j }}u * THREADS];
            y_{{ j }} = {{ other_second }}[from_ + thread + {{ j }}u * THREADS];
#end
#end
#end
        }
#if of_keys
        next_log_sum = row_log_sums[other_base + min(token + thread, end - 1u)];
        next_delta = row_deltas[other_base + min(token + thread, end - 1u)].x;
#else
#if key_bias
        next_bias = key_bias[bias_base + min(token + thread, end - 1u)];
#end
#end

#for g in 0..{{ others / ahead }}
        // Scores and products of gradient and value: the other tokens are the columns.
#for q in 0..{{ ahead / 16 }}
        var s_{{ g * ahead / 16 + q }} = coop_mat16x16<f32, C>();
        var d_{{ g * ahead / 16 + q }} = coop_mat16x16<f32, C>();
#end
#for h in 0..{{ head / 16 }}
#for q in 0..{{ ahead / 16 }}
        {
            let other = coopLoad<coop_mat16x16<f16, B>>(&first_tile[{{ g * ahead + q * 16 }}u * LDT + {{ h }}u * 4u], LDT);
            s_{{ g * ahead / 16 + q }} = coopMultiplyAdd(own_0_{{ h }}, other, s_{{ g * ahead / 16 + q }});
        }
        {
            let other = coopLoad<coop_mat16x16<f16, B>>(&second_tile[{{ g * ahead + q * 16 }}u * LDT + {{ h }}u * 4u], LDT);
            d_{{ g * ahead / 16 + q }} = coopMultiplyAdd(own_1_{{ h }}, other, d_{{ g * ahead / 16 + q }});
        }
#end
#end
#for p in 0..{{ ahead / part }}
        {
            // To the lanes, one after the other through the same place.
#for r in 0..{{ part / 16 }}
            coopStoreT(s_{{ g * ahead / 16 + p * part / 16 + r }}, &scores[score_at + {{ r }}u * 4u], LDS);
#end
            subgroupBarrier();
#for i in 0..{{ part / 8 }}
            let score_{{ i }} = scores[mine + {{ i }}u * 2u];
#end
            subgroupBarrier();
#for r in 0..{{ part / 16 }}
            coopStoreT(d_{{ g * ahead / 16 + p * part / 16 + r }}, &scores[score_at + {{ r }}u * 4u], LDS);
#end
            subgroupBarrier();
#for i in 0..{{ part / 8 }}
            {
                let column4 = {{ g * ahead / 4 + p * part / 4 + i * 2 }}u + share;
#if of_keys
                let delta4 = column_deltas[column4];
#if key_bias
                let minus = vec4<f32>(bias) - column_log_sums[column4];
#else
                let minus = -column_log_sums[column4];
#end
#else
                let delta4 = vec4<f32>(delta);
#if key_bias
                let minus = column_bias[column4] - vec4<f32>(log_sum);
#else
                let minus = vec4<f32>(-log_sum);
#end
#end
                var weight = exp2(fma(score_{{ i }}, vec4<f32>(multiply), minus));
#if ragged
                let column = column4 * 4u + vec4<u32>(0u, 1u, 2u, 3u);
                weight = select(vec4<f32>(), weight, column < vec4<u32>(left));
#end
                let slope = weight * fma(scores[mine + {{ i }}u * 2u], vec4<f32>(per_length), -delta4);
                slopes[mine + {{ i }}u * 2u] = vec4<f16>(slope);
#if of_keys
                weights[mine + {{ i }}u * 2u] = vec4<f16>(weight);
#end
            }
#end
            subgroupBarrier();
#for r in 0..{{ part / 16 }}
            {
                let slope = coopLoadT<coop_mat16x16<f16, A>>(&slopes[score_at + {{ r }}u * 4u], LDS);
#for h in 0..{{ head / 16 }}
                {
                    let at = {{ g * ahead + p * part + r * 16 }}u * LDT + {{ h }}u * 4u;
                    let other = coopLoadT<coop_mat16x16<f16, B>>(&first_tile[at], LDT);
                    first_{{ h }} = coopMultiplyAdd(slope, other, first_{{ h }});
                }
#end
            }
#if of_keys
            {
                let weight = coopLoadT<coop_mat16x16<f16, A>>(&weights[score_at + {{ r }}u * 4u], LDS);
#for h in 0..{{ head / 16 }}
                {
                    let at = {{ g * ahead + p * part + r * 16 }}u * LDT + {{ h }}u * 4u;
                    let other = coopLoadT<coop_mat16x16<f16, B>>(&second_tile[at], LDT);
                    second_{{ h }} = coopMultiplyAdd(weight, other, second_{{ h }});
                }
#end
            }
#end
#end
        }
#end
#end
    }

    let unshift = exp2(-SHIFT);
#if of_keys
    let first_factor = scale * longest * unshift;
#else
    let first_factor = scale * own_length * unshift;
#end
#for h in 0..{{ head / 16 }}
    subgroupBarrier();
    coopStoreT(first_{{ h }}, &scores[score_at], LDS);
    subgroupBarrier();
    for (var i = lane; i < 64u; i += 32u) {
        let r = i / 4u;
        let factor = subgroupShuffle(first_factor, r * 2u);
        let sum = scores[score_at + r * LDS + i % 4u] * factor;
        if first_row + r < own_tokens {
            first_gradient[(own_base + first_row + r) * HEAD4 + {{ h }}u * 4u + i % 4u] = vec4<f16>(sum);
        }
    }
#if of_keys
    subgroupBarrier();
    coopStoreT(second_{{ h }}, &scores[score_at], LDS);
    subgroupBarrier();
    for (var i = lane; i < 64u; i += 32u) {
        let r = i / 4u;
        let sum = scores[score_at + r * LDS + i % 4u] * unshift;
        if first_row + r < own_tokens {
            second_gradient[(own_base + first_row + r) * HEAD4 + {{ h }}u * 4u + i % 4u] = vec4<f16>(sum);
        }
    }
#end
#end
#if count_work
    if thread == 0u {
        work[index] = f32(walked) / f32(other_tokens);
    }
#end
}
