//! Watching the values between the layers of the VAE, under the names of their parameters.

use burn::tensor::Tensor;

use super::layers::MiddleBlock;

/// Hands the output of each layer to a watcher; costs nothing when nobody watches.
#[derive(Default)]
pub struct Sites<'a> {
    watcher: Option<Watcher<'a>>,
}

type Watcher<'a> = &'a mut dyn FnMut(String, Tensor<5>);

impl<'a> Sites<'a> {
    /// `watcher` gets the layer's name and its channels-last output.
    pub fn new(watcher: &'a mut dyn FnMut(String, Tensor<5>)) -> Self {
        Self { watcher: Some(watcher) }
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
