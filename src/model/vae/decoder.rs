//! Latents to video.

use burn::module::Module;
use burn::tensor::Tensor;

use super::config::VaeConfig;
use super::layers::{Conv, GroupNorm, MiddleBlock, ResnetBlock};
use super::resample::Upsample;
use super::site::{Sites, Stopped};
use crate::gpu::spans;
use crate::model::weights::Loader;

#[derive(Module, Debug)]
struct DecoderLevel {
    blocks: Vec<ResnetBlock>,
    upsample: Option<Upsample>,
}

#[derive(Module, Debug)]
pub struct Decoder {
    conv_in: Conv,
    mid: MiddleBlock,
    /// In the order of their names; they run from the last to the first.
    up: Vec<DecoderLevel>,
    norm_out: GroupNorm,
    conv_out: Conv,
}

impl Decoder {
    pub fn load(loader: &mut Loader<'_>, config: &VaeConfig) -> Self {
        let mut channels = config.width(config.levels() - 1);
        let conv_in = Conv::same3(loader, "decoder.conv_in", config.decoder_conv_in, config.z_channels, channels);
        let mid = MiddleBlock::load(loader, "decoder.mid", config.decoder_mid_resnet, channels);
        let mut up = Vec::new();
        for level in (0..config.levels()).rev() {
            let name = format!("decoder.up.{level}");
            let mut blocks = Vec::new();
            for block in 0..=config.num_res_blocks {
                let kind = config.decoder_resnet_blocks[level];
                blocks.push(ResnetBlock::load(loader, &format!("{name}.block.{block}"), kind, channels, config.width(level)));
                channels = config.width(level);
            }
            let kind = config.decoder_spatial_upsample[level];
            up.push(DecoderLevel { blocks, upsample: Upsample::load(loader, &format!("{name}.upsample"), kind, channels) });
        }
        up.reverse();
        Self {
            conv_in,
            mid,
            up,
            norm_out: GroupNorm::load(loader, "decoder.norm_out", channels),
            conv_out: Conv::same3(loader, "decoder.conv_out", config.decoder_conv_out, channels, 3),
        }
    }

    /// # Errors
    /// `sites` stopped it.
    pub fn forward(&self, latents: Tensor<5>, sites: &mut Sites<'_>) -> Result<Tensor<5>, Stopped> {
        let mut x = spans::layer(|| "decoder.conv_in".into(), || self.conv_in.forward(latents));
        sites.see(|| "decoder.conv_in".into(), &x);
        x = spans::layer(|| "decoder.mid".into(), || sites.middle("decoder.mid", &self.mid, x));
        for (level, part) in self.up.iter().enumerate().rev() {
            for (index, block) in part.blocks.iter().enumerate() {
                sites.go_on()?;
                x = spans::layer(|| format!("decoder.up.{level}"), || block.forward(x));
                sites.see(|| format!("decoder.up.{level}.block.{index}"), &x);
            }
            if let Some(upsample) = &part.upsample {
                sites.go_on()?;
                x = spans::layer(|| format!("decoder.up.{level}"), || upsample.forward(x));
                sites.see(|| format!("decoder.up.{level}.upsample"), &x);
            }
        }
        x = spans::layer(|| "decoder.conv_out".into(), || self.conv_out.forward_normalised(x, &self.norm_out, None));
        sites.see(|| "decoder.conv_out".into(), &x);
        Ok(x)
    }
}
