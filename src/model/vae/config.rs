//! The VAE's `config.json`, as published.

use serde::Deserialize;

use crate::model::impossible_size;

/// Sizes and block kinds of a CausalVideoVAE. Keys that do not change inference are ignored.
#[derive(Clone, Debug, Deserialize)]
pub struct VaeConfig {
    pub hidden_size: usize,
    pub z_channels: usize,
    pub embed_dim: usize,
    pub hidden_size_mult: Vec<usize>,
    pub num_res_blocks: usize,
    #[serde(default = "yes")]
    pub double_z: bool,
    #[serde(default = "yes")]
    pub use_quant_layer: bool,
    #[serde(default)]
    pub attn_resolutions: Vec<usize>,
    pub encoder_conv_in: ConvKind,
    pub encoder_conv_out: ConvKind,
    pub encoder_resnet_blocks: Vec<ResnetKind>,
    pub encoder_mid_resnet: ResnetKind,
    pub encoder_spatial_downsample: Vec<DownsampleKind>,
    #[serde(default)]
    pub encoder_temporal_downsample: Vec<String>,
    pub decoder_conv_in: ConvKind,
    pub decoder_conv_out: ConvKind,
    pub decoder_resnet_blocks: Vec<ResnetKind>,
    pub decoder_mid_resnet: ResnetKind,
    pub decoder_spatial_upsample: Vec<UpsampleKind>,
    #[serde(default)]
    pub decoder_temporal_upsample: Vec<String>,
    #[serde(default = "conv3d")]
    pub q_conv: ConvKind,
    /// What latents are multiplied with for the transformer.
    #[serde(default = "scaling_factor")]
    pub scaling_factor: f64,
}

impl VaeConfig {
    /// CausalVAEModel_D4_4x8x8 of Open-Sora-Plan v1.2, as its loaded model lists its arguments.
    pub fn published() -> Self {
        use ResnetKind::{ResnetBlock2D, ResnetBlock3D};
        let (half_space, half) = (DownsampleKind::Downsample, DownsampleKind::Spatial2xTime2x3DDownsample);
        let (twice_space, twice) = (UpsampleKind::SpatialUpsample2x, UpsampleKind::Spatial2xTime2x3DUpsample);
        Self {
            hidden_size: 128,
            z_channels: 4,
            embed_dim: 4,
            hidden_size_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            double_z: yes(),
            use_quant_layer: yes(),
            attn_resolutions: Vec::new(),
            encoder_conv_in: ConvKind::Conv2d,
            encoder_conv_out: ConvKind::CausalConv3d,
            encoder_resnet_blocks: vec![ResnetBlock2D, ResnetBlock2D, ResnetBlock3D, ResnetBlock3D],
            encoder_mid_resnet: ResnetBlock3D,
            encoder_spatial_downsample: vec![half_space, half, half, DownsampleKind::None],
            encoder_temporal_downsample: vec![String::new(); 4],
            decoder_conv_in: ConvKind::CausalConv3d,
            decoder_conv_out: ConvKind::CausalConv3d,
            decoder_resnet_blocks: vec![ResnetBlock3D; 4],
            decoder_mid_resnet: ResnetBlock3D,
            decoder_spatial_upsample: vec![UpsampleKind::None, twice_space, twice, twice],
            decoder_temporal_upsample: vec![String::new(); 4],
            q_conv: conv3d(),
            scaling_factor: scaling_factor(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum ConvKind {
    /// A plain convolution on every frame.
    Conv2d,
    CausalConv3d,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum ResnetKind {
    ResnetBlock2D,
    ResnetBlock3D,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum DownsampleKind {
    #[serde(rename = "")]
    None,
    /// Space only, on every frame.
    Downsample,
    Spatial2xTime2x3DDownsample,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum UpsampleKind {
    #[serde(rename = "")]
    None,
    /// Space only.
    SpatialUpsample2x,
    Spatial2xTime2x3DUpsample,
}

fn yes() -> bool {
    true
}
fn conv3d() -> ConvKind {
    ConvKind::CausalConv3d
}
fn scaling_factor() -> f64 {
    0.18215
}

/// Groups of every GroupNorm.
pub const NORM_GROUPS: usize = 32;

impl VaeConfig {
    /// Channels of a level.
    pub fn width(&self, level: usize) -> usize {
        self.hidden_size * self.hidden_size_mult[level]
    }

    pub fn levels(&self) -> usize {
        self.hidden_size_mult.len()
    }

    /// How many times smaller a latent is than the video: (time, space).
    pub fn compression(&self) -> [usize; 2] {
        let count = |wanted: &dyn Fn(&DownsampleKind) -> bool| {
            self.encoder_spatial_downsample.iter().filter(|kind| wanted(kind)).count() as u32
        };
        let time = count(&|kind| *kind == DownsampleKind::Spatial2xTime2x3DDownsample);
        let space = count(&|kind| *kind != DownsampleKind::None);
        [2usize.pow(time), 2usize.pow(space)]
    }

    /// Why this program cannot run a VAE of this configuration, if it cannot.
    pub fn unsupported(&self) -> Option<String> {
        let levels = self.levels();
        let lists = [
            self.encoder_resnet_blocks.len(),
            self.encoder_spatial_downsample.len(),
            self.decoder_resnet_blocks.len(),
            self.decoder_spatial_upsample.len(),
        ];
        let sizes = [("hidden_size", self.hidden_size), ("z_channels", self.z_channels), ("embed_dim", self.embed_dim)];
        let widths = |m: &usize| (1..=1 << 10).contains(m) && (self.hidden_size * m).is_multiple_of(NORM_GROUPS);
        let reason = if levels == 0 || levels > 16 || lists.iter().any(|&length| length != levels) {
            format!("its lists of blocks must have one entry for each of the {levels} levels of hidden_size_mult")
        } else if let Some(reason) = impossible_size(&sizes) {
            reason
        } else if self.num_res_blocks > 64 {
            format!("its num_res_blocks is {}", self.num_res_blocks)
        } else if !self.hidden_size_mult.iter().all(widths) {
            format!("the channels of a level are not a multiple of its {NORM_GROUPS} norm groups")
        } else if !self.double_z || !self.use_quant_layer {
            "it has no double_z or no quant layer".to_owned()
        } else if !self.attn_resolutions.is_empty() {
            "it has attention outside of the middle block (attn_resolutions)".to_owned()
        } else if self.q_conv != ConvKind::CausalConv3d {
            "its q_conv is not CausalConv3d".to_owned()
        } else if self.encoder_temporal_downsample.iter().chain(&self.decoder_temporal_upsample).any(|kind| !kind.is_empty()) {
            "it has separate temporal resampling".to_owned()
        } else if !self.scaling_factor.is_finite() || self.scaling_factor <= 0.0 {
            "its scaling_factor is not positive".to_owned()
        } else {
            return None;
        };
        Some(reason)
    }
}
