//! Instruction sets, and the vector of f32 that the kernels are written with.
//!
//! A kernel implements [`Kernel`] with an `#[inline(always)]` body over a [`Lanes`] type; [`InstructionSet::run`]
//! compiles that body into one function per instruction set and calls the one that this processor has. All helpers on the
//! way must be `#[inline(always)]`, since only code that is inlined there is compiled with the wider instructions.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::fmt;

/// An instruction set that this processor has: it can only be made by detection, which is what makes [`Self::run`] sound.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InstructionSet(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl InstructionSet {
    /// The widest set of this processor. The answer is cached by the standard library.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if fma && is_x86_feature_detected!("avx512f") {
                return Self(Set::Avx512);
            }
            if fma {
                return Self(Set::Avx2);
            }
        }
        Self(Set::Portable)
    }

    /// What doctors and recipes call it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "AVX-512",
        }
    }

    /// All sets of this processor, the portable one first. For tests and measurements.
    pub fn available() -> Vec<Self> {
        let best = Self::best();
        #[cfg(target_arch = "x86_64")]
        if best.0 == Set::Avx512 {
            // Every processor with AVX-512 has AVX2.
            return vec![Self(Set::Portable), Self(Set::Avx2), best];
        }
        if best.0 == Set::Portable { vec![best] } else { vec![Self(Set::Portable), best] }
    }

    /// Runs `kernel` compiled for this set.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Set::Portable => kernel.run::<Portable>(),
            // SAFETY: the value was made by detection of exactly these features.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { run_avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { run_avx512(kernel) },
        }
    }

    /// Floats of one vector of this set.
    pub fn width(self) -> usize {
        match self.0 {
            Set::Portable => Portable::WIDTH,
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => Avx2::WIDTH,
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => Avx512::WIDTH,
        }
    }
}

impl fmt::Debug for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Work that is compiled once for every instruction set.
pub trait Kernel {
    type Output;
    /// Must be `#[inline(always)]`.
    fn run<L: Lanes>(self) -> Self::Output;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

/// Floats of the widest vector.
pub const MAX_WIDTH: usize = 16;

/// Bits whose difference with those of a number are nearly those of its reciprocal: both are nearly logarithms.
const RECIPROCAL_BITS: i32 = 0x7EF3_11C7;

/// 2 sqrt(2 / pi), and that times 0.044715: the inside of GELU's tanh form.
const GELU_LINEAR: f32 = 1.595_769;
const GELU_CUBIC: f32 = GELU_LINEAR * 0.044_715;

/// A vector of f32. Its implementors are private to this module, so that they are used inside [`InstructionSet::run`]
/// only, where their instructions exist.
pub trait Lanes: Copy {
    /// Floats of a vector.
    const WIDTH: usize;
    /// Rows of a tile of the microkernel: with two vectors a row, the sums, two vectors of the panel and the broadcast value
    /// fit in the registers.
    const ROWS: usize;

    fn splat(value: f32) -> Self;
    /// # Safety
    /// `WIDTH` floats must be readable there.
    unsafe fn load_at(from: *const f32) -> Self;
    /// # Safety
    /// `WIDTH` floats must be writable there.
    unsafe fn store_at(self, to: *mut f32);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `self * factor + term`, rounded once where the processor can.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The larger one; not a number where `other` is not.
    fn max(self, other: Self) -> Self;
    /// The smaller one; not a number where `other` is not.
    fn min(self, other: Self) -> Self;
    /// 2 to the power of integers from -127 (which gives 0) to 127.
    fn exp2_of_integer(self) -> Self;
    /// 1 / self within 13 %, for 1e-37 to 1e37: `RECIPROCAL_BITS` minus the bits of the number.
    fn reciprocal_estimate(self) -> Self;

    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }

    /// The first `WIDTH` floats of `from`.
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        assert!(from.len() >= Self::WIDTH);
        // SAFETY: the length was checked.
        unsafe { Self::load_at(from.as_ptr()) }
    }

    /// Overwrites the first `WIDTH` floats of `to`.
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        assert!(to.len() >= Self::WIDTH);
        // SAFETY: the length was checked.
        unsafe { self.store_at(to.as_mut_ptr()) }
    }

    /// e to the power of `self`, within 2 units in the last place of the normal range; 0 below -87.7, and the values above
    /// 88 are taken as 88, so that the result is always finite.
    #[inline(always)]
    fn exp(self) -> Self {
        // Adding and taking away 1.5 * 2^23 rounds to an integer.
        const ROUND: f32 = 12_582_912.0;
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        let x = Self::splat(88.0).min(Self::splat(-88.0).max(self));
        let shifted = x.mul_add(Self::splat(std::f32::consts::LOG2_E), Self::splat(ROUND));
        let power = shifted.add(Self::splat(-ROUND));
        let rest = power.mul_add(Self::splat(-LN2_HIGH), x);
        let rest = power.mul_add(Self::splat(-LN2_LOW), rest);
        // Taylor's series to the 7th power; |rest| <= ln(2) / 2, so the next term is below 6e-9.
        let mut sum = Self::splat(1.0 / 5040.0);
        for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            sum = sum.mul_add(rest, Self::splat(coefficient));
        }
        sum.mul(power.exp2_of_integer())
    }

    /// x * sigmoid(x), within 4 units in the last place down to -80, below which the result is within 1e-32.
    #[inline(always)]
    fn silu(self) -> Self {
        self.mul(self.sigmoid())
    }

    /// The tanh form of GELU, which is x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)) exactly.
    #[inline(always)]
    fn gelu_tanh(self) -> Self {
        let inner = self.mul(self).mul_add(Self::splat(GELU_CUBIC), Self::splat(GELU_LINEAR)).mul(self);
        self.mul(inner.sigmoid())
    }

    /// The derivative of [`Self::gelu_tanh`], within 2e-6.
    #[inline(always)]
    fn gelu_tanh_slope(self) -> Self {
        // Beyond 12 it is 0 or 1 to the last bit, and the square may be no number.
        let x = Self::splat(12.0).min(Self::splat(-12.0).max(self));
        let square = x.mul(x);
        let gate = square.mul_add(Self::splat(GELU_CUBIC), Self::splat(GELU_LINEAR)).mul(x).sigmoid();
        let inner_slope = square.mul_add(Self::splat(3.0 * GELU_CUBIC), Self::splat(GELU_LINEAR));
        let rest = Self::splat(1.0).sub(gate).mul(gate).mul(x);
        rest.mul_add(inner_slope, gate)
    }

    /// 1 / (1 + exp(-x)).
    #[inline(always)]
    fn sigmoid(self) -> Self {
        // The clamp keeps the estimate of the reciprocal in its range.
        let decay = Self::splat(80.0).min(self.mul(Self::splat(-1.0))).exp();
        let divisor = decay.add(Self::splat(1.0));
        // Newton's steps instead of a division, which would cost as much as the exponential; and unlike the estimates
        // of the instruction sets, this one is the same on every processor.
        let minus_divisor = divisor.mul(Self::splat(-1.0));
        let mut reciprocal = divisor.reciprocal_estimate();
        for _ in 0..3 {
            let error = minus_divisor.mul_add(reciprocal, Self::splat(1.0));
            reciprocal = error.mul_add(reciprocal, reciprocal);
        }
        reciprocal
    }
}

const PORTABLE_WIDTH: usize = if cfg!(target_arch = "aarch64") { 8 } else { 4 };

/// Arrays that the compiler turns into the vectors that every processor of the architecture has (NEON, SSE2).
#[derive(Clone, Copy)]
struct Portable([f32; PORTABLE_WIDTH]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| f(self.0[lane], other.0[lane])))
    }
}

impl Lanes for Portable {
    const WIDTH: usize = PORTABLE_WIDTH;
    const ROWS: usize = 6;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; PORTABLE_WIDTH])
    }
    #[inline(always)]
    unsafe fn load_at(from: *const f32) -> Self {
        // SAFETY: the caller promises WIDTH readable floats; no alignment beyond that of f32 is asked for.
        Self(unsafe { from.cast::<[f32; PORTABLE_WIDTH]>().read() })
    }
    #[inline(always)]
    unsafe fn store_at(self, to: *mut f32) {
        // SAFETY: the caller promises WIDTH writable floats.
        unsafe { to.cast::<[f32; PORTABLE_WIDTH]>().write(self.0) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        // Without the instruction, `f32::mul_add` is a call of a slow library function.
        let fused = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
        Self(std::array::from_fn(|lane| {
            let (a, b, c) = (self.0[lane], factor.0[lane], term.0[lane]);
            if fused { a.mul_add(b, c) } else { a * b + c }
        }))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn exp2_of_integer(self) -> Self {
        Self(self.0.map(|power| f32::from_bits(((power as i32 + 127) as u32) << 23)))
    }
    #[inline(always)]
    fn reciprocal_estimate(self) -> Self {
        Self(self.0.map(|value| f32::from_bits((RECIPROCAL_BITS as u32).wrapping_sub(value.to_bits()))))
    }
}

/// The methods that are one instruction each.
#[cfg(target_arch = "x86_64")]
macro_rules! one_instruction {
    ($($method:ident($($argument:ident),*) $intrinsic:ident;)*) => {
        $(#[inline(always)]
        fn $method(self, $($argument: Self),*) -> Self {
            // SAFETY: only used inside InstructionSet::run, where this instruction exists.
            Self(unsafe { $intrinsic(self.0, $($argument.0),*) })
        })*
    };
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Avx2(__m256);

#[cfg(target_arch = "x86_64")]
impl Lanes for Avx2 {
    const WIDTH: usize = 8;
    const ROWS: usize = 6;

    one_instruction! {
        add(other) _mm256_add_ps;
        sub(other) _mm256_sub_ps;
        mul(other) _mm256_mul_ps;
        mul_add(factor, term) _mm256_fmadd_ps;
        max(other) _mm256_max_ps;
        min(other) _mm256_min_ps;
    }
    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: only used inside InstructionSet::run, where this instruction exists.
        Self(unsafe { _mm256_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load_at(from: *const f32) -> Self {
        // SAFETY: the caller promises WIDTH readable floats.
        Self(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store_at(self, to: *mut f32) {
        // SAFETY: the caller promises WIDTH writable floats.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    fn exp2_of_integer(self) -> Self {
        // SAFETY: only used inside InstructionSet::run, where these instructions exist.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)))
        }
    }
    #[inline(always)]
    fn reciprocal_estimate(self) -> Self {
        // SAFETY: only used inside InstructionSet::run, where these instructions exist.
        Self(unsafe { _mm256_castsi256_ps(_mm256_sub_epi32(_mm256_set1_epi32(RECIPROCAL_BITS), _mm256_castps_si256(self.0))) })
    }
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Avx512(__m512);

#[cfg(target_arch = "x86_64")]
impl Lanes for Avx512 {
    const WIDTH: usize = 16;
    const ROWS: usize = 12;

    one_instruction! {
        add(other) _mm512_add_ps;
        sub(other) _mm512_sub_ps;
        mul(other) _mm512_mul_ps;
        mul_add(factor, term) _mm512_fmadd_ps;
        max(other) _mm512_max_ps;
        min(other) _mm512_min_ps;
    }
    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: only used inside InstructionSet::run, where this instruction exists.
        Self(unsafe { _mm512_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load_at(from: *const f32) -> Self {
        // SAFETY: the caller promises WIDTH readable floats.
        Self(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store_at(self, to: *mut f32) {
        // SAFETY: the caller promises WIDTH writable floats.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    fn exp2_of_integer(self) -> Self {
        // SAFETY: only used inside InstructionSet::run, where these instructions exist.
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23)))
        }
    }
    #[inline(always)]
    fn reciprocal_estimate(self) -> Self {
        // SAFETY: only used inside InstructionSet::run, where these instructions exist.
        Self(unsafe { _mm512_castsi512_ps(_mm512_sub_epi32(_mm512_set1_epi32(RECIPROCAL_BITS), _mm512_castps_si512(self.0))) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Map<'a>(&'a [f32], bool);

    impl Kernel for Map<'_> {
        type Output = Vec<f32>;

        #[inline(always)]
        fn run<L: Lanes>(self) -> Vec<f32> {
            let mut out = vec![0.0; self.0.len()];
            for (out, from) in out.chunks_exact_mut(L::WIDTH).zip(self.0.chunks_exact(L::WIDTH)) {
                let from = L::load(from);
                if self.1 { from.silu().store(out) } else { from.exp().store(out) }
            }
            out
        }
    }

    #[test]
    fn exponential_and_silu_are_close_to_f64() {
        let values: Vec<f32> = (-1_400_000..1_400_000).map(|step| step as f32 / 16_000.0).collect();
        for set in InstructionSet::available() {
            let mut worst = [0.0f64; 2];
            for (&x, got) in values.iter().zip(set.run(Map(&values, false))) {
                let want = f64::from(x).exp();
                if x > -87.0 {
                    worst[0] = worst[0].max((f64::from(got) - want).abs() / want);
                }
            }
            for (&x, got) in values.iter().zip(set.run(Map(&values, true))) {
                let want = f64::from(x) / (1.0 + f64::from(-x).exp());
                if x > -79.0 && x != 0.0 {
                    worst[1] = worst[1].max(((f64::from(got) - want) / want).abs());
                }
            }
            // A unit in the last place is 6e-8 to 1.2e-7 of a number.
            assert!(worst[0] < 1.8e-7 && worst[1] < 3.6e-7, "{set:?}: {worst:?}");
        }
    }

    #[test]
    fn extreme_values() {
        let mut values = [0.0f32; MAX_WIDTH];
        values[..8].copy_from_slice(&[f32::NEG_INFINITY, -1e4, -88.0, 89.0, f32::MAX, f32::INFINITY, f32::NAN, f32::MIN]);
        for set in InstructionSet::available() {
            let exp = set.run(Map(&values, false));
            assert_eq!([exp[0], exp[1], exp[2], exp[7], exp[8]], [0.0, 0.0, 0.0, 0.0, 1.0]);
            assert!(exp[3..6].iter().all(|value| value.is_finite() && *value > 1e38) && exp[6].is_nan());
            let silu = set.run(Map(&values, true));
            assert!(silu[1].abs() < 1e-30 && silu[2].abs() < 1e-30 && silu[8] == 0.0);
            assert_eq!(silu[3..6], [89.0, f32::MAX, f32::INFINITY]);
            assert!(silu[6].is_nan());
        }
    }
}
