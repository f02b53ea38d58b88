//! The transformer's `config.json`, as published.

use serde::Deserialize;

use crate::model::impossible_size;

/// Sizes and switches of an OpenSoraT2V transformer. Keys that do not change inference are ignored.
#[derive(Clone, Debug, Deserialize)]
pub struct TransformerConfig {
    pub num_attention_heads: usize,
    pub attention_head_dim: usize,
    pub num_layers: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub patch_size: usize,
    #[serde(default = "one")]
    pub patch_size_t: usize,
    pub caption_channels: usize,
    pub cross_attention_dim: usize,
    #[serde(default = "norm_eps")]
    pub norm_eps: f64,
    #[serde(default = "yes")]
    pub attention_bias: bool,
    #[serde(default = "norm_type")]
    pub norm_type: String,
    #[serde(default = "activation")]
    pub activation_fn: String,
    #[serde(default = "yes")]
    pub use_rope: bool,
    /// Latent height and width that the model was trained for.
    pub sample_size: OneOrTwo,
    pub sample_size_t: OneOrTwo,
    #[serde(default)]
    pub interpolation_scale_t: Option<f64>,
    #[serde(default)]
    pub interpolation_scale_h: Option<f64>,
    #[serde(default)]
    pub interpolation_scale_w: Option<f64>,
    #[serde(default)]
    pub downsampler: Option<serde_json::Value>,
    /// Ours: rounds the angles of the rotary embedding as the reference does when it samples in bf16.
    #[serde(default)]
    pub rotary_angles: super::rope::AngleRounding,
}

/// `[height, width]`, or one number for both.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrTwo {
    One(usize),
    Two([usize; 2]),
    Single([usize; 1]),
}

impl OneOrTwo {
    pub fn pair(self) -> [usize; 2] {
        match self {
            Self::One(n) | Self::Single([n]) => [n, n],
            Self::Two(pair) => pair,
        }
    }
}

fn one() -> usize {
    1
}
fn yes() -> bool {
    true
}
fn norm_eps() -> f64 {
    1e-6
}
fn norm_type() -> String {
    "ada_norm_single".into()
}
fn activation() -> String {
    "gelu-approximate".into()
}

/// The largest head that the attention kernels take.
const LARGEST_HEAD: usize = 128;

impl TransformerConfig {
    /// OpenSoraT2V-ROPE-L/122, the published transformer, as the checkpoint for 93 frames of 720p has it.
    pub fn published() -> Self {
        Self {
            num_attention_heads: 24,
            attention_head_dim: 96,
            num_layers: 32,
            in_channels: 4,
            out_channels: 4,
            patch_size: 2,
            patch_size_t: one(),
            caption_channels: 4096,
            cross_attention_dim: 2304,
            norm_eps: norm_eps(),
            attention_bias: yes(),
            norm_type: norm_type(),
            activation_fn: activation(),
            use_rope: yes(),
            sample_size: OneOrTwo::Two([90, 160]),
            sample_size_t: OneOrTwo::One(24),
            interpolation_scale_t: Some(1.0),
            interpolation_scale_h: Some(1.5),
            interpolation_scale_w: Some(2.0),
            downsampler: None,
            rotary_angles: super::rope::AngleRounding::default(),
        }
    }

    /// Channels of a token.
    pub fn width(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Interpolation scales of the rotary embedding along (t, h, w); the reference's defaults where the file has none.
    pub fn interpolation_scales(&self) -> [f64; 3] {
        let [frames, _] = self.sample_size_t.pair();
        let [height, width] = self.sample_size.pair();
        let frames_scale = if frames % 2 == 1 { ((frames - 1) / 16 + 1) as f64 } else { frames as f64 / 16.0 };
        [
            self.interpolation_scale_t.unwrap_or(frames_scale),
            self.interpolation_scale_h.unwrap_or(height as f64 / 30.0),
            self.interpolation_scale_w.unwrap_or(width as f64 / 40.0),
        ]
    }

    /// Why this program cannot run a transformer of this configuration, if it cannot.
    pub fn unsupported(&self) -> Option<String> {
        let [frames, _] = self.sample_size_t.pair();
        let [height, width] = self.sample_size.pair();
        let sizes = [
            ("num_attention_heads", self.num_attention_heads),
            ("attention_head_dim", self.attention_head_dim),
            ("num_layers", self.num_layers),
            ("in_channels", self.in_channels),
            ("patch_size", self.patch_size),
            ("caption_channels", self.caption_channels),
            ("sample_size_t", frames),
            ("sample_size", height.min(width)),
            ("sample_size", height.max(width)),
        ];
        let reason = if let Some(reason) = impossible_size(&sizes) {
            reason
        } else if !self.use_rope {
            "it has no rotary embedding (use_rope is false)".to_owned()
        } else if self.norm_type != "ada_norm_single" {
            format!("its norm_type is {}, not ada_norm_single", self.norm_type)
        } else if self.activation_fn != "gelu-approximate" {
            format!("its activation_fn is {}, not gelu-approximate", self.activation_fn)
        } else if self.downsampler.as_ref().is_some_and(|value| !value.is_null()) {
            "it has a token downsampler".to_owned()
        } else if self.patch_size_t != 1 {
            format!("its patch_size_t is {}, not 1", self.patch_size_t)
        } else if !self.attention_head_dim.is_multiple_of(6) || self.attention_head_dim > LARGEST_HEAD {
            format!("its attention_head_dim is {}; it must be a multiple of 6, at most {LARGEST_HEAD}", self.attention_head_dim)
        } else if self.cross_attention_dim != self.width() {
            format!("its cross_attention_dim is {}, but its width is {}", self.cross_attention_dim, self.width())
        } else if self.out_channels != self.in_channels && self.out_channels != 2 * self.in_channels {
            format!("its out_channels is {}, which is neither in_channels nor twice that", self.out_channels)
        } else if self.interpolation_scales().iter().any(|scale| !scale.is_finite() || *scale <= 0.0) {
            "an interpolation scale is not positive".to_owned()
        } else {
            return None;
        };
        Some(reason)
    }
}
