//! Weight files of the published sizes that hold zeros and take no room: their data is a hole in the file.
//!
//! What is measured with them is everything but the disk itself: conversion, copies, memory and computation. On a file system
//! without holes they take their full size.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::model::dit::TransformerConfig;
use crate::model::text::encoder::TextEncoderConfig;

/// Published names and shapes.
type Tensors = Vec<(String, Vec<usize>)>;

/// Writes a safetensors file of f16 zeros.
pub fn write(folder: &Path, tensors: Tensors) -> io::Result<PathBuf> {
    let mut header = Map::new();
    let mut data_bytes = 0;
    for (name, shape) in tensors {
        let end = data_bytes + 2 * shape.iter().product::<usize>();
        header.insert(name, json!({ "dtype": "F16", "shape": shape, "data_offsets": [data_bytes, end] }));
        data_bytes = end;
    }
    let mut text = Value::Object(header).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let path = folder.join("zeros.safetensors");
    let mut file = File::create(&path)?;
    file.write_all(&(text.len() as u64).to_le_bytes())?;
    file.write_all(text.as_bytes())?;
    file.set_len((8 + text.len() + data_bytes) as u64)?;
    Ok(path)
}

fn with_bias(tensors: &mut Tensors, name: String, outputs: usize, inputs: usize) {
    tensors.push((format!("{name}.weight"), vec![outputs, inputs]));
    tensors.push((format!("{name}.bias"), vec![outputs]));
}

/// The tensors of a transformer.
pub fn transformer(config: &TransformerConfig) -> Tensors {
    const TIME_CHANNELS: usize = 256;
    let width = config.width();
    let patch = config.patch_size;
    let mut tensors = vec![
        ("pos_embed.proj.weight".to_owned(), vec![width, config.in_channels, patch, patch]),
        ("pos_embed.proj.bias".to_owned(), vec![width]),
        ("scale_shift_table".to_owned(), vec![2, width]),
    ];
    let mut linear = |name: &str, outputs, inputs| with_bias(&mut tensors, name.to_owned(), outputs, inputs);
    linear("proj_out", patch * patch * config.out_channels, width);
    linear("adaln_single.emb.timestep_embedder.linear_1", width, TIME_CHANNELS);
    linear("adaln_single.emb.timestep_embedder.linear_2", width, width);
    linear("adaln_single.linear", 6 * width, width);
    linear("caption_projection.linear_1", width, config.caption_channels);
    linear("caption_projection.linear_2", width, width);
    for block in 0..config.num_layers {
        let name = format!("transformer_blocks.{block}");
        tensors.push((format!("{name}.scale_shift_table"), vec![6, width]));
        for attention in ["attn1", "attn2"] {
            for part in ["to_q", "to_k", "to_v", "to_out.0"] {
                with_bias(&mut tensors, format!("{name}.{attention}.{part}"), width, width);
            }
        }
        with_bias(&mut tensors, format!("{name}.ff.net.0.proj"), 4 * width, width);
        with_bias(&mut tensors, format!("{name}.ff.net.2"), width, 4 * width);
    }
    tensors
}

/// The tensors of an mT5 encoder.
pub fn text_encoder(config: &TextEncoderConfig) -> Tensors {
    let (width, inner, hidden) = (config.d_model, config.num_heads * config.d_kv, config.d_ff);
    let mut tensors = vec![
        ("shared.weight".to_owned(), vec![config.vocab_size, width]),
        ("encoder.final_layer_norm.weight".to_owned(), vec![width]),
        (
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight".to_owned(),
            vec![config.relative_attention_num_buckets, config.num_heads],
        ),
    ];
    for block in 0..config.num_layers {
        let mut add = |name: &str, shape: Vec<usize>| tensors.push((format!("encoder.block.{block}.layer.{name}.weight"), shape));
        for part in ["q", "k", "v"] {
            add(&format!("0.SelfAttention.{part}"), vec![inner, width]);
        }
        add("0.SelfAttention.o", vec![width, inner]);
        add("0.layer_norm", vec![width]);
        add("1.DenseReluDense.wi_0", vec![hidden, width]);
        add("1.DenseReluDense.wi_1", vec![hidden, width]);
        add("1.DenseReluDense.wo", vec![width, hidden]);
        add("1.layer_norm", vec![width]);
    }
    tensors
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gpu::device::{DeviceChoice, open};
    use crate::model::dit::Transformer;
    use crate::model::text::encoder::TextEncoder;
    use crate::model::weights::WeightSource;

    /// The networks themselves say whether these are their tensors.
    #[test]
    fn files_of_zeros_have_the_published_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let device = open(&DeviceChoice::Cpu, None).unwrap();
        let config = TransformerConfig { num_layers: 3, ..TransformerConfig::published() };
        let source = Arc::new(WeightSource::open(&write(folder.path(), transformer(&config)).unwrap()).unwrap());
        assert_eq!(Transformer::load_streamed(&source, &device, &config).unwrap().layers(), 3);
        let config = TextEncoderConfig { num_layers: 2, ..TextEncoderConfig::published() };
        let source = Arc::new(WeightSource::open(&write(folder.path(), text_encoder(&config)).unwrap()).unwrap());
        assert!(TextEncoder::load_streamed(&source, &device, &config).unwrap().parameters() < 10_000);
    }
}
