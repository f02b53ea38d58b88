//! The matrix tier of the backward pass, for the same head sizes as that of the forward pass.

use super::super::launch::{Shader, ShaderCall};
use super::backward::{Of, Side};
use super::{Tiles, scale};
use crate::gpu::shader::Variant;

/// How the gradients of one head size are cut into workgroups.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pub head: usize,
    /// Of 16 own tokens each.
    pub subgroups: usize,
    /// Other tokens of one round.
    others: usize,
    /// Other tokens whose scores are computed before any are exchanged: more of them overlap better and take more registers.
    ahead: usize,
    /// Other tokens whose scores are exchanged at a time.
    part: usize,
}

/// For each head size one for long frames and one for short ones, such as a text.
pub const CUTS: [Cut; 4] = [
    Cut { head: 96, subgroups: 9, others: 48, ahead: 16, part: 16 },
    Cut { head: 96, subgroups: 3, others: 16, ahead: 16, part: 16 },
    Cut { head: 48, subgroups: 9, others: 48, ahead: 48, part: 16 },
    Cut { head: 48, subgroups: 3, others: 48, ahead: 48, part: 48 },
];

impl Cut {
    /// The cut for frames of so many own tokens: the long one, unless it leaves many more rows empty. None if heads of that size
    /// have no matrix kernel.
    pub fn of(head: usize, own_tokens: usize) -> Option<Self> {
        let mut cuts = CUTS.into_iter().filter(|cut| cut.head == head);
        let (long, short) = (cuts.next()?, cuts.next()?);
        let [with_long, with_short] = [long, short].map(|cut| own_tokens.next_multiple_of(cut.own_block()));
        Some(if 8 * with_long <= 9 * with_short { long } else { short })
    }

    fn threads(&self) -> usize {
        32 * self.subgroups
    }

    fn own_block(&self) -> usize {
        16 * self.subgroups
    }
}

/// `ragged` is for other tokens of a frame that are not whole rounds.
pub fn shader(cut: Cut, key_bias: bool, ragged: bool, of: Of, count_work: bool) -> Shader {
    let vectors = cut.others * cut.head / 4;
    let variant = of
        .put_into(Variant::default(), key_bias, count_work)
        .switch("side_is_0", true)
        .switch("ragged", ragged)
        .switch("load_guard", !vectors.is_multiple_of(cut.threads()))
        .value("head", cut.head)
        .value("subgroups", cut.subgroups)
        .value("others", cut.others)
        .value("ahead", cut.ahead)
        .value("part", cut.part)
        .value("loads", vectors.div_ceil(cut.threads()));
    Shader {
        name: "tile_attention_backward",
        template: include_str!("../../../../shaders/attention/tile_attention_backward_matrix.wgsl"),
        variant,
        workgroup_size: cut.threads() as u32,
        constants: &[],
    }
}

/// Words of `info` in front of the table: TABLE of the shader.
const TABLE: usize = 7;
/// The most workgroups in the first dimension before they go on in the second.
const FOLD: usize = 65_535;

/// The launch for operands `[batch, heads, _, head]` and so many key frames; None if heads of that size have no matrix kernel.
pub fn shader_call(
    [batch, heads, head]: [usize; 3],
    key_frames: usize,
    tiles: &Tiles,
    key_bias: bool,
    of: Of,
    count_work: bool,
) -> Option<ShaderCall> {
    let Side { own_tokens, other_tokens, other_frames, frames } = Side::new(of, tiles, key_frames);
    let cut = Cut::of(head, own_tokens)?;
    let own_frames = frames.query_frames();
    let sizes = [own_tokens, other_tokens, own_frames, other_frames, heads].map(|size| size as u32);
    let mut info: Vec<u32> = sizes.into_iter().chain([scale(head).to_bits(), (batch * heads) as u32]).collect();
    // The frames with the most work come first, so that the end is even.
    let mut order: Vec<usize> = (0..own_frames).collect();
    order.sort_by_key(|&frame| std::cmp::Reverse(frames.of(frame).len()));
    info.extend(order.into_iter().flat_map(|frame| {
        let place = TABLE + 3 * own_frames + frames.offsets()[frame] as usize;
        [frame as u32, place as u32, frames.of(frame).len() as u32]
    }));
    info.extend(frames.frames());
    // The place of an empty list may be the end; the shader looks there.
    info.push(0);

    let count = batch * heads * own_frames * own_tokens.div_ceil(cut.own_block());
    let down = count.div_ceil(FOLD).max(1);
    let shader = shader(cut, key_bias, !other_tokens.is_multiple_of(cut.others), of, count_work);
    Some(ShaderCall { shader, workgroups: [count.div_ceil(down) as u32, down as u32, 1], info })
}
