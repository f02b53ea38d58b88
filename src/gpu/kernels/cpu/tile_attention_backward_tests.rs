use super::*;
use crate::gpu::kernels::cpu::tile_attention::{KeptFrames, tile_attention};
use crate::gpu::kernels::reference::{self, relative_l2, seeded};
use crate::mask::{FrameMask, KeyFrames, MaskFamily, Mode, Neighbours, Placement};

/// One call with its numbers.
struct Case {
    shape: TileAttentionShape,
    key_frames: KeyFrames,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    key_bias: Option<Vec<f32>>,
    output_gradient: Vec<f32>,
}

impl Case {
    /// Two clips of two heads.
    fn new(head_size: usize, [query_tokens, key_tokens]: [usize; 2], key_frames: KeyFrames, key_frames_total: usize) -> Self {
        let query_frames = key_frames.query_frames();
        let shape = TileAttentionShape {
            batch: 2,
            heads: 2,
            head_size,
            query_frames,
            query_tokens,
            key_frames: key_frames_total,
            key_tokens,
        };
        let (queries, keys) = (4 * head_size * shape.queries(), 4 * head_size * shape.keys());
        let query = seeded(1, queries).into_iter().map(|value| 3.0 * value).collect();
        let (key, value, output_gradient) = (seeded(2, keys), seeded(3, keys), seeded(4, queries));
        Self { shape, key_frames, query, key, value, key_bias: None, output_gradient }
    }

    fn masked(mask: &FrameMask, tokens: usize, head_size: usize) -> Self {
        Self::new(head_size, [tokens; 2], mask.key_frames(), mask.frames())
    }

    /// With keys that are hidden, as the padding of a text, and others that are favoured a little.
    fn with_bias(self) -> Self {
        let bias = |key: usize| [0.0, -10_000.0, 0.5][key % 3];
        Self { key_bias: Some((0..2 * self.shape.keys()).map(bias).collect()), ..self }
    }

    fn sizes(&self) -> reference::TileAttention<'_> {
        reference::TileAttention {
            batch: self.shape.batch,
            heads: self.shape.heads,
            head: self.shape.head_size,
            query_tokens: self.shape.query_tokens,
            key_tokens: self.shape.key_tokens,
            key_frames_total: self.shape.key_frames,
            key_frames: &self.key_frames,
            scale: (self.shape.head_size as f32).sqrt().recip(),
        }
    }

    fn reference(&self) -> [Vec<f64>; 3] {
        let operands = [self.query.as_slice(), &self.key, &self.value];
        reference::tile_attention_gradients(&self.sizes(), operands, self.key_bias.as_deref(), &self.output_gradient)
    }

    /// The gradients, and the tiles that were computed.
    fn run(&self, set: InstructionSet) -> ([Vec<f32>; 3], u64) {
        let forward = TileAttentionInput {
            query: &self.query,
            key: &self.key,
            value: Some(&self.value),
            kept: KeptFrames { offsets: self.key_frames.offsets(), frames: self.key_frames.frames() },
            key_bias: self.key_bias.as_deref(),
            scale: self.sizes().scale,
        };
        let mut output = vec![f32::NAN; self.query.len()];
        let mut row_log_sums = vec![f32::NAN; 4 * self.shape.queries()];
        let wanted =
            TileAttentionOutput { attention: Some(&mut output), row_log_sums: Some(&mut row_log_sums), ..Default::default() };
        tile_attention(set, &self.shape, &forward, wanted).unwrap();
        let input = TileAttentionBackwardInput {
            forward,
            output: &output,
            row_log_sums: &row_log_sums,
            output_gradient: &self.output_gradient,
        };
        let mut gradients = [&self.query, &self.key, &self.value].map(|operand| vec![f32::NAN; operand.len()]);
        let [query, key, value] = &mut gradients;
        let work = tile_attention_backward(set, &self.shape, &input, TileAttentionGradients { query, key, value }).unwrap();
        (gradients, work.tiles(&self.shape))
    }

    fn check(&self, what: &str, limit: f64) {
        let want = self.reference();
        let mut with_fused: Vec<[Vec<f32>; 3]> = Vec::new();
        for set in InstructionSet::available() {
            let (got, tiles) = self.run(set);
            assert_eq!(tiles, 4 * self.key_frames.frames().len() as u64, "{what}");
            for ((got, want), operand) in got.iter().zip(&want).zip(["query", "key", "value"]) {
                let error = relative_l2(got, want);
                assert!(error <= limit, "{set:?}, {what}: gradient of the {operand}: {error:e}");
            }
            if set != InstructionSet::available()[0] {
                with_fused.push(got);
            }
        }
        assert!(with_fused.windows(2).all(|pair| pair[0] == pair[1]), "{what}: instruction sets differ");
    }
}

fn masks(frames: usize) -> Vec<(String, FrameMask)> {
    let placements = [
        Placement::StrideCeil(0),
        Placement::StrideCeil(2),
        Placement::SpacedFloor(2),
        Placement::First(1),
        Placement::Linspace(3),
        Placement::Listed(vec![1, 4]),
    ];
    let families = placements
        .into_iter()
        .flat_map(|placement| [Mode::Symmetric, Mode::KvOnly].map(|mode| MaskFamily { placement: placement.clone(), mode }));
    let mut masks: Vec<_> = families.map(|family| (format!("{family:?}"), family.frame_mask(frames).unwrap())).collect();
    masks.extend(Neighbours::MEASURED.map(|near| (near.name(), near.frame_mask(frames).unwrap())));
    masks.push(("full".into(), FrameMask::full(frames).unwrap()));
    let painted = (0..frames * frames).map(|cell| cell % 3 == 0 || cell / frames == 2).collect();
    masks.push(("painted".into(), FrameMask::new(frames, painted).unwrap()));
    masks
}

/// The reference itself against central differences of the forward reference in f64, at numbers drawn from every operand.
#[test]
fn the_reference_is_the_derivative() {
    const STEP: f32 = 1.0 / 1024.0;
    let mut cases: Vec<Case> = masks(5).iter().map(|(_, mask)| Case::masked(mask, 3, 4)).collect();
    cases.push(Case::masked(&FrameMask::full(2).unwrap(), 5, 7).with_bias());
    cases.push(Case::new(6, [7, 4], KeyFrames::dense(1), 1).with_bias());
    for case in cases {
        let loss = |[query, key, value]: [&[f32]; 3]| -> f64 {
            let output = reference::tile_attention(&case.sizes(), query, key, value, case.key_bias.as_deref());
            output.iter().zip(&case.output_gradient).map(|(output, &gradient)| output * f64::from(gradient)).sum()
        };
        for (operand, gradient) in case.reference().iter().enumerate() {
            let operands = || [case.query.clone(), case.key.clone(), case.value.clone()];
            let moved = |at: usize, step: f32| {
                let mut operands = operands();
                operands[operand][at] += step;
                loss([&operands[0], &operands[1], &operands[2]])
            };
            for at in (0..gradient.len()).step_by(gradient.len() / 23 + 1) {
                let before = operands()[operand][at];
                let width = f64::from(before + STEP) - f64::from(before - STEP);
                let want = (moved(at, STEP) - moved(at, -STEP)) / width;
                let error = (gradient[at] - want).abs();
                assert!(error <= 2e-6, "operand {operand} at {at}: {} for {want}", gradient[at]);
            }
        }
    }
}

#[test]
fn every_family_of_masks() {
    for (name, mask) in masks(5) {
        Case::masked(&mask, 13, 24).check(&name, 3e-6);
    }
}

#[test]
fn head_sizes_and_tokens() {
    let mask = MaskFamily::paper(1).frame_mask(3).unwrap();
    for head_size in [1, 8, 16, 20, 48, 97, 128] {
        for tokens in [1, 33, 100] {
            // A frame of one token has few keys, and weights near 1 have gradients that cancel.
            Case::masked(&mask, tokens, head_size).check(&format!("head of {head_size}, {tokens} tokens"), 1e-5);
        }
    }
}

#[test]
fn text_cross_attention_with_masked_keys() {
    for [queries, keys] in [[100, 40], [31, 97], [1, 70], [300, 2]] {
        let case = Case::new(48, [queries, keys], KeyFrames::dense(1), 1).with_bias();
        case.check(&format!("{queries} queries, {keys} keys"), 1e-5);
    }
}

#[test]
fn keys_that_nobody_keeps_get_zeros() {
    let mask = FrameMask::new(2, vec![true, false, true, false]).unwrap();
    let ([query, key, value], _) = Case::masked(&mask, 5, 8).run(InstructionSet::best());
    assert!(query.iter().all(|value| value.is_finite() && *value != 0.0));
    for gradient in [key, value] {
        for (index, of_frame) in gradient.chunks_exact(5 * 8).enumerate() {
            assert!(of_frame.iter().all(|value| (*value != 0.0) == (index % 2 == 0)));
        }
    }
}

#[test]
fn result_does_not_depend_on_threads() {
    let case = Case::masked(&MaskFamily::paper(2).frame_mask(4).unwrap(), 144, 48);
    let gradients = [1, 2, 5].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| case.run(InstructionSet::best()))
    });
    assert!(gradients.iter().all(|others| *others == gradients[0]));
}

#[test]
fn what_does_not_fit_is_refused() {
    let case = Case::masked(&FrameMask::full(1).unwrap(), 3, 4);
    let forward = TileAttentionInput {
        query: &case.query,
        key: &case.key,
        value: Some(&case.value),
        kept: KeptFrames { offsets: &[0, 1], frames: &[0] },
        key_bias: None,
        scale: 0.5,
    };
    let good = TileAttentionBackwardInput {
        forward,
        output: &case.query,
        row_log_sums: &case.query[..12],
        output_gradient: &case.output_gradient,
    };
    let mut numbers = [vec![7.0; 48], vec![7.0; 48], vec![7.0; 48]];
    let [query, key, value] = &mut numbers;
    let mut run = |input: TileAttentionBackwardInput| {
        let gradients =
            TileAttentionGradients { query: query.as_mut_slice(), key: key.as_mut_slice(), value: value.as_mut_slice() };
        tile_attention_backward(InstructionSet::best(), &case.shape, &input, gradients).unwrap_err()
    };
    for (input, what, expected) in [
        (TileAttentionBackwardInput { output: &[], ..good }, "output", 48),
        (TileAttentionBackwardInput { row_log_sums: &[], ..good }, "list of row log-sums", 12),
        (TileAttentionBackwardInput { output_gradient: &[], ..good }, "gradient of the output", 48),
        (TileAttentionBackwardInput { forward: TileAttentionInput { value: None, ..forward }, ..good }, "value", 48),
    ] {
        assert_eq!(run(input), TileAttentionError::WrongLength { what, found: 0, expected });
    }
    assert!(numbers.iter().flatten().all(|&value| value == 7.0));
}
