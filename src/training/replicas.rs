//! One training on several devices: each has all parameters and makes the gradients of its share of every batch.
//!
//! The first device leads: it deals the parts of a batch out, adds everybody's gradients in the order of the devices and hands
//! the sum back, so that all take the same step as one device would with the whole batch. Gradients travel through the memory
//! of the host. Only the leader keeps checkpoints; the others begin with its state, and get it anew with each checkpoint, so
//! that devices whose arithmetic rounds differently do not drift apart.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

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

/// Values that are added over the devices; empty from one that had no part.
type Values = Vec<f32>;

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
    /// Sums travel back in the memory in which the values came: new pages would cost more than the copy.
    sums: Sender<Values>,
}

/// The other devices, as the leader sees them.
pub(super) struct Others<B> {
    remotes: Vec<Remote<B>>,
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
        let Some(Replicas { devices, make }) = replicas else { return Ok(Self { remotes: Vec::new() }) };
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
        let others = Self { remotes: remotes.collect() };
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

    fn add(&self, mut own: Values) -> Result<Values, TrainError> {
        let theirs = self.remotes.iter().map(|remote| {
            let gone = || TrainError::DeviceFailed { step: 0, reason: format!("{} does not answer any more", remote.name) };
            remote.own.recv().map_err(|_| gone())?
        });
        let mut theirs = theirs.collect::<Result<Vec<Values>, TrainError>>()?;
        add_up(&mut own, &mut theirs);
        for (remote, sum) in self.remotes.iter().zip(theirs) {
            let _ = remote.sums.send(sum);
        }
        Ok(own)
    }
}

/// Everybody's values become the sum of all, added in the order of the devices; those that are empty count as nothing.
fn add_up(own: &mut Values, theirs: &mut [Values]) {
    /// Values that one thread adds at a time.
    const PIECE: usize = 1 << 16;
    let length = theirs.iter().map(Vec::len).fold(own.len(), usize::max);
    own.resize(length, 0.0);
    theirs.iter_mut().for_each(|values| values.resize(length, 0.0));
    let mut pieces: Vec<Vec<&mut [f32]>> = own.chunks_mut(PIECE).map(|piece| vec![piece]).collect();
    for values in theirs {
        pieces.iter_mut().zip(values.chunks_mut(PIECE)).for_each(|(of_all, piece)| of_all.push(piece));
    }
    pieces.par_iter_mut().for_each(|of_all| {
        if let Some((sum, others)) = of_all.split_first_mut() {
            for values in others.iter() {
                sum.iter_mut().zip(values.iter()).for_each(|(sum, value)| *sum += value);
            }
            others.iter_mut().for_each(|values| values.copy_from_slice(sum));
        }
    });
}

/// The leader, as another device sees it.
struct Leader<'a> {
    own: &'a Sender<Result<Values, TrainError>>,
    sums: &'a Receiver<Values>,
}

impl Exchange for Leader<'_> {
    fn is_needed(&self) -> bool {
        true
    }

    fn add(&self, own: Values) -> Result<Values, TrainError> {
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
    sums: &Receiver<Values>,
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

    #[test]
    fn everybody_has_the_sum() {
        const LENGTH: usize = 150_000;
        let of = |device: usize| (0..LENGTH).map(|i| (i * (device + 3) % 101) as f32).collect::<Values>();
        // The second device had no part.
        let (mut own, mut theirs) = (of(0), vec![Vec::new(), of(2)]);
        add_up(&mut own, &mut theirs);
        let want: Values = of(0).iter().zip(of(2)).map(|(a, b)| a + b).collect();
        assert!(own == want && theirs.iter().all(|values| *values == want));
        let (mut own, mut theirs) = (Vec::new(), vec![of(1)]);
        add_up(&mut own, &mut theirs);
        assert!(own == of(1) && theirs[0] == of(1));
    }
}
