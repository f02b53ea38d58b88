//! One transformer block: self-attention, cross-attention, feed-forward, modulated by the timestep.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::attention::Attention;
use super::config::TransformerConfig;
use super::recording::AttentionRecorder;
use super::rope::RotaryTables;
use crate::gpu::kernels::gate_residual::{add_residual, gate_residual};
use crate::gpu::kernels::norm_modulate::ShiftAndScale;
use crate::gpu::spans::{self, Kind};
use crate::mask::KeyFrames;
use crate::model::layers::{Linear, modulated_layer_norm};
use crate::model::weights::Loader;

/// A place inside the network whose values can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    PatchEmbed,
    /// `[batch, 1, width]`.
    EmbeddedTimestep,
    /// `[batch, 1, 6 * width]`.
    Modulations,
    Caption,
    Query,
    Key,
    /// `[batch, heads * tokens, head]`, as [`Site::RotatedKey`].
    RotatedQuery,
    RotatedKey,
    SelfAttention,
    /// `[batch, heads * tokens, head]`.
    CrossQuery,
    /// `[batch, heads * text tokens, head]`.
    CrossKey,
    CrossAttention,
    FeedForward,
    Block,
}

/// Watches the network while it runs, records its attention, or ends it early; costs nothing when nobody watches.
#[derive(Default)]
pub struct Probe<'a> {
    watcher: Option<Watcher<'a>>,
    stop: Option<&'a dyn Fn() -> bool>,
    recorder: Option<&'a mut AttentionRecorder>,
    pub(super) layer: usize,
}

type Watcher<'a> = &'a mut dyn FnMut(Site, usize, Tensor<3>);

impl<'a> Probe<'a> {
    /// `watcher` gets the site, the layer (0 outside of blocks) and the values.
    pub fn new(watcher: &'a mut dyn FnMut(Site, usize, Tensor<3>)) -> Self {
        Self { watcher: Some(watcher), ..Self::default() }
    }

    /// `stop` is asked before every block; once it is true the rest is left out, and the result is worth nothing.
    pub fn stopping(stop: &'a dyn Fn() -> bool) -> Self {
        Self { stop: Some(stop), ..Self::default() }
    }

    /// Also has the call's self-attention recorded.
    #[must_use]
    pub fn recording(mut self, recorder: Option<&'a mut AttentionRecorder>) -> Self {
        self.recorder = recorder;
        self
    }

    pub(super) fn recorder(&mut self) -> Option<&mut AttentionRecorder> {
        self.recorder.as_deref_mut()
    }

    /// Both: `watcher` as in [`Self::new`], `stop` as in [`Self::stopping`].
    pub fn until(watcher: &'a mut dyn FnMut(Site, usize, Tensor<3>), stop: &'a dyn Fn() -> bool) -> Self {
        Self { watcher: Some(watcher), stop: Some(stop), ..Self::default() }
    }

    pub(super) fn stops(&self) -> bool {
        self.stop.is_some_and(|stop| stop())
    }

    pub(super) fn see(&mut self, site: Site, values: impl FnOnce() -> Tensor<3>) {
        if let Some(watcher) = &mut self.watcher {
            watcher(site, self.layer, values());
        }
    }
}

/// What all blocks of one call share.
pub struct Context {
    /// `[batch, text tokens, width]`.
    pub caption: Tensor<3>,
    /// `[batch, 6, width]`.
    pub modulations: Tensor<3>,
    pub text_bias: Option<Tensor<2>>,
    pub latent_bias: Option<Tensor<2>>,
    pub rope: RotaryTables,
}

#[derive(Module, Debug)]
struct FeedForward {
    proj: Linear,
    out: Linear,
}

#[derive(Module, Debug)]
pub struct Block {
    scale_shift_table: Param<Tensor<2>>,
    attn1: Attention,
    attn2: Attention,
    ff: FeedForward,
    epsilon: f64,
}

impl Block {
    pub fn load(loader: &mut Loader<'_>, index: usize, config: &TransformerConfig) -> Self {
        let name = format!("transformer_blocks.{index}");
        let width = config.width();
        Self {
            scale_shift_table: loader.exact(&format!("{name}.scale_shift_table"), [6, width]),
            attn1: Attention::load(loader, &format!("{name}.attn1"), config),
            attn2: Attention::load(loader, &format!("{name}.attn2"), config),
            ff: FeedForward {
                proj: loader.linear(&format!("{name}.ff.net.0.proj"), width, 4 * width, true),
                out: loader.linear(&format!("{name}.ff.net.2"), 4 * width, width, true),
            },
            epsilon: config.norm_eps,
        }
    }

    /// Tokens `[batch, tokens, width]` in f32, which is the residual stream.
    pub fn forward(&self, tokens: Tensor<3>, context: &Context, key_frames: &Arc<KeyFrames>, probe: &mut Probe<'_>) -> Tensor<3> {
        // Rows: shift, scale and gate of self-attention, then of the feed-forward.
        let table = self.scale_shift_table.val().unsqueeze::<3>() + context.modulations.clone(); // [batch, 6, width]
        let normalise = |tokens: &Tensor<3>, rows, next: &Linear| {
            modulated_layer_norm(tokens.clone(), table.clone(), rows, self.epsilon, next)
        };
        let gate = |tokens, x, row| spans::span(Kind::Normalisation, || gate_residual(tokens, x, table.clone(), row));

        let x = normalise(&tokens, ShiftAndScale { shift: 0, scale: 1 }, self.attn1.first());
        let x = self.attn1.self_attention(x, &context.rope, key_frames, context.latent_bias.clone(), probe);
        probe.see(Site::SelfAttention, || x.clone());
        let tokens = gate(tokens, x, 2);

        // No norm before, no gate after: as the reference.
        let x = self.attn2.cross_attention(tokens.clone(), context.caption.clone(), context.text_bias.clone(), probe);
        probe.see(Site::CrossAttention, || x.clone());
        let tokens = spans::span(Kind::Normalisation, || add_residual(tokens, x));

        let x = normalise(&tokens, ShiftAndScale { shift: 3, scale: 4 }, &self.ff.proj);
        let x = self.ff.out.forward(self.ff.proj.forward_gelu(x));
        probe.see(Site::FeedForward, || x.clone());
        let tokens = gate(tokens, x, 5);
        probe.see(Site::Block, || tokens.clone());
        tokens
    }
}
