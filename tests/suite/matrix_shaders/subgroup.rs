//! The shaders of the subgroup tier in subgroups of every size that an adapter may have, from one quad to more lanes than a
//! workgroup has invocations.

use std::sync::Arc;

use tilereel::gpu::kernels::block_product::{self, Block};
use tilereel::gpu::kernels::conv3d::{self, Geometry};
use tilereel::gpu::kernels::gradient::input::{self, InputGradient};
use tilereel::gpu::kernels::gradient::{POINT, WeightGradient, blocks};
use tilereel::gpu::kernels::linear::{self, Activation};
use tilereel::gpu::kernels::reference::{self, relative_l2, seeded};
use tilereel::gpu::kernels::tile_attention::{Gives, RecordPlace, Sample, Tiles, subgroup};
use tilereel::gpu::kernels::{Shader, ShaderCall};
use tilereel::mask::MaskFamily;

use super::{Binding, HALF, SAME, assert_right_within, rounded, run_in_subgroups};

const WIDTHS: [usize; 6] = [4, 8, 16, 32, 64, 128];

/// One clip of two heads with hidden keys, a mask with a reference frame: the attention and what it gives besides.
fn attention(
    width: usize,
    head: usize,
    [query_tokens, key_tokens]: [usize; 2],
    gives: Gives,
    corrupt: impl FnOnce(Shader) -> Shader,
) -> Result<Vec<(Vec<f32>, f64)>, Vec<String>> {
    let (heads, frames) = (2, 3);
    let key_frames = MaskFamily::paper(1).frame_mask(frames).expect("a mask").key_frames();
    let count = |tokens: usize| heads * frames * tokens * head;
    let query = rounded(seeded(1, count(query_tokens)).into_iter().map(|value| value * 3.0).collect());
    let (key, value) = (rounded(seeded(2, count(key_tokens))), rounded(seeded(3, count(key_tokens))));
    let bias: Vec<f32> = (0..frames * key_tokens).map(|key| [0.0, -10_000.0, 0.5][key % 3]).collect();
    let tiles = Tiles { key_frames: Arc::new(key_frames), query_tokens, key_tokens };
    let rows: Vec<u32> = (0..frames * query_tokens).step_by(query_tokens.div_ceil(4)).map(|row| row as u32).collect();
    let sample = (gives == Gives::AttentionAndSample).then(|| Sample { rows: Arc::new(rows.clone()) });
    let place = RecordPlace { at: 2, sample };
    let records = matches!(gives, Gives::AttentionAndLogSums | Gives::AttentionAndSample | Gives::LogSums);
    let cut = subgroup::Cut::of("f16", head).expect("a cut");
    let shader = corrupt(subgroup::shader("f16", cut, true, gives));
    let call = subgroup::shader_call(shader, cut, [1, heads, head], frames, &tiles, records.then_some(&place));
    let attends = gives != Gives::LogSums;
    let mut bindings = vec![Binding::Half(&query), Binding::Half(&key)];
    bindings.extend(attends.then_some(Binding::Half(&value)));
    bindings.push(Binding::Full(&bias));
    bindings.extend(attends.then_some(Binding::Output(query.len())));
    bindings.extend(records.then(|| Binding::FullOutput(place.at + place.length([1, heads], frames, &tiles))));
    bindings.extend((gives == Gives::AttentionAndRowLogSums).then(|| Binding::FullOutput(query.len() / head)));
    let workgroups = call.workgroups.iter().product::<u32>() as usize;
    bindings.extend((gives == Gives::AttentionAndWork).then_some(Binding::FullOutput(workgroups)));
    let sizes = reference::TileAttention {
        batch: 1,
        heads,
        head,
        query_tokens,
        key_tokens,
        key_frames_total: frames,
        key_frames: &tiles.key_frames,
        scale: (head as f64).powf(-0.5) as f32,
    };
    let mut results = Vec::new();
    for got in run_in_subgroups(width, &call, &bindings)? {
        if attends && results.is_empty() {
            let want = reference::tile_attention(&sizes, &query, &key, &value, Some(&bias));
            results.push((got.clone(), relative_l2(&got, &want)));
        } else if gives == Gives::AttentionAndRowLogSums {
            let want = reference::row_log_sums(&sizes, &query, &key, Some(&bias));
            results.push((got.clone(), relative_l2(&got, &want)));
        } else if gives == Gives::AttentionAndWork {
            let tiles_walked: f32 = got.iter().sum();
            let blocks = query_tokens.div_ceil(64) * heads;
            let want = (blocks * tiles.key_frames.frames().len()) as f64;
            results.push((got, (f64::from(tiles_walked) - want).abs()));
        } else {
            let (log_sums, of_sample) = got[place.at..].split_at(place.sample_at(heads, &tiles) - place.at);
            let want = reference::log_sums(&sizes, &query, &key, Some(&bias));
            results.push((log_sums.to_vec(), relative_l2(log_sums, &want)));
            if place.sample.is_some() {
                let want = reference::sampled_log_sums(&sizes, &query, &key, Some(&bias), &rows);
                results.push((of_sample.to_vec(), relative_l2(of_sample, &want)));
            }
        }
    }
    Ok(results)
}

#[test]
fn attention_in_subgroups_of_every_size() {
    let mut bits: Option<Vec<u32>> = None;
    for width in WIDTHS {
        let results = attention(width, 48, [37, 21], Gives::Attention, |shader| shader);
        let (got, error) = results.unwrap_or_else(|complaints| panic!("{width} lanes: {complaints:#?}")).remove(0);
        println!("{width} lanes: {error:.1e}");
        assert!(error <= 6e-4, "{width} lanes: {error:.2e}");
        let now: Vec<u32> = got.iter().map(|value| value.to_bits()).collect();
        assert!(*bits.get_or_insert_with(|| now.clone()) == now, "{width} lanes give other bits");
    }
}

#[test]
fn all_that_the_attention_gives() {
    for (width, head, tokens) in [(4, 72, [9, 17]), (32, 20, [5, 3]), (128, 128, [4, 26])] {
        let run = |gives: Gives| {
            let results = attention(width, head, tokens, gives, |shader| shader);
            let results = results.unwrap_or_else(|complaints| panic!("head of {head}, {gives:?}: {complaints:#?}"));
            for (index, (_, error)) in results.iter().enumerate() {
                let limit = if index == 0 && gives != Gives::LogSums { 6e-4 } else { 1e-5 };
                println!("head of {head}, {gives:?}: {error:.1e}");
                assert!(*error <= limit, "head of {head}, {gives:?}, output {index}: {error:.2e}");
            }
            results.into_iter().map(|(got, _)| got).collect::<Vec<_>>()
        };
        let alone = run(Gives::Attention);
        for gives in Gives::ALL.into_iter().filter(|&gives| gives != Gives::LogSums) {
            assert!(run(gives)[0] == alone[0], "head of {head}: {gives:?} changes the attention");
        }
        run(Gives::LogSums);
    }
}

/// A check that passes everything is no check.
#[test]
fn faults_of_the_attention_are_found() {
    let broken = |from: &'static str, to: &'static str| {
        let result = attention(8, 48, [37, 21], Gives::Attention, move |shader| {
            let template: &'static str = Box::leak(shader.template.replacen(from, to, 1).into_boxed_str());
            assert_ne!(template, shader.template, "{from} is not in the shader");
            Shader { template, ..shader }
        });
        result.map_or(true, |outputs| outputs[0].1 > 6e-4)
    };
    for (from, to) in [
        ("            workgroupBarrier();\n", ""),
        ("quadSwapY(highest)", "quadSwapX(highest)"),
        ("pair + quadSwapY(pair)", "pair"),
        ("quadBroadcast(s_{{ i }}, {{ l }}u)", "s_{{ i }}"),
        ("token < key_tokens);", "true);"),
    ] {
        assert!(broken(from, to), "nobody noticed {to} for {from}");
    }
}

fn check_product(width: usize, block: Block, [rows, inner, columns]: [usize; 3], activation: Activation) {
    let (x, weight) = (rounded(seeded(1, rows * inner)), rounded(seeded(2, inner * columns)));
    let bias = rounded(seeded(3, columns));
    let shader = linear::block_shader("f16", block, true, activation);
    let call = block_product::shader_call(shader, block, [rows, inner, columns]);
    let bindings = [Binding::Half(&x), Binding::Half(&weight), Binding::Half(&bias), Binding::Output(rows * columns)];
    let want = reference::linear([inner, columns], &x, &weight, Some(&bias), activation == Activation::GeluTanh);
    let what = format!("{block:?} product of {rows} x {inner} x {columns}");
    assert_right_within(&what, run_in_subgroups(width, &call, &bindings), &want, 6e-4);
}

#[test]
fn products_of_odd_sizes() {
    check_product(32, Block::Large, [140, 36, 68], Activation::None);
    check_product(8, Block::Small, [67, 40, 132], Activation::GeluTanh);
    check_product(64, Block::Small, [1, 4, 4], Activation::None);
}

fn check_convolution(block: Block, geometry: Geometry, input: [usize; 5], channels_out: usize, with_residual: bool) {
    let [batch, frames, height, width, channels] = input;
    let places = batch * geometry.output([frames, height, width]).iter().product::<usize>();
    let x = rounded(seeded(4, input.iter().product()));
    let weight = rounded(seeded(5, geometry.taps() * channels * channels_out));
    let bias = rounded(seeded(6, channels_out));
    let residual = with_residual.then(|| rounded(seeded(7, places * channels_out)));
    let shader = conv3d::block_shader("f16", block, with_residual);
    let call: ShaderCall = block_product::convolution_call(shader, block, input, channels_out, &geometry);
    let mut bindings = vec![Binding::Half(&x), Binding::Half(&weight), Binding::Half(&bias)];
    bindings.extend(residual.as_deref().map(Binding::Half));
    bindings.push(Binding::Output(places * channels_out));
    let sizes = reference::Conv3d { input, channels_out, geometry };
    let want = reference::conv3d(&sizes, &x, &weight, &bias, None, residual.as_deref());
    let what = format!("{block:?} convolution of {input:?} to {channels_out}");
    assert_right_within(&what, run_in_subgroups(32, &call, &bindings), &want, 6e-4);
}

#[test]
fn convolutions_of_odd_sizes() {
    check_convolution(Block::Large, SAME, [2, 2, 5, 7, 20], 4, true);
    check_convolution(Block::Small, SAME, [1, 2, 5, 7, 4], 68, false);
    check_convolution(Block::Small, HALF, [1, 3, 9, 8, 36], 24, false);
}

/// The parts are added here, as `sum_of_parts` does on a device.
fn check_weight_gradient(block: Block, geometry: Geometry, input: [usize; 5], channels_out: usize) {
    let [batch, frames, height, width, _] = input;
    let places = batch * geometry.output([frames, height, width]).iter().product::<usize>();
    let x = rounded(seeded(4, input.iter().product()));
    let back = rounded(seeded(10, places * channels_out));
    let sizes = WeightGradient { input, channels_out, geometry };
    let (call, parts) = blocks::call_in_blocks("f16", &sizes, block);
    let bindings = [Binding::Half(&x), Binding::Half(&back), Binding::FullOutput(parts * sizes.count())];
    let weight = vec![0.0; sizes.count()];
    let (_, want) = reference::conv3d_gradients(&reference::Conv3d { input, channels_out, geometry }, &x, &weight, &back);
    let what = format!("{block:?} gradient of the weight of {input:?} to {channels_out} in {parts} parts");
    let got = run_in_subgroups(32, &call, &bindings).map(|outputs| {
        vec![(0..sizes.count()).map(|at| outputs[0][at..].iter().step_by(sizes.count()).sum()).collect::<Vec<f32>>()]
    });
    assert_right_within(&what, got, &want, 1e-5);
}

#[test]
fn gradients_of_weights_of_odd_sizes() {
    check_weight_gradient(Block::Large, SAME, [2, 2, 5, 7, 20], 4);
    check_weight_gradient(Block::Small, SAME, [1, 2, 4, 19, 4], 68);
    check_weight_gradient(Block::Small, HALF, [1, 3, 9, 8, 36], 24);
    check_weight_gradient(Block::Large, POINT, [2, 1, 7, 11, 136], 72);
    check_weight_gradient(Block::Small, POINT, [1, 1, 1, 1, 4], 4);
}

fn check_input_gradient(block: Block, geometry: Geometry, size: [usize; 5], channels_out: usize) {
    let [batch, frames, height, width, channels_in] = size;
    let [frames_out, height_out, width_out] = geometry.output([frames, height, width]);
    let gradient = [batch, frames_out, height_out, width_out, channels_out];
    let back = rounded(seeded(10, gradient.iter().product()));
    let weight = rounded(seeded(5, geometry.taps() * channels_in * channels_out));
    let x = vec![0.0; size.iter().product()];
    let sizes = reference::Conv3d { input: size, channels_out, geometry };
    let (want, _) = reference::conv3d_gradients(&sizes, &x, &weight, &back);
    let all = InputGradient { gradient, channels_in, size: [frames, height, width], geometry };
    let turned = all.turned();
    let mut got = vec![0.0; want.len()];
    for (part, first) in all.launches() {
        let call = input::turned_weight_call("f16", [channels_in, channels_out], &geometry, first);
        let taps =
            run_in_subgroups(32, &call, &[Binding::Half(&weight), Binding::Output(weight.len())]).expect("it runs").remove(0);
        let shader = input::block_shader("f16", block, turned.stride != [1, 1, 1]);
        let to = ([frames, height, width], part.clone());
        let call = block_product::gradient_call(shader, block, gradient, to, channels_in, &turned);
        let bindings = [Binding::Half(&back), Binding::Half(&taps), Binding::Output(want.len())];
        let output = run_in_subgroups(32, &call, &bindings).unwrap_or_else(|complaints| panic!("{complaints:#?}")).remove(0);
        // A launch writes its own frames of every clip.
        let clip = frames * height * width * channels_in;
        for frame in part {
            for of_clip in 0..batch {
                let from = of_clip * clip + frame * height * width * channels_in;
                let values = from..from + height * width * channels_in;
                got[values.clone()].copy_from_slice(&output[values]);
            }
        }
    }
    assert_right_within(&format!("{block:?} gradient of the input {size:?} of {channels_out}"), Ok(vec![got]), &want, 2e-3);
}

#[test]
fn gradients_of_inputs_of_odd_sizes() {
    check_input_gradient(Block::Large, SAME, [2, 3, 5, 7, 20], 4);
    check_input_gradient(Block::Small, SAME, [1, 1, 5, 4, 4], 68);
    check_input_gradient(Block::Small, HALF, [1, 3, 9, 8, 36], 24);
}
