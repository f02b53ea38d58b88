//! How good a model is: its clips through the eyes of the judge, its VAE by decibels.
//!
//! Prompts name every attribute of a clip, and the judge says which of them it sees. What it sees in real clips, as they are
//! and through the VAE, is the ceiling. Features of real and generated clips give a Frechet distance. All means have intervals.

pub mod bootstrap;
mod error;
pub mod frechet;
mod judging;
mod model;
mod report;

use burn::tensor::Tensor;
use serde::Serialize;

use crate::gpu::device::ComputeDevice;
use crate::model::judge::FRAME_STEP;
use crate::model::vae::to_rgb8;
use crate::world::attributes::{Attributes, JUDGED};
use crate::world::grammar::{Detail, caption};
use crate::world::renderer::{render_clips, render_every};
use crate::world::scene::Scene;
use crate::world::seeds;
use bootstrap::{Estimate, estimate, paired_difference};

pub use error::EvaluateError;
pub use judging::{Bench, Readings};
pub use model::{EvaluatedModel, Overrides};

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amounts {
    /// Prompts, each for one clip of every model.
    pub prompts: usize,
    /// Held-out clips for the ceiling and the Frechet distance.
    pub real: usize,
    /// Held-out clips for the VAE's decibels.
    pub decoded: usize,
    /// Prompts that are sampled together.
    pub batch: usize,
}

/// Sees how far it is, and may stop it.
pub trait Watcher {
    fn doing(&mut self, what: &str, share: f64);
    fn stops(&self) -> bool;
}

/// One row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub clips: usize,
    /// Share of the clips in which an attribute was read as asked, in the order of the world's.
    pub attributes: Vec<(&'static str, Estimate)>,
    /// Mean of the attributes.
    pub mean: Estimate,
    /// All at once.
    pub all: Estimate,
    /// From real clips through the same VAE.
    pub frechet: Option<f64>,
    #[serde(skip)]
    hits: Vec<[bool; JUDGED.len()]>,
}

impl Row {
    fn of(name: String, readings: &Readings, asked: &[Attributes]) -> Self {
        let hits = readings.hits(asked);
        let share = |of: &dyn Fn(&[bool; JUDGED.len()]) -> f64| estimate(&hits.iter().map(of).collect::<Vec<f64>>());
        let attribute = |index: usize| share(&|hits| f64::from(u8::from(hits[index])));
        Self {
            name,
            clips: hits.len(),
            attributes: JUDGED.iter().enumerate().map(|(index, (name, _))| (*name, attribute(index))).collect(),
            mean: share(&mean_of),
            all: share(&|hits| f64::from(u8::from(hits.iter().all(|&hit| hit)))),
            frechet: None,
            hits,
        }
    }
}

fn mean_of(hits: &[bool; JUDGED.len()]) -> f64 {
    hits.iter().filter(|&&hit| hit).count() as f64 / hits.len() as f64
}

/// The table, and what belongs beside it.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    pub device: String,
    pub rows: Vec<Row>,
    /// Mean over the attributes, first model minus second, on the same prompts and noise.
    pub difference: Option<Estimate>,
    pub vaes: Vec<VaeQuality>,
}

/// How near decoded clips are to what was encoded, in decibels over 8-bit pixels.
#[derive(Clone, Debug, Serialize)]
pub struct VaeQuality {
    pub name: String,
    pub clips: usize,
    pub psnr: Estimate,
    pub worst: f64,
    pub best: f64,
}

/// Evaluates models with one judge. Every model must make clips of the size that the judge was made for.
///
/// # Errors
/// The device failed, or the watcher stopped it.
pub fn evaluate(
    models: &[EvaluatedModel],
    bench: &Bench,
    amounts: Amounts,
    device: &ComputeDevice,
    watcher: &mut dyn Watcher,
) -> Result<Evaluation, EvaluateError> {
    let Some(first) = models.first() else {
        return Err(EvaluateError::Model { location: "none".into(), reason: "no model was named".into() });
    };
    if let Some(other) = models.iter().find(|model| !bench.takes(model.size.frames) || model.size != first.size) {
        let reason = format!("its clips of {:?} are not those that the judge or the first model is for", other.size);
        return Err(EvaluateError::Model { location: other.name.clone(), reason });
    }
    let size = first.size;
    let held_out: Vec<Scene> = (0..amounts.real as u64).map(|clip| Scene::of_clip(seeds::HELD_OUT, clip)).collect();
    let known: Vec<Attributes> = held_out.iter().map(|scene| scene.attributes).collect();
    let mut rendered = Readings::default();
    for (index, scene) in held_out.iter().enumerate() {
        go_on(watcher, "judges real clips", index, held_out.len())?;
        rendered.extend(bench.read_seen(render_every(&[*scene], size, FRAME_STEP, &device.device))?);
    }
    let mut rows = vec![Row::of("real clips".into(), &rendered, &known)];
    let (mut vaes, mut generated) = (Vec::new(), Vec::new());
    for model in models {
        let (ceiling, quality) = through_vae(model, bench, &held_out, amounts, device, watcher)?;
        let mut row = Row::of(format!("real clips through the VAE of {}", model.name), &ceiling, &known);
        row.frechet = Some(frechet::distance(&rendered.features, &ceiling.features));
        rows.push(row);
        vaes.push(quality);
        let (readings, asked) = samples(model, bench, amounts, watcher)?;
        let mut row = Row::of(model.name.clone(), &readings, &asked);
        row.frechet = Some(frechet::distance(&ceiling.features, &readings.features));
        generated.push(row);
    }
    let means = |row: &Row| row.hits.iter().map(mean_of).collect::<Vec<f64>>();
    let difference = match &generated[..] {
        [a, b, ..] => Some(paired_difference(&means(a), &means(b))),
        _ => None,
    };
    rows.extend(generated);
    Ok(Evaluation { device: device.name.clone(), rows, difference, vaes })
}

fn go_on(watcher: &mut dyn Watcher, what: &str, done: usize, all: usize) -> Result<(), EvaluateError> {
    watcher.doing(what, done as f64 / all.max(1) as f64);
    if watcher.stops() { Err(EvaluateError::Stopped) } else { Ok(()) }
}

/// Real clips through the VAE of a model: what the judge reads, and decibels of the first of them.
fn through_vae(
    model: &EvaluatedModel,
    bench: &Bench,
    scenes: &[Scene],
    amounts: Amounts,
    device: &ComputeDevice,
    watcher: &mut dyn Watcher,
) -> Result<(Readings, VaeQuality), EvaluateError> {
    let (mut readings, mut decibels) = (Readings::default(), Vec::new());
    for (index, scene) in scenes.iter().enumerate() {
        go_on(watcher, "judges clips through the VAE", index, scenes.len())?;
        let video = render_clips(&[*scene], model.size, &device.device);
        let decoded = model.vae.reconstruct(video.clone()).clamp(-1.0, 1.0);
        readings.extend(bench.read(decoded.clone())?);
        if index < amounts.decoded {
            decibels.push(psnr(&values(video)?, &values(decoded)?));
        }
    }
    let fold = |start: f64, of: fn(f64, f64) -> f64| decibels.iter().copied().fold(start, of);
    let quality = VaeQuality {
        name: model.name.clone(),
        clips: decibels.len(),
        psnr: estimate(&decibels),
        worst: fold(f64::INFINITY, f64::min),
        best: fold(f64::NEG_INFINITY, f64::max),
    };
    Ok((readings, quality))
}

/// A clip of the model for every prompt, as the judge reads them, and what was asked for.
fn samples(
    model: &EvaluatedModel,
    bench: &Bench,
    amounts: Amounts,
    watcher: &mut dyn Watcher,
) -> Result<(Readings, Vec<Attributes>), EvaluateError> {
    let clips: Vec<u64> = (0..amounts.prompts as u64).collect();
    let asked: Vec<Attributes> = clips.iter().map(|&clip| Attributes::of_clip(seeds::PROMPTS, clip)).collect();
    let mut readings = Readings::default();
    for (batch, clips) in clips.chunks(amounts.batch.max(1)).enumerate() {
        go_on(watcher, "samples", batch * amounts.batch, amounts.prompts)?;
        let sentence = |&clip: &u64| caption(&Attributes::of_clip(seeds::PROMPTS, clip), seeds::PROMPTS, clip, 0, Detail::All);
        let latents = model.sample(&clips.iter().map(sentence).collect::<Vec<_>>(), batch as u64)?;
        for latent in latents.chunks_exact(model.sampling.shape.iter().product()) {
            if watcher.stops() {
                return Err(EvaluateError::Stopped);
            }
            readings.extend(bench.read(model.decode(latent).clamp(-1.0, 1.0))?);
        }
    }
    Ok((readings, asked))
}

fn values(x: Tensor<5>) -> Result<Vec<f32>, EvaluateError> {
    x.try_into_vec_as().map_err(|error| EvaluateError::Device(error.to_string()))
}

/// Of two videos in [-1, 1], over their 8-bit pixels.
fn psnr(a: &[f32], b: &[f32]) -> f64 {
    let (a, b) = (to_rgb8(a), to_rgb8(b));
    let squared: u64 = a.iter().zip(&b).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum();
    10.0 * (255.0f64.powi(2) * a.len() as f64 / squared.max(1) as f64).log10()
}
