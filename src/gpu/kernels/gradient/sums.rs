//! Sums over many rows: parts by many workgroups, then the parts in a fixed order.

use burn::backend::wgpu::CubeTensor;
use burn::tensor::{DType, Shape};

use super::super::launch::{self, Shader, ShaderCall};
use crate::gpu::shader::Variant;

const THREADS: usize = 256;
/// Threads that fill a card, of which values with many parts get more than one each.
const THREADS_WANTED: usize = 1 << 18;
/// The most threads of a value: eight neighbouring values are the least that memory gives at once.
const MOST_SLICES: usize = 32;
/// Parts that are worth a thread of their own.
const FEWEST_PARTS: usize = 4;
/// Workgroups that read a matrix for its column sums, and the fewest rows that are worth one.
const READERS: usize = 1024;
const FEWEST_ROWS: usize = 32;

pub fn sum_of_parts_shader() -> Shader {
    Shader {
        name: "sum_of_parts",
        template: include_str!("../../../../shaders/gradient/sum_of_parts.wgsl"),
        variant: Variant::default(),
        workgroup_size: THREADS as u32,
        constants: &[("THREADS", THREADS)],
    }
}

/// The launch that adds `parts` parts of `count` values.
pub fn sum_of_parts_call(count: usize, parts: usize) -> ShaderCall {
    let mut slices = 1;
    while slices < MOST_SLICES && count * slices < THREADS_WANTED && parts >= 2 * slices * FEWEST_PARTS {
        slices *= 2;
    }
    let [across, down] = launch::folded(count.div_ceil(THREADS / slices));
    ShaderCall {
        shader: sum_of_parts_shader(),
        workgroups: [across, down, 1],
        info: [count, parts, slices].map(|word| word as u32).to_vec(),
    }
}

/// The sum `[1, count]` of `[parts, count]` in f32.
pub(in super::super) fn sum_of_parts(sums: CubeTensor) -> CubeTensor {
    let [parts, count]: [usize; 2] = sums.meta.shape().dims();
    if parts == 1 {
        return sums;
    }
    let output = launch::empty(&sums, Shape::new([1, count]), DType::F32);
    launch::launch(sum_of_parts_call(count, parts), &[&sums], &[&output]);
    output
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
