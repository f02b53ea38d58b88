//! Values of a tensor in the type that a device keeps.

use std::collections::TryReserveError;

use burn::tensor::{FloatDType, Shape, TensorData};
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::stored_type::StoredType;

/// A tensor as it goes to a device.
#[derive(Debug)]
pub struct TensorValues {
    /// f32 or f16, row-major, in the published shape.
    pub data: TensorData,
    /// How many values are NaN or infinite, those that a narrower type cannot hold included.
    pub not_finite: usize,
}

/// Takes a tensor's bytes piece by piece, so that it is never held twice in full.
pub(super) struct Collector {
    values: Values,
    /// One piece, where pieces pass through f32.
    piece: Vec<f32>,
    not_finite: usize,
}

enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl Collector {
    /// For `count` values; types other than f16 are kept as f32.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(super) fn new(dtype: FloatDType, count: usize) -> Result<Self, TryReserveError> {
        let values = if dtype == FloatDType::F16 {
            let mut values = Vec::new();
            values.try_reserve_exact(count)?;
            Values::F16(values)
        } else {
            let mut values = Vec::new();
            values.try_reserve_exact(count)?;
            Values::F32(values)
        };
        Ok(Self { values, piece: Vec::new(), not_finite: 0 })
    }

    /// Appends whole little-endian elements of a floating-point type.
    pub(super) fn append(&mut self, stored: StoredType, bytes: &[u8]) {
        match &mut self.values {
            Values::F16(values) if stored == StoredType::F16 => {
                let start = values.len();
                let (elements, _) = bytes.as_chunks::<2>();
                values.extend(elements.iter().map(|element| f16::from_le_bytes(*element)));
                self.not_finite += values[start..].iter().filter(|value| !value.is_finite()).count();
            }
            Values::F32(values) => {
                let start = values.len();
                stored.append_as_f32(bytes, values);
                self.not_finite += values[start..].iter().filter(|value| !value.is_finite()).count();
            }
            Values::F16(_) => {
                self.piece.clear();
                stored.append_as_f32(bytes, &mut self.piece);
                let piece = std::mem::take(&mut self.piece);
                self.append_f32(&piece);
                self.piece = piece;
            }
        }
    }

    pub(super) fn append_f32(&mut self, piece: &[f32]) {
        match &mut self.values {
            Values::F32(values) => {
                values.extend_from_slice(piece);
                self.not_finite += piece.iter().filter(|value| !value.is_finite()).count();
            }
            Values::F16(values) => {
                let start = values.len();
                values.resize(start + piece.len(), f16::ZERO);
                values[start..].convert_from_f32_slice(piece);
                self.not_finite += values[start..].iter().filter(|value| !value.is_finite()).count();
            }
        }
    }

    pub(super) fn finish(self, shape: &[usize]) -> TensorValues {
        let shape = Shape::from(shape.to_vec());
        let data = match self.values {
            Values::F32(values) => TensorData::new(values, shape),
            Values::F16(values) => TensorData::new(values, shape),
        };
        TensorValues { data, not_finite: self.not_finite }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_becomes_every_other() {
        let numbers = [0.0f32, -1.5, 0.25, 1024.0];
        let stored: [(StoredType, Vec<u8>); 4] = [
            (StoredType::F32, numbers.iter().flat_map(|n| n.to_le_bytes()).collect()),
            (StoredType::F64, numbers.iter().flat_map(|n| f64::from(*n).to_le_bytes()).collect()),
            (StoredType::F16, numbers.iter().flat_map(|n| f16::from_f32(*n).to_le_bytes()).collect()),
            (StoredType::BF16, numbers.iter().flat_map(|n| half::bf16::from_f32(*n).to_le_bytes()).collect()),
        ];
        for (stored, bytes) in stored {
            for dtype in [FloatDType::F32, FloatDType::F16] {
                let mut collector = Collector::new(dtype, 4).unwrap();
                // In two pieces.
                let (first, second) = bytes.split_at(stored.byte_width());
                collector.append(stored, first);
                collector.append(stored, second);
                let values = collector.finish(&[2, 2]);
                assert_eq!(values.data.dtype(), dtype.into());
                assert_eq!(values.data.convert::<f32>().try_to_vec::<f32>().unwrap(), numbers, "{stored} as {dtype:?}");
                assert_eq!(values.not_finite, 0);
            }
        }
    }

    #[test]
    fn what_a_type_cannot_hold_is_counted() {
        let bytes: Vec<u8> = [1.0f32, 70_000.0, f32::NAN, 1e-9].iter().flat_map(|n| n.to_le_bytes()).collect();
        let count = |dtype| {
            let mut collector = Collector::new(dtype, 4).unwrap();
            collector.append(StoredType::F32, &bytes);
            collector.finish(&[4]).not_finite
        };
        assert_eq!((count(FloatDType::F32), count(FloatDType::F16)), (1, 2));
    }
}
