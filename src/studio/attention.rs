//! Records of attention that are not at hand: read from disk on a thread of their own, and kept for a while.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{ClipId, Home, Loaded, StudioError};
use crate::clip::{self, WriteOptions};
use crate::generate::GenerateError;
use crate::generate::attention_record::{AttentionRecord, Recording, Scale, draw, to_csv};

/// How runs are recorded unless the person wishes otherwise.
pub const DEFAULT_RECORDING: Option<Recording> = Some(Recording::Sampled);
/// The wish, among the preferences.
pub(super) const PREFERENCE: &str = "record_attention";
/// Records that are kept: all steps of some clips.
const MOST_RECORDS: usize = 512;

/// A step of a clip; steps count from 1.
type Step = (ClipId, usize);
type Records = HashMap<Step, Loaded<AttentionRecord>>;

pub(super) struct AttentionShelf {
    records: Arc<Mutex<Records>>,
    requests: Sender<Step>,
}

impl AttentionShelf {
    /// Starts the thread that reads. `wake` is called when a record has come.
    pub fn start(home: Home, wake: impl Fn() + Send + 'static) -> Result<Self, StudioError> {
        let (requests, waiting) = channel::<Step>();
        let records = Arc::new(Mutex::new(Records::new()));
        let filled = records.clone();
        let work = move || {
            for (clip, step) in waiting {
                let loaded = match attention_of(&home, clip, step) {
                    Ok(record) => Loaded::Ready(Arc::new(record)),
                    Err(error) => Loaded::Failed(error.to_string().into()),
                };
                lock(&filled).insert((clip, step), loaded);
                wake();
            }
        };
        thread::Builder::new().name("tilereel attention".into()).spawn(work).map_err(StudioError::NoThread)?;
        Ok(Self { records, requests })
    }

    /// The record, if it is here; else it is sent for.
    pub fn get(&self, clip: ClipId, step: usize) -> Loaded<AttentionRecord> {
        let mut records = lock(&self.records);
        if let Some(loaded) = records.get(&(clip, step)) {
            return loaded.clone();
        }
        if records.len() >= MOST_RECORDS {
            records.retain(|(other, _), _| *other == clip);
        }
        records.insert((clip, step), Loaded::NotYet);
        // Without its thread nothing ever comes, which a front shows as still loading.
        let _ = self.requests.send((clip, step));
        Loaded::NotYet
    }

    /// Forgets all records of a clip.
    pub fn forget(&self, clip: ClipId) {
        lock(&self.records).retain(|(other, _), _| *other != clip);
    }
}

/// Writes the map of a layer, of one head or of all: every tile in a line of a `.csv`, else a picture.
///
/// # Errors
/// The file cannot be written; nothing is left behind.
pub fn save_attention(
    record: &AttentionRecord,
    layer: usize,
    head: Option<usize>,
    scale: Scale,
    path: &Path,
) -> Result<(), StudioError> {
    let written = if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) {
        clip::write_whole(path, to_csv(&record.rows(layer, head)).as_bytes())
    } else {
        let picture = draw(&[record.heatmap(layer, head)], scale);
        clip::write_clip(path, &picture, None, &WriteOptions::default()).map(drop)
    };
    Ok(written.map_err(GenerateError::from)?)
}

fn lock(records: &Mutex<Records>) -> MutexGuard<'_, Records> {
    records.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The attention of a clip's step, from the library; steps count from 1.
///
/// # Errors
/// It was not recorded, or its file is damaged.
pub fn attention_of(home: &Home, clip: ClipId, step: usize) -> Result<AttentionRecord, StudioError> {
    let path = AttentionRecord::path_in(&home.steps_folder(clip), step);
    if !path.exists() {
        return Err(StudioError::NoAttention { step });
    }
    Ok(AttentionRecord::read(&path)?)
}
