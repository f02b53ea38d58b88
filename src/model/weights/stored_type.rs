//! How a weight file keeps its numbers, and the exact conversion to f32.

use std::fmt;

use half::{bf16, f16};

/// Element type of a stored tensor. Values are little-endian in every file kind that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoredType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl StoredType {
    /// Bytes of one element.
    pub const fn byte_width(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// True for the types that network weights are kept in; integer tensors are counters or indices, never weights.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    /// Its name in a safetensors header.
    pub(super) const fn safetensors_name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U64 => "U64",
            Self::U32 => "U32",
            Self::U16 => "U16",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        }
    }

    /// The type under its name in a safetensors header, if it is one that this program reads.
    pub(super) fn from_safetensors_name(name: &str) -> Option<Self> {
        Some(match name {
            "F64" => Self::F64,
            "F32" => Self::F32,
            "F16" => Self::F16,
            "BF16" => Self::BF16,
            "I64" => Self::I64,
            "I32" => Self::I32,
            "I16" => Self::I16,
            "I8" => Self::I8,
            "U64" => Self::U64,
            "U32" => Self::U32,
            "U16" => Self::U16,
            "U8" => Self::U8,
            "BOOL" => Self::Bool,
            _ => return None,
        })
    }

    /// Appends `bytes` (a whole number of little-endian elements) to `values`.
    ///
    /// F32, F16 and BF16 are exact; F64 rounds to the nearest f32. Returns false, and appends nothing, if this is not a
    /// floating-point type.
    pub(super) fn append_as_f32(self, bytes: &[u8], values: &mut Vec<f32>) -> bool {
        match self {
            Self::F32 => append(bytes, values, f32::from_le_bytes),
            Self::F16 => append(bytes, values, |b| f16::from_le_bytes(b).to_f32()),
            Self::BF16 => append(bytes, values, |b| bf16::from_le_bytes(b).to_f32()),
            Self::F64 => append(bytes, values, |b| f64::from_le_bytes(b) as f32),
            _ => return false,
        }
        true
    }
}

fn append<const WIDTH: usize>(bytes: &[u8], values: &mut Vec<f32>, decode: impl Fn([u8; WIDTH]) -> f32) {
    let (elements, rest) = bytes.as_chunks::<WIDTH>();
    debug_assert!(rest.is_empty(), "callers pass whole elements");
    values.extend(elements.iter().map(|element| decode(*element)));
}

impl fmt::Display for StoredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_precision_value_is_converted_exactly() {
        // Independent source: the value of sign, exponent and fraction bits, computed in f64.
        fn value_of(bits: u16, exponent_bits: i32, fraction_bits: i32) -> f64 {
            let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
            let bias = (1 << (exponent_bits - 1)) - 1;
            let exponent = i32::from(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
            let fraction = f64::from(i32::from(bits) & ((1 << fraction_bits) - 1)) / f64::from(1 << fraction_bits);
            if exponent == (1 << exponent_bits) - 1 {
                return if fraction == 0.0 { sign * f64::INFINITY } else { f64::NAN };
            }
            let (significand, exponent) = if exponent == 0 { (fraction, 1 - bias) } else { (1.0 + fraction, exponent - bias) };
            sign * significand * f64::from(exponent).exp2()
        }
        for (stored, exponent_bits, fraction_bits) in [(StoredType::F16, 5, 10), (StoredType::BF16, 8, 7)] {
            let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            let mut values = Vec::new();
            assert!(stored.append_as_f32(&bytes, &mut values));
            for (bits, got) in (0..=u16::MAX).zip(values) {
                let want = value_of(bits, exponent_bits, fraction_bits);
                assert!(
                    f64::from(got) == want || (got.is_nan() && want.is_nan()),
                    "{stored} bits {bits:#06x}: {got} instead of {want}"
                );
            }
        }
    }

    #[test]
    fn integers_are_not_weights() {
        let mut values = Vec::new();
        assert!(!StoredType::I64.append_as_f32(&[0; 8], &mut values));
        assert!(values.is_empty());
    }
}
