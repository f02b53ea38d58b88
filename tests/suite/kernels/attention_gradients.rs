//! The gradients of tile attention on every kind of device: against the plain reference, through burn's differentiation, and
//! by the tiles that are walked through.

use std::sync::Arc;

use burn::tensor::Tensor;
use tilereel::gpu::device::ComputeDevice;
use tilereel::gpu::kernels::reference::{self, seeded};
use tilereel::gpu::kernels::tile_attention::{
    AttendedTensors, tile_attention, tile_attention_and_row_log_sums, tile_attention_gradients, tile_attention_gradients_work,
};
use tilereel::mask::{FrameMask, KeyFrames, MaskFamily};

use super::{Attention, Operands, assert_close, exact, families, leave_junk, on_each_device, read, stored, tensor};

impl Attention {
    fn output_gradient(&self, device: &ComputeDevice) -> Vec<f32> {
        stored(device, seeded(4, self.query_shape().iter().product()))
    }

    fn reference_gradients(&self, operands: &Operands, output_gradient: &[f32]) -> [Vec<f64>; 3] {
        let Operands { query, key, value, bias } = operands;
        reference::tile_attention_gradients(&self.sizes(), [query, key, value], bias.as_deref(), output_gradient)
    }

    /// Compares row log-sums and gradients with the reference, and two runs with each other.
    fn check_gradients(&self, device: &ComputeDevice, what: &str, limit: f64) {
        let operands = self.operands(device);
        let gradient = self.output_gradient(device);
        let (query, key, value, bias) = self.tensors(device, &operands);
        let rows: usize = self.query_shape()[..3].iter().product();
        leave_junk(device, rows);
        let (output, row_log_sums) =
            tile_attention_and_row_log_sums(query.clone(), key.clone(), value.clone(), bias.clone(), self.tiles());
        let attention = read(tile_attention(query.clone(), key.clone(), value.clone(), bias.clone(), self.tiles()));
        assert!(read(output.clone()) == attention, "{}: {what}: row log-sums change the attention", device.name);
        let want = reference::row_log_sums(&self.sizes(), &operands.query, &operands.key, operands.bias.as_deref());
        for (got, want) in read(row_log_sums.clone()).into_iter().zip(want) {
            let error = (f64::from(got) - want).abs() / want.abs().max(1.0);
            assert!(error <= 2e-6, "{}: {what}: a row log-sum is {got}, not {want}", device.name);
        }

        let output_gradient = tensor(device, &gradient, self.query_shape());
        let attended = AttendedTensors { query, key, value, output, row_log_sums, output_gradient };
        let run = || {
            leave_junk(device, self.key_shape().iter().product());
            tile_attention_gradients(attended.clone(), bias.clone(), self.tiles()).map(read)
        };
        let gradients = run();
        let want = self.reference_gradients(&operands, &gradient);
        for ((got, want), operand) in gradients.iter().zip(&want).zip(["query", "key", "value"]) {
            assert_close(device, &format!("{what}: gradient of the {operand}"), got, want, limit);
        }
        assert!(run() == gradients, "{}: {what}: two runs differ", device.name);
    }

    /// The kernels' own count of their work is that of the mask.
    fn check_gradients_work(&self, device: &ComputeDevice, what: &str) {
        let operands = self.operands(device);
        let (query, key, value, bias) = self.tensors(device, &operands);
        let (output, row_log_sums) =
            tile_attention_and_row_log_sums(query.clone(), key.clone(), value.clone(), bias.clone(), self.tiles());
        let attended = AttendedTensors { output_gradient: query.clone(), query, key, value, output, row_log_sums };
        let counts = read(tile_attention_gradients_work(attended, bias, self.tiles()));
        let walked: f64 = counts.iter().map(|&count| f64::from(count)).sum();
        let calls = self.batch * self.heads;
        // The CPU walks a tile once for all gradients; shaders once for every block of its rows and of its columns, of which
        // every frame has as many as the others.
        let blocks = if device.is_cpu() { 1 } else { counts.len() / (calls * self.key_frames.query_frames()) };
        let kept = (self.key_frames.frames().len() * calls * blocks) as f64;
        // A kernel that walks runs of tokens counts them in shares of a tile.
        assert!((walked - kept).abs() < 1e-3, "{}: {what}: {walked} tiles walked, {kept} kept", device.name);
    }
}

#[test]
fn gradients_obey_every_family_of_masks() {
    on_each_device(|device| {
        for (name, mask) in &families(5) {
            let attention = Attention::masked(mask, 13, 24);
            attention.check_gradients(&device, name, 3e-6);
            attention.check_gradients_work(&device, name);
        }
    });
}

#[test]
fn gradients_of_every_head_size() {
    let mask = MaskFamily::paper(1).frame_mask(3).expect("a mask");
    on_each_device(|device| {
        for head in [1, 16, 20, 48, 96, 128] {
            Attention::masked(&mask, 37, head).check_gradients(&device, &format!("head of {head}"), 3e-6);
        }
    });
}

#[test]
fn gradients_of_attention_to_a_padded_text() {
    on_each_device(|device| {
        for (query_tokens, key_tokens) in [(65, 21), (1, 70), (40, 2)] {
            let attention = Attention {
                query_tokens,
                key_tokens,
                key_frames_total: 1,
                key_frames: Arc::new(KeyFrames::dense(1)),
                key_bias: true,
                ..Attention::masked(&FrameMask::full(1).expect("a mask"), 1, 48)
            };
            attention.check_gradients(&device, &format!("{query_tokens} queries, {key_tokens} keys with bias"), 1e-5);
        }
    });
}

/// Frames that are whole blocks of the matrix kernels and others; key frames that nobody keeps.
#[test]
fn gradients_of_frames_of_every_length() {
    let unseen = FrameMask::new(3, vec![true, false, true, false, false, true, true, false, false]).expect("a mask");
    let masks = [FrameMask::full(2).expect("a mask"), MaskFamily::paper(1).frame_mask(3).expect("a mask"), unseen];
    on_each_device(|device| {
        for (mask, tokens, head) in [(0, 144, 48), (1, 145, 48), (2, 50, 48), (1, 70, 96)] {
            let attention = Attention { batch: 1, ..Attention::masked(&masks[mask], tokens, head) };
            attention.check_gradients(&device, &format!("{tokens} tokens a frame, head of {head}"), 3e-6);
        }
    });
}

/// What a person's loss sees: burn's own operations around the kernel, views as operands, and operands without a gradient.
#[test]
fn the_graph_carries_the_gradients() {
    let mask = MaskFamily::paper(2).frame_mask(4).expect("a mask");
    let attention = Attention { key_bias: true, ..Attention::masked(&mask, 19, 48) };
    on_each_device(|device| {
        let operands = attention.operands(&device);
        let weights = attention.output_gradient(&device);
        let want = attention.reference_gradients(&operands, &weights);
        let graph = ComputeDevice { device: device.device.clone().autodiff(), ..device.clone() };
        for tracked in [[true, true, true], [false, true, false], [true, false, true]] {
            // As the model has them: [batch, tokens, heads, head], seen as [batch, heads, tokens, head].
            let leaf = |values: &[f32], shape: [usize; 4], tracked: bool| {
                let leaf = tensor(&graph, values, shape).swap_dims(1, 2) * 1.0;
                if tracked { leaf.detach().require_grad() } else { leaf.detach() }
            };
            let shapes = [attention.query_shape(), attention.key_shape(), attention.key_shape()];
            let numbers = [&operands.query, &operands.key, &operands.value];
            let leaves: [Tensor<4>; 3] = std::array::from_fn(|at| leaf(numbers[at], shapes[at], tracked[at]));
            let [query, key, value] = leaves.clone().map(|leaf| leaf.swap_dims(1, 2));
            let bias = operands.bias.as_ref().map(|bias| exact(&graph, bias, [attention.batch, attention.key_shape()[2]]));
            let output = tile_attention(query, key, value, bias, attention.tiles());
            let loss = (output * tensor(&graph, &weights, attention.query_shape())).sum();
            let gradients = loss.backward();
            for ((leaf, tracked), want) in leaves.iter().zip(tracked).zip(&want) {
                let Some(gradient) = leaf.grad(&gradients) else {
                    assert!(!tracked, "{}: a gradient is missing", device.name);
                    continue;
                };
                assert!(tracked, "{}: a gradient that nobody wants", device.name);
                assert_close(&device, "a gradient of the graph", &read(gradient.swap_dims(1, 2)), want, 3e-6);
            }
        }
    });
}
