//! The frames of a clip in memory.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::compare::decibels;
use super::{ClipError, LARGEST_SIDE};

/// Decoded frames: sRGB, 8 bits a channel, no alpha.
#[derive(Debug, Clone, PartialEq)]
pub struct Frames {
    /// Pixels in a row.
    pub width: usize,
    /// Rows in a frame.
    pub height: usize,
    pub frames_per_second: f64,
    /// `[frame][row][column][red, green, blue]`.
    pub rgb: Vec<u8>,
}

impl Frames {
    /// Bytes in one frame.
    pub fn frame_bytes(&self) -> usize {
        self.width * self.height * 3
    }

    /// How many whole frames there are.
    pub fn count(&self) -> usize {
        self.rgb.len().checked_div(self.frame_bytes()).unwrap_or(0)
    }

    /// The RGB bytes of one frame.
    ///
    /// # Panics
    /// If `index` is not below [`Frames::count`], as with a slice.
    pub fn frame(&self, index: usize) -> &[u8] {
        let bytes = self.frame_bytes();
        &self.rgb[index * bytes..(index + 1) * bytes]
    }

    /// Frames in order; none where a frame has no pixel.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.rgb.chunks_exact(self.frame_bytes().max(1))
    }

    /// All frames in order, `times` times.
    pub(super) fn repeated(&self, times: usize) -> impl ExactSizeIterator<Item = &[u8]> {
        let count = self.count();
        (0..count * times).map(move |index| self.frame(index % count))
    }

    /// SHA-256 of the raw RGB bytes as lower-case hexadecimal: two clips with the same sum show the same pixels.
    pub fn sha256(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in Sha256::digest(&self.rgb) {
            // Writing into a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Peak signal-to-noise ratio of every frame against the same frame of `other`, in decibels over all three
    /// channels; infinite where they are equal. As many values as both clips have frames; none when their sizes differ.
    pub fn psnr(&self, other: &Frames) -> Vec<f64> {
        self.mean_squared_errors(other).into_iter().map(decibels).collect()
    }

    /// Of every frame against the same frame of `other`, over all three channels; none when their sizes differ.
    pub(super) fn mean_squared_errors(&self, other: &Frames) -> Vec<f64> {
        if (self.width, self.height) != (other.width, other.height) {
            return Vec::new();
        }
        self.iter()
            .zip(other.iter())
            .map(|(a, b)| {
                let squared_error: u64 = a.iter().zip(b).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum();
                squared_error as f64 / a.len() as f64
            })
            .collect()
    }

    /// Checks what every encoder relies on.
    ///
    /// # Errors
    /// [`ClipError::InvalidFrames`] for frames without pixels, a buffer that is no whole number of frames, no frame at
    /// all, or sides over [`LARGEST_SIDE`].
    pub(super) fn check(&self) -> Result<(), ClipError> {
        let invalid = |why: String| Err(ClipError::InvalidFrames { why });
        let Frames { width, height, .. } = *self;
        if width == 0 || height == 0 || width > LARGEST_SIDE || height > LARGEST_SIDE {
            return invalid(format!("{width}x{height} pixels is not between 1x1 and {LARGEST_SIDE}x{LARGEST_SIDE}"));
        }
        if self.rgb.is_empty() {
            return invalid("there is no frame".to_owned());
        }
        if !self.rgb.len().is_multiple_of(self.frame_bytes()) {
            return invalid(format!("{} bytes are no whole number of {width}x{height} RGB frames", self.rgb.len()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(rgb: Vec<u8>) -> Frames {
        Frames { width: 2, height: 1, frames_per_second: 24.0, rgb }
    }

    #[test]
    fn counts_and_slices_frames() {
        let frames = clip((0..18).collect());
        assert_eq!(frames.count(), 3);
        assert_eq!(frames.frame(1), &[6, 7, 8, 9, 10, 11]);
        assert_eq!(frames.iter().len(), 3);
        assert!(frames.check().is_ok());
        assert!(clip(vec![]).check().is_err());
        assert!(clip(vec![0; 7]).check().is_err());
        assert!(Frames { width: 0, ..clip(vec![]) }.check().is_err());
    }

    #[test]
    fn the_sum_is_the_standard_one() {
        // "abc" is the first test vector of FIPS 180-2.
        assert_eq!(clip(b"abc".to_vec()).sha256(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn psnr_of_an_error_of_one_is_48_decibels() {
        let a = clip(vec![10; 12]);
        let mut b = a.clone();
        b.rgb[6..].fill(11);
        let psnr = a.psnr(&b);
        assert_eq!(psnr[0], f64::INFINITY);
        assert!((psnr[1] - 48.1308).abs() < 1e-3);
    }
}
