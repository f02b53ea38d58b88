//! Tensors that hold some frames each, in any order.

use std::ops::Range;

use burn::tensor::Tensor;

/// Values of frames, a few frames a tensor.
pub(super) struct Pieces<const D: usize> {
    /// The axis of tokens.
    axis: usize,
    frame_tokens: usize,
    pieces: Vec<(Vec<usize>, Tensor<D>)>,
}

impl<const D: usize> Pieces<D> {
    pub fn new(axis: usize, frame_tokens: usize) -> Self {
        Self { axis, frame_tokens, pieces: Vec::new() }
    }

    /// With these frames, whose tokens lie along the axis one frame after the other.
    #[must_use]
    pub fn with(mut self, frames: &[usize], values: Tensor<D>) -> Self {
        self.add(frames, values);
        self
    }

    pub fn add(&mut self, frames: &[usize], values: Tensor<D>) {
        debug_assert_eq!(values.dims()[self.axis], frames.len() * self.frame_tokens);
        if !frames.is_empty() {
            self.pieces.push((frames.to_vec(), values));
        }
    }

    /// All frames that it holds, in the order of [`Self::joined`].
    pub fn frames(&self) -> Vec<usize> {
        self.pieces.iter().flat_map(|(frames, _)| frames.iter().copied()).collect()
    }

    /// Everything in one tensor.
    pub fn joined(&self) -> Tensor<D> {
        join(self.pieces.iter().map(|(_, values)| values.clone()).collect(), self.axis)
    }

    /// The values of these frames, in this order.
    ///
    /// # Panics
    /// It does not hold one of them, or there are none.
    pub fn select(&self, frames: &[usize]) -> Tensor<D> {
        if let Some((_, values)) = self.pieces.iter().find(|(own, _)| own == frames) {
            return values.clone();
        }
        let place = |frame: usize| {
            let found = self.pieces.iter().enumerate();
            let mut found = found.filter_map(|(piece, (own, _))| Some((piece, own.iter().position(|&other| other == frame)?)));
            found.next().expect("the frame is one of those that the plan says")
        };
        // Frames that lie beside each other in a piece are one part.
        let mut parts: Vec<(usize, Range<usize>)> = Vec::new();
        for &frame in frames {
            let (piece, at) = place(frame);
            match parts.last_mut() {
                Some((last, range)) if *last == piece && range.end == at => range.end += 1,
                _ => parts.push((piece, at..at + 1)),
            }
        }
        let part = |(piece, range): (usize, Range<usize>)| {
            let (own, values) = &self.pieces[piece];
            if range.len() == own.len() {
                return values.clone();
            }
            values.clone().narrow(self.axis, range.start * self.frame_tokens, range.len() * self.frame_tokens)
        };
        join(parts.into_iter().map(part).collect(), self.axis)
    }
}

pub(super) fn join<const D: usize>(mut parts: Vec<Tensor<D>>, axis: usize) -> Tensor<D> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, axis) }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn frames_are_found_wherever_they_lie() {
        let tensor =
            |values: &[f32]| Tensor::<2>::from_data(TensorData::new(values.to_vec(), [1, values.len()]), &Device::flex());
        let pieces = Pieces::new(1, 2).with(&[3, 1], tensor(&[3.0, 3.5, 1.0, 1.5])).with(&[2], tensor(&[2.0, 2.5]));
        assert_eq!(pieces.frames(), [3, 1, 2]);
        let values = |frames: &[usize]| -> Vec<f32> { pieces.select(frames).try_into_vec_as().unwrap() };
        assert_eq!(values(&[1, 2, 3]), [1.0, 1.5, 2.0, 2.5, 3.0, 3.5]);
        assert_eq!(values(&[3, 1, 2]), [3.0, 3.5, 1.0, 1.5, 2.0, 2.5]);
        assert_eq!(values(&[2]), [2.0, 2.5]);
        assert_eq!(values(&[1]), [1.0, 1.5]);
    }
}
