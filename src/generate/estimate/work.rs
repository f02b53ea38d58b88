//! Floating-point operations and memory of the two transformers, by formula.
//!
//! A multiplication and an addition are two operations. Norms, activation functions, softmax and the rotary embedding are not
//! counted: they are memory traffic, and the speeds that a device is measured at hold them.

use crate::mask::MaskPlan;
use crate::model::dit::{TransformerConfig, feed_forward_tokens};
use crate::model::text::encoder::TextEncoderConfig;

/// Channels of the sinusoidal embedding of a timestep.
const TIME_CHANNELS: f64 = 256.0;

/// Operations, and the least bytes that move between the device's memory and its processors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    pub flops: f64,
    pub bytes: f64,
}

/// One call of the transformer by kind of work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CallWork {
    pub linear: Work,
    /// To itself and to the text.
    pub attention: Work,
    /// Norms, modulations, gates and the rotary embedding: memory traffic alone.
    pub normalisation: Work,
}

impl CallWork {
    pub fn flops(&self) -> f64 {
        self.linear.flops + self.attention.flops
    }
}

/// One pass of the transformer over one row of a batch; weights and values between layers have `bytes` each.
pub fn transformer_work(
    config: &TransformerConfig,
    plan: &MaskPlan,
    tokens_per_frame: usize,
    text_tokens: usize,
    bytes: f64,
) -> CallWork {
    let width = config.width() as f64;
    let (tokens, text_tokens) = ((plan.frames() * tokens_per_frame) as f64, text_tokens as f64);
    let patch = (config.patch_size * config.patch_size) as f64;
    let layers = config.num_layers as f64;

    let patches = tokens * patch * (config.in_channels + config.out_channels) as f64 * width;
    let timestep = TIME_CHANNELS * width + 7.0 * width * width;
    let caption = text_tokens * (config.caption_channels as f64 * width + width * width);
    // A block: four projections of the self-attention, two of the cross-attention, eight widths of the feed-forward.
    let block = 14.0 * tokens * width * width + 2.0 * text_tokens * width * width;
    let cross_attention = 2.0 * tokens * text_tokens * width;

    // Six projections read and write one width, the feed-forward's two write and read four; every weight is read once.
    let linear_values = tokens * width * (6.0 * 2.0 + 2.0 * 5.0) + 4.0 * text_tokens * width;
    let attention_values = (4.0 + 2.0) * tokens * width + 2.0 * text_tokens * width;
    // The residual stream (f32) is read by three norms or casts and read and written by three sums; the rotary embedding reads
    // and writes queries and keys.
    let residual = tokens * width * 4.0 * (3.0 + 3.0 * 2.0);
    let beside = tokens * width * bytes * (3.0 + 3.0 + 4.0);
    CallWork {
        linear: Work {
            flops: 2.0 * (patches + timestep + caption + layers * block),
            bytes: bytes * (layers * linear_values + transformer_parameters(config)),
        },
        attention: Work {
            flops: 2.0 * layers * cross_attention + plan.attention_flops(tokens_per_frame, config.width()) as f64,
            bytes: bytes * layers * attention_values,
        },
        normalisation: Work { flops: 0.0, bytes: layers * (residual + beside) },
    }
}

/// One pass of the transformer over one row of a batch.
pub fn transformer_flops(config: &TransformerConfig, plan: &MaskPlan, tokens_per_frame: usize, text_tokens: usize) -> f64 {
    transformer_work(config, plan, tokens_per_frame, text_tokens, 0.0).flops()
}

/// Parameters of the transformer.
pub fn transformer_parameters(config: &TransformerConfig) -> f64 {
    let width = config.width() as f64;
    let patch = (config.patch_size * config.patch_size) as f64;
    let linear = |inputs: f64, outputs: f64| inputs * outputs + outputs;
    let timestep = linear(TIME_CHANNELS, width) + linear(width, width) + linear(width, 6.0 * width);
    let caption = linear(config.caption_channels as f64, width) + linear(width, width);
    let ends = linear(patch * config.in_channels as f64, width) + linear(width, patch * config.out_channels as f64) + 2.0 * width;
    let bias = if config.attention_bias { 6.0 * width } else { 0.0 };
    // The outputs of both attentions always have a bias.
    let attention = 8.0 * width * width + 2.0 * width + bias;
    let block = attention + linear(width, 4.0 * width) + linear(4.0 * width, width) + 6.0 * width;
    timestep + caption + ends + config.num_layers as f64 * block
}

/// The most bytes of the transformer's activations that are alive at once, for `rows` rows of a batch; values between
/// layers have `bytes` each, the residual stream and the rotated heads four.
pub fn transformer_activation_bytes(config: &TransformerConfig, tokens: usize, rows: usize, bytes: f64) -> f64 {
    let residual = 4.0;
    // Query, key, value; query and key rotated in f32, with one product of the rotation.
    let attention = 3.0 * bytes + 3.0 * 4.0;
    // The norm and its cast; of the tokens that go through at once four widths before the activation function, after it, and
    // one factor inside it.
    let at_once = feed_forward_tokens(tokens * rows, config.width()) as f64 / (tokens * rows) as f64;
    let feed_forward = f64::max(3.0 * 4.0, 3.0 * bytes + at_once * 3.0 * 4.0 * bytes);
    (residual + f64::max(attention, feed_forward)) * (tokens * rows * config.width()) as f64
}

/// One row of the text encoder.
pub fn text_encoder_flops(config: &TextEncoderConfig, tokens: usize) -> f64 {
    let (width, tokens) = (config.d_model as f64, tokens as f64);
    let inner = (config.num_heads * config.d_kv) as f64;
    let block = tokens * (4.0 * width * inner + 3.0 * width * config.d_ff as f64) + 2.0 * tokens * tokens * inner;
    2.0 * config.num_layers as f64 * block
}

/// The most bytes of the text encoder's activations: scores, their sum with the bias, and the softmax, in f32.
pub fn text_encoder_activation_bytes(config: &TextEncoderConfig, tokens: usize, rows: usize) -> f64 {
    3.0 * 4.0 * (rows * config.num_heads * tokens * tokens) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_tera(got: f64, want: f64) {
        assert!((got / 1e12 / want - 1.0).abs() < 0.003, "{} TFLOP instead of {want}", got / 1e12);
    }

    /// TFLOP of one call at batch 1 with 512 text tokens, from an independent calculation.
    #[test]
    fn a_call_of_the_published_transformer() {
        let call = |frames, tokens_per_frame, name| {
            let config = TransformerConfig::published();
            transformer_flops(&config, &MaskPlan::uniform(config.num_layers, frames, name).unwrap(), tokens_per_frame, 512)
        };
        for (frames, tokens_per_frame, want) in
            [(1, 1200, 6.7), (8, 1200, 74.7), (24, 1200, 386.3), (8, 3600, 386.3), (24, 3600, 2625.9)]
        {
            // The table is rounded to 0.1: 6.7 alone cannot be met more closely than that.
            let got = call(frames, tokens_per_frame, "full");
            assert!((got / 1e12 - want).abs() < f64::max(0.051, 0.0003 * want), "{got:e} {want}");
        }
        for (name, want) in [("1:7", 226.0), ("2:6", 272.0), ("3:5", 310.0), ("4:4", 340.0)] {
            assert_tera(call(8, 3600, name), want);
        }
        for (name, want) in [("1:23", 692.0), ("2:22", 860.0), ("3:21", 1021.0), ("4:20", 1174.0)] {
            assert_tera(call(24, 3600, name), want);
        }
    }

    /// The dossier's count of a block, and the file's 11.08 GB in f32.
    #[test]
    fn the_published_transformer_has_its_parameters() {
        let published = TransformerConfig::published();
        let without_a_block = TransformerConfig { num_layers: published.num_layers - 1, ..published.clone() };
        let all = transformer_parameters(&published);
        assert_eq!(all - transformer_parameters(&without_a_block), 84_978_432.0);
        let outside = all - 32.0 * 84_978_432.0;
        // pos_embed, adaln_single, caption_projection, scale_shift_table and proj_out by their published shapes.
        let shapes = 2304 * 16
            + 2304
            + 2304 * 256
            + 2304
            + 2304 * 2304
            + 2304
            + 13_824 * 2304
            + 13_824
            + 2304 * 4096
            + 2304
            + 2304 * 2304
            + 2304
            + 2 * 2304
            + 16 * 2304
            + 16;
        assert_eq!(outside, f64::from(shapes));
    }

    #[test]
    fn a_prompt_of_the_published_text_encoder() {
        assert_tera(text_encoder_flops(&TextEncoderConfig::published(), 512), 4.84);
    }
}
