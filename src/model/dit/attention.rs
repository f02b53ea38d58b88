//! Self-attention over the kept tiles and cross-attention to the text; both go through the kernel `tile_attention`.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;

use super::block::{Probe, Site};
use super::caption::Caption;
use super::config::TransformerConfig;
use super::rope::RotaryTables;
use super::sliced;
use crate::gpu::kernels::heads::{merge_heads, split_heads};
use crate::gpu::kernels::tile_attention::Tiles;
use crate::gpu::spans::{self, Kind};
use crate::mask::KeyFrames;
use crate::model::layers::Linear;
use crate::model::weights::Loader;

#[derive(Module, Debug)]
pub struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
}

impl Attention {
    /// The layer that the norm before attention feeds, and that sets the storage type for all of it.
    pub fn first(&self) -> &Linear {
        &self.to_q
    }

    pub fn load(loader: &mut Loader<'_>, name: &str, config: &TransformerConfig) -> Self {
        let width = config.width();
        let bias = config.attention_bias;
        let mut linear = |part: &str, bias| loader.linear(&format!("{name}.{part}"), width, width, bias);
        Self {
            to_q: linear("to_q", bias),
            to_k: linear("to_k", bias),
            to_v: linear("to_v", bias),
            to_out: linear("to_out.0", true),
            heads: config.num_attention_heads,
        }
    }

    /// Attention of the tokens `[batch, tokens, width]` among themselves, restricted to the frames that `key_frames` keeps.
    /// `key_bias` `[batch, tokens]` is added to the scores of a key.
    pub fn self_attention(
        &self,
        x: Tensor<3>,
        rope: &RotaryTables,
        key_frames: &Arc<KeyFrames>,
        key_bias: Option<Tensor<2>>,
        probe: &mut Probe<'_>,
    ) -> Tensor<3> {
        let [_, tokens, _] = x.dims();
        let (query, key) = (self.to_q.forward(x.clone()), self.to_k.forward(x.clone()));
        probe.see(Site::Query, || query.clone());
        probe.see(Site::Key, || key.clone());
        let value = self.split(self.to_v.forward(x));
        let turn = |x| spans::span(Kind::Normalisation, || rope.split_and_turn(x, self.heads));
        let (query, key) = (turn(query), turn(key));
        probe.see(Site::RotatedQuery, || join(query.clone()));
        probe.see(Site::RotatedKey, || join(key.clone()));
        let frame_tokens = tokens / key_frames.query_frames();
        let tiles = Tiles { key_frames: key_frames.clone(), query_tokens: frame_tokens, key_tokens: frame_tokens };
        self.merge(match probe.recorder() {
            Some(recorder) => recorder.attend(query, key, value, key_bias, tiles),
            None => sliced::attend(query, key, value, key_bias, &tiles),
        })
    }

    /// Query, key and value `[batch, heads, tokens, head]` of the tokens `[batch, tokens, width]`, queries and keys turned.
    pub fn operands(&self, x: Tensor<3>, rope: &RotaryTables) -> [Tensor<4>; 3] {
        let turn = |x| spans::span(Kind::Normalisation, || rope.split_and_turn(x, self.heads));
        let query = turn(self.to_q.forward(x.clone()));
        let key = turn(self.to_k.forward(x.clone()));
        [query, key, self.split(self.to_v.forward(x))]
    }

    /// What attention `[batch, heads, tokens, head]` adds to the tokens `[batch, tokens, width]`.
    pub fn output(&self, attended: Tensor<4>) -> Tensor<3> {
        self.merge(attended)
    }

    /// Attention of the tokens `[batch, tokens, width]` to the caption, as the attention of this layer.
    pub fn cross_attention(&self, x: Tensor<3>, caption: &Caption, layer: usize, probe: &mut Probe<'_>) -> Tensor<3> {
        let [_, tokens, _] = x.dims();
        let query = self.split(self.to_q.forward(x));
        let [key, value] = caption
            .key_and_value(layer, |text| [&self.to_k, &self.to_v].map(|projection| self.split(projection.forward(text.clone()))));
        probe.see(Site::CrossQuery, || join(query.clone()));
        probe.see(Site::CrossKey, || join(key.clone()));
        let [_, _, text_tokens, _] = key.dims();
        let tiles = Tiles { key_frames: Arc::new(KeyFrames::dense(1)), query_tokens: tokens, key_tokens: text_tokens };
        self.merge(sliced::attend(query, key, value, caption.bias.clone(), &tiles))
    }

    fn split(&self, x: Tensor<3>) -> Tensor<4> {
        spans::span(Kind::Normalisation, || split_heads(x, self.heads))
    }

    fn merge(&self, x: Tensor<4>) -> Tensor<3> {
        self.to_out.forward(spans::span(Kind::Normalisation, || merge_heads(x)))
    }
}

fn join(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, tokens, head] = x.dims();
    x.reshape([batch, heads * tokens, head])
}
