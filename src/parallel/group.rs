//! Tensors between the members of a group.
//!
//! A tensor leaves a device by way of the program's memory. Reading one is begun, more work is queued behind it, and only then its
//! bytes are waited for, so that the device computes while they travel. What is sent together is read together: each read is a
//! round trip to the device.
//!
//! Queued is not submitted: cubecl gathers up to 32 launches, and as many again before they are encoded, which is most of a layer.
//! So whoever waits here has the device take what is queued first; it would idle until the next read or write otherwise.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use burn::tensor::wgpu::wgpu;
use burn::tensor::{Bytes, DType, Device, ExecutionError, Tensor, TensorData, Transaction};

use super::exchange::Traffic;
use super::transport::{Message, Tag, Transport, TransportError};
use crate::gpu::device::ComputeDevice;
use crate::gpu::spans::{self, Kind as SpanKind};
use crate::gpu::upload::Uploader;
use crate::model::weights::WeightError;

/// Why a rank did not come to the end of a call.
#[derive(Debug, thiserror::Error)]
pub enum RankError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("{0}")]
    Device(String),
    #[error(transparent)]
    Weights(#[from] WeightError),
    #[error("it has not answered for {:.0} seconds", waited.as_secs_f64())]
    Hung { waited: Duration },
    #[error("stopped")]
    Stopped,
}

/// How long to sleep between looks at a device that is still busy.
const BETWEEN_LOOKS: Duration = Duration::from_micros(40);

type Reads = Pin<Box<dyn Future<Output = Result<Vec<TensorData>, ExecutionError>>>>;

/// Tensors on their way from the device.
pub struct Reading {
    future: Reads,
    done: Option<Result<Vec<TensorData>, ExecutionError>>,
    device: Device,
    wgpu: Option<wgpu::Device>,
}

impl Reading {
    fn start(transaction: Transaction, device: Device, wgpu: Option<wgpu::Device>) -> Self {
        let mut reading = Self { future: Box::pin(transaction.execute_async()), done: None, device, wgpu };
        // The first look has the copy queued.
        reading.look();
        reading
    }

    fn look(&mut self) {
        if self.done.is_none()
            && let Poll::Ready(done) = self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            self.done = Some(done);
        }
    }

    /// Whether [`Self::wait`] would come back at once.
    pub fn is_there(&mut self) -> bool {
        if let Some(wgpu) = &self.wgpu {
            let _ = wgpu.poll(wgpu::PollType::Poll);
        }
        self.look();
        self.done.is_some()
    }

    /// # Errors
    /// The device failed.
    pub fn wait(mut self) -> Result<Vec<Bytes>, RankError> {
        spans::span(SpanKind::Copy, || {
            submit(&self.device);
            loop {
                self.look();
                if let Some(done) = self.done.take() {
                    let data = done.map_err(|error| RankError::Device(error.to_string()))?;
                    return Ok(data.into_iter().map(|data| data.into_parts().0).collect());
                }
                if let Some(wgpu) = &self.wgpu {
                    // burn's own thread waits for whatever was queued last, which may come long after this.
                    let _ = wgpu.poll(wgpu::PollType::Poll);
                }
                thread::sleep(BETWEEN_LOOKS);
            }
        })
    }
}

/// Has the device begin with what is queued. A device that fails here fails its next read as well.
fn submit(device: &Device) {
    let _ = device.flush();
}

/// The time of a member, told apart: its own device at work, or waiting for others.
#[derive(Default)]
struct Clock {
    /// Since when the member works; None while nobody measures.
    since: Cell<Option<Instant>>,
    busy: Cell<Duration>,
}

/// A member's end.
pub struct Group<'a> {
    transport: &'a dyn Transport,
    /// Ranks, by their place in the group.
    members: &'a [usize],
    pub place: usize,
    pub row: u32,
    /// How long a message is waited for.
    patience: Duration,
    device: &'a ComputeDevice,
    wgpu: Option<wgpu::Device>,
    uploader: &'a Uploader,
    clock: Clock,
    /// By layer.
    traffic: RefCell<Vec<Traffic>>,
}

impl<'a> Group<'a> {
    /// `place` is that of this rank among `members`; `patience` is how long it waits for a message.
    pub fn new(
        transport: &'a dyn Transport,
        members: &'a [usize],
        place: usize,
        patience: Duration,
        device: &'a ComputeDevice,
        uploader: &'a Uploader,
    ) -> Self {
        let wgpu = device.wgpu_device();
        let (clock, traffic) = (Clock::default(), RefCell::default());
        Self { transport, members, place, row: 0, patience, device, wgpu, uploader, clock, traffic }
    }

    pub fn device(&self) -> &Device {
        &self.device.device
    }

    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// From now on the time of this member's own device is measured, for which the device is waited for before every message.
    pub fn measure(&self) {
        self.clock.since.set(Some(Instant::now()));
    }

    /// How long the device was busy since [`Self::measure`].
    pub fn busy(&self) -> Duration {
        self.pause_clock();
        self.clock.busy.get()
    }

    /// What this member sent in each layer.
    pub fn traffic(&self) -> Vec<Traffic> {
        self.traffic.borrow().clone()
    }

    fn pause_clock(&self) {
        if let Some(since) = self.clock.since.take() {
            // A device that fails here fails its next read as well.
            let _ = self.device.device.sync();
            self.clock.busy.set(self.clock.busy.get() + since.elapsed());
        }
    }

    /// Begins to read tensors of any shapes.
    pub fn start_reading<const D: usize>(&self, tensors: impl IntoIterator<Item = Tensor<D>>) -> Reading {
        let all = tensors.into_iter().fold(Transaction::default(), |all, tensor| all.register(tensor));
        Reading::start(all, self.device.device.clone(), self.wgpu.clone())
    }

    /// Begins to read attention and its log-sums, pair by pair.
    pub fn start_reading_pairs(&self, pairs: impl IntoIterator<Item = (Tensor<4>, Tensor<3>)>) -> Reading {
        let all = pairs.into_iter().fold(Transaction::default(), |all, (a, b)| all.register(a).register(b));
        Reading::start(all, self.device.device.clone(), self.wgpu.clone())
    }

    /// Sends the same to several members.
    ///
    /// # Errors
    /// One of them has ended.
    pub fn send(&self, to: &[usize], tag: Tag, parts: Vec<Bytes>) -> Result<(), RankError> {
        let message = Message::new(parts);
        let mut traffic = self.traffic.borrow_mut();
        let layer = tag.layer as usize;
        if traffic.len() <= layer {
            traffic.resize(layer + 1, Traffic::default());
        }
        traffic[layer].sent += message.length() * to.len() as u64;
        traffic[layer].read += message.length();
        for &place in to {
            self.transport.send(self.members[place], tag, message.clone())?;
        }
        Ok(())
    }

    /// Waits for a message from a member.
    ///
    /// # Errors
    /// It has ended, or says nothing for too long.
    pub fn receive(&self, from: usize, tag: Tag) -> Result<Vec<Bytes>, RankError> {
        submit(&self.device.device);
        let measures = self.clock.since.get().is_some();
        self.pause_clock();
        let message = spans::span(SpanKind::Copy, || self.transport.receive(self.members[from], tag, self.patience));
        if measures {
            self.measure();
        }
        Ok(message?.into_parts())
    }

    /// Bytes of a message as a tensor on this member's device.
    ///
    /// # Errors
    /// There are more or fewer bytes than the shape wants.
    pub fn upload<const D: usize>(&self, bytes: Bytes, shape: [usize; D], dtype: DType) -> Result<Tensor<D>, RankError> {
        let wanted = shape.iter().product::<usize>() * dtype.size();
        if bytes.len() != wanted {
            return Err(RankError::Device(format!("a message has {} bytes instead of {wanted}", bytes.len())));
        }
        Ok(spans::span(SpanKind::Copy, || self.uploader.upload(bytes, shape, dtype)))
    }
}
