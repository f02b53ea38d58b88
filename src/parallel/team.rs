//! The threads, one a device, that make calls of one transformer together.
//!
//! The caller's thread is rank 0 and brings its own network; every other rank is a thread that loads the network once and waits for
//! calls. Ranks are connected anew for each call, so that whoever fails is noticed by all, and whoever hangs by the limit of every
//! wait ([`Patience`]). The call is then made again without that device: what goes into a call lies in the program's memory.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use burn::tensor::{DType, Tensor};

use super::call::{Done, Input, PredictJob, predict};
use super::decode::{DecodeJob, Tile, decode_tile};
use super::exchange::{ExchangeSizes, LayerExchange, Traffic};
use super::group::RankError;
use super::helper::{Helper, Job, Load};
use super::patience::{CallSize, Patience};
use super::shares::{Arrangement, Subgroup};
use super::transport::{Transport, TransportError, in_process};
use crate::gpu::device::ComputeDevice;
use crate::gpu::upload::Uploader;
use crate::mask::KeyFrames;
use crate::model::dit::Transformer;
use crate::model::latent::Latent;
use crate::model::vae::Vae;

/// Connects so many ranks for a call.
pub type Connect = Box<dyn Fn(usize) -> Vec<Box<dyn Transport>> + Send>;

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
    patience: Patience,
    /// The last call that came to its end.
    last: Option<LastCall>,
    /// What the first call should take.
    expected_seconds: Option<f64>,
    /// How many there were.
    decodings: u32,
}

/// What a call took.
struct LastCall {
    seconds: f64,
    size: CallSize,
    ranks: usize,
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
        // All of them load at once.
        let started: Vec<_> = devices.iter().map(|device| (device, Helper::start(device.clone(), load.clone()))).collect();
        let helpers = started.into_iter().map(|(device, started)| {
            let (helper, ready) = started.map_err(|error| no_start(device, &error))?;
            match ready.recv() {
                Ok(Ok(())) => Ok(helper),
                Ok(Err(reason)) => Err(no_start(device, &reason)),
                Err(_) => Err(no_start(device, &"its thread ended")),
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
            patience: Patience::default(),
            last: None,
            expected_seconds: None,
            decodings: 0,
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

    /// The same team with other limits of its waits.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// What a call should take by an estimate. It counts until a call has been made.
    pub fn expect_call(&mut self, seconds: f64) {
        self.expected_seconds = Some(seconds);
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
        let size = CallSize::of(input);
        loop {
            let is_first = self.plan(own, input);
            let patience = self.patience.limit(self.expected_seconds(size), is_first);
            let begun = Instant::now();
            let Some(Plans { arrangement, exchanges, .. }) = &self.plans else { unreachable!("planned above") };
            let (arrangement, exchanges) = (arrangement.clone(), exchanges.clone());
            let measures = self.calls == MEASURED_CALL && self.ranks() > 1;
            let stopped = Arc::new(AtomicBool::new(false));
            let mut ends = (self.connect)(self.ranks());
            let job = |transport| PredictJob {
                input: input.clone(),
                arrangement: arrangement.clone(),
                exchanges: exchanges.clone(),
                transport,
                measures,
                patience,
                stop: stopped.clone(),
            };
            let own_end = ends.remove(0);
            let mut asked = Vec::new();
            for (rank, (helper, end)) in (1..).zip(self.helpers.iter().zip(ends)) {
                let takes_part = arrangement.place(rank).is_some();
                let sent = takes_part && helper.ask(Job::Predict(job(end)));
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
            let own_result = catch_unwind(AssertUnwindSafe(|| predict(own, device, &uploader, own_job, &own_stop)));
            let seconds = begun.elapsed().as_secs_f64();
            // Rank 0's end is gone now, so that everyone comes to an end who does not hang.
            let until = Instant::now() + Patience::grace(patience);
            let mut results: Vec<Option<Result<Done, RankError>>> = Vec::new();
            for (helper, &(takes_part, sent)) in self.helpers.iter().zip(&asked) {
                results.push(takes_part.then(|| helper.answer(sent, begun, until)));
            }
            let mut faults: Vec<Fault> = results
                .iter()
                .enumerate()
                .filter_map(|(helper, result)| Fault::of(helper, result.as_ref()?.as_ref().err()?))
                .collect();
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
                    self.last = Some(LastCall { seconds, size, ranks: self.ranks() });
                    let prediction = prediction(done, &results, arrangement, &exchanges, own, input);
                    self.leave_out(&faults);
                    return Ok(prediction);
                }
                Err(RankError::Transport(error)) => error,
                Err(error) => {
                    // A device that hangs may answer this call when it is asked for the next.
                    faults.retain(|fault| fault.hangs);
                    self.leave_out(&faults);
                    return Err(match error {
                        RankError::Stopped => TeamError::Stopped,
                        error => TeamError::Device(error.to_string()),
                    });
                }
            };
            // Whoever failed by itself is the cause; else whoever could not be reached.
            if faults.is_empty() {
                match unreachable(&broken, &results) {
                    Some(error) => faults.push(Fault { helper: error.rank() - 1, reason: error.to_string(), hangs: false }),
                    None => return Err(TeamError::Device(broken.to_string())),
                }
            }
            self.leave_out(&faults);
        }
    }

    /// Seconds that a call of this size should take now, as far as that is known.
    fn expected_seconds(&self, size: CallSize) -> Option<f64> {
        let of_last = |last: &LastCall| {
            let fewer = (last.ranks as f64 / self.ranks() as f64).max(1.0);
            last.seconds * size.times(last.size) * fewer
        };
        self.last.as_ref().map(of_last).or(self.expected_seconds)
    }

    /// Latents, already divided by the scaling factor, to video `[1, frames, height, width, 3]` as [`Vae::decode`] gives it, its tiles
    /// shared by whoever is free. `own` is on `device`, and this thread works on it.
    ///
    /// # Errors
    /// As [`Self::predict`].
    pub fn decode(
        &mut self,
        own: &Vae,
        device: &ComputeDevice,
        latents: &Arc<Latent>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Tensor<5>, TeamError> {
        let uploader = self.uploader.get_or_insert_with(|| Uploader::new(device)).clone();
        let [_, frames, height, width] = latents.shape;
        let places = Arc::new(own.decoding_tiles([frames, height, width]));
        let (tiles, tiles_out) = channel();
        let stopped = Arc::new(AtomicBool::new(false));
        let job = DecodeJob {
            latents: latents.clone(),
            places: places.clone(),
            next: Arc::new(AtomicUsize::new(0)),
            tiles,
            stop: stopped.clone(),
        };
        let helpers = &self.helpers[..self.active - 1];
        let begun = Instant::now();
        let asked: Vec<bool> = helpers.iter().map(|helper| helper.ask(Job::Decode(job.clone()))).collect();
        let own_stop = || {
            let stops = stop();
            stopped.fetch_or(stops, Ordering::Relaxed);
            stops
        };
        let mut found: Vec<Option<Tile>> = (0..places.len()).map(|_| None).collect();
        let own_result = catch_unwind(AssertUnwindSafe(|| job.work(own, device, &own_stop)));
        drop(job);
        // Whoever is not done works on one tile more.
        let own_tiles = match &own_result {
            Ok(Ok(tiles)) => tiles.len(),
            _ => 0,
        };
        let slowest = self.speeds.iter().copied().fold(f64::INFINITY, f64::min);
        let tile_seconds = (own_tiles > 0).then(|| begun.elapsed().as_secs_f64() / own_tiles as f64 * self.speeds[0] / slowest);
        let until = Instant::now() + self.patience.limit(tile_seconds, self.decodings == 0);
        let results = helpers.iter().zip(&asked).map(|(helper, &asked)| helper.answer(asked, begun, until));
        let faults: Vec<Fault> =
            results.enumerate().filter_map(|(helper, result)| Fault::of(helper, result.as_ref().err()?)).collect();
        self.decodings += 1;
        let own_tiles = match own_result {
            Ok(result) => result,
            Err(payload) => resume_unwind(payload),
        };
        self.leave_out(&faults);
        let failed = |error: RankError| match error {
            RankError::Stopped => TeamError::Stopped,
            other => TeamError::Device(other.to_string()),
        };
        for (number, tile) in own_tiles.map_err(failed)?.into_iter().chain(tiles_out.try_iter()) {
            found[number] = Some(tile);
        }
        if own_stop() {
            return Err(TeamError::Stopped);
        }
        let latents = latents.to_tensor(1, &device.device);
        own.assemble(latents.clone(), &mut |number| match found[number].take() {
            Some(Tile::Here(tile)) => Ok(*tile),
            Some(Tile::Bytes { bytes, shape }) => Ok(uploader.upload(bytes, shape, DType::F32)),
            // Of a device that failed.
            None => decode_tile(own, latents.clone(), &places[number], &own_stop).map_err(failed),
        })
    }

    /// Ends the threads of these helpers, and goes on without them.
    fn leave_out(&mut self, faults: &[Fault]) {
        if faults.is_empty() {
            return;
        }
        for fault in faults.iter().rev() {
            let helper = self.helpers.remove(fault.helper);
            self.lost.push(format!("{} was lost ({}); the run goes on without it", helper.device.name, fault.reason));
            if fault.hangs {
                helper.abandon();
            }
        }
        self.active = self.active.saturating_sub(faults.len()).max(1);
        self.begin_anew();
    }

    /// Deals frames, and finds the exchange of every layer. Gives whether they are others than before.
    fn plan(&mut self, own: &Transformer, input: &Input) -> bool {
        let fits = |plans: &Plans| plans.key_frames == input.key_frames && plans.rows() == input.text.rows();
        if self.plans.as_ref().is_some_and(fits) {
            return false;
        }
        let arrangement = Arrangement::new(input.latent.frames(), input.text.rows(), &self.speeds);
        let heads = own.config().num_attention_heads;
        let exchanges = exchanges(&arrangement, &input.key_frames, heads, &self.speeds);
        self.plans = Some(Plans {
            key_frames: input.key_frames.clone(),
            arrangement: Arc::new(arrangement),
            exchanges: Arc::new(exchanges),
        });
        true
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

/// A helper that must be left out.
struct Fault {
    /// Its place among them.
    helper: usize,
    reason: String,
    /// Its thread may never end.
    hangs: bool,
}

impl Fault {
    /// None where somebody else is at fault.
    fn of(helper: usize, error: &RankError) -> Option<Self> {
        let hangs = match error {
            RankError::Device(_) | RankError::Weights(_) => false,
            RankError::Hung { .. } => true,
            RankError::Transport(_) | RankError::Stopped => return None,
        };
        Some(Self { helper, reason: error.to_string(), hangs })
    }
}

/// The helper that could not be reached, as rank 0 or others found. `broken` is what rank 0 found.
fn unreachable(broken: &TransportError, results: &[Option<Result<Done, RankError>>]) -> Option<TransportError> {
    let of = |rank: usize| match results.get(rank.checked_sub(1)?)? {
        Some(Err(RankError::Transport(error))) if error.rank() > 0 => Some(error),
        _ => None,
    };
    let mut found = if broken.rank() > 0 { broken } else { (1..=results.len()).find_map(of)? };
    // Whoever says nothing, or ended early, may itself have waited for another one.
    let mut seen = vec![found.rank()];
    while let Some(next) = of(found.rank()).filter(|next| !seen.contains(&next.rank())) {
        seen.push(next.rank());
        found = next;
    }
    Some(found.clone())
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
