//! How the shaders that walk over rows of tokens are cut into workgroups, and the last stage of their sums over tokens.
//!
//! A gradient of something that all tokens of a clip share is a sum over tokens. The first stage, inside of the kernel that
//! reads the tokens anyway, sums chunks of them; the second, [`column_sums`], adds the chunks up. Both go in a fixed order, so
//! the same numbers give the same bits.

use burn::backend::wgpu::CubeTensor;
use burn::tensor::{DType, Shape};

use super::launch::{self, Shader, ShaderCall, Vectors};
use crate::gpu::shader::Variant;

/// Of every shader that is cut by [`RowCut`].
pub(super) const WORKGROUP_SIZE: u32 = 256;
/// Elements of a row that one thread keeps in registers, as far as there are threads enough.
const PIECES: usize = 3;
/// The fewest threads of a row.
const FEWEST_LANES: usize = 16;
/// Workgroups that fill a large card with room for an uneven end.
const WORKGROUPS_WANTED: usize = 1024;
/// Columns of a workgroup of the second stage.
const COLUMNS: usize = 32;

/// How rows of one width are shared among the threads of a workgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowCut {
    vectors: Vectors,
    width: usize,
    /// Threads of a row; a power of two.
    lanes: usize,
}

impl RowCut {
    pub fn new(vectors: Vectors, width: usize) -> Self {
        let elements = width / vectors.length();
        let lanes = elements.div_ceil(PIECES).next_power_of_two().clamp(FEWEST_LANES, WORKGROUP_SIZE as usize);
        Self { vectors, width, lanes }
    }

    /// For rows of this width that are read or written in this storage type.
    pub(super) fn of(dtype: DType, width: usize) -> Self {
        Self::new(Vectors::of(dtype, width), width)
    }

    fn elements(self) -> usize {
        self.width / self.vectors.length()
    }

    /// Rows of a workgroup at once.
    pub(super) fn rows(self) -> usize {
        WORKGROUP_SIZE as usize / self.lanes
    }

    pub(super) fn put_into(self, variant: Variant) -> Variant {
        self.vectors
            .put_into(variant)
            .switch("several_rows", self.rows() > 1)
            .value("width", self.width)
            .value("elements", self.elements())
            .value("lanes", self.lanes)
            .value("rows", self.rows())
            .value("pieces", self.elements().div_ceil(self.lanes))
    }

    /// The chunks of a clip's tokens, if there are so many clips.
    pub(super) fn chunks(self, batch: usize, tokens: usize) -> Chunks {
        let rounds_of_all = tokens.div_ceil(self.rows()).max(1);
        let wanted = WORKGROUPS_WANTED.div_ceil(batch.max(1)).min(rounds_of_all);
        let rounds = rounds_of_all.div_ceil(wanted);
        Chunks { count: rounds_of_all.div_ceil(rounds), rounds }
    }
}

/// Runs of tokens that one workgroup sums up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    /// Of one clip.
    pub count: usize,
    /// How often a workgroup takes its rows.
    pub rounds: usize,
}

pub fn column_sums_shader() -> Shader {
    Shader {
        name: "column_sums",
        template: include_str!("../../../shaders/transformer/column_sums.wgsl"),
        variant: Variant::default(),
        workgroup_size: WORKGROUP_SIZE,
        constants: &[("THREADS", WORKGROUP_SIZE as usize), ("COLUMNS", COLUMNS), ("SLICES", WORKGROUP_SIZE as usize / COLUMNS)],
    }
}

/// The launch for sums `[batch, chunks, quantities, width]`; `rows` are those of the quantities in a table of `table_rows`.
pub fn column_sums_call([batch, chunks, width]: [usize; 3], table_rows: usize, rows: &[usize]) -> ShaderCall {
    let sizes = [width, chunks, table_rows, rows.len()];
    ShaderCall {
        shader: column_sums_shader(),
        workgroups: [width.div_ceil(COLUMNS), table_rows, batch].map(|count| count as u32),
        info: sizes.iter().chain(rows).map(|&size| size as u32).collect(),
    }
}

/// The gradient `[batch, table_rows, width]` of a table from the sums `[batch, chunks, quantities, width]` of its rows.
pub(super) fn column_sums(sums: &CubeTensor, table_rows: usize, rows: &[usize]) -> CubeTensor {
    let [batch, chunks, _, width]: [usize; 4] = sums.meta.shape().dims();
    let output = launch::empty(sums, Shape::new([batch, table_rows, width]), DType::F32);
    launch::launch(column_sums_call([batch, chunks, width], table_rows, rows), &[sums], &[&output]);
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_every_token_and_no_empty_round() {
        for width in [1, 24, 30, 192, 2304, 5000] {
            let cut = RowCut::of(DType::F32, width);
            assert!(cut.rows() * cut.lanes == WORKGROUP_SIZE as usize && cut.lanes.is_power_of_two(), "{cut:?}");
            for (batch, tokens) in [(1, 1), (2, 37), (128, 1152), (1, 86_400), (3000, 40), (70_000, 1)] {
                let chunks = cut.chunks(batch, tokens);
                let of_chunk = chunks.rounds * cut.rows();
                assert!(chunks.count * of_chunk >= tokens && (chunks.count - 1) * of_chunk < tokens, "{cut:?} {chunks:?}");
                assert!(chunks.count <= 2 * WORKGROUPS_WANTED, "{cut:?} {chunks:?}");
            }
        }
    }
}
