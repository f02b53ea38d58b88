//! Latents in memory, and the arithmetic between pixels, latents and tokens.

use burn::tensor::{Device, Tensor, TensorData};

use crate::gpu::spans::{self, Kind};

/// Latents of one clip as the sampler works on them: `[channels, frames, height, width]`, row-major f32.
///
/// They live on the CPU: they are small, and what a sampler does to them is then the same on every device.
#[derive(Clone, Debug, PartialEq)]
pub struct Latent {
    pub shape: [usize; 4],
    pub values: Vec<f32>,
}

impl Latent {
    /// As a batch of `copies` equal latents `[copies, channels, frames, height, width]`.
    pub fn to_tensor(&self, copies: usize, device: &Device) -> Tensor<5> {
        let [channels, frames, height, width] = self.shape;
        let data = TensorData::new(self.values.repeat(copies), [copies, channels, frames, height, width]);
        spans::span(Kind::Copy, || Tensor::from_data(data, device))
    }

    pub fn frames(&self) -> usize {
        self.shape[1]
    }

    pub fn is_finite(&self) -> bool {
        self.values.iter().all(|value| value.is_finite())
    }
}

/// Size of a clip and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipSize {
    pub frames: usize,
    pub width: usize,
    pub height: usize,
}

/// Frames of the VAE's first latent frame, and of every other.
pub const FRAMES_A_LATENT: usize = 4;
/// Pixels of a latent along one side.
pub const PIXELS_A_LATENT: usize = 8;
/// Pixels of a token along one side: a patch of 2 x 2 latents.
pub const PIXELS_A_TOKEN: usize = 16;
/// Bounds that keep a typing error from asking for all memory.
pub const LARGEST_SIDE: usize = 4096;
pub const MOST_FRAMES: usize = 1021;

/// A size that the networks cannot make.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    #[error(
        "{frames} frames cannot be made: the VAE turns 4 frames into one latent frame after the first, so a clip has 4k + 1 frames. The nearest are {below} and {above}."
    )]
    Frames { frames: usize, below: usize, above: usize },
    #[error("{frames} frames are more than the {MOST_FRAMES} that a clip may have.")]
    TooManyFrames { frames: usize },
    #[error(
        "{width}x{height} cannot be made: both sides must be multiples of {PIXELS_A_TOKEN} pixels, from {PIXELS_A_TOKEN} to {LARGEST_SIDE}. The nearest is {nearest_width}x{nearest_height}."
    )]
    Pixels { width: usize, height: usize, nearest_width: usize, nearest_height: usize },
}

impl ClipSize {
    /// # Errors
    /// The networks cannot make a clip of this size; the error names the nearest that they can.
    pub fn check(self) -> Result<(), SizeError> {
        let Self { frames, width, height } = self;
        if frames > MOST_FRAMES {
            return Err(SizeError::TooManyFrames { frames });
        }
        if frames % FRAMES_A_LATENT != 1 {
            let below = (frames.max(1) - 1) / FRAMES_A_LATENT * FRAMES_A_LATENT + 1;
            let above = if frames == 0 { below + FRAMES_A_LATENT } else { (below + FRAMES_A_LATENT).min(MOST_FRAMES) };
            return Err(SizeError::Frames { frames, below, above });
        }
        let nearest = |side: usize| {
            let rounded = (side.min(LARGEST_SIDE) + PIXELS_A_TOKEN / 2) / PIXELS_A_TOKEN * PIXELS_A_TOKEN;
            rounded.clamp(PIXELS_A_TOKEN, LARGEST_SIDE)
        };
        let (nearest_width, nearest_height) = (nearest(width), nearest(height));
        if (nearest_width, nearest_height) != (width, height) {
            return Err(SizeError::Pixels { width, height, nearest_width, nearest_height });
        }
        Ok(())
    }

    pub fn latent_frames(self) -> usize {
        (self.frames - 1) / FRAMES_A_LATENT + 1
    }

    /// `[channels, frames, height, width]` of the latents.
    pub fn latent_shape(self, channels: usize) -> [usize; 4] {
        [channels, self.latent_frames(), self.height / PIXELS_A_LATENT, self.width / PIXELS_A_LATENT]
    }

    pub fn tokens_per_frame(self) -> usize {
        (self.height / PIXELS_A_TOKEN) * (self.width / PIXELS_A_TOKEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_the_paper() {
        let size = ClipSize { frames: 29, width: 1280, height: 720 };
        assert_eq!(size.check(), Ok(()));
        assert_eq!(size.latent_shape(4), [4, 8, 90, 160]);
        assert_eq!(size.tokens_per_frame(), 3600);
        assert_eq!(ClipSize { frames: 93, ..size }.latent_frames(), 24);
    }

    #[test]
    fn illegal_sizes_name_the_nearest() {
        let size = |frames, width, height| ClipSize { frames, width, height }.check();
        assert_eq!(size(30, 256, 144), Err(SizeError::Frames { frames: 30, below: 29, above: 33 }));
        assert_eq!(size(0, 256, 144), Err(SizeError::Frames { frames: 0, below: 1, above: 5 }));
        let pixels = SizeError::Pixels { width: 250, height: 7, nearest_width: 256, nearest_height: 16 };
        assert_eq!(size(29, 250, 7), Err(pixels));
        assert!(matches!(size(100_001, 256, 144), Err(SizeError::TooManyFrames { .. })));
        assert!(size(29, usize::MAX, 144).is_err());
    }
}
