//! The search for masks on the toy model: its errors against whole calls of the network, and searches that go on.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use tilereel::gpu::device::ComputeDevice;
use tilereel::gpu::kernels::reference::seeded;
use tilereel::mask::KeyFrames;
use tilereel::model::dit::{Probe, Site, TextContext, Transformer};
use tilereel::model::sampler::SamplerKind;
use tilereel::model::sampling::Sampling;
use tilereel::training::search::calibration::{Calibration, State};
use tilereel::training::search::candidates::Candidates;
use tilereel::training::search::choose::{Goal, choose};
use tilereel::training::search::measure::{Order, Row, measure};

use super::cpu;
use super::toy::{self, LAYERS, SHAPE, TOKENS, read};

const TIMES: [f32; 2] = [700.0, 150.0];
const PROMPTS: usize = 2;

struct Toy {
    device: ComputeDevice,
    transformer: Transformer,
    candidates: Candidates,
    text: TextContext,
}

impl Toy {
    fn new() -> Self {
        let (device, folder) = (cpu(), tempfile::tempdir().expect("a folder"));
        let template = toy::template(&toy::model(folder.path()));
        let transformer = toy::transformer(&template.transformer_weights().expect("weights"), &toy::config(&template), &device);
        let text = TensorData::new(seeded(5, PROMPTS * TOKENS * 32), [PROMPTS, TOKENS, 32]);
        let text = TextContext { embedding: Tensor::from_data(text, &device.device), mask: vec![1.0; PROMPTS * TOKENS] };
        Self { candidates: Candidates::standard(SHAPE[1]).expect("masks"), device, transformer, text }
    }

    fn latents(&self, time: usize) -> Tensor<5> {
        let [channels, frames, height, width] = SHAPE;
        let values = seeded(10 + time as u64, PROMPTS * SHAPE.iter().product::<usize>());
        Tensor::from_data(TensorData::new(values, [PROMPTS, channels, frames, height, width]), &self.device.device)
    }

    fn states(&self) -> Vec<State> {
        let state = |(time, &timestep): (usize, &f32)| {
            let call = self.transformer.begin(self.latents(time), &[timestep; PROMPTS], &self.text, None, &mut Probe::default());
            State { tokens: call.tokens.clone(), call }
        };
        TIMES.iter().enumerate().map(state).collect()
    }

    fn measure(&self, order: Order, known: Vec<Row>, stop_after: usize) -> Option<Vec<Row>> {
        let mut seen = |rows: &[Row]| Ok(rows.len() < stop_after || rows.len() == LAYERS);
        measure(&self.transformer, &mut self.states(), &self.candidates, order, known, &mut seen).expect("no failure")
    }

    /// The output of a block in a whole call with these masks, sample by sample.
    fn block_output(&self, time: usize, layer: usize, masks: &[usize]) -> Vec<Vec<f64>> {
        let key_frames: Vec<Arc<KeyFrames>> =
            masks.iter().map(|&mask| Arc::new(self.candidates.all()[mask].mask().key_frames())).collect();
        let mut output = Vec::new();
        let mut watch = |site, at: usize, values: Tensor<3>| {
            if site == Site::Block && at == layer {
                output = read(values);
            }
        };
        let times = [TIMES[time]; PROMPTS];
        self.transformer.forward(self.latents(time), &times, &self.text, None, &key_frames, &mut Probe::new(&mut watch));
        output.chunks(output.len() / PROMPTS).map(|sample| sample.iter().map(|&value| f64::from(value)).collect()).collect()
    }

    /// The mean error of a mask in a layer behind the layers before with `before`, by whole calls.
    fn error(&self, layer: usize, mask: usize, before: &[usize]) -> f64 {
        let with = |own: usize| {
            let mut masks = vec![self.candidates.dense(); LAYERS];
            masks[..layer].copy_from_slice(&before[..layer]);
            masks[layer] = own;
            masks
        };
        let errors = (0..TIMES.len()).flat_map(|time| {
            let masked = self.block_output(time, layer, &with(mask));
            let full = self.block_output(time, layer, &with(self.candidates.dense()));
            masked.into_iter().zip(full).map(|(masked, full)| {
                let difference: f64 = masked.iter().zip(&full).map(|(a, b)| (a - b).powi(2)).sum();
                difference / full.iter().map(|value| value * value).sum::<f64>()
            })
        });
        let errors: Vec<f64> = errors.collect();
        errors.iter().sum::<f64>() / errors.len() as f64
    }
}

fn assert_near(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= 1e-4 * want, "{what}: {got} {want}");
}

/// Errors, and so plans, are those of trying every mask in whole calls of the network.
#[test]
fn the_plan_is_that_of_brute_force() {
    let toy = Toy::new();
    let dense = vec![toy.candidates.dense(); LAYERS];
    let independent = toy.measure(Order::Independent, Vec::new(), LAYERS).expect("not stopped");
    let mut by_force = vec![vec![0.0; toy.candidates.dense()]; LAYERS];
    for (layer, row) in independent.iter().enumerate() {
        for (mask, &loss) in row.losses.iter().enumerate() {
            by_force[layer][mask] = toy.error(layer, mask, &dense);
            assert!(loss > 0.0, "a mask that changes something");
            assert_near(loss, by_force[layer][mask], &format!("layer {layer}, mask {mask}"));
        }
    }
    // A threshold between the errors of the sparsest mask, so that layers differ.
    let mut of_sparsest: Vec<f64> = by_force.iter().map(|losses| losses[0]).collect();
    of_sparsest.sort_by(f64::total_cmp);
    let threshold = (of_sparsest[0] + of_sparsest[1]) / 2.0;
    let losses: Vec<Vec<f64>> = independent.iter().map(|row| row.losses.clone()).collect();
    let by_hand = by_force.iter().map(|losses| (0..losses.len()).find(|&mask| losses[mask] < threshold).unwrap_or(losses.len()));
    let by_hand: Vec<usize> = by_hand.collect();
    assert!(by_hand.iter().any(|&mask| mask != by_hand[0]), "layers differ: {by_hand:?}");
    assert_eq!(choose(&losses, &[1.0; 3], Goal::Threshold(threshold)), Some(by_hand));

    let greedy = toy.measure(Order::Greedy(threshold), Vec::new(), LAYERS).expect("not stopped");
    let mut chosen = dense;
    for (layer, row) in greedy.iter().enumerate() {
        let errors: Vec<f64> = (0..toy.candidates.dense()).map(|mask| toy.error(layer, mask, &chosen)).collect();
        row.losses.iter().zip(&errors).for_each(|(&got, &want)| assert_near(got, want, &format!("greedy, layer {layer}")));
        chosen[layer] = errors.iter().position(|&error| error < threshold).unwrap_or(errors.len());
        assert_eq!(row.fed_through, chosen[layer]);
    }
    assert!(greedy.iter().zip(&independent).any(|(greedy, independent)| greedy.losses != independent.losses), "orders differ");
}

#[test]
fn a_search_that_was_stopped_goes_on_to_the_same_numbers() {
    let toy = Toy::new();
    let order = Order::Greedy(0.05);
    let whole = toy.measure(order, Vec::new(), LAYERS).expect("not stopped");
    for done in 1..LAYERS {
        assert_eq!(toy.measure(order, Vec::new(), done), None, "stopped after {done}");
        assert_eq!(toy.measure(order, whole[..done].to_vec(), LAYERS).expect("not stopped"), whole, "after {done}");
    }
}

/// The calls that are looked at are those of the sampler, at its latents.
#[test]
fn latents_are_those_on_the_models_way() {
    let toy = Toy::new();
    let sampling = Sampling {
        sampler: SamplerKind::DdimTrailing,
        steps: 4,
        guidance_scale: 1.0,
        shape: SHAPE,
        key_frames: toy::masks(&toy::dense()),
        seed: 3,
    };
    let calibration = Calibration { transformer: &toy.transformer, sampling: &sampling, device: &toy.device.device, times: 2 };
    let states = calibration.states(&toy.text, &toy.text, 0).expect("states");
    let mut seen = Vec::new();
    let mut see = |call: usize, timestep: f32, latents: &[f32]| seen.push((call, timestep, latents.to_vec()));
    sampling.run_seen(&toy.transformer, [&toy.text, &toy.text], 0, &toy.device.device, &mut see).expect("a clip");
    assert_eq!(
        seen.iter().map(|(call, time, _)| (*call, *time)).collect::<Vec<_>>(),
        [(0, 999.0), (1, 749.0), (2, 499.0), (3, 249.0)]
    );
    assert_eq!(states.len(), 2);
    let [channels, frames, height, width] = SHAPE;
    for (state, place) in states.into_iter().zip([0, 2]) {
        let (_, time, latents) = &seen[place];
        let latents = TensorData::new(latents.clone(), [PROMPTS, channels, frames, height, width]);
        let latents = Tensor::<5>::from_data(latents, &toy.device.device);
        let call = toy.transformer.begin(latents, &[*time; PROMPTS], &toy.text, None, &mut Probe::default());
        assert_eq!(read(state.tokens), read(call.tokens));
    }
}
