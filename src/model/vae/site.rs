//! Watching the values between the layers of the VAE, under the names of their parameters.

use burn::tensor::Tensor;

use super::layers::MiddleBlock;

/// The decoder was asked to stop before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// Hands the output of each layer to a watcher, or ends the decoder early; costs nothing when nobody watches.
#[derive(Default)]
pub struct Sites<'a> {
    watcher: Option<Watcher<'a>>,
    stop: Option<&'a dyn Fn() -> bool>,
}

type Watcher<'a> = &'a mut dyn FnMut(String, Tensor<5>);

impl<'a> Sites<'a> {
    /// `watcher` gets the layer's name and its channels-last output.
    pub fn new(watcher: &'a mut dyn FnMut(String, Tensor<5>)) -> Self {
        Self { watcher: Some(watcher), stop: None }
    }

    /// `stop` is asked before every block of the decoder; once it is true there is no result.
    pub fn stopping(stop: &'a dyn Fn() -> bool) -> Self {
        Self { watcher: None, stop: Some(stop) }
    }

    pub(super) fn go_on(&self) -> Result<(), Stopped> {
        if self.stop.is_some_and(|stop| stop()) { Err(Stopped) } else { Ok(()) }
    }

    pub(super) fn see(&mut self, name: impl FnOnce() -> String, x: &Tensor<5>) {
        if let Some(watcher) = &mut self.watcher {
            watcher(name(), x.clone());
        }
    }

    pub(super) fn middle(&mut self, name: &str, mid: &MiddleBlock, x: Tensor<5>) -> Tensor<5> {
        let x = mid.block_1.forward(x);
        self.see(|| format!("{name}.block_1"), &x);
        let x = mid.attn_1.forward(x);
        self.see(|| format!("{name}.attn_1"), &x);
        let x = mid.block_2.forward(x);
        self.see(|| format!("{name}.block_2"), &x);
        x
    }
}
