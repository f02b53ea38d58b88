//! How good a model is: its clips through the eyes of the judge, its VAE by decibels.
//!
//! Prompts name every attribute of a clip, and the judge says which of them it sees. What it sees in real clips, as they are
//! and through the VAE, is the ceiling. Features of real and generated clips give a Frechet distance, and those of a clip's frames
//! its consistency. All means have intervals. The table is a text, JSON, and a chart.

pub mod bootstrap;
mod chart;
pub mod consistency;
mod error;
pub mod frechet;
mod judging;
mod kept;
mod model;
pub mod pictures;
mod report;
mod seeing;

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use serde::Serialize;
use serde_json::{Value, json};

use crate::gpu::device::ComputeDevice;
use crate::model::latent::ClipSize;
use crate::model::sampler::SamplerKind;
use crate::model::vae::Vae;
use crate::world::attributes::{Attributes, JUDGED};
use crate::world::grammar::{Detail, caption};
use crate::world::renderer::render_clips;
use crate::world::scene::Scene;
use crate::world::seeds;
use bootstrap::{Estimate, estimate, paired_difference};

pub use error::EvaluateError;
pub use judging::{Bench, Readings};
pub use kept::Kept;
pub use model::{EvaluatedModel, Masks, Overrides};
use pictures::PictureNumbers;
use seeing::{Seen, see};

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amounts {
    pub prompts: usize,
    /// Clips of every prompt, each from noise of its own.
    pub clips_a_prompt: usize,
    /// Held-out clips for the ceiling and the Frechet distance.
    pub real: usize,
    /// Held-out clips for the VAE's decibels.
    pub decoded: usize,
    /// Prompts that are sampled together.
    pub batch: usize,
    /// Whether to measure how long attention and a clip take.
    pub times: bool,
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
    /// Where the clips were made.
    pub device: String,
    /// Share of the clips in which an attribute was read as asked, in the order of the world's.
    pub attributes: Vec<(&'static str, Estimate)>,
    /// Mean of the attributes.
    pub mean: Estimate,
    /// All at once.
    pub all: Estimate,
    /// From real clips through the same VAE.
    pub frechet: Option<f64>,
    pub pictures: Pictures,
    /// Whether clips show the same from the first frame to the last, see [`consistency`].
    pub subject_consistency: Estimate,
    /// How the clips were made, unless they are real.
    pub made: Option<Made>,
    /// This row minus the first generated one, on the same prompts and noise; only in the others.
    pub against_first: Option<Differences>,
    /// Against the first generated row too; where times were measured.
    pub speed_up: Option<SpeedUp>,
    #[serde(skip)]
    samples: Samples,
}

/// Means over clips of what their pixels tell, see [`PictureNumbers`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pictures {
    pub sharpness: Estimate,
    pub temporal_flicker: Estimate,
    pub motion_smoothness: Estimate,
}

impl Pictures {
    fn of(each: impl Fn(fn(&PictureNumbers) -> f64) -> Estimate) -> Self {
        Self {
            sharpness: each(|numbers| numbers.sharpness),
            temporal_flicker: each(|numbers| numbers.temporal_flicker),
            motion_smoothness: each(|numbers| numbers.motion_smoothness),
        }
    }
}

/// How clips were made, and what that costs on this device.
#[derive(Clone, Debug, Serialize)]
pub struct Made {
    pub sampler: SamplerKind,
    pub steps: usize,
    pub guidance_scale: f64,
    /// Computed tiles of all tiles.
    pub density: f64,
    /// Self-attention of all layers of one call for one clip.
    pub attention_millis: Option<f64>,
    /// All calls of the transformer with the sampler between them, one clip alone.
    pub transformer_seconds: Option<f64>,
    /// From the prompt to pixels, one clip alone.
    pub clip_seconds: Option<f64>,
}

/// How many times faster than another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SpeedUp {
    /// All calls of the transformer.
    pub transformer: f64,
    /// From the prompt to pixels.
    pub clip: f64,
}

impl Made {
    fn speed_up_over(&self, other: &Self) -> Option<SpeedUp> {
        let transformer = other.transformer_seconds? / self.transformer_seconds?;
        Some(SpeedUp { transformer, clip: other.clip_seconds? / self.clip_seconds? })
    }
}

/// Of two models over the same prompts and noise, with paired intervals.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Differences {
    /// Of the means over the attributes.
    pub mean: Estimate,
    pub pictures: Pictures,
    pub subject_consistency: Estimate,
}

/// What was read from each clip.
#[derive(Clone, Debug, Default)]
struct Samples {
    hits: Vec<[bool; JUDGED.len()]>,
    pictures: Vec<PictureNumbers>,
    subject_consistency: Vec<f64>,
    /// The first clip of every prompt, then the second of every one, and so on.
    prompts: usize,
}

impl Samples {
    /// The mean over each prompt's clips of one number a clip. Clips of one prompt are alike, so that intervals come from
    /// drawing prompts, not clips.
    fn of_prompts(&self, of: &dyn Fn(usize) -> f64) -> Vec<f64> {
        let clips = self.hits.len();
        let of_prompt = |prompt: usize| {
            let own = (prompt..clips).step_by(self.prompts.max(1));
            let count = own.len().max(1) as f64;
            own.map(of).sum::<f64>() / count
        };
        (0..self.prompts.min(clips)).map(of_prompt).collect()
    }

    fn of_pictures(&self, of: fn(&PictureNumbers) -> f64) -> Vec<f64> {
        self.of_prompts(&|clip| of(&self.pictures[clip]))
    }

    fn consistencies(&self) -> Vec<f64> {
        self.of_prompts(&|clip| self.subject_consistency[clip])
    }

    fn means(&self) -> Vec<f64> {
        self.of_prompts(&|clip| mean_of(&self.hits[clip]))
    }

    fn minus(&self, other: &Self) -> Differences {
        let pictures = |of: fn(&PictureNumbers) -> f64| paired_difference(&self.of_pictures(of), &other.of_pictures(of));
        Differences {
            mean: paired_difference(&self.means(), &other.means()),
            pictures: Pictures::of(pictures),
            subject_consistency: paired_difference(&self.consistencies(), &other.consistencies()),
        }
    }
}

impl Row {
    /// Of clips of `asked`, the first clip of every prompt before the second ones.
    fn of(name: String, (seen, device): (&Seen, String), asked: &[Attributes], prompts: usize) -> Self {
        let (hits, pictures) = (seen.readings.hits(asked), seen.pictures.clone());
        let samples = Samples { hits, pictures, subject_consistency: seen.readings.subject_consistency.clone(), prompts };
        let share = |of: &dyn Fn(&[bool; JUDGED.len()]) -> f64| estimate(&samples.of_prompts(&|clip| of(&samples.hits[clip])));
        let attribute = |index: usize| share(&|hits| f64::from(u8::from(hits[index])));
        Self {
            name,
            clips: samples.hits.len(),
            device,
            attributes: JUDGED.iter().enumerate().map(|(index, (name, _))| (*name, attribute(index))).collect(),
            mean: share(&mean_of),
            all: share(&|hits| f64::from(u8::from(hits.iter().all(|&hit| hit)))),
            frechet: None,
            pictures: Pictures::of(|of| estimate(&samples.of_pictures(of))),
            subject_consistency: estimate(&samples.consistencies()),
            made: None,
            against_first: None,
            speed_up: None,
            samples,
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

/// A device with its judge, and the models that are evaluated there, each with its place in the table.
pub struct Station {
    pub device: ComputeDevice,
    pub bench: Bench,
    pub models: Vec<(usize, EvaluatedModel)>,
}

/// Evaluates models with one judge, each device its own at the same time. Every model must make clips of the size that the judge
/// was made for. The first station also looks at real clips. Clips whose readings were kept are not made again.
///
/// # Errors
/// The device failed, the watcher stopped it, or readings cannot be kept.
pub fn evaluate(
    stations: &[Station],
    amounts: Amounts,
    kept: &Kept,
    watcher: &mut dyn Watcher,
) -> Result<Evaluation, EvaluateError> {
    let mut models: Vec<(usize, &EvaluatedModel, &Station)> =
        stations.iter().flat_map(|station| station.models.iter().map(move |(place, model)| (*place, model, station))).collect();
    models.sort_by_key(|(place, ..)| *place);
    let Some(&(_, first, _)) = models.first() else {
        return Err(EvaluateError::Model { location: "none".into(), reason: "no model was named".into() });
    };
    if let Some((_, other, _)) =
        models.iter().find(|(_, model, station)| !station.bench.takes(model.size.frames) || model.size != first.size)
    {
        let reason = format!("its clips of {:?} are not those that the judge or the first model is for", other.size);
        return Err(EvaluateError::Model { location: other.name.clone(), reason });
    }
    // Models often share a VAE: it is looked at once, where the first of them is.
    let mut owners: HashMap<String, usize> = HashMap::new();
    for (place, model, _) in &models {
        owners.entry(model.vae_hash()?).or_insert(*place);
    }
    let held_out: Vec<Scene> = (0..amounts.real as u64).map(|clip| Scene::of_clip(seeds::HELD_OUT, clip)).collect();
    let work = Work { held_out: &held_out, owners: &owners, amounts, kept, stopped: &AtomicBool::new(false) };
    let Some((own, others)) = stations.split_first() else { return Err(EvaluateError::Stopped) };
    let ((row, rendered), mut looks) = thread::scope(|scope| {
        let others: Vec<_> =
            others.iter().map(|station| scope.spawn(|| work.or_stop(work.look(station, &mut Unwatched(work.stopped))))).collect();
        let mut watcher = Forwarding { watcher: &mut *watcher, stopped: work.stopped };
        let real = work.or_stop(work.real(own, first.size, &mut watcher));
        let own = real.and_then(|real| Ok((real, work.or_stop(work.look(own, &mut watcher))?)));
        let others = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        others.fold(own, |all, theirs| match (all, theirs) {
            (Ok((real, mut looks)), Ok(theirs)) => {
                looks.extend(theirs);
                Ok((real, looks))
            }
            // Whoever failed stopped the others.
            (Err(EvaluateError::Stopped) | Ok(_), Err(error)) | (Err(error), _) => Err(error),
        })
    })?;
    looks.sort_by_key(|look| look.place);
    let (mut rows, mut vaes, mut generated) = (vec![row], Vec::new(), Vec::<Row>::new());
    let ceilings: HashMap<usize, Readings> = looks
        .iter_mut()
        .filter_map(|look| look.ceiling.take().map(|ceiling| (look.place, ceiling)))
        .map(|(place, Ceiling { mut row, readings, quality })| {
            row.frechet = frechet_distance(&rendered, &readings);
            rows.push(row);
            vaes.push(quality);
            (place, readings)
        })
        .collect();
    for (look, (_, model, _)) in looks.into_iter().zip(models) {
        let ceiling = owners.get(&model.vae_hash()?).and_then(|owner| ceilings.get(owner));
        let mut row = look.row;
        row.frechet = ceiling.and_then(|ceiling| frechet_distance(ceiling, &look.readings));
        // Now that no other device is at work beside it.
        let made = made(model, amounts, watcher)?;
        row.against_first = generated.first().map(|first| row.samples.minus(&first.samples));
        row.speed_up = generated.first().and_then(|first| made.speed_up_over(first.made.as_ref()?));
        row.made = Some(made);
        generated.push(row);
    }
    rows.extend(generated);
    let names: Vec<&str> = stations.iter().map(|station| station.device.name.as_str()).collect();
    Ok(Evaluation { device: names.join(", "), rows, vaes })
}

/// What one model's clips were read as.
struct Look {
    place: usize,
    row: Row,
    readings: Readings,
    /// Of the VAE, where this model is the first that has it.
    ceiling: Option<Ceiling>,
}

/// Real clips through a VAE.
struct Ceiling {
    row: Row,
    readings: Readings,
    quality: VaeQuality,
}

/// What all stations work on.
struct Work<'a> {
    held_out: &'a [Scene],
    /// The place of the model that looks at a VAE, by the VAE's hash.
    owners: &'a HashMap<String, usize>,
    amounts: Amounts,
    kept: &'a Kept,
    stopped: &'a AtomicBool,
}

impl Work<'_> {
    /// Has everybody stop where one has failed.
    fn or_stop<T>(&self, result: Result<T, EvaluateError>) -> Result<T, EvaluateError> {
        if result.is_err() {
            self.stopped.store(true, Relaxed);
        }
        result
    }

    fn known(&self) -> Vec<Attributes> {
        self.held_out.iter().map(|scene| scene.attributes).collect()
    }

    /// Real clips as they are.
    fn real(&self, station: &Station, size: ClipSize, watcher: &mut dyn Watcher) -> Result<(Row, Readings), EvaluateError> {
        let Station { device, bench, .. } = station;
        let of = json!({ "clips": "real", "judge": bench.hash(), "size": numbers(size), "count": self.held_out.len() });
        let (seen, made_on) = self.kept.or_make(of, &device.name, || {
            see(bench, size, |onlooker| {
                let mut done = 0;
                for scenes in self.held_out.chunks(Vae::clips_a_call(size)) {
                    go_on(watcher, "judges real clips", done, self.held_out.len())?;
                    onlooker.take(render_clips(scenes, size, &device.device), None)?;
                    done += scenes.len();
                }
                Ok(())
            })
        })?;
        let row = Row::of("real clips".into(), (&seen, made_on), &self.known(), self.held_out.len());
        Ok((row, seen.readings))
    }

    /// All models of a station.
    fn look(&self, station: &Station, watcher: &mut dyn Watcher) -> Result<Vec<Look>, EvaluateError> {
        let looks = station.models.iter().map(|(place, model)| {
            let is_owner = self.owners.get(&model.vae_hash()?) == Some(place);
            let ceiling = if is_owner { Some(self.through_vae(station, model, watcher)?) } else { None };
            let (row, readings) = self.samples(station, model, watcher)?;
            Ok(Look { place: *place, row, readings, ceiling })
        });
        looks.collect()
    }

    /// Real clips through the VAE of a model, with decibels of the first of them.
    fn through_vae(
        &self,
        station: &Station,
        model: &EvaluatedModel,
        watcher: &mut dyn Watcher,
    ) -> Result<Ceiling, EvaluateError> {
        let (Station { device, bench, .. }, count) = (station, self.held_out.len());
        let of = json!({
            "clips": "through a VAE", "judge": bench.hash(), "size": numbers(model.size), "count": count,
            "vae": model.vae_hash()?, "decoded": self.amounts.decoded,
        });
        let (seen, made_on) = self.kept.or_make(of, &device.name, || {
            see(bench, model.size, |onlooker| {
                let mut done = 0;
                for scenes in self.held_out.chunks(Vae::clips_a_call(model.size)) {
                    go_on(watcher, "judges clips through the VAE", done, count)?;
                    let original = render_clips(scenes, model.size, &device.device);
                    let video = model.vae.reconstruct(original.clone()).clamp(-1.0, 1.0);
                    let measured = self.amounts.decoded.saturating_sub(done).min(scenes.len());
                    onlooker.take(video, (measured > 0).then(|| original.narrow(0, 0, measured)))?;
                    done += scenes.len();
                }
                Ok(())
            })
        })?;
        let name = format!("real clips through the VAE of {}", model.name);
        let row = Row::of(name, (&seen, made_on), &self.known(), count);
        let fold = |start: f64, of: fn(f64, f64) -> f64| seen.decibels.iter().copied().fold(start, of);
        let quality = VaeQuality {
            name: model.name.clone(),
            clips: seen.decibels.len(),
            psnr: estimate(&seen.decibels),
            worst: fold(f64::INFINITY, f64::min),
            best: fold(f64::NEG_INFINITY, f64::max),
        };
        Ok(Ceiling { row, readings: seen.readings, quality })
    }

    /// Clips of the model for every prompt.
    fn samples(
        &self,
        station: &Station,
        model: &EvaluatedModel,
        watcher: &mut dyn Watcher,
    ) -> Result<(Row, Readings), EvaluateError> {
        let Amounts { prompts, clips_a_prompt, batch, .. } = self.amounts;
        let clips: Vec<u64> = (0..clips_a_prompt).flat_map(|_| 0..prompts as u64).collect();
        let asked: Vec<Attributes> = clips.iter().map(|&clip| Attributes::of_clip(seeds::PROMPTS, clip)).collect();
        let of = json!({
            "clips": "of a model", "judge": station.bench.hash(), "size": numbers(model.size),
            "prompts": prompts, "clips_a_prompt": clips_a_prompt, "batch": batch, "model": model.identity()?,
        });
        let (seen, made_on) = self.kept.or_make(of, &station.device.name, || {
            see(&station.bench, model.size, |onlooker| {
                for (number, prompts) in clips.chunks(batch.max(1)).enumerate() {
                    go_on(watcher, &format!("samples of {}", model.name), number * batch, clips.len())?;
                    // The noise is that of the batch, so that each clip of a prompt has its own.
                    let sentences: Vec<String> = prompts.iter().map(|&clip| sentence(clip)).collect();
                    let latents = model.sample(&sentences, number as u64)?;
                    for latents in latents.chunks(Vae::clips_a_call(model.size) * model.latent_values()) {
                        if watcher.stops() {
                            return Err(EvaluateError::Stopped);
                        }
                        onlooker.take(model.decode(latents).clamp(-1.0, 1.0), None)?;
                    }
                }
                Ok(())
            })
        })?;
        Ok((Row::of(model.name.clone(), (&seen, made_on), &asked, prompts), seen.readings))
    }
}

/// None where there are too few clips, or one has features that are no numbers.
fn frechet_distance(real: &Readings, made: &Readings) -> Option<f64> {
    Some(frechet::distance(&real.features, &made.features)).filter(|distance| distance.is_finite())
}

/// Frames, width and height.
fn numbers(size: ClipSize) -> Value {
    json!([size.frames, size.width, size.height])
}

/// Of the first station: what the person sees, and what stops all.
struct Forwarding<'a> {
    watcher: &'a mut dyn Watcher,
    stopped: &'a AtomicBool,
}

impl Watcher for Forwarding<'_> {
    fn doing(&mut self, what: &str, share: f64) {
        self.watcher.doing(what, share);
    }

    fn stops(&self) -> bool {
        if self.watcher.stops() {
            self.stopped.store(true, Relaxed);
        }
        self.stopped.load(Relaxed)
    }
}

/// Of the other stations.
struct Unwatched<'a>(&'a AtomicBool);

impl Watcher for Unwatched<'_> {
    fn doing(&mut self, _: &str, _: f64) {}

    fn stops(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// The model's settings, and how long it takes with them; its kernels are compiled by now.
fn made(model: &EvaluatedModel, amounts: Amounts, watcher: &mut dyn Watcher) -> Result<Made, EvaluateError> {
    let sampling = &model.sampling;
    let (mut attention_millis, mut transformer_seconds, mut clip_seconds) = (None, None, None);
    if amounts.times {
        go_on(watcher, "measures times", 0, 1)?;
        attention_millis = Some(model.attention_millis()?);
        let seconds = model.clip_seconds(&sentence(0))?;
        (transformer_seconds, clip_seconds) = (Some(seconds.transformer), Some(seconds.whole));
    }
    Ok(Made {
        sampler: sampling.sampler,
        steps: sampling.steps,
        guidance_scale: sampling.guidance_scale,
        density: model.plan.density(),
        attention_millis,
        transformer_seconds,
        clip_seconds,
    })
}

/// What a prompt of the evaluation says.
fn sentence(clip: u64) -> String {
    caption(&Attributes::of_clip(seeds::PROMPTS, clip), seeds::PROMPTS, clip, 0, Detail::All)
}

fn go_on(watcher: &mut dyn Watcher, what: &str, done: usize, all: usize) -> Result<(), EvaluateError> {
    watcher.doing(what, done as f64 / all.max(1) as f64);
    if watcher.stops() { Err(EvaluateError::Stopped) } else { Ok(()) }
}
