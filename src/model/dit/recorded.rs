//! A call of a small transformer that is recorded once and played back for every later call of its size, with other latents, times
//! and texts ([`crate::gpu::replay`]).

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};

use super::block::Probe;
use super::embeddings::{sinusoid, sinusoids};
use super::transformer::{TextContext, Transformer, biases, key_bias_of};
use crate::gpu::device::ComputeDevice;
use crate::gpu::replay::{Replay, rewrite};
use crate::mask::KeyFrames;

/// The launches of a call, and the tensors that they read.
#[derive(Debug)]
pub struct RecordedCall {
    latents: Tensor<5>,
    sinusoids: Tensor<2>,
    text: Tensor<3>,
    bias: Tensor<2>,
    key_frames: Vec<Arc<KeyFrames>>,
    replay: Replay,
    has_text: bool,
}

/// What a call is given, on the host.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// `[batch, channels, frames, height, width]`, row-major.
    pub latents: &'a [f32],
    pub shape: [usize; 5],
    pub timesteps: &'a [f32],
    pub text: &'a TextContext,
    /// One entry a layer.
    pub key_frames: &'a [Arc<KeyFrames>],
}

impl RecordedCall {
    /// Records the call that is given. None where that cannot be, or where what is played back is not, to the bit, what the call
    /// itself gives.
    pub fn record(transformer: &Transformer, given: Given<'_>, device: &ComputeDevice) -> Option<Self> {
        let on = |values: &[f32]| TensorData::new(values.to_vec(), [values.len()]);
        let latents = Tensor::<1>::from_data(on(given.latents), &device.device).reshape(given.shape);
        let sinusoids = sinusoids(given.timesteps, &device.device);
        let text_shape = given.text.embedding.dims();
        // Memory of its own.
        let text = Tensor::<1>::from_data(on(&values_of(given.text)?), &device.device).reshape(text_shape);
        let bias = key_bias_of(&given.text.mask, text_shape[0], &device.device);
        let key_frames = given.key_frames.to_vec();
        // Held by the work, because the transformer keeps those of a few grids only.
        let rope = transformer.rotary_tables_of(given.shape, &device.device);
        let work = {
            let (transformer, key_frames) = (transformer.clone(), key_frames.clone());
            let (latents, sinusoids, text, bias) = (latents.clone(), sinusoids.clone(), text.clone(), bias.clone());
            move || {
                let _held = &rope;
                let caption = transformer.caption_of(text.clone(), Some(bias.clone()));
                let (latents, sinusoids) = (latents.clone(), sinusoids.clone());
                transformer.forward_from(latents, sinusoids, &caption, None, &key_frames, &mut Probe::default())
            }
        };
        let replay = Replay::record(device, work)?;
        let mut recorded = Self { latents, sinusoids, text, bias, key_frames, replay, has_text: true };
        let data = |tensor: Tensor<5>| -> Option<Vec<f32>> { tensor.try_into_vec_as().ok() };
        let called = {
            let latents = Tensor::<1>::from_data(on(given.latents), &device.device).reshape(given.shape);
            let probe = &mut Probe::default();
            data(transformer.forward(latents, given.timesteps, given.text, None, given.key_frames, probe))?
        };
        let played = data(recorded.run(given)?)?;
        let is_same = called.iter().map(|value| value.to_bits()).eq(played.iter().map(|value| value.to_bits()));
        is_same.then_some(recorded)
    }

    /// Whether this is a call of these sizes and masks. The text must be one that [`hides_some`].
    pub fn fits(&self, given: Given<'_>) -> bool {
        self.latents.dims() == given.shape
            && self.text.dims() == given.text.embedding.dims()
            && self.key_frames == given.key_frames
    }

    /// The next call is for another text.
    pub fn forget_text(&mut self) {
        self.has_text = false;
    }

    /// The predicted noise, f32; the next call overwrites it. None if the device failed.
    pub fn run(&mut self, given: Given<'_>) -> Option<Tensor<5>> {
        if !self.has_text {
            rewrite(&self.text, values_of(given.text)?);
            rewrite(&self.bias, biases(&given.text.mask));
            self.has_text = true;
        }
        rewrite(&self.latents, given.latents.to_vec());
        rewrite(&self.sinusoids, sinusoid(given.timesteps));
        Some(self.replay.run())
    }
}

/// Without a hidden token a call has no bias to add, which is another kernel.
pub fn hides_some(text: &TextContext) -> bool {
    text.mask.iter().any(|&counts| counts != 1.0)
}

fn values_of(text: &TextContext) -> Option<Vec<f32>> {
    text.embedding.clone().try_into_vec_as().ok()
}
