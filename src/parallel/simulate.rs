//! How long a call would take on several devices, from what one device takes and how fast bytes move.
//!
//! A device has one queue, so copies between it and the program's memory take turns with its kernels: a layer takes a rank its share of
//! the work and then the time of its copies. What a rank waits for others is hidden behind its own work as long as there is
//! enough of it; a layer ends with its slowest rank. Round trips are not hidden.

use std::sync::Arc;

use super::exchange::{ExchangeSizes, LayerExchange, Scheme};
use super::shares::Arrangement;

/// What one device takes, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceTimes {
    /// Self-attention of one frame to one frame, in one layer.
    pub tile: f64,
    /// Everything else of one frame in one layer.
    pub frame: f64,
    /// One frame outside of layers.
    pub outside: f64,
}

/// The way between a device and the program's memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    pub read_bytes_per_second: f64,
    pub write_bytes_per_second: f64,
    /// Between the end of a device's work and another device's being able to go on with it.
    pub round_trip_seconds: f64,
}

impl Link {
    /// Bytes that cost nothing.
    pub const FREE: Self =
        Self { read_bytes_per_second: f64::INFINITY, write_bytes_per_second: f64::INFINITY, round_trip_seconds: 0.0 };
}

/// Messages that follow each other in a layer.
fn round_trips(scheme: &Scheme) -> f64 {
    match scheme {
        Scheme::Local => 0.0,
        Scheme::Frames(exchange) if exchange.shared.contains(&true) => 2.0,
        Scheme::Frames(_) => 1.0,
        Scheme::Heads(_) => 2.0,
    }
}

/// The seconds of a call on devices that are alike, whose layers exchange like this, one list a group.
pub fn call_seconds(
    times: &DeviceTimes,
    link: &Link,
    arrangement: &Arrangement,
    exchanges: &[Vec<Arc<LayerExchange>>],
    sizes: &ExchangeSizes,
) -> f64 {
    let ranks = arrangement.groups.iter().flat_map(|group| &group.members).max().map_or(0, |last| last + 1);
    call_seconds_of_unlike(&vec![*times; ranks], link, arrangement, exchanges, sizes)
}

/// As [`call_seconds`], on devices that each take times of their own, by rank.
pub fn call_seconds_of_unlike(
    times: &[DeviceTimes],
    link: &Link,
    arrangement: &Arrangement,
    exchanges: &[Vec<Arc<LayerExchange>>],
    sizes: &ExchangeSizes,
) -> f64 {
    let of_group = |(group, layers): (&super::shares::Subgroup, &Vec<Arc<LayerExchange>>)| {
        let layer = |exchange: &Arc<LayerExchange>| {
            let of_member = |member: usize| {
                let times = &times[group.members[member]];
                let work = exchange.frames[member].len() as f64 * times.frame + exchange.tiles(member) * times.tile;
                let read = exchange.traffic_from(member, sizes).read as f64 / link.read_bytes_per_second;
                let write = exchange.bytes_into(member, sizes) as f64 / link.write_bytes_per_second;
                work + read + write
            };
            let slowest = (0..exchange.frames.len()).map(of_member).fold(0.0, f64::max);
            slowest + round_trips(&exchange.scheme) * link.round_trip_seconds
        };
        let outside = group.members.iter().zip(&group.frames).map(|(&rank, own)| own.len() as f64 * times[rank].outside);
        let once: f64 = layers.iter().map(layer).sum::<f64>() + outside.fold(0.0, f64::max);
        group.rows.len() as f64 * once
    };
    arrangement.groups.iter().zip(exchanges).map(of_group).fold(0.0, f64::max)
}

/// Times of one device from calls of masks with these kept tiles, in seconds a call: the least squares of attention over tiles.
/// What the attention takes without any tile is that to the text.
///
/// Each measurement is (kept tiles of all layers, seconds of attention, seconds of everything else within layers, outside).
pub fn fit(measured: &[(f64, f64, f64, f64)], layers: usize, frames: usize) -> DeviceTimes {
    let count = measured.len().max(1) as f64;
    let mean = |value: fn(&(f64, f64, f64, f64)) -> f64| measured.iter().map(value).sum::<f64>() / count;
    let (tiles, attention) = (mean(|m| m.0), mean(|m| m.1));
    let spread: f64 = measured.iter().map(|m| (m.0 - tiles).powi(2)).sum();
    let together: f64 = measured.iter().map(|m| (m.0 - tiles) * (m.1 - attention)).sum();
    let tile = if spread > 0.0 { together / spread } else { attention / tiles };
    let to_text = (attention - tile * tiles).max(0.0);
    DeviceTimes { tile, frame: (mean(|m| m.2) + to_text) / (layers * frames) as f64, outside: mean(|m| m.3) / frames as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::MaskPlan;
    use crate::parallel::team::exchanges;

    const SIZES: ExchangeSizes = ExchangeSizes { heads: 24, head: 96, frame_tokens: 3600, element_bytes: 2 };
    const TIMES: DeviceTimes = DeviceTimes { tile: 0.5e-3, frame: 2e-3, outside: 1e-3 };

    fn seconds(plan: &str, ranks: usize, link: &Link) -> f64 {
        let plan = MaskPlan::uniform(4, 24, plan).unwrap();
        let key_frames: Vec<_> = plan.layers().iter().map(|layer| Arc::new(layer.mask().key_frames())).collect();
        let speeds = vec![1.0; ranks];
        let arrangement = Arrangement::new(24, 1, &speeds);
        let exchanges = exchanges(&arrangement, &key_frames, 24, &speeds);
        call_seconds(&TIMES, link, &arrangement, &exchanges, &SIZES)
    }

    #[test]
    fn one_rank_takes_the_sum_of_its_parts() {
        let want = 4.0 * (156.0 * 0.5e-3 + 24.0 * 2e-3) + 24.0 * 1e-3;
        assert!((seconds("3:21", 1, &Link::FREE) - want).abs() < 1e-9);
    }

    #[test]
    fn free_links_give_what_the_shares_allow() {
        // 24 frames, 24 heads: nothing is uneven.
        let dense = seconds("full", 1, &Link::FREE) / seconds("full", 4, &Link::FREE);
        assert!((dense - 4.0).abs() < 1e-9, "{dense}");
        // Three of four ranks have a reference frame, so that one has more tiles: 42 instead of 39.
        let sparse = seconds("3:21", 1, &Link::FREE) / seconds("3:21", 4, &Link::FREE);
        assert!(sparse > 3.8 && sparse < 4.0, "{sparse}");
    }

    #[test]
    fn slow_links_cost_what_the_bytes_say() {
        let slow = Link { read_bytes_per_second: 1e9, write_bytes_per_second: 1e9, round_trip_seconds: 1e-3 };
        let added = seconds("full", 2, &slow) - seconds("full", 2, &Link::FREE);
        // A rank's half of the frames: half of the heads of three operands and of the attention, both ways.
        let bytes = 4.0 * 12.0 * 0.5 * 24.0 * 96.0 * 3600.0 * 2.0;
        assert!((added - 4.0 * (2.0 * bytes / 1e9 + 2e-3)).abs() < 1e-9, "{added}");
    }

    #[test]
    fn times_are_found_again_in_what_they_make() {
        let (layers, frames) = (4, 24);
        let call = |tiles: f64| (tiles, TIMES.tile * tiles + 0.01, 0.182, 0.024);
        let fitted = fit(&[call(624.0), call(2304.0), call(1000.0)], layers, frames);
        assert!((fitted.tile - TIMES.tile).abs() < 1e-12 && (fitted.outside - TIMES.outside).abs() < 1e-12);
        assert!((fitted.frame - (0.182 + 0.01) / 96.0).abs() < 1e-12);
    }
}
