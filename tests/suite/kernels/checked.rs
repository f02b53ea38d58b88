//! The same shaders as modules with wgpu's runtime checks on. The program runs them unchecked, as burn launches everything;
//! a kernel that reads or writes outside of its buffers gives other values here.

use std::sync::Arc;

use burn::tensor::DType;
use tilereel::gpu::kernels::block_product::{self, Block};
use tilereel::gpu::kernels::conv3d::{self, Geometry};
use tilereel::gpu::kernels::gradient::input::InputGradient;
use tilereel::gpu::kernels::gradient::{self, WeightGradient};
use tilereel::gpu::kernels::linear::{self, Activation};
use tilereel::gpu::kernels::norm_modulate::ShiftAndScale;
use tilereel::gpu::kernels::reference::{self, relative_l2, seeded, transformer};
use tilereel::gpu::kernels::rows::RowCut;
use tilereel::gpu::kernels::tile_attention::backward::{self, Of};
use tilereel::gpu::kernels::tile_attention::{self, Gives, backward_subgroup, subgroup};
use tilereel::gpu::kernels::tile_mass::{self, RecordSizes, RecordedLayer, RecordedSample};
use tilereel::gpu::kernels::{ShaderCall, Vectors, gate_residual, gelu, heads, norm_modulate, rows};
use tilereel::mask::MaskFamily;
use wgpu::util::DeviceExt;

use super::{Attention, HALF, Operands, SAME, device, devices};

/// Plain wgpu on the first adapter; none without adapters.
struct Checked {
    device: wgpu::Device,
    queue: wgpu::Queue,
}

impl Checked {
    fn open() -> Option<Self> {
        let backends = wgpu::Backends::PRIMARY;
        let descriptor = wgpu::InstanceDescriptor { backends, ..wgpu::InstanceDescriptor::new_without_display_handle() };
        let adapter = pollster::block_on(wgpu::Instance::new(descriptor).enumerate_adapters(backends)).into_iter().next()?;
        let required_features = adapter.features() & wgpu::Features::SUBGROUP;
        let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), required_features, ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("the adapter opens");
        Some(Self { device, queue })
    }

    /// Runs a call with f32 inputs as its first bindings; the output begins full of junk.
    fn run(&self, call: &ShaderCall, inputs: &[&[f32]], output_len: usize) -> Vec<f32> {
        let [output] = self.run_all(call, inputs, [output_len]);
        output
    }

    /// [`Self::run`] with several outputs.
    fn run_all<const N: usize>(&self, call: &ShaderCall, inputs: &[&[f32]], output_lens: [usize; N]) -> [Vec<f32>; N] {
        let text = call.shader.variant.expand(call.shader.template);
        let module = self
            .device
            .create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source: wgpu::ShaderSource::Wgsl(text.into()) });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        });
        let buffer = |contents: &[u8]| {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
            self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
        };
        let mut buffers: Vec<wgpu::Buffer> = inputs.iter().map(|values| buffer(bytemuck::cast_slice(values))).collect();
        let outputs = output_lens.map(|len| buffer(bytemuck::cast_slice(&vec![f32::NAN; len])));
        buffers.extend(outputs.iter().cloned());
        buffers.push(buffer(bytemuck::cast_slice(&call.info)));
        let entries: Vec<_> = (0..)
            .zip(&buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let layout = pipeline.get_bind_group_layout(0);
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries });

        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            let [x, y, z] = call.workgroups;
            pass.dispatch_workgroups(x, y, z);
        }
        let landings = outputs.map(|output| {
            let (size, usage) = (output.size(), wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
            let landing =
                self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
            encoder.copy_buffer_to_buffer(&output, 0, &landing, 0, size);
            landing
        });
        self.queue.submit([encoder.finish()]);
        for landing in &landings {
            landing.map_async(wgpu::MapMode::Read, .., |result| result.expect("the buffer is mapped"));
        }
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device answers");
        landings.map(|landing| {
            let mapped = landing.get_mapped_range(..).expect("the buffer is mapped");
            bytemuck::cast_slice(&mapped).to_vec()
        })
    }
}

#[test]
fn attention_stays_inside_its_buffers() {
    let Some(checked) = Checked::open() else { return assert!(device::adapters().is_empty()) };
    let cpu = &devices()[0];
    let mask = MaskFamily::paper(1).frame_mask(3).expect("a mask");
    for (head, key_bias) in [(20, false), (97, true)] {
        let attention = Attention { key_bias, ..Attention::masked(&mask, 37, head) };
        let operands = attention.operands(cpu);
        let shader = tile_attention::shader("f32", head, key_bias, Gives::Attention);
        let call = tile_attention::shader_call(shader, [attention.batch, attention.heads, head], 3, &attention.tiles(), None);
        let mut inputs = vec![operands.query.as_slice(), &operands.key, &operands.value];
        inputs.extend(operands.bias.as_deref());
        let got = checked.run(&call, &inputs, operands.query.len());
        let error = relative_l2(&got, &attention.reference(&operands));
        assert!(error <= 2e-6, "head {head}: {error:.2e}");
    }
}

#[test]
fn the_subgroup_tier_stays_inside_its_buffers() {
    let Some(checked) = Checked::open() else { return assert!(device::adapters().is_empty()) };
    let cpu = &devices()[0];
    let mask = MaskFamily::paper(1).frame_mask(3).expect("a mask");
    if checked.device.features().contains(wgpu::Features::SUBGROUP) {
        for (head, key_bias) in [(20, false), (96, true)] {
            let attention = Attention { key_bias, ..Attention::masked(&mask, 37, head) };
            let operands = attention.operands(cpu);
            let cut = subgroup::Cut::of("f32", head).expect("a cut");
            let shader = subgroup::shader("f32", cut, key_bias, Gives::Attention);
            let sizes = [attention.batch, attention.heads, head];
            let call = subgroup::shader_call(shader, cut, sizes, 3, &attention.tiles(), None);
            let mut inputs = vec![operands.query.as_slice(), &operands.key, &operands.value];
            inputs.extend(operands.bias.as_deref());
            let got = checked.run(&call, &inputs, operands.query.len());
            let error = relative_l2(&got, &attention.reference(&operands));
            assert!(error <= 2e-6, "head {head}: {error:.2e}");
        }
    }
    for block in Block::ALL {
        let [rows, inner, columns] = [131, 36, 68];
        let (x, weight) = (seeded(12, rows * inner), seeded(13, inner * columns));
        let shader = linear::block_shader("f32", block, false, Activation::None);
        let call = block_product::shader_call(shader, block, [rows, inner, columns]);
        let got = checked.run(&call, &[&x, &weight], rows * columns);
        let error = relative_l2(&got, &reference::linear([inner, columns], &x, &weight, None, false));
        assert!(error <= 2e-6, "{block:?}: {error:.2e}");

        let (input, channels_out) = ([2, 3, 5, 7, 20], 12);
        let [_, frames, height, width, channels] = input;
        let count = 2 * HALF.output([frames, height, width]).iter().product::<usize>() * channels_out;
        let (x, weight) = (seeded(4, input.iter().product()), seeded(5, HALF.taps() * channels * channels_out));
        let bias = seeded(6, channels_out);
        let call = block_product::convolution_call(conv3d::block_shader("f32", block, false), block, input, channels_out, &HALF);
        let got = checked.run(&call, &[&x, &weight, &bias], count);
        let want = reference::conv3d(&reference::Conv3d { input, channels_out, geometry: HALF }, &x, &weight, &bias, None, None);
        let error = relative_l2(&got, &want);
        assert!(error <= 2e-6, "convolution, {block:?}: {error:.2e}");

        let [frames_out, height_out, width_out] = HALF.output([frames, height, width]);
        let back = seeded(10, count);
        let sizes = reference::Conv3d { input, channels_out, geometry: HALF };
        let (of_input, of_weight) = reference::conv3d_gradients(&sizes, &x, &weight, &back);
        let (call, parts) =
            gradient::blocks::call_in_blocks("f32", &WeightGradient { input, channels_out, geometry: HALF }, block);
        let got = checked.run(&call, &[&x, &back], parts * weight.len());
        let got: Vec<f32> = (0..weight.len()).map(|at| got[at..].iter().step_by(weight.len()).sum()).collect();
        let error = relative_l2(&got, &of_weight);
        assert!(error <= 2e-6, "gradient of a weight, {block:?}: {error:.2e}");

        let size = [frames, height, width];
        let gradient = [2, frames_out, height_out, width_out, channels_out];
        let all = InputGradient { gradient, channels_in: channels, size, geometry: HALF };
        for (part, first) in all.launches() {
            let call = gradient::input::turned_weight_call("f32", [channels, channels_out], &HALF, first);
            let turned = checked.run(&call, &[&weight], weight.len());
            let shader = gradient::input::block_shader("f32", block, true);
            let to = (size, part.clone());
            let call = block_product::gradient_call(shader, block, gradient, to, channels, &all.turned());
            let got = checked.run(&call, &[&back, &turned], x.len());
            let frame = height * width * channels;
            for clip in [0, frames * frame] {
                let values = clip + part.start * frame..clip + part.end * frame;
                let error = relative_l2(&got[values.clone()], &of_input[values]);
                assert!(error <= 2e-6, "gradient of an input, frames {part:?}, {block:?}: {error:.2e}");
            }
        }
    }
}

/// Rows in fours and not, one and several to a workgroup; tokens that end inside of a round.
#[test]
fn norms_and_gates_stay_inside_their_buffers() {
    let Some(checked) = Checked::open() else { return assert!(device::adapters().is_empty()) };
    let (table_rows, places, epsilon) = (6, ShiftAndScale { shift: 3, scale: 4 }, 1e-6);
    let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
    for [batch, tokens, width] in [[2, 19, 28], [1, 37, 30], [2, 3, 1001], [1, 2, 3072]] {
        let vectors = Vectors::of(DType::F32, width);
        let cut = RowCut::new(vectors, width);
        let (x, gradient) = (seeded(60, batch * tokens * width), seeded(61, batch * tokens * width));
        let table = seeded(62, batch * table_rows * width);
        let check = |what: &str, got: &[f32], want: &[f64]| {
            let error = relative_l2(got, want);
            assert!(error <= 5e-6, "{what} of {tokens} x {width}: {error:.2e}");
        };
        let sizes = [tokens, width, table_rows];
        let call = norm_modulate::shader_call(cut, [batch, tokens], table_rows, places, epsilon);
        let want = transformer::norm_modulate(sizes, [places.shift, places.scale], epsilon, &wide(&x), &wide(&table));
        check("norm", &checked.run(&call, &[&x, &table], x.len()), &want);
        let call = gate_residual::shader_call(vectors, [batch, tokens, width], Some([table_rows, 5]));
        let want = transformer::gate_residual(sizes, Some((&wide(&table), 5)), &wide(&gradient), &wide(&x));
        check("gate", &checked.run(&call, &[&gradient, &x, &table], x.len()), &want);

        // What the gradients' sums are in one go: the functions are linear in the table.
        let plain = vec![0.0; table.len()];
        let normal = transformer::norm_modulate(sizes, [places.shift, places.scale], epsilon, &wide(&x), &plain);
        let (mut of_norm, mut of_gate) = (plain.clone(), plain);
        for (at, &given) in wide(&gradient).iter().enumerate() {
            let place = |row: usize| (at / (tokens * width) * table_rows + row) * width + at % width;
            of_norm[place(places.shift)] += given;
            of_norm[place(places.scale)] += given * normal[at];
            of_gate[place(5)] += given * f64::from(x[at]);
        }
        let inputs: [&[f32]; 3] = [&x, &table, &gradient];
        let of_norm_shader = |of_stream, inputs: &[&[f32]]| {
            let (rows, row) = ([batch, tokens], places.scale);
            let (call, chunks) = norm_modulate::gradient_shader_call(cut, rows, table_rows, row, epsilon, of_stream);
            let [x_gradient, sums] = checked.run_all(&call, inputs, [x.len(), batch * chunks * 2 * width]);
            assert!(x_gradient.iter().all(|value| value.is_finite()), "the gradient of the norm of {tokens} x {width} has holes");
            (x_gradient, sums, chunks)
        };
        let (x_gradient, sums, chunks) = of_norm_shader(false, &inputs);
        let stream = seeded(65, x.len());
        let (with_stream, sums_with_stream, _) = of_norm_shader(true, &[&x, &table, &gradient, &stream]);
        let want: Vec<f32> = x_gradient.iter().zip(&stream).map(|(own, stream)| stream + own).collect();
        check("gradient of a stream", &with_stream, &wide(&want));
        assert!(sums == sums_with_stream, "the sums of {tokens} x {width} do not depend on the stream");
        let call = rows::column_sums_call([batch, chunks, width], table_rows, &[places.shift, places.scale]);
        check("gradient of the table", &checked.run(&call, &[&sums], table.len()), &of_norm);
        let (call, chunks) = gate_residual::gradient_shader_call(cut, [batch, tokens], table_rows, 5);
        let [x_gradient, sums] = checked.run_all(&call, &inputs, [x.len(), batch * chunks * width]);
        assert!(x_gradient.iter().all(|value| value.is_finite()), "the gradient of the gate of {tokens} x {width} has holes");
        let call = rows::column_sums_call([batch, chunks, width], table_rows, &[5]);
        check("gradient of the gate", &checked.run(&call, &[&sums], table.len()), &of_gate);
    }
}

#[test]
fn heads_and_gelu_stay_inside_their_buffers() {
    let Some(checked) = Checked::open() else { return assert!(device::adapters().is_empty()) };
    for shape @ [batch, count, tokens, head] in [[2, 3, 37, 24], [1, 5, 7, 18]] {
        let (x, half): (Vec<f32>, usize) = (seeded(63, shape.iter().product()), head / 2);
        let x_wide: Vec<f64> = x.iter().map(|&value| f64::from(value)).collect();
        let angles: Vec<(f32, f32)> = seeded(64, tokens * half).into_iter().map(|angle| (angle.cos(), angle.sin())).collect();
        let table: Vec<f32> = angles
            .chunks_exact(half)
            .flat_map(|row| row.iter().map(|angle| angle.0).chain(row.iter().map(|angle| angle.1)))
            .collect();
        let angles: Vec<(f64, f64)> = angles.into_iter().map(|(cos, sin)| (cos.into(), sin.into())).collect();
        let vectors = Vectors::of(DType::F32, head / 6);
        let split = checked.run(&heads::shader_call(vectors, shape, false, true), &[&x, &table], x.len());
        let want = transformer::split_heads([count, tokens, head], Some(&angles), &x_wide);
        assert!(relative_l2(&split, &want) <= 2e-6, "{batch} x {tokens} turned heads of {head}");
        let merged = checked.run(&heads::shader_call(vectors, shape, true, true), &[&split, &table], x.len());
        assert!(relative_l2(&merged, &x_wide) <= 2e-6, "{batch} x {tokens} heads of {head} turned there and back");

        let vectors = Vectors::of(DType::F32, x.len());
        let got = checked.run(&gelu::shader_call(gelu::shader(vectors, false), vectors, x.len()), &[&x], x.len());
        let want: Vec<f64> = x_wide.iter().map(|&x| reference::gelu_tanh(x)).collect();
        assert!(relative_l2(&got, &want) <= 2e-6, "gelu of {} values", x.len());
    }
}

#[test]
fn gradient_of_the_query_stays_inside_its_buffers() {
    let Some(checked) = Checked::open() else { return assert!(device::adapters().is_empty()) };
    let cpu = &devices()[0];
    let mask = MaskFamily::paper(1).frame_mask(3).expect("a mask");
    let has_subgroups = checked.device.features().contains(wgpu::Features::SUBGROUP);
    for (head, key_bias, in_quads) in [(20, false, false), (97, true, false), (20, false, true), (96, true, true)] {
        if in_quads && !has_subgroups {
            continue;
        }
        let attention = Attention { key_bias, ..Attention::masked(&mask, 37, head) };
        let Operands { query, key, value, bias } = &attention.operands(cpu);
        let gradient = seeded(4, query.len());
        let rounded = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect::<Vec<_>>();
        let output = rounded(reference::tile_attention(&attention.sizes(), query, key, value, bias.as_deref()));
        let row_log_sums = rounded(reference::row_log_sums(&attention.sizes(), query, key, bias.as_deref()));
        let call = backward::row_deltas_call(backward::row_deltas_shader("f32", head), row_log_sums.len());
        let row_deltas = checked.run(&call, &[&output, &gradient], 2 * row_log_sums.len());
        let (sizes, tiles) = ([attention.batch, attention.heads, head], attention.tiles());
        let call = if in_quads {
            let cut = backward_subgroup::Cut::of(head, Of::Queries).expect("a cut");
            let shader = backward_subgroup::shader("f32", cut, key_bias, Of::Queries, false);
            backward_subgroup::shader_call(shader, cut, sizes, 3, &tiles, Of::Queries)
        } else {
            let shader = backward::shader("f32", head, key_bias, Of::Queries, false);
            backward::shader_call(shader, sizes, 3, &tiles, Of::Queries)
        };
        let mut inputs = vec![query.as_slice(), key, value, &gradient, &row_log_sums, &row_deltas];
        inputs.extend(bias.as_deref());
        let got = checked.run(&call, &inputs, query.len());
        let operands = [query.as_slice(), key, value];
        let [want, ..] = reference::tile_attention_gradients(&attention.sizes(), operands, bias.as_deref(), &gradient);
        let error = relative_l2(&got, &want);
        assert!(error <= 3e-6, "head {head}: {error:.2e}");
    }
}

#[test]
fn masses_stay_inside_their_buffers() {
    let Some(checked) = Checked::open() else { return assert!(device::adapters().is_empty()) };
    let (frames, heads, query_tokens, rows) = (3, 2, 67, 5);
    let key_frames = Arc::new(MaskFamily::paper(1).frame_mask(frames).expect("a mask").key_frames());
    let log_sums = seeded(66, heads * key_frames.frames().len() * query_tokens);
    let sample = seeded(67, heads * frames * frames * rows);
    let record = [log_sums.as_slice(), &sample].concat();
    let sizes = RecordSizes { heads, query_tokens, frames };
    let sampled = RecordedSample { at: log_sums.len(), rows };
    let layer = |sample| RecordedLayer { log_sums_at: 0, sample, key_frames: key_frames.clone() };
    let layers = [layer(None), layer(Some(sampled))];
    let [of_rows, of_tiles] = tile_mass::shader_calls(&layers, sizes);
    let common = checked.run(&of_rows, &[&record], tile_mass::row_values(&layers, sizes));
    let got = checked.run(&of_tiles, &[&record, &common], layers.len() * heads * frames * frames * 2);
    let want = |sample| reference::tile_mass([1, heads, query_tokens], &log_sums, sample, &key_frames);
    let error = relative_l2(&got, &[want(None), want(Some(&sample[..]))].concat());
    assert!(error <= 1e-5, "{error:.2e}");
}

#[test]
fn convolution_stays_inside_its_buffers() {
    let Some(checked) = Checked::open() else { return assert!(device::adapters().is_empty()) };
    for geometry in [SAME, HALF] {
        let (input, channels_out) = ([2, 3, 7, 9, 35], 67);
        let [batch, frames, height, width, channels] = input;
        let output_len = geometry.output([frames, height, width]).iter().product::<usize>() * batch * channels_out;
        let x = seeded(4, input.iter().product());
        let weight: Vec<f32> = seeded(5, Geometry::taps(&geometry) * channels * channels_out).iter().map(|w| w / 8.0).collect();
        let (bias, affine, residual) = (seeded(6, channels_out), seeded(7, batch * 2 * channels), seeded(8, output_len));
        let call = conv3d::shader_call(conv3d::shader("f32", true, true), input, channels_out, &geometry);
        let got = checked.run(&call, &[&x, &weight, &bias, &affine, &residual], output_len);
        let sizes = reference::Conv3d { input, channels_out, geometry };
        let error = relative_l2(&got, &reference::conv3d(&sizes, &x, &weight, &bias, Some(&affine), Some(&residual)));
        assert!(error <= 2e-6, "{geometry:?}: {error:.2e}");
    }
}
