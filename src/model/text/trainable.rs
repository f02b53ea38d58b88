//! The mT5 encoder with its two tables as parameters, for training.
//!
//! The published encoder gathers rows of a table of gigabytes on the CPU. A table that is trained is small, and lies on the
//! device: its rows are taken by a product with zeros and ones, whose gradient is a product too and has the same bits each time.
//! It is a layer's product, not burn's: the gradient's inner axis is as long as all texts together.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::encoder::{Layers, POSITION_TABLE, TextEncoderConfig};
use crate::gpu::kernels::linear::{Activation, linear};
use crate::model::weights::{Loader, TOKEN_EMBEDDING_KEYS, WeightError, is_ignorable_text_encoder_key};

/// Computes what [`super::encoder::TextEncoder`] computes, with gradients for everything.
#[derive(Module, Debug)]
pub struct TrainableTextEncoder {
    layers: Layers,
    /// `[vocabulary, d_model]`.
    token_table: Param<Tensor<2>>,
    /// `[buckets, heads]`.
    position_table: Param<Tensor<2>>,
    #[module(skip)]
    config: TextEncoderConfig,
}

impl TrainableTextEncoder {
    /// # Errors
    /// The weights do not fit the configuration.
    pub fn load(mut loader: Loader<'_>, config: &TextEncoderConfig) -> Result<Self, WeightError> {
        let encoder = Self {
            token_table: loader.exact_of_any(&TOKEN_EMBEDDING_KEYS, [config.vocab_size, config.d_model]),
            position_table: loader.exact(POSITION_TABLE, [config.relative_attention_num_buckets, config.num_heads]),
            layers: Layers::load(&mut loader, config),
            config: config.clone(),
        };
        loader.finish(is_ignorable_text_encoder_key)?;
        Ok(encoder)
    }

    /// As [`super::encoder::TextEncoder::forward`]: ids and mask `[batch * tokens]` to `[batch, tokens, d_model]`.
    pub fn forward(&self, ids: &[u32], mask: &[f32], batch: usize) -> Tensor<3> {
        let (tokens, heads) = (ids.len() / batch, self.config.num_heads);
        let x = rows(self.token_table.val(), ids).reshape([batch, tokens, self.config.d_model]);
        let buckets = (0..tokens * tokens).map(|place| self.config.bucket(place / tokens, place % tokens) as u32);
        let position = rows(self.position_table.val(), &buckets.collect::<Vec<u32>>()); // [query * key, heads]
        let position = position.swap_dims(0, 1).reshape([1, heads, tokens, tokens]);
        self.layers.forward(x, position, mask, &mut |_, _| {})
    }
}

/// The rows of `table` `[rows, columns]` that `places` names, `[places, columns]`.
fn rows(table: Tensor<2>, places: &[u32]) -> Tensor<2> {
    let [count, _] = table.dims();
    let device: Device = table.device();
    let wanted: Vec<i32> = places.iter().map(|&place| place as i32).collect();
    let wanted = Tensor::<1, Int>::from_data(TensorData::new(wanted, [places.len()]), &device).unsqueeze_dim::<2>(1);
    let all = Tensor::<1, Int>::arange(0..count as i64, &device).unsqueeze_dim::<2>(0);
    let shape = [places.len(), count];
    linear(wanted.expand(shape).equal(all.expand(shape)).float(), table, None, Activation::None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{self, DeviceChoice};
    use crate::model::text::encoder::TextEncoder;
    use crate::model::weights::WeightSource;

    /// The encoder that generates clips sees the same numbers.
    #[test]
    fn it_computes_what_the_encoder_computes() {
        let device = device::open(&DeviceChoice::Cpu, None).expect("the CPU");
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/t5_tiny_a");
        let config = std::fs::read_to_string(folder.join("config.json")).expect("a fixture");
        let config: TextEncoderConfig = serde_json::from_str(&config).expect("a configuration");
        let source = WeightSource::open(&folder.join("model.safetensors")).expect("a fixture");
        let encoder = TextEncoder::load(Loader::new(&source, &device), &config).expect("an encoder");
        let trainable = TrainableTextEncoder::load(Loader::new(&source, &device), &config).expect("an encoder");
        let ids: Vec<u32> = (0..24).map(|i| (i * 7 % config.vocab_size) as u32).collect();
        let mask: Vec<f32> = (0..24).map(|i| if i % 12 < 9 { 1.0 } else { 0.0 }).collect();
        let want = encoder.forward(&ids, &mask, 2, &mut |_, _| {}).try_into_vec_as::<f32>().expect("values");
        let got = trainable.forward(&ids, &mask, 2).try_into_vec_as::<f32>().expect("values");
        let largest = want.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() <= 1e-5 * largest, "{got} {want}");
        }
    }
}
