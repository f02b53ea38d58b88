//! The numeric test that every kernel passes on a device before its first use.
//!
//! Drivers compile shaders wrongly now and then, and a wrong kernel makes a wrong clip without any error. So each kernel runs
//! once on small, unfriendly input (odd sizes, large logits, memory full of junk) and is compared with the plain reference in
//! f64. The result is kept for the life of the process.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use burn::tensor::{FloatDType, Tensor, TensorData};
use half::f16;

use super::device::{ComputeDevice, Precision};
use super::kernels::KernelError;
use super::kernels::conv3d::{Geometry, conv3d};
use super::kernels::group_norm::{EPSILON, GROUPS, group_norm_affine};
use super::kernels::reference::{self, relative_l2, seeded};
use super::kernels::tile_attention::{Tiles, tile_attention};
use crate::mask::MaskFamily;

/// What a device made of all kernels.
#[derive(Clone, Debug)]
pub struct SelfTest {
    pub passed: bool,
    pub lines: Vec<SelfTestLine>,
}

/// One kernel under one condition.
#[derive(Clone, Debug)]
pub struct SelfTestLine {
    pub kernel: &'static str,
    /// ||got - want|| / ||want||; infinite if it did not run, gave values that are not finite, or only zeros.
    pub error: f64,
    pub limit: f64,
    pub ok: bool,
    /// Why it did not run.
    pub failure: Option<String>,
}

/// Runs the test, or gives the result of the run before. Never panics: what goes wrong on the device is a failed line.
pub fn run(device: &ComputeDevice) -> SelfTest {
    static RESULTS: Mutex<Option<HashMap<(String, Precision), SelfTest>>> = Mutex::new(None);
    let mut results = RESULTS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let key = (device.name.clone(), device.precision);
    results.get_or_insert_default().entry(key).or_insert_with(|| Bench { device }.run_all()).clone()
}

struct Bench<'a> {
    device: &'a ComputeDevice,
}

type Outcome = Result<(Vec<f32>, Vec<f64>), String>;

impl Bench<'_> {
    fn run_all(&self) -> SelfTest {
        let half = self.device.precision == Precision::F16;
        // f16 results are rounded to 11 bits: 2^-12 to 2^-11 of themselves.
        let (plain, large) = if half { (6e-4, 6e-4) } else { (2e-6, 2e-5) };
        let (convolution, statistics) = if half { (6e-4, 1e-5) } else { (2e-6, 1e-5) };
        let lines = vec![
            self.line("tile attention", plain, || self.attention(96, [37, 37], 1.0, false)),
            self.line("tile attention, key bias", plain, || self.attention(20, [37, 37], 1.0, true)),
            self.line("tile attention, large logits", large, || self.attention(96, [37, 37], 400.0, false)),
            self.line("tile attention, many keys", plain, || self.attention(96, [1, 1201], 1.0, false)),
            self.line("convolution", convolution, || self.convolution(CAUSAL, false)),
            self.line("convolution, normalised, residual", convolution, || self.convolution(CAUSAL, true)),
            self.line("convolution, stride 2", convolution, || self.convolution(HALVING, false)),
            self.line("group norm", statistics, || self.group_norm()),
        ];
        SelfTest { passed: lines.iter().all(|line| line.ok), lines }
    }

    fn line(&self, kernel: &'static str, limit: f64, test: impl Fn() -> Outcome) -> SelfTestLine {
        let outcome = catch_unwind(AssertUnwindSafe(test)).unwrap_or_else(|payload| Err(reason(payload.as_ref())));
        let (error, failure) = match outcome {
            Ok((got, want)) => (relative_l2(&got, &want), None),
            Err(reason) => (f64::INFINITY, Some(reason)),
        };
        SelfTestLine { kernel, error, limit, ok: error <= limit, failure }
    }

    /// Two clips of two heads; a frame mask with one reference frame; odd numbers of tokens (of queries and of keys).
    fn attention(&self, head: usize, [query_tokens, key_tokens]: [usize; 2], query_scale: f32, with_bias: bool) -> Outcome {
        let (batch, heads, frames) = (2, 2, 3);
        let mask = MaskFamily::paper(1).frame_mask(frames).map_err(|error| error.to_string())?;
        let [queries, keys] = [query_tokens, key_tokens].map(|tokens| [batch, heads, frames * tokens, head]);
        let [query_count, key_count] = [queries, keys].map(|shape| shape.iter().product::<usize>());
        let query = self.stored(seeded(1, query_count).into_iter().map(|value| value * query_scale).collect());
        let (key, value) = (self.stored(seeded(2, key_count)), self.stored(seeded(3, key_count)));
        // Some keys are hidden, as the padding of a text.
        let bias: Option<Vec<f32>> =
            with_bias.then(|| (0..batch * frames * key_tokens).map(|key| if key % 3 == 1 { -10_000.0 } else { 0.0 }).collect());
        let key_frames = Arc::new(mask.key_frames());
        let call = reference::TileAttention {
            batch,
            heads,
            head,
            query_tokens,
            key_tokens,
            key_frames_total: frames,
            key_frames: &key_frames,
            scale: (head as f64).powf(-0.5) as f32,
        };
        let want = reference::tile_attention(&call, &query, &key, &value, bias.as_deref());
        let query = self.tensor(query, queries);
        let [key, value] = [key, value].map(|values| self.tensor(values, keys));
        let bias = bias.map(|bias| Tensor::from_data(TensorData::new(bias, [batch, frames * key_tokens]), &self.device.device));
        self.leave_junk(query_count)?;
        let output = tile_attention(query, key, value, bias, Tiles { key_frames, query_tokens, key_tokens });
        Ok((read(output)?, want))
    }

    /// Two clips, odd sizes, more output channels than one workgroup has.
    fn convolution(&self, geometry: Geometry, fused: bool) -> Outcome {
        let (input, channels_out) = ([2, 3, 7, 9, 35], 67);
        let [batch, frames, height, width, channels] = input;
        let [frames_out, height_out, width_out] = geometry.output([frames, height, width]);
        let output = [batch, frames_out, height_out, width_out, channels_out];
        let x = self.stored(seeded(4, input.iter().product()));
        let weight = self.stored(seeded(5, geometry.taps() * channels * channels_out).into_iter().map(|w| w / 16.0).collect());
        let bias = self.stored(seeded(6, channels_out));
        let affine = fused.then(|| seeded(7, batch * 2 * channels));
        let residual = fused.then(|| self.stored(seeded(8, output.iter().product())));
        let call = reference::Conv3d { input, channels_out, geometry };
        let want = reference::conv3d(&call, &x, &weight, &bias, affine.as_deref(), residual.as_deref());
        let affine = affine.map(|affine| Tensor::from_data(TensorData::new(affine, [batch, 2, channels]), &self.device.device));
        let residual = residual.map(|residual| self.tensor(residual, output));
        let (x, weight) = (self.tensor(x, input), self.tensor(weight, [geometry.taps(), channels, channels_out]));
        let bias = self.tensor(bias, [channels_out]);
        self.leave_junk(output.iter().product())?;
        Ok((read(conv3d(x, weight, bias, affine, residual, geometry))?, want))
    }

    /// Values far from zero, where a variance from sums of squares alone would cancel.
    fn group_norm(&self) -> Outcome {
        let shape = [2, 3, 5, 7, 2 * GROUPS];
        let [batch, frames, height, width, channels] = shape;
        let x = self.stored(seeded(9, shape.iter().product()).into_iter().map(|value| value + 30.0).collect());
        let (weight, bias) = (seeded(10, channels), seeded(11, channels));
        let want = reference::group_norm_affine([batch, frames * height * width, channels], GROUPS, EPSILON, &x, &weight, &bias);
        let parameter = |values: Vec<f32>| Tensor::<1>::from_data(TensorData::new(values, [channels]), &self.device.device);
        Ok((read(group_norm_affine(self.tensor(x, shape), parameter(weight), parameter(bias)))?, want))
    }

    /// Values as the device stores them, so that the reference starts from the same.
    fn stored(&self, values: Vec<f32>) -> Vec<f32> {
        match self.device.precision {
            Precision::F32 => values,
            Precision::F16 => values.into_iter().map(|value| f16::from_f32(value).to_f32()).collect(),
        }
    }

    fn tensor<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::<D>::from_data(TensorData::new(values, shape), &self.device.device).cast(self.device.precision.dtype())
    }

    /// Fills and frees memory of the size that a kernel's output is about to take: what it does not write shows.
    fn leave_junk(&self, count: usize) -> Result<(), String> {
        let junk: Vec<Tensor<1>> = (0..4).map(|_| self.tensor(vec![f32::NAN; count], [count])).collect();
        junk.into_iter().try_for_each(|junk| read(junk).map(drop))
    }
}

const CAUSAL: Geometry =
    Geometry { kernel: [3, 3, 3], stride: [1, 1, 1], causal_frames: 2, top: 1, bottom: 1, left: 1, right: 1 };
const HALVING: Geometry =
    Geometry { kernel: [3, 3, 3], stride: [2, 2, 2], causal_frames: 2, top: 0, bottom: 1, left: 0, right: 1 };

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, String> {
    tensor.cast(FloatDType::F32).try_into_vec_as().map_err(|error| error.to_string())
}

fn reason(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<KernelError>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "the device failed without a word".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{self, DeviceChoice};

    #[test]
    fn the_cpu_passes() {
        let device = device::open(&DeviceChoice::Cpu, None).unwrap();
        let result = run(&device);
        assert!(result.passed, "{:#?}", result.lines);
    }

    #[test]
    fn a_wrong_result_and_a_panic_are_failed_lines() {
        let device = device::open(&DeviceChoice::Cpu, None).unwrap();
        let bench = Bench { device: &device };
        let wrong = bench.line("wrong", 1e-3, || Ok((vec![1.0, 2.0], vec![1.0, 2.1])));
        let zeros = bench.line("zeros", 1e-3, || Ok((vec![0.0], vec![0.0])));
        let panic = bench.line("panic", 1e-3, || panic!("lost"));
        assert!(!wrong.ok && !zeros.ok && !panic.ok);
        assert_eq!(panic.failure.as_deref(), Some("lost"));
    }
}
