//! The judge at work: clips in, classes and features out.

use std::path::Path;

use burn::tensor::Tensor;

use super::error::EvaluateError;
use crate::gpu::device::ComputeDevice;
use crate::model::judge::{FRAME_STEP, Judge, JudgeConfig, Statistics};
use crate::model::weights::{Loader, WeightSource};
use crate::world::attributes::{Attributes, JUDGED};

const CONFIG: &str = "judge.json";
const WEIGHTS: &str = "judge.safetensors";

/// A judge on a device.
pub struct Bench {
    judge: Judge,
    config: JudgeConfig,
}

/// What was read from clips.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// The likeliest class of each attribute, one entry a clip.
    pub classes: Vec<[usize; JUDGED.len()]>,
    pub features: Vec<Vec<f32>>,
}

impl Readings {
    pub fn extend(&mut self, more: Self) {
        self.classes.extend(more.classes);
        self.features.extend(more.features);
    }

    /// Whether each attribute was read as it was asked for, one entry a clip.
    pub fn hits(&self, asked: &[Attributes]) -> Vec<[bool; JUDGED.len()]> {
        let hit = |(read, asked): (&[usize; JUDGED.len()], &Attributes)| {
            let asked = asked.classes();
            std::array::from_fn(|attribute| read[attribute] == asked[attribute])
        };
        self.classes.iter().zip(asked).map(hit).collect()
    }
}

impl Bench {
    /// The judge in a folder.
    ///
    /// # Errors
    /// There is none, or it reads other attributes than the world has.
    pub fn open(folder: &Path, device: &ComputeDevice) -> Result<Self, EvaluateError> {
        let path = folder.join(CONFIG);
        let missing = |reason: String| EvaluateError::NoJudge { path: folder.to_owned(), reason };
        let unfit = |reason: String| EvaluateError::Judge { path: folder.to_owned(), reason };
        let text = std::fs::read_to_string(&path).map_err(|error| missing(error.kind().to_string()))?;
        let config: JudgeConfig = serde_json::from_str(&text).map_err(|error| unfit(error.to_string()))?;
        if let Some(reason) = config.unsupported() {
            return Err(unfit(reason));
        }
        let reads = config.attributes.iter().map(|(name, values)| (name.as_str(), values.iter().map(String::as_str).collect()));
        if !reads.eq(JUDGED.iter().map(|(name, values)| (*name, values.to_vec()))) {
            return Err(unfit("it reads other attributes than clips of the world have".into()));
        }
        let source = WeightSource::open(&folder.join(WEIGHTS))?;
        let judge = Judge::load(Loader::new(&source, device), &config)?;
        Ok(Self { judge, config })
    }

    /// Frames of a clip that it was made for.
    pub fn takes(&self, frames: usize) -> bool {
        frames.div_ceil(FRAME_STEP) == self.config.frames
    }

    /// Reads whole clips `[clips, frames, height, width, 3]` in [-1, 1].
    ///
    /// # Errors
    /// The device failed.
    pub fn read(&self, video: Tensor<5>) -> Result<Readings, EvaluateError> {
        let [_, frames, ..] = video.dims();
        let seen = (0..frames).step_by(FRAME_STEP).map(|frame| video.clone().narrow(1, frame, 1));
        self.read_seen(Tensor::cat(seen.collect(), 1))
    }

    /// As [`Self::read`], for clips of which only every [`FRAME_STEP`]th frame is given.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_seen(&self, video: Tensor<5>) -> Result<Readings, EvaluateError> {
        let reading = self.judge.forward(video, Statistics::Running);
        let [clips, _] = reading.features.dims();
        let values = |x: Tensor<2>| x.try_into_vec_as::<f32>().map_err(|error| EvaluateError::Device(error.to_string()));
        let (logits, features) = (values(reading.logits)?, values(reading.features)?);
        let classes = logits.chunks_exact(self.config.outputs()).map(|mut logits| {
            JUDGED.map(|(_, values)| {
                let (own, rest) = logits.split_at(values.len());
                logits = rest;
                largest(own)
            })
        });
        let features = features.chunks_exact(self.config.features).map(<[f32]>::to_vec);
        let readings = Readings { classes: classes.collect(), features: features.collect() };
        debug_assert_eq!(readings.classes.len(), clips);
        Ok(readings)
    }
}

/// The place of the largest.
fn largest(values: &[f32]) -> usize {
    (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(0)
}
