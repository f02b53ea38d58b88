//! The same shaders as modules with wgpu's runtime checks on. The program runs them unchecked, as burn launches everything;
//! a kernel that reads or writes outside of its buffers gives other values here.

use tilereel::gpu::kernels::ShaderCall;
use tilereel::gpu::kernels::conv3d::{self, Geometry};
use tilereel::gpu::kernels::reference::{self, relative_l2, seeded};
use tilereel::gpu::kernels::tile_attention::backward::{self, Of};
use tilereel::gpu::kernels::tile_attention::{self, Gives};
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
        let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("the adapter opens");
        Some(Self { device, queue })
    }

    /// Runs a call with f32 inputs as its first bindings; the output begins full of junk.
    fn run(&self, call: &ShaderCall, inputs: &[&[f32]], output_len: usize) -> Vec<f32> {
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
        let output = buffer(bytemuck::cast_slice(&vec![f32::NAN; output_len]));
        buffers.push(output.clone());
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
        let size = (output_len * 4) as u64;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let landing = self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        encoder.copy_buffer_to_buffer(&output, 0, &landing, 0, size);
        self.queue.submit([encoder.finish()]);
        landing.map_async(wgpu::MapMode::Read, .., |result| result.expect("the buffer is mapped"));
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device answers");
        let mapped = landing.get_mapped_range(..).expect("the buffer is mapped");
        bytemuck::cast_slice(&mapped).to_vec()
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
        let call = tile_attention::shader_call(shader, [attention.batch, attention.heads, head], 3, &attention.tiles());
        let mut inputs = vec![operands.query.as_slice(), &operands.key, &operands.value];
        inputs.extend(operands.bias.as_deref());
        let got = checked.run(&call, &inputs, operands.query.len());
        let error = relative_l2(&got, &attention.reference(&operands));
        assert!(error <= 2e-6, "head {head}: {error:.2e}");
    }
}

#[test]
fn gradient_of_the_query_stays_inside_its_buffers() {
    let Some(checked) = Checked::open() else { return assert!(device::adapters().is_empty()) };
    let cpu = &devices()[0];
    let mask = MaskFamily::paper(1).frame_mask(3).expect("a mask");
    for (head, key_bias) in [(20, false), (97, true)] {
        let attention = Attention { key_bias, ..Attention::masked(&mask, 37, head) };
        let Operands { query, key, value, bias } = &attention.operands(cpu);
        let gradient = seeded(4, query.len());
        let rounded = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect::<Vec<_>>();
        let output = rounded(reference::tile_attention(&attention.sizes(), query, key, value, bias.as_deref()));
        let row_log_sums = rounded(reference::row_log_sums(&attention.sizes(), query, key, bias.as_deref()));
        let call = backward::row_deltas_call(backward::row_deltas_shader("f32", head), row_log_sums.len());
        let row_deltas = checked.run(&call, &[&output, &gradient], 2 * row_log_sums.len());
        let shader = backward::shader("f32", head, key_bias, Of::Queries, false);
        let sizes = [attention.batch, attention.heads, head];
        let call = backward::shader_call(shader, sizes, 3, &attention.tiles(), Of::Queries);
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
