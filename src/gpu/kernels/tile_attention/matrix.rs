//! The matrix tier of the attention, for the head sizes of the published models that divide into matrices and count.

use super::super::launch::{Shader, ShaderCall};
use super::{Gives, RecordPlace, Tiles, record_words, sampled_rows, scale};
use crate::gpu::shader::Variant;

/// How the attention of one head size is cut into workgroups.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pub head: usize,
    /// Query rows of a subgroup: 16 or 32.
    rows: usize,
    pub subgroups: usize,
    /// Keys of one round.
    keys: usize,
    /// Keys whose scores are exchanged at a time.
    part: usize,
}

/// `a16x12k48`; for many clips at once nine subgroups, that keys are read for three times as many rows; and `p48_16x3k48` in
/// shaders/NOTES.md, which makes as many workgroups as can be of one clip. The first that fits is taken.
pub const CUTS: [Cut; 3] = [
    Cut { head: 96, rows: 16, subgroups: 12, keys: 48, part: 16 },
    Cut { head: 48, rows: 16, subgroups: 9, keys: 48, part: 16 },
    Cut { head: 48, rows: 16, subgroups: 3, keys: 48, part: 48 },
];
/// Workgroups that fill a card: two for each of the 132 multiprocessors of an H100.
const FULL_CARD: usize = 264;

impl Cut {
    /// The cut for so many frames of query tokens, of all heads and clips. None if heads of that size have no matrix kernel.
    pub fn of(head: usize, frames: usize, tokens: usize) -> Option<Self> {
        let mut cuts = CUTS.into_iter().filter(|cut| cut.head == head);
        let (first, last) = (cuts.next()?, cuts.next_back());
        let fills = frames * tokens.div_ceil(first.query_block()) >= FULL_CARD;
        Some(last.filter(|_| !fills).unwrap_or(first))
    }

    fn threads(&self) -> usize {
        32 * self.subgroups
    }

    fn query_block(&self) -> usize {
        self.rows * self.subgroups
    }
}

/// `ragged` is for tokens of a frame that are not whole rounds.
pub fn shader(cut: Cut, key_bias: bool, ragged: bool, gives: Gives) -> Shader {
    let vectors = cut.keys * cut.head / 4;
    let variant = gives
        .put_into(Variant::default(), key_bias)
        .switch("ragged", ragged)
        .switch("two_lanes_a_row", cut.rows == 16)
        .switch("load_guard", !vectors.is_multiple_of(cut.threads()))
        .value("head", cut.head)
        .value("rows", cut.rows)
        .value("subgroups", cut.subgroups)
        .value("keys", cut.keys)
        .value("part", cut.part)
        .value("loads", vectors.div_ceil(cut.threads()))
        .value("score_padding", if cut.rows == 16 { 2 } else { 1 })
        .value("at_once", if key_bias { " * scale" } else { "" });
    Shader {
        name: "tile_attention",
        template: include_str!("../../../../shaders/attention/tile_attention_matrix.wgsl"),
        variant,
        workgroup_size: cut.threads() as u32,
        constants: &[],
    }
}

/// The shader for tiles of such a size.
pub fn shader_of(cut: Cut, tiles: &Tiles, key_bias: bool, gives: Gives) -> Shader {
    shader(cut, key_bias, is_ragged(cut, tiles), gives)
}

fn is_ragged(cut: Cut, tiles: &Tiles) -> bool {
    !tiles.key_tokens.is_multiple_of(cut.keys)
}

/// Words of `info` in front of the table: TABLE of the shader.
const TABLE: usize = 13;
/// The most workgroups in the first dimension before they go on in the second.
const FOLD: usize = 65_535;

/// The launch of `shader` for queries `[batch, heads, _, head]` and so many key frames; with a place it gives log-sums.
pub fn shader_call(
    shader: Shader,
    cut: Cut,
    [batch, heads, head]: [usize; 3],
    key_frames: usize,
    tiles: &Tiles,
    place: Option<&RecordPlace>,
) -> ShaderCall {
    let query_frames = tiles.key_frames.query_frames();
    let sizes = [tiles.query_tokens, tiles.key_tokens, query_frames, key_frames, heads].map(|size| size as u32);
    let kept = &tiles.key_frames;
    let last_sizes = [scale(head).to_bits(), (batch * heads) as u32, kept.frames().len() as u32];
    let words = sizes.into_iter().chain(last_sizes).chain(record_words(place, [batch, heads]));
    // The frames with the most work come first, and those with more than the least before all others of all heads, so that
    // the end is even.
    let mut order: Vec<usize> = (0..query_frames).collect();
    order.sort_by_key(|&frame| std::cmp::Reverse(kept.of(frame).len()));
    let least = order.last().map_or(0, |&frame| kept.of(frame).len());
    let long_frames = order.partition_point(|&frame| kept.of(frame).len() > least);
    let rows_at = TABLE - 2;
    let mut info: Vec<u32> = words.chain([0, long_frames as u32]).collect();
    // Neighbouring frames in one range save the launch some words. It must not change which keys are a round together, or
    // results would depend on whether log-sums are wanted, which need a range a frame.
    let may_join = !is_ragged(cut, tiles) && place.is_none();
    let (mut ranges, mut places) = (Vec::<u32>::new(), Vec::new());
    for frame in 0..query_frames {
        let begin = ranges.len();
        for &key_frame in kept.of(frame) {
            let [first, end] = [key_frame, key_frame + 1].map(|frame| frame * tiles.key_tokens as u32);
            match ranges[begin..].last_mut() {
                Some(last) if may_join && *last == first => *last = end,
                _ => ranges.extend([first, end]),
            }
        }
        places.push((TABLE + 3 * query_frames + begin, (ranges.len() - begin) / 2));
    }
    info.extend(order.into_iter().flat_map(|frame| [frame as u32, places[frame].0 as u32, places[frame].1 as u32]));
    info.extend(ranges);
    let rows = sampled_rows(place);
    info[rows_at] = info.len() as u32;
    info.extend(rows);

    let of_frames = batch * heads * query_frames * tiles.query_tokens.div_ceil(cut.query_block());
    let count = of_frames + heads * key_frames * rows.len().div_ceil(cut.query_block());
    let down = count.div_ceil(FOLD).max(1);
    ShaderCall { shader, workgroups: [count.div_ceil(down) as u32, down as u32, 1], info }
}
