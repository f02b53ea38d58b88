//! Which networks keep their weights on the device, and which read them from disk while they run.

use crate::gpu::device::{ComputeDevice, Residency};
use crate::model::text::encoder::TextEncoderConfig;

/// Text encoders with more parameters than this are read from disk for every new text, whatever room there is: they run once
/// a prompt, and what they would take is needed for the transformer.
pub const LARGE_TEXT_ENCODER: usize = 500_000_000;

/// The share of a device's memory that weights may fill; the rest is for values, the VAE, and other programs.
const WEIGHTS_SHARE: f64 = 0.6;

/// Whether a transformer of so many parameters is streamed through the device.
pub fn streams_transformer(device: &ComputeDevice, parameters: usize) -> bool {
    match device.residency {
        Residency::All => false,
        Residency::Stream => true,
        Residency::Auto => {
            let bytes = parameters as f64 * device.precision.bytes() as f64;
            // Where the size of the memory is not known, trying is all that is left.
            memory_bytes(device).is_some_and(|memory| bytes > WEIGHTS_SHARE * memory as f64)
        }
    }
}

/// Why networks of so many parameters cannot be on the device, if they are not streamed through it: the memory is too small for their
/// weights alone.
pub fn lacks_room(device: &ComputeDevice, parameters: usize) -> Option<String> {
    if streams_transformer(device, parameters) {
        return None;
    }
    let needed = parameters as f64 * device.precision.bytes() as f64;
    let memory = memory_bytes(device)? as f64;
    (needed > memory).then(|| {
        let gigabytes = |bytes: f64| format!("{:.1} GB", bytes / 1e9);
        format!(
            "the weights take {} and its memory is {}; `--resident auto` reads them layer by layer",
            gigabytes(needed),
            gigabytes(memory)
        )
    })
}

/// Whether a text encoder is streamed through the device.
pub fn streams_text_encoder(device: &ComputeDevice, config: &TextEncoderConfig) -> bool {
    match device.residency {
        Residency::All => false,
        Residency::Stream => true,
        Residency::Auto => is_large(config),
    }
}

/// Whether a text encoder is too large to be kept between texts.
pub fn is_large(config: &TextEncoderConfig) -> bool {
    config.parameters() > LARGE_TEXT_ENCODER
}

/// The memory that weights share with everything else on the device.
fn memory_bytes(device: &ComputeDevice) -> Option<u64> {
    match &device.adapter {
        Some(adapter) => adapter.memory_bytes,
        None => {
            let mut system = sysinfo::System::new().ok()?;
            system.refresh_memory();
            Some(system.available_memory()).filter(|&bytes| bytes > 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{DeviceChoice, open};

    #[test]
    fn large_networks_are_streamed_unless_it_is_forbidden() {
        let mut device = open(&DeviceChoice::Cpu, None).unwrap();
        let published = TextEncoderConfig::published();
        // 5.7 billion.
        assert_eq!(
            published.parameters(),
            250_112 * 4096 + 24 * (4 * 4096 * 4096 + 3 * 4096 * 10_240 + 2 * 4096) + 4096 + 32 * 64
        );
        for (residency, streamed) in [(Residency::Auto, true), (Residency::All, false), (Residency::Stream, true)] {
            device.residency = residency;
            assert_eq!(streams_text_encoder(&device, &published), streamed);
            assert_eq!(streams_transformer(&device, 1 << 50), streamed, "no machine has that much memory");
        }
        assert_eq!(lacks_room(&device, 1 << 50), None, "it is streamed");
        device.residency = Residency::All;
        assert!(lacks_room(&device, 1 << 50).is_some_and(|reason| reason.contains("the weights take")));
        assert_eq!(lacks_room(&device, 1000), None);
        device.residency = Residency::Auto;
        assert!(!streams_transformer(&device, 1000));
        assert!(!is_large(&TextEncoderConfig { num_layers: 1, vocab_size: 100, ..published }));
    }
}
