//! WebM files (Matroska): one AV1 track, tags and index before the pictures.

use mkv_element::io::blocking_impl::ReadFrom;
use mkv_element::prelude::*;

use super::SOFTWARE;
use super::av1::{self, Stream, TemporalUnit};
use super::error::{Fault, Unfinished};
use super::frames::Frames;
use super::progress::Meter;
use super::rate::FrameRate;
use super::yuv::Planes;

const RECIPE_TAG: &str = "TILEREEL_RECIPE";
const TRACK: u64 = 1;
/// Milliseconds, the only scale that every WebM player takes.
const TICKS_PER_SECOND: u32 = 1000;
const NANOSECONDS_PER_TICK: u64 = 1_000_000;
/// Code points of the `Colour` element: those of H.273 where it knows the thing.
const BT709: u64 = 1;
const LIMITED_RANGE: u64 = 1;
const LEFT: u64 = 1;
const BETWEEN_ROWS: u64 = 2;

/// A WebM file with the frames `copies` times one after the other.
///
/// # Errors
/// Words of the encoder; or it was stopped.
pub(super) fn encode(
    frames: &Frames,
    rate: FrameRate,
    recipe: Option<&str>,
    copies: usize,
    meter: Meter<'_>,
) -> Result<Vec<u8>, Unfinished> {
    let sides = (frames.width, frames.height);
    let pictures = frames.repeated(copies).map(|rgb| Planes::from_rgb(rgb, sides, sides));
    // Two seconds, and short enough for the 16-bit times inside of a cluster at any rate.
    let key_frame_interval = (2.0 * rate.frames_per_second()).floor().max(1.0) as u64;
    let stream = av1::encode(pictures, sides, rate, key_frame_interval, meter)?;
    Ok(multiplex(&stream, frames, rate, recipe).map_err(|error| error.to_string())?)
}

fn multiplex(stream: &Stream, frames: &Frames, rate: FrameRate, recipe: Option<&str>) -> mkv_element::Result<Vec<u8>> {
    let mut head = typed(&information(stream.temporal_units.len(), rate))?;
    head.extend(typed(&Tracks { track_entry: vec![track(stream, frames, rate)], ..Default::default() })?);
    head.extend(tags(recipe)?);

    let mut clusters = Vec::new();
    for units in stream.temporal_units.chunk_by(|_, next| !next.is_key_frame) {
        let start = units.first().map_or(0, |unit| unit.frame) as usize;
        let start_tick = rate.start(start, TICKS_PER_SECOND);
        clusters.push((start_tick, cluster(units, start_tick, rate)?));
    }

    // The index tells where the clusters lie, and the place depends on the size of the index: repeat until it fits.
    let mut index = Vec::new();
    loop {
        let mut position = (head.len() + index.len()) as u64;
        let mut cues = Cues::default();
        for (start_tick, cluster) in &clusters {
            cues.cue_point.push(CuePoint {
                cue_time: CueTime(*start_tick),
                cue_track_positions: vec![CueTrackPositions {
                    cue_track: CueTrack(TRACK),
                    cue_cluster_position: CueClusterPosition(position),
                    ..Default::default()
                }],
                ..Default::default()
            });
            position += cluster.len() as u64;
        }
        let longer = typed(&cues)?;
        let fits = longer.len() == index.len();
        index = longer;
        if fits {
            break;
        }
    }

    let mut body = head;
    body.extend(index);
    for (_, cluster) in &clusters {
        body.extend_from_slice(cluster);
    }
    let mut file = typed(&Ebml {
        ebml_version: Some(EbmlVersion(1)),
        ebml_read_version: Some(EbmlReadVersion(1)),
        ebml_max_id_length: EbmlMaxIdLength(4),
        ebml_max_size_length: EbmlMaxSizeLength(8),
        doc_type: Some(DocType("webm".to_owned())),
        doc_type_version: Some(DocTypeVersion(4)),
        doc_type_read_version: Some(DocTypeReadVersion(2)),
        ..Default::default()
    })?;
    file.extend(element(Segment::ID, &body));
    Ok(file)
}

fn information(frames: usize, rate: FrameRate) -> Info {
    Info {
        timestamp_scale: TimestampScale(NANOSECONDS_PER_TICK),
        duration: Some(Duration(frames as f64 / rate.frames_per_second() * f64::from(TICKS_PER_SECOND))),
        muxing_app: MuxingApp(SOFTWARE.to_owned()),
        writing_app: WritingApp(SOFTWARE.to_owned()),
        ..Default::default()
    }
}

fn track(stream: &Stream, frames: &Frames, rate: FrameRate) -> TrackEntry {
    const VIDEO: u64 = 1;
    const PROGRESSIVE: u64 = 2;
    TrackEntry {
        track_number: TrackNumber(TRACK),
        track_uid: TrackUid(TRACK),
        track_type: TrackType(VIDEO),
        flag_lacing: FlagLacing(0),
        language: Language("und".to_owned()),
        codec_id: CodecId("V_AV1".to_owned()),
        codec_private: Some(CodecPrivate(stream.configuration.clone().into())),
        default_duration: Some(DefaultDuration(rate.start(1, 1_000_000_000))),
        video: Some(Video {
            flag_interlaced: FlagInterlaced(PROGRESSIVE),
            pixel_width: PixelWidth(frames.width as u64),
            pixel_height: PixelHeight(frames.height as u64),
            colour: Some(Colour {
                matrix_coefficients: MatrixCoefficients(BT709),
                bits_per_channel: BitsPerChannel(8),
                chroma_subsampling_horz: Some(ChromaSubsamplingHorz(1)),
                chroma_subsampling_vert: Some(ChromaSubsamplingVert(1)),
                chroma_siting_horz: ChromaSitingHorz(LEFT),
                chroma_siting_vert: ChromaSitingVert(BETWEEN_ROWS),
                range: Range(LIMITED_RANGE),
                transfer_characteristics: TransferCharacteristics(BT709),
                primaries: Primaries(BT709),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// One run from a key frame to the next.
fn cluster(units: &[TemporalUnit], start_tick: u64, rate: FrameRate) -> mkv_element::Result<Vec<u8>> {
    const KEY_FRAME: u8 = 0x80;
    let mut body = typed(&Timestamp(start_tick))?;
    for unit in units {
        let offset = rate.start(unit.frame as usize, TICKS_PER_SECOND) - start_tick;
        let offset = i16::try_from(offset).map_err(|_| mkv_element::Error::ShortRead)?;
        // Track number as a one-byte size, time, flags.
        let mut block = vec![0x80 | TRACK as u8];
        block.extend_from_slice(&offset.to_be_bytes());
        block.push(if unit.is_key_frame { KEY_FRAME } else { 0 });
        block.extend_from_slice(&unit.units);
        body.extend(element(SimpleBlock::ID, &block));
    }
    Ok(element(Cluster::ID, &body))
}

fn tags(recipe: Option<&str>) -> mkv_element::Result<Vec<u8>> {
    let Some(recipe) = recipe else {
        return Ok(Vec::new());
    };
    let mut simple_tag = element(TagName::ID, RECIPE_TAG.as_bytes());
    simple_tag.extend(element(TagLanguage::ID, b"und"));
    simple_tag.extend(element(TagString::ID, recipe.as_bytes()));
    // No target: the tag is about the whole file.
    let mut tag = element(Targets::ID, &[]);
    tag.extend(element(SimpleTag::ID, &simple_tag));
    Ok(element(Tags::ID, &element(Tag::ID, &tag)))
}

fn typed<T: Element>(value: &T) -> mkv_element::Result<Vec<u8>> {
    let mut body = Vec::new();
    value.encode_body(&mut body)?;
    Ok(element(T::ID, &body))
}

/// An element with its identifier and size. mkv-element writes sizes itself too, but lets a size of 2^14 - 1, 2^21 - 1, ..
/// come out as all ones, which means "unknown"; so nothing that can grow that long is left to it.
fn element(id: VInt64, body: &[u8]) -> Vec<u8> {
    let id = id.as_encoded().to_be_bytes();
    let id = &id[id.iter().take_while(|&&byte| byte == 0).count()..];
    let size = body.len() as u64;
    let bytes = (1..8).find(|bytes| size < (1 << (7 * bytes)) - 1).unwrap_or(8);
    let size = (size | 1 << (7 * bytes)).to_be_bytes();
    [id, &size[8 - bytes..], body].concat()
}

/// The recipe among the tags.
pub(super) fn read_recipe(file: &[u8]) -> Result<Option<String>, Fault> {
    let segment = children(file)
        .find(|found| !matches!(found, Ok((id, _)) if *id != Segment::ID))
        .ok_or_else(|| Fault::damaged("it holds no segment"))??
        .1;
    for tags in of_kind::<Tags>(segment) {
        for tag in of_kind::<Tag>(tags?) {
            for simple_tag in of_kind::<SimpleTag>(tag?) {
                let simple_tag = simple_tag?;
                let name = of_kind::<TagName>(simple_tag).next().transpose()?;
                if name != Some(RECIPE_TAG.as_bytes()) {
                    continue;
                }
                let text = of_kind::<TagString>(simple_tag)
                    .next()
                    .transpose()?
                    .ok_or_else(|| Fault::damaged("its recipe has a name but no value"))?;
                return String::from_utf8(text.to_vec()).map(Some).map_err(|_| Fault::damaged("its recipe is no text"));
            }
        }
    }
    Ok(None)
}

/// The elements of a container, as identifier and contents. Only what is needed is looked into, so nothing nests
/// deeper than the file format says, whatever a file claims.
fn children(mut container: &[u8]) -> impl Iterator<Item = Result<(VInt64, &[u8]), Fault>> {
    std::iter::from_fn(move || {
        if container.is_empty() {
            return None;
        }
        let mut rest = container;
        let found = Header::read_from(&mut rest).map_err(|_| Fault::damaged("an element of it has no readable size")).and_then(
            |header| {
                let size =
                    if header.size.is_unknown { rest.len() } else { usize::try_from(header.size.value).unwrap_or(usize::MAX) };
                let (body, after) = rest.split_at_checked(size).ok_or_else(Fault::cut_off)?;
                container = after;
                Ok((header.id, body))
            },
        );
        if found.is_err() {
            container = &[];
        }
        Some(found)
    })
}

fn of_kind<T: Element>(container: &[u8]) -> impl Iterator<Item = Result<&[u8], Fault>> {
    children(container).filter_map(|found| match found {
        Ok((id, body)) => (id == T::ID).then_some(Ok(body)),
        Err(fault) => Some(Err(fault)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_never_come_out_as_all_ones() {
        for size in [0, 126, 127, 128, 16382, 16383, 16384, 2_097_151] {
            let bytes = element(TagString::ID, &vec![b'a'; size]);
            let found: Vec<_> = children(&bytes).collect::<Result<_, _>>().unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].1.len(), size);
            let size_bytes = &bytes[2..bytes.len() - size];
            let ones: u32 = size_bytes.iter().map(|byte| byte.count_ones()).sum();
            assert!(ones < 7 * size_bytes.len() as u32 + 1, "{size}: {size_bytes:x?}");
        }
    }

    #[test]
    fn cut_elements_are_an_error() {
        let bytes = element(Tags::ID, &[1, 2, 3]);
        assert!(children(&bytes[..bytes.len() - 1]).any(|found| found.is_err()));
        assert!(children(&[0; 3]).any(|found| found.is_err()));
    }
}
