//! The backward pass of the attention: row deltas, then the gradients of the query and those of key and value.

use std::sync::Arc;

use tilereel::gpu::kernels::reference::{self, relative_l2, seeded};
use tilereel::gpu::kernels::tile_attention::backward::{self, Of};
use tilereel::gpu::kernels::tile_attention::{Tiles, backward_matrix, backward_subgroup};
use tilereel::gpu::kernels::{Shader, ShaderCall};
use tilereel::mask::{FrameMask, KeyFrames, MaskFamily};

use super::{Binding, rounded, run, run_in_subgroups};

/// Gradients are rounded to f16, as are the weights and slopes that they are sums of.
const LIMIT: f64 = 1e-3;

struct Case {
    head: usize,
    batch: usize,
    query_tokens: usize,
    key_tokens: usize,
    key_frames_total: usize,
    key_frames: KeyFrames,
    key_bias: bool,
    /// Of the gradient of the output.
    gradient_scale: f32,
}

impl Case {
    fn masked(mask: &FrameMask, head: usize, tokens: usize) -> Self {
        Self {
            head,
            batch: 1,
            query_tokens: tokens,
            key_tokens: tokens,
            key_frames_total: mask.frames(),
            key_frames: mask.key_frames(),
            key_bias: false,
            gradient_scale: 1.0,
        }
    }

    /// Two clips, one frame on both sides.
    fn to_a_text(head: usize, query_tokens: usize, key_tokens: usize) -> Self {
        let mask = FrameMask::full(1).expect("a mask");
        Self { batch: 2, query_tokens, key_tokens, key_bias: true, ..Self::masked(&mask, head, 1) }
    }

    /// The gradients of query, key and value with their errors on the matrix tier.
    fn run(&self, corrupt: impl Fn(Shader) -> Shader) -> Result<Vec<(Vec<f32>, f64)>, Vec<String>> {
        self.run_in_subgroups(32, |sizes, tiles, of| {
            let call = backward_matrix::shader_call(sizes, self.key_frames_total, tiles, self.key_bias, of, true);
            let call = call.expect("a matrix kernel");
            ShaderCall { shader: corrupt(call.shader.clone()), ..call }
        })
    }

    /// The same in quads, in subgroups of so many lanes.
    fn run_in_quads(&self, width: usize, corrupt: impl Fn(Shader) -> Shader) -> Result<Vec<(Vec<f32>, f64)>, Vec<String>> {
        self.run_in_subgroups(width, |sizes, tiles, of| {
            let cut = backward_subgroup::Cut::of(self.head, of).expect("a cut");
            let shader = corrupt(backward_subgroup::shader("f16", cut, self.key_bias, of, true));
            backward_subgroup::shader_call(shader, cut, sizes, self.key_frames_total, tiles, of)
        })
    }

    /// What the launches that `launch` makes for operands `[batch, heads, head]` give, and a check of the tiles that each walked
    /// through.
    fn run_in_subgroups(
        &self,
        width: usize,
        launch: impl Fn([usize; 3], &Tiles, Of) -> ShaderCall,
    ) -> Result<Vec<(Vec<f32>, f64)>, Vec<String>> {
        const HEADS: usize = 2;
        let &Self { head, batch, query_tokens, key_tokens, key_frames_total, ref key_frames, .. } = self;
        let (queries, keys) = (key_frames.query_frames() * query_tokens, key_frames_total * key_tokens);
        let [query_count, key_count] = [queries, keys].map(|tokens| batch * HEADS * tokens * head);
        let scaled = |seed, count, by| rounded(seeded(seed, count).into_iter().map(|value| value * by).collect());
        let query = scaled(1, query_count, 3.0);
        let (key, value) = (scaled(2, key_count, 1.0), scaled(3, key_count, 1.0));
        // Some rows have much smaller gradients than others, and one has none.
        let gradient = scaled(4, query_count, self.gradient_scale).into_iter().enumerate();
        let gradient = rounded(gradient.map(|(at, value)| value * [1.0, 0.1, 0.0][at / head % 3]).collect());
        let bias: Option<Vec<f32>> = self.key_bias.then(|| (0..batch * keys).map(|key| [0.0, -10_000.0, 0.5][key % 3]).collect());
        let tiles = Tiles { key_frames: Arc::new(key_frames.clone()), query_tokens, key_tokens };
        let sizes = reference::TileAttention {
            batch,
            heads: HEADS,
            head,
            query_tokens,
            key_tokens,
            key_frames_total,
            key_frames: &tiles.key_frames,
            scale: (head as f64).powf(-0.5) as f32,
        };
        let f32s = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect::<Vec<_>>();
        let output = rounded(f32s(reference::tile_attention(&sizes, &query, &key, &value, bias.as_deref())));
        let row_log_sums = f32s(reference::row_log_sums(&sizes, &query, &key, bias.as_deref()));
        let want = reference::tile_attention_gradients(&sizes, [&query, &key, &value], bias.as_deref(), &gradient);

        let rows = batch * HEADS * queries;
        let call = backward::row_deltas_call(backward::row_deltas_shader("f16", head), rows);
        let row_deltas =
            run(&call, &[Binding::Half(&output), Binding::Half(&gradient), Binding::FullOutput(2 * rows)])?.remove(0);

        let mut results = Vec::new();
        let mut want = want.iter();
        for of in Of::ALL {
            let call = launch([batch, HEADS, head], &tiles, of);
            let mut bindings = [&query, &key, &value, &gradient].map(|values| Binding::Half(values)).to_vec();
            bindings.extend([Binding::Full(&row_log_sums), Binding::Full(&row_deltas)]);
            bindings.extend(bias.as_deref().map(Binding::Full));
            match of {
                Of::Queries => bindings.push(Binding::Output(query_count)),
                Of::Keys => bindings.extend([Binding::Output(key_count), Binding::Output(key_count)]),
            }
            bindings.push(Binding::FullOutput(call.workgroups.iter().product::<u32>() as usize));
            let mut outputs = run_in_subgroups(width, &call, &bindings)?;
            let walked: f64 = outputs.pop().into_iter().flatten().map(f64::from).sum();
            let own_frames = if of == Of::Keys { key_frames_total } else { key_frames.query_frames() };
            let blocks = call.workgroups.iter().product::<u32>() as usize / (batch * HEADS * own_frames);
            let kept = (batch * HEADS * key_frames.frames().len() * blocks) as f64;
            assert!((walked - kept).abs() < 1e-3, "{of:?}: {walked} tiles walked, {kept} kept");
            results.extend(outputs.into_iter().zip(want.by_ref()).map(|(got, want)| {
                let error = relative_l2(&got, want);
                (got, error)
            }));
        }
        Ok(results)
    }

    fn check(&self) {
        let what = format!("head {}, {} queries, {} keys", self.head, self.query_tokens, self.key_tokens);
        let results = self.run(|shader| shader).unwrap_or_else(|complaints| panic!("{what}: {complaints:#?}"));
        for ((_, error), operand) in results.iter().zip(["query", "key", "value"]) {
            println!("{what}: gradient of the {operand}: {error:.1e}");
            assert!(*error <= LIMIT, "{what}: gradient of the {operand}: {error:.2e}");
        }
    }
}

/// The subgroup tier keeps weights and slopes in f32, so only the results are rounded.
const LIMIT_IN_QUADS: f64 = 6e-4;

#[test]
fn gradients_in_quads() {
    let reference = MaskFamily::paper(1).frame_mask(3).expect("a mask");
    for (width, case) in [
        (4, Case::masked(&reference, 20, 9)),
        (32, Case::to_a_text(48, 70, 37)),
        (64, Case::to_a_text(96, 5, 18)),
        (128, Case::masked(&reference, 128, 3)),
    ] {
        let results = case.run_in_quads(width, |shader| shader);
        let what = format!("head {}, {width} lanes", case.head);
        for ((_, error), operand) in
            results.unwrap_or_else(|complaints| panic!("{what}: {complaints:#?}")).iter().zip(["query", "key", "value"])
        {
            println!("{what}: gradient of the {operand}: {error:.1e}");
            assert!(*error <= LIMIT_IN_QUADS, "{what}: gradient of the {operand}: {error:.2e}");
        }
    }
}

#[test]
fn bits_in_quads_do_not_depend_on_the_lanes() {
    let case = Case::to_a_text(48, 19, 37);
    let bits = |width: usize| {
        let results = case.run_in_quads(width, |shader| shader).unwrap_or_else(|complaints| panic!("{width}: {complaints:#?}"));
        results.into_iter().flat_map(|(got, _)| got).map(f32::to_bits).collect::<Vec<_>>()
    };
    let first = bits(4);
    for width in [8, 16, 32, 64, 128] {
        assert!(bits(width) == first, "{width} lanes give other bits");
    }
}

/// A check that passes everything is no check.
#[test]
fn faults_in_quads_are_found() {
    let case = Case::to_a_text(48, 19, 37);
    for (from, to) in [
        ("            workgroupBarrier();\n", ""),
        ("pair + quadSwapY(pair)", "pair"),
        ("let inside = token < other_tokens && vector < VECTORS;", "let inside = vector < VECTORS;"),
        ("u_{{ j }}, first_{{ r }}_{{ j }})", "v_{{ j }}, first_{{ r }}_{{ j }})"),
    ] {
        let result = case.run_in_quads(8, |shader| {
            let template: &'static str = Box::leak(shader.template.replacen(from, to, 1).into_boxed_str());
            assert_ne!(template, shader.template, "{from} is not in the shader");
            Shader { template, ..shader }
        });
        let found = result.map_or(true, |outputs| outputs.iter().any(|(_, error)| *error > LIMIT_IN_QUADS || error.is_nan()));
        assert!(found, "nobody noticed {to} for {from}");
    }
}

#[test]
fn gradients_of_odd_sizes() {
    let reference = MaskFamily::paper(1).frame_mask(3).expect("a mask");
    let full = FrameMask::full(2).expect("a mask");
    for case in [
        Case::masked(&reference, 48, 49),
        Case::masked(&reference, 48, 96),
        Case { gradient_scale: 1e-2, ..Case::masked(&full, 48, 24) },
        Case { gradient_scale: 300.0, ..Case::masked(&full, 96, 50) },
        Case::masked(&reference, 96, 48),
        Case::to_a_text(48, 70, 21),
        Case::to_a_text(48, 17, 100),
        Case::to_a_text(96, 20, 70),
    ] {
        case.check();
    }
}

/// Frames of the mini model: one block of the long cut, three whole rounds.
#[test]
fn gradients_of_whole_blocks() {
    for head in [48, 96] {
        Case::masked(&FrameMask::full(1).expect("a mask"), head, 144).check();
    }
}

#[test]
fn keys_that_nobody_keeps_get_zeros() {
    let mask = FrameMask::new(2, vec![true, false, true, false]).expect("a mask");
    let results = Case::masked(&mask, 48, 20).run(|shader| shader).unwrap_or_else(|complaints| panic!("{complaints:#?}"));
    for (gradient, error) in &results[1..] {
        assert!(*error <= LIMIT, "{error:.2e}");
        assert!(gradient.chunks_exact(20 * 48).skip(1).step_by(2).flatten().all(|&value| value == 0.0));
    }
}

/// A check that passes everything is no check.
#[test]
fn faults_of_the_backward_pass_are_found() {
    let mask = FrameMask::full(2).expect("a mask");
    for (from, to) in [
        ("            subgroupBarrier();\n", ""),
        ("        workgroupBarrier();\n", ""),
        ("own_tokens - 1u);\n#if side", "own_tokens + 100000u);\n#if side"),
        ("fma(score_", "fma(1.01 * score_"),
        ("-delta4", "delta4"),
        ("weight = select(vec4<f32>(), weight", "weight = select(weight, weight"),
    ] {
        let results = Case::masked(&mask, 48, 49).run(|shader| {
            let template: &'static str = Box::leak(shader.template.replacen(from, to, 1).into_boxed_str());
            assert_ne!(template, shader.template, "{from} is not in the shader");
            Shader { template, ..shader }
        });
        let right = results.is_ok_and(|results| results.iter().all(|(_, error)| *error <= LIMIT));
        assert!(!right, "nobody noticed {to} in the place of {from}");
    }
}
