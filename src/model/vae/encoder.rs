//! Video to the moments of its latents.

use burn::module::Module;
use burn::tensor::Tensor;

use super::config::VaeConfig;
use super::layers::{Conv, GroupNorm, MiddleBlock, ResnetBlock};
use super::resample::load_downsample;
use super::site::Sites;
use crate::model::weights::Loader;

#[derive(Module, Debug)]
struct EncoderLevel {
    blocks: Vec<ResnetBlock>,
    downsample: Option<Conv>,
}

#[derive(Module, Debug)]
pub struct Encoder {
    conv_in: Conv,
    down: Vec<EncoderLevel>,
    mid: MiddleBlock,
    norm_out: GroupNorm,
    conv_out: Conv,
}

impl Encoder {
    pub fn load(loader: &mut Loader<'_>, config: &VaeConfig) -> Self {
        let conv_in = Conv::same3(loader, "encoder.conv_in", config.encoder_conv_in, 3, config.hidden_size);
        let mut channels = config.hidden_size;
        let mut down = Vec::new();
        for level in 0..config.levels() {
            let name = format!("encoder.down.{level}");
            let mut blocks = Vec::new();
            for block in 0..config.num_res_blocks {
                let kind = config.encoder_resnet_blocks[level];
                blocks.push(ResnetBlock::load(loader, &format!("{name}.block.{block}"), kind, channels, config.width(level)));
                channels = config.width(level);
            }
            let kind = config.encoder_spatial_downsample[level];
            down.push(EncoderLevel {
                blocks,
                downsample: load_downsample(loader, &format!("{name}.downsample"), kind, channels),
            });
        }
        Self {
            conv_in,
            down,
            mid: MiddleBlock::load(loader, "encoder.mid", config.encoder_mid_resnet, channels),
            norm_out: GroupNorm::load(loader, "encoder.norm_out", channels),
            conv_out: Conv::same3(loader, "encoder.conv_out", config.encoder_conv_out, channels, 2 * config.z_channels),
        }
    }

    pub fn forward(&self, video: Tensor<5>, sites: &mut Sites<'_>) -> Tensor<5> {
        let mut x = self.conv_in.forward(video);
        sites.see(|| "encoder.conv_in".into(), &x);
        for (level, part) in self.down.iter().enumerate() {
            for (index, block) in part.blocks.iter().enumerate() {
                x = block.forward(x);
                sites.see(|| format!("encoder.down.{level}.block.{index}"), &x);
            }
            if let Some(downsample) = &part.downsample {
                x = downsample.forward(x);
                sites.see(|| format!("encoder.down.{level}.downsample"), &x);
            }
        }
        x = sites.middle("encoder.mid", &self.mid, x);
        x = self.conv_out.forward_normalised(x, &self.norm_out, None);
        sites.see(|| "encoder.conv_out".into(), &x);
        x
    }
}
