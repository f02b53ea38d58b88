//! A rank's part of a call of the transformer.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use burn::tensor::{Bytes, Tensor, TensorData};

use super::exchange::{LayerExchange, Traffic};
use super::forward::Part;
use super::group::{Group, RankError};
use super::shares::Arrangement;
use super::transport::{Kind, Message, Tag, Transport};
use crate::gpu::device::ComputeDevice;
use crate::gpu::upload::Uploader;
use crate::mask::KeyFrames;
use crate::model::dit::{TextContext, Transformer};
use crate::model::latent::Latent;

/// Encoded captions in the program's memory.
#[derive(Clone, Debug)]
pub struct Text {
    values: Vec<f32>,
    /// `[rows, tokens, channels]`.
    shape: [usize; 3],
    mask: Vec<f32>,
}

impl Text {
    /// # Errors
    /// The device failed.
    pub fn of(text: &TextContext) -> Result<Self, String> {
        let values = text.embedding.clone().try_into_vec_as().map_err(|error| error.to_string())?;
        Ok(Self { values, shape: text.embedding.dims(), mask: text.mask.clone() })
    }

    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    fn row(&self, row: usize, device: &ComputeDevice) -> TextContext {
        let [_, tokens, channels] = self.shape;
        let values = self.values[row * tokens * channels..(row + 1) * tokens * channels].to_vec();
        let embedding = Tensor::from_data(TensorData::new(values, [1, tokens, channels]), &device.device);
        TextContext { embedding, mask: self.mask[row * tokens..(row + 1) * tokens].to_vec() }
    }
}

/// What goes into a call.
#[derive(Clone, Debug)]
pub struct Input {
    /// Scaled for the model.
    pub latent: Latent,
    pub timestep: f32,
    /// With guidance two rows.
    pub text: Arc<Text>,
    /// One a layer.
    pub key_frames: Vec<Arc<KeyFrames>>,
}

/// A call, for one rank.
pub(super) struct PredictJob {
    pub input: Arc<Input>,
    pub arrangement: Arc<Arrangement>,
    /// By group of the arrangement, one a layer.
    pub exchanges: Arc<Vec<Vec<Arc<LayerExchange>>>>,
    pub transport: Box<dyn Transport>,
    pub measures: bool,
    /// How long a message is waited for.
    pub patience: Duration,
    /// Set when the run is to stop.
    pub stop: Arc<AtomicBool>,
}

impl PredictJob {
    /// What says whether to stop.
    pub fn stop_flag(&self) -> impl Fn() -> bool + use<> {
        let stop = self.stop.clone();
        move || stop.load(Ordering::Relaxed)
    }
}

/// How a rank's call ended.
#[derive(Default)]
pub(super) struct Done {
    /// Of rank 0: the predicted noise of all.
    pub prediction: Option<(Vec<f32>, usize)>,
    pub busy_seconds: f64,
    pub traffic: Vec<Traffic>,
}

fn output_tag(row: usize) -> Tag {
    Tag { row: row as u32, layer: u32::MAX, kind: Kind::Output }
}

/// A rank's part of a call.
pub(super) fn predict(
    transformer: &Transformer,
    device: &ComputeDevice,
    uploader: &Uploader,
    job: PredictJob,
    stop: &dyn Fn() -> bool,
) -> Result<Done, RankError> {
    let PredictJob { input, arrangement, exchanges, transport, measures, patience, .. } = job;
    let rank = transport.rank();
    let Some((at, place)) = arrangement.place(rank) else {
        return Err(RankError::Device("there is nothing for it to do".into()));
    };
    let of = &arrangement.groups[at];
    let mut group = Group::new(&*transport, &of.members, place, patience, device, uploader);
    if measures {
        group.measure();
    }
    let own = of.frames[place].clone();
    let [channels, frames, height, width] = input.latent.shape;
    let latents = input.latent.to_tensor(1, &device.device).narrow(2, own.start, own.len());
    let mut outputs = Vec::new();
    for row in of.rows.clone() {
        group.row = row as u32;
        let part = Part { transformer, group: &group, layers: &exchanges[at], stop };
        let text = input.text.row(row, device);
        let output = part.predict(own.clone(), latents.clone(), input.timestep, &text)?;
        outputs.push(output);
    }
    let mut all: Vec<(usize, Vec<f32>)> = Vec::new();
    let mut output_channels = channels;
    for (row, output) in of.rows.clone().zip(outputs) {
        let [_, given, ..] = output.dims();
        output_channels = given;
        let bytes = group.start_reading([output]).wait()?;
        all.extend(bytes.into_iter().map(|bytes| (row, floats(&bytes))));
    }
    let busy_seconds = group.busy().as_secs_f64();
    let traffic = group.traffic();
    if rank != 0 {
        for (row, values) in all {
            transport.send(0, output_tag(row), Message::new([Bytes::from_elems(values)]))?;
        }
        return Ok(Done { prediction: None, busy_seconds, traffic });
    }
    let rows = arrangement.groups.iter().map(|group| group.rows.end).max().unwrap_or_default();
    let picture = height * width;
    let mut values = vec![0.0; rows * output_channels * frames * picture];
    let mut put = |row: usize, own: &Range<usize>, part: &[f32]| -> Result<(), RankError> {
        let run = own.len() * picture;
        if part.len() != output_channels * run {
            return Err(RankError::Device("a part of the prediction has the wrong size".into()));
        }
        for (channel, part) in part.chunks(run).enumerate() {
            let start = ((row * output_channels + channel) * frames + own.start) * picture;
            values[start..start + run].copy_from_slice(part);
        }
        Ok(())
    };
    for (row, part) in &all {
        put(*row, &own, part)?;
    }
    for (from, group) in
        arrangement.groups.iter().flat_map(|group| group.members.iter().zip(&group.frames).map(move |of| (of, group)))
    {
        let (&member, own) = from;
        for row in group.rows.clone().filter(|_| member != 0) {
            let parts = transport.receive(member, output_tag(row), patience)?.into_parts();
            put(row, own, &parts.iter().flat_map(floats).collect::<Vec<_>>())?;
        }
    }
    Ok(Done { prediction: Some((values, output_channels)), busy_seconds, traffic })
}

fn floats(bytes: &Bytes) -> Vec<f32> {
    bytes.chunks_exact(size_of::<f32>()).map(|four| f32::from_ne_bytes([four[0], four[1], four[2], four[3]])).collect()
}
