//! The subgroup tier of the attention, for heads of whole vectors of four channels: how it is cut, and its shader.

use super::super::launch::{Shader, ShaderCall};
use super::{Gives, RecordPlace, Tiles, call_in_blocks};
use crate::gpu::shader::Variant;
use crate::gpu::tier::WORKGROUP_BYTES;

/// Threads of a workgroup.
const THREADS: usize = 64;
/// Lanes of a quad.
const QUAD: usize = 4;

/// How the attention of one head size is cut into workgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub head: usize,
    /// Query rows of a quad: 4 or 2.
    pub rows: usize,
    /// Keys of one round.
    pub keys: usize,
}

/// The first that fits into workgroup memory is taken: more rows of a quad save loads of keys and values, more keys of a round
/// loads of queries.
const CHOICES: [[usize; 2]; 5] = [[4, 32], [4, 24], [4, 16], [2, 24], [2, 16]];

impl Cut {
    /// None if heads of that size are not whole vectors.
    pub fn of(element: &str, head: usize) -> Option<Self> {
        let cuts = CHOICES.into_iter().map(|[rows, keys]| Self { head, rows, keys });
        let mut cuts = cuts.filter(|cut| cut.loads_evenly() && cut.workgroup_bytes(element) <= WORKGROUP_BYTES as usize);
        cuts.next().filter(|_| head.is_multiple_of(4))
    }

    /// Vectors of the channels that a lane owns.
    fn pieces(&self) -> usize {
        (self.head / 4).div_ceil(QUAD)
    }

    fn loads_evenly(&self) -> bool {
        (self.keys * QUAD * self.pieces()).is_multiple_of(THREADS)
    }

    fn query_block(&self) -> usize {
        THREADS / QUAD * self.rows
    }

    /// Of the shader's two blocks.
    fn workgroup_bytes(&self, element: &str) -> usize {
        let vectors = QUAD * self.pieces();
        let value_bytes = if element == "f16" { 2 } else { 4 };
        self.query_block() * 4 * vectors * value_bytes + self.keys * (vectors + 1) * 16
    }
}

pub fn shader(element: &str, cut: Cut, key_bias: bool, gives: Gives) -> Shader {
    let variant = gives
        .put_into(Variant::default(), key_bias)
        .switch("half", element == "f16")
        .switch("four_rows", cut.rows == 4)
        .value("element", element)
        .value("head", cut.head)
        .value("pieces", cut.pieces())
        .value("rows", cut.rows)
        .value("keys", cut.keys)
        .value("threads", THREADS);
    Shader {
        name: "tile_attention",
        template: include_str!("../../../../shaders/attention/tile_attention_subgroup.wgsl"),
        variant,
        workgroup_size: THREADS as u32,
        constants: &[],
    }
}

/// The launch of `shader` for queries `[batch, heads, _, head]` and so many key frames.
pub fn shader_call(
    shader: Shader,
    cut: Cut,
    sizes: [usize; 3],
    key_frames: usize,
    tiles: &Tiles,
    place: Option<&RecordPlace>,
) -> ShaderCall {
    call_in_blocks(shader, cut.query_block(), sizes, key_frames, tiles, place)
}
