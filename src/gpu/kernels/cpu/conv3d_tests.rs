use super::*;
use crate::gpu::kernels::cpu::lanes::InstructionSet;

/// Numbers in -1..1 that only depend on the seed.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// The definition, in f64, from the published order of the weight.
fn brute_force(shape: &Conv3dShape, input: &Conv3dInput, weight: &[f32]) -> Vec<f64> {
    let [out_frames, out_height, out_width] = shape.output().unwrap();
    let Conv3dShape { frames, height, width, in_channels, out_channels, kernel, stride, padding, .. } = *shape;
    let read = |batch: usize, frame: usize, row: usize, column: usize, channel: usize| {
        let value = f64::from(input.values[(((batch * frames + frame) * height + row) * width + column) * in_channels + channel]);
        let Some(affine) = input.normalise else { return value };
        let group = if affine.frame_groups == 1 { 0 } else { frame };
        let at = (batch * affine.frame_groups + group) * 2 * in_channels + channel;
        let value = value * f64::from(affine.values[at]) + f64::from(affine.values[at + in_channels]);
        if affine.silu { value / (1.0 + (-value).exp()) } else { value }
    };
    let mut out = Vec::new();
    for batch in 0..shape.batch {
        for frame in 0..out_frames {
            for (row, column) in (0..out_height).flat_map(|row| (0..out_width).map(move |column| (row, column))) {
                for channel in 0..out_channels {
                    let mut sum = input.bias.map_or(0.0, |bias| f64::from(bias[channel]));
                    for (tap, (t, y, x)) in (0..kernel[0])
                        .flat_map(|t| (0..kernel[1]).flat_map(move |y| (0..kernel[2]).map(move |x| (t, y, x))))
                        .enumerate()
                    {
                        let source = (frame * stride[0] + t).saturating_sub(padding.causal_frames);
                        let y = (row * stride[1] + y).wrapping_sub(padding.top);
                        let x = (column * stride[2] + x).wrapping_sub(padding.left);
                        if y >= height || x >= width {
                            continue;
                        }
                        for from in 0..in_channels {
                            let taps = kernel.iter().product::<usize>();
                            let weight = f64::from(weight[(channel * in_channels + from) * taps + tap]);
                            sum += weight * read(batch, source, y, x, from);
                        }
                    }
                    out.push(sum + input.residual.map_or(0.0, |residual| f64::from(residual[out.len()])));
                }
            }
        }
    }
    out
}

fn relative_l2(got: &[f32], want: &[f64]) -> f64 {
    let error: f64 = got.iter().zip(want).map(|(&got, want)| (f64::from(got) - want).powi(2)).sum();
    (error / want.iter().map(|want| want * want).sum::<f64>()).sqrt()
}

/// Which of normalisation, SiLU, one group a frame, bias and residual a case has.
#[derive(Clone, Copy, Debug)]
struct Extras {
    normalise: bool,
    silu: bool,
    each_frame: bool,
    bias: bool,
    residual: bool,
}

impl Extras {
    const NONE: Self = Self { normalise: false, silu: false, each_frame: false, bias: false, residual: false };
    const ALL: Self = Self { normalise: true, silu: true, each_frame: false, bias: true, residual: true };
}

/// Runs one case in every instruction set against brute force, also with Winograd's algorithm where it fits, and returns
/// the outputs.
fn check_case(shape: Conv3dShape, extras: Extras) -> Vec<Vec<f32>> {
    let taps: usize = shape.kernel.iter().product();
    let values = numbers(1, shape.input_len());
    let weight = numbers(2, taps * shape.in_channels * shape.out_channels);
    let bias = numbers(3, shape.out_channels);
    let frame_groups = if extras.each_frame { shape.frames } else { 1 };
    let affine = numbers(4, shape.batch * frame_groups * 2 * shape.in_channels);
    let residual = numbers(5, shape.output_len().unwrap());
    let input = Conv3dInput {
        values: &values,
        normalise: extras.normalise.then_some(ChannelAffine { values: &affine, frame_groups, silu: extras.silu }),
        bias: extras.bias.then_some(&bias),
        residual: extras.residual.then_some(&residual),
    };
    let want = brute_force(&shape, &input, &weight);
    let mut outputs = Vec::new();
    let fits_winograd = shape.kernel[1..] == [3, 3] && shape.stride[1..] == [1, 1] && shape.in_channels.is_multiple_of(16);
    for winograd in [false, true].into_iter().take(1 + usize::from(fits_winograd)) {
        for set in InstructionSet::available() {
            let Conv3dShape { in_channels, out_channels, kernel, .. } = shape;
            let packed =
                PackedConv3dWeight::pack(&weight, WeightLayout::Published, out_channels, in_channels, kernel, winograd, set);
            let mut out = vec![f32::NAN; want.len()];
            conv3d(&shape, input, &packed.unwrap(), &mut out).unwrap();
            let error = relative_l2(&out, &want);
            let tolerance = if winograd { 1e-6 } else { 5e-7 };
            assert!(error <= tolerance, "{set:?}, Winograd {winograd}, {shape:?} {extras:?}: relative L2 {error:e}");
            outputs.push(out);
        }
    }
    outputs
}

fn shape(channels: [usize; 2], size: [usize; 3], kernel: [usize; 3]) -> Conv3dShape {
    Conv3dShape {
        batch: 1,
        frames: size[0],
        height: size[1],
        width: size[2],
        in_channels: channels[0],
        out_channels: channels[1],
        kernel,
        stride: [1, 1, 1],
        padding: ConvPadding {
            causal_frames: kernel[0] - 1,
            top: kernel[1] / 2,
            bottom: kernel[1] / 2,
            left: kernel[2] / 2,
            right: kernel[2] / 2,
        },
    }
}

#[test]
fn kernels_and_channels() {
    for kernel in [[1, 1, 1], [3, 3, 3], [1, 3, 3], [3, 1, 1], [2, 2, 3]] {
        for channels in [[1, 1], [2, 2], [4, 33], [5, 7], [32, 32], [64, 3], [17, 4], [33, 70]] {
            let mut case = shape(channels, [3, 5, 7], kernel);
            case.batch = 2;
            check_case(case, Extras::NONE);
            check_case(case, Extras::ALL);
        }
    }
}

#[test]
fn strides_and_paddings() {
    for stride in [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 1, 3], [4, 4, 4]] {
        for padding in [[0, 0, 0, 0, 0], [2, 1, 1, 1, 1], [2, 0, 1, 0, 1], [1, 2, 0, 0, 3], [3, 0, 0, 4, 0]] {
            for channels in [[19, 21], [32, 2]] {
                let [causal_frames, top, bottom, left, right] = padding;
                let padding = ConvPadding { causal_frames, top, bottom, left, right };
                let case = Conv3dShape { stride, padding, ..shape(channels, [5, 6, 9], [3, 3, 3]) };
                check_case(case, Extras::ALL);
            }
        }
    }
}

#[test]
fn strips_bands_and_chunks() {
    // Wider than a strip, and a width that no block divides.
    check_case(shape([8, 8], [2, 4, 203], [3, 3, 3]), Extras::ALL);
    // More input channels than a chunk.
    check_case(shape([330, 40], [2, 3, 4], [3, 3, 3]), Extras::ALL);
    check_case(shape([330, 3], [2, 3, 14], [3, 3, 3]), Extras::ALL);
    check_case(shape([32, 40], [3, 23, 61], [3, 3, 3]), Extras::ALL);
    check_case(shape([272, 33], [2, 5, 27], [1, 3, 3]), Extras::ALL);
    // A padding wider than a strip.
    let mut wide = shape([2, 3], [1, 2, 3], [1, 1, 2]);
    wide.padding.left = 250;
    wide.padding.right = 130;
    check_case(wide, Extras::ALL);
}

#[test]
fn statistics_of_every_frame() {
    let extras = Extras { each_frame: true, ..Extras::ALL };
    check_case(shape([32, 32], [4, 5, 6], [3, 3, 3]), extras);
    check_case(shape([32, 32], [4, 5, 6], [1, 3, 3]), Extras { silu: false, ..extras });
}

#[test]
fn instruction_sets_with_fused_multiply_add_agree_in_every_bit() {
    for channels in [[64, 64], [33, 70], [48, 3], [200, 20]] {
        let outputs = check_case(shape(channels, [3, 5, 30], [3, 3, 3]), Extras::ALL);
        for outputs in outputs.chunks(InstructionSet::available().len()) {
            assert!(outputs[1..].windows(2).all(|pair| pair[0] == pair[1]), "{channels:?}");
        }
    }
}

#[test]
fn result_does_not_depend_on_threads() {
    let case = shape([16, 16], [9, 41, 51], [3, 3, 3]);
    let values = numbers(1, case.input_len());
    let weight = numbers(2, 27 * 16 * 16);
    let input = Conv3dInput { values: &values, normalise: None, bias: None, residual: None };
    for winograd in [false, true] {
        let set = InstructionSet::best();
        let packed = PackedConv3dWeight::pack(&weight, WeightLayout::Published, 16, 16, case.kernel, winograd, set).unwrap();
        let outputs = [1, 2, 3, 7, 40].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0.0; case.output_len().unwrap()];
            pool.install(|| conv3d(&case, input, &packed, &mut out)).unwrap();
            out
        });
        assert!(outputs.iter().all(|out| *out == outputs[0]));
    }
}

#[test]
fn both_orders_pack_the_same() {
    let (taps, inputs, outputs) = (12, 5, 7);
    let published = numbers(9, taps * inputs * outputs);
    let mut by_taps = Vec::new();
    for tap in 0..taps {
        for input in 0..inputs {
            by_taps.extend((0..outputs).map(|output| published[(output * inputs + input) * taps + tap]));
        }
    }
    let set = InstructionSet::best();
    let first = PackedConv3dWeight::from_published(&published, outputs, inputs, [3, 2, 2], set).unwrap();
    let second = PackedConv3dWeight::from_taps(&by_taps, outputs, inputs, [3, 2, 2], set).unwrap();
    assert_eq!(first.panel(0, 0), second.panel(0, 0));
}

#[test]
fn order_is_chosen_by_shape() {
    let set = InstructionSet::best();
    let order = |shape: &Conv3dShape| {
        let weight = vec![0.5; shape.kernel.iter().product::<usize>() * shape.in_channels * shape.out_channels];
        PackedConv3dWeight::for_shape(&weight, WeightLayout::Taps, shape, set).unwrap()
    };
    let large = shape([32, 32], [4, 16, 16], [3, 3, 3]);
    assert_eq!(order(&large).order(), Order::Winograd);
    let strided = Conv3dShape { stride: [1, 2, 2], ..large };
    assert_eq!(order(&strided).order(), Order::Panels);
    assert_eq!(order(&Conv3dShape { height: 4, ..large }).order(), Order::Panels);
    assert_eq!(order(&Conv3dShape { out_channels: 3, ..large }).order(), Order::Rows);
    let values = vec![0.0; large.input_len()];
    let input = Conv3dInput { values: &values, normalise: None, bias: None, residual: None };
    let mut out = vec![0.0; strided.output_len().unwrap()];
    let error = conv3d(&strided, input, &order(&large), &mut out).unwrap_err();
    assert!(matches!(error, Conv3dError::WrongWeight { .. }));
}

#[test]
fn what_does_not_fit_is_refused() {
    let good = shape([4, 4], [2, 3, 3], [3, 3, 3]);
    let weight = numbers(1, 27 * 16);
    let packed = PackedConv3dWeight::from_published(&weight, 4, 4, good.kernel, InstructionSet::best()).unwrap();
    let values = numbers(2, good.input_len());
    let input = Conv3dInput { values: &values, normalise: None, bias: None, residual: None };
    let mut out = vec![7.0; good.output_len().unwrap()];
    let mut run = |shape: &Conv3dShape, input: Conv3dInput| conv3d(shape, input, &packed, &mut out).unwrap_err();

    assert_eq!(run(&Conv3dShape { stride: [1, 0, 1], ..good }, input), Conv3dError::Empty { what: "stride" });
    assert_eq!(run(&Conv3dShape { frames: 0, ..good }, input), Conv3dError::Empty { what: "frames" });
    let padding = ConvPadding { causal_frames: 0, ..good.padding };
    let error = run(&Conv3dShape { padding, ..good }, input);
    assert_eq!(error, Conv3dError::InputTooSmall { axis: "time", padded: 2, kernel: 3 });
    let error = run(&good, Conv3dInput { values: &values[1..], ..input });
    assert_eq!(error, Conv3dError::WrongLength { what: "input", found: 71, expected: 72 });
    let error = run(&good, Conv3dInput { bias: Some(&values[..3]), ..input });
    assert_eq!(error, Conv3dError::WrongLength { what: "bias", found: 3, expected: 4 });
    let affine = ChannelAffine { values: &values[..24], frame_groups: 3, silu: true };
    let error = run(&good, Conv3dInput { normalise: Some(affine), ..input });
    assert_eq!(error, Conv3dError::WrongFrameGroups { found: 3, frames: 2 });
    let error = run(&Conv3dShape { kernel: [1, 3, 3], padding: ConvPadding { causal_frames: 0, ..good.padding }, ..good }, input);
    assert!(matches!(error, Conv3dError::WrongWeight { .. }));
    assert!(out.iter().all(|&value| value == 7.0));
    let error = PackedConv3dWeight::from_published(&weight[1..], 4, 4, good.kernel, InstructionSet::best()).err();
    assert_eq!(error, Some(Conv3dError::WrongLength { what: "weight", found: 431, expected: 432 }));
}
