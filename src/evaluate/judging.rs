//! The judge at work: clips in, classes and features out.

use std::path::Path;

use burn::tensor::Tensor;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

use super::consistency::subject_consistency;
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
    /// SHA-256 of its files, in hexadecimal.
    hash: String,
}

/// What was read from clips.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Readings {
    /// The likeliest class of each attribute, one entry a clip.
    pub classes: Vec<[usize; JUDGED.len()]>,
    #[serde(deserialize_with = "rows_or_nan")]
    pub features: Vec<Vec<f32>>,
    /// See [`subject_consistency`].
    #[serde(deserialize_with = "numbers_or_nan")]
    pub subject_consistency: Vec<f64>,
}

/// What is no number is null in JSON: a clip far from all that the judge has seen can take its features beyond the range of f16.
fn numbers_or_nan<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<f64>, D::Error> {
    let numbers = Vec::<Option<f64>>::deserialize(json)?;
    Ok(numbers.into_iter().map(|number| number.unwrap_or(f64::NAN)).collect())
}

fn rows_or_nan<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<Vec<f32>>, D::Error> {
    let rows = Vec::<Vec<Option<f32>>>::deserialize(json)?;
    Ok(rows.into_iter().map(|row| row.into_iter().map(|number| number.unwrap_or(f32::NAN)).collect()).collect())
}

impl Readings {
    pub fn extend(&mut self, more: Self) {
        self.classes.extend(more.classes);
        self.features.extend(more.features);
        self.subject_consistency.extend(more.subject_consistency);
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
        let weights = folder.join(WEIGHTS);
        let source = WeightSource::open(&weights)?;
        let judge = Judge::load(Loader::new(&source, device), &config)?;
        let bytes = std::fs::read(&weights).map_err(|error| missing(error.kind().to_string()))?;
        let hash = Sha256::new().chain_update(text.as_bytes()).chain_update(bytes).finalize();
        Ok(Self { judge, config, hash: hash.iter().map(|byte| format!("{byte:02x}")).collect() })
    }

    /// Tells it from other judges.
    pub fn hash(&self) -> &str {
        &self.hash
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
        self.launch(video).read()
    }

    /// As [`Self::read`], without waiting for the device.
    pub fn launch(&self, video: Tensor<5>) -> OnDevice {
        let [clips, frames, height, width, channels] = video.dims();
        let seen = (0..frames).step_by(FRAME_STEP).map(|frame| video.clone().narrow(1, frame, 1));
        let reading = self.judge.forward(Tensor::cat(seen.collect(), 1), Statistics::Running);
        let of_frames = self.judge.features_of_stills(video.reshape([clips * frames, height, width, channels]));
        OnDevice { logits: reading.logits, features: reading.features, of_frames, frames }
    }
}

/// What the judge makes of clips, on the device until it is read.
pub struct OnDevice {
    /// `[clips, outputs]`
    logits: Tensor<2>,
    /// `[clips, features]`
    features: Tensor<2>,
    /// `[clips * frames, features]`
    of_frames: Tensor<2>,
    frames: usize,
}

impl OnDevice {
    /// # Errors
    /// The device failed.
    pub fn read(self) -> Result<Readings, EvaluateError> {
        let ([clips, outputs], [_, features_a_clip]) = (self.logits.dims(), self.features.dims());
        let values = |x: Tensor<2>| x.try_into_vec_as::<f32>().map_err(|error| EvaluateError::Device(error.to_string()));
        let (logits, features, of_frames) = (values(self.logits)?, values(self.features)?, values(self.of_frames)?);
        let classes = logits.chunks_exact(outputs).map(|mut logits| {
            JUDGED.map(|(_, values)| {
                let (own, rest) = logits.split_at(values.len());
                logits = rest;
                largest(own)
            })
        });
        let rows = |values: &[f32]| values.chunks_exact(features_a_clip).map(<[f32]>::to_vec).collect::<Vec<_>>();
        let consistency =
            of_frames.chunks_exact(self.frames * features_a_clip).map(|of_clip| subject_consistency(&rows(of_clip)));
        let readings =
            Readings { classes: classes.collect(), features: rows(&features), subject_consistency: consistency.collect() };
        debug_assert_eq!(readings.classes.len(), clips);
        Ok(readings)
    }
}

/// The place of the largest.
fn largest(values: &[f32]) -> usize {
    (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{self, DeviceChoice};
    use crate::model::latent::ClipSize;
    use crate::model::weights::InitialValues;
    use crate::world::attributes::{Camera, Colour, Motion, Shape};
    use crate::world::renderer::render_every;
    use crate::world::scene::Scene;
    use crate::world::seeds;

    const SIZE: ClipSize = ClipSize { frames: 9, width: 64, height: 48 };

    /// Weights that nobody has trained: features differ where pictures do.
    #[derive(Debug)]
    struct Drawn;

    impl InitialValues for Drawn {
        fn values(&self, name: &str, shape: &[usize]) -> Vec<f32> {
            let inputs = shape[1..].iter().product::<usize>().max(1) as f32;
            let value = |place: u64| match name {
                _ if name.ends_with("running_variance") || name.ends_with("norm.weight") => 1.0,
                _ if name.ends_with("weight") => crate::model::noise::normal(7, name.len() as u64, place) / inputs.sqrt(),
                _ => 0.0,
            };
            (0..shape.iter().product::<usize>() as u64).map(value).collect()
        }
    }

    fn bench(device: &ComputeDevice) -> Bench {
        let attributes =
            JUDGED.iter().map(|(name, values)| (name.to_string(), values.iter().map(|value| value.to_string()).collect()));
        let config = JudgeConfig { channels: [8, 8, 8, 8, 8], features: 12, frames: 5, attributes: attributes.collect() };
        let judge = Judge::load(Loader::initial(&Drawn, device), &config).expect("a judge");
        Bench { judge, config, hash: String::new() }
    }

    /// One frame of the world, `[1, 1, height, width, 3]`.
    fn frame(attributes: Attributes, device: &ComputeDevice) -> Tensor<5> {
        render_every(&[Scene::with_attributes(seeds::STATISTICS, 3, attributes)], SIZE, SIZE.frames, &device.device)
    }

    #[test]
    fn readings_that_are_no_numbers_can_be_kept() {
        let readings = Readings {
            classes: vec![[1; JUDGED.len()]; 2],
            features: vec![vec![0.5, f32::NAN], vec![f32::INFINITY, 2.0]],
            subject_consistency: vec![f64::NAN, 0.5],
        };
        let kept = serde_json::to_string(&readings).expect("JSON");
        let back: Readings = serde_json::from_str(&kept).expect("readings");
        assert_eq!(back.classes, readings.classes);
        assert!(back.features[0][0] == 0.5 && back.features[0][1].is_nan() && back.features[1][0].is_nan());
        assert!(back.subject_consistency[0].is_nan() && back.subject_consistency[1] == 0.5);
    }

    #[test]
    fn clips_are_consistent_as_far_as_their_object_stays_the_same() {
        let device = device::open(&DeviceChoice::Cpu, None).expect("the CPU");
        let bench = bench(&device);
        let red_ball = Attributes {
            shape: Shape::Ball,
            colour: Colour::Red,
            motion: Motion::StaysStill,
            camera: Camera::Static,
            second: None,
            ..Attributes::of_clip(seeds::STATISTICS, 3)
        };
        let blue_cube = Attributes { shape: Shape::Cube, colour: Colour::Blue, ..red_ball };
        let [red, blue] = [red_ball, blue_cube].map(|attributes| frame(attributes, &device));
        let clip = |is_blue: &dyn Fn(usize) -> bool| {
            Tensor::cat((0..SIZE.frames).map(|at| if is_blue(at) { blue.clone() } else { red.clone() }).collect(), 1)
        };
        let (still, changes, blinks) = (clip(&|_| false), clip(&|at| at >= 4), clip(&|at| at == 4));
        let read = bench.read(Tensor::cat(vec![still, changes.clone(), blinks], 0)).expect("readings");
        let [still, changed, blinked] = read.subject_consistency[..] else { panic!("three clips") };
        assert!((still - 1.0).abs() < 1e-6, "{still}");
        assert!(changed < blinked && blinked < 1.0 - 1e-3, "{changed} {blinked}");

        // By force: every frame as the clip that shows it alone, and the definition in full.
        let features: Vec<Vec<f64>> = (0..SIZE.frames)
            .map(|at| {
                let alone = changes.clone().narrow(1, at, 1).repeat_dim(1, bench.config.frames);
                let features: Vec<f32> =
                    bench.judge.forward(alone, Statistics::Running).features.try_into_vec_as().expect("values");
                let length = features.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
                features.iter().map(|&value| f64::from(value) / length).collect()
            })
            .collect();
        let product = |a: usize, b: usize| features[a].iter().zip(&features[b]).map(|(a, b)| a * b).sum::<f64>().max(0.0);
        let both = (1..SIZE.frames).map(|at| 0.5 * product(0, at) + 0.5 * product(at - 1, at));
        let want = both.sum::<f64>() / (SIZE.frames - 1) as f64;
        assert!((changed - want).abs() < 1e-5, "{changed} {want}");
    }
}
