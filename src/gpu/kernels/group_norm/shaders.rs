//! The shaders of GroupNorm and their launches: sums over pixels, what they say about a group, and the pass over all values.

use burn::backend::wgpu::CubeTensor;
use burn::tensor::{DType, Shape};

use super::super::gradient::sums::{reshaped, sum_of_parts};
use super::super::launch::{self, Shader, ShaderCall};
use super::EPSILON;
use crate::gpu::shader::Variant;

const THREADS: usize = 256;
const FINISH_THREADS: usize = 64;
/// The most channels of a group.
const MOST_MEMBERS: usize = 64;
/// The most workgroups in the first dimension before they go on in the second.
const FOLD: usize = 65_535;
/// Workgroups that read a clip, and the fewest pixels that are worth one.
const READERS: usize = 256;
const FEWEST_PIXELS: usize = 256;

/// Which way a shader goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Forward,
    Gradient,
}

fn variant(element: &str, channels: usize, way: Way, silu: bool) -> Variant {
    Variant::default()
        .switch("half", element == "f16")
        .switch("gradient", way == Way::Gradient)
        .switch("silu", silu)
        .value("element", element)
        .value("channels", channels)
}

/// Sums over pixels; `silu` matters on the way back only.
pub fn sums_shader(element: &str, channels: usize, way: Way, silu: bool) -> Shader {
    let parts_binding = match way {
        Way::Forward => 1,
        Way::Gradient => 3 + usize::from(silu),
    };
    Shader {
        name: "group_sums",
        template: include_str!("../../../../shaders/normalisation/group_sums.wgsl"),
        variant: variant(element, channels, way, silu).value("parts_binding", parts_binding),
        workgroup_size: THREADS as u32,
        constants: &[("THREADS", THREADS)],
    }
}

/// The launch for clips of so many pixels, and in how many parts it leaves the sums of a clip.
pub fn sums_call(shader: Shader, [batch, pixels, channels]: [usize; 3]) -> (ShaderCall, usize) {
    let pixels_a_part = pixels.div_ceil(READERS).max(FEWEST_PIXELS);
    let parts = pixels.div_ceil(pixels_a_part).max(1);
    let across = (channels / 4).div_ceil(THREADS);
    let call = ShaderCall {
        shader,
        workgroups: [across as u32, parts as u32, batch as u32],
        info: [pixels, pixels_a_part, parts].map(|word| word as u32).to_vec(),
    };
    (call, parts)
}

/// What the sums say about the groups.
pub fn finish_shader(element: &str, channels: usize, groups: usize, way: Way) -> Shader {
    assert!(channels <= groups * MOST_MEMBERS, "a group has more than {MOST_MEMBERS} channels");
    // On the way back only the sums are read, which are f32.
    let element = if way == Way::Gradient { "f32" } else { element };
    Shader {
        name: "group_finish",
        template: include_str!("../../../../shaders/normalisation/group_finish.wgsl"),
        variant: variant(element, channels, way, false).value("groups", groups),
        workgroup_size: FINISH_THREADS as u32,
        constants: &[("THREADS", FINISH_THREADS), ("MOST_MEMBERS", MOST_MEMBERS)],
    }
}

pub fn finish_call(shader: Shader, [batch, pixels, groups]: [usize; 3], parts: usize) -> ShaderCall {
    let info = vec![pixels as u32, parts as u32, (EPSILON as f32).to_bits()];
    ShaderCall { shader, workgroups: [groups as u32, batch as u32, 1], info }
}

/// The pass over all values, in front of a convolution or on the way back.
pub fn normalise_shader(element: &str, channels: usize, way: Way, silu: bool) -> Shader {
    Shader {
        name: "normalise",
        template: include_str!("../../../../shaders/normalisation/normalise.wgsl"),
        variant: variant(element, channels, way, silu),
        workgroup_size: THREADS as u32,
        constants: &[],
    }
}

pub fn normalise_call(shader: Shader, [batch, pixels, channels]: [usize; 3]) -> ShaderCall {
    let count4 = pixels * channels / 4;
    let groups = count4.div_ceil(THREADS);
    let down = groups.div_ceil(FOLD).max(1);
    ShaderCall { shader, workgroups: [groups.div_ceil(down) as u32, down as u32, batch as u32], info: vec![count4 as u32] }
}

/// Clips, pixels of all frames, channels.
fn sizes(x: &CubeTensor) -> [usize; 3] {
    let [batch, frames, height, width, channels]: [usize; 5] = x.meta.shape().dims();
    [batch, frames * height * width, channels]
}

/// Scale and shift, and mean and inverse deviation, `[batch, 2, channels]` each.
pub(super) fn statistics(x: &CubeTensor, weight: &CubeTensor, bias: &CubeTensor, groups: usize) -> [CubeTensor; 2] {
    let ([batch, pixels, channels], element) = (sizes(x), launch::element(x.dtype));
    let (call, parts) = sums_call(sums_shader(element, channels, Way::Forward, false), sizes(x));
    let sums = launch::empty(x, Shape::new([batch, parts, 2, channels]), DType::F32);
    launch::launch(call, &[x], &[&sums]);
    let [affine, moments] = [0; 2].map(|_| launch::empty(x, Shape::new([batch, 2, channels]), DType::F32));
    let call = finish_call(finish_shader(element, channels, groups, Way::Forward), [batch, pixels, groups], parts);
    launch::launch(call, &[&sums, weight, bias, x], &[&affine, &moments]);
    [affine, moments]
}

/// `x * scale + shift` for `affine` `[batch, 2, channels]`, then SiLU if asked for.
pub(in super::super) fn normalise(x: &CubeTensor, affine: &CubeTensor, silu: bool) -> CubeTensor {
    let output = launch::empty(x, x.meta.shape().clone(), x.dtype);
    let shader = normalise_shader(launch::element(x.dtype), sizes(x)[2], Way::Forward, silu);
    launch::launch(normalise_call(shader, sizes(x)), &[x, affine], &[&output]);
    output
}

/// The gradients of the input, the weight and the bias.
pub(super) fn gradients(
    [x, gradient, weight]: [&CubeTensor; 3],
    [affine, moments]: [&CubeTensor; 2],
    groups: usize,
    silu: bool,
) -> [CubeTensor; 3] {
    let ([batch, pixels, channels], element) = (sizes(x), launch::element(x.dtype));
    let (call, parts) = sums_call(sums_shader(element, channels, Way::Gradient, silu), sizes(x));
    let sums = launch::empty(x, Shape::new([batch, parts, 2, channels]), DType::F32);
    let mut inputs = vec![x, gradient, moments];
    inputs.extend(silu.then_some(affine));
    launch::launch(call, &inputs, &[&sums]);

    let owed = launch::empty(x, Shape::new([batch, 2, channels]), DType::F32);
    let [of_weight, of_bias] = [0; 2].map(|_| launch::empty(x, Shape::new([batch, channels]), DType::F32));
    let call = finish_call(finish_shader(element, channels, groups, Way::Gradient), [batch, pixels, groups], parts);
    launch::launch(call, &[&sums, weight, moments], &[&owed, &of_weight, &of_bias]);

    let back = launch::empty(x, x.meta.shape().clone(), x.dtype);
    let shader = normalise_shader(element, channels, Way::Gradient, silu);
    launch::launch(normalise_call(shader, sizes(x)), &[x, affine, gradient, moments, &owed], &[&back]);
    let [of_weight, of_bias] = [of_weight, of_bias].map(|parts| reshaped(&sum_of_parts(parts), Shape::new([channels])));
    [back, of_weight, of_bias]
}
