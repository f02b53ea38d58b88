//! What a run costs on several devices: the cost model of the parallel room, with the speeds that each device has alone.

use std::sync::Arc;

use super::work::{self, transformer_activation_bytes};
use crate::gpu::device::ComputeDevice;
use crate::mask::{KeyFrames, MaskPlan};
use crate::model::dit::TransformerConfig;
use crate::parallel::simulate::{DeviceTimes, Link, call_seconds_of_unlike};
use crate::parallel::team::exchanges;
use crate::parallel::{Arrangement, ExchangeSizes, LayerExchange};

/// Bytes a second between a device and the program's memory where nothing was measured: less than an H100 reaches (45 GB/s and
/// 26 GB/s), about what other discrete GPUs do.
const LINK: Link = Link { read_bytes_per_second: 15e9, write_bytes_per_second: 12e9, round_trip_seconds: 2e-4 };

/// A call of the transformer.
pub(super) struct Call<'a> {
    pub config: &'a TransformerConfig,
    pub plan: &'a MaskPlan,
    pub tokens_per_frame: usize,
    pub text_tokens: usize,
    /// With guidance two.
    pub rows: usize,
}

/// A call, dealt to devices.
struct Dealt {
    arrangement: Arrangement,
    exchanges: Vec<Vec<Arc<LayerExchange>>>,
    sizes: ExchangeSizes,
}

impl Call<'_> {
    /// As a team deals it to devices that do so many operations in a second.
    fn deal(&self, speeds: &[f64], device: &ComputeDevice) -> Dealt {
        let key_frames: Vec<Arc<KeyFrames>> =
            self.plan.layers().iter().map(|layer| Arc::new(layer.mask().key_frames())).collect();
        let heads = self.config.num_attention_heads;
        let arrangement = Arrangement::new(self.plan.frames(), self.rows, speeds);
        let exchanges = exchanges(&arrangement, &key_frames, heads, speeds);
        let sizes = ExchangeSizes {
            heads,
            head: self.config.attention_head_dim,
            frame_tokens: self.tokens_per_frame,
            element_bytes: device.precision.bytes(),
        };
        Dealt { arrangement, exchanges, sizes }
    }

    /// The seconds of the call on devices that do so many operations in a second, `device` first.
    pub fn seconds(&self, speeds: &[f64], device: &ComputeDevice) -> f64 {
        let Dealt { arrangement, exchanges, sizes } = self.deal(speeds, device);
        let all = work::transformer_flops(self.config, self.plan, self.tokens_per_frame, self.text_tokens);
        let attention = self.plan.attention_flops(self.tokens_per_frame, self.config.width()) as f64;
        let tiles: u64 = self.plan.layers().iter().map(|layer| layer.mask().kept_tiles()).sum();
        let frames = (self.plan.frames() * self.config.num_layers) as f64;
        // What is outside of layers goes by frames as well.
        let times = |speed: &f64| DeviceTimes {
            tile: attention / tiles.max(1) as f64 / speed,
            frame: (all - attention) / frames / speed,
            outside: 0.0,
        };
        let times: Vec<DeviceTimes> = speeds.iter().map(times).collect();
        call_seconds_of_unlike(&times, &LINK, &arrangement, &exchanges, &sizes)
    }

    /// The most bytes that each device's share of the call takes beside the weights. The first calls are dealt evenly, before
    /// anybody's speed is known.
    pub fn activation_bytes(&self, speeds: &[f64], device: &ComputeDevice) -> Vec<f64> {
        let even = self.activation_bytes_as_dealt(&vec![1.0; speeds.len()], device);
        let uneven = self.activation_bytes_as_dealt(speeds, device);
        even.into_iter().zip(uneven).map(|(a, b)| a.max(b)).collect()
    }

    fn activation_bytes_as_dealt(&self, speeds: &[f64], device: &ComputeDevice) -> Vec<f64> {
        let Dealt { arrangement, exchanges, sizes } = self.deal(speeds, device);
        let bytes = sizes.element_bytes as f64;
        let frame = (self.tokens_per_frame * self.config.width()) as f64 * bytes;
        let of_rank = |rank: usize| {
            let Some((group, place)) = arrangement.place(rank) else { return 0.0 };
            let frames = arrangement.groups[group].frames[place].len();
            // Rows follow each other.
            let own = transformer_activation_bytes(self.config, frames * self.tokens_per_frame, 1, bytes);
            // What comes in is put together with the keys and values of the own frames; what goes out is gathered first.
            let of_layer = |layer: &Arc<LayerExchange>| {
                let (into, out) = (layer.bytes_into(place, &sizes), layer.traffic_from(place, &sizes).read);
                if into + out == 0 { 0.0 } else { 2.0 * into as f64 + out as f64 + 2.0 * frames as f64 * frame }
            };
            own + exchanges[group].iter().map(of_layer).fold(0.0, f64::max)
        };
        (0..speeds.len()).map(of_rank).collect()
    }
}

/// The seconds of a decoding whose tiles go to whoever is free. `alone` is what each device takes for all of them.
pub(super) fn decoding_seconds(alone: &[f64], tiles: usize) -> f64 {
    if tiles < 2 {
        // It is not shared.
        return alone.first().copied().unwrap_or_default();
    }
    let of_tile: Vec<f64> = alone.iter().map(|seconds| seconds / tiles as f64).collect();
    let mut busy: Vec<f64> = vec![0.0; alone.len()];
    for _ in 0..tiles {
        let next = (0..busy.len()).min_by(|&a, &b| busy[a].total_cmp(&busy[b])).unwrap_or_default();
        busy[next] += of_tile[next];
    }
    busy.into_iter().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{self, DeviceChoice};

    #[test]
    fn tiles_go_to_whoever_is_free() {
        assert_eq!(decoding_seconds(&[8.0], 4), 8.0);
        assert_eq!(decoding_seconds(&[8.0, 8.0], 4), 4.0);
        assert_eq!(decoding_seconds(&[8.0, 8.0], 1), 8.0, "one tile is not shared");
        // One of 2 s a tile does three of four while another makes its first of 6 s.
        assert_eq!(decoding_seconds(&[8.0, 24.0], 4), 6.0);
    }

    #[test]
    fn calls_are_faster_and_need_less_on_more_devices() {
        let device = device::open(&DeviceChoice::Cpu, None).unwrap();
        let config = TransformerConfig::published();
        let of = |plan: &str, rows: usize, speeds: &[f64]| {
            let plan = MaskPlan::uniform(config.num_layers, 24, plan).unwrap();
            let call = Call { config: &config, plan: &plan, tokens_per_frame: 3600, text_tokens: 512, rows };
            (call.seconds(speeds, &device), call.activation_bytes(speeds, &device))
        };
        let speed = 2e14;
        let (alone, alone_bytes) = of("2:22", 1, &[speed]);
        // By formula: 860 TFLOP.
        assert!((alone / (860e12 / speed) - 1.0).abs() < 0.003, "{alone}");
        let (four, four_bytes) = of("2:22", 1, &[speed; 4]);
        assert!(alone / four > 2.0 && alone / four < 4.0, "{alone} {four}");
        assert!(four_bytes.iter().all(|bytes| *bytes < 0.7 * alone_bytes[0]), "{four_bytes:?} {alone_bytes:?}");
        // A slow device beside a fast one gets little to do, and holds nobody up for long.
        let (unlike, unlike_bytes) = of("2:22", 1, &[speed, speed / 8.0]);
        assert!(unlike < 1.1 * alone, "{unlike} {alone}");
        assert_eq!(unlike_bytes.len(), 2);
        // The rows of a guided call go to one device each, which exchange nothing.
        let (guided, guided_bytes) = of("2:22", 2, &[speed; 2]);
        assert!((guided / alone - 1.0).abs() < 1e-9, "{guided} {alone}");
        assert!((guided_bytes[1] / alone_bytes[0] - 1.0).abs() < 1e-9);
    }
}
