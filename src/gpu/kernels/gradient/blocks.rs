//! The subgroup tier of the gradient of a weight: how it is cut into workgroups.

use super::super::block_product::{Block, COLUMNS, DEPTH};
use super::super::launch::{Shader, ShaderCall};
use super::WeightGradient;
use crate::gpu::shader::Variant;

/// Workgroups that fill a card. Every part is written and read once more, so more of them would cost what they bring.
const WORKGROUPS: usize = 1024;
/// Segments of pixels that are worth a part of their own.
const FEWEST_SEGMENTS: usize = 4;

pub fn shader(element: &str, block: Block) -> Shader {
    let variant = Variant::default()
        .switch("pass_0_is_first", true)
        .switch("half", element == "f16")
        .value("element", element)
        .value("threads", block.rows())
        .value("right_loads", block.right_loads());
    Shader {
        name: "weight_gradient_block",
        template: include_str!("../../../../shaders/gradient/weight_gradient_block.wgsl"),
        variant,
        workgroup_size: block.rows() as u32,
        constants: &[("COLUMNS", COLUMNS), ("DEPTH", DEPTH)],
    }
}

/// The block for so many rows, the input channels of all taps: the large one, unless it leaves many more of its rows empty.
fn block_for(rows: usize) -> Block {
    let [with_large, with_small] = Block::ALL.map(|block| rows.next_multiple_of(block.rows()));
    if 7 * with_large <= 8 * with_small { Block::Large } else { Block::Small }
}

/// The launch for channels that are multiples of 4, and in how many parts it leaves the sums.
pub fn shader_call(element: &str, call: &WeightGradient) -> (ShaderCall, usize) {
    let rows = call.geometry.taps() * call.input[4];
    call_in_blocks(element, call, block_for(rows))
}

/// [`shader_call`], cut in a certain way.
pub fn call_in_blocks(element: &str, call: &WeightGradient, block: Block) -> (ShaderCall, usize) {
    let call = call.flattened();
    let [batch, frames, height, width, channels_in] = call.input;
    let ([frames_out, height_out, width_out], geometry) = (call.output(), &call.geometry);
    let segments = batch * frames_out * height_out * width_out.div_ceil(DEPTH);
    let blocks = (geometry.taps() * channels_in).div_ceil(block.rows()) * call.channels_out.div_ceil(COLUMNS);
    let wanted = (WORKGROUPS / blocks).clamp(1, segments.div_ceil(FEWEST_SEGMENTS));
    let segments_a_part = segments.div_ceil(wanted);
    let parts = segments.div_ceil(segments_a_part);
    let info = [frames, height, width, channels_in / 4, frames_out, height_out, width_out, call.channels_out / 4]
        .into_iter()
        .chain(geometry.kernel)
        .chain(geometry.stride)
        .chain([geometry.causal_frames, geometry.top, geometry.left, segments, segments_a_part])
        .map(|word| word as u32)
        .collect();
    (ShaderCall { shader: shader(element, block), workgroups: [blocks as u32, parts as u32, 1], info }, parts)
}
