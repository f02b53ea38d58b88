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

    /// How many tokens there are: frames, height, width.
    pub fn token_grid(self) -> [usize; 3] {
        [self.latent_frames(), self.height / PIXELS_A_TOKEN, self.width / PIXELS_A_TOKEN]
    }

    /// The token that a pixel of a frame is decoded from, all counted from 0; none outside of the clip.
    pub fn token_at(self, frame: usize, x: usize, y: usize) -> Option<TokenPlace> {
        let is_inside = frame < self.frames && x < self.width && y < self.height;
        is_inside.then(|| TokenPlace { frame: latent_frame(frame), y: y / PIXELS_A_TOKEN, x: x / PIXELS_A_TOKEN })
    }
}

/// A token's place in the grid of a clip, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenPlace {
    /// The latent frame.
    pub frame: usize,
    pub y: usize,
    pub x: usize,
}

impl TokenPlace {
    /// Its number in a grid of frames, height and width; none outside of it.
    pub fn index(self, [frames, height, width]: [usize; 3]) -> Option<usize> {
        let is_inside = self.frame < frames && self.y < height && self.x < width;
        is_inside.then_some((self.frame * height + self.y) * width + self.x)
    }
}

/// The latent frame that a frame of the clip is decoded from: the first stands alone, then every four share one.
pub fn latent_frame(frame: usize) -> usize {
    frame.div_ceil(FRAMES_A_LATENT)
}

/// The frames that are decoded from a latent frame.
pub fn frames_of_latent(latent: usize) -> std::ops::Range<usize> {
    let end = latent * FRAMES_A_LATENT + 1;
    if latent == 0 { 0..1 } else { end - FRAMES_A_LATENT..end }
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
    fn pixels_belong_to_the_tokens_that_they_are_decoded_from() {
        let size = ClipSize { frames: 13, width: 64, height: 48 };
        let [frames, height, width] = size.token_grid();
        assert_eq!([frames, height, width], [4, 3, 4]);
        assert_eq!(frames * height * width, frames * size.tokens_per_frame());
        // By construction: every token paints its pixels and its frames.
        let mut seen = 0;
        for latent in 0..frames {
            for frame in frames_of_latent(latent) {
                for y in 0..48 {
                    for x in 0..64 {
                        let place = TokenPlace { frame: latent, y: y / 16, x: x / 16 };
                        assert_eq!(size.token_at(frame, x, y), Some(place));
                        assert_eq!(place.index(size.token_grid()), Some((latent * 3 + y / 16) * 4 + x / 16));
                        seen += 1;
                    }
                }
            }
        }
        assert_eq!(seen, 13 * 64 * 48);
        assert_eq!([0, 1, 4, 5, 12].map(|frame| size.token_at(frame, 0, 0).unwrap().frame), [0, 1, 1, 2, 3]);
        for (frame, x, y) in [(13, 0, 0), (0, 64, 0), (0, 0, 48)] {
            assert_eq!(size.token_at(frame, x, y), None);
        }
        assert_eq!(TokenPlace { frame: 0, y: 0, x: 4 }.index(size.token_grid()), None);
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
