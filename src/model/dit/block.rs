//! One transformer block: self-attention, cross-attention, feed-forward, modulated by the timestep.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::attention::Attention;
use super::caption::Caption;
use super::config::TransformerConfig;
use super::recording::AttentionRecorder;
use super::rope::RotaryTables;
use super::transformer::Call;
use crate::gpu::kernels::gate_residual::{add_residual, gate_residual, stream_as};
use crate::gpu::kernels::norm_modulate::{NormPlace, ShiftAndScale};
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
    pub caption: Caption,
    /// `[batch, 6, width]`.
    pub modulations: Tensor<3>,
    pub latent_bias: Option<Tensor<2>>,
    pub rope: RotaryTables,
}

#[derive(Module, Debug)]
struct FeedForward {
    proj: Linear,
    out: Linear,
}

/// The widest value of a layer is the feed-forward's, four widths a token: 3.2 GB in f32 at 93 frames of 720p, where no tensor
/// may reach 2 GiB. A part of the tokens takes at most this many bytes in f32, which is what GELU takes off the matrix tier.
const LARGEST_FEED_FORWARD_BYTES: usize = 1 << 30;

/// The tokens of all rows of a batch that go through the feed-forward at once, out of `tokens` of this width.
pub fn feed_forward_tokens(tokens: usize, width: usize) -> usize {
    let largest = (LARGEST_FEED_FORWARD_BYTES / (4 * 4 * width)).max(1);
    tokens.div_ceil(tokens.div_ceil(largest).max(1))
}

impl FeedForward {
    /// `[batch, tokens, width]` to the same in the storage type, `at_once` of all tokens at a time.
    fn forward(&self, x: Tensor<3>, at_once: usize) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        if batch * tokens <= at_once {
            return self.out.forward(self.proj.forward_gelu(x));
        }
        let x = x.reshape([batch * tokens, width]);
        let parts = (0..batch * tokens).step_by(at_once).map(|start| {
            let part = x.clone().narrow(0, start, at_once.min(batch * tokens - start));
            self.out.forward(self.proj.forward_gelu(part))
        });
        Tensor::cat(parts.collect(), 0).reshape([batch, tokens, width])
    }
}

#[derive(Module, Debug)]
pub struct Block {
    scale_shift_table: Param<Tensor<2>>,
    attn1: Attention,
    attn2: Attention,
    ff: FeedForward,
    epsilon: f64,
    layer: usize,
}

impl Block {
    /// What the published names of a block's tensors begin with.
    pub fn name(index: usize) -> String {
        format!("transformer_blocks.{index}")
    }

    /// Whether a block keeps the tensor of this name in f32.
    pub fn keeps_exact(name: &str) -> bool {
        name.ends_with(".scale_shift_table")
    }

    pub fn load(loader: &mut Loader<'_>, index: usize, config: &TransformerConfig) -> Self {
        let name = Self::name(index);
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
            layer: index,
        }
    }

    /// Tokens `[batch, tokens, width]` in f32, which is the residual stream.
    pub(super) fn forward(
        &self,
        tokens: Tensor<3>,
        context: &Context,
        key_frames: &Arc<KeyFrames>,
        probe: &mut Probe<'_>,
    ) -> Tensor<3> {
        let table = self.table(context);
        let x = self.normalised(&tokens, &table, ShiftAndScale { shift: 0, scale: 1 }, self.attn1.first());
        let x = self.attn1.self_attention(x, &context.rope, key_frames, context.latent_bias.clone(), probe);
        self.behind_attention(tokens, x, &table, context, probe)
    }

    /// Query, key and value `[batch, heads, tokens, head]` of some of a call's tokens `[batch, tokens, width]`, for callers that
    /// do the self-attention themselves; `rope` holds the rows of these tokens.
    pub fn operands(&self, tokens: &Tensor<3>, call: &Call, rope: &RotaryTables) -> [Tensor<4>; 3] {
        let table = self.table(call.context());
        let x = self.normalised(tokens, &table, ShiftAndScale { shift: 0, scale: 1 }, self.attn1.first());
        self.attn1.operands(x, rope)
    }

    /// What the block makes of the tokens of [`Self::operands`], once their attention `[batch, heads, tokens, head]` is known.
    pub fn finish(&self, tokens: Tensor<3>, attended: Tensor<4>, call: &Call) -> Tensor<3> {
        let x = self.attn1.output(attended);
        self.behind_attention(tokens, x, &self.table(call.context()), call.context(), &mut Probe::default())
    }

    /// Rows: shift, scale and gate of self-attention, then of the feed-forward.
    fn table(&self, context: &Context) -> Tensor<3> {
        self.scale_shift_table.val().unsqueeze::<3>() + context.modulations.clone() // [batch, 6, width]
    }

    fn normalised(&self, tokens: &Tensor<3>, table: &Tensor<3>, rows: ShiftAndScale, next: &Linear) -> Tensor<3> {
        modulated_layer_norm(tokens.clone(), table.clone(), rows, self.epsilon, next, NormPlace::Stream)
    }

    fn behind_attention(
        &self,
        tokens: Tensor<3>,
        x: Tensor<3>,
        table: &Tensor<3>,
        context: &Context,
        probe: &mut Probe<'_>,
    ) -> Tensor<3> {
        let gate = |tokens, x, row| spans::span(Kind::Normalisation, || gate_residual(tokens, x, table.clone(), row));
        probe.see(Site::SelfAttention, || x.clone());
        let tokens = gate(tokens, x, 2);

        // No norm before, no gate after: as the reference.
        let x = spans::span(Kind::Linear, || stream_as(tokens.clone(), self.attn2.first().storage_type()));
        let x = self.attn2.cross_attention(x, &context.caption, self.layer, probe);
        probe.see(Site::CrossAttention, || x.clone());
        let tokens = spans::span(Kind::Normalisation, || add_residual(tokens, x));

        let x = self.normalised(&tokens, table, ShiftAndScale { shift: 3, scale: 4 }, &self.ff.proj);
        let [batch, tokens_a_row, width] = x.dims();
        let x = self.ff.forward(x, feed_forward_tokens(batch * tokens_a_row, width));
        probe.see(Site::FeedForward, || x.clone());
        let tokens = gate(tokens, x, 5);
        probe.see(Site::Block, || tokens.clone());
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{DeviceChoice, open};
    use crate::gpu::kernels::reference::{relative_l2, seeded};

    #[test]
    fn parts_of_the_feed_forward_stay_below_their_limit() {
        // 29 and 93 frames of 720p, and 93 with guidance.
        assert_eq!(feed_forward_tokens(28_800, 2304), 28_800);
        assert_eq!(feed_forward_tokens(86_400, 2304), 28_800);
        assert_eq!(feed_forward_tokens(2 * 86_400, 2304), 28_800);
        assert_eq!(feed_forward_tokens(1152, 192), 1152);
        for (tokens, width) in [(1, 1), (1_000_003, 2304), (7, 1 << 28)] {
            let at_once = feed_forward_tokens(tokens, width);
            assert!(at_once >= 1 && at_once <= tokens);
            assert!(at_once == 1 || at_once * 16 * width <= LARGEST_FEED_FORWARD_BYTES, "{tokens} x {width}");
        }
    }

    #[test]
    fn a_feed_forward_in_parts_is_that_of_all_tokens() {
        let device = open(&DeviceChoice::Cpu, None).unwrap();
        let mut loader = Loader::random(&device, 3);
        let layers = FeedForward { proj: loader.linear("proj", 8, 32, true), out: loader.linear("out", 32, 8, true) };
        let x = burn::tensor::TensorData::new(seeded(1, 2 * 5 * 8), [2, 5, 8]);
        let run = |at_once| -> Vec<f32> {
            layers.forward(Tensor::from_data(x.clone(), &device.device), at_once).try_into_vec_as().unwrap()
        };
        let whole: Vec<f64> = run(10).into_iter().map(f64::from).collect();
        for at_once in [1, 3, 4, 9] {
            assert!(relative_l2(&run(at_once), &whole) < 1e-6, "{at_once} tokens at once");
        }
    }
}
