//! Layers that pass through the device one after the other, for networks that do not fit in its memory.
//!
//! A thread reads the next layer from its file into the program's memory while the device computes with the one before. Where
//! the device has room for two layers, the next one is copied there meanwhile too. What a layer computes does not depend on
//! whether it was streamed.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use burn::tensor::FloatDType;

use super::{Loader, WeightError, WeightSource};
use crate::gpu::device::ComputeDevice;
use crate::gpu::spans::{self, Kind};

/// How many layers of a stream are on the device at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// The next one is copied when the one before is done: the least memory.
    Nothing,
    /// The next one is copied while the one before computes.
    OneLayer,
}

/// Reads layers of one file in order, as often as it is asked to.
#[derive(Clone, Debug)]
pub struct LayerStream {
    source: Arc<WeightSource>,
    device: ComputeDevice,
    layers: usize,
    /// What the names of a layer's tensors begin with.
    prefix: fn(usize) -> String,
    /// Whether a tensor of this name is kept in f32 on the device.
    is_exact: fn(&str) -> bool,
    ahead: Ahead,
}

impl LayerStream {
    pub fn new(
        source: Arc<WeightSource>,
        device: &ComputeDevice,
        layers: usize,
        prefix: fn(usize) -> String,
        is_exact: fn(&str) -> bool,
        ahead: Ahead,
    ) -> Self {
        Self { source, device: device.clone(), layers, prefix, is_exact, ahead }
    }

    pub fn layers(&self) -> usize {
        self.layers
    }

    /// Makes every layer with `load` and hands it to `run`, which says whether to go on.
    ///
    /// # Errors
    /// The file cannot be read any more, or has values that are not finite.
    pub fn for_each<L>(
        &self,
        load: impl Fn(&mut Loader<'_>, usize) -> L,
        mut run: impl FnMut(usize, &L) -> bool,
    ) -> Result<(), WeightError> {
        thread::scope(|scope| {
            // One layer waits in memory while the next is read.
            let (send, received) = sync_channel(0);
            scope.spawn(move || {
                for layer in 0..self.layers {
                    // Nobody waits any more once the run was stopped.
                    if send.send(self.fetch(layer)).is_err() {
                        break;
                    }
                }
            });
            let make = |layer: usize| -> Result<L, WeightError> {
                spans::span(Kind::Copy, || {
                    let source = match received.recv() {
                        Ok(source) => source?,
                        // The thread ended early, which only a panic does.
                        Err(_) => self.fetch(layer)?,
                    };
                    let mut loader = Loader::new(&source, &self.device);
                    let made = load(&mut loader, layer);
                    // What is too much was told when the network was loaded.
                    loader.finish(|_| true)?;
                    Ok(made)
                })
            };
            let mut current = make(0)?;
            for layer in 0..self.layers {
                let goes_on = run(layer, &current) && layer + 1 < self.layers;
                // From here on the device computes by itself. A device that fails here fails its next read as well.
                let _ = self.device.device.flush();
                if !goes_on {
                    break;
                }
                if self.ahead == Ahead::OneLayer {
                    let next = make(layer + 1)?;
                    // Copies wait in the program's memory until the device takes them: not more than one layer of them.
                    let _ = self.device.device.sync();
                    current = next;
                } else {
                    let _ = self.device.device.sync();
                    drop(current);
                    current = make(layer + 1)?;
                }
            }
            Ok(())
        })
    }

    fn fetch(&self, layer: usize) -> Result<WeightSource, WeightError> {
        let prefix = (self.prefix)(layer);
        let names = self.source.tensors().map(|(name, _)| name).filter(|name| name.starts_with(&prefix));
        let dtype = |name: &str| if (self.is_exact)(name) { FloatDType::F32 } else { self.device.precision.dtype() };
        self.source.fetched(names, dtype)
    }
}
