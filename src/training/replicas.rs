//! One training on several devices: each has all parameters and makes the gradients of its share of every batch.
//!
//! The first device leads: it deals the parts of a batch out, adds everybody's gradients in the order of the devices and hands
//! the sum back, so that all take the same step as one device would with the whole batch. Gradients travel through the memory
//! of the host. Only the leader keeps checkpoints; the others begin with its state, and get it anew with each checkpoint, so
//! that devices whose arithmetic rounds differently do not drift apart.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use burn::tensor::Bytes;
use rayon::prelude::*;

use super::checkpoint::Checkpoint;
use super::error::TrainError;
use super::loss_scale::LossScale;
use super::run::{Task, words};
use super::trainer::{Exchange, Share, Trainer};
use crate::gpu::device::ComputeDevice;

/// The devices beside the first, and how a task and its trainer are made there.
pub struct Replicas<'a, T: Task> {
    pub devices: &'a [ComputeDevice],
    pub make: &'a MakeReplica<'a, T>,
}

/// Makes a task and its trainer on a device, in the thread that works there.
pub type MakeReplica<'a, T> = dyn Fn(&ComputeDevice) -> Result<(T, Trainer<<T as Task>::Network>), TrainError> + Sync + 'a;

/// Values in f32 that are added over the devices; none from one that had no part.
type Values = Option<Bytes>;
/// The same for all devices.
type Sum = Option<Arc<Bytes>>;

/// What the leader tells another device.
enum Order<B> {
    /// Begin with this state, or go on with it.
    State(Arc<Checkpoint>),
    Step {
        share: Share<B>,
        factor: f64,
        loss_scale: LossScale,
    },
}

struct Remote<B> {
    name: String,
    orders: Sender<Order<B>>,
    /// Of its parts, or why it failed.
    own: Receiver<Result<Values, TrainError>>,
    sums: Sender<Sum>,
}

/// The other devices, as the leader sees them.
pub(super) struct Others<B> {
    remotes: Vec<Remote<B>>,
    /// The sum of the step before, whose memory is used again: new pages would cost more than the sum.
    last: Mutex<Option<Arc<Bytes>>>,
}

impl<B: Send> Others<B> {
    /// Starts a thread for each device; they end when the leader lets go of them.
    pub fn begin<'scope, T: Task<Batch = B>>(
        scope: &'scope Scope<'scope, '_>,
        replicas: Option<&'scope Replicas<'scope, T>>,
        state: impl FnOnce() -> Result<Checkpoint, TrainError>,
    ) -> Result<Self, TrainError>
    where
        B: 'scope,
    {
        let Some(Replicas { devices, make }) = replicas else { return Ok(Self { remotes: Vec::new(), last: Mutex::default() }) };
        let remotes = devices.iter().map(|device| {
            let (orders, received) = channel();
            let (send_own, own) = channel();
            let (sums, receive_sums) = channel();
            scope.spawn(move || {
                let worked = || work(*make, device, &received, &send_own, &receive_sums);
                let worked = catch_unwind(AssertUnwindSafe(worked));
                let failed = worked.unwrap_or_else(|panic| {
                    Err(TrainError::DeviceFailed { step: 0, reason: format!("{}: {}", device.name, words(panic.as_ref())) })
                });
                if let Err(error) = failed {
                    // The leader may have ended with an error of its own.
                    let _ = send_own.send(Err(error));
                }
            });
            Remote { name: device.name.clone(), orders, own, sums }
        });
        let others = Self { remotes: remotes.collect(), last: Mutex::default() };
        if !others.remotes.is_empty() {
            others.set_state(state()?);
        }
        Ok(others)
    }

    /// How many devices there are, with the leader.
    pub fn devices(&self) -> usize {
        self.remotes.len() + 1
    }

    /// Hands everybody the leader's state.
    pub fn set_state(&self, state: Checkpoint) {
        let state = Arc::new(state);
        for remote in &self.remotes {
            // One that is gone says why when its gradients are asked for.
            let _ = remote.orders.send(Order::State(state.clone()));
        }
    }

    /// Deals a batch out; gives the leader's own share. Parts go round the devices, so that equal ones are spread evenly.
    pub fn deal(&self, batch: Vec<B>, factor: f64, loss_scale: &LossScale) -> Share<B> {
        let of = batch.len();
        let mut shares: Vec<Vec<B>> = (0..self.devices()).map(|_| Vec::new()).collect();
        for (index, part) in batch.into_iter().enumerate() {
            shares[index % self.devices()].push(part);
        }
        let mut shares = shares.into_iter().map(|parts| Share { parts, of });
        let own = shares.next().unwrap_or(Share { parts: Vec::new(), of });
        for (remote, share) in self.remotes.iter().zip(shares) {
            let _ = remote.orders.send(Order::Step { share, factor, loss_scale: loss_scale.clone() });
        }
        own
    }
}

impl<B> Exchange for Others<B> {
    fn is_needed(&self) -> bool {
        !self.remotes.is_empty()
    }

    fn add(&self, own: Values) -> Result<Sum, TrainError> {
        let theirs = self.remotes.iter().map(|remote| {
            let gone = || TrainError::DeviceFailed { step: 0, reason: format!("{} does not answer any more", remote.name) };
            remote.own.recv().map_err(|_| gone())?
        });
        let all = std::iter::once(Ok(own)).chain(theirs).collect::<Result<Vec<Values>, TrainError>>()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = add_up(&all, last.take()).map(Arc::new);
        last.clone_from(&sum);
        for remote in &self.remotes {
            let _ = remote.sums.send(sum.clone());
        }
        Ok(sum)
    }
}

/// The sum of all values, added in the order of the devices, in the memory of the sum before if nobody reads it any more.
fn add_up(all: &[Values], last: Option<Arc<Bytes>>) -> Values {
    /// Values that one thread adds at a time.
    const PIECE: usize = 1 << 14;
    let mut all = all.iter().flatten().map(|bytes| bytemuck::cast_slice::<u8, f32>(bytes));
    let first = all.next()?;
    let others: Vec<&[f32]> = all.collect();
    let last = last.and_then(Arc::into_inner).filter(|last| last.len() == size_of_val(first));
    let mut sum = last.unwrap_or_else(|| Bytes::from_elems(vec![0.0f32; first.len()]));
    let pieces = bytemuck::cast_slice_mut::<u8, f32>(&mut sum).par_chunks_mut(PIECE).zip(first.par_chunks(PIECE));
    pieces.enumerate().for_each(|(index, (sum, first))| {
        sum.copy_from_slice(first);
        for values in &others {
            sum.iter_mut().zip(&values[index * PIECE..]).for_each(|(sum, value)| *sum += value);
        }
    });
    Some(sum)
}

/// The leader, as another device sees it.
struct Leader<'a> {
    own: &'a Sender<Result<Values, TrainError>>,
    sums: &'a Receiver<Sum>,
}

impl Exchange for Leader<'_> {
    fn is_needed(&self) -> bool {
        true
    }

    fn add(&self, own: Values) -> Result<Sum, TrainError> {
        let gone = || TrainError::DeviceFailed { step: 0, reason: "the first device ended".into() };
        self.own.send(Ok(own)).map_err(|_| gone())?;
        self.sums.recv().map_err(|_| gone())
    }
}

/// What another device does until the leader lets go of it.
fn work<T: Task>(
    make: &MakeReplica<'_, T>,
    device: &ComputeDevice,
    orders: &Receiver<Order<T::Batch>>,
    own: &Sender<Result<Values, TrainError>>,
    sums: &Receiver<Sum>,
) -> Result<(), TrainError> {
    let (task, mut trainer) = make(device)?;
    let leader = Leader { own, sums };
    for order in orders {
        match order {
            Order::State(state) => trainer.resume(Checkpoint::clone(&state)),
            Order::Step { share, factor, loss_scale } => {
                trainer.progress.loss_scale = loss_scale;
                trainer.step(share, factor, |network, part| task.loss(network, part), &leader)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also in the memory of a sum before, and never in that of one which somebody still reads.
    #[test]
    fn sums_are_of_all_that_had_a_part() {
        const LENGTH: usize = 150_000;
        let of = |device: usize| (0..LENGTH).map(|i| (i * (device + 3) % 101) as f32).collect::<Vec<f32>>();
        let values = |device: usize| Some(Bytes::from_elems(of(device)));
        let want: Vec<f32> = of(0).iter().zip(of(2)).map(|(a, b)| a + b).collect();
        let last = Arc::new(Bytes::from_elems(of(7)));
        let read = last.clone();
        for (last, all) in [(None, vec![values(0), None, values(2)]), (Some(last), vec![None, values(0), values(2)])] {
            let sum = Arc::new(add_up(&all, last).unwrap());
            assert!(bytemuck::cast_slice::<u8, f32>(&sum) == want);
            let again = add_up(&[values(1)], Some(sum)).unwrap();
            assert!(bytemuck::cast_slice::<u8, f32>(&again) == of(1));
        }
        assert!(bytemuck::cast_slice::<u8, f32>(&read) == of(7));
        assert!(add_up(&[None, None], None).is_none());
    }
}
