//! Where networks begin, by the published names of their tensors.
//!
//! The rules are those of the recipe, which takes them from DiT (Xavier, small timestep and caption layers, a silent output),
//! T5 (deviations by the widths) and torch's convolutions.

use sha2::{Digest, Sha256};

use crate::model::noise;
use crate::model::text::encoder::{POSITION_TABLE, TextEncoderConfig};
use crate::model::weights::InitialValues;
use crate::training::random::{Random, Stream};

/// How the values of one tensor are drawn.
#[derive(Clone, Debug, PartialEq)]
enum Rule {
    Constant(f32),
    /// With this deviation.
    Normal(f64),
    /// Within plus and minus this.
    Uniform(f64),
    Values(Vec<f32>),
}

/// Initial values by a rule for every name.
pub struct Initial<R> {
    random: Random,
    rule: R,
}

impl<R> std::fmt::Debug for Initial<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Initial").field("random", &self.random).finish_non_exhaustive()
    }
}

impl<R: Fn(&str, &[usize]) -> Rule> InitialValues for Initial<R> {
    fn values(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        let count = shape.iter().product();
        // A tensor's numbers depend on its name, not on the order in which a network asks.
        let digest = Sha256::digest(name.as_bytes());
        let draw = digest.iter().take(8).fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        match (self.rule)(name, shape) {
            Rule::Constant(value) => vec![value; count],
            Rule::Values(values) => values,
            Rule::Normal(deviation) => {
                let mut values = self.random.normal(Stream::Initial, draw, count);
                values.iter_mut().for_each(|value| *value = (f64::from(*value) * deviation) as f32);
                values
            }
            Rule::Uniform(bound) => {
                let uniform = |place| self.random.uniform(Stream::Initial, draw, place);
                (0..count as u64).map(|place| ((2.0 * uniform(place) - 1.0) * bound) as f32).collect()
            }
        }
    }
}

/// Inputs and outputs of a matrix `[outputs, inputs..]`.
fn fans(shape: &[usize]) -> [f64; 2] {
    [shape[1..].iter().product::<usize>() as f64, shape[0] as f64]
}

/// The transformer's.
pub fn transformer(seed: u64) -> impl InitialValues {
    Initial {
        random: Random::new(seed),
        rule: |name: &str, shape: &[usize]| {
            let small = ["timestep_embedder", "adaln_single.linear", "caption_projection", "attn2.to_out.0"];
            if name.ends_with("scale_shift_table") {
                Rule::Normal((shape[1] as f64).powf(-0.5))
            } else if name.ends_with(".bias") || name.starts_with("proj_out") {
                // Biases; and the output, so that nothing is predicted at first.
                Rule::Constant(0.0)
            } else if small.iter().any(|part| name.contains(part)) {
                // The text's path is small, but not silent: it is heard from the first step.
                Rule::Normal(0.02)
            } else {
                let [inputs, outputs] = fans(shape);
                Rule::Uniform((6.0 / (inputs + outputs)).sqrt())
            }
        },
    }
}

/// The text encoder's: T5's, but for its table of positions ([`near`]).
pub fn text_encoder(seed: u64, config: &TextEncoderConfig) -> impl InitialValues {
    let near = near(config);
    let [width, head, hidden, heads] = [config.d_model, config.d_kv, config.d_ff, config.num_heads].map(|size| size as f64);
    Initial {
        random: Random::new(seed ^ noise::bits(seed, 5, 0)),
        rule: move |name: &str, _: &[usize]| {
            let deviation = |variance: f64| Rule::Normal(variance.powf(-0.5));
            if name == POSITION_TABLE {
                Rule::Values(near.clone())
            } else if name.contains("layer_norm") {
                Rule::Constant(1.0)
            } else if name.starts_with("shared") {
                Rule::Normal(1.0)
            } else if name.contains("SelfAttention.q") {
                deviation(width * head)
            } else if name.contains("SelfAttention.o") {
                deviation(heads * head)
            } else if name.contains("DenseReluDense.wo") {
                deviation(hidden)
            } else {
                deviation(width)
            }
        },
    }
}

/// A table of positions with which heads look near, each half as strictly as the one before it: a geometric series of slopes over
/// distance, as ALiBi (Press et al. 2022). T5 begins with small random numbers, so that no token knows its neighbours; that a
/// colour belongs to the noun behind it then takes hundreds of steps to be found, even where nothing else is learnt.
fn near(config: &TextEncoderConfig) -> Vec<f32> {
    let (buckets, heads) = (config.relative_attention_num_buckets, config.num_heads);
    let mut nearest = vec![0usize; buckets];
    for distance in (1..=config.relative_attention_max_distance).rev() {
        nearest[config.bucket(distance, 0)] = distance;
        nearest[config.bucket(0, distance)] = distance;
    }
    let value = |place: usize| -(nearest[place / heads] as f32) * 0.5f32.powi((place % heads) as i32);
    (0..buckets * heads).map(value).collect()
}

/// Convolutions and norms, as torch begins them: for the VAE and the judge.
pub fn convolutions(seed: u64) -> impl InitialValues {
    Initial {
        random: Random::new(seed),
        rule: |name: &str, shape: &[usize]| {
            let is_weight = name.ends_with(".weight") || name.ends_with("running_variance");
            if shape.len() > 1 {
                let [inputs, _] = fans(shape);
                Rule::Uniform(inputs.powf(-0.5))
            } else if name.contains("norm") {
                Rule::Constant(if is_weight { 1.0 } else { 0.0 })
            } else {
                Rule::Constant(0.0)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deviation(values: &[f32]) -> f64 {
        (values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    }

    #[test]
    fn heads_begin_by_looking_near() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/t5_tiny_a/config.json"));
        let config: TextEncoderConfig = serde_json::from_str(&text.expect("a fixture")).expect("a configuration");
        let shape = [config.relative_attention_num_buckets, config.num_heads];
        let values = text_encoder(3, &config).values(POSITION_TABLE, &shape);
        for head in 0..shape[1] {
            let of = |query: usize, key: usize| values[config.bucket(query, key) * shape[1] + head];
            let slope = 0.5f32.powi(head as i32);
            for (query, key) in [(5, 5), (5, 4), (5, 6), (0, 2), (3, 0)] {
                assert_eq!(of(query, key), -(query.abs_diff(key) as f32) * slope);
            }
            assert!(of(0, 60) < of(0, 20) && of(60, 0) < of(20, 0) && of(0, 20) < of(0, 2));
        }
    }

    #[test]
    fn values_follow_the_recipe() {
        let values = transformer(3);
        let of = |name: &str, shape: &[usize]| values.values(name, shape);
        let xavier = of("transformer_blocks.0.attn1.to_q.weight", &[192, 192]);
        assert!((deviation(&xavier) - (6.0f64 / 384.0).sqrt() / 3f64.sqrt()).abs() < 1e-3);
        assert!((deviation(&of("transformer_blocks.1.attn2.to_out.0.weight", &[192, 192])) - 0.02).abs() < 1e-3);
        assert!(of("proj_out.weight", &[16, 192]).iter().all(|&value| value == 0.0));
        assert!(of("pos_embed.proj.bias", &[192]).iter().all(|&value| value == 0.0));
        assert_ne!(xavier, of("transformer_blocks.0.attn1.to_k.weight", &[192, 192]));
        assert_eq!(xavier, transformer(3).values("transformer_blocks.0.attn1.to_q.weight", &[192, 192]));
        let convolution = convolutions(3).values("encoder.conv_in.weight", &[64, 3, 3, 3]);
        assert!((deviation(&convolution) - 27f64.powf(-0.5) / 3f64.sqrt()).abs() < 5e-3);
        assert_eq!(convolutions(3).values("encoder.norm_out.weight", &[2]), [1.0; 2]);
        assert_eq!(convolutions(3).values("encoder.norm_out.bias", &[2]), [0.0; 2]);
    }
}
