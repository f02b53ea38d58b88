//! The search for masks on the toy model: its errors against whole calls of the network, and searches that go on.

use std::ops::ControlFlow;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use tilereel::gpu::device::ComputeDevice;
use tilereel::gpu::kernels::reference::seeded;
use tilereel::mask::KeyFrames;
use tilereel::model::dit::{Probe, Site, TextContext, Transformer};
use tilereel::model::sampler::SamplerKind;
use tilereel::model::sampling::{Sampling, StepMasks};
use tilereel::training::search::calibration::{Calibration, State};
use tilereel::training::search::candidates::Candidates;
use tilereel::training::search::choose::{Goal, choose, choose_of_ranges};
use tilereel::training::search::measure::{Order, Row, measure, measure_ranges};

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
        self.block_output_of(time, layer, &key_frames)
    }

    fn block_output_of(&self, time: usize, layer: usize, key_frames: &[Arc<KeyFrames>]) -> Vec<Vec<f64>> {
        let mut output = Vec::new();
        let mut watch = |site, at: usize, values: Tensor<3>| {
            if site == Site::Block && at == layer {
                output = read(values);
            }
        };
        let times = [TIMES[time]; PROMPTS];
        self.transformer.forward(self.latents(time), &times, &self.text, None, key_frames, &mut Probe::new(&mut watch));
        output.chunks(output.len() / PROMPTS).map(|sample| sample.iter().map(|&value| f64::from(value)).collect()).collect()
    }

    /// Each time is a range of steps of its own.
    fn measure_ranges(&self, order: Order, known: &[Row], stop_after: usize) -> Option<Vec<Row>> {
        let all = TIMES.len() * LAYERS;
        let mut seen = |rows: &[Row]| Ok(rows.len() < stop_after || rows.len() == all);
        let ranges = self.states().into_iter().map(|state| vec![state]).collect();
        measure_ranges(&self.transformer, ranges, &self.candidates, order, known, &mut seen).expect("no failure")
    }

    /// The mean error of a mask in a layer behind the layers before with `before`, by whole calls.
    fn error(&self, layer: usize, mask: usize, before: &[usize]) -> f64 {
        self.error_at(0..TIMES.len(), layer, mask, before)
    }

    /// As [`Self::error`], at some of the times.
    fn error_at(&self, times: std::ops::Range<usize>, layer: usize, mask: usize, before: &[usize]) -> f64 {
        let with = |own: usize| {
            let mut masks = vec![self.candidates.dense(); LAYERS];
            masks[..layer].copy_from_slice(&before[..layer]);
            masks[layer] = own;
            masks
        };
        let errors = times.flat_map(|time| {
            let masked = self.block_output(time, layer, &with(mask));
            relative_errors(masked, self.block_output(time, layer, &with(self.candidates.dense())))
        });
        mean(&errors.collect::<Vec<f64>>())
    }

    /// Of all masks that are below, the dense one among them, that of the fewest tiles and then of the least error.
    fn sparsest_below(&self, threshold: f64, errors: &[f64]) -> usize {
        let tiles: Vec<u64> = self.candidates.all().iter().map(|mask| mask.mask().kept_tiles()).collect();
        let error = |mask: usize| errors.get(mask).copied().unwrap_or(0.0);
        let below = (0..tiles.len()).filter(|&mask| error(mask) < threshold);
        below.min_by(|&a, &b| tiles[a].cmp(&tiles[b]).then(error(a).total_cmp(&error(b)))).expect("the dense one")
    }
}

/// Sample by sample.
fn relative_errors(masked: Vec<Vec<f64>>, full: Vec<Vec<f64>>) -> Vec<f64> {
    let error = |(masked, full): (Vec<f64>, Vec<f64>)| {
        let difference: f64 = masked.iter().zip(&full).map(|(a, b)| (a - b).powi(2)).sum();
        difference / full.iter().map(|value| value * value).sum::<f64>()
    };
    masked.into_iter().zip(full).map(error).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
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
    let by_hand = by_force.iter().map(|losses| toy.sparsest_below(threshold, losses));
    let by_hand: Vec<usize> = by_hand.collect();
    assert!(by_hand.iter().any(|&mask| mask != by_hand[0]), "layers differ: {by_hand:?}");
    assert_eq!(choose(&losses, &toy.candidates.tiles(), Goal::Threshold(threshold)), Some(by_hand));

    let greedy = toy.measure(Order::Greedy(threshold), Vec::new(), LAYERS).expect("not stopped");
    let mut chosen = dense;
    for (layer, row) in greedy.iter().enumerate() {
        let errors: Vec<f64> = (0..toy.candidates.dense()).map(|mask| toy.error(layer, mask, &chosen)).collect();
        row.losses.iter().zip(&errors).for_each(|(&got, &want)| assert_near(got, want, &format!("greedy, layer {layer}")));
        chosen[layer] = toy.sparsest_below(threshold, &errors);
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

/// Errors of a layer in a range of steps are those of its steps alone, and the plan that of trying every mask in every range.
#[test]
fn the_plan_of_ranges_is_that_of_brute_force() {
    let toy = Toy::new();
    let dense = vec![toy.candidates.dense(); LAYERS];
    let masks = toy.candidates.dense();
    let independent = toy.measure_ranges(Order::Independent, &[], usize::MAX).expect("not stopped");
    assert_eq!(independent.len(), TIMES.len() * LAYERS);
    let by_force: Vec<Vec<f64>> = (0..TIMES.len() * LAYERS)
        .map(|place| {
            let (range, layer) = (place / LAYERS, place % LAYERS);
            (0..masks).map(|mask| toy.error_at(range..range + 1, layer, mask, &dense)).collect()
        })
        .collect();
    for (place, (row, want)) in independent.iter().zip(&by_force).enumerate() {
        row.losses.iter().zip(want).for_each(|(&got, &want)| assert_near(got, want, &format!("row {place}")));
    }
    assert!((0..LAYERS).any(|layer| by_force[layer] != by_force[LAYERS + layer]), "ranges differ");

    // The best plan within a mean time of a call, by trying all of them.
    let (costs, most) = ([1.0, 1.1, 1.5, 1.4, 2.0], 1.45 * LAYERS as f64);
    let losses: Vec<Vec<f64>> = independent.iter().map(|row| row.losses.clone()).collect();
    let chosen = choose_of_ranges(&losses, &costs, Goal::MostMillis(most), TIMES.len()).expect("a plan");
    let loss = |plan: &[usize]| -> f64 {
        plan.iter().zip(&by_force).map(|(&mask, losses)| losses.get(mask).copied().unwrap_or(0.0)).sum()
    };
    let millis = |plan: &[usize]| plan.iter().map(|&mask| costs[mask]).sum::<f64>() / TIMES.len() as f64;
    let count = by_force.len() as u32;
    let all = masks + 1;
    assert_eq!(all, costs.len());
    let plans = (0..all.pow(count)).map(|number| (0..count).map(|place| number / all.pow(place) % all).collect::<Vec<_>>());
    let best = plans.filter(|plan| millis(plan) <= most).map(|plan| loss(&plan)).fold(f64::INFINITY, f64::min);
    assert!(millis(&chosen) <= most);
    assert_near(loss(&chosen), best, "the best plan of ranges");

    // In greedy order the layers before have the masks of the same range.
    let mut of_sparsest: Vec<f64> = by_force.iter().map(|losses| losses[0]).collect();
    of_sparsest.sort_by(f64::total_cmp);
    let threshold = (of_sparsest[2] + of_sparsest[3]) / 2.0;
    let greedy = toy.measure_ranges(Order::Greedy(threshold), &[], usize::MAX).expect("not stopped");
    for (range, rows) in greedy.chunks(LAYERS).enumerate() {
        let mut chosen = dense.clone();
        for (layer, row) in rows.iter().enumerate() {
            let errors: Vec<f64> = (0..masks).map(|mask| toy.error_at(range..range + 1, layer, mask, &chosen)).collect();
            let what = format!("greedy, range {range}, layer {layer}");
            row.losses.iter().zip(&errors).for_each(|(&got, &want)| assert_near(got, want, &what));
            chosen[layer] = toy.sparsest_below(threshold, &errors);
            assert_eq!(row.fed_through, chosen[layer], "{what}");
        }
    }

    // One that was stopped anywhere goes on to the same numbers.
    for done in 1..greedy.len() {
        assert_eq!(toy.measure_ranges(Order::Greedy(threshold), &[], done), None, "stopped after {done}");
        let whole = toy.measure_ranges(Order::Greedy(threshold), &greedy[..done], usize::MAX).expect("not stopped");
        assert_eq!(whole, greedy, "after {done}");
    }
}

/// Masks of neighbours are measured as whole calls are off with what the definition keeps, and chosen where they are the best.
#[test]
fn neighbours_are_among_the_masks_that_are_tried() {
    let toy = Toy::new();
    let frames = SHAPE[1];
    let names = toy.candidates.names();
    assert_eq!(names, ["1:3", "near:1", "2:2", "near:2", "full"]);
    let measured = toy.measure(Order::Independent, Vec::new(), LAYERS).expect("not stopped");
    let losses: Vec<Vec<f64>> = measured.iter().map(|row| row.losses.clone()).collect();
    let all_frames = Arc::new(KeyFrames::dense(frames));
    let full = || vec![all_frames.clone(); LAYERS];
    for distance in [1, 2] {
        let near = (0..frames).map(|query| (0..frames).filter(move |&key| query.abs_diff(key) <= distance).map(|key| key as u32));
        let near = Arc::new(KeyFrames::of_lists(near.map(Iterator::collect)));
        let mask = names.iter().position(|name| *name == format!("near:{distance}")).expect("a candidate");
        for (layer, row) in losses.iter().enumerate() {
            let mut masked = full();
            masked[layer] = near.clone();
            let errors = (0..TIMES.len()).flat_map(|time| {
                relative_errors(toy.block_output_of(time, layer, &masked), toy.block_output_of(time, layer, &full()))
            });
            assert_near(row[mask], mean(&errors.collect::<Vec<f64>>()), &format!("near:{distance}, layer {layer}"));
        }
    }

    // The best plan of at most so many tiles, by trying all; they are counted by hand.
    let tiles = [10.0, 10.0, 14.0, 14.0, 16.0];
    assert_eq!(toy.candidates.tiles(), tiles);
    let loss =
        |plan: &[usize]| -> f64 { plan.iter().zip(&losses).map(|(&mask, row)| row.get(mask).copied().unwrap_or(0.0)).sum() };
    let count = |plan: &[usize]| plan.iter().map(|&mask| tiles[mask]).sum::<f64>();
    let all = tiles.len();
    for share in [0.65, 0.75, 0.9] {
        let most = share * (LAYERS * frames * frames) as f64;
        let plans = (0..all.pow(LAYERS as u32)).map(|number| [number % all, number / all % all, number / all / all]);
        let best = plans.filter(|plan| count(plan) <= most).map(|plan| loss(&plan)).fold(f64::INFINITY, f64::min);
        let chosen = choose(&losses, &tiles, Goal::MostTiles(share)).expect("a plan");
        assert!(count(&chosen) <= most, "{share}: {chosen:?}");
        assert_near(loss(&chosen), best, &format!("at most {share} of the tiles"));
        // As many tiles, and what reference frames alone would cost at least.
        let without = choose(&losses_of(&losses, &[0, 2]), &[10.0, 14.0, 16.0], Goal::MostTiles(share)).expect("a plan");
        let places = [0, 2, 4];
        assert!(loss(&chosen) <= loss(&without.iter().map(|&mask| places[mask]).collect::<Vec<_>>()) + 1e-12);
    }
}

/// The columns of some masks.
fn losses_of(losses: &[Vec<f64>], masks: &[usize]) -> Vec<Vec<f64>> {
    losses.iter().map(|row| masks.iter().map(|&mask| row[mask]).collect()).collect()
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
        masks: StepMasks::of(&toy::dense()),
        seed: 3,
    };
    let device = &toy.device.device;
    let calibration = Calibration { transformer: &toy.transformer, sampling: &sampling, device, times: 2, ranges: 1 };
    let texts = [&toy.text, &toy.text];
    let mut shares = Vec::new();
    let mut goes_on = |share: f64| {
        shares.push(share);
        shares.len() <= 4
    };
    let mut all = calibration.states(texts, 0, &mut goes_on).expect("no failure").expect("states");
    assert!(calibration.states(texts, 0, &mut goes_on).expect("no failure").is_none(), "it stops before a call");
    assert_eq!(shares, [0.0, 0.25, 0.5, 0.75, 0.0]);
    let in_ranges =
        Calibration { ranges: 2, ..calibration }.states(texts, 0, &mut |_| true).expect("no failure").expect("states");
    let states = all.pop().expect("one range");
    assert!(all.is_empty() && in_ranges.iter().map(Vec::len).eq([1, 1]), "each range has one of the calls");
    let again = in_ranges.into_iter().flatten().map(|state| read(state.tokens));
    assert!(again.eq(states.iter().map(|state| read(state.tokens.clone()))), "they are the same calls");
    let mut seen = Vec::new();
    let mut see = |call: usize, timestep: f32, latents: &[f32]| {
        seen.push((call, timestep, latents.to_vec()));
        ControlFlow::Continue(())
    };
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
