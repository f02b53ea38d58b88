//! H.264 through openh264: planes to access units and back.
//!
//! Constant quality: the quantiser is held still, so the same frames always make the same bytes and no frame is dropped
//! or starved for the sake of a bit rate. One thread, no B frames, so decoding order is display order.

use openh264::OpenH264API;
use openh264::decoder::{DecodedYUV, Decoder};
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate as EncoderFrameRate, FrameType, IntraFramePeriod, QpRange,
    RateControlMode, UsageType, VuiConfig,
};
use openh264::formats::YUVSource;

use super::error::{Fault, Unfinished};
use super::progress::Meter;
use super::yuv::{Plane, Planes, append_rgb};

/// The quantiser of every picture: the coarsest at which a noisy clip keeps 39 dB in RGB (it measures 39.9) and a clean
/// one 40, where no eye tells the difference at normal size.
const QUANTISER: u8 = 18;

/// H.264 level 5.2, the most that openh264 encodes.
pub(super) const LARGEST_SIDES: (usize, usize) = (3840, 2160);
/// openh264 refuses smaller pictures.
pub(super) const LEAST_SIDE: usize = 16;

/// One coded picture.
pub(super) struct AccessUnit {
    /// NAL units without start codes or lengths; parameter sets are taken out.
    pub(super) nal_units: Vec<Vec<u8>>,
    pub(super) is_key_frame: bool,
}

/// A coded clip.
pub(super) struct Stream {
    pub(super) sequence_parameter_set: Vec<u8>,
    pub(super) picture_parameter_set: Vec<u8>,
    pub(super) access_units: Vec<AccessUnit>,
}

impl YUVSource for Planes {
    fn dimensions(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    fn strides(&self) -> (usize, usize, usize) {
        (self.width, self.width.div_ceil(2), self.width.div_ceil(2))
    }

    fn y(&self) -> &[u8] {
        &self.luma
    }

    fn u(&self) -> &[u8] {
        &self.blue_difference
    }

    fn v(&self) -> &[u8] {
        &self.red_difference
    }
}

/// Encodes planes of even sides, with a key frame at least every `key_frame_interval` pictures.
///
/// # Errors
/// The words of the encoder, or what it left out; or it was stopped.
pub(super) fn encode(
    pictures: impl ExactSizeIterator<Item = Planes>,
    frames_per_second: f64,
    key_frame_interval: u32,
    mut meter: Meter<'_>,
) -> Result<Stream, Unfinished> {
    let config = EncoderConfig::new()
        // The one mode that keeps no account of bits and takes the quantiser from the range; with a range of one value
        // and no scene detection, which would raise it, nothing is left to control.
        .rate_control_mode(RateControlMode::Bufferbased)
        .qp(QpRange::new(QUANTISER, QUANTISER))
        .scene_change_detect(false)
        .skip_frames(false)
        // Only chooses the level that the header names.
        .bitrate(BitRate::from_bps(5_000_000))
        .max_frame_rate(EncoderFrameRate::from_hz(frames_per_second as f32))
        .usage_type(UsageType::CameraVideoRealTime)
        .complexity(Complexity::High)
        .intra_frame_period(IntraFramePeriod::from_num_frames(key_frame_interval.max(1)))
        .adaptive_quantization(false)
        .background_detection(false)
        .num_threads(1)
        .vui(VuiConfig::bt709());
    let mut encoder = Encoder::with_api_config(OpenH264API::from_source(), config).map_err(|error| error.to_string())?;

    let mut sequence_parameter_set = None;
    let mut picture_parameter_set = None;
    let count = pictures.len();
    let mut access_units = Vec::with_capacity(count);
    for picture in pictures {
        meter.count(access_units.len(), count)?;
        let stream = encoder.encode(&picture).map_err(|error| error.to_string())?;
        let is_key_frame = stream.frame_type() == FrameType::IDR;
        let mut nal_units = Vec::new();
        for layer in (0..stream.num_layers()).filter_map(|index| stream.layer(index)) {
            for unit in (0..layer.nal_count()).filter_map(|index| layer.nal_unit(index)) {
                let unit = without_start_code(unit);
                match unit.first().map(|header| header & 0x1F) {
                    Some(nal::SEQUENCE_PARAMETER_SET) => {
                        sequence_parameter_set.get_or_insert_with(|| unit.to_vec());
                    }
                    Some(nal::PICTURE_PARAMETER_SET) => {
                        picture_parameter_set.get_or_insert_with(|| unit.to_vec());
                    }
                    Some(_) => nal_units.push(unit.to_vec()),
                    None => {}
                }
            }
        }
        if nal_units.is_empty() {
            return Err("the encoder dropped a frame".into());
        }
        access_units.push(AccessUnit { nal_units, is_key_frame });
    }
    match (sequence_parameter_set, picture_parameter_set) {
        (Some(sequence_parameter_set), Some(picture_parameter_set)) => {
            Ok(Stream { sequence_parameter_set, picture_parameter_set, access_units })
        }
        _ => Err("the encoder wrote no parameter sets".into()),
    }
}

/// NAL unit types of H.264, table 7-1.
mod nal {
    pub(super) const SEQUENCE_PARAMETER_SET: u8 = 7;
    pub(super) const PICTURE_PARAMETER_SET: u8 = 8;
}

const START_CODE: [u8; 4] = [0, 0, 0, 1];

fn without_start_code(unit: &[u8]) -> &[u8] {
    unit.strip_prefix(&START_CODE).or_else(|| unit.strip_prefix(&START_CODE[1..])).unwrap_or(unit)
}

/// Decodes pictures one by one; every picture must have the size of the first.
pub(super) struct PictureDecoder {
    decoder: Decoder,
    annex_b: Vec<u8>,
}

impl PictureDecoder {
    /// A decoder that knows the parameter sets.
    pub(super) fn new<'a>(parameter_sets: impl Iterator<Item = &'a [u8]>) -> Result<Self, Fault> {
        let mut decoder = Decoder::new().map_err(|error| Fault::unsupported(error.to_string()))?;
        for set in parameter_sets {
            let mut annex_b = START_CODE.to_vec();
            annex_b.extend_from_slice(set);
            decoder.decode(&annex_b).map_err(|error| Fault::damaged(error.to_string()))?;
        }
        Ok(PictureDecoder { decoder, annex_b: Vec::new() })
    }

    /// Appends one picture as RGB and tells its sides in pixels.
    pub(super) fn append_picture<'a>(
        &mut self,
        nal_units: impl Iterator<Item = &'a [u8]>,
        rgb: &mut Vec<u8>,
    ) -> Result<(usize, usize), Fault> {
        self.annex_b.clear();
        for unit in nal_units {
            self.annex_b.extend_from_slice(&START_CODE);
            self.annex_b.extend_from_slice(unit);
        }
        let picture: DecodedYUV<'_> = self
            .decoder
            .decode(&self.annex_b)
            .map_err(|error| Fault::damaged(error.to_string()))?
            .ok_or_else(|| Fault::damaged("a picture is missing"))?;
        let sides = picture.dimensions();
        let (luma_stride, blue_stride, red_stride) = picture.strides();
        let plane = |bytes, stride| Plane { bytes, stride };
        append_rgb(rgb, sides, plane(picture.y(), luma_stride), plane(picture.u(), blue_stride), plane(picture.v(), red_stride))
            .ok_or_else(|| Fault::damaged("a picture has less data than pixels"))?;
        Ok(sides)
    }
}
