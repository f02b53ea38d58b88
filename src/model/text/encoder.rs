//! The mT5 encoder: token ids to the text embedding that the transformer reads.
//!
//! The residual stream is f32 on every device and so is `wo`, whose results overflow f16. The token table of the published
//! encoder is larger than any binding, so rows are gathered on the CPU.

use burn::module::{Module, Param};
use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::Deserialize;

use crate::gpu::kernels::rms_norm::rms_norm;
use crate::gpu::spans::{self, Kind};
use crate::model::impossible_size;
use crate::model::layers::{Linear, to_f32};
use crate::model::weights::{Loader, TOKEN_EMBEDDING_KEYS, WeightError, is_ignorable_text_encoder_key};

/// The encoder's part of an mT5 `config.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct TextEncoderConfig {
    pub d_model: usize,
    pub d_ff: usize,
    pub d_kv: usize,
    pub num_heads: usize,
    pub num_layers: usize,
    pub vocab_size: usize,
    #[serde(default = "buckets")]
    pub relative_attention_num_buckets: usize,
    #[serde(default = "max_distance")]
    pub relative_attention_max_distance: usize,
    #[serde(default = "epsilon")]
    pub layer_norm_epsilon: f64,
    #[serde(default = "activation")]
    pub feed_forward_proj: String,
}

fn buckets() -> usize {
    32
}
fn max_distance() -> usize {
    128
}
fn epsilon() -> f64 {
    1e-6
}
fn activation() -> String {
    "gated-gelu".into()
}

/// Published name of the table behind the position bias, `[buckets, heads]`.
pub(super) const POSITION_TABLE: &str = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";

impl TextEncoderConfig {
    /// The bucket of a distance: half of them for keys after the query; exact up to a quarter, logarithmic beyond.
    pub fn bucket(&self, query: usize, key: usize) -> usize {
        let half = self.relative_attention_num_buckets / 2;
        let exact = half / 2;
        let side = if key > query { half } else { 0 };
        let distance = key.abs_diff(query);
        if distance < exact {
            return side + distance;
        }
        let ratio = (distance as f32 / exact as f32).ln() / (self.relative_attention_max_distance as f32 / exact as f32).ln();
        side + (exact + (ratio * (half - exact) as f32) as usize).min(half - 1)
    }

    /// Why this program cannot run an encoder of this configuration, if it cannot.
    pub fn unsupported(&self) -> Option<String> {
        let sizes = [
            ("d_model", self.d_model),
            ("d_ff", self.d_ff),
            ("d_kv", self.d_kv),
            ("num_heads", self.num_heads),
            ("num_layers", self.num_layers),
            ("vocab_size", self.vocab_size),
        ];
        let reason = if let Some(reason) = impossible_size(&sizes) {
            reason
        } else if self.feed_forward_proj != "gated-gelu" {
            format!("its feed_forward_proj is {}, not gated-gelu", self.feed_forward_proj)
        } else if self.relative_attention_num_buckets < 4
            || !self.relative_attention_num_buckets.is_multiple_of(4)
            || self.relative_attention_num_buckets > 1 << 12
            || self.relative_attention_max_distance <= self.relative_attention_num_buckets / 4
        {
            "its relative attention buckets make no sense".to_owned()
        } else {
            return None;
        };
        Some(reason)
    }
}

/// Scales to unit root mean square, without subtracting a mean.
#[derive(Module, Debug)]
struct RmsNorm {
    weight: Param<Tensor<1>>,
    epsilon: f64,
}

impl RmsNorm {
    /// Of the f32 stream, stored as `stored`.
    fn forward(&self, x: Tensor<3>, stored: DType) -> Tensor<3> {
        spans::span(Kind::Normalisation, || rms_norm(x, self.weight.val(), self.epsilon, stored))
    }
}

#[derive(Module, Debug)]
struct SelfAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    heads: usize,
}

impl SelfAttention {
    /// `bias` `[batch, heads, tokens, tokens]` is the position bias plus the padding mask. mT5 does not scale its scores.
    fn forward(&self, x: Tensor<3>, bias: Tensor<4>) -> Tensor<3> {
        let [batch, tokens, _] = x.dims();
        let split = |x: Tensor<3>| -> Tensor<4> {
            let [_, _, inner] = x.dims();
            to_f32(x).reshape([batch, tokens, self.heads, inner / self.heads]).swap_dims(1, 2) // [batch, heads, tokens, d_kv]
        };
        let query = split(self.q.forward(x.clone()));
        let key = split(self.k.forward(x.clone()));
        let value = split(self.v.forward(x));
        let attended = spans::span(Kind::Attention, || {
            let scores = query.matmul(key.swap_dims(2, 3)) + bias;
            softmax(scores, 3).matmul(value) // [batch, heads, tokens, d_kv]
        });
        let [_, heads, _, d_kv] = attended.dims();
        to_f32(self.o.forward(attended.swap_dims(1, 2).reshape([batch, tokens, heads * d_kv])))
    }
}

#[derive(Module, Debug)]
struct EncoderBlock {
    attention_norm: RmsNorm,
    attention: SelfAttention,
    feed_forward_norm: RmsNorm,
    wi_0: Linear,
    wi_1: Linear,
    wo: Linear,
}

impl EncoderBlock {
    fn load(loader: &mut Loader<'_>, index: usize, config: &TextEncoderConfig) -> Self {
        let name = format!("encoder.block.{index}.layer");
        let (width, inner) = (config.d_model, config.num_heads * config.d_kv);
        let mut norm = |part: &str| RmsNorm {
            weight: loader.exact(&format!("{name}.{part}.layer_norm.weight"), [width]),
            epsilon: config.layer_norm_epsilon,
        };
        let (attention_norm, feed_forward_norm) = (norm("0"), norm("1"));
        let mut attention = |part: &str, from, to| loader.linear(&format!("{name}.0.SelfAttention.{part}"), from, to, false);
        let attention = SelfAttention {
            q: attention("q", width, inner),
            k: attention("k", width, inner),
            v: attention("v", width, inner),
            o: attention("o", inner, width),
            heads: config.num_heads,
        };
        let mut gate = |part: &str| loader.linear(&format!("{name}.1.DenseReluDense.{part}"), width, config.d_ff, false);
        let (wi_0, wi_1) = (gate("wi_0"), gate("wi_1"));
        let wo = loader.exact_linear(&format!("{name}.1.DenseReluDense.wo"), config.d_ff, width, false);
        Self { attention_norm, attention, feed_forward_norm, wi_0, wi_1, wo }
    }

    fn forward(&self, x: Tensor<3>, bias: Tensor<4>) -> Tensor<3> {
        let hidden = self.attention_norm.forward(x.clone(), self.attention.q.storage_type());
        let x = x + self.attention.forward(hidden, bias);
        let hidden = self.feed_forward_norm.forward(x.clone(), self.wi_0.storage_type());
        let gate = to_f32(self.wi_0.forward_gelu(hidden.clone()));
        x + self.wo.forward(gate * to_f32(self.wi_1.forward(hidden)))
    }
}

/// Everything behind the token table; training has it with tables of its own ([`super::trainable`]).
#[derive(Module, Debug)]
pub(super) struct Layers {
    blocks: Vec<EncoderBlock>,
    final_norm: RmsNorm,
}

impl Layers {
    pub(super) fn load(loader: &mut Loader<'_>, config: &TextEncoderConfig) -> Self {
        Self {
            blocks: (0..config.num_layers).map(|index| EncoderBlock::load(loader, index, config)).collect(),
            final_norm: RmsNorm {
                weight: loader.exact("encoder.final_layer_norm.weight", [config.d_model]),
                epsilon: config.layer_norm_epsilon,
            },
        }
    }

    /// Embedded tokens `[batch, tokens, d_model]`, the position bias `[1, heads, tokens, tokens]` and the mask of the tokens
    /// (1 = counts), `[batch * tokens]`, to the embedding. `watch` sees the input of every block.
    pub(super) fn forward(
        &self,
        mut x: Tensor<3>,
        position: Tensor<4>,
        mask: &[f32],
        watch: &mut dyn FnMut(usize, &Tensor<3>),
    ) -> Tensor<3> {
        let [batch, tokens, _] = x.dims();
        let padding: Vec<f32> = mask.iter().map(|m| (1.0 - m) * f32::MIN).collect();
        let padding = Tensor::<4>::from_data(TensorData::new(padding, [batch, 1, 1, tokens]), &x.device());
        let bias = position + padding;
        for (index, block) in self.blocks.iter().enumerate() {
            watch(index, &x);
            x = spans::layer(|| format!("text layer {}", index + 1), || block.forward(x, bias.clone()));
        }
        self.final_norm.forward(x, DType::F32)
    }
}

#[derive(Debug)]
pub struct TextEncoder {
    layers: Layers,
    /// `[vocabulary, d_model]`, on the CPU.
    token_table: Vec<f32>,
    /// `[buckets, heads]`, on the CPU.
    position_table: Vec<f32>,
    config: TextEncoderConfig,
    device: Device,
}

impl TextEncoder {
    /// # Errors
    /// The weights do not fit the configuration.
    pub fn load(mut loader: Loader<'_>, config: &TextEncoderConfig) -> Result<Self, WeightError> {
        let token_table = loader.values_of_any(&TOKEN_EMBEDDING_KEYS, &[config.vocab_size, config.d_model]);
        let position_table = loader.values(POSITION_TABLE, &[config.relative_attention_num_buckets, config.num_heads]);
        let layers = Layers::load(&mut loader, config);
        let device = loader.device().clone();
        loader.finish(is_ignorable_text_encoder_key)?;
        Ok(Self { layers, token_table, position_table, config: config.clone(), device })
    }

    pub fn vocabulary_size(&self) -> usize {
        self.config.vocab_size
    }

    pub fn parameters(&self) -> usize {
        self.layers.num_params() + self.token_table.len() + self.position_table.len()
    }

    /// Ids and mask (1 = counts), both `[batch * tokens]`, to embeddings `[batch, tokens, d_model]`. Padded places get values
    /// too; the transformer hides them by the same mask. `watch` sees the input of every block.
    ///
    /// # Panics
    /// An id is outside of the vocabulary; tokenizers are checked against it when a model is opened.
    pub fn forward(&self, ids: &[u32], mask: &[f32], batch: usize, watch: &mut dyn FnMut(usize, &Tensor<3>)) -> Tensor<3> {
        let tokens = ids.len() / batch;
        let width = self.config.d_model;
        let rows = ids.iter().flat_map(|&id| &self.token_table[id as usize * width..(id as usize + 1) * width]);
        let x = Tensor::from_data(TensorData::new(rows.copied().collect::<Vec<f32>>(), [batch, tokens, width]), &self.device);
        let position = TensorData::new(self.position_bias(tokens), [1, self.config.num_heads, tokens, tokens]);
        self.layers.forward(x, Tensor::from_data(position, &self.device), mask, watch)
    }

    /// `[heads, query, key]`; every layer adds the same.
    pub fn position_bias(&self, tokens: usize) -> Vec<f32> {
        let heads = self.config.num_heads;
        let mut bias = vec![0.0; heads * tokens * tokens];
        for query in 0..tokens {
            for key in 0..tokens {
                let bucket = self.bucket(query, key);
                for head in 0..heads {
                    bias[(head * tokens + query) * tokens + key] = self.position_table[bucket * heads + head];
                }
            }
        }
        bias
    }

    /// As [`TextEncoderConfig::bucket`].
    pub fn bucket(&self, query: usize, key: usize) -> usize {
        self.config.bucket(query, key)
    }
}
