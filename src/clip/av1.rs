//! AV1 through rav1e: planes to temporal units.
//!
//! Constant quality, one tile and one thread, so the same frames always make the same bytes.

use rav1e::prelude::{
    ChromaSamplePosition, ChromaSampling, ColorDescription, ColorPrimaries, Config, Context, EncoderConfig, EncoderStatus,
    FrameType, MatrixCoefficients, PixelRange, Rational, SpeedSettings, TransferCharacteristics,
};

use super::error::Unfinished;
use super::progress::{Meter, Stopped};
use super::rate::FrameRate;
use super::yuv::Planes;

/// Of 255. A noisy clip keeps 37.5 dB in RGB and a clean one 39, as H.264 does here in twice the bytes.
const QUANTISER: usize = 40;
/// Of 10, the fastest: half a second to three seconds for 29 frames of 256x144. One step slower takes half as long again
/// for a tenth fewer bytes.
const SPEED: u8 = 10;

/// What is shown at one moment.
pub(super) struct TemporalUnit {
    /// Open bitstream units, without the delimiter that containers leave out.
    pub(super) units: Vec<u8>,
    pub(super) frame: u64,
    pub(super) is_key_frame: bool,
}

/// A coded clip.
pub(super) struct Stream {
    /// The `av1C` record: four bytes about the stream, then its sequence header.
    pub(super) configuration: Vec<u8>,
    pub(super) temporal_units: Vec<TemporalUnit>,
}

/// Encodes planes, with a key frame at least every `key_frame_interval` frames.
///
/// # Errors
/// The words of the encoder; or it was stopped.
pub(super) fn encode(
    pictures: impl ExactSizeIterator<Item = Planes>,
    (width, height): (usize, usize),
    rate: FrameRate,
    key_frame_interval: u64,
    mut meter: Meter<'_>,
) -> Result<Stream, Unfinished> {
    let mut settings = EncoderConfig {
        width,
        height,
        time_base: Rational::new(u64::from(rate.ticks_per_frame), u64::from(rate.ticks_per_second)),
        bit_depth: 8,
        chroma_sampling: ChromaSampling::Cs420,
        chroma_sample_position: ChromaSamplePosition::Vertical,
        pixel_range: PixelRange::Limited,
        color_description: Some(ColorDescription {
            color_primaries: ColorPrimaries::BT709,
            transfer_characteristics: TransferCharacteristics::BT709,
            matrix_coefficients: MatrixCoefficients::BT709,
        }),
        quantizer: QUANTISER,
        tiles: 1,
        speed_settings: SpeedSettings::from_preset(SPEED),
        ..Default::default()
    };
    settings.set_key_frame_interval(key_frame_interval.min(12), key_frame_interval);
    let mut context: Context<u8> =
        Config::new().with_encoder_config(settings).with_threads(1).new_context().map_err(|error| error.to_string())?;

    let count = pictures.len();
    let mut temporal_units = Vec::with_capacity(count);
    // Nearly all work is done where the encoder is asked for what is finished, many frames after they were sent.
    let mut encoded = |units: &[TemporalUnit]| meter.count(units.len(), count);
    for picture in pictures {
        encoded(&temporal_units)?;
        let mut frame = context.new_frame();
        let chroma_stride = width.div_ceil(2);
        for (plane, (bytes, stride)) in frame.planes.iter_mut().zip([
            (&picture.luma, width),
            (&picture.blue_difference, chroma_stride),
            (&picture.red_difference, chroma_stride),
        ]) {
            plane.copy_from_raw_u8(bytes, stride, 1);
        }
        context.send_frame(frame).map_err(|error| error.to_string())?;
        receive(&mut context, &mut temporal_units, &mut encoded)?;
    }
    context.flush();
    receive(&mut context, &mut temporal_units, &mut encoded)?;

    let sequence_header =
        temporal_units.first().and_then(|unit| first_unit(&unit.units)).ok_or("the encoder wrote no sequence header")?;
    let mut configuration = context.container_sequence_header();
    // The record says nothing about where chroma lies, the sequence header does.
    if let Some(flags) = configuration.get_mut(2) {
        *flags |= 1;
    }
    configuration.extend_from_slice(sequence_header);
    Ok(Stream { configuration, temporal_units })
}

/// Takes what is finished.
fn receive(
    context: &mut Context<u8>,
    temporal_units: &mut Vec<TemporalUnit>,
    encoded: &mut impl FnMut(&[TemporalUnit]) -> Result<(), Stopped>,
) -> Result<(), Unfinished> {
    /// A unit of kind 2 without contents.
    const DELIMITER: [u8; 2] = [0x12, 0x00];
    loop {
        match context.receive_packet() {
            Ok(packet) => {
                let units = packet.data.strip_prefix(&DELIMITER).unwrap_or(&packet.data);
                temporal_units.push(TemporalUnit {
                    units: units.to_vec(),
                    frame: packet.input_frameno,
                    is_key_frame: packet.frame_type == FrameType::KEY,
                });
                encoded(temporal_units)?;
            }
            // A frame that is not shown yet.
            Err(EncoderStatus::Encoded) => encoded(temporal_units)?,
            Err(EncoderStatus::NeedMoreData | EncoderStatus::LimitReached) => return Ok(()),
            Err(error) => return Err(error.to_string().into()),
        }
    }
}

/// The first open bitstream unit, if it is a sequence header: header byte, size in groups of seven bits, contents.
fn first_unit(units: &[u8]) -> Option<&[u8]> {
    const KIND: u8 = 0x78;
    const SEQUENCE_HEADER: u8 = 1 << 3;
    const HAS_SIZE: u8 = 0x02;
    let header = units.first()?;
    if header & KIND != SEQUENCE_HEADER || header & HAS_SIZE == 0 {
        return None;
    }
    let mut size = 0usize;
    for (index, &byte) in units.get(1..)?.iter().enumerate().take(4) {
        size |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return units.get(..index + 2 + size);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_header_is_cut_at_its_size() {
        assert_eq!(first_unit(&[0x0A, 2, 7, 8, 9]), Some(&[0x0A, 2, 7, 8][..]));
        assert_eq!(first_unit(&[0x0A, 9, 7]), None);
        assert_eq!(first_unit(&[0x32, 1, 7]), None);
        assert_eq!(first_unit(&[]), None);
    }
}
