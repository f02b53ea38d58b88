//! The threads, one a device, that make calls of one transformer together.
//!
//! The caller's thread is rank 0 and brings its own network; every other rank is a thread that loads the network once and waits for
//! calls. Ranks are connected anew for each call, so that whoever fails is noticed by all. The call is then made again without
//! the device that failed: what goes into a call lies in the program's memory.

use std::any::Any;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use burn::tensor::{Bytes, Tensor, TensorData};

use super::exchange::{ExchangeSizes, LayerExchange, Traffic};
use super::forward::Part;
use super::group::{Group, RankError};
use super::shares::{Arrangement, Subgroup};
use super::transport::{Kind, Message, Tag, Transport, in_process};
use crate::gpu::device::ComputeDevice;
use crate::gpu::kernels::KernelError;
use crate::gpu::upload::Uploader;
use crate::mask::KeyFrames;
use crate::model::dit::{TextContext, Transformer};
use crate::model::latent::Latent;

/// What the threads are named.
pub const THREAD_NAME: &str = "tilereel device";

/// Makes the network on a device, in the thread that will work on it. An error is in words for the person.
pub type Load = Arc<dyn Fn(&ComputeDevice) -> Result<Transformer, String> + Send + Sync>;

/// Connects so many ranks for a call.
pub type Connect = Box<dyn Fn(usize) -> Vec<Box<dyn Transport>> + Send>;

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

/// What comes out of a call.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// `[rows, channels, frames, height, width]`, as the network gives them.
    pub values: Vec<f32>,
    pub channels: usize,
    pub arrangement: Arc<Arrangement>,
    /// What all ranks together sent in each layer, over all rows.
    pub traffic: Vec<Traffic>,
    /// What it was predicted to be.
    pub predicted: Vec<Traffic>,
}

#[derive(Debug, thiserror::Error)]
pub enum TeamError {
    #[error("{name} cannot take a share of the work: {reason}")]
    NoStart { name: String, reason: String },
    #[error("{0}")]
    Device(String),
    #[error("stopped")]
    Stopped,
}

/// A call, for one rank.
struct Job {
    input: Arc<Input>,
    arrangement: Arc<Arrangement>,
    /// By group of the arrangement, one a layer.
    exchanges: Arc<Vec<Vec<Arc<LayerExchange>>>>,
    transport: Box<dyn Transport>,
    measures: bool,
    /// Set when the run is to stop.
    stop: Arc<AtomicBool>,
}

/// How a rank's call ended.
struct Done {
    /// Of rank 0: the predicted noise of all.
    prediction: Option<(Vec<f32>, usize)>,
    busy_seconds: f64,
    traffic: Vec<Traffic>,
}

struct Helper {
    device: ComputeDevice,
    /// None once the thread is to end.
    jobs: Option<Sender<Job>>,
    done: Receiver<Result<Done, RankError>>,
    thread: Option<JoinHandle<()>>,
}

/// The devices beside the caller's.
pub struct Team {
    helpers: Vec<Helper>,
    connect: Connect,
    /// Of all ranks, relative.
    speeds: Vec<f64>,
    /// Of the device of the first call; a team stays with its device.
    uploader: Option<Uploader>,
    /// How many ranks take part.
    active: usize,
    /// Since the speeds were last in doubt.
    calls: u32,
    lost: Vec<String>,
    plans: Option<Plans>,
}

/// What was last planned, and for what.
struct Plans {
    key_frames: Vec<Arc<KeyFrames>>,
    arrangement: Arc<Arrangement>,
    exchanges: Arc<Vec<Vec<Arc<LayerExchange>>>>,
}

/// The call whose times tell the speeds: in the first, shaders are compiled.
const MEASURED_CALL: u32 = 1;
/// Shares are only dealt anew if that makes calls faster by this factor: times vary.
const WORTH_DEALING: f64 = 1.05;

impl Team {
    /// Starts a thread for each device, and has it load the network.
    ///
    /// # Errors
    /// A device cannot take part.
    pub fn start(devices: &[ComputeDevice], load: &Load) -> Result<Self, TeamError> {
        let helpers = devices.iter().map(|device| Helper::start(device.clone(), load.clone()));
        let helpers = helpers.collect::<Vec<_>>().into_iter().map(|started| {
            let (helper, device, ready) = started.map_err(|(device, error)| no_start(&device, &error))?;
            match ready.recv() {
                Ok(Ok(())) => Ok(helper),
                Ok(Err(reason)) => Err(no_start(&device, &reason)),
                Err(_) => Err(no_start(&device, &"its thread ended")),
            }
        });
        let helpers = helpers.collect::<Result<Vec<_>, TeamError>>()?;
        let active = helpers.len() + 1;
        let speeds = vec![1.0; active];
        Ok(Self {
            helpers,
            connect: Box::new(in_process),
            speeds,
            uploader: None,
            active,
            calls: 0,
            lost: Vec::new(),
            plans: None,
        })
    }

    /// The same team with another way to move bytes.
    #[must_use]
    pub fn connected_by(self, connect: Connect) -> Self {
        Self { connect, ..self }
    }

    /// The same team with these relative speeds, rank 0 first, which are not measured any more.
    #[must_use]
    pub fn with_speeds(self, speeds: Vec<f64>) -> Self {
        assert_eq!(speeds.len(), self.ranks(), "one speed a rank");
        Self { speeds, calls: MEASURED_CALL + 1, ..self }
    }

    /// Has only the first ranks take part from now on, or all again.
    pub fn use_ranks(&mut self, ranks: usize) {
        self.active = ranks.clamp(1, self.helpers.len() + 1);
        self.begin_anew();
    }

    pub fn ranks(&self) -> usize {
        self.active
    }

    fn begin_anew(&mut self) {
        self.speeds = vec![1.0; self.active];
        self.calls = 0;
        self.plans = None;
    }

    /// Relative, rank 0 first.
    pub fn speeds(&self) -> &[f64] {
        &self.speeds
    }

    /// Which devices were left out since this was asked last, in words for the person.
    pub fn take_lost(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lost)
    }

    /// A call of the network. `own` is on `device`, and this thread works on it.
    ///
    /// # Errors
    /// This thread's device failed, or `stop` said so. Other devices that fail are left out.
    pub fn predict(
        &mut self,
        own: &Transformer,
        device: &ComputeDevice,
        input: &Arc<Input>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Prediction, TeamError> {
        let uploader = self.uploader.get_or_insert_with(|| Uploader::new(device)).clone();
        loop {
            self.plan(own, input);
            let Some(Plans { arrangement, exchanges, .. }) = &self.plans else { unreachable!("planned above") };
            let (arrangement, exchanges) = (arrangement.clone(), exchanges.clone());
            let measures = self.calls == MEASURED_CALL && self.ranks() > 1;
            let stopped = Arc::new(AtomicBool::new(false));
            let mut ends = (self.connect)(self.ranks());
            let job = |transport| Job {
                input: input.clone(),
                arrangement: arrangement.clone(),
                exchanges: exchanges.clone(),
                transport,
                measures,
                stop: stopped.clone(),
            };
            let own_end = ends.remove(0);
            let mut asked = Vec::new();
            for (rank, (helper, end)) in (1..).zip(self.helpers.iter().zip(ends)) {
                let takes_part = arrangement.place(rank).is_some();
                let sent = takes_part && helper.jobs.as_ref().is_some_and(|jobs| jobs.send(job(end)).is_ok());
                asked.push((takes_part, sent));
            }
            let own_job = job(own_end);
            let own_stop = || {
                let stops = stop();
                if stops {
                    stopped.store(true, Ordering::Relaxed);
                }
                stops
            };
            let own_result = catch_unwind(AssertUnwindSafe(|| run(own, device, &uploader, own_job, &own_stop)));
            // Rank 0's end is gone now, so that everyone comes to an end.
            let mut results: Vec<Option<Result<Done, RankError>>> = Vec::new();
            for (helper, &(takes_part, sent)) in self.helpers.iter().zip(&asked) {
                let ended = || RankError::Device("its thread ended".into());
                results.push(
                    takes_part.then(|| if sent { helper.done.recv().unwrap_or_else(|_| Err(ended())) } else { Err(ended()) }),
                );
            }
            let own_result = match own_result {
                Ok(result) => result,
                Err(payload) => resume_unwind(payload),
            };
            let broken = match own_result {
                Ok(done) => {
                    if measures {
                        self.learn(&arrangement, &done, &results);
                    }
                    self.calls += 1;
                    return Ok(prediction(done, &results, arrangement, &exchanges, own, input));
                }
                Err(RankError::Stopped) => return Err(TeamError::Stopped),
                Err(RankError::Device(reason)) => return Err(TeamError::Device(reason)),
                Err(RankError::Weights(error)) => return Err(TeamError::Device(error.to_string())),
                Err(RankError::Transport(error)) => error,
            };
            // Whoever failed by itself is the cause; else whoever could not be reached.
            let own_fault = |result: &Option<Result<Done, RankError>>| match result {
                Some(Err(error @ (RankError::Device(_) | RankError::Weights(_)))) => Some(error.to_string()),
                _ => None,
            };
            let mut faults: Vec<(usize, String)> =
                results.iter().enumerate().filter_map(|(helper, result)| Some((helper, own_fault(result)?))).collect();
            if faults.is_empty() {
                let unreachable = results.iter().flatten().filter_map(|result| match result {
                    Err(RankError::Transport(error)) if error.rank() > 0 => Some(error),
                    _ => None,
                });
                let error = if broken.rank() > 0 { Some(&broken) } else { unreachable.into_iter().next() };
                match error {
                    Some(error) => faults.push((error.rank() - 1, error.to_string())),
                    None => return Err(TeamError::Device(broken.to_string())),
                }
            }
            self.leave_out(&faults);
        }
    }

    /// Ends the threads of these helpers, and goes on without them.
    fn leave_out(&mut self, faults: &[(usize, String)]) {
        for (helper, reason) in faults.iter().rev() {
            let helper = self.helpers.remove(*helper);
            self.lost.push(format!("{} was lost ({reason}); the run goes on without it", helper.device.name));
        }
        self.active = self.active.saturating_sub(faults.len()).max(1);
        self.begin_anew();
    }

    /// Deals frames, and finds the exchange of every layer.
    fn plan(&mut self, own: &Transformer, input: &Input) {
        let fits = |plans: &Plans| plans.key_frames == input.key_frames && plans.rows() == input.text.rows();
        if self.plans.as_ref().is_some_and(fits) {
            return;
        }
        let arrangement = Arrangement::new(input.latent.frames(), input.text.rows(), &self.speeds);
        let heads = own.config().num_attention_heads;
        let exchanges = exchanges(&arrangement, &input.key_frames, heads, &self.speeds);
        self.plans = Some(Plans {
            key_frames: input.key_frames.clone(),
            arrangement: Arc::new(arrangement),
            exchanges: Arc::new(exchanges),
        });
    }

    /// Takes the speeds from a call that was measured.
    fn learn(&mut self, arrangement: &Arrangement, own: &Done, results: &[Option<Result<Done, RankError>>]) {
        let helpers = results.iter().map(|result| match result {
            Some(Ok(done)) => Some(done.busy_seconds),
            _ => None,
        });
        let busy: Vec<Option<f64>> = [Some(own.busy_seconds)].into_iter().chain(helpers).collect();
        let speed = |rank: usize| {
            let (group, place) = arrangement.place(rank)?;
            let group = &arrangement.groups[group];
            let work = (group.rows.len() * group.frames[place].len()) as f64;
            Some(work / busy[rank].filter(|seconds| *seconds > 0.0)?)
        };
        let measured: Option<Vec<f64>> = (0..self.ranks()).map(speed).collect();
        // With a rank that had nothing to do there are fewer frames than ranks, and nothing to be dealt.
        let Some(measured) = measured else { return };
        let (frames, rows) = arrangement.groups[0]
            .frames
            .last()
            .map_or((0, 0), |last| (last.end, arrangement.groups.iter().map(|group| group.rows.end).max().unwrap_or_default()));
        let dealt = Arrangement::new(frames, rows, &measured);
        if arrangement.time(&measured) > WORTH_DEALING * dealt.time(&measured) {
            self.speeds = measured;
            self.plans = None;
        }
    }
}

impl Plans {
    fn rows(&self) -> usize {
        self.arrangement.groups.iter().map(|group| group.rows.end).max().unwrap_or_default()
    }
}

/// The exchanges of all layers, by group. Layers with the same mask share theirs.
pub fn exchanges(
    arrangement: &Arrangement,
    key_frames: &[Arc<KeyFrames>],
    heads: usize,
    speeds: &[f64],
) -> Vec<Vec<Arc<LayerExchange>>> {
    let of_group = |group: &Subgroup| {
        let speeds: Vec<f64> = group.members.iter().map(|&rank| speeds[rank]).collect();
        let mut known: Vec<Arc<LayerExchange>> = Vec::new();
        let layers = key_frames.iter().map(|key_frames| {
            if let Some(exchange) = known.iter().find(|exchange| exchange.key_frames == *key_frames) {
                return exchange.clone();
            }
            let exchange = Arc::new(LayerExchange::choose(key_frames, &group.frames, heads, &speeds));
            known.push(exchange.clone());
            exchange
        });
        layers.collect()
    };
    arrangement.groups.iter().map(of_group).collect()
}

fn no_start(device: &ComputeDevice, reason: &dyn std::fmt::Display) -> TeamError {
    TeamError::NoStart { name: device.name.clone(), reason: reason.to_string() }
}

type Started = (Helper, ComputeDevice, Receiver<Result<(), String>>);

impl Helper {
    fn start(device: ComputeDevice, load: Load) -> Result<Started, (ComputeDevice, io::Error)> {
        let (jobs, jobs_out) = channel::<Job>();
        let (done, done_out) = channel();
        let (ready, ready_out) = channel();
        let own_device = device.clone();
        let work = move || {
            let loaded = catch_unwind(AssertUnwindSafe(|| load(&own_device)));
            let transformer = match loaded {
                Ok(Ok(transformer)) => transformer,
                Ok(Err(reason)) => return drop(ready.send(Err(reason))),
                Err(payload) => return drop(ready.send(Err(words_of(&*payload)))),
            };
            let _ = ready.send(Ok(()));
            let uploader = Uploader::new(&own_device);
            for job in jobs_out {
                let stopped = job.stop.clone();
                let stop = move || stopped.load(Ordering::Relaxed);
                let result = catch_unwind(AssertUnwindSafe(|| run(&transformer, &own_device, &uploader, job, &stop)));
                let result = result.unwrap_or_else(|payload| Err(RankError::Device(words_of(&*payload))));
                if done.send(result).is_err() {
                    break;
                }
            }
            // Tensors of a lost device may fail once more.
            let _ = catch_unwind(AssertUnwindSafe(move || drop(transformer)));
            let _ = catch_unwind(AssertUnwindSafe(|| own_device.device.memory_cleanup()));
        };
        match thread::Builder::new().name(THREAD_NAME.into()).spawn(work) {
            Ok(thread) => {
                let helper = Self { device: device.clone(), jobs: Some(jobs), done: done_out, thread: Some(thread) };
                Ok((helper, device, ready_out))
            }
            Err(error) => Err((device, error)),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.jobs = None;
        // A device that hangs must not hang who goes on without it: its thread is left to itself then.
        if let Some(thread) = self.thread.take()
            && thread.is_finished()
        {
            let _ = thread.join();
        }
    }
}

/// The first line of what a panic says.
fn words_of(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .or_else(|| payload.downcast_ref::<KernelError>().map(ToString::to_string))
        .or_else(|| payload.downcast_ref::<crate::model::weights::WeightError>().map(ToString::to_string));
    let text = text.unwrap_or_else(|| "no reason was given".into());
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().trim_end_matches('.').to_owned()
}

fn output_tag(row: usize) -> Tag {
    Tag { row: row as u32, layer: u32::MAX, kind: Kind::Output }
}

/// A rank's part of a call.
fn run(
    transformer: &Transformer,
    device: &ComputeDevice,
    uploader: &Uploader,
    job: Job,
    stop: &dyn Fn() -> bool,
) -> Result<Done, RankError> {
    let Job { input, arrangement, exchanges, transport, measures, .. } = job;
    let rank = transport.rank();
    let Some((at, place)) = arrangement.place(rank) else {
        return Err(RankError::Device("there is nothing for it to do".into()));
    };
    let of = &arrangement.groups[at];
    let mut group = Group::new(&*transport, &of.members, place, device, uploader);
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
            let parts = transport.receive(member, output_tag(row))?.into_parts();
            put(row, own, &parts.iter().flat_map(|bytes| floats(bytes)).collect::<Vec<_>>())?;
        }
    }
    Ok(Done { prediction: Some((values, output_channels)), busy_seconds, traffic })
}

fn floats(bytes: &Bytes) -> Vec<f32> {
    bytes.chunks_exact(size_of::<f32>()).map(|four| f32::from_ne_bytes([four[0], four[1], four[2], four[3]])).collect()
}

/// All ranks' part of a call that went well.
fn prediction(
    own: Done,
    results: &[Option<Result<Done, RankError>>],
    arrangement: Arc<Arrangement>,
    exchanges: &[Vec<Arc<LayerExchange>>],
    transformer: &Transformer,
    input: &Input,
) -> Prediction {
    let layers = transformer.layers();
    let mut traffic = vec![Traffic::default(); layers];
    let helpers = results.iter().flatten().filter_map(|result| result.as_ref().ok());
    for done in helpers.chain([&own]) {
        for (sum, part) in traffic.iter_mut().zip(&done.traffic) {
            *sum = *sum + *part;
        }
    }
    let config = transformer.config();
    let [_, _, height, width] = input.latent.shape;
    let sizes = ExchangeSizes {
        heads: config.num_attention_heads,
        head: config.attention_head_dim,
        frame_tokens: (height / config.patch_size) * (width / config.patch_size),
        element_bytes: transformer.stored_bytes(),
    };
    let predicted = (0..layers).map(|layer| predicted(&arrangement, exchanges, layer, &sizes)).collect();
    let (values, channels) = own.prediction.unwrap_or_default();
    Prediction { values, channels, arrangement, traffic, predicted }
}

/// The bytes of a layer over all groups and rows.
pub fn predicted(
    arrangement: &Arrangement,
    exchanges: &[Vec<Arc<LayerExchange>>],
    layer: usize,
    sizes: &ExchangeSizes,
) -> Traffic {
    let of = |(group, layers): (&Subgroup, &Vec<Arc<LayerExchange>>)| {
        let once = layers[layer].traffic(sizes);
        let rows = group.rows.len() as u64;
        Traffic { sent: once.sent * rows, read: once.read * rows }
    };
    arrangement.groups.iter().zip(exchanges).map(of).fold(Traffic::default(), |sum, part| sum + part)
}
