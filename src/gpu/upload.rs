//! Large tensors from the program's memory to a device, again and again, through buffers that stay mapped.
//!
//! What wgpu does for a write (a new host buffer for each, which the driver must pin) takes longer than the copy itself where
//! a tensor has tens of megabytes. Here staging buffers of one size are kept and filled by several threads; the device copies from
//! them in the order of its queue, and they are mapped again when it is done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::CubeBackend;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::cubecl::wgpu::{AutoCompiler, WgpuServer};
use burn::tensor::wgpu::wgpu;
use burn::tensor::{Bytes, DType, Tensor, TensorData};
use rayon::prelude::*;

use super::device::ComputeDevice;
use super::kernels::KernelError;

/// Of a staging buffer: large against the cost of a copy, small enough that a tensor keeps several threads busy.
const CHUNK_BYTES: usize = 8 << 20;
/// Below this a write of wgpu's own is as good.
const SMALL_BYTES: usize = 256 << 10;
/// A copy's length and places, as WebGPU wants them.
const ALIGNMENT: usize = wgpu::COPY_BUFFER_ALIGNMENT as usize;

/// Puts tensors onto one device. A copy is the same uploader.
#[derive(Clone)]
pub struct Uploader {
    device: ComputeDevice,
    staging: Option<Arc<Staging>>,
}

/// The staging buffers of a device.
struct Staging {
    device: wgpu::Device,
    queue: wgpu::Queue,
    chunks: Mutex<Vec<Chunk>>,
}

struct Chunk {
    buffer: wgpu::Buffer,
    /// Whether it is mapped: the device has read it.
    is_free: Arc<AtomicBool>,
}

impl std::fmt::Debug for Uploader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uploader").field("device", &self.device.name).finish_non_exhaustive()
    }
}

/// Bytes for a tensor.
#[derive(Clone)]
pub(crate) struct Upload {
    staging: Arc<Staging>,
    bytes: Arc<Bytes>,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

#[backend_extension(Cube, Flex)]
pub(crate) trait UploadKernel: Backend {
    /// Fills a tensor that nothing was written into yet.
    fn upload(tensor: FloatTensor<Self>, upload: Upload) -> FloatTensor<Self>;
}

impl Uploader {
    pub fn new(device: &ComputeDevice) -> Self {
        let staging = device.wgpu_queue().map(|(device, queue)| Arc::new(Staging { device, queue, chunks: Mutex::default() }));
        Self { device: device.clone(), staging }
    }

    /// A tensor of these bytes, which are as many as its shape and type say. They may be shared: several devices get the same.
    pub fn upload<const D: usize>(&self, bytes: impl Into<Arc<Bytes>>, shape: [usize; D], dtype: DType) -> Tensor<D> {
        let bytes = bytes.into();
        let length = bytes.len();
        match &self.staging {
            Some(staging) if length >= SMALL_BYTES && length.is_multiple_of(ALIGNMENT) => {
                let tensor = Tensor::<D>::empty(shape, (&self.device.device, dtype));
                let upload = Upload { staging: staging.clone(), bytes };
                Tensor::from_dispatch(Dispatch::upload(tensor.into_dispatch(), upload))
            }
            _ => {
                Tensor::from_data(TensorData::from_bytes(Arc::unwrap_or_clone(bytes), shape, dtype), (&self.device.device, dtype))
            }
        }
    }
}

impl Staging {
    /// So many free chunks. Their count grows to what is ever in use at once.
    fn take(&self, count: usize) -> Vec<Chunk> {
        // Maps what the device is done with. A device that fails here fails its next read as well.
        let _ = self.device.poll(wgpu::PollType::Poll);
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::with_capacity(count);
        let mut index = 0;
        while index < chunks.len() && taken.len() < count {
            if chunks[index].is_free.load(Ordering::Acquire) {
                taken.push(chunks.swap_remove(index));
            } else {
                index += 1;
            }
        }
        taken.resize_with(count, || Chunk {
            buffer: self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("tilereel upload"),
                size: CHUNK_BYTES as u64,
                usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: true,
            }),
            is_free: Arc::new(AtomicBool::new(true)),
        });
        taken
    }

    /// Copies into a part of a buffer, in the order of the queue.
    fn copy(&self, bytes: &[u8], target: &wgpu::Buffer, offset: u64) -> Result<(), String> {
        let chunks = self.take(bytes.len().div_ceil(CHUNK_BYTES));
        let filled: Result<(), String> = chunks.par_iter().zip(bytes.par_chunks(CHUNK_BYTES)).try_for_each(|(chunk, bytes)| {
            let view = chunk.buffer.get_mapped_range_mut(0..bytes.len() as u64);
            view.map_err(|error| error.to_string())?.copy_from_slice(bytes);
            Ok(())
        });
        filled?;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("tilereel upload") });
        for (index, (chunk, bytes)) in chunks.iter().zip(bytes.chunks(CHUNK_BYTES)).enumerate() {
            chunk.buffer.unmap();
            let to = offset + (index * CHUNK_BYTES) as u64;
            encoder.copy_buffer_to_buffer(&chunk.buffer, 0, target, to, bytes.len() as u64);
        }
        self.queue.submit([encoder.finish()]);
        for chunk in &chunks {
            chunk.is_free.store(false, Ordering::Release);
            let is_free = chunk.is_free.clone();
            chunk.buffer.map_async(wgpu::MapMode::Write, .., move |mapped| is_free.store(mapped.is_ok(), Ordering::Release));
        }
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner).extend(chunks);
        Ok(())
    }
}

impl UploadKernel for CubeBackend {
    fn upload(tensor: FloatTensor<Self>, upload: Upload) -> FloatTensor<Self> {
        let failed = |reason: String| -> ! { std::panic::panic_any(KernelError { kernel: "upload", reason }) };
        // The tensor's memory may have been another's, whose work must be in the queue before the copy is.
        if let Err(error) = tensor.client.flush() {
            failed(error.to_string());
        }
        let managed = match tensor.client.get_resource::<WgpuServer<AutoCompiler>>(tensor.handle.clone()) {
            Ok(managed) => managed,
            Err(error) => failed(error.to_string()),
        };
        let resource = managed.resource();
        if let Err(reason) = upload.staging.copy(&upload.bytes, &resource.buffer, resource.offset) {
            failed(reason);
        }
        tensor
    }
}

impl UploadKernel for Flex {
    fn upload(_tensor: FloatTensor<Self>, upload: Upload) -> FloatTensor<Self> {
        // Only an adapter's device has a queue, and so staging buffers.
        let reason = format!("{upload:?} is for an adapter");
        std::panic::panic_any(KernelError { kernel: "upload", reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{DeviceChoice, adapters, open};
    use crate::gpu::kernels::reference::seeded;

    /// Sizes around those of a chunk, while other work is queued, and chunks that are used again.
    #[test]
    fn what_is_uploaded_is_what_arrives() {
        let mut devices = vec![open(&DeviceChoice::Cpu, None).unwrap()];
        devices.extend(adapters().first().map(|adapter| open(&DeviceChoice::Index(adapter.index), None).unwrap()));
        for device in devices {
            let uploader = Uploader::new(&device);
            let chunk = CHUNK_BYTES / size_of::<f32>();
            for count in [3, chunk - 1, chunk, 2 * chunk + 5, SMALL_BYTES / size_of::<f32>(), 3 * chunk] {
                let values = seeded(count as u64, count);
                let bytes = || Bytes::from_elems(values.clone());
                // Memory of the same size that kernels still write when the upload takes it over.
                drop(Tensor::<1>::ones([count], &device.device) * 3.0);
                let uploaded: Tensor<1> = uploader.upload(bytes(), [count], DType::F32);
                let twice = uploaded.clone() + uploaded;
                let again: Tensor<1> = uploader.upload(bytes(), [count], DType::F32);
                let got: Vec<f32> = (twice - again).try_into_vec_as().unwrap();
                assert!(got == values, "{count} values on {}", device.name);
            }
        }
    }
}
