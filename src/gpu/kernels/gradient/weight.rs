//! The plain tier of the gradient of a weight.

use super::super::launch::{Shader, ShaderCall};
use super::WeightGradient;
use crate::gpu::shader::Variant;

const WORKGROUP_SIZE: u32 = 256;
/// Input and output channels of one workgroup, and pixels of a slice: ROWS, COLUMNS and DEPTH of the shader.
const ROWS: usize = 64;
const COLUMNS: usize = 64;
const DEPTH: usize = 16;
/// Workgroups that fill a card.
const WORKGROUPS: usize = 1024;
/// Slices that are worth a part of their own.
const FEWEST_SLICES: usize = 4;

pub fn shader(element: &str) -> Shader {
    Shader {
        name: "weight_gradient",
        template: include_str!("../../../../shaders/gradient/weight_gradient.wgsl"),
        variant: Variant::default().switch("half", element == "f16").value("element", element),
        workgroup_size: WORKGROUP_SIZE,
        constants: &[("ROWS", ROWS), ("COLUMNS", COLUMNS), ("DEPTH", DEPTH)],
    }
}

/// The launch, and in how many parts it leaves the sums.
pub fn shader_call(element: &str, call: &WeightGradient) -> (ShaderCall, usize) {
    let call = call.flattened();
    let [batch, frames, height, width, channels_in] = call.input;
    let ([frames_out, height_out, width_out], geometry) = (call.output(), &call.geometry);
    let pixels = batch * frames_out * height_out * width_out;
    let blocks = geometry.taps() * channels_in.div_ceil(ROWS) * call.channels_out.div_ceil(COLUMNS);
    let slices = pixels.div_ceil(DEPTH);
    let wanted = (WORKGROUPS / blocks).clamp(1, slices.div_ceil(FEWEST_SLICES));
    let pixels_a_part = slices.div_ceil(wanted) * DEPTH;
    let parts = pixels.div_ceil(pixels_a_part);
    let info = [frames, height, width, channels_in, frames_out, height_out, width_out, call.channels_out]
        .into_iter()
        .chain(geometry.kernel)
        .chain(geometry.stride)
        .chain([geometry.causal_frames, geometry.top, geometry.left, pixels, pixels_a_part])
        .map(|word| word as u32)
        .collect();
    (ShaderCall { shader: shader(element), workgroups: [blocks as u32, parts as u32, 1], info }, parts)
}
