//! A transformer on several devices gives what it gives on one: every family of masks, odd shares, guidance, a device that fails,
//! and as many bytes as were predicted.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use burn::tensor::{Tensor, TensorData};
use tilereel::gpu::device::{self, ComputeDevice, DeviceChoice, Precision};
use tilereel::gpu::kernels::reference::{relative_l2, seeded};
use tilereel::mask::{FrameMask, MaskFamily, Mode, Neighbours, Placement};
use tilereel::model::dit::{Probe, TextContext, Transformer, TransformerConfig};
use tilereel::model::latent::Latent;
use tilereel::model::vae::{Sites, Vae, VaeConfig};
use tilereel::model::weights::{Loader, WeightSource};
use tilereel::parallel::transport::{Kind, in_process};
use tilereel::parallel::{
    Input, Load, Loaded, Message, Patience, Prediction, Tag, Team, TeamError, Text, Transport, TransportError,
};

const TEXT_TOKENS: usize = 7;
const LARGEST_ERROR_F32: f64 = 1e-5;
/// Parts of a row are stored before they are merged, so that f16 rounds once more.
const LARGEST_ERROR_F16: f64 = 2e-2;

fn folder() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/dit_tiny_a")).to_owned()
}

fn config() -> TransformerConfig {
    serde_json::from_slice(&std::fs::read(folder().join("config.json")).expect("a file")).expect("a configuration")
}

fn source() -> Arc<WeightSource> {
    Arc::new(WeightSource::open(&folder().join("diffusion_pytorch_model.safetensors")).expect("weights"))
}

fn network(device: &ComputeDevice) -> Transformer {
    Transformer::load(Loader::new(&source(), device), &config()).expect("a network")
}

fn load() -> Load {
    Arc::new(|device| Ok(Loaded { transformer: network(device), vae: None }))
}

fn cpu() -> ComputeDevice {
    device::open(&DeviceChoice::Cpu, None).expect("the CPU is always there")
}

/// A call with two rows of text, or one, and these masks.
fn input(frames: usize, rows: usize, masks: &[FrameMask], device: &ComputeDevice) -> (Arc<Input>, TextContext) {
    let config = config();
    let shape = [config.in_channels, frames, 6, 4];
    let latent = Latent { shape, values: seeded(1, shape.iter().product()) };
    let values =
        TensorData::new(seeded(2, rows * TEXT_TOKENS * config.caption_channels), [rows, TEXT_TOKENS, config.caption_channels]);
    let mask = (0..rows * TEXT_TOKENS).map(|place| if place % TEXT_TOKENS < 5 { 1.0 } else { 0.0 }).collect();
    let text = TextContext { embedding: Tensor::from_data(values, &device.device), mask };
    let key_frames: Vec<_> = masks.iter().map(|mask| Arc::new(mask.key_frames())).collect();
    let of_text = Arc::new(Text::of(&text).expect("readable"));
    (Arc::new(Input { latent, timestep: 700.0, text: of_text, key_frames }), text)
}

/// The same call on one device.
fn alone(network: &Transformer, input: &Input, text: &TextContext, device: &ComputeDevice) -> Vec<f64> {
    let rows = input.text.rows();
    let latents = input.latent.to_tensor(rows, &device.device);
    let output = network.forward(latents, &vec![input.timestep; rows], text, None, &input.key_frames, &mut Probe::default());
    let values: Vec<f32> = output.try_into_vec_as().expect("readable");
    values.into_iter().map(f64::from).collect()
}

fn equals(prediction: &Prediction, want: &[f64], largest: f64, what: &str) {
    let error = relative_l2(&prediction.values, want);
    assert!(error < largest, "{what}: {error:e}");
    assert_eq!(prediction.traffic, prediction.predicted, "{what}: bytes that were sent and predicted");
}

fn family(placement: Placement, mode: Mode, frames: usize) -> FrameMask {
    MaskFamily { placement, mode }.frame_mask(frames).expect("a mask")
}

/// Masks of every kind for so many frames.
fn masks(frames: usize) -> Vec<(String, FrameMask)> {
    let mut masks = vec![("full".to_owned(), FrameMask::full(frames).expect("a mask"))];
    for mode in [Mode::Symmetric, Mode::KvOnly] {
        for count in [0, 1, 3] {
            let placements = [Placement::StrideCeil(count), Placement::First(count), Placement::Linspace(count)];
            masks.extend(placements.map(|rule| (format!("{rule:?}, {mode:?}"), family(rule, mode, frames))));
        }
    }
    masks.push(("picked".into(), family(Placement::Listed(vec![frames - 1, 1]), Mode::Symmetric, frames)));
    masks.extend(Neighbours::MEASURED.map(|near| (near.name(), near.frame_mask(frames).expect("a mask"))));
    // Neighbours, and one frame that sees what nobody else does but not itself.
    let band = (0..frames * frames).map(|place| match (place / frames, place % frames) {
        (0, key) => key + 2 > frames,
        (query, key) => query.abs_diff(key) <= 1,
    });
    masks.push(("painted".into(), FrameMask::new(frames, band.collect()).expect("a mask")));
    masks
}

#[test]
fn every_mask_gives_on_several_ranks_what_it_gives_on_one() {
    let device = cpu();
    let network = network(&device);
    for ranks in [2, 3, 4] {
        let mut team = Team::start(&vec![device.clone(); ranks - 1], &load()).expect("a team");
        for frames in [5, 8] {
            for (name, mask) in masks(frames) {
                let (input, text) = input(frames, 1, &vec![mask; 3], &device);
                let prediction = team.predict(&network, &device, &input, &|| false).expect("a prediction");
                let what = format!("{name}, {frames} frames on {ranks} ranks");
                equals(&prediction, &alone(&network, &input, &text, &device), LARGEST_ERROR_F32, &what);
                let exchanges = prediction.traffic.iter().any(|layer| layer.sent > 0);
                assert_eq!(exchanges, !name.contains("(0)"), "{what}");
            }
        }
    }
}

/// Layers that differ, so that the frames that come first change from layer to layer.
#[test]
fn plans_of_unlike_layers_and_shares_agree_too() {
    let device = cpu();
    let network = network(&device);
    let frames = 7;
    let masks = [
        family(Placement::StrideCeil(3), Mode::Symmetric, frames),
        FrameMask::full(frames).expect("a mask"),
        family(Placement::Listed(vec![2, 6]), Mode::Symmetric, frames),
        Neighbours { distance: 1 }.frame_mask(frames).expect("a mask"),
    ];
    for order in [[0, 1, 2], [1, 0, 2], [2, 2, 1], [3, 1, 3], [0, 3, 2]] {
        let masks: Vec<_> = order.iter().map(|&mask| masks[mask].clone()).collect();
        let (input, text) = input(frames, 1, &masks, &device);
        let want = alone(&network, &input, &text, &device);
        for speeds in [vec![1.0, 2.5], vec![1.0, 1.0, 0.3], vec![4.0, 1.0, 1.0, 1.0]] {
            let team = Team::start(&vec![device.clone(); speeds.len() - 1], &load()).expect("a team");
            let mut team = team.with_speeds(speeds.clone());
            let prediction = team.predict(&network, &device, &input, &|| false).expect("a prediction");
            equals(&prediction, &want, LARGEST_ERROR_F32, &format!("layers {order:?}, speeds {speeds:?}"));
        }
    }
}

#[test]
fn guidance_goes_to_halves_of_the_ranks() {
    let device = cpu();
    let network = network(&device);
    let mask = family(Placement::StrideCeil(2), Mode::Symmetric, 5);
    let (input, text) = input(5, 2, &vec![mask; 3], &device);
    let want = alone(&network, &input, &text, &device);
    for ranks in [1, 2, 3, 4] {
        let mut team = Team::start(&vec![device.clone(); ranks - 1], &load()).expect("a team");
        let prediction = team.predict(&network, &device, &input, &|| false).expect("a prediction");
        equals(&prediction, &want, LARGEST_ERROR_F32, &format!("two rows on {ranks} ranks"));
        let halves = prediction.arrangement.groups.len();
        assert_eq!(halves, if ranks % 2 == 0 { 2 } else { 1 }, "{ranks} ranks");
        if ranks == 2 {
            assert!(prediction.traffic.iter().all(|layer| layer.sent == 0), "the halves exchange nothing");
        }
    }
}

#[test]
fn fewer_frames_than_ranks_leave_some_idle() {
    let device = cpu();
    let network = network(&device);
    let (input, text) = input(2, 1, &vec![FrameMask::full(2).expect("a mask"); 3], &device);
    let mut team = Team::start(&vec![device.clone(); 3], &load()).expect("a team");
    // In the second call times are taken.
    for _ in 0..3 {
        let prediction = team.predict(&network, &device, &input, &|| false).expect("a prediction");
        equals(&prediction, &alone(&network, &input, &text, &device), LARGEST_ERROR_F32, "two frames on four ranks");
    }
}

/// A way to move bytes that fails once: at the n-th message that a rank sends.
struct Failing {
    inner: Box<dyn Transport>,
    left: Arc<AtomicUsize>,
}

impl Transport for Failing {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn ranks(&self) -> usize {
        self.inner.ranks()
    }

    fn send(&self, to: usize, tag: Tag, message: Message) -> Result<(), TransportError> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // As a device's library does when its device is gone.
            panic!("the device is gone");
        }
        self.inner.send(to, tag, message)
    }

    fn receive(&self, from: usize, tag: Tag, within: Duration) -> Result<Message, TransportError> {
        self.inner.receive(from, tag, within)
    }
}

#[test]
fn the_call_is_made_again_without_a_device_that_fails() {
    let device = cpu();
    let network = network(&device);
    let mask = family(Placement::StrideCeil(3), Mode::Symmetric, 8);
    let (input, text) = input(8, 1, &vec![mask; 3], &device);
    let want = alone(&network, &input, &text, &device);
    for message in [1, 3, 6] {
        let left = Arc::new(AtomicUsize::new(message));
        let connect = {
            let left = left.clone();
            move |ranks| {
                let wrap = |inner: Box<dyn Transport>| -> Box<dyn Transport> {
                    if inner.rank() == 1 { Box::new(Failing { inner, left: left.clone() }) } else { inner }
                };
                in_process(ranks).into_iter().map(wrap).collect()
            }
        };
        let team = Team::start(&vec![device.clone(); 2], &load()).expect("a team");
        let mut team = team.connected_by(Box::new(connect));
        let prediction = team.predict(&network, &device, &input, &|| false).expect("a prediction");
        equals(&prediction, &want, LARGEST_ERROR_F32, "with the rest");
        assert_eq!(team.ranks(), 2);
        let lost = team.take_lost();
        assert!(lost.len() == 1 && lost[0].contains("the device is gone"), "{lost:?}");
        // The rest is a team as before.
        let prediction = team.predict(&network, &device, &input, &|| false).expect("a prediction");
        equals(&prediction, &want, LARGEST_ERROR_F32, "the call after");
        assert!(team.take_lost().is_empty());
    }
}

/// How a rank that can no longer be reached behaves.
#[derive(Clone, Copy, Debug)]
enum Silence {
    /// Its thread hangs, as with a driver that does.
    Hangs,
    /// Its thread goes on, but nothing that it sends arrives.
    IsNotHeard,
}

/// A rank that is silent from its n-th message on.
struct Silent {
    inner: Box<dyn Transport>,
    silence: Silence,
    left: Arc<AtomicUsize>,
    /// Closed when the test ends.
    until: Arc<Mutex<Receiver<()>>>,
}

impl Transport for Silent {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn ranks(&self) -> usize {
        self.inner.ranks()
    }

    fn send(&self, to: usize, tag: Tag, message: Message) -> Result<(), TransportError> {
        let is_silent = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err();
        match self.silence {
            _ if !is_silent => self.inner.send(to, tag, message),
            Silence::IsNotHeard => Ok(()),
            Silence::Hangs => {
                let _ = self.until.lock().expect("not poisoned").recv();
                Err(TransportError::Closed { rank: to })
            }
        }
    }

    fn receive(&self, from: usize, tag: Tag, within: Duration) -> Result<Message, TransportError> {
        self.inner.receive(from, tag, within)
    }
}

#[test]
fn the_call_is_made_again_without_a_device_that_says_nothing() {
    let limit = Duration::from_secs(3);
    let patience = Patience { calls: 20, least: limit, least_first: limit, most: limit };
    let device = cpu();
    let network = network(&device);
    // Everybody waits for everybody.
    let (input, text) = input(8, 1, &vec![FrameMask::full(8).expect("a mask"); 3], &device);
    let want = alone(&network, &input, &text, &device);
    // Of three that wait for each other nobody could say whose words were lost, but whose thread hangs is plain.
    for (silence, ranks_before, places) in
        [(Silence::Hangs, 3, &[(1, 0), (2, 5)][..]), (Silence::IsNotHeard, 2, &[(1, 0), (1, 3)])]
    {
        for &(silent, message) in places {
            let (end, until) = channel::<()>();
            let (until, left) = (Arc::new(Mutex::new(until)), Arc::new(AtomicUsize::new(message)));
            let connect = move |ranks| {
                let wrap = |inner: Box<dyn Transport>| -> Box<dyn Transport> {
                    match inner.rank() == silent && ranks == ranks_before {
                        true => Box::new(Silent { inner, silence, left: left.clone(), until: until.clone() }),
                        false => inner,
                    }
                };
                in_process(ranks).into_iter().map(wrap).collect()
            };
            let names = ["first helper", "second helper"].map(str::to_owned);
            let helpers: Vec<_> =
                names[..ranks_before - 1].iter().map(|name| ComputeDevice { name: name.clone(), ..device.clone() }).collect();
            let team = Team::start(&helpers, &load()).expect("a team");
            let mut team = team.connected_by(Box::new(connect)).with_patience(patience);
            let what = format!("rank {silent} {silence:?} from message {message} on");
            let begun = Instant::now();
            let prediction = team.predict(&network, &device, &input, &|| false).expect("a prediction");
            assert!(begun.elapsed() >= limit, "{what}: it was waited for");
            equals(&prediction, &want, LARGEST_ERROR_F32, &what);
            assert_eq!(team.ranks(), ranks_before - 1, "{what}");
            let lost = team.take_lost();
            assert!(lost.len() == 1 && lost[0].starts_with(&names[silent - 1]), "{what}: {lost:?}");
            let why = match silence {
                Silence::Hangs => &["has not answered"][..],
                // It gives the others up as they do it.
                Silence::IsNotHeard => &["has said nothing", "ended early"],
            };
            assert!(why.iter().any(|why| lost[0].contains(why)), "{what}: {lost:?}");
            // What it says later disturbs nobody.
            drop(end);
            let prediction = team.predict(&network, &device, &input, &|| false).expect("a prediction");
            equals(&prediction, &want, LARGEST_ERROR_F32, &what);
            assert!(team.take_lost().is_empty(), "{what}");
        }
    }
}

#[test]
fn a_run_that_is_stopped_ends_on_every_rank() {
    let device = cpu();
    let network = network(&device);
    let (input, text) = input(4, 1, &vec![FrameMask::full(4).expect("a mask"); 3], &device);
    let mut team = Team::start(&vec![device.clone(); 2], &load()).expect("a team");
    let asked = AtomicUsize::new(0);
    let stop = || asked.fetch_add(1, Ordering::Relaxed) == 1;
    assert!(matches!(team.predict(&network, &device, &input, &stop), Err(TeamError::Stopped)));
    let prediction = team.predict(&network, &device, &input, &|| false).expect("a prediction");
    equals(&prediction, &alone(&network, &input, &text, &device), LARGEST_ERROR_F32, "after a stop");
    assert!(team.take_lost().is_empty());
}

#[test]
fn a_device_that_cannot_load_says_so() {
    let load: Load = Arc::new(|_| Err("there is no room".into()));
    let error = Team::start(&[cpu()], &load).err().expect("no team").to_string();
    assert!(error.contains("there is no room"), "{error}");
}

/// Streamed layers, of which two are needed at once.
#[test]
fn streamed_layers_are_shared_too() {
    let device = cpu();
    let streamed = |device: &ComputeDevice| Transformer::load_streamed(&source(), device, &config()).expect("a network");
    let load: Load = Arc::new(move |device| Ok(Loaded { transformer: streamed(device), vae: None }));
    let (own, resident) = (streamed(&device), network(&device));
    let (input, text) = input(5, 1, &vec![family(Placement::StrideCeil(2), Mode::Symmetric, 5); 3], &device);
    let mut team = Team::start(std::slice::from_ref(&device), &load).expect("a team");
    let prediction = team.predict(&own, &device, &input, &|| false).expect("a prediction");
    equals(&prediction, &alone(&resident, &input, &text, &device), LARGEST_ERROR_F32, "streamed");
}

/// Tiles along time and along width, blended where they overlap.
#[test]
fn tiles_that_several_ranks_decode_are_those_of_one() {
    let device = cpu();
    let folder = folder().with_file_name("vae_tiny_a");
    let config: VaeConfig =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).expect("a file")).expect("a configuration");
    let vae = move |device: &ComputeDevice| {
        let source = WeightSource::open(&folder.join("diffusion_pytorch_model.safetensors")).expect("weights");
        Vae::load(Loader::new(&source, device), &config).expect("a VAE")
    };
    let own = vae(&device);
    let shape = [4, 9, 2, 66];
    assert_eq!(own.decoding_tiles([9, 2, 66]).len(), 4);
    let latents = Arc::new(Latent { shape, values: seeded(5, shape.iter().product()) });
    let alone = own.decode(latents.to_tensor(1, &device.device), Some(own.tiling()), &mut Sites::default());
    let alone: Vec<f32> = alone.expect("not stopped").try_into_vec_as().expect("readable");
    let load: Load = Arc::new(move |device| Ok(Loaded { transformer: network(device), vae: Some(vae(device)) }));
    let mut team = Team::start(&vec![device.clone(); 2], &load).expect("a team");
    for _ in 0..2 {
        let video = team.decode(&own, &device, &latents, &|| false).expect("a video");
        assert!(video.try_into_vec_as::<f32>().expect("readable") == alone, "the same bits");
    }
    assert!(matches!(team.decode(&own, &device, &latents, &|| true), Err(TeamError::Stopped)));
    // Without a VAE of its own a helper cannot take part, and is left out.
    let mut team = Team::start(&vec![device.clone(); 2], &self::load()).expect("a team");
    let video = team.decode(&own, &device, &latents, &|| false).expect("a video");
    assert!(video.try_into_vec_as::<f32>().expect("readable") == alone);
    assert_eq!((team.ranks(), team.take_lost().len()), (1, 2));
}

/// Two devices of the first adapter, which need not know of each other.
#[test]
fn two_adapters_agree_with_one() {
    let Some(adapter) = device::adapters().into_iter().next() else {
        println!("skipped: there is no adapter");
        return;
    };
    for (precision, largest) in [(Precision::F32, LARGEST_ERROR_F32), (Precision::F16, LARGEST_ERROR_F16)] {
        if precision == Precision::F16 && !adapter.half_floats {
            continue;
        }
        let choice = DeviceChoice::Index(adapter.index);
        let first = device::open(&DeviceChoice::Several(vec![choice.clone(), choice]), Some(precision)).expect("two devices");
        assert_eq!(first.others.len(), 1);
        assert_ne!(first.others[0].device, first.device, "two devices, not one twice");
        let network = network(&first);
        let mut team = Team::start(&first.others, &load()).expect("a team");
        for (name, mask) in masks(5).into_iter().filter(|(name, _)| !name.contains("Linspace") && !name.contains("First")) {
            let (input, text) = input(5, 1, &vec![mask; 3], &first);
            let prediction = team.predict(&network, &first, &input, &|| false).expect("a prediction");
            equals(&prediction, &alone(&network, &input, &text, &first), largest, &format!("{name} in {precision}"));
        }
    }
}

#[test]
fn messages_are_told_apart_by_what_they_are() {
    let ends = in_process(2);
    let tag = |kind| Tag { row: 0, layer: 0, kind };
    ends[0].send(1, tag(Kind::Heads(1)), Message::new([])).expect("sent");
    ends[0].send(1, tag(Kind::Heads(0)), Message::new([])).expect("sent");
    let receives = |kind| ends[1].receive(0, tag(kind), Duration::from_secs(10)).is_ok();
    assert!(receives(Kind::Heads(0)) && receives(Kind::Heads(1)));
}
