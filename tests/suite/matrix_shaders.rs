//! The shaders of the matrix tier without a GPU: an interpreter runs what naga makes of them, all lanes in step, and reports
//! reads and writes out of bounds, reads of workgroup memory that nobody wrote, and lanes that meet without a barrier.

use std::sync::Arc;

use half::f16;
use tilereel::gpu::kernels::conv3d::{self, Geometry};
use tilereel::gpu::kernels::linear::{self, Activation};
use tilereel::gpu::kernels::product::{LARGE, SMALL, SQUARE, Tile};
use tilereel::gpu::kernels::reference::{self, relative_l2, seeded};
use tilereel::gpu::kernels::tile_attention::{self, Gives, Tiles};
use tilereel::gpu::kernels::{Shader, ShaderCall};
use tilereel::mask::{FrameMask, KeyFrames, MaskFamily};

mod backward;
mod emulator;

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
    let mut machine = Machine::new(&module, &info, &buffers, call.workgroups, WIDTH);
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
    let got = got.unwrap_or_else(|complaints| panic!("{what}: {complaints:#?}"));
    let error = relative_l2(&got[0], want);
    println!("{what}: {error:.1e}");
    assert!(error <= 6e-4, "{what}: {error:.2e}");
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
    check_convolution(SAME, [2, 2, 5, 7, 32], 64, true);
    check_convolution(HALF, [1, 3, 9, 8, 36], 132, false);
    check_convolution(FRAME, [2, 1, 7, 9, 64], 264, true);
}

#[test]
fn normalisation() {
    let (batch, pixels, channels) = (2, 37, 20);
    let x = rounded(seeded(8, batch * pixels * channels));
    let affine: Vec<f32> = seeded(9, batch * 2 * channels).into_iter().map(|value| 4.0 * value).collect();
    let shader = conv3d::matrix::normalise_shader(channels);
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
    head: usize,
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
    let &Attention { head, batch, query_tokens, key_tokens, ref key_frames, query_scale, key_bias } = case;
    let (heads, frames) = (2, key_frames.query_frames());
    let cut = tile_attention::matrix::Cut::of_head(head).expect("a matrix kernel");
    let count = |tokens: usize| batch * heads * frames * tokens * head;
    let query = rounded(seeded(1, count(query_tokens)).into_iter().map(|value| value * query_scale).collect());
    let (key, value) = (rounded(seeded(2, count(key_tokens))), rounded(seeded(3, count(key_tokens))));
    let bias = |key: usize| [0.0, -10_000.0, 0.5][key % 3];
    let bias: Option<Vec<f32>> = key_bias.then(|| (0..batch * frames * key_tokens).map(bias).collect());
    let tiles = Tiles { key_frames: Arc::new(key_frames.clone()), query_tokens, key_tokens };
    let call = tile_attention::matrix::shader_call(cut, [batch, heads, head], frames, &tiles, key_bias, gives);
    let call = ShaderCall { shader: corrupt(call.shader.clone()), ..call };
    let attends = gives != Gives::LogSums;
    let gives_log_sums = matches!(gives, Gives::AttentionAndLogSums | Gives::LogSums);
    let gives_row_log_sums = gives == Gives::AttentionAndRowLogSums;
    let mut bindings = vec![Binding::Half(&query), Binding::Half(&key)];
    bindings.extend(attends.then_some(Binding::Half(&value)));
    bindings.extend(bias.as_deref().map(Binding::Full));
    bindings.extend(attends.then_some(Binding::Output(query.len())));
    let log_sums = batch * heads * key_frames.frames().len() * query_tokens;
    bindings.extend(gives_log_sums.then_some(Binding::FullOutput(log_sums)));
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
        let error = if attends && results.is_empty() {
            relative_l2(&got, &reference::tile_attention(&sizes, &query, &key, &value, bias.as_deref()))
        } else if gives_row_log_sums {
            // Weights are as wrong as the sum that they are divided by.
            let want = reference::row_log_sums(&sizes, &query, &key, bias.as_deref());
            got.iter().zip(want).map(|(&got, want)| (f64::from(got) - want).exp_m1().abs()).fold(0.0, f64::max)
        } else {
            reference::log_sums_error(&sizes, &got, &reference::log_sums(&sizes, &query, &key, bias.as_deref()))
        };
        results.push((got, error));
    }
    Ok(results)
}

fn masked(head: usize, tokens: usize, query_scale: f32) -> Attention {
    let key_frames = MaskFamily::paper(1).frame_mask(3).expect("a mask").key_frames();
    Attention { head, batch: 1, query_tokens: tokens, key_tokens: tokens, key_frames, query_scale, key_bias: false }
}

#[test]
fn attention_of_odd_sizes() {
    for case in [
        masked(96, 48, 3.0),
        masked(96, 50, 1000.0),
        masked(48, 49, 3.0),
        masked(48, 96, 1000.0),
        Attention { key_frames: FrameMask::full(2).expect("a mask").key_frames(), ..masked(48, 24, 3.0) },
        Attention { batch: 2, query_tokens: 17, key_frames: KeyFrames::dense(1), key_bias: true, ..masked(96, 70, 3.0) },
        Attention { batch: 2, query_tokens: 70, key_frames: KeyFrames::dense(1), key_bias: true, ..masked(48, 21, 3.0) },
    ] {
        let what = format!("head {}, {} queries, {} keys", case.head, case.query_tokens, case.key_tokens);
        let run = |gives: Gives| {
            let outputs = check_attention(&case, gives, |shader| shader);
            let outputs = outputs.unwrap_or_else(|complaints| panic!("{what}, {gives:?}: {complaints:#?}"));
            for (index, (_, error)) in outputs.iter().enumerate() {
                println!("{what}, {gives:?}: {error:.1e}");
                let limit = match (gives, index) {
                    // Logits of thousands are rounded to 2e-4 in f32.
                    (Gives::LogSums, _) | (_, 1) if case.query_scale > 100.0 => 1e-3,
                    (Gives::LogSums, _) | (_, 1) => 1e-5,
                    _ => 6e-4,
                };
                assert!(*error <= limit, "{what}, {gives:?}: {error:.2e}");
            }
            outputs.into_iter().map(|(got, _)| got).collect::<Vec<_>>()
        };
        let attention = run(Gives::Attention);
        let both = run(Gives::AttentionAndLogSums);
        assert!(both[0] == attention[0], "{what}: log-sums change the attention");
        assert!(run(Gives::AttentionAndRowLogSums)[0] == attention[0], "{what}: row log-sums change the attention");
        let log_sums = run(Gives::LogSums);
        assert!(log_sums[0] == both[1], "{what}: log-sums alone are others");
    }
}

/// A check that passes everything is no check.
#[test]
fn missing_barriers_and_wrong_places_are_found() {
    let broken = |from: &'static str, to: &'static str| {
        check_attention(&masked(48, 49, 3.0), Gives::Attention, move |shader| {
            let template: &'static str = Box::leak(shader.template.replacen(from, to, 1).into_boxed_str());
            assert_ne!(template, shader.template, "{from} is not in the shader");
            Shader { template, ..shader }
        })
    };
    assert!(broken("subgroupBarrier();", "").is_err(), "nobody noticed the missing barrier of a subgroup");
    assert!(broken("        workgroupBarrier();\n", "").is_err(), "nobody noticed the missing barrier of a workgroup");
    let moved = broken("query_tokens - 1u)", "query_tokens + 100000u)");
    assert!(moved.is_err() || moved.is_ok_and(|outputs| outputs[0].1 > 6e-4), "nobody noticed the wrong place");
}
