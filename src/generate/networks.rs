//! The two networks that turn text and noise into frames: the walk of the sampler, and the decoding. The transformer's calls and the
//! tiles of a decoding may be shared with other devices; everything else is on one.

use std::cell::{OnceCell, RefCell};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::{Tensor, Transaction};

use super::GenerateError;
use super::attention_record::AttentionRecord;
use super::estimate::{transformer_activation_bytes, transformer_parameters};
use super::observer::Observer;
use crate::clip::Frames;
use crate::gpu::device::ComputeDevice;
use crate::gpu::replay;
use crate::gpu::spans::{self, Kind};
use crate::mask::{KeyFrames, MaskPlan};
use crate::model::dit::{AttentionRecorder, Caption, Given, Probe, RecordedCall, TextContext, Transformer, hides_some};
use crate::model::latent::{ClipSize, Latent};
use crate::model::sampler::{Sampler, guidance};
use crate::model::vae::{Sites, Stopped, Vae, to_rgb8};
use crate::parallel::{Input, Prediction, Team, TeamError, Text};

pub struct Networks {
    pub transformer: Transformer,
    pub vae: Vae,
    /// Channels of a latent.
    pub channels: usize,
    pub device: ComputeDevice,
    /// The devices that share the transformer's calls.
    pub team: Option<RefCell<Team>>,
    /// What is played back instead of a call of the transformer.
    pub recorded: RefCell<Recorded>,
}

/// Recorded calls of the transformer, one at a time: a recording holds the memory of a call.
#[derive(Debug)]
pub enum Recorded {
    /// None yet; the last call took so many seconds.
    NotYet {
        last_call_seconds: f64,
    },
    Call(Box<RecordedCall>),
    /// The device does not record, or not to the bit.
    Never,
}

impl Default for Recorded {
    fn default() -> Self {
        Self::NotYet { last_call_seconds: f64::INFINITY }
    }
}

/// The largest tensor of the residual stream, in f32: above this, tensors come near the 2 GiB that adapters take at once.
const LARGEST_TENSOR_BYTES: usize = 3 << 29;
/// The share of a device's memory that one call may fill by formula.
const ROOM: f64 = 0.8;

/// Wall-clock times of a run's phases.
#[derive(Clone, Debug, Default)]
pub struct Timing {
    pub text_millis: f64,
    /// One entry a transformer call, sampler included.
    pub step_millis: Vec<f64>,
    pub decode_millis: f64,
}

impl Timing {
    pub fn total_millis(&self) -> f64 {
        self.text_millis + self.step_millis.iter().sum::<f64>() + self.decode_millis
    }
}

/// What a range of steps obeys.
struct Masks {
    range: usize,
    plan: Arc<MaskPlan>,
    /// One entry a layer.
    key_frames: Vec<Arc<KeyFrames>>,
}

impl Masks {
    fn of(plan: &MaskPlan, range: usize) -> Self {
        let plan = Arc::new(plan.of_range(range));
        let key_frames = plan.layers().iter().map(|layer| Arc::new(layer.mask().key_frames())).collect();
        Self { range, plan, key_frames }
    }
}

/// The texts of a call's parts, made when a call is not played back: one for all rows, or one for each where they are taken apart.
struct Captions {
    takes_rows_apart: bool,
    made: OnceCell<Vec<Caption>>,
}

impl Captions {
    fn of(&self, transformer: &Transformer, text: &TextContext) -> &[Caption] {
        self.made.get_or_init(|| match self.takes_rows_apart {
            true => [0, 1].map(|row| transformer.caption(&text.row(row))).into(),
            false => vec![transformer.caption(text)],
        })
    }
}

/// A walk from noise to a clean latent.
pub struct Walk<'a> {
    pub sampler: Sampler,
    /// The calls to make.
    pub calls: Range<usize>,
    pub size: ClipSize,
    pub frames_per_second: f64,
    /// Above 1 the text holds two rows, the negative prompt first.
    pub guidance_scale: f64,
    pub text: &'a TextContext,
    pub plan: &'a MaskPlan,
    /// Fills unit normal noise for a call.
    pub noise: &'a mut dyn FnMut(usize, &mut [f32]),
    /// Sees the sampler, the call, the latent after it, the estimate of the clean one and the attention if it was recorded.
    pub after_step: &'a mut AfterStep<'a>,
}

pub type AfterStep<'a> =
    dyn FnMut(&Sampler, usize, &Latent, &Latent, Option<&Arc<AttentionRecord>>) -> Result<(), GenerateError> + 'a;

impl Networks {
    /// Walks from `latent`, which is scaled for the sampler's first call.
    ///
    /// # Errors
    /// The device failed, gave values that are not numbers, or the observer asked to stop.
    pub fn sample(
        &self,
        mut latent: Latent,
        walk: &mut Walk<'_>,
        timing: &mut Timing,
        observer: &mut dyn Observer,
    ) -> Result<Latent, GenerateError> {
        let shape = latent.shape;
        let calls = walk.sampler.calls();
        let mut masks = Masks::of(walk.plan, walk.plan.range_of(walk.calls.start, calls));
        let text = match &self.team {
            Some(_) => {
                Some(Arc::new(Text::of(walk.text).map_err(|reason| GenerateError::DeviceFailed { doing: "sampled", reason })?))
            }
            None => None,
        };
        let captions =
            Captions { takes_rows_apart: walk.guidance_scale > 1.0 && self.takes_rows_apart(&latent), made: OnceCell::new() };
        if let Recorded::Call(recorded) = &mut *self.recorded.borrow_mut() {
            recorded.forget_text();
        }
        for call in walk.calls.clone() {
            if observer.stop() {
                return Err(GenerateError::Stopped);
            }
            let started = Instant::now();
            let input = Latent { shape, values: walk.sampler.scale_model_input(call, &latent.values) };
            let range = walk.plan.range_of(call, calls);
            if range != masks.range {
                masks = Masks::of(walk.plan, range);
            }
            let (epsilon, attention) = match (&self.team, &text) {
                (Some(team), Some(text)) => {
                    let timestep = walk.sampler.timestep(call);
                    let input = Input { latent: input, timestep, text: text.clone(), key_frames: masks.key_frames.clone() };
                    (self.predict_together(team, input, walk, observer)?, None)
                }
                _ => self.predict(&input, call, walk, &captions, &masks, observer)?,
            };
            if !epsilon.iter().all(|value| value.is_finite()) {
                return Err(GenerateError::NotFinite { part: "transformer", step: call + 1 });
            }
            let step = walk.sampler.step(call, &epsilon, &latent.values, &mut |noise| (walk.noise)(call, noise));
            latent.values = step.x;
            let denoised = Latent { shape, values: step.denoised };
            spans::span(Kind::Copy, || (walk.after_step)(&walk.sampler, call, &latent, &denoised, attention.as_ref()))?;
            let step_millis = millis(started.elapsed());
            timing.step_millis.push(step_millis);
            observer.denoised(call, &denoised);
            if let Some(attention) = &attention {
                observer.attention(attention);
            }
            // The last estimate is the clip itself.
            if observer.wants_decoded() && call + 1 < walk.sampler.calls() {
                let frames = self.decode(&denoised, walk.size, walk.frames_per_second, &|| observer.stop())?;
                observer.decoded(call, frames);
            }
            observer.step(call, walk.sampler.calls(), step_millis);
        }
        Ok(latent)
    }

    /// The predicted noise for a latent that is scaled for the model, guided if the scale is above 1; and where it looked, if
    /// the observer wants that.
    fn predict(
        &self,
        input: &Latent,
        call: usize,
        walk: &Walk<'_>,
        captions: &Captions,
        masks: &Masks,
        observer: &dyn Observer,
    ) -> Result<(Vec<f32>, Option<Arc<AttentionRecord>>), GenerateError> {
        let (guided, key_frames) = (walk.guidance_scale > 1.0, &masks.key_frames[..]);
        let copies = if guided { 2 } else { 1 };
        let timesteps = vec![walk.sampler.timestep(call); copies];
        let recording = observer.wants_attention();
        if recording.is_none() && !captions.takes_rows_apart && self.may_play_back(walk) {
            let latents = input.values.repeat(copies);
            let [channels, frames, height, width] = input.shape;
            let shape = [copies, channels, frames, height, width];
            let given = Given { latents: &latents, shape, timesteps: &timesteps, text: walk.text, key_frames };
            if let Some(output) = self.played_back(given) {
                return Ok((combined(read(output.narrow(1, 0, self.channels), "sampled")?, walk.guidance_scale), None));
            }
        }
        let captions = captions.of(&self.transformer, walk.text);
        let started = Instant::now();
        let latents = input.to_tensor(copies, &self.device.device);
        let stop = || observer.stop();
        let mut recorder = recording.map(|recording| AttentionRecorder::new(recording, self.transformer.layers()));
        let rows = copies / captions.len().max(1);
        let mut outputs: Vec<Tensor<5>> = captions
            .iter()
            .enumerate()
            .map(|(part, caption)| {
                // What is recorded is the prompt's row, which is the last.
                let recorder = recorder.as_mut().filter(|_| part + 1 == captions.len());
                let latents = latents.clone().narrow(0, part * rows, rows);
                let mut probe = Probe::stopping(&stop).recording(recorder);
                self.transformer.forward_to(latents, &timesteps[..rows], caption, None, key_frames, &mut probe)
            })
            .collect();
        let output = if outputs.len() == 1 { outputs.remove(0) } else { Tensor::cat(outputs, 0) };
        // A model that also predicts a variance gives it in the second half of the channels.
        let output = output.narrow(1, 0, self.channels);
        let (values, masses) = match recorder {
            Some(recorder) => read_with(output, recorder.into_masses(), "sampled")?,
            None => (read(output, "sampled")?, Vec::new()),
        };
        if observer.stop() {
            return Err(GenerateError::Stopped);
        }
        if let Recorded::NotYet { last_call_seconds } = &mut *self.recorded.borrow_mut() {
            *last_call_seconds = started.elapsed().as_secs_f64();
        }
        let attention =
            recording.map(|recording| Arc::new(AttentionRecord::of_masses(call, recording, masks.plan.clone(), masses)));
        Ok((combined(values, walk.guidance_scale), attention))
    }

    /// Whether calls of this walk may be played back. A recording is of one mask a layer: masks of ranges of steps would be
    /// recorded anew in every clip. A part that is timed is launched by itself.
    fn may_play_back(&self, walk: &Walk<'_>) -> bool {
        let can = !self.device.is_cpu() && !self.transformer.is_streamed() && hides_some(walk.text);
        can && walk.plan.ranges().count() == 1 && !spans::is_recording()
    }

    /// The predicted noise of a recorded call. None if there is none for it yet.
    fn played_back(&self, given: Given<'_>) -> Option<Tensor<5>> {
        let recorded = &mut *self.recorded.borrow_mut();
        let is_quick = |seconds: f64| seconds <= replay::longest_seconds();
        match recorded {
            Recorded::Call(call) if call.fits(given) => {}
            // One that is used no more gives its memory back first.
            Recorded::Call(_) => *recorded = Recorded::default(),
            Recorded::NotYet { last_call_seconds } if is_quick(*last_call_seconds) => {
                let call = RecordedCall::record(&self.transformer, given, &self.device);
                *recorded = call.map_or(Recorded::Never, |call| Recorded::Call(Box::new(call)));
            }
            Recorded::NotYet { .. } | Recorded::Never => {}
        }
        match recorded {
            Recorded::Call(call) => call.run(given),
            Recorded::NotYet { .. } | Recorded::Never => None,
        }
    }

    /// As [`Self::predict`], on all devices. Nothing is recorded.
    fn predict_together(
        &self,
        team: &RefCell<Team>,
        input: Input,
        walk: &Walk<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<f32>, GenerateError> {
        let mut team = team.borrow_mut();
        let result = team.predict(&self.transformer, &self.device, &Arc::new(input), &|| observer.stop());
        team.take_lost().into_iter().for_each(|what| observer.recovered(what));
        let Prediction { values, channels, .. } = result.map_err(team_error)?;
        if observer.stop() {
            return Err(GenerateError::Stopped);
        }
        let rows = if walk.guidance_scale > 1.0 { 2 } else { 1 };
        let row = values.len() / rows;
        // A model that also predicts a variance gives it in the second half of the channels.
        let noise = |row: &[f32]| row[..row.len() / channels * self.channels].to_vec();
        let noises: Vec<Vec<f32>> = values.chunks(row).map(noise).collect();
        match noises.as_slice() {
            [unconditional, conditional] => Ok(guidance::combine(unconditional, conditional, walk.guidance_scale as f32)),
            _ => Ok(noises.concat()),
        }
    }

    /// Whether the two rows of a guided call follow each other because their values together would not fit: beside the weights,
    /// or in one tensor.
    fn takes_rows_apart(&self, input: &Latent) -> bool {
        let config = self.transformer.config();
        let [_, frames, height, width] = input.shape;
        let tokens = frames * (height / config.patch_size) * (width / config.patch_size);
        if 2 * 4 * tokens * config.width() > LARGEST_TENSOR_BYTES {
            return true;
        }
        let Some(memory) = self.device.adapter.as_ref().and_then(|adapter| adapter.memory_bytes) else { return false };
        let bytes = self.device.precision.bytes() as f64;
        let weights = if self.transformer.is_streamed() { 0.0 } else { transformer_parameters(config) * bytes };
        weights + transformer_activation_bytes(config, tokens, 2, bytes) > ROOM * memory as f64
    }

    /// Latents as the sampler left them to frames.
    ///
    /// # Errors
    /// The device failed or gave values that are not numbers, or `stop` said so.
    pub fn decode(
        &self,
        latent: &Latent,
        size: ClipSize,
        frames_per_second: f64,
        stop: &dyn Fn() -> bool,
    ) -> Result<Frames, GenerateError> {
        let values = self.decode_values(latent, size, stop)?;
        let rgb = spans::span(Kind::Copy, || to_rgb8(&values));
        Ok(Frames { width: size.width, height: size.height, frames_per_second, rgb })
    }

    /// As [`Self::decode`], as values around [-1, 1]: `[frames, height, width, 3]`.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_values(&self, latent: &Latent, size: ClipSize, stop: &dyn Fn() -> bool) -> Result<Vec<f32>, GenerateError> {
        let [_, frames, height, width] = latent.shape;
        let video = match &self.team {
            // A clip that is no larger than a tile is decoded whole.
            Some(team) if self.vae.decoding_tiles([frames, height, width]).len() > 1 => {
                // As a device divides.
                let factor = self.vae.scaling_factor() as f32;
                let values = latent.values.iter().map(|value| value / factor).collect();
                let scaled = Arc::new(Latent { values, ..latent.clone() });
                team.borrow_mut().decode(&self.vae, &self.device, &scaled, stop).map_err(team_error)?
            }
            _ => {
                let scaled = latent.to_tensor(1, &self.device.device) / self.vae.scaling_factor();
                let video = self.vae.decode(scaled, Some(self.vae.tiling()), &mut Sites::stopping(stop));
                video.map_err(|Stopped| GenerateError::Stopped)?
            }
        };
        let video = video.narrow(1, 0, size.frames).narrow(2, 0, size.height).narrow(3, 0, size.width);
        let values = read(video, "decoded")?;
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(GenerateError::NotFinite { part: "VAE", step: 0 })
        }
    }
}

fn team_error(error: TeamError) -> GenerateError {
    match error {
        TeamError::Stopped => GenerateError::Stopped,
        other => GenerateError::DeviceFailed { doing: "worked together with others", reason: other.to_string() },
    }
}

/// The noise of a guided call's two rows; of one row it is that row.
fn combined(values: Vec<f32>, guidance_scale: f64) -> Vec<f32> {
    if guidance_scale <= 1.0 {
        return values;
    }
    let (unconditional, conditional) = values.split_at(values.len() / 2);
    guidance::combine(unconditional, conditional, guidance_scale as f32)
}

/// The values of a tensor; waits for the device.
pub(super) fn read<const D: usize>(tensor: Tensor<D>, doing: &'static str) -> Result<Vec<f32>, GenerateError> {
    let values = spans::span(Kind::Copy, || tensor.try_into_vec_as());
    values.map_err(|error| GenerateError::DeviceFailed { doing, reason: error.to_string() })
}

/// The values of a tensor and of others, for one wait.
fn read_with<const D: usize, const E: usize>(
    tensor: Tensor<D>,
    others: Vec<Tensor<E>>,
    doing: &'static str,
) -> Result<(Vec<f32>, Vec<Vec<f32>>), GenerateError> {
    let failed = |reason: String| GenerateError::DeviceFailed { doing, reason };
    let first = Transaction::default().register(tensor);
    let all = others.into_iter().fold(first, |transaction, tensor| transaction.register(tensor));
    let data = spans::span(Kind::Copy, || all.try_execute()).map_err(|error| failed(error.to_string()))?;
    let values = data.into_iter().map(|data| data.try_into_vec::<f32>().map_err(|error| failed(error.to_string())));
    let mut values = values.collect::<Result<Vec<_>, _>>()?;
    let first = values.remove(0);
    Ok((first, values))
}

pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
