//! The shaders of the matrix and the subgroup tier without a GPU: an interpreter runs what naga makes of them, all lanes in step, and reports
//! reads and writes out of bounds, reads of workgroup memory that nobody wrote, and lanes that meet without a barrier.

use std::sync::Arc;

use half::f16;
use tilereel::gpu::kernels::conv3d::{self, Geometry};
use tilereel::gpu::kernels::gradient::input::InputGradient;
use tilereel::gpu::kernels::gradient::{self, POINT, WeightGradient};
use tilereel::gpu::kernels::group_norm::shaders::{Way, normalise_shader};
use tilereel::gpu::kernels::linear::{self, Activation};
use tilereel::gpu::kernels::newton_schulz::{self, STEEP};
use tilereel::gpu::kernels::product::{LARGE, SMALL, SQUARE, Tile};
use tilereel::gpu::kernels::reference::{self, relative_l2, seeded};
use tilereel::gpu::kernels::tile_attention::matrix::{CUTS, Cut};
use tilereel::gpu::kernels::tile_attention::{self, Gives, RecordPlace, Sample, Tiles};
use tilereel::gpu::kernels::{Shader, ShaderCall};
use tilereel::mask::{FrameMask, KeyFrames, MaskFamily};

mod backward;
mod emulator;
mod subgroup;

use emulator::Machine;

/// Lanes of a subgroup.
const WIDTH: usize = 32;

/// What is bound in front of the words of information.
#[derive(Clone, Copy)]
enum Binding<'a> {
    Half(&'a [f32]),
    Full(&'a [f32]),
    /// So many halves, full of junk.
    Output(usize),
    /// So many floats, full of junk.
    FullOutput(usize),
}

fn rounded(values: Vec<f32>) -> Vec<f32> {
    values.into_iter().map(|value| f16::from_f32(value).to_f32()).collect()
}

/// What the shader leaves in its outputs, or what is wrong with it.
fn run(call: &ShaderCall, bindings: &[Binding<'_>]) -> Result<Vec<Vec<f32>>, Vec<String>> {
    run_in_subgroups(WIDTH, call, bindings)
}

/// [`run`] in subgroups of so many lanes.
fn run_in_subgroups(width: usize, call: &ShaderCall, bindings: &[Binding<'_>]) -> Result<Vec<Vec<f32>>, Vec<String>> {
    let text = call.shader.variant.expand(call.shader.template);
    let module = naga::front::wgsl::parse_str(&text).expect("the shader is WGSL");
    let info = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all())
        .validate(&module)
        .unwrap_or_else(|error| panic!("{}", error.emit_to_string(&text)));
    let halves = |values: &[f32]| values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
    let mut buffers: Vec<Vec<u8>> = bindings
        .iter()
        .map(|binding| match binding {
            Binding::Half(values) => halves(values),
            Binding::Full(values) => bytemuck::cast_slice(values).to_vec(),
            Binding::Output(count) => vec![0xff; 2 * count],
            Binding::FullOutput(count) => vec![0xff; 4 * count],
        })
        .collect();
    buffers.push(bytemuck::cast_slice(&call.info).to_vec());
    let [across, down, deep] = call.workgroups;
    let mut machine = Machine::new(&module, &info, &buffers, call.workgroups, width);
    for group in (0..across * down * deep).map(|index| [index % across, index / across % down, index / across / down]) {
        machine.run(group);
    }
    if !machine.complaints.is_empty() {
        return Err(std::mem::take(&mut machine.complaints));
    }
    let values = |(index, binding): (usize, &Binding)| {
        let bytes = || machine.bytes(index as u32);
        match binding {
            Binding::Half(_) | Binding::Full(_) => None,
            Binding::Output(_) => {
                Some(bytes().chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect())
            }
            Binding::FullOutput(_) => Some(bytes().chunks_exact(4).map(bytemuck::pod_read_unaligned).collect()),
        }
    };
    Ok(bindings.iter().enumerate().filter_map(values).collect())
}

fn assert_right(what: &str, got: Result<Vec<Vec<f32>>, Vec<String>>, want: &[f64]) {
    assert_right_within(what, got, want, 6e-4);
}

fn assert_right_within(what: &str, got: Result<Vec<Vec<f32>>, Vec<String>>, want: &[f64], limit: f64) {
    let got = got.unwrap_or_else(|complaints| panic!("{what}: {complaints:#?}"));
    let error = relative_l2(&got[0], want);
    println!("{what}: {error:.1e}");
    assert!(error <= limit, "{what}: {error:.2e}");
}

fn check_linear(tile: &Tile, [rows, inner, columns]: [usize; 3], with_bias: bool, activation: Activation) {
    let (x, weight) = (rounded(seeded(1, rows * inner)), rounded(seeded(2, inner * columns)));
    let bias = with_bias.then(|| rounded(seeded(3, columns)));
    let shader = linear::shader(tile, inner, columns, with_bias, activation);
    let call = linear::shader_call(shader, tile, rows, columns);
    let mut bindings = vec![Binding::Half(&x), Binding::Half(&weight)];
    bindings.extend(bias.as_deref().map(Binding::Half));
    bindings.push(Binding::Output(rows * columns));
    let want = reference::linear([inner, columns], &x, &weight, bias.as_deref(), activation == Activation::GeluTanh);
    let what = format!("linear {} of {rows} x {inner} x {columns}", tile.name());
    assert_right(&what, run(&call, &bindings), &want);
}

#[test]
fn linear_of_odd_sizes() {
    check_linear(&LARGE, [140, 64, 288], true, Activation::None);
    check_linear(&SQUARE, [200, 40, 208], false, Activation::GeluTanh);
    check_linear(&SMALL, [70, 72, 136], true, Activation::GeluTanh);
}

/// Singular values of a wide matrix by Jacobi's rotations of its rows.
fn singular_values(columns: usize, matrix: &[f32]) -> Vec<f64> {
    let mut rows: Vec<Vec<f64>> = matrix.chunks(columns).map(|row| row.iter().map(|&value| f64::from(value)).collect()).collect();
    let dot = |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| x * y).sum() };
    let count = rows.len();
    for (p, q) in (0..12).flat_map(|_| (0..count).flat_map(|q| (0..q).map(move |p| (p, q)))) {
        let angle = 0.5 * (2.0 * dot(&rows[p], &rows[q])).atan2(dot(&rows[p], &rows[p]) - dot(&rows[q], &rows[q]));
        let (sine, cosine) = angle.sin_cos();
        let (before, after) = rows.split_at_mut(q);
        for (x, y) in before[p].iter_mut().zip(&mut after[0]) {
            (*x, *y) = (cosine * *x + sine * *y, cosine * *y - sine * *x);
        }
    }
    rows.iter().map(|row| dot(row, row).sqrt()).collect()
}

#[test]
fn newton_schulz_makes_singular_values_equal() {
    for [count, rows, columns] in [[2, 24, 72], [2, 72, 136], [1, 40, 40]] {
        let size = (rows * columns) as f32;
        let start = rounded(seeded(22, count * rows * columns).into_iter().map(|value| value / size.sqrt()).collect());
        let [of_gram, of_polynomial, of_next] = newton_schulz::shader_calls([count, rows, columns], STEEP);
        let what = format!("{count} matrices of {rows} x {columns}");
        let product = |call: &ShaderCall, columns: usize, inputs: &[&[f32]]| {
            let inputs = inputs.iter().map(|&input| Binding::Half(input));
            let bindings: Vec<_> = inputs.chain([Binding::Output(count * rows * columns)]).collect();
            run(call, &bindings).unwrap_or_else(|complaints| panic!("{what}: {complaints:#?}")).remove(0)
        };
        let got = (0..5).fold(start.clone(), |x, _| {
            let gram = product(&of_gram, rows, &[&x, &x]);
            let polynomial = product(&of_polynomial, rows, &[&gram, &gram, &gram]);
            product(&of_next, columns, &[&polynomial, &x, &x])
        });
        if columns > rows {
            let values: Vec<f64> = got.chunks(rows * columns).flat_map(|matrix| singular_values(columns, matrix)).collect();
            let (least, most) = values.iter().fold((f64::MAX, 0.0), |(least, most), &value| (value.min(least), value.max(most)));
            println!("{what}: {least} to {most}");
            assert!(least > 0.65 && most < 1.25, "{what}: {least} to {most}");
        }
        let want = reference::newton_schulz([rows, columns], &start, STEEP, 5);
        assert_right_within(&what, Ok(vec![got]), &want, 2e-3);
    }
}

const SAME: Geometry = Geometry { kernel: [3, 3, 3], stride: [1, 1, 1], causal_frames: 2, top: 1, bottom: 1, left: 1, right: 1 };
const FRAME: Geometry = Geometry { kernel: [1, 3, 3], causal_frames: 0, ..SAME };
const HALF: Geometry = Geometry { stride: [2, 2, 2], top: 0, bottom: 1, left: 0, right: 1, ..SAME };

fn check_convolution(geometry: Geometry, input: [usize; 5], channels_out: usize, with_residual: bool) {
    let [batch, frames, height, width, channels] = input;
    let places = batch * geometry.output([frames, height, width]).iter().product::<usize>();
    let x = rounded(seeded(4, input.iter().product()));
    let weight = rounded(seeded(5, geometry.taps() * channels * channels_out));
    let bias = rounded(seeded(6, channels_out));
    let residual = with_residual.then(|| rounded(seeded(7, places * channels_out)));
    let call = conv3d::matrix::shader_call(input, channels_out, with_residual, &geometry);
    let mut bindings = vec![Binding::Half(&x), Binding::Half(&weight), Binding::Half(&bias)];
    bindings.extend(residual.as_deref().map(Binding::Half));
    bindings.push(Binding::Output(places * channels_out));
    let sizes = reference::Conv3d { input, channels_out, geometry };
    let want = reference::conv3d(&sizes, &x, &weight, &bias, None, residual.as_deref());
    let what = format!("convolution of {input:?} to {channels_out}");
    assert_right(&what, run(&call, &bindings), &want);
}

#[test]
fn convolution_of_odd_sizes() {
    check_convolution(SAME, [2, 2, 5, 7, 20], 4, true);
    check_convolution(SAME, [1, 2, 5, 7, 40], 24, false);
    check_convolution(SAME, [2, 2, 5, 7, 4], 64, false);
    check_convolution(SAME, [2, 2, 5, 7, 32], 64, true);
    check_convolution(HALF, [1, 3, 9, 8, 36], 132, false);
    check_convolution(FRAME, [2, 1, 7, 9, 64], 264, true);
}

/// The parts are added here, as `sum_of_parts` does on a device.
fn check_weight_gradient(geometry: Geometry, input: [usize; 5], channels_out: usize) {
    let [batch, frames, height, width, channels] = input;
    let places = batch * geometry.output([frames, height, width]).iter().product::<usize>();
    let x = rounded(seeded(4, input.iter().product()));
    let back = rounded(seeded(10, places * channels_out));
    let sizes = WeightGradient { input, channels_out, geometry };
    let tile = gradient::matrix::tile_for(channels, channels_out, &geometry).expect("a tile");
    let (call, parts) = gradient::matrix::shader_call(&tile, &sizes);
    let bindings = [Binding::Half(&x), Binding::Half(&back), Binding::FullOutput(parts * sizes.count())];
    let weight = vec![0.0; sizes.count()];
    let (_, want) = reference::conv3d_gradients(&reference::Conv3d { input, channels_out, geometry }, &x, &weight, &back);
    let what = format!("{} gradient of the weight of {input:?} to {channels_out} in {parts} parts", tile.name());
    let got = run(&call, &bindings).map(|outputs| {
        vec![(0..sizes.count()).map(|at| outputs[0][at..].iter().step_by(sizes.count()).sum()).collect::<Vec<f32>>()]
    });
    assert_right_within(&what, got, &want, 1e-5);
}

#[test]
fn gradient_of_weights_of_odd_sizes() {
    check_weight_gradient(SAME, [2, 2, 5, 7, 20], 4);
    check_weight_gradient(SAME, [1, 3, 4, 35, 72], 24);
    check_weight_gradient(SAME, [1, 1, 3, 5, 4], 64);
    check_weight_gradient(HALF, [1, 3, 9, 8, 36], 68);
    check_weight_gradient(HALF, [2, 5, 7, 70, 8], 16);
    check_weight_gradient(FRAME, [2, 1, 7, 9, 64], 72);
    check_weight_gradient(POINT, [1, 2, 7, 11, 8], 8);
    check_weight_gradient(POINT, [1, 1, 1, 300, 192], 384);
    check_weight_gradient(POINT, [1, 1, 1, 71, 136], 72);
}

fn check_input_gradient(geometry: Geometry, size: [usize; 5], channels_out: usize) {
    let [batch, frames, height, width, channels_in] = size;
    let [frames_out, height_out, width_out] = geometry.output([frames, height, width]);
    let gradient = [batch, frames_out, height_out, width_out, channels_out];
    let back = rounded(seeded(10, gradient.iter().product()));
    let weight = rounded(seeded(5, geometry.taps() * channels_in * channels_out));
    let x = vec![0.0; size.iter().product()];
    let sizes = reference::Conv3d { input: size, channels_out, geometry };
    let (want, _) = reference::conv3d_gradients(&sizes, &x, &weight, &back);
    let call = InputGradient { gradient, channels_in, size: [frames, height, width], geometry };
    // Each launch writes its frames; the others stay full of junk.
    let mut got = vec![f32::NAN; x.len()];
    for (range, first) in call.launches() {
        let turn = gradient::input::turned_weight_call("f16", [channels_in, channels_out], &geometry, first);
        let turned = run(&turn, &[Binding::Half(&weight), Binding::Output(weight.len())]).expect("a turned weight");
        let bindings = [Binding::Half(&back), Binding::Half(&turned[0]), Binding::Output(x.len())];
        let outputs = run(&call.matrix_call(range.clone()), &bindings).unwrap_or_else(|complaints| panic!("{complaints:#?}"));
        let frame = height * width * channels_in;
        for clip in 0..batch {
            let written = (clip * frames + range.start) * frame..(clip * frames + range.end) * frame;
            got[written.clone()].copy_from_slice(&outputs[0][written]);
        }
    }
    assert_right(&format!("gradient of the input {size:?} of {channels_out}"), Ok(vec![got]), &want);
}

#[test]
fn gradient_of_inputs_of_odd_sizes() {
    check_input_gradient(SAME, [2, 3, 5, 7, 20], 4);
    check_input_gradient(SAME, [1, 1, 5, 7, 24], 40);
    check_input_gradient(SAME, [1, 3, 5, 7, 64], 4);
    check_input_gradient(SAME, [1, 2, 5, 7, 64], 64);
    check_input_gradient(HALF, [1, 5, 9, 8, 36], 20);
    check_input_gradient(HALF, [2, 3, 8, 7, 32], 64);
    check_input_gradient(FRAME, [2, 1, 7, 9, 64], 24);
}

#[test]
fn normalisation() {
    let (batch, pixels, channels) = (2, 37, 20);
    let x = rounded(seeded(8, batch * pixels * channels));
    let affine: Vec<f32> = seeded(9, batch * 2 * channels).into_iter().map(|value| 4.0 * value).collect();
    let shader = normalise_shader("f16", channels, Way::Forward, true);
    let call = ShaderCall { shader, workgroups: [1, 1, batch as u32], info: vec![(pixels * channels / 4) as u32] };
    let want = |index: usize| {
        let (clip, channel) = (index / (pixels * channels), index % channels);
        let y = f64::from(x[index]) * f64::from(affine[clip * 2 * channels + channel])
            + f64::from(affine[(clip * 2 + 1) * channels + channel]);
        y / (1.0 + (-y).exp())
    };
    let want: Vec<f64> = (0..x.len()).map(want).collect();
    let got = run(&call, &[Binding::Half(&x), Binding::Full(&affine), Binding::Output(x.len())]);
    assert_right("normalisation", got, &want);
}

struct Attention {
    cut: Cut,
    batch: usize,
    query_tokens: usize,
    key_tokens: usize,
    key_frames: KeyFrames,
    query_scale: f32,
    key_bias: bool,
}

/// The attention and the log-sums, as far as they are given, each with its error.
fn check_attention(
    case: &Attention,
    gives: Gives,
    corrupt: impl FnOnce(Shader) -> Shader,
) -> Result<Vec<(Vec<f32>, f64)>, Vec<String>> {
    let &Attention { cut, batch, query_tokens, key_tokens, ref key_frames, query_scale, key_bias } = case;
    let (head, heads, frames) = (cut.head, 2, key_frames.query_frames());
    let count = |tokens: usize| batch * heads * frames * tokens * head;
    let query = rounded(seeded(1, count(query_tokens)).into_iter().map(|value| value * query_scale).collect());
    let (key, value) = (rounded(seeded(2, count(key_tokens))), rounded(seeded(3, count(key_tokens))));
    let bias = |key: usize| [0.0, -10_000.0, 0.5][key % 3];
    let bias: Option<Vec<f32>> = key_bias.then(|| (0..batch * frames * key_tokens).map(bias).collect());
    let tiles = Tiles { key_frames: Arc::new(key_frames.clone()), query_tokens, key_tokens };
    let attends = gives != Gives::LogSums;
    let gives_log_sums = matches!(gives, Gives::AttentionAndLogSums | Gives::AttentionAndSample | Gives::LogSums);
    // Uneven steps, of every frame as many.
    let rows = (0..frames).flat_map(|frame| (0..query_tokens).step_by(5).map(move |row| (frame * query_tokens + row) as u32));
    let sample = (gives == Gives::AttentionAndSample).then(|| Sample { rows: Arc::new(rows.collect()) });
    let place = RecordPlace { at: 2, sample };
    let shader = corrupt(tile_attention::matrix::shader_of(cut, &tiles, key_bias, gives));
    let recorded = gives_log_sums.then_some(&place);
    let call = tile_attention::matrix::shader_call(shader, cut, [batch, heads, head], frames, &tiles, recorded);
    let gives_row_log_sums = gives == Gives::AttentionAndRowLogSums;
    let mut bindings = vec![Binding::Half(&query), Binding::Half(&key)];
    bindings.extend(attends.then_some(Binding::Half(&value)));
    bindings.extend(bias.as_deref().map(Binding::Full));
    bindings.extend(attends.then_some(Binding::Output(query.len())));
    let length = place.length([batch, heads], frames, &tiles);
    bindings.extend(gives_log_sums.then_some(Binding::FullOutput(place.at + length)));
    bindings.extend(gives_row_log_sums.then_some(Binding::FullOutput(query.len() / head)));
    let sizes = reference::TileAttention {
        batch,
        heads,
        head,
        query_tokens,
        key_tokens,
        key_frames_total: frames,
        key_frames: &tiles.key_frames,
        scale: (head as f64).powf(-0.5) as f32,
    };
    let mut results = Vec::new();
    for got in run(&call, &bindings)? {
        if attends && results.is_empty() {
            let error = relative_l2(&got, &reference::tile_attention(&sizes, &query, &key, &value, bias.as_deref()));
            results.push((got, error));
            continue;
        }
        if gives_row_log_sums {
            // Weights are as wrong as the sum that they are divided by.
            let want = reference::row_log_sums(&sizes, &query, &key, bias.as_deref());
            let error = got.iter().zip(want).map(|(&got, want)| (f64::from(got) - want).exp_m1().abs()).fold(0.0, f64::max);
            results.push((got, error));
            continue;
        }
        let (log_sums, of_sample) = got[place.at..].split_at(place.sample_at(batch * heads, &tiles) - place.at);
        let want = reference::log_sums(&sizes, &query, &key, bias.as_deref());
        results.push((log_sums.to_vec(), reference::log_sums_error(&sizes, log_sums, &want)));
        if let Some(Sample { rows }) = &place.sample {
            let want = reference::sampled_log_sums(&sizes, &query, &key, bias.as_deref(), rows);
            let all = KeyFrames::of_one_query_frame(frames);
            let error = reference::log_sums_error(&sizes.of_rows(rows.len(), &all), of_sample, &want);
            results.push((of_sample.to_vec(), error));
        }
    }
    Ok(results)
}

fn masked(cut: Cut, tokens: usize, query_scale: f32) -> Attention {
    let key_frames = MaskFamily::paper(1).frame_mask(3).expect("a mask").key_frames();
    Attention { cut, batch: 1, query_tokens: tokens, key_tokens: tokens, key_frames, query_scale, key_bias: false }
}

#[test]
fn attention_of_odd_sizes() {
    for case in [
        masked(CUTS[0], 48, 3.0),
        masked(CUTS[0], 50, 1000.0),
        masked(CUTS[1], 145, 3.0),
        masked(CUTS[1], 48, 1000.0),
        masked(CUTS[2], 49, 3.0),
        masked(CUTS[2], 96, 1000.0),
        Attention { key_frames: FrameMask::full(2).expect("a mask").key_frames(), ..masked(CUTS[2], 24, 3.0) },
        Attention { batch: 2, query_tokens: 17, key_frames: KeyFrames::dense(1), key_bias: true, ..masked(CUTS[0], 70, 3.0) },
        Attention { batch: 2, query_tokens: 70, key_frames: KeyFrames::dense(1), key_bias: true, ..masked(CUTS[2], 21, 3.0) },
        Attention { batch: 2, query_tokens: 150, key_frames: KeyFrames::dense(1), key_bias: true, ..masked(CUTS[1], 21, 3.0) },
    ] {
        let what = format!("{:?}, {} queries, {} keys", case.cut, case.query_tokens, case.key_tokens);
        let run = |gives: Gives| {
            let outputs = check_attention(&case, gives, |shader| shader);
            let outputs = outputs.unwrap_or_else(|complaints| panic!("{what}, {gives:?}: {complaints:#?}"));
            for (index, (_, error)) in outputs.iter().enumerate() {
                println!("{what}, {gives:?}: {error:.1e}");
                let limit = match (gives, index) {
                    // Logits of thousands are rounded to 2e-4 in f32.
                    (Gives::LogSums, _) | (_, 1..) if case.query_scale > 100.0 => 1e-3,
                    (Gives::LogSums, _) | (_, 1..) => 1e-5,
                    _ => 6e-4,
                };
                assert!(*error <= limit, "{what}, {gives:?}: {error:.2e}");
            }
            outputs.into_iter().map(|(got, _)| got).collect::<Vec<_>>()
        };
        let attention = run(Gives::Attention);
        let both = run(Gives::AttentionAndLogSums);
        assert!(both[0] == attention[0], "{what}: log-sums change the attention");
        let sampled = run(Gives::AttentionAndSample);
        assert!(sampled[..2] == both[..], "{what}: a sample changes the attention or the log-sums");
        assert!(run(Gives::AttentionAndRowLogSums)[0] == attention[0], "{what}: row log-sums change the attention");
        let log_sums = run(Gives::LogSums);
        assert!(log_sums[0] == both[1], "{what}: log-sums alone are others");
    }
}

/// A check that passes everything is no check.
#[test]
fn missing_barriers_and_wrong_places_are_found() {
    let broken = |from: &'static str, to: &'static str| {
        check_attention(&masked(CUTS[2], 49, 3.0), Gives::Attention, move |shader| {
            let template: &'static str = Box::leak(shader.template.replacen(from, to, 1).into_boxed_str());
            assert_ne!(template, shader.template, "{from} is not in the shader");
            Shader { template, ..shader }
        })
    };
    assert!(broken("subgroupBarrier();", "").is_err(), "nobody noticed the missing barrier of a subgroup");
    assert!(broken("        workgroupBarrier();\n", "").is_err(), "nobody noticed the missing barrier of a workgroup");
    let moved = broken("rows - 1u)", "rows + 100000u)");
    assert!(moved.is_err() || moved.is_ok_and(|outputs| outputs[0].1 > 6e-4), "nobody noticed the wrong place");
}
