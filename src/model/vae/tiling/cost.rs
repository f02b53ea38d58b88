//! What decoding in tiles costs: the decoder walked over shapes instead of tensors.

use super::Tiling;
use crate::model::vae::config::{ConvKind, ResnetKind, UpsampleKind, VaeConfig};

/// Work and room of the decoder over all tiles of a clip.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DecodingCost {
    /// Of all convolutions, pointwise ones included; a multiplication and an addition are two.
    pub convolution_flops: f64,
    /// Of the attention among the pixels of a frame, in the middle block.
    pub attention_flops: f64,
    /// The most elements of activations that are alive at once.
    pub largest_activations: f64,
    /// The elements of the largest of them.
    pub largest_tensor: f64,
}

impl Tiling {
    /// How many tiles a decoding of latents of `[frames, height, width]` has.
    pub fn decoding_tiles(self, latents: [usize; 3]) -> usize {
        self.decoding().parts(latents).len()
    }

    /// The cost of decoding latents of `[frames, height, width]`, for a configuration that is supported. Norms, activation
    /// functions, interpolation and the blending of tiles are not counted.
    pub fn decoding_cost(self, config: &VaeConfig, latents: [usize; 3]) -> DecodingCost {
        let mut cost = DecodingCost::default();
        for part in self.decoding().parts(latents) {
            Walk { cost: &mut cost, size: part.map(|length| length as f64) }.decoder(config);
        }
        cost
    }
}

/// A walk through the decoder; `size` is (frames, height, width) at the place where it stands.
struct Walk<'a> {
    cost: &'a mut DecodingCost,
    size: [f64; 3],
}

impl Walk<'_> {
    fn decoder(&mut self, config: &VaeConfig) {
        let mut channels = config.width(config.levels() - 1);
        self.convolution(1, config.embed_dim, config.z_channels);
        self.convolution(taps_of(config.decoder_conv_in), config.z_channels, channels);
        self.resnet(config.decoder_mid_resnet, channels, channels);
        self.frame_attention(channels);
        self.resnet(config.decoder_mid_resnet, channels, channels);
        for level in (0..config.levels()).rev() {
            for _ in 0..=config.num_res_blocks {
                self.resnet(config.decoder_resnet_blocks[level], channels, config.width(level));
                channels = config.width(level);
            }
            self.upsample(config.decoder_spatial_upsample[level], channels);
        }
        self.convolution(taps_of(config.decoder_conv_out), channels, 3);
    }

    fn pixels(&self) -> f64 {
        self.size.iter().product()
    }

    fn convolution(&mut self, taps: usize, inputs: usize, outputs: usize) {
        self.cost.convolution_flops += 2.0 * (taps * inputs * outputs) as f64 * self.pixels();
        self.alive((inputs + outputs) as f64);
        self.cost.largest_tensor = self.cost.largest_tensor.max(inputs.max(outputs) as f64 * self.pixels());
    }

    fn resnet(&mut self, kind: ResnetKind, inputs: usize, outputs: usize) {
        let taps = match kind {
            ResnetKind::ResnetBlock2D => 9,
            ResnetKind::ResnetBlock3D => 27,
        };
        self.convolution(taps, inputs, outputs);
        self.convolution(taps, outputs, outputs);
        if inputs != outputs {
            self.convolution(1, inputs, outputs);
        }
        // While the shortcut is made: input, hidden, shortcut. In the second convolution: hidden, shortcut, output.
        self.alive((inputs.max(outputs) + 2 * outputs) as f64);
    }

    fn frame_attention(&mut self, channels: usize) {
        for _query_key_value_out in 0..4 {
            self.convolution(1, channels, channels);
        }
        let [frames, height, width] = self.size;
        let score_matrix = (height * width).powi(2);
        self.cost.attention_flops += 4.0 * frames * score_matrix * channels as f64;
        // Input, query, key, value and result of all frames; scores, their exponentials and weights of one.
        let all_frames = 5.0 * channels as f64 * self.pixels();
        self.cost.largest_activations = self.cost.largest_activations.max(all_frames + 3.0 * score_matrix);
    }

    fn upsample(&mut self, kind: UpsampleKind, channels: usize) {
        let [frames, height, width] = self.size;
        let (taps, frames, interpolated) = match kind {
            UpsampleKind::None => return,
            UpsampleKind::SpatialUpsample2x => (9, frames, 1.0),
            // The last axis is doubled out of five tensors of half the size: both neighbours, the near part and the two sums.
            UpsampleKind::Spatial2xTime2x3DUpsample => (27, 2.0 * frames - 1.0, 2.5),
        };
        self.size = [frames, 2.0 * height, 2.0 * width];
        self.alive(interpolated * channels as f64);
        self.convolution(taps, channels, channels);
    }

    /// Notes that so many channels of the current size are alive.
    fn alive(&mut self, channels: f64) {
        self.cost.largest_activations = self.cost.largest_activations.max(channels * self.pixels());
    }
}

fn taps_of(kind: ConvKind) -> usize {
    match kind {
        ConvKind::Conv2d => 9,
        ConvKind::CausalConv3d => 27,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(got: f64, want: f64, tolerance: f64) {
        assert!((got / want - 1.0).abs() < tolerance, "{got:e} instead of {want:e}");
    }

    /// TFLOP from an independent calculation.
    #[test]
    fn flops_are_those_of_the_published_vae() {
        let untiled = Tiling { latent_size: 160, latent_frames: 24, ..Tiling::STANDARD };
        for (tiling, frames, convolutions, attention) in [
            (untiled, 8, 563e12, 3.4e12),
            (Tiling::STANDARD, 8, 675e12, 0.9e12),
            (untiled, 24, 1797e12, 10.2e12),
            (Tiling::STANDARD, 24, 2237e12, 3.0e12),
        ] {
            let cost = tiling.decoding_cost(&VaeConfig::published(), [frames, 90, 160]);
            assert_near(cost.convolution_flops, convolutions, 0.002);
            assert_near(cost.attention_flops, attention, 0.05);
        }
    }

    #[test]
    fn tiles_are_small_where_a_tensor_would_be_too_large() {
        let cost = Tiling::STANDARD.decoding_cost(&VaeConfig::published(), [8, 64, 64]);
        // 256 channels at the full size of 29 frames of 512 x 512.
        assert_eq!(cost.largest_tensor, (256 * 29 * 512 * 512) as f64);
        assert_eq!(Tiling::of(&VaeConfig::published()), Tiling::SAVING);
        let saving = Tiling::SAVING.decoding_cost(&VaeConfig::published(), [8, 90, 160]);
        assert_eq!(saving.largest_tensor, (256 * 29 * 256 * 256) as f64);
        // In f16 with the normalised copy of a convolution's input: far below 6 GiB.
        assert!((saving.largest_activations + saving.largest_tensor) * 2.0 < 4e9);
        assert_eq!(
            Tiling::of(&VaeConfig { hidden_size: 64, hidden_size_mult: vec![1, 1, 2, 2], ..VaeConfig::published() }),
            Tiling::STANDARD
        );
    }

    /// The middle block's first pixels by hand: a decoder of one level without upsampling, over one latent.
    #[test]
    fn flops_of_one_pixel_by_hand() {
        let config = VaeConfig {
            hidden_size: 32,
            hidden_size_mult: vec![1],
            num_res_blocks: 0,
            encoder_resnet_blocks: vec![ResnetKind::ResnetBlock2D],
            encoder_spatial_downsample: Vec::new(),
            decoder_conv_in: ConvKind::Conv2d,
            decoder_resnet_blocks: vec![ResnetKind::ResnetBlock2D],
            decoder_spatial_upsample: vec![UpsampleKind::None],
            ..VaeConfig::published()
        };
        let cost = Tiling::STANDARD.decoding_cost(&config, [1, 1, 1]);
        let (post_quant, conv_in, middle) = (4 * 4, 9 * 4 * 32, 4 * 27 * 32 * 32 + 4 * 32 * 32);
        let (level, conv_out) = (2 * 9 * 32 * 32, 27 * 32 * 3);
        assert_eq!(cost.convolution_flops, 2.0 * f64::from(post_quant + conv_in + middle + level + conv_out));
        assert_eq!(cost.attention_flops, 4.0 * 32.0);
    }

    #[test]
    fn parts_are_what_the_decoder_sees() {
        let parts = Tiling::STANDARD.decoding().parts([24, 90, 160]);
        assert_eq!(parts.len(), 4 * 6);
        assert_eq!(parts[..6], [[8, 64, 64], [8, 64, 64], [8, 64, 48], [8, 34, 64], [8, 34, 64], [8, 34, 48]]);
        assert_eq!(parts[23], [3, 34, 48]);
        assert_eq!(Tiling::STANDARD.decoding().parts([8, 18, 32]), [[8, 18, 32]]);
        // Larger along one axis only: both are cut.
        assert_eq!(Tiling::STANDARD.decoding().parts([1, 60, 65]), [[1, 60, 64], [1, 60, 9], [1, 4, 64], [1, 4, 9]]);
    }
}
