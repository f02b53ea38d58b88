use safetensors::SafeTensors;
use serde_json::Value;

use super::*;
use crate::mask::Neighbours;

/// The generator of the sparse-attention fixtures: tensor 1, 2, 3 = query, key, value, 9 = projection.
fn fixture_numbers(seed: u64, tensor: u64, count: usize, scale: f32) -> Vec<f32> {
    let start = seed ^ tensor.wrapping_mul(0xD1B5_4A32_D192_ED03);
    let number = |index: u64| {
        let s = start.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (s ^ (s >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 * (1.0 / f32::from_bits(0x4B00_0000)) - 1.0
    };
    (0..count as u64).map(|index| number(index) * scale).collect()
}

/// Offsets and frames of a mask `[query frame][key frame]`.
fn rows_of(mask: &[Vec<bool>]) -> (Vec<u32>, Vec<u32>) {
    let (mut offsets, mut frames) = (vec![0], Vec::new());
    for row in mask {
        frames.extend((0..row.len() as u32).filter(|&frame| row[frame as usize]));
        offsets.push(frames.len() as u32);
    }
    (offsets, frames)
}

fn attention_in(attention: &mut [f32]) -> TileAttentionOutput<'_> {
    TileAttentionOutput { attention: Some(attention), ..Default::default() }
}

/// The definition, in f64: the attention, and the log-sums by the kept tiles of each head and the rows of a frame.
fn brute_force(shape: &TileAttentionShape, input: &TileAttentionInput, mask: &[Vec<bool>]) -> (Vec<f64>, Vec<f64>) {
    let &TileAttentionShape { batch, heads, head_size, query_tokens, key_tokens, .. } = shape;
    let (queries, keys) = (shape.queries(), shape.keys());
    let mut out = vec![0.0; batch * heads * queries * head_size];
    let kept: Vec<(usize, usize)> = (0..shape.query_frames)
        .flat_map(|query| (0..shape.key_frames).filter(move |&key| mask[query][key]).map(move |key| (query, key)))
        .collect();
    let mut log_sums = vec![0.0; batch * heads * kept.len() * query_tokens];
    let values = input.value.unwrap();
    for head in 0..batch * heads {
        for query in 0..queries {
            let q = &input.query[(head * queries + query) * head_size..][..head_size];
            let mut scores = Vec::new();
            for key in (0..keys).filter(|key| mask[query / query_tokens][key / key_tokens]) {
                let k = &input.key[(head * keys + key) * head_size..][..head_size];
                let dot: f64 = q.iter().zip(k).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                let bias = input.key_bias.map_or(0.0, |bias| f64::from(bias[head / heads * keys + key]));
                scores.push((key, dot * f64::from(input.scale) + bias));
            }
            let largest = scores.iter().map(|&(_, score)| score).fold(f64::MIN, f64::max);
            for (tile, (_, frame)) in kept.iter().enumerate().filter(|(_, (frame, _))| *frame == query / query_tokens) {
                let of_frame = scores.iter().filter(|(key, _)| key / key_tokens == *frame).map(|(_, score)| *score);
                let largest = of_frame.clone().fold(f64::MIN, f64::max);
                log_sums[(head * kept.len() + tile) * query_tokens + query % query_tokens] =
                    largest + of_frame.map(|score| (score - largest).exp()).sum::<f64>().ln();
            }
            let total: f64 = scores.iter().map(|(_, score)| (score - largest).exp()).sum();
            for (key, score) in scores {
                let weight = (score - largest).exp() / total;
                for channel in 0..head_size {
                    out[(head * queries + query) * head_size + channel] +=
                        weight * f64::from(values[(head * keys + key) * head_size + channel]);
                }
            }
        }
    }
    (out, log_sums)
}

fn relative_l2(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let error: f64 = got.iter().zip(want).map(|(&got, want)| (f64::from(got) - want).powi(2)).sum();
    (error / want.iter().map(|want| want * want).sum::<f64>()).sqrt()
}

/// Runs one case in every instruction set against brute force.
fn check_case(shape: TileAttentionShape, mask: &[Vec<bool>], key_bias: Option<&[f32]>, query_scale: f32, tolerance: f64) {
    let rows = shape.batch * shape.heads * shape.head_size;
    let query = fixture_numbers(5, 1, rows * shape.queries(), query_scale);
    let key = fixture_numbers(5, 2, rows * shape.keys(), 1.0);
    let value = fixture_numbers(5, 3, rows * shape.keys(), 1.0);
    let (offsets, frames) = rows_of(mask);
    let kept = KeptFrames { offsets: &offsets, frames: &frames };
    let scale = (shape.head_size as f32).sqrt().recip();
    let input = TileAttentionInput { query: &query, key: &key, value: Some(&value), kept, key_bias, scale };
    let (want, want_log_sums) = brute_force(&shape, &input, mask);
    let pairs = shape.batch * shape.heads * frames.len() * shape.query_tokens * shape.key_tokens;
    let mut with_fused: Vec<Vec<f32>> = Vec::new();
    for set in InstructionSet::available() {
        let mut out = vec![f32::NAN; query.len()];
        let work = tile_attention(set, &shape, &input, attention_in(&mut out)).unwrap();
        assert_eq!(work.query_key_pairs, pairs as u64);
        assert_eq!(work.tiles(&shape), (shape.batch * shape.heads * frames.len()) as u64);
        let error = relative_l2(&out, &want);
        assert!(error <= tolerance, "{set:?} {shape:?}: relative L2 {error:e}");

        // With the log-sums it is the same attention, and without it they are the same log-sums.
        let (mut same, mut log_sums) = (vec![f32::NAN; query.len()], vec![f32::NAN; want_log_sums.len()]);
        let mut row_log_sums = vec![f32::NAN; shape.batch * shape.heads * shape.queries()];
        let all = TileAttentionOutput {
            attention: Some(&mut same),
            log_sums: Some(&mut log_sums),
            row_log_sums: Some(&mut row_log_sums),
        };
        tile_attention(set, &shape, &input, all).unwrap();
        assert!(same == out, "{set:?} {shape:?}: log-sums change the attention");
        let worst = log_sums.iter().zip(&want_log_sums).map(|(&got, want)| (f64::from(got) - want).abs() / (1.0 + want.abs()));
        let worst = worst.fold(0.0, f64::max);
        assert!(worst <= 3e-6, "{set:?} {shape:?}: the log-sums are off by {worst:e}");
        let worst = row_log_sums.iter().enumerate().map(|(row, &got)| {
            let (head, frame, token) =
                (row / shape.queries(), row % shape.queries() / shape.query_tokens, row % shape.query_tokens);
            let tiles = head * frames.len() + offsets[frame] as usize..head * frames.len() + offsets[frame + 1] as usize;
            let of_row: Vec<f64> = tiles.map(|tile| want_log_sums[tile * shape.query_tokens + token]).collect();
            let largest = of_row.iter().copied().fold(f64::MIN, f64::max);
            let want = largest + of_row.iter().map(|log_sum| (log_sum - largest).exp()).sum::<f64>().ln();
            (f64::from(got) - want).abs() / (1.0 + want.abs())
        });
        let worst = worst.fold(0.0, f64::max);
        assert!(worst <= 3e-6, "{set:?} {shape:?}: the row log-sums are off by {worst:e}");
        let mut alone = vec![f32::NAN; log_sums.len()];
        let input = TileAttentionInput { value: None, ..input };
        tile_attention(set, &shape, &input, TileAttentionOutput { log_sums: Some(&mut alone), ..Default::default() }).unwrap();
        assert!(alone == log_sums, "{set:?} {shape:?}: log-sums alone are others");
        if set != InstructionSet::available()[0] {
            with_fused.push(out);
        }
    }
    assert!(with_fused.windows(2).all(|pair| pair[0] == pair[1]), "instruction sets differ");
}

fn shape(batch: usize, heads: usize, head_size: usize, query: [usize; 2], key: [usize; 2]) -> TileAttentionShape {
    let ([query_frames, query_tokens], [key_frames, key_tokens]) = (query, key);
    TileAttentionShape { batch, heads, head_size, query_frames, query_tokens, key_frames, key_tokens }
}

#[test]
fn head_sizes_and_tokens() {
    for head_size in [1, 8, 15, 24, 48, 72, 97, 128] {
        for tokens in [1, 7, 16, 33, 145] {
            let mask = vec![vec![true, false, true], vec![true, true, true], vec![false, true, false]];
            check_case(shape(2, 2, head_size, [3, tokens], [3, tokens]), &mask, None, 4.0, 1e-6);
        }
    }
}

/// What the kernel reads of the rule is the definition's matrix, and what it computes the dense softmax with all else at zero weight.
#[test]
fn neighbours_are_dense_attention_without_what_is_far() {
    for frames in [1, 2, 3, 8, 24] {
        for distance in [1, 2] {
            let near: Vec<Vec<bool>> =
                (0..frames).map(|query: usize| (0..frames).map(|key: usize| query.abs_diff(key) <= distance).collect()).collect();
            let key_frames = Neighbours { distance }.frame_mask(frames).unwrap().key_frames();
            assert_eq!((key_frames.offsets().to_vec(), key_frames.frames().to_vec()), rows_of(&near));
            for tokens in [1, 13, 33] {
                check_case(shape(1, 2, 24, [frames, tokens], [frames, tokens]), &near, None, 4.0, 1e-6);
            }
        }
    }
}

#[test]
fn text_cross_attention_with_masked_keys() {
    let mask = [vec![true]];
    for (queries, keys) in [(1, 1), (100, 40), (31, 97), (50, 300)] {
        let shape = shape(2, 3, 24, [1, queries], [1, keys]);
        // The first clip hides its last keys, the second one hides all of them: then all biases are equal.
        let bias: Vec<f32> = (0..2 * keys).map(|key| if key >= keys.div_ceil(2) { -10_000.0 } else { 0.0 }).collect();
        // Scores near -10000 are rounded to 1/1024 in f32, in the reference too.
        let tolerance = if keys == 1 { 1e-6 } else { 5e-4 };
        check_case(shape, &mask, Some(&bias), 1.0, tolerance);
    }
    let only_hidden = vec![-10_000.0; 40];
    let bias: Vec<f32> = (0..40).map(|key| if key >= 21 { -10_000.0 } else { 0.0 }).collect();
    check_case(shape(1, 2, 24, [1, 70], [1, 40]), &mask, Some(&bias), 4.0, 1e-6);
    check_case(shape(1, 2, 24, [1, 70], [1, 40]), &mask, Some(&only_hidden), 4.0, 5e-4);
}

#[test]
fn masked_keys_have_no_weight_at_all() {
    let shape = shape(1, 1, 16, [1, 20], [1, 30]);
    let (query, key) = (fixture_numbers(1, 1, 20 * 16, 1.0), fixture_numbers(1, 2, 30 * 16, 1.0));
    let mut value = fixture_numbers(1, 3, 30 * 16, 1.0);
    let bias: Vec<f32> = (0..30).map(|key| if key >= 11 { -10_000.0 } else { 0.0 }).collect();
    let mut run = |hidden: f32| {
        value[11 * 16..].fill(hidden);
        let kept = KeptFrames { offsets: &[0, 1], frames: &[0] };
        let input =
            TileAttentionInput { query: &query, key: &key, value: Some(&value), kept, key_bias: Some(&bias), scale: 0.25 };
        let mut out = vec![0.0; query.len()];
        tile_attention(InstructionSet::best(), &shape, &input, attention_in(&mut out)).unwrap();
        out
    };
    assert_eq!(run(0.0), run(1e30));
}

#[test]
fn frames_without_keys_give_zeros() {
    let shape = shape(1, 1, 4, [2, 3], [2, 3]);
    let numbers = fixture_numbers(1, 1, 24, 1.0);
    let kept = KeptFrames { offsets: &[0, 0, 2], frames: &[1, 0] };
    let input = TileAttentionInput { query: &numbers, key: &numbers, value: Some(&numbers), kept, key_bias: None, scale: 0.5 };
    let mut out = vec![f32::NAN; 24];
    let work = tile_attention(InstructionSet::best(), &shape, &input, attention_in(&mut out)).unwrap();
    assert_eq!(work.density(&shape), 0.5);
    assert!(out[..12].iter().all(|&value| value == 0.0));
    assert!(out[12..].iter().all(|value| value.is_finite() && *value != 0.0));
}

#[test]
fn result_does_not_depend_on_threads() {
    let shape = shape(1, 2, 48, [4, 144], [4, 144]);
    let query = fixture_numbers(1, 1, 8 * 144 * 48, 4.0);
    let kept = KeptFrames { offsets: &[0, 4, 6, 8, 12], frames: &[0, 1, 2, 3, 0, 1, 0, 2, 0, 1, 2, 3] };
    let input = TileAttentionInput { query: &query, key: &query, value: Some(&query), kept, key_bias: None, scale: 0.15 };
    let outputs = [1, 2, 5, 16].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut out = vec![0.0; query.len()];
        pool.install(|| tile_attention(InstructionSet::best(), &shape, &input, attention_in(&mut out))).unwrap();
        out
    });
    assert!(outputs.iter().all(|out| *out == outputs[0]));
}

#[test]
fn what_does_not_fit_is_refused() {
    let good = shape(1, 1, 4, [2, 3], [2, 3]);
    let numbers = vec![0.5; 24];
    let kept = KeptFrames { offsets: &[0, 1, 2], frames: &[1, 0] };
    let input = TileAttentionInput { query: &numbers, key: &numbers, value: Some(&numbers), kept, key_bias: None, scale: 0.5 };
    let mut out = vec![7.0; 24];
    let mut run = |shape: &TileAttentionShape, input: TileAttentionInput| {
        tile_attention(InstructionSet::best(), shape, &input, attention_in(&mut out)).unwrap_err()
    };
    let large = TileAttentionShape { head_size: 129, ..good };
    assert_eq!(run(&large, input), TileAttentionError::HeadTooLarge { found: 129 });
    assert_eq!(run(&TileAttentionShape { heads: 0, ..good }, input), TileAttentionError::Empty { what: "heads" });
    let error = run(&good, TileAttentionInput { value: Some(&numbers[1..]), ..input });
    assert_eq!(error, TileAttentionError::WrongLength { what: "value", found: 23, expected: 24 });
    let error = run(&good, TileAttentionInput { value: None, ..input });
    assert_eq!(error, TileAttentionError::WrongLength { what: "value", found: 0, expected: 24 });
    let kept = KeptFrames { offsets: &[0, 1, 2], frames: &[1, 2] };
    let error = run(&good, TileAttentionInput { kept, ..input });
    assert_eq!(error, TileAttentionError::NoSuchFrame { frame: 2, frames: 2 });
    for offsets in [[0, 2, 1], [1, 1, 2], [0, 1, 3]] {
        let kept = KeptFrames { offsets: &offsets, frames: &[1, 0] };
        let error = run(&good, TileAttentionInput { kept, ..input });
        assert_eq!(error, TileAttentionError::WrongOffsets { frames: 2 });
    }
    assert!(out.iter().all(|&value| value == 7.0));
}

fn floats(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(4).map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()))).collect()
}

/// Every case of the fixtures in every instruction set, except that the real-size one runs in the best set only.
#[test]
fn sparse_attention_fixtures() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sparse_attention");
    let list: Value = serde_json::from_slice(&std::fs::read(format!("{folder}/cases.json")).unwrap()).unwrap();
    let bytes = std::fs::read(format!("{folder}/cases.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for case in list["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let number = |key: &str| case[key].as_u64().unwrap() as usize;
        let (frames, tokens, head_size) = (number("F"), number("S"), number("D"));
        let shape = shape(number("B"), number("H"), head_size, [frames, tokens], [frames, tokens]);
        let refs: Vec<usize> = case["refs"].as_array().unwrap().iter().map(|frame| frame.as_u64().unwrap() as usize).collect();
        let symmetric = case["mode"] == "symmetric";
        let keeps = |query: usize, key: usize| query == key || refs.contains(&key) || symmetric && refs.contains(&query);
        let mask: Vec<Vec<bool>> = (0..frames).map(|query| (0..frames).map(|key| keeps(query, key)).collect()).collect();
        let (offsets, kept_frames) = rows_of(&mask);
        assert_eq!(kept_frames.len(), number("allowed_frame_pairs"), "{name}");

        let heads = shape.batch * shape.heads;
        let count = heads * frames * tokens * head_size;
        let seed = case["seed"].as_u64().unwrap();
        let query = fixture_numbers(seed, 1, count, case["q_scale"].as_f64().unwrap() as f32);
        let [key, value] = [2, 3].map(|tensor| fixture_numbers(seed, tensor, count, 1.0));
        let kept = KeptFrames { offsets: &offsets, frames: &kept_frames };
        let scale = (head_size as f32).sqrt().recip();
        let input = TileAttentionInput { query: &query, key: &key, value: Some(&value), kept, key_bias: None, scale };
        let want = floats(tensors.tensor(&format!("{name}.out_rows")).unwrap().data());
        let rows = tensors.tensor(&format!("{name}.rows")).unwrap();
        let rows = rows.data().chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()) as usize);
        let rows: Vec<usize> = rows.collect();
        let projection = fixture_numbers(seed, 9, head_size, 1.0);
        let projected = tensors.tensor(&format!("{name}.out_proj")).ok();

        let real_size = frames * tokens > 10_000;
        let sets = if real_size { vec![InstructionSet::best()] } else { InstructionSet::available() };
        for set in sets {
            let mut out = vec![f32::NAN; count];
            let work = tile_attention(set, &shape, &input, attention_in(&mut out)).unwrap();
            assert!((work.density(&shape) - case["frame_density"].as_f64().unwrap()).abs() < 1e-12, "{name}");
            let mut got = Vec::new();
            for head in 0..heads {
                for row in &rows {
                    got.extend_from_slice(&out[(head * frames * tokens + row) * head_size..][..head_size]);
                }
            }
            let error = relative_l2(&got, &want);
            assert!(error <= 2e-6, "{name} {set:?}: relative L2 of the rows {error:e}");
            if let Some(projected) = &projected {
                let want = floats(projected.data());
                let dot =
                    |row: &[f32]| row.iter().zip(&projection).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() as f32;
                let got: Vec<f32> = out.chunks_exact(head_size).map(dot).collect();
                let error = relative_l2(&got, &want);
                assert!(error <= 4e-6, "{name} {set:?}: relative L2 of all rows, projected, {error:e}");
            }
        }
    }
}
