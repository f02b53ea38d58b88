//! Layers that the transformer and the text encoder share.
//!
//! Weights are kept in the storage type of the device (f16 on GPUs that have it); what flows between layers is f32, so that
//! norms, residual streams and softmax never lose precision.

use burn::module::{Module, Param};
use burn::tensor::{DType, FloatDType, Tensor};

use crate::gpu::kernels::linear::{Activation, linear};
use crate::gpu::kernels::norm_modulate::{NormPlace, ShiftAndScale, norm_modulate};
use crate::gpu::pace::{self, Work};
use crate::gpu::spans::{self, Kind};

/// `x W + b` with the weight as `[in, out]`.
#[derive(Module, Debug)]
pub struct Linear {
    pub weight: Param<Tensor<2>>,
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// `x` `[.., in]` of any type to `[.., out]` in the storage type of the weight.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.run(x, Activation::None)
    }

    /// [`Self::forward`] and then GELU in its tanh form.
    pub fn forward_gelu<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.run(x, Activation::GeluTanh)
    }

    /// The storage type of the weight; input in any other is cast first.
    pub fn storage_type(&self) -> DType {
        self.weight.val().dtype()
    }

    fn run<const D: usize>(&self, x: Tensor<D>, activation: Activation) -> Tensor<D> {
        let weight = self.weight.val();
        let device = x.device();
        let [inner, columns] = weight.dims();
        let mut shape = x.dims();
        let rows: usize = shape[..D - 1].iter().product();
        let flops_a_row = 2.0 * (inner * columns) as f64;
        let product = |rows: usize, x: Tensor<D>| {
            pace::launch(&device, Work::Linear, flops_a_row * rows as f64, || {
                spans::span(Kind::Linear, || linear(x, weight.clone(), self.bias.as_ref().map(Param::val), activation))
            })
        };
        let x = if x.dtype() == weight.dtype() { x } else { spans::span(Kind::Linear, || cast_like(x, &weight)) };
        let parts = pace::parts(&device, Work::Linear, flops_a_row * rows as f64).min(rows);
        if parts <= 1 {
            return product(rows, x);
        }
        let at_once = rows.div_ceil(parts);
        let x: Tensor<2> = x.reshape([rows, inner]);
        let parts = (0..rows).step_by(at_once).map(|start| {
            let count = at_once.min(rows - start);
            let mut part = [1; D];
            (part[D - 2], part[D - 1]) = (count, inner);
            product(count, x.clone().narrow(0, start, count).reshape(part)).reshape([count, columns])
        });
        let parts: Vec<Tensor<2>> = parts.collect();
        shape[D - 1] = columns;
        spans::span(Kind::Linear, || Tensor::cat(parts, 0).reshape(shape))
    }
}

/// Two linear layers with an activation between them.
#[derive(Module, Debug)]
pub struct TwoLayers {
    pub linear_1: Linear,
    pub linear_2: Linear,
}

impl TwoLayers {
    pub fn forward<const D: usize>(&self, x: Tensor<D>, activation: fn(Tensor<D>) -> Tensor<D>) -> Tensor<D> {
        self.linear_2.forward(activation(self.linear_1.forward(x)))
    }
}

/// LayerNorm without affine over the last axis of the f32 tokens `[batch, tokens, width]`, then AdaLN's `x * (1 + scale) + shift`
/// by two rows of `table` `[batch, rows, width]`; all in f32, stored as `next` takes its input.
pub fn modulated_layer_norm(
    x: Tensor<3>,
    table: Tensor<3>,
    rows: ShiftAndScale,
    epsilon: f64,
    next: &Linear,
    place: NormPlace,
) -> Tensor<3> {
    spans::span(Kind::Normalisation, || norm_modulate(x, table, rows, epsilon, next.storage_type(), place))
}

/// `x` in the storage type of `like`.
pub fn cast_like<const D: usize, const E: usize>(x: Tensor<D>, like: &Tensor<E>) -> Tensor<D> {
    if x.dtype() == like.dtype() { x } else { x.cast(like.dtype()) }
}

pub fn to_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.dtype() == FloatDType::F32.into() { x } else { x.cast(FloatDType::F32) }
}
