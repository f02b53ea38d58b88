//! The numeric test that every kernel passes on a device before its first use.
//!
//! Drivers compile shaders wrongly now and then, and a wrong kernel makes a wrong clip without any error. So each kernel runs
//! once on small, unfriendly input (odd sizes, large logits, memory full of junk) and is compared with the plain reference in
//! f64. On the matrix tier each way of cutting a product is a line. On the faster tiers every kernel runs several times, and all
//! runs must agree in every bit: naga's barriers between the lanes of a subgroup are formally weak. What was found is kept, in this
//! process and on disk ([`keep_in`]).
//!
//! The test has two parts, because compiling the pipelines takes longer than running them: what making clips needs
//! ([`Part::Forward`], which also decides on the tier), and what only training needs ([`Part::Training`]).

use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use burn::tensor::{DType, FloatDType, Tensor, TensorData};
use half::f16;

use super::device::{ComputeDevice, Precision};
use super::kernels::KernelError;
use super::kernels::conv3d::{Geometry, conv3d};
use super::kernels::gradient::{POINT, input_gradient, weight_gradient};
use super::kernels::group_norm::{EPSILON, GROUPS, group_norm, group_norm_affine};
use super::kernels::linear::{Activation, Cut, linear, linear_cut};
use super::kernels::newton_schulz::{STEEP, newton_schulz};
use super::kernels::reference::{self, relative_l2, seeded};
use super::kernels::tile_attention::{
    AttendedTensors, Gives, RecordPlace, Sample, Tiles, tile_attention, tile_attention_and_log_sums,
    tile_attention_and_row_log_sums, tile_attention_gradients, tile_attention_recorded, tile_log_sums,
};
use super::kernels::tile_mass::{RecordSizes, RecordedLayer, RecordedSample, tile_mass};
use super::tier::{self, KernelTier, ShaderTier};
use crate::mask::MaskFamily;

mod kept;
mod lines;
mod transformer;

pub use kept::{VARIABLE, keep_in, test_anew};

/// What kernels are needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Making clips.
    Forward,
    /// Training: gradients, and the steps of the optimiser. It needs the kernels of the other part too.
    Training,
}

impl Part {
    pub const ALL: [Self; 2] = [Self::Forward, Self::Training];
}

/// What a device made of the kernels of a part.
#[derive(Clone, Debug)]
pub struct SelfTest {
    pub passed: bool,
    pub lines: Vec<SelfTestLine>,
}

/// One kernel under one condition.
#[derive(Clone, Debug)]
pub struct SelfTestLine {
    pub kernel: Cow<'static, str>,
    /// ||got - want|| / ||want||; infinite if it did not run, gave values that are not finite, or only zeros.
    pub error: f64,
    pub limit: f64,
    pub ok: bool,
    /// Why it did not run.
    pub failure: Option<String>,
}

impl SelfTest {
    fn of(lines: Vec<SelfTestLine>) -> Self {
        Self { passed: lines.iter().all(|line| line.ok), lines }
    }

    /// The first line that failed.
    pub fn failed(&self) -> Option<&SelfTestLine> {
        self.lines.iter().find(|line| !line.ok)
    }
}

impl SelfTestLine {
    /// What is wrong with a line that failed, in words for the middle of a sentence.
    pub fn fault(&self) -> String {
        let of_numbers = || format!("its error is {:.1e}, at most {:.1e} is right", self.error, self.limit);
        self.failure.clone().unwrap_or_else(of_numbers)
    }
}

/// Runs a part of the test, or gives the result of a run before, of this process or as it is kept on disk. Never panics: what goes wrong on the device is a failed line.
pub fn run(device: &ComputeDevice, part: Part) -> SelfTest {
    /// By the device's name and the kernels that ran on it.
    type Results = HashMap<(String, Precision, &'static str, Part), SelfTest>;
    static RESULTS: Mutex<Option<Results>> = Mutex::new(None);
    let mut results = RESULTS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let key = (device.name.clone(), device.precision, device.kernel_tier(), part);
    let results = results.get_or_insert_default();
    if let Some(result) = results.get(&key) {
        return result.clone();
    }
    if let Some(result) = kept::read(device, part) {
        results.insert(key, result.clone());
        return result;
    }
    let result = SelfTest::of(tier::on_tier_of(device, || Bench { device }.lines(part)));
    // A device that was lost on the way has shown nothing about its kernels.
    if result.passed || device.loss().is_none() {
        kept::write(device, part, &result);
        results.insert(key, result.clone());
    }
    result
}

struct Bench<'a> {
    device: &'a ComputeDevice,
}

type Outcome = Result<(Vec<f32>, Vec<f64>), String>;

impl Bench<'_> {
    fn line(&self, kernel: &'static str, limit: f64, test: impl Fn() -> Outcome) -> SelfTestLine {
        let outcome = catch_unwind(AssertUnwindSafe(test)).unwrap_or_else(|payload| Err(reason(payload.as_ref())));
        let (error, failure) = match outcome {
            Ok((got, want)) => (relative_l2(&got, &want), None),
            Err(reason) => (f64::INFINITY, Some(reason)),
        };
        SelfTestLine { kernel: kernel.into(), error, limit, ok: error <= limit, failure }
    }

    /// Two clips of two heads; a frame mask with one reference frame; odd numbers of tokens (of queries and of keys).
    /// The log-sums are compared if they are given, else the attention.
    fn attention(
        &self,
        head: usize,
        [query_tokens, key_tokens]: [usize; 2],
        query_scale: f32,
        with_bias: bool,
        gives: Gives,
    ) -> Outcome {
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
        let rows: Vec<u32> = (0..frames * query_tokens).step_by(query_tokens.div_ceil(4)).map(|row| row as u32).collect();
        let want = match gives {
            Gives::AttentionAndLogSums | Gives::LogSums => reference::log_sums(&call, &query, &key, bias.as_deref()),
            Gives::AttentionAndSample => reference::sampled_log_sums(&call, &query, &key, bias.as_deref(), &rows),
            _ => reference::tile_attention(&call, &query, &key, &value, bias.as_deref()),
        };
        let query = self.tensor(query, queries);
        let [key, value] = [key, value].map(|values| self.tensor(values, keys));
        let bias = bias.map(|bias| Tensor::from_data(TensorData::new(bias, [batch, frames * key_tokens]), &self.device.device));
        self.leave_junk(query_count)?;
        let tiles = Tiles { key_frames, query_tokens, key_tokens };
        let run = || {
            let (query, key, value, bias, tiles) = (query.clone(), key.clone(), value.clone(), bias.clone(), tiles.clone());
            match gives {
                Gives::AttentionAndLogSums => tile_attention_and_log_sums(query, key, value, bias, tiles).1,
                Gives::AttentionAndSample => {
                    let place = RecordPlace { at: 3, sample: Some(Sample { rows: Arc::new(rows.clone()) }) };
                    let sample_at = place.sample_at(batch * heads, &tiles);
                    let length = place.length([batch, heads], frames, &tiles);
                    let record = Tensor::empty([3 + length], (&self.device.device, DType::F32));
                    let (_, record) = tile_attention_recorded([query, key, value], bias, record, place, tiles);
                    record.narrow(0, sample_at, want.len()).reshape([1, heads, frames, rows.len()])
                }
                Gives::LogSums => tile_log_sums(query, key, bias, tiles),
                _ => tile_attention(query, key, value, bias, tiles),
            }
        };
        Ok((self.steady(run)?, want))
    }

    /// Of query, key and value in one list; one clip of two heads, a mask with one reference frame, some keys hidden.
    fn attention_gradients(&self, head: usize, [query_tokens, key_tokens]: [usize; 2]) -> Outcome {
        let (heads, frames) = (2, 2);
        let mask = MaskFamily::paper(1).frame_mask(frames).map_err(|error| error.to_string())?;
        let [queries, keys] = [query_tokens, key_tokens].map(|tokens| [1, heads, frames * tokens, head]);
        let numbers = |seed, shape: [usize; 4]| self.stored(seeded(seed, shape.iter().product()));
        let (query, key, value) = (numbers(1, queries), numbers(2, keys), numbers(3, keys));
        let gradient = numbers(4, queries);
        let bias: Vec<f32> = (0..keys[2]).map(|key| if key % 3 == 1 { -10_000.0 } else { 0.0 }).collect();
        let key_frames = Arc::new(mask.key_frames());
        let call = reference::TileAttention {
            batch: 1,
            heads,
            head,
            query_tokens,
            key_tokens,
            key_frames_total: frames,
            key_frames: &key_frames,
            scale: (head as f64).powf(-0.5) as f32,
        };
        let want = reference::tile_attention_gradients(&call, [&query, &key, &value], Some(&bias), &gradient).concat();
        let bias = Tensor::from_data(TensorData::new(bias, [1, keys[2]]), &self.device.device);
        let [query, output_gradient] = [query, gradient].map(|values| self.tensor(values, queries));
        let [key, value] = [key, value].map(|values| self.tensor(values, keys));
        let tiles = Tiles { key_frames, query_tokens, key_tokens };
        self.leave_junk(queries.iter().product())?;
        let run = || {
            let (query, key, value) = (query.clone(), key.clone(), value.clone());
            let (output, row_log_sums) =
                tile_attention_and_row_log_sums(query.clone(), key.clone(), value.clone(), Some(bias.clone()), tiles.clone());
            let output_gradient = output_gradient.clone();
            let attended = AttendedTensors { query, key, value, output, row_log_sums, output_gradient };
            let gradients = tile_attention_gradients(attended, Some(bias.clone()), tiles.clone());
            Tensor::cat(gradients.map(|gradient| gradient.flatten::<1>(0, 3)).to_vec(), 0)
        };
        Ok((self.steady(run)?, want))
    }

    /// Of the last of two clips of three heads; some rows of 37 are sampled.
    fn tile_mass(&self, sampled_rows: Option<usize>) -> Outcome {
        let (batch, heads, frames, query_tokens) = (2, 3, 4, 37);
        let mask = MaskFamily::paper(1).frame_mask(frames).map_err(|error| error.to_string())?;
        let key_frames = Arc::new(mask.key_frames());
        let shape = [batch, heads, key_frames.frames().len(), query_tokens];
        let sample_shape = [1, heads, frames, frames * sampled_rows.unwrap_or(0)];
        let wide = |seed, count| seeded(seed, count).into_iter().map(|value| 3.0 * value).collect::<Vec<_>>();
        let (log_sums, sample) = (wide(20, shape.iter().product()), wide(21, sample_shape.iter().product()));
        let sample = sampled_rows.map(|_| sample);
        let want = reference::tile_mass([batch, heads, query_tokens], &log_sums, sample.as_deref(), &key_frames);
        let log_sums_at = log_sums.len() / batch;
        let sample_at = log_sums.len();
        let values = [log_sums, sample.unwrap_or_default()].concat();
        let length = values.len();
        let record = Tensor::<1>::from_data(TensorData::new(values, [length]), &self.device.device);
        let sample = sampled_rows.map(|rows| RecordedSample { at: sample_at, rows });
        let layer = RecordedLayer { log_sums_at, sample, key_frames };
        let sizes = RecordSizes { heads, query_tokens, frames };
        self.leave_junk(want.len())?;
        Ok((self.steady(|| tile_mass(record.clone(), vec![layer.clone()], sizes))?, want))
    }

    /// Two clips of odd sizes.
    fn convolution(&self, geometry: Geometry, [channels, channels_out]: [usize; 2], fused: bool) -> Outcome {
        let input = [2, 3, 7, 9, channels];
        let [batch, frames, height, width, _] = input;
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
        let run = || conv3d(x.clone(), weight.clone(), bias.clone(), affine.clone(), residual.clone(), geometry);
        Ok((self.steady(run)?, want))
    }

    /// With bias and GELU, cut in a certain way; without one the device's own way is taken.
    fn linear(&self, [rows, inner, columns]: [usize; 3], cut: Option<Cut>) -> Outcome {
        let x = self.stored(seeded(12, rows * inner));
        let weight = self.stored(seeded(13, inner * columns).into_iter().map(|w| w / 4.0).collect());
        let bias = self.stored(seeded(14, columns));
        let want = reference::linear([inner, columns], &x, &weight, Some(&bias), true);
        let (x, weight) = (self.tensor(x, [rows, inner]), self.tensor(weight, [inner, columns]));
        let bias = self.tensor(bias, [columns]);
        self.leave_junk(rows * columns)?;
        let run = || {
            let (x, weight, bias) = (x.clone(), weight.clone(), Some(bias.clone()));
            match cut {
                Some(cut) => linear_cut(x, weight, bias, Activation::GeluTanh, cut),
                None => linear(x, weight, bias, Activation::GeluTanh),
            }
        };
        Ok((self.steady(run)?, want))
    }

    /// With Muon's coefficients, of matrices of norm 1.
    fn newton_schulz(&self, [count, rows, columns]: [usize; 3]) -> Outcome {
        let steps = 5;
        let size = (rows * columns) as f32;
        let x: Vec<f32> = seeded(22, count * rows * columns).into_iter().map(|value| value / size.sqrt()).collect();
        let want = reference::newton_schulz([rows, columns], &x, STEEP, steps);
        let x = Tensor::<3>::from_data(TensorData::new(x, [count, rows, columns]), &self.device.device);
        self.leave_junk(want.len())?;
        Ok((self.steady(|| newton_schulz(x.clone(), STEEP, steps))?, want))
    }

    fn layer_gradient(&self, [rows, inner, columns]: [usize; 3]) -> Outcome {
        self.weight_gradient(POINT, [1, 1, 1, rows, inner], columns)
    }

    /// The way on which convolutions between these channels run here.
    fn tier_of(&self, channels: [usize; 2]) -> ShaderTier {
        let whole = channels.iter().all(|channels| channels.is_multiple_of(4));
        if whole { ShaderTier::of(&self.device.device, self.device.precision.dtype().into()) } else { ShaderTier::Plain }
    }

    fn weight_gradient(&self, geometry: Geometry, input: [usize; 5], channels_out: usize) -> Outcome {
        let [batch, frames, height, width, channels] = input;
        let [frames_out, height_out, width_out] = geometry.output([frames, height, width]);
        let output = [batch, frames_out, height_out, width_out, channels_out];
        let x = self.stored(seeded(15, input.iter().product()));
        let back = self.stored(seeded(16, output.iter().product()));
        let weight = vec![0.0; geometry.taps() * channels * channels_out];
        let (_, want) = reference::conv3d_gradients(&reference::Conv3d { input, channels_out, geometry }, &x, &weight, &back);
        let (x, back) = (self.tensor(x, input), self.tensor(back, output));
        let tier = self.tier_of([channels, channels_out]);
        self.leave_junk(2 * want.len())?;
        Ok((self.steady(|| weight_gradient(x.clone(), back.clone(), geometry, tier))?, want))
    }

    fn input_gradient(&self, geometry: Geometry, input: [usize; 5], channels_out: usize) -> Outcome {
        let [batch, frames, height, width, channels] = input;
        let [frames_out, height_out, width_out] = geometry.output([frames, height, width]);
        let output = [batch, frames_out, height_out, width_out, channels_out];
        let back = self.stored(seeded(16, output.iter().product()));
        let weights = [geometry.taps(), channels, channels_out];
        let weight = self.stored(seeded(17, weights.iter().product()).into_iter().map(|w| w / 16.0).collect());
        let x = vec![0.0; input.iter().product()];
        let (want, _) = reference::conv3d_gradients(&reference::Conv3d { input, channels_out, geometry }, &x, &weight, &back);
        let (back, weight) = (self.tensor(back, output), self.tensor(weight, weights));
        let tier = self.tier_of([channels, channels_out]);
        self.leave_junk(want.len())?;
        let size = [frames, height, width];
        Ok((self.steady(|| input_gradient(back.clone(), weight.clone(), geometry, size, tier))?, want))
    }

    /// The values, or the gradient of the input.
    fn group_norm_silu(&self, gradient: bool) -> Outcome {
        let shape = [2, 3, 5, 7, 2 * GROUPS];
        let [batch, frames, height, width, channels] = shape;
        let x = self.stored(seeded(9, shape.iter().product()).into_iter().map(|value| value + 3.0).collect());
        let (weight, bias) = (seeded(10, channels), seeded(11, channels));
        let back = self.stored(seeded(18, x.len()));
        let sizes = [batch, frames * height * width, channels];
        let (values, of_x) = reference::group_norm_silu(sizes, GROUPS, EPSILON, [&x, &weight, &bias, &back]);
        let parameter = |values: Vec<f32>| Tensor::<1>::from_data(TensorData::new(values, [channels]), &self.device.device);
        let (x, weight, bias, back) = (self.tensor(x, shape), parameter(weight), parameter(bias), self.tensor(back, shape));
        self.leave_junk(values.len())?;
        if !gradient {
            return Ok((self.steady(|| group_norm(x.clone(), weight.clone(), bias.clone(), true))?, values));
        }
        let run = || {
            let x = x.clone().autodiff().require_grad();
            let y = group_norm(x.clone(), weight.clone().autodiff(), bias.clone().autodiff(), true);
            let loss = (y.cast(FloatDType::F32) * back.clone().autodiff().cast(FloatDType::F32)).sum();
            x.grad(&loss.backward()).unwrap_or_else(|| x.clone().inner().zeros_like())
        };
        Ok((self.steady(run)?, of_x))
    }

    /// The values of a kernel; on the faster tiers it runs again, and all runs must agree in every bit.
    fn steady<const D: usize>(&self, run: impl Fn() -> Tensor<D>) -> Result<Vec<f32>, String> {
        let first = read(run())?;
        let again = match self.device.tier {
            KernelTier::Matrix | KernelTier::Subgroup { .. } => REPEATS,
            KernelTier::Plain { .. } | KernelTier::Cpu => 0,
        };
        for _ in 0..again {
            let values = read(run())?;
            if values.iter().zip(&first).any(|(now, before)| now.to_bits() != before.to_bits()) {
                return Err("two runs on the same numbers differ".into());
            }
        }
        Ok(first)
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

/// Further runs of a kernel of the faster tiers.
const REPEATS: usize = 4;

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
        for part in Part::ALL {
            let result = run(&device, part);
            assert!(result.passed, "{:#?}", result.lines);
        }
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
