//! The transformer's kernels between its products, forward and backward: values against f64, gradients against its central
//! differences.

use burn::tensor::{DType, FloatDType, Tensor, TensorData};
use tilereel::gpu::device::{ComputeDevice, Precision};
use tilereel::gpu::kernels::gate_residual::{add_residual, gate_residual, stream_as};
use tilereel::gpu::kernels::gelu::gelu_tanh;
use tilereel::gpu::kernels::heads::{merge_heads, split_and_rotate_heads, split_heads};
use tilereel::gpu::kernels::norm_modulate::{NormPlace, ShiftAndScale, norm_modulate};
use tilereel::gpu::kernels::reference::transformer as reference;
use tilereel::gpu::kernels::reference::{self as references, relative_l2, seeded};
use tilereel::gpu::kernels::rms_norm::rms_norm;

use super::{devices, leave_junk, read, stored};

/// An operand: its values, and whether the device keeps it in f32 whatever its storage type.
struct Operand<const D: usize> {
    values: Vec<f32>,
    shape: [usize; D],
    is_f32: bool,
}

impl<const D: usize> Operand<D> {
    fn new(device: &ComputeDevice, seed: u64, shape: [usize; D], is_f32: bool) -> Self {
        let values = seeded(seed, shape.iter().product()).into_iter().map(|value| 2.0 * value + 0.25).collect();
        Self { values: if is_f32 { values } else { stored(device, values) }, shape, is_f32 }
    }

    fn wide(&self) -> Vec<f64> {
        self.values.iter().map(|&value| f64::from(value)).collect()
    }

    /// On the device, without gradients.
    fn tensor(&self, device: &ComputeDevice) -> Tensor<D> {
        self.put(device, &device.device)
    }

    /// On the device, with gradients.
    fn leaf(&self, device: &ComputeDevice) -> Tensor<D> {
        self.put(device, &device.device.clone().autodiff()).require_grad()
    }

    fn put(&self, device: &ComputeDevice, place: &burn::tensor::Device) -> Tensor<D> {
        let tensor = Tensor::<D>::from_data(TensorData::new(self.values.clone(), self.shape), place);
        if self.is_f32 { tensor } else { tensor.cast(device.precision.dtype()) }
    }
}

/// Weights of a sum over an output, such that the device holds them exactly.
fn weights(device: &ComputeDevice, count: usize) -> Vec<f32> {
    stored(device, seeded(90, count))
}

/// The gradients of the weighted sum over the output.
fn backward<const D: usize>(device: &ComputeDevice, output: Tensor<D>) -> burn::tensor::Gradients {
    let shape = output.dims();
    let weights = weights(device, shape.iter().product());
    leave_junk(device, weights.len());
    let weights = Tensor::<D>::from_data(TensorData::new(weights, shape), &device.device.clone().autodiff());
    (output.cast(FloatDType::F32) * weights).sum().backward()
}

fn gradient<const D: usize>(leaf: &Tensor<D>, gradients: &burn::tensor::Gradients) -> Vec<f32> {
    read(leaf.grad(gradients).expect("the leaf has a gradient"))
}

/// f32 throughout, or rounded to f16 at the end.
fn check(device: &ComputeDevice, what: &str, got: &[f32], want: &[f64], is_f32: bool) {
    let limit = if is_f32 || device.precision == Precision::F32 { 5e-6 } else { 6e-4 };
    let error = relative_l2(got, want);
    println!("{} {}: {what}: {error:.1e}", device.name, device.precision);
    assert!(error <= limit, "{} {}: {what}: {error:.2e} is more than {limit:.0e}", device.name, device.precision);
}

fn to_wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Central differences by all values.
fn differences(x: &[f64], weights: &[f32], function: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    reference::finite_differences(x, 0..x.len(), &to_wide(weights), function)
}

/// Compares a gradient with central differences: by all values, or by the last ones where they are many.
fn check_differences(
    device: &ComputeDevice,
    what: &str,
    got: &[f32],
    (x, weights): (&[f64], &[f32]),
    is_f32: bool,
    function: impl Fn(&[f64]) -> Vec<f64>,
) {
    let first = if x.len() < 2500 { 0 } else { x.len() - 200 };
    let want = reference::finite_differences(x, first..x.len(), &to_wide(weights), function);
    assert_eq!(got.len(), x.len(), "{what}");
    check(device, what, &got[first..], &want, is_f32);
}

#[test]
fn gelu_and_its_gradient() {
    let all = |x: &[f64]| x.iter().map(|&x| references::gelu_tanh(x)).collect::<Vec<_>>();
    for device in devices() {
        for shape in [[2, 5, 12], [1, 7, 3], [2, 51, 20]] {
            let mut x = Operand::new(&device, 80, shape, false);
            x.values.iter_mut().for_each(|value| *value *= 4.0);
            let (what, weights) = (format!("gelu of {shape:?}"), weights(&device, x.values.len()));
            leave_junk(&device, x.values.len());
            check(&device, &what, &read(gelu_tanh(x.tensor(&device))), &all(&x.wide()), false);
            let leaf = x.leaf(&device);
            let gradients = backward(&device, gelu_tanh(leaf.clone()));
            let want = differences(&x.wide(), &weights, all);
            check(&device, &format!("gradient of {what}"), &gradient(&leaf, &gradients), &want, false);
        }
    }
}

#[test]
fn gelu_of_huge_values_is_a_number() {
    for device in devices() {
        let most = if device.precision == Precision::F16 { 60_000.0 } else { 1e30 };
        let x = Operand { values: vec![most, -most, 100.0, -100.0, 0.0], shape: [5], is_f32: false };
        let leaf = x.leaf(&device);
        let output = gelu_tanh(leaf.clone());
        let gradients = output.clone().sum().backward();
        let near = |got: Vec<f32>, want: [f32; 5]| {
            // Far below zero the CPU's sigmoid ends at e^-80 instead of 0.
            let is_near = |(got, want): (&f32, f32)| (got - want).abs() <= 1e-4 + 1e-3 * want.abs();
            assert!(got.iter().zip(want).all(is_near), "{} {}: {got:?}", device.name, device.precision);
        };
        near(read(output), [most, 0.0, 100.0, 0.0, 0.0]);
        near(gradient(&leaf, &gradients), [1.0, 0.0, 1.0, 0.0, 0.5]);
    }
}

/// Widths in fours and not, that take a row's threads once and several times; tokens that fill a workgroup and not.
const SIZES: [[usize; 3]; 7] = [[2, 5, 24], [1, 33, 30], [2, 1, 192], [3, 40, 7], [1, 3, 2304], [2, 2, 1001], [1, 2, 5000]];

#[test]
fn norms_with_modulation_and_their_gradients() {
    let (table_rows, rows, epsilon) = (6, ShiftAndScale { shift: 3, scale: 4 }, 1e-6);
    for device in devices() {
        for shape @ [batch, tokens, width] in SIZES {
            let function = |x: &[f64], table: &[f64]| {
                reference::norm_modulate([tokens, width, table_rows], [rows.shift, rows.scale], epsilon, x, table)
            };
            let mut x = Operand::new(&device, 81, shape, true);
            // Far from zero, where sums of squares alone would cancel.
            x.values.iter_mut().for_each(|value| *value += 7.0);
            let table = Operand::new(&device, 82, [batch, table_rows, width], true);
            let (what, weights) = (format!("norm of {shape:?}"), weights(&device, x.values.len()));
            let run = |x, table| norm_modulate(x, table, rows, epsilon, device.precision.dtype().into(), NormPlace::Anywhere);
            leave_junk(&device, x.values.len());
            let output = read(run(x.tensor(&device), table.tensor(&device)));
            check(&device, &what, &output, &function(&x.wide(), &table.wide()), false);

            let (x_leaf, table_leaf) = (x.leaf(&device), table.leaf(&device));
            let gradients = backward(&device, run(x_leaf.clone(), table_leaf.clone()));
            let (got, at) = (gradient(&x_leaf, &gradients), (&*x.wide(), &*weights));
            check_differences(&device, &format!("gradient of the {what}"), &got, at, true, |x| function(x, &table.wide()));
            let table_gradient = gradient(&table_leaf, &gradients);
            let want = norm_table_gradient(&x.wide(), &weights, shape, table_rows, rows, epsilon);
            check(&device, &format!("gradient of the table of the {what}"), &table_gradient, &want, true);
        }
    }
}

/// A stream past a norm and past a layer without one: gradients from both sides meet in the backward pass of the branch.
#[test]
fn gradients_along_a_stream() {
    let (table_rows, rows, epsilon) = (3, ShiftAndScale { shift: 1, scale: 0 }, 1e-6);
    for device in devices() {
        let stored: DType = device.precision.dtype().into();
        for shape @ [batch, tokens, width] in SIZES {
            let sizes = [tokens, width, table_rows];
            let function = |x: &[f64], table: &[f64]| {
                let branch = reference::norm_modulate(sizes, [rows.shift, rows.scale], epsilon, x, table);
                let x = reference::gate_residual(sizes, Some((table, 2)), x, &branch);
                reference::gate_residual(sizes, None, &x, &x)
            };
            let x = Operand::new(&device, 96, shape, true);
            let table = Operand::new(&device, 97, [batch, table_rows, width], true);
            let (what, weights) = (format!("stream of {shape:?}"), weights(&device, x.values.len()));
            // A leaf's own gradient is burn's to add up, a value's on the way is not.
            for on_the_way in [true, false] {
                let (x_leaf, table_leaf) = (x.leaf(&device), table.leaf(&device));
                let stream = if on_the_way { x_leaf.clone() * 1.0 } else { x_leaf.clone() };
                leave_junk(&device, x.values.len());
                let branch = norm_modulate(stream.clone(), table_leaf.clone(), rows, epsilon, stored, NormPlace::Stream);
                let stream = gate_residual(stream, branch, table_leaf.clone(), 2);
                let output = add_residual(stream.clone(), stream_as(stream, stored));
                let gradients = backward(&device, output);
                let (got, at) = (gradient(&x_leaf, &gradients), (&*x.wide(), &*weights));
                check_differences(&device, &format!("gradient of the {what}"), &got, at, false, |x| function(x, &table.wide()));
            }
            if device.precision == Precision::F16 {
                let leaf = x.leaf(&device);
                let gradients = backward(&device, add_residual(leaf.clone(), stream_as(leaf.clone(), stored)));
                let twice: Vec<f64> = weights.iter().map(|&weight| 2.0 * f64::from(weight)).collect();
                check(&device, &format!("gradient of a stored {what}"), &gradient(&leaf, &gradients), &twice, false);
            }
        }
    }
}

#[test]
fn norms_by_the_root_mean_square_and_their_gradients() {
    let epsilon = 1e-6;
    for device in devices() {
        for shape @ [_, _, width] in SIZES.into_iter().chain([[4, 40, 48]]) {
            let function = |x: &[f64], weight: &[f64]| reference::rms_norm(epsilon, x, weight);
            let (x, weight) = (Operand::new(&device, 93, shape, true), Operand::new(&device, 94, [width], true));
            let (what, weights) = (format!("root mean square of {shape:?}"), weights(&device, x.values.len()));
            let run = |x, weight| rms_norm(x, weight, epsilon, device.precision.dtype().into());
            leave_junk(&device, x.values.len());
            let output = read(run(x.tensor(&device), weight.tensor(&device)));
            check(&device, &what, &output, &function(&x.wide(), &weight.wide()), false);

            let (x_leaf, weight_leaf) = (x.leaf(&device), weight.leaf(&device));
            let gradients = backward(&device, run(x_leaf.clone(), weight_leaf.clone()));
            let (got, at) = (gradient(&x_leaf, &gradients), (&*x.wide(), &*weights));
            check_differences(&device, &format!("gradient of the {what}"), &got, at, true, |x| function(x, &weight.wide()));
            let (got, at) = (gradient(&weight_leaf, &gradients), (&*weight.wide(), &*weights));
            let what = format!("gradient of the weight of the {what}");
            check_differences(&device, &what, &got, at, true, |weight| function(&x.wide(), weight));
        }
    }
}

/// The function is linear in the table, so its gradient is a sum.
fn norm_table_gradient(
    x: &[f64],
    weights: &[f32],
    [batch, tokens, width]: [usize; 3],
    table_rows: usize,
    rows: ShiftAndScale,
    epsilon: f64,
) -> Vec<f64> {
    let normal = reference::norm_modulate([tokens, width, 2], [0, 1], epsilon, x, &vec![0.0; batch * 2 * width]);
    let mut gradient = vec![0.0; batch * table_rows * width];
    for (at, (normal, &weight)) in normal.iter().zip(weights).enumerate() {
        let (clip, column) = (at / (tokens * width), at % width);
        gradient[(clip * table_rows + rows.shift) * width + column] += f64::from(weight);
        gradient[(clip * table_rows + rows.scale) * width + column] += f64::from(weight) * normal;
    }
    gradient
}

/// As in training: enough tokens for many chunks of several rounds, whose sums must all be found.
#[test]
fn sums_over_many_tokens() {
    let (table_rows, rows, epsilon) = (6, ShiftAndScale { shift: 0, scale: 1 }, 1e-6);
    for device in devices() {
        for shape @ [batch, tokens, width] in [[3, 1152, 48], [1, 18_000, 12]] {
            let x = Operand::new(&device, 83, shape, true);
            let table = Operand::new(&device, 84, [batch, table_rows, width], true);
            let weights = weights(&device, x.values.len());
            let leaf = table.leaf(&device);
            let place = device.device.clone().autodiff();
            let x_tensor = Tensor::from_data(TensorData::new(x.values.clone(), shape), &place);
            let output =
                norm_modulate(x_tensor, leaf.clone(), rows, epsilon, device.precision.dtype().into(), NormPlace::Anywhere);
            let got = gradient(&leaf, &backward(&device, output));
            let want = norm_table_gradient(&x.wide(), &weights, shape, table_rows, rows, epsilon);
            check(&device, &format!("gradient of the table under {shape:?}"), &got, &want, true);

            let x = Operand::new(&device, 85, shape, false);
            let tokens_tensor = Operand::new(&device, 86, shape, true).tensor(&device);
            let output = gate_residual(tokens_tensor, x.tensor(&device), leaf.clone(), 2);
            let got = gradient(&leaf, &backward(&device, output));
            let mut want = vec![0.0; batch * table_rows * width];
            for (at, (x, &weight)) in x.wide().iter().zip(&weights).enumerate() {
                want[(at / (tokens * width) * table_rows + 2) * width + at % width] += x * f64::from(weight);
            }
            check(&device, &format!("gradient of the gate under {shape:?}"), &got, &want, true);
        }
    }
}

#[test]
fn gates_and_their_gradients() {
    let (table_rows, gate_row) = (6, 5);
    for device in devices() {
        for shape @ [batch, count, width] in SIZES {
            let sizes = [count, width, table_rows];
            let (tokens, x) = (Operand::new(&device, 87, shape, true), Operand::new(&device, 88, shape, false));
            let table = Operand::new(&device, 89, [batch, table_rows, width], true);
            let gated = |x: &[f64], table: &[f64]| reference::gate_residual(sizes, Some((table, gate_row)), &tokens.wide(), x);
            let (what, weights) = (format!("gate on {shape:?}"), weights(&device, x.values.len()));
            leave_junk(&device, x.values.len());
            let output = gate_residual(tokens.tensor(&device), x.tensor(&device), table.tensor(&device), gate_row);
            check(&device, &what, &read(output), &gated(&x.wide(), &table.wide()), true);

            let (tokens_leaf, x_leaf, table_leaf) = (tokens.leaf(&device), x.leaf(&device), table.leaf(&device));
            let output = gate_residual(tokens_leaf.clone(), x_leaf.clone(), table_leaf.clone(), gate_row);
            let gradients = backward(&device, output);
            assert_eq!(gradient(&tokens_leaf, &gradients), weights, "the stream's gradient passes through");
            let (got, at) = (gradient(&x_leaf, &gradients), (&*x.wide(), &*weights));
            check_differences(&device, &format!("gradient of the {what}"), &got, at, false, |x| gated(x, &table.wide()));
            // The gate's is the last row of the table, so the last differences are of it.
            let (got, at) = (gradient(&table_leaf, &gradients), (&*table.wide(), &*weights));
            let what = format!("gradient of the table of the {what}");
            check_differences(&device, &what, &got, at, true, |table| gated(&x.wide(), table));

            let (tokens_leaf, x_leaf) = (tokens.leaf(&device), x.leaf(&device));
            leave_junk(&device, x.values.len());
            let output = add_residual(tokens_leaf.clone(), x_leaf.clone());
            check(
                &device,
                &format!("sum of {shape:?}"),
                &read(output.clone()),
                &reference::gate_residual(sizes, None, &tokens.wide(), &x.wide()),
                true,
            );
            let gradients = backward(&device, output);
            assert_eq!(gradient(&tokens_leaf, &gradients), weights);
            assert_eq!(gradient(&x_leaf, &gradients), weights);
        }
    }
}

#[test]
fn heads_are_split_turned_and_merged() {
    for device in devices() {
        for [batch, heads, tokens, head] in [[1, 4, 13, 48], [2, 2, 6, 96], [2, 2, 5, 36], [1, 3, 90, 6]] {
            let half = head / 6;
            let x = Operand::new(&device, 91, [batch, tokens, heads * head], false);
            let angles: Vec<f32> = seeded(92, tokens * 3 * half).into_iter().map(|angle| 3.0 * angle).collect();
            let table: Vec<f32> = angles
                .chunks_exact(3 * half)
                .flat_map(|angles| angles.iter().map(|angle| angle.cos()).chain(angles.iter().map(|angle| angle.sin())))
                .collect();
            let complex: Vec<(f64, f64)> = table
                .chunks_exact(6 * half)
                .flat_map(|row| (0..3 * half).map(|at| (f64::from(row[at]), f64::from(row[3 * half + at]))))
                .collect();
            let sizes = [heads, tokens, head];
            let table = Operand { values: table, shape: [tokens, 2, 3 * half], is_f32: true }.tensor(&device);
            let (what, weights) = (format!("heads {heads} x {head} of {tokens} tokens"), weights(&device, x.values.len()));

            leave_junk(&device, x.values.len());
            let split = split_heads(x.tensor(&device), heads);
            assert_eq!(split.dims(), [batch, heads, tokens, head]);
            assert_eq!(to_wide(&read(split.clone())), reference::split_heads(sizes, None, &x.wide()), "{what}");
            leave_junk(&device, x.values.len());
            assert_eq!(read(merge_heads(split)), x.values, "{what}");
            leave_junk(&device, x.values.len());
            let turned = read(split_and_rotate_heads(x.tensor(&device), table.clone(), heads));
            check(&device, &what, &turned, &reference::split_heads(sizes, Some(&complex), &x.wide()), false);

            let leaf = x.leaf(&device);
            let gradients = backward(&device, split_and_rotate_heads(leaf.clone(), table.clone(), heads));
            let want = differences(&x.wide(), &weights, |x| reference::split_heads(sizes, Some(&complex), x));
            check(&device, &format!("gradient of turned {what}"), &gradient(&leaf, &gradients), &want, false);
            let leaf = x.leaf(&device);
            let gradients = backward(&device, split_heads(leaf.clone(), heads));
            let want = differences(&x.wide(), &weights, |x| reference::split_heads(sizes, None, x));
            check(&device, &format!("gradient of split {what}"), &gradient(&leaf, &gradients), &want, false);
            // Merging what was split changes nothing, so neither does its gradient.
            let leaf = x.leaf(&device);
            let gradients = backward(&device, merge_heads(split_heads(leaf.clone(), heads)));
            assert_eq!(gradient(&leaf, &gradients), weights, "{what}");
        }
    }
}
