//! The subgroup tier of the backward pass, for heads of whole vectors of four channels: how it is cut, and its shader.

use super::super::launch::{Shader, ShaderCall};
use super::Tiles;
use super::backward::{Of, call_in_blocks};
use crate::gpu::shader::Variant;

/// Threads of a workgroup.
const THREADS: usize = 64;
/// Lanes of a quad.
const QUAD: usize = 4;
/// Numbers that a lane may keep of its own tokens and their sums: with what is at hand for a moment, all fit into 255 registers.
const MOST_KEPT: usize = 160;

/// How the gradients of one head size are cut into workgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub head: usize,
    /// Own tokens of a quad; more of them save loads of the others.
    pub rows: usize,
    /// Other tokens of one round.
    others: usize,
}

impl Cut {
    /// None if heads of that size are not whole vectors.
    pub fn of(head: usize, of: Of) -> Option<Self> {
        let pieces = pieces(head);
        // Two operands and the sums of one or two gradients.
        let tensors = if of == Of::Keys { 4 } else { 3 };
        let rows = [4, 2].into_iter().find(|rows| rows * tensors * pieces * 4 <= MOST_KEPT).unwrap_or(1);
        // Of both operands in f32 at most 16 KiB.
        let others = if pieces <= 4 { 32 } else { 16 };
        head.is_multiple_of(4).then_some(Self { head, rows, others })
    }

    fn own_block(&self) -> usize {
        THREADS / QUAD * self.rows
    }
}

/// Vectors of the channels that a lane owns.
fn pieces(head: usize) -> usize {
    (head / 4).div_ceil(QUAD)
}

pub fn shader(element: &str, cut: Cut, key_bias: bool, of: Of, count_work: bool) -> Shader {
    let variant = of
        .put_into(Variant::default(), key_bias, count_work)
        .switch("half", element == "f16")
        .value("element", element)
        .value("head", cut.head)
        .value("pieces", pieces(cut.head))
        .value("rows", cut.rows)
        .value("others", cut.others)
        .value("threads", THREADS);
    Shader {
        name: "tile_attention_backward",
        template: include_str!("../../../../shaders/attention/tile_attention_backward_subgroup.wgsl"),
        variant,
        workgroup_size: THREADS as u32,
        constants: &[],
    }
}

/// The launch of `shader` for operands `[batch, heads, _, head]` and so many key frames.
pub fn shader_call(shader: Shader, cut: Cut, sizes: [usize; 3], key_frames: usize, tiles: &Tiles, of: Of) -> ShaderCall {
    call_in_blocks(shader, cut.own_block(), sizes, key_frames, tiles, of)
}
