//! Gradients of the products and of the normalisation, as training takes them, on every kind of device: against sums in f64 that
//! take each term of the definition, and against finite differences of the definition where it is not linear.

use burn::tensor::Gradients;
use tilereel::gpu::kernels::doubling::{Doubling, double};
use tilereel::gpu::kernels::gradient::column_sums;
use tilereel::gpu::kernels::group_norm::{channel_norm, group_norm};
use tilereel::gpu::kernels::join::join;

use super::*;

/// A parameter or an input whose gradient is asked for, as the device stores it.
fn leaf<const D: usize>(device: &ComputeDevice, values: &[f32], shape: [usize; D]) -> Tensor<D> {
    tensor(device, values, shape).autodiff().require_grad()
}

fn leaf_in_f32<const D: usize>(device: &ComputeDevice, values: &[f32], shape: [usize; D]) -> Tensor<D> {
    exact(device, values, shape).autodiff().require_grad()
}

/// The gradients of `sum(y * back)`.
fn backward<const D: usize>(device: &ComputeDevice, y: Tensor<D>, back: &[f32]) -> Gradients {
    let back = exact(device, back, y.dims()).autodiff();
    (y.cast(FloatDType::F32) * back).sum().backward()
}

fn gradient_of<const D: usize>(leaf: &Tensor<D>, gradients: &Gradients) -> Vec<f32> {
    read(leaf.grad(gradients).expect("a gradient"))
}

/// Sums leave in f32 on every device. Matrices may cut off where other sums round; terms of 11 bits would show at 2e-4.
fn assert_sums_close(device: &ComputeDevice, what: &str, got: &[f32], want: &[f64]) {
    let error = relative_l2(got, want);
    println!("{} {}: {what}: {error:.1e}", device.name, device.precision);
    let limit = if device.tier == KernelTier::Matrix { 5e-5 } else { 1e-5 };
    assert!(error <= limit, "{} {}: {what}: {error:.2e}", device.name, device.precision);
}

#[test]
fn gradients_of_convolutions() {
    let cases = [
        ("causal", SAME, [2, 3, 7, 9, 35], 67),
        ("causal, one frame", SAME, [1, 1, 5, 4, 32], 3),
        ("frame by frame", FRAME, [1, 2, 6, 5, 3], 32),
        ("pixel by pixel", POINT, [2, 2, 5, 3, 4], 8),
        ("halving all", HALF, [1, 5, 9, 8, 33], 65),
        ("halving frames", HALF_FRAME, [1, 2, 8, 7, 64], 64),
        ("halving an even number of frames", HALF, [2, 4, 7, 6, 8], 12),
        ("many pixels", SAME, [2, 2, 33, 41, 8], 4),
        ("channels in fours", SAME, [2, 3, 5, 19, 36], 68),
        ("few channels in fours", HALF, [1, 4, 7, 6, 4], 12),
        ("one pixel", FRAME, [1, 1, 1, 1, 4], 4),
        ("steps in one axis", HALF_FRAME, [1, 2, 9, 33, 20], 64),
    ];
    on_each_device(|device| {
        for (name, geometry, input, channels_out) in cases {
            let [batch, frames, height, width, channels] = input;
            let [frames_out, height_out, width_out] = geometry.output([frames, height, width]);
            let output = [batch, frames_out, height_out, width_out, channels_out];
            let weights = [geometry.taps(), channels, channels_out];
            let x = stored(&device, seeded(4, input.iter().product()));
            let weight = stored(&device, seeded(5, weights.iter().product()).iter().map(|w| w / 8.0).collect());
            let (bias, residual) = (seeded(6, channels_out), seeded(8, output.iter().product()));
            let back = stored(&device, seeded(10, output.iter().product()));
            let sizes = reference::Conv3d { input, channels_out, geometry };
            let (of_input, of_weight) = reference::conv3d_gradients(&sizes, &x, &weight, &back);

            let (x, weight) = (leaf(&device, &x, input), leaf(&device, &weight, weights));
            let (bias, residual) = (leaf(&device, &bias, [channels_out]), leaf(&device, &residual, output));
            leave_junk(&device, x.dims().iter().product());
            let y = conv3d(x.clone(), weight.clone(), bias.clone(), None, Some(residual.clone()), geometry);
            let gradients = backward(&device, y, &back);
            let what = |of: &str| format!("{name}: gradient of the {of}");
            assert_close(&device, &what("input"), &gradient_of(&x, &gradients), &of_input, 2e-6);
            assert_sums_close(&device, &what("weight"), &gradient_of(&weight, &gradients), &of_weight);
            let of_bias = reference::column_sums(channels_out, &back);
            assert_sums_close(&device, &what("bias"), &gradient_of(&bias, &gradients), &of_bias);
            assert!(gradient_of(&residual, &gradients) == back, "{name}: the residual's gradient is the output's");
        }
    });
}

/// The reference itself: `<dy, conv(v)> = <dx, v>` for any direction, and so for the weight.
#[test]
fn the_reference_of_gradients_is_the_adjoint_of_the_convolution() {
    for (geometry, input, channels_out) in [(SAME, [2, 3, 5, 4, 3], 2), (HALF, [1, 5, 6, 5, 2], 3), (HALF, [1, 4, 5, 6, 2], 3)] {
        let [_, frames, height, width, channels] = input;
        let sizes = reference::Conv3d { input, channels_out, geometry };
        let x = seeded(1, input.iter().product());
        let weight = seeded(2, geometry.taps() * channels * channels_out);
        let bias = vec![0.0; channels_out];
        let outputs = geometry.output([frames, height, width]).iter().product::<usize>() * input[0] * channels_out;
        let back = seeded(3, outputs);
        let (of_input, of_weight) = reference::conv3d_gradients(&sizes, &x, &weight, &back);
        let inner = |left: &[f64], right: &[f32]| left.iter().zip(right).map(|(l, &r)| l * f64::from(r)).sum::<f64>();
        for seed in 20..24 {
            let (along_x, along_weight) = (seeded(seed, x.len()), seeded(seed + 10, weight.len()));
            let moved = inner(&reference::conv3d(&sizes, &along_x, &weight, &bias, None, None), &back);
            assert!((moved - inner(&of_input, &along_x)).abs() < 1e-9, "{geometry:?}: input");
            let moved = inner(&reference::conv3d(&sizes, &x, &along_weight, &bias, None, None), &back);
            assert!((moved - inner(&of_weight, &along_weight)).abs() < 1e-9, "{geometry:?}: weight");
        }
    }
}

/// As the rows of a table are chosen: few columns, no bias, and only the table has a gradient.
#[test]
fn gradients_of_a_long_product() {
    on_each_device(|device| {
        for [rows, inner, columns] in [[2304, 32, 4], [1537, 67, 20]] {
            let (x, back) = (stored(&device, seeded(12, rows * inner)), stored(&device, seeded(15, rows * columns)));
            let weight = stored(&device, seeded(13, inner * columns));
            let call = reference::Conv3d { input: [1, 1, 1, rows, inner], channels_out: columns, geometry: POINT };
            let (_, of_weight) = reference::conv3d_gradients(&call, &x, &weight, &back);
            let want = reference::linear([inner, columns], &x, &weight, None, false);
            let weight = leaf(&device, &weight, [inner, columns]);
            leave_junk(&device, rows * columns);
            let y = linear(tensor(&device, &x, [rows, inner]).autodiff(), weight.clone(), None, Activation::None);
            assert_close(&device, &format!("{rows} x {inner} x {columns}"), &read(y.clone().inner()), &want, 5e-6);
            let gradients = backward(&device, y, &back);
            let what = format!("{rows} x {inner} x {columns}: weight");
            assert_sums_close(&device, &what, &gradient_of(&weight, &gradients), &of_weight);
        }
    });
}

#[test]
fn gradients_of_layers() {
    on_each_device(|device| {
        for [rows, inner, columns] in [[300, 128, 520], [129, 104, 264], [700, 192, 192], [33, 30, 35], [17, 4, 12]] {
            let x = stored(&device, seeded(12, rows * inner));
            let weight = stored(&device, seeded(13, inner * columns).into_iter().map(|weight| weight / 4.0).collect());
            let (bias, back) = (seeded(14, columns), stored(&device, seeded(15, rows * columns)));
            let call = reference::Conv3d { input: [1, 1, 1, rows, inner], channels_out: columns, geometry: POINT };
            let (of_x, of_weight) = reference::conv3d_gradients(&call, &x, &weight, &back);
            let (x, weight) = (leaf(&device, &x, [1, rows, inner]), leaf(&device, &weight, [inner, columns]));
            let bias = leaf(&device, &bias, [columns]);
            let y = linear(x.clone(), weight.clone(), Some(bias.clone()), Activation::None);
            let gradients = backward(&device, y, &back);
            let what = format!("{rows} x {inner} x {columns}");
            assert_close(&device, &format!("{what}: input"), &gradient_of(&x, &gradients), &of_x, 5e-6);
            assert_close(&device, &format!("{what}: weight"), &gradient_of(&weight, &gradients), &of_weight, 1e-5);
            let of_bias = reference::column_sums(columns, &back);
            assert_close(&device, &format!("{what}: bias"), &gradient_of(&bias, &gradients), &of_bias, 1e-5);
        }
    });
}

/// More rows than a workgroup takes, so that parts are added, by one thread a value and by several; columns in fours and others.
#[test]
fn sums_of_very_many_pixels() {
    for device in devices() {
        for (rows, columns) in [(70_000, 8), (70_003, 3), (40, 1100), (5, 2), (3333, 192), (131, 12)] {
            let x = stored(&device, seeded(16, rows * columns));
            leave_junk(&device, columns);
            let got = read(column_sums(tensor(&device, &x, [rows, columns])));
            assert_sums_close(&device, &format!("columns of {rows} x {columns}"), &got, &reference::column_sums(columns, &x));
        }
        let (input, channels_out) = ([3, 1, 60, 70, 6], 5);
        let [batch, _, height, width, _] = input;
        let x = stored(&device, seeded(4, input.iter().product()));
        let back = stored(&device, seeded(10, batch * height * width * channels_out));
        let sizes = reference::Conv3d { input, channels_out, geometry: FRAME };
        let (_, want) = reference::conv3d_gradients(&sizes, &x, &vec![0.0; 9 * 6 * 5], &back);
        let back = tensor(&device, &back, [batch, 1, height, width, channels_out]);
        let x = tensor(&device, &x, input);
        let run = |tier| read(weight_gradient(x.clone(), back.clone(), FRAME, tier));
        let got = run(ShaderTier::Plain);
        assert_sums_close(&device, "gradient of a weight in parts", &got, &want);
        // Channels that are not whole vectors, and a tier whose gradients failed, are the plain tier's.
        for tier in [ShaderTier::Subgroup, ShaderTier::SubgroupForward] {
            assert!(run(tier) == got, "{tier:?} has gradients of its own");
        }
    }
}

/// Vectors of all lengths, some of them views into a larger one, in as many as fit one launch and in more.
#[test]
fn vectors_end_to_end() {
    for device in devices() {
        for count in [1, 2, 3, 6, 7, 50] {
            let lengths: Vec<usize> = (0..count).map(|i| [1, 64, 1025, 3, 5000, 0, 255][i % 7].max(1)).collect();
            let values = stored(&device, seeded(17, lengths.iter().sum()));
            let whole = tensor(&device, &values, [values.len()]);
            leave_junk(&device, values.len());
            let mut end = 0;
            let pieces = lengths.iter().map(|&length| {
                end += length;
                whole.clone().narrow(0, end - length, length)
            });
            let got = read(join(pieces.collect()));
            assert!(got == values, "{} {}: {count} vectors", device.name, device.precision);
        }
    }
}

/// A norm of groups of so many channels, with SiLU, of `[batch, pixels, channels]` by its definition.
fn normalised(
    [batch, pixels, channels]: [usize; 3],
    members: usize,
    [x, weight, bias]: [&[f64]; 3],
    with_silu: bool,
) -> Vec<f64> {
    let mut y = vec![0.0; x.len()];
    for clip in 0..batch {
        for group in 0..channels / members {
            let places: Vec<usize> = (0..pixels * members)
                .map(|at| (clip * pixels + at / members) * channels + group * members + at % members)
                .collect();
            let mean = places.iter().map(|&at| x[at]).sum::<f64>() / places.len() as f64;
            let variance = places.iter().map(|&at| (x[at] - mean).powi(2)).sum::<f64>() / places.len() as f64;
            for at in places {
                let z = (x[at] - mean) / (variance + EPSILON).sqrt() * weight[at % channels] + bias[at % channels];
                y[at] = if with_silu { z / (1.0 + (-z).exp()) } else { z };
            }
        }
    }
    y
}

#[test]
fn gradients_of_group_norm() {
    for device in devices() {
        for (channels, members, offset, with_silu) in
            [(GROUPS, 1, 0.0, true), (2 * GROUPS, 2, 3.0, true), (3 * GROUPS, 3, -1.0, false), (2 * GROUPS, 1, 1.0, true)]
        {
            let norm = if channels / members == GROUPS { group_norm } else { channel_norm };
            let shape = [2, 2, 3, 5, channels];
            let sizes = [2, 2 * 3 * 5, channels];
            let x = stored(&device, seeded(9, shape.iter().product()).into_iter().map(|value| value + offset).collect());
            let (weight, bias) = (seeded(10, channels), seeded(11, channels));
            let back = stored(&device, seeded(12, x.len()));
            let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<f64>>();
            let operands = [wide(&x), wide(&weight), wide(&bias)];
            let loss = |operands: &[Vec<f64>; 3]| -> f64 {
                let y = normalised(sizes, members, [&operands[0], &operands[1], &operands[2]], with_silu);
                y.iter().zip(&back).map(|(y, &back)| y * f64::from(back)).sum()
            };
            let differences = |which: usize| -> Vec<f64> {
                let step = 1e-5;
                let moved = |at: usize, by: f64| {
                    let mut operands = operands.clone();
                    operands[which][at] += by;
                    loss(&operands)
                };
                (0..operands[which].len()).map(|at| (moved(at, step) - moved(at, -step)) / (2.0 * step)).collect()
            };
            let what = |of: &str| format!("norm of {members} channels around {offset}, {channels} channels: {of}");
            let y = read(norm(
                tensor(&device, &x, shape),
                exact(&device, &weight, [channels]),
                exact(&device, &bias, [channels]),
                with_silu,
            ));
            let want = normalised(sizes, members, [&operands[0], &operands[1], &operands[2]], with_silu);
            assert_close(&device, &what("values"), &y, &want, 1e-5);

            let x = leaf(&device, &x, shape);
            let (weight, bias) = (leaf_in_f32(&device, &weight, [channels]), leaf_in_f32(&device, &bias, [channels]));
            leave_junk(&device, x.dims().iter().product());
            let gradients = backward(&device, norm(x.clone(), weight.clone(), bias.clone(), with_silu), &back);
            assert_close(&device, &what("input"), &gradient_of(&x, &gradients), &differences(0), 1e-5);
            assert_sums_close(&device, &what("weight"), &gradient_of(&weight, &gradients), &differences(1));
            assert_sums_close(&device, &what("bias"), &gradient_of(&bias, &gradients), &differences(2));
        }
    }
}

/// Where each place of a doubled axis reads: source position max((i + 0.5) / 2 - 0.5, 0), clamped at the end.
fn linear_taps(length: usize) -> Vec<Vec<(usize, f64)>> {
    let taps = |i: usize| {
        let position = ((i as f64 + 0.5) / 2.0 - 0.5).max(0.0);
        let low = position.floor() as usize;
        let weight = position - low as f64;
        vec![(low, 1.0 - weight), ((low + 1).min(length - 1), weight)]
    };
    (0..2 * length).map(taps).collect()
}

#[test]
fn doublings_and_their_gradients() {
    for device in devices() {
        for (doubling, [batch, frames, height, width, channels]) in [
            (Doubling::LinearAfterFirstFrame, [2, 4, 3, 5, 8]),
            (Doubling::LinearAfterFirstFrame, [1, 1, 4, 1, 4]),
            (Doubling::LinearAfterFirstFrame, [1, 2, 1, 2, 4]),
            (Doubling::Nearest, [2, 3, 4, 3, 12]),
        ] {
            let space = |length: usize| match doubling {
                Doubling::Nearest => (0..2 * length).map(|at| vec![(at / 2, 1.0)]).collect(),
                Doubling::LinearAfterFirstFrame => linear_taps(length),
            };
            let time: Vec<Vec<(usize, f64)>> = match doubling {
                Doubling::Nearest => (0..frames).map(|frame| vec![(frame, 1.0)]).collect(),
                Doubling::LinearAfterFirstFrame => {
                    let later = |taps: Vec<(usize, f64)>| taps.into_iter().map(|(frame, weight)| (frame + 1, weight)).collect();
                    [vec![(0, 1.0)]].into_iter().chain(linear_taps(frames - 1).into_iter().map(later)).collect()
                }
            };
            let (rows, columns) = (space(height), space(width));
            let shape = [batch, frames, height, width, channels];
            let output = [batch, time.len(), rows.len(), columns.len(), channels];
            let x = stored(&device, seeded(4, shape.iter().product()));
            let back = stored(&device, seeded(10, output.iter().product()));
            let (mut want, mut of_x) = (vec![0.0; back.len()], vec![0.0; x.len()]);
            for (to, want) in want.iter_mut().enumerate() {
                let (channel, at) = (to % channels, to / channels);
                let (column, row) = (at % columns.len(), at / columns.len() % rows.len());
                let (t, clip) = (at / (columns.len() * rows.len()) % time.len(), at / (columns.len() * rows.len() * time.len()));
                for &(from_t, share_t) in &time[t] {
                    for &(y, share_y) in &rows[row] {
                        for &(x_at, share_x) in &columns[column] {
                            let from = (((clip * frames + from_t) * height + y) * width + x_at) * channels + channel;
                            let share = share_t * share_y * share_x;
                            *want += share * f64::from(x[from]);
                            of_x[from] += share * f64::from(back[to]);
                        }
                    }
                }
            }
            let what = |of: &str| format!("{doubling:?} of {shape:?}: {of}");
            let x = leaf(&device, &x, shape);
            leave_junk(&device, back.len());
            let y = double(x.clone(), doubling);
            assert_eq!(y.dims(), output);
            assert_close(&device, &what("values"), &read(y.clone().inner()), &want, 1e-6);
            let gradients = backward(&device, y, &back);
            assert_close(&device, &what("gradient"), &gradient_of(&x, &gradients), &of_x, 1e-6);
        }
    }
}
