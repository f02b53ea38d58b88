//! The kernels on every kind of device against plain references in f64: odd sizes, every mask, junk in memory.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{FloatDType, Tensor, TensorData};
use half::f16;
use tilereel::gpu::device::{self, ComputeDevice, DeviceChoice, Precision};
use tilereel::gpu::kernels::block_product::Block;
use tilereel::gpu::kernels::conv3d::{Geometry, conv3d};
use tilereel::gpu::kernels::gradient::{input_gradient, weight_gradient};
use tilereel::gpu::kernels::group_norm::{EPSILON, GROUPS, group_norm_affine};
use tilereel::gpu::kernels::linear::{Activation, Cut, linear, linear_cut};
use tilereel::gpu::kernels::product::{LARGE, SMALL, SQUARE};
use tilereel::gpu::kernels::reference::{self, relative_l2, seeded};
use tilereel::gpu::kernels::tile_attention::{
    RecordPlace, Sample, Tiles, tile_attention, tile_attention_and_log_sums, tile_attention_recorded, tile_attention_work,
    tile_log_sums,
};
use tilereel::gpu::kernels::tile_mass::{RecordSizes, RecordedLayer, RecordedSample, tile_mass};
use tilereel::gpu::self_test::{self, Part};
use tilereel::gpu::tier::{KernelTier, ShaderTier, on_tier_of};
use tilereel::mask::{FrameMask, KeyFrames, MaskFamily, Mode, Neighbours, Placement};

mod attention_gradients;
mod checked;
mod gradients;
mod transformer;
mod vae_gradients;

/// The CPU, and the first adapter in both precisions; a software adapter is as good as any here.
fn devices() -> Vec<ComputeDevice> {
    let mut devices = vec![device::open(&DeviceChoice::Cpu, None).expect("the CPU is always there")];
    let adapters = device::adapters();
    let Some(adapter) = adapters.iter().find(|adapter| !adapter.software).or(adapters.first()) else {
        println!("skipped: there is no adapter, so only the CPU's kernels are tested");
        assert!(std::env::var_os("CI").is_none(), "CI needs an adapter, a software one at least");
        return devices;
    };
    for precision in [Precision::F32, Precision::F16] {
        if precision == Precision::F32 || adapter.half_floats {
            devices.push(device::open(&DeviceChoice::Index(adapter.index), Some(precision)).expect("the adapter opens"));
        }
    }
    devices
}

/// Runs a test on all of [`devices`], on the tier that was chosen for each and on the plain one.
fn on_each_device(test: impl Fn(ComputeDevice)) {
    for device in devices() {
        let tier = KernelTier::Plain { reason: "the test looks at it too".into() };
        let plain = ComputeDevice { tier, ..device.clone() };
        if !device.is_cpu() && device.tier.shaders() != plain.tier.shaders() {
            on_tier_of(&plain, || test(plain.clone()));
        }
        on_tier_of(&device, || test(device.clone()));
    }
}

/// Values as the device stores them.
fn stored(device: &ComputeDevice, values: Vec<f32>) -> Vec<f32> {
    match device.precision {
        Precision::F32 => values,
        Precision::F16 => values.into_iter().map(|value| f16::from_f32(value).to_f32()).collect(),
    }
}

fn tensor<const D: usize>(device: &ComputeDevice, values: &[f32], shape: [usize; D]) -> Tensor<D> {
    Tensor::<D>::from_data(TensorData::new(values.to_vec(), shape), &device.device).cast(device.precision.dtype())
}

fn exact<const D: usize>(device: &ComputeDevice, values: &[f32], shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &device.device)
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.cast(FloatDType::F32).try_into_vec_as().expect("the device gives its values")
}

/// Memory of the size of an output, full of what is no number, and free again.
fn leave_junk(device: &ComputeDevice, count: usize) {
    let junk: Vec<_> = (0..4).map(|_| tensor(device, &vec![f32::NAN; count], [count])).collect();
    junk.into_iter().for_each(|junk| drop(read(junk)));
}

fn assert_close(device: &ComputeDevice, what: &str, got: &[f32], want: &[f64], limit_f32: f64) {
    let limit = if device.precision == Precision::F16 { 6e-4 } else { limit_f32 };
    let error = relative_l2(got, want);
    let on = format!("{} {}, {}", device.name, device.precision, device.kernel_tier());
    println!("{on}: {what}: {error:.1e}");
    assert!(error <= limit, "{on}: {what}: {error:.2e} is more than {limit:.0e}");
}

/// One call of tile attention.
struct Attention {
    batch: usize,
    heads: usize,
    head: usize,
    query_tokens: usize,
    key_tokens: usize,
    key_frames_total: usize,
    key_frames: Arc<KeyFrames>,
    query_scale: f32,
    key_bias: bool,
}

struct Operands {
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Attention {
    /// Self-attention of two clips with two heads under a mask.
    fn masked(mask: &FrameMask, tokens: usize, head: usize) -> Self {
        Self {
            batch: 2,
            heads: 2,
            head,
            query_tokens: tokens,
            key_tokens: tokens,
            key_frames_total: mask.frames(),
            key_frames: Arc::new(mask.key_frames()),
            query_scale: 3.0,
            key_bias: false,
        }
    }

    fn query_shape(&self) -> [usize; 4] {
        [self.batch, self.heads, self.key_frames.query_frames() * self.query_tokens, self.head]
    }

    fn key_shape(&self) -> [usize; 4] {
        [self.batch, self.heads, self.key_frames_total * self.key_tokens, self.head]
    }

    fn operands(&self, device: &ComputeDevice) -> Operands {
        let (queries, keys) = (self.query_shape().iter().product(), self.key_shape().iter().product());
        let query = seeded(1, queries).into_iter().map(|value| value * self.query_scale).collect();
        // Keys that are hidden, as the padding of a text, and others that are favoured a little.
        let bias = |key: usize| [0.0, -10_000.0, 0.5][key % 3];
        Operands {
            query: stored(device, query),
            key: stored(device, seeded(2, keys)),
            value: stored(device, seeded(3, keys)),
            bias: self.key_bias.then(|| (0..self.batch * self.key_shape()[2]).map(bias).collect()),
        }
    }

    fn sizes(&self) -> reference::TileAttention<'_> {
        reference::TileAttention {
            batch: self.batch,
            heads: self.heads,
            head: self.head,
            query_tokens: self.query_tokens,
            key_tokens: self.key_tokens,
            key_frames_total: self.key_frames_total,
            key_frames: &self.key_frames,
            scale: (self.head as f64).powf(-0.5) as f32,
        }
    }

    fn reference(&self, operands: &Operands) -> Vec<f64> {
        reference::tile_attention(&self.sizes(), &operands.query, &operands.key, &operands.value, operands.bias.as_deref())
    }

    fn tiles(&self) -> Tiles {
        Tiles { key_frames: self.key_frames.clone(), query_tokens: self.query_tokens, key_tokens: self.key_tokens }
    }

    fn tensors(&self, device: &ComputeDevice, operands: &Operands) -> (Tensor<4>, Tensor<4>, Tensor<4>, Option<Tensor<2>>) {
        let bias = operands.bias.as_ref().map(|bias| exact(device, bias, [self.batch, self.key_shape()[2]]));
        let [key, value] = [&operands.key, &operands.value].map(|values| tensor(device, values, self.key_shape()));
        (tensor(device, &operands.query, self.query_shape()), key, value, bias)
    }

    /// Compares values and log-sums with the reference, and the kernel's own count of its work with the mask.
    fn check(&self, device: &ComputeDevice, what: &str, limit: f64) {
        let operands = self.operands(device);
        let (query, key, value, bias) = self.tensors(device, &operands);
        leave_junk(device, self.query_shape().iter().product());
        let output = read(tile_attention(query.clone(), key.clone(), value.clone(), bias.clone(), self.tiles()));
        assert_close(device, what, &output, &self.reference(&operands), limit);

        let count = self.batch * self.heads * self.key_frames.frames().len() * self.query_tokens;
        leave_junk(device, count);
        let (same, log_sums) = tile_attention_and_log_sums(query.clone(), key.clone(), value.clone(), bias.clone(), self.tiles());
        assert!(read(same) == output, "{} {}: {what}: log-sums change the attention", device.name, device.precision);
        let log_sums = read(log_sums);
        leave_junk(device, count);
        let alone = read(tile_log_sums(query.clone(), key.clone(), bias.clone(), self.tiles()));
        let want = reference::log_sums(&self.sizes(), &operands.query, &operands.key, operands.bias.as_deref());
        for log_sums in [log_sums, alone] {
            let error = reference::log_sums_error(&self.sizes(), &log_sums, &want);
            // Logits of hundreds are rounded to 3e-5 in f32, and matrices sum them in an order of their own.
            let limit = if self.query_scale > 100.0 { 1e-3 } else { 1e-5 };
            println!("{} {}: {what}: log-sums {error:.1e}", device.name, device.precision);
            assert!(error <= limit, "{} {}: {what}: log-sums are off by {error:.1e}", device.name, device.precision);
        }

        self.check_sample(device, what, &operands, &output);
        let counts = read(tile_attention_work(query, key, value, bias, self.tiles()));
        let walked: f64 = counts.iter().map(|&count| f64::from(count)).sum();
        let calls = self.batch * self.heads;
        let blocks = if device.is_cpu() { 1 } else { counts.len() / (calls * self.key_frames.query_frames()) };
        // A kernel that walks runs of keys counts them in shares of a tile.
        let kept = (self.key_frames.frames().len() * calls * blocks) as f64;
        assert!((walked - kept).abs() < 1e-3, "{}: {what}: {walked} tiles walked, {kept} kept", device.name);
    }
}

impl Attention {
    /// The log-sums of sampled rows, in a record that holds more.
    fn check_sample(&self, device: &ComputeDevice, what: &str, operands: &Operands, output: &[f32]) {
        let (query, key, value, bias) = self.tensors(device, operands);
        let frames = self.key_frames.query_frames();
        let rows: Vec<u32> = (0..frames)
            .flat_map(|frame| (0..self.query_tokens).step_by(7).map(move |row| (frame * self.query_tokens + row) as u32))
            .collect();
        let key_frames = self.key_shape()[2] / self.key_tokens;
        let place = RecordPlace { at: 11, sample: Some(Sample { rows: Arc::new(rows.clone()) }) };
        let length = place.length([self.batch, self.heads], key_frames, &self.tiles());
        let sample_at = place.sample_at(self.batch * self.heads, &self.tiles());
        let before = vec![7.0; place.at + length + 1];
        let record = exact(device, &before, [before.len()]);
        let (same, record) = tile_attention_recorded([query, key, value], bias, record, place.clone(), self.tiles());
        assert!(read(same) == output, "{} {}: {what}: a sample changes the attention", device.name, device.precision);
        let record = read(record);
        assert!(
            record[..place.at].iter().chain(record.last()).all(|&value| value == 7.0),
            "{what}: it writes outside of its place"
        );
        let want = reference::sampled_log_sums(&self.sizes(), &operands.query, &operands.key, operands.bias.as_deref(), &rows);
        let all = KeyFrames::of_one_query_frame(key_frames);
        let got = &record[sample_at..][..want.len()];
        let error = reference::log_sums_error(&self.sizes().of_rows(rows.len(), &all), got, &want);
        let limit = if self.query_scale > 100.0 { 1e-3 } else { 1e-5 };
        assert!(error <= limit, "{} {}: {what}: the sample's log-sums are off by {error:.1e}", device.name, device.precision);
    }
}

/// A mask of every family, the full one, and one that follows no rule.
fn families(frames: usize) -> Vec<(String, FrameMask)> {
    let placements = [
        Placement::StrideCeil(0),
        Placement::StrideCeil(2),
        Placement::SpacedFloor(2),
        Placement::First(1),
        Placement::Linspace(3),
        Placement::Listed(vec![1, 4]),
    ];
    let families = placements
        .into_iter()
        .flat_map(|placement| [Mode::Symmetric, Mode::KvOnly].map(|mode| MaskFamily { placement: placement.clone(), mode }));
    let mut masks: Vec<(String, FrameMask)> =
        families.map(|family| (format!("{family:?}"), family.frame_mask(frames).expect("a mask"))).collect();
    masks.extend(Neighbours::MEASURED.map(|near| (near.name(), near.frame_mask(frames).expect("a mask"))));
    masks.push(("full".into(), FrameMask::full(frames).expect("a mask")));
    let painted = (0..frames * frames).map(|cell| cell % 3 == 0 || cell / frames == 2).collect();
    masks.push(("painted".into(), FrameMask::new(frames, painted).expect("a mask")));
    masks
}

#[test]
fn attention_obeys_every_family_of_masks() {
    on_each_device(|device| {
        for (name, mask) in &families(5) {
            Attention::masked(mask, 13, 24).check(&device, name, 2e-6);
        }
    });
}

#[test]
fn attention_takes_every_head_size() {
    let mask = MaskFamily::paper(1).frame_mask(3).expect("a mask");
    on_each_device(|device| {
        for head in [1, 8, 20, 24, 48, 96, 97, 128] {
            Attention::masked(&mask, 37, head).check(&device, &format!("head of {head}"), 2e-6);
        }
    });
}

#[test]
fn attention_to_a_padded_text() {
    on_each_device(|device| {
        for (query_tokens, key_tokens) in [(65, 21), (1, 70), (40, 1)] {
            let attention = Attention {
                query_tokens,
                key_tokens,
                key_frames_total: 1,
                key_frames: Arc::new(KeyFrames::dense(1)),
                key_bias: key_tokens > 1,
                ..Attention::masked(&FrameMask::full(1).expect("a mask"), 1, 48)
            };
            attention.check(&device, &format!("{query_tokens} queries, {key_tokens} keys with bias"), 2e-6);
        }
    });
}

/// The keys of a whole clip at 720p. A driver that gives up inside of long loops shows here.
#[test]
fn attention_to_very_many_keys() {
    on_each_device(|device| {
        let attention = Attention {
            batch: 1,
            query_tokens: 3,
            key_tokens: 28_800,
            key_frames_total: 1,
            key_frames: Arc::new(KeyFrames::dense(1)),
            ..Attention::masked(&FrameMask::full(1).expect("a mask"), 1, 96)
        };
        attention.check(&device, "28,800 keys", 1e-5);
    });
}

/// burn's matrix product of f16 must sum in f32: the sums of the transformer's feed-forward have up to 9,216 terms.
#[test]
fn long_sums_are_f32() {
    let (rows, terms, columns) = (5, 9216, 7);
    on_each_device(|device| {
        let left = stored(&device, seeded(12, rows * terms).into_iter().map(|value| value + 1.0).collect());
        let right = stored(&device, seeded(13, terms * columns).into_iter().map(|value| (value + 1.0) / 64.0).collect());
        let product = |at: usize| -> f64 {
            let (row, column) = (at / columns, at % columns);
            (0..terms).map(|term| f64::from(left[row * terms + term]) * f64::from(right[term * columns + column])).sum()
        };
        let want: Vec<f64> = (0..rows * columns).map(product).collect();
        let (left, right) = (tensor(&device, &left, [rows, terms]), tensor(&device, &right, [terms, columns]));
        assert_close(&device, "a sum of 9,216 terms", &read(left.matmul(right)), &want, 5e-6);
    });
}

#[test]
fn attention_survives_large_logits() {
    let mask = MaskFamily::paper(1).frame_mask(3).expect("a mask");
    on_each_device(|device| {
        let attention = Attention { query_scale: 1000.0, ..Attention::masked(&mask, 33, 96) };
        attention.check(&device, "logits of hundreds", 5e-5);
    });
}

/// Frames that are whole rounds of the matrix kernels and others; several blocks of queries to a frame.
#[test]
fn attention_of_frames_of_every_length() {
    let masks = [FrameMask::full(3), MaskFamily::paper(1).frame_mask(3)].map(|mask| mask.expect("a mask"));
    on_each_device(|device| {
        for (mask, tokens, head) in [(0, 144, 48), (1, 145, 48), (1, 144, 96), (0, 200, 96)] {
            let attention = Attention { batch: 1, ..Attention::masked(&masks[mask], tokens, head) };
            attention.check(&device, &format!("{tokens} tokens a frame, head of {head}"), 2e-6);
        }
    });
}

/// Masses of every kind of mask, with a sample and without, of the last clip of two.
#[test]
fn masses_of_tiles() {
    let frames = 5;
    let painted = (0..frames * frames).map(|cell| cell % 3 == 0 || cell / frames == 2).collect();
    let masks = [
        MaskFamily::paper(2).frame_mask(frames),
        MaskFamily { mode: Mode::KvOnly, ..MaskFamily::paper(1) }.frame_mask(frames),
        FrameMask::new(frames, painted),
        FrameMask::full(frames),
    ];
    on_each_device(|device| {
        for (index, mask) in masks.iter().enumerate() {
            let key_frames = Arc::new(mask.as_ref().expect("a mask").key_frames());
            for (query_tokens, rows) in [(37, Some(3)), (70, Some(70)), (1, Some(1)), (130, None)] {
                let (batch, heads, kept) = (2, 3, key_frames.frames().len());
                let shape = [batch, heads, kept, query_tokens];
                let wide = |seed, count| seeded(seed, count).into_iter().map(|value| value * 4.0 + 50.0).collect::<Vec<_>>();
                let log_sums = wide(20, shape.iter().product());
                let sample_shape = [1, heads, frames, frames * rows.unwrap_or(0)];
                let sample = rows.map(|_| wide(21, sample_shape.iter().product()));
                let want = reference::tile_mass([batch, heads, query_tokens], &log_sums, sample.as_deref(), &key_frames);
                leave_junk(&device, want.len());
                // Twice the same layer and between them one without a sample; their values lie between those of nobody.
                let junk = vec![f32::NAN; 5];
                let values = [junk.clone(), log_sums.clone(), junk, sample.unwrap_or_default()].concat();
                let layer = RecordedLayer {
                    log_sums_at: 5 + log_sums.len() / batch,
                    sample: rows.map(|rows| RecordedSample { at: 10 + log_sums.len(), rows }),
                    key_frames: key_frames.clone(),
                };
                let sizes = RecordSizes { heads, query_tokens, frames };
                let record = exact(&device, &values, [values.len()]);
                let without = RecordedLayer { sample: None, ..layer.clone() };
                let all = read(tile_mass(record, vec![layer.clone(), without, layer], sizes));
                let [got, without, again] = [0, 1, 2].map(|layer| &all[layer * want.len()..][..want.len()]);
                assert!(got == again, "{}: mask {index}: layers differ", device.name);
                let shares = reference::tile_mass([batch, heads, query_tokens], &log_sums, None, &key_frames);
                let error = relative_l2(without, &shares);
                assert!(error <= 1e-5, "{}: mask {index}, {query_tokens} queries: {error:.1e}", device.name);
                let error = relative_l2(got, &want);
                assert!(error <= 1e-5, "{}: mask {index}, {query_tokens} queries, {rows:?} rows: {error:.1e}", device.name);
                // Corrections that do not belong to the sample can make a mass negative, which is cut off; else rows sum to 1.
                if rows.is_none() {
                    let sums = got.chunks_exact(2 * frames).map(|row| row.iter().step_by(2).sum::<f32>());
                    assert!(sums.into_iter().all(|sum| (sum - 1.0).abs() < 1e-5), "{}: mask {index}", device.name);
                }
            }
        }
    });
}

#[test]
fn layers_of_the_transformer() {
    on_each_device(|device| {
        for ([rows, inner, columns], with_bias, activation) in [
            ([300, 128, 520], true, Activation::None),
            ([129, 104, 264], true, Activation::GeluTanh),
            ([1, 40, 24], false, Activation::GeluTanh),
            ([33, 30, 35], false, Activation::None),
        ] {
            let x = stored(&device, seeded(12, rows * inner));
            let weight = stored(&device, seeded(13, inner * columns).into_iter().map(|weight| weight / 4.0).collect());
            let bias = with_bias.then(|| stored(&device, seeded(14, columns)));
            let want = reference::linear([inner, columns], &x, &weight, bias.as_deref(), activation == Activation::GeluTanh);
            let (x, weight) = (tensor(&device, &x, [1, rows, inner]), tensor(&device, &weight, [inner, columns]));
            let bias = bias.map(|bias| tensor(&device, &bias, [columns]));
            leave_junk(&device, rows * columns);
            let got = linear(x.clone(), weight.clone(), bias.clone(), activation);
            assert_eq!(got.dims(), [1, rows, columns]);
            let what = format!("{rows} x {inner} x {columns}, {activation:?}");
            // GELU near zero is a difference of almost equal numbers.
            assert_close(&device, &what, &read(got), &want, 5e-6);
            for block in Block::ALL.into_iter().filter(|_| !device.is_cpu() && Block::takes(inner, columns)) {
                leave_junk(&device, rows * columns);
                let x = x.clone().reshape([rows, inner]);
                let got = linear_cut(x, weight.clone(), bias.clone(), activation, Cut::Block(block));
                assert_close(&device, &format!("{what}, {block:?}"), &read(got), &want, 5e-6);
            }
            if device.tier != KernelTier::Matrix {
                continue;
            }
            for tile in [LARGE, SQUARE, SMALL].into_iter().filter(|tile| tile.loads(inner, columns)) {
                leave_junk(&device, rows * columns);
                let x = x.clone().reshape([rows, inner]);
                let got = linear_cut(x, weight.clone(), bias.clone(), activation, Cut::Tile(tile));
                assert_close(&device, &format!("{what}, {}", tile.name()), &read(got), &want, 5e-6);
            }
        }
    });
}

/// The barriers inside of a subgroup are formally weak in what naga writes, so equal inputs must give equal bits, many times.
#[test]
fn matrix_kernels_are_repeatable() {
    for device in devices().into_iter().filter(|device| device.tier == KernelTier::Matrix) {
        let mask = MaskFamily::paper(1).frame_mask(4).expect("a mask");
        for head in [48, 96] {
            let attention = Attention::masked(&mask, 300, head);
            let (query, key, value, _) = attention.tensors(&device, &attention.operands(&device));
            repeat(|| read(tile_attention(query.clone(), key.clone(), value.clone(), None, attention.tiles())));
        }
        for [rows, inner, columns] in [[1200, 2304, 4608], [1152, 192, 768]] {
            let x = tensor(&device, &seeded(12, rows * inner), [rows, inner]);
            let weight = tensor(&device, &seeded(13, inner * columns), [inner, columns]);
            repeat(|| read(linear(x.clone(), weight.clone(), None, Activation::None)));
        }
        for (channels, channels_out) in [(256, 256), (128, 128), (64, 64)] {
            let x = tensor(&device, &seeded(4, 3 * 31 * 33 * channels), [1, 3, 31, 33, channels]);
            let weight = tensor(&device, &seeded(5, 27 * channels * channels_out), [27, channels, channels_out]);
            let bias = tensor(&device, &seeded(6, channels_out), [channels_out]);
            repeat(|| read(conv3d(x.clone(), weight.clone(), bias.clone(), None, None, SAME)));
            let back = tensor(&device, &seeded(10, 3 * 31 * 33 * channels_out), [1, 3, 31, 33, channels_out]);
            repeat(|| read(weight_gradient(x.clone(), back.clone(), SAME, ShaderTier::Matrix)));
            repeat(|| read(input_gradient(back.clone(), weight.clone(), SAME, [3, 31, 33], ShaderTier::Matrix)));
        }
    }
}

fn repeat(run: impl Fn() -> Vec<f32>) {
    let first = run();
    for repeat in 1..30 {
        assert!(run().iter().zip(&first).all(|(now, before)| now.to_bits() == before.to_bits()), "run {repeat} differs");
    }
}

/// What sparsity brings on the CPU; a time is printed, not promised.
#[test]
fn time_of_a_sparse_mask() {
    let device = device::open(&DeviceChoice::Cpu, None).expect("the CPU");
    let time = |mask: &FrameMask| {
        let attention = Attention { batch: 1, ..Attention::masked(mask, 144, 96) };
        let (query, key, value, _) = attention.tensors(&device, &attention.operands(&device));
        let run = || {
            let started = Instant::now();
            drop(read(tile_attention(query.clone(), key.clone(), value.clone(), None, attention.tiles())));
            started.elapsed().as_secs_f64()
        };
        (0..5).map(|_| run()).fold(f64::INFINITY, f64::min)
    };
    let sparse = MaskFamily::paper(1).frame_mask(8).expect("a mask");
    let (dense_time, sparse_time) = (time(&FrameMask::full(8).expect("a mask")), time(&sparse));
    println!(
        "1:7 of 8 frames keeps {:.1} % of the tiles and takes {:.1} % of the time of full attention ({:.1} ms)",
        100.0 * sparse.density(),
        100.0 * sparse_time / dense_time,
        1e3 * dense_time
    );
}

const SAME: Geometry = Geometry { kernel: [3, 3, 3], stride: [1, 1, 1], causal_frames: 2, top: 1, bottom: 1, left: 1, right: 1 };
const FRAME: Geometry = Geometry { kernel: [1, 3, 3], causal_frames: 0, ..SAME };
const POINT: Geometry = Geometry { kernel: [1, 1, 1], causal_frames: 0, top: 0, bottom: 0, left: 0, right: 0, ..SAME };
const HALF: Geometry = Geometry { stride: [2, 2, 2], top: 0, bottom: 1, left: 0, right: 1, ..SAME };
const HALF_FRAME: Geometry = Geometry { kernel: [1, 3, 3], stride: [1, 2, 2], causal_frames: 0, ..HALF };

#[test]
fn convolutions_of_the_vae() {
    let cases = [
        ("causal", SAME, [2, 3, 7, 9, 35], 67),
        ("causal, one frame", SAME, [1, 1, 5, 4, 32], 3),
        ("frame by frame", FRAME, [1, 2, 6, 5, 3], 32),
        ("pixel by pixel", POINT, [2, 2, 5, 3, 4], 8),
        ("halving all", HALF, [1, 5, 9, 8, 33], 65),
        ("halving frames", HALF_FRAME, [1, 2, 8, 7, 64], 64),
        ("many pixels", SAME, [1, 2, 33, 31, 5], 4),
        // For the matrix tier: each way of cutting, whole slices of channels and others.
        ("16 columns", SAME, [1, 2, 9, 11, 64], 3),
        ("32 columns", SAME, [2, 2, 9, 11, 24], 32),
        ("64 columns", SAME, [1, 3, 11, 13, 64], 64),
        ("64 columns, frame by frame", FRAME, [2, 1, 9, 17, 32], 64),
        ("128 columns", HALF, [1, 3, 9, 11, 36], 132),
        ("256 columns", SAME, [1, 2, 7, 19, 32], 264),
        ("256 columns, pixel by pixel", POINT, [1, 2, 7, 11, 40], 256),
    ];
    on_each_device(|device| {
        println!("{} {}: {} kernels, {}", device.name, device.precision, device.kernel_tier(), device.tier_reason());
        for (name, geometry, input, channels_out) in cases {
            for (affine, residual) in [(false, false), (true, false), (false, true), (true, true)] {
                let what = format!("convolution, {name}, affine {affine}, residual {residual}");
                check_convolution(&device, &what, geometry, input, channels_out, affine, residual);
            }
        }
    });
}

fn check_convolution(
    device: &ComputeDevice,
    what: &str,
    geometry: Geometry,
    input: [usize; 5],
    channels_out: usize,
    affine: bool,
    residual: bool,
) {
    let [batch, frames, height, width, channels] = input;
    let [frames_out, height_out, width_out] = geometry.output([frames, height, width]);
    let output = [batch, frames_out, height_out, width_out, channels_out];
    let size = output.iter().product();
    let x = stored(device, seeded(4, input.iter().product()));
    let weight = stored(device, seeded(5, geometry.taps() * channels * channels_out).iter().map(|weight| weight / 8.0).collect());
    let bias = stored(device, seeded(6, channels_out));
    let affine = affine.then(|| seeded(7, batch * 2 * channels));
    let residual = residual.then(|| stored(device, seeded(8, size)));
    let call = reference::Conv3d { input, channels_out, geometry };
    let want = reference::conv3d(&call, &x, &weight, &bias, affine.as_deref(), residual.as_deref());
    leave_junk(device, size);
    let got = conv3d(
        tensor(device, &x, input),
        tensor(device, &weight, [geometry.taps(), channels, channels_out]),
        tensor(device, &bias, [channels_out]),
        affine.map(|affine| exact(device, &affine, [batch, 2, channels])),
        residual.map(|residual| tensor(device, &residual, output)),
        geometry,
    );
    assert_eq!(got.dims(), output, "{what}");
    assert_close(device, what, &read(got), &want, 2e-6);
}

#[test]
fn statistics_of_group_norm() {
    on_each_device(|device| {
        for (members, offset) in [(1, 0.0), (2, 30.0), (3, -5.0)] {
            let channels = members * GROUPS;
            let shape = [2, 3, 5, 7, channels];
            let x = stored(&device, seeded(9, shape.iter().product()).into_iter().map(|value| value + offset).collect());
            let (weight, bias) = (seeded(10, channels), seeded(11, channels));
            let want = reference::group_norm_affine([2, 3 * 5 * 7, channels], GROUPS, EPSILON, &x, &weight, &bias);
            let (weight, bias) = (exact(&device, &weight, [channels]), exact(&device, &bias, [channels]));
            let got = read(group_norm_affine(tensor(&device, &x, shape), weight, bias));
            // The statistics are f32 in both precisions.
            let error = relative_l2(&got, &want);
            println!("{} {}: group norm around {offset}: {error:.1e}", device.name, device.precision);
            assert!(error <= 1e-5, "{} {}: group norm around {offset}: {error:.2e}", device.name, device.precision);
        }
    });
}

#[test]
fn the_self_test_passes() {
    on_each_device(|device| {
        for part in Part::ALL {
            let started = Instant::now();
            let result = self_test::run(&device, part);
            println!("{} {}: {part:?} in {:.2} s", device.name, device.precision, started.elapsed().as_secs_f64());
            for line in &result.lines {
                println!("  {}: {:.1e} (at most {:.0e})", line.kernel, line.error, line.limit);
            }
            assert!(result.passed, "{} {}: {:#?}", device.name, device.precision, result.lines);
            let started = Instant::now();
            assert!(self_test::run(&device, part).passed);
            assert!(started.elapsed().as_millis() < 100, "the result is not kept");
        }
    });
}
