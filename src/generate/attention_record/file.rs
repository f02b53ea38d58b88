//! The file of a record: a 16-bit grey PNG beside the step's, whose samples are the bits of f16 numbers.
//!
//! PNG because it compresses such tables well and every program reads it (numbers from 0 to 1 as f16 bits grow with the number,
//! so that it even shows them). A row of a query frame lies beside those of the other heads; below each other lie the query
//! frames, the layers, and then all of it again for the standard errors. An international text says the rest as JSON, with a
//! SHA-256 over everything.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::f16;
use png::text_metadata::ITXtChunk;
use png::{BitDepth, ColorType, Compression, DecodeOptions, Decoder, Encoder, Info, Limits};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::values::{Halves, Values};
use super::{AttentionRecord, Recording};
use crate::generate::GenerateError;
use crate::mask::MaskPlan;

const KEYWORD: &str = "tilereel:attention";
const FORMAT: u64 = 1;
/// A damaged file must not ask for memory without end. The published model fills 4 MB at 93 frames.
const MOST_BYTES: usize = 1 << 30;
const MOST_HEADS: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Description {
    format: u64,
    call: usize,
    recording: Recording,
    heads: usize,
    plan: String,
    #[serde(default)]
    sha256: String,
}

impl AttentionRecord {
    /// Where a run's folder has the attention of its step; steps count from 1, as `step-NNNN.safetensors` does.
    pub fn path_in(folder: &Path, step: usize) -> PathBuf {
        folder.join(format!("attention-{step:04}.png"))
    }

    /// Writes the record into the run's folder, which is made if it is not there.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), GenerateError> {
        let path = Self::path_in(folder, self.call + 1);
        // The kind alone: the whole error would name the temporary file.
        let failed =
            |source: std::io::Error| GenerateError::RecordNotWritten { path: path.clone(), source: source.kind().into() };
        fs::create_dir_all(folder).map_err(failed)?;
        let bytes = self.to_bytes().map_err(|reason| failed(std::io::Error::other(reason)))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Writes the record of a call, or removes one that an earlier run has left in its place.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(in crate::generate) fn write_or_remove(record: Option<&Self>, folder: &Path, call: usize) -> Result<(), GenerateError> {
        if let Some(record) = record {
            return record.write(folder);
        }
        let path = Self::path_in(folder, call + 1);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(GenerateError::RecordNotWritten { path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// The file is not a whole record.
    pub fn read(path: &Path) -> Result<Self, GenerateError> {
        let bytes = fs::read(path).map_err(|error| error.to_string());
        bytes
            .and_then(|bytes| Self::from_bytes(&bytes))
            .map_err(|reason| GenerateError::AttentionRecord { path: path.to_owned(), reason })
    }

    /// Width and height of the picture.
    fn size(&self) -> [usize; 2] {
        [self.heads * self.frames(), 2 * self.layers() * self.frames()]
    }

    fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let [width, height] = self.size();
        let mut samples = Vec::with_capacity(2 * width * height);
        let Halves { mass, standard_error } = self.values.halves();
        for values in [mass, standard_error] {
            for row in 0..self.layers() * self.frames() {
                let (layer, query_frame) = (row / self.frames(), row % self.frames());
                for head in 0..self.heads {
                    let first = ((layer * self.heads + head) * self.frames() + query_frame) * self.frames();
                    samples.extend(values[first..][..self.frames()].iter().flat_map(|value| value.to_bits().to_be_bytes()));
                }
            }
        }
        let plan = self.plan.to_json().map_err(|error| error.to_string())?;
        let mut description = Description {
            format: FORMAT,
            call: self.call,
            recording: self.recording,
            heads: self.heads,
            plan,
            sha256: String::new(),
        };
        description.sha256 = checksum(&description, &samples)?;

        let mut info = Info::with_size(u32::try_from(width).map_err(text)?, u32::try_from(height).map_err(text)?);
        (info.color_type, info.bit_depth) = (ColorType::Grayscale, BitDepth::Sixteen);
        let mut chunk = ITXtChunk::new(KEYWORD, serde_json::to_string(&description).map_err(text)?);
        chunk.compressed = true;
        info.utf8_text.push(chunk);
        let mut file = Vec::new();
        let mut encoder = Encoder::with_info(&mut file, info).map_err(text)?;
        encoder.set_compression(Compression::High);
        let mut writer = encoder.write_header().map_err(text)?;
        writer.write_image_data(&samples).map_err(text)?;
        writer.finish().map_err(text)?;
        Ok(file)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let damaged = |error: png::DecodingError| format!("it is damaged ({error})");
        let mut options = DecodeOptions::default();
        options.set_skip_ancillary_crc_failures(false);
        let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
        decoder.set_limits(Limits { bytes: MOST_BYTES });
        let mut reader = decoder.read_info().map_err(damaged)?;
        let mut chunk = reader.info().utf8_text.iter().find(|chunk| chunk.keyword == KEYWORD).cloned().ok_or("it is none")?;
        chunk.decompress_text_with_limit(MOST_BYTES).map_err(damaged)?;
        let mut description: Description = serde_json::from_str(&chunk.get_text().map_err(damaged)?).map_err(text)?;
        if description.format != FORMAT {
            return Err(format!("it has format {} and was written by a newer program", description.format));
        }
        let bytes = reader.output_buffer_size().filter(|&bytes| bytes <= MOST_BYTES).ok_or("its picture fills gigabytes")?;
        let mut samples = vec![0; bytes];
        let output = reader.next_frame(&mut samples).map_err(damaged)?;
        samples.truncate(output.buffer_size());
        let told = std::mem::take(&mut description.sha256);
        if told != checksum(&description, &samples)? {
            return Err("its checksum is wrong: the file is damaged".into());
        }
        let plan = MaskPlan::from_json(&description.plan).map_err(text)?;
        if description.heads == 0 || description.heads > MOST_HEADS {
            return Err(format!("it has {} heads", description.heads));
        }
        let mut record = Self {
            call: description.call,
            recording: description.recording,
            plan: Arc::new(plan),
            heads: description.heads,
            values: Values::of_halves(Halves::default()),
        };
        let ([width, height], frames, heads) = (record.size(), record.frames(), record.heads);
        if (output.color_type, output.bit_depth) != (ColorType::Grayscale, BitDepth::Sixteen)
            || [output.width as usize, output.height as usize] != [width, height]
        {
            return Err(format!("its picture is not {width} x {height} of 16-bit grey"));
        }
        let sample = |x: usize, y: usize| {
            let at = 2 * (y * width + x);
            f16::from_bits(u16::from_be_bytes([samples[at], samples[at + 1]]))
        };
        let values = |first_row: usize| {
            let tile = move |tile: usize| {
                let (key_frame, query_frame, of_layer) = (tile % frames, tile / frames % frames, tile / (frames * frames));
                let (head, layer) = (of_layer % heads, of_layer / heads);
                sample(head * frames + key_frame, first_row + layer * frames + query_frame)
            };
            (0..width * height / 2).map(tile).collect::<Vec<f16>>()
        };
        record.values = Values::of_halves(Halves { mass: values(0), standard_error: values(height / 2) });
        Ok(record)
    }
}

/// Over the description without its own sum, and the samples.
fn checksum(description: &Description, samples: &[u8]) -> Result<String, String> {
    let mut sum = Sha256::new();
    sum.update(serde_json::to_vec(description).map_err(text)?);
    sum.update(samples);
    Ok(sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::MaskPlan;

    fn record() -> AttentionRecord {
        let plan = MaskPlan::uniform(3, 4, "1:3").unwrap();
        let values: Vec<f32> = (0..3 * 2 * 16).map(|index| index as f32 / 512.0).collect();
        let errors: Vec<f32> = values.iter().rev().map(|value| value / 64.0).collect();
        AttentionRecord::new(4, Recording::Sampled, Arc::new(plan), 2, &values, &errors)
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let record = record();
        record.write(folder.path()).unwrap();
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["attention-0005.png"], "nothing else is left behind");
        let path = AttentionRecord::path_in(folder.path(), 5);
        assert_eq!(AttentionRecord::read(&path).unwrap(), record);
        // Any other program sees the numbers too: the sixth key frame entry of layer 1, head 1, query frame 2.
        let mut reader = Decoder::new(Cursor::new(fs::read(&path).unwrap())).read_info().unwrap();
        let mut samples = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut samples).unwrap();
        let at = 2 * ((4 + 2) * 8 + 4 + 3);
        let value = f16::from_bits(u16::from_be_bytes([samples[at], samples[at + 1]]));
        assert_eq!(value.to_f32(), record.mass(1, Some(1)).at(2, 3));
        AttentionRecord::write_or_remove(None, folder.path(), 4).unwrap();
        AttentionRecord::write_or_remove(None, folder.path(), 4).unwrap();
        assert!(!path.exists());
    }

    /// Whatever byte is changed or wherever the file is cut: an error that names the file, never another record.
    #[test]
    fn damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (path, record) = (folder.path().join("attention-0005.png"), record());
        let bytes = record.to_bytes().unwrap();
        let mut kinds = std::collections::BTreeSet::new();
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x10;
            for contents in [&broken[..], &bytes[..at]] {
                fs::write(&path, contents).unwrap();
                match AttentionRecord::read(&path) {
                    Ok(read) => assert_eq!(read, record, "byte {at}"),
                    Err(error) => {
                        assert!(error.to_string().contains("attention-0005.png"), "{error}");
                        kinds.insert(error.to_string().split(" (").next().unwrap_or_default().to_owned());
                    }
                }
            }
        }
        println!("{kinds:#?}");
        // The checksum alone finds what a careless program changed.
        let mut info = Description {
            format: 1,
            call: 0,
            recording: Recording::Exact,
            heads: 2,
            plan: record.plan.to_json().unwrap(),
            sha256: String::new(),
        };
        let sum = checksum(&info, &[1, 2]).unwrap();
        info.heads = 3;
        assert_ne!(checksum(&info, &[1, 2]).unwrap(), sum);
    }
}
