//! Sums over many rows: parts by many workgroups, then the parts in a fixed order.

use burn::backend::wgpu::CubeTensor;
use burn::tensor::{DType, Shape};

use super::super::launch::{self, Shader, ShaderCall};
use crate::gpu::shader::Variant;

const THREADS: usize = 256;
/// The most workgroups in the first dimension before they go on in the third.
const FOLD: usize = 65_535;
/// Parts that one thread adds; more are added in two passes.
const PARTS_AT_ONCE: usize = 64;
/// Workgroups that read a matrix for its column sums, and the fewest rows that are worth one.
const READERS: usize = 512;
const FEWEST_ROWS: usize = 64;

pub fn sum_of_parts_shader() -> Shader {
    Shader {
        name: "sum_of_parts",
        template: include_str!("../../../../shaders/gradient/sum_of_parts.wgsl"),
        variant: Variant::default(),
        workgroup_size: THREADS as u32,
        constants: &[],
    }
}

/// Adds `parts` parts of `count` values in groups of `together`.
pub fn sum_of_parts_call(count: usize, parts: usize, together: usize) -> ShaderCall {
    let across = count.div_ceil(THREADS);
    let deep = across.div_ceil(FOLD).max(1);
    ShaderCall {
        shader: sum_of_parts_shader(),
        workgroups: [across.div_ceil(deep) as u32, parts.div_ceil(together) as u32, deep as u32],
        info: [count, parts, together].map(|word| word as u32).to_vec(),
    }
}

/// The sum `[1, count]` of `[parts, count]` in f32.
pub(in super::super) fn sum_of_parts(mut sums: CubeTensor) -> CubeTensor {
    loop {
        let [parts, count]: [usize; 2] = sums.meta.shape().dims();
        if parts == 1 {
            return sums;
        }
        // Of very many parts each thread takes about as many as are left.
        let together = if parts > PARTS_AT_ONCE { parts.isqrt() } else { parts };
        let output = launch::empty(&sums, Shape::new([parts.div_ceil(together), count]), DType::F32);
        launch::launch(sum_of_parts_call(count, parts, together), &[&sums], &[&output]);
        sums = output;
    }
}

/// The same values under another shape.
pub(in super::super) fn reshaped(tensor: &CubeTensor, shape: Shape) -> CubeTensor {
    CubeTensor::new_contiguous(tensor.client.clone(), tensor.device.clone(), shape, tensor.handle.clone(), tensor.dtype)
}

/// The shader that sums columns; `by_four` reads four neighbouring ones at once.
pub fn column_sums_shader(element: &str, by_four: bool) -> Shader {
    let variant = Variant::default().switch("half", element == "f16").switch("by_four", by_four).value("element", element);
    Shader {
        name: "column_sums",
        template: include_str!("../../../../shaders/gradient/column_sums.wgsl"),
        variant,
        workgroup_size: THREADS as u32,
        constants: &[("THREADS", THREADS)],
    }
}

/// The launch for `[rows, columns]`, and in how many parts it leaves the sums.
pub fn column_sums_call(element: &str, rows: usize, columns: usize) -> (ShaderCall, usize) {
    let by_four = columns.is_multiple_of(4);
    let columns = if by_four { columns / 4 } else { columns };
    let rows_a_part = rows.div_ceil(READERS).max(FEWEST_ROWS);
    let parts = rows.div_ceil(rows_a_part).max(1);
    let call = ShaderCall {
        shader: column_sums_shader(element, by_four),
        workgroups: [columns.div_ceil(THREADS) as u32, parts as u32, 1],
        info: [rows, columns, rows_a_part].map(|word| word as u32).to_vec(),
    };
    (call, parts)
}
