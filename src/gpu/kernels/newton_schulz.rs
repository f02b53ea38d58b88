//! Newton-Schulz steps, which bring the singular values of matrices near each other, for stacks of equal matrices.
//!
//! Source: N. Higham, "Functions of Matrices" (2008), chapter 8; with free coefficients as in K. Jordan, "Muon: an optimizer for
//! hidden layers in neural networks" (2024), whose published code runs them in bf16. On the matrix tier a step is three launches
//! of the shader `matrix_product`, in f16 with f32 sums; elsewhere it is burn's own matrix products.

use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, FloatDType, Shape, Tensor};

use super::launch::{self, Shader, ShaderCall};
use super::product::{self, Options, SMALL};
use crate::gpu::tier::ShaderTier;

/// The coefficients of Muon: of the polynomials that keep values near 1 there, one of great steepness at 0.
pub const STEEP: [f64; 3] = [3.4445, -4.7750, 2.0315];

#[backend_extension(Cube)]
pub(crate) trait NewtonSchulzKernel: Backend {
    fn newton_schulz_on_matrices(x: FloatTensor<Self>, coefficients: [f64; 3], steps: usize) -> FloatTensor<Self>;
}

/// So many steps from `X` to `a X + (b G + c G G) X` with `G = X X^T` and `[a, b, c]` the coefficients, for matrices
/// `[count, rows, columns]` in f32 without a gradient. Quickest where no matrix is tall. No singular value may be much larger
/// than 1, or f16 does not hold what comes.
pub fn newton_schulz(x: Tensor<3>, coefficients: [f64; 3], steps: usize) -> Tensor<3> {
    let [_, rows, columns] = x.dims();
    if ShaderTier::of(&x.device(), DType::F16) == ShaderTier::Matrix && SMALL.loads(rows, columns) {
        let x = x.cast(FloatDType::F16).into_dispatch();
        let y: Tensor<3> = Tensor::from_dispatch(Dispatch::newton_schulz_on_matrices(x, coefficients, steps));
        return y.cast(FloatDType::F32);
    }
    let [a, b, c] = coefficients;
    (0..steps).fold(x, |x, _| {
        let gram = x.clone().matmul(x.clone().swap_dims(1, 2));
        let polynomial = gram.clone() * b + gram.clone().matmul(gram) * c;
        x.clone() * a + polynomial.matmul(x)
    })
}

/// Of `left right^T`, or `with_added` of the scaled `left right` plus a third, scaled stack.
pub fn shader(inner: usize, columns: usize, with_added: bool) -> Shader {
    let options = Options { stacked: true, turned: !with_added, residual: with_added, ..Options::default() };
    product::shader("newton_schulz", &SMALL, inner, columns, options)
}

/// The launches of a step for matrices `[count, rows, columns]`. Their inputs are `X, X`, then `G, G, G`, then the polynomial
/// `b G + c G G`, `X` and `X`.
pub fn shader_calls([count, rows, columns]: [usize; 3], [a, b, c]: [f64; 3]) -> [ShaderCall; 3] {
    let call = |inner: usize, columns: usize, scales: Option<[f64; 2]>| {
        let [across, down] = SMALL.workgroups(rows, columns);
        let shader = shader(inner, columns, scales.is_some());
        let scales = scales.into_iter().flatten().map(|scale| (scale as f32).to_bits());
        let info = [rows as u32].into_iter().chain(scales).collect();
        ShaderCall { shader, workgroups: [across, down, count as u32], info }
    };
    [call(columns, rows, None), call(rows, rows, Some([c, b])), call(rows, columns, Some([1.0, a]))]
}

impl NewtonSchulzKernel for CubeBackend {
    fn newton_schulz_on_matrices(x: FloatTensor<Self>, coefficients: [f64; 3], steps: usize) -> FloatTensor<Self> {
        let x = launch::row_major(x, DType::F16);
        let [count, rows, columns]: [usize; 3] = x.meta.shape().dims();
        let calls = shader_calls([count, rows, columns], coefficients);
        let run = |call: &ShaderCall, columns: usize, inputs: &[&CubeTensor]| {
            let output = launch::empty(inputs[0], Shape::new([count, rows, columns]), DType::F16);
            launch::launch(call.clone(), inputs, &[&output]);
            output
        };
        let [of_gram, of_polynomial, of_next] = &calls;
        (0..steps).fold(x, |x, _| {
            let gram = run(of_gram, rows, &[&x, &x]);
            let polynomial = run(of_polynomial, rows, &[&gram, &gram, &gram]);
            run(of_next, columns, &[&polynomial, &x, &x])
        })
    }
}
