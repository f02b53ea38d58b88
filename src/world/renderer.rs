//! Pictures of the world on any device: the shader on adapters, its twin on the CPU device.

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};

use super::render::SAMPLES;
use super::scene::{FRAMES_PER_SECOND, Moment, Scene};
use super::shot::{SHOT_FLOATS, Shot};
use crate::clip::Frames;
use crate::gpu::kernels::{Shader, ShaderCall, empty, launch, values};
use crate::gpu::shader::Variant;
use crate::model::latent::ClipSize;

const WORKGROUP_SIZE: u32 = 64;

#[backend_extension(Cube, Flex)]
pub(crate) trait RenderKernel: Backend {
    /// `shots` is `[shots, SHOT_FLOATS]`; the size is width and height.
    fn render(shots: FloatTensor<Self>, size: [usize; 2]) -> FloatTensor<Self>;
}

/// The shots as pictures `[shots, height, width, 3]` in [-1, 1], in steps of 8 bits, f32.
pub fn render(shots: &[Shot], width: usize, height: usize, device: &Device) -> Tensor<4> {
    let floats: Vec<f32> = shots.iter().flat_map(Shot::floats).collect();
    let data = TensorData::new(floats, [shots.len(), SHOT_FLOATS]);
    let shots = Tensor::<2>::from_data(data, (device, DType::F32));
    Tensor::from_dispatch(Dispatch::render(shots.into_dispatch(), [width, height]))
}

/// The shots of all frames of a clip.
pub fn shots_of(scene: &Scene, frames: usize) -> Vec<Shot> {
    (0..frames).map(|frame| Shot::of(scene, Moment::of(frame, frames))).collect()
}

/// Whole clips as video `[clips, frames, height, width, 3]` in [-1, 1].
pub fn render_clips(scenes: &[Scene], size: ClipSize, device: &Device) -> Tensor<5> {
    render_every(scenes, size, 1, device)
}

/// As [`render_clips`], but only every `step`th frame.
pub fn render_every(scenes: &[Scene], size: ClipSize, step: usize, device: &Device) -> Tensor<5> {
    let ClipSize { frames, width, height } = size;
    let shots: Vec<Shot> = scenes.iter().flat_map(|scene| shots_of_every(scene, frames, step)).collect();
    render(&shots, width, height, device).reshape([scenes.len(), frames.div_ceil(step), height, width, 3])
}

/// The shots of every `step`th frame of a clip.
pub fn shots_of_every(scene: &Scene, frames: usize, step: usize) -> Vec<Shot> {
    (0..frames).step_by(step).map(|frame| Shot::of(scene, Moment::of(frame, frames))).collect()
}

/// A whole clip as frames.
///
/// # Errors
/// The device failed; what it says.
pub fn render_clip(scene: &Scene, frames: usize, width: usize, height: usize, device: &Device) -> Result<Frames, String> {
    let pixels = render(&shots_of(scene, frames), width, height, device);
    let pixels: Vec<f32> = pixels.try_into_vec_as().map_err(|error| error.to_string())?;
    let rgb = pixels.into_iter().map(|value| (127.5 * (value + 1.0)).round() as u8).collect();
    Ok(Frames { width, height, frames_per_second: FRAMES_PER_SECOND, rgb })
}

/// The renderer's shader.
pub fn shader() -> Shader {
    Shader {
        name: "world_render",
        template: include_str!("../../shaders/world/render.wgsl"),
        variant: Variant::default().value("samples", SAMPLES),
        workgroup_size: WORKGROUP_SIZE,
        constants: &[("WORKGROUP", WORKGROUP_SIZE as usize), ("SAMPLES", SAMPLES)],
    }
}

impl RenderKernel for CubeBackend {
    fn render(shots: FloatTensor<Self>, [width, height]: [usize; 2]) -> FloatTensor<Self> {
        let [count, _]: [usize; 2] = shots.meta.shape().dims();
        let output = empty(&shots, Shape::new([count, height, width, 3]), DType::F32);
        let workgroups = [(width * height).div_ceil(WORKGROUP_SIZE as usize) as u32, count as u32, 1];
        let info = [width, height, count].map(|size| size as u32).to_vec();
        launch(ShaderCall { shader: shader(), workgroups, info }, &[&shots], &[&output]);
        output
    }
}

impl RenderKernel for Flex {
    fn render(shots: FloatTensor<Self>, [width, height]: [usize; 2]) -> FloatTensor<Self> {
        let shots = shots.to_contiguous();
        let (shots, _) = values(&shots).as_chunks::<SHOT_FLOATS>();
        let pictures = shots.iter().flat_map(|shot| Shot::from_floats(shot).render(width, height));
        let pixels: Vec<f32> = pictures.map(|byte| f32::from(byte) * (2.0 / 255.0) - 1.0).collect();
        FlexTensor::from_data(TensorData::new(pixels, [shots.len(), height, width, 3]))
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use naga::TypeInner;

    use super::super::shot::Body;
    use super::*;

    /// The shader reads the floats as the fields that Rust wrote.
    #[test]
    fn the_layout_of_a_shot_is_that_of_the_shader() {
        let text = shader().variant.expand(shader().template);
        let module = naga::front::wgsl::parse_str(&text).expect("the shader is WGSL");
        let members = |wanted: &str| -> Vec<(String, usize)> {
            let (_, found) = module.types.iter().find(|(_, kind)| kind.name.as_deref() == Some(wanted)).expect("the struct");
            let TypeInner::Struct { members, .. } = &found.inner else { panic!("{wanted} is no struct") };
            members.iter().map(|member| (member.name.clone().unwrap_or_default(), member.offset as usize)).collect()
        };
        macro_rules! fields {
            ($of:ty: $($field:ident),+) => { vec![$((stringify!($field).to_owned(), offset_of!($of, $field))),+] };
        }
        assert_eq!(members("Body"), fields!(Body: place, turn, colour, kind));
        assert_eq!(members("Shot"), fields!(Shot: eye, right, up, back, first, second, ground, light, sky));
        assert_eq!(size_of::<Shot>(), 4 * SHOT_FLOATS);
    }

    #[test]
    fn floats_are_read_back_as_they_were() {
        for clip in 0..40 {
            let shot = Shot::of(&Scene::of_clip(3, clip), Moment::of(11, 29));
            assert_eq!(Shot::from_floats(&shot.floats()), shot);
        }
    }
}
