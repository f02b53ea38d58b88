//! Pictures of clips that are not at hand: read from disk on a thread of their own, and kept for a while.
//!
//! A front asks for what it wants to show, as often as it likes, and shows it once it is there.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{ClipId, Home, StudioError};
use crate::clip::{self, Frames, WriteOptions};
use crate::generate::preview::Projection;
use crate::generate::step_record::StepRecord;

/// Pictures that are kept, in bytes.
const MOST_BYTES: usize = 512 << 20;
/// The projection that a clip's steps are shown by, beside them.
const PROJECTION_FILE: &str = "projection.json";
const THUMBNAIL_WIDTH: usize = 192;
const THUMBNAIL_FRAMES: usize = 16;
const THUMBNAIL_QUALITY: f32 = 75.0;

/// Some pictures of a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Picture {
    /// The frames of the clip.
    Frames(ClipId),
    /// A few of them, small.
    Thumbnail(ClipId),
    /// What a step led to by the linear projection, one pixel a latent; steps count from 1.
    Projection(ClipId, usize),
    /// The same through the decoder. Nothing but [`Media::put`] brings it here.
    Decoded(ClipId, usize),
}

/// What became of a request.
#[derive(Debug)]
pub enum Loaded<T = Frames> {
    NotYet,
    Ready(Arc<T>),
    /// Why there is none.
    Failed(Arc<str>),
}

impl<T> Clone for Loaded<T> {
    fn clone(&self) -> Self {
        match self {
            Self::NotYet => Self::NotYet,
            Self::Ready(value) => Self::Ready(value.clone()),
            Self::Failed(reason) => Self::Failed(reason.clone()),
        }
    }
}

impl Loaded {
    pub fn frames(self) -> Option<Arc<Frames>> {
        match self {
            Self::Ready(frames) => Some(frames),
            Self::NotYet | Self::Failed(_) => None,
        }
    }
}

pub struct Media {
    shelf: Arc<Mutex<Shelf>>,
    requests: Sender<Picture>,
}

#[derive(Default)]
struct Shelf {
    pictures: HashMap<Picture, (Loaded, u64)>,
    bytes: usize,
    /// Counts the requests, so that what was not asked for longest goes first.
    clock: u64,
}

impl Media {
    /// Starts the thread that reads. `wake` is called when something has come.
    pub(super) fn start(home: Home, wake: impl Fn() + Send + 'static) -> Result<Self, StudioError> {
        let (requests, waiting) = channel();
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let filled = shelf.clone();
        let work = move || {
            for picture in waiting {
                let loaded = match load(&home, picture) {
                    Ok(frames) => Loaded::Ready(Arc::new(frames)),
                    Err(error) => Loaded::Failed(error.to_string().into()),
                };
                lock(&filled).put(picture, loaded);
                wake();
            }
        };
        thread::Builder::new().name("tilereel pictures".into()).spawn(work).map_err(StudioError::NoThread)?;
        Ok(Self { shelf, requests })
    }

    /// The pictures, if they are here; else they are sent for.
    pub fn get(&self, picture: Picture) -> Loaded {
        let mut shelf = lock(&self.shelf);
        if let Some(loaded) = shelf.get(picture) {
            return loaded;
        }
        if !matches!(picture, Picture::Decoded(..)) {
            shelf.put(picture, Loaded::NotYet);
            // Without its thread nothing ever comes, which a front shows as still loading.
            let _ = self.requests.send(picture);
        }
        Loaded::NotYet
    }

    /// Puts pictures here that are at hand.
    pub fn put(&self, picture: Picture, frames: Arc<Frames>) {
        lock(&self.shelf).put(picture, Loaded::Ready(frames));
    }

    /// Forgets all pictures of a clip.
    pub(super) fn forget(&self, clip: ClipId) {
        lock(&self.shelf).retain(|picture| picture.clip() != clip);
    }
}

impl Picture {
    fn clip(self) -> ClipId {
        match self {
            Self::Frames(clip) | Self::Thumbnail(clip) | Self::Projection(clip, _) | Self::Decoded(clip, _) => clip,
        }
    }
}

impl Shelf {
    fn get(&mut self, picture: Picture) -> Option<Loaded> {
        self.clock += 1;
        let (loaded, used) = self.pictures.get_mut(&picture)?;
        *used = self.clock;
        Some(loaded.clone())
    }

    fn put(&mut self, picture: Picture, loaded: Loaded) {
        self.clock += 1;
        self.bytes += bytes(&loaded);
        if let Some((before, _)) = self.pictures.insert(picture, (loaded, self.clock)) {
            self.bytes -= bytes(&before);
        }
        while self.bytes > MOST_BYTES {
            let others = self.pictures.iter().filter(|&(other, (loaded, _))| *other != picture && bytes(loaded) > 0);
            let Some((&oldest, _)) = others.min_by_key(|(_, (_, used))| *used) else { break };
            self.retain(|other| other != oldest);
        }
    }

    fn retain(&mut self, keep: impl Fn(Picture) -> bool) {
        self.pictures.retain(|&picture, _| keep(picture));
        self.bytes = self.pictures.values().map(|(loaded, _)| bytes(loaded)).sum();
    }
}

fn bytes(loaded: &Loaded) -> usize {
    match loaded {
        Loaded::Ready(frames) => frames.rgb.len(),
        Loaded::NotYet | Loaded::Failed(_) => 0,
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

fn load(home: &Home, picture: Picture) -> Result<Frames, StudioError> {
    match picture {
        Picture::Frames(clip) => Ok(clip::read_frames(&home.clip_file(clip))?),
        Picture::Thumbnail(clip) => {
            let path = home.thumbnail_file(clip);
            if !path.exists() {
                write_thumbnail(&path, &clip::read_frames(&home.clip_file(clip))?)?;
            }
            Ok(clip::read_frames(&path)?)
        }
        Picture::Projection(clip, step) | Picture::Decoded(clip, step) => {
            let folder = home.steps_folder(clip);
            projected_step(&folder, step, &read_projection(&folder)?)
        }
    }
}

/// What a step of a folder led to by the linear projection, one pixel a latent; steps count from 1.
pub(super) fn projected_step(folder: &Path, step: usize, projection: &Projection) -> Result<Frames, StudioError> {
    let record = step_in(folder, step)?;
    if projection.channels() != record.denoised.shape[0] {
        return Err(StudioError::NoSuchStep { step });
    }
    Ok(projection.small_frames(&record.denoised, f64::from(record.recipe.frames_per_second)))
}

/// The record of a clip's step; steps count from 1.
pub(super) fn step_of(home: &Home, clip: ClipId, step: usize) -> Result<StepRecord, StudioError> {
    step_in(&home.steps_folder(clip), step)
}

fn step_in(folder: &Path, step: usize) -> Result<StepRecord, StudioError> {
    let path = StepRecord::path_in(folder, step);
    if !path.exists() {
        return Err(StudioError::NoSuchStep { step });
    }
    Ok(StepRecord::read(&path)?)
}

/// The projection that a folder's steps are shown by.
pub(super) fn read_projection(folder: &Path) -> Result<Projection, StudioError> {
    let path = folder.join(PROJECTION_FILE);
    let text = std::fs::read_to_string(&path).map_err(StudioError::files("read", &path))?;
    Projection::from_json(&text).map_err(|reason| StudioError::files("understood", &path)(std::io::Error::other(reason)))
}

/// Keeps the projection beside the records of the steps that it shows.
pub(super) fn write_projection(folder: &Path, projection: &Projection) -> Result<(), StudioError> {
    let path = folder.join(PROJECTION_FILE);
    std::fs::create_dir_all(folder).map_err(StudioError::files("made", folder))?;
    std::fs::write(&path, projection.to_json()).map_err(StudioError::files("written", path))
}

pub(super) fn write_thumbnail(path: &Path, frames: &Frames) -> Result<(), StudioError> {
    let small = clip::thumbnail(frames, THUMBNAIL_WIDTH, THUMBNAIL_FRAMES)?;
    clip::write_clip(path, &small, None, &WriteOptions { webp_quality: Some(THUMBNAIL_QUALITY), ..WriteOptions::default() })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: usize) -> Loaded {
        Loaded::Ready(Arc::new(Frames { width: 1, height: 1, frames_per_second: 1.0, rgb: vec![0; bytes] }))
    }

    #[test]
    fn the_shelf_stays_small_and_keeps_what_is_looked_at() {
        let mut shelf = Shelf::default();
        let picture = |id| Picture::Frames(ClipId(id));
        for id in 0..8 {
            shelf.put(picture(id), frames(MOST_BYTES / 4));
            shelf.get(picture(0));
            assert!(shelf.bytes <= MOST_BYTES);
        }
        assert!(shelf.get(picture(0)).is_some() && shelf.get(picture(7)).is_some());
        assert!(shelf.get(picture(3)).is_none());
        shelf.put(picture(0), frames(10));
        assert_eq!(shelf.bytes, shelf.pictures.values().map(|(loaded, _)| bytes(loaded)).sum::<usize>());
        // One that is too large for itself is still shown.
        shelf.put(picture(9), frames(MOST_BYTES + 1));
        assert!(shelf.get(picture(9)).is_some());
        assert_eq!(shelf.pictures.len(), 1);
    }
}
