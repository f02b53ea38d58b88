//! The mT5 encoder: token ids to the text embedding that the transformer reads.
//!
//! The residual stream is f32 on every device and so is `wo`, whose results overflow f16. The token table of the published
//! encoder is larger than any binding, so rows are gathered on the CPU.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::Deserialize;

use crate::gpu::device::ComputeDevice;
use crate::gpu::kernels::rms_norm::rms_norm;
use crate::gpu::spans::{self, Kind};
use crate::model::impossible_size;
use crate::model::layers::{Linear, to_f32};
use crate::model::weights::{
    Ahead, LayerStream, Loader, TOKEN_EMBEDDING_KEYS, WeightError, WeightSource, is_ignorable_text_encoder_key,
};

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
pub const POSITION_TABLE: &str = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";

impl TextEncoderConfig {
    /// The encoder of mT5-xxl, which the published transformer was trained with.
    pub fn published() -> Self {
        Self {
            d_model: 4096,
            d_ff: 10_240,
            d_kv: 64,
            num_heads: 64,
            num_layers: 24,
            vocab_size: 250_112,
            relative_attention_num_buckets: buckets(),
            relative_attention_max_distance: max_distance(),
            layer_norm_epsilon: epsilon(),
            feed_forward_proj: activation(),
        }
    }

    /// Parameters of the encoder, the token table included.
    pub fn parameters(&self) -> usize {
        let inner = self.num_heads * self.d_kv;
        let block = 4 * self.d_model * inner + 3 * self.d_model * self.d_ff + 2 * self.d_model;
        let tables = self.vocab_size * self.d_model + self.relative_attention_num_buckets * self.num_heads;
        tables + self.num_layers * block + self.d_model
    }

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
    /// What the published names of a block's tensors begin with.
    fn name(index: usize) -> String {
        format!("encoder.block.{index}.layer")
    }

    /// Whether a block keeps the tensor of this name in f32.
    fn keeps_exact(name: &str) -> bool {
        name.ends_with(".layer_norm.weight") || name.ends_with(".DenseReluDense.wo.weight")
    }

    fn load(loader: &mut Loader<'_>, index: usize, config: &TextEncoderConfig) -> Self {
        let name = Self::name(index);
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
        let [batch, _, _] = x.dims();
        let bias = position + padding(mask, batch, &x.device());
        for (index, block) in self.blocks.iter().enumerate() {
            watch(index, &x);
            x = spans::layer(|| format!("text layer {}", index + 1), || block.forward(x, bias.clone()));
        }
        self.final_norm.forward(x, DType::F32)
    }
}

/// What the scores of padded keys have added, `[batch, 1, 1, tokens]`.
fn padding(mask: &[f32], batch: usize, device: &Device) -> Tensor<4> {
    let padding: Vec<f32> = mask.iter().map(|m| (1.0 - m) * f32::MIN).collect();
    let tokens = padding.len() / batch;
    Tensor::from_data(TensorData::new(padding, [batch, 1, 1, tokens]), device)
}

#[derive(Debug)]
pub struct TextEncoder {
    layers: Layers,
    /// Blocks that are read from their file for every text; then `layers` has none.
    stream: Option<LayerStream>,
    token_table: TokenTable,
    /// `[buckets, heads]`, on the CPU.
    position_table: Vec<f32>,
    config: TextEncoderConfig,
    device: Device,
}

/// `[vocabulary, d_model]`, never on a GPU.
#[derive(Debug)]
enum TokenTable {
    InMemory(Vec<f32>),
    InFile { source: Arc<WeightSource>, name: &'static str },
}

impl TextEncoder {
    /// # Errors
    /// The weights do not fit the configuration.
    pub fn load(mut loader: Loader<'_>, config: &TextEncoderConfig) -> Result<Self, WeightError> {
        let table = loader.values_of_any(&TOKEN_EMBEDDING_KEYS, &[config.vocab_size, config.d_model]);
        Self::load_parts(loader, config, TokenTable::InMemory(table), None)
    }

    /// An encoder whose blocks and token table stay in the file. Of the blocks one at a time is on the device, and of the table
    /// only the rows of a text are read if the file allows that (a pickle does not).
    ///
    /// # Errors
    /// The weights do not fit the configuration, as far as their names and shapes tell.
    pub fn load_streamed(
        source: &Arc<WeightSource>,
        device: &ComputeDevice,
        config: &TextEncoderConfig,
    ) -> Result<Self, WeightError> {
        let mut loader = Loader::new(source, device);
        let published = TOKEN_EMBEDDING_KEYS.into_iter().find(|name| source.info(name).is_some());
        let token_table = match published.filter(|_| source.reads_rows()) {
            Some(name) => {
                loader.expect_any(&TOKEN_EMBEDDING_KEYS, &[config.vocab_size, config.d_model]);
                TokenTable::InFile { source: source.clone(), name }
            }
            None => TokenTable::InMemory(loader.values_of_any(&TOKEN_EMBEDDING_KEYS, &[config.vocab_size, config.d_model])),
        };
        let stream = LayerStream::new(
            source.clone(),
            device,
            config.num_layers,
            |index| format!("{}.", EncoderBlock::name(index)),
            EncoderBlock::keeps_exact,
            Ahead::Nothing,
        );
        Self::load_parts(loader, config, token_table, Some(stream))
    }

    fn load_parts(
        mut loader: Loader<'_>,
        config: &TextEncoderConfig,
        token_table: TokenTable,
        stream: Option<LayerStream>,
    ) -> Result<Self, WeightError> {
        let position_table = loader.values(POSITION_TABLE, &[config.relative_attention_num_buckets, config.num_heads]);
        let final_norm = RmsNorm {
            weight: loader.exact("encoder.final_layer_norm.weight", [config.d_model]),
            epsilon: config.layer_norm_epsilon,
        };
        if stream.is_some() {
            loader.only_check();
        }
        let blocks = (0..config.num_layers).map(|index| EncoderBlock::load(&mut loader, index, config)).collect();
        let layers = Layers { blocks: if stream.is_some() { Vec::new() } else { blocks }, final_norm };
        let device = loader.device().clone();
        loader.finish(is_ignorable_text_encoder_key)?;
        Ok(Self { layers, stream, token_table, position_table, config: config.clone(), device })
    }

    /// Whether blocks are read from their file for every text.
    pub fn is_streamed(&self) -> bool {
        self.stream.is_some()
    }

    pub fn vocabulary_size(&self) -> usize {
        self.config.vocab_size
    }

    /// Parameters that are in memory.
    pub fn parameters(&self) -> usize {
        let table = match &self.token_table {
            TokenTable::InMemory(table) => table.len(),
            TokenTable::InFile { .. } => 0,
        };
        self.layers.num_params() + table + self.position_table.len()
    }

    /// Ids and mask (1 = counts), both `[batch * tokens]`, to embeddings `[batch, tokens, d_model]`. Padded places get values
    /// too; the transformer hides them by the same mask. `watch` sees the input of every block.
    ///
    /// # Panics
    /// An id is outside of the vocabulary; tokenizers are checked against it when a model is opened. With a [`WeightError`] if
    /// the encoder is streamed and its file cannot be read any more.
    pub fn forward(&self, ids: &[u32], mask: &[f32], batch: usize, watch: &mut dyn FnMut(usize, &Tensor<3>)) -> Tensor<3> {
        let tokens = ids.len() / batch;
        let rows = self.token_rows(ids);
        let x = Tensor::from_data(TensorData::new(rows, [batch, tokens, self.config.d_model]), &self.device);

        let position = TensorData::new(self.position_bias(tokens), [1, self.config.num_heads, tokens, tokens]);
        let position = Tensor::<4>::from_data(position, &self.device);
        let Some(stream) = &self.stream else { return self.layers.forward(x, position, mask, watch) };
        let padding = padding(mask, batch, &self.device);
        // Where memory is short, the texts of a batch follow each other: their scores are larger than a layer.
        let mut texts: Vec<Tensor<3>> = (0..batch).map(|text| x.clone().narrow(0, text, 1)).collect();
        let run = |index: usize, block: &EncoderBlock| {
            watch(index, &Tensor::cat(texts.clone(), 0));
            for (text, x) in texts.iter_mut().enumerate() {
                let bias = position.clone() + padding.clone().narrow(0, text, 1);
                *x = spans::layer(|| format!("text layer {}", index + 1), || block.forward(x.clone(), bias));
            }
            true
        };
        if let Err(error) = stream.for_each(|loader, index| EncoderBlock::load(loader, index, &self.config), run) {
            std::panic::panic_any(error);
        }
        self.layers.final_norm.forward(Tensor::cat(texts, 0), DType::F32)
    }

    /// The embeddings of tokens, `[tokens, d_model]`.
    fn token_rows(&self, ids: &[u32]) -> Vec<f32> {
        let width = self.config.d_model;
        match &self.token_table {
            TokenTable::InMemory(table) => {
                ids.iter().flat_map(|&id| &table[id as usize * width..(id as usize + 1) * width]).copied().collect()
            }
            TokenTable::InFile { source, name } => match source.read_rows(name, ids) {
                Ok(rows) => rows,
                Err(error) => std::panic::panic_any(error),
            },
        }
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
