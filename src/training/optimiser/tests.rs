//! The optimiser against burn's own, and the step that must not happen.

use std::cell::RefCell;

use burn::module::ParamId;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamWConfig, MuonConfig, Optimizer};
use burn::tensor::{Device, Tensor, TensorData};

use super::*;
use crate::model::noise::normal;
use crate::model::weights::{Layout, PublishedParameter};

/// Two wide matrices and a tall one for Muon, a table and a bias for AdamW.
fn parameters() -> Parameters {
    let published = |name: &str, shape: &[usize], layout| PublishedParameter {
        id: ParamId::new(),
        name: name.into(),
        shape: shape.to_vec(),
        layout,
        follows_storage: true,
    };
    let linear = |name: &str, outputs, inputs| published(name, &[outputs, inputs], Layout::Linear { outputs, inputs });
    let list = vec![
        linear("a.weight", 5, 12),
        published("bias", &[7], Layout::AsPublished),
        linear("tall.weight", 12, 4),
        published("table", &[6, 3], Layout::AsPublished),
        linear("b.weight", 5, 12),
        linear("not_hidden.weight", 3, 3),
    ];
    Parameters::of(&[("net", RefCell::new(list))], &|_, parameter| (parameter.name != "not_hidden.weight").then_some(1.0))
}

const SETTINGS: OptimiserSettings = OptimiserSettings {
    learning_rate: 1e-2,
    muon_learning_rate: 3e-2,
    betas: [0.9, 0.99],
    momentum: 0.95,
    weight_decay: 0.1,
    largest_norm: 1e9,
    average_decay: 0.9,
};

/// Normal numbers where parameters lie, 0 in the gaps.
fn values(parameters: &Parameters, draw: u64) -> Tensor<1> {
    let mut vector = vec![0.0; parameters.length()];
    for slot in parameters.slots() {
        let piece = &mut vector[slot.start..slot.start + slot.published.elements()];
        piece.iter_mut().enumerate().for_each(|(place, value)| *value = normal(5, draw, (slot.start + place) as u64));
    }
    let length = vector.len();
    Tensor::from_data(TensorData::new(vector, [length]), &Device::flex())
}

fn read(x: Tensor<1>) -> Vec<f32> {
    x.try_into_vec_as().expect("readable")
}

fn assert_near(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len());
    for (place, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() < 2e-5, "{what} {place}: {got} {want}");
    }
}

#[test]
fn it_steps_as_burns_optimisers_do() {
    let parameters = parameters();
    assert_eq!(parameters.stacks().iter().map(|stack| stack.matrices()).collect::<Vec<_>>(), [1, 2]);
    let optimiser = Optimiser::new(SETTINGS, &parameters, &Device::flex());
    let mut state = OptimiserState::new(values(&parameters, 0), &parameters);
    let initial = read(state.master.clone());
    let factors = [0.5, 1.0, 0.7];
    let gradients: Vec<Tensor<1>> = (1..4).map(|draw| values(&parameters, draw)).collect();
    for (step, (gradient, factor)) in gradients.iter().zip(factors).enumerate() {
        // The loss was scaled by 8, and so is its gradient.
        (state, _) = optimiser.step(&parameters, state, gradient.clone() * 8.0, 8.0, factor, step as u64);
    }
    let got = read(state.master);
    let muon = MuonConfig::new().with_weight_decay(Some(WeightDecayConfig::new(0.1))).build();
    for slot in parameters.slots() {
        let range = slot.start..slot.start + slot.published.elements();
        let part = |x: &[f32]| x[range.clone()].to_vec();
        if slot.start < parameters.rest() {
            let [rows, columns] = slot.published.layout.matrix().expect("a matrix");
            // burn has the outputs first.
            let matrix =
                |x: Vec<f32>| Tensor::<1>::from_floats(x.as_slice(), &Device::flex()).reshape([rows, columns]).transpose();
            let (mut weight, mut kept) = (matrix(part(&initial)), None);
            for (gradient, factor) in gradients.iter().zip(factors) {
                let gradient = matrix(part(&read(gradient.clone())));
                (weight, kept) = muon.step(SETTINGS.muon_learning_rate * factor, weight, gradient, kept);
            }
            assert_near(&part(&got), &read(weight.transpose().reshape([rows * columns])), &slot.published.name);
        } else {
            let decay = if slot.published.shape.len() > 1 { 0.1 } else { 0.0 };
            let config = AdamWConfig::new().with_beta_1(0.9).with_beta_2(0.99).with_epsilon(1e-8).with_weight_decay(decay);
            let adam = config.build();
            let vector = |x: Vec<f32>| Tensor::<1>::from_floats(x.as_slice(), &Device::flex());
            let (mut weight, mut kept) = (vector(part(&initial)), None);
            for (gradient, factor) in gradients.iter().zip(factors) {
                let gradient = vector(part(&read(gradient.clone())));
                (weight, kept) = adam.step(SETTINGS.learning_rate * factor, weight, gradient, kept);
            }
            assert_near(&part(&got), &read(weight), &slot.published.name);
        }
    }
}

/// The direction of Muon's steps does not depend on how large a matrix is: one that is four times smaller and learns at a quarter
/// of the rate stays four times smaller.
#[test]
fn a_matrix_learns_with_its_share_of_the_rate() {
    const SHARE: f64 = 0.25;
    let of = |share: f64| {
        let list = ["a", "b"].map(|name| PublishedParameter {
            id: ParamId::new(),
            name: name.into(),
            shape: vec![5, 12],
            layout: Layout::Linear { outputs: 5, inputs: 12 },
            follows_storage: true,
        });
        let parameters = Parameters::of(&[("net", RefCell::new(list.to_vec()))], &|_, parameter| {
            Some(if parameter.name == "b" { share } else { 1.0 })
        });
        let optimiser = Optimiser::new(SETTINGS, &parameters, &Device::flex());
        let mut master = read(values(&parameters, 0));
        let b = parameters.slots()[1].start;
        master[b..b + 60].iter_mut().for_each(|value| *value *= share as f32);
        let length = master.len();
        let master = Tensor::from_data(TensorData::new(master, [length]), &Device::flex());
        let mut state = OptimiserState::new(master, &parameters);
        for step in 0..3 {
            (state, _) = optimiser.step(&parameters, state, values(&parameters, step + 1), 1.0, 1.0, step);
        }
        let master = read(state.master);
        [master[..60].to_vec(), master[b..b + 60].to_vec()]
    };
    let ([a, b], [a_again, b_again]) = (of(1.0), of(SHARE));
    assert_near(&a_again, &a, "a");
    assert_near(&b_again, &b.iter().map(|&value| value * SHARE as f32).collect::<Vec<_>>(), "b");
}

#[test]
fn the_average_is_that_of_its_definition() {
    let parameters = parameters();
    let optimiser = Optimiser::new(SETTINGS, &parameters, &Device::flex());
    let mut state = OptimiserState::new(values(&parameters, 0), &parameters);
    let mut want: Vec<f64> = read(state.average.clone()).into_iter().map(f64::from).collect();
    for step in 0..200u64 {
        (state, _) = optimiser.step(&parameters, state, values(&parameters, step + 1), 1.0, 1.0, step);
        let decay = f64::min(0.9, (step as f64 + 1.0) / (step as f64 + 11.0));
        let master = read(state.master.clone());
        want.iter_mut().zip(&master).for_each(|(want, &now)| *want = decay * *want + (1.0 - decay) * f64::from(now));
    }
    let want: Vec<f32> = want.into_iter().map(|value| value as f32).collect();
    assert_near(&read(state.average), &want, "average");
}

#[test]
fn large_gradients_are_scaled_down() {
    let parameters = parameters();
    let settings = OptimiserSettings { largest_norm: 0.5, ..SETTINGS };
    let optimiser = Optimiser::new(settings, &parameters, &Device::flex());
    let gradient = values(&parameters, 1);
    let norm = read(gradient.clone()).iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let start = OptimiserState::new(values(&parameters, 0), &parameters);
    let (state, numbers) = optimiser.step(&parameters, start.clone(), gradient.clone(), 1.0, 1.0, 0);
    assert!((f64::from(read(numbers.norm)[0]) - norm).abs() < 1e-3 * norm);
    let (small, _) = optimiser.step(&parameters, start, gradient * (0.5 / norm), 1.0, 1.0, 0);
    assert_near(&read(state.first), &read(small.first), "momentum");
}

#[test]
fn a_gradient_that_is_no_number_changes_nothing() {
    let parameters = parameters();
    let optimiser = Optimiser::new(SETTINGS, &parameters, &Device::flex());
    let start = OptimiserState::new(values(&parameters, 0), &parameters);
    let (start, _) = optimiser.step(&parameters, start, values(&parameters, 1), 1.0, 1.0, 0);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut gradient = read(values(&parameters, 2));
        gradient[parameters.slots()[2].start + 1] = bad;
        let gradient = Tensor::<1>::from_floats(gradient.as_slice(), &Device::flex());
        let (state, numbers) = optimiser.step(&parameters, start.clone(), gradient, 1024.0, 1.0, 1);
        assert_eq!((read(numbers.skipped), read(numbers.norm)), (vec![1.0], vec![0.0]));
        assert_eq!(read(state.master), read(start.master.clone()));
        assert_eq!(read(state.first), read(start.first.clone()));
        assert_eq!(read(state.second), read(start.second.clone()));
    }
}

/// Singular values near 1: the Gram matrix of the smaller side is near the unit matrix.
#[test]
fn orthogonal_matrices_are_nearly_so() {
    for [rows, columns] in [[6, 20], [20, 6], [8, 8]] {
        let numbers: Vec<f32> = (0..2 * rows * columns).map(|place| normal(9, 0, place as u64)).collect();
        let x = Tensor::<1>::from_floats(numbers.as_slice(), &Device::flex()).reshape([2, rows, columns]);
        let y = orthogonalise(x);
        let y = if rows > columns { y.swap_dims(1, 2) } else { y };
        let side = rows.min(columns);
        let gram = read(y.clone().matmul(y.swap_dims(1, 2)).reshape([2 * side * side]));
        let trace: f32 = (0..2 * side).map(|i| gram[i / side * side * side + i % side * (side + 1)]).sum();
        assert!((0.4..1.5).contains(&(trace / (2 * side) as f32)), "{rows}x{columns}: {trace}");
    }
}
