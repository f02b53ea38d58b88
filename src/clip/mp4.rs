//! MP4 files (ISO base media): one H.264 track, the index before the pictures, the recipe among the metadata keys.

use mp4_atom::{
    Any, Atom, Avc1, Avcc, Codec, Colr, Decode, Dinf, Dref, Encode, FourCC, Ftyp, Hdlr, Header, Ilst, IlstData, IlstDataValue,
    KeyEntry, Keys, Mdhd, Mdia, Meta, Minf, Moov, Mvhd, Stbl, Stco, Stsc, StscEntry, Stsd, Stss, Stsz, StszSamples, Stts,
    SttsEntry, Tkhd, Trak, Udta, Url, Visual, Vmhd,
};

use super::error::{Fault, Unfinished};
use super::frames::Frames;
use super::h264::{self, AccessUnit, PictureDecoder, Stream};
use super::progress::Meter;
use super::rate::FrameRate;
use super::yuv::Planes;
use super::{MOST_FRAME_BYTES, SOFTWARE};

const RECIPE_KEY: &str = "tilereel.recipe";
/// H.273 code points, as the `colr` box and the H.264 header carry them.
const BT709: u16 = 1;

/// An MP4 file with the frames `copies` times one after the other, and a remark where the picture had to grow to even sides.
///
/// # Errors
/// Words of the encoder; or it was stopped.
pub(super) fn encode(
    frames: &Frames,
    rate: FrameRate,
    recipe: Option<&str>,
    copies: usize,
    meter: Meter<'_>,
) -> Result<(Vec<u8>, Option<String>), Unfinished> {
    // 4:2:0 H.264 counts its sides, and its cropping, in steps of two pixels.
    let sides = (frames.width.next_multiple_of(2), frames.height.next_multiple_of(2));
    let (longer, shorter) = (sides.0.max(sides.1), sides.0.min(sides.1));
    if shorter < h264::LEAST_SIDE || longer > h264::LARGEST_SIDES.0 || shorter > h264::LARGEST_SIDES.1 {
        return Err(format!(
            "{}x{} pixels is outside of what H.264 takes here, {least}x{least} to {}x{}; gif, apng, webp and png take it",
            frames.width,
            frames.height,
            h264::LARGEST_SIDES.0,
            h264::LARGEST_SIDES.1,
            least = h264::LEAST_SIDE,
        )
        .into());
    }
    let note = (sides != (frames.width, frames.height)).then(|| {
        format!(
            "H.264 needs even sides: the last column or row is repeated, {}x{} instead of {}x{}",
            sides.0, sides.1, frames.width, frames.height
        )
    });

    let pictures = frames.repeated(copies).map(|rgb| Planes::from_rgb(rgb, (frames.width, frames.height), sides));
    let frames_per_second = rate.frames_per_second();
    let key_frame_interval = (2.0 * frames_per_second).floor().max(1.0) as u32;
    let stream = h264::encode(pictures, frames_per_second, key_frame_interval, meter)?;
    let file = multiplex(&stream, sides, rate, recipe).map_err(|error| error.to_string())?;
    Ok((file, note))
}

fn multiplex(stream: &Stream, sides: (usize, usize), rate: FrameRate, recipe: Option<&str>) -> mp4_atom::Result<Vec<u8>> {
    let mut file = Vec::new();
    Ftyp {
        major_brand: FourCC::new(b"isom"),
        minor_version: 0x200,
        compatible_brands: [b"isom", b"iso2", b"avc1", b"mp41"].map(FourCC::new).to_vec(),
    }
    .encode(&mut file)?;

    let mut samples = Vec::new();
    let mut sizes = Vec::with_capacity(stream.access_units.len());
    for unit in &stream.access_units {
        let before = samples.len();
        for nal_unit in &unit.nal_units {
            // Behind its length in four bytes, as `avcC` says.
            samples.extend_from_slice(&(nal_unit.len() as u32).to_be_bytes());
            samples.extend_from_slice(nal_unit);
        }
        sizes.push((samples.len() - before) as u32);
    }

    // The place of the pictures depends on the size of the index before them, which does not depend on the place.
    let mut moov = movie(stream, sides, rate, sizes, recipe)?;
    let mut index = Vec::new();
    moov.encode(&mut index)?;
    let mdat = FourCC::new(b"mdat");
    let header_bytes = 8;
    let first_sample = u32::try_from(file.len() + index.len() + header_bytes)
        .ok()
        .filter(|start| u32::try_from(samples.len() + *start as usize).is_ok())
        .ok_or(mp4_atom::Error::TooLarge(mdat))?;
    moov.trak[0].mdia.minf.stbl.stco = Some(Stco { entries: vec![first_sample] });
    moov.encode(&mut file)?;
    Header { kind: mdat, size: Some(samples.len()) }.encode(&mut file)?;
    file.extend_from_slice(&samples);
    Ok(file)
}

/// The index. Times are zero: a file says nothing about when it was made, and equal frames make equal files.
fn movie(
    stream: &Stream,
    (width, height): (usize, usize),
    rate: FrameRate,
    sizes: Vec<u32>,
    recipe: Option<&str>,
) -> mp4_atom::Result<Moov> {
    let count = sizes.len() as u32;
    let duration = u64::from(count) * u64::from(rate.ticks_per_frame);
    let (width, height) = (width as u16, height as u16);
    let track_id = 1;
    let picture_format = Codec::from(Avc1 {
        visual: Visual { data_reference_index: 1, width, height, ..Default::default() },
        avcc: Avcc::new(&stream.sequence_parameter_set, &stream.picture_parameter_set)?,
        colr: Some(Colr::new(BT709, BT709, BT709, false)?),
        ..Default::default()
    });
    let is_key_frame = |(index, unit): (usize, &AccessUnit)| unit.is_key_frame.then_some(index as u32 + 1);
    let table = Stbl {
        stsd: Stsd { codecs: vec![picture_format] },
        stts: Stts { entries: vec![SttsEntry { sample_count: count, sample_delta: rate.ticks_per_frame }] },
        stss: Some(Stss { entries: stream.access_units.iter().enumerate().filter_map(is_key_frame).collect() }),
        stsc: Stsc { entries: vec![StscEntry { first_chunk: 1, samples_per_chunk: count, sample_description_index: 1 }] },
        stsz: Stsz { samples: StszSamples::Different { sizes } },
        stco: Some(Stco { entries: vec![0] }),
        ..Default::default()
    };
    let track = Trak {
        tkhd: Tkhd {
            track_id,
            duration,
            enabled: true,
            in_movie: true,
            width: width.into(),
            height: height.into(),
            ..Default::default()
        },
        mdia: Mdia {
            mdhd: Mdhd { timescale: rate.ticks_per_second, duration, language: "und".to_owned(), ..Default::default() },
            hdlr: Hdlr { handler: FourCC::new(b"vide"), name: "video".to_owned() },
            minf: Minf {
                vmhd: Some(Vmhd::default()),
                dinf: Dinf { dref: Dref { entries: vec![mp4_atom::DrefEntry::Url(Url::default())] } },
                stbl: table,
                ..Default::default()
            },
        },
        ..Default::default()
    };
    Ok(Moov {
        mvhd: Mvhd {
            creation_time: 0,
            modification_time: 0,
            timescale: rate.ticks_per_second,
            duration,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: track_id + 1,
            matrix: Default::default(),
        },
        trak: vec![track],
        udta: Some(Udta { meta: Some(metadata(recipe)), ..Default::default() }),
        ..Default::default()
    })
}

/// Free-form metadata keys, which players and ffprobe show by name.
fn metadata(recipe: Option<&str>) -> Meta {
    let mut pairs = vec![("software", SOFTWARE)];
    if let Some(recipe) = recipe {
        pairs.push(("comment", "the recipe of this clip is in tilereel.recipe"));
        pairs.push((RECIPE_KEY, recipe));
    }
    let namespace = FourCC::new(b"mdta");
    let keys = Keys {
        entries: pairs.iter().map(|(key, _)| KeyEntry { key_namespace: namespace, key_value: (*key).to_owned() }).collect(),
    };
    let values = Ilst {
        mdta: (1..)
            .zip(&pairs)
            .map(|(index, (_, value))| {
                let value = IlstDataValue::Utf8((*value).to_owned());
                let data = IlstData { country_indicator: 0, language_indicator: 0, value };
                (index, data)
            })
            .collect(),
        ..Default::default()
    };
    Meta { hdlr: Hdlr { handler: namespace, name: String::new() }, items: vec![Any::from(keys), Any::from(values)] }
}

/// The recipe among the metadata keys.
pub(super) fn read_recipe(file: &[u8]) -> Result<Option<String>, Fault> {
    let index = child(file, b"moov")?.ok_or_else(|| Fault::damaged("it has no index"))?;
    let Some(user_data) = child(index, b"udta")? else {
        return Ok(None);
    };
    let Some(meta) = child(user_data, b"meta")? else {
        return Ok(None);
    };
    // Version and flags lie before the boxes of `meta`.
    let boxes = meta.get(4..).ok_or_else(Fault::cut_off)?;
    let (Some(keys), Some(values)) = (child(boxes, b"keys")?, child(boxes, b"ilst")?) else {
        return Ok(None);
    };
    let keys = Keys::decode_body(&mut &*keys).map_err(fault)?;
    let Some(position) = keys.entries.iter().position(|entry| entry.key_value == RECIPE_KEY) else {
        return Ok(None);
    };
    let item = child(values, &(position as u32 + 1).to_be_bytes())?
        .ok_or_else(|| Fault::damaged("its recipe has a name but no value"))?;
    let data = child(item, b"data")?.ok_or_else(|| Fault::damaged("its recipe has no value"))?;
    // The kind of the value and its language take eight bytes.
    let text = data.get(8..).ok_or_else(Fault::cut_off)?;
    String::from_utf8(text.to_vec()).map(Some).map_err(|_| Fault::damaged("its recipe is no text"))
}

/// Decodes the first video track.
pub(super) fn read_frames(file: &[u8]) -> Result<Frames, Fault> {
    let index = child(file, b"moov")?.ok_or_else(|| Fault::damaged("it has no index"))?;
    let media = video_track(index)?.ok_or_else(|| Fault::unsupported("it has no video track"))?;
    let header: Mdhd = required(media, Mdhd::KIND)?;
    let table = child(media, b"minf")?
        .map(|information| child(information, b"stbl"))
        .transpose()?
        .flatten()
        .ok_or_else(|| Fault::damaged("its video track has no table of pictures"))?;
    if child(table, b"ctts")?.is_some() {
        return Err(Fault::unsupported("its pictures are stored out of order"));
    }
    let configuration = decoder_configuration(table)?;
    let samples = sample_slices(file, table)?;
    let times: Stts = required(table, Stts::KIND)?;

    let sets = configuration.sequence_parameter_sets.iter().chain(&configuration.picture_parameter_sets).map(Vec::as_slice);
    let mut decoder = PictureDecoder::new(sets)?;
    let mut rgb = Vec::new();
    let mut sides = None;
    for &sample in &samples {
        let units = nal_units(sample, usize::from(configuration.length_size))?;
        let got = decoder.append_picture(units.into_iter(), &mut rgb)?;
        if *sides.get_or_insert(got) != got {
            return Err(Fault::unsupported("its pictures change their size"));
        }
        if rgb.len() > MOST_FRAME_BYTES {
            return Err(Fault::TooLarge("its frames fill gigabytes".to_owned()));
        }
    }
    let (width, height) = sides.ok_or_else(|| Fault::damaged("it holds no frame"))?;
    let ticks: u64 = times
        .entries
        .iter()
        .map(|entry| u64::from(entry.sample_count) * u64::from(entry.sample_delta))
        .fold(0, u64::saturating_add);
    if ticks == 0 {
        return Err(Fault::damaged("its pictures last no time"));
    }
    Ok(Frames { width, height, frames_per_second: samples.len() as f64 * f64::from(header.timescale) / ticks as f64, rgb })
}

/// The `mdia` box of the first video track.
fn video_track(index: &[u8]) -> Result<Option<&[u8]>, Fault> {
    for found in boxes(index) {
        let (kind, track) = found?;
        if kind != *b"trak" {
            continue;
        }
        let Some(media) = child(track, b"mdia")? else {
            continue;
        };
        let handler: Hdlr = required(media, Hdlr::KIND)?;
        if handler.handler == FourCC::new(b"vide") {
            return Ok(Some(media));
        }
    }
    Ok(None)
}

/// The parameter sets of the first picture format, which must be H.264.
fn decoder_configuration(table: &[u8]) -> Result<Avcc, Fault> {
    /// Version, flags and the number of formats.
    const LIST_HEADER: usize = 8;
    /// The fixed fields of a picture format before its boxes.
    const VISUAL_HEADER: usize = 78;
    let formats = child(table, b"stsd")?.and_then(|list| list.get(LIST_HEADER..)).ok_or_else(Fault::cut_off)?;
    let format = child(formats, b"avc1")?.ok_or_else(|| Fault::unsupported("its pictures are not coded as H.264"))?;
    required(format.get(VISUAL_HEADER..).ok_or_else(Fault::cut_off)?, Avcc::KIND)
}

/// Where every coded picture lies in the file.
fn sample_slices<'a>(file: &'a [u8], table: &[u8]) -> Result<Vec<&'a [u8]>, Fault> {
    let sizes: Stsz = required(table, Stsz::KIND)?;
    let runs: Stsc = required(table, Stsc::KIND)?;
    let chunks: Stco = required(table, Stco::KIND)?;
    let size_of = |index: usize| match &sizes.samples {
        StszSamples::Identical { count, size } => (index < *count as usize).then_some(*size),
        StszSamples::Different { sizes } => sizes.get(index).copied(),
    };
    let mut samples = Vec::new();
    let mut run = 0;
    for (chunk, &start) in (1..).zip(&chunks.entries) {
        while runs.entries.get(run + 1).is_some_and(|next| next.first_chunk <= chunk) {
            run += 1;
        }
        let per_chunk = runs.entries.get(run).map_or(0, |run| run.samples_per_chunk);
        let mut at = start as usize;
        for _ in 0..per_chunk {
            let Some(size) = size_of(samples.len()).map(|size| size as usize) else {
                break;
            };
            let end = at.checked_add(size).ok_or_else(Fault::cut_off)?;
            samples.push(file.get(at..end).ok_or_else(Fault::cut_off)?);
            // Every picture takes bytes of its own, which bounds the list by the file.
            if size == 0 {
                return Err(Fault::damaged("a picture of it is empty"));
            }
            at = end;
        }
    }
    Ok(samples)
}

fn nal_units(mut sample: &[u8], length_bytes: usize) -> Result<Vec<&[u8]>, Fault> {
    let mut units = Vec::new();
    while !sample.is_empty() {
        let (length, rest) = sample.split_at_checked(length_bytes).ok_or_else(Fault::cut_off)?;
        let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        let (unit, rest) = rest.split_at_checked(length).ok_or_else(Fault::cut_off)?;
        units.push(unit);
        sample = rest;
    }
    Ok(units)
}

/// The boxes of a container, as kind and contents. Only the boxes on the way to what is needed are looked into, so
/// a damaged or unknown box elsewhere does not matter.
fn boxes(mut container: &[u8]) -> impl Iterator<Item = Result<([u8; 4], &[u8]), Fault>> {
    std::iter::from_fn(move || {
        if container.is_empty() {
            return None;
        }
        let mut rest = container;
        let found = Header::decode(&mut rest).map_err(fault).and_then(|header| {
            let size = header.size.unwrap_or(rest.len());
            let (body, after) = rest.split_at_checked(size).ok_or_else(Fault::cut_off)?;
            container = after;
            Ok((<[u8; 4]>::from(header.kind), body))
        });
        if found.is_err() {
            container = &[];
        }
        Some(found)
    })
}

/// The contents of the first box of a kind.
fn child<'a>(container: &'a [u8], kind: &[u8; 4]) -> Result<Option<&'a [u8]>, Fault> {
    for found in boxes(container) {
        let (found_kind, body) = found?;
        if found_kind == *kind {
            return Ok(Some(body));
        }
    }
    Ok(None)
}

fn required<T: Atom>(container: &[u8], kind: FourCC) -> Result<T, Fault> {
    let body = child(container, &<[u8; 4]>::from(kind))?.ok_or_else(|| Fault::damaged(format!("its box {kind} is missing")))?;
    T::decode_body(&mut &*body).map_err(fault)
}

fn fault(error: mp4_atom::Error) -> Fault {
    Fault::damaged(error.to_string())
}
