//! The self-test's lines about the transformer's kernels between its products: the gradients too, because a wrong one spoils a
//! training without a sign.

use burn::tensor::{FloatDType, Tensor, TensorData};

use super::{Bench, Outcome, SelfTestLine, read};
use crate::gpu::device::Precision;
use crate::gpu::kernels::gate_residual::gate_residual;
use crate::gpu::kernels::gelu::gelu_tanh;
use crate::gpu::kernels::heads::{merge_heads, split_and_rotate_heads, split_heads};
use crate::gpu::kernels::norm_modulate::{NormPlace, ShiftAndScale, norm_modulate};
use crate::gpu::kernels::reference::{self, seeded, transformer};

/// f32 results, whatever the storage type.
const WIDE: f64 = 1e-5;
const EPSILON: f64 = 1e-6;
const TABLE_ROWS: usize = 6;

impl Bench<'_> {
    pub(super) fn transformer_lines(&self) -> Vec<SelfTestLine> {
        let stored = self.stored_limit();
        vec![
            self.line("GELU", stored, || self.gelu(false)),
            self.line("norm with modulation", stored, || self.norm(None)),
            self.line("gated residual", WIDE, || self.gate(None)),
            self.line("heads with rotary embedding", stored, || self.heads(false)),
        ]
    }

    pub(super) fn transformer_gradient_lines(&self) -> Vec<SelfTestLine> {
        let stored = self.stored_limit();
        vec![
            self.line("gradient of GELU", stored, || self.gelu(true)),
            self.line("gradient of the norm with modulation", WIDE, || self.norm(Some(Of::Tokens))),
            self.line("gradient of the modulation", WIDE, || self.norm(Some(Of::Table))),
            self.line("gradient of the gated residual", stored, || self.gate(Some(Of::Tokens))),
            self.line("gradient of the gate", WIDE, || self.gate(Some(Of::Table))),
            self.line("gradient of the heads with rotary embedding", stored, || self.heads(true)),
        ]
    }

    /// Of results in the storage type.
    fn stored_limit(&self) -> f64 {
        if self.device.precision == Precision::F16 { 6e-4 } else { 5e-6 }
    }

    /// In f32, with gradients if they are wanted.
    fn leaf<const D: usize>(&self, values: &[f32], shape: [usize; D], wants_gradient: bool) -> Tensor<D> {
        let device = &self.device.device;
        let data = TensorData::new(values.to_vec(), shape);
        if wants_gradient {
            Tensor::from_data(data, &device.clone().autodiff()).require_grad()
        } else {
            Tensor::from_data(data, device)
        }
    }

    /// The gradient of `leaf` where the output has the gradient `weights`.
    fn gradient<const D: usize, const E: usize>(
        &self,
        output: Tensor<D>,
        weights: &[f32],
        leaf: &Tensor<E>,
    ) -> Result<Vec<f32>, String> {
        let weights = Tensor::from_data(TensorData::new(weights.to_vec(), output.dims()), &output.device());
        let gradients = (output.cast(FloatDType::F32) * weights).sum().backward();
        read(leaf.grad(&gradients).ok_or("there is no gradient")?)
    }

    fn gelu(&self, wants_gradient: bool) -> Outcome {
        let shape = [3, 43, 5];
        let x = self.stored(seeded(30, 3 * 43 * 5).into_iter().map(|value| 6.0 * value).collect());
        let weights = self.stored(seeded(31, x.len()));
        let all = |x: &[f64]| x.iter().map(|&x| reference::gelu_tanh(x)).collect::<Vec<_>>();
        let leaf = self.leaf(&x, shape, wants_gradient);
        self.leave_junk(x.len())?;
        let output = gelu_tanh(leaf.clone().cast(self.device.precision.dtype()));
        if wants_gradient {
            return Ok((self.gradient(output, &weights, &leaf)?, differences(&wide(&x), &weights, all)));
        }
        Ok((read(output)?, all(&wide(&x))))
    }

    fn norm(&self, gradient: Option<Of>) -> Outcome {
        let [batch, tokens, width] = [2, 19, 12];
        let rows = ShiftAndScale { shift: 3, scale: 4 };
        let x: Vec<f32> = seeded(32, batch * tokens * width).into_iter().map(|value| value + 9.0).collect();
        let table = seeded(33, batch * TABLE_ROWS * width);
        let weights = self.stored(seeded(34, x.len()));
        let all = |x: &[f64], table: &[f64]| {
            transformer::norm_modulate([tokens, width, TABLE_ROWS], [rows.shift, rows.scale], EPSILON, x, table)
        };
        let x_leaf = self.leaf(&x, [batch, tokens, width], gradient.is_some());
        let table_leaf = self.leaf(&table, [batch, TABLE_ROWS, width], gradient.is_some());
        self.leave_junk(x.len())?;
        let stored = self.device.precision.dtype().into();
        let output = norm_modulate(x_leaf.clone(), table_leaf.clone(), rows, EPSILON, stored, NormPlace::Anywhere);
        let (x, table) = (wide(&x), wide(&table));
        match gradient {
            None => Ok((read(output)?, all(&x, &table))),
            Some(Of::Tokens) => Ok((self.gradient(output, &weights, &x_leaf)?, differences(&x, &weights, |x| all(x, &table)))),
            Some(Of::Table) => {
                Ok((self.gradient(output, &weights, &table_leaf)?, differences(&table, &weights, |table| all(&x, table))))
            }
        }
    }

    fn gate(&self, gradient: Option<Of>) -> Outcome {
        let shape @ [batch, tokens, width] = [2, 19, 12];
        let row = 5;
        let stream = seeded(35, batch * tokens * width);
        let (x, weights) = (self.stored(seeded(36, stream.len())), self.stored(seeded(37, stream.len())));
        let table = seeded(38, batch * TABLE_ROWS * width);
        let all = |x: &[f64], table: &[f64]| {
            transformer::gate_residual([tokens, width, TABLE_ROWS], Some((table, row)), &wide(&stream), x)
        };
        let x_leaf = self.leaf(&x, shape, gradient.is_some());
        let table_leaf = self.leaf(&table, [batch, TABLE_ROWS, width], gradient.is_some());
        let stream_tensor = self.leaf(&stream, shape, false);
        self.leave_junk(x.len())?;
        let x_stored = x_leaf.clone().cast(self.device.precision.dtype());
        let output = gate_residual(stream_tensor, x_stored, table_leaf.clone(), row);
        let (x, table) = (wide(&x), wide(&table));
        match gradient {
            None => Ok((read(output)?, all(&x, &table))),
            Some(Of::Tokens) => Ok((self.gradient(output, &weights, &x_leaf)?, differences(&x, &weights, |x| all(x, &table)))),
            Some(Of::Table) => {
                Ok((self.gradient(output, &weights, &table_leaf)?, differences(&table, &weights, |table| all(&x, table))))
            }
        }
    }

    /// Split and turned; the gradient also goes through the way back, which must change nothing.
    fn heads(&self, wants_gradient: bool) -> Outcome {
        let [batch, tokens, heads, head] = [2, 7, 2, 24];
        let x = self.stored(seeded(39, batch * tokens * heads * head));
        let weights = self.stored(seeded(40, x.len()));
        let angles: Vec<(f32, f32)> = seeded(41, tokens * head / 2).into_iter().map(|angle| (angle.cos(), angle.sin())).collect();
        let rows = angles.chunks_exact(head / 2);
        let table: Vec<f32> = rows.flat_map(|row| row.iter().map(|row| row.0).chain(row.iter().map(|row| row.1))).collect();
        let angles: Vec<(f64, f64)> = angles.into_iter().map(|(cos, sin)| (cos.into(), sin.into())).collect();
        let all = |x: &[f64]| transformer::split_heads([heads, tokens, head], Some(&angles), x);
        let table = self.leaf(&table, [tokens, 2, head / 2], false);
        let leaf = self.leaf(&x, [batch, tokens, heads * head], wants_gradient);
        self.leave_junk(x.len())?;
        let output = split_and_rotate_heads(leaf.clone().cast(self.device.precision.dtype()), table, heads);
        if wants_gradient {
            let output = split_heads(merge_heads(output), heads);
            return Ok((self.gradient(output, &weights, &leaf)?, differences(&wide(&x), &weights, all)));
        }
        Ok((read(output)?, all(&wide(&x))))
    }
}

/// By what a gradient is.
#[derive(Clone, Copy)]
enum Of {
    Tokens,
    Table,
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn differences(x: &[f64], weights: &[f32], function: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    transformer::finite_differences(x, 0..x.len(), &wide(weights), function)
}
