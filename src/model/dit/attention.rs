//! Self-attention over the kept tiles and cross-attention to the text; both go through the kernel `tile_attention`.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;

use super::block::{Probe, Site};
use super::config::TransformerConfig;
use super::rope::RotaryTables;
use super::sliced;
use crate::gpu::kernels::tile_attention::Tiles;
use crate::gpu::spans::{self, Kind};
use crate::mask::KeyFrames;
use crate::model::layers::{Linear, cast_like, to_f32};
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
        let (query, key) = (self.split(query), self.split(key));
        let (query, key) = spans::span(Kind::Normalisation, || (rope.apply(to_f32(query)), rope.apply(to_f32(key))));
        probe.see(Site::RotatedQuery, || join(query.clone()));
        probe.see(Site::RotatedKey, || join(key.clone()));
        let (query, key) = (cast_like(query, &value), cast_like(key, &value));
        let frame_tokens = tokens / key_frames.query_frames();
        let tiles = Tiles { key_frames: key_frames.clone(), query_tokens: frame_tokens, key_tokens: frame_tokens };
        self.merge(match probe.recorder() {
            Some(recorder) => recorder.attend(query, key, value, key_bias, tiles),
            None => sliced::attend(query, key, value, key_bias, &tiles),
        })
    }

    /// Attention of the tokens `[batch, tokens, width]` to the caption `[batch, text tokens, width]`; `text_bias`
    /// `[batch, text tokens]` hides the padding.
    pub fn cross_attention(
        &self,
        x: Tensor<3>,
        caption: Tensor<3>,
        text_bias: Option<Tensor<2>>,
        probe: &mut Probe<'_>,
    ) -> Tensor<3> {
        let ([_, tokens, _], [_, text_tokens, _]) = (x.dims(), caption.dims());
        let query = self.split(self.to_q.forward(x));
        let key = self.split(self.to_k.forward(caption.clone()));
        probe.see(Site::CrossQuery, || join(query.clone()));
        probe.see(Site::CrossKey, || join(key.clone()));
        let value = self.split(self.to_v.forward(caption));
        let tiles = Tiles { key_frames: Arc::new(KeyFrames::dense(1)), query_tokens: tokens, key_tokens: text_tokens };
        self.merge(sliced::attend(query, key, value, text_bias, &tiles))
    }

    fn split(&self, x: Tensor<3>) -> Tensor<4> {
        let [batch, tokens, width] = x.dims();
        x.reshape([batch, tokens, self.heads, width / self.heads]).swap_dims(1, 2) // [batch, heads, tokens, head]
    }

    fn merge(&self, x: Tensor<4>) -> Tensor<3> {
        let [batch, heads, tokens, head] = x.dims();
        self.to_out.forward(x.swap_dims(1, 2).reshape([batch, tokens, heads * head]))
    }
}

fn join(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, tokens, head] = x.dims();
    x.reshape([batch, heads * tokens, head])
}
